"""Cost explorer: memory and arithmetic against the length of the context, predicted from a config, measured on top."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import traitlets

from arlab.nn import costs
from arlab.nn.decoder import DecoderConfig
from arlab.views.base import BadValue, View, script, style

TIME = (8, 32_768)
LIMITS = {"layers": 256, "heads": 256, "kv_heads": 256, "d_model": 32_768, "rows": 4096}
ITEMSIZE = {"float32": 4, "bfloat16": 2}
GIB = 1 << 30

# As their authors published them. Only what costs depend on matters here.
MODELS: dict[str, DecoderConfig] = {
    "small GPT": DecoderConfig.gpt2(vocab_size=65, context_length=256, d_model=128, layers=4, heads=4),
    "GPT-2": DecoderConfig.gpt2(vocab_size=50_257, context_length=1024, d_model=768, layers=12, heads=12),
    "GPT-2 XL": DecoderConfig.gpt2(vocab_size=50_257, context_length=1024, d_model=1600, layers=48, heads=25),
    "SmolLM2-135M": DecoderConfig.llama(
        vocab_size=49_152, context_length=8192, d_model=576, layers=30, heads=9, kv_heads=3, d_ff=1536
    ),
    "Llama 2 7B": DecoderConfig.llama(
        vocab_size=32_000, context_length=4096, d_model=4096, layers=32, heads=32, d_ff=11_008, tied=False
    ),
    "Llama 3 8B": DecoderConfig.llama(
        vocab_size=128_256, context_length=8192, d_model=4096, layers=32, heads=32, kv_heads=8, d_ff=14_336, tied=False
    ),
    "GPT-3": DecoderConfig.gpt2(vocab_size=50_257, context_length=2048, d_model=12_288, layers=96, heads=96),
}


class CostExplorer(View):
    """What a decoder costs as its context grows to 32,768 tokens: memory on one side, arithmetic on the other.

        view = CostExplorer("SmolLM2-135M", time=2048)          # or a DecoderConfig of your own
        view.time = 8192            # moves the slider; rows, layers, heads, kv_heads, d_model, dtype, memory too
        view.figures                # every number shown, from arlab.nn.costs
        view.config                 # the DecoderConfig that is priced

    measured: {"attention maps": [(T, bytes), ...]}, laid over the memory; seconds: {"with cache": [(T, seconds), ...]},
    laid over the arithmetic at `rate` GFLOP/s (left out, the rate that fits them best). A name that is one of LINES
    takes that line's colour; any other has its own. Seconds are those of one token of one row. Points belong to the
    model given: they turn grey while another one, or other sizes, are chosen.

    kv_heads = 0 stands for "as many as heads". Sizes that do not fit each other (heads that do not divide d_model) are
    refused; to change several at once: `with view.hold_trait_notifications(): view.d_model, view.heads = 512, 8`.
    When d_model moves, the feed-forward width moves with it. Raises ValueError for values that make no sense.

    Source: lecture 001 on sequence length and memory; Dao et al. (2022) for the fused kernel.
    """

    title = "Cost explorer"
    _esm = script("heat.js", "costs.js", "cost_chart.js", "cost_explorer.js")
    _css = style("cost_explorer.css")
    LINES = ("weights", "attention maps", "fused attention", "KV cache", "without cache", "with cache", "training")

    model = traitlets.Unicode("").tag(sync=True)  # which of `models` the sizes started from
    models = traitlets.Dict().tag(sync=True)  # name -> what costs depend on
    time = traitlets.Int(1024).tag(sync=True)
    rows = traitlets.Int(1).tag(sync=True)
    layers = traitlets.Int(1).tag(sync=True)
    d_model = traitlets.Int(8).tag(sync=True)
    heads = traitlets.Int(1).tag(sync=True)
    kv_heads = traitlets.Int(0, help="0: as many as heads").tag(sync=True)
    dtype = traitlets.Enum(list(ITEMSIZE), "float32").tag(sync=True)
    memory = traitlets.Float(16.0, help="GiB, the line that everything has to stay under").tag(sync=True)
    rate = traitlets.Float(0.0, help="GFLOP/s, which lays seconds over FLOPs; 0 where there are none").tag(sync=True)
    measured_model = traitlets.Unicode("", help="whose the measured points are").tag(sync=True)
    measured = traitlets.Dict().tag(sync=True)
    seconds = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        config: DecoderConfig | str = "small GPT",
        *,
        measured: Mapping[str, Sequence[tuple[int, float]]] | None = None,
        seconds: Mapping[str, Sequence[tuple[int, float]]] | None = None,
        time: int = 1024,
        rows: int = 1,
        dtype: str = "float32",
        memory: float = 16.0,
        rate: float | None = None,
    ) -> None:
        self._models = dict(MODELS)
        if isinstance(config, DecoderConfig):
            self._models, config = {"this model": config, **MODELS}, "this model"
        measured, seconds = _points("measured", measured), _points("seconds", seconds)
        with_sizes = {name: _told(one) for name, one in self._models.items()}
        super().__init__(models=with_sizes, measured_model=config, measured=measured, seconds=seconds, dtype=dtype)
        self.model, self.time, self.rows, self.memory = config, time, rows, memory
        if seconds:
            self.rate = self._fitted_rate() if rate is None else rate

    # -- what is shown, from the library ---------------------------------------------------------------------------

    @property
    def config(self) -> DecoderConfig:
        """The config that is priced: the chosen model with the sizes of the sliders."""
        return self._sized(layers=self.layers, d_model=self.d_model, heads=self.heads, kv_heads=self.kv_heads)

    @property
    def figures(self) -> dict[str, float]:
        """Each line at the chosen T, and where lines cross: bytes, FLOPs, tokens, rows."""
        config, time, rows, size = self.config, self.time, self.rows, ITEMSIZE[self.dtype]
        weights = sum(costs.parameters(config).values()) * size
        step = costs.forward_flops(config, 1, time - 1)
        attention = step["scores"] + step["mix"]
        maps, cache = costs.attention_weight_bytes(config, 1, 1, size), costs.kv_cache_bytes(config, 1, 1, size)
        free = self.memory * GIB - weights
        return {
            "weights": weights,
            "attention maps": costs.attention_weight_bytes(config, rows, time, size),
            "fused attention": fused_attention_bytes(config, rows, time),
            "KV cache": costs.kv_cache_bytes(config, rows, time, size),
            "without cache": sum(costs.forward_flops(config, time, last_only=True).values()),
            "with cache": sum(step.values()),
            "training": sum(costs.training_flops(config, time).values()) / time,
            "maps pass the weights at": math.sqrt(weights / (rows * maps)),
            "cache passes the weights at": weights / (rows * cache),
            "attention passes the matrices at": (sum(step.values()) - attention) / (attention / time),
            "rows with maps": max(0, math.floor(free / (maps * time * time))),
            "rows with cache": max(0, math.floor(free / (cache * time))),
        }

    def describe(self) -> str:
        return f"CostExplorer: {self.model}, {len(self.measured) + len(self.seconds)} measured series"

    def _sized(self, *, layers: int, d_model: int, heads: int, kv_heads: int) -> DecoderConfig:
        start = self._models[self.model]
        d_ff = max(1, (start.n_ff * d_model + start.d_model // 2) // start.d_model)  # in proportion, rounded half up
        return replace(start, layers=layers, d_model=d_model, heads=heads, kv_heads=kv_heads or None, d_ff=d_ff)

    def _fitted_rate(self) -> float:
        """GFLOP/s: the geometric mean over all points of a known line, or of the first series as "with cache"."""
        known = {name: points for name, points in self.seconds.items() if name in self.LINES[4:]}
        logs = []
        for name, points in (known or {"with cache": next(iter(self.seconds.values()))}).items():
            for time, value in points:
                logs.append(math.log(line_flops(self.config, name, time) / value))
        return float(f"{math.exp(sum(logs) / len(logs)) / 1e9:.3g}")

    # -- what may be set ---------------------------------------------------------------------------------------------

    @traitlets.observe("model")
    def _load_model(self, change) -> None:
        start = self._models[change["new"]]
        with self.hold_sync(), self.hold_trait_notifications():
            self.layers, self.d_model, self.heads = start.layers, start.d_model, start.heads
            self.kv_heads = start.kv_heads or 0

    @traitlets.validate("model")
    def _check_model(self, proposal) -> str:
        if proposal["value"] not in self._models:
            raise BadValue(f"model is {proposal['value']!r}; it must be one of {', '.join(self._models)}")
        return proposal["value"]

    @traitlets.validate("layers", "d_model", "heads", "kv_heads", "rows")
    def _check_size(self, proposal) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        least = 0 if name == "kv_heads" else 1
        if not least <= value <= LIMITS[name]:
            raise BadValue(f"{name} is {value}; it must be from {least} to {LIMITS[name]}")
        if name != "rows" and self.model:
            sizes = {size: getattr(self, size) for size in ("layers", "d_model", "heads", "kv_heads")}
            try:
                self._sized(**(sizes | {name: value}))
            except ValueError as error:
                raise BadValue(str(error)) from None
        return value

    @traitlets.validate("time")
    def _check_time(self, proposal) -> int:
        if not TIME[0] <= proposal["value"] <= TIME[1]:
            raise BadValue(f"time is {proposal['value']}; it must be from {TIME[0]} to {TIME[1]}")
        return proposal["value"]

    @traitlets.validate("memory", "rate")
    def _check_positive(self, proposal) -> float:
        name, value = proposal["trait"].name, proposal["value"]
        if not 0 < value < math.inf:  # NaN fails too
            raise BadValue(f"{name} is {value}; it must be a finite number above 0")
        return value


def fused_attention_bytes(config: DecoderConfig, rows: int, time: int) -> int:
    """Bytes that a fused kernel keeps in place of the maps: for each query one float32, the log of its softmax's sum.

    From it the backward pass computes the weights anew, a block at a time (FlashAttention, Dao et al., 2022).
    """
    return config.layers * rows * config.heads * time * 4


def line_flops(config: DecoderConfig, line: str, time: int) -> float:
    """FLOPs for one token, one row: "without cache" (the whole text of `time` tokens anew), "with cache" (the last of
    them, the others kept), or "training" (a step over `time` tokens, divided by them)."""
    if line == "training":
        return sum(costs.training_flops(config, time).values()) / time
    passed = (time, 0) if line == "without cache" else (1, time - 1)
    return sum(costs.forward_flops(config, *passed, last_only=True).values())


def _told(config: DecoderConfig) -> dict[str, Any]:
    """What costs depend on, for the page: costs.js reads these names as costs.py reads a config's."""
    same = ("vocab_size", "context_length", "d_model", "layers", "heads", "d_head", "ffn", "norm", "norm_first")
    told = {name: getattr(config, name) for name in (*same, "positions", "bias", "qkv_has_bias", "tied")}
    return {**told, "kv_heads": config.kv_heads or 0, "d_ff": config.n_ff}


def _points(what: str, series: Mapping[str, Sequence[tuple[int, float]]] | None) -> dict[str, list[list]]:
    """Plain lists, or a ValueError that names the series and the point."""
    checked: dict[str, list[list]] = {}
    for name, points in (series or {}).items():
        checked[name] = [[int(point[0]), float(point[1])] if len(point) == 2 else [] for point in points]
        for point, kept in zip(points, checked[name], strict=True):
            if not kept or kept[0] != point[0] or not (TIME[0] <= kept[0] <= TIME[1] and 0 < kept[1] < math.inf):
                raise BadValue(
                    f"{what}[{name!r}] has the point {tuple(point)}; expected (T, value), "
                    f"T an integer from {TIME[0]} to {TIME[1]} and the value above 0"
                )
        if not points:
            raise BadValue(f"{what}[{name!r}] has no points")
    return checked
