"""Speculation timeline: one prompt decoded without and with speculation, side by side, as fast as it really went."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from statistics import fmean
from time import perf_counter
from typing import Any

import torch
import traitlets
from torch import Tensor, nn

from arlab.decoding.drafts import Draft, is_greedy
from arlab.decoding.filters import Filter, Temperature, TopK
from arlab.decoding.sampling import greedy_steps, sample_steps
from arlab.decoding.speculative import SpeculationStep, expected_tokens, speculative_steps
from arlab.nn.language_model import LanguageModel, eval_mode
from arlab.views.base import BadValue, View, script, style

SLOWEST, FASTEST = 1 / 1024, 64
WATCHABLE = 4.0  # seconds that a replay lasts at least: shorter runs open in slow motion


@dataclass(frozen=True)
class PlainRun:
    """A text decoded one token for each call of the target, and the seconds that each token took.

    The first token's time holds the pass over the prompt, as in speculative decoding.
    """

    tokens: tuple[int, ...]
    seconds: tuple[float, ...]


class SpeculationTimeline(View):
    """Decoding without and with speculation on one clock: play, scrub, and slide gamma over the recorded runs.

        view = SpeculationTimeline.run(target, draft, tokenizer, "The cat sat", max_new_tokens=60,
                                       filters=[Temperature(0)], name="early layers")
        view.gamma = 8              # another of the recorded runs
        view.position = 0.5         # seconds into both; None: the end, where everything can be seen. (While the page
                                    # plays it rests where that began; it moves when the play is paused or over.)
        view.speed = 1 / 4          # a quarter of real time
        view.summary                # calls, tokens per call, acceptance, seconds, speed-up; summaries: for every gamma
        view.identical              # whether both texts are the same: measured, never assumed

    The constructor takes runs that were recorded before: a `PlainRun`, and the `SpeculationStep`s of each gamma.
    """

    title = "Speculation timeline"
    _esm = script("speculation_clock.js", "speculation_bars.js", "speculation_text.js", "speculation_timeline.js")
    _css = style("speculation_timeline.css")

    gamma = traitlets.Int(help="which of the recorded runs is shown").tag(sync=True)
    position = traitlets.Float(None, allow_none=True, help="seconds into both runs; None: the end").tag(sync=True)
    speed = traitlets.Float(1.0, help="1 is real time, 0.25 four times slower").tag(sync=True)
    show_rejected = traitlets.Bool(True, help="show drafted tokens that were thrown away").tag(sync=True)
    _name = traitlets.Unicode("").tag(sync=True)
    _prompt = traitlets.Unicode("").tag(sync=True)
    _greedy = traitlets.Bool(False).tag(sync=True)
    _plain = traitlets.Dict().tag(sync=True)  # tokens, seconds
    _runs = traitlets.List(traitlets.Dict()).tag(sync=True)  # for each gamma: gamma, steps, summary
    _words = traitlets.Dict().tag(sync=True)  # the strings of the tokens that occur, by id

    def __init__(
        self,
        plain: PlainRun,
        runs: Mapping[int, Sequence[SpeculationStep]],
        tokenizer: Any = None,
        prompt: str | Sequence[int] = "",
        *,
        gamma: int | None = None,
        greedy: bool = False,
        name: str = "",
        speed: float | None = None,
        show_rejected: bool = True,
    ):
        """
        Args:
            plain: the run without speculation.
            runs: gamma -> the steps of the run that drafted up to so many tokens at a time.
            tokenizer: for the strings of the tokens (token_strings or decode); None shows their ids.
            prompt: what both runs went on from, as a text or as ids.
            gamma: the run shown first; None: 4 where there is one, else the largest.
            greedy: both runs took the argmax, so that their texts must be the same; the view says if they are not.
            name: what was compared, for the title.
            speed: of the replay; None: real time, or slow motion for runs of under two seconds.

        Raises:
            ValueError: no runs, a run without tokens, a gamma that was not recorded, times that are no times.
        """
        # lists from a recording's file serve as well
        self.plain = PlainRun(tuple(map(int, plain.tokens)), tuple(map(float, plain.seconds)))
        self.runs = {operator.index(size): tuple(runs[size]) for size in sorted(runs)}
        _check(self.plain, self.runs)
        prompt_ids = [] if isinstance(prompt, str) else [operator.index(i) for i in prompt]
        word = _strings(tokenizer)
        drafted = (i for steps in self.runs.values() for step in steps for i in (*step.drafted, *step.tokens))
        self.summaries = {size: _summary(self.plain, steps) for size, steps in self.runs.items()}
        longest = max(math.fsum(self.plain.seconds), *(one["seconds"] for one in self.summaries.values()))
        super().__init__(
            gamma=(4 if 4 in self.runs else max(self.runs)) if gamma is None else gamma,
            speed=_watchable(longest) if speed is None else speed,
            show_rejected=show_rejected,
            _name=str(name),
            _prompt=prompt if isinstance(prompt, str) else "".join(map(word, prompt_ids)),
            _greedy=bool(greedy),
            _plain={"tokens": list(self.plain.tokens), "seconds": list(self.plain.seconds)},
            _runs=[_run(size, steps, self.summaries[size]) for size, steps in self.runs.items()],
            _words={str(i): word(i) for i in sorted({*self.plain.tokens, *drafted})},
        )

    @classmethod
    def run(
        cls,
        target: LanguageModel,
        draft: LanguageModel | Draft,
        tokenizer: Any,
        prompt: str | Sequence,
        *,
        max_new_tokens: int,
        gammas: Sequence[int] = (1, 2, 4, 8),
        filters: Sequence[Filter] = (),
        seed: int = 0,
        eos_id: int | Sequence[int] | None = None,
        repeats: int = 1,
        **settings: Any,
    ) -> SpeculationTimeline:
        """Decode the prompt without speculation and with every gamma, now and on this machine, and show it.

        Args:
            target, draft, max_new_tokens, filters, eos_id: as in `speculative_decoding`.
            gammas: how many tokens to draft at a time, a run for each.
            seed: of a fresh generator for each run.
            repeats: decode so many times, in turn, and keep the fastest of each: for a busy machine. (The tokens are
                the same each time.)
            settings: gamma, name, speed, show_rejected, as in the constructor.

        Raises:
            ValueError, TypeError: as in `speculative_decoding`; max_new_tokens or repeats below 1, a gamma twice.
        """
        gammas = list(gammas)
        for count, what in ((max_new_tokens, "max_new_tokens"), (repeats, "repeats")):
            if count < 1:
                raise BadValue(f"{what} is {count!r}; it must be 1 or more, or there is nothing to show")
        if not gammas or len(set(gammas)) < len(gammas):
            raise BadValue(f"gammas is {gammas}; it must name at least one, each once")
        ids = list(tokenizer.encode(prompt)) if isinstance(prompt, str) else list(prompt)
        filters, rest = tuple(filters), {"max_new_tokens": max_new_tokens, "eos_id": eos_id}

        def without() -> PlainRun:
            return _timed(target, ids, filters, seed, **rest)

        def with_draft(gamma: int) -> tuple[SpeculationStep, ...]:
            chance = torch.Generator().manual_seed(seed)
            more = {"gamma": gamma, "filters": filters, "generator": chance}
            return tuple(speculative_steps(target, draft, ids, **more, **rest))

        with eval_mode(target), eval_mode(draft) if isinstance(draft, nn.Module) else nullcontext():
            _warm_up(target, draft, ids, filters, max(gammas), **rest)
            plains, drafted = [], {gamma: [] for gamma in gammas}
            for _ in range(repeats):
                plains.append(without())
                for gamma, found in drafted.items():
                    found.append(with_draft(gamma))
        greedy = any(one in (Temperature(0), TopK(1)) for one in filters)
        best = {gamma: min(found, key=_seconds) for gamma, found in drafted.items()}
        fastest = min(plains, key=lambda run: sum(run.seconds))
        return cls(fastest, best, tokenizer, prompt, greedy=greedy, **settings)

    # -- what is shown --------------------------------------------------------------------------------------------

    @property
    def steps(self) -> tuple[SpeculationStep, ...]:
        """The rounds of the run shown."""
        return self.runs[self.gamma]

    @property
    def summary(self) -> dict[str, Any]:
        """The figures of the run shown.

        calls (of the target), tokens, tokens_per_call and predicted_tokens_per_call (`expected_tokens` at the predicted
        acceptance, averaged over the drafts as long as they were), tested, accepted, acceptance and
        predicted_acceptance (the mean over tested places of sum min(p, q)), seconds, draft_seconds, verify_seconds,
        plain_seconds, speedup (in time for each token), parts_at (the first token in which the texts differ, or None).
        Acceptance is None where nothing was drafted.
        """
        return self.summaries[self.gamma]

    @property
    def identical(self) -> bool:
        """Whether the run shown wrote the very tokens that the target wrote alone."""
        return self.summary["parts_at"] is None

    @property
    def duration(self) -> float:
        """Seconds until the slower of the two runs shown has ended."""
        return max(self.summary["plain_seconds"], self.summary["seconds"])

    def describe(self) -> str:
        gammas = ", ".join(map(str, self.runs))
        return f"SpeculationTimeline{self._name and ' '}{self._name}: without, and with gamma {gammas}"

    @traitlets.validate("gamma")
    def _check_gamma(self, proposal) -> int:
        if proposal["value"] not in self.runs:
            recorded = ", ".join(map(str, self.runs))
            raise BadValue(f"gamma is {proposal['value']}; the recorded runs have {recorded}")
        return proposal["value"]

    @traitlets.validate("position")
    def _check_position(self, proposal) -> float | None:
        value = proposal["value"]
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise BadValue(f"position is {value}; it must be 0 or more seconds, or None for the end")
        return value

    @traitlets.validate("speed")
    def _check_speed(self, proposal) -> float:
        if not SLOWEST <= proposal["value"] <= FASTEST:
            raise BadValue(f"speed is {proposal['value']}; it must be from 1/1024 to {FASTEST} (1 is real time)")
        return proposal["value"]


# ---------------------------------------------------------------------------------------------------- running


def _timed(target, ids, filters, seed: int, **rest: Any) -> PlainRun:
    """Decode without speculation, the clock read as each token arrives."""
    if is_greedy(filters):
        steps = greedy_steps(target, ids, **rest)  # takes no draw, the fastest way there is
    else:
        steps = sample_steps(target, ids, filters=filters, generator=torch.Generator().manual_seed(seed), **rest)
    tokens, moments = [], [perf_counter()]
    for step in steps:
        tokens.append(_token(step.chosen))  # a GPU has to finish before it can tell
        moments.append(perf_counter())
        if bool(step.finished[0]):
            break
    seconds = (after - before for before, after in zip(moments, moments[1:], strict=False))
    return PlainRun(tuple(tokens), tuple(seconds))


def _token(chosen: Tensor) -> int:
    if chosen.numel() != 1:
        raise BadValue(f"got {chosen.numel()} prompts; the timeline shows one")
    return int(chosen)


def _warm_up(target, draft, ids, filters, gamma: int, **rest: Any) -> None:
    """A first pass prepares weights and memory; none of the runs shown should pay for it."""
    _timed(target, ids, filters, 0, **rest | {"max_new_tokens": min(2, rest["max_new_tokens"])})
    more = {"gamma": gamma, "filters": filters, "generator": torch.Generator().manual_seed(0)}
    with closing(speculative_steps(target, draft, ids, **more, **rest)) as steps:
        for _ in zip(range(2), steps, strict=False):
            pass


def _watchable(seconds: float) -> float:
    """Real time, or the power of 1/2 that stretches a short run to at least WATCHABLE seconds."""
    if seconds >= WATCHABLE / 2:
        return 1.0
    return max(SLOWEST, 2.0 ** math.floor(math.log2(max(seconds, 1e-9) / WATCHABLE)))


# ---------------------------------------------------------------------------------------------------- figures


def _seconds(steps: Sequence[SpeculationStep]) -> float:
    return math.fsum(step.draft_seconds + step.verify_seconds for step in steps)


def _run(gamma: int, steps: Sequence[SpeculationStep], summary: dict[str, Any]) -> dict[str, Any]:
    """What the page needs of a run."""
    fields = ("drafted", "accepted", "tokens", "kind", "ratios", "overlaps", "draft_seconds", "verify_seconds")
    rows = [{name: getattr(step, name) for name in fields} for step in steps]
    plain = [{name: list(v) if isinstance(v, tuple) else v for name, v in row.items()} for row in rows]
    return {"gamma": gamma, "steps": plain, "summary": summary}


def _summary(plain: PlainRun, steps: Sequence[SpeculationStep]) -> dict[str, Any]:
    tokens = [token for step in steps for token in step.tokens]
    tested, accepted = sum(len(step.ratios) for step in steps), sum(step.accepted for step in steps)
    overlaps = [overlap for step in steps for overlap in step.overlaps]
    law = min(1.0, fmean(overlaps)) if overlaps else None  # a sum of rounded probabilities may exceed 1
    expected = fmean(expected_tokens(law or 0.0, len(step.drafted)) if step.drafted else 1.0 for step in steps)
    seconds, alone = _seconds(steps), math.fsum(plain.seconds)
    pairs = zip(plain.tokens, tokens, strict=False)
    parts = next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(plain.tokens), len(tokens)))
    return {
        "calls": len(steps),
        "tokens": len(tokens),
        "tokens_per_call": len(tokens) / len(steps),
        "predicted_tokens_per_call": expected,
        "tested": tested,
        "accepted": accepted,
        "acceptance": accepted / tested if tested else None,
        "predicted_acceptance": law,
        "seconds": seconds,
        "draft_seconds": math.fsum(step.draft_seconds for step in steps),
        "verify_seconds": math.fsum(step.verify_seconds for step in steps),
        "plain_seconds": alone,
        "speedup": (alone / len(plain.tokens)) / (seconds / len(tokens)),
        "parts_at": None if tuple(tokens) == plain.tokens else parts,
    }


def _strings(tokenizer: Any):
    """id -> the token as text."""
    if tokenizer is None:
        return lambda i: f"#{i} "
    if hasattr(tokenizer, "token_strings"):
        table = list(tokenizer.token_strings())
        return lambda i: table[i] if i < len(table) else f"#{i}"
    return lambda i: tokenizer.decode([i])


def _check(plain: PlainRun, runs: Mapping[int, Sequence[SpeculationStep]]) -> None:
    if not runs or min(runs) < 1:
        raise BadValue(f"runs has the gammas {list(runs)}; it must hold the steps of at least one, each 1 or more")
    if not plain.tokens or len(plain.tokens) != len(plain.seconds):
        raise BadValue(f"the plain run has {len(plain.tokens)} tokens and {len(plain.seconds)} times; needed one each")
    for gamma, steps in runs.items():
        if not steps or not all(step.tokens for step in steps):
            raise BadValue(f"the run with gamma {gamma} has a round without tokens, or no rounds")
    times = {"the plain run": plain.seconds} | {
        f"the run with gamma {gamma}": [t for step in steps for t in (step.draft_seconds, step.verify_seconds)]
        for gamma, steps in runs.items()
    }
    for name, seconds in times.items():
        if not all(math.isfinite(t) and t >= 0 for t in seconds) or not sum(seconds) > 0:
            raise BadValue(f"{name} has a time below 0, one that is not finite, or takes no time at all")
