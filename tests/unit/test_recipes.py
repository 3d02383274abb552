"""What is shipped is what the recipes make: configs, sizes, first steps and final figures agree."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import islice

import pytest
import torch

from arlab.nn.model_file import load_model
from arlab.recipes import CHECKPOINTS, load, translation
from arlab.recipes.__main__ import main, recorders, report
from arlab.recipes.shakespeare import RECIPES, data, figures, make, model_of, steps_of
from arlab.training import recordings

MODELS = [name for name, recipe in RECIPES.items() if recipe.shipped]
ALL = [*MODELS, *translation.RECIPES]  # test_translation_recipe.py looks at the last closer


def told(name):
    return recordings.load(CHECKPOINTS / f"{name}.json")


def test_everything_shipped_has_a_recipe_and_the_other_way_round():
    assert sorted(path.stem for path in CHECKPOINTS.glob("*.safetensors")) == sorted(ALL)
    others = {path.stem for path in CHECKPOINTS.glob("*.json")} - set(ALL)
    assert {f"record_{name}" for name in others} == set(recorders())


@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_model_is_its_recipes(name):
    path = CHECKPOINTS / f"{name}.safetensors"
    model, tokenizer, about = load_model(path)
    assert model.config == RECIPES[name].config and about == {"recipe": name}
    assert tokenizer.token_strings() == data()[0].token_strings()
    assert path.stat().st_size <= 4_000_000
    assert load(name)[0].config == model.config


@pytest.mark.parametrize("name", MODELS)
def test_the_final_figures_are_those_of_the_shipped_weights(name):
    """Forward passes of other processors differ in the sixth digit; the text is drawn, and so not compared."""
    _, about = told(name)
    now = figures(name, CHECKPOINTS / f"{name}.safetensors")
    assert now["validation_loss"] == pytest.approx(about["validation_loss"], abs=2e-4)
    same = ("recipe", "about", "seed", "data", "parameters", "bytes")
    assert {key: now[key] for key in same} == {key: about[key] for key in same}
    recipe = RECIPES[name]
    assert about["steps"] == recipe.steps
    assert about["training_tokens"] == recipe.steps * recipe.rows * recipe.config.context_length


def test_strong_and_weak_deserve_their_names():
    strong, weak = (told(name)[1]["validation_loss"] for name in ("shakespeare_strong", "shakespeare_weak"))
    assert strong < 1.6 and strong + 0.2 < weak < 2.2


@pytest.mark.parametrize(("name", "steps"), [("shakespeare_weak", 10), ("shakespeare_strong", 3)])
def test_the_recipe_begins_as_it_did(name, steps):
    """The first steps, trained again here: losses to a thousandth, for the kernels of another processor."""
    runs, _ = told(name)
    again = list(islice(steps_of(RECIPES[name], model_of(RECIPES[name])), steps))
    for now, then in zip(again, runs["training"][:steps], strict=True):
        assert now.step == then.step and now.loss == pytest.approx(then.loss, rel=1e-3)


def test_two_processes_follow_the_same_recipe(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*torchrun, "-m", "arlab.recipes", "shakespeare_weak", "--steps", "5", "--out", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.count("validation loss") == 1  # one of the two reports
    together, _ = recordings.load(tmp_path / "shakespeare_weak.json")
    alone, _ = told("shakespeare_weak")
    losses = [[step.loss for step in runs["training"][:5]] for runs in (together, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shakespeare_weak.json", "shakespeare_weak.safetensors"]


def test_stopped_and_resumed_it_is_made_in_one_piece(tmp_path, monkeypatch):
    recipe = RECIPES["shakespeare_weak"]
    model = model_of(recipe)
    steps = steps_of(recipe, model, checkpoint=tmp_path / "shakespeare_weak.training.safetensors")
    begun = [next(steps) for _ in range(3)]
    steps.close()
    assert main(["shakespeare_weak", "--steps", "5", "--out", str(tmp_path), "--resume"]) == 0
    runs, about = recordings.load(tmp_path / "shakespeare_weak.json")
    assert [step.step for step in runs["training"]] == [4, 5] and about["steps"] == 5
    whole = list(islice(steps_of(recipe, model_of(recipe)), 5))
    assert [s.loss for s in begun] == [s.loss for s in whole[:3]]
    assert [s.loss for s in runs["training"]] == pytest.approx([s.loss for s in whole[3:]], rel=1e-5)


def test_finished_but_for_its_figures_it_is_not_trained_again(tmp_path, monkeypatch):
    """Stopped after the last step, before anything was written but the training checkpoint."""
    recipe = replace(RECIPES["shakespeare_weak"], steps=3, settings={})
    monkeypatch.setitem(RECIPES, "shakespeare_weak", recipe)
    model = model_of(recipe)
    done = list(steps_of(recipe, model, validation=None, checkpoint=tmp_path / "shakespeare_weak.training.safetensors"))
    about = make("shakespeare_weak", tmp_path, resume=True)
    assert (about["steps"], about["training_tokens"]) == (3, done[-1].tokens)
    stored, _, _ = load_model(tmp_path / "shakespeare_weak.safetensors")
    assert torch.equal(stored.head.weight, model.head.weight.bfloat16().float())


def test_a_trial_is_shorter_than_what_was_trained_already_and_cannot_be_shipped(tmp_path, capsys):
    recipe = RECIPES["shakespeare_weak"]
    steps = steps_of(recipe, model_of(recipe), checkpoint=tmp_path / "shakespeare_weak.training.safetensors")
    for _ in range(3):
        next(steps)
    steps.close()
    assert make("shakespeare_weak", tmp_path, resume=True, stop_after=2)["steps"] == 4
    before = (CHECKPOINTS / "shakespeare_weak.json").read_bytes()
    with pytest.raises(SystemExit):
        main(["shakespeare_weak", "--steps", "1", "--ship"])
    assert "a trial" in capsys.readouterr().err
    assert (CHECKPOINTS / "shakespeare_weak.json").read_bytes() == before


def test_the_command_lists_what_there_is(capsys):
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in [*RECIPES, *translation.RECIPES, *recorders()])
    with pytest.raises(SystemExit):
        main(["shakespeare_stronger"])
    with pytest.raises(ValueError, match="no shipped model is called 'gpt-5'; there are shakespeare_strong"):
        load("gpt-5")


def test_the_readme_prints_what_the_command_printed():
    readme = (CHECKPOINTS.parent.parent / "README.md").read_text(encoding="utf-8")
    for name in ALL:
        assert report(told(name)[1]) in readme


def test_no_gradient_is_left_in_a_shipped_model():
    model, tokenizer = load("shakespeare_weak")
    assert not model.training and all(p.grad is None for p in model.parameters())
    ids = torch.tensor([tokenizer.encode("ROMEO:")])
    assert model(ids).shape == (1, 6, 65)
