"""The training loop as an iterator: `for step in train(model, batches, steps=300): ...`

Each turn takes a batch (or `accumulate` of them), computes the loss of every position in one parallel pass (teacher
forcing), and makes one step of AdamW. What the caller does between two turns, draw, sample, stop, is the caller's own.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from arlab.nn.language_model import eval_mode, model_device
from arlab.text.batches import Batch
from arlab.training import checkpoints
from arlab.training.losses import check_targets, next_token_loss
from arlab.training.processes import Processes
from arlab.training.schedule import learning_rate
from arlab.training.settings import Settings


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
        validation, evaluate_every: a list of batches for `evaluate`, every so many steps and at step `steps`.
        autocast: torch.bfloat16 to run the products in it; weights stay as they are.
        compile: run the model through torch.compile.
        checkpoint, save_every, resume: the file that keeps everything needed to go on, written every so many steps,
            at the end and when you stop; resume=True goes on from it, if it is there, as if nothing had happened.
            Give it a new stream of the same batches: those trained on before are skipped.

    Raises:
        ValueError: settings that make no sense, a target outside the vocabulary, a step without any target, no
            batches at all, a checkpoint of another model.
        FloatingPointError: the loss or the gradient is not finite. The model is still that of the step before,
            and the checkpoint is left alone.
        OSError: a checkpoint could not be written; the former one is untouched.

    Source: Loshchilov and Hutter (2019) for AdamW; lectures 000, 001 and 003.
    """
    _check_several(batches)
    return _steps(model, batches, Settings(**_counted(batches, settings)))  # checked now, not at the first step


def fit(model: nn.Module, batches: Iterable[Batch], *, progress: bool = False, **settings) -> list[TrainStep]:
    """`train` to its end, and all its records. Stopped by hand (KeyboardInterrupt), it returns those it has; what the
    model has learned stays in the model.

    Args:
        progress: a bar in a notebook, plain lines in a terminal.
    """
    settings = _counted(batches, settings)
    steps = train(model, batches, **settings)
    if progress:
        from arlab.training.progress import bar  # tqdm is needed here alone

        steps = bar(steps, settings.get("steps"))
    records: list[TrainStep] = []
    with closing(steps):
        try:
            records.extend(steps)
        except KeyboardInterrupt:
            when = f"after step {records[-1].step}" if records else "before the first step"
            print(f"stopped by hand {when}; the model keeps what it has learned")
    return records


def _check_several(batches: Iterable[Batch]) -> None:
    if isinstance(batches, Batch):  # a pair of tensors, and so iterable too
        raise ValueError("batches is one Batch; it must be an iterable of them: [batch], or itertools.repeat(batch)")


def _counted(batches: Iterable[Batch], settings: dict) -> dict:
    """With `steps`, where it was left out and the batches can be counted."""
    if settings.get("steps") is not None or not hasattr(batches, "__len__"):
        return settings
    return {**settings, "steps": max(1, math.ceil(len(batches) / max(1, settings.get("accumulate", 1))))}


@torch.no_grad()
def evaluate(model: Callable, batches: Iterable[Batch], *, autocast: torch.dtype | None = None) -> float:
    """Mean -ln p(target) over all targets of the batches that count, in nats; dropout is off.

    Raises:
        ValueError: no batch, or none with a target; a target outside the vocabulary.
    """
    _check_several(batches)
    device = model_device(model)
    total, counted = 0.0, 0  # a Python float: float32 would lose digits over many batches
    with eval_mode(model):
        for batch in map(Batch._make, batches):
            counted += _count(model, batch)
            inputs, targets = batch.to(device)
            with _precision(device, autocast):
                logits = model(inputs)
            total += float(next_token_loss(logits, targets, reduction="sum"))
    if counted == 0:
        raise ValueError("there is nothing to evaluate: no batch has a target that counts")
    return total / counted


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.AdamW:
    """AdamW; weight decay for matrices and tables only, and torch's fused kernel wherever there is one."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("the model has no parameter to train: it has none, or all are frozen (requires_grad=False)")
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
    stream, taken = iter(batches), 0  # taken: batches that were trained on
    if settings.resume and Path(settings.checkpoint).exists():
        record, taken = _resumed(model, optimizer, stream, settings, record)
    saved = record.step
    try:
        while settings.steps is None or record.step < settings.steps:
            started = time.perf_counter()
            with checkpoints.undone_on_failure(model):
                group = [Batch(*batch) for batch in islice(stream, settings.accumulate)]
                if not group:
                    break
                after = _gradients(model, forward, group, optimizer, processes, settings, record)
            optimizer.step()
            record, taken = after, taken + len(group)
            last = record.step == settings.steps
            every = settings.evaluate_every
            if settings.validation and (last or (every and record.step % every == 0)):
                loss = evaluate(model, settings.validation, autocast=settings.autocast)
                record = replace(record, validation_loss=loss)
            record = replace(record, seconds=record.seconds + time.perf_counter() - started)
            if settings.save_every and record.step % settings.save_every == 0:
                saved = _save(model, optimizer, processes, settings, record, taken)
            yield record
            record = replace(record, validation_loss=None)
    except FloatingPointError:  # it diverges: the former file is the better one
        raise
    except BaseException:  # the caller has seen enough (GeneratorExit), or a batch is not what it should be
        if settings.checkpoint is not None and record.step > saved:
            _save(model, optimizer, processes, settings, record, taken)
        raise
    if record.step == 0:
        raise ValueError("batches is empty: there is nothing to train on")
    if settings.checkpoint is not None and record.step > saved:
        _save(model, optimizer, processes, settings, record, taken)


def _resumed(model, optimizer, stream: Iterator, settings: Settings, start: TrainStep) -> tuple[TrainStep, int]:
    """Where the checkpoint left off; the stream, made anew, is brought there too."""
    device = model_device(model)
    first = checkpoints.random_state(device)
    done = checkpoints.load_training(settings.checkpoint, model, optimizer)
    then = checkpoints.random_state(device)
    checkpoints.set_random_state(first, device)  # a stream that draws from torch's global state does it as at first
    for _ in islice(stream, done["batches"]):
        pass
    checkpoints.set_random_state(then, device)
    return replace(start, step=done["step"], tokens=done["tokens"], seconds=done["seconds"]), done["batches"]


def _gradients(model, forward, group, optimizer, processes, settings: Settings, before: TrainStep) -> TrainStep:
    """The gradients of a group of batches, finite and clipped, and the record of the step that they make."""
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
    tokens = sum(_count(model, batch) for batch in group)
    if tokens == 0:
        raise ValueError(f"step {step} has no target that counts: its batches are all padding")
    optimizer.zero_grad()
    model.train()
    total = _backward(model, forward, group, tokens, processes, settings)
    norm = nn.utils.clip_grad_norm_(model.parameters(), math.inf if settings.clip is None else settings.clip)
    # One reading of the device for both numbers. What is not finite must not get into the weights.
    loss, norm = torch.stack([total / tokens, norm.to(total)]).tolist()
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise FloatingPointError(_not_finite(step, loss, norm, lr, settings))
    return replace(before, step=step, loss=loss, tokens=before.tokens + tokens, lr=lr, grad_norm=norm)


def _count(model: Callable, batch: Batch) -> int:
    """Targets that count. All are checked here, before they are on a GPU, where a wrong one ends the whole program."""
    return check_targets(batch.targets, getattr(model, "vocab_size", sys.maxsize))


def _backward(model, forward, group, tokens: int, processes, settings: Settings) -> Tensor:
    """Gradients of (sum of all losses) / (number of all targets); returns that sum."""
    device = model_device(model)
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


def _save(model, optimizer, processes, settings: Settings, record: TrainStep, taken: int) -> int:
    if processes.first:
        done = {"step": record.step, "batches": taken, "tokens": record.tokens, "seconds": record.seconds}
        checkpoints.save_training(settings.checkpoint, model, optimizer, **done)
    return record.step


def _not_finite(step: int, loss: float, norm: float, lr: float, settings: Settings) -> str:
    kept = "" if settings.checkpoint is None else f", and {settings.checkpoint} is left as it is"
    return (
        f"step {step}: the loss is {loss:g} and the gradient's norm {norm:g} (learning rate {lr:g}). "
        f"The weights are still those of step {step - 1}{kept}. A smaller lr or a longer warmup may help."
    )
