"""The recorded runs of notebook 14: their measures, and that the shipped file holds together."""

from functools import partial

import pytest
import torch

from arlab.decoding import greedy, measures, sample
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.recipes import choosing_a_decoder as recipe
from arlab.text.tokenizers import CharTokenizer
from arlab.training import recordings

TOKENIZER = CharTokenizer("the capital of France is Paris. 0123456789")
MODEL = DecoderLM(
    DecoderConfig.llama(vocab_size=TOKENIZER.vocab_size, context_length=64, d_model=16, layers=2, heads=2), seed=0
).eval()


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (" Paris. It is", True),
        ("Paris", True),
        ("\n Paris, and", True),
        (" Parisian", False),
        (" the city of Paris", False),
        (" paris", False),
        ("", False),
    ],
)
def test_exact_match_is_the_whole_word_at_the_start(text, right):
    assert recipe.is_right(text, "Paris") is right


def test_an_answer_of_two_words_and_one_with_signs():
    assert recipe.is_right(" da Vinci in 1503", "da Vinci") and not recipe.is_right(" da", "da Vinci")
    assert recipe.is_right(" a.b", "a.b") and not recipe.is_right(" axb", "a.b")


def test_the_story_is_the_first_lines_of_the_fable(monkeypatch):
    lines = [recipe.FABLE, *(f"line {number}," for number in range(2, 13))]
    monkeypatch.setattr(recipe, "tiny_shakespeare", lambda: "A play.\n\n" + "\n".join(lines))
    beginning, rest = recipe.story()
    assert beginning == f"{recipe.FABLE}\nline 2,\nline 3,\nline 4,"
    assert rest == "\nline 5,\nline 6,\nline 7,\nline 8,\nline 9,\nline 10,"
    monkeypatch.setattr(recipe, "tiny_shakespeare", lambda: "another play")
    with pytest.raises(ValueError, match="substring not found"):
        recipe.story()


def test_windows_are_spread_over_the_whole_text():
    ids = torch.arange(100)
    found = recipe.windows(ids, rows=4, length=10)
    assert (
        found.shape == (4, 10) and found[0].tolist() == list(range(10)) and found[-1].tolist() == list(range(90, 100))
    )
    with pytest.raises(ValueError, match="the text has 100 tokens; a stretch needs 101"):
        recipe.windows(ids, rows=4, length=101)


def test_word_measures_by_hand():
    assert recipe.words("ld go, to the pa") == ["go", "to", "the"]
    # go to the / to the moon, each without the cut words at its ends
    measured = recipe.word_measures(["x go to the x", "x to the moonn x"], known={"go", "to", "the"})
    assert measured == {"known": pytest.approx(5 / 6), "distinct": pytest.approx(3 / 4)}
    assert recipe.word_measures([""], known=set()) == {"known": 0, "distinct": 1}


def test_log_probabilities_are_those_of_the_decoder():
    prompts = torch.tensor([[3, 1, 4], [1, 5, 9]])
    made = sample(MODEL, prompts, max_new_tokens=6, generator=torch.Generator().manual_seed(0))
    again = recipe.token_logprobs(MODEL, prompts, made.ids[:, 0])
    torch.testing.assert_close(again, made.logprobs[:, 0], rtol=0, atol=1e-5)


def test_every_strategy_runs_on_a_small_model(capsys, monkeypatch):
    monkeypatch.setattr(recipe, "story", lambda: ("the capital of France ", "is Paris"))
    monkeypatch.setattr(recipe, "STORY_TOKENS", 6)
    monkeypatch.setattr(recipe, "FACTS", {"the capital of France is": "Paris", "Paris is": "0"})
    story = recipe.record_story(MODEL, TOKENIZER)
    names = list(recipe.strategies(MODEL, window=8, samples=2))
    assert [each["name"] for each in story] == names
    assert story[names.index("speculative")]["sequences"] == story[names.index("greedy")]["sequences"]
    assert len(story[names.index("top-p 0.9")]["sequences"]) == recipe.SAMPLES
    facts = recipe.record_facts(MODEL, TOKENIZER)
    assert set(facts) <= set(names) and all(len(texts) == 2 for texts in facts.values())
    expected = greedy(MODEL, [TOKENIZER.encode(each) for each in recipe.FACTS], max_new_tokens=recipe.FACT_TOKENS)
    assert [row[0] for row in facts["greedy"]] == [TOKENIZER.decode(expected.tokens(row)) for row in range(2)]


# --- the shipped file


@pytest.fixture(scope="module")
def shipped():
    return recordings.load(recipe.FILE)[1]


def test_the_recorded_stories_have_the_measures_they_are_said_to_have():
    outcomes = {each.name: each for each in recipe.outcomes()}
    assert list(outcomes) == list(recipe.strategies(MODEL, window=8, samples=recipe.SAMPLES))
    for each in outcomes.values():
        assert each.repetition == pytest.approx(measures.repetition(each.sequences), abs=1e-4)
        assert each.distinct == pytest.approx(measures.distinct(each.sequences), abs=1e-4)
        assert each.diversity == pytest.approx(measures.diversity(each.sequences), abs=1e-4)
        assert each.tokens == sum(map(len, each.sequences)) and each.seconds > 0
        total = sum(logprob * len(ids) for logprob, ids in zip(each.logprobs, each.sequences, strict=True))
        assert each.logprob == pytest.approx(total / each.tokens, abs=1e-3)
    assert outcomes["speculative"].sequences == outcomes["greedy"].sequences
    assert outcomes["plain sampling"].logprob < outcomes["greedy"].logprob < outcomes["beam 5"].logprob


def test_every_fact_has_its_texts(shipped):
    assert len(recipe.FACTS) == 32
    known = set(recipe.strategies(MODEL, window=2, samples=recipe.DRAWS)) - set(recipe.OTHERWISE)
    assert set(shipped["facts"]) < known and "greedy" in shipped["facts"]
    for name, texts in shipped["facts"].items():
        assert len(texts) == len(recipe.FACTS)
        assert {len(row) for row in texts} == {recipe.DRAWS if name.startswith("top-p") else 1}


def test_the_answers_after_examples_are_lines(shipped):
    assert {"greedy", "beam 2, sum", "beam 10, mean"} < set(shipped["examples"])
    for texts in shipped["examples"].values():
        assert len(texts) == 24 and all("\n" not in text[:-1] for text in texts)
    assert recipe.shown("France").endswith("\nFrance:")


def test_the_sweep_is_complete(shipped):
    points = {(each["t"], each["p"]) for each in shipped["shakespeare"] if each["t"] is not None}
    assert points == {(t, p) for t in recipe.TEMPERATURES for p in recipe.SHARES}
    by_name = {each["name"]: each for each in shipped["shakespeare"]}
    assert by_name["greedy"]["distinct"] < 0.5 < by_name["held-out text"]["distinct"]
    assert all(0 <= each["known"] <= 1 and each["logprob"] < 0 for each in by_name.values())


def test_nothing_else_is_a_strategys_function():
    """The notebook tells samplers by their function."""
    found = {name for name, each in recipe.strategies(MODEL, window=8, samples=2).items() if each.func is sample}
    assert len(found) == 9 and all(
        isinstance(each, partial) for each in recipe.strategies(MODEL, window=8, samples=2).values()
    )
