"""Filling gaps with a model that looks both ways: all at once, a few at a time, or one by one.

A masked model says for every gap what might stand there, each gap by itself: p(x_i | what is visible). Filling two
gaps in one step multiplies two such distributions, as if neither cared what the other becomes. More steps let later
gaps see earlier ones; with one gap a step, this is the chain rule in some other order than left to right.

`model(ids)` gives logits (rows, time, vocab); row t is about position t itself. Not causal: no cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from arlab.decoding.sampling import draw, most_probable
from arlab.nn.language_model import eval_mode, model_device


@dataclass(frozen=True, eq=False)
class ParallelStep:
    """One pass of the model, and the gaps that were filled after it. Tensors of its own: it may be kept."""

    index: int  # 0 for the first pass
    ids: Int[Tensor, "rows time"]  # after the step; mask_id where a gap is open still
    filled: Bool[Tensor, "rows time"]  # the positions that got their token in this step
    probabilities: Float[Tensor, "rows time"]  # of each token, when it was chosen; 1 where given, 0 where still open
    logits: Float[Tensor, "rows time vocab"]  # what the model said before, its mask symbol at -inf


@dataclass(frozen=True, eq=False)
class Filling:
    """The filled rows, and which gap was filled when."""

    ids: Int[Tensor, "rows time"]
    when: Int[Tensor, "rows time"]  # the step at which the position got its token, 0 for the first; -1 where given
    probabilities: Float[Tensor, "rows time"]  # of the token when it was chosen; 1 where given
    passes: int  # how often the model ran


def parallel_decoding(
    model: Callable,
    ids: Int[Tensor, "rows time"] | Sequence[Sequence[int]],
    *,
    mask_id: int,
    steps: int,
    order: Sequence[int] | None = None,
    revise: bool = False,
    generator: torch.Generator | None = None,
) -> Filling:
    """Fill every gap in `steps` passes of the model (fewer where there are not so many gaps).

    After pass s of S, ceil(N s / S) of a row's N gaps are filled: steps=1 fills all at once, each with the argmax (or
    a draw) of its own distribution; steps=N fills one a pass.

    Args:
        ids: (rows, time) with mask_id at the gaps; rows may have different gaps.
        order: positions in the order in which they are to be filled. None: at each pass those of which the model is
            surest (the largest maximum of its distribution), the leftmost among equals.
        revise: mask-predict. What was filled may be taken back, and said anew, when its probability is now among the
            lowest. Without it, a filled gap stays as it is.
        generator: draw the tokens; None: the argmax. Which gaps are filled is decided before anything is drawn, so
            that with one gap a step the draws follow the chain rule, and their law is the model's joint one.

    Raises:
        ValueError: no gap; steps below 1; an order that leaves a gap out, or together with `revise`; `revise` with
            draws (it keeps the probable ones, so they would follow no law); ids that are not (rows, time).

    Source: Ghazvininejad et al. (2019), mask-predict; without `revise`, Chang et al. (2022), MaskGIT.
    """
    records = list(
        parallel_steps(model, ids, mask_id=mask_id, steps=steps, order=order, revise=revise, generator=generator)
    )
    when = torch.full_like(records[-1].ids, -1)
    for step in records:
        when[step.filled] = step.index
    return Filling(records[-1].ids, when, records[-1].probabilities, len(records))


def parallel_steps(
    model: Callable,
    ids: Int[Tensor, "rows time"] | Sequence[Sequence[int]],
    *,
    mask_id: int,
    steps: int,
    order: Sequence[int] | None = None,
    revise: bool = False,
    generator: torch.Generator | None = None,
) -> Iterator[ParallelStep]:
    """`parallel_decoding`, a ParallelStep at a time."""
    ids = torch.as_tensor(ids)
    gaps = checked_gaps(ids, mask_id, steps, order)
    if revise and (generator is not None or order is not None):
        other = "a generator" if order is None else "an order"
        raise ValueError(f"revise=True keeps what is most probable, in no order and without draws; leave out {other}")
    return _loop(
        model, ids.to(model_device(model)), gaps.to(model_device(model)), mask_id, steps, order, revise, generator
    )


def _loop(model, ids, gaps, mask_id, steps, order, revise, generator) -> Iterator[ParallelStep]:
    number = gaps.sum(dim=1)  # (rows,)
    sure = _wide(~gaps)  # the probability of each token when it was chosen
    for index in range(min(steps, int(number.max()))):
        logits = gap_logits(model, ids, mask_id)
        open_now = ids == mask_id
        after = filled_after(number, steps, index + 1)
        if revise:  # the surest of all gaps stand after this pass, those filled before among them
            standing = first_of(torch.where(open_now, surest(logits), sure), gaps, after)
        else:
            more = after - (gaps & ~open_now).sum(dim=1)
            standing = first_of(surest(logits), open_now, more, order) | (gaps & ~open_now)
        new = standing & open_now
        ids = ids.masked_fill(gaps & ~standing, mask_id)  # a copy
        ids[new] = most_probable(logits[new]) if generator is None else draw(logits[new], generator)
        p = logits.softmax(dim=-1).gather(-1, torch.where(new, ids, 0)[..., None])[..., 0]
        sure = torch.where(new, _wide(p), sure).masked_fill(gaps & ~standing, 0.0)
        yield ParallelStep(index, ids.clone(), new, sure, logits)


def surest(logits: Float[Tensor, "rows time vocab"]) -> Float[Tensor, "rows time"]:
    """How sure the model is of each position: the probability of its likeliest token."""
    return _wide(logits.softmax(dim=-1).amax(dim=-1))


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.device.type == "mps" else x.double()  # Apple's MPS has no float64


@torch.no_grad()
def gap_logits(model: Callable, ids: Int[Tensor, "rows time"], mask_id: int) -> Float[Tensor, "rows time vocab"]:
    """What a masked model says at every position, never its own mask symbol; without dropout."""
    with eval_mode(model):
        logits = model(ids)
    if logits.size(-1) > mask_id:
        logits = logits.clone()
        logits[..., mask_id] = -torch.inf
    return logits


def filled_after(number: Int[Tensor, "rows"], steps: int, done: int) -> Int[Tensor, "rows"]:
    """ceil(N s / S): how many of a row's N gaps are filled after s passes of S, or of N where N is smaller."""
    passes = number.clamp(1, steps)
    return ((number * done + passes - 1) // passes).minimum(number)


def first_of(
    rank_by: Float[Tensor, "rows time"],
    among: Bool[Tensor, "rows time"],
    count: Int[Tensor, "rows"],
    order: Sequence[int] | None = None,
) -> Bool[Tensor, "rows time"]:
    """The `count` positions of each row that come first: by `order`, else the highest, the leftmost among equals."""
    if order is not None:
        rank_by = torch.zeros_like(rank_by)
        for turn, position in enumerate(order):
            rank_by[:, position] = len(order) - turn
    turns = rank_by.masked_fill(~among, -1.0).sort(dim=1, descending=True, stable=True).indices
    first = torch.arange(among.size(1), device=among.device) < count[:, None]
    return torch.zeros_like(among).scatter(1, turns, first) & among


def checked_gaps(ids: Tensor, mask_id: int, steps: int, order: Sequence[int] | None) -> Bool[Tensor, "rows time"]:
    """Where the gaps are."""
    if ids.dim() != 2 or ids.numel() == 0 or ids.is_floating_point():
        raise ValueError(f"ids has shape {tuple(ids.shape)} and dtype {ids.dtype}; needed integers (rows, time)")
    if isinstance(steps, bool) or not isinstance(steps, Integral) or steps < 1:
        raise ValueError(f"steps is {steps!r}; it must be an integer of 1 or more")
    if isinstance(mask_id, bool) or not isinstance(mask_id, Integral):
        raise ValueError(f"mask_id is {mask_id!r}; it must be the id that stands at the gaps")
    gaps = ids == mask_id
    if not gaps.any():
        raise ValueError(f"there is no gap: no id is mask_id = {mask_id}")
    if order is not None:
        positions = [int(position) for position in order]
        if len(set(positions)) != len(positions) or not all(0 <= p < ids.size(1) for p in positions):
            raise ValueError(f"order is {positions}; it must name positions from 0 to {ids.size(1) - 1}, each once")
        left_out = sorted({int(p) for p in gaps.nonzero()[:, 1]} - set(positions))
        if left_out:
            raise ValueError(f"order is {positions}; it leaves out the gaps at {left_out}")
    return gaps
