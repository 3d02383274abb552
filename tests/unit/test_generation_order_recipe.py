"""The recorded runs of notebook 17: what they measure, and that the shipped file holds together."""

from statistics import fmean

import pytest
import torch
from torch import nn

from arlab.nn.language_model import Recompute
from arlab.recipes import generation_order as recipe
from arlab.text.addition import Addition
from arlab.text.batches import IGNORE

SIDE = recipe.SIDE
ORDERS = ("left to right", "reversed")


class Clerk(nn.Module):
    """Adds without fault, but for pairs whose first operand is `never`."""

    def __init__(self, task, never=None):
        super().__init__()
        self.task, self.never, self.vocab_size = task, never, task.vocab_size

    def forward(self, ids):
        logits = torch.zeros(*ids.shape, self.vocab_size)
        for row, tokens in enumerate(ids.tolist()):
            a, b = map(int, self.task.tokenizer.decode(tokens[: self.task.prompt_length])[:-1].split("+"))
            answer = self.task.answer(a, b) if a != self.never else self.task.answer(a, b - 1)
            for t in range(self.task.prompt_length - 1, len(tokens)):
                logits[row, t, answer[min(t - self.task.prompt_length + 1, len(answer) - 1)]] = 9.0
        return logits


@pytest.mark.parametrize("reversed", [False, True])
def test_an_answer_counts_only_when_every_digit_is_right(reversed):
    task = Addition(2, reversed=reversed)
    pairs = torch.tensor([[23, 45], [99, 1], [50, 50], [7, 8]])
    assert recipe.exact(Recompute(Clerk(task)), task, pairs).tolist() == [1, 1, 1, 1]
    assert recipe.exact(Recompute(Clerk(task, never=50)), task, pairs).tolist() == [1, 1, 0, 1]


def test_sums_are_sorted_by_their_longest_chain():
    task = Addition(2)
    groups = recipe.by_chain(task, 40)
    assert [len(pairs) for pairs in groups] == [40, 40, 40]
    for chain, pairs in enumerate(groups):
        assert {task.longest_chain(a, b) for a, b in pairs.tolist()} == {chain}
    assert len(torch.cat(groups).unique(dim=0)) == 120


def test_all_three_read_the_same_windows():
    ids = torch.arange(300)
    batches = {
        kind: next(recipe.text_batches(ids, kind, 999, seed=3, rows=4))
        for kind in ("left to right", "right to left", "both sides")
    }
    forward, backward, both = batches.values()
    whole = torch.cat([forward.inputs[:, :1], forward.targets], dim=1)
    assert whole.shape == (4, 2 * SIDE + 1) and bool((whole.diff(dim=1) == 1).all())
    assert torch.equal(torch.cat([backward.inputs[:, :1], backward.targets], dim=1), whole.flip(1))
    assert torch.equal(torch.where(both.inputs == 999, both.targets, both.inputs), whole)
    assert bool(((both.inputs == 999) == (both.targets != IGNORE)).all())


@pytest.mark.parametrize("kind", ["left to right", "right to left", "both sides"])
def test_a_gap_is_judged_from_its_sides_alone(kind):
    """Changing what lies further away, or what stands in the gap, changes nothing; what is given, does."""
    stretch = recipe.stretches(torch.randint(20, (400,), generator=torch.Generator().manual_seed(0)), 3)
    model = recipe.reader(20, causal=kind != "both sides").eval()
    found, middle = recipe.at_gap(model, kind, stretch, 20), 2 * SIDE
    assert found.shape == (3, 21) and torch.allclose(found.exp().sum(1), torch.ones(3))
    assert bool((found[:, 20] == -torch.inf).all())
    for position in range(4 * SIDE + 1):
        other = stretch.clone()
        other[:, position] = (other[:, position] + 1) % 20
        before, behind = middle - SIDE <= position < middle, middle < position <= middle + SIDE
        given = {"left to right": before, "right to left": behind, "both sides": before or behind}[kind]
        assert torch.allclose(recipe.at_gap(model, kind, other, 20), found, atol=1e-5) != given, position


def test_scoring_every_candidate_is_bayes_rule():
    """log p(gap | both sides) = log p(whole window) with each candidate in it, normalised."""
    vocab = 5
    windows = torch.randint(vocab, (2, 2 * SIDE + 1), generator=torch.Generator().manual_seed(1))
    model = recipe.reader(vocab, causal=True).eval()
    found = recipe.by_scoring(model, windows, vocab)
    for row, window in enumerate(windows):
        totals = []
        for candidate in range(vocab):
            filled = window.clone()
            filled[SIDE] = candidate
            with torch.no_grad():
                logits = model(filled[None, :-1])[0]
            logits[:, vocab] = -torch.inf
            totals.append(sum(logits[t].log_softmax(-1)[filled[t + 1]] for t in range(2 * SIDE)))
        assert torch.allclose(found[row], torch.stack(totals).log_softmax(0), atol=1e-4)


def test_a_short_run_has_everything_in_it():
    runs, about = recipe.addition(digits=(2,), steps=40, seeds=(0,), every=20)
    assert set(runs) == {f"2 digits / {order} / seed 0" for order in ORDERS}
    for run, records in runs.items():
        assert [step.step for step in records] == [20, 40]
        assert [step for step, _ in about["curve"][run]] == [20, 40] and len(about["chains"][run]) == 3


def test_the_shipped_sums_hold_together():
    runs, about = recipe.recorded("addition")
    assert set(runs) == set(about["curve"]) == set(about["chains"])
    assert set(runs) == {
        f"{n} digits / {order} / seed {s}" for n in (2, 3, 4) for order in ORDERS for s in recipe.SEEDS
    }
    ends = {run: curve[-1][1] for run, curve in about["curve"].items()}
    assert all(0 <= share <= 1 for chains in about["chains"].values() for share in (*chains, *ends.values()))
    for seed in recipe.SEEDS:
        forward, backward = (f"3 digits / {order} / seed {seed}" for order in ORDERS)
        assert min(about["chains"][backward]) >= 0.97 and ends[backward] > ends[forward]
        assert min(about["chains"][forward][2:]) < 0.9


def test_the_shipped_gaps_hold_together():
    runs, about = recipe.recorded("gaps")
    assert set(runs) == {f"{kind} / seed {s}" for kind in recipe.KINDS for s in recipe.SEEDS}
    for seed in recipe.SEEDS:
        right = {kind: about["found"][f"{kind} / seed {seed}"]["accuracy"] for kind in recipe.KINDS}
        one_side = max(right["left to right"], right["right to left"])
        assert one_side < right["both sides"] and one_side + 0.1 < right["both sides, longer"]
        assert (
            right["both sides, longer"]
            < about["found"][f"left to right / seed {seed} / every candidate scored"]["accuracy"]
        )
        judged = about["six_gaps"][f"both sides, longer / seed {seed}"]["judged"]
        assert judged["truth"] < judged["6"] < judged["1"]
    directions = ("left to right", "right to left")
    losses = [fmean(about["text_loss"][f"{kind} / seed {s}"] for s in recipe.SEEDS) for kind in directions]
    assert abs(losses[0] - losses[1]) < 0.1
