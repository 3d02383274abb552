"""What a model is fed while it trains: the truth (teacher forcing), its own words, or some of each.

All three are streams of batches, so the loop is the same for each: `train(model, free_running(model, batches))`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from arlab.decoding.sampling import draw
from arlab.nn.language_model import LanguageModel, eval_mode, last_logits, model_device
from arlab.text.batches import Batch

Rate = float | Callable[[int], float]


def scheduled_sampling(
    model: LanguageModel,
    batches: Iterable[Batch],
    rate: Rate,
    *,
    generator: torch.Generator | None = None,
    argmax: bool = False,
) -> Iterator[Batch]:
    """Input tokens are replaced, each with probability `rate`, by what the model itself says at the position before.

    The model reads the row so far, replaced tokens included, and says what comes next (a draw, or its argmax); that
    goes into the input in place of the truth. The targets stay. No gradient flows through the choice. What was no
    target stays too: a row's first token, a prompt whose targets are IGNORE, padding. At rate 0 the batches pass
    unchanged: that is teacher forcing.

    Args:
        rate: a number, or a function of the batch's number (0, 1, ...), to let it grow.
        generator: for the coins and the draws; may be left out when there is neither.
        argmax: feed the likeliest token instead of a draw.

    Raises:
        ValueError: a rate outside [0, 1]; coins or draws without a generator.

    Source: Bengio et al. (2015); lectures 003 and 004.
    """
    for number, batch in enumerate(batches):
        now = rate(number) if callable(rate) else rate
        if not 0 <= now <= 1:
            raise ValueError(f"rate is {now} at batch {number}; it must lie between 0 and 1")
        if generator is None and (0 < now < 1 or (now > 0 and not argmax)):
            raise ValueError("coins and draws need a generator: give generator=..., or rate 1 with argmax=True")
        batch = Batch(*batch)
        yield batch if now == 0 else Batch(own_inputs(model, batch, now, generator, argmax), batch.targets)


def free_running(
    model: LanguageModel, batches: Iterable[Batch], *, generator: torch.Generator | None = None
) -> Iterator[Batch]:
    """Every input token that the model was asked for is its own: what lecture 003 calls regular training.

    Drawn when there is a generator, else its argmax.
    """
    return scheduled_sampling(model, batches, 1.0, generator=generator, argmax=generator is None)


@torch.no_grad()
def own_inputs(
    model: LanguageModel, batch: Batch, rate: float, generator: torch.Generator | None, argmax: bool
) -> Int[Tensor, "rows time"]:
    """The inputs with the model's own tokens in them: one pass for each position, where teacher forcing needs none."""
    rows, time = batch.inputs.shape
    device = model_device(model)
    coins = torch.rand(rows, time, generator=generator) if rate < 1 else torch.zeros(rows, time)
    asked = batch.targets[:, :-1] == batch.inputs[:, 1:]  # input t + 1 is what position t had to predict
    own = ((coins[:, 1:] < rate) & asked.cpu()).to(device)
    mixed = batch.inputs.to(device, copy=True)
    cache = model.new_cache(rows, time)
    with eval_mode(model):
        for t in range(time - 1):
            logits = last_logits(model, mixed[:, t : t + 1], cache)
            said = logits.argmax(-1) if argmax else draw(logits, generator)
            mixed[:, t + 1] = torch.where(own[:, t], said, mixed[:, t + 1])
    return mixed.to(batch.inputs.device)
