"""How a sum was written: which digit at which step, and how sure the model was of it. What the order view draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from arlab.decoding.parallel import ParallelStep, parallel_steps
from arlab.decoding.sampling import greedy_steps
from arlab.nn.language_model import LanguageModel
from arlab.text.addition import Addition

DIGITS = "0123456789"


@dataclass(frozen=True)
class Write:
    """One symbol put down."""

    place: int  # the power of ten: 0 for the units
    symbol: str  # a digit, unless the model wrote something else
    probability: float  # of that symbol, when it was chosen
    digits: tuple[float, ...]  # the probability of each digit from 0 to 9; what is missing to 1 is on other symbols


@dataclass(frozen=True)
class LaneTrace:
    """One model's answer to one sum, a step for each pass of the model."""

    prompt: str
    steps: tuple[tuple[Write, ...], ...]
    erased: tuple[tuple[int, ...], ...]  # the places taken back at each step (mask-predict alone does that)
    said: int | None  # None where what was written is no number
    right: int  # a + b

    @property
    def correct(self) -> bool:
        return self.said == self.right

    @property
    def written(self) -> dict[int, Write]:
        """What stands at the end, by place."""
        found: dict[int, Write] = {}
        for writes, erased in zip(self.steps, self.erased, strict=True):
            found = {place: write for place, write in found.items() if place not in erased}
            found |= {write.place: write for write in writes}
        return found


@dataclass(frozen=True)
class Parallel:
    """A lane that fills the answer's gaps in `steps` passes: a masked model, `DecoderConfig(causal=False)`.

    The model's ids are those of the task, and `task.mask_id` in the gaps; see `arlab.decoding.parallel`.
    """

    model: Callable
    task: Addition
    steps: int = 1
    revise: bool = False


@dataclass(frozen=True, eq=False)
class Recorded:
    """A lane that shows a parallel decoding made before: the first row of each step. For this sum and no other."""

    task: Addition
    a: int
    b: int
    steps: Sequence[ParallelStep]


Lane = tuple[LanguageModel, Addition] | Parallel | Recorded


def task_of(lane: Any) -> Addition:
    """The lane's task.

    Raises:
        TypeError: what is no lane.
    """
    task = getattr(lane, "task", None)
    if task is None and isinstance(lane, Sequence) and len(lane) == 2:
        task = lane[1]
    if not isinstance(task, Addition):
        raise TypeError(f"a lane is {lane!r:.80}; it must be (model, Addition task), Parallel or Recorded")
    return task


def way_of(lane: Lane) -> str:
    """The order in which a lane writes, in words."""
    if isinstance(lane, Parallel | Recorded):
        return "in parallel"
    return "right to left" if task_of(lane).reversed else "left to right"


def trace(lane: Lane, a: int, b: int) -> LaneTrace | None:
    """The lane's answer to a + b; None where a recorded one is of another sum.

    Raises:
        ValueError: operands that the task does not have, a recording that does not fit its task.
    """
    if isinstance(lane, Recorded):
        return _filled(lane.task, a, b, lane.steps) if (lane.a, lane.b) == (a, b) else None
    if isinstance(lane, Parallel):
        task = lane.task
        ids = [[*task.encode(a, b), *[task.mask_id] * task.answer_length]]
        passes = parallel_steps(lane.model, ids, mask_id=task.mask_id, steps=lane.steps, revise=lane.revise)
        return _filled(task, a, b, list(passes))
    model, task = lane
    steps = []
    for step in greedy_steps(model, task.encode(a, b), max_new_tokens=task.answer_length):
        steps.append((_write(task, task.places[step.index], int(step.chosen[0]), step.logits[0]),))
    return _made(task, a, b, steps, [()] * len(steps))


def _filled(task: Addition, a: int, b: int, passes: Sequence[ParallelStep]) -> LaneTrace:
    prompt = task.encode(a, b)
    if not passes or any(step.ids.size(1) != task.length for step in passes):
        raise ValueError(f"a recording of {a} + {b} has no step of {task.length} positions; one sum has so many")
    if passes[0].ids[0, : task.prompt_length].tolist() != prompt:
        raise ValueError(
            f"the recording does not begin with {task.tokenizer.decode(prompt)!r}, the sum it is said to be"
        )
    steps, erased, before = [], [], torch.zeros(task.length, dtype=torch.bool)
    for step in passes:
        ids, filled, logits = step.ids[0].cpu(), step.filled[0].cpu(), step.logits[0].cpu()
        positions = filled.nonzero()[:, 0].tolist()
        place = [0] * task.prompt_length + list(task.places)
        steps.append(tuple(_write(task, place[at], int(ids[at]), logits[at]) for at in positions))
        back = before & (ids == task.mask_id)
        erased.append(tuple(place[at] for at in back.nonzero()[:, 0].tolist()))
        before = (before | filled) & (ids != task.mask_id)
    return _made(task, a, b, steps, erased)


def _write(task: Addition, place: int, chosen: int, logits: Float[Tensor, " vocab"]) -> Write:
    p = logits.cpu().double().softmax(-1)
    symbol = task.symbols[chosen] if chosen < task.vocab_size else f"#{chosen}"
    digits = tuple(float(p[i]) for i in task.tokenizer.encode(DIGITS))
    return Write(place, symbol, float(p[chosen]), digits)


def _made(
    task: Addition, a: int, b: int, steps: Sequence[Sequence[Write]], erased: Sequence[Sequence[int]]
) -> LaneTrace:
    prompt = task.tokenizer.decode(task.encode(a, b))
    made = LaneTrace(prompt, tuple(map(tuple, steps)), tuple(map(tuple, erased)), None, a + b)
    symbols = [made.written[place].symbol if place in made.written else "" for place in range(task.answer_length)]
    if not all(symbol and symbol in DIGITS for symbol in symbols):
        return made
    return LaneTrace(made.prompt, made.steps, made.erased, int("".join(reversed(symbols))), a + b)


def told(one: LaneTrace | None) -> dict[str, Any]:
    """What the page needs of an answer."""
    if one is None:
        return {}
    steps = [
        [{"place": w.place, "symbol": w.symbol, "p": w.probability, "digits": list(w.digits)} for w in writes]
        for writes in one.steps
    ]
    return {
        "prompt": one.prompt,
        "steps": steps,
        "erased": [list(places) for places in one.erased],
        "said": one.said,
        "correct": one.correct,
    }
