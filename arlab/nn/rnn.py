"""Recurrent models: the whole past in one state vector, brought up to date token by token (Elman, 1990).

Nothing in "predict, choose, append" asks for attention. The state summarises everything read so far, so a step costs
the same however long the text is; but all that is to be remembered has to fit into that one vector, and training
has to walk through the positions one after the other. `RecurrentLM` continues a text, `Seq2SeqRNN` answers a source.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from arlab.nn.attention import attention
from arlab.nn.cross_attention import source_mask
from arlab.nn.fixed_window import check_sizes, inputs_with_bos
from arlab.nn.given import EncoderDecoder, Memory
from arlab.nn.language_model import checked_ids, row_lengths
from arlab.nn.states import CELLS, State, StateCache, read_ragged, run_cell, zeros


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
        return StateCache(rows, capacity, zeros(self.cell, rows))

    def forward(self, ids: Tensor, cache: StateCache | None = None) -> Float[Tensor, "rows time vocab"]:
        """Logits at every position; with a cache, `ids` are the new tokens only.

        The state that a cache keeps is a constant to autograd, as the past is in a key/value cache.

        Raises:
            ValueError: ids out of range or of the wrong shape, or more than the cache holds.
            TypeError: ids that are not integers.
        """
        x, state = self._begin(ids, cache)
        out, state = run_cell(self.cell, x, state)
        if cache is not None:
            cache.keep(state, [ids.size(1)] * ids.size(0))
        return self.head(out)

    def last_logits(
        self, ids: Tensor, cache: StateCache | None = None, lengths: Sequence[int] | None = None
    ) -> Float[Tensor, "rows vocab"]:
        """Logits after each row's last real token alone. The cache's state stops there too, before the padding.

        Raises:
            ValueError: as in `forward`; a length for more or fewer rows than there are, or outside 1 .. time.
        """
        lengths = row_lengths(lengths, *ids.shape)
        state = read_ragged(self.cell, *self._begin(ids, cache), lengths)
        if cache is not None:
            cache.keep(state, lengths)
        return self.head(state[0][-1])  # the upper layer's h is what the cell puts out at the last token

    def forward_embeddings(self, x: Float[Tensor, "rows time d_model"]) -> Float[Tensor, "rows time vocab"]:
        """From token embeddings to logits: what the leak detector differentiates."""
        return self.head(run_cell(self.cell, x)[0])

    def _begin(self, ids: Tensor, cache: StateCache | None) -> tuple[Float[Tensor, "rows time d_model"], State]:
        """The new tokens, embedded, and the state to go on from; the cache has their ids already."""
        if ids.device.type == "cpu":  # on a GPU the check would make the host wait
            checked_ids(ids, self)
        if cache is None:
            return self.embed_tokens(ids), zeros(self.cell, ids.size(0))
        cache.catch_up(lambda: zeros(self.cell, cache.rows), self._read)
        cache.append(ids)
        return self.embed_tokens(ids), cache.state

    def _read(self, rows: list[int], ids: Tensor, lengths: list[int]) -> State:
        return read_ragged(self.cell, self.embed_tokens(ids), zeros(self.cell, len(rows)), lengths)


class SourceAttention(nn.Module):
    """c_t = sum_i alpha(s_{t-1}, h_i) h_i: the query is the decoder's state, keys and values are the encoder's states.

    alpha is the softmax over i of (W s)^T h_i / sqrt(d); W lets a state meet source states of another width (the
    "general" score of Luong et al., 2015, with the transformer's scale). Lecture 004; Bahdanau et al. (2015).
    """

    def __init__(self, d_hidden: int, d_source: int):
        super().__init__()
        self.q = nn.Linear(d_hidden, d_source, bias=False)
        self.recording: dict | None = None  # set by record_attention
        self.layer, self.kind = 0, "cross"

    def forward(
        self, s: Float[Tensor, "rows d_hidden"], h: Float[Tensor, "rows source_time d_source"], mask: Tensor | None
    ) -> tuple[Float[Tensor, "rows d_source"], Float[Tensor, "rows source_time"]]:
        context, weights = attention(self.q(s)[:, None], h, h, mask)
        return context[:, 0], weights[:, 0]


class Seq2SeqRNN(EncoderDecoder):
    """A recurrent encoder-decoder (Sutskever et al., 2014; Cho et al., 2014; lecture 004).

        h_i = Encoder(x_i, h_{i-1}),   s_t = Decoder([y_{t-1}; c], s_{t-1}),   logits_t = Linear(s_t)

    Without attention one context c stands for the whole source at every step: the encoder's last state, or the mean
    of all of them. With attention c_t is a new one at each step. s_0 = tanh(W c) in every layer, c the fixed context.
    """

    context_length: int | None = None

    def __init__(
        self,
        source_vocab: int,
        vocab_size: int,
        d_model: int,
        d_hidden: int,
        layers: int = 1,
        kind: str = "gru",
        *,
        bos_id: int,
        attention: bool = False,
        bidirectional: bool = False,
        context: str = "last",
        source_length: int | None = None,
        seed: int | None = None,
    ):
        """
        Args:
            bidirectional: a second encoder reads from right to left; h_i is both states side by side.
            context: "last" (of a bidirectional encoder: each direction's last) or "mean".
            source_length: the longest source; None, as a state has no limit.

        Raises:
            ValueError: a size below 1, an unknown kind or context, a bos_id above vocab_size.
        """
        super().__init__()
        sizes = {"source_vocab": source_vocab, "vocab_size": vocab_size, "d_model": d_model, "d_hidden": d_hidden}
        check_sizes(**sizes, layers=layers, source_length=1 if source_length is None else source_length)
        if kind not in CELLS:
            raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(CELLS)}")
        if context not in ("last", "mean"):
            raise ValueError(f"context is {context!r}; it must be 'last' or 'mean'")
        if bos_id is None:
            raise ValueError("bos_id is None; a decoder needs a symbol to start every target from")
        self.source_vocab, self.vocab_size, self.bos_id = source_vocab, vocab_size, bos_id
        self.source_length, self.context = source_length, context
        d_source = d_hidden * (2 if bidirectional else 1)
        self.embed_source = nn.Embedding(source_vocab, d_model)
        self.embed_tokens = nn.Embedding(inputs_with_bos(vocab_size, bos_id), d_model)
        self.encoder = CELLS[kind](d_model, d_hidden, layers, batch_first=True, bidirectional=bidirectional)
        self.attend = SourceAttention(d_hidden, d_source) if attention else None
        self.start = nn.Linear(d_source, layers * d_hidden)
        self.cell = CELLS[kind](d_model + d_source, d_hidden, layers, batch_first=True)
        self.head = nn.Linear(d_hidden, vocab_size)
        self.init_weights(seed)

    @torch.no_grad()
    def init_weights(self, seed: int | None = None) -> None:
        """Embeddings N(0, 1); all else uniform within 1 / sqrt(width), as torch.nn.RNN and torch.nn.Linear have it."""
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                module.weight.normal_(generator=generator)
            elif isinstance(module, (nn.RNNBase, nn.Linear)):
                width = module.hidden_size if isinstance(module, nn.RNNBase) else module.in_features
                for parameter in module.parameters():
                    parameter.uniform_(-(width**-0.5), width**-0.5, generator=generator)

    def _encode(self, x: Tensor, lengths: Tensor) -> Float[Tensor, "rows source_time d_source"]:
        """h_1 .. h_n of the upper layer, both directions side by side; 0 behind a source's own end."""
        ends = lengths.cpu()  # where the padding begins: a state that had read it would be another one
        if int(ends.min()) == x.size(1):
            return run_cell(self.encoder, x)[0]
        packed = pack_padded_sequence(x, ends, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(run_cell(self.encoder, packed)[0], batch_first=True, total_length=x.size(1))[0]

    def remember(self, h: Float[Tensor, "sources source_time d_source"], lengths: Int[Tensor, "sources"]) -> Memory:
        """What the decoder reads: h_1 .. h_n and their mask for attention, the fixed context c, and s_0."""
        if self.context == "mean":
            c = h.sum(1) / lengths[:, None]
        else:
            c = h[torch.arange(h.size(0), device=h.device), lengths - 1]
            if self.encoder.bidirectional:  # the second half reads from right to left: its last state stands first
                width = self.encoder.hidden_size
                c = torch.cat([c[:, :width], h[:, 0, width:]], dim=-1)
        mask = source_mask(lengths, h.size(1))
        start = self.start(c).tanh().view(h.size(0), self.cell.num_layers, self.cell.hidden_size)
        return Memory([h, None if mask is None else mask[:, 0], c, start], h.size(0))

    def decode(self, x: Float[Tensor, "rows time d_model"], memory: Memory) -> Float[Tensor, "rows time d_hidden"]:
        """From target embeddings to what the head turns into logits."""
        return self._unroll(x, memory, self._start(memory))[0]

    def hidden(
        self, ids: Int[Tensor, "rows time"], memory: Memory, cache: SourceStateCache | None = None
    ) -> Float[Tensor, "rows time d_hidden"]:
        """`decode`, from ids on and with a cache: the state, and the ids that it has read."""
        if cache is None:
            return self.decode(self.embed_tokens(ids), memory)
        cache.catch_up(lambda: self._start(memory), lambda *again: self._read(memory, *again))
        cache.append(ids)
        out, state = self._unroll(self.embed_tokens(ids), memory, cache.state)
        cache.keep(state, [ids.size(1)] * ids.size(0))
        return out

    def _new_cache(self, memory: Memory, capacity: int) -> SourceStateCache:
        return SourceStateCache(memory, capacity, self._start(memory))

    def _start(self, memory: Memory) -> State:
        h = memory[3].transpose(0, 1).contiguous()  # (layers, rows, d_hidden)
        return (h, torch.zeros_like(h)) if isinstance(self.cell, nn.LSTM) else (h,)

    def _unroll(self, x: Tensor, memory: Memory, state: State) -> tuple[Float[Tensor, "rows time d_hidden"], State]:
        if self.attend is None:  # the context does not depend on the state: torch runs through all steps by itself
            c = memory[2][:, None].expand(-1, x.size(1), -1)
            return run_cell(self.cell, torch.cat([x, c], dim=-1), state)
        outs, maps = [], []
        for t in range(x.size(1)):
            c, weights = self.attend(state[0][-1], memory[0], memory[1])  # the query is s_{t-1}
            out, state = run_cell(self.cell, torch.cat([x[:, t], c], dim=-1)[:, None], state)
            outs.append(out)
            maps.append(weights)
        if self.attend.recording is not None:
            self.attend.recording[0] = torch.stack(maps, dim=1)[:, None].detach().float()  # one head
        return torch.cat(outs, dim=1), state

    def _read(self, memory: Memory, rows: list[int], ids: Tensor, lengths: list[int]) -> State:
        """The states of some rows after their first lengths[r] ids: those of one length together."""
        state = tuple(part.clone() for part in self._start(memory.pick(rows)))
        for length in set(lengths):
            alike = [row for row, own in enumerate(lengths) if own == length]
            part = memory.pick([rows[row] for row in alike])
            _, new = self._unroll(self.embed_tokens(ids[alike, :length]), part, self._start(part))
            for whole, half in zip(state, new, strict=True):
                whole[:, alike] = half
        return state


class SourceStateCache(StateCache):
    """The decoder's state, and beside it what it reads of the source: `memory`, which never changes."""

    def __init__(self, memory: Memory, capacity: int, state: State):
        super().__init__(memory.rows, capacity, state)
        self.memory = memory

    def reorder(self, rows: Sequence[int] | Int[Tensor, "new_rows"]) -> None:
        super().reorder(rows)
        self.memory = self.memory.pick(rows)
