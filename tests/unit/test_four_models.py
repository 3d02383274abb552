"""Models side by side without a browser: outputs against decoding by hand, right and wrong, refusals."""

from __future__ import annotations

import copy
import json
import math
import re

import pytest
import torch

from arlab.decoding import greedy
from arlab.nn.attention import record_attention
from arlab.nn.rnn import Seq2SeqRNN
from arlab.nn.seq2seq import Seq2SeqConfig, Seq2SeqTransformer
from arlab.text.tokenizers import CharTokenizer
from arlab.views import FourModels
from arlab.worlds import TreeLM

SOURCE, TARGET = CharTokenizer("abcdef "), CharTokenizer("0123", special=["<bos>", "<eos>"])
BOS, EOS = TARGET.bos_id, TARGET.eos_id
IDS = {"bos_id": BOS, "eos_id": EOS, "max_new_tokens": 6}


@pytest.fixture(scope="module")
def models() -> dict:
    sizes = {"encoder_layers": 1, "layers": 2, "heads": 2, "dropout": 0.5}
    config = Seq2SeqConfig(7, 6, 12, 8, d_model=16, bos_id=BOS, **sizes)
    return {
        "fixed": Seq2SeqRNN(7, 6, 8, 12, bos_id=BOS, seed=0),
        "attention": Seq2SeqRNN(7, 6, 8, 12, bos_id=BOS, attention=True, bidirectional=True, seed=1),
        "transformer": Seq2SeqTransformer(config, seed=2),
    }


class Table:
    """A model that writes by a table, whatever the source: "12", surely; "1" first with 3/4, "2" then with 1/2."""

    def __init__(self):
        second = [0, 0, 1 / 2, 3 / 8, 0, 1 / 8]
        table = {(): [0, 3 / 4, 1 / 4, 0, 0, 0], (1,): second, (1, 2): [0, 0, 0, 0, 0, 1.0]}
        self.world = TreeLM(table, max_length=6, eos_id=EOS, default=[0, 0, 0, 0, 0, 1.0])

    def given(self, source):
        return self.world


def by_table(answer=None, **settings) -> FourModels:
    ids = {"bos_id": 6, "eos_id": EOS, "max_new_tokens": 4}
    return FourModels({"table": Table()}, SOURCE, TARGET, "abc", answer=answer, **ids | settings)


# -- a world that is known ---------------------------------------------------------------------------------------------


def test_probabilities_that_are_known():
    output = by_table("12").outputs["table"]
    assert (output.text, output.finished, output.right, output.wrong) == ("12", True, True, (False,) * 3)
    assert output.ids == (1, 2, EOS) and output.probabilities == pytest.approx((3 / 4, 1 / 2, 1))
    assert output.logprob == output.answer_logprob == pytest.approx(math.log(3 / 8))
    assert output.cross is None


def test_what_differs_from_the_answer_is_marked_place_by_place():
    output = by_table("13").outputs["table"]
    assert (output.right, output.wrong) == (False, (False, True, False))
    assert output.answer_logprob == pytest.approx(math.log(3 / 4 * 3 / 8))
    assert by_table("1").outputs["table"].wrong == (False, True, True), "what stands after the answer's end is wrong"
    longer = by_table("1222").outputs["table"]
    assert (longer.right, longer.wrong) == (False, (False, False, True)), "it ended too early"


def test_an_output_that_is_cut_off_is_not_right():
    output = by_table("12", max_new_tokens=2).outputs["table"]
    assert (output.text, output.finished, output.right) == ("12", False, False)
    assert output.logprob == pytest.approx(math.log(3 / 8))


def test_an_impossible_answer_has_log_p_minus_infinity_and_can_be_saved(tmp_path):
    view = by_table("30")
    assert view.outputs["table"].answer_logprob == -math.inf
    assert "-Infinity" not in view.save_html(tmp_path / "view.html").read_text()


def test_without_an_answer_nothing_is_right_or_wrong():
    output = by_table().outputs["table"]
    assert (output.right, output.wrong, output.answer_logprob) == (None, (), None)
    assert by_table(lambda text: None).outputs["table"].right is None


def test_a_text_is_the_answer_to_the_first_source_alone():
    view = by_table("12")
    view.source_text = "fed"
    assert view.outputs["table"].right is None and view.answer_tokens == []
    view.source_text = "abc"
    assert view.outputs["table"].right is True


def test_the_next_best_tokens_are_told():
    best = by_table().lanes[0]["best"]
    assert [[token for token, _ in step][:2] for step in best[:2]] == [["1", "2"], ["2", "3"]]
    assert [p for _, p in best[1]] == pytest.approx([1 / 2, 3 / 8, 1 / 8])


# -- models -----------------------------------------------------------------------------------------------------------


def test_outputs_are_those_of_decoding_by_hand(models):
    for model in models.values():
        model.train()
    view = FourModels(models, SOURCE, TARGET, "abc fed", **IDS, answer=lambda text: "0123")
    assert all(module.training for model in models.values() for module in model.modules())
    source, answer = SOURCE.encode("abc fed"), [*TARGET.encode("0123"), EOS]
    for name, model in models.items():
        model.eval()
        output = view.outputs[name]
        generation = greedy(model.given(source), [[BOS]], max_new_tokens=6, eos_id=EOS)
        assert list(output.ids) == generation.tokens()
        assert output.logprob == pytest.approx(float(generation.scores), abs=1e-4)
        with torch.no_grad():
            logits = model.given(source)(torch.tensor([[BOS, *answer[:-1]]]))[0].double()
        expected = logits.log_softmax(-1)[range(5), answer].sum()
        assert output.answer_logprob == pytest.approx(float(expected), abs=1e-5)


def test_the_strips_are_the_mean_of_the_recorded_maps(models):
    view = FourModels(models, SOURCE, TARGET, "abcde", **IDS)
    strips = {lane["name"]: lane["strip"] for lane in view.lanes}
    assert strips["fixed"] is None and view.outputs["fixed"].cross is None
    for name, heads in (("attention", [1, 1]), ("transformer", [2, 2])):
        ids = view.outputs[name].ids
        given = models[name].eval().given(SOURCE.encode("abcde"))
        with torch.no_grad(), record_attention(given) as maps:
            given(torch.tensor([[BOS, *ids[:-1]]]))
        expected = maps.cross.stack()[:, 0].double().mean((0, 1))
        assert torch.allclose(torch.tensor(strips[name]).double(), expected, atol=1e-6)
        assert expected.shape == (len(ids), 5)
        assert next(lane["heads"] for lane in view.lanes if lane["name"] == name) == heads


def test_a_new_source_runs_all_of_them_and_keeps_the_step_within(models):
    view = FourModels(models, SOURCE, TARGET, "abc", **IDS, answer=lambda text: "0" if text == "fa" else "012")
    view.step = view._steps() - 1
    view.source_text = "fa"
    assert view.source_tokens == ["f", "a"] and view.answer_tokens == ["0", "<eos>"]
    fresh = FourModels(models, SOURCE, TARGET, "fa", **IDS, answer="0")
    assert {n: o.ids for n, o in view.outputs.items()} == {n: o.ids for n, o in fresh.outputs.items()}
    assert 0 <= view.step < view._steps()


def test_the_same_source_is_read_again_when_asked(models):
    own = copy.deepcopy(models["transformer"])
    view = FourModels({"own": own}, SOURCE, TARGET, "abc", **IDS)
    before = view.outputs["own"].probabilities[0]
    with torch.no_grad():
        own.embed_tokens.weight.mul_(2)
    view._answer(view, {"ask": "source", "number": 1, "payload": {"text": "abc"}}, [])
    assert view.outputs["own"].probabilities[0] != pytest.approx(before)


def test_a_refused_source_leaves_everything_as_it_was(as_shipped, models):
    view = FourModels(models, SOURCE, TARGET, "abc", **IDS)
    before = view.outputs
    for text, message in [
        ("", "has 0 tokens"),
        ("xyz", "character 'x' at position 0 is unknown"),
        ("a" * 13, "transformer: a source has 13 tokens; the model reads 12"),
    ]:
        with pytest.raises(ValueError, match=message):
            view.source_text = text
        assert view.source_text == "abc" and view.outputs is before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"models": {}}, "there are 0 models; 1 to 6"),
        ({"models": dict.fromkeys("abcdefg", None)}, "there are 7 models"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0; it must be from 1 to 128"),
        ({"max_new_tokens": 9}, "transformer: .*context_length"),
        ({"source_text": ""}, "has 0 tokens"),
        ({"answer": "9"}, "character '9'"),
        ({"step": 6}, "step is 6; it must be from 0 to"),
        ({"step": -1}, "step is -1"),
    ],
)
def test_what_it_refuses(as_shipped, models, given, message):
    settings = {"models": models, "source_text": "abc"} | IDS | given
    with pytest.raises(ValueError, match=message):
        FourModels(source_tokenizer=SOURCE, target_tokenizer=TARGET, **settings)


def test_a_list_of_models_has_no_names(as_shipped, models):
    with pytest.raises(TypeError, match="models is a list"):
        FourModels(list(models.values()), SOURCE, TARGET, "abc", **IDS)


def test_what_it_says_without_a_page():
    assert by_table("12").describe() == "Models side by side on 'abc': table '12' (right)"
    assert by_table("13").describe() == "Models side by side on 'abc': table '12' (wrong)"
    assert by_table().describe() == "Models side by side on 'abc': table '12'"


def test_a_saved_page_holds_all_that_it_draws(models, tmp_path):
    page = FourModels(models, SOURCE, TARGET, "abc", **IDS).save_html(tmp_path / "view.html").read_text()
    state = json.loads(re.search(r'id="arlab-state">(.*?)</script>', page, re.S).group(1))
    assert [lane["name"] for lane in state["lanes"]] == list(models)
    assert len(page) < 200_000
