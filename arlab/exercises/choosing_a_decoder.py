"""Exercises of notebook 14: measuring repetition, the chance of a right answer, tempered scores, and the frontier."""

from __future__ import annotations

import math
from collections import Counter
from numbers import Real

import torch

from arlab.decoding import MinP, Temperature, TopK, TopP
from arlab.decoding.comparison import frontier as undominated
from arlab.decoding.measures import repetition as repeated_share
from arlab.exercises.exercise import Exercise, Wrong


def _number(answer):
    """The answer as a float; None when it is no single number."""
    if isinstance(answer, torch.Tensor) and answer.numel() == 1:
        return float(answer)
    return float(answer) if isinstance(answer, Real) and not isinstance(answer, bool) else None


def _same(answer, expected, tolerance=1e-6):
    return abs(answer - expected) <= tolerance * max(1.0, abs(expected))


def _which(answer, mistakes):
    """A sentence on the first mistake whose value the answer has; "" for none."""
    words = next((words for value, words in mistakes if math.isfinite(value) and _same(answer, value)), "")
    return words[:1].upper() + words[1:]


# ------------------------------------------------------------------------------------------------------ repetition

_TEXTS = (([1, 2, 1, 2, 1], 2), ([7] * 9, 4), ([5, 1, 5, 1, 5, 9, 5], 1), ([3, 1, 4, 1, 5, 9, 2, 6], 3))


def check_repetition(student):
    for ids, n in _TEXTS:
        given = list(ids)
        answer, expected = _number(student(given, n)), repeated_share(ids, n)
        if given != ids:
            return "the caller's list was changed; leave it as it is."
        if answer is None:
            return "return one number, the share."
        if not _same(answer, expected):
            return _repetition_diagnosis(answer, ids, n, expected)
    for ids, n in (([1, 2], 4), ([], 1)):
        try:
            answer = _number(student(ids, n))
        except (ZeroDivisionError, IndexError, ValueError) as error:
            return f"{ids} has no {n}-gram, and your function raised {type(error).__name__}; nothing is repeated: 0."
        if answer != 0:
            return f"{ids} has no {n}-gram, so nothing is repeated; return 0, not {answer}."
    return None


def _repetition_diagnosis(answer, ids, n, expected):
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    counts = Counter(grams)
    blocks = [tuple(ids[i : i + n]) for i in range(0, len(ids) - n + 1, n)]
    ragged = {tuple(ids[i : i + n]) for i in range(len(ids))}
    fewer = grams[:-1] or grams
    mistakes = (
        (1 - expected, "that is the share of different n-grams; repetition is what is missing to 1."),
        (len(grams) - len(counts), "that is the number of repeated n-grams; divide it by the number of n-grams."),
        (
            sum(count for count in counts.values() if count > 1) / len(grams),
            "you count the first time an n-gram occurs as well; only the later times repeat something.",
        ),
        (
            sum(count > 1 for count in counts.values()) / len(counts),
            "you ask which different n-grams come again; the share is of all n-grams, each time it is there.",
        ),
        (1 - len(set(blocks)) / len(blocks), "your n-grams do not overlap; there is one at every position."),
        (1 - len(set(ids)) / len(ids), f"you look at single tokens; with n = {n} it is runs of {n}."),
        (1 - len(counts) / len(ids), f"divide by the number of n-grams, {len(grams)} here, not by the text's length."),
        *(
            (1 - len(kinds) / len(fewer), f"{len(ids)} tokens have {len(grams)} n-grams; you have one less.")
            for kinds in (set(fewer), counts)
        ),
        (1 - len(ragged) / len(ids), f"the pieces at the end are shorter than {n}; they are no n-grams."),
        (100 * expected, "that is in per cent; return the share, from 0 to 1."),
    )
    return (
        f"of {ids} with n = {n} you get {answer:.4g}; it should be {expected:.4g}. {_which(answer, mistakes)}".rstrip()
    )


def repetition_by_set(ids, n):
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def repetition_by_memory(ids, n):
    seen, again, total = [], 0, 0
    for start in range(len(ids) - n + 1):
        gram = list(ids[start : start + n])
        again += gram in seen
        total += 1
        seen.append(gram)
    return again / max(total, 1)


def repetition_as_distinct(ids, n):
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def repetition_with_the_first(ids, n):
    counts = Counter(tuple(ids[i : i + n]) for i in range(len(ids) - n + 1))
    return sum(count for count in counts.values() if count > 1) / max(1, counts.total())


def repetition_in_blocks(ids, n):
    grams = [tuple(ids[i : i + n]) for i in range(0, len(ids) - n + 1, n)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def repetition_of_tokens(ids, n):
    return 1 - len(set(ids)) / len(ids) if ids else 0.0


def repetition_one_less(ids, n):
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def repetition_crashing(ids, n):
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams)


repetition = Exercise(
    name="choosing_a_decoder.repetition",
    check=check_repetition,
    hint_text="Make the list of all runs ids[i : i + n], one for each start; lists do not hash, tuples do. How many "
    "are there, and how many different ones?",
    right=(repetition_by_set, repetition_by_memory),
    wrong=(
        Wrong(repetition_as_distinct, "what is missing to 1"),
        Wrong(repetition_with_the_first, "only the later times"),
        Wrong(repetition_in_blocks, "do not overlap"),
        Wrong(repetition_of_tokens, "single tokens"),
        Wrong(repetition_one_less, "you have one less"),
        Wrong(repetition_crashing, "raised ZeroDivisionError"),
    ),
)


# ---------------------------------------------------------------------------------------------------- chance_right


def check_chance_right(student):
    g = torch.Generator().manual_seed(14)
    for answer_ids, filters in (
        ([1, 1, 4], [Temperature(1.5), TopP(0.9)]),
        ([0, 3], [Temperature(0.5)]),
        ([2], []),
        ([3, 0], [TopK(4)]),
        ([5, 2, 0], [MinP(0.05), Temperature(2)]),
    ):
        logits = 1.5 * torch.randn(len(answer_ids), 6, generator=g)
        for row, token in enumerate(answer_ids):
            logits[row, token] += 4.0  # so that the filters let the answer through
        given = logits.clone()
        answer, expected = _number(student(given, list(answer_ids), list(filters))), chance(logits, answer_ids, filters)
        if not torch.equal(given, logits):
            return "the caller's logits were changed in place."
        if answer is None:
            return "return one number, the probability of the whole answer."
        if not _same(answer, expected, 1e-5):
            return _chance_diagnosis(answer, logits, answer_ids, filters, expected)
    removed = torch.tensor([[3.0, 2.0, -4.0]])
    answer = _number(student(removed, [2], [TopK(2)]))
    if answer != 0:
        return f"the filter has removed the answer, so its chance is 0; you get {answer}."
    return None


def _chance_diagnosis(answer, logits, ids, filters, expected):
    rows = torch.arange(len(ids))
    each = _filtered(logits, filters).softmax(-1)[rows, torch.tensor(ids)]
    raw = logits.softmax(-1)[rows, torch.tensor(ids)]
    mistakes = [
        (float(each.log().sum()), "that is its logarithm; return the probability."),
        (float(each.mean()), "you average over the answer's tokens; all of them must come, one after the other."),
        (float(each.sum()), "you add the tokens' probabilities; by the chain rule they are multiplied."),
        (float(raw.prod()), "that is the raw model's probability; the decoder draws after the filters."),
        (float(each[0]), "that is the first token alone; the whole answer must come."),
        (float(each[-1]), "that is the last token alone; the whole answer must come."),
        (
            float(_filtered(logits, filters).softmax(0)[rows, torch.tensor(ids)].prod()),
            "the softmax goes over the vocabulary (the last dimension), not over the answer's tokens.",
        ),
    ]
    if filters:
        reverse = _filtered(logits, filters[::-1]).softmax(-1)[rows, torch.tensor(ids)].prod()
        twice = _filtered(logits.softmax(-1), filters).softmax(-1)[rows, torch.tensor(ids)].prod()
        cut = (_filtered(logits, filters).isfinite()[rows, torch.tensor(ids)] * raw).prod()
        mistakes += [
            (float(twice), "the filters work on logits, and you gave them probabilities."),
            (float(cut), "what the filters leave must be renormalised: softmax after them."),
            (float(reverse), "the filters are applied in the order written, the first one first."),
        ]
    names = ", then ".join(map(str, filters)) or "no filter"
    return f"with {names} you get {answer:.4g}; it should be {expected:.4g}. {_which(answer, mistakes)}".rstrip()


def _filtered(logits, filters):
    for each in filters:
        logits = each(logits)
    return logits


def chance(logits, answer, filters):
    return float(_filtered(logits, filters).softmax(-1)[torch.arange(len(answer)), torch.tensor(answer)].prod())


def chance_by_loop(logits, answer, filters):
    p = 1.0
    for row, token in zip(logits, answer, strict=True):
        for each in filters:
            row = each(row)
        p *= float(row.softmax(-1)[token])
    return p


def chance_by_logs(logits, answer, filters):
    for each in filters:
        logits = each(logits)
    logprobs = logits.log_softmax(-1).gather(-1, torch.tensor(answer)[:, None])
    return logprobs.sum().exp()


def chance_raw(logits, answer, filters):
    return float(logits.softmax(-1)[torch.arange(len(answer)), torch.tensor(answer)].prod())


def chance_mean(logits, answer, filters):
    return float(_filtered(logits, filters).softmax(-1)[torch.arange(len(answer)), torch.tensor(answer)].mean())


def chance_first(logits, answer, filters):
    return float(_filtered(logits, filters).softmax(-1)[0, answer[0]])


def chance_of_probabilities(logits, answer, filters):
    p = _filtered(logits.softmax(-1), filters).softmax(-1)
    return float(p[torch.arange(len(answer)), torch.tensor(answer)].prod())


def chance_over_steps(logits, answer, filters):
    return float(_filtered(logits, filters).softmax(0)[torch.arange(len(answer)), torch.tensor(answer)].prod())


def chance_log(logits, answer, filters):
    return math.log(max(chance(logits, answer, filters), 1e-30))


chance_right = Exercise(
    name="choosing_a_decoder.chance_right",
    check=check_chance_right,
    hint_text="Row t of the logits is the model's opinion on the answer's token t. Filter, softmax, pick each token's "
    "probability; the answer comes when the first token comes and then the second and then the third.",
    right=(chance_by_loop, chance_by_logs),
    wrong=(
        Wrong(chance_raw, "the raw model's probability"),
        Wrong(chance_mean, "average over the answer's tokens"),
        Wrong(chance_first, "first token alone"),
        Wrong(chance_of_probabilities, "you gave them probabilities"),
        Wrong(chance_over_steps, "over the vocabulary"),
        Wrong(chance_log, "is its logarithm"),
    ),
)


# -------------------------------------------------------------------------------------------------------- frontier

_CLOUDS = (
    [(0.0, 3.0), (1.0, 2.0), (0.5, 1.5), (2.0, 0.0)],
    [(1.0, 1.0), (3.0, 3.0), (2.0, 2.0)],
    [(-1.0, 0.9), (-2.5, 0.95), (-0.7, 0.2), (-0.9, 0.1), (-8.0, 1.0), (-3.0, 0.94)],
    [(0.0, 4.0), (1.0, 2.5), (4.0, 0.0), (2.0, 1.8)],  # two lie inside the straight line between the ends
)


def check_frontier(student):
    for points in _CLOUDS:
        problem = _frontier_problem(student, points)
        if problem:
            return problem
    equal = [(1.0, 1.0), (1.0, 1.0), (0.0, 0.0)]
    if _indices(student(list(equal))) != [0, 1]:
        return f"of {equal} keep both equal points: neither is better than the other."
    level = [(1.0, 2.0), (1.0, 3.0), (0.5, 3.0)]
    if _indices(student(list(level))) != [1]:
        return f"of {level} only the second stays: it is as good in one coordinate and better in the other."
    return None


def _indices(answer):
    if isinstance(answer, torch.Tensor):
        answer = answer.flatten().tolist()
    try:
        return sorted(int(i) for i in answer)
    except (TypeError, ValueError):
        return None


def _frontier_problem(student, points):
    given = student(list(points))
    answer, expected = _indices(given), sorted(undominated(points))
    mask = given.tolist() if isinstance(given, torch.Tensor) else given
    if isinstance(mask, list) and mask and all(isinstance(each, bool) for each in mask):
        return "that says yes or no for each point; return the indices of those that stay."
    if answer == expected:
        return None
    if answer is None:
        return "return the indices of the points, not the points."
    if len(set(answer)) < len(answer):
        return f"an index stands twice in {answer}; each point that stays is named once."
    if any(not 0 <= i < len(points) for i in answer):
        return f"indices go from 0 to {len(points) - 1} here; you return {answer}."
    largest = sorted({max(range(len(points)), key=lambda i: points[i][axis]) for axis in (0, 1)})
    mirrored = sorted(undominated([(-x, -y) for x, y in points]))
    beaten = [i for i in answer if i not in expected]
    missing = [i for i in expected if i not in answer]
    if answer == mirrored:
        return "you kept the points that are beaten in both; larger is better here."
    if answer == largest:
        return "only the two extremes are left; between them lie points that nobody beats in both."
    if beaten:
        rival = next(j for j in expected if all(a >= b for a, b in zip(points[j], points[beaten[0]], strict=True)))
        return f"you keep {points[beaten[0]]}, but {points[rival]} is at least as good in both."
    return (
        f"you leave out {points[missing[0]]}, which no other point beats: better in one, worse in the other is allowed."
    )


def frontier_by_pairs(points):
    def beaten(i):
        return any(
            a >= points[i][0] and b >= points[i][1] and (a > points[i][0] or b > points[i][1]) for a, b in points
        )

    return [i for i in range(len(points)) if not beaten(i)]


def frontier_by_sweep(points):
    order = sorted(range(len(points)), key=lambda i: (-points[i][0], -points[i][1]))
    kept, best = [], -math.inf
    for i in order:  # by falling first coordinate: it must improve the second, or equal the last one kept
        if points[i][1] > best or (kept and points[i] == points[kept[-1]]):
            kept.append(i)
            best = points[i][1]
    return kept


def frontier_smallest(points):
    return frontier_by_pairs([(-x, -y) for x, y in points])


def frontier_extremes(points):
    return sorted({max(range(len(points)), key=lambda i: points[i][axis]) for axis in (0, 1)})


def frontier_strict(points):
    return [i for i, (x, y) in enumerate(points) if not any(a > x and b > y for a, b in points)]


def frontier_equal_beaten(points):
    return [
        i for i, (x, y) in enumerate(points) if not any(a >= x and b >= y for j, (a, b) in enumerate(points) if j != i)
    ]


def frontier_mask(points):
    kept = frontier_by_pairs(points)
    return [i in kept for i in range(len(points))]


def frontier_of_sums(points):
    best = max(x + y for x, y in points)
    return [i for i, (x, y) in enumerate(points) if x + y == best]


frontier = Exercise(
    name="choosing_a_decoder.frontier",
    check=check_frontier,
    hint_text="A point is beaten when some other one is at least as large in both coordinates and larger in one. Keep "
    "the points that nobody beats.",
    right=(frontier_by_pairs, frontier_by_sweep),
    wrong=(
        Wrong(frontier_smallest, "larger is better here"),
        Wrong(frontier_extremes, "only the two extremes"),
        Wrong(frontier_strict, "only the second stays"),
        Wrong(frontier_equal_beaten, "neither is better"),
        Wrong(frontier_mask, "yes or no for each point"),
        Wrong(frontier_of_sums, "you leave out"),
    ),
)


# --------------------------------------------------------------------------------------------------- tempered_score


def check_tempered_score(student):
    g = torch.Generator().manual_seed(30)
    for time, vocab, t in ((1, 4, 0.5), (3, 5, 2.0), (4, 7, 0.1), (2, 6, 1.0), (5, 3, 10.0)):
        logits = 2 * torch.randn(time, vocab, generator=g, dtype=torch.float64)
        ids = torch.randint(vocab, (time,), generator=g)
        given = logits.clone()
        answer, expected = _number(student(given, ids, t)), float(tempered_gather(logits, ids, t))
        if not torch.equal(given, logits):
            return "the caller's logits were changed in place."
        if answer is None:
            return "return one number, the sum over the sequence."
        if not _same(answer, expected, 1e-5):
            return _tempered_diagnosis(answer, logits, ids, t, expected)
    return None


def _tempered_diagnosis(answer, logits, ids, t, expected):
    picked = logits.gather(-1, ids[:, None])[:, 0]
    raw = logits.log_softmax(-1).gather(-1, ids[:, None])[:, 0]
    tempered = (logits / t).log_softmax(-1).gather(-1, ids[:, None])[:, 0]
    mistakes = (
        (float(raw.sum()), "that is the score at T = 1: divide the logits by t before the softmax."),
        (
            float(raw.sum() / t),
            "you divided the log-probabilities by t afterwards. That multiplies every sequence's score by the same "
            "number and could not change which is best; divide the logits, and normalise again at each step.",
        ),
        (float((picked / t).sum()), "those are tempered logits; each step must be normalised (log_softmax)."),
        (float((logits * t).log_softmax(-1).gather(-1, ids[:, None]).sum()), "you multiplied by t: divide."),
        (float(tempered.sum().exp()), "that is the probability; a beam adds up logarithms."),
        (float(tempered.mean()), "that is the mean over the tokens; the score is the sum."),
        (-expected, "the sign is wrong: a log-probability is never above 0."),
        (
            float((logits / t).log_softmax(0).gather(-1, ids[:, None]).sum()),
            "the softmax goes over the vocabulary (the last dimension), not over the steps.",
        ),
        (
            float((logits.softmax(-1) / t).log_softmax(-1).gather(-1, ids[:, None]).sum()),
            "you divided probabilities by t: it is the logits that temperature divides.",
        ),
    )
    return f"at T = {t:g} you get {answer:.4g}; it should be {expected:.4g}. {_which(answer, mistakes)}".rstrip()


def tempered_gather(logits, ids, t):
    return (logits / t).log_softmax(dim=-1).gather(-1, ids[:, None]).sum()


def tempered_by_loop(logits, ids, t):
    total = 0.0
    for row, token in zip(logits, ids, strict=True):
        total += float(row[token] / t - torch.logsumexp(row / t, dim=-1))
    return total


def tempered_raw(logits, ids, t):
    return logits.log_softmax(-1).gather(-1, ids[:, None]).sum()


def tempered_after(logits, ids, t):
    return logits.log_softmax(-1).gather(-1, ids[:, None]).sum() / t


def tempered_unnormalised(logits, ids, t):
    return (logits / t).gather(-1, ids[:, None]).sum()


def tempered_multiplied(logits, ids, t):
    return (logits * t).log_softmax(-1).gather(-1, ids[:, None]).sum()


def tempered_of_probabilities(logits, ids, t):
    return (logits.softmax(-1) / t).log_softmax(-1).gather(-1, ids[:, None]).sum()


def tempered_mean(logits, ids, t):
    return (logits / t).log_softmax(-1).gather(-1, ids[:, None]).mean()


tempered_score = Exercise(
    name="choosing_a_decoder.tempered_score",
    check=check_tempered_score,
    hint_text="Divide the logits by t, then log_softmax over the vocabulary, at each step; then pick the chosen tokens "
    "and add up.",
    right=(tempered_gather, tempered_by_loop),
    wrong=(
        Wrong(tempered_raw, "the score at T = 1"),
        Wrong(tempered_after, "could not change which is best"),
        Wrong(tempered_unnormalised, "must be normalised"),
        Wrong(tempered_multiplied, "multiplied by t: divide"),
        Wrong(tempered_of_probabilities, "divided probabilities by t"),
        Wrong(tempered_mean, "the mean over the tokens"),
    ),
)
