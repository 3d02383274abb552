"""Masks: who may see whom. Positions: what tells attention the order."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arlab.nn.masks import causal_mask, combine, padding_mask
from arlab.nn.positions import RotaryTable, frequencies, rotate, sinusoidal


@given(st.integers(1, 9), st.integers(0, 9))
def test_causal_mask_is_bottom_right_aligned(queries, past):
    """With keys in a cache the FIRST new token stands at position `past`; torch's is_causal would put it at 0."""
    mask = causal_mask(queries, queries + past)
    assert mask.shape == (queries, queries + past) and mask.dtype == torch.bool
    for t in range(queries):
        for s in range(queries + past):
            assert bool(mask[t, s]) == (s <= past + t)
    assert torch.equal(causal_mask(queries), torch.ones(queries, queries).tril().bool())


@pytest.mark.parametrize(("queries", "keys"), [(3, 2), (0, 2), (-1, None), (0, None)])
def test_causal_mask_refuses_more_queries_than_keys(queries, keys):
    with pytest.raises(ValueError, match=f"queries is {queries} and keys is"):
        causal_mask(queries, keys)


def test_padding_mask_and_combination():
    mask = padding_mask([2, 0, 3])
    assert mask.shape == (3, 1, 3)
    assert mask[:, 0].tolist() == [[True, True, False], [False] * 3, [True] * 3]
    both = combine(causal_mask(3), None, mask)
    assert both.shape == (3, 3, 3)
    assert both[0].tolist() == [[True, False, False], [True, True, False], [True, True, False]]
    assert combine(None, None) is None
    assert padding_mask([1], 4).tolist() == [[[True, False, False, False]]]


@pytest.mark.parametrize(("lengths", "keys", "bad"), [([2, 5], 4, 5), ([-1], 3, -1)])
def test_padding_mask_names_a_length_out_of_range(lengths, keys, bad):
    with pytest.raises(ValueError, match=f"a length is {bad}; it must lie between 0 and keys = {keys}"):
        padding_mask(lengths, keys)


def test_sinusoids_against_the_papers_formula():
    table = sinusoidal(torch.arange(40), 10)
    for position in (0, 1, 7, 39):
        for i in range(5):
            angle = position / 10_000 ** (2 * i / 10)
            assert table[position, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert table[position, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)
    assert torch.equal(sinusoidal(torch.tensor([[3, 1]]), 10)[0, 1], table[1])


@pytest.mark.parametrize("odd", [1, 7])
def test_odd_dimensions_are_refused(odd):
    with pytest.raises(ValueError, match=f"the dimension is {odd}; it must be even"):
        sinusoidal(torch.arange(3), odd)
    with pytest.raises(ValueError, match=f"the dimension is {odd}"):
        frequencies(odd, 10_000.0)


def test_rotary_dot_products_depend_on_the_distance_alone():
    table = RotaryTable(8, 64, 10_000.0).double()
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 8, generator=generator, dtype=torch.float64)

    def product(m, n):
        at = lambda position: table(slice(position, position + 1), torch.float64)  # noqa: E731
        return (rotate(q, at(m)) * rotate(k, at(n))).sum().item()

    assert product(5, 5) == pytest.approx((q * k).sum().item(), abs=1e-5)
    for distance in (1, 4, 20):
        reference = product(distance, 0)
        assert all(product(n + distance, n) == pytest.approx(reference, abs=1e-4) for n in (1, 9, 30, 43))
    assert abs(product(20, 0) - product(0, 20)) > 1e-3, "before and after are not the same"


def test_rotary_keeps_lengths_and_takes_positions_row_by_row():
    table = RotaryTable(6, 32, 100.0)
    x = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    ragged = rotate(x, table(torch.tensor([[0, 1, 2, 3], [7, 8, 9, 10]]), torch.float32))
    torch.testing.assert_close(ragged[:1], rotate(x[:1], table(slice(0, 4), torch.float32)))
    torch.testing.assert_close(ragged[1:], rotate(x[1:], table(slice(7, 11), torch.float32)))
    torch.testing.assert_close(ragged.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(ragged[0, :, 0], x[0, :, 0]), "position 0 is not turned"
