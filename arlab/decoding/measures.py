"""How much a text repeats itself, and how much several texts repeat each other.

A text is a sequence or a tensor of ids (or of words: anything that compares and hashes). Where several texts may be
given, they are a list of such. Every measure counts n-grams: the runs of n neighbouring tokens, len(text) - n + 1 of
them. A text shorter than n has none; each function says what it answers then.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from itertools import chain
from numbers import Integral

import numpy as np
from torch import Tensor

Text = Sequence[Hashable] | Tensor | np.ndarray


def ngrams(ids: Text, n: int) -> list[tuple]:
    """The runs of n neighbouring tokens, in order; [] for a text shorter than n.

    Raises:
        ValueError: n is not an integer of 1 or more.
        TypeError: a string (encode it, or split it into words), or nothing to count in.
    """
    return _ngrams(_text(ids), _checked(n))


def repetition(ids: Text | Sequence[Text], n: int = 4) -> float:
    """The share of n-grams that the text has had before: 1 - distinct / all. 0 where nothing occurs twice.

    Of several texts, the mean: each is compared with itself only. A text without an n-gram repeats nothing: 0.

    Raises:
        ValueError, TypeError: as in `ngrams`.

    Source: "Neural Text Generation with Unlikelihood Training" (Welleck et al., 2020), there called seq-rep-n.
    """
    n = _checked(n)
    return _mean(_repeated(text, n) for text in _texts(ids))


def distinct(sequences: Text | Sequence[Text], n: int = 2) -> float:
    """The share of different n-grams among those of all texts together: small where the texts resemble each other.

    Of one text it is 1 - repetition(text, n). Without any n-gram it is 1: nothing is there twice. It falls with the
    amount of text (words do come again), so compare only equal amounts.

    Raises:
        ValueError, TypeError: as in `repetition`.

    Source: "A Diversity-Promoting Objective Function for Neural Conversation Models" (Li et al., 2016).
    """
    n = _checked(n)
    return 1 - _share_repeated(list(chain.from_iterable(_ngrams(text, n) for text in _texts(sequences))))


def diversity(ids: Text | Sequence[Text]) -> float:
    """The product of 1 - repetition(text, n) for n = 2, 3, 4: near 1 for human prose, near 0 for a loop.

    Of several texts, the mean. A text of fewer than two tokens: 1.

    Raises:
        TypeError, ValueError: as in `repetition`.

    Source: "A Contrastive Framework for Neural Text Generation" (Su et al., 2022).
    """
    return _mean(math.prod(1 - _repeated(text, n) for n in (2, 3, 4)) for text in _texts(ids))


def loop(ids: Text, times: int = 2) -> tuple[int, int] | None:
    """(start, period) of a loop in which the text ends: from `start` on, each token is the one `period` before.

    The stretch from `start` to the end is at least `times` periods long. Of several such stretches it is the longest,
    and of that one's periods the shortest. None: the text does not end in a loop.

    Raises:
        ValueError: times is not an integer of 2 or more.
        TypeError: a string.
    """
    if isinstance(times, bool) or not isinstance(times, Integral) or times < 2:
        raise ValueError(f"times is {times!r}; it must be an integer of 2 or more: once is no loop")
    text = _text(ids)
    found = None
    for period in range(1, len(text) // int(times) + 1):
        start = len(text) - period
        while start > 0 and text[start - 1] == text[start - 1 + period]:
            start -= 1
        if len(text) - start >= times * period and (found is None or start < found[0]):
            found = (start, period)
    return found


def agreement(sequences: Sequence[Text], n: int = 2) -> float:
    """How much samples repeat each other: the share of one text's n-grams that another one has, over all ordered pairs.

    1 for equal texts, 0 for texts with no n-gram in common. A text without an n-gram has no share to give and is not
    asked (but it is compared with); if that leaves none, 0. Like Self-BLEU it grows with likeness; being a mean over
    pairs it does not grow with the number of samples.

    Raises:
        ValueError: fewer than two texts; n is not an integer of 1 or more.
        TypeError: as in `ngrams`.

    Source: after Self-BLEU in "Texygen" (Zhu et al., 2018).
    """
    n = _checked(n)
    texts = _texts(sequences)
    if len(texts) < 2:
        raise ValueError(f"agreement is between texts: give two or more, not {len(texts)}")
    grams = [_ngrams(text, n) for text in texts]
    known = [set(each) for each in grams]
    shares = [
        sum(gram in known[other] for gram in mine) / len(mine)
        for one, mine in enumerate(grams)
        if mine
        for other in range(len(texts))
        if other != one
    ]
    return _mean(shares) if shares else 0.0


def _repeated(text: list, n: int) -> float:
    return _share_repeated(_ngrams(text, n))


def _share_repeated(grams: list[tuple]) -> float:
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _ngrams(text: list, n: int) -> list[tuple]:
    return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]


def _mean(values) -> float:
    values = list(values)
    return math.fsum(values) / len(values)


def _checked(n: int) -> int:
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
        raise ValueError(f"n is {n!r}; it must be an integer of 1 or more")
    return int(n)


def _text(ids) -> list:
    if isinstance(ids, (Tensor, np.ndarray)):
        ids = ids.tolist()
    if isinstance(ids, str) or not isinstance(ids, Sequence):
        hint = "; encode it, or split it into words" if isinstance(ids, str) else ""
        raise TypeError(f"a text must be a sequence of ids; got {ids!r}{hint}")
    if any(map(_is_row, ids)):
        raise TypeError(f"one text was asked for; got a sequence of {len(ids)} of them")
    return [each.item() if isinstance(each, Tensor) else each for each in ids]  # equal tensors have unequal hashes


def _texts(sequences) -> list[list]:
    """Several texts as lists; one text as the only one."""
    if isinstance(sequences, (Tensor, np.ndarray)):
        sequences = sequences.tolist()
    if isinstance(sequences, Sequence) and any(map(_is_row, sequences)):
        return [_text(each) for each in sequences]
    return [_text(sequences)]


def _is_row(entry) -> bool:
    return (isinstance(entry, Sequence) and not isinstance(entry, str)) or getattr(entry, "ndim", 0) > 0
