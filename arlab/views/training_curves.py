"""Training curves: the loss of a run while it trains, and of recorded runs beside it.

The kernel is busy while it trains, so nothing can be asked of it then. All traffic goes one way, kernel to page: the
records are kept as rows of numbers, cut into chunks of `CHUNK` rows. A full chunk is sent once; the rows after the
last full chunk, `_tail`, are sent again at each of the at most ten updates a second. Chunks are part of the widget's
state, so a page that connects late, a second view and a saved page have everything.
"""

from __future__ import annotations

import base64
import math
import os
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import traitlets

from arlab.training.progress import close
from arlab.views.base import BadValue, View, script, style

# A row of numbers for each record; `validated` is 1 where the record has a validation loss (which may be NaN).
COLUMNS = ("run", "step", "tokens", "seconds", "loss", "validated", "validation_loss", "lr", "grad_norm")
CHUNK = 256  # rows
CHUNK_NUMBERS = CHUNK * len(COLUMNS)
SECONDS = 0.1  # between two updates of the page
AXES = ("steps", "tokens", "seconds")


def smooth(steps: Sequence[float], values: Sequence[float], span: float) -> list[float]:
    """The exponential moving average over about `span` steps that the page draws; span 1 leaves the values alone.

    Each value is the mean of all so far, in which one that is d steps old has the weight (1 - 1/span)^d; so the curve
    begins at its first value, and records may be unevenly spaced. Values that are not finite give NaN and are
    left out of the average.

    Raises ValueError for a span below 1.
    """
    if not span >= 1:
        raise ValueError(f"span is {span!r}; it must be 1 (no smoothing) or more steps")
    keep = 1 - 1 / span
    total = weight = 0.0
    before = -math.inf
    smoothed = []
    for step, value in zip(steps, values, strict=True):
        if math.isfinite(value):
            fade = keep if step - before == 1 else keep ** max(0.0, step - before)
            total, weight, before = fade * total + value, fade * weight + 1, step
            smoothed.append(total / weight)
        else:
            smoothed.append(math.nan)
    return smoothed


class TrainingCurves(View):
    """The loss of training runs, live and recorded, with a progress bar.

        curves = TrainingCurves(total=300)
        curves.line("ln V", math.log(65))
        curves.add("4 layers", recordings["4 layers"])      # a recorded run, drawn at once
        display(curves)
        for step in curves.follow(train(model, batches, steps=300)):
            ...                                             # the same TrainSteps, nothing else changes

    Show it before the loop begins, in the same cell (what a reader without a kernel sees is the cell's last state).
    Several runs may follow one another; each has its colour and its dashes.

    total: steps of the runs that follow; None when it is not known. loss: the label of the vertical axis.
    Traits to read, set and observe: `x` ("steps", "tokens", "seconds"), `smoothing` (see `smooth`; 1 is none),
    `log_x`, `log_y`, `hidden` (names of the runs not drawn).
    Raises ValueError for values out of range.
    """

    title = "Training curves"
    _esm = script("curves.js", "curves_plot.js", "training_curves.js")
    _css = style("training_curves.css")

    x = traitlets.Unicode("steps").tag(sync=True)
    smoothing = traitlets.Float(10.0, help="steps to average over, 1 to 1000; 1 for none").tag(sync=True)
    log_x = traitlets.Bool(False).tag(sync=True)
    log_y = traitlets.Bool(False).tag(sync=True)
    hidden = traitlets.List(traitlets.Unicode()).tag(sync=True)
    _heading = traitlets.Unicode("").tag(sync=True)
    _loss_label = traitlets.Unicode("").tag(sync=True)
    _runs = traitlets.List(traitlets.Dict()).tag(sync=True)  # id, name, recorded, total, state, note
    _lines = traitlets.List(traitlets.Dict()).tag(sync=True)  # label, value
    _total = traitlets.Int(0).tag(sync=True)  # 0: not known

    def __init__(
        self,
        total: int | None = None,
        title: str = "Training curves",
        *,
        loss: str = "loss, nats per token",
        **settings: Any,
    ):
        self._rows = array("d")
        self._chunks_sent = 0
        self._news = False  # are there rows that were not sent?
        self._epoch = 0  # how often rows were taken away
        self._due = 0.0  # no update before this moment
        self._shown = False
        unknown = set(settings) - {"x", "smoothing", "log_x", "log_y", "hidden"}
        if unknown:
            raise TypeError(f"TrainingCurves has no setting {', '.join(sorted(unknown))}")
        super().__init__(_heading=str(title), _loss_label=str(loss), _total=_count(total), **settings)

    # -- runs -------------------------------------------------------------------------------------------------------

    def follow(self, steps: Iterable[Any], name: str = "run", total: int | None = None) -> Iterator[Any]:
        """Yield the records of `steps`, unchanged, and draw them as they come.

        steps: an iterable of TrainStep, or of anything with `step` and `loss`; `tokens`, `seconds`,
        `validation_loss`, `lr` and `grad_norm` are shown where they are there. A run that is stopped, interrupted or
        fails stays drawn and says so; the error goes on to the caller. A second run of the same name is numbered.
        """
        total = _count(total) or self._total
        name = _name(name)
        return self._following(steps, name, total)

    def _following(self, steps: Iterable[Any], name: str, total: int) -> Iterator[Any]:
        run = self._begin(name, recorded=False, total=total, state="running")
        state, note = "finished", ""
        try:
            for record in steps:
                self._rows.extend(_row(run, record))
                self._news = True
                now = time.monotonic()
                if now >= self._due:
                    self._due = now + SECONDS
                    self.flush()
                yield record
        except GeneratorExit:  # the caller has left the loop
            state = "stopped"
            raise
        except KeyboardInterrupt:
            state = "interrupted"
            raise
        except BaseException as error:
            state, note = "failed", f"{type(error).__name__}: {error}".rstrip(": ")[:300]
            raise
        finally:
            try:
                self.flush()
                end = {"state": state, "note": note}
                self._runs = [one | end if one["id"] == run else one for one in self._runs]
                self._photograph()
            finally:
                close(steps)

    def add(self, name: str, steps: Iterable[Any], recorded: bool = True) -> None:
        """Draw a whole run at once, labelled "recorded" (unless `recorded` is False). One of the same name that was
        added before is replaced.

        Raises ValueError where there is no record in it.
        """
        name, records = _name(name), list(steps)
        if not records:
            raise BadValue(f"run {name!r} has no record to draw")
        if any(run["name"] == name and run["state"] == "added" for run in self._runs):
            self.remove(name)
        rows = [_row(self._free(), record) for record in records]
        self._begin(name, recorded=bool(recorded), total=0, state="added")
        for row in rows:
            self._rows.extend(row)
        self._news = True
        self.flush()
        self._photograph()

    def line(self, label: str, value: float) -> None:
        """A reference line across the plot, as ln V for a model that knows nothing; the same label moves it.

        Raises ValueError for a value that is not finite.
        """
        value = float(value)
        if not math.isfinite(value):
            raise BadValue(f"the line {label!r} is at {value}; it must be at a finite number")
        label = _name(label, "a line's label")
        self._lines = [line for line in self._lines if line["label"] != label] + [{"label": label, "value": value}]
        self._photograph()

    def remove(self, name: str) -> None:
        """Take a run out of the plot.

        Raises ValueError for a name that is not there, and for a run that is still running.
        """
        names = [run["name"] for run in self._runs]
        if name not in names:
            raise BadValue(f"there is no run {name!r}; there is {', '.join(map(repr, names)) or 'none'}")
        if self._runs[names.index(name)]["state"] == "running":
            raise BadValue(f"run {name!r} is still running; stop it first")
        gone, kept = self._runs[names.index(name)]["id"], array("d")
        for row in self._each_row():
            if row[0] != gone:
                kept.extend(row)
        self._rows, self._epoch, self._chunks_sent, self._news = kept, self._epoch + 1, 0, True
        with self.hold_sync():
            self._runs = [run for run in self._runs if run["name"] != name]
            self.hidden = [one for one in self.hidden if one != name]
        self.flush()

    @property
    def losses(self) -> dict[str, list[tuple[int, float]]]:
        """(step, loss) of each run, as they came."""
        found: dict[int, list] = {run["id"]: [] for run in self._runs}
        for row in self._each_row():
            found[int(row[0])].append((int(row[1]), row[4]))
        return {run["name"]: found[run["id"]] for run in self._runs}

    def _each_row(self) -> Iterator[array]:
        width = len(COLUMNS)
        return (self._rows[start : start + width] for start in range(0, len(self._rows), width))

    # -- rows, and their way to the page ----------------------------------------------------------------------------

    def _free(self) -> int:
        """The lowest number that no run has; it chooses the colour, so a run that is replaced keeps its own."""
        taken = {run["id"] for run in self._runs}
        return next(number for number in range(len(taken) + 1) if number not in taken)

    def _begin(self, name: str, **about: Any) -> int:
        taken = {run["name"] for run in self._runs}
        names = (name, *(f"{name} ({i})" for i in range(2, len(taken) + 2)))
        run = {"id": self._free(), "name": next(one for one in names if one not in taken), "note": "", **about}
        self._runs = [*self._runs, run]
        return run["id"]

    def flush(self) -> None:
        """Send the page what it does not have yet; `follow` does so ten times a second, and at the end."""
        if self._news:
            full = len(self._rows) // CHUNK_NUMBERS
            self.send_state(["_stream", "_tail", *(f"_chunk{i}" for i in range(self._chunks_sent, full))])
            self._chunks_sent, self._news = full, False

    def get_state(self, key: str | Iterable[str] | None = None, drop_defaults: bool = False) -> dict[str, Any]:
        """What ipywidgets sends: of all traits and rows, or of those asked for."""
        full = len(self._rows) // CHUNK_NUMBERS
        parts = {f"_chunk{i}": slice(i * CHUNK_NUMBERS, (i + 1) * CHUNK_NUMBERS) for i in range(full)}
        parts["_tail"] = slice(full * CHUNK_NUMBERS, None)
        asked = None if key is None else {key} if isinstance(key, str) else set(key)
        traits = None if asked is None else asked - parts.keys() - {"_stream"}
        state = super().get_state(traits, drop_defaults) if traits is None or traits else {}
        if asked is None or "_stream" in asked:
            state["_stream"] = {"epoch": self._epoch, "chunks": full}
        for name in parts if asked is None else parts.keys() & asked:
            state[name] = self._rows[parts[name]].tobytes()
        return state

    def saved_state(self) -> dict[str, Any]:
        """As for every view, and the rows."""
        names = ["_stream", "_tail", *(f"_chunk{i}" for i in range(len(self._rows) // CHUNK_NUMBERS))]
        return super().saved_state() | {
            name: {"$base64": base64.b64encode(value).decode("ascii")} if isinstance(value, bytes) else value
            for name, value in self.get_state(names).items()
        }

    # -- shown ------------------------------------------------------------------------------------------------------

    def describe(self) -> str:
        """The title and the runs in it: a line that does not change from one training to the next."""
        runs = ", ".join(run["name"] + (" (recorded)" if run["recorded"] else "") for run in self._runs)
        return f"{self._heading}: {runs}" if runs else self._heading

    def _repr_mimebundle_(self, **options: Any) -> Any:
        self._shown = True
        return super()._repr_mimebundle_(**options)

    def _photograph(self) -> None:
        """Save the page again, for tools/build.py: the picture of a run is wanted at its end, not at its start."""
        folder = os.environ.get("ARLAB_PHOTOGRAPH")
        if folder and self._shown:
            self.save_html(Path(folder) / f"{self.model_id}.html")

    @traitlets.validate("x")
    def _valid_x(self, proposal: Any) -> str:
        if proposal["value"] not in AXES:
            raise BadValue(f"x is {proposal['value']!r}; it must be one of {', '.join(AXES)}")
        return proposal["value"]

    @traitlets.validate("smoothing")
    def _valid_smoothing(self, proposal: Any) -> float:
        if not 1 <= proposal["value"] <= 1000:
            raise BadValue(f"smoothing is {proposal['value']!r}; it must be from 1 (none) to 1000 steps")
        return proposal["value"]


def _row(run: int, record: Any) -> array:
    validation = getattr(record, "validation_loss", None)
    return array(
        "d",
        (
            run,
            record.step,
            _number(record, "tokens"),
            _number(record, "seconds"),
            record.loss,
            validation is not None,
            math.nan if validation is None else validation,
            _number(record, "lr"),
            _number(record, "grad_norm"),
        ),
    )


def _number(record: Any, name: str) -> float:
    value = getattr(record, name, None)
    return math.nan if value is None else value


def _count(total: int | None) -> int:
    if total is None:
        return 0
    if isinstance(total, bool) or not isinstance(total, int) or total < 1:
        raise BadValue(f"total is {total!r}; it must be a whole number of at least 1, or None when it is not known")
    return total


def _name(name: str, what: str = "the name of a run") -> str:
    if not isinstance(name, str) or not name.strip():
        raise BadValue(f"{what} is {name!r}; it must be a text that says something")
    return name.strip()
