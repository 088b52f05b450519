"""Sphinx extension that fills pages with what is read from the run and from the code when the book is built.

In a page, a block such as ::

    ```{generated} provenance data
    ```

is replaced by the Markdown that the named generator returns, before the page is parsed: headings, tables
and links in it are those of the page.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from html import escape
from pathlib import Path

import api_page
import architecture_page
import provenance_page
import rooms
from run_files import FOLDERS
from run_pages import run_folder
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from leakfree.base.errors import LeakfreeError
from leakfree.base.files import write_text
from leakfree_study.book import citing, fooled
from leakfree_study.book.quoting import QuoteError
from leakfree_study.book.slides import slides
from leakfree_study.inflation import relative

_BLOCK = re.compile(r"^```\{generated\} (?P<generator>[\w-]+) (?P<argument>[\w-]+)\n```$", re.MULTILINE)
#: Cohort that the checklists' answers are about.
PUBLISHED = "chest_xray"
#: Files of the run that the generated pages link to, beside the folders that other pages need.
BESIDE = ("provenance.json", "SHA256SUMS", "sealed_plan.yaml", "sealed_test.jsonl")


def provenance(argument: str, run: Path) -> str:
    """Return a section of the page on provenance."""
    return provenance_page.SECTIONS[argument](run)


def answers(argument: str, run: Path) -> str:
    """Return what a reader must know of a checklist's answers in a book of another cohort."""
    cohort = provenance_page.provenance_of(run)["data"]["name"]
    if cohort == PUBLISHED:
        return ""
    return f""":::{{admonition}} Another cohort
:class: warning
The answers are about the study on chest X-rays. This book shows a run on the cohort `{cohort}`: the numbers
are those of that run, and what is said of children and of their hospital is not about it.
:::
"""


def api(argument: str, run: Path) -> str:
    """Return the interface of the modules of one room."""
    return api_page.room_page({room.page: room for room in rooms.rooms()}[argument])


def architecture(argument: str, run: Path) -> str:
    """Return a figure or a table of the page on architecture."""
    if argument == "flow":
        found = rooms.rooms()
        counted = architecture_page.shown(rooms.between(found, rooms.imports()))
        return figure(
            "flow",
            architecture_page.flow_alt(found, counted),
            "Rooms of the library (blue) and of the study (orange), and who imports from whom: an arc leads"
            " from a room up to one that it uses, the wider the more imports there are. Arcs to the first"
            " room, which all others use, are left out.",
        )
    if argument == "files":
        return figure(
            "files",
            architecture_page.files_alt(architecture_page.written(run)),
            "Number of files that each notebook of this run wrote to each folder, from its provenance.",
        )
    if argument == "reads":
        return architecture_page.reads_table(run)
    return {"rooms": architecture_page.rooms_tables}[argument](rooms.rooms())


def decided(argument: str, run: Path) -> str:
    """Return what was decided before the first run of the inflation study, as it was committed."""
    from leakfree_study.inflation.preregistration import text

    return f"```yaml\n{text()}```"


def figure(name: str, alt: str, caption: str) -> str:
    """Return a figure that `draw` writes beside the pages."""
    return (
        f'<figure class="leakfree-figure"><img src="_images/architecture_{name}.svg" alt="{escape(alt)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>\n"
    )


GENERATORS: dict[str, Callable[[str, Path], str]] = {
    "answers": answers,
    "api": api,
    "architecture": architecture,
    "citing": citing.section,
    "fooled": fooled.section,
    "inflation": relative.section,
    "preregistration": decided,
    "provenance": provenance,
}


def fill(text: str, run: Path, page: str) -> str:
    """Return the text of a page with its blocks replaced.

    Parameters
    ----------
    text : str
    run : Path
        Folder of the run that the book shows.
    page : str
        Name of the page, for messages.

    Returns
    -------
    str

    Raises
    ------
    ExtensionError
        No generator has the name, or it could not make what is asked for; one line that names the page.
    """

    def replaced(block: re.Match) -> str:
        try:
            return GENERATORS[block["generator"]](block["argument"], run)
        except (KeyError, ValueError, OSError, QuoteError) as error:
            asked = f"{block['generator']} {block['argument']}"
            raise ExtensionError(f"page {page}: cannot generate {asked}: {error}") from error

    return _BLOCK.sub(replaced, text)


def fill_page(app: Sphinx, page: str, content: list[str]) -> None:
    """Fill a page when Sphinx has read it."""
    if "```{generated}" in content[0]:
        content[0] = fill(content[0], run_folder(Path(app.srcdir)), page)


def reread(app: Sphinx, env: object, added: set, changed: set, removed: set) -> list[str]:
    """Return the generated pages: what they are made from is no file that Sphinx watches."""
    known = {page for page in env.found_docs if Path(app.env.doc2path(page)).suffix == ".md"}
    return [
        page for page in known if "```{generated}" in Path(env.doc2path(page)).read_text(encoding="utf-8")
    ]


def configure(app: Sphinx, config: object) -> None:
    """Let signatures name types of other libraries: what is no name of this one stays text."""
    config.nitpick_ignore_regex = [*config.nitpick_ignore_regex, ("py:.*", ".*")]
    # The heading above an entry names its module already.
    config.add_module_names = False


def draw(app: Sphinx, exception: Exception | None) -> None:
    """Draw the figures of the page on architecture, and copy the files that the pages link to."""
    if exception is not None or app.builder.name != "html":
        return
    # Matplotlib takes a second to import, which a build of other formats can spare.
    import architecture_figure

    run, found = run_folder(Path(app.srcdir)), rooms.rooms()
    target = Path(app.outdir, "_images")
    target.mkdir(exist_ok=True)
    counted = architecture_page.shown(rooms.between(found, rooms.imports()))
    architecture_figure.draw_flow(found, counted, target / "architecture_flow.svg")
    architecture_figure.draw_files(architecture_page.written(run), target / "architecture_files.svg")
    if (run / "SHA256SUMS").is_file():
        within = (*(f"{folder}/" for folder in FOLDERS), *BESIDE)
        for name, describe in citing.DESCRIBED.items():
            described = describe(run, citing.citation(), within)
            Path(app.outdir, name).write_text(citing.as_json(described), encoding="utf-8")
    with suppress(LeakfreeError):  # a run of a few notebooks may have none of the figures
        write_text(Path(app.outdir, "_static", "slides.html"), slides(run))
    for name in BESIDE:
        Path(app.outdir, name).unlink(missing_ok=True)
        if (run / name).is_file():
            shutil.copyfile(run / name, Path(app.outdir, name))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the extension."""
    app.connect("config-inited", configure)
    app.connect("source-read", fill_page)
    app.connect("env-get-outdated", reread)
    app.connect("build-finished", draw)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
