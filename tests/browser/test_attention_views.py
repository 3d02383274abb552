"""Attention explorer, attention workbench and mask workbench in a real browser, moved by keyboard."""

from __future__ import annotations

import pytest
import torch

from arlab.nn.attention import attention, record_attention
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.masks import causal_mask
from arlab.views.attention_explorer import AttentionExplorer, head_figures
from arlab.views.attention_workbench import AttentionWorkbench
from arlab.views.mask_workbench import PRESETS, MaskWorkbench, preset_mask
from tests.browser.hands import (
    ATTACK,
    THEMES,
    assert_inside,
    assert_readable,
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

MAP = "canvas[aria-label^='Attention map']"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Letters:
    """A tokenizer of five letters; one of its tokens is an attack."""

    strings = ["a", " b", "c\n", ATTACK, "e"]

    def encode(self, text: str) -> list[int]:
        return ["abcde".index(letter) for letter in text]

    def token_strings(self) -> list[str]:
        return self.strings


def small_model() -> DecoderLM:
    """Grouped-query: four query heads share two key heads. Weights large enough for maps that are not flat."""
    config = DecoderConfig.llama(vocab_size=5, context_length=32, d_model=16, layers=3, heads=4, kv_heads=2)
    model = DecoderLM(config, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(12)
    return model


def printed(text: str) -> float:
    return float(text.replace("−", "-").replace("∞", "inf"))


def numbers(page, label: str, columns: int) -> torch.Tensor:
    """The numbers in the cells of a grid, row by row."""
    texts = page.locator(f"[aria-label='{label}'] .al-cell").all_inner_texts()
    return torch.tensor([printed(text) for text in texts]).view(-1, columns)


def values(page, selector: str) -> torch.Tensor:
    """The exact numbers behind what is printed, which the page keeps in data-value."""
    exact = page.locator(selector).evaluate_all("all => all.map(cell => Number(cell.dataset.value))")
    return torch.tensor(exact, dtype=torch.float64)


def dark(page) -> bool:
    surface = page.evaluate("getComputedStyle(document.querySelector('.arlab')).backgroundColor")
    return sum(map(float, surface.strip("rgba()").split(",")[:3])) < 3 * 128


# -- attention explorer ---------------------------------------------------------------------------------------


def test_explorer_shows_the_recorded_weights(saved_page):
    model = small_model()
    with torch.no_grad(), record_attention(model) as maps:
        model(torch.tensor([[0, 1, 2, 3, 4, 0, 1]]))
    view = AttentionExplorer(model, Letters(), "abcdeab")
    assert torch.equal(view.maps, maps.stack()[:, 0])

    page = saved_page(view)
    press(page, "ArrowRight", "ArrowRight", on=slider("layer"))
    press(page, "ArrowRight", on=slider("head"))
    press(page, "ArrowUp", "ArrowRight", "ArrowRight", on=MAP)  # from the last query, first key: query 5, key 2
    assert get(page, "layer", "head", "query", "key") == [2, 1, 5, 2]
    readout = page.locator("[data-weight]")
    expected = maps[2][0, 1, 5]
    assert float(readout.get_attribute("data-weight")) == pytest.approx(expected[2].item(), abs=1e-5)
    assert readout.inner_text().endswith(f"{expected[2]:.3f}")
    labels = page.locator(".al-strip:not(.al-plain) button").evaluate_all("all => all.map(b => b.ariaLabel)")
    for label, weight in zip(labels, expected.tolist(), strict=True):
        said = label.rsplit("weight ", 1)[1]
        assert said == ("0" if weight == 0 else "<0.001" if weight < 0.0005 else f"{weight:.3f}")


def test_explorer_follows_a_text_whose_map_is_the_same(saved_page):
    """One token sees itself, whatever it is: the weights tell of no change, the token does."""
    page = saved_page(AttentionExplorer.from_maps(torch.ones(1, 1), ["old"]))
    put(page, tokens=["new"], key_tokens=["new"])
    assert page.locator(".al-strip:not(.al-plain) button").all_inner_texts()[0].split()[-1] == "new"
    assert page.locator("[data-weight]").inner_text() == "“new” → “new”: 1.000"


def test_explorer_prints_the_figures_of_each_head(saved_page):
    view = AttentionExplorer(small_model(), Letters(), "abcdeab", layer=1)
    page = saved_page(view)
    rows = page.locator(".al-heads tbody tr").evaluate_all(
        "all => all.map(row => [...row.children].map(cell => cell.textContent))"
    )
    figures = head_figures(view.maps)
    expected = torch.stack([figure[1] for figure in figures], dim=-1)  # (heads, 4)
    shown = torch.tensor([[float(cell) for cell in row[1:]] for row in rows])
    assert (shown - expected).abs().max() <= 0.005 + 1e-6


@pytest.mark.parametrize("theme", THEMES)
def test_explorer_treats_a_token_as_text(saved_page, theme):
    page = saved_page(AttentionExplorer(small_model(), Letters(), "abdea"), theme=theme)
    assert page.locator(".al-strip .al-token").all_inner_texts()[2] == ATTACK
    assert page.locator("img").count() == 0
    assert page.locator("button:has-text('Measure')").is_disabled()
    assert dark(page) == (theme == "dark")
    page.locator(MAP).hover(position={"x": 100, "y": 80})
    settle(page)
    assert "weight" in page.locator(".al-tip").inner_text()
    assert page.locator("img").count() == 0


def test_explorer_draws_a_rectangular_map(saved_page):
    weights = torch.rand(3, 5, generator=generator())
    weights /= weights.sum(-1, keepdim=True)
    french, english = ["le", "chat", "dort"], ["the", "cat", "is", "asleep", "."]
    page = saved_page(AttentionExplorer.from_maps(weights, french, english, query=1))
    press(page, "Enter", on=page.locator(".al-strip.al-plain button").nth(2))
    assert get(page, "query") == 2
    first = page.locator(".al-strip:not(.al-plain) button").first.get_attribute("aria-label")
    assert first == f"the: weight {weights[2, 0]:.3f}"


def test_explorer_does_not_move_when_one_points(saved_page):
    page = saved_page(AttentionExplorer(small_model(), Letters(), "abcdeabcdeabcde"))
    height = page.locator(".arlab").bounding_box()["height"]
    for index in range(0, 15, 3):
        page.locator(".al-strip button").nth(index).hover()
        settle(page)
        assert page.locator(".arlab").bounding_box()["height"] == height


# -- attention workbench --------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_workbench_equals_attention(saved_page, causal, scale):
    q, k, v = (torch.randn(6, 8, generator=generator(seed)).double() for seed in range(3))
    view = AttentionWorkbench(q, k, v, [ATTACK, *"bcdef"])
    page = saved_page(view, theme="dark" if scale else "light")
    for trait, wanted in (("causal", causal), ("scale", scale)):
        if not wanted:
            press(page, "Space", on=f"input[type=checkbox][data-trait={trait}]")
    press(page, "ArrowUp", "ArrowRight", on="[aria-label^='Scores']")  # from the last query, first key: query 4, key 1
    assert get(page, "query", "key") == [4, 1]

    view.causal, view.scale = causal, scale
    output, weights = attention(q if scale else q * 8**0.5, k, v, causal_mask(6) if causal else None)
    assert torch.allclose(view.weights, weights) and torch.allclose(view.output, output)
    assert torch.allclose(values(page, "tr:last-child td[data-value]:not(.al-sum)"), weights[4], atol=1e-12)
    grid = numbers(page, "Weights A; arrow keys choose query and key", 6)
    assert (grid - weights).abs().max() <= 0.005 + 1e-9
    assert torch.allclose(values(page, "[aria-label=z] .al-cell"), output[4], atol=1e-12)
    total = page.locator(".al-lines").first.locator("td[data-value]").get_attribute("data-value")
    assert float(total) == pytest.approx((q[4] @ k[1]).item(), abs=1e-12)
    assert page.locator("img").count() == 0


def test_workbench_gradient_dies_when_queries_grow(saved_page):
    q, k, v = (torch.randn(6, 8, generator=generator(seed)) for seed in range(3))
    page = saved_page(AttentionWorkbench(q, k, v, causal=False))
    norm = page.locator(".al-figure b").nth(2)
    before = float(norm.get_attribute("data-value"))
    scores = (q[5] @ k.T / 8**0.5).double().requires_grad_()
    jacobian = torch.autograd.functional.jacobian(lambda s: s.softmax(-1), scores)
    assert before == pytest.approx(jacobian.norm().item(), abs=1e-6)
    height = page.locator(".arlab").bounding_box()["height"]
    press(page, "End", on=slider("stretch"))
    assert get(page, "stretch") == 30
    assert float(norm.get_attribute("data-value")) < 1e-3 < before
    assert "Saturated" in page.locator(".al-saturation").inner_text()
    assert page.locator(".arlab").bounding_box()["height"] == height


def test_workbench_writes_the_sum_of_a_wide_product(saved_page):
    q, k = (torch.randn(3, 40, generator=generator(seed)).double() for seed in range(2))
    page = saved_page(AttentionWorkbench(q, k, torch.eye(3), query=2, key=1))
    terms = page.locator(".al-lines").first
    assert terms.locator("tbody tr").last.locator("td").count() == 16 + 1
    rest = (q[2] * k[1])[16:].sum()
    assert terms.locator("td.al-sum").nth(1).inner_text() == f"24 more: {rest:.2f}".replace("-", "−")


# -- mask workbench ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "custom"])
def test_presets_equal_attention(saved_page, preset):
    view = MaskWorkbench(8)
    page = saved_page(view)
    press(page, "Enter", on=f"[data-preset='{preset}']")
    view.preset = preset
    mask = preset_mask(preset, 8, **{name: view.sizes[name] for name in ("window", "prefix", "pad_left")})
    assert torch.equal(view.mask, mask)
    cells = values(page, "[aria-label='Softmax of each row'] [data-value]")
    assert torch.allclose(cells.view(mask.shape), view.weights, atol=1e-12)
    signs = page.locator(".al-remarks li").evaluate_all("all => all.map(li => li.className)")
    assert ("al-bad-remark" in signs) == (preset in ("none", "strict", "cache-top-left"))


@pytest.mark.parametrize("width", [632, 960])
def test_a_preset_with_fewer_queries_moves_nothing(saved_page, width):
    page = saved_page(MaskWorkbench(8), width=width)
    panel = page.locator(".al-panel")
    top = panel.bounding_box()["y"]
    for preset in ("cache", "strict", "none"):
        click(page.locator(f"[data-preset='{preset}']"))
        assert panel.bounding_box()["y"] == pytest.approx(top, abs=0.5)


def test_a_cell_is_unmasked_by_keyboard_and_named(saved_page):
    page = saved_page(MaskWorkbench(8, tokens=[ATTACK, *"bcdefgh"]), theme="dark")
    press(page, "ArrowDown", "ArrowDown", *["ArrowRight"] * 5, "Space", on="[role=grid]")
    assert get(page, "preset") == "custom"
    assert "row 2 sees position 5: the future" in page.locator(".al-remarks").inner_text()
    press(page, "Space", "Home", "ArrowUp", "ArrowUp", "Space")  # mask it again, then the only cell of row 0
    remarks = page.locator(".al-remarks").inner_text()
    assert "the future" not in remarks
    assert "row 0 sees nothing: zeros, not NaN" in remarks
    assert "NaN" not in page.locator("[aria-label='Softmax of each row']").inner_text()
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("causal", [True, False])
def test_the_leak_detector_gives_its_verdict(saved_page, causal):
    config = DecoderConfig.gpt2(vocab_size=11, context_length=16, d_model=16, layers=2, heads=2, causal=causal)
    view = MaskWorkbench(model=DecoderLM(config, seed=0), ids=[1, 2, 3, 4, 5, 6])
    page = saved_page(view, theme="light" if causal else "dark")
    verdict = page.locator(".al-verdict")
    assert verdict.get_attribute("data-verdict") == ("clean" if causal else "leak")
    assert "15" in verdict.inner_text()
    press(page, *["ArrowUp"] * 6, "End", on="canvas[aria-label^='Measured']")
    said = page.locator(".al-detector p").first.inner_text()
    assert said.startswith("d logits[0] / d embedding[5]: ")
    assert ("exactly 0" in said) == causal


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("view", ["explorer", "workbench", "mask", "leaks"])
def test_every_text_can_be_read(saved_page, theme, view):
    draws = torch.randn(3, 6, 8, generator=generator())
    views = {
        "explorer": lambda: AttentionExplorer(small_model(), Letters(), "abdea"),
        "workbench": lambda: AttentionWorkbench(*draws),
        "mask": lambda: MaskWorkbench(8, pad_left=2),
        "leaks": lambda: MaskWorkbench(model=small_model(), ids=[0, 1, 2, 3]),
    }
    assert_readable(saved_page(views[view](), theme=theme), theme)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AttentionExplorer(small_model(), Letters(), "abcdeabcde"),
        lambda: AttentionWorkbench(*torch.ones(3, 8, 8)),
        lambda: MaskWorkbench(8),
    ],
)
def test_nothing_sticks_out_at_600_pixels(saved_page, make):
    assert_inside(saved_page(make(), width=632), "figure", "canvas", "table")


# -- in JupyterLab ----------------------------------------------------------------------------------------------

CELLS = [
    """
import torch
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.views import AttentionExplorer, AttentionWorkbench, MaskWorkbench
class Letters:
    def encode(self, text):
        if not set(text) <= set("abcde"):
            raise ValueError(f"unknown character in {text!r}; allowed: abcde")
        return ["abcde".index(letter) for letter in text]
    def token_strings(self):
        return ["a", " b", "c", "<img src=x onerror=alert(1)>", "e"]
model = DecoderLM(DecoderConfig.llama(vocab_size=5, context_length=32, d_model=16, layers=3, heads=4), seed=0)
draws = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
""",
    "explorer = AttentionExplorer(model, Letters(), 'abcde'); explorer",
    "workbench = AttentionWorkbench(*draws); workbench",
    "mask = MaskWorkbench(6); mask",
]


def test_in_jupyterlab_state_goes_both_ways(lab_notebook):
    page = lab_notebook(CELLS, theme="JupyterLab Dark")
    page.wait_for_function("document.querySelectorAll('.arlab[data-theme=dark]').length === 3")
    assert dark(page)

    explorer = page.locator(".arlab").nth(0)
    press(page, "ArrowRight", on=explorer.locator(slider("layer")))
    field = explorer.locator("input[aria-label='Text to measure']")
    enter(field, "edcba")
    page.wait_for_function("document.querySelector('.al-strip .al-token').textContent === 'e'")
    eventually(lambda: from_kernel(page, "[explorer.layer, explorer.text]"), [1, "edcba"])
    enter(field, "xyz")
    explorer.locator(".al-banner:not([hidden])").wait_for()
    assert "unknown character" in explorer.locator(".al-banner").inner_text()
    assert from_kernel(page, "explorer.text") == "edcba"
    in_kernel(page, "explorer.head = 3")
    page.wait_for_function("document.querySelector('.al-heads tr[aria-current=true]').firstChild.textContent === '3'")

    bench = page.locator(".arlab").nth(1)
    press(page, "Space", on=bench.locator("input[type=checkbox][data-trait=causal]"))
    press(page, "ArrowUp", on=bench.locator("[aria-label^='Scores']"))
    eventually(lambda: from_kernel(page, "[workbench.causal, workbench.query]"), [False, 3])
    weights = from_kernel(page, "workbench.weights[3].tolist()")
    assert values(page, "tr:last-child td[data-value]:not(.al-sum)").tolist() == pytest.approx(weights, abs=1e-9)

    editor = page.locator(".arlab").nth(2)
    press(page, "ArrowRight", "Enter", on=editor.locator("[role=grid]"))
    eventually(
        lambda: from_kernel(page, "[mask.mask[0].tolist(), mask.problems]"),
        [[True, True, False, False, False, False], ["row 0 sees position 1: the future"]],
    )
    in_kernel(page, "mask.preset = 'strict'")
    editor.locator("text=row 0 sees nothing").wait_for()
    assert page.locator("img[src=x]").count() == 0
