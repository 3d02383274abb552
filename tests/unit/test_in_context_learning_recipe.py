"""The recorded runs of notebook 18: how they are kept, and that the shipped file holds together."""

import pytest
import torch

from arlab.decoding.shots import accuracy, ask
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.recipes import in_context_learning as recipe
from arlab.text.shots import TASKS, UPPER_CASE
from arlab.text.tokenizers import CharTokenizer
from arlab.training import recordings

SYMBOLS = CharTokenizer("".join(map(chr, range(32, 127))) + "\n")


def random_model():
    config = DecoderConfig.llama(vocab_size=SYMBOLS.vocab_size, context_length=512, d_model=8, layers=1, heads=1)
    return DecoderLM(config, seed=0).eval()


def test_answers_come_back_from_the_file_as_they_were():
    asked = ask(random_model(), SYMBOLS, UPPER_CASE, recipe.KS, seed=1, top=recipe.TOP)
    about = {"shots": [[], recipe.asked(random_model(), SYMBOLS, 1, [UPPER_CASE]), []]}
    back = recipe.shot_results(about, seed=1)
    assert len(back) == len(asked) == len(recipe.KS) * 2 * len(UPPER_CASE.queries)
    for a, b in zip(asked, back, strict=True):
        for field in (
            "task",
            "k",
            "shuffled",
            "query",
            "answer",
            "prompt",
            "said",
            "correct",
            "examples",
            "tokens",
            "seed",
        ):
            assert getattr(a, field) == getattr(b, field)
        assert b.p_answer == pytest.approx(a.p_answer, rel=1e-2) and b.top == ()


def test_a_short_training_run_is_kept_as_it_should_be():
    training = {"n": 3, "steps": 100, "rows": 4, "lr": 1e-3}
    steps, figures = recipe.learned("rotary", 0, training=training, rows=20)
    assert [step.step for step in steps] == [50, 100]
    assert len(figures["error"]) == len(figures["standard_error"]) == recipe.TESTED_ON


# --- the shipped file


@pytest.fixture(scope="module")
def shipped():
    return recordings.load(recipe.FILE)


def test_the_shipped_answers_are_a_whole_grid(shipped):
    _, about = shipped
    for seed in recipe.DRAWS:
        results = recipe.shot_results(about, seed)
        keys = {(r.task, r.k, r.shuffled, r.query) for r in results}
        assert len(keys) == len(results) == sum(2 * len(recipe.KS) * len(task.queries) for task in TASKS)
        assert all(0 <= r.p_answer <= 1 for r in results)
        assert all((len(r.top) == recipe.TOP) == (seed == recipe.DRAWS[0]) for r in results)


def test_what_the_notebook_says_of_them(shipped):
    """More shots are better for every task; wrong labels ruin the antonyms and spare the capitals."""
    _, about = shipped
    draws = [accuracy(recipe.shot_results(about, seed)) for seed in recipe.DRAWS]

    def share(*key):
        return sum(draw[key] for draw in draws) / len(draws)

    for task in TASKS:
        assert share(task.name, 8, False) > share(task.name, 0, False) + 0.1
    assert share("antonyms", 8, True) < 0.3 < 0.6 < share("capitals", 8, True)


def test_chat_answers_are_to_the_same_questions(shipped):
    _, about = shipped
    asked = [(task.name, query) for task in TASKS for query, _ in task.queries]
    assert [(task, query) for task, query, _ in about["chat"]] == asked


def test_the_figure_of_the_small_transformers(shipped):
    """Below .05 after 5 examples on three seeds."""
    runs, about = shipped
    by_name = {(r["positions"], r["seed"]): r["error"] for r in about["regression"]}
    assert tuple(by_name) == recipe.MODELS and len(runs) == len(recipe.MODELS)
    assert all(by_name["rotary", seed][5] < 0.05 for seed in (0, 1, 2))
    assert all(len(error) == recipe.TESTED_ON for error in by_name.values())
    assert all(steps[-1].step == about["training"]["steps"] for steps in runs.values())


def test_the_exact_answer_in_the_file_is_that_of_now(shipped):
    _, about = shipped
    now = torch.tensor(recipe.least_squares_error(rows=2000))
    assert torch.allclose(torch.tensor(about["least_squares"]), now, rtol=0.02, atol=1e-4)
