"""A model asked the same questions with 0, 1, 2, ... examples before them: what it says, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral

import torch
from torch import Tensor

from arlab.nn.language_model import LanguageModel, eval_mode, model_device
from arlab.text.shots import Pair, ShotTask, draw_examples, write_prompt


@dataclass(frozen=True)
class ShotResult:
    """One question, asked once."""

    task: str
    k: int  # examples in the prompt
    shuffled: bool  # whether they have each other's answers
    query: str
    answer: str  # the right one
    prompt: str
    said: str  # greedy: up to the end of the line, without spaces around it
    top: tuple[tuple[str, float], ...]  # the most probable first tokens, best first: (token as text, probability)
    correct: bool  # said == answer
    p_answer: float  # probability that the model, sampled, begins with the right answer: of all its tokens together
    examples: tuple[Pair, ...]
    tokens: int  # of the prompt
    seed: int  # of the examples


def ask(
    model: LanguageModel,
    tokenizer,
    tasks: ShotTask | Sequence[ShotTask],
    ks: Sequence[int] = (0, 1, 2, 4, 8),
    shuffled: Sequence[bool] = (False, True),
    queries: int | None = None,
    seed: int = 0,
    *,
    describe: bool = True,
    max_new_tokens: int = 8,
    top: int = 8,
) -> list[ShotResult]:
    """Every query of every task, with every number of examples, greedily decoded. No weight changes.

    All queries of a task have the same examples (another seed draws others), and those for a smaller k are the first
    of those for a larger one. So the examples are read once, into the cache, and only the queries differ. Without
    examples there is nothing to shuffle: k = 0 is asked once and entered for both.

    Args:
        queries: how many of each task's, from the first; None for all.
        describe: whether the prompt begins with the task's description.
        max_new_tokens: where an answer is cut that does not end its line.
        top: first tokens to keep.

    Returns:
        task by task, k by k, as they are in order first and then shuffled, query by query.

    Raises:
        ValueError: no task, k or query; a number of examples that the task does not have; a prompt that does not fit
            the model's context.
    """
    tasks = [tasks] if isinstance(tasks, ShotTask) else list(tasks)
    if not tasks or not ks or not shuffled:
        raise ValueError("there is nothing to ask: tasks, ks and shuffled need at least one entry each")
    for name, value in (("queries", queries), ("max_new_tokens", max_new_tokens), ("top", top)):
        wrong_kind = isinstance(value, bool) or not isinstance(value, Integral)
        if value is not None and (wrong_kind or value < 1):
            raise ValueError(f"{name} is {value!r}; it must be an integer of 1 or more")
    results: list[ShotResult] = []
    for task in tasks:
        for k in ks:
            asked: list[ShotResult] = []
            for mixed in shuffled:
                if k == 0 and asked:
                    results += [replace(each, shuffled=mixed) for each in asked]
                    continue
                generator = torch.Generator().manual_seed(seed)
                examples = draw_examples(task, k, shuffled=mixed, generator=generator)
                pairs = task.queries[:queries]
                prompts = [write_prompt(task, examples, query, describe=describe) for query, _ in pairs]
                lines = complete_lines(
                    model, tokenizer, prompts, [a for _, a in pairs], max_new_tokens=max_new_tokens, top=top
                )
                asked = [
                    ShotResult(
                        task=task.name,
                        k=k,
                        shuffled=mixed,
                        query=query,
                        answer=answer,
                        prompt=prompt,
                        said=line.said,
                        top=line.top,
                        correct=line.said == answer,
                        p_answer=line.p_answer,
                        examples=examples,
                        tokens=line.tokens,
                        seed=seed,
                    )
                    for (query, answer), prompt, line in zip(pairs, prompts, lines, strict=True)
                ]
                results += asked
    return results


def accuracy(results: Sequence[ShotResult]) -> dict[tuple[str, int, bool], float]:
    """(task, k, shuffled) -> the share of right answers, in the order of the results."""
    groups: dict[tuple[str, int, bool], list[bool]] = {}
    for each in results:
        groups.setdefault((each.task, each.k, each.shuffled), []).append(each.correct)
    return {key: sum(group) / len(group) for key, group in groups.items()}


@dataclass(frozen=True)
class Line:
    """How a model completes one prompt: see ShotResult."""

    said: str
    top: tuple[tuple[str, float], ...]
    p_answer: float
    tokens: int


@torch.inference_mode()
def complete_lines(
    model: LanguageModel,
    tokenizer,
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    max_new_tokens: int = 8,
    top: int = 8,
) -> list[Line]:
    """The rest of each prompt's last line, greedily, and the probability of its answer (put behind a space).

    What all prompts begin with goes through the model once; the cache is then copied for each.

    Raises:
        ValueError: no prompts, another number of answers, an empty prompt, one that does not fit the model's context.
    """
    if not prompts or len(prompts) != len(answers):
        raise ValueError(f"there are {len(prompts)} prompts and {len(answers)} answers; needed one each, at least one")
    rows = [tokenizer.encode(prompt) for prompt in prompts]
    if not all(rows):
        raise ValueError("a prompt is empty; there must be something to complete")
    targets = [tokenizer.encode(f" {answer}") for answer in answers]
    longest = max(map(len, rows)) + max(max_new_tokens, *map(len, targets))
    if model.context_length is not None and longest > model.context_length:
        raise ValueError(
            f"the longest prompt has {max(map(len, rows))} tokens; with its answer {longest} are needed, and the "
            f"model's context_length is {model.context_length}: take fewer examples"
        )
    shared = _shared(rows)
    with eval_mode(model):
        cache = model.new_cache(1 if shared else len(rows), longest)
        if shared:
            model(_tensor([rows[0][:shared]], model), cache)
            cache.reorder([0] * len(rows))
        # One pass over what is left of each prompt, with its right answer behind: the answer's probability.
        rest = [row[shared:] for row in rows]
        logits = model(_tensor([a + b for a, b in zip(rest, targets, strict=True)], model), cache)
        first, p_answers = [], []
        for row, (prompt, target) in enumerate(zip(rest, targets, strict=True)):
            logprobs = logits[row, len(prompt) - 1 :][: len(target)].float().log_softmax(-1)  # (answer, vocab)
            first.append(logprobs[0])
            p_answers.append(float(logprobs.cpu().double().gather(-1, torch.tensor(target)[:, None]).sum().exp()))
        cache.truncate([len(row) for row in rows])  # and the answer is forgotten again
        first = torch.stack(first)
        said = _greedy_lines(model, tokenizer, first, cache, max_new_tokens)
    strings, best = tokenizer.token_strings(), first.exp().topk(min(top, first.size(-1)))
    tops = [
        tuple((strings[i], p) for i, p in zip(ids, ps, strict=True))
        for ids, ps in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    return [Line(*each) for each in zip(said, tops, p_answers, map(len, rows), strict=True)]


def _greedy_lines(model, tokenizer, logits: Tensor, cache, max_new_tokens: int) -> list[str]:
    """What greedy decoding writes in each row before the line or the text ends."""
    written: list[list[int]] = [[] for _ in range(logits.size(0))]
    live = list(range(len(written)))
    for index in range(max_new_tokens):
        chosen = logits.argmax(-1).tolist()
        going = []  # places in `live` of the rows that go on
        for place, (row, token) in enumerate(zip(live, chosen, strict=True)):
            if token == tokenizer.eos_id:
                continue
            written[row].append(token)
            if "\n" not in tokenizer.decode(written[row]).lstrip():
                going.append(place)
        if not going or index == max_new_tokens - 1:
            break
        if len(going) < len(live):
            cache.reorder(going)
            live = [live[place] for place in going]
        ids = torch.tensor([[written[row][-1]] for row in live])
        logits = model(ids.to(logits.device), cache)[:, -1]
    # A line break right at the start is a way to begin, not an answer: it is passed over like a space.
    return [tokenizer.decode(ids).strip().split("\n")[0].strip() for ids in written]


def _shared(rows: list[list[int]]) -> int:
    """How many first tokens all rows have in common, of which each has at least one more."""
    limit = min(map(len, rows)) - 1
    return next((i for i in range(limit) if len({row[i] for row in rows}) > 1), limit)


def _tensor(rows: list[list[int]], model) -> Tensor:
    """Right-padded; any id that the model has will do."""
    longest = max(map(len, rows))
    return torch.tensor([row + [row[-1]] * (longest - len(row)) for row in rows]).to(model_device(model))
