"""Sphinx extension that shows the figures of a run with what they come from: cell, file and tables.

On pages made from notebooks every figure in the output of a cell becomes one, and every code cell gets an
anchor, ``#cell-N`` by its execution count. On other pages the directive ``run-figure`` shows one by name.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path, PurePosixPath

from docutils import nodes
from explore_data import EXPLORED, as_script
from figure_index import RunFigure, missing_files, read_index, size_on_screen, which_figure
from run_pages import RUN_PAGES, run_folder
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)
#: Width on the screen from which a figure scrolls on a phone instead of shrinking to it.
_WIDE = 680
_NAMED = re.compile(r'<figure\b[^>]*\bdata-figure="([^"]*)"')


class run_figure(nodes.General, nodes.Element):
    """A figure of the run, in the attribute ``figure``; its child is the caption."""


def figures_of(env: BuildEnvironment) -> dict[str, RunFigure]:
    """Return the figures of the run that the book shows, read once a build.

    Raises
    ------
    ExtensionError
        The run's index of figures is not one.
    """
    if not hasattr(env.app, "leakfree_figures"):
        try:
            # Read again in the next build, so it is not kept with the environment.
            env.app.leakfree_figures = read_index(run_folder(Path(env.srcdir)))
        except ValueError as error:
            raise ExtensionError(str(error)) from None
    return env.app.leakfree_figures


def make_figure(env: BuildEnvironment, name: str, location: object, docname: str) -> run_figure | None:
    """Return the node of a figure, after a warning where the run lacks it or one of its files."""
    run = run_folder(Path(env.srcdir))
    figure = figures_of(env).get(name)
    if figure is None:
        logger.warning("the run %s has no figure %r", run.name, name, location=location, type="run-figure")
        return None
    for missing in missing_files(figure, run):
        logger.warning("figure %s: the run %s has no %s", name, run.name, missing, location=location)
    if not (run / "figures" / figure.file).is_file():
        return None
    for file in ("index.json", figure.file, *figure.others):
        env.dependencies[docname].add(str(run / "figures" / file))
    node = run_figure("", nodes.inline("", figure.caption), figure=figure)
    node["size"] = size_on_screen(run / "figures" / figure.file)
    if figure.narrow and (run / "figures" / figure.narrow).is_file():
        node["narrow"] = size_on_screen(run / "figures" / figure.narrow)
    return node


class RunFigureDirective(SphinxDirective):
    """Show a figure of the run by its name in ``figures/index.json``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the figure, or nothing after a warning."""
        node = make_figure(self.env, self.arguments[0], self.get_location(), self.env.docname)
        return [node] if node else []


def mark_notebook(app: Sphinx, doctree: nodes.document) -> None:
    """Give the code cells of a page from a notebook their anchors, and their figures what belongs to them."""
    env, page = app.env, app.env.docname
    if not page.startswith(RUN_PAGES):
        return
    own = [figure for figure in figures_of(env).values() if figure.page == page]
    for cell in list(doctree.findall(_is("cell_code"))):
        count = cell.get("exec_count")
        if count is not None:
            cell["ids"].append(f"cell-{count}")
        for bundle in list(cell.findall(_is("mime_bundle"))):
            name = _named(bundle) or _recognised(app, bundle, own)
            figure = make_figure(env, name, cell, page) if name else None
            if figure:
                figure["here"] = count
                bundle.replace_self(figure)
        for image in cell.findall(nodes.image):
            image.setdefault("alt", f"Output of code cell {count}")


def _is(element: str) -> object:
    return lambda node: isinstance(node, nodes.container) and node.get("nb_element") == element


def _content(bundle: nodes.container, mime_type: str) -> nodes.Node | None:
    kinds = {part.get("mime_type"): part for part in bundle.children if isinstance(part, nodes.container)}
    return kinds[mime_type].children[0] if mime_type in kinds and kinds[mime_type].children else None


def _named(bundle: nodes.container) -> str | None:
    """Return the name of the figure that an HTML output says it is."""
    html = _content(bundle, "text/html")
    match = _NAMED.search(html.astext()) if html is not None else None
    return match[1] if match else None


def _recognised(app: Sphinx, bundle: nodes.container, figures: list[RunFigure]) -> str | None:
    """Return the name of the figure that a bare image is, by its looks."""
    image = _content(bundle, "image/png")
    if not isinstance(image, nodes.image) or not figures:
        return None
    run = run_folder(Path(app.srcdir))
    file = Path(app.srcdir, image["uri"].removeprefix("/"))
    found = which_figure(file.read_bytes(), figures, run) if file.is_file() else None
    return found.name if found else None


def links(node: run_figure, app: Sphinx, page: str) -> list[tuple[str, str]]:
    """Return text and address, relative to a page, of what a figure comes from."""
    figure: RunFigure = node["figure"]
    to_root = "../" * page.count("/")
    found = []
    if figure.page in app.env.found_docs:
        cell = node.get("here") or figure.cell
        notebook = PurePosixPath(app.env.doc2path(figure.page, base=False))
        if cell is not None:
            # An empty address is the page itself.
            there = app.builder.get_relative_uri(page, figure.page) if page != figure.page else ""
            found.append((f"cell {cell} of {notebook.stem}", f"{there}#cell-{cell}"))
        found.append((notebook.name, f"{to_root}_sources/{notebook}"))
    found += [(name, f"{to_root}figures/{name}") for name in (figure.file, *figure.others)]
    return found + [(PurePosixPath(table).name, f"{to_root}{table}") for table in figure.tables]


def visit_html(self: object, node: run_figure) -> None:
    """Open the figure and write its image."""
    figure: RunFigure = node["figure"]
    page = self.builder.current_docname
    folder = "../" * page.count("/") + "figures/"
    address = folder + figure.file
    size = _size(node["size"])
    wide, image = "", f'<img src="{escape(address)}" alt="{escape(figure.alt)}"{size}>'
    if "narrow" in node:
        # A phone is what it is in book.css.
        source = f'srcset="{escape(folder + figure.narrow)}"{_size(node["narrow"])}'
        image = f'<picture><source media="(max-width: 600px)" {source}>{image}</picture>'
    elif node["size"] and node["size"][0] > _WIDE:
        wide = " wide"
    # A page may show a figure twice; only the first is the target of links to it.
    first = next(self.document.findall(lambda n: isinstance(n, run_figure) and n["figure"] == figure)) is node
    anchor = f' id="fig-{escape(figure.name)}"' if first else ""
    self.body.append(
        f'<figure class="leakfree-figure"{anchor} data-figure="{escape(figure.name)}">\n'
        f'<a class="figure-image{wide}" href="{escape(address)}">'
        f"{image}</a>\n<figcaption>"
    )


def _size(size: tuple[int, int] | None) -> str:
    return ' width="{}" height="{}"'.format(*size) if size else ""


def depart_html(self: object, node: run_figure) -> None:
    """Write the links below the caption, and close the figure."""
    parts = [
        f'<a href="{escape(address)}">{escape(text)}</a>'
        for text, address in links(node, self.builder.app, self.builder.current_docname)
    ]
    self.body.append(
        f'\n<span class="figure-links">From {" · ".join(parts)}</span></figcaption>\n</figure>\n'
    )
    if kind := EXPLORED.get(node["figure"].name):
        # Empty and hidden until the script fills it; a line that opens.
        self.body.append(f'<div class="explore" data-explore="{kind}" hidden></div>\n')
        if not getattr(self, "has_explore_data", False):
            self.has_explore_data = True
            try:
                self.body.append(as_script(run_folder(Path(self.builder.srcdir))))
            except ValueError as error:
                logger.warning("figure %s: %s", node["figure"].name, error)


def skip(self: object, node: run_figure) -> None:
    """Leave the figure out of what is not HTML."""
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the extension."""
    app.add_node(run_figure, html=(visit_html, depart_html), latex=(skip, None), text=(skip, None))
    app.add_directive("run-figure", RunFigureDirective)
    # Before Sphinx collects the images that it copies.
    app.connect("doctree-read", mark_notebook, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
