"""The run that notebook 01 shows as recorded: one method, three architectures, 13 times its live budget.

`python -m arlab.recipes record_01_autoregression` makes it again. `seconds` are CPU seconds spent on training alone.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.fixed_window import FixedWindowLM
from arlab.nn.rnn import RecurrentLM
from arlab.recipes import shakespeare
from arlab.text.batches import ordered_windows, random_windows
from arlab.training import recordings
from arlab.training.loop import evaluate, train
from arlab.training.recordings import clocked, thinned

CONTEXT, ROWS = 64, 32
SETTINGS = {"lr": 6e-3, "warmup": 20}
KEEP = 20  # a record is the mean over so many steps
EVALUATE = 100  # steps between two validation losses; a multiple of KEEP
HELD_OUT = 20_000  # characters of the validation part that are predicted
RECORDING = Path(__file__).parents[1] / "checkpoints" / "01_autoregression.json"


def architectures(vocab_size: int) -> dict[str, Callable[[], nn.Module]]:
    """Three ways to compute p(next | before), of about 50,000 parameters each."""
    block = DecoderConfig.llama(vocab_size=vocab_size, context_length=CONTEXT, d_model=48, layers=2, heads=4, d_ff=96)
    return {
        "window of 8": lambda: FixedWindowLM(vocab_size, window=8, d_model=16, d_hidden=256, seed=0),
        "RNN": lambda: RecurrentLM(vocab_size, d_model=32, d_hidden=176, seed=0),
        "transformer": lambda: DecoderLM(block, seed=0),
    }


def record(path: Path = RECORDING, steps: int = 2000) -> Path:
    """Train all three, the same batches in the same order; a few CPU minutes."""
    tokenizer, train_ids, held_out = shakespeare.data()
    validation = ordered_windows(held_out[: HELD_OUT + 1], CONTEXT, 64)
    runs, parameters = {}, {}
    for name, build in architectures(tokenizer.vocab_size).items():
        model = build()
        parameters[name] = sum(p.numel() for p in model.parameters())
        batches = random_windows(train_ids, CONTEXT, ROWS, torch.Generator().manual_seed(0))
        trained = train(model, batches, steps=steps, **SETTINGS)
        look = partial(evaluate, model, validation)
        runs[name] = thinned(clocked(trained, look, every=min(EVALUATE, steps)), KEEP)
        print(f"{name}: {parameters[name]:,} parameters, validation {runs[name][-1].validation_loss:.4f}")
    about = {"steps": steps, "rows": ROWS, "context": CONTEXT, **SETTINGS, "parameters": parameters}
    return recordings.save(path, runs, **about, torch=torch.__version__, machine=platform.machine())
