"""A page begins with what its notebook found, and has every cell of it once."""

import json

from run_pages import FIRST, page_source


def notebook(tmp_path, *cells):
    made = [
        {"cell_type": kind, "source": [text], "metadata": {"tags": list(tags)}} for kind, text, *tags in cells
    ]
    path = tmp_path / "one.ipynb"
    path.write_text(json.dumps({"cells": made}), encoding="utf-8")
    return path


def texts(source):
    return ["".join(cell["source"]) for cell in json.loads(source)["cells"]]


def test_what_was_found_stands_before_the_first_code(tmp_path):
    path = notebook(
        tmp_path,
        ("markdown", "# Title"),
        ("markdown", "more"),
        ("code", "parameters"),
        ("markdown", "how"),
        ("markdown", "## Found", "other", FIRST),
        ("code", "said", FIRST),
        ("markdown", "end"),
    )
    assert texts(page_source(path)) == ["# Title", "more", "## Found", "said", "parameters", "how", "end"]


def test_a_notebook_without_such_cells_stays_as_it_is(tmp_path):
    path = notebook(tmp_path, ("markdown", "# Title"), ("code", "é"))
    assert page_source(path) == path.read_bytes()
