"""The shots view without a browser: what is sent is what was asked, and the counts are those of the results."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import traitlets

from arlab.decoding.shots import ShotResult, accuracy, ask
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.text.shots import ANTONYMS, PLURAL, TASKS, ShotTask, draw_examples, write_prompt
from arlab.text.tokenizers import CharTokenizer
from arlab.views.shots_view import ShotsView, prompt_parts

FIRST, SECOND = (query for query, _ in PLURAL.queries[:2])


def result(task: ShotTask, k: int, shuffled: bool, query: str, *, said: str | None = None, **changes) -> ShotResult:
    """As `ask` makes it; `said` None: the right answer."""
    examples = draw_examples(task, k, shuffled=shuffled, generator=torch.Generator().manual_seed(0))
    answer = task.answer(query)
    said = answer if said is None else said
    made = ShotResult(
        task=task.name,
        k=k,
        shuffled=shuffled,
        query=query,
        answer=answer,
        prompt=write_prompt(task, examples, query),
        said=said,
        top=((f" {said}", 0.5), (f" {answer[:2]}", 0.25), ("\n", 0.125), (" ", 0.0625)),
        correct=said == answer,
        p_answer=0.25,
        examples=examples,
        tokens=10 + k,
        seed=0,
    )
    return replace(made, **changes)


def some(tasks=(PLURAL, ANTONYMS), ks=(0, 1, 2, 4), queries=3) -> list[ShotResult]:
    """With k examples the first k queries are right with real labels; with shuffled ones, one fewer."""
    return [
        result(task, k, shuffled, query, said=None if place < k - shuffled * (k > 0) else "wrong")
        for task in tasks
        for k in ks
        for shuffled in (False, True)
        for place, (query, _) in enumerate(task.queries[:queries])
    ]


# ---- what is sent -----------------------------------------------------------------------------------------------


def test_every_answer_is_sent_once_and_is_the_one_asked():
    results = some()
    view = ShotsView(results)
    for one in results:
        told = next(task for task in view._tasks if task["name"] == one.task)
        kind = "shuffled" if one.shuffled and one.k else "real"
        sent = told["answers"][f"{one.k} {kind}"][told["queries"].index(one.query)]
        assert (sent["said"], sent["answer"], sent["correct"]) == (one.said, one.answer, one.correct)
        assert [tuple(each) for each in sent["top"]] == list(one.top)
        assert (sent["tokens"], sent["p_answer"]) == (one.tokens, one.p_answer)
        examples = "".join(shown + label for shown, label, _ in sent["examples"])
        assert sent["lead"] + examples + sent["question"] == one.prompt
        assert len(sent["examples"]) == one.k
    assert sum(len(answers) for task in view._tasks for answers in task["answers"].values()) == 2 * 3 * 7
    json.dumps(view.saved_state(), allow_nan=False)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize("describe", [True, False])
@pytest.mark.parametrize("k", [0, 1, 8])
def test_a_prompt_is_cut_where_the_examples_begin_and_end(task, describe, k):
    examples = draw_examples(task, k, generator=torch.Generator().manual_seed(k))
    query = task.queries[0][0]
    prompt = write_prompt(task, examples, query, describe=describe)
    parts = prompt_parts(prompt, examples)
    assert parts.lead + "".join(a + b for a, b in parts.examples) + parts.question == prompt
    assert parts.lead == (f"{task.description}\n" if describe else "")
    assert [(a, b) for a, b in parts.examples] == [(f"{q}{task.arrow} ", f"{label}\n") for q, label in examples]
    assert parts.question == f"{query}{task.arrow}"


def test_a_label_inside_its_question_is_cut_at_the_line_s_end():
    parts = prompt_parts("is is => is\nwas =>", [("is is", "is")])
    assert parts.examples == (("is is => ", "is\n"),)


def test_examples_that_are_not_in_the_prompt_are_refused():
    with pytest.raises(ValueError, match="does not have these examples"):
        prompt_parts("hot => cold\nup =>", [("wet", "dry")])
    with pytest.raises(ValueError, match="does not have these examples"):
        prompt_parts("up =>", [("hot", "cold")])


def test_labels_of_other_examples_are_marked():
    view = ShotsView(some(ks=(0, 4)))
    for task in view._tasks:
        for kind, swapped in (("4 real", False), ("4 shuffled", True)):
            marks = [mark for sent in task["answers"][kind] for *_, mark in sent["examples"]]
            assert marks == [swapped] * 12


def test_tokens_that_begin_the_right_answer_are_marked():
    view = ShotsView([result(ANTONYMS, 0, False, "young", said="old"), result(ANTONYMS, 0, False, "fast", said="x")])
    right, wrong = view._tasks[0]["answers"]["0 real"]
    assert right["begins"] == [True, True, False, False]  # " old", " ol", a line's end and a space begin nothing
    assert wrong["begins"] == [False, True, False, False]


# ---- counts -----------------------------------------------------------------------------------------------------


def test_accuracy_counts_the_results():
    results = some()
    view = ShotsView(results)
    for task in view.tasks:
        found = view.accuracy(task)
        assert found == {
            (0, False): (0, 3),
            (1, False): (1, 3),
            (1, True): (0, 3),
            (2, False): (2, 3),
            (2, True): (1, 3),
            (4, False): (3, 3),
            (4, True): (3, 3),
        }
        for (k, shuffled), (right, asked) in found.items():
            assert right / asked == accuracy(results)[task, k, shuffled]
    assert view.accuracy() == view.accuracy(view.task)
    with pytest.raises(ValueError, match="'chess'.*'plural', 'antonyms'"):
        view.accuracy("chess")


def test_describe_says_every_count():
    view = ShotsView(some(tasks=[PLURAL], ks=(0, 1)), model_name="a model")
    assert view.describe() == (
        "Shots of a model, right answers by number of examples. plural: 0 0/3, 1 1/3, 1 shuffled 0/3"
    )


def test_a_real_model_s_results():
    tokenizer = CharTokenizer(
        "".join(sorted({c for task in TASKS for c in task.description + str(task.pairs)})) + "=>\n"
    )
    config = DecoderConfig.gpt2(vocab_size=tokenizer.vocab_size, context_length=256, d_model=16, layers=1, heads=2)
    results = ask(DecoderLM(config, seed=0), tokenizer, [PLURAL, ANTONYMS], ks=(0, 2), queries=2, max_new_tokens=3)
    view = ShotsView(results)
    for one in results:
        view.task, view.k, view.shuffled, view.query = one.task, one.k, one.shuffled, one.query
        shown = view.result
        assert shown.prompt == one.prompt and shown.said == one.said


# ---- state ------------------------------------------------------------------------------------------------------


def test_what_is_shown_first():
    view = ShotsView(some())
    assert (view.task, view.k, view.shuffled, view.query) == ("plural", 4, False, FIRST)
    assert ShotsView(some(ks=(0, 1, 2))).k == 2
    chosen = ShotsView(some(), task="antonyms", k=1, shuffled=True, query=ANTONYMS.queries[1][0])
    assert chosen.result.query == ANTONYMS.queries[1][0] and chosen.result.shuffled and chosen.result.k == 1


def test_a_new_task_keeps_k_and_takes_its_own_first_query():
    view = ShotsView(some())
    view.k, view.query = 2, SECOND
    view.task = "antonyms"
    assert (view.k, view.query) == (2, ANTONYMS.queries[0][0]) and view.result.task == "antonyms"


def test_a_task_without_this_k_takes_its_largest():
    view = ShotsView(some(tasks=[PLURAL]) + some(tasks=[ANTONYMS], ks=(0, 1)))
    view.task = "antonyms"
    assert view.k == 1
    view.k = 4  # of the other task: allowed, and said to be missing
    assert view.result is None


def test_without_examples_there_is_one_answer():
    view = ShotsView(some(), k=0)
    before = view.result
    view.shuffled = True
    assert view.result is before


def test_values_that_are_not_there_are_named():
    view = ShotsView(some())
    for trait, value, says in (
        ("task", "chess", "'chess'; it must be one of 'plural', 'antonyms'"),
        ("k", 3, "3; it must be one of 0, 1, 2, 4"),
        ("query", "fast", f"query of 'plural' is 'fast'; it must be one of '{FIRST}'"),
    ):
        with pytest.raises(traitlets.TraitError, match=says):
            setattr(view, trait, value)
    assert (view.task, view.k, view.query) == ("plural", 4, FIRST)
    with pytest.raises(ValueError, match="task is 'chess'"):
        ShotsView(some(), task="chess")
    with pytest.raises(ValueError, match="k is 16"):
        ShotsView(some(), k=16)


def test_no_results_and_the_results_of_two_seeds_are_refused():
    with pytest.raises(ValueError, match="no results"):
        ShotsView([])
    one = result(PLURAL, 2, True, FIRST)
    with pytest.raises(ValueError, match=f"two .* 'plural', k 2, shuffled labels, query '{FIRST}'.*one seed"):
        ShotsView([one, replace(one, seed=1)])
