"""What a beam search adds up: a score for each next token, computed from the logits of one model or of several.

Beam search itself does not care what the score means. With `LogProb` it looks for the most probable sequence; with
`ContrastiveScorer` (arlab/decoding/contrastive.py) for the one that a strong model likes much better than a weak one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from arlab.decoding.filters import Filter, apply
from arlab.nn.language_model import LanguageModel


@runtime_checkable
class Scorer(Protocol):
    """What a beam search asks of a score."""

    models: tuple[LanguageModel, ...]  # run side by side on the same tokens; the first one's log p is reported
    highest: float  # no token scores more: 0 for log-probabilities, inf if there is no such limit

    def __call__(self, *logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows vocab"]:
        """Scores from the logits of each model, in their order; -inf forbids a token."""
        ...


@dataclass(frozen=True)
class LogProb:
    """log p(token): what beam search usually adds up. With filters, of the distribution that they leave."""

    model: LanguageModel
    filters: Sequence[Filter] = ()
    highest: float = field(default=0.0, init=False)

    @property
    def models(self) -> tuple[LanguageModel, ...]:
        return (self.model,)

    def __call__(self, logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows vocab"]:
        return log_softmax(apply(self.filters, logits) if self.filters else logits)


def log_softmax(logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch vocab"]:
    """Log-probabilities, in float32 at least: in bfloat16 two sequences of one score would be common."""
    return (logits.float() if logits.dtype.itemsize < 4 else logits).log_softmax(dim=-1)


def check_same_vocabulary(models: Sequence[LanguageModel], names: Sequence[str]) -> None:
    """Models that read and score the same tokens must have one vocabulary.

    Raises:
        ValueError: when the sizes differ. (Whether equal ids mean equal tokens only you can know.)
    """
    sizes = [model.vocab_size for model in models]
    if len(set(sizes)) > 1:
        found = ", ".join(f"{name} has {size} tokens" for name, size in zip(names, sizes, strict=True))
        raise ValueError(f"the models must share one vocabulary, the same token behind every id; {found}")
