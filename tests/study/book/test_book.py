"""The book: every page of the table of contents or a failure that names the page."""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deferred import deferred
from leakfree_study.book import build as book
from leakfree_study.book.build import JUPYTER_BOOK, OPTIONS, BookError, _incomplete, build, expected_pages
from leakfree_study.book.quotes import Quotes
from leakfree_study.run.config import NOTEBOOKS

with deferred:
    import nbformat
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = ROOT / "artifacts" / "chest_xray"
PLOT = """
import pandas as pd
from IPython.display import Image, display
import io, PIL.Image
file = io.BytesIO()
PIL.Image.new("L", (64, 64), 128).save(file, "png")
display(Image(file.getvalue()))
pd.DataFrame({"class": ["normal", "viral"], "images": [1341, 1345]})
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Return the folder of a run with stand-ins, executed in a kernel, for the published notebooks."""
    folder = tmp_path_factory.mktemp("runs") / "stand-in"
    left_out = ("notebooks", "predictions", "ledgers", "cells", "book", ".cache", "*.safetensors", "*.csv.gz")
    shutil.copytree(PUBLISHED, folder, ignore=shutil.ignore_patterns(*left_out))
    (folder / "notebooks").mkdir()
    cells = [new_markdown_cell("# Results\n\n## Counts"), new_code_cell(PLOT)]
    results = new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        },
    )
    NotebookClient(results, timeout=120, kernel_name="python3").execute()
    for page in expected_pages(ROOT / "book"):
        if page.startswith("run/"):
            notebook = copy.deepcopy(results)
            if page != "run/results":
                notebook.cells[0].source = f"# Page {page}\n\n## Counts"
            nbformat.write(notebook, folder / "notebooks" / f"{Path(page).name}.ipynb")
    (folder / "predictions" / "06").mkdir(parents=True)
    (folder / "predictions" / "06" / "some.csv").write_text("draw,film\n")
    return folder


@pytest.fixture
def small(tmp_path, run) -> Path:
    """Return a project with a book of two pages and the run ``run`` beside it."""
    project = tmp_path / "project"
    shutil.copytree(
        ROOT / "book", project / "book", ignore=shutil.ignore_patterns("_build", "run", "__pycache__", "*.md")
    )
    (project / "book" / "_toc.yml").write_text(
        "format: jb-book\nroot: intro\nchapters:\n- file: run/results\n- file: last\n"
    )
    (project / "book" / "intro.md").write_text("# Hello\n\nImages: {quote}`n_images`\n")
    (project / "book" / "last.md").write_text("# Last\n\nText.\n")
    shutil.copytree(run / "notebooks", project / "run" / "notebooks")
    shutil.copy(run / "provenance.json", project / "run")
    return project


def tracked_state() -> dict[str, tuple[int, int]]:
    """Return size and time of every source of the book."""
    return {
        str(file): (file.stat().st_size, file.stat().st_mtime_ns)
        for file in (ROOT / "book").rglob("*")
        if file.is_file() and not {"_build", "run", "__pycache__"} & set(file.parts)
    }


def jupyter_book(project: Path) -> subprocess.CompletedProcess:
    """Build the book of a clone as a reader would, with nothing in the environment."""
    environment = {key: value for key, value in os.environ.items() if key != "LEAKFREE_RUN"}
    command = [*JUPYTER_BOOK, "build", *OPTIONS, "book"]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def test_expected_pages_are_those_of_the_table_of_contents():
    pages = expected_pages(ROOT / "book")
    # What was found comes first, then the study step by step, then what one looks up.
    assert pages[:5] == ["intro", "run/results", "fooled", "cohorts", "limitations"]
    steps = [page for page in pages[5:] if page.startswith("run/")]
    assert steps == [f"run/{name}" for name in NOTEBOOKS if name != "results"]
    assert pages[pages.index(steps[0]) + 1] == "identity"
    reference = pages.index("detectors")
    assert {"api", "architecture", "cluster", "provenance"} < set(pages[reference:])
    assert pages[-1] == "references"
    assert {"audit", "methods", "limitations", "reproduce", "cluster"} < set(pages)
    assert len(pages) == len(set(pages)) >= 18


def test_no_table_of_contents_is_one_line(tmp_path):
    with pytest.raises(BookError, match="no table of contents"):
        expected_pages(tmp_path)
    (tmp_path / "_toc.yml").write_text("format: jb-book\nchapters: 3\n")
    with pytest.raises(BookError, match="malformed") as error:
        expected_pages(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_build_leaves_the_whole_book_in_the_run_folder(run, caplog):
    before = tracked_state()
    with caplog.at_level(logging.INFO, logger="leakfree_study.book.build"):
        index = build(run, ROOT)
    assert index == run / "book" / "index.html"
    assert all((run / "book" / f"{page}.html").stat().st_size for page in expected_pages(ROOT / "book"))
    landing = index.read_text()
    assert ">5,840<" in landing
    assert f">{Quotes(PUBLISHED)['siblings_largest'].text}<" in landing
    notebook = (run / "book" / "run" / "01_exploration.html").read_text()
    assert "<img" in notebook and "<td>1341</td>" in notebook
    # The table of leaks links to the predictions behind each row, relative to its page.
    assert (run / "book" / "run" / ".." / "predictions" / "06" / "some.csv").is_file()
    assert "writing output, 100 %, " in caplog.text
    assert tracked_state() == before
    assert not (run / ".cache" / "book").exists()
    # Nothing is fetched from outside when a page is opened.
    for page in (run / "book").rglob("*.html"):
        assert not re.search(r"""(?:src=|<link[^>]*href=)["'](?:https?:)?//""", page.read_text()), page
        assert "unpkg" not in page.read_text(), page


@pytest.mark.slow
def test_clone_builds_the_published_run_and_follows_its_numbers(small):
    published = small / "artifacts" / "chest_xray"
    shutil.copytree(small / "run", published)
    # A value that no run gives: it shows that the file is taken as it is.
    provenance = published / "provenance.json"
    # Sphinx renews the landing page by itself, as the parent of all pages, but no other page that quotes.
    with (small / "book" / "last.md").open("a") as file:
        file.write("\n{quote}`n_images` images\n")
    provenance.write_text(provenance.read_text().replace("5840", "777001"))
    done = jupyter_book(small)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    html = small / "book" / "_build" / "html"
    assert _incomplete(html, expected_pages(small / "book")) == []
    assert ">777,001<" in (html / "index.html").read_text()

    provenance.write_text(provenance.read_text().replace("777001", "777002"))
    os.utime(provenance, (1, 1))
    assert jupyter_book(small).returncode == 0
    assert ">777,002<" in (html / "index.html").read_text()
    assert ">777,002<" in (html / "last.html").read_text()


@pytest.mark.slow
def test_a_warning_fails_the_build_and_keeps_the_last_book(small):
    with (small / "book" / "intro.md").open("a") as file:
        file.write("\nSee [this](nowhere.md).\n")
        file.write("\n{quote}`forgotten`\n")
        file.write("\n```{run-table} 01_scopes\nscope\n```\n")
    (small / "run" / "book").mkdir()
    (small / "run" / "book" / "index.html").write_text("the last complete book")
    with pytest.raises(BookError) as error:
        build(small / "run", small)
    message = str(error.value)
    assert re.match(r"book: intro\.md:\d+: .*\(and 2 more\); see .*build\.log$", message), message
    log = (small / "run" / ".cache" / "book" / "build.log").read_text()
    assert re.search(r"intro\.md:5: WARNING: .*target not found: 'nowhere\.md'", log)
    assert re.search(r"intro\.md:7: WARNING: no quote is named 'forgotten'", log)
    assert re.search(r"intro\.md:9: WARNING: run-table 01_scopes: the body must say", log)
    assert (small / "run" / "book" / "index.html").read_text() == "the last complete book"


def test_page_that_was_not_built_fails_though_sphinx_is_content(small, monkeypatch):
    def content(stage: Path, run_dir: Path) -> list[str]:
        html = stage / "out" / "_build" / "html"
        html.mkdir(parents=True)
        for page in ("index", "intro", "last"):
            (html / f"{page}.html").write_text("<article><h1>A</h1><p>x</p></article>")
        return []

    monkeypatch.setattr(book, "_run", content)
    with pytest.raises(BookError, match="page run/results was not built"):
        build(small / "run", small)


@pytest.mark.slow
def test_missing_notebook_is_named(small):
    (small / "run" / "notebooks" / "results.ipynb").unlink()
    with pytest.raises(BookError, match=r"page run/results: .* no notebook notebooks/results\.ipynb"):
        build(small / "run", small)


@pytest.mark.parametrize(
    ("html", "complaint"),
    [
        (None, "page a was not built"),
        ("", "page a has no title"),
        ("<article><h1><a class='headerlink' href='#'>#</a></h1><p>x</p></article>", "page a has no title"),
        ("<h1>outside</h1><article><p>x</p></article>", "page a has no title"),
        ("<article><h1>A</h1> </article><footer>by us</footer>", "page a is empty"),
        ("<article><h1>A</h1><p>x</p></article>", None),
    ],
)
def test_incomplete_pages_are_told(tmp_path, html, complaint):
    (tmp_path / "index.html").write_text("<article><h1>A</h1><p>x</p></article>")
    if html is not None:
        (tmp_path / "a.html").write_text(html)
    assert _incomplete(tmp_path, ["a"]) == ([complaint] if complaint else [])


def code_cell(**fields: object) -> dict:
    return {"cell_type": "code", "source": ["1"], "execution_count": 1, "outputs": []} | fields


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ([code_cell()], None),
        ([code_cell(), code_cell(source="", execution_count=None)], None),
        ([code_cell(), code_cell(execution_count=None)], "code cell 2 never ran"),
        ([code_cell(outputs=[{"output_type": "error", "ename": "ValueError"}])], "ValueError"),
        (None, "is not a notebook"),
    ],
)
def test_only_executed_notebooks_are_pages(tmp_path, cells, reason):
    spec = importlib.util.spec_from_file_location("run_pages", ROOT / "book" / "_ext" / "run_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    file = tmp_path / "n.ipynb"
    file.write_text(json.dumps({"cells": cells}) if cells else "nonsense")
    told = module.why_not_executed(file)
    assert told is None if reason is None else reason in told


def test_builder_is_that_of_this_environment():
    assert JUPYTER_BOOK[0] == sys.executable


def test_bounds_in_prose_are_those_of_the_code(repository):
    from leakfree.audit.copies.alignment import AGREEMENT
    from leakfree.audit.copies.hashes import BITS, RADIUS, TURNED_RADIUS
    from leakfree.audit.copies.keypoints import EXACT, NEIGHBOURS

    page = " ".join((repository / "book" / "detectors.md").read_text(encoding="utf-8").split())
    assert f"radius {RADIUS} bits, {TURNED_RADIUS} when turned" in page
    assert f"from an agreement of {AGREEMENT:.2f}" in page
    assert page.count(f"{EXACT:,} images") == 3
    assert NEIGHBOURS == 10 and "among the ten nearest" in page
    assert BITS == 256 and "256-bit hashes" in page
