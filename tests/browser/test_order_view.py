"""The order view in a real browser: every step of every lane against what the models wrote, and every control."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from arlab.nn.language_model import Recompute
from arlab.text.addition import Addition
from arlab.views.order_view import OrderView, Parallel, Recorded
from tests.browser.hands import (
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

LEFT, BACK = Addition(3), Addition(3, reversed=True)
EXAMPLES = [(23, 45), (999, 1), (208, 792)]


class Nearsighted(nn.Module):
    """Adds, but sees no carry that was born more than `reach` places away; half sure of each digit, so to speak."""

    context_length = bos_id = None

    def __init__(self, task: Addition, reach: int = 9, *, masked: bool = False):
        super().__init__()
        self.task, self.reach, self.masked, self.vocab_size = task, reach, masked, task.vocab_size

    def forward(self, ids):
        task, logits = self.task, torch.zeros(*ids.shape, self.vocab_size)
        for row, each in enumerate(ids.tolist()):
            if len(each) < task.prompt_length:
                continue
            a, b = map(int, task.tokenizer.decode(each[: task.prompt_length - 1]).split("+"))
            for n, place in enumerate(task.places):
                at, low = task.prompt_length + n - (not self.masked), max(0, place - self.reach)
                digit = (a // 10**low + b // 10**low) // 10 ** (place - low) % 10
                if at < len(each):
                    logits[row, at, task.tokenizer.encode(str(digit))[0]] = 3.0 + n / 4
        return logits


def view_of(task: Addition = LEFT, steps: int = 1, **settings) -> OrderView:
    lanes = {
        "left to right": (Recompute(Nearsighted(LEFT, 1)), LEFT),
        "reversed": (Recompute(Nearsighted(BACK)), BACK),
        "masked": Parallel(Nearsighted(LEFT, 0, masked=True), LEFT, steps),
    }
    return OrderView(lanes, **{"a": 345, "b": 155, "examples": EXAMPLES} | settings)


def lane(page, name: str) -> dict:
    """What can be read in a lane: text by place, and which places are marked."""
    return page.locator(f"[data-lane='{name}']").evaluate(
        """(lane) => {
          const all = (what) => [...lane.querySelectorAll(what)];
          const by = (what, read) => Object.fromEntries(all(what).map((one) => [one.dataset.place, read(one)]));
          const text = (what) => lane.querySelector(what).textContent;
          return {
            digits: by(".or-digit", (one) => one.querySelector(".or-symbol").textContent),
            states: by(".or-digit", (one) => one.dataset.state),
            p: by(".or-digit", (one) => one.querySelector(".or-p").textContent.replaceAll("\\u00a0", " ")),
            bars: by(".or-digit", (one) => parseFloat(one.querySelector(".or-bar").style.width) / 100),
            turns: by(".or-turn", (one) => one.textContent),
            carries: by(".or-carry", (one) => [one.textContent, one.dataset.known === "true"]),
            needed: all(".or-operand[data-row=a][data-needed=true]").map((one) => Number(one.dataset.place)),
            a: all(".or-operand[data-row=a]").map((one) => one.textContent).join(""),
            b: all(".or-operand[data-row=b]").map((one) => one.textContent).join(""),
            chosen: all(".or-digit[data-chosen=true]").map((one) => Number(one.dataset.place)),
            stream: text(".or-stream"), verdict: text(".or-verdict"),
            about: text(".or-about"), which: text(".or-which"),
            columns: all(".or-column-fill").map((one) => parseFloat(one.style.height) / 100),
            kinds: all(".or-column").map((one) => one.dataset.kind),
          };
        }"""
    )


def expected(view: OrderView, name: str, step: int) -> dict:
    """place -> (the symbol, its probability, the step that wrote it) after so many passes."""
    trace = view.traces[name]
    found = {}
    for turn, writes in enumerate(trace.steps[:step]):
        found |= {write.place: (write.symbol, write.probability, turn + 1) for write in writes}
    return found


@pytest.mark.parametrize("steps", [1, 2])
def test_every_step_shows_what_was_written_by_then(saved_page, steps):
    view = view_of(steps=steps)
    page = saved_page(view)
    assert get(page, "step") is None and page.locator(".or-steps .al-value").input_value() == "4 of 4"
    for a, b in [(345, 155), (23, 45), (999, 1)]:
        view.a, view.b = a, b
        put(page, a=a, b=b)
        for step in range(5):
            put(page, step=step)
            for name, trace in view.traces.items():
                shown, standing = lane(page, name), expected(view, name, step)
                for place in range(4):
                    at = str(place)
                    symbol, p, turn = standing.get(place, ("", 0, None))
                    assert shown["digits"][at] == symbol
                    good = symbol == str((a + b) // 10**place % 10)
                    assert shown["states"][at] == ("open" if not symbol else "right" if good else "wrong")
                    assert shown["turns"][at] == (f"{turn}{['st', 'nd', 'rd', 'th'][turn - 1]}" if turn else "")
                    assert shown["bars"][at] == pytest.approx(p, abs=1e-6)
                    assert shown["p"][at] == (f"{100 * p:.1f} %" if symbol else "")
                    known = place > 0 and standing.get(place - 1, ("",))[0] == str((a + b) // 10 ** (place - 1) % 10)
                    carry = place > 0 and LEFT.carries(a, b)[place - 1]
                    assert shown["carries"][at] == ["1" if carry else "", known]
                assert (shown["a"], shown["b"]) == (f"{a:03}", f"{b:03}")
                order = view.lanes[name][1].places if name != "masked" else LEFT.places
                written = "".join(standing[place][0] if place in standing else "_" for place in order)
                assert shown["stream"] == trace.prompt + written
                if step >= len(trace.steps):
                    start = f"✓ {a + b} (" if trace.correct else f"✗ {trace.said}, right is {a + b} ("
                    assert shown["verdict"].startswith(start + "probability ")
                else:
                    assert shown["verdict"].startswith(f"{len(standing)} of 4 digits")


def test_the_digit_looked_at_its_distribution_and_what_it_needs(saved_page):
    view = view_of()
    page = saved_page(view)
    left = lane(page, "left to right")  # at the end: the first digit that is wrong, 4 for 5
    assert left["chosen"] == [2] and left["needed"] == [2, 1, 0]
    assert left["which"] == "Hundreds: probability of each digit"
    assert left["about"].startswith("Hundreds: 2 more places are needed, down to the ones")
    write = view.traces["left to right"].written[2]
    assert left["columns"] == pytest.approx(write.digits, abs=1e-6)
    assert left["kinds"] == ["wrong" if i == 4 else "right" if i == 5 else "other" for i in range(10)]
    put(page, place=2)
    back = lane(page, "reversed")  # the same digit, written after the tens: they show the carry
    assert back["chosen"] == [2] and back["needed"] == [2, 1]
    assert back["about"] == "Hundreds: a carry would come from further right, but the tens, written before, show it."
    assert lane(page, "masked")["about"].endswith("Written in one pass with 3 others, unseen by it.")
    click(page.locator("[data-lane=reversed] .or-digit[data-place='0']"))
    assert get(page, "place") == 0
    for name in view.lanes:
        shown = lane(page, name)
        assert (
            shown["chosen"] == [0] and shown["needed"] == [0] and shown["about"].startswith("Ones: they need no other")
        )
    click(page.locator("[data-lane=reversed] .or-digit[data-place='0']"))
    assert get(page, "place") is None
    put(page, place=1, step=1)  # not written yet in the first two: each shows what it wrote last
    assert [lane(page, name)["chosen"] for name in view.lanes] == [[3], [0], [1]]
    put(page, step=0)
    assert lane(page, "left to right")["about"] == "Nothing is written yet."
    assert page.locator(".or-columns:visible").count() == 0


def test_keys_and_buttons_move_the_step(saved_page):
    page = saved_page(view_of())
    for key, step in (("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("End", None), ("ArrowLeft", 3)):
        press(page, key, on=slider("step"))
        assert get(page, "step") == step, key
    click(page.get_by_role("button", name="Step ›"))
    assert get(page, "step") is None and page.get_by_role("button", name="Step ›").is_disabled()
    for step in (3, 2, 1, 0):
        click(page.get_by_role("button", name="‹ Step"))
        assert get(page, "step") == step
    assert page.get_by_role("button", name="‹ Step").is_disabled()


def test_play_writes_a_digit_at_a_time_and_stops_at_the_end(still_page):
    page = still_page(view_of())
    play = page.locator(".or-play")
    play.click()
    page.clock.run_for(100)
    assert get(page, "step") == 0 and play.inner_text() == "❚❚ Pause"
    for step in (1, 2):
        page.clock.run_for(900)
        assert get(page, "step") == step
    play.click()
    page.clock.run_for(5000)
    assert get(page, "step") == 2 and play.inner_text() == "▶ Play"
    play.click()
    page.clock.run_for(10_000)
    assert get(page, "step") is None and play.inner_text() == "▶ Play"
    play.click()
    page.clock.run_for(1000)
    page.evaluate("arlabModel.set('step', 3)")  # from Python, while it plays: that wins
    page.clock.run_for(5000)
    assert get(page, "step") == 3


def test_less_motion_goes_straight_to_the_end(chromium_page, saved_page):
    chromium_page.emulate_media(reduced_motion="reduce")
    page = saved_page(view_of(step=1))
    click(page.locator(".or-play"))
    assert get(page, "step") is None


def test_a_saved_page_says_why_it_cannot_add_and_shows_the_recorded_sums(saved_page):
    view = view_of()
    page = saved_page(view)
    assert page.locator(".or-operand-field:disabled").count() == 2
    for name in ("Add", "Random sum", "Long carry"):
        assert page.get_by_role("button", name=name, exact=True).is_disabled()
    assert "A saved page has no kernel" in page.locator(".or-why").inner_text()
    chips = page.locator(".or-chip")
    assert chips.count() == 4
    for place, (a, b) in enumerate([(345, 155), *EXAMPLES]):
        click(chips.nth(place))
        view.a, view.b = a, b
        assert get(page, "a", "b") == [a, b]
        marks = "".join("✓" if right else "✗" for right in view.correct.values())
        assert chips.nth(place).inner_text().replace(" ", "").replace("\n", "") == f"{a}+{b}{marks}"
        assert page.locator(".or-chip[aria-pressed=true]").inner_text().startswith(f"{a} + {b}")
        assert [field.input_value() for field in page.locator(".or-operand-field").all()] == [str(a), str(b)]
        assert lane(page, "reversed")["verdict"].startswith(f"✓ {a + b}")


def test_a_recording_of_another_sum_is_said_to_be_one(saved_page):
    from arlab.decoding.parallel import parallel_steps

    gaps = [[*LEFT.encode(23, 45), *[LEFT.mask_id] * 4]]
    steps = list(parallel_steps(Nearsighted(LEFT, masked=True), gaps, mask_id=LEFT.mask_id, steps=1))
    lanes = {"left": (Recompute(Nearsighted(LEFT)), LEFT), "recorded": Recorded(LEFT, 23, 45, steps)}
    page = saved_page(OrderView(lanes, 345, 155, examples=[(23, 45)]))
    box = page.locator("[data-lane=recorded]")
    assert box.locator(".or-none").inner_text() == "Recorded for another sum."
    assert not box.locator(".or-paper").is_visible()
    put(page, a=23, b=45)
    assert not box.locator(".or-none").is_visible() and lane(page, "recorded")["verdict"].startswith("✓ 68")


@pytest.mark.parametrize("theme", THEMES)
def test_texts_can_be_read(saved_page, theme):
    assert_readable(saved_page(view_of(step=2), theme), theme)


@pytest.mark.parametrize("width", [600, 1000])
@pytest.mark.parametrize("digits", [1, 3, 6, 9])
def test_nothing_is_cut_off_and_lanes_stand_in_line(saved_page, width, digits):
    task, back = Addition(digits), Addition(digits, reversed=True)
    lanes = {"left": (Recompute(Nearsighted(task, 0)), task), "back": (Recompute(Nearsighted(back)), back)}
    top = 10**digits - 1
    page = saved_page(OrderView(lanes, top, top // 2 + 1), width=width)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    spilt = page.locator(".or-lane *").evaluate_all(
        """all => all.filter((one) => one.clientWidth > 0 && one.scrollWidth > one.clientWidth + 1)
            .map((one) => one.className)"""
    )
    assert spilt == []
    tops = page.locator(".or-columns").evaluate_all("all => all.map((one) => one.getBoundingClientRect().top)")
    lefts = page.locator(".or-lane").evaluate_all("all => all.map((one) => one.getBoundingClientRect().left)")
    if lefts[0] != lefts[1]:
        assert tops[0] == tops[1]


def test_in_jupyterlab_the_kernel_adds(lab_notebook):
    code = (
        "from arlab.nn.decoder import DecoderConfig, DecoderLM\n"
        "from arlab.text.addition import Addition\n"
        "from arlab.views import OrderView\n"
        "from arlab.views.order_view import Parallel\n"
        "def model(task, **more):\n"
        "    sizes = dict(context_length=task.length, d_model=16, layers=1, heads=2)\n"
        "    return DecoderLM(DecoderConfig(vocab_size=task.vocab_size + 1, **sizes, **more), seed=0)\n"
        "left, back = Addition(3), Addition(3, reversed=True)\n"
        "lanes = {'left': (model(left), left), 'masked': Parallel(model(left, causal=False), left)}\n"
        "view = OrderView(lanes, examples=[(1, 2)])\n"
        "view"
    )
    page = lab_notebook([code])
    page.wait_for_selector(".or-paper")
    first, second = page.get_by_label("First number"), page.get_by_label("Second number")
    page.get_by_role("button", name="Long carry").click()
    page.wait_for_function("!document.querySelector('.or-stream').textContent.startsWith('001+002=')")
    a, b, chain = from_kernel(page, "[view.a, view.b, left.longest_chain(view.a, view.b)]")
    assert chain == 3 and lane(page, "left")["stream"].startswith(f"{a:03}+{b:03}=")
    first.fill("208")
    enter(second, "792")
    page.wait_for_function("document.querySelector('.or-stream').textContent.startsWith('208+792=')")
    eventually(lambda: from_kernel(page, "[view.a, view.b, view._sum['a']]"), [208, 792, 208])
    written = from_kernel(page, "''.join(w.symbol for (w,) in view.traces['left'].steps)")
    assert lane(page, "left")["stream"] == f"208+792={written}"
    first.fill("1e3")
    page.get_by_role("button", name="Add", exact=True).click()
    assert "“1e3” is not a number from 0 to 999" in page.locator(".al-banner").inner_text()
    in_kernel(page, "view.a = 7; view.step = 1")
    page.wait_for_function("document.querySelector('.or-stream').textContent.startsWith('007+')")
    eventually(first.input_value, "7")
    page.locator(".or-chip").last.click()
    page.wait_for_function("document.querySelector('.or-stream').textContent.startsWith('001+002=')")
    eventually(lambda: from_kernel(page, "[view.a, view.b, view._sum['b']]"), [1, 2, 2])


def test_nine_digits_can_be_read(saved_page):
    task = Addition(9)
    one = {"left": (Recompute(Nearsighted(task, 0)), task)}
    for width in (480, 1000):
        page = saved_page(OrderView(one, 999_999_999, 1), width=width)
        assert cut_off(page, ".or-digit", ".or-p", ".or-lane", ".or-lane *") == []
        tight = "all => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.value)"
        assert page.locator(".or-operand-field, .al-value").evaluate_all(tight) == []


@pytest.mark.parametrize("width", [480, 640, 1000])
def test_nothing_moves_while_the_step_does(saved_page, width):
    page = saved_page(view_of(steps=2), width=width)
    fixed = (".or-chip", ".or-lane", ".or-paper", ".or-verdict", ".or-about", ".or-which", ".or-columns", ".or-legend")
    for a, b in [(345, 155), (999, 1)]:
        put(page, a=a, b=b, step=0)
        before = boxes(page, *fixed)
        for step in (1, 2, 3, None):
            for place in (None, 0, 3):
                put(page, step=step, place=place)
                assert boxes(page, *fixed) == before, (a, b, step, place)


def test_key_press_to_paint_within_a_frame(saved_page):
    assert_paints_in_time(lambda: saved_page(view_of(step=0)), slider("step"))
