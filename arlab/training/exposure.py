"""What a model is fed while it trains: the truth (teacher forcing), its own words, some of each, or noise.

All are streams of batches, so the loop is the same for each: `train(model, free_running(model, batches))`. A batch of
an encoder-decoder (PairInputs) will do as well as one of plain ids: what is replaced is always the decoder's prefix.
`accuracy_by_position` measures what becomes of a model that has to live on its own words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from arlab.decoding.sampling import draw
from arlab.nn.language_model import LanguageModel, eval_mode, last_logits, model_device
from arlab.text.batches import IGNORE, Batch
from arlab.text.pairs import PairInputs

Rate = float | Callable[[int], float]
Checker = Callable[[Batch, Tensor], Tensor]


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
        ValueError: a rate outside [0, 1]; coins or draws without a generator; pairs for a model without `given`.

    Source: Bengio et al. (2015); lectures 003 and 004.
    """
    for number, batch in enumerate(batches):
        now = _rate_at(rate, number)
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


def corrupt_prefixes(
    batches: Iterable[Batch], rate: Rate, vocab_size: int, *, generator: torch.Generator
) -> Iterator[Batch]:
    """Input tokens are replaced, each with probability `rate`, by another token at random; the targets stay.

    No model has a say, so it costs nothing: the rows are still run in one pass. Only inputs that were the target of
    the position before are touched: a row's first token, a prompt, a source and padding stay.

    Args:
        rate: a number, or a function of the batch's number.
        vocab_size: the wrong tokens come from 0 .. vocab_size - 1, all others than the true one equally likely.

    Raises:
        ValueError: a rate outside [0, 1], a vocabulary of fewer than 2 tokens.

    Source: word dropout (Bowman et al., 2016; Xie et al., 2017), with wrong words in place of missing ones.
    """
    if vocab_size < 2:
        raise ValueError(f"vocab_size is {vocab_size}; a wrong token needs 2 or more to be drawn from")
    return _corrupted(batches, rate, vocab_size, generator)


def _corrupted(batches, rate: Rate, vocab_size: int, generator: torch.Generator) -> Iterator[Batch]:
    for number, batch in enumerate(batches):
        now, batch = _rate_at(rate, number), Batch(*batch)
        ids = _ids(batch.inputs)
        hit = torch.rand(ids.shape, generator=generator)[:, 1:] < now
        fed = ids.clone()
        fed[:, 1:] = torch.where(
            hit.to(ids.device) & _asked(batch), _another(ids[:, 1:], vocab_size, generator), fed[:, 1:]
        )
        yield Batch(_with_ids(batch.inputs, fed), batch.targets)


class ByPosition(NamedTuple):
    """How often the model was right at each position, and of how many: nan where nothing was asked."""

    accuracy: Float[Tensor, "time"]
    counts: Int[Tensor, "time"]


@torch.no_grad()
def accuracy_by_position(
    model: LanguageModel,
    batches: Iterable[Batch],
    *,
    free_running: bool = False,
    slip: float = 0.0,
    symbols: int | None = None,
    correct: Checker | None = None,
    generator: torch.Generator | None = None,
) -> ByPosition:
    """The share of right words (the model's argmax) at each position, fed the truth or fed its own words.

    Both runs answer the same questions, the batches' targets; they differ in the prefix alone. Dropout is off.

    Args:
        free_running: the prefix is the model's own greedy one, wherever it was asked for. False: teacher forcing.
        slip: while it runs free, a word is replaced, with this probability, by another at random before it is fed
            back: an accident in decoding, as an unlucky draw would be. The accident itself is not counted as the
            model's error; what the model says afterwards is.
        symbols: slips come from ids 0 .. symbols - 1. None: the model's whole vocabulary.
        correct: the checker of a task, called with (batch, said): the batch with the inputs as they were fed, and
            what the model said (rows, time); returns booleans (rows, time). None: said equals the target.
        generator: for the slips.

    Raises:
        ValueError: a slip outside [0, 1], without free running, or without a generator; fewer than 2 symbols; no
            target at all; a checker that returns another shape, or no booleans.
    """
    if not 0 <= slip <= 1:
        raise ValueError(f"slip is {slip}; it must lie between 0 and 1")
    if slip and not free_running:
        raise ValueError("slip needs free_running=True: the teacher does not slip")
    if symbols is not None and symbols < 2:
        raise ValueError(f"symbols is {symbols}; a slip needs 2 or more to be drawn from")
    if slip and generator is None:
        raise ValueError("slips are drawn: give generator=...")
    right, counts = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    device = model_device(model)
    for batch in batches:
        batch = Batch(*batch)
        if free_running:
            own = own_inputs(model, batch, 1.0, generator, argmax=True, slip=slip, symbols=symbols)
            batch = Batch(own, batch.targets)
        with eval_mode(model):
            said = model(batch.inputs.to(device)).argmax(-1).to(batch.targets.device)
        good = said == batch.targets if correct is None else correct(batch, said)
        if good.shape != said.shape:
            raise ValueError(f"correct returned shape {tuple(good.shape)}; needed (rows, time) = {tuple(said.shape)}")
        if good.dtype != torch.bool:
            raise ValueError(f"correct returned {good.dtype}; needed booleans, right or wrong")
        asked = batch.targets != IGNORE
        right = _longer(right, (good & asked).sum(0).float().cpu())
        counts = _longer(counts, asked.sum(0).cpu())
    if not counts.any():
        raise ValueError("there is nothing to measure: no batch has a target that counts")
    return ByPosition(right / counts, counts)


@torch.no_grad()
def own_inputs(
    model: LanguageModel,
    batch: Batch,
    rate: float,
    generator: torch.Generator | None,
    argmax: bool,
    *,
    slip: float = 0.0,
    symbols: int | None = None,
) -> Int[Tensor, "rows time"] | PairInputs:
    """The inputs with the model's own tokens in them: one pass for each position, where teacher forcing needs none.

    Raises:
        ValueError: PairInputs for a model without `given`.
    """
    rows, time = batch.inputs.shape
    device = model_device(model)
    coins = torch.rand(rows, time, generator=generator) if rate < 1 else torch.zeros(rows, time)
    own = ((coins[:, 1:] < rate) & _asked(batch).cpu()).to(device)
    with eval_mode(model):
        inputs = batch.inputs.to(device)
        reader = _reader(model, inputs)
        mixed = _ids(inputs).clone()
        cache = reader.new_cache(rows, time)
        for t in range(time - 1):
            logits = last_logits(reader, mixed[:, t : t + 1], cache)
            said = logits.argmax(-1) if argmax else draw(logits, generator)
            if slip:
                slips = torch.rand(rows, generator=generator).to(device) < slip
                said = torch.where(slips, _another(said, symbols or reader.vocab_size, generator), said)
            mixed[:, t + 1] = torch.where(own[:, t], said, mixed[:, t + 1])
    return _with_ids(batch.inputs, mixed.to(batch.targets.device))


# --- batches of plain ids and of pairs


def _ids(inputs: Tensor | PairInputs) -> Int[Tensor, "rows time"]:
    """What the decoder reads: the part that may be replaced."""
    return inputs.prefix if isinstance(inputs, PairInputs) else inputs


def _with_ids(inputs: Tensor | PairInputs, ids: Tensor) -> Tensor | PairInputs:
    return replace(inputs, prefix=ids) if isinstance(inputs, PairInputs) else ids


def _reader(model, inputs: Tensor | PairInputs) -> LanguageModel:
    """The language model that reads the prefixes: the model itself, or what it is given the sources."""
    if not isinstance(inputs, PairInputs):
        return model
    if not hasattr(model, "given"):
        raise ValueError(f"the batch has sources, but {type(model).__name__} has no .given(source) to read them with")
    return model.given(inputs.source, lengths=inputs.lengths)


def _asked(batch: Batch) -> Bool[Tensor, "rows time_less_one"]:
    """[r, t]: input t + 1 is what position t had to predict, and a later position has something to predict from it.

    (Behind the last target stands padding, which may have the very id of the end symbol.)
    """
    counts = (batch.targets != IGNORE).int()
    later = counts.sum(-1, keepdim=True) - counts.cumsum(-1)
    return (batch.targets[:, :-1] == _ids(batch.inputs)[:, 1:]) & (later[:, :-1] > 0)


def _another(ids: Int[Tensor, "..."], size: int, generator: torch.Generator) -> Int[Tensor, "..."]:
    """For each id a token of 0 .. size - 1 other than it, all equally likely."""
    step = 1 + torch.randint(size - 1, ids.shape, generator=generator).to(ids.device)
    anywhere = torch.randint(size, ids.shape, generator=generator).to(ids.device)  # for an id that is not among them
    return torch.where(ids < size, (ids + step) % size, anywhere)


def _rate_at(rate: Rate, number: int) -> float:
    now = rate(number) if callable(rate) else rate
    if not 0 <= now <= 1:
        raise ValueError(f"rate is {now} at batch {number}; it must lie between 0 and 1")
    return now


def _longer(total: Tensor, more: Tensor) -> Tensor:
    """Their sum, where the shorter one counts as 0 beyond its end."""
    size = max(len(total), len(more))
    return sum(torch.cat([part, part.new_zeros(size - len(part))]) for part in (total, more))
