"""Beam search: SmolLM2 and the small GPT against transformers, and the memory that a search holds."""

from __future__ import annotations

import gc

import torch

from arlab.decoding import beam_search, beam_steps
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.pretrained import smollm2
from bench import peers
from bench.decode import PROMPT, generate, row
from bench.timing import in_turn

BEAMS = 5
GOAL = {"SmolLM2": 1.4, "small": 3.0}


def rows(rounds: int = 5) -> list[dict]:
    model, tokenizer = smollm2()
    prompt = torch.tensor([tokenizer.encode(PROMPT)])
    out = [against_peer("SmolLM2 fp32", model, peers.llama(model), prompt, 64, rounds, GOAL["SmolLM2"])]
    out += memory(model, prompt)
    config = DecoderConfig.gpt2(vocab_size=65, context_length=256, d_model=128, layers=4, heads=4)
    small = DecoderLM(config, seed=0).eval()
    prompt = torch.zeros(1, 1, dtype=torch.long)
    return [against_peer("small GPT", small, peers.gpt2(small), prompt, 250, rounds, GOAL["small"]), *out]


def against_peer(what: str, model, peer, prompt: torch.Tensor, new_tokens: int, rounds: int, goal: float) -> dict:
    """Tokens of the best hypothesis a second; both must find the same one before their times are compared."""
    options = {"num_beams": BEAMS, "early_stopping": "never"}
    ours = beam_search(model, prompt, max_new_tokens=16, beams=BEAMS).ids[:, 0]
    theirs = generate(peer, prompt, 16, **options)[:, prompt.size(1) :]
    if not torch.equal(ours, theirs):
        raise RuntimeError(f"{what}: the lab and the peer find different hypotheses: their times cannot be compared")
    best = in_turn(
        {
            "lab": lambda: beam_search(model, prompt, max_new_tokens=new_tokens, beams=BEAMS),
            "transformers": lambda: generate(peer, prompt, new_tokens, **options),
        },
        rounds,
    )
    return row(f"{what}, beam {BEAMS}", {name: new_tokens / value for name, value in best.items()}, goal)


def memory(model, prompt: torch.Tensor) -> list[dict]:
    """Most bytes alive at a step beside the weights and the cache's keys and values, in MB."""
    held = {(beams, steps): most_held(model, prompt, beams, steps) / 1e6 for beams, steps in ((2, 8), (8, 8), (8, 64))}
    return [
        figures("MB held by beam 8 against beam 2, 8 tokens", held[8, 8], held[2, 8]),
        figures("MB held by 64 tokens against 8 tokens, beam 8", held[8, 64], held[8, 8]),
    ]


def most_held(model, prompt: torch.Tensor, beams: int, new_tokens: int) -> int:
    """Bytes of the tensors that came into being during the search, at the step that holds most; cache left out."""
    before = {each.untyped_storage().data_ptr() for each in tensors()}
    most, kept = 0, []
    for step in beam_steps(model, prompt, max_new_tokens=new_tokens, beams=beams):
        kept.append(step)  # as beam_search does
        most = max(most, held_since(before))
    return most


def held_since(before: set[int]) -> int:
    """Bytes of all tensors alive but those in `before` and a cache's keys and values (the only 4 and 5 dimensional)."""
    cache = {each.untyped_storage().data_ptr() for each in tensors() if each.dim() in (4, 5)}
    sizes = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors()}
    return sum(size for pointer, size in sizes.items() if pointer not in before | cache)


def tensors() -> list[torch.Tensor]:
    return [each for each in gc.get_objects() if type(each) in (torch.Tensor, torch.nn.Parameter)]


def figures(what: str, ours: float, other: float) -> dict:
    return {"what": what, "lab": ours, "peer": other, "ratio": ours / other, "goal": None}
