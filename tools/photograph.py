"""Pictures for readers without a kernel: a saved page goes in, the PNG that stands in its place comes out.

A page follows one agreement: it is self-contained, draws itself into `#arlab-view` and then sets
`document.body.dataset.ready = "1"`. `arlab.views` saves such pages; `plotly_page` makes one from a Plotly figure.
"""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chromium import FLAGS, find_chromium

WIDTH = 900  # CSS pixels, about the width of a notebook's output area
READY_SECONDS = 30


@dataclass(frozen=True)
class Picture:
    png: bytes
    width: int  # CSS pixels, whatever the scale
    height: int

    def output(self) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
        """The entries for a notebook output's `data` and `metadata`."""
        return (
            {"image/png": base64.b64encode(self.png).decode("ascii")},
            {"image/png": {"width": self.width, "height": self.height}},
        )


Shoot = Callable[[Path, float], Picture]


@contextmanager
def camera() -> Iterator[Shoot]:
    """One browser, kept open: `shoot(page, scale)` opens a saved page and photographs its `#arlab-view`.

    Raises FileNotFoundError without a browser; `shoot` raises RuntimeError for a page with an error or never ready.
    """
    from playwright.sync_api import sync_playwright

    executable = find_chromium()
    if executable is None:
        raise FileNotFoundError(
            "no Chromium found: install one (apt install chromium, or python -m playwright install chromium), "
            "or name it in ARLAB_CHROMIUM"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        try:
            yield lambda page, scale: _shoot(browser, page, scale)
        finally:
            browser.close()


def _shoot(browser, path: Path, scale: float) -> Picture:
    from playwright.sync_api import TimeoutError as PlaywrightTimeout

    context = browser.new_context(
        viewport={"width": WIDTH, "height": 700},
        device_scale_factor=scale,
        color_scheme="light",
        reduced_motion="reduce",
        offline=True,  # a page that needs the network is not self-contained: let it fail here
    )
    try:
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path.as_uri())
        try:
            page.wait_for_function("document.body.dataset.ready === '1'", timeout=READY_SECONDS * 1000)
        except PlaywrightTimeout:
            errors.append(f"the page did not say that it is ready within {READY_SECONDS} s")
        if errors:
            raise RuntimeError("; ".join(errors))
        view = page.locator("#arlab-view")
        box = view.bounding_box()
        png = view.screenshot(animations="disabled")
        return Picture(compress(png), round(box["width"]), round(box["height"]))
    finally:
        context.close()


def compress(png: bytes) -> bytes:
    """The same picture in fewer bytes: exact if it is small or has at most 256 colours, else in its 256 best ones."""
    from PIL import Image

    image = Image.open(io.BytesIO(png))
    if image.mode == "RGBA" and image.getextrema()[3][0] < 255:
        return png  # see-through in places: leave it
    image = image.convert("RGB")
    if image.getcolors(256) is not None or len(png) > 100_000:
        image = image.quantize(256, dither=Image.Dither.NONE)
    smaller = io.BytesIO()
    image.save(smaller, "PNG", optimize=True)
    return min(png, smaller.getvalue(), key=len)


@contextmanager
def plotly_page(figure: dict) -> Iterator[Path]:
    """A Plotly figure (its JSON) as a page that keeps the agreement above."""
    import plotly.graph_objects as go

    html = go.Figure(figure).to_html(
        include_plotlyjs=True,
        div_id="arlab-view",
        default_height="450px",
        post_script="document.body.dataset.ready = '1';",
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure.html"
        path.write_text(html, encoding="utf8")
        yield path
