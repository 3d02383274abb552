"""Attention masks. One convention throughout: boolean, True means "this query may attend to this key"."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor


def causal_mask(queries: int, keys: int | None = None, *, device=None) -> Bool[Tensor, "queries keys"]:
    """Query t may see the keys up to its own position, and none beyond.

    The queries are the LAST `queries` of the `keys` positions (bottom-right aligned): with 5 tokens in a cache
    and 3 new ones, the first new token sees 6 keys. With queries == keys this is the lower triangle.

    Raises:
        ValueError: when there are more queries than keys, or none.

    Source: "Attention Is All You Need" (Vaswani et al., 2017), section 3.2.3; lectures 001, 002 and 004.
    """
    keys = queries if keys is None else keys
    if not 1 <= queries <= keys:
        raise ValueError(f"queries is {queries} and keys is {keys}; needed: 1 <= queries <= keys")
    last_visible = torch.arange(keys - queries, keys, device=device)  # (queries,) a query's own position
    return torch.arange(keys, device=device) <= last_visible[:, None]


def padding_mask(lengths: Sequence[int], keys: int | None = None, *, device=None) -> Bool[Tensor, "rows 1 keys"]:
    """Row r may attend to its first lengths[r] keys; what lies beyond is padding. Broadcasts over queries.

    Raises:
        ValueError: for a length below 0 or above `keys`.
    """
    keys = max(lengths) if keys is None else keys
    for length in lengths:
        if not 0 <= length <= keys:
            raise ValueError(f"a length is {length}; it must lie between 0 and keys = {keys}")
    return torch.arange(keys, device=device) < torch.tensor(list(lengths), device=device)[:, None, None]


def combine(*masks: Bool[Tensor, "..."] | None) -> Bool[Tensor, "..."] | None:
    """Attend only where every mask allows it; None allows everything."""
    result = None
    for mask in masks:
        if mask is not None:
            result = mask if result is None else result & mask
    return result
