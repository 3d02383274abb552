"""Recipes: how each shipped model and recording was made, and how to make it again.

python -m arlab.recipes                        what there is
python -m arlab.recipes shakespeare_strong     make it again (minutes), beside the shipped one: --out folder
from arlab.recipes import load                 model, tokenizer = load("shakespeare_strong")
"""

from __future__ import annotations

from pathlib import Path

from arlab.nn.model_file import AnyModel, AnyTokenizer, load_model

CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"


def load(name: str) -> tuple[AnyModel, AnyTokenizer]:
    """A shipped model, in eval mode on the CPU, and its tokenizer.

    Raises:
        ValueError: no shipped model of that name; names those there are.
    """
    shipped = sorted(path.stem for path in CHECKPOINTS.glob("*.safetensors"))
    if name not in shipped:
        raise ValueError(f"no shipped model is called {name!r}; there are {', '.join(shipped)}")
    model, tokenizer, _ = load_model(CHECKPOINTS / f"{name}.safetensors")
    return model, tokenizer
