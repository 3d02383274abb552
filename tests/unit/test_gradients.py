"""Gradient norms by head: equal to those of separate matrices, and clear about what is missing."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from arlab.nn.attention import attention
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.masks import causal_mask
from arlab.training.gradients import head_gradient_norms

IDS = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 7, 1, 8, 2, 8]])


def trained_one_step(**changes):
    sizes = {"vocab_size": 11, "context_length": 8, "d_model": 12, "layers": 3, "heads": 3, **changes}
    model = DecoderLM(DecoderConfig.gpt2(**sizes), seed=0)
    logits = model(IDS[:, :-1])
    F.cross_entropy(logits.flatten(0, 1), IDS[:, 1:].flatten()).backward()
    return model


def test_it_equals_the_gradients_of_separate_matrices():
    """One layer of attention is written out with a matrix of its own for each head, and autograd does the rest."""
    model = trained_one_step(layers=1)
    block, heads, width = model.blocks[0], 3, 4
    x = block.norm1(model.embed_tokens(IDS[:, :-1]) + model.embed_positions.weight[:5]).detach()
    rows = block.attn.qkv.weight.detach().view(3, heads, width, 12)
    biases = block.attn.qkv.bias.detach().view(3, heads, width)
    matrices = [[rows[part, head].clone().requires_grad_() for head in range(heads)] for part in range(3)]
    outputs = []
    for head in range(heads):
        q, k, v = (x @ matrices[part][head].T + biases[part, head] for part in range(3))
        outputs.append(attention(q, k, v, causal_mask(5))[0])
    stream = (model.embed_tokens(IDS[:, :-1]) + model.embed_positions.weight[:5]).detach()
    stream = stream + block.attn.out(torch.cat(outputs, dim=-1))
    stream = stream + block.ffn(block.norm2(stream))
    loss = F.cross_entropy(model.head(model.norm(stream)).flatten(0, 1), IDS[:, 1:].flatten())
    gradients = torch.autograd.grad(loss, [matrix for part in matrices for matrix in part])
    expected = torch.stack([gradient.norm() for gradient in gradients]).view(1, 3, heads)
    torch.testing.assert_close(head_gradient_norms(model), expected, rtol=1e-4, atol=1e-7)


def test_the_squares_add_up_to_the_whole_gradient():
    model = trained_one_step()
    whole = torch.stack([block.attn.qkv.weight.grad.norm() for block in model.blocks])
    torch.testing.assert_close(head_gradient_norms(model).square().sum((1, 2)).sqrt(), whole)


def test_layers_and_the_three_parts_are_not_mixed_up():
    model = trained_one_step()
    for layer, block in enumerate(model.blocks):
        block.attn.qkv.weight.grad.zero_()
        block.attn.qkv.weight.grad[12 + 4 : 12 + 8] = layer + 1.0  # W_K of head 1: 4 x 12 entries
    norms = head_gradient_norms(model)
    expected = torch.zeros(3, 3, 3)
    expected[:, 1, 1] = torch.tensor([1.0, 2.0, 3.0]) * 48**0.5
    torch.testing.assert_close(norms, expected)


def test_a_shared_key_head_is_shown_for_each_query_head_of_its_group():
    model = trained_one_step(heads=6, kv_heads=2)
    norms = head_gradient_norms(model)
    assert norms.shape == (3, 3, 6) and norms.isfinite().all() and (norms > 0).all()
    assert (norms[:, 1:, :3] == norms[:, 1:, :1]).all() and (norms[:, 1:, 3:] == norms[:, 1:, 3:4]).all()
    assert (norms[:, 1:, 0] != norms[:, 1:, 3]).all()
    assert len(norms[0, 0].unique()) == 6


def test_the_last_token_alone_gives_values_a_gradient_but_its_first_position_no_queries():
    """With one token there is one key: its weight is 1 whatever the score, so W_Q and W_K get exactly nothing."""
    model = DecoderLM(DecoderConfig.gpt2(vocab_size=11, context_length=8, d_model=12, layers=2, heads=3), seed=0)
    F.cross_entropy(model(IDS[:, :1])[:, 0], IDS[:, 1]).backward()
    norms = head_gradient_norms(model)
    assert norms[:, :2].max() < 1e-8 and (norms[:, 2] > 1e-6).all()


def test_half_precision_gradients_come_back_in_float32():
    model = trained_one_step().to(torch.bfloat16)
    norms = head_gradient_norms(model)
    assert norms.dtype == torch.float32 and norms.device.type == "cpu" and not norms.requires_grad


def test_what_is_missing_is_named():
    model = DecoderLM(DecoderConfig.gpt2(vocab_size=11, context_length=8, d_model=12, layers=2, heads=3))
    with pytest.raises(ValueError, match=r"layer 0 has no gradient: call loss\.backward\(\) first"):
        head_gradient_norms(model)
    with pytest.raises(ValueError, match="Linear holds no arlab MultiHeadAttention"):
        head_gradient_norms(nn.Linear(2, 2))
