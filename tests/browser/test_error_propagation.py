"""The error view in a real browser: moved by keyboard, mouse and lists, every number against Python's."""

from __future__ import annotations

import pytest
import torch

from arlab.nn.language_model import Recompute
from arlab.views import ErrorPropagation
from tests.browser.hands import (
    ATTACK,
    THEMES,
    assert_inside,
    assert_paints_in_time,
    assert_readable,
    boxes,
    click,
    enter,
    eventually,
    from_kernel,
    get,
    in_kernel,
    press,
    put,
    reported,
    settle,
)

DIGITS = list(range(10))
NAMES = [*map(str, DIGITS), "</s>", "<s>"]


class Rule(torch.nn.Module):
    """Mostly y_t = y_(t-1) + d, or mostly y_t = s + t d: `look` says how much it counts; with some noise of its own."""

    vocab_size, bos_id, context_length = 12, 11, 40

    def __init__(self, s, d, look, end_after=99):
        super().__init__()
        self.s, self.d, self.look, self.end_after = s, d, look, end_after
        self.noise = torch.randn(40, 12, 12, generator=torch.Generator().manual_seed(int(100 * look)))

    def forward(self, ids):
        logits = torch.stack([self.noise[torch.arange(ids.size(1)), row] for row in ids])
        for row, line in enumerate(ids.tolist()):
            for t, before in enumerate(line):
                logits[row, t, (before + self.d) % 10] += 4 * (1 - self.look) * (t > 0)
                logits[row, t, (self.s + t * self.d) % 10] += 4 * self.look
                logits[row, t, 10] += 99 * (t == self.end_after and before != 0)
        return logits


def task(s: int, d: int, time: int) -> list[int]:
    return [(s + t * d) % 10 for t in range(time)]


def models(s: int, d: int) -> dict:
    looks = {"teacher forcing": 0.15, "scheduled sampling": 0.5, "random prefix corruption": 0.9}
    return {name: Recompute(Rule(s, d, look)) for name, look in looks.items()}


def asked(text: str) -> dict:
    s, d = map(int, text.split())
    return {"models": models(s, d), "answer": task(s, d, 10), "source_tokens": text.split()}


@pytest.fixture(scope="module")
def view() -> ErrorPropagation:
    return ErrorPropagation(models(3, 4), task(3, 4, 16), NAMES, choices=DIGITS, source_tokens=["3", "4"], position=4)


def state(page) -> tuple:
    return tuple(get(page, "position", "symbol"))


LANES = """() => [...document.querySelectorAll('.ep-lane')].map((lane) => [
    [...lane.querySelectorAll('.ep-cell')].map((c) => [c.textContent, c.dataset.kind, c.dataset.first === '1']),
    Object.fromEntries([...lane.querySelectorAll('[data-figure]')].map((b) => [b.dataset.figure, b.textContent]))])"""


def expected(view: ErrorPropagation, strings=NAMES) -> list:
    """What the lanes must show for the view's position and symbol, by the view's own properties."""
    p, time = view.position, len(view.answer)
    none = view.symbol is None or view.symbol == view.answer[p]
    shown = []
    for name in view.names:
        right, written = view.right_after[name], view.written[name]
        first, stays = view.recovered[name], view.recovered_for_good[name]
        cells = [[strings[view.answer[t]], "given", False] for t in range(p)]
        cells.append([strings[view.answer[p] if none else view.symbol], "given" if none else "error", False])
        for k, good in enumerate(right):
            text = strings[written[k]] if k < len(written) else "–"
            cells.append([text, "right" if good else "wrong", not none and first == k + 1])
        symbol, view.symbol = view.symbol, None
        alone = view.right_after[name]
        view.symbol = symbol
        later = "never" if first is None else "at once" if first == 1 else f"after {first - 1} wrong"
        lasting = "never" if stays is None else "at once" if stays == 1 else f"from +{stays}"
        of = f" of {time - 1 - p}"
        figures = {
            "right": f"{sum(right)}{of}" if right else "nothing",
            "first": "–" if none else later,
            "stays": "–" if none else lasting,
            "without": f"{sum(alone)}{of}" if alone else "nothing",
        }
        shown.append([cells, figures])
    return shown


def agree(page, view: ErrorPropagation, strings=NAMES) -> None:
    view.position, view.symbol = state(page)
    assert page.evaluate(LANES) == expected(view, strings), state(page)


def agree_in_figures(page, view: ErrorPropagation) -> None:
    figures, names = reported(page), view.names
    assert figures["position"] == get(page, "position")
    for key, error in (("by_distance", True), ("without", False)):
        of_page = dict(zip(names, figures[key], strict=True))
        for name, values in view.accuracy_by_distance(error).items():
            assert of_page[name] == pytest.approx(values, abs=1e-12)
    assert figures["mean"] == pytest.approx([view.mean_right()[name] for name in names])
    assert figures["mean_without"] == pytest.approx([view.mean_right(error=False)[name] for name in names])


def test_moved_by_keyboard_mouse_and_lists(view, saved_page):
    page = saved_page(view)
    assert state(page) == (4, 0)
    agree(page, view)
    agree_in_figures(page, view)
    page.locator(".ep-answer").focus()
    for keys, there in [
        (["ArrowRight"], (5, 0)),
        (["ArrowDown", "ArrowDown"], (5, 2)),
        (["ArrowUp"], (5, 1)),
        (["ArrowLeft", "ArrowLeft"], (3, 1)),
        (["Home"], (0, 1)),
        (["ArrowDown", "ArrowDown"], (0, 3)),  # 3 is right there: no error
        (["End"], (15, 3)),
        (["ArrowRight"], (15, 3)),
        (["ArrowLeft", "ArrowDown"], (14, 4)),
    ]:
        press(page, *keys)
        assert state(page) == there
        agree(page, view)
    page.get_by_label("Position of the error", exact=True).select_option("6")
    page.get_by_label("Symbol put there").select_option("2")
    settle(page)
    assert state(page) == (6, 2)
    agree(page, view)
    click(page.get_by_role("button", name="No error"))
    assert state(page) == (6, None) and page.get_by_label("Symbol put there").input_value() == ""
    agree(page, view)
    assert page.locator(".ep-story").inner_text().startswith("Position 6 is right (7): no error. 9 symbols follow")
    page.locator(".ep-answer .ep-cell").nth(9).click()
    press(page, "ArrowDown")
    assert state(page) == (9, 0)
    agree(page, view)
    assert page.locator(".ep-answer [aria-selected=true]").get_attribute("aria-label") == "position 9, 9"


def test_every_error_agrees_with_python(saved_page):
    """All positions and symbols, models that stop early among them, and a truth that depends on the error."""
    two = {"steps": Recompute(Rule(3, 4, 0.2, end_after=5)), "counts": Recompute(Rule(3, 4, 0.8))}

    def correct(prefix):
        return task(prefix[-1] + 4, 4, 8)

    view = ErrorPropagation(two, task(3, 4, 7), NAMES, choices=[0, 3, 7, 5], eos_id=10, correct=correct)
    page = saved_page(view)
    seen = set()
    for position in range(7):
        for symbol in (0, 3, 7, 5, None):
            put(page, position=position, symbol=symbol)
            agree(page, view)
            seen |= {(text == "–", kind) for text, kind, _ in page.evaluate(LANES)[0][0]}
    agree_in_figures(page, view)
    assert (True, "wrong") in seen  # an end came too early, and nothing after it
    put(page, position=1, symbol=0)
    assert page.locator(".ep-wanted .ep-cell").all_inner_texts() == ["", "0", "4", "8", "2", "6", "0"]


def test_a_map_is_clicked_and_walked(view, saved_page):
    page = saved_page(view)
    box = page.locator(".ep-map-box").nth(1)
    size = box.bounding_box()
    cell = (size["width"] - 28) / 16
    box.click(position={"x": 26 + 7.5 * cell, "y": 15 * 6 + 7})
    settle(page)
    assert state(page) == (7, 6)
    agree(page, view)
    box.hover(position={"x": 26 + 2.5 * cell, "y": 15 * 8 + 7})
    settle(page)
    tip = page.locator(".al-tip")
    view.position, view.symbol = 2, 8
    right = view.right_after["scheduled sampling"]
    assert tip.inner_text() == f"8 put in at position 2: {sum(right)} of {len(right)} right after it"
    box.hover(position={"x": 26 + 2.5 * cell, "y": 15 * 1 + 7})
    settle(page)
    assert tip.inner_text() == "1 is the right symbol at position 2: no error"
    press(page, "ArrowUp", "ArrowRight", "ArrowRight", on=box)
    assert state(page) == (9, 5)
    agree(page, view)
    means = page.locator(".ep-map [data-mean]").all_inner_texts()
    assert means == [f"{mean:.2f}" for mean in view.mean_right().values()]


def test_pointing_at_the_chart_tells_the_numbers(view, saved_page):
    page = saved_page(view)
    chart = page.locator("canvas[aria-label^='Share of right symbols by distance']")
    width = chart.bounding_box()["width"]
    chart.hover(position={"x": 34 + 2 * (width - 44) / 14, "y": 60})
    lines = page.locator(".al-tip").inner_text().split("\n")
    assert lines[0] == "3 symbols after the error"
    after, alone = view.accuracy_by_distance(), view.accuracy_by_distance(error=False)
    assert lines[1:] == [f"{name}: {after[name][2]:.2f}, without an error {alone[name][2]:.2f}" for name in view.names]


def test_strings_are_text(saved_page):
    strings = [*NAMES]
    strings[7], strings[1] = ATTACK, " "
    attacked = {f"{ATTACK} model": Recompute(Rule(3, 4, 0.8))}
    view = ErrorPropagation(
        attacked, task(3, 4, 6), strings, choices=DIGITS, source_tokens=[ATTACK], symbol=7, position=0
    )
    page = saved_page(view)
    assert page.locator("img").count() == 0
    assert page.locator(".ep-lane .ep-cell").nth(0).inner_text() == ATTACK
    assert page.locator(".ep-answer .ep-cell").nth(2).inner_text() == "␣"
    assert ATTACK in page.locator(".ep-name").first.inner_text() and ATTACK in page.locator(".ep-token").inner_text()
    page.locator(".ep-map-box").hover(position={"x": 40, "y": 15 * 7 + 7})
    assert ATTACK in page.locator(".al-tip").inner_text() and page.locator("img").count() == 0


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", [600, 1000])
def test_it_can_be_read_and_nothing_jumps(view, saved_page, theme, width):
    view.position, view.symbol = 4, 0
    page = saved_page(view, theme=theme, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    heights = set()
    for keys in [[], ["ArrowRight"] * 6, ["ArrowDown"] * 4, ["End"], ["Home"], ["ArrowUp"]]:
        press(page, *keys, on=".ep-answer")
        heights.add(round(page.locator(".arlab").bounding_box()["height"]))
        assert_readable(page, theme)
    assert len(heights) == 1


def test_a_long_answer_is_scrolled_and_not_cut(saved_page):
    one = {"steps": Recompute(Rule(3, 4, 0.2))}
    page = saved_page(ErrorPropagation(one, task(3, 4, 36), NAMES, choices=DIGITS, position=30), width=600)
    assert page.evaluate("document.documentElement.scrollWidth") <= 600
    assert page.locator(".ep-scroll").evaluate("box => box.scrollWidth > box.clientWidth")
    cells = page.locator(".ep-answer .ep-cell").evaluate_all("all => all.map(c => c.getBoundingClientRect().width)")
    assert len(cells) == 36 and min(cells) >= 24
    edges = page.locator(".ep-scroll").bounding_box()
    chosen = page.locator(".ep-answer [aria-selected=true]").bounding_box()
    assert edges["x"] <= chosen["x"] <= edges["x"] + edges["width"] - chosen["width"]  # the error is in sight


def test_a_saved_page_says_what_needs_the_notebook(saved_page):
    view = ErrorPropagation(**asked("3 4"), symbols=NAMES, choices=DIGITS, recompute=asked)
    page = saved_page(view)
    assert page.get_by_role("textbox", name="Source").input_value() == "3 4"
    assert page.get_by_role("button", name="Run", exact=True).is_disabled()
    assert "another source needs the notebook" in page.locator(".arlab").inner_text()


SETUP = f"""
import sys
sys.path.insert(0, {__file__.rpartition("/")[0]!r})
from test_error_propagation import DIGITS, NAMES, ErrorPropagation, asked
view = ErrorPropagation(**asked("3 4"), symbols=NAMES, choices=DIGITS, recompute=asked)
"""


def test_in_jupyterlab(lab_notebook):
    page = lab_notebook([SETUP, "view"], theme="JupyterLab Dark")
    page.locator(".ep-lane").first.wait_for()
    press(page, "ArrowRight", "ArrowDown", on=".ep-answer")
    here = ErrorPropagation(**asked("3 4"), symbols=NAMES, choices=DIGITS, position=3, symbol=1)
    eventually(
        lambda: from_kernel(page, "[view.position, view.symbol, view.errors_after, view.source_text]"),
        [3, 1, here.errors_after, "3 4"],
    )

    in_kernel(page, "view.position, view.symbol = 6, 8")
    story = page.locator(".ep-story")
    eventually(story.inner_text, lambda text: text.startswith("At position 6") and "told 8; 7 would be right" in text)

    field = page.get_by_role("textbox", name="Source")
    enter(field, "5 1")
    page.wait_for_function("() => document.querySelector('.ep-answer .ep-cell').textContent === '5'")
    assert page.locator(".ep-answer .ep-cell").all_inner_texts() == [str(i) for i in task(5, 1, 10)]
    assert from_kernel(page, "view.source_text") == "5 1"
    there = ErrorPropagation(**asked("5 1"), symbols=NAMES, choices=DIGITS, position=6, symbol=8)
    eventually(lambda: page.evaluate(LANES), expected(there))

    field.fill("five")
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator(".al-banner").wait_for()
    assert "five" in page.locator(".al-banner").inner_text()
    assert page.evaluate(LANES) == expected(there)  # what was there stays
    assert_readable(page, "dark")


LONG = "a model with a name of forty characters "


def test_long_strings_and_long_names_stay_inside(saved_page):
    strings = ["extraordinariamente" + str(i) for i in range(10)] + ["</s>", "<s>"]
    two = {f"{LONG}{n}": model for n, model in enumerate(models(3, 4).values())}
    view = ErrorPropagation(two, task(3, 4, 10), strings, choices=DIGITS, source_tokens=strings[:6] + ["x" * 90])
    for width in (480, 1000):
        page = saved_page(view, width=width)
        assert_inside(page, ".ep-token", ".ep-controls", ".ep-title", ".ep-figures", ".ep-map")
        assert page.locator(".ep-name").first.get_attribute("title") == f"{LONG}0"


@pytest.mark.parametrize("width", [480, 640, 1000])
def test_nothing_moves_while_the_error_does(saved_page, width):
    """Names as long as here, beside figures that are "never" or "after 12 wrong"."""
    page = saved_page(ErrorPropagation(models(3, 4), task(3, 4, 15), NAMES, choices=DIGITS), width=width)
    fixed = (".ep-figures span", ".ep-lane", ".ep-lane .ep-row", ".ep-map")
    before = None
    for position in (0, 2, 12, 14):
        for symbol in (None, 0, 2, 9):
            put(page, position=position, symbol=symbol)
            now = [[x, y] for x, y, *_ in boxes(page, *fixed)]
            assert now == (before := before or now), (position, symbol)


def test_letters_from_right_to_left_keep_their_places(saved_page):
    strings = ["ש", "ל", "ו", *NAMES[3:]]
    page = saved_page(ErrorPropagation(models(3, 4), task(3, 4, 8), strings, choices=DIGITS, position=4, symbol=1))
    story = page.locator(".ep-story")
    put(page, position=2, symbol=0)
    assert story.locator("bdi").all_inner_texts() == ["ש", "ל"]


def test_the_map_and_the_chart_are_drawn_anew_for_another_theme(view, saved_page):
    page = saved_page(view)
    canvases = "() => [...document.querySelectorAll('.ep-all canvas')].map((one) => one.toDataURL())"
    light = page.evaluate(canvases)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.querySelector('.arlab').dataset.theme === 'dark'")
    settle(page)
    assert all(a != b for a, b in zip(light, page.evaluate(canvases), strict=True))


@pytest.mark.parametrize("large", [False, True])
def test_key_press_to_paint_within_a_frame(saved_page, large):
    time = 36 if large else 12
    all_of_them = models(3, 7) if large else dict(list(models(3, 7).items())[:2])
    view = ErrorPropagation(all_of_them, task(3, 7, time), NAMES, choices=DIGITS, position=4, symbol=6)
    assert_paints_in_time(lambda: saved_page(view), ".ep-answer")
