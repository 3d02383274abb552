"""The straight way computes what the modules compute, and steps aside for hooks and for a student's own modules."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from arlab.decoding import greedy
from arlab.nn import straight as module_under_test
from arlab.nn.attention import record_attention
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.straight import few_vectors, straight

SIZES = {"vocab_size": 40, "context_length": 32, "d_model": 32, "layers": 2, "heads": 4}
CONFIGS = {"gpt2": DecoderConfig.gpt2(**SIZES), "llama": DecoderConfig.llama(**SIZES, kv_heads=2)}


@pytest.fixture(params=CONFIGS)
def model(request):
    return DecoderLM(CONFIGS[request.param], seed=0).eval()


def token_by_token(model, ids):
    """Logits with a cache, one token at a time: the straight way."""
    cache = model.new_cache(ids.size(0), ids.size(1))
    with torch.no_grad():
        return torch.cat([model(ids[:, t : t + 1], cache) for t in range(ids.size(1))], dim=1)


def some_ids(rows=3):
    return torch.randint(0, 40, (rows, 9), generator=torch.Generator().manual_seed(0))


def test_no_module_is_called_and_the_logits_are_the_same(model, monkeypatch):
    ids = some_ids()
    with torch.no_grad():
        expected = model(ids)
    called = []
    call = nn.Module.__call__
    monkeypatch.setattr(nn.Module, "__call__", lambda self, *x: called.append(self) or call(self, *x))
    torch.testing.assert_close(token_by_token(model, ids), expected, atol=1e-5, rtol=1e-5)
    assert set(called) == {model} | {part for part in (model.embed_tokens, model.rotary) if part is not None}


def test_a_hook_is_honoured_even_when_set_between_two_tokens(model):
    ids, seen = some_ids(rows=1), []
    cache = model.new_cache(1, 9)
    with torch.no_grad():
        model(ids[:, :1], cache)
        handle = model.blocks[1].ffn.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
        model(ids[:, 1:2], cache)
        handle.remove()
        model(ids[:, 2:3], cache)
    assert len(seen) == 1


def test_a_hook_that_changes_a_matrix_product_changes_the_logits(model):
    ids = some_ids(rows=1)
    before = token_by_token(model, ids)
    model.blocks[0].attn.out.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 0,))
    assert not torch.allclose(token_by_token(model, ids), before)


def test_a_students_own_module_is_called(model):
    class Nothing(nn.Module):
        def forward(self, x, layout, cache=None, rotary=None):
            cache.update(0, *(torch.zeros(x.size(0), model.config.n_kv_heads, x.size(1), 8) for _ in "kv"))
            return torch.zeros_like(x)

    model.blocks[0].attn = Nothing()
    assert straight(model.blocks[0].attn) is model.blocks[0].attn
    assert greedy(model, [1, 2], max_new_tokens=3).ids.shape == (1, 1, 3)


def test_a_subclass_is_not_taken_for_its_parent():
    class Doubling(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    layer, x = Doubling(4, 4), torch.randn(1, 1, 4)
    assert torch.equal(straight(layer)(x), layer(x))


@pytest.mark.parametrize("whole_class", [True, False])
def test_a_forward_that_was_replaced_is_called(model, whole_class, monkeypatch):
    """An experiment switches a part off by putting another forward in its place: the cached pass must agree."""
    ffn = model.blocks[0].ffn
    if whole_class:
        monkeypatch.setattr(type(ffn), "forward", lambda self, x: torch.zeros_like(x))
    else:
        ffn.forward = torch.zeros_like
    ids = some_ids()
    with torch.no_grad():
        torch.testing.assert_close(token_by_token(model, ids), model(ids), atol=1e-5, rtol=1e-5)


def test_a_cache_that_goes_to_another_model_does_not_take_the_first_ones_weights_along(model):
    ids, other = some_ids(rows=1), DecoderLM(model.config, seed=1).eval()
    cache = model.new_cache(1, 9)
    with torch.no_grad():
        model(ids[:, :4], cache)
        after = other(ids[:, 4:], cache)
        cache.truncate([4])
        cache.way = None
        assert torch.equal(other(ids[:, 4:], cache), after)


def test_a_copied_cache_goes_on_alike_without_copying_the_weights(model):
    ids, cache = some_ids(rows=1), model.new_cache(1, 9)
    with torch.no_grad():
        model(ids[:, :4], cache)
        twin = copy.deepcopy(cache)
        assert twin.way is None
        assert torch.equal(model(ids[:, 4:], twin), model(ids[:, 4:], cache))


def test_weights_changed_in_place_are_seen(model):
    ids = some_ids(rows=1)
    cache = model.new_cache(1, 9)
    with torch.no_grad():
        model(ids[:, :1], cache)
        model.blocks[0].ffn.down.weight.zero_()
        after = model(ids[:, 1:2], cache)
        cache.truncate([1])
        cache.way = None  # looked up afresh
        assert torch.equal(model(ids[:, 1:2], cache), after)


def test_recording_sees_the_maps_of_a_cached_token(model):
    cache = model.new_cache(1, 9)
    with torch.no_grad(), record_attention(model) as maps:
        model(some_ids(rows=1)[:, :3], cache)
        model(some_ids(rows=1)[:, 3:4], cache)
    assert maps[0].shape == (1, 4, 1, 4)
    torch.testing.assert_close(maps[0].sum(-1), torch.ones(1, 4, 1))


@pytest.mark.parametrize("vectors", [1, 2, 7, 16, 17, 40])
@pytest.mark.parametrize("bias", [True, False])
def test_few_vectors_is_linear(vectors, bias):
    generator = torch.Generator().manual_seed(vectors)
    x = torch.randn(vectors, 1, 48, generator=generator, dtype=torch.float64)
    weight = torch.randn(96, 48, generator=generator, dtype=torch.float64)
    b = torch.randn(96, generator=generator, dtype=torch.float64) if bias else None
    torch.testing.assert_close(few_vectors(x, weight, b), F.linear(x, weight, b))


def test_few_vectors_takes_strided_input_and_carries_gradients():
    weight = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    x = torch.randn(4, 2, 3, dtype=torch.float64).transpose(0, 2).requires_grad_()  # (3, 2, 4), not contiguous
    assert torch.autograd.gradcheck(lambda x, w: few_vectors(x, w), (x, weight))


def test_a_model_with_large_matrices_decodes_the_same(monkeypatch):
    """The small models above stay below the megabyte: here every matrix takes the other product."""
    monkeypatch.setattr(module_under_test, "_pays_as_matrix_product", lambda weight: True)
    for config in CONFIGS.values():
        model, ids = DecoderLM(config, seed=0).eval(), some_ids()
        with torch.no_grad():
            torch.testing.assert_close(token_by_token(model, ids), model(ids), atol=1e-5, rtol=1e-5)
