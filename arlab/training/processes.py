"""Training in several processes: `torchrun --nproc_per_node 2 -m arlab.recipes NAME`.

Every process sees the same batches and takes its own rows of each: row r belongs to process r mod count. The gradient
is the sum over all rows divided by the number of all targets, whatever way they fall to the processes, so that the
losses are those of one process with the whole batch (but for BatchNorm, whose batch is then each process's own rows,
and dropout, which every process draws for itself).
"""

from __future__ import annotations

import gc
import os
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from arlab.text.batches import IGNORE, Batch


@dataclass(frozen=True)
class Processes:
    """Which of how many this one is."""

    rank: int
    count: int

    @classmethod
    def now(cls) -> Processes:
        """As torch.distributed has it; alone where that was not started."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls(0, 1)

    @property
    def first(self) -> bool:
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model whose backward pass averages the gradients of all processes (Li et al., 2020)."""
        if self.count == 1:
            return model
        return nn.parallel.DistributedDataParallel(model)

    def part(self, batch: Batch) -> Batch:
        """This process's rows; where there is none for it (an epoch's last batch), one row that counts for nothing."""
        if self.count == 1:
            return batch
        if self.rank >= batch.inputs.size(0):
            return Batch(batch.inputs[:1], torch.full_like(batch.targets[:1], IGNORE))
        return batch.part(self.rank, self.count)

    def no_sync(self, model: nn.Module):
        """Inside, gradients gather without being exchanged: for all but the last batch of a step."""
        return nullcontext() if self.count == 1 else model.no_sync()

    def sum(self, number: Tensor) -> Tensor:
        if self.count > 1:
            dist.all_reduce(number)
        return number


def start() -> torch.device | None:
    """Join the other processes that torchrun started: gloo on CPUs, nccl with a GPU for each.

    Returns the device of this process, or None when it was not started by torchrun.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return None
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device)
        return device
    dist.init_process_group("gloo")
    return torch.device("cpu")


def stop(*, together: bool = True) -> None:
    """Leave the others, if there are any.

    Args:
        together: wait for all first. Who leaves while another still works takes the meeting place along; but after an
            error the others are somewhere else, and waiting would never end.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    if together:
        dist.barrier()
    # DistributedDataParallel keeps the group alive in a cycle, and gloo's threads have to end before Python does.
    gc.collect()
    dist.destroy_process_group()
