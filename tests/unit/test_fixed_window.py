"""The window of Bengio et al.: what it sees, what it cannot see, and its start."""

import pytest
import torch

from arlab.nn.fixed_window import FixedWindowLM
from arlab.nn.leaks import find_leaks, leak_map


def model(window=3, **options):
    return FixedWindowLM(11, window, 4, 6, seed=0, **options).double().eval()


def test_each_position_is_the_papers_formula_on_its_own_window():
    """y = b + U tanh(d + H [x_1; ..; x_n]), oldest token first, the start vector where there is none."""
    lm, ids = model(), torch.tensor([[3, 1, 4, 1, 5]])
    table, start = lm.embed_tokens.weight, lm.start
    for t in range(5):
        window = [table[ids[0, s]] if s >= 0 else start for s in range(t - 2, t + 1)]
        hidden = torch.tanh(lm.hidden.weight @ torch.cat(window) + lm.hidden.bias)
        torch.testing.assert_close(lm(ids)[0, t], lm.head.weight @ hidden + lm.head.bias)


def test_it_sees_the_window_and_nothing_else():
    """The leak map is a band: positions t - 2 .. t, exactly 0 to both sides."""
    measured = leak_map(model(), torch.tensor([3, 1, 4, 1, 5, 9, 2]))
    distance = torch.arange(7)[:, None] - torch.arange(7)
    assert torch.equal(measured > 0, (distance >= 0) & (distance < 3))
    assert find_leaks(model(), torch.tensor([[3, 1, 4], [1, 5, 9]])) == []


def test_what_lies_before_the_window_is_forgotten():
    lm = model()
    one, two = lm(torch.tensor([[1, 2, 3, 4, 5]])), lm(torch.tensor([[9, 8, 3, 4, 5]]))
    assert torch.equal(one[:, -1], two[:, -1]) and not torch.equal(one[:, -2], two[:, -2])


def test_a_cached_row_remembers_its_start():
    """A row shorter than the window still has the start vector before it, beside a longer one."""
    lm = model(window=4)
    cache = lm.new_cache(2, 9)
    lm(torch.tensor([[1, 2, 3], [4, 5, 6]]), cache)
    cache.truncate([3, 1])
    after = lm(torch.tensor([[7], [8]]), cache)
    torch.testing.assert_close(after[0], lm(torch.tensor([[1, 2, 3, 7]]))[0, -1:])
    torch.testing.assert_close(after[1], lm(torch.tensor([[4, 8]]))[0, -1:])


def test_every_parameter_gets_a_gradient_also_through_the_cache():
    lm = model(bos_id=11)
    lm(torch.tensor([[11, *range(11)]])).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum(-1).min() > 0 for p in lm.parameters())
    whole = lm.start.grad.clone()
    lm.zero_grad()
    cache = lm.new_cache(1, 12)
    sum(lm(torch.tensor([[i]]), cache).square().sum() for i in (11, *range(11))).backward()
    torch.testing.assert_close(lm.start.grad, whole)


def test_the_seed_fixes_the_weights():
    def weights(seed):
        return torch.cat([p.flatten() for p in FixedWindowLM(5, 2, 3, 4, seed=seed).parameters()])

    assert torch.equal(weights(1), weights(1)) and not torch.equal(weights(1), weights(2))
    hidden = FixedWindowLM(50, 8, 32, 256, seed=0)
    assert hidden.hidden(torch.randn(500, 256)).std().item() == pytest.approx(1, abs=0.1)


def test_it_learns_what_a_window_can_know():
    """The next token of 0 1 2 0 1 2 .. after two tokens; and copies nothing from three tokens back."""
    lm = FixedWindowLM(3, 2, 8, 16, seed=0)
    optimiser = torch.optim.Adam(lm.parameters(), lr=0.02)
    ids = torch.arange(31)[None] % 3
    for _ in range(60):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(lm(ids[:, :-1])[0], ids[0, 1:])
        loss.backward()
        optimiser.step()
    assert loss < 0.05


@pytest.mark.parametrize("name", ["vocab_size", "window", "d_model", "d_hidden"])
def test_sizes_below_one_are_named(name):
    sizes = dict(vocab_size=5, window=2, d_model=3, d_hidden=4) | {name: 0}
    with pytest.raises(ValueError, match=f"{name} is 0; it must be 1 or more"):
        FixedWindowLM(**sizes)


def test_a_start_symbol_out_of_range_is_named():
    with pytest.raises(ValueError, match="bos_id is 6; it must lie between 0 and vocab_size = 5"):
        FixedWindowLM(5, 2, 3, 4, bos_id=6)
    assert FixedWindowLM(5, 2, 3, 4, bos_id=5).embed_tokens.num_embeddings == 6
