"""Costs, each against a count of the real thing."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from arlab.nn import costs
from arlab.nn.attention import record_attention
from arlab.nn.decoder import DecoderConfig, DecoderLM

SIZES = {"vocab_size": 37, "context_length": 24, "d_model": 16, "layers": 3, "heads": 4}
CONFIGS = {
    "gpt2": DecoderConfig.gpt2(**SIZES),
    "gpt2, untied": DecoderConfig.gpt2(**SIZES, tied=False),
    "gpt2, no bias": DecoderConfig.gpt2(**SIZES, bias=False),
    "gpt2, bias on qkv alone": DecoderConfig.gpt2(**SIZES, bias=False, qkv_bias=True),
    "gpt2, rms": DecoderConfig.gpt2(**SIZES, norm="rms"),
    "sinusoids, narrow ffn": DecoderConfig.gpt2(**SIZES, positions="sinusoidal", d_ff=24, ffn="relu"),
    "no positions, wide heads": DecoderConfig.gpt2(**SIZES, positions="none", d_head=6),
    "llama": DecoderConfig.llama(**SIZES),
    "llama, grouped": DecoderConfig.llama(**SIZES, kv_heads=2, d_ff=40),
    "llama, one key head, biases, untied": DecoderConfig.llama(**SIZES, kv_heads=1, bias=True, tied=False),
    "llama, layer norm": DecoderConfig.llama(**SIZES, norm="layer"),
    "post-LN": DecoderConfig.gpt2(**SIZES, norm_first=False),
    "batch norm": DecoderConfig.gpt2(**SIZES, norm="batch", residual=False),
    "no norm": DecoderConfig.gpt2(**SIZES, norm="none", init="xavier"),
}
SMOLLM2 = DecoderConfig.llama(
    vocab_size=49_152, context_length=8_192, d_model=576, layers=30, heads=9, kv_heads=3, d_ff=1_536, norm_eps=1e-5
)
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def counted(config, *, time, past=0, rows=1, last_only=False) -> int:
    """What torch's own counter sees while the model runs, with the explicit attention: it knows those products."""
    model = DecoderLM(config, seed=0).eval()
    ids = torch.randint(config.vocab_size, (rows, past + time), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), record_attention(model):
        cache = model.new_cache(rows, past + time) if past else None
        if past:
            model(ids[:, :past], cache)
        with FlopCounterMode(display=False) as counter:
            (model.last_logits if last_only else model)(ids[:, past:], cache)
    return counter.get_total_flops()


@every_config
def test_parameters_are_those_of_the_model(config):
    parts = costs.parameters(config)
    assert sum(parts.values()) == sum(p.numel() for p in DecoderLM(config).parameters())


@every_config
def test_parameters_of_each_part(config):
    """A sum can be right with its parts wrong."""
    found = dict.fromkeys(costs.parameters(config), 0)
    part_of = {"embed_tokens": "embedding", "embed_positions": "positions", "head": "head", "norm": "norms"}
    for name, parameter in DecoderLM(config).named_parameters():  # a tied head is not listed again
        first, *rest = name.split(".")
        part = {"attn": "attention", "ffn": "ffn"}.get(rest[1], "norms") if first == "blocks" else part_of[first]
        found[part] += parameter.numel()
    assert costs.parameters(config) == found


def test_smollm2_as_loaded():
    """The published size: 134,515,008."""
    assert sum(costs.parameters(SMOLLM2).values()) == 134_515_008
    with torch.device("meta"):
        assert sum(p.numel() for p in DecoderLM(SMOLLM2).parameters()) == 134_515_008


@every_config
@pytest.mark.parametrize(("time", "past"), [(1, 0), (7, 0), (24, 0), (1, 11), (5, 9)])
def test_forward_flops_are_those_torch_counts(config, time, past):
    assert sum(costs.forward_flops(config, time, past).values()) == counted(config, time=time, past=past)


@every_config
def test_flops_of_the_last_logits_alone_and_of_several_rows(config):
    assert sum(costs.forward_flops(config, 9, last_only=True).values()) == counted(config, time=9, last_only=True)
    assert 3 * sum(costs.forward_flops(config, 9).values()) == counted(config, time=9, rows=3)


def test_flops_with_the_fused_kernel_too():
    """The counter knows the GPU's fused kernels (as full squares) and not the CPU's: all products, or all but two."""
    config = CONFIGS["gpt2"]
    model = DecoderLM(config, seed=0)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 8, dtype=torch.int64))
    parts = costs.forward_flops(config, 8)
    products = sum(parts.values()) - parts["scores"] - parts["mix"]
    assert counter.get_total_flops() in (products, sum(parts.values()))


def test_training_is_three_forward_passes():
    """Every product has two in the backward pass; with the explicit attention the counter sees them all."""
    config = CONFIGS["gpt2"]
    model = DecoderLM(config, seed=0)
    with record_attention(model), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 10, dtype=torch.int64)).sum().backward()
    assert counter.get_total_flops() == sum(costs.training_flops(config, 10).values())


def test_a_token_at_a_time_costs_the_same_products_but_fewer_scores():
    """The cache saves nothing on a whole text's projections, and the upper half of every square."""
    config, time = CONFIGS["llama, grouped"], 12
    whole = costs.forward_flops(config, time)
    steps = [costs.forward_flops(config, 1, past) for past in range(time)]
    for part in ("qkv", "out", "ffn", "logits"):
        assert sum(step[part] for step in steps) == whole[part]
    assert sum(step["scores"] for step in steps) * 2 * time == whole["scores"] * (time + 1)


@every_config
def test_attention_maps_weigh_what_the_recorded_ones_do(config):
    model = DecoderLM(config, seed=0)
    with torch.no_grad(), record_attention(model) as maps:
        model(torch.zeros(2, 13, dtype=torch.int64))
    assert costs.attention_weight_bytes(config, 2, 13) == sum(layer.nbytes for layer in maps)
    assert costs.attention_weight_bytes(config, 2, 13, itemsize=2) == sum(layer.bfloat16().nbytes for layer in maps)


@every_config
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_cache_weighs_what_the_real_one_does(config, dtype):
    cache = DecoderLM(config).to(dtype).new_cache(2, 13)
    assert costs.kv_cache_bytes(config, 2, 13, dtype.itemsize) == cache.k.nbytes + cache.v.nbytes


def test_bad_sizes_are_named():
    config = CONFIGS["gpt2"]
    with pytest.raises(ValueError, match="time is 0; it must be 1 or more"):
        costs.forward_flops(config, 0)
    with pytest.raises(ValueError, match="past is -1; it must be 0 or more"):
        costs.forward_flops(config, 1, -1)
    with pytest.raises(ValueError, match="rows is 0"):
        costs.attention_weight_bytes(config, 0, 8)
    with pytest.raises(ValueError, match="itemsize is 0"):
        costs.kv_cache_bytes(config, 1, 8, 0)


def test_half_a_token_is_refused(as_shipped):
    with pytest.raises(TypeError):
        costs.forward_flops(CONFIGS["gpt2"], 2.5)
