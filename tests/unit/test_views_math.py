"""The page and the library filter alike: distribution.js, run by Node, against arlab.decoding.filters.

Node is the one on the path, or the one that comes inside the playwright package.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
import shutil
import subprocess

import pytest
import torch

from arlab.decoding.filters import MinP, Temperature, TopK, TopP, apply
from arlab.views.base import HERE

# Reads cases from stdin, applies the filters of each, and prints what is left.
HARNESS = """
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
const decode = (text) => Uint8Array.from(Buffer.from(text, "base64")).buffer;
const out = cases.map(({ logits, ids, filters, uniforms }) => {
  const d = new Distribution(new Float32Array(decode(logits)), new Uint32Array(decode(ids))).reset();
  for (const [name, value] of filters) d[name](value);
  d.weigh();
  return { kept: Array.from({ length: d.n }, (_, i) => d.idAt(i)), p: Array.from({ length: d.n }, (_, i) => d.p(i)),
    entropy: d.entropy(), landed: (uniforms ?? []).map((u) => d.land(u)),
    rank: Array.from({ length: Math.min(d.size, 40) }, (_, i) => d.rankNow(i)) };
});
const draws = [0, 1, 4294967295].map((seed) => Array.from({ length: 4000 }, (_, i) => uniform(seed, i)));
process.stdout.write(JSON.stringify({ out, draws }));
"""
METHODS = {Temperature: "temperature", TopK: "topK", TopP: "topP", MinP: "minP"}


def node() -> str:
    found = shutil.which("node")
    if found:
        return found
    driver = pytest.importorskip("playwright._impl._driver", reason="needs Node, or playwright's own (the test extra)")
    return str(driver.compute_driver_executable()[0])


def in_javascript(cases: list[tuple[torch.Tensor, list, list[float]]]) -> dict:
    packed = []
    for logits, filters, uniforms in cases:
        ordered, ids = logits.sort(descending=True, stable=True)
        packed.append(
            {
                "logits": base64.b64encode(ordered.numpy().tobytes()).decode(),
                "ids": base64.b64encode(ids.to(torch.uint32).numpy().tobytes()).decode(),
                "filters": [[METHODS[type(f)], next(iter(vars(f).values()))] for f in filters],
                "uniforms": uniforms,
            }
        )
    code = (HERE / "distribution.js").read_text(encoding="utf-8") + HARNESS
    done = subprocess.run(
        [node(), "--input-type=commonjs", "-e", code],
        input=json.dumps(packed),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(logits: torch.Tensor, filters: list, result: dict) -> None:
    expected = apply(filters, logits)
    kept = expected.isfinite()
    assert sorted(result["kept"]) == kept.nonzero().flatten().tolist(), (filters, logits[:8])
    # the order: largest first, ties by lowest id, also where division made new ties
    order = expected.sort(descending=True, stable=True).indices[: int(kept.sum())].tolist()
    assert result["kept"] == order
    p = expected.double().softmax(-1)
    got = torch.zeros_like(p).scatter(0, torch.tensor(result["kept"]), torch.tensor(result["p"], dtype=torch.float64))
    torch.testing.assert_close(got, p, rtol=2e-6, atol=1e-9)
    entropy = float(torch.special.entr(p).sum()) / math.log(2)
    assert result["entropy"] == pytest.approx(entropy, abs=2e-6)
    raw = logits.sort(descending=True, stable=True).indices.tolist()
    for i, rank in enumerate(result["rank"]):  # where the page looks for the token that came at raw rank i
        if rank < len(order):
            assert order[rank] == raw[i]


def small_cases() -> list[tuple[torch.Tensor, list, list[float]]]:
    """300 small vocabularies, half of them full of ties, some with -inf, under filters in every order."""
    g = torch.Generator().manual_seed(0)
    cases = []
    orders = list(itertools.permutations(range(4)))
    for i in range(300):
        size = int(torch.randint(1, 60, (1,), generator=g))
        logits = torch.randn(size, generator=g) * 3
        if i % 2:
            logits = (logits * 2).round() / 2
        if i % 5 == 0 and size > 3:
            logits[torch.randint(0, size, (2,), generator=g)] = -math.inf
        u = torch.rand(4, generator=g)
        t = [0.0, 1e-4, 0.05, 0.3, 0.9, 1.7, 30.0, 1e6][i % 8]
        chain = [
            Temperature(t),
            TopK(1 + int(u[0] * size * 1.3)),
            TopP(max(0.01, round(float(u[1]), 2))),
            MinP(max(0.001, round(float(u[2]) ** 3, 3))),
        ]
        filters = [chain[j] for j in orders[i % 24]][: 1 + i % 4]
        if logits.isfinite().any():
            cases.append((logits, filters, []))
    return cases


def test_small_vocabularies_with_ties_in_every_order():
    cases = small_cases()
    results = in_javascript(cases)["out"]
    assert len(results) == len(cases) > 280
    for (logits, filters, _), result in zip(cases, results, strict=True):
        check(logits, filters, result)


def test_a_real_vocabulary():
    """49,152 tokens; at t = 100 and in float32, dividing makes neighbours equal that were not."""
    g = torch.Generator().manual_seed(1)
    logits = torch.randn(49_152, generator=g) * 2
    logits[:40] += torch.linspace(11, 2, 40)
    chains = [
        [],
        [TopP(0.99)],
        [Temperature(0.7), TopK(50), TopP(0.9), MinP(0.05)],
        [Temperature(100.0), TopK(20_000), TopP(0.95)],
        [Temperature(3.0), TopP(0.999)],
        [TopP(0.9), Temperature(0.5), TopK(1000)],
    ]
    results = in_javascript([(logits, chain, []) for chain in chains])["out"]
    for chain, result in zip(chains, results, strict=True):
        check(logits, chain, result)


@pytest.mark.parametrize(("p", "kept"), [(0.5, 1), (0.6, 2), (0.75, 2), (0.76, 3), (1.0, 4)])
def test_the_boundary_token_of_a_nucleus(p, kept):
    """[.5, .25, .125, .125]: a token stays while the mass before it is below p."""
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    assert len(in_javascript([(logits, [TopP(p)], [])])["out"][0]["kept"]) == kept


@pytest.mark.parametrize(("p", "kept"), [(0.5, 2), (0.51, 1), (0.25, 4), (0.26, 2)])
def test_min_p_keeps_a_token_at_the_threshold(p, kept):
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log2() * math.log(2)
    result = in_javascript([(logits, [MinP(p)], [])])["out"][0]
    check(logits, [MinP(p)], result)
    assert len(result["kept"]) == kept


def test_ties_at_the_cut_go_to_the_lowest_id():
    result = in_javascript([(torch.tensor([2.0, 1.0, 1.0, 0.0]), [TopK(2)], [])])["out"][0]
    assert result["kept"] == [0, 1]


def test_a_uniform_number_lands_on_the_first_rank_whose_cumulative_probability_exceeds_it():
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    uniforms = [0.0, 0.49, 0.5, 0.74, 0.75, 0.87, 0.875, 0.999999]  # the boundaries themselves belong to the next
    cut = in_javascript([(logits, [], uniforms), (logits, [TopK(2)], [0.0, 0.66, 0.67, 0.999])])["out"]
    assert cut[0]["landed"] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert cut[1]["landed"] == [0, 0, 1, 1]


def test_draws_repeat_with_their_seed_and_fill_the_unit_interval():
    """4,000 numbers a seed; they are fixed, so the bounds (five standard deviations) cannot fail by chance."""
    logits = torch.zeros(2)
    first, again = (in_javascript([(logits, [], [])])["draws"] for _ in range(2))
    assert first == again
    for draws in first:
        assert all(0 <= u < 1 for u in draws) and len(set(draws)) == 4000
        assert sum(draws) / 4000 == pytest.approx(0.5, abs=5 / math.sqrt(12 * 4000))
        tenths = torch.tensor(draws).mul(10).long().bincount(minlength=10)
        assert (tenths - 400).abs().max() < 5 * math.sqrt(4000 * 0.09)
        pairs = torch.tensor(draws)
        correlation = torch.corrcoef(torch.stack([pairs[:-1], pairs[1:]]))[0, 1]
        assert abs(float(correlation)) < 5 / math.sqrt(4000)
