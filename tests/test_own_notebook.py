"""The notebooks as a study on own images runs them."""

import pytest

from deferred import deferred
from leakfree.data.study_file import OwnStudy, one_task

with deferred:
    import nbformat
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

    from leakfree_study.own.notebook import CHEST, SIBLINGS, adapted, say_in_words
    from leakfree_study.own.words import in_words

STUDY = OwnStudy(
    name="eyes",
    title="Eyes",
    data="eyes",
    labels=("a", "b"),
    tasks=one_task(("a", "b")),
    patients="none",
    image="photo",
)


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


def test_cells_about_chest_films_are_left_out_and_code_is_not_reworded(notebook):
    made = adapted(notebook, STUDY, {})
    assert sources(made) == ["# Photos", "images = 1", "## Grid", "grid", "Each photo; see `06_films.csv`."]
    nbformat.validate(made)


def test_the_notebook_of_the_compendium_stays_as_it_is(notebook):
    before = sources(notebook)
    adapted(notebook, STUDY, {SIBLINGS: "None."}, "Note")
    assert sources(notebook) == before


def test_cells_that_the_cohort_cannot_support_are_replaced_by_the_reason_once(notebook):
    made = adapted(notebook, STUDY, {SIBLINGS: "It cannot be measured."})
    assert sources(made) == [
        "# Photos",
        "images = 1",
        "It cannot be measured.",
        "Each photo; see `06_films.csv`.",
    ]


def test_the_note_stands_under_the_title(notebook):
    assert sources(adapted(notebook, STUDY, {}, "Patients are unknown."))[1] == "> **Patients are unknown.**"


def test_equal_notebooks_are_adapted_alike(notebook):
    once, twice = (adapted(notebook, STUDY, {SIBLINGS: "No."}, "Note") for _ in range(2))
    assert [cell.id for cell in once.cells] == [cell.id for cell in twice.cells]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Images and an image.", "Photos and a photo."),
        ("filming, microfilms, film_a, films.csv, a-film", "filming, microfilms, film_a, films.csv, a-film"),
        ('<a href="films/film">image</a>', '<a href="films/film">photo</a>'),
        ('<img src="data:image/png;base64,+image+">', '<img src="data:image/png;base64,+image+">'),
    ],
)
def test_only_the_word_is_replaced(text, expected):
    assert in_words(text, "photo") == expected


@pytest.mark.parametrize(
    ("image", "expected"), [("image", "An image, an old image"), ("photo", "A photo, an old photo")]
)
def test_the_article_follows_the_word(image, expected):
    assert in_words("An image, an old image", image) == expected


def test_outputs_are_reworded_too():
    outputs = [new_output("display_data", {"text/markdown": "2 images", "image/png": "film"})]
    cell = new_code_cell("films", outputs=outputs)
    say_in_words(cell, "body scan")
    assert cell.outputs[0].data == {"text/markdown": "2 body scans", "image/png": "film"}
    assert cell.source == "films"
