"""Sums as text: both orders say the same number, only answers are asked for, and carries are counted as by hand."""

import itertools

import pytest
import torch

from arlab.text.addition import Addition
from arlab.text.batches import IGNORE


def text(task, ids):
    return task.tokenizer.decode(ids)


def test_23_and_45_in_both_orders():
    forward, backward = Addition(2), Addition(2, reversed=True)
    assert text(forward, forward.encode(23, 45)) == text(backward, backward.encode(23, 45)) == "23+45="
    assert text(forward, forward.answer(23, 45)) == "068"
    assert text(backward, backward.answer(23, 45)) == "860"
    assert forward.places == (2, 1, 0) and backward.places == (0, 1, 2)
    assert forward.length == forward.prompt_length + forward.answer_length == 9


@pytest.mark.parametrize("reversed", [False, True])
def test_every_answer_is_read_back(reversed):
    task = Addition(2, reversed=reversed)
    for a, b in itertools.product(range(100), repeat=2):
        ids = task.answer(a, b)
        assert task.decode(ids) == a + b
        for place, i in zip(task.places, ids, strict=True):
            assert task.symbols[i] == str((a + b) // 10**place % 10)


@pytest.mark.parametrize("ids", [[1, 2], [1, 2, 3, 4], [1, 2, 11], [0, 1, 2], [1, 2, 12], [1, 2, -1], []])
def test_what_is_no_answer_is_none(ids):
    assert Addition(2).decode(ids) is None


@pytest.mark.parametrize("reversed", [False, True])
def test_rows_are_the_texts(reversed):
    task = Addition(3, reversed=reversed)
    pairs = torch.tensor([[0, 0], [999, 999], [7, 93], [120, 5]])
    written = [task.encode(a, b) + task.answer(a, b) for a, b in pairs.tolist()]
    assert task.rows(pairs).tolist() == written and len(written[0]) == task.length


def test_a_batch_asks_for_the_answer_alone():
    task = Addition(2, reversed=True)
    batch = next(task.batches(64, torch.Generator().manual_seed(0)))
    assert batch.inputs.shape == batch.targets.shape == (64, task.length - 1)
    assert bool((batch.targets[:, : task.prompt_length - 1] == IGNORE).all())
    for inputs, targets in zip(batch.inputs, batch.targets, strict=True):
        a, b = map(int, text(task, inputs[: task.prompt_length].tolist())[:-1].split("+"))
        assert task.decode(targets[-task.answer_length :]) == a + b
        assert inputs[task.prompt_length :].tolist() == targets[-task.answer_length : -1].tolist()


def test_operands_are_uniform_and_test_pairs_left_out():
    """Of 100 pairs 40 are barred: the other 60 come 500 times each in 30,000; five standard errors are 111."""
    task, every = Addition(1), torch.cartesian_prod(torch.arange(10), torch.arange(10))
    drawn = task.draw(30_000, torch.Generator().manual_seed(0), without=every[:40])
    counts = (drawn[:, 0] * 10 + drawn[:, 1]).bincount(minlength=100)
    assert counts[:40].sum() == 0 and bool(((counts[40:] - 500).abs() < 111).all())


def test_too_many_barred_pairs_are_an_error():
    every = torch.cartesian_prod(torch.arange(10), torch.arange(10))
    with pytest.raises(ValueError, match="51 of 100 pairs"):
        Addition(1).draw(4, None, without=every[:51])


@pytest.mark.parametrize(
    "a, b, carries, chain",
    [
        (23, 45, (0, 0), 0),
        (27, 45, (1, 0), 1),  # 7 + 5 carries into 2 + 4
        (55, 55, (1, 1), 1),  # two carries, each born where it is: the tens carry without help
        (54, 46, (1, 1), 2),  # 4 + 6 carries into 5 + 4 = 9, which carries on
        (99, 99, (1, 1), 1),
        (99, 1, (1, 1), 2),
        (45, 54, (0, 0), 0),  # nines without a carry to pass on
    ],
)
def test_carries_and_the_longest_chain(a, b, carries, chain):
    task = Addition(2)
    assert task.carries(a, b) == carries and task.longest_chain(a, b) == task.longest_chain(b, a) == chain


def test_carries_are_what_column_addition_finds():
    task = Addition(3)
    for a, b in [(345, 155), (999, 1), (508, 492), (120, 880)]:
        carry, found = 0, []
        for place in range(3):
            column = a // 10**place % 10 + b // 10**place % 10 + carry
            carry = int(column > 9)
            found.append(carry)
        assert task.carries(a, b) == tuple(found)
    assert task.longest_chain(999, 1) == 3 and task.longest_chain(345, 155) == 2


@pytest.mark.parametrize("a, b, named", [(100, 5, "100"), (5, -1, "-1"), (1.5, 2, "1.5"), (True, 2, "True")])
def test_bad_operands_are_named(a, b, named, as_shipped):
    with pytest.raises(ValueError, match=f"operand {named}: it must be an integer from 0 to 99"):
        Addition(2).encode(a, b)


def test_bad_tasks_and_pairs_are_named(as_shipped):
    with pytest.raises(ValueError, match="digits is 0"):
        Addition(0)
    with pytest.raises(ValueError, match="operand 100"):
        Addition(2).rows([[1, 2], [100, 3]])
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        Addition(2).rows([1, 2, 3])
    with pytest.raises(ValueError, match="rows is 0"):
        next(Addition(2).batches(0, None))
    with pytest.raises(ValueError, match="operand 150"):  # once taken for the pair 1 + 50, which then never came
        Addition(2).draw(4, None, without=torch.tensor([[0, 150]]))
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        Addition(2).draw(4, None, without=torch.tensor([3, 4]))
