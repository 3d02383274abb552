"""Progress in text: every record passes through, the last is told, and what is wrapped gets closed."""

from __future__ import annotations

import io
import math
import re
import sys
from types import SimpleNamespace

import pytest

from arlab.training import progress
from arlab.training.loop import TrainStep


def records(count: int, closed: list | None = None, fails_at: int | None = None, evaluate_every: int | None = None):
    try:
        for i in range(1, count + 1):
            if i == fails_at:
                raise FloatingPointError("the loss is nan")
            validation = 2.5 - i / 1000 if evaluate_every and i % evaluate_every == 0 else None
            yield TrainStep(i, 3.0 - i / 100, 64 * i, 1e-3, 1.0, i / 50, validation)
    finally:
        if closed is not None:
            closed.append(True)


@pytest.fixture
def clock(monkeypatch):
    """A clock that each look moves by 1/8 s, which is what a step takes here."""
    now = [0.0]

    def monotonic():
        now[0] += 0.125
        return now[0]

    monkeypatch.setattr(progress.time, "monotonic", monotonic)


def test_every_record_unchanged_and_a_line_every_so_often(clock):
    out, given = io.StringIO(), list(records(100, evaluate_every=30))
    assert [id(one) for one in progress.lines(iter(given), total=100, every_seconds=2.5, file=out)] == [
        id(one) for one in given
    ]
    printed = out.getvalue().splitlines()
    steps = [int(re.match(r"step +(\d+)/100", line).group(1)) for line in printed]
    assert steps == [1, 21, 41, 61, 81, 100]  # the first, one every 2.5 s, the last
    assert printed[0] == "step   1/100  loss 2.990"  # no speed before there are two moments
    assert printed[2] == "step  41/100  loss 2.590  validation 2.470  3,200 tokens/s  0:01 left"
    assert printed[-1] == "step 100/100  loss 2.000  validation 2.410  3,200 tokens/s"


def test_the_last_record_is_not_told_twice(clock):
    out = io.StringIO()
    list(progress.lines(records(1), total=1, file=out))
    assert out.getvalue() == "step 1/1  loss 2.990\n"
    out = io.StringIO()
    list(progress.lines(records(5), every_seconds=0, file=out))
    assert [line.split("  ")[0] for line in out.getvalue().splitlines()] == [f"step {i}" for i in range(1, 6)]
    assert list(progress.lines(iter(()), file=out)) == []


def test_lines_go_to_standard_error_as_it_is_then(capsys):
    list(progress.lines(records(2), total=1200, every_seconds=100))
    told = capsys.readouterr()
    assert told.out == "" and told.err.splitlines()[0].startswith("step     1/1,200  loss 2.990")


@pytest.mark.parametrize("wrap", [progress.lines, progress.bar, progress._bar])
def test_leaving_the_loop_closes_what_is_wrapped(wrap, capsys):
    closed: list = []
    steps = wrap(records(100, closed), 100)
    for step in steps:
        if step.step == 3:
            break
    steps.close()
    assert closed == [True]
    assert "3/100" in capsys.readouterr().err.replace(" ", "")


@pytest.mark.parametrize("wrap", [progress.lines, progress._bar])
def test_an_error_passes_through_after_the_last_record_is_told(wrap, capsys):
    closed: list = []
    with pytest.raises(FloatingPointError, match="nan"):
        list(wrap(records(100, closed, fails_at=5), 100))
    assert closed == [True] and "4/100" in capsys.readouterr().err.replace(" ", "")


def test_a_thrown_interrupt_passes_through(capsys):
    steps = progress.lines(records(100), 100)
    next(steps)
    with pytest.raises(KeyboardInterrupt):
        steps.throw(KeyboardInterrupt)


def test_records_with_only_a_step_and_a_loss(clock):
    out = io.StringIO()
    list(progress.lines([SimpleNamespace(step=i, loss=1.0) for i in range(1, 4)], every_seconds=0, file=out))
    assert out.getvalue().splitlines()[-1] == "step 3  loss 1.000"
    out = io.StringIO()
    list(progress.lines([SimpleNamespace(step=1, loss=math.nan)], file=out))
    assert "loss nan" in out.getvalue()


def test_a_slow_start_is_forgotten():
    pace = progress.Pace()
    for i in range(1, 101):
        pace.add(TrainStep(i, 1.0, 10 * i, 1e-3, 1.0, 60 + i / 10))  # a minute of compilation before the first
    assert pace.rates() == pytest.approx((100, 10))


@pytest.mark.parametrize(("seconds", "text"), [(6.6, "0:07"), (59.7, "1:00"), (750, "12:30"), (3723, "1:02:03")])
def test_clock(seconds, text):
    assert progress.clock(seconds) == text


def test_a_bar_in_a_notebook_and_lines_elsewhere(monkeypatch, capsys):
    assert not progress.in_notebook()
    list(progress.bar(records(3), total=3))
    assert capsys.readouterr().err.startswith("step 1/3")

    kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    assert progress.in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace()))
    assert not progress.in_notebook()  # IPython in a terminal


def test_the_bar_counts_steps_and_shows_the_losses(capsys):
    given = list(records(10, evaluate_every=5))[4:]  # resumed: the first is step 5
    assert list(progress._bar(iter(given), total=10)) == given
    told = capsys.readouterr()
    assert told.out == ""
    last = told.err.split("\r")[-1]
    assert "10/10" in last and "loss=2.900" in last and "validation=2.490" in last


@pytest.mark.parametrize("wrap", [progress.lines, progress.bar])
@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize("total", [0, -1, 2.5, True])
def test_bad_totals_are_refused_at_once(wrap, total):
    with pytest.raises(ValueError, match=re.escape(repr(total))):
        wrap(records(3), total)
    with pytest.raises(ValueError, match="every_seconds"):
        progress.lines(records(3), every_seconds=-1)
