"""The runs that notebook 17 shows as recorded: sums written in two orders, and gaps in a text filled three ways.
`python -m arlab.recipes record_17_generation_order` makes them again (`--ship` to put the file where it looks).

Each experiment returns its runs, a TrainStep for every `KEEP` steps, and what else was measured. `seconds` are CPU
seconds of training alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from arlab.decoding import greedy
from arlab.decoding.parallel import gap_logits, parallel_decoding
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import LanguageModel
from arlab.recipes import CHECKPOINTS, load, shakespeare
from arlab.text.addition import Addition
from arlab.text.batches import ordered_windows, random_windows, shifted
from arlab.text.masking import masked_batches
from arlab.training import recordings
from arlab.training.loop import TrainStep, evaluate, train
from arlab.training.recordings import clocked, thinned

KEEP = 20  # a record is the mean over so many steps
SEEDS = (0, 1, 2)
SIDE = 8  # characters that stand on either side of a gap
LONGER = 4  # a quarter of the characters is hidden on average, so that this gives as many targets as a causal model has
KINDS = {"left to right": 1, "right to left": 1, "both sides": 1, "both sides, longer": LONGER}  # and times the steps
SIX = slice(SIDE - 2, SIDE + 4)  # of a window, the characters that are filled in parallel
RECORDING = CHECKPOINTS / "17_generation_order.json"

Runs = dict[str, list[TrainStep]]


# ---------------------------------------------------------------------------------------------------------- addition


def adder(task: Addition, seed: int = 0, *, heads: int = 4) -> DecoderLM:
    """One layer, d 128: small enough that the order in which the answer is written makes a difference."""
    config = DecoderConfig.gpt2(
        vocab_size=task.vocab_size, context_length=task.length, d_model=128, layers=1, heads=heads
    )
    return DecoderLM(config, seed=seed)


def exact(model: LanguageModel, task: Addition, pairs: Int[Tensor, "rows 2"]) -> Float[Tensor, "rows"]:
    """1 for each sum that the model, decoding greedily, answers right to the last digit; else 0."""
    rows = task.rows(pairs)
    said = greedy(model, rows[:, : task.prompt_length], max_new_tokens=task.answer_length).ids[:, 0].cpu()
    return (said == rows[:, task.prompt_length :]).all(dim=1).double()


def by_chain(task: Addition, each: int, seed: int = 99) -> list[Int[Tensor, "each 2"]]:
    """`each` sums whose longest carry chain is 0, 1, ... `digits` places: the long ones are rare in uniform draws.

    (Fewer where there are not so many.)
    """
    drawn = task.draw(100_000, torch.Generator().manual_seed(seed)).unique(dim=0)
    drawn = drawn[torch.randperm(len(drawn), generator=torch.Generator().manual_seed(seed))]
    lengths = torch.tensor([task.longest_chain(a, b) for a, b in drawn[: 400 * each].tolist()])
    return [drawn[: 400 * each][lengths == chain][:each] for chain in range(task.digits + 1)]


def addition(
    digits: Sequence[int] = (2, 3, 4),
    steps: int = 1000,
    seeds: Sequence[int] = SEEDS,
    every: int = 100,
) -> tuple[Runs, dict[str, Any]]:
    """Both orders at equal steps, for each number of digits and each seed; test sums are never trained on.

    Returns the runs, named '3 digits / reversed / seed 0', and for each of them [step, share of exact answers] on
    uniform sums, and the share at the end by length of the longest carry chain.
    """
    runs, curve, chains = {}, {}, {}
    for n in digits:
        for name, task in (("left to right", Addition(n)), ("reversed", Addition(n, reversed=True))):
            tests = by_chain(task, 200)
            uniform = task.draw(500, torch.Generator().manual_seed(7))
            unseen = torch.cat([uniform, *tests])
            for seed in seeds:
                run = f"{n} digits / {name} / seed {seed}"
                model, shares, records = adder(task, seed), [], []
                batches = task.batches(128, torch.Generator().manual_seed(seed), without=unseen)
                trained = train(model, batches, steps=steps, lr=1.5e-3, warmup=min(50, steps))
                for step in clocked(trained, lambda: None, every=steps + 1):
                    records.append(step)
                    if step.step % every == 0:
                        shares.append([step.step, _share(exact(model, task, uniform))])
                runs[run], curve[run] = thinned(records, KEEP), shares
                chains[run] = [_share(exact(model, task, pairs)) for pairs in tests]
    return runs, {"curve": curve, "chains": chains}


# -------------------------------------------------------------------------------------------------------- gaps in text


def reader(vocab_size: int, causal: bool, seed: int = 0) -> DecoderLM:
    """Two layers, d 64, one id more than the text has (the mask); `causal` False looks both ways."""
    config = DecoderConfig.gpt2(
        vocab_size=vocab_size + 1,
        context_length=2 * SIDE + 1,
        d_model=64,
        layers=2,
        heads=4,
        causal=causal,
        positions="rotary",
        init="xavier",
    )
    return DecoderLM(config, seed=seed)


def text_batches(ids: Int[Tensor, "tokens"], kind: str, mask_id: int, seed: int, rows: int = 16):
    """The same windows of the same text for all three: shifted, shifted backwards, or with gaps."""
    generator = torch.Generator().manual_seed(seed)
    windows = (torch.cat([b.inputs[:, :1], b.targets], 1) for b in random_windows(ids, 2 * SIDE, rows, generator))
    if kind.startswith("both sides"):
        return masked_batches(windows, mask_id, (0.0, 0.5), torch.Generator().manual_seed(seed))
    return (shifted(window.flip(1) if kind == "right to left" else window) for window in windows)


def stretches(ids: Int[Tensor, "tokens"], count: int) -> Int[Tensor, "count time"]:
    """`count` stretches of 4 * SIDE + 1 characters, evenly spaced; the middle one is the gap of every test."""
    starts = torch.linspace(0, len(ids) - 4 * SIDE - 1, count).long()
    return ids.long()[starts[:, None] + torch.arange(4 * SIDE + 1)]


def at_gap(
    model: DecoderLM, kind: str, stretch: Int[Tensor, "rows time"], mask_id: int, side: int = SIDE
) -> Float[Tensor, "rows vocab"]:
    """Log-probabilities of the middle character, from `side` characters before it, behind it, or on both sides."""
    middle = stretch.size(1) // 2
    if kind.startswith("both sides"):
        asked = stretch[:, middle - side : middle + side + 1].clone()
        asked[:, side] = mask_id
        return gap_logits(model, asked, mask_id)[:, side].log_softmax(-1)
    before, behind = stretch[:, middle - side : middle], stretch[:, middle + 1 : middle + side + 1]
    given = before if kind == "left to right" else behind.flip(1)
    return gap_logits(model, given, mask_id)[:, -1].log_softmax(-1)


@torch.no_grad()
def by_scoring(model: DecoderLM, windows: Int[Tensor, "rows time"], mask_id: int) -> Float[Tensor, "rows vocab"]:
    """Log-probabilities of the middle character from both sides, by a causal model: the whole window with each
    candidate in the gap, scored by the chain rule and normalised over the candidates (Bayes' rule; V passes)."""
    scores = []
    for candidate in range(mask_id):
        filled = windows.clone()
        filled[:, SIDE] = candidate
        logits = gap_logits(model, filled[:, :-1], mask_id).log_softmax(-1)
        scores.append(logits.gather(-1, filled[:, 1:, None])[:, SIDE - 1 :, 0].sum(dim=1))
    return torch.stack(scores, dim=1).log_softmax(-1)


def gaps(steps: int = 1500, seeds: Sequence[int] = SEEDS, tests: int = 1000) -> tuple[Runs, dict[str, Any]]:
    """Four models of one size on windows of Shakespeare, and how well each fills a gap of one character.

    Returns the runs, named 'both sides / seed 0', and for each of them the share of right argmaxes and the mean
    -ln p at the gap ('accuracy', 'nll'); for the causal ones also with twice the context, as much as 'both sides'
    has, and for the left-to-right one by scoring every candidate; the loss of whole texts in either direction; and
    what parallel filling makes of six gaps in a row (see `six_gaps`).
    """
    tokenizer, ids, held_out = shakespeare.data()
    mask_id, stretch = tokenizer.vocab_size, stretches(held_out, tests)
    truth, windows = stretch[:, 2 * SIDE], stretch[:, SIDE : 3 * SIDE + 1]
    runs, found, text_loss, filled = {}, {}, {}, {}
    for seed in seeds:
        for kind, times in KINDS.items():
            run, causal = f"{kind} / seed {seed}", not kind.startswith("both sides")
            model, batches = reader(mask_id, causal, seed), text_batches(ids, kind, mask_id, seed)
            trained = train(model, batches, steps=times * steps, lr=4e-3, warmup=min(50, steps))
            runs[run] = thinned(clocked(trained, lambda: None, every=times * steps + 1), KEEP * times)
            found[run] = _quality(at_gap(model, kind, stretch, mask_id), truth)
            if not causal:
                filled[run] = six_gaps(model, windows[:300], mask_id)
                continue
            found[f"{run} / twice the context"] = _quality(at_gap(model, kind, stretch, mask_id, 2 * SIDE), truth)
            text = held_out[:20_000] if kind == "left to right" else held_out[:20_000].flip(0)
            text_loss[run] = round(evaluate(model, ordered_windows(text, 2 * SIDE, 128)), 4)
            if kind == "left to right":
                found[f"{run} / every candidate scored"] = _quality(by_scoring(model, windows, mask_id), truth)
    return runs, {"found": found, "text_loss": text_loss, "six_gaps": filled, "tests": tests}


def six_gaps(model: DecoderLM, windows: Int[Tensor, "rows time"], mask_id: int) -> dict[str, Any]:
    """Six characters in a row hidden and drawn again in 1, 2, 3 and 6 passes; a larger causal model judges them.

    Returns for each number of passes the mean -ln p of the drawn characters (and the one behind them) under
    shakespeare_strong, that of the true ones, and the characters drawn for the first eight windows.
    """
    judge, tokenizer = load("shakespeare_strong")
    hidden = windows.clone()
    hidden[:, SIX] = mask_id
    judged, drawn = {"truth": _judged(judge, windows, SIX)}, {}
    for steps in (1, 2, 3, 6):
        generator = torch.Generator().manual_seed(0)
        rows = parallel_decoding(model, hidden, mask_id=mask_id, steps=steps, generator=generator).ids
        judged[str(steps)] = _judged(judge, rows, SIX)
        drawn[str(steps)] = [tokenizer.decode(row) for row in rows[:8, SIX].tolist()]
    return {"judged": judged, "drawn": drawn}


@torch.no_grad()
def _judged(judge: LanguageModel, rows: Int[Tensor, "rows time"], where: slice) -> float:
    """-ln p a character of what stands at `where` and of what follows it: bad joins count on both ends."""
    logits = judge(rows[:, :-1])
    losses = F.cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none")
    return round(float(losses[:, where.start - 1 : where.stop].mean()), 4)


def _quality(logits: Float[Tensor, "rows vocab"], truth: Int[Tensor, "rows"]) -> dict[str, float]:
    accuracy = (logits.argmax(-1) == truth).double()
    return {"accuracy": _share(accuracy), "nll": round(float(F.cross_entropy(logits, truth)), 4)}


def _share(right: Float[Tensor, "rows"]) -> float:
    return round(float(right.mean()), 4)


# ------------------------------------------------------------------------------------------------------------ record

EXPERIMENTS = {"addition": addition, "gaps": gaps}


def record(path: str | Path = RECORDING) -> Path:
    """Run both (about ten CPU minutes) and write them into one file, runs named 'experiment / run'."""
    return recordings.record_experiments(path, EXPERIMENTS)


def recorded(experiment: str, path: str | Path = RECORDING) -> tuple[Runs, dict[str, Any]]:
    """What `EXPERIMENTS[experiment]()` returned when it was recorded.

    Raises:
        ValueError: an experiment that is not in the recording.
        FileNotFoundError: no recording.
    """
    return recordings.load_experiment(path, experiment)
