"""N-gram language models: the condition is the last few tokens, the probabilities are counts (Shannon, 1948).

Counting is maximum likelihood: of all tables with one distribution for each context, the relative frequencies give
the training text the highest probability. They also give everything else probability 0, hence the smoothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from arlab.nn.cache import HistoryCache
from arlab.nn.language_model import checked_ids, input_vocabulary, row_lengths


@dataclass(frozen=True, eq=False)
class Level:
    """What followed the contexts of one length, as a sparse table: the entries of context c lie next to each other.

    Context c's entries are offsets[c] .. offsets[c + 1]; entry e is the pair keys[e] = c * base + token, seen counts[e]
    times. The longer contexts are numbered by these entries, so a context is found by one binary search a token,
    however large base ** length would be.
    """

    keys: Int[Tensor, "entries"]
    counts: Float[Tensor, "entries"]
    offsets: Int[Tensor, "contexts_1"]
    totals: Float[Tensor, "contexts"]

    @classmethod
    def count(cls, pairs: Int[Tensor, "pairs"], contexts: int, base: int) -> tuple[Level, Int[Tensor, "pairs"]]:
        """The table of these (context, token) pairs, and each pair's entry in it."""
        keys, entry, counts = pairs.unique(return_inverse=True, return_counts=True)
        offsets = torch.searchsorted(keys, torch.arange(max(contexts, 1) + 1) * base)
        before = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return cls(keys, counts.double(), offsets, (before[offsets[1:]] - before[offsets[:-1]]).double()), entry

    def entry(self, context: Int[Tensor, "*n"], token: Int[Tensor, "*n"], base: int) -> Int[Tensor, "*n"]:
        """Where (context, token) stands in the table; -1 where it does not, or where the context is -1."""
        if not len(self.keys):
            return torch.full_like(context, -1)
        wanted = context * base + token
        at = torch.searchsorted(self.keys, wanted.contiguous()).clamp(max=len(self.keys) - 1)
        return torch.where((context >= 0) & (token >= 0) & (self.keys[at] == wanted), at, -1)

    def sizes(self, context: Int[Tensor, "*n"]) -> tuple[Int[Tensor, "*n"], Float[Tensor, "*n"]]:
        """How many kinds of tokens followed, and how many tokens; 0 for context -1."""
        known = context.clamp(min=0)
        kinds = torch.where(context >= 0, self.offsets[known + 1] - self.offsets[known], 0)
        return kinds, torch.where(context >= 0, self.totals[known], 0.0)


class NGramLM:
    """p(next token | the last order - 1 tokens), from counts. It satisfies the language-model protocol.

    smoothing says what becomes of a token that never followed a context:

    - "witten_bell" (Witten and Bell, 1991):
      p(w | c) = (count(c, w) + types(c) p(w | shorter c)) / (total(c) + types(c)),
      where total(c) tokens of types(c) kinds followed c, and the last resort is 1 / vocab_size. Never 0.
    - a number k > 0: p(w | c) = (count(c, w) + k) / (total(c) + k vocab_size), without shorter contexts.
    - None: p(w | c) = count(c, w) / total(c), the maximum-likelihood estimate; 0 (a logit of -inf) if never seen.

    A context that never occurred backs off to the longest part of it that did (under a number k it is uniform: the
    formula). Where the text has fewer than order - 1 tokens so far, they are the context.
    """

    context_length: int | None = None

    def __init__(
        self,
        order: int,
        vocab_size: int,
        smoothing: str | float | None = "witten_bell",
        *,
        bos_id: int | None = None,
        eos_id: int | None = None,
    ):
        """
        Args:
            order: tokens in an n-gram; 1 is the unigram model, which looks at nothing.
            bos_id: the start symbol put before each sequence; it is read and not predicted, and may equal vocab_size.
            eos_id: the end symbol put behind each sequence.

        Raises:
            ValueError: an order or vocab_size below 1, an unknown smoothing, symbols out of range.
        """
        if order < 1 or vocab_size < 1:
            raise ValueError(f"order is {order} and vocab_size {vocab_size}; both must be 1 or more")
        by_number = isinstance(smoothing, (int, float)) and not isinstance(smoothing, bool)
        if not (smoothing is None or smoothing == "witten_bell" or (by_number and 0 < smoothing < math.inf)):
            raise ValueError(f"smoothing is {smoothing!r}; it must be 'witten_bell', a number above 0, or None")
        if bos_id is not None and not 0 <= bos_id <= vocab_size:
            raise ValueError(f"bos_id is {bos_id}; it must lie between 0 and vocab_size = {vocab_size}")
        if eos_id is not None and not 0 <= eos_id < vocab_size:
            raise ValueError(f"eos_id is {eos_id}; it must lie between 0 and {vocab_size - 1}")
        self.order, self.vocab_size, self.smoothing = order, vocab_size, smoothing
        self.bos_id, self.eos_id = bos_id, eos_id
        self.levels: list[Level] = []  # levels[k]: contexts of k tokens

    def fit(self, ids: Int[Tensor, "time"] | Sequence) -> NGramLM:
        """Count; earlier counts are forgotten.

        ids: one stream of ids (a tensor or a list of integers), taken as it is; or a list of sequences, which get the
        start symbol in front and the end symbol behind where the model has them and the sequence has not. No n-gram
        runs from one sequence into the next.

        Raises:
            ValueError: nothing to count, ids out of range, an input-only start symbol that is not the first token.
            TypeError: ids that are not integers.
        """
        sequences = self._sequences(ids)
        tokens, base = torch.cat(sequences), input_vocabulary(self)
        starts = torch.tensor([0, *(len(s) for s in sequences[:-1])]).cumsum(0)
        first = torch.zeros(len(tokens), dtype=torch.bool)
        first[starts] = True
        targets = tokens[~(first & (tokens == self.bos_id))] if self.bos_id is not None else tokens
        if not targets.numel():
            raise ValueError("there is nothing to count: no token but start symbols")
        if int(targets.max()) >= self.vocab_size:
            raise ValueError(f"the start symbol {self.bos_id} is input only; it may stand first in a sequence alone")
        self.levels = [Level.count(targets, 1, base)[0]]
        # gram[t]: the number of the k-gram that ends at t, -1 where the sequence is not k tokens old
        gram, contexts = tokens, base
        for _ in range(1, self.order):
            where = ((gram[:-1] >= 0) & ~first[1:]).nonzero()[:, 0]
            level, entry = Level.count(gram[where] * base + tokens[where + 1], contexts, base)
            self.levels.append(level)
            gram = torch.full_like(tokens, -1)
            gram[where + 1] = entry
            contexts = len(level.keys)
        return self

    def new_cache(self, rows: int, capacity: int) -> HistoryCache:
        return HistoryCache(rows, capacity)

    def __call__(
        self, ids: Int[Tensor, "rows time"], cache: HistoryCache | None = None
    ) -> Float[Tensor, "rows time vocab"]:
        """log p(next | context) after each of the new ids: float64, each row of it exactly normalised.

        Raises:
            ValueError, TypeError: ids out of range, of the wrong shape, not integers; a model that was not fitted.
        """
        contexts, exist = self._contexts(ids, cache)
        return self._probabilities(contexts, exist).log().to(ids.device)

    def last_logits(
        self, ids: Int[Tensor, "rows time"], cache: HistoryCache | None = None, lengths: Sequence[int] | None = None
    ) -> Float[Tensor, "rows vocab"]:
        """The same after each row's last real token alone."""
        lengths = row_lengths(lengths, *ids.shape)
        contexts, exist = self._contexts(ids, cache)
        last = torch.arange(ids.size(0)), torch.tensor(lengths) - 1
        return self._probabilities(contexts[last][:, None], exist[last][:, None])[:, 0].log().to(ids.device)

    def distribution(self, prefix: Sequence[int]) -> Float[Tensor, "vocab"]:
        """p(next token | prefix), float64. An empty prefix starts from the start symbol, if there is one."""
        prefix = list(prefix)
        if not prefix and self.bos_id is not None:
            prefix = [self.bos_id]
        if prefix:
            contexts, exist = self._contexts(torch.tensor([prefix]), None)
        else:
            self._check_fitted()
            contexts = torch.tensor([[[0] + [-1] * (self.order - 1)]])  # only the context of no tokens is there
            exist = contexts == 0
        return self._probabilities(contexts[:, -1:], exist[:, -1:])[0, 0]

    def logprobs(self, ids: Int[Tensor, "time"] | Sequence[int]) -> Float[Tensor, "time"]:
        """log p(ids[t] | ids[:t]) for each token of one text, float64; their sum is log p(text) (the chain rule).

        The first is read after the start symbol if the model has one. A start symbol that the text brings itself is
        given, not predicted: its entry is 0. Only the text's own tokens are looked up, so a long text is quick.

        Raises:
            ValueError, TypeError: as a call; and an input-only start symbol that is not the first token.
        """
        self._check_fitted()
        ids = torch.as_tensor(ids).cpu()
        if ids.dim() != 1 or not len(ids):
            raise ValueError(f"ids has shape {tuple(ids.shape)}; needed one text (time,), at least one token of it")
        ids = checked_ids(ids[None], self)[0].long()
        given = self.bos_id is not None and int(ids[0]) == self.bos_id
        if int(ids[given:].max() if len(ids) > given else 0) >= self.vocab_size:
            raise ValueError(f"the start symbol {self.bos_id} is input only; it may stand first alone")
        start = ids.new_tensor([-1 if self.bos_id is None else self.bos_id])  # -1: nothing stands there
        read = ids if given else torch.cat([start, ids])
        targets = read[1:]
        contexts, exist = self._walk(read[None, :-1])
        p = torch.full(targets.shape, 1 / self.vocab_size, dtype=torch.float64)
        for k, level in enumerate(self.levels):
            context = contexts[0, :, k]
            keep, floor, weight = self._mixture(level, context, exist[0, :, k])
            entry = level.entry(context, targets, input_vocabulary(self))
            counts = torch.cat([level.counts, level.counts.new_zeros(1)])[entry]  # entry -1: count 0
            p = keep * p + floor + weight * counts
        return torch.cat([p.new_zeros(1), p.log()]) if given else p.log()

    # ------------------------------------------------------------------------------------------------- from here: how

    def _contexts(self, ids: Tensor, cache: HistoryCache | None) -> tuple[Tensor, Tensor]:
        """`_walk` for the new ids of each row, after what the cache holds of it."""
        self._check_fitted()
        checked_ids(ids, self)
        past = [[]] * ids.size(0) if cache is None else cache.prefixes
        reach = self.order - 1
        before = [[-1] * (reach - len(p)) + p[max(0, len(p) - reach) :] for p in past]
        if cache is not None:
            cache.append(ids)
        read = torch.cat([torch.tensor(before, dtype=torch.int64).view(ids.size(0), reach), ids.long().cpu()], dim=1)
        contexts, exist = self._walk(read)
        return contexts[:, reach:], exist[:, reach:]

    def _walk(
        self, read: Int[Tensor, "rows time"]
    ) -> tuple[Int[Tensor, "rows time order"], Bool[Tensor, "rows time order"]]:
        """The number of the k-token context that ends at each position, for k = 0 .. order - 1; -1: never seen.

        read holds -1 where there is no token (in front). The second result says where k tokens are there at all.
        """
        base, gram = input_vocabulary(self), read
        contexts, exist = [torch.zeros_like(read)], [torch.ones_like(read, dtype=torch.bool)]
        for k in range(1, self.order):
            if k > 1:  # the k-gram is the (k-1)-gram one position earlier, and this token
                earlier = torch.nn.functional.pad(gram, (1, 0), value=-1)[:, :-1]
                gram = self.levels[k - 1].entry(earlier, read, base)
            contexts.append(gram)
            exist.append(torch.nn.functional.pad(read, (k - 1, 0), value=-1)[:, : read.size(1)] >= 0)
        return torch.stack(contexts, dim=-1), torch.stack(exist, dim=-1)

    def _mixture(self, level: Level, context: Tensor, exist: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(keep, floor, weight), so that p(w | context) = keep * p(w | shorter) + floor + weight * count(w)."""
        types, total = level.sizes(context)
        if isinstance(self.smoothing, str):
            applies, weight, keep = total > 0, 1 / (total + types), types / (total + types)
        elif self.smoothing is None:
            applies, weight, keep = total > 0, 1 / total, torch.zeros_like(total)
        else:
            weight = 1 / (total + self.smoothing * self.vocab_size)
            applies, keep = exist, torch.zeros_like(total)
        k = self.smoothing if isinstance(self.smoothing, (int, float)) else 0.0
        return torch.where(applies, keep, 1.0), torch.where(applies, k * weight, 0.0), torch.where(applies, weight, 0.0)

    def _probabilities(
        self, contexts: Int[Tensor, "rows time order"], exist: Bool[Tensor, "rows time order"]
    ) -> Float[Tensor, "rows time vocab"]:
        """The whole distribution at each position."""
        rows, time, _ = contexts.shape
        p = torch.full((rows * time, self.vocab_size), 1 / self.vocab_size, dtype=torch.float64)
        for k, level in enumerate(self.levels):
            context = contexts[..., k].flatten()
            keep, floor, weight = self._mixture(level, context, exist[..., k].flatten())
            p = keep[:, None] * p + floor[:, None]
            # The entries of each position's context, end to end: `at` are their places, `position` whose they are.
            sizes, _ = level.sizes(context)
            position = torch.arange(rows * time).repeat_interleave(sizes)
            within = torch.arange(len(position)) - (sizes.cumsum(0) - sizes)[position]
            at = level.offsets[context.clamp(min=0)][position] + within
            token = level.keys[at] % input_vocabulary(self)
            p.index_put_((position, token), weight[position] * level.counts[at], accumulate=True)
        return p.view(rows, time, self.vocab_size)

    def _check_fitted(self) -> None:
        if not self.levels:
            raise ValueError("the model has counted nothing yet; call fit(ids) first")

    def _sequences(self, ids: Tensor | Sequence) -> list[Int[Tensor, "time"]]:
        """The sequences to count, checked, as tensors on the CPU."""
        ids = ids if isinstance(ids, (Tensor, str)) else list(ids)  # an iterator can be walked through only once
        nested = not isinstance(ids, Tensor) and any(hasattr(row, "__len__") for row in ids)
        if isinstance(ids, str) or (nested and any(isinstance(row, str) for row in ids)):
            raise TypeError("ids is a text; encode it first: n-grams are counted on ids")
        rows = [torch.as_tensor(row).cpu() for row in ids] if nested else [torch.as_tensor(ids).cpu()]
        out = []
        for number, row in enumerate(rows):
            what = f"sequence {number}" if nested else "the stream"
            if row.dim() != 1:
                raise ValueError(f"{what} has shape {tuple(row.shape)}; needed (time,), or a list of such sequences")
            if row.numel():
                row = checked_ids(row[None], self)[0].long()
            if nested:
                if self.bos_id is not None and (not len(row) or int(row[0]) != self.bos_id):
                    row = torch.cat([row.new_tensor([self.bos_id], dtype=torch.int64), row.long()])
                if self.eos_id is not None and int(row[-1] if len(row) else -1) != self.eos_id:
                    row = torch.cat([row.long(), torch.tensor([self.eos_id])])
            if len(row):
                out.append(row)
        if not out:
            raise ValueError("there is nothing to count: no ids")
        return out
