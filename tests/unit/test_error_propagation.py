"""The error view without a browser: its continuations are what greedy decoding writes, its figures what one counts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st

from arlab.decoding import greedy
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import Recompute
from arlab.nn.seq2seq import Seq2SeqConfig, Seq2SeqTransformer
from arlab.views import error_rollouts
from arlab.views.error_propagation import ErrorPropagation
from arlab.views.error_rollouts import NOTHING, continuations
from arlab.worlds import TreeLM

DIGITS = list(range(10))
NAMES = [*map(str, DIGITS), "</s>", "<s>"]
EOS, BOS = 10, 11


class Rule(torch.nn.Module):
    """Writes what a function of the target so far says."""

    vocab_size, bos_id, context_length = 12, BOS, 40

    def __init__(self, says):
        super().__init__()
        self.says = says

    def forward(self, ids):
        logits = torch.zeros(*ids.shape, 12)
        for row, line in enumerate(ids.tolist()):
            for t in range(len(line)):
                logits[row, t, self.says(line[1 : t + 1])] = 5.0
        return logits


def rule(says) -> Recompute:
    return Recompute(Rule(says))


def steps(s: int, d: int):
    """y_t = y_(t-1) + d: right as long as what stands there is."""
    return rule(lambda before: (before[-1] + d) % 10 if before else s)


def counts(s: int, d: int):
    """y_t = s + t d, whatever stands there."""
    return rule(lambda before: (s + len(before) * d) % 10)


def task(s: int, d: int, time: int) -> list[int]:
    return [(s + t * d) % 10 for t in range(time)]


def view(time: int = 8, **options) -> ErrorPropagation:
    models = {"steps": steps(3, 4), "counts": counts(3, 4)}
    return ErrorPropagation(models, task(3, 4, time), NAMES, **{"choices": DIGITS} | options)


def small(seed: int = 0, dropout: float = 0.0) -> DecoderLM:
    config = DecoderConfig.gpt2(
        vocab_size=12, context_length=14, d_model=16, layers=2, heads=2, bos_id=BOS, dropout=dropout
    )
    return with_opinions(DecoderLM(config, seed=seed))


def translator(dropout: float = 0.0) -> Seq2SeqTransformer:
    sizes = {"source_vocab": 7, "vocab_size": 12, "source_length": 6, "context_length": 8, "d_model": 16}
    config = Seq2SeqConfig(**sizes, encoder_layers=1, layers=2, heads=2, bos_id=BOS, dropout=dropout)
    return with_opinions(Seq2SeqTransformer(config, seed=0))


def with_opinions(model):
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(3)  # a fresh model is nearly uniform
    return model


# ---- the continuations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["decoder", "given", "recomputed"])
@pytest.mark.parametrize("ends", [False, True])
def test_each_continuation_is_what_greedy_decoding_writes(name, ends, as_shipped):
    model = {
        "decoder": lambda: small().eval(),
        "given": lambda: translator().eval().given([3, 1, 6]),
        "recomputed": lambda: steps(3, 4),
    }[name]()
    answer = [5, 0, 7, 7, 2, 9]
    eos_id = int(continuations(model, answer, [1])[0, 0, 3]) if ends else None  # a symbol that the model does write
    rows = continuations(model, answer, [1, 4, 7], eos_id=eos_id)
    assert rows.shape == (6, 4, 6) and rows.dtype == torch.int64
    ended = 0
    for p in range(6):
        for c, symbol in enumerate([1, 4, 7, answer[p]]):
            told = [*answer[:p], symbol]
            assert rows[p, c, : p + 1].tolist() == told
            if p == 5:
                continue
            written = greedy(model, [BOS, *told], max_new_tokens=5 - p, eos_id=eos_id).tokens()
            ended += len(written) < 5 - p
            assert rows[p, c, p + 1 :].tolist() == written + [NOTHING] * (5 - p - len(written))
    assert bool(ended) == ends


def test_a_world_with_an_end_symbol():
    world = TreeLM.random(4, 5, torch.Generator().manual_seed(3), eos_id=2, sharp=2.0)
    rows = continuations(world, [0, 1, 3, 0, 2], [0, 1, 3], eos_id=2)
    for p in range(4):
        for c, symbol in enumerate([0, 1, 3, [0, 1, 3, 0, 2][p]]):
            told = [world.bos_id, *[0, 1, 3, 0][:p], symbol]
            written = greedy(world, told, max_new_tokens=4 - p, eos_id=2).tokens()
            assert rows[p, c, p + 1 :].tolist() == written + [NOTHING] * (4 - p - len(written))
    assert (rows == NOTHING).any()


def test_a_prompt_comes_before_the_answer():
    model = small().eval()
    rows = continuations(model, [5, 0, 7], [1], prompt=[8, 2])
    assert rows[0, 0, 1:].tolist() == greedy(model, [8, 2, 1], max_new_tokens=2).tokens()
    assert rows[0, 0].tolist() != continuations(model, [5, 0, 7], [1])[0, 0].tolist()


def test_in_pieces_as_in_one(monkeypatch):
    model = translator().eval().given([3, 1, 6])
    whole = continuations(model, [5, 0, 7, 7, 2], [1, 4, 7], eos_id=EOS)
    monkeypatch.setattr(error_rollouts, "ROWS", 7)
    assert torch.equal(continuations(model, [5, 0, 7, 7, 2], [1, 4, 7], eos_id=EOS), whole)


def test_dropout_is_off_and_comes_back_and_no_gradient_is_kept():
    model = translator(dropout=0.5)
    still = continuations(model.eval().given([3, 1, 6]), [5, 0, 7, 7, 2], DIGITS)
    model.train()
    assert torch.equal(continuations(model.given([3, 1, 6]), [5, 0, 7, 7, 2], DIGITS), still)
    assert all(module.training for module in model.modules())
    assert torch.is_grad_enabled()
    parameter = next(model.parameters())
    loss = model.given([3, 1, 6])(torch.tensor([[BOS, 5]])).sum()
    loss.backward()  # nothing of the run is left that would forbid it
    assert parameter.grad is not None


# ---- the figures --------------------------------------------------------------------------------------------------


def test_one_error_is_carried_on_or_forgotten():
    shown = view(position=2, symbol=0)
    assert shown.answer == [3, 7, 1, 5, 9, 3, 7, 1]
    assert shown.written == {"steps": [4, 8, 2, 6, 0], "counts": [5, 9, 3, 7, 1]}
    assert shown.errors_after == {"steps": 5, "counts": 0}
    assert shown.share_right == {"steps": 0.0, "counts": 1.0}
    assert shown.recovered == shown.recovered_for_good == {"steps": None, "counts": 1}
    assert shown.mean_right() == {"steps": 0.0, "counts": 1.0}
    assert shown.accuracy_by_distance() == {"steps": [0.0] * 7, "counts": [1.0] * 7}
    assert shown.accuracy_by_distance(error=False) == {"steps": [1.0] * 7, "counts": [1.0] * 7}


def test_without_an_error_nothing_has_to_be_carried():
    shown = view(position=2, symbol=None)
    shown.symbol = None
    for symbol in (None, 1):  # 1 is right at position 2
        shown.symbol = symbol
        assert shown.errors_after == {"steps": 0, "counts": 0}
        assert "no error at position 2" in repr(shown)
    shown.position, shown.symbol = 7, 0
    assert shown.share_right == {"steps": None, "counts": None}  # nothing comes after the last
    assert shown.recovered == {"steps": None, "counts": None}


def test_where_the_truth_depends_on_what_stands_there_the_stepping_model_is_right():
    asked = []

    def correct(prefix):
        asked.append(prefix)
        return [(prefix[-1] + 4 * (k + 1)) % 10 for k in range(20)]  # longer than needed: cut

    shown = view(position=2, symbol=0, correct=correct)
    assert shown.errors_after == {"steps": 0, "counts": 5}
    assert shown.mean_right() == {"steps": 1.0, "counts": 0.0}
    assert shown.accuracy_by_distance(error=False)["counts"] == [1.0] * 7
    assert len(asked) == 7 * 9 and [3, 7, 0] in asked  # every error once; the right symbol is none


def test_a_recovery_that_does_not_last():
    """Right again after two symbols, wrong once more, then right to the end."""
    told = {2: 0, 3: 0, 4: 9, 5: 0, 6: 7, 7: 1}
    shown = ErrorPropagation(
        {"wavers": rule(lambda before: told.get(len(before), 3))}, task(3, 4, 8), NAMES, position=2, symbol=0
    )
    assert shown.right_after == {"wavers": [False, True, False, True, True]}
    assert (shown.recovered, shown.recovered_for_good) == ({"wavers": 2}, {"wavers": 4})
    assert shown.errors_after == {"wavers": 2} and shown.share_right == {"wavers": 0.6}


def test_an_early_end_is_wrong_to_the_end_of_the_answer():
    ends = rule(lambda before: EOS if len(before) == 3 else (3 + 4 * len(before)) % 10)
    shown = ErrorPropagation({"ends": ends}, task(3, 4, 6), NAMES, eos_id=EOS, position=1, symbol=0)
    assert shown.written == {"ends": [1, EOS]}
    assert shown.right_after == {"ends": [True, False, False, False]}
    asked = ErrorPropagation({"ends": ends}, [*task(3, 4, 3), EOS], NAMES, eos_id=EOS, position=1, symbol=0)
    assert asked.right_after == {"ends": [True, True]}  # here the end symbol is part of the answer


@settings(max_examples=40)
@given(
    st.integers(2, 6),
    st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True),
    st.integers(0, 2**16),
    st.booleans(),
)
def test_the_means_are_what_one_counts_by_hand(time, choices, seed, dependent):
    random = np.random.default_rng(seed)
    answer = random.integers(0, 5, time).tolist()
    if set(answer[:-1]) == set(choices):
        choices = sorted({*choices, 5 - len(choices)} ^ {0}) or [0]
    if all(choice == here for choice in choices for here in answer[:-1]):
        return
    model = rule(lambda before: int(np.random.default_rng([seed, 1, *before]).integers(0, 6)))

    def correct(prefix):
        return np.random.default_rng([seed, 2, *prefix]).integers(0, 6, time).tolist()

    shown = ErrorPropagation({"m": model}, answer, NAMES, choices=choices, correct=correct if dependent else None)
    for error in (True, False):
        by_distance = [[] for _ in range(time)]
        for shown.position in range(time):
            for symbol in choices if error else [None]:
                if symbol == answer[shown.position]:
                    continue
                shown.symbol = symbol
                for distance, right in enumerate(shown.right_after["m"], 1):
                    by_distance[distance].append(right)
        expected = [sum(found) / len(found) if found else None for found in by_distance[1:]]
        assert shown.accuracy_by_distance(error)["m"] == pytest.approx(expected)
        everything = [right for found in by_distance for right in found]
        assert shown.mean_right(error)["m"] == pytest.approx(sum(everything) / len(everything))


# ---- what is sent to the page -------------------------------------------------------------------------------------


def test_the_page_gets_every_continuation_and_the_strings_that_occur():
    shown = view(time=4, choices=[0, 9], correct=lambda prefix: [prefix[-1]] * 4)
    sent = shown.rollouts
    tokens = np.frombuffer(sent["tokens"], dtype=np.uint16).reshape(2, 4, 3, 4)
    assert tokens[0].tolist() == continuations(steps(3, 4), task(3, 4, 4), [0, 9]).tolist()
    assert tokens[1, 2, 1].tolist() == [3, 7, 9, 5]
    wanted = np.frombuffer(sent["wanted"], dtype=np.uint16).reshape(4, 3, 4)
    assert wanted[1].tolist() == [[3, 7, 0, 0], [3, 7, 9, 9], [3, 7, 1, 5]]
    assert sent["strings"] == {i: NAMES[int(i)] for i in sent["strings"]} and {"0", "9", "5"} <= set(sent["strings"])
    ends = ErrorPropagation({"m": rule(lambda before: EOS)}, [1, 2, 3, 4], NAMES, choices=[0], eos_id=EOS)
    assert np.frombuffer(ends.rollouts["tokens"], dtype=np.uint16).reshape(4, 2, 4)[0, 0].tolist() == [
        0,
        10,
        2**16 - 1,
        2**16 - 1,
    ]
    assert ends.rollouts["wanted"] == b"" and ends.rollouts["strings"]["10"] == "</s>"


def test_an_id_without_a_string_and_the_choices_left_out():
    shown = ErrorPropagation({"m": counts(3, 4)}, torch.tensor([3, 7, 1]), NAMES[:10], eos_id=EOS)
    assert shown.choices == [*range(10), 11]
    assert shown.rollouts["strings"]["11"] == "#11"


def test_it_is_described_by_one_fixed_line():
    assert repr(view(position=4, symbol=0)) == (
        "ErrorPropagation: steps, counts; an answer of 8 symbols, '0' for '9' at position 4"
    )
    assert view().position == 1 and view().symbol == 0


# ---- another source -----------------------------------------------------------------------------------------------


def asked(text: str) -> dict:
    s, d, time = map(int, text.split())
    return {
        "models": {"steps": steps(s, d), "counts": counts(s, d)},
        "answer": task(s, d, time),
        "source_tokens": text.split(),
    }


def test_another_source_runs_the_models_again():
    shown = view(position=6, symbol=0, source_tokens=["3", "4"], recompute=asked)
    assert shown.source_text == "3 4"
    shown.source_text = "1 2 9"
    assert (shown.position, shown.symbol) == (6, 0)
    assert shown.answer == task(1, 2, 9) and shown.written == {"steps": [2, 4], "counts": [5, 7]}
    shown.answers["run"]("5 5 3")  # as the page asks; the position does not exist any more
    assert shown.position == 0 and shown.answer == [5, 0, 5] and shown.rollouts["source"] == ["5", "5", "3"]


@pytest.mark.parametrize(
    "text, says",
    [
        ("1 2 1", "the answer has 1 symbols; the view shows 2 to 64"),
        ("1 2 50", "steps: a prompt of 1 tokens and 49 new ones exceed the model's context_length of 40"),
        ("1 2", "not enough values"),
    ],
)
def test_a_source_that_cannot_be_run_leaves_the_view_as_it_was(text, says):
    shown = view(position=6, symbol=0, recompute=asked)
    shown.source_text = "1 2 9"
    before = shown.rollouts
    with pytest.raises(ValueError, match=says):
        shown.source_text = text
    assert shown.rollouts is before and (shown.source_text, shown.position) == ("1 2 9", 6)


def test_without_recompute_there_is_one_source():
    shown = view()
    with pytest.raises(traitlets.TraitError, match="this view has one source; give it recompute="):
        shown.source_text = "1 2"
    with pytest.raises(ValueError, match=r"recompute gave \['answer', 'model'\]; needed models and answer"):
        view(recompute=lambda text: {"model": counts(1, 2), "answer": [1, 3]}).source_text = "1 2"


# ---- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, says",
    [
        ({"answer": [3]}, "the answer has 1 symbols; the view shows 2 to 64"),
        ({"answer": [3, 7.5]}, r"answer is \[3, 7.5\]; it must be one row of integer ids"),
        ({"answer": [[3, 7]]}, "it must be one row of integer ids"),
        ({"answer": [3, 12]}, r"m: answer is \[3, 12\]; the model's ids lie between 0 and 11"),
        ({"answer": [3, -1]}, "the model's ids lie between 0 and 11"),
        ({"answer": [3, EOS, 4], "eos_id": EOS}, "has the end symbol 10 in it; it may only come last"),
        ({"choices": [EOS], "eos_id": EOS}, "choices has the end symbol 10: nothing would come after"),
        ({"choices": []}, "there are 0 choices; the view takes 1 to 64"),
        ({"choices": [1, 1]}, "each may be named once"),
        ({"choices": [12]}, r"m: choices is \[12\]; the model's ids lie between 0 and 11"),
        ({"answer": [3, 3, 7], "choices": [3]}, "none of them would be an error"),
        ({"correct": lambda prefix: [1]}, r"correct\(\[0\]\) gave 1 symbols; 2 are to follow"),
        ({"models": {}}, "models is 0 of them; give a dict of 1 to 6"),
        ({"models": [counts(1, 1)]}, "models is a list; give a dict of 1 to 6 models by name"),
        ({"prompt": [12]}, "m: ids"),
        ({"position": 3}, "position is 3; the answer has the positions 0 to 2"),
        ({"position": -1}, "position is -1"),
        ({"symbol": 9, "choices": [0, 1]}, r"symbol is 9; it must be None or one of the choices \[0, 1\]"),
    ],
)
def test_bad_input_is_refused_in_words(options, says, as_shipped):
    options = {"models": {"m": counts(3, 4)}, "answer": [3, 7, 1]} | options
    with pytest.raises(ValueError, match=says):
        ErrorPropagation(options.pop("models"), options.pop("answer"), NAMES, **options)


def test_several_sources_are_refused():
    with pytest.raises(ValueError, match="m: the model was given 2 sources; one answer has one"):
        ErrorPropagation({"m": translator().given([[3, 1], [2, 2]])}, [3, 7, 1], NAMES)


def test_a_model_that_starts_from_nothing_says_so():
    config = DecoderConfig.gpt2(vocab_size=12, context_length=14, d_model=16, layers=1, heads=2)
    with pytest.raises(ValueError, match="m: prompt 0 is empty and the model has no bos_id"):
        ErrorPropagation({"m": DecoderLM(config)}, [3, 7, 1], NAMES)


def test_traits_refuse_what_means_nothing():
    shown = view(choices=[0, 1])
    for name, value in [("position", 8), ("position", -1), ("symbol", 5)]:
        with pytest.raises(traitlets.TraitError, match=f"{name} is {value}"):
            setattr(shown, name, value)


def test_the_saved_page_escapes_its_strings(tmp_path):
    strings = [*NAMES]
    strings[7] = "</script><img src=x onerror=alert(1)>"
    shown = ErrorPropagation({"<b>m</b>": counts(3, 4)}, task(3, 4, 4), strings, choices=DIGITS)
    page = shown.save_html(tmp_path / "view.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page and "<b>m</b>" not in page
    state = json.loads(page.split('id="arlab-state">')[1].split("</script>")[0])
    assert state["rollouts"]["strings"]["7"] == strings[7]
