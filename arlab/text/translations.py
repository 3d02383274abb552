"""Spanish sentences with their English translations, from Tatoeba, and a split in which no sentence straddles."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from arlab import assets
from arlab.text.normalise import normalise
from arlab.text.splits import Split, split_documents

Pair = tuple[str, str]  # (Spanish, English)

FRACTIONS = (0.96, 0.01, 0.03)  # of the source sentences: to learn from, to watch, to judge by
ZERO_WIDTH = re.compile("[\u200b\u200c\u200d\ufeff]")


def spanish_english() -> list[Pair]:
    """All pairs (Spanish, English), each once, in the file's order: by the length of the English sentence.

    A sentence may have several translations, and so stand in several pairs. Fetched on first use, from then on read
    from this machine.

    Raises:
        arlab.assets.AssetError: when it cannot be fetched; the message says what to run.
    """
    return read_pairs(assets.path("spanish_english").read_text(encoding="utf-8"))


def read_pairs(text: str) -> list[Pair]:
    """(Spanish, English) from lines of English, Spanish and attribution, separated by tabs.

    Unicode and spacing are made uniform; pairs that are then equal are kept once, and a pair without a sentence on
    one side is left out.

    Raises:
        ValueError: a line with fewer than two columns; names it.
    """
    pairs: dict[Pair, None] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        columns = line.split("\t")
        if len(columns) < 2:
            raise ValueError(f"line {number} is {line[:60]!r}; needed: English, a tab, Spanish")
        english, spanish = map(_clean, columns[:2])
        if english and spanish:
            pairs[spanish, english] = None
    return list(pairs)


def sentence_key(sentence: str) -> str:
    """The sentence's words without case, accents and punctuation: equal for sentences that differ in these alone."""
    words = re.findall(r"\w+", normalise(sentence, form="NFKC", strip_accents=True).casefold())
    return " ".join(words) or sentence  # a sentence of signs alone is its own key


def split_pairs(pairs: Iterable[Pair], fractions: Sequence[float] = FRACTIONS) -> Split:
    """Train, validation and test by the Spanish sentence: all translations of one land in the same part, and so do
    sentences that differ only in case, accents or punctuation.

    An English sentence may still stand in two parts, as the translation of different Spanish ones ("Run!" translates
    five imperatives); `known_targets` counts them.

    Raises:
        ValueError: as in `split_documents`.
    """
    return split_documents(pairs, fractions, key=lambda pair: sentence_key(pair[0]))


def at_most(pairs: Iterable[Pair], words: int) -> list[Pair]:
    """The pairs whose Spanish sentence has no more words than this, counted by its spaces."""
    return [pair for pair in pairs if len(pair[0].split()) <= words]


def by_source(pairs: Iterable[Pair]) -> dict[str, list[str]]:
    """Each Spanish sentence once, with all its translations in the order given."""
    found: dict[str, list[str]] = {}
    for spanish, english in pairs:
        found.setdefault(spanish, []).append(english)
    return found


def known_targets(pairs: Iterable[Pair], train: Iterable[Pair]) -> list[bool]:
    """For each pair: is its English sentence, but for case and punctuation, some translation in train?

    Such a pair is fair, since its Spanish sentence is new, but it is easier than one that is new on both sides.
    """
    known = {sentence_key(english) for _, english in train}
    return [sentence_key(english) in known for _, english in pairs]


def _clean(sentence: str) -> str:
    return normalise(ZERO_WIDTH.sub("", sentence), collapse_spaces=True).strip()
