"""Prompts as people write them: tensors, lists, ragged lists, left padding, nothing at all; and what is refused."""

import numpy as np
import pytest
import torch

from arlab.decoding import greedy, sample
from arlab.decoding.prompts import read_prompts
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.worlds import beam_trap

SIZES = {"vocab_size": 17, "context_length": 8, "d_model": 16, "layers": 1, "heads": 2}
MODEL = DecoderLM(DecoderConfig.gpt2(**SIZES), seed=0).eval()
WITH_BOS = DecoderLM(DecoderConfig.gpt2(**SIZES, bos_id=4), seed=0).eval()


def read(prompt, mask=None, model=MODEL, new=2):
    return read_prompts(model, prompt, mask, new)


@pytest.mark.parametrize(
    "prompt",
    [[3, 1, 4], (3, 1, 4), [[3, 1, 4]], torch.tensor([3, 1, 4]), torch.tensor([[3, 1, 4]], dtype=torch.int32)],
    ids=["list", "tuple", "list of lists", "tensor (time,)", "tensor (batch, time)"],
)
def test_one_prompt_in_five_spellings(prompt):
    prompts = read(prompt)
    assert prompts.ids.tolist() == [[3, 1, 4]] and prompts.lengths == [3] and prompts.even
    assert prompts.ids.dtype == torch.int64


def test_ragged_lists_and_left_padding_are_the_same_thing():
    ragged = read([[3, 1, 4], [5]])
    mask = torch.tensor([[True, True, True], [False, False, True]])
    padded = read(torch.tensor([[3, 1, 4], [9, 9, 5]]), mask)
    for prompts in (ragged, padded):
        assert prompts.lengths == [3, 1] and not prompts.even
        assert prompts.ids[0].tolist() == [3, 1, 4] and prompts.ids[1, 0] == 5


def test_the_given_lists_are_not_changed():
    prompt = [[3, 1], []]
    read(prompt, model=WITH_BOS)
    assert prompt == [[3, 1], []]


def test_a_mask_of_true_changes_nothing():
    ids = torch.tensor([[3, 1, 4]])
    assert torch.equal(read(ids, torch.ones(1, 3, dtype=torch.bool)).ids, read(ids).ids)


def test_repeating_keeps_the_rows_of_a_prompt_together():
    prompts = read([[3, 1], [5]]).repeat(2)
    assert prompts.lengths == [2, 2, 1, 1] and prompts.ids[:, 0].tolist() == [3, 3, 5, 5]


@pytest.mark.parametrize("empty", [[], [[]], torch.empty(0, dtype=torch.int64), torch.empty(1, 0, dtype=torch.int64)])
def test_an_empty_prompt_starts_from_the_start_symbol_or_is_refused(empty):
    assert read(empty, model=WITH_BOS).ids.tolist() == [[4]]
    assert greedy(WITH_BOS, empty, max_new_tokens=3).tokens() == greedy(WITH_BOS, [4], max_new_tokens=3).tokens()
    with pytest.raises(ValueError, match="prompt 0 is empty and the model has no bos_id to start from"):
        read(empty)


def test_an_empty_row_among_others():
    mask = torch.tensor([[True, True], [False, False]])
    assert read(torch.tensor([[3, 1], [9, 9]]), mask, WITH_BOS).lengths == [2, 1]
    for prompt, given_mask in [([[3, 1], []], None), (torch.tensor([[3, 1], [9, 9]]), mask)]:
        with pytest.raises(ValueError, match="prompt 1 is empty"):
            read(prompt, given_mask)


def test_the_start_symbol_of_a_tree_is_input_only():
    tree = beam_trap()
    assert read([], model=tree).ids.tolist() == [[3]]
    assert sample(tree, [[], [3], [0]], max_new_tokens=2).ids.max() < 3


@pytest.mark.parametrize(("prompt", "where", "bad"), [([3, 17], r"\[0, 1\]", 17), ([[3], [-1, 2]], r"\[1, 0\]", -1)])
def test_ids_out_of_range(prompt, where, bad):
    with pytest.raises(ValueError, match=rf"ids{where} is {bad}; ids must lie between 0 and 16"):
        read(prompt)


def test_longer_than_the_context():
    assert read([1] * 6).lengths == [6]
    with pytest.raises(ValueError, match=r"7 tokens and 2 new ones exceed the model's context_length of 8; shorten it"):
        read([1] * 7)
    with pytest.raises(ValueError, match="3 tokens and 6 new ones exceed"):
        read([[1], [1, 2, 3]], new=6)
    assert greedy(MODEL, [1] * 6, max_new_tokens=2).ids.shape == (1, 1, 2)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (torch.tensor([1.0, 2.0]), "integer ids; got torch.float32"),
        (torch.tensor([True]), "integer ids; got torch.bool"),
        ([1, 2.0], r"integer ids; got 2\.0"),
        ([1, "2"], "integer ids; got '2'"),
        ([True, 2], "integer ids; got True"),
        ([[1], [None]], "integer ids; got None"),
        ("hello", "integer ids; got 'h'"),
        ([[1, 2], 3], "integer ids; got 3"),
        (5, "integer ids; got 5"),
        (None, "integer ids; got None"),
        (np.array([1.5]), "integer ids; got torch.float64"),
    ],
)
def test_prompts_that_hold_no_ids(prompt, message, as_shipped):
    with pytest.raises(TypeError, match=message):
        read(prompt)


def test_numpys_ids_serve_too(as_shipped):
    for prompt in (
        np.array([1, 2]),
        np.array([[1, 2]]),
        [np.int64(1), np.int64(2)],
        [torch.tensor(1), torch.tensor(2)],
    ):
        assert read(prompt).ids.tolist() == [[1, 2]]


@pytest.mark.parametrize("shape", [(), (1, 2, 3), (0, 3)])
def test_prompts_of_another_shape(shape, as_shipped):
    with pytest.raises(ValueError, match=r"must be \(batch, time\) or \(time,\), at least one row; got \("):
        read(torch.zeros(shape, dtype=torch.int64))


def boolean(*rows):
    return torch.tensor(rows, dtype=torch.bool)


@pytest.mark.parametrize(
    ("prompt", "mask", "error", "message"),
    [
        (torch.tensor([[1, 2]]), boolean([1, 1, 1]), ValueError, r"mask has shape \(1, 3\); the prompt has \(1, 2\)"),
        (torch.tensor([[1, 2]]), boolean([1, 1], [1, 1]), ValueError, r"mask has shape \(2, 2\)"),
        (torch.tensor([[1, 2]]), [[True, True]], ValueError, "mask has shape list"),
        (torch.tensor([[1, 2]]), boolean([1, 0]), ValueError, r"padding after a real token; .*\(False first\)"),
        (torch.tensor([[1, 2, 3]]), boolean([1, 0, 1]), ValueError, "padding after a real token"),
        (torch.tensor([[1, 2]]), torch.tensor([[0, 1]]), TypeError, "dtype is torch.int64; it must be torch.bool"),
        (torch.tensor([[1, 2]]), torch.tensor([[0.0, -torch.inf]]), TypeError, "mask's dtype is torch.float32"),
        ([[1, 2, 3], [4, 5]], boolean([1, 1, 1], [0, 1, 1]), ValueError, r"one width; got rows of \[3, 2\] tokens"),
    ],
)
def test_masks_that_do_not_fit(prompt, mask, error, message, as_shipped):
    with pytest.raises(error, match=message):
        read(prompt, mask)


def test_an_iterator_is_refused(as_shipped):
    """It would be empty at the second look, and an empty prompt is one that starts from the start symbol."""
    with pytest.raises(TypeError, match="can be read only once"):
        read(iter([1, 2]))
