"""Contrastive view: two models on one text, the plausible tokens, and the one whose score is the highest."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from arlab.decoding.contrastive import contrastive_score
from arlab.decoding.scorers import check_same_vocabulary, log_softmax
from arlab.views.base import BadValue, script, style
from arlab.views.prompted import HEAD, PromptedView

FREE = 8  # of the best scores without the guard, which may lie anywhere in the vocabulary


class ContrastiveView(PromptedView):
    """What a strong model likes more than a weak one does, among the tokens that the strong one finds plausible.

        view = ContrastiveView(strong, weak, tokenizer, "The sea was calm, and the old", alpha=0.1)
        view.alpha = 0.01           # moves the slider; view.guarded = False takes the guard away
        view.chosen                 # the token that greedy contrastive decoding takes
        view.plausible_size         # how many tokens pass the guard
        view.scores()               # contrastive_score over the vocabulary, in the order of ids

    `alpha`, `guarded`, `order` ("score" or "strong") and `prompt` are traits: read, set, observe or link them. The
    guard keeps the tokens with p_strong >= alpha times the largest p_strong.
    `ContrastiveView.from_logits(strong_logits, weak_logits, token_strings)` shows distributions made by hand.

    Source: "Contrastive Decoding" (Li et al., 2023); lecture 004.
    """

    title = "Contrastive decoding"
    _esm = script(
        "filter_controls.js", "contrast.js", "contrast_words.js", "contrastive_plane.js", "contrastive_view.js"
    )
    _css = style("distribution.css", "next_token.css", "contrastive_view.css")

    alpha = traitlets.Float(0.1).tag(sync=True)
    guarded = traitlets.Bool(True).tag(sync=True)
    order = traitlets.Enum(["score", "strong"], "score").tag(sync=True)  # of the rows
    strong_name = traitlets.Unicode("strong").tag(sync=True)
    weak_name = traitlets.Unicode("weak").tag(sync=True)
    _appended = traitlets.List(traitlets.Unicode()).tag(sync=True)  # strings of the tokens appended
    _strong_logits = traitlets.Bytes(b"").tag(sync=True)  # float32, largest first, ties by lowest id: the guard's
    _strong_logprobs = traitlets.Bytes(b"").tag(sync=True)  # float32, of the same tokens in the same order
    _weak_logprobs = traitlets.Bytes(b"").tag(sync=True)
    _known_strings = traitlets.Dict().tag(sync=True)  # str(id) -> string, of the first tokens by either order

    def __init__(
        self,
        strong: Any,
        weak: Any,
        tokenizer: Any,
        prompt: str | Sequence[int],
        *,
        alpha: float | None = 0.1,
        guarded: bool = True,
        order: str = "score",
        strong_name: str = "strong",
        weak_name: str = "weak",
    ):
        """
        Args:
            strong, weak: language models of the lab's protocol, with one vocabulary. The weak one may be the same
                model with a short memory, `Recompute(strong, window=8)`.
            tokenizer: theirs (encode, decode, token_strings, fingerprint).
            prompt: a text, or token ids.
            alpha: in (0, 1]; None starts without the guard.

        Raises:
            ValueError: vocabularies of different sizes, a prompt that is empty or too long, alpha out of range.
        """
        self._past: list[tuple[list[int], Tensor, Tensor]] = []  # for undo: ids and logits before each appended token
        self._logits = torch.zeros(1), torch.zeros(1)
        super().__init__(
            () if strong is None else (strong, weak),
            tokenizer,
            alpha=0.1 if alpha is None else alpha,
            guarded=guarded and alpha is not None,
            order=order,
            strong_name=strong_name,
            weak_name=weak_name,
        )
        self.answers |= {"append": self.append, "undo": self.undo}
        if strong is not None:
            check_same_vocabulary((strong, weak), (strong_name, weak_name))
            self._begin(prompt)

    @classmethod
    def from_logits(
        cls,
        strong_logits: Float[Tensor, " vocab"] | Sequence[float],
        weak_logits: Float[Tensor, " vocab"] | Sequence[float],
        token_strings: Sequence[str],
        **settings: Any,
    ) -> ContrastiveView:
        """The view on two distributions made by hand: logits (vocab,) of each, and one string a token.

        Raises:
            ValueError: shapes that differ, or logits that are no distribution (NaN, +inf, all -inf).
        """
        strong, weak = (torch.as_tensor(logits, dtype=torch.float32) for logits in (strong_logits, weak_logits))
        view = cls(None, None, None, "", **settings)
        view._made_by_hand(token_strings, strong, weak)
        return view

    @traitlets.validate("alpha")
    def _check_alpha(self, proposal: Any) -> float:
        if not 0 < proposal["value"] <= 1:
            raise BadValue(
                f"alpha is {proposal['value']!r}; it must lie in (0, 1] (no guard at all: guarded=False, or alpha=None)"
            )
        return proposal["value"]

    # -- the text --------------------------------------------------------------------------------------------------

    def append(self, token_id: int | None = None) -> None:
        """Add a token to the text, the chosen one unless another is named, and show what comes next.

        Raises:
            ValueError: no models behind the view, an id out of range, a context that is full.
        """
        if not self._models:
            raise BadValue("this view was made from logits; there is no model to ask for the next token")
        token_id = self.chosen if token_id is None else operator.index(token_id)
        ids, before = [*self._ids, token_id], (self._ids, *self._logits)
        logits = self._logits_after(ids)
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

    # -- the two distributions -------------------------------------------------------------------------------------

    def show(self, strong_logits: Float[Tensor, " vocab"], weak_logits: Float[Tensor, " vocab"]) -> None:
        """Show another pair: logits (vocab,) of the strong and of the weak model, in the order of ids.

        Raises:
            ValueError: shapes that differ, or logits that are no distribution (NaN, +inf, all -inf).
        """
        strong, weak = (logits.detach().float().cpu() for logits in (strong_logits, weak_logits))
        if strong.dim() != 1:
            raise BadValue(f"logits have shape {tuple(strong.shape)}; the view shows one row of each model, (vocab,)")
        scores = contrastive_score(strong, weak, alpha=None)  # refuses what is no distribution, and says why
        free = scores.topk(min(FREE, scores.numel())).indices.tolist()
        ordered, ids = strong.sort(descending=True, stable=True)
        self._logits = strong, weak
        with self.hold_sync():
            self._strong_logits = ordered.numpy().tobytes()
            self._strong_logprobs = log_softmax(strong)[ids].numpy().tobytes()
            self._weak_logprobs = log_softmax(weak)[ids].numpy().tobytes()
            self._sorted_ids = ids.to(torch.uint32).numpy().tobytes()
            self._known_strings = {str(i): self._string(i) for i in {*ids[:HEAD].tolist(), *free}}

    # -- what it means, in the library's own terms -----------------------------------------------------------------

    @property
    def strong_logits(self) -> Float[Tensor, " vocab"]:
        """Raw, in the order of ids, float32, on the CPU."""
        return self._logits[0]

    @property
    def weak_logits(self) -> Float[Tensor, " vocab"]:
        """Raw, in the order of ids, float32, on the CPU."""
        return self._logits[1]

    def scores(self) -> Float[Tensor, " vocab"]:
        """`arlab.decoding.contrastive_score` at this alpha (at None where the guard is off), in the order of ids."""
        return contrastive_score(*self._logits, alpha=self.alpha if self.guarded else None)

    @property
    def chosen(self) -> int:
        """The id that greedy contrastive decoding takes: the highest score, the lowest id among equals."""
        return int(self.scores().argmax())

    @property
    def plausible_size(self) -> int:
        """How many tokens the guard leaves; without it, those that the strong model gives any probability."""
        return int((self.scores() > -math.inf).sum())

    @property
    def figures(self) -> dict[str, float | int]:
        """The figures under the slider, computed by `arlab.decoding`, with or without a page.

        plausible (tokens) of vocab_size, their mass in the strong model, threshold (the smallest plausible p_strong;
        0 without the guard), chosen and chosen_score, strong_first (the strong model's own choice), free_first and
        free_score (what would win without the guard), beaten (implausible tokens that score higher than the chosen).
        """
        scores, free = self.scores(), contrastive_score(*self._logits, alpha=None)
        p = self.strong_logits.double().softmax(-1)
        chosen = self.chosen
        return {
            "plausible": self.plausible_size,
            "vocab_size": scores.numel(),
            "mass": float(p[scores > -math.inf].sum()),
            "threshold": self.alpha * float(p.max()) if self.guarded else 0.0,
            "chosen": chosen,
            "chosen_score": float(scores[chosen]),
            "strong_first": int(self.strong_logits.argmax()),
            "free_first": int(free.argmax()),
            "free_score": float(free.max()),
            "beaten": int(((scores == -math.inf) & (free > free[chosen])).sum()),
        }

    def describe(self) -> str:
        if not self._sorted_ids:
            return self.title
        figures = self.figures
        guard = f"alpha {self.alpha:g}" if self.guarded else "no guard"
        return (
            f"{self._about()}: {guard} leaves {figures['plausible']} of {figures['vocab_size']} tokens; chosen "
            f"{self._string(figures['chosen'])!r}, the strong model alone {self._string(figures['strong_first'])!r}"
        )
