"""Error propagation: put one wrong symbol into the answer, and see what each model writes after it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import traitlets
from torch import Tensor

from arlab.nn.language_model import LanguageModel
from arlab.views.base import BadValue, View, script, style
from arlab.views.error_rollouts import NOTHING, continuations, right_after

MAX_MODELS, MAX_TIME, MAX_CHOICES = 6, 64, 64
_NOTHING_SENT = 2**16 - 1  # NOTHING as the page gets it, in 16 bits


class ErrorPropagation(View):
    """One error is put into the right answer; every model goes on from there by itself, always its likeliest symbol.

        view = ErrorPropagation({"teacher forcing": forced.given(source), "scheduled": scheduled.given(source)},
                                answer, tokenizer.token_strings(), choices=digits)
        view.position, view.symbol = 4, digits[9]   # where, and what is written there; symbol None: no error
        view.errors_after           # {"teacher forcing": 11, ...} wrong symbols after the error
        view.recovered              # {"teacher forcing": None, ...} after how many symbols the first is right again
        view.accuracy_by_distance() # {"teacher forcing": [.12, .10, ...], ...} over all errors at all positions

    The kernel runs every wrong symbol at every position once, all of them side by side, and for comparison the right
    symbol at every position; the page then moves without it.

    Source: Ranzato et al. (2016), Bengio et al. (2015); lectures 001 and 004.
    """

    title = "Error propagation"
    _esm = script("heat.js", "error_numbers.js", "error_charts.js", "error_propagation.js")
    _css = style("heat.css", "error_propagation.css")

    position = traitlets.Int(0, help="which symbol of the answer is replaced, from 0").tag(sync=True)
    symbol = traitlets.Int(None, allow_none=True, help="the id that is put there; None: no error").tag(sync=True)
    source_text = traitlets.Unicode("", help="what the models answer, as text; see recompute").tag(sync=True)
    page_figures = traitlets.Dict(help="as the page last computed them; empty before it drew").tag(sync=True)
    rollouts = traitlets.Dict().tag(sync=True)  # names, answer, choices, source, strings, tokens, wanted: all at once
    _can_recompute = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self,
        models: Mapping[str, LanguageModel],
        answer: Sequence[int] | Tensor,
        symbols: Sequence[str],
        *,
        choices: Sequence[int] | None = None,
        eos_id: int | None = None,
        prompt: Sequence[int] = (),
        source_tokens: Sequence[str] | None = None,
        correct: Callable[[list[int]], Sequence[int]] | None = None,
        recompute: Callable[[str], Mapping[str, Any]] | None = None,
        position: int | None = None,
        symbol: int | None = None,
    ) -> None:
        """
        Args:
            models: name -> language model, 1 to 6 of them (`model.given(source)` of an encoder-decoder).
            answer: ids of the right answer, 2 to 64; with its end symbol where that is to be judged too.
            symbols: the string of each id (a tokenizer's token_strings()).
            choices: ids that may be put into the answer; None: the whole vocabulary but the end symbol.
            eos_id: the end symbol; what comes after it counts as wrong, for nothing is written any more.
            prompt: ids that each model reads before the answer (empty: it starts from its bos_id).
            source_tokens: what the models answer, to be shown above.
            correct: for a task in which the truth depends on what stands already: correct(prefix) gives what is right
                after this prefix of the answer, whose last symbol is the error. None: the answer itself stays right.
            recompute: for a text box with another source: recompute(text) gives a dict with `models` and `answer`,
                and where they change too, `source_tokens`, `correct`, `prompt`.
            position, symbol: the error shown first; None: one about a quarter into the answer.

        Raises:
            ValueError: an answer too short or too long for the view or for a model, ids out of range, no choice that
                would be an error, a `correct` that gives too few symbols.
        """
        self._symbols, self._eos, self._recompute = symbols, eos_id, recompute
        self._choices = None if choices is None else _ids(choices, "choices")
        self._given = {"prompt": prompt, "source_tokens": source_tokens, "correct": correct}
        self._tokens: dict[str, Tensor] = {}  # name -> what that model wrote, (positions, choices + 1, time)
        self._right = torch.empty(0)  # the same shape: what would be right there
        super().__init__(_can_recompute=recompute is not None)
        self._take(*self._ran(models=models, answer=answer, **self._given))
        self.set_trait("source_text", " ".join(source_tokens or ()))
        places = range(self._first_place() if position is None else position, len(self.answer) - 1)
        self.position = next((p for p in places if self._errors(p)), 0) if position is None else position
        wrong = self._errors(self.position) or self.choices
        self.symbol = wrong[0] if symbol is None else symbol
        self.answers["run"] = self._asked

    # -- what is shown ---------------------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        return list(self._tokens)

    @property
    def answer(self) -> list[int]:
        """The right answer."""
        return list(self.rollouts["answer"])

    @property
    def choices(self) -> list[int]:
        """The ids that may be put into it."""
        return list(self.rollouts["choices"])

    @property
    def written(self) -> dict[str, list[int]]:
        """For each model the ids that it wrote after the error, up to its end symbol."""
        now = self._now
        return {name: [i for i in rows[now][self.position + 1 :].tolist() if i != NOTHING] for name, rows in self._all}

    @property
    def right_after(self) -> dict[str, list[bool]]:
        """For each model which symbols after the error are right; as long as the rest of the answer."""
        now = self._now
        return {name: (rows[now] == self._right[now])[self.position + 1 :].tolist() for name, rows in self._all}

    @property
    def errors_after(self) -> dict[str, int]:
        """For each model how many symbols after the error are wrong."""
        return {name: right.count(False) for name, right in self.right_after.items()}

    @property
    def share_right(self) -> dict[str, float | None]:
        """For each model the share of right symbols after the error; None where nothing comes after it."""
        return {name: right.count(True) / len(right) if right else None for name, right in self.right_after.items()}

    @property
    def recovered(self) -> dict[str, int | None]:
        """For each model the distance from the error to the first right symbol, 1 for the next; None: never."""
        return {name: right.index(True) + 1 if True in right else None for name, right in self.right_after.items()}

    @property
    def recovered_for_good(self) -> dict[str, int | None]:
        """For each model the distance to the first symbol from which on all are right; None: the last is wrong."""
        return {name: _for_good(right) for name, right in self.right_after.items()}

    def accuracy_by_distance(self, error: bool = True) -> dict[str, list[float | None]]:
        """For each model the share of right symbols 1, 2, ... symbols after the error, over all errors that leave room.

        error: False gives the same with the right symbol put in at each position: what the model does by itself.
        None where there is no such error.
        """
        hits = {name: self._hits(name) for name in self.names}
        counted = self._counted(error)
        time = len(self.answer)
        found: dict[str, list[float | None]] = {name: [] for name in self.names}
        for distance in range(1, time):
            here = torch.arange(time - distance)
            kept = counted[here]
            for name in self.names:
                right = hits[name][here, :, here + distance][kept]
                found[name].append(float(right.double().mean()) if right.numel() else None)
        return found

    def mean_right(self, error: bool = True) -> dict[str, float]:
        """For each model the share of right symbols after the error, over all errors and all symbols after them."""
        time, counted = len(self.answer), self._counted(error)
        after = torch.arange(time) > torch.arange(time)[:, None]  # (positions, time)
        kept = counted[:, :, None] & after[:, None]
        return {name: float(self._hits(name)[kept].double().mean()) for name in self.names}

    def describe(self) -> str:
        here, at = self.answer[self.position], f"position {self.position}"
        no_error = self.symbol is None or self.symbol == here
        told = f"no error at {at}" if no_error else f"{self._string(self.symbol)!r} for {self._string(here)!r} at {at}"
        return f"ErrorPropagation: {', '.join(self.names)}; an answer of {len(self.answer)} symbols, {told}"

    @property
    def _all(self):
        return self._tokens.items()

    @property
    def _now(self) -> tuple[int, int]:
        """The place of what is shown: position, and column of the symbol (the last: no error)."""
        return self.position, len(self.choices) if self.symbol is None else self.choices.index(self.symbol)

    def _hits(self, name: str) -> Tensor:
        return self._tokens[name] == self._right

    def _counted(self, error: bool) -> Tensor:
        """Which (position, symbol) is an error, or with error=False, which is none."""
        wrong = [[choice != here for choice in self.choices] + [False] for here in self.answer]
        if not error:
            wrong = [[False] * len(self.choices) + [True] for _ in self.answer]
        return torch.tensor(wrong)

    def _errors(self, position: int) -> list[int]:
        return [choice for choice in self.choices if choice != self.answer[position]]

    def _first_place(self) -> int:
        return (len(self.answer) - 1) // 4

    def _string(self, token: int) -> str:
        return str(self._symbols[token]) if token < len(self._symbols) else f"#{token}"

    # -- running the models ----------------------------------------------------------------------------------------

    def _ran(self, *, models, answer, prompt, source_tokens, correct) -> tuple[dict[str, Tensor], Tensor, dict]:
        """What every model writes after every error, what would be right there, and the same for the page."""
        answer = _ids(answer, "answer")
        choices = self._choices
        if not isinstance(models, Mapping) or not 1 <= len(models) <= MAX_MODELS:
            raise BadValue(f"models is {_said(models)}; give a dict of 1 to {MAX_MODELS} models by name")
        if choices is None:
            choices = [i for i in range(min(model.vocab_size for model in models.values())) if i != self._eos]
        _check(answer, choices, self._eos)
        tokens = {}
        for name, model in models.items():
            try:
                tokens[str(name)] = continuations(model, answer, choices, prompt=prompt, eos_id=self._eos)
            except ValueError as error:
                raise BadValue(f"{name}: {error}") from error
        right = right_after(answer, choices, correct)
        seen = sorted({*answer, *choices, *(i for rows in (*tokens.values(), right) for i in rows.unique().tolist())})
        sent = {
            "names": list(tokens),
            "answer": answer,
            "choices": choices,
            "source": [str(token) for token in source_tokens or ()],
            "strings": {str(i): self._string(i) for i in seen if i != NOTHING},
            "tokens": b"".join(map(_sixteen_bits, tokens.values())),
            "wanted": b"" if correct is None else _sixteen_bits(right),  # empty: the answer, after every error
        }
        return tokens, right, sent

    def _take(self, tokens: dict[str, Tensor], right: Tensor, sent: dict) -> None:
        with self.hold_sync():
            self._tokens, self._right = tokens, right
            self.set_trait("rollouts", sent)
            if self.position >= len(sent["answer"]):
                self.position = 0
            if self.symbol is not None and self.symbol not in sent["choices"]:
                self.symbol = None

    def _asked(self, text: str) -> None:
        self.source_text = text

    @traitlets.validate("source_text")
    def _check_source(self, proposal: Any) -> str:
        if "run" in self.answers:  # the view is ready: a change means other models' answers, or a refusal
            if self._recompute is None:
                raise BadValue("this view has one source; give it recompute=... to be asked for another")
            asked = dict(self._recompute(proposal["value"]))
            if not {"models", "answer"} <= set(asked) <= {"models", "answer", *self._given}:
                names = ", ".join(self._given)
                raise BadValue(f"recompute gave {sorted(asked)}; needed models and answer, and possible {names}")
            self._take(*self._ran(**self._given | asked))
        return proposal["value"]

    @traitlets.validate("position")
    def _check_position(self, proposal: Any) -> int:
        last = len(self.rollouts["answer"]) - 1 if self.rollouts else 0
        if not 0 <= proposal["value"] <= last:
            raise BadValue(f"position is {proposal['value']}; the answer has the positions 0 to {last}")
        return proposal["value"]

    @traitlets.validate("symbol")
    def _check_symbol(self, proposal: Any) -> int | None:
        if proposal["value"] is not None and proposal["value"] not in self.choices:
            raise BadValue(f"symbol is {proposal['value']}; it must be None or one of the choices {self.choices}")
        return proposal["value"]


def _for_good(right: list[bool]) -> int | None:
    wrong = [k for k, good in enumerate(right) if not good]
    first = wrong[-1] + 1 if wrong else 0
    return first + 1 if first < len(right) else None


def _check(answer: list[int], choices: list[int], eos_id: int | None) -> None:
    if not 2 <= len(answer) <= MAX_TIME:
        raise BadValue(f"the answer has {len(answer)} symbols; the view shows 2 to {MAX_TIME}")
    if eos_id in answer[:-1]:
        raise BadValue(f"the answer {answer} has the end symbol {eos_id} in it; it may only come last")
    if eos_id in choices:
        raise BadValue(f"choices has the end symbol {eos_id}: nothing would come after such an error")
    if not 1 <= len(choices) <= MAX_CHOICES:
        raise BadValue(f"there are {len(choices)} choices; the view takes 1 to {MAX_CHOICES}: give it choices=[...]")
    if len(set(choices)) < len(choices):
        raise BadValue(f"choices is {choices}; each may be named once")
    if max(*answer, *choices) >= _NOTHING_SENT:
        raise BadValue(f"the id {max(*answer, *choices)} is too large; the view takes ids below {_NOTHING_SENT}")
    if all(choice == here for choice in choices for here in answer[:-1]):
        raise BadValue(f"choices is {choices}, and so is the answer: none of them would be an error")


def _sixteen_bits(rows: Tensor) -> bytes:
    return rows.masked_fill(rows == NOTHING, _NOTHING_SENT).to(torch.uint16).numpy().tobytes()


def _ids(ids: Sequence[int] | Tensor, name: str) -> list[int]:
    plain = ids.tolist() if hasattr(ids, "tolist") else list(ids)
    if not all(hasattr(i, "__index__") and not isinstance(i, bool) for i in plain):
        raise BadValue(f"{name} is {plain}; it must be one row of integer ids")
    return [operator.index(i) for i in plain]


def _said(models: Any) -> str:
    return f"a {type(models).__name__}" if not isinstance(models, Mapping) else f"{len(models)} of them"
