"""Small models of tiny Shakespeare, character by character, with nanoGPT's split: the last tenth is held out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from arlab import assets, decoding
from arlab.decoding.filters import Temperature, TopP
from arlab.lab import machine
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.model_file import load_model, read_tensors, save_model
from arlab.text.batches import ordered_windows, random_windows
from arlab.text.corpora import tiny_shakespeare
from arlab.text.tokenizers import CharTokenizer
from arlab.training import processes, progress, recordings
from arlab.training.loop import TrainStep, evaluate, train

PROMPT = "ROMEO:\n"


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights: with the same kernels and threads they come out the same to the bit."""

    about: str
    config: DecoderConfig
    rows: int  # windows in a batch, each as long as the context
    steps: int
    settings: dict = field(default_factory=dict)  # for `train`
    seed: int = 0
    shipped: bool = True  # small enough to travel with the course


_CHARACTERS = 65
_SETTINGS = {"lr": 3e-3, "warmup": 100, "min_lr": 0.0, "betas": (0.9, 0.99)}
# Llama's block with as many feed-forward weights as GPT-2's: three matrices of d x 8/3 d for two of d x 4 d.
_SMALL = {"vocab_size": _CHARACTERS, "d_model": 128, "layers": 4, "heads": 4, "d_ff": 344}

RECIPES = {
    "shakespeare_strong": Recipe(
        about="the course's small Shakespeare model",
        config=DecoderConfig.llama(**_SMALL, context_length=256),
        rows=12,
        steps=2500,
        settings=_SETTINGS,
    ),
    "shakespeare_weak": Recipe(
        about="a weak model with the same tokenizer: one layer, for notebooks 12 and 13",
        config=DecoderConfig.llama(vocab_size=_CHARACTERS, d_model=64, layers=1, heads=2, d_ff=172, context_length=256),
        rows=6,
        steps=1000,
        settings=_SETTINGS,
    ),
    "shakespeare_cpu": Recipe(
        about="nanoGPT's setting for a CPU: 4 layers, d 128, context 64, 1.5 million training tokens",
        config=DecoderConfig.llama(**_SMALL, context_length=64),
        rows=12,
        steps=2000,
        settings=_SETTINGS,
        shipped=False,
    ),
    "shakespeare_gpu": Recipe(
        about="nanoGPT's setting for a GPU: 6 layers, d 384, context 256, bfloat16 products, compiled",
        config=DecoderConfig.llama(
            vocab_size=_CHARACTERS, d_model=384, layers=6, heads=6, d_ff=1024, context_length=256, dropout=0.2
        ),
        rows=64,
        steps=5000,
        settings={**_SETTINGS, "lr": 1e-3, "evaluate_every": 250, "autocast": torch.bfloat16, "compile": True},
        shipped=False,
    ),
}


def data() -> tuple[CharTokenizer, Tensor, Tensor]:
    """(tokenizer, training ids, held-out ids): nine tenths and one tenth of the text."""
    text = tiny_shakespeare()
    tokenizer = CharTokenizer(text)
    ids = torch.tensor(tokenizer.encode(text))
    cut = int(0.9 * len(ids))
    return tokenizer, ids[:cut], ids[cut:]


def steps_of(recipe: Recipe, model: DecoderLM, **changes) -> Iterator[TrainStep]:
    """Train the model by the recipe, a record for each step. `changes` overrides settings of `train`."""
    _, training, held_out = data()
    context = recipe.config.context_length
    batches = random_windows(training, context, recipe.rows, torch.Generator().manual_seed(recipe.seed))
    settings = {"steps": recipe.steps, "validation": ordered_windows(held_out, context, 64)}
    return train(model, batches, **{**settings, **recipe.settings, **changes})


def model_of(recipe: Recipe) -> DecoderLM:
    """Untrained. The global seed is set too, since dropout draws from it."""
    torch.manual_seed(recipe.seed)
    return DecoderLM(recipe.config, seed=recipe.seed)


def make(
    name: str, out: Path, *, device: torch.device | None = None, resume: bool = False, stop_after: int | None = None
) -> dict:
    """Train, store the weights in bfloat16, and write beside them the config, the seed, the data and the figures.

    Returns what stands in that file's `about`; its figures are those of the stored weights. While it runs, a training
    checkpoint lies in `out`, and `resume` goes on from it (the records that are written begin there). `stop_after`
    breaks off after so many steps, on the same schedule: for a trial.
    """
    recipe, training = RECIPES[name], out / f"{name}.training.safetensors"
    model = model_of(recipe).to(device or "cpu")
    first = processes.Processes.now().first  # of several processes, the one that reports and writes
    records = []
    with closing(steps_of(recipe, model, checkpoint=training, save_every=250, resume=resume)) as steps:
        for step in progress.lines(steps, recipe.steps, every_seconds=10) if first else steps:
            records.append(step)
            if stop_after is not None and step.step >= stop_after:
                break
    if not first:
        return {}
    path = save_model(out / f"{name}.safetensors", model, data()[0], dtype=torch.bfloat16, recipe=name)
    about = figures(name, path) | _run_of(training) | {"machine": machine(device)}
    recordings.save(path.with_suffix(".json"), {"training": records[:20] + records[20::25]}, **about)
    training.unlink(missing_ok=True)
    return about


def figures(name: str, path: Path) -> dict:
    """What is to be known of the stored model: its recipe, and its loss and a text by it, computed here and now."""
    recipe = RECIPES[name]
    model, tokenizer, _ = load_model(path)
    _, _, held_out = data()
    loss = evaluate(model, ordered_windows(held_out, recipe.config.context_length, 64))
    return {
        "recipe": name,
        "about": recipe.about,
        "config": asdict(recipe.config),
        "seed": recipe.seed,
        "data": {
            "asset": "tiny_shakespeare",
            "sha256": assets.ASSETS["tiny_shakespeare"].sha256,
            "held_out": "the last tenth",
        },
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "bytes": path.stat().st_size,
        "validation_loss": round(loss, 4),
        "text": sample_text(model, tokenizer),
    }


def sample_text(model: DecoderLM, tokenizer: CharTokenizer, length: int = 240) -> str:
    """What the model writes after PROMPT, with temperature 0.8 and a nucleus of 0.95."""
    length = min(length, model.context_length - len(PROMPT))
    written = decoding.sample(
        model,
        tokenizer.encode(PROMPT),
        max_new_tokens=length,
        filters=[Temperature(0.8), TopP(0.95)],
        generator=torch.Generator().manual_seed(0),
    )
    return PROMPT + tokenizer.decode(written.tokens())


def _run_of(training: Path) -> dict:
    """From the training checkpoint, which also knows of a run that was finished before."""
    done = read_tensors(training)[1]
    return {"steps": done["step"], "training_tokens": done["tokens"], "seconds": round(done["seconds"], 1)}
