"""What the next-token explorer and the pipeline view share: one sorted distribution, and the sliders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from arlab.decoding import filters as lab_filters
from arlab.views.base import BadValue
from arlab.views.prompted import HEAD, PromptedView


class DistributionView(PromptedView):
    """A next-token distribution behind temperature, top-k, top-p and min-p.

    Traits (read, set, observe, link): `temperature` (0 means argmax), `top_k` (0 is off), `top_p` (1 is off),
    `min_p` (0 is off), `prompt`, and `seed` of the page's draws. `drawn` tells the page's last draw.
    """

    temperature = traitlets.Float(1.0).tag(sync=True)
    top_k = traitlets.Int(0).tag(sync=True)
    top_p = traitlets.Float(1.0).tag(sync=True)
    min_p = traitlets.Float(0.0).tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)
    drawn = traitlets.Dict(help="the last draw: count, and for one draw u, rank and id").tag(sync=True)
    _draw_start = traitlets.Int(0).tag(sync=True)  # index of the first uniform number of the draw shown
    _draw_count = traitlets.Int(0).tag(sync=True)  # how many uniforms are shown: 0, 1 or 100
    _sorted_logits = traitlets.Bytes(b"").tag(sync=True)  # float32, largest first, ties by lowest id
    _head_strings = traitlets.List(traitlets.Unicode()).tag(sync=True)  # of the first tokens in that order

    def __init__(self, model: Any, tokenizer: Any, prompt: str | Sequence[int], **settings: Any):
        """
        Args:
            model: a language model of the lab's protocol.
            tokenizer: its tokenizer (encode, decode, token_strings, fingerprint).
            prompt: a text, or token ids (a chat from `tokenizer.chat`, say).
            settings: temperature, top_k, top_p, min_p, seed.

        Raises:
            ValueError: an empty prompt, one that is longer than the model's context, a slider out of range.
            TypeError: a setting that the view does not have.
        """
        unknown = sorted(set(settings) - set(self.trait_names()))
        if unknown:
            allowed = "temperature, top_k, top_p, min_p and seed"
            raise TypeError(f"{type(self).__name__} has no setting {unknown[0]!r}; it has {allowed}")
        self._logits = torch.zeros(1)
        super().__init__(() if model is None else (model,), tokenizer, **settings)
        if model is not None:
            self._begin(prompt)

    @classmethod
    def from_logits(
        cls,
        logits: Float[Tensor, " vocab"] | Sequence[float] | np.ndarray,
        token_strings: Sequence[str],
        **settings: Any,
    ) -> DistributionView:
        """The view on a distribution made by hand: logits (vocab,) and one string for each.

        Raises:
            ValueError: as many strings as logits are needed; logits that are no distribution.
        """
        view = cls(None, None, "", **settings)
        view._made_by_hand(token_strings, torch.as_tensor(logits, dtype=torch.float32))
        return view

    # -- sliders -----------------------------------------------------------------------------------------------

    @traitlets.validate("temperature")
    def _check_temperature(self, proposal: Any) -> float:
        good = math.isfinite(proposal["value"]) and proposal["value"] >= 0
        return _checked("temperature", proposal["value"], good, "a finite number of 0 or more (0 means argmax)")

    @traitlets.validate("top_k")
    def _check_top_k(self, proposal: Any) -> int:
        return _checked("top_k", proposal["value"], proposal["value"] >= 0, "an integer of 1 or more, or 0 for off")

    @traitlets.validate("top_p")
    def _check_top_p(self, proposal: Any) -> float:
        return _checked("top_p", proposal["value"], 0 < proposal["value"] <= 1, "in (0, 1]; 1 is off")

    @traitlets.validate("min_p")
    def _check_min_p(self, proposal: Any) -> float:
        return _checked("min_p", proposal["value"], 0 <= proposal["value"] <= 1, "in (0, 1], or 0 for off")

    @traitlets.validate("seed")
    def _check_seed(self, proposal: Any) -> int:
        return _checked("seed", proposal["value"], 0 <= proposal["value"] < 2**32, "from 0 to 4294967295")

    def _show_after(self, ids: list[int], *logits: Float[Tensor, " vocab"]) -> None:
        with self.hold_sync():
            super()._show_after(ids, *logits)
            # The next draw takes the next uniform number: with the same one again, every token of a text that grows by
            # draw and append would come from the same place in its distribution.
            self._draw_start += self._draw_count
            self._draw_count, self.drawn = 0, {}

    # -- the distribution ----------------------------------------------------------------------------------------

    @property
    def logits(self) -> Float[Tensor, " vocab"]:
        """The raw logits shown, in the order of ids, float32, on the CPU."""
        return self._logits

    def show(self, logits: Float[Tensor, " vocab"]) -> None:
        """Show another distribution: logits (vocab,) in the order of ids.

        Raises:
            ValueError: logits that are no distribution (NaN, +inf, all -inf), or not one row.
        """
        if logits.dim() != 1:
            raise BadValue(f"logits have shape {tuple(logits.shape)}; the view shows one row, (vocab,)")
        logits = logits.detach().float().cpu()
        lab_filters.temperature(logits, 1.0)  # refuses what is no distribution, and says why
        ordered, ids = logits.sort(descending=True, stable=True)
        self._logits = logits
        with self.hold_sync():
            self._sorted_logits = ordered.numpy().tobytes()
            self._sorted_ids = ids.to(torch.uint32).numpy().tobytes()
            self._head_strings = [self._string(i) for i in ids[:HEAD].tolist()]

    # -- what it means, in the library's own terms ---------------------------------------------------------------

    def filters(self) -> list[lab_filters.Filter]:
        """The library's filters that do what the sliders do, in their order; those that are off are left out."""
        return self._made(("temperature", "top_k", "top_p", "min_p"))

    def _made(self, order: Sequence[str]) -> list[lab_filters.Filter]:
        made = {
            "temperature": lab_filters.Temperature(self.temperature) if self.temperature != 1 else None,
            "top_k": lab_filters.TopK(self.top_k) if self.top_k else None,
            "top_p": lab_filters.TopP(self.top_p) if self.top_p < 1 else None,
            "min_p": lab_filters.MinP(self.min_p) if self.min_p else None,
        }
        return [made[name] for name in order if made[name] is not None]

    def probabilities(self) -> Float[Tensor, " vocab"]:
        """What the next token is drawn from: softmax of the filtered logits, float64, in the order of ids."""
        return lab_filters.apply(self.filters(), self._logits).double().softmax(-1)

    @property
    def figures(self) -> dict[str, float | int]:
        """The figures under the sliders, computed by `arlab.decoding.filters`, with or without a page.

        entropy_raw_bits and entropy_bits (before and after the filters), kept (tokens left) of vocab_size,
        kept_mass (their share after temperature alone) and kept_mass_raw (their share in the model's distribution).
        """
        raw = self._logits.double().softmax(-1)
        heated = lab_filters.temperature(self._logits, self.temperature).double().softmax(-1)
        filtered = lab_filters.apply(self.filters(), self._logits)
        kept = filtered > -math.inf
        return {
            "entropy_raw_bits": entropy_bits(raw),
            "entropy_bits": entropy_bits(filtered.double().softmax(-1)),
            "kept": int(kept.sum()),
            "vocab_size": self._logits.numel(),
            "kept_mass": float(heated[kept].sum()),
            "kept_mass_raw": float(raw[kept].sum()),
        }

    # -- a reader without a page -----------------------------------------------------------------------------------

    def describe(self) -> str:
        if not self._sorted_ids:
            return self.title
        best = int(self._logits.argmax())
        p = float(self._logits.double().softmax(-1)[best])
        return f"{self._about()}: most probable {self._head_strings[0]!r} ({p:.2f})"


def entropy_bits(p: Float[Tensor, " vocab"]) -> float:
    """-sum p log2 p, with 0 log 0 = 0."""
    return float(torch.special.entr(p).sum()) / math.log(2)


def _checked(name: str, value: Any, good: bool, allowed: str) -> Any:
    if not good:
        raise BadValue(f"{name} is {value!r}; it must be {allowed}")
    return value
