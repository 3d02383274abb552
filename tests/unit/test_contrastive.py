"""Contrastive decoding: the score by hand, the search against enumeration, and what goes wrong without care."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arlab.decoding import (
    ContrastiveScorer,
    beam_search,
    contrastive_decoding,
    contrastive_score,
    contrastive_steps,
    greedy,
)
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import Recompute
from arlab.worlds import TreeLM


def logs(*rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).log()


def world(seed: int, length: int = 3, eos: int | None = None) -> TreeLM:
    return TreeLM.random(3, length, torch.Generator().manual_seed(seed), eos_id=eos, sharp=1.5)


def by_hand(strong: TreeLM, weak: TreeLM, ids, alpha) -> float:
    """The sum of the scores of a sequence; -inf where one of its tokens was not plausible."""
    total = 0.0
    for t, token in enumerate(ids):
        p, q = strong.distribution(ids[:t]), weak.distribution(ids[:t])
        if p[token] < alpha * max(p):
            return -math.inf
        total += math.log(p[token]) - math.log(q[token])
    return total


# ------------------------------------------------------------------------------------------------- the score


def test_the_score_by_hand():
    p, q = [0.5, 0.3, 0.15, 0.05], [0.7, 0.1, 0.1, 0.1]
    score = contrastive_score(logs(p), logs(q), alpha=0.3)[0]
    assert score[:3].tolist() == pytest.approx([math.log(a / b) for a, b in zip(p[:3], q[:3], strict=True)])
    assert score[3] == -torch.inf, ".05 is below .3 * .5"


def test_the_threshold_is_relative_to_the_strong_model_s_maximum():
    p, q = logs([0.04] * 25), logs([0.96 / 24] * 24 + [0.04])
    assert (contrastive_score(p, q, alpha=0.1) > -torch.inf).all(), "a flat distribution is plausible throughout"


def test_a_token_exactly_at_the_threshold_is_kept():
    strong = torch.tensor([0.0, math.log(0.25), math.log(0.25) - 1e-3])
    assert (contrastive_score(strong, torch.zeros(3), alpha=0.25) > -torch.inf).tolist() == [True, True, False]


def test_without_the_guard_an_absurd_token_wins():
    strong, weak = logs([0.9, 0.0999, 1e-4]), logs([0.89, 0.11 - 1e-8, 1e-8])
    assert contrastive_score(strong, weak, alpha=None).argmax() == 2
    assert contrastive_score(strong, weak, alpha=0.1).argmax() == 0


def test_zero_probabilities_give_no_nan_and_keep_their_order():
    strong, weak = logs([0.5, 0.3, 0.2, 0.0, 0.0]), logs([1.0, 0.0, 0.0, 0.0, 0.0])
    for alpha in (0.1, None):
        score = contrastive_score(strong, weak, alpha)[0]
        assert not score.isnan().any() and (score < torch.inf).all()
        assert (score[3:] == -torch.inf).all(), "what the strong model rules out stays out"
        assert score.argmax() == 1, "among tokens new to the weak model the strong one decides"


def test_the_score_is_not_renormalised():
    """Two beams, equally good so far: a softmax over the plausible set would turn round which is better."""
    first = contrastive_score(logs([0.5, 0.5, 0.0]), logs([0.25, 0.25, 0.5]), alpha=0.1)
    second = contrastive_score(logs([0.98, 0.01, 0.01]), logs([0.7, 0.15, 0.15]), alpha=0.1)
    assert first.max() > second.max()
    assert first.log_softmax(-1).max() < second.log_softmax(-1).max()


@given(st.integers(0, 10_000), st.floats(0.01, 1.0))
def test_the_score_does_not_mind_constants_in_the_logits(seed, alpha):
    g = torch.Generator().manual_seed(seed)
    strong, weak = torch.randn(2, 50, generator=g, dtype=torch.float64), torch.randn(2, 50, generator=g).double()
    torch.testing.assert_close(
        contrastive_score(strong + 7, weak - 3, alpha), contrastive_score(strong, weak, alpha), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("alpha", [0, -0.1, 1.1, math.nan, True, "0.1"])
def test_an_alpha_outside_its_range_is_refused(alpha, as_shipped):
    with pytest.raises(ValueError, match="alpha is"):
        contrastive_score(torch.zeros(3), torch.zeros(3), alpha)
    with pytest.raises(ValueError, match="alpha is"):
        contrastive_steps(world(0), world(1), [3], max_new_tokens=1, alpha=alpha)


def test_other_bad_input(as_shipped):
    with pytest.raises(ValueError, match="shapes"):
        contrastive_score(torch.zeros(1, 3), torch.zeros(3))
    with pytest.raises(ValueError, match="NaN"):
        contrastive_score(torch.zeros(3), torch.full((3,), torch.nan))
    other = TreeLM({}, max_length=2, default=[0.5, 0.5])
    with pytest.raises(ValueError, match="the strong model has 3 tokens, the weak model has 2"):
        contrastive_decoding(world(0), other, [3], max_new_tokens=1)
    with pytest.raises(ValueError, match="n is 2 and beams 1"):
        contrastive_decoding(world(0), world(1), [3], max_new_tokens=1, n=2)
    with pytest.raises(ValueError, match="max_new_tokens is 0"):
        contrastive_decoding(world(0), world(1), [3], max_new_tokens=0)
    for options, message in (
        ({"beams": 1.0}, "beams is 1.0"),
        ({"beams": True}, "beams is True"),
        ({"beams": 0}, "beams is 0"),
        ({"length_penalty": "1"}, "length_penalty is '1'"),
    ):
        with pytest.raises(ValueError, match=message):  # with one beam too, which has no use for the penalty
            contrastive_decoding(world(0), world(1), [3], max_new_tokens=1, **options)


# ------------------------------------------------------------------------------------------------- decoding


@given(st.integers(0, 10_000), st.sampled_from([0.1, 0.4, 1.0]))
def test_an_exhaustive_contrastive_beam_finds_the_best_sum(seed, alpha):
    strong, weak = world(seed), world(seed + 1)
    best = max(by_hand(strong, weak, ids, alpha) for ids in itertools.product(range(3), repeat=3))
    found = contrastive_decoding(
        strong, weak, [strong.bos_id], max_new_tokens=3, alpha=alpha, beams=27, length_penalty=0
    )
    assert float(found.scores) == pytest.approx(best)
    assert by_hand(strong, weak, tuple(found.tokens()), alpha) == pytest.approx(best)
    assert float(found.logprobs.sum()) == pytest.approx(strong.logprob(found.tokens()))


@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.3, None]))
def test_one_beam_takes_the_best_score_at_every_step(seed, alpha):
    strong, weak = world(seed), world(seed + 1)
    ids: list[int] = []
    for _ in range(3):
        scores = contrastive_score(logs(strong.distribution(ids)), logs(weak.distribution(ids)), alpha)
        ids.append(int(scores.argmax()))
    found = contrastive_decoding(strong, weak, [strong.bos_id], max_new_tokens=3, alpha=alpha)
    assert found.tokens() == ids
    assert float(found.scores) == pytest.approx(by_hand(strong, weak, tuple(ids), 0.0))
    assert float(found.logprobs.sum()) == pytest.approx(strong.logprob(ids))


def test_alpha_1_is_the_strong_model_s_argmax():
    for seed in range(20):
        strong, weak = world(seed), world(seed + 100)
        expected = greedy(strong, [3], max_new_tokens=3).tokens()
        assert contrastive_decoding(strong, weak, [3], max_new_tokens=3, alpha=1.0).tokens() == expected


def test_against_itself_every_plausible_token_scores_0():
    tree = world(3)
    step = next(contrastive_steps(tree, tree, [3], max_new_tokens=1, alpha=1e-6))
    assert step.scores.abs().max() == 0


def test_rows_end_separately_and_their_scores_stop():
    strong, weak = world(11, length=6, eos=0), world(12, length=6, eos=0)
    prompts = [[3], [3, 1], [3, 2, 2], [3, 1, 2], [3, 2], [3, 1, 1]]
    together = contrastive_decoding(strong, weak, prompts, max_new_tokens=3, alpha=0.05, eos_id=0)
    assert len(set(together.lengths[:, 0].tolist())) > 1, "some row must wait for another"
    for row, prompt in enumerate(prompts):
        alone = contrastive_decoding(strong, weak, prompt, max_new_tokens=3, alpha=0.05, eos_id=0)
        assert together.tokens(row) == alone.tokens()
        assert float(together.scores[row, 0]) == pytest.approx(float(alone.scores))
        assert float(together.logprobs[row].sum()) == pytest.approx(float(alone.logprobs.sum()))


def test_a_beam_goes_on_where_later_scores_may_be_positive():
    """The end symbol scores 0 at once; the other way 0, and then log 2: no bound of 0 may stop the search."""
    strong = TreeLM({(): [0.5, 0.5], (0,): [0.5, 0.5]}, max_length=2, eos_id=1)
    weak = TreeLM({(): [0.5, 0.5], (0,): [0.75, 0.25]}, max_length=2, eos_id=1)
    found = contrastive_decoding(strong, weak, [2], max_new_tokens=2, beams=2, length_penalty=0, eos_id=1)
    assert found.tokens() == [0, 1] and float(found.scores) == pytest.approx(math.log(2))


@pytest.fixture(scope="module")
def models() -> tuple[DecoderLM, DecoderLM]:
    config = DecoderConfig.llama(vocab_size=19, context_length=48, d_model=32, layers=2, heads=2, d_ff=64)
    return DecoderLM(config, seed=1).eval(), DecoderLM(config, seed=2).eval()


@pytest.mark.parametrize("beams", [1, 3])
def test_the_caches_change_nothing(models, beams):
    cached = contrastive_decoding(*models, [[1, 2, 3], [4, 5]], max_new_tokens=8, beams=beams)
    plain = contrastive_decoding(*map(Recompute, models), [[1, 2, 3], [4, 5]], max_new_tokens=8, beams=beams)
    assert torch.equal(cached.ids, plain.ids)
    torch.testing.assert_close(cached.scores, plain.scores, atol=1e-5, rtol=1e-5)


def test_a_weak_model_with_a_short_context_reads_its_last_tokens_alone(models):
    strong, _ = models
    weak = Recompute(strong, window=4)
    prompt = [1, 2, 3, 4, 5, 6]
    for step in contrastive_steps(strong, weak, prompt, max_new_tokens=5):
        text = prompt[-4:]
        with torch.no_grad():
            expected = strong(torch.tensor([text]))[:, -1]
        torch.testing.assert_close(step.weak, expected, atol=1e-5, rtol=1e-5)
        prompt = [*prompt, int(step.chosen)]


def test_a_truncated_cache_has_not_forgotten(models):
    """Why the short context re-encodes: what is left in a cut cache has already seen what was cut off."""
    strong, _ = models
    ids = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8]])
    with torch.no_grad():
        cache = strong.new_cache(1, 16)
        strong(ids, cache)
        keys = cache.k[-1, :, :, 4:8]  # the last layer's keys of the last four tokens
        alone = strong.new_cache(1, 16)
        strong(ids[:, 4:], alone)
    assert (keys - alone.k[-1, :, :, :4]).abs().max() > 1e-3


def test_a_kept_step_is_a_copy(models):
    steps = contrastive_steps(*models, [1, 2], max_new_tokens=3, alpha=0.3)
    kept = [step.keep(top=5) for step in steps]
    assert [k.ids.shape for k in kept] == [(1, 5)] * 3
    for k in kept:
        assert torch.equal(k.strong_logprobs.sort(descending=True).values, k.strong_logprobs)
        shown = k.scores > -torch.inf
        torch.testing.assert_close((k.strong_logprobs - k.weak_logprobs)[shown], k.scores[shown])
        assert int(k.survivors) >= int(shown.sum()) >= 1
    with pytest.raises(ValueError, match="top is 0"):
        next(contrastive_steps(*models, [1, 2], max_new_tokens=1)).keep(top=0)


def test_the_beam_scorer_is_the_same_score(models):
    by_name = contrastive_decoding(*models, [1, 2], max_new_tokens=6, beams=3, n=2, alpha=0.2)
    by_scorer = beam_search(ContrastiveScorer(*models, 0.2), [1, 2], max_new_tokens=6, beams=3, n=2)
    assert torch.equal(by_name.ids, by_scorer.ids) and torch.equal(by_name.scores, by_scorer.scores)
