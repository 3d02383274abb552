"""Batches: every target once, in its place, and nothing counted that is not text."""

import random
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arlab.text.batches import IGNORE, Batch, ordered_windows, packed, padded, ragged, random_windows, shifted

BOS, EOS, PAD = 100, 101, 102
ids_lists = st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=12), min_size=1, max_size=20)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def sequences_of(batch: Batch) -> list[list[int]]:
    """The rows as they were before shifting and padding, read back from the targets that count."""
    rows = []
    for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        real = [target for target in targets if target != IGNORE]
        rows.append([inputs[0], *real])
        assert targets == real + [IGNORE] * (len(targets) - len(real)), "what is ignored lies on the right"
        assert inputs[1 : len(real)] == real[:-1], "an input is the target before it"
    return rows


# --- the pair


@given(st.integers(1, 4), st.integers(2, 9))
def test_a_target_is_the_next_input(rows, length):
    window = torch.arange(rows * length).view(rows, length)
    batch = shifted(window)
    assert batch.inputs.equal(window[:, :-1]) and batch.targets.equal(window[:, 1:])
    assert batch.inputs[:, 1:].equal(batch.targets[:, :-1])
    assert batch.tokens == rows * (length - 1)


def test_a_single_stretch_is_one_row():
    inputs, targets = shifted([5, 6, 7, 8])
    assert inputs.tolist() == [[5, 6, 7]] and targets.tolist() == [[6, 7, 8]]
    assert inputs.dtype == targets.dtype == torch.int64


def test_writing_into_the_inputs_leaves_the_targets_alone():
    documents = [[1, 2, 3, 4, 5]]
    batches = [
        shifted([1, 2, 3, 4]),
        next(random_windows([1, 2, 3, 4], 3, 1)),
        ordered_windows([1, 2, 3, 4], 3, 1)[0],
        padded(documents, pad_id=0),
        next(packed(documents, 3, 1, eos_id=9)),
    ]
    for inputs, targets in batches:
        before = targets.clone()
        inputs.zero_()
        assert targets.equal(before)


@pytest.mark.parametrize("window", [[1], torch.tensor([[1], [2]]), [], torch.empty(0, 4, dtype=torch.int64)])
def test_a_pair_needs_two_tokens(window, as_shipped):
    with pytest.raises(ValueError, match="a pair needs at least two tokens"):
        shifted(window)


def test_the_parts_of_a_batch_are_its_rows():
    batch = shifted(torch.arange(21).view(7, 3))
    parts = [batch.part(rank, 3) for rank in range(3)]
    assert [part.inputs[:, 0].tolist() for part in parts] == [[0, 9, 18], [3, 12], [6, 15]]
    assert sum(part.tokens for part in parts) == batch.tokens
    assert batch.to("cpu").targets.equal(batch.targets)
    with pytest.raises(ValueError, match=r"rank is 3; with world = 3 it must lie between 0 and 2"):
        batch.part(3, 3)
    with pytest.raises(ValueError, match="a batch of 7 rows has none for rank 7 of 8"):
        batch.part(7, 8)


# --- windows of one text


@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 40), st.sampled_from([torch.uint8, torch.int32, None]))
def test_ordered_windows_give_every_target_once_and_in_order(context, rows, more, dtype):
    ids = torch.arange(context + 1 + more, dtype=dtype)
    batches = ordered_windows(ids, context, rows)
    targets = torch.cat([batch.targets.flatten() for batch in batches])
    inputs = torch.cat([batch.inputs.flatten() for batch in batches])
    count = ids.numel() - 1
    assert targets[:count].equal(ids[1:].long()) and inputs[:count].equal(ids[:-1].long())
    assert (targets[count:] == IGNORE).all() and sum(batch.tokens for batch in batches) == count
    assert torch.isin(inputs, ids.long()).all(), "what fills the last row is a valid id"
    assert all(batch.inputs.shape == batch.targets.shape for batch in batches)
    assert [batch.inputs.size(0) for batch in batches[:-1]] == [rows] * (len(batches) - 1)
    assert len(targets) - count < context, "no row without a target"


def test_random_windows_reach_every_start_and_no_other():
    ids = torch.arange(10, dtype=torch.uint8)
    draws = list(islice(random_windows(ids, 4, 8, generator()), 40))  # 320 draws of 6 starts: one missed, 6 * (5/6)^320
    starts = {int(start) for batch in draws for start in batch.inputs[:, 0]}
    assert starts == set(range(6))
    for batch in draws:
        assert batch.inputs.shape == batch.targets.shape == (8, 4) and batch.inputs.dtype == torch.int64
        assert batch.targets.equal(batch.inputs + 1), "ids count upwards here, so a target is its input and one"


def test_random_windows_follow_their_generator():
    ids = torch.arange(100)
    first, again, other = (list(islice(random_windows(ids, 5, 3, generator(s)), 4)) for s in (0, 0, 1))
    assert all(a.inputs.equal(b.inputs) for a, b in zip(first, again, strict=True))
    assert not all(a.inputs.equal(b.inputs) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("windows", [random_windows, ordered_windows])
def test_a_text_shorter_than_a_context(windows):
    message = r"the text has 4 tokens; a context of 4 needs 5 or more, as the last input needs a target too"
    with pytest.raises(ValueError, match=message):
        windows([1, 2, 3, 4], 4, 2)  # random_windows too raises at the call, not at the first next()
    with pytest.raises(ValueError, match="the text has 0 tokens"):
        windows([], 4, 2)
    assert [batch.tokens for batch in ordered_windows([1, 2, 3, 4, 5], 4, 2)] == [4]


@pytest.mark.parametrize("windows", [random_windows, ordered_windows])
def test_ids_that_are_none(windows, as_shipped):
    for ids, message in [
        ([0.5, 1.0, 2.0], "dtype torch.float32; ids are integers"),
        ([True, False, True], "dtype torch.bool"),
        ([[1, 2], [3, 4]], r"shape \(2, 2\); needed 1 dimension"),
        ([3, -100, 4], "holds the id -100; ids are 0 or more"),
        ("abc", "ids is a text; encode it first"),
        (["a", "b"], "no sequence of ids"),
    ]:
        with pytest.raises(ValueError, match=message):
            windows(ids, 1, 2)
    for context, rows, message in [(0, 2, "context is 0"), (2, 0, "rows is 0"), (2, 1.5, "rows is 1.5")]:
        with pytest.raises(ValueError, match=message):
            windows([1, 2, 3, 4], context, rows)


# --- padding


@given(ids_lists)
def test_padding_gives_the_sequences_back(sequences):
    batch = padded(sequences, pad_id=PAD, bos_id=BOS, eos_id=EOS)
    assert sequences_of(batch) == [[BOS, *sequence, EOS] for sequence in sequences]
    assert batch.tokens == sum(len(sequence) + 1 for sequence in sequences), "pads are never counted"
    assert (batch.inputs[batch.targets == IGNORE] == PAD).all()
    assert batch.inputs.size(1) == max(map(len, sequences)) + 1, "no column is all padding"


def test_the_training_table_by_hand():
    inputs, targets = padded([[5, 6, 7], [8]], pad_id=0, bos_id=1, eos_id=2)
    assert inputs.tolist() == [[1, 5, 6, 7], [1, 8, 0, 0]]
    assert targets.tolist() == [[5, 6, 7, 2], [8, 2, IGNORE, IGNORE]]


def test_a_pad_that_is_also_a_real_token_is_still_learned_where_it_is_real():
    inputs, targets = padded([[3, 0, 0], [0]], pad_id=0, eos_id=0)
    assert targets.tolist() == [[0, 0, 0], [0, IGNORE, IGNORE]]
    assert inputs.tolist() == [[3, 0, 0], [0, 0, 0]]


@given(ids_lists, st.integers(1, 6), st.sampled_from(["start", "end"]))
def test_truncation_keeps_the_end_that_was_asked_for(sequences, context, keep):
    whole = [[BOS, *sequence, EOS] for sequence in sequences]
    kept = [s[: context + 1] if keep == "start" else s[-context - 1 :] for s in whole]
    batch = padded(sequences, pad_id=PAD, bos_id=BOS, eos_id=EOS, context=context, keep=keep)
    assert sequences_of(batch) == kept and batch.inputs.size(1) <= context


def test_what_cannot_be_padded(as_shipped):
    for sequences, message in [
        ([], "there are no sequences; an empty split, perhaps"),
        ([[1], []], "sequence 1 is empty"),
        ([[1, 2], [3.5]], "sequence 1 has dtype torch.float32; ids are integers"),
        ([[1, 2], [3, -1]], "sequence 1 holds the id -1"),
        (["ab"], "sequence 0 is a text"),
        ("ab", "sequence 0 is a text"),
    ]:
        for make in (padded, lambda s, **kw: ragged(s, 2, **kw), lambda s, **kw: packed(s, 2, 2, eos_id=1)):
            with pytest.raises(ValueError, match=message):
                make(sequences, pad_id=0)
    for options, message in [
        ({"keep": "middle"}, "keep is 'middle'; it must be 'start' or 'end'"),
        ({"context": 0}, "context is 0"),
        ({"pad_id": -100}, "pad_id is -100; it must be an integer of 0 or more"),
        ({"pad_id": None}, "pad_id is None"),
        ({"eos_id": -1}, "eos_id is -1"),
        ({"bos_id": "<bos>"}, "bos_id is '<bos>'"),
    ]:
        with pytest.raises(ValueError, match=message):
            padded([[1, 2]], **{"pad_id": 0, **options})


def test_a_batch_of_padding_alone_cannot_be_made():
    for make in (padded, lambda s, **kw: ragged(s, 1, **kw)):
        with pytest.raises(ValueError, match=r"sequence 1 is \[7\]: nothing to predict; give it a bos_id or an eos_id"):
            make([[1, 2], [7]], pad_id=0)
        make([[7]], pad_id=0, eos_id=1)  # with an end symbol there is something to predict


# --- ragged batches


@given(ids_lists, st.integers(1, 6), st.booleans())
def test_an_epoch_holds_every_sequence_once(sequences, rows, by_length):
    batches = ragged(sequences, rows, pad_id=PAD, bos_id=BOS, generator=generator(), by_length=by_length)
    count = -(-len(sequences) // rows)
    for _ in range(3):  # epochs
        epoch = [row[1:] for batch in islice(batches, count) for row in sequences_of(batch)]
        assert sorted(epoch) == sorted(sequences)


def test_epochs_are_shuffled_anew_and_can_be_repeated():
    sequences = [[n, n] for n in range(40)]

    def epochs(seed):
        batches = ragged(sequences, 8, pad_id=0, generator=generator(seed))
        return [[row[0] for batch in islice(batches, 5) for row in sequences_of(batch)] for _ in range(2)]

    first, second = epochs(0)
    assert first != second and sorted(first) == sorted(second) == list(range(40))
    assert epochs(0) == [first, second] and epochs(1) != [first, second]


def test_buckets_leave_little_padding():
    lengths = random.Random(0)
    sequences = [[1] * lengths.randint(2, 60) for _ in range(1000)]

    def padding(by_length):
        batches = ragged(sequences, 20, pad_id=0, generator=generator(), by_length=by_length)
        epoch = list(islice(batches, 50))
        return 1 - sum(b.tokens for b in epoch) / sum(b.targets.numel() for b in epoch)

    assert padding(True) < 0.03 < 0.4 < padding(False)


def test_buckets_do_not_go_from_short_to_long():
    batches = ragged([[1] * n for n in range(2, 102)], 10, pad_id=0, generator=generator())
    widths = [batch.inputs.size(1) for batch in islice(batches, 10)]
    assert widths not in (sorted(widths), sorted(widths)[::-1])


def test_neighbours_change_from_epoch_to_epoch():
    """Sorted all at once, sequences of different lengths would meet the same ones for ever."""
    batches = ragged([[n + 1] * n for n in range(2, 202)], 2, pad_id=0, generator=generator())
    first, second = ({tuple(b.inputs[:, 0].tolist()) for b in islice(batches, 100)} for _ in range(2))
    assert first != second


# --- packed rows


@given(ids_lists, st.integers(1, 7), st.integers(1, 4), st.booleans(), st.booleans())
def test_packed_rows_are_the_stream_of_documents(documents, context, rows, start, shuffled):
    bos = [BOS] if start else []
    length = sum(len(document) + 1 + len(bos) for document in documents)
    if length < context + 1:
        return
    options = {"bos_id": BOS if start else None, "generator": generator() if shuffled else None}
    batches = packed(documents, context, rows, eos_id=EOS, **options)
    taken = list(islice(batches, 2 * length // (rows * context) + 2))
    inputs = torch.cat([batch.inputs.flatten() for batch in taken]).tolist()
    targets = torch.cat([batch.targets.flatten() for batch in taken]).tolist()
    assert inputs[1:] == targets[:-1], "edge to edge: every target once, and it is the next input"
    assert all(batch.tokens == rows * context == batch.inputs.numel() for batch in taken), "no padding anywhere"
    read, document = [], []
    for token in inputs[: 2 * length]:
        document.append(token)
        if token == EOS:
            read.append(document)
            document = []
    wanted = [[*bos, *document, EOS] for document in documents]
    for epoch in (read[: len(documents)], read[len(documents) :]):
        assert sorted(epoch) == sorted(wanted) if shuffled else epoch == wanted


def test_packing_shuffles_each_epoch_anew():
    batches = packed([[n] for n in range(30)], 6, 1, eos_id=EOS, generator=generator())
    first, second = ([t for b in islice(batches, 10) for t in b.inputs.flatten().tolist()[::2]] for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(30)) and first != second


def test_too_little_to_pack():
    with pytest.raises(ValueError, match="the text has 5 tokens; a context of 5 needs 6 or more"):
        packed([[1, 2], [3]], 5, 1, eos_id=0)


def test_packing_needs_an_end_symbol(as_shipped):
    """A tokenizer without one has eos_id None: the documents would run into each other without a border."""
    for eos in (-1, None, True, 1.0):
        with pytest.raises(ValueError, match=f"eos_id is {eos}; it must be an integer of 0 or more"):
            packed([[1, 2], [3]], 2, 1, eos_id=eos)
