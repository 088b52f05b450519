"""Each notebook of the study ends with two exercises whose folded solutions run and say what they should."""

import ast

import nbformat
import pytest

from leakfree_study.run.config import NOTEBOOKS

#: What each solution says. ``results`` gathers what the others found and teaches nothing new.
SAID = {
    "01_exploration": (
        "2 patients by the number, 3 by letter and number",
        "The same bytes: ['a.png', 'c.png']",
    ),
    "02_leakage_analysis": ("Refused: broken: undeclared leak, 1 linked groups", "none is: 0.48"),
    "03_leaky_cnn": (
        "Refused: small: stage train consumed 4 images where the manifest has 2",
        "declares shared linked groups; none was found",
    ),
    "04_leakfree_classical": (
        "GroupKFold: a patient is on both sides of 0 of 5",
        "Accuracy on training images: 1.00",
    ),
    "05_leakfree_deep": (
        "Refused: small: the test part was scored more than once",
        "chosen on the test: 0.58",
    ),
    "05_network_checks": ("Calibration error: 0.20", "of the rarer class: 0.00"),
    "05_reframed": ("from the top row alone: 1.00", "after the border is cut off: 0.50"),
    "06_inflation": ("without any leak", "below 0.05: 1"),
    "06_checks": ("with one: 1.00", "too small by"),
    "06_reanalysis": ("clean refused: no-test-set: undeclared leak", "claimed 0.9894"),
}


def test_every_notebook_but_the_last_has_exercises():
    assert list(SAID) == [name for name in NOTEBOOKS if name != "results"]


@pytest.mark.parametrize("name", SAID)
def test_solutions_run_alone_and_say_what_they_should(name, repository, capsys):
    cells = nbformat.read(repository / "notebooks" / f"{name}.ipynb", as_version=4).cells
    solutions = [cell for cell in cells if "exercise" in cell.metadata.get("tags", ())]
    assert cells[-1] is solutions[-1] and len(solutions) == 2
    assert sum(cell.source.startswith("## Exercises") for cell in cells) == 1
    for solution, said in zip(solutions, SAID[name], strict=True):
        # Folded, so that a reader thinks first.
        assert "hide-cell" in solution.metadata["tags"]
        assert solution.metadata["mystnb"]["code_prompt_show"] == "Show the solution"
        # Nothing of the run: what the notebook imports is all that it may use.
        exec(imports(cells, solution.source) + solution.source, {})
        assert said in capsys.readouterr().out


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_says_what_a_reader_can_do_after_it(name, repository):
    if name not in SAID:
        return
    first = nbformat.read(repository / "notebooks" / f"{name}.ipynb", as_version=4).cells[0].source
    said = first.partition("After this notebook you can\n\n")[2].partition("\n\n")[0]
    assert [line[:2] for line in said.splitlines() if not line.startswith("  ")] == ["- "] * 3


def imports(cells, source):
    """Return the imports of a notebook that bind a name of the source."""
    used = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    found = []
    for cell in cells:
        if cell.cell_type == "code" and "exercise" not in cell.metadata.get("tags", ()):
            for node in ast.parse(cell.source).body:
                if isinstance(node, ast.Import | ast.ImportFrom):
                    node.names = [one for one in node.names if (one.asname or one.name) in used]
                    found += [ast.unparse(node)] if node.names else []
    return "".join(f"{line}\n" for line in found)
