"""Mask workbench: edit who may attend to whom, see what softmax makes of it, and measure what a model really uses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import traitlets
from jaxtyping import Bool, Float
from torch import Tensor

from arlab.nn.attention import attention
from arlab.nn.leaks import leak_map
from arlab.nn.masks import causal_mask
from arlab.views.base import BadValue, View, script, style

MAX_TIME, MAX_LEAK_IDS = 16, 64
PRESETS = ("causal", "none", "window", "prefix", "padding", "strict", "cache", "cache-top-left", "custom")
CACHED_QUERIES = 3  # new tokens in the two presets with a cache


def preset_mask(name: str, time: int, *, window: int = 3, prefix: int = 3, pad_left: int = 2) -> Bool[Tensor, "q k"]:
    """The mask of a preset: (time, time), or (3, time) for the last three queries after a cache; True = may attend.

    causal: s <= t. none: everything. window: the last `window` positions, its own included. prefix: the first `prefix`
    positions see each other, the rest is causal. padding: causal, and the first `pad_left` positions are nobody's.
    strict: s < t, the diagonal masked as well. cache: three new queries, bottom-right aligned, as it must be.
    cache-top-left: the same aligned at the top left, what `is_causal=True` does with fewer queries than keys.
    """
    t, s = torch.arange(time)[:, None], torch.arange(time)
    causal = s <= t
    queries = min(CACHED_QUERIES, time)
    masks = {
        "causal": causal,
        "none": torch.ones(time, time, dtype=torch.bool),
        "window": causal & (t - s < window),
        "prefix": causal | ((t < prefix) & (s < prefix)),
        "padding": causal & (s >= pad_left),
        "strict": s < t,
        "cache": causal_mask(queries, time),
        "cache-top-left": causal[:queries],
    }
    if name not in masks:
        raise BadValue(f"preset is {name!r}; it must be one of {', '.join(masks)}")
    return masks[name]


class MaskWorkbench(View):
    """Click the cells of an attention mask and follow them: scores, masked scores with -inf, softmax rows, and words.

    time: positions, 2 to 16. window, prefix, pad_left: start from a sliding window, a prefix that sees itself, or left
    padding (one of them; otherwise causal), and the sizes that the presets of the page use. tokens: one for each
    position. scores: (time, time), the scores before the mask; a fixed random draw when left out.

    model, ids: adds the leak detector, |d logits[t] / d embedding[s]| measured by `arlab.nn.leaks.leak_map` on `ids`
    (1 to 64 of them; `tokens` then names these). It is measured once, here; the page draws it.

    `mask` is the boolean mask shown; set it, or `preset`, to change the page. `problems` are the page's remarks.
    Raises ValueError for sizes out of range and for tokens or scores that do not fit.
    """

    title = "Mask workbench"
    _esm = script("heat.js", "mask_workbench.js")
    _css = style("heat.css")

    preset = traitlets.Unicode("causal").tag(sync=True)
    cells = traitlets.List(traitlets.List(traitlets.Int())).tag(sync=True)  # queries x keys, 1 = may attend
    query = traitlets.Int(0).tag(sync=True)
    key = traitlets.Int(0).tag(sync=True)
    tab = traitlets.Enum(["mask", "leaks"], "mask").tag(sync=True)
    sizes = traitlets.Dict().tag(sync=True)  # time, window, prefix, pad_left
    presets = traitlets.Dict().tag(sync=True)  # name -> cells, so that Python and the page cannot disagree
    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    scores = traitlets.List(traitlets.List(traitlets.Float())).tag(sync=True)
    problems = traitlets.List(traitlets.Unicode()).tag(sync=True)
    leak = traitlets.List(traitlets.List(traitlets.Float())).tag(sync=True)
    leak_tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(
        self,
        time: int = 8,
        *,
        window: int | None = None,
        prefix: int = 0,
        pad_left: int = 0,
        model=None,
        ids=None,
        tokens: Sequence[str] | None = None,
        scores: Float[Tensor, "time time"] | None = None,
        tab: str | None = None,
    ) -> None:
        sizes = _checked_sizes(time, window, prefix, pad_left)
        preset = "window" if window is not None else "prefix" if prefix else "padding" if pad_left else "causal"
        if (model is None) != (ids is None):
            raise ValueError("the leak detector needs both a model and ids")
        self.measured: Tensor | None = None
        leak, leak_tokens = [], []
        if model is not None:
            self.measured = _measure(model, ids)
            leak = self.measured.tolist()
            leak_tokens = _named(tokens, len(leak), "ids")
            tokens = tokens if tokens is not None and len(tokens) == time else None
        masks = {name: preset_mask(name, **sizes).int().tolist() for name in PRESETS if name != "custom"}
        super().__init__(
            sizes=sizes,
            presets=masks,
            cells=masks[preset],
            preset=preset,
            tokens=_named(tokens, time, "positions"),
            scores=_checked_scores(scores, time),
            leak=leak,
            leak_tokens=leak_tokens,
            tab=tab or ("leaks" if model is not None else "mask"),
        )

    @property
    def mask(self) -> Bool[Tensor, "queries keys"]:
        """The mask shown, True = may attend."""
        return torch.tensor(self.cells, dtype=torch.bool)

    @mask.setter
    def mask(self, mask: Bool[Tensor, "queries keys"]) -> None:
        mask = torch.as_tensor(mask)
        time = self.sizes["time"]
        if mask.dtype != torch.bool or mask.dim() != 2 or mask.size(1) != time or not 1 <= mask.size(0) <= time:
            raise ValueError(
                f"the mask has shape {tuple(mask.shape)} and dtype {mask.dtype}; needed: bool, (queries, {time}) with "
                f"1 to {time} queries"
            )
        with self.hold_sync():
            self.cells, self.preset = mask.int().tolist(), "custom"

    @property
    def weights(self) -> Float[Tensor, "queries keys"]:
        """What `arlab.nn.attention.attention` makes of the scores under the mask shown, float64."""
        mask = self.mask
        scores = torch.tensor(self.scores, dtype=torch.float64)[-len(mask) :]
        keys = torch.eye(scores.size(1), dtype=torch.float64) * scores.size(1) ** 0.5  # q k^T / sqrt(d_k) = scores
        return attention(scores, keys, keys, mask)[1]

    def describe(self) -> str:
        detector = "" if self.measured is None else f"; leak detector over {len(self.measured)} tokens"
        return f"MaskWorkbench: {self.sizes['time']} positions{detector}"

    @traitlets.validate("query", "key")
    def _check_index(self, proposal) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        if not 0 <= value < self.sizes["time"]:
            raise BadValue(f"{name} is {value}; it must be from 0 to {self.sizes['time'] - 1}")
        return value

    @traitlets.validate("preset")
    def _check_preset(self, proposal) -> str:
        if proposal["value"] not in PRESETS:
            raise BadValue(f"preset is {proposal['value']!r}; it must be one of {', '.join(PRESETS)}")
        return proposal["value"]

    @traitlets.observe("preset")
    def _preset_changed(self, change) -> None:
        if change["new"] in self.presets:
            self.cells = self.presets[change["new"]]


def _checked_sizes(time: int, window: int | None, prefix: int, pad_left: int) -> dict[str, int]:
    if not 2 <= time <= MAX_TIME:
        raise ValueError(f"time is {time}; the workbench shows 2 to {MAX_TIME} positions")
    if window is not None and not 1 <= window <= time:
        raise ValueError(f"window is {window}; it must be from 1 to time = {time}")
    for name, value in (("prefix", prefix), ("pad_left", pad_left)):
        if not 0 <= value < time:
            raise ValueError(f"{name} is {value}; it must be from 0 to time - 1 = {time - 1}")
    if (window is not None) + (prefix > 0) + (pad_left > 0) > 1:
        raise ValueError("choose one of window, prefix and pad_left to start from; cells can be clicked afterwards")
    usual = {"window": min(3, time), "prefix": min(3, time - 1), "pad_left": min(2, time - 1)}  # what the presets use
    asked = {"window": window, "prefix": prefix, "pad_left": pad_left}
    return {"time": time} | usual | {name: value for name, value in asked.items() if value}


def _named(tokens: Sequence[str] | None, count: int, what: str) -> list[str]:
    tokens = [str(t) for t in range(count)] if tokens is None else list(tokens)
    if len(tokens) != count:
        raise ValueError(f"there are {len(tokens)} tokens for {count} {what}")
    return tokens


def _checked_scores(scores: Tensor | None, time: int) -> list[list[float]]:
    if scores is None:
        draw = torch.randn(time, time, generator=torch.Generator().manual_seed(3))
        scores = (13 * draw.double()).round() / 10  # one decimal: what is printed is what is computed with
    scores = torch.as_tensor(scores).double()
    if scores.shape != (time, time) or not scores.isfinite().all():
        raise ValueError(f"scores has shape {tuple(scores.shape)}; needed: finite numbers, ({time}, {time})")
    return scores.tolist()


def _measure(model, ids) -> Float[Tensor, "time time"]:
    count = torch.as_tensor(ids).shape[-1:].numel()
    if count > MAX_LEAK_IDS:  # before a long measurement, not after it
        raise ValueError(f"there are {count} ids; the leak detector draws 1 to {MAX_LEAK_IDS}")
    return leak_map(model, ids)
