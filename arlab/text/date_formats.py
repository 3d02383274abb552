"""How locales write a date: the formats of Babel (the Unicode CLDR's tables), and which of them have one reading."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from functools import cache

from babel import Locale, UnknownLocaleError
from babel.dates import DateTimeFormat, tokenize_pattern

# Left to right, one character after the other: scripts that run the other way (Arabic, Hebrew) or build syllables of
# several characters (Devanagari) can be written too, but a grid with a column for each character does not suit them.
LOCALES = tuple("en de nl sv fr es it pt fi hu pl cs tr el ru uk ja zh ko vi".split())
PATTERNS = ("full", "long", "medium", "yMMMEd")  # CLDR's names: three lengths, and one skeleton (with a short weekday)
_SHARED_SPACE = str.maketrans({"\u00a0": " ", "\u202f": " "})  # which kind of space CLDR has changes with its version


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
def reader(locale: str, pattern: str) -> tuple[re.Pattern, dict[str, int]]:
    """What a text of this format looks like, and the numbers of its months."""
    form, months = "", {}
    for kind, value in _tokens(locale, pattern):
        if kind == "chars":
            form += re.escape(value)
        elif value[0] in "ML":
            months = {field_text(locale, value, number): number for number in range(1, 13)}
            form += f"(?P<month>{'|'.join(map(re.escape, sorted(months, key=len, reverse=True)))})"
        else:
            form += {"y": r"(?P<y>[1-9]\d{3})", "d": r"(?P<d>\d{1,2})"}.get(value[0], ".+?")
    return re.compile(form), months


@cache
def pieces(locale: str, pattern: str) -> tuple[tuple[str, str], ...]:
    """("chars", text) and ("field", letters) in turn, of a format that has one reading.

    Raises:
        ValueError: an unknown locale or pattern; a format that two people may read differently.
    """
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
                value if kind == "chars" else field_text(locale, value, month) if value[0] in "ML" else f"<{value[0]}>"
                for kind, value in _tokens(locale, pattern)
            )
            before, other = known.setdefault(text, (month, locale))
            if before != month:
                raise ValueError(
                    f"{text!r} is month {before} in {other} and {month} in {locale}: leave one of them out"
                )


@cache
def field_text(locale: str, field: str, number: int) -> str:
    """The text of a field: what Babel writes for a day that has this year, month, day or weekday (Monday is 0)."""
    if field[0] in "ML":
        day = datetime.date(2024, number, 1)
    elif field[0] == "y":
        day = datetime.date(number, 1, 1)
    else:  # January 2024 began on a Monday
        day = datetime.date(2024, 1, number if field[0] == "d" else number + 1)
    return DateTimeFormat(day, _locale(locale))[field].translate(_SHARED_SPACE)


@cache
def month_name(locale: str, pattern: str, number: int) -> str:
    """A month as this format has it; looked for first, since that is much faster than to write the whole date."""
    (field,) = (value for kind, value in _tokens(locale, pattern) if kind == "field" and value[0] in "ML")
    return field_text(locale, field, number)


@cache
def _locale(name: str) -> Locale:
    try:
        return Locale.parse(name)
    except (UnknownLocaleError, ValueError, TypeError) as error:
        raise ValueError(f"locale is {name!r}, which Babel does not know; try one of {', '.join(LOCALES)}") from error
