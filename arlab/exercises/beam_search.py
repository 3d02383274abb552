"""Exercises of notebook 11: one step of beam search, finished hypotheses, the score of a hypothesis, when to stop."""

from __future__ import annotations

import cmath
import math

import torch

from arlab.exercises.exercise import Exercise, Wrong, as_tensor


def _explained(student, cases, expected, known, same):
    """None when every answer is right; the words of the known mistake that explains all answers; else a plain sentence.

    same(answer, other) compares two answers. `known` pairs mistakes with their words.
    """
    answers = [student(*case) for case in cases]
    if all(same(answer, right) for answer, right in zip(answers, expected, strict=True)):
        return None
    for mistake, words in known:
        if all(same(answer, _outcome(mistake, case)) for answer, case in zip(answers, cases, strict=True)):
            return words
    return next(
        f"for {_shown(case)} it should be {_shown(right)}; yours is {_shown(answer)}."
        for case, answer, right in zip(cases, answers, expected, strict=True)
        if not same(answer, right)
    )


def _outcome(mistake, case):
    """What a mistake answers; one that crashes on a case cannot be the explanation of an answer."""
    try:
        return mistake(*case)
    except (RuntimeError, IndexError, ZeroDivisionError, ValueError):
        return _NOTHING


_NOTHING = object()


def _shown(value) -> str:
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        inner = ", ".join(map(_shown, value)) + ("," if isinstance(value, tuple) and len(value) == 1 else "")
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    return str(value)


# ------------------------------------------------------------------------------------------------------- beam_step

_WAYS = "return three tensors: parents, tokens and the new totals, one entry for each sequence that is kept."


_COPIES = (
    "the same sequence is kept twice. There is one beginning, so at the first step there is one live beam: do not fill "
    "up to k with copies of it."
)


def check_beam_step(student):
    g = torch.Generator().manual_seed(20)
    cases = []
    for live, vocab, k in ((2, 3, 2), (3, 7, 3), (2, 5, 4), (4, 9, 2), (3, 6, 1), (1, 8, 3), (2, 3, 6), (1, 4, 6)):
        logprobs = (2 * torch.randn(live, vocab, generator=g, dtype=torch.float64)).log_softmax(-1)
        totals = -3 * torch.rand(live, generator=g, dtype=torch.float64).sort().values  # best first
        cases.append((totals, logprobs, k))
    expected = [step_by_flattening(*case) for case in cases]
    for case in cases[:6]:  # the last two ask for as many as there are, and for more: see below
        own = (case[0].clone(), case[1].clone(), case[2])
        problem = _step_form(student(*own), case)
        if problem:
            return problem
        if not (torch.equal(own[0], case[0]) and torch.equal(own[1], case[1])):
            return "the caller's totals or logprobs were changed; add without an in-place operation such as +=."
    problem = _explained(_three(student), cases[:6], expected[:6], _STEP_MISTAKES, _same_step)
    if problem:
        answers = [_three(student)(*case) for case in cases[:6]]
        if all(_same_step(_best_first(answer), right) for answer, right in zip(answers, expected, strict=False)):
            return "these are the right sequences, but not in order: best first."
        return problem
    for case, right in zip(cases[6:], expected[6:], strict=True):
        try:
            answer = _three(student)(*case)
        except (RuntimeError, IndexError) as error:
            return f"with fewer than k candidates, keep all of them (here {right[0].numel()}, k = {case[2]}): {error}"
        if not _same_step(answer, right):
            return f"with k = {case[2]} and {right[0].numel()} candidates, all of them stay, best first."
    tied = (torch.zeros(3, dtype=torch.float64), torch.zeros(3, 40, dtype=torch.float64), 50)
    if not _same_step(_three(student)(*tied), step_by_flattening(*tied)):
        return (
            "among equal totals keep the earlier beam first, and in it the lowest id: torch.topk promises no order "
            "there; sort with stable=True."
        )
    return None


def _best_first(answer):
    order = answer[2].argsort(descending=True, stable=True)
    return tuple(part[order] for part in answer)


def _three(student):
    return lambda *case: tuple(map(as_tensor, student(*case)))


def _step_form(answer, case):
    totals, logprobs, k = case
    if not isinstance(answer, (tuple, list)) or len(answer) != 3:
        return _WAYS
    answer = list(map(as_tensor, answer))
    if not all(isinstance(part, torch.Tensor) and part.dim() == 1 for part in answer):
        return _WAYS
    parents, tokens, sums = answer
    count, (live, vocab) = min(k, logprobs.numel()), logprobs.shape
    if len({part.numel() for part in answer}) > 1:
        return _WAYS
    pairs = list(zip(parents.tolist(), tokens.tolist(), strict=True))
    kept = {
        (parent % live, token, round(total, 6)) for (parent, token), total in zip(pairs, sums.tolist(), strict=True)
    }
    if len(kept) < len(pairs):
        return _COPIES
    if len(pairs) == k * live != count:
        return f"you kept k = {k} of each beam ({len(pairs)} in all); keep the {k} best of all beams together."
    if len(pairs) != count:
        return f"keep k = {k} sequences, of all beams together; you kept {len(pairs)} of {live} x {vocab}."
    return None


def _same_step(one, other):
    if one is _NOTHING or other is _NOTHING:
        return False
    (p, t, s), (q, u, r) = one, other
    return (
        p.shape == q.shape == t.shape == u.shape == s.shape == r.shape
        and torch.equal(p.double(), q.double())
        and torch.equal(t.double(), u.double())
        and torch.allclose(s.double(), r.double(), atol=1e-5)
    )


def step_by_flattening(totals, logprobs, k):
    sums = (totals[:, None] + logprobs).flatten()  # (live * vocab,): every continuation of every beam
    order = sums.sort(descending=True, stable=True).indices[:k]
    vocab = logprobs.size(1)
    return order // vocab, order % vocab, sums[order]


def step_by_listing(totals, logprobs, k):
    continuations = [
        (-(float(totals[beam]) + float(logprobs[beam, token])), beam, token)
        for beam in range(logprobs.size(0))
        for token in range(logprobs.size(1))
    ]
    kept = sorted(continuations)[:k]
    return [beam for _, beam, _ in kept], [token for _, _, token in kept], [-negative for negative, _, _ in kept]


def step_of_each_beam(totals, logprobs, k):
    values, tokens = (totals[:, None] + logprobs).topk(min(k, logprobs.size(1)), dim=1)
    parents = torch.arange(len(totals))[:, None].expand_as(tokens)
    return parents.flatten(), tokens.flatten(), values.flatten()


def step_greedy_beams(totals, logprobs, k):
    values, tokens = logprobs.max(dim=1)
    return torch.arange(len(totals)), tokens, totals + values


def step_share_of_each(totals, logprobs, k):
    """k / beams continuations of every beam, then sorted: each beam keeps a descendant."""
    each = -(-k // len(totals))
    values, tokens = (totals[:, None] + logprobs).topk(min(each, logprobs.size(1)), dim=1)
    order = values.flatten().argsort(descending=True)[:k]
    return order // tokens.size(1), tokens.flatten()[order], values.flatten()[order]


def step_forgetting_totals(totals, logprobs, k):
    return step_by_flattening(torch.zeros_like(totals), logprobs, k)


def step_dividing_by_k(totals, logprobs, k):
    _, _, sums = step_by_flattening(totals, logprobs, k)
    order = (totals[:, None] + logprobs).flatten().sort(descending=True, stable=True).indices[:k]
    return order // k, order % k, sums


def step_swapped(totals, logprobs, k):
    parents, tokens, sums = step_by_flattening(totals, logprobs, k)
    return tokens, parents, sums


def step_worst(totals, logprobs, k):
    order = (totals[:, None] + logprobs).flatten().sort(stable=True).indices[:k]
    return order // logprobs.size(1), order % logprobs.size(1), (totals[:, None] + logprobs).flatten()[order]


def step_returning_logprobs(totals, logprobs, k):
    parents, tokens, _ = step_by_flattening(totals, logprobs, k)
    return parents, tokens, logprobs[parents, tokens]


def step_multiplying(totals, logprobs, k):
    sums = (totals[:, None] * logprobs).flatten()
    order = sums.sort(descending=True, stable=True).indices[:k]
    return order // logprobs.size(1), order % logprobs.size(1), sums[order]


def step_adding_probabilities(totals, logprobs, k):
    return step_by_flattening(totals, logprobs.exp(), k)


def step_by_topk(totals, logprobs, k):
    sums, order = (totals[:, None] + logprobs).flatten().topk(min(k, logprobs.numel()))
    last_first = sums.flip(0).argsort(descending=True, stable=True)  # what topk may do among equals
    order, sums = order.flip(0)[last_first], sums.flip(0)[last_first]
    return order // logprobs.size(1), order % logprobs.size(1), sums


def step_crashing(totals, logprobs, k):
    sums, order = (totals[:, None] + logprobs).flatten().topk(k)
    return order // logprobs.size(1), order % logprobs.size(1), sums


def step_with_copies(totals, logprobs, k):
    copies = -(-k // len(totals))
    return step_by_flattening(totals.repeat(copies)[:k], logprobs.repeat(copies, 1)[:k], k)


def step_true_division(totals, logprobs, k):
    parents, tokens, sums = step_by_flattening(totals, logprobs, k)
    return (parents * logprobs.size(1) + tokens) / logprobs.size(1), tokens, sums


def step_in_flat_order(totals, logprobs, k):
    parents, tokens, sums = step_by_flattening(totals, logprobs, k)
    order = (parents * logprobs.size(1) + tokens).argsort()
    return parents[order], tokens[order], sums[order]


def step_in_place(totals, logprobs, k):
    logprobs += totals[:, None]
    return step_by_flattening(torch.zeros_like(totals), logprobs, k)


_STEP_MISTAKES = (
    (step_forgetting_totals, "add each beam's total to its continuations before you compare them."),
    (step_dividing_by_k, "a position in the flat list is beam * vocab + token: divide by the vocabulary, not by k."),
    (step_swapped, "parents and tokens are the wrong way round: position // vocab is the beam, % the token."),
    (step_true_division, "parents are whole numbers: divide with //, which rounds down, not with /."),
    (step_worst, "you kept the least probable ones: sort in descending order."),
    (step_returning_logprobs, "the third result is the new total, the beam's and the token's log p together."),
    (step_multiplying, "logs are added, not multiplied: log(ab) = log a + log b."),
    (step_adding_probabilities, "add log-probabilities: you added a probability to a log."),
    (step_share_of_each, "every beam kept a descendant; a beam whose continuations are all worse should die out."),
)  # fmt: skip

beam_step = Exercise(
    name="beam_search.beam_step",
    check=check_beam_step,
    hint_text=(
        "totals[:, None] + logprobs holds every continuation of every beam; flatten it and take the k largest of the "
        "whole (sort with descending=True, stable=True). A position in the flat list is beam * vocab + token, so // "
        "and % give the two back."
    ),
    right=(step_by_flattening, step_by_listing),
    wrong=(
        Wrong(step_of_each_beam, says="of all beams together"),
        Wrong(step_greedy_beams, says="keep k = 4 sequences"),
        Wrong(step_share_of_each, says="every beam kept a descendant"),
        Wrong(step_forgetting_totals, says="add each beam's total"),
        Wrong(step_dividing_by_k, says="not by k"),
        Wrong(step_swapped, says="wrong way round"),
        Wrong(step_worst, says="descending"),
        Wrong(step_returning_logprobs, says="the third result"),
        Wrong(step_multiplying, says="not multiplied"),
        Wrong(step_adding_probabilities, says="you added a probability"),
        Wrong(step_by_topk, says="stable=True"),
        Wrong(step_crashing, says="fewer than k candidates"),
        Wrong(step_with_copies, says="kept twice"),
        Wrong(step_true_division, says="whole numbers"),
        Wrong(step_in_flat_order, says="not in order"),
        Wrong(step_in_place, says="were changed"),
    ),
)

# ------------------------------------------------------------------------------------------------------- sort_out


def check_sort_out(student):
    end = 0
    cases = [
        ([(-0.5, (3, 1)), (-0.7, (3, 2)), (-0.9, (3, 3)), (-1.0, (2, 1))], 2, end),
        ([(-0.5, (3, 1)), (-0.7, (3, end)), (-0.9, (2, 4)), (-1.0, (2, 1))], 2, end),
        ([(-0.5, (3, 1)), (-0.7, (3, 4)), (-0.9, (2, end)), (-1.0, (2, 1))], 2, end),
        ([(-0.1, (end,)), (-0.2, (4,)), (-0.3, (2,)), (-0.4, (1,))], 2, end),
        ([(-0.1, (5,)), (-0.2, (end,)), (-0.3, (end,)), (-0.4, (7,)), (-0.5, (8,)), (-0.6, (9,))], 3, end),
        ([(-0.1, (6, end)), (-0.2, (3, 6))], 1, end),
        ([(-0.1, (1, 7)), (-0.2, (1, 4)), (-0.3, (2, 7)), (-0.4, (2, 2))], 2, 7),
    ]
    for candidates, k, eos in cases:
        own = list(candidates)
        answer = student(own, k, eos)
        if not isinstance(answer, (tuple, list)) or len(answer) != 2:
            return "return two lists, the finished and the live."
        if not all(isinstance(part, (tuple, list)) for part in answer):
            return "return two lists, the finished and the live."
        if not all(_is_pair(each) for part in answer for each in part):
            return "the lists hold the candidates as they came: pairs (total, tokens)."
        if own != candidates:
            return "the caller's list of candidates was changed; build new lists."
    expected = [sort_by_walking(*case) for case in cases]
    return _explained(student, cases, expected, _SORT_MISTAKES, _same_lists)


def _is_pair(each) -> bool:
    return isinstance(each, (tuple, list)) and len(each) == 2 and isinstance(each[1], (tuple, list))


def _same_lists(one, other):
    if one is _NOTHING or other is _NOTHING or not isinstance(one, (tuple, list)) or len(one) != 2:
        return False
    plain = [[[(float(total), tuple(tokens)) for total, tokens in part] for part in pair] for pair in (one, other)]
    return plain[0] == plain[1]


def sort_by_walking(candidates, k, eos_id):
    finished, live = [], []
    for rank, (total, tokens) in enumerate(candidates):  # best first
        if tokens[-1] == eos_id:
            if rank < k:
                finished.append((total, tokens))
        elif len(live) < k:
            live.append((total, tokens))
    return finished, live


def sort_by_comprehension(candidates, k, eos_id):
    finished = [each for each in candidates[:k] if each[1][-1] == eos_id]
    live = [each for each in candidates if each[1][-1] != eos_id][:k]
    return finished, live


def sort_extending_the_finished(candidates, k, eos_id):
    return [each for each in candidates[:k] if each[1][-1] == eos_id], candidates[:k]


def sort_taking_slots(candidates, k, eos_id):
    finished = [each for each in candidates[:k] if each[1][-1] == eos_id]
    return finished, [each for each in candidates[:k] if each[1][-1] != eos_id]


def sort_any_rank(candidates, k, eos_id):
    finished = [each for each in candidates if each[1][-1] == eos_id]
    return finished, [each for each in candidates if each[1][-1] != eos_id][:k]


def sort_dropping_the_finished(candidates, k, eos_id):
    return [], [each for each in candidates if each[1][-1] != eos_id][:k]


def sort_keeping_all_live(candidates, k, eos_id):
    finished = [each for each in candidates[:k] if each[1][-1] == eos_id]
    return finished, [each for each in candidates if each[1][-1] != eos_id]


def sort_cutting_the_end(candidates, k, eos_id):
    finished, live = sort_by_walking(candidates, k, eos_id)
    return [(total, tokens[:-1]) for total, tokens in finished], live


def sort_tokens_only(candidates, k, eos_id):
    return tuple([tokens for _, tokens in part] for part in sort_by_walking(candidates, k, eos_id))


def sort_popping(candidates, k, eos_id):
    finished = [each for each in candidates[:k] if each[1][-1] == eos_id]
    for each in [each for each in candidates if each[1][-1] == eos_id]:
        candidates.remove(each)
    return finished, candidates[:k]


def sort_swapped(candidates, k, eos_id):
    return sort_by_walking(candidates, k, eos_id)[::-1]


def sort_live_first(candidates, k, eos_id):
    """The end symbol counts when better than the k-th live one: a sequence may finish beyond the first k."""
    live = [each for each in candidates if each[1][-1] != eos_id][:k]
    return [each for each in candidates if each[1][-1] == eos_id and each[0] > live[-1][0]], live


_SORT_MISTAKES = (
    (sort_extending_the_finished, "a finished sequence is still alive: nothing may be appended to an end symbol."),
    (sort_taking_slots, "an end symbol took a live slot: fill the live ones up to k with the next best candidates."),
    (sort_any_rank, "an end symbol beyond the first k candidates does not count: it was not among the k best."),
    (sort_live_first, "an end symbol counts when among the first k candidates, not when it beats the last live one."),
    (sort_dropping_the_finished, "sequences that ended are results: keep them, apart from the live ones."),
    (sort_keeping_all_live, "too many are alive: at most k live on."),
    (sort_cutting_the_end, "the end symbol belongs to the sequence (its log p is in the total); do not cut it off."),
    (sort_swapped, "the two lists are the wrong way round: finished first, then live."),
)  # fmt: skip

sort_out = Exercise(
    name="beam_search.sort_out",
    check=check_sort_out,
    hint_text=(
        "Walk through the candidates, best first, with their rank. One that ends with the end symbol is finished if "
        "its rank is below k, and otherwise dropped. One that does not is alive, as long as fewer than k are."
    ),
    right=(sort_by_walking, sort_by_comprehension),
    wrong=(
        Wrong(sort_extending_the_finished, says="nothing may be appended"),
        Wrong(sort_taking_slots, says="took a live slot"),
        Wrong(sort_any_rank, says="beyond the first k"),
        Wrong(sort_live_first, says="not when it beats"),
        Wrong(sort_dropping_the_finished, says="are results"),
        Wrong(sort_keeping_all_live, says="at most k"),
        Wrong(sort_cutting_the_end, says="do not cut it off"),
        Wrong(sort_swapped, says="finished first"),
        Wrong(sort_tokens_only, says="pairs (total, tokens)"),
        Wrong(sort_popping, says="was changed"),
    ),
)

# ----------------------------------------------------------------------------------------------- hypothesis_score


def check_hypothesis_score(student):
    end = 9
    texts = [
        ([4, 5, 6, 1, 2, 3], 3),
        ([4, 5, 6, 7, 1, 2, end], 4),
        ([4, 1, 2, end, end, end], 1),
        ([4, end, 5, 1, 2, 3, 8, end, 0, 0], 3),
        ([4, 5, end], 2),
        ([1, 2, 3, 4, 5, 6, 7, 8], 2),
    ]
    g = torch.Generator().manual_seed(21)
    cases = []
    for ids, prompt_length in texts:
        logprobs = (-0.2 - torch.rand(len(ids), generator=g, dtype=torch.float64)).tolist()
        cases += [(ids, [round(x, 3) for x in logprobs], prompt_length, end, alpha) for alpha in (1.0, 0.0, 0.6, 2.0)]
    expected = [score_by_walking(*case) for case in cases]
    if isinstance(student(*cases[0]), (tuple, list, str)):  # an answer that crashes anyway crashes here
        return "return one number."
    try:
        return _explained(_number(student), cases, expected, _SCORE_MISTAKES, _same_number)
    except ZeroDivisionError:
        return "the empty answer is one token long, the end symbol: its length is 1, not 0. Count the end symbol."


def _number(student):
    def number(*case):
        answer = student(*case)
        return answer if isinstance(answer, complex) else float(answer)  # complex: (-2.0) ** 0.6

    return number


def _same_number(one, other):
    if one is _NOTHING or other is _NOTHING:
        return False
    return cmath.isclose(one, other, rel_tol=1e-6, abs_tol=1e-6)


def score_by_walking(ids, logprobs, prompt_length, eos_id, alpha):
    total, length = 0.0, 0
    for token, logprob in zip(ids[prompt_length:], logprobs[prompt_length:], strict=True):  # generated ones only
        total, length = total + logprob, length + 1
        if token == eos_id:  # counted; what follows is padding
            break
    return total / length**alpha


def score_by_slicing(ids, logprobs, prompt_length, eos_id, alpha):
    new = list(ids[prompt_length:])
    length = new.index(eos_id) + 1 if eos_id in new else len(new)
    return sum(logprobs[prompt_length : prompt_length + length]) / length**alpha


def _scored(ids, logprobs, prompt_length, eos_id):
    """The generated log-probabilities up to and with the end symbol."""
    new = list(ids[prompt_length:])
    length = new.index(eos_id) + 1 if eos_id in new else len(new)
    return list(logprobs[prompt_length : prompt_length + length])


def score_without_the_end(ids, logprobs, prompt_length, eos_id, alpha):
    own = _scored(ids, logprobs, prompt_length, eos_id)
    length = len(own) - (eos_id in ids[prompt_length:])
    return sum(own) / length**alpha


def score_without_the_end_at_least_one(ids, logprobs, prompt_length, eos_id, alpha):
    own = _scored(ids, logprobs, prompt_length, eos_id)
    return sum(own) / max(1, len(own) - (eos_id in ids[prompt_length:])) ** alpha


def score_dropping_the_end(ids, logprobs, prompt_length, eos_id, alpha):
    own = _scored(ids, logprobs, prompt_length, eos_id)
    own = own[:-1] if eos_id in ids[prompt_length:] else own
    return sum(own) / max(1, len(own)) ** alpha


def score_over_the_prompt_too(ids, logprobs, prompt_length, eos_id, alpha):
    own = _scored(ids, logprobs, prompt_length, eos_id)
    return sum(own) / (prompt_length + len(own)) ** alpha


def score_with_the_prompt(ids, logprobs, prompt_length, eos_id, alpha):
    own = list(logprobs[:prompt_length]) + _scored(ids, logprobs, prompt_length, eos_id)
    return sum(own) / len(own) ** alpha


def score_with_the_padding(ids, logprobs, prompt_length, eos_id, alpha):
    own = logprobs[prompt_length:]
    return sum(own) / len(own) ** alpha


def score_padded_length(ids, logprobs, prompt_length, eos_id, alpha):
    return sum(_scored(ids, logprobs, prompt_length, eos_id)) / (len(ids) - prompt_length) ** alpha


def score_mean(ids, logprobs, prompt_length, eos_id, alpha):
    own = _scored(ids, logprobs, prompt_length, eos_id)
    return sum(own) / len(own)


def score_times_alpha(ids, logprobs, prompt_length, eos_id, alpha):
    own = _scored(ids, logprobs, prompt_length, eos_id)
    return sum(own) / (len(own) * alpha) if alpha else sum(own)


def score_plain(ids, logprobs, prompt_length, eos_id, alpha):
    return sum(_scored(ids, logprobs, prompt_length, eos_id))


def score_multiplying(ids, logprobs, prompt_length, eos_id, alpha):
    own = _scored(ids, logprobs, prompt_length, eos_id)
    return sum(own) * len(own) ** alpha


def score_stopped_by_the_prompt(ids, logprobs, prompt_length, eos_id, alpha):
    length = list(ids).index(eos_id) + 1 if eos_id in ids else len(ids)
    own = logprobs[prompt_length : max(length, prompt_length + 1)]
    return sum(own) / len(own) ** alpha


def score_mean_to_the_power(ids, logprobs, prompt_length, eos_id, alpha):
    own = _scored(ids, logprobs, prompt_length, eos_id)
    return (sum(own) / len(own)) ** alpha


def score_shifted(ids, logprobs, prompt_length, eos_id, alpha):
    """As if the row at t held log p of the token at t + 1."""
    count = len(_scored(ids, logprobs, prompt_length, eos_id))
    return sum(logprobs[prompt_length - 1 : prompt_length - 1 + count]) / count**alpha


def score_positive(ids, logprobs, prompt_length, eos_id, alpha):
    return -score_by_walking(ids, logprobs, prompt_length, eos_id, alpha)


_SCORE_MISTAKES = (
    (score_without_the_end, "the end symbol is missing in the length: it is generated and counts."),
    (score_without_the_end_at_least_one, "the end symbol is missing in the length: it is generated and counts."),
    (score_dropping_the_end, "the end symbol's own log p is missing: the model had to choose it, like any token."),
    (score_over_the_prompt_too, "the prompt's length is in the divisor: divide by the number of generated tokens."),
    (score_with_the_prompt, "the prompt's log p is in the sum: nobody chose the prompt; add generated tokens only."),
    (score_padded_length, "the padding is in the length: a hypothesis is over with its first end symbol."),
    (score_with_the_padding, "what stands behind the end symbol is padding: leave it out of the sum and the length."),
    (score_mean, "alpha is not used: divide by length ** alpha, which at 0 is 1."),
    (score_times_alpha, "divide by length to the power of alpha, not by length times alpha."),
    (score_plain, "that is the plain sum; divide it by length ** alpha."),
    (score_multiplying, "divide by length ** alpha: multiplying makes a long hypothesis worse still."),
    (score_stopped_by_the_prompt, "an end symbol inside the prompt ends nothing: look for it behind the prompt."),
    (score_mean_to_the_power, "only the length is raised to the power of alpha: sum / (length ** alpha)."),
    (score_shifted, "one place too early: logprobs[i] belongs to ids[i] itself, so both start at prompt_length."),
    (score_positive, "the sign is wrong: logs of probabilities are negative, and the best is the largest."),
)  # fmt: skip

hypothesis_score = Exercise(
    name="beam_search.hypothesis_score",
    check=check_hypothesis_score,
    hint_text=(
        "Cut off the prompt first, from the ids and from the log-probabilities alike. Then cut behind the first end "
        "symbol, if there is one, keeping it. Add up what is left and divide by (how many they are) ** alpha."
    ),
    right=(score_by_walking, score_by_slicing),
    wrong=(
        Wrong(score_without_the_end, says="Count the end symbol"),
        Wrong(score_without_the_end_at_least_one, says="missing in the length"),
        Wrong(score_dropping_the_end, says="the end symbol's own log p"),
        Wrong(score_over_the_prompt_too, says="prompt's length"),
        Wrong(score_with_the_prompt, says="prompt's log p"),
        Wrong(score_with_the_padding, says="behind the end symbol is padding"),
        Wrong(score_padded_length, says="the padding is in the length"),
        Wrong(score_mean, says="alpha is not used"),
        Wrong(score_times_alpha, says="not by length times alpha"),
        Wrong(score_plain, says="the plain sum"),
        Wrong(score_multiplying, says="worse still"),
        Wrong(score_stopped_by_the_prompt, says="inside the prompt"),
        Wrong(score_mean_to_the_power, says="only the length"),
        Wrong(score_shifted, says="one place too early"),
        Wrong(score_positive, says="the sign is wrong"),
    ),
)

# ------------------------------------------------------------------------------------------------------- can_stop


def check_can_stop(student):
    cases = []
    for alpha in (0.0, 0.5, 1.0):
        for finished, live in (
            ([], [-1.0, -1.5]),
            ([-0.2], [-1.0, -1.6]),
            ([-0.7], [-4.0, -4.5]),
            ([-1.2, -0.9], [-6.0, -3.0]),
            ([-0.3, -0.31], [-2.9, -3.0]),
            ([-2.0, -2.5], [-2.4, -9.0]),
            ([-2.5, -2.0, -2.6], [-1.9]),
            ([-1.9, -0.3], [-1.6, -1.5]),
            ([-9.0, -9.5], [-1.0]),
            ([-0.5, -0.6], []),
        ):
            for length, longest in ((2, 4), (3, 20)):
                cases.append((finished, live, length, longest, alpha))
    expected = [stop_by_bound(*case) for case in cases]
    tie = ([-1.0], [-4.0], 2, 4, 1.0)  # the best it can become is a draw: the one found first stays
    if not isinstance(as_tensor(student(*cases[0])), torch.Tensor):
        return "return True or False."
    problem = _explained(lambda *case: bool(student(*case)), cases, expected, _STOP_MISTAKES, lambda a, b: a == b)
    if problem:
        return problem
    if not student(*tie):
        return "a draw is enough to stop: a live beam that can only equal the best one does not replace it."
    return None


def stop_by_bound(finished, live, length, max_length, alpha):
    if not live:
        return True
    if not finished:
        return False
    return max(finished) >= max(live) / max_length**alpha  # further tokens add 0 at best, and make it longer


def stop_if_nobody_can_win(finished, live, length, max_length, alpha):
    best = max(finished, default=-math.inf)
    return all(total / longer**alpha <= best for total in live for longer in range(length + 1, max_length + 1))


def stop_at_first_finished(finished, live, length, max_length, alpha):
    return bool(finished) or not live


def stop_when_two_finished(finished, live, length, max_length, alpha):
    """As many finished as live beams."""
    return len(finished) >= max(1, len(live)) or not live


def stop_never(finished, live, length, max_length, alpha):
    return not live


def stop_at_present_length(finished, live, length, max_length, alpha):
    return not live or bool(finished) and max(finished) >= max(live) / length**alpha


def stop_at_next_length(finished, live, length, max_length, alpha):
    return not live or bool(finished) and max(finished) >= max(live) / (length + 1) ** alpha


def stop_unnormalised(finished, live, length, max_length, alpha):
    return not live or bool(finished) and max(finished) >= max(live)


def stop_by_worst_finished(finished, live, length, max_length, alpha):
    return not live or bool(finished) and min(finished) >= max(live) / max_length**alpha


def stop_by_worst_live(finished, live, length, max_length, alpha):
    return not live or bool(finished) and max(finished) >= min(live) / max_length**alpha


def stop_by_first_finished(finished, live, length, max_length, alpha):
    return not live or bool(finished) and finished[0] >= max(live) / max_length**alpha


def stop_by_first_live(finished, live, length, max_length, alpha):
    return not live or bool(finished) and max(finished) >= live[0] / max_length**alpha


def stop_reversed(finished, live, length, max_length, alpha):
    return not stop_by_bound(finished, live, length, max_length, alpha)


_STOP_MISTAKES = (
    (stop_at_first_finished, "you stop as soon as something has finished; a live beam may still become better."),
    (stop_when_two_finished, "you stop when as many have finished as live; that says nothing on how good they are."),
    (stop_never, "you go on until nothing lives; stop when no live beam can beat the best finished one any more."),
    (stop_at_present_length, "you divide by the present length; a score rises as its text grows: take max_length."),
    (stop_at_next_length, "you divide by the next length; the most favourable one is max_length."),
    (stop_unnormalised, "you compare a score with a plain total: divide that by max_length ** alpha."),
    (stop_by_worst_finished, "you wait for the worst finished one; one hypothesis is wanted, so the best decides."),
    (stop_by_worst_live, "you looked at the worst live beam; the best one is the danger."),
    (stop_by_first_finished, "the finished scores are in no particular order: take the largest."),
    (stop_by_first_live, "the live totals are in no particular order: take the largest."),
    (stop_reversed, "True and False are the wrong way round: True means stop."),
)  # fmt: skip

can_stop = Exercise(
    name="beam_search.can_stop",
    check=check_can_stop,
    hint_text=(
        "What is the best that a live beam with this total can still become? Each further token has log p <= 0, so the "
        "total can at best stay; and a longer hypothesis divides a negative number by more. So total / max_length ** "
        "alpha bounds it. Compare the best finished score with the best live bound; mind the empty lists."
    ),
    right=(stop_by_bound, stop_if_nobody_can_win),
    wrong=(
        Wrong(stop_at_first_finished, says="as soon as something has finished"),
        Wrong(stop_when_two_finished, says="as many have finished"),
        Wrong(stop_never, says="until nothing lives"),
        Wrong(stop_at_present_length, says="the present length"),
        Wrong(stop_at_next_length, says="the next length"),
        Wrong(stop_unnormalised, says="plain total"),
        Wrong(stop_by_worst_finished, says="worst finished"),
        Wrong(stop_by_worst_live, says="worst live"),
        Wrong(stop_by_first_finished, says="finished scores are in no particular order"),
        Wrong(stop_by_first_live, says="live totals are in no particular order"),
        Wrong(stop_reversed, says="True means stop"),
    ),
)
