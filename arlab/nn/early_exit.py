"""A model's own first layers as a smaller model: a draft that costs no extra memory."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from arlab.nn.decoder import DecoderLM


class EarlyExit(DecoderLM):
    """The first `layers` blocks of a DecoderLM, then its own norm and head.

    No weight is copied: a change in the model is a change here. Nobody trained the head to read the stream so early,
    and the prediction suffers for it (how much, notebook 13 measures).

    Source: the "logit lens" (nostalgebraist, 2020); as a draft, "LayerSkip" (Elhoushi et al., 2024), whose authors
    train the model for it.
    """

    def __init__(self, model: DecoderLM, layers: int):
        """
        Raises:
            ValueError: layers below 1 or above the model's own.
            TypeError: a model that is no DecoderLM, or layers that is no integer.
        """
        nn.Module.__init__(self)  # not DecoderLM's own, which would make weights
        if not isinstance(model, DecoderLM):
            raise TypeError(f"EarlyExit takes a DecoderLM, whose blocks it can count; got a {type(model).__name__}")
        if isinstance(layers, bool) or not isinstance(layers, int):
            raise TypeError(f"layers is {layers!r}; it must be an integer")
        if not 1 <= layers <= len(model.blocks):
            raise ValueError(f"layers is {layers}; it must lie between 1 and the model's {len(model.blocks)}")
        self.config = replace(model.config, layers=layers)
        self.embed_tokens, self.embed_positions = model.embed_tokens, model.embed_positions
        self.rotary = model.rotary
        if model.config.positions == "sinusoidal":
            self._sinusoids = [model]  # in a list: no submodule, whose weights would be counted again
        self.blocks = nn.ModuleList(list(model.blocks)[:layers])
        self.norm, self.head = model.norm, model.head
        self.training = model.training

    @property
    def sinusoids(self) -> Tensor:
        """The model's own table, wherever it is by now: a buffer is not moved in place as weights are."""
        return self._sinusoids[0].sinusoids
