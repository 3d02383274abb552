"""What decoding hands out: a Step at a time, and the Generation at the end."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Step:
    """One new token in every row. Valid until the next step; `.keep()` copies what should last longer."""

    index: int  # 0 for the first new token
    logits: Float[Tensor, "rows vocab"]  # as the model gave them
    filtered: Float[Tensor, "rows vocab"]  # after the filters, removed tokens at -inf
    stages: tuple[tuple[object, Tensor], ...]  # each filter with the logits that it left
    chosen: Int[Tensor, "rows"]  # the new ids; pad_id in rows that had ended before
    logprob: Float[Tensor, "rows"]  # log p(chosen) under the raw model; 0 in rows that had ended before
    finished: Bool[Tensor, "rows"]  # rows whose end symbol has been chosen, this step included

    @property
    def kept(self) -> Bool[Tensor, "rows vocab"]:
        """Which tokens could have been drawn."""
        return self.filtered > -torch.inf

    def keep(self, top: int = 20) -> KeptStep:
        """A small copy that outlives the step: the `top` most probable tokens, before and after the filters.

        Memory then grows with steps times `top`, not with steps times the vocabulary.
        """
        if top < 1:
            raise ValueError(f"top is {top}; it must be 1 or more")
        raw = self.logits.float().log_softmax(dim=-1)
        filtered = self.filtered.float().log_softmax(dim=-1)
        ids = raw.sort(dim=-1, descending=True, stable=True).indices[:, :top].clone()  # a view would hold them all
        return KeptStep(
            index=self.index,
            ids=ids.cpu(),
            logprobs=raw.gather(-1, ids).cpu(),
            filtered_logprobs=filtered.gather(-1, ids).cpu(),
            survivors=self.kept.sum(dim=-1).cpu(),
            entropy=torch.special.entr(raw.exp()).sum(dim=-1).cpu(),
            chosen=self.chosen.cpu(),
            logprob=self.logprob.cpu(),
            finished=self.finished.cpu(),
        )


@dataclass(frozen=True, eq=False)
class KeptStep:
    """The part of a Step that a view needs; on the CPU, its own memory."""

    index: int
    ids: Int[Tensor, "rows top"]  # most probable first
    logprobs: Float[Tensor, "rows top"]  # under the raw model
    filtered_logprobs: Float[Tensor, "rows top"]  # after the filters: -inf where removed
    survivors: Int[Tensor, "rows"]  # how many tokens of the vocabulary could have been drawn
    entropy: Float[Tensor, "rows"]  # of the raw distribution, in nats
    chosen: Int[Tensor, "rows"]
    logprob: Float[Tensor, "rows"]
    finished: Bool[Tensor, "rows"]


@dataclass(frozen=True, eq=False)
class BeamStep:
    """One step of a beam search: the best continuations of all live beams, and what became of each. On the CPU.

    No vocabulary in it, so it may be kept: a search of T steps is T small records, and its tree can be drawn from them.
    `candidates` is (1 + number of end symbols) * beams, at least 2 * beams; fewer where the vocabulary is that small.
    """

    index: int  # 0 for the first new token
    parents: Int[Tensor, "batch candidates"]  # the live beam of the step before that each one continues; 0 at index 0
    tokens: Int[Tensor, "batch candidates"]
    logprobs: Float[Tensor, "batch candidates"]  # log p(token) under the raw model
    totals: Float[Tensor, "batch candidates"]  # sum of the scores so far, best first; -inf: there is no such candidate
    ended: Bool[Tensor, "batch candidates"]  # became a finished hypothesis at this step
    live: Int[Tensor, "batch beams"]  # the candidates that live on, best first; -1: no such beam
    done: Bool[Tensor, "batch"]  # no live beam of this prompt can change the result any more


@dataclass(frozen=True, eq=False)
class Generation:
    """New tokens only: n sequences for each prompt of the batch, best first where the decoder ranks them."""

    ids: Int[Tensor, "batch n time"]  # pad_id after the end symbol
    logprobs: Float[Tensor, "batch n time"]  # of each token under the raw model; 0 in the padding
    scores: Float[Tensor, "batch n"]  # what ranks them: the sum of logprobs, or what the decoder says
    lengths: Int[Tensor, "batch n"]  # tokens generated, the end symbol counted
    finished: Bool[Tensor, "batch n"]  # the end symbol was generated

    def tokens(self, row: int = 0, n: int = 0) -> list[int]:
        """The ids of one sequence, padding left away; the end symbol, if generated, is the last."""
        return self.ids[row, n, : int(self.lengths[row, n])].tolist()

    def to(self, device) -> Generation:
        """The same on another device."""
        names = ("ids", "logprobs", "scores", "lengths", "finished")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})
