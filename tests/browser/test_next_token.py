"""The next-token explorer in a real browser: sliders by keyboard, numbers against arlab.decoding.filters."""

from __future__ import annotations

import io
import math

import pytest
import torch

from arlab.decoding.filters import MinP, Temperature, TopK, TopP, apply
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.text.tokenizers import CharTokenizer
from arlab.views import NextToken
from tests.browser.hands import (
    ATTACK,
    THEMES,
    agreed,
    assert_readable,
    boxes,
    click,
    cut_off,
    enter,
    eventually,
    from_kernel,
    get,
    in_kernel,
    press,
    put,
    reported,
    set_theme,
    slider,
)

VOCABULARY = 49_152
FILTERS = ("temperature", "top_k", "top_p", "min_p")


@pytest.fixture(scope="module")
def explorer() -> NextToken:
    """A peaked head and a long tail; some tokens hard to show."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(VOCABULARY, generator=generator) * 2
    logits[:40] += torch.linspace(11, 2, 40)
    strings = [f" token{i}" for i in range(VOCABULARY)]
    top = logits.argsort(descending=True).tolist()
    for token, text in zip(top, [" Paris", ATTACK, "\n", "  ", "</script><b>x", "\u202eabc", ""], strict=False):
        strings[token] = text
    return NextToken.from_logits(logits, strings)


def close(figures: dict, logits: torch.Tensor, t: float, k: int, p: float, m: float) -> None:
    """The page's figures against the library's filters over the whole vocabulary."""
    chain = [Temperature(t), *([TopK(k)] if k else []), *([TopP(p)] if p < 1 else []), *([MinP(m)] if m else [])]
    filtered = apply(chain, logits)
    kept = filtered.isfinite()
    q = filtered.double().softmax(-1)
    assert figures["kept"] == int(kept.sum())
    assert figures["vocab_size"] == logits.numel()
    assert figures["entropy_bits"] == pytest.approx(float(torch.special.entr(q).sum()) / math.log(2), abs=1e-5)
    heated = apply([Temperature(t)], logits).double().softmax(-1)
    assert figures["kept_mass"] == pytest.approx(float(heated[kept].sum()), abs=1e-6)
    assert figures["kept_mass_raw"] == pytest.approx(float(logits.double().softmax(-1)[kept].sum()), abs=1e-6)
    for token, probability in figures["head"]:
        assert probability == pytest.approx(float(q[token]), abs=1e-7)


def test_every_slider_by_keyboard_gives_the_numbers_of_the_filters(explorer, saved_page):
    page = saved_page(explorer)
    close(reported(page), explorer.logits, 1.0, 0, 1.0, 0.0)
    moves = [
        ("temperature", "ArrowLeft", 6),
        ("top_p", "ArrowLeft", 10),
        ("top_k", "ArrowLeft", 14),
        ("min_p", "ArrowRight", 12),
        ("temperature", "End", 1),
        ("top_k", "Home", 1),
        ("top_k", "End", 1),
        ("temperature", "Home", 1),
    ]
    seen = []
    for trait, key, times in moves:
        press(page, *[key] * times, on=slider(trait))
        seen.append(get(page, *FILTERS))
        close(reported(page), explorer.logits, *seen[-1])
    assert seen[0] == [0.7, 0, 1, 0]
    assert seen[3][1] > 1 and seen[3][2] < 1 and seen[3][3] > 0  # all four at work at once
    assert seen[4][0] == 100 and seen[5][1] == 1 and seen[7][0] == 0


def test_rows_show_what_is_kept_and_what_is_cut(explorer, saved_page):
    page = saved_page(explorer)
    put(page, top_k=5)
    rows = page.locator(".nt-row:visible")
    assert rows.count() == 18
    assert [rows.nth(i).get_attribute("data-kept") for i in range(7)] == ["1"] * 5 + ["0"] * 2
    order = explorer.logits.argsort(descending=True)[:18].tolist()
    assert [int(rows.nth(i).get_attribute("data-id")) for i in range(18)] == order
    q = apply([TopK(5)], explorer.logits).double().softmax(-1)
    texts = page.locator(".nt-row:visible .nt-after").all_inner_texts()
    for i in range(5):
        assert float(texts[i].rstrip(" %")) == pytest.approx(100 * float(q[order[i]]), abs=0.051)
    assert texts[5] == "cut"
    # cut tokens differ by a word and by hatching, not by hue alone
    ink = "el => getComputedStyle(el.querySelector('.nt-token')).color"
    assert rows.nth(6).evaluate(ink) != rows.nth(0).evaluate(ink)
    context = "document.querySelector('.nt-bars canvas').getContext('2d')"
    pixels = f"([x, y]) => [...{context}.getImageData(x, y, 6, 12).data]"
    solid, hatched = (page.evaluate(pixels, [1, 22 * row + 5]) for row in (0, 5))
    assert len({tuple(solid[i : i + 4]) for i in range(4 * 6 * 3, 4 * 6 * 9, 4)} - {(0, 0, 0, 0)}) < len(
        {tuple(hatched[i : i + 4]) for i in range(4 * 6 * 3, 4 * 6 * 9, 4)}
    )


def test_tokens_are_text(explorer, saved_page):
    """An <img> is shown, not made; `</script>` does not end the page's data; what is invisible is spelt out."""
    page = saved_page(explorer)
    shown = page.locator(".nt-row:visible .nt-token").all_inner_texts()
    assert shown[:7] == ["␣Paris", ATTACK, "⏎", "␣␣", "</script><b>x", "⟨U+202E⟩abc", "⟨empty⟩"]
    assert page.locator(".arlab img, .arlab b b").count() == 0
    click(page.locator(".nt-row").nth(1))
    assert get(page, "chosen") == int(page.locator(".nt-row").nth(1).get_attribute("data-id"))
    assert page.locator(".arlab img").count() == 0


def test_a_draw_lands_where_the_cumulative_distribution_says(explorer, saved_page):
    page = saved_page(explorer)
    put(page, top_p=0.95)
    us = []
    for _ in range(4):
        click(page.get_by_role("button", name="Draw one"))
        drawn = reported(page, "drawn")
        ordered, ids = apply([TopP(0.95)], explorer.logits).double().softmax(-1).sort(descending=True, stable=True)
        edges = ordered.cumsum(0)
        rank = drawn["rank"]
        assert (edges[rank - 2] if rank > 1 else 0) <= drawn["u"] + 1e-7 and drawn["u"] < edges[rank - 1] + 1e-7
        assert drawn["id"] == int(ids[rank - 1])
        assert f"u = {drawn['u']:.4f}" in page.locator(".dv-result").inner_text()
        us.append(drawn["u"])
    assert len(set(us)) == 4
    # the same number lands elsewhere when the distribution changes, and a seed repeats its draws
    put(page, top_k=1)
    assert reported(page, "drawn") == {**drawn, "rank": 1, "id": int(explorer.logits.argmax())}
    again = saved_page(explorer)
    click(again.get_by_role("button", name="Draw one"))
    assert reported(again, "drawn")["u"] == us[0]


def test_a_hundred_draws_are_counted(explorer, saved_page):
    page = saved_page(explorer)
    put(page, top_k=3)
    click(page.get_by_role("button", name="Draw a hundred"))
    counts = reported(page, "drawn")["counts"]
    assert sum(counts.values()) == 100 and set(map(int, counts)) <= set(explorer.logits.topk(3).indices.tolist())
    texts = [t for t in page.locator(".nt-row .nt-count").all_inner_texts() if t]
    assert sorted(int(t[1:]) for t in texts) == sorted(counts.values())


def test_typing_a_value_and_resetting(explorer, saved_page):
    page = saved_page(explorer)
    field = page.locator(".al-slider[data-trait=top_p] .al-value")
    enter(field, "0.333")
    assert get(page, "top_p") == 0.333
    enter(field, "1.5")  # refused, and the value stays
    assert get(page, "top_p") == 0.333 and field.get_attribute("aria-invalid") == "true"
    page.locator(".al-slider[data-trait=top_p] .al-reset").click()
    assert get(page, "top_p") == 1
    put(page, temperature=3)
    page.locator(slider("temperature")).dblclick()
    assert get(page, "temperature") == 1


def test_nothing_jumps_while_a_slider_moves(explorer, saved_page):
    page = saved_page(explorer)
    fixed = (".arlab", ".al-slider", ".nt-row", ".dv-figures b", ".al-canvas-box", ".al-button")
    before = boxes(page, *fixed)
    for trait, keys in [("temperature", ["ArrowLeft"] * 8), ("top_p", ["ArrowLeft"] * 30), ("min_p", ["End"])]:
        press(page, *keys, on=slider(trait))
        assert boxes(page, *fixed) == before
    assert reported(page)["kept"] == 1


@pytest.mark.parametrize("theme", THEMES)
def test_readable_in_both_themes(explorer, saved_page, theme):
    from PIL import Image

    page = saved_page(explorer, theme)
    put(page, top_k=8)
    click(page.get_by_role("button", name="Draw one"))
    assert_readable(page, theme)
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("L")
    histogram = picture.histogram()
    light = sum(histogram[160:]) / sum(histogram)
    assert (light > 0.7) if theme == "light" else (light < 0.3)
    assert max(histogram) / sum(histogram) < 0.97  # something is drawn


def test_narrow_pages_do_not_overflow(explorer, saved_page):
    page = saved_page(explorer, width=600)
    assert page.evaluate("document.documentElement.scrollWidth") <= 600
    assert cut_off(page, ".al-button", ".dv-figures b") == []


def test_without_a_kernel_what_needs_the_model_says_so(saved_page):
    tokenizer = CharTokenizer("abcdefgh")
    config = DecoderConfig.gpt2(vocab_size=8, context_length=12, d_model=16, layers=1, heads=2)
    page = saved_page(NextToken(DecoderLM(config, seed=0), tokenizer, "abc"))
    assert page.get_by_text("This is a saved page").is_visible()
    prompt = page.get_by_role("textbox", name="Prompt")
    assert prompt.input_value() == "abc" and not prompt.is_editable()
    page.get_by_role("button", name="Draw one").click()
    for name in ("Run", "Undo", "Append"):
        button = page.locator(".al-button", has_text=name)
        assert button.is_disabled() and "need the notebook" in button.get_attribute("title")


# ---- in JupyterLab ----------------------------------------------------------------------------------------------

SETUP = """
import ipywidgets, torch
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.text.tokenizers import CharTokenizer
from arlab.views import NextToken
tokenizer = CharTokenizer("abcdefgh <>/")
config = DecoderConfig.gpt2(vocab_size=tokenizer.vocab_size, context_length=12, d_model=16, layers=1, heads=2)
model = DecoderLM(config, seed=0)
view = NextToken(model, tokenizer, "abc", temperature=0.5)
slider = ipywidgets.FloatSlider(min=0.05, max=2, step=0.05, value=0.5)
link = ipywidgets.jslink((slider, "value"), (view, "temperature"))
"""


def test_in_jupyterlab(lab_notebook):
    page = lab_notebook([SETUP, "view", "slider"], theme="JupyterLab Dark")
    page.wait_for_selector(".nt-row[data-kept='1']")

    # by keyboard in the page; Python reads it, and the numbers agree
    press(page, *["ArrowRight"] * 4, on=slider("temperature"))
    agreed(page, "[view.temperature, len(view.ids)]", [0.7, 3])
    assert page.locator(".widget-readout").inner_text() == "0.70"  # the linked slider followed

    # the other way: the linked slider, then Python
    press(page, "ArrowRight", on=".widget-slider .noUi-handle")
    agreed(page, "view.temperature", pytest.approx(0.75))
    in_kernel(page, "view.top_k = 2; view.temperature = 1.0")
    assert agreed(page, "view.temperature", 1)["kept"] == 2
    assert page.locator("[data-figure=kept]").inner_text() == "2 of 12"
    field = page.locator(".al-slider[data-trait=top_k] .al-value")
    assert field.input_value() == "2"

    # an exact value: Enter is enough, though JupyterLab would keep that key to itself
    enter(field, "3")
    assert agreed(page, "view.top_k", 3)["kept"] == 3

    # a new prompt, bad ones, append, undo
    prompt = page.get_by_role("textbox", name="Prompt")
    enter(prompt, "fed ")
    page.wait_for_function("() => document.querySelector('.nt-given').textContent === 'fed '")
    ids = from_kernel(page, "tokenizer.encode('fed ')")
    assert from_kernel(page, "view.ids") == ids
    for bad, says in [("", "prompt is empty"), ("xyz", "'x'"), ("a" * 13, "context_length of 12")]:
        enter(prompt, bad)
        page.wait_for_function("s => document.querySelector('.al-banner').textContent.includes(s)", arg=says)
    assert from_kernel(page, "view.ids") == ids
    page.locator(".nt-row").first.click()
    token = int(page.locator(".nt-row").first.get_attribute("data-id"))
    page.locator(".nt-append").click()
    page.wait_for_selector(".nt-added")
    page.wait_for_selector(".al-banner", state="hidden")  # the answer comes after the new state
    assert from_kernel(page, "view.ids") == [*ids, token]
    best = in_kernel(page, "print(model(torch.tensor([view.ids]))[0, -1].argmax().item())")
    eventually(lambda: page.locator(".nt-row").first.get_attribute("data-id"), best)
    page.get_by_role("button", name="Undo").click()
    page.wait_for_selector(".nt-added", state="detached")
    assert from_kernel(page, "view.ids") == ids

    assert_readable(page, "dark")
    set_theme(page, "JupyterLab Light")
    page.wait_for_selector(".arlab[data-theme=light]")
    assert_readable(page, "light")


def test_running_again_leaves_nothing_behind(lab_notebook):
    """Each run replaces the old view: one root in the page, and no listener of the old one left on the body."""
    cells = [
        "from arlab.views import NextToken\n"
        "view = NextToken.from_logits([float(-i) / 50 for i in range(600)], [f'<{i}>' for i in range(600)])",
        "view",
    ]
    page = lab_notebook(cells)
    page.wait_for_selector(".nt-row[data-kept='1']")
    page.evaluate(
        """() => {
            window.old = document.querySelector('.arlab');
            const set = window.matchMedia('(prefers-color-scheme: dark)').constructor.prototype;
            window.removed = 0;
            const remove = set.removeEventListener;
            set.removeEventListener = function (...all) { window.removed++; return remove.apply(this, all); };
        }"""
    )
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_function("() => !window.old.isConnected && document.querySelectorAll('.arlab').length === 1")
    page.wait_for_selector(".nt-row[data-kept='1']")
    assert page.evaluate("window.removed") == 1
    in_kernel(page, "view.top_k = 3")
    page.wait_for_function("() => document.querySelector('[data-figure=kept]').textContent === '3 of 600'")
    assert page.evaluate("window.old.querySelector('[data-figure=kept]').textContent") == "600 of 600"

    # a draw below the strings that came with the distribution: the table of all tokens is fetched once
    in_kernel(page, "view.top_k = 0; view.temperature = 100.0")
    seen = [None]
    for start in range(8):
        in_kernel(page, f"view._draw_start = {start}; view._draw_count = 1")
        drawn = eventually(lambda: from_kernel(page, "view.drawn"), lambda new: new.get("u") not in seen)
        seen.append(drawn["u"])
        if drawn["rank"] > 256:
            break
    assert drawn["rank"] > 256
    page.wait_for_function("s => document.querySelector('.dv-mark').textContent === s", arg=f"<{drawn['id']}>")
    tables = "[...globalThis[Symbol.for('arlab.tokens')].values()].map((table) => table.strings.length)"
    assert page.evaluate(tables) == [600]
