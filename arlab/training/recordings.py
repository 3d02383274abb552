"""TrainSteps of runs too long for a lesson, kept as JSON; `python -m arlab.recipes NAME` runs them again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path

from arlab.nn.model_file import replace_file
from arlab.training.loop import TrainStep

FIELDS = [field.name for field in fields(TrainStep)]


def save(path: str | Path, runs: Mapping[str, Sequence[TrainStep]], **about) -> Path:
    """Each run's records as rows, numbers to six digits, and `about`: settings, figures, the machine.

    Raises:
        OSError: the file could not be written; one that was there before is untouched.
        ValueError: `about` holds what JSON cannot.
    """
    try:
        rows = {name: [[_short(value) for value in astuple(step)] for step in steps] for name, steps in runs.items()}
        content = json.dumps({"about": about, "fields": FIELDS, "runs": rows}, allow_nan=False, separators=(",", ":"))
    except TypeError as error:
        raise ValueError(f"a recording's `about` must be plain numbers, texts and lists: {error}") from error
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    replace_file(Path(path), (content + "\n").encode())
    return Path(path)


def load(path: str | Path) -> tuple[dict[str, list[TrainStep]], dict]:
    """(runs by name, about).

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no recording {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = content["fields"]
        runs = {
            name: [TrainStep(**dict(zip(names, map(_whole, row), strict=True))) for row in rows]
            for name, rows in content["runs"].items()
        }
        return runs, content["about"]
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a recording: {error}") from error


def _short(value: float | int | None) -> float | int | str | None:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)  # JSON has no NaN
    return value


def _whole(value: float | int | str | None) -> float | int | None:
    return float(value) if isinstance(value, str) else value
