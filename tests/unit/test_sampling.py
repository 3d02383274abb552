"""Greedy decoding and sampling: rows in a batch and alone, their ends, their scores, and what is refused."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import arlab.decoding.sampling as sampling
from arlab.decoding import MinP, Temperature, TopK, TopP, greedy, greedy_steps, sample, sample_steps
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import Recompute
from arlab.worlds import TreeLM, beam_trap

SIZES = {"vocab_size": 17, "context_length": 40, "d_model": 16, "layers": 2, "heads": 4}
CONFIGS = {"gpt2": DecoderConfig.gpt2(**SIZES), "llama": DecoderConfig.llama(**SIZES, kv_heads=2)}
INF = math.inf


def built(config):
    model = DecoderLM(config, seed=0).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    return model


MODELS = {name: built(config) for name, config in CONFIGS.items()}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- rows: alone, in a batch, and to their ends


@every_model
@pytest.mark.parametrize("filters", [(), (Temperature(0.7), TopP(0.9))])
def test_a_row_alone_is_the_row_in_a_left_padded_batch(model, filters):
    prompts = [[3, 1, 4], [1], [5, 9, 2, 6, 5, 3]]
    width = 6
    padded = torch.tensor([[16] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[False] * (width - len(p)) + [True] * len(p) for p in prompts])
    generation = greedy(model, padded, mask=mask, max_new_tokens=12)
    assert torch.equal(generation.ids, greedy(model, prompts, max_new_tokens=12).ids)
    for row, prompt in enumerate(prompts):
        alone = greedy(model, prompt, max_new_tokens=12)
        assert generation.tokens(row) == alone.tokens()
        torch.testing.assert_close(generation.logprobs[row], alone.logprobs[0], rtol=0, atol=1e-6)

    # Sampling: row r of a batch takes the r-th uniform of each step, so a row alone is given those by hand.
    rows, steps = len(prompts), 12
    drawn = sample(model, padded, mask=mask, max_new_tokens=steps, filters=filters, generator=seeded(4))
    uniforms = torch.rand(steps, rows, generator=seeded(4), dtype=torch.float64)
    for row, prompt in enumerate(prompts):
        with pytest.MonkeyPatch.context() as patch:
            numbers = iter(uniforms[:, row].tolist())
            patch.setattr(
                sampling.torch,
                "rand",
                lambda *_, **__: torch.tensor([[next(numbers)]], dtype=torch.float64),  # noqa: B023
            )
            alone = sample(model, prompt, max_new_tokens=steps, filters=filters)
        assert drawn.tokens(row) == alone.tokens()


@every_model
def test_what_stands_in_the_padding_does_not_matter(model):
    mask = torch.tensor([[False, False, True, True], [True, True, True, True]])
    generations = [
        sample(model, torch.tensor([[pad, pad, 3, 1], [5, 9, 2, 6]]), mask=mask, max_new_tokens=8, generator=seeded())
        for pad in (0, 16)
    ]
    assert torch.equal(generations[0].ids, generations[1].ids)
    assert torch.equal(generations[0].logprobs, generations[1].logprobs)


@every_model
def test_the_returned_log_probabilities_are_those_of_one_pass_over_the_text(model):
    prompts = [[3, 1, 4], [1]]
    generation = sample(model, prompts, max_new_tokens=9, n=2, filters=[TopK(3)], generator=seeded(), eos_id=5)
    for row, prompt in enumerate(prompts):
        for n in range(2):
            new = generation.tokens(row, n)
            logits = model(torch.tensor([prompt + new]))[0, len(prompt) - 1 : -1]
            expected = logits.log_softmax(-1).gather(-1, torch.tensor(new)[:, None])[:, 0].float()
            torch.testing.assert_close(generation.logprobs[row, n, : len(new)], expected, rtol=0, atol=1e-5)
            assert (generation.logprobs[row, n, len(new) :] == 0).all()
            assert generation.scores[row, n].item() == pytest.approx(expected.sum().item(), abs=1e-4)


@every_model
def test_temperature_zero_is_greedy(model):
    prompts = [[3, 1, 4], [1]]
    cold = sample(model, prompts, max_new_tokens=12, filters=[Temperature(0)], generator=seeded())
    best = greedy(model, prompts, max_new_tokens=12)
    assert torch.equal(cold.ids, best.ids) and torch.equal(cold.logprobs, best.logprobs)
    also = sample(model, prompts, max_new_tokens=12, filters=[TopK(1)], generator=seeded())
    assert torch.equal(also.ids, best.ids)


def test_greedy_takes_the_lowest_id_among_equals():
    tree = TreeLM({}, max_length=3, default=[0.2, 0.4, 0.4])
    assert greedy(tree, [], max_new_tokens=3).tokens() == [1, 1, 1]


ENDS = TreeLM(
    {(): [0, 0, 1.0, 0], (0,): [0, 1.0, 0, 0], (1,): [0, 0, 0, 1.0], (2,): [0, 0, 0, 1.0]},
    max_length=9,
    default=[0, 0, 1.0, 0],
)


def test_rows_end_separately_and_are_padded_after_their_end():
    """Row 0 goes 1, 2, 2, ...; row 1 ends at once with 3; row 2 after one more token."""
    generation = greedy(ENDS, [[0], [1], [0, 1]], max_new_tokens=3, eos_id=3, pad_id=0)
    assert generation.ids[:, 0].tolist() == [[1, 2, 2], [3, 0, 0], [2, 2, 2]]
    assert generation.lengths.tolist() == [[3], [1], [3]]
    assert generation.finished.tolist() == [[False], [True], [False]]
    assert [generation.tokens(row) for row in range(3)] == [[1, 2, 2], [3], [2, 2, 2]]
    assert (generation.logprobs[1, 0, 1:] == 0).all()


def test_padding_is_the_first_end_symbol_unless_told_otherwise():
    generation = greedy(ENDS, [[0], [1]], max_new_tokens=2, eos_id=[3, 0])
    assert generation.ids[:, 0].tolist() == [[1, 2], [3, 3]]


def test_any_of_several_end_symbols_ends_a_row():
    generation = greedy(ENDS, [[0], [1]], max_new_tokens=5, eos_id=[3, 1], pad_id=2)
    assert generation.ids[:, 0].tolist() == [[1], [3]], "and decoding stops when all rows have ended"
    assert generation.finished.all() and generation.lengths.tolist() == [[1], [1]]


def test_an_end_at_the_very_first_token_and_an_end_in_the_prompt():
    generation = greedy(ENDS, [1], max_new_tokens=7, eos_id=3)
    assert generation.tokens() == [3] and generation.ids.shape == (1, 1, 1)
    assert greedy(ENDS, [3, 0], max_new_tokens=2, eos_id=3).tokens() == [2, 2], "one in the prompt ends nothing"


@every_model
@given(seed=st.integers(0, 10_000), eos_id=st.integers(0, 16))
@settings(max_examples=15)
def test_after_the_end_there_is_padding_alone_and_other_rows_go_on_as_if_alone(model, seed, eos_id):
    options = {"max_new_tokens": 10, "generator": None, "n": 4, "filters": [TopK(4)]}
    free = sample(model, [[1, 2], [3]], **{**options, "generator": seeded(seed)})
    ended = sample(model, [[1, 2], [3]], **{**options, "generator": seeded(seed)}, eos_id=eos_id, pad_id=16)
    time = ended.ids.size(2)
    for row in range(2):
        for n in range(4):
            tokens = free.ids[row, n].tolist()
            length = tokens.index(eos_id) + 1 if eos_id in tokens else 10
            assert ended.tokens(row, n) == tokens[:length]
            assert ended.ids[row, n].tolist() == tokens[:length] + [16] * (time - length)
            assert ended.lengths[row, n] == length and ended.finished[row, n] == (eos_id in tokens)
    assert time == ended.lengths.max()


@every_model
def test_n_sequences_of_a_prompt_stay_with_it(model):
    prompts = [[3, 1, 4], [1]]
    generation = sample(model, prompts, max_new_tokens=6, n=3, filters=[Temperature(0)], generator=seeded())
    assert generation.ids.shape == (2, 3, 6) and generation.scores.shape == (2, 3)
    best = greedy(model, prompts, max_new_tokens=6)
    assert torch.equal(generation.ids, best.ids.expand(-1, 3, -1))
    varied = sample(model, prompts, max_new_tokens=6, n=3, filters=[Temperature(5.0)], generator=seeded())
    assert len({tuple(row) for row in varied.ids.flatten(0, 1).tolist()}) == 6


@every_model
def test_the_same_seed_the_same_text_on_every_call(model):
    options = {"max_new_tokens": 8, "n": 2, "filters": [Temperature(0.9), TopK(9), TopP(0.95), MinP(0.01)]}
    one, two, three = (sample(model, [[1, 2], [3]], generator=seeded(s), **options).ids for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, three)


# --- bad input


@pytest.mark.parametrize("decode", [greedy_steps, sample_steps])
def test_bad_options_are_refused_before_the_first_step(decode, as_shipped):
    tree = beam_trap()
    for options, message in [
        ({"eos_id": 3}, "eos_id is 3; it must be an id between 0 and 2"),
        ({"eos_id": -1}, "eos_id is -1; it must"),
        ({"eos_id": [0, 7]}, "eos_id is 7; it must"),
        ({"eos_id": True}, "eos_id is True; it must"),
        ({"pad_id": 3}, "pad_id is 3; it must be an id between 0 and 2"),
        ({"pad_id": 1.0}, "pad_id is 1.0; it must"),
        ({"max_new_tokens": -1}, "max_new_tokens is -1; it must be an integer of 0 or more"),
        ({"max_new_tokens": 2.5}, "max_new_tokens is 2.5; it must"),
        ({"max_new_tokens": True}, "max_new_tokens is True; it must"),
    ]:
        with pytest.raises(ValueError, match=message):
            decode(tree, [], **{"max_new_tokens": 2, **options})


@pytest.mark.parametrize("n", [0, -1, 1.5, True, None])
def test_bad_n(n, as_shipped):
    with pytest.raises(ValueError, match=f"n is {n!r}; it must be an integer of 1 or more"):
        sample(beam_trap(), [], max_new_tokens=1, n=n)


class Broken(torch.nn.Module):
    vocab_size, context_length, bos_id = 4, None, None

    def __init__(self, value, at):
        super().__init__()
        self.value, self.at = value, at

    def forward(self, ids):
        logits = torch.zeros(*ids.shape, 4)
        if ids.size(1) == self.at:
            logits[-1, -1, slice(None) if self.value == -INF else 2] = self.value
        return logits


@pytest.mark.parametrize("at", [2, 4])
@pytest.mark.parametrize(("value", "word"), [(math.nan, "one is NaN"), (INF, r"one is \+inf"), (-INF, "all are -inf")])
@pytest.mark.parametrize("filters", [None, (), (TopP(0.5),), (TopK(9),)])
def test_a_model_that_gives_nan_is_caught_at_the_token_where_it_does(value, word, at, filters):
    model, prompts = Recompute(Broken(value, at)), [[1, 2], [3, 0]]
    steps = (
        greedy_steps(model, prompts, max_new_tokens=5)
        if filters is None
        else sample_steps(model, prompts, max_new_tokens=5, filters=filters, generator=seeded())
    )
    for _ in range(at - 2):
        next(steps)
    with pytest.raises(ValueError, match=word):
        next(steps)


def test_a_filter_that_leaves_nothing_is_caught():
    with pytest.raises(ValueError, match="all are -inf: no token is possible"):
        sample(beam_trap(), [], max_new_tokens=1, filters=[lambda logits: torch.full_like(logits, -INF)])


@every_model
def test_a_filter_that_works_in_place_spoils_nothing(model):
    def own_top_1(logits):
        logits[logits < logits.amax(-1, keepdim=True)] = -INF
        return logits

    step = next(sample_steps(model, [1, 2], max_new_tokens=1, filters=[Temperature(2.0), own_top_1]))
    assert step.logits.isfinite().all() and step.stages[0][1].isfinite().all()
    assert step.kept.sum() == 1
    assert step.logprob < 0  # of the raw model; after the filter the token is certain


def test_a_filter_that_changes_the_shape_is_refused():
    with pytest.raises(ValueError, match=r"returned shape \(1, 2\); needed: logits of the shape given, \(1, 3\)"):
        sample(beam_trap(), [], max_new_tokens=1, filters=[lambda logits: logits[:, :2]])
    with pytest.raises(ValueError, match="returned NoneType"):
        sample(beam_trap(), [], max_new_tokens=1, filters=[lambda logits: None])


def test_numpys_numbers_serve_as_numbers(as_shipped):
    """A student who loops over numpy.arange or linspace hands these over."""
    model = DecoderLM(DecoderConfig.gpt2(vocab_size=20, context_length=16, d_model=16, layers=1, heads=2), seed=0)
    filters = [Temperature(np.float32(0.5)), TopK(np.int64(3)), TopP(np.float32(0.5))]
    options = {"max_new_tokens": np.int64(4), "eos_id": np.int64(7)}
    found = sample(model, [1, 2], filters=filters, generator=torch.Generator().manual_seed(0), **options)
    same = [Temperature(0.5), TopK(3), TopP(0.5)]
    expected = sample(
        model, [1, 2], filters=same, generator=torch.Generator().manual_seed(0), max_new_tokens=4, eos_id=7
    )
    assert torch.equal(found.ids, expected.ids)
