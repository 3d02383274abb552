"""From ids to batches of shifted pairs: windows of one long text, padded or packed rows of many short ones.

A batch holds inputs and targets of one shape. The target at position t is the token that follows the input at t, so
one row of time positions trains time predictions at once (teacher forcing: the input is always the true text).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

IGNORE = -100  # a target that is not counted: no real id is negative, and F.cross_entropy skips this one by default
POOL = 50  # batches among which `ragged` sorts by length


class Batch(NamedTuple):
    """Inputs and targets, int64 (rows, time): targets[r, t] is to be predicted from inputs[r, : t + 1]."""

    inputs: Tensor
    targets: Tensor

    @property
    def tokens(self) -> int:
        """How many targets count: what a mean loss is divided by. Waits for a GPU, if the batch lies on one."""
        return int((self.targets != IGNORE).sum())

    def to(self, device, *, non_blocking: bool = False) -> Batch:
        return Batch(*(half.to(device, non_blocking=non_blocking) for half in self))

    def part(self, rank: int, world: int) -> Batch:
        """The rows rank, rank + world, rank + 2 world, ...: the share of one of `world` processes.

        Raises:
            ValueError: a rank outside 0..world-1, or a share without rows.
        """
        if not 0 <= rank < world:
            raise ValueError(f"rank is {rank}; with world = {world} it must lie between 0 and {world - 1}")
        if rank >= self.inputs.size(0):
            raise ValueError(f"a batch of {self.inputs.size(0)} rows has none for rank {rank} of {world}; add rows")
        return Batch(*(half[rank::world] for half in self))


def shifted(window: Tensor | Sequence) -> Batch:
    """The training pair inside a stretch of text: inputs x1 .. x(T-1), targets x2 .. xT. Lectures 000 and 003.

    Both are copies: writing into the inputs, as scheduled sampling does, leaves the targets alone.

    Args:
        window: ids (rows, time + 1) or (time + 1,).

    Raises:
        ValueError: fewer than two tokens, a shape with more dimensions, ids that are not integers of 0 or more.
    """
    window = torch.atleast_2d(_ids(window, "window", dims=(1, 2)))
    if window.size(0) == 0 or window.size(1) < 2:
        raise ValueError(f"window has shape {tuple(window.shape)}; a pair needs at least two tokens in a row")
    return _pair(window.long())


def random_windows(
    ids: Tensor | Sequence[int], context: int, rows: int, generator: torch.Generator | None = None
) -> Iterator[Batch]:
    """Without end: batches of windows that start anywhere in one long text, each start equally likely.

    Args:
        ids: the text, (tokens,); it may be stored in a small integer type, and on any device.
        context: positions of a row.
        generator: where the starts come from (a CPU generator serves ids on a GPU too). None: torch's global one.

    Raises:
        ValueError: a text shorter than context + 1 tokens, context or rows below 1, ids that are not integers.
    """
    ids = _long_enough(ids, context)
    check_integer("rows", rows, least=1)
    windows = ids.unfold(0, context + 1, 1)  # (starts, context + 1), a view: nothing is copied

    def draw() -> Iterator[Batch]:
        device = "cpu" if generator is None else generator.device
        while True:
            starts = torch.randint(windows.size(0), (rows,), generator=generator, device=device)
            yield _pair(windows[starts.to(ids.device)].long())

    return draw()  # a function of its own, so that bad input raises now and not at the first next()


def ordered_windows(ids: Tensor | Sequence[int], context: int, rows: int) -> list[Batch]:
    """Every target of ids[1:] exactly once, in order: for evaluation.

    A row starts on the token that was the row before's last target, so the targets lie edge to edge. Behind the end
    of the text the targets are IGNORE (and the inputs repeat its last token). The last batch may have fewer rows.

    Raises:
        ValueError: as in `random_windows`.
    """
    ids = _long_enough(ids, context).long()
    check_integer("rows", rows, least=1)
    missing = -(ids.numel() - 1) % context  # to fill the last row
    inputs = torch.cat([ids[:-1], ids[-1:].expand(missing)]).view(-1, context)
    targets = torch.cat([ids[1:], ids.new_full((missing,), IGNORE)]).view(-1, context)
    return [Batch(*halves) for halves in zip(inputs.split(rows), targets.split(rows), strict=True)]


def padded(
    sequences: Iterable[Sequence[int] | Tensor],
    *,
    pad_id: int,
    bos_id: int | None = None,
    eos_id: int | None = None,
    context: int | None = None,
    keep: str = "start",
) -> Batch:
    """One row a sequence, filled on the right up to the longest. Lecture 003's training table.

    Inputs are filled with pad_id, targets with IGNORE. So pad_id may be the id of a real token (0, or the end symbol)
    and that token is still learned wherever it is real; and a causal model never looks to the right, so that the
    filling changes no real position.

    Args:
        bos_id, eos_id: put before and behind each sequence, when given.
        context: no more inputs than this; a longer sequence is cut, and loses the symbol of the end that is cut.
        keep: "start" cuts the end off, "end" cuts the start off.

    Raises:
        ValueError: no sequences; one that is empty or leaves nothing to predict; ids that are not integers of 0 or
            more; context below 1; another `keep`.
    """
    check_integer("pad_id", pad_id, least=0)
    return pad(_cut(sequences, bos_id, eos_id, context, keep), pad_id)


def ragged(
    sequences: Iterable[Sequence[int] | Tensor],
    rows: int,
    *,
    pad_id: int,
    bos_id: int | None = None,
    eos_id: int | None = None,
    context: int | None = None,
    generator: torch.Generator | None = None,
    by_length: bool = True,
) -> Iterator[Batch]:
    """Without end: batches as `padded` makes them, every sequence once an epoch, reshuffled for the next.

    With by_length, sequences of like length share a batch, so that little of it is padding: the shuffled sequences
    are sorted within pools of 50 batches (not all at once: the same neighbours would meet in every epoch), and the
    batches of a pool come in random order. An epoch's last batch may have fewer rows; nothing is left out.

    Args:
        generator: a CPU generator for the shuffling. None: torch's global one.
        Others: as in `padded`, which keeps the start of a long sequence.

    Raises:
        ValueError: as in `padded`, and rows below 1.
    """
    check_integer("rows", rows, least=1)
    check_integer("pad_id", pad_id, least=0)
    whole = _cut(sequences, bos_id, eos_id, context, "start")

    def epochs() -> Iterator[Batch]:
        while True:
            order = torch.randperm(len(whole), generator=generator).tolist()
            for pool in chunks(order, rows * POOL):
                if by_length:
                    pool.sort(key=lambda n: len(whole[n]))  # stable: equal lengths stay in random order
                batches = chunks(pool, rows)
                for b in torch.randperm(len(batches), generator=generator).tolist():
                    yield pad([whole[n] for n in batches[b]], pad_id)

    return epochs()


def packed(
    documents: Iterable[Sequence[int] | Tensor],
    context: int,
    rows: int,
    *,
    eos_id: int,
    bos_id: int | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Batch]:
    """Without end: rows cut from one stream of documents, each followed by eos_id. Every position is a real token.

    Row by row and batch by batch, the inputs are the stream and the targets are the stream one token on. A document
    may begin in one row and end in the next, and one that stands behind another in a row can see it: only the end
    symbol tells the model to forget it.

    Args:
        bos_id: also put before each document, when given.
        generator: reshuffles the documents for each epoch. None: the order given, over and over.

    Raises:
        ValueError: no documents, an empty one, all together shorter than context + 1, context or rows below 1, no
            eos_id, ids that are not integers of 0 or more.
    """
    check_integer("rows", rows, least=1)
    check_integer("eos_id", eos_id, least=0)  # None, from a tokenizer without one, would run the documents together
    whole = with_symbols(documents, bos_id, eos_id)
    _long_enough(torch.cat(whole), context)

    def cut() -> Iterator[Batch]:
        stream, size, count = whole[0].new_empty(0), rows * context, len(whole)
        while True:
            order = range(count) if generator is None else torch.randperm(count, generator=generator).tolist()
            stream = torch.cat([stream, *(whole[n] for n in order)])
            while stream.numel() > size:
                yield Batch(*(stream[i : i + size].view(rows, context).clone() for i in (0, 1)))
                stream = stream[size:]

    return cut()


# --- the work, and the checks


def _pair(window: Tensor) -> Batch:
    return Batch(window[:, :-1].clone(), window[:, 1:].clone())


def _cut(sequences, bos_id: int | None, eos_id: int | None, context: int | None, keep: str) -> list[Tensor]:
    """The sequences with their symbols, at most context + 1 tokens each and at least two."""
    if keep not in ("start", "end"):
        raise ValueError(f"keep is {keep!r}; it must be 'start' or 'end'")
    whole = with_symbols(sequences, bos_id, eos_id)
    for n, sequence in enumerate(whole):
        if len(sequence) < 2:
            raise ValueError(f"sequence {n} is {sequence.tolist()}: nothing to predict; give it a bos_id or an eos_id")
    if context is None:
        return whole
    check_integer("context", context, least=1)
    return [s[: context + 1] if keep == "start" else s[-(context + 1) :] for s in whole]


def pad(whole: list[Tensor], pad_id: int) -> Batch:
    """Sequences that have their symbols already, as `padded` makes a batch of them."""
    return Batch(
        pad_sequence([s[:-1] for s in whole], batch_first=True, padding_value=pad_id),
        pad_sequence([s[1:] for s in whole], batch_first=True, padding_value=IGNORE),
    )


def with_symbols(sequences: Iterable, bos_id: int | None, eos_id: int | None, name: str = "sequence") -> list[Tensor]:
    """Each sequence with bos_id before and eos_id behind it, where they are given."""
    for which, symbol in (("bos_id", bos_id), ("eos_id", eos_id)):
        if symbol is not None:
            check_integer(which, symbol, least=0)
    first, last = ([] if symbol is None else [symbol] for symbol in (bos_id, eos_id))
    return [torch.cat([v.new_tensor(first), v, v.new_tensor(last)]) for v in vectors(sequences, name)]


def chunks(items: list, size: int) -> list[list]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _ids(ids: Tensor | Sequence, name: str, dims: tuple[int, ...] = (1,)) -> Tensor:
    """As a tensor of integers with one of the given numbers of dimensions."""
    if isinstance(ids, str):
        raise ValueError(f"{name} is a text; encode it first: batches are made of ids")
    try:
        ids = torch.as_tensor(ids)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} is no sequence of ids: {error}") from None
    if ids.numel() == 0:
        ids = ids.long()  # an empty list becomes a float tensor; what is wrong with it is its length
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise ValueError(f"{name} has dtype {ids.dtype}; ids are integers")
    if ids.dim() not in dims:
        raise ValueError(f"{name} has shape {tuple(ids.shape)}; needed {' or '.join(map(str, dims))} dimension(s)")
    if ids.numel() and ids.dtype.is_signed and ids.amin() < 0:
        raise ValueError(f"{name} holds the id {int(ids.amin())}; ids are 0 or more")
    return ids


def vectors(sequences: Iterable[Sequence[int] | Tensor], name: str = "sequence") -> list[Tensor]:
    """Each as an int64 tensor of one dimension; `name` is what an error calls them.

    Raises:
        ValueError: none at all, an empty one, ids that are not integers of 0 or more.
    """
    checked = [_ids(sequence, f"{name} {n}").long() for n, sequence in enumerate(sequences)]
    if not checked:
        raise ValueError(f"there are no {name}s; an empty split, perhaps?")
    for n, vector in enumerate(checked):
        if vector.numel() == 0:
            raise ValueError(f"{name} {n} is empty; leave empty ones out beforehand")
    return checked


def _long_enough(ids: Tensor | Sequence[int], context: int) -> Tensor:
    ids = _ids(ids, "ids")
    check_integer("context", context, least=1)
    if ids.numel() < context + 1:
        raise ValueError(
            f"the text has {ids.numel()} tokens; a context of {context} needs {context + 1} or more, "
            "as the last input needs a target too. Take a longer text or a shorter context"
        )
    return ids


def check_integer(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} is {value!r}; it must be an integer of {least} or more")
