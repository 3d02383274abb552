"""The position explorer in a real browser: moved by keyboard, its numbers against arlab.nn.positions."""

from __future__ import annotations

import pytest
import torch

from arlab.views.position_explorer import PositionExplorer
from tests.browser.hands import (
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
    settle,
    slider,
)

LANES = ("Binary digits", "The vectors", "The chosen pair")


@pytest.fixture
def explorer() -> PositionExplorer:
    learned = torch.randn(40, 16, generator=torch.Generator().manual_seed(1))
    return PositionExplorer(16, 48, learned=learned, position=12, other=30, pair=3)


def lane(name: str) -> str:
    return f"canvas[aria-label^='{name}']"


def state(page) -> dict:
    names = ["scheme", "position", "other", "pair", "base", "axis"]
    return dict(zip(names, get(page, *names), strict=True))


def agrees(page, view: PositionExplorer) -> None:
    """What is printed against what the library gives for the same state."""
    for name, value in state(page).items():
        setattr(view, name, value)
    value = lambda selector: float(page.locator(selector).get_attribute("data-value"))  # noqa: E731
    for feature in page.locator(".pe-values b[data-feature]").all():
        column = int(feature.get_attribute("data-feature"))
        expected = view.table[view.position, column].item()
        assert float(feature.get_attribute("data-value")) == pytest.approx(expected, abs=1e-5)
        assert float(feature.inner_text().replace("−", "-")) == pytest.approx(expected, abs=6e-5)
    products = view.products
    assert value("[data-figure=product]") == pytest.approx(products[view.other].item(), abs=1e-3)
    assert value("[data-figure=self]") == pytest.approx(products[view.position].item(), abs=1e-3)
    here, there = view.position, view.other
    view.position = there
    others, known = view.products, 40 if view.scheme == "learned" else 48
    view.position = here
    gaps = [abs(products[here + n] - others[there + n]) for n in range(-min(here, there), known - max(here, there))]
    assert value("[data-figure=spread]") == pytest.approx(max(gaps).item(), abs=1e-3)
    if view.scheme != "learned":
        shown = float(page.locator(lane("The chosen pair")).get_attribute("data-wavelength"))
        assert shown == pytest.approx(view.wavelength, rel=1e-5)


def test_sliders_and_drawings_by_keyboard(explorer, saved_page):
    page = saved_page(explorer)
    agrees(page, explorer)
    press(page, *["ArrowRight"] * 5, on=slider("position"))
    press(page, *["ArrowLeft"] * 7, on=slider("base"))
    press(page, "ArrowRight", on=slider("pair"))
    assert get(page, "position", "pair") == [17, 4] and get(page, "base") < 10_000
    agrees(page, explorer)
    for name in LANES:  # left and right: positions; up and down: pairs
        position, pair = get(page, "position", "pair")
        press(page, "ArrowRight", "ArrowRight", "ArrowUp", on=lane(name))
        assert get(page, "position", "pair") == [position + 2, pair - 1]
    press(page, "ArrowUp", "ArrowRight", on=lane("Dot products"))
    assert get(page, "position", "other") == [22, 31]
    agrees(page, explorer)
    assert page.locator(".pe-binary").all_inner_texts() == ["010110", "011111"]
    press(page, "Home", "ArrowLeft", on=lane("Binary digits"))  # the ends hold
    assert get(page, "position") == 0
    press(page, "End", "ArrowRight", on=lane("Binary digits"))
    assert get(page, "position") == 47


def test_all_three_schemes(explorer, saved_page):
    page = saved_page(explorer)
    for scheme in ("sinusoidal", "rotary", "learned"):
        click(page.get_by_role("button", name=scheme, exact=True))
        agrees(page, explorer)
        spread = float(page.locator("[data-figure=spread]").inner_text())
        assert (spread > 1) if scheme == "learned" else (spread == 0)
    verdict = page.locator(".pe-verdict")
    assert "Beyond position 39 there is no row" in verdict.inner_text()
    press(page, "End", on=slider("position"))
    assert page.locator("[data-figure=product]").inner_text() == "none"
    assert page.locator(".pe-values b").all_inner_texts() == ["none", "none"]
    assert "The table ends at position 39: for m = 47" in verdict.inner_text()
    click(page.get_by_role("button", name="rotary", exact=True))  # rotations know no end
    agrees(page, explorer)


def test_the_drawings_show_the_numbers(explorer, saved_page):
    """Two columns of the counter, and two cells of the table, read back as colours."""
    page = saved_page(explorer)
    colour = """([name, x, y]) => {
        const canvas = document.querySelector(`canvas[aria-label^='${name}']`), r = window.devicePixelRatio;
        const column = 62 + (x + 0.5) * (canvas.clientWidth - 68) / 48;
        return [...canvas.getContext("2d").getImageData(column * r, y * r, 1, 1).data.slice(0, 3)];
    }"""
    filled = {tuple(page.evaluate(colour, ["Binary digits", m, 14 * b + 7])): (m >> b) & 1 for m, b in [(1, 0), (4, 0)]}
    assert len(filled) == 2
    for m in (3, 5, 21, 46):
        for b in range(6):
            assert filled[tuple(page.evaluate(colour, ["Binary digits", m, 14 * b + 7]))] == (m >> b) & 1, (m, b)
    # blue is negative, orange positive: feature 0 is sin(m), feature 1 cos(m)
    for m in (2, 4, 8, 20):
        for feature in (0, 1):
            red, _, blue = page.evaluate(colour, ["The vectors", m, 1 + 3 * feature + 1.5])
            value = explorer.table[m, feature].item()
            assert abs(value) < 0.1 or (red > blue) == (value > 0), (m, feature, value)


def test_pointing_and_dragging(explorer, saved_page):
    page = saved_page(explorer)
    box = page.locator(lane("Binary digits")).bounding_box()
    x = lambda m: box["x"] + 62 + (m + 0.5) * (box["width"] - 68) / 48  # noqa: E731
    page.mouse.move(x(5), box["y"] + 20)
    assert page.locator(".al-tip").inner_text() == "position 5 = 000101₂"
    page.mouse.down()
    page.mouse.move(x(41), box["y"] + 20, steps=4)
    page.mouse.up()
    settle(page)
    assert get(page, "position") == 41
    page.locator(lane("Dot products")).click(position={"x": 40, "y": 40})
    settle(page)
    assert get(page, "position", "other") == [7, 7]  # on the diagonal
    assert "Choose two different positions" in page.locator(".pe-verdict").inner_text()


def test_each_pair_half_as_fast(explorer, saved_page):
    page = saved_page(explorer)
    button = page.get_by_role("button", name="Halve the speed")
    click(button)
    assert get(page, "base") == 2**8
    waves = []
    for _ in range(3):
        waves.append(float(page.locator(lane("The chosen pair")).get_attribute("data-wavelength")))
        press(page, "ArrowRight", on=slider("pair"))
    assert [b / a for a, b in zip(waves, waves[1:], strict=False)] == pytest.approx([2, 2])
    click(page.get_by_role("button", name="learned", exact=True))
    assert button.is_disabled()
    page.locator(".al-slider[data-trait=base] .al-reset").click()
    assert get(page, "base") == 10_000
    field = page.locator(".al-slider[data-trait=base] .al-value")
    enter(field, "1")  # refused
    assert get(page, "base") == 10_000 and field.get_attribute("aria-invalid") == "true"


def test_nothing_jumps(explorer, saved_page):
    page = saved_page(explorer)
    fixed = (".arlab", ".al-slider", ".al-canvas-box", ".pe-title", ".pe-values", ".al-figure", ".pe-verdict")
    before = boxes(page, *fixed)
    for scheme in ("learned", "rotary", "sinusoidal"):
        click(page.get_by_role("button", name=scheme, exact=True))
        press(page, "End", on=slider("position"))
        press(page, "End", on=slider("pair"))
        press(page, "End", on=slider("base"))
        assert boxes(page, *fixed) == before, scheme


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", [960, 420])
def test_readable(explorer, saved_page, theme, width):
    page = saved_page(explorer, theme, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for scheme in ("learned", "rotary"):
        click(page.get_by_role("button", name=scheme, exact=True))
        assert_readable(page, theme)


def test_the_largest_view_still_moves(saved_page):
    view = PositionExplorer(512, 512, learned=torch.ones(512, 512))
    page = saved_page(view)
    press(page, "ArrowRight", on=slider("position"))
    press(page, "ArrowRight", on=slider("base"))
    assert get(page, "position", "base") == [154, 15_000]


SETUP = """
import torch
from arlab.views import PositionExplorer
view = PositionExplorer(16, 32, learned=torch.randn(24, 16, generator=torch.Generator().manual_seed(0)), position=4)
"""


@pytest.mark.parametrize("theme", ["Dark", "Light"])
def test_in_jupyterlab(lab_notebook, theme):
    page = lab_notebook([SETUP, "view"], theme=f"JupyterLab {theme}")
    page.wait_for_selector(f".arlab[data-theme={theme.lower()}]")
    product = page.locator("[data-figure=product]")

    def same_product() -> None:
        expected = in_kernel(page, "print(f'{view.products[view.other]:.3f}')")
        eventually(lambda: product.inner_text().replace("−", "-"), expected)

    press(page, "ArrowRight", "ArrowRight", "ArrowDown", on=lane("Binary digits"))
    eventually(lambda: from_kernel(page, "[view.position, view.pair]"), [6, 5])
    same_product()
    in_kernel(page, "view.scheme = 'learned'; view.other = 30")
    eventually(product.inner_text, "none")
    in_kernel(page, "view.scheme = 'rotary'; view.base = 100.0")
    same_product()
    assert_readable(page, theme.lower())
