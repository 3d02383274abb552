"""Models side by side in a real browser: one step for all, what each cell says, both themes, and JupyterLab."""

from __future__ import annotations

import json

import pytest
import torch

from arlab.nn.rnn import Seq2SeqRNN
from arlab.nn.seq2seq import Seq2SeqConfig, Seq2SeqTransformer
from arlab.text.tokenizers import CharTokenizer
from arlab.views import FourModels

SCRIPT = "<img src=x onerror=alert(1)>"
SOURCE = CharTokenizer("abcdefghij ")


class Target(CharTokenizer):
    """Characters, one of which is shown as an attack."""

    def token_strings(self) -> list[str]:
        return [SCRIPT if token == "3" else token for token in super().token_strings()]


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


def settle(page) -> None:
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def press(page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)
    settle(page)


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
    page.locator("input[type=range]").focus()
    press(page, "ArrowRight", "ArrowRight")
    assert page.evaluate("arlabModel.get('step')") == 2
    said(view, page, 2)
    press(page, "End")
    last = view._steps() - 1
    assert page.evaluate("arlabModel.get('step')") == last and page.locator("[aria-label='Step on']").is_disabled()
    said(view, page, last)
    page.locator("[aria-label='Step back']").click()
    settle(page)
    said(view, page, last - 1)
    page.locator(".fm-lane:not(.fm-answer)").nth(1).locator(".fm-chip").nth(1).click()
    settle(page)
    said(view, page, 1)


def test_the_page_stays_where_it_is_while_the_step_moves(saved_page):
    page = saved_page(small(answer="0123"))
    height = page.locator(".arlab").bounding_box()["height"]
    page.locator("input[type=range]").focus()
    for _ in range(5):
        press(page, "ArrowRight")
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
    assert page.locator(".fm-answer .al-token").all_inner_texts() == [SCRIPT, "<eos>"]
    assert page.locator("img").count() == 0


def test_without_an_answer_nothing_is_judged(saved_page):
    page = saved_page(small())
    assert not page.locator(".fm-answer").is_visible()
    text = page.locator(".arlab").inner_text()
    assert "✓" not in text and "✗" not in text and "differs" not in text


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read(saved_page, contrasts, theme):
    ratio, text = contrasts(saved_page(small(answer="0123", step=2), theme=theme))[0]
    assert ratio >= 4.5, f"{text!r} has contrast {ratio:.2f}"


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
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    root = page.locator(".arlab").bounding_box()
    for box in page.locator(".fm-lane, .fm-tokens, .fm-source, .fm-step").all():
        inner = box.bounding_box()
        assert inner["x"] >= root["x"] and inner["x"] + inner["width"] <= root["x"] + root["width"]


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


def test_in_jupyterlab_all_models_read_a_new_source(lab_notebook, in_kernel):
    page = lab_notebook(CELLS, theme="JupyterLab Dark")
    page.locator(".arlab .fm-source").wait_for()
    field = page.locator("input[aria-label=Source]")
    field.fill("fade")
    press(page, "Enter")
    page.wait_for_function("document.querySelectorAll('.fm-cell').length === 4")
    assert page.locator(".fm-answer .al-token").all_inner_texts() == ["0", "1", "<eos>"]
    code = "import json; print(json.dumps([view.source_text, [lane['tokens'] for lane in view.lanes]]))"
    text, tokens = json.loads(in_kernel(page, code))
    assert text == "fade"
    for n, expected in enumerate(tokens):
        lane = page.locator(".fm-lane:not(.fm-answer)").nth(n)
        assert lane.locator(".fm-chip .al-token").all_inner_texts() == expected
    field.fill("xyz")
    press(page, "Enter")
    page.locator(".al-banner:not([hidden])").wait_for()
    assert "character 'x' at position 0 is unknown" in page.locator(".al-banner").inner_text()
    assert in_kernel(page, "print(view.source_text)") == "fade"
    in_kernel(page, "view.step = 1")
    page.wait_for_function("document.querySelector('.fm-where').textContent.startsWith('1 of')")
    page.locator("input[type=range]").focus()
    press(page, "ArrowLeft")
    page.wait_for_timeout(300)
    assert in_kernel(page, "print(view.step)") == "0"
