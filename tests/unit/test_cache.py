"""The key/value cache: whatever is done to it, the logits are those of one pass over the same tokens."""

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arlab.nn.attention import record_attention
from arlab.nn.cache import HistoryCache, KVCache
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import Recompute

SIZES = {"vocab_size": 17, "context_length": 24, "d_model": 16, "layers": 2, "heads": 4}
CONFIGS = {
    "gpt2": DecoderConfig.gpt2(**SIZES),
    "llama": DecoderConfig.llama(**SIZES, kv_heads=2),
    "sinusoidal": DecoderConfig.llama(**SIZES, kv_heads=1, positions="sinusoidal"),
    "unordered": DecoderConfig.gpt2(**SIZES, positions="none"),
}


def built(name):
    model = DecoderLM(CONFIGS[name], seed=0).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.mul_(8)  # large enough that every token matters
    return model


MODELS = {name: built(name) for name in CONFIGS}
MODELS["recompute"] = Recompute(built("gpt2"))
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5, 8, 9, 7, 9, 3], [2, 7, 1, 8, 2, 8, 1, 8]])


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@every_model
def test_chunked_prefill_is_one_pass(model):
    """3 + 2 + 1 + 1 + 1: a top-left aligned causal mask passes the first chunk and fails the second."""
    cache = model.new_cache(3, 8)
    chunks = [model(part, cache) for part in IDS.split([3, 2, 1, 1, 1], dim=1)]
    close(torch.cat(chunks, dim=1), model(IDS))
    assert cache.lengths == [8, 8, 8]


@every_model
@given(cuts=st.sets(st.integers(1, 7)))
@settings(max_examples=15)
def test_any_chunks_are_one_pass(model, cuts):
    edges = [0, *sorted(cuts), 8]
    cache = model.new_cache(3, 9)
    chunks = [model(IDS[:, a:b], cache) for a, b in zip(edges, edges[1:], strict=False)]
    close(torch.cat(chunks, dim=1), model(IDS))


@every_model
@given(lengths=st.lists(st.integers(1, 5), min_size=3, max_size=3))
@settings(max_examples=15)
def test_ragged_rows_are_the_rows_alone(model, lengths):
    """Right-padded, run, truncated to the real lengths, and on: padding leaves no trace."""
    cache = model.new_cache(3, 12)
    padded = IDS[:, :5].clone()
    for row, length in enumerate(lengths):
        padded[row, length:] = 0
    first = model(padded[:, : max(lengths)], cache)
    cache.truncate(lengths)
    assert cache.lengths == lengths
    second = model(IDS[:, 5:6], cache)  # one token a row, then two: the fused kernel's two ways with a ragged past
    third = model(IDS[:, 6:8], cache)
    for row, length in enumerate(lengths):
        alone = model(torch.cat([padded[row, :length], IDS[row, 5:]])[None])[0]
        close(first[row, :length], alone[:length])
        close(torch.cat([second[row], third[row]]), alone[length:])


@every_model
def test_truncate_then_append_is_as_if_it_had_never_been(model):
    cache = model.new_cache(3, 10)
    model(IDS[:, :3], cache)
    model(torch.full((3, 4), 16), cache)  # a draft, rejected
    cache.truncate([3, 3, 3])
    close(model(IDS[:, 3:], cache), model(IDS)[:, 3:])


@every_model
def test_truncating_to_nothing_starts_afresh(model):
    cache = model.new_cache(3, 8)
    model(IDS.flip(0), cache)
    cache.truncate([0, 0, 0])
    close(model(IDS, cache), model(IDS))


@every_model
@pytest.mark.parametrize("rows", [[2, 0, 1], [0, 0, 1], [1, 1, 0, 2, 2], [2], [0, 0]])
def test_reorder_moves_whole_rows_and_their_number_may_change(model, rows):
    cache = model.new_cache(3, 10)
    padded = IDS[:, :4]
    model(padded, cache)
    cache.truncate([4, 2, 3])
    cache.reorder(rows)
    assert cache.rows == len(rows) and cache.lengths == [[4, 2, 3][row] for row in rows]
    news = torch.arange(len(rows) * 2).view(-1, 2) + 1
    logits = model(news, cache)
    for new_row, old_row in enumerate(rows):
        alone = model(torch.cat([IDS[old_row, : [4, 2, 3][old_row]], news[new_row]])[None])
        close(logits[new_row], alone[0, -2:])


@every_model
def test_rows_that_came_from_one_row_part_company(model):
    """Beams: two copies of a row must not share memory."""
    cache = model.new_cache(1, 10)
    model(IDS[:1, :3], cache)
    cache.reorder(torch.tensor([0, 0]))
    model(torch.tensor([[4], [5]]), cache)
    logits = model(torch.tensor([[6], [6]]), cache)
    for row, token in enumerate((4, 5)):
        close(logits[row, -1], model(torch.tensor([[*IDS[0, :3].tolist(), token, 6]]))[0, -1])


@every_model
@given(data=st.data())
@settings(max_examples=20)
def test_any_history_of_operations_equals_the_tokens_it_leaves(model, data):
    cache = model.new_cache(2, 20)
    rows = [[], []]
    for _ in range(data.draw(st.integers(2, 5))):
        kind = data.draw(st.sampled_from(["append", "append", "truncate", "reorder"]))
        if kind == "append":
            time = data.draw(st.integers(1, 3))
            news = [data.draw(st.lists(st.integers(0, 16), min_size=time, max_size=time)) for _ in rows]
            logits = model(torch.tensor(news), cache)
            rows = [row + new for row, new in zip(rows, news, strict=True)]
            for row, of_row in zip(rows, logits, strict=True):
                close(of_row, model(torch.tensor([row]))[0, -time:])
        elif kind == "truncate":
            lengths = [data.draw(st.integers(0, len(row))) for row in rows]
            cache.truncate(lengths)
            rows = [row[:length] for row, length in zip(rows, lengths, strict=True)]
        else:
            order = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=3))
            cache.reorder(order)
            rows = [rows[i] for i in order]
        assert cache.lengths == [len(row) for row in rows]


def test_a_cached_pass_can_be_differentiated():
    """Outside torch.no_grad too: the new tokens get the gradient of one pass, the past counts as a constant."""
    model, ids = DecoderLM(CONFIGS["llama"], seed=0).double(), IDS[:, :5]
    x = model.embed_tokens(ids).detach().requires_grad_()
    for lengths in (None, [3, 1, 2]):
        cache = model.new_cache(3, 10)
        with torch.no_grad():
            model(ids[:, :3], cache)
        if lengths is not None:
            cache.truncate(lengths)
        cached = model.forward_embeddings(x[:, 3:], cache)
        gradient = torch.autograd.grad(cached.pow(2).sum(), x)[0][:, 3:]
        for row in range(3):
            length = 3 if lengths is None else lengths[row]
            past = x[row : row + 1, :length].detach()
            whole = model.forward_embeddings(torch.cat([past, x[row : row + 1, 3:]], dim=1))[:, length:]
            close(cached[row], whole[0])
            close(gradient[row], torch.autograd.grad(whole.pow(2).sum(), x)[0][row, 3:])
        cache.truncate([0, 0, 0])
        assert not cache.k.requires_grad, "the cache itself must not hold on to a graph"


def test_the_cache_takes_the_models_dtype():
    assert MODELS["llama"].new_cache(1, 4).k.dtype == torch.float64
    assert DecoderLM(CONFIGS["llama"], seed=0).to(torch.bfloat16).new_cache(1, 4).v.dtype == torch.bfloat16


# --- what does not fit is refused


@every_model
def test_more_tokens_than_there_is_room(model):
    cache = model.new_cache(3, 4)
    model(IDS[:, :3], cache)
    with pytest.raises(ValueError, match="2 new tokens after 3 do not fit the cache's capacity of 4"):
        model(IDS[:, 3:5], cache)
    close(model(IDS[:, 3:4], cache), model(IDS[:, :4])[:, 3:])  # and the refusal did no harm


@every_model
@pytest.mark.parametrize("rows", [1, 2])
def test_another_number_of_rows(model, rows):
    with pytest.raises(ValueError, match=f"ids has {rows} rows and the cache 3; they must agree"):
        model(IDS[:rows], model.new_cache(3, 8))


@every_model
def test_bad_truncations_and_orders(model, as_shipped):
    cache = model.new_cache(2, 8)
    model(IDS[:2, :3], cache)
    for lengths, message in [
        ([3, 4], "row 1 cannot be cut to 4 tokens; it has 3"),
        ([-1, 3], "row 0 cannot be cut to -1 tokens; it has 3"),
        ([3], "got 1 lengths for 2 rows"),
    ]:
        with pytest.raises(ValueError, match=message):
            cache.truncate(lengths)
    for order in ([0, 2], [-1], []):
        with pytest.raises(ValueError, match=r"reorder got rows \[.*each must lie between 0 and 1, at least one"):
            cache.reorder(order)
    for order in (torch.tensor([True, False]), [0.0, 1.5]):  # a mask would have been read as rows 1 and 0
        with pytest.raises(TypeError, match=r"reorder got rows of torch\.(bool|float32); they must be integers"):
            cache.reorder(order)
    with pytest.raises(TypeError, match="float"):
        cache.truncate([2.5, 3])
    assert cache.lengths == [3, 3]


@pytest.mark.parametrize("recorded", [True, False])
def test_a_row_of_a_model_that_is_not_causal_ends_where_it_ends(recorded, as_shipped):
    """The slots beyond a shorter row hold what another pass left there: no key of this row's."""
    model = DecoderLM(DecoderConfig.llama(**SIZES, kv_heads=2, causal=False), seed=0).double().eval()
    together, alone = model.new_cache(2, 8), model.new_cache(1, 8)
    with torch.no_grad(), record_attention(model) if recorded else nullcontext():
        model(IDS[:2, :5], together)
        together.truncate([2, 5])
        model(IDS[:1, :5], alone)
        alone.truncate([2])
        close(model(IDS[:2, 5:7], together)[:1], model(IDS[:1, 5:7], alone))


@pytest.mark.parametrize(("rows", "capacity"), [(0, 4), (2, 0), (-1, 4)])
def test_an_empty_cache_is_refused(rows, capacity):
    message = f"rows >= 1 and capacity >= 1; got rows {rows}, capacity {capacity}"
    with pytest.raises(ValueError, match=message):
        KVCache(1, rows, 1, capacity, 2, dtype=torch.float32, device="cpu")
    with pytest.raises(ValueError, match=message):
        HistoryCache(rows, capacity)


def test_capacity_beyond_the_context():
    with pytest.raises(ValueError, match="capacity is 25, more than the model's context_length of 24"):
        MODELS["llama"].new_cache(1, 25)
