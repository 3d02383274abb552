"""From a model to text: every strategy as a plain function, and as an iterator of its steps."""

from arlab.decoding.beam import beam_search, beam_steps
from arlab.decoding.contrastive import (
    ContrastiveScorer,
    ContrastiveStep,
    contrastive_decoding,
    contrastive_score,
    contrastive_steps,
)
from arlab.decoding.drafts import LookupDraft
from arlab.decoding.filters import MinP, Temperature, TopK, TopP
from arlab.decoding.parallel import Filling, ParallelStep, parallel_decoding, parallel_steps
from arlab.decoding.records import BeamStep, Generation, Step
from arlab.decoding.sampling import greedy, greedy_steps, sample, sample_steps
from arlab.decoding.scorers import LogProb, Scorer
from arlab.decoding.speculative import SpeculationStep, speculative_decoding, speculative_steps

__all__ = [
    "BeamStep",
    "ContrastiveScorer",
    "ContrastiveStep",
    "Filling",
    "Generation",
    "LogProb",
    "LookupDraft",
    "MinP",
    "ParallelStep",
    "Scorer",
    "SpeculationStep",
    "Step",
    "Temperature",
    "TopK",
    "TopP",
    "beam_search",
    "beam_steps",
    "contrastive_decoding",
    "contrastive_score",
    "contrastive_steps",
    "greedy",
    "greedy_steps",
    "parallel_decoding",
    "parallel_steps",
    "sample",
    "sample_steps",
    "speculative_decoding",
    "speculative_steps",
]
