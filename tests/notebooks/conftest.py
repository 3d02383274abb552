import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="session")
def build() -> ModuleType:
    """tools/build.py as a module."""
    sys.path.insert(0, str(TOOLS))  # it imports its neighbour photograph.py
    spec = importlib.util.spec_from_file_location("arlab_notebooks_build", TOOLS / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
