"""Beam tree: what beam search looked at, what it kept and what it cut, for every beam size side by side."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import traitlets
from torch import Tensor

from arlab.decoding.beam import beam_steps
from arlab.decoding.filters import Filter
from arlab.decoding.prompts import read_prompts
from arlab.decoding.records import BeamStep
from arlab.decoding.sampling import end_ids
from arlab.decoding.scorers import LogProb, Scorer
from arlab.nn.language_model import LanguageModel
from arlab.views.base import BadValue, View, script, style
from arlab.worlds import TreeLM

MAX_BEAMS, MAX_STEPS = 12, 40
PENALTY = (-2.0, 5.0)
TREE_UP_TO = 16  # ends of branches; a larger tree opens with its candidates in columns instead, ranked
LIVE, CUT, ENDED, LIMIT = range(4)  # what became of a candidate; LIMIT: still live when the last step was over


@dataclass(frozen=True)
class Hypothesis:
    """A sequence that the search finished."""

    ids: tuple[int, ...]  # generated tokens, the end symbol included
    total: float  # the sum of its tokens' scores: log p, where no filter and no other scorer is at work
    score: float  # total / length**length_penalty
    finished: bool  # False: it was cut off at the last step


class BeamTree(View):
    """Beam search as a tree that grows a step at a time, for each beam size from 1 (greedy) to `max_beams`.

        view = BeamTree(beam_trap(), max_beams=3)
        view = BeamTree(model, tokenizer, "The cat sat on the", beams=5, steps=8, eos_id=tokenizer.eos_id)
        view.beams = 3              # moves the slider; step, length_penalty and path too
        view.hypotheses             # what beam_search(..., beams=3, n=3) finds, best first

    The kernel runs `beam_steps` once for each beam size; the page then moves without it. The length penalty needs no
    new search: it decides which finished hypothesis is best, and when the search may stop, never which branch lives on.
    A new prompt runs the model again.

    Args:
        model: a language model, or a scorer (`ContrastiveScorer`, ...). A `TreeLM` brings its names and its end symbol,
            and is never asked beyond its max_length.
        tokenizer: for a text as prompt and for the tokens' strings; without it the tokens show as their ids.
        prompt: a text, or token ids.
        beams, step, length_penalty: where the sliders start (step None: at the end). The penalty is at most 5.
        max_beams, steps: up to 12 beams and 40 new tokens.
        eos_id, filters: as in `beam_search`; with filters a token's score is the log of its filtered probability.
        arrangement: "tree", or "ranking": the candidates of a step in one column, best first; None: as there is room.

    Raises ValueError for a setting out of range, a prompt that the model cannot take, a text without a tokenizer.
    """

    title = "Beam tree"
    _esm = script(
        "heat.js", "tree_layout.js", "filter_controls.js", "beam_hypotheses.js", "beam_panels.js", "beam_tree.js"
    )
    _css = style("distribution.css", "beam_tree.css")

    beams = traitlets.Int(2).tag(sync=True)
    step = traitlets.Int(0, help="how many steps are drawn; 0 is before the first").tag(sync=True)
    length_penalty = traitlets.Float(1.0).tag(sync=True)
    path = traitlets.List(traitlets.Int(), allow_none=True, default_value=None).tag(sync=True)  # None: the best so far
    arrangement = traitlets.Enum(["tree", "ranking"], "tree").tag(sync=True)
    show_cut = traitlets.Bool(True, help="draw the candidates that were cut at once").tag(sync=True)
    numbers = traitlets.Enum(["log", "p"], "log").tag(sync=True)
    prompt = traitlets.Unicode("").tag(sync=True)
    max_beams = traitlets.Int(5).tag(sync=True)
    steps = traitlets.Int(6).tag(sync=True)
    facts = traitlets.Dict().tag(sync=True)  # of the model: what never changes
    search = traitlets.Dict().tag(sync=True)  # trees (see _grown) and strings, which change together with the prompt

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        prompt: str | Sequence[int] = "",
        *,
        beams: int = 2,
        max_beams: int = 5,
        steps: int = 6,
        length_penalty: float = 1.0,
        eos_id: int | Sequence[int] | None = None,
        filters: Sequence[Filter] = (),
        step: int | None = None,
        arrangement: str | None = None,
    ) -> None:
        scorer = model if isinstance(model, Scorer) else LogProb(model, tuple(filters))
        if scorer is model and filters:
            raise BadValue(
                f"filters go with a language model; {type(model).__name__} is a scorer and scores as it does"
            )
        first = scorer.models[0]
        world = first if isinstance(first, TreeLM) else None
        self._scorer, self._tokenizer = _ToTheEnd(scorer), tokenizer
        self._known: dict[str, list[int]] = {}  # prompts given as ids, by their text
        text = self._as_text(prompt)
        if world is not None:
            room = world.max_length - sum(i != world.bos_id for i in self._encode(text))
            if room < 1:
                raise BadValue(f"the prompt fills this world's max_length of {world.max_length}; nothing can follow it")
            steps, eos_id = min(steps, room), world.eos_id if eos_id is None else eos_id
        _checked("max_beams", max_beams, 1, MAX_BEAMS)
        _checked("steps", steps, 1, MAX_STEPS)
        self._ends = end_ids(first, eos_id, None)[0]
        self._exact = isinstance(scorer, LogProb) and not scorer.filters  # it adds up the model's own log p
        self._names = world.names if world is not None else None
        self._strings: Callable[[], list[str]] = cache(tokenizer.token_strings) if tokenizer is not None else list
        self._ids: list[int] = []
        facts = {
            "vocab_size": first.vocab_size,
            "ends": list(self._ends),
            "has_tokenizer": tokenizer is not None,
            "joiner": "" if tokenizer is not None else " ",
            "exact": self._exact,
            "highest": scorer.highest if scorer.highest < math.inf else None,
        }
        super().__init__(max_beams=max_beams, steps=steps, facts=facts)
        self.beams, self.length_penalty = beams, length_penalty
        self.step = steps if step is None else step
        self._run(text)
        largest = self.search["trees"][-1]["parents"]
        leaves = len(largest) - len(set(largest)) + 1
        self.arrangement = arrangement or ("tree" if leaves <= TREE_UP_TO else "ranking")
        self.answers["prompt"] = self._run

    # -- what the search found -------------------------------------------------------------------------------------

    @property
    def hypotheses(self) -> list[Hypothesis]:
        """What the search has when it is over, best first: at most `beams`, for the beam size and penalty shown."""
        tree, penalty = self.search["trees"][self.beams - 1], self.length_penalty
        return [
            Hypothesis(tuple(_spelt(tree, i)), tree["totals"][i], _score(tree, i, penalty), tree["fates"][i] == ENDED)
            for i in _kept(tree, self.last_step, self.beams, penalty)
        ]

    @property
    def last_step(self) -> int:
        """After how many steps the search is over, for the beam size and penalty shown."""
        tree, drawn = self.search["trees"][self.beams - 1], range(1, self.steps)
        limits = self.beams, self.length_penalty, self.steps, self._scorer.scorer.highest
        return next((step for step in drawn if _is_over(tree, step, *limits)), self.steps)

    def describe(self) -> str:
        penalty = f"length penalty {self.length_penalty:g}"
        return f"BeamTree: beam sizes 1 to {self.max_beams}, {self.steps} steps, {self.beams} beams shown, {penalty}"

    # -- the prompt ------------------------------------------------------------------------------------------------

    @property
    def ids(self) -> list[int]:
        """The prompt's tokens."""
        return list(self._ids)

    def _as_text(self, prompt: str | Sequence[int]) -> str:
        if isinstance(prompt, str):
            return prompt
        ids = [operator.index(i) for i in prompt]  # refuses 1.5, which int() would cut to 1
        text = " ".join(map(str, ids)) if self._tokenizer is None else self._tokenizer.decode(ids)
        self._known[text] = ids
        return text

    def _encode(self, text: str) -> list[int]:
        if text in self._known:
            return self._known[text]
        if self._tokenizer is not None:
            return list(self._tokenizer.encode(text))
        if text:
            raise BadValue(f"the prompt is {text!r}, but there is no tokenizer; give BeamTree one, or token ids")
        return []

    def _run(self, text: str) -> None:
        """Search from this prompt with every beam size, then show it: all or nothing."""
        ids = self._encode(text)
        trees = []
        for beams in range(1, self.max_beams + 1):
            steps = beam_steps(self._scorer, ids, max_new_tokens=self.steps, beams=beams, n=beams, eos_id=self._ends)
            trees.append(_grown(steps, self._ends, self._exact))
        tokens = sorted({token for tree in trees for token in tree["tokens"][1:]})
        with self.hold_sync():
            self._ids, self.path = ids, None
            self.search = {"trees": trees, "strings": {str(token): self._string(token) for token in tokens}}
            self.set_trait("prompt", text)

    def _string(self, token: int) -> str:
        strings = self._names or self._strings()
        return strings[token] if token < len(strings) else str(token)

    @traitlets.validate("prompt")
    def _check_prompt(self, proposal: Any) -> str:
        for model in self._scorer.models:
            read_prompts(model, self._encode(proposal["value"]), None, self.steps)
        return proposal["value"]

    @traitlets.observe("prompt")
    def _prompt_changed(self, change: Any) -> None:
        if "prompt" in self.answers and self._encode(change["new"]) != self._ids:
            self._run(change["new"])

    # -- sliders -----------------------------------------------------------------------------------------------------

    @traitlets.validate("beams")
    def _check_beams(self, proposal: Any) -> int:
        return _checked("beams", proposal["value"], 1, self.max_beams)

    @traitlets.validate("step")
    def _check_step(self, proposal: Any) -> int:
        return _checked("step", proposal["value"], 0, self.steps)

    @traitlets.validate("length_penalty")
    def _check_length_penalty(self, proposal: Any) -> float:
        return _checked("length_penalty", proposal["value"], *PENALTY)


@dataclass(frozen=True)
class _ToTheEnd:
    """A scorer that claims no highest score, so that the search never stops early: every length penalty then finds
    its whole search in the same steps."""

    scorer: Scorer
    highest: float = math.inf

    @property
    def models(self) -> tuple[LanguageModel, ...]:
        return self.scorer.models

    def __call__(self, *logits: Tensor) -> Tensor:
        return self.scorer(*logits)


def _checked(name: str, value: float, low: float, high: float) -> Any:
    if not low <= value <= high:  # NaN fails too
        raise BadValue(f"{name} is {value}; it must be from {low:g} to {high:g}")
    return value


def _grown(steps: Iterator[BeamStep], ends: Sequence[int], exact: bool) -> dict[str, list]:
    """A search as a tree: node 0 is the prompt, then every candidate, step by step and best first.

    parents, tokens; scores: of the token alone, what the search added; logprobs: its raw log p, None for -inf;
    totals: the sum of scores; steps: from 1; ranks: place among the step's candidates, from 1; fates.
    """
    columns = ("parents", "tokens", "scores", "logprobs", "totals", "steps", "ranks", "fates")
    rows: list[tuple] = [(-1, -1, 0.0, 0.0, 0.0, 0, 0, LIVE)]
    live: list[int | None] = [0]
    for step in steps:
        alive = set(step.live[0].tolist())
        found: list[int | None] = []
        parts = (part[0].tolist() for part in (step.parents, step.tokens, step.logprobs, step.totals, step.ended))
        for place, (beam, token, logprob, total, ended) in enumerate(zip(*parts, strict=True)):
            if total == -math.inf:
                found.append(None)
                continue
            parent = live[beam]
            score = logprob if exact else total - rows[parent][4]
            fate = (ENDED if token in ends else LIMIT) if ended else LIVE if place in alive else CUT
            raw = logprob if logprob > -math.inf else None
            found.append(len(rows))
            rows.append((parent, token, score, raw, total, step.index + 1, place + 1, fate))
        live = [found[place] if place >= 0 else None for place in step.live[0].tolist()]
    return {name: list(column) for name, column in zip(columns, zip(*rows, strict=True), strict=True)}


def _spelt(tree: dict[str, list], i: int) -> list[int]:
    return [] if i == 0 else [*_spelt(tree, tree["parents"][i]), tree["tokens"][i]]


def _score(tree: dict[str, list], i: int, length_penalty: float) -> float:
    return tree["totals"][i] / tree["steps"][i] ** length_penalty


def _kept(tree: dict[str, list], step: int, beams: int, length_penalty: float) -> list[int]:
    """The nodes of the best hypotheses after so many steps, at most `beams`; of equals, the one found first."""
    ended = [i for i, fate in enumerate(tree["fates"]) if fate in (ENDED, LIMIT) and tree["steps"][i] <= step]
    return sorted(ended, key=lambda i: -_score(tree, i, length_penalty))[:beams]


def _is_over(tree: dict[str, list], step: int, beams: int, length_penalty: float, steps: int, highest: float) -> bool:
    """`beam_steps`'s rule for stopping, with n = beams: no live branch can come among the best hypotheses any more."""
    live = [tree["totals"][i] for i, fate in enumerate(tree["fates"]) if fate == LIVE and tree["steps"][i] == step]
    if not live:
        return True
    kept = _kept(tree, step, beams, length_penalty)
    if len(kept) < beams:
        return False
    reached = max(live) + max(highest, 0.0) * (steps - step)
    bound = max(reached / length**length_penalty for length in (step + 1, steps))
    return _score(tree, kept[-1], length_penalty) >= bound
