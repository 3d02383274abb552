"""Beam search: keep the k best unfinished sequences, extend each by every token, keep the k best again.

`beam_steps` yields what each step looked at; `beam_search` runs it to the end and traces the best hypotheses back.
Sutskever, Vinyals and Le (2014); lectures 001 and 004.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from numbers import Integral, Real

import torch
from jaxtyping import Float, Int
from torch import Tensor

from arlab.decoding.filters import Filter, peak_of
from arlab.decoding.prompts import Prompts, check_new_tokens, read_prompts
from arlab.decoding.records import BeamStep, Generation
from arlab.decoding.sampling import end_ids
from arlab.decoding.scorers import LogProb, Scorer, check_same_vocabulary, log_softmax
from arlab.nn.language_model import LanguageModel, last_logits, model_device


def beam_search(
    model: LanguageModel | Scorer,
    prompt: Tensor | Sequence,
    *,
    max_new_tokens: int,
    beams: int = 5,
    n: int = 1,
    length_penalty: float = 1.0,
    filters: Sequence[Filter] = (),
    mask: Tensor | None = None,
    eos_id: int | Sequence[int] | None = None,
    pad_id: int | None = None,
) -> Generation:
    """The n best hypotheses that a beam of width `beams` finds, best first.

    A hypothesis is ranked by (sum of its token scores) / length ** length_penalty, the length being the number of
    generated tokens, the end symbol counted. It is finished when its end symbol was among the `beams` best
    continuations; what is unfinished at max_new_tokens competes as it stands. The search stops early only when no
    live beam could still enter the n best: `early_stopping="never"` in transformers.

    Args:
        model: a language model, whose log p is added up; or a Scorer.
        beams: how many unfinished sequences live at a time. More than the vocabulary is allowed: at first there
            are fewer beams. At vocab_size ** max_new_tokens the search is exhaustive.
        n: how many hypotheses to return, at most `beams`.
        length_penalty: 0 ranks by the plain sum, which favours short sequences; 1 by the mean; above 1 favours length.
        filters: reshape the distribution whose logs are added up: [Temperature(2)] flattens it. None with a Scorer.
        Others: as in `greedy`. An end symbol inside the prompt is text like any other.

    Returns:
        Generation (batch, n, time): scores as above, logprobs of the raw model. Where fewer than n hypotheses
        exist, the rest have score -inf and length 0.

    Raises:
        ValueError, TypeError: as in `greedy`; beams below 1, n outside 1 .. beams, an absurd length_penalty.
    """
    options = {"beams": beams, "n": n, "length_penalty": length_penalty, "filters": filters, "mask": mask}
    steps = list(beam_steps(model, prompt, max_new_tokens=max_new_tokens, eos_id=eos_id, pad_id=pad_id, **options))
    if not steps:
        raise ValueError("max_new_tokens is 0: there is nothing to generate")
    first = _scorer(model, filters).models[0]
    ends, pad = end_ids(first, eos_id, pad_id)
    return trace(steps, n=n, length_penalty=length_penalty, ends=ends, pad=pad).to(model_device(first))


def beam_steps(
    model,
    prompt,
    *,
    max_new_tokens,
    beams=5,
    n=1,
    length_penalty=1.0,
    filters=(),
    mask=None,
    eos_id=None,
    pad_id=None,
) -> Iterator[BeamStep]:
    """`beam_search`, a step at a time. n and length_penalty matter here too: they decide when nothing can change."""
    scorer = _scorer(model, filters)
    check_search(beams, n, length_penalty, max_new_tokens)
    check_same_vocabulary(scorer.models, [type(each).__name__ for each in scorer.models])
    prompts = [read_prompts(each, prompt, mask, max_new_tokens) for each in scorer.models]
    ends, _ = end_ids(scorer.models[0], eos_id, pad_id)
    return _loop(scorer, prompts, max_new_tokens, int(beams), int(n), float(length_penalty), ends)


def check_search(beams: int, n: int, length_penalty: float, max_new_tokens: int) -> None:
    """Raises ValueError unless these describe a search; see `beam_search`."""
    check_new_tokens(max_new_tokens)
    for name, value in (("beams", beams), ("n", n)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be an integer of 1 or more")
    if n > beams:
        raise ValueError(f"n is {n} and beams {beams}; a search returns at most as many texts as it keeps beams")
    if isinstance(length_penalty, bool) or not isinstance(length_penalty, Real) or not math.isfinite(length_penalty):
        raise ValueError(f"length_penalty is {length_penalty!r}; it must be a finite number (0: none, 1: the mean)")
    if abs(length_penalty) * math.log10(max(max_new_tokens, 1)) > 30:  # what is divided by must not overflow
        raise ValueError(f"length_penalty is {length_penalty}; {max_new_tokens} ** {length_penalty} is out of range")


def _scorer(model: LanguageModel | Scorer, filters: Sequence[Filter]) -> Scorer:
    if not isinstance(model, Scorer):  # a language model may be made of several `models` too
        return LogProb(model, tuple(filters))
    if filters:
        raise ValueError(f"filters go with a language model; {type(model).__name__} is a scorer and scores as it does")
    return model


def _loop(
    scorer: Scorer, prompts: list[Prompts], max_new_tokens: int, beams: int, n: int, penalty: float, ends: list[int]
) -> Iterator[BeamStep]:
    """The candidates are computed where the model is; what becomes of them is decided in plain Python, on the host.

    They are a dozen numbers, and the cache must know on the host which row goes where.
    """
    if max_new_tokens == 0:
        return
    batch = len(prompts[0].lengths)
    caches = [m.new_cache(batch, max(p.lengths) + max_new_tokens) for m, p in zip(scorer.models, prompts, strict=True)]
    inputs = [(p.ids, None if p.even else p.lengths) for p in prompts]
    totals = [[0.0] for _ in range(batch)]  # of each prompt's live beams, best first: one beam at the start
    plain = isinstance(scorer, LogProb) and not scorer.filters  # then the scores are the raw log-probabilities
    best: list[list[float]] = [[-math.inf] * n for _ in range(batch)]  # scores of the best finished hypotheses so far
    for index in range(max_new_tokens):
        with torch.inference_mode():
            logits = [advance(m, *x, c) for m, x, c in zip(scorer.models, inputs, caches, strict=True)]
            scores = scorer(*logits)  # (batch * live, vocab)
            raw = scores if plain else log_softmax(logits[0])
            parents, tokens, sums, logprobs = _candidates(scores, raw, totals, max(2, 1 + len(ends)) * beams)
            if any(math.isnan(row[0]) for row in sums):  # NaN counts as the largest
                _refuse(logits, scores)
        last, live, ended, done = index == max_new_tokens - 1, [], [], []
        for row in range(batch):
            row_ended, row_live = _sort_out(tokens[row], sums[row], beams, ends, last)
            found = [total / (index + 1) ** penalty for total, end in zip(sums[row], row_ended, strict=True) if end]
            best[row] = sorted(best[row] + found, reverse=True)[:n]
            leader = sums[row][row_live[0]] if row_live else -math.inf
            possible = _best_possible(leader, index + 1, max_new_tokens, penalty, scorer.highest)
            live.append(row_live), ended.append(row_ended), done.append(best[row][-1] >= possible)
        yield _record(index, parents, tokens, logprobs, sums, ended, live, done, beams, scores.dtype)
        if all(done):
            return
        rows, ids, totals = _next_rows(parents, tokens, sums, live, done, len(totals[0]))
        for cache in caches:
            cache.reorder(rows)
        inputs = [(torch.tensor(ids, device=p.ids.device)[:, None], None) for p in prompts]


def advance(model: LanguageModel, ids: Tensor, lengths: list[int] | None, cache) -> Float[Tensor, "rows vocab"]:
    """The next logits of each row."""
    logits = last_logits(model, ids, cache, lengths)
    if lengths is not None:
        cache.truncate(lengths)  # forget the padding behind the shorter prompts
    return logits


def _refuse(logits: list[Tensor], scores: Tensor) -> None:
    """Say which of them is no distribution."""
    for each in (*logits, scores):
        peak_of(each.cpu())
    raise ValueError("a sum of scores is NaN: a score of +inf met one of -inf")


def _candidates(
    scores: Float[Tensor, "rows vocab"], raw: Float[Tensor, "rows vocab"], totals: list[list[float]], count: int
) -> tuple[list[list[int]], list[list[int]], list[list[float]], list[list[float]]]:
    """parents, tokens, totals and raw log p of the `count` best continuations of each prompt's beams, best first."""
    before = torch.tensor(totals, dtype=scores.dtype, device=scores.device)  # (batch, live)
    vocab = scores.size(-1)
    sums = (before[..., None] + scores.view(*before.shape, vocab)).flatten(1)  # (batch, live * vocab)
    sums, at = _best(sums, min(count, sums.size(1)))
    logprobs = raw.view(len(totals), -1).gather(1, at).tolist()
    at = at.tolist()
    parents, tokens = [[i // vocab for i in row] for row in at], [[i % vocab for i in row] for row in at]
    return parents, tokens, sums.tolist(), logprobs


def _best(
    sums: Float[Tensor, "batch all"], count: int
) -> tuple[Float[Tensor, "batch count"], Int[Tensor, "batch count"]]:
    """The `count` largest numbers of each row and where they stand, largest first.

    Ties go to the better beam, then to the lowest id: with one beam this is greedy decoding's argmax.
    """
    values, at = sums.topk(count, dim=1)
    if int((sums >= values[:, -1:]).sum()) > at.numel():
        # Several are equal to the last one: topk takes any of them, we want the first.
        above, level = sums > values[:, -1:], sums == values[:, -1:]
        kept = above | (level & (level.cumsum(dim=1) <= count - above.sum(dim=1, keepdim=True)))
        first = torch.where(kept, 0, 1).sort(dim=1, stable=True).indices[:, :count]
        at = torch.where(values[:, :1].isnan(), at, first)  # NaN, which equals nothing, must not slip away
    at = at.sort(dim=1).values  # in the order of beams and ids, which a stable sort by value leaves among equals
    values, order = sums.gather(1, at).sort(dim=1, descending=True, stable=True)
    return values, at.gather(1, order)


def _sort_out(
    tokens: list[int], totals: list[float], beams: int, ends: list[int], last: bool
) -> tuple[list[bool], list[int]]:
    """Which candidates of one prompt are finished, and which live on (as places in the list, best first).

    An end symbol counts when it is among the first `beams`, and takes no live slot. At the last step the first
    `beams` are finished whatever they are.
    """
    possible = [total > -math.inf for total in totals]
    ended = [possible[i] and i < beams and (last or token in ends) for i, token in enumerate(tokens)]
    live = [i for i, token in enumerate(tokens) if possible[i] and token not in ends and not last]
    return ended, live[:beams]


def _best_possible(total: float, length: int, longest: int, penalty: float, highest: float) -> float:
    """No hypothesis that grows out of a live beam with this total can be ranked higher; -inf where none can grow.

    Its total rises by `highest` a token at most. total / L ** penalty is monotone in L, so its largest value lies at
    one of the ends: one more token, or as many as there is room for.
    """
    if length == longest or total == -math.inf:
        return -math.inf
    total += max(highest, 0.0) * (longest - length)
    return max(total / (length + 1) ** penalty, total / longest**penalty)


def _next_rows(
    parents: list[list[int]],
    tokens: list[list[int]],
    sums: list[list[float]],
    live: list[list[int]],
    done: list[bool],
    width: int,
) -> tuple[list[int], list[int], list[list[float]]]:
    """For each live beam the cache row that it continues and its token; and the totals, (batch, live).

    A slot without a beam (its prompt is done, or has fewer than another one) repeats one that lives, with a total of
    -inf: any valid text will do, but it must be one that the model knows.
    """
    live = [[] if over else row for row, over in zip(live, done, strict=True)]
    slots = max(map(len, live))
    rows = [[b * width + parents[b][i] for i in row] for b, row in enumerate(live)]
    ids = [[tokens[b][i] for i in row] for b, row in enumerate(live)]
    spare = next(b for b, row in enumerate(live) if row)
    for b, row in enumerate(live):
        rows[b] += rows[spare][:1] * (slots - len(row))
        ids[b] += ids[spare][:1] * (slots - len(row))
    totals = [[sums[b][i] for i in row] + [-math.inf] * (slots - len(row)) for b, row in enumerate(live)]
    return [i for row in rows for i in row], [i for row in ids for i in row], totals


def _record(index, parents, tokens, logprobs, sums, ended, live, done, beams: int, dtype: torch.dtype) -> BeamStep:
    return BeamStep(
        index=index,
        parents=torch.tensor(parents),
        tokens=torch.tensor(tokens),
        logprobs=torch.tensor(logprobs, dtype=dtype),
        totals=torch.tensor(sums, dtype=dtype),
        ended=torch.tensor(ended),
        live=torch.tensor([row + [-1] * (beams - len(row)) for row in live]),
        done=torch.tensor(done),
    )


def trace(
    steps: Sequence[BeamStep], *, n: int, length_penalty: float, ends: Sequence[int] = (), pad: int = 0
) -> Generation:
    """The n best finished hypotheses of a search, followed back from their last token to their first.

    Args:
        steps: all BeamSteps of one search, in order.
        ends: the end symbols; a hypothesis that does not end with one is unfinished.
        pad: what fills the ids behind shorter hypotheses.
    """
    batch, dtype = steps[0].tokens.size(0), steps[0].totals.dtype
    records = [_as_lists(step) for step in steps]
    found = [_hypotheses(records, row, n, float(length_penalty)) for row in range(batch)]
    longest = max((len(tokens) for row in found for _, tokens, _ in row), default=0)
    ids = torch.full((batch, n, longest), pad)
    logprobs = torch.zeros(batch, n, longest, dtype=dtype)
    scores = torch.full((batch, n), -torch.inf, dtype=dtype)
    lengths = torch.zeros(batch, n, dtype=torch.long)
    finished = torch.zeros(batch, n, dtype=torch.bool)
    for row, hypotheses in enumerate(found):
        for i, (score, tokens, each) in enumerate(hypotheses):
            length = len(tokens)
            ids[row, i, :length], logprobs[row, i, :length] = torch.tensor(tokens), torch.tensor(each, dtype=dtype)
            scores[row, i], lengths[row, i], finished[row, i] = score, length, tokens[-1] in ends
    return Generation(ids, logprobs, scores, lengths, finished)


def _as_lists(step: BeamStep) -> dict[str, list]:
    names = ("parents", "tokens", "logprobs", "totals", "ended", "live")
    return {name: getattr(step, name).tolist() for name in names}


def _hypotheses(records: list[dict], row: int, n: int, penalty: float) -> list[tuple[float, list[int], list[float]]]:
    """(score, tokens, logprobs) of the n best finished hypotheses of one prompt; earlier ones first among equals."""
    ended = [
        (record["totals"][row][at] / (index + 1) ** penalty, index, at)
        for index, record in enumerate(records)
        for at, is_end in enumerate(record["ended"][row])
        if is_end
    ]
    best = sorted(ended, key=lambda item: -item[0])[:n]
    return [(score, *_followed_back(records, row, index, at)) for score, index, at in best]


def _followed_back(records: list[dict], row: int, index: int, at: int) -> tuple[list[int], list[float]]:
    tokens, logprobs = [], []
    while True:
        record = records[index]
        tokens.append(record["tokens"][row][at])
        logprobs.append(record["logprobs"][row][at])
        if index == 0:
            return tokens[::-1], logprobs[::-1]
        index, at = index - 1, records[index - 1]["live"][row][record["parents"][row][at]]
