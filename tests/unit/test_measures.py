"""Repetition and diversity: by hand, against brute force, and by their laws."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arlab.decoding.measures import agreement, distinct, diversity, loop, ngrams, repetition

texts = st.lists(st.integers(0, 3), max_size=14)
several = st.lists(texts, min_size=2, max_size=4)
ns = st.integers(1, 5)


# --- by hand


def test_ngrams_are_the_runs_of_n_neighbours():
    assert ngrams([1, 2, 3], 2) == [(1, 2), (2, 3)]
    assert ngrams([1, 2, 3], 3) == [(1, 2, 3)] and ngrams([1, 2, 3], 4) == []


@pytest.mark.parametrize(
    ("ids", "n", "expected"),
    [
        ([1, 2, 1, 2, 1], 2, 0.5),  # 12 21 12 21: two of four are new
        ([1, 2, 1, 2, 1], 1, 0.6),
        ([7] * 9, 4, 5 / 6),  # six 4-grams, one of them new
        ([1, 2, 3, 4, 5], 4, 0.0),
        ([1, 2, 3], 4, 0.0),  # too short for any
        ([], 1, 0.0),
        ([[1, 1, 1], [1, 2, 3]], 1, 1 / 3),  # the mean of 2/3 and 0
        ("so it goes and so it goes".split(), 3, 0.2),  # of five, 'so it goes' comes twice
    ],
)
def test_repetition_by_hand(ids, n, expected):
    assert repetition(ids, n) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("sequences", "n", "expected"),
    [
        ([[1, 2, 3], [1, 2, 4]], 2, 0.75),  # 12 23 12 24
        ([[1, 2, 3], [1, 2, 3]], 2, 0.5),
        ([[1, 2], [3, 4]], 2, 1.0),  # 2 is followed by nothing: texts are not joined
        ([[1], []], 2, 1.0),
        ([1, 1, 1, 1], 2, 1 / 3),  # one text
    ],
)
def test_distinct_by_hand(sequences, n, expected):
    assert distinct(sequences, n) == pytest.approx(expected, abs=1e-15)


def test_diversity_by_hand():
    # 1 2 1 2 1 2: 2-grams 2 of 5, 3-grams 2 of 4, 4-grams 2 of 3
    assert diversity([1, 2, 1, 2, 1, 2]) == pytest.approx(2 / 5 * 2 / 4 * 2 / 3)
    assert diversity([1, 2, 3, 4, 5]) == 1
    assert diversity([1] * 6) == pytest.approx(1 / 5 * 1 / 4 * 1 / 3), "5-grams do not count"
    assert diversity([[1, 2, 1, 2, 1, 2], [5]]) == pytest.approx((2 / 15 + 1) / 2)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([9, 1, 2, 1, 2], (1, 2)),
        ([9, 1, 2, 1, 2, 1], (1, 2)),  # the last round may be broken off
        ([5, 5], (0, 1)),
        ([9, 5, 5, 5, 5], (1, 1)),  # not period 2
        ([1, 2, 1, 2, 9], None),  # it must run to the end
        ([9, 1, 2, 2, 1, 2, 2], (1, 3)),  # the longest, not the '2 2' at the end
        ([1, 2, 3, 1, 2], None),  # not twice
        ([1, 2, 3], None),
        ([1], None),
        ([], None),
    ],
)
def test_loop_by_hand(ids, expected):
    assert loop(ids) == expected


def test_a_loop_may_be_asked_for_more_rounds():
    assert loop([9, 1, 2, 1, 2], times=3) is None
    assert loop([9, 1, 2, 1, 2, 1, 2], times=3) == (1, 2)


def test_agreement_by_hand():
    # 12 23 against 12 24 25: of the first one's two, one is shared; of the other's three, one
    assert agreement([[1, 2, 3], [1, 2, 4, 5]], 2) == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert agreement([[1, 2, 3]] * 3, 2) == 1 and agreement([[1, 2], [3, 4]], 2) == 0
    assert agreement([[1, 2, 3], [9]], 2) == 0  # [9] has nothing to share and is not asked
    assert agreement([[], []], 2) == 0


# --- against brute force, and laws


@given(texts, ns)
def test_repetition_counts_what_came_before(ids, n):
    places = range(len(ids) - n + 1)
    old = sum(any(ids[i : i + n] == ids[j : j + n] for j in range(i)) for i in places)
    assert repetition(ids, n) == pytest.approx(old / len(places) if places else 0, abs=1e-12)
    assert distinct(ids, n) == pytest.approx(1 - repetition(ids, n), abs=1e-12)


@given(several, ns)
def test_distinct_counts_over_all_texts(sequences, n):
    grams = [text[i : i + n] for text in sequences for i in range(len(text) - n + 1)]
    new = sum(grams.index(gram) == place for place, gram in enumerate(grams))
    assert distinct(sequences, n) == pytest.approx(new / len(grams) if grams else 1, abs=1e-12)


@given(several, ns)
def test_several_texts_are_their_mean(sequences, n):
    assert repetition(sequences, n) == pytest.approx(sum(repetition(t, n) for t in sequences) / len(sequences))
    assert diversity(sequences) == pytest.approx(sum(map(diversity, sequences)) / len(sequences))


@given(texts, st.integers(2, 4))
def test_loop_is_the_longest_of_all_that_there_are(ids, times):
    stretches = [
        (start, period)
        for start in range(len(ids))
        for period in range(1, len(ids))
        if len(ids) - start >= times * period
        and all(ids[i] == ids[i + period] for i in range(start, len(ids) - period))
    ]
    assert loop(ids, times) == min(stretches, default=None)


@given(several, ns)
def test_agreement_is_the_mean_over_ordered_pairs(sequences, n):
    shares = []
    for one, a in enumerate(sequences):
        for other, b in enumerate(sequences):
            mine = [a[i : i + n] for i in range(len(a) - n + 1)]
            theirs = [b[i : i + n] for i in range(len(b) - n + 1)]
            if one != other and mine:
                shares.append(Fraction(sum(gram in theirs for gram in mine), len(mine)))
    expected = sum(shares) / len(shares) if shares else 0
    assert agreement(sequences, n) == pytest.approx(float(expected), abs=1e-12)


@given(several, ns, st.permutations(range(4)))
def test_names_and_order_do_not_matter(sequences, n, renamed):
    others = [[renamed[i] for i in text] for text in reversed(sequences)]
    for measure in (repetition, distinct, agreement):
        assert measure(others, n) == pytest.approx(measure(sequences, n), abs=1e-12)
        assert 0 <= measure(sequences, n) <= 1
    assert diversity(others) == pytest.approx(diversity(sequences), abs=1e-12)
    assert 0 < diversity(sequences) <= 1


@given(texts.filter(len), st.integers(1, 6))
def test_a_text_that_goes_round_and_round_repeats_more(ids, rounds):
    assert repetition(ids * (rounds + 1), 2) >= repetition(ids * rounds, 2) - 1e-12
    found = loop(ids * (rounds + 1))
    assert found is not None and found[0] == 0 and len(ids) % found[1] == 0


# --- what may be given, and what may not


def test_tensors_and_arrays_serve_as_well():
    assert repetition(torch.tensor([1, 2, 1, 2, 1]), 2) == repetition(np.array([1, 2, 1, 2, 1]), 2) == 0.5
    assert repetition(torch.tensor([[1, 1, 1], [1, 2, 3]]), 1) == pytest.approx(1 / 3)
    assert repetition([torch.tensor([1, 1, 1]), np.array([1, 2, 3])], 1) == pytest.approx(1 / 3)
    assert loop(torch.tensor([3, 1, 1])) == (1, 1)
    assert distinct((torch.tensor(1), torch.tensor(1)), 1) == 0.5  # ids may be tensors of one number


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "2", None])
def test_a_bad_n_is_named(n, as_shipped):
    for measure in (ngrams, repetition, distinct):
        with pytest.raises(ValueError, match="n is .*; it must be an integer of 1 or more"):
            measure([1, 2, 3], n)
    with pytest.raises(ValueError, match="n is"):
        agreement([[1, 2], [1, 2]], n)
    with pytest.raises(ValueError, match="once is no loop"):
        loop([1, 1], times=n)


def test_one_round_is_no_loop():
    with pytest.raises(ValueError, match="times is 1"):
        loop([1, 1], times=1)


@pytest.mark.parametrize("measure", [repetition, distinct, diversity, agreement, loop])
def test_a_string_is_not_a_text(measure, as_shipped):
    with pytest.raises(TypeError, match="encode it, or split it into words"):
        measure("so it goes")


@pytest.mark.parametrize("bad", [5, None, {1, 2}])
def test_nothing_to_count_in(bad, as_shipped):
    for measure in (repetition, distinct, diversity, loop):
        with pytest.raises(TypeError, match="a text must be a sequence of ids"):
            measure(bad)


def test_one_text_where_one_is_asked_for(as_shipped):
    with pytest.raises(TypeError, match="one text was asked for; got a sequence of 2"):
        loop([[1, 1], [2, 2]])
    with pytest.raises(TypeError, match="one text was asked for"):
        repetition([[[1, 1]], [[2]]])  # a list too many


@pytest.mark.parametrize("sequences", [[], [[1, 2]], [1, 2, 3]])
def test_agreement_is_between_texts(sequences, as_shipped):
    with pytest.raises(ValueError, match="give two or more, not 1"):
        agreement(sequences)


def test_long_texts_are_quick_enough():
    ids = [i % 50 for i in range(4000)]
    assert math.isclose(repetition(ids), 1 - 50 / 3997)
    assert loop(ids) == (0, 50)
