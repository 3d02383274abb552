"""An exercise: a check that says which mistake was made, a hint and a solution to unfold.

A check tests behaviour, never how the code looks. Beside it stand two differently written right answers and at least
three plausible wrong ones with the words of the diagnosis that each must get; the tests run them all.
"""

from __future__ import annotations

import html
import inspect
import re
import textwrap
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import torch


class NotAttempted(Exception):
    """Raised while a student's stub still stands as shipped."""


@dataclass(frozen=True)
class Wrong:
    """A plausible wrong answer, and a fragment of the diagnosis it must get."""

    answer: Callable
    says: str


@dataclass(frozen=True)
class Fold:
    """Text behind a triangle in a notebook, plain in a terminal."""

    title: str
    body: str
    code: bool = False

    def _repr_html_(self) -> str:
        body = html.escape(self.body)
        inner = f"<pre><code>{body}</code></pre>" if self.code else f"<p>{body}</p>"
        return f"<details><summary>{html.escape(self.title)}</summary>{inner}</details>"

    def __repr__(self) -> str:
        return f"{self.title}\n{textwrap.indent(self.body, '    ')}"


@dataclass(frozen=True)
class Exercise:
    """Call it with the student's function: it prints one line of verdict.

    `check(student)` returns None for a right answer and the diagnosis, a sentence, for a wrong one. It need not
    guard against answers that crash, return None, change their arguments' shape or raise: `verdict` does.
    """

    name: str
    check: Callable[[Callable], str | None]
    hint_text: str
    right: tuple[Callable, Callable]
    wrong: tuple[Wrong, ...]

    def __call__(self, student: Callable) -> None:
        print(self.verdict(student))

    def verdict(self, student: Callable) -> str:
        """One line: not attempted, right, or what is wrong."""
        if not callable(student):
            return f"✗ {self.name}: hand over the function itself, without calling it; got {type(student).__name__}."
        try:
            diagnosis = self.check(_watched(student))
        except (NotAttempted, NotImplementedError):
            return f"○ {self.name}: not attempted yet. Replace the stub and run this cell again."
        except Exception as error:
            return f"✗ {self.name}: {_crash(student, error)}"
        if diagnosis is None:
            return f"✓ {self.name}: right."
        return f"✗ {self.name}: {diagnosis}"

    def hint(self) -> Fold:
        """A nudge, folded."""
        return Fold("Hint", self.hint_text)

    def solution(self) -> Fold:
        """One right answer, folded, under the name that the student's function has."""
        source = textwrap.dedent(inspect.getsource(self.right[0])).rstrip()
        own_name = self.name.split(".")[-1]
        return Fold("One solution", re.sub(rf"\b{self.right[0].__name__}\b", own_name, source), code=True)


def _watched(student: Callable) -> Callable:
    """The student's function; a stub that returns None counts as not attempted, and grad mode is left alone."""

    def call(*args, **kwargs):
        answer = student(*args, **kwargs)
        if answer is None or answer is Ellipsis:
            raise NotAttempted
        return answer

    return call


def _crash(student: Callable, error: Exception) -> str:
    """What to tell of an answer that raised: the kind, the words, and the line of the student's own code."""
    file = getattr(getattr(student, "__code__", None), "co_filename", None)
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f" at line {own[-1].lineno} of your cell" if own else ""
    message = str(error).strip().splitlines()
    return f"it raised {type(error).__name__}{where}: {message[0] if message else 'without a message'}"


def as_tensor(answer):
    """Nested lists and NumPy arrays are as good as tensors; anything else stays what it is."""
    try:
        return torch.as_tensor(answer)
    except (TypeError, ValueError, RuntimeError):
        return answer


def close(answer, expected: torch.Tensor, tolerance: float = 1e-5) -> bool:
    """The answer is a tensor of the expected shape and values; anything else is False."""
    if not isinstance(answer, torch.Tensor) or answer.shape != expected.shape:
        return False
    return torch.allclose(answer.double(), expected.double(), atol=tolerance, rtol=tolerance)


def shape_problem(answer, expected: torch.Tensor, what: str = "the result") -> str | None:
    """A sentence when the answer is no tensor, or of another shape; None when it fits."""
    if not isinstance(answer, torch.Tensor):
        return f"{what} should be a tensor of shape {tuple(expected.shape)}; you returned a {type(answer).__name__}."
    if answer.shape != expected.shape:
        return f"{what} should have shape {tuple(expected.shape)}; yours has {tuple(answer.shape)}."
    return None
