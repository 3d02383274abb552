"""TrainSteps of runs too long for a lesson, kept as JSON; `python -m arlab.recipes NAME` runs them again."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import Any

import torch

from arlab.nn.model_file import replace_file
from arlab.training.loop import TrainStep

FIELDS = [field.name for field in fields(TrainStep)]


def clocked(steps: Iterable[TrainStep], look: Callable[[], float | None], every: int) -> Iterator[TrainStep]:
    """The same records with CPU seconds of training alone, and what `look()` found every so many steps.

    A busy machine does not stretch CPU seconds, and the looking (a validation loss, as a rule) is not counted.
    """
    spent, started = 0.0, time.process_time()
    for step in steps:
        spent += time.process_time() - started
        yield replace(step, seconds=spent, validation_loss=look() if step.step % every == 0 else None)
        started = time.process_time()


def thinned(steps: Iterable[TrainStep], keep: int) -> list[TrainStep]:
    """One record for every `keep` steps: the last of them, with the mean of their losses. An unfilled group is left."""
    kept, losses = [], []
    for step in steps:
        losses.append(step.loss)
        if len(losses) == keep:
            kept.append(replace(step, loss=sum(losses) / keep))
            losses = []
    return kept


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


Experiments = Mapping[str, Callable[[], tuple[Mapping[str, Sequence[TrainStep]], Any]]]


def record_experiments(path: str | Path, experiments: Experiments) -> Path:
    """Run each experiment, () -> (runs, what is to be said about them), and save all in one file for `load_experiment`.

    Raises:
        OSError, ValueError: as in `save`.
    """
    runs: dict[str, Sequence[TrainStep]] = {}
    about = {"torch": torch.__version__, "machine": f"{platform.machine()}, {torch.get_num_threads()} thread"}
    for name, experiment in experiments.items():
        found, about[name] = experiment()
        runs.update({f"{name} / {run}": steps for run, steps in found.items()})
        print(f"{name}: " + ", ".join(f"{run} {steps[-1].loss:.3f}" for run, steps in found.items()), flush=True)
    return save(path, runs, **about)


def load_experiment(path: str | Path, name: str) -> tuple[dict[str, list[TrainStep]], Any]:
    """One experiment of several in a file: (the runs saved as 'name / run', by run; about[name]).

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of another kind, or an experiment that is not in it.
    """
    runs, about = load(path)
    found = {run.removeprefix(f"{name} / "): steps for run, steps in runs.items() if run.startswith(f"{name} / ")}
    if not found:
        names = [each for each in about if any(run.startswith(f"{each} / ") for run in runs)]
        raise ValueError(f"experiment is {name!r}; recorded are {', '.join(names)}")
    return found, about[name]


def _short(value: float | int | None) -> float | int | str | None:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)  # JSON has no NaN
    return value


def _whole(value: float | int | str | None) -> float | int | None:
    return float(value) if isinstance(value, str) else value
