"""The beam tree in a real browser: every control driven, every number against the search itself."""

from __future__ import annotations

import math

import pytest
import torch

from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.views import BeamTree
from arlab.views.beam_tree import CUT, ENDED, LIMIT, LIVE
from arlab.worlds import TreeLM, beam_trap
from tests.browser.hands import (
    ATTACK,
    THEMES,
    assert_paints_in_time,
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
    slider,
)

SHOWN = ".bt-node:not([data-mark=later])"


def ending_world(length: int = 4) -> TreeLM:
    """Five symbols, one of them the end symbol, so that a search finishes hypotheses on its way."""
    world = TreeLM.random(5, length, torch.Generator().manual_seed(8), eos_id=4, sharp=1.5)
    return TreeLM(world.table, max_length=length, eos_id=4, names=["The", "cat", ATTACK, "</script><b>x", "<end>"])


def large_vocabulary() -> BeamTree:
    """49,152 tokens with long names; the model is small and has opinions, the strings are what matters here."""
    config = DecoderConfig.gpt2(vocab_size=49_152, context_length=16, d_model=8, layers=1, heads=1)
    model = DecoderLM(config, seed=0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(12)

    class Words:
        encode = staticmethod(lambda text: [int(word) for word in text.split()])
        token_strings = staticmethod(lambda: [f" {'unquestionably'[: 1 + i % 14]}{i}" for i in range(49_152)])

    return BeamTree(model, Words(), "17 4", beams=5, steps=8, eos_id=0)


def marks(page) -> dict[int, str]:
    """Node -> how it is drawn, for every node that can be seen."""
    found = page.locator(SHOWN).evaluate_all("all => all.map(box => [+box.dataset.node, box.dataset.mark])")
    return dict(found)


def scores(page) -> list[float]:
    """Of the hypotheses in the list, to the last bit."""
    cells = page.locator(".bt-list tr[data-state=done]:not([hidden]) td:last-child")
    return cells.evaluate_all("all => all.map(cell => Number(cell.dataset.value))")


def hypotheses(page) -> list[str]:
    return page.locator(".bt-list tr[data-state=done]:not([hidden]) td:nth-child(2)").all_inner_texts()


def test_page_and_library_agree_for_every_beam_size_and_penalty(saved_page):
    view = BeamTree(ending_world(), max_beams=5)
    page = saved_page(view)
    seen = set()
    for view.beams in range(1, 6):
        for view.length_penalty in (-1.0, 0.0, 0.5, 1.0, 2.0, 5.0):
            put(page, beams=view.beams, length_penalty=view.length_penalty)
            assert scores(page) == pytest.approx([one.score for one in view.hypotheses], rel=1e-12)
            texts = [" ".join(view.search["strings"][str(i)] for i in one.ids) for one in view.hypotheses]
            unfinished = ["" if one.finished else " …" for one in view.hypotheses]
            assert hypotheses(page) == [text + more for text, more in zip(texts, unfinished, strict=True)]
            tree = view.search["trees"][view.beams - 1]
            assert sorted(marks(page)) == [i for i, at in enumerate(tree["steps"]) if at <= view.last_step]
            best = page.locator(".bt-size b").nth(view.beams - 1)
            assert float(best.get_attribute("data-value")) == pytest.approx(scores(page)[0], rel=1e-12)
            seen.add(view.last_step)
    assert len(seen) > 1  # some of these searches stop early


def test_it_grows_a_step_at_a_time(saved_page):
    """Steps slider by keyboard: after each step the live branches are those of the search, the cut ones greyed."""
    view = BeamTree(ending_world(), beams=3, max_beams=3, length_penalty=2.0)
    tree = view.search["trees"][2]
    page = saved_page(view)
    press(page, "Home", on=slider("step"))
    assert marks(page) == {0: "tip"}
    status = page.locator(".bt-status")
    assert status.inner_text() == "Before the first step: one live branch, the prompt."
    for step in range(1, view.last_step):
        press(page, "ArrowRight")
        drawn = marks(page)
        here = [i for i, at in enumerate(tree["steps"]) if at == step]
        live = [i for i in here if tree["fates"][i] == LIVE]
        assert sorted(drawn) == [i for i, at in enumerate(tree["steps"]) if at <= step]
        assert [i for i, mark in drawn.items() if mark == "tip"] == live
        assert all(drawn[i] == "cut" for i in here if tree["fates"][i] == CUT)
        ended = [i for i, mark in drawn.items() if mark == "ended"]
        assert len(ended) == min(3, sum(tree["fates"][i] == ENDED and tree["steps"][i] <= step for i in drawn))
        for i in [*live, *ended]:  # and all that leads to them is drawn strongly
            assert i == 0 or drawn[tree["parents"][i]] == "strong"
        assert f"{len(live)} live branch" in status.inner_text()
        assert page.locator(".bt-list tr[data-state=live]:not([hidden])").count() == len(live)
    press(page, "End")
    assert get(page, "step") == view.steps
    assert "tip" not in marks(page).values()
    pale, strong = (
        page.locator(f".bt-node[data-mark={mark}] span").first.evaluate("span => getComputedStyle(span).color")
        for mark in ("cut", "strong")
    )
    assert pale != strong
    assert page.locator(".bt-edge[data-mark=cut]").first.evaluate("e => getComputedStyle(e).strokeDasharray") != "none"


def test_numbers_on_edges_nodes_and_finished_hypotheses(saved_page):
    view = BeamTree(ending_world(), beams=2, max_beams=2)
    tree = view.search["trees"][1]
    page = saved_page(view)
    drawn = marks(page)

    def text(value: float) -> str:
        return f"{value:.2f}".replace("-", "−")

    sums = page.locator(f"{SHOWN} small").all_inner_texts()
    assert sums == ["", *[text(tree["totals"][i]) for i in sorted(drawn)[1:]]]
    added = page.locator(".bt-step:not([data-mark=later])").all_text_contents()
    assert added == [text(tree["scores"][i]) for i in sorted(drawn)[1:]]
    ended = [i for i in drawn if tree["fates"][i] in (ENDED, LIMIT)]
    finished = page.locator(".bt-score:not([data-mark=later])")
    assert finished.all_inner_texts() == [text(tree["totals"][i] / tree["steps"][i]) for i in ended]
    click(page.get_by_role("button", name="p", exact=True))
    shown = page.locator(f"{SHOWN} small").all_inner_texts()[1:]
    ours = [float(value.replace("−", "-")) for value in shown]
    assert ours == pytest.approx([math.exp(tree["totals"][i]) for i in sorted(drawn)[1:]], rel=0.05)
    assert finished.all_inner_texts() == [text(tree["totals"][i] / tree["steps"][i]) for i in ended]


def test_the_trap_is_seen_at_a_glance(saved_page):
    """1 beam .187, 2 beams .0765, 3 beams .187: beside the sliders, in the list, and as the path that two beams cut."""
    page = saved_page(BeamTree(beam_trap(), max_beams=3, beams=1))
    click(page.get_by_role("button", name="p", exact=True))
    assert page.locator(".bt-size b").all_inner_texts() == ["0.187", "0.0765", "0.187"]
    assert hypotheses(page)[0] == "A A A"
    click(page.locator(".bt-list tbody tr").first)
    assert get(page, "path") == [0, 0, 0]
    press(page, "ArrowRight", on=slider("beams"))
    assert hypotheses(page)[0] == "B A A"
    story = page.locator(".bt-story").inner_text()
    assert story.startswith(
        "With 2 beams the path chosen is not followed further. It was number 3 of step 2 and was cut"
    )
    assert get(page, "path") == [0, 0, 0]
    press(page, "ArrowRight")
    assert hypotheses(page)[0] == "A A A"
    assert page.locator(".bt-node[data-path=here] span").inner_text() == "A"
    line, score = page.locator(".bt-line").all_inner_texts()
    logs = [math.log(p) for p in (0.55, 0.34)]
    assert line == f"log p(A A A) = −{-logs[0]:.4f} − {-logs[1]:.4f} + 0 = −{-sum(logs):.4f}"
    assert score == f"score = −{-sum(logs):.4f} / 31 = −{-sum(logs) / 3:.4f}"  # 3 to the power of 1, raised


def test_buttons_and_playing(still_page):
    """A step a second, by a clock that is moved by hand."""
    view = BeamTree(ending_world(), beams=3, max_beams=3, step=0, length_penalty=5.0)
    page = still_page(view)
    start, back, forward, play = (
        page.get_by_role("button", name=name, exact=True) for name in ("Start", "← Step back", "Step →", "Play")
    )
    assert start.is_disabled() and back.is_disabled()
    for button in (forward, forward, back):
        button.click()
        page.clock.run_for(50)
    assert get(page, "step") == 1
    play.click()
    page.clock.run_for(1050)
    assert get(page, "step") == 2
    page.get_by_role("button", name="Pause", exact=True).click()
    page.clock.run_for(3000)
    assert get(page, "step") == 2 and play.get_attribute("aria-pressed") == "false"
    play.press("Space")
    page.clock.run_for(2050)
    assert page.locator(".bt-status").inner_text().startswith("Step 4 is the last")
    page.clock.run_for(1000)
    assert play.is_visible() and forward.is_disabled()  # it stops by itself
    play.click()  # and begins anew
    assert get(page, "step") == 0
    page.clock.run_for(1050)
    assert get(page, "step") == 1
    start.click()
    assert get(page, "step") == 0 and play.get_attribute("aria-pressed") == "false"


def test_a_walk_by_keyboard(saved_page):
    view = BeamTree(ending_world(), beams=2, max_beams=2, length_penalty=5.0)
    tree = view.search["trees"][1]

    def at(path: list[int]) -> int:
        node = 0
        for token in path:
            node = next(i for i, p in enumerate(tree["parents"]) if p == node and tree["tokens"][i] == token)
        return node

    page = saved_page(view)
    press(page, "Home", on=".bt-tree")
    assert get(page, "path") == []
    press(page, "ArrowRight")
    first = get(page, "path")
    assert tree["ranks"][at(first)] == 1
    press(page, "ArrowDown")
    assert len(get(page, "path")) == 1 and get(page, "path") != first
    press(page, "ArrowUp", "End")
    end = get(page, "path")
    assert end[:1] == first and at(end) not in tree["parents"]
    here = page.locator(".bt-tree").get_attribute("aria-activedescendant")
    assert page.locator(f"#{here}").get_attribute("aria-label").endswith(f"of step {len(end)}")
    value = float(page.locator(".bt-line").first.get_attribute("data-value"))
    assert value == tree["totals"][at(end)]
    put(page, step=1)  # what has not grown yet cannot be walked to
    press(page, "End", "ArrowRight", on=".bt-tree")
    assert len(get(page, "path")) == 1
    click(page.get_by_role("button", name="Follow the best"))
    assert get(page, "path") is None
    put(page, step=view.steps)
    press(page, "Home", "ArrowDown", on=".bt-list")
    assert get(page, "path") == list(view.hypotheses[1].ids)
    click(page.locator(SHOWN).nth(2))
    assert at(get(page, "path")) == 2
    page.locator(SHOWN).nth(2).hover()
    assert page.locator(".al-tip").inner_text().split("\n")[0] == view.search["strings"][str(tree["tokens"][2])]


@pytest.mark.parametrize("arrangement", ["tree", "ranking"])
def test_a_large_vocabulary_can_be_read(saved_page, arrangement):
    """5 beams, 8 steps, 49,152 long tokens: no box lies on another, each name fits its box, nothing below moves."""
    view = large_vocabulary()
    assert view.arrangement == "ranking"
    view.arrangement = arrangement
    page = saved_page(view)
    below = page.locator(".bt-legend").bounding_box()
    for beams in (5, 2, 1):
        put(page, beams=beams)
        places = boxes(page, SHOWN)
        assert len(places) == 1 + 8 * 2 * beams
        for n, (x, y, wide, high) in enumerate(places):
            assert not any(x < a + w and x + wide > a and y < b + h and y + high > b for a, b, w, h in places[:n])
        assert cut_off(page, f"{SHOWN} span") == []
        assert page.locator(".bt-legend").bounding_box()["y"] == below["y"]
    if arrangement == "ranking":  # drawn in until all steps fit; the dashed line is the cut
        assert page.locator(".bt-scroll").evaluate("box => box.scrollWidth <= box.clientWidth")
        assert page.locator(".bt-cutline").count() == 8
    press(page, "Space", on=page.get_by_label("candidates cut"))
    assert page.locator(SHOWN).count() == 1 + 8
    assert page.evaluate("document.documentElement.scrollWidth") <= 960


def test_a_key_press_on_the_beam_slider_is_painted_within_a_frame(saved_page):
    """The quickest tenth: on a busy machine many a frame comes late."""

    def all_seen_once():
        page = saved_page(large_vocabulary())
        for beams in (1, 2, 4, 5, 3):  # what the page else draws ahead, out of sight
            put(page, beams=beams)
        return page

    assert_paints_in_time(all_seen_once, slider("beams"), share=0.1)


def test_nothing_jumps_while_a_slider_moves(saved_page):
    page = saved_page(BeamTree(ending_world(), max_beams=4))
    fixed = (".arlab", ".al-slider", ".al-button", ".bt-scroll", ".bt-legend", ".bt-line", ".bt-list")
    before = boxes(page, *fixed)
    for trait, keys in [
        ("step", ["Home"]),
        ("step", ["ArrowRight"] * 2),
        ("beams", ["End"]),
        ("length_penalty", ["Home"]),
    ]:
        press(page, *keys, on=slider(trait))
        assert boxes(page, *fixed) == before, (trait, keys)
    assert get(page, "beams", "length_penalty", "step") == [4, 0, 2]


def test_exact_values_typed(saved_page):
    page = saved_page(BeamTree(ending_world(), max_beams=4))
    for trait, good, value, bad in [
        ("length_penalty", "−0.75", -0.75, "6"),
        ("beams", "3", 3, "2.5"),
        ("step", "2", 2, "9"),
    ]:
        field = page.locator(f".al-slider[data-trait={trait}] .al-value")
        enter(field, good)
        assert get(page, trait) == value
        enter(field, bad)
        assert get(page, trait) == value and field.get_attribute("aria-invalid") == "true"
    page.locator(".al-slider[data-trait=step] .al-reset").click()
    assert get(page, "step") == 4


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", [600, 1000])
def test_it_can_be_read_in_both_themes_and_widths(saved_page, theme, width):
    view = BeamTree(ending_world(), beams=3, step=2)
    page = saved_page(view, theme=theme, width=width)
    for step in (2, 4):
        put(page, step=step)
        assert_readable(page, theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert cut_off(page, ".al-button", ".bt-size", ".al-slider label") == []
    assert page.locator(".bt-list td", has_text=ATTACK).count() > 0
    assert page.locator(".arlab img, .arlab b b, .bt-node b").count() == 0


# ---- in JupyterLab ----------------------------------------------------------------------------------------------

SETUP = """
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.text.tokenizers import CharTokenizer
from arlab.views import BeamTree
tokenizer = CharTokenizer("abcdefgh <>/")
config = DecoderConfig.gpt2(vocab_size=tokenizer.vocab_size, context_length=12, d_model=16, layers=1, heads=2)
view = BeamTree(DecoderLM(config, seed=0), tokenizer, "abc", beams=3, steps=4)
"""


def test_in_jupyterlab_sliders_need_no_kernel_and_a_prompt_does(lab_notebook):
    page = lab_notebook([SETUP, "view"], theme="JupyterLab Dark")
    page.locator(".bt-node").first.wait_for()

    # the kernel is busy until it is interrupted: the sliders move none the less
    page.evaluate(
        """() => {
            window.kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
            const sleep = window.kernel.requestExecute({ code: "import time; time.sleep(600)" });
            sleep.onIOPub = () => { window.sleeps = true; };
            sleep.done.then(() => { window.sleeps = false; });
        }"""
    )
    page.wait_for_function("() => window.sleeps")
    press(page, "ArrowRight", "ArrowRight", on=slider("beams"))
    press(page, "ArrowLeft", on=slider("step"))
    assert page.locator(".bt-node[data-mark=tip]").count() == 5
    assert page.evaluate("window.sleeps")
    page.evaluate("window.kernel.interrupt()")
    page.wait_for_function("() => !window.sleeps")
    eventually(lambda: from_kernel(page, "[view.beams, view.step, view.path, len(view.hypotheses)]"), [5, 3, None, 5])

    # Python moves the page
    def same_scores() -> None:
        ours = from_kernel(page, "[h.score for h in view.hypotheses]")
        eventually(lambda: scores(page), pytest.approx(ours, rel=1e-12))

    in_kernel(
        page, "view.step = 4; view.beams = 2; view.length_penalty = 0.5; view.path = list(view.hypotheses[1].ids)"
    )
    eventually(lambda: page.locator(".bt-size").nth(1).get_attribute("aria-pressed"), "true")
    same_scores()
    page.locator(".bt-list tr[aria-current=true]").nth(0).wait_for()

    # a new prompt, and bad ones
    prompt = page.get_by_role("textbox", name="Prompt")
    ids = from_kernel(page, "tokenizer.encode('hg fe')")
    enter(prompt, "hg fe")
    eventually(lambda: from_kernel(page, "view.ids"), ids)
    same_scores()
    for bad, says in [("", "prompt 0 is empty"), ("xyz", "'x'"), ("a" * 9, "context_length of 12")]:
        prompt.fill(bad)
        page.locator(".dv-prompt .al-button").click()
        page.wait_for_function("s => document.querySelector('.al-banner').textContent.includes(s)", arg=says)
    assert from_kernel(page, "view.ids") == ids
    assert_readable(page, "dark")


def test_without_a_kernel_the_prompt_says_so(saved_page):
    page = saved_page(large_vocabulary())
    assert page.get_by_text("This is a saved page: everything moves but the prompt").is_visible()
    assert page.get_by_role("textbox", name="Prompt").input_value() == "17 4"
    assert not page.get_by_role("textbox", name="Prompt").is_editable()
    assert page.locator(".dv-prompt .al-button").is_disabled()
