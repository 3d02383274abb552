"""Greedy decoding and sampling: predict, filter, choose, append, and again.

The loop is written once, as an iterator of Steps (`greedy_steps`, `sample_steps`); `greedy` and `sample` run it to
its end and gather a Generation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from numbers import Integral

import torch
from jaxtyping import Float, Int
from torch import Tensor

from arlab.decoding.filters import Filter, in_float64, peak_of, stages
from arlab.decoding.prompts import Prompts, read_prompts
from arlab.decoding.records import Generation, Step
from arlab.nn.language_model import LanguageModel, last_logits

CHECK_EVERY = 16  # on a GPU the host asks only now and then whether all rows have ended: asking means waiting


def greedy(
    model: LanguageModel,
    prompt: Tensor | Sequence,
    *,
    max_new_tokens: int,
    mask: Tensor | None = None,
    eos_id: int | Sequence[int] | None = None,
    pad_id: int | None = None,
) -> Generation:
    """Always the most probable token; ties go to the lowest id. Lecture 000.

    Args:
        prompt: ids (batch, time) or (time,), or lists of ids, which may be ragged.
        max_new_tokens: stop after so many in any case.
        mask: (batch, time), True for real tokens, for a tensor of ragged prompts padded on the left.
        eos_id: the end symbol (or several); a row ends when it is chosen. None: run to max_new_tokens.
        pad_id: what fills a row after its end; by default the (first) end symbol.

    Returns:
        Generation with n = 1.

    Raises:
        ValueError, TypeError: see `read_prompts`; eos_id or pad_id out of range; logits that are NaN or all -inf.
    """
    steps = greedy_steps(model, prompt, max_new_tokens=max_new_tokens, mask=mask, eos_id=eos_id, pad_id=pad_id)
    return gather(steps, n=1)


def sample(
    model: LanguageModel,
    prompt: Tensor | Sequence,
    *,
    max_new_tokens: int,
    filters: Sequence[Filter] = (),
    generator: torch.Generator | None = None,
    n: int = 1,
    mask: Tensor | None = None,
    eos_id: int | Sequence[int] | None = None,
    pad_id: int | None = None,
) -> Generation:
    """Draw each token from the model's distribution, filtered. Lectures 000 and 004.

    Args:
        filters: applied in the order written, for example [Temperature(0.7), TopP(0.9)].
        generator: where the draws come from; the same seed gives the same text. None: torch's global one.
        n: sequences for each prompt.
        Others: as in `greedy`.

    Returns:
        Generation (batch, n, time), in the order drawn; its logprobs are those of the raw model.

    Raises:
        ValueError, TypeError: as in `greedy`, and n below 1.
    """
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
        raise ValueError(f"n is {n!r}; it must be an integer of 1 or more")
    steps = sample_steps(
        model,
        prompt,
        max_new_tokens=max_new_tokens,
        filters=filters,
        generator=generator,
        n=n,
        mask=mask,
        eos_id=eos_id,
        pad_id=pad_id,
    )
    return gather(steps, n)


def greedy_steps(model, prompt, *, max_new_tokens, mask=None, eos_id=None, pad_id=None) -> Iterator[Step]:
    """`greedy`, a Step at a time."""
    prompts = read_prompts(model, prompt, mask, max_new_tokens)
    return _steps(model, prompts, max_new_tokens, (), most_probable, eos_id, pad_id)


def sample_steps(
    model, prompt, *, max_new_tokens, filters=(), generator=None, n=1, mask=None, eos_id=None, pad_id=None
) -> Iterator[Step]:
    """`sample`, a Step at a time; the n sequences of a prompt are neighbouring rows."""
    prompts = read_prompts(model, prompt, mask, max_new_tokens).repeat(n)
    return _steps(model, prompts, max_new_tokens, filters, lambda logits: draw(logits, generator), eos_id, pad_id)


def draw(logits: Float[Tensor, "rows vocab"], generator: torch.Generator | None = None) -> Int[Tensor, "rows"]:
    """One token for each row, by inverting the cumulative distribution at one uniform number a row.

    Tokens lie along [0, 1) in the order of their ids, each as wide as its probability; u falls into one of them.
    The uniforms are float64 and come from the generator's own device (a CPU generator serves a GPU model too).

    Raises:
        ValueError: logits that are not (rows, vocab); on a CPU, a row that is NaN, +inf or all -inf.
    """
    if logits.dim() != 2:
        raise ValueError(f"logits have shape {tuple(logits.shape)}; needed (rows, vocab), for one draw a row")
    mass = (logits.float() - peak_of(logits).float()).exp()  # removed tokens: exp(-inf) = 0, no width at all
    edges = in_float64(mass).cumsum(dim=-1)  # (rows, vocab): the right end of each token
    device = edges.device if generator is None else generator.device
    u = torch.rand(logits.size(0), 1, generator=generator, device=device, dtype=torch.float64).to(edges.device)
    # u * total must stay below the total, or it would fall behind the last token: rounding could lift it there.
    u = u.clamp(max=1 - 2**-52)
    # right=True: u = 0 must not fall on a token of no width at the front.
    return torch.searchsorted(edges, u * edges[:, -1:], right=True)[:, 0].to(logits.device)


def most_probable(logits: Float[Tensor, "rows vocab"]) -> Int[Tensor, "rows"]:
    """The argmax of each row, the lowest id among equals.

    Raises:
        ValueError: on a CPU, when a row is NaN, +inf or all -inf.
    """
    peak_of(logits)
    return logits.argmax(dim=-1)


def _steps(
    model: LanguageModel,
    prompts: Prompts,
    max_new_tokens: int,
    filters: Sequence[Filter],
    choose: Callable[[Tensor], Tensor],
    eos_id: int | Sequence[int] | None,
    pad_id: int | None,
) -> Iterator[Step]:
    """The loop. No grad mode is held across a `yield`: it would leak into whoever consumes the iterator."""
    ends, pad = end_ids(model, eos_id, pad_id)
    # A function of its own, not a generator: bad input raises now and not at the first next().
    return _loop(model, prompts, max_new_tokens, tuple(filters), choose, ends, pad)


def _loop(model, prompts: Prompts, max_new_tokens: int, filters, choose, ends: list[int], pad: int) -> Iterator[Step]:
    if max_new_tokens == 0:
        return
    rows, device = prompts.ids.size(0), prompts.ids.device
    cache = model.new_cache(rows, max(prompts.lengths) + max_new_tokens)
    finished = torch.zeros(rows, dtype=torch.bool, device=device)
    end = torch.tensor(ends, device=device)
    ids, lengths = prompts.ids, None if prompts.even else prompts.lengths
    for index in range(max_new_tokens):
        with torch.inference_mode():  # a sixth faster than no_grad: hundreds of small operations a token
            logits = last_logits(model, ids, cache, lengths)  # (rows, vocab)
        with torch.no_grad():
            logits = logits.clone()  # an ordinary tensor again: a student may compute gradients with it
            if lengths is not None:
                cache.truncate(lengths)  # forget the padding behind the shorter prompts
                lengths = None
            seen = stages(filters, logits)
            filtered = seen[-1][1] if seen else logits
            chosen = choose(filtered)
            logprob = logits.float().log_softmax(dim=-1).gather(-1, chosen[:, None])[:, 0]
            if ends:
                chosen = chosen.masked_fill(finished, pad)
                logprob = logprob.masked_fill(finished, 0.0)
                finished = finished | torch.isin(chosen, end)
            ids = chosen[:, None]
        yield Step(index, logits, filtered, seen, chosen, logprob, finished)
        if device.type == "cpu" or index % CHECK_EVERY == CHECK_EVERY - 1:
            if ends and finished.all():
                return
            if device.type != "cpu" and logprob.isnan().any():
                raise ValueError(f"NaN log-probability within the last {CHECK_EVERY} steps: the logits are damaged")


def end_ids(model: LanguageModel, eos_id: int | Sequence[int] | None, pad_id: int | None) -> tuple[list[int], int]:
    """The end symbols as a list, and what to pad with."""
    ends = [] if eos_id is None else [eos_id] if isinstance(eos_id, Integral) else list(eos_id)
    pad = pad_id if pad_id is not None else ends[0] if ends else 0
    for name, value in [*(("eos_id", end) for end in ends), ("pad_id", pad)]:
        if isinstance(value, bool) or not isinstance(value, Integral) or not 0 <= value < model.vocab_size:
            raise ValueError(f"{name} is {value!r}; it must be an id between 0 and {model.vocab_size - 1}")
    return ends, pad


def gather(steps: Iterator[Step], n: int) -> Generation:
    """Run the steps to their end; keep ids and log-probabilities, not the logits."""
    chosen, logprobs, finished_before, finished = [], [], [], None
    for step in steps:
        finished_before.append(torch.zeros_like(step.finished) if finished is None else finished)
        chosen.append(step.chosen)
        logprobs.append(step.logprob)
        finished = step.finished
    if finished is None:
        raise ValueError("max_new_tokens is 0: there is nothing to generate")
    ids = torch.stack(chosen, dim=-1).unflatten(0, (-1, n))  # (batch, n, time)
    logprob = torch.stack(logprobs, dim=-1).unflatten(0, (-1, n))
    lengths = (~torch.stack(finished_before, dim=-1)).sum(dim=-1).unflatten(0, (-1, n))
    longest = int(lengths.max())  # a GPU may have run a few steps past the last end
    return Generation(
        ids=ids[..., :longest],
        logprobs=logprob[..., :longest],
        scores=logprob.sum(dim=-1),
        lengths=lengths,
        finished=finished.unflatten(0, (-1, n)),
    )
