"""Exercises of notebook 18: shuffled labels, how many examples fit, and the exact answer to regression in context."""

from __future__ import annotations

import numbers
import random
from collections import Counter

import torch

from arlab.exercises.exercise import Exercise, Wrong

# ---------------------------------------------------------------------------------------------- shuffle_labels


def shuffled_along_a_ring(examples, rng):
    order = list(range(len(examples)))
    rng.shuffle(order)  # a ring in random order; each hands its answer on to the next one in it
    answers = [None] * len(examples)
    for here, after in zip(order, order[1:] + order[:1], strict=True):
        answers[after] = examples[here][1]
    return [(question, answer) for (question, _), answer in zip(examples, answers, strict=True)]


def _until_nobody_keeps_their_own(examples, rng):
    questions, answers = zip(*examples, strict=True)
    mixed = list(answers)
    while any(mine == other for mine, other in zip(answers, mixed, strict=True)):
        rng.shuffle(mixed)
    return list(zip(questions, mixed, strict=True))


def _numbered(n):
    return [(f"question {i}", f"answer {i}") for i in range(n)]


def _check_shuffle_labels(student):
    for n in (4, 8, 3, 2, 5):
        for seed in range(12):
            examples = _numbered(n)
            answer = student(list(examples), random.Random(seed))
            problem = _label_problem(answer, examples)
            if problem:
                return problem
    if len({tuple(map(tuple, student(_numbered(6), random.Random(seed)))) for seed in range(12)}) == 1:
        return "twelve generators give the same order: draw it with rng, or one unlucky order decides everything."
    own = _numbered(6)
    student(own, random.Random(5))
    if own != _numbered(6):
        return "the caller's list was changed in place; return a new one."
    for seed in range(6):  # of 120 rings of six, chance gives the same one twice: six times in a row once in 10^12
        first, again = (list(map(tuple, student(_numbered(6), random.Random(seed)))) for _ in range(2))
        if first != again:
            return "the same generator state gave two different orders: take the randomness from rng alone."
    return None


def _label_problem(answer, examples):
    n = len(examples)
    try:
        assert isinstance(answer, list | tuple)
        pairs = [tuple(pair) for pair in answer]
        assert len(pairs) == n and all(len(pair) == 2 for pair in pairs)
    except (TypeError, AssertionError):
        return f"return a list of {n} pairs (question, answer), as many as were given."
    questions, answers = [q for q, _ in pairs], [a for _, a in pairs]
    if Counter(pairs) == Counter(examples):
        return "the pairs are whole still, in another order at most: the questions stay, their answers change places."
    if questions != [q for q, _ in examples]:
        return "the questions moved; leave them in place, so that nothing but the pairing differs from the real prompt."
    if None in answers:
        return (
            "an answer is None: some example was handed none; close the ring, the last hands its answer to the first."
        )
    if Counter(answers) != Counter(a for _, a in examples):
        return (
            "an answer is there twice and another is missing: hand round the answers that there are, each once, or the "
            "prompt differs in more than the pairing."
        )
    kept = [q for (q, a), pair in zip(pairs, examples, strict=True) if (q, a) == pair]
    if kept:
        return (
            f"of {n} examples {len(kept)} kept the right answer ({', '.join(kept)}): a control with right examples in "
            "it measures less than it says. A random order leaves one in its place on average."
        )
    return None


def _plain_shuffle(examples, rng):
    answers = [answer for _, answer in examples]
    rng.shuffle(answers)
    return [(question, answer) for (question, _), answer in zip(examples, answers, strict=True)]


def _whole_pairs(examples, rng):
    return rng.sample(examples, len(examples))


def _any_other(examples, rng):
    return [(q, rng.choice([b for _, b in examples if b != a])) for q, a in examples]


def _swapped_sides(examples, rng):
    return [(answer, question) for question, answer in shuffled_along_a_ring(examples, rng)]


def _moves_questions(examples, rng):
    mixed = shuffled_along_a_ring(examples, rng)
    return mixed[1:] + mixed[:1]


def _one_place_on(examples, rng):
    answers = [answer for _, answer in examples]
    return [(q, a) for (q, _), a in zip(examples, answers[1:] + answers[:1], strict=True)]


def _open_ring(examples, rng):
    order, answers = rng.sample(range(len(examples)), len(examples)), [None] * len(examples)
    for here, after in zip(order, order[1:], strict=False):
        answers[after] = examples[here][1]
    return [(question, answer) for (question, _), answer in zip(examples, answers, strict=True)]


def _in_place(examples, rng):
    examples[:] = shuffled_along_a_ring(examples, rng)
    return examples


def _own_randomness(examples, rng):
    return shuffled_along_a_ring(examples, random.Random())


shuffle_labels = Exercise(
    name="in_context_learning.shuffle_labels",
    check=_check_shuffle_labels,
    hint_text=(
        "A plain rng.shuffle of the answers leaves some in their places. Either shuffle again until none is, or put "
        "the examples into a ring in random order and let each hand its answer to the next one."
    ),
    right=(shuffled_along_a_ring, _until_nobody_keeps_their_own),
    wrong=(
        Wrong(_plain_shuffle, says="kept the right answer"),
        Wrong(_whole_pairs, says="the pairs are whole still"),
        Wrong(_any_other, says="an answer is there twice"),
        Wrong(_swapped_sides, says="the questions moved"),
        Wrong(_moves_questions, says="the questions moved"),
        Wrong(_open_ring, says="an answer is None"),
        Wrong(_one_place_on, says="twelve generators give the same order"),
        Wrong(_in_place, says="changed in place"),
        Wrong(_own_randomness, says="take the randomness from rng alone"),
        Wrong(lambda examples, rng: [a for _, a in shuffled_along_a_ring(examples, rng)], says="return a list of"),
    ),
)

# ---------------------------------------------------------------------------------------------- examples_that_fit


def fit_by_counting(lengths, description, query, answer, window):
    room = window - description - query - answer  # the answer is written into the same window
    fitting = 0
    for length in lengths:
        if length > room:
            break
        room -= length
        fitting += 1
    return fitting


def _fit_by_trying(lengths, description, query, answer, window):
    fixed = description + query + answer
    return max((k for k in range(len(lengths) + 1) if fixed + sum(lengths[:k]) <= window), default=0)


FIT_CASES = [  # lengths, description, query, answer, window
    ([5, 5, 5, 5], 6, 4, 2, 27),
    ([5, 5, 5, 5], 6, 4, 2, 26),
    ([5, 5, 5, 5], 6, 4, 2, 22),
    ([5, 5, 5, 5], 6, 4, 2, 21),
    ([3, 9, 4, 4, 4], 7, 3, 3, 24),
    ([4, 4, 4, 9], 6, 3, 2, 24),
    ([5, 5, 5, 5], 6, 4, 2, 100),
    ([], 6, 4, 2, 20),
    ([5, 5], 6, 4, 2, 12),
    ([5, 5], 6, 4, 2, 16),
    ([8, 1, 1], 6, 4, 2, 15),
    ([2, 2, 2, 2, 2], 6, 5, 1, 16),
    ([5, 5], 6, 4, 2, 9),
    ([3, 3, 3, 3], 9, 2, 1, 17),
    ([1] * 8, 2, 6, 3, 22),
]


def _check_examples_that_fit(student):
    for lengths, description, query, answer, window in FIT_CASES:
        try:
            found = student(list(lengths), description, query, answer, window)
            if isinstance(found, bool) or not isinstance(found, numbers.Integral):
                return f"return how many examples fit, an int; you returned a {type(found).__name__}."
            expected = fit_by_counting(lengths, description, query, answer, window)
            if found != expected:
                return _name_fit(student, found, expected, lengths, description, query, answer, window)
        except IndexError:
            return "it raised IndexError: there may be no examples at all, or all of them may fit."
    return None


def _name_fit(student, found, expected, lengths, description, query, answer, window):
    mistakes = [
        ("the answer is written into the same window: keep `answer` tokens free for it.", _no_answer),
        ("the description takes `description` tokens of the window too.", _no_description),
        ("the question to be answered takes `query` tokens of the window too.", _no_query),
        ("description, question and answer all share the window with the examples; you count none of them.", _alone),
        ("all tokens of the examples together count, not each one by itself.", _each_alone),
        ("a prompt that fills the window to the last token fits: compare with <=.", _strictly),
        ("it stops one too late: the example that goes beyond the window does not fit.", _one_late),
        ("the examples stand in order; leave off the rest, do not pick the short ones.", _shortest_first),
        ("the examples stand in order: count from the first, not from the last.", _from_the_end),
        ("the question stands in the prompt once, not behind every example.", _asked_each_time),
        ("description and question stand in the prompt once, not with every example.", _all_each_time),
        ("one answer is still to be written, the last: the examples' own are in their lengths.", _answered_each_time),
        ("where not even the rest fits, no example does: 0.", _below_zero),
        ("the lengths differ from example to example: add up those that stand first, not their mean.", _by_mean),
        ("the lengths differ: add up those that stand first; not all are as long as the longest.", _by_longest),
    ]
    for says, wrong in mistakes:
        if all(student(list(case[0]), *case[1:]) == wrong(*case) for case in FIT_CASES):
            return says
    if found < 0:
        return "where not even the rest fits, no example does: 0."
    if found > len(lengths):
        return f"there are {len(lengths)} examples; you say that {found} fit."
    return (
        f"examples of {lengths} tokens, description {description}, query {query}, answer {answer}, window {window}: "
        f"{expected} fit; you say {found}."
    )


def _no_answer(lengths, description, query, answer, window):
    return fit_by_counting(lengths, description, query, 0, window)


def _no_description(lengths, description, query, answer, window):
    return fit_by_counting(lengths, 0, query, answer, window)


def _no_query(lengths, description, query, answer, window):
    return fit_by_counting(lengths, description, 0, answer, window)


def _alone(lengths, description, query, answer, window):
    return fit_by_counting(lengths, 0, 0, 0, window)


def _each_alone(lengths, description, query, answer, window):
    return sum(description + length + query + answer <= window for length in lengths)


def _strictly(lengths, description, query, answer, window):
    return fit_by_counting(lengths, description, query, answer, window - 1)


def _one_late(lengths, description, query, answer, window):
    used, fitting = description + query + answer, 0
    while used <= window and fitting < len(lengths):
        used += lengths[fitting]
        fitting += 1
    return fitting


def _shortest_first(lengths, description, query, answer, window):
    return fit_by_counting(sorted(lengths), description, query, answer, window)


def _from_the_end(lengths, description, query, answer, window):
    return fit_by_counting(lengths[::-1], description, query, answer, window)


def _asked_each_time(lengths, description, query, answer, window):
    return fit_by_counting([length + query for length in lengths], description, 0, answer, window)


def _all_each_time(lengths, description, query, answer, window):
    return fit_by_counting([description + length + query for length in lengths], 0, 0, answer, window)


def _answered_each_time(lengths, description, query, answer, window):
    return fit_by_counting([length + answer for length in lengths], description, query, 0, window)


def _below_zero(lengths, description, query, answer, window):
    if description + query + answer > window:
        return -1
    return fit_by_counting(lengths, description, query, answer, window)


def _past_the_last(lengths, description, query, answer, window):
    used, fitting = description + query + answer, 0
    while used + lengths[fitting] <= window:
        used += lengths[fitting]
        fitting += 1
    return fitting


def _by_mean(lengths, description, query, answer, window):
    room = window - description - query - answer
    mean = sum(lengths) / len(lengths) if lengths else 1
    return max(0, min(len(lengths), int(room // mean)))


def _by_longest(lengths, description, query, answer, window):
    return max(0, min(len(lengths), (window - description - query - answer) // max(lengths, default=1)))


def _strictly_past_the_last(lengths, description, query, answer, window):
    used, fitting = description + query + answer, 0
    while used + lengths[fitting] < window:
        used += lengths[fitting]
        fitting += 1
    return fitting


examples_that_fit = Exercise(
    name="in_context_learning.examples_that_fit",
    check=_check_examples_that_fit,
    hint_text=(
        "Four things share the window: the description, the examples, the question, and the answer that is still to "
        "be written. Take away the three that cannot be left out; then add examples in order while they fit."
    ),
    right=(fit_by_counting, _fit_by_trying),
    wrong=(
        Wrong(_no_answer, says="keep `answer` tokens free"),
        Wrong(_no_description, says="the description takes"),
        Wrong(_no_query, says="the question to be answered takes"),
        Wrong(_each_alone, says="not each one by itself"),
        Wrong(_strictly, says="compare with <="),
        Wrong(_one_late, says="one too late"),
        Wrong(_shortest_first, says="do not pick the short ones"),
        Wrong(_by_mean, says="not their mean"),
        Wrong(_by_longest, says="as long as the longest"),
        Wrong(_alone, says="you count none of them"),
        Wrong(_all_each_time, says="not with every example"),
        Wrong(_answered_each_time, says="the examples' own are in their lengths"),
        Wrong(_from_the_end, says="not from the last"),
        Wrong(_asked_each_time, says="not behind every example"),
        Wrong(_below_zero, says="no example does: 0"),
        Wrong(_past_the_last, says="all of them may fit"),
        Wrong(_strictly_past_the_last, says="all of them may fit"),
        Wrong(lambda lengths, d, q, a, w: lengths[: fit_by_counting(lengths, d, q, a, w)], says="an int"),
        Wrong(lambda lengths, d, q, a, w: (w - d - q - a) // (lengths or [1])[0], says="fit"),
    ),
)

# ---------------------------------------------------------------------------------------------- ridge_prediction


def predict_by_normal_equations(X, y, query, penalty):
    A = X.T @ X + penalty * torch.eye(X.shape[1], dtype=X.dtype)
    w = torch.linalg.solve(A, X.T @ y)  # (features,)
    return query @ w


def _predict_by_kernel(X, y, query, penalty):
    K = X @ X.T + penalty * torch.eye(len(X), dtype=X.dtype)
    return (X @ query) @ torch.linalg.solve(K, y)


def _ridge_cases():
    g = torch.Generator().manual_seed(18)
    for n, features, penalty in ((5, 2, 0.5), (1, 2, 0.1), (3, 3, 1.0), (7, 2, 0.01), (2, 4, 0.3), (0, 2, 0.5)):
        X = torch.randn(n, features, generator=g, dtype=torch.float64) + 0.5
        y = torch.randn(n, generator=g, dtype=torch.float64) + 1.0
        yield X, y, torch.randn(features, generator=g, dtype=torch.float64), penalty


def _check_ridge_prediction(student):
    cases = list(_ridge_cases())
    for X, y, query, penalty in cases:
        given = X.clone(), y.clone(), query.clone()
        try:
            answer = student(*given, penalty)
        except NotImplementedError:
            raise
        except (RuntimeError, ZeroDivisionError, IndexError) as error:
            if len(X) == 0:
                return f"without examples it raised {type(error).__name__}; the prediction is then 0, as w is 0."
            if len(X) < X.shape[1]:
                return (
                    "with fewer examples than features it raised: X^T X has no inverse then; the penalty on the "
                    "diagonal gives it one."
                )
            n, k = X.shape
            said = f"{str(error).splitlines()[0]} (X is ({n}, {k}), so X^T X is ({k}, {k}) and X^T y is ({k},))"
            raise type(error)(said).with_traceback(error.__traceback__) from None
        value = torch.as_tensor(answer)
        if value.numel() != 1:
            return f"return one number, query . w; you returned the shape {tuple(value.shape)}."
        expected = float(predict_by_normal_equations(X, y, query, penalty))
        if not abs(float(value) - expected) < 1e-5:  # float32 will do
            return _name_ridge(student, cases) or (
                f"n = {len(X)}, penalty {penalty}: the prediction is {expected:.4f}; yours is {float(value):.4f}."
            )
    return None


def _name_ridge(student, cases):
    mistakes = [
        ("no penalty: that is least squares, which trusts every noisy y fully.", _no_penalty),
        ("penalty squared: the penalty is noise^2 / prior variance already.", _squared),
        ("penalty doubled: it is lambda itself; that the prior variance is 1/2 is in it already.", _doubled),
        ("penalty halved: it is lambda itself; that the prior variance is 1/2 is in it already.", _halved),
        ("A ** -1 turns every entry over; the inverse of a matrix is torch.linalg.inv(A), or use solve.", _entries),
        (
            "you multiply by X^T X + penalty I; its inverse is needed: torch.linalg.solve(A, b) is A^-1 b.",
            _not_inverted,
        ),
        ("the penalty is divided by the number of examples; it is added as it is.", _per_example),
        ("X^T X / n needs X^T y / n beside it, and a penalty divided by n too.", _half_mean),
        ("only the diagonal of X^T X is used: the features are not independent in a few examples.", _diagonal),
        ("the means were subtracted first: these functions pass through 0, and the prior knows that.", _centred),
        ("the inverse is not multiplied: (X^T X + penalty I)^-1 X^T y, not X^T y alone.", _correlation),
        (
            "the penalty went into every entry of X^T X; it belongs on the diagonal alone: penalty * torch.eye.",
            _everywhere,
        ),
        ("the penalty is multiplied by the number of examples; it is added as it is.", _per_sum),
        ("a column of ones was added: these functions pass through 0, and have no intercept.", _intercept),
        ("the sign of the penalty: it is added to the diagonal.", _negative),
    ]
    whole = [case for case in cases if len(case[0]) >= case[0].shape[1]]  # where X^T X has an inverse
    for says, wrong in mistakes:
        pairs = [(float(torch.as_tensor(student(*case))), float(wrong(*case))) for case in whole]
        if all(abs(a - b) < 1e-6 * (1 + abs(b)) for a, b in pairs):
            return says
    return None


def _no_penalty(X, y, query, penalty):
    return query @ (torch.linalg.pinv(X) @ y)


def _squared(X, y, query, penalty):
    return predict_by_normal_equations(X, y, query, penalty**2)


def _doubled(X, y, query, penalty):
    return predict_by_normal_equations(X, y, query, 2 * penalty)


def _halved(X, y, query, penalty):
    return predict_by_normal_equations(X, y, query, penalty / 2)


def _entries(X, y, query, penalty):
    return query @ ((X.T @ X + penalty * torch.eye(X.shape[1], dtype=X.dtype)) ** -1 @ X.T @ y)


def _not_inverted(X, y, query, penalty):
    return query @ ((X.T @ X + penalty * torch.eye(X.shape[1], dtype=X.dtype)) @ X.T @ y)


def _wrong_way_round(X, y, query, penalty):
    return query @ torch.linalg.solve(X @ X.T + penalty * torch.eye(len(X), dtype=X.dtype), y)


def _per_example(X, y, query, penalty):
    return predict_by_normal_equations(X, y, query, penalty / max(1, len(X)))


def _half_mean(X, y, query, penalty):
    n = max(1, len(X))
    A = X.T @ X / n + penalty * torch.eye(X.shape[1], dtype=X.dtype)
    return query @ torch.linalg.solve(A, X.T @ y)


def _diagonal(X, y, query, penalty):
    return query @ ((X.T @ y) / ((X**2).sum(0) + penalty))


def _centred(X, y, query, penalty):
    if len(X) == 0:
        return torch.zeros(())
    mx, my = X.mean(0), y.mean()
    return my + predict_by_normal_equations(X - mx, y - my, query - mx, penalty)


def _correlation(X, y, query, penalty):
    return query @ (X.T @ y)


def _everywhere(X, y, query, penalty):
    return query @ torch.linalg.solve(X.T @ X + penalty, X.T @ y)


def _per_sum(X, y, query, penalty):
    return predict_by_normal_equations(X, y, query, penalty * max(1, len(X)))


def _intercept(X, y, query, penalty):
    ones = torch.ones(len(X), 1, dtype=X.dtype)
    return predict_by_normal_equations(torch.cat([X, ones], 1), y, torch.cat([query, query.new_ones(1)]), penalty)


def _negative(X, y, query, penalty):
    return predict_by_normal_equations(X, y, query, -penalty)


def _inverse_without_penalty(X, y, query, penalty):
    return query @ torch.linalg.inv(X.T @ X) @ X.T @ y


def _singular(X, y, query, penalty):
    if len(X) < X.shape[1]:
        raise torch.linalg.LinAlgError("the matrix is singular")
    return predict_by_normal_equations(X, y, query, penalty)


ridge_prediction = Exercise(
    name="in_context_learning.ridge_prediction",
    check=_check_ridge_prediction,
    hint_text=(
        "w = (X^T X + penalty I)^-1 X^T y. torch.linalg.solve(A, b) gives A^-1 b. The prediction is the dot product of "
        "the query and w. With penalty > 0 the matrix has an inverse for any number of examples, even for none."
    ),
    right=(predict_by_normal_equations, _predict_by_kernel),
    wrong=(
        Wrong(_no_penalty, says="no penalty"),
        Wrong(_squared, says="penalty squared"),
        Wrong(_doubled, says="penalty doubled"),
        Wrong(_halved, says="penalty halved"),
        Wrong(_entries, says="turns every entry over"),
        Wrong(_not_inverted, says="its inverse is needed"),
        Wrong(_wrong_way_round, says="X^T X is (2, 2)"),
        Wrong(_per_example, says="divided by the number of examples"),
        Wrong(_half_mean, says="needs X^T y / n"),
        Wrong(_diagonal, says="only the diagonal"),
        Wrong(_centred, says="the means were subtracted"),
        Wrong(_correlation, says="the inverse is not multiplied"),
        Wrong(_everywhere, says="on the diagonal alone"),
        Wrong(_per_sum, says="multiplied by the number of examples"),
        Wrong(_intercept, says="a column of ones"),
        Wrong(_negative, says="the sign of the penalty"),
        Wrong(
            lambda X, y, query, penalty: torch.linalg.solve(
                X.T @ X + penalty * torch.eye(X.shape[1]).double(), X.T @ y
            ),
            says="return one number",
        ),
        Wrong(_inverse_without_penalty, says="no penalty"),
        Wrong(_singular, says="fewer examples than"),
        Wrong(
            lambda X, y, query, penalty: predict_by_normal_equations(X, y, query, penalty) * (len(X) / len(X)),
            says="without examples it raised",
        ),
    ),
)
