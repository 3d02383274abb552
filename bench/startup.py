"""From `import arlab` to the first token of the real model: what a student waits for."""

from __future__ import annotations

import subprocess
import sys

LAB = """
import time; start = time.perf_counter()
import arlab
imported = time.perf_counter()
from arlab.decoding import greedy
from arlab.nn.pretrained import smollm2
model, tokenizer = smollm2()
loaded = time.perf_counter()
greedy(model, [tokenizer.encode("The capital of France is")], max_new_tokens=1)
print(imported - start, loaded - start, time.perf_counter() - start)
"""

# transformers reads the same file; it also dequantises it.
PEER = """
import logging, sys, time; start = time.perf_counter()
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
imported = time.perf_counter()
folder, file = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
loaded = time.perf_counter()
ids = tokenizer("The capital of France is", return_tensors="pt")
model.generate(**ids, max_new_tokens=1, do_sample=False, pad_token_id=0)
print(imported - start, loaded - start, time.perf_counter() - start)
"""


def measure(rounds: int = 2, peer: bool = True) -> list[dict]:
    """Seconds to the imports' end, to the loaded model, to the first token; each in a process of its own."""
    from arlab import assets

    file = assets.path("smollm2")
    best = {"lab": _best(LAB, [], rounds)}
    if peer:
        best["transformers"] = _best(PEER, [str(file.parent), file.name], rounds)
    rows = []
    for i, what in enumerate(("import", "model loaded", "first token")):
        lab, other = best["lab"][i], best["transformers"][i] if peer else None
        ratio = other / lab if other is not None else None
        rows.append({"what": f"seconds to: {what}", "lab": lab, "peer": other, "ratio": ratio, "goal": None})
    return rows


def _best(script: str, arguments: list[str], rounds: int) -> list[float]:
    runs = []
    for _ in range(rounds):
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
        runs.append([float(x) for x in done.stdout.split()[-3:]])
    return min(runs, key=lambda run: run[-1])
