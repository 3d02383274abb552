"""In programs of their own: several processes train as one, and the model compiles to one graph.

They run without the test suite's import hook, as students run the library.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from arlab.text.batches import shifted
from arlab.training import loop
from arlab.training.processes import Processes, start

TRAINING = """
import json, sys
import torch
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.text.batches import ragged
from arlab.training import processes
from arlab.training.loop import fit

processes.start()
generator = torch.Generator().manual_seed(0)
lengths = torch.randint(2, 9, (61,), generator=generator).tolist()
sequences = [torch.randint(11, (n,), generator=generator).tolist() for n in lengths]
batches = ragged(sequences, 6, pad_id=0, generator=generator, by_length=False)
model = DecoderLM(DecoderConfig.gpt2(vocab_size=11, context_length=8, d_model=16, layers=2, heads=2), seed=0)
path = sys.argv[1]
records = fit(model, batches, steps=7, lr=1e-2, accumulate=2, checkpoint=path)
if processes.Processes.now().first:
    weight = sum(float(p.double().abs().sum()) for p in model.parameters())
    print("RESULT", json.dumps([[s.loss, s.grad_norm, s.tokens] for s in records] + [[weight]]))
processes.stop()
"""

COMPILING = """
import json
import torch
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.text.batches import random_windows
from arlab.training.loop import fit

compiled = torch.compile
torch.compile = lambda model: compiled(model, backend="aot_eager", fullgraph=True)  # needs no C++ compiler
for family in (DecoderConfig.gpt2, DecoderConfig.llama):
    losses = []
    for compile in (False, True):
        batches = random_windows(torch.arange(200) % 11, 8, 4, torch.Generator().manual_seed(0))
        model = DecoderLM(family(vocab_size=11, context_length=8, d_model=16, layers=2, heads=2), seed=0)
        losses.append([s.loss for s in fit(model, batches, steps=3, lr=1e-2, compile=compile)])
    print("RESULT", json.dumps(losses))
"""


def results(arguments: list[str]) -> list:
    """What the program printed behind RESULT, one entry a line."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=240, env=environment, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return [json.loads(line.removeprefix("RESULT ")) for line in run.stdout.splitlines() if line.startswith("RESULT ")]


def flat(rows: list[list[float]]) -> list[float]:
    return [number for row in rows for number in row]


def test_two_processes_train_as_one(tmp_path: Path):
    """torchrun over gloo, ragged batches of 6 rows shared 3 and 3, two a step: the same losses, norms and weights.

    The eleventh batch, an epoch's last, has one row: the second process has none of it.
    """
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    (alone,) = results([str(script), str(tmp_path / "one.safetensors")])
    (together,) = results([*torchrun, str(script), str(tmp_path / "two.safetensors")])
    # float32 sums in another order: a few units of the sixth digit after seven steps of AdamW
    assert flat(together) == pytest.approx(flat(alone), rel=1e-4)
    assert (tmp_path / "two.safetensors").stat().st_size > 1000


def test_the_model_compiles_to_one_graph_and_learns_the_same():
    for plain, compiled in results(["-c", COMPILING]):
        assert compiled == pytest.approx(plain, rel=1e-4)


def test_a_process_without_a_row_gets_one_that_counts_for_nothing():
    batch = shifted([[1, 2, 3], [4, 5, 6]])
    assert Processes(1, 3).part(batch).inputs.tolist() == [[4, 5]]
    rest = Processes(2, 3).part(batch)
    assert rest.inputs.shape == (1, 2) and rest.tokens == 0


def test_the_first_process_alone_writes(tmp_path: Path):
    model = torch.nn.Linear(2, 2)
    settings = loop.Settings(steps=1, checkpoint=tmp_path / "run.safetensors")
    optimizer, record = loop.make_optimizer(model, settings), loop.TrainStep(1, 0.0, 1, 0.1, 0.0, 0.0)
    for rank, written in ((1, False), (0, True)):
        loop._save(model, optimizer, Processes(rank, 2), settings, record, 1)
        assert settings.checkpoint.exists() == written


FAILING = """
import os
import torch
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.text.batches import random_windows
from arlab.training import processes
from arlab.training.loop import fit

processes.start()
rank = processes.Processes.now().rank
model = DecoderLM(DecoderConfig.gpt2(vocab_size=11, context_length=8, d_model=16, layers=2, heads=2), seed=0)
if rank == 1:  # one process alone computes nonsense
    model.norm.register_forward_hook(lambda module, inputs, output: output * float("nan"))
batches = random_windows(torch.arange(200) % 11, 8, 4, torch.Generator().manual_seed(0))
try:
    fit(model, batches, steps=3)
except FloatingPointError as error:
    os.write(1, f'RESULT "{str(error)[:6]}"\\n'.encode())  # in one piece: the two share this pipe
os._exit(0)  # gloo's threads may abort a process whose neighbour has left first; that is not what is tested
"""


def test_nan_in_one_process_stops_both(tmp_path: Path):
    """Else the others would wait for it for ever."""
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    assert results([*torchrun, str(script)]) == ["step 1", "step 1"]


def test_without_torchrun_a_process_is_alone(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert start() is None and Processes.now() == Processes(0, 1)
