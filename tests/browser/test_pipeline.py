"""The pipeline view in a real browser: each panel's numbers against arlab.decoding.filters, in every order."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from arlab.decoding.filters import Temperature, TopK, TopP
from arlab.views import Pipeline
from tests.browser.hands import (
    ATTACK,
    THEMES,
    assert_readable,
    boxes,
    click,
    eventually,
    from_kernel,
    get,
    in_kernel,
    press,
    put,
    reported,
    settle,
    slider,
)

VOCABULARY = 49_152


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(VOCABULARY, generator=generator) * 1.5
    logits[:30] += torch.linspace(12, 3, 30)
    strings = [f" token{i}" for i in range(VOCABULARY)]
    strings[int(logits.argmax())] = ATTACK
    return Pipeline.from_logits(logits, strings, temperature=0.8, top_k=12, top_p=0.9)


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
        put(page, order=list(order))
        check(reported(page)["stages"], pipeline.logits, order, values)
        titles = page.locator(".pl-panel h4").all_inner_texts()
        names = {"temperature": "Temperature", "top_k": "Top-k", "top_p": "Top-p"}
        assert titles == ["Model", *[names[name] for name in order], "Draw"]


def test_sliders_and_arrows_by_keyboard(pipeline, saved_page):
    page = saved_page(pipeline)
    for trait, key, times in [("temperature", "ArrowRight", 4), ("top_k", "ArrowLeft", 3), ("top_p", "ArrowLeft", 15)]:
        press(page, *[key] * times, on=slider(trait))
    values = {"temperature": 1.0, "top_k": 9, "top_p": 0.75}
    assert get(page, *values) == list(values.values())
    check(reported(page)["stages"], pipeline.logits, ("temperature", "top_k", "top_p"), values)
    press(page, "Enter", on=page.get_by_role("button", name="Move Top-p earlier"))
    stages = reported(page)["stages"]
    check(stages, pipeline.logits, ("temperature", "top_p", "top_k"), values)
    left = page.locator(".pl-kept b").all_inner_texts()
    assert left[-1] == str(stages[-1]["kept"]) and left[0] == "49,152"
    assert "In the order temperature, top-k, top-p" in page.locator(".pl-compare").inner_text()
    click(page.get_by_role("button", name="Draw a hundred"))
    counts = reported(page, "drawn")["counts"]
    assert sum(counts.values()) == 100 and len(counts) <= stages[-1]["kept"]


def test_tokens_are_text(pipeline, saved_page):
    page = saved_page(pipeline)
    assert page.locator(".pl-name").first.inner_text() == ATTACK
    assert page.locator(".arlab img").count() == 0


@pytest.mark.parametrize("theme", THEMES)
def test_readable_in_both_themes_and_narrow(pipeline, saved_page, theme):
    page = saved_page(pipeline, theme)
    click(page.get_by_role("button", name="Draw one"))
    assert_readable(page, theme)
    drawn = """() => [...document.querySelectorAll('.pl-panel canvas')].map((c) => {
        const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);
        return data.filter((value, i) => i % 4 === 3 && value > 0).length;
    })"""
    assert min(page.evaluate(drawn)) > 500  # every panel has something in it
    page.set_viewport_size({"width": 600, "height": 900})
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 600


def test_nothing_jumps_while_a_slider_moves(pipeline, saved_page):
    page = saved_page(pipeline)
    fixed = (".arlab", ".al-slider", ".pl-panel", ".pl-name", ".al-button", ".al-canvas-box")
    before = boxes(page, *fixed)
    for trait, value in [("temperature", 0), ("temperature", 100), ("top_k", 1), ("top_k", 0), ("top_p", 0.01)]:
        put(page, **{trait: value})
        assert boxes(page, *fixed) == before, (trait, value)


def test_in_jupyterlab_state_goes_both_ways(lab_notebook):
    cells = [
        "from arlab.views import Pipeline\n"
        "view = Pipeline.from_logits([2.0, 1.0, 1.0, 0.5, -1.0], list('abcde'), top_k=3, top_p=0.8)",
        "view",
    ]
    page = lab_notebook(cells)
    page.wait_for_function("() => document.querySelectorAll('.pl-kept b')[4]?.textContent")
    page.get_by_role("button", name="Move Top-k later").click()
    press(page, "ArrowLeft", on=slider("temperature"))

    def here() -> list:
        """Order, temperature, and whether the page has reported for every stage what the library computes."""
        stages = "view.stages(), view.page_figures.get('stages', [])"
        order, t, ours, theirs = from_kernel(page, f"[view.order, view.temperature, {stages}]")
        same = [
            [stage[name] for stage in theirs] == pytest.approx([stage[name] for stage in ours], abs=within)
            for name, within in [("kept", 0), ("mass", 1e-6), ("entropy_bits", 1e-5)]
        ]
        return [order, t, *same]

    eventually(here, [["temperature", "top_p", "top_k"], 0.95, True, True, True])
    in_kernel(page, "view.order = ['top_p', 'top_k', 'temperature']")
    page.wait_for_function("() => document.querySelectorAll('.pl-panel h4')[1].textContent === 'Top-p'")
