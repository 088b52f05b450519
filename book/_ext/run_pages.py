"""Sphinx extension that takes the book's notebook pages from the folder of a run.

Before the table of contents is looked at, the executed notebooks that it lists under ``run/`` are copied
from ``<run>/notebooks/`` into ``run/`` of the book's source (a folder that git ignores). The run is the
folder that the environment variable ``LEAKFREE_RUN`` names, else the published one.
"""

from __future__ import annotations

import json
import os
import posixpath
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx_external_toc.parsing import parse_toc_yaml

#: The published run, relative to the book's source.
PUBLISHED_RUN = Path("..", "artifacts", "chest_xray")
#: Folder of the book's source, and prefix of the pages, that come from a run.
RUN_PAGES = "run/"
#: Tag of cells that stand first on the page.
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


def page_source(notebook: Path) -> bytes:
    """Return a notebook as a page shows it: cells with the tag `FIRST` stand below the title's cell.

    They say what was found, which a reader wants before how; the notebook knows it only at its end.
    """
    content = notebook.read_bytes()
    made = json.loads(content)
    first = [cell for cell in made["cells"] if FIRST in cell["metadata"].get("tags", ())]
    if not first:
        return content
    rest = [cell for cell in made["cells"] if FIRST not in cell["metadata"].get("tags", ())]
    # Of the words before the first code, all stand before: what the notebook is about, and what goes with it.
    place = next(number for number, cell in enumerate(rest) if cell["cell_type"] == "code")
    made["cells"] = [*rest[:place], *first, *rest[place:]]
    return json.dumps(made, ensure_ascii=False).encode()


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
        shown = page_source(notebook)
        if not target.is_file() or target.read_bytes() != shown:
            target.write_bytes(shown)
    for leftover in set(staged.iterdir()) - wanted:
        if leftover.is_file():
            leftover.unlink()


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
    app.connect("doctree-resolved", link_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
