"""Gaps: what is hidden is what is asked for, and nothing else."""

import pytest
import torch

from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.text.addition import Addition
from arlab.text.batches import IGNORE, padded, random_windows
from arlab.text.masking import masked, masked_batches
from arlab.text.pairs import ordered_pairs
from arlab.training.loop import evaluate, fit

MASK = 11


def ids(rows=4, time=9, seed=0):
    return torch.randint(11, (rows, time), generator=torch.Generator().manual_seed(seed))


def test_hidden_tokens_are_the_targets_and_no_others():
    text = ids(50)
    inputs, targets = masked(text, MASK, 0.4, torch.Generator().manual_seed(1))
    hidden = inputs == MASK
    assert torch.equal(targets[hidden], text[hidden]) and bool((targets[~hidden] == IGNORE).all())
    assert torch.equal(inputs[~hidden], text[~hidden])
    assert hidden.any(dim=1).all() and text.max() < MASK  # the text itself is as it was


def test_the_rate_is_the_share_that_is_hidden():
    """10,000 x 10 coins at 0.3, and one gap where there is none; five standard errors are .0073: odds of 6e-7."""
    hidden = masked(ids(10_000, 10), MASK, 0.3, torch.Generator().manual_seed(2)).inputs == MASK
    assert abs(float(hidden.double().mean()) - (0.3 + 0.7**10 / 10)) < 0.0073


def test_every_row_has_a_gap_and_rate_1_hides_all():
    seldom = masked(ids(200), MASK, 1e-9, torch.Generator().manual_seed(3))
    assert (seldom.targets != IGNORE).sum(dim=1).tolist() == [1] * 200
    assert (seldom.targets != IGNORE).any(dim=0).all()  # anywhere: each of 9 places, missed with odds of 6e-11 each
    assert bool((masked(ids(), MASK, 1.0).inputs == MASK).all())


def test_a_range_of_rates_gives_rows_with_few_and_with_many_gaps():
    hidden = (masked(ids(400, 9), MASK, (0.0, 1.0), torch.Generator().manual_seed(4)).targets != IGNORE).sum(dim=1)
    assert set(hidden.tolist()) == set(range(1, 10))  # uniform over 0..9 but for the row with none
    assert min(hidden.bincount()[1:].tolist()) > 10  # about 40 of each, five standard errors: no rate common to all


def test_of_a_batch_only_what_was_a_target_is_hidden():
    batch = padded([[1, 2, 3, 4, 5, 6], [7, 8, 9]], pad_id=0)
    inputs, targets = next(masked_batches([batch], MASK, 1.0))
    assert inputs.tolist() == [[1, MASK, MASK, MASK, MASK, MASK], [7, MASK, MASK, 0, 0, 0]]
    assert targets.tolist() == [[IGNORE, 2, 3, 4, 5, 6], [IGNORE, 8, 9, IGNORE, IGNORE, IGNORE]]


def test_windows_are_put_together_again():
    text = torch.arange(40)
    generator = torch.Generator().manual_seed(0)
    stream = masked_batches(random_windows(text, 8, 3, generator), 99, 0.5, generator)
    inputs, targets = next(stream)
    whole = torch.where(inputs == 99, targets, inputs)
    assert whole.shape == (3, 9) and bool((whole.diff(dim=1) == 1).all()) and bool((inputs[:, 0] != 99).all())


def test_the_same_generator_gives_the_same_gaps():
    first, second = (next(masked_batches([ids()], MASK, 0.5, torch.Generator().manual_seed(5))) for _ in range(2))
    assert torch.equal(first.inputs, second.inputs) and torch.equal(first.targets, second.targets)


def test_a_model_that_looks_both_ways_learns_from_them():
    """Repeated tokens: a b b a. The first and the last know each other, and only a look ahead tells the first."""
    half = ids(300, 2)
    text = torch.cat([half, half.flip(1)], dim=1)
    generator = torch.Generator().manual_seed(0)
    settings = {"vocab_size": 12, "context_length": 4, "d_model": 32, "layers": 1, "heads": 2, "init": "xavier"}
    model = DecoderLM(DecoderConfig.gpt2(**settings, causal=False), seed=0)
    stream = masked_batches(
        (text[torch.randperm(300, generator=generator)[:64]] for _ in range(200)), MASK, 0.2, generator
    )
    fit(model, stream, steps=200, lr=1e-2)
    first_hidden = torch.tensor([[True, False, False, False]]).expand(300, 4)
    assert evaluate(model, [masked(text, MASK, 1.0, maskable=first_hidden)]) < 0.2


def test_additions_hide_digits_of_the_answer_alone():
    task = Addition(2)
    batch = next(task.batches(16, torch.Generator().manual_seed(0)))
    inputs, targets = next(masked_batches([batch], task.mask_id, 1.0))
    assert torch.equal(inputs[:, : task.prompt_length], batch.inputs[:, : task.prompt_length])
    assert bool((inputs[:, task.prompt_length :] == task.mask_id).all()) and inputs.shape[1] == task.length
    assert bool((targets[:, task.prompt_length :] != IGNORE).all())


@pytest.mark.parametrize("rate", [0.0, 1.5, -0.1, (0.5, 0.2), (0.0, 0.0), (0.5, 2.0), float("nan")])
def test_bad_rates_are_named_at_once(rate):
    with pytest.raises(ValueError, match="rate is"):
        masked_batches([ids()], MASK, rate)


def test_other_bad_input_is_named(as_shipped):
    with pytest.raises(ValueError, match=r"shape \(9,\)"):
        masked(ids()[0], MASK, 0.5)
    with pytest.raises(ValueError, match="mask_id is 3"):
        masked(torch.tensor([[1, 2, 3]]), 3, 0.5)
    with pytest.raises(ValueError, match="row 1 has no token that may be hidden"):
        masked(ids(2, 3), MASK, 0.5, maskable=torch.tensor([[True] * 3, [False] * 3]))
    with pytest.raises(ValueError, match="dtype torch.float32"):  # once targets of float32
        masked(ids(2, 3).float(), MASK, 0.5)
    with pytest.raises(ValueError, match="mask_id is None"):
        masked(ids(2, 3), None, 0.5)
    with pytest.raises(ValueError, match=r"maskable has shape \(2, 2\)"):
        masked(ids(2, 3), MASK, 0.5, maskable=torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="the batch holds PairInputs"):
        next(masked_batches(ordered_pairs([[1]], [[2]], 1, bos_id=3, eos_id=4), MASK, 0.5))
