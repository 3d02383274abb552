"""Exercises of notebook 04: the causal mask, the softmax under a mask, and positions beside left padding."""

from __future__ import annotations

import torch

from arlab.exercises.exercise import Exercise, Wrong, close, shape_problem

# Each exercise takes the name of its first right answer, so that the solution reads as the student's own cell would.

# --------------------------------------------------------------------------------------------- causal_mask


def causal_mask(queries, keys):
    own_position = torch.arange(keys - queries, keys)  # the queries are the last of the keys
    return torch.arange(keys) <= own_position[:, None]


def _mask_by_tril(queries, keys):
    return torch.ones(queries, keys, dtype=torch.bool).tril(diagonal=keys - queries)


def _check_causal_mask(student):
    for queries, keys in ((4, 4), (1, 1), (1, 5), (2, 5), (3, 8)):
        expected = causal_mask_of(queries, keys)
        answer = student(queries, keys)
        problem = shape_problem(answer, expected, f"causal_mask({queries}, {keys})")
        if problem:
            return f"{problem} Queries are rows, keys are columns."
        if answer.dtype != torch.bool:
            if (answer < 0).any():  # -inf, or a large negative number in its place
                return "0 and -inf is the form that is added to the scores; here return booleans, True = may attend."
            if torch.equal(answer.bool(), expected):
                return f"the pattern is right, the dtype is {answer.dtype}: return booleans (.bool())."
            answer = answer.bool()
        if not torch.equal(answer, expected):
            return _name_mask(answer, queries, keys)
    return None


def _name_mask(answer, queries, keys):
    ones = torch.ones(queries, keys, dtype=torch.bool)
    past = keys - queries
    mistakes = [
        ("True and False are swapped: True means that a query may attend to a key.", ~causal_mask_of(queries, keys)),
        ("you masked the diagonal: token t may see itself, it is the word just read.", ones.tril(past - 1)),
        ("the mask is transposed: each query sees itself and the future. Rows are queries.", ones.triu(past)),
        ("off by one: each query also sees the next token, the very one it should predict.", ones.tril(past + 1)),
    ]
    if past:
        mistakes = [
            (
                f"top-left aligned: with {keys} keys the {queries} new "
                f"{'query is the last position' if queries == 1 else 'queries are the last positions'}, "
                f"so the first one sees {past + 1} keys and not 1. Align at the bottom right.",
                ones.tril(),
            ),
            (
                "with a cache the new tokens see each other's future: among themselves the triangle still holds.",
                ones,
            ),
            *mistakes,
        ]
    else:
        mistakes.append(("nothing is masked: query 0 sees the future.", ones))
    for says, wrong in mistakes:
        if torch.equal(answer, wrong):
            return says
    row = next(t for t in range(queries) if not torch.equal(answer[t], causal_mask_of(queries, keys)[t]))
    return (
        f"causal_mask({queries}, {keys}): query {row} stands at position {past + row} and sees keys 0 to {past + row}; "
        f"yours sees {answer[row].nonzero().flatten().tolist()}."
    )


causal_mask_of = causal_mask
causal_mask = Exercise(
    name="causal_masking.causal_mask",
    check=_check_causal_mask,
    hint_text=(
        "Start with queries == keys: row t, column s is True when s <= t; torch.arange and one comparison do it. With "
        "more keys than queries, the queries are the LAST positions: the first of them stands at keys - queries."
    ),
    right=(causal_mask_of, _mask_by_tril),
    wrong=(
        Wrong(lambda q, k: torch.ones(q, k, dtype=torch.bool).tril(k - q - 1), says="you masked the diagonal"),
        Wrong(lambda q, k: torch.ones(q, k, dtype=torch.bool).triu(k - q), says="the mask is transposed"),
        Wrong(lambda q, k: torch.ones(q, k, dtype=torch.bool).triu(k - q + 1), says="True and False are swapped"),
        Wrong(lambda q, k: torch.ones(q, k, dtype=torch.bool).tril(k - q + 1), says="off by one"),
        Wrong(lambda q, k: torch.ones(q, k, dtype=torch.bool).tril(), says="top-left aligned"),
        Wrong(lambda q, k: torch.ones(q, k, dtype=torch.bool), says="nothing is masked"),
        Wrong(
            lambda q, k: torch.ones(q, k, dtype=torch.bool).tril() if q == k else torch.ones(q, k, dtype=torch.bool),
            says="see each other's future",
        ),
        Wrong(lambda q, k: torch.full((q, k), -torch.inf).triu(k - q + 1), says="added to the scores"),
        Wrong(lambda q, k: torch.full((q, k), -1e9).triu(k - q + 1), says="added to the scores"),
        Wrong(lambda q, k: torch.ones(q, k).tril(k - q), says="the dtype is torch.float32"),
        Wrong(lambda q, k: torch.ones(k, k, dtype=torch.bool).tril(), says="should have shape (1, 5)"),
    ),
)

# --------------------------------------------------------------------------------------------- apply_mask


def apply_mask(scores, mask):
    weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
    return weights.masked_fill(~mask, 0.0)  # a row without any True came out as NaN


def _apply_by_hand(scores, mask):
    top = scores.masked_fill(~mask, -torch.inf).amax(-1, keepdim=True)
    e = torch.where(mask, (scores - top).exp(), 0.0)
    total = e.sum(-1, keepdim=True)
    return e / total.masked_fill(total == 0, 1.0)


def _mask_cases():
    generator = torch.Generator().manual_seed(6)
    yield torch.randn(4, 4, generator=generator), causal_mask_of(4, 4)
    yield torch.randn(2, 3, 2, 5, generator=generator), causal_mask_of(2, 5)
    # Padding on the left: two keys are nobody's, so the first two rows may attend to nothing.
    padded = causal_mask_of(4, 4) & torch.tensor([False, False, True, True])
    yield torch.randn(2, 4, 4, generator=generator), padded
    # A masked score may tower over the others: the softmax of all of them leaves the visible ones nothing.
    towering = torch.randn(3, 3, generator=generator)
    towering[0, 2] = 300.0
    yield towering, causal_mask_of(3, 3)
    yield torch.randn(3, 3, generator=generator) - 300, causal_mask_of(3, 3)


def _check_apply_mask(student):
    for scores, mask in _mask_cases():
        expected = apply_mask_of(scores, mask)
        given, given_mask = scores.clone(), mask.clone()
        answer = student(given, given_mask)
        problem = shape_problem(answer, expected, "the weights")
        if problem:
            return problem
        if not (torch.equal(given, scores) and torch.equal(given_mask, mask)):
            return (
                "your function changed its argument: use masked_fill, not masked_fill_ (nor assignment to scores[...])."
            )
        if not close(answer, expected) or answer[~mask.expand(answer.shape)].any():
            return _name_weights(answer, expected, scores, mask)
    return None


def _name_weights(answer, expected, scores, mask):
    empty = ~mask.any(-1).expand(answer.shape[:-1])
    if answer.isnan().any():
        if empty.any():
            return "a row with nothing to attend to gives NaN (0 / 0), and NaN spreads. Its weights should all be 0."
        if scores.abs().max() < 100:
            return "NaN, where each row has something to attend to: 0 times infinity is one way to it. Use masked_fill."
        return "NaN: a masked score towers over the rest, so nothing was left to renormalise. Mask before the softmax."
    if empty.any() and close(answer[~empty], expected[~empty]):
        return (
            "a row with nothing to attend to should get weights of 0; "
            f"yours attends all the same: {[round(w, 2) for w in answer[empty][0].tolist()]}."
        )
    under = scores.masked_fill(~mask, -torch.inf)
    mistakes = [
        (
            "zeroed after the softmax: the rows no longer sum to 1, as the future has already taken its share.",
            scores.softmax(-1) * mask,
        ),
        (
            "scores were multiplied by the mask: a masked score of 0 still counts, for e^0 = 1. It has to be -inf.",
            (scores * mask).softmax(-1),
        ),
        (
            "the mask is used upside down: True means that a query may attend.",
            scores.masked_fill(mask, -torch.inf).softmax(-1).nan_to_num(),
        ),
        ("nothing was masked: the future still has weights above 0.", scores.softmax(-1)),
        (
            "adding the boolean mask only adds 1 to the visible scores; the masked ones have to go to -inf.",
            (scores + mask).softmax(-1),
        ),
        ("the softmax ran down the columns; each row, a query, must sum to 1.", under.softmax(-2).nan_to_num()),
    ]
    for says, wrong in mistakes:
        if close(answer, wrong):
            return says
    hidden = answer[~mask.expand(answer.shape)]
    if hidden.any():
        return (
            f"a masked weight is {hidden.max().item():.1e}; it must be exactly 0, whatever the size of the scores. "
            "A finite penalty can be too small: -inf cannot."
        )
    if scores.max() > 100:
        return (
            "renormalising after the softmax fails where a masked score towers over the rest: in float32 nothing is "
            "left. Mask before the softmax."
        )
    return "masked weights are 0, but the visible ones are off: softmax over the visible scores, each row summing to 1."


def _renormalise(scores, mask):
    weights = scores.softmax(-1) * mask
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-12)


def _in_place(scores, mask):
    scores[..., ~mask] = -torch.inf
    return scores.softmax(-1).nan_to_num()


apply_mask_of = apply_mask
apply_mask = Exercise(
    name="causal_masking.apply_mask",
    check=_check_apply_mask,
    hint_text=(
        "masked_fill(condition, value) returns a copy with the value where the condition holds; ~mask is where a query "
        "may NOT look. Fill with -torch.inf, take the softmax over the last dimension, then mend the rows that had "
        "nothing to attend to: they are NaN, and should be 0."
    ),
    right=(apply_mask_of, _apply_by_hand),
    wrong=(
        Wrong(lambda s, m: s.softmax(-1) * m, says="zeroed after the softmax"),
        Wrong(lambda s, m: (s * m).softmax(-1), says="multiplied by the mask"),
        Wrong(lambda s, m: s.masked_fill(~m, -torch.inf).softmax(-1), says="gives NaN"),
        Wrong(lambda s, m: s.masked_fill(~m, -1e9).softmax(-1), says="yours attends all the same"),
        Wrong(lambda s, m: s.masked_fill(m, -torch.inf).softmax(-1).nan_to_num(), says="upside down"),
        Wrong(lambda s, m: (s + m).softmax(-1), says="only adds 1"),
        Wrong(lambda s, m: s.masked_fill(~m, -10.0).softmax(-1), says="must be exactly 0"),
        Wrong(lambda s, m: s.masked_fill(~m, -torch.inf).softmax(-2).nan_to_num(), says="down the columns"),
        Wrong(lambda s, m: (s - (~m) * torch.inf).softmax(-1), says="0 times infinity"),
        Wrong(_renormalise, says="renormalising after the softmax"),
        Wrong(_in_place, says="changed its argument"),
    ),
)

# --------------------------------------------------------------------------------------------- token_positions


def token_positions(real):
    return (real.long().cumsum(dim=-1) - 1).clamp(min=0)


def _positions_by_padding(real):
    padding = (~real).sum(dim=-1, keepdim=True)  # all of it stands on the left
    return torch.clamp(torch.arange(real.shape[-1]) - padding, min=0)


def _check_token_positions(student):
    for lengths, time in (([3, 5, 1], 5), ([4], 4), ([2, 2], 6), ([7, 1], 7)):
        real = torch.arange(time) >= time - torch.tensor(lengths)[:, None]
        expected = token_positions_of(real)
        answer = student(real.clone())
        problem = shape_problem(answer, expected, "the positions")
        if problem:
            return problem
        if answer.dtype not in (torch.int64, torch.int32):
            return f"positions are looked up in a table, so they are integers; yours are {answer.dtype}."
        if not torch.equal(answer[real].long(), expected[real]):
            return _name_positions(answer.long(), real)
        outside = answer[~real & ((answer < 0) | (answer >= time))]
        if len(outside):
            return (
                f"right for the real tokens, but padding gets position {outside[0].item()}, which no table has. "
                "Its value is never used; it only has to lie between 0 and time - 1: clamp it."
            )
    return None


def _name_positions(answer, real):
    time = real.size(-1)
    count = torch.arange(time).expand(real.shape)
    mistakes = [
        ("you counted slots, padding included: the first real token of each row stands at position 0.", count),
        ("positions start at 1; the first real token stands at position 0.", real.long().cumsum(-1)),
        (
            "you counted from the right end: positions grow with time.",
            time - 1 - count,
        ),
        (
            "every row was shifted by the same padding; each row has its own.",
            (count - (~real).sum(-1).max()).clamp(min=0),
        ),
    ]
    for says, wrong in mistakes:
        if torch.equal(answer[real], wrong[real]):
            return says
    row = next(r for r in range(len(real)) if not torch.equal(answer[r][real[r]], torch.arange(int(real[r].sum()))))
    yours = answer[row][real[row]].tolist()
    return f"row {row} has {int(real[row].sum())} real tokens; their positions should be 0, 1, ..., yours are {yours}."


token_positions_of = token_positions
token_positions = Exercise(
    name="causal_masking.token_positions",
    check=_check_token_positions,
    hint_text=(
        "How many real tokens stand at or before this slot in its own row? torch.cumsum counts them; the first one "
        "should come out as 0. Padding may get any position that the table has, for nobody attends to it; -1 is none."
    ),
    right=(token_positions_of, _positions_by_padding),
    wrong=(
        Wrong(lambda real: torch.arange(real.size(-1)).expand(real.shape), says="you counted slots"),
        Wrong(lambda real: real.long().cumsum(-1), says="positions start at 1"),
        Wrong(lambda real: real.long().cumsum(-1) - 1, says="padding gets position -1"),
        Wrong(lambda real: torch.arange(real.size(-1) - 1, -1, -1).expand(real.shape), says="from the right end"),
        Wrong(
            lambda real: (torch.arange(real.size(-1)) - (~real).sum(-1).max()).clamp(min=0).expand(real.shape),
            says="by the same padding",
        ),
        Wrong(lambda real: (real.cumsum(-1) - 1).clamp(min=0).float(), says="they are integers"),
    ),
)
