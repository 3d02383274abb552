"""Enumerable worlds: every sequence, its exact probability, and the numbers that the course quotes."""

import math

import pytest
import torch

from arlab.decoding import greedy, sample
from arlab.nn.language_model import LanguageModel
from arlab.worlds import TreeLM, beam_trap, rank_flip

WITH_END = {(): [0.5, 0.25, 0.25], (0,): [0.0, 0.5, 0.5], (1,): [1.0, 0.0, 0.0], (0, 1): [0.25, 0.75, 0.0]}


def random_tree(seed, eos_id=None):
    return TreeLM.random(3, 4, torch.Generator().manual_seed(seed), eos_id=eos_id, sharp=2.0)


@pytest.mark.parametrize("eos_id", [None, 0, 2])
@pytest.mark.parametrize("seed", [0, 1])
def test_enumeration_is_a_distribution_over_complete_sequences(seed, eos_id):
    tree = random_tree(seed, eos_id)
    sequences = tree.enumerate()
    assert math.fsum(p for _, p in sequences) == pytest.approx(1, abs=1e-12)
    assert [p for _, p in sequences] == sorted((p for _, p in sequences), reverse=True)
    assert len({ids for ids, _ in sequences}) == len(sequences)
    for ids, p in sequences:
        assert math.log(p) == pytest.approx(tree.logprob(ids), abs=1e-12)
        assert len(ids) == 4 or ids[-1] == eos_id
        assert eos_id not in ids[:-1]
    assert len(sequences) == (3**4 if eos_id is None else 1 + 2 + 4 + 8 * 3)


def test_enumeration_by_hand():
    tree = TreeLM(WITH_END, max_length=3, eos_id=2, default=[0.0, 0.0, 1.0])
    assert dict(tree.enumerate()) == {
        (0, 1, 1): 0.1875,
        (0, 1, 0): 0.0625,
        (0, 2): 0.25,
        (1, 0, 2): 0.25,
        (2,): 0.25,
    }
    assert tree.logprob((0, 0)) == -math.inf and tree.logprob(()) == 0


def test_the_trap_in_which_a_wider_beam_loses():
    """Greedy .187, beam 2 .0765, beam 3 .187: each found here by hand, over the enumeration."""
    tree = beam_trap()
    probability = dict(tree.enumerate())
    assert math.fsum(probability.values()) == pytest.approx(1)
    assert tree.names == ["A", "B", "C"]

    path = greedy(tree, [], max_new_tokens=3).tokens()
    assert path == [0, 0, 0] and probability[tuple(path)] == pytest.approx(0.187)

    def beam(width):
        beams = [((), 1.0)]
        for _ in range(3):
            grown = [((*ids, i), p * q) for ids, p in beams for i, q in enumerate(tree.distribution(ids))]
            beams = sorted(grown, key=lambda item: -item[1])[:width]
        return beams[0]

    assert beam(1) == ((0, 0, 0), pytest.approx(0.187))
    assert beam(2)[1] == pytest.approx(0.0765) and beam(2)[0][0] == 1
    assert beam(3) == ((0, 0, 0), pytest.approx(0.187))
    assert max(probability.values()) == pytest.approx(0.187)


def test_the_tree_in_which_temperature_flips_the_ranks():
    tree = rank_flip()
    sequences = tree.enumerate()
    assert sequences[0] == ((1, 0), pytest.approx(0.4)) and len(sequences) == 11
    assert all(p == pytest.approx(0.06) for ids, p in sequences[1:])
    # At T = .1 the first step becomes .6^10 : .4^10 and the ten equal children stay equal.
    a, b = 0.6**10, 0.4**10
    assert a / (a + b) / 10 == pytest.approx(0.098, abs=5e-4) and b / (a + b) == pytest.approx(0.017, abs=5e-4)


@pytest.mark.parametrize("eos_id", [None, 1])
def test_the_model_gives_the_tables_distributions(eos_id):
    tree = random_tree(3, eos_id)
    assert isinstance(tree, LanguageModel)
    ids = torch.tensor([[tree.bos_id, 0, 2, 2], [tree.bos_id, 2, 0, 0]])
    logits = tree(ids)
    assert logits.shape == (2, 4, 3) and logits.dtype == torch.float64
    for row in range(2):
        for t in range(4):
            expected = tree.distribution(tuple(ids[row, 1 : t + 1].tolist()))
            torch.testing.assert_close(logits[row, t].exp(), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(tree(ids[:, 1:]), logits[:, 1:])  # the start symbol may be left away


def test_beyond_the_end_it_repeats_the_end_or_is_uniform():
    tree = TreeLM(WITH_END, max_length=3, eos_id=2, default=[0.0, 0.0, 1.0])
    assert tree(torch.tensor([[2, 0, 0]]))[0].exp().tolist() == [[0, 0, 1]] * 3
    endless = random_tree(0)
    torch.testing.assert_close(endless(torch.tensor([[0, 0, 0, 0]]))[0, -1].exp(), torch.full((3,), 1 / 3).double())


def test_ragged_prompts_need_no_distribution_for_their_padding():
    """A ragged batch is run right-padded: what stands in the padding must not be looked up in the table."""
    table = {(): [0.5, 0.5], (0,): [0.0, 1.0], (0, 1): [1.0, 0.0], (1,): [0.25, 0.75]}
    tree = TreeLM(table, max_length=3)
    with pytest.raises(KeyError, match=r"no distribution for the prefix \(0, 0\)"):
        tree(torch.tensor([[0, 0]]))
    generation = greedy(tree, [[0], [0, 1], []], max_new_tokens=1)
    assert [generation.tokens(row) for row in range(3)] == [[1], [0], [0]]
    assert sample(tree, [[], [1]], max_new_tokens=1, generator=torch.Generator().manual_seed(0)).ids.shape == (2, 1, 1)


BAD_TREES = [
    ({}, {}, r"no entry for the empty prefix \(\) and no default"),
    ({(): [0.5, 0.6]}, {}, r"after \(\) the probabilities are \[0.5, 0.6\]; they must be 0 or more and sum to 1"),
    ({(): [1.5, -0.5]}, {}, r"\[1.5, -0.5\]; they must be 0 or more"),
    ({(): [math.nan, 1.0]}, {}, r"\[nan, 1.0\]; they must be"),
    ({(): [math.inf, 0.0]}, {}, r"\[inf, 0.0\]; they must be"),
    ({(): []}, {}, r"the probabilities are \[\]"),
    ({(): [1.0], (0,): [0.5, 0.5]}, {}, r"the distributions have sizes \[1, 2\]"),
    ({(): [0.5, 0.5]}, {"default": [1.0]}, r"the distributions have sizes \[1, 2\]"),
    ({(): [0.5, 0.5]}, {"eos_id": 2}, "eos_id is 2; it must lie between 0 and 1"),
    ({(): [0.5, 0.5]}, {"names": ["a"]}, "there are 1 names for 2 tokens"),
    ({(): [0.5, 0.5]}, {"max_length": 0}, "max_length is 0; it must be 1 or more"),
]


@pytest.mark.parametrize(("table", "options", "message"), BAD_TREES)
def test_a_table_that_is_no_language_model(table, options, message):
    with pytest.raises(ValueError, match=message):
        TreeLM(table, **{"max_length": 2, **options})


def test_nothing_follows_the_end_of_a_sequence():
    assert beam_trap().logprob([0, 0, 0, 1]) == -math.inf  # its sequences have three tokens
    ended = TreeLM({(): [0.5, 0.5]}, max_length=3, eos_id=1, default=[0.5, 0.5])
    assert ended.logprob([0, 1]) == 2 * math.log(0.5)
    assert ended.logprob([1, 0]) == -math.inf


def test_ids_that_the_tree_does_not_have(as_shipped):
    tree = beam_trap()
    for ids in ([0, -1], [0, 3]):  # Python would have read -1 as the last token
        with pytest.raises(ValueError, match=rf"ids\[1\] is {ids[1]}; ids must lie between 0 and 2"):
            tree.logprob(ids)
    with pytest.raises(ValueError, match=r"ids\[0, 1\] is 4; ids must lie between 0 and 3"):
        tree(torch.tensor([[0, 4]]))
    with pytest.raises(ValueError, match=r"ids\[0, 0\] is -1"):
        tree.last_logits(torch.tensor([[-1]]))
    with pytest.raises(TypeError, match="must be an integer tensor; got torch.float32"):
        tree(torch.tensor([[0.0]]))
