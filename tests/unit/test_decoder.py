"""DecoderLM: causal to the last bit, GPT-2 and Llama from one config, and clear about what it cannot take."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arlab.decoding import greedy
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import LanguageModel, last_logits

SIZES = {"vocab_size": 17, "context_length": 16, "d_model": 16, "layers": 2, "heads": 4}
CONFIGS = {
    "gpt2": DecoderConfig.gpt2(**SIZES),
    "llama": DecoderConfig.llama(**SIZES, kv_heads=2, tied=False),
    "sinusoidal": DecoderConfig(**SIZES, positions="sinusoidal", ffn="relu", norm="rms"),
    "none": DecoderConfig(**SIZES, positions="none", ffn="swiglu", d_head=6, d_ff=20),
    "post-LN": DecoderConfig(**SIZES, norm_first=False, init="xavier"),
    "bare": DecoderConfig(**SIZES, norm="none", residual=False, init="xavier"),
    "batch": DecoderConfig(**SIZES, norm="batch", init="xavier"),
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


@every_config
@given(t=st.integers(0, 6), token=st.integers(0, 16))
@settings(max_examples=25)
def test_a_later_token_moves_no_earlier_logit(config, t, token):
    """Change token t + 1: the logits up to t are the same, bit for bit, and a later one is not."""
    model = DecoderLM(config, seed=0).eval()
    changed = IDS.clone()
    changed[0, t + 1] = (changed[0, t + 1] + 1 + token % 16) % 17
    before, after = model(IDS), model(changed)
    assert torch.equal(before[:, : t + 1], after[:, : t + 1])
    assert not torch.equal(before[:, t + 1 :], after[:, t + 1 :])


@every_config
def test_no_gradient_flows_from_an_earlier_logit_to_a_later_token(config):
    model = DecoderLM(config, seed=0).eval()
    x = model.embed_tokens(IDS).detach().requires_grad_()
    logits = model.forward_embeddings(x)
    torch.testing.assert_close(logits, model(IDS))
    for t in range(8):
        gradient = torch.autograd.grad(logits[0, t].pow(2).sum(), x, retain_graph=True)[0][0]
        assert (gradient[t + 1 :] == 0).all() and (gradient[: t + 1].abs().sum(-1) > 0).all()


def test_the_cheat_does_see_the_future():
    model = DecoderLM(DecoderConfig.gpt2(**SIZES, causal=False), seed=0).eval()
    changed = IDS.clone()
    changed[0, -1] = 0
    assert not torch.equal(model(IDS)[:, 0], model(changed)[:, 0])


def test_the_cheat_refuses_ragged_rows():
    """Without a causal mask the padding behind a shorter row would be seen, and change its logits in silence."""
    model = DecoderLM(DecoderConfig.gpt2(**SIZES, causal=False), seed=0).eval()
    with pytest.raises(ValueError, match=r"causal is False: rows of \[3, 1\] tokens would see their padding"):
        greedy(model, [[3, 1, 4], [5]], max_new_tokens=1)
    assert greedy(model, [[3, 1, 4], [5, 9, 2]], max_new_tokens=1).ids.shape == (2, 1, 1)


@every_config
def test_rows_do_not_mix(config):
    model = DecoderLM(config, seed=0).double().eval()
    batch = torch.cat([IDS, IDS.flip(1), IDS.roll(1, 1)])
    together = model(batch)
    for row in range(3):
        torch.testing.assert_close(together[row : row + 1], model(batch[row : row + 1]), rtol=0, atol=1e-12)


@every_config
def test_last_logits_are_the_last_of_all_logits(config):
    model = DecoderLM(config, seed=0).double().eval()
    batch = torch.cat([IDS, IDS.flip(1), IDS.roll(1, 1)])
    torch.testing.assert_close(model.last_logits(batch), model(batch)[:, -1])
    ragged = last_logits(model, batch, model.new_cache(3, 8), [8, 1, 5])
    torch.testing.assert_close(ragged, model(batch)[[0, 1, 2], [7, 0, 4]])


@every_config
def test_it_is_a_language_model(config):
    model = DecoderLM(config, seed=0)
    assert isinstance(model, LanguageModel)
    assert (model.vocab_size, model.context_length, model.bos_id) == (17, 16, None)
    assert (model.head.weight is model.embed_tokens.weight) == config.tied


@every_config
def test_the_seed_and_nothing_else_fixes_the_weights(config):
    one, two, three = (DecoderLM(config, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["embed_tokens.weight"], three["embed_tokens.weight"])
    assert all(parameter.isfinite().all() for parameter in one.values())


def test_an_untrained_model_knows_nothing():
    """Its loss starts near ln V, the loss of guessing: what notebook 06 asks the student to predict."""
    config = DecoderConfig.gpt2(vocab_size=65, context_length=64, d_model=64, layers=4, heads=4)
    ids = torch.randint(65, (8, 64), generator=torch.Generator().manual_seed(0))
    logits = DecoderLM(config, seed=0)(ids)
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(65), abs=0.1)


def test_the_residual_stream_does_not_grow_with_depth():
    """Each branch's last matrix starts smaller by sqrt(2 layers); without that, 24 layers come out far wider than 2."""

    def width(layers):
        config = DecoderConfig.gpt2(vocab_size=17, context_length=16, d_model=64, layers=layers, heads=4)
        model, seen = DecoderLM(config, seed=0), {}
        model.norm.register_forward_pre_hook(lambda module, inputs: seen.update(x=inputs[0]))
        model(IDS)
        return seen["x"].std().item()

    assert width(24) < 1.5 * width(2)


def test_positions_matter_and_only_where_asked():
    same = torch.tensor([[7, 7, 7, 7]])
    for name, config in CONFIGS.items():
        logits = DecoderLM(config, seed=0).double().eval()(same)[0]
        # Of equal tokens attention alone makes equal outputs; rotary turns queries and keys, but values keep still,
        # so equal values average to the same: order shows with learned and sinusoidal positions.
        expected = config.positions in ("learned", "sinusoidal")
        assert torch.allclose(logits[0], logits[3], atol=1e-12) != expected, name
    # One layer only: in a second one the causal mask itself gives the order away.
    order = torch.tensor([[1, 2, 7], [2, 1, 7]])
    for name, config in CONFIGS.items():
        config = replace(config, layers=1)
        first, second = DecoderLM(config, seed=0).double().eval()(order)[:, -1]
        assert torch.allclose(first, second, atol=1e-12) == (name == "none"), name


def test_bfloat16_runs_near_float32():
    for config in CONFIGS.values():
        model = DecoderLM(config, seed=0).eval()
        exact = model(IDS)
        rough = model.to(torch.bfloat16)(IDS)
        assert rough.dtype == torch.bfloat16
        torch.testing.assert_close(rough.float(), exact, rtol=0, atol=0.05 * exact.abs().max().item())


def test_parameter_count_of_gpt2_small():
    config = DecoderConfig.gpt2(vocab_size=50257, context_length=1024, d_model=768, layers=12, heads=12)
    with torch.device("meta"):
        model = DecoderLM(config)
    assert sum(p.numel() for p in model.parameters()) == 124_439_808  # the published 124M


# --- bad input


def test_ids_that_are_no_ids(as_shipped):
    model = DecoderLM(CONFIGS["gpt2"], seed=0)
    for ids, error, message in [
        (torch.tensor([[3, 17]]), ValueError, r"ids\[0, 1\] is 17; ids must lie between 0 and 16"),
        (torch.tensor([[3, 1], [-1, 0]]), ValueError, r"ids\[1, 0\] is -1; ids must lie between 0 and 16"),
        (torch.tensor([3, 1]), ValueError, r"ids has shape \(2,\); needed \(rows, time\)"),
        (torch.empty(1, 0, dtype=torch.int64), ValueError, r"ids has shape \(1, 0\)"),
        (torch.empty(0, 3, dtype=torch.int64), ValueError, r"ids has shape \(0, 3\)"),
        (torch.tensor([[3.0]]), TypeError, "must be an integer tensor; got torch.float32"),
        (torch.tensor([[True]]), TypeError, "must be an integer tensor; got torch.bool"),
        ([[3, 1]], TypeError, "must be an integer tensor; got list"),
    ]:
        with pytest.raises(error, match=message):
            model(ids)
        with pytest.raises(error, match=message):
            model.last_logits(ids)


@every_config
def test_longer_than_the_context(config):
    model = DecoderLM(config, seed=0)
    with pytest.raises(ValueError, match="17 tokens exceed the model's context_length of 16"):
        model(torch.zeros(1, 17, dtype=torch.int64))
    assert model(torch.zeros(1, 16, dtype=torch.int64)).shape == (1, 16, 17)


BAD_CONFIGS = [
    ({"vocab_size": 0}, "vocab_size is 0; it must be an integer of 1 or more"),
    ({"layers": 1.5}, "layers is 1.5"),
    ({"layers": True}, "layers is True"),
    ({"context_length": None}, "context_length is None"),
    ({"heads": 3}, "d_model is 16, not a multiple of heads = 3"),
    ({"kv_heads": 3}, "heads is 4, not a multiple of kv_heads = 3"),
    ({"kv_heads": 8}, "heads is 4, not a multiple of kv_heads = 8"),
    ({"d_ff": -1}, "n_ff is -1"),
    ({"d_head": 5, "positions": "rotary"}, "head_dim is 5; rotary positions"),
    ({"d_model": 15, "heads": 5, "positions": "sinusoidal"}, "d_model is 15; sinusoidal"),
    ({"norm": "power"}, "norm is 'power'; it must be one of layer, rms, batch, none"),
    ({"init": "kaiming"}, "init is 'kaiming'; it must be one of gpt2, xavier"),
    ({"positions": "alibi"}, "positions is 'alibi'; it must be one of learned, rotary, sinusoidal, none"),
    ({"ffn": "selu"}, "ffn is 'selu'; it must be one of gelu, gelu_tanh, relu, swiglu"),
    ({"bos_id": 17}, "bos_id is 17; a decoder embeds it, so it must lie below vocab_size = 17"),
    ({"dropout": 1.0}, "dropout is 1.0; it must be at least 0 and below 1"),
    ({"dropout": math.nan}, "dropout is nan"),
    ({"norm_eps": -1.0}, "norm_eps is -1.0; it must be a finite number above 0"),
    ({"norm_eps": math.nan}, "norm_eps is nan"),
    ({"rotary_base": 0.0}, "rotary_base is 0.0; it must be a finite number above 0"),
]


@pytest.mark.parametrize(("change", "message"), BAD_CONFIGS)
def test_bad_configs_are_named(change, message, as_shipped):
    with pytest.raises(ValueError, match=message):
        DecoderConfig(**{**SIZES, **change})
