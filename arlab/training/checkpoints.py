"""Everything that training needs to go on as if it had not stopped, in one file written all or nothing."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from arlab.nn.model_file import own_tensors, put_tensors, read_tensors, write_tensors

MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # AdamW's memory of each parameter


def save_training(
    path: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer, *, step: int, tokens: int, seconds: float
) -> Path:
    """Weights, the optimizer's moments, torch's random state (dropout draws from it) and how far training has come.

    Raises:
        OSError: the file could not be written; one that was there before is untouched.
    """
    tensors = {f"model.{name}": tensor for name, tensor in own_tensors(model).items()}
    for name, parameter in model.named_parameters():
        for moment in MOMENTS if parameter in optimizer.state else ():
            tensors[f"optimizer.{moment}.{name}"] = torch.as_tensor(optimizer.state[parameter][moment])
    tensors["random.cpu"] = torch.get_rng_state()
    device = next(model.parameters()).device
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    return write_tensors(path, tensors, {"step": step, "tokens": tokens, "seconds": seconds})


def load_training(path: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
    """Fill the model, the optimizer and torch's random state; returns step, tokens and seconds.

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
    torch.set_rng_state(tensors["random.cpu"])
    device = next(model.parameters()).device
    if device.type == "cuda" and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"], device)
    return record


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _like(parameter: nn.Parameter, tensor: Tensor) -> Tensor:
    """On the parameter's device; the step count stays float32, whatever the weights are."""
    return tensor.to(parameter.device) if tensor.dim() == 0 else tensor.to(parameter)
