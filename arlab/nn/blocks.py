"""The transformer block: attention mixes between positions, the feed-forward net works at each position alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from arlab.nn.attention import MultiHeadAttention
from arlab.nn.cache import KVCache, Layout
from arlab.nn.positions import Rotary

ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),  # what GPT-2's weights were trained with
    "relu": F.relu,
}


class LayerNorm(nn.LayerNorm):
    """(x - mean) / deviation over the features of each token (Ba et al., 2016).

    torch's own, called without its checks: for a single token they take longer than the arithmetic.
    """

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return torch.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSNorm(nn.RMSNorm):
    """x / root mean square of x: the mean stays in (Zhang and Sennrich, 2019)."""

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return torch.rms_norm(x, self.normalized_shape, self.weight, self.eps)


class BatchNorm(nn.BatchNorm1d):
    """(x - mean) / deviation of each feature over all tokens of the batch, padding included (Ioffe and Szegedy, 2015).

    Here to be compared, not to be used: a token's output depends on the rows beside it and, in training, on its own
    future; in eval mode running averages stand in for the batch. Lecture 004; notebook 05.
    """

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return super().forward(x.reshape(-1, x.size(-1))).view(x.shape)


def make_norm(config) -> nn.Module:
    """The norm that the config names, over d_model features."""
    if config.norm == "none":
        return nn.Identity()
    if config.norm == "rms":
        return RMSNorm(config.d_model, eps=config.norm_eps)
    if config.norm == "batch":
        return BatchNorm(config.d_model, eps=config.norm_eps)
    return LayerNorm(config.d_model, eps=config.norm_eps, bias=config.bias)


class FeedForward(nn.Module):
    """d -> d_ff -> d with a bend in between, the same for every position; lecture 004."""

    def __init__(self, config):
        super().__init__()
        self.activation = ACTIVATIONS[config.ffn]
        self.up = nn.Linear(config.d_model, config.n_ff, bias=config.bias)
        self.down = nn.Linear(config.n_ff, config.d_model, bias=config.bias)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.compute(x, up=self.up, down=self.down)

    def compute(self, x, *, up, down) -> Float[Tensor, "*batch d_model"]:
        return down(self.activation(up(x)))


class SwiGLU(nn.Module):
    """silu(x W_gate) * (x W_up), then down (Shazeer, 2020). Gate and up are one matrix, stacked by rows."""

    def __init__(self, config):
        super().__init__()
        self.gate_up = nn.Linear(config.d_model, 2 * config.n_ff, bias=config.bias)
        self.down = nn.Linear(config.n_ff, config.d_model, bias=config.bias)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.compute(x, gate_up=self.gate_up, down=self.down)

    def compute(self, x, *, gate_up, down) -> Float[Tensor, "*batch d_model"]:
        gate, up = gate_up(x).chunk(2, dim=-1)
        return down(F.silu(gate) * up)


class Block(nn.Module):
    """x + attention(norm(x)), then x + ffn(norm(x)): norms inside the branch (pre-LN, Xiong et al., 2020).

    With norm_first=False it is norm(x + attention(x)), then norm(x + ffn(x)): post-LN, as in Vaswani et al. (2017).
    With residual=False a branch replaces x instead of adding to it: notebook 05 shows what a deep net does then.
    """

    def __init__(self, config):
        super().__init__()
        self.norm1, self.attn = make_norm(config), MultiHeadAttention(config)
        self.norm2, self.ffn = make_norm(config), (SwiGLU if config.ffn == "swiglu" else FeedForward)(config)
        self.norm_first, self.residual, self.dropout = config.norm_first, config.residual, config.dropout

    def forward(
        self,
        x: Float[Tensor, "rows time d_model"],
        layout: Layout,
        cache: KVCache | None = None,
        rotary: Rotary | None = None,
    ) -> Float[Tensor, "rows time d_model"]:
        return self.compute(x, layout, cache, rotary, self.norm1, self.attn, self.norm2, self.ffn)

    def compute(self, x, layout, cache, rotary, norm1, attn, norm2, ffn) -> Float[Tensor, "rows time d_model"]:
        if self.norm_first:
            x = self._join(x, attn(norm1(x), layout, cache, rotary))
            return self._join(x, ffn(norm2(x)))
        x = norm1(self._join(x, attn(x, layout, cache, rotary)))
        return norm2(self._join(x, ffn(x)))

    def _join(self, x: Tensor, branch: Tensor) -> Tensor:
        """The branch goes into the stream; dropout on what it adds (Srivastava et al., 2014) when training."""
        branch = F.dropout(branch, self.dropout) if self.training and self.dropout else branch
        return x + branch if self.residual else branch
