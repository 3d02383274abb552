"""Many strategies over one prompt: what each wrote, and the same measures for all."""

from __future__ import annotations

import copy
import inspect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from arlab.decoding import measures
from arlab.decoding.records import Generation

Strategy = Callable[..., Generation]


@dataclass(frozen=True)
class Outcome:
    """What one strategy wrote after one prompt, best first or in the order drawn, and its measures.

    The ids include the end symbol where it was generated, as the last one; so do the measures.
    """

    name: str
    sequences: list[list[int]]  # new tokens only
    texts: list[str]
    logprobs: list[float]  # of each sequence: mean log p of its tokens under the raw model; NaN of an empty one
    logprob: float  # the same over all tokens of all sequences; NaN if there are none
    repetition: float  # measures.repetition, n = 4: mean over the sequences
    distinct: float  # measures.distinct, n = 2: over all the sequences together
    diversity: float  # measures.diversity: mean over the sequences
    agreement: float | None  # measures.agreement, n = 2: between the sequences; None for a single one
    seconds: float  # wall time of the whole call
    tokens: int  # generated, over all sequences
    finished: list[bool]  # of each sequence: it ended with the end symbol


def compare(
    strategies: Mapping[str, Strategy],
    prompt: Tensor | Sequence[int],
    *,
    max_new_tokens: int,
    eos_id: int | Sequence[int] | None = None,
    seed: int = 0,
    decode: Callable[[list[int]], str] | None = None,
) -> list[Outcome]:
    """Run every strategy on the prompt; one Outcome each, in the order given.

    A strategy is a decoder with all filled in but the prompt: `partial(sample, model, filters=[TopP(0.9)], n=4)`. It
    is called as strategy(prompt, max_new_tokens=..., eos_id=... if it is given and the strategy takes one,
    generator=... if that is one of its named parameters); what a partial has filled in already stays as it is. Each
    gets a copy of the prompt, and each generator is a fresh one of the same seed, on the CPU: no strategy depends on
    which others ran before (unless it draws from torch's global generator).

    Args:
        prompt: one prompt, (time,) or (1, time), or a list of ids; [] for a model with a start symbol.
        decode: ids -> text, for example tokenizer.decode; None: the ids themselves, written out.

    Raises:
        ValueError: no strategy; a strategy that answers for more than one prompt, or with no sequence at all.
        TypeError: a strategy that cannot be called, or returns something else than a Generation.
        Whatever a strategy raises, with a note that names it.
    """
    if not isinstance(strategies, Mapping) or not strategies:
        raise ValueError(f"strategies is {strategies!r}; needed a mapping, name -> strategy, with at least one entry")
    return [
        outcome(name, *_timed(name, strategy, prompt, max_new_tokens, eos_id, seed), decode=decode)
        for name, strategy in strategies.items()
    ]


def outcome(
    name: str,
    generation: Generation,
    seconds: float = math.nan,
    *,
    decode: Callable[[list[int]], str] | None = None,
) -> Outcome:
    """The measures of a Generation (1, n, time): what `compare` makes of each strategy's.

    Sequences that a beam search did not find (score -inf, no token) are left out.

    Raises:
        ValueError: a generation for several prompts, or without a sequence.
    """
    if generation.ids.size(0) != 1:
        raise ValueError(f"{name!r} answered {generation.ids.size(0)} prompts; a comparison is over one")
    lengths, scores = generation.lengths[0].tolist(), generation.scores[0].tolist()
    found = [n for n, length in enumerate(lengths) if length > 0 or scores[n] > -math.inf]
    if not found:
        raise ValueError(f"{name!r} returned no sequence")
    sequences = [generation.tokens(0, n) for n in found]
    totals = [float(generation.logprobs[0, n, : lengths[n]].double().sum()) for n in found]
    tokens = sum(map(len, sequences))
    decode = decode or (lambda ids: " ".join(map(str, ids)))
    return Outcome(
        name=name,
        sequences=sequences,
        texts=[decode(ids) for ids in sequences],
        logprobs=[_per_token(total, len(ids)) for total, ids in zip(totals, sequences, strict=True)],
        logprob=_per_token(math.fsum(totals), tokens),
        repetition=measures.repetition(sequences),
        distinct=measures.distinct(sequences),
        diversity=measures.diversity(sequences),
        agreement=measures.agreement(sequences) if len(sequences) > 1 else None,
        seconds=seconds,
        tokens=tokens,
        finished=[bool(generation.finished[0, n]) for n in found],
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """The measures as lines of text, a strategy a line; times left out, for they differ from run to run."""
    heads = ["", "log p/token", "repetition", "distinct", "diversity", "agreement", "tokens"]
    rows = [
        [
            each.name,
            *(f"{value:.2f}" for value in (each.logprob, each.repetition, each.distinct, each.diversity)),
            "-" if each.agreement is None else f"{each.agreement:.2f}",
            str(each.tokens),
        ]
        for each in outcomes
    ]
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in [heads, *rows]]
    return "\n".join("  ".join(line) for line in lines)


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """The points that no other one beats: indices, by falling first coordinate; larger is better in both.

    A point is beaten by one that is at least as large in both coordinates and larger in one. Equal points stay
    together. One with a NaN is never on the frontier and beats nobody.
    """
    sound = [i for i, point in enumerate(points) if not any(map(math.isnan, point))]
    kept = [i for i in sound if not any(_beats(points[j], points[i]) for j in sound)]
    return sorted(kept, key=lambda i: (-points[i][0], -points[i][1], i))


def _beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] >= b[0] and a[1] >= b[1] and tuple(a) != tuple(b)


def _timed(
    name: str, strategy: Strategy, prompt: Tensor | Sequence[int], max_new_tokens: int, eos_id, seed: int
) -> tuple[Generation, float]:
    if not callable(strategy):
        raise TypeError(f"the strategy {name!r} is a {type(strategy).__name__}; needed a function")
    settings = {"max_new_tokens": max_new_tokens}
    parameters = _parameters(strategy)
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if eos_id is not None and (takes_any or "eos_id" in parameters):  # every decoder has one
        settings["eos_id"] = eos_id
    if "generator" in parameters:  # greedy has none, so it must be there by name
        settings["generator"] = torch.Generator().manual_seed(seed)
    filled = _filled(strategy)
    settings = {key: value for key, value in settings.items() if key not in filled}
    mine = copy.deepcopy(prompt)  # a strategy of one's own may append to it, and the next one would go on from there
    try:
        start = time.perf_counter()
        generation = strategy(mine, **settings)
        if isinstance(generation, Generation):
            generation = generation.to("cpu")  # waits for a GPU to be done
        seconds = time.perf_counter() - start
    except Exception as error:
        error.add_note(f"raised by the strategy {name!r}")
        raise
    if not isinstance(generation, Generation):
        raise TypeError(f"the strategy {name!r} returned a {type(generation).__name__}; needed a Generation")
    return generation, seconds


def _parameters(strategy: Strategy) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(strategy).parameters
    except (TypeError, ValueError):  # some callables have no signature to read
        return {}


def _filled(strategy: Strategy) -> frozenset[str]:
    """What a partial has been given by name (partials of partials are one partial)."""
    return frozenset(strategy.keywords) if isinstance(strategy, partial) else frozenset()


def _per_token(total: float, tokens: int) -> float:
    return total / tokens if tokens else math.nan
