"""Speculative decoding against the lab's own plain cached decoding: the same text, in the same run."""

from __future__ import annotations

import torch

from arlab.decoding import LookupDraft, Temperature, greedy, speculative_decoding
from arlab.nn.early_exit import EarlyExit
from arlab.nn.pretrained import smollm2
from arlab.recipes import load
from bench.timing import in_turn

GOAL = 1.5
PARAGRAPH = (
    "Mr. Thornton arrived at the harbour at seven in the morning. The harbour was quiet, and the boats lay in two long "
    "rows. He walked along the first row until he came to the boat with the red sail, and there he waited for the "
    "captain of the boat with the red sail."
)  # which SmolLM2 does repeat, all but its last clause; many a text it retells in its own words


def rows(rounds: int = 5) -> list[dict]:
    """SmolLM2 copying a paragraph with n-gram lookup; the Shakespeare pair; early layers as a draft, which loses."""
    model, tokenizer = smollm2()
    question = [{"role": "user", "content": f"Repeat this text word for word:\n\n{PARAGRAPH}"}]
    copying = tokenizer.chat(question, add_generation_prompt=True)
    strong, characters = load("shakespeare_strong")
    weak, _ = load("shakespeare_weak")
    play = characters.encode("ROMEO:\n")
    early = EarlyExit(model, 20)
    return [
        against_plain(
            "SmolLM2 copies a text, n-gram lookup, gamma 4", model, LookupDraft(), copying, 46, 4, rounds, GOAL
        ),
        against_plain("Shakespeare, weak drafts for strong, gamma 4", strong, weak, play, 200, 4, rounds),
        against_plain("SmolLM2, its first 20 of 30 layers draft, gamma 2", model, early, copying, 32, 2, rounds),
    ]


def against_plain(what: str, target, draft, prompt: list[int], new_tokens: int, gamma: int, rounds: int, goal=None):
    """Tokens a second, greedy; the two texts must be identical."""
    settings = {"max_new_tokens": new_tokens, "gamma": gamma, "filters": [Temperature(0)]}
    plain = greedy(target, prompt, max_new_tokens=new_tokens)
    if not torch.equal(speculative_decoding(target, draft, prompt, **settings).ids, plain.ids):
        raise RuntimeError(f"{what}: speculation changed the text")
    best = in_turn(
        {
            "lab": lambda: speculative_decoding(target, draft, prompt, **settings),
            "plain": lambda: greedy(target, prompt, max_new_tokens=new_tokens),
        },
        rounds,
    )
    lab, peer = new_tokens / best["lab"], new_tokens / best["plain"]
    return {"what": f"{what} (peer: the lab's greedy)", "lab": lab, "peer": peer, "ratio": lab / peer, "goal": goal}
