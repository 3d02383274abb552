"""The first neural language model: a window of fixed width, and a network on top (Bengio et al., 2003).

Like an n-gram model it looks at the last few tokens and at nothing else: its condition is static. Unlike one, it
shares what it learns between contexts, since similar tokens get similar vectors.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from arlab.nn.cache import HistoryCache
from arlab.nn.language_model import checked_ids


class FixedWindowLM(nn.Module):
    """Embed the last `window` tokens, concatenate, one tanh layer, logits; the paper's direct connections are left out.

    Position t sees tokens t - window + 1 .. t. A learned start vector stands where the text has not begun. All
    positions are computed in parallel. Satisfies the language-model protocol.
    """

    context_length: int | None = None  # it reads a text of any length and forgets what lies before the window

    def __init__(
        self,
        vocab_size: int,
        window: int,
        d_model: int,
        d_hidden: int,
        *,
        bos_id: int | None = None,
        seed: int | None = None,
    ):
        """
        Raises:
            ValueError: a size below 1, a bos_id above vocab_size.
        """
        super().__init__()
        check_sizes(vocab_size=vocab_size, window=window, d_model=d_model, d_hidden=d_hidden)
        inputs = inputs_with_bos(vocab_size, bos_id)
        self.vocab_size, self.window, self.bos_id = vocab_size, window, bos_id
        self.embed_tokens = nn.Embedding(inputs, d_model)
        self.start = nn.Parameter(torch.zeros(d_model))
        self.hidden = nn.Linear(window * d_model, d_hidden)
        self.head = nn.Linear(d_hidden, vocab_size)
        self.init_weights(seed)

    @torch.no_grad()
    def init_weights(self, seed: int | None = None) -> None:
        """Embeddings N(0, 1); matrices uniform with the variance that keeps activations near 1 (1 / fan_in)."""
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        self.embed_tokens.weight.normal_(generator=generator)
        self.start.normal_(generator=generator)
        for layer in (self.hidden, self.head):
            bound = (3 / layer.in_features) ** 0.5
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.zero_()

    def new_cache(self, rows: int, capacity: int) -> HistoryCache:
        return HistoryCache(rows, capacity)

    def forward(self, ids: Tensor, cache: HistoryCache | None = None) -> Float[Tensor, "rows time vocab"]:
        """Logits at every position; with a cache, `ids` are the new tokens only.

        Raises:
            ValueError: ids out of range or of the wrong shape, or more than the cache holds.
            TypeError: ids that are not integers.
        """
        if ids.device.type == "cpu":  # on a GPU the check would make the host wait
            checked_ids(ids, self)
        past = None if cache is None else self._embed_past(cache)
        if cache is not None:
            cache.append(ids)
        return self.forward_embeddings(self.embed_tokens(ids), past)

    def forward_embeddings(
        self, x: Float[Tensor, "rows time d_model"], past: Float[Tensor, "rows before d_model"] | None = None
    ) -> Float[Tensor, "rows time vocab"]:
        """From token embeddings to logits; past: what stands in the window - 1 places before them (None: the start)."""
        if past is None:
            past = self.start.expand(x.size(0), self.window - 1, -1)
        windows = torch.cat([past, x], dim=1).unfold(1, self.window, 1)  # (rows, time, d_model, window)
        return self.head(self.hidden(windows.transpose(2, 3).flatten(2)).tanh())

    def _embed_past(self, cache: HistoryCache) -> Float[Tensor, "rows before d_model"]:
        """The last window - 1 tokens of each row, the start vector where there are none."""
        width = self.window - 1
        device = self.start.device
        tokens = [[-1] * (width - len(p)) + p[max(0, len(p) - width) :] for p in cache.prefixes]
        tokens = torch.tensor(tokens, dtype=torch.int64, device=device).view(cache.rows, width)
        return torch.where((tokens >= 0)[..., None], self.embed_tokens(tokens.clamp(min=0)), self.start)


def check_sizes(**sizes: int) -> None:
    """Raises ValueError for the first size below 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; it must be 1 or more")


def inputs_with_bos(vocab_size: int, bos_id: int | None) -> int:
    """Rows of an embedding table for this vocabulary, an input-only start symbol included.

    Raises:
        ValueError: a bos_id below 0 or above vocab_size.
    """
    if bos_id is not None and not 0 <= bos_id <= vocab_size:
        raise ValueError(f"bos_id is {bos_id}; it must lie between 0 and vocab_size = {vocab_size}")
    return max(vocab_size, (bos_id if bos_id is not None else -1) + 1)
