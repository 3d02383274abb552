"""Is a model right as often as it says? Confidence against accuracy, and the distance between them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from arlab.text.batches import IGNORE


@dataclass(frozen=True)
class Reliability:
    """The predictions sorted into bins of equal width by their confidence: what a reliability diagram draws.

    Bin b holds the predictions with confidence in (b / bins, (b + 1) / bins]. An empty bin has a count of 0, and
    NaN for its two means.
    """

    confidence: Float[Tensor, "bins"]  # mean probability that the model gave to its own best guess
    accuracy: Float[Tensor, "bins"]  # share of the guesses that were right
    count: Int[Tensor, "bins"]

    @property
    def edges(self) -> Float[Tensor, "bins_plus_1"]:
        """The borders of the bins, from 0 to 1."""
        return torch.arange(len(self.count) + 1, dtype=torch.float64) / len(self.count)

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean of |accuracy - confidence| over the bins, weighted by their counts."""
        return float(self._weights @ self._gaps.abs())

    @property
    def overconfidence(self) -> float:
        """Mean confidence minus mean accuracy: above 0 the model claims more than it knows, below 0 less."""
        return float(self._weights @ self._gaps)

    @property
    def _weights(self) -> Float[Tensor, "bins"]:
        return self.count.double() / self.count.sum()

    @property
    def _gaps(self) -> Float[Tensor, "bins"]:
        return (self.confidence - self.accuracy).nan_to_num(0.0)  # an empty bin has weight 0


def reliability(
    logits: Float[Tensor, "*batch vocab"],
    targets: Int[Tensor, "*batch"],
    bins: int = 10,
    *,
    ignore_index: int = IGNORE,
) -> Reliability:
    """Compare the probability of each position's best guess with how often such guesses are right.

    Args:
        logits: (..., vocab), as the model gave them. Equal logits: the guess is the one with the lowest id.
        targets: (...), the true tokens; positions with `ignore_index` do not count.
        bins: how many bins of equal width between 0 and 1.

    Raises:
        ValueError: shapes that do not fit, a target out of range, no target that counts, a row that is no
            distribution (NaN, +inf, all -inf), or bins below 1.

    Source: Guo et al. (2017), "On Calibration of Modern Neural Networks".
    """
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise ValueError(f"bins is {bins!r}; it must be an integer of 1 or more")
    if logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} need targets {tuple(logits.shape[:-1])}; got {tuple(targets.shape)}"
        )
    counted = targets != ignore_index
    # On the CPU: a GPU may name any of several equal logits, and Apple's has no float64.
    logits, targets = logits.detach()[counted].cpu().double(), targets[counted].cpu()  # (n, vocab), (n,)
    _check(logits, targets)
    best, guess = logits.max(dim=-1)
    sure = (best - logits.logsumexp(dim=-1)).exp()  # the largest probability of each row
    right = (guess == targets).double()
    where = ((sure * bins).ceil().long() - 1).clamp(0, bins - 1)
    count = torch.bincount(where, minlength=bins)
    mean_of = [torch.bincount(where, weights=value, minlength=bins) / count for value in (sure, right)]  # 0/0: NaN
    return Reliability(confidence=mean_of[0], accuracy=mean_of[1], count=count)


def _check(logits: Tensor, targets: Tensor) -> None:
    if not targets.numel():
        raise ValueError("no target counts: all of them are ignore_index, or there are none")
    outside = (targets < 0) | (targets >= logits.size(-1))
    if outside.any():
        raise ValueError(f"a target is {int(targets[outside][0])}; it must lie between 0 and {logits.size(-1) - 1}")
    if not logits.amax(dim=-1).isfinite().all():  # NaN passes through amax
        raise ValueError("a row of the logits has NaN or +inf in it, or nothing but -inf: it is no distribution")
