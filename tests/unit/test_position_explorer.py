"""The position explorer without a browser: positions.js, run by Node, against arlab.nn.positions; refused input."""

from __future__ import annotations

import json
import math
import shutil
import subprocess

import pytest
import torch

from arlab.nn.positions import RotaryTable, frequencies, rotate, sinusoidal
from arlab.views.base import HERE
from arlab.views.position_explorer import PositionExplorer

HARNESS = """
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
const out = cases.map(({ length, d, base, q, k, m, n }) => {
  const table = positions.sinusoidal(length, d, base);
  const [turned, keys] = [positions.turned(q, length, base), positions.turned(k, length, base)];
  const w = positions.frequencies(d, base), count = positions.digits(length);
  const row = (a, b, at) => Array.from({ length }, (_, j) => positions.dot(a, at, b, j, d));
  return { frequencies: [...w], table: [...table], turned: [...turned],
    sinusoids: row(table, table, m), rotations: row(turned, keys, m), digits: count,
    spread: positions.spread(row(turned, keys, m), m, row(turned, keys, n), n, length),
    binary: Array.from({ length: count }, (_, b) => positions.digit(m, b)),
    near: [...w].map((one) => positions.nearestDigit(2 * Math.PI / one, count)) };
});
process.stdout.write(JSON.stringify(out));
"""


def node() -> str:
    found = shutil.which("node")
    if found:
        return found
    driver = pytest.importorskip("playwright._impl._driver", reason="needs Node, or playwright's own (the test extra)")
    return str(driver.compute_driver_executable()[0])


def in_javascript(cases: list[dict]) -> list[dict]:
    code = (HERE / "positions.js").read_text(encoding="utf-8") + HARNESS
    command = [node(), "--input-type=commonjs", "-e", code]
    done = subprocess.run(command, input=json.dumps(cases), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_page_computes_what_the_library_computes():
    """Random widths, lengths, bases and vectors. The library works in float32: an angle of position * frequency
    is rounded to 6e-8 of itself, and the page, in float64, is that much closer."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda low, high: int(torch.randint(low, high + 1, (), generator=generator))  # noqa: E731
    cases = []
    for _ in range(12):
        d, length = 2 * draw(1, 32), draw(2, 200)
        q, k = torch.randn(2, d, generator=generator)
        base = 10.0 ** (0.3 + 5.7 * torch.rand((), generator=generator).item())
        ends = {"m": draw(0, length - 1), "n": draw(0, length - 1)}
        cases.append({"d": d, "length": length, "base": base, "q": q.tolist(), "k": k.tolist(), **ends})
    for case, page in zip(cases, in_javascript(cases), strict=True):
        d, length, base, m = (case[name] for name in ("d", "length", "base", "m"))
        q, k = torch.tensor(case["q"]), torch.tensor(case["k"])
        tolerance = {"rtol": 0, "atol": 2e-7 * length + 1e-6}
        here = torch.tensor(page["frequencies"], dtype=torch.float32)
        torch.testing.assert_close(here, frequencies(d, base), rtol=1e-5, atol=0)
        table = sinusoidal(torch.arange(length), d, base)
        torch.testing.assert_close(torch.tensor(page["table"]).view(length, d), table, **tolerance)
        turns = RotaryTable(d, length, base)(slice(0, length), torch.float32)
        turned, keys = (rotate(x.expand(1, 1, length, d), turns)[0, 0] for x in (q, k))
        size = q.norm() * k.norm()
        torch.testing.assert_close(torch.tensor(page["turned"]).view(length, d), turned, rtol=0, atol=2e-6 * length)
        torch.testing.assert_close(torch.tensor(page["sinusoids"]), table @ table[m], rtol=0, atol=1e-6 * length * d)
        torch.testing.assert_close(
            torch.tensor(page["rotations"]), keys @ turned[m], rtol=0, atol=float(1e-6 * length * size)
        )
        assert page["spread"] < 1e-9 * length  # the distance alone, for any q and k
        assert page["digits"] == max(1, (length - 1).bit_length())
        assert page["binary"] == [int(bit) for bit in reversed(f"{m:0{page['digits']}b}")]


def test_the_digit_beside_a_wave_is_the_one_of_the_nearest_period():
    """Periods 2^(b+1), compared as ratios: the fastest wave, 2 pi, goes with period 8, for 2 pi / 4 > 8 / (2 pi)."""
    case = {"d": 40, "length": 512, "base": 2.0**20, "q": [0.0] * 40, "k": [0.0] * 40, "m": 0, "n": 0}
    near = in_javascript([case])[0]["near"]
    assert near == [min(8, 2 + i) for i in range(20)]  # each pair half as fast as the one before: one digit on


def test_python_gives_what_the_page_shows():
    learned = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    view = PositionExplorer(8, 12, base=100.0, learned=learned, position=3, pair=1)
    assert torch.equal(view.table, sinusoidal(torch.arange(12), 8, 100.0))
    assert view.products[3].item() == pytest.approx(4)  # sin^2 + cos^2 for each pair
    assert view.wavelength == pytest.approx(2 * math.pi * 100 ** (2 / 8))
    view.scheme = "learned"
    assert torch.equal(view.table[:5], learned) and view.table[5:].isnan().all()
    assert torch.allclose(view.products[:5], learned @ learned[3]) and view.products[5:].isnan().all()
    view.position = 7
    assert view.products.isnan().all()
    view.scheme = "rotary"
    assert torch.equal(view.table[0], view.q)
    assert torch.allclose(view.table.norm(dim=-1), view.q.norm())
    assert view.products[7].item() == pytest.approx(float(view.q @ view.k), abs=1e-5)  # distance 0: not turned
    before = view.products[7 - 2]
    view.position = 9
    assert view.products[9 - 2].item() == pytest.approx(before.item(), abs=1e-5)


def test_q_alone_is_its_own_key():
    view = PositionExplorer(4, 6, q=torch.tensor([1.0, 2, 3, 4]), scheme="rotary", position=2)
    assert view.products.argmax() == 2 and view.products[2].item() == pytest.approx(30)


def test_the_trained_table_of_a_model_can_be_shown():
    parameter = torch.nn.Parameter(torch.ones(4, 6))
    view = PositionExplorer(6, 8, learned=parameter, scheme="learned")
    assert not view.learned.requires_grad and view.shape == [8, 6, 4]
    assert repr(view) == "PositionExplorer: 8 positions, d_model = 6"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PositionExplorer(d_model=7), "d_model is 7; it must be even"),
        (lambda: PositionExplorer(d_model=514), "d_model is 514; it must be an integer from 2 to 512"),
        (lambda: PositionExplorer(length=1), "length is 1; it must be an integer from 2 to 512"),
        (lambda: PositionExplorer(length=64.0), "length is 64.0"),
        (lambda: PositionExplorer(base=1.0), "base is 1.0; it must be above 1 and at most 1e\\+12"),
        (lambda: PositionExplorer(base=math.nan), "base is nan"),
        (lambda: PositionExplorer(position=128), "position is 128; it must be from 0 to 127"),
        (lambda: PositionExplorer(pair=32), "pair is 32; it must be from 0 to 31"),
        (lambda: PositionExplorer(scheme="learned"), "no table was given"),
        (lambda: PositionExplorer(learned=torch.ones(8, 63)), r"learned has shape \(8, 63\); expected \(rows, 64\)"),
        (lambda: PositionExplorer(learned=torch.ones(0, 64)), r"learned has shape \(0, 64\)"),
        (lambda: PositionExplorer(length=4, learned=torch.ones(8, 64)), r"give learned\[:4\]"),
        (lambda: PositionExplorer(learned=torch.full((8, 64), torch.inf)), "learned must hold finite numbers"),
        (lambda: PositionExplorer(k=torch.ones(64)), "k was given without q"),
        (lambda: PositionExplorer(q=torch.ones(2, 64)), r"q has shape \(2, 64\); expected \(64,\)"),
    ],
)
def test_what_it_refuses(as_shipped, make, message):
    with pytest.raises(ValueError, match=message):
        make()
