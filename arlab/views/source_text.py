"""What the views of a source and its target share: the source box, greedy decoding, one recorded pass over a target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import traitlets
from jaxtyping import Float
from torch import Tensor, nn

from arlab.decoding import greedy
from arlab.nn.attention import record_attention
from arlab.nn.language_model import eval_mode, model_device
from arlab.views.base import BadValue, View

MAX_TOKENS = 128  # of a source and of a target: more would be cells of under six pixels


class SourceTextView(View):
    """A view whose source can be written anew: `source_text` is what the page's box says, and can be set.

    Subclasses give `_show(result)`, which must not fail, and hand `_runs(text, run)` the function that computes a
    result for a text. A text that `run` refuses (by raising) leaves the trait as it was; the same text is run anew, for
    the model may have been trained since.
    """

    source_text = traitlets.Unicode("").tag(sync=True)
    _editable = traitlets.Bool(False).tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        self._run: Callable[[str], Any] | None = None
        self._result: Any = None
        super().__init__(**traits)
        self.answers["source"] = self._asked

    def _runs(self, text: str, run: Callable[[str], Any]) -> None:
        """What is shown belongs to `text`; from now on, `run` computes what belongs to another one."""
        self._editable = True
        self.source_text = text
        self._run = run

    def _show(self, result: Any) -> None:
        raise NotImplementedError

    def _asked(self, text: str) -> None:
        self.source_text = text

    @traitlets.validate("source_text")
    def _check_source_text(self, proposal: Any) -> str:
        if self._run is not None:
            self._result = self._run(proposal["value"])
            if proposal["value"] == self.source_text:
                self._show(self._result)  # there will be no change to observe
        elif not self._editable:
            raise BadValue("this view was given ready made: without a model there is no other source to read")
        return proposal["value"]

    @traitlets.observe("source_text")
    def _source_text_changed(self, _change: Any) -> None:
        if self._run is not None:
            self._show(self._result)


def source_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of a source, 1 to 128 of them.

    Raises:
        ValueError: no token or too many; what the tokenizer cannot read.
    """
    ids = list(tokenizer.encode(text))
    if not 1 <= len(ids) <= MAX_TOKENS:
        raise BadValue(f"the source {text!r} has {len(ids)} tokens; 1 to {MAX_TOKENS} can be shown")
    return ids


def checked_length(max_new_tokens: int) -> int:
    """max_new_tokens, or an error when that many tokens cannot be shown."""
    if isinstance(max_new_tokens, bool) or not 1 <= max_new_tokens <= MAX_TOKENS:
        raise BadValue(f"max_new_tokens is {max_new_tokens!r}; it must be from 1 to {MAX_TOKENS}")
    return max_new_tokens


def written(model: Any, source: Sequence[int], *, bos_id: int, eos_id: int, max_new_tokens: int) -> list[int]:
    """What `model` writes greedily for one source; the end symbol, when it came, is the last id."""
    given = model.given(list(source))
    with torch.no_grad(), eval_mode(given):
        return greedy(given, [[bos_id]], max_new_tokens=max_new_tokens, eos_id=eos_id).tokens()


class Pass(NamedTuple):
    """One teacher-forced pass over a target: row t is about target token t, given the ones before it."""

    logprobs: Float[Tensor, "targets vocab"]
    cross: Float[Tensor, "layers heads targets sources"] | None  # None: the model has no cross-attention


def forced_pass(model: Any, source: Sequence[int], target: Sequence[int], bos_id: int) -> Pass:
    """The log-probabilities that `model` gives to every target token, and its cross-attention meanwhile."""
    given = model.given(list(source))
    prefix = torch.tensor([[bos_id, *target[:-1]]], device=model_device(given))
    with torch.no_grad(), eval_mode(given):
        if not _attends(given):
            return Pass(given(prefix)[0].cpu().double().log_softmax(-1), None)
        with record_attention(given) as maps:
            logits = given(prefix)
        cross = torch.stack([layer[0].float().cpu() for layer in maps.cross]) if len(maps.cross) else None
    return Pass(logits[0].cpu().double().log_softmax(-1), cross)


def _attends(model: Any) -> bool:
    """Whether record_attention finds anything in it."""
    return isinstance(model, nn.Module) and any(hasattr(module, "recording") for module in model.modules())


def token_strings(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The tokens as text; an id beyond the tokenizer's own (an end symbol that only the model knows) by its number."""
    strings = tokenizer.token_strings()
    return [strings[i] if i < len(strings) else f"<{i}>" for i in ids]
