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
from arlab.decoding.prompts import Prompts, read_prompts
from arlab.decoding.records import BeamStep, Generation
from arlab.decoding.sampling import CHECK_EVERY, end_ids
from arlab.decoding.scorers import LogProb, Scorer, check_same_vocabulary, log_softmax
from arlab.nn.language_model import LanguageModel, last_logits


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
        ValueError, TypeError: as in `greedy`; beams below 1, n outside 1 .. beams, a length_penalty that is not finite.
    """
    options = {"beams": beams, "n": n, "length_penalty": length_penalty, "filters": filters, "mask": mask}
    steps = list(beam_steps(model, prompt, max_new_tokens=max_new_tokens, eos_id=eos_id, pad_id=pad_id, **options))
    if not steps:
        raise ValueError("max_new_tokens is 0: there is nothing to generate")
    ends, pad = end_ids(_scorer(model, filters).models[0], eos_id, pad_id)
    return trace(steps, n=n, length_penalty=length_penalty, ends=ends, pad=pad)


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
    for name, value in (("beams", beams), ("n", n)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be an integer of 1 or more")
    if n > beams:
        raise ValueError(f"n is {n}, more than the {beams} beams; a search returns at most as many as it keeps")
    if isinstance(length_penalty, bool) or not isinstance(length_penalty, Real) or not math.isfinite(length_penalty):
        raise ValueError(f"length_penalty is {length_penalty!r}; it must be a finite number (0: none, 1: the mean)")
    check_same_vocabulary(scorer.models, [type(each).__name__ for each in scorer.models])
    prompts = [read_prompts(each, prompt, mask, max_new_tokens) for each in scorer.models]
    ends, _ = end_ids(scorer.models[0], eos_id, pad_id)
    return _loop(scorer, prompts, max_new_tokens, int(beams), int(n), float(length_penalty), ends)


def _scorer(model: LanguageModel | Scorer, filters: Sequence[Filter]) -> Scorer:
    if not hasattr(model, "models"):
        return LogProb(model, tuple(filters))
    if filters:
        raise ValueError(f"filters go with a language model; {type(model).__name__} is a scorer and scores as it does")
    return model


def _loop(
    scorer: Scorer, prompts: list[Prompts], max_new_tokens: int, beams: int, n: int, penalty: float, ends: list[int]
) -> Iterator[BeamStep]:
    if max_new_tokens == 0:
        return
    device, batch = prompts[0].ids.device, prompts[0].ids.size(0)
    caches = [m.new_cache(batch, max(p.lengths) + max_new_tokens) for m, p in zip(scorer.models, prompts, strict=True)]
    inputs = [(p.ids, None if p.even else p.lengths) for p in prompts]
    totals: Tensor | None = None  # (batch, live): one live beam at the start, with nothing added up
    best = None  # (batch, n): the scores of the best finished hypotheses so far
    done = torch.zeros(batch, dtype=torch.bool, device=device)
    for index in range(max_new_tokens):
        logits = [advance(m, *x, c) for m, x, c in zip(scorer.models, inputs, caches, strict=True)]
        with torch.no_grad():
            scores = scorer(*logits)  # (batch * live, vocab)
            if totals is None:
                totals, best = scores.new_zeros(batch, 1), scores.new_full((batch, n), -torch.inf)
            parents, tokens, sums = _best_continuations(totals, scores, max(2, 1 + len(ends)) * beams)
            rows = parents + totals.size(1) * torch.arange(batch, device=device)[:, None]  # into batch * live
            logprobs = log_softmax(logits[0])[rows, tokens]
            ended, live = _sort_out(tokens, sums, beams, ends, last=index == max_new_tokens - 1)
            score = (sums / (index + 1) ** penalty).masked_fill(~ended, -torch.inf)
            best = torch.cat([best, score], dim=1).topk(n, dim=1).values
            totals = sums.gather(1, live.clamp(min=0)).masked_fill(live < 0, -torch.inf)
            bound = _best_possible(totals[:, 0], index + 1, max_new_tokens, penalty, scorer.highest)
            done = done | (live[:, 0] < 0) | (best[:, -1] >= bound)
        yield BeamStep(index, parents, tokens, logprobs, sums, ended, live, done)
        if (device.type == "cpu" or index % CHECK_EVERY == CHECK_EVERY - 1) and done.all():
            return
        with torch.no_grad():
            live = live.masked_fill(done[:, None], -1)
            if device.type == "cpu":  # no more rows than beams that live
                live = live[:, : int((live >= 0).sum(dim=1).max())]
            totals = totals[:, : live.size(1)].masked_fill(live < 0, -torch.inf)
            rows, ids = _next_rows(rows, tokens, live)
        for cache in caches:
            cache.reorder(rows)
        inputs = [(ids, None)] * len(caches)


def advance(model: LanguageModel, ids: Tensor, lengths: list[int] | None, cache) -> Float[Tensor, "rows vocab"]:
    """The next logits of each row; of an ordinary tensor, for a scorer of one's own may do as it likes with it."""
    with torch.inference_mode():
        logits = last_logits(model, ids, cache, lengths)
    with torch.no_grad():
        if lengths is not None:
            cache.truncate(lengths)  # forget the padding behind the shorter prompts
        peak_of(logits)  # on a CPU: refuses NaN
        return logits.clone()


def _best_continuations(
    totals: Float[Tensor, "batch live"], scores: Float[Tensor, "batch*live vocab"], count: int
) -> tuple[Int[Tensor, "batch count"], Int[Tensor, "batch count"], Float[Tensor, "batch count"]]:
    """Over all live beams and all tokens at once: parents, tokens and totals of the best, best first.

    Ties go to the better beam, then to the lowest id: with one beam this is greedy decoding's argmax.
    """
    batch, vocab = totals.size(0), scores.size(-1)
    sums = totals[..., None] + scores.view(batch, -1, vocab)  # (batch, live, vocab)
    sums = sums.flatten(1)
    count = min(count, sums.size(1))
    values, at = sums.topk(count, dim=1)
    if sums.device.type != "cpu" or int((sums >= values[:, -1:]).sum()) > batch * count:
        # Several are equal to the last one: topk takes any of them, we want the first.
        above, level = sums > values[:, -1:], sums == values[:, -1:]
        kept = above | (level & (level.cumsum(dim=1) <= count - above.sum(dim=1, keepdim=True)))
        at = torch.where(kept, 0, 1).sort(dim=1, stable=True).indices[:, :count]
    at = at.sort(dim=1).values  # in the order of beams and ids, which a stable sort by value leaves among equals
    values, order = sums.gather(1, at).sort(dim=1, descending=True, stable=True)
    at = at.gather(1, order)
    return at // vocab, at % vocab, values


def _sort_out(tokens: Tensor, sums: Tensor, beams: int, ends: list[int], last: bool) -> tuple[Tensor, Tensor]:
    """Which candidates are finished, and which live on: (ended (batch, candidates), live (batch, beams)).

    An end symbol counts when it is among the first `beams`, and takes no live slot. At the last step the first
    `beams` are finished whatever they are.
    """
    possible = sums > -torch.inf
    is_end = torch.isin(tokens, torch.tensor(ends, device=tokens.device)) if ends else torch.zeros_like(possible)
    first = torch.arange(tokens.size(1), device=tokens.device) < beams
    ended = possible & first & (is_end | last)
    goes_on = possible & ~is_end & (not last)
    live = torch.where(goes_on, 0, 1).sort(dim=1, stable=True).indices[:, :beams]  # those that go on come first
    live = live.masked_fill(~goes_on.gather(1, live), -1)
    if live.size(1) < beams:  # a small vocabulary has fewer continuations than that
        live = torch.nn.functional.pad(live, (0, beams - live.size(1)), value=-1)
    return ended, live


def _best_possible(total: Tensor, length: int, longest: int, penalty: float, highest: float) -> Float[Tensor, "batch"]:
    """No hypothesis that grows out of a live beam with this total can be ranked higher.

    Its total rises by `highest` a token at most. total / L ** penalty is monotone in L, so its largest value lies at
    one of the ends: one more token, or as many as there is room for.
    """
    if length == longest:
        return torch.full_like(total, -torch.inf)
    if highest == math.inf:
        return torch.where(total > -torch.inf, math.inf, -math.inf).to(total)
    total = total + max(highest, 0.0) * (longest - length)
    return torch.maximum(total / (length + 1) ** penalty, total / longest**penalty)


def _next_rows(rows: Tensor, tokens: Tensor, live: Tensor) -> tuple[Int[Tensor, "rows"], Int[Tensor, "rows 1"]]:
    """The cache row that each live beam continues, and its token.

    A slot without a beam repeats one that lives: any valid text will do, but it must be one that the model knows.
    """
    at = live.clamp(min=0)
    rows, ids = rows.gather(1, at).flatten(), tokens.gather(1, at).flatten()
    dead = (live < 0).flatten()
    spare = torch.where(dead, 1, 0).argmin()  # the first slot that lives
    return torch.where(dead, rows[spare], rows), torch.where(dead, ids[spare], ids)[:, None]


def trace(
    steps: Sequence[BeamStep], *, n: int, length_penalty: float, ends: Sequence[int] = (), pad: int = 0
) -> Generation:
    """The n best finished hypotheses of a search, followed back from their last token to their first.

    Args:
        steps: all BeamSteps of one search, in order.
        ends: the end symbols; a hypothesis that does not end with one is unfinished.
        pad: what fills the ids behind shorter hypotheses.
    """
    device, dtype = steps[0].totals.device, steps[0].totals.dtype
    batch = steps[0].tokens.size(0)
    records = [_as_lists(step) for step in steps]
    found = [_hypotheses(records, row, n, length_penalty) for row in range(batch)]
    longest = max(len(tokens) for row in found for _, tokens, _ in row)
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
    return Generation(ids, logprobs, scores, lengths, finished).to(device)


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
