"""The alignment view in a real browser: keyboard and mouse, what it says, both themes, and JupyterLab."""

from __future__ import annotations

import pytest
import torch

from arlab.views import AlignmentView
from tests.browser.hands import (
    ATTACK,
    THEMES,
    assert_inside,
    assert_paints_in_time,
    assert_readable,
    boxes,
    click,
    cut_off,
    enter,
    eventually,
    from_kernel,
    get,
    in_kernel,
    numbers_follow,
    press,
    put,
    settle,
    slider,
)

SOURCE = ["M", "a", "y", " ", "2", "1"]
TARGET = ["0", "5", "-", "2", "1", ATTACK]
GOLD = [(0, 3), (0, 3), None, (4, 6), (4, 6)]
MAP = "canvas[aria-label^='Alignment map']"


def draws(*shape: int) -> torch.Tensor:
    return (3 * torch.randn(*shape, generator=torch.Generator().manual_seed(3))).softmax(-1)


def small(**settings) -> AlignmentView:
    return AlignmentView(draws(2, 3, 6, 6), SOURCE, TARGET, **{"gold": GOLD} | settings)


def long(words: bool) -> AlignmentView:
    sources = [f"extraordinariamente{i}" for i in range(40)] if words else list("abcdefghij" * 4)
    return AlignmentView(draws(2, 8, 30, 40), sources, list("0123456789" * 3), gold=[(i, i + 4) for i in range(30)])


def said(view, page) -> None:
    """The page shows what the view means, whatever is chosen."""
    view.layer, view.head, view.target, view.source = get(page, "layer", "head", "target", "source")
    readout = page.locator(".av-readout")
    assert float(readout.get_attribute("data-weight")) == pytest.approx(float(view.row[view.source]), abs=1e-12)
    assert int(readout.get_attribute("data-heaviest")) == int(view.row.argmax())
    labels = page.locator(".av-source button").evaluate_all("all => all.map(b => b.ariaLabel)")
    for label, weight in zip(labels, view.row.tolist(), strict=True):
        number = label.rsplit("weight ", 1)[1]
        assert number == ("0" if weight == 0 else "<0.001" if weight < 0.0005 else f"{weight:.3f}")
    score = view.score
    figures = [page.locator(f"[data-figure={name}]") for name in ("inside", "mass", "best")]
    assert figures[0].inner_text() == f"{int(score.inside)} of {score.counted}"
    assert float(figures[1].get_attribute("data-value")) == pytest.approx(float(score.mass), abs=1e-12)
    assert figures[2].inner_text() == f"{int(view.scores.inside.max())} of {score.counted}"


def test_it_says_what_python_computes_wherever_the_keyboard_goes(saved_page):
    view = small()
    page = saved_page(view)
    said(view, page)
    press(page, "ArrowDown", "ArrowDown", "ArrowDown", "End", "ArrowLeft", on=MAP)
    assert get(page, "target", "source") == [3, 4]
    said(view, page)
    for head in range(3):
        press(page, "ArrowRight", on=slider("head"))
        assert get(page, "head") == head
        said(view, page)
    press(page, "ArrowRight", on=slider("layer"))
    said(view, page)
    click(page.locator("[data-trait=head] .al-reset"))
    assert get(page, "head") == "mean"
    said(view, page)


def test_the_button_goes_to_the_best_head(saved_page):
    view = small()
    page = saved_page(view)
    press(page, "Enter", on=page.get_by_role("button", name="Show that head"))
    assert get(page, "layer", "head") == list(view.best)
    said(view, page)
    assert page.locator("[data-figure=inside]").inner_text() == page.locator("[data-figure=best]").inner_text()


def test_the_mouse_looks_and_a_click_keeps(saved_page):
    view = small(target=4)
    page = saved_page(view)
    chosen = page.locator(".av-target button[aria-pressed=true]")
    page.locator(".av-target button").nth(1).hover()
    settle(page)
    assert chosen.inner_text() == "5" and get(page, "target") == 4
    assert page.locator(".av-source button.av-gold").all_inner_texts() != []
    gold = page.locator(".av-source button").evaluate_all("all => all.map(b => b.classList.contains('av-gold'))")
    assert gold == [True, True, True, False, False, False]
    page.mouse.move(2, 2)
    settle(page)
    assert chosen.inner_text() == "1"
    box = page.locator(MAP).bounding_box()
    page.mouse.move(box["x"] + 260, box["y"] + 22 + 26 * 2.5)  # the middle of the third row
    settle(page)
    assert chosen.inner_text() == "-"
    tip = page.locator(".al-tip").inner_text()
    j = int(tip.rsplit("source ", 1)[1])
    assert "target 2" in tip and f"{float(view.map[2, j]):.3f}" in tip
    page.mouse.down()
    page.mouse.up()
    assert get(page, "target", "source") == [2, j]


def test_without_gold_there_is_no_score_and_with_one_head_no_control(saved_page):
    page = saved_page(AlignmentView(draws(2, 3), "abc", "xy"))
    assert page.locator("input[type=range]").count() == 0
    for name in ("inside", "mass", "best"):
        assert not page.locator(f"[data-figure={name}]").is_visible()
    assert "gold" not in page.locator(".arlab").inner_text()


def test_a_new_target_of_another_size_is_drawn(saved_page):
    page = saved_page(small())
    other = AlignmentView(draws(2, 3, 2, 3), "xyz", ["p", "q"], gold=[None, (0, 1)])
    state = {name: getattr(other, name) for name in ("shape", "source_tokens", "target_tokens", "gold", "note")}
    page.evaluate(
        """([state, bytes]) => {
            for (const [name, value] of Object.entries(state)) arlabModel.set(name, value);
            arlabModel.set("target", 0); arlabModel.set("source", 0);
            arlabModel.set("_weights", new DataView(Uint8Array.from(bytes).buffer));
        }""",
        [state, list(other._weights)],
    )
    settle(page)
    said(other, page)
    assert page.locator(".av-source .al-token").all_inner_texts() == ["x", "y", "z"]


def test_tokens_are_text(saved_page):
    page = saved_page(AlignmentView(draws(2, 2), [ATTACK, "</script>"], [ATTACK, " "], target=1))
    assert page.locator("img").count() == 0
    assert page.locator(".av-target .al-token").all_inner_texts() == [ATTACK, "␣"]


@pytest.mark.parametrize("theme", THEMES)
def test_every_text_can_be_read(saved_page, theme):
    assert_readable(saved_page(small(), theme=theme), theme)


@pytest.mark.parametrize("make", [small, lambda: long(True), lambda: long(False)])
def test_nothing_sticks_out_at_600_pixels(saved_page, make):
    page = saved_page(make(), width=632)
    assert_inside(page, "canvas", ".al-figure", ".al-strip", ".al-slider")
    assert cut_off(page, ".arlab h4", ".al-figure span") == []


CELLS = [
    """
import torch
from arlab.nn.seq2seq import Seq2SeqConfig, Seq2SeqTransformer
from arlab.text.tokenizers import CharTokenizer
from arlab.views import AlignmentView
source, target = CharTokenizer("abcdef "), CharTokenizer("0123", special=["<bos>", "<eos>"])
config = Seq2SeqConfig(7, 6, 12, 8, d_model=16, encoder_layers=1, layers=2, heads=2, bos_id=4)
model = Seq2SeqTransformer(config, seed=1)
""",
    """
view = AlignmentView.run(model, source, target, "abc", bos_id=4, eos_id=5, max_new_tokens=6,
                         gold=lambda text, said: [(0, 2)] if text == "fade" else None)
view
""",
]


def test_in_jupyterlab_a_source_is_decoded_anew(lab_notebook):
    page = lab_notebook(CELLS, theme="JupyterLab Dark")
    page.locator(".arlab .av-source").wait_for()
    field = page.locator("input[aria-label=Source]")
    enter(field, "fade")
    page.wait_for_function("document.querySelectorAll('.av-source button').length === 4")
    assert page.locator(".av-source .al-token").all_inner_texts() == list("fade")
    text, note, tokens = from_kernel(page, "[view.source_text, view.note, view.target_tokens]")
    assert text == "fade"
    eventually(page.locator(".arlab .al-note").first.inner_text, note)
    eventually(page.locator(".av-target .al-token").all_inner_texts, tokens)
    page.locator("[data-figure=inside]").wait_for()
    enter(field, "xyz")
    page.locator(".al-banner:not([hidden])").wait_for()
    assert "character 'x' at position 0 is unknown" in page.locator(".al-banner").inner_text()
    assert from_kernel(page, "view.source_text") == "fade"
    in_kernel(page, "view.head = 1; view.target = 0")
    head = page.locator(slider("head"))
    page.wait_for_function("document.querySelector('.av-target button[aria-pressed=true]').dataset.i === '0'")
    assert head.get_attribute("aria-valuetext") == "1"
    press(page, "ArrowLeft", on=head)
    eventually(lambda: from_kernel(page, "view.head"), 0)


def test_letters_from_right_to_left_keep_their_places_and_their_numbers(saved_page):
    source = list("שלום 9")
    page = saved_page(AlignmentView(draws(1, 2, 2, 6), source, ["ם", "x"], target=0))
    assert page.locator(".av-source .al-token").all_inner_texts() == [*source[:4], "␣", "9"]
    places = [x for x, *_ in boxes(page, ".av-source button")]
    assert places == sorted(places)  # as the columns of the map
    for cell in range(6):
        put(page, source=cell)
        said = numbers_follow(page.locator(".av-readout"))
        assert said and all(said), "a number stands on the wrong side of its letter"


def test_nothing_jumps_while_the_head_moves(saved_page):
    spans = [(21, 25)] * 4 + [None] + [(12, 20)] * 2 + [None] + [(9, 10)] * 2
    view = AlignmentView(draws(12, 12, 11, 25), "Samstag, 9. November 2014", [*"2014-11-09", "<eos>"], gold=spans)
    fixed = (".av-figures", ".al-figure", ".al-canvas-box", ".av-source", ".av-legend")
    for width in (480, 640, 1000):
        page = saved_page(view, width=width)
        before = boxes(page, *fixed)
        for layer, head in ((0, 0), (11, 11), (11, "mean"), (3, 10)):
            put(page, layer=layer, head=head, target=4)
            assert boxes(page, *fixed) == before


def test_the_map_with_the_keyboard_s_ring_inside_its_box(saved_page):
    page = saved_page(small())
    press(page, "Tab", on=slider("head"))
    while page.evaluate("document.activeElement.tagName") != "CANVAS":
        press(page, "Tab")
    style = page.locator(MAP).evaluate(
        "map => [getComputedStyle(map).outlineStyle, getComputedStyle(map).outlineOffset]"
    )
    assert style == ["solid", "-2px"]  # what is outside its box is cut off


def test_a_map_of_128_by_128_is_drawn_at_every_width(saved_page):
    view = AlignmentView(draws(2, 2, 128, 128), "x" * 128, "y" * 128, gold=[(i, i + 1) for i in range(128)])
    for width in (320, 1000):
        page = saved_page(view, width=width)
        press(page, "ArrowDown", "ArrowRight")
        dark = """map => { const { data } = map.getContext("2d").getImageData(0, 0, map.width, map.height);
            return new Set(new Uint32Array(data.buffer)).size; }"""
        assert page.locator(MAP).evaluate(dark) > 50  # shades, not an empty field


def test_the_map_follows_the_head_and_the_theme(saved_page):
    page = saved_page(small())
    pixels = "map => map.toDataURL()"
    seen = {page.locator(MAP).evaluate(pixels)}
    for state in ({"head": 0}, {"head": 1}, {"layer": 1}, {"target": 3}):
        put(page, **state)
        seen.add(page.locator(MAP).evaluate(pixels))
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.querySelector('.arlab').dataset.theme === 'dark'")
    settle(page)
    seen.add(page.locator(MAP).evaluate(pixels))
    assert len(seen) == 6


def test_an_accent_without_its_letter_and_other_invisible_tokens_are_seen(saved_page):
    tokens = ["e", "\u0301", " ", "\n", "\u200b", ""]
    page = saved_page(AlignmentView(torch.ones(6, 1), ["x"], tokens))
    shown = page.locator(".av-target .al-token").all_inner_texts()
    assert shown == ["e", "◌\u0301", "␣", "⏎", "⟨U+200B⟩", "⟨empty⟩"]


@pytest.mark.parametrize("large", [False, True])
def test_key_press_to_paint_within_a_frame(saved_page, large):
    size = (20, 16, 60, 60) if large else (1, 4, 11, 25)
    view = AlignmentView(draws(*size), "s" * size[3], "t" * size[2], gold=[(i, i + 1) for i in range(size[2])])
    assert_paints_in_time(lambda: saved_page(view), MAP if large else slider("head"))
