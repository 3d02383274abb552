"""Exercises of notebook 16: accuracy on the model's own words, random prefixes, and the loss of REINFORCE."""

from __future__ import annotations

import torch

from arlab.exercises.exercise import Exercise, Wrong, as_tensor, close, shape_problem

# Each exercise takes the name of its first right answer, so that the solution reads as the student's own cell would.

# --------------------------------------------------------------------------------------------- own_accuracy


def own_accuracy(model, start, targets):
    ids, right = start[:, None], []
    for t in range(targets.size(1)):
        said = model(ids)[:, -1].argmax(-1)  # what it says after what it has said so far
        right.append((said == targets[:, t]).float().mean())
        ids = torch.cat([ids, said[:, None]], dim=1)  # its own word, right or wrong
    return torch.stack(right)


def _own_accuracy_in_place(model, start, targets):
    rows, time = targets.shape
    fed = torch.zeros(rows, time + 1, dtype=torch.long)
    fed[:, 0] = start
    for t in range(time):
        fed[:, t + 1] = model(fed[:, : t + 1])[:, t].argmax(dim=-1)
    return (fed[:, 1:] == targets).sum(0) / rows


def _model(seed, vocab):
    """Its word depends on the last two tokens it reads and on where it stands: no two prefixes are alike."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(12, vocab + 1, vocab + 1, vocab, generator=generator)

    def logits(ids):
        before = torch.cat([torch.full_like(ids[:, :1], vocab), ids[:, :-1]], dim=1)
        return table[torch.arange(ids.size(1)), before, ids]

    return logits


def _own_cases():
    for seed, vocab, rows, time in ((0, 3, 40, 6), (1, 5, 60, 4), (2, 2, 1, 3), (3, 3, 7, 1)):
        model, generator = _model(seed, vocab), torch.Generator().manual_seed(seed)
        start = torch.randint(vocab + 1, (rows,), generator=generator)
        targets = torch.randint(vocab, (rows, time), generator=generator)
        own = _written(model, start, time)
        keep = torch.rand(rows, time, generator=generator) < 0.6  # so that it is right more often than by chance
        yield model, start, torch.where(keep, own, targets)


def _written(model, start, time):
    ids = start[:, None]
    for _ in range(time):
        ids = torch.cat([ids, model(ids)[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids[:, 1:]


def _check_own_accuracy(student):
    for model, start, targets in _own_cases():
        expected = own_accuracy_of(model, start, targets)
        given_start, given_targets = start.clone(), targets.clone()
        answer = student(model, given_start, given_targets)
        if isinstance(answer, float) or (isinstance(answer, torch.Tensor) and answer.dim() == 0):
            return "one number for all positions: keep one share for each position, a mean over the rows alone."
        answer = as_tensor(answer)
        problem = shape_problem(answer, expected, "the shares")
        if problem:
            if isinstance(answer, torch.Tensor) and answer.shape == targets.shape:
                return "right or wrong for every row: average over the rows, so that one share is left for a position."
            if isinstance(answer, torch.Tensor) and answer.shape == (len(start),):
                return "you averaged over time: the result has an entry for each row, and should have one a position."
            return problem
        if not (torch.equal(given_start, start) and torch.equal(given_targets, targets)):
            return "your function changed its arguments; append with torch.cat, or write into a copy."
        if not close(answer, expected, 1e-5):
            if not close(as_tensor(student(model, start.clone(), targets.clone())), answer, 1e-5):
                return "two runs differ: the model's word is the argmax, without a draw."
            return _name_own(answer, model, start, targets, expected)
    return None


def _name_own(answer, model, start, targets, expected):
    truth = torch.cat([start[:, None], targets[:, :-1]], dim=1)
    said = model(truth).argmax(-1)
    if close(answer, (said == targets).float().mean(0), 1e-5):
        return "this is teacher forcing: it reads the targets. Feed back what the model itself has said."
    if close(answer, 1 - expected, 1e-5):
        return "this is the share of wrong words; asked is the share of right ones."
    if close(answer, expected * len(targets), 1e-5):
        return "a count: divide by the number of rows."
    if close(answer, expected * len(targets) / targets.size(1), 1e-5):
        return "divided by the number of positions: a share at one position is a mean over the rows."
    own = _written(model, start, targets.size(1))
    alive = (own == targets).cumprod(1)
    if close(answer, alive.float().mean(0), 1e-5):
        return "this is the share of rows without any error SO FAR: a word may be right although one before was wrong."
    once = torch.cat([start[:, None], said[:, :-1]], dim=1)
    if close(answer, (model(once).argmax(-1) == targets).float().mean(0), 1e-5):
        return (
            "two parallel passes are not a free run: the words you feed back were said after the TRUE prefix. "
            "Go position by position."
        )
    last = _written_from_the_last(model, start, targets.size(1))
    if close(answer, (last == targets).float().mean(0), 1e-5):
        return "the model reads its last word alone: give it everything written so far, start symbol included."
    if close(answer, (_written_without_the_start(model, start, targets.size(1)) == targets).float().mean(0), 1e-5):
        return "after the first word the start symbol is gone: the model's words come behind it, not in its place."
    if close(answer, (own[:, :1] == targets).float().mean(0), 1e-5):
        return "every word is the one that follows the start symbol: take the logits of the LAST position, [:, -1]."
    for column, shift in (("t + 1", 1), ("t - 1", -1)):
        right = (own == targets.roll(-shift, 1)).float().mean(0)
        if targets.size(1) > 2 and close(answer[1:-1], right[1:-1], 1e-5):
            return f"word t is compared with column {column} of the targets: it belongs to column t."
    return (
        "the shares do not fit: word t is the argmax of the LAST position's logits after start and the model's words "
        "0 .. t - 1, and is compared with column t of the targets."
    )


def _written_from_the_last(model, start, time):
    ids, out = start[:, None], []
    for _ in range(time):
        ids = model(ids)[:, -1].argmax(-1, keepdim=True)
        out.append(ids)
    return torch.cat(out, dim=1)


def _written_without_the_start(model, start, time):
    ids, out = start[:, None], []
    for t in range(time):
        out.append(model(ids)[:, -1].argmax(-1, keepdim=True))
        ids = out[-1] if t == 0 else torch.cat([ids, out[-1]], dim=1)
    return torch.cat(out, dim=1)


def _drawn_accuracy(model, start, targets):
    ids, right = start[:, None], []
    for t in range(targets.size(1)):
        said = torch.multinomial(model(ids)[:, -1].softmax(-1), 1)
        right.append((said[:, 0] == targets[:, t]).float().mean())
        ids = torch.cat([ids, said], dim=1)
    return torch.stack(right)


def _share(own, targets):
    return (own == targets).float().mean(0)


def _teacher_forced(model, start, targets):
    return (model(torch.cat([start[:, None], targets[:, :-1]], dim=1)).argmax(-1) == targets).float().mean(0)


def _twice(model, start, targets):
    said = model(torch.cat([start[:, None], targets[:, :-1]], dim=1)).argmax(-1)
    return _teacher_forced_on(model, torch.cat([start[:, None], said[:, :-1]], dim=1), targets)


def _teacher_forced_on(model, ids, targets):
    return (model(ids).argmax(-1) == targets).float().mean(0)


own_accuracy_of = own_accuracy
own_accuracy = Exercise(
    name="exposure_bias.own_accuracy",
    check=_check_own_accuracy,
    hint_text=(
        "Begin with ids = start[:, None]. In each turn ask model(ids) for its last position, take the argmax, compare "
        "it with the column of targets that belongs to this turn, and append it to ids, whether it was right or not."
    ),
    right=(own_accuracy_of, _own_accuracy_in_place),
    wrong=(
        Wrong(_teacher_forced, says="this is teacher forcing"),
        Wrong(_twice, says="two parallel passes"),
        Wrong(lambda m, s, y: 1 - own_accuracy_of(m, s, y), says="the share of wrong words"),
        Wrong(lambda m, s, y: own_accuracy_of(m, s, y) * len(y), says="divide by the number of rows"),
        Wrong(lambda m, s, y: own_accuracy_of(m, s, y).mean(), says="one number for all positions"),
        Wrong(
            lambda m, s, y: (_written(m, s, y.size(1)) == y).cumprod(1).float().mean(0), says="without any error SO FAR"
        ),
        Wrong(lambda m, s, y: (_written(m, s, y.size(1)) == y).float().mean(1), says="you averaged over time"),
        Wrong(
            lambda m, s, y: (_written_from_the_last(m, s, y.size(1)) == y).float().mean(0), says="its last word alone"
        ),
        Wrong(lambda m, s, y: _share(_written_without_the_start(m, s, y.size(1)), y), says="the start symbol is gone"),
        Wrong(lambda m, s, y: _share(_written(m, s, y.size(1))[:, :1], y), says="the LAST position, [:, -1]"),
        Wrong(lambda m, s, y: _share(_written(m, s, y.size(1)), y.roll(-1, 1)), says="column t + 1"),
        Wrong(lambda m, s, y: _share(_written(m, s, y.size(1)), y.roll(1, 1)), says="column t - 1"),
        Wrong(lambda m, s, y: own_accuracy_of(m, s, y) * len(y) / y.size(1), says="the number of positions"),
        Wrong(_drawn_accuracy, says="two runs differ"),
    ),
)

# --------------------------------------------------------------------------------------------- noisy_prefix


def noisy_prefix(inputs, rate, vocab, generator):
    hit = torch.rand(inputs.shape, generator=generator) < rate
    hit[:, 0] = False  # the start symbol was never predicted
    shift = torch.randint(1, vocab, inputs.shape, generator=generator)  # 1 .. vocab - 1: never the true token
    return torch.where(hit, (inputs + shift) % vocab, inputs)


def _noisy_prefix_by_rows(inputs, rate, vocab, generator):
    noisy = inputs.clone()
    for row in noisy:
        for t in range(1, len(row)):
            if torch.rand((), generator=generator) < rate:
                others = [token for token in range(vocab) if token != row[t]]
                row[t] = others[int(torch.randint(len(others), (), generator=generator))]
    return noisy


def _prefixes(rows, time, vocab):
    """Rows of tokens behind a start symbol, which lies outside the vocabulary."""
    ids = torch.randint(vocab, (rows, time), generator=torch.Generator().manual_seed(rows))
    ids[:, 0] = vocab
    return ids


def _check_noisy_prefix(student):
    for rate, vocab, rows, time in ((0.0, 10, 3, 5), (1.0, 5, 200, 10), (0.2, 4, 100, 21), (0.6, 2, 100, 11)):
        inputs, given = _prefixes(rows, time, vocab), _prefixes(rows, time, vocab)
        answer = student(given, rate, vocab, torch.Generator().manual_seed(rows))
        if isinstance(answer, list) and answer and all(isinstance(row, torch.Tensor) for row in answer):
            answer = torch.stack(answer) if len({row.shape for row in answer}) == 1 else answer  # a list of rows
        answer = as_tensor(answer)
        problem = shape_problem(answer, inputs, "the noisy prefix")
        if problem:
            return problem
        if answer.is_floating_point():
            return f"ids are integers; yours have dtype {answer.dtype}."
        changed = answer != inputs
        if not torch.equal(given, inputs):
            return "your function changed its argument, and the targets are cut from the same text: work on a copy."
        if changed[:, 0].any():
            return "you touched the start symbol: the model never predicts it, so it can never be wrong."
        if int(answer.max()) > vocab or (answer[:, 1:] >= vocab).any() or (answer < 0).any():
            least, most = int(answer[:, 1:].min()), int(answer[:, 1:].max())
            return f"wrong tokens come from 0 .. vocab - 1 = {vocab - 1}; yours from {least} to {most}."
        told = _name_noise(answer, changed[:, 1:], inputs, rate, vocab)
        if told:
            return told
        again, other = (_prefix_from(student, inputs, rate, vocab, seed) for seed in (rows, rows + 1))
        if not torch.equal(again, answer):
            return "the same seed gave two different results: hand generator=generator to every draw."
        if 0 < rate < 1 and torch.equal(other, answer):
            return "two different generators gave the same result: draw from the generator that you are given."
    return None


def _prefix_from(student, inputs, rate, vocab, seed):
    answer = student(inputs.clone(), rate, vocab, torch.Generator().manual_seed(seed))
    return torch.stack(list(map(as_tensor, answer)))


def _name_noise(answer, changed, inputs, rate, vocab):
    share, n = changed.double().mean().item(), changed.numel()
    spread = 6 * (rate * (1 - rate) / n) ** 0.5 + 1e-9  # six standard errors: once in five hundred million
    if rate > 0 and changed.any() and len(answer[:, 1:][changed].unique()) == 1 and vocab > 2:
        return "the wrong token is always the same one: draw it anew for every place."
    if rate == 1 and share < 1 and not changed.any(0).all():
        never = (~changed.any(0)).nonzero()[:, 0] + 1
        return f"at rate 1 the tokens at {never.tolist()} stay: only position 0, the start symbol, should."
    if rate == 1 and share < 1 and len(kept := inputs[:, 1:][~changed].unique()) == 1:
        return f"at rate 1 token {int(kept)} is never replaced: take the remainder modulo vocab, do not clamp."
    if rate == 1 and abs(share - (1 - 1 / vocab)) < 0.05 and share < 1:
        return (
            "at rate 1 some tokens are still right: the wrong one is drawn from ALL tokens, the true one included. "
            "Draw it from the others."
        )
    if abs(share - rate) > spread:
        if rate not in (0, 1) and abs(share - (1 - rate)) < spread:
            return f"rate {rate}: a share of {share:.2f} was replaced: the comparison of coin and rate is turned round."
        return f"rate {rate}: a share of {share:.2f} of the tokens behind the start symbol was replaced."
    if 0 < rate < 1:
        by_row, by_column = changed.double().mean(1), changed.double().mean(0)
        if set(by_row.tolist()) <= {0.0, 1.0}:
            return "whole rows are replaced or none of it: toss a coin for every token."
        if len(by_row.unique()) == 1:
            return "every row has the same number of wrong tokens: toss a coin for each token, without counting them."
        if set(by_column.tolist()) <= {0.0, 1.0}:
            return "the same positions are replaced in every row: toss a coin for every token of every row."
    shift = (answer[:, 1:] - inputs[:, 1:]) % vocab
    if rate == 1 and len(shift.unique()) > 1 and ((shift == shift[:1]).all() or (shift == shift[:, :1]).all()):
        return "whole rows or columns are moved by one number: draw a wrong token for each place."
    shift = shift[changed]
    if vocab > 2 and len(shift):
        counts = torch.bincount(shift, minlength=vocab)[1:].double()
        if not counts.all():
            return "not every other token can be drawn: all but the true one should be equally likely."
        fair = len(shift) / (vocab - 1)
        if ((counts - fair).abs() > 6 * fair**0.5).any():  # six standard errors, or more
            return "some wrong tokens are drawn more often than others: all but the true one should be equally likely."
    return None


def _noisy_start(inputs, rate, vocab, generator):
    hit = torch.rand(inputs.shape, generator=generator) < rate
    shift = torch.randint(1, vocab, inputs.shape, generator=generator)
    return torch.where(hit, (inputs + shift) % vocab, inputs)


def _noise_from_all(inputs, rate, vocab, generator):
    hit = torch.rand(inputs.shape, generator=generator) < rate
    hit[:, 0] = False
    return torch.where(hit, torch.randint(vocab, inputs.shape, generator=generator), inputs)


def _noise_in_place(inputs, rate, vocab, generator):
    noisy = noisy_prefix_of(inputs, rate, vocab, generator)
    inputs.copy_(noisy)
    return inputs


def _noise_turned_round(inputs, rate, vocab, generator):
    return (
        noisy_prefix_of(inputs, 1 - rate, vocab, generator)
        if 0 < rate < 1
        else noisy_prefix_of(inputs, rate, vocab, generator)
    )


def _noise_by_row(inputs, rate, vocab, generator):
    hit = (torch.rand(len(inputs), 1, generator=generator) < rate).repeat(1, inputs.size(1))
    hit[: int(rate * len(inputs))], hit[int(rate * len(inputs)) :] = True, False  # exactly the share, in whole rows
    hit[:, 0] = False
    shift = torch.randint(1, vocab, inputs.shape, generator=generator)
    return torch.where(hit, (inputs + shift) % vocab, inputs)


def _noise_uneven(inputs, rate, vocab, generator):
    hit = torch.rand(inputs.shape, generator=generator) < rate
    hit[:, 0] = False
    token = torch.randint(vocab, inputs.shape, generator=generator)
    return torch.where(hit, torch.where(token == inputs, (inputs + 1) % vocab, token), inputs)


def _noise_by_column(inputs, rate, vocab, generator):
    hit = torch.rand(inputs.shape, generator=generator) < rate
    hit[:, 0] = False
    shift = torch.arange(inputs.size(1)) % (vocab - 1) + 1  # the same in every row
    return torch.where(hit, (inputs + shift) % vocab, inputs)


def _noise_without_generator(inputs, rate, vocab, generator):
    return noisy_prefix_of(inputs, rate, vocab, None)


def _noise_counted(inputs, rate, vocab, generator):
    hit = torch.zeros(inputs.shape, dtype=torch.bool)
    for row in hit:
        row[1 + torch.randperm(len(row) - 1, generator=generator)[: round(rate * (len(row) - 1))]] = True
    shift = torch.randint(1, vocab, inputs.shape, generator=generator)
    return torch.where(hit, (inputs + shift) % vocab, inputs)


def _noise_clamped(inputs, rate, vocab, generator):
    hit = torch.rand(inputs.shape, generator=generator) < rate
    hit[:, 0] = False
    shift = torch.randint(1, vocab, inputs.shape, generator=generator)
    return torch.where(hit, (inputs + shift).clamp(max=vocab - 1), inputs)


def _noise_from_position_2(inputs, rate, vocab, generator):
    noisy = noisy_prefix_of(inputs, rate, vocab, generator)
    noisy[:, 1] = inputs[:, 1]
    return noisy


def _noise_one_step(inputs, rate, vocab, generator):
    hit = torch.rand(inputs.shape, generator=generator) < rate
    hit[:, 0] = False
    return torch.where(hit, (inputs + 1) % vocab, inputs)


noisy_prefix_of = noisy_prefix
noisy_prefix = Exercise(
    name="exposure_bias.noisy_prefix",
    check=_check_noisy_prefix,
    hint_text=(
        "torch.rand(inputs.shape, generator=generator) < rate tosses a coin for every token; the first column stays. "
        "A token other than x: add a random number from 1 to vocab - 1, and take the remainder modulo vocab. "
        "torch.where(hit, wrong, inputs) leaves the argument as it is."
    ),
    right=(noisy_prefix_of, _noisy_prefix_by_rows),
    wrong=(
        Wrong(_noisy_start, says="the start symbol"),
        Wrong(_noise_from_all, says="the true one included"),
        Wrong(_noise_in_place, says="changed its argument"),
        Wrong(_noise_turned_round, says="turned round"),
        Wrong(_noise_by_row, says="whole rows"),
        Wrong(_noise_one_step, says="not every other token"),
        Wrong(_noise_uneven, says="more often than others"),
        Wrong(_noise_by_column, says="whole rows or columns"),
        Wrong(_noise_without_generator, says="two different results"),
        Wrong(_noise_counted, says="the same number of wrong tokens"),
        Wrong(_noise_clamped, says="do not clamp"),
        Wrong(_noise_from_position_2, says="the tokens at [1] stay"),
        Wrong(
            lambda x, r, v, g: noisy_prefix_of(x, r, v, torch.Generator().manual_seed(0)),
            says="two different generators",
        ),
        Wrong(lambda x, r, v, g: x.clone(), says="at rate 1 the tokens at"),
        Wrong(lambda x, r, v, g: noisy_prefix_of(x, r, v + 1, g) if r else x.clone(), says="wrong tokens come from"),
    ),
)

# --------------------------------------------------------------------------------------------- reward_loss


def reward_loss(log_p, rewards):
    n = rewards.size(1)
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (n - 1)  # the mean reward of the question's other answers
    return -((rewards - others) * log_p).mean()


def _reward_loss_by_answer(log_p, rewards):
    total = 0.0
    questions, n = rewards.shape
    for row in range(questions):
        for i in range(n):
            rest = [rewards[row, j] for j in range(n) if j != i]
            total = total + (rewards[row, i] - sum(rest) / len(rest)) * -log_p[row, i]
    return total / (questions * n)


def _reward_cases():
    generator = torch.Generator().manual_seed(11)
    for questions, n in ((3, 4), (1, 2), (5, 3)):
        log_p = -3 * torch.rand(questions, n, generator=generator, dtype=torch.float64) - 0.1
        yield log_p, 2 * torch.rand(questions, n, generator=generator, dtype=torch.float64)


def _check_reward_loss(student):
    for log_p, rewards in _reward_cases():
        leaf = log_p.clone().requires_grad_()
        given = rewards.clone()
        answer = student(leaf, given)
        if not isinstance(answer, torch.Tensor):
            return f"return a tensor with one number, so that gradients flow; got a {type(answer).__name__}."
        if answer.numel() != 1:
            return f"the loss is one number; yours has shape {tuple(answer.shape)}: take the mean over all answers."
        if not torch.equal(given, rewards):
            return "your function changed the rewards; work on a copy."
        if not answer.requires_grad:
            return "no gradient reaches log_p: do not detach it. (The rewards are the constants.)"
        (found,) = torch.autograd.grad(answer.sum(), leaf)
        expected = -(rewards - _others(rewards)) / rewards.numel()  # d loss / d log_p
        if not close(found, expected, 1e-6):
            return _name_reward(found, rewards, log_p, expected)
    return None


def _name_reward(found, rewards, log_p, expected):
    """The mistake, also where the sign is wrong as well or a sum was taken for the mean."""
    size = rewards.numel()
    for scaled, first in ((found, ""), (-found, "the sign is wrong. And "), (found / size, "a sum, not a mean. And ")):
        words = _one_mistake(scaled, rewards, log_p, expected)
        if words:
            return first + words
    return "the gradient does not fit: each answer's is -(its reward - the mean of the others) / number of answers."


def _others(rewards):
    return (rewards.sum(1, keepdim=True) - rewards) / (rewards.size(1) - 1)


def _one_mistake(found, rewards, log_p, expected):
    n, size = rewards.size(1), rewards.numel()
    plain = -rewards / size
    if close(found, -expected, 1e-6):
        return "the sign: a loss is made small, and the reward is to grow: -(advantage * log p)."
    if close(found, expected * size, 1e-6):
        return "a sum over all answers: take the mean, or the learning rate depends on how many you draw."
    if close(found, expected * n, 1e-6):
        return "you summed over a question's answers: take the mean over them as well."
    if len(rewards) > 1 and close(found, expected * len(rewards), 1e-6):
        return "you summed over the questions: take the mean over them as well."
    if close(found, torch.full_like(found, -1 / size), 1e-6):
        return "the rewards have no say: every drawn answer is made more probable by as much."
    if close(found, plain, 1e-6):
        return "without a baseline: right on average, but it varies more. Take off the mean of the OTHER answers."
    if close(found, -(rewards - rewards.mean(1, keepdim=True)) / size, 1e-6) and n > 1:
        return (
            "the baseline contains the answer's own reward, so it depends on what was drawn: the gradient comes out "
            f"too short, by a factor of (n - 1) / n = {(n - 1) / n:.2f}. Take the mean of the other answers."
        )
    for spread in (rewards.std(1, keepdim=True), rewards.std(1, keepdim=True, correction=0)):
        advantages = (rewards - rewards.mean(1, keepdim=True), rewards - _others(rewards))
        if any(close(found, -advantage / spread / size, 1e-4) for advantage in advantages):
            return (
                "divided by the standard deviation: it differs from question to question, so the gradient does not "
                "even point in the right direction any more. Leave it out, and take the mean of the OTHER answers."
            )
    if n > 2 and close(found, -(rewards - _others(rewards) * (n - 1)) / size, 1e-6):
        return "the sum of the others is taken off: divide it by n - 1, a baseline is as large as one reward."
    if n > 2 and close(found, -(rewards - rewards.amax(1, keepdim=True)) / size, 1e-6):
        return "the best answer is no baseline: with it no answer is ever made more probable. Take the others' mean."
    if close(found, -(rewards - _others(rewards)).clamp(min=0) / size, 1e-6):
        return "only the answers above the baseline count: those below it should become less probable."
    if close(found, -(rewards - rewards.mean()) / size, 1e-6):
        return "one baseline for all questions, the answer's own reward in it: take the question's other answers."
    if close(found, -(rewards - _others(rewards) * (n - 1) / n) / size, 1e-6) and n > 1:
        return "the sum of the others is divided by n: without the answer itself there are n - 1 of them."
    if close(found, -(rewards - (rewards.sum() - rewards) / (size - 1)) / size, 1e-6):
        return "the baseline is the mean of all other answers to ALL questions: take those to the same question."
    if len(rewards) > 1 and close(found, -(rewards - _others(rewards.T).T) / size, 1e-6):
        return "the baseline is taken along the wrong axis: a row holds the answers to one question."
    if len(rewards) > 1 and close(found, -(rewards - rewards.mean(0)) / size, 1e-6):
        return "the mean runs over the questions: a row holds the answers to one question, so take it along dim 1."
    weighted = expected * log_p.exp()
    if close(found, weighted, 1e-6):
        return "you used p instead of log p: the answers were DRAWN from p, so each would be weighted by p twice."
    return None


reward_loss_of = reward_loss
reward_loss = Exercise(
    name="exposure_bias.reward_loss",
    check=_check_reward_loss,
    hint_text=(
        "For each answer: advantage = its reward minus the mean reward of the question's other n - 1 answers, which is "
        "(row sum - own) / (n - 1). The loss is the mean of -advantage * log_p over all answers."
    ),
    right=(reward_loss_of, _reward_loss_by_answer),
    wrong=(
        Wrong(lambda lp, r: ((r - _others(r)) * lp).mean(), says="the sign"),
        Wrong(lambda lp, r: -((r - _others(r)) * lp).sum(), says="a sum over all answers"),
        Wrong(lambda lp, r: -((r - _others(r)) * lp).sum(1).mean(), says="you summed over a question's answers"),
        Wrong(lambda lp, r: -(r * lp).mean(), says="without a baseline"),
        Wrong(lambda lp, r: -((r - r.mean(1, keepdim=True)) * lp).mean(), says="the answer's own reward"),
        Wrong(lambda lp, r: -((r - (r.sum(1, keepdim=True) - r) / r.size(1)) * lp).mean(), says="divided by n"),
        Wrong(lambda lp, r: -((r - (r.sum() - r) / (r.numel() - 1)) * lp).mean(), says="ALL questions"),
        Wrong(lambda lp, r: -((r - _others(r.T).T) * lp).mean(), says="the wrong axis"),
        Wrong(lambda lp, r: -((r - r.mean(0)) * lp).mean(), says="runs over the questions"),
        Wrong(
            lambda lp, r: -((r - r.mean(1, keepdim=True)) / (r.std(1, keepdim=True) + 1e-8) * lp).mean(),
            says="deviation",
        ),
        Wrong(lambda lp, r: -((r - _others(r)) / (r.std(1, keepdim=True) + 1e-6) * lp).mean(), says="deviation"),
        Wrong(
            lambda lp, r: -((r - (r.sum(1, keepdim=True) - r)) * lp).mean(), says="the sum of the others is taken off"
        ),
        Wrong(lambda lp, r: -((r - r.amax(1, keepdim=True)) * lp).mean(), says="the best answer is no baseline"),
        Wrong(lambda lp, r: -((r - _others(r)).clamp(min=0) * lp).mean(), says="only the answers above"),
        Wrong(lambda lp, r: -((r - _others(r)) * lp).sum(0).mean(), says="summed over the questions"),
        Wrong(lambda lp, r: -lp.mean(), says="the rewards have no say"),
        Wrong(lambda lp, r: (r * lp).mean(), says="the sign is wrong. And without a baseline"),
        Wrong(lambda lp, r: -(r * lp).sum(), says="a sum, not a mean. And without a baseline"),
        Wrong(lambda lp, r: -((r - _others(r)) * lp.exp()).mean(), says="p instead of log p"),
        Wrong(lambda lp, r: -((r - _others(r)) * lp.detach()).mean(), says="no gradient reaches log_p"),
        Wrong(lambda lp, r: -((r - _others(r)) * lp), says="the loss is one number"),
    ),
)
