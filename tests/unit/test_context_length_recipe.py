"""The recorded run of notebook 07: what it measures, and that the shipped file holds together."""

import pytest
import torch

from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.recipes import context_length as recipe
from arlab.training import recordings

MODEL = DecoderLM(DecoderConfig.llama(vocab_size=13, context_length=16, d_model=16, layers=2, heads=2), seed=0).eval()
IDS = torch.randint(13, (200,), generator=torch.Generator().manual_seed(0))


def test_windows_are_spread_over_the_whole_text():
    windows = recipe.target_windows(IDS, targets=5, most=8)
    assert windows.shape == (5, 9)
    assert torch.equal(windows[0], IDS[:9]) and torch.equal(windows[-1], IDS[-9:])


def test_a_text_too_short_is_named():
    with pytest.raises(ValueError, match="the text has 8 tokens; a stretch needs 9"):
        recipe.target_windows(IDS[:8], targets=2, most=8)


def test_with_all_tokens_seen_it_is_the_last_position():
    """And with k seen, nothing before them has a say."""
    windows = recipe.target_windows(IDS, targets=5, most=8)
    by_position = recipe.loss_by_position(MODEL, windows, rows=2)
    assert by_position.shape == (5, 8)
    assert torch.allclose(recipe.loss_by_context(MODEL, windows, 8, rows=3), by_position[:, -1], atol=1e-5)
    other = windows.clone()
    other[:, :5] = (other[:, :5] + 1) % 13
    assert torch.equal(recipe.loss_by_context(MODEL, windows, 3), recipe.loss_by_context(MODEL, other, 3))
    assert not torch.allclose(recipe.loss_by_context(MODEL, windows, 4), recipe.loss_by_context(MODEL, other, 4))


def test_the_shipped_recording_holds_together():
    runs, about = recordings.load(recipe.FILE)
    assert runs == {} and about["seen"] == [2**i for i in range(9)]
    losses = torch.tensor(about["loss_by_context"])
    assert losses.shape == (len(about["seen"]), about["targets"]) and bool((losses >= 0).all())
    assert len(about["loss_by_position"]) == about["seen"][-1]
    assert losses[-1].mean().item() == pytest.approx(about["loss_by_position"][-1], abs=1e-3)
    assert losses[0].mean() > losses[4].mean() + 1 > losses[-1].mean() + 1
