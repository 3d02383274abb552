"""`make test-disturbed` must disturb: else it would pass for no reason."""

import os
import subprocess
import sys
from pathlib import Path

START = Path(__file__).resolve().parents[2] / "tools" / "disturbed_start.py"
CELL = """
print(sorted(name for name in globals() if name in ("install", "torch", "os")))
import torch
weights = torch.nn.Parameter(torch.ones(1000))
torch.optim.AdamW([weights])
moved = (weights - 1).abs()
print(bool(moved.max() > 1e-6), bool(moved.max() < 1e-5), round(float(moved.sum()), 6))
"""
RUN = """
import sys
from jupyter_client.manager import start_new_kernel

manager, client = start_new_kernel(kernel_name="python3")
try:
    say = lambda message: print(message["content"].get("text", ""), end="")
    client.execute_interactive(sys.argv[1], timeout=120, output_hook=say)
finally:
    manager.shutdown_kernel(now=True)
"""


def in_kernel(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", RUN, CELL], env=os.environ | environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_kernel_that_starts_with_it_trains_from_disturbed_weights():
    first = in_kernel(PYTHONSTARTUP=str(START), ARLAB_DISTURB="1")
    assert first[0] == "[]" and first[1].startswith("True True")
    assert in_kernel(PYTHONSTARTUP=str(START), ARLAB_DISTURB="2")[1] != first[1]
    assert in_kernel(PYTHONSTARTUP="")[1].startswith("False True 0.0")
