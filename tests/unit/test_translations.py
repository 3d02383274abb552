"""Spanish-English pairs: every one of the file's, cleaned alike, and split so that no sentence is on both sides."""

import random

import pytest

from arlab.text.translations import (
    FRACTIONS,
    at_most,
    by_source,
    known_targets,
    read_pairs,
    sentence_key,
    spanish_english,
    split_pairs,
)


@pytest.fixture(scope="module")
def pairs():
    return spanish_english()


@pytest.fixture(scope="module")
def parts(pairs):
    return split_pairs(pairs)


@pytest.fixture(scope="module")
def keys(parts):
    """Of the Spanish sentences, part by part."""
    return [{sentence_key(spanish) for spanish, _ in part} for part in parts]


def lines(*rows):
    return "".join("\t".join(row) + "\n" for row in rows)


# --- reading


def test_the_file_has_as_many_pairs_as_its_makers_say(pairs):
    assert len(pairs) == len(set(pairs)) == 140_868
    assert len(by_source(pairs)) == 132_384
    assert len({english for _, english in pairs}) == 119_342


def test_spanish_comes_first(pairs):
    """Signs that only Spanish has, and the commonest short words of either language."""
    spanish, english = zip(*pairs, strict=True)
    assert sum("¿" in s for s in spanish) > 15_000 and sum("¿" in s for s in english) < 20
    for word, side, other in (("el", spanish, english), ("the", english, spanish)):
        counts = [sum(word in sentence.lower().split() for sentence in part) for part in (side, other)]
        assert counts[0] > 10_000 and counts[1] < counts[0] / 100, word


def test_every_sentence_is_clean(pairs):
    for pair in pairs:
        for sentence in pair:
            assert sentence and sentence == sentence.strip()
            assert not any(sign in sentence for sign in "\t\n\r\u200b\u00a0") and "  " not in sentence


def test_reading_makes_spelling_uniform_and_drops_repetitions():
    decomposed, composed = "cafe\u0301", "caf\u00e9"
    text = lines(
        ("coffee", decomposed, "a source"),
        ("coffee ", f"\u200b{composed}", "another source"),  # the same pair, written otherwise
        ("a  black\u00a0coffee", "un tinto", ""),
        ("strong coffee", composed),  # two columns are enough; another translation is another pair
    )
    expected = [(composed, "coffee"), ("un tinto", "a black coffee"), (composed, "strong coffee")]
    assert read_pairs(text) == read_pairs(text + "\n\n") == expected


def test_a_pair_without_one_side_is_left_out():
    assert read_pairs(lines(("", "nada"), ("nothing", " \u200b"), ("two", "dos"))) == [("dos", "two")]
    assert read_pairs("") == []


def test_a_line_that_is_no_pair_is_named():
    with pytest.raises(ValueError, match="line 2 is 'three tres'; needed: English, a tab, Spanish"):
        read_pairs("two\tdos\nthree tres\n")


# --- what counts as the same sentence


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("¡Corre!", "corre."),
        ("¿Tú qué haces?", "Tu, ¿que haces?"),
        ("UNO, dos; TRES", "uno dos tres"),
        ("«Sí»", "sí..."),
        ("ma\u00f1ana", "man\u0303ana"),
    ],
)
def test_signs_case_and_accents_do_not_tell_sentences_apart(one, other):
    assert sentence_key(one) == sentence_key(other)


def test_words_do():
    texts = ["uno dos", "unodos", "dos uno", "uno", "uno dos dos", "1 2", "12"]
    assert len({sentence_key(text) for text in texts}) == len(texts)


def test_a_sentence_of_signs_alone_has_a_key_of_its_own():
    assert sentence_key("?!") == "?!" and sentence_key("...") == "..."


# --- the split


def test_no_spanish_sentence_straddles(pairs, parts, keys):
    assert sum(map(len, parts)) == len(pairs) and set().union(*parts) == set(pairs), "each is in exactly one part"
    assert len(set().union(*keys)) == sum(map(len, keys))


def test_a_split_by_pair_would_have_leaked(pairs, parts):
    """What the key is for: sentences with several translations, or written twice, would be on both sides."""
    shuffled = random.Random(0).sample(pairs, len(pairs))
    cut = len(parts.test)
    train = {spanish.lower() for spanish, _ in shuffled[cut:]}
    assert sum(spanish.lower() in train for spanish, _ in shuffled[:cut]) > cut / 20


def test_the_parts_have_the_sizes_asked_for(keys):
    """By a hash of 131,723 keys: three standard deviations are .0016 of all for the largest part."""
    counts = [len(each) for each in keys]
    assert sum(counts) == 131_723
    for count, fraction in zip(counts, FRACTIONS, strict=True):
        assert count / sum(counts) == pytest.approx(fraction, abs=0.002)


def test_a_pair_keeps_its_part_when_others_go(pairs, parts):
    some = pairs[::50]
    for part, kept in zip(parts, split_pairs(some), strict=True):
        assert set(kept) == set(part) & set(some)


def test_short_sentences_are_counted_by_their_spaces():
    pairs = [("uno", "one"), ("uno dos", "one two"), ("¿uno, dos tres?", "one, two, three?")]
    assert [len(at_most(pairs, words)) for words in range(4)] == [0, 1, 2, 3]


def test_translations_are_gathered_in_order():
    pairs = [("sí", "yes"), ("no", "no"), ("sí", "yeah"), ("Sí", "Yes")]
    assert by_source(pairs) == {"sí": ["yes", "yeah"], "no": ["no"], "Sí": ["Yes"]}


def test_known_english_is_counted(parts):
    assert known_targets([("a", "Go on!"), ("b", "Go off")], [("c", "go on"), ("d", "off go")]) == [True, False]
    share = sum(known_targets(parts.test, parts.train)) / len(parts.test)
    assert 0.2 < share < 0.3, "about a quarter of the held-out English is the translation of another sentence too"
