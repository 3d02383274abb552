"""Exact answers about filling gaps: a masked model that is right, the law of parallel decoding, pseudo-likelihood."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from arlab.decoding.parallel import checked_gaps, filled_after, first_of, gap_logits, surest
from arlab.nn.language_model import model_device

Sequences = Mapping[tuple[int, ...], float]
LARGEST = 100_000  # fillings that parallel_law enumerates


class MaskedWorld:
    """The perfect masked model of a law over sequences of one length: p(x_i | all that is visible), by counting.

    `vocab_size` is also its mask symbol, an input that is never predicted. Where what is visible is impossible (two
    gaps filled side by side can make it so), no conditional exists; it is uniform there: a model must say something.
    """

    def __init__(self, law: Sequences | Iterable[tuple[Sequence[int], float]], vocab_size: int):
        """
        Args:
            law: sequence -> probability, such as `dict(tree.enumerate())`.

        Raises:
            ValueError: sequences of unequal length, one that comes twice, ids out of range, probabilities negative or
                not summing to 1.
        """
        items = [(tuple(ids), float(p)) for ids, p in (law.items() if isinstance(law, Mapping) else law)]
        lengths = sorted({len(ids) for ids, _ in items})
        if len(lengths) != 1 or lengths[0] == 0:
            raise ValueError(f"the sequences have lengths {lengths}; a masked world has one length, 1 or more")
        if len(dict(items)) < len(items):
            raise ValueError("a sequence comes twice; give each its whole probability once")
        if any(not 0 <= i < vocab_size for ids, _ in items for i in ids):
            raise ValueError(f"a sequence has an id outside 0 to {vocab_size - 1}")
        if any(not p >= 0 for _, p in items) or abs(sum(p for _, p in items) - 1) > 1e-9:
            raise ValueError(
                f"the probabilities sum to {sum(p for _, p in items)}; they must be 0 or more and sum to 1"
            )
        self.law, self.vocab_size, self.mask_id, self.length = dict(items), vocab_size, vocab_size, lengths[0]
        self._ids = torch.tensor([ids for ids, _ in items])  # (sequences, length)
        self._p = torch.tensor([p for _, p in items], dtype=torch.float64)

    def __call__(self, ids: Int[Tensor, "rows time"]) -> Float[Tensor, "rows time vocab"]:
        """log p(x_i | the visible tokens other than x_i) for every position, in float64."""
        if ids.dim() != 2 or ids.size(1) != self.length:
            raise ValueError(f"ids has shape {tuple(ids.shape)}; this world has rows of {self.length} tokens")
        agrees = (ids[:, None] == self._ids) | (ids[:, None] == self.mask_id)  # (rows, sequences, time)
        others = (~agrees).sum(dim=-1, keepdim=True) - (~agrees).long() == 0  # every OTHER position agrees
        one_hot = torch.nn.functional.one_hot(self._ids, self.vocab_size).double()
        mass = torch.einsum("rst,s,stv->rtv", others.double(), self._p, one_hot)
        total = mass.sum(dim=-1, keepdim=True)
        return torch.where(total > 0, mass / total, 1 / self.vocab_size).log()


def parallel_law(
    model: Callable,
    ids: Int[Tensor, "time"] | Sequence[int],
    *,
    mask_id: int,
    steps: int,
    order: Sequence[int] | None = None,
) -> dict[tuple[int, ...], float]:
    """Every row that `parallel_decoding` with draws can end in, and its exact probability: no draw is made.

    Args:
        ids: one row with its gaps. Others: as in `parallel_decoding`.

    Raises:
        ValueError: as there, and a row with more than 100,000 possible fillings.
    """
    start = torch.as_tensor(ids).cpu()[None]
    gaps = checked_gaps(start, mask_id, steps, order)
    number = gaps.sum(dim=1)
    law = {tuple(start[0].tolist()): 1.0}
    for done in range(1, min(steps, int(number)) + 1):
        rows = torch.tensor(list(law))
        logits = gap_logits(model, rows.to(model_device(model)), mask_id).cpu()
        p = logits.double().softmax(dim=-1)
        now_open = rows == mask_id
        more = filled_after(number, steps, done) - (number - now_open.sum(dim=1))
        chosen = first_of(surest(logits), now_open, more, order)
        after: dict[tuple[int, ...], float] = {}
        for row, mass, mine, where in zip(rows.tolist(), law.values(), p, chosen, strict=True):
            positions = where.nonzero()[:, 0].tolist()
            possible = [[(v, float(q)) for v, q in enumerate(mine[t]) if q > 0] for t in positions]
            if len(after) + math.prod(map(len, possible)) > LARGEST:
                raise ValueError(f"the row has more than {LARGEST:,} fillings; give it fewer gaps")
            for tokens in itertools.product(*possible):
                filled = list(row)
                for t, (token, _) in zip(positions, tokens, strict=True):
                    filled[t] = token
                key = tuple(filled)
                after[key] = after.get(key, 0.0) + mass * math.prod(q for _, q in tokens)
        law = after
    return law


def total_variation(p: Sequences, q: Sequences) -> float:
    """Half the sum of |p - q|: the largest difference in the probability of any event; 0 equal, 1 disjoint."""
    return sum(abs(p.get(x, 0.0) - q.get(x, 0.0)) for x in {*p, *q}) / 2


def pseudo_log_likelihood(
    model: Callable, ids: Int[Tensor, "rows time"] | Sequence[Sequence[int]], *, mask_id: int
) -> Float[Tensor, "rows time"]:
    """log p(x_t | all the others), each position masked in turn: `time` passes. Its sum is not a log-likelihood.

    The factors condition on each other in a circle, so exp(sum) does not sum to 1 over all sequences (Besag, 1975).

    Raises:
        ValueError: ids that are not integers (rows, time), or that have a gap.
    """
    ids = torch.as_tensor(ids).to(model_device(model))
    if ids.dim() != 2 or ids.numel() == 0 or ids.is_floating_point():
        raise ValueError(f"ids has shape {tuple(ids.shape)} and dtype {ids.dtype}; needed integers (rows, time)")
    if bool((ids == mask_id).any()):
        raise ValueError(f"ids hold mask_id = {mask_id}; only whole sequences have a pseudo-likelihood")
    columns = []
    for t in range(ids.size(1)):
        asked = ids.clone()
        asked[:, t] = mask_id
        logits = gap_logits(model, asked, mask_id)[:, t]
        columns.append(logits.log_softmax(dim=-1).gather(-1, ids[:, t : t + 1])[:, 0])
    return torch.stack(columns, dim=1)
