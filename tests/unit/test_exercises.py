"""Every exercise accepts its right answers, names each wrong one, and leaves a stub alone."""

import importlib
import pkgutil
from pathlib import Path

import pytest

import arlab.exercises
from arlab.exercises.exercise import Exercise


def all_exercises():
    found = []
    for info in pkgutil.iter_modules(arlab.exercises.__path__):
        if info.name in ("exercise", "__main__"):
            continue
        module = importlib.import_module(f"arlab.exercises.{info.name}")
        found += [(f"{info.name}.{name}", value) for name, value in vars(module).items() if isinstance(value, Exercise)]
    return found


EXERCISES = all_exercises()
exercises = pytest.mark.parametrize("exercise", [e for _, e in EXERCISES], ids=[name for name, _ in EXERCISES])


def test_every_notebook_has_at_least_two():
    modules = {}
    for name, _ in EXERCISES:
        modules.setdefault(name.split(".")[0], []).append(name)
    notebooks = Path(__file__).resolve().parents[2] / "notebooks"
    assert modules.keys() == {notebook.stem.split("_", 1)[1] for notebook in notebooks.glob("*.ipynb")}
    assert all(len(names) >= 2 for names in modules.values()), modules


@exercises
def test_right_answers_are_accepted(exercise):
    assert len(exercise.right) == 2 and exercise.right[0] is not exercise.right[1]
    for answer in exercise.right:
        assert exercise.verdict(answer).startswith("✓"), exercise.verdict(answer)


@exercises
def test_each_wrong_answer_is_named(exercise):
    assert len(exercise.wrong) >= 3
    for wrong in exercise.wrong:
        verdict = exercise.verdict(wrong.answer)
        assert verdict.startswith("✗") and wrong.says in verdict, verdict


@exercises
def test_different_mistakes_get_different_words(exercise):
    verdicts = [exercise.verdict(wrong.answer) for wrong in exercise.wrong]
    assert len(set(verdicts)) >= 3, verdicts


@exercises
def test_a_stub_is_not_attempted(exercise):
    def returns_nothing(*args, **kwargs):
        return None

    def raises(*args, **kwargs):
        raise NotImplementedError

    for stub in (returns_nothing, raises):
        assert exercise.verdict(stub).startswith("○"), exercise.verdict(stub)


@exercises
def test_a_crash_is_reported_not_raised(exercise):
    def crashes(*args, **kwargs):
        raise ZeroDivisionError("division by zero")

    verdict = exercise.verdict(crashes)
    assert verdict.startswith("✗") and "ZeroDivisionError" in verdict


@exercises
def test_hint_and_solution_unfold(exercise):
    assert exercise.hint_text.strip() and "<details>" in exercise.hint()._repr_html_()
    solution = exercise.solution()
    assert f"def {exercise.name.split('.')[-1]}(" in solution.body and "<details>" in solution._repr_html_()
