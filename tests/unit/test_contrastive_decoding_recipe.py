"""The recorded run of notebook 12: its models, what it measures, and that the shipped file holds together."""

import torch

from arlab.decoding import contrastive_decoding, greedy
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import last_logits
from arlab.nn.prompt_forgotten import PromptForgotten
from arlab.recipes import contrastive_decoding as recipe

MODEL = DecoderLM(DecoderConfig.llama(vocab_size=13, context_length=128, d_model=16, layers=2, heads=2), seed=0).eval()
PROMPTS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])


def test_forbidden_tokens_are_never_written_nor_counted():
    plain = recipe.WithoutSpecial(MODEL, [0, 12])
    logits = last_logits(plain, PROMPTS)
    assert (logits[:, [0, 12]] == -torch.inf).all()
    assert torch.equal(logits[:, 1:12], last_logits(MODEL, PROMPTS)[:, 1:12])
    assert torch.allclose(plain(PROMPTS)[:, -1], logits, atol=1e-5)
    first = int(greedy(MODEL, PROMPTS, max_new_tokens=1).ids[0, 0, 0])
    assert greedy(recipe.WithoutSpecial(MODEL, [first]), PROMPTS, max_new_tokens=1).ids[0, 0, 0] != first


def test_write_reports_what_contrastive_decoding_does():
    weak = PromptForgotten(MODEL)
    texts, logprobs, sizes, same = recipe.write(MODEL, weak, 0.5, PROMPTS)
    found = contrastive_decoding(MODEL, weak, PROMPTS, max_new_tokens=recipe.TOKENS, alpha=0.5)
    assert texts == [found.tokens(row) for row in range(2)] and torch.equal(logprobs, found.logprobs[:, 0])
    assert sizes.shape == same.shape == (2, recipe.TOKENS) and (sizes >= 1).all()
    assert same[sizes == 1].all(), "a set of one token is the argmax"


def test_the_shipped_recording_holds_together():
    about = recipe.recorded()
    runs = {(run["name"], run["alpha"]): run for run in about["settings"]}
    assert len(about["prompts"]) == len(recipe.OPENINGS)
    for run in runs.values():
        assert all(len(run[key]) == len(about["prompts"]) for key in ("repetition", "diversity", "logprob", "texts"))
        assert all(0 <= x <= 1 for x in run["repetition"]) and all(x <= 0 for x in run["logprob"])
    mean = {key: sum(run["repetition"]) / len(run["repetition"]) for key, run in runs.items()}
    # What notebook 12 says: the forgotten prompt cures repetition, the sliding window does not.
    assert mean["prompt forgotten", 0.1] < mean["greedy", None] / 2
    assert mean["window of 4", 0.3] > mean["greedy", None] / 2
