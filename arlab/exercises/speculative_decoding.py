"""Exercises of notebook 13: one drafted token, a whole round, tokens per call, and a draft without a model."""

from __future__ import annotations

from functools import cache

import torch

from arlab.exercises.exercise import Exercise, Wrong


def _probabilities(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def _at(law, v):
    """The token in whose part of [0, 1) v lies, tokens side by side in the order of their ids."""
    return min(int(torch.searchsorted(law.cumsum(-1), torch.tensor([v], dtype=law.dtype), right=True)), len(law) - 1)


def _left_over(p, q):
    left = (p - q).clamp(min=0)
    return left / left.sum()


def _as_id(answer):
    """An int, also from a tensor or an array of one number; None for anything else."""
    while hasattr(answer, "tolist") or (isinstance(answer, list) and len(answer) == 1):
        answer = answer.tolist() if hasattr(answer, "tolist") else answer[0]
    if isinstance(answer, bool) or not isinstance(answer, (int, float)) or answer != answer // 1:
        return None
    return int(answer)


def _as_list(answer):
    """Tensors and arrays are as good as lists."""
    return answer.tolist() if hasattr(answer, "tolist") else answer


# ------------------------------------------------------------------------------------------------------ judge_token

_PAIRS = (
    (_probabilities(0.6, 0.3, 0.1), _probabilities(0.2, 0.3, 0.5)),
    (_probabilities(0.5, 0.25, 0.25, 0.0), _probabilities(0.25, 0.25, 0.0, 0.5)),
    (_probabilities(0.25, 0.25, 0.25, 0.25), _probabilities(0.0, 1.0, 0.0, 0.0)),
    (_probabilities(0.6, 0.2, 0.2), _probabilities(0.2, 0.4, 0.4)),
    (_probabilities(0.5, 0.5), _probabilities(0.5, 0.5)),
)
_U, _V = 20, 6  # cells of [0, 1) for u and v; at their middles the sums below are exact


def _law_of(judge, p, q):
    """The law of the token that comes out, with u and v on a grid; and an answer that was no token of it, or None.

    (An id beyond the last counts as the last, as in `_at`.)
    """
    law, strange = torch.zeros_like(p), None
    for token in range(len(p)):
        if q[token] > 0:
            for i in range(_U):
                for j in range(_V):
                    answer = judge(p.clone(), q.clone(), token, (i + 0.5) / _U, (j + 0.5) / _V)
                    out = _as_id(answer)
                    if out is None or not 0 <= out < len(p):
                        strange = (answer, len(p))
                    law[min(max(out or 0, 0), len(p) - 1)] += q[token] / (_U * _V)
    return law, strange


@cache
def _mistaken_laws(mistake):
    return [_law_of(mistake, p, q)[0] for p, q in _PAIRS]


def check_judge_token(student):
    laws, strange = zip(*[_law_of(student, p, q) for p, q in _PAIRS], strict=True)
    strange = next((found for found in strange if found), None)
    no_id = strange and f"return the id of one token, an int from 0 to {strange[1] - 1}; you returned {strange[0]!r}."
    if strange and (_as_id(strange[0]) is None or _as_id(strange[0]) < 0):
        return no_id
    wrong = [i for i, (p, _) in enumerate(_PAIRS) if not torch.allclose(laws[i], p, atol=1e-9)]
    if not wrong and not strange:
        return None
    if any(not torch.equal(law, _law_of(student, *pair)[0]) for law, pair in zip(laws, _PAIRS, strict=True)):
        return "called twice with the same u and v it answers differently: u and v are all the chance there is."
    hard = [(p, q, token) for p, q in (_PAIRS[1], _PAIRS[3]) for token in range(len(p)) if q[token] > 0]
    if all(_as_id(student(p, q, token, 0.97, v)) == token for p, q, token in hard for v in (0.1, 0.6, 0.9)):
        return "you accept everything, so the law of what comes out is the draft's, q."
    for mistake, words in _JUDGE_MISTAKES:
        if all(torch.allclose(a, b, atol=1e-9) for a, b in zip(laws, _mistaken_laws(mistake), strict=True)):
            return words
    if no_id:
        return no_id
    p, q, got = ([round(x, 3) for x in law.tolist()] for law in (*_PAIRS[wrong[0]], laws[wrong[0]]))
    return f"with p = {p} and q = {q} the tokens that come out have the law {got}; it must be p."


def judge_by_ratio(p, q, token, u, v):
    if u < p[token] / q[token]:  # a ratio above 1 always accepts
        return token
    left_over = (p - q).clamp(min=0)
    left_over = left_over / left_over.sum()
    return int((left_over.cumsum(-1) <= v).sum())  # the token whose part of [0, 1) holds v


def judge_by_product(p, q, token, u, v):
    if u * q[token] < p[token]:
        return token
    weights = [max(0.0, a - b) for a, b in zip(p.tolist(), q.tolist(), strict=True)]
    place = v * sum(weights)
    for other, weight in enumerate(weights):
        place -= weight
        if place < 0:
            return other
    return max(range(len(weights)), key=weights.__getitem__)


def judge_from_p(p, q, token, u, v):
    return token if u < p[token] / q[token] else _at(p, v)


def judge_from_q_minus_p(p, q, token, u, v):
    return token if u < p[token] / q[token] or torch.equal(p, q) else _at(_left_over(q, p), v)


def judge_from_the_distance(p, q, token, u, v):
    if u < p[token] / q[token]:
        return token
    far = (p - q).abs()
    return _at(far / far.sum(), v)


def judge_without_chance(p, q, token, u, v):
    return token if p[token] >= q[token] else _at(_left_over(p, q), v)


def judge_by_p_alone(p, q, token, u, v):
    if u < p[token]:
        return token
    return token if torch.equal(p, q) else _at(_left_over(p, q), v)


def judge_by_inverse(p, q, token, u, v):
    return token if u * p[token] < q[token] else _at(_left_over(p, q), v)


def judge_with_one_number(p, q, token, u, v):
    return token if u < p[token] / q[token] else _at(_left_over(p, q), u)


def judge_unnormalised(p, q, token, u, v):
    return token if u < p[token] / q[token] else _at((p - q).clamp(min=0), v)


def judge_by_largest(p, q, token, u, v):
    return token if u < p[token] / q[token] else int((p - q).argmax())


def judge_without_the_token(p, q, token, u, v):
    if u < p[token] / q[token]:
        return token
    others = p.clone()
    others[token] = 0
    return _at(others / others.sum(), v)


def judge_by_own_dice(p, q, token, u, v):
    return token if u < p[token] / q[token] else int(torch.multinomial(_left_over(p, q), 1))


def judge_never(p, q, token, u, v):
    return token


_JUDGE_MISTAKES = (
    (
        judge_from_p,
        "after a rejection you draw from p, as lecture 001 says: p = [.6, .3, .1], q = [.2, .3, .5] then give "
        "[.44, .42, .14]. What min(p, q) has covered already must not be drawn again: norm(max(0, p - q)).",
    ),
    (judge_from_q_minus_p, "the residual is the wrong way round: you draw from max(0, q - p), where q has too much."),
    (judge_from_the_distance, "you draw from |p - q|; where q has more than p nothing is missing: use max(0, p - q)."),
    (
        judge_without_chance,
        "you never accept a token with p < q; accept it with probability p / q, that is if u < p/q.",
    ),
    (judge_by_p_alone, "you accept with probability p; it is p / q, for the draft has drawn it with probability q."),
    (judge_by_inverse, "you accept with probability q / p; it is p / q that makes too frequent tokens rarer."),
    (judge_with_one_number, "you used u twice: after a rejection u is known to be large. Draw with v."),
    (judge_unnormalised, "max(0, p - q) does not sum to 1: divide it by its sum before you draw."),
    (judge_by_largest, "after a rejection you take the largest entry of p - q; draw from the residual, with v."),
    (
        judge_without_the_token,
        "you strike the rejected token out of p; other tokens have been drafted too: max(0, p - q).",
    ),
)

judge_token = Exercise(
    name="speculative_decoding.judge_token",
    check=check_judge_token,
    hint_text=(
        "Accept if u < p[token] / q[token]. Otherwise left_over = (p - q).clamp(min=0), divided by its sum; the token "
        "drawn with v is the number of entries of left_over.cumsum(-1) that are <= v."
    ),
    right=(judge_by_ratio, judge_by_product),
    wrong=(
        Wrong(judge_from_p, says="you draw from p, as lecture 001 says"),
        Wrong(judge_from_q_minus_p, says="wrong way round"),
        Wrong(judge_from_the_distance, says="|p - q|"),
        Wrong(judge_without_chance, says="never accept a token with p < q"),
        Wrong(judge_by_p_alone, says="you accept with probability p;"),
        Wrong(judge_by_inverse, says="q / p"),
        Wrong(judge_with_one_number, says="used u twice"),
        Wrong(judge_unnormalised, says="divide it by its sum"),
        Wrong(judge_by_largest, says="take the largest entry"),
        Wrong(judge_without_the_token, says="strike the rejected token out"),
        Wrong(judge_by_own_dice, says="called twice"),
        Wrong(judge_never, says="accept everything"),
    ),
)

# ------------------------------------------------------------------------------------------------------ judge_round


def _rounds():
    """(p, q, drafted, u, v): random ones, and some in which all or none are accepted."""
    g = torch.Generator().manual_seed(13)
    for gamma in (1, 2, 3, 4):
        for kind in range(16):
            p = torch.rand(gamma + 1, 5, generator=g, dtype=torch.float64).square()
            q = torch.rand(gamma, 5, generator=g, dtype=torch.float64).square()
            p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
            if kind < 3:
                q = p[:-1].clone()  # all accepted
            elif kind < 11:
                q = (q + p[:-1]) / 2  # most accepted, few of them for certain
            drafted = torch.multinomial(q, 1, generator=g)[:, 0].tolist()
            u = torch.rand(gamma, generator=g, dtype=torch.float64).tolist()
            yield p, q, drafted, u, float(torch.rand((), generator=g, dtype=torch.float64))


def check_judge_round(student):
    cases, answers = list(_rounds()), []
    for p, q, drafted, u, v in cases:
        answer = student(p.clone(), q.clone(), list(drafted), list(u), v)
        if not isinstance(_as_list(answer), (list, tuple)):
            return f"return the list of new tokens; you returned a {type(answer).__name__}."
        answers.append([int(token) for token in _as_list(answer)])
    for case, answer in zip(cases, answers, strict=True):
        expected = round_with_a_loop(*case)
        if answer != expected:
            for mistake, words in _ROUND_MISTAKES:
                if all(mine == mistake(*case) for mine, case in zip(answers, cases, strict=True)):
                    return words
            return f"drafted were {case[2]}; expected {expected} to come out, you returned {answer}."
    return None


def round_with_a_loop(p, q, drafted, u, v):
    tokens = []
    for i, token in enumerate(drafted):
        if u[i] < p[i, token] / q[i, token]:
            tokens.append(token)
            continue
        left_over = (p[i] - q[i]).clamp(min=0)
        left_over = left_over / left_over.sum()
        return [*tokens, int((left_over.cumsum(-1) <= v).sum())]  # and what was drafted behind it is void
    return [*tokens, int((p[-1].cumsum(-1) <= v).sum())]  # all accepted: one more from the target


def round_by_counting(p, q, drafted, u, v):
    kept = [u[i] * q[i, x] < p[i, x] for i, x in enumerate(drafted)]
    n = kept.index(False) if False in kept else len(kept)
    law = p[n] if n == len(drafted) else _left_over(p[n], q[n])
    return list(drafted[:n]) + [_at(law, v)]


def round_without_bonus(p, q, drafted, u, v):
    tokens = round_with_a_loop(p, q, drafted, u, v)
    return tokens[: len(drafted)]


def round_that_goes_on(p, q, drafted, u, v):
    tokens = [x if u[i] < p[i, x] / q[i, x] else _at(_left_over(p[i], q[i]), v) for i, x in enumerate(drafted)]
    return [*tokens, _at(p[-1], v)]


def round_from_p(p, q, drafted, u, v):
    n = len(round_with_a_loop(p, q, drafted, u, v)) - 1
    return [*drafted[:n], _at(p[n], v)]


def round_of_all_or_nothing(p, q, drafted, u, v):
    n = len(round_with_a_loop(p, q, drafted, u, v)) - 1
    return list(drafted) + [_at(p[-1], v)] if n == len(drafted) else [_at(p[0], v)]


def round_with_the_rejected(p, q, drafted, u, v):
    tokens = round_with_a_loop(p, q, drafted, u, v)
    n = len(tokens) - 1
    return tokens if n == len(drafted) else [*drafted[: n + 1], tokens[-1]]


def round_one_row_late(p, q, drafted, u, v):
    for i, x in enumerate(drafted):
        if u[i] >= p[i + 1, x] / q[i, x]:
            return [*drafted[:i], _at(_left_over(p[i + 1], q[i]), v)]
    return [*drafted, _at(p[-1], v)]


def round_bonus_from_the_row_before(p, q, drafted, u, v):
    tokens = round_with_a_loop(p, q, drafted, u, v)
    return [*drafted, _at(p[len(drafted) - 1], v)] if len(tokens) > len(drafted) else tokens


def round_without_correction(p, q, drafted, u, v):
    tokens = round_with_a_loop(p, q, drafted, u, v)
    return tokens if len(tokens) > len(drafted) else tokens[:-1]


def round_of_products(p, q, drafted, u, v):
    product = 1.0
    for i, x in enumerate(drafted):
        product *= min(1.0, float(p[i, x] / q[i, x]))
        if u[i] >= product:
            return [*drafted[:i], _at(_left_over(p[i], q[i]), v)]
    return [*drafted, _at(p[-1], v)]


_ROUND_MISTAKES = (
    (round_without_bonus, "when all are accepted one more token comes free: draw it from the last row of p."),
    (round_that_goes_on, "after the first rejection stop: the tokens drafted behind it followed a text that is gone."),
    (round_from_p, "after a rejection draw from norm(max(0, p[i] - q[i])), not from p[i]."),
    (round_of_all_or_nothing, "you throw the whole draft away at one rejection; keep what was accepted before it."),
    (round_with_the_rejected, "the rejected token is still in the list; the corrected one stands in its place."),
    (round_one_row_late, "row i of p judges drafted[i]; you compared it with the row behind."),
    (round_bonus_from_the_row_before, "the bonus token follows all drafted ones: row gamma of p, the last."),
    (round_without_correction, "at a rejection you stop empty-handed; the target's correction belongs to the round."),
    (round_of_products, "you multiply the ratios; token i is judged by its own, for those before it are text by now."),
)

judge_round = Exercise(
    name="speculative_decoding.judge_round",
    check=check_judge_round,
    hint_text=(
        "Go through drafted with enumerate. Accepted: append and go on. Rejected: append a token drawn with v from "
        "norm(max(0, p[i] - q[i])) and return at once. After the loop append a token drawn with v from p[-1]."
    ),
    right=(round_with_a_loop, round_by_counting),
    wrong=(
        Wrong(round_without_bonus, says="one more token comes free"),
        Wrong(round_that_goes_on, says="after the first rejection stop"),
        Wrong(round_from_p, says="not from p[i]"),
        Wrong(round_of_all_or_nothing, says="throw the whole draft away"),
        Wrong(round_with_the_rejected, says="rejected token is still in the list"),
        Wrong(round_one_row_late, says="the row behind"),
        Wrong(round_bonus_from_the_row_before, says="the last"),
        Wrong(round_without_correction, says="empty-handed"),
        Wrong(round_of_products, says="you multiply the ratios"),
    ),
)

# -------------------------------------------------------------------------------------------------- tokens_per_call


def check_tokens_per_call(student):
    cases = [(a, gamma) for a in (0.0, 0.25, 0.5, 0.8) for gamma in (1, 2, 4, 8)]
    answers = [float(student(a, gamma)) for a, gamma in cases]
    for (a, gamma), mine in zip(cases, answers, strict=True):
        expected = tokens_by_sum(a, gamma)
        if not abs(mine - expected) < 1e-6:
            for mistake, words in _TOKENS_MISTAKES:
                if all(abs(x - mistake(*case)) < 1e-6 for x, case in zip(answers, cases, strict=True)):
                    return words
            return f"with a = {a} and gamma = {gamma} a call gives {expected:.4f} tokens; you say {mine:.4f}."
    try:
        perfect = float(student(1.0, 4))
    except ZeroDivisionError:
        perfect = float("nan")
    if perfect != perfect:
        return "a = 1 divides by zero; every drafted token is accepted then, and gamma + 1 tokens come of each call."
    if not abs(perfect - 5) < 1e-6:
        return f"a = 1 and gamma = 4 give 5 tokens a call; you say {perfect}."
    return None


def tokens_by_sum(a, gamma):
    return sum(a**i for i in range(gamma + 1))  # i drafted tokens are accepted with probability a^i at least


def tokens_by_formula(a, gamma):
    return gamma + 1 if a == 1 else (1 - a ** (gamma + 1)) / (1 - a)


def tokens_without_the_own(a, gamma):
    return sum(a**i for i in range(1, gamma + 1))


def tokens_one_short(a, gamma):
    return sum(a**i for i in range(gamma))


def tokens_without_order(a, gamma):
    return 1 + gamma * a


def tokens_without_end(a, gamma):
    return 1 / (1 - a) if a < 1 else gamma + 1


def tokens_dividing_by_zero(a, gamma):
    return (1 - a ** (gamma + 1)) / (1 - a)


_TOKENS_MISTAKES = (
    (tokens_without_the_own, "you counted the accepted tokens; each call adds one of the target's own."),
    (tokens_one_short, "the sum ends one term early: with all gamma accepted a call gives gamma + 1 tokens."),
    (tokens_without_order, "1 + gamma a counts tokens behind a rejection too; token i needs i acceptances in a row."),
    (tokens_without_end, "that is for a draft without an end; only gamma tokens are drafted."),
)

tokens_per_call = Exercise(
    name="speculative_decoding.tokens_per_call",
    check=check_tokens_per_call,
    hint_text=(
        "The first i drafted tokens are all accepted with probability a^i, and the expected number of accepted ones is "
        "the sum of these over i = 1 .. gamma. One token more is the target's own. Mind a = 1 in the closed form."
    ),
    right=(tokens_by_sum, tokens_by_formula),
    wrong=(
        Wrong(tokens_without_the_own, says="one of the target's own"),
        Wrong(tokens_one_short, says="one term early"),
        Wrong(tokens_without_order, says="behind a rejection"),
        Wrong(tokens_without_end, says="without an end"),
        Wrong(tokens_dividing_by_zero, says="divides by zero"),
    ),
)

# ---------------------------------------------------------------------------------------------------------- look_up

_TEXTS = (
    ([1, 2, 3, 9, 8, 7, 1, 2, 3], 3, 2),
    ([2, 3, 7, 5, 3, 6, 2, 3], 3, 2),
    ([3, 7, 4, 3, 6, 4, 3], 1, 2),
    ([5, 1, 2, 8, 8, 1, 2, 9, 9, 1, 2], 2, 4),
    ([0, 1, 2, 3, 9, 5, 1, 2, 3, 8, 5, 2, 3, 7, 5, 1, 2, 3], 2, 1),
    ([1, 2, 3, 4], 3, 3),
    ([6], 3, 3),
    ([4, 6, 4], 3, 9),
    ([7, 7, 7, 7], 3, 3),
)


def check_look_up(student):
    answers = []
    for text, longest, limit in _TEXTS:
        given = list(text)
        answer = student(given, longest, limit)
        if given != text:
            return "you changed the caller's text; work on a copy."
        if not isinstance(_as_list(answer), (list, tuple)):
            return f"return a list of ids, empty when nothing is found; you returned a {type(answer).__name__}."
        answers.append(list(_as_list(answer)))
    for case, answer in zip(_TEXTS, answers, strict=True):
        expected = look_up_by_slices(*case)
        if answer != expected:
            for mistake, words in _LOOK_UP_MISTAKES:
                if all(mine == mistake(*case) for mine, case in zip(answers, _TEXTS, strict=True)):
                    return words
            text, longest, limit = case
            return f"text {text}, longest {longest}, limit {limit}: expected {expected}, you returned {answer}."
    return None


def _places(text, n):
    """Where the last n tokens stand earlier, with at least one token behind them."""
    return [i for i in range(len(text) - n) if text[i : i + n] == text[-n:]]


def look_up_by_slices(text, longest, limit):
    for n in range(min(longest, len(text) - 1), 0, -1):  # the longest match first
        for i in range(len(text) - n - 1, -1, -1):  # the latest one first; never the end itself
            if text[i : i + n] == text[-n:]:
                return text[i + n : i + n + limit]
    return []


def look_up_by_scoring(text, longest, limit):
    best = (0, 0)
    for end in range(1, len(text)):
        n = 0
        while n < min(longest, end) and text[end - 1 - n] == text[-1 - n]:
            n += 1
        best = max(best, (n, end))
    return list(text[best[1] :][:limit]) if best[0] else []


def _looked_up(text, longest, limit, lengths, place, shift):
    for n in lengths(min(longest, len(text) - 1)):
        places = _places(text, n)
        if places:
            start = place(places) + shift(n)
            return text[start : start + limit]
    return []


def look_up_shortest(text, longest, limit):
    return _looked_up(text, longest, limit, lambda n: range(1, n + 1), max, lambda n: n)


def look_up_earliest(text, longest, limit):
    return _looked_up(text, longest, limit, lambda n: range(n, 0, -1), min, lambda n: n)


def look_up_the_match(text, longest, limit):
    return _looked_up(text, longest, limit, lambda n: range(n, 0, -1), max, lambda n: 0)


def look_up_itself(text, longest, limit):
    return []


def look_up_only_the_longest(text, longest, limit):
    return _looked_up(text, longest, limit, lambda n: [n] if n == longest else [], max, lambda n: n)


def look_up_apart(text, longest, limit):
    for n in range(min(longest, len(text) - 1), 0, -1):
        for i in range(len(text) - 2 * n, -1, -1):
            if text[i : i + n] == text[-n:]:
                return text[i + n : i + n + limit]
    return []


def look_up_without_limit(text, longest, limit):
    return look_up_by_slices(text, longest, len(text))


_LOOK_UP_MISTAKES = (
    (look_up_shortest, "take the longest match first: one token alone has followed too many different ones."),
    (look_up_earliest, "of several places with the same match take the latest, not the first."),
    (look_up_the_match, "you return the matched tokens themselves; wanted are those that followed them."),
    (look_up_itself, "nothing was found anywhere: did the end of the text match itself, with nothing behind it?"),
    (look_up_only_the_longest, "when the longest n-gram is new, try a shorter one, down to a single token."),
    (look_up_without_limit, "return at most `limit` tokens."),
    (look_up_apart, "a match may overlap the end of the text: 7 7 7 stands twice in 7 7 7 7."),
)

look_up = Exercise(
    name="speculative_decoding.look_up",
    check=check_look_up,
    hint_text=(
        "Two loops: n from longest down to 1 (at most len(text) - 1), and i from len(text) - n - 1 down to 0, so that "
        "the match at the very end is left out. When text[i : i + n] == text[-n:], return text[i + n : i + n + limit]."
    ),
    right=(look_up_by_slices, look_up_by_scoring),
    wrong=(
        Wrong(look_up_shortest, says="longest match first"),
        Wrong(look_up_earliest, says="take the latest"),
        Wrong(look_up_the_match, says="matched tokens themselves"),
        Wrong(look_up_itself, says="match itself"),
        Wrong(look_up_only_the_longest, says="try a shorter one"),
        Wrong(look_up_without_limit, says="at most `limit`"),
        Wrong(look_up_apart, says="may overlap"),
    ),
)
