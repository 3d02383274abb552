"""How to train: the keyword arguments of `train`, checked before anything begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from arlab.text.batches import Batch
from arlab.training.schedule import check_schedule


@dataclass(frozen=True)
class Settings:
    """What each one means stands at `train`.

    Raises:
        ValueError: names the setting that makes no sense, and what is allowed.
    """

    steps: int | None = None
    lr: float = 1e-3
    warmup: int = 0
    min_lr: float | None = None
    schedule: str = "cosine"
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    clip: float | None = 1.0
    accumulate: int = 1
    label_smoothing: float = 0.0
    validation: Sequence[Batch] | None = None
    evaluate_every: int | None = None
    autocast: torch.dtype | None = None
    compile: bool = False
    checkpoint: str | Path | None = None
    save_every: int | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        check_schedule(steps=self.steps, lr=self.lr, warmup=self.warmup, min_lr=self.min_lr, schedule=self.schedule)
        for name in ("steps", "accumulate", "evaluate_every", "save_every"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} is {value!r}; it must be an integer of 1 or more")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip is {self.clip}; it must be above 0, or None for no clipping")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay is {self.weight_decay}; it must be 0 or more")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing}; it must be at least 0 and below 1")
        if self.autocast not in (None, torch.bfloat16):  # gradients of float16 vanish unless the loss is scaled up
            raise ValueError(f"autocast is {self.autocast}; it must be torch.bfloat16, or None for full precision")
        if isinstance(self.validation, Batch) or not isinstance(self.validation, Sequence | None):
            kind = type(self.validation).__name__  # a stream may never end, and ends only once
            raise ValueError(f"validation is one {kind}; it must be a list of batches, as ordered_windows makes it")
        if self.evaluate_every is not None and not self.validation:
            raise ValueError("evaluate_every is set, but validation holds no batch to evaluate on")
        if (self.save_every is not None or self.resume) and self.checkpoint is None:
            raise ValueError("save_every and resume need to know the file: give checkpoint=...")
