"""Exercises of notebook 10: top-k, the nucleus, and min-p as filters on logits."""

from __future__ import annotations

import math

import torch

from arlab.exercises.exercise import Exercise, Wrong

NEVER = -math.inf


def _form_problem(answer, given, logits):
    """What is wrong with an answer before its kept tokens are looked at; None when nothing is."""
    if not isinstance(answer, torch.Tensor) or answer.shape != logits.shape:
        got = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        return f"return logits of the shape that came in, {tuple(logits.shape)}; you returned {got}."
    if not torch.equal(given, logits):
        return "the caller's logits were changed in place; work on a copy (masked_fill makes one)."
    if answer.isnan().any():
        return "there are NaNs in the answer."
    if answer.dtype == torch.bool:
        return "return logits, not the mask of kept tokens."
    kept = answer.isfinite()
    if kept.any() and torch.allclose(answer.sum(-1).double(), torch.ones_like(answer.sum(-1)).double(), atol=1e-5):
        if (answer >= 0).all():
            return "you returned probabilities; return logits, with -inf for what is removed."
    moved = kept & (answer != logits)
    if moved.any() and kept.all() and (answer[moved] == answer[moved][0]).all():
        value = float(answer[moved][0]) + 0.0  # -0 becomes 0
        return f"removed tokens have the logit {value:g}; they need -inf, since no finite logit means never."
    if moved.any():
        if torch.equal(answer.amax(-1), logits.amax(-1)):
            return "the logits left their own ids: after sorting, map the result back to the order of the ids."
        return "kept tokens should keep their logits; the softmax that follows renormalises by itself."
    return None


def _kept(answer):
    return answer > NEVER


_MANY_TIES = (torch.arange(200) * 7 % 20).float().expand(2, 200)  # each of 20 logits ten times
_UNSTABLE = (
    "with many equal logits you did not keep the lowest ids among equals: torch.topk and a plain sort promise no order "
    "there; sort with stable=True."
)


# ---------------------------------------------------------------------------------------------------- top_k_filter


def check_top_k_filter(student):
    g = torch.Generator().manual_seed(10)
    for shape, k in (((6,), 2), ((3, 7), 3), ((2, 3, 5), 1), ((4, 9), 8)):
        logits = torch.randn(shape, generator=g)
        given = logits.clone()
        answer = student(given, k)
        problem = _form_problem(answer, given, logits)
        if problem:
            return problem
        expected = _kept(top_k_by_rank(logits, k))
        if not torch.equal(_kept(answer), expected):
            return _top_k_diagnosis(_kept(answer), logits, k)
    return _top_k_ties(student) or _top_k_large(student)


def _top_k_diagnosis(kept, logits, k):
    counts = kept.sum(-1)
    if torch.equal(kept, _kept(top_k_by_rank(-logits, k))):
        return "you kept the k least probable tokens: sort in descending order."
    if (counts == k - 1).all():
        return f"one token short: {k - 1} kept instead of {k}. Is the k-th token itself lost in a strict comparison?"
    if (counts == k + 1).all():
        return f"one token too many: {k + 1} kept instead of {k}."
    if logits.dim() > 1 and int(kept.sum()) == k:
        return f"{k} tokens are kept in the whole tensor; it should be {k} in each row (dim=-1)."
    if (counts == k).all():
        return f"{k} tokens are kept in each row, but not the most probable ones."
    return f"with k = {k} the rows keep {counts.flatten().tolist()} tokens; each should keep {k}."


def _top_k_ties(student):
    cases = (([2.0, 1.0, 1.0, 0.0], 2, [0, 1]), ([0.0, 0.0, 0.0], 1, [0]), ([1.0, 3.0, 1.0, 3.0, 1.0], 3, [0, 1, 3]))
    for values, k, expected in cases:
        answer = student(torch.tensor(values), k)
        kept = _kept(answer).nonzero().flatten().tolist()
        if len(kept) > k:
            return (
                f"of {values} with k = {k} you kept {len(kept)}: equal logits at the border all passed. Keep exactly k."
            )
        if kept != expected:
            return f"of {values} with k = {k} keep the ids {expected} (the lowest among equals); you kept {kept}."
    if not torch.equal(_kept(student(_MANY_TIES.clone(), 55)), _kept(top_k_by_rank(_MANY_TIES, 55))):
        return _UNSTABLE
    return None


def _top_k_large(student):
    logits = torch.tensor([[0.5, -1.0, 2.0]])
    for k in (3, 10):
        try:
            answer = student(logits.clone(), k)
        except (RuntimeError, IndexError) as error:
            return f"k = {k} with 3 tokens raised {type(error).__name__}; a k above the vocabulary keeps everything."
        if not torch.equal(answer, logits):
            return f"k = {k} with 3 tokens should keep all of them."
    return None


def top_k_by_rank(logits, k):
    order = logits.argsort(dim=-1, descending=True, stable=True)  # stable: equal logits stay in the order of ids
    kept = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order[..., :k], True)  # a slice may be too long
    return logits.masked_fill(~kept, float("-inf"))


def top_k_by_counting(logits, k):
    ids = torch.arange(logits.size(-1))
    larger = logits.unsqueeze(-2) > logits.unsqueeze(-1)  # [v, w]: w has a larger logit than v
    earlier = (logits.unsqueeze(-2) == logits.unsqueeze(-1)) & (ids < ids[:, None])
    rank = (larger | earlier).sum(dim=-1)
    return torch.where(rank < k, logits, torch.tensor(-torch.inf, dtype=logits.dtype))


def top_k_all_ties(logits, k):
    k = min(k, logits.size(-1))
    return logits.masked_fill(logits < logits.topk(k).values[..., -1:], NEVER)


def top_k_by_topk(logits, k):
    best = logits.topk(min(k, logits.size(-1)))
    return torch.full_like(logits, NEVER).scatter(-1, best.indices, best.values)


def top_k_strict(logits, k):
    k = min(k, logits.size(-1))
    return logits.masked_fill(logits <= logits.topk(k).values[..., -1:], NEVER)


def top_k_in_place(logits, k):
    order = logits.argsort(dim=-1, descending=True, stable=True)
    return logits.scatter_(-1, order[..., k:], NEVER)


def top_k_zeros(logits, k):
    return top_k_by_rank(logits, k).nan_to_num(neginf=0.0)


def top_k_crashing(logits, k):
    order = logits.argsort(dim=-1, descending=True, stable=True)
    kept = torch.zeros_like(logits, dtype=torch.bool)
    for i in range(k):
        kept.scatter_(-1, order[..., i, None], True)
    return logits.masked_fill(~kept, NEVER)


def top_k_smallest(logits, k):
    order = logits.argsort(dim=-1, stable=True)
    return logits.masked_fill(~torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order[..., :k], True), NEVER)


def top_k_over_everything(logits, k):
    return top_k_by_rank(logits.flatten(), k).view(logits.shape)


def top_k_probabilities(logits, k):
    return top_k_by_rank(logits, k).softmax(-1)


top_k_filter = Exercise(
    name="top_k_and_nucleus.top_k_filter",
    check=check_top_k_filter,
    hint_text=(
        "Sort ids by logit, descending and stable, so that equal logits stay in the order of their ids. Put True at "
        "the first k ids of each row (torch.zeros_like(..., dtype=torch.bool).scatter), and fill the rest with -inf."
    ),
    right=(top_k_by_rank, top_k_by_counting),
    wrong=(
        Wrong(top_k_all_ties, says="equal logits at the border all passed"),
        Wrong(top_k_by_topk, says="stable=True"),
        Wrong(top_k_strict, says="one token short"),
        Wrong(top_k_in_place, says="changed in place"),
        Wrong(top_k_zeros, says="the logit 0;"),
        Wrong(top_k_crashing, says="keeps everything"),
        Wrong(top_k_smallest, says="least probable"),
        Wrong(top_k_over_everything, says="in each row"),
        Wrong(top_k_probabilities, says="you returned probabilities"),
    ),
)

# -------------------------------------------------------------------------------------------------- nucleus_filter

_POWERS = torch.tensor([[0.125, 0.5, 0.125, 0.25], [0.25, 0.125, 0.5, 0.125]], dtype=torch.float64)  # exact sums


def check_nucleus_filter(student):
    cases = [(_POWERS.log(), p) for p in (0.3, 0.6, 0.85)]
    g = torch.Generator().manual_seed(11)
    cases += [(2 * torch.randn(shape, generator=g), p) for shape in ((9,), (3, 8), (2, 2, 6)) for p in (0.1, 0.5, 0.9)]
    answers = []
    for logits, p in cases:
        given = logits.clone()
        answers.append(student(given, p))
        problem = _form_problem(answers[-1], given, logits)
        if problem:
            return problem
    kept = [_kept(answer) for answer in answers]
    for (logits, p), mine in zip(cases, kept, strict=True):
        expected = _kept(nucleus_by_scatter(logits, p))
        if not torch.equal(mine, expected):
            sizes, yours = expected.sum(-1).flatten().tolist(), mine.sum(-1).flatten().tolist()
            plain = f"with p = {p} the rows should keep {sizes} tokens, the most probable ones; you kept {yours}."
            if sizes == yours:
                plain = (
                    f"with p = {p} you kept as many as you should, but others. Is the mask in the order of ids, and "
                    "do the lowest ids stay among equals?"
                )
            return _nucleus_diagnosis(cases, kept) or plain
    return _nucleus_edges(student)


def _nucleus_diagnosis(cases, kept):
    """The known mistake that explains every answer, if there is one."""
    known = (
        (
            nucleus_perhaps_empty,
            "for a small p you kept no token at all: the token that reaches p stays, so the first.",
        ),
        (nucleus_dropping_the_border, "the boundary token is missing: the token with which the mass reaches p stays."),
        (nucleus_one_too_many, "one token too many: stop with the token that reaches p; you took the next one too."),
        (nucleus_ascending, "you added up from the least probable token: sort in descending order."),
        (nucleus_unsorted, "you added up in the order of the ids: sort by probability first, in descending order."),
        (
            nucleus_not_mapped_back,
            "the mask is in sorted order: map it back to the ids (scatter it to the sorted ids).",
        ),
        (nucleus_by_threshold, "you compared each probability with 1 - p; it is the cumulative mass that counts."),
        (nucleus_at_least_p, "you compared each probability with p; it is the cumulative mass that counts."),
        (nucleus_over_everything, "the rows were taken together: each row has its own nucleus (dim=-1)."),
    )
    for mistake, words in known:
        if all(torch.equal(mine, _kept(mistake(*case))) for case, mine in zip(cases, kept, strict=True)):
            return words
    if any((mine.sum(-1) == 0).any() for mine in kept):
        return "for a small p you kept no token at all: the most probable one always stays."
    return None


def _nucleus_edges(student):
    sizes = {p: _kept(student(_POWERS.log(), p)).sum(-1).tolist() for p in (0.5, 0.75)}
    if sizes[0.5] == [2, 2] or sizes[0.75] == [3, 3]:
        return (
            "at p = .5, of .5, .25, .125, .125, you kept two: the first token has the mass .5, which reaches p. "
            "(That is the lectures' 'exceeds p'; here we use the paper's 'at least p'.)"
        )
    if sizes[0.5] != [1, 1] or sizes[0.75] != [2, 2]:
        return f"of .5, .25, .125, .125: p = .5 keeps 1 and p = .75 keeps 2; you kept {sizes[0.5]} and {sizes[0.75]}."
    equal = _kept(student(torch.zeros(4, dtype=torch.float64), 0.5)).tolist()
    if equal != [True, True, False, False]:
        return f"four equal tokens and p = .5: keep ids 0 and 1, the lowest (a stable sort); you kept {equal}."
    if not torch.equal(_kept(student(_MANY_TIES.clone(), 0.97)), _kept(nucleus_by_scatter(_MANY_TIES, 0.97))):
        return _UNSTABLE
    logits = torch.tensor([[3.0, -2.0, 0.5, 1.0], [-1.0, 4.0, -3.0, -20.0]])
    if not torch.equal(student(logits.clone(), 1.0), logits):
        return "p = 1 should keep every token."
    if _kept(student(logits.clone(), 1e-9)).sum(-1).tolist() != [1, 1]:
        return "a tiny p should keep exactly the most probable token of each row."
    return None


def nucleus_by_scatter(logits, p):
    ordered, order = logits.double().softmax(-1).sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered  # the mass in front of each token
    kept = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before < p)  # back to the order of ids
    return logits.masked_fill(~kept, float("-inf")) if p < 1 else logits.clone()


def nucleus_by_walking(logits, p):
    result = torch.full_like(logits, -math.inf)
    flat, out = logits.reshape(-1, logits.size(-1)), result.view(-1, logits.size(-1))
    for row, row_out in zip(flat, out, strict=True):
        probabilities, mass = row.double().softmax(-1).tolist(), 0.0
        for i in sorted(range(len(probabilities)), key=lambda i: (-probabilities[i], i)):
            row_out[i] = row[i]
            mass += probabilities[i]
            if mass >= p and p < 1:
                break
    return result


def _with_kept(logits, p, rule):
    """A wrong answer: rule(mass up to and with each token, mass before it) in descending order."""
    ordered, order = logits.double().softmax(-1).sort(dim=-1, descending=True, stable=True)
    up_to = ordered.cumsum(-1)
    kept = rule(up_to, up_to - ordered)
    return logits.masked_fill(~torch.zeros_like(kept).scatter(-1, order, kept), NEVER)


def nucleus_dropping_the_border(logits, p):
    return _with_kept(logits, p, lambda up_to, before: (up_to <= p) | (before == 0))


def nucleus_perhaps_empty(logits, p):
    return _with_kept(logits, p, lambda up_to, before: up_to <= p)


def nucleus_one_too_many(logits, p):
    def rule(up_to, before):
        kept = before < p
        return torch.cat([torch.ones_like(kept[..., :1]), kept[..., :-1]], dim=-1)

    return _with_kept(logits, p, rule)


def nucleus_exceeding(logits, p):
    return _with_kept(logits, p, lambda up_to, before: before <= p)


def nucleus_ascending(logits, p):
    ordered, order = logits.double().softmax(-1).sort(dim=-1, stable=True)
    kept = ordered.cumsum(-1) - ordered < p
    return logits.masked_fill(~torch.zeros_like(kept).scatter(-1, order, kept), NEVER)


def nucleus_unsorted(logits, p):
    probabilities = logits.double().softmax(-1)
    return logits.masked_fill(probabilities.cumsum(-1) - probabilities >= p, NEVER)


def nucleus_not_mapped_back(logits, p):
    ordered = logits.double().softmax(-1).sort(dim=-1, descending=True).values
    return logits.masked_fill(ordered.cumsum(-1) - ordered >= p, NEVER)


def nucleus_left_sorted(logits, p):
    ordered = logits.sort(dim=-1, descending=True).values
    probabilities = ordered.double().softmax(-1)
    return ordered.masked_fill(probabilities.cumsum(-1) - probabilities >= p, NEVER)


def nucleus_by_threshold(logits, p):
    return logits.masked_fill(logits.softmax(-1) < 1 - p, NEVER)


def nucleus_at_least_p(logits, p):
    return logits.masked_fill(logits.softmax(-1) < p, NEVER)


def nucleus_over_everything(logits, p):
    return nucleus_by_scatter(logits.flatten(), p).view(logits.shape)


nucleus_filter = Exercise(
    name="top_k_and_nucleus.nucleus_filter",
    check=check_nucleus_filter,
    hint_text=(
        "Sort the probabilities (descending, stable) and keep the sorted ids. cumsum minus the probability itself is "
        "the mass before each token; it must be < p. That mask is in sorted order: scatter it back to the ids, then "
        "masked_fill. Sum in float64, and treat p = 1 by itself: rounding may make the mass before the last token 1."
    ),
    right=(nucleus_by_scatter, nucleus_by_walking),
    wrong=(
        Wrong(nucleus_dropping_the_border, says="boundary token is missing"),
        Wrong(nucleus_perhaps_empty, says="kept no token at all"),
        Wrong(nucleus_one_too_many, says="one token too many"),
        Wrong(nucleus_exceeding, says="exceeds p"),
        Wrong(nucleus_ascending, says="least probable"),
        Wrong(nucleus_unsorted, says="in the order of the ids"),
        Wrong(nucleus_not_mapped_back, says="map it back"),
        Wrong(nucleus_left_sorted, says="map the result back"),
        Wrong(nucleus_by_threshold, says="with 1 - p"),
        Wrong(nucleus_at_least_p, says="with p; it is the cumulative mass"),
        Wrong(nucleus_over_everything, says="rows were taken together"),
    ),
)

# ---------------------------------------------------------------------------------------------------- min_p_filter


def check_min_p_filter(student):
    g = torch.Generator().manual_seed(12)
    tensors = [2 * torch.randn(shape, generator=g) + 3 for shape in ((8,), (3, 9), (2, 2, 7))]
    cases, kept = [(logits, p) for logits in tensors for p in (0.05, 0.3, 0.7)], []
    for logits, p in cases:
        given = logits.clone()
        answer = student(given, p)
        problem = _form_problem(answer, given, logits)
        if problem:
            return problem
        kept.append(_kept(answer))
    for (logits, p), mine in zip(cases, kept, strict=True):
        expected = _kept(min_p_by_logits(logits, p))
        if not torch.equal(mine, expected):
            sizes, yours = expected.sum(-1).flatten().tolist(), mine.sum(-1).flatten().tolist()
            return _min_p_diagnosis(cases, kept) or f"with p = {p} keep {sizes} tokens of the rows; you kept {yours}."
    border = _POWERS.log()
    if not torch.equal(_kept(student(border.clone(), 0.49)), _POWERS >= 0.245):
        return "of .5, .25, .125, .125 with p = .49 the tokens of .5 and .25 stay."
    one = _kept(student(torch.tensor([1.0, 4.0, 4.0, 0.0]), 1.0)).tolist()
    if one != [False, True, True, False]:
        return f"p = 1 keeps all tokens as probable as the best, equals included; of [1, 4, 4, 0] you kept {one}."
    return None


def _min_p_diagnosis(cases, kept):
    """The known mistake that explains every answer, if there is one."""
    known = (
        (
            min_p_over_everything,
            "you took the maximum over all rows; each row has its own best token (dim=-1, keepdim=True).",
        ),
        (min_p_absolute, "you compared with p itself; compare with p times the largest probability of the row."),
        (
            min_p_of_logits,
            "you compared logits with p times the largest logit; a ratio of probabilities is a difference of logits.",
        ),
        (min_p_without_log, "you compared a difference of logits with p; it is the log of a ratio, so use log(p)."),
        (
            min_p_nucleus,
            "that is top-p, the nucleus; min-p compares each token with the best one, without a cumulative sum.",
        ),
        (min_p_reversed, "the comparison is the wrong way round: you kept the tail."),
    )
    for mistake, words in known:
        if all(torch.equal(mine, _kept(mistake(*case))) for case, mine in zip(cases, kept, strict=True)):
            return words
    return None


def min_p_by_logits(logits, p):
    below_best = logits - logits.amax(dim=-1, keepdim=True)  # log of the ratio to the best token
    return logits.masked_fill(below_best < math.log(p), float("-inf"))


def min_p_by_probabilities(logits, p):
    probabilities = logits.softmax(dim=-1)
    kept = probabilities >= p * probabilities.max(dim=-1, keepdim=True).values
    return torch.where(kept, logits, torch.full_like(logits, -torch.inf))


def min_p_absolute(logits, p):
    return logits.masked_fill(logits.softmax(-1) < p, NEVER)


def min_p_of_logits(logits, p):
    return logits.masked_fill(logits < p * logits.amax(-1, keepdim=True), NEVER)


def min_p_without_log(logits, p):
    return logits.masked_fill(logits - logits.amax(-1, keepdim=True) < -p, NEVER)


def min_p_over_everything(logits, p):
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < p * probabilities.max(), NEVER)


def min_p_nucleus(logits, p):
    return nucleus_by_scatter(logits, p)


def min_p_reversed(logits, p):
    return logits.masked_fill(_kept(min_p_by_logits(logits, p)), NEVER)


min_p_filter = Exercise(
    name="top_k_and_nucleus.min_p_filter",
    check=check_min_p_filter,
    hint_text=(
        "P(v) >= p * max P is a statement on the ratio P(v) / max P, and a ratio of probabilities is a difference of "
        "logits: compare logits - logits.amax(-1, keepdim=True) with log(p)."
    ),
    right=(min_p_by_logits, min_p_by_probabilities),
    wrong=(
        Wrong(min_p_absolute, says="compared with p itself"),
        Wrong(min_p_of_logits, says="difference of logits"),
        Wrong(min_p_without_log, says="use log(p)"),
        Wrong(min_p_over_everything, says="over all rows"),
        Wrong(min_p_nucleus, says="that is top-p"),
        Wrong(min_p_reversed, says="wrong way round"),
    ),
)
