"""The tokenizer view in a real browser: typing, counts, unknown characters, and the table against the library's."""

from __future__ import annotations

import pytest

from arlab.text.tokenizers import BPETokenizer, CharTokenizer
from arlab.views import TokenizerView
from tests.browser.hands import (
    ATTACK,
    THEMES,
    assert_readable,
    eventually,
    from_kernel,
    in_kernel,
    press,
    settle,
    slider,
)

CORPUS = "to be or not to be: that is the question. " * 3
TEXT = f"to be:\n{ATTACK} é"
BLOCK = "[data-tokenizer='{}'] "


def tokenizers() -> dict:
    known = CharTokenizer(CORPUS + TEXT, special=["<bos>", "<eos>", "<pad>"])
    return {"characters": known, "BPE": BPETokenizer.train(CORPUS, 300), "small": CharTokenizer(CORPUS)}


def table(page) -> list[tuple[int, int]]:
    pairs = "all => all.map(row => [Number(row.dataset.input), Number(row.dataset.target)])"
    return [tuple(pair) for pair in page.locator(".tv-table tbody tr").evaluate_all(pairs)]


def shown_ids(page, name: str) -> list[int]:
    return [int(text) for text in page.locator(f"{BLOCK.format(name)}small").all_text_contents()]


def test_tokens_ids_and_counts(saved_page):
    all_three = tokenizers()
    view = TokenizerView({name: all_three[name] for name in ("characters", "BPE")}, "to be or not\n to", show_ids=True)
    page = saved_page(view)
    size = len(view.text)
    for name, ids in view.ids.items():
        assert shown_ids(page, name) == ids
        figures = page.locator(f"{BLOCK.format(name)}[data-figure]").all_inner_texts()
        assert figures == [str(len(ids)), f"{size / len(ids):.2f}", f"{size / len(ids):.2f}"]  # all of it is ASCII
    first = page.locator(f"{BLOCK.format('characters')}.tv-token .al-token").all_inner_texts()
    assert first == list("to␣be␣or␣not⏎␣to")
    # ␣ and ⏎ are shown, they are not there
    assert page.get_by_role("textbox", name="Text to cut").input_value() == view.text
    assert page.locator(f"{BLOCK.format('characters')}br").count() == 1
    assert page.locator(".tv-sizes").inner_text() == "16 characters, 16 bytes in UTF-8"
    ids = page.locator(f"{BLOCK.format('BPE')}small").first
    assert ids.is_visible()
    press(page, "Space", on=page.get_by_label("show ids"))
    assert not ids.is_visible()


def test_a_token_is_chosen_by_keyboard_and_by_mouse(saved_page):
    view = TokenizerView(tokenizers(), "to be or not to be")
    page = saved_page(view)
    press(page, *["ArrowRight"] * 3, "ArrowLeft", on=f"{BLOCK.format('characters')}.tv-tokens")
    readout = page.locator(".tv-readout")
    o = view.ids["characters"][1]
    assert readout.inner_text() == f"characters, token 2 of 18: “o”, id {o}; 1 character, 1 byte; 4 times in this text"
    assert page.locator(f"{BLOCK.format('characters')}[data-mark=same]").count() == 3
    chosen = page.locator(f"{BLOCK.format('characters')}.tv-tokens").get_attribute("aria-activedescendant")
    assert page.locator(f"#{chosen}").get_attribute("aria-selected") == "true"
    press(page, "End", "ArrowRight")
    assert readout.inner_text().startswith("characters, token 18 of 18: “e”")
    page.locator(f"{BLOCK.format('BPE')}.tv-token").nth(1).hover()
    settle(page)
    assert readout.inner_text().startswith(
        f"BPE, token 2 of {len(view.ids['BPE'])}: “␣be”, id {view.ids['BPE'][1]}; 3 ch"
    )
    assert page.locator("[data-mark=on]").count() == 1


@pytest.mark.parametrize("chosen", ["characters", "BPE"])
def test_the_table_is_the_library_s(saved_page, chosen):
    view = TokenizerView(tokenizers(), "to be or not to be", show_table=True, chosen=chosen)
    page = saved_page(view)

    def library() -> list[tuple[int, int]]:
        return [tuple(pair) for pair in zip(*(half[0].tolist() for half in view.batch), strict=True)]

    assert table(page) == library()
    press(page, "Space", on=page.get_by_label("start and end symbol"))
    view.ends = False
    assert table(page) == library()
    press(page, *["ArrowRight"] * 5, on=slider("length"))
    view.length = 5
    assert table(page) == library() and len(table(page)) == 5
    if chosen == "characters":
        assert "5 predictions from one row; 12 tokens cut off at the end" in page.locator(".tv-said").inner_text()
    press(page, "End")
    view.length = 64
    assert table(page) == library() and table(page)[-1][1] == -100
    said = page.locator(".tv-said").inner_text()
    assert "positions filled" in said and ("no <pad>" in said) == (chosen == "BPE")
    last = page.locator(".tv-table tbody tr").last
    assert last.inner_text().split("\t")[-2:] == ["not counted", "-100"]
    other = "BPE" if chosen == "characters" else "characters"
    press(page, "Enter", on=f".al-segment[data-value='{other}']")
    view.chosen = other
    assert table(page) == library()


def test_the_table_tells_what_the_model_has_read(saved_page):
    page = saved_page(TokenizerView(tokenizers(), "to be", show_table=True))
    cells = "all => all.map(row => [1, 2, 4].map(c => row.children[c].textContent))"
    rows = page.locator(".tv-table tbody tr").evaluate_all(cells)
    assert rows[0] == ["<bos>", "<bos>", "t"]
    assert rows[3] == ["<bos>to␣", "␣", "b"]
    assert rows[-1] == ["<bos>to␣be", "e", "<eos>"]


def test_unknown_characters_are_marked_in_their_place(saved_page):
    page = saved_page(TokenizerView(tokenizers(), "to be, é?", show_table=True, chosen="small"))
    block = BLOCK.format("small")
    assert page.locator(f"{block}.tv-unknown").all_inner_texts() == [",", "é", "?"]
    assert page.locator(f"{block}.tv-unknown").nth(1).get_attribute("title") == "position 7"
    remark = page.locator(f"{block}.tv-remark").inner_text()
    assert remark.startswith("No token for “,” at position 5, “é” at position 7, “?” at position 8 (counted from 0)")
    assert page.locator(f"{block}[data-figure]").all_inner_texts() == ["–"] * 3
    assert page.locator(".tv-said").inner_text() == remark and not page.locator(".tv-table").is_visible()
    assert "<C3>" in page.locator(f"{BLOCK.format('BPE')}.tv-tokens").inner_text()


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", [600, 960])
def test_it_can_be_read_in_both_themes_and_tokens_are_text(saved_page, theme, width):
    page = saved_page(TokenizerView(tokenizers(), TEXT, show_ids=True, show_table=True), theme=theme, width=width)
    assert_readable(page, theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("img").count() == 0
    assert page.get_by_role("textbox", name="Text to cut").get_attribute("readonly") is not None
    assert page.get_by_text("This is a saved page").is_visible()


def test_six_long_names_stay_inside_a_narrow_page(saved_page):
    many = {f"a tokenizer with a long name, number {n}": CharTokenizer("ab") for n in range(6)}
    page = saved_page(TokenizerView(many, "ab", show_table=True), width=600)
    assert page.evaluate("document.documentElement.scrollWidth") <= 600
    assert page.locator(".al-segment").count() == 6


def test_a_text_of_the_longest_kind_stays_in_its_place(saved_page):
    page = saved_page(TokenizerView({"characters": CharTokenizer("ab")}, "ab" * 1000, show_table=True))
    assert page.locator(".tv-token").count() == 2000
    assert page.locator(".tv-table tbody tr").count() == 200
    assert "the first 200 are shown" in page.locator(".tv-said").inner_text()
    assert page.locator(".arlab").bounding_box()["height"] < 1075


CELLS = [
    f"""
from arlab.text.tokenizers import BPETokenizer, CharTokenizer
from arlab.views import TokenizerView
corpus = {CORPUS!r}
calls = []
class Slow(CharTokenizer):
    def encode(self, text):
        calls.append(text)
        return super().encode(text)
view = TokenizerView({{"characters": Slow(corpus), "BPE": BPETokenizer.train(corpus, 300)}}, "to be", show_ids=True)
""",
    "view",
]


def test_in_jupyterlab_the_kernel_cuts_what_one_types(lab_notebook):
    page = lab_notebook(CELLS, theme="JupyterLab Dark")
    field = page.get_by_role("textbox", name="Text to cut")
    field.wait_for()
    before = from_kernel(page, "calls")
    field.evaluate(  # a hand quicker than any pause between two keys
        "(area, text) => [...text].forEach((_, i) => {"
        " area.value = text.slice(0, i + 1); area.dispatchEvent(new Event('input')); })",
        "not to be",
    )
    count = "n => document.querySelectorAll('[data-tokenizer=characters] .tv-token').length === n"
    page.wait_for_function(count, arg=9)
    ids, calls = from_kernel(page, "[view.ids, calls]")
    assert set(calls[len(before) :]) == {"not to be"}  # not at every key
    assert from_kernel(page, "view.text") == "not to be" == field.input_value()
    assert shown_ids(page, "BPE") == ids["BPE"] and shown_ids(page, "characters") == ids["characters"]

    field.press_sequentially(" é")
    page.locator(".tv-unknown").wait_for()
    assert "“é” at position 10" in page.locator(".tv-remark").first.inner_text()
    field.fill("to be " * 400)
    page.wait_for_function("document.querySelector('.al-banner').textContent.includes('2400 characters')")
    assert from_kernel(page, "view.text") == "not to be é"
    field.fill("to")
    page.wait_for_function(count, arg=2)
    page.wait_for_selector(".al-banner", state="hidden")

    in_kernel(page, "view.text = 'that is'; view.show_table = True; view.length = 4")
    eventually(lambda: len(table(page)), 4)
    eventually(field.input_value, "that is")
    page.get_by_label("start and end symbol").click()
    eventually(lambda: from_kernel(page, "view.ends"), False)
    assert_readable(page, "dark")
