"""Notebook 11's long runs: SmolLM2 with beams 1, 2, 5 and 10 on twelve beginnings, and on twelve begun answers.

The first looks for what a wider beam does to a text of fixed length (likelihood, repetition, diversity), the second for
what it does to the length where the end symbol is free to come at once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from arlab.decoding import Generation, TopP, beam_search, sample
from arlab.decoding.measures import distinct, repetition
from arlab.nn.language_model import LanguageModel, last_logits
from arlab.nn.pretrained import smollm2
from arlab.text.tokenizers import BPETokenizer
from arlab.training import recordings

FILE = Path(__file__).resolve().parents[1] / "checkpoints" / "11_beam_search.json"
WIDTHS = (1, 2, 5, 10)
PENALTIES = (0.0, 1.0)
DRAWS = 5

STORIES = (
    "The cat sat on the",
    "Once upon a time there was a",
    "The little girl walked into the forest. She",
    "My grandmother always told me that",
    "The old man opened the letter and",
    "The history of the city begins",
    "Scientists have discovered that",
    "The best way to learn a language is",
    "It was raining when the train arrived in",
    "In the middle of the night, the telephone",
    "The recipe is simple. First, you",
    "When the ship reached the island, the captain",
)
ANSWERS = (
    ("Describe the sea.", "The sea is wide."),
    ("Describe your house.", "My house is small."),
    ("What is the weather like?", "It is raining."),
    ("Who was Mozart?", "Mozart was a composer."),
    ("What do you do on Sundays?", "I sleep."),
    ("Tell me about cats.", "Cats are animals."),
    ("What is bread?", "Bread is food."),
    ("Where do you live?", "I live in a city."),
    ("What is the moon?", "The moon is far away."),
    ("Is chess difficult?", "Yes, it is."),
    ("What is your favourite colour?", "It is blue."),
    ("How was the film?", "The film was long."),
)


def begun_answers(tokenizer: BPETokenizer, pairs: Sequence[tuple[str, str]] = ANSWERS) -> list[list[int]]:
    """A question and the first sentence of its answer, as the ids of a chat that may go on or end here."""
    return [tokenizer.chat([{"role": "user", "content": ask}]) + tokenizer.encode(begun) for ask, begun in pairs]


def figures(out: Generation, row: int) -> dict:
    """What one prompt's hypotheses (best first) have to show."""
    texts = [out.tokens(row, n) for n in range(out.ids.size(1)) if out.lengths[row, n]]
    return {
        "logprob": round(float(out.logprobs[row, 0].sum()), 4),
        "length": len(texts[0]),
        "finished": bool(out.finished[row, 0]),
        "repetition": round(repetition(texts[0]), 4),
        "distinct": round(distinct(texts, 4), 4),  # over all hypotheses together
    }


def by_width(model: LanguageModel, prompts: Sequence[list[int]], widths: Sequence[int], rows: int = 4, **options):
    """widths -> one record a prompt (see `figures`), with all hypotheses of the beam; `rows` prompts at a time."""
    found = []
    for width in widths:
        records = []
        for start in range(0, len(prompts), rows):
            part = list(prompts[start : start + rows])
            out = beam_search(model, part, beams=width, n=width, **options)
            records += [{**figures(out, row), "ids": out.tokens(row)} for row in range(len(part))]
        found.append(records)
    return found


@torch.no_grad()
def ends_at_once(model: LanguageModel, prompts: Sequence[list[int]], eos_id: int) -> list[dict]:
    """log p of the empty continuation of each prompt, and its rank among the first tokens (1: the most probable)."""
    found = []
    for prompt in prompts:
        logprobs = last_logits(model, torch.tensor([prompt]))[0].double().log_softmax(-1)
        rank = int((logprobs > logprobs[eos_id]).sum()) + 1
        found.append({"logprob": round(float(logprobs[eos_id]), 4), "rank": rank})
    return found


@torch.inference_mode()
def record(path: str | Path = FILE, length: int = 48, longest: int = 24) -> Path:
    """About six minutes on one CPU core."""
    began = time.process_time()
    model, tokenizer = smollm2()
    stories = [tokenizer.encode(prompt) for prompt in STORIES]
    wide = by_width(model, stories, WIDTHS, max_new_tokens=length)  # nobody looks for an end: all are equally long
    drawn = []
    for i, story in enumerate(stories):
        coin = torch.Generator().manual_seed(i)
        out = sample(model, story, max_new_tokens=length, filters=[TopP(0.9)], n=DRAWS, generator=coin)
        texts = [out.tokens(0, n) for n in range(DRAWS)]
        drawn.append(
            {
                "logprob": round(float(out.scores.mean()), 4),
                "repetition": round(repetition(texts), 4),
                "distinct": round(distinct(texts, 4), 4),
            }
        )
    answers = begun_answers(tokenizer)
    ends = {"max_new_tokens": longest, "eos_id": tokenizer.eos_id}
    lengths = [by_width(model, answers, WIDTHS, length_penalty=penalty, **ends) for penalty in PENALTIES]
    return recordings.save(
        path,
        {},
        model="SmolLM2-135M-Instruct, float32",
        widths=list(WIDTHS),
        tokens=length,
        prompts=list(STORIES),
        stories=wide,  # [width][prompt]
        sampled=drawn,  # [prompt]: means of DRAWS texts at top-p .9
        penalties=list(PENALTIES),
        answers=lengths,  # [penalty][width][answer]
        empty=ends_at_once(model, answers, tokenizer.eos_id),
        longest=longest,
        cpu_seconds=round(time.process_time() - began, 1),
        torch=torch.__version__,
    )
