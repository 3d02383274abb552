"""Checks of notebook 01: the log-probability of a text, a bigram table by counting, Witten and Bell's smoothing."""

from __future__ import annotations

import math
from collections import Counter

import torch
from torch import Tensor

from arlab.exercises.exercise import Exercise, Wrong, as_tensor, close, shape_problem
from arlab.worlds import TreeLM

# -------------------------------------------------------------------------------------------------- text_logprob


class _Raw:
    """A tree whose logits are no log-probabilities: a number is added at each position, which a softmax takes off."""

    context_length = None

    def __init__(self, tree: TreeLM):
        self.tree, self.vocab_size, self.bos_id = tree, tree.vocab_size, tree.bos_id

    def __call__(self, ids: Tensor, cache=None) -> Tensor:
        return self.tree(ids) + 1.5 + torch.arange(ids.size(1))[:, None]

    def new_cache(self, rows: int, capacity: int):
        return self.tree.new_cache(rows, capacity)


def _trees() -> list[_Raw]:
    return [_Raw(TreeLM.random(4, 4, torch.Generator().manual_seed(seed), sharp=2.0)) for seed in (0, 1)]


def _check_text_logprob(student) -> str | None:
    for model in _trees():
        for ids in ([2, 0, 3, 1], [1, 1, 2], [3]):
            answer = _number(student(model, list(ids)))
            if answer is None:
                return "the result should be one number for the whole text, not one for each token."
            expected = model.tree.logprob(ids)
            if abs(answer - expected) < 1e-4:
                continue
            for mistake, words in _TEXT_MISTAKES:
                if len(ids) > 1 and math.isclose(answer, float(mistake(model, ids)), rel_tol=1e-5):
                    return words
            if len(ids) > 1:
                return f"for the ids {ids} of a small world log p should be {expected:.4f}; yours is {answer:.4f}."
            return f"a text of a single token has log p(token | start) = {expected:.4f}; yours is {answer:.4f}."
    long = _number(student(TreeLM({}, max_length=200, default=[0.001, 0.999]), [0] * 200))
    expected = 200 * math.log(0.001)
    if long is None or not math.isfinite(long):
        return "200 tokens of probability .001 gave no finite number: the product underflowed before the logarithm."
    if abs(long - expected) > 0.1:
        return f"200 tokens of probability .001 should give {expected:.2f}; yours is {long:.2f}."
    return None


def _number(answer) -> float | None:
    answer = as_tensor(float(answer) if isinstance(answer, (int, float)) else answer)
    return float(answer) if isinstance(answer, Tensor) and answer.numel() == 1 else None


def _by_gather(model, ids):
    read = torch.tensor([[model.bos_id, *ids[:-1]]])  # row t has read the start symbol and ids[:t] ...
    logp = model(read)[0].log_softmax(dim=-1)
    return logp[torch.arange(len(ids)), torch.tensor(ids)].sum()  # ... and predicts ids[t]


def _token_by_token(model, ids):
    total, read = 0.0, [model.bos_id]
    for token in ids:
        logits = model(torch.tensor([read]))[0, -1]
        total += float(logits[token] - logits.logsumexp(dim=-1))
        read.append(token)
    return total


def _logits_summed(model, ids):
    return model(torch.tensor([[model.bos_id, *ids[:-1]]]))[0, torch.arange(len(ids)), torch.tensor(ids)].sum()


def _own_row(model, ids):
    """Reads token t from the row that has read it already."""
    logp = model(torch.tensor([ids]))[0].log_softmax(dim=-1)
    return logp[torch.arange(len(ids)), torch.tensor(ids)].sum()


def _first_left_out(model, ids):
    logp = model(torch.tensor([ids]))[0].log_softmax(dim=-1)
    return logp[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].sum()


def _last_only(model, ids):
    return model(torch.tensor([[model.bos_id, *ids[:-1]]]))[0, -1].log_softmax(dim=-1)[ids[-1]]


def _product(model, ids):
    p = model(torch.tensor([[model.bos_id, *ids[:-1]]]))[0].softmax(dim=-1)
    return p[torch.arange(len(ids)), torch.tensor(ids)].prod()


_TEXT_MISTAKES = (
    (_logits_summed, "you added up raw logits; they become log-probabilities by log_softmax over the vocabulary."),
    (_own_row, "you are one position off: row t has read token t already and predicts token t + 1."),
    (_first_left_out, "the first token is missing: feed the start symbol in front, and its row predicts that token."),
    (_last_only, "you used the last position alone; the chain rule has one factor for each token of the text."),
    (_product, "that is the probability itself; its logarithm was asked for."),
    (lambda m, i: -_by_gather(m, i), "the sign is turned round: a log-probability is at most 0."),
    (
        lambda m, i: _by_gather(m, i) / len(i),
        "you took the mean over the tokens; log p of the whole text is their sum.",
    ),
    (lambda m, i: _by_gather(m, i) / math.log(2), "that is in bits, from a log2; log p is the natural logarithm."),
)

text_logprob = Exercise(
    name="autoregression.text_logprob",
    check=_check_text_logprob,
    hint_text="Feed the start symbol and all ids but the last one. Row t of the logits then predicts ids[t]: take "
    "log_softmax over the vocabulary, pick one entry in each row, and add them up.",
    right=(_by_gather, _token_by_token),
    wrong=(
        Wrong(_logits_summed, says="raw logits"),
        Wrong(_own_row, says="one position off"),
        Wrong(_first_left_out, says="first token is missing"),
        Wrong(_last_only, says="last position alone"),
        Wrong(_product, says="the probability itself"),
        Wrong(lambda m, i: _product(m, i).log(), says="underflowed"),
        Wrong(lambda m, i: -_by_gather(m, i), says="sign"),
        Wrong(lambda m, i: _by_gather(m, i) / len(i), says="mean over the tokens"),
        Wrong(lambda m, i: _by_gather(m, i) / math.log(2), says="in bits"),
        Wrong(lambda m, i: m(torch.tensor([[m.bos_id, *i[:-1]]]))[0].log_softmax(-1)[:, i[0]], says="one number"),
    ),
)

# -------------------------------------------------------------------------------------------------- bigram_table

_STREAMS = (([0, 1, 0, 1, 0, 2, 0, 1], 3), ([2, 2, 1, 3, 2, 1, 1, 2, 3, 3, 1], 5), ([1, 0], 2))


def _check_bigram_table(student) -> str | None:
    for ids, vocab_size in _STREAMS:
        ids = torch.tensor(ids)
        answer = as_tensor(student(ids.clone(), vocab_size))
        expected = _by_bincount(ids, vocab_size)
        if problem := shape_problem(answer, expected):
            return problem
        answer = answer.double()
        if close(answer, expected):
            continue
        if answer.isnan().any():
            return "there are NaN in it: a token that nothing ever followed gives 0 / 0. Make such a row uniform."
        for mistake, words in _TABLE_MISTAKES:
            if close(answer, mistake(ids, vocab_size).nan_to_num(nan=1 / vocab_size)):
                return words
        if not torch.allclose(answer.sum(dim=-1), torch.ones(vocab_size).double(), atol=1e-4):
            return f"each row is a distribution and should sum to 1; yours sum to {_rounded(answer.sum(-1))}."
        row = int((answer - expected).abs().amax(dim=-1).argmax())
        wanted, got = _rounded(expected[row]), _rounded(answer[row])
        return f"for the ids {ids.tolist()} row {row} should be {wanted}; yours is {got}."
    return None


def _rounded(values) -> list[float]:
    return [round(float(v), 3) for v in values]


def _pair_counts(ids, vocab_size):
    counts = torch.zeros(vocab_size, vocab_size, dtype=torch.float64)
    ones = torch.ones(len(ids) - 1, dtype=torch.float64)
    return counts.index_put_((ids[:-1], ids[1:]), ones, accumulate=True)


def _by_bincount(ids, vocab_size):
    pairs = ids[:-1] * vocab_size + ids[1:]  # each pair has a number of its own
    counts = torch.bincount(pairs, minlength=vocab_size**2).view(vocab_size, vocab_size).double()
    totals = counts.sum(dim=1, keepdim=True)  # how often each token was followed by anything
    return torch.where(totals > 0, counts / totals.clamp(min=1), 1 / vocab_size)


def _by_dictionary(ids, vocab_size):
    ids = ids.tolist()
    followed = [Counter() for _ in range(vocab_size)]
    for first, second in zip(ids[:-1], ids[1:], strict=True):
        followed[first][second] += 1
    rows = [[c[b] / c.total() if c else 1 / vocab_size for b in range(vocab_size)] for c in followed]
    return torch.tensor(rows)


def _uncounted(ids, vocab_size):
    """Indexed assignment writes each pair once, however often it occurs."""
    counts = torch.zeros(vocab_size, vocab_size, dtype=torch.float64)
    counts[ids[:-1], ids[1:]] += 1
    return counts / counts.sum(1, keepdim=True)


def _over_occurrences(ids, vocab_size):
    return _pair_counts(ids, vocab_size) / torch.bincount(ids, minlength=vocab_size)[:, None]


def _wrapped(ids, vocab_size):
    return _by_bincount(torch.cat([ids, ids[:1]]), vocab_size)


def _plus_one(ids, vocab_size):
    counts = _pair_counts(ids, vocab_size) + 1
    return counts / counts.sum(1, keepdim=True)


def _no_guard(ids, vocab_size):
    counts = _pair_counts(ids, vocab_size)
    return counts / counts.sum(1, keepdim=True)


_TABLE_MISTAKES = (
    (
        lambda i, v: _by_bincount(i.flip(0), v),
        "it looks backwards: row a should be what FOLLOWS a, not what precedes it.",
    ),
    (lambda i, v: _by_bincount(i, v).T, "it is transposed: rows are the first token, columns the next one."),
    (
        lambda i, v: _pair_counts(i, v) / (len(i) - 1),
        "you divided by all pairs, which gives p(a, b); divide row by row.",
    ),
    (lambda i, v: _pair_counts(i, v), "these are the counts; each row still has to be divided by its sum."),
    (
        lambda i, v: _pair_counts(i, v) / _pair_counts(i, v).sum(0, keepdim=True),
        "you normalised the columns; p(next | a) sums to 1 over the next token, along a row.",
    ),
    (
        _uncounted,
        "a pair that occurs often was counted once: indexed += does not accumulate; index_put_ and bincount do.",
    ),
    (
        _over_occurrences,
        "you divided by how often the token occurs; its last occurrence ends the text and is followed by nothing.",
    ),
    (_wrapped, "it wraps round: the last token is not followed by the first one."),
    (_plus_one, "one was added to every count; maximum likelihood takes the counts as they are."),
)

bigram_table = Exercise(
    name="autoregression.bigram_table",
    check=_check_bigram_table,
    hint_text="ids[:-1] are the first tokens of all pairs and ids[1:] the second ones; ids[:-1] * vocab_size + ids[1:] "
    "gives every kind of pair a number of its own, which torch.bincount counts. Then divide each row by its sum.",
    right=(_by_bincount, _by_dictionary),
    wrong=(
        Wrong(lambda i, v: _by_bincount(i.flip(0), v), says="backwards"),
        Wrong(lambda i, v: _by_bincount(i, v).T, says="transposed"),
        Wrong(lambda i, v: _pair_counts(i, v) / (len(i) - 1), says="divided by all pairs"),
        Wrong(_pair_counts, says="these are the counts"),
        Wrong(
            lambda i, v: _pair_counts(i, v) / _pair_counts(i, v).sum(0, keepdim=True).clamp(min=1),
            says="normalised the columns",
        ),
        Wrong(lambda i, v: _uncounted(i, v).nan_to_num(nan=1 / v), says="does not accumulate"),
        Wrong(lambda i, v: _over_occurrences(i, v).nan_to_num(nan=1 / v), says="ends the text"),
        Wrong(_wrapped, says="wraps round"),
        Wrong(_plus_one, says="one was added"),
        Wrong(_no_guard, says="NaN"),
        Wrong(lambda i, v: _by_bincount(i, v)[i], says="shape"),
    ),
)

# --------------------------------------------------------------------------------------------------- witten_bell


def _check_witten_bell(student) -> str | None:
    shorter = torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=torch.float64)
    cases = [
        (torch.tensor([5.0, 1.0, 0.0, 0.0], dtype=torch.float64), shorter),
        (torch.tensor([0.0, 0.0, 7.0, 0.0], dtype=torch.float64), shorter),
        (torch.zeros(4, dtype=torch.float64), shorter),
        (torch.tensor([[2.0, 2.0, 1.0], [0.0, 0.0, 0.0], [0.0, 9.0, 0.0]], dtype=torch.float64), _ROWS),
    ]
    for counts, below in cases:
        answer = as_tensor(student(counts.clone(), below.clone()))
        expected = _mixture(counts, below)
        if problem := shape_problem(answer, expected, f"the result for counts of shape {tuple(counts.shape)}"):
            return problem
        if answer.isnan().any():
            return "NaN for a context that never occurred: its counts are all 0, and `shorter` is all there is."
        if close(answer, expected):
            continue
        for mistake, words in _SMOOTHING_MISTAKES:
            if close(answer, mistake(counts, below).nan_to_num(nan=-1.0)):
                return words
        if not torch.allclose(answer.double().sum(-1), torch.ones(()).double(), atol=1e-4):
            return f"the probabilities sum to {_rounded(answer.double().sum(-1).flatten())}, not to 1."
        wanted, got = _rounded(expected.flatten()), _rounded(answer.flatten())
        return f"for counts {counts.tolist()} it should be {wanted}; yours is {got}."
    return None


_ROWS = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [0.25, 0.5, 0.25]], dtype=torch.float64)


def _mixture(counts, shorter):
    total = counts.sum(dim=-1, keepdim=True)  # tokens that followed this context
    types = (counts > 0).sum(dim=-1, keepdim=True)  # different ones among them
    p = (counts + types * shorter) / (total + types).clamp(min=1)
    return torch.where(total > 0, p, shorter)


def _interpolated(counts, shorter):
    total, types = counts.sum(-1, keepdim=True), counts.count_nonzero(dim=-1)[..., None]
    new = torch.where(total > 0, types / (types + total).clamp(min=1), 1.0)  # the share left for the shorter context
    return new * shorter + (1 - new) * counts / total.clamp(min=1)


def _parts(counts):
    return counts.sum(-1, keepdim=True), (counts > 0).sum(-1, keepdim=True).double()


def _swapped(counts, shorter):
    total, types = _parts(counts)
    return torch.where(total > 0, (counts / total.clamp(min=1) * types + total * shorter) / (total + types), shorter)


def _no_guard_wb(counts, shorter):
    total, types = _parts(counts)
    return (counts + types * shorter) / (total + types)


def _uniform(counts, shorter):
    total, types = _parts(counts)
    p = (counts + types / counts.size(-1)) / (total + types).clamp(min=1)
    return torch.where(total > 0, p, shorter)


def _total_only(counts, shorter):
    total, types = _parts(counts)
    return torch.where(total > 0, (counts + types * shorter) / total.clamp(min=1), shorter)


def _fill_the_gaps(counts, shorter):
    total, _ = _parts(counts)
    return torch.where(counts > 0, counts / total.clamp(min=1), shorter)


def _half_and_half(counts, shorter):
    total, _ = _parts(counts)
    return torch.where(total > 0, 0.5 * counts / total.clamp(min=1) + 0.5 * shorter, shorter)


def _vocabulary_for_types(counts, shorter):
    total, vocab = counts.sum(-1, keepdim=True), counts.size(-1)
    return (counts + vocab * shorter) / (total + vocab)


def _whole_tensor(counts, shorter):
    total, types = counts.sum(), (counts > 0).sum()
    return torch.where(total > 0, (counts + types * shorter) / (total + types).clamp(min=1), shorter)


_SMOOTHING_MISTAKES = (
    (_swapped, "the weights are swapped: the counts weigh `total`, the shorter context weighs `types`."),
    (_uniform, "you mixed with the uniform distribution; `shorter` is what the shorter context says."),
    (_total_only, "the denominator is too small: total + types, or the rows sum to more than 1."),
    (
        _fill_the_gaps,
        "you used `shorter` only where the count is 0, so the row sums to more than 1; all counts must give up mass.",
    ),
    (_half_and_half, "the two are mixed half and half; the weight of `shorter` is types / (total + types)."),
    (
        _vocabulary_for_types,
        "`types` is the number of DIFFERENT tokens that were seen here, not the vocabulary's size.",
    ),
    (_whole_tensor, "total and types were taken over the whole tensor; every row is a context with its own."),
    (lambda c, s: c / c.sum(-1, keepdim=True), "these are the relative frequencies; the shorter context has no say."),
)

witten_bell = Exercise(
    name="autoregression.witten_bell",
    check=_check_witten_bell,
    hint_text="total = counts.sum(-1, keepdim=True) and types = (counts > 0).sum(-1, keepdim=True). The formula is "
    "then one line; only a context with total 0 needs care.",
    right=(_mixture, _interpolated),
    wrong=(
        Wrong(_swapped, says="weights are swapped"),
        Wrong(_no_guard_wb, says="never occurred"),
        Wrong(_uniform, says="uniform"),
        Wrong(_total_only, says="denominator"),
        Wrong(_fill_the_gaps, says="only where the count is 0"),
        Wrong(_half_and_half, says="half and half"),
        Wrong(_vocabulary_for_types, says="not the vocabulary's size"),
        Wrong(_whole_tensor, says="whole tensor"),
        Wrong(lambda c, s: c / c.sum(-1, keepdim=True), says="relative frequencies"),
    ),
)
