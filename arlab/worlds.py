"""Tiny language models whose every sequence can be enumerated: the exact answer to compare a decoder with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from arlab.nn.cache import HistoryCache
from arlab.nn.language_model import checked_ids

Prefix = tuple[int, ...]


class TreeLM:
    """A language model written out: for each prefix, the distribution of the next token.

    Its sequences end at the end symbol, or at `max_length` tokens. It satisfies the language-model protocol:
    `bos_id` equals `vocab_size`, a start symbol that is read and never predicted, so that the empty prefix has an
    input too; ids may come with or without it in front.
    """

    context_length: int | None = None

    def __init__(
        self,
        probabilities: Mapping[Prefix, Sequence[float]],
        *,
        max_length: int,
        eos_id: int | None = None,
        names: Sequence[str] | None = None,
        default: Sequence[float] | None = None,
    ):
        """
        Args:
            probabilities: prefix -> probabilities of the next token; () is the empty prefix.
            max_length: no sequence is longer than this many tokens, the end symbol counted.
            eos_id: the end symbol, if there is one.
            names: a readable name for each token.
            default: the distribution after every prefix that is not listed.

        Raises:
            ValueError: an empty table, distributions of unequal size, negative or not summing to 1.
        """
        if () not in probabilities and default is None:
            raise ValueError("the table has no entry for the empty prefix () and no default")
        if max_length < 1:
            raise ValueError(f"max_length is {max_length}; it must be 1 or more")
        self.table = {tuple(prefix): _checked(row, prefix) for prefix, row in probabilities.items()}
        self.default = None if default is None else _checked(default, "default")
        sizes = {len(row) for row in (*self.table.values(), *([self.default] if self.default else []))}
        if len(sizes) != 1:
            raise ValueError(f"the distributions have sizes {sorted(sizes)}; one vocabulary has one size")
        self.vocab_size = sizes.pop()
        self.bos_id = self.vocab_size
        if eos_id is not None and not 0 <= eos_id < self.vocab_size:
            raise ValueError(f"eos_id is {eos_id}; it must lie between 0 and {self.vocab_size - 1}")
        self.eos_id, self.max_length = eos_id, max_length
        self.names = list(names) if names is not None else [str(i) for i in range(self.vocab_size)]
        if len(self.names) != self.vocab_size:
            raise ValueError(f"there are {len(self.names)} names for {self.vocab_size} tokens")

    @classmethod
    def random(
        cls, vocab_size: int, max_length: int, generator: torch.Generator, *, eos_id: int | None = None, sharp=1.0
    ) -> TreeLM:
        """Independent random distributions at every prefix; `sharp` scales their logits."""
        table, prefixes = {}, [()]
        for _ in range(max_length):
            for prefix in prefixes:
                logits = sharp * torch.randn(vocab_size, generator=generator, dtype=torch.float64)
                table[prefix] = logits.softmax(-1).tolist()
            prefixes = [(*p, i) for p in prefixes for i in range(vocab_size) if i != eos_id]
        return cls(table, max_length=max_length, eos_id=eos_id)

    def distribution(self, prefix: Sequence[int]) -> list[float]:
        """p(next token | prefix).

        Raises:
            KeyError: a prefix that the table does not have, when there is no default.
        """
        row = self.table.get(tuple(prefix), self.default)
        if row is None:
            raise KeyError(f"no distribution for the prefix {tuple(prefix)}, and no default")
        return row

    def enumerate(self) -> list[tuple[Prefix, float]]:
        """Every complete sequence of positive probability, and that probability; most probable first."""
        return sorted(self._walk((), 1.0), key=lambda item: (-item[1], item[0]))

    def _walk(self, prefix: Prefix, mass: float) -> Iterator[tuple[Prefix, float]]:
        ended = bool(prefix) and prefix[-1] == self.eos_id
        if ended or len(prefix) == self.max_length:
            yield prefix, mass
            return
        for token, p in enumerate(self.distribution(prefix)):
            if p > 0:
                yield from self._walk((*prefix, token), mass * p)

    def logprob(self, ids: Sequence[int]) -> float:
        """log p(ids): the sum of the log-probabilities of its tokens (the chain rule); -inf beyond a sequence's end.

        Raises:
            ValueError: a token that the vocabulary does not have.
            KeyError: a prefix that the table does not have, when there is no default.
        """
        total = 0.0
        for t, token in enumerate(ids):
            if not 0 <= token < self.vocab_size:
                raise ValueError(f"ids[{t}] is {token}; ids must lie between 0 and {self.vocab_size - 1}")
            ended = t >= self.max_length or self.eos_id in ids[:t]
            p = 0.0 if ended else self.distribution(ids[:t])[token]
            total += math.log(p) if p > 0 else -math.inf
        return total

    def new_cache(self, rows: int, capacity: int) -> HistoryCache:
        return HistoryCache(rows, capacity)

    def __call__(
        self, ids: Int[Tensor, "rows time"], cache: HistoryCache | None = None
    ) -> Float[Tensor, "rows time vocab"]:
        """log p(next | prefix) after each of the new ids, in float64, -inf for an impossible token.

        Beyond the end of a sequence (a decoder still feeds the rows that ended) it goes on with the end symbol,
        or uniformly where there is none.

        Raises:
            ValueError, TypeError: ids out of range, of the wrong shape, not integers.
            KeyError: a prefix that the table does not have, when there is no default.
        """
        past, histories = self._read(ids, cache)
        steps = range(1, ids.size(1) + 1)
        rows = [[self._after(h[: start + t]) for t in steps] for start, h in zip(past, histories, strict=True)]
        return torch.tensor(rows, dtype=torch.float64, device=ids.device).log()

    def last_logits(
        self, ids: Int[Tensor, "rows time"], cache: HistoryCache | None = None, lengths: Sequence[int] | None = None
    ) -> Float[Tensor, "rows vocab"]:
        """The same after each row's last real token alone: the padding of ragged prompts is no prefix to look up."""
        past, histories = self._read(ids, cache)
        lengths = [ids.size(1)] * ids.size(0) if lengths is None else lengths
        rows = [self._after(h[: start + t]) for start, h, t in zip(past, histories, lengths, strict=True)]
        return torch.tensor(rows, dtype=torch.float64, device=ids.device).log()

    def _read(self, ids: Tensor, cache: HistoryCache | None) -> tuple[list[int], list[list[int]]]:
        """The rows' lengths before the new ids, and their histories with them."""
        cache = HistoryCache(ids.size(0), ids.size(1)) if cache is None else cache
        past = cache.lengths
        cache.append(checked_ids(ids, self))
        return past, cache.prefixes

    def _after(self, history: list[int]) -> list[float]:
        prefix = history[1:] if history and history[0] == self.bos_id else history
        if len(prefix) >= self.max_length or self.eos_id in prefix:
            if self.eos_id is None:
                return [1 / self.vocab_size] * self.vocab_size
            return [float(i == self.eos_id) for i in range(self.vocab_size)]
        return self.distribution(prefix)


def beam_trap() -> TreeLM:
    """Greedy .187, beam 2 .0765, beam 3 .187 again: the tree in which a wider beam loses to greedy."""
    third = [0.34, 0.33, 0.33]
    table = {(): [0.55, 0.45, 0.0], (0,): third, (1,): [0.5, 0.5, 0.0], (0, 0): [1.0, 0.0, 0.0]}
    return TreeLM(table, max_length=3, names=["A", "B", "C"], default=third)


def rank_flip() -> TreeLM:
    """Ten children at .1 under A (.6), one child under B (.4): B's sequence wins at T = 1, A's at T = .1."""
    table = {(): [0.6, 0.4, *[0.0] * 8], (0,): [0.1] * 10, (1,): [1.0, *[0.0] * 9]}
    return TreeLM(table, max_length=2, names=list("ABCDEFGHIJ"))


def _checked(row: Sequence[float], prefix) -> list[float]:
    row = [float(p) for p in row]
    if not row or any(not p >= 0 for p in row) or abs(sum(row) - 1) > 1e-9:
        raise ValueError(f"after {prefix} the probabilities are {row}; they must be 0 or more and sum to 1")
    return row
