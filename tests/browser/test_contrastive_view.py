"""The contrastive view in a real browser: every number against arlab.decoding.contrastive, alpha by keyboard."""

from __future__ import annotations

import math

import pytest
import torch

from arlab.decoding.contrastive import contrastive_score
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import Recompute
from arlab.text.tokenizers import CharTokenizer
from arlab.views import ContrastiveView
from tests.browser.hands import (
    ATTACK,
    THEMES,
    agreed,
    assert_paints_in_time,
    assert_readable,
    boxes,
    click,
    cut_off,
    enter,
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
SLIDER = slider("alpha")


def large() -> ContrastiveView:
    """Two models that agree by and large; some tokens hard to show among the head."""
    generator = torch.Generator().manual_seed(0)
    strong = torch.randn(VOCABULARY, generator=generator) * 2
    strong[:40] += torch.linspace(11, 2, 40)
    weak = strong + torch.randn(VOCABULARY, generator=generator)
    strings = [f" token{i}" for i in range(VOCABULARY)]
    head = strong.argsort(descending=True)[:4].tolist()
    for token, text in zip(head, [" Paris", ATTACK, "\n", "</script>"], strict=True):
        strings[token] = text
    return ContrastiveView.from_logits(strong, weak, strings)


def tied(seed: int, size: int = 65) -> ContrastiveView:
    """Logits on a coarse grid, so that ranks and scores tie; some are -inf: in one model, in the other, in both."""
    generator = torch.Generator().manual_seed(seed)
    strong, weak = (torch.randint(-6, 3, (size,), generator=generator) / 2 for _ in range(2))
    strong[torch.rand(size, generator=generator) < 0.1] = -math.inf
    weak[torch.rand(size, generator=generator) < 0.1] = -math.inf
    strong[:2] = weak[1:3] = 0.5
    return ContrastiveView.from_logits(strong, weak, [chr(33 + i) for i in range(size)])


@pytest.fixture(scope="module")
def explorer() -> ContrastiveView:
    return large()


def agree(page, view: ContrastiveView) -> dict:
    """The page's figures against contrastive_score over the whole vocabulary, for the page's own alpha and guard."""
    figures = reported(page)
    alpha, guarded = get(page, "alpha", "guarded")
    alpha = float(alpha) if guarded else None
    scores = contrastive_score(view.strong_logits, view.weak_logits, alpha)
    free = contrastive_score(view.strong_logits, view.weak_logits, None)
    kept = scores > -math.inf
    p = view.strong_logits.double().softmax(-1)
    assert figures["plausible"] == int(kept.sum()) and figures["vocab_size"] == scores.numel()
    assert figures["mass"] == pytest.approx(float(p[kept].sum()), abs=1e-6)
    assert figures["threshold"] == pytest.approx(0 if alpha is None else alpha * float(p.max()), rel=1e-5)
    assert figures["strong_first"] == int(view.strong_logits.argmax())
    assert (figures["chosen"], figures["free_first"]) == (int(scores.argmax()), int(free.argmax()))
    assert figures["chosen_score"] == float(scores.max()) and figures["free_score"] == float(free.max())  # to the bit
    assert figures["beaten"] == int((free[~kept] > scores.max()).sum())
    ordered, ids = scores.sort(descending=True, stable=True)
    best = [(i, s) for i, s in zip(ids[:10].tolist(), ordered[:10].tolist(), strict=True) if s > -math.inf]
    assert [tuple(pair) for pair in figures["head"]] == best
    return figures


def test_alpha_by_keyboard_gives_the_scores_of_the_library(explorer, saved_page):
    page = saved_page(explorer)
    assert agree(page, explorer)["plausible"] == explorer.plausible_size > 1
    seen = []
    for key, times in [("ArrowLeft", 10), ("ArrowLeft", 7), ("Home", 1), ("End", 1), ("ArrowLeft", 3)]:
        press(page, *[key] * times, on=SLIDER)
        figures = agree(page, explorer)
        seen.append((float(get(page, "alpha")), figures["plausible"]))
    assert [alpha for alpha, _ in seen] == [0.01, 0.002, 1e-5, 1, 0.5]  # ten steps are a factor of ten
    assert seen[2][1] > 20_000 and seen[3][1] == 1  # most of the vocabulary, and the argmax alone
    page.get_by_role("checkbox", name="guard").press(" ")
    assert agree(page, explorer)["plausible"] == VOCABULARY
    assert page.locator("[data-figure=threshold]").inner_text() == "no guard"


@pytest.mark.parametrize("seed", range(3))
def test_ties_and_impossible_tokens(seed, saved_page):
    view = tied(seed)
    page = saved_page(view)
    strong = view.strong_logits
    exact = ((strong - strong.max()).exp().unique()).tolist()  # a token exactly at the threshold, give or take rounding
    alphas = sorted({a for a in exact if a > 0} | {1.0, 0.3, 1e-30})
    for alpha in alphas:
        put(page, alpha=alpha)
        figures = agree(page, view)
    assert figures["plausible"] == int((strong == strong.max()).sum()) >= 2  # alpha = 1: the argmax and its equals
    put(page, guarded=False)
    assert agree(page, view)["plausible"] == int(strong.isfinite().sum()) < 65
    assert "NaN" not in page.locator(".arlab").inner_text()


def test_rows_by_score_and_by_probability(explorer, saved_page):
    page = saved_page(explorer)
    put(page, alpha=0.3)
    figures = reported(page)
    plausible = figures["plausible"]
    assert 2 <= plausible < 9
    rows = page.locator(".cv-list .cv-row")
    assert rows.count() == 13
    shown = (
        "all => all.map(row => [Number(row.dataset.id), row.dataset.kept, row.querySelector('.cv-mark').textContent])"
    )
    listed = rows.evaluate_all(shown)
    scores, free = (contrastive_score(*explorer._logits, alpha=alpha) for alpha in (0.3, None))
    by_p = explorer.strong_logits.argsort(descending=True)
    assert [i for i, *_ in listed[:plausible]] == scores.argsort(descending=True)[:plausible].tolist()
    assert [i for i, *_ in listed[plausible:10]] == by_p[plausible:10].tolist()  # what the guard cut, likeliest first
    assert [kept for _, kept, _ in listed[:10]] == ["1"] * plausible + ["0"] * (10 - plausible)
    assert [i for i, *_ in listed[10:]] == free.argsort(descending=True)[:3].tolist()
    assert "◆" in listed[0][2] and sum("◆" in mark for *_, mark in listed[:10]) == 1
    assert [i for i, _, mark in listed[:10] if "○" in mark] == [by_p[0]]
    # cut tokens differ by brackets, ink and hatching, not by hue alone
    texts = page.locator(".cv-list .cv-score").all_inner_texts()
    for (token, kept, _), text in zip(listed, texts, strict=True):
        number = f"{float(free[token]):+.2f}".replace("-", "−")
        assert text == (number if kept == "1" else f"({number})")
    ink = "el => getComputedStyle(el.querySelector('.nt-token')).color"
    assert rows.nth(9).evaluate(ink) != rows.nth(0).evaluate(ink)

    click(page.get_by_role("button", name="by probability"))
    listed = rows.evaluate_all(shown)
    assert [i for i, *_ in listed[:10]] == by_p[:10].tolist()
    assert [kept for _, kept, _ in listed[:10]] == ["1"] * plausible + ["0"] * (10 - plausible)
    assert reported(page)["chosen"] == figures["chosen"]  # the order of the rows decides nothing


COLUMN = """([colour, from, to]) => {
    const canvas = document.querySelector('.cv-bars canvas'), ratio = devicePixelRatio, ctx = canvas.getContext('2d');
    const cell = document.querySelectorAll('.cv-list .cv-row i')[0];
    const place = [cell.offsetLeft - 4, from, cell.offsetWidth + 8, to - from].map((x) => Math.round(x * ratio));
    const { data } = ctx.getImageData(...place);
    const wanted = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    const found = [];
    for (let i = 0; i < data.length; i += 4) {
        const here = data[i + 3] > 200 && wanted.every((v, c) => Math.abs(data[i + c] - v) < 12);
        if (here) found.push((i / 4) % place[2] + place[0]);
    }
    return found.length ? [Math.min(...found) / ratio, (Math.max(...found) + 1) / ratio] : null;
}"""


def test_the_threshold_is_a_line_on_the_strong_bars(explorer, saved_page):
    """A threshold equal to the fourth token's probability stands where its bar ends, and moves with alpha."""
    page = saved_page(explorer)
    p = explorer.strong_logits.double().softmax(-1).sort(descending=True).values
    put(page, order="strong")
    colours = "name => getComputedStyle(document.querySelector('.arlab')).getPropertyValue(`--al-${name}`).trim()"
    accent, blue = page.evaluate(colours, "accent"), page.evaluate(colours, "series1")
    seen = []
    for row in (3, 6):
        put(page, alpha=float(p[row] / p[0]) * 0.99999)
        assert reported(page)["plausible"] == row + 1
        line = page.evaluate(COLUMN, [accent, 0, 220])
        bar = page.evaluate(COLUMN, [blue, 22 * row + 7, 22 * row + 15])
        assert line[1] - line[0] <= 4 and abs(sum(line) / 2 - bar[1]) <= 2
        seen.append(sum(line) / 2)
    assert seen[1] < seen[0] - 3
    put(page, guarded=False)
    assert page.evaluate(COLUMN, [accent, 0, 220]) is None


def test_the_plane_colours_what_is_plausible(explorer, saved_page):
    page = saved_page(explorer)
    count = """colour => {
        const canvas = document.querySelectorAll('.cv-below canvas')[0], ctx = canvas.getContext('2d');
        const { data } = ctx.getImageData(0, 0, canvas.width, canvas.height);
        const wanted = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
        let n = 0;
        for (let i = 0; i < data.length; i += 4) if (wanted.every((v, c) => data[i + c] === v)) n++;
        return n;
    }"""
    blue, grey = "#0072b2", "#8a94a0"
    counts = []
    for alpha in (1, 0.01, 1e-5):
        put(page, alpha=alpha)
        counts.append((page.evaluate(count, blue), page.evaluate(count, grey)))
    assert counts[0][0] < counts[1][0] < counts[2][0] and counts[0][1] > counts[1][1] > counts[2][1]
    put(page, guarded=False)
    assert page.evaluate(count, blue) > counts[2][0] and page.evaluate(count, grey) == 0


def test_pointing_at_a_point_names_its_token(saved_page):
    view = ContrastiveView.from_logits([3.0, 2.0, -1.0], [3.0, -2.0, 0.0], ["a", ATTACK, "c"], alpha=0.1)
    page = saved_page(view)
    plane = page.locator(".cv-below canvas").first
    size = plane.evaluate("el => [el.clientWidth, el.clientHeight]")
    p, q = view.strong_logits.double().log_softmax(-1)[1], view.weak_logits.double().log_softmax(-1)[1]
    floor = 4 * math.log(10)  # the least range of the axes
    place = {"x": 54 + (1 + float(q) / floor) * (size[0] - 66), "y": 12 - float(p) / floor * (size[1] - 42)}
    plane.hover(position=place)
    settle(page)
    tip = page.locator(".al-tip")
    assert tip.inner_text().startswith(ATTACK) and f"score {float(p - q):+.2f}" in tip.inner_text()
    page.mouse.move(5, 5)
    settle(page)
    assert tip.is_hidden() and page.locator(".arlab img").count() == 0


def test_the_numbers_in_words(saved_page):
    strong, weak = (
        torch.tensor([1 / 2, 1 / 4, 3 / 16, 1 / 16]).log(),
        torch.tensor([1 / 2, 1 / 8, 23 / 64, 1 / 64]).log(),
    )
    view = ContrastiveView.from_logits(strong, weak, list("abcd"), alpha=0.5, strong_name="Big", weak_name="Small")
    page = saved_page(view)
    story = page.locator(".cv-story")
    words = story.inner_text().replace("\xa0", " ")
    assert "at least α · max p = 0.5 · 50.0 % = 25.0 %: 2 tokens, with 75.0 % of its probability" in words
    assert "b is chosen: it is 2 times as probable under Big (25.0 %) as under Small (12.5 %)" in words
    assert "the score, +0.69" in words and "Big alone would take a (50.0 %, score +0.00)" in words
    assert "Without the guard d would win with +1.39, though Big gives it only 6.2 %. It is the one" in words
    assert page.locator("[data-figure=plausible]").inner_text() == "2 of 4"
    assert page.locator("[data-figure=threshold]").inner_text().replace("\xa0", " ") == "≥ 25.0 %"
    assert page.locator("[data-figure=chosen]").inner_text() == "b +0.69"
    assert page.locator("[data-figure=free]").inner_text() == "d +1.39"
    put(page, alpha=1)
    assert "one token" in story.inner_text()
    assert "Big alone would take the same token" in story.inner_text()
    put(page, guarded=False)
    assert "The guard is off: all 4" in story.inner_text().replace("\xa0", " ")
    assert "d is chosen" in story.inner_text()


def test_two_equal_models_are_said_to_agree(saved_page):
    logits = torch.tensor([1.0, 0.5, 0.0])
    page = saved_page(ContrastiveView.from_logits(logits, logits, list("abc")))
    assert "Both models say the same here" in page.locator(".cv-story").inner_text()


def test_exact_values_and_reset(explorer, saved_page):
    page = saved_page(explorer)
    field = page.locator(".al-slider[data-trait=alpha] .al-value")
    for typed, value in [("0.0371", 0.0371), ("2e-7", 2e-7), ("1", 1), ("0,25", 0.25)]:
        enter(field, typed)
        assert get(page, "alpha") == value
    for bad in ["0", "-1", "1.5", "half", ""]:  # refused, and the value stays
        enter(field, bad)
        assert get(page, "alpha") == 0.25 and field.get_attribute("aria-invalid") == "true"
    page.locator(".al-slider[data-trait=alpha] .al-reset").click()
    assert get(page, "alpha") == 0.1


def test_tokens_are_text(explorer, saved_page):
    page = saved_page(explorer)
    put(page, order="strong")
    shown = page.locator(".cv-list .nt-token").all_inner_texts()
    assert shown[:4] == ["␣Paris", ATTACK, "⏎", "</script>"]
    assert page.locator(".arlab img").count() == 0


@pytest.mark.parametrize("width", [960, 600])
def test_nothing_jumps_while_alpha_moves(explorer, saved_page, width):
    page = saved_page(explorer, width=width)
    fixed = (".arlab", ".al-slider", ".cv-row", ".dv-figures b", ".al-canvas-box", ".al-segment")
    before = boxes(page, *fixed)
    for key in ["ArrowLeft"] * 20 + ["Home", "End"]:
        press(page, key, on=SLIDER)
        assert boxes(page, *fixed) == before
    put(page, guarded=False)
    assert boxes(page, *fixed) == before


@pytest.mark.parametrize("theme", THEMES)
def test_readable_in_both_themes(explorer, saved_page, theme):
    page = saved_page(explorer, theme)
    put(page, alpha=0.3)
    assert_readable(page, theme)


def test_narrow_pages_do_not_overflow(explorer, saved_page):
    page = saved_page(explorer, width=600)
    assert page.evaluate("document.documentElement.scrollWidth") <= 600
    for alpha in (0.1, 1e-5):
        put(page, alpha=alpha)
        assert cut_off(page, ".al-button", ".al-segment", ".cv-number", "[data-figure=plausible]") == []


def test_without_a_kernel_what_needs_the_models_says_so(saved_page):
    tokenizer = CharTokenizer("abcdefgh")
    config = DecoderConfig.gpt2(vocab_size=8, context_length=12, d_model=16, layers=1, heads=2)
    model = DecoderLM(config, seed=0)
    page = saved_page(ContrastiveView(model, Recompute(model, window=2), tokenizer, "abc"))
    assert page.get_by_text("This is a saved page").is_visible()
    assert page.locator(".nt-text").inner_text() == "abc"
    for name in ("Run", "Undo", "Append"):
        button = page.locator(".al-button", has_text=name).first
        assert button.is_disabled() and "need the notebook" in button.get_attribute("title")
    before = reported(page)["plausible"]
    press(page, "End", on=SLIDER)  # this needs no kernel
    assert reported(page)["plausible"] == 1 < before


def test_slider_within_a_frame(explorer, saved_page):
    """Over the whole vocabulary."""
    assert_paints_in_time(lambda: saved_page(explorer), SLIDER)


# ---- in JupyterLab ----------------------------------------------------------------------------------------------

SETUP = """
import torch
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import Recompute
from arlab.text.tokenizers import CharTokenizer
from arlab.views import ContrastiveView
tokenizer = CharTokenizer("abcdefgh <>/")
config = DecoderConfig.gpt2(vocab_size=tokenizer.vocab_size, context_length=12, d_model=16, layers=2, heads=2)
strong = DecoderLM(config, seed=0)
with torch.no_grad():
    for parameter in strong.parameters():
        parameter.mul_(4)
view = ContrastiveView(strong, Recompute(strong, window=2), tokenizer, "abcd", alpha=0.5)
"""


def test_in_jupyterlab(lab_notebook):
    page = lab_notebook([SETUP, "view"], theme="JupyterLab Dark")
    page.wait_for_selector(".cv-row[data-kept='1']")

    # by keyboard in the page; Python reads it, and the numbers agree
    press(page, *["ArrowLeft"] * 5, on=SLIDER)
    agreed(page, "[view.alpha, view.guarded, len(view.ids)]", [0.15, True, 4])
    page.get_by_role("checkbox", name="guard").uncheck()
    assert agreed(page, "view.guarded", False)["plausible"] == 12

    # from Python
    in_kernel(page, "view.guarded = True; view.alpha = 1.0")
    assert agreed(page, "[view.alpha, view.guarded]", [1, True])["plausible"] == 1
    assert page.locator(".al-slider[data-trait=alpha] .al-value").input_value() == "1"

    # append what is chosen, and take it back
    in_kernel(page, "view.alpha = 1e-3")
    chosen = agreed(page, "view.alpha", 1e-3)["chosen"]
    ids = from_kernel(page, "view.ids")
    page.locator(".cv-buttons .al-primary").click()
    page.wait_for_selector(".nt-added")
    first = agreed(page, "view.ids", [*ids, chosen])["strong_first"]
    assert first == from_kernel(page, "strong(torch.tensor([view.ids]))[0, -1].argmax().item()")
    page.get_by_role("button", name="Undo").click()
    page.wait_for_selector(".nt-added", state="detached")
    agreed(page, "view.ids", ids)

    # a new prompt, and bad ones
    prompt = page.get_by_role("textbox", name="Prompt")
    enter(prompt, "fed ")
    page.wait_for_function("() => document.querySelector('.nt-given').textContent === 'fed '")
    expected = from_kernel(page, "tokenizer.encode('fed ')")
    agreed(page, "view.ids", expected)
    for bad, says in [("", "prompt is empty"), ("xyz", "'x'"), ("a" * 13, "context_length of 12")]:
        enter(prompt, bad)
        page.wait_for_function("s => document.querySelector('.al-banner').textContent.includes(s)", arg=says)
    agreed(page, "view.ids", expected)
    assert_readable(page, "dark")
