"""Notebook 14's long runs: every strategy on a story and on facts, and a sweep of temperature and top-p."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from arlab.decoding import MinP, Temperature, TopK, TopP, beam_search, contrastive_decoding, greedy, sample
from arlab.decoding.comparison import Outcome, Strategy, compare
from arlab.decoding.drafts import LookupDraft
from arlab.decoding.measures import distinct
from arlab.decoding.speculative import speculative_decoding
from arlab.nn.language_model import LanguageModel, Recompute
from arlab.nn.pretrained import smollm2
from arlab.recipes import load
from arlab.text.corpora import tiny_shakespeare
from arlab.training import recordings

FILE = Path(__file__).resolve().parents[1] / "checkpoints" / "14_choosing_a_decoder.json"

FABLE = "There was a time when all the body's members"  # where it begins in Coriolanus I.1
CAPITALS = """France Paris, Italy Rome, Spain Madrid, Germany Berlin, Japan Tokyo, China Beijing, Russia Moscow,
Egypt Cairo, Greece Athens, Portugal Lisbon, Austria Vienna, Poland Warsaw, Hungary Budapest, Sweden Stockholm,
Norway Oslo, Ireland Dublin, Australia Canberra, Canada Ottawa, Turkey Ankara, Kenya Nairobi, Peru Lima, Cuba Havana,
Thailand Bangkok, Switzerland Bern"""
FACTS = {f"The capital of {country} is": city for country, city in (pair.split() for pair in CAPITALS.split(","))} | {
    "The largest planet in our solar system is": "Jupiter",
    "The chemical symbol for gold is": "Au",
    "The author of Hamlet is William": "Shakespeare",
    "The opposite of hot is": "cold",
    "The first president of the United States was George": "Washington",
    "The Mona Lisa was painted by Leonardo": "da Vinci",
    "The currency of Japan is the": "yen",
    "The theory of relativity was developed by Albert": "Einstein",
}
EXAMPLES = (
    "Brazil: Brasilia\nIndia: New Delhi\nMexico: Mexico City\n"  # before "France:", to show the form of an answer
)
TEMPERATURES, SHARES = (0.5, 0.7, 1.0, 1.3), (0.5, 0.8, 0.95, 1.0)  # of the sweep: T, then top-p
STORY_LINES, LINES = 4, 10  # of the fable: the prompt, and all before somebody breaks in
STORY_TOKENS, FACT_TOKENS, SAMPLES, DRAWS = 60, 4, 6, 2
OTHERWISE = ("T = 0.5, beam 5", "contrastive, beam 5", "speculative")  # strategies that are not run on the facts


def story() -> tuple[str, str]:
    """(beginning, what follows): the first lines of Menenius's fable, verse line breaks and all.

    Raises:
        ValueError: the text has no such fable.
    """
    text = tiny_shakespeare()
    lines = text[text.index(FABLE) :].split("\n")[:LINES]
    return "\n".join(lines[:STORY_LINES]), "".join("\n" + line for line in lines[STORY_LINES:])


def strategies(model: LanguageModel, *, window: int, samples: int) -> dict[str, Strategy]:
    """Every strategy of notebook 14, all filled in but the prompt. The weak model sees the last `window` tokens."""
    weak = Recompute(model, window=window)
    drawn = {
        "T = 0.7": [Temperature(0.7)],
        "plain sampling": [],
        "T = 1.5": [Temperature(1.5)],
        "top-k 50": [TopK(50)],
        "top-p 0.9": [TopP(0.9)],
        "min-p 0.1": [MinP(0.1)],
        "T = 0.7, top-k 50": [Temperature(0.7), TopK(50)],
        "T = 0.7, top-p 0.9": [Temperature(0.7), TopP(0.9)],
        "T = 1.5, min-p 0.1": [Temperature(1.5), MinP(0.1)],
    }
    return {
        "greedy": partial(greedy, model),
        "beam 2": partial(beam_search, model, beams=2),
        "beam 5": partial(beam_search, model, beams=5),
        "beam 10": partial(beam_search, model, beams=10),
        "T = 0.5, beam 5": partial(beam_search, model, beams=5, filters=[Temperature(0.5)]),
        "T = 2, beam 5": partial(beam_search, model, beams=5, filters=[Temperature(2)]),
        "contrastive": partial(contrastive_decoding, model, weak),
        "contrastive, beam 5": partial(contrastive_decoding, model, weak, beams=5),
        "speculative": partial(speculative_decoding, model, LookupDraft(), filters=[Temperature(0)]),
        **{name: partial(sample, model, filters=filters, n=samples) for name, filters in drawn.items()},
    }


def is_right(text: str, answer: str) -> bool:
    """The text begins with the answer as a whole word."""
    return re.match(rf"\s*{re.escape(answer)}(?![A-Za-z])", text) is not None


def record_story(model: LanguageModel, tokenizer) -> list[dict]:
    """An Outcome for each strategy, its seconds being CPU seconds."""
    prompt = tokenizer.encode(story()[0])
    run = partial(_outcome, prompt, STORY_TOKENS, tokenizer)
    return [run(*pair) for pair in strategies(model, window=8, samples=SAMPLES).items()]


def record_facts(model: LanguageModel, tokenizer) -> dict[str, list[list[str]]]:
    """For each strategy, what it wrote after each fact: one text, or several of them where it draws.

    The weak model of contrastive decoding sees two tokens: with eight it would see nearly all of these prompts.
    """
    prompts = [tokenizer.encode(prompt) for prompt in FACTS]
    written = {}
    for name, strategy in strategies(model, window=2, samples=DRAWS).items():
        # Speculative decoding is greedy's text; a sampler's chance is computed exactly, and one is drawn from to check.
        if name in OTHERWISE or (strategy.func is sample and name != "top-p 0.9"):
            continue
        drawn = {"generator": torch.Generator().manual_seed(0)} if strategy.func is sample else {}
        made = strategy(prompts, max_new_tokens=FACT_TOKENS, **drawn)
        written[name] = [[tokenizer.decode(ids) for ids in row] for row in made.ids.tolist()]
        print(name, flush=True)
    return written


def shown(country: str) -> str:
    """The prompt that shows by examples what an answer looks like: it ends with its line."""
    return f"{EXAMPLES}{country}:"


def record_examples(model: LanguageModel, tokenizer) -> dict[str, list[str]]:
    """For greedy and some beams, the answer's line for each capital, the examples before it."""
    countries = [
        question.removeprefix("The capital of ").removesuffix(" is") for question in FACTS if "capital" in question
    ]
    prompts = [tokenizer.encode(shown(country)) for country in countries]
    (end,) = tokenizer.encode("\n")
    runs: dict[str, Strategy] = {"greedy": partial(greedy, model)}
    for beams, penalty in itertools.product((2, 5, 10), (0.0, 1.0)):
        name = f"beam {beams}, {'mean' if penalty else 'sum'}"
        runs[name] = partial(beam_search, model, beams=beams, length_penalty=penalty)
    written = {}
    for name, run in runs.items():
        made = run(prompts, max_new_tokens=6, eos_id=end)
        written[name] = [tokenizer.decode(made.tokens(row)) for row in range(len(prompts))]
        print(name, flush=True)
    return written


def windows(ids: Int[Tensor, "tokens"], rows: int, length: int) -> Int[Tensor, "rows length"]:
    """`rows` stretches of the text, evenly spaced.

    Raises:
        ValueError: a text shorter than one stretch.
    """
    if len(ids) < length:
        raise ValueError(f"the text has {len(ids)} tokens; a stretch needs {length}")
    starts = torch.linspace(0, len(ids) - length, rows).long()
    return ids[starts[:, None] + torch.arange(length)]


def words(text: str) -> list[str]:
    """The words of a text, the first and the last left out: they may be cut."""
    return re.findall(r"[A-Za-z']+", text)[1:-1]


def word_measures(texts: list[str], known: set[str]) -> dict[str, float]:
    """The share of words that are known, and of word pairs that are new, over all texts together."""
    split = [words(text) for text in texts]
    every = [word for text in split for word in text]
    return {"known": sum(word in known for word in every) / max(1, len(every)), "distinct": distinct(split, 2)}


def record_shakespeare(rows: int = 48, prompt: int = 48, new: int = 120) -> list[dict]:
    """The character model on held-out prompts: the sweep, greedy and beam 5, and the text that really follows."""
    model, tokenizer = load("shakespeare_strong")
    text = tiny_shakespeare()
    cut = int(0.9 * len(text))
    known = set(re.findall(r"[A-Za-z']+", text[:cut]))
    stretches = windows(torch.tensor(tokenizer.encode(text[cut:])), rows, prompt + new)
    prompts, real = stretches[:, :prompt], stretches[:, prompt:]
    runs = {"greedy": partial(greedy, model), "beam 5": partial(beam_search, model, beams=5)}
    settings = {name: {"t": None, "p": None} for name in ["held-out text", *runs]}
    for t, p in itertools.product(TEMPERATURES, SHARES):
        name = f"T = {t:g}, top-p {p:g}"
        settings[name] = {"t": t, "p": p}
        runs[name] = partial(sample, model, filters=[Temperature(t), TopP(p)])
    points = []
    for name, setting in settings.items():
        if name == "held-out text":
            ids = real
        else:
            drawn = {"generator": torch.Generator().manual_seed(0)} if setting["t"] is not None else {}
            ids = runs[name](prompts, max_new_tokens=new, **drawn).ids[:, 0]
        texts = [tokenizer.decode(row) for row in ids.tolist()]
        logprob = float(token_logprobs(model, prompts, ids).mean())
        measured = {"logprob": logprob, **word_measures(texts, known)}
        measured = {key: round(value, 4) for key, value in measured.items()}
        points.append({"name": name, **setting, **measured, "texts": texts[: 16 if name == "beam 5" else 1]})
        print(name, measured, flush=True)
    return points


@torch.no_grad()
def token_logprobs(model: LanguageModel, prompts: Int[Tensor, "rows before"], ids: Int[Tensor, "rows time"]) -> Tensor:
    """log p of each of the ids after its prompt, (rows, time), from one pass."""
    logits = model(torch.cat([prompts, ids], dim=1))[:, prompts.size(1) - 1 : -1]
    return logits.float().log_softmax(-1).gather(-1, ids[..., None])[..., 0]


def record(path: str | Path = FILE) -> Path:
    """About six minutes on one CPU core; draws from seed 0."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so that CPU seconds are seconds
    try:
        model, tokenizer = smollm2()
        return recordings.save(
            path,
            {},
            model="SmolLM2-135M-Instruct, float32",
            seconds_are="CPU seconds, one thread",
            story=record_story(model, tokenizer),
            facts=record_facts(model, tokenizer),
            examples=record_examples(model, tokenizer),
            shakespeare=record_shakespeare(),
            torch=torch.__version__,
        )
    finally:
        torch.set_num_threads(threads)


def outcomes(path: str | Path = FILE) -> list[Outcome]:
    """The recorded Outcomes of the story.

    Raises:
        FileNotFoundError, ValueError: as in `recordings.load`.
    """
    return [Outcome(**each) for each in recordings.load(path)[1]["story"]]


def _outcome(prompt: list[int], new: int, tokenizer, name: str, strategy: Strategy) -> dict:
    """One strategy's Outcome as plain values, numbers to four decimals."""
    start = time.process_time()
    (made,) = compare(
        {name: strategy}, prompt, max_new_tokens=new, eos_id=tokenizer.eos_id, seed=0, decode=tokenizer.decode
    )
    made = replace(made, seconds=time.process_time() - start)
    print(name, round(made.seconds, 1), round(made.logprob, 2), round(made.diversity, 2), flush=True)
    return _rounded(asdict(made))


def _rounded(values: Mapping) -> dict:
    def short(value):
        if isinstance(value, float):
            return round(value, 4)
        return [short(each) for each in value] if isinstance(value, list) else value

    return {key: short(value) for key, value in values.items()}
