"""Captions belong to figures that notebooks save, and say what was computed."""

import ast
import re

import nbformat
import pytest

from leakfree_study.figures.captions import CAPTIONS, caption


def calls(repository):
    """Return the calls of `caption` in all notebooks: notebook, name of the figure, values."""
    for path in sorted((repository / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            tree = ast.parse(cell.source) if cell.cell_type == "code" else ast.Module([])
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "caption":
                    yield path.stem, node.args[0].value, [keyword.arg for keyword in node.keywords]


def test_every_caption_belongs_to_a_figure_of_its_notebook(repository):
    found = list(calls(repository))
    assert {name for _, name, _ in found} == set(CAPTIONS)
    assert all(name.split("_")[0] == notebook.split("_")[0] for notebook, name, _ in found)


def test_notebooks_fill_in_every_value_and_no_other(repository):
    for notebook, name, values in calls(repository):
        if None not in values:  # with **, what is in it is seen when it runs
            wanted = set(re.findall(r"\{(\w+)", "".join(CAPTIONS[name])))
            assert set(values) == wanted, f"{notebook}: {name}"


def test_values_are_taken_as_they_are():
    found = caption("04_scores", task="{size} & <b>", size=32)
    assert found["caption"].startswith("Classical models on flattened pixels (32 px), internal")
    assert "task {size} & <b>;" in found["caption"] and "task {size} & <b>:" in found["alt"]
    assert set(found) == {"caption", "alt"}


def test_a_value_that_is_missing_and_a_figure_that_is_not_known_are_errors():
    with pytest.raises(KeyError, match="task"):
        caption("04_scores", size=32)
    with pytest.raises(KeyError, match="04_scors"):
        caption("04_scors", size=32, task="binary")
