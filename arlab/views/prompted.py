"""What the views of a text and its next token share: the prompt, its models' logits, and the tokens' strings."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from arlab.decoding.prompts import read_prompts
from arlab.nn.language_model import eval_mode, last_logits
from arlab.views.base import BadValue, View

HEAD = 256  # tokens whose strings travel with the numbers; the rest come once, when first asked for


class PromptedView(View):
    """A view of what comes next after `prompt`, a trait: set it, or write into the page's box.

    Subclasses give `show(*logits)`, one row (vocab,) for each model, and call `_begin(prompt)` at the end of their
    `__init__`. A prompt that the models cannot read (by raising) leaves everything as it was.
    """

    prompt = traitlets.Unicode("").tag(sync=True)
    page_figures = traitlets.Dict(help="as the page last computed them; empty before it drew").tag(sync=True)
    _has_model = traitlets.Bool(False).tag(sync=True)
    _sorted_ids = traitlets.Bytes(b"").tag(sync=True)  # uint32, by falling logit, ties by lowest id

    def __init__(self, models: Sequence[Any], tokenizer: Any, **traits: Any) -> None:
        self._models, self._tokenizer = tuple(models), tokenizer  # no models: distributions made by hand
        self._ids: list[int] = []
        self._known: dict[str, list[int]] = {}  # prompts given as ids, by their text
        self._strings: Callable[[], list[str]] = lambda: []
        super().__init__(**traits)
        self.answers["prompt"] = self._run

    @property
    def ids(self) -> list[int]:
        """The tokens before the next one."""
        return list(self._ids)

    def show(self, *logits: Float[Tensor, " vocab"]) -> None:
        """Show other distributions: logits (vocab,) of each model, in the order of ids."""
        raise NotImplementedError

    # -- the prompt ------------------------------------------------------------------------------------------------

    def _begin(self, prompt: str | Sequence[int]) -> None:
        """Show the first prompt, a text or token ids."""
        self._has_model = True
        self._use_strings(self._tokenizer.fingerprint, cache(self._tokenizer.token_strings))
        if not isinstance(prompt, str):
            ids = [operator.index(i) for i in prompt]  # refuses 1.5, which int() would cut to 1
            prompt = self._tokenizer.decode(ids)
            self._known[prompt] = ids
        self._run(prompt)

    def _run(self, text: str) -> None:
        if text == self.prompt:
            self._start(self._encode(text))  # the same prompt again: no change to observe, but a new start
        else:
            self.prompt = text

    @traitlets.validate("prompt")
    def _check_prompt(self, proposal: Any) -> str:
        if self._models:
            self._encode(proposal["value"])
        return proposal["value"]

    @traitlets.observe("prompt")
    def _prompt_changed(self, change: Any) -> None:
        if self._models:
            self._start(self._encode(change["new"]))

    def _encode(self, text: str) -> list[int]:
        ids = self._known.get(text) or list(self._tokenizer.encode(text))
        if not ids:
            raise BadValue("the prompt is empty; write at least one character to go on from")
        for model in self._models:
            read_prompts(model, ids, None, 0)
        return ids

    def _start(self, ids: list[int]) -> None:
        """Show what comes after a new prompt."""
        self._show_after(ids, *self._logits_after(ids))

    def _show_after(self, ids: list[int], *logits: Float[Tensor, " vocab"]) -> None:
        with self.hold_sync():
            self.show(*logits)
            self._ids = ids

    def _logits_after(self, ids: list[int]) -> list[Float[Tensor, " vocab"]]:
        found = []
        for model in self._models:
            with torch.inference_mode(), eval_mode(model):
                found.append(last_logits(model, read_prompts(model, ids, None, 0).ids)[0])
        return found

    def _about(self) -> str:
        """The title, and after which prompt: the beginning of what a reader without a page is told."""
        text = self.prompt if len(self.prompt) <= 40 else "..." + self.prompt[-37:]
        return f"{self.title} after {text!r}" if self._has_model else self.title

    # -- the tokens' strings -----------------------------------------------------------------------------------------

    def _use_strings(self, key: str, strings: Callable[[], list[str]]) -> None:
        self._strings = strings
        self.use_tokenizer(key, strings)

    def _made_by_hand(self, token_strings: Sequence[str], *logits: Float[Tensor, " vocab"]) -> None:
        """Show distributions that no model gave, with one string for each of their tokens."""
        strings = [str(s) for s in token_strings]
        if logits[0].dim() != 1 or len(strings) != logits[0].numel():
            raise BadValue(
                f"{len(strings)} token strings for logits of shape {tuple(logits[0].shape)}; needed: one each"
            )
        key = hashlib.sha256("\0".join(strings).encode("utf-8", "replace")).hexdigest()[:16]
        self._use_strings(key, lambda: strings)
        self.show(*logits)

    def _string(self, token_id: int) -> str:
        strings = self._strings()
        return strings[token_id] if token_id < len(strings) else f"#{token_id}"
