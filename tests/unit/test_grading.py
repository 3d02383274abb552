"""The teacher's table: fresh runs count, left-over outputs do not, and one broken notebook stops nothing."""

import csv

import nbformat
from nbformat.v4 import new_code_cell, new_notebook, new_output

from arlab.exercises.__main__ import grade, main

RIGHT = """
import torch
from arlab.exercises import start_here as check

def stable_softmax(z):
    return torch.softmax(z, dim=-1)

check.stable_softmax(stable_softmax)
"""


def write(path, *cells):
    nbformat.write(new_notebook(cells=list(cells)), path)
    return path


def claim(text):
    """A cell that does nothing and was handed in with an output that claims something."""
    return new_code_cell("pass", outputs=[new_output("stream", name="stdout", text=text)])


def test_stored_outputs_are_read_and_the_last_word_counts(tmp_path):
    said = "✗ attention.one_head: no.\n✓ attention.one_head: right.\n○ attention.scaled_scores: not attempted yet.\n"
    path = write(tmp_path / "a.ipynb", claim(said))
    assert grade(path, run=False) == {"attention.one_head": "right", "attention.scaled_scores": "open"}


def test_a_fresh_run_forgets_what_was_handed_in(tmp_path):
    path = write(tmp_path / "a.ipynb", claim("✓ attention.one_head: right.\n"), new_code_cell(RIGHT))
    assert grade(path) == {"start_here.stable_softmax": "right"}


def test_a_broken_notebook_is_reported_and_the_rest_go_on(tmp_path, capsys):
    broken = tmp_path / "broken.ipynb"
    broken.write_text("{", encoding="utf-8")
    whole = write(tmp_path / "whole.ipynb", claim("✓ attention.one_head: right.\n"))
    table = tmp_path / "table.csv"
    assert main(["--stored", "--csv", str(table), str(broken), str(whole)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert "could not be run" in printed[0] and "1 of 1 right" in printed[1]
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert rows[1]["attention.one_head"] == "right" and rows[0]["error"]
