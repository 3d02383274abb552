"""Contrastive decoding: what a strong model finds much more probable than a weak one does.

A weak model shares the strong one's bad habits (it repeats, it is bland) and has them worse; subtracting its
log-probability takes them away. "Contrastive Decoding: Open-ended Text Generation as Optimization" (Li et al., 2023);
lecture 004. Not contrastive search (Su et al., 2022), which has one model and compares hidden states.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Real

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from arlab.decoding.beam import advance, beam_search, check_search
from arlab.decoding.filters import peak_of
from arlab.decoding.prompts import Prompts, read_prompts
from arlab.decoding.records import Generation
from arlab.decoding.sampling import CHECK_EVERY, end_ids, gather
from arlab.decoding.scorers import check_same_vocabulary, log_softmax
from arlab.nn.language_model import LanguageModel

IMPOSSIBLE = -1e4  # nats: stands for a weak log-probability of -inf, so that scores stay finite; exp of it is 0


def contrastive_score(
    strong_logits: Float[Tensor, "*batch vocab"], weak_logits: Float[Tensor, "*batch vocab"], alpha: float | None = 0.1
) -> Float[Tensor, "*batch vocab"]:
    """log p_strong - log p_weak for every plausible token, -inf for the others.

    A token is plausible when p_strong >= alpha * max p_strong. The score is left as it is: it is no log-probability,
    and a softmax over the plausible set would change which of two beams is the better one.

    Args:
        alpha: in (0, 1]. 1 leaves the strong model's argmax alone (and its equals). None: no guard, every token that
            the strong model thinks possible at all: then one of p_strong 1e-4 wins where p_weak is 1e-8.

    Raises:
        ValueError: alpha outside (0, 1], logits of different shapes, NaN or all -inf.
    """
    check_alpha(alpha)
    if strong_logits.shape != weak_logits.shape:
        shapes = f"{tuple(strong_logits.shape)} and {tuple(weak_logits.shape)}"
        raise ValueError(f"the strong and the weak logits have shapes {shapes}; they must be equal")
    peak_of(strong_logits), peak_of(weak_logits)
    kept = plausible(strong_logits, alpha)
    weak = log_softmax(weak_logits).to(strong_logits.device).clamp(min=IMPOSSIBLE)  # -inf - -inf would be NaN
    return (log_softmax(strong_logits) - weak).masked_fill(~kept, -torch.inf)


def plausible(strong_logits: Float[Tensor, "*batch vocab"], alpha: float | None) -> Bool[Tensor, "*batch vocab"]:
    """Where p_strong >= alpha * max p_strong; with alpha None, where p_strong > 0."""
    logits = strong_logits.float() if strong_logits.dtype.itemsize < 4 else strong_logits
    if alpha is None:
        return logits > -torch.inf
    # Differences of logits are differences of log-probabilities; a softmax would only add its rounding.
    return logits >= logits.amax(dim=-1, keepdim=True) + math.log(alpha)


def check_alpha(alpha: float | None) -> None:
    """Raises ValueError for an alpha outside (0, 1]; None is allowed."""
    if alpha is not None and (isinstance(alpha, bool) or not isinstance(alpha, Real) or not 0 < alpha <= 1):
        raise ValueError(f"alpha is {alpha!r}; it must lie in (0, 1], or be None for no guard at all")


@dataclass(frozen=True)
class ContrastiveScorer:
    """`contrastive_score` as a beam search adds it up: beam_search(ContrastiveScorer(strong, weak), prompt, ...)."""

    strong: LanguageModel
    weak: LanguageModel
    alpha: float | None = 0.1
    highest: float = field(default=math.inf, init=False)  # how far two models may disagree has no limit

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        check_same_vocabulary((self.strong, self.weak), ("the strong model", "the weak model"))

    @property
    def models(self) -> tuple[LanguageModel, LanguageModel]:
        return self.strong, self.weak

    def __call__(
        self, strong_logits: Float[Tensor, "rows vocab"], weak_logits: Float[Tensor, "rows vocab"]
    ) -> Float[Tensor, "rows vocab"]:
        return contrastive_score(strong_logits, weak_logits, self.alpha)


@dataclass(frozen=True, eq=False)
class ContrastiveStep:
    """One new token in every row, with what both models said. Valid until the next; `.keep()` copies what lasts."""

    index: int
    strong: Float[Tensor, "rows vocab"]  # raw logits
    weak: Float[Tensor, "rows vocab"]
    scores: Float[Tensor, "rows vocab"]  # -inf where not plausible
    chosen: Int[Tensor, "rows"]  # the highest score; pad_id in rows that had ended before
    logprob: Float[Tensor, "rows"]  # log p(chosen) under the strong model
    finished: Bool[Tensor, "rows"]

    @property
    def plausible(self) -> Bool[Tensor, "rows vocab"]:
        return self.scores > -torch.inf

    def keep(self, top: int = 20) -> KeptContrastiveStep:
        """A small copy: the `top` tokens that the strong model finds most probable."""
        if top < 1:
            raise ValueError(f"top is {top}; it must be 1 or more")
        strong, weak = log_softmax(self.strong), log_softmax(self.weak)
        ids = strong.sort(dim=-1, descending=True, stable=True).indices[:, :top].clone()
        return KeptContrastiveStep(
            index=self.index,
            ids=ids.cpu(),
            strong_logprobs=strong.gather(-1, ids).cpu(),
            weak_logprobs=weak.to(strong.device).gather(-1, ids).cpu(),
            scores=self.scores.gather(-1, ids).cpu(),
            survivors=self.plausible.sum(dim=-1).cpu(),
            chosen=self.chosen.cpu(),
            logprob=self.logprob.cpu(),
            finished=self.finished.cpu(),
        )


@dataclass(frozen=True, eq=False)
class KeptContrastiveStep:
    """The part of a ContrastiveStep that lasts; on the CPU, its own memory."""

    index: int
    ids: Int[Tensor, "rows top"]  # most probable first, under the strong model
    strong_logprobs: Float[Tensor, "rows top"]
    weak_logprobs: Float[Tensor, "rows top"]
    scores: Float[Tensor, "rows top"]
    survivors: Int[Tensor, "rows"]  # the size of the plausible set
    chosen: Int[Tensor, "rows"]
    logprob: Float[Tensor, "rows"]
    finished: Bool[Tensor, "rows"]


def contrastive_decoding(
    strong: LanguageModel,
    weak: LanguageModel,
    prompt: Tensor | Sequence,
    *,
    max_new_tokens: int,
    alpha: float | None = 0.1,
    beams: int = 1,
    n: int = 1,
    length_penalty: float = 1.0,
    mask: Tensor | None = None,
    eos_id: int | Sequence[int] | None = None,
    pad_id: int | None = None,
) -> Generation:
    """The highest contrastive score at each step (beams = 1), or the best sum of scores that a beam search finds.

    Args:
        strong, weak: two models of one vocabulary; the weak one may be smaller, or the strong one with a short
            context: `PromptForgotten(strong)` (arlab.nn.prompt_forgotten), as in the paper. With a window that slides
            along, `Recompute(strong, window=8)`, the weak model has not seen a repetition coming, and copying scores
            high. (A truncated cache would not do: what is left in it has already seen what was cut off.)
        alpha: see `contrastive_score`.
        beams, n, length_penalty: as in `beam_search`. Scores may be positive, so a longer text may always win yet,
            and the search runs to max_new_tokens unless every beam has ended.
        Others: as in `greedy`.

    Returns:
        Generation (batch, n, time): scores are contrastive (with beams = 1 the plain sum, with more divided by
        length ** length_penalty); logprobs are those of the strong model.

    Raises:
        ValueError, TypeError: as in `greedy` and `beam_search`; another vocabulary; alpha outside (0, 1].
    """
    options = {"max_new_tokens": max_new_tokens, "mask": mask, "eos_id": eos_id, "pad_id": pad_id}
    check_search(beams, n, length_penalty, max_new_tokens)
    if beams > 1:
        scorer = ContrastiveScorer(strong, weak, alpha)
        return beam_search(scorer, prompt, beams=beams, n=n, length_penalty=length_penalty, **options)
    scores = []
    generation = gather(_noting_scores(contrastive_steps(strong, weak, prompt, alpha=alpha, **options), scores), n=1)
    return Generation(**{**vars(generation), "scores": torch.stack(scores).sum(dim=0)[:, None]})


def contrastive_steps(
    strong, weak, prompt, *, max_new_tokens, alpha=0.1, mask=None, eos_id=None, pad_id=None
) -> Iterator[ContrastiveStep]:
    """`contrastive_decoding` with one beam, a step at a time."""
    scorer = ContrastiveScorer(strong, weak, alpha)
    prompts = [read_prompts(model, prompt, mask, max_new_tokens) for model in scorer.models]
    ends, pad = end_ids(strong, eos_id, pad_id)
    return _loop(scorer, prompts, max_new_tokens, ends, pad)


def _loop(
    scorer: ContrastiveScorer, prompts: list[Prompts], max_new_tokens: int, ends: list[int], pad: int
) -> Iterator[ContrastiveStep]:
    if max_new_tokens == 0:
        return
    device, rows = prompts[0].ids.device, prompts[0].ids.size(0)
    caches = [m.new_cache(rows, max(p.lengths) + max_new_tokens) for m, p in zip(scorer.models, prompts, strict=True)]
    inputs = [(p.ids, None if p.even else p.lengths) for p in prompts]
    finished, end = torch.zeros(rows, dtype=torch.bool, device=device), torch.tensor(ends, device=device)
    for index in range(max_new_tokens):
        with torch.inference_mode():
            logits = [advance(m, *x, c) for m, x, c in zip(scorer.models, inputs, caches, strict=True)]
        with torch.no_grad():
            strong, weak = (each.clone() for each in logits)  # ordinary tensors, for whoever reads the step
            scores = scorer(strong, weak)
            chosen = scores.argmax(dim=-1)  # the first maximum: the lowest id
            logprob = log_softmax(strong).gather(-1, chosen[:, None])[:, 0]
            if ends:
                chosen = chosen.masked_fill(finished, pad)
                logprob = logprob.masked_fill(finished, 0.0)
                finished = finished | torch.isin(chosen, end)
        yield ContrastiveStep(index, strong, weak, scores, chosen, logprob, finished)
        if ends and (device.type == "cpu" or index % CHECK_EVERY == CHECK_EVERY - 1) and finished.all():
            return
        inputs = [(chosen[:, None].to(p.ids.device), None) for p in prompts]
        if device.type != "cpu" and index % CHECK_EVERY == CHECK_EVERY - 1 and logprob.isnan().any():
            raise ValueError(f"NaN log-probability within the last {CHECK_EVERY} steps: the logits are damaged")


def _noting_scores(steps: Iterator[ContrastiveStep], scores: list[Tensor]) -> Iterator[ContrastiveStep]:
    """The same steps; the score of each chosen token is appended to `scores` (0 in rows that had ended before)."""
    before: Tensor | None = None
    for step in steps:
        score = step.scores.gather(-1, step.chosen[:, None])[:, 0]
        scores.append(score if before is None else score.masked_fill(before, 0.0))
        before = step.finished
        yield step
