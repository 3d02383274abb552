"""What a model writes after each error that can be put into an answer, and what would be right there."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from arlab.decoding.prompts import read_prompts
from arlab.decoding.sampling import most_probable
from arlab.nn.given import GivenSource
from arlab.nn.language_model import LanguageModel, eval_mode, last_logits, model_device

NOTHING = -1  # stands where a model has written its end symbol before
ROWS = 1024  # continuations that run side by side


def continuations(
    model: LanguageModel,
    answer: Sequence[int],
    choices: Sequence[int],
    *,
    prompt: Sequence[int] = (),
    eos_id: int | None = None,
) -> Int[Tensor, "positions symbols time"]:
    """What a model writes, greedily, after each of the choices at each position of the answer: on the CPU.

    Row [p, c] is answer[:p], then choices[c], then the model's own likeliest symbols up to the answer's length, with
    NOTHING after its end symbol; the last c, one behind the choices, is the right symbol, answer[p]. All rows run side
    by side in eval mode and without gradients: as many passes as the answer has symbols.

    Raises:
        ValueError: ids that the model does not have, an answer and a prompt longer than its context, an empty prompt
            for a model without a bos_id, a model given several sources, logits that are damaged.
    """
    if isinstance(model, GivenSource) and model.source.size(0) != 1:
        raise ValueError(f"the model was given {model.source.size(0)} sources; one answer has one: model.given(source)")
    time, width = len(answer), len(choices) + 1
    for name, ids in (("answer", answer), ("choices", choices)):
        if not all(0 <= i < model.vocab_size for i in ids):
            raise ValueError(f"{name} is {list(ids)}; the model's ids lie between 0 and {model.vocab_size - 1}")
    start = read_prompts(model, list(prompt), None, time - 1).ids
    error_at = torch.arange(time).repeat_interleave(width)
    rows = torch.tensor(answer).repeat(time * width, 1)
    rows[torch.arange(time * width), error_at] = torch.tensor([[*choices, here] for here in answer]).flatten()
    parts = zip(rows.split(ROWS), error_at.split(ROWS), strict=True)
    done = [_go_on(model, start, part, at, eos_id) for part, at in parts]
    return torch.cat(done).view(time, width, time)


@torch.no_grad()
def _go_on(
    model: LanguageModel, start: Tensor, rows: Tensor, error_at: Tensor, eos_id: int | None
) -> Int[Tensor, "rows time"]:
    """The rows with all that stands behind error_at replaced by the model's own symbols."""
    time, device = rows.size(1), model_device(model)
    rows, error_at = rows.to(device, copy=True), error_at.to(device)
    ended = torch.zeros_like(error_at, dtype=torch.bool)
    wrote = rows.clone()
    ids = start.to(device).expand(rows.size(0), -1)
    with eval_mode(model):  # a source is encoded when the cache is made
        cache = model.new_cache(rows.size(0), start.size(1) + time - 1)
        for t in range(time):
            own = error_at < t
            said = most_probable(last_logits(model, ids, cache))
            wrote[:, t] = torch.where(own, said, rows[:, t]).masked_fill(ended, NOTHING)
            rows[:, t] = torch.where(own, said, rows[:, t])
            if eos_id is not None:
                ended |= own & (said == eos_id)
            ids = rows[:, t : t + 1]
    return wrote.cpu()


def right_after(
    answer: list[int], choices: list[int], correct: Callable[[list[int]], Sequence[int]] | None = None
) -> Int[Tensor, "positions symbols time"]:
    """What would be right at each place of `continuations`: the answer, or what correct(answer[:p] + [error]) says.

    Raises:
        ValueError: when `correct` gives fewer symbols than are to follow.
    """
    time, width = len(answer), len(choices) + 1
    right = torch.tensor(answer).repeat(time, width, 1)
    for p in range(time - 1 if correct is not None else 0):
        for c, choice in enumerate(choices):
            if choice == answer[p]:
                continue
            prefix = [*answer[:p], choice]
            rest = [operator.index(i) for i in correct(list(prefix))][: time - p - 1]
            if len(rest) < time - p - 1:
                raise ValueError(f"correct({prefix}) gave {len(rest)} symbols; {time - p - 1} are to follow")
            right[p, c, p + 1 :] = torch.tensor(rest)
    return right
