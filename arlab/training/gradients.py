"""How much of the loss's gradient reaches each attention head, after `loss.backward()`."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from arlab.nn.attention import MultiHeadAttention


@torch.no_grad()
def head_gradient_norms(model: nn.Module) -> Float[Tensor, "layers 3 heads"]:
    """The Euclidean norm of the gradient of each head's W_Q, W_K and W_V (in this order), layer by layer.

    The three matrices of all heads lie in one, `attn.qkv`; this cuts its gradient into (head_dim, d_model) pieces.
    Biases are left out. Where a group of query heads shares one key/value head, that head's norm stands in each
    of the group's columns: it is one gradient, shown several times, so do not add those columns up.

    Returns:
        (layers, 3, heads), on the CPU in float32.

    Raises:
        ValueError: when the model has no arlab attention, or a layer has no gradient (yet, or no longer).

    Source: lecture 001 (back-propagation through queries, keys, values and heads).
    """
    layers = [module for module in model.modules() if isinstance(module, MultiHeadAttention)]
    if not layers:
        raise ValueError(f"{type(model).__name__} holds no arlab MultiHeadAttention: no heads to look at")
    for number, layer in enumerate(layers):
        if layer.qkv.weight.grad is None:
            raise ValueError(f"layer {number} has no gradient: call loss.backward() first, and zero_grad() after")
    return torch.stack([_of_layer(layer) for layer in layers])


def _of_layer(layer: MultiHeadAttention) -> Float[Tensor, "3 heads"]:
    pieces = layer.qkv.weight.grad.float().unflatten(0, (-1, layer.head_dim))  # (heads + 2 kv_heads, head_dim, d_model)
    norms = torch.linalg.vector_norm(pieces, dim=(1, 2)).cpu()
    q, k, v = norms.split([layer.heads, layer.kv_heads, layer.kv_heads])
    group = layer.heads // layer.kv_heads
    return torch.stack([q, k.repeat_interleave(group), v.repeat_interleave(group)])
