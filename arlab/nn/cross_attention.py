"""Attention from the decoder into the source: queries from the one, keys and values from the other; lecture 004."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from arlab.nn.attention import attention
from arlab.nn.blocks import Block, make_norm
from arlab.nn.cache import KVCache, Layout
from arlab.nn.positions import Rotary

Source = tuple[Tensor, Tensor, Tensor | None]  # keys, values (rows, heads, source_time, head_dim); padding mask


class CrossAttention(nn.Module):
    """softmax(Q K^T / sqrt(d_k)) V with Q from the decoder's states, K and V from H_enc, the encoder's output.

    The source does not change while the target grows: its keys and values are computed once (`keys_values`) and used
    at every step. No position is hidden but padding: the whole source has been read.
    """

    def __init__(self, config):
        super().__init__()
        self.heads, self.head_dim, self.dropout = config.heads, config.head_dim, config.dropout
        width = self.heads * self.head_dim
        self.q = nn.Linear(config.d_model, width, bias=config.qkv_has_bias)
        self.kv = nn.Linear(config.d_model, 2 * width, bias=config.qkv_has_bias)  # [W_K; W_V] stacked by rows
        self.out = nn.Linear(width, config.d_model, bias=config.bias)
        self.recording: dict | None = None  # set by record_attention
        self.layer, self.kind = 0, "cross"

    def keys_values(self, h: Float[Tensor, "sources source_time d_model"]) -> tuple[Tensor, Tensor]:
        """K and V of the encoded sources, (sources, heads, source_time, head_dim) each."""
        kv = self.kv(h).view(*h.shape[:2], 2 * self.heads, self.head_dim).transpose(1, 2)
        return kv.split(self.heads, dim=1)

    def forward(self, x: Float[Tensor, "rows time d_model"], source: Source) -> Float[Tensor, "rows time d_model"]:
        rows, time, _ = x.shape
        q = self.q(x).view(rows, time, self.heads, self.head_dim).transpose(1, 2)  # (rows, heads, time, head_dim)
        z = self._attend(q, *source)
        return self.out(z.transpose(1, 2).reshape(rows, time, -1))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        if self.recording is None:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        output, weights = attention(q, k, v, mask)
        self.recording[self.layer] = weights.detach().float()
        return output if not dropout else F.dropout(weights, dropout) @ v


class CrossBlock(Block):
    """A block of the decoder: x + self-attention(norm(x)), x + cross-attention(norm(x)), x + ffn(norm(x)).

    With norm_first=False the norms stand behind the sums: post-LN, as in Vaswani et al. (2017).
    """

    def __init__(self, config):
        super().__init__(config)
        self.norm_cross, self.cross = make_norm(config), CrossAttention(config)

    def forward(
        self,
        x: Float[Tensor, "rows time d_model"],
        layout: Layout,
        cache: KVCache | None,
        rotary: Rotary | None,
        source: Source,
    ) -> Float[Tensor, "rows time d_model"]:
        if self.norm_first:
            x = self._join(x, self.attn(self.norm1(x), layout, cache, rotary))
            x = self._join(x, self.cross(self.norm_cross(x), source))
            return self._join(x, self.ffn(self.norm2(x)))
        x = self.norm1(self._join(x, self.attn(x, layout, cache, rotary)))
        x = self.norm_cross(self._join(x, self.cross(x, source)))
        return self.norm2(self._join(x, self.ffn(x)))


class SourceLayout(Layout):
    """The layout of an encoder's pass: all of a source at once, nothing hidden but its padding."""

    def __init__(self, lengths: Tensor, time: int):
        super().__init__((0,) * lengths.size(0), time, lengths.device)
        object.__setattr__(self, "padding", source_mask(lengths, time))

    def mask(self, causal: bool) -> Bool[Tensor, "rows 1 1 keys"] | None:
        return self.padding

    def fused(self, causal: bool) -> tuple[Tensor | None, bool]:
        return self.padding, False


def source_mask(lengths: Tensor, time: int) -> Bool[Tensor, "sources 1 1 source_time"] | None:
    """True where a source is real; None where all are full, if that can be asked.

    On a GPU the host would have to wait for the answer, and in a compiled model the graph would break.
    """
    if lengths.device.type == "cpu" and not torch.compiler.is_compiling() and int(lengths.min()) == time:
        return None
    return (torch.arange(time, device=lengths.device) < lengths[:, None])[:, None, None]
