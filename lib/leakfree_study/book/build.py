"""Build the book of a run, and fail unless every page of it is there.

The pages come from ``book/`` of the project and from the executed notebooks of the run (see
``book/_ext/run_pages.py``). Nothing is executed here, and no file of the project is touched: sources are
staged in ``<run>/.cache/book/``, built there, and the finished HTML is moved to ``<run>/book/``.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

from sphinx_external_toc.parsing import MalformedError, parse_toc_yaml

from leakfree.base.errors import LeakfreeError
from leakfree.base.parallel import available_cores
from leakfree.data.study_file import kept_study

logger = logging.getLogger(__name__)

#: Runs Jupyter Book's command line in the current environment: it has no ``python -m`` entry, and no option
#: for Sphinx's processes. Pages are trees of many small objects that all live until the end: with Python's
#: own threshold the garbage collector takes two fifths of a build, to find nothing.
_RUN = """
import functools, gc, sys
gc.set_threshold(50_000, 20, 100)
import jupyter_book.sphinx as book
book.build_sphinx = functools.partial(book.build_sphinx, jobs=int(sys.argv.pop(1)))
from jupyter_book.cli.main import main
main()
"""
JUPYTER_BOOK = (sys.executable, "-P", "-c", _RUN, str(min(4, available_cores())))
#: Warnings are errors, unknown references are warnings, and all of them are reported.
OPTIONS = ("-W", "-n", "--keep-going")

# What Sphinx prints: "<file>:<line>: WARNING: <text>", where file and line may be missing.
_PROBLEM = re.compile(r"^(?:(?P<where>.*?): )?(?:WARNING|ERROR|CRITICAL|SEVERE): (?P<text>.+)$")
_PROGRESS = re.compile(
    r"^(?P<step>reading sources|writing output)\.\.\. \[ *(?P<percent>\d+)%\] (?P<page>\S+)"
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class BookError(LeakfreeError):
    """The book is not complete; the message is one line that names the page and the reason."""


def expected_pages(book_dir: Path) -> list[str]:
    """Return the pages that a table of contents promises.

    Parameters
    ----------
    book_dir : Path
        Folder with ``_toc.yml``.

    Returns
    -------
    list of str
        Page names without suffix, such as ``run/results``, in reading order, landing page first.

    Raises
    ------
    BookError
        There is no table of contents, or it cannot be parsed.
    """
    toc = Path(book_dir) / "_toc.yml"
    try:
        pages = [str(page) for page in parse_toc_yaml(toc)]
    except OSError:
        raise BookError(f"book: no table of contents at {toc}") from None
    except (MalformedError, ValueError) as error:
        raise BookError(f"book: {toc} is malformed: {' '.join(str(error).split())}") from None
    return [re.sub(r"\.(md|ipynb)$", "", page) for page in pages]


def build(run_dir: Path, project: Path) -> Path:
    """Build the book of a run into ``<run_dir>/book/``.

    Parameters
    ----------
    run_dir : Path
        Run folder with the executed notebooks in ``notebooks/``. An earlier book in it is replaced only
        by a complete new one.
    project : Path
        Root of the project, with the sources in ``book/``.

    Returns
    -------
    Path
        The landing page, ``<run_dir>/book/index.html``.

    Raises
    ------
    BookError
        Sources are missing, the build reported a warning or an error, or a page of the table of contents
        does not exist, is empty or has no title. The output of a failed build stays in
        ``<run_dir>/.cache/book/build.log``.
    """
    run_dir, sources = Path(run_dir).resolve(), Path(project).resolve() / "book"
    if not run_dir.is_dir():
        raise BookError(f"book: the run folder {run_dir} does not exist")
    # On the file system of the run, so that the finished book can be moved by a rename, and in a folder
    # that git ignores, so that a build that is killed leaves nothing to commit.
    stage = run_dir / ".cache" / "book"
    shutil.rmtree(stage, ignore_errors=True)
    shutil.copytree(sources, stage / "source", ignore=shutil.ignore_patterns("_build", "run", "__pycache__"))
    if (study := kept_study(run_dir)) is not None:
        from leakfree_study.book.own_book import stage as stage_own

        stage_own(stage / "source", run_dir, study)
    pages = expected_pages(stage / "source")
    logger.info("book: building %d pages of %s", len(pages), run_dir.name)
    problems = _run(stage, run_dir)
    html = stage / "out" / "_build" / "html"
    problems = problems or _incomplete(html, pages)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise BookError(f"book: {problems[0]}{more}; see {stage / 'build.log'}")
    _replace(run_dir / "book", html, stage / "replaced")
    shutil.rmtree(stage)
    logger.info("book: all %d pages are there: %s", len(pages), run_dir / "book" / "index.html")
    return run_dir / "book" / "index.html"


def _run(stage: Path, run_dir: Path) -> list[str]:
    """Build ``<stage>/source`` into ``<stage>/out``; return what Sphinx complained about, one line each."""
    command = [*JUPYTER_BOOK, "build", *OPTIONS, "--path-output", str(stage / "out"), str(stage / "source")]
    environment = {**os.environ, "LEAKFREE_RUN": str(run_dir), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    # Complaints go to a file of their own: on one stream they follow unfinished lines of progress.
    with (
        (stage / "build.log").open("w", encoding="utf-8") as log,
        (stage / "complaints.log").open("w", encoding="utf-8") as complaints,
        subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        for raw in process.stdout:
            line = _COLOUR.sub("", raw).rstrip()
            log.write(line + "\n")
            if progress := _PROGRESS.match(line):
                logger.info("book: %s, %3s %%, %s", *progress.groups())
        process.wait()
        text = (stage / "complaints.log").read_text(encoding="utf-8", errors="replace")
        text = _COLOUR.sub("", text)
        log.write(text)
    problems = _problems(text.splitlines(), stage / "source")
    if process.returncode and not problems:
        last = next((line for line in reversed(text.splitlines()) if line.strip("= ")), "no reason given")
        problems = [f"jupyter-book ended with code {process.returncode}: {last.strip()}"]
    return problems


def _problems(lines: list[str], source: Path) -> list[str]:
    """Return the complaints in the output of a build, with pages named relative to the book."""
    found = []
    for number, line in enumerate(lines):
        if line.startswith(("Extension error", "Configuration error")):
            text = next((after.strip() for after in lines[number + 1 :] if after.strip()), line)
            found.append(text)
        elif match := _PROBLEM.match(line):
            where = (match["where"] or "").removeprefix(f"{source}{os.sep}")
            # Lines of a notebook count in units that a reader cannot look up.
            where = re.sub(r"(\.ipynb):\d+$", r"\1", where)
            found.append(f"{where}: {match['text']}" if where else match["text"])
    return found


class _Page(HTMLParser):
    """Collect the title and the text of the article of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.title, self.text = "", ""
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag in ("article", "h1", "a"):
            # The link that Sphinx puts behind a heading is no part of the title.
            link = tag == "a" and ("class", "headerlink") in attrs
            self._open.append("headerlink" if link else tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("article", "h1", "a") and self._open:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if "article" not in self._open or "headerlink" in self._open:
            return
        if "h1" in self._open:
            self.title += data
        else:
            self.text += data


def _incomplete(html: Path, pages: list[str]) -> list[str]:
    """Return one line for each page that is missing, empty or without a title."""
    found = []
    for name in ["index", *pages]:
        file = html / f"{name}.html"
        if not file.is_file():
            found.append(f"page {name} was not built")
            continue
        page = _Page()
        page.feed(file.read_text(encoding="utf-8", errors="replace"))
        if not page.title.strip():
            found.append(f"page {name} has no title")
        elif not page.text.strip():
            found.append(f"page {name} is empty")
    return found


def _replace(target: Path, new: Path, aside: Path) -> None:
    """Put the folder ``new`` in the place of ``target``, which comes back if that fails."""
    if target.exists():
        target.rename(aside)
    try:
        new.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
