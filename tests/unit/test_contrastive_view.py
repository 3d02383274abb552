"""The Python side of the contrastive view: the guard, refusals, going on with two models, saved pages."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch

from arlab.decoding.contrastive import contrastive_decoding, contrastive_score
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import Recompute
from arlab.text.tokenizers import CharTokenizer
from arlab.views import ContrastiveView

STRONG = [1 / 2, 1 / 4, 3 / 16, 1 / 32, 1 / 32]
WEAK = [1 / 2, 1 / 8, 1 / 4, 1 / 1024, 127 / 1024]  # "d": both think little of it, the weak model less


def by_hand(**settings) -> ContrastiveView:
    return ContrastiveView.from_logits(torch.tensor(STRONG).log(), torch.tensor(WEAK).log(), list("abcde"), **settings)


@pytest.fixture(scope="module")
def pair():
    tokenizer = CharTokenizer("abcdefgh ")
    config = DecoderConfig.gpt2(vocab_size=9, context_length=12, d_model=16, layers=2, heads=2)
    strong = DecoderLM(config, seed=0).eval()
    return strong, Recompute(strong, window=2), tokenizer


def test_figures_without_a_page():
    """alpha 1/2 leaves a and b (a quarter is just enough); b is twice as probable to the strong model, a equally so."""
    view = by_hand(alpha=0.5)
    assert view.plausible_size == 2 and view.chosen == 1
    assert view.scores().tolist() == pytest.approx([0, math.log(2), -math.inf, -math.inf, -math.inf], abs=1e-6)
    assert view.figures == {
        "plausible": 2,
        "vocab_size": 5,
        "mass": pytest.approx(0.75),
        "threshold": pytest.approx(0.25),
        "chosen": 1,
        "chosen_score": pytest.approx(math.log(2), abs=1e-6),
        "strong_first": 0,
        "free_first": 3,
        "free_score": pytest.approx(math.log(32), abs=1e-5),
        "beaten": 1,
    }


def test_the_guard_decides():
    view = by_hand(alpha=1.0)
    assert (view.chosen, view.plausible_size) == (0, 1)  # the strong model's argmax
    view.alpha = 0.01
    assert (view.chosen, view.plausible_size) == (3, 5)
    view.alpha, view.guarded = 1.0, False  # alpha counts for nothing now
    assert (view.chosen, view.plausible_size) == (3, 5) and view.figures["threshold"] == 0
    unguarded = by_hand(alpha=None)
    assert not unguarded.guarded and unguarded.chosen == 3
    torch.testing.assert_close(unguarded.scores(), contrastive_score(*unguarded._logits, alpha=None))


def test_impossible_tokens():
    """p_strong = 0 is never chosen, p_weak = 0 scores finitely, and both together are no NaN."""
    inf = math.inf
    view = ContrastiveView.from_logits([0.0, -1.0, -inf, -inf], [0.0, -inf, -2.0, -inf], list("abcd"), alpha=None)
    assert (view.plausible_size, view.chosen) == (2, 1)
    assert not view.scores().isnan().any() and view.figures["chosen_score"] > 1000


@pytest.mark.parametrize("alpha", [0.0, -0.1, 1.01, math.nan, math.inf])
def test_a_bad_alpha_is_named_and_leaves_the_view_as_it_was(alpha):
    with pytest.raises(ValueError, match="alpha") as caught:
        by_hand(alpha=alpha)
    assert repr(alpha) in str(caught.value)
    view = by_hand(alpha=0.3)
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        view.alpha = alpha
    assert view.alpha == 0.3


@pytest.mark.parametrize(
    ("strong", "weak", "strings", "says"),
    [
        ([1.0, 2.0], [1.0, 2.0], ["a"], "1 token strings"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], ["a", "b"], "shapes"),
        ([[1.0, 2.0]], [[1.0, 2.0]], ["a", "b"], "one each"),
        ([1.0, math.nan], [1.0, 2.0], ["a", "b"], "NaN"),
        ([1.0, 2.0], [math.inf, 2.0], ["a", "b"], r"\+inf"),
        ([1.0, 2.0], [-math.inf, -math.inf], ["a", "b"], "all are -inf"),
    ],
)
def test_what_is_no_pair_of_distributions_is_refused(as_shipped, strong, weak, strings, says):
    with pytest.raises(ValueError, match=says):
        ContrastiveView.from_logits(strong, weak, strings)


def test_models_of_two_vocabularies_are_refused(pair):
    strong, _, tokenizer = pair
    other = DecoderLM(DecoderConfig.gpt2(vocab_size=7, context_length=12, d_model=16, layers=1, heads=2), seed=0)
    with pytest.raises(ValueError, match="the small one has 7 tokens"):
        ContrastiveView(strong, other, tokenizer, "abc", weak_name="the small one")


@pytest.mark.parametrize("alpha", [0.5, None])
def test_appending_the_chosen_token_is_greedy_contrastive_decoding(pair, alpha):
    strong, weak, tokenizer = pair
    view = ContrastiveView(strong, weak, tokenizer, "abc", alpha=alpha)
    for _ in range(5):
        view.append()
    expected = contrastive_decoding(strong, weak, tokenizer.encode("abc"), max_new_tokens=5, alpha=alpha)
    assert view.ids == [*tokenizer.encode("abc"), *expected.tokens()]
    assert view._appended == [tokenizer.token_strings()[i] for i in expected.tokens()]


def test_append_and_undo_follow_both_models(pair):
    strong, weak, tokenizer = pair
    view = ContrastiveView(strong, weak, tokenizer, "abcd")
    row = torch.tensor([tokenizer.encode("abcd")])
    with torch.no_grad():
        torch.testing.assert_close(view.strong_logits, strong(row)[0, -1])
        torch.testing.assert_close(view.weak_logits, strong(row[:, -2:])[0, -1])  # it sees two tokens, no more
    before = view.weak_logits
    view.append(7)
    assert view.ids == [*row[0].tolist(), 7] and not torch.equal(view.weak_logits, before)
    view.undo()
    view.undo()  # nothing left to take back
    assert view.ids == row[0].tolist() and torch.equal(view.weak_logits, before) and view._appended == []
    view.append(0)
    view.prompt = "hg"
    assert view.ids == tokenizer.encode("hg") and view._appended == []
    assert not view.strong_logits.requires_grad


def test_bad_prompts_are_refused_and_the_old_one_stays(pair):
    strong, weak, tokenizer = pair
    for bad, says in [("", "empty"), ("xyz", "'x'"), ("a" * 13, "context_length of 12")]:
        with pytest.raises(ValueError, match=says):
            ContrastiveView(strong, weak, tokenizer, bad)
        view = ContrastiveView(strong, weak, tokenizer, "abc")
        with pytest.raises(ValueError, match=says):
            view.prompt = bad
        assert view.prompt == "abc" and len(view.ids) == 3
    full = ContrastiveView(strong, weak, tokenizer, "a" * 12)
    with pytest.raises(ValueError, match="context_length of 12"):
        full.append()
    assert len(full.ids) == 12
    with pytest.raises(ValueError, match="99"):
        view.append(99)
    with pytest.raises(ValueError, match="made from logits"):
        by_hand().append()


def test_a_weak_model_with_a_short_context_of_its_own_is_refused_with_the_remedy(pair):
    """The same limit counts for both: a text that only the strong model can read is no common ground."""
    strong, _, tokenizer = pair
    short = DecoderLM(DecoderConfig.gpt2(vocab_size=9, context_length=4, d_model=16, layers=1, heads=2), seed=1)
    with pytest.raises(ValueError, match="window=4"):
        ContrastiveView(strong, short, tokenizer, "abcdefgh")


def test_a_prompt_may_be_ids(pair):
    strong, weak, tokenizer = pair
    view = ContrastiveView(strong, weak, tokenizer, [0, 1, 2])
    assert view.ids == [0, 1, 2] and view.prompt == tokenizer.decode([0, 1, 2])


def test_questions_from_the_page_are_answered_or_refused_in_words(pair):
    strong, weak, tokenizer = pair
    view = ContrastiveView(strong, weak, tokenizer, "abc")
    sent = []
    view.send = lambda content, buffers=None: sent.append((content, buffers))
    view._answer(view, {"ask": "prompt", "number": "1", "payload": {"text": "fed"}}, [])
    view._answer(view, {"ask": "append", "number": "2", "payload": {"token_id": 3}}, [])
    view._answer(view, {"ask": "prompt", "number": "3", "payload": {"text": ""}}, [])
    assert view.ids == [*tokenizer.encode("fed"), 3]
    view._answer(view, {"ask": "undo", "number": "4"}, [])
    view._answer(view, {"ask": "tokens", "number": "5"}, [])
    errors = [content["error"] for content, _ in sent]
    assert errors[0] is errors[1] is errors[3] is errors[4] is None and "empty" in errors[2]
    assert view.ids == tokenizer.encode("fed")
    assert json.loads(bytes(sent[4][1][0])) == tokenizer.token_strings()


def test_a_model_in_training_mode_is_asked_without_its_dropout():
    tokenizer = CharTokenizer("abc")
    config = DecoderConfig.gpt2(vocab_size=3, context_length=8, d_model=16, layers=1, heads=2, dropout=0.5)
    model = DecoderLM(config, seed=0).train()
    view = ContrastiveView(model, Recompute(model, window=8), tokenizer, "abc")
    assert view.scores().nan_to_num(neginf=0.0).abs().max() < 1e-5  # the same model twice: nothing to contrast
    assert all(module.training for module in model.modules())


def test_what_travels_is_sorted_by_the_strong_model_ties_by_lowest_id():
    view = ContrastiveView.from_logits([1.0, 2.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0], list("abcd"))
    ids = torch.frombuffer(bytearray(view._sorted_ids), dtype=torch.int32)
    assert ids.tolist() == [1, 3, 0, 2]
    weak = torch.frombuffer(bytearray(view._weak_logprobs), dtype=torch.float32)
    torch.testing.assert_close(weak, torch.tensor([0.0, 1.0, 2.0, 3.0]).log_softmax(-1)[[1, 3, 0, 2]])


def test_the_strings_of_the_unguarded_winners_travel_too():
    """They may lie at the far end of the vocabulary, and the page names them at once."""
    strong = -torch.arange(1000.0) / 50
    weak = strong.clone()
    weak[990] -= 3
    view = ContrastiveView.from_logits(strong, weak, [f"<{i}>" for i in range(1000)])
    assert view.figures["free_first"] == 990 and view._known_strings["990"] == "<990>"
    assert len(view._known_strings) < 300


def test_a_saved_page_holds_everything_and_nothing_from_elsewhere(tmp_path):
    attack = "</script><script>alert(1)</script><!--"
    view = ContrastiveView.from_logits([1.0, 0.0], [0.0, 1.0], [attack, "b"], strong_name=attack)
    text = view.save_html(tmp_path / "deep" / "page.html").read_text("utf-8")
    assert attack not in text and text.lower().count("</script") == 3 == text.lower().count("<script")
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//|import\s*\(|@import|url\(", text)


def test_the_text_for_a_reader_without_a_page_is_fixed(pair, monkeypatch, tmp_path):
    first, again = (ContrastiveView(*pair, "abc") for _ in range(2))
    assert repr(first) == repr(again) and "0x" not in repr(first) and "'abc'" in repr(first)
    assert repr(by_hand(alpha=0.5)) == (
        "Contrastive decoding: alpha 0.5 leaves 2 of 5 tokens; chosen 'b', the strong model alone 'a'"
    )
    assert "no guard leaves 5 of 5" in repr(by_hand(alpha=None))
    monkeypatch.setenv("ARLAB_PHOTOGRAPH", str(tmp_path))
    first._repr_mimebundle_()
    assert (tmp_path / f"{first.model_id}.html").is_file()
