"""Learning to learn: a transformer that reads examples (x, y) of an unknown linear function and predicts the next y.

Every row is a function of its own, so no weight can hold the answer: what the model knows of the function is in its
context alone. Trained over many functions, it learns how to use examples. Garg et al. (2022).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import eval_mode, model_device
from arlab.training.loop import TrainStep, make_optimizer
from arlab.training.schedule import learning_rate
from arlab.training.settings import Settings

Predictor = Callable[[Tensor, Tensor], Tensor]  # (x, y) -> (rows, n): [r, i] from x[r, i] and the i pairs before it


class Examples(NamedTuple):
    """Rows of examples, each row with a linear function of its own."""

    x: Float[Tensor, "rows n features"]
    y: Float[Tensor, "rows n"]  # w . x + noise
    w: Float[Tensor, "rows features"]

    def to(self, device) -> Examples:
        return Examples(*(each.to(device) for each in self))


@dataclass(frozen=True)
class LinearTasks:
    """y = w . x + noise, with w and x drawn from N(0, 1) and w divided by sqrt(features): y has a variance near 1.

    Raises:
        ValueError: features below 1, noise below 0.
    """

    features: int = 2
    noise: float = 0.0  # standard deviation

    def __post_init__(self) -> None:
        _check_integer("features", self.features)
        if not 0 <= self.noise < float("inf"):
            raise ValueError(f"noise is {self.noise}; it must be a finite number of 0 or more")

    def draw(self, rows: int, n: int, generator: torch.Generator | None = None) -> Examples:
        """`rows` functions, n examples of each; from a CPU generator, None: torch's global one.

        Raises:
            ValueError: rows or n below 1.
        """
        _check_integer("rows", rows)
        _check_integer("n", n)
        w = torch.randn(rows, self.features, generator=generator) / self.features**0.5
        x = torch.randn(rows, n, self.features, generator=generator)
        y = (x @ w[:, :, None])[..., 0] + self.noise * torch.randn(rows, n, generator=generator)
        return Examples(x, y, w)


class InContextModel(nn.Module):
    """A decoder that reads x1, y1, x2, y2, ... as vectors; at each x it predicts the y that follows.

    The blocks and the causal mask are those of DecoderLM, whose one "logit" is the prediction. The prediction at x_i
    has seen i - 1 whole examples, so that one pass answers for every number of examples.

    Args:
        features: numbers in an x.
        examples: how many fit; the context is two places an example. With positions="rotary" or "none" it costs
            nothing to allow more than the model is trained with.
        positions, d_model, layers, heads: as in DecoderConfig.
    """

    def __init__(
        self,
        features: int = 2,
        *,
        examples: int = 16,
        d_model: int = 64,
        layers: int = 3,
        heads: int = 4,
        positions: str = "learned",
        seed: int | None = None,
    ):
        super().__init__()
        _check_integer("features", features)
        _check_integer("examples", examples)
        config = DecoderConfig.gpt2(
            vocab_size=1,  # one number comes out
            context_length=2 * examples,
            d_model=d_model,
            layers=layers,
            heads=heads,
            positions=positions,
            tied=False,
        )
        self.features = features
        self.decoder = DecoderLM(config, seed=seed)
        self.decoder.embed_tokens.requires_grad_(False)  # nothing is looked up: vectors go in
        generator = None if seed is None else torch.Generator().manual_seed(seed + 1)
        # An x fills the first features, a y the next one; the last two say which of them it is.
        self.read_in = nn.Linear(features + 3, d_model, bias=False)
        nn.init.normal_(self.read_in.weight, 0.0, (features + 1) ** -0.5, generator=generator)

    @property
    def examples(self) -> int:
        """How many fit into the context."""
        return self.decoder.context_length // 2

    def forward(self, x: Float[Tensor, "rows n features"], y: Float[Tensor, "rows n"]) -> Float[Tensor, "rows n"]:
        """[r, i]: the prediction of y[r, i] from x[r, i] and the i examples before it. y[r, i] itself is not seen.

        Raises:
            ValueError: shapes that do not fit each other or the model; more examples than fit.
        """
        if x.dim() != 3 or x.size(-1) != self.features or y.shape != x.shape[:2] or x.size(1) < 1:
            raise ValueError(
                f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}; needed (rows, n, {self.features}) and (rows, n)"
            )
        if x.size(1) > self.examples:
            raise ValueError(f"{x.size(1)} examples do not fit: the model's context holds {self.examples}")
        return self.decoder.forward_embeddings(self.read_in(interleave(x, y)))[:, ::2, 0]


def interleave(
    x: Float[Tensor, "rows n features"], y: Float[Tensor, "rows n"]
) -> Float[Tensor, "rows two_n features_and_3"]:
    """x1, y1, x2, y2, ... as vectors: an x is (x, 0, 1, 0), a y is (0, y, 0, 1)."""
    as_x = torch.cat([x, x.new_tensor([0.0, 1.0, 0.0]).expand(*y.shape, 3)], dim=-1)
    as_y = torch.cat([torch.zeros_like(x), y[..., None], y.new_tensor([0.0, 1.0]).expand(*y.shape, 2)], dim=-1)
    return torch.stack([as_x, as_y], dim=2).flatten(1, 2)


def train_in_context(
    model: nn.Module,
    tasks: LinearTasks,
    *,
    n: int,
    steps: int,
    rows: int = 64,
    lr: float = 1e-3,
    warmup: int | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[TrainStep]:
    """New functions at every step, n examples of each; a TrainStep for each step, its loss the mean squared error.

    Every position is trained in one pass: after 0, 1, ... n - 1 examples. AdamW without decay, cosine schedule.

    Args:
        model: (x, y) -> predictions (rows, n), for example an InContextModel; changed in place.
        warmup: steps in which the learning rate rises; None for a twentieth of them.
        generator: a CPU generator for the functions. None: torch's global one.

    Raises:
        ValueError: settings that make no sense, or what the model says of the shapes.
        FloatingPointError: the loss is not finite.
    """
    warmup = steps // 20 if warmup is None else warmup
    settings = Settings(steps=steps, lr=lr, warmup=warmup, weight_decay=0.0)
    _check_integer("n", n)
    _check_integer("rows", rows)
    return _steps(model, tasks, n, rows, settings, generator)


def _steps(model, tasks, n, rows, settings: Settings, generator) -> Iterator[TrainStep]:
    optimizer, device = make_optimizer(model, settings), model_device(model)
    seconds = 0.0
    for step in range(1, settings.steps + 1):
        started = time.perf_counter()
        schedule = {name: getattr(settings, name) for name in ("steps", "lr", "warmup", "min_lr", "schedule")}
        rate = learning_rate(step, **schedule)
        for group in optimizer.param_groups:
            group["lr"] = rate
        x, y, _ = tasks.draw(rows, n, generator).to(device)
        model.train()
        loss = F.mse_loss(model(x, y), y)
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        error, norm = torch.stack([loss.detach(), norm]).tolist()  # one reading of the device for both
        if not math.isfinite(error + norm):
            raise FloatingPointError(f"step {step}: the loss is {error:g}, the gradient {norm:g}; try a smaller lr")
        optimizer.step()
        model.eval()
        seconds += time.perf_counter() - started
        yield TrainStep(step, error, step * rows * n, rate, norm, seconds)


def ridge(
    x: Float[Tensor, "rows n features"], y: Float[Tensor, "rows n"], penalty: float = 0.0
) -> Float[Tensor, "rows n"]:
    """[r, i]: the prediction of y[r, i] by ridge regression on the i examples before it, in float64.

    With penalty = features * noise^2 it is the mean of the exact posterior of `LinearTasks` (w is N(0, 1/features)):
    no predictor has a smaller expected squared error. With penalty 0 it is least squares, the shortest w where several
    fit, which is exact where there is no noise.

    Raises:
        ValueError: a penalty below 0.
    """
    weights = ridge_weights(x, y, penalty)
    return (weights * x.double()).sum(-1).to(y.dtype)


def ridge_weights(
    x: Float[Tensor, "rows n features"], y: Float[Tensor, "rows n"], penalty: float = 0.0
) -> Float[Tensor, "rows n features"]:
    """[r, i]: the w that ridge regression finds in the first i examples of row r, float64; zeros for i = 0.

    Raises:
        ValueError: a penalty below 0.
    """
    if not penalty >= 0:
        raise ValueError(f"penalty is {penalty}; it must be 0 or more")
    X, Y = x.double(), y.double()
    found = [torch.zeros_like(X[:, 0])]
    for i in range(1, X.size(1)):
        A, b = X[:, :i], Y[:, :i, None]
        if penalty == 0:
            solution = torch.linalg.pinv(A) @ b
        else:
            eye = torch.eye(X.size(-1), dtype=X.dtype, device=X.device)
            solution = torch.linalg.solve(A.mT @ A + penalty * eye, A.mT @ b)
        found.append(solution[..., 0])
    return torch.stack(found, dim=1)


@torch.no_grad()
def model_weights(
    predict: Predictor, x: Float[Tensor, "rows n features"], y: Float[Tensor, "rows n"], after: int
) -> Float[Tensor, "rows features"]:
    """The w by which the model predicts after `after` examples, (rows, features): its answers at unit vectors.

    f(e_j) - f(-e_j) over 2, for each feature j. If what the model computes of x is linear, that is its w; if not, it
    is the slope across the unit ball.

    Raises:
        ValueError: `after` below 0, or above the examples given.
    """
    if not 0 <= after <= x.size(1):
        raise ValueError(f"after is {after}; there are {x.size(1)} examples")
    slopes = []
    for unit in torch.eye(x.size(-1), device=x.device):
        ends = []
        for sign in (1.0, -1.0):
            query = (sign * unit).expand(x.size(0), 1, -1)
            seen_x = torch.cat([x[:, :after], query], dim=1)
            seen_y = torch.cat([y[:, :after], y.new_zeros(y.size(0), 1)], dim=1)  # the last y is not looked at
            with eval_mode(predict):
                ends.append(predict(seen_x, seen_y)[:, -1])
        slopes.append((ends[0] - ends[1]) / 2)
    return torch.stack(slopes, dim=-1)


@torch.no_grad()
def squared_errors(predict: Predictor, examples: Examples, part: int = 512) -> Float[Tensor, "rows n"]:
    """[r, i]: (prediction - y)^2 after i examples, on the CPU; its mean over the rows is the error by examples.

    Args:
        predict: (x, y) -> (rows, n), a model or a function such as `ridge`.
        part: rows in one pass.

    Raises:
        ValueError: predictions of another shape than y.
    """
    errors = []
    with eval_mode(predict):
        for x, y in zip(examples.x.split(part), examples.y.split(part), strict=True):
            x, y = x.to(model_device(predict)), y.to(model_device(predict))
            said = predict(x, y)
            if said.shape != y.shape:
                raise ValueError(f"predictions have shape {tuple(said.shape)}; needed that of y, {tuple(y.shape)}")
            errors.append(((said - y) ** 2).cpu())
    return torch.cat(errors)


def _check_integer(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be an integer of 1 or more")
