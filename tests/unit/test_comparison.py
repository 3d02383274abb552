"""Many strategies over one prompt: each measured rightly, none in another's way, and the frontier among them."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arlab.decoding import Generation, Temperature, TopK, greedy, measures, sample
from arlab.decoding.comparison import Outcome, compare, frontier, outcome, table
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.worlds import TreeLM

MODEL = DecoderLM(
    DecoderConfig.llama(vocab_size=17, context_length=40, d_model=16, layers=2, heads=4, kv_heads=2), seed=0
).eval()
# 'a' or the end, evenly, and the end for certain after two.
SHORT = TreeLM({(): [0.5, 0.5], (0,): [0.5, 0.5], (0, 0): [0.0, 1.0]}, max_length=3, eos_id=1, names=["a", "end"])


def generation(sequences, logprobs, *, finished=None, scores=None):
    """A Generation (1, n, time) out of lists."""
    width = max(1, *map(len, sequences))
    pad = [[*ids, *[0] * (width - len(ids))] for ids in sequences]
    padded = [[*values, *[0.0] * (width - len(values))] for values in logprobs]
    n = len(sequences)
    return Generation(
        ids=torch.tensor([pad]),
        logprobs=torch.tensor([padded]),
        scores=torch.tensor([scores or [float(sum(values)) for values in logprobs]]),
        lengths=torch.tensor([[len(ids) for ids in sequences]]),
        finished=torch.tensor([finished or [False] * n]),
    )


# --- the measures of one strategy


def test_an_outcome_by_hand():
    made = generation([[5, 6, 5, 6], [5]], [[-1.0, -2.0, -1.0, -2.0], [-4.0]], finished=[False, True])
    got = outcome("mine", made, 1.5, decode=lambda ids: "-".join(map(str, ids)))
    assert got.sequences == [[5, 6, 5, 6], [5]] and got.texts == ["5-6-5-6", "5"]
    assert got.logprobs == [-1.5, -4.0] and got.logprob == -2.0  # over tokens, not over texts
    assert (got.tokens, got.finished, got.seconds) == (5, [False, True], 1.5)
    assert got.repetition == 0 and got.distinct == pytest.approx(2 / 3)
    assert got.diversity == pytest.approx((2 / 3 + 1) / 2)
    assert got.agreement == 0  # [5] has no pair to share, and 56, 65, 56 are not in it


def test_one_sequence_has_nobody_to_agree_with():
    assert outcome("one", generation([[1, 2]], [[-1.0, -1.0]])).agreement is None


def test_without_decode_the_ids_are_written_out():
    assert outcome("one", generation([[1, 2]], [[-1.0, -1.0]])).texts == ["1 2"]


def test_what_a_beam_did_not_find_is_left_out():
    made = generation([[1, 2], []], [[-1.0, -1.0], []], scores=[-2.0, -math.inf])
    assert outcome("beam", made).sequences == [[1, 2]]
    with pytest.raises(ValueError, match="'beam' returned no sequence"):
        outcome("beam", generation([[]], [[]], scores=[-math.inf]))


def test_an_empty_text_has_no_log_probability():
    got = outcome("silent", generation([[], [3]], [[], [-2.0]]))
    assert got.sequences == [[], [3]] and math.isnan(got.logprobs[0]) and got.logprob == -2.0
    assert math.isnan(outcome("silent", generation([[]], [[]])).logprob)


# --- many strategies


STRATEGIES = {
    "greedy": partial(greedy, MODEL),
    "plain": partial(sample, MODEL, n=3),
    "cool": partial(sample, MODEL, filters=[Temperature(0.5)], n=2),
}


def test_each_strategy_alone_is_each_among_the_others():
    among = compare(STRATEGIES, [3, 1, 4], max_new_tokens=12, seed=5)
    assert [each.name for each in among] == list(STRATEGIES)
    for each in reversed(among):
        (alone,) = compare({each.name: STRATEGIES[each.name]}, [3, 1, 4], max_new_tokens=12, seed=5)
        assert alone.sequences == each.sequences and alone.logprobs == each.logprobs
    assert among[0].sequences == [greedy(MODEL, [3, 1, 4], max_new_tokens=12).tokens()]
    expected = sample(MODEL, [3, 1, 4], max_new_tokens=12, n=3, generator=torch.Generator().manual_seed(5))
    assert among[1].sequences == [expected.tokens(0, n) for n in range(3)]


def test_the_seed_decides_and_torchs_own_generator_is_left_alone():
    state = torch.get_rng_state()
    one, two, three = (compare(STRATEGIES, [3], max_new_tokens=12, seed=seed) for seed in (1, 1, 2))
    assert [each.sequences for each in one] == [each.sequences for each in two]
    assert one[0].sequences == three[0].sequences and one[1].sequences != three[1].sequences
    assert torch.equal(torch.get_rng_state(), state)


def test_the_log_probability_is_the_raw_models_whatever_the_filters():
    (got,) = compare({"cold": partial(sample, MODEL, filters=[TopK(1)])}, [3, 1], max_new_tokens=6)
    ids = got.sequences[0]
    logits = MODEL(torch.tensor([[3, 1, *ids]]))[0, 1:-1].detach()
    expected = logits.log_softmax(-1).gather(-1, torch.tensor(ids)[:, None]).mean()
    assert got.logprob == pytest.approx(float(expected), abs=1e-5)
    assert got.seconds > 0


def test_texts_of_different_lengths_and_their_ends():
    (got,) = compare({"plain": partial(sample, SHORT, n=50)}, [], max_new_tokens=3, eos_id=1, seed=0)
    assert {tuple(ids) for ids in got.sequences} == {(1,), (0, 1), (0, 0, 1)} and got.finished == [True] * 50
    assert got.tokens == sum(map(len, got.sequences))
    assert got.logprobs[got.sequences.index([0, 0, 1])] == pytest.approx(2 * math.log(0.5) / 3)
    (cut,) = compare({"plain": partial(sample, SHORT, n=50)}, [], max_new_tokens=2, eos_id=1, seed=0)
    assert cut.finished == [ids[-1] == 1 for ids in cut.sequences] and not all(cut.finished)


def test_a_prompt_may_be_a_tensor():
    rows = [compare(STRATEGIES, prompt, max_new_tokens=4) for prompt in ([3, 1], torch.tensor([[3, 1]]))]
    assert [each.sequences for each in rows[0]] == [each.sequences for each in rows[1]]


def test_what_a_partial_has_filled_in_stays():
    mine = torch.Generator().manual_seed(9)
    filled = partial(partial(sample, SHORT, n=4), generator=mine, eos_id=None, max_new_tokens=3)
    (got,) = compare({"mine": filled}, [], max_new_tokens=1, eos_id=1, seed=0)
    expected = sample(SHORT, [], n=4, max_new_tokens=3, generator=torch.Generator().manual_seed(9))
    assert got.sequences == [expected.tokens(0, n) for n in range(4)]


def test_a_students_own_strategy_needs_no_generator_and_no_end():
    seen = {}

    def own(prompt, max_new_tokens):
        seen.update(prompt=prompt, max_new_tokens=max_new_tokens)
        return greedy(SHORT, prompt, max_new_tokens=max_new_tokens, eos_id=1)

    def passes_on(prompt, **settings):
        seen["settings"] = settings
        return greedy(SHORT, prompt, **settings)

    got = compare({"own": own, "passes on": passes_on}, [0], max_new_tokens=2, eos_id=1)
    assert seen == {"prompt": [0], "max_new_tokens": 2, "settings": {"max_new_tokens": 2, "eos_id": 1}}
    assert got[0].sequences == got[1].sequences == [[0, 1]]


def test_a_strategy_that_writes_into_its_prompt_is_alone_with_it():
    def appends(prompt, max_new_tokens):
        made = greedy(MODEL, prompt, max_new_tokens=max_new_tokens)
        prompt += made.tokens()
        return made

    def overwrites(prompt, max_new_tokens):
        made = greedy(MODEL, prompt, max_new_tokens=max_new_tokens)
        prompt[:] = 0
        return made

    for own, prompt in ((appends, [3, 1]), (overwrites, torch.tensor([3, 1]))):
        first, second = compare({"own": own, "greedy": partial(greedy, MODEL)}, prompt, max_new_tokens=3)
        assert first.sequences == second.sequences and list(prompt) == [3, 1]


@pytest.mark.parametrize("strategies", [{}, [], None, partial(greedy, MODEL)])
def test_no_strategies(strategies, as_shipped):
    with pytest.raises(ValueError, match="needed a mapping, name -> strategy"):
        compare(strategies, [1], max_new_tokens=3)


def test_what_is_no_strategy(as_shipped):
    with pytest.raises(TypeError, match="'greedy' is a str; needed a function"):
        compare({"greedy": "greedy"}, [1], max_new_tokens=3)
    with pytest.raises(TypeError, match="'text' returned a str; needed a Generation"):
        compare({"text": lambda prompt, max_new_tokens: "text"}, [1], max_new_tokens=3)
    with pytest.raises(ValueError, match="'greedy' answered 2 prompts; a comparison is over one"):
        compare({"greedy": partial(greedy, MODEL)}, [[1], [2]], max_new_tokens=3)


def test_an_error_says_whose_it_is():
    with pytest.raises(ValueError, match="max_new_tokens is -1") as caught:
        compare(STRATEGIES, [1], max_new_tokens=-1)
    assert caught.value.__notes__ == ["raised by the strategy 'greedy'"]
    with pytest.raises(ValueError, match="nothing to generate"):
        compare(STRATEGIES, [1], max_new_tokens=0)


# --- the table and the frontier


def test_the_table_has_a_line_for_each_and_no_times():
    outcomes = compare(STRATEGIES, [3, 1, 4], max_new_tokens=12)
    lines = table(outcomes).splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(STRATEGIES) and len(set(map(len, lines))) == 1
    assert lines[0].split() == ["log", "p/token", "repetition", "distinct", "diversity", "agreement", "tokens"]
    assert lines[1].split()[-2:] == ["-", "12"] and lines[2].split()[-1] == "36"
    again = [Outcome(**{**vars(each), "seconds": 99.0}) for each in outcomes]
    assert table(again) == table(outcomes)


def test_the_frontier_by_hand():
    assert frontier([(0.0, 3.0), (1.0, 2.0), (0.5, 2.0), (2.0, 0.0)]) == [3, 1, 0]
    assert frontier([(1.0, 1.0), (1.0, 1.0), (1.0, 0.5)]) == [0, 1]  # equal points stay together
    assert frontier([(math.nan, 9.0), (9.0, math.nan), (0.0, 0.0)]) == [2]
    assert frontier([]) == []


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12))
def test_the_frontier_is_what_no_other_point_beats(points):
    kept = frontier(points)
    for i, (x, y) in enumerate(points):
        beaten = any(a >= x and b >= y and (a > x or b > y) for a, b in points)
        assert (i in kept) == (not beaten)
    xs = [points[i][0] for i in kept]
    ys = [points[i][1] for i in kept]
    assert xs == sorted(xs, reverse=True) and ys == sorted(ys)  # to be less likely must buy diversity


def test_the_measures_are_those_of_the_module():
    (got,) = compare({"plain": partial(sample, MODEL, n=3)}, [3], max_new_tokens=15)
    assert got.repetition == measures.repetition(got.sequences, 4)
    assert got.distinct == measures.distinct(got.sequences, 2)
    assert got.agreement == measures.agreement(got.sequences, 2)
    assert got.diversity == measures.diversity(got.sequences)
