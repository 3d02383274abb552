"""Notebook 07's long run: what SmolLM2 loses when it may see only the last 1, 2, 4, ... 256 tokens of a text."""

from __future__ import annotations

import time
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from arlab.nn.language_model import LanguageModel, last_logits
from arlab.nn.pretrained import smollm2
from arlab.text.corpora import tiny_shakespeare
from arlab.training import recordings

FILE = Path(__file__).resolve().parents[1] / "checkpoints" / "07_context_length.json"


def target_windows(ids: Int[Tensor, "tokens"], targets: int, most: int) -> Int[Tensor, "targets most_and_one"]:
    """`targets` stretches of most + 1 tokens, evenly spaced; the last token of each is the one to predict.

    Raises:
        ValueError: a text too short for one stretch.
    """
    if len(ids) < most + 1:
        raise ValueError(f"the text has {len(ids)} tokens; a stretch needs {most + 1}")
    starts = torch.linspace(0, len(ids) - most - 1, targets).long()
    return ids[starts[:, None] + torch.arange(most + 1)]


@torch.no_grad()
def loss_by_context(
    model: LanguageModel, windows: Int[Tensor, "targets most_and_one"], seen: int, rows: int = 8
) -> Float[Tensor, "targets"]:
    """-ln p of each window's last token, when only the `seen` tokens before it are given."""
    losses = []
    for part in windows.split(rows):
        logits = last_logits(model, part[:, -1 - seen : -1])
        losses.append(F.cross_entropy(logits.float(), part[:, -1], reduction="none").cpu())
    return torch.cat(losses)


@torch.no_grad()
def loss_by_position(
    model: LanguageModel, windows: Int[Tensor, "rows time_and_one"], rows: int = 8
) -> Float[Tensor, "rows time"]:
    """-ln p of every token of each window but the first, given those before it: all positions from one pass."""
    losses = []
    for part in windows.split(rows):
        logits = model(part[:, :-1]).float()
        losses.append(F.cross_entropy(logits.transpose(1, 2), part[:, 1:], reduction="none").cpu())
    return torch.cat(losses)


def record(path: str | Path = FILE, targets: int = 128, most: int = 256) -> Path:
    """About four minutes on one CPU core: SmolLM2 on the last tenth of tiny Shakespeare."""
    start = time.perf_counter()
    model, tokenizer = smollm2()
    text = tiny_shakespeare()
    held_out = text[int(0.9 * len(text)) :]
    ids = torch.tensor(tokenizer.encode(held_out))
    windows = target_windows(ids, targets, most)
    by_position = loss_by_position(model, windows)  # its last column is the loss with `most` tokens seen
    powers = [2**i for i in range(most.bit_length()) if 2**i < most]
    by_context = {seen: loss_by_context(model, windows, seen) for seen in powers} | {most: by_position[:, -1]}
    return recordings.save(
        path,
        {},
        model="SmolLM2-135M-Instruct, float32",
        text="tiny Shakespeare, last tenth",
        characters_per_token=len(held_out) / len(ids),
        targets=targets,
        seen=list(by_context),
        loss_by_context=[[round(x, 4) for x in losses.tolist()] for losses in by_context.values()],
        loss_by_position=[round(x, 4) for x in by_position.mean(0).tolist()],
        seconds=round(time.perf_counter() - start, 1),
        torch=torch.__version__,
    )
