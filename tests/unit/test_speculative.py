"""Speculative decoding: the law is the target's to the last digit, greedy is greedy, caches are rolled back."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arlab.decoding import MinP, Temperature, TopK, TopP, drafts, greedy, sample, speculative
from arlab.decoding.drafts import LookupDraft, Proposal
from arlab.decoding.filters import apply
from arlab.decoding.speculative import (
    acceptance,
    expected_tokens,
    residual,
    speculative_decoding,
    speculative_steps,
)
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.early_exit import EarlyExit
from arlab.nn.language_model import Recompute
from arlab.worlds import TreeLM, beam_trap

SIZES = {"vocab_size": 17, "context_length": 40, "d_model": 16, "layers": 3, "heads": 4}
P, Q = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64), torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)


def built(config, seed=0):
    """A model whose predictions are far from uniform."""
    model = DecoderLM(config, seed=seed).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    return model


GPT = built(DecoderConfig.gpt2(**SIZES))
LLAMA = built(DecoderConfig.llama(**SIZES, kv_heads=2), seed=1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def unrelated(vocab, seed, eos_id=None, sharp=1.0):
    return TreeLM.random(vocab, 4, seeded(seed), eos_id=eos_id, sharp=sharp)


# ------------------------------------------------------------------- the law, by walking through every possible run


class Branches:
    """Stands in for both places where chance enters, and takes every way in turn.

    A run follows `ways` (which branch at each of the first forks) and the first branch from there on; `weight` is its
    probability. `next_run` moves on to the next run, depth first, until there is none.
    """

    def __init__(self, monkeypatch):
        self.ways: list[int] = []
        self.begin()
        monkeypatch.setattr(speculative, "accepts", lambda ratio, _: self.fork([ratio, 1 - ratio]) == 0)
        for module in (speculative, drafts):
            monkeypatch.setattr(module, "draw_from", lambda law, _: self.fork(law.tolist()))

    def begin(self):
        self.weight, self.taken, self.forks = 1.0, [], []

    def fork(self, weights: list[float]) -> int:
        possible = [i for i, weight in enumerate(weights) if weight > 0]
        at = len(self.taken)
        way = self.ways[at] if at < len(self.ways) else 0
        self.taken.append(way)
        self.forks.append(len(possible))
        self.weight *= weights[possible[way]]
        return possible[way]

    def next_run(self) -> bool:
        while self.taken and self.taken[-1] == self.forks[-1] - 1:
            self.taken.pop(), self.forks.pop()
        if not self.taken:
            return False
        self.ways = [*self.taken[:-1], self.taken[-1] + 1]
        self.begin()
        return True


def law_of(run, monkeypatch) -> dict[tuple[int, ...], float]:
    """Every text that run() can give, and its probability."""
    with monkeypatch.context() as patch:
        branches, law = Branches(patch), {}
        while True:
            text = tuple(run())
            law[text] = law.get(text, 0.0) + branches.weight
            if not branches.next_run():
                return law


def law_of_target(target, filters, length, eos_id=None) -> dict[tuple[int, ...], float]:
    """The chain rule over the target's filtered distributions: no draw, no draft."""
    law, open_ = {}, {(): 1.0}
    for _ in range(length):
        longer = {}
        for text, mass in open_.items():
            logits = target(torch.tensor([[target.bos_id, *text]]))[:, -1]
            for token, p in enumerate(apply(filters, logits)[0].softmax(-1).tolist()):
                if p > 0:
                    (law if token == eos_id else longer)[(*text, token)] = mass * p
        open_ = longer
    return law | open_


def assert_same_law(law, expected):
    assert sum(law.values()) == pytest.approx(1, abs=1e-12)
    assert {text: p for text, p in law.items() if p > 1e-15}.keys() == expected.keys()
    for text, p in expected.items():
        assert law[text] == pytest.approx(p, abs=1e-13), text


class Fixed:
    """A draft that always proposes from one law, or, without one, the same tokens."""

    def __init__(self, law=None, tokens=None):
        self.law, self.tokens = law, tokens

    def propose(self, text, limit):
        if self.tokens is not None:
            return self.tokens[:limit]
        laws = self.law.expand(limit, -1)
        return Proposal([drafts.draw_from(law, None) for law in laws], laws)


TARGET = unrelated(3, seed=0, eos_id=2)
QUALITIES = {
    "another model": unrelated(3, seed=1, eos_id=2),
    "a sharp other model": unrelated(3, seed=2, eos_id=2, sharp=6.0),
    "the target itself": TARGET,
    "uniform": TreeLM({}, max_length=4, default=[1 / 3] * 3),
    "one token": TreeLM({}, max_length=4, default=[0.0, 1.0, 0.0]),
    "never the end": TreeLM({}, max_length=4, default=[0.5, 0.5, 0.0]),
    "lookup": LookupDraft(),
    "a fixed law": Fixed(torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64)),
    "fixed tokens": Fixed(tokens=[0, 1, 2]),
    "nothing": Fixed(tokens=[]),
}


@pytest.mark.parametrize("gamma", [1, 2, 3])
@pytest.mark.parametrize("draft", QUALITIES.values(), ids=QUALITIES)
def test_the_law_is_exactly_the_targets(draft, gamma, monkeypatch):
    arguments = {"max_new_tokens": 3, "gamma": gamma, "eos_id": 2}
    law = law_of(lambda: speculative_decoding(TARGET, draft, [], **arguments).tokens(), monkeypatch)
    assert_same_law(law, law_of_target(TARGET, (), 3, eos_id=2))


FILTERS = [(Temperature(0.5),), (TopK(2),), (TopP(0.6),), (Temperature(2), MinP(0.5)), (TopK(1), Temperature(3))]


@pytest.mark.parametrize("filters", [*FILTERS, (torch.round,)], ids=[*map(str, FILTERS), "a function of one's own"])
@pytest.mark.parametrize("name", ["another model", "the target itself", "lookup"])
def test_the_law_is_the_targets_after_filtering_both_sides(name, filters, monkeypatch):
    arguments = {"max_new_tokens": 3, "gamma": 2, "filters": filters}
    law = law_of(lambda: speculative_decoding(TARGET, QUALITIES[name], [], **arguments).tokens(), monkeypatch)
    assert_same_law(law, law_of_target(TARGET, filters, 3))


def test_the_law_when_draft_and_target_have_no_token_in_common(monkeypatch):
    target = TreeLM({}, max_length=9, default=[0.0, 0.75, 0.0, 0.25])
    draft = TreeLM({}, max_length=9, default=[0.5, 0.0, 0.5, 0.0])
    law = law_of(lambda: speculative_decoding(target, draft, [], max_new_tokens=3, gamma=2).tokens(), monkeypatch)
    assert_same_law(law, law_of_target(target, (), 3))
    for step in speculative_steps(target, draft, [], max_new_tokens=6, gamma=2, generator=seeded()):
        assert step.accepted == 0 and step.overlaps == (0.0,) * len(step.overlaps)


def test_drawing_from_the_target_after_a_rejection_gives_another_law(monkeypatch):
    """What lecture 001 says: p = [.6, .3, .1], q = [.2, .3, .5] then gives [.44, .42, .14]."""
    target, draft = (TreeLM({}, max_length=9, default=law.tolist()) for law in (P, Q))

    def first_token():
        yield speculative_decoding(target, draft, [], max_new_tokens=2, gamma=1).tokens()[0]

    law = law_of(first_token, monkeypatch)
    assert [law[token,] for token in range(3)] == pytest.approx(P.tolist(), abs=1e-13)
    monkeypatch.setattr(speculative, "residual", lambda p, q: p)
    wrong = law_of(first_token, monkeypatch)
    assert [wrong[token,] for token in range(3)] == pytest.approx([0.44, 0.42, 0.14], abs=1e-13)


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.integers(2, 3), st.integers(1, 3), st.sampled_from([0.3, 1.0, 4.0]))
def test_the_law_over_random_trees(seed, vocab, gamma, sharp):
    target, draft = unrelated(vocab, seed, eos_id=0), unrelated(vocab, seed + 1, eos_id=0, sharp=sharp)
    arguments = {"max_new_tokens": 3, "gamma": gamma, "eos_id": 0}
    with pytest.MonkeyPatch.context() as patch:
        law = law_of(lambda: speculative_decoding(target, draft, [], **arguments).tokens(), patch)
    assert_same_law(law, law_of_target(target, (), 3, eos_id=0))


# ------------------------------------------------------------------------- its parts: acceptance, residual, the draws


def test_acceptance_and_residual_on_the_designs_example():
    assert acceptance(P, Q).tolist() == pytest.approx([1, 1, 0.2])
    assert residual(P, Q).tolist() == pytest.approx([1, 0, 0])
    accepted = Q * acceptance(P, Q)  # = min(p, q)
    assert (accepted + (1 - accepted.sum()) * residual(P, Q)).tolist() == pytest.approx(P.tolist())
    rows = torch.stack([P, Q, P])
    assert torch.equal(residual(rows, rows.flip(-1))[0], residual(P, P.flip(-1))), "each row by itself"
    assert torch.equal(residual(P, P), P) and torch.equal(acceptance(P, P), torch.ones(3).double())
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert acceptance(one, other).tolist() == [1, 0] and residual(one, other).tolist() == [1, 0]
    assert acceptance(one, one).tolist() == [1, 1], "1 also where neither has any mass"
    assert acceptance(one, 1.005 * one).tolist() == pytest.approx([1 / 1.005, 1]), "a half-precision softmax may be off"


@pytest.mark.parametrize(
    ("p", "q"),
    [
        (P, Q[:2]),
        (P.log(), Q),
        (P, 1.02 * Q),
        (P, torch.full((3,), math.nan)),
        (torch.tensor([1.5, -0.5, 0]), P.float()),
    ],
)
def test_what_is_no_pair_of_distributions_is_refused(p, q, as_shipped):
    for function in (acceptance, residual):
        with pytest.raises(ValueError, match="shape|no distribution"):
            function(p, q)


def test_the_draws_are_exact_on_a_grid_of_uniforms(monkeypatch):
    """At the middles of 16 equal cells, a law in sixteenths gets each token as often as it should."""
    law = torch.tensor([0.0, 5, 0, 8, 3, 0], dtype=torch.float64) / 16
    for module in (drafts, speculative):
        monkeypatch.setattr(module, "uniform", lambda _: u)  # noqa: B023
    drawn, accepted = [], 0
    for k in range(16):
        u = (k + 0.5) / 16
        drawn.append(drafts.draw_from(law, None))
        accepted += speculative.accepts(5 / 16, None)
    assert [drawn.count(token) for token in range(6)] == [0, 5, 0, 8, 3, 0] and accepted == 5
    u = 0.0
    assert drafts.draw_from(law, None) == 1 and not speculative.accepts(0.0, None)
    u = 1 - 2**-53  # the largest float64 that torch.rand gives
    assert drafts.draw_from(law, None) == 4 and speculative.accepts(1.0, None)


def test_expected_tokens():
    assert expected_tokens(0, 4) == 1 and expected_tokens(1, 4) == 5
    for a in (0.1, 0.5, 0.9):
        assert expected_tokens(a, 4) == pytest.approx((1 - a**5) / (1 - a))
    assert expected_tokens(1 - 1e-15, 8) == pytest.approx(9), "no cancellation near 1"
    for a, gamma in ((-0.1, 4), (1.1, 4), (math.nan, 4), (True, 4), (0.5, 0)):
        with pytest.raises(ValueError, match="a is|gamma is"):
            expected_tokens(a, gamma)


# ------------------------------------------------------------------------------------------- greedy is greedy


DRAFTS = {
    "itself": GPT,
    "another model": LLAMA,
    "early layers": EarlyExit(GPT, 1),
    "short context": Recompute(GPT, window=3),
    "lookup": LookupDraft(),
    "fixed tokens": Fixed(tokens=[3, 1, 4, 1, 5]),
    "a fixed law": Fixed(torch.full((17,), 1 / 17, dtype=torch.float64)),
}


GREEDY = {"T = 0": [Temperature(0)], "k = 1": [TopK(1)], "the general way": [Temperature(0.5), Temperature(0)]}


@pytest.mark.parametrize(("gamma", "filters"), [*zip([1, 3, 40], GREEDY.values(), strict=True)], ids=GREEDY)
@pytest.mark.parametrize("draft", DRAFTS.values(), ids=DRAFTS)
def test_greedy_output_is_greedys(draft, gamma, filters):
    for prompt, eos_id in (([3], None), ([3, 1, 4, 1, 5], 2)):
        expected = greedy(GPT, prompt, max_new_tokens=12, eos_id=eos_id)
        arguments = {"max_new_tokens": 12, "gamma": gamma, "eos_id": eos_id}
        got = speculative_decoding(GPT, draft, prompt, filters=filters, **arguments)
        assert got.tokens() == expected.tokens()
        torch.testing.assert_close(got.logprobs, expected.logprobs, rtol=0, atol=1e-5)
        assert torch.equal(got.lengths, expected.lengths) and torch.equal(got.finished, expected.finished)
        torch.testing.assert_close(got.scores, expected.scores, rtol=0, atol=1e-4)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 6))
def test_greedy_over_random_trees_and_every_gamma(seed, vocab, gamma):
    target, draft = unrelated(vocab, seed), unrelated(vocab, seed + 1)
    arguments = {"max_new_tokens": 4, "gamma": gamma, "filters": [Temperature(0)], "eos_id": 0}
    expected = greedy(target, [], max_new_tokens=4, eos_id=0).tokens()
    assert speculative_decoding(target, draft, [], **arguments).tokens() == expected


def test_greedy_in_trees_ties_to_the_lowest_id():
    for tree in (beam_trap(), unrelated(4, 3), TreeLM({}, max_length=9, default=[0.2, 0.4, 0.4])):
        vocab = tree.vocab_size
        expected = greedy(tree, [], max_new_tokens=4).tokens()
        for draft in (unrelated(vocab, 5), TreeLM({}, max_length=9, default=[1 / vocab] * vocab), tree):
            for filters in ([Temperature(0)], [lambda logits: TopK(1)(logits)]):  # the second the general way
                got = speculative_decoding(tree, draft, [], max_new_tokens=4, gamma=3, filters=filters)
                assert got.tokens() == expected


def test_with_nothing_drafted_and_one_draw_a_token_it_is_sampling():
    """The seed gives the same text as `sample`: both invert one float64 uniform a token."""
    for filters in ((), (Temperature(0.7), TopP(0.9))):
        arguments = {"max_new_tokens": 20, "filters": filters}
        drawn = speculative_decoding(GPT, Fixed(tokens=[]), [3, 1], generator=seeded(), **arguments)
        assert torch.equal(drawn.ids, sample(GPT, [3, 1], generator=seeded(), **arguments).ids)
