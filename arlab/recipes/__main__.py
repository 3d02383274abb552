"""`python -m arlab.recipes NAME`: make a shipped model or recording again, and print its figures."""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch

import arlab.recipes
from arlab.recipes import CHECKPOINTS, shakespeare, translation
from arlab.training import processes

MAKERS = {name: module for module in (shakespeare, translation) for name in module.RECIPES}


def main(arguments: list[str]) -> int:
    records = recorders()
    parser = argparse.ArgumentParser(
        prog="python -m arlab.recipes",
        description="Make a shipped model or recording again. Several processes: torchrun --nproc_per_node 2 -m "
        "arlab.recipes NAME.",
        epilog="\n".join(
            [f"{name:24} {module.RECIPES[name].about}" for name, module in MAKERS.items()]
            + [f"{name:24} the recorded runs of that notebook" for name in records]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=[*MAKERS, *records], metavar="NAME", nargs="?")
    parser.add_argument("--out", type=Path, default=Path("recipes-out"), help="folder; default recipes-out")
    parser.add_argument("--ship", action="store_true", help="write into the library's own checkpoints instead")
    parser.add_argument("--steps", type=int, help="break off after so many, on the same schedule: for a trial")
    parser.add_argument("--device", help="cpu, cuda or mps; default cpu, which the shipped figures are from")
    parser.add_argument("--resume", action="store_true", help="go on from a run that was stopped")
    options = parser.parse_args(arguments)
    if options.name is None:
        parser.print_help()
        return 0
    if options.ship and options.steps is not None:
        parser.error("--steps breaks off for a trial, and a trial must not be put in place of what is shipped")
    out = CHECKPOINTS if options.ship else options.out
    if options.name in records:
        print("written:", records[options.name](out / f"{options.name.removeprefix('record_')}.json"))
        return 0
    device = processes.start() or torch.device(options.device or "cpu")
    try:
        make = MAKERS[options.name].make
        about = make(options.name, out, device=device, resume=options.resume, stop_after=options.steps)
        if processes.Processes.now().first:
            print(report(about))
    except BaseException:
        processes.stop(together=False)
        raise
    processes.stop()
    return 0


def recorders() -> dict[str, Callable[[Path], Path]]:
    """record_NN_name for each module of this package that has a function record(path=CHECKPOINTS / "NN_name.json")."""
    found = {}
    for module in pkgutil.iter_modules(arlab.recipes.__path__):
        if module.name == "__main__":
            continue
        record = getattr(importlib.import_module(f"arlab.recipes.{module.name}"), "record", None)
        if record is not None:
            shipped = inspect.signature(record).parameters["path"].default
            found[f"record_{Path(shipped).stem}"] = record
    return dict(sorted(found.items()))


def report(about: dict) -> str:
    """The figures of a model in a few lines; of the translation model, in a page."""
    if about["recipe"] in translation.RECIPES:
        return translation.report(about)
    rows = [
        f"{about['recipe']}: {about['about']}",
        f"{about['parameters']:,} parameters, {about['bytes']:,} bytes as stored",
        f"{about['steps']:,} steps, {about['training_tokens']:,} tokens, {about['seconds']:.0f} s",
        about["machine"],
        f"validation loss {about['validation_loss']:.4f} nats a character",
    ]
    return "\n".join([*rows, "", about["text"]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
