"""The key/value cache. It owns the layout: how long each row is, hence positions and masks.

Row r holds `lengths[r]` real tokens in slots 0 .. lengths[r] - 1, without gaps, whatever the other rows do: a
token's slot IS its position. A batch of prompts of unequal length is run right-padded and then truncated to the
real lengths; the slots of the padding lie beyond the length, are never attended to, and are overwritten by the
next tokens. So padding cannot leak, and rolling back a rejected draft is the same one operation.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Where the `time` new tokens of each row stand, given how many tokens the row already has.

    Lengths are plain integers on the host: knowing them never makes the CPU wait for the device.
    """

    past: tuple[int, ...]  # tokens before this pass, one number a row
    time: int
    device: torch.device
    even: bool = field(init=False)  # all rows are equally long: then slices do, and no index has to be built
    keys: int = field(init=False)  # key slots in play: those of the longest row

    def __post_init__(
        self,
    ) -> None:  # at once, not when asked for: torch.compile stops at the lock of a cached_property
        object.__setattr__(self, "even", min(self.past) == max(self.past))
        object.__setattr__(self, "keys", max(self.past) + self.time)

    @cached_property
    def past_tensor(self) -> Int[Tensor, "rows"]:
        return torch.tensor(self.past, device=self.device)

    @property
    def positions(self) -> Int[Tensor, "rows time"] | slice:
        """The new tokens' positions: a slice when all rows are equally long, else (rows, time)."""
        if self.even:
            return slice(self.past[0], self.past[0] + self.time)
        return self.past_tensor[:, None] + torch.arange(self.time, device=self.device)

    @cached_property
    def causal(self) -> Bool[Tensor, "rows 1 time keys"]:
        """Key slot s is visible to the new token t of row r when s <= past[r] + t."""
        last = self.past_tensor[:, None] + torch.arange(self.time, device=self.device)  # (rows, time)
        if self.even:
            last = last[:1]
        return (torch.arange(self.keys, device=self.device) <= last[..., None])[:, None]

    def mask(self, causal: bool) -> Bool[Tensor, "rows 1 queries keys"] | None:
        """Without causality a row still ends where it ends: what lies in the slots beyond is another row's doing."""
        if causal or self.even:
            return self.causal if causal else None
        ends = self.past_tensor + self.time
        return torch.arange(self.keys, device=self.device) < ends[:, None, None, None]

    def fused(self, causal: bool) -> tuple[Tensor | None, bool]:
        """(attn_mask, is_causal) for torch's kernel. Its is_causal is top-left aligned: right only without a past."""
        if self.even and (not causal or self.time == 1):
            return None, False
        if self.even and self.past[0] == 0:
            return None, True
        return self.mask(causal), False


class KVCache:
    """Keys and values of all layers, (layers, rows, kv_heads, capacity, head_dim) each."""

    def __init__(self, layers: int, rows: int, kv_heads: int, capacity: int, head_dim: int, *, dtype, device):
        if rows < 1 or capacity < 1:
            raise ValueError(f"a cache needs rows >= 1 and capacity >= 1; got rows {rows}, capacity {capacity}")
        shape = (layers, rows, kv_heads, capacity, head_dim)
        self.k = torch.zeros(shape, dtype=dtype, device=device)
        self.v = torch.zeros(shape, dtype=dtype, device=device)
        self.lengths: list[int] = [0] * rows
        # [i, j]: so many first slots of rows i and j are equal. The diagonal is brought up to date by `reorder` alone:
        # a pass must not touch it, for torch.compile would trace the NumPy array as a tensor.
        self._same = np.zeros((rows, rows), dtype=np.int64)
        self._layout: Layout | None = None
        self.way: tuple | None = None  # the model's straight way through its blocks, kept here by DecoderLM
        self._index_layers()

    def __getstate__(self) -> dict:
        return self.__dict__ | {"way": None}  # a copy of the cache must not copy the model's weights

    def _index_layers(self) -> None:
        # Views of each layer, made once: indexing 60 times a token shows in a 30-layer model.
        self._k_layers, self._v_layers = list(self.k), list(self.v)

    @property
    def rows(self) -> int:
        return len(self.lengths)

    @property
    def capacity(self) -> int:
        return self.k.size(3)

    def layout(self, rows: int, time: int) -> Layout:
        """Begin a pass over `time` new tokens in each row. `advance` ends it.

        Raises:
            ValueError: when the rows do not match, or the tokens do not fit.
        """
        if rows != self.rows:
            raise ValueError(f"ids has {rows} rows and the cache {self.rows}; they must agree (see cache.reorder)")
        if max(self.lengths) + time > self.capacity:
            raise ValueError(
                f"{time} new tokens after {max(self.lengths)} do not fit the cache's capacity of {self.capacity}; "
                "ask new_cache for a larger one"
            )
        self._layout = Layout(tuple(self.lengths), time, self.k.device)
        return self._layout

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new keys and values of one layer, and return that layer's all (rows, kv_heads, keys, head_dim)."""
        keys = self._layout.keys
        all_k, all_v = self._k_layers[layer].narrow(2, 0, keys), self._v_layers[layer].narrow(2, 0, keys)
        if not k.requires_grad:
            return self._write(all_k, k), self._write(all_v, v)
        # With gradients the past is a constant, and the new tokens are written into a copy that autograd may follow.
        with torch.no_grad():
            self._write(all_k, k), self._write(all_v, v)
        return self._write(all_k.clone(), k), self._write(all_v.clone(), v)

    def _write(self, slots: Tensor, new: Tensor) -> Tensor:
        layout = self._layout
        if layout.even:
            slots.narrow(2, layout.past[0], layout.time).copy_(new)
        else:
            rows = torch.arange(self.rows, device=new.device)[:, None]
            slots[rows, :, layout.positions] = new.transpose(1, 2)
        return slots

    def advance(self, time: int) -> None:
        """The pass is over: every row is `time` tokens longer."""
        self.lengths = [length + time for length in self.lengths]
        self._layout = None

    def truncate(self, lengths: Sequence[int]) -> None:
        """Forget what lies beyond lengths[r] in each row: padding after a ragged prompt, or a rejected draft.

        Raises:
            ValueError: when a new length is below 0 or above the present one.
            TypeError: lengths that are not integers.
        """
        self.lengths = checked_lengths(self.lengths, lengths)
        known = np.array(self.lengths)  # what lies beyond will be written anew
        self._same = np.minimum(self._same, np.minimum(known[:, None], known))

    def reorder(self, rows: Sequence[int] | Int[Tensor, "new_rows"]) -> None:
        """Row i becomes a copy of the old row rows[i]; beams are born and die here. The number may change.

        Raises:
            ValueError: no rows, or one that the cache does not have.
            TypeError: rows that are not integers (a boolean mask, for one, would be read as rows 0 and 1).
        """
        before, lengths = self.rows, self.lengths
        self.lengths, sources = reordered_lengths(lengths, rows)
        np.fill_diagonal(self._same, lengths)  # a row is equal to itself
        if len(sources) != before:
            index = torch.tensor(sources, device=self.k.device)
            self.k, self.v = self.k.index_select(1, index), self.v.index_select(1, index)
            self._index_layers()
        else:
            self._copy_rows([(source, row) for row, source in enumerate(sources) if source != row])
        self._same = self._same[sources][:, sources]

    def _copy_rows(self, moves: list[tuple[int, int]]) -> None:
        """Row `source` over row `row`, for each pair at once; only the slots in which the two differ.

        Beams mostly share all but their last few tokens, and copying is most of what a small model's search costs.
        """
        start = min((int(self._same[move]) for move in moves), default=0)
        end = max((self.lengths[row] for _, row in moves), default=0)  # the new lengths: those of the sources
        if start >= end:
            return
        sources, targets = torch.tensor(moves, device=self.k.device).t()
        for slots in (self.k.narrow(3, start, end - start), self.v.narrow(3, start, end - start)):
            slots.index_copy_(1, targets, slots.index_select(1, sources))


class HistoryCache:
    """The token ids themselves, for a model that keeps nothing else: it looks its whole prefix up again."""

    def __init__(self, rows: int, capacity: int):
        if rows < 1 or capacity < 1:
            raise ValueError(f"a cache needs rows >= 1 and capacity >= 1; got rows {rows}, capacity {capacity}")
        self.prefixes: list[list[int]] = [[] for _ in range(rows)]
        self.capacity = capacity

    @property
    def rows(self) -> int:
        return len(self.prefixes)

    @property
    def lengths(self) -> list[int]:
        return [len(prefix) for prefix in self.prefixes]

    def append(self, ids: Int[Tensor, "rows time"]) -> None:
        if ids.size(0) != self.rows:
            raise ValueError(f"ids has {ids.size(0)} rows and the cache {self.rows}; they must agree")
        if max(self.lengths) + ids.size(1) > self.capacity:
            raise ValueError(
                f"{ids.size(1)} new tokens after {max(self.lengths)} do not fit the cache's capacity of {self.capacity}"
            )
        for prefix, new in zip(self.prefixes, ids.tolist(), strict=True):
            prefix.extend(new)

    def truncate(self, lengths: Sequence[int]) -> None:
        new = checked_lengths(self.lengths, lengths)
        self.prefixes = [prefix[:length] for prefix, length in zip(self.prefixes, new, strict=True)]

    def reorder(self, rows: Sequence[int] | Int[Tensor, "new_rows"]) -> None:
        _, picked = reordered_lengths(self.lengths, rows)
        self.prefixes = [list(self.prefixes[row]) for row in picked]


def checked_lengths(now: list[int], new: Sequence[int]) -> list[int]:
    """The new lengths as integers, or a ValueError that says which one is off."""
    new = [operator.index(length) for length in new]  # refuses 2.5, which int() would cut to 2
    if len(new) != len(now):
        raise ValueError(f"truncate got {len(new)} lengths for {len(now)} rows")
    for row, (old, length) in enumerate(zip(now, new, strict=True)):
        if not 0 <= length <= old:
            raise ValueError(f"row {row} cannot be cut to {length} tokens; it has {old}")
    return new


def reordered_lengths(now: list[int], rows) -> tuple[list[int], list[int]]:
    """The new lengths, and the rows as checked integers."""
    index = torch.as_tensor(rows)
    if index.numel() and index.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"reorder got rows of {index.dtype}; they must be integers")
    picked = index.tolist()
    if not picked or min(picked) < 0 or max(picked) >= len(now):
        raise ValueError(f"reorder got rows {picked}; each must lie between 0 and {len(now) - 1}, at least one")
    return [now[row] for row in picked], picked
