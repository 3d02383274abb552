"""Beam search and greedy assisted decoding against `transformers`: the same weights, the same hypotheses and scores.

`early_stopping="never"` is the peer's name for a search that ends only when nothing live can win.
"""

import pytest
import torch

from arlab import assets
from arlab.decoding import LookupDraft, Temperature, beam_search, greedy, speculative_decoding
from arlab.nn.early_exit import EarlyExit
from arlab.nn.pretrained import from_transformers, smollm2

transformers = pytest.importorskip("transformers", reason="the peer of these tests; pip install 'arlab[test]'")
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM  # noqa: E402

PAD = 0
SIZES = {"vocab_size": 29, "initializer_range": 0.5}
MODELS = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**SIZES, n_positions=48, n_embd=32, n_layer=2, n_head=4)),
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            **SIZES,
            max_position_embeddings=48,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=40,
        )
    ),
}


@pytest.fixture(params=MODELS, scope="module")
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(1)
    peer = MODELS[request.param]().eval().requires_grad_(False)
    peer.save_pretrained(folder)
    return peer, from_transformers(folder)[0]


@pytest.fixture(scope="module")
def smollm():
    file = assets.path("smollm2")
    peer = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    model, tokenizer = smollm2()
    return peer.eval().requires_grad_(False), model, tokenizer


def peer_beams(peer, prompts: list[list[int]], *, beams: int, n: int, new: int, penalty: float, eos: int | None):
    """(sequences, scores) of transformers' beam search, new tokens only, cut behind the end symbol."""
    width = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    peer.generation_config.eos_token_id = None  # what it brings along would be used where eos is None
    out = peer.generate(
        ids,
        attention_mask=mask,
        num_beams=beams,
        num_return_sequences=n,
        max_new_tokens=new,
        length_penalty=penalty,
        early_stopping="never",
        do_sample=False,
        eos_token_id=eos,
        pad_token_id=PAD,
        return_dict_in_generate=True,
        output_scores=True,
    )
    texts = []
    for row in out.sequences[:, width:].tolist():
        texts.append(row[: row.index(eos) + 1] if eos in row else row)
    return texts, out.sequences_scores


def check_same(ours, texts: list[list[int]], scores: torch.Tensor, tolerance: float = 1e-4) -> None:
    n = ours.ids.size(1)
    torch.testing.assert_close(ours.scores.flatten(), scores, rtol=0, atol=tolerance)
    for i, theirs in enumerate(texts):
        row, k = divmod(i, n)
        near = (ours.scores[row] - ours.scores[row, k]).abs() < tolerance
        if int(near.sum()) == 1:  # equal scores may come in either order
            assert ours.tokens(row, k) == theirs[: int(ours.lengths[row, k])]


PROMPTS = [[5, 6, 7, 8, 9], [10, 11], [3, 12, 4]]


def end_symbol(model, at: int | None) -> int | None:
    """A token that the model does write, for it to end with: the one at this place of a greedy text."""
    return None if at is None else greedy(model, PROMPTS[0], max_new_tokens=14).tokens()[at]


@pytest.mark.parametrize("at", [None, 2, 9])
@pytest.mark.parametrize("penalty", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize(("beams", "n"), [(2, 1), (3, 3), (6, 4)])
def test_random_models(pair, beams, n, penalty, at):
    peer, model = pair
    eos = end_symbol(model, at)
    texts, scores = peer_beams(peer, PROMPTS, beams=beams, n=n, new=14, penalty=penalty, eos=eos)
    ours = beam_search(
        model, PROMPTS, max_new_tokens=14, beams=beams, n=n, length_penalty=penalty, eos_id=eos, pad_id=PAD
    )
    check_same(ours, texts, scores)
    assert at is None or penalty > 0 or ours.finished.any(), "or the end symbol would have been compared nowhere"


@pytest.mark.parametrize("new", [1, 2, 5, 30])
def test_random_models_at_other_lengths(pair, new):
    peer, model = pair
    eos = end_symbol(model, 3)
    texts, scores = peer_beams(peer, PROMPTS, beams=4, n=2, new=new, penalty=1.0, eos=eos)
    ours = beam_search(model, PROMPTS, max_new_tokens=new, beams=4, n=2, eos_id=eos, pad_id=PAD)
    check_same(ours, texts, scores)


@pytest.mark.parametrize(("beams", "penalty"), [(2, 1.0), (5, 1.0), (5, 0.0), (4, 2.0)])
def test_smollm2(smollm, beams, penalty):
    peer, model, tokenizer = smollm
    prompts = [tokenizer.encode(text) for text in ("The cat sat on the", "The capital of France is a city that")]
    eos = tokenizer.encode(".")[0]  # a full stop ends: hypotheses of many lengths
    texts, scores = peer_beams(peer, prompts, beams=beams, n=beams, new=16, penalty=penalty, eos=eos)
    ours = beam_search(
        model, prompts, max_new_tokens=16, beams=beams, n=beams, length_penalty=penalty, eos_id=eos, pad_id=PAD
    )
    check_same(ours, texts, scores, tolerance=1e-3)
    assert penalty > 1 or ours.finished.any()


# ------------------------------------------------------------------------------------------------- assisted decoding


COPY = "Repeat exactly: red, green, blue, red, green, blue, red, green, blue, red, green,"


def peer_assisted(peer, ids: list[int], new: int, **options) -> list[int]:
    prompt = torch.tensor([ids])
    peer.generation_config.eos_token_id = None
    out = peer.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=new,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=PAD,
        **options,
    )
    return out[0, len(ids) :].tolist()


@pytest.mark.parametrize("text", [COPY, "The capital of France is"])
def test_prompt_lookup_writes_what_the_peer_s_writes(smollm, text):
    peer, model, tokenizer = smollm
    ids = tokenizer.encode(text)
    theirs = peer_assisted(peer, ids, 24, prompt_lookup_num_tokens=4)
    ours = speculative_decoding(model, LookupDraft(), ids, max_new_tokens=24, gamma=4, filters=[Temperature(0)])
    assert ours.tokens() == theirs == greedy(model, ids, max_new_tokens=24).tokens()


def test_early_layers_draft_what_the_peer_s_early_exit_verifies(smollm):
    peer, model, tokenizer = smollm
    ids = tokenizer.encode("The capital of France is")
    theirs = peer_assisted(peer, ids, 16, assistant_early_exit=25, num_assistant_tokens=3)
    draft = EarlyExit(model, 25)
    ours = speculative_decoding(model, draft, ids, max_new_tokens=16, gamma=3, filters=[Temperature(0)])
    assert ours.tokens() == theirs


def test_a_small_model_drafts_for_another(pair):
    peer, model = pair
    torch.manual_seed(5)
    assistant = MODELS["gpt2" if isinstance(peer, GPT2LMHeadModel) else "llama"]().eval()
    theirs = peer_assisted(peer, PROMPTS[0], 20, assistant_model=assistant)
    for draft in (model, EarlyExit(model, 1)):
        ours = speculative_decoding(model, draft, PROMPTS[0], max_new_tokens=20, filters=[Temperature(0)])
        assert ours.tokens() == theirs
