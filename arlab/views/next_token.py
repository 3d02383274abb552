"""The next-token explorer: what a model expects next, and what temperature, top-k, top-p and min-p make of it."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import traitlets
from torch import Tensor

from arlab.views.base import BadValue, script, style
from arlab.views.next_token_state import DistributionView


class NextToken(DistributionView):
    """Type a prompt, move the sliders, draw, append a token and go on.

        view = NextToken(model, tokenizer, "The capital of France is", temperature=0.7, top_p=0.9)
        view.temperature = 0.5      # moves the slider; view.observe(...) and ipywidgets.jslink work too
        view.figures                # entropy, tokens kept, kept mass, over the whole vocabulary
        view.filters()              # [Temperature(t=0.5), TopP(p=0.9)], ready for `sample`

    The filters work in the order temperature, top-k, top-p, min-p. `NextToken.from_logits(logits, token_strings)`
    shows a distribution made by hand.
    """

    title = "Next-token explorer"
    _esm = script("distribution.js", "filter_controls.js", "cumulative_curve.js", "next_token.js")
    _css = style("distribution.css", "next_token.css")

    bar_scale = traitlets.Enum(["fit", "full"], "fit").tag(sync=True)  # bars: as wide as the largest, or 100 %
    chosen = traitlets.Int(-1, help="the token picked by hand, ready to append; -1 for none").tag(sync=True)
    _appended = traitlets.List(traitlets.Unicode()).tag(sync=True)  # strings of the tokens appended

    def __init__(self, model: Any, tokenizer: Any, prompt: str | Sequence[int], **settings: Any):
        """Arguments and errors as for every `DistributionView`: model, tokenizer, prompt, and the sliders' settings."""
        self._past: list[tuple[list[int], Tensor]] = []  # for undo: the ids and logits before each appended token
        super().__init__(model, tokenizer, prompt, **settings)
        self.answers |= {"append": self.append, "undo": self.undo}

    def append(self, token_id: int) -> None:
        """Add a token to the text and show what comes next.

        Raises:
            ValueError: no model behind the view, an id out of range, a context that is full.
        """
        if not self._models:
            raise BadValue("this view was made from logits; there is no model to ask for the next token")
        ids = [*self._ids, operator.index(token_id)]
        logits, before = self._logits_after(ids), (self._ids, self._logits)
        with self.hold_sync():
            self._show_after(ids, *logits)
            self._past.append(before)
            self._appended = [*self._appended, self._string(token_id)]

    def undo(self) -> None:
        """Take back the last appended token; nothing happens when there is none."""
        if self._past:
            with self.hold_sync():
                self._appended = self._appended[:-1]
                self._show_after(*self._past.pop())

    def _start(self, ids: list[int]) -> None:
        logits = self._logits_after(ids)
        with self.hold_sync():
            self._show_after(ids, *logits)
            self._past, self._appended = [], []

    def _show_after(self, ids: list[int], *logits: Tensor) -> None:
        with self.hold_sync():
            self.chosen = -1
            super()._show_after(ids, *logits)
