"""Dates in many languages: right as Babel has them, one reading each, and the fields stand where the spans say."""

import datetime
import itertools
import re

import pytest
from babel.dates import format_date, format_skeleton

from arlab.text.date_formats import LOCALES, PATTERNS, formats
from arlab.text.dates import date_pairs, read_date, split_dates, write_date

PAIRS = date_pairs(3000, seed=1)


def test_there_are_languages_enough_and_other_scripts():
    assert len(LOCALES) >= 12 and len({locale for locale, _ in formats()}) == len(LOCALES)
    letters = "".join(pair.source for pair in PAIRS)
    for script in ("[a-z]", "[α-ω]", "[а-я]", "[가-힣]", "[一-龯]"):
        assert re.search(script, letters), script


@pytest.mark.parametrize("locale", LOCALES)
def test_the_text_is_what_babel_writes(locale):
    for (_, pattern), month in itertools.product(formats([locale]), range(1, 13)):
        day = datetime.date(2021, month, 2 * month + 1)
        whole = (
            format_date(day, pattern, locale=locale)
            if pattern in ("full", "long", "medium")
            else format_skeleton(pattern, day, locale=locale)
        )
        assert write_date(day, locale, pattern).source == re.sub("[\u00a0\u202f]", " ", whole)


def test_a_source_has_one_reading():
    """Proof: the year's four digits are in the text, so two readings are of one year. The rest of a text depends on the
    month, the day and the weekday; seven leap years have every combination of them, and more than one year can have."""
    years = {datetime.date(year, 1, 1).weekday(): year for year in range(1952, 2050, 4)}
    assert len(years) == 7
    readings = {}
    for way in formats():
        by_weekday = write_date((2024, 1, 1), *way).source != write_date((2048, 1, 1), *way).source.replace("48", "24")
        for year in years.values() if by_weekday else [2024]:
            days = (datetime.date(year, 1, 1) + datetime.timedelta(n) for n in range(366))
            for pair in (write_date(day, *way) for day in days):
                assert re.findall(r"\d{3,}", pair.source) == [str(year)]
                text = pair.source.replace(str(year), "year")
                assert readings.setdefault(text, pair.target[5:]) == pair.target[5:], (pair, readings[text])


def test_what_can_be_read_in_two_ways_is_left_out():
    assert ("fi", "medium") not in formats(["fi"])  # 4.3.2021
    assert ("ja", "medium") in formats(["ja"])  # 2021/03/04: the year is in front
    assert formats(["de", "en"], ["short", "long"]) == [("de", "long"), ("en", "long")]
    with pytest.raises(ValueError, match="'short' of en is 'M/d/yy', which can be read in two ways"):
        write_date((2021, 3, 4), "en", "short")
    with pytest.raises(ValueError, match="no unambiguous format among"):
        formats(["en", "de"], ["short"])


def test_spans_say_where_each_character_comes_from():
    pair = write_date((2021, 3, 4), "es", "full")
    assert pair.source == "jueves, 4 de marzo de 2021" and pair.target == "2021-03-04"
    assert [pair.source[slice(*span)] if span else None for span in pair.spans] == (
        ["2021"] * 4 + [None] + ["marzo"] * 2 + [None] + ["4"] * 2
    )
    for pair in PAIRS:
        assert len(pair.spans) == len(pair.target) == 10
        assert [span is None for span in pair.spans] == [character == "-" for character in pair.target]
        year, month, day = (pair.source[slice(*pair.spans[i])] for i in (0, 5, 8))
        assert year == pair.target[:4] and int(day) == int(pair.target[8:])
        assert not month.isdigit() or int(month) == int(pair.target[5:7])
        assert all(pair.spans[i] == pair.spans[0] for i in range(4)) and pair.spans[8] == pair.spans[9]


def test_pairs_are_unique_repeatable_and_within_the_years():
    assert len({pair.source for pair in PAIRS}) == len(PAIRS) == 3000
    assert date_pairs(3000, seed=1) == PAIRS != date_pairs(3000, seed=2)
    assert {pair.locale for pair in PAIRS} == set(LOCALES) and {pair.pattern for pair in PAIRS} == set(PATTERNS)
    few = date_pairs(200, locales=["de"], patterns=["long"], years=(2020, 2020))
    assert {pair.target[:4] for pair in few} == {"2020"}


def test_all_there_are_and_not_one_more():
    """Japanese and Chinese write the long form alike: 365 texts, not 730."""
    options = {"locales": ["ja", "zh"], "patterns": ["long"], "years": (2021, 2021)}
    every = date_pairs(365, **options)
    assert len({pair.target for pair in every}) == 365
    with pytest.raises(ValueError, match="count is 366; 2 formats of 365 days give only 365 texts"):
        date_pairs(366, **options)


def test_held_out_days_and_unseen_formats_are_kept_apart():
    split = split_dates(PAIRS, unseen_locales=["tr"], unseen_patterns=["yMMMEd"])
    left_out = set(PAIRS) - {*split.train, *split.held_out, *split.unseen}
    assert sum(map(len, split)) + len(left_out) == len(PAIRS)
    days = {pair.target for pair in split.train}
    assert not days & {pair.target for pair in split.held_out}
    for pair in (*split.train, *split.held_out):
        assert pair.locale != "tr" and pair.pattern != "yMMMEd"
    assert all(pair.locale == "tr" or pair.pattern == "yMMMEd" for pair in split.unseen)
    assert 0.06 < len(split.held_out) / (len(split.train) + len(split.held_out)) < 0.14  # 2,000 days: 6 sigma
    assert split_dates(PAIRS).unseen == [] and sum(map(len, split_dates(PAIRS))) == len(PAIRS)
    shown = {(pair.locale, pair.pattern) for pair in split.train}
    for part, expected in ((split.unseen, False), (left_out, True)):
        for pair in part:
            assert pair.locale == "tr" or pair.pattern == "yMMMEd"
            day = datetime.date.fromisoformat(pair.target)
            assert any(write_date(day, *way).source == pair.source for way in shown) == expected, pair


def test_what_a_known_format_writes_alike_is_not_unseen():
    """Chinese has one text for long and medium, English in May alone ("May" is its own short form)."""
    pairs = date_pairs(600, locales=["en", "de", "zh"], patterns=["long", "medium"], years=(2020, 2021))
    split = split_dates(pairs, unseen_patterns=["medium"])
    assert {pair.locale for pair in split.unseen} == {"en"}
    assert {int(pair.target[5:7]) for pair in split.unseen} == {*range(1, 13)} - {5}
    with pytest.raises(ValueError, match="nothing is unseen"):
        split_dates([pair for pair in pairs if pair.locale == "zh"], unseen_patterns=["medium"])


def test_a_day_stays_in_its_part_when_pairs_are_added():
    more = split_dates(date_pairs(4000, seed=1))
    assert {pair.source for pair in split_dates(PAIRS).held_out} <= {pair.source for pair in more.held_out}


@pytest.mark.parametrize(
    ("date", "words"),
    [
        ((2023, 2, 30), "2023-02-30 does not exist: February 2023 has the days 1 to 28"),
        ((1900, 2, 29), "February 1900 has the days 1 to 28"),
        ((2021, 13, 1), "there is no month 13"),
        ((2021, 4, 0), "April 2021 has the days 1 to 30"),
        ((21, 4, 1), "no four digits"),
        ((2021, 3.9, 4), r"give a datetime.date or \(year, month, day\)"),
    ],
)
def test_a_date_that_does_not_exist_is_refused_in_words(date, words, as_shipped):
    with pytest.raises(ValueError, match=words):
        write_date(date, "en", "long")


def test_a_leap_day_exists():
    assert write_date((2024, 2, 29), "de", "long").source == "29. Februar 2024"
    assert write_date(datetime.datetime(2024, 2, 29, 12), "de", "long").target == "2024-02-29"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: write_date((2021, 3, 4), "xx", "long"), "locale is 'xx', which Babel does not know"),
        (lambda: write_date((2021, 3, 4), "en", "longest"), "pattern is 'longest'"),
        (lambda: write_date((2021, 3, 4), "en", "yMMM"), "needed one year, one month and one day"),
        (lambda: date_pairs(0), "count is 0"),
        (lambda: date_pairs(5, years=(2020, 2019)), "the first must not be later"),
        (lambda: date_pairs(5, locales="en"), "lists of names"),
        (lambda: split_dates(PAIRS, unseen_locales=["is"]), r"unseen_locales has \['is'\]; the pairs have cs, de"),
        (lambda: split_dates(PAIRS, unseen_patterns="long"), "give a list of names"),
        (lambda: split_dates(PAIRS, fraction=1.0), "fraction is 1.0"),
        (lambda: split_dates(PAIRS[:1]), "1 pairs leave"),
        (lambda: read_date("4 mars"), "'4 mars' is no date"),
        (lambda: read_date("Friday, March 4, 2021"), "that day is written 'Thursday, March 4, 2021'"),
        (lambda: read_date("31. Februar 2021"), "2021-02-31 does not exist: February 2021 has the days 1 to 28"),
        (lambda: date_pairs(10**9), r"count is 1000000000; \d+ formats of 36525 days give no more than \d+"),
        (lambda: date_pairs(5, years=(2021,)), r"years are \(2021,\); give the first and the last"),
    ],
)
def test_bad_input_is_named(call, words, as_shipped):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_day_in_front_of_the_month_is_left_out():
    """Kyrgyz puts the year first, then the day, then the month: 2021-04-03 is the 4th of March."""
    assert formats(["ky"], ["yMd", "long"]) == [("ky", "long")]
    with pytest.raises(ValueError, match="'yMd' of ky is 'y-dd-MM', which can be read in two ways"):
        write_date((2021, 3, 4), "ky", "yMd")


def test_languages_in_which_one_text_means_two_days_do_not_go_together():
    """Mai is "may" in Asturian, and November in Basaa: each is clear alone."""
    ways = ["medium", "yMMMd"]
    assert formats(["ast"], ways) and formats(["bas"], ways)
    with pytest.raises(ValueError, match="'<d> may <y>' is month 5 in ast and 11 in bas: leave one of them out"):
        date_pairs(5, locales=["ast", "bas"], patterns=ways)


def test_reading_undoes_writing():
    for pair in PAIRS[:500]:
        again = read_date(pair.source)
        assert (again.source, again.target, again.spans) == (pair.source, pair.target, pair.spans)
