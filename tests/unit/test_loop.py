"""The loop is AdamW on the mean over all targets, whatever way they come; it stops before it spoils anything."""

import math
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import Recompute
from arlab.text.batches import IGNORE, Batch, padded, random_windows
from arlab.training import checkpoints
from arlab.training.loop import Settings, TrainStep, evaluate, fit, make_optimizer, train
from arlab.training.schedule import learning_rate

CONFIG = DecoderConfig.gpt2(vocab_size=11, context_length=8, d_model=16, layers=2, heads=2)
IDS = torch.randint(11, (400,), generator=torch.Generator().manual_seed(1))


def a_model(**changes):
    return DecoderLM(CONFIG, seed=0)


def some_batches(rows=4, seed=0):
    return random_windows(IDS, 8, rows, torch.Generator().manual_seed(seed))


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


def test_it_is_what_one_writes_by_hand():
    """Plain PyTorch beside it: AdamW with decay on matrices, clipping, warm-up and cosine; the same weights after 6."""
    model, by_hand = a_model(), a_model()
    steps = fit(model, some_batches(), steps=6, lr=1e-2, warmup=2, min_lr=1e-3, clip=0.5)
    matrices = [p for p in by_hand.parameters() if p.dim() >= 2]
    vectors = [p for p in by_hand.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    rates = [0.005, 0.01, *(0.001 + 0.009 * (1 + math.cos(math.pi * k / 4)) / 2 for k in (1, 2, 3, 4))]
    for rate, (inputs, targets), step in zip(rates, some_batches(), steps, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = F.cross_entropy(by_hand(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(by_hand.parameters(), 0.5)
        optimizer.step()
        assert step.loss == pytest.approx(loss.item(), rel=1e-5) and step.grad_norm == pytest.approx(
            norm.item(), rel=1e-4
        )
        assert step.lr == pytest.approx(rate)
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 6] and steps[-1].tokens == 6 * 4 * 8
    torch.testing.assert_close(weights(model), weights(by_hand), atol=1e-5, rtol=1e-4)


def test_one_batch_of_four_is_four_of_one():
    """Rows of 8, 3, 1 and 6 targets: a mean of the four means would be another number."""
    sequences = [list(range(n + 1)) for n in (8, 3, 1, 6)]
    whole = padded(sequences, pad_id=0)
    apart = [padded([sequence], pad_id=0) for sequence in sequences]
    together, gathered = a_model(), a_model()
    one = fit(together, [whole] * 3, lr=1e-2)
    four = fit(gathered, apart * 3, lr=1e-2, accumulate=4)
    assert len(one) == len(four) == 3 and one[0].tokens == four[0].tokens == 18
    assert [s.loss for s in one] == pytest.approx([s.loss for s in four], rel=1e-5)
    torch.testing.assert_close(weights(together), weights(gathered), atol=1e-4, rtol=1e-3)
    means = [fit(a_model(), [batch], lr=1e-2)[0].loss for batch in apart]
    assert abs(sum(means) / 4 - one[0].loss) > 1e-3


def test_label_smoothing_is_in_the_loss_and_not_in_the_validation():
    model, batch = a_model(), next(some_batches())
    plain, smooth = (
        F.cross_entropy(model(batch.inputs).flatten(0, 1), batch.targets.flatten(), label_smoothing=e)
        for e in (0.0, 0.4)
    )
    step = fit(model, [batch], label_smoothing=0.4, lr=1e-12, validation=[batch])[0]
    assert step.loss == pytest.approx(smooth.item(), abs=1e-6) and abs(smooth - plain) > 1e-4
    assert step.validation_loss == pytest.approx(plain.item(), abs=1e-6)


def test_adamw_is_fused_on_a_cpu_too():
    assert make_optimizer(a_model(), Settings(steps=1)).defaults["fused"]


def test_a_target_out_of_the_vocabulary_stops_before_the_weights_are_touched():
    model = a_model()
    before = weights(model)
    bad = Batch(torch.zeros(1, 3, dtype=torch.long), torch.tensor([[1, 2, 11]]))
    with pytest.raises(ValueError, match=r"targets\[0, 2\] is 11; targets must lie between 0 and 10"):
        fit(model, [bad])
    assert torch.equal(weights(model), before)


def test_a_batch_of_padding_is_refused_and_beside_a_real_one_it_adds_nothing():
    pads = Batch(torch.zeros(2, 8, dtype=torch.long), torch.full((2, 8), IGNORE))
    with pytest.raises(ValueError, match="step 1 has no target that counts"):
        fit(a_model(), [pads])
    real = next(some_batches())
    alone, beside = a_model(), a_model()
    fit(alone, [real]), fit(beside, [real, pads], accumulate=2)
    torch.testing.assert_close(weights(alone), weights(beside))


def poisoned(batches, model, at):
    """From batch `at` on the model's last norm gives NaN."""
    for number, batch in enumerate(batches, start=1):
        if number == at:
            model.norm.register_forward_hook(lambda module, inputs, output: output * math.nan)
        yield batch


def test_nan_stops_at_its_step_and_leaves_weights_and_checkpoint(tmp_path):
    model, path, records = a_model(), tmp_path / "run.safetensors", []
    with pytest.raises(
        FloatingPointError, match="step 4: the loss is nan .* still those of step 3, and .* left as it is"
    ):
        for step in train(model, poisoned(some_batches(), model, 4), steps=9, checkpoint=path, save_every=2):
            records.append(step)
            kept = weights(model)
    assert [step.step for step in records] == [1, 2, 3]
    assert torch.equal(weights(model), kept) and torch.isfinite(kept).all()
    fresh = a_model()
    assert checkpoints.load_training(path, fresh, torch.optim.AdamW(fresh.parameters()))["step"] == 2


def test_an_infinite_gradient_under_a_finite_loss_stops_too():
    model = a_model()
    model.head.weight.register_hook(lambda gradient: gradient / 0)
    before = weights(model)
    with pytest.raises(FloatingPointError, match="step 1: the loss is 2.* gradient's norm"):
        fit(model, some_batches(), steps=2)
    assert torch.equal(weights(model), before)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_resumed_training_is_as_if_it_had_not_stopped(tmp_path, dropout):
    config = DecoderConfig.gpt2(vocab_size=11, context_length=8, d_model=16, layers=2, heads=2, dropout=dropout)
    settings = {"steps": 8, "lr": 1e-2, "warmup": 3, "accumulate": 2}
    torch.manual_seed(0)
    whole = DecoderLM(config, seed=0)
    torch.manual_seed(0)
    expected = fit(whole, some_batches(), **settings)
    first, path = DecoderLM(config, seed=0), tmp_path / "run.safetensors"
    torch.manual_seed(0)
    steps = train(first, some_batches(), checkpoint=path, **settings)
    begun = [next(steps) for _ in range(5)]
    steps.close()
    torch.manual_seed(99)  # another session
    second = DecoderLM(config, seed=1)
    rest = fit(second, some_batches(), checkpoint=path, resume=True, **settings)
    assert [s.loss for s in begun + rest] == [s.loss for s in expected]
    assert [s.step for s in rest] == [6, 7, 8] and rest[-1].tokens == expected[-1].tokens
    assert rest[0].seconds > begun[-1].seconds
    assert torch.equal(weights(second), weights(whole))


def test_validation_comes_when_asked_for_and_at_the_end():
    held_out = [next(some_batches(seed=5))]
    steps = fit(a_model(), some_batches(), steps=5, validation=held_out, evaluate_every=2)
    assert [s.validation_loss is not None for s in steps] == [False, True, False, True, True]
    model = a_model()
    last = fit(model, some_batches(), steps=3, validation=held_out)
    assert [s.validation_loss is not None for s in last] == [False, False, True]
    assert last[-1].validation_loss == evaluate(model, held_out)
    mixed = fit(model, some_batches(), steps=1, validation=held_out, autocast=torch.bfloat16)[0].validation_loss
    assert mixed == evaluate(model, held_out, autocast=torch.bfloat16) != evaluate(model, held_out)


def test_evaluate_counts_targets_not_batches_and_turns_dropout_off():
    config = DecoderConfig.gpt2(vocab_size=11, context_length=8, d_model=16, layers=1, heads=2, dropout=0.5)
    model = DecoderLM(config, seed=0).train()
    long, short = padded([list(range(9))], pad_id=0), padded([[1, 2]], pad_id=0)
    apart, graphs = evaluate(model, [long, short]), []
    model.eval()
    model.head.register_forward_hook(lambda module, inputs, output: graphs.append(output.requires_grad))
    assert evaluate(model, [long, short]) == apart and graphs == [False, False]  # no graph is kept for a backward pass
    losses = [F.cross_entropy(model(b.inputs)[0], b.targets[0], reduction="sum").item() for b in (long, short)]
    assert apart == pytest.approx(sum(losses) / 9, rel=1e-5)
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate(model, [])


def test_no_grad_mode_and_no_training_mode_leak_to_the_caller():
    model = a_model()
    for _ in train(model, some_batches(), steps=2):
        assert torch.is_grad_enabled() and not model.training
        assert all(p.grad is not None for p in model.parameters())


def test_settings_are_checked_at_once_and_by_name(as_shipped):
    for settings, message in [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 3, "lr": 0.0}, "lr is 0.0"),
        ({"steps": 3, "lr": math.nan}, "lr is nan"),
        ({"steps": 3, "warmup": 4}, "warmup is 4; it must lie between 0 and steps = 3"),
        ({"steps": 3, "min_lr": 1.0}, "min_lr is 1.0"),
        ({"steps": 3, "schedule": "linear"}, "schedule is 'linear'"),
        ({"steps": 3, "clip": 0.0}, "clip is 0.0"),
        ({"steps": 3, "accumulate": 0}, "accumulate is 0"),
        ({"steps": 3, "evaluate_every": 2}, "validation holds no batch"),
        ({"steps": 3, "resume": True}, "give checkpoint="),
        ({"steps": 3, "label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"steps": 3, "weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"steps": 3, "weight_decay": math.nan}, "weight_decay is nan"),
        ({"steps": 3, "autocast": torch.float16}, "autocast is torch.float16"),
        ({"steps": 3, "autocast": True}, "autocast is True"),
        ({"steps": 3, "validation": some_batches()}, "validation is one generator; it must be a list"),
        ({"steps": 3, "validation": next(some_batches())}, "validation is one Batch; it must be a list"),
        ({}, "a cosine has to know where it ends"),
    ]:
        with pytest.raises(ValueError, match=message):
            train(a_model(), some_batches(), **settings)
    with pytest.raises(ValueError, match="batches is empty"):
        fit(a_model(), [], steps=3)
    with pytest.raises(ValueError, match="accumulate is 0"):
        fit(a_model(), [next(some_batches())], accumulate=0)
    with pytest.raises(ValueError, match="batches is one Batch"):
        train(a_model(), next(some_batches(rows=2)), steps=3)
    with pytest.raises(ValueError, match="batches is one Batch"):
        evaluate(a_model(), next(some_batches(rows=2)))


def test_a_list_is_trained_on_to_its_last_batch(as_shipped):
    """Five batches, two a step: the third step has one."""
    steps = fit(a_model(), [tuple(batch) for batch in islice(some_batches(), 5)], accumulate=2)
    assert [s.tokens for s in steps] == [64, 128, 160] and steps[-1].lr == pytest.approx(1e-4)


def test_a_students_own_module_trains_without_the_protocol(as_shipped):
    class TwoTables(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(11, 8), nn.Linear(8, 11)

        def forward(self, ids):
            return self.head(self.embed(ids))

    model = TwoTables()
    assert len(fit(model, some_batches(), steps=2)) == 2
    assert evaluate(model, [next(some_batches())]) > 0
    with pytest.raises(ValueError, match=r"targets\[0, 0\] is 11; targets must lie between 0 and 10"):
        fit(model, [Batch(torch.zeros(1, 2, dtype=torch.long), torch.full((1, 2), 11))])


def test_evaluate_takes_what_has_no_parameters_and_names_a_wrong_target():
    class Fair(nn.Module):
        def forward(self, ids):
            return torch.zeros(*ids.shape, 11)

    fair = Recompute(Fair(), vocab_size=11)
    assert evaluate(fair, [next(some_batches())]) == pytest.approx(math.log(11))
    with pytest.raises(ValueError, match="is 11; targets must lie between 0 and 10"):
        evaluate(a_model(), [Batch(torch.zeros(1, 2, dtype=torch.long), torch.full((1, 2), 11))])


def test_learning_rate_by_hand():
    settings = {"steps": 10, "lr": 1.0, "warmup": 4, "min_lr": 0.2}
    rates = [learning_rate(step, **settings) for step in range(1, 11)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0] and rates[6] == pytest.approx(0.6) and rates[9] == pytest.approx(0.2)
    assert learning_rate(10, steps=10, lr=1.0) == pytest.approx(0.1)
    assert learning_rate(3, steps=3, lr=1.0, warmup=3) == 1.0  # nothing but warm-up
    assert learning_rate(7, steps=None, lr=1.0, schedule="constant") == 1.0


def test_it_learns_a_text_that_repeats():
    """Five tokens in a circle: after 60 steps each next one is nearly certain."""
    circle = torch.arange(5).repeat(40)
    windows = random_windows(circle, 8, 8, torch.Generator().manual_seed(0))
    steps = fit(a_model(), windows, steps=60, lr=1e-2)
    assert abs(steps[0].loss - math.log(11)) < 0.1 and steps[-1].loss < 0.1
    assert isinstance(steps[0], TrainStep)


def test_bfloat16_products_give_the_same_losses_to_their_eight_bits():
    plain = fit(a_model(), some_batches(), steps=3, lr=1e-3)
    mixed = fit(a_model(), some_batches(), steps=3, lr=1e-3, autocast=torch.bfloat16)
    assert [s.loss for s in mixed] == pytest.approx([s.loss for s in plain], rel=2e-2)
    assert [s.loss for s in mixed] != [s.loss for s in plain]
