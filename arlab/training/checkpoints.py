"""Everything that training needs to go on as if it had not stopped, in one file written all or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from arlab.nn.model_file import own_tensors, put_tensors, read_tensors, write_tensors

MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # AdamW's memory of each parameter


def save_training(
    path: str | Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    step: int,
    batches: int,
    tokens: int,
    seconds: float,
) -> Path:
    """Weights, the optimizer's moments, torch's random state and how far training has come.

    Raises:
        OSError: the file could not be written; one that was there before is untouched.
    """
    tensors = {f"model.{name}": tensor for name, tensor in own_tensors(model).items()}
    for name, parameter in model.named_parameters():
        for moment in MOMENTS if parameter in optimizer.state else ():
            tensors[f"optimizer.{moment}.{name}"] = torch.as_tensor(optimizer.state[parameter][moment])
    tensors |= random_state(next(model.parameters()).device)
    return write_tensors(path, tensors, {"step": step, "batches": batches, "tokens": tokens, "seconds": seconds})


def load_training(path: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
    """Fill the model, the optimizer and torch's random state; returns step, batches, tokens and seconds.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is cut off, or belongs to another model.
    """
    tensors, record = read_tensors(path)
    if "step" not in record:
        raise ValueError(f"{path} holds a model, and no training to resume")
    put_tensors(model, _part(tensors, "model."), path)
    for name, parameter in model.named_parameters():
        moments = {moment: tensors.get(f"optimizer.{moment}.{name}") for moment in MOMENTS}
        if None not in moments.values():
            optimizer.state[parameter] = {moment: _like(parameter, tensor) for moment, tensor in moments.items()}
    set_random_state(tensors, next(model.parameters()).device)
    return record


def random_state(device: torch.device) -> dict[str, Tensor]:
    """What dropout draws from: torch's state on the CPU and, for a model on a CUDA device, on that."""
    state = {"random.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["random.cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["random.cpu"])
    if device.type == "cuda" and "random.cuda" in state:
        torch.cuda.set_rng_state(state["random.cuda"], device)


@contextmanager
def undone_on_failure(model: nn.Module) -> Iterator[None]:
    """What a training pass changes beside gradients (BatchNorm's averages, the random state) is as before, should it
    fail or be stopped; so a checkpoint written then is that of the step before. Afterwards the model is in eval mode.
    """
    device = next(model.parameters()).device
    buffers, state = [(buffer, buffer.clone()) for buffer in model.buffers()], random_state(device)
    try:
        yield
    except BaseException:
        for buffer, before in buffers:
            buffer.copy_(before)
        set_random_state(state, device)
        raise
    finally:
        model.eval()


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _like(parameter: nn.Parameter, tensor: Tensor) -> Tensor:
    """On the parameter's device; the step count stays float32, whatever the weights are.

    A copy: what was read is the file's own memory (mmap), and the file is going to be replaced.
    """
    return tensor.to(parameter.device if tensor.dim() == 0 else parameter, copy=True)
