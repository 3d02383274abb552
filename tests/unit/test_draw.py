"""One draw, and the law of whole sequences.

Where a statement about chance can be made exact it is: the inverse of a cumulative distribution, fed with the
uniforms (i + 1/2)/N, hits a token of probability m/N exactly m times.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import arlab.decoding.sampling as sampling
from arlab.decoding import TopK, sample
from arlab.decoding.sampling import draw
from arlab.worlds import TreeLM

INF = math.inf


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def with_uniforms(monkeypatch, uniforms):
    """draw() gets these numbers, one a row, instead of random ones."""
    given_numbers = torch.tensor(uniforms, dtype=torch.float64)

    def rand(rows, columns, *, generator, device, dtype):
        assert (rows, columns, dtype) == (len(given_numbers), 1, torch.float64)
        return given_numbers[:, None]

    monkeypatch.setattr(sampling.torch, "rand", rand)


# --- one draw


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shift", [0.0, 30.0, -200.0])
def test_stratified_uniforms_hit_every_token_exactly_in_proportion(monkeypatch, dtype, shift):
    # Logits 0 and -inf alone are exact in every dtype, so the weights are made of repetitions: 1, 2, 0, 4, 1 eighths.
    logits = torch.tensor([0, 0, 0, -INF, 0, 0, 0, 0, 0, -INF], dtype=dtype) + shift
    group = torch.tensor([0, 1, 1, 2, 3, 3, 3, 3, 4, 5])
    n = 64
    with_uniforms(monkeypatch, [(i + 0.5) / n for i in range(n)])
    counts = torch.bincount(group[draw(logits.expand(n, -1))], minlength=6)
    assert counts.tolist() == [n // 8, n // 4, 0, n // 2, n // 8, 0]


@given(parts=st.lists(st.integers(0, 6), min_size=1, max_size=8).filter(any), shift=st.floats(-50, 50))
def test_any_distribution_is_hit_in_proportion(parts, shift):
    """Uniforms in the middle of N equal cells; rounding of the logarithms cannot carry one over an edge."""
    n = sum(parts)
    logits = torch.tensor([math.log(part) if part else -INF for part in parts], dtype=torch.float64) + shift
    with pytest.MonkeyPatch.context() as patch:
        with_uniforms(patch, [(i + 0.5) / n for i in range(n)])
        drawn = draw(logits.expand(n, -1))
    assert torch.bincount(drawn, minlength=len(parts)).tolist() == parts
    assert drawn.tolist() == sorted(drawn.tolist()), "tokens lie in the order of their ids"


def test_the_ends_of_the_unit_interval(monkeypatch):
    """u = 0 never falls on an impossible token at the front, u just below 1 never on one at the back."""
    logits = torch.tensor([-INF, -INF, 1.0, -INF, 1.0, -INF, -INF])
    largest = 1 - 2**-53
    with_uniforms(monkeypatch, [0.0, 5e-324, 0.5, largest, 1.0])
    assert draw(logits.expand(5, -1)).tolist() == [2, 2, 4, 4, 4]
    tiny_tail = torch.tensor([0.0, -90.0, -INF])  # exp(-90) is no change to a sum in float64
    assert draw(tiny_tail.expand(5, -1)).tolist() == [0, 0, 0, 0, 0]
    one = torch.tensor([-INF, 0.0, -INF])
    assert draw(one.expand(5, -1)).tolist() == [1] * 5
    vocabulary = torch.randn(49_152, generator=seeded()).mul(3)
    vocabulary[-100:] = -INF
    assert draw(vocabulary.expand(5, -1)).tolist()[3:] == [49_051] * 2


@given(logits=st.lists(st.sampled_from([-INF, -80.0, 0.0, 3.0]), min_size=1, max_size=9), seed=st.integers(0, 999))
def test_an_impossible_token_is_never_drawn(logits, seed):
    if max(logits) == -INF:
        with pytest.raises(ValueError, match="all are -inf"):
            draw(torch.tensor([logits]), seeded(seed))
    else:
        drawn = draw(torch.tensor([logits]).expand(20, -1), seeded(seed))
        assert all(logits[i] > -INF for i in drawn.tolist())


def test_one_uniform_a_row_and_no_more():
    """So that a row's draws do not depend on the size of the vocabulary, and a seed means the same on every machine."""
    for rows, vocab in ((1, 5), (3, 5), (3, 50_000)):
        used, reference = seeded(7), seeded(7)
        drawn = draw(torch.zeros(rows, vocab), used)
        u = torch.rand(rows, 1, generator=reference, dtype=torch.float64)
        assert torch.equal(used.get_state(), reference.get_state())
        assert drawn.tolist() == (u[:, 0] * vocab).floor().long().tolist()


def test_rows_draw_for_themselves():
    """One draw shared by all rows would give equal tokens; here 64 rows of 1,000 tokens agree with odds 1e-189."""
    drawn = draw(torch.zeros(64, 1000), seeded())
    assert len(drawn.unique()) > 1


def test_the_seed_fixes_the_draw_and_the_global_generator_serves_when_none_is_given():
    logits = torch.randn(8, 50, generator=seeded(1))
    assert torch.equal(draw(logits, seeded(3)), draw(logits, seeded(3)))
    assert not torch.equal(draw(logits, seeded(3)), draw(logits, seeded(4)))
    torch.manual_seed(3)
    assert torch.equal(draw(logits), draw(logits, seeded(3)))
    state = torch.get_rng_state()
    draw(logits, seeded(3))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (torch.zeros(5), r"logits have shape \(5,\); needed \(rows, vocab\)"),
        (torch.zeros(1, 2, 5), r"logits have shape \(1, 2, 5\)"),
        (torch.tensor([[0.0, math.nan]]), "one is NaN"),
        (torch.tensor([[0.0, 1.0], [0.0, INF]]), r"one is \+inf"),
        (torch.tensor([[0.0, 1.0], [-INF, -INF]]), "all are -inf"),
        (torch.tensor([[1, 2]]), "torch.int64"),
    ],
)
def test_draw_refuses_what_is_no_distribution_a_row(logits, message, as_shipped):
    with pytest.raises(ValueError, match=message):
        draw(logits, seeded())


# --- the law of whole sequences


def occurrences(generation, row=0):
    counts = {}
    for n in range(generation.ids.size(1)):
        tokens = tuple(generation.tokens(row, n))
        counts[tokens] = counts.get(tokens, 0) + 1
    return counts


def chi_square(counts, expected, n):
    assert set(counts) <= set(expected), "a sequence of probability 0 was drawn"
    return sum((counts.get(ids, 0) - n * p) ** 2 / (n * p) for ids, p in expected.items())


@pytest.mark.parametrize("eos_id", [None, 2])
def test_sampled_sequences_follow_the_trees_law(eos_id):
    """N = 20,000 draws; Pearson's chi-square against enumeration stays below its 1 - 1e-6 quantile.

    26 degrees of freedom without an end symbol and 14 with one: the quantiles are 75.5 and 54.6, so a right sampler
    fails once in a million seeds; the seed is fixed. (One draw shared by all rows would give 20,000 times the same.)
    """
    tree = TreeLM.random(3, 3, seeded(0), eos_id=eos_id)
    n, expected = 20_000, dict(tree.enumerate())
    assert len(expected) - 1 == (26 if eos_id is None else 14)
    generation = sample(tree, [], max_new_tokens=3, n=n, generator=seeded(1), eos_id=eos_id)
    assert chi_square(occurrences(generation), expected, n) < (75.5 if eos_id is None else 54.6)
    for k in range(50):
        assert generation.scores[0, k].item() == pytest.approx(tree.logprob(generation.tokens(0, k)), abs=1e-5)


def test_filtered_sequences_follow_the_filtered_law_and_report_the_raw_one():
    """Top-2 at every step of the tree, renormalised: 8 sequences, chi-square below 40.5 (7 degrees, 1 - 1e-6)."""
    tree, n = TreeLM.random(3, 3, seeded(5)), 20_000

    def law(prefix=(), mass=1.0):
        if len(prefix) == 3:
            return {prefix: mass}
        p = tree.distribution(prefix)
        best = sorted(range(3), key=lambda i: -p[i])[:2]
        total = sum(p[i] for i in best)
        return {ids: m for i in best for ids, m in law((*prefix, i), mass * p[i] / total).items()}

    generation = sample(tree, [], max_new_tokens=3, n=n, filters=[TopK(2)], generator=seeded(2))
    assert len(law()) == 8 and chi_square(occurrences(generation), law(), n) < 40.5
    assert generation.scores[0, 0].item() == pytest.approx(tree.logprob(generation.tokens()), abs=1e-5)
