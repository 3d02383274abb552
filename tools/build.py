"""The command behind `make notebooks`: source/NN_name.py -> NN_name.ipynb, executed, photographed, in canonical form.

    python tools/build.py                         every notebook
    python tools/build.py 03_attention            one, or several
    python tools/build.py --check                 do the pairs agree? (nothing is executed)
    python tools/build.py --pull 03_attention     the .ipynb was edited in JupyterLab: bring its cells to source/

Canonical form, so that a diff shows only what changed: cell ids made from the cells' text, execution counts 1..n,
tags the only cell metadata, no widget state, and a picture where a widget stood.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode
from photograph import Picture, Shoot, camera, compress, plotly_page

HERE = Path(__file__).resolve().parents[1] / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
PLOTLY = "application/vnd.plotly.v1+json"
VIEW_TEXT = "arlab view: {name} - run this cell to move it"
WIDGET_TEXT = "interactive widget - run this cell to use it"
CELL_SECONDS = 300
LARGEST = 1_000_000  # bytes of a stored notebook
SCALES = (1.5, 1.25, 1.0)  # of the pictures: the first at which the notebook is small enough

NEW_CELL = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
Pages = dict[tuple[int, str], Path]  # (cell, model id) -> the page that the view saved when the cell displayed it


# --------------------------------------------------------------------------------------------- source and notebook


def source_path(name: str) -> Path:
    return HERE / "source" / f"{name}.py"


def notebook_path(name: str) -> Path:
    return HERE / f"{name}.ipynb"


def all_names() -> list[str]:
    """Names of all notebooks, those of which only one half exists included."""
    return sorted({p.stem for p in HERE.glob("source/*.py")} | {p.stem for p in HERE.glob("*.ipynb")})


def convert(name: str) -> NotebookNode:
    """The notebook that the source describes, not yet executed."""
    read = jupytext.read(source_path(name), fmt="py:percent")
    notebook = nbformat.v4.new_notebook()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    seen: Counter[str] = Counter()
    for cell in read.cells:
        new = NEW_CELL[cell.cell_type](cell.source)
        if cell.metadata.get("tags"):
            new.metadata["tags"] = list(cell.metadata["tags"])
        text = f"{cell.cell_type}\n{cell.source}"
        # The id follows from the text, so an unchanged cell keeps it wherever it moves; a number tells twins apart.
        new.id = hashlib.sha256(f"{text}\n{seen[text]}".encode()).hexdigest()[:8]
        seen[text] += 1
        notebook.cells.append(new)
    return notebook


def disagreements(name: str) -> list[str]:
    """Where source/NN_name.py and NN_name.ipynb differ, one sentence for each place; empty when they agree."""
    missing = [p.name for p in (source_path(name), notebook_path(name)) if not p.exists()]
    if missing:
        return [f"{name}: {missing[0]} is missing"]
    told = convert(name).cells
    stored = nbformat.read(notebook_path(name), as_version=4).cells
    found = []
    if len(told) != len(stored):
        found.append(f"{name}: {len(told)} cells in the source, {len(stored)} in the notebook")
    for index, (a, b) in enumerate(zip(told, stored, strict=False)):
        for field in ("cell_type", "source", "metadata", "id"):
            if a[field] != b.get(field):
                start = (a.source.strip().splitlines() or ["(empty)"])[0]
                found.append(f"{name}: cell {index} ({start!r}) differs in its {field}")
                break
    return found


def pull(name: str) -> None:
    """Write the notebook's cells back to its source."""
    notebook = nbformat.read(notebook_path(name), as_version=4)
    notebook.metadata = {"jupytext": {"notebook_metadata_filter": "-all", "cell_metadata_filter": "tags,-all"}}
    source_path(name).write_text(jupytext.writes(notebook, fmt="py:percent"), encoding="utf8", newline="\n")


# --------------------------------------------------------------------------------------------- execute


def execute(notebook: NotebookNode, folder: Path) -> Pages:
    """Run every cell in notebooks/; the views save their pages into `folder`.

    Raises nbclient's CellExecutionError or CellTimeoutError (`CELL_SECONDS` a cell).
    """
    from nbclient import NotebookClient

    pages: Pages = {}

    def keep_pages(cell, cell_index, execute_reply) -> None:
        # A later cell may move and display the same view again, which saves over its page: set this state aside.
        for output in widget_outputs(cell):
            model_id = output.data[WIDGET]["model_id"]
            page = folder / f"{model_id}.html"
            if page.exists():
                pages[cell_index, model_id] = Path(shutil.copy(page, folder / f"{cell_index}-{model_id}.html"))

    environment = os.environ | {
        "ARLAB_PHOTOGRAPH": str(folder),
        "CUDA_VISIBLE_DEVICES": "",  # stored outputs are the ones of a CPU, which every reader can reproduce
        "GOMP_SPINCOUNT": "1000",
        "OMP_NUM_THREADS": "1",
        "PLOTLY_RENDERER": "plotly_mimetype",
    }
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(HERE)}},
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
        on_cell_executed=keep_pages,
    )
    client.execute(env=environment)
    return pages


def widget_outputs(cell: NotebookNode) -> Iterator[NotebookNode]:
    return (output for output in cell.get("outputs", ()) if WIDGET in output.get("data", {}))


# --------------------------------------------------------------------------------------------- photograph, write


def with_pictures(executed: NotebookNode, pages: Pages, shoot: Shoot, scale: float) -> tuple[NotebookNode, int]:
    """A copy with a picture in place of each widget and beside each Plotly figure, and how many pictures that took."""
    notebook = nbformat.from_dict(executed)
    taken = 0
    for index, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if WIDGET in data:
                page = pages.get((index, data[WIDGET]["model_id"]))
                text = VIEW_TEXT.format(name=view_name(data.get("text/plain", ""))) if page else WIDGET_TEXT
                output.data, output.metadata = NotebookNode({"text/plain": text}), NotebookNode()
                if page:
                    add_picture(output, shoot(page, scale))
                    taken += 1
            elif PLOTLY in data:
                with plotly_page(data[PLOTLY]) as page:
                    add_picture(output, shoot(page, scale))
                taken += 1
            elif "image/png" in data:  # a matplotlib figure, to a third of its bytes
                data["image/png"] = base64.b64encode(compress(base64.b64decode(data["image/png"]))).decode("ascii")
    return notebook, taken


def view_name(representation: str) -> str:
    """What a view calls itself, or its class where it has only an address: `<a.b.View object at 0x7f...>` -> `View`."""
    address = re.match(r"<(?:[\w.]*\.)?(\w+) object at ", representation)
    return address.group(1) if address else representation


def add_picture(output: NotebookNode, picture: Picture) -> None:
    data, metadata = picture.output()
    output.data.update(data)
    output.metadata.update(metadata)


def store(name: str, executed: NotebookNode, pages: Pages, shoot: Shoot) -> tuple[int, int]:
    """Write NN_name.ipynb in canonical form; returns (bytes, pictures). Raises ValueError if it stays too large."""
    for scale in SCALES:
        notebook, taken = with_pictures(executed, pages, shoot, scale)
        for cell in notebook.cells:
            cell.metadata = {key: cell.metadata[key] for key in ("tags",) if key in cell.metadata}
        notebook.metadata = convert(name).metadata  # the kernel wrote its version and more into it
        nbformat.validate(notebook)
        text = nbformat.writes(notebook, indent=1).rstrip("\n") + "\n"
        size = len(text.encode("utf8"))
        if size < LARGEST:
            notebook_path(name).write_text(text, encoding="utf8", newline="\n")
            return size, taken
    raise ValueError(f"{size:,} bytes with its pictures at scale {scale}; a stored notebook has under {LARGEST:,}")


def build(names: list[str]) -> list[str]:
    """Build the notebooks and print a line for each; returns the names of those that failed."""
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    failed = []
    executed: dict[str, tuple[NotebookNode, Pages, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            own = Path(folder) / name
            own.mkdir()
            notebook, start = convert(name), time.perf_counter()
            try:
                executed[name] = notebook, execute(notebook, own), time.perf_counter() - start
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                message = re.sub(r"\x1b\[[\d;]*m", "", str(error))  # IPython's colours
                print(f"{name}: FAILED after {time.perf_counter() - start:.1f} s\n{message}", flush=True)
                failed.append(name)
        with camera() as shoot:
            for name, (notebook, pages, seconds) in executed.items():
                try:
                    size, taken = store(name, notebook, pages, shoot)
                    print(f"{name}: {seconds:.1f} s, {size / 1000:.0f} kB, {taken} pictures", flush=True)
                except (ValueError, RuntimeError) as error:
                    print(f"{name}: FAILED while writing: {error}", flush=True)
                    failed.append(name)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description="Execute the notebooks and write them in canonical form.")
    parser.add_argument("names", nargs="*", help="such as 03_attention; none means all")
    parser.add_argument("--check", action="store_true", help="only compare each notebook with its source")
    parser.add_argument("--pull", action="store_true", help="write the cells of the named notebooks back to source/")
    arguments = parser.parse_args()
    names = [Path(name).stem for name in arguments.names] or all_names()
    unknown = [name for name in names if name not in all_names()]
    if unknown:
        parser.error(f"no notebook called {', '.join(unknown)}; there are {', '.join(all_names())}")
    if arguments.pull:
        if not arguments.names:
            parser.error("--pull writes over sources: name the notebooks")
        for name in names:
            pull(name)
        return 0
    if arguments.check:
        found = [line for name in names for line in disagreements(name)]
        print("\n".join(found) or f"{len(names)} pairs agree")
        return bool(found)
    failed = build(names)
    print(f"{len(names) - len(failed)} of {len(names)} written" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
