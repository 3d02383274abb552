"""From a model to text: every strategy as a plain function, and as an iterator of its steps."""

from arlab.decoding.filters import MinP, Temperature, TopK, TopP
from arlab.decoding.records import Generation, Step
from arlab.decoding.sampling import greedy, greedy_steps, sample, sample_steps

__all__ = [
    "Generation",
    "MinP",
    "Step",
    "Temperature",
    "TopK",
    "TopP",
    "greedy",
    "greedy_steps",
    "sample",
    "sample_steps",
]
