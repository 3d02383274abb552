"""Checks of notebook 00: the last position, a softmax that does not overflow, the log-probability of a sequence."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from arlab.exercises.exercise import Exercise, Wrong, close, shape_problem

# ------------------------------------------------------------------------------------------------- last_position


def _check_last_position(student) -> str | None:
    logits = torch.arange(2 * 3 * 5).float().view(2, 3, 5)  # rows, time, vocab: all different
    answer = student(logits.clone())
    if isinstance(answer, Tensor):
        if answer.shape == logits[-1].shape:
            return "you took the last row; the first axis counts the texts, and each of them has a last position."
        if answer.shape == logits[..., -1].shape:
            return "you took the last token of the vocabulary; time is the middle axis of (rows, time, vocab)."
        if answer.shape == logits[:, -1:].shape:
            return "you kept the time axis, with length 1; index it with -1 (a slice such as -1: keeps an axis)."
        if answer.shape == logits[:, 0].shape and torch.equal(answer, logits[:, 0]):
            return "you took the first position; the next token is predicted at the last one."
    for x in (logits, torch.arange(24).float().view(4, 1, 6), torch.arange(35).float().view(1, 7, 5)):
        answer = student(x.clone())
        expected = x[:, -1]
        if problem := shape_problem(answer, expected, f"the result for logits of shape {tuple(x.shape)}"):
            return problem
        if not close(answer, expected):
            return "the shape fits, the values do not: each row should be that text's logits at its last position."
    return None


def _by_index(logits):
    return logits[:, -1]  # every row, the last position, the whole vocabulary


def _by_select(logits):
    return logits.select(1, logits.shape[1] - 1)


last_position = Exercise(
    name="start_here.last_position",
    check=_check_last_position,
    hint_text="Three axes, three places between the brackets: all rows, one position, the whole vocabulary. "
    "A whole axis is written `:`, and the last entry of an axis has index -1.",
    right=(_by_index, _by_select),
    wrong=(
        Wrong(lambda logits: logits[-1], says="last row"),
        Wrong(lambda logits: logits[..., -1], says="last token of the vocabulary"),
        Wrong(lambda logits: logits[:, -1:], says="kept the time axis"),
        Wrong(lambda logits: logits[:, 0], says="first position"),
        Wrong(lambda logits: logits.mean(dim=1), says="values do not"),
    ),
)

# ------------------------------------------------------------------------------------------------ stable_softmax


def _check_stable_softmax(student) -> str | None:
    z = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.5, 0.5, 3.0, -2.0], [0.0, 4.0, 1.0, 1.0]])
    expected = z.softmax(dim=-1)
    answer = student(z.clone())
    if problem := shape_problem(answer, expected):
        return problem
    for mistake, words in _SOFTMAX_MISTAKES:
        if close(answer, mistake(z)):
            return words
    if not close(answer, expected):
        return f"for z = [2, 1, 0, -1] the result should be {_rounded(expected[0])}; yours is {_rounded(answer[0])}."
    return _check_large(student)


_SOFTMAX_MISTAKES = (
    (lambda z: z.softmax(dim=0), "you normalised over the wrong axis: each row (the last axis) should sum to 1."),
    (lambda z: z.exp() / z.exp().sum(), "you divided by the sum over the whole tensor; each row has a sum of its own."),
    (lambda z: z.log_softmax(dim=-1), "you returned the logarithm of the softmax; the probabilities were asked for."),
    (lambda z: z / z.sum(dim=-1, keepdim=True), "you normalised without exp: logits can be negative, exp(z) cannot."),
    (lambda z: z.exp(), "you exponentiated and did not divide by the sum: the rows do not sum to 1."),
)


def _check_large(student) -> str | None:
    """Logits for which exp(z) leaves the range of float32; each case breaks another kind of shortcut."""
    cases = (
        ([1000.0, 999.0, 998.0], "it overflows for large logits: exp(1000) is infinite. Subtract a number first."),
        ([-1000.0, -1001.0, -1002.0], "it divides 0 by 0 for very negative logits: every exp(z) became 0."),
        (
            [0.0, 0.0, 300.0, -200.0],
            "it overflows when one logit is far above the mean of its row: subtract the row's largest one instead.",
        ),
    )
    for row, words in cases:
        z = torch.tensor(row)
        answer = student(z.clone())
        if problem := shape_problem(answer, z, "the result for a single row of logits"):
            return problem
        if not answer.isfinite().all():
            return words
        if not close(answer, z.softmax(dim=-1), 1e-3):  # at 1000, float32 has steps of 6e-5
            return f"for z = {row} the result should be {_rounded(z.softmax(-1))}; yours is {_rounded(answer)}."
    two = torch.tensor([[0.0, 1.0], [1000.0, 1001.0]])  # the rows differ by a constant: the same answer twice
    answer = student(two.clone())
    if not close(answer, two.softmax(dim=-1), 1e-3):
        return "it fails when the rows lie far apart: subtract from each row its own largest logit, not the tensor's."
    return None


def _rounded(values) -> list[float]:
    return [round(float(v), 3) for v in values]


def _by_max(z):
    e = (z - z.max(dim=-1, keepdim=True).values).exp()  # the largest exponent is now 0, so nothing overflows
    return e / e.sum(dim=-1, keepdim=True)


def _by_logsumexp(z):
    return torch.exp(z - torch.logsumexp(z, dim=-1, keepdim=True))


def _naive(z):
    return z.exp() / z.exp().sum(dim=-1, keepdim=True)


def _minus_mean(z):
    return _naive(z - z.mean(dim=-1, keepdim=True))


def _minus_global_max(z):
    return _naive(z - z.max())


stable_softmax = Exercise(
    name="start_here.stable_softmax",
    check=_check_stable_softmax,
    hint_text="Softmax does not change when you subtract the same number from every logit of a row. Which number makes "
    "the largest exponent 0? Keep the axis (keepdim=True), so that each row loses its own number.",
    right=(_by_max, _by_logsumexp),
    wrong=(
        Wrong(_naive, says="overflows for large logits"),
        Wrong(_minus_mean, says="above the mean"),
        Wrong(_minus_global_max, says="its own largest logit"),
        Wrong(lambda z: _by_max(z.T).T if z.dim() > 1 else _by_max(z), says="wrong axis"),
        Wrong(lambda z: z / z.sum(dim=-1, keepdim=True), says="without exp"),
        Wrong(lambda z: z.log_softmax(dim=-1), says="logarithm"),
        Wrong(lambda z: (z - z.max(dim=-1, keepdim=True).values).exp(), says="yours is"),
    ),
)

# ---------------------------------------------------------------------------------------------- sequence_logprob


def _check_sequence_logprob(student) -> str | None:
    p = torch.tensor([0.5, 0.25, 0.125], dtype=torch.float64)  # their product is 1/64
    answer = _number(student(p.clone()))
    if answer is None:
        return "the result should be one number (a float, or a tensor with a single entry) for the whole sequence."
    natural = -math.log(64)
    for value, words in (
        (1 / 64, "that is the probability itself; its logarithm was asked for."),
        (-natural, "the sign is turned round: a log-probability is at most 0 (with the minus it is the NLL)."),
        (natural / 3, "you took the mean over the steps; the chain rule multiplies them all, so the logs are summed."),
        (-math.log10(64), "you used log10; in this course `log` is the natural logarithm, torch.log."),
        (-6.0, "you used log2 (so your unit is bits); in this course `log` is the natural logarithm, torch.log."),
        (math.log(0.875), "you added the probabilities; the chain rule multiplies them."),
    ):
        if abs(answer - value) < 1e-4:
            return words
    if abs(answer - natural) > 1e-4:
        return f"for [0.5, 0.25, 0.125] the result should be log(1/64) = {natural:.4f}; yours is {answer:.4f}."
    long = _number(student(torch.full((400,), 0.1, dtype=torch.float64)))
    if long is None or not math.isfinite(long):
        return "400 steps of 0.1 gave no finite number: the product underflowed to 0 before its logarithm was taken."
    if abs(long - 400 * math.log(0.1)) > 1e-2:
        return f"for 400 steps of 0.1 the result should be {400 * math.log(0.1):.2f}; yours is {long:.2f}."
    single = _number(student(torch.tensor([0.3], dtype=torch.float64)))
    if single is None or abs(single - math.log(0.3)) > 1e-4:
        return "a sequence of one step with probability 0.3 should give log(0.3) = -1.2040."
    return None


def _number(answer) -> float | None:
    if isinstance(answer, Tensor) and answer.numel() == 1:
        return float(answer)
    return None if isinstance(answer, (Tensor, list, tuple)) else float(answer)


def _sum_of_logs(step_probabilities):
    return step_probabilities.log().sum()  # log of a product = sum of the logs, and a sum does not underflow


def _loop_of_logs(step_probabilities):
    total = 0.0
    for p in step_probabilities.tolist():
        total += math.log(p)
    return total


sequence_logprob = Exercise(
    name="start_here.sequence_logprob",
    check=_check_sequence_logprob,
    hint_text="log(a * b) = log(a) + log(b). Take the logarithm of each step first; only then put the steps together.",
    right=(_sum_of_logs, _loop_of_logs),
    wrong=(
        Wrong(lambda p: p.prod().log(), says="underflowed"),
        Wrong(lambda p: p.log().mean(), says="mean over the steps"),
        Wrong(lambda p: p.log10().sum(), says="log10"),
        Wrong(lambda p: p.log2().sum(), says="log2"),
        Wrong(lambda p: -p.log().sum(), says="sign"),
        Wrong(lambda p: p.prod(), says="the probability itself"),
        Wrong(lambda p: p.log(), says="one number"),
    ),
)
