"""Calibration: exact on constructions whose answer is known beforehand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arlab.text.batches import IGNORE
from arlab.training.calibration import reliability


def four_rows(p, right):
    """Four predictions over three tokens, each sure of token 1 with probability p; `right` of them are right."""
    logits = torch.tensor([(1 - p) / 2, p, (1 - p) / 2], dtype=torch.float64).log().expand(4, 3)
    return logits, torch.tensor([1] * right + [0] * (4 - right))


def test_as_often_right_as_it_says_has_an_error_of_zero():
    """Sure to .5, right in 2 of 4; sure to .75, right in 3 of 4; sure to 1, always right."""
    rows = [four_rows(0.5, 2), four_rows(0.75, 3), (torch.tensor([[-math.inf, 0.0, -math.inf]]), torch.tensor([1]))]
    logits, targets = torch.cat([r[0] for r in rows]), torch.cat([r[1] for r in rows])
    measured = reliability(logits, targets, bins=4)
    assert measured.count.tolist() == [0, 4, 4, 1]
    assert measured.accuracy[1:].tolist() == [0.5, 0.75, 1.0]
    assert measured.ece == pytest.approx(0, abs=1e-12) and measured.overconfidence == pytest.approx(0, abs=1e-12)


def test_the_error_is_the_weighted_mean_of_the_gaps():
    """.75 and right in 1 of 4: gap +.5. .5 and right in 3 of 4: gap -.25. Equal counts."""
    a, b = four_rows(0.75, 1), four_rows(0.5, 3)
    measured = reliability(torch.cat([a[0], b[0]]), torch.cat([a[1], b[1]]), bins=4)
    assert measured.ece == pytest.approx((0.5 + 0.25) / 2)
    assert measured.overconfidence == pytest.approx((0.5 - 0.25) / 2)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    for p, bin_of in ((0.5, 1), (0.5 + 1e-9, 2), (0.75, 2), (0.9, 3)):
        assert reliability(*four_rows(p, 2), bins=4).count.tolist().index(4) == bin_of


def test_empty_bins_are_nan_and_weigh_nothing():
    measured = reliability(*four_rows(0.75, 4), bins=10)
    assert measured.confidence.isnan().sum() == 9 and measured.accuracy.isnan().sum() == 9
    assert measured.ece == pytest.approx(0.25)
    assert measured.edges.tolist() == [b / 10 for b in range(11)]


def test_ignored_targets_do_not_count():
    logits, targets = four_rows(0.75, 3)
    noise = torch.randn(2, 3, dtype=torch.float64)
    padded = torch.stack([torch.cat([logits, noise]), torch.cat([noise, logits])])
    ignored = torch.full((2,), IGNORE)
    measured = reliability(padded, torch.stack([torch.cat([targets, ignored]), torch.cat([ignored, targets])]), bins=4)
    assert measured.count.sum() == 8 and measured.ece == pytest.approx(0, abs=1e-12)


def test_scaling_the_logits_makes_a_calibrated_model_overconfident():
    """Targets drawn from the model's own law are calibrated. 20,000 draws: a deviation of .02 is 5 standard errors."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 8, generator=generator) * 2
    targets = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
    assert reliability(logits, targets, bins=5).ece < 0.02
    assert reliability(logits * 3, targets, bins=5).overconfidence > 0.1
    assert reliability(logits / 3, targets, bins=5).overconfidence < -0.1


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_it_equals_a_loop_over_the_predictions(seed, bins):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 5, 6, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 6, (3, 5), generator=generator)
    members = [[] for _ in range(bins)]
    for row, target in zip(logits.view(-1, 6), targets.view(-1), strict=True):
        p = row.softmax(-1)
        members[max(0, math.ceil(float(p.max()) * bins) - 1)].append((float(p.max()), int(p.argmax()) == int(target)))
    measured = reliability(logits, targets, bins)
    ece = 0.0
    for b, found in enumerate(members):
        assert measured.count[b] == len(found)
        if found:
            sure, right = (sum(column) / len(found) for column in zip(*found, strict=True))
            assert float(measured.confidence[b]) == pytest.approx(sure)
            assert float(measured.accuracy[b]) == pytest.approx(right)
            ece += abs(sure - right) * len(found) / 15
    assert measured.ece == pytest.approx(ece)


def test_the_logits_are_left_alone_and_need_no_detaching():
    logits, targets = four_rows(0.75, 3)
    logits = logits.clone().requires_grad_()
    before = logits.detach().clone()
    assert not reliability(logits, targets).confidence.requires_grad
    assert torch.equal(logits, before)


def test_bad_input_is_named(as_shipped):
    logits, targets = four_rows(0.75, 3)
    with pytest.raises(ValueError, match=r"logits \(4, 3\) need targets \(4,\); got \(3,\)"):
        reliability(logits, targets[:3])
    with pytest.raises(ValueError, match="a target is 3; it must lie between 0 and 2"):
        reliability(logits, torch.tensor([0, 1, 3, 1]))
    with pytest.raises(ValueError, match="a target is -1"):
        reliability(logits, torch.tensor([0, 1, -1, 1]))
    with pytest.raises(ValueError, match="no target counts"):
        reliability(logits, torch.full((4,), IGNORE))
    for nonsense in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="no distribution"):
            reliability(torch.where(torch.arange(4)[:, None] == 2, nonsense, logits), targets)
    for bins in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="bins is"):
            reliability(logits, targets, bins)
