"""The cost explorer in a real browser: moved by keyboard, its numbers against arlab.nn.costs."""

from __future__ import annotations

import math

import pytest

from arlab.nn import costs
from arlab.nn.decoder import DecoderConfig
from arlab.views.cost_explorer import CostExplorer, line_flops
from tests.browser.hands import (
    ATTACK,
    THEMES,
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
    settle,
    slider,
)

MEMORY, WORK = "canvas[aria-label^='Memory']", "canvas[aria-label^='Arithmetic']"
SIZES = ["model", "time", "rows", "layers", "d_model", "heads", "kv_heads", "dtype", "memory"]


@pytest.fixture
def explorer() -> CostExplorer:
    """A small model, with points on the line of the maps and at a third of the speed of the cached step."""
    config = DecoderConfig.llama(vocab_size=100, context_length=512, d_model=96, layers=3, heads=6, kv_heads=2)
    maps = [(time, costs.attention_weight_bytes(config, 2, time)) for time in (64, 512, 4096)]
    steps = [(time, line_flops(config, "with cache", time) / 3e9) for time in (64, 256, 1024)]
    return CostExplorer(config, rows=2, time=512, measured={"attention maps": maps, ATTACK: [(100, 1e6)]},
                        seconds={"with cache": steps})  # fmt: skip


def state(page) -> dict:
    return dict(zip(SIZES, get(page, *SIZES), strict=True))


def agrees(page, view: CostExplorer) -> dict:
    """Each number in the page against view.figures for the same state."""
    now = state(page)
    view.model = now.pop("model")
    with view.hold_trait_notifications():
        for name, value in now.items():
            setattr(view, name, value)
    figures = view.figures
    for line in CostExplorer.LINES:
        cell = page.locator(f"[data-line='{line}']")
        assert float(cell.get_attribute("data-value")) == pytest.approx(figures[line], rel=1e-9), line
        number, unit = cell.inner_text().split()
        scale = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
        of_1024 = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50, "B": 1, "FLOP": 1}
        assert float(number) * (of_1024.get(unit) or scale[unit[0]]) == pytest.approx(figures[line], rel=0.006), line
    told = page.locator(".ce-said p").last.evaluate("p => ({ ...p.dataset })")
    for name, value in figures.items():
        if name not in CostExplorer.LINES:
            key = "".join(word if i == 0 else word.capitalize() for i, word in enumerate(name.split()))
            assert float(told[key]) == pytest.approx(value, rel=1e-9), name
    parameters = float(page.locator(".ce-summary").get_attribute("data-parameters"))
    assert parameters == sum(costs.parameters(view.config).values())
    return figures


def test_every_slider_by_keyboard(explorer, saved_page):
    page = saved_page(explorer)
    agrees(page, explorer)
    for trait, keys in [("time", ["ArrowRight"] * 5), ("rows", ["ArrowRight"] * 2), ("layers", ["ArrowRight"] * 3)]:
        before = get(page, trait)
        press(page, *keys, on=slider(trait))
        assert get(page, trait) > before
        agrees(page, explorer)
    press(page, "Home", on=slider("memory"))
    click(page.get_by_role("button", name="bfloat16"))
    figures = agrees(page, explorer)
    assert get(page, "memory") == 0.5 and figures["rows with maps"] < figures["rows with cache"]
    press(page, "End", on=slider("time"))
    assert get(page, "time") == 32_768
    agrees(page, explorer)


def test_in_the_charts_by_keyboard_and_by_dragging(explorer, saved_page):
    page = saved_page(explorer)
    for chart in (MEMORY, WORK):
        press(page, "Home", on=chart)
        assert get(page, "time") == 8
        press(page, *["ArrowRight"] * 4, on=chart)
        assert get(page, "time") == 16
        press(page, "ArrowLeft", "End", "ArrowRight", on=chart)
        assert get(page, "time") == 32_768
        box = page.locator(chart).bounding_box()
        page.mouse.move(box["x"] + 70, box["y"] + 100)
        page.mouse.down()
        middle = box["x"] + 66 + (box["width"] - 76) / 2
        page.mouse.move(middle, box["y"] + 120, steps=3)
        page.mouse.up()
        settle(page)
        assert get(page, "time") == pytest.approx(512, abs=8)
        agrees(page, explorer)


def test_sizes_always_fit_each_other(explorer, saved_page):
    """A key press on heads goes to the next divisor of d_model, and never gets stuck; KV heads follow."""
    page = saved_page(explorer)
    seen = [6]
    for key in ["ArrowRight"] * 6 + ["ArrowLeft"] * 12:
        press(page, key, on=slider("heads"))
        now = state(page)
        agrees(page, explorer)  # setting these in Python would refuse sizes that do not fit
        if now["heads"] not in (1, 48):  # the ends; rotary needs an even width, so 96 is none
            assert now["heads"] != seen[-1], seen
        seen.append(now["heads"])
    assert {1, 2, 3, 4, 6, 8, 12, 16, 24, 48} == set(seen)
    press(page, "ArrowRight", "ArrowRight", "ArrowRight", on=slider("d_model"))
    agrees(page, explorer)
    press(page, "End", on=slider("kv_heads"))
    assert get(page, "kv_heads") == 0
    assert page.locator(".al-slider[data-trait=kv_heads] .al-value").input_value() == "all"
    field = page.locator(".al-slider[data-trait=heads] .al-value")
    enter(field, "7")  # refused
    assert field.get_attribute("aria-invalid") == "true" and get(page, "heads") != 7


def test_grouped_keys_make_the_cache_smaller(explorer, saved_page):
    page = saved_page(explorer)
    click(page.get_by_role("button", name="Llama 2 7B"))
    whole = agrees(page, explorer)["KV cache"]
    press(page, "ArrowLeft", on=slider("kv_heads"))
    assert get(page, "kv_heads") == 16
    assert agrees(page, explorer)["KV cache"] == whole / 2
    press(page, "ArrowRight", on=slider("kv_heads"))
    assert get(page, "kv_heads") == 0


def test_models_by_name(explorer, saved_page):
    page = saved_page(explorer)
    for name in ("GPT-3", "SmolLM2-135M", "this model", "GPT-2 XL"):
        click(page.get_by_role("button", name=name, exact=True))
        agrees(page, explorer)
        assert page.locator(".ce-preset[aria-pressed=true]").all_inner_texts() == [name]
        assert page.locator(".ce-summary").inner_text().startswith(f"{name}:")
    press(page, "ArrowLeft", on=slider("layers"))
    assert page.locator(".ce-preset[aria-pressed=true]").count() == 0
    assert page.locator(".ce-summary").inner_text().startswith("GPT-2 XL, changed:")
    back = page.locator(".al-slider[data-trait=layers] .al-reset")
    assert back.get_attribute("aria-label") == "Layers: back to 48"  # not to those of the model the view began with
    click(back)
    assert get(page, "layers") == 48 and back.is_disabled()
    press(page, "Home", on=slider("layers"))
    page.locator(slider("layers")).dblclick()
    settle(page)
    assert get(page, "layers") == 48


def test_a_model_with_as_many_layers_is_a_place_to_go_back_to(saved_page):
    """The slider's own value does not change with the model here: only what it goes back to."""
    page = saved_page(CostExplorer("GPT-2"))
    put(page, layers=32)
    back = page.locator(".al-slider[data-trait=layers] .al-reset")
    assert back.get_attribute("title") == "Back to 12" and back.is_enabled()
    click(page.get_by_role("button", name="Llama 2 7B"))
    assert back.get_attribute("title") == "Back to 32" and back.is_disabled()


def test_what_was_measured_lies_where_it_was_measured(explorer, saved_page):
    page = saved_page(explorer)
    assert explorer.rate == pytest.approx(3, rel=0.01)
    legends = page.locator(".ce-points").all_inner_texts()
    assert ATTACK in legends[0] and "measured: with cache" in legends[1] and page.locator(".arlab img").count() == 0
    tip = page.locator(".al-tip")

    def hover(chart: str, time: int) -> str:
        """The tip over the point at this T: found by moving down its column."""
        box = page.locator(chart).bounding_box()
        x = box["x"] + 66 + math.log(time / 8) / math.log(4096) * (box["width"] - 76)
        for y in range(20, 260, 8):
            page.mouse.move(x, box["y"] + y)
            if "measured" in tip.inner_text():
                return tip.inner_text()
        raise AssertionError(f"no point at T = {time}")

    assert hover(MEMORY, 4096) == "measured: attention maps\nT = 4,096: 2.25 GiB, 1.00 times the line"
    assert ATTACK in hover(MEMORY, 100)
    assert "1.00 times the line" in hover(WORK, 256)
    press(page, "Home", on=slider("rate"))  # a slower machine: the points fall below their line
    assert "0.03 times the line" in hover(WORK, 256)
    colours = """chart => { const c = document.querySelector(chart);
        const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
        const faint = getComputedStyle(document.querySelector(".arlab")).getPropertyValue("--al-faint").trim();
        const [r, g, b] = [1, 3, 5].map((at) => parseInt(faint.slice(at, at + 2), 16)); let n = 0;
        for (let i = 0; i < d.length; i += 4) if (d[i] === r && d[i + 1] === g && d[i + 2] === b) n++;
        return n; }"""
    assert page.evaluate(colours, MEMORY) < 10
    assert "(this model)" in legends[0]
    click(page.get_by_role("button", name="GPT-2", exact=True))  # the points are another model's
    assert hover(MEMORY, 4096) == "measured: attention maps\nT = 4,096: 2.25 GiB"
    assert page.evaluate(colours, MEMORY) > 40
    click(page.get_by_role("button", name="this model"))
    assert "1.00 times the line" in hover(MEMORY, 4096)
    press(page, "ArrowRight", on=slider("layers"))  # its sizes are others
    assert "times the line" not in hover(MEMORY, 4096)
    click(page.locator(".al-slider[data-trait=layers] .al-reset"))
    assert "1.00 times the line" in hover(MEMORY, 4096)
    assert page.locator(".arlab img").count() == 0


def test_nothing_jumps(explorer, saved_page):
    page = saved_page(explorer)
    fixed = (".arlab", ".al-slider", ".al-canvas-box", ".ce-table", ".ce-summary", ".ce-said p")
    before = boxes(page, *fixed)
    for trait in ("time", "rows", "layers", "memory"):
        for key in ("Home", "End"):
            press(page, key, on=slider(trait))
            assert boxes(page, *fixed) == before, (trait, key)
    for name in ("GPT-3", "Llama 3 8B"):
        click(page.get_by_role("button", name=name))
        assert boxes(page, *fixed) == before, name


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", [960, 420])
def test_readable(explorer, saved_page, theme, width):
    page = saved_page(explorer, theme, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert_readable(page, theme)


SETUP = """
from arlab.views import CostExplorer
view = CostExplorer("GPT-2", time=256)
"""


@pytest.mark.parametrize("theme", ["Dark", "Light"])
def test_in_jupyterlab(lab_notebook, theme):
    page = lab_notebook([SETUP, "view"], theme=f"JupyterLab {theme}")
    page.wait_for_selector(f".arlab[data-theme={theme.lower()}]")
    cell = page.locator("[data-line='KV cache']")

    def same() -> list:
        """Model, heads, KV heads and T in the kernel; and whether the page shows the cache that it computes."""
        value, *sizes = from_kernel(
            page, "[view.figures['KV cache'], view.model, view.heads, view.kv_heads, view.time]"
        )
        return [*sizes, float(cell.get_attribute("data-value")) == pytest.approx(value)]

    eventually(same, ["GPT-2", 12, 0, 256, True])
    press(page, *["ArrowRight"] * 4, on=MEMORY)
    press(page, "ArrowRight", on=slider("heads"))
    eventually(same, ["GPT-2", 16, 0, 512, True])
    click(page.get_by_role("button", name="SmolLM2-135M"))
    eventually(same, ["SmolLM2-135M", 9, 3, 512, True])
    press(page, "ArrowRight", on=slider("d_model"))  # 768: nine heads no longer fit; kernel and page agree on what does
    eventually(lambda: from_kernel(page, "view.d_model"), 768)
    _, heads, kv_heads, _, _ = eventually(same, lambda found: found[-1])
    assert 768 % heads == 0 and heads % kv_heads == 0
    in_kernel(page, "view.model = 'Llama 3 8B'; view.time = 8192")
    eventually(same, ["Llama 3 8B", 32, 8, 8192, True])
    assert page.locator(".ce-preset[aria-pressed=true]").all_inner_texts() == ["Llama 3 8B"]
    assert_readable(page, theme.lower())
