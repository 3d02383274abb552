"""The recorded runs of notebook 11: what they measure, and that the shipped file holds together."""

import pytest
import torch

from arlab.decoding import beam_search, greedy
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.recipes import beam_search as recipe
from arlab.training import recordings
from arlab.worlds import TreeLM

MODEL = DecoderLM(DecoderConfig.llama(vocab_size=13, context_length=32, d_model=16, layers=2, heads=2), seed=0).eval()
PROMPTS = [[1, 2, 3], [4, 5], [6], [7, 8, 9, 10]]


def test_a_beam_of_one_is_greedy_in_a_batch_or_alone():
    (records,) = recipe.by_width(MODEL, PROMPTS, [1], rows=3, max_new_tokens=9)
    for record, prompt in zip(records, PROMPTS, strict=True):
        alone = greedy(MODEL, prompt, max_new_tokens=9)
        assert record["ids"] == alone.tokens() and record["length"] == 9 and not record["finished"]
        assert record["logprob"] == pytest.approx(float(alone.scores[0, 0]), abs=1e-3)


def test_the_first_hypothesis_is_described_and_all_are_compared():
    world = TreeLM({(): [0.5, 0.3, 0.2]}, max_length=4, eos_id=2, default=[0.5, 0.3, 0.2])
    out = beam_search(world, [world.bos_id], max_new_tokens=4, beams=3, n=3, eos_id=2, length_penalty=0)
    found = recipe.figures(out, 0)
    assert found["length"] == 1 and found["finished"]  # the end at once is the most probable: .2 against .0625
    assert found["logprob"] == pytest.approx(-1.6094, abs=1e-3)


def test_the_end_at_once_is_ranked_among_all_tokens():
    logprobs = MODEL(torch.tensor([PROMPTS[0]]))[0, -1].detach().double().log_softmax(-1)
    best = int(logprobs.argmax())
    (found,) = recipe.ends_at_once(MODEL, PROMPTS[:1], best)
    assert found["rank"] == 1 and found["logprob"] == pytest.approx(float(logprobs[best]), abs=1e-3)


def test_the_shipped_recording_holds_together():
    runs, about = recordings.load(recipe.FILE)
    assert runs == {} and about["widths"] == list(recipe.WIDTHS) and about["prompts"] == list(recipe.STORIES)
    for records in about["stories"]:
        assert len(records) == len(recipe.STORIES) == len(about["sampled"])
        assert all(each["length"] == about["tokens"] == len(each["ids"]) and each["logprob"] < 0 for each in records)
    assert len(about["answers"]) == len(recipe.PENALTIES)
    for by_width in about["answers"]:
        assert [len(records) for records in by_width] == [len(recipe.ANSWERS)] * len(recipe.WIDTHS)
    assert [each["rank"] >= 1 for each in about["empty"]] == [True] * len(recipe.ANSWERS)
    narrow, wide = ([each["logprob"] for each in about["stories"][i]] for i in (0, -1))
    assert sum(wide) > sum(narrow)
