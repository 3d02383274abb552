"""The decoder arena without a browser: rows against the outcomes, tokens in their places, answers, running again."""

from __future__ import annotations

import itertools
import json
import math
from functools import partial

import pytest
import torch
import traitlets

from arlab.decoding import Temperature, greedy, sample
from arlab.decoding.comparison import Outcome, compare, outcome
from arlab.decoding.records import Generation
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.text.tokenizers import BPETokenizer, CharTokenizer
from arlab.views import DecoderArena
from arlab.views.decoder_arena import WAYS

CORPUS = "to be or not to be: that is the question. " * 3
FIGURES = [name for name in WAYS if name != "answer"]


def written(name: str, sequences: list[list[int]], decode, *, logprob: float = -1.0, seconds: float = 1.0) -> Outcome:
    """An Outcome for texts made by hand, every token with the same log-probability."""
    longest = max(map(len, sequences))
    ids = torch.tensor([[[*ids, *[0] * (longest - len(ids))] for ids in sequences]], dtype=torch.long)
    lengths = torch.tensor([[len(ids) for ids in sequences]])
    real = torch.arange(longest) < lengths[..., None]
    logprobs = torch.where(real, logprob, 0.0)
    generation = Generation(ids, logprobs, logprobs.sum(-1), lengths, torch.zeros_like(lengths, dtype=torch.bool))
    return outcome(name, generation, seconds, decode=decode)


@pytest.fixture(scope="module")
def tokenizer() -> CharTokenizer:
    return CharTokenizer(CORPUS, special=["<eos>"])


@pytest.fixture(scope="module")
def strategies(tokenizer) -> dict:
    config = DecoderConfig(vocab_size=tokenizer.vocab_size, context_length=64, d_model=16, layers=1, heads=2)
    model = DecoderLM(config, seed=0)
    return {
        "greedy": partial(greedy, model),
        "ancestral": partial(sample, model, n=3),
        "cool": partial(sample, model, filters=[Temperature(0.3)]),
    }


def arena_of(texts: dict[str, list[str]], tokenizer, **settings) -> DecoderArena:
    outcomes = [written(name, [tokenizer.encode(t) for t in some], tokenizer.decode) for name, some in texts.items()]
    return DecoderArena(outcomes, prompt_text="to", tokenizer=tokenizer, **settings)


# -- rows ----------------------------------------------------------------------------------------------------


def test_rows_are_the_outcomes(strategies, tokenizer):
    prompt = tokenizer.encode("to be")
    outcomes = compare(strategies, prompt, max_new_tokens=30, eos_id=tokenizer.eos_id, decode=tokenizer.decode)
    arena = DecoderArena(outcomes, prompt_text="to be", tokenizer=tokenizer)
    assert [row["name"] for row in arena.rows] == ["greedy", "ancestral", "cool"]
    for row, each in zip(arena.rows, outcomes, strict=True):
        assert {name: row[name] for name in FIGURES} == {name: getattr(each, name) for name in FIGURES}
        assert [one["ids"] for one in row["samples"]] == each.sequences
        assert [one["text"] for one in row["samples"]] == each.texts
        assert [one["logprob"] for one in row["samples"]] == each.logprobs
        assert [one["finished"] for one in row["samples"]] == each.finished
        for one in row["samples"]:
            assert one["pieces"] == [tokenizer.decode([i]) for i in one["ids"]]
    assert arena.rows[0]["agreement"] is None and arena.rows[1]["agreement"] is not None


def test_a_measure_without_a_value_can_be_saved(tokenizer, tmp_path):
    empty = written("empty", [[]], tokenizer.decode)
    assert math.isnan(empty.logprob)
    arena = DecoderArena([empty], prompt_text="to", tokenizer=tokenizer)
    assert arena.rows[0]["logprob"] is None and arena.rows[0]["samples"][0]["pieces"] == []
    assert arena.frontier() == []  # it has no place on the axis of log p
    assert arena.frontier("repetition", "seconds") == ["empty"]
    json.dumps(arena.saved_state(), allow_nan=False)
    assert "Infinity" not in arena.save_html(tmp_path / "page.html").read_text(encoding="utf-8").split("<script")[2]


@pytest.mark.parametrize("text", ["to be", "é 😀 to be 😀", "be<eos>", "😀", "a\nb\n\n  c", "\ufffd to be"])
def test_pieces_joined_are_the_text(text):
    bpe = BPETokenizer.train(CORPUS, 300, special=["<eos>"])
    ids = bpe.encode(text)
    pieces = DecoderArena([written("x", [ids], bpe.decode)], prompt_text="", tokenizer=bpe).rows[0]["samples"][0][
        "pieces"
    ]
    assert "".join(pieces) == text and len(pieces) == len(ids)
    if text.isascii():
        assert pieces == [bpe.decode([i]) for i in ids]
    if text == "😀":
        assert pieces == ["", "", "", "😀"]


def test_a_text_cut_within_a_character_loses_nothing():
    bpe = BPETokenizer.train(CORPUS, 300)
    ids = bpe.encode("be 😀")[:-1]
    one = DecoderArena([written("x", [ids], bpe.decode)], prompt_text="", tokenizer=bpe).rows[0]["samples"][0]
    assert "".join(one["pieces"]) == one["text"] == bpe.decode(ids) and "\ufffd" in one["text"]


def test_ids_written_out_need_no_tokenizer_and_other_texts_do(tokenizer):
    arena = DecoderArena([written("ids", [[5, 6, 5], []], None)], prompt_text="")
    assert [one["pieces"] for one in arena.rows[0]["samples"]] == [["5", " 6", " 5"], []]
    arena = DecoderArena([written("text", [tokenizer.encode("to")], tokenizer.decode)], prompt_text="")
    assert arena.rows[0]["samples"][0]["pieces"] == []


# -- the expected answer -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer, text, places",
    [
        ("be", "to be, BE or maybe beer", ["be", "BE"]),  # whole words, in capitals or not
        ("8", "18 88 8.", ["8"]),
        ("$5", "it costs $5, not $55 or US$5", ["$5", "$5"]),  # a sign is an edge by itself
        (["New York", "york"], "York and new york", ["York", "new york"]),  # the longest first
        ("C++", "C++ and c++!", ["C++", "c++"]),
        (".", "to be. Or not", ["."]),  # a text, not a pattern
        ("be", "😀 be", ["be"]),
        ("be", "", []),
        (None, "to be", []),
    ],
)
def test_answers_are_found_as_whole_words(answer, text, places):
    bpe = BPETokenizer.train(CORPUS, 300)
    arena = DecoderArena([written("x", [bpe.encode(text)], bpe.decode)], prompt_text="", tokenizer=bpe, answer=answer)
    units = text.encode("utf-16-le")
    found = [units[2 * a : 2 * b].decode("utf-16-le") for a, b in arena.rows[0]["samples"][0]["answer"]]
    assert found == places
    assert arena.answered == {"x": [bool(places)]}
    assert arena.rows[0]["answer"] == (None if answer is None else float(bool(places)))


def test_the_share_of_texts_with_the_answer(tokenizer):
    arena = arena_of({"a": ["to be", "not", "be", "or"], "b": ["not"]}, tokenizer, answer="be")
    assert [row["answer"] for row in arena.rows] == [0.5, 0.0]
    assert arena.answered == {"a": [True, False, True, False], "b": [False]}
    assert arena.frontier("answer", "seconds") == ["a"]


# -- the frontier --------------------------------------------------------------------------------------------


def test_the_frontier_is_what_none_beats_on_any_pair_of_axes(tokenizer):
    generator = torch.Generator().manual_seed(4)
    outcomes = []
    for n in range(12):
        length, kinds = 6 + 3 * n, int(torch.randint(2, 12, (1,), generator=generator))
        sequences = [torch.randint(kinds, (length,), generator=generator).tolist() for _ in range(1 + n % 3)]
        logprob, seconds = (-0.25 * int(torch.randint(1, 6, (1,), generator=generator)) for _ in range(2))
        outcomes.append(written(f"s{n}", sequences, tokenizer.decode, logprob=logprob, seconds=-seconds))
    arena = DecoderArena(outcomes, prompt_text="", tokenizer=tokenizer, answer="t")
    lower = {"repetition", "agreement", "seconds"}  # less is better
    for x, y in itertools.product(WAYS, repeat=2):

        def no_worse(one: dict, other: dict, axes: tuple[str, str] = (x, y)) -> bool:
            return all(one[name] <= other[name] if name in lower else one[name] >= other[name] for name in axes)

        rows = [row for row in arena.rows if None not in (row[x], row[y])]
        kept = [a for a in rows if not any(no_worse(b, a) and not no_worse(a, b) for b in rows)]
        assert set(arena.frontier(x, y)) == {row["name"] for row in kept}
        values = [next(row[x] for row in rows if row["name"] == name) for name in arena.frontier(x, y)]
        assert values == sorted(values, reverse=x not in lower)
    arena.x, arena.y = "seconds", "diversity"
    assert arena.frontier() == arena.frontier("seconds", "diversity")


# -- running -------------------------------------------------------------------------------------------------


def test_run_and_run_again_are_compare(strategies, tokenizer):
    common = {"max_new_tokens": 20, "eos_id": tokenizer.eos_id}
    arena = DecoderArena.run(strategies, tokenizer, "to be", **common, seed=3)
    for seed in (3, 4, 3):
        arena.seed = seed
        expected = compare(strategies, tokenizer.encode("to be"), **common, seed=seed, decode=tokenizer.decode)
        assert [each.texts for each in arena.outcomes] == [each.texts for each in expected]
        assert [[one["ids"] for one in row["samples"]] for row in arena.rows] == [each.sequences for each in expected]
        assert [row["logprob"] for row in arena.rows] == [each.logprob for each in expected]
        assert [row["seed"] for row in arena.rows] == [seed] * 3
    ids = DecoderArena.run(strategies, tokenizer, torch.tensor([tokenizer.encode("to be")]), **common, seed=3)
    assert [row["samples"] for row in ids.rows] == [row["samples"] for row in arena.rows] and ids.prompt_text == "to be"


def test_rows_come_one_at_a_time_in_the_order_given(strategies, tokenizer):
    arena = DecoderArena.run(strategies, tokenizer, "to be", max_new_tokens=5)
    seen = []
    arena.observe(lambda change: seen.append([row["seed"] for row in change["new"]]), "rows")
    arena.observe(lambda change: seen.append(change["new"]["running"]), "progress")
    arena.seed = 1
    assert seen == ["greedy", [1, 0, 0], "ancestral", [1, 1, 0], "cool", [1, 1, 1], ""]


def ask(arena: DecoderArena, **payload) -> dict:
    """The page's question, and the kernel's answer to it."""
    sent = []
    arena.send = lambda content, buffers=None: sent.append(content)
    arena._answer(arena, {"ask": "run", "number": "1", "payload": payload}, [])
    return sent[0]


def test_the_page_asks_for_a_seed(strategies, tokenizer):
    arena = DecoderArena.run(strategies, tokenizer, "to be", max_new_tokens=5)
    first = arena.outcomes[1].texts
    assert ask(arena, seed=1)["error"] is None and arena.seed == 1 and arena.outcomes[1].texts != first
    before = arena.outcomes[1]
    assert ask(arena, seed=1)["error"] is None  # the same again: run, not skipped
    assert arena.outcomes[1] is not before and arena.outcomes[1].texts == before.texts
    assert "seed is -1" in ask(arena, seed=-1)["error"] and arena.seed == 1


@pytest.mark.parametrize("error, kind", [(ValueError("no beam"), ValueError), (KeyError("beam"), RuntimeError)])
def test_a_strategy_that_fails_is_named_and_the_others_stay(strategies, tokenizer, error, kind):
    fail = []

    def second(prompt, **settings):
        if fail:
            raise error
        return strategies["greedy"](prompt, **settings)

    some = {"first": strategies["ancestral"], "second": second, "third": strategies["cool"]}
    arena = DecoderArena.run(some, tokenizer, "to be", max_new_tokens=5)
    fail.append(True)
    with pytest.raises(kind, match="second: .*beam"):
        arena.seed = 1
    assert [row["seed"] for row in arena.rows] == [1, 0, 0]
    assert arena.progress == {"running": "", "waiting": []}
    assert ask(arena, seed=2)["error"].endswith(f"second: {error}")
    fail.clear()
    assert ask(arena, seed=2)["error"] is None and [row["seed"] for row in arena.rows] == [2, 2, 2]


def test_finished_outcomes_cannot_be_run(tokenizer):
    arena = arena_of({"a": ["to be"]}, tokenizer, seed=7)
    assert "made from outcomes" in ask(arena, seed=7)["error"]
    with pytest.raises(ValueError, match="made from outcomes; there are no strategies to run with another seed"):
        arena.seed = 8
    assert arena.seed == 7 and [row["seed"] for row in arena.rows] == [7]


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"x": "beauty"}, "x is 'beauty'; it must be one of logprob, repetition"),
        ({"y": "name"}, "y is 'name'; it must be one of"),
        ({"sort": "text"}, "sort is 'text'; it must be one of"),
        ({"unfolded": ["b"]}, "unfolded has 'b'; there are 'a'"),
        ({"seed": -1}, "seed is -1; it must be from 0 to 4294967295"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"answer": " "}, "answer is ' '; it must be a text"),
        ({"answer": []}, r"answer is \[\]; it must be"),
    ],
)
def test_bad_settings_are_refused(tokenizer, settings, says):
    with pytest.raises(ValueError, match=says):
        arena_of({"a": ["to be"]}, tokenizer, **settings)
    [(name, value)] = settings.items()
    arena = arena_of({"a": ["to be"]}, tokenizer)
    if name != "answer":
        before = getattr(arena, name)
        with pytest.raises(traitlets.TraitError):
            setattr(arena, name, value)
        assert getattr(arena, name) == before


def test_bad_outcomes_are_refused(as_shipped, tokenizer):
    one = written("a", [[1]], None)
    with pytest.raises(ValueError, match="there are 0 outcomes; the arena shows 1 to 24"):
        DecoderArena([], prompt_text="")
    with pytest.raises(ValueError, match="two outcomes have the name 'a'"):
        DecoderArena([one, one], prompt_text="")
    with pytest.raises(TypeError, match="an outcome is a str"):
        DecoderArena(["a"], prompt_text="")
    with pytest.raises(TypeError, match="no setting 'colour'"):
        DecoderArena([one], prompt_text="", colour="red")
    with pytest.raises(TypeError, match="strategies is a list; give a dict"):
        DecoderArena.run([greedy], tokenizer, "to", max_new_tokens=3)
    with pytest.raises(ValueError, match="there are 0 outcomes"):
        DecoderArena.run({}, tokenizer, "to", max_new_tokens=3)


def test_it_is_described_by_one_fixed_line(strategies, tokenizer):
    arena = DecoderArena.run(strategies, tokenizer, "to be", max_new_tokens=3, seed=2)
    assert repr(arena) == "DecoderArena after 'to be', seed 2: greedy; ancestral; cool"
    long = DecoderArena(arena.outcomes, prompt_text="to be or not to be: that is the question, is it?", seed=2)
    assert "'...t to be: that is the question, is it?'" in repr(long)
