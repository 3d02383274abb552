"""Checks of notebook 08: RMSNorm, rotary positions, and key/value heads shared by a group of query heads."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from arlab.exercises.exercise import Exercise, Wrong, close, shape_problem


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------------ rms_norm


def _check_rms_norm(student) -> str | None:
    x, weight, eps = _normal(2, 3, 8) + 0.5, 1 + _normal(8, seed=1).abs(), 0.1  # a mean and an eps that are felt
    expected = rms_norm_of(x, weight, eps)
    answer = student(x.clone(), weight.clone(), eps)
    if problem := shape_problem(answer, expected):
        return problem
    for mistake, words in _RMS_MISTAKES:
        if close(answer, mistake(x, weight, eps)):
            return words
    if not close(answer, expected):
        return (
            "the values differ: divide x by sqrt(mean(x^2) + eps), the mean over the features, then multiply by weight."
        )
    single = _normal(5, seed=2)
    if not close(student(single.clone(), torch.ones(5), 1e-5), rms_norm_of(single, torch.ones(5), 1e-5)):
        return "it fails for a single vector of shape (5,): take the mean over the last axis, dim=-1."
    if not close(student(torch.zeros(2, 4), torch.ones(4), 1e-5), torch.zeros(2, 4)):
        return "a vector of zeros should stay zeros."
    return None


def _over(x: Tensor, weight: Tensor, eps: float, dim) -> Tensor:
    return x / torch.sqrt(x.square().mean(dim=dim, keepdim=True) + eps) * weight


def _layer_norm(x, weight, eps):
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(dim=-1, keepdim=True) + eps) * weight


def _eps_outside(x, weight, eps):
    return x / (x.square().mean(dim=-1, keepdim=True).sqrt() + eps) * weight


def _no_weight(x, weight, eps):
    return x / torch.sqrt(x.square().mean(dim=-1, keepdim=True) + eps)


def _sum_not_mean(x, weight, eps):
    return x / torch.sqrt(x.square().sum(dim=-1, keepdim=True) + eps) * weight


def _no_root(x, weight, eps):
    return x / (x.square().mean(dim=-1, keepdim=True) + eps) * weight


def _no_eps(x, weight, eps):
    return x / x.square().mean(dim=-1, keepdim=True).sqrt() * weight


def _std(x, weight, eps):
    return x / torch.sqrt(x.var(dim=-1, keepdim=True, correction=0) + eps) * weight


_RMS_MISTAKES = (
    (_layer_norm, "you subtracted the mean: that is LayerNorm. RMSNorm only rescales."),
    (_no_weight, "the weight is missing: after the division each feature has a learned scale of its own."),
    (_eps_outside, "eps stands outside the root; it belongs under it, sqrt(mean(x^2) + eps)."),
    (_sum_not_mean, "you divided by the length of x, the root of the sum of squares; RMS is the root of their mean."),
    (_no_root, "the square root is missing: you divided by the mean square."),
    (_no_eps, "the eps given is missing: it belongs under the root, sqrt(mean(x^2) + eps), or zeros give 0/0."),
    (_std, "you divided by the standard deviation, which subtracts the mean inside; RMS squares x itself."),
    (lambda x, w, eps: _over(x, w, eps, 1), "you took the mean over time: each token is normalised alone, dim=-1."),
    (lambda x, w, eps: _over(x, w, eps, 0), "you took the mean over the rows: each token is normalised alone, dim=-1."),
    (
        lambda x, w, eps: _over(x, w, eps, (0, 1, 2)),
        "you took the mean over the whole tensor: each token is normalised alone, dim=-1 with keepdim=True.",
    ),
)


# Each exercise takes the name of its first right answer, so that the solution reads as the student's own cell would.
def rms_norm(x, weight, eps):
    mean_square = x.square().mean(dim=-1, keepdim=True)  # one number for each token
    return x * torch.rsqrt(mean_square + eps) * weight


def _by_norm(x, weight, eps):
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)  # sqrt of the sum of squares
    return weight * x / (length**2 / x.shape[-1] + eps) ** 0.5


rms_norm_of = rms_norm
rms_norm = Exercise(
    name="real_llm.rms_norm",
    check=_check_rms_norm,
    hint_text="From the inside out: square x, take the mean over the last axis (keepdim=True), add eps, take the root; "
    "divide x by it, then multiply by weight. No mean is subtracted anywhere.",
    right=(rms_norm_of, _by_norm),
    wrong=(
        Wrong(_layer_norm, says="LayerNorm"),
        Wrong(lambda x, w, eps: _over(x, w, eps, 1 if x.dim() == 3 else -1), says="over time"),
        Wrong(lambda x, w, eps: x / torch.sqrt(x.square().mean() + eps) * w, says="whole tensor"),
        Wrong(_eps_outside, says="outside the root"),
        Wrong(_no_weight, says="weight is missing"),
        Wrong(_sum_not_mean, says="length of x"),
        Wrong(_no_root, says="square root is missing"),
        Wrong(_std, says="standard deviation"),
        Wrong(_no_eps, says="eps given is missing"),
    ),
)

# ---------------------------------------------------------------------------------------------------------- rope


def _check_rope(student) -> str | None:
    x, base = _normal(2, 3, 4, 8), 100.0  # rows, heads, time, head_dim
    positions = torch.tensor([0, 1, 2, 5])
    expected = rope_of(x, positions, base)
    answer = student(x.clone(), positions.clone(), base)
    if problem := shape_problem(answer, expected):
        return problem
    for mistake, words in _ROPE_MISTAKES:
        if close(answer, mistake(x, positions, base), 1e-4):
            return words
    if not close(answer[..., 0, :], x[..., 0, :], 1e-4):
        return "a token at position 0 should come out as it went in: its angle is 0 in every pair."
    if not close(answer.norm(dim=-1), x.norm(dim=-1), 1e-4):
        return "it is not a rotation, for lengths change. Check the signs: a cos - b sin, and a sin + b cos."
    if not close(answer, expected, 1e-4):
        return "the lengths are right, the directions are not: pair i turns by positions * base^(-2i/d), i from 0."
    for shape, where in (((6, 4), torch.arange(10, 16)), ((1, 1, 1, 16), torch.tensor([1000]))):
        x = _normal(*shape, seed=3)
        if not close(student(x.clone(), where.clone(), 10_000.0), rope_of(x, where, 10_000.0), 1e-3):
            return f"it fails for x of shape {shape} at positions {where[0]} to {where[-1]} with base 10000."
    return None


def _angles(d: int, positions: Tensor, base: float, exponent: float = 2.0) -> Tensor:
    return positions[:, None].float() * base ** (-exponent * torch.arange(d // 2).float() / d)


def _turn(x: Tensor, angles: Tensor, sign_first: float = -1.0, sign_second: float = 1.0) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    first = a * angles.cos() + sign_first * b * angles.sin()
    return torch.cat([first, b * angles.cos() + sign_second * a * angles.sin()], dim=-1)


def rope(x, positions, base):
    d = x.shape[-1]
    frequencies = base ** (-2 * torch.arange(d // 2) / d)  # radians a position, one for each pair
    angles = positions[:, None] * frequencies  # (time, d / 2)
    cos, sin = angles.cos(), angles.sin()
    a, b = x[..., : d // 2], x[..., d // 2 :]  # feature i is paired with feature i + d / 2
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def _by_complex(x, positions, base):
    half = x.shape[-1] // 2
    z = torch.complex(x[..., :half].contiguous(), x[..., half:].contiguous())
    speed = torch.exp(-math.log(base) * torch.arange(half) / half)
    z = z * torch.polar(torch.ones(()), positions[:, None] * speed)  # e^(i angle) turns by the angle
    return torch.cat([z.real, z.imag], dim=-1)


def _interleaved(x, positions, base):
    angles = _angles(x.shape[-1], positions, base)
    a, b = x[..., ::2], x[..., 1::2]
    pairs = [a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()]
    return torch.stack(pairs, dim=-1).flatten(-2)


def _backwards(x, positions, base):
    return _turn(x, -_angles(x.shape[-1], positions, base))


def _one_sign(x, positions, base):
    return _turn(x, _angles(x.shape[-1], positions, base), sign_first=1.0)


def _one_frequency(x, positions, base):
    return _turn(x, positions[:, None].float().expand(-1, x.shape[-1] // 2))


def _degrees(x, positions, base):
    return _turn(x, torch.deg2rad(_angles(x.shape[-1], positions, base)))


def _ignores_positions(x, positions, base):
    return _turn(x, _angles(x.shape[-1], torch.arange(x.shape[-2]), base))


def _from_one(x, positions, base):
    return _turn(x, _angles(x.shape[-1], positions + 1, base))


def _half_exponent(x, positions, base):
    return _turn(x, _angles(x.shape[-1], positions, base, exponent=1.0))


def _ever_faster(x, positions, base):
    return _turn(x, _angles(x.shape[-1], positions, 1 / base))


def _reversed_frequencies(x, positions, base):
    return _turn(x, _angles(x.shape[-1], positions, base).flip(-1))


_ROPE_MISTAKES = (
    (_interleaved, "you paired neighbours (0, 1), (2, 3), ...; asked for are halves: feature i with feature i + d/2."),
    (_backwards, "you turned the other way: (a, b) becomes (a cos - b sin, a sin + b cos)."),
    (_one_frequency, "every pair turns at the same speed; pair i turns by base^(-2i/d) radians a position."),
    (_degrees, "you took the angles for degrees; cos and sin of torch expect radians."),
    (_ignores_positions, "you counted 0, 1, 2, ... yourself; use the positions given (a cache starts later)."),
    (_from_one, "your positions start at 1: a token at position 0 should come out as it went in."),
    (_half_exponent, "the exponent is -2i/d, not -i/d: i counts the pairs, and there are only d/2 of them."),
    (_ever_faster, "the exponent's sign is lost: -2i/d makes later pairs slower, yours turn ever faster."),
    (_reversed_frequencies, "the speeds are in reverse: the first pair is the fastest, base^0 = 1 radian a position."),
)

rope_of = rope
rope = Exercise(
    name="real_llm.rope",
    check=_check_rope,
    hint_text="Three steps. angles = positions[:, None] * base ** (-2 * torch.arange(d // 2) / d): shape (time, d/2). "
    "Cut x into its two halves a and b along the last axis. Put together a cos - b sin and a sin + b cos.",
    right=(rope_of, _by_complex),
    wrong=(
        Wrong(_interleaved, says="neighbours"),
        Wrong(_one_sign, says="not a rotation"),
        Wrong(_backwards, says="the other way"),
        Wrong(_one_frequency, says="same speed"),
        Wrong(_degrees, says="degrees"),
        Wrong(_ignores_positions, says="positions given"),
        Wrong(_from_one, says="start at 1"),
        Wrong(_half_exponent, says="exponent"),
        Wrong(_ever_faster, says="ever faster"),
        Wrong(_reversed_frequencies, says="reverse"),
    ),
)

# ----------------------------------------------------------------------------------------------------- repeat_kv


def _check_repeat_kv(student) -> str | None:
    k, group = _normal(2, 3, 5, 4), 2  # rows, kv_heads, time, head_dim: a group unlike the number of heads
    expected = k.repeat_interleave(group, dim=1)
    answer = student(k.clone(), group)
    if isinstance(answer, Tensor):
        if answer.shape == (2, 3, group, 5, 4):
            return "the group is an axis of its own still: fold it into the heads, (rows, kv_heads * group, time, d)."
        if answer.shape == (2 * group, 3, 5, 4):
            return "you repeated the rows; the heads, axis 1, are what each group shares."
        if answer.shape == (2, 3, 5 * group, 4):
            return "you repeated along time; the heads, axis 1, are what each group shares."
    if problem := shape_problem(answer, expected):
        return problem
    if close(answer, k.repeat(1, group, 1, 1)):
        return "your order is 0, 1, 2, 0, 1, 2; a group (of 2 here) shares one key head: it must be 0, 0, 1, 1, 2, 2."
    if not close(answer, expected):
        return "query head h should get key/value head h // group, unchanged."
    if not close(student(k.clone(), 1), k):
        return "with group = 1 every query head has its own key head: k should come out as it is."
    single = _normal(1, 1, 2, 6, seed=4)
    if not close(student(single.clone(), 4), single.expand(1, 4, 2, 6)):
        return "it fails for one key head shared by four query heads."
    return None


def repeat_kv(k, group):
    return k.repeat_interleave(group, dim=1)  # 0, 0, 0, 1, 1, 1, ...


def _by_expand(k, group):
    rows, kv_heads, time, d = k.shape
    return k[:, :, None].expand(rows, kv_heads, group, time, d).reshape(rows, kv_heads * group, time, d)


def _folded_wrongly(k, group):
    rows, kv_heads, time, d = k.shape
    return k[:, None].expand(rows, group, kv_heads, time, d).reshape(rows, kv_heads * group, time, d)


repeat_kv = Exercise(
    name="real_llm.repeat_kv",
    check=_check_repeat_kv,
    hint_text="Query head h uses key head h // group. So with 3 key heads and group = 3 the order along axis 1 is "
    "0, 0, 0, 1, 1, 1, 2, 2, 2. torch has repeat and repeat_interleave: try both on torch.arange(3).",
    right=(repeat_kv, _by_expand),
    wrong=(
        Wrong(lambda k, group: k.repeat(1, group, 1, 1), says="your order is 0, 1, 2"),
        Wrong(_folded_wrongly, says="your order is 0, 1, 2"),
        Wrong(lambda k, group: k.repeat_interleave(group, dim=0), says="repeated the rows"),
        Wrong(lambda k, group: k.repeat_interleave(group, dim=2), says="along time"),
        Wrong(lambda k, group: k[:, :, None].expand(-1, -1, group, -1, -1), says="axis of its own"),
        Wrong(lambda k, group: k[:, torch.arange(k.size(1) * group) // k.size(1)], says="h // group"),
        Wrong(lambda k, group: k.roll(1, dims=1).repeat_interleave(group, dim=1), says="h // group"),
    ),
)
