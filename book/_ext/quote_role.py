"""Sphinx extension that shows numbers and tables of a run in prose, each with a link to where it comes from.

The role ``{quote}`name``` shows a number of `leakfree_study.book.quotes`, ``{run-file}`path``` the name of a
file of the run, ``{module}`name``` that of a module. The directive ``run-table`` shows columns of a table of
the run: its body says, one line a column, what stands above it and how its cells are written.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

import api_page
import rooms
import yaml
from docutils import nodes
from run_files import FOLDERS
from run_pages import run_folder
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

import leakfree_study.book
from leakfree.base.files import file_hash
from leakfree_study.book.quotes import Quotes
from leakfree_study.book.quoting import (
    NOT_MEASURED,
    PREREGISTRATION,
    Missing,
    QuoteError,
    matching,
    read_source,
    written,
)

logger = logging.getLogger(__name__)
#: Where what was decided before the first run is shown.
_DECIDED = "inflation_design.html#what-was-decided-before"


def quotes_of(env: BuildEnvironment) -> Quotes:
    """Return the quotes of the run that the book shows, read once a build."""
    if not hasattr(env.app, "leakfree_quotes"):
        env.app.leakfree_quotes = Quotes(run_folder(Path(env.srcdir)))
    return env.app.leakfree_quotes


def address(env: BuildEnvironment, file: str) -> str:
    """Return the address of a file of the run, relative to the page that is read."""
    return "../" * env.docname.count("/") + (_DECIDED if file == PREREGISTRATION else file)


def depend(env: BuildEnvironment, file: str) -> None:
    """Have the page read again when a file of the run, or what writes its cells, changes."""
    if file != PREREGISTRATION:
        path = run_folder(Path(env.srcdir)) / file
        files_read(env).setdefault(env.docname, {})[file] = _digest(path)
    for module in ("quotes.py", "quoting.py"):
        env.note_dependency(str(Path(leakfree_study.book.__file__).with_name(module)))


def files_read(env: BuildEnvironment) -> dict[str, dict[str, str]]:
    """Return the digest of every file of the run that a page shows something of, by page and file."""
    if not hasattr(env, "leakfree_files_read"):
        env.leakfree_files_read = {}
    return env.leakfree_files_read


def _digest(path: Path) -> str:
    return file_hash(path) if path.is_file() else ""


def changed_pages(app: Sphinx, env: BuildEnvironment, added: set, changed: set, removed: set) -> set[str]:
    """Return the pages that show something of files that have changed, whatever their times say."""
    run = run_folder(Path(app.srcdir))
    return {
        page
        for page, files in files_read(env).items()
        if page not in removed and any(_digest(run / file) != digest for file, digest in files.items())
    }


def forget_page(app: Sphinx, env: BuildEnvironment, page: str) -> None:
    """Forget what a page shows before it is read again."""
    files_read(env).pop(page, None)


class QuoteRole(SphinxRole):
    """Show a number of the run by its name, linked to the file that it comes from."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the number, or nothing after a warning."""
        try:
            found = quotes_of(self.env)[self.text]
        except QuoteError as error:
            logger.warning("%s", error, location=self.get_location(), type="quote")
            return [], []
        depend(self.env, found.file)
        if not found.present:
            return [nodes.inline("", found.text, classes=["quote", "absent"])], []
        link = nodes.reference(
            "", "", internal=True, refuri=address(self.env, found.file), reftitle=found.title
        )
        link += nodes.inline("", found.text)
        link["classes"].append("quote")
        return [link], []


class RunFileRole(SphinxRole):
    """Show the name of a file of the run, linked where it stands beside the pages."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the name, linked if it can be."""
        there = (run_folder(Path(self.env.srcdir)) / self.text).is_file()
        link = address(self.env, self.text) if there and self.text.split("/")[0] in FOLDERS else ""
        return [_code(self.text, link)], []


class ModuleRole(SphinxRole):
    """Show the name of a module, linked to its description."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the name, or nothing after a warning."""
        room = next((room for room in rooms.rooms() if self.text in room.modules), None)
        if room is None:
            logger.warning("no module %r", self.text, location=self.get_location(), type="quote")
            return [], []
        page = "../" * self.env.docname.count("/") + f"api/{room.page}.html"
        return [_code(self.text, f"{page}#{api_page.anchor(self.text)}")], []


def _code(text: str, link: str) -> nodes.Node:
    name = nodes.literal("", text)
    return nodes.reference("", "", name, internal=True, refuri=link) if link else name


class RunTable(SphinxDirective):
    """Show columns of a table of the run."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict] = {"where": str, "caption": str}

    def run(self) -> list[nodes.Node]:
        """Return the table and its source, a sentence where the run has none, nothing after a warning."""
        name = self.arguments[0]
        file = f"tables/{name}.csv"
        depend(self.env, file)
        try:
            rows = read_source(run_folder(Path(self.env.srcdir)) / file)
            columns = yaml.safe_load("\n".join(self.content))
            if not isinstance(columns, dict):
                raise ValueError("the body must say 'heading: {column}', one line each")
            if rows is None:
                return [nodes.paragraph("", f"{name}: {NOT_MEASURED}.", classes=["absent"])]
            rows = matching(rows, yaml.safe_load(self.options.get("where", "{}")))
            body = [[_cell(rows.loc[[line]], str(form)) for form in columns.values()] for line in rows.index]
        except (QuoteError, ValueError, AttributeError, yaml.YAMLError) as error:
            text = f"run-table {name}: {' '.join(str(error).split())}"
            logger.warning("%s", text, location=self.get_location(), type="quote")
            return []
        if not body:
            return [nodes.paragraph("", f"{name}: {NOT_MEASURED}.", classes=["absent"])]
        source = nodes.reference("", f"{name}.csv", internal=True, refuri=address(self.env, file))
        below = nodes.paragraph("", "", classes=["table-source"])
        if "caption" in self.options:
            caption, messages = self.state.inline_text(self.options["caption"], self.lineno)
            below += [*caption, nodes.Text(" From "), *messages]
        else:
            below += nodes.Text("From ")
        below += [source, nodes.Text(".")]
        return [_table(list(columns), body), below]


def _cell(row: object, form: str) -> str:
    try:
        return written(row, form)
    except Missing:
        return ""


def _table(heads: list[str], body: list[list[str]]) -> nodes.table:
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in heads), cols=len(heads))
    group += nodes.thead("", _row(heads))
    group += nodes.tbody("", *(_row(cells) for cells in body))
    return nodes.table("", group, classes=["run-table"])


def _row(cells: list[str]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", str(cell))) for cell in cells))


def copy_quoted_files(app: Sphinx, exception: Exception | None) -> None:
    """Put quoted files that are in none of the copied folders beside the pages."""
    if exception is not None or app.builder.name != "html":
        return
    for name in {name for files in files_read(app.env).values() for name in files}:
        source, target = run_folder(Path(app.srcdir)) / name, Path(app.outdir, name)
        if name.split("/")[0] not in FOLDERS and source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def merge_pages(app: Sphinx, env: BuildEnvironment, pages: set, other: BuildEnvironment) -> None:
    """Take over what another process noted of the pages that it has read."""
    files_read(env).update({page: files for page, files in files_read(other).items() if page in pages})


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the extension."""
    app.add_role("quote", QuoteRole())
    app.add_role("run-file", RunFileRole())
    app.add_role("module", ModuleRole())
    app.add_directive("run-table", RunTable)
    app.connect("env-get-outdated", changed_pages)
    app.connect("env-purge-doc", forget_page)
    app.connect("env-merge-info", merge_pages)
    app.connect("build-finished", copy_quoted_files, priority=200)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
