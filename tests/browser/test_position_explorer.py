"""The position explorer in a real browser: moved by keyboard, its numbers against arlab.nn.positions."""

from __future__ import annotations

import pytest
import torch

from arlab.views.position_explorer import PositionExplorer

LANES = ("Binary digits", "The vectors", "The chosen pair")


@pytest.fixture
def explorer() -> PositionExplorer:
    learned = torch.randn(40, 16, generator=torch.Generator().manual_seed(1))
    return PositionExplorer(16, 48, learned=learned, position=12, other=30, pair=3)


def press(page, target: str, *keys: str) -> None:
    page.locator(target).focus()
    for key in keys:
        page.keyboard.press(key)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def slider(trait: str) -> str:
    return f"input[type=range][data-trait={trait}]"


def lane(name: str) -> str:
    return f"canvas[aria-label^='{name}']"


def state(page) -> dict:
    names = ["scheme", "position", "other", "pair", "base", "axis"]
    return page.evaluate("names => Object.fromEntries(names.map(name => [name, arlabModel.get(name)]))", names)


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
    press(page, slider("position"), *["ArrowRight"] * 5)
    press(page, slider("base"), *["ArrowLeft"] * 7)
    press(page, slider("pair"), "ArrowRight")
    assert (state(page)["position"], state(page)["pair"]) == (17, 4) and state(page)["base"] < 10_000
    agrees(page, explorer)
    for name in LANES:  # left and right: positions; up and down: pairs
        before = state(page)
        press(page, lane(name), "ArrowRight", "ArrowRight", "ArrowUp")
        after = state(page)
        assert (after["position"], after["pair"]) == (before["position"] + 2, before["pair"] - 1)
    press(page, lane("Dot products"), "ArrowUp", "ArrowRight")
    assert (state(page)["position"], state(page)["other"]) == (22, 31)
    agrees(page, explorer)
    assert page.locator(".pe-binary").all_inner_texts() == ["010110", "011111"]
    press(page, lane("Binary digits"), "Home", "ArrowLeft")  # the ends hold
    assert state(page)["position"] == 0
    press(page, lane("Binary digits"), "End", "ArrowRight")
    assert state(page)["position"] == 47


def test_all_three_schemes(explorer, saved_page):
    page = saved_page(explorer)
    for scheme in ("sinusoidal", "rotary", "learned"):
        page.get_by_role("button", name=scheme, exact=True).click()
        agrees(page, explorer)
        spread = float(page.locator("[data-figure=spread]").inner_text())
        assert (spread > 1) if scheme == "learned" else (spread == 0)
    verdict = page.locator(".pe-verdict")
    assert "Beyond position 39 there is no row" in verdict.inner_text()
    press(page, slider("position"), "End")
    assert page.locator("[data-figure=product]").inner_text() == "none"
    assert page.locator(".pe-values b").all_inner_texts() == ["none", "none"]
    assert "The table ends at position 39: for m = 47" in verdict.inner_text()
    page.get_by_role("button", name="rotary", exact=True).click()  # rotations know no end
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
    assert state(page)["position"] == 41
    page.locator(lane("Dot products")).click(position={"x": 40, "y": 40})
    assert state(page)["position"] == state(page)["other"] == 7  # on the diagonal
    assert "Choose two different positions" in page.locator(".pe-verdict").inner_text()


def test_each_pair_half_as_fast(explorer, saved_page):
    page = saved_page(explorer)
    button = page.get_by_role("button", name="Halve the speed")
    button.click()
    assert state(page)["base"] == 2**8
    waves = []
    for _ in range(3):
        waves.append(float(page.locator(lane("The chosen pair")).get_attribute("data-wavelength")))
        press(page, slider("pair"), "ArrowRight")
    assert [b / a for a, b in zip(waves, waves[1:], strict=False)] == pytest.approx([2, 2])
    page.get_by_role("button", name="learned", exact=True).click()
    assert button.is_disabled()
    page.locator(".al-slider[data-trait=base] .al-reset").click()
    assert state(page)["base"] == 10_000
    field = page.locator(".al-slider[data-trait=base] .al-value")
    field.fill("1")  # refused
    field.press("Enter")
    assert state(page)["base"] == 10_000 and field.get_attribute("aria-invalid") == "true"


def test_nothing_jumps(explorer, saved_page):
    page = saved_page(explorer)
    boxes = """() => ['.arlab', '.al-slider', '.al-canvas-box', '.pe-title', '.pe-values', '.al-figure', '.pe-verdict']
        .flatMap((name) => [...document.querySelectorAll(name)])
        .map((e) => { const r = e.getBoundingClientRect(); return [r.x, r.y, r.height]; })"""
    before = page.evaluate(boxes)
    for scheme in ("learned", "rotary", "sinusoidal"):
        page.get_by_role("button", name=scheme, exact=True).click()
        press(page, slider("position"), "End")
        press(page, slider("pair"), "End")
        press(page, slider("base"), "End")
        assert page.evaluate(boxes) == before, scheme


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [960, 420])
def test_readable(explorer, saved_page, contrasts, theme, width):
    page = saved_page(explorer, theme, width)
    assert page.evaluate("document.querySelector('.arlab').dataset.theme") == theme
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for scheme in ("learned", "rotary"):
        page.get_by_role("button", name=scheme, exact=True).click()
        ratio, text = contrasts(page)[0]
        assert ratio >= 4.5, f"{text!r} has a contrast of {ratio:.2f}"


def test_the_largest_view_still_moves(saved_page):
    view = PositionExplorer(512, 512, learned=torch.ones(512, 512))
    page = saved_page(view)
    press(page, slider("position"), "ArrowRight")
    press(page, slider("base"), "ArrowRight")
    assert state(page)["position"] == 154 and state(page)["base"] == 15_000


SETUP = """
import torch
from arlab.views import PositionExplorer
view = PositionExplorer(16, 32, learned=torch.randn(24, 16, generator=torch.Generator().manual_seed(0)), position=4)
"""


@pytest.mark.parametrize("theme", ["Dark", "Light"])
def test_in_jupyterlab(lab_notebook, in_kernel, contrasts, theme):
    page = lab_notebook([SETUP, "view"], theme=f"JupyterLab {theme}")
    page.wait_for_selector(f".arlab[data-theme={theme.lower()}]")
    press(page, lane("Binary digits"), "ArrowRight", "ArrowRight", "ArrowDown")
    page.wait_for_timeout(200)
    told = in_kernel(page, "print(view.position, view.pair, f'{view.products[view.other]:.3f}')").split()
    assert told[:2] == ["6", "5"]
    assert page.locator("[data-figure=product]").inner_text().replace("−", "-") == told[2]
    in_kernel(page, "view.scheme = 'learned'; view.other = 30")
    page.wait_for_function("() => document.querySelector('[data-figure=product]').textContent === 'none'")
    in_kernel(page, "view.scheme = 'rotary'; view.base = 100.0")
    told = in_kernel(page, "print(f'{view.products[view.other]:.3f}')")
    shown = "() => document.querySelector('[data-figure=product]').textContent.replace('−', '-')"
    page.wait_for_function(f"text => ({shown})() === text", arg=told)
    ratio, text = contrasts(page)[0]
    assert ratio >= 4.5, f"{text!r} has a contrast of {ratio:.2f}"
