"""One spelling for what looks the same: Unicode forms, line ends, case, accents, spaces."""

from __future__ import annotations

import re
import unicodedata

FORMS = ("NFC", "NFKC", None)
LINE_ENDS = re.compile("\r\n|[\r\x85\u2028\u2029]")
# Runs of white space that is no line end: spaces of every width, tabs.
SPACES = re.compile("[^\\S\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]+")


def normalise(
    text: str,
    *,
    form: str | None = "NFC",
    newlines: bool = True,
    lower: bool = False,
    strip_accents: bool = False,
    collapse_spaces: bool = False,
) -> str:
    """The text in one agreed spelling. Doing it twice changes nothing more.

    What is lost here is lost for good: a model never writes what normalisation took away.

    Args:
        form: "NFC" writes e + a combining accent as the one character é; what you see stays the same. "NFKC" also
            replaces compatibility characters: the ligature fi by f and i, a full-width A by A, a superscript 2 by 2.
            None leaves the code points alone.
        newlines: every line end (\\r\\n, \\r, and Unicode's own) becomes \\n.
        lower: to lower case.
        strip_accents: takes combining marks off: é becomes e. In scripts that write vowels as marks, such as
            Devanagari, it destroys words.
        collapse_spaces: a run of spaces or tabs becomes one space. Line ends stay.

    Raises:
        ValueError: another form.
        TypeError: something that is not a str, such as bytes.

    Source: Unicode Standard Annex 15.
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; it must be one of {', '.join(map(repr, FORMS))}")
    if not isinstance(text, str):
        raise TypeError(f"text is of type {type(text).__name__}, not str; bytes need .decode('utf-8') first")
    if newlines:
        text = LINE_ENDS.sub("\n", text)
    text = _in_form(text, form)
    if lower:
        text = _in_form(text.lower(), form)
    if strip_accents:
        parts = unicodedata.normalize("NFKD" if form == "NFKC" else "NFD", text)
        text = "".join(part for part in parts if unicodedata.category(part) != "Mn")
        text = unicodedata.normalize(form or "NFC", text)  # taking apart also split Korean syllables: join them again
    if collapse_spaces:
        text = SPACES.sub(" ", text)
    return text


def _in_form(text: str, form: str | None) -> str:
    return text if form is None else unicodedata.normalize(form, text)
