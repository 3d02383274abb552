"""The recorded run of notebook 16: the task, the unsteady hand, what is measured, and that the shipped file holds."""

import pytest
import torch

from arlab.decoding import sample
from arlab.nn.language_model import Recompute
from arlab.recipes import exposure_bias as recipe
from arlab.text.batches import IGNORE
from arlab.training import recordings


class Rule(torch.nn.Module):
    """A model that knows one of the task's two rules: from the digit before, or from the question."""

    def __init__(self, carries_on):
        super().__init__()
        self.carries_on = carries_on

    def forward(self, ids):
        s, d = ids[:, :1], ids[:, 1:2] - 10 if ids.size(1) > 1 else ids[:, :1] * 0
        said = (s + (torch.arange(ids.size(1)) - 1) * d) % 10  # position 1 reads the step and says digit 0
        if self.carries_on:
            said[:, 2:] = (ids[:, 2:] + d) % 10
        return 50 * torch.nn.functional.one_hot(said, 20).float()


def rule(carries_on):
    return Recompute(Rule(carries_on), vocab_size=20, context_length=14)


def test_the_task_has_one_answer_that_two_rules_give():
    assert len(recipe.questions()) == 100 and recipe.answer([3, 14]) == [3, 7, 1, 5, 9, 3, 7, 1, 5, 9, 3, 7]
    batch = recipe.everything(times=2)
    assert batch.inputs.shape == batch.targets.shape == (200, 13)
    assert bool((batch.targets[:, 0] == IGNORE).all()) and batch.tokens == 200 * 12
    for carries_on in (True, False):
        model = rule(carries_on)
        assert recipe.mean_accuracy(model, recipe.questions()) == 1.0


def test_an_error_tells_the_rules_apart():
    carried, repaired = (recipe.after_error(rule(carries_on)) for carries_on in (True, False))
    assert carried["right"] == [0.0] * 11 and carried["carried"] == [1.0] * 11
    assert repaired["right"] == [1.0] * 11 and repaired["carried"] == [0.0] * 11
    shares = recipe.by_position(rule(True))
    assert shares["truth"] == shares["itself"] == [1.0] * 12
    assert shares["slips"][0] == 1 and shares["slips"][-1] < 0.5  # .9^11 = .31, and slips that undo slips
    assert recipe.by_position(rule(False))["slips"] == [1.0] * 12


def test_the_unsteady_hand_slips_at_its_rate():
    """9,600 digits; a slip shows in 9 of 10 cases: .09, standard error .003, five of them; odds of 6e-7."""
    hand = recipe.Slipping(rule(False), 0.1)
    ids = torch.tensor([q + recipe.answer(q) for q in recipe.questions()])
    p = hand(ids[:, :-1]).exp()
    assert torch.allclose(p.sum(-1), torch.ones(100, 13), atol=1e-5)
    assert torch.allclose(p[:, 1:].gather(-1, ids[:, 2:, None]), torch.tensor(0.91), atol=1e-5)
    drawn = sample(hand, recipe.questions(), max_new_tokens=12, n=8, generator=torch.Generator().manual_seed(0)).ids
    wrong = (drawn != ids[:, None, 2:]).float().mean().item()
    assert abs(wrong - 0.09) < 5 * 0.003


def test_a_hand_over_a_very_sure_model_has_a_gradient():
    """A step symbol whose probability underflows to 0: log 0 would make every gradient nan."""
    model = recipe.new_model(0)
    hand = recipe.Slipping(model)
    with torch.no_grad():
        model.head.weight.mul_(2000.0)
    hand(torch.tensor([[3, 14]]))[..., :10].sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


def test_questions_that_are_trained_on_are_those_given():
    some = recipe.questions()[:3]
    batch = next(recipe.batches(torch.Generator().manual_seed(0), some))
    assert batch.inputs.shape == (recipe.ROWS, 13)
    assert {tuple(row[:2]) for row in batch.inputs.tolist()} == {tuple(q) for q in some}


@pytest.mark.parametrize("method", recipe.METHODS[:-1])
def test_each_method_begins_to_learn_and_is_repeatable(method):
    runs = [recipe.train_one(method, seed, steps=4) for seed in (0, 0, 1)]
    assert runs[0][2] == runs[1][2] != runs[2][2]
    assert all(torch.equal(a, b) for a, b in zip(runs[0][0].parameters(), runs[1][0].parameters(), strict=True))


def test_sequence_level_training_leaves_its_start_alone():
    start = recipe.new_model(0)
    before = [parameter.clone() for parameter in start.parameters()]
    model, _, rewards = recipe.sequence_level(start, 0, steps=2)
    assert all(torch.equal(a, b) for a, b in zip(start.parameters(), before, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
    assert len(rewards) == 2 and all(0 <= reward <= 1 for reward in rewards)
    assert recipe.share_right(recipe.answer([3, 14]), [3, 14]) == 1 and recipe.share_right([3, 8, 1], [3, 14]) == 2 / 12
    with pytest.raises(ValueError, match="method is 'none'; it must be one of teacher forcing"):
        recipe.train_one("none", 0, 1)
    assert recipe.thinned([1.0, 2.0, 6.0], 2) == [1.5, 6.0]


def test_the_shipped_recording_holds_together():
    about = recipe.recorded()
    assert recordings.load(recipe.FILE)[0] == {} and tuple(about["methods"]) == recipe.METHODS
    late = {}
    for name, runs in about["methods"].items():
        assert [run["seed"] for run in runs] == [0, 1, 2, 3, 4]
        for run in runs:
            assert [len(run[key]) for key in ("truth", "itself", "slips", "right", "carried")] == [12, 12, 12, 11, 11]
        late[name] = [sum(run["slips"][6:]) / 6 for run in runs]
    assert max(late["teacher forcing"]) < 0.7 < min(late["random prefixes"])
    for seed in zip(*(late[name] for name in recipe.METHODS[:5]), strict=True):
        assert list(seed) == sorted(seed)  # the order that the notebook tells holds in every seed
    assert all(min(run["itself"]) > 0.95 for run in about["methods"]["teacher forcing"])
    assert [row["steps"] for row in about["better_modelling"]] == [25, 50, 100, 200, 400]
    assert [row["questions"] for row in about["fewer_questions"]] == [30, 60, 90]


def test_a_short_recording_has_the_shape_of_the_shipped_one(tmp_path):
    path = recipe.record(tmp_path / "short.json", seeds=(1,), steps=25, rewarded=1)
    found, shipped = recipe.recorded(path), recipe.recorded()
    assert found.keys() == shipped.keys() and tuple(found["methods"]) == recipe.METHODS
    for name, runs in found["methods"].items():
        assert [run.keys() for run in runs] == [shipped["methods"][name][0].keys()]
    assert [row["steps"] for row in found["better_modelling"]] == [25]
    assert [row.keys() for row in found["fewer_questions"]] == [row.keys() for row in shipped["fewer_questions"]]
