"""Regression in context: the functions, the model that reads examples of them, and the exact answer beside it."""

import pytest
import torch
from torch import nn

from arlab.training.in_context import (
    InContextModel,
    LinearTasks,
    interleave,
    model_weights,
    ridge,
    ridge_weights,
    squared_errors,
    train_in_context,
)

TASKS = LinearTasks(features=2)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small(**settings):
    return InContextModel(2, **{"examples": 6, "d_model": 16, "layers": 2, "heads": 2, "seed": 0, **settings}).eval()


# --- the functions


def test_every_row_has_a_function_of_its_own():
    x, y, w = TASKS.draw(50, 7, seeded())
    assert x.shape == (50, 7, 2) and y.shape == (50, 7) and w.shape == (50, 2)
    assert torch.allclose(torch.einsum("rnf,rf->rn", x, w), y, atol=1e-6)
    assert len({tuple(row) for row in w.tolist()}) == 50
    again = TASKS.draw(50, 7, seeded())
    assert torch.equal(again.x, x) and torch.equal(again.y, y)


@pytest.mark.parametrize("features", [1, 2, 5])
def test_y_has_a_variance_near_1(features):
    """40,000 functions, one example each: the standard error of the mean of y^2 is at most .02; five of them."""
    y = LinearTasks(features).draw(40_000, 1, seeded()).y
    assert y.square().mean().item() == pytest.approx(1.0, abs=0.1)


def test_noise_is_what_is_left():
    """20,000 draws: the standard error of the deviation is .5 %; six of them."""
    x, y, w = LinearTasks(2, noise=0.3).draw(2000, 10, seeded())
    assert (y - torch.einsum("rnf,rf->rn", x, w)).std().item() == pytest.approx(0.3, rel=0.03)


@pytest.mark.parametrize("settings", [{"features": 0}, {"noise": -0.1}, {"noise": float("nan")}])
def test_functions_that_make_no_sense(settings):
    with pytest.raises(ValueError, match="it must be"):
        LinearTasks(**settings)
    with pytest.raises(ValueError, match="rows is 0"):
        TASKS.draw(0, 3)


# --- the exact answer


def test_least_squares_is_exact_from_as_many_examples_as_features():
    examples = TASKS.draw(200, 6, seeded())
    errors = squared_errors(ridge, examples)
    assert errors.shape == (200, 6)
    assert torch.allclose(errors[:, 0], examples.y[:, 0] ** 2, atol=1e-6)  # nothing known: 0 is the best guess
    assert errors[:, 1].mean() > 0.1 and errors[:, 2:].max() < 1e-4


def test_ridge_is_the_mean_of_the_posterior():
    """Against the joint normal distribution of (y_1 .. y_i, y): mean = k^T K^-1 y, without ever finding w."""
    tasks = LinearTasks(3, noise=0.5)
    x, y, _ = tasks.draw(20, 6, seeded(1))
    said = ridge(x.double(), y.double(), penalty=3 * 0.5**2)
    for i in range(6):
        kernel = (x[:, : i + 1].double() @ x[:, : i + 1].double().mT) / 3
        K = kernel[:, :i, :i] + 0.25 * torch.eye(i, dtype=torch.float64)
        mean = (kernel[:, i : i + 1, :i] @ torch.linalg.solve(K, y[:, :i, None].double()))[:, 0, 0]
        assert torch.allclose(said[:, i], mean, atol=1e-10)


def test_with_noise_the_right_penalty_beats_the_others():
    """The same 4,000 functions for each: their differences, not their means, are compared."""
    examples = LinearTasks(2, noise=0.5).draw(4000, 4, seeded(2))
    error = {p: squared_errors(lambda x, y, p=p: ridge(x, y, p), examples).mean() for p in (0.0, 0.05, 0.5, 5.0)}
    assert min(error, key=error.get) == 0.5


def test_the_weights_that_ridge_finds():
    x, y, w = TASKS.draw(9, 5, seeded())
    found = ridge_weights(x, y)
    assert found.shape == (9, 5, 2) and found.dtype == torch.float64 and not found[:, 0].any()
    assert torch.allclose(found[:, 4].float(), w, atol=1e-3)
    # one example: the shortest w that fits it, along x
    along = (
        found[:, 1] - (found[:, 1] * x[:, 0]).sum(-1, keepdim=True) / x[:, 0].square().sum(-1, keepdim=True) * x[:, 0]
    )
    assert along.abs().max() < 1e-6
    with pytest.raises(ValueError, match="penalty is -1"):
        ridge(x, y, -1)


# --- the model


def test_what_goes_in():
    x, y = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[5.0, 6.0]])
    assert interleave(x, y).tolist() == [[[1, 2, 0, 1, 0], [0, 0, 5, 0, 1], [3, 4, 0, 1, 0], [0, 0, 6, 0, 1]]]


@pytest.mark.parametrize("positions", ["learned", "rotary", "none"])
def test_one_pass_answers_for_every_number_of_examples(positions):
    """The prediction after i examples is that of a pass that is given i examples and the query alone."""
    model = small(positions=positions)
    x, y, _ = TASKS.draw(3, 6, seeded())
    whole = model(x, y)
    for i in range(6):
        hidden = torch.cat([y[:, :i], torch.full((3, 1), 99.0)], dim=1)  # its own y is not seen
        assert torch.allclose(model(x[:, : i + 1], hidden)[:, -1], whole[:, i], atol=1e-5)


def test_no_prediction_sees_its_answer_or_what_follows():
    model = small()
    x, y, _ = TASKS.draw(1, 6, seeded())
    y.requires_grad_(True)
    for i, said in enumerate(model(x, y)[0]):
        (gradient,) = torch.autograd.grad(said, y, retain_graph=True)
        assert not gradient[0, i:].any() and gradient[0, :i].all()


def test_the_sizes_it_is_asked_for():
    assert small().examples == 6 and small().decoder.context_length == 12
    assert all(torch.equal(a, b) for a, b in zip(small().parameters(), small().parameters(), strict=True))
    x, y, _ = TASKS.draw(2, 7, seeded())
    with pytest.raises(ValueError, match="7 examples do not fit: the model's context holds 6"):
        small()(x, y)
    with pytest.raises(ValueError, match="needed"):
        small()(x[:, :3, :1], y[:, :3])
    with pytest.raises(ValueError, match="examples is 0"):
        InContextModel(2, examples=0)


class Part(nn.Module):
    """A part of least squares' prediction; which part is to be learned, and the whole is best."""

    def __init__(self):
        super().__init__()
        self.part = nn.Parameter(torch.tensor([[0.2]]))

    def forward(self, x, y):
        return self.part * ridge(x, y)


def test_training_finds_what_there_is_to_find():
    model = Part()
    steps = list(train_in_context(model, TASKS, n=5, steps=60, rows=16, lr=0.05, generator=seeded(1)))
    assert model.part.item() == pytest.approx(1.0, abs=0.05)
    assert [step.step for step in steps] == list(range(1, 61)) and steps[-1].tokens == 60 * 16 * 5
    assert steps[-1].loss < steps[0].loss and not model.training


def test_the_steps_are_those_of_a_loop_by_hand():
    """Fresh gradients, clipped to a norm of 1, AdamW at the rate that the step reports; in train mode."""
    model, twin, modes = small(), small(), []
    model.register_forward_hook(lambda *_: modes.append(model.training))
    for each in (model, twin):
        with torch.no_grad():
            each.decoder.head.weight.mul_(50)  # so that gradients are long, and clipping does something
    weights = [parameter for parameter in twin.parameters() if parameter.requires_grad]
    optimizer, generator = torch.optim.AdamW(weights, betas=(0.9, 0.95), weight_decay=0.0), seeded(1)
    settings = {"n": 4, "steps": 6, "rows": 8, "lr": 0.01, "warmup": 3, "generator": seeded(1)}
    rates, norms = [], []
    for step in train_in_context(model, TASKS, **settings):
        x, y, _ = TASKS.draw(8, 4, generator)
        optimizer.zero_grad()
        loss = (twin(x, y) - y).square().mean()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(weights, 1.0)))
        for group in optimizer.param_groups:
            group["lr"] = step.lr
        optimizer.step()
        rates.append(step.lr)
        assert step.loss == pytest.approx(loss.item(), rel=1e-3)
        assert step.grad_norm == pytest.approx(norms[-1], rel=1e-2)
    assert rates[0] < rates[1] < rates[2] == pytest.approx(0.01) and rates[2] > rates[3] > rates[5]
    assert max(norms) > 2.0 and modes == [True] * 6


def test_training_is_repeatable():
    runs = []
    for _ in range(2):
        model = small()
        losses = [s.loss for s in train_in_context(model, TASKS, n=4, steps=5, rows=8, generator=seeded(1))]
        runs.append((losses, [parameter.detach().clone() for parameter in model.parameters()]))
    assert runs[0][0] == runs[1][0] and all(map(torch.equal, runs[0][1], runs[1][1]))
    assert not torch.equal(runs[0][1][-1], list(small().parameters())[-1])
    assert torch.equal(model.decoder.embed_tokens.weight, small().decoder.embed_tokens.weight)  # never used


def test_the_loss_is_the_mean_over_every_number_of_examples():
    model = small()
    expected = squared_errors(model, TASKS.draw(5, 4, seeded(3))).mean().item()
    first = next(train_in_context(model, TASKS, n=4, steps=1, rows=5, generator=seeded(3)))
    assert first.loss == pytest.approx(expected, rel=1e-5)


def test_settings_that_make_no_sense():
    for settings, message in (({"n": 0}, "n is 0"), ({"rows": 0}, "rows is 0"), ({"steps": 0}, "steps is 0")):
        with pytest.raises(ValueError, match=message):
            train_in_context(small(), TASKS, **{"n": 4, "steps": 5, **settings})
    with pytest.raises(FloatingPointError, match="step 1"):
        model = small()
        with torch.no_grad():
            model.read_in.weight.fill_(float("nan"))
        list(train_in_context(model, TASKS, n=4, steps=2, rows=4))


def test_the_slope_of_a_linear_predictor_is_its_w():
    """A predictor that is ridge itself gives ridge's own weights back."""
    x, y, _ = TASKS.draw(8, 5, seeded())
    found = ridge_weights(x, y, 0.1)
    for after in (0, 1, 4):
        slopes = model_weights(lambda a, b: ridge(a, b, 0.1), x, y, after)
        assert torch.allclose(slopes.double(), found[:, after], atol=1e-5)
    with pytest.raises(ValueError, match="after is 6"):
        model_weights(ridge, x, y, 6)


def test_a_predictor_of_another_shape_is_named():
    with pytest.raises(ValueError, match="predictions have shape"):
        squared_errors(lambda x, y: y[:, :1], TASKS.draw(4, 3, seeded()))


def test_parts_make_no_difference():
    model, examples = small(), TASKS.draw(10, 6, seeded())
    assert torch.allclose(squared_errors(model, examples, part=3), squared_errors(model, examples), atol=1e-6)
