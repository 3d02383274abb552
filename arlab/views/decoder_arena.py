"""Decoder arena: what several strategies wrote after one prompt, their measures, and the frontier of two of them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import traitlets
from torch import Tensor

from arlab.decoding import comparison
from arlab.decoding.comparison import Outcome
from arlab.views.arena_row import WAYS, answer_pattern, arena_row, expected_answers
from arlab.views.base import BadValue, View, script, style

MAX_ROWS = 24


class DecoderArena(View):
    """Strategies in rows: text, log p per token, repetition, diversity, seconds; and two of these against each other.

        arena = DecoderArena.run({"greedy": partial(greedy, model), ...}, tokenizer, prompt, max_new_tokens=60)
        arena.seed = 1                  # runs them all again, as the button in the page does
        arena.x, arena.y = "seconds", "diversity"
        arena.frontier()                # names of the strategies that none beats on both axes
        arena.outcomes                  # the Outcomes shown

    Outcomes at hand are shown by `DecoderArena(compare(...), prompt_text=..., tokenizer=tokenizer)`; nothing can be
    run again then.

    outcomes: 1 to 24 with different names. tokenizer: says where a token ends, so that repeated 4-grams can be
    underlined (not needed where the texts are ids written out). answer: a text, or several, of which one is expected;
    what contains it as whole words, in capitals or not, is marked. seed: told in the page.
    Settings, which are traits as well: `x`, `y` (logprob, repetition, distinct, diversity, agreement, seconds,
    answer), `sort` (one of these, "name", or "" for the order given), `descending`, `unfolded` (names of rows),
    `underline`.

    Raises ValueError for no outcome, two of one name, an empty answer, a setting out of range; TypeError for what is
    no Outcome.
    """

    title = "Decoder arena"
    _esm = script("curves.js", "frontier_names.js", "frontier.js", "arena_row.js", "decoder_arena.js")
    _css = style("decoder_arena.css")

    seed = traitlets.Int(0).tag(sync=True)
    x = traitlets.Unicode("logprob").tag(sync=True)
    y = traitlets.Unicode("diversity").tag(sync=True)
    sort = traitlets.Unicode("").tag(sync=True)
    descending = traitlets.Bool(True).tag(sync=True)
    unfolded = traitlets.List(traitlets.Unicode()).tag(sync=True)
    underline = traitlets.Bool(True).tag(sync=True)
    prompt_text = traitlets.Unicode("").tag(sync=True)
    expected = traitlets.List(traitlets.Unicode()).tag(sync=True)  # the answers that count; [] for none
    rows = traitlets.List(traitlets.Dict()).tag(sync=True)  # in the order given: see `arena_row`
    progress = traitlets.Dict({"running": "", "waiting": []}).tag(sync=True)  # names, while the strategies run
    _can_run = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self,
        outcomes: Sequence[Outcome],
        *,
        prompt_text: str,
        answer: str | Sequence[str] | None = None,
        tokenizer: Any = None,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        unknown = sorted(set(settings) - {"x", "y", "sort", "descending", "unfolded", "underline"})
        if unknown:
            raise TypeError(f"DecoderArena has no setting {unknown[0]!r}")
        self.outcomes = _checked(outcomes)
        self._again: Callable[[str, int], Outcome] | None = None
        expected = expected_answers(answer)
        pattern = answer_pattern(expected)
        decode = None if tokenizer is None else tokenizer.decode
        self._row = lambda outcome, seed: arena_row(outcome, seed, pattern=pattern, decode=decode)
        super().__init__(
            prompt_text=prompt_text,
            expected=expected,
            seed=seed,
            rows=[self._row(outcome, seed) for outcome in self.outcomes],
            **settings,
        )
        self.answers["run"] = self._asked

    @classmethod
    def run(
        cls,
        strategies: Mapping[str, Callable],
        tokenizer: Any,
        prompt: str | Sequence[int] | Tensor,
        *,
        max_new_tokens: int,
        eos_id: int | Sequence[int] | None = None,
        seed: int = 0,
        answer: str | Sequence[str] | None = None,
        **settings: Any,
    ) -> DecoderArena:
        """Run every strategy (see `arlab.decoding.comparison.compare`) and show what they wrote.

        The page, and `arena.seed = ...`, can then run them again; each row appears when it is ready.
        prompt: a text, or token ids. settings: as for the class.

        Raises as `compare` and the class do.
        """
        ids = tokenizer.encode(prompt) if isinstance(prompt, str) else _plain_ids(prompt)

        def outcome(name: str, seed: int) -> Outcome:
            one = {name: strategies[name]}
            common = {"max_new_tokens": max_new_tokens, "eos_id": eos_id, "decode": tokenizer.decode}
            return comparison.compare(one, ids, seed=seed, **common)[0]

        if not isinstance(strategies, Mapping):
            raise TypeError(f"strategies is a {type(strategies).__name__}; give a dict, {{'name': strategy}}")
        seed = _seed(seed)
        outcomes = [outcome(name, seed) for name in strategies]
        text = prompt if isinstance(prompt, str) else tokenizer.decode(ids)
        arena = cls(outcomes, prompt_text=text, answer=answer, tokenizer=tokenizer, seed=seed, **settings)
        arena._again, arena._can_run = outcome, True
        return arena

    # -- what is shown, in Python ------------------------------------------------------------------------------

    def frontier(self, x: str | None = None, y: str | None = None) -> list[str]:
        """Names of the strategies that no other one beats: at least as good on both axes and better on one.

        x, y: two measures; None for those shown. By falling x, where more is better, else by rising x.
        """
        x, y = (_measure(name, axis) for name, axis in ((x or self.x, "x"), (y or self.y, "y")))
        points = [tuple(self._better(row[name], WAYS[name]) for name in (x, y)) for row in self.rows]
        return [self.rows[i]["name"] for i in comparison.frontier(points)]

    @staticmethod
    def _better(value: float | None, way: int) -> float:
        return math.nan if value is None else way * value

    @property
    def answered(self) -> dict[str, list[bool]]:
        """For each strategy, which of its texts contain the expected answer."""
        return {row["name"]: [bool(each["answer"]) for each in row["samples"]] for row in self.rows}

    def describe(self) -> str:
        names = "; ".join(row["name"] for row in self.rows)
        text = self.prompt_text if len(self.prompt_text) <= 40 else "..." + self.prompt_text[-37:]
        return f"DecoderArena after {text!r}, seed {self.seed}: {names}"

    # -- running again -----------------------------------------------------------------------------------------

    def _asked(self, seed: int) -> None:
        if self._again is None:
            raise BadValue("this arena was made from outcomes; there are no strategies to run")
        if seed == self.seed:
            self._run_all()  # the same seed again: nothing to observe, but the times are new
        else:
            self.seed = seed

    @traitlets.observe("seed")
    def _seed_changed(self, _change: Any) -> None:
        if self._again is not None:
            self._run_all()

    def _run_all(self) -> None:
        names = [outcome.name for outcome in self.outcomes]
        try:
            for i, name in enumerate(names):
                self.progress = {"running": name, "waiting": names[i + 1 :]}
                try:
                    outcome = self._again(name, self.seed)
                except Exception as error:
                    kind = BadValue if isinstance(error, (ValueError, TypeError)) else RuntimeError
                    raise kind(f"{name}: {error or type(error).__name__}") from error
                self.outcomes[i] = outcome
                self.rows = [*self.rows[:i], self._row(outcome, self.seed), *self.rows[i + 1 :]]
        finally:
            self.progress = {"running": "", "waiting": []}

    # -- settings ----------------------------------------------------------------------------------------------

    @traitlets.validate("seed")
    def _check_seed(self, proposal: Any) -> int:
        seed = _seed(proposal["value"])
        if self._again is None and self.rows and seed != self.seed:
            raise BadValue("this arena was made from outcomes; there are no strategies to run with another seed")
        return seed

    @traitlets.validate("x", "y")
    def _check_axis(self, proposal: Any) -> str:
        return _measure(proposal["value"], proposal["trait"].name)

    @traitlets.validate("sort")
    def _check_sort(self, proposal: Any) -> str:
        return proposal["value"] if proposal["value"] in ("", "name") else _measure(proposal["value"], "sort")

    @traitlets.validate("unfolded")
    def _check_unfolded(self, proposal: Any) -> list[str]:
        names = [outcome.name for outcome in self.outcomes]
        for name in proposal["value"]:
            if name not in names:
                raise BadValue(f"unfolded has {name!r}; there are {', '.join(map(repr, names))}")
        return proposal["value"]


def _checked(outcomes: Sequence[Outcome]) -> list[Outcome]:
    outcomes = list(outcomes)
    if not 1 <= len(outcomes) <= MAX_ROWS:
        raise BadValue(f"there are {len(outcomes)} outcomes; the arena shows 1 to {MAX_ROWS}")
    for outcome in outcomes:
        if not isinstance(outcome, Outcome):
            raise TypeError(f"an outcome is a {type(outcome).__name__}; give what arlab.decoding.comparison makes")
    names = [outcome.name for outcome in outcomes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadValue(f"two outcomes have the name {twice!r}; each row needs its own")
    return outcomes


def _measure(name: str, setting: str) -> str:
    if name not in WAYS:
        raise BadValue(f"{setting} is {name!r}; it must be one of {', '.join(WAYS)}")
    return name


def _seed(seed: int) -> int:
    if not 0 <= operator.index(seed) < 2**32:
        raise BadValue(f"seed is {seed}; it must be from 0 to 4294967295")
    return operator.index(seed)


def _plain_ids(prompt: Any) -> list[int]:
    ids = prompt.tolist() if hasattr(prompt, "tolist") else list(prompt)
    return [operator.index(i) for i in (ids[0] if len(ids) == 1 and isinstance(ids[0], list) else ids)]
