"""Whatever stops a run, the model and the checkpoint are those of the last whole step; and a run goes on from there."""

import math
from dataclasses import replace

import pytest
import torch

from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.text.batches import Batch, ragged, random_windows
from arlab.training.loop import fit, train

CONFIG = DecoderConfig.gpt2(vocab_size=11, context_length=8, d_model=16, layers=2, heads=2)
IDS = torch.randint(11, (400,), generator=torch.Generator().manual_seed(1))


def some_batches(rows=4, seed=0):
    return random_windows(IDS, 8, rows, torch.Generator().manual_seed(seed))


def state(model):
    """Weights and buffers, copied."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(left, right):
    return all(torch.equal(left[name], right[name]) for name in left)


def interrupt_at(model, passes):
    """Ctrl-C in the middle of a forward pass, behind dropout and norms."""
    seen = []

    def hook(*_):
        seen.append(1)
        if len(seen) == passes:
            raise KeyboardInterrupt

    model.blocks[-1].ffn.register_forward_hook(hook)


def test_stopped_by_hand_it_keeps_what_it_has(capsys, tmp_path):
    def interrupted():
        for number, batch in enumerate(some_batches()):
            if number == 3:
                raise KeyboardInterrupt
            yield batch

    model, path = DecoderLM(CONFIG, seed=0), tmp_path / "run.safetensors"
    before = state(model)
    steps = fit(model, interrupted(), steps=10, checkpoint=path)
    assert len(steps) == 3 and "stopped by hand after step 3" in capsys.readouterr().out
    assert not same(state(model), before)
    again = fit(DecoderLM(CONFIG, seed=0), some_batches(), steps=10, checkpoint=path, resume=True)
    assert again[0].step == 4


def test_a_caller_who_breaks_off_leaves_a_checkpoint(tmp_path):
    path = tmp_path / "run.safetensors"
    steps = train(DecoderLM(CONFIG, seed=0), some_batches(), steps=10, checkpoint=path)
    for step in steps:
        if step.step == 2:
            break
    steps.close()
    assert fit(DecoderLM(CONFIG, seed=0), some_batches(), steps=10, checkpoint=path, resume=True)[0].step == 3


@pytest.mark.parametrize("changes", [{"dropout": 0.3}, {"norm": "batch"}])
def test_interrupted_inside_a_pass_it_is_the_model_of_the_step_before(changes, tmp_path):
    """Half a pass has drawn its dropout and moved BatchNorm's averages: resumed, the run must not notice."""
    config, path = replace(CONFIG, **changes), tmp_path / "run.safetensors"
    settings = {"steps": 6, "lr": 1e-2, "accumulate": 2}
    torch.manual_seed(0)
    whole = DecoderLM(config, seed=0)
    expected = fit(whole, some_batches(), **settings)
    torch.manual_seed(0)
    model, kept = DecoderLM(config, seed=0), []
    interrupt_at(model, 8)  # step 4, the second of its two batches
    with pytest.raises(KeyboardInterrupt):
        for _ in train(model, some_batches(), checkpoint=path, **settings):
            kept.append(state(model))
    assert len(kept) == 3 and same(state(model), kept[-1])
    assert not any(module.training for module in model.modules())
    torch.manual_seed(99)  # another session
    again = DecoderLM(config, seed=1)
    rest = fit(again, some_batches(), checkpoint=path, resume=True, **settings)
    assert [s.loss for s in rest] == [s.loss for s in expected[3:]]
    assert same(state(again), state(whole))


def test_nan_gets_into_no_average_either():
    model = DecoderLM(replace(CONFIG, norm="batch"), seed=0)
    with pytest.raises(FloatingPointError):
        for step in train(model, some_batches(), steps=5):
            kept = state(model)
            if step.step == 2:
                model.embed_tokens.register_forward_hook(lambda module, inputs, output: output * math.nan)
    assert same(state(model), kept) and all(tensor.isfinite().all() for tensor in kept.values())


@pytest.mark.parametrize("fault", ["target", "file"])
def test_a_wrong_batch_late_in_a_run_loses_nothing(fault, tmp_path):
    def spoiled():
        for number, (inputs, targets) in enumerate(some_batches(), start=1):
            if number == 4 and fault == "file":
                raise OSError("the share with the texts has gone")
            yield Batch(inputs, targets + 11 if number == 4 else targets)

    path = tmp_path / "run.safetensors"
    with pytest.raises((ValueError, OSError), match="targets must lie between 0 and 10|has gone"):
        fit(DecoderLM(CONFIG, seed=0), spoiled(), steps=9, checkpoint=path)
    assert fit(DecoderLM(CONFIG), some_batches(), steps=9, checkpoint=path, resume=True)[0].step == 4


def test_interrupted_while_it_evaluates_the_step_is_kept(tmp_path):
    model, path, held_out = DecoderLM(CONFIG, seed=0), tmp_path / "run.safetensors", [next(some_batches(seed=9))]
    interrupt_at(model, 4)  # after three steps their evaluation
    records = fit(model, some_batches(), steps=9, checkpoint=path, validation=held_out, evaluate_every=3)
    assert len(records) == 2
    assert fit(DecoderLM(CONFIG), some_batches(), steps=9, checkpoint=path, resume=True)[0].step == 4


@pytest.mark.parametrize("kind", ["windows", "ragged"])
def test_a_stream_that_draws_from_torchs_own_state_goes_on_too(kind, tmp_path):
    """No generator given: windows, or the shuffling of epochs, come from the state that dropout draws from too."""
    config, path = replace(CONFIG, dropout=0.2), tmp_path / "run.safetensors"

    def run(**settings):
        torch.manual_seed(3)
        model = DecoderLM(config, seed=0)
        sequences = [IDS[n : n + 2 + n % 7] for n in range(10)]  # an epoch is three batches
        stream = random_windows(IDS, 8, 4) if kind == "windows" else ragged(sequences, 4, pad_id=0)
        return train(model, stream, steps=8, lr=1e-2, **settings)

    expected = list(run())
    steps = run(checkpoint=path)
    begun = [next(steps) for _ in range(4)]
    steps.close()
    rest = list(run(checkpoint=path, resume=True))
    assert [s.loss for s in begun + rest] == [s.loss for s in expected]


def test_resumed_with_another_accumulate_it_skips_the_batches_that_were_taken(tmp_path):
    path, seen = tmp_path / "run.safetensors", []
    fit(DecoderLM(CONFIG, seed=0), some_batches(), steps=6, checkpoint=path)

    def watched():
        for number, batch in enumerate(some_batches(), start=1):
            seen.append(number)
            yield batch

    assert len(fit(DecoderLM(CONFIG), watched(), steps=8, accumulate=3, checkpoint=path, resume=True)) == 2
    assert seen == list(range(1, 13))  # six skipped, and two threes


def test_a_finished_run_resumed_has_nothing_to_do_but_has_its_model(tmp_path):
    model, path = DecoderLM(CONFIG, seed=0), tmp_path / "run.safetensors"
    fit(model, some_batches(), steps=3, checkpoint=path)
    before, again = path.stat().st_mtime_ns, DecoderLM(CONFIG, seed=1)
    assert fit(again, some_batches(), steps=3, checkpoint=path, resume=True) == []
    assert same(state(again), state(model)) and path.stat().st_mtime_ns == before


def test_what_was_frozen_stays_and_may_be_thawed_on_resuming(tmp_path):
    model, path = DecoderLM(CONFIG, seed=0), tmp_path / "run.safetensors"
    model.blocks[0].requires_grad_(False)
    fit(model, some_batches(), steps=2, checkpoint=path)
    again = DecoderLM(CONFIG, seed=1)
    fit(again, some_batches(), steps=4, lr=1e-2, checkpoint=path, resume=True)
    changed = {name for name, tensor in again.state_dict().items() if not torch.equal(tensor, state(model)[name])}
    assert any(name.startswith("blocks.0") for name in changed)
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter to train"):
        fit(model, some_batches(), steps=2)


def test_stopped_before_any_step_it_says_so_and_writes_nothing(capsys, tmp_path):
    """A file of an earlier run, which this one would have replaced in time, is still there."""
    path = tmp_path / "run.safetensors"
    fit(DecoderLM(CONFIG, seed=0), some_batches(), steps=2, checkpoint=path)
    former, model = path.read_bytes(), DecoderLM(CONFIG, seed=0)
    interrupt_at(model, 1)
    assert fit(model, some_batches(), steps=3, checkpoint=path) == []
    assert "stopped by hand before the first step" in capsys.readouterr().out
    assert path.read_bytes() == former
