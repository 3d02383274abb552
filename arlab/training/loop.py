"""The training loop as an iterator: `for step in train(model, batches, steps=300): ...`

Each turn takes a batch (or `accumulate` of them), computes the loss of every position in one parallel pass (teacher
forcing), and makes one step of AdamW. What the caller does between two turns, draw, sample, stop, is the caller's own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from arlab.nn.language_model import eval_mode
from arlab.text.batches import Batch
from arlab.training import checkpoints
from arlab.training.losses import check_targets, next_token_loss
from arlab.training.processes import Processes
from arlab.training.schedule import check_schedule, learning_rate


@dataclass(frozen=True)
class TrainStep:
    """What one step did."""

    step: int  # 1 for the first
    loss: float  # mean over the step's targets, in nats; with label smoothing, the smoothed one
    tokens: int  # targets trained on so far
    lr: float
    grad_norm: float  # over all parameters, before clipping
    seconds: float  # spent training so far; what the caller does between two steps is not counted
    validation_loss: float | None = None  # where one was asked for at this step


@dataclass(frozen=True)
class Settings:
    """How to train; the keyword arguments of `train`."""

    steps: int | None = None
    lr: float = 1e-3
    warmup: int = 0
    min_lr: float | None = None
    schedule: str = "cosine"
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    clip: float | None = 1.0
    accumulate: int = 1
    label_smoothing: float = 0.0
    validation: Sequence[Batch] | None = None
    evaluate_every: int | None = None
    autocast: torch.dtype | None = None
    compile: bool = False
    checkpoint: str | Path | None = None
    save_every: int | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        check_schedule(steps=self.steps, lr=self.lr, warmup=self.warmup, min_lr=self.min_lr, schedule=self.schedule)
        for name in ("steps", "accumulate", "evaluate_every", "save_every"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} is {value!r}; it must be an integer of 1 or more")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip is {self.clip}; it must be above 0, or None for no clipping")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing}; it must be at least 0 and below 1")
        if self.evaluate_every is not None and not self.validation:
            raise ValueError("evaluate_every is set, but validation holds no batch to evaluate on")
        if (self.save_every is not None or self.resume) and self.checkpoint is None:
            raise ValueError("save_every and resume need to know the file: give checkpoint=...")


def train(model: nn.Module, batches: Iterable[Batch], **settings) -> Iterator[TrainStep]:
    """Train `model` on `batches`, a TrainStep for each step.

    The model is on its device already and is changed in place; between two steps and afterwards it is in eval mode,
    so that you may sample from it. When a step's record arrives, its gradients, clipped, still lie in `.grad`. A
    step's loss is the sum over all its targets divided by their number, also when it is gathered from `accumulate`
    batches of unequal length. Under `torchrun` every process is given the same batches and takes its own rows of
    each, and the steps are those of one process (see arlab/training/processes.py).

    Args:
        batches: an iterable of Batch, endless or not; training ends with it, or after `steps`.
        steps, lr, warmup, min_lr, schedule: see arlab/training/schedule.py. steps may be left out when batches has
            a length.
        betas, weight_decay: AdamW's; the decay falls on matrices and tables alone, not on biases and norms.
        clip: the largest norm of the gradient (Pascanu et al., 2013); None for none.
        accumulate: batches for one step.
        label_smoothing: see next_token_loss.
        validation, evaluate_every: batches for `evaluate`, every so many steps and after the last one.
        autocast: torch.bfloat16 to run the products in it; weights stay as they are.
        compile: run the model through torch.compile.
        checkpoint, save_every, resume: the file that keeps everything needed to go on, written every so many steps,
            at the end and when you stop; resume=True goes on from it, if it is there, as if nothing had happened.

    Raises:
        ValueError: settings that make no sense, a target outside the vocabulary, a step without any target, no
            batches at all, a checkpoint of another model.
        FloatingPointError: the loss or the gradient is not finite. The weights are still those of the step before,
            and the checkpoint is left alone.
        OSError: a checkpoint could not be written; the former one is untouched.

    Source: Loshchilov and Hutter (2019) for AdamW; lectures 000, 001 and 003.
    """
    if settings.get("steps") is None and hasattr(batches, "__len__"):
        settings["steps"] = max(1, len(batches) // settings.get("accumulate", 1))
    return _steps(model, batches, Settings(**settings))  # checked here and now, not at the first step


def fit(model: nn.Module, batches: Iterable[Batch], *, progress: bool = False, **settings) -> list[TrainStep]:
    """`train` to its end, and all its records. Stopped by hand (KeyboardInterrupt), it returns those it has; what the
    model has learned stays in the model.

    Args:
        progress: a bar in a notebook, plain lines in a terminal.
    """
    steps = train(model, batches, **settings)
    if progress:
        from arlab.training.progress import bar  # tqdm is needed here alone

        steps = bar(steps, settings.get("steps"))
    records: list[TrainStep] = []
    with closing(steps):
        try:
            records.extend(steps)
        except KeyboardInterrupt:
            print(
                f"stopped by hand after step {records[-1].step if records else 0}; the model keeps what it has learned"
            )
    return records


@torch.no_grad()
def evaluate(model: Callable, batches: Iterable[Batch], *, autocast: torch.dtype | None = None) -> float:
    """Mean -ln p(target) over all targets of the batches that count, in nats; dropout is off.

    Raises:
        ValueError: no batch, or none with a target.
    """
    device = next(model.parameters()).device if isinstance(model, nn.Module) else torch.device("cpu")
    total, counted = 0.0, 0  # a Python float: float32 would lose digits over many batches
    with eval_mode(model):
        for batch in batches:
            inputs, targets = Batch(*batch).to(device)
            with _precision(device, autocast):
                logits = model(inputs)
            total += float(next_token_loss(logits, targets, reduction="sum"))
            counted += Batch(*batch).tokens
    if counted == 0:
        raise ValueError("there is nothing to evaluate: no batch has a target that counts")
    return total / counted


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.AdamW:
    """AdamW; weight decay for matrices and tables only, and torch's fused kernel wherever there is one."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    fused = {p.device.type for p in parameters} <= {"cpu", "cuda", "mps"} and all(
        p.is_floating_point() for p in parameters
    )
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=fused)


def _steps(model: nn.Module, batches: Iterable[Batch], settings: Settings) -> Iterator[TrainStep]:
    optimizer, processes = make_optimizer(model, settings), Processes.now()
    forward = processes.wrap(torch.compile(model) if settings.compile else model)
    record = TrainStep(step=0, loss=math.nan, tokens=0, lr=0.0, grad_norm=math.nan, seconds=0.0)
    saved = 0
    if settings.resume and Path(settings.checkpoint).exists():
        record = replace(record, **checkpoints.load_training(settings.checkpoint, model, optimizer))
        saved = record.step
    stream = iter(batches)
    for _ in islice(stream, record.step * settings.accumulate):
        pass  # a stream that is made anew begins with the batches that were trained on before
    try:
        while settings.steps is None or record.step < settings.steps:
            started = time.perf_counter()
            group = [Batch(*batch) for batch in islice(stream, settings.accumulate)]
            if not group:
                break
            record = _step(model, forward, group, optimizer, processes, settings, record)
            last = record.step == settings.steps
            every = settings.evaluate_every
            if settings.validation and (last or (every and record.step % every == 0)):
                loss = evaluate(model, settings.validation, autocast=settings.autocast)
                record = replace(record, validation_loss=loss)
            record = replace(record, seconds=record.seconds + time.perf_counter() - started)
            if settings.save_every and record.step % settings.save_every == 0:
                saved = _save(model, optimizer, processes, settings, record)
            yield record
            record = replace(record, validation_loss=None)
    except (KeyboardInterrupt, GeneratorExit):  # the caller has seen enough
        if settings.checkpoint is not None and record.step > saved:
            _save(model, optimizer, processes, settings, record)
        raise
    if record.step == 0:
        raise ValueError("batches is empty: there is nothing to train on")
    if settings.checkpoint is not None and record.step > saved:
        _save(model, optimizer, processes, settings, record)


def _step(model, forward, group, optimizer, processes, settings: Settings, before: TrainStep) -> TrainStep:
    """One update from a group of batches; the weights are touched only when loss and gradient are finite."""
    step = before.step + 1
    lr = learning_rate(
        step,
        steps=settings.steps,
        lr=settings.lr,
        warmup=settings.warmup,
        min_lr=settings.min_lr,
        schedule=settings.schedule,
    )
    for parameters in optimizer.param_groups:
        parameters["lr"] = lr
    tokens = sum(check_targets(batch.targets, model.vocab_size) for batch in group)
    if tokens == 0:
        raise ValueError(f"step {step} has no target that counts: its batches are all padding")
    optimizer.zero_grad()
    model.train()
    total = _backward(model, forward, group, tokens, processes, settings)
    model.eval()
    norm = nn.utils.clip_grad_norm_(model.parameters(), math.inf if settings.clip is None else settings.clip)
    # One reading of the device for both numbers. What is not finite must not get into the weights.
    loss, norm = torch.stack([total / tokens, norm.to(total)]).tolist()
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise FloatingPointError(_not_finite(step, loss, norm, lr, settings))
    optimizer.step()
    return replace(before, step=step, loss=loss, tokens=before.tokens + tokens, lr=lr, grad_norm=norm)


def _backward(model, forward, group, tokens: int, processes, settings: Settings) -> Tensor:
    """Gradients of (sum of all losses) / (number of all targets); returns that sum."""
    device = next(model.parameters()).device
    total = torch.zeros((), device=device)
    for i, batch in enumerate(group):
        inputs, targets = processes.part(batch).to(device)
        together = nullcontext() if i == len(group) - 1 else processes.no_sync(forward)
        with together:
            with _precision(device, settings.autocast):
                logits = forward(inputs)
            loss = next_token_loss(logits, targets, label_smoothing=settings.label_smoothing, reduction="sum")
            (loss * (processes.count / tokens)).backward()  # DistributedDataParallel divides by the processes again
        total += loss.detach()
    return processes.sum(total)


def _precision(device: torch.device, dtype: torch.dtype | None):
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def _save(model, optimizer, processes, settings: Settings, record: TrainStep) -> int:
    if processes.first:
        checkpoints.save_training(
            settings.checkpoint, model, optimizer, step=record.step, tokens=record.tokens, seconds=record.seconds
        )
    return record.step


def _not_finite(step: int, loss: float, norm: float, lr: float, settings: Settings) -> str:
    kept = "" if settings.checkpoint is None else f", and {settings.checkpoint} is left as it is"
    return (
        f"step {step}: the loss is {loss:g} and the gradient's norm {norm:g} (learning rate {lr:g}). "
        f"The weights are still those of step {step - 1}{kept}. A smaller lr or a longer warmup may help."
    )
