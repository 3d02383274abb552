"""The sequence tree in a real browser: walked by keyboard and by mouse, every number against the world itself."""

from __future__ import annotations

import math

import pytest
import torch

from arlab.views import SequenceTree
from arlab.worlds import TreeLM, beam_trap
from tests.browser.hands import (
    ATTACK,
    THEMES,
    assert_readable,
    click,
    eventually,
    from_kernel,
    get,
    in_kernel,
    press,
    put,
    settle,
)


def text_world() -> TreeLM:
    """Short sentences that end by themselves, or are cut after four tokens."""
    table = {
        (): [0.6, 0.4, 0, 0, 0],
        (0,): [0, 0, 0.55, 0.05, 0.4],
        (1,): [0, 0, 0.2, 0.8, 0],
    }
    names = ["The", "A", "program", ATTACK, "<end>"]
    return TreeLM(table, max_length=4, eos_id=4, names=names, default=[0, 0.1, 0.1, 0.3, 0.5])


def drawn(page) -> int:
    return page.locator(".st-node").count()


def chain(page) -> list[tuple[float, float]]:
    """Product and sum of logs so far, exact, one pair a token walked."""
    rows = page.locator(".st-chain tbody tr:not(.st-empty)")
    exact = "all => all.map(row => [3, 5].map(c => Number(row.children[c].dataset.value)))"
    return [tuple(pair) for pair in rows.evaluate_all(exact)]


def test_a_walk_by_keyboard_builds_product_and_sum(saved_page):
    world = beam_trap()
    page = saved_page(SequenceTree(world))
    assert drawn(page) == 1 + 2 + 5 + 13
    page.locator(".st-tree").focus()
    assert page.locator(".st-story").inner_text().startswith("All of the 13 sequences begin here")
    walked = []
    for key, expected in [
        ("ArrowRight", [0]),  # A, the more probable
        ("ArrowDown", [1]),
        ("ArrowRight", [1, 0]),
        ("ArrowUp", [0, 2]),  # the neighbour in the column, a cousin
        ("ArrowRight", [0, 2, 0]),
        ("ArrowLeft", [0, 2]),
        ("Home", []),
        ("End", [0, 0, 0]),  # always the most probable: greedy
        ("ArrowRight", [0, 0, 0]),  # nothing comes after the end
    ]:
        press(page, key)
        assert get(page, "path") == expected, key
        sums = [world.logprob(expected[: t + 1]) for t in range(len(expected))]
        walked = chain(page)
        assert [log for _, log in walked] == pytest.approx(sums, abs=1e-12)
        assert [p for p, _ in walked] == pytest.approx([math.exp(s) for s in sums], rel=1e-12)
    assert walked[-1][0] == dict(world.enumerate())[(0, 0, 0)]
    lines = page.locator(".st-line").all_inner_texts()
    assert lines == [
        "p(A A A) = 0.55 · 0.34 · 1 = 0.187",
        f"log p(A A A) = −{-math.log(0.55):.4f} − {-math.log(0.34):.4f} + 0 = −{-math.log(0.187):.4f}",
    ]
    assert page.locator(".st-story").inner_text() == "Complete: number 1 of 13 by probability."
    here = page.locator(".st-tree").get_attribute("aria-activedescendant")
    assert page.locator(f"#{here}").get_attribute("aria-label") == "A, probability 1, product 0.187"


@pytest.mark.parametrize("eos_id", [None, 2])
def test_the_list_is_the_enumeration(saved_page, eos_id):
    world = TreeLM.random(3, 4, torch.Generator().manual_seed(2), eos_id=eos_id)
    page = saved_page(SequenceTree(world, [1], show_list=True))
    rows = page.locator(".st-list tbody tr").evaluate_all(
        "all => all.map(row => [row.children[1].textContent, row.querySelector('[data-value]').dataset.value])"
    )
    assert [(name, float(p)) for name, p in rows] == [(" ".join(map(str, ids)), p) for ids, p in world.enumerate()]
    total = page.locator(".st-total[data-value]")
    assert float(total.get_attribute("data-value")) == pytest.approx(1, abs=1e-12)
    assert total.inner_text() == f"All {len(rows)} probabilities add up to 1.0000000000."
    begins = page.locator(".st-list tr.st-begins td[data-value]").evaluate_all("all => all.map(c => +c.dataset.value)")
    assert math.fsum(begins) == pytest.approx(world.distribution(())[1])
    assert page.locator(".st-total").nth(1).inner_text().startswith(f"The marked {len(begins)}: ")


def test_a_sequence_is_chosen_in_the_list_by_keyboard_and_by_mouse(saved_page):
    world = beam_trap()
    page = saved_page(SequenceTree(world))
    assert not page.locator(".st-list").is_visible()
    press(page, "Space", on=page.get_by_label("list all sequences"))
    ranked = [list(ids) for ids, _ in world.enumerate()]
    press(page, "ArrowDown", on=".st-list")
    assert get(page, "path") == ranked[0]
    press(page, "ArrowDown", "ArrowDown", "ArrowUp")
    assert get(page, "path") == ranked[1]
    click(page.locator(".st-list tbody tr").nth(5))
    assert get(page, "path") == ranked[5]
    assert page.locator(".st-list tr[aria-current=true]").count() == 1


def test_folded_bars_share_out_probability_one(saved_page):
    """Whatever is folded, the ends drawn are every sequence once: their probabilities add up to 1."""
    world = TreeLM.random(4, 4, torch.Generator().manual_seed(0), eos_id=2)
    page = saved_page(SequenceTree(world))
    page.locator(".st-tree").focus()
    height = page.locator(".arlab").bounding_box()["height"]
    for keys, nodes in [([], 5), (["ArrowRight"], 9), (["ArrowRight"], 13), (["ArrowRight"], 17)]:
        press(page, *keys)
        assert drawn(page) == nodes, get(page, "path")
        shown = page.locator(".st-mass").evaluate_all("all => all.map(text => Number(text.textContent))")
        assert len(shown) == 1 + 3 * (nodes - 1) // 4
        assert sum(shown) == pytest.approx(1, abs=0.005)  # printed with three digits
        assert page.locator(".st-tree").evaluate("tree => tree === document.activeElement")
        assert page.locator(".arlab").bounding_box()["height"] == pytest.approx(height, abs=1)
    click(page.get_by_label("fold other branches"))
    assert drawn(page) == 1 + 4 + 12 + 36 + 108


def test_a_large_tree_is_drawn_whole_and_the_path_kept_in_sight(saved_page):
    world = TreeLM({}, max_length=8, default=[0.6, 0.4])
    page = saved_page(SequenceTree(world, fold=False))
    assert drawn(page) == 511
    page.locator(".st-tree").focus()
    box = page.locator(".st-scroll").bounding_box()
    for key in ("End", *["ArrowDown"] * 40, "Home"):
        press(page, key)
        node = page.locator(".st-node[data-mark=here]").bounding_box()
        assert box["y"] <= node["y"] <= box["y"] + box["height"] - node["height"]


def test_a_deep_tree_draws_in_before_it_has_to_be_scrolled(saved_page):
    """Notebook 01's sentence of six tokens fits a page as wide as its picture, from the start to the last number."""
    names = ["The", "program", "has", "been", "implemented", "</s>"]
    path = list(range(6))
    table = {tuple(path[:t]): [0.95 * (i == t) + 0.05 * (i == 5) for i in path] for t in range(5)}
    world = TreeLM({**table, tuple(path[:5]): [0, 0, 0, 0, 0, 1]}, max_length=6, eos_id=5, names=names)
    page = saved_page(SequenceTree(world, path), width=900)
    box = page.locator(".st-scroll").bounding_box()
    for part in (".st-node.st-root", ".st-mass[data-mark=here]"):
        inner = page.locator(part).bounding_box()
        assert box["x"] < inner["x"] and inner["x"] + inner["width"] < box["x"] + box["width"], part
    assert page.locator(".st-scroll").evaluate("box => box.scrollWidth <= box.clientWidth")
    last = page.locator(".st-chain tbody tr").last.locator("td").nth(2)
    assert last.evaluate("cell => cell.scrollWidth <= cell.clientWidth")  # p(</s> | five words) = 1, not cut short


def test_an_end_symbol_ends_a_sequence_and_the_text_says_what_that_means(saved_page):
    page = saved_page(SequenceTree(text_world(), [0, 2]))
    story = page.locator(".st-story")
    assert "The text “The program” and nothing more has 0.33 · 0.5 = 0.165" in story.inner_text()
    end = page.locator(".st-node.st-end[data-mark=next]")
    assert end.inner_text() == "<end>"
    click(end)
    assert get(page, "path") == [0, 2, 4]
    assert "It ended by itself, with the end symbol." in story.inner_text()
    assert page.get_by_role("button", name="Most probable next").is_disabled()
    put(page, path=[1])
    assert "“A” and nothing more has probability 0: it cannot end here." in story.inner_text()
    put(page, path=[0, 2, 2, 2])
    assert "It was cut after 4 tokens, without an end symbol." in story.inner_text()


def test_buttons_walk_too(saved_page):
    page = saved_page(SequenceTree(beam_trap()))
    start, back = (page.get_by_role("button", name=name, exact=True) for name in ("Start", "← Back"))
    forward = page.get_by_role("button", name="Most probable next")
    assert start.is_disabled() and back.is_disabled()
    for button in (forward, forward, back):
        click(button)
    assert get(page, "path") == [0]
    click(start)
    assert get(page, "path") == []


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", [600, 960])
def test_it_can_be_read_in_both_themes_and_widths(saved_page, theme, width):
    page = saved_page(SequenceTree(text_world(), [0, 3], show_list=True, fold=True), theme=theme, width=width)
    assert_readable(page, theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("img").count() == 0
    assert page.locator(".st-list td", has_text=ATTACK).count() > 0
    page.locator(".st-node[data-mark=here]").hover()
    settle(page)
    assert page.locator(".al-tip").inner_text().startswith(f"p({ATTACK} | The) = 0.05")
    assert page.locator("img").count() == 0


CELLS = [
    "from arlab.views import SequenceTree\nfrom arlab.worlds import beam_trap\nview = SequenceTree(beam_trap())",
    "view",
]


def test_in_jupyterlab_state_goes_both_ways(lab_notebook):
    page = lab_notebook(CELLS, theme="JupyterLab Dark")
    page.locator(".st-node").first.wait_for()
    press(page, "ArrowRight", "ArrowDown", on=".st-tree")
    eventually(lambda: from_kernel(page, "[view.path, view.probability]"), [[1], 0.45])
    in_kernel(page, "view.path = [0, 0]; view.show_list = True")
    page.locator(".st-list tr.st-begins").first.wait_for()
    eventually(page.locator(".st-line").first.inner_text, "p(A A) = 0.55 · 0.34 = 0.187")
    assert_readable(page, "dark")
