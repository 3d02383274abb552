"""Training speed: one step of the lab's loop beside transformers' GPT-2 and a bare PyTorch step; a GPU's share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat

import torch
import torch.nn.functional as F

from arlab.nn.costs import training_flops
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.recipes import shakespeare
from arlab.text.batches import Batch
from arlab.training.loop import Settings, make_optimizer, train
from bench import peers
from bench.timing import in_turn, seconds

ROWS, CONTEXT, STEPS = 12, 64, 5
GOAL = {"step": 1.1, "loop": 0.95}


def training_step(rounds: int = 5) -> list[dict]:
    """4 layers, d 128, context 64, 12 rows, float32: forward, backward, clipping and fused AdamW, as steps a second.

    All three have the same weights, the same batch and the same optimizer; only the code around them differs.
    """
    config = DecoderConfig.gpt2(vocab_size=65, context_length=CONTEXT, d_model=128, layers=4, heads=4)
    window = torch.randint(65, (ROWS, CONTEXT + 1), generator=torch.Generator().manual_seed(0))
    batch = Batch(window[:, :-1], window[:, 1:])
    looped, bare = DecoderLM(config, seed=0), DecoderLM(config, seed=0)
    peer = peers.gpt2(bare)  # in eval mode: no dropout, as in the lab
    mine, theirs = bare_steps(bare, batch, bare), bare_steps(peer, batch, lambda ids: peer(ids).logits)
    losses = [next(train(looped, [batch], steps=1)).loss, next(mine), next(theirs)]
    if max(losses) - min(losses) > 1e-4:
        raise RuntimeError(f"the losses differ, {losses}: the steps cannot be compared")
    ours = train(looped, repeat(batch), schedule="constant")
    best = in_turn({name: many(steps) for name, steps in (("lab", ours), ("bare", mine), ("peer", theirs))}, rounds)
    speed = {name: STEPS / value for name, value in best.items()}
    return [
        row("training steps a second, small GPT (peer: transformers)", speed["lab"], speed["peer"], GOAL["step"]),
        row("... the loop (peer: a bare PyTorch step)", speed["lab"], speed["bare"], GOAL["loop"]),
    ]


def bare_steps(model: torch.nn.Module, batch: Batch, logits_of: Callable) -> Iterator[float]:
    """What one writes without a loop of any kind: the same arithmetic, and the loss read after each step."""
    optimizer = make_optimizer(model, Settings(schedule="constant"))
    while True:
        optimizer.zero_grad()
        loss = F.cross_entropy(logits_of(batch.inputs).flatten(0, 1), batch.targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield loss.item()


def many(steps: Iterator) -> Callable[[], object]:
    return lambda: [next(steps) for _ in range(STEPS)]


def on_gpu() -> list[dict]:
    """nanoGPT's char-Shakespeare setting under bfloat16 and torch.compile: tokens a second, and what share of the
    card's own rate for one large matrix product that is."""
    recipe, device = shakespeare.RECIPES["shakespeare_gpu"], torch.device("cuda")
    model = shakespeare.model_of(recipe).to(device)
    steps = shakespeare.steps_of(recipe, model, evaluate_every=None, validation=None)
    for _ in range(20):
        next(steps)  # compiles, and warms up
    tokens = recipe.rows * recipe.config.context_length
    speed = 50 * tokens / seconds(lambda: [next(steps) for _ in range(50)])
    flops = sum(training_flops(recipe.config, recipe.config.context_length).values()) / recipe.config.context_length
    rate, best = speed * flops, matrix_rate(device)
    return [
        {
            "what": "char-Shakespeare, tokens a second in training",
            "lab": speed,
            "peer": None,
            "ratio": None,
            "goal": None,
        },
        row("... TFLOP/s (peer: one 8192-wide bfloat16 product)", rate / 1e12, best / 1e12, None),
    ]


def matrix_rate(device: torch.device, width: int = 8192, products: int = 20) -> float:
    """Floating-point operations a second of a large bfloat16 product."""
    a = torch.randn(width, width, device=device, dtype=torch.bfloat16)
    best = in_turn({"product": lambda: [a @ a for _ in range(products)]}, rounds=3)["product"]
    return products * 2 * width**3 / best


def row(what: str, lab: float, peer: float, goal: float | None) -> dict:
    return {"what": what, "lab": lab, "peer": peer, "ratio": lab / peer, "goal": goal}
