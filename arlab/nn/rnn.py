"""A recurrent language model: the whole past in one state vector, brought up to date token by token (Elman, 1990).

Nothing in "predict, choose, append" asks for attention. The state summarises everything read so far, so a step costs
the same however long the text is; but all that is to be remembered has to fit into that one vector, and training
has to walk through the positions one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from arlab.nn.cache import HistoryCache, reordered_lengths
from arlab.nn.fixed_window import check_sizes, inputs_with_bos
from arlab.nn.language_model import checked_ids, row_lengths

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


class RecurrentLM(nn.Module):
    """Embedding, recurrent layers, logits.

    The layers are a plain RNN (tanh), a GRU (Cho et al., 2014) or an LSTM (Hochreiter and Schmidhuber, 1997).
    Satisfies the language-model protocol; run token by token or over the whole text, it gives the same logits.
    """

    context_length: int | None = None

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        d_hidden: int,
        layers: int = 1,
        kind: str = "rnn",
        *,
        bos_id: int | None = None,
        seed: int | None = None,
    ):
        """
        Raises:
            ValueError: a size below 1, an unknown kind, a bos_id above vocab_size.
        """
        super().__init__()
        check_sizes(vocab_size=vocab_size, d_model=d_model, d_hidden=d_hidden, layers=layers)
        if kind not in CELLS:
            raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(CELLS)}")
        inputs = inputs_with_bos(vocab_size, bos_id)
        self.vocab_size, self.kind, self.bos_id = vocab_size, kind, bos_id
        self.embed_tokens = nn.Embedding(inputs, d_model)
        self.cell = CELLS[kind](d_model, d_hidden, layers, batch_first=True)
        self.head = nn.Linear(d_hidden, vocab_size)
        self.init_weights(seed)

    @torch.no_grad()
    def init_weights(self, seed: int | None = None) -> None:
        """Embeddings N(0, 1); all else uniform within 1 / sqrt(d_hidden), as torch.nn.RNN has it."""
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        bound = self.cell.hidden_size**-0.5
        for parameter in (*self.cell.parameters(), *self.head.parameters()):
            parameter.uniform_(-bound, bound, generator=generator)
        self.embed_tokens.weight.normal_(generator=generator)

    def new_cache(self, rows: int, capacity: int) -> StateCache:
        return StateCache(rows, capacity, self._zeros(rows))

    def forward(self, ids: Tensor, cache: StateCache | None = None) -> Float[Tensor, "rows time vocab"]:
        """Logits at every position; with a cache, `ids` are the new tokens only.

        The state that a cache keeps is a constant to autograd, as the past is in a key/value cache.

        Raises:
            ValueError: ids out of range or of the wrong shape, or more than the cache holds.
            TypeError: ids that are not integers.
        """
        x, state = self._begin(ids, cache)
        out, state = self._run(x, state)
        self._keep(cache, state, [ids.size(1)] * ids.size(0))
        return self.head(out)

    def last_logits(
        self, ids: Tensor, cache: StateCache | None = None, lengths: Sequence[int] | None = None
    ) -> Float[Tensor, "rows vocab"]:
        """Logits after each row's last real token alone. The cache's state stops there too, before the padding.

        Raises:
            ValueError: as in `forward`; a length for more or fewer rows than there are, or outside 1 .. time.
        """
        lengths = row_lengths(lengths, *ids.shape)
        state = self._read_ragged(*self._begin(ids, cache), lengths)
        self._keep(cache, state, lengths)
        return self.head(state[0][-1])  # the upper layer's h is what the cell puts out at the last token

    def forward_embeddings(self, x: Float[Tensor, "rows time d_model"]) -> Float[Tensor, "rows time vocab"]:
        """From token embeddings to logits: what the leak detector differentiates."""
        return self.head(self._run(x, self._zeros(x.size(0)))[0])

    def _begin(self, ids: Tensor, cache: StateCache | None) -> tuple[Float[Tensor, "rows time d_model"], State]:
        """The new tokens, embedded, and the state to go on from; the cache has their ids already."""
        if ids.device.type == "cpu":  # on a GPU the check would make the host wait
            checked_ids(ids, self)
        if cache is None:
            return self.embed_tokens(ids), self._zeros(ids.size(0))
        self._catch_up(cache)
        cache.append(ids)
        return self.embed_tokens(ids), cache.state

    def _keep(self, cache: StateCache | None, state: State, new: list[int]) -> None:
        """The cache's states have read new[r] more tokens."""
        if cache is not None:
            cache.state = tuple(part.detach() for part in state)
            cache.read = [before + more for before, more in zip(cache.read, new, strict=True)]

    def _catch_up(self, cache: StateCache) -> None:
        """Read truncated rows again from their ids, so that every state stands at the end of its row."""
        stale = cache.stale
        if not stale:
            return
        state = tuple(part.clone() for part in cache.state)
        for part in state:
            part[:, stale] = 0
        again = [row for row in stale if cache.prefixes[row]]
        if again:
            lengths = [cache.lengths[row] for row in again]
            padded = [cache.prefixes[row] + [0] * (max(lengths) - n) for row, n in zip(again, lengths, strict=True)]
            x = self.embed_tokens(torch.tensor(padded, device=state[0].device))
            for part, new in zip(state, self._read_ragged(x, self._zeros(len(again)), lengths), strict=True):
                part[:, again] = new.detach()
        cache.state, cache.read = state, cache.lengths

    def _run(self, x: Tensor | PackedSequence, state: State) -> tuple[Tensor | PackedSequence, State]:
        # cuDNN's recurrent kernels have no backward pass in eval mode, which the leak detector asks for.
        with torch.backends.cudnn.flags(enabled=self.training or not torch.is_grad_enabled()):
            out, new = self.cell(x, state if self.kind == "lstm" else state[0])
        return out, new if self.kind == "lstm" else (new,)

    def _read_ragged(self, x: Float[Tensor, "rows time d_model"], state: State, lengths: list[int]) -> State:
        """The state of each row after its first lengths[r] inputs."""
        if min(lengths) == x.size(1):
            return self._run(x, state)[1]
        packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
        return self._run(packed, state)[1]

    def _zeros(self, rows: int) -> State:
        like = self.head.weight
        shape = (self.cell.num_layers, rows, self.cell.hidden_size)
        return tuple(like.new_zeros(shape) for _ in range(2 if self.kind == "lstm" else 1))
