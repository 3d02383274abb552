"""Notebook 15's long run: copying random letters, by five encoder-decoders that see the same pairs.

Copying needs nothing but memory: a source of n letters has to get through whatever stands between encoder and decoder.
The longer it is, the less fits into one vector of fixed size.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from arlab.decoding import greedy
from arlab.lab import machine
from arlab.nn.model_file import own_tensors, put_tensors, read_tensors, write_tensors
from arlab.nn.rnn import Seq2SeqRNN
from arlab.nn.seq2seq import Seq2SeqConfig, Seq2SeqTransformer
from arlab.text.batches import IGNORE, Batch
from arlab.text.pairs import ordered_pairs, pair_batches
from arlab.training import recordings
from arlab.training.loop import TrainStep, fit

FILE = Path(__file__).resolve().parents[1] / "checkpoints" / "15_encoder_decoder.json"
LETTERS, BOS, EOS = 26, 26, 27  # ids 0 .. 25 are letters
SHORTEST, LONGEST = 2, 24
WIDTH = 64  # of the embeddings and of the transformer; the recurrent states have twice as much
MODELS = ("fixed context", "bidirectional", "deep", "attention", "transformer")


def letter_model(name: str, seed: int) -> nn.Module:
    """One of MODELS, untrained.

    Raises:
        ValueError: another name.
    """
    if name not in MODELS:
        raise ValueError(f"model is {name!r}; it must be one of {', '.join(MODELS)}")
    if name == "transformer":
        sizes = {"source_vocab": LETTERS, "vocab_size": EOS + 1, "d_model": WIDTH, "heads": 4, "bos_id": BOS}
        lengths = {"source_length": LONGEST, "context_length": LONGEST + 2}  # the start symbol; greedy asks for the end
        return Seq2SeqTransformer(Seq2SeqConfig(**sizes, **lengths, encoder_layers=1, layers=1), seed=seed)
    options = {"bidirectional": name == "bidirectional", "attention": name == "attention"}
    return Seq2SeqRNN(
        LETTERS, EOS + 1, WIDTH, 2 * WIDTH, layers=2 if name == "deep" else 1, bos_id=BOS, seed=seed, **options
    )


def words(count: int, length: int | None, generator: torch.Generator) -> list[list[int]]:
    """Random letters: `count` words of one length, or of lengths from SHORTEST to LONGEST, each as likely."""
    lengths = (
        torch.randint(SHORTEST, LONGEST + 1, (count,), generator=generator) if length is None else [length] * count
    )
    return [torch.randint(LETTERS, (int(n),), generator=generator).tolist() for n in lengths]


def letter_batches(count: int, rows: int, seed: int) -> Iterator[Batch]:
    """Endless batches from `count` words, each to be copied; words of like length share a batch."""
    generator = torch.Generator().manual_seed(seed)
    data = words(count, None, generator)
    return pair_batches(data, data, rows, bos_id=BOS, eos_id=EOS, generator=generator)


def exact_match(
    model: nn.Module, sources: Sequence[list[int]], targets: Sequence[list[int]], bos: int, eos: int
) -> float:
    """The share of the sources for which greedy decoding writes the target and then stops."""
    longest = max(map(len, targets)) + 1
    out = greedy(model.given(list(sources)), [[bos]] * len(sources), max_new_tokens=longest, eos_id=eos)
    return sum(out.tokens(row) == [*target, eos] for row, target in enumerate(targets)) / len(targets)


def gradient_by_position(
    model: nn.Module, batch: Batch, targets_at: Sequence[int] | None = None
) -> Float[Tensor, "time source_time"]:
    """How much log p(y_t) of the right target depends on source position i: the gradient's norm, mean over the rows.

    The rows' sources are of one length, their targets too.

    Args:
        targets_at: the target positions asked for, one row of the result each; every one without it.

    Raises:
        ValueError: rows with padding.
    """
    inputs, targets = batch
    if bool((inputs.lengths < inputs.source.size(1)).any()) or bool((targets == IGNORE).any()):
        raise ValueError("the rows have sources or targets of several lengths; needed one length, without padding")
    x = model.source_embeddings(inputs.source).detach().requires_grad_()
    logp = model.forward_embeddings(x, inputs).log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    rows = []
    for t in range(targets.size(1)) if targets_at is None else targets_at:
        (gradient,) = torch.autograd.grad(logp[:, t].sum(), x, retain_graph=True)
        rows.append(gradient.norm(dim=-1).mean(0))
    return torch.stack(rows)


def letters(
    name: str, seed: int, *, steps: int, rows: int = 64, lr: float = 3e-3, judged: int = 200
) -> tuple[nn.Module, list[TrainStep], dict]:
    """Train one model: itself, its records, exact match at each even length, and gradients at the longest."""
    model = letter_model(name, seed)
    started = time.process_time()
    settings = {"lr": lr, "warmup": min(100, steps // 4), "min_lr": lr / 20, "betas": (0.9, 0.98)}
    records = fit(model, letter_batches(rows * steps, rows, seed), steps=steps, **settings)
    seconds = time.process_time() - started
    test = judged_words(judged)
    (batch,) = ordered_pairs(test[LONGEST][:32], test[LONGEST][:32], 32, bos_id=BOS, eos_id=EOS)
    return (
        model,
        records,
        {
            "model": name,
            "seed": seed,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "seconds": round(seconds, 1),
            "exact": [round(exact_match(model, each, each, BOS, EOS), 4) for each in test.values()],
            "gradient": [[float(f"{g:.3g}") for g in row] for row in gradient_by_position(model, batch).tolist()],
        },
    )


def judged_words(judged: int) -> dict[int, list[list[int]]]:
    """The words that every model is judged by: `judged` of each even length.

    From 4 letters on hardly any of them is among those trained on; of 2 letters there are only 676, and most are.
    """
    generator = torch.Generator().manual_seed(1000)
    return {length: words(judged, length, generator) for length in range(SHORTEST, LONGEST + 1, 2)}


def record(
    path: str | Path = FILE, seeds: Sequence[int] = (0, 1, 2), steps: int = 600, models: Sequence[str] = MODELS
) -> Path:
    """About ten minutes on one CPU core. Beside the figures go the weights of the first seed, for `trained`.

    The files are written anew after every run, so that one may stop in between.
    """
    torch.set_num_threads(1)
    curves, results, weights = {}, [], {}
    for seed in seeds:
        for name in models:
            model, steps_of, result = letters(name, seed, steps=steps)
            curves[f"{name}, seed {seed}"] = recordings.thinned(steps_of, max(1, steps // 40))
            results.append(result)
            if seed == seeds[0]:
                weights |= {f"{name}/{key}": tensor.half() for key, tensor in own_tensors(model).items()}
                write_tensors(Path(path).with_suffix(".weights"), weights, {"seed": seed, "steps": steps})
            recordings.save(
                path,
                curves,
                task="copy random letters",
                lengths=list(judged_words(1)),
                steps=steps,
                rows=64,
                judged=200,
                results=results,
                machine=machine(),
            )
    return Path(path)


def trained(path: str | Path = FILE) -> dict[str, nn.Module]:
    """The recorded models of the first seed, in eval mode on the CPU; their weights were stored in 16 bits.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of another kind.
    """
    path = Path(path).with_suffix(".weights")
    tensors, metadata = read_tensors(path)
    models = {}
    found = {key.partition("/")[0] for key in tensors}
    for name in (each for each in MODELS if each in found):
        models[name] = letter_model(name, metadata["seed"]).eval()
        own = {key.partition("/")[2]: tensor.float() for key, tensor in tensors.items() if key.startswith(f"{name}/")}
        put_tensors(models[name], own, path)
    return models
