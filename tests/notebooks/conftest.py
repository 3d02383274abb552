import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.fixture(scope="session")
def build() -> ModuleType:
    """notebooks/build.py as a module."""
    sys.path.insert(0, str(NOTEBOOKS))  # it imports its neighbour photograph.py
    spec = importlib.util.spec_from_file_location("arlab_notebooks_build", NOTEBOOKS / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
