"""The Python side of the training curves: what follows a run, what is sent to the page and when, and the averages."""

from __future__ import annotations

import base64
import json
import math
import random
import shutil
import subprocess
import time
from array import array
from types import SimpleNamespace

import pytest
import torch

from arlab.training.loop import TrainStep
from arlab.views import TrainingCurves, training_curves
from arlab.views.base import HERE
from arlab.views.training_curves import CHUNK, COLUMNS, smooth


def records(count: int, start: int = 1, closed: list | None = None, fails_at: int | None = None, nan: tuple = ()):
    try:
        for i in range(start, start + count):
            if i == fails_at:
                raise FloatingPointError("the loss is nan")
            loss = math.nan if i in nan else 4.0 - i / 1000
            yield TrainStep(i, loss, 640 * i, 1e-3, 0.8, i / 200, 4.1 - i / 1000 if i % 100 == 0 else None)
    finally:
        if closed is not None:
            closed.append(True)


class Page:
    """What a page that was there from the start holds: the state as it was opened, and every update since."""

    def __init__(self, view: TrainingCurves, monkeypatch):
        self.state = dict(view.get_state())
        self.sent: list[dict] = []

        def send_state(key=None):
            state = view.get_state(key)
            self.sent.append(state)
            self.state |= state

        monkeypatch.setattr(view, "send_state", send_state)

    def rows(self) -> list[tuple]:
        return rows_of(self.state)


def rows_of(state: dict) -> list[tuple]:
    chunks = [state[f"_chunk{i}"] for i in range(state["_stream"]["chunks"])]
    numbers = array("d", b"".join([*chunks, state["_tail"]]))
    return [tuple(numbers[i : i + len(COLUMNS)]) for i in range(0, len(numbers), len(COLUMNS))]


@pytest.fixture
def quick(monkeypatch):
    """A clock that moves 5 ms between two steps."""
    now = [0.0]

    def monotonic():
        now[0] += 0.005
        return now[0]

    monkeypatch.setattr(training_curves.time, "monotonic", monotonic)


# ---- following a run ----------------------------------------------------------------------------------------------


def test_follow_yields_the_very_same_records():
    given = list(records(50))
    view = TrainingCurves(total=50)
    got = list(view.follow(iter(given)))
    assert all(a is b for a, b in zip(got, given, strict=True))
    assert view.losses == {"run": [(record.step, record.loss) for record in given]}
    assert view._runs[0]["state"] == "finished" and view._runs[0]["total"] == 50


def test_small_increments_ten_a_second_and_the_last_always(quick, monkeypatch):
    view = TrainingCurves(total=2010)
    page = Page(view, monkeypatch)
    list(view.follow(records(2010)))
    updates = [state for state in page.sent if "_tail" in state]
    assert 95 <= len(updates) <= 105  # 10 s of training
    assert repr(page.rows()) == repr(rows_of(view.get_state())) and page.rows()[-1][1] == 2010
    width = 8 * len(COLUMNS)
    assert all(len(state["_tail"]) < CHUNK * width for state in updates)
    sent = [name for state in updates for name in state if name.startswith("_chunk")]
    assert sent == [f"_chunk{i}" for i in range(2010 // CHUNK)]  # each of them once
    assert sum(name == "_tail" or name.startswith("_chunk") for state in updates for name in state) < 2 * len(updates)


def test_a_page_that_comes_late_is_given_everything(quick):
    view = TrainingCurves()
    steps = view.follow(records(700))
    for _ in range(650):
        next(steps)
    late = rows_of(view.get_state())  # what `request_state` is answered with
    assert [row[1] for row in late] == list(range(1, 651))
    assert view.get_state("_stream") == {"_stream": {"epoch": 0, "chunks": 2}}
    assert set(view.get_state({"_chunk1", "smoothing", "_chunk9"} - {"_chunk9"})) == {"_chunk1", "smoothing"}
    assert view.get_state(set()) == {}
    steps.close()


@pytest.mark.parametrize("leave", ["close", "interrupt", "fail"])
def test_a_run_that_ends_early_stays_and_says_so(leave, monkeypatch):
    view, closed = TrainingCurves(total=100), []
    page = Page(view, monkeypatch)
    steps = view.follow(records(100, closed=closed, fails_at=38 if leave == "fail" else None))
    for _ in range(37):
        next(steps)
    if leave == "close":
        steps.close()
    elif leave == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            steps.throw(KeyboardInterrupt)
    else:
        with pytest.raises(FloatingPointError, match="nan"):
            next(steps)
    assert closed == [True]  # the training cleans up now, not when memory is collected
    state = {"close": "stopped", "interrupt": "interrupted", "fail": "failed"}[leave]
    assert page.state["_runs"][0]["state"] == state
    assert page.state["_runs"][0]["note"] == ("FloatingPointError: the loss is nan" if leave == "fail" else "")
    assert [row[1] for row in page.rows()] == list(range(1, 38))


def test_an_interrupt_inside_the_training_says_so():
    def interrupted():
        yield from records(5)
        raise KeyboardInterrupt

    view = TrainingCurves()
    with pytest.raises(KeyboardInterrupt):
        list(view.follow(interrupted()))
    assert view._runs[0]["state"] == "interrupted" and len(view.losses["run"]) == 5


def test_leaving_a_loop_with_break_closes_the_run():
    view, closed = TrainingCurves(), []
    for step in view.follow(records(100, closed=closed)):
        if step.step == 4:
            break
    assert closed == [True] and view._runs[0]["state"] == "stopped"


def test_what_could_not_be_sent_is_sent_next_time(monkeypatch):
    """An interrupt may strike while an update is on its way."""
    view = TrainingCurves()
    page = Page(view, monkeypatch)
    send, failures = view.send_state, [True]

    def send_or_fail(key=None):
        if "_chunk0" in (key or ()) and failures:
            failures.pop()
            raise KeyboardInterrupt
        send(key)

    monkeypatch.setattr(view, "send_state", send_or_fail)
    monkeypatch.setattr(training_curves, "SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        list(view.follow(records(2 * CHUNK)))
    assert len(page.rows()) == CHUNK and view._runs[0]["state"] == "interrupted"


def test_every_field_is_sent_and_what_is_missing_is_nan():
    view = TrainingCurves()
    fields = {"tokens": 10**12 + 1, "seconds": 1.5, "lr": 1e-3, "grad_norm": 0.8, "validation_loss": math.nan}
    step = SimpleNamespace(step=7, loss=torch.tensor(2.5), **fields)
    list(view.follow([step, SimpleNamespace(step=8, loss=2.25)]))
    full, bare = (dict(zip(COLUMNS, row, strict=True)) for row in rows_of(view.get_state()))
    assert full["tokens"] == 10**12 + 1 and full["loss"] == 2.5 and full["validated"] == 1
    assert math.isnan(full["validation_loss"])  # a validation loss that is NaN is not one that was not asked for
    assert bare["loss"] == 2.25 and bare["validated"] == 0
    assert all(math.isnan(bare[name]) for name in ("tokens", "seconds", "lr", "grad_norm"))


@pytest.mark.usefixtures("as_shipped")
def test_it_costs_under_one_percent_of_a_step_of_5_ms(monkeypatch):
    """In processor time of this process, so that a busy machine does not count; an update ten times a second included.

    There is no kernel here, so the message itself is not in it: about 0.1 ms an update, measured in one.
    """
    view, given = TrainingCurves(total=4_000), list(records(4_000))
    moments = (0.005 * i for i in range(10**6))
    monkeypatch.setattr(training_curves.time, "monotonic", lambda: next(moments))
    best = math.inf
    for _ in range(3):
        began = time.process_time()
        for _ in view.follow(iter(given)):
            pass
        best = min(best, time.process_time() - began)
    assert best / 4_000 < 0.01 * 0.005, f"{best / 4_000 * 1e6:.1f} µs a step"


# ---- recorded runs, lines, settings ---------------------------------------------------------------------------------


def test_names_ids_and_replacing():
    view = TrainingCurves()
    view.add("small", records(10))
    view.add("large", records(20))
    list(view.follow(records(3)))
    list(view.follow(records(4)))
    assert [(run["name"], run["id"], run["recorded"]) for run in view._runs] == [
        ("small", 0, True),
        ("large", 1, True),
        ("run", 2, False),
        ("run (2)", 3, False),
    ]
    assert view.describe() == "Training curves: small (recorded), large (recorded), run, run (2)"
    view.add("small", records(5))  # a cell that is run again replaces its recorded run, which keeps its colour
    assert {run["name"]: run["id"] for run in view._runs} == {"large": 1, "run": 2, "run (2)": 3, "small": 0}
    assert {name: len(pairs) for name, pairs in view.losses.items()} == {
        "large": 20,
        "run": 3,
        "run (2)": 4,
        "small": 5,
    }
    view.remove("run")
    assert list(view.losses) == ["large", "run (2)", "small"] and view.get_state()["_stream"]["epoch"] == 2


def test_a_run_goes_on_while_another_is_taken_away(monkeypatch):
    view = TrainingCurves()
    page = Page(view, monkeypatch)
    view.add("old", records(300))
    steps = view.follow(records(10))
    for _ in range(4):
        next(steps)
    with pytest.raises(ValueError, match="still running"):
        view.remove("run")
    view.remove("old")
    list(steps)
    assert [row[:2] for row in page.rows()] == [(1, i) for i in range(1, 11)] and view._runs[0]["state"] == "finished"


def test_a_run_that_cannot_be_read_leaves_nothing_behind():
    view = TrainingCurves()
    with pytest.raises(TypeError):
        view.add("bad", [SimpleNamespace(step=1, loss=None)])
    with pytest.raises(ValueError, match="'empty' has no record"):
        view.add("empty", [])
    assert view._runs == [] and view.losses == {}


def test_lines():
    view = TrainingCurves()
    view.line("ln V", math.log(65))
    view.line("best", 1.5)
    view.line("ln V", 5)
    assert view._lines == [{"label": "best", "value": 1.5}, {"label": "ln V", "value": 5.0}]
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match=str(value)):
            view.line("x", value)


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"total": 0}, "total is 0"),
        ({"total": 2.5}, "total is 2.5"),
        ({"x": "epochs"}, "x is 'epochs'; it must be one of steps, tokens, seconds"),
        ({"smoothing": 0.5}, "smoothing is 0.5"),
        ({"smoothing": math.nan}, "smoothing is nan"),
    ],
)
def test_bad_values_are_named(settings, says):
    with pytest.raises(ValueError, match=says):
        TrainingCurves(**settings)
    view = TrainingCurves()
    if "total" in settings:
        with pytest.raises(ValueError, match=says):
            view.follow(records(3), **settings)  # at once, not at the first step
    else:
        with pytest.raises(ValueError, match=says):
            setattr(view, *next(iter(settings.items())))
    with pytest.raises(ValueError, match="name of a run is ' '"):
        view.follow(records(3), " ")
    with pytest.raises(TypeError, match="smothing"):
        TrainingCurves(smothing=3)
    assert view._runs == [] and view.smoothing == 10 and view.x == "steps"


# ---- saved pages and pictures --------------------------------------------------------------------------------------


def page_state(path) -> dict:
    text = path.read_text(encoding="utf-8").split('id="arlab-state">')[1].split("</script>")[0]
    state = json.loads(text)
    plain = {
        k: base64.b64decode(v["$base64"]) if isinstance(v, dict) and "$base64" in v else v for k, v in state.items()
    }
    return plain


def test_a_saved_page_has_every_row(tmp_path):
    view = TrainingCurves(title="</script><b>x")
    list(view.follow(records(600, nan=(5,)), "<!-- run"))
    path = view.save_html(tmp_path / "view.html")
    rows = rows_of(page_state(path))
    assert [row[1] for row in rows] == list(range(1, 601)) and math.isnan(rows[4][4])
    assert "</script><b>x" not in path.read_text(encoding="utf-8")


def test_the_picture_is_of_the_end_of_the_run(tmp_path, monkeypatch):
    """tools/build.py photographs the page that is there when the cell has ended."""
    monkeypatch.setenv("ARLAB_PHOTOGRAPH", str(tmp_path))
    view = TrainingCurves(total=30)
    list(view.follow(records(5), "before"))
    assert not list(tmp_path.iterdir())  # a view that is not shown has no picture
    view._repr_mimebundle_()
    path = tmp_path / f"{view.model_id}.html"
    assert len(rows_of(page_state(path))) == 5
    for step in view.follow(records(30)):
        if step.step == 20:
            break
    state = page_state(path)
    assert len(rows_of(state)) == 25 and state["_runs"][1]["state"] == "stopped"


# ---- the page computes the same ------------------------------------------------------------------------------------


def test_smooth_by_hand():
    assert smooth([1, 2, 3], [4.0, 2.0, 1.0], 1) == [4.0, 2.0, 1.0]
    # span 2: a value one step older weighs half
    assert smooth([1, 2, 3], [4.0, 2.0, 1.0], 2) == pytest.approx([4, (2 + 2) / 1.5, (1 + 1 + 1) / 1.75])
    # two steps older: a quarter; begins at its first value, whatever that is
    assert smooth([5, 7], [4.0, 1.0], 2) == pytest.approx([4, (0.25 * 4 + 1) / 1.25])
    assert smooth([1, 2, 3, 4], [3.0, 3.0, 3.0, 3.0], 50) == pytest.approx([3, 3, 3, 3])
    got = smooth([1, 2, 3], [4.0, math.nan, 2.0], 2)
    assert math.isnan(got[1]) and got[2] == pytest.approx((0.25 * 4 + 2) / 1.25)
    assert smooth([], [], 5) == []


HARNESS = """
globalThis.arlab = { thousands: (n) => String(n).replace(/\\B(?=(\\d{3})+$)/g, ",") };
const { cases, state } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const number = (v) => (v === null ? NaN : v);
const averages = cases.map(({ steps, values, span }) => curves.smooth(steps, values.map(number), span));
const model = {};
for (const [name, value] of Object.entries(state)) {
  if (typeof value !== "string") { model[name] = value; continue; }
  const bytes = Uint8Array.from(Buffer.from(value, "base64"));
  model[name] = new DataView(bytes.buffer);
}
const rows = curves.store((name) => model[name]);
const runs = [...rows.read().values()].map((run) => ({ steps: [...run.step], validated: [...run.validated],
  average: curves.average(run, 20), odd: curves.oddities(run), pace: curves.pace(run) }));
const again = rows.read().get(0).step.length;
const ranges = [[0, 300], [0, 7], [1.2, 4.6], [0.0011, 0.0038], [-3, 12]];
const ticks = ranges.map(([a, b]) => curves.linearTicks(a, b, 6, true));
const logs = [[1, 3e6], [1.4, 4.3], [900, 2.4e5]].map(([a, b]) => curves.logTicks(a, b, 8).ticks);
process.stdout.write(JSON.stringify({ averages, runs, again, ticks, logs }));
"""


def node() -> str:
    found = shutil.which("node")
    if found:
        return found
    driver = pytest.importorskip("playwright._impl._driver", reason="needs Node, or playwright's own (the test extra)")
    return str(driver.compute_driver_executable()[0])


def in_node(cases: list, state: dict) -> dict:
    packed = {k: base64.b64encode(v).decode() if isinstance(v, bytes) else v for k, v in state.items()}
    code = (HERE / "curves.js").read_text(encoding="utf-8").replace("const curves =", "globalThis.curves =") + HARNESS
    given = json.dumps({"cases": cases, "state": packed}).replace("NaN", "null")
    command = [node(), "--input-type=commonjs", "-e", code]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_page_smooths_as_python_does():
    chance = random.Random(0)
    cases = []
    for span in (1, 2, 7, 10, 333.5, 1000):
        for stride in (1, 10, None):
            steps = [i * stride for i in range(1, 400)] if stride else sorted(chance.sample(range(1, 5000), 399))
            values = [math.nan if chance.random() < 0.05 else 4 * 0.99**i + chance.gauss(0, 0.3) for i in range(399)]
            cases.append({"steps": steps, "values": values, "span": span})
    view = TrainingCurves()
    view.add("a", records(600, nan=(300, 301)))
    view.add("b", records(100, start=50))
    list(view.follow(records(20, nan=(15, 16, 17, 18, 19, 20))))
    page = in_node(cases, view.get_state(["_stream", "_tail", "_chunk0", "_chunk1"]))
    for case, got in zip(cases, page["averages"], strict=True):
        expected = smooth(case["steps"], case["values"], case["span"])
        assert [None if math.isnan(v) else pytest.approx(v, rel=1e-12) for v in expected] == got
    a, b, c = page["runs"]
    assert a["steps"] == list(range(1, 601)) and a["validated"] == [99, 199, 299, 399, 499, 599]
    assert b["steps"] == list(range(50, 150)) and b["validated"] == [50] and b["odd"] == ""
    assert a["odd"] == "loss is NaN 2 times, first at step 300" and c["odd"] == "loss is NaN from step 15 on"
    assert b["average"] == pytest.approx(smooth(b["steps"], [loss for _, loss in view.losses["b"]], 20), rel=1e-12)
    assert a["pace"] == pytest.approx({"steps": 200, "tokens": 128_000})
    assert page["again"] == 600  # reading twice does not count the tail twice
    assert [(t["low"], t["high"], len(t["ticks"]), t["digits"]) for t in page["ticks"]] == [
        (0, 300, 7, 0),
        (0, 8, 5, 0),
        (1, 5, 5, 0),
        (0.001, 0.004, 7, 4),
        (-5, 15, 5, 0),
    ]
    assert page["logs"] == [
        [1, 10, 100, 1e3, 1e4, 1e5, 1e6],
        [1.5, 2, 2.5, 3, 3.5, 4],
        [1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5],
    ]
