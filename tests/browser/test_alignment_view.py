"""The alignment view in a real browser: keyboard and mouse, what it says, both themes, and JupyterLab."""

from __future__ import annotations

import json

import pytest
import torch

from arlab.views import AlignmentView

SCRIPT = "<img src=x onerror=alert(1)>"
SOURCE = ["M", "a", "y", " ", "2", "1"]
TARGET = ["0", "5", "-", "2", "1", SCRIPT]
GOLD = [(0, 3), (0, 3), None, (4, 6), (4, 6)]
MAP = "canvas[aria-label^='Alignment map']"


def draws(*shape: int) -> torch.Tensor:
    return (3 * torch.randn(*shape, generator=torch.Generator().manual_seed(3))).softmax(-1)


def small(**settings) -> AlignmentView:
    return AlignmentView(draws(2, 3, 6, 6), SOURCE, TARGET, **{"gold": GOLD} | settings)


def long(words: bool) -> AlignmentView:
    sources = [f"extraordinariamente{i}" for i in range(40)] if words else list("abcdefghij" * 4)
    return AlignmentView(draws(2, 8, 30, 40), sources, list("0123456789" * 3), gold=[(i, i + 4) for i in range(30)])


def settle(page) -> None:
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def press(page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)
    settle(page)


def said(view, page) -> None:
    """The page shows what the view means, whatever is chosen."""
    state = page.evaluate("['layer', 'head', 'target', 'source'].map(name => arlabModel.get(name))")
    view.layer, view.head, view.target, view.source = state
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
    page.locator(MAP).focus()
    press(page, "ArrowDown", "ArrowDown", "ArrowDown", "End", "ArrowLeft")
    assert page.evaluate("[arlabModel.get('target'), arlabModel.get('source')]") == [3, 4]
    said(view, page)
    page.locator("input[type=range][data-trait=head]").focus()
    for head in range(3):
        press(page, "ArrowRight")
        assert page.evaluate("arlabModel.get('head')") == head
        said(view, page)
    page.locator("input[type=range][data-trait=layer]").focus()
    press(page, "ArrowRight")
    said(view, page)
    page.locator("[data-trait=head] .al-reset").click()
    settle(page)
    assert page.evaluate("arlabModel.get('head')") == "mean"
    said(view, page)


def test_the_button_goes_to_the_best_head(saved_page):
    view = small()
    page = saved_page(view)
    page.get_by_role("button", name="Show that head").focus()
    press(page, "Enter")
    assert page.evaluate("[arlabModel.get('layer'), arlabModel.get('head')]") == list(view.best)
    said(view, page)
    assert page.locator("[data-figure=inside]").inner_text() == page.locator("[data-figure=best]").inner_text()


def test_the_mouse_looks_and_a_click_keeps(saved_page):
    view = small(target=4)
    page = saved_page(view)
    chosen = page.locator(".av-target button[aria-pressed=true]")
    page.locator(".av-target button").nth(1).hover()
    settle(page)
    assert chosen.inner_text() == "5" and page.evaluate("arlabModel.get('target')") == 4
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
    assert page.evaluate("[arlabModel.get('target'), arlabModel.get('source')]") == [2, j]


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
    page = saved_page(AlignmentView(draws(2, 2), [SCRIPT, "</script>"], [SCRIPT, " "], target=1))
    assert page.locator("img").count() == 0
    assert page.locator(".av-target .al-token").all_inner_texts() == [SCRIPT, "␣"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read(saved_page, contrasts, theme):
    ratio, text = contrasts(saved_page(small(), theme=theme))[0]
    assert ratio >= 4.5, f"{text!r} has contrast {ratio:.2f}"


@pytest.mark.parametrize("make", [small, lambda: long(True), lambda: long(False)])
def test_nothing_sticks_out_at_600_pixels(saved_page, make):
    page = saved_page(make(), width=632)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    root = page.locator(".arlab").bounding_box()
    for box in page.locator(".arlab canvas, .al-figure, .al-strip, .al-slider").all():
        inner = box.bounding_box()
        assert inner["x"] >= root["x"] and inner["x"] + inner["width"] <= root["x"] + root["width"]
    clipped = page.locator(".arlab h4, .al-figure span").evaluate_all(
        "all => all.filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth).length"
    )
    assert clipped == 0


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


def test_in_jupyterlab_a_source_is_decoded_anew(lab_notebook, in_kernel):
    page = lab_notebook(CELLS, theme="JupyterLab Dark")
    page.locator(".arlab .av-source").wait_for()
    field = page.locator("input[aria-label=Source]")
    field.fill("fade")
    press(page, "Enter")
    page.wait_for_function("document.querySelectorAll('.av-source button').length === 4")
    assert page.locator(".av-source .al-token").all_inner_texts() == list("fade")
    kernel = json.loads(
        in_kernel(page, "import json; print(json.dumps([view.source_text, view.note, view.target_tokens]))")
    )
    assert kernel[0] == "fade" and page.locator(".arlab .al-note").first.inner_text() == kernel[1]
    assert page.locator(".av-target .al-token").all_inner_texts() == kernel[2]
    assert page.locator("[data-figure=inside]").is_visible()
    field.fill("xyz")
    press(page, "Enter")
    page.locator(".al-banner:not([hidden])").wait_for()
    assert "character 'x' at position 0 is unknown" in page.locator(".al-banner").inner_text()
    assert in_kernel(page, "print(view.source_text)") == "fade"
    in_kernel(page, "view.head = 1; view.target = 0")
    page.wait_for_function("document.querySelector('.av-target button[aria-pressed=true]').dataset.i === '0'")
    assert page.locator("input[type=range][data-trait=head]").get_attribute("aria-valuetext") == "1"
    press(page, "Tab")
    page.locator("input[type=range][data-trait=head]").focus()
    press(page, "ArrowLeft")
    page.wait_for_timeout(300)
    assert in_kernel(page, "print(view.head)") == "0"
