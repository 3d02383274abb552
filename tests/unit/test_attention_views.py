"""The attention views without a browser: what they compute in Python, and the input they refuse."""

import copy
import math

import pytest
import torch

from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.views.attention_explorer import AttentionExplorer, head_figures
from arlab.views.attention_workbench import AttentionWorkbench
from arlab.views.mask_workbench import MaskWorkbench, preset_mask


class Letters:
    def encode(self, text):
        return ["abc".index(letter) for letter in text]

    def token_strings(self):
        return ["a", "b", "c"]


@pytest.fixture(scope="module")
def model():
    config = DecoderConfig.gpt2(vocab_size=3, context_length=200, d_model=8, layers=2, heads=2, dropout=0.5)
    return DecoderLM(config, seed=0)


def test_figures_of_heads_that_are_known():
    time = 5
    previous = torch.zeros(time, time)
    previous[range(1, time), range(time - 1)] = 1
    previous[0, 0] = 1
    uniform = torch.ones(time, time).tril() / torch.arange(1, time + 1)[:, None]
    figures = head_figures(torch.stack([previous, torch.eye(time), uniform])[None])
    assert figures.previous[0].tolist()[:2] == [1, 0]
    assert figures.itself[0].tolist()[:2] == [0, 1]
    assert figures.first[0].tolist() == pytest.approx([1 / 4, 0, (1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 4])
    assert figures.entropy[0].tolist() == pytest.approx([0, 0, sum(map(math.log, (2, 3, 4, 5))) / 4])


def test_figures_of_a_rectangular_map_have_no_diagonal():
    figures = head_figures(torch.full((1, 1, 2, 4), 0.25))
    assert figures.previous.isnan().all() and figures.itself.isnan().all()
    assert figures.entropy.item() == pytest.approx(math.log(4))


def test_what_the_page_gets_is_close_and_zero_stays_zero():
    weights = torch.tensor([[[[1.0, 0, 0], [0.123456, 0.876543, 1e-6], [1 / 3, 1 / 3, 1 / 3]]]])
    view = AttentionExplorer.from_maps(weights, "abc")
    sent = torch.frombuffer(bytearray(view.weights), dtype=torch.uint16).double().view(3, 3) / 65535
    assert (sent - weights[0, 0]).abs().max() <= 0.5 / 65535 + 1 / 65535  # the last for what is lifted off 0
    assert torch.equal(sent == 0, weights[0, 0] == 0)


def test_a_new_text_is_measured_and_the_mode_kept(model):
    model.train()
    view = AttentionExplorer(model, Letters(), "abc")
    assert model.training and all(module.training for module in model.modules())
    assert (view.shape, view.query, view.tokens) == ([2, 2, 3, 3], 2, ["a", "b", "c"])
    first = view.maps
    view.text = "cabba"
    assert (view.shape, view.query, view.tokens) == ([2, 2, 5, 5], 4, list("cabba"))
    view.text = "abc"
    assert torch.equal(view.maps, first), "dropout was on, or the text did not come back"
    assert view.row.sum().item() == pytest.approx(1)


def test_a_page_of_the_real_model_s_size_is_small(tmp_path):
    weights = torch.ones(30, 9, 40, 40).tril()
    view = AttentionExplorer.from_maps(weights / weights.sum(-1, keepdim=True), ["x"] * 40)
    assert view.save_html(tmp_path / "view.html").stat().st_size < 1_400_000


def test_the_same_text_is_measured_again_when_asked(model):
    """The weights may have moved meanwhile: the page's button must not show the old maps for ever."""
    own = copy.deepcopy(model)
    view = AttentionExplorer(own, Letters(), "abc")
    before = view.maps
    with torch.no_grad():
        own.blocks[0].attn.qkv.weight.mul_(40)
    view._answer(view, {"ask": "text", "number": 1, "payload": {"text": "abc"}}, [])
    assert not torch.allclose(view.maps, before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda model: AttentionExplorer(model, Letters(), ""), "has 0 tokens"),
        (lambda model: AttentionExplorer(model, Letters(), "a" * 129), "has 129 tokens; a map is drawn for 1 to 128"),
        (lambda model: AttentionExplorer(model, Letters(), "abc", layer=2), "layer is 2; it must be from 0 to 1"),
        (lambda model: AttentionExplorer(model, Letters(), "abc", query=-1), "query is -1"),
        (lambda model: AttentionExplorer(torch.nn.Linear(2, 2), Letters(), "abc"), "nothing to record"),
        (lambda model: AttentionExplorer(), "from_maps"),
        (lambda model: AttentionExplorer.from_maps(torch.ones(2, 3) / 3, "ab"), "give key_tokens"),
        (lambda model: AttentionExplorer.from_maps(torch.ones(2, 2), "ab"), "no row of them sums to more than 1"),
        (lambda model: AttentionExplorer.from_maps(torch.full((2, 2), torch.nan), "ab"), "weights are 0 or more"),
        (lambda model: AttentionExplorer.from_maps(torch.ones(2), "ab"), "weights has shape"),
    ],
)
def test_the_explorer_refuses(as_shipped, model, make, message):
    with pytest.raises(ValueError, match=message):
        make(model)


def test_ready_maps_have_no_other_text():
    view = AttentionExplorer.from_maps(torch.eye(2), "ab")
    with pytest.raises(ValueError, match="ready made"):
        view.text = "something else"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: AttentionWorkbench(x, x[:, :2], x), r"got q \(3, 4\), k \(3, 2\)"),
        (lambda x: AttentionWorkbench(x, x, x[:2]), "expected q and k"),
        (lambda x: AttentionWorkbench(*[torch.ones(17, 4)] * 3), "shows 1 to 16 tokens"),
        (lambda x: AttentionWorkbench(x, x, x, ["a"]), "1 tokens for 3 rows"),
        (lambda x: AttentionWorkbench(x, x, x * torch.inf), "finite"),
        (lambda x: AttentionWorkbench(x, x, x, query=3), "query is 3; it must be from 0 to 2"),
        (lambda x: AttentionWorkbench(x, x, x, stretch=math.nan), "stretch is nan"),
        (lambda x: AttentionWorkbench(x, x, x, stretch=31.0), "from 0.1 to 30.0"),
    ],
)
def test_the_workbench_refuses(as_shipped, make, message):
    with pytest.raises(ValueError, match=message):
        make(torch.ones(3, 4))


def test_presets_of_the_mask():
    assert preset_mask("window", 5, window=2).sum(-1).tolist() == [1, 2, 2, 2, 2]
    assert preset_mask("prefix", 5, prefix=3).sum(-1).tolist() == [3, 3, 3, 4, 5]
    assert preset_mask("padding", 5, pad_left=2).sum(-1).tolist() == [0, 0, 1, 2, 3]
    assert preset_mask("strict", 5).sum(-1).tolist() == [0, 1, 2, 3, 4]
    assert preset_mask("cache", 5).sum(-1).tolist() == [3, 4, 5]
    assert preset_mask("cache-top-left", 5).sum(-1).tolist() == [1, 2, 3]


def test_the_mask_can_be_set():
    view = MaskWorkbench(4, window=2)
    assert view.preset == "window" and view.mask.sum() == 7
    view.mask = torch.zeros(4, 4, dtype=torch.bool)
    assert view.preset == "custom" and (view.weights == 0).all()
    view.preset = "none"
    assert view.mask.all()
    assert torch.allclose(view.weights, torch.tensor(view.scores, dtype=torch.float64).softmax(-1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaskWorkbench(1), "time is 1"),
        (lambda: MaskWorkbench(4, window=5), "window is 5"),
        (lambda: MaskWorkbench(4, pad_left=4), "pad_left is 4"),
        (lambda: MaskWorkbench(4, window=2, prefix=1), "choose one"),
        (lambda: MaskWorkbench(4, tokens=["a"]), "1 tokens for 4 positions"),
        (lambda: MaskWorkbench(4, scores=torch.ones(3, 3)), "scores has shape"),
        (lambda: MaskWorkbench(4, model=torch.nn.Embedding(3, 2)), "needs both"),
        (lambda: setattr(MaskWorkbench(4), "preset", "other"), "preset is 'other'"),
        (lambda: setattr(MaskWorkbench(4), "mask", torch.ones(4, 4)), "the mask has shape"),
        (lambda: setattr(MaskWorkbench(4), "key", 4), "key is 4; it must be from 0 to 3"),
        (lambda: setattr(MaskWorkbench(4), "query", -1), "query is -1; it must be from 0 to 3"),
        (lambda: MaskWorkbench(4, model=print, ids=[0] * 65), "there are 65 ids; the leak detector draws 1 to 64"),
    ],
)
def test_the_mask_workbench_refuses(as_shipped, make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_detector_s_tokens_name_its_ids():
    table = torch.nn.Embedding(5, 3)
    view = MaskWorkbench(4, model=table, ids=[0, 1, 2], tokens=["x", "y", "z"])
    assert view.leak_tokens == ["x", "y", "z"] and view.tokens == ["0", "1", "2", "3"]
    assert view.tab == "leaks" and view.measured.shape == (3, 3)
    assert view.describe() == "MaskWorkbench: 4 positions; leak detector over 3 tokens"
