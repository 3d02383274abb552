"""The order view without a browser: what is sent is what the models wrote, and its figures are the library's."""

from __future__ import annotations

import json
import math
import shutil
import subprocess

import pytest
import torch
import traitlets
from torch import nn

from arlab.decoding import greedy
from arlab.decoding.parallel import ParallelStep, parallel_decoding, parallel_steps
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import Recompute
from arlab.text.addition import Addition
from arlab.views.base import HERE
from arlab.views.order_view import OrderView, Parallel, Recorded


class Nearsighted(nn.Module):
    """Adds, but sees no carry that was born more than `reach` places away. Gives its digit e^4 times the others."""

    context_length = bos_id = None

    def __init__(self, task: Addition, reach: int = 9, *, masked: bool = False):
        super().__init__()
        self.task, self.reach, self.masked, self.vocab_size = task, reach, masked, task.vocab_size

    def digit(self, a: int, b: int, place: int) -> int:
        low = max(0, place - self.reach)
        return (a // 10**low + b // 10**low) // 10 ** (place - low) % 10

    def forward(self, ids):
        task, logits = self.task, torch.zeros(*ids.shape, self.vocab_size)
        for row, each in enumerate(ids.tolist()):
            if len(each) < task.prompt_length:
                continue
            a, b = map(int, task.tokenizer.decode(each[: task.prompt_length - 1]).split("+"))
            for n, place in enumerate(task.places):
                at = task.prompt_length + n - (not self.masked)
                if at < len(each):
                    logits[row, at, task.tokenizer.encode(str(self.digit(a, b, place)))[0]] = 4.0
        return logits


LEFT, BACK = Addition(3), Addition(3, reversed=True)
SURE = math.exp(4) / (math.exp(4) + 11)


def lanes(reach: int = 1, **more) -> dict:
    both = {"left": (Recompute(Nearsighted(LEFT, reach)), LEFT), "back": (Recompute(Nearsighted(BACK)), BACK)}
    return both | more


def filler(task: Addition = LEFT, reach: int = 0) -> Nearsighted:
    return Nearsighted(task, reach, masked=True)


def decoder(task: Addition, *, causal: bool = True) -> DecoderLM:
    """Untrained; one with gaps to fill has the mask's id too."""
    vocab = task.vocab_size + (not causal)
    sizes = {"vocab_size": vocab, "context_length": task.length, "d_model": 16, "layers": 1, "heads": 2}
    return DecoderLM(DecoderConfig(**sizes, causal=causal), seed=0)


# ---- what each lane wrote ----------------------------------------------------------------------------------------


def test_a_lane_writes_what_greedy_writes_in_the_order_of_its_task():
    view = OrderView(lanes(), 345, 155)
    for name, (model, task) in view.lanes.items():
        trace = view.traces[name]
        ids = greedy(model, task.encode(345, 155), max_new_tokens=task.answer_length).tokens()
        assert trace.said == task.decode(ids)
        assert [write.place for (write,) in trace.steps] == list(task.places)
        assert "".join(write.symbol for (write,) in trace.steps) == task.tokenizer.decode(ids)
        assert trace.prompt == "345+155=" and trace.right == 500
    assert view.said == {"left": 400, "back": 500} and view.correct == {"left": False, "back": True}


@torch.no_grad()
@pytest.mark.parametrize("task", [LEFT, BACK], ids=["left", "back"])
def test_probabilities_are_the_model_s(task):
    model = decoder(task)
    trace = OrderView({"one": (model, task)}, 208, 792).traces["one"]
    ids = task.encode(208, 792)
    for (write,) in trace.steps:
        p = model(torch.tensor([ids]))[0, -1].softmax(-1)
        chosen = int(p.argmax())
        assert write.symbol == task.symbols[chosen]
        assert write.probability == pytest.approx(float(p[chosen]), rel=1e-5)
        assert write.digits == pytest.approx([float(p[i]) for i in task.tokenizer.encode("0123456789")], rel=1e-4)
        ids.append(chosen)


@pytest.mark.parametrize("steps", [1, 2, 4, 9])
@pytest.mark.parametrize("revise", [False, True])
def test_a_parallel_lane_writes_what_parallel_decoding_fills(steps, revise):
    model = decoder(LEFT, causal=False)
    view = OrderView({"masked": Parallel(model, LEFT, steps, revise)}, 345, 155)
    ids = [[*LEFT.encode(345, 155), *[LEFT.mask_id] * 4]]
    filling = parallel_decoding(model, ids, mask_id=LEFT.mask_id, steps=steps, revise=revise)
    trace = view.traces["masked"]
    assert len(trace.steps) == filling.passes == min(steps, 4)
    for n, place in enumerate(LEFT.places):
        at = LEFT.prompt_length + n
        write = trace.written[place]
        assert write.symbol == LEFT.symbols[int(filling.ids[0, at])]
        assert write.probability == pytest.approx(float(filling.probabilities[0, at]), rel=1e-5)
        last = max(step for step, writes in enumerate(trace.steps) if any(one.place == place for one in writes))
        assert last == int(filling.when[0, at])
    assert trace.said == LEFT.decode(filling.ids[0, LEFT.prompt_length :])
    if not revise:
        assert trace.erased == ((),) * len(trace.steps) and sum(map(len, trace.steps)) == 4


def test_all_at_once_is_one_step_of_every_digit():
    view = OrderView({"masked": Parallel(filler(), LEFT)}, 345, 155)
    (writes,) = view.traces["masked"].steps
    assert [(one.place, one.symbol) for one in writes] == [(3, "0"), (2, "4"), (1, "9"), (0, "0")]
    assert all(one.probability == pytest.approx(SURE) for one in writes)
    assert view.said == {"masked": 490}


def test_what_mask_predict_takes_back_is_erased():
    shape = (1, LEFT.length)
    prompt, mask = LEFT.encode(23, 45), LEFT.mask_id
    zero = LEFT.tokenizer.encode("0")[0]

    def step(index: int, answer: list, filled: list[bool]) -> ParallelStep:
        ids = torch.tensor([prompt + [mask if digit is None else digit + zero for digit in answer]])
        where = torch.tensor([[False] * len(prompt) + filled])
        return ParallelStep(index, ids, where, torch.ones(shape), torch.zeros(*shape, LEFT.vocab_size))

    recorded = [
        step(0, [0, None, None, 7], [True, False, False, True]),
        step(1, [0, 0, 6, None], [False, True, True, False]),
        step(2, [0, 0, 6, 8], [False, False, False, True]),
    ]
    view = OrderView({"recorded": Recorded(LEFT, 23, 45, recorded)})
    trace = view.traces["recorded"]
    assert trace.erased == ((), (0,), ()) and trace.said == 68
    assert [[one.place for one in writes] for writes in trace.steps] == [[3, 0], [2, 1], [0]]


def test_a_recording_is_of_its_own_sum_alone():
    gaps = [[*LEFT.encode(23, 45), *[LEFT.mask_id] * 4]]
    steps = list(parallel_steps(filler(), gaps, mask_id=LEFT.mask_id, steps=2))
    view = OrderView(lanes(recorded=Recorded(LEFT, 23, 45, steps)), 23, 45)
    assert view.said["recorded"] == 68
    view.add(345, 155)
    assert view.traces["recorded"] is None and view.said["recorded"] is None and "recorded" not in view.correct
    assert view._sum["lanes"][2] == {} and "recorded: not recorded" in view.describe()
    with pytest.raises(ValueError, match=r"does not begin with '345\+155='"):
        OrderView({"recorded": Recorded(LEFT, 345, 155, steps)}, 345, 155)
    with pytest.raises(ValueError, match="no step of 12 positions"):
        OrderView({"recorded": Recorded(LEFT, 23, 45, [])}, 23, 45)


def test_what_is_no_number_is_none():
    """A model that writes '+' for ever."""

    class Plus(nn.Module):
        vocab_size, context_length, bos_id = LEFT.vocab_size, None, None

        def forward(self, ids):
            return torch.nn.functional.one_hot(torch.zeros_like(ids), LEFT.vocab_size) * 5.0

    assert LEFT.symbols[0] == "+"
    view = OrderView({"plus": (Recompute(Plus()), LEFT)})
    assert view.said == {"plus": None} and view.correct == {"plus": False}
    assert view._sum["lanes"][0]["said"] is None and "plus: no number" in view.describe()


# ---- state -------------------------------------------------------------------------------------------------------


def test_what_is_sent():
    view = OrderView(lanes(masked=Parallel(filler(), LEFT, 2)), 345, 155, examples=[(23, 45), (345, 155)])
    assert view._lanes == [
        {"name": "left", "way": "left to right"},
        {"name": "back", "way": "right to left"},
        {"name": "masked", "way": "in parallel"},
    ]
    assert [(one["a"], one["b"]) for one in view._recorded] == [(345, 155), (23, 45)]
    assert view._sum == view._recorded[0]
    for sent, trace in zip(view._sum["lanes"], view.traces.values(), strict=True):
        assert sent["prompt"] == "345+155=" and sent["correct"] == trace.correct and sent["said"] == trace.said
        for writes, made in zip(sent["steps"], trace.steps, strict=True):
            for one, write in zip(writes, made, strict=True):
                assert one == {
                    "place": write.place,
                    "symbol": write.symbol,
                    "p": write.probability,
                    "digits": list(write.digits),
                }
    json.dumps(view.saved_state(), allow_nan=False)
    assert view.describe() == "Generation order of 345 + 155 = 500. left: 400; back: 500; masked: 490"


def test_a_new_sum_runs_each_model_once_and_is_kept():
    calls = []
    model = Nearsighted(LEFT)
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    view = OrderView({"one": (Recompute(model), LEFT)}, 23, 45)
    assert len(calls) == 4
    changes = []
    view.observe(lambda change: changes.append(change["new"]), "_sum")
    view.add(345, 155)
    assert len(calls) == 8 and [(one["a"], one["b"]) for one in changes] == [(345, 155)]
    assert (view.a, view.b, view.said["one"]) == (345, 155, 500)
    view.b = 156
    assert len(calls) == 12 and view._sum["b"] == 156 and view.said["one"] == 501
    view.add(23, 45)
    assert len(calls) == 12 and view.said["one"] == 68  # known


def test_a_refused_sum_changes_nothing():
    view = OrderView(lanes(), 23, 45)
    before = view._sum
    for a, b, says in ((1000, 1, "operand 1000.*0 to 999"), (1, -1, "operand -1")):
        with pytest.raises(ValueError, match=says):
            view.add(a, b)
    with pytest.raises(ValueError, match="operand 1000"):
        view.a = 1000
    assert (view.a, view.b) == (23, 45) and view._sum is before


def test_the_first_sum_is_the_lecture_s():
    assert (OrderView(lanes()).a, OrderView(lanes()).b) == (23, 45)
    one = Addition(1)
    view = OrderView({"one": (Recompute(Nearsighted(one)), one)})
    assert (view.a, view.b) == (7, 5) and view.said == {"one": 12}


def test_step_and_place_are_checked():
    view = OrderView(lanes(), step=2, place=3)
    view.step = view.place = None
    for trait, value, says in (("step", 5, "0 to 4"), ("step", -1, "step is -1"), ("place", 4, "0 to 3")):
        with pytest.raises(traitlets.TraitError, match=says):
            setattr(view, trait, value)


def test_lanes_that_do_not_fit_are_refused():
    two = Addition(2)
    with pytest.raises(ValueError, match=r"different lengths: \{'left': 3, 'back': 3, 'two': 2\}"):
        OrderView(lanes(two=(Recompute(Nearsighted(two)), two)))
    with pytest.raises(ValueError, match="at least one lane"):
        OrderView({})
    with pytest.raises(TypeError, match="model, Addition task"):
        OrderView({"one": Recompute(Nearsighted(LEFT))})
    with pytest.raises(ValueError, match="operand 1000"):
        OrderView(lanes(), 1000, 1)


# ---- the page's own arithmetic -----------------------------------------------------------------------------------


def in_node(code: str):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node to run the view's JavaScript; the browser tests cover it too")
    source = (HERE / "order_sum.js").read_text(encoding="utf-8")
    program = f"{source}\nprocess.stdout.write(JSON.stringify(({code})()));"
    done = subprocess.run([node, "--input-type=commonjs", "-e", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_page_s_carries_are_the_task_s():
    task = Addition(2)
    found = in_node(
        """() => { const out = []; for (let a = 0; a < 100; a += 3) for (let b = 0; b < 100; b += 7)
            out.push([a, b, [1, 2].map((place) => orderSum.carryInto(a, b, place))]); return out; }"""
    )
    assert len(found) > 400
    for a, b, carries in found:
        assert tuple(carries) == task.carries(a, b)


def test_the_digits_that_a_digit_needs_are_those_that_can_change_it():
    """For every sum of two digits: the needed places decide the digit, and with one fewer it would be open."""
    found = in_node(
        """() => { const out = []; for (let a = 0; a < 100; a++) for (let b = 0; b < 100; b++)
            out.push([a, b, [0, 1, 2].map((place) => orderSum.needs(a, b, place, () => false))]); return out; }"""
    )

    def possible(a: int, b: int, place: int, known: list[int]) -> set[int]:
        """Digits of the answer at `place`, whatever stands at the places below that are not known."""
        lowest = min(known)
        base, top = 10**lowest, 10**place
        kept = (a // base * base, b // base * base)
        carried = {0} if lowest == 0 else {0, base}  # a carry out of what is not known
        return {(sum(kept) + carry) // top % 10 for carry in carried}

    for a, b, needs in found:
        for place, needed in enumerate(needs):
            assert needed == list(range(place, min(needed) - 1, -1))
            assert possible(a, b, place, needed) == {(a + b) // 10**place % 10}
            if len(needed) > 1:
                assert len(possible(a, b, place, needed[:-1])) == 2, (a, b, place)


def test_a_digit_that_stands_to_the_right_ends_the_chain():
    assert in_node("() => orderSum.needs(345, 155, 2, () => false)") == [2, 1, 0]
    assert in_node("() => orderSum.needs(345, 155, 2, (place) => place === 1)") == [2, 1]


def test_long_carries_travel_through_every_place():
    found = in_node(
        """() => { const out = []; for (let digits = 1; digits < 10; digits++) for (let n = 0; n < 50; n++)
            out.push([digits, orderSum.longCarry(digits)]); return out; }"""
    )
    for digits, (a, b) in found:
        assert Addition(digits).longest_chain(a, b) == digits, (a, b)


def test_ordinals():
    assert in_node("() => [1, 2, 3, 4, 10, 11, 12, 13, 21].map(orderSum.ordinal)") == (
        ["1st", "2nd", "3rd", "4th", "10th", "11th", "12th", "13th", "21st"]
    )
