"""One protocol for a language model, so that every decoder and every view works with every model.

    model(ids, cache=None) -> logits        ids (rows, time), logits (rows, time, vocab)

Row t of the logits is the model's opinion on token t + 1, given ids[:, : t + 1]. A student's own module satisfies
it with three attributes and one method, or is wrapped in `Recompute`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from arlab.nn.cache import HistoryCache


@runtime_checkable
class LanguageModel(Protocol):
    """What a decoder asks of a model."""

    vocab_size: int
    context_length: int | None  # None: no limit
    bos_id: int | None  # what an empty prefix starts from; may equal vocab_size, an input that is never predicted

    def __call__(self, ids: Tensor, cache: Any = None) -> Tensor: ...

    def new_cache(self, rows: int, capacity: int) -> Any: ...


def last_logits(
    model: LanguageModel,
    ids: Int[Tensor, "rows time"],
    cache: Any = None,
    lengths: Sequence[int] | None = None,
) -> Float[Tensor, "rows vocab"]:
    """The logits after the last token of each row, or after token lengths[r] of a right-padded row r.

    A model with a `last_logits` method of its own computes no others; one without runs its full pass.
    """
    if hasattr(model, "last_logits"):
        return model.last_logits(ids, cache, lengths)
    logits = model(ids) if cache is None else model(ids, cache)
    return pick_last(_checked_logits(logits, (*ids.shape, model.vocab_size)), lengths)


def _checked_logits(logits: Tensor, expected: tuple[int, int, int]) -> Float[Tensor, "rows time vocab"]:
    if tuple(logits.shape) != expected:
        raise ValueError(f"the model returned logits {tuple(logits.shape)}; needed (rows, time, vocab) = {expected}")
    return logits


def pick_last(x: Float[Tensor, "rows time d"], lengths: Sequence[int] | None) -> Float[Tensor, "rows d"]:
    """x at the last position of each row, or at position lengths[r] - 1.

    Raises:
        ValueError: a length for more or fewer rows than there are, or outside 1 .. time.
    """
    if lengths is None:
        return x[:, -1]
    ends = torch.tensor(row_lengths(lengths, x.size(0), x.size(1)), device=x.device)
    return x[torch.arange(x.size(0), device=x.device), ends - 1]


def row_lengths(lengths: Sequence[int] | None, rows: int, time: int) -> list[int]:
    """The real tokens of each right-padded row; None: all of them.

    Raises:
        ValueError: a length for more or fewer rows than there are, or outside 1 .. time.
    """
    if lengths is None:
        return [time] * rows
    if len(lengths) != rows or not 1 <= min(lengths) <= max(lengths) <= time:
        raise ValueError(f"lengths is {list(lengths)}; needed one for each of {rows} rows, 1 to {time}")
    return list(lengths)


@contextmanager
def eval_mode(model: Callable) -> Iterator[None]:
    """Eval mode inside (dropout would be noise); afterwards each module is as it was, also where they differed."""
    modes = [(module, module.training) for module in model.modules()] if isinstance(model, nn.Module) else []
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def model_device(model: Any) -> torch.device:
    """Where the model's parameters are; the CPU for a model that has none (a table, a tree)."""
    parameters = getattr(model, "parameters", None)
    first = next(iter(parameters()), None) if callable(parameters) else None
    return torch.device("cpu") if first is None else first.device


def checked_ids(ids: Tensor, model: LanguageModel) -> Int[Tensor, "rows time"]:
    """ids as they are, or an error that names the first one out of range.

    Raises:
        ValueError: wrong shape, no tokens, an id below 0 or above the vocabulary (bos_id excepted).
        TypeError: ids that are not integers.
    """
    if not isinstance(ids, Tensor) or ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(
            f"ids must be an integer tensor; got {getattr(ids, 'dtype', type(ids).__name__)}, not int64 or int32"
        )
    if ids.dim() != 2 or ids.numel() == 0:
        raise ValueError(f"ids has shape {tuple(ids.shape)}; needed (rows, time), at least one of each")
    limit = input_vocabulary(model)
    lowest, highest = (int(extreme) for extreme in ids.aminmax())
    if lowest < 0 or highest >= limit:
        row, time = ((ids < 0) | (ids >= limit)).nonzero()[0].tolist()
        raise ValueError(f"ids[{row}, {time}] is {int(ids[row, time])}; ids must lie between 0 and {limit - 1}")
    return ids


def input_vocabulary(model: LanguageModel) -> int:
    """How many ids the model can read: its vocabulary, and a start symbol that is input only."""
    return max(model.vocab_size, (model.bos_id if model.bos_id is not None else -1) + 1)


class Recompute(nn.Module):
    """Any module that maps ids to logits, as a language model: it runs over the whole prefix again at each token.

    This is what decoding costs without a key/value cache. With `window`, only the last `window` tokens are fed,
    so that a model with a short context can go on for ever, at the price of forgetting (positions restart with
    the window; truncating a cache would not forget, for old keys have already seen what lies before).

    Raises:
        ValueError: a window below 1 or longer than the model's context; no vocab_size; `given` several sources, for
            rows run again by length or after beams were reordered would be read beside the wrong ones.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        vocab_size: int | None = None,
        context_length: int | None = None,
        bos_id: int | None = None,
        window: int | None = None,
    ):
        super().__init__()
        if window is not None and window < 1:
            raise ValueError(f"window is {window}; it must be 1 or more")
        sources = getattr(model, "source", None)  # of an encoder-decoder's model.given(sources)
        if isinstance(sources, Tensor) and len(sources) > 1:
            raise ValueError(f"the model is given {len(sources)} sources; Recompute takes one: model.given(source)")
        self.model, self.window = model, window
        self.vocab_size = vocab_size if vocab_size is not None else getattr(model, "vocab_size", None)
        if self.vocab_size is None:
            raise ValueError(f"{type(model).__name__} has no vocab_size; give Recompute(model, vocab_size=...)")
        own_context = context_length if context_length is not None else getattr(model, "context_length", None)
        if window is not None and own_context is not None and window > own_context:
            raise ValueError(f"window is {window}, longer than the model's context_length of {own_context}")
        self.context_length = None if window is not None else own_context
        self.bos_id = bos_id if bos_id is not None else getattr(model, "bos_id", None)

    def new_cache(self, rows: int, capacity: int) -> HistoryCache:
        return HistoryCache(rows, capacity)

    def forward(self, ids: Tensor, cache: HistoryCache | None = None) -> Float[Tensor, "rows time vocab"]:
        """Logits for the new ids; a row at a time where the rows' histories are not equally long."""
        cache, past, _ = self._append(ids, cache)
        if self.window is None and min(past) == max(past):
            whole = torch.tensor(cache.prefixes, device=ids.device)
            return self.model(whole)[:, past[0] :]
        return torch.stack([self._row(prefix, ids.size(1), ids.device) for prefix in cache.prefixes])

    def last_logits(
        self, ids: Tensor, cache: HistoryCache | None = None, lengths: Sequence[int] | None = None
    ) -> Float[Tensor, "rows vocab"]:
        """The logits after each row's last real token alone: one run of the module for all rows of one length.

        It never sees the padding of ragged rows, so a module that is not causal is right here too.
        """
        cache, _, ends = self._append(ids, cache, lengths)
        read = [
            prefix[max(0, end - (self.window or end)) : end] for prefix, end in zip(cache.prefixes, ends, strict=True)
        ]
        out: list[Tensor | None] = [None] * len(read)
        for length in set(map(len, read)):
            rows = [row for row, prefix in enumerate(read) if len(prefix) == length]
            logits = self.model(torch.tensor([read[row] for row in rows], device=ids.device))
            logits = _checked_logits(logits, (len(rows), length, self.vocab_size))
            for row, last in zip(rows, logits[:, -1], strict=True):
                out[row] = last
        return torch.stack(out)

    def _append(
        self, ids: Tensor, cache: HistoryCache | None, lengths: Sequence[int] | None = None
    ) -> tuple[HistoryCache, list[int], list[int]]:
        """The cache with the new ids in it; how long its rows were, and how long they are up to lengths[r] new ids."""
        news = row_lengths(lengths, *checked_ids(ids, self).shape)
        cache = HistoryCache(*ids.shape) if cache is None else cache
        past = cache.lengths
        cache.append(ids)
        return cache, past, [old + new for old, new in zip(past, news, strict=True)]

    def _row(self, prefix: list[int], time: int, device) -> Float[Tensor, "time vocab"]:
        if self.window is None:
            return self.model(torch.tensor([prefix], device=device))[0, -time:]
        ends = range(len(prefix) - time + 1, len(prefix) + 1)
        windows = [torch.tensor([prefix[max(0, end - self.window) : end]], device=device) for end in ends]
        return torch.stack([self.model(window)[0, -1] for window in windows])
