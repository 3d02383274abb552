"""Pair batches: nothing lost, nothing doubled, symbols and padding where they belong; and they train as texts do."""

import pytest
import torch

from arlab.nn.rnn import Seq2SeqRNN
from arlab.text.batches import IGNORE, Batch
from arlab.text.pairs import PairInputs, ordered_pairs, pad_sources, pair_batches
from arlab.training.loop import evaluate, fit
from arlab.training.processes import Processes

BOS, EOS = 11, 12
SYMBOLS = {"bos_id": BOS, "eos_id": EOS}
SOURCES = [[1, 2, 3], [4], [5, 6]]
TARGETS = [[7], [8, 9], [1, 2, 3]]


def read_back(batch: Batch) -> set[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Each row's source and target, with the symbols checked and taken off."""
    pairs = set()
    for source, n, prefix, targets in zip(
        batch.inputs.source.tolist(), batch.inputs.lengths.tolist(), batch.inputs.prefix, batch.targets, strict=True
    ):
        real = targets != IGNORE
        assert prefix[0] == BOS and targets[real][-1] == EOS
        assert prefix[real][1:].tolist() == targets[real][:-1].tolist(), "the prefix is the target, one place later"
        assert not real[int(real.sum()) :].any(), "padding stands behind"
        pairs.add((tuple(source[:n]), tuple(targets[real][:-1].tolist())))
    return pairs


def test_one_batch_by_hand():
    (batch,) = ordered_pairs(SOURCES, TARGETS, 8, **SYMBOLS, pad_id=0)
    assert batch.inputs.source.tolist() == [[1, 2, 3], [4, 0, 0], [5, 6, 0]]
    assert batch.inputs.lengths.tolist() == [3, 1, 2]
    assert batch.inputs.prefix.tolist() == [[BOS, 7, 0, 0], [BOS, 8, 9, 0], [BOS, 1, 2, 3]]
    skip = IGNORE
    assert batch.targets.tolist() == [[7, EOS, skip, skip], [8, 9, EOS, skip], [1, 2, 3, EOS]]
    assert batch.tokens == 9 and batch.inputs.shape == (3, 4)


def test_ordered_pairs_keep_the_order_and_every_pair():
    batches = ordered_pairs(SOURCES, TARGETS, 2, **SYMBOLS)
    assert [batch.inputs.size(0) for batch in batches] == [2, 1]
    assert batches[0].inputs.source[1, :1].tolist() == [4] and batches[1].inputs.source.tolist() == [[5, 6]]


@pytest.mark.parametrize("by_length", [True, False])
def test_an_epoch_holds_every_pair_once_and_the_next_in_another_order(by_length):
    sources = [[n % 10] * (1 + n % 7) for n in range(50)]
    targets = [[n % 10, n // 10] * (1 + n % 3) for n in range(50)]
    stream = pair_batches(
        sources, targets, 8, **SYMBOLS, generator=torch.Generator().manual_seed(0), by_length=by_length
    )
    epochs = [[next(stream) for _ in range(7)] for _ in range(2)]
    for epoch in epochs:
        pairs = [pair for batch in epoch for pair in read_back(batch)]
        assert sorted(pairs) == sorted((tuple(s), tuple(t)) for s, t in zip(sources, targets, strict=True))
    assert not torch.equal(epochs[0][0].inputs.source, epochs[1][0].inputs.source)


def test_pairs_of_like_length_share_a_batch():
    sources, targets = [[1]] * 64 + [[1] * 9] * 64, [[2]] * 64 + [[2] * 9] * 64
    stream = pair_batches(sources, targets, 16, **SYMBOLS, generator=torch.Generator().manual_seed(0))
    assert all(len(set(next(stream).inputs.lengths.tolist())) == 1 for _ in range(8)), "no padding at all here"


def test_the_same_seed_gives_the_same_stream():
    def first(seed):
        return next(pair_batches(SOURCES, TARGETS, 2, **SYMBOLS, generator=torch.Generator().manual_seed(seed)))

    assert torch.equal(first(3).inputs.source, first(3).inputs.source)


def test_rows_can_be_taken_and_moved():
    (batch,) = ordered_pairs(SOURCES, TARGETS, 8, **SYMBOLS)
    part = batch.to("cpu").part(1, 2)
    assert part.inputs.source.tolist() == [[4, 0, 0]] and part.targets.shape == (1, 4)
    nothing = Processes(rank=5, count=6).part(batch)
    assert nothing.inputs.shape == (1, 4) and nothing.tokens == 0


def test_the_training_loop_takes_pairs_as_it_takes_texts():
    model = Seq2SeqRNN(12, 13, 8, 16, bos_id=BOS, seed=0)
    batches = ordered_pairs(SOURCES, TARGETS, 2, **SYMBOLS)
    before = evaluate(model, batches)
    records = fit(model, pair_batches(SOURCES, TARGETS, 3, **SYMBOLS), steps=60, lr=2e-2, validation=batches)
    assert records[-1].tokens == 60 * 9
    assert records[-1].validation_loss < 0.5 < before


def test_sources_alone():
    source, lengths = pad_sources([torch.tensor([3, 1]), [4]], pad_id=9)
    assert source.tolist() == [[3, 1], [4, 9]] and lengths.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("sources", "targets", "rows", "says"),
    [
        ([[1], []], [[2], [3]], 2, "source 1 is empty"),
        ([[1], [2]], [[2], []], 2, "target 1 is empty"),
        ([[1]], [[2], [3]], 2, "1 sources and 2 targets"),
        ([], [], 2, "there are no sources"),
        ([[1]], [[2]], 0, "rows is 0"),
        ([["a"]], [[2]], 1, "source 0"),
        ([[1]], [[0.5]], 1, "target 0 has dtype"),
        ([[1]], [[-3]], 1, "target 0 holds the id -3"),
    ],
)
def test_bad_pairs_are_named(sources, targets, rows, says, as_shipped):
    for make in (pair_batches, ordered_pairs):
        with pytest.raises(ValueError, match=says):
            make(sources, targets, rows, **SYMBOLS)


def test_symbols_must_be_ids(as_shipped):
    with pytest.raises(ValueError, match="eos_id is None"):
        ordered_pairs(SOURCES, TARGETS, 2, bos_id=BOS, eos_id=None)
    with pytest.raises(ValueError, match="pad_id is 0.5"):  # once cut to 0
        pad_sources(SOURCES, 0.5)


def test_pair_inputs_are_what_a_batch_says():
    inputs = PairInputs(*pad_sources(SOURCES), torch.full((3, 2), BOS))
    assert inputs.size(0) == 3 and inputs[1:].lengths.tolist() == [1, 2]
    assert inputs[1].source.tolist() == [[4, 0, 0]] and inputs[-1].shape == (1, 2)
