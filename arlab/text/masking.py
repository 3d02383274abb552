"""Gaps to fill: batches in which some tokens are hidden behind a mask symbol, and only those are asked for.

A model that may look both ways (DecoderConfig(causal=False)) is trained on them: it predicts a hidden token from
what stands before AND behind it. Position t of its logits is about position t itself, not about t + 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from arlab.text.batches import IGNORE, Batch, check_integer

Rate = float | tuple[float, float]


def masked(
    ids: Int[Tensor, "rows time"],
    mask_id: int,
    rate: Rate,
    generator: torch.Generator | None = None,
    *,
    maskable: Bool[Tensor, "rows time"] | None = None,
) -> Batch:
    """Hide each token with probability `rate`: inputs with mask_id in its place, targets the hidden tokens alone.

    A row in which the coins hide nothing gets one gap, anywhere, so that every row has something to learn from.

    Args:
        rate: the probability, above 0 and at most 1; or (low, high): each row draws its own from that range. A model
            that is to fill many gaps step by step has to see rows with few gaps and rows with many.
        maskable: True where a token may be hidden. None: everywhere.

    Raises:
        ValueError: a rate outside (0, 1], ids that are not integers (rows, time), mask_id among the ids to be hidden or
            negative, a row without any maskable token, maskable of another shape.

    Source: Devlin et al. (2019), without their random replacements; (0, 1): Ghazvininejad et al. (2019).
    """
    low, high = _checked_rate(rate)
    if ids.dim() != 2 or ids.numel() == 0 or ids.is_floating_point():
        raise ValueError(f"ids has shape {tuple(ids.shape)} and dtype {ids.dtype}; needed integers (rows, time)")
    may = torch.ones_like(ids, dtype=torch.bool) if maskable is None else maskable
    if may.shape != ids.shape or may.dtype != torch.bool:
        raise ValueError(f"maskable has shape {tuple(may.shape)} and dtype {may.dtype}; needed a boolean for each id")
    check_integer("mask_id", mask_id, least=0)
    if bool((ids[may] == mask_id).any()):
        raise ValueError(f"mask_id is {mask_id}; it must be an id of its own that no token of the text has")
    if not may.any(dim=1).all():
        raise ValueError(f"row {int((~may.any(dim=1)).nonzero()[0])} has no token that may be hidden")
    rows, time = ids.shape
    rates = low + (high - low) * torch.rand(rows, 1, generator=generator) if low < high else torch.tensor(low)
    hidden = (torch.rand(rows, time, generator=generator) < rates).to(ids.device) & may
    lots = torch.rand(rows, time, generator=generator).to(ids.device).masked_fill(~may, -1.0)
    one = torch.zeros_like(hidden).scatter_(1, lots.argmax(dim=1, keepdim=True), True)
    hidden = torch.where(hidden.any(dim=1, keepdim=True), hidden, one)
    return Batch(ids.masked_fill(hidden, mask_id), ids.masked_fill(~hidden, IGNORE))


def masked_batches(
    batches: Iterable[Batch | Tensor | Sequence[Sequence[int]]],
    mask_id: int,
    rate: Rate,
    generator: torch.Generator | None = None,
) -> Iterator[Batch]:
    """The same texts with gaps, a batch for each that comes in: `train(model, masked_batches(batches, ...))`.

    What comes in is ids (rows, time), of which every token may be hidden; or a Batch of shifted pairs, as
    `random_windows`, `padded` and `Addition.batches` give them. Its rows are put together again (the first input and
    the targets), and what was no target is never hidden: a row's first token, a prompt, padding.

    Raises:
        ValueError: see `masked`; batches of pairs.
    """
    _checked_rate(rate)  # now, not at the first batch
    return (masked(ids, mask_id, rate, generator, maskable=may) for ids, may in map(_sequences, batches))


def _sequences(batch) -> tuple[Tensor, Tensor | None]:
    """The ids of a batch's rows, and which of them may be hidden."""
    if not isinstance(batch, Batch):
        return torch.as_tensor(batch), None
    if not isinstance(batch.inputs, Tensor):
        raise ValueError(f"the batch holds {type(batch.inputs).__name__}; gaps are made in batches of plain ids")
    asked = batch.targets != IGNORE
    follows = torch.cat([batch.inputs[:, 1:], batch.inputs[:, -1:]], dim=1)  # behind a padded row: more padding
    ids = torch.cat([batch.inputs[:, :1], torch.where(asked, batch.targets, follows)], dim=1)
    return ids, torch.cat([torch.zeros_like(asked[:, :1]), asked], dim=1)


def _checked_rate(rate: Rate) -> tuple[float, float]:
    low, high = rate if isinstance(rate, tuple) else (rate, rate)
    if not 0 <= low <= high <= 1 or high == 0:
        raise ValueError(f"rate is {rate}; it must lie above 0 and be at most 1, or be a range (low, high) of such")
    return low, high
