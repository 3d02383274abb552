"""Batches for an encoder-decoder: a source to read, a target to write between a start and an end symbol.

A pair trains as a text does: the decoder reads <s> y1 .. ym and is to predict y1 .. ym </s>, always from the true
prefix (teacher forcing). Only the source is new, and it is never predicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from arlab.text.batches import POOL, Batch, check_integer, chunks, pad, vectors, with_symbols

Ids = Sequence[int] | Tensor


@dataclass(frozen=True)
class PairInputs:
    """What an encoder-decoder reads: the inputs of a training batch, row by row."""

    source: Tensor  # (rows, source_time) int64, filled on the right
    lengths: Tensor  # (rows,) int64: real tokens of each source; what lies beyond is padding, whatever its id
    prefix: Tensor  # (rows, time) int64: the start symbol and the target so far

    @property
    def shape(self) -> torch.Size:
        """That of the prefix: (rows, time), as the targets have it."""
        return self.prefix.shape

    def size(self, dim: int) -> int:
        return self.prefix.size(dim)

    def __getitem__(self, rows: int | slice | Tensor) -> PairInputs:
        """Some of the rows; one number gives a batch of one."""
        rows = [rows] if isinstance(rows, int) else rows
        return PairInputs(self.source[rows], self.lengths[rows], self.prefix[rows])

    def to(self, device, *, non_blocking: bool = False) -> PairInputs:
        parts = (self.source, self.lengths, self.prefix)
        return PairInputs(*(part.to(device, non_blocking=non_blocking) for part in parts))


def pad_sources(sources: Sequence[Ids], pad_id: int = 0) -> tuple[Int[Tensor, "rows source_time"], Int[Tensor, "rows"]]:
    """One row a source, filled on the right with pad_id, and how many real tokens each has.

    Raises:
        ValueError: no sources, an empty one, ids or a pad_id that are not integers of 0 or more.
    """
    check_integer("pad_id", pad_id, 0)
    whole = vectors(sources, "source")
    lengths = torch.tensor([len(source) for source in whole])
    return pad_sequence(whole, batch_first=True, padding_value=pad_id), lengths


def pair_batches(
    sources: Sequence[Ids],
    targets: Sequence[Ids],
    rows: int,
    *,
    bos_id: int,
    eos_id: int,
    pad_id: int = 0,
    generator: torch.Generator | None = None,
    by_length: bool = True,
) -> Iterator[Batch]:
    """Without end: Batch(PairInputs, targets), every pair once an epoch, reshuffled for the next.

    With by_length, pairs of like length share a batch, as in `arlab.text.batches.ragged`: sorted by target and then
    source, within pools of 50 batches.

    Args:
        sources, targets: ids without start and end symbol, one target a source.
        pad_id: fills sources and prefixes; any id of both vocabularies, for what is filled is never attended to and
            never counted.
        generator: a CPU generator for the shuffling. None: torch's global one.

    Raises:
        ValueError: more sources than targets or fewer, none at all, an empty one, rows below 1, ids that are not
            integers of 0 or more.
    """
    pairs = _checked(sources, targets, rows, bos_id, eos_id, pad_id)

    def epochs() -> Iterator[Batch]:
        while True:
            order = torch.randperm(len(pairs), generator=generator).tolist()
            for pool in chunks(order, rows * POOL):
                if by_length:
                    pool.sort(key=lambda n: (len(pairs[n][1]), len(pairs[n][0])))
                batches = chunks(pool, rows)
                for b in torch.randperm(len(batches), generator=generator).tolist():
                    yield _batch([pairs[n] for n in batches[b]], pad_id)

    return epochs()


def ordered_pairs(
    sources: Sequence[Ids], targets: Sequence[Ids], rows: int, *, bos_id: int, eos_id: int, pad_id: int = 0
) -> list[Batch]:
    """Each pair once, in the order given: for `evaluate`.

    Raises:
        ValueError: as in `pair_batches`.
    """
    pairs = _checked(sources, targets, rows, bos_id, eos_id, pad_id)
    return [_batch(part, pad_id) for part in chunks(pairs, rows)]


def _checked(sources, targets, rows: int, bos_id: int, eos_id: int, pad_id: int) -> list[tuple[Tensor, Tensor]]:
    """(source, <s> target </s>) of each pair."""
    for name, value, least in (("rows", rows, 1), ("bos_id", bos_id, 0), ("eos_id", eos_id, 0), ("pad_id", pad_id, 0)):
        check_integer(name, value, least)
    if len(sources) != len(targets):
        raise ValueError(f"there are {len(sources)} sources and {len(targets)} targets; each source needs its target")
    return list(zip(vectors(sources, "source"), with_symbols(targets, bos_id, eos_id, "target"), strict=True))


def _batch(pairs: list[tuple[Tensor, Tensor]], pad_id: int) -> Batch:
    source = pad_sequence([source for source, _ in pairs], batch_first=True, padding_value=pad_id)
    lengths = torch.tensor([len(source) for source, _ in pairs])
    prefix, targets = pad([target for _, target in pairs], pad_id)
    return Batch(PairInputs(source, lengths, prefix), targets)
