"""The block's variants, each against torch's own layers: post-LN, no residual, BatchNorm; and Glorot's start."""

import pytest
import torch
from torch import nn

from arlab.nn.blocks import BatchNorm
from arlab.nn.cache import Layout
from arlab.nn.decoder import DecoderConfig, DecoderLM

SIZES = {"vocab_size": 40, "context_length": 32, "d_model": 32, "layers": 3, "heads": 4}
VARIANTS = {
    "post-LN": DecoderConfig(**SIZES, norm_first=False),
    "bare": DecoderConfig(**SIZES, norm="none", residual=False, init="xavier"),
    "batch": DecoderConfig(**SIZES, norm="batch"),
    "post-LN, batch, xavier": DecoderConfig(**SIZES, norm="batch", norm_first=False, init="xavier"),
}
IDS = torch.randint(0, 40, (3, 9), generator=torch.Generator().manual_seed(0))


def torch_layer(block, config) -> nn.TransformerEncoderLayer:
    """torch's layer with the weights of ours."""
    layer = nn.TransformerEncoderLayer(
        config.d_model,
        config.heads,
        config.n_ff,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=config.norm_first,
    ).eval()
    layer.self_attn.in_proj_weight.data, layer.self_attn.in_proj_bias.data = block.attn.qkv.weight, block.attn.qkv.bias
    for theirs, ours in (
        (layer.self_attn.out_proj, block.attn.out),
        (layer.linear1, block.ffn.up),
        (layer.linear2, block.ffn.down),
        (layer.norm1, block.norm1),
        (layer.norm2, block.norm2),
    ):
        theirs.weight.data, theirs.bias.data = ours.weight.data, ours.bias.data
    return layer


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_block_is_torchs_layer(norm_first):
    config = DecoderConfig(**SIZES, norm_first=norm_first, init="xavier")
    block = DecoderLM(config, seed=0).eval().blocks[0]
    x = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(1))
    mask = nn.Transformer.generate_square_subsequent_mask(7)
    expected = torch_layer(block, config)(x, src_mask=mask)
    torch.testing.assert_close(block(x, Layout((0, 0), 7, x.device)), expected, atol=1e-5, rtol=1e-5)


def test_without_residuals_each_branch_replaces_the_stream():
    block = DecoderLM(VARIANTS["bare"], seed=0).eval().blocks[0]
    x, layout = torch.randn(2, 7, 32), Layout((0, 0), 7, torch.device("cpu"))
    torch.testing.assert_close(block(x, layout), block.ffn(block.attn(x, layout)))


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_with_a_cache_the_logits_are_the_same(config):
    model = DecoderLM(config, seed=0).double()
    with torch.no_grad():
        model.train()(IDS)  # so that BatchNorm's running averages are not those it starts with
        model.eval()
        cache = model.new_cache(3, 9)
        stepwise = torch.cat([model(IDS[:, t : t + 1], cache) for t in range(9)], dim=1)
        torch.testing.assert_close(stepwise, model(IDS))


def test_batch_norm_normalises_each_feature_over_rows_and_time():
    x = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(0)) * 3 + 1
    norm = BatchNorm(8, eps=1e-5)
    flat = x.flatten(0, 1)
    expected = (flat - flat.mean(0)) / (flat.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x).flatten(0, 1), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(norm.running_mean, 0.1 * flat.mean(0))


def test_post_ln_has_no_norm_after_the_last_block():
    assert not list(DecoderLM(VARIANTS["post-LN"]).norm.parameters())


def test_xavier_takes_each_matrix_of_a_stack_by_itself():
    """W_Q, W_K, W_V lie in one tensor; taken as one matrix its bound would be too small by sqrt(2)."""
    config = DecoderConfig.llama(**{**SIZES, "d_model": 64}, kv_heads=2, init="xavier", tied=False)
    model = DecoderLM(config, seed=0)
    wq, wk, wv = model.blocks[0].attn.qkv.weight.split([64, 32, 32])
    gate, up = model.blocks[0].ffn.gate_up.weight.chunk(2)
    for part in (wq, wk, wv, gate, up, model.head.weight):
        bound = (6 / sum(part.shape)) ** 0.5
        # 2,048 uniform draws or more: the largest falls below 0.98 of the bound with odds of 0.98**2048 = 1e-18
        assert 0.98 * bound < part.abs().max() <= bound
    assert abs(model.embed_tokens.weight.std() - 1) < 0.1  # 2,560 draws: a standard error of 0.014
