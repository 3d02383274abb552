"""A language model that has forgotten its prompt: the weak model with a short context for contrastive decoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from arlab.nn.language_model import LanguageModel, checked_ids, last_logits, row_lengths


class PromptForgotten(nn.Module):
    """The same model, reading only the last `keep` tokens of the prompt, and everything written since.

    What the prompt said is unknown to it, what it has written itself is not: it can still repeat itself, which a
    window that slides along (`Recompute(model, window=8)`) unlearns. The prompt is what the first pass over a fresh
    cache reads, through `last_logits`, as every decoder of arlab does. Without a cache nobody can tell prompt from
    text, and a call is the model's own.

    Source: the weak model with a short context in "Contrastive Decoding" (Li et al., 2023), section 3.4.
    """

    def __init__(self, model: LanguageModel, keep: int = 1):
        """
        Raises:
            ValueError: keep below 1 or no integer.
        """
        super().__init__()
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise ValueError(f"keep is {keep!r}; it must be an integer of 1 or more, the prompt tokens to read")
        self.model, self.keep = model, keep
        self.vocab_size, self.context_length, self.bos_id = model.vocab_size, model.context_length, model.bos_id

    def new_cache(self, rows: int, capacity: int) -> ShortCache:
        return ShortCache(self.model.new_cache(rows, capacity))

    def forward(self, ids: Int[Tensor, "rows time"], cache: ShortCache | None = None) -> Tensor:
        """Logits (rows, time, vocab) of new text.

        Raises:
            ValueError: a fresh cache, which is for the prompt: that one goes through `last_logits`.
        """
        if cache is None:
            return self.model(ids)
        if not cache.started:
            raise ValueError("the first pass over a fresh cache is the prompt's; read it with last_logits")
        return self.model(ids, cache.inner)

    def last_logits(
        self, ids: Int[Tensor, "rows time"], cache: ShortCache | None = None, lengths: Sequence[int] | None = None
    ) -> Float[Tensor, "rows vocab"]:
        """After each row's last real token; of a prompt only the last `keep` tokens are read."""
        if cache is None or cache.started:
            return last_logits(self.model, ids, None if cache is None else cache.inner, lengths)
        checked_ids(ids, self)
        ends = row_lengths(lengths, *ids.shape)
        kept = [min(self.keep, end) for end in ends]
        rows = [row[end - k : end] for row, end, k in zip(ids.tolist(), ends, kept, strict=True)]
        read = torch.tensor([row + row[-1:] * (max(kept) - len(row)) for row in rows], device=ids.device)
        logits = last_logits(self.model, read, cache.inner, kept)
        cache.inner.truncate(kept)
        cache.dropped = [end - k for end, k in zip(ends, kept, strict=True)]
        cache.started = True
        return logits


class ShortCache:
    """The model's own cache, counting the tokens that it was never shown: decoders know the lengths with them."""

    def __init__(self, inner: Any):
        self.inner, self.started = inner, False
        self.dropped = [0] * inner.rows

    @property
    def rows(self) -> int:
        return self.inner.rows

    @property
    def lengths(self) -> list[int]:
        return [own + dropped for own, dropped in zip(self.inner.lengths, self.dropped, strict=True)]

    def truncate(self, lengths: Sequence[int]) -> None:
        """As a KVCache does. Raises ValueError below what was dropped: the prompt cannot be cut any more."""
        short = [int(n) - dropped for n, dropped in zip(lengths, self.dropped, strict=True)]
        self.inner.truncate(short)

    def reorder(self, rows: Sequence[int] | Tensor) -> None:
        rows = rows.tolist() if isinstance(rows, Tensor) else list(rows)
        self.inner.reorder(rows)
        self.dropped = [self.dropped[row] for row in rows]
