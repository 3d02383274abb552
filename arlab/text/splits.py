"""Train, validation and test parts that share nothing: of one long text, or of many documents."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import accumulate
from typing import Any, NamedTuple

from torch import Tensor

from arlab.text.normalise import normalise


class Split(NamedTuple):
    """Three parts of the same kind: texts, tensors of ids, or lists of documents."""

    train: Any
    validation: Any
    test: Any


def split_stream(ids_or_text: str | Tensor | Sequence, fractions: Sequence[float] = (0.8, 0.1, 0.1)) -> Split:
    """Three stretches of one long text, edge to edge: its start to learn from, its end to test on.

    Contiguous, because windows drawn at random from the whole text would overlap across the parts. A text that
    repeats itself still leaks: for many documents use `split_documents`.

    Args:
        fractions: of train, validation and test. A part asked for with 0 is empty; each cut is rounded down.

    Raises:
        ValueError: fractions that are negative or do not sum to 1; a part that would be empty though its fraction
            is not 0.
    """
    cuts = _cuts(fractions)
    length = len(ids_or_text)
    ends = [int(length * cut) for cut in cuts]
    parts = Split(*(ids_or_text[start:end] for start, end in zip([0, *ends], ends, strict=False)))
    _refuse_empty(parts, fractions, f"the text has {length} tokens in all; take a longer text or other fractions")
    return parts


def same_text(document: str) -> str:
    """What two documents have in common that look the same: case, width, line ends and spacing left out.

    Case folds, as Unicode has it: lower() alone would keep "STRASSE" apart from "Straße".
    """
    if not isinstance(document, str):
        raise ValueError(f"a document is of type {type(document).__name__}, not str; give key=, a function to a str")
    folded = normalise(document, form="NFKC").casefold()
    return " ".join(normalise(folded, form="NFKC").split())


def split_documents(
    documents: Iterable,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    *,
    key: Callable[[Any], str] = same_text,
) -> Split:
    """Each document goes where a hash of its key says: documents with one key always land in the same part.

    So a duplicate cannot straddle train and test, and a document keeps its part when others are added, on every
    machine and in any order. The parts' sizes follow the fractions only on average.

    Args:
        fractions: of train, validation and test. A part asked for with 0 is empty.
        key: what makes two documents the same; by default their text but for case, line ends and spacing. Take the
            author, the source sentence or the web site where documents share more than their text.

    Returns:
        Split of three lists, each in the order given.

    Raises:
        ValueError: fractions that are negative or do not sum to 1; an empty part, unless it was asked for; a
            document, or a key, that is not a str; one long text, whose characters would pass for documents.
    """
    if isinstance(documents, str):
        raise ValueError("documents is one text; give a list of documents, or cut the text with split_stream")
    cuts = _cuts(fractions)
    parts, keys = Split([], [], []), set()
    for document in documents:
        name = key(document)
        if not isinstance(name, str):
            raise ValueError(f"key gave {name!r} for a document; it must give a str")
        keys.add(name)
        parts[_place(name, cuts)].append(document)
    why = f"{sum(map(len, parts))} documents have {len(keys)} different keys, and the hash put none there"
    _refuse_empty(parts, fractions, f"{why}; take more documents or other fractions")
    return parts


def _place(name: str, cuts: list[Fraction]) -> int:
    # Python's own hash() changes with every start of the interpreter; SHA-256 does not.
    digest = hashlib.sha256(name.encode("utf-8", errors="surrogatepass")).digest()
    return bisect_right(cuts, Fraction(int.from_bytes(digest[:8], "big"), 2**64))


def _cuts(fractions: Sequence[float]) -> list[Fraction]:
    """Where each part ends, between 0 and 1; exact, for .8 + .1 in floats is not .9."""
    try:
        exact = [Fraction(str(float(fraction))) for fraction in fractions]
    except (TypeError, ValueError) as error:
        raise ValueError(f"fractions are {fractions!r}; needed three numbers that sum to 1") from error
    cuts = [cut.limit_denominator(10**9) for cut in accumulate(exact)]
    if len(exact) != 3 or min(exact) < 0 or cuts[-1] != 1:
        raise ValueError(f"fractions are {tuple(fractions)}; needed three numbers of 0 or more that sum to 1")
    return cuts


def _refuse_empty(parts: Split, fractions: Sequence[float], why: str) -> None:
    for name, part, fraction in zip(Split._fields, parts, fractions, strict=True):
        if len(part) == 0 and fraction > 0:
            raise ValueError(f"the {name} part ({fraction:g} of all) is empty: {why}")
