"""Interactive views. Each one is an ipywidget that computes in the page: `view.temperature = 0.5` moves it.

`AlignmentView`, `AttentionExplorer`, `AttentionWorkbench`, `BeamTree`, `ContrastiveView`, `CostExplorer`,
`DecoderArena`, `ErrorPropagation`, `FourModels`, `MaskWorkbench`, `NextToken`, `OrderView`, `Pipeline`,
`PositionExplorer`, `SequenceTree`, `ShotsView`, `SpeculationTimeline`, `TokenizerView`, `TrainingCurves`; loaded when
first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arlab.views.alignment_view import AlignmentView
    from arlab.views.attention_explorer import AttentionExplorer
    from arlab.views.attention_workbench import AttentionWorkbench
    from arlab.views.beam_tree import BeamTree
    from arlab.views.contrastive_view import ContrastiveView
    from arlab.views.cost_explorer import CostExplorer
    from arlab.views.decoder_arena import DecoderArena
    from arlab.views.error_propagation import ErrorPropagation
    from arlab.views.four_models import FourModels
    from arlab.views.mask_workbench import MaskWorkbench
    from arlab.views.next_token import NextToken
    from arlab.views.order_view import OrderView
    from arlab.views.pipeline import Pipeline
    from arlab.views.position_explorer import PositionExplorer
    from arlab.views.sequence_tree import SequenceTree
    from arlab.views.shots_view import ShotsView
    from arlab.views.speculation_timeline import SpeculationTimeline
    from arlab.views.tokenizer_view import TokenizerView
    from arlab.views.training_curves import TrainingCurves

__all__ = [
    "AlignmentView",
    "AttentionExplorer",
    "AttentionWorkbench",
    "BeamTree",
    "ContrastiveView",
    "CostExplorer",
    "DecoderArena",
    "ErrorPropagation",
    "FourModels",
    "MaskWorkbench",
    "NextToken",
    "OrderView",
    "Pipeline",
    "PositionExplorer",
    "SequenceTree",
    "ShotsView",
    "SpeculationTimeline",
    "TokenizerView",
    "TrainingCurves",
]

_MODULES = {
    "AlignmentView": "alignment_view",
    "AttentionExplorer": "attention_explorer",
    "AttentionWorkbench": "attention_workbench",
    "BeamTree": "beam_tree",
    "ContrastiveView": "contrastive_view",
    "CostExplorer": "cost_explorer",
    "DecoderArena": "decoder_arena",
    "ErrorPropagation": "error_propagation",
    "FourModels": "four_models",
    "MaskWorkbench": "mask_workbench",
    "NextToken": "next_token",
    "OrderView": "order_view",
    "Pipeline": "pipeline",
    "PositionExplorer": "position_explorer",
    "SequenceTree": "sequence_tree",
    "ShotsView": "shots_view",
    "SpeculationTimeline": "speculation_timeline",
    "TokenizerView": "tokenizer_view",
    "TrainingCurves": "training_curves",
}


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module 'arlab.views' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"arlab.views.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
