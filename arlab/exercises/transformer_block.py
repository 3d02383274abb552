"""Exercises of notebook 05: moving along the sinusoids, LayerNorm, the post-LN block, counting parameters."""

from __future__ import annotations

import math
from numbers import Real

import torch
import torch.nn.functional as F

from arlab.exercises.exercise import Exercise, Wrong, close, shape_problem
from arlab.nn.positions import sinusoidal

# Each exercise takes the name of its first right answer, so that the solution reads as the student's own cell would.


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------------- move


def move(p, steps):
    d = p.shape[-1]
    angles = steps * 10_000.0 ** (-2 * torch.arange(d // 2) / d)  # how far each hand travels
    sin, cos = p[..., 0::2], p[..., 1::2]  # the two coordinates of each hand
    moved = [sin * angles.cos() + cos * angles.sin(), cos * angles.cos() - sin * angles.sin()]
    return torch.stack(moved, dim=-1).flatten(-2)


def _move_by_complex(p, steps):
    half = p.shape[-1] // 2
    speed = torch.exp(-math.log(10_000) * torch.arange(half) / half)
    hand = torch.complex(p[..., 1::2].contiguous(), p[..., 0::2].contiguous())  # cos + i sin
    hand = hand * torch.polar(torch.ones(half), steps * speed)
    return torch.stack([hand.imag, hand.real], dim=-1).flatten(-2)


def _check_move(student):
    for positions, d, steps in ((torch.arange(6), 8, 3), (torch.tensor([[40], [7]]), 4, -5), (torch.tensor(9), 6, 1)):
        p = sinusoidal(positions, d)
        expected = sinusoidal(positions + steps, d)
        given = p.clone()
        answer = student(given, steps)
        problem = shape_problem(answer, expected, f"the moved vectors, for p of shape {tuple(p.shape)},")
        if problem:
            return problem
        if not torch.equal(given, p):
            return "your function changed its argument p: build a new tensor."
        if not close(answer, expected, 1e-4):
            for says, mistake in _MOVE_MISTAKES:
                if close(answer, mistake(p, steps), 1e-4):
                    return says
            return (
                f"p of position {positions.flatten()[0].item()}, moved by {steps}, is not the vector of position "
                f"{positions.flatten()[0].item() + steps}: use sin(a + b) and cos(a + b) for each hand."
            )
    scaled = 2 * sinusoidal(torch.arange(4), 8)
    if not close(student(scaled, 2), 2 * sinusoidal(torch.arange(4) + 2, 8), 1e-4):
        return "it works for unit hands only: the move is a matrix, so twice the vector must give twice the result."
    return None


def _angles_of(p, steps, exponent=2.0):
    d = p.shape[-1]
    return steps * 10_000.0 ** (-exponent * torch.arange(d // 2) / d)


def _turned(p, angles, reads_halves=False, gives_halves=False):
    half = p.shape[-1] // 2
    s, c = (p[..., :half], p[..., half:]) if reads_halves else (p[..., 0::2], p[..., 1::2])
    pair = [s * angles.cos() + c * angles.sin(), c * angles.cos() - s * angles.sin()]
    return torch.cat(pair, dim=-1) if gives_halves else torch.stack(pair, dim=-1).flatten(-2)


def _move_one_sign(p, steps):
    angles, s, c = _angles_of(p, steps), p[..., 0::2], p[..., 1::2]
    return torch.stack([s * angles.cos() + c * angles.sin(), c * angles.cos() + s * angles.sin()], dim=-1).flatten(-2)


def _add_vector(p, steps):
    return p + sinusoidal(torch.tensor(steps), p.shape[-1])


_MOVE_MISTAKES = (
    (
        "you turned the hands backwards: this is the position `steps` EARLIER. Is the sine the first of each pair?",
        lambda p, s: _turned(p, -_angles_of(p, s)),
    ),
    (
        "you took the first half for sines and the second for cosines; here they alternate: sin, cos, sin, cos, ...",
        lambda p, s: _turned(p, _angles_of(p, s), reads_halves=True, gives_halves=True),
    ),
    (
        "the numbers are right, but all sines come first: they must alternate again, stack(..., dim=-1).flatten(-2).",
        lambda p, s: _turned(p, _angles_of(p, s), gives_halves=True),
    ),
    (
        "every hand travels at the same speed; hand i moves 10000^(-2i/d) radians a step.",
        lambda p, s: _turned(p, torch.full((p.shape[-1] // 2,), float(s))),
    ),
    (
        "the exponent is -2i/d with i counting the hands; yours is -i/d, so the slow hands move too fast.",
        lambda p, s: _turned(p, _angles_of(p, s, exponent=1.0)),
    ),
    (
        "one sign is off: cos(a + b) = cos a cos b MINUS sin a sin b. With a plus the hand changes its length.",
        _move_one_sign,
    ),
    (
        "adding the vector of `steps` does not move a clock: sin a + sin b is not sin(a + b). Turn each hand.",
        _add_vector,
    ),
)

move_of = move
move = Exercise(
    name="transformer_block.move",
    check=_check_move,
    hint_text=(
        "Each hand is a pair (sin a, cos a) at places 2i and 2i + 1: p[..., 0::2] and p[..., 1::2]. After another "
        "b = steps * speed radians it is (sin(a + b), cos(a + b)); the addition theorems need only sin a, cos a and b, "
        "not the position. torch.stack([...], dim=-1).flatten(-2) makes the two alternate again."
    ),
    right=(move_of, _move_by_complex),
    wrong=(
        Wrong(lambda p, s: _turned(p, -_angles_of(p, s)), says="backwards"),
        Wrong(lambda p, s: _turned(p, _angles_of(p, s), reads_halves=True, gives_halves=True), says="they alternate"),
        Wrong(lambda p, s: _turned(p, _angles_of(p, s), gives_halves=True), says="all sines come first"),
        Wrong(lambda p, s: _turned(p, torch.full((p.shape[-1] // 2,), float(s))), says="at the same speed"),
        Wrong(lambda p, s: _turned(p, _angles_of(p, s, exponent=1.0)), says="the exponent is -2i/d"),
        Wrong(_move_one_sign, says="one sign is off"),
        Wrong(_add_vector, says="does not move a clock"),
        Wrong(lambda p, s: torch.cat([p, p], dim=-1), says="should have shape"),
    ),
)

# --------------------------------------------------------------------------------------------------- layer_norm


def layer_norm(x, gain, shift, eps):
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)  # over this token's own features, divided by d
    return centred / torch.sqrt(variance + eps) * gain + shift


def _norm_by_torch(x, gain, shift, eps):
    return F.layer_norm(x, x.shape[-1:], gain, shift, eps)


def _check_layer_norm(student):
    x = 3 * _normal(4, 5, 8) + 2
    gain, shift, eps = 1 + _normal(8, seed=1).abs(), _normal(8, seed=2), 0.5  # an eps that is felt
    expected = layer_norm_of(x, gain, shift, eps)
    given = x.clone()
    answer = student(given, gain.clone(), shift.clone(), eps)
    problem = shape_problem(answer, expected)
    if problem:
        return problem
    if not torch.equal(given, x):
        return "your function changed its argument x: write x = x - mean, not x -= mean."
    if not close(answer, expected):
        for says, mistake in _NORM_MISTAKES:
            if close(answer, mistake(x, gain, shift, eps)):
                return says
        return (
            "the values differ: subtract the mean over the features, divide by sqrt(variance + eps), then gain, shift."
        )
    single = _normal(6, seed=3)
    plain = (torch.ones(6), torch.zeros(6), 1e-5)
    if not close(student(single.clone(), *plain), layer_norm_of(single, *plain)):
        return "it fails for one vector of shape (6,): take the mean over the last axis, dim=-1."
    flat = torch.full((2, 6), 7.0)
    if not close(student(flat.clone(), *plain), torch.zeros(2, 6), 0.01):  # rounding, divided by sqrt(eps), is allowed
        return "a vector of equal numbers has variance 0; eps keeps the division finite, and the result is 0."
    return None


def _standardised(x, dim, eps, *, correction=0, centre=True, eps_outside=False, root=True):
    mean = x.mean(dim=dim, keepdim=True)
    variance = x.var(dim=dim, keepdim=True, correction=correction)
    if not root:
        return (x - mean) / (variance + eps)
    if not centre:
        return x / torch.sqrt(x.square().mean(dim=dim, keepdim=True) + eps)
    scale = variance.sqrt() + eps if eps_outside else torch.sqrt(variance + eps)
    return (x - mean) / scale


def _norm(dim=-1, **options):
    return lambda x, gain, shift, eps: _standardised(x, dim, eps, **options) * gain + shift


def _over_batch(x, gain, shift, eps):
    return _standardised(x, tuple(range(x.dim() - 1)), eps) * gain + shift


def _without_eps(x, gain, shift, eps):
    return _standardised(x, -1, 0.0) * gain + shift


_NORM_MISTAKES = (
    (
        "that is BatchNorm: mean and variance over rows and time. LayerNorm takes them over each token's features.",
        _over_batch,
    ),
    (
        "you took mean and variance over time (dim=-2): a token would see its own future. The features are dim=-1.",
        _norm(-2),
    ),
    ("you took mean and variance over rows: a row would depend on its neighbours. The features are dim=-1.", _norm(0)),
    (
        "one mean for everything: each token has its own, over its own features (dim=-1, keepdim=True).",
        lambda x, g, s, eps: (x - x.mean()) / torch.sqrt(x.var(correction=0) + eps) * g + s,
    ),
    ("the variance is divided by d - 1; LayerNorm divides by d (correction=0).", _norm(correction=1)),
    ("the mean is not subtracted: that is RMSNorm.", _norm(centre=False)),
    ("eps belongs under the root, added to the variance.", _norm(eps_outside=True)),
    ("you divided by the variance; divide by its square root, the deviation.", _norm(root=False)),
    ("your eps is not the one that was given: add the argument eps to the variance.", _without_eps),
    ("gain and shift are missing.", lambda x, g, s, eps: _standardised(x, -1, eps)),
    ("the shift is missing.", lambda x, g, s, eps: _standardised(x, -1, eps) * g),
    ("the gain is missing.", lambda x, g, s, eps: _standardised(x, -1, eps) + s),
    (
        "the shift is added before the gain multiplies; it comes last.",
        lambda x, g, s, eps: (_standardised(x, -1, eps) + s) * g,
    ),
)

layer_norm_of = layer_norm
layer_norm = Exercise(
    name="transformer_block.layer_norm",
    check=_check_layer_norm,
    hint_text=(
        "Mean and variance of each token's own features: dim=-1, with keepdim=True so that they can be subtracted and "
        "divided by. x.var divides by d - 1 unless you say correction=0. eps is added to the variance, under the root."
    ),
    right=(layer_norm_of, _norm_by_torch),
    wrong=(
        Wrong(_over_batch, says="that is BatchNorm"),
        Wrong(_norm(-2), says="over time"),
        Wrong(_norm(0), says="over rows"),
        Wrong(
            lambda x, g, s, eps: (x - x.mean()) / torch.sqrt(x.var(correction=0) + eps) * g + s,
            says="one mean for everything",
        ),
        Wrong(_norm(correction=1), says="divided by d - 1"),
        Wrong(_norm(centre=False), says="RMSNorm"),
        Wrong(_norm(eps_outside=True), says="under the root"),
        Wrong(_norm(root=False), says="divided by the variance"),
        Wrong(_without_eps, says="not the one that was given"),
        Wrong(lambda x, g, s, eps: F.layer_norm(x, x.shape[-1:], g, s), says="not the one that was given"),
        Wrong(lambda x, g, s, eps: _standardised(x, -1, eps), says="are missing"),
        Wrong(lambda x, g, s, eps: _standardised(x, -1, eps) * g, says="the shift is missing"),
        Wrong(lambda x, g, s, eps: _standardised(x, -1, eps) + s, says="the gain is missing"),
        Wrong(lambda x, g, s, eps: (_standardised(x, -1, eps) + s) * g, says="before the gain"),
    ),
)

# ------------------------------------------------------------------------------------------------ post_ln_block


def post_ln_block(x, attention, ffn, norm1, norm2):
    x = norm1(x + attention(x))
    return norm2(x + ffn(x))


def _post_in_steps(x, attention, ffn, norm1, norm2):
    for branch, norm in ((attention, norm1), (ffn, norm2)):
        x = norm(branch(x) + x)
    return x


def _parts(seed, d=6):
    """Four different functions of x (rows, time, d): attention mixes over time, ffn does not, the norms differ."""
    generator = torch.Generator().manual_seed(seed)
    mix, up, down = (torch.randn(d, d, generator=generator) / 2 for _ in range(3))
    gain1, gain2 = 1 + torch.rand(2, d, generator=generator)

    def attention(x):
        return x.mean(dim=-2, keepdim=True) @ mix + 0.3 * x @ down

    def ffn(x):
        return F.relu(x @ up) @ down

    return (
        attention,
        ffn,
        lambda x: F.layer_norm(x, (d,), gain1),
        lambda x: F.layer_norm(x, (d,), gain2, 0.1 * gain1),
    )


def _check_post_ln(student):
    for seed, shape in ((0, (2, 5, 6)), (1, (4, 6)), (2, (1, 1, 6))):
        x, parts = 2 * _normal(*shape, seed=seed) + 0.5, _parts(seed)
        expected = post_ln_block_of(x, *parts)
        given = x.clone()
        answer = student(given, *parts)
        problem = shape_problem(answer, expected)
        if problem:
            return problem
        if not torch.equal(given, x):
            return "your function changed its argument: write x = x + ..., not x += ..., which writes into the tensor."
        if not close(answer, expected):
            for says, mistake in _BLOCK_MISTAKES:
                if close(answer, mistake(x, *parts)):
                    return says
            return "the values differ: twice over, run the branch on x, add x, and normalise the sum."
    return None


def _pre_ln(x, attention, ffn, norm1, norm2):
    x = x + attention(norm1(x))
    return x + ffn(norm2(x))


def _no_residual(x, attention, ffn, norm1, norm2):
    return norm2(ffn(norm1(attention(x))))


def _first_sum_missing(x, attention, ffn, norm1, norm2):
    x = norm1(attention(x))
    return norm2(x + ffn(x))


def _second_sum_missing(x, attention, ffn, norm1, norm2):
    return norm2(ffn(norm1(x + attention(x))))


def _norm_the_branch(x, attention, ffn, norm1, norm2):
    x = x + norm1(attention(x))
    return x + norm2(ffn(x))


def _side_by_side(x, attention, ffn, norm1, norm2):
    return norm2(norm1(x + attention(x)) + ffn(x))


def _old_stream(x, attention, ffn, norm1, norm2):
    return norm2(x + ffn(norm1(x + attention(x))))


def _same_norm_twice(x, attention, ffn, norm1, norm2):
    x = norm1(x + attention(x))
    return norm1(x + ffn(x))


def _norms_swapped(x, attention, ffn, norm1, norm2):
    x = norm2(x + attention(x))
    return norm1(x + ffn(x))


def _no_last_norm(x, attention, ffn, norm1, norm2):
    x = norm1(x + attention(x))
    return x + ffn(x)


def _ffn_first(x, attention, ffn, norm1, norm2):
    x = norm1(x + ffn(x))
    return norm2(x + attention(x))


_BLOCK_MISTAKES = (
    ("that is pre-LN: the norm stands inside the branch. In post-LN it comes after the sum.", _pre_ln),
    ("the residual connections are missing: add x to what each branch gives, then normalise.", _no_residual),
    ("the first residual connection is missing: add x to what attention gives, then normalise.", _first_sum_missing),
    (
        "the second residual connection is missing: add the ffn's input to its output, then normalise.",
        _second_sum_missing,
    ),
    (
        "you normalised the branch alone and then added x; post-LN normalises the sum, the stream itself.",
        _norm_the_branch,
    ),
    ("the ffn has to read what attention and norm1 have made of x, not the block's input.", _side_by_side),
    ("the second sum adds the block's input; it should add the ffn's own input, norm1(x + attention(x)).", _old_stream),
    ("norm1 is used twice: each norm has a gain and a shift of its own.", _same_norm_twice),
    ("the two norms are swapped: norm1 follows attention, norm2 follows the ffn.", _norms_swapped),
    ("the second sum is not normalised: norm2 is missing.", _no_last_norm),
    ("attention comes first, then the ffn.", _ffn_first),
)

post_ln_block_of = post_ln_block
post_ln_block = Exercise(
    name="transformer_block.post_ln_block",
    check=_check_post_ln,
    hint_text=(
        "'Add & norm', twice: the branch reads x, its result is added to x, and the norm takes the sum. Then the same "
        "with the ffn, which reads what came out of the first norm. Two lines are enough."
    ),
    right=(post_ln_block_of, _post_in_steps),
    wrong=(
        Wrong(_pre_ln, says="that is pre-LN"),
        Wrong(_no_residual, says="residual connections are missing"),
        Wrong(_first_sum_missing, says="first residual connection"),
        Wrong(_second_sum_missing, says="second residual connection"),
        Wrong(_norm_the_branch, says="normalised the branch alone"),
        Wrong(_side_by_side, says="not the block's input"),
        Wrong(_old_stream, says="second sum adds the block's input"),
        Wrong(_same_norm_twice, says="norm1 is used twice"),
        Wrong(_norms_swapped, says="swapped"),
        Wrong(_no_last_norm, says="norm2 is missing"),
        Wrong(_ffn_first, says="attention comes first"),
    ),
)

# --------------------------------------------------------------------------------------------- count_parameters


def count_parameters(vocab_size, context_length, d, layers):
    attention = 4 * (d * d + d)  # W_Q, W_K, W_V, W_O, each with a bias
    ffn = (d * 4 * d + 4 * d) + (4 * d * d + d)
    norm = 2 * d  # gain and shift
    block = attention + ffn + 2 * norm
    return vocab_size * d + context_length * d + layers * block + norm  # and one norm after the last block


def _count_by_formula(vocab_size, context_length, d, layers):
    return layers * (12 * d * d + 13 * d) + (vocab_size + context_length + 2) * d


def _check_count(student):
    for sizes in ((65, 32, 8, 3), (50_257, 1024, 768, 12), (10, 4, 2, 1)):
        expected = count_parameters_of(*sizes)
        answer = student(*sizes)
        if isinstance(answer, torch.Tensor) and answer.numel() == 1:
            answer = answer.item()
        if isinstance(answer, bool) or not isinstance(answer, Real):
            return f"return a number; yours is a {type(answer).__name__}."
        if answer != expected:
            return _name_count(answer, expected, *sizes)
    return None


def _name_count(answer, expected, vocab, context, d, layers):
    mistakes = (
        ("a head of its own was counted: it is tied, the embedding matrix used once more.", vocab * d),
        ("the norm after the last block is missing: a gain and a shift.", -2 * d),
        (
            "4 d numbers a block are missing: the two norms (a gain and a shift each), or the biases of attention.",
            -4 * d * layers,
        ),
        ("each norm has a gain and a shift; only one of the two was counted.", -2 * d * layers - d),
        ("the biases of the ffn are missing: 4 d for up, d for down.", -5 * d * layers),
        (
            "all norms are missing: two a block and one at the end, each with a gain and a shift.",
            -4 * d * layers - 2 * d,
        ),
        ("the biases are missing: each of the six matrices of a block has one, 9 d numbers in all.", -9 * d * layers),
        ("biases and norms are missing: only the matrices were counted.", -13 * d * layers - 2 * d),
        ("the table of positions is missing: a vector for each of context_length places.", -context * d),
        ("W_O is missing: attention has four d x d matrices.", -(d * d + d) * layers),
        ("W_O is missing (with its bias there, or not counted): attention has four d x d matrices.", -d * d * layers),
        ("the ffn is d -> 4d -> d; you counted d -> d -> d.", -(6 * d * d + 3 * d) * layers),
        ("the ffn has two matrices, up and down; only one was counted.", -(4 * d * d + d) * layers),
        ("the embedding of the tokens is missing.", -vocab * d),
    )
    for says, difference in mistakes:
        if answer == expected + difference:
            return says
    if layers > 1 and answer == expected - (layers - 1) * (12 * d * d + 13 * d):
        return "one block was counted; each of the layers has weights of its own."
    much = "too many" if answer > expected else "too few"
    return (
        f"for vocab_size {vocab}, context_length {context}, d {d} and {layers} layers it gives {answer:,}, "
        f"which is {abs(answer - expected):,} {much}."
    )


def _off(difference):
    return lambda v, c, d, n: count_parameters_of(v, c, d, n) + difference(v, c, d, n)


count_parameters_of = count_parameters
count_parameters = Exercise(
    name="transformer_block.count_parameters",
    check=_check_count,
    hint_text=(
        "Go through the block in order: W_Q, W_K, W_V and W_O are d x d, up is d x 4d, down is 4d x d; each has a bias "
        "as long as its output; each norm has a gain and a shift of d numbers. Times the layers. Then what a model has "
        "only once: two tables, and one last norm."
    ),
    right=(count_parameters_of, _count_by_formula),
    wrong=(
        Wrong(_off(lambda v, c, d, n: v * d), says="it is tied"),
        Wrong(_off(lambda v, c, d, n: -2 * d), says="after the last block is missing"),
        Wrong(_off(lambda v, c, d, n: -4 * d * n), says="the two norms"),
        Wrong(_off(lambda v, c, d, n: -(2 * n + 1) * d), says="only one of the two"),
        Wrong(_off(lambda v, c, d, n: -5 * d * n), says="biases of the ffn"),
        Wrong(_off(lambda v, c, d, n: -9 * d * n), says="the biases are missing"),
        Wrong(_off(lambda v, c, d, n: -13 * d * n - 2 * d), says="only the matrices"),
        Wrong(_off(lambda v, c, d, n: -c * d), says="table of positions"),
        Wrong(_off(lambda v, c, d, n: -(6 * d * d + 3 * d) * n), says="d -> 4d -> d"),
        Wrong(_off(lambda v, c, d, n: -(n - 1) * (12 * d * d + 13 * d)), says="one block was counted"),
        Wrong(lambda v, c, d, n: 12 * d * d * n + 1, says="too few"),
    ),
)
