"""Exercises of notebook 17: the chain rule in any order, one digit of a reversed sum, filling the surest gaps first."""

from __future__ import annotations

import itertools
import math
from numbers import Real

import torch

from arlab.exercises.exercise import Exercise, Wrong

# ------------------------------------------------------------------------------------------------- order_factors


def factors_by_adding(joint, x, order):
    found, before = [], 1.0
    for i in range(len(order)):
        known = order[: i + 1]
        now = sum(p for y, p in joint.items() if all(y[t] == x[t] for t in known))
        found.append(now / before)
        before = now
    return found


def _factors_by_narrowing(joint, x, order):
    rows, found = list(joint.items()), []
    for t in order:
        agree = [(y, p) for y, p in rows if y[t] == x[t]]
        found.append(math.fsum(p for _, p in agree) / math.fsum(p for _, p in rows))
        rows = agree
    return found


def _factor_cases():
    g = torch.Generator().manual_seed(17)
    for length, vocab in ((3, 2), (3, 3), (4, 2), (1, 3)):
        p = torch.rand(vocab**length, generator=g, dtype=torch.float64)
        rows = itertools.product(range(vocab), repeat=length)
        joint = dict(zip(rows, (p / p.sum()).tolist(), strict=True))
        drawn = [int(i) for i in torch.randint(vocab, (length,), generator=g)]
        for order in itertools.permutations(range(length)):
            yield joint, tuple(drawn), order
    yield {(0, 1, 1): 0.25, (1, 1, 0): 0.5, (0, 0, 0): 0.25}, (1, 1, 0), (1, 0, 2)  # many sentences have no row
    yield joint_of_three(), (0, 1, 1), (2, 0)  # two of three positions: the third is summed over
    yield joint_of_three(), (1, 0, 1), (1,)


def joint_of_three():
    p = [0.3, 0.05, 0.1, 0.2, 0.05, 0.15, 0.1, 0.05]
    return dict(zip(itertools.product(range(2), repeat=3), p, strict=True))


def _plain(value):
    """A tensor or an array as a list or a number; anything else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def _numbers(answer, count):
    """The answer as a list of floats, or a sentence on what it is instead."""
    answer = _plain(answer)
    if isinstance(answer, (list, tuple)):
        answer = [_plain(value) for value in answer]
    if not isinstance(answer, list) or not all(isinstance(value, Real) for value in answer):
        return f"return a list of {count} numbers; you returned {type(answer).__name__}."
    if len(answer) != count:
        return f"return one factor for each position of the order, {count}; you returned {len(answer)}."
    return [float(value) for value in answer]


def _near(found, right):
    return len(found) == len(right) and all(
        math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in zip(found, right, strict=True)
    )


def _check_order_factors(student):
    cases, answers = list(_factor_cases()), []
    for joint, x, order in cases:
        given = dict(joint)
        answer = _numbers(student(given, x, order), len(order))
        if isinstance(answer, str):
            return answer
        if given != joint:
            return "the caller's table was changed; leave it as it is."
        answers.append(answer)
    expected = [factors_by_adding(*case) for case in cases]
    if all(map(_near, answers, expected)):
        return None
    for mistake, words in _FACTOR_MISTAKES:
        if all(_near(answer, mistake(*case)) for answer, case in zip(answers, cases, strict=True)):
            return words
    (_, x, order), answer, right = next(
        case for case in zip(cases, answers, expected, strict=True) if not _near(case[1], case[2])
    )
    at = next(i for i in range(len(order)) if not math.isclose(answer[i], right[i], rel_tol=1e-6))
    return f"x = {x}, order = {order}: factor {at} should be {right[at]:.4f}; yours is {answer[at]:.4f}."


def factors_marginal(joint, x, order):
    return [sum(p for y, p in joint.items() if y[t] == x[t]) for t in order]


def factors_left_to_right(joint, x, order):
    return factors_by_adding(joint, x, sorted(order))


def factors_by_position(joint, x, order):
    found = dict(zip(order, factors_by_adding(joint, x, order), strict=True))
    return [found[t] for t in sorted(order)]


def factors_joint(joint, x, order):
    return list(itertools.accumulate(factors_by_adding(joint, x, order), lambda a, b: a * b))


def factors_all_others(joint, x, order):
    def mass(positions):
        return sum(p for y, p in joint.items() if all(y[s] == x[s] for s in positions))

    return [mass(range(len(x))) / mass([s for s in range(len(x)) if s != t]) for t in order]


def factors_logs(joint, x, order):
    return [math.log(p) for p in factors_by_adding(joint, x, order)]


def factors_reversed(joint, x, order):
    return factors_by_adding(joint, x, tuple(order)[::-1])


def factors_one_back(joint, x, order):
    found = []
    for i, t in enumerate(order):
        given = order[max(0, i - 1) : i]
        rows = [(y, p) for y, p in joint.items() if all(y[s] == x[s] for s in given)]
        found.append(sum(p for y, p in rows if y[t] == x[t]) / sum(p for _, p in rows))
    return found


def factors_by_index(joint, x, order):
    return factors_by_adding(joint, x, range(len(order)))


def factors_from_behind(joint, x, order):
    def mass(positions):
        return sum(p for y, p in joint.items() if all(y[s] == x[s] for s in positions))

    return [mass(order[i:]) / mass(order[i + 1 :]) for i in range(len(order))]


def factors_counting_rows(joint, x, order):
    return factors_by_adding(dict.fromkeys(joint, 1 / len(joint)), x, order)


def factors_given_the_first(joint, x, order):
    first = factors_by_adding(joint, x, order[:1])
    return first + [factors_by_adding(joint, x, (order[0], t))[1] for t in order[1:]]


_FACTOR_MISTAKES = (
    (factors_marginal, "these are marginals P(x_t); each factor is given what was written before it."),
    (factors_left_to_right, "these are the factors from left to right, whatever the order: condition on order[:i]."),
    (factors_by_position, "the factors are right but sorted by position; return them in the order of writing."),
    (factors_joint, "these are the joint probabilities so far; divide each by the one before it."),
    (factors_all_others, "you condition on ALL other positions, later ones too: that is the pseudo-likelihood."),
    (factors_logs, "these are logarithms; return the probabilities."),
    (factors_reversed, "these are the factors of the reversed order: order[0] is written first."),
    (
        factors_by_index,
        "order[i] is the position that is written, not i: x[i] is from left to right whatever the order.",
    ),
    (factors_from_behind, "you condition on what is written LATER, order[i + 1:]; given is what was written before."),
    (factors_counting_rows, "you count the rows that agree; add up their probabilities."),
    (factors_given_the_first, "you condition on the position written first alone; all written so far are given."),
    (factors_one_back, "you condition on the position written just before alone; all written so far are given."),
)

order_factors = Exercise(
    name="generation_order.order_factors",
    check=_check_order_factors,
    hint_text=(
        "A conditional probability is a quotient of two sums over the table: the rows that agree with x at "
        "order[:i + 1], over the rows that agree at order[:i]. Before anything is written, all rows agree: their "
        "sum is 1."
    ),
    right=(factors_by_adding, _factors_by_narrowing),
    wrong=(
        Wrong(factors_marginal, says="these are marginals"),
        Wrong(factors_left_to_right, says="from left to right"),
        Wrong(factors_by_position, says="sorted by position"),
        Wrong(factors_joint, says="joint probabilities so far"),
        Wrong(factors_all_others, says="pseudo-likelihood"),
        Wrong(factors_logs, says="logarithms"),
        Wrong(factors_reversed, says="reversed order"),
        Wrong(factors_one_back, says="just before alone"),
        Wrong(factors_by_index, says="order[i] is the position"),
        Wrong(factors_from_behind, says="LATER"),
        Wrong(factors_counting_rows, says="you count the rows"),
        Wrong(factors_given_the_first, says="first alone"),
        Wrong(lambda j, x, o: math.prod(factors_by_adding(j, x, o)), says="return a list"),
        Wrong(lambda j, x, o: factors_by_adding(j, x, o)[:-1] or [0.5, 0.5], says="one factor for each position"),
        Wrong(lambda j, x, o: [p * 0.9 for p in factors_by_adding(j, x, o)], says="factor 0 should be"),
    ),
)

# ----------------------------------------------------------------------------------------------------- next_digit


def digit_by_carry(here, right, last):
    carry = 0
    if right is not None:
        carry_in = (last - sum(right)) % 10  # what must have come into that place to give its digit
        carry = int(sum(right) + carry_in >= 10)
    return (sum(here) + carry) % 10


def _digit_by_cases(here, right, last):
    total = here[0] + here[1]
    if right is not None:
        below = right[0] + right[1]
        if below > 9 or (below == 9 and last == 0):
            total += 1
    return total - 10 if total >= 10 else total


def _digit_cases():
    """Every pair here and right, and each digit that can have been written there; the units without a neighbour."""
    digits = list(itertools.product(range(10), repeat=2))
    for here in digits:
        yield here, None, None
    for here in digits[::7]:
        for right in digits:
            for carry_in in (0, 1):
                yield here, right, (sum(right) + carry_in) % 10


def _check_next_digit(student):
    cases = list(_digit_cases())
    answers = []
    for case in cases:
        try:
            answer = student(*case)
        except TypeError:
            if case[1] is None:
                return "the units have nothing to their right: there right and last are None, and no carry comes in."
            raise
        if isinstance(answer, (str, bool)) or not (hasattr(answer, "__index__") or isinstance(answer, float)):
            return f"return a digit, an int; you returned {type(answer).__name__} for here = {case[0]}."
        answers.append(answer)
    expected = [digit_by_carry(*case) for case in cases]
    if all(a == e for a, e in zip(answers, expected, strict=True)):
        return None
    for mistake, words in _DIGIT_MISTAKES:
        if all(a == mistake(*case) for a, case in zip(answers, cases, strict=True)):
            return words
    (here, right, last), answer, correct = next(
        case for case in zip(cases, answers, expected, strict=True) if case[1] != case[2]
    )
    return f"here = {here}, right = {right}, last = {last}: the digit is {correct}; yours is {answer}."


def digit_without_carry(here, right, last):
    return sum(here) % 10


def digit_nine_never(here, right, last):
    return (sum(here) + (right is not None and sum(right) > 9)) % 10


def digit_nine_always(here, right, last):
    return (sum(here) + (right is not None and sum(right) >= 9)) % 10


def digit_not_cut(here, right, last):
    total = sum(here)
    return total + (digit_by_carry(here, right, last) - total) % 10


def digit_zero_means_carry(here, right, last):
    return (sum(here) + (last == 0)) % 10


def digit_carry_in(here, right, last):
    return (sum(here) + (0 if right is None else (last - sum(right)) % 10)) % 10


def digit_adds_last(here, right, last):
    return (sum(here) + (last or 0)) % 10


def digit_own_carry(here, right, last):
    return (sum(here) + (sum(here) >= 10)) % 10


def digit_beyond_ten(here, right, last):
    carry_in = 0 if right is None else (last - sum(right)) % 10
    return (sum(here) + (right is not None and sum(right) + carry_in > 10)) % 10


_DIGIT_MISTAKES = (
    (digit_without_carry, "you leave the carry out: the place to the right may hand one over."),
    (digit_nine_never, "a sum of 9 to the right carries too when a carry came into it: then the digit written is 0."),
    (digit_nine_always, "a sum of 9 to the right carries only when a carry came into it: look at the digit written."),
    (digit_not_cut, "return one digit: of 13 the 3 stays here, and the 1 is the next place's carry."),
    (digit_zero_means_carry, "a 0 written to the right does not always mean a carry (0 + 0), nor another digit none."),
    (digit_carry_in, "that is the carry that came INTO the place to the right; this digit needs what comes OUT of it."),
    (digit_own_carry, "the carry comes from the place to the right, not from the sum of this one."),
    (digit_beyond_ten, "a sum of exactly 10 to the right carries too: compare with >= 10."),
    (digit_adds_last, "the digit written to the right is not added here; it only tells whether there was a carry."),
)

next_digit = Exercise(
    name="generation_order.next_digit",
    check=_check_next_digit,
    hint_text=(
        "The units have no carry. Elsewhere: the digit written to the right is (a + b + carry in) mod 10, and you know "
        "a, b and the digit, so you know what came in. Then you know whether a + b + carry in reached 10."
    ),
    right=(digit_by_carry, _digit_by_cases),
    wrong=(
        Wrong(digit_without_carry, says="leave the carry out"),
        Wrong(digit_nine_never, says="carries too when"),
        Wrong(digit_nine_always, says="carries only when"),
        Wrong(digit_not_cut, says="return one digit"),
        Wrong(digit_zero_means_carry, says="does not always mean"),
        Wrong(digit_carry_in, says="came INTO"),
        Wrong(digit_adds_last, says="is not added here"),
        Wrong(digit_own_carry, says="not from the sum of this one"),
        Wrong(digit_beyond_ten, says="exactly 10"),
        Wrong(lambda h, r, s: digit_by_carry(h, tuple(r), s), says="nothing to their right"),
        Wrong(lambda h, r, s: str(digit_by_carry(h, r, s)), says="an int"),
        Wrong(lambda h, r, s: (digit_by_carry(h, r, s) + (h == (0, 0))) % 10, says="the digit is"),
    ),
)

# ---------------------------------------------------------------------------------------------------- fill_surest


def fill_by_sorting(model, ids, mask_id, passes):
    ids = list(ids)
    gaps = [t for t, i in enumerate(ids) if i == mask_id]
    for s in range(1, passes + 1):
        p = model(ids)
        still_open = sorted((t for t in gaps if ids[t] == mask_id), key=lambda t: -float(p[t].max()))  # stable
        wanted = -(-len(gaps) * s // passes) - (len(gaps) - len(still_open))
        for t in still_open[:wanted]:
            ids[t] = int(p[t].argmax())
    return ids


def _fill_one_by_one(model, ids, mask_id, passes):
    filled, n = list(ids), ids.count(mask_id)
    for s in range(1, passes + 1):
        sure, said = torch.as_tensor(model(filled)).max(dim=-1)
        while n - filled.count(mask_id) < math.ceil(n * s / passes):
            best = max((t for t in range(len(filled)) if filled[t] == mask_id), key=lambda t: (float(sure[t]), -t))
            filled[best] = int(said[best])
    return filled


class _Watched:
    """A small masked model made of a table of logits: what is visible shifts every position's distribution."""

    def __init__(self, seed: int, length: int, vocab: int):
        g = torch.Generator().manual_seed(seed)
        self.own = torch.randn(length, vocab, generator=g)
        self.pull = torch.randn(length, vocab, length, vocab, generator=g)  # a visible token moves every other position
        self.mask_id, self.calls = vocab, []

    def __call__(self, ids):
        ids = [int(i) for i in ids]
        self.calls.append(list(ids))
        logits = self.own.clone()
        for s, token in enumerate(ids):
            if token != self.mask_id:
                logits += 2 * self.pull[s, token]
        return logits.softmax(dim=-1)


def _ties(ids):
    """Equally sure everywhere: of 0 while the number of gaps is even, else of 1."""
    return torch.tensor([[0.75, 0.25], [0.25, 0.75]])[list(ids).count(9) % 2].repeat(len(ids), 1)


def _fill_cases():
    for seed in range(6):
        model = _Watched(seed, 7, 4)
        m = model.mask_id
        for ids in ([m] * 7, [m, 1, m, m, 0, m, m], [2, m, m, 3, m, 1, 0]):
            gaps = ids.count(m)
            for passes in sorted({1, 2, min(3, gaps), gaps}):
                yield model, ids, m, passes


def _check_fill_surest(student):
    cases, answers = list(_fill_cases()), []
    for model, ids, mask_id, passes in cases:
        given = list(ids)
        model.calls.clear()
        answer = student(model, given, mask_id, passes)
        answer = _plain(answer)
        if not isinstance(answer, (list, tuple)) or len(answer) != len(ids):
            return f"return the filled list of {len(ids)} ids; you returned {answer!r}."
        if not all(hasattr(token, "__index__") for token in answer):
            return f"return ids, integers; among yours is a {type(answer[0]).__name__}: {answer!r}."
        if given != ids:
            return "the caller's list was changed; fill a copy of it."
        answers.append((list(map(int, answer)), len(model.calls)))
    expected = [(fill_by_sorting(*case), case[3]) for case in cases]
    if answers != expected:
        return _name_filling(cases, answers, expected)
    tied = [int(i) for i in student(_ties, [9, 1, 9], 9, 2)]
    if tied != [0, 1, 1]:
        return (
            f"of two gaps of which the model is equally sure the leftmost comes first: [0, 1, 1]; yours gives {tied}."
        )
    return None


def _name_filling(cases, answers, expected):
    for (_, ids, mask_id, _), (answer, _) in zip(cases, answers, strict=True):
        if any(i != mask_id and a != i for i, a in zip(ids, answer, strict=True)):
            return (
                f"a token that was given changed: {ids} became {answer} (the mask is {mask_id}). Fill the gaps alone."
            )
        if mask_id in answer:
            return f"gaps are left: {answer} (the mask is {mask_id}). ceil(N s / S) gaps are filled after pass s of S."
    for mistake, words in _FILL_MISTAKES:
        if all(answer == mistake(*case) for (answer, _), case in zip(answers, cases, strict=True)):
            return words
    for (_, ids, _, passes), (answer, calls), (right, _) in zip(cases, answers, expected, strict=True):
        if answer != right and passes == 1:
            return f"with one pass every gap of {ids} takes its argmax: {right}; yours is {answer}."
        if answer != right:
            return f"ids {ids} in {passes} passes: the filled list is {right}; yours is {answer}."
        if calls != passes:
            return f"the model runs once a pass, {passes} times here; yours ran {calls} times."
    return "not the filling expected."


def fill_all_at_once(model, ids, mask_id, passes):
    return fill_by_sorting(model, ids, mask_id, 1)


def fill_one_a_pass(model, ids, mask_id, passes):
    return fill_by_sorting(model, ids, mask_id, list(ids).count(mask_id))


def _fill(model, ids, mask_id, passes, *, key=lambda p, t: -float(p[t].max()), fresh=True, count=None):
    """The right answer with one thing changed: what the wrong ones are made of."""
    ids = list(ids)
    gaps, n = [t for t, i in enumerate(ids) if i == mask_id], ids.count(mask_id)
    p = None
    for s in range(1, passes + 1):
        p = model(ids) if fresh or p is None else p
        still_open = sorted((t for t in gaps if ids[t] == mask_id), key=lambda t, p=p: key(p, t))
        until = -(-n * s // passes) if count is None else count(n, s, passes)
        for t in still_open[: max(0, until - (n - len(still_open)))]:
            ids[t] = int(p[t].argmax())
    return ids


def fill_left_to_right(model, ids, mask_id, passes):
    return _fill(model, ids, mask_id, passes, key=lambda p, t: t)


def fill_least_sure(model, ids, mask_id, passes):
    return _fill(model, ids, mask_id, passes, key=lambda p, t: float(p[t].max()))


def fill_rounded_down(model, ids, mask_id, passes):
    return _fill(model, ids, mask_id, passes, count=lambda n, s, passes: n * s // passes)


def fill_equally_many(model, ids, mask_id, passes):
    return _fill(model, ids, mask_id, passes, count=lambda n, s, passes: min(n, s * -(-n // passes)))


def fill_from_one_pass(model, ids, mask_id, passes):
    return _fill(model, ids, mask_id, passes, fresh=False)


def fill_everything(model, ids, mask_id, passes):
    return [int(token) for token in model(list(ids)).argmax(-1)]


def fill_ties_to_the_right(model, ids, mask_id, passes):
    return _fill(model, ids, mask_id, passes, key=lambda p, t: (-float(p[t].max()), -t))


def fill_in_place(model, ids, mask_id, passes):
    ids[:] = fill_by_sorting(model, ids, mask_id, passes)
    return ids


def fill_too_often(model, ids, mask_id, passes):
    model(list(ids))
    return fill_by_sorting(model, ids, mask_id, passes)


def fill_a_share_of_what_is_left(model, ids, mask_id, passes):
    ids = list(ids)
    for _ in range(passes):
        p = model(ids)
        still_open = sorted((t for t, i in enumerate(ids) if i == mask_id), key=lambda t, p=p: -float(p[t].max()))
        for t in still_open[: -(-len(still_open) // passes)]:
            ids[t] = int(p[t].argmax())
    return ids


def fill_and_take_back(model, ids, mask_id, passes):
    given, filled, n = list(ids), list(ids), list(ids).count(mask_id)
    for s in range(1, passes + 1):
        p = model(filled)
        gaps = sorted((t for t, i in enumerate(given) if i == mask_id), key=lambda t, p=p: -float(p[t].max()))
        filled = list(given)
        for t in gaps[: -(-n * s // passes)]:
            filled[t] = int(p[t].argmax())
    return filled


def fill_by_entropy(model, ids, mask_id, passes):
    return _fill(model, ids, mask_id, passes, key=lambda p, t: float(torch.special.entr(p[t]).sum()))


def fill_share_of_all_tokens(model, ids, mask_id, passes):
    return _fill(model, ids, mask_id, passes, count=lambda n, s, passes: -(-len(ids) * s // passes))


def fill_drawing(model, ids, mask_id, passes):
    drawn, g = list(ids), torch.Generator().manual_seed(0)
    for _ in range(passes):
        said = torch.multinomial(model(drawn), 1, generator=g)[:, 0].tolist()
    return [new if i == mask_id else i for i, new in zip(ids, said, strict=True)]


_FILL_MISTAKES = (
    (
        fill_all_at_once,
        "every gap gets what the first pass says, all at once: run the model again on what is filled.",
    ),
    (fill_one_a_pass, "one gap a pass, whatever `passes` says: ceil(N s / S) of them are filled after pass s of S."),
    (fill_left_to_right, "you fill from the left; the gaps of which the model is surest come first."),
    (fill_least_sure, "you fill the gaps of which the model is LEAST sure first."),
    (fill_rounded_down, "N s / S is rounded up, so that the first pass fills at least one gap; you round down."),
    (
        fill_equally_many,
        "you fill ceil(N / S) gaps in each pass; after pass s it is ceil(N s / S) in all: of 7 in 3 passes 3, 5, 7.",
    ),
    (fill_and_take_back, "you choose among all gaps anew in each pass; one that is filled stays as it is."),
    (fill_by_entropy, "surest is where the largest probability is largest; you compare entropies."),
    (fill_share_of_all_tokens, "N counts the gaps; you count all tokens of the row, the given ones too."),
)

fill_surest = Exercise(
    name="generation_order.fill_surest",
    check=_check_fill_surest,
    hint_text=(
        "Count the gaps once: N. In pass s run the model on the list as it stands, sort the open gaps by "
        "their largest probability, and fill as many of them as are missing to ceil(N s / S); -(-n // d) rounds up."
    ),
    right=(fill_by_sorting, _fill_one_by_one),
    wrong=(
        Wrong(fill_all_at_once, says="what the first pass says"),
        Wrong(fill_one_a_pass, says="one gap a pass"),
        Wrong(fill_left_to_right, says="from the left"),
        Wrong(fill_least_sure, says="LEAST sure"),
        Wrong(fill_rounded_down, says="round down"),
        Wrong(fill_equally_many, says="in each pass"),
        Wrong(fill_and_take_back, says="stays as it is"),
        Wrong(fill_by_entropy, says="entropies"),
        Wrong(fill_share_of_all_tokens, says="N counts the gaps"),
        Wrong(fill_drawing, says="takes its argmax"),
        Wrong(lambda m, i, k, s: list(map(str, fill_by_sorting(m, i, k, s))), says="return ids, integers"),
        Wrong(fill_from_one_pass, says="what the first pass says"),
        Wrong(fill_everything, says="a token that was given changed"),
        Wrong(fill_ties_to_the_right, says="the leftmost comes first"),
        Wrong(fill_in_place, says="fill a copy"),
        Wrong(fill_too_often, says="once a pass"),
        Wrong(fill_a_share_of_what_is_left, says="gaps are left"),
        Wrong(lambda m, i, k, s: fill_by_sorting(m, i, k, s)[:-1], says="return the filled list"),
    ),
)
