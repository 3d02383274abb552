"""For the teacher with forty notebooks: `python -m arlab.exercises handed-in/*.ipynb` prints who solved what.

Each notebook is run afresh, from the top, in a kernel of its own, so that outputs left over from another attempt do
not count; what the exercises' checks print is gathered. `--stored` reads the outputs as they were handed in, which
takes no time and proves less. `--csv file` writes the same as a table. Running a notebook runs the student's code:
do it where you would open it.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from pathlib import Path

import nbformat

VERDICT = re.compile(r"^([✓○✗]) (\w+\.\w+):")
MEANING = {"✓": "right", "✗": "wrong", "○": "open"}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m arlab.exercises", description=__doc__.split("\n\n")[0])
    parser.add_argument("notebooks", nargs="+", type=Path, help="the notebooks handed in")
    parser.add_argument("--stored", action="store_true", help="read the stored outputs instead of running")
    parser.add_argument("--csv", type=Path, help="write the table here as well")
    parser.add_argument("--timeout", type=int, default=300, help="seconds a cell may take (default 300)")
    options = parser.parse_args(arguments)
    rows: dict[str, dict[str, str]] = {}
    for path in found(options.notebooks):
        rows[str(path)] = grade(path, run=not options.stored, timeout=options.timeout)
        print(line(str(path), rows[str(path)]), flush=True)
    if options.csv is not None:
        write_csv(options.csv, rows)
    return 0


def found(paths: list[Path]) -> list[Path]:
    """The paths, with `*` filled in where the shell has not done it (Windows leaves it to the program)."""
    return [match for path in paths for match in (sorted(path.parent.glob(path.name)) if "*" in path.name else [path])]


def grade(path: Path, *, run: bool = True, timeout: int = 300) -> dict[str, str]:
    """The last verdict of each exercise in one notebook: "right", "wrong" or "open"; "error" if it cannot be read.

    Args:
        run: execute the notebook first; a cell that raises does not stop the ones after it.
        timeout: seconds for each cell.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
        if run:
            from nbclient import NotebookClient  # a kernel is started only when one is needed

            client = NotebookClient(notebook, timeout=timeout, allow_errors=True, resources={"metadata": {"path": "."}})
            client.execute()
    except Exception as error:  # one broken file must not stop the other thirty-nine
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
    return verdicts(notebook)


def verdicts(notebook) -> dict[str, str]:
    """What the checks printed: exercise -> meaning, the last word counting."""
    found = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stdout":
                for printed in output.text.splitlines():
                    if match := VERDICT.match(printed):
                        found[match[2]] = MEANING[match[1]]
    return found


def line(name: str, row: dict[str, str]) -> str:
    """One notebook in one line: how many are right, and which are not."""
    if "error" in row:
        return f"{name}: could not be run ({row['error']})"
    right = sum(verdict == "right" for verdict in row.values())
    rest = ", ".join(f"{exercise} {verdict}" for exercise, verdict in row.items() if verdict != "right")
    return f"{name}: {right} of {len(row)} right" + (f"; {rest}" if rest else "")


def write_csv(path: Path, rows: dict[str, dict[str, str]]) -> None:
    columns = sorted({exercise for row in rows.values() for exercise in row})
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["notebook", *columns])
        writer.writerows([name, *(row.get(column, "") for column in columns)] for name, row in rows.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
