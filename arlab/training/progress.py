"""Progress of a training run in text: plain lines for a terminal or a log, tqdm's bar for a notebook.

Both wrap the iterator of `TrainStep`s, yield every record as it came, and close what they wrap when they are closed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from io import TextIOBase
from typing import Any


def lines(
    steps: Iterable[Any], total: int | None = None, every_seconds: float = 5.0, file: TextIOBase | None = None
) -> Iterator[Any]:
    """Print a line at the first record, then one every `every_seconds`, and one at the last record.

        step   340/1,000  loss 2.312  validation 2.401  41,200 tokens/s  0:12 left

    steps: records with `step` and `loss`; `tokens`, `seconds` and `validation_loss` are used where they are there.
    total: the last step, for the time left. file: where to; None is sys.stderr, so that a program's own output stays
    apart. The validation loss is the newest one. Speed and time left are those of the later half of the run, so that
    a slow start (compilation) is forgotten.

    Raises ValueError for a `total` below 1 or a negative `every_seconds`.
    """
    _check(total)
    if not every_seconds >= 0:
        raise ValueError(f"every_seconds is {every_seconds!r}; it must be 0 or more")
    return _lines(steps, total, every_seconds, file)


def _lines(steps: Iterable[Any], total: int | None, every_seconds: float, file: TextIOBase | None) -> Iterator[Any]:
    pace, validation = Pace(), None
    last = printed = None
    due = -float("inf")
    try:
        for last in steps:
            validation = _newest(last, validation)
            if (now := time.monotonic()) >= due:
                due, printed = now + every_seconds, last
                pace.add(last)
                print(_line(last, total, validation, pace), file=file or sys.stderr, flush=True)
            yield last
    finally:  # also when the caller stops, or the run fails: the last record is told
        if last is not None and last is not printed:
            pace.add(last)
            print(_line(last, total, validation, pace), file=file or sys.stderr, flush=True)
        close(steps)


def bar(steps: Iterable[Any], total: int | None = None) -> Iterator[Any]:
    """In a notebook tqdm's progress bar, with the newest losses beside it; anywhere else `lines`.

    Raises ValueError for a `total` below 1.
    """
    _check(total)
    return _bar(steps, total) if in_notebook() else lines(steps, total)


def _bar(steps: Iterable[Any], total: int | None) -> Iterator[Any]:
    from tqdm.auto import tqdm

    validation = None
    with tqdm(total=total, unit="step") as progress:
        try:
            for turn, record in enumerate(steps):
                if turn == 0:  # a run that was resumed does not begin at 1
                    progress.initial = progress.n = int(record.step) - 1
                validation = _newest(record, validation)
                shown = {"loss": f"{float(record.loss):.3f}"}
                if validation is not None:
                    shown["validation"] = f"{validation:.3f}"
                progress.set_postfix(shown, refresh=False)
                progress.update(int(record.step) - progress.n)
                yield record
        finally:
            close(steps)


def in_notebook() -> bool:
    """Is this a Jupyter kernel (not a terminal, not plain IPython)?"""
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def close(steps: Iterable[Any]) -> None:
    """Close a generator now, so that it cleans up before the caller goes on; anything else has nothing to close."""
    if hasattr(steps, "close"):
        steps.close()


class Pace:
    """Tokens and steps a second over the later half of what was added."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float, float]] = []  # step, tokens, seconds

    def add(self, record: Any) -> None:
        tokens, seconds = (getattr(record, name, None) for name in ("tokens", "seconds"))
        if seconds is not None:
            self.marks.append((float(record.step), float("nan") if tokens is None else float(tokens), float(seconds)))

    def rates(self) -> tuple[float, float] | None:
        """(tokens a second, steps a second); None before there are two moments to compare."""
        if len(self.marks) < 2:
            return None
        (step, tokens, seconds), (step2, tokens2, seconds2) = self.marks[(len(self.marks) - 1) // 2], self.marks[-1]
        spent = seconds2 - seconds
        return ((tokens2 - tokens) / spent, (step2 - step) / spent) if spent > 0 else None


def _line(record: Any, total: int | None, validation: float | None, pace: Pace) -> str:
    step = int(record.step)
    parts = [f"step {step:>{len(f'{total:,}')},}/{total:,}" if total else f"step {step:,}"]
    parts.append(f"loss {float(record.loss):.3f}")
    if validation is not None:
        parts.append(f"validation {validation:.3f}")
    rates = pace.rates()
    if rates:
        tokens_a_second, steps_a_second = rates
        if tokens_a_second == tokens_a_second:  # not NaN: the records count tokens
            parts.append(f"{tokens_a_second:,.0f} tokens/s")
        if total and step < total and steps_a_second > 0:
            parts.append(f"{clock((total - step) / steps_a_second)} left")
    return "  ".join(parts)


def clock(seconds: float) -> str:
    """0:07, 12:30, 1:02:03."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _newest(record: Any, validation: float | None) -> float | None:
    value = getattr(record, "validation_loss", None)
    return validation if value is None else float(value)


def _check(total: int | None) -> None:
    if total is not None and (isinstance(total, bool) or not isinstance(total, int) or total < 1):
        raise ValueError(f"total is {total!r}; it must be a whole number of at least 1, or None when it is not known")
