"""A small transformer that translates Spanish into English, trained on Tatoeba's sentences, and what it is worth.

Its figures are BLEU, as sacrebleu computes it from plain text (Papineni et al., 2002; Post, 2018), and exact match, on
sentences whose Spanish side it never saw. Making it again needs the test extra, for sacrebleu.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import torch

from arlab import assets
from arlab.decoding.translation import bleu, score, translate
from arlab.lab import machine
from arlab.nn.model_file import load_model, read_tensors, save_model
from arlab.nn.seq2seq import Seq2SeqConfig, Seq2SeqTransformer
from arlab.text.batches import Batch
from arlab.text.pairs import ordered_pairs, pair_batches
from arlab.text.splits import Split
from arlab.text.tokenizers import BPETokenizer
from arlab.text.translations import Pair, at_most, by_source, known_targets, spanish_english, split_pairs
from arlab.training import processes, progress, recordings
from arlab.training.loop import TrainStep, evaluate, train

SHORT = 10  # words of the sentences that it is judged by
WATCHED = 300  # sentences translated now and then while it trains
BEAMS = ((1, 1.0), (2, 1.0), (4, 1.0), (10, 1.0), (4, 0.0), (10, 0.0))  # width, length penalty
LENGTHS = ((1, 3), (4, 6), (7, 10), (11, 14), (15, 20))  # words of the Spanish sentence
# Ours, and not from the data: a test sees to it that none of them was trained on.
SENTENCES = (
    "¿Dónde está la biblioteca de la universidad?",
    "Mi abuela cocina todos los domingos.",
    "No entiendo por qué llegaste tan tarde.",
    "El gato negro duerme encima de la mesa.",
    "Mañana vamos a comprar una casa en la playa.",
    "Tengo hambre, pero no tengo dinero.",
    "¿Puedes ayudarme a abrir esta puerta?",
    "Ella me dijo que su hermano vive en París.",
)


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights: with the same kernels and threads they come out the same to the bit."""

    about: str
    config: Seq2SeqConfig  # its vocabulary is that of a BPE learned from both languages of the training pairs
    words: int  # of the longest Spanish sentences trained on
    rows: int  # pairs in a batch
    steps: int
    settings: dict = field(default_factory=dict)  # for `train`
    seed: int = 0


RECIPES = {
    "spanish_english": Recipe(
        about="Spanish to English, for notebook 15",
        config=Seq2SeqConfig(
            source_vocab=6000,
            vocab_size=6000,
            source_length=64,
            context_length=64,
            d_model=256,
            encoder_layers=3,
            layers=3,
            heads=4,
            d_ff=1024,
            positions="sinusoidal",
            shared=True,
            dropout=0.1,
            bos_id=0,
        ),
        words=14,
        rows=64,
        steps=10_000,
        settings={
            "lr": 1e-3,
            "warmup": 600,
            "min_lr": 0.0,
            "betas": (0.9, 0.98),
            "weight_decay": 0.01,
            "label_smoothing": 0.1,
            "autocast": torch.bfloat16,
        },
    )
}


# --- the data


@cache
def parts() -> Split:
    """All pairs (Spanish, English), split by the Spanish sentence."""
    return split_pairs(spanish_english())


def training_pairs(recipe: Recipe) -> list[Pair]:
    return at_most(parts().train, recipe.words)


def held_out(words: int = SHORT, part: str = "test") -> dict[str, list[str]]:
    """Spanish sentences of at most so many words that were not trained on, each with all its translations."""
    return by_source(at_most(getattr(parts(), part), words))


def tokenizer_of(recipe: Recipe) -> BPETokenizer:
    """One vocabulary for both languages: names, numbers and word parts that they share are learned once."""
    texts = (sentence for pair in training_pairs(recipe) for sentence in pair)
    return BPETokenizer.train(texts, recipe.config.vocab_size, special=["<bos>", "<eos>", "<pad>"])


def encoded(tokenizer: BPETokenizer, pairs: Sequence[Pair]) -> tuple[list[list[int]], list[list[int]]]:
    """Ids of the Spanish and of the English sentences."""
    return tuple([tokenizer.encode(pair[side], allow_special=False) for pair in pairs] for side in (0, 1))


def validation_batches(tokenizer: BPETokenizer, recipe: Recipe, rows: int = 100) -> list[Batch]:
    pairs = sorted(at_most(parts().validation, recipe.words), key=lambda pair: len(pair[0]))
    return ordered_pairs(*encoded(tokenizer, pairs), rows, **_symbols(tokenizer))


def _symbols(tokenizer: BPETokenizer) -> dict[str, int]:
    return {"bos_id": tokenizer.bos_id, "eos_id": tokenizer.eos_id, "pad_id": tokenizer.pad_id}


# --- making it


def model_of(recipe: Recipe) -> Seq2SeqTransformer:
    """Untrained. The global seed is set too, since dropout draws from it."""
    torch.manual_seed(recipe.seed)
    return Seq2SeqTransformer(recipe.config, seed=recipe.seed)


def steps_of(
    recipe: Recipe, model: Seq2SeqTransformer, tokenizer: BPETokenizer | None = None, **changes
) -> Iterator[TrainStep]:
    """Train the model by the recipe, a record for each step. `changes` overrides settings of `train`."""
    tokenizer = tokenizer or tokenizer_of(recipe)
    generator = torch.Generator().manual_seed(recipe.seed)
    pairs = encoded(tokenizer, training_pairs(recipe))
    batches = pair_batches(*pairs, recipe.rows, generator=generator, **_symbols(tokenizer))
    settings = {"steps": recipe.steps, "validation": validation_batches(tokenizer, recipe)}
    return train(model, batches, **{**settings, **recipe.settings, **changes})


def make(
    name: str,
    out: Path,
    *,
    device: torch.device | None = None,
    resume: bool = False,
    stop_after: int | None = None,
    watch_every: int = 1000,
) -> dict:
    """Train, store the weights in bfloat16 with the tokenizer, and write beside them the config, the seed, the data and
    the figures (.json), and the figures as they are printed (.txt).

    Returns what stands in that file's `about`; its figures are those of the stored weights. While it runs, a training
    checkpoint lies in `out`, and `resume` goes on from it (the records that are written begin there). `stop_after`
    breaks off after so many steps, on the same schedule: for a trial.

    Raises:
        ModuleNotFoundError: sacrebleu is not installed; before anything is trained.
    """
    recipe, training = RECIPES[name], out / f"{name}.training.safetensors"
    bleu(["a"], [["a"]])  # were sacrebleu missing, better to know now than in an hour
    tokenizer, model = tokenizer_of(recipe), model_of(recipe).to(device or "cpu")
    first = processes.Processes.now().first  # of several processes, the one that reports and writes
    records, watched = [], []
    settings = {"checkpoint": training, "save_every": 500, "evaluate_every": watch_every, "resume": resume}
    with closing(steps_of(recipe, model, tokenizer, **settings)) as steps:
        for step in progress.lines(steps, recipe.steps, every_seconds=10) if first else steps:
            records.append(step)
            if first and step.step % watch_every == 0:
                watched.append([step.step, _watch(model, tokenizer, step)])
            if stop_after is not None and step.step >= stop_after:
                break
    if not first:
        return {}
    path = save_model(out / f"{name}.safetensors", model, tokenizer, dtype=torch.bfloat16, recipe=name)
    about = figures(name, path) | _run_of(training) | {"watched": watched, "machine": machine(device)}
    recordings.save(path.with_suffix(".json"), {"training": records[:20] + records[20::25]}, **about)
    path.with_suffix(".txt").write_text(report(about) + "\n", encoding="utf-8")
    training.unlink(missing_ok=True)
    return about


def _watch(model: Seq2SeqTransformer, tokenizer: BPETokenizer, step: TrainStep) -> float:
    """BLEU on a few validation sentences; also printed, for whoever follows the run."""
    short = held_out(part="validation")
    sources = list(short)[:: max(1, len(short) // WATCHED)][:WATCHED]
    said = translate(model, tokenizer, sources)
    score = round(bleu(said, [short[source] for source in sources]), 2)
    print(f"step {step.step:,}: BLEU {score:.1f} on {len(sources)} validation sentences", file=sys.stderr, flush=True)
    return score


def _run_of(training: Path) -> dict:
    """From the training checkpoint, which also knows of a run that was finished before."""
    done = read_tensors(training)[1]
    return {"steps": done["step"], "training_tokens": done["tokens"], "seconds": round(done["seconds"], 1)}


# --- what it is worth


def figures(name: str, path: Path, *, sentences: int | None = None) -> dict:
    """What is to be known of the stored model: its recipe, and what it makes of held-out sentences, here and now.

    Args:
        sentences: judge by so many of the held-out sentences, evenly spread; None: by all.
    """
    recipe = RECIPES[name]
    model, tokenizer, _ = load_model(path)
    short = _some(held_out(), sentences)
    sources, references = list(short), list(short.values())
    decoders = []
    for beams, penalty in ((None, 1.0), *BEAMS):
        said = translate(model, tokenizer, sources, beams=beams, length_penalty=penalty)
        decoder = "greedy" if beams is None else f"beam {beams}"
        decoders.append({"decoder": decoder, "length_penalty": penalty} | score(said, references))
        if beams == 4 and penalty == 1.0:
            known = known_targets([(source, each[0]) for source, each in short.items()], parts().train)
            fresh = [n for n, seen in enumerate(known) if not seen]
            unseen = score([said[n] for n in fresh], [references[n] for n in fresh]) | {"sentences": len(fresh)}
    samples = [translate(model, tokenizer, SENTENCES, beams=beams) for beams in (None, 4)]
    return {
        "recipe": name,
        "about": recipe.about,
        "config": asdict(recipe.config),
        "seed": recipe.seed,
        "data": {
            "asset": "spanish_english",
            "sha256": assets.ASSETS["spanish_english"].sha256,
            "pairs": len(training_pairs(recipe)),
            "held_out": f"3 % of the Spanish sentences, of them those of at most {SHORT} words",
        },
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "bytes": path.stat().st_size,
        "validation_loss": round(evaluate(model, validation_batches(tokenizer, recipe)), 4),
        "sentences": len(short),
        "decoders": decoders,
        "english_unseen": unseen,
        "by_length": _by_length(model, tokenizer, sentences),
        "samples": [list(sample) for sample in zip(SENTENCES, *samples, strict=True)],
    }


def _some(sentences: dict[str, list[str]], count: int | None) -> dict[str, list[str]]:
    if count is None or count >= len(sentences):
        return sentences
    names = list(sentences)
    return {name: sentences[name] for name in (names[n * len(names) // count] for n in range(count))}


def _by_length(model: Seq2SeqTransformer, tokenizer: BPETokenizer, count: int | None) -> list[dict]:
    """Greedy decoding, by the words of the Spanish sentence; sentences that the model cannot read are left out."""
    rows, every = [], _some(held_out(words=LENGTHS[-1][1]), count)
    for low, high in LENGTHS:
        group = {s: each for s, each in every.items() if low <= len(s.split()) <= high}
        group = {s: each for s, each in group.items() if len(tokenizer.encode(s)) <= model.source_length}
        if group:
            found = score(translate(model, tokenizer, list(group)), list(group.values()))
            rows.append({"words": [low, high], "sentences": len(group)} | found)
    return rows


def report(about: dict) -> str:
    """The figures in a page of text."""
    lines = [
        f"{about['recipe']}: {about['about']}",
        f"{about['parameters']:,} parameters, {about['bytes']:,} bytes as stored",
        f"{about['steps']:,} steps, {about['training_tokens']:,} English tokens, {about['seconds']:.0f} s",
        about["machine"],
        f"validation loss {about['validation_loss']:.4f} nats a token",
        "",
        f"{about['sentences']:,} held-out sentences of at most {SHORT} Spanish words (lp: length penalty)",
        f"{'':14}{'BLEU':>7}{'all refs':>10}{'exact':>8}{'words':>7}{'same n':>8}",
    ]
    for row in about["decoders"]:
        plain = "" if row["decoder"] == "greedy" else f", lp {row['length_penalty']:g}"
        lines.append(f"{row['decoder'] + plain:14}" + _columns(row))
    unseen = about["english_unseen"]
    lines += ["", f"beam 4, the {unseen['sentences']:,} whose English is new too", f"{'':14}" + _columns(unseen)]
    lines += ["", "greedy, by the number of Spanish words"]
    for row in about["by_length"]:
        name = f"{row['words'][0]} to {row['words'][1]}"
        lines.append(f"{name:14}" + _columns(row) + f"   {row['sentences']:,} sentences")
    lines += ["", "BLEU: sacrebleu, first reference; all refs: every translation listed; exact: one of them to the"]
    lines += ["letter; words: written for each of the first reference; same n: as many words as it has"]
    for spanish, plain, beam in about["samples"]:
        lines += ["", spanish, f"  greedy  {plain}", f"  beam 4  {beam}"]
    return "\n".join(lines)


def _columns(row: dict) -> str:
    exact, ratio, same = row["exact"], row["length_ratio"], row["same_length"]
    return f"{row['bleu']:7.1f}{row['bleu_all_references']:10.1f}{exact:8.1%}{ratio:7.3f}{same:8.1%}"
