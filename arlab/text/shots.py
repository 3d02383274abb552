"""Prompts with examples in them: a description of the task, k solved cases ("shots"), and the one to solve.

    Give the plural of the word.
    city => cities
    knife => knives
    mouse =>

Nothing is trained: what the model knows of the task stands in its prompt. Lecture 001; Brown et al. (2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import torch

Pair = tuple[str, str]  # a question and its answer


@dataclass(frozen=True)
class ShotTask:
    """Questions with one right answer each. The first `pool` pairs serve as examples, the others are asked.

    Raises:
        ValueError: an empty text or one with a line break, a question that comes twice, a pool that leaves no
            example or no query, answers of the pool that are not all different.
    """

    name: str
    description: str  # one line that says what to do
    pairs: tuple[Pair, ...]
    pool: int = 16
    arrow: str = " =>"  # between question and answer; the answer follows after a space

    def __post_init__(self) -> None:
        for text in (self.name, self.description, *(text for pair in self.pairs for text in pair)):
            if not text.strip() or "\n" in text:
                raise ValueError(f"{text!r} in the task {self.name!r}: needed a text of one line, not empty")
        questions = [question for question, _ in self.pairs]
        twice = next((each for each in questions if questions.count(each) > 1), None)
        if twice is not None:
            raise ValueError(f"the task {self.name!r} has the question {twice!r} twice")
        if not 1 <= self.pool < len(self.pairs):
            raise ValueError(f"pool is {self.pool}; with {len(self.pairs)} pairs it must lie between 1 and one fewer")
        if len({answer for _, answer in self.examples}) < self.pool:
            raise ValueError(
                f"the task {self.name!r}: examples need different answers, or shuffling them would do nothing"
            )

    @property
    def examples(self) -> tuple[Pair, ...]:
        return self.pairs[: self.pool]

    @property
    def queries(self) -> tuple[Pair, ...]:
        return self.pairs[self.pool :]

    def answer(self, question: str) -> str:
        """The right one.

        Raises:
            ValueError: a question that the task does not have.
        """
        found = dict(self.pairs)
        if question not in found:
            raise ValueError(f"the task {self.name!r} has no question {question!r}")
        return found[question]


def draw_examples(
    task: ShotTask,
    k: int,
    *,
    shuffled: bool = False,
    generator: torch.Generator | None = None,
    query: str | None = None,
) -> tuple[Pair, ...]:
    """k solved cases in random order, the query's own never among them.

    With generators of one seed, the first two of four drawn are the two drawn for k = 2, and with shuffled=True the
    questions are the same as without.

    Args:
        shuffled: every example gets the answer of another one: the answers are as before, only the pairing is
            wrong. A single example gets an answer that is not shown otherwise.
        generator: a CPU generator. None: torch's global one.

    Raises:
        ValueError: k below 0 or above what the pool holds (one more is needed for a single shuffled one).
    """
    pool = [pair for pair in task.examples if pair[0] != query]
    most = len(pool) if not shuffled or len(pool) > 1 else 0
    if isinstance(k, bool) or not isinstance(k, Integral) or not 0 <= k <= most:
        raise ValueError(f"k is {k!r}; the task {task.name!r} has examples for 0 to {most}")
    order = torch.randperm(len(pool), generator=generator).tolist()
    chosen = [pool[i] for i in order[:k]]
    if not shuffled or k == 0:
        return tuple(chosen)
    if k == 1:
        return ((chosen[0][0], pool[order[1]][1]),)
    ring = torch.randperm(k, generator=generator).tolist()  # each hands its answer on: nobody keeps their own
    answers = {ring[i]: chosen[ring[i - 1]][1] for i in range(k)}
    return tuple((question, answers[i]) for i, (question, _) in enumerate(chosen))


def write_prompt(task: ShotTask, examples: tuple[Pair, ...], query: str, *, describe: bool = True) -> str:
    """The prompt as text: the description (unless describe=False), a line an example, and the line to complete."""
    lines = [task.description] if describe else []
    lines += [f"{question}{task.arrow} {answer}" for question, answer in examples]
    return "\n".join([*lines, f"{query}{task.arrow}"])


def shot_prompt(
    task: ShotTask,
    query: str,
    k: int,
    *,
    shuffled: bool = False,
    generator: torch.Generator | None = None,
    describe: bool = True,
) -> str:
    """`draw_examples` and `write_prompt` in one: a k-shot prompt for the query. It ends where the answer begins.

    Raises:
        ValueError: an empty query or one with a line break; k as in `draw_examples`.
    """
    if not query.strip() or "\n" in query:
        raise ValueError(f"the query is {query!r}; needed a text of one line, not empty")
    examples = draw_examples(task, k, shuffled=shuffled, generator=generator, query=query)
    return write_prompt(task, examples, query, describe=describe)


def _pairs(text: str) -> tuple[Pair, ...]:
    """'a b, c d' -> ((a, b), (c, d)); an underscore stands for a space within a name."""
    return tuple(tuple(word.replace("_", " ") for word in pair.split()) for pair in text.split(","))


_WORDS = (
    "garden winter silver bridge candle ticket orange pencil forest butter mirror pocket kitchen summer letter river "
    "monkey window station music doctor planet hammer castle market island flower coffee dragon school paper stone "
    "table cloud horse bread green light house train"
).split()

UPPER_CASE = ShotTask("upper case", "Write the word in upper case.", tuple((word, word.upper()) for word in _WORDS))

PLURAL = ShotTask(
    "plural",
    "Give the plural of the word.",
    _pairs(
        "city cities, box boxes, child children, leaf leaves, dog dogs, bus buses, tooth teeth, table tables,"
        "story stories, wolf wolves, apple apples, glass glasses, man men, road roads, berry berries, watch watches,"
        "mouse mice, knife knives, baby babies, church churches, foot feet, house houses, party parties, brush brushes,"
        "woman women, life lives, tree trees, country countries, fox foxes, shelf shelves, book books, goose geese,"
        "lady ladies, dish dishes, wife wives, river rivers, class classes, army armies, half halves, bench benches"
    ),
)

CAPITALS = ShotTask(
    "capitals",
    "Name the capital of the country.",
    _pairs(
        "France Paris, Japan Tokyo, Egypt Cairo, Peru Lima, Italy Rome, India New_Delhi, Canada Ottawa, Turkey Ankara,"
        "Finland Helsinki, Thailand Bangkok, Ireland Dublin, Iran Tehran, Portugal Lisbon, Russia Moscow,"
        "Hungary Budapest, Nepal Kathmandu,"
        "Norway Oslo, Kenya Nairobi, Cuba Havana, Greece Athens, Poland Warsaw, Chile Santiago, Spain Madrid,"
        "Germany Berlin, China Beijing, Sweden Stockholm, Austria Vienna, Denmark Copenhagen, Argentina Buenos_Aires,"
        "Iraq Baghdad, Syria Damascus, Belgium Brussels, Colombia Bogota, Bulgaria Sofia, Romania Bucharest,"
        "Ghana Accra, Uruguay Montevideo, Venezuela Caracas, Vietnam Hanoi, Lebanon Beirut"
    ),
)

ANTONYMS = ShotTask(
    "antonyms",
    "Give the opposite of the word.",
    _pairs(
        "hot cold, big small, early late, open closed, black white, rich poor, strong weak, full empty, up down,"
        "day night, true false, wet dry, north south, left right, heavy light, love hate,"
        "young old, fast slow, happy sad, hard soft, high low, long short, good bad, thick thin, win lose, buy sell,"
        "push pull, inside outside, first last, above below, before after, begin end, clean dirty, deep shallow,"
        "loud quiet, narrow wide, east west, male female, yes no, war peace"
    ),
)

TASKS = (UPPER_CASE, PLURAL, CAPITALS, ANTONYMS)
