"""Notebook 01's recorded run: what stands in the file is what the recipe makes."""

from arlab.recipes import autoregression as recipe
from arlab.training import recordings


def test_the_architectures_are_of_one_size():
    sizes = {name: sum(p.numel() for p in build().parameters()) for name, build in recipe.architectures(65).items()}
    assert max(sizes.values()) < 1.05 * min(sizes.values()), sizes


def test_the_recording_is_of_these_models_and_this_budget():
    runs, about = recordings.load(recipe.RECORDING)
    assert about["parameters"] == {
        name: sum(p.numel() for p in build().parameters()) for name, build in recipe.architectures(65).items()
    }
    assert {k: about[k] for k in ("lr", "warmup")} == recipe.SETTINGS
    for steps in runs.values():
        assert [s.step for s in steps] == list(range(recipe.KEEP, about["steps"] + 1, recipe.KEEP))
        assert steps[-1].tokens == about["steps"] * recipe.ROWS * recipe.CONTEXT
        assert steps[-1].validation_loss is not None


def test_record_trains_and_writes(monkeypatch, tmp_path, capsys):
    """A record for every KEEP steps; the last of a short trial has a validation loss too."""
    monkeypatch.setattr(recipe.shakespeare, "tiny_shakespeare", lambda: "to be or not to be, " * 130)
    monkeypatch.setattr(recipe, "KEEP", 10)
    runs, about = recordings.load(recipe.record(tmp_path / "run.json", steps=30))
    assert list(runs) == list(about["parameters"]) == ["window of 8", "RNN", "transformer"]
    for steps in runs.values():
        assert [s.step for s in steps] == [10, 20, 30]
        assert steps[2].loss < steps[1].loss < steps[0].loss
        assert steps[2].seconds > steps[1].seconds > 0
        assert steps[2].validation_loss < 4 and steps[0].validation_loss is None
    assert capsys.readouterr().out.count("parameters, validation") == 3
