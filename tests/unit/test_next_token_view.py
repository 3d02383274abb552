"""The Python side of the next-token explorer and the pipeline: values, refusals, saved pages, going on with a model."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch

from arlab.decoding.filters import MinP, Temperature, TopK, TopP
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.text.tokenizers import CharTokenizer
from arlab.views import NextToken, Pipeline
from arlab.worlds import TreeLM

VIEWS = [NextToken, Pipeline]
BAD = [
    ("temperature", -0.5),
    ("temperature", math.nan),
    ("temperature", math.inf),
    ("top_k", -1),
    ("top_p", 0.0),
    ("top_p", 1.5),
    ("top_p", math.nan),
    ("min_p", -0.1),
    ("min_p", 1.01),
    ("seed", -1),
]


@pytest.fixture(scope="module")
def small():
    tokenizer = CharTokenizer("abcdefgh ")
    config = DecoderConfig.gpt2(vocab_size=tokenizer.vocab_size, context_length=8, d_model=16, layers=1, heads=2)
    return DecoderLM(config, seed=0).eval(), tokenizer


def by_hand(cls=NextToken, **settings):
    return cls.from_logits([2.0, 1.0, 1.0, 0.0], list("abcd"), **settings)


@pytest.mark.parametrize("cls", VIEWS)
@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_values_are_named_and_leave_the_view_as_it_was(cls, name, value):
    with pytest.raises(ValueError, match=name) as caught:
        by_hand(cls, **{name: value})
    assert repr(value) in str(caught.value)
    view = by_hand(cls)
    before = getattr(view, name)
    with pytest.raises(ValueError, match=name):
        setattr(view, name, value)
    assert getattr(view, name) == before


def test_an_unknown_setting_is_refused():
    with pytest.raises(TypeError, match="temprature"):
        by_hand(temprature=0.5)


def test_filters_are_those_that_are_on_in_their_order():
    assert by_hand().filters() == []
    view = by_hand(temperature=0.5, top_k=3, top_p=0.9, min_p=0.1)
    assert view.filters() == [Temperature(0.5), TopK(3), TopP(0.9), MinP(0.1)]
    pipeline = by_hand(Pipeline, temperature=0.5, top_k=3, top_p=0.9, order=["top_p", "temperature", "top_k"])
    assert pipeline.filters() == [TopP(0.9), Temperature(0.5), TopK(3)]
    for order in (["top_p"], ["top_p", "top_p", "top_k"], ["a", "b", "c"]):
        with pytest.raises(ValueError, match="order is"):
            pipeline.order = order
    with pytest.raises(ValueError, match="no panel"):
        pipeline.min_p = 0.1


def test_figures_without_a_page():
    """[1/2, 1/4, 1/8, 1/8] has an entropy of 1.75 bits; top-k 2 leaves 3/4 of the mass, at 0.9183 bits."""
    view = NextToken.from_logits(torch.tensor([0.5, 0.25, 0.125, 0.125]).log(), list("abcd"), top_k=2)
    figures = view.figures
    assert figures["kept"] == 2 and figures["vocab_size"] == 4
    assert figures["entropy_raw_bits"] == pytest.approx(1.75, abs=1e-6)
    assert figures["entropy_bits"] == pytest.approx(0.918296, abs=1e-6)
    assert figures["kept_mass"] == pytest.approx(0.75, abs=1e-6) == figures["kept_mass_raw"]
    torch.testing.assert_close(view.probabilities(), torch.tensor([2 / 3, 1 / 3, 0, 0]).double(), atol=1e-6, rtol=0)


def test_stages_without_a_page():
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    view = Pipeline.from_logits(logits, list("abcd"), top_k=2, top_p=0.6)
    rows = view.stages()
    assert [row["stage"] for row in rows] == ["raw", "temperature", "top_k", "top_p"]
    assert [row["kept"] for row in rows] == [4, 4, 2, 1]  # after top-k the first token has 2/3, more than 0.6
    assert [row["mass"] for row in rows] == pytest.approx([1, 1, 0.75, 2 / 3], abs=1e-6)
    view.order = ["temperature", "top_p", "top_k"]
    assert [row["kept"] for row in view.stages()] == [4, 4, 2, 2]  # the order matters


@pytest.mark.parametrize(
    ("logits", "strings", "says"),
    [
        ([1.0, 2.0], ["a"], "1 token strings"),
        ([1.0, math.nan], ["a", "b"], "NaN"),
        ([-math.inf, -math.inf], ["a", "b"], "-inf"),
        ([math.inf, 0.0], ["a", "b"], r"\+inf"),
    ],
)
def test_what_is_no_distribution_is_refused(logits, strings, says):
    with pytest.raises(ValueError, match=says):
        NextToken.from_logits(logits, strings)


def test_append_and_undo_follow_the_model(small):
    model, tokenizer = small
    view = NextToken(model, tokenizer, "abc", temperature=0.7)
    expected = model(torch.tensor([view.ids]))[0, -1]
    torch.testing.assert_close(view.logits, expected.float())
    token = int(view.logits.argmax())
    view.append(token)
    assert view.ids == [*tokenizer.encode("abc"), token]
    torch.testing.assert_close(view.logits, model(torch.tensor([view.ids]))[0, -1].float())
    view.undo()
    view.undo()  # nothing left to take back
    assert view.ids == tokenizer.encode("abc")
    torch.testing.assert_close(view.logits, expected.float())
    view.append(token)
    view.prompt = "hgf"
    assert view.ids == tokenizer.encode("hgf") and view._appended == []
    assert not view.logits.requires_grad


def test_every_draw_takes_a_uniform_number_of_its_own(small):
    """A text that grows by draw and append once took each token from the same place, since append began anew."""
    view = NextToken(*small, "abc")
    starts = []
    for step in (view.append, view.append, lambda _: view.undo(), lambda _: setattr(view, "prompt", "ha")):
        view._draw_start, view._draw_count = view._draw_start + view._draw_count, 1  # what the page does to draw one
        starts.append(view._draw_start)
        step(0)
        assert view._draw_count == 0
    assert starts == [0, 1, 2, 3]


def test_a_model_in_training_mode_is_asked_without_its_dropout():
    tokenizer = CharTokenizer("abc")
    config = DecoderConfig.gpt2(vocab_size=3, context_length=8, d_model=16, layers=1, heads=2, dropout=0.5)
    model = DecoderLM(config, seed=0).train()
    view = NextToken(model, tokenizer, "abc")
    torch.testing.assert_close(view.logits, model.eval()(torch.tensor([[0, 1, 2]]))[0, -1].detach())
    model.train()
    view.append(0)
    assert all(module.training for module in model.modules())


def test_bad_prompts_are_refused_and_the_old_one_stays(small):
    model, tokenizer = small
    for bad, says in [("", "empty"), ("xyz", "'x'"), ("a" * 9, "context_length of 8")]:
        with pytest.raises(ValueError, match=says):
            NextToken(model, tokenizer, bad)
        view = NextToken(model, tokenizer, "abc")
        with pytest.raises(ValueError, match=says):
            view.prompt = bad
        assert view.prompt == "abc" and len(view.ids) == 3
    full = NextToken(model, tokenizer, "a" * 8)
    with pytest.raises(ValueError, match="context_length of 8"):
        full.append(0)
    assert len(full.ids) == 8
    with pytest.raises(ValueError, match="99"):
        view.append(99)
    with pytest.raises(ValueError, match="made from logits"):
        by_hand().append(0)


def test_a_prompt_may_be_ids(small):
    model, tokenizer = small
    view = NextToken(model, tokenizer, [0, 1, 2])
    assert view.ids == [0, 1, 2] and view.prompt == tokenizer.decode([0, 1, 2])


def test_questions_from_the_page_are_answered_or_refused_in_words(small):
    model, tokenizer = small
    view = NextToken(model, tokenizer, "abc")
    sent = []
    view.send = lambda content, buffers=None: sent.append((content, buffers))
    view._answer(view, {"ask": "prompt", "number": "1", "payload": {"text": "fed"}}, [])
    view._answer(view, {"ask": "prompt", "number": "2", "payload": {"text": ""}}, [])
    view._answer(view, {"ask": "append", "number": "3", "payload": {"token_id": 3}}, [])
    view._answer(view, {"ask": "tokens", "number": "4"}, [])
    view._answer(view, {"ask": "__class__", "number": "5"}, [])  # not a question of this view: no answer
    errors = [content["error"] for content, _ in sent]
    assert errors[0] is None and "empty" in errors[1] and errors[2] is None and errors[3] is None and len(sent) == 4
    assert view.ids == [*tokenizer.encode("fed"), 3]
    assert json.loads(bytes(sent[3][1][0])) == tokenizer.token_strings()


def test_a_world_that_can_be_enumerated_works_too():
    """A tree needs no tokenizer of its own kind: anything with encode, decode, token_strings and fingerprint does."""
    tree = TreeLM({(): [0.5, 0.25, 0.25], (0,): [0.0, 0.5, 0.5]}, max_length=2, default=[1.0, 0.0, 0.0])
    view = NextToken(tree, CharTokenizer("abc"), "a")
    torch.testing.assert_close(view.probabilities(), torch.tensor([0, 0.5, 0.5]).double(), atol=1e-6, rtol=0)
    assert view.figures["kept"] == 2


@pytest.mark.parametrize("cls", VIEWS)
def test_a_saved_page_holds_everything_and_nothing_from_elsewhere(cls, tmp_path):
    attack = "</script><script>alert(1)</script><!--"
    text = cls.from_logits([1.0, 0.0], [attack, "b"]).save_html(tmp_path / "deep" / "page.html").read_text("utf-8")
    assert attack not in text and text.lower().count("</script") == 3 == text.lower().count("<script")
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//|import\s*\(|@import|url\(", text)


def test_the_text_for_a_reader_without_a_page_is_fixed(small, monkeypatch, tmp_path):
    model, tokenizer = small
    first, again = (NextToken(model, tokenizer, "abc") for _ in range(2))
    assert repr(first) == repr(again) and "0x" not in repr(first) and "'abc'" in repr(first)
    monkeypatch.setenv("ARLAB_PHOTOGRAPH", str(tmp_path))
    first._repr_mimebundle_()
    assert (tmp_path / f"{first.model_id}.html").is_file()
