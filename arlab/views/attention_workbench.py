"""Attention workbench: softmax(Q K^T / sqrt(d_k)) V taken apart, number by number, for one query and one key."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from arlab.nn.attention import attention
from arlab.nn.masks import causal_mask
from arlab.views.base import BadValue, View, script, style

MAX_TIME, MAX_WIDTH = 16, 512
STRETCH = (0.1, 30.0)


class AttentionWorkbench(View):
    """q and k (time, d_k), v (time, d_v), up to 16 tokens: each step from the dot product to z with its numbers.

    tokens: `time` strings (positions, when left out). causal: may a query see the keys up to its own position only?
    scale: divide by sqrt(d_k)? Both can be switched in the page, and `stretch` multiplies q by 0.1 to 30: that is what
    training or a larger d_k does to the scores, and the softmax saturates.

    The traits `query`, `key`, `causal`, `scale` and `stretch` follow the page and can be set. `weights` and `output`
    are what `arlab.nn.attention.attention` gives for the state shown. Raises ValueError for shapes that do not fit.

    Source: Vaswani et al. (2017), section 3.2.1 and its footnote 4 on the scale; lecture 002.
    """

    title = "Attention workbench"
    _esm = script("heat.js", "attention_workbench.js")
    _css = style("heat.css")

    query = traitlets.Int(0).tag(sync=True)
    key = traitlets.Int(0).tag(sync=True)
    causal = traitlets.Bool(True).tag(sync=True)
    scale = traitlets.Bool(True).tag(sync=True)
    stretch = traitlets.Float(1.0).tag(sync=True)
    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    shape = traitlets.List(traitlets.Int(), default_value=[1, 1, 1]).tag(sync=True)  # time, d_k, d_v
    data = traitlets.Bytes(b"").tag(sync=True)  # float64: q, k, v, one after the other

    def __init__(
        self,
        q: Float[Tensor, "time d_k"],
        k: Float[Tensor, "time d_k"],
        v: Float[Tensor, "time d_v"],
        tokens: Sequence[str] | None = None,
        *,
        causal: bool = True,
        scale: bool = True,
        query: int | None = None,
        key: int = 0,
        stretch: float = 1.0,
    ) -> None:
        q, k, v = (torch.as_tensor(x).detach().double().cpu() for x in (q, k, v))
        shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
        if not (q.dim() == v.dim() == 2 and q.shape == k.shape and len(v) == len(q)):
            raise ValueError(f"got {shapes}; expected q and k (time, d_k) and v (time, d_v): one head, one sequence")
        time, d_k = q.shape
        if not (1 <= time <= MAX_TIME and 1 <= d_k <= MAX_WIDTH and 1 <= v.size(1) <= MAX_WIDTH):
            raise ValueError(f"got {shapes}; the workbench shows 1 to {MAX_TIME} tokens of width 1 to {MAX_WIDTH}")
        if not all(x.isfinite().all() for x in (q, k, v)):
            raise ValueError("q, k and v must be finite numbers")
        tokens = [str(t) for t in range(time)] if tokens is None else list(tokens)
        if len(tokens) != time:
            raise ValueError(f"there are {len(tokens)} tokens for {time} rows of q; one is needed for each")
        self.q, self.k, self.v = q, k, v
        packed = torch.cat([x.flatten() for x in (q, k, v)]).numpy().astype("<f8").tobytes()
        super().__init__(shape=[time, d_k, v.size(1)], tokens=tokens, data=packed, causal=causal, scale=scale)
        self.query, self.key, self.stretch = time - 1 if query is None else query, key, stretch

    def _attention(self) -> tuple[Tensor, Tensor]:
        q = self.q * self.stretch * (1.0 if self.scale else math.sqrt(self.q.size(1)))  # attention() will divide
        return attention(q, self.k, self.v, causal_mask(len(q)) if self.causal else None)

    @property
    def weights(self) -> Float[Tensor, "time time"]:
        """The attention weights for the state shown, float64."""
        return self._attention()[1]

    @property
    def output(self) -> Float[Tensor, "time d_v"]:
        """z for the state shown, float64."""
        return self._attention()[0]

    def describe(self) -> str:
        time, d_k, d_v = self.shape
        return f"AttentionWorkbench: {time} tokens, d_k = {d_k}, d_v = {d_v}"

    @traitlets.validate("query", "key")
    def _check_index(self, proposal) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        if not 0 <= value < self.shape[0]:
            raise BadValue(f"{name} is {value}; it must be from 0 to {self.shape[0] - 1}")
        return value

    @traitlets.validate("stretch")
    def _check_stretch(self, proposal) -> float:
        low, high = STRETCH
        if not low <= proposal["value"] <= high:  # NaN fails too
            raise BadValue(f"stretch is {proposal['value']}; it must be from {low} to {high}")
        return proposal["value"]
