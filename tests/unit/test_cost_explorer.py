"""The cost explorer without a browser: costs.js, run by Node, against arlab.nn.costs; presets; refused input."""

from __future__ import annotations

import json
import math
import shutil
import subprocess

import pytest
import torch

from arlab.nn import costs
from arlab.nn.decoder import DecoderConfig
from arlab.views.base import HERE
from arlab.views.cost_explorer import GIB, ITEMSIZE, MODELS, CostExplorer, _told, fused_attention_bytes, line_flops

HARNESS = """
const { cases, sizes, fits } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const out = cases.map((state) => ({ figures: costs.figures(state), parameters: costs.parameters(state.config),
  forward: costs.forwardFlops(state.config, state.time, state.past),
  last: costs.forwardFlops(state.config, state.time, state.past, true) }));
const written = sizes.map((x) => [costs.bytes(x), costs.flops(x), costs.count(x), costs.seconds(x)]);
const moved = fits.map(([n, wanted, now]) => costs.towards(costs.divisors(n), wanted, now));
process.stdout.write(JSON.stringify({ out, written, moved, even: costs.divisors(12, true) }));
"""


def node() -> str:
    found = shutil.which("node")
    if found:
        return found
    driver = pytest.importorskip("playwright._impl._driver", reason="needs Node, or playwright's own (the test extra)")
    return str(driver.compute_driver_executable()[0])


def in_javascript(cases: list[dict] = (), sizes: list[float] = (), fits: list = ()) -> dict:
    code = (HERE / "costs.js").read_text(encoding="utf-8") + HARNESS
    command = [node(), "--input-type=commonjs", "-e", code]
    told = json.dumps({"cases": list(cases), "sizes": list(sizes), "fits": list(fits)})
    done = subprocess.run(command, input=told, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def configs() -> list[DecoderConfig]:
    """The presets, and thirty drawn at random over every choice that changes a count."""
    generator = torch.Generator().manual_seed(0)
    pick = lambda *choices: choices[int(torch.randint(len(choices), (), generator=generator))]  # noqa: E731
    drawn = []
    for _ in range(30):
        heads = pick(1, 2, 4, 6)
        drawn.append(
            DecoderConfig(
                vocab_size=pick(65, 1000, 50_257),
                context_length=pick(32, 1024),
                d_model=12 * pick(2, 4, 32, 64),
                layers=pick(1, 3, 24),
                heads=heads,
                kv_heads=pick(None, 1, heads),
                d_head=pick(None, None, 16),
                d_ff=pick(None, 77, 1536),
                norm=pick("layer", "rms", "batch", "none"),
                norm_first=pick(True, False),
                positions=pick("learned", "rotary", "sinusoidal", "none"),
                ffn=pick("gelu", "swiglu"),
                bias=pick(True, False),
                qkv_bias=pick(None, True, False),
                tied=pick(True, False),
            )
        )
    return [*MODELS.values(), *drawn]


def test_the_page_counts_what_the_library_counts():
    generator = torch.Generator().manual_seed(1)
    draw = lambda low, high: int(torch.randint(low, high + 1, (), generator=generator))  # noqa: E731
    cases, views = [], []
    for config in configs():
        view = CostExplorer(config, time=draw(8, 32_768), rows=draw(1, 64), dtype=("float32", "bfloat16")[draw(0, 1)])
        view.memory = float(draw(1, 200))
        size = ITEMSIZE[view.dtype]
        state = {"config": _told(config), "time": view.time, "rows": view.rows, "memory": view.memory, "itemsize": size}
        cases.append({**state, "past": draw(0, 5000)})
        views.append(view)
    for config, view, case, page in zip(configs(), views, cases, in_javascript(cases)["out"], strict=True):
        assert view.config == config or (view.config.n_ff, view.config.d_ff) == (config.n_ff, config.n_ff)
        assert page["parameters"] == costs.parameters(config)
        assert page["forward"] == costs.forward_flops(config, case["time"], case["past"])
        assert page["last"] == costs.forward_flops(config, case["time"], case["past"], last_only=True)
        assert page["figures"] == pytest.approx(view.figures, rel=1e-9)
        for line in CostExplorer.LINES[4:]:
            assert line_flops(config, line, view.time) == pytest.approx(view.figures[line])


def test_presets_have_the_published_number_of_parameters():
    published = {
        "GPT-2": 124_439_808,
        "GPT-2 XL": 1_557_611_200,
        "SmolLM2-135M": 134_515_008,
        "Llama 2 7B": 6_738_415_616,
        "Llama 3 8B": 8_030_261_248,
    }
    counted = {name: sum(costs.parameters(config).values()) for name, config in MODELS.items()}
    assert {name: counted[name] for name in published} == published
    assert counted["GPT-3"] == pytest.approx(175e9, rel=0.003)


def test_crossings_are_where_the_lines_meet():
    view = CostExplorer("SmolLM2-135M", rows=3, dtype="bfloat16")
    figures, config = view.figures, view.config
    for name, line in (("maps", costs.attention_weight_bytes), ("cache", costs.kv_cache_bytes)):
        time = math.ceil(figures[f"{name} {'pass' if name == 'maps' else 'passes'} the weights at"])
        assert line(config, 3, time - 1, 2) < figures["weights"] <= line(config, 3, time, 2)
    time = math.ceil(figures["attention passes the matrices at"])
    parts = costs.forward_flops(config, 1, time - 1)
    attention = parts["scores"] + parts["mix"]
    assert attention >= sum(parts.values()) - attention
    parts = costs.forward_flops(config, 1, time - 2)
    attention = parts["scores"] + parts["mix"]
    assert attention < sum(parts.values()) - attention


def test_as_many_rows_as_fit_and_not_one_more():
    view = CostExplorer("GPT-2", time=2000, memory=3.0)
    figures = view.figures
    for kind, line in (("maps", costs.attention_weight_bytes), ("cache", costs.kv_cache_bytes)):
        rows = figures[f"rows with {kind}"]
        assert figures["weights"] + line(view.config, rows, 2000) <= 3 * GIB
        assert figures["weights"] + line(view.config, rows + 1, 2000) > 3 * GIB
    view.memory = 0.25  # less than the weights
    assert view.figures["rows with maps"] == view.figures["rows with cache"] == 0


def test_the_fused_kernel_keeps_one_number_a_query():
    config = DecoderConfig.gpt2(vocab_size=5, context_length=64, d_model=24, layers=2, heads=3)
    q = torch.randn(4, 3, 50, 8)
    _, kept = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, q, q, 0.0, True)
    assert fused_attention_bytes(config, 4, 50) == config.layers * kept.numel() * kept.element_size()


def test_how_numbers_are_written():
    sizes = [1, 999, 1000, 1536, 1023.9 * 1024, 2**20, 1.5 * 2**30, 123_456_789_012, 999_600, 0.00123, 1.5]
    written = in_javascript(sizes=sizes)["written"]
    assert [one[0] for one in written[:8]] == [
        "1 B", "999 B", "0.98 KiB", "1.5 KiB", "1 MiB", "1 MiB", "1.5 GiB", "115 GiB",
    ]  # fmt: skip
    assert [written[i][1] for i in (0, 2, 7, 8)] == ["1 FLOP", "1 kFLOP", "123 GFLOP", "1 MFLOP"]
    assert [written[i][2] for i in (0, 3, 7)] == ["1", "1.54 thousand", "123 billion"]
    assert [written[i][3] for i in (9, 10)] == ["1.23 ms", "1.5 s"]


def test_a_key_press_on_heads_always_moves():
    """768 = 12 x 64: the stop 20 is no divisor; upwards it leads to 24, downwards to 16."""
    found = in_javascript(fits=[[768, 20, 16], [768, 20, 24], [768, 1000, 12], [7, 6, 7], [7, 2, 1]])
    assert found["moved"] == [24, 16, 256, 1, 7]
    assert found["even"] == [1, 2, 3, 6]  # 12 / 4 and 12 / 12 are odd: rotary pairs would not come out


def test_sizes_move_together():
    view = CostExplorer("SmolLM2-135M")
    assert (view.layers, view.heads, view.kv_heads, view.d_model) == (30, 9, 3, 576)
    assert view.config.n_ff == 1536
    with view.hold_trait_notifications():
        view.d_model, view.heads, view.kv_heads = 768, 12, 4
    assert (view.config.n_ff, view.config.head_dim, view.config.n_kv_heads) == (2048, 64, 4)
    view.model = "GPT-2"
    assert (view.layers, view.heads, view.kv_heads, view.d_model) == (12, 12, 0, 768)
    assert view.config.n_kv_heads == 12 and view.config.positions == "learned"
    assert view.describe() == "CostExplorer: GPT-2, 0 measured series"


def test_measured_seconds_bring_a_speed():
    points = [(64, 2.0), (1024, 20.0)]
    alone = CostExplorer("GPT-2", seconds={"without cache": points})
    flops = [line_flops(MODELS["GPT-2"], "without cache", time) / seconds for time, seconds in points]
    assert alone.rate == pytest.approx(math.sqrt(flops[0] * flops[1]) / 1e9, rel=0.005)
    assert CostExplorer("GPT-2", seconds={"my laptop": points}).rate > 0
    assert CostExplorer("GPT-2", seconds={"training": points}, rate=7.0).rate == 7
    assert CostExplorer("GPT-2").rate == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CostExplorer("GPT-5"), "model is 'GPT-5'; it must be one of small GPT, GPT-2"),
        (lambda: CostExplorer(time=4), "time is 4; it must be from 8 to 32768"),
        (lambda: CostExplorer(rows=0), "rows is 0; it must be from 1 to 4096"),
        (lambda: CostExplorer(memory=math.nan), "memory is nan; it must be a finite number above 0"),
        (lambda: CostExplorer(seconds={"training": [(64, 1.0)]}, rate=0.0), "rate is 0.0"),
        (lambda: setattr(CostExplorer("GPT-2"), "heads", 7), "d_model is 768, not a multiple of heads = 7"),
        (lambda: setattr(CostExplorer("GPT-2"), "kv_heads", 5), "heads is 12, not a multiple of kv_heads = 5"),
        (lambda: setattr(CostExplorer("Llama 2 7B"), "heads", 256), None),  # heads of 16: unusual, but they fit
        (lambda: setattr(CostExplorer("GPT-2"), "layers", 0), "layers is 0; it must be from 1 to 256"),
        (lambda: CostExplorer(measured={"mine": [(4, 1.0)]}), r"measured\['mine'\] has the point \(4, 1.0\)"),
        (lambda: CostExplorer(measured={"mine": [(64, 0.0)]}), "the value above 0"),
        (lambda: CostExplorer(measured={"mine": [(64.5, 1.0)]}), "T an integer from 8"),
        (lambda: CostExplorer(seconds={"mine": [(64,)]}), r"seconds\['mine'\] has the point \(64,\)"),
        (lambda: CostExplorer(seconds={"mine": []}), r"seconds\['mine'\] has no points"),
    ],
)
def test_what_it_refuses(as_shipped, make, message):
    if message is None:
        make()
    else:
        with pytest.raises(ValueError, match=message):
            make()


def test_a_refused_size_leaves_the_rest_as_it_was():
    view = CostExplorer("GPT-2")
    with pytest.raises(ValueError), view.hold_trait_notifications():
        view.d_model, view.heads = 640, 12
    assert (view.d_model, view.heads) == (768, 12)
