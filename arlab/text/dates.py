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
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from babel import Locale, UnknownLocaleError
from babel.dates import DateTimeFormat, tokenize_pattern

# Left to right, one character after the other: scripts that run the other way (Arabic, Hebrew) or build syllables of
# several characters (Devanagari) can be written too, but a grid with a column for each character does not suit them.
LOCALES = tuple("en de nl sv fr es it pt fi hu pl cs tr el ru uk ja zh ko vi".split())
PATTERNS = ("full", "long", "medium", "yMMMEd")  # CLDR's names: three lengths, and one skeleton (with a short weekday)

Span = tuple[int, int]
_SHARED_SPACE = str.maketrans({"\u00a0": " ", "\u202f": " "})  # which kind of space CLDR has changes with its version


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
    for kind, value in _pieces(locale, pattern):
        text = value if kind == "chars" else _field(locale, value, numbers.get(value[0], day.weekday()))
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


def formats(locales: Sequence[str] = LOCALES, patterns: Sequence[str] = PATTERNS) -> list[tuple[str, str]]:
    """The (locale, pattern) whose texts have one reading.

    Left out are those that write the month as a number without the year in front or behind the day (3/4/2021 and
    2021-04-03 as Kyrgyz has it: March or April?) and those whose year has two digits.

    Raises:
        ValueError: an unknown locale or pattern; none is left; two in which one text means two months: "1 may 2021" is
            in May in Asturian, in November in Basaa.
    """
    if isinstance(locales, str) or isinstance(patterns, str):
        raise ValueError(f"locales and patterns are lists of names; got {locales!r} and {patterns!r}")
    ways = [(locale, pattern) for locale in locales for pattern in patterns]
    clear = [way for way in ways if not _ambiguous(_tokens(*way))]
    if not clear:
        raise ValueError(f"no unambiguous format among locales {tuple(locales)} and patterns {tuple(patterns)}")
    _check_months(tuple(clear))
    return clear


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
        form, months = _form(*way)
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


# --- formats


@cache
def _tokens(locale: str, pattern: str) -> tuple[tuple[str, str], ...]:
    """("chars", text) and ("field", letters) in turn, as CLDR has the pattern."""
    known = _locale(locale)
    if pattern in known.date_formats:
        text = known.date_formats[pattern].pattern
    elif pattern in known.datetime_skeletons:
        text = known.datetime_skeletons[pattern].pattern
    else:
        raise ValueError(f"pattern is {pattern!r}; {locale} has full, long, medium, short and skeletons like yMMMEd")
    tokens = tuple(
        (kind, value.translate(_SHARED_SPACE) if kind == "chars" else value[0] * value[1])
        for kind, value in tokenize_pattern(text)
    )
    letters = sorted(value[0].replace("L", "M") for kind, value in tokens if kind == "field" and value[0] not in "Ec")
    if letters != ["M", "d", "y"]:
        raise ValueError(f"pattern {pattern!r} of {locale} is {text!r}; needed one year, one month and one day")
    return tokens


@cache
def _form(locale: str, pattern: str) -> tuple[re.Pattern, dict[str, int]]:
    """What a text of this format looks like, and the numbers of its months."""
    form, months = "", {}
    for kind, value in _tokens(locale, pattern):
        if kind == "chars":
            form += re.escape(value)
        elif value[0] in "ML":
            months = {_field(locale, value, number): number for number in range(1, 13)}
            form += f"(?P<month>{'|'.join(map(re.escape, sorted(months, key=len, reverse=True)))})"
        else:
            form += {"y": r"(?P<y>[1-9]\d{3})", "d": r"(?P<d>\d{1,2})"}.get(value[0], ".+?")
    return re.compile(form), months


@cache
def _pieces(locale: str, pattern: str) -> tuple[tuple[str, str], ...]:
    tokens = _tokens(locale, pattern)
    if _ambiguous(tokens):
        form = "".join(value for _, value in tokens)
        raise ValueError(
            f"pattern {pattern!r} of {locale} is {form!r}, which can be read in two ways: a month in digits needs a "
            "year of four digits in front and the day behind"
        )
    return tokens


def _ambiguous(tokens: tuple[tuple[str, str], ...]) -> bool:
    fields = [value for kind, value in tokens if kind == "field"]
    in_digits = any(value[0] in "ML" and len(value) <= 2 for value in fields)
    order = "".join(value[0] for value in fields if value[0] in "yMLd")
    return "yy" in fields or (in_digits and (fields[0][0] != "y" or order[-1] != "d"))


@cache
def _check_months(ways: tuple[tuple[str, str], ...]) -> None:
    """No name of a month may be another month's in a format that is otherwise alike."""
    known: dict[str, tuple[int, str]] = {}
    for locale, pattern in ways:
        for month in range(1, 13):
            text = "".join(
                value if kind == "chars" else _field(locale, value, month) if value[0] in "ML" else f"<{value[0]}>"
                for kind, value in _tokens(locale, pattern)
            )
            before, other = known.setdefault(text, (month, locale))
            if before != month:
                raise ValueError(
                    f"{text!r} is month {before} in {other} and {month} in {locale}: leave one of them out"
                )


@cache
def _field(locale: str, field: str, number: int) -> str:
    """The text of a field: what Babel writes for a day that has this year, month, day or weekday (Monday is 0)."""
    if field[0] in "ML":
        day = datetime.date(2024, number, 1)
    elif field[0] == "y":
        day = datetime.date(number, 1, 1)
    else:  # January 2024 began on a Monday
        day = datetime.date(2024, 1, number if field[0] == "d" else number + 1)
    return DateTimeFormat(day, _locale(locale))[field].translate(_SHARED_SPACE)


def _also_writes(ways: Iterable[tuple[str, str]], pair: DatePair) -> bool:
    """Whether one of these formats has the same text for the pair's day."""
    day = datetime.date.fromisoformat(pair.target)
    return any(_month(*way, day.month) in pair.source and write_date(day, *way).source == pair.source for way in ways)


@cache
def _month(locale: str, pattern: str, number: int) -> str:
    """A month as this format has it; looked for first, since that is much faster than to write the whole date."""
    (field,) = (value for kind, value in _tokens(locale, pattern) if kind == "field" and value[0] in "ML")
    return _field(locale, field, number)


@cache
def _locale(name: str) -> Locale:
    try:
        return Locale.parse(name)
    except (UnknownLocaleError, ValueError, TypeError) as error:
        raise ValueError(f"locale is {name!r}, which Babel does not know; try one of {', '.join(LOCALES)}") from error


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
