"""The first layers of a model as a model: what it computes, what it shares, what it refuses."""

import pytest
import torch

from arlab.decoding import greedy
from arlab.nn.attention import record_attention
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.early_exit import EarlyExit

SIZES = {"vocab_size": 17, "context_length": 20, "d_model": 16, "layers": 3, "heads": 4}
CONFIGS = {
    "gpt2": DecoderConfig.gpt2(**SIZES),
    "llama": DecoderConfig.llama(**SIZES, kv_heads=2),
    "sinusoidal, post-LN": DecoderConfig(**SIZES, positions="sinusoidal", norm_first=False),
}
MODELS = {name: DecoderLM(config, seed=0).eval() for name, config in CONFIGS.items()}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
IDS = torch.tensor([[3, 1, 4, 1, 5]])


@every_model
def test_it_is_what_a_model_of_so_many_layers_computes(model):
    for layers in (1, 2, 3):
        shallow = DecoderLM(DecoderConfig(**{**vars(model.config), "layers": layers}), seed=1).eval()
        shallow.load_state_dict({name: w for name, w in model.state_dict().items() if name in shallow.state_dict()})
        early = EarlyExit(model, layers)
        assert torch.equal(early(IDS), shallow(IDS)) and early.config == shallow.config
        assert greedy(early, IDS, max_new_tokens=9).tokens() == greedy(shallow, IDS, max_new_tokens=9).tokens()
    assert torch.equal(EarlyExit(model, 3)(IDS), model(IDS)) and not torch.equal(EarlyExit(model, 2)(IDS), model(IDS))


@every_model
def test_with_a_cache_as_without(model):
    early = EarlyExit(model, 2)
    cache = early.new_cache(1, 5)
    assert cache.k.size(0) == 2, "keys of its own layers only"
    parts = torch.cat([early(IDS[:, :3], cache), early(IDS[:, 3:], cache)], dim=1)
    torch.testing.assert_close(parts, early(IDS), rtol=0, atol=1e-5)
    with record_attention(early) as maps:
        early(IDS)
    assert len(maps) == 2


def test_the_weights_are_the_models():
    model = DecoderLM(CONFIGS["gpt2"], seed=0)
    early = EarlyExit(model, 1)
    assert early.training == model.training and not EarlyExit(model.eval(), 1).training
    assert {id(p) for p in early.parameters()} < {id(p) for p in model.parameters()}
    before = early(IDS)
    with torch.no_grad():
        model.head.weight.mul_(2)
    assert not torch.equal(early(IDS), before)


def test_it_goes_where_the_model_goes():
    """A buffer is replaced when a model moves, unlike a weight: the table of sinusoids must be asked for anew."""
    model = DecoderLM(CONFIGS["sinusoidal, post-LN"], seed=0)
    early = EarlyExit(model, 1)
    model.to("meta")
    assert early.sinusoids.device.type == "meta" and early.state_dict().keys() < model.state_dict().keys()


def test_what_is_refused():
    model = MODELS["gpt2"]
    for layers in (0, 4, -1):
        with pytest.raises(ValueError, match=f"layers is {layers}; it must lie between 1 and the model's 3"):
            EarlyExit(model, layers)


def test_wrong_kinds_are_refused(as_shipped):
    for model, layers in ((torch.nn.Linear(2, 2), 1), (MODELS["gpt2"], 1.5), (MODELS["gpt2"], True)):
        with pytest.raises(TypeError, match="EarlyExit takes a DecoderLM|must be an integer"):
            EarlyExit(model, layers)
