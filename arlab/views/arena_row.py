"""One row of the decoder arena: an Outcome as the page reads it, its texts cut where tokens end and answers stand."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from arlab.decoding.comparison import Outcome
from arlab.views.base import BadValue

# Which way is "more" of what the measure's name promises, on the frontier and when a column is sorted for the first
# time: 1 upwards, -1 downwards. A likelier text is not a better one; that is what the frontier is there to show.
WAYS = {
    "logprob": 1,
    "repetition": -1,
    "distinct": 1,
    "diversity": 1,
    "agreement": -1,
    "seconds": -1,
    "answer": 1,  # the share of a row's texts that contain the expected answer
}


def arena_row(
    outcome: Outcome,
    seed: int,
    *,
    pattern: re.Pattern[str] | None,
    decode: Callable[[list[int]], str] | None,
) -> dict[str, Any]:
    """name, seed, tokens, the measures (None where they have no value), and `samples`: one entry a text.

    A sample: ids; text; pieces, which joined are the text, one a token ([] where they are not known); answer, the
    places in it that hold the expected one, [start, end] in UTF-16 units as the page counts; logprob; finished.
    """
    samples = [
        {
            "ids": list(ids),
            "text": text,
            "pieces": pieces(ids, text, decode),
            "answer": [
                [_units(text[: m.start()]), _units(text[: m.end()])]
                for m in (pattern.finditer(text) if pattern else ())
            ],
            "logprob": _finite(logprob),
            "finished": finished,
        }
        for ids, text, logprob, finished in zip(
            outcome.sequences, outcome.texts, outcome.logprobs, outcome.finished, strict=True
        )
    ]
    figures = {name: _finite(getattr(outcome, name)) for name in WAYS if name != "answer"}
    figures["answer"] = sum(bool(each["answer"]) for each in samples) / len(samples) if pattern else None
    return {"name": outcome.name, "seed": seed, "tokens": outcome.tokens, "samples": samples} | figures


def pieces(ids: Sequence[int], text: str, decode: Callable[[list[int]], str] | None) -> list[str]:
    """The text cut where its tokens end; joined they are the text again. [] where that cannot be known.

    A character made of several tokens belongs to the last of them. Ids that are written out need no `decode`.
    """
    if text == " ".join(map(str, ids)):
        return [f" {i}" if place else str(i) for place, i in enumerate(ids)]
    if decode is None or not ids:
        return []
    ends = [0]
    for count in range(1, len(ids)):
        before = decode(list(ids[:count])).rstrip("\ufffd")
        ends.append(len(before) if text.startswith(before) and len(before) >= ends[-1] else ends[-1])
    ends.append(len(text))
    return [text[a:b] for a, b in zip(ends, ends[1:], strict=False)]


def expected_answers(answer: str | Sequence[str] | None) -> list[str]:
    """The expected answers as a list, [] for none. Raises ValueError for an empty one."""
    some = [] if answer is None else [answer] if isinstance(answer, str) else list(answer)
    if answer is not None and (not some or not all(isinstance(each, str) and each.strip() for each in some)):
        raise BadValue(f"answer is {answer!r}; it must be a text, or several texts, none of them empty")
    return [each.strip() for each in some]


def answer_pattern(some: list[str]) -> re.Pattern[str] | None:
    """Whole words only: "8" is not in "18". Where an answer begins or ends with a sign, the sign is edge enough."""
    edged = (
        (r"(?<!\w)" if re.match(r"\w", each) else "") + re.escape(each) + (r"(?!\w)" if re.search(r"\w$", each) else "")
        for each in sorted(some, key=len, reverse=True)
    )
    return re.compile("|".join(edged), re.IGNORECASE) if some else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
