"""An encoder-decoder with its source fixed is a language model: p(y | x) = p(y_1 | x) p(y_2 | y_1, x) ...

`model.given(source)` satisfies the one protocol, so every decoder and every view takes it unchanged. The encoded
source lives in the cache, beside what the decoder keeps of its own past, and is reordered with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from arlab.nn.cache import reordered_lengths
from arlab.nn.language_model import checked_ids, model_device, pick_last
from arlab.text.pairs import PairInputs, pad_sources


class Memory:
    """What a decoder reads of its sources: tensors with a row for each source, and which source each row of ids has.

    Beams of one source, and samples of one source, share its row: it is expanded or gathered when it is asked for,
    and gathered again only when the rows change their sources. Reordering beams within a source copies nothing.
    """

    def __init__(self, tensors: Sequence[Tensor | None], sources: int, which: Sequence[int] | None = None):
        self._tensors, self.sources = tuple(tensors), sources
        self.which = list(range(sources)) if which is None else list(which)
        self._gathered: dict[int, Tensor | None] = {}

    @property
    def rows(self) -> int:
        return len(self.which)

    def __getitem__(self, number: int) -> Tensor | None:
        """Tensor `number`, with a row for each row of ids."""
        if number not in self._gathered:
            self._gathered[number] = self._gather(self._tensors[number])
        return self._gathered[number]

    def _gather(self, tensor: Tensor | None) -> Tensor | None:
        if tensor is None or self.which == list(range(self.sources)):
            return tensor
        if self.sources == 1:
            return tensor.expand(self.rows, *tensor.shape[1:])
        return tensor.index_select(0, torch.tensor(self.which, device=tensor.device))

    def pick(self, rows: Sequence[int] | Int[Tensor, "new_rows"]) -> Memory:
        """Row i reads what row rows[i] read."""
        which, _ = reordered_lengths(self.which, rows)
        return self if which == self.which else Memory(self._tensors, self.sources, which)

    def for_rows(self, rows: int) -> Memory:
        """As many rows as sources, or the same number for each source, side by side: what n samples a prompt ask for.

        Raises:
            ValueError: a number of rows that is no multiple of the number of sources.
        """
        each, left = divmod(rows, self.sources)
        if left or not each:
            raise ValueError(
                f"there are {rows} rows of ids for {self.sources} sources; give each source the same number of rows"
            )
        return self.pick([source for source in range(self.sources) for _ in range(each)])


class EncoderDecoder(nn.Module):
    """What the recurrent and the transformer encoder-decoder have in common.

    Each has `embed_source`, `embed_tokens` (the target's) and `head`, `_encode(x, lengths)`, `remember(h, lengths)`,
    `decode(x, memory)` and, with a cache, `hidden(ids, memory, cache)` and `_new_cache(memory, capacity)`.
    """

    # --- training: source and true prefix in, logits for every target position out

    def forward(self, inputs: PairInputs) -> Float[Tensor, "rows time vocab"]:
        """The teacher-forced pass: row t of the logits predicts y_t from the source and y_1 .. y_{t-1}.

        Raises:
            ValueError: an empty or too long source, a target longer than the context, ids out of range.
            TypeError: ids that are not integers, inputs that are not PairInputs.
        """
        check_inputs(inputs, self)
        return self.forward_embeddings(self.source_embeddings(inputs.source), inputs)

    def forward_embeddings(
        self, x: Float[Tensor, "rows source_time d_model"], inputs: PairInputs
    ) -> Float[Tensor, "rows time vocab"]:
        """`forward` from the source's embeddings on, so that a gradient can be followed back to each source token.

        Raises:
            ValueError: embeddings of another number of rows or tokens than inputs.source has.
        """
        if x.shape[:2] != inputs.source.shape:
            raise ValueError(
                f"x has shape {tuple(x.shape)} and inputs.source {tuple(inputs.source.shape)}; needed an x for each id"
            )
        memory = self.remember(self._encode(x, inputs.lengths), inputs.lengths)
        return self.head(self.decode(self.embed_tokens(inputs.prefix), memory))

    # --- decoding: the source in, a language model out

    def given(self, source, *, lengths: Int[Tensor, "sources"] | None = None) -> GivenSource:
        """The language model p(y | source).

        Args:
            source: ids of one source; a list of several such lists; or padded ids (sources, time) with `lengths`,
                the real tokens of each.

        Raises:
            ValueError: an empty source, one longer than the model reads, an id outside the source vocabulary.
            TypeError: ids that are not integers.
        """
        return GivenSource(self, source, lengths)

    def new_cache(self, memory: Memory, capacity: int):
        """For `given(source).new_cache(rows, capacity)`, which knows the source.

        Raises:
            ValueError: a capacity above the longest target.
            TypeError: a number of rows instead of a memory: an encoder-decoder alone is no language model.
        """
        if not isinstance(memory, Memory):
            raise TypeError("an encoder-decoder needs its source to decode: take model.given(source)")
        if self.context_length is not None and capacity > self.context_length:
            raise ValueError(f"capacity is {capacity}, more than the model's context_length of {self.context_length}")
        return self._new_cache(memory, capacity)

    # --- the encoder

    def source_embeddings(self, source: Int[Tensor, "rows source_time"]) -> Float[Tensor, "rows source_time d_model"]:
        return self.embed_source(source)

    def encode(
        self, source: Int[Tensor, "rows source_time"], lengths: Int[Tensor, "rows"]
    ) -> Float[Tensor, "rows source_time d_source"]:
        """H_enc = [h_1 .. h_n] of lecture 004; behind a source's own end it means nothing.

        Raises:
            ValueError: an empty or too long source, ids out of range, lengths that do not fit.
            TypeError: what is no integer tensor.
        """
        check_source_lengths(source, lengths, self)
        return self._encode(self.source_embeddings(source), lengths)


class GivenSource(nn.Module):
    """A language model over targets: what `given` returns. `model` is the encoder-decoder, its weights are shared.

    A batch of prompts has one row for each source (or several, side by side); one source serves any number of rows.
    """

    def __init__(self, model: EncoderDecoder, source, lengths: Int[Tensor, "sources"] | None = None):
        super().__init__()
        self.model = model
        source, lengths = checked_source(source, lengths, model)
        # Buffers, so that .to(device) takes them along; not for the state dict.
        self.register_buffer("source", source, persistent=False)
        self.register_buffer("lengths", lengths, persistent=False)

    @property
    def vocab_size(self) -> int:
        return self.model.vocab_size

    @property
    def context_length(self) -> int | None:
        return self.model.context_length

    @property
    def bos_id(self) -> int:
        return self.model.bos_id

    @property
    def embed_tokens(self) -> nn.Module:
        return self.model.embed_tokens

    def new_cache(self, rows: int, capacity: int):
        """The source, encoded now, and room for `capacity` target tokens in each of `rows` rows.

        Raises:
            ValueError: a number of rows that is no multiple of the number of sources; a capacity above the longest
                target.
        """
        with torch.no_grad():  # what a cache holds is a constant to autograd
            return self.model.new_cache(self._memory(rows), capacity)

    def forward(self, ids: Tensor, cache=None) -> Float[Tensor, "rows time vocab"]:
        """Logits at every position; with a cache, `ids` are the new tokens only.

        Raises:
            ValueError: ids out of range, of the wrong shape, too long; rows that do not fit the sources.
            TypeError: ids that are not integers.
        """
        return self.model.head(self._hidden(ids, cache))

    def last_logits(self, ids: Tensor, cache=None, lengths: Sequence[int] | None = None) -> Float[Tensor, "rows vocab"]:
        """Logits after each row's last token alone, or after token lengths[r] of a right-padded row r."""
        return self.model.head(pick_last(self._hidden(ids, cache), lengths))

    def forward_embeddings(self, x: Float[Tensor, "rows time d_model"]) -> Float[Tensor, "rows time vocab"]:
        """From target embeddings to logits: what the leak detector differentiates."""
        return self.model.head(self.model.decode(x, self._memory(x.size(0))))

    def _hidden(self, ids: Tensor, cache) -> Float[Tensor, "rows time d"]:
        if not isinstance(ids, Tensor) or ids.device.type == "cpu":  # on a GPU the check would make the host wait
            checked_ids(ids, self)
        memory = self._memory(ids.size(0)) if cache is None else cache.memory
        return self.model.hidden(ids, memory, cache)

    def _memory(self, rows: int) -> Memory:
        x = self.model.source_embeddings(self.source)  # checked when it was given
        return self.model.remember(self.model._encode(x, self.lengths), self.lengths).for_rows(rows)


def checked_source(
    source, lengths: Int[Tensor, "sources"] | None, model: nn.Module
) -> tuple[Int[Tensor, "sources source_time"], Int[Tensor, "sources"]]:
    """Padded ids and real lengths, on the model's device, of a list of ids, a list of such lists, or a tensor.

    Raises:
        ValueError: an empty source, one longer than the model reads, an id outside its source vocabulary, a length
            beyond a source's own.
        TypeError: ids that are not integers.
    """
    if hasattr(source, "dtype"):
        source = torch.atleast_2d(torch.as_tensor(source))  # a NumPy array, say
        own = torch.full((source.size(0),), source.size(1))
    else:
        source, own = pad_sources(list(source) if _holds_rows(source) else [list(source)])
    lengths = own if lengths is None else torch.as_tensor(lengths)
    check_source_lengths(source, lengths, model)
    if lengths.device.type == "cpu" and bool((lengths > own).any()):  # lists: what was filled up is no token
        wrong = int((lengths > own).nonzero()[0])
        raise ValueError(f"source {wrong} has {int(own[wrong])} tokens and the length {int(lengths[wrong])}")
    device = model_device(model)
    return source.long().to(device), lengths.long().to(device)


def _holds_rows(source) -> bool:
    """Whether it is a sequence of sources, and not one of ids."""
    if isinstance(source, str) or not hasattr(source, "__len__") or not hasattr(source, "__getitem__"):
        raise TypeError(f"the source is {source!r}; it must be ids: a list, a list of lists, or a tensor")
    return len(source) > 0 and (hasattr(source[0], "__len__") and getattr(source[0], "ndim", 1) > 0)


def check_inputs(inputs: PairInputs, model: nn.Module) -> None:
    """What an encoder-decoder is trained on. On a GPU ids are not looked at, for the host would wait.

    Raises:
        TypeError: anything but PairInputs, or ids that are not integers.
        ValueError: an empty or too long source, ids out of range.
    """
    if torch.compiler.is_compiling():  # in a compiled model a look at the values would break the graph
        return
    if not isinstance(inputs, PairInputs):
        raise TypeError(
            f"an encoder-decoder reads PairInputs (source, lengths, prefix); got {type(inputs).__name__}. "
            "For a language model over targets take model.given(source)"
        )
    if inputs.prefix.device.type == "cpu":
        check_source_lengths(inputs.source, inputs.lengths, model)
        checked_ids(inputs.prefix, model)
        if inputs.prefix.size(0) != inputs.source.size(0):
            raise ValueError(
                f"there are {inputs.source.size(0)} sources and {inputs.prefix.size(0)} prefixes; each needs the other"
            )


def check_source_lengths(source: Tensor, lengths: Tensor, model: nn.Module) -> None:
    """On the CPU, where it costs nothing: lengths that fit, and real ids that the model can read.

    Raises:
        ValueError: which source, and what is wrong with it.
        TypeError: what is no integer tensor.
    """
    limit = model.source_length
    for name, tensor in (("source", source), ("lengths", lengths)):
        if not isinstance(tensor, Tensor) or tensor.dtype not in (torch.int64, torch.int32):
            kind = getattr(tensor, "dtype", type(tensor).__name__)
            raise TypeError(f"the {name} must be an integer tensor; got {kind}")
    if source.dim() != 2 or source.numel() == 0:
        raise ValueError(f"the source has shape {tuple(source.shape)}; needed (sources, tokens), at least one of each")
    if lengths.shape != source.shape[:1]:
        raise ValueError(f"lengths has shape {tuple(lengths.shape)}; needed one for each of {source.size(0)} sources")
    if limit is not None and source.size(1) > limit:
        raise ValueError(f"a source has {source.size(1)} tokens; the model reads {limit} at most: shorten or split it")
    if source.device.type != "cpu" or lengths.device.type != "cpu":
        return
    if int(lengths.min()) < 1 or int(lengths.max()) > source.size(1):
        wrong = int(((lengths < 1) | (lengths > source.size(1))).nonzero()[0])
        raise ValueError(
            f"source {wrong} has length {int(lengths[wrong])}; needed 1 to {source.size(1)}, for an empty one "
            "says nothing"
        )
    outside = (source < 0) | (source >= model.source_vocab)  # padding too: it is looked up, though nobody sees it
    if bool(outside.any()):
        row, time = outside.nonzero()[0].tolist()
        raise ValueError(
            f"source {row} holds the id {int(source[row, time])} at position {time}; the source vocabulary has "
            f"0 to {model.source_vocab - 1}, and padding must be one of them too"
        )
