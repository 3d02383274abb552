"""Sums as text, their answer written left to right or right to left: 23 + 45 = 68 of lecture 004.

    Addition(2)                  "23+45=" -> "068"
    Addition(2, reversed=True)   "23+45=" -> "860"

Operands are padded with zeros to `digits` digits, answers to one more, so that every sum of a task is equally long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from jaxtyping import Int
from torch import Tensor

from arlab.text.batches import IGNORE, Batch, check_integer
from arlab.text.tokenizers import CharTokenizer

TOKENIZER = CharTokenizer("+0123456789=")


@dataclass(frozen=True)
class Addition:
    """Sums of two numbers of `digits` digits; `reversed`: the answer's units digit is written first.

    Only the order of the answer's digits differs: prompt, vocabulary and number of tokens are the same.
    """

    digits: int
    reversed: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.digits, bool) or not isinstance(self.digits, Integral) or not 1 <= self.digits <= 9:
            raise ValueError(f"digits is {self.digits!r}; it must be an integer from 1 to 9")

    @property
    def tokenizer(self) -> CharTokenizer:
        """The twelve symbols, the same for every task."""
        return TOKENIZER

    @property
    def symbols(self) -> list[str]:
        """The text of each id."""
        return TOKENIZER.token_strings()

    @property
    def vocab_size(self) -> int:
        return TOKENIZER.vocab_size

    @property
    def mask_id(self) -> int:
        """For a model that fills gaps: one id behind the vocabulary."""
        return TOKENIZER.vocab_size

    @property
    def prompt_length(self) -> int:
        return 2 * self.digits + 2

    @property
    def answer_length(self) -> int:
        return self.digits + 1

    @property
    def length(self) -> int:
        """Tokens of a whole sum, prompt and answer: the context_length that a model needs."""
        return self.prompt_length + self.answer_length

    @property
    def places(self) -> tuple[int, ...]:
        """The power of ten of each digit of the answer, in the order in which it is written."""
        return tuple(range(self.answer_length) if self.reversed else range(self.digits, -1, -1))

    @property
    def pairs(self) -> int:
        """How many sums there are."""
        return 100**self.digits

    def encode(self, a: int, b: int) -> list[int]:
        """The prompt: 'a+b=', both padded with zeros.

        Raises:
            ValueError: an operand that is negative or has too many digits.
        """
        self._check(a, b)
        return TOKENIZER.encode(f"{a:0{self.digits}}+{b:0{self.digits}}=")

    def answer(self, a: int, b: int) -> list[int]:
        """The digits of a + b in the order in which this task writes them.

        Raises:
            ValueError: as in `encode`.
        """
        self._check(a, b)
        text = f"{a + b:0{self.answer_length}}"
        return TOKENIZER.encode(text[::-1] if self.reversed else text)

    def decode(self, ids: Sequence[int] | Int[Tensor, "answer"]) -> int | None:
        """The number that an answer says; None for one that is not `answer_length` digits (digits + 1)."""
        ids = [int(i) for i in ids]
        if len(ids) != self.answer_length or not all(0 <= i < self.vocab_size for i in ids):
            return None
        text = TOKENIZER.decode(ids)
        return int(text[::-1] if self.reversed else text) if set(text) <= set("0123456789") else None

    def rows(self, pairs: Int[Tensor, "rows 2"] | Sequence[Sequence[int]]) -> Int[Tensor, "rows length"]:
        """Each pair (a, b) as a whole sum, prompt and answer.

        Raises:
            ValueError: as in `encode`; pairs that are not (rows, 2).
        """
        pairs = self._pairs(pairs)
        zero = TOKENIZER.encode("0")[0]
        a, b = (_digits(operand, self.digits) + zero for operand in pairs.T)
        answer = _digits(pairs.sum(dim=1), self.answer_length) + zero
        plus, equals = (torch.full_like(a[:, :1], TOKENIZER.encode(sign)[0]) for sign in "+=")
        return torch.cat([a, plus, b, equals, answer.flip(1) if self.reversed else answer], dim=1)

    def draw(
        self, rows: int, generator: torch.Generator | None, *, without: Int[Tensor, "n 2"] | None = None
    ) -> Int[Tensor, "rows 2"]:
        """Pairs (a, b), each operand uniform and independent; none of the pairs in `without`.

        Raises:
            ValueError: rows below 1; `without` that is not pairs of operands, or that leaves less than half of all.
        """
        check_integer("rows", rows, least=1)
        high, kept = 10**self.digits, []
        barred = torch.empty(0, dtype=torch.long)
        if without is not None and len(without):
            pairs = self._pairs(without).long()
            barred = (pairs[:, 0] * high + pairs[:, 1]).unique()
        if 2 * len(barred) > self.pairs:
            raise ValueError(f"without holds {len(barred):,} of {self.pairs:,} pairs; leave at least half to draw from")
        while sum(map(len, kept)) < rows:
            pairs = torch.randint(high, (rows, 2), generator=generator)
            kept.append(pairs[~torch.isin(pairs[:, 0] * high + pairs[:, 1], barred)] if len(barred) else pairs)
        return torch.cat(kept)[:rows]

    def batches(
        self, rows: int, generator: torch.Generator | None, *, without: Int[Tensor, "n 2"] | None = None
    ) -> Iterator[Batch]:
        """Without end: shifted batches of sums; only the answer's digits are targets, the prompt's are IGNORE.

        Args:
            without: pairs (n, 2) that are kept for testing and never drawn.

        Raises:
            ValueError: at the first batch, as in `draw`.
        """
        while True:
            sums = self.rows(self.draw(rows, generator, without=without))
            targets = sums[:, 1:].clone()
            targets[:, : self.prompt_length - 1] = IGNORE  # the last target of the prompt is '='
            yield Batch(sums[:, :-1].clone(), targets)

    def carries(self, a: int, b: int) -> tuple[int, ...]:
        """1 where a place of 10**i hands a carry to the next one; units first, `digits` of them."""
        self._check(a, b)
        return tuple(int(a % 10**i + b % 10**i >= 10**i) for i in range(1, self.digits + 1))

    def longest_chain(self, a: int, b: int) -> int:
        """How many places the farthest travelling carry moves: 0 without a carry, 1 where it ends in the next place.

        A carry is born where two digits sum to 10 or more and travels on through places whose digits sum to 9: the
        digit at its end depends on two digits that many places away. 345 + 155: born at the units, through the tens
        (4 + 5), into the hundreds: 2. (The carry chain of Burks, Goldstine and von Neumann, 1946.)
        """
        longest = current = 0
        for place, carry in enumerate(self.carries(a, b)):
            nine = a // 10**place % 10 + b // 10**place % 10 == 9
            current = (current + 1 if nine else 1) if carry else 0
            longest = max(longest, current)
        return longest

    def _pairs(self, pairs: Int[Tensor, "rows 2"] | Sequence[Sequence[int]]) -> Int[Tensor, "rows 2"]:
        """Operands of this task, checked."""
        pairs = torch.as_tensor(pairs)
        if pairs.dim() != 2 or pairs.size(1) != 2 or pairs.is_floating_point():
            raise ValueError(f"pairs has shape {tuple(pairs.shape)} and dtype {pairs.dtype}; needed integers (rows, 2)")
        outside = ((pairs < 0) | (pairs >= 10**self.digits)).any(dim=1)
        if outside.any():
            self._check(*pairs[outside][0].tolist())
        return pairs

    def _check(self, a: int, b: int) -> None:
        for value in (a, b):
            if isinstance(value, bool) or not isinstance(value, Integral) or not 0 <= value < 10**self.digits:
                raise ValueError(f"operand {value!r}: it must be an integer from 0 to {10**self.digits - 1}")


def _digits(numbers: Int[Tensor, "rows"], width: int) -> Int[Tensor, "rows width"]:
    """Decimal digits, the highest place first."""
    return numbers[:, None] // 10 ** torch.arange(width - 1, -1, -1) % 10
