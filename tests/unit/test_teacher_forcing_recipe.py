"""The recorded runs of notebook 06: how long they are and how they are fed, and that the stored file fits the code."""

import math

import pytest
import torch

from arlab.recipes import teacher_forcing as recipe
from arlab.text.batches import IGNORE
from arlab.training.loop import TrainStep


def test_equal_time_means_more_steps_of_the_cheaper_kind():
    asked = []

    def run(name, regular, steps):
        asked.append((name, regular, steps))
        return [TrainStep(n, 1.0, n, 0.1, 1.0, n * (0.3 if regular else 0.1)) for n in range(1, steps + 1)]

    runs = recipe.three_runs(run, 100)
    assert asked == [
        ("teacher forcing", False, 100),
        ("regular", True, 100),
        ("teacher forcing, equal time", False, 300),
    ]
    assert list(runs) == [name for name, _, _ in asked] and len(runs["regular"]) == 100 // recipe.KEEP


def test_sums_are_right_and_only_the_answer_is_a_target():
    tokenizer, learn, test = recipe.sums()
    texts = [tokenizer.decode(row.tolist()) for row in torch.cat([learn, test])]
    assert len(set(texts)) == 10_000 and len(test) == 1000
    for text in texts[::97]:
        question, answer = text.split("=")
        assert len(answer) == 3 and sum(map(int, question.split("+"))) == int(answer)
    batch = next(recipe.answers_only(learn, 5, torch.Generator().manual_seed(0)))
    assert batch.tokens == 15 and (batch.targets[:, :5] == IGNORE).all()
    assert (batch.inputs[:, 6:] == batch.targets[:, 5:-1]).all()


def test_the_recording_holds_every_experiment_and_what_the_notebook_reads():
    for name in recipe.EXPERIMENTS:
        runs, _ = recipe.recorded(name)
        assert len(runs) >= 2
        for records in runs.values():
            steps = [one.step for one in records]
            assert steps == sorted(set(steps)) and all(math.isfinite(one.loss) for one in records)
            assert all(a.seconds < b.seconds for a, b in zip(records, records[1:], strict=False))
    smoothing = recipe.recorded("smoothing")[1]
    assert all(len(found) == 3 for found in smoothing.values())
    runs, sizes = recipe.recorded("sizes")
    for name, d_model in zip(runs, recipe.SIZES, strict=True):
        model = recipe.small_model(65, d_model)
        assert sizes["parameters"][name] == sum(p.numel() for p in model.parameters())


def test_an_experiment_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="experiment is 'size'; recorded are smoothing, text, addition, sizes"):
        recipe.recorded("size")
