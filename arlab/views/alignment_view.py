"""Alignment view: the cross-attention of a model that reads a source and writes a target, as a map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import traitlets
from jaxtyping import Float, Int
from torch import Tensor

from arlab.views.base import BadValue, script, style
from arlab.views.source_text import (
    MAX_TOKENS,
    SourceTextView,
    checked_length,
    forced_pass,
    source_ids,
    token_strings,
    written,
)

Span = Sequence[int]  # (start, end): the source positions start .. end - 1
Gold = Sequence[Span | None]  # for each target token, where the source says it


class AlignmentScore(NamedTuple):
    """How well maps agree with a known alignment, over the target tokens that have a gold span."""

    inside: Int[Tensor, "..."]  # target tokens whose heaviest source position lies inside their span
    mass: Float[Tensor, "..."]  # the mean share of their weight inside it; NaN when none is counted
    counted: int  # target tokens that have a span


def alignment_score(weights: Float[Tensor, "... targets sources"], gold: Gold) -> AlignmentScore:
    """Compare each row's heaviest source position with the gold span of that target token.

    gold: None or (start, end) for each target token; entries may be missing at the end (an end symbol's).
    Ties go to the first position; a row of zeros is nowhere. A high score says where the weight lies, not that the
    model needs it there.

    Raises:
        ValueError: more entries of gold than target tokens, or a span outside the source.
    """
    gold = _checked_gold(gold, weights.shape[-2], weights.shape[-1])
    weights = weights.double()
    inside = torch.zeros(weights.shape[:-2], dtype=torch.int64, device=weights.device)
    mass = torch.zeros(weights.shape[:-2], dtype=torch.float64, device=weights.device)
    counted = 0
    for row, span in enumerate(gold):
        if span is None:
            continue
        counted += 1
        heaviest = weights[..., row, :].max(-1)
        inside += (heaviest.values > 0) & (span[0] <= heaviest.indices) & (heaviest.indices < span[1])
        mass += weights[..., row, span[0] : span[1]].sum(-1)
    return AlignmentScore(inside, mass / counted if counted else mass * torch.nan, counted)


class AlignmentView(SourceTextView):
    """Cross-attention maps: target tokens down, source tokens across; a row is one target token's weights.

        view = AlignmentView(weights, "9 marzo 2014", "2014-03-09", gold=spans)      # weights at hand
        view = AlignmentView.run(model, source_tokenizer, target_tokenizer, "9 marzo 2014",
                                 bos_id=bos, eos_id=eos, max_new_tokens=12, gold=spans_of)
        view.layer, view.head, view.target = 1, "mean", 3
        view.source_text = "10 aprile 2015"          # decoded anew (with a model)
        view.score, view.best                        # against gold: this head, and (layer, head) of the best one

    weights: (layers, heads, targets, sources), or without the first axis or two. source_tokens, target_tokens: a
    string each, at most 128. gold: for each target token None or (start, end), the source positions that it should
    look at, end excluded; entries may be missing at the end. head: a number, or "mean" over the heads of the layer.

    The traits `layer`, `head`, `target`, `source` (the cell that is read out) and `source_text` follow the page.
    Raises ValueError for shapes that do not fit, rows that sum to more than 1, a span outside the source, an index
    out of range.

    Source: the maps of Bahdanau et al. (2015). They show where values come from, which is not yet why the model
    answers as it does (Jain and Wallace, 2019).
    """

    title = "Alignment"
    _esm = script("heat.js", "source_box.js", "alignment.js", "alignment_map.js", "alignment_view.js")
    _css = style("heat.css", "alignment_view.css")

    layer = traitlets.Int(0).tag(sync=True)
    head = traitlets.Union([traitlets.Int(), traitlets.Unicode()], default_value="mean").tag(sync=True)
    target = traitlets.Int(0).tag(sync=True)
    source = traitlets.Int(0).tag(sync=True)
    source_tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    target_tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    gold = traitlets.List().tag(sync=True)  # one entry for each target token, or none at all
    shape = traitlets.List(traitlets.Int(), default_value=[1, 1, 1, 1]).tag(sync=True)
    note = traitlets.Unicode("").tag(sync=True)  # on what was decoded
    _weights = traitlets.Bytes(b"").tag(sync=True)  # float32, as given: page and kernel find the same heaviest position

    def __init__(
        self,
        weights: Float[Tensor, "..."],
        source_tokens: Sequence[str],
        target_tokens: Sequence[str],
        *,
        gold: Gold | None = None,
        layer: int = 0,
        head: int | str = "mean",
        target: int = 0,
    ) -> None:
        super().__init__()
        self.weights = torch.zeros(1, 1, 1, 1)
        self._show(_checked(weights, source_tokens, target_tokens, gold, ""))
        self.layer, self.head, self.target = layer, head, target
        self.source = int(self.row.argmax())

    @classmethod
    def run(
        cls,
        model: Any,
        source_tokenizer: Any,
        target_tokenizer: Any,
        source_text: str,
        *,
        bos_id: int,
        eos_id: int,
        max_new_tokens: int,
        gold: Callable[[str, str], Gold | None] | None = None,
        **settings: Any,
    ) -> AlignmentView:
        """Decode `source_text` greedily and show the cross-attention of that target, its end symbol included.

        model: with `.given(source)`, and attention that `record_attention` finds. gold(source_text, target_text): the
        spans for what was written (without the end symbol), or None where no alignment is known; entries beyond what
        was written are left out. It may raise ValueError instead of None: its words are shown. settings: layer, head,
        target.

        Raises ValueError as the class does, and for a source that is empty, too long or unreadable for the tokenizer.
        """
        limit = checked_length(max_new_tokens)

        def run(text: str) -> tuple:
            source = source_ids(source_tokenizer, text)
            ids = written(model, source, bos_id=bos_id, eos_id=eos_id, max_new_tokens=limit)
            logprobs, cross = forced_pass(model, source, ids, bos_id)
            if cross is None:
                raise BadValue(f"{type(model).__name__} has no cross-attention: there is no alignment to show")
            ended = ids[-1] == eos_id
            said = target_tokenizer.decode(ids[:-1] if ended else ids)
            total = float(logprobs[range(len(ids)), ids].sum())
            note = f"Written greedily, log p = {total:.2f}" + ("" if ended else f"; cut off after {limit} tokens")
            spans, unknown = None, ""
            try:
                spans = gold(text, said) if gold is not None else None
            except ValueError as error:  # a source that means nothing still has its maps
                unknown = f" No alignment: {error}."
            spans = None if spans is None else list(spans)[: len(ids)]
            strings = (token_strings(source_tokenizer, source), token_strings(target_tokenizer, ids))
            return _checked(cross, *strings, spans, note.replace("-", "−") + "." + unknown)

        shown = run(source_text)
        view = cls(shown.weights, shown.sources, shown.targets, gold=shown.gold or None, **settings)
        view.note = shown.note
        view._runs(source_text, run)
        return view

    # -- what is shown, in Python --------------------------------------------------------------------------------

    @property
    def map(self) -> Float[Tensor, "targets sources"]:
        """The map of the chosen layer and head, float64 ("mean": over the heads of the layer)."""
        heads = self.weights[self.layer].double()
        return sum(heads) / len(heads) if self.head == "mean" else heads[self.head]

    @property
    def row(self) -> Float[Tensor, "sources"]:
        """The weights of the chosen target token."""
        return self.map[self.target]

    @property
    def score(self) -> AlignmentScore:
        """The chosen layer and head against the gold spans."""
        return alignment_score(self.map, self._spans())

    @property
    def scores(self) -> AlignmentScore:
        """All of them: inside and mass are (layers, heads)."""
        return alignment_score(self.weights, self._spans())

    @property
    def best(self) -> tuple[int, int]:
        """(layer, head) of the head with the most target tokens inside; the first of equals."""
        return divmod(int(self.scores.inside.flatten().argmax()), self.shape[1])

    def describe(self) -> str:
        layers, heads, targets, sources = self.shape
        text = f"Alignment: {targets} target x {sources} source tokens, {layers} layers x {heads} heads"
        if any(self.gold):
            text += f"; inside the gold span {int(self.score.inside)} of {self.score.counted}"
        return text

    def _spans(self) -> Gold:
        if not self.gold:
            raise BadValue("this view has no gold alignment to score against; give gold=")
        return self.gold

    def _show(self, result: _Shown) -> None:
        weights, sources, targets, gold, note = result
        self.weights = weights
        with self.hold_sync():
            self.shape, self.source_tokens, self.target_tokens = list(weights.shape), sources, targets
            self.gold, self.note, self._weights = gold, note, weights.numpy().tobytes()
            self.layer = min(self.layer, weights.shape[0] - 1)
            self.head = self.head if self.head == "mean" else min(self.head, weights.shape[1] - 1)
            self.target = min(self.target, len(targets) - 1)
            self.source = int(self.row.argmax())

    # -- settings ------------------------------------------------------------------------------------------------

    @traitlets.validate("layer", "target", "source")
    def _check_index(self, proposal: Any) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        count = self.shape[{"layer": 0, "target": 2, "source": 3}[name]]
        if not 0 <= value < count:
            raise BadValue(f"{name} is {value}; it must be from 0 to {count - 1}")
        return value

    @traitlets.validate("source_tokens", "target_tokens")
    def _check_tokens(self, proposal: Any) -> list[str]:
        name, count = proposal["trait"].name, len(proposal["value"])
        wanted = self.shape[3 if name == "source_tokens" else 2]
        if count != wanted:
            raise BadValue(f"{name} has {count} strings; the maps have {wanted}")
        return proposal["value"]

    @traitlets.validate("gold")
    def _check_gold(self, proposal: Any) -> list:
        return _checked_gold(proposal["value"], *self.shape[2:]) if proposal["value"] else []

    @traitlets.validate("head")
    def _check_head(self, proposal: Any) -> int | str:
        value, count = proposal["value"], self.shape[1]
        if value != "mean" and (isinstance(value, str | bool) or not 0 <= value < count):
            raise BadValue(f'head is {value!r}; it must be "mean" or from 0 to {count - 1}')
        return value


class _Shown(NamedTuple):
    """Maps with their tokens, checked."""

    weights: Float[Tensor, "layers heads targets sources"]
    sources: list[str]
    targets: list[str]
    gold: list[list[int] | None]
    note: str


def _checked(weights: Any, sources: Sequence[str], targets: Sequence[str], gold: Gold | None, note: str) -> _Shown:
    weights = torch.as_tensor(weights).detach().float().cpu()
    if not 2 <= weights.dim() <= 4:
        raise BadValue(f"weights has shape {tuple(weights.shape)}; needed (layers, heads, targets, sources)")
    weights = weights.reshape((1,) * (4 - weights.dim()) + tuple(weights.shape)).contiguous()
    sources, targets = list(sources), list(targets)
    if (len(targets), len(sources)) != tuple(weights.shape[2:]):
        raise BadValue(
            f"the maps are {weights.shape[2]} targets x {weights.shape[3]} sources, but there are "
            f"{len(targets)} target tokens and {len(sources)} source tokens"
        )
    if weights.numel() == 0 or max(weights.shape[2:]) > MAX_TOKENS:
        raise BadValue(f"the maps have shape {tuple(weights.shape)}; 1 to {MAX_TOKENS} tokens a side can be drawn")
    if not weights.isfinite().all() or weights.min() < 0 or weights.sum(-1).max() > 1.001:
        raise BadValue("attention weights are 0 or more, and no row of them sums to more than 1")
    spans = [] if gold is None else _checked_gold(gold, len(targets), len(sources))
    return _Shown(weights, sources, targets, spans, note)


def _checked_gold(gold: Gold, targets: int, sources: int) -> list[list[int] | None]:
    """Spans as lists, one entry for each target token; missing ones at the end (an end symbol's) are None."""
    gold = [None if span is None else [int(place) for place in span] for span in gold]
    if len(gold) > targets:
        raise BadValue(f"gold has {len(gold)} entries for {targets} target tokens")
    for row, span in enumerate(gold):
        if span is not None and not (len(span) == 2 and 0 <= span[0] < span[1] <= sources):
            raise BadValue(f"gold[{row}] is {span}; needed None or (start, end), 0 <= start < end <= {sources}")
    return gold + [None] * (targets - len(gold))
