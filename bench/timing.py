"""Timing two things that share a machine with others: in turn, several times, the best of each."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def seconds(run: Callable[[], object]) -> float:
    """Wall seconds of one call, the device's work included."""
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def in_turn(runs: dict[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """The least seconds of each, over `rounds` rounds after one warm-up.

    In turn, so that a slow minute of the machine hits all alike; the least, since noise only ever adds.
    """
    for run in runs.values():
        run()
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            best[name] = min(best[name], seconds(run))
    return best


def matrix_vector(size: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Callable[[], object]:
    """One matrix-vector product over `size` bytes: what decoding at batch 1 cannot do without.

    As many bytes as the model has, for a server's cache may hold a good part of a smaller matrix.
    """
    width = 2048
    matrix = torch.ones(size // (width * dtype.itemsize), width, dtype=dtype, device=device)
    vector = torch.ones(width, dtype=dtype, device=device)
    return lambda: torch.mv(matrix, vector)


def environment() -> str:
    """One line on what was measured."""
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return f"{card}; torch {torch.__version__}"
