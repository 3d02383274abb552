"""The pipeline view: raw -> temperature -> top-k -> top-p -> draw, each stage a panel, in any order of the filters."""

from __future__ import annotations

from typing import Any

import traitlets

from arlab.decoding import filters as lab_filters
from arlab.views.base import BadValue, script, style
from arlab.views.next_token_state import DistributionView, entropy_bits

STAGES = ("temperature", "top_k", "top_p")


class Pipeline(DistributionView):
    """What each filter does to the same next-token distribution, and what its place in the line changes.

        Pipeline(model, tokenizer, "The cat sat on the", temperature=0.8, top_k=50, top_p=0.9)
        view.order = ("top_p", "temperature", "top_k")    # or by the arrows above the panels
        view.stages()                                     # survivors, mass and entropy after each stage

    `Pipeline.from_logits(logits, token_strings)` shows a distribution made by hand. Min-p has no panel here; the
    next-token explorer has it.
    """

    title = "From logits to a token"
    _esm = script("distribution.js", "filter_controls.js", "pipeline.js")
    _css = style("distribution.css", "pipeline.css")

    order = traitlets.List(traitlets.Unicode(), list(STAGES)).tag(sync=True)

    @traitlets.validate("order")
    def _check_order(self, proposal: Any) -> list[str]:
        if sorted(proposal["value"]) != sorted(STAGES):
            raise BadValue(f"order is {proposal['value']}; it must be {list(STAGES)} in some order")
        return list(proposal["value"])

    @traitlets.validate("min_p")
    def _check_min_p(self, proposal: Any) -> float:
        if proposal["value"] != 0:
            raise BadValue(f"min_p is {proposal['value']!r}; the pipeline has no panel for it, use NextToken")
        return proposal["value"]

    def filters(self) -> list[lab_filters.Filter]:
        """The library's filters that do what the panels do, in their order; those that are off are left out."""
        return self._made(self.order)

    def stages(self) -> list[dict[str, Any]]:
        """Name, tokens kept, share of the previous stage's mass kept and entropy (bits) after each stage."""
        logits, before = self._logits, self._logits.double().softmax(-1)
        kept = int(logits.isfinite().sum())
        rows = [{"stage": "raw", "kept": kept, "mass": 1.0, "entropy_bits": entropy_bits(before)}]
        for name in self.order:
            for filter_ in self._made([name]):
                logits = filter_(logits)
            kept = logits.isfinite()
            after = logits.double().softmax(-1)
            mass = 1.0 if name == "temperature" and self.temperature > 0 else float(before[kept].sum())
            rows.append({"stage": name, "kept": int(kept.sum()), "mass": mass, "entropy_bits": entropy_bits(after)})
            before = after
        return rows
