"""Sphinx extension that takes the book's notebook pages from the folder of a run.

Before the table of contents is looked at, the executed notebooks that it lists under ``run/`` are copied
from ``<run>/notebooks/`` into ``run/`` of the book's source (a folder that git ignores). The run is the
folder that the environment variable ``LEAKFREE_RUN`` names, else the published one.
"""

from __future__ import annotations

import json
import os
import posixpath
import shutil
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx_external_toc.parsing import parse_toc_yaml

#: The published run, relative to the book's source.
PUBLISHED_RUN = Path("..", "artifacts", "chest_xray")
#: Folder of the book's source, and prefix of the pages, that come from a run.
RUN_PAGES = "run/"
#: Tag of the cells of a section that stands first on the page; its heading begins the first of them.
FIRST = "told-first"


def run_folder(source: Path) -> Path:
    """Return the folder of the run that the book in ``source`` shows."""
    named = os.environ.get("LEAKFREE_RUN")
    return (Path(named) if named else source / PUBLISHED_RUN).resolve()


def why_not_executed(notebook: Path) -> str | None:
    """Return what stops a file from being a page of results, or None if it is an executed notebook.

    A notebook without outputs builds without a warning, and a failed one may too: both make a page that
    looks finished and says nothing.
    """
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, TypeError):
        return "is not a notebook"
    code = [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    for number, cell in enumerate(code, start=1):
        if cell.get("execution_count") is None:
            return f"was not executed to its end (code cell {number} never ran)"
        for output in cell.get("outputs", ()):
            if output.get("output_type") == "error":
                return f"failed in code cell {number} ({output.get('ename', 'error')})"
    return None


def copy_run_pages(app: Sphinx, config: object) -> None:
    """Copy the executed notebooks of the run into the book's source.

    Raises
    ------
    ExtensionError
        A notebook that the table of contents lists is missing, or was not executed without a failure.
    """
    source = Path(app.srcdir)
    run = run_folder(source)
    pages = [str(page) for page in parse_toc_yaml(source / "_toc.yml") if str(page).startswith(RUN_PAGES)]
    staged = source / RUN_PAGES
    staged.mkdir(exist_ok=True)
    wanted = set()
    for page in pages:
        name = f"{page.removeprefix(RUN_PAGES)}.ipynb"
        notebook = run / "notebooks" / name
        if not notebook.is_file():
            raise ExtensionError(f"page {page}: the run {run.name} has no notebook notebooks/{name}")
        if reason := why_not_executed(notebook):
            raise ExtensionError(f"page {page}: notebooks/{name} of the run {run.name} {reason}")
        target = staged / name
        wanted.add(target)
        # Sphinx rereads what is newer than its last build, so an unchanged page keeps its time and a
        # changed one gets the present time, whatever the age of the run.
        if not target.is_file() or target.read_bytes() != notebook.read_bytes():
            shutil.copyfile(notebook, target)
    for leftover in set(staged.iterdir()) - wanted:
        if leftover.is_file():
            leftover.unlink()


def tell_first(app: Sphinx, doctree: nodes.document) -> None:
    """Move the section that says what a notebook found to where its first cell of code stands.

    A reader wants it before how it was found; the notebook knows it only at its end.
    """
    if app.env.docname.startswith(RUN_PAGES):
        notebook = Path(app.srcdir, f"{app.env.docname}.ipynb")
        move_first(doctree, told_first(json.loads(notebook.read_text(encoding="utf-8"))["cells"]))


def told_first(cells: list[dict]) -> str:
    """Return the heading of the section that stands first; nothing where no cell is tagged so."""
    tagged = (cell for cell in cells if FIRST in cell["metadata"].get("tags", ()))
    lines = "".join(next(tagged, {"source": ""})["source"]).splitlines()
    return lines[0].removeprefix("## ") if lines else ""


def move_first(doctree: nodes.document, heading: str) -> None:
    """Move the section with a heading to the place of the first cell of code in the section around it."""
    found = (s for s in doctree.findall(nodes.section) if s.children[0].astext() == heading)
    if heading and (section := next(found, None)) is not None:
        around = section.parent
        around.remove(section)
        cells = (
            n
            for n, node in enumerate(around.children)
            if "cell" in getattr(node, "attributes", {}).get("classes", ())
        )
        around.insert(next(cells, len(around.children)), section)


def link_notebooks(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Lead links between notebooks to their pages, also those that a cell wrote into its output."""
    for link in doctree.findall(nodes.reference):
        path, hash_mark, fragment = link.get("refuri", "").partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path.removesuffix(".ipynb")))
        if path.endswith(".ipynb") and target in app.env.found_docs:
            link["refuri"] = app.builder.get_relative_uri(page, target) + hash_mark + fragment


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the extension."""
    # sphinx_external_toc looks for the pages at priority 900.
    app.connect("config-inited", copy_run_pages, priority=100)
    # Before Sphinx collects the headings of a page.
    app.connect("doctree-read", tell_first, priority=90)
    app.connect("doctree-resolved", link_notebooks)
    # It does not say so, and Sphinx would read one page at a time: it works only after all were read.
    if numbering := app.extensions.get("sphinx_multitoc_numbering"):
        numbering.parallel_read_safe = True
    return {"parallel_read_safe": True, "parallel_write_safe": True}
