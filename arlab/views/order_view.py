"""Order view: one sum, written by several models side by side, each in its own order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import traitlets

from arlab.views.base import BadValue, View, script, style
from arlab.views.order_lanes import Lane, LaneTrace, Parallel, Recorded, task_of, told, trace, way_of

__all__ = ["Lane", "LaneTrace", "OrderView", "Parallel", "Recorded"]


class OrderView(View):
    """A sum as it is written on paper, and the digits of the answer in the order in which each model writes them.

        view = OrderView({"left to right": (model, Addition(3)), "reversed": (other, Addition(3, reversed=True))},
                         a=345, b=155, examples=[(23, 45), (999, 1)])
        view.step = 2               # after two passes of each model; None: the end, where everything can be seen
        view.place = 2              # look at the hundreds in every lane; None: each lane's own choice
        view.add(208, 792)          # another sum: the models run. view.a = 208 does the same with the b shown
        view.said                   # {"left to right": 900, "reversed": 1000}; None for what is no number
        view.correct                # {"left to right": False, "reversed": True}
        view.traces                 # the LaneTrace of each lane: every digit written, with its probabilities

    A lane is (model, Addition task): greedy decoding; `Parallel(model, task, steps=...)`: a masked model that fills
    several digits in one pass; or `Recorded(task, a, b, steps)`: ParallelSteps made before. `examples` are computed
    at once, so that a saved page can show them too.

    Source: lecture 004 (23 + 45 = 68 in either order); reversed addition: "Teaching Arithmetic to Small
    Transformers" (Lee et al., 2024); mask-predict: Ghazvininejad et al. (2019).
    """

    title = "Generation order"
    _esm = script("order_sum.js", "order_lane.js", "order_view.js")
    _css = style("order_view.css")

    a = traitlets.Int(0).tag(sync=True)
    b = traitlets.Int(0).tag(sync=True)
    step = traitlets.Int(None, allow_none=True, help="passes of the models; None: the end").tag(sync=True)
    place = traitlets.Int(None, allow_none=True, help="the power of ten looked at in every lane").tag(sync=True)
    _digits = traitlets.Int(1).tag(sync=True)
    _lanes = traitlets.List(traitlets.Dict()).tag(sync=True)  # name, way
    _recorded = traitlets.List(traitlets.Dict()).tag(sync=True)  # the examples' sums, as _sum
    _sum = traitlets.Dict().tag(sync=True)  # a, b and what each lane wrote

    def __init__(
        self,
        models: Mapping[str, Any],  # of Lane
        a: int | None = None,
        b: int | None = None,
        *,
        examples: Sequence[tuple[int, int]] = (),
        step: int | None = None,
        place: int | None = None,
    ):
        """
        Args:
            models: lanes by name, in the order in which they are shown; all of the same number of digits.
            a, b: the sum shown first; None: 23 + 45, as in the lecture (7 + 5 with a single digit).
            examples: more sums, to be chosen without a kernel.

        Raises:
            ValueError: no lane, tasks with different numbers of digits, an operand out of range, a model that does
                not fit its task.
            TypeError: what is no lane.
        """
        if not isinstance(models, Mapping) or not models:
            raise BadValue("models must be a dict, {'name': lane}, with at least one lane")
        self.lanes: dict[str, Lane] = {str(name): lane for name, lane in models.items()}
        tasks = {name: task_of(lane) for name, lane in self.lanes.items()}
        widths = {name: task.digits for name, task in tasks.items()}
        if len(set(widths.values())) > 1:
            raise BadValue(f"the lanes add numbers of different lengths: {widths}; they must have the same digits")
        self.task = next(iter(tasks.values()))
        small = self.task.digits == 1
        a, b = (7 if small else 23) if a is None else a, (5 if small else 45) if b is None else b
        self._found: dict[tuple[int, int], dict[str, LaneTrace | None]] = {}
        sums = list(dict.fromkeys([(a, b), *(tuple(pair) for pair in examples)]))
        recorded = [self._told(*pair) for pair in sums]
        super().__init__(
            a=a,
            b=b,
            step=step,
            place=place,
            _digits=self.task.digits,
            _lanes=[{"name": name, "way": way_of(lane)} for name, lane in self.lanes.items()],
            _recorded=recorded,
            _sum=recorded[0],
        )
        self.answers["add"] = self.add

    # -- the sum -------------------------------------------------------------------------------------------------

    def add(self, a: int, b: int) -> None:
        """Let every model write a + b, and show it.

        Raises:
            ValueError: an operand that is negative or has too many digits.
        """
        told = self._told(a, b)  # first, so that a refused sum changes nothing
        with self.hold_sync(), self.hold_trait_notifications():
            self.a, self.b, self._sum = a, b, told

    @traitlets.validate("a", "b")
    def _check_operand(self, proposal: Any) -> int:
        self.task.encode(proposal["value"], 0)
        return proposal["value"]

    @traitlets.observe("a", "b")
    def _operand_changed(self, _change: Any) -> None:
        if (self._sum.get("a"), self._sum.get("b")) != (self.a, self.b):
            self._sum = self._told(self.a, self.b)

    @traitlets.validate("step")
    def _check_step(self, proposal: Any) -> int | None:
        step, most = proposal["value"], self.task.answer_length
        if step is not None and not 0 <= step <= most:
            raise BadValue(f"step is {step}; it must be from 0 to {most}, or None for the end")
        return step

    @traitlets.validate("place")
    def _check_place(self, proposal: Any) -> int | None:
        place, most = proposal["value"], self.task.digits
        if place is not None and not 0 <= place <= most:
            raise BadValue(f"place is {place}; it must be a power of ten from 0 to {most}, or None")
        return place

    def _traced(self, a: int, b: int) -> dict[str, LaneTrace | None]:
        if (a, b) not in self._found:
            self.task.encode(a, b)  # refuses what is out of range
            self._found[a, b] = {name: trace(lane, a, b) for name, lane in self.lanes.items()}
        return self._found[a, b]

    def _told(self, a: int, b: int) -> dict[str, Any]:
        return {"a": a, "b": b, "lanes": [told(one) for one in self._traced(a, b).values()]}

    # -- what is shown, in Python --------------------------------------------------------------------------------

    @property
    def traces(self) -> dict[str, LaneTrace | None]:
        """What each lane wrote; None for a recording of another sum."""
        return dict(self._traced(self.a, self.b))

    @property
    def said(self) -> dict[str, int | None]:
        """The number each lane wrote; None where it is no number, or not recorded."""
        return {name: one and one.said for name, one in self.traces.items()}

    @property
    def correct(self) -> dict[str, bool]:
        """Whether each lane's answer is a + b; lanes without an answer are left out."""
        return {name: one.correct for name, one in self.traces.items() if one is not None}

    def describe(self) -> str:
        answers = "; ".join(
            f"{name}: {'not recorded' if one is None else 'no number' if one.said is None else one.said}"
            for name, one in self.traces.items()
        )
        return f"{self.title} of {self.a} + {self.b} = {self.a + self.b}. {answers}"
