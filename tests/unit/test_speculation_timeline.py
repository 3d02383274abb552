"""The speculation timeline without a browser: what is sent agrees with the steps, and the figures with their terms."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import traitlets
from torch import nn

from arlab.decoding import MinP, Temperature, TopK, TopP, greedy
from arlab.decoding.drafts import LookupDraft
from arlab.decoding.speculative import SpeculationStep, expected_tokens, speculative_steps
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import Recompute
from arlab.text.tokenizers import CharTokenizer
from arlab.views import speculation_timeline as module
from arlab.views.base import HERE
from arlab.views.speculation_timeline import PlainRun, SpeculationTimeline
from arlab.worlds import TreeLM

GREEDY = [Temperature(0)]


def step(drafted, accepted, tokens, kind, *, ratios=None, overlaps=None, draft=0.01, verify=0.1) -> SpeculationStep:
    tested = accepted + (kind == "corrected")
    return SpeculationStep(
        index=0,
        drafted=tuple(drafted),
        accepted=accepted,
        tokens=tuple(tokens),
        kind=kind,
        ratios=tuple([1.0] * tested if ratios is None else ratios),
        overlaps=tuple([0.5] * tested if overlaps is None else overlaps),
        logprobs=(-1.0,) * len(tokens),
        draft_seconds=draft,
        verify_seconds=verify,
        finished=kind == "end",
    )


# One of each kind: corrected, bonus, plain (nothing drafted), corrected at once, and the end symbol 5.
STEPS = (
    step([0, 1, 2], 1, [0, 3], "corrected", ratios=[1.0, 0.25], overlaps=[0.9, 0.5]),
    step([1, 2, 3], 3, [1, 2, 3, 4], "bonus", ratios=[0.5, 0.75, 1.0], overlaps=[0.6, 0.8, 1.0]),
    step([], 0, [2], "plain", draft=0.0),
    step([4], 0, [0], "corrected", ratios=[0.0], overlaps=[0.1]),
    step([1, 5], 2, [1, 5], "end", overlaps=[0.7, 1.0]),
)
TEXT = (0, 3, 1, 2, 3, 4, 2, 0, 1, 5)
PLAIN = PlainRun(TEXT, (0.2,) + (0.1,) * 9)
WORDS = CharTokenizer("abcde", special=["<eos>"])


def recorded(**settings) -> SpeculationTimeline:
    return SpeculationTimeline(PLAIN, {3: STEPS}, WORDS, "ab", **settings)


def alone(seconds: float) -> list[SpeculationStep]:
    """A round in which nothing was drafted."""
    return [step([], 0, [0], "plain", draft=0.0, verify=seconds)]


def small(seed: int, layers: int = 2) -> DecoderLM:
    return DecoderLM(DecoderConfig.gpt2(vocab_size=6, context_length=64, d_model=16, layers=layers, heads=2), seed=seed)


# ---- what is sent ---------------------------------------------------------------------------------------------------


def test_what_is_sent_is_what_the_steps_say():
    view = recorded()
    (run,) = view._runs
    assert run["gamma"] == 3 == view.gamma and len(run["steps"]) == len(STEPS)
    for sent, one in zip(run["steps"], STEPS, strict=True):
        for name, value in sent.items():
            given = getattr(one, name)
            assert value == (list(given) if isinstance(given, tuple) else given)
    assert view._plain == {"tokens": list(TEXT), "seconds": list(PLAIN.seconds)}
    assert tuple(token for sent in run["steps"] for token in sent["tokens"]) == TEXT
    assert view._words == {str(i): "abcde"[i] if i < 5 else "<eos>" for i in range(6)}
    assert run["summary"] == view.summary == view.summaries[3] and view.steps == STEPS
    assert json.loads(json.dumps(view.saved_state(), allow_nan=False))["_prompt"] == "ab"


def test_the_figures_by_hand():
    figures = recorded().summary
    law = (0.9 + 0.5 + 0.6 + 0.8 + 1.0 + 0.1 + 0.7 + 1.0) / 8
    expected = [expected_tokens(law, g) for g in (3, 3, 1, 2)] + [1.0]  # the call without a draft gives one
    assert (figures["calls"], figures["tokens"], figures["tested"], figures["accepted"]) == (5, 10, 8, 6)
    assert figures["tokens_per_call"] == 2 and figures["acceptance"] == 0.75
    assert figures["predicted_acceptance"] == pytest.approx(law)
    assert figures["predicted_tokens_per_call"] == pytest.approx(sum(expected) / 5)
    assert figures["draft_seconds"] == pytest.approx(0.04) and figures["verify_seconds"] == pytest.approx(0.5)
    assert figures["seconds"] == pytest.approx(0.54) and figures["plain_seconds"] == pytest.approx(1.1)
    assert figures["speedup"] == pytest.approx(1.1 / 0.54)
    assert figures["parts_at"] is None and recorded().identical and recorded().duration == pytest.approx(1.1)


def test_the_prediction_is_the_formula_where_every_draft_is_as_long_as_gamma():
    steps = [step([0, 1], 2, [0, 1, 2], "bonus", overlaps=[0.3, 0.9])] * 4
    figures = SpeculationTimeline(PlainRun((0, 1, 2) * 4, (0.1,) * 12), {2: steps}).summary
    assert figures["predicted_tokens_per_call"] == pytest.approx((1 - 0.6**3) / (1 - 0.6))


def test_speed_up_is_for_each_token_where_the_lengths_differ():
    """Sampled runs may end at different places; a shorter text is not a faster one."""
    view = SpeculationTimeline(PlainRun((0, 1), (0.1, 0.1)), {1: alone(0.1) * 4})
    assert view.summary["speedup"] == pytest.approx(1.0) and view.summary["parts_at"] == 1 and not view.identical


@pytest.mark.parametrize(
    ("plain", "at"), [((1, *TEXT[1:]), 0), ((*TEXT[:9], 4), 9), (TEXT[:6], 6), ((*TEXT, 1), 10), (TEXT, None)]
)
def test_where_the_texts_part(plain, at):
    view = SpeculationTimeline(PlainRun(plain, (0.1,) * len(plain)), {3: STEPS}, greedy=True)
    assert view.summary["parts_at"] == at and view.identical == (at is None)


def test_nothing_drafted():
    view = SpeculationTimeline(PlainRun((0, 0), (0.1, 0.1)), {4: alone(0.1) * 2})
    figures = view.summary
    assert figures["acceptance"] is None and figures["predicted_acceptance"] is None
    assert figures["tokens_per_call"] == figures["predicted_tokens_per_call"] == 1


# ---- a real run -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draft", ["model", "itself", "lookup"])
def test_a_greedy_run_has_the_text_of_greedy_in_both_lanes(draft):
    target = small(0)
    drafts = {"model": small(1, layers=1), "itself": target, "lookup": LookupDraft()}
    view = SpeculationTimeline.run(
        target, drafts[draft], WORDS, "abcab", max_new_tokens=20, gammas=[5, 1], filters=GREEDY, name=draft
    )
    expected = tuple(greedy(target, WORDS.encode("abcab"), max_new_tokens=20).tokens())
    assert view.plain.tokens == expected and len(view.plain.seconds) == 20 and view._greedy
    assert list(view.runs) == [1, 5] and view.gamma == 5  # no 4 among them: the largest
    for gamma, steps in view.runs.items():
        assert tuple(token for one in steps for token in one.tokens) == expected
        assert max(len(one.drafted) for one in steps) == gamma
        view.gamma = gamma
        assert view.identical and view.summary["calls"] == len(steps)
    if draft == "itself":
        assert view.summary["acceptance"] == 1 and view.summaries[1]["tokens_per_call"] == 2
    assert view.describe() == f"SpeculationTimeline {draft}: without, and with gamma 1, 5"


def test_a_sampled_run_is_that_of_its_seed():
    target, draft, filters = small(0), small(1), [Temperature(0.8), TopP(0.95)]
    settings = {"max_new_tokens": 15, "filters": filters, "seed": 3}
    view = SpeculationTimeline.run(target, draft, WORDS, [0, 1], gammas=(2,), **settings)
    chance = torch.Generator().manual_seed(3)
    again = speculative_steps(target, draft, [0, 1], max_new_tokens=15, gamma=2, filters=filters, generator=chance)
    same = replace(next(again), draft_seconds=0, verify_seconds=0)
    assert replace(view.steps[0], draft_seconds=0, verify_seconds=0) == same
    assert sum(len(one.tokens) for one in view.steps) == 15 and not view._greedy
    assert view._prompt == "ab"
    more = SpeculationTimeline.run(target, draft, WORDS, "ab", gammas=(2,), repeats=3, **settings)
    assert [one.tokens for one in more.steps] == [one.tokens for one in view.steps]
    assert more.plain.tokens == view.plain.tokens


@pytest.mark.parametrize("filters", [[TopK(1)], [Temperature(0), MinP(0.5)], [Temperature(0.5), TopK(1)]])
def test_greedy_is_known_by_its_filters(filters):
    target = small(0)
    view = SpeculationTimeline.run(target, small(1), WORDS, "ab", max_new_tokens=12, gammas=(3,), filters=filters)
    assert view._greedy and view.identical


def test_both_lanes_end_at_the_end_symbol():
    world = TreeLM({(): [0.5, 0.3, 0.2], (0,): [0, 0.9, 0.1], (0, 1): [0, 0, 1]}, max_length=9, eos_id=2)
    view = SpeculationTimeline.run(world, world, None, [3], max_new_tokens=8, gammas=(4,), filters=GREEDY, eos_id=2)
    assert view.plain.tokens == (0, 1, 2) == view.steps[0].tokens
    assert view.steps[0].kind == "end" and view.summary["calls"] == 1 and view.identical
    assert view._words == {"0": "#0 ", "1": "#1 ", "2": "#2 "}


class Slow(nn.Module):
    """Takes so many seconds for each call, however many tokens it is given."""

    vocab_size, context_length, bos_id = 6, None, None

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds

    def forward(self, ids):
        time.sleep(self.seconds)
        return nn.functional.one_hot((ids + 1) % 6, 6).float()


def test_the_times_are_those_of_the_clock():
    target, draft = Recompute(Slow(0.02)), Recompute(Slow(0.002))
    began = time.perf_counter()
    view = SpeculationTimeline.run(target, draft, WORDS, "ab", max_new_tokens=9, gammas=(4,), filters=GREEDY)
    whole = time.perf_counter() - began
    figures = view.summary
    assert all(seconds >= 0.02 for seconds in view.plain.seconds)
    assert figures["calls"] == 2  # 5 + 4 tokens
    assert figures["verify_seconds"] >= 2 * 0.02 and figures["draft_seconds"] >= 7 * 0.002
    assert figures["seconds"] + figures["plain_seconds"] < whole  # nothing is counted twice
    assert math.fsum(view.plain.seconds) == pytest.approx(figures["plain_seconds"])


def test_the_models_are_put_back_into_their_mode():
    target, draft = small(0).train(), small(1).train()
    SpeculationTimeline.run(target, draft, WORDS, "ab", max_new_tokens=3, gammas=(1,))
    assert target.training and draft.training


# ---- settings -------------------------------------------------------------------------------------------------------


def test_gamma_four_is_shown_first_where_there_is_one():
    runs = {8: STEPS, 4: STEPS, np.int64(2): STEPS}
    view = SpeculationTimeline(PLAIN, runs)
    assert view.gamma == 4 and list(view.runs) == [2, 4, 8]
    assert SpeculationTimeline(PLAIN, runs, gamma=2).gamma == 2
    view.gamma = 8
    with pytest.raises(traitlets.TraitError, match="gamma is 3; the recorded runs have 2, 4, 8"):
        view.gamma = 3
    assert view.gamma == 8


@pytest.mark.parametrize(
    ("seconds", "speed"), [(100.0, 1.0), (2.0, 1.0), (1.9, 0.25), (0.5, 0.125), (0.3, 1 / 16), (1e-12, 1 / 1024)]
)
def test_a_short_run_opens_in_slow_motion(seconds, speed):
    view = SpeculationTimeline(PlainRun((0,), (seconds,)), {1: alone(seconds / 2)})
    assert view.speed == speed and view.position is None
    assert speed in (1.0, 1 / 1024) or module.WATCHABLE <= seconds / speed < 2 * module.WATCHABLE


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("position", -0.1, "position is -0.1"),
        ("position", math.nan, "position is nan"),
        ("position", math.inf, "or None for the end"),
        ("speed", 0.0, "speed is 0.0"),
        ("speed", 65.0, "speed is 65.0"),
    ],
)
def test_bad_settings_are_named(name, value, says):
    view = recorded()
    with pytest.raises(ValueError, match=says):
        setattr(view, name, value)
    view.position = 0.5
    view.position = None
    view.speed = 2
    assert (view.position, view.speed) == (None, 2)


@pytest.mark.parametrize(
    ("plain", "runs", "says"),
    [
        (PLAIN, {}, "at least one"),
        (PLAIN, {0: STEPS}, r"gammas \[0\]"),
        (PLAIN, {2: []}, "gamma 2 has a round without tokens, or no rounds"),
        (PLAIN, {2: [step([1], 0, [], "end")]}, "round without tokens"),
        (PlainRun((), ()), {3: STEPS}, "0 tokens and 0 times"),
        (PlainRun((1, 2), (0.1,)), {3: STEPS}, "2 tokens and 1 times"),
        (PlainRun((1,), (-0.1,)), {3: STEPS}, "the plain run has a time below 0"),
        (PlainRun((1,), (0.0,)), {3: STEPS}, "takes no time at all"),
        (PLAIN, {3: [replace(STEPS[0], verify_seconds=math.nan)]}, "gamma 3 has a time"),
    ],
)
def test_bad_recordings_are_named(plain, runs, says):
    with pytest.raises(ValueError, match=says):
        SpeculationTimeline(plain, runs)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"gammas": ()}, "at least one"),
        ({"gammas": (2, 2)}, "each once"),
        ({"gammas": (0,)}, "gamma is 0"),
        ({"repeats": 0}, "repeats is 0"),
        ({"prompt": ""}, "prompt 0 is empty"),
        ({"prompt": [[0], [1]]}, "prompts"),
        ({"draft": TreeLM({(): [1.0]}, max_length=1)}, "the draft has 1 tokens and the target 6"),
        ({"gamma": 3}, "gamma is 3; the recorded runs have 1, 2"),
    ],
)
def test_bad_runs_are_named(settings, says):
    given = {"draft": small(1), "prompt": "ab", "max_new_tokens": 4, "gammas": (1, 2)} | settings
    with pytest.raises(ValueError, match=says):
        SpeculationTimeline.run(small(0), given.pop("draft"), WORDS, given.pop("prompt"), **given)


# ---- the page's arithmetic ------------------------------------------------------------------------------------------

HARNESS = """
const { plain, runs, moments, paces } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const { plainLane, speculativeLane, stateOf, callsAt, tokensAt, clock, pace, readPace } = speculation;
const at = (lane, t) => {
  const calls = callsAt(lane, t);
  return { calls, tokens: tokensAt(lane, calls), states: lane.parts.map((part) => stateOf(part, t)) };
};
const shown = [plainLane(plain), ...runs.map(speculativeLane)].map((lane) => (
  { end: lane.end, parts: lane.parts, moments: [...moments, Infinity].map((t) => at(lane, t)) }));
const texts = [0.0004, 0.05, 0.25, 12.345].map(clock);
const refused = ["0", "1/0", "x", "100", "-1", ""].map((text) => readPace(text) ?? null);
process.stdout.write(JSON.stringify({ shown, texts, paces: paces.map((v) => [pace(v), readPace(pace(v))]), refused }));
"""


def node() -> str:
    found = shutil.which("node")
    if found:
        return found
    driver = pytest.importorskip("playwright._impl._driver", reason="needs Node, or playwright's own (the test extra)")
    return str(driver.compute_driver_executable()[0])


def in_node(view: SpeculationTimeline, moments: list[float], paces: list[float]) -> dict:
    code = (HERE / "speculation_clock.js").read_text(encoding="utf-8")
    given = json.dumps({"plain": view._plain, "runs": view._runs, "moments": moments, "paces": paces})
    command = [node(), "--input-type=commonjs", "-e", code + HARNESS]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_page_lays_both_lanes_on_the_clock_of_the_steps():
    view = recorded()
    paces = [1, 1 / 8, 0.3, 4, 1 / 1024]
    page = in_node(view, [0.0, 0.005, 0.05, 0.1101, 0.15, 0.2], paces)
    plain, drafted = page["shown"]
    assert plain["end"] == pytest.approx(view.summary["plain_seconds"])
    assert drafted["end"] == pytest.approx(view.summary["seconds"])
    assert [moment["tokens"] for moment in plain["moments"]] == [0, 0, 0, 0, 0, 1, 10]
    assert [(moment["calls"], moment["tokens"]) for moment in drafted["moments"]] == [
        (0, 0), (0, 0), (0, 0), (1, 2), (1, 2), (1, 2), (5, 10)
    ]  # fmt: skip
    kinds = [part["kind"] for part in drafted["parts"]]
    assert kinds == [
        *("accepted", "rejected", "unused", "corrected"),
        *("accepted", "accepted", "accepted", "bonus"),
        "token",
        *("rejected", "corrected"),
        *("accepted", "accepted"),
    ]
    kept = [part["id"] for part in drafted["parts"] if part["kind"] not in ("rejected", "unused")]
    assert tuple(kept) == TEXT == tuple(part["id"] for part in plain["parts"])
    states = [moment["states"] for moment in drafted["moments"]]
    assert set(states[0]) == {"hidden"} and states[-1] == kinds
    assert states[1][:4] == ["pending", "hidden", "hidden", "hidden"]  # a third of the draft takes 3.3 ms
    assert states[2][:5] == ["pending", "pending", "pending", "hidden", "hidden"]
    assert states[3][:5] == ["accepted", "rejected", "unused", "corrected", "hidden"]
    assert page["texts"] == ["0.40\u00a0ms", "50.0\u00a0ms", "0.25\u00a0s", "12.3\u00a0s"]
    assert page["paces"][0] == ["real time", 1] and page["paces"][1] == ["1/8", 0.125] and page["paces"][3] == ["4×", 4]
    assert [value for _, value in page["paces"]] == paces  # what the field shows can be typed into it
    assert page["refused"] == [None] * 6
