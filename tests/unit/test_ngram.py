"""Counting, against a dictionary that counts in plain Python; Witten and Bell's formula by hand."""

import math
from collections import Counter, defaultdict
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from arlab.nn.ngram import NGramLM

TEXT = "abracadabra abracadabra cabbage"
LETTERS = sorted(set(TEXT))
IDS = [LETTERS.index(c) for c in TEXT]
VOCAB = len(LETTERS) + 1  # one token that never occurs


def count(sequences, order, input_only=None):
    """context (a tuple of up to order - 1 tokens) -> Counter of what followed it."""
    table = defaultdict(Counter)
    for ids in sequences:
        for t, token in enumerate(ids):
            if t == 0 and token == input_only:
                continue
            for k in range(min(t, order - 1) + 1):
                table[tuple(ids[t - k : t])][token] += 1
    return table


def witten_bell(table, context, token, vocab):
    shorter = Fraction(1, vocab) if not context else witten_bell(table, context[1:], token, vocab)
    seen = table.get(context)
    if not seen:
        return shorter
    return (seen[token] + len(seen) * shorter) / (seen.total() + len(seen))


def pure(table, context, token, vocab):
    while context not in table:
        context = context[1:]
    return Fraction(table[context][token], table[context].total())


def add(k):
    def probability(table, context, token, vocab):
        seen = table.get(context, Counter())
        return (seen[token] + k) / (seen.total() + k * vocab)

    return probability


ORACLES = {"witten_bell": witten_bell, None: pure, 0.25: add(Fraction(1, 4)), 1: add(1)}


@pytest.mark.parametrize("smoothing", ORACLES)
@pytest.mark.parametrize("order", [1, 2, 3, 6])
@pytest.mark.parametrize("symbols", [False, True])
def test_every_probability_is_the_dictionarys(order, smoothing, symbols):
    """Seen and unseen contexts, short histories, and with start and end symbols."""
    bos, eos = (VOCAB, VOCAB - 1) if symbols else (None, None)
    sequences = [IDS[:12], IDS[12:19], IDS[19:], IDS[:1]] if symbols else [IDS]
    framed = [[bos, *ids, eos] for ids in sequences] if symbols else sequences
    table = count(framed, order, bos)
    model = NGramLM(order, VOCAB, smoothing, bos_id=bos, eos_id=eos).fit(sequences if symbols else torch.tensor(IDS))
    generator = torch.Generator().manual_seed(order)
    start = [bos] if symbols else []
    for prefix in ([], *([*start, *p.tolist()] for p in torch.randint(VOCAB, (30, 7), generator=generator)), *framed):
        prefix = prefix or start
        context = tuple(prefix[max(0, len(prefix) - order + 1) :])
        expected = [float(ORACLES[smoothing](table, context, token, VOCAB)) for token in range(VOCAB)]
        assert model.distribution(prefix).tolist() == pytest.approx(expected, abs=1e-14)
    assert sum(expected) == pytest.approx(1, abs=1e-12)


@given(
    order=st.integers(1, 5),
    smoothing=st.sampled_from(list(ORACLES)),
    symbols=st.sampled_from([(None, None), (3, None), (None, 2), (3, 2), (0, 0), (0, 2)]),
    sequences=st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=4),
    text=st.lists(st.integers(0, 2), min_size=1, max_size=6),
)
def test_small_texts_of_every_kind(order, smoothing, symbols, sequences, text):
    """Empty sequences, symbols that are there already or are ordinary tokens, orders beyond the text."""
    bos, eos = symbols
    framed = [([bos] if bos is not None and ids[:1] != [bos] else []) + ids for ids in sequences]
    framed = [ids + ([eos] if eos is not None and ids[-1:] != [eos] else []) for ids in framed]
    assume(sum(len(ids) - (ids[:1] == [bos]) for ids in framed) > 0)
    table, model = count(framed, order, bos), NGramLM(order, 3, smoothing, bos_id=bos, eos_id=eos).fit(sequences)
    logits = model(torch.tensor([text]))[0]
    for t in range(len(text)):
        context = tuple(text[max(0, t + 2 - order) : t + 1])
        expected = [float(ORACLES[smoothing](table, context, token, 3)) for token in range(3)]
        assert logits[t].exp().tolist() == pytest.approx(expected, abs=1e-14)


def test_witten_and_bell_by_hand():
    """ "abab c": after "ab" came "a" once and " " once; after "b" the same; "abab c" has 6 letters of 4 kinds."""
    text, letters = "abab c", " abc"
    model = NGramLM(3, 4).fit([letters.index(c) for c in text])
    unigram = {"a": (2 + 4 / 4) / 10, "c": (1 + 4 / 4) / 10}
    after_b = {"a": (1 + 2 * unigram["a"]) / 4, "c": 2 * unigram["c"] / 4}
    after_ab = {"a": (1 + 2 * after_b["a"]) / 4, "c": 2 * after_b["c"] / 4}
    p = dict(zip(letters, model.distribution([1, 2]).tolist(), strict=True))
    assert p["a"] == pytest.approx(after_ab["a"]) == pytest.approx(0.45)
    assert p["c"] == pytest.approx(after_ab["c"]) == pytest.approx(0.05)


def test_log_p_of_a_text_is_the_sum_of_its_conditionals():
    """And the quick way (a look-up for each token) is the slow one (whole distributions)."""
    for smoothing in ORACLES:
        for bos in (None, VOCAB, 0):
            model = NGramLM(4, VOCAB, smoothing, bos_id=bos).fit([IDS[:15], IDS[15:]])
            text = [1, 2, 5, 1, 3, 1, 4, 1, 2]
            one_by_one = [math.log(p) if p else -math.inf for p in _conditionals(model, text)]
            quick = model.logprobs(text)
            assert quick.dtype == torch.float64 and quick.tolist() == pytest.approx(one_by_one, abs=1e-12)
            if bos is not None:
                given = model.logprobs(torch.tensor([bos, *text]))
                assert given[0] == 0 and given[1:].tolist() == pytest.approx(one_by_one, abs=1e-12)


def _conditionals(model, text):
    start = [] if model.bos_id is None else [model.bos_id]
    return [float(model.distribution([*start, *text[:t]])[token]) for t, token in enumerate(text)]


def test_all_texts_of_a_length_share_a_probability_of_one():
    model = NGramLM(3, 3, 0.5).fit([0, 1, 1, 2, 0, 1])
    texts = torch.cartesian_prod(*[torch.arange(3)] * 4)
    assert math.fsum(float(model.logprobs(t).sum().exp()) for t in texts) == pytest.approx(1, abs=1e-12)


def test_an_end_symbol_gives_every_length_its_share():
    """With one the texts of all lengths sum to 1; what is missing below length n is what goes on."""
    model = NGramLM(2, 3, None, bos_id=3, eos_id=2).fit([[0], [0, 1], [1, 0, 0]])
    ended, going_on = 0.0, {(): 1.0}
    for _ in range(12):
        grown = {}
        for ids, mass in going_on.items():
            p = model.distribution([3, *ids]).tolist()
            ended += mass * p[2]
            grown |= {(*ids, token): mass * p[token] for token in (0, 1) if p[token]}
        going_on = grown
    assert ended + math.fsum(going_on.values()) == pytest.approx(1, abs=1e-12)
    assert 0.9 < ended < 1


def test_counting_is_maximum_likelihood():
    """No other table gives the training text more: move some mass in every context, and its log-likelihood falls."""
    model = NGramLM(2, VOCAB, None).fit(IDS)
    best = float(model.logprobs(IDS).sum())
    pairs = list(zip(IDS[:-1], IDS[1:], strict=True))
    first = math.log(float(model.distribution([])[IDS[0]]))
    for seed in range(20):
        noise = torch.rand(VOCAB, VOCAB, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        table = torch.stack([model.distribution([c]) for c in range(VOCAB)]) * (1 + 0.1 * noise)
        table /= table.sum(-1, keepdim=True)
        assert first + sum(math.log(table[a, b]) for a, b in pairs) < best


def test_an_unseen_context_backs_off_to_its_longest_seen_part():
    for smoothing in ("witten_bell", None):
        model = NGramLM(4, VOCAB, smoothing).fit(IDS)
        a, b, g = (LETTERS.index(c) for c in "abg")
        assert torch.equal(model.distribution([g, a, b]), model.distribution([a, b]))
        assert torch.equal(model.distribution([b, g, b]), model.distribution([b]))
        never = VOCAB - 1
        assert torch.equal(model.distribution([a, b, never]), model.distribution([]))
    flat = NGramLM(4, VOCAB, 0.125).fit(IDS).distribution([g, a, b])
    assert flat.tolist() == pytest.approx([1 / VOCAB] * VOCAB, abs=1e-15)


def test_a_context_that_ended_the_text_was_followed_by_nothing():
    """ "e" occurs once, at the end: it is an n-gram, but no context."""
    model = NGramLM(2, VOCAB, None).fit(IDS)
    assert torch.equal(model.distribution([LETTERS.index("e")]), model.distribution([]))


def test_a_pure_count_model_has_minus_infinity_and_no_nan():
    model = NGramLM(3, VOCAB, None).fit(IDS)
    logits = model(torch.tensor([IDS]))
    assert logits.isneginf().any() and not logits.isnan().any()
    assert NGramLM(3, VOCAB).fit(IDS)(torch.tensor([IDS])).isfinite().all()
    assert float(model.logprobs([0, VOCAB - 1]).sum()) == -math.inf


def test_no_n_gram_runs_from_one_sequence_into_the_next():
    apart = NGramLM(2, 4, None).fit([[0, 1], [2, 3]])
    joined = NGramLM(2, 4, None).fit([0, 1, 2, 3])
    assert joined.distribution([1]).tolist() == [0, 0, 1, 0]
    assert apart.distribution([1]).tolist() == [0.25] * 4


def test_symbols_are_added_once():
    """A sequence may bring its own start and end symbols."""
    bare = NGramLM(3, 4, None, bos_id=4, eos_id=3).fit([[0, 1], [1]])
    framed = NGramLM(3, 4, None, bos_id=4, eos_id=3).fit([[4, 0, 1, 3], [4, 1, 3]])
    for prefix in ([4], [4, 0], [4, 1], [0, 1], []):
        assert torch.equal(bare.distribution(prefix), framed.distribution(prefix))
    assert bare.distribution([]).tolist() == [0.5, 0.5, 0, 0]  # what starts a sequence, not what is frequent
    assert bare.distribution([0, 1]).tolist() == [0, 0, 0, 1]


def test_an_ordinary_token_may_be_the_start_symbol():
    """A newline, say: it starts a text, is not predicted there, and is predicted everywhere else."""
    model = NGramLM(1, 3, None, bos_id=0).fit([[1, 0, 2, 0]])
    assert model.distribution([]).tolist() == [0.5, 0.25, 0.25]


def test_a_large_vocabulary_at_a_high_order():
    """50,000 ** 8 does not fit an integer; contexts are numbered, not multiplied out."""
    ids = torch.randint(50_000, (5_000,), generator=torch.Generator().manual_seed(0))
    model = NGramLM(8, 50_000, None).fit(ids)
    p = model.distribution(ids[100:107].tolist())
    assert p[ids[107]] == 1 and p.sum() == 1


def test_it_may_be_fitted_again():
    model = NGramLM(2, 4).fit([0, 1, 2, 3])
    fresh = NGramLM(2, 4).fit([3, 3, 1])
    assert torch.equal(model.fit([3, 3, 1]).distribution([3]), fresh.distribution([3]))


def test_a_text_shorter_than_the_order():
    model = NGramLM(5, 3).fit([1])
    assert model.distribution([1, 2, 0, 1]).sum().item() == pytest.approx(1)
    assert NGramLM(5, 3, None).fit([1]).logprobs([1]).tolist() == [0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (dict(order=0, vocab_size=5), "order is 0"),
        (dict(order=2, vocab_size=0), "vocab_size 0"),
        (dict(order=2, vocab_size=5, smoothing="kneser_ney"), "smoothing is 'kneser_ney'; it must be 'witten_bell'"),
        (dict(order=2, vocab_size=5, smoothing=0), "smoothing is 0"),
        (dict(order=2, vocab_size=5, smoothing=-1.0), "smoothing is -1.0"),
        (dict(order=2, vocab_size=5, smoothing=math.nan), "smoothing is nan"),
        (dict(order=2, vocab_size=5, bos_id=6), "bos_id is 6; it must lie between 0 and vocab_size = 5"),
        (dict(order=2, vocab_size=5, eos_id=5), "eos_id is 5; it must lie between 0 and 4"),
    ],
)
def test_bad_settings_are_named(arguments, says):
    with pytest.raises(ValueError, match=says):
        NGramLM(**arguments)


@pytest.mark.parametrize(
    ("ids", "error", "says"),
    [
        ([], ValueError, "nothing to count: no ids"),
        ([[], []], ValueError, "nothing to count: no ids"),
        (torch.tensor([], dtype=torch.int64), ValueError, "nothing to count: no ids"),
        ([0, 1, 5], ValueError, r"ids\[0, 2\] is 5; ids must lie between 0 and 4"),
        ([[0], [0, -1]], ValueError, r"ids\[0, 1\] is -1"),
        ([0.5, 1.0], TypeError, "integer"),
        ("abba", TypeError, "ids is a text; encode it first"),
        (["ab", "ba"], TypeError, "ids is a text; encode it first"),
        (torch.tensor([[0, 1]]), ValueError, r"the stream has shape \(1, 2\)"),
        ([[4]], ValueError, "no token but start symbols"),
        ([0, 4, 1], ValueError, "the start symbol 4 is input only; it may stand first"),
    ],
)
def test_bad_texts_are_named(ids, error, says, as_shipped):
    bos = 4 if ids in ([[4]], [0, 4, 1]) else None
    model = NGramLM(2, 5 if bos is None else 4, bos_id=bos)
    with pytest.raises(error, match=says):
        model.fit(ids)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_model_that_has_counted_nothing_says_so(order):
    """Its logprobs were those of the uniform distribution, up to order 2."""
    asks = [lambda m: m(torch.tensor([[0]])), lambda m: m.distribution([]), lambda m: m.distribution([1])]
    for ask in (*asks, lambda m: m.logprobs([0, 1])):
        with pytest.raises(ValueError, match="counted nothing yet; call fit"):
            ask(NGramLM(order, 3))


def test_logprobs_are_of_one_text(as_shipped):
    """Of a batch it gave the first row's, and left the others out without a word."""
    model = NGramLM(2, 5, bos_id=5).fit([0, 1, 2, 3])
    for ids, shape in [(torch.tensor([[0, 1], [2, 3]]), r"\(2, 2\)"), ([], r"\(0,\)"), (torch.tensor(3), r"\(\)")]:
        with pytest.raises(ValueError, match=f"ids has shape {shape}; needed one text"):
            model.logprobs(ids)
    with pytest.raises(ValueError, match="the start symbol 5 is input only"):
        model.logprobs([5, 1, 5])


def test_an_iterator_of_sequences_is_counted_whole(as_shipped):
    """Looking what it holds took the first one out of it."""
    sequences = [[0, 1], [2, 1], [3]]
    counted = NGramLM(2, 4, None).fit(iter(sequences))
    assert torch.equal(counted.distribution([]), NGramLM(2, 4, None).fit(sequences).distribution([]))
