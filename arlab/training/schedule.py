"""The learning rate over the steps: up in a line, down in half a cosine."""

from __future__ import annotations

import math


def learning_rate(
    step: int, *, steps: int | None, lr: float, warmup: int = 0, min_lr: float | None = None, schedule: str = "cosine"
) -> float:
    """The rate of step 1, 2, ..., `steps`.

    Warm-up: lr * step / warmup, so that step `warmup` has the full rate and no step has none at all. Then "cosine"
    reaches min_lr (None: a tenth of lr) at the last step, and "constant" stays.

    Source: Vaswani et al. (2017) for the warm-up; Loshchilov and Hutter (2017) for the cosine.
    """
    if step < warmup:
        return lr * step / warmup
    if schedule == "constant":
        return lr
    low = lr / 10 if min_lr is None else min_lr
    way = (step - warmup) / max(1, steps - warmup)  # 0 at the end of the warm-up, 1 at the last step
    return low + (lr - low) * (1 + math.cos(math.pi * min(1.0, way))) / 2


def check_schedule(*, steps: int | None, lr: float, warmup: int, min_lr: float | None, schedule: str) -> None:
    """
    Raises:
        ValueError: names the setting that makes no schedule.
    """
    if schedule not in ("cosine", "constant"):
        raise ValueError(f"schedule is {schedule!r}; it must be 'cosine' or 'constant'")
    if not 0 < lr < math.inf:
        raise ValueError(f"lr is {lr}; it must be a finite number above 0")
    if min_lr is not None and not 0 <= min_lr <= lr:
        raise ValueError(f"min_lr is {min_lr}; it must lie between 0 and lr = {lr}")
    if warmup < 0 or (steps is not None and warmup > steps):
        raise ValueError(f"warmup is {warmup}; it must lie between 0 and steps = {steps}")
    if steps is None and schedule == "cosine":
        raise ValueError("a cosine has to know where it ends: give steps=..., or schedule='constant'")
