"""Filters reshape the next-token distribution before a token is drawn: pure functions on logits.

Each maps (..., vocab) to (..., vocab): removed tokens get -inf, the others keep their logits (temperature divides
them), the input is untouched and the dtype kept. Softmax afterwards renormalises. Ties go to the lowest id.

`top_p(logits, 0.9)` works at once; `TopP(0.9)` is the same thing waiting for logits, with a name to show:
`sample(model, prompt, filters=[Temperature(0.7), TopK(50), TopP(0.9)], ...)` applies them in the order written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real  # NumPy registers its scalars with these

import torch
from jaxtyping import Float
from torch import Tensor

Logits = Float[Tensor, "*batch vocab"]


def temperature(logits: Logits, t: float) -> Logits:
    """logits / t: below 1 sharper, above 1 flatter. 0 leaves the most probable token alone (argmax).

    Raises:
        ValueError: t below 0, NaN or infinite; logits that are NaN, +inf, or -inf throughout.

    Source: Ackley, Hinton and Sejnowski (1985); lectures 000 and 004.
    """
    t = check_temperature(t)
    peak = peak_of(logits)
    if t == 0:
        best = logits.argmax(dim=-1, keepdim=True)  # the first maximum: the lowest id
        return logits.masked_fill(torch.ones_like(logits, dtype=torch.bool).scatter(-1, best, False), -torch.inf)
    smallest = 1.0 if logits.dtype == torch.float16 else 1e-3  # float16 ends at 65,504
    if smallest <= t <= 1e30:
        return (logits.float() / t).to(logits.dtype) if logits.dtype.itemsize < 4 else logits / t
    # Division by a tiny t could overflow to inf. A constant added to all logits changes no probability, so the
    # peak is moved to 0 first; what overflows then is -inf, a probability of 0, and right. In float64, for t
    # itself may be too small or too large for float32.
    return ((in_float64(logits) - in_float64(peak)) / t).to(logits)


def top_k(logits: Logits, k: int) -> Logits:
    """Keep exactly the k most probable tokens (all of them when k exceeds the vocabulary).

    Raises:
        ValueError: k below 1 or not an integer; logits that are NaN, +inf, or -inf throughout.

    Source: Fan, Lewis and Dauphin (2018); lectures 000 and 004.
    """
    k = check_k(k)
    peak_of(logits)
    if k >= logits.size(-1):
        return logits.clone()
    threshold = logits.topk(k, dim=-1).values[..., -1:]  # the k-th largest logit
    above, level = logits > threshold, logits == threshold
    room = k - above.sum(dim=-1, keepdim=True)  # places left for the tied ones
    kept = above | (level & (level.cumsum(dim=-1) <= room))
    return logits.masked_fill(~kept, -torch.inf)


def top_p(logits: Logits, p: float) -> Logits:
    """Keep the nucleus: the smallest set of most probable tokens whose mass reaches p, at least one.

    A token stays while the mass BEFORE it is below p. So p = .5 keeps one token of [.5, .25, .125, .125], as in
    the paper; "just exceeds p" (lectures 000 and 004) would keep two. p = 1 keeps every token that has any mass.

    Raises:
        ValueError: p outside (0, 1]; logits that are NaN, +inf, or -inf throughout.

    Source: "The Curious Case of Neural Text Degeneration" (Holtzman et al., 2020).
    """
    p = check_p("p", p)
    peak = peak_of(logits)
    if p == 1:
        return logits.clone()
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)  # stable: ties stay in the order of ids
    mass = in_float64((ordered.float() - peak.float()).exp())  # in units of the most probable token's mass
    # float32 sums over 49,152 tokens misplace the boundary at p = .99; float64 sums do not.
    reached = mass.cumsum(dim=-1)
    before = reached - mass
    kept = (before < p * reached[..., -1:]).to(logits.device)
    return logits.masked_fill(~torch.zeros_like(kept).scatter(-1, order, kept), -torch.inf)


def min_p(logits: Logits, p: float) -> Logits:
    """Keep the tokens at least p times as probable as the most probable one.

    Raises:
        ValueError: p outside (0, 1]; logits that are NaN, +inf, or -inf throughout.

    Source: "Turning Up the Heat: Min-p Sampling" (Nguyen et al., 2024).
    """
    p = check_p("p", p)
    peak = peak_of(logits)
    return logits.masked_fill((logits.float() - peak.float()).exp() < p, -torch.inf)


@dataclass(frozen=True)
class Temperature:
    """`temperature(logits, t)` with t given beforehand."""

    t: float

    def __post_init__(self) -> None:
        check_temperature(self.t)

    def __call__(self, logits: Logits) -> Logits:
        return temperature(logits, self.t)


@dataclass(frozen=True)
class TopK:
    """`top_k(logits, k)` with k given beforehand."""

    k: int

    def __post_init__(self) -> None:
        check_k(self.k)

    def __call__(self, logits: Logits) -> Logits:
        return top_k(logits, self.k)


@dataclass(frozen=True)
class TopP:
    """`top_p(logits, p)` with p given beforehand."""

    p: float

    def __post_init__(self) -> None:
        check_p("p", self.p)

    def __call__(self, logits: Logits) -> Logits:
        return top_p(logits, self.p)


@dataclass(frozen=True)
class MinP:
    """`min_p(logits, p)` with p given beforehand."""

    p: float

    def __post_init__(self) -> None:
        check_p("p", self.p)

    def __call__(self, logits: Logits) -> Logits:
        return min_p(logits, self.p)


Filter = Callable[[Tensor], Tensor]


def stages(filters: Sequence[Filter], logits: Logits) -> tuple[tuple[Filter, Tensor], ...]:
    """Each filter with the logits that it left, in the order applied: what the pipeline view draws.

    Raises:
        ValueError: a filter that returns another shape than it was given; what the filters themselves refuse.
    """
    seen = []
    for filter_ in filters:
        logits = _filtered(filter_, logits)
        seen.append((filter_, logits))
    return tuple(seen)


def apply(filters: Sequence[Filter], logits: Logits) -> Logits:
    """The logits after every filter, in the order written; errors as in `stages`."""
    for filter_ in filters:
        logits = _filtered(filter_, logits)
    return logits


def _filtered(filter_: Filter, logits: Logits) -> Logits:
    # A filter of one's own may work in place (logits[...] = -inf): it gets a copy, for the raw logits are still needed.
    ours = isinstance(filter_, (Temperature, TopK, TopP, MinP))
    left = filter_(logits if ours else logits.clone())
    if not isinstance(left, Tensor) or left.shape != logits.shape:
        what = f"shape {tuple(left.shape)}" if isinstance(left, Tensor) else type(left).__name__
        raise ValueError(
            f"the filter {filter_!r} returned {what}; needed: logits of the shape given, {tuple(logits.shape)}"
        )
    return left


def check_temperature(t: float) -> float:
    """t as Python's own number, or a ValueError."""
    if isinstance(t, bool) or not isinstance(t, Real) or not math.isfinite(t) or t < 0:
        raise ValueError(f"temperature is {t!r}; it must be a finite number of 0 or more (0 means argmax)")
    return float(t)


def check_k(k: int) -> int:
    """k as Python's own number, or a ValueError."""
    if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
        raise ValueError(f"k is {k!r}; it must be an integer of 1 or more")
    return int(k)


def check_p(name: str, p: float) -> float:
    """p as Python's own number, or a ValueError."""
    if isinstance(p, bool) or not isinstance(p, Real) or not 0 < p <= 1:
        raise ValueError(f"{name} is {p!r}; it must lie in (0, 1]")
    return float(p)


def in_float64(x: Tensor) -> Tensor:
    """x in float64, on the CPU where the device has no such numbers (Apple's MPS)."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def peak_of(logits: Tensor) -> Tensor:
    """The largest logit of each row, (..., 1), and on a CPU the check that each row is a distribution at all.

    Raises:
        ValueError: no floating-point tensor; on a CPU, a row with a NaN or +inf, or of -inf throughout. (On a GPU
            looking would make the host wait; the decoding loop looks at its log-probabilities now and then.)
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point() or logits.dim() < 1 or logits.size(-1) < 1:
        what = f"shape {tuple(logits.shape)}, {logits.dtype}" if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"logits must be a floating-point tensor (..., vocab); got {what}")
    peak = logits.amax(dim=-1, keepdim=True)  # NaN if any logit is NaN
    # One number to look at: a sum is finite only if all its terms are. (In float64: float16 peaks would overflow.)
    if logits.device.type == "cpu" and not math.isfinite(peak.detach().sum(dtype=torch.float64)):
        bad = peak[~peak.isfinite()][0].item()
        meaning = {-math.inf: "all are -inf: no token is possible", math.inf: "one is +inf"}.get(bad, "one is NaN")
        raise ValueError(f"these logits are no distribution: {meaning}")
    return peak
