"""setup(): one line that picks the device, seeds, and says so."""

import os
import subprocess
import sys

import pytest
import torch

import arlab
from arlab.lab import Lab


def test_setup_seeds_torch_and_reports_one_line(capsys):
    lab = arlab.setup(seed=3, device="cpu")
    line = capsys.readouterr().out
    assert line.count("\n") == 1 and line.startswith("arlab on cpu (") and line.endswith("seed 3\n")
    assert f"{torch.get_num_threads()} thread" in line and "float32" in line and torch.__version__ in line
    first = torch.rand(2)
    arlab.setup(seed=3, device=torch.device("cpu"), quiet=True)
    assert torch.equal(torch.rand(2), first)
    assert lab == Lab(device=torch.device("cpu"), dtype=torch.float32, seed=3)
    assert capsys.readouterr().out == ""


def test_the_default_is_the_best_device_at_hand():
    lab = arlab.setup(quiet=True)
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert lab.device.type == expected and lab.seed == 0


def test_scale():
    assert Lab(torch.device("cpu"), torch.float32, 0).scale(cpu=300, gpu=5000) == 300
    for device in ("cuda", "mps"):
        assert Lab(torch.device(device), torch.float32, 0).scale(cpu="small", gpu="large") == "large"


def test_generators_are_fresh_on_the_cpu_and_seeded():
    lab = Lab(torch.device("cuda"), torch.float32, 5)
    assert lab.generator().device.type == "cpu"
    draws = [torch.rand(3, generator=g) for g in (lab.generator(), lab.generator(), lab.generator(6))]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("seed", [-1, 1.0, True, None, "0", 2**63])
def test_bad_seeds(seed, as_shipped):
    with pytest.raises(ValueError, match=f"seed is {seed!r}; it must be an integer of 0 or more"):
        arlab.setup(seed=seed, quiet=True)


def test_the_largest_seed():
    assert arlab.setup(seed=2**63 - 1, device="cpu", quiet=True).generator().initial_seed() == 2**63 - 1


@pytest.mark.parametrize("device", ["gpu", "", "cpu:x", [0]])
def test_a_device_that_does_not_exist(device, as_shipped):
    with pytest.raises(ValueError, match=r"device is .*; it must be 'cuda', 'mps' or 'cpu'"):
        arlab.setup(device=device, quiet=True)


def test_a_device_that_is_not_here(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device is 'cuda', which is not available here; available: .*cpu"):
        arlab.setup(device="cuda", quiet=True)
    with pytest.raises(ValueError, match="device is 'meta', which is not available here"):
        arlab.setup(device="meta", quiet=True)


@pytest.mark.parametrize(("before", "after"), [(None, "1000"), ("7", "7")])
def test_importing_arlab_calms_openmp_before_torch_starts(tmp_path, before, after):
    """Two spinning notebooks on two cores slow each other forty-fold. A pretend torch tells what it finds."""
    (tmp_path / "torch.py").write_text("import os; print(os.environ.get('GOMP_SPINCOUNT'))")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "GOMP_SPINCOUNT": before or ""}
    if before is None:
        del environment["GOMP_SPINCOUNT"]
    done = subprocess.run([sys.executable, "-c", "import arlab"], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == after, done.stderr
