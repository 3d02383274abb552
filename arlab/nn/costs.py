"""What a decoder costs, counted from its config alone: parameters, arithmetic, memory.

Every number here is exact and has a test that counts the real thing: the model's own parameters, torch's own FLOP
counter, the bytes of real tensors. FLOPs are those of the matrix products, 2 for each multiplication with its addition;
norms, activations, softmax, rotations and the embedding's look-up are left out, as torch's counter leaves them out
(they are under one per cent of a real model's arithmetic, though not of its time).
"""

from __future__ import annotations

import operator

from arlab.nn.decoder import DecoderConfig


def parameters(config: DecoderConfig) -> dict[str, int]:
    """Trainable numbers by part: embedding, positions, attention, ffn, norms, head; all layers together.

    Their sum is sum(p.numel() for p in DecoderLM(config).parameters()). A tied head is the embedding itself and
    counts 0; only learned positions have parameters.
    """
    d, inner = config.d_model, config.heads * config.head_dim
    qkv = (config.heads + 2 * config.n_kv_heads) * config.head_dim
    up = (2 if config.ffn == "swiglu" else 1) * config.n_ff  # SwiGLU: gate and up
    attention = d * qkv + config.qkv_has_bias * qkv + inner * d + config.bias * d
    ffn = d * up + config.n_ff * d + config.bias * (up + d)
    return {
        "embedding": config.vocab_size * d,
        "positions": config.context_length * d if config.positions == "learned" else 0,
        "attention": config.layers * attention,
        "ffn": config.layers * ffn,
        "norms": _norms(config) * _norm_width(config),
        "head": 0 if config.tied else config.vocab_size * d,
    }


def _norms(config: DecoderConfig) -> int:
    """Two a block; and one after the last block where norms stand inside the branches (pre-LN)."""
    return 2 * config.layers + config.norm_first


def _norm_width(config: DecoderConfig) -> int:
    """Parameters of one norm: a gain for each feature, and for some a shift."""
    shifted = {"layer": config.bias, "rms": False, "batch": True}
    return 0 if config.norm == "none" else config.d_model * (1 + shifted[config.norm])


def forward_flops(config: DecoderConfig, time: int, past: int = 0, *, last_only: bool = False) -> dict[str, int]:
    """FLOPs by part of one pass over `time` new tokens of ONE row, `past` tokens lying in the cache already.

    Args:
        time: new tokens. The whole text without a cache is (time, past=0), one cached token (1, past).
        past: tokens whose keys and values are kept. The context length is not enforced: a cost may be asked for before
            it is paid.
        last_only: logits for the last position alone, as `model.last_logits` computes them, not for all.

    Returns:
        qkv: the projections to queries, keys and values; scores: Q K^T; mix: weights times V; out: W^O; ffn; logits.
        Scores and mix are counted as the full rectangle time x (past + time), also where a causal mask throws
        nearly half of it away: the explicit attention computes all of it, and torch's counter counts all of it. A fused
        kernel may skip what lies wholly above the diagonal.

    Raises:
        ValueError: time below 1, past below 0.
    """
    time, past = _count("time", time), _count("past", past, least=0)
    d, inner = config.d_model, config.heads * config.head_dim
    qkv = (config.heads + 2 * config.n_kv_heads) * config.head_dim
    matrices = 3 if config.ffn == "swiglu" else 2
    square = 2 * config.layers * time * (past + time) * inner  # grouped keys too are met by every query head
    return {
        "qkv": 2 * config.layers * time * d * qkv,
        "scores": square,
        "mix": square,
        "out": 2 * config.layers * time * inner * d,
        "ffn": 2 * config.layers * time * matrices * d * config.n_ff,
        "logits": 2 * (1 if last_only else time) * d * config.vocab_size,
    }


def training_flops(config: DecoderConfig, time: int) -> dict[str, int]:
    """FLOPs by part of one training step on one row: three times the forward pass.

    Each product Y = X W has two in the backward pass, for the gradients of X and of W, as large as itself.
    (At the very bottom one falls away, for nobody asks for the gradient of a token id: an embedding is a look-up, and
    its gradient is an addition.)
    """
    return {part: 3 * flops for part, flops in forward_flops(config, time).items()}


def attention_weight_bytes(config: DecoderConfig, rows: int, time: int, itemsize: int = 4) -> int:
    """Bytes of all the T x T attention maps, every layer, head and row: what training keeps without a fused kernel.

    Args:
        itemsize: bytes a number: 4 for float32, 2 for bfloat16.
    """
    rows, time, itemsize = _count("rows", rows), _count("time", time), _count("itemsize", itemsize)
    return config.layers * rows * config.heads * time * time * itemsize


def kv_cache_bytes(config: DecoderConfig, rows: int, time: int, itemsize: int = 4) -> int:
    """Bytes of the keys and values of `time` tokens in `rows` rows, every layer: what new_cache(rows, time) holds.

    Args:
        itemsize: bytes a number: 4 for float32, 2 for bfloat16.
    """
    rows, time, itemsize = _count("rows", rows), _count("time", time), _count("itemsize", itemsize)
    return 2 * config.layers * rows * config.n_kv_heads * time * config.head_dim * itemsize


def _count(name: str, value: int, least: int = 1) -> int:
    value = operator.index(value)  # refuses 2.5
    if value < least:
        raise ValueError(f"{name} is {value}; it must be {least} or more")
    return value
