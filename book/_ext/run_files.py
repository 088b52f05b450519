"""Sphinx extension that puts the run's files beside the built pages, where their links look for them.

A page opened from a disk has nothing but its own folder to link to, so what a reader may want to look up
(figures, tables, predictions) is copied there.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from run_pages import run_folder
from sphinx.application import Sphinx

#: Folders of a run that pages link to.
FOLDERS = ("figures", "tables", "predictions")


def copy_run_files(app: Sphinx, exception: Exception | None) -> None:
    """Copy the folders of the run that pages link to beside the pages."""
    if exception is not None or app.builder.name != "html":
        return
    for name in FOLDERS:
        folder, target = run_folder(Path(app.srcdir)) / name, Path(app.outdir, name)
        shutil.rmtree(target, ignore_errors=True)
        if folder.is_dir():
            shutil.copytree(folder, target)


def copy_landing_page(app: Sphinx, exception: Exception | None) -> None:
    """Make ``index.html`` the landing page itself, where Jupyter Book writes a redirect to it."""
    if exception is None and app.builder.name == "html":
        root = Path(app.outdir, f"{app.config.master_doc}.html")
        if root.is_file() and root.name != "index.html":
            shutil.copyfile(root, root.with_name("index.html"))


def search_without_fetching(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Keep the search of a book that is opened from a disk from fetching what it cannot."""
    if page == "search":
        app.add_js_file("offline_search.js")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the extension."""
    app.connect("html-page-context", search_without_fetching)
    app.connect("build-finished", copy_landing_page, priority=100)
    app.connect("build-finished", copy_run_files, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
