"""`python -m bench [section ...]`: the figures of this machine, the goal beside each; all sections by default."""

from __future__ import annotations

import argparse
import os
import sys
import warnings

os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore", module="transformers")

SECTIONS = ("decode", "small", "beam", "speculation", "training", "startup", "slider")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--rounds", type=int, default=5, help="the best of so many turns counts")
    options = parser.parse_args(arguments)
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    from bench.timing import environment

    print(environment())
    print("In turn in one process, the best of each; tokens a second unless it says otherwise.\n")
    print("| what | lab | peer | ratio | goal | |\n|---|---|---|---|---|---|")
    for section in options.sections or SECTIONS:
        for row in _run(section, options.rounds):
            print(_line(row), flush=True)
    return 0


def _run(section: str, rounds: int) -> list[dict]:
    # Imported here: startup and slider need no transformers, and a missing Chromium stops no section before its own.
    if section == "slider":
        from bench.slider import rows

        return rows()
    if section == "startup":
        from bench.startup import measure

        return measure()
    import torch

    from bench import beam, decode, speculation, training

    card = torch.cuda.is_available()
    return {
        "decode": lambda: decode.smollm2_greedy(rounds=rounds) + (decode.on_gpu(rounds=rounds) if card else []),
        "small": lambda: decode.small_gpt_sampling(rounds=rounds),
        "beam": lambda: beam.rows(rounds),
        "speculation": lambda: speculation.rows(rounds),
        "training": lambda: training.training_step(rounds) + (training.on_gpu() if card else []),
    }[section]()


def _line(row: dict) -> str:
    """One line of the table; a ratio that misses its goal says by how much."""
    goal, ratio = row["goal"], row["ratio"]
    verdict = "" if goal is None else "met" if ratio >= goal else f"missed by {goal - ratio:.2f}"
    shown = ["" if value is None else f"{value:.2f}" for value in (row["lab"], row["peer"], ratio, goal)]
    return f"| {row['what']} | " + " | ".join(shown) + f" | {verdict} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
