"""Recorded runs: how a stream of records is clocked and thinned, and how one experiment of several is read back."""

import time

import pytest

from arlab.training import recordings
from arlab.training.loop import TrainStep


def step(n, loss=1.0):
    return TrainStep(step=n, loss=loss, tokens=10 * n, lr=0.1, grad_norm=1.0, seconds=99.0)


def test_a_thinned_record_is_the_last_of_its_group_with_the_mean_loss():
    kept = recordings.thinned([step(n, loss=float(n)) for n in range(1, 26)], keep=10)
    assert [(one.step, one.tokens, one.loss) for one in kept] == [(10, 100, 5.5), (20, 200, 15.5)]


def test_the_clock_counts_work_inside_the_loop_and_not_the_looking():
    def busy(seconds):
        until = time.process_time() + seconds
        while time.process_time() < until:
            pass

    def steps():
        for n in (1, 2, 3):
            busy(0.02)
            yield step(n)

    def look():
        busy(0.2)
        return 4.0

    records = list(recordings.clocked(steps(), look, every=2))
    assert [one.validation_loss for one in records] == [None, 4.0, None]
    assert 0.055 < records[-1].seconds < 0.19
    assert records[0].seconds < records[1].seconds < records[2].seconds


def test_one_experiment_of_several_is_read_by_its_name(tmp_path):
    runs = {"a / x": [step(1)], "a / y": [step(2)], "ab / x": [step(3)]}
    path = recordings.save(tmp_path / "runs.json", runs, a={"n": 1}, ab={"n": 2}, torch="2")
    assert recordings.load_experiment(path, "a") == ({"x": [step(1)], "y": [step(2)]}, {"n": 1})
    for name in ("b", "torch"):
        with pytest.raises(ValueError, match=f"experiment is '{name}'; recorded are a, ab"):
            recordings.load_experiment(path, name)


def test_experiments_are_run_and_found_again(tmp_path, capsys):
    def experiment(n):
        return lambda: ({"a": [step(1, loss=float(n))], "b": [step(1, loss=n + 0.5)]}, {"n": n})

    path = recordings.record_experiments(tmp_path / "two.json", {"first": experiment(1), "second": experiment(2)})
    for name, n in (("first", 1), ("second", 2)):
        runs, about = recordings.load_experiment(path, name)
        assert {run: steps[0].loss for run, steps in runs.items()} == {"a": n, "b": n + 0.5} and about == {"n": n}
    assert {"torch", "machine"} < recordings.load(path)[1].keys()
    assert "first: a 1.000, b 1.500" in capsys.readouterr().out
