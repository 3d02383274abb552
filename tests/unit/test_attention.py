"""Attention: the explicit formula, torch's fused kernel and the recorded maps are one and the same."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from arlab.nn.attention import attention, record_attention
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.masks import causal_mask

CONFIGS = {
    "gpt2": DecoderConfig.gpt2(vocab_size=17, context_length=24, d_model=16, layers=2, heads=4),
    "llama": DecoderConfig.llama(vocab_size=17, context_length=24, d_model=16, layers=2, heads=4, kv_heads=2),
    "one_kv_head": DecoderConfig.llama(
        vocab_size=17, context_length=24, d_model=24, layers=2, heads=3, kv_heads=1, d_head=4, qkv_bias=True
    ),
    "cheat": DecoderConfig.gpt2(vocab_size=17, context_length=24, d_model=16, layers=2, heads=2, causal=False),
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def model_of(config, seed=0):
    """In float64 and with larger weights than at the start of training, so that attention is far from uniform."""
    model = DecoderLM(config, seed=seed).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    return model


def random_qkv(*batch, queries=5, keys=7, d_k=4, d_v=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((queries, d_k), (keys, d_k), (keys, d_v))
    return [torch.randn(*batch, *s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]


# --- the formula


def test_by_hand():
    # One query, two keys: scores 0 and ln 3 after the division by sqrt(4), so the weights are 1/4 and 3/4.
    q = torch.tensor([[2.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    k = torch.tensor([[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]], dtype=torch.float64).mul(
        torch.tensor(3.0, dtype=torch.float64).log()
    )
    output, weights = attention(q, k, torch.tensor([[4.0], [8.0]], dtype=torch.float64))
    torch.testing.assert_close(weights, torch.tensor([[0.25, 0.75]], dtype=torch.float64))
    torch.testing.assert_close(output, torch.tensor([[7.0]], dtype=torch.float64))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_equals_torchs_kernel_gradients_included(batch, masked):
    q, k, v = random_qkv(*batch)
    mask = causal_mask(5, 7) if masked else None
    ours, weights = attention(q, k, v, mask)
    upstream = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    our_gradients = torch.autograd.grad(ours, (q, k, v), upstream)
    theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    their_gradients = torch.autograd.grad(theirs, (q, k, v), upstream)
    for our_gradient, their_gradient in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(our_gradient, their_gradient, rtol=0, atol=1e-12)
    torch.testing.assert_close(weights.sum(-1), torch.ones(*batch, 5, dtype=torch.float64))


def test_weights_are_exactly_zero_where_the_mask_forbids():
    q, k, v = random_qkv(2, queries=6, keys=6)
    mask = causal_mask(6)
    _, weights = attention(q, k, v, mask)
    assert (weights[:, ~mask] == 0).all() and (weights[:, mask] > 0).all()


def test_gradients_by_finite_differences():
    q, k, v = random_qkv(queries=3, keys=3, d_k=2, d_v=2)
    assert torch.autograd.gradcheck(lambda *x: attention(*x, causal_mask(3))[0], (q, k, v))


def test_a_fully_masked_query_gives_zeros_and_finite_gradients():
    """softmax of nothing but -inf is 0/0; a NaN in one row of a batch reaches every weight of the model."""
    q, k, v = random_qkv(2, queries=3, keys=4)
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[1] = False
    output, weights = attention(q, k, v, mask)
    assert (output[:, 1] == 0).all() and (weights[:, 1] == 0).all()
    torch.testing.assert_close(weights[:, [0, 2]].sum(-1), torch.ones(2, 2, dtype=torch.float64))
    for gradient in torch.autograd.grad(output.pow(2).sum(), (q, k, v)):
        assert gradient.isfinite().all() and gradient.abs().sum() > 0
    q_gradient = torch.autograd.grad(attention(q, k, v, mask)[0][:, 1].sum(), q)[0]
    assert (q_gradient == 0).all()


def test_everything_masked_trains_without_nan():
    q, k, v = random_qkv(queries=2, keys=2)
    output, _ = attention(q, k, v, torch.zeros(2, 2, dtype=torch.bool))
    assert (output == 0).all()
    assert all((g == 0).all() for g in torch.autograd.grad(output.sum(), (q, k, v)))


def test_large_scores_do_not_overflow():
    q, k, v = random_qkv(queries=3, keys=3, d_k=4, d_v=2)
    output, weights = attention(q.float() * 1e4, k.float() * 1e4, v.float(), causal_mask(3))
    assert output.isfinite().all() and weights.isfinite().all()


def test_permuting_keys_with_their_values_changes_nothing():
    q, k, v = random_qkv()
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    output, weights = attention(q, k, v)
    output_2, weights_2 = attention(q, k[order], v[order])
    torch.testing.assert_close(output, output_2)
    torch.testing.assert_close(weights[:, order], weights_2)


BAD_SHAPES = [
    (((2, 3), (2, 4), (2, 4)), None, r"same d_k.*q \(2, 3\), k \(2, 4\)"),
    (((2, 3), (4, 3), (5, 3)), None, r"each key needs its value.*k \(4, 3\), v \(5, 3\)"),
    (((3,), (4, 3), (4, 3)), None, r"at least two dimensions.*q \(3,\)"),
    (((2, 5, 3), (3, 5, 3), (3, 5, 3)), None, r"agree in all but the last two.*q \(2, 5, 3\), k \(3, 5, 3\)"),
    (((2, 3), (4, 3), (4, 3)), torch.ones(4, 2, dtype=torch.bool), r"mask has shape \(4, 2\).*\(2, 4\)"),
    (((2, 3), (4, 3), (4, 3)), torch.ones(2, 4), r"dtype is torch.float32; it must be torch.bool"),
    (((2, 3), (4, 3), (4, 3)), torch.ones(2, 4, dtype=torch.int64), r"dtype is torch.int64; it must be torch.bool"),
]


@pytest.mark.parametrize(("shapes", "mask", "message"), BAD_SHAPES)
def test_shapes_that_do_not_fit_are_named(shapes, mask, message, as_shipped):
    with pytest.raises(ValueError, match=message):
        attention(*(torch.zeros(shape) for shape in shapes), mask)


# --- the module: fused and recorded


@every_config
def test_recording_changes_neither_logits_nor_gradients(config):
    model, ids = model_of(config), torch.tensor([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])
    upstream = torch.randn(2, 6, 17, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def run():
        model.zero_grad()
        logits = model(ids)
        logits.backward(upstream)
        return logits.detach(), [p.grad.clone() for p in model.parameters()]

    logits, gradients = run()
    with record_attention(model) as maps:
        recorded_logits, recorded_gradients = run()
    torch.testing.assert_close(recorded_logits, logits, rtol=0, atol=1e-10)
    for a, b in zip(recorded_gradients, gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert len(maps) == 2 and maps.stack().shape == (2, 2, config.heads, 6, 6)


@every_config
def test_maps_are_attention_on_the_modules_own_projections(config):
    """Each query head's map, computed here from the weights with one product a head and no grouping trick."""
    model, ids = model_of(config), torch.tensor([[3, 1, 4, 1, 5]])
    seen = {}
    hook = model.blocks[0].norm1.register_forward_hook(lambda module, inputs, output: seen.update(x=output))
    with torch.no_grad(), record_attention(model) as maps:
        model(ids)
    hook.remove()
    attn, group = model.blocks[0].attn, config.heads // config.n_kv_heads
    weight, bias = attn.qkv.weight, attn.qkv.bias
    for head in range(config.heads):
        rows = slice(head * config.head_dim, (head + 1) * config.head_dim)
        first_key = config.heads * config.head_dim + head // group * config.head_dim
        key_rows = slice(first_key, first_key + config.head_dim)
        q, k = (F.linear(seen["x"][0], weight[r], bias[r] if bias is not None else None) for r in (rows, key_rows))
        if config.positions == "rotary":
            q, k = rotated(q, config.rotary_base), rotated(k, config.rotary_base)
        scores = q @ k.T / config.head_dim**0.5
        if config.causal:
            scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
        torch.testing.assert_close(maps[0][0, head], scores.softmax(-1).float(), rtol=0, atol=1e-6)


def rotated(x, base):
    """Rotary positions as complex numbers: features i and i + half are the real and the imaginary part."""
    time, dim = x.shape
    turn = torch.outer(torch.arange(time), base ** (-torch.arange(0, dim, 2).double() / dim))
    z = torch.complex(x[:, : dim // 2], x[:, dim // 2 :]) * torch.polar(torch.ones_like(turn), turn)
    return torch.cat([z.real, z.imag], dim=-1)


def test_maps_are_of_the_last_pass_and_of_the_new_queries_only():
    model = model_of(CONFIGS["llama"])
    cache = model.new_cache(1, 10)
    with torch.no_grad(), record_attention(model) as maps:
        model(torch.tensor([[1, 2, 3]]), cache)
        assert maps[0].shape == (1, 4, 3, 3)
        model(torch.tensor([[4, 5]]), cache)
        assert maps[0].shape == (1, 4, 2, 5)
        assert (maps[1][0, :, 0, 4] == 0).all()  # the first new token does not see the second
        assert maps[-1] is maps[1] and len(list(maps)) == 2
    assert maps[0].dtype == torch.float32 and not maps[0].requires_grad
    torch.testing.assert_close(maps.stack().sum(-1), torch.ones(2, 1, 4, 2))
    model(torch.tensor([[1]]))
    assert maps[0].shape == (1, 4, 2, 5), "recording must stop with the block"


def test_recording_stops_after_an_error_in_the_block():
    model = model_of(CONFIGS["gpt2"])
    with pytest.raises(ZeroDivisionError), record_attention(model):
        raise ZeroDivisionError
    with record_attention(model) as maps:
        model(torch.tensor([[1]]))
    assert len(maps) == 2


def test_recording_says_what_is_wrong():
    model = model_of(CONFIGS["gpt2"])
    with pytest.raises(ValueError, match="Linear holds no arlab attention"), record_attention(nn.Linear(2, 2)):
        pass
    with record_attention(model) as maps:
        with pytest.raises(IndexError, match="no maps"):
            maps[0]
        with pytest.raises(ValueError, match="recorded already"), record_attention(model):
            pass
        model(torch.tensor([[1]]))
        with pytest.raises(IndexError, match="layer is 2; the model has layers 0 to 1"):
            maps[2]


def test_dropout_acts_in_training_only_recorded_or_not():
    config = DecoderConfig.gpt2(vocab_size=17, context_length=24, d_model=16, layers=2, heads=4, dropout=0.5)
    model, ids = DecoderLM(config, seed=0), torch.tensor([[1, 2, 3, 4]])
    assert not torch.equal(model(ids), model(ids))
    with record_attention(model) as maps:
        assert not torch.equal(model(ids), model(ids))
    torch.testing.assert_close(maps.stack().sum(-1), torch.ones(2, 1, 4, 4))  # the maps themselves are not dropped
    model.eval()
    assert torch.equal(model(ids), model(ids))
