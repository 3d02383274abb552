"""Scaled dot-product attention, written once to be read, and fast when nobody looks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from arlab.nn.cache import KVCache, Layout
from arlab.nn.positions import Rotary, rotate


def attention(
    q: Float[Tensor, "*batch queries d_k"],
    k: Float[Tensor, "*batch keys d_k"],
    v: Float[Tensor, "*batch keys d_v"],
    mask: Bool[Tensor, "..."] | None = None,
) -> tuple[Float[Tensor, "*batch queries d_v"], Float[Tensor, "*batch queries keys"]]:
    """softmax(Q K^T / sqrt(d_k)) V, and the weights themselves.

    Args:
        q, k, v: (..., queries, d_k), (..., keys, d_k), (..., keys, d_v).
        mask: True where a query may attend to a key; broadcasts to (..., queries, keys). None: everywhere.

    Returns:
        output (..., queries, d_v) and weights (..., queries, keys). Each row of weights sums to 1; where a
        mask leaves a query nothing to attend to, its weights and its output are 0 (not NaN).

    Raises:
        ValueError: when the shapes do not fit, or the mask is not boolean.

    Source: Vaswani et al. (2017), equation 1; lecture 002.
    """
    _check_shapes(q, k, v, mask)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (..., queries, keys)
    if mask is None:
        weights = scores.softmax(dim=-1)
    else:
        scores = scores.masked_fill(~mask, -torch.inf)
        # A row of nothing but -inf would give 0/0. Lend it finite scores, then take its weights away again:
        # NaN never arises, in the gradients neither.
        empty = ~mask.any(dim=-1, keepdim=True)
        weights = scores.masked_fill(empty, 0.0).softmax(dim=-1).masked_fill(empty, 0.0)
    return weights @ v, weights


def _check_shapes(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> None:
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if min(q.dim(), k.dim(), v.dim()) < 2:
        raise ValueError(f"q, k and v need at least two dimensions (tokens, features); got {shapes}")
    if q.size(-1) != k.size(-1):
        raise ValueError(f"queries and keys must have the same d_k, for they meet in a dot product; got {shapes}")
    if k.size(-2) != v.size(-2):
        raise ValueError(f"each key needs its value: as many rows in k as in v; got {shapes}")
    try:
        torch.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    except RuntimeError:
        raise ValueError(f"q, k and v must agree in all but the last two dimensions; got {shapes}") from None
    if mask is not None:
        if mask.dtype != torch.bool:
            raise ValueError(f"the mask's dtype is {mask.dtype}; it must be torch.bool, True = may attend")
        try:
            torch.broadcast_shapes(mask.shape, (*q.shape[:-1], k.size(-2)))
        except RuntimeError:
            raise ValueError(
                f"the mask has shape {tuple(mask.shape)}, which does not broadcast to "
                f"(queries, keys) = {(q.size(-2), k.size(-2))}; got {shapes}"
            ) from None


class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each in its own d_model / heads dimensions; lectures 002 and 004.

    With fewer key/value heads than query heads, a group of query heads shares one (grouped-query attention,
    Ainslie et al., 2023). Q, K and V come from one matrix, [W_Q; W_K; W_V] stacked by rows: one large product
    is faster than three small ones.
    """

    def __init__(self, config):
        super().__init__()
        self.heads, self.kv_heads = config.heads, config.n_kv_heads
        self.head_dim, self.causal = config.head_dim, config.causal
        self.dropout = config.dropout
        width = (self.heads + 2 * self.kv_heads) * self.head_dim
        self.qkv = nn.Linear(config.d_model, width, bias=config.qkv_has_bias)
        self.out = nn.Linear(self.heads * self.head_dim, config.d_model, bias=config.bias)
        self.recording: dict | None = None  # set by record_attention
        self.layer, self.kind = 0, "self"  # set by the model; "encoder" in an encoder

    def forward(
        self,
        x: Float[Tensor, "rows time d_model"],
        layout: Layout,
        cache: KVCache | None = None,
        rotary: Rotary | None = None,
    ) -> Float[Tensor, "rows time d_model"]:
        return self.compute(x, layout, cache, rotary, qkv=self.qkv, out=self.out)

    def compute(self, x, layout, cache, rotary, *, qkv, out) -> Float[Tensor, "rows time d_model"]:
        """`forward`, with its two projections handed over; see arlab/nn/straight.py."""
        rows, time, _ = x.shape
        qkv = qkv(x).view(rows, time, -1, self.head_dim).transpose(1, 2)  # (rows, heads + 2 kv, time, head_dim)
        qk, v = qkv.split([self.heads + self.kv_heads, self.kv_heads], dim=1)
        if rotary is not None:  # turns queries and keys alike, in one go; values keep still
            qk = rotate(qk, rotary)
        q, k = qk.split([self.heads, self.kv_heads], dim=1)
        if cache is not None:
            k, v = cache.update(self.layer, k, v)  # (rows, kv_heads, keys, head_dim)
        z = self._attend(q, k, v, layout)  # (rows, heads, time, head_dim)
        return out(z.transpose(1, 2).reshape(rows, time, -1))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        group = self.heads // self.kv_heads
        if self.recording is not None:
            k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
            output, weights = attention(q, k, v, layout.mask(self.causal))
            self.recording[self.layer] = weights.detach().float()
            return output if not dropout else F.dropout(weights, dropout) @ v
        mask, is_causal = layout.fused(self.causal)
        if group > 1 and q.size(2) == 1:
            # One new token: the heads of a group are so many queries to the same keys, and nothing is copied.
            q = q.reshape(q.size(0), self.kv_heads, group, q.size(3))
            z = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
            return z.reshape(z.size(0), self.heads, 1, z.size(3))
        if group > 1:
            k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal, dropout_p=dropout)


class AttentionMaps:
    """`maps[layer]` is (rows, heads, queries, keys) of the last forward pass."""

    def __init__(self) -> None:
        self.by_layer: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.by_layer)

    def __getitem__(self, layer: int) -> Float[Tensor, "rows heads queries keys"]:
        if not self.by_layer:
            raise IndexError(
                "no maps: run the model inside the `with record_attention(model)` block, and ask for a kind of "
                "attention that it has"
            )
        if not -len(self) <= layer < len(self):
            raise IndexError(f"layer is {layer}; the model has layers 0 to {len(self) - 1}")
        return self.by_layer[sorted(self.by_layer)[layer]]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[layer] for layer in range(len(self)))

    def stack(self) -> Float[Tensor, "layers rows heads queries keys"]:
        """All layers in one tensor."""
        return torch.stack(list(self))


class RecordedAttention(AttentionMaps):
    """What `record_attention` hands out: causal self-attention; of an encoder-decoder `.encoder` and `.cross` too."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.cross = AttentionMaps(), AttentionMaps()

    def of(self, kind: str) -> dict[int, Tensor]:
        return {"self": self, "encoder": self.encoder, "cross": self.cross}[kind].by_layer


@contextmanager
def record_attention(model: nn.Module) -> Iterator[RecordedAttention]:
    """Run the explicit softmax(QK^T/sqrt(d_k))V inside the block and keep its weights, a map for each query head.

    Outside the block the same modules use torch's fused kernel, which never forms the weights. What is recorded: each
    module that has a `recording` (None, or the dict to write into), its `layer`, and its `kind` of attention.

    Raises:
        ValueError: when the model has no arlab attention, or is being recorded already.
    """
    modules = [module for module in model.modules() if hasattr(module, "recording")]
    if not modules:
        raise ValueError(f"{type(model).__name__} holds no arlab attention: nothing to record")
    if any(module.recording is not None for module in modules):
        raise ValueError("this model is being recorded already; leave the outer record_attention block first")
    maps = RecordedAttention()
    for module in modules:
        module.recording = maps.of(module.kind)
    try:
        yield maps
    finally:
        for module in modules:
            module.recording = None
