"""Decoding speed: SmolLM2 at batch 1 and 8, and the small GPT's cached sampling."""

from __future__ import annotations

import torch

from arlab.decoding import TopK, greedy, sample
from arlab.nn.compiled import CompiledSteps
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.pretrained import smollm2
from bench import peers
from bench.timing import in_turn, matrix_vector

PROMPT = "The capital of France is a city that"
GOAL = {"batch 1": 1.15, "limit": 0.9, "bf16": 2.0, "small": 2.0, "uncached": 4.0}


def smollm2_greedy(new_tokens: int = 64, rounds: int = 5) -> list[dict]:
    """fp32 at batch 1 and 8 against transformers' generate; bf16 weights against both; the memory limit."""
    rows = []
    model, tokenizer = smollm2()
    peer = peers.llama(model)
    prompt = torch.tensor([tokenizer.encode(PROMPT)])
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    for batch in (1, 8):
        ids = prompt.repeat(batch, 1)
        check_same_ids(model, peer, ids)
        runs = {"lab": lambda ids=ids: greedy(model, ids, max_new_tokens=new_tokens)}
        runs["transformers"] = lambda ids=ids: generate(peer, ids, new_tokens)
        if batch == 1:
            read = matrix_vector(weights)
            runs["limit"] = lambda read=read: [read() for _ in range(8)]
        best = in_turn(runs, rounds)
        speed = {name: batch * new_tokens / value for name, value in best.items()}
        rows.append(row(f"SmolLM2 fp32 greedy, batch {batch}", speed, GOAL["batch 1"] if batch == 1 else None))
        if batch == 1:
            speed["limit"] = 8 / best["limit"]  # weight bytes over bandwidth: one reading of the weights a token
            rows.append(row("... against the memory limit", speed, GOAL["limit"], peer="limit"))
            fp32 = speed["transformers"]
    half, _ = smollm2(dtype=torch.bfloat16)
    best = in_turn({"lab": lambda: greedy(half, prompt, max_new_tokens=new_tokens)}, rounds)
    speed = {"lab": new_tokens / best["lab"], "transformers": fp32}
    rows.append(row("SmolLM2 bf16 greedy, batch 1 (peer: fp32)", speed, GOAL["bf16"]))
    return rows


def small_gpt_sampling(new_tokens: int = 255, rounds: int = 5) -> list[dict]:
    """4 layers, d 128, 65 characters: sampling with a cache, against transformers and against no cache."""
    config = DecoderConfig.gpt2(vocab_size=65, context_length=256, d_model=128, layers=4, heads=4)
    model = DecoderLM(config, seed=0).eval()
    peer = peers.gpt2(model)
    ids = torch.zeros(1, 1, dtype=torch.long)
    check_same_ids(model, peer, ids)
    best = in_turn(
        {
            "lab": lambda: sample(model, ids, max_new_tokens=new_tokens, filters=[TopK(20)]),
            "transformers": lambda: generate(peer, ids, new_tokens, do_sample=True, top_k=20),
            "uncached": lambda: uncached_sampling(model, ids, new_tokens, 20),
        },
        rounds,
    )
    speed = {name: new_tokens / value for name, value in best.items()}
    return [
        row("small GPT cached sampling", speed, GOAL["small"]),
        row("... against decoding without a cache", speed, GOAL["uncached"], peer="uncached"),
    ]


def on_gpu(new_tokens: int = 256, rounds: int = 5) -> list[dict]:
    """SmolLM2 in bfloat16, a token at a time: as it comes, under CUDA graphs, and what reading the weights allows."""
    model, tokenizer = smollm2(dtype=torch.bfloat16)
    model, prompt = model.to("cuda"), torch.tensor([tokenizer.encode(PROMPT)])
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    read, compiled = matrix_vector(weights, torch.bfloat16, "cuda"), CompiledSteps(model)
    best = in_turn(
        {
            "plain": lambda: greedy(model, prompt, max_new_tokens=new_tokens),
            "graphs": lambda: greedy(compiled, prompt, max_new_tokens=new_tokens),
            "limit": lambda: [read() for _ in range(new_tokens)],
        },
        rounds,
    )
    speed = {name: new_tokens / value for name, value in best.items()}
    return [
        row("SmolLM2 bf16 on the card, CUDA graphs (peer: without)", {"lab": speed["graphs"], **speed}, None, "plain"),
        row("... against the memory limit", {"lab": speed["graphs"], **speed}, None, "limit"),
    ]


def row(what: str, speed: dict[str, float], goal: float | None, peer: str = "transformers") -> dict:
    """Tokens a second of the lab and the peer, and their ratio."""
    return {"what": what, "lab": speed["lab"], "peer": speed[peer], "ratio": speed["lab"] / speed[peer], "goal": goal}


@torch.no_grad()
def generate(peer, ids: torch.Tensor, new_tokens: int, **options):
    """transformers' generate, told to run to the end as the lab does."""
    options = {"do_sample": False, **options}
    return peer.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new_tokens,
        min_new_tokens=new_tokens,
        eos_token_id=None,
        pad_token_id=0,
        use_cache=True,
        **options,
    )


@torch.no_grad()
def uncached_sampling(model: DecoderLM, ids: torch.Tensor, new_tokens: int, k: int) -> torch.Tensor:
    """What a first implementation does: the whole prefix through the model again for each token."""
    for _ in range(new_tokens):
        logits = model(ids[:, -model.context_length :])[:, -1]
        logits[logits < logits.topk(k).values[:, -1:]] = -torch.inf
        ids = torch.cat([ids, torch.multinomial(logits.softmax(-1), 1)], dim=1)
    return ids


def check_same_ids(model: DecoderLM, peer, ids: torch.Tensor, new_tokens: int = 16) -> None:
    """Both must be doing the same work before their times are compared."""
    ours = greedy(model, ids, max_new_tokens=new_tokens).ids[:, 0]
    theirs = generate(peer, ids, new_tokens)[:, ids.size(1) :]
    if not torch.equal(ours, theirs):
        raise RuntimeError("the lab and the peer decode different tokens: their times cannot be compared")
