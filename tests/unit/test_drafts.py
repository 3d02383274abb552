"""Drafts, rounds and caches: what is proposed, what each round reports, what is rolled back, what is refused."""

import math
from itertools import count

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arlab.decoding import Temperature, TopK, TopP, greedy, speculative
from arlab.decoding.drafts import LookupDraft, ModelDraft, Proposal, is_greedy
from arlab.decoding.speculative import speculative_decoding, speculative_steps
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import Recompute, last_logits
from arlab.nn.ngram import NGramLM
from arlab.worlds import TreeLM

SIZES = {"vocab_size": 17, "context_length": 40, "d_model": 16, "layers": 3, "heads": 4}
GPT = DecoderLM(DecoderConfig.gpt2(**SIZES), seed=0).double().eval()
LLAMA = DecoderLM(DecoderConfig.llama(**SIZES, kv_heads=2), seed=1).double().eval()
FLAT = TreeLM({}, max_length=99, default=[0.25] * 4)
COLD = [Temperature(0)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Watched:
    """A model that notes each pass (how long the cache was, how many ids were read), and hands out its last cache."""

    def __init__(self, model):
        self.model, self.passes, self.cache = model, [], None
        self.vocab_size, self.context_length, self.bos_id = model.vocab_size, model.context_length, model.bos_id

    def new_cache(self, rows, capacity):
        self.cache, self.capacity = self.model.new_cache(rows, capacity), capacity
        return self.cache

    def __call__(self, ids, cache=None):
        self.passes.append((cache.lengths[0], ids.size(1)))
        return self.model(ids, cache)

    def last_logits(self, ids, cache=None, lengths=None):
        self.passes.append((cache.lengths[0], ids.size(1)))
        return last_logits(self.model, ids, cache, lengths)


class Script:
    """Proposes what a list says, round by round."""

    def __init__(self, *rounds):
        self.rounds, self.asked = list(rounds), []

    def propose(self, text, limit):
        self.asked.append((list(text), limit))
        return self.rounds.pop(0)[:limit] if self.rounds else []


# ------------------------------------------------------------------------------------------------------ lookup


def test_lookup_copies_what_followed_the_longest_match():
    draft = LookupDraft(longest=3)
    assert draft.propose([1, 2, 3, 9, 8, 1, 2, 3], 2).tokens == [9, 8]
    assert draft.propose([2, 3, 7, 5, 3, 6, 2, 3], 1).tokens == [7], "two tokens match there, one where 6 followed"
    assert draft.propose([3, 7, 3, 6, 3], 1).tokens == [6], "the latest one among equals"
    assert draft.propose([1, 2, 3], 4).tokens == draft.propose([5], 4).tokens == draft.propose([], 4).tokens == []
    assert draft.propose([4, 1, 2, 1, 2], 5).tokens == [1, 2, 1, 2, 1], "a loop goes on"
    assert draft.propose([7, 7], 3).tokens == [7, 7, 7]
    assert LookupDraft(longest=3, shortest=2).propose([2, 1, 2], 3).tokens == []
    longer = [[0, 1, 2, 3, 9], [1, 2, 3, 8], [2, 3, 7], [1, 2, 3]]
    assert LookupDraft(longest=2).propose(sum(longer, []), 1).tokens == [7], "matches beyond `longest` count no more"


@given(st.lists(st.integers(0, 3), min_size=1, max_size=14), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3))
def test_lookup_against_its_definition(text, shortest, limit, more):
    """By trying every length from the longest down, and every place from the latest."""
    longest, expected = shortest + more, []
    for n in range(min(longest, len(text) - 1), shortest - 1, -1):
        starts = [i for i in range(len(text) - n) if text[i : i + n] == text[-n:]]
        if starts:
            followed = text[starts[-1] + n :]  # at least one token, repeated where it is too short
            expected = (followed * limit)[:limit]
            break
    assert LookupDraft(longest, shortest).propose(text, limit).tokens == expected


def test_lookup_lengths_are_checked():
    for lengths in ((0, 0), (2, 3), (3, 0)):
        with pytest.raises(ValueError, match="shortest is"):
            LookupDraft(*lengths)
    with pytest.raises(TypeError):
        LookupDraft(2.5)


# -------------------------------------------------------------------------------------------------- each round


def test_every_kind_of_round():
    tree = TreeLM({}, max_length=99, default=[0.0, 0.0, 1.0, 0.0])  # always 2
    draft = Script([2, 2, 2], [2, 0, 2], [], [3], [2])
    steps = list(speculative_steps(tree, draft, [1], max_new_tokens=10, gamma=3, generator=seeded()))
    told = [(s.kind, s.drafted, s.accepted, s.tokens, s.ratios, s.overlaps) for s in steps]
    assert told == [
        ("bonus", (2, 2, 2), 3, (2, 2, 2, 2), (1, 1, 1), (1, 1, 1)),
        ("corrected", (2, 0, 2), 1, (2, 2), (1, 0), (1, 0)),
        ("plain", (), 0, (2,), (), ()),
        ("corrected", (3,), 0, (2,), (0,), (0,)),
        ("bonus", (2,), 1, (2, 2), (1,), (1,)),
    ]
    assert [step.index for step in steps] == [0, 1, 2, 3, 4] and not any(step.finished for step in steps)
    assert [limit for _, limit in draft.asked] == [3, 3, 3, 2, 1], "never more than the room left, less one"
    text = [1]
    for (given_text, _), step in zip(draft.asked, steps, strict=True):
        assert given_text == text
        text += step.tokens
        assert step.logprobs == (0.0,) * len(step.tokens) and step.draft_seconds >= 0 and step.verify_seconds > 0
    greedy_steps = speculative_steps(tree, Script(*DRAFTED), [1], max_new_tokens=10, gamma=3, filters=COLD)
    assert [(s.kind, s.drafted, s.accepted, s.tokens, s.ratios, s.overlaps) for s in greedy_steps] == told


DRAFTED = ([2, 2, 2], [2, 0, 2], [], [3], [2])


def test_seconds_are_the_drafts_and_the_targets(monkeypatch):
    """On a clock that ticks once a look: a tick for each draft and each verification, one for the prompt."""
    monkeypatch.setattr(speculative, "perf_counter", count().__next__)
    steps = list(speculative_steps(FLAT, FLAT, [1, 2], max_new_tokens=9, gamma=2, filters=COLD))
    assert [step.draft_seconds for step in steps] == [1, 1, 1]
    assert [step.verify_seconds for step in steps] == [2, 1, 1], "the prompt's own pass is the first round's"


def test_a_draft_may_write_into_the_text_that_it_is_given():
    class Writes:
        def propose(self, text, limit):
            text += [3] * limit
            return text[-limit:]

    arguments = {"max_new_tokens": 9, "filters": COLD}
    assert speculative_decoding(GPT, Writes(), [3], **arguments).tokens() == greedy(GPT, [3], max_new_tokens=9).tokens()


@pytest.mark.parametrize("filters", [(), COLD])
def test_an_accepted_end_symbol_ends_the_text(filters):
    tree = TreeLM({(): [0, 1.0, 0], (1,): [1.0, 0, 0]}, max_length=9, default=[0, 0, 1.0])
    draft = Script([1, 0, 0, 2])
    (step,) = speculative_steps(tree, draft, [], max_new_tokens=9, gamma=4, eos_id=0, filters=filters)
    assert (step.kind, step.drafted, step.accepted, step.tokens) == ("end", (1, 0), 2, (1, 0)) and step.finished
    assert step.ratios == (1, 1)
    generation = speculative_decoding(tree, Script([1, 2]), [], max_new_tokens=9, gamma=4, eos_id=[2, 0])
    assert generation.tokens() == [1, 0] and generation.finished.all(), "the target's own end symbol"
    assert generation.ids.shape == generation.logprobs.shape == (1, 1, 2)


def test_a_draft_equal_to_the_target_is_always_accepted():
    for filters in ((), (Temperature(0.7), TopK(5)), COLD):
        arguments = {"max_new_tokens": 21, "gamma": 4, "filters": filters, "generator": seeded()}
        steps = list(speculative_steps(GPT, GPT, [3, 1], **arguments))
        assert [step.kind for step in steps] == ["bonus"] * 4 + ["plain"], "4 x 5 tokens and one more"
        assert all(overlap == pytest.approx(1) for step in steps for overlap in step.overlaps)


# ------------------------------------------------------------------------------------------------------ caches


@pytest.mark.parametrize("filters", [(), COLD])
def test_cache_lengths_after_every_round(filters):
    target, draft = Watched(GPT), Watched(LLAMA)
    text, caught_up = [3, 1, 4], 0
    arguments = {"max_new_tokens": 25, "gamma": 3, "filters": filters, "generator": seeded(5)}
    for step in speculative_steps(target, draft, list(text), **arguments):
        if step.index == 0:
            assert target.passes.pop(0) == (0, 2), "the prompt but its last token"
        assert target.passes == [(len(text) - 1, len(step.drafted) + 1)], "one pass a round: last token and draft"
        first = draft.passes[0] if draft.passes else None
        if step.drafted:
            assert sum(first) == len(text), "the draft reads all of the text that it has not read"
            assert [read for _, read in draft.passes[1:]] == [1] * (len(step.drafted) - 1)
            caught_up += step.index > 0 and first[1] == 2
        text += step.tokens
        target.passes.clear(), draft.passes.clear()
        assert target.cache.lengths == [len(text) - 1], "all but the last token, whatever was rejected"
    assert target.capacity == draft.capacity == 28 and len(text) == 28
    # The two random models disagree a lot; a round accepted whole shows with a draft that agrees.
    itself = Watched(GPT)
    list(speculative_steps(GPT, itself, [3, 1, 4], max_new_tokens=12, gamma=3, filters=filters, generator=seeded()))
    assert itself.passes[:5] == [(0, 3), (3, 1), (4, 1), (5, 2), (7, 1)], "then it reads its last token and the bonus"


def test_what_is_in_the_cache_is_what_a_fresh_pass_computes():
    target = Watched(LLAMA)
    text = [3, 1]
    for step in speculative_steps(target, GPT, list(text), max_new_tokens=20, gamma=4, generator=seeded()):
        text += step.tokens
        with torch.no_grad():
            fresh = LLAMA(torch.tensor([text]))[0]
        expected = fresh[-1 - len(step.tokens) : -1].log_softmax(-1)[range(len(step.tokens)), list(step.tokens)]
        assert step.logprobs == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_model_draft_serves_any_text():
    draft = ModelDraft(GPT, 40, filters=COLD)
    for text in ([3, 1, 4, 1, 5], [3, 1, 4], [3, 1, 4, 2, 2], [7], [7, 7]):
        assert draft.propose(text, 6).tokens == greedy(GPT, text, max_new_tokens=6).tokens()
    warm = ModelDraft(LLAMA, 40, filters=[Temperature(0.8), TopK(3)], generator=seeded())
    for text in ([3, 1, 4, 1, 5], [3, 1, 6, 1]):
        proposal = warm.propose(text, 4)
        with torch.no_grad():
            logits = LLAMA(torch.tensor([text + proposal.tokens]))[0, len(text) - 1 : -1]
        kept = (logits / 0.8).where(logits >= logits.topk(3).values[:, -1:], -math.inf)
        torch.testing.assert_close(proposal.probabilities, kept.softmax(-1))
    ends = ModelDraft(FLAT, 40, generator=seeded(), ends=[0])
    drafted = [ends.propose([4, 1], 8).tokens for _ in range(20)]
    assert all(0 not in tokens[:-1] for tokens in drafted) and any(len(tokens) < 8 for tokens in drafted)


def test_no_grad_mode_is_held_across_a_yield():
    for filters in ((), COLD):
        for _ in speculative_steps(GPT, LLAMA, [3, 1], max_new_tokens=6, filters=filters):
            assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_all_draws_come_from_the_generator():
    arguments = {"max_new_tokens": 12, "gamma": 3}
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second = (speculative_decoding(GPT, LLAMA, [3], generator=seeded(2), **arguments) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(first.ids, second.ids)
    speculative_decoding(GPT, LLAMA, [3], filters=COLD, **arguments)
    assert torch.equal(torch.get_rng_state(), before), "greedy draws nothing"
    apart = [TreeLM({}, max_length=99, default=law) for law in ([0, 0.5, 0, 0.5], [0.5, 0, 0.5, 0])]
    first, second = (speculative_decoding(*apart, [], generator=seeded(2), **arguments) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(first.ids, second.ids), "after a rejection too"


def test_which_filters_leave_the_argmax_alone():
    for cold in (Temperature(0), TopK(1)):
        assert is_greedy([cold]) and is_greedy([cold, TopP(0.5), Temperature(2)])
        assert not is_greedy([Temperature(1e9), cold]), "which may round two logits to one"
        assert not is_greedy([cold, lambda logits: logits]) and not is_greedy([lambda logits: logits, cold])
    assert not is_greedy([]) and not is_greedy([TopK(2)])


# ------------------------------------------------------------------------------------------------ what is refused


def test_bad_input_raises_at_the_call(as_shipped):
    short = Recompute(NGramLM(2, 17).fit([1, 2, 3]), context_length=12)
    for message, arguments in (
        ("gamma is 0", {"gamma": 0}),
        ("gamma is 2.0", {"gamma": 2.0}),
        ("gamma is True", {"gamma": True}),
        ("got 2 prompts", {"prompt": [[3, 1], [4]]}),
        ("max_new_tokens is -1", {"max_new_tokens": -1}),
        ("exceed the model's context_length", {"max_new_tokens": 40}),
        ("eos_id is 17", {"eos_id": 17}),
        ("pad_id is 17", {"pad_id": 17}),
        ("the draft has 4 tokens and the target 17", {"draft": FLAT}),
        (
            "the draft's context_length is 12; prompt and new tokens make 13",
            {"draft": short},
        ),
        ("the draft is a str; needed a LanguageModel", {"draft": "lookup"}),
        ("the draft is the class LookupDraft itself", {"draft": LookupDraft}),
    ):
        given_ = {"target": GPT, "draft": LLAMA, "prompt": [3, 1], "max_new_tokens": 11, **arguments}
        with pytest.raises((ValueError, TypeError), match=message):
            speculative_steps(given_.pop("target"), given_.pop("draft"), given_.pop("prompt"), **given_)
    with_bos = NGramLM(2, 4, bos_id=4).fit([[1, 2]])
    with pytest.raises(ValueError, match="the draft cannot read id 4"):
        speculative_steps(with_bos, NGramLM(2, 4).fit([1, 2]), [], max_new_tokens=3)
    with pytest.raises(ValueError, match="prompt 0 is empty"):
        speculative_steps(GPT, LLAMA, [], max_new_tokens=3)


@pytest.mark.parametrize("filters", [(), COLD])
def test_a_draft_that_breaks_its_word_is_told_so(filters, as_shipped):
    class Says:
        def __init__(self, answer):
            self.answer = answer

        def propose(self, text, limit):
            return self.answer

    half = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    for message, answer in (
        ("proposed 3 tokens; it was asked for at most 2", [1, 1, 1]),
        ("proposed 4; ids lie between 0 and 3", [4]),
        ("proposed 1.0; ids", [1.0]),
        ("proposed True; ids", [True]),
        ("shape", Proposal([1, 1], half)),
        ("probability 0.0", Proposal([2], half)),
        ("no distribution", Proposal([1], 2 * half)),
    ):
        if message == "no distribution" and filters:
            continue  # greedy needs no more than the drafted ids
        with pytest.raises(ValueError, match=message):
            speculative_decoding(FLAT, Says(answer), [1], max_new_tokens=9, gamma=2, filters=filters)
    with pytest.raises(ValueError, match="proposed 2 tokens; it was asked for at most 1"):  # no room for two
        speculative_decoding(FLAT, Says([1, 1]), [1], max_new_tokens=2, gamma=2, filters=filters)


@pytest.mark.parametrize("filters", [(), COLD])
def test_a_draft_model_of_nan_is_told_so(filters):
    class Broken(TreeLM):
        def last_logits(self, ids, cache=None, lengths=None):
            return super().last_logits(ids, cache, lengths) * math.nan

    with pytest.raises(ValueError, match="no distribution"):
        broken = Broken({}, max_length=99, default=[0.25] * 4)
        speculative_decoding(FLAT, broken, [1], max_new_tokens=3, filters=filters)


def test_zero_new_tokens_is_as_in_greedy():
    assert list(speculative_steps(GPT, LLAMA, [3], max_new_tokens=0)) == []
    with pytest.raises(ValueError, match="nothing to generate"):
        speculative_decoding(GPT, LLAMA, [3], max_new_tokens=0)
    assert len(speculative_decoding(GPT, LLAMA, [3], max_new_tokens=1).tokens()) == 1


def test_a_prompt_that_already_ends_is_continued_as_greedy_does():
    expected = greedy(GPT, [3, 2], max_new_tokens=8, eos_id=2)
    got = speculative_decoding(GPT, LLAMA, [3, 2], max_new_tokens=8, eos_id=2, filters=COLD)
    assert got.tokens() == expected.tokens() and torch.equal(got.finished, expected.finished)


def test_a_vocabulary_of_one_and_a_law_on_one_token():
    one = TreeLM({}, max_length=99, default=[1.0])
    for filters in ((), COLD):
        for draft in (one, LookupDraft()):
            assert speculative_decoding(one, draft, [0], max_new_tokens=7, filters=filters).tokens() == [0] * 7
    certain = TreeLM({}, max_length=99, default=[0.0, 1.0, 0.0, 0.0])
    assert speculative_decoding(certain, FLAT, [], max_new_tokens=7, generator=seeded()).tokens() == [1] * 7
    with pytest.raises(ValueError, match="no distribution"):
        speculative_decoding(FLAT, FLAT, [], max_new_tokens=3, filters=[lambda logits: logits * math.nan])
