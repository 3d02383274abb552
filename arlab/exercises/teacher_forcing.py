"""Exercises of notebook 06: the loss, its average over several batches, and smoothed labels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from arlab.exercises.exercise import Exercise, Wrong
from arlab.text.batches import IGNORE

CLOSE = 1e-5  # relative: an answer in float32 is right too


def _nll(logits, targets):
    """-log p(target) at each position; a negative target is read as token 0."""
    return -logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]


def _not_a_loss(answer):
    if not isinstance(answer, torch.Tensor):
        return f"return a tensor, so that backward() can start from it; you returned a {type(answer).__name__}."
    if answer.dim():
        return f"return one number, the mean over all targets that count; you returned shape {tuple(answer.shape)}."
    return None


def _named(answer, mistakes):
    """The words that belong to the first of the (words, value) pairs whose value the answer has."""
    return next((says for says, value in mistakes if math.isclose(answer, float(value), rel_tol=CLOSE)), None)


def _gradient_problem(answer, given, logits, right):
    """What is wrong with the gradient of an answer whose value is right; `right` maps logits to the true loss."""
    if not answer.requires_grad:
        return "the value is right, but no gradient leads back to the logits: keep to tensor operations, no .item()."
    answer.backward()
    (expected,) = torch.autograd.grad(right(leaf := logits.clone().requires_grad_()), leaf)
    if given.grad is None or not torch.allclose(given.grad.double(), expected, rtol=1e-4, atol=1e-6):
        return (
            "the value is right, but not the gradient: a part of the sum is cut off from the logits (detach, .item())."
        )
    return None


# ----------------------------------------------------------------------------------------------------- token_loss


def _loss_cases():
    generator = torch.Generator().manual_seed(0)
    for lengths, time, vocab, ignore in (
        ((4, 4), 4, 5, -100),
        ((6, 2, 1), 6, 7, -100),
        ((3, 5), 5, 4, -1),
        ((2, 4), 4, 6, 5),
    ):
        logits = torch.randn(len(lengths), time, vocab, generator=generator, dtype=torch.float64) * 2
        targets = torch.randint(0, vocab, (len(lengths), time), generator=generator)
        for row, length in enumerate(lengths):
            targets[row, length:] = ignore
        yield logits, targets, ignore


def check_token_loss(student):
    for logits, targets, ignore in _loss_cases():
        given, kept = logits.clone().requires_grad_(), targets.clone()
        answer = student(given, kept, ignore)
        problem = _not_a_loss(answer) or _loss_diagnosis(float(answer.detach()), logits, targets, ignore)
        if problem:
            return problem
        if not torch.equal(kept, targets):
            return "the caller's targets were changed in place; work on a copy."
        problem = _gradient_problem(answer, given, logits, lambda z, x=targets, i=ignore: loss_by_indexing(z, x, i))
        if problem:
            return problem
    towering = torch.tensor([[[0.0, 2000.0, 0.0]]], dtype=torch.float64)
    if not math.isclose(float(student(towering, torch.tensor([[2]]), -100)), 2000, rel_tol=CLOSE):
        return (
            "with a logit of 2000 the softmax rounds the truth's probability to 0 before your log sees it; the loss "
            "there is 2000. Use log_softmax, which never forms that probability."
        )
    return None


def _loss_diagnosis(answer, logits, targets, ignore):
    expected = float(loss_by_indexing(logits, targets, ignore))
    if math.isclose(answer, expected, rel_tol=CLOSE):
        return None
    counted = targets != ignore
    each, again = _nll(logits, targets), _nll(logits[:, :-1], targets[:, 1:])
    real, n = each * counted, counted.sum()
    says = _named(
        answer,
        [
            ("the sign is wrong: log-probabilities are negative, the loss is their negative.", -expected),
            (
                "a softmax too many: you normalised probabilities again as if they were logits.",
                _nll(logits.softmax(-1), targets)[counted].mean(),
            ),
            ("the pads count as if they were tokens; leave out every target that equals `ignore`.", each.mean()),
            ("the pads add nothing to the sum but still count in the number: divide by the real targets.", real.mean()),
            ("you returned the sum; divide it by the number of targets that count.", real.sum()),
            (
                "that is a mean of row means: a token of a short row weighs more. Divide one sum by one number.",
                (real.sum(1) / counted.sum(1)).mean(),
            ),
            ("that is in bits (log to the base 2); the loss is in nats, with the natural log.", expected / math.log(2)),
            ("only the last position's logits are in your loss; every position predicts.", each[:, -1].mean()),
            (
                "that is minus the mean probability of the truth: the logarithm is missing.",
                -(-each).exp()[counted].mean(),
            ),
            (
                "that is the log of the mean probability; take the mean of the logs.",
                -(-each).exp()[counted].mean().log(),
            ),
            ("that is the perplexity: leave out the exp.", math.exp(expected)),
            ("that is a mean over the vocabulary too: only the truth's entry counts.", expected / logits.size(-1)),
            (
                "the softmax runs over the positions; it belongs over the vocabulary, the last axis.",
                -logits.log_softmax(1).gather(-1, targets.clamp(min=0)[..., None])[..., 0][counted].mean(),
            ),
            (
                "that is the share of wrong guesses: it looks at the argmax, not at the probability of the truth.",
                ((logits.argmax(-1) != targets) & counted).sum() / n,
            ),
            ("the targets are shifted already; you shifted them once more.", again[counted[:, 1:]].mean()),
        ],
    )
    return says or (
        f"logits {tuple(logits.shape)}, {int(n)} of {targets.numel()} targets count: the loss is "
        f"{expected:.4f}, you returned {answer:.4f}. (If you reshape, keep each position's vocab together.)"
    )


def loss_by_indexing(logits, targets, ignore=-100):
    counted = targets != ignore
    log_p = logits.log_softmax(dim=-1)  # (rows, time, vocab)
    safe = targets.where(counted, 0)  # gather needs an id that exists; what it finds there is left out below
    of_the_truth = log_p.gather(-1, safe[..., None])[..., 0]  # (rows, time): log y_hat[t, x_t]
    return -of_the_truth[counted].sum() / counted.sum()


def loss_by_torch(logits, targets, ignore=-100):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=ignore)


def _averaged(of):
    """A wrong answer: `of` makes one number from each position's -log p and the mask of those that count."""
    return lambda logits, targets, ignore=-100: of(_nll(logits, targets), targets != ignore)


def loss_of_row_means(logits, targets, ignore=-100):
    return torch.stack([loss_by_torch(z[None], x[None], ignore) for z, x in zip(logits, targets, strict=True)]).mean()


def loss_softmax_over_time(logits, targets, ignore=-100):
    counted = targets != ignore
    return -logits.log_softmax(1).gather(-1, targets.where(counted, 0)[..., None])[..., 0][counted].mean()


def loss_of_the_argmax(logits, targets, ignore=-100):
    return (logits.argmax(-1) != targets)[targets != ignore].double().mean()


def loss_unstable(logits, targets, ignore=-100):
    counted = targets != ignore
    p = logits.softmax(-1).gather(-1, targets.where(counted, 0)[..., None])[..., 0]
    return -p[counted].log().mean()


def loss_overwriting_targets(logits, targets, ignore=-100):
    counted = targets != ignore
    targets[~counted] = 0
    return _nll(logits, targets)[counted].mean()


token_loss = Exercise(
    name="teacher_forcing.token_loss",
    check=check_token_loss,
    hint_text=(
        "log_softmax over the vocabulary, then at each position pick the entry of the true token (gather, or index "
        "with aranges). gather refuses -100, so put any valid id there first and leave those positions out of the sum "
        "and out of the number. One sum over one number, for the whole batch."
    ),
    right=(loss_by_indexing, loss_by_torch),
    wrong=(
        Wrong(lambda z, x, ignore: -loss_by_torch(z, x, ignore), says="the sign is wrong"),
        Wrong(lambda z, x, ignore: loss_by_torch(z.softmax(-1), x, ignore), says="a softmax too many"),
        Wrong(_averaged(lambda each, counted: each.mean()), says="as if they were tokens"),
        Wrong(lambda z, x, ignore: loss_by_torch(z, x), says="it raised"),
        Wrong(_averaged(lambda each, counted: (each * counted).mean()), says="still count in the number"),
        Wrong(loss_of_row_means, says="a mean of row means"),
        Wrong(_averaged(lambda each, counted: each[counted].sum()), says="you returned the sum"),
        Wrong(lambda z, x, ignore: loss_by_torch(z, x, ignore) / math.log(2), says="in bits"),
        Wrong(lambda z, x, ignore: loss_by_torch(z[:, :-1], x[:, 1:], ignore), says="shifted them once more"),
        Wrong(_averaged(lambda each, counted: -(-each[counted]).exp().mean()), says="the logarithm is missing"),
        Wrong(_averaged(lambda each, counted: -(-each[counted]).exp().mean().log()), says="the log of the mean"),
        Wrong(_averaged(lambda each, counted: each[counted].mean().exp()), says="the perplexity"),
        Wrong(_averaged(lambda each, counted: each[counted].mean() / 5), says="over the vocabulary too"),
        Wrong(loss_softmax_over_time, says="runs over the positions"),
        Wrong(loss_of_the_argmax, says="it looks at the argmax"),
        Wrong(lambda z, x, ignore: loss_by_torch(z[:, -1:], x[:, -1:], ignore), says="only the last position's logits"),
        Wrong(loss_unstable, says="Use log_softmax"),
        Wrong(_averaged(lambda each, counted: each * counted), says="return one number"),
        Wrong(lambda z, x, ignore: loss_by_torch(z, x, ignore).item(), says="return a tensor"),
        Wrong(lambda z, x, ignore: loss_by_torch(z.detach(), x, ignore), says="no gradient leads back"),
        Wrong(loss_overwriting_targets, says="changed in place"),
    ),
)

# ----------------------------------------------------------------------------------------------------- accumulate


class Watched(nn.Module):
    """A bigram model in float64 that notes how it was called."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.table = nn.Parameter(torch.randn(6, 6, generator=generator, dtype=torch.float64))
        self.rows: list[int] = []
        self.open: set[int] = set()  # calls whose graph waits for its gradient
        self.most_open = 0

    def forward(self, ids):
        logits, call = self.table[ids], len(self.rows)
        self.rows.append(ids.size(0))
        if logits.requires_grad:
            self.open.add(call)
            self.most_open = max(self.most_open, len(self.open))
            logits.register_hook(lambda gradient: self.open.discard(call))
        return logits


def _ragged_batches():
    generator = torch.Generator().manual_seed(2)
    batches = []
    for lengths in ((5, 5, 4), (1, 2), (3,)):
        ids = torch.randint(0, 6, (len(lengths), 6), generator=generator)
        targets = ids[:, 1:].clone()
        for row, length in enumerate(lengths):
            targets[row, length:] = IGNORE
        batches.append((ids[:, :-1], targets))
    return batches


def check_accumulate(student):
    batches = _ragged_batches()
    whole = Watched()
    inputs, targets = (torch.cat(halves) for halves in zip(*batches, strict=True))
    loss = F.cross_entropy(whole(inputs).flatten(0, 1), targets.flatten())
    loss.backward()
    model = Watched()
    answer = student(model, [(x.clone(), y.clone()) for x, y in batches])
    if model.table.grad is None:
        return "no gradient has arrived in the model: call backward() on each batch's share of the loss."
    if len(model.rows) == 1 and model.rows[0] > 3:
        return "you ran all rows in one pass; the point is to run one batch at a time, as if memory held no more."
    problem = _accumulated(model.table.grad, whole.table.grad, batches)
    if problem:
        return problem
    if sorted(model.rows) != [1, 2, 3]:
        return f"the batches have 3, 2 and 1 rows; the model was called with {model.rows}."
    if model.most_open > 1:
        return (
            "the gradient is right, but backward() came late: until then the activations of every batch "
            "stay in memory. Call it for each batch; .grad adds up by itself."
        )
    answer, expected = (float(torch.as_tensor(value).detach()) for value in (answer, loss))
    if not math.isclose(answer, expected, rel_tol=CLOSE):
        return f"the gradient is right; the loss to return is {expected:.4f}, not {answer:.4f}."
    return None


def _accumulated(got, expected, batches):
    if torch.allclose(got, expected, rtol=1e-4, atol=1e-6):
        return None
    parts, counts = [], [int((targets != IGNORE).sum()) for _, targets in batches]
    for inputs, targets in batches:
        model = Watched()
        F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten()).backward()
        parts.append(model.table.grad)
    summed = sum(part * n for part, n in zip(parts, counts, strict=True))
    positions = sum(targets.numel() for _, targets in batches)
    rows = [len(targets) for _, targets in batches]
    only_the_last = "only the last batch's gradient is left: zero_grad() inside the loop throws the others away."
    mistakes = [
        (
            "that is the mean of the batches' means: here a target of the smallest batch weighs "
            f"{max(counts) / min(counts):.1f} times one of the largest. Divide one sum by one number of targets.",
            sum(parts) / len(parts),
        ),
        (
            f"the gradients of {len(parts)} means are added up: too large, and unevenly weighted. Divide each batch's "
            "summed loss by the number of targets of all batches.",
            sum(parts),
        ),
        (only_the_last, parts[-1]),
        (only_the_last, parts[-1] * counts[-1] / sum(counts)),
        ("the gradient is that of the sum; divide by the number of targets.", summed),
        ("you divided by all positions; pads are no targets.", summed / positions),
        ("you divided by the number of batches too; the number of targets is enough.", summed / sum(counts) / 3),
        (
            "each batch's mean is weighted by its rows; weigh it by its targets, for rows differ in length.",
            sum(part * n for part, n in zip(parts, rows, strict=True)) / sum(rows),
        ),
    ]
    for says, wrong in mistakes:
        if torch.allclose(got, wrong, rtol=1e-4, atol=1e-6):
            return says
    ratio = float(got.norm() / expected.norm())
    return f"the gradient is not that of one big batch: its norm is {ratio:.3f} times what it should be."


def accumulate_in_shares(model, batches):
    targets_in_all = sum(int((targets != -100).sum()) for _, targets in batches)
    loss = 0.0
    for inputs, targets in batches:
        logits = model(inputs)
        summed = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        share = summed / targets_in_all  # cross_entropy has left out the -100 by itself
        share.backward()  # adds to .grad, and lets go of this batch's activations
        loss += share.item()
    return loss


def accumulate_and_divide(model, batches):
    total, n = 0.0, 0
    for inputs, targets in batches:
        counted = targets != IGNORE
        summed = -model(inputs).log_softmax(-1)[counted].gather(-1, targets[counted][:, None]).sum()
        summed.backward()
        total, n = total + summed.item(), n + int(counted.sum())
    for parameter in model.parameters():
        parameter.grad /= n
    return total / n


def _accumulating(share, *, zero=False, reduction="mean"):
    """A wrong answer: `share(batch, targets in all, positions in all, batches)` is the factor on a batch's loss."""

    def accumulate(model, batches):
        n = sum(int((targets != IGNORE).sum()) for _, targets in batches)
        positions = sum(targets.numel() for _, targets in batches)
        loss = 0.0
        for inputs, targets in batches:
            if zero:
                model.zero_grad()
            part = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction=reduction)
            part = part * share(len(inputs), n, positions, len(batches))
            part.backward()
            loss += part.item()
        return loss

    return accumulate


def accumulate_at_the_end(model, batches):
    n = sum(int((targets != IGNORE).sum()) for _, targets in batches)
    parts = [F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="sum") for x, y in batches]
    loss = sum(parts) / n
    loss.backward()
    return loss.item()


def accumulate_all_at_once(model, batches):
    inputs, targets = (torch.cat(halves) for halves in zip(*batches, strict=True))
    loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    loss.backward()
    return loss.item()


def accumulate_without_backward(model, batches):
    with torch.no_grad():
        losses = [F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="sum") for x, y in batches]
    return float(sum(losses)) / sum(int((y != IGNORE).sum()) for _, y in batches)


def accumulate_returning_the_last(model, batches):
    accumulate_in_shares(model, batches)
    inputs, targets = batches[-1]
    with torch.no_grad():
        model.rows.pop()  # so that only the returned value is wrong
        return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten()).item()


accumulate = Exercise(
    name="teacher_forcing.accumulate",
    check=check_accumulate,
    hint_text=(
        "First count the targets of all batches together. Then, for each batch: the SUM of its losses "
        "(reduction='sum'), divided by that count, and backward(). .grad adds up over calls of backward() until "
        "somebody zeroes it."
    ),
    right=(accumulate_in_shares, accumulate_and_divide),
    wrong=(
        Wrong(_accumulating(lambda rows, n, positions, batches: 1 / batches), says="the mean of the batches' means"),
        Wrong(_accumulating(lambda rows, n, positions, batches: 1), says="are added up"),
        Wrong(_accumulating(lambda rows, n, positions, batches: rows / 6), says="weighted by its rows"),
        Wrong(_accumulating(lambda *_: 1, zero=True), says="zero_grad() inside the loop"),
        Wrong(
            _accumulating(lambda rows, n, positions, batches: 1 / n, zero=True, reduction="sum"),
            says="zero_grad() inside the loop",
        ),
        Wrong(_accumulating(lambda *_: 1, reduction="sum"), says="that of the sum"),
        Wrong(_accumulating(lambda rows, n, positions, batches: 1 / positions, reduction="sum"), says="all positions"),
        Wrong(
            _accumulating(lambda rows, n, positions, batches: 1 / n / batches, reduction="sum"),
            says="number of batches too",
        ),
        Wrong(accumulate_at_the_end, says="backward() came late"),
        Wrong(accumulate_all_at_once, says="in one pass"),
        Wrong(accumulate_without_backward, says="no gradient has arrived"),
        Wrong(accumulate_returning_the_last, says="the loss to return"),
    ),
)

# -------------------------------------------------------------------------------------------------- smoothed_loss


def check_smoothed_loss(student):
    generator = torch.Generator().manual_seed(3)
    for rows, time, vocab, rest in ((2, 3, 5, 0.1), (1, 4, 2, 0.3), (3, 1, 9, 0.4), (2, 2, 4, 0.0)):
        logits = torch.randn(rows, time, vocab, generator=generator, dtype=torch.float64) * 2
        targets = torch.randint(0, vocab, (rows, time), generator=generator)
        given = logits.clone().requires_grad_()
        answer = student(given, targets.clone(), rest)
        problem = _not_a_loss(answer) or _smoothed_diagnosis(float(answer.detach()), logits, targets, rest)
        problem = problem or _gradient_problem(
            answer, given, logits, lambda z, x=targets, rest=rest: smoothed_by_parts(z, x, rest)
        )
        if problem:
            return problem
    return None


def _smoothed_diagnosis(answer, logits, targets, rest):
    expected = float(smoothed_by_parts(logits, targets, rest))
    if math.isclose(answer, expected, rel_tol=CLOSE):
        return None
    vocab = logits.size(-1)
    own = -_nll(logits, targets)
    others = logits.log_softmax(-1).sum(-1) - own
    epsilon = rest * (vocab - 1) / vocab
    share = rest / (vocab - 1)
    targets_taken = [  # (words, q of the truth, q of each other token)
        (
            f"that is torch's smoothing: it leaves {1 - epsilon:.3f} on the truth. Here the truth gets "
            f"{1 - rest:.1f} and the other {vocab - 1} tokens share {rest}.",
            1 - epsilon,
            rest / vocab,
        ),
        (f"each of the other tokens got {rest}; they share it: rest / (V - 1) for each.", 1 - rest, rest),
        (f"your distribution sums to {1 - rest + epsilon:.3f}: there are V - 1 other tokens.", 1 - rest, rest / vocab),
        (
            "your distribution sums to more than 1: rest / (V - 1) belongs to the others alone.",
            1 - rest + share,
            share,
        ),
        ("that is the loss without smoothing.", 1, 0),
        ("you always share 0.1; share `rest`.", 0.9, 0.1 / (vocab - 1)),
        ("the truth and the rest are swapped.", rest, (1 - rest) / (vocab - 1)),
        ("the others are left out: they got rest as a target, so their log-probabilities count.", 1 - rest, 0),
    ]
    mistakes = [(words, -(truth * own + other * others).mean()) for words, truth, other in targets_taken]
    mistakes += [
        (
            "you smoothed the model's probabilities; smooth the target, and take the cross-entropy with it.",
            -((1 - rest) * own.exp() + share * (1 - own.exp())).log().mean(),
        ),
        ("you returned the sum; take the mean over all positions.", expected * targets.numel()),
        ("that is a mean over the vocabulary too; sum over it.", expected / vocab),
        ("the sign is wrong.", -expected),
        (
            "the conversion goes the other way: torch's epsilon is larger than rest, not smaller.",
            F.cross_entropy(logits.mT, targets, label_smoothing=epsilon),
        ),
    ]
    says = _named(answer, mistakes)
    return says or f"V = {vocab}, rest = {rest}: the loss is {expected:.4f}, you returned {answer:.4f}."


def smoothed_by_parts(logits, targets, rest=0.1):
    log_p = logits.log_softmax(dim=-1)
    truth = log_p.gather(-1, targets[..., None])[..., 0]  # (rows, time)
    others = log_p.sum(dim=-1) - truth
    q = rest / (logits.size(-1) - 1)  # for each of the others
    return -((1 - rest) * truth + q * others).mean()


def smoothed_by_torch(logits, targets, rest=0.1):
    vocab = logits.size(-1)
    epsilon = rest * vocab / (vocab - 1)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=epsilon)


def _smoothed(q_truth, q_other, of=lambda each: each.sum(-1).mean()):
    """A wrong answer: q from functions of rest and V, and `of` makes one number from (rows, time, vocab)."""

    def smoothed_loss(logits, targets, rest=0.1):
        vocab = logits.size(-1)
        q = torch.full_like(logits, q_other(rest, vocab)).scatter(-1, targets[..., None], q_truth(rest, vocab))
        return of(-q * logits.log_softmax(-1))

    return smoothed_loss


def smoothed_model(logits, targets, rest=0.1):
    p = logits.softmax(-1).gather(-1, targets[..., None])
    return -((1 - rest) * p + rest / (logits.size(-1) - 1) * (1 - p)).log().mean()


def smoothed_half_detached(logits, targets, rest=0.1):
    log_p, vocab = logits.log_softmax(-1), logits.size(-1)
    truth = log_p.gather(-1, targets[..., None])[..., 0]
    return -((1 - rest) * truth + rest / (vocab - 1) * (log_p.sum(-1) - truth).detach()).mean()


def smoothed_converted_backwards(logits, targets, rest=0.1):
    vocab = logits.size(-1)
    return F.cross_entropy(logits.mT, targets, label_smoothing=rest * (vocab - 1) / vocab)


smoothed_loss = Exercise(
    name="teacher_forcing.smoothed_loss",
    check=check_smoothed_loss,
    hint_text=(
        "Cross-entropy with any target distribution q is -sum_i q_i log p_i at each position, then the mean. Here q is "
        "1 - rest on the truth and rest / (V - 1) on each of the others; the log-probabilities of all the others "
        "together are the sum of the row minus the truth's."
    ),
    right=(smoothed_by_parts, smoothed_by_torch),
    wrong=(
        Wrong(_smoothed(lambda r, v: 1 - r + r / v, lambda r, v: r / v), says="that is torch's smoothing"),
        Wrong(_smoothed(lambda r, v: 1 - r, lambda r, v: r), says="they share it"),
        Wrong(_smoothed(lambda r, v: 1 - r, lambda r, v: r / v), says="your distribution sums to 0.9"),
        Wrong(_smoothed(lambda r, v: 1 - r + r / (v - 1), lambda r, v: r / (v - 1)), says="sums to more than 1"),
        Wrong(_smoothed(lambda r, v: 1.0, lambda r, v: 0.0), says="without smoothing"),
        Wrong(_smoothed(lambda r, v: r, lambda r, v: (1 - r) / (v - 1)), says="swapped"),
        Wrong(_smoothed(lambda r, v: 1 - r, lambda r, v: 0.0), says="the others are left out"),
        Wrong(_smoothed(lambda r, v: 1 - r, lambda r, v: r / (v - 1), of=torch.sum), says="you returned the sum"),
        Wrong(_smoothed(lambda r, v: 1 - r, lambda r, v: r / (v - 1), of=torch.mean), says="over the vocabulary too"),
        Wrong(_smoothed(lambda r, v: r - 1, lambda r, v: -r / (v - 1)), says="the sign is wrong"),
        Wrong(lambda z, x, rest: smoothed_by_parts(z, x), says="you always share 0.1"),
        Wrong(smoothed_half_detached, says="but not the gradient"),
        Wrong(smoothed_model, says="you smoothed the model's probabilities"),
        Wrong(smoothed_converted_backwards, says="the other way"),
    ),
)
