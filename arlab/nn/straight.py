"""The straight way through a model, for one token at a time.

A token of SmolLM2 passes through 270 modules. nn.Module's __call__ looks for hooks, its __getattr__ looks up weights,
and for a single token this takes two fifths of the time not spent reading weights from memory. `straight(block)`
is a callable that does the same with everything looked up beforehand: the blocks' own `compute` methods, so no formula
is written twice. A module that is hooked, whose `forward` has been replaced, or of a kind not known here (a student's
own, say), is called as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from arlab.nn.attention import MultiHeadAttention
from arlab.nn.blocks import Block, FeedForward, LayerNorm, RMSNorm, SwiGLU

MOST_VECTORS = 16  # from here on the ordinary way is as fast
# The kinds known here, with the forward that their short cut stands for.
FORWARD = {
    kind: kind.forward for kind in (nn.Linear, LayerNorm, RMSNorm, FeedForward, SwiGLU, MultiHeadAttention, Block)
}


def straight(module: nn.Module) -> Callable:
    """What module(...) does, without the way there. Weights may change in place; what is set or replaced later (a hook,
    a part, a parameter) is not seen."""
    kind = type(module)  # exactly this class: a subclass may compute something else
    if _hooked(module) or "forward" in vars(module) or kind.forward is not FORWARD.get(kind):
        return module
    if kind is nn.Linear:
        multiply = few_vectors if _pays_as_matrix_product(module.weight) else F.linear
        return partial(multiply, weight=module.weight, bias=module.bias)
    if kind is LayerNorm:
        weights = {"weight": module.weight, "bias": module.bias, "eps": module.eps}
        return partial(torch.layer_norm, normalized_shape=module.normalized_shape, **weights)
    if kind is RMSNorm:
        shape = module.normalized_shape
        return partial(torch.rms_norm, normalized_shape=shape, weight=module.weight, eps=module.eps)
    if kind is FeedForward:
        return partial(module.compute, up=straight(module.up), down=straight(module.down))
    if kind is SwiGLU:
        return partial(module.compute, gate_up=straight(module.gate_up), down=straight(module.down))
    if kind is MultiHeadAttention:
        return partial(module.compute, qkv=straight(module.qkv), out=straight(module.out))
    parts = {name: straight(part) for name, part in module.named_children()}  # a Block
    return partial(module.compute, **parts)


def few_vectors(
    x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "d_out d_in"], bias: Float[Tensor, "d_out"] | None = None
) -> Float[Tensor, "*batch d_out"]:
    """F.linear for a handful of vectors, computed as (W x^T)^T, and one vector as if it were two.

    MKL reads a matrix more slowly for its matrix-vector product, and for x W^T with few rows of x, than for W times a
    few columns: all of SmolLM2's weights take 41 ms as they come and 19 ms this way, on two cores of an AMD server.
    """
    vectors = x.reshape(-1, x.size(-1))  # (n, d_in)
    n = vectors.size(0)
    if n > MOST_VECTORS:
        return F.linear(x, weight, bias)
    columns = torch.cat([vectors, vectors]).t() if n == 1 else vectors.t()  # (d_in, n or 2)
    out = torch.mm(weight, columns)[:, :n].t().contiguous().view(*x.shape[:-1], -1)
    return out if bias is None else out + bias


def _pays_as_matrix_product(weight: Tensor) -> bool:
    """In float32 on a CPU with MKL, for a matrix of a megabyte or more: a smaller one comes from the cache anyway."""
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    return on_cpu and weight.numel() >= 2**18 and torch.backends.mkl.is_available()


def hooks_so_far() -> int:
    """A number that grows whenever a hook is set on anything: when it has, look again before going straight."""
    return RemovableHandle.next_id


def _hooked(module: nn.Module) -> bool:
    own = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(map(bool, own)) or bool(torch.nn.modules.module._has_any_global_hook())
