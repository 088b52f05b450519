"""Sphinx extension that links words of the glossary in notebooks, where a page uses them first.

The files of a run stay as they are: links are made in what Sphinx reads, not in what it offers as source.
"""

from __future__ import annotations

import json

import run_pages
import term_titles
from sphinx.application import Sphinx

from leakfree_study.book.terms import linked

#: Stands between cells, and in none of them.
_BETWEEN = "\n\n\x1e\n\n"


def link_cells(cells: list[dict]) -> None:
    """Link the terms of the glossary in cells of text, in the order in which the page shows them."""
    code = next((n for n, cell in enumerate(cells) if cell["cell_type"] == "code"), len(cells))
    tagged = [run_pages.FIRST in cell["metadata"].get("tags", ()) for cell in cells]
    # The section that is told first stands before the first cell of code, see `run_pages.move_first`.
    order = sorted(range(len(cells)), key=lambda n: 0 if n < code else 1 if tagged[n] else 2)
    prose = [cells[n] for n in order if cells[n]["cell_type"] == "markdown"]
    text = linked(_BETWEEN.join("".join(cell["source"]) for cell in prose))
    for cell, said in zip(prose, text.split(_BETWEEN), strict=True):
        cell["source"] = said


def link_terms(app: Sphinx, page: str, source: list[str]) -> None:
    """Link the terms in a notebook that Sphinx has read, if the book has a glossary."""
    if page.startswith(run_pages.RUN_PAGES) and term_titles.PAGE in app.env.found_docs:
        notebook = json.loads(source[0])
        link_cells(notebook["cells"])
        source[0] = json.dumps(notebook)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the extension."""
    app.connect("source-read", link_terms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
