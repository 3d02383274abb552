"""Notebook 18's long runs: SmolLM2 on four tasks with 0 to 8 examples, and transformers that learn to learn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from arlab.decoding import greedy
from arlab.decoding.shots import ShotResult, ask
from arlab.nn.language_model import LanguageModel
from arlab.nn.pretrained import smollm2
from arlab.recipes import CHECKPOINTS
from arlab.text.shots import TASKS, ShotTask, draw_examples, write_prompt
from arlab.training import recordings
from arlab.training.in_context import InContextModel, LinearTasks, ridge, squared_errors, train_in_context
from arlab.training.loop import TrainStep

FILE = CHECKPOINTS / "18_in_context_learning.json"
KS = (0, 1, 2, 4, 8)
DRAWS = (0, 1, 2)  # seeds of the examples
TOP = 5  # first tokens kept, of the first draw; of the others none

LINEAR = LinearTasks(features=2)
TRAINED_ON = 10  # examples in a row
TESTED_ON = 40
TRAINING = {"n": TRAINED_ON, "steps": 2000, "rows": 32, "lr": 2e-3}
MODELS = (("rotary", 0), ("rotary", 1), ("rotary", 2))  # positions, seed


# --- SmolLM2


def asked(model: LanguageModel, tokenizer, seed: int, tasks: Sequence[ShotTask] = TASKS) -> list[list]:
    """One draw of the examples: a row a result, [task, k, shuffled, query, said, p_answer, prompt tokens, top]."""
    return [
        [r.task, r.k, r.shuffled, r.query, r.said, _short(r.p_answer), r.tokens]
        + [[[token, _short(p)] for token, p in r.top] if seed == DRAWS[0] else []]
        for r in ask(model, tokenizer, tasks, KS, seed=seed, top=TOP)
    ]


def shot_results(about: dict, seed: int = DRAWS[0]) -> list[ShotResult]:
    """The recorded answers as `ask` gave them; the prompts are written again, from the seed of their examples."""
    tasks, results = {task.name: task for task in TASKS}, []
    for name, k, shuffled, query, said, p_answer, tokens, top in about["shots"][DRAWS.index(seed)]:
        task = tasks[name]
        examples = draw_examples(task, k, shuffled=shuffled, generator=torch.Generator().manual_seed(seed))
        results.append(
            ShotResult(
                task=name,
                k=k,
                shuffled=shuffled,
                query=query,
                answer=task.answer(query),
                prompt=write_prompt(task, examples, query),
                said=said,
                top=tuple(map(tuple, top)),
                correct=said == task.answer(query),
                p_answer=p_answer,
                examples=examples,
                tokens=tokens,
                seed=seed,
            )
        )
    return results


def chatted(model: LanguageModel, tokenizer, tasks: Sequence[ShotTask] = TASKS, longest: int = 16) -> list[list]:
    """Zero-shot as a chat, which is what the model was tuned on: [task, query, what it says]."""
    rows = []
    for task in tasks:
        words = [f"{task.description}\n{query}" for query, _ in task.queries]
        prompts = [tokenizer.chat([{"role": "user", "content": each}], add_generation_prompt=True) for each in words]
        written = greedy(model, prompts, max_new_tokens=longest, eos_id=tokenizer.eos_id)
        for row, (query, _) in enumerate(task.queries):
            rows.append([task.name, query, tokenizer.decode(written.tokens(row), skip_special=True).strip()])
    return rows


# --- the small transformers


def learned(positions: str, seed: int, *, training: dict = TRAINING, rows: int = 2000) -> tuple[list[TrainStep], dict]:
    """Train one model; its steps, a record for every 50, and its mean squared error after 0, 1, ... examples."""
    model = InContextModel(LINEAR.features, examples=TESTED_ON, positions=positions, seed=seed)
    generator = torch.Generator().manual_seed(1000 + seed)
    steps = recordings.clocked(train_in_context(model, LINEAR, generator=generator, **training), lambda: None, 50)
    kept = recordings.thinned(steps, 50)
    test = LINEAR.draw(rows, TESTED_ON, torch.Generator().manual_seed(7))
    errors = squared_errors(model, test)
    return kept, {
        "positions": positions,
        "seed": seed,
        "error": [_short(e) for e in errors.mean(0).tolist()],
        "standard_error": [_short(e) for e in (errors.std(0) / rows**0.5).tolist()],
    }


def record(path: str | Path = FILE) -> Path:
    """About five minutes on one CPU core."""
    start = time.process_time()
    model, tokenizer = smollm2()
    shots = [asked(model, tokenizer, seed) for seed in DRAWS]
    chat = chatted(model, tokenizer)
    trained = [learned(positions, seed) for positions, seed in MODELS]
    return write(path, shots, chat, trained, time.process_time() - start)


def write(path: str | Path, shots: list, chat: list, trained: list, seconds: float) -> Path:
    """What `record` has found, as its file."""
    return recordings.save(
        path,
        {f"{figures['positions']}, seed {figures['seed']}": steps for steps, figures in trained},
        model="SmolLM2-135M-Instruct, float32",
        shots=shots,
        chat=chat,
        linear=asdict(LINEAR),
        training=TRAINING,
        regression=[figures for _, figures in trained],
        least_squares=[_short(e) for e in least_squares_error()],
        seconds=round(seconds, 1),
        torch=torch.__version__,
    )


def least_squares_error(rows: int = 2000) -> list[float]:
    """The exact answer's error on the functions that the models are tested on."""
    test = LINEAR.draw(rows, TESTED_ON, torch.Generator().manual_seed(7))
    return squared_errors(ridge, test).mean(0).tolist()


def _short(p: float) -> float:
    return float(f"{p:.3g}")
