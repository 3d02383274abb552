"""The pipeline view in a real browser: each panel's numbers against arlab.decoding.filters, in every order."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch

from arlab.decoding.filters import Temperature, TopK, TopP
from arlab.views import Pipeline

VOCABULARY = 49_152
ATTACK = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(VOCABULARY, generator=generator) * 1.5
    logits[:30] += torch.linspace(12, 3, 30)
    strings = [f" token{i}" for i in range(VOCABULARY)]
    strings[int(logits.argmax())] = ATTACK
    return Pipeline.from_logits(logits, strings, temperature=0.8, top_k=12, top_p=0.9)


def settled(page) -> list[dict]:
    page.wait_for_timeout(300)
    return page.evaluate("arlabModel.get('page_figures').stages")


def check(stages: list[dict], logits: torch.Tensor, order, values: dict) -> None:
    """Survivors, mass, entropy and the head's probabilities of every stage, from the library's filters."""
    make = {"temperature": Temperature, "top_k": TopK, "top_p": TopP}
    head = logits.argsort(descending=True, stable=True)[:14]
    before = logits.double().softmax(-1)
    for stage, name in zip(stages, ["raw", *order], strict=True):
        assert stage["stage"] == name
        if name != "raw":
            logits = make[name](values[name])(logits)
        p, kept = logits.double().softmax(-1), logits.isfinite()
        assert stage["kept"] == int(kept.sum())
        torch.testing.assert_close(torch.tensor(stage["head"]).double(), p[head], rtol=1e-5, atol=1e-8)
        if name in ("top_k", "top_p"):
            assert stage["mass"] == pytest.approx(float(before[kept].sum()), abs=1e-6)
        assert stage["entropy_bits"] == pytest.approx(float(torch.special.entr(p).sum()) / math.log(2), abs=1e-4)
        before = p


def test_every_order_gives_the_filters_numbers(pipeline, saved_page):
    page = saved_page(pipeline)
    values = {"temperature": 0.8, "top_k": 12, "top_p": 0.9}
    for order in itertools.permutations(["temperature", "top_k", "top_p"]):
        page.evaluate("order => arlabModel.set('order', order)", list(order))
        check(settled(page), pipeline.logits, order, values)
        titles = page.locator(".pl-panel h4").all_inner_texts()
        names = {"temperature": "Temperature", "top_k": "Top-k", "top_p": "Top-p"}
        assert titles == ["Model", *[names[name] for name in order], "Draw"]


def test_sliders_and_arrows_by_keyboard(pipeline, saved_page):
    page = saved_page(pipeline)
    for trait, key, times in [("temperature", "ArrowRight", 4), ("top_k", "ArrowLeft", 3), ("top_p", "ArrowLeft", 15)]:
        page.focus(f"input[type=range][data-trait={trait}]")
        for _ in range(times):
            page.keyboard.press(key)
    values = {"temperature": 1.0, "top_k": 9, "top_p": 0.75}
    assert {name: page.evaluate(f"arlabModel.get('{name}')") for name in values} == values
    check(settled(page), pipeline.logits, ("temperature", "top_k", "top_p"), values)
    page.get_by_role("button", name="Move Top-p earlier").focus()
    page.keyboard.press("Enter")
    check(settled(page), pipeline.logits, ("temperature", "top_p", "top_k"), values)
    left = page.locator(".pl-kept b").all_inner_texts()
    assert left[-1] == str(settled(page)[-1]["kept"]) and left[0] == "49,152"
    assert "In the order temperature, top-k, top-p" in page.locator(".pl-compare").inner_text()
    page.get_by_role("button", name="Draw a hundred").click()
    settled(page)
    counts = page.evaluate("arlabModel.get('drawn').counts")
    assert sum(counts.values()) == 100 and len(counts) <= settled(page)[-1]["kept"]


def test_tokens_are_text(pipeline, saved_page):
    page = saved_page(pipeline)
    assert page.locator(".pl-name").first.inner_text() == ATTACK
    assert page.locator(".arlab img").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_readable_in_both_themes_and_narrow(pipeline, saved_page, contrasts, theme):
    page = saved_page(pipeline, theme)
    page.get_by_role("button", name="Draw one").click()
    settled(page)
    ratio, text = contrasts(page)[0]
    assert ratio >= 4.5, f"{text!r} has a contrast of {ratio:.2f}"
    drawn = """() => [...document.querySelectorAll('.pl-panel canvas')].map((c) => {
        const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);
        return data.filter((value, i) => i % 4 === 3 && value > 0).length;
    })"""
    assert min(page.evaluate(drawn)) > 500  # every panel has something in it
    page.set_viewport_size({"width": 600, "height": 900})
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 600


def test_nothing_jumps_while_a_slider_moves(pipeline, saved_page):
    page = saved_page(pipeline)
    boxes = """() => ['.arlab', '.al-slider', '.pl-panel', '.pl-name', '.al-button', '.al-canvas-box']
        .flatMap((name) => [...document.querySelectorAll(name)])
        .map((e) => { const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; })"""
    before = page.evaluate(boxes)
    for trait, value in [("temperature", 0), ("temperature", 100), ("top_k", 1), ("top_k", 0), ("top_p", 0.01)]:
        page.evaluate(f"arlabModel.set('{trait}', {value})")
        settled(page)
        assert page.evaluate(boxes) == before, (trait, value)


def test_in_jupyterlab_state_goes_both_ways(lab_notebook, in_kernel):
    cells = [
        "from arlab.views import Pipeline\n"
        "view = Pipeline.from_logits([2.0, 1.0, 1.0, 0.5, -1.0], list('abcde'), top_k=3, top_p=0.8)",
        "view",
    ]
    page = lab_notebook(cells)
    page.wait_for_function("() => document.querySelectorAll('.pl-kept b')[4]?.textContent")
    page.get_by_role("button", name="Move Top-k later").click()
    page.focus("input[type=range][data-trait=temperature]")
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(400)
    code = "import json; print(json.dumps([view.order, view.temperature, view.stages(), view.page_figures['stages']]))"
    order, t, computed, shown = json.loads(in_kernel(page, code))
    assert order == ["temperature", "top_p", "top_k"] and t == 0.95
    for a, b in zip(computed, shown, strict=True):
        assert a["kept"] == b["kept"] and a["mass"] == pytest.approx(b["mass"], abs=1e-6)
        assert a["entropy_bits"] == pytest.approx(b["entropy_bits"], abs=1e-5)
    in_kernel(page, "view.order = ['top_p', 'top_k', 'temperature']")
    page.wait_for_function("() => document.querySelectorAll('.pl-panel h4')[1].textContent === 'Top-p'")
