"""The notebooks as a study on own images runs them."""

import pytest

from deferred import deferred

with deferred:
    import nbformat
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    from leakfree_study.own.notebook import CHEST, SIBLINGS, adapted


def tagged(cell, *tags):
    cell.metadata["tags"] = list(tags)
    return cell


@pytest.fixture
def notebook():
    return new_notebook(
        cells=[
            new_markdown_cell("# Images"),
            tagged(new_markdown_cell("Pneumonia"), CHEST),
            tagged(new_code_cell("images = 1"), "hide-input"),
            tagged(new_markdown_cell("## Grid"), SIBLINGS),
            tagged(new_code_cell("grid"), "hide-input", SIBLINGS),
            tagged(new_code_cell("chest"), SIBLINGS, CHEST),
            new_markdown_cell("Each image; see `06_films.csv`."),
        ]
    )


def sources(notebook):
    return [cell.source for cell in notebook.cells]


def test_cells_about_chest_images_are_left_out_and_code_is_not_reworded(notebook):
    made = adapted(notebook, {})
    assert sources(made) == ["# Images", "images = 1", "## Grid", "grid", "Each image; see `06_films.csv`."]
    nbformat.validate(made)


def test_the_notebook_of_the_compendium_stays_as_it_is(notebook):
    before = sources(notebook)
    adapted(notebook, {SIBLINGS: "None."}, "Note")
    assert sources(notebook) == before


def test_cells_that_the_cohort_cannot_support_are_replaced_by_the_reason_once(notebook):
    made = adapted(notebook, {SIBLINGS: "It cannot be measured."})
    assert sources(made) == [
        "# Images",
        "images = 1",
        "It cannot be measured.",
        "Each image; see `06_films.csv`.",
    ]


def test_the_note_stands_under_the_title(notebook):
    assert sources(adapted(notebook, {}, "Patients are unknown."))[1] == "> **Patients are unknown.**"


def test_equal_notebooks_are_adapted_alike(notebook):
    once, twice = (adapted(notebook, {SIBLINGS: "No."}, "Note") for _ in range(2))
    assert [cell.id for cell in once.cells] == [cell.id for cell in twice.cells]
