"""Tokenizer view: one text through several tokenizers, and the shifted pairs that a model is trained on."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
import traitlets

from arlab.text.batches import IGNORE, Batch, padded
from arlab.views.base import BadValue, View, script, style

MAX_TEXT, MAX_TOKENIZERS, MAX_LENGTH = 2000, 6, 64
NAMED = 4  # unknown characters that the sentence names


class TokenizerView(View):
    """A text that one edits in the page, cut by each tokenizer: tokens, ids, counts, and the input/target table.

        view = TokenizerView({"characters": CharTokenizer(corpus), "BPE": BPETokenizer.train(corpus, 512)}, "To be")
        view.text = "or not to be"     # as if typed
        view.ids["BPE"]                # None where the tokenizer refuses the text
        view.batch                     # the table's inputs and targets, for the tokenizer `chosen`

    tokenizers: name -> tokenizer, 1 to 6 of them. `encode` and `token_strings` or `decode` are all that is needed, so a
    tokenizer of the student's own will do; `vocab_size`, `bos_id`, `eos_id` and `pad_id` are shown when it has them.
    text: at most 2,000 characters. show_ids, show_table: what is open at first. chosen: whose table it is (None: the
    first's). ends: with the start and end symbols, where there are any. length: cut or fill the row to so many inputs,
    at most 64 (0: as long as the text).

    Raises ValueError for a text that is too long, a name that is not there, a length out of range; TypeError for
    tokenizers that are not given by name.
    """

    title = "Tokenizers"
    _esm = script("shift_table.js", "tokenizer_view.js")
    _css = style("tokenizer_view.css")

    text = traitlets.Unicode("").tag(sync=True)
    show_ids = traitlets.Bool(False).tag(sync=True)
    show_table = traitlets.Bool(False).tag(sync=True)
    chosen = traitlets.Unicode("").tag(sync=True)
    ends = traitlets.Bool(True).tag(sync=True)
    length = traitlets.Int(0).tag(sync=True)
    symbols = traitlets.List().tag(sync=True)  # name, vocab_size and the special symbols of each tokenizer
    result = traitlets.Dict().tag(sync=True)  # the text with its tokens: one trait, so that they change together

    def __init__(
        self,
        tokenizers: Mapping[str, Any],
        text: str,
        *,
        show_ids: bool = False,
        show_table: bool = False,
        chosen: str | None = None,
        ends: bool = True,
        length: int = 0,
    ) -> None:
        if not isinstance(tokenizers, Mapping):
            raise TypeError(f"tokenizers is a {type(tokenizers).__name__}; give a dict, {{'name': tokenizer}}")
        if not 1 <= len(tokenizers) <= MAX_TOKENIZERS:
            raise BadValue(f"there are {len(tokenizers)} tokenizers; the view shows 1 to {MAX_TOKENIZERS} side by side")
        self._cutters = {str(name): _Cutter(tokenizer) for name, tokenizer in tokenizers.items()}
        super().__init__(
            symbols=[{"name": name} | cutter.symbols for name, cutter in self._cutters.items()],
            text=text,
            show_ids=show_ids,
            show_table=show_table,
            chosen=next(iter(self._cutters)) if chosen is None else chosen,
            ends=ends,
            length=length,
        )
        self.answers["text"] = self._asked
        self._cut()

    @property
    def ids(self) -> dict[str, list[int] | None]:
        """name -> the ids of the text; None where the tokenizer refuses it."""
        return {row["name"]: None if row["error"] else row["ids"] for row in self.result["rows"]}

    @property
    def batch(self) -> Batch:
        """The table of the tokenizer `chosen` as inputs and targets, (1, time).

        Raises:
            ValueError: a text that this tokenizer refuses, or one that leaves nothing to predict.
        """
        ids, symbols = self.ids[self.chosen], self._cutters[self.chosen].symbols
        if ids is None:
            raise ValueError(next(row["error"] for row in self.result["rows"] if row["name"] == self.chosen))
        bos_id, eos_id = (symbols[name] if self.ends else None for name in ("bos_id", "eos_id"))
        pad_id = 0 if symbols["pad_id"] is None else symbols["pad_id"]
        batch = padded([ids], pad_id=pad_id, bos_id=bos_id, eos_id=eos_id, context=self.length or None)
        more = (0, max(0, self.length - batch.inputs.size(1)))
        fill = torch.nn.functional.pad
        return Batch(fill(batch.inputs, more, value=pad_id), fill(batch.targets, more, value=IGNORE))

    def describe(self) -> str:
        counts = (f"{name} {'refuses it' if ids is None else len(ids)}" for name, ids in self.ids.items())
        return f"TokenizerView: {len(self.text)} characters; tokens: {', '.join(counts)}"

    def _asked(self, text: str) -> None:
        self.text = text

    def _cut(self) -> None:
        rows = [{"name": name} | cutter.cut(self.text) for name, cutter in self._cutters.items()]
        self.result = {"text": self.text, "bytes": _bytes(self.text), "rows": rows}

    @traitlets.observe("text")
    def _text_changed(self, _change) -> None:
        if "text" in self.answers:  # the first text waits until everything is in place
            self._cut()

    @traitlets.validate("text")
    def _check_text(self, proposal) -> str:
        if len(proposal["value"]) > MAX_TEXT:
            raise BadValue(f"the text has {len(proposal['value'])} characters; the view shows at most {MAX_TEXT}")
        return proposal["value"]

    @traitlets.validate("chosen")
    def _check_chosen(self, proposal) -> str:
        if proposal["value"] not in self._cutters:
            raise BadValue(f"chosen is {proposal['value']!r}; it must be one of {', '.join(map(repr, self._cutters))}")
        return proposal["value"]

    @traitlets.validate("length")
    def _check_length(self, proposal) -> int:
        if not 0 <= proposal["value"] <= MAX_LENGTH:
            raise BadValue(f"length is {proposal['value']}; it must be from 0 (as long as the text) to {MAX_LENGTH}")
        return proposal["value"]


class _Cutter:
    """A tokenizer with what the page wants to know about its tokens."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer

    @cached_property
    def _strings(self) -> list[str] | None:
        return list(self.tokenizer.token_strings()) if hasattr(self.tokenizer, "token_strings") else None

    def _string(self, i: int) -> str:
        return self.tokenizer.decode([i]) if self._strings is None else self._strings[i]

    @cached_property
    def symbols(self) -> dict[str, Any]:
        names = ("bos_id", "eos_id", "pad_id")
        found = {name: getattr(self.tokenizer, name, None) for name in names}
        strings = {str(i): self._string(i) for i in found.values() if i is not None}
        return found | {"vocab_size": getattr(self.tokenizer, "vocab_size", None), "strings": strings}

    def cut(self, text: str) -> dict[str, Any]:
        """ids, strings, bytes and kinds, one for each token; or the error, and where the characters it is about are."""
        try:
            ids = [operator.index(i) for i in self.tokenizer.encode(text)]
            back = self.tokenizer.decode(ids) if hasattr(self.tokenizer, "decode") else text
            strings = [self._string(i) for i in ids]
        except Exception as error:  # one tokenizer's refusal must not hide the others, and it may be a student's own
            unknown = self._unknown(text)
            message = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            says = _named(unknown, text, len(self.tokenizer.characters)) if unknown else message
            return {"error": says, "unknown": unknown, "ids": [], "strings": [], "bytes": [], "kinds": [], "back": None}
        looked = [self._look(i, string) for i, string in zip(ids, strings, strict=True)]
        return {
            "error": "",
            "unknown": [],
            "ids": ids,
            "strings": strings,
            "bytes": [size for _, size in looked],
            "kinds": [kind for kind, _ in looked],
            "back": None if back == text else back,
        }

    def _look(self, i: int, string: str) -> tuple[str, int | None]:
        """ "special", "part" (of a character) or ""; and the number of bytes, None where it cannot be known."""
        if i in getattr(self.tokenizer, "special_ids", ()):
            return "special", _bytes(string)
        try:
            raw = self.tokenizer.token_bytes(i)
        except Exception:  # it has no such method, or is no byte-level tokenizer: the string is all there is
            return ("part", None) if "\ufffd" in string else ("", _bytes(string))
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError:
            return "part", len(raw)
        return "", len(raw)

    def _unknown(self, text: str) -> list[int]:
        """Places of the characters that the vocabulary lacks, for a tokenizer that has a list of characters."""
        known = set(getattr(self.tokenizer, "characters", ()))
        return [place for place, character in enumerate(text) if character not in known] if known else []


def _named(unknown: list[int], text: str, known: int) -> str:
    shown = [f"{_quoted(text[place])} at position {place}" for place in unknown[:NAMED]]
    rest = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
    return (
        f"No token for {', '.join(shown)}{rest} (counted from 0): not among the {known} characters of this vocabulary."
    )


def _quoted(character: str) -> str:
    return f"“{character}”" if character.isprintable() else f"U+{ord(character):04X}"


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
