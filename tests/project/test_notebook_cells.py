"""Notebooks that a student can read: short cells, words before them, parameters explained, no functions."""

import ast

import nbformat
import pytest

from leakfree_study.run.config import NOTEBOOKS

#: Lines of a cell that has one long call; most have half of it.
LONGEST = 17


@pytest.fixture(params=NOTEBOOKS)
def cells(request, repository):
    return nbformat.read(repository / "notebooks" / f"{request.param}.ipynb", as_version=4).cells


def code(cells):
    """Return the cells of code but that of the parameters, and its lines."""
    of_code = [cell for cell in cells if cell.cell_type == "code"]
    return [cell for cell in of_code if "parameters" not in cell.metadata.get("tags", [])]


def test_cells_are_short(cells):
    # What is imported is a list, not something to follow.
    read = [
        [line for line in cell.source.splitlines() if not line.startswith(("import ", "from "))]
        for cell in code(cells)
    ]
    assert max(map(len, read)) <= LONGEST, max(read, key=len)


def test_no_more_than_three_cells_follow_one_another_without_words(cells):
    kinds = "".join("c" if cell.cell_type == "code" else "m" for cell in cells[3:])
    assert max(map(len, kinds.split("m"))) <= 3


def test_what_is_a_function_is_in_the_library(cells):
    for cell in code(cells):
        defined = [
            node.name for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.FunctionDef)
        ]
        assert not defined, f"{defined}: belongs to lib/leakfree_study, with a test"


def test_every_parameter_says_what_it_is(cells):
    (parameters,) = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    for line in parameters.source.splitlines():
        assert len(line.partition("  # ")[2]) > 5, f"{line}: has no comment"


def test_notebook_03_shows_what_leaks_and_what_does_not(repository):
    cells = nbformat.read(repository / "notebooks" / "03_leaky_cnn.ipynb", as_version=4).cells
    for words, call in (("makes the leak", "splits.image_level("), ("prevents it", "splits.patient_level(")):
        (place,) = [
            i for i, cell in enumerate(cells) if cell.cell_type == "markdown" and words in cell.source
        ]
        shown = cells[place + 1]
        assert call in shown.source and "hide-input" not in shown.metadata.get("tags", [])
