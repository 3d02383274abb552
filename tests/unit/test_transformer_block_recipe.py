"""The recorded runs of notebook 05: what is trained, how it is named, and that the stored file fits the code."""

import math

import pytest
import torch

from arlab.recipes import transformer_block as recipe
from arlab.training import recordings
from arlab.training.loop import TrainStep


def test_the_deep_model_is_xavier_and_untied_and_takes_other_choices():
    model = recipe.deep_model(3, norm_first=False, residual=False)
    assert len(model.blocks) == 3 and model.head.weight is not model.embed_tokens.weight
    assert 0.9 < model.embed_tokens.weight.std() < 1.1
    assert isinstance(model.norm, torch.nn.Identity) and not model.blocks[0].residual


def test_norm_place_runs_all_four_kinds_and_warm_up_starts_small():
    runs, about = recipe.norm_place(depths=(1,), steps=10, warmup=10)
    assert list(runs) == [f"1 layers, {where}-LN{warm}" for where in ("post", "pre") for warm in ("", ", warm-up")]
    assert about == {"warmup": 10}
    for where in ("post", "pre"):
        at_once, warmed = runs[f"1 layers, {where}-LN"][-1], runs[f"1 layers, {where}-LN, warm-up"][-1]
        assert at_once.lr == warmed.lr == pytest.approx(5e-4)
        assert at_once.loss < warmed.loss  # the mean of ten steps, most of which were smaller


def test_a_run_that_blows_up_keeps_what_it_had():
    def steps():
        for n in range(1, 13):
            yield TrainStep(n, 1.0, n, 0.1, 1.0, 0.0)
        raise FloatingPointError("the loss is nan at step 13")

    records, why = recipe.until_it_fails(steps())
    assert [step.step for step in records] == [10] and why == "the loss is nan at step 13"
    assert recipe.until_it_fails(iter([]))[1] is None


def test_an_experiment_run_again_replaces_its_own_runs_alone(tmp_path, monkeypatch):
    steps = [TrainStep(10, 2.0, 100, 0.1, 1.0, 0.5)]
    monkeypatch.setattr(recipe, "EXPERIMENTS", {"a": lambda: ({"x": steps}, {"n": 1}), "b": lambda: ({"y": steps}, {})})
    path = recipe.record(tmp_path / "runs.json", experiments=("a", "b"))
    monkeypatch.setitem(recipe.EXPERIMENTS, "a", lambda: ({"z": steps}, {"n": 2}))
    recipe.record(path, experiments=("a",))
    runs, about = recordings.load(path)
    assert set(runs) == {"a / z", "b / y"} and about["a"] == {"n": 2} and "torch" in about
    assert recipe.recorded("a", path) == ({"z": steps}, {"n": 2})
    with pytest.raises(ValueError, match="experiment is 'c'; recorded are a, b"):
        recipe.recorded("c", path)


def test_the_recording_holds_what_the_notebook_reads():
    for name in recipe.EXPERIMENTS:
        runs, _ = recipe.recorded(name)
        for records in runs.values():
            steps = [one.step for one in records]
            assert steps == sorted(set(steps)) and all(math.isfinite(one.loss) for one in records)
    runs, _ = recipe.recorded("norm place")
    assert len(runs) == 4 * len(recipe.DEPTHS)
    _, found = recipe.recorded("positions")
    assert set(found) == set(recipe.POSITIONS)
    assert torch.tensor(found["learned"]["table"]).shape == (64, recipe.WIDTH)
