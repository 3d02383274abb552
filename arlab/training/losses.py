"""The objective: the mean negative log-likelihood of the tokens that did follow."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from arlab.text.batches import IGNORE

__all__ = ["IGNORE", "next_token_loss", "perplexity"]


def next_token_loss(
    logits: Float[Tensor, "rows time vocab"],
    targets: Int[Tensor, "rows time"],
    *,
    label_smoothing: float = 0.0,
    ignore_index: int = IGNORE,
    reduction: str = "mean",
) -> Float[Tensor, ""] | Float[Tensor, "rows time"]:
    """-ln p(target), in nats, averaged over the targets that count; padding adds nothing to sum or number.

    With label smoothing e the target distribution is 1 - e + e/V on the truth and e/V on every other token
    (torch's definition; lecture 001 puts 0.9 on the truth and shares 0.1 among the others: e = 0.1 V / (V - 1)).

    Args:
        logits: the model's opinion on the token after each position.
        targets: that token; `ignore_index` where there is nothing to predict.
        reduction: "mean" over the counted targets, "sum", or "none" for one loss a position (0 where ignored).

    Raises:
        ValueError: shapes that do not fit, a target outside the vocabulary or no integer, a mean over no target at
            all, label_smoothing outside [0, 1), an unknown reduction.

    Source: lectures 000 and 001; Szegedy et al. (2016) for the smoothing.
    """
    if logits.dim() != 3 or logits.shape[:2] != targets.shape:
        raise ValueError(
            f"logits has shape {tuple(logits.shape)} and targets {tuple(targets.shape)}; "
            "needed (rows, time, vocab) and (rows, time)"
        )
    if targets.is_floating_point() or targets.is_complex():
        raise ValueError(f"targets has dtype {targets.dtype}; token ids are integers")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; it must be at least 0 and below 1")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is {reduction!r}; it must be 'mean', 'sum' or 'none'")
    if targets.device.type == "cpu":  # reading a GPU's tensor back would make the host wait at every step
        counted = check_targets(targets, logits.size(-1), ignore_index)
        if reduction == "mean" and counted == 0:
            raise ValueError(
                "every target is ignore_index: a mean over no target has no value (is the batch all padding?)"
            )
    loss = F.cross_entropy(
        logits.flatten(0, 1).to(torch.promote_types(logits.dtype, torch.float32)),  # half precision is too coarse
        targets.flatten().long(),
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )
    return loss.view(targets.shape) if reduction == "none" else loss


def check_targets(targets: Int[Tensor, "rows time"], vocab_size: int, ignore_index: int = IGNORE) -> int:
    """How many targets count.

    Raises:
        ValueError: names the first target that is neither in the vocabulary nor ignore_index.
    """
    counted = targets != ignore_index
    wrong = counted & ((targets < 0) | (targets >= vocab_size))
    if wrong.any():
        row, time = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"targets[{row}, {time}] is {int(targets[row, time])}; targets must lie between 0 and {vocab_size - 1}, "
            f"or be {ignore_index} where there is nothing to predict"
        )
    return int(counted.sum())


def perplexity(loss: float | Tensor) -> float:
    """exp(loss): as uncertain as a fair choice among this many tokens. The loss is a mean in nats."""
    try:
        return math.exp(float(loss))
    except OverflowError:
        return math.inf
