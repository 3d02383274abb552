"""tools/build.py, in a folder of its own: pairs, ids, and what takes a widget's place."""

from __future__ import annotations

import io

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

SOURCE = """# %% [markdown]
# # A title

# %% tags=["nbval-ignore-output"]
a = 1

# %%
print(a)

# %%
print(a)
"""


@pytest.fixture
def folder(build, tmp_path, monkeypatch):
    """An empty course with one source, NB."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "NB.py").write_text(SOURCE, encoding="utf8")
    monkeypatch.setattr(build, "HERE", tmp_path)
    return tmp_path


def stored(build, folder, change=lambda notebook: None):
    notebook = build.convert("NB")
    change(notebook)
    nbformat.write(notebook, folder / "NB.ipynb")


def test_ids_follow_the_text(build, folder):
    before = build.convert("NB").cells
    assert len({cell.id for cell in before}) == 4, "the twins at the end need ids of their own"
    changed = "# %%\nnew = 0\n\n" + SOURCE.replace("A title", "Another")
    (folder / "source" / "NB.py").write_text(changed, encoding="utf8")
    after = build.convert("NB").cells
    assert [cell.id for cell in after[2:]] == [cell.id for cell in before[1:]]
    assert after[1].id != before[0].id


def test_a_fresh_pair_agrees(build, folder):
    stored(build, folder)
    assert build.disagreements("NB") == []


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda nb: nb.cells[2].update(source="print(a + 1)"), "cell 2 ('print(a)') differs in its source"),
        (lambda nb: nb.cells[1].metadata.update(tags=[]), "cell 1 ('a = 1') differs in its metadata"),
        (lambda nb: nb.cells.pop(), "4 cells in the source, 3 in the notebook"),
    ],
)
def test_a_change_in_one_half_is_told(build, folder, change, says):
    stored(build, folder, change)
    assert any(says in line for line in build.disagreements("NB"))


def test_a_missing_half_is_told(build, folder):
    assert build.disagreements("NB") == ["NB: NB.ipynb is missing"]


def test_pull_brings_the_notebooks_cells_to_the_source(build, folder):
    stored(build, folder, lambda nb: nb.cells[2].update(source="print(a + 1)"))
    build.pull("NB")
    cells = build.convert("NB").cells
    assert [cell.source for cell in cells] == ["# A title", "a = 1", "print(a + 1)", "print(a)"]
    assert cells[1].metadata.tags == ["nbval-ignore-output"]


def widget(build, model_id: str, text: str):
    reference = {"model_id": model_id, "version_major": 2, "version_minor": 1}
    return new_output("display_data", data={build.WIDGET: reference, "text/plain": text})


def test_a_view_becomes_the_picture_of_its_own_state(build, tmp_path):
    """One view shown twice has two pages; a plain widget has none and becomes a sentence."""
    outputs = [widget(build, "v", "Explorer"), widget(build, "v", "Explorer"), widget(build, "w", "IntSlider()")]
    executed = new_notebook(cells=[new_code_cell("shown", outputs=[output]) for output in outputs])
    pages = {(0, "v"): tmp_path / "first.html", (1, "v"): tmp_path / "second.html"}
    shot = []

    def shoot(page, scale):
        shot.append((page.name, scale))
        return build.Picture(png=page.name.encode(), width=900, height=300)

    notebook, taken = build.with_pictures(executed, pages, shoot, 1.25)
    first, second, slider = (cell.outputs[0] for cell in notebook.cells)
    assert (taken, shot) == (2, [("first.html", 1.25), ("second.html", 1.25)])
    assert first.data.keys() == {"image/png", "text/plain"} and first.data["image/png"] != second.data["image/png"]
    assert first.data["text/plain"] == "arlab view: Explorer - run this cell to move it"
    assert first.metadata["image/png"] == {"width": 900, "height": 300}
    assert slider.data == {"text/plain": build.WIDGET_TEXT}
    assert build.WIDGET in executed.cells[0].outputs[0].data, "the executed notebook is kept for another scale"


def test_an_address_is_not_a_name(build):
    assert build.view_name("<arlab.views.mask.MaskWorkbench object at 0x7f01>") == "MaskWorkbench"
    assert build.view_name("Attention explorer: 9 tokens") == "Attention explorer: 9 tokens"


def test_small_colour_counts_are_compressed_exactly(build):
    image_module = pytest.importorskip("PIL.Image")
    image = image_module.new("RGB", (60, 40), (250, 250, 250))
    for x in range(60):
        image.putpixel((x, x % 40), (4 * x, 10, 200))
    png = io.BytesIO()
    image.save(png, "PNG", compress_level=0)
    from photograph import compress

    smaller = compress(png.getvalue())
    assert len(smaller) < len(png.getvalue())
    assert image_module.open(io.BytesIO(smaller)).convert("RGB").tobytes() == image.tobytes()
