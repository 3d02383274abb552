"""Dates written in many languages, and what they mean: "4 mars 2021" -> "2021-03-04". A task that knows its alignment.

Babel (the Unicode CLDR's tables) writes the dates, so there is no end of pairs, and no doubt about the right answer:
each character of the target comes from a known place in the source. A classic exercise on attention, as a rule with
English alone; here there are twenty languages.
"""

from __future__ import annotations

import calendar
import datetime
import hashlib
import operator
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from arlab.text.date_formats import LOCALES, PATTERNS, field_text, formats, month_name, pieces, reader

Span = tuple[int, int]


@dataclass(frozen=True)
class DatePair:
    """A date as somebody wrote it, and as ISO 8601 has it."""

    source: str
    target: str  # "YYYY-MM-DD"
    locale: str
    pattern: str
    spans: tuple[Span | None, ...]  # for each character of the target, source[start:end] that it comes from; "-": None


class DateSplit(NamedTuple):
    """What to train on, what to test on, and what is written in a way that training never showed."""

    train: list[DatePair]
    held_out: list[DatePair]
    unseen: list[DatePair]


def write_date(date: datetime.date | tuple[int, int, int], locale: str, pattern: str) -> DatePair:
    """A date, or (year, month, day), as the locale writes it.

    Args:
        locale: any that Babel knows, such as "de" or "pt_BR".
        pattern: "full", "long", "medium", or the name of a CLDR skeleton such as "yMMMEd".

    Raises:
        ValueError: a date that does not exist, a year without four digits, an unknown locale or pattern, or a format
            that two people may read differently: 3/4/2021, or a year of two digits.
    """
    day = _existing(date)
    numbers = {"y": day.year, "M": day.month, "L": day.month, "d": day.day}
    spans: dict[str, Span] = {}
    source = ""
    for kind, value in pieces(locale, pattern):
        text = value if kind == "chars" else field_text(locale, value, numbers.get(value[0], day.weekday()))
        if kind == "field":
            spans[value[0]] = (len(source), len(source) + len(text))
        source += text
    year, month, number = spans["y"], spans.get("M") or spans["L"], spans["d"]
    return DatePair(source, day.isoformat(), locale, pattern, (*[year] * 4, None, month, month, None, number, number))


def date_pairs(
    count: int,
    *,
    seed: int = 0,
    locales: Sequence[str] = LOCALES,
    patterns: Sequence[str] = PATTERNS,
    years: tuple[int, int] = (1950, 2049),
) -> list[DatePair]:
    """Pairs drawn at random, no source twice: each format of each locale and each day are equally likely.

    Ambiguous formats are left out (see `formats`), so that a locale with fewer clear ones occurs less often.

    Args:
        years: the first and the last, both included.

    Raises:
        ValueError: more pairs than there are, years in the wrong order or without four digits, an unknown locale or
            pattern, no format that is unambiguous.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"count is {count!r}; it must be an integer of 1 or more")
    if not isinstance(years, Sequence) or len(years) != 2:
        raise ValueError(f"years are {years!r}; give the first and the last")
    first, last = _existing((years[0], 1, 1)), _existing((years[1], 12, 31))
    if first > last:
        raise ValueError(f"years are {years}; the first must not be later than the last")
    ways = formats(locales, patterns)
    days = (last - first).days + 1
    if count > days * len(ways):  # to find out by drawing would take minutes
        raise ValueError(f"count is {count}; {len(ways)} formats of {days} days give no more than {days * len(ways)}")
    rng, drawn, found = random.Random(seed), set(), {}
    while len(found) < count:
        if len(drawn) == days * len(ways):
            raise ValueError(f"count is {count}; {len(ways)} formats of {days} days give only {len(found)} texts")
        number = rng.randrange(days * len(ways))
        if number not in drawn:
            drawn.add(number)
            pair = write_date(first + datetime.timedelta(number % days), *ways[number // days])
            found.setdefault(pair.source, pair)  # 2021年3月4日 is Japanese and Chinese; either way the same day
    return list(found.values())


def split_dates(
    pairs: Iterable[DatePair],
    *,
    unseen_locales: Sequence[str] = (),
    unseen_patterns: Sequence[str] = (),
    fraction: float = 0.1,
) -> DateSplit:
    """Held-out dates, and formats that training never shows.

    A hash of the date says whether it is held out: such a day occurs in training in no language. Pairs in an unseen
    locale or pattern are `unseen`, whatever their date; left out of all three are those of them whose text a format of
    the others gives as well: "4 maj 2021" is Swedish in the medium and in the long format, and would be nothing new.

    Args:
        fraction: of the days that are held out, on average.

    Raises:
        ValueError: a part that would be empty although it was asked for; a fraction outside 0 .. 1; an unseen locale
            or pattern that no pair has.
    """
    pairs = list(pairs)
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}; it must lie between 0 and 1")
    for name, asked, there in (
        ("unseen_locales", unseen_locales, {pair.locale for pair in pairs}),
        ("unseen_patterns", unseen_patterns, {pair.pattern for pair in pairs}),
    ):
        if isinstance(asked, str):
            raise ValueError(f"{name} is {asked!r}; give a list of names")
        if missing := set(asked) - there:
            raise ValueError(f"{name} has {sorted(missing)}; the pairs have {', '.join(sorted(there))}")
    split = DateSplit([], [], [])
    for pair in pairs:
        if pair.locale in unseen_locales or pair.pattern in unseen_patterns:
            split.unseen.append(pair)
        elif int.from_bytes(hashlib.sha256(pair.target.encode()).digest()[:8], "big") < fraction * 2**64:
            split.held_out.append(pair)
        else:
            split.train.append(pair)
    seen = sorted({(pair.locale, pair.pattern) for pair in (*split.train, *split.held_out)})
    split = split._replace(unseen=[pair for pair in split.unseen if not _also_writes(seen, pair)])
    if (unseen_locales or unseen_patterns) and not split.unseen:
        raise ValueError("nothing is unseen: the other formats write each of those dates in the same way")
    if not (split.train and split.held_out):
        raise ValueError(f"{len(pairs)} pairs leave {len(split.train)} to train on and {len(split.held_out)} held out")
    return split


def read_date(source: str, *, locales: Sequence[str] = LOCALES, patterns: Sequence[str] = PATTERNS) -> DatePair:
    """The pair that has this source: what a text written by hand means, and where its fields stand.

    Raises:
        ValueError: no format of these gives this text; where only the day is wrong (31 February) or the weekday, the
            message says so.
    """
    why = ""
    for way in formats(locales, patterns):
        form, months = reader(*way)
        if found := form.fullmatch(source):
            try:
                pair = write_date((int(found["y"]), months[found["month"]], int(found["d"])), *way)
            except ValueError as error:  # 31 February
                why = why or f": {error}"
                continue
            if pair.source == source:  # and the weekday is right
                return pair
            why = why or f": that day is written {pair.source!r}"
    raise ValueError(f"{source!r} is no date in any of the formats known here{why}")


def _also_writes(ways: Iterable[tuple[str, str]], pair: DatePair) -> bool:
    """Whether one of these formats has the same text for the pair's day."""
    day = datetime.date.fromisoformat(pair.target)
    return any(
        month_name(*way, day.month) in pair.source and write_date(day, *way).source == pair.source for way in ways
    )


def _existing(date: datetime.date | tuple[int, int, int]) -> datetime.date:
    """The day, or why there is none."""
    if isinstance(date, datetime.datetime):
        date = date.date()
    try:
        year, month, day = (date.year, date.month, date.day) if isinstance(date, datetime.date) else date
        year, month, day = (operator.index(part) for part in (year, month, day))  # int() would cut 3.9 to 3
    except (TypeError, ValueError):
        raise ValueError(f"date is {date!r}; give a datetime.date or (year, month, day)") from None
    written = f"{year:04}-{month:02}-{day:02}"
    if not 1000 <= year <= 9999:
        raise ValueError(f"the year of {written} has no four digits; take one from 1000 to 9999")
    if not 1 <= month <= 12:
        raise ValueError(f"{written} does not exist: there is no month {month}; months are 1 to 12")
    longest = calendar.monthrange(year, month)[1]
    if not 1 <= day <= longest:
        raise ValueError(f"{written} does not exist: {calendar.month_name[month]} {year} has the days 1 to {longest}")
    return datetime.date(year, month, day)
