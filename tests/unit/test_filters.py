"""Filters, by exact laws: who survives, who does not, and that nothing else changes.

The oracle of the nucleus counts in fractions, so it has no rounding of its own.
"""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arlab.decoding.filters import MinP, Temperature, TopK, TopP, apply, min_p, stages, temperature, top_k, top_p
from arlab.worlds import rank_flip

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
INF = math.inf

# Few distinct values make many ties; whole numbers and halves are exact in every dtype.
values = st.one_of(st.sampled_from([-INF, -3.0, 0.0, 0.5, 0.5, 1.0, 2.0]), st.integers(-14, 14).map(lambda n: n / 2))
rows = st.lists(values, min_size=1, max_size=12).filter(lambda row: max(row) > -INF)


@st.composite
def batches(draw):
    """(..., vocab) logits of up to three dimensions, each row with at least one finite entry."""
    vocab, shape = draw(st.integers(1, 9)), draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
    one = st.lists(values, min_size=vocab, max_size=vocab).filter(lambda row: max(row) > -INF)
    return torch.tensor([draw(one) for _ in range(math.prod(shape))]).view(*shape, vocab)


def survivors(logits):
    return {i for i, logit in enumerate(logits.tolist()) if logit > -INF}


def ranking(row):
    """Ids, most probable first, the lowest id first among equals."""
    return sorted(range(len(row)), key=lambda i: (-row[i], i))


def nucleus(masses, p):
    """The smallest set of most probable ids whose mass reaches p, counted in fractions."""
    kept, before, total = set(), Fraction(0), sum(masses)
    for i in ranking(masses):
        if before >= p * total:
            break
        kept.add(i)
        before += masses[i]
    return kept


def exact_masses(row):
    """exp(logit - peak) in float32, as the filters take it; every float32 number is a fraction."""
    z = torch.tensor(row)
    return [Fraction(m) for m in (z - z.max()).exp().tolist()]


# --- each filter against its definition


@given(row=rows, k=st.integers(1, 14))
def test_top_k_keeps_exactly_the_first_k_of_the_ranking(row, k):
    """`logits < kth` keeps every token tied with the k-th: with [2, 1, 1, 0] and k = 2 it keeps three."""
    finite = [i for i in ranking(row) if row[i] > -INF]
    assert survivors(top_k(torch.tensor(row), k)) == set(finite[:k])


def test_top_k_by_hand():
    assert survivors(top_k(torch.tensor([2.0, 1.0, 1.0, 0.0]), 2)) == {0, 1}
    assert survivors(top_k(torch.zeros(6), 4)) == {0, 1, 2, 3}
    assert survivors(top_k(torch.tensor([0.0, 5.0]), 99)) == {0, 1}


@given(row=rows, p=st.integers(1, 63).map(lambda n: n / 64))
def test_top_p_is_the_smallest_set_that_reaches_p(row, p):
    masses = exact_masses(row)
    kept = survivors(top_p(torch.tensor(row), p))
    assert kept == nucleus(masses, Fraction(p))
    total, mass = sum(masses), sum(masses[i] for i in kept)
    assert mass >= Fraction(p) * total, "the nucleus must reach p"
    last = ranking(row)[len(kept) - 1]
    assert kept == set(ranking(row)[: len(kept)]) and mass - masses[last] < Fraction(p) * total, "and be minimal"


@st.composite
def dyadic(draw):
    """Probabilities that are powers of 1/2 and sum to 1: halve a random one, again and again."""
    parts = [Fraction(1)]
    for _ in range(draw(st.integers(0, 9))):
        half = parts.pop(draw(st.integers(0, len(parts) - 1))) / 2
        parts += [half, half]
    return draw(st.permutations(parts))


@given(parts=dyadic(), p=st.integers(1, 511).map(lambda n: Fraction(n, 512)))
@settings(max_examples=300)
def test_top_p_on_dyadic_probabilities(parts, p):
    """The boundary itself: cumulative masses that hit p exactly, from logits that are logarithms and so are rounded."""
    logits = torch.tensor([math.log(part) for part in parts])
    assert survivors(top_p(logits, float(p))) == nucleus(parts, p)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("p", "size"), [(0.5, 1), (0.51, 2), (0.6, 2), (0.75, 2), (0.76, 3), (0.875, 3), (0.9, 4)])
def test_top_p_keeps_one_at_exactly_a_half(p, size, dtype):
    """[.5, .25, .125, .125]: the paper's set at p = .5 is one token, where "just exceeds p" would take two."""
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=dtype).log()
    assert survivors(top_p(logits, p)) == set(range(size))


def test_top_p_takes_the_lowest_ids_among_equals():
    assert survivors(top_p(torch.zeros(8), 0.5)) == {0, 1, 2, 3}
    assert survivors(top_p(torch.tensor([0.0, 3.0, 0.0, 3.0]), 0.9)) == {1, 3}
    assert survivors(top_p(torch.tensor([-INF, 1.0, 1.0]), 0.5)) == {1}


@given(row=rows, p=st.floats(1e-300, 1.0))
def test_top_p_keeps_at_least_one_and_never_an_impossible_one(row, p):
    kept = survivors(top_p(torch.tensor(row), p))
    assert kept and kept <= survivors(torch.tensor(row)) and ranking(row)[0] in kept


def test_top_p_counts_a_long_tail_in_float64():
    """At p = .99 over a real vocabulary's size, a running sum in float32 stops hundreds of tokens off."""
    z = torch.randn(49_152, generator=torch.Generator().manual_seed(0)).mul(0.5).sort(descending=True).values
    masses = [Fraction(m) for m in (z - z[0]).exp().tolist()]
    total, mass, size = sum(masses), Fraction(0), 0
    while mass < Fraction(0.99) * total:
        mass += masses[size]
        size += 1
    assert len(survivors(top_p(z, 0.99))) == size


@given(row=rows, p=st.sampled_from([2.0**-20, 0.05, 0.1, 0.25, 0.5, 0.9, 1.0]))
def test_min_p_keeps_what_is_at_least_p_times_the_peak(row, p):
    ratios = (torch.tensor(row) - max(row)).exp()
    assert survivors(min_p(torch.tensor(row), p)) == {i for i, r in enumerate(ratios.tolist()) if r >= torch.tensor(p)}


def test_min_p_by_hand():
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    assert [len(survivors(min_p(logits, p))) for p in (0.2, 0.25, 0.26, 0.5, 0.51, 1.0)] == [4, 4, 2, 2, 1, 1]
    assert survivors(min_p(torch.tensor([1.0, 0.0, 1.0]), 1.0)) == {0, 2}, "p = 1 keeps every token at the peak"


@given(row=rows, t=st.sampled_from([0.125, 0.25, 0.5, 1.0, 2.0, 8.0]))
def test_temperature_divides(row, t):
    assert temperature(torch.tensor(row), t).tolist() == [logit / t for logit in row]


@given(logits=batches())
def test_temperature_zero_is_argmax_and_the_lowest_id_wins(logits):
    cold = temperature(logits, 0)
    for row, kept in zip(logits.view(-1, logits.size(-1)).tolist(), cold.view(-1, logits.size(-1)), strict=True):
        assert survivors(kept) == {ranking(row)[0]}
        assert kept.max() == max(row)


@given(row=rows, t=st.one_of(st.floats(5e-324, 1e-2), st.floats(1e20, 1.7e308), st.sampled_from([5e-324, 1e39])))
def test_extreme_temperatures_give_no_nan(row, t):
    for dtype in DTYPES:
        logits = torch.tensor(row, dtype=dtype) * 3
        probabilities = temperature(logits, t).double().softmax(-1)
        assert probabilities.isfinite().all() and probabilities.sum().item() == pytest.approx(1)
        best = logits == logits.max()
        if t < 1e-2:  # a gap of 1.5 is then 150 or more: nothing is left for the others
            assert torch.allclose(probabilities, best.double() / best.sum(), atol=1e-12)
        else:
            finite = logits > -INF
            assert torch.allclose(probabilities, finite.double() / finite.sum(), atol=1e-12)


def test_float16_logits_do_not_overflow_at_a_low_temperature():
    """100 / .001 is beyond float16: +inf, and the next filter would see no distribution."""
    logits = torch.tensor([100.0, 99.9375, 0.0], dtype=torch.float16)
    for t in (1e-3, 0.01, 0.5, 2.0):
        expected = (logits.double() / t).softmax(-1)
        torch.testing.assert_close(temperature(logits, t).double().softmax(-1), expected, rtol=0, atol=1e-2)


def entropy(logits):
    return torch.special.entr(logits.double().softmax(-1)).sum(-1)


@given(row=rows, low=st.floats(0.01, 10), factor=st.floats(1.0, 100))
def test_entropy_grows_with_temperature(row, low, factor):
    logits = torch.tensor(row, dtype=torch.float64)
    assert entropy(temperature(logits, low * factor)) >= entropy(temperature(logits, low)) - 1e-9


@given(row=rows, t=st.floats(0.01, 100))
def test_temperature_never_changes_the_ranking_of_tokens(row, t):
    assert ranking(temperature(torch.tensor(row), t).tolist()) == ranking(row)


def test_but_it_can_change_the_ranking_of_sequences():
    """A then one of ten at .1, or B then C for certain: B's sequence is the likeliest at T = 1, A's first at T = .1."""
    tree = rank_flip()

    def probabilities(t):
        def tempered(prefix):
            return temperature(torch.tensor(tree.distribution(prefix), dtype=torch.float64).log(), t).softmax(-1)

        return {ids: (tempered(())[ids[0]] * tempered(ids[:1])[ids[1]]).item() for ids, _ in tree.enumerate()}

    warm, cold = probabilities(1.0), probabilities(0.1)
    assert max(warm, key=warm.get) == (1, 0)
    assert (warm[1, 0], warm[0, 0]) == (pytest.approx(0.4), pytest.approx(0.06))
    assert cold[0, 0] == pytest.approx(0.098, abs=5e-4) and cold[1, 0] == pytest.approx(0.017, abs=5e-4)
    assert cold[0, 0] > cold[1, 0]


# --- what all filters have in common

FILTERS = [Temperature(0), Temperature(1e-9), Temperature(0.7), Temperature(3), TopK(1), TopK(3), TopK(99)]
FILTERS += [TopP(1e-9), TopP(0.5), TopP(0.9), TopP(1.0), MinP(1e-9), MinP(0.1), MinP(1.0)]
every_filter = pytest.mark.parametrize("filter_", FILTERS, ids=repr)


@every_filter
@given(logits=batches())
@settings(max_examples=30)
def test_shape_dtype_and_input(filter_, logits):
    for dtype in DTYPES:
        given_logits = logits.to(dtype)
        before = given_logits.clone()
        after = filter_(given_logits)
        assert torch.equal(given_logits, before), "the input is untouched"
        assert after.shape == logits.shape and after.dtype == dtype and not after.isnan().any()
        assert after.data_ptr() != given_logits.data_ptr(), "an identity hands out a copy, not the input itself"
        assert (after.amax(-1) > -INF).all(), "at least one token is left"
        assert (after[given_logits == -INF] == -INF).all(), "an impossible token stays impossible"
        if not isinstance(filter_, Temperature):
            kept = after > -INF
            assert torch.equal(after[kept], given_logits[kept]), "kept logits are unchanged"


@every_filter
@given(logits=batches())
@settings(max_examples=20)
def test_rows_are_filtered_one_by_one(filter_, logits):
    flat = logits.reshape(-1, logits.size(-1))
    alone = torch.stack([filter_(row) for row in flat]).view(logits.shape)
    assert torch.equal(filter_(logits), alone)


@every_filter
def test_gradients_reach_the_kept_logits_alone(filter_):
    logits = torch.tensor([1.0, 3.0, 2.0, 0.0], requires_grad=True)
    after = filter_(logits)
    kept = after > -INF
    gradient = torch.autograd.grad(after[kept].sum(), logits)[0]
    assert gradient.isfinite().all() and (gradient[~kept] == 0).all() and (gradient[kept] != 0).any()


@every_dtype
def test_not_contiguous_logits(dtype):
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    for filter_ in FILTERS:
        assert torch.equal(filter_(logits.T), filter_(logits.T.contiguous()))


def test_identities():
    logits = torch.tensor([[0.0, -INF, 2.0], [1.0, 1.0, -40.0]])
    for filter_ in (Temperature(1.0), TopK(3), TopK(10**9), TopP(1.0), TopP(1)):
        assert torch.equal(filter_(logits), logits)


def test_filters_are_applied_in_the_order_written():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    hot_first, cut_first = [Temperature(4.0), TopP(0.7)], [TopP(0.7), Temperature(4.0)]
    assert survivors(apply(hot_first, logits)) == {0, 1, 2}
    assert survivors(apply(cut_first, logits)) == {0, 1}
    assert apply((), logits) is logits
    seen = stages(hot_first, logits)
    assert [filter_ for filter_, _ in seen] == hot_first
    assert torch.equal(seen[0][1], temperature(logits, 4.0))
    assert torch.equal(seen[1][1], apply(hot_first, logits))


def test_filters_have_names_and_values():
    assert repr(TopP(0.9)) == "TopP(p=0.9)" and TopK(5) == TopK(5) and hash(MinP(0.1)) == hash(MinP(0.1))
    with pytest.raises(AttributeError):
        TopK(5).k = 6


# --- bad input

BAD_SETTINGS = [
    *((Temperature, temperature, t, r"temperature is .*; it must be a finite number of 0 or more") for t in (-0.1, -1)),
    *((Temperature, temperature, t, "temperature is") for t in (math.nan, INF, -INF, "1", None, True)),
    *((TopK, top_k, k, f"k is {k!r}; it must be an integer of 1 or more") for k in (0, -1, 2.0, True, None, math.nan)),
    *((TopP, top_p, p, rf"p is {p!r}; it must lie in \(0, 1\]") for p in (0, 0.0, -0.1, 1.0001, math.nan, INF, True)),
    *((MinP, min_p, p, rf"p is {p!r}; it must lie in \(0, 1\]") for p in (0.0, -1, 2, math.nan, None, "0.5")),
]


@pytest.mark.parametrize(("cls", "function", "value", "message"), BAD_SETTINGS)
def test_bad_settings_are_named_at_construction_and_at_the_call(cls, function, value, message, as_shipped):
    with pytest.raises(ValueError, match=message):
        cls(value)
    with pytest.raises(ValueError, match=message):
        function(torch.zeros(3), value)


@pytest.mark.parametrize("filter_", [Temperature(0), Temperature(2), TopK(2), TopK(9), TopP(0.5), TopP(1), MinP(0.1)])
@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (torch.tensor([0.0, math.nan, 1.0]), "one is NaN"),
        (torch.tensor([0.0, INF, 1.0]), r"one is \+inf"),
        (torch.full((3,), -INF), "all are -inf: no token is possible"),
        (torch.tensor([[0.0, 1.0], [-INF, -INF]]), "all are -inf"),
        (torch.tensor([[0.0, 1.0], [math.nan, 0.0]]), "one is NaN"),
        (torch.tensor([[INF, 1.0], [-INF, -INF]]), r"one is \+inf"),
        (torch.tensor([1, 2, 3]), r"floating-point tensor \(\.\.\., vocab\); got shape \(3,\), torch.int64"),
        (torch.tensor([True, False]), "torch.bool"),
        (torch.tensor(1.0), r"got shape \(\)"),
        (torch.empty(2, 0), r"got shape \(2, 0\)"),
        ([1.0, 2.0], "got list"),
    ],
)
def test_logits_that_are_no_distribution(filter_, logits, message, as_shipped):
    with pytest.raises(ValueError, match=message):
        filter_(logits)


def test_many_large_float16_peaks_are_still_a_distribution():
    """The check looks at one sum of all peaks: in float16 that sum itself would be infinite."""
    logits = torch.full((4, 3), 60_000.0, dtype=torch.float16)
    assert torch.equal(top_k(logits, 3), logits)
