"""Shots view: the same question after 0, 1, 2, 4, 8 examples, with real labels and with shuffled ones."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import traitlets

from arlab.views.base import BadValue, View, script, style

if TYPE_CHECKING:
    from arlab.decoding.shots import ShotResult


class ShotsView(View):
    """What a model answers after k examples, and how often it is right, with real and with shuffled labels.

        view = ShotsView(results, model_name="SmolLM2")       # results = arlab.decoding.shots.ask(...)
        view.task = "antonyms"; view.k = 4; view.shuffled = True; view.query = "hot"
        view.result                 # the ShotResult shown
        view.accuracy()             # {(k, shuffled): (right, asked)} of the task shown
        view.accuracy("plural")     # of another one

    `task`, `k`, `shuffled` and `query` are traits: read, set, observe or link them. Nothing is run again when they
    move: the page holds every result, in the notebook and in a saved page alike.

    Without examples there is no label to shuffle: `k = 0` shows one and the same answer with `shuffled` on and off.

    Source: "Language Models are Few-Shot Learners" (Brown et al., 2020); shuffled labels as a control: "Rethinking
    the Role of Demonstrations" (Min et al., 2022); lecture 001.
    """

    title = "Shots"
    _esm = script("shots_chart.js", "shots_view.js")
    _css = style("shots_view.css")

    task = traitlets.Unicode("").tag(sync=True)
    k = traitlets.Int(0, help="examples in the prompt").tag(sync=True)
    shuffled = traitlets.Bool(False, help="the examples' labels in another order").tag(sync=True)
    query = traitlets.Unicode("", help="one of the task's").tag(sync=True)
    _name = traitlets.Unicode("").tag(sync=True)
    _tasks = traitlets.List(traitlets.Dict()).tag(sync=True)

    def __init__(
        self,
        results: Sequence[ShotResult],
        *,
        task: str | None = None,
        k: int | None = None,
        shuffled: bool = False,
        query: str | None = None,
        model_name: str = "",
    ):
        """
        Args:
            results: what `arlab.decoding.shots.ask` gives, in any order; combinations may be missing.
            task, query: shown first; None: the first there is.
            k: shown first; None: 4 where the task has it, else the largest.
            model_name: whose answers they are, for the title.

        Raises:
            ValueError: no results, a combination of task, k, labels and query that comes twice (results of several
                seeds), a task, k or query that is not among them.
        """
        self.results = tuple(results)
        self._found = _indexed(self.results)
        names = list(dict.fromkeys(one.task for one in self.results))
        first = names[0] if task is None else task
        if first not in names:
            raise _no("task", first, names)
        ks = self._ks(first)
        super().__init__(
            task=first,
            k=(4 if 4 in ks else max(ks)) if k is None else operator.index(k),
            shuffled=bool(shuffled),
            query=self._queries(first)[0] if query is None else query,
            _name=str(model_name),
            _tasks=[self._told(name) for name in names],
        )

    # -- what is shown, in Python --------------------------------------------------------------------------------

    @property
    def tasks(self) -> list[str]:
        return [told["name"] for told in self._tasks]

    @property
    def queries(self) -> list[str]:
        """Those of the task shown."""
        return self._queries(self.task)

    @property
    def result(self) -> ShotResult | None:
        """The result shown; None where this combination was not asked."""
        return self._result(self.task, self.k, self.shuffled, self.query)

    def accuracy(self, task: str | None = None) -> dict[tuple[int, bool], tuple[int, int]]:
        """(k, shuffled) -> (right answers, questions asked), for the combinations that were asked.

        At k = 0 only False: there is nothing to shuffle.
        """
        name = self.task if task is None else task
        if name not in self.tasks:
            raise _no("task", name, self.tasks)
        found: dict[tuple[int, bool], tuple[int, int]] = {}
        for (at, k, shuffled, _), one in sorted(self._found.items(), key=lambda item: item[0][1:3]):
            if at == name:
                right, asked = found.get((k, shuffled), (0, 0))
                found[k, shuffled] = right + bool(one.correct), asked + 1
        return found

    def describe(self) -> str:
        told = []
        for name in self.tasks:
            counts = ", ".join(
                f"{_count(k, s)} {right}/{asked}" for (k, s), (right, asked) in self.accuracy(name).items()
            )
            told.append(f"{name}: {counts}")
        return f"{self.title}{self._name and ' of '}{self._name}, right answers by number of examples. " + "; ".join(
            told
        )

    # -- settings ------------------------------------------------------------------------------------------------

    @traitlets.validate("task")
    def _check_task(self, proposal: Any) -> str:
        if proposal["value"] not in {task for task, *_ in self._found}:
            raise _no("task", proposal["value"], self.tasks)
        return proposal["value"]

    @traitlets.validate("k")
    def _check_k(self, proposal: Any) -> int:
        ks = sorted({k for _, k, _, _ in self._found})
        if proposal["value"] not in ks:
            raise _no("k", proposal["value"], ks)
        return proposal["value"]

    @traitlets.validate("query")
    def _check_query(self, proposal: Any) -> str:
        if proposal["value"] not in self.queries:
            raise _no(f"query of {self.task!r}", proposal["value"], self.queries)
        return proposal["value"]

    @traitlets.observe("task")
    def _task_changed(self, _change: Any) -> None:
        if self.query not in self.queries:
            self.query = self.queries[0]
        if self.k not in self._ks(self.task):
            self.k = max(self._ks(self.task))

    # -- looking up ----------------------------------------------------------------------------------------------

    def _ks(self, task: str) -> list[int]:
        return sorted({k for name, k, _, _ in self._found if name == task})

    def _queries(self, task: str) -> list[str]:
        return list(dict.fromkeys(query for name, _, _, query in self._found if name == task))

    def _result(self, task: str, k: int, shuffled: bool, query: str) -> ShotResult | None:
        return self._found.get((task, k, shuffled and k > 0, query))

    def _told(self, task: str) -> dict[str, Any]:
        """What the page needs of a task: for each (k, labels) one answer a query, or None."""
        queries, kinds = self._queries(task), list(dict.fromkeys(key[1:3] for key in self._found if key[0] == task))
        here = [one for one in self._found.values() if one.task == task and not one.shuffled]
        truth = {question: label for one in here for question, label in one.examples}
        table = {
            f"{k} {'shuffled' if shuffled else 'real'}": [
                None if (one := self._result(task, k, shuffled, query)) is None else _page(one, truth)
                for query in queries
            ]
            for k, shuffled in kinds
        }
        return {"name": task, "ks": self._ks(task), "queries": queries, "answers": table}


class PromptParts(NamedTuple):
    """A prompt cut into what comes first, its examples, and the question; joined they are the prompt again."""

    lead: str
    examples: tuple[tuple[str, str], ...]  # of each: up to its label; the label, and the line's end
    question: str


def prompt_parts(prompt: str, examples: Sequence[tuple[str, str]]) -> PromptParts:
    """Cut a prompt as `arlab.text.shots.write_prompt` writes it: a line an example, the question in the last line.

    Raises:
        ValueError: the prompt has not these examples in the lines before its last.
    """
    lines = prompt.splitlines(keepends=True)
    at = len(lines) - 1 - len(examples)
    pieces = []
    for line, (question, label) in zip(lines[max(at, 0) : -1], examples, strict=False):
        text = line.rstrip("\n")
        if text.startswith(question) and text.endswith(label):
            cut = len(text) - len(label)
            pieces.append((line[:cut], line[cut:]))
    if len(pieces) < len(examples):
        raise BadValue(f"the prompt {prompt!r} does not have these examples, one a line: {list(examples)}")
    return PromptParts("".join(lines[:at]), tuple(pieces), lines[-1] if lines else "")


def _page(one: ShotResult, truth: dict[str, str]) -> dict[str, Any]:
    """What the page needs of an answer. An example's third entry: whether its label is another one's."""
    parts = prompt_parts(one.prompt, one.examples)
    pairs = zip(parts.examples, one.examples, strict=True)
    return {
        "lead": parts.lead,
        "examples": [[shown, rest, truth.get(asked, label) != label] for (shown, rest), (asked, label) in pairs],
        "question": parts.question,
        "tokens": one.tokens,
        "answer": one.answer,
        "said": one.said,
        "p_answer": float(one.p_answer),
        "top": [[str(token), float(p)] for token, p in one.top],
        "begins": [bool(token.strip()) and one.answer.startswith(token.strip()) for token, _ in one.top],
        "correct": bool(one.correct),
    }


def _indexed(results: Sequence[ShotResult]) -> dict[tuple[str, int, bool, str], ShotResult]:
    """By task, k, shuffled and query. At k = 0 the two kinds of labels are one."""
    if not results:
        raise BadValue("there are no results; ask() with at least one task, k and query gives some")
    found: dict[tuple[str, int, bool, str], ShotResult] = {}
    for one in results:
        key = one.task, operator.index(one.k), bool(one.shuffled) and one.k > 0, one.query
        if key in found and (one.k > 0 or found[key].prompt != one.prompt):
            labels = "shuffled" if one.shuffled else "real"
            raise BadValue(
                f"two results for task {one.task!r}, k {one.k}, {labels} labels, query {one.query!r}; "
                "give those of one seed"
            )
        found.setdefault(key, one)
    return found


def _count(k: int, shuffled: bool) -> str:
    return f"{k}{' shuffled' if shuffled else ''}"


def _no(what: str, value: Any, allowed: Sequence) -> BadValue:
    return BadValue(f"{what} is {value!r}; it must be one of {', '.join(map(repr, allowed))}")
