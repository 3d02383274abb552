"""Notebook 12's long run: SmolLM2 against three weak models, how repetitive and how probable its texts become.

Every text starts from the first 14 tokens of an opening and is 80 tokens long. The model is a chat model; it may not
write its special tokens here, so that all texts are of one length and can be compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from arlab.decoding import Temperature, TopP, contrastive_steps, greedy, sample
from arlab.decoding.measures import diversity, loop, repetition
from arlab.nn.early_exit import EarlyExit
from arlab.nn.language_model import LanguageModel, Recompute, last_logits
from arlab.nn.pretrained import smollm2
from arlab.nn.prompt_forgotten import PromptForgotten
from arlab.training import recordings

FILE = Path(__file__).resolve().parents[1] / "checkpoints" / "12_contrastive_decoding.json"

OPENINGS = (
    "The cat sat on the mat and looked out of the window at the birds in the garden",
    "Once upon a time there was a king who had three daughters. The youngest of them was",
    "She opened the door and saw a man whom she had not met for twenty years. He smiled",
    "The history of the printing press begins in the fifteenth century, when a goldsmith from Mainz",
    "Scientists announced on Monday that they had found a new species of frog in the mountains of",
    "My favourite food is bread, because when I was a child my grandmother used to bake it",
    "The old lighthouse stood at the end of the island. Every night the keeper climbed the stairs",
    "In the last match of the season the home team was losing by two goals when the",
)
PROMPT, TOKENS = 14, 80
ALPHAS = (0.5, 0.3, 0.1, 0.03, None)


class WithoutSpecial(nn.Module):
    """A language model whose special tokens are forbidden."""

    def __init__(self, model: LanguageModel, forbidden: list[int]):
        super().__init__()
        self.model, self.forbidden = model, forbidden
        self.vocab_size, self.context_length, self.bos_id = model.vocab_size, model.context_length, model.bos_id

    def new_cache(self, rows: int, capacity: int):
        return self.model.new_cache(rows, capacity)

    def forward(self, ids: Int[Tensor, "rows time"], cache=None) -> Float[Tensor, "rows time vocab"]:
        return self._without(self.model(ids, cache))

    def last_logits(self, ids: Int[Tensor, "rows time"], cache=None, lengths=None) -> Float[Tensor, "rows vocab"]:
        return self._without(last_logits(self.model, ids, cache, lengths))

    def _without(self, logits: Tensor) -> Tensor:
        logits = logits.clone()
        logits[..., self.forbidden] = -torch.inf
        return logits


def openings(tokenizer) -> Int[Tensor, "openings 14"]:
    return torch.tensor([tokenizer.encode(text)[:PROMPT] for text in OPENINGS])


def weak_models(model, forbidden: list[int]) -> dict[str, tuple[LanguageModel, tuple[float | None, ...]]]:
    """Each weak model by name, and the alphas to try with it."""
    whole = WithoutSpecial(model, forbidden)
    return {
        "prompt forgotten": (PromptForgotten(whole), ALPHAS),
        "window of 4": (Recompute(whole, window=4), ALPHAS[1:]),
        "first 20 layers": (WithoutSpecial(EarlyExit(model, 20), forbidden), ALPHAS[1:4]),
    }


def settings(model, forbidden: list[int], prompts: Tensor) -> Iterator[tuple[str, float | None, Callable]]:
    """(weak model or other decoder, alpha, function that writes the texts)."""
    strong = WithoutSpecial(model, forbidden)
    length = {"max_new_tokens": TOKENS}
    yield "greedy", None, lambda: greedy(strong, prompts, **length)
    for name, filters in (
        ("sampling", ()),
        ("sampling, top-p .9", (TopP(0.9),)),
        ("sampling, T .7, top-p .9", (Temperature(0.7), TopP(0.9))),
    ):
        draw = {"filters": filters, "generator": torch.Generator().manual_seed(0)}
        yield name, None, lambda draw=draw: sample(strong, prompts, **draw, **length)
    for name, (weak, alphas) in weak_models(model, forbidden).items():
        for alpha in alphas:
            yield name, alpha, lambda weak=weak, alpha=alpha: (strong, weak, alpha)


def write(strong, weak, alpha: float | None, prompts: Tensor) -> tuple[list[list[int]], Tensor, Tensor, Tensor]:
    """Greedy contrastive decoding: texts, log p (rows, time), size of the plausible set, was it the argmax?"""
    chosen, logprobs, sizes, same = [], [], [], []
    for step in contrastive_steps(strong, weak, prompts, max_new_tokens=TOKENS, alpha=alpha):
        chosen.append(step.chosen)
        logprobs.append(step.logprob)
        sizes.append(step.plausible.sum(-1))
        same.append(step.chosen == step.strong.argmax(-1))
    logprobs, sizes, same = (torch.stack(each, -1) for each in (logprobs, sizes, same))
    return torch.stack(chosen, -1).tolist(), logprobs, sizes, same


def measured(texts: list[list[int]], logprobs: Tensor, tokenizer) -> dict:
    return {
        "repetition": [round(repetition(ids), 4) for ids in texts],
        "diversity": [round(diversity(ids), 4) for ids in texts],
        "logprob": [round(x, 4) for x in logprobs.mean(-1).tolist()],
        "loops": sum(loop(ids) is not None for ids in texts),
        "texts": [tokenizer.decode(ids) for ids in texts],
    }


def record(path: str | Path = FILE) -> Path:
    """About six minutes on one CPU core."""
    start = time.process_time()
    model, tokenizer = smollm2()
    special = [i for i, text in enumerate(tokenizer.token_strings()) if text.startswith("<|") and text.endswith("|>")]
    prompts, runs = openings(tokenizer), []
    for name, alpha, decode in settings(model, special, prompts):
        found = decode()
        about = {"name": name, "alpha": alpha}
        if isinstance(found, tuple):
            texts, logprobs, sizes, same = write(*found, prompts)
            about |= {
                "same": round(float(same.double().mean()), 4),
                "one": round(float((sizes == 1).double().mean()), 4),
                "median_size": int(sizes.median()),
            }
        else:
            texts, logprobs = [found.tokens(row) for row in range(len(prompts))], found.logprobs[:, 0]
        runs.append(about | measured(texts, logprobs, tokenizer))
        mean = {key: sum(runs[-1][key]) / len(prompts) for key in ("repetition", "logprob")}
        print(f"{name}, alpha {alpha}: repetition {mean['repetition']:.3f}, log p {mean['logprob']:.2f}", flush=True)
    return recordings.save(
        path,
        {},
        model="SmolLM2-135M-Instruct, float32",
        prompts=[tokenizer.decode(ids) for ids in prompts.tolist()],
        tokens=TOKENS,
        settings=runs,
        cpu_seconds=round(time.process_time() - start),
        torch=torch.__version__,
    )


def recorded(path: str | Path = FILE) -> dict:
    """What `record` wrote: prompts, and for each setting its measures, one number an opening, and its texts."""
    return recordings.load(path)[1]
