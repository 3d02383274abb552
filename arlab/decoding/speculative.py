"""Speculative decoding: a cheap draft guesses several tokens, the target judges them all in one pass.

The law of the text is exactly the target's, whatever the draft: Leviathan, Kalman and Matias, "Fast Inference from
Transformers via Speculative Decoding" (2023), and Chen et al., "Accelerating Large Language Model Decoding with
Speculative Sampling" (2023). Lecture 001 says of a rejected token that one samples "from the large model" in its place:
that gives another law (notebook 13 shows which). What is right is to draw from what the draft left over: norm(max(0,
p - q)).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from time import perf_counter
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from arlab.decoding.drafts import Draft, Proposal, as_draft, draw_from, is_greedy, probabilities, uniform
from arlab.decoding.filters import Filter
from arlab.decoding.prompts import read_prompts
from arlab.decoding.records import Generation
from arlab.decoding.sampling import end_ids, most_probable
from arlab.nn.language_model import LanguageModel, last_logits, model_device


@dataclass(frozen=True)
class SpeculationStep:
    """One round: what was drafted, what became of it, and the time it took. Plain values, to be kept as you like."""

    index: int
    drafted: tuple[int, ...]  # at most gamma
    accepted: int  # so many of them, from the front
    tokens: tuple[int, ...]  # drafted[:accepted] and one more of the target's own (none after an end symbol)
    kind: str  # of the last token: "corrected", "bonus" (all were accepted), "plain" (none drafted), "end" (drafted)
    ratios: tuple[float, ...]  # min(1, p / q) of each tested token: the accepted ones and the first rejected
    overlaps: tuple[float, ...]  # sum over x of min(p(x), q(x)) at the same places: the odds of acceptance there
    logprobs: tuple[float, ...]  # of `tokens` under the raw target
    draft_seconds: float
    verify_seconds: float  # the first round's holds the prompt's own pass as well
    finished: bool  # the end symbol has come


def acceptance(p: Float[Tensor, "*rows vocab"], q: Float[Tensor, "*rows vocab"]) -> Float[Tensor, "*rows vocab"]:
    """min(1, p / q): how likely the target (p) accepts each token from the draft (q); 1 where q is 0 (never asked).

    Raises:
        ValueError: different shapes, or rows that are no probabilities.
    """
    _check_laws(p, q)
    return torch.where(q > p, p / q, 1.0)  # q > p also means q > 0


def residual(p: Float[Tensor, "*rows vocab"], q: Float[Tensor, "*rows vocab"]) -> Float[Tensor, "*rows vocab"]:
    """norm(max(0, p - q)): what to draw from after a rejection. p itself where p = q (then nothing is rejected).

    Raises:
        ValueError: different shapes, or rows that are no probabilities.
    """
    _check_laws(p, q)
    left = (p - q).clamp(min=0)
    total = left.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, left / total, p)


def expected_tokens(a: float, gamma: int) -> float:
    """Tokens for each call of the target when each drafted one is accepted with probability a, independently.

    (1 - a^(gamma + 1)) / (1 - a), the sum of a^0 .. a^gamma; gamma + 1 at a = 1. Leviathan et al. (2023), equation 1.

    Raises:
        ValueError: a outside [0, 1], gamma below 1.
    """
    if isinstance(a, bool) or not isinstance(a, Real) or not 0 <= a <= 1:
        raise ValueError(f"a is {a!r}; an acceptance rate lies in [0, 1]")
    return float(sum(a**i for i in range(_checked_gamma(gamma) + 1)))


def speculative_decoding(
    target: LanguageModel,
    draft: LanguageModel | Draft,
    prompt: Tensor | Sequence,
    *,
    max_new_tokens: int,
    gamma: int = 4,
    filters: Sequence[Filter] = (),
    generator: torch.Generator | None = None,
    eos_id: int | Sequence[int] | None = None,
    pad_id: int | None = None,
) -> Generation:
    """As if sampled from the target (filtered), in fewer calls of it; with filters=[Temperature(0)], as `greedy`.

    Greedy output is that of `greedy` token by token, unless two logits are so close that rounding decides: several
    tokens in one pass are not multiplied in the same order as one.

    Args:
        draft: a LanguageModel with the target's vocabulary, or an object with `propose(text, limit)` (see
            arlab.decoding.drafts): LookupDraft(), for one.
        prompt: ids of one prompt, (time,) or (1, time). One that ends with an end symbol is continued all the same.
        gamma: how many tokens to draft for each call of the target; fewer near the end.
        filters: applied to target and draft alike, in the order written.
        generator: where all draws come from; None: torch's global one.
        eos_id, pad_id: as in `greedy`.

    Returns:
        Generation (1, 1, time); its logprobs are those of the raw target.

    Raises:
        ValueError: gamma below 1; several prompts; a draft with another vocabulary or too short a context; zero new
            tokens; what `greedy` refuses.
        TypeError: a draft that is neither a model nor has `propose`; a prompt that holds no integers.
    """
    settings = {"max_new_tokens": max_new_tokens, "gamma": gamma, "filters": filters, "generator": generator}
    steps = list(speculative_steps(target, draft, prompt, **settings, eos_id=eos_id, pad_id=pad_id))
    if not steps:
        raise ValueError("max_new_tokens is 0: there is nothing to generate")
    device = model_device(target)
    ids = torch.tensor([[[token for step in steps for token in step.tokens]]], device=device)
    logprobs = torch.tensor([[[logprob for step in steps for logprob in step.logprobs]]], device=device)
    return Generation(
        ids=ids,
        logprobs=logprobs,
        scores=logprobs.sum(dim=-1),
        lengths=torch.tensor([[ids.size(-1)]], device=device),
        finished=torch.tensor([[steps[-1].finished]], device=device),
    )


def speculative_steps(
    target, draft, prompt, *, max_new_tokens, gamma=4, filters=(), generator=None, eos_id=None, pad_id=None
) -> Iterator[SpeculationStep]:
    """`speculative_decoding`, a round at a time. Bad input raises now, not at the first next()."""
    prompts = read_prompts(target, prompt, None, max_new_tokens)
    if len(prompts.lengths) > 1:
        raise ValueError(f"got {len(prompts.lengths)} prompts; speculative decoding takes one at a time")
    gamma, filters, text = _checked_gamma(gamma), tuple(filters), prompts.ids[0].tolist()
    ends, _ = end_ids(target, eos_id, pad_id)
    capacity = len(text) + max_new_tokens
    draft = as_draft(draft, target, text, capacity, filters=filters, generator=generator, ends=ends)
    judge = _Greedy() if is_greedy(filters) else _Sampled(filters, generator)
    return _loop(target, draft, text, prompts.ids.device, capacity, gamma, judge, ends)


def _loop(target, draft, text: list[int], device, capacity: int, gamma: int, judge, ends: list[int]):
    if capacity == len(text):
        return
    clock = perf_counter()
    cache = target.new_cache(1, capacity)
    with torch.inference_mode():
        if len(text) > 1:
            logits = last_logits(target, torch.tensor([text[:-1]], device=device), cache)
            logits[0, 0].item()  # waits for a GPU to be done, or the pass would count as the draft's time
    prompt_seconds, index, finished = perf_counter() - clock, 0, False
    while len(text) < capacity and not finished:
        clock = perf_counter()
        room = capacity - len(text) - 1  # one place is for the target's own token
        proposal = _read(draft.propose(list(text), min(gamma, room)), min(gamma, room), target, ends) if room else NONE
        drafted = perf_counter()
        with torch.inference_mode():  # never across the yield: it would leak into whoever consumes the iterator
            logits = target(torch.tensor([[text[-1], *proposal.tokens]], device=device), cache)[0]
            verdict = judge(logits, proposal, ends)
            tokens = (*proposal.tokens[: verdict.accepted], *verdict.own)
            raw = logits[: len(tokens)].float().log_softmax(dim=-1)
            logprobs = raw.gather(-1, torch.tensor(tokens, device=device)[:, None])[:, 0].tolist()
            text = [*text, *tokens]
            cache.truncate([len(text) - 1])  # rejected tokens are forgotten; the last one is read in the next pass
        finished = tokens[-1] in ends
        yield SpeculationStep(
            index=index,
            drafted=tuple(proposal.tokens),
            tokens=tokens,
            logprobs=tuple(logprobs),
            draft_seconds=drafted - clock,
            verify_seconds=perf_counter() - drafted + prompt_seconds,
            finished=finished,
            **{name: getattr(verdict, name) for name in ("accepted", "kind", "ratios", "overlaps")},
        )
        prompt_seconds, index = 0.0, index + 1


# ------------------------------------------------------------------------------------------------ judging a proposal


class Verdict(NamedTuple):
    """What the target says of a proposal."""

    accepted: int
    own: tuple[int, ...]  # its own token; none where an accepted end symbol ended the text
    kind: str
    ratios: tuple[float, ...]
    overlaps: tuple[float, ...]


class _Sampled:
    """Accept x with probability min(1, p(x) / q(x)); at the first rejection draw from norm(max(0, p - q))."""

    def __init__(self, filters: tuple[Filter, ...], generator: torch.Generator | None):
        self.filters, self.generator = filters, generator

    def __call__(self, logits: Float[Tensor, "drafted_1 vocab"], proposal: Proposal, ends: list[int]) -> Verdict:
        ratios, overlaps = [], []
        for i, token in enumerate(proposal.tokens):
            p = probabilities(logits[i], self.filters)
            q = _law_of(proposal, i, p)
            ratios.append(float(acceptance(p, q)[token]))
            overlaps.append(float(torch.minimum(p, q).sum()))
            if not accepts(ratios[-1], self.generator):
                own = draw_from(residual(p, q), self.generator)
                return Verdict(i, (own,), "corrected", tuple(ratios), tuple(overlaps))
            if token in ends:
                return Verdict(i + 1, (), "end", tuple(ratios), tuple(overlaps))
        own = draw_from(probabilities(logits[-1], self.filters), self.generator)
        kind = "bonus" if proposal.tokens else "plain"
        return Verdict(len(ratios), (own,), kind, tuple(ratios), tuple(overlaps))


class _Greedy:
    """The same where p is all on the argmax: that token is accepted and nothing else, and no draw is needed.

    A vocabulary of 49,152 is then looked at once for each position, in the logits' own precision.
    """

    def __call__(self, logits: Float[Tensor, "drafted_1 vocab"], proposal: Proposal, ends: list[int]) -> Verdict:
        best = most_probable(logits).tolist()
        agreed = 0
        while agreed < len(proposal.tokens) and proposal.tokens[agreed] == best[agreed]:
            agreed += 1
        ended = agreed > 0 and best[agreed - 1] in ends  # nothing is drafted behind one
        rejected = agreed < len(proposal.tokens) and not ended
        ratios = (1.0,) * agreed + (0.0,) * rejected
        if proposal.probabilities is None:  # both laws lie on one token each, and overlap wholly or not at all
            overlaps = ratios
        else:
            overlaps = tuple(float(proposal.probabilities[i, best[i]]) for i in range(len(ratios)))
        kind = "end" if ended else "corrected" if rejected else "bonus" if proposal.tokens else "plain"
        return Verdict(agreed, () if ended else (best[agreed],), kind, ratios, overlaps)


def accepts(ratio: float, generator: torch.Generator | None) -> bool:
    """True with probability `ratio`: 1 is always accepted and 0 never, for u lies in [0, 1)."""
    return uniform(generator) < ratio


NONE = Proposal([])


def _law_of(proposal: Proposal, i: int, p: Float[Tensor, "vocab"]) -> Float[Tensor, "vocab"]:
    """The distribution that token i was drawn from; all on the token itself where it was not drawn."""
    if proposal.probabilities is not None:
        return proposal.probabilities[i].to(p)
    q = torch.zeros_like(p)
    q[proposal.tokens[i]] = 1.0
    return q


def _read(proposal: Proposal | Sequence[int], limit: int, target: LanguageModel, ends: list[int]) -> Proposal:
    """The proposal checked, and cut behind its first end symbol. A plain list of ids serves as well.

    Raises:
        ValueError: more tokens than asked for, ids outside the vocabulary, probabilities of another shape or 0 for
            the drafted token.
    """
    proposal = proposal if isinstance(proposal, Proposal) else Proposal(list(proposal))
    tokens, laws = proposal.tokens, proposal.probabilities
    if len(tokens) > limit:
        raise ValueError(f"the draft proposed {len(tokens)} tokens; it was asked for at most {limit}")
    for token in tokens:
        if isinstance(token, bool) or not isinstance(token, Integral) or not 0 <= token < target.vocab_size:
            raise ValueError(f"the draft proposed {token!r}; ids lie between 0 and {target.vocab_size - 1}")
    if laws is not None and tuple(laws.shape) != (len(tokens), target.vocab_size):
        shape = (len(tokens), target.vocab_size)
        raise ValueError(f"the draft's probabilities have shape {tuple(laws.shape)}; needed (drafted, vocab) = {shape}")
    for i, token in enumerate(tokens):
        if laws is not None and not laws[i, token] > 0:
            raise ValueError(f"the draft proposed token {token} and gives it the probability {float(laws[i, token])}")
    ended = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    return Proposal([int(token) for token in tokens[: ended + 1]], None if laws is None else laws[: ended + 1])


def _check_laws(p: Tensor, q: Tensor) -> None:
    if p.shape != q.shape:
        raise ValueError(f"p has shape {tuple(p.shape)} and q {tuple(q.shape)}; they must be the same")
    for name, law in (("p", p), ("q", q)):
        total = law.sum(dim=-1)
        # A percent of room: the probabilities may come from a softmax in bfloat16.
        if (law < 0).any() or not ((total - 1).abs() <= 0.01).all():
            raise ValueError(f"{name} is no distribution: each row must hold numbers of 0 or more that sum to 1")


def _checked_gamma(gamma: int) -> int:
    if isinstance(gamma, bool) or not isinstance(gamma, Integral) or gamma < 1:
        raise ValueError(f"gamma is {gamma!r}; it must be an integer of 1 or more, the tokens to draft in each round")
    return int(gamma)
