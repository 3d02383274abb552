"""The shots view in a real browser: every control, and what is shown against the results."""

from __future__ import annotations

import pytest
import torch

from arlab.decoding.shots import ShotResult
from arlab.text.shots import ANTONYMS, CAPITALS, PLURAL, ShotTask, draw_examples, write_prompt
from arlab.views.shots_view import ShotsView
from tests.browser.hands import (
    ATTACK,
    THEMES,
    assert_inside,
    assert_paints_in_time,
    assert_readable,
    boxes,
    click,
    eventually,
    from_kernel,
    get,
    in_kernel,
    press,
    put,
    settle,
    slider,
)

TASKS = (PLURAL, CAPITALS, ANTONYMS)
KS = (0, 1, 2, 4, 8)


def asked(task: ShotTask, k: int, shuffled: bool, place: int) -> ShotResult:
    """With k examples the first 3 + k queries of twelve are right; with shuffled labels 4 fewer; with none, none."""
    examples = draw_examples(task, k, shuffled=shuffled, generator=torch.Generator().manual_seed(0))
    query, answer = task.queries[place]
    right = k > 0 and place < 3 + k - 4 * shuffled
    said = answer if right else f"It is {answer}." if k == 0 else f"{ATTACK} {place}"
    top = ((f" {said[:4]}", 0.5), (f" {answer[:2]}", 0.25), ("\n", 0.0625), (ATTACK, 0.00001))
    prompt = write_prompt(task, examples, query)
    return ShotResult(task.name, k, shuffled, query, answer, prompt, said, top, right, k / 16, examples, 10 * k + 9, 0)


def view_of(tasks=TASKS, **settings) -> ShotsView:
    results = [asked(task, k, mixed, i) for task in tasks for k in KS for mixed in (False, True) for i in range(12)]
    return ShotsView(results, model_name="a model", **settings)


def prompt_shown(page) -> str:
    """The pieces of the prompt as they can be read, the model's answer and the numbers left out."""
    return page.locator(".sh-words").evaluate_all(
        """all => all.map((one) => [...one.childNodes].filter((n) => !n.classList?.contains("sh-said"))
            .map((n) => n.textContent).join("")).join("\\n")"""
    )


@pytest.mark.parametrize("theme", THEMES)
def test_the_prompt_the_answer_and_the_first_tokens_are_those_of_the_result(saved_page, theme):
    view = view_of()
    page = saved_page(view, theme)
    assert page.locator("h3").inner_text() == "Shots: a model"
    for task in TASKS:
        for k, shuffled, place in ((0, False, 1), (1, True, 0), (4, False, 11), (8, True, 6), (8, True, 11)):
            query = task.queries[place][0]
            put(page, task=task.name, k=k, shuffled=shuffled, query=query)
            view.task, view.k, view.shuffled, view.query = task.name, k, shuffled, query
            one = view.result
            assert prompt_shown(page) == one.prompt
            assert page.locator("[data-piece=example]").count() == k
            assert page.locator(".sh-label").all_inner_texts() == [label for _, label in one.examples]
            assert page.locator(".sh-label[data-swapped=true]").count() == (k if shuffled else 0)
            said = page.locator(".sh-said")
            assert said.inner_text() == one.said
            assert said.get_attribute("data-correct") == str(one.correct).lower()
            verdict = page.locator(".sh-verdict").inner_text()
            assert verdict == (
                f"✓ right: {one.said}" if one.correct else f"✗ it says {one.said}; right would be {one.answer}"
            )
            assert f"Prompt: {one.tokens} tokens" in page.locator(".sh-chance").inner_text()
            tokens = page.locator(".sh-token").all_inner_texts()
            assert tokens[0] == "␣" + one.said[:4] and tokens[2:] == ["⏎", ATTACK]
            assert page.locator(".sh-number").all_inner_texts() == ["50.0 %", "25.0 %", "6.3 %", "<0.01 %"]
            signs = page.locator(".sh-sign").all_inner_texts()
            assert signs == ["✓" if one.answer.startswith(t.strip()) and t.strip() else "" for t, _ in one.top]
            wide = page.locator(".sh-bar").evaluate_all("all => all.map((one) => one.style.width)")
            assert wide[:3] == ["50%", "25%", "6.25%"]
    assert_readable(page, theme)


def test_a_miss_of_form_and_a_miss_without_examples_are_told(saved_page):
    page = saved_page(view_of(k=0))
    hint = page.locator(".sh-hint")
    assert hint.inner_text() == "The right word is in it, but not in the form that counts."
    click(page.get_by_label("shuffle the examples"))
    assert hint.inner_text() == "Without an example there is no label to shuffle."
    put(page, k=8)
    assert hint.inner_text() == ""


def test_the_questions_show_what_is_right_and_are_chosen_by_hand_and_by_keys(saved_page):
    view = view_of(k=4)
    page = saved_page(view)
    chips = page.get_by_role("radio")
    assert chips.count() == 12
    assert [text[0] for text in chips.all_inner_texts()] == ["✓"] * 7 + ["✗"] * 5
    assert page.locator(".sh-score").inner_text() == "7 of 12 right"
    put(page, shuffled=True)
    assert [text[0] for text in chips.all_inner_texts()] == ["✓"] * 3 + ["✗"] * 9
    click(chips.nth(5))
    assert get(page, "query") == PLURAL.queries[5][0]
    for key, place in (
        ("ArrowRight", 6),
        ("ArrowUp", 5),
        ("Home", 0),
        ("ArrowLeft", 11),
        ("ArrowDown", 0),
        ("End", 11),
    ):
        press(page, key)
        assert get(page, "query") == PLURAL.queries[place][0], key
        assert page.evaluate("document.activeElement.getAttribute('aria-checked')") == "true"
    assert page.locator("[role=radio][tabindex='0']").count() == 1


def test_the_slider_the_switch_and_the_task_move_everything(saved_page):
    view = view_of()
    page = saved_page(view)
    for key, k in (("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("End", 8), ("ArrowLeft", 4)):
        press(page, key, on=slider("k"))
        assert get(page, "k") == k
        assert page.locator("[data-piece=example]").count() == k
        assert page.locator(".sh-now").text_content() == str(k)
    press(page, "Space", on=page.get_by_label("shuffle the examples"))
    assert get(page, "shuffled") is True and page.locator(".sh-score").inner_text() == "3 of 12 right"
    page.locator("select[data-trait=task]").select_option("antonyms")
    settle(page)
    assert get(page, "task", "k", "shuffled", "query") == ["antonyms", 4, True, ANTONYMS.queries[0][0]]
    assert page.locator(".sh-chart-title").inner_text() == "Right answers, antonyms"
    assert page.locator(".sh-words").first.inner_text() == ANTONYMS.description


def test_points_stand_where_the_shares_are_and_choose(saved_page):
    view = view_of()
    page = saved_page(view)
    height = {0.0: None, 1.0: None}
    for name, share in (("0 %", 0.0), ("100 %", 1.0)):
        tick = page.locator(".sh-tick", has_text=name).first
        assert tick.text_content().replace("\xa0", " ") == name
        height[share] = float(tick.get_attribute("y")) - 4
    for (k, shuffled), (right, of) in view.accuracy().items():
        kind = "shuffled" if shuffled else "real"
        hand = page.locator(f".sh-point[data-k='{k}'][data-kind={kind}] .sh-hand")
        at = height[0.0] + right / of * (height[1.0] - height[0.0])
        assert float(hand.get_attribute("cy")) == pytest.approx(at, abs=0.01)
    assert page.locator(".sh-point").count() == 9
    click(page.locator(".sh-point[data-k='2'][data-kind=shuffled] .sh-hand"))
    assert get(page, "k", "shuffled") == [2, True]
    assert page.locator(".sh-point[data-on=true]").get_attribute("data-k") == "2"
    assert page.locator(".sh-value").text_content().replace("\xa0", " ") == "8 %"
    assert "12 questions each" in page.locator(".sh-worth").inner_text()


def test_the_table_has_every_task_and_chooses(saved_page):
    view = view_of()
    page = saved_page(view)
    for task in TASKS:
        for k in KS:
            counts = [view.accuracy(task.name).get((k, kind)) for kind in (False, True)]
            shares = [f"{round(100 * count[0] / count[1])} %" for count in counts if count]
            cell = page.locator(f"tr[data-task='{task.name}'] .sh-cell").nth(KS.index(k))
            shown = [text.replace("\xa0", " ") for text in cell.locator(".sh-share").all_inner_texts() if text]
            assert shown == shares, (task.name, k)
    click(page.locator("tr[data-task='capitals'] .sh-cell").nth(1))
    assert get(page, "task", "k", "query") == ["capitals", 1, CAPITALS.queries[0][0]]
    assert page.locator(".sh-cell[aria-pressed=true]").count() == 1
    assert page.locator("select[data-trait=task]").input_value() == "capitals"


def test_a_combination_that_was_not_asked_says_so(saved_page):
    results = [asked(PLURAL, k, False, i) for k in (0, 2) for i in range(2)] + [asked(ANTONYMS, 4, False, 0)]
    page = saved_page(ShotsView(results, k=0))
    put(page, k=4)
    assert page.locator(".sh-prompt").inner_text() == "This combination was not asked."
    assert page.locator(".sh-score").inner_text() == "not asked"
    assert page.locator(".sh-top:visible").count() == 0
    put(page, task="antonyms", query=ANTONYMS.queries[0][0])
    assert prompt_shown(page) == results[-1].prompt


@pytest.mark.parametrize("width", [600, 1000])
def test_nothing_moves_below_the_prompt_while_k_moves_and_nothing_is_cut_off(saved_page, width):
    page = saved_page(view_of(), width=width)
    tops = set()
    for k in KS:
        put(page, k=k)
        tops.add(page.locator(".sh-verdict").bounding_box()["y"])
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert len(tops) == 1
    inside = page.locator(".sh-plot").bounding_box()
    for box in page.locator(".sh-plot text").evaluate_all(
        "all => all.map((one) => { const b = one.getBBox(); return [b.x, b.x + b.width, b.y, b.y + b.height]; })"
    ):
        assert box[0] >= 0 and box[1] <= inside["width"] + 1 and box[2] >= -1 and box[3] <= inside["height"] + 1


def test_in_jupyterlab_the_kernel_and_the_page_agree(lab_notebook):
    code = (
        "import torch\n"
        "from arlab.decoding.shots import ask\n"
        "from arlab.nn.decoder import DecoderConfig, DecoderLM\n"
        "from arlab.text.shots import ANTONYMS, PLURAL\n"
        "from arlab.text.tokenizers import CharTokenizer\n"
        "from arlab.views import ShotsView\n"
        "tasks = [PLURAL, ANTONYMS]\n"
        "letters = CharTokenizer(''.join(task.description + str(task.pairs) for task in tasks) + '=>\\n')\n"
        "sizes = dict(vocab_size=letters.vocab_size, context_length=256, d_model=16, layers=1, heads=2)\n"
        "model = DecoderLM(DecoderConfig.gpt2(**sizes), seed=0)\n"
        "view = ShotsView(ask(model, letters, tasks, ks=(0, 1, 2), queries=3, max_new_tokens=3))\n"
        "view"
    )
    page = lab_notebook([code])
    page.wait_for_selector(".sh-prompt")
    page.locator("select[data-trait=task]").select_option("antonyms")
    page.get_by_label("shuffle the examples").click()
    state = "[view.task, view.k, view.shuffled, view.query]"
    eventually(lambda: from_kernel(page, state), ["antonyms", 2, True, ANTONYMS.queries[0][0]])
    in_kernel(page, "view.task = 'plural'; view.k = 1; view.query = view.queries[1]")
    page.wait_for_function("document.querySelectorAll('[data-piece=example]').length === 1")
    eventually(lambda: prompt_shown(page), from_kernel(page, "view.result.prompt"))


def test_a_long_question_and_a_long_name_stay_inside(saved_page):
    long = ShotTask(
        "a task with a name of forty characters!!", "Say it.", tuple((f"{'long' * 20}{i}", f"{i}") for i in range(4)), 2
    )
    view = ShotsView([asked(long, k, False, i) for k in (0, 1) for i in range(2)], model_name="a model " * 5)
    for width in (480, 1000):
        assert_inside(saved_page(view, width=width), ".sh-query", ".sh-select select", ".sh-prompt", ".sh-verdict")


@pytest.mark.parametrize("width", [480, 1000])
def test_nothing_moves_while_the_question_does(saved_page, width):
    """Bold type would change the widths of the questions, and wrap their lines anew."""
    page = saved_page(view_of(k=0), width=width)
    fixed = (".sh-query", ".sh-prompt", ".sh-chart")
    before = boxes(page, *fixed)
    for query, _ in PLURAL.queries[:12]:
        put(page, query=query)
        assert boxes(page, *fixed) == before, query


def test_a_task_without_this_k_is_shown_with_its_largest(saved_page):
    """As in the kernel: see test_a_task_without_this_k_takes_its_largest."""
    page = saved_page(ShotsView([asked(PLURAL, 4, False, 0), *(asked(ANTONYMS, k, False, 0) for k in (0, 1))]))
    page.locator("select[data-trait=task]").select_option("antonyms")
    settle(page)
    assert get(page, "task", "k") == ["antonyms", 1] and page.locator("[data-piece=example]").count() == 1


def test_how_many_questions_each_point_counts(saved_page):
    results = [asked(PLURAL, k, False, i) for k, count in ((0, 2), (4, 5)) for i in range(count)]
    page = saved_page(ShotsView(results))
    assert page.locator(".sh-worth").inner_text() == "2 to 5 questions each."
    titles = saved_page(view_of()).locator(".sh-point title").evaluate_all("all => all.map((one) => one.textContent)")
    assert [title.split(",")[0] for title in titles[:3]] == ["0 examples: 0 of 12 right", "1 example", "2 examples"]


def test_key_press_to_paint_within_a_frame(saved_page):
    assert_paints_in_time(lambda: saved_page(view_of(k=1)), slider("k"))
