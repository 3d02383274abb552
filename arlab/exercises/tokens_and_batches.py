"""Exercises of notebook 02: BPE on one word, the training table, packed rows."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch.nn.utils.rnn import pad_sequence

from arlab.exercises.exercise import Exercise, Wrong, as_tensor

IGNORE = -100


# ------------------------------------------------------------------------------------------------------ encode_word

# Words and merges, each chosen so that some mistake shows.
WORDS = [
    ("abc", [("b", "c"), ("a", "b")]),  # the earlier merge takes the b away from the a
    ("abc", [("b", "c"), ("a", "bc"), ("a", "b")]),
    ("abc", [("b", "c"), ("a", "b"), ("ab", "c")]),  # 'abc' is a token, and this word does not come to it
    ("abcabc", [("a", "b"), ("b", "c"), ("ab", "c"), ("abc", "abc")]),
    ("aaa", [("a", "a")]),  # pairs overlap
    ("aaaaa", [("a", "a"), ("aa", "aa")]),
    ("banana", [("a", "n"), ("an", "a"), ("b", "an")]),
    ("xyz", [("a", "b"), ("b", "c")]),  # nothing to merge
    ("a", [("a", "b")]),
    ("", [("a", "b")]),
]


def encode_word_round_by_round(word, merges):
    rank = {pair: n for n, pair in enumerate(merges)}
    tokens = list(word)
    while True:
        known = [(rank[pair], i) for i, pair in enumerate(pairwise(tokens)) if pair in rank]
        if not known:
            return tokens
        _, i = min(known)  # the merge learned first; among equals the one furthest left
        tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]


def _merge_by_merge(word, merges):
    tokens = list(word)
    for left, right in merges:
        done = []
        for token in tokens:
            if done and (done[-1], token) == (left, right):
                done[-1] = _Fresh(left + right)  # marked, so that it joins nothing more in this round
            else:
                done.append(token)
        tokens = [str(token) for token in done]
    return tokens


class _Fresh(str):
    """A token just made: equal to no string until its round is over."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        return self is other


def _left_to_right(word, merges):
    tokens = list(word)
    while True:
        for i, pair in enumerate(pairwise(tokens)):
            if pair in merges:
                tokens[i : i + 2] = ["".join(pair)]
                break
        else:
            return tokens


def _longest_match(word, merges):
    vocabulary, tokens = {left + right for left, right in merges}, []
    while word:
        end = next((n for n in range(len(word), 1, -1) if word[:n] in vocabulary), 1)
        tokens, word = [*tokens, word[:end]], word[end:]
    return tokens


def _last_learned_first(word, merges):
    rank, tokens = {pair: n for n, pair in enumerate(merges)}, list(word)
    while known := [(-rank[pair], i) for i, pair in enumerate(pairwise(tokens)) if pair in rank]:
        i = min(known)[1]
        tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]
    return tokens


def _first_occurrence_only(word, merges):
    tokens = list(word)
    for pair in merges:
        for i, found in enumerate(pairwise(tokens)):
            if found == pair:
                tokens[i : i + 2] = ["".join(pair)]
                break
    return tokens


def _single_merge(word, merges):
    tokens = list(word)
    for pair in merges:
        for i, found in enumerate(pairwise(tokens)):
            if found == pair:
                return tokens[:i] + ["".join(pair)] + tokens[i + 2 :]
    return tokens


def _whole_if_known(word, merges):
    return [word] if any(left + right == word for left, right in merges) else encode_word_round_by_round(word, merges)


def _overlapping(word, merges):
    tokens = list(word)
    for pair in merges:
        out, i = [], 0
        while i < len(tokens):
            joined = tuple(tokens[i : i + 2]) == pair
            out.append("".join(pair) if joined else tokens[i])
            i += 1  # should be 2 after a merge
        tokens = out
    return tokens


def _from_the_right(word, merges):
    rank, tokens = {pair: n for n, pair in enumerate(merges)}, list(word)
    while known := [(rank[pair], -i) for i, pair in enumerate(pairwise(tokens)) if pair in rank]:
        i = -min(known)[1]
        tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]
    return tokens


WORD_MISTAKES = (
    (lambda word, merges: list(word), "nothing was merged: you returned the characters."),
    (
        _left_to_right,
        "you merged whichever known pair stands furthest left; the pair that was LEARNED first goes first, "
        "wherever it stands.",
    ),
    (
        _longest_match,
        "you took the longest known token from the left; BPE replays its merges in the order in which it learned them.",
    ),
    (_last_learned_first, "your ranks are upside down: the merge learned first goes first, not the last one."),
    (_single_merge, "you stopped after one merge; go on until no pair of neighbours is in the list."),
    (_first_occurrence_only, "a merge applies wherever its pair stands in the word, not at its first place alone."),
    (
        _whole_if_known,
        "a word that is itself a token need not come out whole: an earlier merge may take one of its letters away.",
    ),
    (_from_the_right, "among overlapping equal pairs, as in 'aaa', the one furthest left is merged: 'aa', 'a'."),
)


def check_encode_word(student):
    given = [list(merges) for _, merges in WORDS]
    answers = [student(word, merges) for (word, _), merges in zip(WORDS, given, strict=True)]
    for answer in answers:
        if isinstance(answer, str):
            return "you returned one string; return the list of tokens."
        if not isinstance(answer, (list, tuple)) or not all(isinstance(token, str) for token in answer):
            return "return a list of strings, the tokens."
    if any(merges != list(before) for merges, (_, before) in zip(given, WORDS, strict=True)):
        return "the list of merges was changed; the caller needs it for the next word."
    answers = [list(map(str, answer)) for answer in answers]
    expected = [encode_word_round_by_round(word, merges) for word, merges in WORDS]
    if answers == expected:
        return None
    for mistake, words in WORD_MISTAKES:
        if answers == [mistake(word, merges) for word, merges in WORDS]:
            return words
    for (word, merges), answer, right in zip(WORDS, answers, expected, strict=True):
        if "".join(answer) != word:
            return f"the tokens of {word!r} must join to it again; yours are {answer}, with merges {merges}."
        if answer != right:
            return f"{word!r} with merges {merges} gives {right}; yours is {answer}."
    return None


encode_word = Exercise(
    name="tokens_and_batches.encode_word",
    check=check_encode_word,
    hint_text=(
        "Start from list(word). In each round, look at all pairs of neighbours that are in the list of merges, and "
        "join the one whose merge was learned first (the lowest index). Stop when there is none."
    ),
    right=(encode_word_round_by_round, _merge_by_merge),
    wrong=(
        Wrong(lambda word, merges: [*word], says="nothing was merged"),
        Wrong(_left_to_right, says="LEARNED first"),
        Wrong(_longest_match, says="longest known token"),
        Wrong(_last_learned_first, says="upside down"),
        Wrong(_single_merge, says="stopped after one merge"),
        Wrong(_first_occurrence_only, says="wherever its pair stands"),
        Wrong(_from_the_right, says="furthest left"),
        Wrong(_whole_if_known, says="need not come out whole"),
        Wrong(_overlapping, says="must join to it again"),
        Wrong(lambda word, merges: " ".join(encode_word_round_by_round(word, merges)), says="one string"),
        Wrong(lambda word, merges: [merges.pop()[0]] if merges else [word], says="list of merges was changed"),
    ),
)

# --------------------------------------------------------------------------------------------------- training_table

TABLES = [  # sequences, bos, eos, pad
    ([[5, 6, 7], [8]], 1, 2, 0),
    ([[5, 6], [7, 8]], 1, 2, 0),
    ([[4]], 9, 8, 7),
    ([[3, 0, 3], [4, 5, 6, 0], [0]], 1, 2, 0),  # the pad is a real token too
    ([[5, 6, 7, 5], [8, 9]], 1, 2, 2),  # ... or the end symbol, as with GPT-2
]


def table_by_padding(sequences, bos_id, eos_id, pad_id):
    whole = [[bos_id, *sequence, eos_id] for sequence in sequences]
    width = max(map(len, whole)) - 1
    inputs = torch.full((len(whole), width), pad_id)
    targets = torch.full((len(whole), width), IGNORE)
    for row, ids in enumerate(whole):
        inputs[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        targets[row, : len(ids) - 1] = torch.tensor(ids[1:])
    return inputs, targets


def _by_lengths(sequences, bos_id, eos_id, pad_id):
    whole = pad_sequence([torch.tensor([bos_id, *s, eos_id]) for s in sequences], True, pad_id)
    lengths = torch.tensor([len(s) + 1 for s in sequences])
    real = torch.arange(whole.size(1) - 1) < lengths[:, None]
    return torch.where(real, whole[:, :-1], pad_id), torch.where(real, whole[:, 1:], IGNORE)


def _targets_like_inputs(sequences, bos_id, eos_id, pad_id):
    inputs, targets = table_by_padding(sequences, bos_id, eos_id, pad_id)
    return inputs, torch.where(targets == IGNORE, IGNORE, inputs)


def _shifted_backwards(sequences, bos_id, eos_id, pad_id):
    inputs, targets = table_by_padding(sequences, bos_id, eos_id, pad_id)
    return torch.where(targets == IGNORE, pad_id, targets), torch.where(targets == IGNORE, IGNORE, inputs)


def _pads_counted(sequences, bos_id, eos_id, pad_id):
    inputs, targets = table_by_padding(sequences, bos_id, eos_id, pad_id)
    return inputs, targets.masked_fill(targets == IGNORE, pad_id)


def _ignored_by_value(sequences, bos_id, eos_id, pad_id):
    inputs, targets = _pads_counted(sequences, bos_id, eos_id, pad_id)
    return inputs, targets.masked_fill(targets == pad_id, IGNORE)


def _inputs_ignored(sequences, bos_id, eos_id, pad_id):
    inputs, targets = table_by_padding(sequences, bos_id, eos_id, pad_id)
    return inputs.masked_fill(targets == IGNORE, IGNORE), targets


def _left_padded(sequences, bos_id, eos_id, pad_id):
    whole = [[bos_id, *sequence, eos_id] for sequence in sequences]
    width = max(map(len, whole)) - 1
    inputs = [[pad_id] * (width - len(ids) + 1) + ids[:-1] for ids in whole]
    return torch.tensor(inputs), torch.tensor([[IGNORE] * (width - len(ids) + 1) + ids[1:] for ids in whole])


def _end_read(sequences, bos_id, eos_id, pad_id):
    whole = pad_sequence([torch.tensor([bos_id, *s, eos_id]) for s in sequences], True, pad_id)
    _, targets = table_by_padding(sequences, bos_id, eos_id, pad_id)
    return whole, torch.cat([targets, torch.full((len(whole), 1), IGNORE)], dim=1)


def _end_read_in_short_rows(sequences, bos_id, eos_id, pad_id):
    whole = pad_sequence([torch.tensor([bos_id, *s, eos_id]) for s in sequences], True, pad_id)
    return whole[:, :-1], table_by_padding(sequences, bos_id, eos_id, pad_id)[1]


def _unmarked(sequences, bos_id, eos_id, start, end):
    whole = [torch.tensor([bos_id] * start + list(s) + [eos_id] * end) for s in sequences]
    inputs = pad_sequence([ids[:-1] for ids in whole], True, 0)
    return inputs, pad_sequence([ids[1:] for ids in whole], True, IGNORE)


def check_training_table(student):
    for sequences, bos_id, eos_id, pad_id in TABLES:
        given = [list(sequence) for sequence in sequences]
        answer = student(given, bos_id, eos_id, pad_id)
        if not isinstance(answer, (tuple, list, torch.Tensor)) or len(answer) != 2:
            return "return two tensors: inputs, targets."
        answer = [as_tensor(half) for half in answer]
        if not all(isinstance(half, torch.Tensor) for half in answer):
            return "inputs and targets should both be tensors (rows, time)."
        if given != [list(sequence) for sequence in sequences]:
            return "the caller's sequences were changed; put the symbols into new lists."
        problem = _table_diagnosis(*answer, sequences, bos_id, eos_id, pad_id)
        if problem:
            return problem
    return None


def _table_diagnosis(inputs, targets, sequences, bos_id, eos_id, pad_id):
    arguments = (sequences, bos_id, eos_id, pad_id)
    right_inputs, right_targets = table_by_padding(*arguments)
    if inputs.shape != right_inputs.shape or targets.shape != right_targets.shape:
        return _table_shape_diagnosis(inputs, targets, arguments, right_inputs)
    if inputs.is_floating_point() or targets.is_floating_point():
        return "ids are integers: both tensors should be int64."
    if inputs.equal(right_inputs) and targets.equal(right_targets):
        return None
    for mistake, words in TABLE_MISTAKES:
        wrong_inputs, wrong_targets = mistake(*arguments)
        if inputs.equal(wrong_inputs) and targets.equal(wrong_targets):
            return words
    which, got, right = (
        ("targets", targets, right_targets) if inputs.equal(right_inputs) else ("inputs", inputs, right_inputs)
    )
    symbols = f"bos {bos_id}, eos {eos_id}, pad {pad_id}"
    return f"for {sequences} with {symbols} the {which} are {right.tolist()}; yours are {got.tolist()}."


def _table_shape_diagnosis(inputs, targets, arguments, right):
    sequences, bos_id, eos_id, _ = arguments
    if inputs.shape == targets.shape == (len(sequences), right.size(1) + 1):
        return (
            "one column too many: the last token of a sequence is predicted, never read; a row has length - 1 places."
        )
    if inputs.shape == targets.shape == (len(sequences), right.size(1) - 1):
        if not (inputs[:, 0] == bos_id).all():
            return "the start symbol is missing: without it nothing predicts the first token."
        if not (targets == eos_id).any():
            return "the end symbol is missing: without it as a target, the model never learns to stop."
    return (
        f"both should have shape {tuple(right.shape)} for {sequences}: rows, and the longest sequence with its two "
        f"symbols less one; yours have {tuple(inputs.shape)} and {tuple(targets.shape)}."
    )


TABLE_MISTAKES = (
    (lambda *arguments: table_by_padding(*arguments)[::-1], "they are swapped: return the inputs first."),
    (_targets_like_inputs, "the targets are the inputs again: a target is the token AFTER its input."),
    (_shifted_backwards, "shifted the wrong way: your targets are the tokens BEFORE the inputs."),
    (
        _pads_counted,
        "your pads count: a target behind the end of a sequence should be -100, which the loss leaves out.",
    ),
    (
        _ignored_by_value,
        "you left out every target equal to pad_id, a real token (or the end symbol) among them; leave out places "
        "behind the end of a sequence, by its length.",
    ),
    (_inputs_ignored, "-100 stands among the inputs, and no embedding has that row; inputs are filled with pad_id."),
    (_left_padded, "you padded on the left; for training, fill up on the right, so that positions start at 0."),
    (
        _end_read_in_short_rows,
        "the end symbol stands among the inputs of a shorter row; nothing is predicted from it: put the pad there.",
    ),
)

training_table = Exercise(
    name="tokens_and_batches.training_table",
    check=check_training_table,
    hint_text=(
        "Make [bos_id, *sequence, eos_id] for each sequence. Its input is all but the last token, its target all but "
        "the first. Make two tensors with torch.full, one of pad_id and one of -100, wide enough for the longest row, "
        "and write each row into its left end."
    ),
    right=(table_by_padding, _by_lengths),
    wrong=(
        Wrong(lambda *arguments: table_by_padding(*arguments)[::-1], says="swapped"),
        Wrong(_targets_like_inputs, says="the token AFTER"),
        Wrong(_shifted_backwards, says="the tokens BEFORE"),
        Wrong(_pads_counted, says="your pads count"),
        Wrong(_ignored_by_value, says="every target equal to pad_id"),
        Wrong(_inputs_ignored, says="no embedding has that row"),
        Wrong(_left_padded, says="padded on the left"),
        Wrong(_end_read, says="one column too many"),
        Wrong(_end_read_in_short_rows, says="the end symbol stands among the inputs"),
        Wrong(lambda s, bos_id, eos_id, pad_id: _unmarked(s, bos_id, eos_id, 0, 1), says="start symbol is missing"),
        Wrong(lambda s, bos_id, eos_id, pad_id: _unmarked(s, bos_id, eos_id, 1, 0), says="end symbol is missing"),
        Wrong(lambda *arguments: [half.float() for half in table_by_padding(*arguments)], says="int64"),
    ),
)

# ------------------------------------------------------------------------------------------------------ packed_rows

PACKS = [  # documents, context, eos
    ([[1, 2, 3], [4, 5], [6, 7, 8, 9]], 3, 0),  # 12 tokens: 3 rows and two tokens left over
    ([[1, 2, 3], [4, 5, 6, 7], [8]], 5, 0),  # 11 = 2 * 5 + 1 fill two rows exactly
    ([[1], [2], [3], [4]], 2, 9),
    ([[1, 2, 3, 4, 5, 6, 7, 8]], 7, 0),
]


def packed_windows(documents, context, eos_id):
    stream = torch.tensor([token for document in documents for token in [*document, eos_id]])
    # Rows of context + 1 tokens, each starting on the last token of the row before.
    return stream.unfold(0, context + 1, context)


def _by_a_loop(documents, context, eos_id):
    stream, rows = [], []
    for document in documents:
        stream.extend(document)
        stream.append(eos_id)
    while len(stream) > context:
        rows.append(stream[: context + 1])
        stream = stream[context:]
    return torch.tensor(rows)


def _without_overlap(documents, context, eos_id):
    return torch.tensor([t for d in documents for t in [*d, eos_id]]).unfold(0, context + 1, context + 1)


def _every_start(documents, context, eos_id):
    return torch.tensor([t for d in documents for t in [*d, eos_id]]).unfold(0, context + 1, 1)


def _no_ends(documents, context, eos_id):
    return torch.tensor([t for d in documents for t in d]).unfold(0, context + 1, context)


def _ends_between(documents, context, eos_id):
    return torch.tensor([t for d in documents for t in [*d, eos_id]][:-1]).unfold(0, context + 1, context)


def _ends_in_front(documents, context, eos_id):
    return torch.tensor([t for d in documents for t in [eos_id, *d]]).unfold(0, context + 1, context)


def _filled_up(documents, context, eos_id):
    stream = [t for d in documents for t in [*d, eos_id]]
    starts = range(0, len(stream) - 1, context)
    return torch.tensor([(stream[s : s + context + 1] + [eos_id] * context)[: context + 1] for s in starts])


def _narrow(documents, context, eos_id):
    return torch.tensor([t for d in documents for t in [*d, eos_id]]).unfold(0, context, context)


def _last_row_lost(documents, context, eos_id):
    stream = torch.tensor([t for d in documents for t in [*d, eos_id]])
    starts = range(0, len(stream) - context - 1, context)
    rows = [stream[start : start + context + 1] for start in starts]
    return torch.stack(rows) if rows else stream.new_empty(0, context + 1)


PACK_MISTAKES = (
    (
        _without_overlap,
        "the rows do not share a token: the first token of each row is then nobody's target. Let a row start on the "
        "last token of the row before.",
    ),
    (_every_start, "a row starts at every token: each target then occurs up to `context` times. Step by `context`."),
    (_no_ends, "there is no end symbol between the documents: the model cannot tell where one stops."),
    (_ends_in_front, "the end symbol belongs behind its document, not before it."),
    (_filled_up, "you filled up the last row; leave an incomplete one out, so that no place is padding."),
    (_narrow, "a row needs context + 1 tokens: `context` inputs, and one more for the last input's target."),
    (  # the same rows as those of _ends_between, always
        _last_row_lost,
        "a row that just fits was left out. Has the last document its end symbol? And 2 * context + 1 tokens make "
        "two rows.",
    ),
)


def check_packed_rows(student):
    answers = []
    for documents, context, eos_id in PACKS:
        given = [list(document) for document in documents]
        answer = as_tensor(student(given, context, eos_id))
        if given != documents:
            return "the caller's documents were changed; put the end symbols into a new list."
        if not isinstance(answer, torch.Tensor):
            return f"return a tensor (rows, context + 1); you returned a {type(answer).__name__}."
        if answer.is_floating_point():
            return "ids are integers: the rows should be int64."
        answers.append(answer.tolist())
    expected = [packed_windows(*pack).tolist() for pack in PACKS]
    if answers == expected:
        return None
    for mistake, words in PACK_MISTAKES:
        if answers == [mistake(*pack).tolist() for pack in PACKS]:
            return words
    (documents, context, eos_id), answer, right = next(
        case for case in zip(PACKS, answers, expected, strict=True) if case[1] != case[2]
    )
    return f"{documents} with context {context} and eos {eos_id} give the rows {right}; yours are {answer}."


packed_rows = Exercise(
    name="tokens_and_batches.packed_rows",
    check=check_packed_rows,
    hint_text=(
        "First one long list: each document, then eos_id. Then rows of context + 1 tokens that start at 0, context, "
        "2 * context, ... as long as a whole row fits. tensor.unfold(0, size, step) cuts such rows in one go."
    ),
    right=(packed_windows, _by_a_loop),
    wrong=(
        Wrong(_without_overlap, says="nobody's target"),
        Wrong(_every_start, says="starts at every token"),
        Wrong(_no_ends, says="no end symbol between"),
        Wrong(_ends_between, says="Has the last document its end symbol?"),
        Wrong(_ends_in_front, says="behind its document"),
        Wrong(_filled_up, says="filled up the last row"),
        Wrong(_narrow, says="context + 1 tokens"),
        Wrong(_last_row_lost, says="just fits was left out"),
        Wrong(lambda *pack: (packed_windows(*pack)[:, :-1], packed_windows(*pack)[:, 1:]), says="return a tensor"),
        Wrong(lambda *pack: packed_windows(*pack).T, says="give the rows"),
    ),
)
