"""What a notebook must look like as it is stored. nbval compares outputs; these rules hold what it lets pass.

nbval compares nothing in a cell that was never run, and skips images; a widget reference in a trusted notebook shows
an error to whoever has no kernel. `make notebooks` writes notebooks that keep all of this.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = sorted({p.stem for p in [*NOTEBOOKS, *(ROOT / "notebooks" / "source").glob("*.py")]})

LARGEST = 1_000_000  # bytes
IGNORE = "nbval-ignore-output"
WIDGET = "application/vnd.jupyter.widget-view+json"
PLOTLY = "application/vnd.plotly.v1+json"
STANDS_FOR_A_WIDGET = ("arlab view: ", "interactive widget - ")
# Where files of one machine live: a home, a temporary folder, a drive, this checkout.
MACHINE_PATH = re.compile(r"(/home/|/root/|/Users/|/tmp/|/var/folders/|\b[A-Z]:\\|" + re.escape(str(ROOT)) + ")")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def notebook(path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


@pytest.fixture
def code_cells(notebook) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def texts(output) -> dict[str, str]:
    """The readable parts of an output by kind: streams, errors, and text-like data (no pictures, no figure's JSON)."""
    if output.output_type == "stream":
        return {output.name: output.text}
    if output.output_type == "error":
        return {"error": "\n".join([output.evalue, *output.traceback])}
    return {kind: text for kind, text in output.data.items() if kind.startswith("text/") or kind == "image/svg+xml"}


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("name", NAMES)
def test_source_and_notebook_agree(name, build):
    """Someone edited one half of a pair: `make notebooks N=...`, or `python tools/build.py --pull ...`."""
    assert build.disagreements(name) == []


def test_readme_lists_the_notebooks():
    linked = re.findall(r"\]\(notebooks/(\w+)\.ipynb\)", (ROOT / "README.md").read_text(encoding="utf8"))
    assert linked == [path.stem for path in NOTEBOOKS]


def test_every_code_cell_was_run_in_order(code_cells):
    """nbval passes a cell without an execution count in silence."""
    assert [cell.execution_count for cell in code_cells] == list(range(1, len(code_cells) + 1))
    for cell in code_cells:
        for output in cell.outputs:
            assert output.get("execution_count", cell.execution_count) == cell.execution_count


def test_errors_are_expected_ones(code_cells):
    for cell in code_cells:
        if any(output.output_type == "error" for output in cell.outputs):
            assert "raises-exception" in tags(cell), f"a stored error in cell {cell.execution_count}:\n{cell.source}"


def test_metadata_is_reduced(notebook):
    """No widget state, no kernel version, no folding: they differ from one machine to the next."""
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata.language_info) == {"name"}
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}, cell.source


def test_no_widget_reference_is_left(code_cells):
    for cell in code_cells:
        for output in cell.outputs:
            assert WIDGET not in output.get("data", {}), cell.source


def test_cells_with_a_display_are_not_compared(code_cells):
    """The kernel sends a widget where a picture is stored, and a figure's numbers differ in the last digit."""
    for cell in code_cells:
        for output in cell.outputs:
            data = output.get("data", {})
            if PLOTLY in data or data.get("text/plain", "").startswith(STANDS_FOR_A_WIDGET):
                assert IGNORE in tags(cell), f"cell {cell.execution_count} needs the tag {IGNORE}:\n{cell.source}"


def test_displays_have_a_picture(code_cells):
    """A reader without a kernel sees a view or a Plotly figure as a PNG."""
    for cell in code_cells:
        for output in cell.outputs:
            data = output.get("data", {})
            if PLOTLY in data or data.get("text/plain", "").startswith("arlab view: "):
                assert "image/png" in data, cell.source


def test_outputs_name_no_place_of_one_machine(code_cells):
    for cell in code_cells:
        for output in cell.outputs:
            for kind, text in texts(output).items():
                found = MACHINE_PATH.search(text)
                assert not found, f"cell {cell.execution_count}, {kind}: {text[max(0, found.start() - 40) :][:160]!r}"


def test_nothing_was_written_to_stderr(code_cells):
    """Warnings and progress bars differ between systems, and nbval compares them too."""
    for cell in code_cells:
        written = [output.text for output in cell.outputs if output.get("name") == "stderr"]
        assert not written, f"cell {cell.execution_count}: {written[0][:300]}"


def test_first_code_cell_sets_up(code_cells):
    assert "arlab.setup(" in code_cells[0].source
    assert IGNORE in tags(code_cells[0]), "the device report is not compared"


def test_something_is_compared(code_cells):
    """A notebook whose every cell is tagged passes nbval whatever it prints."""
    compared = [cell for cell in code_cells if IGNORE not in tags(cell) and cell.outputs]
    assert len(compared) >= 3


def test_size(path):
    assert path.stat().st_size < LARGEST


def test_text_form(path):
    """Written as `make notebooks` writes: sorted keys, one newline at the end, ids that are all different."""
    text = path.read_text(encoding="utf8")
    assert "\r" not in text
    read = nbformat.reads(text, as_version=4)
    assert nbformat.writes(read, indent=1).rstrip("\n") + "\n" == text
    ids = [cell.id for cell in read.cells]
    assert len(set(ids)) == len(ids)


def test_nbstripout_finds_nothing_to_strip():
    """The independent tool agrees that nothing but outputs, counts and ids is stored."""
    command = [sys.executable, "-m", "nbstripout", "--verify", "--keep-output", "--keep-count", "--keep-id"]
    run = subprocess.run([*command, *map(str, NOTEBOOKS)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
