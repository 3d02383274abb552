"""setup(): the one line each notebook starts with. It picks the device, the precision and the scale."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import TypeVar

# Two busy OpenMP programs on two cores otherwise spin against each other and slow down forty-fold. The
# variable is read when torch starts its threads, so it helps as long as arlab is imported before torch works.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch  # noqa: E402

T = TypeVar("T")


@dataclass(frozen=True)
class Lab:
    """Where the notebook runs: read `.device` and `.dtype`, choose sizes with `.scale`."""

    device: torch.device
    dtype: torch.dtype
    seed: int

    def scale(self, cpu: T, gpu: T) -> T:
        """The `cpu` value on a processor, the `gpu` value on CUDA or Apple's MPS: one notebook, two scales."""
        return cpu if self.device.type == "cpu" else gpu

    def generator(self, seed: int | None = None) -> torch.Generator:
        """A fresh CPU generator. Draws come from the CPU on every device, so that results can be repeated."""
        return torch.Generator().manual_seed(self.seed if seed is None else seed)


def setup(seed: int = 0, device: str | torch.device | None = None, *, quiet: bool = False) -> Lab:
    """Seed torch, choose a device and report it in one line.

    Args:
        seed: seeds torch's global generator, and each generator that `Lab.generator()` makes.
        device: "cuda", "mps", "cpu" or None for the best one at hand.
        quiet: print no report.

    Raises:
        ValueError: for a negative seed, or a device that this machine or this torch does not have.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed is {seed!r}; it must be an integer of 0 or more, below 2**63")
    chosen = _best_device() if device is None else _checked_device(device)
    torch.manual_seed(seed)
    # bfloat16 pays on CUDA; on a CPU float32 is what every example in the course was checked with.
    dtype = torch.bfloat16 if chosen.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    lab = Lab(device=chosen, dtype=dtype, seed=seed)
    if not quiet:
        print(_report(lab))
    return lab


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def _checked_device(device: str | torch.device) -> torch.device:
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device is {device!r}; it must be 'cuda', 'mps' or 'cpu'") from error
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if not available.get(chosen.type, False):
        there = ", ".join(name for name, here in available.items() if here)
        raise ValueError(f"device is {device!r}, which is not available here; available: {there}")
    return chosen


def machine(device: torch.device | None = None) -> str:
    """Where something was measured, in a few words: the card or the processor, and torch's version."""
    if device is not None and device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        where = f"{card.name}, {card.total_memory / 2**30:.0f} GiB"
    else:
        threads = torch.get_num_threads()
        where = f"{platform.machine()}, {threads} thread{'s' if threads > 1 else ''}"
    return f"{where}, torch {torch.__version__}"


def _report(lab: Lab) -> str:
    where, version = machine(lab.device).rsplit(", ", 1)
    precision = str(lab.dtype).removeprefix("torch.")
    return f"arlab on {lab.device.type} ({where}), {precision}, {version}, seed {lab.seed}"
