"""Attention explorer: every head of every layer over one text, a map at a time, a token at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from arlab.nn.attention import record_attention
from arlab.nn.language_model import eval_mode, last_logits
from arlab.views.base import BadValue, View, script, style

MAX_TOKENS = 128  # a larger map has cells of under four pixels, and a page of many megabytes


class HeadFigures(NamedTuple):
    """What a head does on average over the queries, each (layers, heads). Entropy in nats, the rest shares of 1."""

    entropy: Tensor
    first: Tensor
    previous: Tensor
    itself: Tensor


def head_figures(weights: Float[Tensor, "layers heads queries keys"]) -> HeadFigures:
    """Entropy of the rows, and the share of their weight on the first key, on the previous one and on the same one.

    Averages leave out query 0: under a causal mask it sees itself alone, whatever the head has learnt (with one query,
    that one counts). `previous` and `itself` are NaN for a rectangular map, where queries and keys are other tokens.
    """
    queries, keys = weights.shape[-2:]
    weights = weights.double()
    counted = slice(1, None) if queries > 1 else slice(None)
    entropy = torch.special.entr(weights).sum(-1)[..., counted].mean(-1)
    first = weights[..., counted, 0].mean(-1)
    if queries != keys:
        nothing = torch.full_like(first, torch.nan)
        return HeadFigures(entropy, first, nothing, nothing)
    itself = weights.diagonal(dim1=-2, dim2=-1)[..., counted].mean(-1)
    before = weights.diagonal(offset=-1, dim1=-2, dim2=-1)
    previous = before.mean(-1) if queries > 1 else torch.zeros_like(first)
    return HeadFigures(entropy, first, previous, itself)


class AttentionExplorer(View):
    """All attention maps of `model` on `text`: choose a layer and a head, point at a token, change the text.

    model: any model with the lab's attention (`record_attention` must work on it), grouped queries included.
    tokenizer: `encode` and `token_strings`. text: at most 128 tokens, at least one.
    layer, head: what is shown first. query: the token whose weights are drawn over the text (None: the last).

    The traits `layer`, `head`, `query`, `key` and `text` follow the page and can be set. `maps` holds the weights,
    (layers, heads, queries, keys). Raises ValueError for a text that is empty or too long and for indices out of range.

    A map says where a head takes its values from. What these values then do to the prediction it does not say
    (Jain and Wallace, 2019; Wiegreffe and Pinter, 2019).
    """

    title = "Attention explorer"
    _esm = script("heat.js", "attention_explorer.js")
    _css = style("heat.css")

    text = traitlets.Unicode("").tag(sync=True)
    layer = traitlets.Int(0).tag(sync=True)
    head = traitlets.Int(0).tag(sync=True)
    query = traitlets.Int(0).tag(sync=True)
    key = traitlets.Int(0).tag(sync=True)
    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    key_tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    shape = traitlets.List(traitlets.Int(), default_value=[1, 1, 1, 1]).tag(sync=True)
    weights = traitlets.Bytes(b"").tag(sync=True)  # uint16, see _packed
    figures = traitlets.Bytes(b"").tag(sync=True)  # float32 (4, layers, heads), the fields of HeadFigures
    editable = traitlets.Bool(False).tag(sync=True)
    cross = traitlets.Bool(False).tag(sync=True)

    def __init__(self, model=None, tokenizer=None, text: str = "", *, layer=0, head=0, query=None, _given=None) -> None:
        super().__init__()
        self._model, self._tokenizer = model, tokenizer
        self.maps: Tensor | None = None
        self.answers["text"] = self._asked
        if _given is None:
            if model is None or tokenizer is None:
                raise ValueError("a model and its tokenizer are needed; for ready maps use AttentionExplorer.from_maps")
            self._strings = tokenizer.token_strings()
            self.editable = True
            self.text = text
            if not text:  # no change, so nothing was observed
                self._ids(text)
        else:
            self._show(*_given)
        self.layer, self.head = layer, head
        self.query = self.shape[2] - 1 if query is None else query

    @classmethod
    def from_maps(
        cls,
        weights: Float[Tensor, "..."],
        tokens: Sequence[str],
        key_tokens: Sequence[str] | None = None,
        *,
        layer: int = 0,
        head: int = 0,
        query: int | None = None,
    ) -> AttentionExplorer:
        """Show given maps: (layers, heads, queries, keys), (heads, queries, keys) or (queries, keys).

        tokens: one for each query. key_tokens: one for each key, where the keys are other tokens than the queries (an
        encoder's, in cross-attention); such a map may be rectangular.
        """
        weights = torch.as_tensor(weights).detach().float().cpu()
        if not 2 <= weights.dim() <= 4:
            raise ValueError(f"weights has shape {tuple(weights.shape)}; expected (layers, heads, queries, keys)")
        weights = weights.reshape((1,) * (4 - weights.dim()) + tuple(weights.shape))
        return cls(layer=layer, head=head, query=query, _given=(weights, list(tokens), key_tokens))

    @property
    def row(self) -> Float[Tensor, "keys"]:
        """The weights of the chosen layer, head and query."""
        return self.maps[self.layer, self.head, self.query]

    def describe(self) -> str:
        layers, heads, queries, keys = self.shape
        return f"AttentionExplorer: {layers} layers x {heads} heads, {queries} x {keys} tokens"

    def _asked(self, text: str) -> None:
        if text == self.text:
            self._measure(text)  # no change to observe, but the model may have been trained since
        else:
            self.text = text

    def _ids(self, text: str) -> list[int]:
        ids = list(self._tokenizer.encode(text))
        if not 1 <= len(ids) <= MAX_TOKENS:
            raise BadValue(f"the text has {len(ids)} tokens; a map is drawn for 1 to {MAX_TOKENS}")
        limit = getattr(self._model, "context_length", None)
        if limit is not None and len(ids) > limit:
            raise BadValue(f"the text has {len(ids)} tokens; this model reads at most {limit}")
        return ids

    @traitlets.validate("text")
    def _check_text(self, proposal) -> str:
        if not self.editable:
            raise BadValue("these maps were given ready made: without a model there is no other text to measure")
        self._ids(proposal["value"])
        return proposal["value"]

    @traitlets.observe("text")
    def _text_changed(self, change) -> None:
        self._measure(change["new"])

    def _measure(self, text: str) -> None:
        ids = self._ids(text)
        device = next(self._model.parameters()).device
        with torch.no_grad(), eval_mode(self._model), record_attention(self._model) as maps:
            last_logits(self._model, torch.tensor([ids], device=device))
            weights = maps.stack()[:, 0].float().cpu()
        self._show(weights, [self._strings[i] for i in ids], None)

    def _show(self, weights: Tensor, tokens: list[str], key_tokens: Sequence[str] | None) -> None:
        queries, keys = weights.shape[-2:]
        cross = key_tokens is not None
        key_tokens = list(key_tokens) if cross else tokens
        if (len(tokens), len(key_tokens)) != (queries, keys):
            raise ValueError(
                f"the maps are {queries} queries x {keys} keys, but there are {len(tokens)} tokens and "
                f"{len(key_tokens)} key tokens; where the keys are other tokens, give key_tokens"
            )
        if max(queries, keys) > MAX_TOKENS or weights.numel() == 0:
            raise ValueError(f"the maps are {queries} queries x {keys} keys; 1 to {MAX_TOKENS} of each can be drawn")
        if not weights.isfinite().all() or weights.min() < 0 or weights.sum(-1).max() > 1.001:
            raise ValueError("attention weights are 0 or more, and no row of them sums to more than 1")
        self.maps = weights
        with self.hold_sync():
            self.shape, self.cross = list(weights.shape), cross
            self.tokens, self.key_tokens = tokens, key_tokens
            self.weights = _packed(weights)
            self.figures = torch.stack(list(head_figures(weights))).float().numpy().tobytes()
            self.layer, self.head = min(self.layer, self.shape[0] - 1), min(self.head, self.shape[1] - 1)
            self.query, self.key = queries - 1, 0

    @traitlets.validate("layer", "head", "query", "key")
    def _check_index(self, proposal) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        count = self.shape[("layer", "head", "query", "key").index(name)]
        if not 0 <= value < count:
            raise BadValue(f"{name} is {value}; it must be from 0 to {count - 1}")
        return value


def _packed(weights: Tensor) -> bytes:
    """Weights in [0, 1] as uint16 steps of 1/65535: closer than float16 above 1/64, where one looks at numbers.

    0 stays 0 and nothing else becomes 0, so that the page can tell a masked weight from a small one.
    """
    steps = (weights.double() * 65535).round()
    steps = torch.where(weights > 0, steps.clamp(min=1, max=65535), 0)
    return steps.to(torch.int32).numpy().astype("<u2").tobytes()
