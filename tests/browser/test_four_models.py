"""Models side by side in a real browser: one step for all, what each cell says, both themes, and JupyterLab."""

from __future__ import annotations

import pytest
import torch

from arlab.nn.rnn import Seq2SeqRNN
from arlab.nn.seq2seq import Seq2SeqConfig, Seq2SeqTransformer
from arlab.text.tokenizers import CharTokenizer
from arlab.views import FourModels
from tests.browser.hands import (
    ATTACK,
    THEMES,
    assert_inside,
    assert_paints_in_time,
    assert_readable,
    click,
    enter,
    eventually,
    from_kernel,
    get,
    in_kernel,
    numbers_follow,
    press,
    put,
    slider,
)

SOURCE = CharTokenizer("abcdefghij ")


class Target(CharTokenizer):
    """Characters, one of which is shown as an attack."""

    def token_strings(self) -> list[str]:
        return [ATTACK if token == "3" else token for token in super().token_strings()]


def models(source_length: int = 48, limit: int = 48) -> dict:
    config = Seq2SeqConfig(11, 6, source_length, limit, d_model=16, encoder_layers=1, layers=2, heads=2, bos_id=4)
    return {
        "fixed context": Seq2SeqRNN(11, 6, 8, 12, bos_id=4, seed=0),
        "attention": Seq2SeqRNN(11, 6, 8, 12, bos_id=4, attention=True, seed=1),
        "transformer": Seq2SeqTransformer(config, seed=2),
    }


def small(text: str = "abc fed", target=Target, limit: int = 6, **settings) -> FourModels:
    tokenizer = target("0123", special=["<bos>", "<eos>"])
    return FourModels(models(), SOURCE, tokenizer, text, bos_id=4, eos_id=5, max_new_tokens=limit, **settings)


def said(view: FourModels, page, step: int) -> None:
    """Every lane shows the output of its model, and the strip of this step."""
    lanes = page.locator(".fm-lane:not(.fm-answer)")
    assert lanes.count() == len(view.outputs)
    for n, output in enumerate(view.outputs.values()):
        lane, strings = lanes.nth(n), view.lanes[n]["tokens"]
        assert lane.locator("h4").inner_text() == output.name
        assert lane.locator(".fm-chip .al-token").all_inner_texts() == [
            {" ": "␣"}.get(token, token) for token in strings
        ]
        labels = lane.locator(".fm-chip").evaluate_all("all => all.map(chip => chip.ariaLabel)")
        for label, p, wrong in zip(labels, output.probabilities, output.wrong, strict=True):
            assert f"probability {p:.3f}" in label and ("differs" in label) == wrong
        printed = lane.locator("[data-figure=logprob]").inner_text().replace("−", "-")
        assert float(printed) == pytest.approx(output.logprob, abs=0.006)
        printed = lane.locator("[data-figure=answer]").inner_text().replace("−", "-")
        assert float(printed) == pytest.approx(output.answer_logprob, abs=0.006)
        assert ("✓ right" in lane.inner_text(), "✗ wrong" in lane.inner_text()) == (output.right, not output.right)
        pressed = lane.locator(".fm-chip").evaluate_all("all => all.map(chip => chip.ariaPressed === 'true')")
        assert pressed == [i == step for i in range(len(strings))]
        if output.cross is None:
            assert "fixed context" in lane.locator(".fm-fixed").inner_text() and lane.locator(".fm-source").count() == 0
        elif step < len(strings):
            row = output.cross.double().mean((0, 1))[step]
            heights = lane.locator(".fm-bar i").evaluate_all("all => all.map(bar => parseFloat(bar.style.height) / 22)")
            assert heights == pytest.approx(row.tolist(), abs=1e-4)
            assert int(lane.locator(".fm-source").get_attribute("data-heaviest")) == int(row.argmax())


def test_one_step_moves_all_of_them(saved_page):
    view = small(answer="0123")
    page = saved_page(view)
    said(view, page, 0)
    press(page, "ArrowRight", "ArrowRight", on=slider("step"))
    assert get(page, "step") == 2
    said(view, page, 2)
    press(page, "End")
    last = view._steps() - 1
    assert get(page, "step") == last and page.locator("[aria-label='Step on']").is_disabled()
    said(view, page, last)
    click(page.locator("[aria-label='Step back']"))
    said(view, page, last - 1)
    click(page.locator(".fm-lane:not(.fm-answer)").nth(1).locator(".fm-chip").nth(1))
    said(view, page, 1)


def test_the_page_stays_where_it_is_while_the_step_moves(saved_page):
    page = saved_page(small(answer="0123"))
    height = page.locator(".arlab").bounding_box()["height"]
    for _ in range(5):
        press(page, "ArrowRight", on=slider("step"))
        assert page.locator(".arlab").bounding_box()["height"] == height


def test_a_model_that_has_ended_waits(saved_page):
    view = small(answer="0123")
    lane = view.lanes[1] | {"tokens": ["1", "<eos>"], "p": [0.5, 0.5], "wrong": [True, True]}
    view.lanes = [view.lanes[0], lane, view.lanes[2]]
    view.step = 4
    page = saved_page(view)
    assert page.locator(".fm-detail").nth(1).inner_text() == "step 4: it had ended"
    assert page.locator(".fm-source").first.get_attribute("data-heaviest") == "-1"
    assert page.locator(".fm-lane:not(.fm-answer)").nth(1).locator("[aria-pressed=true]").count() == 0


def test_tokens_are_text(saved_page):
    view = small(answer="3")
    page = saved_page(view)
    assert page.locator(".fm-answer .al-token").all_inner_texts() == [ATTACK, "<eos>"]
    assert page.locator("img").count() == 0


def test_without_an_answer_nothing_is_judged(saved_page):
    page = saved_page(small())
    assert not page.locator(".fm-answer").is_visible()
    text = page.locator(".arlab").inner_text()
    assert "✓" not in text and "✗" not in text and "differs" not in text


@pytest.mark.parametrize("theme", THEMES)
def test_every_text_can_be_read(saved_page, theme):
    assert_readable(saved_page(small(answer="0123", step=2), theme=theme), theme)


def test_the_darker_chip_is_the_more_probable_one(saved_page):
    view = small(answer="0123", target=CharTokenizer)
    page = saved_page(view)
    chips = page.locator("button.fm-chip").evaluate_all(
        "all => all.map(chip => getComputedStyle(chip).backgroundColor.match(/[\\d.]+/g).map(Number))"
    )
    p = [p for output in view.outputs.values() for p in output.probabilities]
    darkness = torch.tensor([-sum(rgb[:3]) for rgb in chips])
    order = torch.tensor(p).argsort()
    assert (darkness[order].diff() >= 0).all() and darkness.unique().numel() > 3


@pytest.mark.parametrize("limit", [6, 40])
def test_nothing_sticks_out_at_600_pixels(saved_page, limit):
    page = saved_page(small("abcdefghij" * 4, answer="0123" * (limit // 4), limit=limit), width=632)
    assert_inside(page, ".fm-lane", ".fm-tokens", ".fm-source", ".fm-step")


CELLS = [
    """
import torch
from arlab.nn.rnn import Seq2SeqRNN
from arlab.text.tokenizers import CharTokenizer
from arlab.views import FourModels
source, target = CharTokenizer("abcdef "), CharTokenizer("0123", special=["<bos>", "<eos>"])
rnn = lambda attention: Seq2SeqRNN(7, 6, 8, 12, bos_id=4, attention=attention, seed=1)
models = {"fixed": rnn(False), "attention": rnn(True)}
""",
    """
view = FourModels(models, source, target, "abc", bos_id=4, eos_id=5, max_new_tokens=6,
                  answer=lambda text: "01" if text == "fade" else None)
view
""",
]


def test_in_jupyterlab_all_models_read_a_new_source(lab_notebook):
    page = lab_notebook(CELLS, theme="JupyterLab Dark")
    page.locator(".arlab .fm-source").wait_for()
    field = page.locator("input[aria-label=Source]")
    enter(field, "fade")
    page.wait_for_function("document.querySelectorAll('.fm-cell').length === 4")
    eventually(page.locator(".fm-answer .al-token").all_inner_texts, ["0", "1", "<eos>"])
    text, tokens = from_kernel(page, "[view.source_text, [lane['tokens'] for lane in view.lanes]]")
    assert text == "fade"
    for n, expected in enumerate(tokens):
        lane = page.locator(".fm-lane:not(.fm-answer)").nth(n)
        eventually(lane.locator(".fm-chip .al-token").all_inner_texts, expected)
    enter(field, "xyz")
    page.locator(".al-banner:not([hidden])").wait_for()
    assert "character 'x' at position 0 is unknown" in page.locator(".al-banner").inner_text()
    assert from_kernel(page, "view.source_text") == "fade"
    in_kernel(page, "view.step = 1")
    page.wait_for_function("document.querySelector('.fm-where').textContent.startsWith('1 of')")
    press(page, "ArrowLeft", on=slider("step"))
    eventually(lambda: from_kernel(page, "view.step"), 0)


class Hebrew(CharTokenizer):
    def token_strings(self) -> list[str]:
        return [{"0": "ש", "1": "ם", "2": "ל"}.get(token, token) for token in super().token_strings()]


def test_letters_from_right_to_left_keep_their_probabilities(saved_page):
    view = small(target=Hebrew)
    page = saved_page(view)
    for step in range(3):
        put(page, step=step)
        for n, lane in enumerate(view.lanes):
            if step < len(lane["tokens"]):
                detail = page.locator(".fm-detail").nth(n)
                assert numbers_follow(detail) == [True] * 3, detail.inner_text()


def test_a_token_that_is_impossible_has_0(saved_page):
    view = small()
    view.lanes = [lane | {"best": [[["1", 1.0], ["0", 0.0], ["2", 1e-9]]] * len(lane["tokens"])} for lane in view.lanes]
    page = saved_page(view)
    assert page.locator(".fm-detail").first.inner_text() == "step 0: “1” 1.0, “0” 0, “2” <.01"


def test_the_step_is_told_to_who_listens(saved_page):
    view = small(answer="0123")
    page = saved_page(view)
    press(page, "ArrowRight", on=slider("step"))
    told = page.get_by_role("status").inner_text()
    assert told.startswith("Step 1. ")
    for name, output in view.outputs.items():
        mine = told.split(f"{name}: ")[1].split(". ")[0]
        if len(output.ids) > 1:
            assert f"{output.probabilities[1]:.2f}" in mine and ("differs" in mine) == output.wrong[1]


def test_key_press_to_paint_within_a_frame(saved_page):
    view = small("abcdefghij", answer="0123" * 6, limit=25)
    assert_paints_in_time(lambda: saved_page(view), slider("step"))
