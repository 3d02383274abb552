"""The decoder arena in a real browser: texts, repeats, sorting, the frontier and its links, running again."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable

import pytest
import torch

from arlab.decoding import measures
from arlab.decoding.comparison import Outcome, outcome
from arlab.decoding.records import Generation
from arlab.text.tokenizers import BPETokenizer, CharTokenizer
from arlab.views import DecoderArena
from arlab.views.arena_row import WAYS
from tests.browser.hands import (
    ATTACK,
    THEMES,
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
)

LOOP = "The cat sat on the mat and looked at the door." + " It was a nice day and the sun was out." * 7
STORY = (
    "Once there was a small girl in Paris who lived by the river, and every morning she took the boat to the other "
    "side, where an old miller kept his bees.\nOne day the bees were gone, and nobody could say why, é 😀. She went "
    "north to look for them, with a dog that did not bark at anyone but the mayor, and came home before the winter."
)
OTHER = f"In a kingdom of red clay {ATTACK} it rained once a year, so the children learnt to count by it. Paris!"
ROW = ".da-row[data-row='{}'] "
TOKENIZER = BPETokenizer.train(LOOP + STORY + OTHER, 400)
Decode = Callable[[list[int]], str]


def written(name: str, sequences: list[list[int]], decode: Decode | None, logprob=-1.0, seconds=1.0) -> Outcome:
    longest = max(map(len, sequences))
    ids = torch.tensor([[[*ids, *[0] * (longest - len(ids))] for ids in sequences]], dtype=torch.long)
    lengths = torch.tensor([[len(ids) for ids in sequences]])
    logprobs = torch.where(torch.arange(longest) < lengths[..., None], logprob, 0.0)
    finished = torch.zeros_like(lengths, dtype=torch.bool)
    return outcome(name, Generation(ids, logprobs, logprobs.sum(-1), lengths, finished), seconds, decode=decode)


def outcomes() -> list[Outcome]:
    """Ten strategies: two that agree in everything, several that lie close together, one without any token."""
    texts = [
        ("greedy", [LOOP], -0.42, 1.9),
        ("speculative, n-gram draft", [LOOP], -0.42, 0.8),
        ("beam 5", [LOOP[:240]], -0.31, 5.2),
        ("temperature 0.1", [LOOP[:200] + STORY[:20]], -0.45, 1.92),
        ("top-p 0.9", [STORY, OTHER, OTHER + STORY[:90]], -1.9, 7.4),
        ("top-k 50, temperature 0.8", [OTHER + STORY, STORY[:150]], -1.6, 7.6),
        ("contrastive α 0.1", [STORY[:200]], -1.7, 3.9),
        ("min-p 0.1", [STORY[9:250]], -1.75, 1.9),
        ("ancestral", ["".join(reversed(STORY))], -3.4, 7.5),
        ("beam 20, no penalty", [""], -1.0, 2.0),
    ]
    return [
        written(name, [TOKENIZER.encode(t) for t in some], TOKENIZER.decode, logprob, seconds)
        for name, some, logprob, seconds in texts
    ]


def full_arena(**settings) -> DecoderArena:
    settings = {"prompt_text": f"Once upon a time,\n{ATTACK}", "tokenizer": TOKENIZER} | settings
    return DecoderArena(outcomes(), **settings)


def order(page) -> list[str]:
    return page.locator(".da-row").evaluate_all("all => all.map(row => row.dataset.row)")


def pointed(page) -> tuple[list[str], list[str]]:
    """Names of the rows and of the points that are marked."""
    rows = page.locator(".da-row[data-pointed=true]").evaluate_all("all => all.map(row => row.dataset.row)")
    points = page.locator("[data-point][aria-selected=true]").evaluate_all("all => all.map(one => one.dataset.point)")
    return sorted(rows), sorted(points)


def plain(text: str) -> str:
    """The text as it stands in the page once what stands for a line end is taken out again."""
    return text.replace("⏎\n", "\n")


# -- rows and texts ------------------------------------------------------------------------------------------


def test_rows_show_the_outcomes(saved_page):
    view = full_arena()
    page = saved_page(view)
    assert order(page) == [row["name"] for row in view.rows]
    for row in view.rows:
        values = page.locator(ROW.format(row["name"]) + ".da-value").all_inner_texts()
        columns = [name for name in WAYS if name != "answer"]
        shown = dict(zip(columns, values, strict=True))
        for name in columns:
            expected = "–" if row[name] is None else f"{row[name]:.2f}".replace("-", "−")
            assert shown[name] == expected, (row["name"], name)
        text = page.locator(ROW.format(row["name"]) + ".da-text").evaluate("box => box.textContent")
        assert plain(text) == (row["samples"][0]["text"] or "no token at all")
    assert page.locator("img").count() == 0
    bars = page.locator(ROW.format("beam 5") + ".da-bar").evaluate_all(
        "all => all.map(bar => parseFloat(bar.style.width))"
    )
    beam = next(row for row in view.rows if row["name"] == "beam 5")
    wide = [2.718281828 ** beam["logprob"], beam["repetition"], beam["distinct"], beam["diversity"], 0, 5.2 / 7.6]
    assert bars == pytest.approx([100 * share for share in wide], abs=0.06)


def test_a_row_folds_to_two_lines_and_unfolds_by_click_and_enter(saved_page):
    page = saved_page(full_arena())
    text = page.locator(ROW.format("greedy") + ".da-text")
    folded = text.bounding_box()["height"]
    assert folded == pytest.approx(40, abs=1)  # two lines of 20 pixels
    about = page.locator(ROW.format("greedy") + ".da-about")
    assert not about.is_visible()
    click(text)
    assert text.bounding_box()["height"] >= 3 * 20 and about.is_visible()
    assert get(page, "unfolded") == ["greedy"]
    button = page.locator(ROW.format("greedy") + ".da-toggle")
    assert button.get_attribute("aria-expanded") == "true"
    press(page, "Enter", on=button)
    assert text.bounding_box()["height"] == folded and button.get_attribute("aria-expanded") == "false"
    press(page, "ArrowDown", "ArrowDown", "ArrowUp", "Enter")
    assert get(page, "unfolded") == ["speculative, n-gram draft"]
    press(page, "Space")
    assert get(page, "unfolded") == []
    click(page.get_by_role("button", name="Unfold all"))
    assert page.locator(".da-about:visible").count() == 10
    click(page.get_by_role("button", name="Fold all"))
    assert page.locator(".da-about:visible").count() == 0


def test_copying_text_does_not_fold_the_row(saved_page):
    page = saved_page(full_arena(unfolded=["top-p 0.9"]))
    box = page.locator(ROW.format("top-p 0.9") + ".da-text").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 30)
    page.mouse.up()
    settle(page)
    assert page.evaluate("String(getSelection())") != ""
    assert get(page, "unfolded") == ["top-p 0.9"]


def test_an_unfolded_row_tells_of_the_sample_shown_and_the_pager_turns(saved_page):
    view = full_arena(unfolded=["top-p 0.9"])
    page = saved_page(view)
    row = ROW.format("top-p 0.9")
    samples = next(each for each in view.rows if each["name"] == "top-p 0.9")["samples"]
    assert page.locator(".da-pager:visible").count() == 2  # rows with more than one text
    turns = [(None, 0), ("next text", 1), ("next text", 2), ("next text", 0), ("text before", 2)]
    for label, place in turns:
        if label:
            click(page.get_by_role("button", name=f"top-p 0.9: {label}"))
        assert page.locator(row + ".da-which").inner_text() == f"{place + 1} of 3"
        sample = samples[place]
        assert plain(page.locator(row + ".da-text").evaluate("box => box.textContent")) == sample["text"]
        told = page.locator(row + ".da-about").inner_text()
        assert told.startswith(f"{len(sample['ids'])} tokens, stopped at the limit; log p per token −1.90; 0 of its ")
    assert get(page, "unfolded") == ["top-p 0.9"]  # turning does not fold


def test_repeated_n_grams_are_those_that_the_measure_counts(saved_page):
    draw = random.Random(5)
    tokenizer = CharTokenizer("abcdefghij")
    sequences = [[draw.randrange(kinds) for _ in range(size)] for kinds in (2, 3, 10) for size in (0, 3, 4, 5, 40, 90)]
    sequences += [[0] * 30, list(range(10)) * 3]
    view = DecoderArena(
        [written("all", [ids or [0] for ids in sequences], tokenizer.decode)], prompt_text="", tokenizer=tokenizer
    )
    page = saved_page(view)
    click(page.locator(".da-text"))
    some = 0
    for sample in view.rows[0]["samples"]:
        ids, grams = sample["ids"], measures.ngrams(sample["ids"], 4)
        again = [i for i, gram in enumerate(grams) if gram in grams[:i]]
        told = page.locator(".da-about").evaluate("box => [Number(box.dataset.again), Number(box.dataset.all)]")
        assert told == [len(again), len(grams)]
        assert told[0] / max(1, told[1]) == pytest.approx(measures.repetition(ids))
        underlined = page.locator(".da-text").evaluate(
            "box => [...box.children].flatMap(part => [...part.textContent].map(() => part.className === 'da-again'))"
        )
        assert underlined == [any(i <= t < i + 4 for i in again) for t in range(len(ids))]
        some += len(again)
        click(page.get_by_role("button", name="all: next text"))
    assert some > 100
    click(page.get_by_label("underline repeated 4-grams"))
    for _ in sequences:
        assert page.locator(".da-again").count() == 0
        click(page.get_by_role("button", name="all: next text"))


def test_without_a_tokenizer_nothing_is_underlined_and_the_page_says_why(saved_page):
    page = saved_page(full_arena(tokenizer=None))
    assert page.locator(".da-again").count() == 0 and page.get_by_label("underline repeated").count() == 0
    assert page.get_by_text("Without a tokenizer the texts cannot be cut where tokens end").is_visible()
    text = page.locator(ROW.format("top-p 0.9") + ".da-text").evaluate("box => box.textContent")
    assert plain(text) == STORY


def test_texts_with_the_expected_answer_are_marked(saved_page):
    view = full_arena(answer=["Paris", "bark at anyone"])
    page = saved_page(view)
    assert "Expected answer: Paris or bark at anyone." in page.locator(".da-expected").inner_text()
    cells = page.locator("td[data-measure=answer]").evaluate_all("all => all.map(cell => cell.textContent)")
    single = {True: "✓ yes", False: "✗ no"}
    for cell, (_, found) in zip(cells, view.answered.items(), strict=True):
        many = f"{'✓' if any(found) else '✗'} {sum(found)}/{len(found)}"
        assert cell == (single[found[0]] if len(found) == 1 else many)
    assert "✓ 3/3" in cells and "✗ no" in cells
    marked = page.locator(ROW.format("top-p 0.9") + ".da-answer").all_inner_texts()
    assert marked == ["Paris", "bark at anyone"]
    text = page.locator(ROW.format("top-p 0.9") + ".da-text").evaluate("box => box.textContent")
    assert plain(text) == STORY  # nothing is lost where a mark begins within a token, nor after an emoji


# -- sorting -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["logprob", "repetition", "distinct", "diversity", "seconds", "name", "answer"])
def test_a_column_is_sorted_from_its_best_end_then_the_other_then_as_given(saved_page, column):
    view = full_arena(answer="Paris")
    page = saved_page(view)
    given = order(page)
    falling = column != "name" and WAYS[column] > 0
    header = page.locator(f"th[data-column={column}]")
    header.locator("button").focus()
    for down in (falling, not falling):
        press(page, "Enter")
        values = {row["name"]: row[column] for row in view.rows}
        there = sorted((n for n in given if values[n] is not None), key=lambda n: values[n], reverse=down)
        assert [values[name] for name in order(page)] == [values[n] for n in there] + [None] * (10 - len(there))
        for _, equal in itertools.groupby(order(page), key=lambda name: values[name]):
            places = [given.index(name) for name in equal]
            assert places == sorted(places)
        assert header.get_attribute("aria-sort") == ("descending" if down else "ascending")
    press(page, "Enter")
    assert order(page) == given and header.get_attribute("aria-sort") == "none"
    assert page.evaluate("document.activeElement.closest('th')?.dataset.column") == column
    assert page.locator("[aria-sort=ascending], [aria-sort=descending]").count() == 0


# -- the frontier --------------------------------------------------------------------------------------------


def test_the_line_is_the_library_s_for_every_pair_of_axes(saved_page):
    view = full_arena(answer="Paris")
    page = saved_page(view)
    for x, y in itertools.product(WAYS, repeat=2):
        page.locator("select[data-trait=x]").select_option(x)
        page.locator("select[data-trait=y]").select_option(y)
        settle(page)
        on = page.locator("[data-point][data-line='1']").evaluate_all("all => all.map(one => one.dataset.point)")
        assert sorted(on) == sorted(view.frontier(x, y)), (x, y)
        drawn = page.locator("[data-point]").evaluate_all("all => all.map(one => one.dataset.point)")
        assert sorted(drawn) == sorted(row["name"] for row in view.rows if None not in (row[x], row[y]))
        line = page.locator(".fr-line").get_attribute("points").split()
        corners = 2 * len({tuple(row[axis] for axis in (x, y)) for row in view.rows if row["name"] in on}) - 1
        assert len(set(line)) <= corners
    assert get(page, "x", "y") == ["answer", "answer"]


def test_points_stand_where_their_measures_are(saved_page):
    view = full_arena(x="seconds", y="repetition")
    page = saved_page(view)
    numbers = "(one, ...names) => names.map(name => Number(one.getAttribute(name)))"
    marks = dict(
        page.locator("[data-point]").evaluate_all(
            f"all => all.map(one => [one.dataset.point, ({numbers})(one.querySelector('circle'), 'cx', 'cy')])"
        )
    )
    ticks = page.locator(".fr-tick").evaluate_all(
        f"all => all.map(one => [one.getAttribute('text-anchor'), +one.textContent, ...({numbers})(one, 'x', 'y')])"
    )
    across = [(value, x) for anchor, value, x, _ in ticks if anchor == "middle"]
    upwards = [(value, y - 4) for anchor, value, _, y in ticks if anchor == "end"]
    assert len(across) >= 3 and len(upwards) >= 3

    def at(scale: list[tuple[float, float]], value: float) -> float:
        (a, low), (b, high) = scale[0], scale[-1]
        return low + (value - a) / (b - a) * (high - low)

    for row in view.rows:
        expected = (at(across, row["seconds"]), at(upwards, row["repetition"]))
        assert marks[row["name"]] == pytest.approx(expected, abs=0.01)
    names = page.locator(".fr-name").all_text_contents()
    assert names == ["seconds (← quicker)", "repetition (↓ repeats less)"]


def label_boxes(page) -> list[list[float]]:
    """left, top, right, bottom of each name that can be seen."""
    return page.locator(".fr-label:visible").evaluate_all(
        "all => all.map(one => { const b = one.getBBox(); return [b.x, b.y, b.x + b.width, b.y + b.height]; })"
    )


def overlap(a: list[float], b: list[float]) -> bool:
    """By more than a pixel of the leading above and below their letters."""
    return min(a[2], b[2]) - max(a[0], b[0]) > 0 and min(a[3], b[3]) - max(a[1], b[1]) > 1


@pytest.mark.parametrize("width", [600, 1000])
def test_names_do_not_overlap(saved_page, width):
    page = saved_page(full_arena(answer="Paris"), width=width)
    for x, y in [("logprob", "diversity"), ("repetition", "distinct"), ("seconds", "logprob"), ("answer", "diversity")]:
        put(page, x=x, y=y)
        boxes = label_boxes(page)
        plot = page.locator(".fr-plot").bounding_box()
        assert len(boxes) >= 9
        for left, top, right, bottom in boxes:
            assert left >= 50 and right <= plot["width"] and top >= 10 and bottom <= plot["height"] - 40
        for a, b in itertools.combinations(boxes, 2):
            assert not overlap(a, b), (x, y, a, b)


def crowd() -> DecoderArena:
    """Twenty-four strategies, many of them in one place."""
    draw = random.Random(1)
    some = []
    for n in range(24):
        ids = [draw.randrange(2 + n % 5) for _ in range(30)]
        some.append(written(f"strategy number {n}", [ids], None, -1 - n % 4 / 10, 1 + n % 3))
    return DecoderArena(some, prompt_text="")


CROSSINGS = """() => {
  const numbers = (e, ...names) => names.map((name) => Number(e.getAttribute(name)));
  const side = (p, q, r) => Math.sign((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]));
  const cross = ([p, q], [r, s]) => side(p, q, r) * side(p, q, s) < 0 && side(r, s, p) * side(r, s, q) < 0;
  const lines = [...document.querySelectorAll(".fr-leader")];
  const leaders = lines.map((e) => [numbers(e, "x1", "y1"), numbers(e, "x2", "y2")]);
  const pairs = document.querySelector(".fr-line").getAttribute("points").split(" ");
  const corners = pairs.map((pair) => pair.split(",").map(Number));
  const labels = [...document.querySelectorAll(".fr-label")].filter((e) => e.checkVisibility()).map((e) => {
    const { x, y, width, height } = e.getBBox();
    const [left, right, top, bottom] = [x + 1, x + width - 1, y + 3, y + height - 3];
    return [[[left, top], [right, bottom]], [[left, bottom], [right, top]]];
  });
  const through = (line) => labels.filter(([a, b]) => cross(line, a) || cross(line, b)).length;
  return {
    leaders: leaders.length,
    crossing: leaders.flatMap((a, i) => leaders.slice(i + 1).filter((b) => cross(a, b))).length,
    through: leaders.reduce((sum, line) => sum + through(line), 0),
    line: corners.slice(1).reduce((sum, corner, i) => sum + through([corners[i], corner]), 0),
  };
}"""


@pytest.mark.parametrize("width", [600, 800, 1000])
def test_lines_to_names_cross_neither_each_other_nor_a_name(saved_page, width):
    some = 0
    for view in (full_arena(answer="Paris"), crowd()):
        page = saved_page(view, width=width)
        for x, y in [
            ("logprob", "diversity"),
            ("seconds", "logprob"),
            ("seconds", "distinct"),
            ("repetition", "diversity"),
        ]:
            put(page, x=x, y=y)
            found = page.evaluate(CROSSINGS)
            some += found.pop("leaders")
            assert found == {"crossing": 0, "through": 0, "line": 0}, (x, y, found)
    assert some > 10


def test_of_twenty_four_names_those_without_room_are_shown_when_chosen(saved_page):
    page = saved_page(crowd(), width=600)
    boxes = label_boxes(page)
    assert len(boxes) >= 12 and not any(overlap(a, b) for a, b in itertools.combinations(boxes, 2))
    assert page.locator("[data-line='1'] > .fr-label:visible").count() == page.locator("[data-line='1']").count()
    unnamed = page.locator("[data-named='0']").evaluate_all("all => all.map(one => one.dataset.point)")
    assert len(boxes) + len(unnamed) == 24 and unnamed
    row = ROW.format(unnamed[0])
    label = page.locator(f"[data-label='{unnamed[0]}']")
    assert not label.is_visible()
    page.locator(row + ".da-text").hover()
    settle(page)
    assert label.is_visible()


def test_a_row_marks_its_point_and_a_point_its_row(saved_page):
    page = saved_page(full_arena())
    assert pointed(page) == ([], [])
    page.locator(ROW.format("beam 5") + ".da-text").hover()
    settle(page)
    assert pointed(page) == (["beam 5"], ["beam 5"])
    readout = page.locator(".fr-readout")
    assert re.fullmatch(r"beam 5: log p per token −0\.31, diversity 0\.\d\d; on the line\.", readout.inner_text())
    mark = page.locator("[data-point='ancestral'] circle").bounding_box()
    page.mouse.move(mark["x"] + 4, mark["y"] + 4)
    settle(page)
    assert pointed(page) == (["ancestral"], ["ancestral"])
    both = ["greedy", "speculative, n-gram draft"]  # one and the same point
    mark = page.locator("[data-point='greedy'] circle").bounding_box()
    page.mouse.move(mark["x"] + 6, mark["y"] + 6)
    settle(page)
    assert pointed(page) == (both, both)
    page.locator("[data-label='greedy']").hover()
    settle(page)
    assert pointed(page) == (["greedy"], ["greedy"])
    page.mouse.move(5, 5)
    settle(page)
    assert pointed(page) == ([], []) and readout.inner_text().startswith("On the line are those")


def test_the_keyboard_links_both_ways(saved_page):
    page = saved_page(full_arena())
    page.locator(ROW.format("min-p 0.1") + ".da-toggle").focus()
    settle(page)
    assert pointed(page) == (["min-p 0.1"], ["min-p 0.1"])
    page.locator(ROW.format("beam 5") + ".da-text").hover()
    settle(page)
    assert pointed(page)[0] == ["beam 5"]
    page.mouse.move(5, 5)  # the hand is gone, the focus still there
    settle(page)
    assert pointed(page)[0] == ["min-p 0.1"]
    field = page.locator(".fr-field")
    press(page, "ArrowRight", on=field)
    assert pointed(page) == (["ancestral"], ["ancestral"])  # the one farthest left
    chosen = field.get_attribute("aria-activedescendant")
    assert page.locator(f"[id='{chosen}']").get_attribute("aria-label") == "ancestral"
    press(page, "ArrowRight", "ArrowRight", "ArrowLeft")
    assert pointed(page)[0] == ["top-p 0.9"]
    press(page, "End", "Enter")
    assert pointed(page)[0] == ["beam 5"]
    assert get(page, "unfolded") == ["beam 5"]
    press(page, "Escape")
    assert pointed(page) == ([], [])
    press(page, "ArrowLeft")
    assert pointed(page)[0] == ["beam 5"]


def test_a_click_on_a_point_unfolds_its_row_and_brings_it_into_sight(saved_page):
    page = saved_page(full_arena())
    row = page.locator(ROW.format("ancestral"))
    assert row.bounding_box()["y"] > 1000  # below the window
    click(page.locator("[data-label='ancestral']"))
    assert get(page, "unfolded") == ["ancestral"]
    assert row.bounding_box()["y"] + 40 < 1000


def test_one_strategy_alone_is_drawn(saved_page):
    page = saved_page(DecoderArena([written("one", [[1, 2, 3]], None)], prompt_text=""))
    assert page.locator("[data-point]").count() == 1 and page.locator("[data-line='1']").count() == 1
    page = saved_page(DecoderArena([written("none", [[]], None)], prompt_text=""))
    assert page.locator("[data-point]").count() == 0
    assert page.get_by_text("No strategy has both measures.").is_visible()


# -- the page as such ----------------------------------------------------------------------------------------


def test_a_saved_page_says_why_it_cannot_run(saved_page):
    page = saved_page(full_arena(seed=3))
    assert page.get_by_role("button", name="Run").is_disabled()
    assert page.get_by_role("button", name="Next seed").is_disabled()
    assert page.get_by_label("Seed", exact=True).is_disabled()
    assert page.get_by_label("Seed", exact=True).input_value() == "3"
    assert "open the notebook and run it" in page.locator(".da-state").inner_text()


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", [600, 1000])
def test_it_can_be_read_in_both_themes(saved_page, theme, width):
    view = full_arena(answer="Paris", unfolded=["top-p 0.9", "greedy"])
    page = saved_page(view, theme=theme, width=width)
    page.locator(ROW.format("greedy") + ".da-text").hover()
    settle(page)
    assert_readable(page, theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    heads = page.locator(".da-table thead th").evaluate_all(
        "all => all.map(one => { const text = document.createRange(); text.selectNodeContents(one);"
        " const box = text.getBoundingClientRect(); return [box.left, box.right]; })"
    )
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(heads)), heads


CELLS = [
    """
import os, time
from functools import partial
from arlab.decoding import greedy, sample
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.text.tokenizers import CharTokenizer
from arlab.views import DecoderArena
tokenizer = CharTokenizer("to be or not to be: that is the question.")
size = {"d_model": 16, "layers": 1, "heads": 2}
model = DecoderLM(DecoderConfig(vocab_size=tokenizer.vocab_size, context_length=99, **size), seed=0)
state = {"gate": "", "fails": False}
def slow(prompt, *, max_new_tokens, generator):
    if state["fails"]:
        raise ValueError("no more <tokens>")
    while os.path.exists(state["gate"]):
        time.sleep(0.01)
    return sample(model, prompt, max_new_tokens=max_new_tokens, generator=generator)
strategies = {"ancestral": partial(sample, model, n=2), "slow": slow, "greedy": partial(greedy, model)}
view = DecoderArena.run(strategies, tokenizer, "to be", max_new_tokens=40)
""",
    "view",
]


def texts(page) -> dict[str, str]:
    pairs = "all => all.map(row => [row.dataset.row, row.querySelector('.da-text').textContent])"
    return dict(page.locator(".da-row").evaluate_all(pairs))


def test_in_jupyterlab_the_kernel_runs_and_rows_come_one_by_one(lab_notebook, tmp_path):
    page = lab_notebook(CELLS, theme="JupyterLab Dark")
    seed, run = page.get_by_label("Seed", exact=True), page.get_by_role("button", name="Run", exact=True)
    told = page.locator(".da-state")

    def all_from(number: int) -> None:
        eventually(told.inner_text, lambda text: text.startswith(f"All rows are from seed {number}"))

    seed.wait_for()
    all_from(0)
    first = texts(page)
    gate = tmp_path / "closed"  # the slow strategy waits while this file is there
    gate.touch()
    in_kernel(page, f"state['gate'] = {str(gate)!r}")
    enter(seed, "7")  # Enter, which JupyterLab must not take for its own
    page.locator(ROW.format("slow") + ".da-chip:text('running')").wait_for()
    # the first row is here, the second is being made, the third waits
    middle = texts(page)
    assert middle["ancestral"] != first["ancestral"] and middle["slow"] == first["slow"]
    states = page.locator(".da-row").evaluate_all("all => all.map(row => row.dataset.state)")
    assert states == ["", "running", "waiting"]
    assert told.inner_text() == "slow is running, 2 of 3 …"
    assert run.is_disabled()
    gate.unlink()
    all_from(7)
    last = texts(page)
    assert last["slow"] != first["slow"] and last["greedy"] == first["greedy"]
    kernel = from_kernel(page, "[view.seed, *[each.texts[0] for each in view.outcomes]]")
    assert kernel == [7, *(plain(last[name]) for name in ("ancestral", "slow", "greedy"))]

    page.get_by_role("button", name="Next seed").click()
    all_from(8)
    assert seed.input_value() == "8" and texts(page)["slow"] != last["slow"]
    in_kernel(page, "view.seed = 0")
    all_from(0)
    assert texts(page) == first and seed.input_value() == "0"

    in_kernel(page, "state['fails'] = True")
    seed.fill("1")
    run.click()
    page.locator(".al-banner:visible").wait_for()
    assert page.locator(".al-banner").inner_text() == "slow: no more <tokens>"
    eventually(page.locator(".da-chip").all_text_contents, ["", "seed 0", "seed 0"])
    assert told.inner_text() == "2 of 3 rows are from an earlier seed."
    seed.fill("one")
    run.click()
    assert "The seed is “one”" in page.locator(".al-banner").inner_text()
    assert seed.get_attribute("aria-invalid") == "true"
    in_kernel(page, "state['fails'] = False")
    seed.fill("1")
    run.click()
    all_from(1)
    page.wait_for_selector(".al-banner", state="hidden")

    in_kernel(page, "view.sort = 'name'; view.descending = True; view.x = 'seconds'; view.unfolded = ['slow']")
    page.locator(ROW.format("slow") + ".da-about").wait_for()
    assert order(page)[0] == "slow" and page.locator("select[data-trait=x]").input_value() == "seconds"
    page.locator("select[data-trait=y]").select_option("repetition")
    press(page, "Enter", on=ROW.format("greedy") + ".da-toggle")
    eventually(lambda: from_kernel(page, "[view.y, view.unfolded]"), ["repetition", ["slow", "greedy"]])
    assert_readable(page, "dark")


def test_finished_outcomes_in_jupyterlab_say_that_they_cannot_run(lab_notebook):
    cells = [*CELLS[:1], "DecoderArena(view.outcomes, prompt_text='to be', tokenizer=tokenizer)"]
    page = lab_notebook(cells)
    page.get_by_text("Made from finished outcomes: there are no strategies to run.").wait_for()
    assert page.get_by_role("button", name="Run", exact=True).is_disabled()
