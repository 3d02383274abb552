"""Steps: what an iterator of them carries, keeps, and leaves behind in whoever reads it."""

import gc
import math

import pytest
import torch

from arlab.decoding import Temperature, TopK, TopP, greedy, greedy_steps, sample, sample_steps
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.worlds import TreeLM, beam_trap

SIZES = {"vocab_size": 17, "context_length": 40, "d_model": 16, "layers": 2, "heads": 4}
CONFIGS = {"gpt2": DecoderConfig.gpt2(**SIZES), "llama": DecoderConfig.llama(**SIZES, kv_heads=2)}
INF = math.inf


def built(config):
    model = DecoderLM(config, seed=0).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    return model


MODELS = {name: built(config) for name, config in CONFIGS.items()}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- the iterator


@every_model
def test_steps_carry_what_was_done(model):
    filters = [Temperature(0.5), TopK(4), TopP(0.8)]
    text, steps = [3, 1, 4], []
    for step in sample_steps(model, text, max_new_tokens=5, filters=filters, generator=seeded(3)):
        expected = model(torch.tensor([text]))[:, -1]
        torch.testing.assert_close(step.logits, expected.detach(), rtol=0, atol=1e-10)
        logits = step.logits
        assert [filter_ for filter_, _ in step.stages] == filters
        for filter_, after in step.stages:
            logits = filter_(logits)
            assert torch.equal(after, logits)
        assert torch.equal(step.filtered, logits) and torch.equal(step.kept, logits > -INF)
        assert step.kept[0, step.chosen[0]] and 1 <= step.kept.sum() <= 4
        text = [*text, int(step.chosen[0])]
        steps.append(step.index)
    assert steps == [0, 1, 2, 3, 4]
    plain = next(greedy_steps(model, [1], max_new_tokens=1))
    assert plain.stages == () and plain.filtered is plain.logits and not plain.finished.any()


def test_filters_given_as_an_iterator_serve_every_step(as_shipped):
    """map(...) and generator expressions are used up after one pass: the second token must not go unfiltered."""
    tree = TreeLM({}, max_length=50, default=[0.25] * 4)
    drawn = sample(tree, [], max_new_tokens=50, filters=(f for f in [TopK(1)]), generator=seeded())
    assert drawn.tokens() == [0] * 50


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("decode", [greedy_steps, sample_steps])
def test_the_consumers_grad_mode_is_its_own(decode, grad):
    """A `with torch.no_grad()` held across a yield would switch gradients off in whoever reads the steps."""
    model = MODELS["gpt2"]
    with torch.set_grad_enabled(grad):
        steps = decode(model, [1, 2], max_new_tokens=4)
        assert torch.is_grad_enabled() == grad
        for step in steps:
            assert torch.is_grad_enabled() == grad
            assert not step.logits.requires_grad
            if step.index == 1:
                break
        assert torch.is_grad_enabled() == grad
        steps.close()
        assert torch.is_grad_enabled() == grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_consumer_may_train_between_two_steps():
    model = DecoderLM(CONFIGS["llama"], seed=0)
    for step in sample_steps(model, [1, 2], max_new_tokens=3, generator=seeded()):
        model(torch.tensor([[1, 2, int(step.chosen[0])]])).pow(2).mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_decoding_leaves_the_models_mode_alone():
    model = DecoderLM(CONFIGS["llama"], seed=0).train()
    greedy(model, [1], max_new_tokens=2)
    assert model.training


def bytes_held(kept):
    tensors = [value for value in vars(kept).values() if isinstance(value, torch.Tensor)]
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


def test_a_kept_step_does_not_hold_the_vocabulary():
    """A slice of a sorted vocabulary is a view of all of it: 49,152 ids stay in memory for the sake of twenty."""
    sizes = []
    for vocab in (100, 10_000):
        tree = TreeLM({}, max_length=9, default=[1 / vocab] * vocab)
        step = next(sample_steps(tree, [[], []], max_new_tokens=2, filters=[TopK(7)], generator=seeded()))
        sizes.append(bytes_held(step.keep(top=5)))
    assert sizes[0] == sizes[1] < 1000


def test_a_long_run_of_kept_steps_holds_little():
    tree = TreeLM({}, max_length=60, default=[1 / 5000] * 5000)
    kept = [step.keep(top=3) for step in greedy_steps(tree, [], max_new_tokens=40)]
    gc.collect()
    large = [o for o in gc.get_objects() if type(o) is torch.Tensor and o.numel() >= 5000 and o.size(-1) == 5000]
    assert len(kept) == 40 and len(large) <= 3, "logits of earlier steps are still alive"


@every_model
def test_a_kept_step_says_what_the_step_said(model):
    for step in sample_steps(model, [[1, 2], [3, 4]], max_new_tokens=3, filters=[TopK(6)], generator=seeded()):
        kept = step.keep(top=4)
        logprobs = step.logits.float().log_softmax(-1)
        for row in range(2):
            ranking = sorted(range(17), key=lambda i: (-logprobs[row, i].item(), i))
            assert kept.ids[row].tolist() == ranking[:4]
        torch.testing.assert_close(kept.logprobs, logprobs.gather(-1, kept.ids))
        torch.testing.assert_close(kept.filtered_logprobs, step.filtered.float().log_softmax(-1).gather(-1, kept.ids))
        assert kept.survivors.tolist() == [6, 6]
        torch.testing.assert_close(kept.entropy, -(logprobs.exp() * logprobs).sum(-1))
        assert torch.equal(kept.chosen, step.chosen) and kept.index == step.index
    assert step.keep(top=99).ids.shape == (2, 17)
    with pytest.raises(ValueError, match="top is 0; it must be 1 or more"):
        step.keep(top=0)


def test_a_step_survives_in_its_copy():
    model = MODELS["llama"]
    steps = greedy_steps(model, [1, 2], max_new_tokens=4)
    kept = next(steps).keep()
    before = {name: value.clone() for name, value in vars(kept).items() if isinstance(value, torch.Tensor)}
    list(steps)
    assert all(torch.equal(value, getattr(kept, name)) for name, value in before.items())


def test_zero_new_tokens_are_no_steps():
    assert list(greedy_steps(beam_trap(), [], max_new_tokens=0)) == []
    with pytest.raises(ValueError, match="max_new_tokens is 0"):
        greedy(beam_trap(), [], max_new_tokens=0)


def test_a_generation_moves_between_devices_whole():
    generation = greedy(beam_trap(), [], max_new_tokens=2).to("meta")
    assert {t.device.type for t in vars(generation).values()} == {"meta"}
