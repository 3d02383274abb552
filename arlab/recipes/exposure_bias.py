"""Notebook 16's runs: what a model does after its own mistakes, for several ways of training it, five seeds each.

`python -m arlab.recipes record_16_exposure_bias` makes them again. `seconds` are CPU seconds of training alone.
The task: from a start s and a step d to the digits s, s + d, s + 2d, ... modulo 10. Each digit follows from the one
before, and each also follows from the question and the position; the training pairs do not say which to go by.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from arlab.decoding import greedy
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import LanguageModel, last_logits
from arlab.text.batches import IGNORE, Batch, shifted
from arlab.training import recordings
from arlab.training.exposure import accuracy_by_position, corrupt_prefixes, scheduled_sampling
from arlab.training.loop import fit, train
from arlab.training.reinforce import reinforce_steps

FILE = Path(__file__).resolve().parents[1] / "checkpoints" / "16_exposure_bias.json"
TIME, DIGITS = 12, 10  # digits of an answer; ids 0 .. 9
SYMBOLS = [*map(str, range(DIGITS)), *(f"+{d}" for d in range(DIGITS))]  # by id: digits, then steps
SLIP, CORRUPT = 0.1, 0.15
STEPS, REWARDED, ROWS, LAYERS, LR = 400, 150, 50, 1, 3e-3
METHODS = (
    "teacher forcing",
    "scheduled sampling, 1 in 4",
    "scheduled sampling, growing",
    "random prefixes",
    "random prefixes, twice as long",
    "sequence level",
)


# --- the task


def questions() -> list[list[int]]:
    """All hundred: [s, 10 + d], that is a digit and a step."""
    return [[s, DIGITS + d] for s in range(10) for d in range(10)]


def answer(question: Sequence[int]) -> list[int]:
    """s + t * d mod 10 for t = 0, 1, ..."""
    return [(question[0] + t * (question[1] - DIGITS)) % 10 for t in range(TIME)]


def everything(some: list[list[int]] | None = None, times: int = 1) -> Batch:
    """Each question with its answer, once or several times; the question is no target."""
    some = (questions() if some is None else some) * times
    inputs, targets = shifted(torch.tensor([q + answer(q) for q in some]))
    targets[:, 0] = IGNORE  # the step cannot be guessed from the start
    return Batch(inputs, targets)


def batches(generator: torch.Generator, some: list[list[int]] | None = None) -> Iterator[Batch]:
    """Without end: questions drawn at random."""
    whole = everything(some)
    while True:
        rows = torch.randint(len(whole.targets), (ROWS,), generator=generator)
        yield Batch(whole.inputs[rows], whole.targets[rows])


def new_model(seed: int) -> DecoderLM:
    sizes = {"vocab_size": len(SYMBOLS), "context_length": TIME + 2, "d_model": 64, "layers": LAYERS, "heads": 4}
    return DecoderLM(DecoderConfig.gpt2(**sizes, init="xavier"), seed=seed)


class Slipping(nn.Module):
    """The same model with an unsteady hand: with probability `rate` any of the ten digits is written instead.

    p'(y) = (1 - rate) p(y) + rate / 10 for digits: a language model too, so that it can be drawn from, and rewarded.
    """

    def __init__(self, model: LanguageModel, rate: float = SLIP):
        super().__init__()
        self.model, self.rate = model, rate
        self.vocab_size, self.context_length, self.bos_id = model.vocab_size, model.context_length, model.bos_id

    def new_cache(self, rows: int, capacity: int):
        return self.model.new_cache(rows, capacity)

    def forward(self, ids: Tensor, cache=None) -> Float[Tensor, "rows time vocab"]:
        return self._mixed(self.model(ids, cache))

    def last_logits(self, ids: Tensor, cache=None, lengths=None) -> Float[Tensor, "rows vocab"]:
        return self._mixed(last_logits(self.model, ids, cache, lengths))

    def _mixed(self, logits: Tensor) -> Tensor:
        p = (1 - self.rate) * logits.softmax(-1)
        return torch.cat([p[..., :DIGITS] + self.rate / DIGITS, p[..., DIGITS:]], dim=-1).clamp_min(1e-30).log()


# --- training


def share_right(said: list[int], question: list[int]) -> float:
    """The reward: the share of right digits. (Who can give it knows the answer: additional supervision.)"""
    return sum(a == b for a, b in zip(said, answer(question), strict=False)) / TIME


def train_one(method: str, seed: int, steps: int = STEPS) -> tuple[DecoderLM, float, list[float]]:
    """(model, CPU seconds, losses) of one method but the sequence-level one, which starts from a trained model.

    "Twice as long" is about the compute of scheduled sampling: its passes in turn take as long as the step itself.

    Raises:
        ValueError: an unknown method.
    """
    model, generator = new_model(seed), torch.Generator().manual_seed(100 + seed)
    steps = 2 * steps if method.endswith("twice as long") else steps
    stream = batches(torch.Generator().manual_seed(seed))
    if method == "scheduled sampling, 1 in 4":
        stream = scheduled_sampling(model, stream, 0.25, generator=generator)
    elif method == "scheduled sampling, growing":
        stream = scheduled_sampling(model, stream, lambda n: min(1.0, n / steps), generator=generator)
    elif method.startswith("random prefixes"):
        stream = corrupt_prefixes(stream, CORRUPT, DIGITS, generator=generator)
    elif method != "teacher forcing":
        raise ValueError(f"method is {method!r}; it must be one of {', '.join(METHODS[:-1])}")
    started = time.process_time()
    done = fit(model, stream, steps=steps, lr=LR, warmup=min(20, steps))
    return model, time.process_time() - started, [step.loss for step in done]


def sequence_level(
    start: DecoderLM, seed: int, steps: int, slip: float = SLIP, lr: float = 1e-3
) -> tuple[DecoderLM, float, list[float]]:
    """(model, CPU seconds, rewards) of REINFORCE from a trained model on, whose hand slips while it writes."""
    model = copy.deepcopy(start)
    hand = Slipping(model, slip) if slip else model
    started = time.process_time()
    done = reinforce_steps(
        hand,
        repeat(questions()),
        share_right,
        steps=steps,
        lr=lr,
        samples=4,
        max_new_tokens=TIME,
        generator=torch.Generator().manual_seed(200 + seed),
    )
    rewards = [step.reward for step in done]
    return model, time.process_time() - started, rewards


# --- measuring


def by_position(model: LanguageModel, seed: int = 0) -> dict[str, list[float]]:
    """Accuracy at each of the twelve positions: fed the truth, fed itself, and fed itself with 10 % slips."""
    batch, generator = everything(), torch.Generator().manual_seed(300 + seed)
    runs = {
        "truth": accuracy_by_position(model, [batch]),
        "itself": accuracy_by_position(model, [batch], free_running=True),
        "slips": accuracy_by_position(
            model, [everything(times=5)], free_running=True, slip=SLIP, symbols=DIGITS, generator=generator
        ),
    }
    return {name: [round(a, 4) for a in run.accuracy[1:].tolist()] for name, run in runs.items()}


def after_error(model: LanguageModel, seed: int = 0) -> dict[str, list[float]]:
    """One wrong digit, then the model's own words: at each distance from it, the share of digits that are right, and
    the share that carry on from the wrong one as if it had been right. All questions, all positions, one random error.
    """
    some, generator = questions(), torch.Generator().manual_seed(400 + seed)
    truth = torch.tensor([answer(q) for q in some])
    step = torch.tensor([q[1] - DIGITS for q in some])
    right, carried, counts = (torch.zeros(TIME - 1) for _ in range(3))
    for position in range(TIME - 1):
        wrong = (truth[:, position] + torch.randint(1, 10, (len(some),), generator=generator)) % 10
        said = continued(model, some, truth[:, :position], wrong)  # (questions, TIME - 1 - position)
        distance = torch.arange(1, said.size(1) + 1)
        right[: len(distance)] += (said == truth[:, position + 1 :]).sum(0)
        carried[: len(distance)] += (said == (wrong[:, None] + distance * step[:, None]) % 10).sum(0)
        counts[: len(distance)] += len(some)
    return {name: [round(x, 4) for x in (n / counts).tolist()] for name, n in (("right", right), ("carried", carried))}


def continued(
    model: LanguageModel, some: list[list[int]], prefix: Int[Tensor, "rows before"], wrong: Int[Tensor, "rows"]
) -> Int[Tensor, "rows after"]:
    """What the model writes, greedily, behind the question, some right digits and one wrong one."""
    start = torch.cat([torch.tensor(some), prefix, wrong[:, None]], dim=1)
    return greedy(model, start, max_new_tokens=TIME + 2 - start.size(1)).ids[:, 0]


def on_the_way(steps: int = STEPS, at: Sequence[int] = (25, 50, 100, 200, 400)) -> list[dict]:
    """Teacher forcing, measured after some of its steps."""
    model = new_model(0)
    course = train(model, batches(torch.Generator().manual_seed(0)), steps=steps, lr=LR, warmup=min(20, steps))
    return [{"steps": step.step} | by_position(model) for step in course if step.step in at]


def fewer_questions(counts: Sequence[int] = (30, 60, 90), steps: int = STEPS) -> list[dict]:
    """Teacher forcing on some of the questions, drawn at random; how right the model is on those and on the others."""
    order = torch.randperm(100, generator=torch.Generator().manual_seed(5)).tolist()
    found = []
    for count in counts:
        some, others = ([questions()[n] for n in part] for part in (order[:count], order[count:]))
        model = new_model(0)
        fit(model, batches(torch.Generator().manual_seed(0), some), steps=steps, lr=LR, warmup=min(20, steps))
        found.append(
            {
                "questions": count,
                "trained": mean_accuracy(model, some),
                "others": mean_accuracy(model, others),
                "others_fed_the_truth": mean_accuracy(model, others, free_running=False),
            }
        )
    return found


def mean_accuracy(model: LanguageModel, some: list[list[int]], free_running: bool = True) -> float:
    """The share of right digits, without slips."""
    run = accuracy_by_position(model, [everything(some)], free_running=free_running)
    return round(run.accuracy[1:].mean().item(), 4)


# --- the recording


def measure(seeds: Sequence[int] = (0, 1, 2, 3, 4), steps: int = STEPS, rewarded: int = REWARDED) -> dict:
    """All methods and seeds; teacher forcing on the way; fewer questions. About five minutes on one CPU core."""
    methods: dict[str, list[dict]] = {name: [] for name in METHODS}
    for seed in seeds:
        forced = None
        for name in METHODS:
            if name == "sequence level":
                model, seconds, course = sequence_level(forced, seed, rewarded)
            else:
                model, seconds, course = train_one(name, seed, steps)
            forced = model if name == "teacher forcing" else forced
            found = {"seed": seed, "seconds": round(seconds, 1), "steps": len(course), "course": thinned(course, 10)}
            methods[name].append(found | by_position(model, seed) | after_error(model, seed))
    return {
        "steps": steps,
        "rewarded": rewarded,
        "slip": SLIP,
        "corrupt": CORRUPT,
        "methods": methods,
        "better_modelling": on_the_way(steps),
        "fewer_questions": fewer_questions(steps=steps),
        "torch": torch.__version__,
    }


def record(path: str | Path = FILE, **settings) -> Path:
    """`measure`, kept as a file."""
    return recordings.save(path, {}, **measure(**settings))


def thinned(values: Sequence[float], keep: int) -> list[float]:
    """Means of `keep` values after one another."""
    return [round(sum(values[n : n + keep]) / len(values[n : n + keep]), 4) for n in range(0, len(values), keep)]


def recorded(path: str | Path = FILE) -> dict:
    """What `record` measured."""
    return recordings.load(path)[1]
