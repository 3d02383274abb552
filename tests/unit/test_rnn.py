"""The recurrent model against torch's own cell, stepped by hand; its state, and what a state cannot undo."""

import pytest
import torch
from torch import nn

from arlab.nn.leaks import find_leaks, leak_map
from arlab.nn.rnn import RecurrentLM

KINDS = ["rnn", "gru", "lstm"]
IDS = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])


def model(kind="rnn", layers=1, **options):
    return RecurrentLM(11, 4, 6, layers, kind, seed=0, **options).double().eval()


def test_a_plain_rnn_is_the_formula():
    """h_t = tanh(W x_t + b + U h_{t-1} + c), logits = V h_t + d."""
    lm = model()
    cell = lm.cell
    for row in range(2):
        h = torch.zeros(6, dtype=torch.float64)
        for t, i in enumerate(IDS[row]):
            x = lm.embed_tokens.weight[i]
            h = torch.tanh(cell.weight_ih_l0 @ x + cell.bias_ih_l0 + cell.weight_hh_l0 @ h + cell.bias_hh_l0)
            torch.testing.assert_close(lm(IDS)[row, t], lm.head.weight @ h + lm.head.bias)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_torchs_module_unrolled(kind, layers):
    lm = model(kind, layers)
    theirs = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[kind](4, 6, layers, batch_first=True).double()
    theirs.load_state_dict(lm.cell.state_dict())
    out, _ = theirs(nn.functional.embedding(IDS, lm.embed_tokens.weight))
    torch.testing.assert_close(lm(IDS), nn.functional.linear(out, lm.head.weight, lm.head.bias), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_each_position_depends_on_all_before_it_and_none_behind(kind):
    lm = model(kind, layers=2)
    assert find_leaks(lm, IDS) == []
    measured = leak_map(lm, IDS)
    assert (measured[torch.ones(6, 6).tril().bool()] > 0).all()


def test_the_state_is_all_that_is_kept():
    """Its size does not grow with the text; a step reads one token."""
    lm = model("lstm", layers=2)
    cache = lm.new_cache(2, 100)
    fed = []
    lm.embed_tokens.register_forward_hook(lambda module, args, out: fed.append(args[0].shape[1]))
    for _ in range(3):
        lm(IDS, cache)
    for _ in range(4):
        lm(IDS[:, :1], cache)
    assert [tuple(part.shape) for part in cache.state] == [(2, 2, 6)] * 2
    assert fed == [6, 6, 6, 1, 1, 1, 1] and cache.lengths == [22, 22] and not cache.stale


def test_ragged_prompts_are_read_once():
    """The state stops before the padding; cutting the padding off then costs nothing."""
    lm = model("gru")
    cache, fed = lm.new_cache(2, 10), []
    lm.embed_tokens.register_forward_hook(lambda module, args, out: fed.append(tuple(args[0].shape)))
    lm.last_logits(IDS, cache, [6, 2])
    assert cache.stale == [1]  # should the caller keep the padding after all, the row is read again
    cache.truncate([6, 2])
    assert not cache.stale
    lm(IDS[:, :1], cache)
    assert fed == [(2, 6), (2, 1)]


def test_padding_that_is_kept_counts():
    """last_logits with lengths, and no truncation after it: the cache's tokens are then the whole rows."""
    lm = model("lstm")
    cache = lm.new_cache(2, 10)
    lm.last_logits(IDS, cache, [6, 2])
    torch.testing.assert_close(lm(IDS[:, :1], cache), lm(torch.cat([IDS, IDS[:, :1]], dim=1))[:, -1:])


@pytest.mark.parametrize("kind", KINDS)
def test_only_rolled_back_rows_are_read_again(kind):
    lm = model(kind, layers=2)
    cache = lm.new_cache(2, 10)
    lm(IDS, cache)
    cache.truncate([6, 3])
    assert cache.stale == [1]
    fed = []
    lm.embed_tokens.register_forward_hook(lambda module, args, out: fed.append(tuple(args[0].shape)))
    lm(IDS[:, :2], cache)
    assert fed == [(1, 3), (2, 2)]


def test_a_forked_cache_keeps_its_own_state():
    lm = model()
    cache = lm.new_cache(1, 10)
    lm(IDS[:1], cache)
    before = cache.state[0].clone()
    cache.truncate([4])
    held = cache.state[0]
    lm(IDS[:1, :1], cache)
    assert torch.equal(held, before)  # the old tensor was not written into


def test_the_cache_holds_no_graph():
    lm = model("lstm")
    cache = lm.new_cache(2, 12)
    lm(IDS, cache).sum().backward()
    assert all(not part.requires_grad for part in cache.state)
    lm(IDS, cache).sum().backward()  # a second pass does not walk into the first one's freed graph


def test_every_parameter_gets_a_gradient():
    lm = model("gru", layers=2, bos_id=11)
    lm(torch.tensor([[11, *range(11)]])).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum(-1).min() > 0 for p in lm.parameters())


def test_the_seed_fixes_the_weights():
    def weights(seed):
        return torch.cat([p.flatten() for p in RecurrentLM(5, 3, 4, 2, "gru", seed=seed).parameters()])

    assert torch.equal(weights(1), weights(1)) and not torch.equal(weights(1), weights(2))
    assert weights(0)[15:].abs().max() <= 0.5  # behind the 5 x 3 embeddings: uniform within 1 / sqrt(4)


def test_it_remembers_what_a_window_cannot():
    """The first token of each row comes again after five zeros."""
    first = torch.arange(1, 5)[:, None]
    ids = torch.cat([first, torch.zeros(4, 5, dtype=torch.int64), first], dim=1)
    lm = RecurrentLM(5, 8, 24, kind="gru", seed=0)
    optimiser = torch.optim.Adam(lm.parameters(), lr=0.02)
    for _ in range(120):
        optimiser.zero_grad()
        nn.functional.cross_entropy(lm(ids[:, :-1])[:, -1], ids[:, -1]).backward()
        optimiser.step()
    assert torch.equal(lm(ids[:, :-1])[:, -1].argmax(-1), ids[:, -1])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (dict(kind="transformer"), "kind is 'transformer'; it must be one of rnn, gru, lstm"),
        (dict(layers=0), "layers is 0; it must be 1 or more"),
        (dict(d_hidden=0), "d_hidden is 0"),
        (dict(vocab_size=0), "vocab_size is 0"),
        (dict(bos_id=-1), "bos_id is -1; it must lie between 0 and vocab_size = 5"),
    ],
)
def test_bad_settings_are_named(change, says):
    with pytest.raises(ValueError, match=says):
        RecurrentLM(**(dict(vocab_size=5, d_model=3, d_hidden=4) | change))
