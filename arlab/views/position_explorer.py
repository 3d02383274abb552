"""Position explorer: a binary counter, sinusoids, learned vectors, rotations, and what a dot product makes of them."""

from __future__ import annotations

import math

import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from arlab.nn.positions import RotaryTable, frequencies, rotate, sinusoidal
from arlab.views.base import BadValue, View, script, style

MAX_LENGTH, MAX_WIDTH = 512, 512
BASE = (1.0, 1e12)  # the lower end is excluded: at 1 all pairs would turn alike


class PositionExplorer(View):
    """Positions 0 to length - 1, written as vectors of d_model numbers in three ways, under a binary counter.

        view = PositionExplorer(d_model=64, length=128, learned=model.embed_positions.weight)
        view.position = 37          # moves the slider; view.pair, view.base and view.scheme too
        view.table                  # (length, d_model): the vectors shown, from arlab.nn.positions
        view.products               # (length,): the chosen position's dot product with every position

    learned: (rows, d_model), any table of position vectors, at most `length` rows; positions beyond it have no vector.
    q, k: (d_model,), the query and the key that the rotations turn; k is held at the key's position, q at the query's.
    Left out, q is drawn once and k is a vector at an angle of about 37 degrees to it.

    The traits `scheme` ("sinusoidal", "learned", "rotary"), `position`, `other`, `pair`, `base` and `axis` ("distance",
    "position") follow the page and can be set. Raises ValueError for shapes and values that do not fit.

    Sources: Vaswani et al. (2017), section 3.5; Su et al. (2021) for rotations; lecture 004.
    """

    title = "Position explorer"
    _esm = script("heat.js", "positions.js", "position_lanes.js", "position_explorer.js")
    _css = style("heat.css", "position_explorer.css")

    scheme = traitlets.Enum(["sinusoidal", "learned", "rotary"], "sinusoidal").tag(sync=True)
    position = traitlets.Int(0).tag(sync=True)
    other = traitlets.Int(0, help="a second position, to compare with").tag(sync=True)
    pair = traitlets.Int(0, help="the pair of features drawn as a wave and as a clock").tag(sync=True)
    base = traitlets.Float(10_000.0).tag(sync=True)
    axis = traitlets.Enum(["distance", "position"], "distance").tag(sync=True)
    shape = traitlets.List(traitlets.Int(), default_value=[2, 2, 0]).tag(sync=True)  # length, d_model, learned rows
    vectors = traitlets.Bytes(b"").tag(sync=True)  # float32: q, k, then the learned table

    def __init__(
        self,
        d_model: int = 64,
        length: int = 128,
        base: float = 10_000.0,
        learned: Float[Tensor, "rows d_model"] | None = None,
        *,
        q: Float[Tensor, "d_model"] | None = None,
        k: Float[Tensor, "d_model"] | None = None,
        scheme: str = "sinusoidal",
        position: int | None = None,
        other: int | None = None,
        pair: int | None = None,
        axis: str = "distance",
    ) -> None:
        for name, value, most in (("d_model", d_model, MAX_WIDTH), ("length", length, MAX_LENGTH)):
            if isinstance(value, bool) or not isinstance(value, int) or not 2 <= value <= most:
                raise ValueError(f"{name} is {value!r}; it must be an integer from 2 to {most}")
        if d_model % 2:
            raise ValueError(f"d_model is {d_model}; it must be even, for sines and cosines come in pairs")
        if k is not None and q is None:
            raise ValueError("k was given without q; give both, or q alone (the key is then the same vector)")
        if q is None:
            generator = torch.Generator().manual_seed(0)
            q, noise = torch.randn(2, d_model, generator=generator)
            k = 0.8 * q + 0.6 * noise
        self.q = _checked("q", q, (d_model,))
        self.k = _checked("k", self.q if k is None else k, (d_model,))
        self.learned = None if learned is None else _checked("learned", learned, (None, d_model))
        rows = 0 if self.learned is None else len(self.learned)
        if rows > length:
            raise ValueError(f"learned has {rows} rows, more than length = {length}; give learned[:{length}]")
        packed = [self.q, self.k] if self.learned is None else [self.q, self.k, self.learned.flatten()]
        super().__init__(
            shape=[length, d_model, rows], vectors=torch.cat(packed).numpy().astype("<f4").tobytes(), axis=axis
        )
        self.base, self.scheme = base, scheme
        self.position = length * 3 // 10 if position is None else position
        self.other = length * 6 // 10 if other is None else other
        self.pair = min(4, d_model // 2 - 1) if pair is None else pair

    # -- what the page shows, from the library ------------------------------------------------------------------

    @property
    def table(self) -> Float[Tensor, "length d_model"]:
        """The vectors of the scheme shown: sinusoids, the learned table (NaN beyond its end), or q turned."""
        length, d_model, rows = self.shape
        if self.scheme == "sinusoidal":
            return sinusoidal(torch.arange(length), d_model, self.base)
        if self.scheme == "rotary":
            return self._turned(self.q)
        return torch.cat([self.learned, torch.full((length - rows, d_model), torch.nan)])

    @property
    def products(self) -> Float[Tensor, "length"]:
        """The chosen position's dot product with every position; for rotations, its q with every turned k."""
        table = self.table
        keys = self._turned(self.k) if self.scheme == "rotary" else table
        return keys @ table[self.position]

    @property
    def wavelength(self) -> float:
        """Positions in a full turn of the chosen pair."""
        return 2 * math.pi / frequencies(self.shape[1], self.base)[self.pair].item()

    def _turned(self, x: Float[Tensor, "d_model"]) -> Float[Tensor, "length d_model"]:
        length, d_model, _ = self.shape
        turns = RotaryTable(d_model, length, self.base)(slice(0, length), torch.float32)
        return rotate(x.expand(1, 1, length, d_model), turns)[0, 0]

    def describe(self) -> str:
        length, d_model, _ = self.shape
        return f"PositionExplorer: {length} positions, d_model = {d_model}"

    # -- what may be set ------------------------------------------------------------------------------------------

    @traitlets.validate("position", "other", "pair")
    def _check_index(self, proposal) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        count = self.shape[1] // 2 if name == "pair" else self.shape[0]
        if not 0 <= value < count:
            raise BadValue(f"{name} is {value}; it must be from 0 to {count - 1}")
        return value

    @traitlets.validate("base")
    def _check_base(self, proposal) -> float:
        low, high = BASE
        if not low < proposal["value"] <= high:  # NaN fails too
            raise BadValue(f"base is {proposal['value']}; it must be above {low:g} and at most {high:g}")
        return proposal["value"]

    @traitlets.validate("scheme")
    def _check_scheme(self, proposal) -> str:
        if proposal["value"] == "learned" and not self.shape[2]:
            raise BadValue("scheme is 'learned', but no table was given; pass learned=(rows, d_model)")
        return proposal["value"]


def _checked(name: str, x: Tensor, shape: tuple[int | None, ...]) -> Tensor:
    """x as finite float32 of that shape (None: any size of 1 or more), or a ValueError that says what is wrong."""
    x = torch.as_tensor(x).detach().float().cpu()
    fits = x.dim() == len(shape) and all(n == size if size else n > 0 for n, size in zip(x.shape, shape, strict=True))
    if not fits:
        wanted = ", ".join("rows" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected ({wanted}{',' if len(shape) == 1 else ''})")
    if not x.isfinite().all():
        raise ValueError(f"{name} must hold finite numbers")
    return x.contiguous()
