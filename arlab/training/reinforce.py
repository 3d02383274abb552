"""Sequence-level training: the model writes, a judge says how good it was, and what was good becomes more probable.

Teacher forcing asks for the next token of one right answer. Here nothing is asked for: the model's own sequence y gets
a reward R(y), and what is to grow is its expectation J = sum over y of p(y) R(y). No gradient passes through a draw,
but none has to (Williams, 1992):

    dJ = sum over y of p(y) R(y) d log p(y) = the mean, over drawn y, of R(y) d log p(y).

A baseline b that does not depend on y may be taken off the reward, since the mean of d log p(y) is 0: the gradient is
the same on average, and a b near the mean reward makes it vary less. Where all sequences can be counted,
`expected_reward` gives J itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from arlab.decoding.sampling import end_ids, greedy, sample
from arlab.nn.language_model import LanguageModel, eval_mode, model_device
from arlab.text.batches import IGNORE, Batch, check_integer, padded
from arlab.text.pairs import PairInputs
from arlab.training.losses import next_token_loss

Reward = Callable[[list[int], list[int]], float]  # reward(answer, question): the end symbol is part of the answer
Prompts = Tensor | Sequence[int] | Sequence[Sequence[int]] | PairInputs | Batch
Baseline = None | float | str | Tensor
MOST = 100_000  # sequences that are still enumerated


@dataclass(frozen=True, eq=False)
class Answers:
    """Sequences for each prompt, neighbouring rows of one batch, and what each is worth."""

    batch: Batch  # (prompts * n, time); targets are the answers' tokens, IGNORE in the prompt and behind the end
    rewards: Float[Tensor, "prompts n"]
    weights: Float[Tensor, "prompts n"]  # their shares in the mean: 1 / n if drawn, p(y) if enumerated


@dataclass(frozen=True)
class RewardStep:
    """What one step of `reinforce_steps` did."""

    step: int  # 1 for the first
    reward: float  # mean over the sequences drawn, before the step
    tokens: int  # tokens drawn so far
    grad_norm: float  # before clipping
    seconds: float  # spent drawing, judging and training so far


def reinforce(
    model: LanguageModel,
    prompts: Prompts,
    reward: Reward,
    *,
    max_new_tokens: int,
    generator: torch.Generator,
    samples: int = 8,
    baseline: Baseline = "others",
    eos_id: int | Sequence[int] | None = None,
) -> Float[Tensor, ""]:
    """A loss whose gradient is, on average, that of minus the expected reward. Its value means nothing.

    Args:
        prompts: ids (rows, time) or (time,), or lists of ids; or PairInputs, whose sources are the questions; or a
            Batch of either, of which only the prompts are used (plain ids: each row up to its first target).
        reward: called with each answer and its question (the prompt, or the source without padding).
        samples: sequences drawn for each prompt.
        baseline: see `policy_loss`; also "greedy", the reward of the model's greedy answer (Rennie et al., 2017).

    Raises:
        ValueError: as in `sample` and `policy_loss`; a reward that is no finite number; a batch row without targets; no
            prompts; sources for a model without `given`.

    Source: Williams (1992); Ranzato et al. (2016); lecture 004.
    """
    asked = {"max_new_tokens": max_new_tokens, "eos_id": eos_id}
    answers = draw_answers(model, prompts, reward, samples=samples, generator=generator, **asked)
    return policy_loss(model, answers, _settled(baseline, model, prompts, reward, asked))


def policy_loss(model: LanguageModel, answers: Answers, baseline: Baseline = "others") -> Float[Tensor, ""]:
    """Mean of (R(y) - b) * -log p(y), the bracket a constant. Dropout is off, as it was when the answers were drawn.

    Args:
        baseline: None or a number; a tensor (prompts, n) or (prompts, 1); or "others", the mean reward of the
            prompt's other answers, which does not depend on the answer itself (Kool et al., 2019).

    Raises:
        ValueError: another word; a tensor of another shape; "others" for a single answer, or for answers that were
            enumerated.
    """
    surprise = -log_probabilities(model, answers)
    worth = (answers.rewards - _baseline(answers, baseline)).to(surprise)
    return (answers.weights.to(surprise) * worth * surprise).sum(-1).mean()


def expected_reward(
    model: LanguageModel,
    prompts: Prompts,
    reward: Reward,
    *,
    max_new_tokens: int,
    eos_id: int | Sequence[int] | None = None,
) -> Float[Tensor, ""]:
    """J = sum over all sequences y of p(y) R(y), its mean over the prompts: exact, and differentiable as it stands.

    Raises:
        ValueError: as in `every_answer`.
    """
    answers = every_answer(model, prompts, reward, max_new_tokens=max_new_tokens, eos_id=eos_id)
    p = log_probabilities(model, answers).exp()
    return (p * answers.rewards.to(p)).sum(-1).mean()


def log_probabilities(model: LanguageModel, answers: Answers) -> Float[Tensor, "prompts n"]:
    """log p(y) of each answer, from one pass over all of them; differentiable."""
    batch = answers.batch.to(model_device(model))
    with eval_mode(model):
        logits = model(batch.inputs)
    return -next_token_loss(logits, batch.targets, reduction="none").sum(-1).view(answers.rewards.shape)


def draw_answers(
    model: LanguageModel,
    prompts: Prompts,
    reward: Reward,
    *,
    max_new_tokens: int,
    generator: torch.Generator | None,
    samples: int = 8,
    eos_id: int | Sequence[int] | None = None,
) -> Answers:
    """`samples` sequences for each prompt from the model's own distribution, judged."""
    with eval_mode(model):
        reader, questions, starts = _read(model, prompts)
        asked = {"max_new_tokens": max_new_tokens, "eos_id": eos_id}
        drawn = sample(reader, starts, generator=generator, n=samples, **asked)
    written = [[drawn.tokens(row, n) for n in range(samples)] for row in range(len(starts))]
    return _judged(prompts, questions, starts, written, reward)


def greedy_answers(
    model: LanguageModel,
    prompts: Prompts,
    reward: Reward,
    *,
    max_new_tokens: int,
    eos_id: int | Sequence[int] | None = None,
) -> Answers:
    """The greedy sequence of each prompt, judged."""
    with eval_mode(model):
        reader, questions, starts = _read(model, prompts)
        written = greedy(reader, starts, max_new_tokens=max_new_tokens, eos_id=eos_id)
    return _judged(prompts, questions, starts, [[written.tokens(row)] for row in range(len(starts))], reward)


def every_answer(
    model: LanguageModel,
    prompts: Prompts,
    reward: Reward,
    *,
    max_new_tokens: int,
    eos_id: int | Sequence[int] | None = None,
) -> Answers:
    """All sequences that end with the end symbol or are max_new_tokens long, judged, weighted by their probability.

    Raises:
        ValueError: more than 100,000 for each prompt, max_new_tokens below 1, eos_id out of range.
    """
    check_integer("max_new_tokens", max_new_tokens, least=1)
    ends, _ = end_ids(model, eos_id, None)
    live, ended = [[]], []
    for _ in range(max_new_tokens):
        if len(live) * model.vocab_size + len(ended) > MOST:
            raise ValueError(
                f"{model.vocab_size} tokens and length {max_new_tokens}: more than {MOST:,} sequences to enumerate"
            )
        live = [[*y, token] for y in live for token in range(model.vocab_size)]
        ended += [y for y in live if y[-1] in ends]
        live = [y for y in live if y[-1] not in ends]
    with eval_mode(model):
        _, questions, starts = _read(model, prompts)
    answers = _judged(prompts, questions, starts, [ended + live] * len(starts), reward)
    with torch.no_grad():
        return replace(answers, weights=log_probabilities(model, answers).exp())


def reinforce_steps(
    model: nn.Module,
    prompts: Iterable[Prompts],
    reward: Reward,
    *,
    steps: int,
    max_new_tokens: int,
    generator: torch.Generator,
    lr: float = 1e-3,
    samples: int = 8,
    baseline: Baseline = "others",
    eos_id: int | Sequence[int] | None = None,
    clip: float = 1.0,
) -> Iterator[RewardStep]:
    """Train with `reinforce` alone, a RewardStep for each step of AdamW. Start from a model that can write already.

    Raises:
        ValueError: as in `reinforce`; `prompts` ends before `steps` steps.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    asked = {"max_new_tokens": max_new_tokens, "eos_id": eos_id}
    stream, tokens, seconds = iter(prompts), 0, 0.0
    for step in range(1, steps + 1):
        started = time.perf_counter()
        some = next(stream, None)
        if some is None:
            raise ValueError(f"prompts ended after {step - 1} steps; {steps} were asked for")
        answers = draw_answers(model, some, reward, samples=samples, generator=generator, **asked)
        optimizer.zero_grad()
        policy_loss(model, answers, _settled(baseline, model, some, reward, asked)).backward()
        norm = float(nn.utils.clip_grad_norm_(model.parameters(), clip))
        optimizer.step()
        tokens, seconds = tokens + answers.batch.tokens, seconds + time.perf_counter() - started
        yield RewardStep(step, float(answers.rewards.mean()), tokens, norm, seconds)


# --- prompts, answers, baselines


def _read(model, prompts: Prompts) -> tuple[LanguageModel, list[list[int]], list[list[int]]]:
    """The model that writes, each row's question (for the judge) and the ids that it starts from."""
    if isinstance(prompts, Batch) and isinstance(prompts.inputs, PairInputs):
        prompts = prompts.inputs
    if isinstance(prompts, PairInputs):
        if not hasattr(model, "given"):
            raise ValueError(f"the prompts have sources, but {type(model).__name__} has no .given(source) to read them")
        lengths = prompts.lengths.tolist()
        questions = [ids[:length] for ids, length in zip(prompts.source.tolist(), lengths, strict=True)]
        reader = model.given(prompts.source.to(model_device(model)), lengths=prompts.lengths)
        return reader, questions, prompts.prefix[:, :1].tolist()
    if isinstance(prompts, Batch):
        counts = prompts.targets != IGNORE
        if not counts.any(-1).all():
            raise ValueError(f"row {int((~counts.any(-1)).nonzero()[0])} of the batch has no target: where to start?")
        asked = counts.int().argmax(-1).tolist()  # each row's first target
        starts = [row[: first + 1] for row, first in zip(prompts.inputs.tolist(), asked, strict=True)]
    else:
        starts = prompts.tolist() if isinstance(prompts, Tensor) else list(prompts)
        if starts and isinstance(starts[0], int):
            starts = [starts]  # one prompt, as `sample` takes it
        starts = [list(ids) for ids in starts]
        if not starts:
            raise ValueError("there are no prompts; an empty one, [[]], starts from the model's bos_id")
    if model.bos_id is None and not all(starts):
        raise ValueError("a prompt is empty and the model has no bos_id to start from; give it a token")
    return model, starts, [ids or [model.bos_id] for ids in starts]


def _judged(prompts: Prompts, questions, starts, written: list[list[list[int]]], reward: Reward) -> Answers:
    n = len(written[0])
    rows = [start + answer for start, answers in zip(starts, written, strict=True) for answer in answers]
    inputs, targets = padded(rows, pad_id=0)
    for row, start in enumerate(ids for ids in starts for _ in range(n)):
        targets[row, : len(start) - 1] = IGNORE
    pairs = prompts.inputs if isinstance(prompts, Batch) else prompts
    if isinstance(pairs, PairInputs):
        inputs = PairInputs(pairs.source.repeat_interleave(n, 0), pairs.lengths.repeat_interleave(n, 0), inputs)
    judged = [[_finite(reward(y, x), y, x) for y in answers] for x, answers in zip(questions, written, strict=True)]
    rewards = torch.tensor(judged, dtype=torch.float64)
    return Answers(Batch(inputs, targets), rewards, torch.full_like(rewards, 1 / n))


def _finite(value: object, answer: list[int], question: list[int]) -> float:
    """The reward as a float; what is none must not get into the weights."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"the reward of answer {answer} to question {question} is {value!r}; it must be a finite number"
        )
    return number


def _settled(baseline: Baseline, model, prompts: Prompts, reward: Reward, asked: dict) -> Baseline:
    """With "greedy" replaced by what the greedy answers are worth."""
    if isinstance(baseline, str) and baseline == "greedy":
        return greedy_answers(model, prompts, reward, **asked).rewards
    return baseline


def _baseline(answers: Answers, baseline: Baseline) -> float | Tensor:
    if isinstance(baseline, Tensor) and baseline.dim():
        shape, needed = tuple(baseline.shape), tuple(answers.rewards.shape)
        if baseline.dim() != 2 or any(size not in (1, whole) for size, whole in zip(shape, needed, strict=True)):
            # One number a prompt, (prompts,), would be taken for one an answer where both are as many.
            raise ValueError(f"baseline has shape {shape}; needed (prompts, answers) = {needed}, or 1 in place of one")
    if not isinstance(baseline, str):
        return 0.0 if baseline is None else baseline
    if baseline != "others":
        raise ValueError(f"baseline is {baseline!r}; it must be None, a number, a tensor or 'others' (or 'greedy')")
    n = answers.rewards.size(1)
    if n < 2 or not torch.allclose(answers.weights, torch.full_like(answers.weights, 1 / n)):
        raise ValueError("baseline 'others' needs two or more drawn answers for each prompt: samples=2 at least")
    return (answers.rewards.sum(1, keepdim=True) - answers.rewards) / (n - 1)
