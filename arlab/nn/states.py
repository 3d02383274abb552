"""The state of a recurrent model, as a cache: one vector a layer stands for all that a row has read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from arlab.nn.cache import HistoryCache, reordered_lengths

CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
State = tuple[Tensor, ...]  # (h,), an LSTM's (h, c); each (layers, rows, d_hidden)


class StateCache(HistoryCache):
    """The state of each row, and the ids it has read.

    A state cannot be rolled back: what it read last is mixed into all of it. So the ids are kept too, and a row that
    was truncated below what its state has read is read again from the start, at the next pass.
    """

    def __init__(self, rows: int, capacity: int, state: State):
        super().__init__(rows, capacity)
        self.state = state
        self.read = [0] * rows  # tokens that each row's state has read

    def reorder(self, rows: Sequence[int] | Int[Tensor, "new_rows"]) -> None:
        _, picked = reordered_lengths(self.lengths, rows)
        index = torch.tensor(picked, device=self.state[0].device)
        super().reorder(rows)
        self.state = tuple(part.index_select(1, index) for part in self.state)
        self.read = [self.read[row] for row in picked]

    @property
    def stale(self) -> list[int]:
        """The rows whose state has read another number of tokens than they have."""
        return [row for row, (read, now) in enumerate(zip(self.read, self.lengths, strict=True)) if read != now]

    def keep(self, state: State, new: Sequence[int]) -> None:
        """The states have read new[r] more tokens. They are constants to autograd, as the past of a KVCache is."""
        self.state = tuple(part.detach() for part in state)
        self.read = [before + more for before, more in zip(self.read, new, strict=True)]

    def catch_up(self, start: Callable[[], State], read: Callable[[list[int], Tensor, list[int]], State]) -> None:
        """Read truncated rows again from their ids, so that every state stands at the end of its row.

        Args:
            start: the states that all rows begin from.
            read: (rows, padded ids, lengths) -> the states of those rows after that many tokens, from the start.
        """
        stale = self.stale
        if not stale:
            return
        state = tuple(part.clone() for part in self.state)
        for part, first in zip(state, start(), strict=True):
            part[:, stale] = first[:, stale].detach()
        again = [row for row in stale if self.prefixes[row]]
        if again:
            lengths = [self.lengths[row] for row in again]
            padded = [self.prefixes[row] + [0] * (max(lengths) - n) for row, n in zip(again, lengths, strict=True)]
            ids = torch.tensor(padded, device=state[0].device)
            for part, new in zip(state, read(again, ids, lengths), strict=True):
                part[:, again] = new.detach()
        self.state, self.read = state, self.lengths


def run_cell(
    cell: nn.RNNBase, x: Float[Tensor, "rows time d"] | PackedSequence, state: State | None = None
) -> tuple[Float[Tensor, "rows time d_hidden"] | PackedSequence, State]:
    """The upper layer's output at every position, and the state at the end; None begins from zeros."""
    if state is not None:
        state = state if isinstance(cell, nn.LSTM) else state[0]
    # cuDNN's recurrent kernels have no backward pass in eval mode, which the leak detector asks for.
    with torch.backends.cudnn.flags(enabled=cell.training or not torch.is_grad_enabled()):
        out, new = cell(x, state)
    return out, new if isinstance(cell, nn.LSTM) else (new,)


def read_ragged(cell: nn.RNNBase, x: Float[Tensor, "rows time d"], state: State, lengths: Sequence[int]) -> State:
    """The state of each row after its first lengths[r] inputs."""
    if min(lengths) == x.size(1):
        return run_cell(cell, x, state)[1]
    packed = pack_padded_sequence(x, torch.tensor(list(lengths)), batch_first=True, enforce_sorted=False)
    return run_cell(cell, packed, state)[1]


def zeros(cell: nn.RNNBase, rows: int) -> State:
    """The state of rows that have read nothing."""
    like = next(cell.parameters())
    shape = (cell.num_layers, rows, cell.hidden_size)
    return tuple(like.new_zeros(shape) for _ in range(2 if isinstance(cell, nn.LSTM) else 1))
