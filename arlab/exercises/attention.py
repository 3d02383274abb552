"""Exercises of notebook 03: the weights, one head, and several heads put back together."""

from __future__ import annotations

import math

import torch

from arlab.exercises.exercise import Exercise, NotAttempted, Wrong, close, shape_problem

# Each exercise takes the name of its first right answer, so that the solution reads as the student's own cell would.

# --------------------------------------------------------------------------------------------- attention_weights


def attention_weights(q, k):
    scores = q @ k.transpose(-2, -1)  # (..., queries, keys)
    return torch.softmax(scores / math.sqrt(q.shape[-1]), dim=-1)


def _weights_by_hand(q, k):
    scores = torch.einsum("...td,...sd->...ts", q, k) * q.size(-1) ** -0.5
    e = (scores - scores.amax(-1, keepdim=True)).exp()
    return e / e.sum(-1, keepdim=True)


def _check_attention_weights(student):
    generator = torch.Generator().manual_seed(3)
    for lead, queries, keys, d_k in (((), 3, 5, 4), ((), 4, 4, 16), ((), 1, 1, 2), ((2,), 4, 3, 8), ((2, 3), 5, 5, 4)):
        q = torch.randn(*lead, queries, d_k, generator=generator)
        k = torch.randn(*lead, keys, d_k, generator=generator)
        expected = attention_weights_of(q, k)
        try:
            answer = student(q.clone(), k.clone())
        except Exception as error:
            if not lead or isinstance(error, (NotAttempted, NotImplementedError)):
                raise
            return _fails_on_a_batch(error, f"q {tuple(q.shape)} and k {tuple(k.shape)}", "k")
        problem = shape_problem(answer, expected, "the weights")
        if problem:
            return f"{problem} One row for each query, one column for each key."
        if not close(answer, expected):
            return _name_weights(answer, q, k)
    return None


def _fails_on_a_batch(error, shapes, keys):
    return (
        f"right for one sequence, but with {shapes} it raised {type(error).__name__}. "
        f"Swap only the last two dimensions: {keys}.transpose(-2, -1)."
    )


def _name_weights(answer, q, k):
    raw = q @ k.transpose(-2, -1)
    d_k, keys = q.size(-1), k.size(-2)
    mistakes = [
        ("the softmax came without the scale: divide the scores by sqrt(d_k) first.", raw.softmax(-1)),
        (f"you divided by d_k = {d_k}; the scale is its square root, {math.sqrt(d_k):g}.", (raw / d_k).softmax(-1)),
        ("you multiplied by sqrt(d_k); the scores have to be divided by it.", (raw * math.sqrt(d_k)).softmax(-1)),
        ("the scale came after the softmax, so the rows no longer sum to 1.", raw.softmax(-1) / math.sqrt(d_k)),
        (
            f"you divided by the root of the number of keys, {keys}; d_k is the width of a key.",
            (raw / keys**0.5).softmax(-1),
        ),
        (
            f"you divided by the root of the number of queries, {q.size(-2)}; d_k is the width of a key, k.size(-1).",
            (raw / q.size(-2) ** 0.5).softmax(-1),
        ),
        ("these are scaled scores, not weights yet: the softmax is missing.", raw / math.sqrt(d_k)),
        (
            "you divided each score by the sum of its row: softmax takes e^score first, which is never negative.",
            raw / raw.sum(-1, keepdim=True),
        ),
        (
            "your columns sum to 1 and the rows do not: take the softmax over the keys, dim=-1.",
            (raw / math.sqrt(d_k)).softmax(-2),
        ),
        (
            "k was reshaped, not transposed: reshape keeps the order of the numbers, so a column mixes several keys.",
            (q @ k.reshape(*k.shape[:-2], d_k, keys) / math.sqrt(d_k)).softmax(-1),
        ),
    ]
    for says, wrong in mistakes:
        if close(answer, wrong):
            return says
    if not close(answer.sum(-1), torch.ones(answer.shape[:-1])):
        return f"the rows must sum to 1; your first row sums to {answer.reshape(-1, keys)[0].sum().item():.4f}."
    return (
        f"each row sums to 1, but the numbers are off for q {tuple(q.shape)}, k {tuple(k.shape)}: look at the scores."
    )


attention_weights_of = attention_weights
attention_weights = Exercise(
    name="attention.attention_weights",
    check=_check_attention_weights,
    hint_text=(
        "Three steps: every query times every key is one matrix product, q @ k.transpose(-2, -1). Divide it by the "
        "square root of d_k, which is q.shape[-1]. Then softmax along the last dimension, for each row is one query's "
        "distribution over the keys."
    ),
    right=(attention_weights_of, _weights_by_hand),
    wrong=(
        Wrong(lambda q, k: (q @ k.transpose(-2, -1)).softmax(-1), says="without the scale"),
        Wrong(lambda q, k: (q @ k.transpose(-2, -1) / q.size(-1)).softmax(-1), says="its square root"),
        Wrong(lambda q, k: (q @ k.transpose(-2, -1) * q.size(-1) ** 0.5).softmax(-1), says="you multiplied by"),
        Wrong(lambda q, k: (q @ k.transpose(-2, -1)).softmax(-1) / q.size(-1) ** 0.5, says="after the softmax"),
        Wrong(lambda q, k: (q @ k.transpose(-2, -1) / k.size(-2) ** 0.5).softmax(-1), says="the number of keys"),
        Wrong(lambda q, k: (q @ k.transpose(-2, -1) / q.size(-2) ** 0.5).softmax(-1), says="the number of queries"),
        Wrong(lambda q, k: q @ k.transpose(-2, -1) / q.size(-1) ** 0.5, says="softmax is missing"),
        Wrong(lambda q, k: (q @ k.mT) / (q @ k.mT).sum(-1, keepdim=True), says="takes e^score first"),
        Wrong(lambda q, k: (q @ k.transpose(-2, -1) / q.size(-1) ** 0.5).softmax(-2), says="over the keys, dim=-1"),
        Wrong(
            lambda q, k: (q @ k.reshape(*k.shape[:-2], k.size(-1), k.size(-2)) / q.size(-1) ** 0.5).softmax(-1),
            says="reshaped, not transposed",
        ),
        Wrong(lambda q, k: (q @ k.transpose(0, 1) / q.size(-1) ** 0.5).softmax(-1), says="right for one sequence"),
        Wrong(lambda q, k: (k @ q.transpose(-2, -1) / q.size(-1) ** 0.5).softmax(-1), says="should have shape (3, 5)"),
    ),
)

# --------------------------------------------------------------------------------------------- one_head


def one_head(x, W_Q, W_K, W_V):
    Q, K, V = x @ W_Q, x @ W_K, x @ W_V
    A = torch.softmax(Q @ K.transpose(-2, -1) / math.sqrt(K.shape[-1]), dim=-1)
    return A @ V


def _head_by_loops(x, W_Q, W_K, W_V):
    if x.dim() > 2:
        return torch.stack([_head_by_loops(row, W_Q, W_K, W_V) for row in x])
    z = []
    for x_t in x:
        scores = torch.stack([(x_t @ W_Q) @ (x_s @ W_K) for x_s in x]) / W_K.size(1) ** 0.5
        z.append(sum(a * (x_s @ W_V) for a, x_s in zip(scores.softmax(0), x, strict=True)))
    return torch.stack(z)


def _check_one_head(student):
    generator = torch.Generator().manual_seed(4)
    for lead, time, d_m, d_k, d_v in (((), 5, 6, 4, 3), ((), 1, 3, 2, 5), ((2,), 4, 5, 9, 2), ((), 4, 4, 4, 4)):
        x = torch.randn(*lead, time, d_m, generator=generator)
        W_Q, W_K, W_V = (torch.randn(d_m, width, generator=generator) for width in (d_k, d_k, d_v))
        expected = one_head_of(x, W_Q, W_K, W_V)
        try:
            answer = student(x.clone(), W_Q.clone(), W_K.clone(), W_V.clone())
        except Exception as error:
            if not lead or isinstance(error, (NotAttempted, NotImplementedError)):
                raise
            return _fails_on_a_batch(error, f"x {tuple(x.shape)}", "K")
        if close(answer, expected):
            continue
        return _name_head(answer, expected, x, W_Q, W_K, W_V)
    return None


def _name_head(answer, expected, x, W_Q, W_K, W_V):
    Q, K, V = x @ W_Q, x @ W_K, x @ W_V
    raw, d_k = Q @ K.transpose(-2, -1), W_K.size(1)
    A = (raw / math.sqrt(d_k)).softmax(-1)
    mistakes = [
        ("these are the weights A; the output is A V, the values averaged with them.", A),
        ("A averages the values V = x W_V; you averaged the inputs x themselves.", A @ x),
        ("the softmax came without the scale: divide the scores by sqrt(d_k).", raw.softmax(-1) @ V),
        ("you divided by d_k; the scale is its square root.", (raw / d_k).softmax(-1) @ V),
        ("the softmax is missing: you averaged the values with scaled scores, not with weights.", raw / d_k**0.5 @ V),
        (
            "you divided by the root of d_m, the width of x; the dot product runs over d_k numbers.",
            (raw / math.sqrt(x.size(-1))).softmax(-1) @ V,
        ),
        (
            "you divided by the root of d_v, the width of a value; the dot product runs over d_k numbers.",
            (raw / math.sqrt(W_V.size(1))).softmax(-1) @ V,
        ),
        (
            "queries and keys changed places: row t must hold query t against every key, Q K^T.",
            (raw.transpose(-2, -1) / math.sqrt(d_k)).softmax(-1) @ V,
        ),
        (
            "you used A transposed: z_t needs row t of A, the weights of query t.",
            A.transpose(-2, -1) @ V,
        ),
        (
            "the softmax ran down the columns: each query's weights, a row, must sum to 1.",
            (raw / math.sqrt(d_k)).softmax(-2) @ V,
        ),
        (
            "the scores compare x with itself: project first, Q = x W_Q and K = x W_K.",
            (x @ x.transpose(-2, -1) / math.sqrt(d_k)).softmax(-1) @ V,
        ),
    ]
    for says, wrong in mistakes:
        if close(answer, wrong):
            return says
    return (
        shape_problem(answer, expected, "Z")
        or "the shape is right, the numbers are not: check Q K^T, scale, softmax, V."
    )


one_head_of = one_head
one_head = Exercise(
    name="attention.one_head",
    check=_check_one_head,
    hint_text=(
        "Project three times: Q = x @ W_Q, K = x @ W_K, V = x @ W_V. Take the weights A as in the last exercise, with "
        "d_k the number of columns of W_K. Then one more matrix product gives every weighted mean at once: A @ V."
    ),
    right=(one_head_of, _head_by_loops),
    wrong=(
        Wrong(lambda x, q, k, v: ((x @ q) @ (x @ k).mT / k.size(1) ** 0.5).softmax(-1), says="these are the weights A"),
        Wrong(lambda x, q, k, v: ((x @ q) @ (x @ k).mT / k.size(1) ** 0.5).softmax(-1) @ x, says="the inputs x"),
        Wrong(lambda x, q, k, v: ((x @ q) @ (x @ k).mT).softmax(-1) @ (x @ v), says="without the scale"),
        Wrong(lambda x, q, k, v: ((x @ q) @ (x @ k).mT / k.size(1)).softmax(-1) @ (x @ v), says="its square root"),
        Wrong(lambda x, q, k, v: ((x @ q) @ (x @ k).mT / k.size(1) ** 0.5) @ (x @ v), says="softmax is missing"),
        Wrong(lambda x, q, k, v: ((x @ q) @ (x @ k).mT / x.size(-1) ** 0.5).softmax(-1) @ (x @ v), says="root of d_m"),
        Wrong(lambda x, q, k, v: ((x @ q) @ (x @ k).mT / v.size(1) ** 0.5).softmax(-1) @ (x @ v), says="root of d_v"),
        Wrong(
            lambda x, q, k, v: ((x @ k) @ (x @ q).mT / k.size(1) ** 0.5).softmax(-1) @ (x @ v), says="changed places"
        ),
        Wrong(
            lambda x, q, k, v: ((x @ q) @ (x @ k).mT / k.size(1) ** 0.5).softmax(-1).mT @ (x @ v),
            says="A transposed",
        ),
        Wrong(
            lambda x, q, k, v: ((x @ q) @ (x @ k).mT / k.size(1) ** 0.5).softmax(-2) @ (x @ v),
            says="down the columns",
        ),
        Wrong(lambda x, q, k, v: (x @ x.mT / k.size(1) ** 0.5).softmax(-1) @ (x @ v), says="project first"),
        Wrong(lambda x, q, k, v: (x @ v).sum(-2), says="should have shape"),
        Wrong(
            lambda x, q, k, v: ((x @ q) @ (x @ k).transpose(0, 1) / k.size(1) ** 0.5).softmax(-1) @ (x @ v),
            says="right for one sequence",
        ),
    ),
)

# --------------------------------------------------------------------------------------------- merge_heads


def merge_heads(z):
    rows, heads, time, d_head = z.shape
    return z.transpose(1, 2).reshape(rows, time, heads * d_head)


def _merge_by_cat(z):
    return torch.cat([z[:, head] for head in range(z.shape[1])], dim=-1)


def _check_merge_heads(student):
    for rows, heads, time, d_head in ((1, 2, 3, 4), (2, 3, 3, 3), (2, 1, 5, 4), (3, 4, 1, 2)):
        z = torch.arange(rows * heads * time * d_head, dtype=torch.float32).view(rows, heads, time, d_head)
        expected = merge_heads_of(z)
        answer = student(z.clone())
        if close(answer, expected):
            continue
        if isinstance(answer, torch.Tensor) and answer.dim() == 4:
            return (
                f"the heads still have a dimension of their own: {tuple(answer.shape)}. Reshape the last two into one."
            )
        if isinstance(answer, torch.Tensor) and answer.shape == (rows, heads * time, d_head) != expected.shape:
            return "you put the heads one below the other, as more tokens; they belong side by side, as more features."
        problem = shape_problem(answer, expected, "the merged heads")
        if problem:
            return problem
        mistakes = [
            (
                "reshaped without transposing: token 0 now holds numbers of other tokens of head 0, not every head's "
                "numbers for token 0. Move `time` before `heads` first.",
                z.reshape(expected.shape),
            ),
            (
                "the heads are interleaved, feature by feature; token t wants all of head 0, then all of head 1, ...",
                z.permute(0, 2, 3, 1).reshape(expected.shape),
            ),
            ("the heads stand in reversed order: head 0 comes first.", merge_heads_of(z.flip(1))),
        ]
        for says, wrong in mistakes:
            if close(answer, wrong):
                return says
        return f"right shape, wrong order for z {tuple(z.shape)}: token 0 should read {expected[0, 0].tolist()}."
    return None


merge_heads_of = merge_heads
merge_heads = Exercise(
    name="attention.merge_heads",
    check=_check_merge_heads,
    hint_text=(
        "Row t of the result is head 0's z_t, then head 1's z_t, and so on. In memory z runs through all tokens of "
        "head 0 before it comes to head 1, so bring `time` before `heads` with transpose(1, 2), and only then reshape "
        "the last two dimensions into one."
    ),
    right=(merge_heads_of, _merge_by_cat),
    wrong=(
        Wrong(lambda z: z.reshape(z.size(0), z.size(2), -1), says="without transposing"),
        Wrong(lambda z: z.permute(0, 2, 3, 1).flatten(2), says="interleaved"),
        Wrong(lambda z: z.flip(1).transpose(1, 2).flatten(2), says="reversed order"),
        Wrong(lambda z: z.transpose(1, 2), says="a dimension of their own"),
        Wrong(lambda z: z.flatten(1, 2), says="as more tokens"),
        Wrong(lambda z: z.mean(1), says="should have shape (1, 3, 8)"),
    ),
)
