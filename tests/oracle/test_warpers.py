"""Filters against `transformers`' warpers. They agree, except where the design says that arlab is right:

- top-k: among tokens tied with the k-th the peer keeps all, arlab the lowest ids, exactly k;
- top-p: the peer sums in the logits' own precision, so it may be off by a token or two in a long tail;
- temperature 0, top-p 1: the peer refuses or does nothing, arlab gives the argmax and the identity.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arlab.decoding.filters import MinP, Temperature, TopK, TopP, apply

transformers = pytest.importorskip("transformers", reason="the peer of these tests; pip install 'arlab[test]'")
from transformers import (  # noqa: E402
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)


def warper(filter_):
    match filter_:
        case Temperature(t):
            return TemperatureLogitsWarper(float(t))
        case TopK(k):
            return TopKLogitsWarper(k)
        case TopP(p):
            return TopPLogitsWarper(float(p))
        case MinP(p):
            return MinPLogitsWarper(p)


def random_logits(seed, rows=4, vocab=200, dtype=torch.float64):
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 3


filters = st.one_of(
    st.floats(0.05, 20.0).map(Temperature),
    st.integers(1, 250).map(TopK),
    st.floats(0.01, 0.99).map(TopP),
    st.floats(0.001, 1.0).map(MinP),
)


@given(filter_=filters, seed=st.integers(0, 10_000))
@settings(max_examples=200)
def test_one_filter(filter_, seed):
    logits = random_logits(seed)
    assert torch.equal(filter_(logits), warper(filter_)(None, logits))


@given(chain=st.lists(filters, min_size=2, max_size=4), seed=st.integers(0, 10_000))
@settings(max_examples=100)
def test_a_chain_in_the_order_written(chain, seed):
    logits = random_logits(seed)
    assert torch.equal(apply(chain, logits), LogitsProcessorList(map(warper, chain))(None, logits))


@pytest.mark.parametrize("p", [0.3, 0.8, 0.9, 0.95])
def test_a_whole_vocabulary(p):
    logits = random_logits(0, rows=2, vocab=49_152)
    assert torch.equal(TopP(p)(logits), warper(TopP(p))(None, logits))


def test_ties_at_the_kth_are_cut_here_and_kept_there():
    logits = torch.tensor([[2.0, 1.0, 1.0, 0.0]])
    assert TopK(2)(logits).isfinite().sum() == 2
    assert warper(TopK(2))(None, logits).isfinite().sum() == 3


def test_temperature_zero_is_an_answer_here_and_an_error_there():
    with pytest.raises(ValueError):
        TemperatureLogitsWarper(0.0)
    assert Temperature(0)(torch.tensor([[1.0, 3.0, 3.0]])).isfinite().tolist() == [[False, True, False]]
