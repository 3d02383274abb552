"""Exercises of notebook 07: loss by position, the bytes of attention maps and of the cache, the FLOPs of one token."""

from __future__ import annotations

import math
import numbers

import torch
import torch.nn.functional as F

from arlab.exercises.exercise import Exercise, Wrong, close, shape_problem
from arlab.nn import costs
from arlab.nn.decoder import DecoderConfig

# Each exercise takes the name of its first right answer, so that the solution reads as the student's own cell would.

# --------------------------------------------------------------------------------------------- loss_by_position


def loss_by_position(logits, targets):
    losses = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=-100, reduction="none")  # (rows, time)
    return losses.sum(0) / (targets != -100).sum(0)


def _loss_by_gather(logits, targets):
    counted = targets != -100
    log_p = logits.log_softmax(-1).gather(2, targets.clamp(min=0)[..., None])[..., 0]
    return torch.stack([-log_p[counted[:, t], t].mean() for t in range(targets.size(1))])


def _position_cases():
    generator = torch.Generator().manual_seed(7)
    for rows, time, vocab in ((5, 7, 11), (6, 4, 4), (1, 3, 2), (4, 1, 6)):
        logits = 2 * torch.randn(rows, time, vocab, generator=generator)
        yield logits, torch.randint(vocab, (rows, time), generator=generator)
    targets = torch.randint(11, (5, 6), generator=generator)
    targets[0, 2:] = targets[1, 4:] = targets[3, 3:] = -100  # three texts that end early
    yield 2 * torch.randn(5, 6, 11, generator=generator), targets


def _check_loss_by_position(student):
    for logits, targets in _position_cases():
        expected = loss_by_position_of(logits, targets)
        given, given_targets = logits.clone(), targets.clone()
        answer = student(given, given_targets)
        if type(answer).__name__ in ("list", "ndarray"):  # numbers in order are as good as a tensor of them
            answer = torch.as_tensor(answer)
        if isinstance(answer, float) or (isinstance(answer, torch.Tensor) and answer.dim() == 0):
            return "one number for all positions: average over the rows alone, and keep one loss for each position."
        problem = shape_problem(answer, expected, "the losses")
        if problem:
            if isinstance(answer, torch.Tensor) and answer.shape == targets.shape:
                return "a loss for every row: average over the rows, so that one is left for each position."
            if isinstance(answer, torch.Tensor) and answer.shape == (len(targets),):
                return "you averaged over time: the result has an entry for each row, and should have one a position."
            return problem
        if not (torch.equal(given, logits) and torch.equal(given_targets, targets)):
            return "your function changed its arguments; work on copies (clamp, not clamp_)."
        if not close(answer, expected, 1e-4):
            return _name_loss(answer, expected, logits, targets)
    return None


def _name_loss(answer, expected, logits, targets):
    counted = targets != -100
    if close(answer, -expected, 1e-4):
        return "the sign: this is the mean log-probability; the loss is its negative, so that 0 is best."
    if close(answer, expected / math.log(2), 1e-4):
        return "these are bits (log2); the loss is in nats (natural logarithm)."
    if close(answer, expected.exp(), 1e-4):
        return "this is the perplexity, e to the power of the loss; asked is the loss itself, in nats."
    if close(answer, expected * counted.sum(0), 1e-4):
        return "a sum over the rows: divide by how many targets count at that position."
    if not counted.all() and close(answer, expected * counted.sum(0) / len(targets), 1e-4):
        return "targets of -100 are no targets: divide by the number that counts at each position, not by all rows."
    picked = targets.clamp(min=0)[..., None]
    p = logits.softmax(-1).gather(2, picked)[..., 0]
    if close(answer, -(p * counted).sum(0).div(counted.sum(0)).log(), 1e-4):
        return "you averaged the probabilities and took the logarithm afterwards: average the losses instead."
    if close(answer, -(logits.gather(2, picked)[..., 0] * counted).sum(0) / counted.sum(0), 1e-4):
        return "these are the logits themselves: they become log-probabilities by log_softmax over the vocabulary."
    shifted = F.cross_entropy(logits[:, :-1].transpose(1, 2), targets[:, 1:], reduction="none")
    if targets.size(1) > 1 and counted.all() and close(answer[:-1], shifted.mean(0), 1e-4):
        return "you shifted once more: targets[:, t] already is the token that follows input t."
    if not counted.all():
        return "right where every target counts, but -100 marks a place without one: leave it out of the mean."
    along_time = -logits.log_softmax(1).gather(2, picked)[..., 0].mean(0)
    if close(answer, along_time, 1e-4):
        return "the softmax ran over the positions; it belongs over the vocabulary, the last dimension."
    t = next(t for t in range(len(expected)) if not close(answer[t], expected[t], 1e-4))  # the first place that is off
    return f"at position {t} the mean loss should be {expected[t].item():.4f}; yours is {answer[t].item():.4f}."


def _average_first(logits, targets):
    p = logits.softmax(-1).gather(2, targets.clamp(min=0)[..., None])[..., 0]
    counted = targets != -100
    return -((p * counted).sum(0) / counted.sum(0)).log()


def _no_softmax(logits, targets):
    counted = targets != -100
    return -(logits.gather(2, targets.clamp(min=0)[..., None])[..., 0] * counted).sum(0) / counted.sum(0)


def _each(logits, targets):
    return F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")


def _counts_pads(logits, targets):
    return -logits.log_softmax(-1).gather(2, targets.clamp(min=0)[..., None])[..., 0].mean(0)


def _means_so_far(logits, targets):
    return _each(logits, targets).sum(0).cumsum(0) / (targets != -100).sum(0).cumsum(0)


loss_by_position_of = loss_by_position
loss_by_position = Exercise(
    name="context_length.loss_by_position",
    check=_check_loss_by_position,
    hint_text=(
        "F.cross_entropy wants the vocabulary in dimension 1: logits.transpose(1, 2). With reduction='none' it gives a "
        "loss for each (row, position), and 0 where the target is -100. Sum over the rows, and divide by the number of "
        "targets that count at that position."
    ),
    right=(loss_by_position_of, _loss_by_gather),
    wrong=(
        Wrong(lambda z, y: F.cross_entropy(z.transpose(1, 2), y), says="one number for all positions"),
        Wrong(lambda z, y: _each(z, y), says="a loss for every row"),
        Wrong(lambda z, y: _each(z, y).mean(1), says="averaged over time"),
        Wrong(lambda z, y: _each(z, y).sum(0), says="a sum over the rows"),
        Wrong(lambda z, y: _each(z, y).mean(0), says="not by all rows"),
        Wrong(_counts_pads, says="leave it out of the mean"),
        Wrong(lambda z, y: -loss_by_position_of(z, y), says="the sign"),
        Wrong(lambda z, y: loss_by_position_of(z, y) / math.log(2), says="these are bits"),
        Wrong(_average_first, says="averaged the probabilities"),
        Wrong(_no_softmax, says="the logits themselves"),
        Wrong(lambda z, y: loss_by_position_of(z, y).exp(), says="this is the perplexity"),
        Wrong(_means_so_far, says="at position 1 the mean loss should be"),
    ),
)

# --------------------------------------------------------------------------------------------- attention_bytes

# Sizes without a common factor, so that each forgotten one gives another number.
ODD = DecoderConfig.gpt2(vocab_size=65, context_length=256, d_model=120, layers=7, heads=5)
SMALL = DecoderConfig.gpt2(vocab_size=65, context_length=256, d_model=128, layers=4, heads=4)
GROUPED = DecoderConfig.llama(vocab_size=1000, context_length=64, d_model=96, layers=5, heads=6, kv_heads=2, d_ff=160)
WIDE_HEADS = DecoderConfig.llama(
    vocab_size=500, context_length=64, d_model=40, layers=5, heads=4, kv_heads=1, d_head=24
)


def attention_bytes(config, rows, time, itemsize=4):
    maps = config.layers * rows * config.heads  # one T x T table each
    return maps * time * time * itemsize


def _bytes_of_a_real_map(config, rows, time, itemsize=4):
    one_layer = torch.empty(rows, config.heads, time, time, device="meta")  # shapes alone: no memory is taken
    return one_layer.numel() * config.layers * itemsize


def _check_attention_bytes(student):
    for config, rows, time, itemsize in ((ODD, 3, 64, 4), (SMALL, 1, 128, 2), (GROUPED, 2, 50, 4)):
        expected = costs.attention_weight_bytes(config, rows, time, itemsize)
        answer = student(config, rows, time, itemsize)
        if not _is_number(answer):
            return f"return a number of bytes; got a {type(answer).__name__}."
        if answer != expected:
            return _name_bytes(float(answer), expected, config, rows, time, itemsize)
    return None


def _is_number(answer) -> bool:
    return isinstance(answer, numbers.Real) or (isinstance(answer, torch.Tensor) and answer.dim() == 0)


def _name_bytes(answer, expected, config, rows, time, itemsize):
    mistakes = [
        ("one head only: each of the config.heads heads has a map of its own.", expected / config.heads),
        ("one layer only: each layer has its maps, and training keeps all of them.", expected / config.layers),
        ("one row only: each row of the batch has its own maps.", expected / rows),
        ("this counts numbers; a number takes `itemsize` bytes.", expected / itemsize),
        ("bits, not bytes: itemsize is in bytes already.", expected * 8),
        ("4 bytes a number, always: take itemsize, which may be 2.", expected / itemsize * 4),
        ("config.context_length in place of time: a map is as large as the text, not as the window.",
         expected / time**2 * config.context_length**2),
        ("the width d_model in place of heads: a map holds one weight for a pair, whatever the width.",
         expected / config.heads * config.d_model),
        ("the head's width does not belong here: q . k is one number, however long they are.",
         expected * config.head_dim),
        ("only one factor of `time`: a map has a row for each query AND a column for each key.", expected / time),
        ("only the lower triangle: the masked half is stored all the same, as zeros.",
         expected / time * (time + 1) / 2),
        ("half of it: the masked half is stored all the same, as zeros.", expected / 2),
        ("maps come one for each QUERY head; with grouped queries only keys and values are shared.",
         expected / config.heads * config.n_kv_heads),
    ]  # fmt: skip
    return _first(mistakes, answer) or (
        f"{config.layers} layers, {config.heads} heads, {rows} rows, {time} tokens of {itemsize} bytes: "
        f"{expected:,} bytes; yours says {answer:,.0f}."
    )


def _first(mistakes, answer) -> str | None:
    return next((says for says, wrong in mistakes if math.isclose(answer, wrong, rel_tol=1e-9)), None)


attention_bytes_of = attention_bytes
attention_bytes = Exercise(
    name="context_length.attention_bytes",
    check=_check_attention_bytes,
    hint_text=(
        "How many maps are there: one for each layer, each row of the batch and each query head. How many numbers are "
        "in one: a row for every query, a column for every key. How many bytes has a number?"
    ),
    right=(attention_bytes_of, _bytes_of_a_real_map),
    wrong=(
        Wrong(lambda c, r, t, i=4: c.layers * r * t * t * i, says="one head only"),
        Wrong(lambda c, r, t, i=4: c.heads * r * t * t * i, says="one layer only"),
        Wrong(lambda c, r, t, i=4: c.layers * c.heads * t * t * i, says="one row only"),
        Wrong(lambda c, r, t, i=4: c.layers * c.heads * r * t * t, says="this counts numbers"),
        Wrong(lambda c, r, t, i=4: c.layers * c.heads * r * t * t * i * 8, says="bits, not bytes"),
        Wrong(lambda c, r, t, i=4: c.layers * c.heads * r * t * i, says="only one factor of `time`"),
        Wrong(lambda c, r, t, i=4: c.layers * c.heads * r * t * (t + 1) // 2 * i, says="only the lower triangle"),
        Wrong(lambda c, r, t, i=4: c.layers * c.d_model * r * t * t * i, says="the width d_model in place of heads"),
        Wrong(lambda c, r, t, i=4: c.layers * c.n_kv_heads * r * t * t * i, says="one for each QUERY head"),
        Wrong(lambda c, r, t, i=4: c.layers * c.heads * r * t * t * 4, says="4 bytes a number, always"),
        Wrong(lambda c, r, t, i=4: c.layers * c.heads * r * c.context_length**2 * i, says="in place of time"),
    ),
)

# --------------------------------------------------------------------------------------------- cache_bytes


def cache_bytes(config, rows, time, itemsize=4):
    per_token = 2 * config.layers * config.n_kv_heads * config.head_dim  # a key and a value in every layer
    return rows * time * per_token * itemsize


def _bytes_of_a_real_cache(config, rows, time, itemsize=4):
    keys = torch.empty(config.layers, rows, config.n_kv_heads, time, config.head_dim, device="meta")
    return (keys.numel() + torch.empty_like(keys).numel()) * itemsize


def _check_cache_bytes(student):
    for config, rows, time, itemsize in (
        (ODD, 3, 64, 4),
        (SMALL, 1, 128, 2),
        (GROUPED, 2, 50, 4),
        (WIDE_HEADS, 1, 9, 2),
    ):
        expected = costs.kv_cache_bytes(config, rows, time, itemsize)
        answer = student(config, rows, time, itemsize)
        if not _is_number(answer):
            return f"return a number of bytes; got a {type(answer).__name__}."
        if answer != expected:
            return _name_cache(float(answer), expected, config, rows, time, itemsize)
    return None


def _name_cache(answer, expected, config, rows, time, itemsize):
    by_query_heads = expected / config.n_kv_heads * config.heads
    mistakes = [
        ("keys only (or values only): both are kept, a factor of 2.", expected / 2),
        ("one layer only: every layer keeps keys and values of its own.", expected / config.layers),
        ("one row only: each row of the batch has its own cache.", expected / rows),
        ("one token only: the cache keeps all `time` of them.", expected / time),
        ("this counts numbers; a number takes `itemsize` bytes.", expected / itemsize),
        ("4 bytes a number, always: take itemsize, which may be 2.", expected / itemsize * 4),
        ("config.head_dim is missing: a key is a vector of so many numbers.", expected / config.head_dim),
        ("queries are not kept: a later token asks with its own, and needs only keys and values.", expected * 1.5),
        ("it grows with time, not with its square: a token's key and value are kept once.", expected * time),
        ("one head only: every key/value head keeps its own.", expected / config.n_kv_heads),
    ]
    if config.n_kv_heads != config.heads:
        says = (
            "you counted the query heads, heads * head_dim numbers for each key; "
            f"with grouped queries only the {config.n_kv_heads} key/value heads are kept."
        )
        mistakes.append((says, by_query_heads))
    narrow = expected / config.head_dim * (config.d_model // config.heads)
    mistakes.append(("the head's width is config.head_dim; it need not be d_model / heads.", narrow))
    return _first(mistakes, answer) or (
        f"{config.layers} layers, {config.n_kv_heads} key/value heads of {config.head_dim}, {rows} rows, {time} tokens "
        f"of {itemsize} bytes: {expected:,} bytes; yours says {answer:,.0f}."
    )


cache_bytes_of = cache_bytes
cache_bytes = Exercise(
    name="context_length.cache_bytes",
    check=_check_cache_bytes,
    hint_text=(
        "For one token, one layer and one key/value head, the cache keeps a key and a value of head_dim numbers each. "
        "config.n_kv_heads says how many such heads there are; with grouped queries there are fewer than config.heads."
    ),
    right=(cache_bytes_of, _bytes_of_a_real_cache),
    wrong=(
        Wrong(lambda c, r, t, i=4: c.layers * r * c.n_kv_heads * t * c.head_dim * i, says="a factor of 2"),
        Wrong(lambda c, r, t, i=4: 2 * r * c.n_kv_heads * t * c.head_dim * i, says="one layer only"),
        Wrong(lambda c, r, t, i=4: 2 * c.layers * c.n_kv_heads * t * c.head_dim * i, says="one row only"),
        Wrong(lambda c, r, t, i=4: 2 * c.layers * r * c.n_kv_heads * t * c.head_dim, says="this counts numbers"),
        Wrong(lambda c, r, t, i=4: 2 * c.layers * r * c.heads * t * c.head_dim * i, says="counted the query heads"),
        Wrong(lambda c, r, t, i=4: 2 * c.layers * r * t * c.d_model * i, says="heads * head_dim numbers"),
        Wrong(lambda c, r, t, i=4: cache_bytes_of(c, r, t, i) * t, says="not with its square"),
        Wrong(lambda c, r, t, i=4: cache_bytes_of(c, r, t, 4), says="4 bytes a number, always"),
        Wrong(lambda c, r, t, i=4: 2 * c.layers * r * c.n_kv_heads * t * i, says="config.head_dim is missing"),
        Wrong(lambda c, r, t, i=4: cache_bytes_of(c, r, t, i) * 3 // 2, says="queries are not kept"),
        Wrong(
            lambda c, r, t, i=4: 2 * c.layers * r * c.n_kv_heads * t * (c.d_model // c.heads) * i,
            says="it need not be d_model / heads",
        ),
    ),
)

# --------------------------------------------------------------------------------------------- token_flops


def token_flops(config, past, cached):
    new = 1 if cached else past + 1  # positions that have to be computed
    d, keys = config.d_model, past + 1
    projections = 4 * d * d + 2 * d * config.n_ff  # multiply-adds a position: Q, K, V, W^O; up and down
    attention = 2 * keys * d  # q . k, and weight times v, over all keys
    return 2 * (config.layers * new * (projections + attention) + d * config.vocab_size)


def _token_flops_by_part(config, past, cached):
    time = 1 if cached else past + 1
    inner = config.d_model
    total = config.d_model * config.vocab_size  # one row of logits
    for _ in range(config.layers):
        total += time * inner * 3 * inner + time * inner * inner  # qkv, out
        total += 2 * time * (past + 1) * inner  # scores, mix
        total += time * inner * config.n_ff * 2
    return 2 * total


FLOP_CASES = (
    SMALL,
    DecoderConfig.gpt2(vocab_size=300, context_length=512, d_model=48, layers=2, heads=3, d_ff=100),
)


def _check_token_flops(student):
    for config in FLOP_CASES:
        for past, cached in ((0, True), (0, False), (99, True), (99, False), (7, True), (7, False)):
            answer = student(config, past, cached)
            if not _is_number(answer):
                return f"return a number of FLOPs; got a {type(answer).__name__}."
            expected = _true_flops(config, past, cached)
            if answer != expected:
                return _name_flops(student, config)
    return None


def _true_flops(config, past, cached) -> int:
    time, past = (1, past) if cached else (past + 1, 0)
    return sum(costs.forward_flops(config, time, past, last_only=True).values())


def _name_flops(student, config):
    """The student's numbers against those of each mistake, at several lengths at once."""
    asked = [(past, cached) for cached in (True, False) for past in (0, 7, 99)]
    answers = [float(student(config, past, cached)) for past, cached in asked]
    d, layers, V = config.d_model, config.layers, config.vocab_size
    right = [_true_flops(config, *case) for case in asked]
    new = [1 if cached else past + 1 for past, cached in asked]

    def is_(wrong):
        return all(math.isclose(a, w, rel_tol=1e-9) for a, w in zip(answers, wrong, strict=True))

    half = len(asked) // 2
    if is_(right[half:] + right[:half]):
        return "with and without the cache are swapped: cached=True is the cheap way."
    if is_([r / 2 for r in right]):
        return "these are multiply-adds: each is one multiplication and one addition, 2 FLOPs."
    if is_([r - 2 * d * V for r in right]):
        return "the logits are missing: d_model times vocab_size multiply-adds for the last position."
    if is_([r + 2 * (n - 1) * d * V for r, n in zip(right, new, strict=True)]):
        return "logits for every position: only the last one's are needed to choose the next token."
    if is_([r - 4 * layers * d * n * past for r, n, (past, _) in zip(right, new, asked, strict=True)]):
        return "each new query meets only one key: with a cache it still attends to all past + 1 of them."
    if is_([r - 4 * layers * d * n * (past + 1) for r, n, (past, _) in zip(right, new, asked, strict=True)]):
        return "attention itself is missing: the scores q . k and the weighted sum of values, over past + 1 keys."
    if is_([r - 2 * layers * d * n * (past + 1) for r, n, (past, _) in zip(right, new, asked, strict=True)]):
        return "attention has two products: the scores q . k, and the weights times the values."
    if is_([r - 4 * layers * d * n for r, n in zip(right, new, strict=True)]):
        return "the new token counts as a key as well: it attends to past + 1 keys, itself included."
    if is_([r - 2 * layers * d * d * n for r, n in zip(right, new, strict=True)]):
        return "a matrix is missing: W_Q, W_K, W_V AND W^O, four of d_model x d_model in each layer."
    if is_([r - 4 * layers * d * config.n_ff * n for r, n in zip(right, new, strict=True)]):
        return "the feed-forward net is missing: d -> n_ff -> d, 2 * d_model * n_ff multiply-adds a position."
    if is_([r - 2 * layers * d * config.n_ff * n for r, n in zip(right, new, strict=True)]):
        return "the feed-forward net has two matrices, up and down."
    triangle = [r - 2 * layers * d * n * (n - 1) for r, n in zip(right, new, strict=True)]
    if is_(triangle):
        return "half a square of scores without the cache: asked is the full one, masked half included."
    if answers[:half] == right[:half]:
        if answers[half:] == right[:half]:
            return (
                "with and without the cache come out the same: without it, all past + 1 positions are computed again."
            )
        return (
            "right with the cache; without it, all past + 1 positions run through every layer, and one row of logits."
        )
    if answers[half:] == right[half:]:
        return "right without the cache; with it only ONE position is computed, attending to past + 1 keys."
    (past, cached), answer, expected = next(
        case for case in zip(asked, answers, right, strict=True) if not math.isclose(case[1], case[2], rel_tol=1e-9)
    )
    how = "with" if cached else "without"
    return f"{past} tokens before, {how} a cache: {expected:,} FLOPs; yours says {answer:,.0f}."


def _flops(config, past, cached, *, keys=None, logits=1, ffn=2, square=4, both=2, factor=2):
    """The right count with one thing changed: what the wrong answers are made of."""
    new = 1 if cached else past + 1
    d, keys = config.d_model, past + 1 if keys is None else keys
    layer = square * d * d + ffn * d * config.n_ff + both * keys * d
    return factor * (config.layers * new * layer + (new if logits == "all" else logits) * d * config.vocab_size)


def _triangle_of_scores(config, past, cached):
    skipped = 0 if cached else 2 * config.layers * config.d_model * past * (past + 1)
    return _flops(config, past, cached) - skipped


token_flops_of = token_flops
token_flops = Exercise(
    name="context_length.token_flops",
    check=_check_token_flops,
    hint_text=(
        "How many positions run through the layers: one with a cache, past + 1 without. Each of them costs, a layer, "
        "4 d^2 multiply-adds for Q, K, V and W^O, 2 d n_ff for the feed-forward net, and 2 d for every key it meets: "
        "past + 1 keys. The logits are wanted for the last position alone: d V. A multiply-add is 2 FLOPs."
    ),
    right=(token_flops_of, _token_flops_by_part),
    wrong=(
        Wrong(lambda c, p, k: _flops(c, p, k, factor=1), says="multiply-adds"),
        Wrong(lambda c, p, k: _flops(c, p, k, logits=0), says="the logits are missing"),
        Wrong(lambda c, p, k: _flops(c, p, k, logits="all"), says="logits for every position"),
        Wrong(lambda c, p, k: _flops(c, p, k, keys=1), says="only one key"),
        Wrong(lambda c, p, k: _flops(c, p, k, keys=p), says="itself included"),
        Wrong(lambda c, p, k: _flops(c, p, k, both=0), says="attention itself is missing"),
        Wrong(lambda c, p, k: _flops(c, p, k, both=1), says="attention has two products"),
        Wrong(lambda c, p, k: _flops(c, p, k, square=3), says="a matrix is missing"),
        Wrong(lambda c, p, k: _flops(c, p, k, ffn=0), says="the feed-forward net is missing"),
        Wrong(lambda c, p, k: _flops(c, p, k, ffn=1), says="two matrices, up and down"),
        Wrong(lambda c, p, k: _flops(c, p, not k), says="are swapped"),
        Wrong(_triangle_of_scores, says="half a square of scores"),
        Wrong(lambda c, p, k: _flops(c, p, True), says="come out the same"),
        Wrong(lambda c, p, k: _flops(c, p, False), says="right without the cache"),
        Wrong(lambda c, p, k: _flops(c, p if k else p - 1, k), says="right with the cache"),
    ),
)
