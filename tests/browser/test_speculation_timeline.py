"""The speculation timeline in a real browser: every control, and both lanes against the steps at every moment.

Time is Playwright's: the page's clock stands still and is moved by hand, so that what is shown is exact.
"""

from __future__ import annotations

import itertools
import re

import pytest

from arlab.decoding.speculative import SpeculationStep
from arlab.text.tokenizers import CharTokenizer
from arlab.views.speculation_timeline import PlainRun, SpeculationTimeline
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
)

LETTERS = CharTokenizer("abcdefgh \n", special=[ATTACK])
TEXT = "abc abc\nfade a bad face"


def drafted(text: list[int], gamma: int, *, verify: float = 0.1, draft: float = 0.02) -> list[SpeculationStep]:
    """Rounds that write `text`: in turn nothing, one, two ... of the drafted tokens are accepted."""
    steps, at = [], 0
    for luck in itertools.cycle(range(gamma + 1)):
        room = len(text) - at - 1
        if room < 0:
            return steps
        guesses = text[at : at + min(gamma, room)]
        accepted = min(luck, len(guesses))
        if accepted < len(guesses):  # the guess at this place was wrong, and what follows is never tested
            guesses[accepted] = (guesses[accepted] + 1) % 8
        own = text[at + accepted]
        tested = accepted + (accepted < len(guesses))
        steps.append(
            SpeculationStep(
                index=len(steps),
                drafted=tuple(guesses),
                accepted=accepted,
                tokens=(*guesses[:accepted], own),
                kind="plain" if not guesses else "bonus" if accepted == len(guesses) else "corrected",
                ratios=(1.0,) * accepted + (0.25,) * (tested - accepted),
                overlaps=(0.75,) * tested,
                logprobs=(-1.0,) * (accepted + 1),
                draft_seconds=draft * len(guesses),
                verify_seconds=verify,
                finished=False,
            )
        )
        at += accepted + 1


def timeline(text: str | list[int] = TEXT, gammas=(2, 4), prompt: str = "had ", **settings) -> SpeculationTimeline:
    ids = LETTERS.encode(text) if isinstance(text, str) else text
    plain = PlainRun(tuple(ids), (0.1,) * len(ids))
    runs = {gamma: drafted(ids, gamma) for gamma in gammas}
    return SpeculationTimeline(plain, runs, LETTERS, prompt, **{"greedy": True, "speed": 1.0} | settings)


def lane(page, name: str) -> list[tuple[str, str]]:
    """What can be seen of a lane's tokens: (state, text)."""
    return [
        tuple(one)
        for one in page.locator(f".sp-text[data-lane={name}] .sp-real .sp-part").evaluate_all(
            """all => all.filter((one) => one.checkVisibility({ visibilityProperty: true }))
                .map((one) => [one.dataset.state, one.textContent])"""
        )
    ]


def written(seen: list[tuple[str, str]]) -> str:
    """The text of a lane, thrown-away drafts and those not yet judged left out."""
    return "".join(text for state, text in seen if state not in ("rejected", "unused", "pending")).replace("⏎", "")


def counts(page) -> list[tuple[int, int, str]]:
    """Tokens, calls and the clock of both lanes."""
    texts = page.locator(".sp-count").all_inner_texts()
    found = [
        re.match(r"(\d+) tokens?, (\d+) calls?, (.+?)( ■)?$", text.replace("\xa0", " ")).groups() for text in texts
    ]
    return [(int(tokens), int(calls), clock) for tokens, calls, clock, _ in found]


def expected(view: SpeculationTimeline, t: float) -> list[tuple[int, int]]:
    """Tokens and calls of both lanes at t, from the records."""
    ends = list(itertools.accumulate(step.draft_seconds + step.verify_seconds for step in view.steps))
    over = sum(end <= t + 1e-9 for end in ends)
    alone = sum(end <= t + 1e-9 for end in itertools.accumulate(view.plain.seconds))
    return [(alone, alone), (sum(len(step.tokens) for step in view.steps[:over]), over)]


def tokens_and_calls(page) -> list[tuple[int, int]]:
    return [(tokens, calls) for tokens, calls, _ in counts(page)]


def figure(page, name: str) -> tuple[str, str]:
    value, note = page.locator(f"[data-figure={name}]"), page.locator(f"[data-note={name}]")
    return value.inner_text().replace("\xa0", " "), note.inner_text().replace("\xa0", " ")


# ---- the end state --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", THEMES)
def test_it_opens_at_the_end_with_everything_to_be_seen(saved_page, theme):
    view = timeline(name="a fake draft")
    page = saved_page(view, theme)
    assert get(page, "position") is None
    left, right = lane(page, "plain"), lane(page, "speculative")
    assert written(left) == written(right) == TEXT
    states = [state for state, _ in right]
    for state in ("accepted", "rejected", "unused", "corrected", "bonus"):
        here = sum(state == one for one in states)
        counted = {
            "accepted": view.summary["accepted"],
            "rejected": sum(step.kind == "corrected" for step in view.steps),
            "unused": sum(len(step.drafted) - len(step.ratios) for step in view.steps),
        }.get(state, sum(step.kind == state for step in view.steps))
        assert here == counted > 0, state
    assert {state for state, _ in left} == {"token"}
    assert tokens_and_calls(page) == [(23, 23), (23, view.summary["calls"])]
    assert page.locator(".sp-count[data-done=true]").count() == 2
    assert page.locator("h3").inner_text() == "Speculation timeline: a fake draft"
    assert page.locator(".sp-prompt").all_inner_texts() == ["had ", "had "]
    assert_readable(page, theme)


def test_the_figures_are_those_of_the_steps(saved_page):
    view = timeline()
    page = saved_page(view)
    for gamma in (4, 2):
        view.gamma = gamma
        put(page, gamma=gamma)
        s = view.summary
        assert figure(page, "speedup") == (f"{s['speedup']:.2f}×", f"speed-up: 2.30 s → {s['seconds']:.2f} s")
        predicted = f"{s['predicted_tokens_per_call']:.2f}"
        assert figure(page, "tokens_per_call") == (
            f"{s['tokens_per_call']:.2f}",
            f"tokens a target call; predicted {predicted}",
        )
        assert figure(page, "acceptance") == (
            f"{100 * s['acceptance']:.1f} %",
            f"of {s['tested']} tested drafts accepted; predicted 75.0 %",
        )
        assert figure(page, "calls") == (str(s["calls"]), "target calls instead of 23")
        assert figure(page, "drafting")[0] == f"{100 * s['draft_seconds'] / s['seconds']:.1f} %"
        row = page.locator(f".sp-table tr[data-gamma='{gamma}']")
        assert row.get_attribute("data-chosen") == "true"
        assert row.locator("td[data-column='2']").inner_text() == f"{s['tokens_per_call']:.2f}"
        assert row.locator("td[data-column='8']").inner_text() == f"{s['speedup']:.2f}×"


def test_slower_is_said(saved_page):
    ids = LETTERS.encode(TEXT)
    view = SpeculationTimeline(PlainRun(tuple(ids), (0.1,) * len(ids)), {4: drafted(ids, 4, draft=0.2)}, LETTERS, "")
    page = saved_page(view)
    value, note = figure(page, "speedup")
    assert float(value[:-1]) == pytest.approx(view.summary["speedup"], abs=0.005) and view.summary["speedup"] < 1
    assert note.startswith("slower than without: 2.30 s → ")


@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("at", [None, 5])
def test_whether_the_texts_are_the_same_is_counted(saved_page, greedy, at):
    ids = LETTERS.encode(TEXT)
    plain = list(ids)
    if at is not None:
        plain[at] = LETTERS.encode("h")[0]
    runs = {4: drafted(ids, 4)}
    view = SpeculationTimeline(PlainRun(tuple(plain), (0.1,) * len(plain)), runs, LETTERS, "a", greedy=greedy)
    page = saved_page(view)
    line = page.locator(".sp-same")
    assert line.get_attribute("data-same") == str(at is None).lower() == str(view.identical).lower()
    assert line.inner_text().startswith(
        {
            (True, None): "Greedy: the two texts are identical, all 23 tokens compared.",
            (False, None): "The two texts happen to be identical, all 23 tokens.",
            (True, 5): "Greedy, yet the texts part at token 6: “h” without speculation, “b” with it.",
            (
                False,
                5,
            ): "Sampled: two draws from one distribution, so the texts need not agree (here they part at token 6)",
        }[greedy, at]
    )


def test_tokens_are_text_and_never_html(saved_page):
    attack = LETTERS.vocab_size - 1
    view = timeline([2, attack, 3, attack, 4, attack], prompt=f"a{ATTACK}", name=ATTACK)
    page = saved_page(view)
    assert page.locator("#arlab-view img").count() == 0
    assert written(lane(page, "plain")) == f"a{ATTACK}b{ATTACK}c{ATTACK}"
    page.locator(f".sp-text[data-lane=plain] .sp-real .sp-part:has-text('{ATTACK}')").first.hover()
    settle(page)
    assert (
        page.locator(".al-tip").inner_text() == f"{ATTACK} from the target, nothing was drafted\ncall 2, at 0.20\xa0s"
    )


# ---- playing --------------------------------------------------------------------------------------------------------


def test_it_plays_at_the_pace_of_the_runs(still_page):
    """In real time what is seen after s seconds is what was there after s seconds, in both lanes."""
    view = timeline(gamma=4)
    page = still_page(view)
    page.get_by_role("button", name="Play", exact=False).first.click()
    assert page.locator(".sp-play").inner_text() == "❚❚ Pause"
    page.clock.run_for(20)
    began = counts(page)
    assert began[0][:2] == (0, 0) and began[1][:2] == (0, 0)
    at = 0.02
    for more in (150, 300, 500, 400):
        page.clock.run_for(more)
        at += more / 1000
        # the page draws at 60 frames a second: it lags by less than one
        assert tokens_and_calls(page) in (expected(view, at), expected(view, at - 0.035)), at
        seen = lane(page, "speculative")
        assert TEXT.startswith(written(seen)) and TEXT.startswith(written(lane(page, "plain")))
        assert len(written(seen)) == tokens_and_calls(page)[1][0]
    page.locator(".sp-play").click()  # pause
    frozen = counts(page)
    page.clock.run_for(1000)
    assert counts(page) == frozen and page.locator(".sp-play").inner_text() == "▶ Play"
    assert get(page, "position") == pytest.approx(at, abs=0.04)
    page.locator(".sp-play").click()
    page.clock.run_for(2000)
    assert get(page, "position") is None and page.locator(".sp-count[data-done=true]").count() == 2
    assert page.locator(".sp-play").inner_text() == "▶ Play"
    page.locator(".sp-play").click()  # at the end it starts again
    page.clock.run_for(450)
    assert 3 <= tokens_and_calls(page)[0][0] <= 4


def test_drafts_are_seen_before_they_are_judged(still_page):
    view = timeline(gamma=4)  # 0.08 s of drafting, then 0.1 s of judging
    page = still_page(view)
    put_still(page, position=0.05)
    assert lane(page, "speculative") == [("pending", "b"), ("pending", "b")]  # two of four, after 0.02 s each
    put_still(page, position=0.17)
    assert [state for state, _ in lane(page, "speculative")] == ["pending"] * 4
    put_still(page, position=0.1801)
    seen = lane(page, "speculative")
    assert seen == [("rejected", "b"), ("unused", "b"), ("unused", "c"), ("unused", " "), ("corrected", "a")]


def put_still(page, **traits) -> None:
    """As `put`, where frames come only when the clock is moved."""
    page.evaluate("traits => { for (const name in traits) arlabModel.set(name, traits[name]); }", traits)
    page.clock.run_for(50)


@pytest.mark.parametrize(("speed", "typed"), [(0.25, "1/4"), (4.0, "4")])
def test_the_speed_is_a_factor(still_page, speed, typed):
    view = timeline(gamma=2)
    page = still_page(view)
    field = page.get_by_label("Speed, exact value")
    field.fill(typed)
    field.press("Enter")
    assert get(page, "speed") == speed
    page.get_by_role("button", name="↺ Restart").click()
    page.clock.run_for(400)
    seen = tokens_and_calls(page)
    assert seen in [expected(view, (0.4 - lag / 1000) * speed) for lag in (0, 17, 34)]
    page.get_by_role("button", name="↺ Restart").click()
    page.clock.run_for(34)
    assert tokens_and_calls(page)[0][0] <= 1  # from the start again, still playing
    assert page.locator(".sp-play").inner_text() == "❚❚ Pause"


def test_the_speed_slider_is_moved_by_keys(saved_page):
    page = saved_page(timeline())
    slider = page.get_by_label("Speed", exact=True)
    press(page, "ArrowLeft", on=slider)
    assert get(page, "speed") == 0.5 and slider.get_attribute("aria-valuetext") == "1/2"
    press(page, "Home")
    assert get(page, "speed") == 1 / 1024
    field = page.get_by_label("Speed, exact value")
    enter(field, "fast")
    assert field.get_attribute("aria-invalid") == "true" and get(page, "speed") == 1 / 1024
    click(page.get_by_role("button", name="Speed: back to real time"))
    assert get(page, "speed") == 1 and field.input_value() == "real time"


def test_gamma_may_change_while_it_plays(still_page):
    view = timeline()
    page = still_page(view)
    page.get_by_role("button", name="↺ Restart").click()
    page.clock.run_for(700)
    before = counts(page)[0]
    page.locator(".sp-pick", has_text="2").click()
    view.gamma = 2
    assert counts(page)[0] == before
    page.clock.run_for(100)
    assert tokens_and_calls(page) in [expected(view, 0.8 - lag / 1000) for lag in (0, 17, 34)]


# ---- going to a moment ----------------------------------------------------------------------------------------------


def test_the_time_slider_is_moved_by_keys(saved_page):
    view = timeline(gamma=4)
    page = saved_page(view)
    slider = page.get_by_label("Time in both runs")
    press(page, "Home", on=slider)
    assert get(page, "position") == 0 and lane(page, "plain") == lane(page, "speculative") == []
    assert page.get_by_role("button", name="‹ Call").is_disabled()
    press(page, *["PageUp"] * 3)  # a tenth each
    at = get(page, "position")
    assert at == pytest.approx(0.3 * view.duration, abs=0.01) and tokens_and_calls(page) == expected(view, at)
    press(page, "ArrowRight", "ArrowRight", "ArrowLeft")
    assert at < get(page, "position") < at + 0.01
    said = slider.get_attribute("aria-valuetext").replace("\xa0", " ")
    one, two = expected(view, get(page, "position"))
    assert said == f"0.69 s of 2.30 s: {one[0]} tokens without speculation, {two[0]} with it"
    press(page, "End")
    assert get(page, "position") is None and tokens_and_calls(page) == expected(view, 99)


def test_space_on_the_time_slider_plays_and_pauses(still_page):
    page = still_page(timeline())
    page.get_by_label("Time in both runs").focus()
    page.keyboard.press("Space")
    page.clock.run_for(500)
    page.keyboard.press("Space")
    assert get(page, "position") == pytest.approx(0.5, abs=0.04)
    page.clock.run_for(500)
    assert get(page, "position") == pytest.approx(0.5, abs=0.04)


def test_the_bars_are_dragged(saved_page):
    view = timeline(gamma=4)
    page = saved_page(view)
    box = page.locator(".sp-bars").bounding_box()

    def x(t: float) -> float:
        return box["x"] + 8 + (box["width"] - 16) * t / view.duration

    page.mouse.move(x(0.5), box["y"] + 30)
    page.mouse.down()
    settle(page)
    assert get(page, "position") == pytest.approx(0.5, abs=0.01)
    page.mouse.move(x(1.2), box["y"] + 60, steps=4)
    settle(page)
    assert get(page, "position") == pytest.approx(1.2, abs=0.01)
    assert tokens_and_calls(page) == expected(view, get(page, "position"))
    page.mouse.up()
    page.mouse.move(x(0.1), box["y"] + 60)
    settle(page)
    assert get(page, "position") == pytest.approx(1.2, abs=0.01)
    page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 30)
    page.mouse.down()
    page.mouse.up()
    settle(page)
    assert get(page, "position") is None


def test_the_call_buttons_walk_from_call_to_call(saved_page):
    view = timeline(gamma=4)
    page = saved_page(view)
    put(page, position=0)
    back, on = (page.get_by_role("button", name=name) for name in ("‹ Call", "Call ›"))
    for number, step in enumerate(view.steps[:5], 1):
        click(on)
        assert tokens_and_calls(page)[1] == (sum(len(one.tokens) for one in view.steps[:number]), number)
        title = page.locator(".sp-call").inner_text().replace("\xa0", " ")
        gained = f"{len(step.tokens)} token{'s' if len(step.tokens) > 1 else ''} gained"
        assert title == (
            f"Call {number} of {len(view.steps)}: {len(step.drafted)} drafted, {step.accepted} accepted, {gained}; "
            "drafting 80.0 ms, target 0.10 s"
        )
        kinds = page.locator(".sp-chip").evaluate_all("all => all.map((one) => one.dataset.kind)")
        unused = len(step.drafted) - len(step.ratios)
        rejected = ["rejected"] * (step.kind == "corrected")
        assert kinds == ["accepted"] * step.accepted + rejected + ["unused"] * unused + [step.kind]
        notes = page.locator(".sp-chip-note").all_inner_texts()
        assert [note for note in notes if "rejected" in note] == ["✗ rejected, chance 0.25"] * len(rejected)
    click(back)
    assert tokens_and_calls(page)[1][1] == 4
    click(page.get_by_role("button", name="Show all"))
    assert on.is_disabled() and get(page, "position") is None
    click(back)  # both lanes: the plain run is the longer, the last call of the other stands before the end
    assert tokens_and_calls(page)[1][1] == len(view.steps) and counts(page)[0][0] < 23


def test_before_the_first_call_there_is_nothing_to_tell(saved_page):
    view = timeline(gamma=4)
    page = saved_page(view)
    put(page, position=0)
    assert page.locator(".sp-call").inner_text() == f"Before the first of {len(view.steps)} target calls."
    assert page.locator(".sp-chip").count() == 0


# ---- gamma, rejected drafts -----------------------------------------------------------------------------------------


def test_the_gamma_slider_shows_another_run(saved_page):
    view = timeline(gammas=(1, 2, 4, 8), gamma=4)
    page = saved_page(view)
    slider = page.get_by_label("Gamma", exact=True)
    slider.focus()
    for key, gamma in [("ArrowRight", 8), ("Home", 1), ("ArrowRight", 2), ("End", 8)]:
        press(page, key)
        assert get(page, "gamma") == gamma == int(slider.get_attribute("aria-valuetext"))
        view.gamma = gamma
        assert tokens_and_calls(page) == expected(view, 99)  # at the end it stays at the end
        assert page.locator(".sp-head h4").nth(1).inner_text() == f"With speculation, gamma {gamma}"
        assert written(lane(page, "speculative")) == TEXT
    put(page, position=0.7)
    press(page, "Home")
    view.gamma = 1
    assert get(page, "position") == 0.7 and tokens_and_calls(page) == expected(view, 0.7)
    field = page.get_by_label("Gamma, exact value")
    enter(field, "3")
    assert get(page, "gamma") == 1 and field.get_attribute("aria-invalid") == "true"
    click(page.locator(".sp-pick", has_text="4"))
    assert get(page, "gamma") == 4
    assert page.locator(".sp-pick[aria-pressed=true]").all_inner_texts() == ["4"]


def test_one_run_needs_no_gamma_slider(saved_page):
    page = saved_page(timeline(gammas=(3,)))
    assert not page.get_by_label("Gamma", exact=True).is_visible()


def test_rejected_drafts_can_be_hidden(saved_page):
    page = saved_page(timeline())
    press(page, "Space", on=page.get_by_label("show rejected drafts"))
    seen = lane(page, "speculative")
    assert "".join(text for _, text in seen).replace("⏎", "") == TEXT
    assert not {"rejected", "unused"} & {state for state, _ in seen}
    press(page, "Space")
    assert {"rejected", "unused"} <= {state for state, _ in lane(page, "speculative")}


def test_thrown_away_tokens_are_struck_out_and_no_two_kinds_look_alike_without_colour(saved_page):
    page = saved_page(timeline(gammas=(4,)))
    looks = {}
    for kind in ("accepted", "rejected", "unused", "corrected", "bonus"):
        looks[kind] = page.locator(f".sp-real .sp-part[data-state={kind}]").first.evaluate(
            """one => {
                const s = getComputedStyle(one);
                return [s.textDecorationLine, s.textDecorationStyle, s.boxShadow !== "none", s.fontWeight].join(" ");
            }"""
        )
    assert len(set(looks.values())) == 5, looks
    assert [kind for kind, look in looks.items() if look.startswith("line-through")] == ["rejected", "unused"]


# ---- motion, width --------------------------------------------------------------------------------------------------


def test_reduced_motion_gets_the_end_and_its_own_pace(chromium_page, saved_page):
    chromium_page.emulate_media(reduced_motion="reduce")
    page = saved_page(timeline())
    note = page.locator(".sp-still")
    assert not note.is_visible() and tokens_and_calls(page)[0] == (23, 23)
    put(page, position=0)
    click(page.locator(".sp-play"))
    assert note.is_visible() and get(page, "position") is None and page.locator(".sp-play").inner_text() == "▶ Play"
    click(page.get_by_role("button", name="↺ Restart"))
    assert page.locator(".sp-play").inner_text() == "▶ Play"  # it stands at the start
    assert get(page, "position") == 0 and tokens_and_calls(page) == [(0, 0), (0, 0)]
    click(page.get_by_role("button", name="Call ›"))
    assert tokens_and_calls(page)[1] == (1, 1)


@pytest.mark.parametrize("width", [600, 1000])
def test_nothing_moves_while_it_plays_and_nothing_sticks_out(saved_page, width):
    view = timeline("abc abc\nfade a bad face\n" * 12, gammas=(4,))
    page = saved_page(view, width=width)
    fixed = (".sp-bars", ".sp-columns", ".sp-legend", ".sp-detail", ".sp-table")
    whole = boxes(page, *fixed)
    for share in (0, 0.1, 0.33, 0.334, 0.336, 0.5, 0.75, 0.9):
        put(page, position=share * view.duration)
        assert boxes(page, *fixed) == whole, share
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for text in page.locator(".sp-text").all():
        assert text.evaluate("one => one.scrollWidth <= one.clientWidth && one.scrollHeight <= one.clientHeight")


def test_a_word_does_not_jump_to_the_next_line_as_it_grows(saved_page):
    view = timeline("abc abc fade a bad face " * 12, gammas=(4,))
    page = saved_page(view, width=700)
    places = """() => [...document.querySelectorAll(".sp-text[data-lane=plain] .sp-real .sp-part")]
        .map((one) => one.offsetTop)"""
    whole = page.evaluate(places)
    assert len(set(whole)) > 3
    put(page, position=view.duration / 2)
    assert page.evaluate(places) == whole


def test_the_towers_are_as_high_as_gamma_asks_and_grow_with_the_playhead(saved_page):
    view = timeline(gammas=(2, 8))
    page = saved_page(view)
    heights = []
    for gamma in (2, 8):
        put(page, gamma=gamma)
        heights.append(page.locator(".sp-bars").bounding_box()["height"])
    assert heights[1] > heights[0]
    ink = """() => {
        const canvas = document.querySelector(".sp-bars canvas");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let strong = 0;
        for (let i = 3; i < data.length; i += 4) strong += data[i] > 200;
        return strong;
    }"""
    whole = page.evaluate(ink)
    put(page, position=view.duration / 2)
    half = page.evaluate(ink)
    put(page, position=0)
    assert page.evaluate(ink) < 0.5 * half and half < 0.8 * whole


# ---- with a kernel --------------------------------------------------------------------------------------------------

CELL = """
import torch
from arlab.decoding import Temperature
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.text.tokenizers import CharTokenizer
from arlab.views import SpeculationTimeline
words = CharTokenizer("abcdefgh")
config = DecoderConfig.gpt2(vocab_size=8, context_length=64, d_model=16, layers=2, heads=2)
target, draft = DecoderLM(config, seed=0), DecoderLM(config, seed=1)
view = SpeculationTimeline.run(
    target, draft, words, "abc", max_new_tokens=30, gammas=(1, 4), filters=[Temperature(0)], name="live"
)
view.speed = view.duration / 6
view
"""


def test_in_a_notebook_kernel_and_page_agree(lab_notebook):
    page = lab_notebook([CELL])
    page.wait_for_selector(".sp-text")
    assert in_kernel(page, "print(view.identical, view.position, view.gamma)") == "True None 4"
    assert page.locator(".sp-same").inner_text().startswith("Greedy: the two texts are identical, all 30 tokens")
    title = page.locator(".sp-head h4").nth(1)
    press(page, "ArrowLeft", on=page.get_by_label("Gamma", exact=True))
    eventually(title.inner_text, "With speculation, gamma 1")
    eventually(lambda: from_kernel(page, "view.gamma"), 1)
    in_kernel(page, "view.gamma = 4; view.position = sum(view.plain.seconds[:10]) + view.plain.seconds[10] / 2")
    eventually(title.inner_text, "With speculation, gamma 4")
    page.wait_for_function("document.querySelector('.sp-count').textContent.startsWith('10 tokens')")
    # On to the end, in some four seconds: it only ever goes forward, and the kernel is told when it has arrived.
    seen = page.evaluate(
        """async () => {
            const play = document.querySelector(".sp-play"), playing = () => play.textContent.includes("Pause");
            const moment = () => new Promise((done) => setTimeout(done, 20)), seen = [];
            play.click();
            while (!playing()) await moment();
            for (; playing(); await moment()) seen.push(parseInt(document.querySelector(".sp-count").textContent));
            return seen;
        }"""
    )
    assert seen == sorted(seen) and seen[0] >= 10 and len(set(seen)) > 1
    eventually(lambda: from_kernel(page, "view.position"), None)
    in_kernel(page, "view.speed = 1 / 1024")  # it plays for minutes
    page.get_by_role("button", name="↺ Restart").click()
    page.wait_for_function("document.querySelector('.sp-play').textContent.includes('Pause')")
    eventually(lambda: from_kernel(page, "view.position"), 0)
    in_kernel(page, "view.position = view.plain.seconds[0] / 2")  # set from Python while it plays: that wins
    page.wait_for_function("document.querySelector('.sp-play').textContent.includes('Play')")
    page.wait_for_function("document.querySelector('.sp-count').textContent.startsWith('0 tokens')")
