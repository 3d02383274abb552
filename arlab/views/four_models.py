"""Four models (or one, or six) on one source: what each writes, how sure it is, and where it looks meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import traitlets
from jaxtyping import Float
from torch import Tensor

from arlab.views.base import BadValue, script, style
from arlab.views.source_text import SourceTextView, checked_length, forced_pass, source_ids, token_strings, written

MAX_MODELS = 6
IMPOSSIBLE = -1e9  # what the page is told for log 0, which JSON cannot say
NEXT_BEST = 3  # alternatives told for each step, the chosen token among them


@dataclass(frozen=True)
class ModelOutput:
    """What one model wrote for the source, greedily."""

    name: str
    ids: tuple[int, ...]  # the end symbol, when it came, is the last
    text: str  # without the end symbol
    finished: bool  # the end symbol came
    probabilities: tuple[float, ...]  # of each token of ids
    logprob: float  # of the output, its end symbol included: the sum of their logarithms
    answer_logprob: float | None  # of the right answer and an end symbol; None without an answer
    right: bool | None  # the output is the answer, to the end symbol; None without an answer
    wrong: tuple[bool, ...]  # which tokens differ from the answer's at the same place; () without an answer
    cross: Float[Tensor, "layers heads targets sources"] | None  # None: no cross-attention


class FourModels(SourceTextView):
    """Models side by side on one source, token by token; one step slider for all of them.

        view = FourModels({"fixed context": rnn, "attention": attentive, "transformer": transformer},
                          source_tokenizer, target_tokenizer, "9 marzo 2014",
                          bos_id=bos, eos_id=eos, max_new_tokens=12, answer=iso)
        view.source_text = "10 aprile 2015"     # all models read it; so does what is typed into the page
        view.step = 4                           # the slider
        view.outputs["attention"].probabilities

    models: 1 to 6, by name, each with `.given(source)`. answer: the right target for the source, or a function
    answer(source_text) -> str or None (unknown); a plain text counts for the first source alone. What differs from it
    is marked place by place, so a token too many marks all that follow. The strip of a model shows its cross-attention
    at the step, the mean over its heads and layers; a model without has a fixed context.

    Raises ValueError for no model or too many, a source or an answer that cannot be read, max_new_tokens outside
    1 to 128, a step beyond the longest target.
    """

    title = "Models side by side"
    _esm = script("heat.js", "source_box.js", "model_lane.js", "four_models.js")
    _css = style("heat.css", "four_models.css")

    step = traitlets.Int(0).tag(sync=True)
    source_tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    answer_tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)  # the end symbol included; [] without an answer
    lanes = traitlets.List(traitlets.Dict()).tag(sync=True)  # see `_lane`

    def __init__(
        self,
        models: Mapping[str, Any],
        source_tokenizer: Any,
        target_tokenizer: Any,
        source_text: str,
        *,
        bos_id: int,
        eos_id: int,
        max_new_tokens: int,
        answer: str | Callable[[str], str | None] | None = None,
        step: int = 0,
    ) -> None:
        if not isinstance(models, Mapping):
            raise TypeError(f"models is a {type(models).__name__}; give a dict, {{'name': model}}")
        if not 1 <= len(models) <= MAX_MODELS:
            raise BadValue(f"there are {len(models)} models; 1 to {MAX_MODELS} stand side by side")
        self._models, self._source, self._target = dict(models), source_tokenizer, target_tokenizer
        self._bos, self._eos, self._limit = bos_id, eos_id, checked_length(max_new_tokens)
        self._right = (lambda text: answer if text == source_text else None) if isinstance(answer, str) else answer
        self.outputs: dict[str, ModelOutput] = {}
        super().__init__()
        self._show(self._read(source_text))
        self._runs(source_text, self._read)
        self.step = step

    # -- running ------------------------------------------------------------------------------------------------

    def _read(self, text: str) -> tuple[list[str], list[int], list[ModelOutput], list[list]]:
        """Source tokens, ids of the answer with its end symbol ([]: unknown), outputs, and the next best tokens."""
        source = source_ids(self._source, text)
        answer = self._right(text) if self._right is not None else None
        answer_ids = [] if answer is None else [*self._target.encode(answer), self._eos]
        ran = []
        for name, model in self._models.items():
            try:
                ran.append(self._write(name, model, source, answer_ids))
            except (ValueError, TypeError) as error:
                raise BadValue(f"{name}: {error}") from error
        outputs, best = zip(*ran, strict=True)
        return token_strings(self._source, source), answer_ids, list(outputs), list(best)

    def _write(self, name: str, model: Any, source: list[int], answer: list[int]) -> tuple[ModelOutput, list]:
        limit = {"bos_id": self._bos, "eos_id": self._eos, "max_new_tokens": self._limit}
        ids = written(model, source, **limit)
        logprobs, cross = forced_pass(model, source, ids, self._bos)
        own = logprobs[range(len(ids)), ids]
        told = own
        if answer and answer != ids:
            told = forced_pass(model, source, answer, self._bos).logprobs[range(len(answer)), answer]
        finished = ids[-1] == self._eos
        output = ModelOutput(
            name=name,
            ids=tuple(ids),
            text=self._target.decode(ids[:-1] if finished else ids),
            finished=finished,
            probabilities=tuple(own.exp().tolist()),
            logprob=float(own.sum()),
            answer_logprob=float(told.sum()) if answer else None,
            right=ids == answer if answer else None,
            wrong=tuple(i >= len(answer) or token != answer[i] for i, token in enumerate(ids)) if answer else (),
            cross=cross,
        )
        top = logprobs.exp().topk(min(NEXT_BEST, logprobs.shape[-1]), dim=-1)
        best = [
            list(map(list, zip(token_strings(self._target, row), p, strict=True)))
            for row, p in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ]
        return output, best

    def _show(self, result: tuple) -> None:
        source, answer, outputs, best = result
        self.outputs = {output.name: output for output in outputs}
        with self.hold_sync():
            self.source_tokens, self.answer_tokens = source, token_strings(self._target, answer)
            self.lanes = [self._lane(output, top) for output, top in zip(outputs, best, strict=True)]
            self.step = min(self.step, self._steps() - 1)

    def _lane(self, output: ModelOutput, best: list) -> dict:
        """What the page draws of one model."""
        cross = output.cross
        return {
            "name": output.name,
            "tokens": token_strings(self._target, output.ids),
            "p": list(output.probabilities),
            "best": best,  # for each step, the most probable tokens and their probabilities
            "wrong": list(output.wrong),
            "right": output.right,
            "finished": output.finished,
            "logprob": output.logprob,
            "answer_logprob": None if output.answer_logprob is None else max(IMPOSSIBLE, output.answer_logprob),
            "strip": None if cross is None else cross.double().mean((0, 1)).tolist(),  # (targets, sources)
            "heads": None if cross is None else list(cross.shape[:2]),
        }

    # -- settings -----------------------------------------------------------------------------------------------

    def _steps(self) -> int:
        return max(len(self.answer_tokens), *(len(lane["tokens"]) for lane in self.lanes), 1)

    @traitlets.validate("step")
    def _check_step(self, proposal: Any) -> int:
        if not 0 <= proposal["value"] < self._steps():
            raise BadValue(f"step is {proposal['value']}; it must be from 0 to {self._steps() - 1}")
        return proposal["value"]

    def describe(self) -> str:
        text = self.source_text if len(self.source_text) <= 40 else self.source_text[:37] + "..."
        said = "; ".join(
            f"{output.name} {output.text!r}" + ({True: " (right)", False: " (wrong)"}.get(output.right, ""))
            for output in self.outputs.values()
        )
        return f"{self.title} on {text!r}: {said}"
