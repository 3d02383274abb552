"""A model that has forgotten its prompt writes what it would write after the prompt's last tokens alone."""

import pytest
import torch

from arlab.decoding import beam_search, contrastive_decoding, greedy, sample
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import Recompute
from arlab.nn.prompt_forgotten import PromptForgotten

CONFIG = DecoderConfig.llama(vocab_size=17, context_length=40, d_model=16, layers=2, heads=2, d_ff=32)
PROMPTS = [[1, 2, 3, 4, 5], [6, 7], [8]]


@pytest.fixture(scope="module")
def model() -> DecoderLM:
    model = DecoderLM(CONFIG, seed=0).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.mul_(8)  # large enough that every token matters
    return model


@pytest.mark.parametrize("keep", [1, 2, 4])
@pytest.mark.parametrize("cached", [True, False])
def test_it_writes_what_follows_the_last_tokens_alone(model, keep, cached):
    inner = model if cached else Recompute(model)
    short = [prompt[-keep:] for prompt in PROMPTS]
    forgotten = PromptForgotten(inner, keep)
    assert torch.equal(
        greedy(forgotten, PROMPTS, max_new_tokens=12).ids, greedy(model, short, max_new_tokens=12).ids
    )  # ragged rows and all
    options = {"max_new_tokens": 8, "beams": 3, "n": 2, "eos_id": 4}
    assert torch.equal(beam_search(forgotten, PROMPTS, **options).ids, beam_search(model, short, **options).ids)


def test_it_does_remember_what_it_wrote(model):
    """Unlike a window that slides along: its opinion is that of the whole text but the prompt."""
    forgotten, sliding = PromptForgotten(model), Recompute(model, window=1)
    caches = [each.new_cache(1, 8) for each in (forgotten, sliding)]
    for new in ([[1, 2, 3]], [[4]], [[5]]):
        logits = [each.last_logits(torch.tensor(new), c) for each, c in zip((forgotten, sliding), caches, strict=True)]
    torch.testing.assert_close(logits[0], model(torch.tensor([[3, 4, 5]]))[:, -1])
    assert (logits[1] - logits[0]).abs().max() > 0.1


def test_contrastive_decoding_takes_it_as_the_weak_model(model):
    together = contrastive_decoding(model, PromptForgotten(model), PROMPTS, max_new_tokens=6)
    for row, prompt in enumerate(PROMPTS[:2]):
        alone = contrastive_decoding(model, PromptForgotten(model), prompt, max_new_tokens=6)
        assert together.tokens(row) == alone.tokens()
        torch.testing.assert_close(together.scores[row], alone.scores[0], atol=1e-4, rtol=1e-4)
    assert float(together.scores[2, 0].abs()) < 1e-3, "one token of prompt: nothing is forgotten, both are one"


def test_a_prompt_of_one_token_forgets_nothing(model):
    drawn = [
        sample(each, [3], max_new_tokens=9, generator=torch.Generator().manual_seed(1)).ids
        for each in (model, PromptForgotten(model))
    ]
    assert torch.equal(*drawn)


def test_bad_input(model, as_shipped):
    for keep in (0, -1, 1.0, True):
        with pytest.raises(ValueError, match="keep is"):
            PromptForgotten(model, keep)
    forgotten = PromptForgotten(model)
    cache = forgotten.new_cache(1, 8)
    with pytest.raises(ValueError, match="fresh cache"):
        forgotten(torch.tensor([[1, 2]]), cache)
    forgotten.last_logits(torch.tensor([[1, 2, 3]]), cache)
    assert cache.lengths == [3]
    with pytest.raises(ValueError, match="cannot be cut"):
        cache.truncate([1])
    with pytest.raises(ValueError, match="ids must lie"):
        PromptForgotten(model).last_logits(torch.tensor([[99]]), PromptForgotten(model).new_cache(1, 4))
