"""Exercises of notebook 12: the contrastive score, the greedy loop over it, and the score of a whole text."""

from __future__ import annotations

import math
import numbers

import torch

from arlab.decoding import contrastive_score
from arlab.exercises.exercise import Exercise, Wrong

NEVER = -math.inf

# ---------------------------------------------------------------------------------------------- contrastive_scores


def scores_by_logs(strong_logits, weak_logits, alpha):
    log_p, log_q = strong_logits.log_softmax(-1), weak_logits.log_softmax(-1)
    plausible = log_p >= math.log(alpha) + log_p.amax(-1, keepdim=True)
    return (log_p - log_q).masked_fill(~plausible, float("-inf"))  # over any NaN too


def _scores_by_ratio(strong_logits, weak_logits, alpha):
    p, q = strong_logits.softmax(-1), weak_logits.softmax(-1)
    score = torch.full_like(p, -torch.inf)
    for index in (p >= alpha * p.max(-1, keepdim=True).values).nonzero().tolist():
        score[tuple(index)] = (p[tuple(index)] / q[tuple(index)]).log()
    return score


def _score_cases():
    g = torch.Generator().manual_seed(12)
    for shape in ((6,), (3, 7), (2, 2, 5)):
        strong = 2 * torch.randn(shape, generator=g, dtype=torch.float64) + 1
        weak = 2 * torch.randn(shape, generator=g, dtype=torch.float64) - 2
        for alpha in (0.5, 0.2, 0.05):
            yield strong, weak, alpha
    close = torch.tensor([1.5, 1.4, 0.0, -1.0], dtype=torch.float64)
    yield close, close.flip(0), 0.5


def _as_tensor(answer):
    """The scores as a tensor, of lists too; None if they are no table of numbers."""
    if isinstance(answer, torch.Tensor):
        return answer
    try:
        return torch.as_tensor(answer, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return None


def _check_contrastive_scores(student):
    cases, answers = list(_score_cases()), []
    for strong, weak, alpha in cases:
        given = strong.clone(), weak.clone()
        returned = student(*given, alpha)
        answer = _as_tensor(returned)
        if answer is None or answer.shape != strong.shape:
            got = type(returned).__name__ if answer is None else tuple(answer.shape)
            return f"return one score a token, shape {tuple(strong.shape)}; you returned {got}."
        if not (torch.equal(given[0], strong) and torch.equal(given[1], weak)):
            return "the caller's logits were changed in place; work on a copy (masked_fill makes one)."
        if answer.dtype == torch.bool:
            return "that is the plausible set; return the scores, -inf outside it."
        if answer.isnan().any():
            return _NAN
        if ((answer > NEVER) & (answer < -1000)).any():
            return "implausible tokens have a large negative score; they need -inf, which no other score can reach."
        answers.append(answer.double())
    if not all(map(_same, answers, (scores_by_logs(*case) for case in cases))):
        return _name_scores(cases, answers)
    return _score_edges(student)


_NAN = (
    "there are NaNs: where both log-probabilities are -inf their difference is NaN, and so is -inf times 0; fill the "
    "implausible places (masked_fill, torch.where), do not add or multiply a mask."
)


def _same(answer, expected):
    return torch.equal(answer == NEVER, expected == NEVER) and torch.allclose(answer, expected, atol=1e-4)


def _name_scores(cases, answers):
    """The known mistake that explains every answer, if there is one."""
    for mistake, words in _SCORE_MISTAKES:
        if all(_same(answer, mistake(*case)) for case, answer in zip(cases, answers, strict=True)):
            return words
    for (strong, weak, alpha), answer in zip(cases, answers, strict=True):
        expected = scores_by_logs(strong, weak, alpha)
        if not torch.equal(answer > NEVER, expected > NEVER):
            sizes, yours = ((each > NEVER).sum(-1).flatten().tolist() for each in (expected, answer))
            return f"with alpha = {alpha} the rows have {sizes} plausible tokens; yours have {yours}."
        if not _same(answer, expected):
            at = tuple((answer - expected).nan_to_num(0.0).abs().argmax().unsqueeze(0).tolist())
            mine, right = float(answer.flatten()[at]), float(expected.flatten()[at])
            return f"the plausible set is right; a score that should be {right:.4f} is {mine:.4f}."
    return "not the scores expected."


def _score_edges(student):
    equal = torch.tensor([[1.0, 3.0, 3.0, 0.0], [2.0, -1.0, 0.0, 1.0]])
    kept = (_as_tensor(student(equal.clone(), torch.zeros(2, 4), 1.0)) > NEVER).tolist()
    if kept == [[False] * 4] * 2:
        return "alpha = 1 left no token: the most probable one has exactly the threshold, so compare with >=, not >."
    if kept != [[False, True, True, False], [True, False, False, False]]:
        return f"alpha = 1 keeps the most probable token of each row, and its equals; you kept {kept}."
    impossible = torch.tensor([0.5, NEVER, 0.2, NEVER])
    answer = _as_tensor(student(impossible.clone(), torch.tensor([0.1, NEVER, 0.4, 0.3]), 0.1))
    if answer.isnan().any():
        return _NAN
    if (answer > NEVER).tolist() != [True, False, True, False]:
        return "a token that the strong model finds impossible must have the score -inf."
    return None


def _guarded(strong, weak, keep):
    return (strong.log_softmax(-1) - weak.log_softmax(-1)).masked_fill(~keep, NEVER)


def scores_reversed(strong, weak, alpha):
    log_p, log_q = strong.log_softmax(-1), weak.log_softmax(-1)
    return (log_q - log_p).masked_fill(log_p < math.log(alpha) + log_p.amax(-1, keepdim=True), NEVER)


def scores_of_logits(strong, weak, alpha):
    return (strong - weak).masked_fill(strong - strong.amax(-1, keepdim=True) < math.log(alpha), NEVER)


def scores_unguarded(strong, weak, alpha):
    return strong.log_softmax(-1) - weak.log_softmax(-1)


def scores_absolute(strong, weak, alpha):
    return _guarded(strong, weak, strong.softmax(-1) >= alpha)


def scores_weak_maximum(strong, weak, alpha):
    return _guarded(strong, weak, strong.softmax(-1) >= alpha * weak.softmax(-1).amax(-1, keepdim=True))


def scores_weak_guard(strong, weak, alpha):
    return _guarded(strong, weak, weak.softmax(-1) >= alpha * weak.softmax(-1).amax(-1, keepdim=True))


def scores_without_log(strong, weak, alpha):
    log_p = strong.log_softmax(-1)
    return _guarded(strong, weak, log_p >= log_p.amax(-1, keepdim=True) - alpha)


def scores_scaled_log(strong, weak, alpha):
    log_p = strong.log_softmax(-1)
    return _guarded(strong, weak, log_p >= alpha * log_p.amax(-1, keepdim=True))


def scores_over_everything(strong, weak, alpha):
    p = strong.softmax(-1)
    return _guarded(strong, weak, p >= alpha * p.max())


def scores_of_the_argmax(strong, weak, alpha):
    log_p = strong.log_softmax(-1)
    return _guarded(strong, weak, log_p == log_p.amax(-1, keepdim=True))


def scores_far_below(strong, weak, alpha):
    return scores_by_logs(strong, weak, alpha).nan_to_num(neginf=-1e9)


def scores_strict(strong, weak, alpha):
    log_p = strong.log_softmax(-1)
    return _guarded(strong, weak, log_p > math.log(alpha) + log_p.amax(-1, keepdim=True))


def scores_softmaxed(strong, weak, alpha):
    return scores_by_logs(strong, weak, alpha).log_softmax(-1)


def scores_as_probabilities(strong, weak, alpha):
    return scores_by_logs(strong, weak, alpha).softmax(-1)


def scores_renormalised(strong, weak, alpha):
    kept = scores_by_logs(strong, weak, alpha) > NEVER
    return (strong.masked_fill(~kept, NEVER).log_softmax(-1) - weak.log_softmax(-1)).masked_fill(~kept, NEVER)


def scores_of_probabilities(strong, weak, alpha):
    p = strong.softmax(-1)
    return (p - weak.softmax(-1)).masked_fill(p < alpha * p.amax(-1, keepdim=True), NEVER)


def scores_zeroed(strong, weak, alpha):
    return scores_by_logs(strong, weak, alpha).nan_to_num(neginf=0.0)


def scores_added_mask(strong, weak, alpha):
    log_p = strong.log_softmax(-1)
    plausible = log_p >= math.log(alpha) + log_p.amax(-1, keepdim=True)
    return log_p - weak.log_softmax(-1) + plausible.to(log_p.dtype).log()


def scores_in_place(strong, weak, alpha):
    log_p = strong.log_softmax(-1)
    strong.masked_fill_(log_p < math.log(alpha) + log_p.amax(-1, keepdim=True), NEVER)
    return (log_p - weak.log_softmax(-1)).masked_fill(strong == NEVER, NEVER)


_SCORE_MISTAKES = (
    (scores_reversed, "the subtraction is the wrong way round: you reward what the weak model prefers."),
    (
        scores_of_logits,
        "you subtracted raw logits; they are log-probabilities only up to a constant of each model and row. The argmax "
        "survives it, a comparison of two beams does not: use log_softmax.",
    ),
    (scores_unguarded, "no token was removed: without the guard an improbable token with a large ratio wins."),
    (
        scores_absolute,
        "you compared p_strong with alpha itself (the largest probability taken for 1); compare with alpha times the "
        "row's largest p_strong.",
    ),
    (scores_weak_maximum, "the threshold uses the weak model's largest probability; it is the strong one's."),
    (scores_weak_guard, "you asked what the weak model finds plausible; the guard is the strong model's."),
    (scores_of_the_argmax, "only the most probable token of each row is left: alpha was not used."),
    (
        scores_without_log,
        "alpha went in without its log: p >= alpha * max is log p >= log(alpha) + max log p, not max log p - alpha.",
    ),
    (
        scores_scaled_log,
        "you multiplied the log-probability by alpha; a factor on probabilities is an added log(alpha) on their logs.",
    ),
    (
        scores_over_everything,
        "you took the maximum over all rows; each row has its own most probable token (dim=-1, keepdim=True).",
    ),
    (
        scores_softmaxed,
        "you put a softmax over the scores. Within a row the order stays, between two beams it flips: leave the score "
        "as it is.",
    ),
    (scores_as_probabilities, "you turned the scores into probabilities; leave them as differences of logs."),
    (
        scores_renormalised,
        "you renormalised p_strong over the plausible set before subtracting; log p_strong is that of the whole "
        "vocabulary.",
    ),
    (scores_of_probabilities, "you subtracted probabilities; subtract their logs (the score is the log of a ratio)."),
    (scores_zeroed, "implausible tokens have the score 0, which may beat plausible ones; they need -inf."),
)

contrastive_scores = Exercise(
    name="contrastive_decoding.contrastive_scores",
    check=_check_contrastive_scores,
    hint_text=(
        "Three lines. log_softmax of both. The plausible tokens: log p_strong >= log(alpha) + the largest log p_strong "
        "of the row (amax with keepdim=True). Then the difference, with masked_fill(~plausible, -inf)."
    ),
    right=(scores_by_logs, _scores_by_ratio),
    wrong=(
        Wrong(scores_reversed, says="wrong way round"),
        Wrong(scores_of_logits, says="raw logits"),
        Wrong(scores_unguarded, says="no token was removed"),
        Wrong(scores_absolute, says="with alpha itself"),
        Wrong(scores_weak_maximum, says="weak model's largest probability"),
        Wrong(scores_weak_guard, says="the guard is the strong model's"),
        Wrong(scores_without_log, says="without its log"),
        Wrong(scores_scaled_log, says="multiplied the log-probability by alpha"),
        Wrong(scores_over_everything, says="over all rows"),
        Wrong(scores_of_the_argmax, says="only the most probable token"),
        Wrong(scores_far_below, says="large negative score"),
        Wrong(scores_strict, says="compare with >=, not >"),
        Wrong(scores_softmaxed, says="softmax over the scores"),
        Wrong(scores_as_probabilities, says="into probabilities"),
        Wrong(scores_renormalised, says="renormalised p_strong"),
        Wrong(scores_of_probabilities, says="subtracted probabilities"),
        Wrong(scores_zeroed, says="the score 0"),
        Wrong(scores_added_mask, says="NaNs"),
        Wrong(scores_in_place, says="changed in place"),
    ),
)

# ---------------------------------------------------------------------------------------------- contrastive_greedy


class _Reader:
    """A language model of seven tokens whose logits depend on every token before, and on its seed."""

    vocab_size, context_length, bos_id = 7, None, None

    def __init__(self, seed):
        self.seed = seed

    def __call__(self, ids, cache=None):
        return torch.stack([torch.stack(self._logits(row)) for row in ids.tolist()])

    def _logits(self, row):
        logits, state = [], self.seed
        for i in row:
            state = (state * 31 + i + 11) % 2**31
            logits.append(2 * torch.randn(7, generator=torch.Generator().manual_seed(state), dtype=torch.float64))
        return logits


class _Level(_Reader):
    """All tokens are equally probable: every score is 0."""

    def _logits(self, row):
        return [torch.full((7,), float(self.seed), dtype=torch.float64) for _ in row]


def greedy_over_scores(strong, weak, prompt, max_new_tokens, alpha):
    ids = list(prompt)
    for _ in range(max_new_tokens):
        text = torch.tensor([ids])  # both models read the same text
        scores = contrastive_score(strong(text)[0, -1], weak(text)[0, -1], alpha)
        ids.append(int(scores.argmax()))
    return ids[len(prompt) :]


def _greedy_by_hand(strong, weak, prompt, max_new_tokens, alpha):
    new = []
    while len(new) < max_new_tokens:
        text = torch.tensor(list(prompt) + new)[None]
        p, q = (model(text)[0, -1].softmax(-1) for model in (strong, weak))
        ratio = torch.where(p >= alpha * p.max(), p / q, torch.zeros_like(p))
        new += [ratio.argmax().item()]
    return new


def _greedy_cases():
    for seed, prompt in enumerate(([3], [1, 5], [6, 0, 2], [4, 4, 4, 1])):
        for alpha in (1.0, 0.3, 0.05):
            yield _Reader(seed), _Reader(100 + seed), prompt, 6, alpha
    yield _Level(0), _Level(1), [3, 5], 3, 0.5


def _check_contrastive_greedy(student):
    cases, answers = list(_greedy_cases()), []
    for strong, weak, prompt, count, alpha in cases:
        given = list(prompt)
        answer = student(strong, weak, given, count, alpha)
        if given != prompt:
            return "the caller's prompt was changed: append to a copy, list(prompt)."
        answer = answer.flatten().tolist() if hasattr(answer, "flatten") else answer  # a tensor, an array
        if not isinstance(answer, (list, tuple)) or not all(_is_number(i) for i in answer):
            return f"return the new ids as a list of integers; you returned {type(answer).__name__}."
        answer = [int(i) for i in answer]
        if answer[: len(prompt)] == prompt and len(answer) == len(prompt) + count:
            return "the prompt is in your answer; return the new tokens alone."
        if len(answer) != count:
            return f"max_new_tokens is {count}; you returned {len(answer)} tokens."
        answers.append(answer)
    expected = [greedy_over_scores(*case) for case in cases]
    if answers == expected:
        return None
    for mistake, words in _GREEDY_MISTAKES:
        if answers == [mistake(*case) for case in cases]:
            return words
    at = next(i for i, answer in enumerate(answers) if answer != expected[i])
    return f"prompt {cases[at][2]}, alpha {cases[at][4]}: {expected[at]} was expected, you wrote {answers[at]}."


def _is_number(i):
    return isinstance(i, numbers.Integral) or (isinstance(i, torch.Tensor) and i.numel() == 1)


def _loop(prompt, max_new_tokens, choose):
    """A wrong answer: choose(text so far, new tokens) gives the next id."""
    new = []
    for _ in range(max_new_tokens):
        new.append(int(choose(list(prompt) + new, new)))
    return new


def _last(model, ids):
    return model(torch.tensor([ids]))[0, -1]


def greedy_strong_alone(strong, weak, prompt, max_new_tokens, alpha):
    return _loop(prompt, max_new_tokens, lambda text, _: _last(strong, text).argmax())


def greedy_unguarded(strong, weak, prompt, max_new_tokens, alpha):
    return _loop(
        prompt, max_new_tokens, lambda t, _: contrastive_score(_last(strong, t), _last(weak, t), None).argmax()
    )


def greedy_weak_on_its_own(strong, weak, prompt, max_new_tokens, alpha):
    ids, weak_ids = list(prompt), list(prompt)
    for _ in range(max_new_tokens):
        logits = _last(weak, weak_ids)
        ids.append(int(contrastive_score(_last(strong, ids), logits, alpha).argmax()))
        weak_ids.append(int(logits.argmax()))
    return ids[len(prompt) :]


def greedy_weak_stays(strong, weak, prompt, max_new_tokens, alpha):
    frozen = _last(weak, prompt)
    return _loop(prompt, max_new_tokens, lambda text, _: contrastive_score(_last(strong, text), frozen, alpha).argmax())


def greedy_weak_last_token(strong, weak, prompt, max_new_tokens, alpha):
    def choose(text, _):
        return contrastive_score(_last(strong, text), _last(weak, text[-1:]), alpha).argmax()

    return _loop(prompt, max_new_tokens, choose)


def greedy_first_position(strong, weak, prompt, max_new_tokens, alpha):
    def choose(text, _):
        ids = torch.tensor([text])
        return contrastive_score(strong(ids)[0, 0], weak(ids)[0, 0], alpha).argmax()

    return _loop(prompt, max_new_tokens, choose)


def greedy_last_of_equals(strong, weak, prompt, max_new_tokens, alpha):
    def choose(text, _):
        return contrastive_score(_last(strong, text), _last(weak, text), alpha).argsort(stable=True)[-1]

    return _loop(prompt, max_new_tokens, choose)


def greedy_default_alpha(strong, weak, prompt, max_new_tokens, alpha):
    return greedy_over_scores(strong, weak, prompt, max_new_tokens, 0.1)


def greedy_swapped(strong, weak, prompt, max_new_tokens, alpha):
    return greedy_over_scores(weak, strong, prompt, max_new_tokens, alpha)


def greedy_with_prompt(strong, weak, prompt, max_new_tokens, alpha):
    return [*prompt, *greedy_over_scores(strong, weak, prompt, max_new_tokens, alpha)]


def greedy_changing_prompt(strong, weak, prompt, max_new_tokens, alpha):
    new = greedy_over_scores(strong, weak, prompt, max_new_tokens, alpha)
    prompt.extend(new)
    return new


def greedy_one_short(strong, weak, prompt, max_new_tokens, alpha):
    return greedy_over_scores(strong, weak, prompt, max_new_tokens - 1, alpha)


_GREEDY_MISTAKES = (
    (greedy_strong_alone, "these are the strong model's own greedy texts: the score decides, not log p_strong."),
    (greedy_unguarded, "these are the texts without the guard: alpha was not used."),
    (
        greedy_weak_on_its_own,
        "the weak model read a text of its own: give both models the same text, the chosen tokens appended.",
    ),
    (greedy_weak_stays, "the weak model read the prompt alone, at every step: it has to read the new tokens as well."),
    (greedy_weak_last_token, "the weak model read the last token alone; here both read the whole text."),
    (greedy_first_position, "you used the logits of the first position; the next token is predicted at the last one."),
    (greedy_swapped, "strong and weak are swapped."),
    (greedy_last_of_equals, "among equal scores you took the last id; take the lowest one, as argmax does."),
    (greedy_default_alpha, "these are the texts for alpha = .1, the default: pass alpha on to contrastive_score."),
)

contrastive_greedy = Exercise(
    name="contrastive_decoding.contrastive_greedy",
    check=_check_contrastive_greedy,
    hint_text=(
        "Greedy decoding's loop with one line changed. Put the ids so far into a tensor (1, time), ask both models, "
        "take each one's last position [0, -1], score them with contrastive_score(..., alpha), append the argmax."
    ),
    right=(greedy_over_scores, _greedy_by_hand),
    wrong=(
        Wrong(greedy_strong_alone, says="strong model's own greedy texts"),
        Wrong(greedy_unguarded, says="alpha was not used"),
        Wrong(greedy_weak_on_its_own, says="a text of its own"),
        Wrong(greedy_weak_stays, says="the prompt alone"),
        Wrong(greedy_weak_last_token, says="the last token alone"),
        Wrong(greedy_first_position, says="first position"),
        Wrong(greedy_swapped, says="swapped"),
        Wrong(greedy_last_of_equals, says="take the lowest one"),
        Wrong(greedy_default_alpha, says="pass alpha on"),
        Wrong(greedy_with_prompt, says="new tokens alone"),
        Wrong(greedy_changing_prompt, says="append to a copy"),
        Wrong(greedy_one_short, says="you returned 5 tokens"),
    ),
)

# ------------------------------------------------------------------------------------------------- score_of_text


def text_in_one_pass(strong, weak, prompt, text, alpha):
    ids = torch.tensor([[*prompt, *text]])
    scores = contrastive_score(strong(ids)[0], weak(ids)[0], alpha)  # row t scores token t + 1
    first = len(prompt) - 1
    return sum(float(scores[first + t, token]) for t, token in enumerate(text))


def _text_step_by_step(strong, weak, prompt, text, alpha):
    total = 0.0
    for t, token in enumerate(text):
        before = torch.tensor([[*prompt, *text[:t]]])
        log_p, log_q = (model(before)[0, -1].log_softmax(-1) for model in (strong, weak))
        if log_p[token] < log_p.max() + math.log(alpha):
            return -math.inf
        total += (log_p[token] - log_q[token]).item()
    return total


def _text_cases():
    for seed, prompt in enumerate(([2, 3], [1, 5, 0], [6])):
        strong, weak = _Reader(seed), _Reader(50 + seed)
        for alpha in (0.3, 0.1):
            yield strong, weak, prompt, greedy_over_scores(strong, weak, prompt, 4, alpha), alpha
        best = greedy_over_scores(strong, weak, prompt, 1, 1.0)  # the strong model's first choices
        yield strong, weak, prompt, best, 0.01
    g = torch.Generator().manual_seed(3)
    for _ in range(6):
        text = torch.randint(7, (3,), generator=g).tolist()
        yield _Reader(7), _Reader(70), [1, 2], text, 0.02


def _check_score_of_text(student):
    cases, answers = list(_text_cases()), []
    for case in cases:
        answer = student(*case)
        if hasattr(answer, "flatten") and len(answer.flatten()) == 1:  # a tensor, an array
            answer = answer.item()
        if not isinstance(answer, numbers.Real):
            return f"one number for the whole text; you returned {type(answer).__name__}."
        if math.isnan(answer):
            return "the answer is NaN; an implausible token makes it -inf."
        answers.append(float(answer))
    expected = [text_in_one_pass(*case) for case in cases]
    if _equal(answers, expected):
        return None
    for mistake, words in _TEXT_MISTAKES:
        if _equal(answers, [mistake(*case) for case in cases]):
            return words
    at = next(i for i in range(len(cases)) if not _equal(answers[i : i + 1], expected[i : i + 1]))
    prompt, text, alpha = cases[at][2:]
    return f"prompt {prompt}, text {text}, alpha {alpha}: {expected[at]:.4f} was expected, not {answers[at]:.4f}."


def _equal(answers, expected):
    return all(a == b or abs(a - b) < 1e-4 for a, b in zip(answers, expected, strict=True))


def _summed(strong, weak, prompt, text, alpha, *, shift=-1, scores=contrastive_score, start=None):
    """A wrong answer: other scores, or taken at other positions."""
    ids = [*prompt, *text]
    table = scores(strong(torch.tensor([ids]))[0], weak(torch.tensor([ids]))[0], alpha)
    return sum(float(table[t + shift, ids[t]]) for t in range(len(prompt) if start is None else start, len(ids)))


def text_off_by_one(strong, weak, prompt, text, alpha):
    return _summed(strong, weak, prompt, text, alpha, shift=0)


def text_mean(strong, weak, prompt, text, alpha):
    return text_in_one_pass(strong, weak, prompt, text, alpha) / len(text)


def text_with_prompt(strong, weak, prompt, text, alpha):
    return _summed(strong, weak, prompt, text, alpha, start=1)


def text_softmaxed(strong, weak, prompt, text, alpha):
    return _summed(strong, weak, prompt, text, alpha, scores=lambda *a: contrastive_score(*a).log_softmax(-1))


def text_unguarded(strong, weak, prompt, text, alpha):
    return _summed(strong, weak, prompt, text, None)


def text_skipping(strong, weak, prompt, text, alpha):
    return _summed(strong, weak, prompt, text, alpha, scores=lambda *a: contrastive_score(*a).nan_to_num(neginf=0.0))


def text_without_prompt(strong, weak, prompt, text, alpha):
    return text_in_one_pass(strong, weak, text[:1], text[1:], alpha)


def text_last_token(strong, weak, prompt, text, alpha):
    return _summed(strong, weak, prompt, text, alpha, start=len(prompt) + len(text) - 1)


def text_swapped(strong, weak, prompt, text, alpha):
    return text_in_one_pass(weak, strong, prompt, text, alpha)


def text_strong_alone(strong, weak, prompt, text, alpha):
    return _summed(strong, weak, prompt, text, alpha, scores=lambda p, q, a: p.log_softmax(-1))


_TEXT_MISTAKES = (
    (text_off_by_one, "one position off: the logits at position t score token t + 1, so the text starts at row -1."),
    (text_mean, "that is the mean; a beam adds scores up (and is normalised afterwards, if at all)."),
    (text_with_prompt, "you scored the prompt's tokens too; nobody chose them."),
    (
        text_softmaxed,
        "you normalised the scores at each step (a softmax); the sum of the scores themselves ranks the beams.",
    ),
    (text_unguarded, "an implausible token did not make the score -inf: alpha was not used."),
    (text_skipping, "implausible tokens were left out of the sum; one of them makes the whole text impossible: -inf."),
    (text_without_prompt, "the prompt was left out: the text's tokens are predicted after it."),
    (text_last_token, "only the last token was scored; add up all of them."),
    (text_swapped, "strong and weak are swapped."),
    (text_strong_alone, "that is log p_strong of the text; the weak model's log p is to be subtracted."),
)

score_of_text = Exercise(
    name="contrastive_decoding.score_of_text",
    check=_check_score_of_text,
    hint_text=(
        "One pass of each model over prompt + text gives the logits of every position. contrastive_score takes "
        "(time, vocab) as well as (vocab,). Row len(prompt) - 1 scores the first token of the text. Add up."
    ),
    right=(text_in_one_pass, _text_step_by_step),
    wrong=(
        Wrong(text_off_by_one, says="one position off"),
        Wrong(text_mean, says="that is the mean"),
        Wrong(text_with_prompt, says="prompt's tokens too"),
        Wrong(text_softmaxed, says="normalised the scores"),
        Wrong(text_unguarded, says="alpha was not used"),
        Wrong(text_skipping, says="left out of the sum"),
        Wrong(text_without_prompt, says="the prompt was left out"),
        Wrong(text_last_token, says="only the last token"),
        Wrong(text_swapped, says="swapped"),
        Wrong(text_strong_alone, says="log p_strong of the text"),
    ),
)
