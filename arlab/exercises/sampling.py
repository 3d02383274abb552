"""Exercises of notebook 09: the generation loop, temperature, and one draw by inversion."""

from __future__ import annotations

import math
from numbers import Integral

import torch

from arlab.exercises.exercise import Exercise, Wrong

# ------------------------------------------------------------------------------------------------- next_token_loop

VOCAB = 11


class _Table:
    """A small language model in which the next token depends on every token before it; it counts its passes."""

    vocab_size, context_length, bos_id = VOCAB, None, None

    def __init__(self):
        self.longest = 0

    def __call__(self, ids):
        if not isinstance(ids, torch.Tensor) or ids.dim() != 2 or ids.dtype != torch.int64:
            raise TypeError("the model reads an int64 tensor of ids with shape (1, time)")
        self.longest = max(self.longest, ids.size(1))
        weights = torch.arange(1, ids.size(1) + 1)
        favourite = ((ids * weights).cumsum(dim=-1) + weights) % VOCAB
        return torch.nn.functional.one_hot(favourite, VOCAB).float() * 3.0


def _expected_loop(ids, max_new_tokens, eos_id):
    text, model = list(ids), _Table()
    for _ in range(max_new_tokens):
        text.append(int(model(torch.tensor([text]))[0, -1].argmax()))
        if text[-1] == eos_id:
            break
    return text[len(ids) :]


def check_next_token_loop(student):
    for ids, steps in (([3, 1, 4], 6), ([7], 9), ([2, 7, 1, 8, 2, 8], 4)):
        model, given = _Table(), list(ids)
        answer = _as_list(student(model, given, steps))
        expected = _expected_loop(ids, steps, None)
        if answer is None:
            return "return a list of ids (ints)."
        if answer != expected:
            return _loop_diagnosis(answer, ids, steps, expected, model)
        if given != ids:
            return "the prompt was changed: your loop appended to the caller's list. Copy it first: ids = list(ids)."
    ids, steps = [3, 1, 4], 12
    path = _expected_loop(ids, steps, None)
    for eos_id in (path[0], path[3], 0):
        answer = _as_list(student(_Table(), list(ids), steps, eos_id=eos_id))
        expected = _expected_loop(ids, steps, eos_id)
        if answer == path and eos_id == 0:
            return "it ran past the end symbol 0: an id may be 0, which counts as false; ask `eos_id is not None`."
        if answer == path:
            return f"it ran past the end symbol {eos_id}: stop right after it has been chosen."
        if answer == expected[:-1]:
            return "the end symbol is missing: it belongs to the new ids, as the last one."
        if answer != expected:
            return f"with eos_id = {eos_id} the new ids should be {expected}; yours are {answer}."
    answer = _as_list(student(_Table(), [3, 1, 4, path[0]], 3, eos_id=path[0]))
    if answer != _expected_loop([3, 1, 4, path[0]], 3, path[0]):
        return "an end symbol inside the prompt must not stop the loop; only a newly chosen one does."
    return None


def _loop_diagnosis(answer, ids, steps, expected, model):
    if answer == ids + expected:
        return "return the new ids alone, without the prompt."
    if len(answer) == steps - 1 and answer == expected[:-1]:
        return f"one token too few: {steps} were asked for."
    if len(answer) == steps + 1 and answer[:-1] == expected:
        return f"one token too many: {steps} were asked for."
    if len(answer) > 1 and len(set(answer)) == 1 and model.longest == len(ids):
        return "every step read the same prompt: append the chosen token to the ids that the model reads."
    if len(answer) == steps and model.longest == 1 and len(ids) > 1:
        return "the model saw only one token at a time: give it the whole text so far (it has no cache here)."
    first = int(_Table()(torch.tensor([ids]))[0, 0].argmax())
    if answer[:1] == [first] and first != expected[0]:
        return "you took the first position's logits; the next token is predicted at the last position, logits[0, -1]."
    return f"for the prompt {ids} the new ids should be {expected}; yours are {answer}."


def _as_list(answer):
    if hasattr(answer, "flatten"):  # a tensor, or an array of NumPy
        answer = answer.flatten().tolist()
    if not isinstance(answer, (list, tuple)):
        return None
    return [int(i) for i in answer]


def loop_appending(model, ids, max_new_tokens, eos_id=None):
    text = list(ids)
    for _ in range(max_new_tokens):
        logits = model(torch.tensor([text]))  # (1, time, vocab)
        text.append(int(logits[0, -1].argmax()))  # the last position predicts the next token
        if text[-1] == eos_id:
            break
    return text[len(ids) :]


def loop_growing_a_tensor(model, ids, max_new_tokens, eos_id=None):
    text, new = torch.tensor([ids]), []
    while len(new) < max_new_tokens and (not new or new[-1] != eos_id):
        best = model(text)[:, -1:].argmax(dim=-1)  # (1, 1)
        text = torch.cat([text, best], dim=1)
        new.append(best.item())
    return new


def loop_first_position(model, ids, max_new_tokens, eos_id=None):
    text = list(ids)
    for _ in range(max_new_tokens):
        text.append(int(model(torch.tensor([text]))[0, 0].argmax()))
    return text[len(ids) :]


def loop_not_appending(model, ids, max_new_tokens, eos_id=None):
    return [int(model(torch.tensor([ids]))[0, -1].argmax()) for _ in range(max_new_tokens)]


def loop_with_prompt(model, ids, max_new_tokens, eos_id=None):
    return list(ids) + loop_appending(model, ids, max_new_tokens, eos_id)


def loop_one_short(model, ids, max_new_tokens, eos_id=None):
    return loop_appending(model, ids, max_new_tokens - 1, eos_id)


def loop_deaf_to_the_end(model, ids, max_new_tokens, eos_id=None):
    return loop_appending(model, ids, max_new_tokens)


def loop_deaf_to_zero(model, ids, max_new_tokens, eos_id=None):
    return loop_appending(model, ids, max_new_tokens, eos_id or None)


def loop_dropping_the_end(model, ids, max_new_tokens, eos_id=None):
    new = loop_appending(model, ids, max_new_tokens, eos_id)
    return new[:-1] if new[-1] == eos_id else new


def loop_changing_the_prompt(model, ids, max_new_tokens, eos_id=None):
    start = len(ids)
    for _ in range(max_new_tokens):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] == eos_id:
            break
    return ids[start:]


def loop_last_token_only(model, ids, max_new_tokens, eos_id=None):
    text = list(ids)
    for _ in range(max_new_tokens):
        text.append(int(model(torch.tensor([text[-1:]]))[0, -1].argmax()))
    return text[len(ids) :]


next_token_loop = Exercise(
    name="sampling.next_token_loop",
    check=check_next_token_loop,
    hint_text=(
        "Copy the prompt into a list. Inside a for loop: make a tensor of shape (1, time) from the whole list, take "
        "logits[0, -1], append its argmax to the list, and break when it equals eos_id. Return the part of the list "
        "behind the prompt."
    ),
    right=(loop_appending, loop_growing_a_tensor),
    wrong=(
        Wrong(loop_first_position, says="predicted at the last position"),
        Wrong(loop_not_appending, says="append the chosen token"),
        Wrong(loop_with_prompt, says="without the prompt"),
        Wrong(loop_one_short, says="one token too few"),
        Wrong(loop_deaf_to_the_end, says="ran past the end symbol"),
        Wrong(loop_deaf_to_zero, says="eos_id is not None"),
        Wrong(loop_dropping_the_end, says="end symbol is missing"),
        Wrong(loop_changing_the_prompt, says="the prompt was changed"),
        Wrong(loop_last_token_only, says="only one token at a time"),
    ),
)

# ----------------------------------------------------------------------------------------------- apply_temperature


def check_apply_temperature(student):
    g = torch.Generator().manual_seed(9)
    for shape in ((6,), (2, 7), (2, 3, 5)):
        logits = 3 * torch.randn(shape, generator=g, dtype=torch.float64)
        for t in (0.5, 2.0, 1.0, 100.0):
            given = logits.clone()
            answer = student(given, t)
            if not isinstance(answer, torch.Tensor) or answer.shape != logits.shape:
                got = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
                return f"return logits of the same shape {tuple(shape)}; you returned {got}."
            if not torch.equal(given, logits):
                return "the caller's logits were changed in place; return new ones."
            problem = _temperature_diagnosis(answer.double(), logits, t)
            if problem:
                return problem
    return _zero_diagnosis(student) or _negative_diagnosis(student)


def _temperature_diagnosis(answer, logits, t):
    expected = (logits / t).softmax(-1)
    if torch.allclose(answer, expected, atol=1e-6):
        return "you returned probabilities; return logits, so that the softmax of your answer is the distribution."
    got = answer.softmax(-1)
    if torch.allclose(got, expected, atol=1e-6):
        return None
    if torch.allclose(got, (logits * t).softmax(-1), atol=1e-6):
        return f"you multiplied by t: at t = {t} the distribution became {'sharper' if t > 1 else 'flatter'}. Divide."
    probabilities = logits.softmax(-1)
    if torch.allclose(answer, probabilities / t, atol=1e-6):
        return "you divided the probabilities; divide the logits, before the softmax."
    if torch.allclose(got, logits.softmax(-1), atol=1e-6):
        return f"at t = {t} the distribution has not changed."
    if torch.allclose(answer, probabilities ** (1 / t), atol=1e-6):
        return "you raised the probabilities to 1/t but returned them as logits; take their log, or divide the logits."
    if answer.isnan().any():
        return f"there are NaNs at t = {t}."
    return f"softmax of your answer is not softmax(logits / t) at t = {t}."


def _zero_diagnosis(student):
    tied = torch.tensor([[1.0, 4.0, 4.0, -2.0], [0.0, -1.0, -3.0, -1.0]], dtype=torch.float64)
    try:
        answer = student(tied.clone(), 0)
    except (ZeroDivisionError, ValueError) as error:
        return f"t = 0 raised {type(error).__name__}; it means argmax and should work."
    got = answer.double().softmax(-1)
    if got.isnan().any():
        return "t = 0 gives NaN: logits / 0 is infinite. Treat 0 by itself: all the probability to the argmax."
    expected = torch.tensor([[0.0, 1, 0, 0], [1.0, 0, 0, 0]], dtype=torch.float64)
    if torch.allclose(got[0], torch.tensor([0.0, 0.5, 0.5, 0.0], dtype=torch.float64), atol=1e-6):
        return "at t = 0 two equal logits share the probability; the lowest id alone should have it."
    if torch.allclose(got[0], torch.tensor([0.0, 0, 1, 0], dtype=torch.float64), atol=1e-6):
        return "at t = 0 the lowest id should win among equal logits; yours took a later one."
    if torch.allclose(got, tied.softmax(-1), atol=1e-6):
        return "t = 0 left the distribution as it was; it means argmax."
    if not torch.allclose(got, expected, atol=1e-9):
        return f"at t = 0 the softmax of your answer should be {expected.tolist()}; it is {got.tolist()}."
    for x in (tied[0], tied[:, None]):
        try:
            right = torch.equal(student(x.clone(), 0).argmax(-1), x.argmax(-1))
        except (IndexError, RuntimeError):
            right = False
        if not right:
            return (
                f"t = 0 works for (rows, vocab), not for shape {tuple(x.shape)}: the axis to use is the last, dim=-1."
            )
    return None


def _negative_diagnosis(student):
    try:
        student(torch.tensor([1.0, 2.0, 3.0]), -0.5)
    except ValueError:
        return None
    return "a negative t was accepted in silence (it would turn the ranks around); raise ValueError."


def temperature_by_cases(logits, t):
    if t < 0:
        raise ValueError(f"t is {t}; it must be 0 or more")
    if t == 0:
        best = logits.argmax(dim=-1, keepdim=True)  # the first of equals
        return torch.full_like(logits, -math.inf).scatter(-1, best, 0.0)
    return logits / t


def temperature_on_log_probabilities(logits, t):
    if not t >= 0:
        raise ValueError("temperature must not be negative")
    if t > 0:
        return logits.log_softmax(dim=-1) / t  # log-probabilities are logits too: a constant does not matter
    ids = torch.arange(logits.size(-1), device=logits.device)
    best = logits.max(dim=-1, keepdim=True).indices
    return torch.where(ids == best, 0.0, -math.inf).to(logits.dtype)


def temperature_multiplied(logits, t):
    return temperature_by_cases(logits, 1 / t if t > 0 else t)


def temperature_on_probabilities(logits, t):
    return logits.softmax(-1) / t


def temperature_after_softmax(logits, t):
    return temperature_by_cases(logits, t).softmax(-1)


def temperature_nan_at_zero(logits, t):
    if t < 0:
        raise ValueError
    return logits / t


def temperature_in_place(logits, t):
    if t < 0:
        raise ValueError
    return logits.div_(t)


def temperature_counting_axes_from_the_front(logits, t):
    if t == 0:
        return torch.full_like(logits, -math.inf).scatter(1, logits.argmax(1, keepdim=True), 0.0)
    return temperature_by_cases(logits, t)


def temperature_with_ties(logits, t):
    if t < 0:
        raise ValueError
    if t == 0:
        return logits.masked_fill(logits < logits.amax(-1, keepdim=True), -math.inf)
    return logits / t


def temperature_below_zero(logits, t):
    return logits / t if t != 0 else temperature_by_cases(logits, 0)


def temperature_ignoring_zero(logits, t):
    if t < 0:
        raise ValueError
    return logits / t if t else logits.clone()


apply_temperature = Exercise(
    name="sampling.apply_temperature",
    check=check_apply_temperature,
    hint_text=(
        "For t > 0 divide the logits. For t = 0 division fails: fill everything with -inf except the position of the "
        "argmax (torch.argmax gives the first of equals). Refuse t < 0 with ValueError. Return a new tensor of logits, "
        "no softmax."
    ),
    right=(temperature_by_cases, temperature_on_log_probabilities),
    wrong=(
        Wrong(temperature_multiplied, says="you multiplied"),
        Wrong(temperature_on_probabilities, says="you divided the probabilities"),
        Wrong(temperature_after_softmax, says="you returned probabilities"),
        Wrong(temperature_nan_at_zero, says="t = 0 gives NaN"),
        Wrong(temperature_in_place, says="changed in place"),
        Wrong(temperature_with_ties, says="share the probability"),
        Wrong(temperature_counting_axes_from_the_front, says="dim=-1"),
        Wrong(temperature_ignoring_zero, says="left the distribution as it was"),
        Wrong(temperature_below_zero, says="negative t was accepted"),
    ),
)

# -------------------------------------------------------------------------------------------------------- draw_one

_WEIGHTS = (  # multiples of powers of two: every edge is exact
    ([0.5, 0.25, 0.125, 0.125], "they sum to 1"),
    ([0.0, 0.25, 0.0, 0.5, 0.25, 0.0], "some are 0"),
    ([0.25, 0.0, 0.125, 0.125], "they sum to 1/2"),
    ([3.0, 1.0, 4.0], "they sum to 8"),
)


def check_draw_one(student):
    for values, remark in _WEIGHTS:
        weights = torch.tensor(values, dtype=torch.float64)
        for step in range(32):
            u = step / 32
            answer = student(weights.clone(), u)
            if isinstance(answer, torch.Tensor) and answer.numel() == 1:
                answer = answer.item()
            if isinstance(answer, bool) or not isinstance(answer, Integral):  # NumPy's integers are Integral too
                return f"return the id as an int; you returned {type(answer).__name__}."
            expected = draw_by_walking(weights, u)
            if answer != expected:
                return _draw_diagnosis(student, weights, u, answer, expected, remark)
    last = torch.tensor([0.1] * 10 + [0.0], dtype=torch.float64)
    if int(student(last, 1 - 2**-53)) != 9:
        return "at u just below 1 draw the last token with a positive weight; rounding must not lead past it."
    return None


def _draw_diagnosis(student, weights, u, answer, expected, remark):
    listed, total = weights.tolist(), float(weights.sum())
    answers = [int(student(weights.clone(), step / 32)) for step in range(32)]
    right = [draw_by_walking(weights, step / 32) for step in range(32)]
    if len({int(student(weights.clone(), u)) for _ in range(20)}) > 1:
        return "the same u gave different tokens: use the u that is given, not a random number of your own."
    if set(answers) == {int(weights.argmax())}:
        return "it always draws the most probable token, whatever u is: that is greedy, not a draw."
    unscaled = [min(int((weights.cumsum(-1) <= step / 32).sum()), len(listed) - 1) for step in range(32)]
    if total != 1 and (answer >= len(listed) or min(answer, len(listed) - 1) == unscaled[round(u * 32)]):
        return f"the weights {listed} sum to {total}: scale u to their sum (u * total), or normalise the weights."
    ordered = torch.sort(weights, descending=True)
    by_rank = int(torch.searchsorted(ordered.values.cumsum(-1), u * total, right=True))
    if answers != right and all(a + 1 == r for a, r in zip(answers, right, strict=True)):
        return "off by one: you took the last token whose right end lies at or below u; take the one after it."
    if all(a == r + 1 for a, r in zip(answers, right, strict=True)):
        return "off by one: you took the token after the one on which u falls."
    if not 0 <= answer < len(listed):
        return f"{answer} is no id: there are {len(listed)} weights."
    if answer == by_rank:
        return "that is a rank, not an id: lay the tokens out in the order of their ids."
    if weights[answer] == 0:
        return f"token {answer} has weight 0 and was drawn at u = {u}; a token without width cannot be hit."
    edges = (weights.cumsum(-1) / total).tolist()
    if u in edges:
        return f"u = {u} lies exactly on an edge: it belongs to the token on its right, {expected}; you took {answer}."
    return f"weights {listed} ({remark}), u = {u}: the token is {expected}; you returned {answer}."


def draw_by_inversion(weights, u):
    edges = weights.cumsum(-1)  # the right end of each token
    token = int(torch.searchsorted(edges, u * edges[-1], right=True))  # the first edge above u
    return min(token, int(weights.nonzero()[-1]))  # rounding must not lead past the last token


def draw_by_walking(weights, u):
    left_over, token = u * float(weights.sum()), None
    for i, weight in enumerate(weights.tolist()):
        if weight > 0:
            token = i
            if left_over < weight:
                break
        left_over -= weight
    return token


def draw_off_by_one(weights, u):
    return draw_by_inversion(weights, u) - 1


def draw_one_too_far(weights, u):
    return draw_by_inversion(weights, u) + 1


def draw_unscaled(weights, u):
    return int(torch.searchsorted(weights.cumsum(-1), u, right=True))


def draw_argmax(weights, u):
    return int(weights.argmax())


def draw_left_edge(weights, u):
    edges = weights.cumsum(-1)
    return int(torch.searchsorted(edges, u * edges[-1], right=False))


def draw_from_own_number(weights, u):
    return int(torch.multinomial(weights, 1))


def draw_by_rank(weights, u):
    edges = weights.sort(descending=True).values.cumsum(-1)
    return int(torch.searchsorted(edges, u * edges[-1], right=True))


draw_one = Exercise(
    name="sampling.draw_one",
    check=check_draw_one,
    hint_text=(
        "weights.cumsum(-1) gives the right ends of the tokens; the last one is the length of the line. Scale u to "
        "that length and find the first right end that is greater: torch.searchsorted with right=True, or a loop that "
        "subtracts."
    ),
    right=(draw_by_inversion, draw_by_walking),
    wrong=(
        Wrong(draw_off_by_one, says="off by one: you took the last token"),
        Wrong(draw_one_too_far, says="off by one: you took the token after"),
        Wrong(draw_unscaled, says="scale u to their sum"),
        Wrong(draw_argmax, says="that is greedy"),
        Wrong(draw_left_edge, says="lies exactly on an edge"),
        Wrong(draw_from_own_number, says="use the u that is given"),
        Wrong(draw_by_rank, says="that is a rank"),
    ),
)
