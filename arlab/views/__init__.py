"""Interactive views. Each one is an ipywidget that computes in the page: `view.temperature = 0.5` moves it.

`NextToken`, `Pipeline`, `AttentionExplorer`, `AttentionWorkbench`, `MaskWorkbench`; loaded when first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arlab.views.attention_explorer import AttentionExplorer
    from arlab.views.attention_workbench import AttentionWorkbench
    from arlab.views.mask_workbench import MaskWorkbench
    from arlab.views.next_token import NextToken
    from arlab.views.pipeline import Pipeline

__all__ = ["AttentionExplorer", "AttentionWorkbench", "MaskWorkbench", "NextToken", "Pipeline"]

_MODULES = {
    "AttentionExplorer": "attention_explorer",
    "AttentionWorkbench": "attention_workbench",
    "MaskWorkbench": "mask_workbench",
    "NextToken": "next_token",
    "Pipeline": "pipeline",
}


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module 'arlab.views' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"arlab.views.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
