"""Normalisation: what looks the same becomes the same, once and for all."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arlab.text.corpora import tiny_shakespeare
from arlab.text.normalise import normalise

OPTIONS = st.fixed_dictionaries(
    {
        "form": st.sampled_from(["NFC", "NFKC", None]),
        "newlines": st.booleans(),
        "lower": st.booleans(),
        "strip_accents": st.booleans(),
        "collapse_spaces": st.booleans(),
    }
)
TEXTS = st.text() | st.text(alphabet="aAéÉ\u0301İıΣςß ﬁＡ²\u00a0\u3000\t\r\n\v\x85\u2028한ｶﾞक़")


@given(TEXTS, OPTIONS)
def test_twice_is_once(text, options):
    once = normalise(text, **options)
    assert normalise(once, **options) == once


@given(TEXTS)
def test_composed_and_decomposed_become_equal(text):
    for form, apart in (("NFC", "NFD"), ("NFKC", "NFKD")):
        assert normalise(unicodedata.normalize(apart, text), form=form) == normalise(text, form=form)


@given(TEXTS)
def test_nothing_asked_nothing_changed(text):
    assert normalise(text, form=None, newlines=False) == text


def test_by_hand():
    assert normalise("cafe\u0301") == "café" and len(normalise("cafe\u0301")) == 4
    assert normalise("ﬁ Ａ² …") == "ﬁ Ａ² …", "NFC keeps what looks different"
    assert normalise("ﬁ Ａ² …", form="NFKC") == "fi A2 ..."
    assert normalise("a\r\nb\rc\u2028d\n\ne") == "a\nb\nc\nd\n\ne"
    assert normalise("a\r\nb", newlines=False) == "a\r\nb"
    assert normalise("À la FÊTE", lower=True) == "à la fête"
    assert normalise("\u03aa\u0301", lower=True) == "\u0390", "two characters, whose small letters are one"
    assert normalise("À la fête, 한글", strip_accents=True) == "A la fete, 한글"
    assert normalise("a  b\t\u00a0c \n\n  d", collapse_spaces=True) == "a b c \n\n d"


@given(TEXTS)
def test_no_marks_are_left(text):
    left = unicodedata.normalize("NFD", normalise(text, strip_accents=True))
    assert not any(unicodedata.category(character) == "Mn" for character in left)


def test_what_cannot_be_normalised(as_shipped):
    with pytest.raises(ValueError, match="form is 'NFD'; it must be one of 'NFC', 'NFKC', None"):
        normalise("a", form="NFD")
    with pytest.raises(TypeError, match=r"text is of type bytes, not str; bytes need .decode\('utf-8'\) first"):
        normalise(b"a")


def test_the_corpus_is_normal_already():
    text = tiny_shakespeare()
    assert len(text) == 1_115_394 and len(set(text)) == 65
    assert normalise(text) == text and text.startswith("First Citizen:\nBefore we proceed")
