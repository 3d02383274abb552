"""Compiled steps: the same logits as the ordinary way, from one graph that is not compiled anew at each token.

In a program of their own, without the test suite's import hook, which torch.compile cannot look through. The backends
"eager" (records the graph) and "aot_eager" (also lowers it) need no C++ compiler; inductor and CUDA graphs are tested
where they can run.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

PROGRAM = """
import json, sys
import torch
from arlab.decoding import LookupDraft, TopK, beam_search, contrastive_decoding, greedy, sample, speculative_decoding
from arlab.nn.compiled import CompiledSteps
from arlab.nn.decoder import DecoderConfig, DecoderLM

sizes = {"vocab_size": 31, "context_length": 40, "d_model": 32, "layers": 2, "heads": 4}
configs = {
    "gpt2": DecoderConfig.gpt2(**sizes),
    "llama": DecoderConfig.llama(**sizes, kv_heads=2),
    "sinusoidal": DecoderConfig.llama(**sizes, positions="sinusoidal"),
}
prompts = [[1, 2, 3, 4], [5], [6, 7]]
torch._dynamo.config.error_on_recompile = True  # one graph for all tokens, whatever their positions

def built(name):
    torch._dynamo.reset()
    model = DecoderLM(configs[name], seed=0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)  # large enough that every token matters
    return model

def seeded():
    return torch.Generator().manual_seed(0)

@torch.no_grad()
def largest_difference(name, backend):
    # Ragged rows, token by token, with a rollback in between; and what the cache says at the end.
    model = built(name)
    compiled = CompiledSteps(model, backend=backend)
    ids = torch.tensor([[1, 2, 3, 4], [5, 0, 0, 0], [6, 7, 0, 0]])
    caches = [each.new_cache(3, 20) for each in (model, compiled)]
    for cache, each in zip(caches, (model, compiled)):
        each.last_logits(ids, cache, [4, 1, 2])
        cache.truncate([4, 1, 2])
    worst, scale = 0.0, 0.0
    for t in range(8):
        if t == 4:
            [cache.truncate([6, 4, 5]) for cache in caches]
            [cache.reorder([2, 0, 1]) for cache in caches]
        new = torch.tensor([[t + 1], [t + 2], [2 * t]])
        expected, got = (each(new, cache) for each, cache in zip((model, compiled), caches))
        worst, scale = max(worst, float((expected - got).abs().max())), max(scale, float(expected.abs().max()))
    return [worst, scale, caches[1].lengths, caches[1].positions.tolist()]

def wholly_compiled():
    # torch.compile over the model itself, cache and all: nothing in the pass may be foreign to it.
    model, arguments = built("gpt2"), {"max_new_tokens": 4, "filters": [TopK(1)]}
    torch._dynamo.config.error_on_recompile = False  # the ordinary way has the lengths in its graph
    compiled = torch.compile(model, backend="eager")
    expected = greedy(model, prompts[0], max_new_tokens=4).tokens()
    return speculative_decoding(compiled, model, prompts[0], **arguments).tokens() == expected

def graph_in_cache():
    # In grad mode a step that autograd follows would stay in the cache, and the next one with it.
    compiled = CompiledSteps(built("llama"), backend="eager")
    cache = compiled.new_cache(1, 3)
    logits = [compiled(torch.tensor([[token]]), cache) for token in (1, 2)]
    return cache.k.requires_grad or any(each.requires_grad for each in logits)

def speculate(model):
    return speculative_decoding(model, LookupDraft(), prompts[0], max_new_tokens=10, generator=seeded())

def same(backend, device="cpu"):
    decoders = {
        "greedy": lambda m: greedy(m, prompts, max_new_tokens=10),
        "sample": lambda m: sample(m, prompts, max_new_tokens=8, filters=[TopK(5)], generator=seeded()),
        "speculative": speculate,
        "beam": lambda m: beam_search(m, prompts, max_new_tokens=8, beams=3, n=2, eos_id=4),
        "contrastive": lambda m: contrastive_decoding(m, m, prompts, max_new_tokens=8, alpha=0.5),
    }
    found = {}
    for name, decode in decoders.items():
        model = built("llama").to(device)
        torch._dynamo.config.error_on_recompile = name != "beam"  # the number of beams grows at first
        compiled = CompiledSteps(model, backend=backend)
        found[name] = all(torch.equal(decode(compiled).ids, decode(model).ids) for _ in range(2))
    return found

print("RESULT", json.dumps(eval(sys.argv[1])))
"""


def result(expression: str):
    """What the expression gives in the program above."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, expression]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.split("RESULT ")[-1])


def test_logits_of_ragged_rows_with_a_rollback_and_a_reorder():
    for worst, scale, lengths, positions in result('[largest_difference(name, "aot_eager") for name in configs]'):
        assert worst < 1e-5 * scale and scale > 1
        assert lengths == positions == [9, 10, 8]


def test_every_decoder_writes_the_same():
    found = result('same("eager")')
    assert found == dict.fromkeys(("greedy", "sample", "speculative", "beam", "contrastive"), True)


def test_the_model_itself_may_be_compiled():
    assert result("wholly_compiled()")


def test_steps_in_grad_mode_leave_no_graph_in_the_cache():
    assert result("graph_in_cache()") is False


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor compiles C++ on a CPU; there is no g++")
def test_inductor_compiles_it_whole():
    worst, scale, *_ = result('largest_difference("llama", "inductor")')
    assert worst < 1e-5 * scale


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need an NVIDIA card")
def test_cuda_graphs_write_the_same():
    assert all(result('same("inductor", device="cuda")').values())


def test_what_does_not_fit_is_refused_as_ever(as_shipped):
    from arlab.nn.compiled import CompiledSteps
    from arlab.nn.decoder import DecoderConfig, DecoderLM

    model = DecoderLM(DecoderConfig.llama(vocab_size=9, context_length=8, d_model=8, layers=1, heads=2), seed=0)
    compiled = CompiledSteps(model, backend="eager")
    cache = compiled.new_cache(1, 2)
    with torch.no_grad():
        compiled(torch.tensor([[1, 2]]), cache)
    with pytest.raises(ValueError, match="capacity of 2"):
        compiled(torch.tensor([[3]]), cache)
    with pytest.raises(TypeError, match="takes a DecoderLM"):
        CompiledSteps(compiled)
