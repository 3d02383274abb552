"""Beam search against enumeration, against a search written with plain lists, and against its own scores."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arlab.decoding import LogProb, Temperature, TopK, beam_search, beam_steps, greedy
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import Recompute
from arlab.worlds import TreeLM, beam_trap, rank_flip

EOS = 2


def world(seed: int, *, vocab: int = 3, length: int = 4, eos: int | None = EOS, sharp: float = 1.5) -> TreeLM:
    return TreeLM.random(vocab, length, torch.Generator().manual_seed(seed), eos_id=eos, sharp=sharp)


def ranked(tree: TreeLM, penalty: float) -> list[tuple[float, tuple[int, ...]]]:
    """Every sequence with its length-normalised score, best first."""
    return sorted(((math.log(p) / len(ids) ** penalty, ids) for ids, p in tree.enumerate()), reverse=True)


def plain_search(tree: TreeLM, beams: int, penalty: float, longest: int) -> list[tuple[float, tuple[int, ...]]]:
    """Beam search with lists and tuples, never stopping before there is nothing left to extend."""
    live, finished = [(0.0, ())], []
    for length in range(1, longest + 1):
        grown = [
            (total + math.log(p), (*ids, token))
            for total, ids in live
            for token, p in enumerate(tree.distribution(ids))
            if p > 0
        ]
        grown.sort(key=lambda item: -item[0])
        ends = [
            item for item in grown[:beams] if item[1][-1] == tree.eos_id or length == longest
        ]  # an end symbol further down is no hypothesis
        finished += [(total / length**penalty, ids) for total, ids in ends]
        live = [item for item in grown if item[1][-1] != tree.eos_id][:beams] if length < longest else []
    return sorted(finished, key=lambda item: -item[0])


def search(tree: TreeLM, longest: int = 4, **options):
    return beam_search(tree, [tree.bos_id], max_new_tokens=longest, eos_id=tree.eos_id, **options)


def sequences(generation, row: int = 0) -> list[tuple[int, ...]]:
    count = int((generation.lengths[row] > 0).sum())
    return [tuple(generation.tokens(row, i)) for i in range(count)]


# ------------------------------------------------------------------------------------------------- laws


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.6, 1.0, 2.0, -0.5]), st.booleans())
def test_an_exhaustive_beam_is_enumeration(seed, penalty, with_end):
    tree = world(seed, length=3, eos=EOS if with_end else None)
    every = ranked(tree, penalty)
    found = search(tree, 3, beams=27, n=5, length_penalty=penalty)
    assert sequences(found) == [ids for _, ids in every[:5]]
    assert found.scores[0].tolist() == pytest.approx([score for score, _ in every[:5]], abs=1e-12)


@given(st.integers(0, 10_000), st.integers(1, 6), st.sampled_from([0.0, 0.7, 1.0, 1.5, -0.5]), st.data())
def test_every_width_finds_what_a_search_with_plain_lists_finds(seed, beams, penalty, data):
    """Stopping early, the cache and the batch of candidates must change nothing."""
    n = data.draw(st.integers(1, beams))
    tree = world(seed)
    expected = plain_search(tree, beams, penalty, 4)[:n]
    found = search(tree, beams=beams, n=n, length_penalty=penalty)
    assert found.scores[0, : len(expected)].tolist() == pytest.approx([score for score, _ in expected], abs=1e-12)
    assert sequences(found) == [ids for _, ids in expected]
    assert (found.scores[0, len(expected) :] == -torch.inf).all()


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 5))
def test_hypotheses_are_distinct_end_once_and_score_what_they_say(seed, beams, vocab):
    tree = world(seed, vocab=vocab, eos=1)
    found = search(tree, beams=beams, n=beams, length_penalty=0.8)
    texts = sequences(found)
    assert len(set(texts)) == len(texts)
    for i, ids in enumerate(texts):
        assert tree.eos_id not in ids[:-1], "a token after the end"
        assert bool(found.finished[0, i]) == (ids[-1] == tree.eos_id)
        assert found.ids[0, i, len(ids) :].tolist() == [tree.eos_id] * (found.ids.size(2) - len(ids))
        each = [math.log(tree.distribution(ids[:t])[token]) for t, token in enumerate(ids)]
        assert found.logprobs[0, i, : len(ids)].tolist() == pytest.approx(each, abs=1e-12)
        assert float(found.scores[0, i]) == pytest.approx(sum(each) / len(ids) ** 0.8, abs=1e-12)
    assert found.scores[0].tolist() == sorted(found.scores[0].tolist(), reverse=True)


@given(st.integers(0, 10_000))
def test_one_beam_without_length_penalty_and_end_symbol_is_greedy(seed):
    tree = world(seed, vocab=4, eos=None)
    assert search(tree, beams=1, length_penalty=0.0).tokens() == greedy(tree, [tree.bos_id], max_new_tokens=4).tokens()


def test_the_tree_in_which_two_beams_lose_to_one():
    found = {k: math.exp(search(beam_trap(), 3, beams=k, length_penalty=0).scores[0, 0]) for k in (1, 2, 3)}
    assert found == pytest.approx({1: 0.187, 2: 0.0765, 3: 0.187})


def test_ties_go_to_the_better_beam_and_then_to_the_lowest_id():
    tree = TreeLM({}, max_length=2, default=[0.25] * 4)
    found = search(tree, 2, beams=3, n=3, length_penalty=0)
    assert sequences(found) == [(0, 0), (0, 1), (0, 2)]
    assert search(tree, 2, beams=1, length_penalty=0).tokens() == [0, 0]


# ------------------------------------------------------------------------------------------------- length, end, stop


def ending(p_end: float) -> TreeLM:
    """Token 1 ends; it comes with p_end at once, and the long way is sure after the first step."""
    return TreeLM({(): [1 - p_end, p_end], (0,): [1, 0], (0, 0): [1, 0], (0, 0, 0): [0, 1]}, max_length=4, eos_id=1)


def test_the_length_counts_generated_tokens_with_the_end_symbol_and_no_prompt():
    tree = ending(0.6)
    found = beam_search(
        tree, [tree.bos_id], max_new_tokens=4, beams=2, n=2, length_penalty=1.0, eos_id=1
    )  # bos is the prompt and no part of the length
    assert sequences(found) == [(0, 0, 0, 1), (1,)]
    assert found.scores[0].tolist() == pytest.approx([math.log(0.4) / 4, math.log(0.6) / 1])
    assert found.lengths[0].tolist() == [4, 1]


def test_without_the_penalty_the_empty_text_wins():
    assert search(ending(0.6), beams=2, length_penalty=0.0).tokens() == [1]


def test_the_search_goes_on_while_a_live_beam_can_still_win():
    """The first finished hypothesis is not the best one: stopping at it, or once `beams` are finished, would lose."""
    tree = ending(0.6)
    assert search(tree, beams=1, length_penalty=1.0).tokens() == [0, 0, 0, 1]  # 1 finished at once, 0 lived on
    steps = list(beam_steps(tree, [tree.bos_id], max_new_tokens=4, beams=2, length_penalty=0.0, eos_id=1))
    assert len(steps) == 1 and steps[0].done.all(), "log .6 cannot be beaten by log .4 plus something negative"


def test_an_end_symbol_below_the_first_beams_is_no_hypothesis():
    tree = TreeLM({(): [0.5, 0.4, 0.1]}, max_length=2, eos_id=EOS, default=[0.5, 0.5, 0.0])
    steps = list(beam_steps(tree, [tree.bos_id], max_new_tokens=2, beams=2, eos_id=EOS))
    assert not steps[0].ended.any() and steps[0].tokens[0].tolist() == [0, 1, 2]
    assert (0,) not in sequences(search(tree, 2, beams=2, n=2)) and steps[0].live[0].tolist() == [0, 1]


def test_end_symbols_take_no_live_slot():
    tree = TreeLM({(): [0.3, 0.2, 0.5]}, max_length=2, eos_id=EOS, default=[0.5, 0.5, 0.0])
    first = next(beam_steps(tree, [tree.bos_id], max_new_tokens=2, beams=2, eos_id=EOS))
    assert first.ended[0].tolist() == [True, False, False]
    assert first.live[0].tolist() == [1, 2], "both other tokens live on"


def test_several_end_symbols():
    tree = TreeLM({(): [0.1, 0.2, 0.3, 0.4]}, max_length=2, default=[0.25] * 4)
    found = beam_search(tree, [tree.bos_id], max_new_tokens=2, beams=2, n=2, length_penalty=0, eos_id=[2, 3])
    assert sequences(found) == [(3,), (2,)] and found.finished.all()


def test_an_end_symbol_needs_its_place_when_several_crowd_the_front():
    """Three ends among the first four: with only 2 * beams candidates one live beam would be lost."""
    tree = TreeLM({(): [0.3, 0.25, 0.2, 0.15, 0.1]}, max_length=2, default=[0.2] * 5)
    first = next(beam_steps(tree, [tree.bos_id], max_new_tokens=2, beams=2, eos_id=[0, 1, 2]))
    assert first.tokens.size(1) == 5 and first.live[0].tolist() == [3, 4]
    assert first.ended[0].tolist() == [True, True, False, False, False]


def test_a_negative_penalty_is_bounded_by_the_next_length():
    """Then a hypothesis is worth less with every token: the best that a live beam can do is to end at once."""
    tree = TreeLM(
        {(): [0.45, 0.55], (0,): [0.01, 0.99], (0, 0): [0.5, 0.5], (0, 0, 0): [0.5, 0.5]}, max_length=4, eos_id=1
    )
    for penalty in (-0.2, -0.05):
        best = max((math.log(p) / len(ids) ** penalty, ids) for ids, p in tree.enumerate())
        found = search(tree, beams=2, length_penalty=penalty, n=2)
        assert float(found.scores[0, 0]) == pytest.approx(best[0]) and sequences(found)[1] == (0, 1)


def test_a_prompt_that_is_done_waits_for_the_others():
    """Its slots in the batch repeat a text of another prompt, for its own has no next token in this table."""
    tree = TreeLM({(): [0.5, 0.5, 0.0], (0,): [0.0, 0.0, 1.0], (1,): [0.5, 0.5, 0.0], (1, 0): [0.9, 0.0, 0.1],
                   (1, 1): [0.0, 0.9, 0.1], (1, 0, 0): [0.0, 0.0, 1.0], (1, 1, 1): [0.0, 0.0, 1.0]},
                  max_length=4, eos_id=EOS)  # fmt: skip
    prompts = [[tree.bos_id, 0], [tree.bos_id, 1]]
    together = beam_search(tree, prompts, max_new_tokens=3, beams=2, n=2, eos_id=EOS)
    assert sequences(together, 0) == [(EOS,)]
    assert sequences(together, 1) == sequences(
        beam_search(tree, prompts[1], max_new_tokens=3, beams=2, n=2, eos_id=EOS)
    )


# ------------------------------------------------------------------------------------------------- temperature, scorers


def test_temperature_changes_which_sequence_wins_and_not_the_reported_log_probabilities():
    tree = rank_flip()
    for t, first in ((1.0, 1), (0.1, 0)):
        found = beam_search(tree, [tree.bos_id], max_new_tokens=2, beams=20, filters=[Temperature(t)], length_penalty=0)
        assert found.tokens()[0] == first
        assert float(found.logprobs.sum()) == pytest.approx(tree.logprob(found.tokens()))


def test_filtered_tokens_are_never_taken():
    tree = TreeLM({}, max_length=3, default=[0.5, 0.3, 0.2])
    found = beam_search(tree, [tree.bos_id], max_new_tokens=3, beams=8, n=8, filters=[TopK(2)])
    assert len(sequences(found)) == 8 and not (found.ids == 2).any()
    assert float(found.scores[0, 0]) == pytest.approx(math.log(0.5 / 0.8)), "scored as renormalised, a mean over 3"


def test_any_scorer_goes_through_the_same_search():
    class Longing:
        """Likes token 1, whatever the model says: scores above 0, so no early end is safe."""

        highest = math.inf

        def __init__(self, model):
            self.models = (model,)

        def __call__(self, logits):
            return torch.tensor([0.0, 1.0, 0.5], dtype=logits.dtype).expand_as(logits)

    tree = world(0)
    found = beam_search(Longing(tree), [tree.bos_id], max_new_tokens=4, beams=2, eos_id=EOS, length_penalty=0)
    assert found.tokens() == [1, 1, 1, 1] and float(found.scores) == 4
    with pytest.raises(ValueError, match="filters go with a language model"):
        beam_search(Longing(tree), [tree.bos_id], max_new_tokens=2, filters=[TopK(1)])


def test_a_scorer_that_forbids_everything_finds_nothing():
    class Never:
        highest = 0.0

        def __init__(self, model):
            self.models = (model,)

        def __call__(self, logits):
            return torch.full_like(logits, -torch.inf)

    found = beam_search(Never(world(0)), [3], max_new_tokens=2, beams=2, n=2)
    assert found.ids.shape == (1, 2, 0) and found.lengths.tolist() == [[0, 0]] and (found.scores == -torch.inf).all()


def test_a_language_model_made_of_several_models_is_no_scorer():
    tree = world(0)
    tree.models = [world(1), world(2)]
    assert beam_search(tree, [3], max_new_tokens=2).tokens() == beam_search(world(0), [3], max_new_tokens=2).tokens()


@pytest.mark.parametrize("number", [np.float32, Fraction])
def test_any_real_number_is_a_length_penalty(number, as_shipped):
    options = {"max_new_tokens": 4, "beams": 3, "n": 3, "eos_id": EOS}
    given_, plain = (beam_search(world(5), [3], length_penalty=p, **options) for p in (number(0.5), 0.5))
    assert torch.equal(given_.ids, plain.ids) and torch.equal(given_.scores, plain.scores)


def test_log_prob_is_the_scorer_of_a_plain_model():
    tree = world(5)
    options = {"max_new_tokens": 4, "beams": 3, "n": 3, "eos_id": EOS}
    plain, scored = (beam_search(each, [tree.bos_id], **options) for each in (tree, LogProb(tree)))
    assert torch.equal(plain.ids, scored.ids) and torch.equal(plain.scores, scored.scores)


# ------------------------------------------------------------------------------------------------- transformers of ours


@pytest.fixture(scope="module")
def small() -> DecoderLM:
    config = DecoderConfig.llama(vocab_size=23, context_length=64, d_model=32, layers=2, heads=4, kv_heads=2, d_ff=64)
    return DecoderLM(config, seed=3).eval()


PROMPTS = [[3, 1, 4, 1, 5], [9, 2], [6, 5, 3]]


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_row_alone_is_the_row_in_a_ragged_batch(small, penalty):
    options = {"max_new_tokens": 12, "beams": 4, "n": 3, "length_penalty": penalty, "eos_id": 7}
    together = beam_search(small, PROMPTS, **options)
    for row, prompt in enumerate(PROMPTS):
        alone = beam_search(small, prompt, **options)
        assert sequences(together, row) == sequences(alone)
        torch.testing.assert_close(together.scores[row], alone.scores[0], atol=1e-5, rtol=1e-5)


def test_the_cache_changes_nothing(small):
    options = {"max_new_tokens": 10, "beams": 5, "n": 5, "eos_id": 7}
    cached, recomputed = beam_search(small, PROMPTS, **options), beam_search(Recompute(small), PROMPTS, **options)
    assert torch.equal(cached.ids, recomputed.ids)
    torch.testing.assert_close(cached.scores, recomputed.scores, atol=1e-5, rtol=1e-5)


def test_rescoring_in_one_pass_gives_the_returned_score(small):
    found = beam_search(small, PROMPTS, max_new_tokens=12, beams=4, n=4, eos_id=7, length_penalty=0.7)
    for row, prompt in enumerate(PROMPTS):
        for i, ids in enumerate(sequences(found, row)):
            with torch.no_grad():
                logp = small(torch.tensor([prompt + list(ids)]))[0].log_softmax(-1)
            each = logp[len(prompt) - 1 : -1].gather(-1, torch.tensor(ids)[:, None])[:, 0]
            torch.testing.assert_close(found.logprobs[row, i, : len(ids)], each, atol=1e-5, rtol=1e-5)
            assert float(found.scores[row, i]) == pytest.approx(float(each.sum()) / len(ids) ** 0.7, abs=1e-5)


def test_left_padding_changes_nothing(small):
    padded = torch.tensor([[3, 1, 4, 1, 5], [0, 0, 0, 9, 2], [0, 0, 6, 5, 3]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 1, 1, 1]]).bool()
    options = {"max_new_tokens": 6, "beams": 3, "n": 2}
    found, ragged = beam_search(small, padded, mask=mask, **options), beam_search(small, PROMPTS, **options)
    assert torch.equal(found.ids, ragged.ids) and torch.equal(found.scores, ragged.scores)


def test_no_grad_mode_leaks_out_of_the_iterator(small):
    for _ in beam_steps(small, [1, 2], max_new_tokens=3, beams=2):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_a_step_holds_no_vocabulary(small):
    """What a search remembers is candidates, whatever the vocabulary: a T-step tree stays small."""
    for step in beam_steps(small, PROMPTS, max_new_tokens=4, beams=2, eos_id=7):
        tensors = [value for value in vars(step).values() if isinstance(value, torch.Tensor)]
        assert sum(value.untyped_storage().nbytes() for value in tensors) < 1000


# ------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beams": 0}, "beams is 0"),
        ({"beams": 2.0}, "beams is 2.0"),
        ({"beams": 2, "n": 3}, "n is 3 and beams 2"),
        ({"n": 0}, "n is 0"),
        ({"length_penalty": math.nan}, "length_penalty is nan"),
        ({"length_penalty": "1"}, "length_penalty is '1'"),
        ({"length_penalty": 2000.0}, "length_penalty is 2000.0; 2 [*][*] 2000.0 is out of range"),
        ({"length_penalty": -2000.0}, "out of range"),
        ({"eos_id": 3}, "eos_id is 3"),
    ],
)
def test_bad_options_are_refused_at_the_call(options, message, as_shipped):
    with pytest.raises(ValueError, match=message):
        beam_steps(world(0), [3], max_new_tokens=2, **options)


def test_no_new_tokens():
    assert list(beam_steps(world(0), [3], max_new_tokens=0)) == []
    with pytest.raises(ValueError, match="max_new_tokens is 0"):
        beam_search(world(0), [3], max_new_tokens=0)


def test_more_beams_than_sequences_leaves_the_rest_empty():
    tree = TreeLM({(): [0.5, 0.5]}, max_length=1)
    found = beam_search(tree, [tree.bos_id], max_new_tokens=1, beams=5, n=5)
    assert sequences(found) == [(0,), (1,)]
    assert found.lengths[0].tolist() == [1, 1, 0, 0, 0] and (found.scores[0, 2:] == -torch.inf).all()


def test_a_model_of_one_token():
    tree = TreeLM({}, max_length=3, default=[1.0])
    found = beam_search(tree, [tree.bos_id], max_new_tokens=3, beams=4, n=2)
    assert sequences(found) == [(0, 0, 0)] and float(found.scores[0, 0]) == 0
    certain = TreeLM({}, max_length=3, default=[0.0, 1.0, 0.0], eos_id=2)
    assert sequences(search(certain, 3, beams=3, n=3)) == [(1, 1, 1)]


def test_an_end_symbol_in_the_prompt_is_text_like_any_other(small):
    found = beam_search(small, [3, 7], max_new_tokens=4, beams=2, eos_id=7)
    assert int(found.lengths[0, 0]) >= 1
    tree = world(0)
    assert beam_search(tree, [tree.bos_id, EOS], max_new_tokens=3, beams=2, eos_id=EOS).tokens() == [EOS]


def test_nan_logits_are_refused():
    class Broken(TreeLM):
        def last_logits(self, ids, cache=None, lengths=None):
            return super().last_logits(ids, cache, lengths) * torch.nan

    tree = Broken({}, max_length=2, default=[0.5, 0.5])
    with pytest.raises(ValueError, match="NaN"):
        beam_search(tree, [tree.bos_id], max_new_tokens=2)


def test_one_nan_among_equal_scores_is_seen():
    """Where many candidates tie, the first of them are looked for again: NaN, equal to nothing, must not be lost."""

    class Equal:
        highest = 0.0

        def __init__(self, model):
            self.models, self.calls = (model,), 0

        def __call__(self, logits):
            scores = torch.zeros_like(logits)
            scores[0, -1] = torch.nan if self.calls else -1.0
            self.calls += 1
            return scores

    tree = TreeLM({}, max_length=9, default=[0.125] * 8)
    with pytest.raises(ValueError, match="NaN"):
        beam_search(Equal(tree), [8], max_new_tokens=3, beams=2)
