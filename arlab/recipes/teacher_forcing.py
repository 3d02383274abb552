"""The runs that notebook 06 shows as recorded. `python -m arlab.recipes record_06_teacher_forcing` makes them again
(`--ship` to put the file where the notebook looks).

Each experiment is a function that returns its runs, a TrainStep for every `KEEP` steps, and what else was measured.
`seconds` are CPU seconds spent on training alone (evaluation not counted): a busy machine does not stretch them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from arlab.decoding import greedy
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.recipes import shakespeare
from arlab.text.batches import IGNORE, Batch, ordered_windows, random_windows, shifted
from arlab.text.tokenizers import CharTokenizer
from arlab.training import recordings
from arlab.training.calibration import reliability
from arlab.training.exposure import free_running
from arlab.training.loop import TrainStep, evaluate, train
from arlab.training.recordings import clocked, thinned

CONTEXT, ROWS = 64, 16
KEEP = 10  # a record is the mean over so many steps
SIZES = (8, 16, 32, 64, 128)  # d_model
RECORDING = Path(__file__).parents[1] / "checkpoints" / "06_teacher_forcing.json"

Runs = dict[str, list[TrainStep]]


# ---------------------------------------------------------------------------------------------------- what is shared


def small_model(vocab_size: int, d_model: int, seed: int = 0, context: int = CONTEXT) -> DecoderLM:
    """Two layers, GPT-2 style, heads of 16 dimensions (one head at least)."""
    config = DecoderConfig.gpt2(
        vocab_size=vocab_size, context_length=context, d_model=d_model, layers=2, heads=max(1, d_model // 16)
    )
    return DecoderLM(config, seed=seed)


# -------------------------------------------------------------------------------------------------- label smoothing


def label_smoothing(steps: int = 400, seeds: Sequence[int] = (0, 1, 2)) -> tuple[Runs, dict[str, Any]]:
    """10,000 characters to learn from, which the model soon knows too well; with and without smoothing.

    Returns the runs, and for each seed the held-out NLL, accuracy, calibration error and reliability diagram.
    """
    tokenizer, ids, held_out = shakespeare.data()
    few, vocab = ids[:10_000], tokenizer.vocab_size
    batches = ordered_windows(held_out[:20_000], CONTEXT, 64)
    runs, about = {}, {}
    for name, smoothing in (("cross-entropy", 0.0), ("label smoothing", 0.1 * vocab / (vocab - 1))):
        about[name] = []
        for seed in seeds:
            model = small_model(vocab, 96, seed)
            windows = random_windows(few, CONTEXT, ROWS, torch.Generator().manual_seed(seed))
            trained = train(model, windows, steps=steps, lr=3e-3, warmup=20, label_smoothing=smoothing)
            records = thinned(clocked(trained, lambda model=model: evaluate(model, batches), every=50), KEEP)
            runs.update({name: records} if seed == seeds[0] else {})
            about[name].append(calibration(model, batches))
    return runs, about


@torch.no_grad()
def calibration(model: DecoderLM, batches: Sequence[Batch]) -> dict[str, Any]:
    """How sure and how right the model is on held-out text."""
    logits, targets = torch.cat([model(b.inputs) for b in batches]), torch.cat([b.targets for b in batches])
    found = reliability(logits, targets)
    right = (logits.argmax(-1) == targets)[targets != IGNORE].double().mean()
    return {
        "nll": evaluate(model, batches),
        "accuracy": float(right),
        "ece": found.ece,
        "overconfidence": found.overconfidence,
        "bins": [[float(c), float(a), int(n)] for c, a, n in _filled(found)],
    }


def _filled(found):
    rows = zip(found.confidence, found.accuracy, found.count, strict=True)
    return [row for row in rows if row[2] > 0]


# ------------------------------------------------------------------------ regular training against teacher forcing


def on_text(steps: int = 300) -> tuple[Runs, dict[str, Any]]:
    """Shakespeare, the true characters fed or the model's own.

    Returns the runs of `three_runs`, and what each model writes after 'First'.
    """
    tokenizer, ids, held_out = shakespeare.data()
    batches = ordered_windows(held_out[:10_000], CONTEXT, 64)
    texts = {}

    def run(name: str, regular: bool, steps: int) -> list[TrainStep]:
        model = small_model(tokenizer.vocab_size, 64)
        windows = random_windows(ids, CONTEXT, ROWS, torch.Generator().manual_seed(0))
        fed = free_running(model, windows) if regular else windows
        trained = train(model, fed, steps=steps, lr=3e-3, warmup=20)
        records = list(clocked(trained, lambda: evaluate(model, batches), every=50))
        texts[name] = "First" + tokenizer.decode(greedy(model, tokenizer.encode("First"), max_new_tokens=59).tokens())
        return records

    return three_runs(run, steps), {"texts": texts}


def on_addition(steps: int = 1000) -> tuple[Runs, dict[str, Any]]:
    """'23+45=068': only the answer is asked for, so only its digits are fed back.

    Returns the runs of `three_runs`, and for each [step, CPU seconds, share of exact answers on unseen sums].
    """
    tokenizer, learn, test = sums()
    answers: dict[str, list[list]] = {}

    def run(name: str, regular: bool, steps: int) -> list[TrainStep]:
        model = small_model(tokenizer.vocab_size, 64, context=9)
        batches = answers_only(learn, 128, torch.Generator().manual_seed(0))
        fed = free_running(model, batches) if regular else batches
        records, answers[name] = [], []
        for step in clocked(train(model, fed, steps=steps, lr=3e-3, warmup=50), lambda: None, every=steps):
            records.append(step)
            if step.step % 50 == 0:
                answers[name].append([step.step, step.seconds, exact(model, test)])
        return records

    return three_runs(run, steps), {"exact": answers}


def three_runs(run: Callable[[str, bool, int], list[TrainStep]], steps: int) -> Runs:
    """Teacher forcing and regular training for `steps`, then teacher forcing for the CPU seconds that regular took."""
    forced = run("teacher forcing", False, steps)
    regular = run("regular", True, steps)
    more = round(steps * regular[-1].seconds / forced[-1].seconds / 50) * 50
    longer = run("teacher forcing, equal time", False, more)
    runs = {"teacher forcing": forced, "regular": regular, "teacher forcing, equal time": longer}
    return {name: thinned(records, KEEP) for name, records in runs.items()}


def sums() -> tuple[CharTokenizer, torch.Tensor, torch.Tensor]:
    """(tokenizer, 9,000 sums to learn from, 1,000 to test on), each 'aa+bb=ccc' as 9 ids."""
    tokenizer = CharTokenizer("0123456789+=")
    rows = torch.tensor([tokenizer.encode(f"{a:02}+{b:02}={a + b:03}") for a in range(100) for b in range(100)])
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    return tokenizer, rows[1000:], rows[:1000]


def answers_only(rows: torch.Tensor, size: int, generator: torch.Generator) -> Iterator[Batch]:
    """Batches in which the three digits of the answer are the only targets."""
    while True:
        batch = shifted(rows[torch.randint(len(rows), (size,), generator=generator)])
        targets = batch.targets.clone()
        targets[:, :5] = IGNORE  # the sum itself, up to and including '='
        yield Batch(batch.inputs, targets)


def exact(model: DecoderLM, rows: torch.Tensor) -> float:
    """The share of sums whose three digits are all right when the model answers by itself."""
    answer = greedy(model, rows[:, :6], max_new_tokens=3).ids[:, 0]
    return float((answer == rows[:, 6:]).all(dim=1).double().mean())


# ------------------------------------------------------------------------------------------------------------ sizes


def sizes(steps: int = 1000) -> tuple[Runs, dict[str, Any]]:
    """The same text for models of five widths; the lecture's LLaMA figure in miniature."""
    tokenizer, ids, held_out = shakespeare.data()
    batches = ordered_windows(held_out[:20_000], CONTEXT, 64)
    runs, parameters = {}, {}
    for d_model in SIZES:
        model = small_model(tokenizer.vocab_size, d_model)
        name = f"d = {d_model}"
        parameters[name] = sum(p.numel() for p in model.parameters())
        windows = random_windows(ids, CONTEXT, ROWS, torch.Generator().manual_seed(0))
        trained = train(model, windows, steps=steps, lr=3e-3, warmup=50)
        runs[name] = thinned(clocked(trained, lambda model=model: evaluate(model, batches), every=100), KEEP)
    return runs, {"parameters": parameters}


# ----------------------------------------------------------------------------------------------------------- record

EXPERIMENTS = {"smoothing": label_smoothing, "text": on_text, "addition": on_addition, "sizes": sizes}


def record(path: str | Path = RECORDING) -> Path:
    """Run all four (about five CPU minutes) and write them into one file, runs named 'experiment / run'."""
    return recordings.record_experiments(path, EXPERIMENTS)


def recorded(experiment: str, path: str | Path = RECORDING) -> tuple[Runs, dict[str, Any]]:
    """What `EXPERIMENTS[experiment]()` returned when it was recorded.

    Raises:
        ValueError: an experiment that is not in the recording.
        FileNotFoundError: no recording.
    """
    return recordings.load_experiment(path, experiment)
