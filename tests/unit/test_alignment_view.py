"""The alignment view without a browser: the score against known spans, what page and kernel share, refusals, models."""

from __future__ import annotations

import copy
import json
import math
import shutil
import subprocess

import pytest
import torch
import traitlets

from arlab.nn.attention import record_attention
from arlab.nn.seq2seq import Seq2SeqConfig, Seq2SeqTransformer
from arlab.text.tokenizers import CharTokenizer
from arlab.views import AlignmentView
from arlab.views.alignment_view import alignment_score
from arlab.views.base import HERE

SOURCE, TARGET = CharTokenizer("abcdef "), CharTokenizer("0123", special=["<bos>", "<eos>"])
BOS, EOS = TARGET.bos_id, TARGET.eos_id
IDS = {"bos_id": BOS, "eos_id": EOS, "max_new_tokens": 6}


@pytest.fixture(scope="module")
def model() -> Seq2SeqTransformer:
    config = Seq2SeqConfig(7, 6, 12, 8, d_model=16, encoder_layers=1, layers=2, heads=2, bos_id=BOS, dropout=0.5)
    return Seq2SeqTransformer(config, seed=1)


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return (3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).softmax(-1)


# -- the score -----------------------------------------------------------------------------------------------------


def test_a_score_that_is_known():
    weights = torch.tensor([[0.5, 0.25, 0.25, 0], [0, 0.25, 0.75, 0], [0, 0, 0, 1.0], [0.25, 0.5, 0.25, 0]])
    score = alignment_score(weights, [(0, 1), (0, 2), None, (1, 3)])
    assert (score.inside.item(), score.counted) == (2, 3)
    assert score.mass.item() == pytest.approx((0.5 + 0.25 + 0.75) / 3)


def test_ties_go_to_the_first_position_and_zeros_are_nowhere():
    weights = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0, 0]])
    assert alignment_score(weights, [(0, 1), (1, 2), (0, 1)]).inside == 1
    assert alignment_score(weights, [(0, 1), (1, 2), (0, 2)]).inside == 1, "a row of zeros has no heaviest position"


def test_many_maps_are_scored_at_once_as_one_by_one():
    weights, gold = draws(3, 4, 7, 9), [(0, 2), None, (4, 9), (1, 2), (3, 4)]  # the last two have no entry
    score = alignment_score(weights, gold)
    assert score.inside.shape == score.mass.shape == (3, 4) and score.counted == 4
    for layer in range(3):
        for head in range(4):
            one = alignment_score(weights[layer, head], gold)
            assert one.inside == score.inside[layer, head] and torch.equal(one.mass, score.mass[layer, head])


def test_nothing_counted_is_no_share():
    score = alignment_score(draws(2, 3), [None, None])
    assert score.counted == score.inside == 0 and math.isnan(score.mass)


# -- page and kernel --------------------------------------------------------------------------------------------------

HARNESS = """
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(cases.map(({ bytes, shape, gold }) => {
  const a = new Alignment(new Float32Array(Uint8Array.from(bytes).buffer), shape, gold);
  const heads = ["mean", ...Array.from({ length: shape[1] }, (_, n) => n)];
  return { best: a.best(), scores: heads.map((head) => a.score(a.map(shape[0] - 1, head))),
    heaviest: Array.from({ length: shape[2] }, (_, i) => a.heaviest(a.map(0, 0), i)), blocks: a.blocks() };
})));
"""


def node() -> str:
    found = shutil.which("node")
    if found:
        return found
    driver = pytest.importorskip("playwright._impl._driver", reason="needs Node, or playwright's own (the test extra)")
    return str(driver.compute_driver_executable()[0])


def in_javascript(views: list[AlignmentView]) -> list[dict]:
    cases = [{"bytes": list(view._weights), "shape": view.shape, "gold": view.gold} for view in views]
    code = (HERE / "alignment.js").read_text(encoding="utf-8") + HARNESS
    done = subprocess.run(
        [node(), "--input-type=commonjs", "-e", code],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_page_scores_as_python_does():
    generator = torch.Generator().manual_seed(5)
    views = []
    for seed in range(8):
        layers, heads, targets, sources = (int(n) for n in torch.randint(1, 6, (4,), generator=generator))
        weights = draws(layers, heads, targets, sources, seed=seed)
        if seed % 2:  # a coarse grid, so that heads, positions and means tie
            weights = (weights * 4).floor() / 4
        starts = torch.randint(0, sources, (targets,), generator=generator).tolist()
        gold = [(start, min(sources, start + 2)) for start in starts[:-1]]  # the last has none
        views.append(AlignmentView(weights, "s" * sources, "t" * targets, gold=gold or [(0, 1)]))
    for view, page in zip(views, in_javascript(views), strict=True):
        last = view.shape[0] - 1
        for head, score in zip(["mean", *range(view.shape[1])], page["scores"], strict=True):
            view.layer, view.head = last, head
            assert (score["inside"], score["counted"]) == (view.score.inside, view.score.counted)
            assert score["mass"] == pytest.approx(float(view.score.mass))
        assert (page["best"]["layer"], page["best"]["head"]) == view.best
        assert page["best"]["inside"] == view.scores.inside.max()
        heaviest = [int(row.argmax()) if row.max() > 0 else -1 for row in view.weights[0, 0]]
        assert page["heaviest"] == heaviest


def test_neighbours_with_one_span_are_one_block():
    view = AlignmentView(draws(6, 9), "s" * 9, "t" * 6, gold=[(3, 7), (3, 7), None, (3, 7), (0, 2), (0, 2)])
    blocks = [tuple(block.values()) for block in in_javascript([view])[0]["blocks"]]
    assert blocks == [(0, 2, 3, 7), (3, 4, 3, 7), (4, 6, 0, 2)]  # from, to, start, end


# -- the view ----------------------------------------------------------------------------------------------------------


def test_a_map_of_its_own_gets_the_missing_axes():
    weights = draws(2, 3)
    view = AlignmentView(weights, "abc", ["x", "<eos>"])
    assert view.shape == [1, 1, 2, 3] and torch.equal(view.map, weights.double())
    assert view.source == int(weights[0].argmax())
    assert AlignmentView(draws(5, 2, 3), "abc", "xy").shape == [1, 5, 2, 3]


def test_the_mean_and_one_head():
    weights = draws(2, 3, 4, 5)
    view = AlignmentView(weights, "abcde", "wxyz", layer=1, head="mean", target=2)
    assert torch.allclose(view.row, weights[1].double().mean(0)[2])
    view.head = 2
    assert torch.equal(view.row, weights[1, 2, 2].double())
    assert view.describe() == "Alignment: 4 target x 5 source tokens, 2 layers x 3 heads"


def test_a_model_s_own_attention_is_shown_and_decoded_anew(model):
    model.train()
    view = AlignmentView.run(model, SOURCE, TARGET, "abc fed", **IDS, gold=lambda source, said: [(0, len(source))])
    assert model.training and all(module.training for module in model.modules())
    ids = [TARGET.token_strings().index(token) for token in view.target_tokens]
    model.eval()
    with torch.no_grad(), record_attention(model) as maps:
        logits = model.given(SOURCE.encode("abc fed"))(torch.tensor([[BOS, *ids[:-1]]]))
    assert logits.argmax(-1)[0].tolist() == ids, "the tokens shown are not the greedy ones"
    assert torch.allclose(view.weights, maps.cross.stack()[:, 0])
    assert view.source_tokens == list("abc fed") and (ids[-1] == EOS or len(ids) == 6)
    assert view.score.counted == 1 and view.score.mass == pytest.approx(1)

    seen = []
    view.observe(lambda change: seen.append(change["new"]), "source_text")
    first = view.weights
    view.source_text = "fa"
    assert view.source_tokens == ["f", "a"] and seen == ["fa"] and view.gold[0] == [0, 2]
    view.source_text = "abc fed"
    assert torch.allclose(view.weights, first)


def test_the_note_tells_how_probable_the_text_is(model):
    view = AlignmentView.run(model.eval(), SOURCE, TARGET, "dad", **IDS | {"max_new_tokens": 2})
    ids = [TARGET.token_strings().index(token) for token in view.target_tokens]
    with torch.no_grad():
        logits = model.given(SOURCE.encode("dad"))(torch.tensor([[BOS, *ids[:-1]]]))[0]
    total = logits.double().log_softmax(-1)[range(len(ids)), ids].sum()
    cut = "" if ids[-1] == EOS else "; cut off after 2 tokens"
    assert view.note == f"Written greedily, log p = {total:.2f}{cut}.".replace("-", "−")


def test_the_gold_spans_are_asked_for_what_was_written(model):
    asked = []

    def gold(source, said):
        asked.append((source, said))
        return [(0, 1)] * 40  # more than can have been written

    view = AlignmentView.run(model, SOURCE, TARGET, "ab", **IDS, gold=gold)
    written = "".join(token for token in view.target_tokens if token != "<eos>")
    assert asked == [("ab", written)] and len(view.gold) == len(view.target_tokens)
    plain = AlignmentView.run(model, SOURCE, TARGET, "ab", **IDS, gold=lambda source, said: None)
    assert plain.gold == []


def test_why_there_is_no_gold_alignment_stands_in_the_note(model):
    def gold(source, said):
        if source == "ba":
            raise ValueError("'ba' does not exist")
        return [(0, 1)]

    view = AlignmentView.run(model, SOURCE, TARGET, "ab", **IDS, gold=gold)
    view.source_text = "ba"
    assert view.source_tokens == ["b", "a"] and view.gold == []
    assert view.note.startswith("Written greedily") and view.note.endswith(". No alignment: 'ba' does not exist.")
    view.source_text = "ab"
    assert view.gold[0] == [0, 1] and "No alignment" not in view.note


def test_a_refused_source_leaves_everything_as_it_was(as_shipped, model):
    view = AlignmentView.run(model, SOURCE, TARGET, "abc", **IDS)
    before = view.weights
    for text, message in [
        ("", "has 0 tokens"),
        ("xyz", "character 'x' at position 0 is unknown"),
        ("a" * 13, "13 tokens; the model reads 12"),
        ("a" * 200, "has 200 tokens; 1 to 128"),
    ]:
        with pytest.raises(ValueError, match=message):
            view.source_text = text
        assert view.source_text == "abc" and view.weights is before


def test_a_gold_alignment_that_does_not_fit_leaves_everything_as_it_was(as_shipped, model):
    """Refused before the new text is there: a text beside the maps of another one would be a lie."""
    spans = {"abc": [(0, 1)], "fed": [(2, 9)]}
    view = AlignmentView.run(model, SOURCE, TARGET, "abc", **IDS, gold=lambda text, said: spans[text])
    before = (view.weights, view.gold, view.note)
    with pytest.raises(ValueError, match=r"gold\[0\] is \[2, 9\]"):
        view.source_text = "fed"
    assert (view.source_text, view.source_tokens) == ("abc", list("abc"))
    assert all(now is then for now, then in zip((view.weights, view.gold, view.note), before, strict=True))


def test_the_gold_alignment_and_the_tokens_can_be_set(as_shipped):
    view = AlignmentView(torch.tensor([[0.5, 0.25, 0.25], [0, 0.25, 0.75]]), "abc", "xy")
    view.gold = [(0, 1)]
    assert view.gold == [[0, 1], None] and (view.score.inside, view.score.counted) == (1, 1)
    for name, value, message in [
        ("gold", [(0, 4)], r"gold\[0\] is \[0, 4\]; needed None or \(start, end\)"),
        ("gold", [None] * 3, "gold has 3 entries for 2 target tokens"),
        ("source_tokens", ["a"], "source_tokens has 1 strings; the maps have 3"),
        ("target_tokens", [], "target_tokens has 0 strings; the maps have 2"),
    ]:
        before = getattr(view, name)
        with pytest.raises(traitlets.TraitError, match=message):
            setattr(view, name, value)
        assert getattr(view, name) == before
    view.gold, view.source_tokens = [], ["A", "B", "C"]
    assert view.gold == [] and view.source_tokens == ["A", "B", "C"]


@pytest.mark.parametrize("asked", ["by the page", "from Python"])
def test_the_same_source_is_read_again_when_asked(model, asked):
    """The weights may have moved meanwhile: the page's button must not show the old maps for ever."""
    own = copy.deepcopy(model)
    view = AlignmentView.run(own, SOURCE, TARGET, "abc", **IDS)
    before = view.weights[..., :1, :]
    with torch.no_grad():
        for block in own.decoder:
            block.cross.q.weight.mul_(20)
    if asked == "from Python":
        view.source_text = "abc"
    else:
        view._answer(view, {"ask": "source", "number": 1, "payload": {"text": "abc"}}, [])
    assert not torch.allclose(view.weights[..., :1, :], before)


WORLD = {"weights": torch.full((2, 3), 1 / 3), "source_tokens": "abc", "target_tokens": "xy"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": torch.ones(3) / 3}, "weights has shape"),
        ({"source_tokens": "ab"}, "2 targets x 3 sources, but there are 2 target tokens and 2 source tokens"),
        ({"weights": torch.zeros(0, 3), "target_tokens": ""}, "1 to 128 tokens a side"),
        ({"weights": torch.zeros(2, 200), "source_tokens": "a" * 200}, "1 to 128 tokens a side"),
        ({"weights": torch.ones(2, 3)}, "no row of them sums to more than 1"),
        ({"weights": torch.full((2, 3), torch.nan)}, "weights are 0 or more"),
        ({"weights": -torch.eye(2, 3)}, "weights are 0 or more"),
        ({"layer": 1}, "layer is 1; it must be from 0 to 0"),
        ({"head": 1}, 'head is 1; it must be "mean" or from 0 to 0'),
        ({"head": "all"}, "head is 'all'"),
        ({"target": 2}, "target is 2; it must be from 0 to 1"),
        ({"gold": [(0, 1)] * 3}, "gold has 3 entries for 2 target tokens"),
        ({"gold": [None, (1, 1)]}, r"gold\[1\] is \[1, 1\]; needed None or \(start, end\)"),
        ({"gold": [(2, 4)]}, "0 <= start < end <= 3"),
    ],
)
def test_what_it_refuses(as_shipped, given, message):
    with pytest.raises(ValueError, match=message):
        AlignmentView(**WORLD | given)


def test_ready_weights_have_no_other_source_and_no_score_without_gold():
    view = AlignmentView(**WORLD)
    with pytest.raises(ValueError, match="ready made"):
        view.source_text = "abcd"
    with pytest.raises(ValueError, match="no gold alignment"):
        view.score  # noqa: B018


def test_a_model_without_cross_attention_has_no_alignment(as_shipped):
    class Deaf:
        def given(self, source):
            from arlab.worlds import TreeLM

            return TreeLM({}, max_length=4, eos_id=5, default=[1 / 6] * 6)

    with pytest.raises(ValueError, match="Deaf has no cross-attention"):
        AlignmentView.run(Deaf(), SOURCE, TARGET, "abc", bos_id=6, eos_id=5, max_new_tokens=3)
    with pytest.raises(ValueError, match="max_new_tokens is 0; it must be from 1 to 128"):
        AlignmentView.run(Deaf(), SOURCE, TARGET, "abc", bos_id=6, eos_id=5, max_new_tokens=0)


def test_a_page_of_the_largest_size_is_small(tmp_path):
    view = AlignmentView(draws(4, 8, 60, 60), ["x"] * 60, ["y"] * 60)
    assert view.save_html(tmp_path / "view.html").stat().st_size < 1_000_000
