"""Exercises of notebook 15: one context for a whole source, a new one at every step, the probability of a target."""

from __future__ import annotations

import math

import torch

from arlab.exercises.exercise import Exercise, Wrong, as_tensor, close, shape_problem


def _mistake(answers, cases, known):
    """The words of the first known mistake that explains all the answers; None when none does."""
    for mistake, words in known:
        if all(_equal(answer, mistake(*case)) for answer, case in zip(answers, cases, strict=True)):
            return words
    return None


def _equal(answer, expected) -> bool:
    if isinstance(expected, tuple):
        return all(map(close, answer, map(as_tensor, expected)))
    return close(as_tensor(answer), as_tensor(expected))


def _stacked(answer):
    """A list of row tensors is as good as one tensor, as nested lists are; anything else stays what it is."""
    if isinstance(answer, (list, tuple)) and answer and all(isinstance(row, torch.Tensor) for row in answer):
        if len({row.shape for row in answer}) == 1:
            return torch.stack(list(answer))
    return as_tensor(answer)


def _sources(seed: int = 15):
    """(h, lengths): a full batch, ragged ones, a batch of one; what lies behind a source's end is no zero."""
    g = torch.Generator().manual_seed(seed)
    for lengths, width in (([4, 4], 3), ([5, 2, 3], 4), ([1, 6], 4), ([3], 2)):
        yield torch.randn(len(lengths), max(lengths), width, generator=g), torch.tensor(lengths)


# ------------------------------------------------------------------------------------------------- fixed_context


def check_fixed_context(student):
    cases = [(h, lengths, kind) for h, lengths in _sources() for kind in ("last", "mean")]
    answers = [_stacked(student(h.clone(), lengths.clone(), kind)) for h, lengths, kind in cases]
    expected = [context_by_mask(*case) for case in cases]
    for answer, right, (h, _, kind) in zip(answers, expected, cases, strict=True):
        if isinstance(answer, torch.Tensor) and answer.shape == (len(h), *right.shape) and len(h) > 1:
            return "every row at every row's length, (rows, rows, d): index the rows as well, with torch.arange(rows)."
        problem = shape_problem(answer, right, f"the {kind} context of h {tuple(h.shape)}")
        if problem:
            return problem
    if all(map(close, answers, expected)):
        return None
    for kind, known in (("last", _LAST_MISTAKES), ("mean", _MEAN_MISTAKES)):
        own = [n for n, case in enumerate(cases) if case[2] == kind]
        if all(close(answers[n], expected[n]) for n in own):
            continue
        return _mistake([answers[n] for n in own], [cases[n] for n in own], known) or _plainly(
            cases, answers, expected, own
        )
    return None


def _plainly(cases, answers, expected, own):
    n = next(n for n in own if not close(answers[n], expected[n]))
    (_, lengths, kind), row = cases[n], int((answers[n] - expected[n]).abs().amax(1).argmax())
    return (
        f"for lengths {lengths.tolist()} the {kind!r} context of row {row} should be "
        f"{[round(v, 4) for v in expected[n][row].tolist()]}; yours is "
        f"{[round(v, 4) for v in answers[n][row].tolist()]}."
    )


def context_by_mask(h, lengths, kind):
    if kind == "last":
        return h[torch.arange(len(h)), lengths - 1]  # of each row its own last real state
    real = torch.arange(h.size(1)) < lengths[:, None]  # (rows, time)
    return (h * real[..., None]).sum(1) / lengths[:, None]


def context_row_by_row(h, lengths, kind):
    rows = [states[:n] for states, n in zip(h, lengths.tolist(), strict=True)]
    return torch.stack([row[-1] if kind == "last" else row.mean(0) for row in rows])


def context_of_padding(h, lengths, kind):
    return h[:, -1] if kind == "last" else context_by_mask(h, lengths, kind)


def context_one_too_far(h, lengths, kind):
    rows, ends = torch.arange(len(h)), lengths.clamp(max=h.size(1) - 1)
    return h[rows, ends] if kind == "last" else context_by_mask(h, lengths, kind)


def context_one_too_early(h, lengths, kind):
    return h[torch.arange(len(h)), lengths - 2] if kind == "last" else context_by_mask(h, lengths, kind)


def context_from_the_end(h, lengths, kind):
    return h[torch.arange(len(h)), -lengths] if kind == "last" else context_by_mask(h, lengths, kind)


def context_without_rows(h, lengths, kind):
    return h[:, lengths - 1] if kind == "last" else context_by_mask(h, lengths, kind)


def context_first(h, lengths, kind):
    return h[:, 0] if kind == "last" else context_by_mask(h, lengths, kind)


def context_mean_of_all(h, lengths, kind):
    return h.mean(1) if kind == "mean" else context_by_mask(h, lengths, kind)


def context_mean_one_too_far(h, lengths, kind):
    return context_by_mask(h, (lengths + 1).clamp(max=h.size(1)), "mean") if kind == "mean" else _last(h, lengths)


def context_mean_without_the_last(h, lengths, kind):
    return context_by_mask(h, (lengths - 1).clamp(min=1), "mean") if kind == "mean" else _last(h, lengths)


def context_greatest(h, lengths, kind):
    greatest = [states[:n].amax(0) for states, n in zip(h, lengths.tolist(), strict=True)]
    return torch.stack(greatest) if kind == "mean" else _last(h, lengths)


def context_divided_by_time(h, lengths, kind):
    return context_by_mask(h, lengths, "mean") * lengths[:, None] / h.size(1) if kind == "mean" else _last(h, lengths)


def context_padding_in_the_sum(h, lengths, kind):
    return h.sum(1) / lengths[:, None] if kind == "mean" else _last(h, lengths)


def context_sum(h, lengths, kind):
    return context_by_mask(h, lengths, "mean") * lengths[:, None] if kind == "mean" else _last(h, lengths)


def context_always_last(h, lengths, kind):
    return _last(h, lengths)


def context_always_mean(h, lengths, kind):
    return context_by_mask(h, lengths, "mean")


def _last(h, lengths):
    return context_by_mask(h, lengths, "last")


_LAST_MISTAKES = (
    (context_of_padding, "h[:, -1] is padding for a short source: take state lengths - 1 of each row."),
    (context_one_too_far, "one place too far: the last of n states has the index n - 1."),
    (context_one_too_early, "one place too early: that is the state before the last one; the last has index n - 1."),
    (context_from_the_end, "-lengths counts from the end of the row, padding included: count from its beginning."),
    (context_first, "that is the first state; it has read one token only. The last one has read them all."),
    (context_always_mean, "kind='last' asks for the last real state of each row, not for the mean."),
)
_MEAN_MISTAKES = (
    (context_mean_of_all, "the mean runs over the padding too: leave it out of the sum and of the number."),
    (context_mean_one_too_far, "one state of padding is in the mean: of n states the real ones are 0 to n - 1."),
    (context_mean_without_the_last, "the last real state is missing from the mean."),
    (context_greatest, "that is the greatest value of each component; asked for is their mean."),
    (context_divided_by_time, "divide by each source's own length, not by the width of the batch."),
    (context_padding_in_the_sum, "the padding is in the sum, though not in the number you divide by: mask it out."),
    (context_sum, "that is the sum; divide it by each source's length."),
    (context_always_last, "kind='mean' asks for the mean of the real states."),
)

fixed_context = Exercise(
    name="encoder_decoder.fixed_context",
    check=check_fixed_context,
    hint_text=(
        "For 'last', index with two tensors: rows 0, 1, ... and, for each, lengths - 1. For 'mean', build a mask of "
        "shape (rows, time) with torch.arange(time) < lengths[:, None], multiply, sum over time, divide by the lengths."
    ),
    right=(context_by_mask, context_row_by_row),
    wrong=(
        Wrong(context_of_padding, says="is padding for a short source"),
        Wrong(context_one_too_far, says="one place too far"),
        Wrong(context_one_too_early, says="one place too early"),
        Wrong(context_from_the_end, says="from the end of the row"),
        Wrong(context_without_rows, says="index the rows as well"),
        Wrong(context_first, says="the first state"),
        Wrong(context_mean_of_all, says="over the padding too"),
        Wrong(context_mean_one_too_far, says="one state of padding"),
        Wrong(context_mean_without_the_last, says="is missing from the mean"),
        Wrong(context_greatest, says="the greatest value"),
        Wrong(context_divided_by_time, says="each source's own length"),
        Wrong(context_padding_in_the_sum, says="mask it out"),
        Wrong(context_sum, says="that is the sum"),
        Wrong(context_always_last, says="the mean of the real states"),
        Wrong(context_always_mean, says="not for the mean"),
    ),
)

# ------------------------------------------------------------------------------------------------- attention_step

_BOTH = "return two tensors: the context c (rows, d) and the weights alpha (rows, source_time)."


def check_attention_step(student):
    g = torch.Generator().manual_seed(16)
    cases = [(2 * torch.randn(len(h), h.size(2), generator=g), h, lengths) for h, lengths in _sources(17) if len(h) > 1]
    cases.append((torch.tensor([[60.0, 0.0]]), torch.tensor([[[3.0, 1.0], [-2.0, 5.0]]]), torch.tensor([2])))  # sharp
    answers = []
    for s, h, lengths in cases:
        answer = student(s.clone(), h.clone(), lengths.clone())
        if not isinstance(answer, (tuple, list)) or len(answer) != 2:
            return _BOTH
        answers.append(tuple(map(_stacked, answer)))
    expected = [step_by_product(*case) for case in cases]
    if all(map(_equal, answers, expected)):
        return None
    for (c, weights), (right_c, right_weights) in zip(answers, expected, strict=True):
        if (
            isinstance(c, torch.Tensor)
            and c.shape == right_weights.shape != right_c.shape
            and _equal((weights, c), (right_c, right_weights))
        ):
            return "the context comes first, then the weights."
        problem = shape_problem(weights, right_weights, "alpha") or shape_problem(c, right_c, "the context c")
        if problem:
            return problem
    words = _mistake(answers, cases, _STEP_MISTAKES)
    if words:
        return words
    if all(close(weights.exp(), right) for (_, weights), (_, right) in zip(answers, expected, strict=True)):
        return "those are logarithms of the weights: take softmax, not log_softmax."
    if not all(bool(weights.isfinite().all()) for _, weights in answers):
        return "there are weights that are not finite numbers: let torch.softmax do it, which cannot overflow."
    if all(close(weights, right) for (_, weights), (_, right) in zip(answers, expected, strict=True)):
        return "the weights are right, the context is not: c = sum_i alpha_i h_i, over the source positions."
    if any((weights.sum(-1) - 1).abs().max() > 1e-4 for _, weights in answers):
        return "each row of weights should sum to 1 over the source positions."
    return "the weights are not the softmax of the scores s . h_i / sqrt(d) over the real source positions."


def step_by_product(s, h, lengths):
    scores = (h @ s[..., None])[..., 0] / math.sqrt(s.size(-1))  # (rows, source_time)
    padding = torch.arange(h.size(1)) >= lengths[:, None]
    weights = scores.masked_fill(padding, -math.inf).softmax(-1)
    return (weights[..., None] * h).sum(1), weights


def step_row_by_row(s, h, lengths):
    contexts, weights = [], []
    for query, states, n in zip(s, h, lengths.tolist(), strict=True):
        alpha = torch.softmax(torch.stack([query @ state for state in states[:n]]) / len(query) ** 0.5, dim=0)
        contexts.append(alpha @ states[:n])
        weights.append(torch.cat([alpha, alpha.new_zeros(len(states) - n)]))
    return torch.stack(contexts), torch.stack(weights)


def _scores(s, h):
    return torch.einsum("rd,rid->ri", s, h) / math.sqrt(s.size(-1))


def _padding(h, lengths):
    return torch.arange(h.size(1)) >= lengths[:, None]


def _weighted(weights, h):
    return torch.einsum("ri,rid->rd", weights, h), weights


def step_without_mask(s, h, lengths):
    return _weighted(_scores(s, h).softmax(-1), h)


def step_zero_scores(s, h, lengths):
    return _weighted(_scores(s, h).masked_fill(_padding(h, lengths), 0.0).softmax(-1), h)


def step_mask_afterwards(s, h, lengths):
    return _weighted(_scores(s, h).softmax(-1).masked_fill(_padding(h, lengths), 0.0), h)


def step_without_scale(s, h, lengths):
    scores = _scores(s, h) * math.sqrt(s.size(-1))
    return _weighted(scores.masked_fill(_padding(h, lengths), -math.inf).softmax(-1), h)


def step_divided_by_d(s, h, lengths):
    scores = _scores(s, h) / math.sqrt(s.size(-1))
    return _weighted(scores.masked_fill(_padding(h, lengths), -math.inf).softmax(-1), h)


def step_times_sqrt_d(s, h, lengths):
    scores = _scores(s, h) * s.size(-1)
    return _weighted(scores.masked_fill(_padding(h, lengths), -math.inf).softmax(-1), h)


def step_divided_by_sqrt_time(s, h, lengths):
    scores = _scores(s, h) * math.sqrt(s.size(-1) / h.size(1))
    return _weighted(scores.masked_fill(_padding(h, lengths), -math.inf).softmax(-1), h)


def step_by_bare_exp(s, h, lengths):
    weights = _scores(s, h).exp().masked_fill(_padding(h, lengths), 0.0)
    return _weighted(weights / weights.sum(-1, keepdim=True), h)


def step_of_logs(s, h, lengths):
    return _weighted(_scores(s, h).masked_fill(_padding(h, lengths), -math.inf).log_softmax(-1), h)


def step_divided_by_the_sum(s, h, lengths):
    scores = _scores(s, h).masked_fill(_padding(h, lengths), 0.0)
    return _weighted(scores / scores.sum(-1, keepdim=True), h)


def step_over_rows(s, h, lengths):
    return _weighted(_scores(s, h).masked_fill(_padding(h, lengths), -1e9).softmax(0), h)


def step_mask_upside_down(s, h, lengths):
    keep = _padding(h, lengths) | (lengths == h.size(1))[:, None]
    return _weighted(_scores(s, h).masked_fill(~keep, -math.inf).softmax(-1), h)


def step_one_too_few(s, h, lengths):
    return _weighted(_scores(s, h).masked_fill(_padding(h, (lengths - 1).clamp(min=1)), -math.inf).softmax(-1), h)


def step_one_too_many(s, h, lengths):
    return _weighted(_scores(s, h).masked_fill(_padding(h, lengths + 1), -math.inf).softmax(-1), h)


def step_hard(s, h, lengths):
    best = _scores(s, h).masked_fill(_padding(h, lengths), -math.inf).argmax(-1)
    return _weighted(torch.nn.functional.one_hot(best, h.size(1)).to(h.dtype), h)


def step_mean(s, h, lengths):
    return _weighted((~_padding(h, lengths)).to(h.dtype) / lengths[:, None], h)


def step_values_of_the_query(s, h, lengths):
    _, weights = step_by_product(s, h, lengths)
    return weights.sum(-1, keepdim=True) * s, weights


def step_scores_for_weights(s, h, lengths):
    return _weighted(_scores(s, h).masked_fill(_padding(h, lengths), 0.0), h)


def step_swapped(s, h, lengths):
    return step_by_product(s, h, lengths)[::-1]


_STEP_MISTAKES = (
    (step_without_mask, "the padding gets weight: put -inf into its scores before the softmax."),
    (step_zero_scores, "the padding's scores are 0, and exp(0) = 1 is weight: put -inf there."),
    (step_mask_afterwards, "you masked after the softmax, so the weights no longer sum to 1: -inf before it instead."),
    (step_without_scale, "the scores are not divided by sqrt(d)."),
    (step_divided_by_d, "the scores are divided by d; divide by its square root."),
    (step_times_sqrt_d, "the scores are multiplied by sqrt(d); divide by it."),
    (step_divided_by_sqrt_time, "the scores are divided by the root of the source's length; d is the states' width."),
    (step_divided_by_the_sum, "the scores are divided by their sum, which may be near 0; softmax takes exp first."),
    (step_over_rows, "the softmax runs over the rows of the batch; it should run over the source positions."),
    (step_mask_upside_down, "the mask is upside down: the padding gets the weight."),
    (step_one_too_few, "the last real token of each source gets no weight: positions 0 to lengths - 1 are real."),
    (step_one_too_many, "one place of padding gets weight: from position lengths on, nothing is real."),
    (step_hard, "that takes the best position alone; the softmax gives every one a share, and so a gradient."),
    (step_mean, "all positions get the same weight: the state s has no say."),
    (step_values_of_the_query, "you weighted the query; the values are the encoder's states h."),
    (step_scores_for_weights, "the scores are not weights yet: take their softmax over the source."),
)  # fmt: skip

attention_step = Exercise(
    name="encoder_decoder.attention_step",
    check=check_attention_step,
    hint_text=(
        "Scores first: for each row, the dot product of s with each h_i, (h @ s[..., None])[..., 0], divided by "
        "sqrt(d). Then -inf where torch.arange(source_time) >= lengths[:, None]; then softmax over the last axis. The "
        "context is the sum of weights[..., None] * h over the source positions."
    ),
    right=(step_by_product, step_row_by_row),
    wrong=(
        Wrong(step_without_mask, says="the padding gets weight"),
        Wrong(step_zero_scores, says="exp(0) = 1"),
        Wrong(step_mask_afterwards, says="masked after the softmax"),
        Wrong(step_without_scale, says="not divided by sqrt(d)"),
        Wrong(step_divided_by_d, says="by its square root"),
        Wrong(step_times_sqrt_d, says="multiplied by sqrt(d)"),
        Wrong(step_divided_by_sqrt_time, says="the states' width"),
        Wrong(step_by_bare_exp, says="not finite numbers"),
        Wrong(step_of_logs, says="logarithms of the weights"),
        Wrong(step_divided_by_the_sum, says="takes exp first"),
        Wrong(step_over_rows, says="over the rows of the batch"),
        Wrong(step_mask_upside_down, says="upside down"),
        Wrong(step_one_too_few, says="the last real token"),
        Wrong(step_one_too_many, says="one place of padding"),
        Wrong(step_hard, says="the best position alone"),
        Wrong(step_mean, says="the same weight"),
        Wrong(step_values_of_the_query, says="weighted the query"),
        Wrong(step_scores_for_weights, says="not weights yet"),
        Wrong(step_swapped, says="the context comes first"),
    ),
)

# ------------------------------------------------------------------------------------------------- target_logprob


def check_target_logprob(student):
    g = torch.Generator().manual_seed(18)
    cases = []
    for target, eos in (([2, 0, 1], 4), ([3], 0), ([1, 1, 2, 0, 3], 4), ([], 2)):
        cases.append((2 * torch.randn(len(target) + 1, 5, generator=g) + 1.5, target, eos))
    answers = [_number(student(logits.clone(), list(target), eos)) for logits, target, eos in cases[:3]]
    expected = [torch.tensor(logprob_by_gathering(*case)) for case in cases]
    for answer, right in zip(answers, expected, strict=False):
        if isinstance(answer, torch.Tensor) and answer.dim() > 0:
            return f"one number, please; yours has shape {tuple(answer.shape)}: add up the terms of all positions."
        problem = shape_problem(answer, right, "log p(y | x)")
        if problem:
            return problem
    if not all(map(close, answers, expected[:3])):
        logits, target, _ = cases[0]
        return _mistake(answers, cases[:3], _LOGPROB_MISTAKES) or (
            f"for the target {target} it should be {float(expected[0]):.4f}; yours is {float(answers[0]):.4f}."
        )
    try:
        empty = _number(student(cases[3][0].clone(), [], cases[3][2]))
    except NotImplementedError:
        raise
    except Exception as error:
        return f"an empty target is possible too, it is the end symbol alone: {error or 'nothing came back'}"
    if not close(empty, expected[3]):
        return "an empty target is the end symbol alone: log p(<eos> | x)."
    return None


def _number(answer):
    """A tensor with a single number in it is as good as the number."""
    answer = as_tensor(answer)
    return answer.reshape(()) if isinstance(answer, torch.Tensor) and answer.numel() == 1 else answer


def logprob_by_gathering(logits, target, eos_id):
    ids = torch.tensor([*target, eos_id])
    logp = logits.log_softmax(-1)  # row t is about token t, given those before it
    return float(logp[torch.arange(len(ids)), ids].sum())


def logprob_by_multiplying(logits, target, eos_id):
    p = 1.0
    for row, token in zip(logits.double().softmax(-1), [*target, eos_id], strict=True):
        p *= float(row[token])
    return math.log(p)


def logprob_without_the_end(logits, target, eos_id):
    return float(logits.log_softmax(-1)[range(len(target)), target].sum())


def logprob_end_in_front(logits, target, eos_id):
    return float(logits.log_softmax(-1)[range(len(target) + 1), [eos_id, *target]].sum())


def logprob_last_id(logits, target, eos_id):
    return logprob_by_gathering(logits, target, logits.size(-1) - 1)


def logprob_mean(logits, target, eos_id):
    return logprob_by_gathering(logits, target, eos_id) / (len(target) + 1)


def logprob_mean_without_the_end(logits, target, eos_id):
    return logprob_by_gathering(logits, target, eos_id) / max(len(target), 1)


def logprob_cross_entropy(logits, target, eos_id):
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor([*target, eos_id])))


def logprob_of_the_end_alone(logits, target, eos_id):
    return float(logits[-1].log_softmax(-1)[eos_id])


def logprob_multiplied(logits, target, eos_id):
    return float(logits.log_softmax(-1)[range(len(target) + 1), [*target, eos_id]].prod())


def logprob_of_the_picked(logits, target, eos_id):
    return float(logits[range(len(target) + 1), [*target, eos_id]].log_softmax(0).sum())


def logprob_first_left_out(logits, target, eos_id):
    """As if row t were about token t + 1."""
    return float(logits.log_softmax(-1)[range(len(target)), [*target, eos_id][1:]].sum())


def logprob_each(logits, target, eos_id):
    return logits.log_softmax(-1)[range(len(target) + 1), [*target, eos_id]]


def logprob_index_after_the_loop(logits, target, eos_id):
    total = 0.0
    for t, token in enumerate(target):  # noqa: B007
        total += float(logits[t].log_softmax(-1)[token])
    return total + float(logits[t + 1].log_softmax(-1)[eos_id])


def logprob_of_scores(logits, target, eos_id):
    return float(logits[range(len(target) + 1), [*target, eos_id]].sum())


def logprob_plain(logits, target, eos_id):
    return math.exp(logprob_by_gathering(logits, target, eos_id))


def logprob_summed_probabilities(logits, target, eos_id):
    return float(logits.softmax(-1)[range(len(target) + 1), [*target, eos_id]].sum())


def logprob_shifted(logits, target, eos_id):
    """As if row t were about token t - 1, as in a model whose inputs are its targets."""
    return float(logits.log_softmax(-1)[range(1, len(target) + 1), target].sum())


def logprob_greedy(logits, target, eos_id):
    return float(logits.log_softmax(-1).amax(-1).sum())


def logprob_over_time(logits, target, eos_id):
    return float(logits.log_softmax(0)[range(len(target) + 1), [*target, eos_id]].sum())


def logprob_negative(logits, target, eos_id):
    return -logprob_by_gathering(logits, target, eos_id)


def logprob_to_base_ten(logits, target, eos_id):
    return logprob_by_gathering(logits, target, eos_id) / math.log(10)


def logprob_in_bits(logits, target, eos_id):
    return logprob_by_gathering(logits, target, eos_id) / math.log(2)


_LOGPROB_MISTAKES = (
    (logprob_without_the_end, "the end symbol is missing: the model has to choose it too, or a beginning would win."),
    (logprob_end_in_front, "the end symbol comes behind the target, not in front of it: y_1 .. y_m <eos>."),
    (logprob_last_id, "the end symbol need not be the last id of the vocabulary: take eos_id."),
    (logprob_mean, "that is the mean; the probability of a whole target is the product, so add up the logs."),
    (logprob_mean_without_the_end, "you divided by m; the probability of a whole target is the product: no division."),
    (logprob_cross_entropy, "that is cross_entropy's mean of -log p: the sum is asked for, and without the minus."),
    (logprob_of_the_end_alone, "that is the end symbol alone: the target's own tokens have terms too."),
    (logprob_multiplied, "you multiplied logarithms: the probabilities are multiplied, so their logs are added."),
    (logprob_of_the_picked, "softmax comes first, over the whole vocabulary of each row; then pick the tokens."),
    (logprob_first_left_out, "one row too early: the first row, read from <bos> alone, is about y_1."),
    (logprob_of_scores, "those are logits, not log-probabilities: take log_softmax first."),
    (logprob_plain, "that is the probability; return its logarithm."),
    (logprob_summed_probabilities, "you added up probabilities; the chain rule multiplies them, so add their logs."),
    (logprob_shifted, "one row too late: row t, read from <bos> and y_1 .. y_t, is about the token that comes next."),
    (logprob_greedy, "that is the likeliest token at each step; take the target's own."),
    (logprob_over_time, "the softmax runs over the positions; it should run over the vocabulary."),
    (logprob_negative, "the sign is wrong: a log-probability is never above 0."),
    (logprob_to_base_ten, "use natural logarithms, not those to base 10."),
    (logprob_in_bits, "use natural logarithms, as in all notebooks."),
)  # fmt: skip

target_logprob = Exercise(
    name="encoder_decoder.target_logprob",
    check=check_target_logprob,
    hint_text=(
        "The decoder read <bos> y_1 .. y_m, so there are m + 1 rows, and they are about y_1 .. y_m <eos>. Make that "
        "list, take log_softmax over the vocabulary, pick from row t the entry of token t, and add up."
    ),
    right=(logprob_by_gathering, logprob_by_multiplying),
    wrong=(
        Wrong(logprob_without_the_end, says="the end symbol is missing"),
        Wrong(logprob_end_in_front, says="comes behind the target"),
        Wrong(logprob_last_id, says="take eos_id"),
        Wrong(logprob_mean, says="that is the mean"),
        Wrong(logprob_mean_without_the_end, says="divided by m"),
        Wrong(logprob_cross_entropy, says="cross_entropy's mean"),
        Wrong(logprob_of_the_end_alone, says="the end symbol alone"),
        Wrong(logprob_multiplied, says="multiplied logarithms"),
        Wrong(logprob_of_the_picked, says="softmax comes first"),
        Wrong(logprob_first_left_out, says="one row too early"),
        Wrong(logprob_each, says="add up the terms"),
        Wrong(logprob_index_after_the_loop, says="an empty target is possible"),
        Wrong(logprob_of_scores, says="those are logits"),
        Wrong(logprob_plain, says="that is the probability"),
        Wrong(logprob_summed_probabilities, says="added up probabilities"),
        Wrong(logprob_shifted, says="one row too late"),
        Wrong(logprob_greedy, says="the likeliest token"),
        Wrong(logprob_over_time, says="over the positions"),
        Wrong(logprob_negative, says="the sign is wrong"),
        Wrong(logprob_to_base_ten, says="to base 10"),
        Wrong(logprob_in_bits, says="natural logarithms"),
    ),
)
