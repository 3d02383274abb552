"""What every test shares: quiet threads, the same examples each time, and shapes checked as signatures write them."""

import os

# Before torch starts its threads: two workers spinning on two cores stop each other.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jaxtyping
import pytest
from hypothesis import settings

# Before arlab is imported: every Float[Tensor, "rows time"] in a signature is checked at every call of every test.
# An int serves where a float is asked for (PEP 484's numeric tower): Temperature(0).
jaxtyping.install_import_hook("arlab", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

settings.register_profile("ci", derandomize=True, deadline=None, database=None, print_blob=True)
settings.load_profile("ci")


@pytest.fixture
def as_shipped():
    """The library without jaxtyping's checks, as students run it: its own error messages are what is tested."""
    from jaxtyping import config

    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
