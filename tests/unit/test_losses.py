"""The loss is cross-entropy over the targets that count, and says what is wrong with those that cannot."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from arlab.training.losses import IGNORE, next_token_loss, perplexity


def example(rows=3, time=4, vocab=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, time, vocab, generator=generator, dtype=torch.float64)
    return logits, torch.randint(vocab, (rows, time), generator=generator)


def test_by_hand():
    """p = 1/2 for one target and 1/8 for the other: (ln 2 + ln 8) / 2 = 2 ln 2."""
    logits = torch.tensor([[[0.5, 0.25, 0.25], [0.75, 0.125, 0.125]]]).log()
    assert next_token_loss(logits, torch.tensor([[0, 2]])).item() == pytest.approx(2 * math.log(2), rel=1e-6)


@given(seed=st.integers(0, 1000), epsilon=st.sampled_from([0.0, 0.1, 0.5]))
def test_label_smoothing_puts_the_rest_on_every_token(seed, epsilon):
    """q = 1 - e + e/V on the truth and e/V on each other token, written out."""
    logits, targets = example(seed=seed)
    q = torch.full(logits.shape, epsilon / 5, dtype=torch.float64)
    q.scatter_add_(2, targets[..., None], torch.full((*targets.shape, 1), 1 - epsilon, dtype=torch.float64))
    expected = -(q * logits.log_softmax(-1)).sum(-1).mean()
    assert next_token_loss(logits, targets, label_smoothing=epsilon).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_lectures_smoothing_is_another_epsilon():
    """0.9 on the truth and 0.1 shared by the other V - 1: e = 0.1 V / (V - 1)."""
    logits, targets = example()
    q = torch.full(logits.shape, 0.1 / 4, dtype=torch.float64).scatter_(2, targets[..., None], 0.9)
    expected = -(q * logits.log_softmax(-1)).sum(-1).mean()
    assert next_token_loss(logits, targets, label_smoothing=0.1 * 5 / 4).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_padding_adds_nothing_to_sum_or_number():
    logits, targets = example()
    padded = targets.clone()
    padded[1, 2:] = padded[2] = IGNORE
    kept = padded != IGNORE
    expected = F.cross_entropy(logits[kept], targets[kept])
    torch.testing.assert_close(next_token_loss(logits, padded), expected)
    each = next_token_loss(logits, padded, reduction="none")
    assert each.shape == targets.shape and (each[~kept] == 0).all()
    torch.testing.assert_close(each.sum() / kept.sum(), expected)
    torch.testing.assert_close(next_token_loss(logits, padded, reduction="sum") / kept.sum(), expected)


def test_another_ignore_index_is_honoured_everywhere():
    logits, targets = example()
    targets[1] = -1
    expected = F.cross_entropy(logits[[0, 2]].flatten(0, 1), targets[[0, 2]].flatten())
    torch.testing.assert_close(next_token_loss(logits, targets, ignore_index=-1), expected)


def test_logits_of_padding_get_no_gradient():
    logits, targets = example()
    logits.requires_grad_()
    targets[0, 1] = IGNORE
    next_token_loss(logits, targets).backward()
    assert (logits.grad[0, 1] == 0).all() and (logits.grad[0, 0] != 0).all()


def test_bfloat16_logits_are_summed_in_float32_and_float64_stays():
    logits, targets = example()
    assert next_token_loss(logits.bfloat16(), targets).dtype == torch.float32
    assert next_token_loss(logits, targets).item() == F.cross_entropy(logits.flatten(0, 1), targets.flatten()).item()


@given(seed=st.integers(0, 200), epsilon=st.sampled_from([0.0, 0.1, 0.9]))
def test_with_padding_and_smoothing_it_is_torchs(seed, epsilon):
    logits, targets = example(seed=seed)
    targets = targets.masked_fill(torch.rand(3, 4, generator=torch.Generator().manual_seed(seed)) < 0.4, IGNORE)
    targets[0, 0] = 2
    for reduction in ("mean", "sum", "none"):
        options = {"label_smoothing": epsilon, "reduction": reduction}
        expected = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORE, **options)
        torch.testing.assert_close(next_token_loss(logits, targets, **options), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": torch.full((3, 4), IGNORE)}, "every target is ignore_index"),
        ({"targets": torch.full((3, 4), 5)}, r"targets\[0, 0\] is 5; targets must lie between 0 and 4, or be -100"),
        ({"targets": torch.full((3, 4), -1)}, r"targets\[0, 0\] is -1"),
        ({"targets": torch.zeros(3, 5, dtype=torch.long)}, r"logits has shape \(3, 4, 5\) and targets \(3, 5\)"),
        ({"targets": torch.full((3, 4), 1.7)}, "targets has dtype torch.float32; token ids are integers"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"label_smoothing": math.nan}, "label_smoothing is nan"),
        ({"reduction": "average"}, "reduction is 'average'"),
    ],
)
def test_what_it_cannot_take(change, message, as_shipped):
    logits, targets = example()
    with pytest.raises(ValueError, match=message):
        next_token_loss(logits, **{"targets": targets, **change})


def test_perplexity_of_a_fair_choice_is_its_size():
    assert perplexity(math.log(65)) == pytest.approx(65)
    assert perplexity(1e6) == math.inf
