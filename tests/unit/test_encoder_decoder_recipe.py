"""The recorded runs of notebook 15: what they measure, and that the shipped files hold together."""

import pytest
import torch

from arlab.recipes import encoder_decoder as recipe
from arlab.text.pairs import ordered_pairs
from arlab.training import recordings

COPY = [[3, 1, 4], [1, 5, 9], [2, 6, 5]]


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A recording of two models, three steps each."""
    path = tmp_path_factory.mktemp("recipe") / "own.json"
    recipe.record(path, seeds=(0, 1), steps=3, models=("fixed context", "transformer"))
    return path


@pytest.mark.parametrize("name", recipe.MODELS)
def test_each_model_is_what_its_name_says(name):
    model = recipe.letter_model(name, seed=0)
    (batch,) = ordered_pairs(COPY, COPY, 3, bos_id=recipe.BOS, eos_id=recipe.EOS)
    assert model(batch.inputs).shape == (3, 4, recipe.EOS + 1)
    if name == "transformer":
        assert model.config.encoder_layers == model.config.layers == 1
    else:
        assert (model.attend is not None) == (name == "attention")
        assert model.encoder.bidirectional == (name == "bidirectional")
        assert model.encoder.num_layers == model.cell.num_layers == (2 if name == "deep" else 1)


def test_another_model_is_named():
    with pytest.raises(ValueError, match="model is 'shallow'; it must be one of fixed context, bidirectional"):
        recipe.letter_model("shallow", 0)


def test_words_have_the_length_asked_for_or_any_in_the_range():
    g = torch.Generator().manual_seed(0)
    assert {len(word) for word in recipe.words(20, 7, g)} == {7}
    assert {len(word) for word in recipe.words(1000, None, g)} == set(range(recipe.SHORTEST, recipe.LONGEST + 1))
    assert {letter for word in recipe.words(1000, None, g) for letter in word} == set(range(recipe.LETTERS))
    assert recipe.judged_words(3) == recipe.judged_words(3)


def test_batches_ask_for_a_copy_and_its_end():
    inputs, targets = next(recipe.letter_batches(40, 8, seed=1))
    for source, length, prefix, target in zip(inputs.source, inputs.lengths, inputs.prefix, targets, strict=True):
        word = source[:length].tolist()
        assert prefix[: length + 1].tolist() == [recipe.BOS, *word]
        assert target[: length + 1].tolist() == [*word, recipe.EOS]


class Spelling(torch.nn.Module):
    """Copies its source, but for `wrong`, whose end it forgets."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong = wrong

    def given(self, sources):
        model = recipe.letter_model("transformer", 0).given(sources)
        answers = [[*source, recipe.EOS] for source in sources]
        answers = [[*a[:-1], 0] if s == self.wrong else a for s, a in zip(sources, answers, strict=True)]

        def hidden(ids, cache=None):
            time = (0 if cache is None else cache.lengths[0]) + torch.arange(ids.size(1))
            if cache is not None:
                cache.advance(ids.size(1))
            rows = torch.tensor(answers)[:, time.clamp(max=len(answers[0]) - 1)]
            return torch.nn.functional.one_hot(rows, recipe.EOS + 1).float() * 50

        model._hidden, model.model.head = hidden, torch.nn.Identity()
        return model


def test_exact_match_asks_for_the_end_symbol_too():
    assert recipe.exact_match(Spelling(None), COPY, COPY, recipe.BOS, recipe.EOS) == 1
    assert recipe.exact_match(Spelling(COPY[1]), COPY, COPY, recipe.BOS, recipe.EOS) == pytest.approx(2 / 3)
    other = [[3, 1, 4], [1, 5, 8], [2, 6, 4]]
    assert recipe.exact_match(Spelling(None), COPY, other, recipe.BOS, recipe.EOS) == pytest.approx(1 / 3)


@pytest.mark.parametrize("name", ["fixed context", "attention", "transformer"])
def test_gradients_are_those_of_each_target_at_each_source_position(name):
    """Against finite differences of one embedding in float64, in a random direction: |g . v| <= |g|, and > 0."""
    model = recipe.letter_model(name, seed=0).double()
    (batch,) = ordered_pairs(COPY[:1], COPY[:1], 1, bos_id=recipe.BOS, eos_id=recipe.EOS)
    norms = recipe.gradient_by_position(model, batch)
    assert norms.shape == (4, 3) and bool((norms > 0).all())
    torch.testing.assert_close(recipe.gradient_by_position(model, batch, targets_at=[3, 1]), norms[[3, 1]])
    x = model.source_embeddings(batch.inputs.source).detach()
    target = int(batch.targets[0, 2])

    def logp(embeddings):
        with torch.no_grad():
            return float(model.forward_embeddings(embeddings, batch.inputs)[0, 2].log_softmax(-1)[target])

    slopes = []
    for d in range(x.size(-1)):
        shift = torch.zeros_like(x)
        shift[0, 1, d] = 1e-5
        slopes.append((logp(x + shift) - logp(x - shift)) / 2e-5)
    assert float(norms[2, 1]) == pytest.approx(float(torch.tensor(slopes).norm()), rel=1e-3)


def test_gradients_of_rows_with_padding_are_refused():
    (batch,) = ordered_pairs([[1, 2], [3]], [[1, 2], [3]], 2, bos_id=recipe.BOS, eos_id=recipe.EOS)
    with pytest.raises(ValueError, match="needed one length, without padding"):
        recipe.gradient_by_position(recipe.letter_model("attention", 0), batch)


def test_a_short_recording_and_the_weights_beside_it(short):
    runs, about = recordings.load(short)
    assert list(runs) == [f"{name}, seed {seed}" for seed in (0, 1) for name in ("fixed context", "transformer")]
    assert [(run["model"], run["seed"]) for run in about["results"]] == [
        (name, seed) for seed in (0, 1) for name in ("fixed context", "transformer")
    ]
    models = recipe.trained(short)
    assert list(models) == ["fixed context", "transformer"]
    again, _, _ = recipe.letters("fixed context", 0, steps=3, judged=1)
    for key, tensor in again.state_dict().items():
        assert torch.allclose(models["fixed context"].state_dict()[key], tensor, atol=2e-3), key  # stored in 16 bits


def test_a_missing_recording_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        recipe.trained(tmp_path / "none.json")


def test_the_shipped_recording_holds_together():
    runs, about = recordings.load(recipe.FILE)
    seeds = sorted({run["seed"] for run in about["results"]})
    assert set(runs) == {f"{name}, seed {seed}" for name in recipe.MODELS for seed in seeds}
    assert about["lengths"] == list(recipe.judged_words(1))
    exact = {
        name: torch.tensor([run["exact"] for run in about["results"] if run["model"] == name]).mean(0)
        for name in recipe.MODELS
    }
    eight, sixteen = about["lengths"].index(8), about["lengths"].index(16)
    for name in ("fixed context", "bidirectional", "deep"):
        assert exact[name][sixteen] < 0.1 < exact[name][0]
    assert exact["attention"][eight] > 0.9 and exact["transformer"][sixteen] > 0.95
    for run in about["results"]:
        assert torch.tensor(run["gradient"]).shape == (recipe.LONGEST + 1, recipe.LONGEST)


def test_the_shipped_weights_are_those_that_were_judged():
    _, about = recordings.load(recipe.FILE)
    models, words = recipe.trained(), recipe.judged_words(200)[8][:50]
    assert list(models) == list(recipe.MODELS)
    for run in about["results"][: len(models)]:
        told = run["exact"][about["lengths"].index(8)]
        assert abs(recipe.exact_match(models[run["model"]], words, words, recipe.BOS, recipe.EOS) - told) < 0.2
