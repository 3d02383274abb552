"""Where a token stands: sinusoids, learned vectors, rotations.

Attention itself is blind to order: permute the keys with their values and nothing changes. Each scheme here
tells it the order in another way.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def sinusoidal(positions: Int[Tensor, "*p"], d_model: int, base: float = 10_000.0) -> Float[Tensor, "*p d_model"]:
    """sin and cos of the position at d_model/2 frequencies, interleaved: a binary clock with smooth hands.

    Raises:
        ValueError: when d_model is odd.

    Source: Vaswani et al. (2017), section 3.5; lecture 004.
    """
    angles = positions.float()[..., None] * frequencies(d_model, base, positions.device)  # (*p, d_model/2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def frequencies(dim: int, base: float, device=None) -> Float[Tensor, "half"]:
    """base^(-2i/dim) for i = 0 .. dim/2 - 1: radians a position, from fast to slow."""
    if dim % 2:
        raise ValueError(f"the dimension is {dim}; it must be even, for sines and cosines come in pairs")
    return base ** (-torch.arange(0, dim, 2, device=device).float() / dim)


class Rotary(NamedTuple):
    """cos and sin for one forward pass, (rows or 1, 1, time, head_dim); the sin carries the sign of its half."""

    cos: Tensor
    sin: Tensor


class RotaryTable(nn.Module):
    """cos and sin for every position up to the context length, computed once in float32.

    Feature i is paired with feature i + head_dim/2; the pair is turned by position * base^(-2i/head_dim). The
    dot product of a query at m and a key at n then depends on m - n alone (a test holds us to that).

    Source: "RoFormer" (Su et al., 2021). The pairing of halves is the one that Llama checkpoints use.
    """

    def __init__(self, head_dim: int, context_length: int, base: float):
        super().__init__()
        angles = torch.arange(context_length).float()[:, None] * frequencies(head_dim, base)  # (time, half)
        self.register_buffer("cos", torch.cat([angles.cos(), angles.cos()], dim=-1), persistent=False)
        self.register_buffer("sin", torch.cat([-angles.sin(), angles.sin()], dim=-1), persistent=False)

    def forward(self, positions: Int[Tensor, "rows time"] | slice, dtype: torch.dtype) -> Rotary:
        cos, sin = self.cos[positions].to(dtype), self.sin[positions].to(dtype)
        if isinstance(positions, slice):
            return Rotary(cos[None, None], sin[None, None])
        return Rotary(cos[:, None], sin[:, None])


def rotate(x: Float[Tensor, "rows heads time head_dim"], rotary: Rotary) -> Float[Tensor, "rows heads time head_dim"]:
    """Turn each pair (x[i], x[i + half]) by its angle: x cos + swap(x) sin, the sign already in the sine."""
    swapped = x.roll(x.size(-1) // 2, dims=-1)
    return torch.addcmul(x * rotary.cos, swapped, rotary.sin)
