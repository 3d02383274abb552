"""The runs that notebook 05 shows as recorded. `python -m arlab.recipes record_05_transformer_block` makes them again.

Each experiment is a function that returns its runs, a TrainStep for every `KEEP` steps, and what else was measured.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.recipes.shakespeare import data as shakespeare  # the notebook reads the same text, by this name
from arlab.text.batches import ordered_windows, random_windows
from arlab.training import recordings
from arlab.training.loop import TrainStep, evaluate, train
from arlab.training.recordings import thinned

CONTEXT, ROWS, WIDTH = 32, 16, 64
KEEP = 10  # a record is the mean over so many steps
DEPTHS = (6, 12, 24)
POSITIONS = {
    "none": {},
    "sinusoidal": {},
    # Sines are about 0.7 in size and GPT-2's embeddings start at 0.02: give them a size that can be heard.
    "sinusoidal, embeddings of size 1": {"positions": "sinusoidal", "init": "xavier", "tied": False},
    "learned": {},
    "rotary": {},
}
RECORDING = Path(__file__).parents[1] / "checkpoints" / "05_transformer_block.json"

Runs = dict[str, list[TrainStep]]


# ---------------------------------------------------------------------------------------------------- what is shared


def deep_model(layers: int, seed: int = 0, vocab_size: int = 65, **choices) -> DecoderLM:
    """Xavier's matrices and embeddings of size 1: an initialisation that does not make allowance for depth.

    GPT-2's own does (N(0, 0.02), less into the stream), and with it post-LN trains as well as pre-LN at depth 12.
    """
    return DecoderLM(
        DecoderConfig(
            **{
                "vocab_size": vocab_size,
                "context_length": CONTEXT,
                "d_model": WIDTH,
                "layers": layers,
                "heads": 4,
                "init": "xavier",
                "tied": False,
                **choices,
            }
        ),
        seed=seed,
    )


def bare_train(
    model: DecoderLM, ids: torch.Tensor, *, seed: int = 0, warmup: int = 0, **settings
) -> Iterator[TrainStep]:
    """AdamW without the usual helps: no decay, no clipping, no schedule, warm-up only where asked for."""
    bare = {"lr": 5e-4, "schedule": "constant", "clip": None, "weight_decay": 0.0}
    windows = random_windows(ids, model.context_length, ROWS, torch.Generator().manual_seed(seed))
    return train(model, windows, warmup=warmup, **{**bare, **settings})


# ------------------------------------------------------------------------------------------------------- experiments


def norm_place(depths: Sequence[int] = DEPTHS, steps: int = 400, warmup: int = 200) -> tuple[Runs, dict[str, Any]]:
    """post-LN and pre-LN at several depths, with and without warm-up, named '12 layers, post-LN, warm-up'."""
    _, ids, _ = shakespeare()
    runs = {}
    for layers in depths:
        for norm_first in (False, True):
            for warm in (0, warmup):
                model = deep_model(layers, norm_first=norm_first)
                name = f"{layers} layers, {'pre' if norm_first else 'post'}-LN{', warm-up' if warm else ''}"
                runs[name] = thinned(bare_train(model, ids, steps=steps, warmup=warm), KEEP)
                print(f"{name}: {runs[name][-1].loss:.2f}", flush=True)
    return runs, {"warmup": warmup}


def warmup_seeds(
    layers: int = 12, seeds: Sequence[int] = (1, 2), steps: int = 400, warmup: int = 200
) -> tuple[Runs, dict[str, Any]]:
    """Is it luck? The post-LN model again, from other first weights and on other windows."""
    _, ids, _ = shakespeare()
    runs = {}
    for seed in seeds:
        for warm in (0, warmup):
            model = deep_model(layers, seed, norm_first=False)
            name = f"seed {seed}{', warm-up' if warm else ''}"
            runs[name] = thinned(bare_train(model, ids, seed=seed, steps=steps, warmup=warm), KEEP)
            print(f"{name}: {runs[name][-1].loss:.2f}", flush=True)
    return runs, {"warmup": warmup}


def residuals(layers: int = 24, steps: int = 200) -> tuple[Runs, dict[str, Any]]:
    """A deep pre-LN model without its residual connections, without its norms, and without both.

    A run that overflows in its first steps leaves no record, but the reason, in "stopped".
    """
    _, ids, _ = shakespeare()
    variants = {
        "both": {},
        "no residuals": {"residual": False},
        "no norms": {"norm": "none"},
        "neither": {"residual": False, "norm": "none"},
    }
    runs, stopped = {}, {}
    for name, choices in variants.items():
        runs[name], stopped[name] = until_it_fails(bare_train(deep_model(layers, **choices), ids, steps=steps, lr=1e-3))
        print(f"{name}: {runs[name][-1].loss if runs[name] else math.nan:.2f} {stopped[name] or ''}", flush=True)
    runs["1 block, no residuals"], _ = until_it_fails(
        bare_train(deep_model(1, residual=False), ids, steps=steps, lr=1e-3)
    )
    return {name: records for name, records in runs.items() if records}, {
        "stopped": {name: why for name, why in stopped.items() if why}
    }


def until_it_fails(steps: Iterable[TrainStep]) -> tuple[list[TrainStep], str | None]:
    """The thinned records, up to the step at which loss or gradient overflows, and what was said then."""
    taken = []
    try:
        for step in steps:
            taken.append(step)
    except FloatingPointError as error:
        return thinned(taken, KEEP), str(error)
    return thinned(taken, KEEP), None


def position_codes(
    steps: int = 600, context: int = 64, codes: Sequence[str] = tuple(POSITIONS)
) -> tuple[Runs, dict[str, Any]]:
    """Two layers with each code for positions; held-out loss, and the table that was learned (three decimals)."""
    tokenizer, ids, held_out = shakespeare()
    batches = ordered_windows(held_out[:20_000], context, 64)
    runs, about = {}, {}
    sizes = {"vocab_size": tokenizer.vocab_size, "context_length": context, "d_model": WIDTH, "layers": 2, "heads": 4}
    for code in codes:
        model = DecoderLM(DecoderConfig.gpt2(**{**sizes, "positions": code, **POSITIONS[code]}), seed=0)
        windows = random_windows(ids, context, ROWS, torch.Generator().manual_seed(0))
        runs[code] = thinned(train(model, windows, steps=steps, lr=3e-3, warmup=50), KEEP)
        about[code] = {"validation_loss": evaluate(model, batches)}
        if code == "learned":
            table = model.embed_positions.weight.detach()
            about[code]["table"] = [[round(value, 3) for value in row] for row in table.tolist()]
        print(f"{code}: {about[code]['validation_loss']:.3f}", flush=True)
    return runs, about


# ----------------------------------------------------------------------------------------------------------- record

EXPERIMENTS = {
    "positions": position_codes,
    "norm place": norm_place,
    "warm-up seeds": warmup_seeds,
    "residuals": residuals,
}


def record(path: str | Path = RECORDING, experiments: Sequence[str] = tuple(EXPERIMENTS)) -> Path:
    """Run them (about ten minutes on one quiet core) and write all into one file, runs named 'experiment / run'.

    Experiments that are not named stay in the file as they were recorded before.
    """
    runs, about = recordings.load(path) if Path(path).exists() else ({}, {})
    about |= {"torch": torch.__version__, "machine": f"{platform.machine()}, {torch.get_num_threads()} thread"}
    for name in experiments:
        found, more = EXPERIMENTS[name]()
        runs = {run: steps for run, steps in runs.items() if not run.startswith(f"{name} / ")}
        runs |= {f"{name} / {run}": steps for run, steps in found.items()}
        about[name] = more
        path = recordings.save(path, runs, **about)  # after each, so that a run cut short loses only its last
    return Path(path)


def recorded(experiment: str, path: str | Path = RECORDING) -> tuple[Runs, dict[str, Any]]:
    """What `EXPERIMENTS[experiment]()` returned when it was recorded.

    Raises:
        ValueError: an experiment that is not in the recording.
        FileNotFoundError: no recording.
    """
    return recordings.load_experiment(path, experiment)
