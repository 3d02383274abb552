"""The tokenizer view without a browser: ids, counts, the table against `padded`, and the texts that it refuses."""

import pytest
import torch
import traitlets

from arlab.text.batches import IGNORE, padded
from arlab.text.tokenizers import BPETokenizer, CharTokenizer
from arlab.views.tokenizer_view import MAX_TEXT, TokenizerView

CORPUS = "to be or not to be: that is the question. " * 3
SPECIAL = ["<bos>", "<eos>", "<pad>"]


class Bytes:
    """A student's tokenizer: nothing but encode and decode."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids) -> str:
        return bytes(ids).decode("utf-8", "replace")


@pytest.fixture(scope="module")
def tokenizers() -> dict:
    return {
        "characters": CharTokenizer(CORPUS, special=SPECIAL),
        "BPE": BPETokenizer.train(CORPUS, 300, special=["<eos>"]),
        "bytes": Bytes(),
    }


def row(view: TokenizerView, name: str) -> dict:
    return next(row for row in view.result["rows"] if row["name"] == name)


def test_ids_are_the_tokenizers_own(tokenizers):
    view = TokenizerView(tokenizers, "to be")
    for text in ("to be", "that is the question", ""):
        view.text = text
        assert view.ids == {name: tokenizer.encode(text) for name, tokenizer in tokenizers.items()}
        assert view.result["text"] == text
        for name, tokenizer in tokenizers.items():
            assert "".join(row(view, name)["strings"]) == tokenizer.decode(view.ids[name]) == text
            assert sum(row(view, name)["bytes"]) == len(text.encode())


def test_bytes_of_parts_of_characters_add_up(tokenizers):
    text = "be 😀é"
    view = TokenizerView({"BPE": tokenizers["BPE"], "bytes": tokenizers["bytes"]}, text)
    assert view.result["bytes"] == len(text.encode()) == sum(row(view, "BPE")["bytes"])
    parts = [
        string for string, kind in zip(row(view, "BPE")["strings"], row(view, "BPE")["kinds"], strict=True) if kind
    ]
    assert parts[0] == "<F0>" and len(parts) == 6
    assert row(view, "bytes")["kinds"].count("part") == 6
    assert row(view, "bytes")["bytes"][-1] is None  # U+FFFD has three bytes, the token has one
    assert row(view, "BPE")["back"] is row(view, "bytes")["back"] is None  # nothing is lost


def test_a_special_symbol_in_the_text_is_told_from_its_letters(tokenizers):
    view = TokenizerView({"BPE": tokenizers["BPE"]}, "be<eos>")
    assert row(view, "BPE")["kinds"][-1] == "special" and view.ids["BPE"][-1] == tokenizers["BPE"].eos_id


def test_unknown_characters_are_named_with_their_places(tokenizers):
    view = TokenizerView(tokenizers, "to bé €")
    refused = row(view, "characters")
    assert refused["unknown"] == [4, 6]
    assert refused["error"].startswith("No token for “é” at position 4, “€” at position 6 (counted from 0)")
    assert view.ids["characters"] is None and view.ids["BPE"] == tokenizers["BPE"].encode("to bé €")
    assert view.describe().startswith("TokenizerView: 7 characters; tokens: characters refuses it, BPE ")
    with pytest.raises(ValueError, match="No token for “é” at position 4"):
        _ = view.batch
    view.text = "to be"
    assert view.ids["characters"] is not None and not row(view, "characters")["unknown"]


def test_many_unknown_characters_and_invisible_ones(tokenizers):
    view = TokenizerView({"characters": tokenizers["characters"]}, "\u202eABCDEF")
    error = row(view, "characters")["error"]
    assert "U+202E at position 0, “A” at position 1" in error and "and 3 more" in error and "\u202e" not in error


def test_an_error_of_a_student_s_tokenizer_is_shown_beside_the_others(tokenizers):
    class Broken(Bytes):
        def encode(self, text):
            return [{"a": 0}[letter] for letter in text]

    view = TokenizerView({"mine": Broken(), "bytes": Bytes()}, "ab")
    assert row(view, "mine")["error"] == "KeyError: 'b'"
    assert view.ids == {"mine": None, "bytes": [97, 98]}


def test_ids_without_a_string_are_an_error_of_that_tokenizer_alone(tokenizers):
    class Short(Bytes):
        def token_strings(self):
            return ["a", "b"]

    view = TokenizerView({"mine": Short(), "BPE": tokenizers["BPE"]}, "to be")
    assert row(view, "mine")["error"].startswith("IndexError") and view.ids["BPE"]


def test_a_tokenizer_that_loses_something_is_found_out():
    class Lower(Bytes):
        def encode(self, text):
            return super().encode(text.lower())

    assert row(TokenizerView({"lower": Lower()}, "To be"), "lower")["back"] == "to be"


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("length", [0, 3, 7, 12])
@pytest.mark.parametrize("name", ["characters", "BPE", "bytes"])
def test_the_table_is_what_padded_makes(tokenizers, name, ends, length):
    tokenizer = tokenizers[name]
    view = TokenizerView(tokenizers, "to be", chosen=name, ends=ends, length=length)
    bos, eos, pad = (getattr(tokenizer, symbol, None) for symbol in ("bos_id", "eos_id", "pad_id"))
    other = list(range(5)) * 3  # a longer sequence in the same batch, so that `padded` fills this row
    pair = padded(
        [tokenizer.encode("to be"), other[: max(length + 1, 1)] if length else tokenizer.encode("to be")],
        pad_id=pad or 0,
        bos_id=bos if ends else None,
        eos_id=eos if ends else None,
        context=length or None,
    )
    assert torch.equal(view.batch.inputs, pair.inputs[:1]) and torch.equal(view.batch.targets, pair.targets[:1])
    if length:
        assert view.batch.inputs.shape == (1, length)
    if length == 12:
        assert view.batch.targets[0, -1] == IGNORE


def test_nothing_to_predict_is_an_error(tokenizers):
    view = TokenizerView(tokenizers, "t", chosen="bytes")
    with pytest.raises(ValueError):
        _ = view.batch
    view.chosen = "characters"  # start, t, end: two predictions
    assert view.batch.tokens == 2


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"text": "x" * (MAX_TEXT + 1)}, f"text has {MAX_TEXT + 1} characters; the view shows at most {MAX_TEXT}"),
        ({"chosen": "words"}, "chosen is 'words'; it must be one of 'characters', 'BPE', 'bytes'"),
        ({"length": 65}, "length is 65; it must be from 0"),
        ({"length": -1}, "length is -1"),
    ],
)
def test_bad_settings_are_refused_and_nothing_changes(tokenizers, settings, says):
    with pytest.raises(ValueError, match=says):
        TokenizerView(tokenizers, **({"text": "to be"} | settings))
    view = TokenizerView(tokenizers, "to be")
    [(name, value)] = settings.items()
    with pytest.raises(traitlets.TraitError, match=says):
        setattr(view, name, value)
    assert view.result["text"] == view.text == "to be"


def test_bad_tokenizers_are_refused(as_shipped):
    with pytest.raises(TypeError, match="tokenizers is a Bytes; give a dict"):
        TokenizerView(Bytes(), "to be")
    with pytest.raises(ValueError, match="there are 0 tokenizers"):
        TokenizerView({}, "to be")


def test_it_is_described_by_one_fixed_line(tokenizers):
    count = len(tokenizers["BPE"].encode("to be"))
    line = f"TokenizerView: 5 characters; tokens: characters 5, BPE {count}, bytes 5"
    assert repr(TokenizerView(tokenizers, "to be")) == line
