"""What every view shares: its assembled JavaScript, questions from the page, token strings, and the saved page.

A view is an `anywidget`: Python holds the state (traits), a small ES module draws it. The state is sent once; the
page does the arithmetic of a moving slider itself, so that a drag never waits for the kernel.
"""

from __future__ import annotations

import base64
import html
import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

HERE = Path(__file__).parent
CORE = ("theme.js", "controls.js", "core.js")


class BadValue(traitlets.TraitError, ValueError):
    """A slider or an argument was given a value that means nothing. The message names it and what is allowed."""


def script(*names: str) -> str:
    """The ES module of a view: the core, then the given files of this folder, as one text.

    A module that arrives as text cannot import its siblings, so they are put one after the other.
    The last file defines `function render({ model, el })` and ends with `export default { render };`.
    """
    text = "\n".join((HERE / name).read_text(encoding="utf-8") for name in (*CORE, *names))
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError(f"{names}: a module may not contain '</script' or '<!--', it is placed in a page by save_html")
    return text


def style(*names: str) -> str:
    """The style sheet of a view: `core.css`, then the given files of this folder."""
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("core.css", *names))


class View(anywidget.AnyWidget):
    """An interactive view. Subclasses set `_esm = script("name.js")`, `_css = style()`, `title`, and their traits.

    The page may ask the kernel something: `await view.ask("kind", payload)` in JavaScript calls the function that the
    subclass put in `self.answers["kind"]` with the payload; its traits are updated before the answer arrives, and
    an exception is shown in the view as a sentence.
    """

    title = "View"
    tokens_key = traitlets.Unicode("").tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        self.answers: dict[str, Callable[..., Any]] = {"tokens": self._send_tokens}
        self._token_strings: Callable[[], list[str]] | None = None
        super().__init__(**traits)
        self.on_msg(self._answer)

    # -- questions from the page ------------------------------------------------------------------------------

    def _answer(self, _widget: Any, content: dict, _buffers: list) -> None:
        kind, number = content.get("ask"), content.get("number")
        if kind not in self.answers:
            return
        try:
            payload = content.get("payload") or {}
            buffers = self.answers[kind](**payload) or []
            self.send({"answer": number, "error": None}, buffers)
        except Exception as error:  # whatever went wrong belongs in front of the student, not in a hidden log
            message = str(error) or type(error).__name__
            if not isinstance(error, (ValueError, TypeError)):
                message = f"{type(error).__name__}: {message}"
                traceback.print_exc()
            self.send({"answer": number, "error": message})

    # -- token strings: once for each tokenizer and page --------------------------------------------------------

    def use_tokenizer(self, key: str, strings: Callable[[], list[str]]) -> None:
        """Let the page ask for the strings of all tokens. `key` tells tokenizers apart (a fingerprint).

        A page keeps one table for each key, so a second view on the same tokenizer sends nothing.
        """
        self._token_strings = strings
        self.tokens_key = key

    def _send_tokens(self) -> list[bytes]:
        if self._token_strings is None:
            raise ValueError("this view has no tokenizer")
        return [json.dumps(self._token_strings(), ensure_ascii=False).encode("utf-8", "replace")]

    # -- shown in a notebook -----------------------------------------------------------------------------------

    def describe(self) -> str:
        """One fixed line for a reader without a page (stored in the notebook; no address, no clock, no chance)."""
        return self.title

    def __repr__(self) -> str:
        return self.describe()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        folder = os.environ.get("ARLAB_PHOTOGRAPH")
        if folder:  # tools/build.py photographs these pages for readers who have no kernel
            self.save_html(Path(folder) / f"{self.model_id}.html")
        return super()._repr_mimebundle_(**options)

    # -- saved page --------------------------------------------------------------------------------------------

    def saved_state(self) -> dict[str, Any]:
        """The traits the page needs, bytes as base64 under "$base64"."""
        ours = set(self.trait_names(sync=True)) - set(anywidget.AnyWidget.class_trait_names())
        state = self.get_state(ours - {"_esm", "_css", "_anywidget_id"})
        return {name: _plain(value) for name, value in state.items()}

    def save_html(self, path: str | Path) -> Path:
        """Write one self-contained page that moves without a kernel; nothing in it is loaded from elsewhere.

        Returns the path. What needs the model (a new prompt, the next token) says so in the page.
        """
        tokens = {self.tokens_key: self._token_strings()} if self._token_strings and self.tokens_key else {}
        page = _PAGE.format(
            title=html.escape(self.title),
            css=self._css,
            state=_json_in_html(self.saved_state()),
            tokens=_json_in_html(tokens),
            module=self._esm,
            start=(HERE / "saved.js").read_text(encoding="utf-8"),
        )
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8", errors="replace")  # a lone surrogate in a token cannot be written
        return path


def _plain(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$base64": base64.b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _json_in_html(value: Any) -> str:
    """JSON that may stand in a <script> element: with `<` escaped, neither `</script>` nor `<!--` can occur."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{css}</style>
</head>
<body class="arlab-page">
<main id="arlab-view"></main>
<script type="application/json" id="arlab-state">{state}</script>
<script type="application/json" id="arlab-tokens">{tokens}</script>
<script type="module">
{module}
{start}
</script>
</body>
</html>
"""
