"""Figures of a run on pages: their index, what a notebook shows, missing ones; and the launch buttons."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import figure_index
import numpy as np
import pytest
from bs4 import BeautifulSoup
from figure_index import read_index, size_on_screen, which_figure
from PIL import Image

from deferred import deferred
from leakfree_study.book.build import JUPYTER_BOOK, OPTIONS

with deferred:
    import nbformat
    import repository_buttons
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[3]


def png(seed: int, size: tuple[int, int] = (300, 150)) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(size).save(file, "png")
    return file.getvalue()


def entry(name: str, **fields: object) -> dict:
    return {
        "caption": f"Caption of {name}.",
        "files": [f"{name}.png"],
        "source": "notebooks/results.ipynb",
        "tables": ["tables/t.csv"],
    } | fields


@pytest.fixture
def run(tmp_path) -> Path:
    """Return a run of one notebook with a figure in each of the two ways, and a table."""
    run = tmp_path / "project" / "artifacts" / "chest_xray"
    for folder in ("notebooks", "figures", "tables", "predictions"):
        (run / folder).mkdir(parents=True)
    (run / "tables" / "t.csv").write_text("a\n1\n")
    # What the pages that are made from a run ask of it.
    shutil.copy(ROOT / "artifacts" / "chest_xray" / "provenance.json", run)
    files = ["two.png", "two-narrow.svg"]
    index = {"one": entry("one"), "two": entry("two", alt="What <two> shows", cell=2, files=files)}
    (run / "figures" / "two-narrow.svg").write_text('<svg height="72pt" version="1.1" width="144pt"></svg>')
    for seed, name in enumerate(index):
        (run / "figures" / f"{name}.png").write_bytes(png(seed))
    (run / "figures" / "index.json").write_text(json.dumps(index))
    bare = new_output("display_data", {"image/png": base64.b64encode(png(0, (302, 151))).decode()})
    image = '<img alt="x" src="data:image/png;base64,AA==">'
    named = f'<figure class="leakfree-figure" id="fig-two" data-figure="two">{image}</figure>'
    cells = [
        new_markdown_cell("# Results"),
        new_code_cell("draw()", execution_count=1, outputs=[bare]),
        new_code_cell(
            "draw()",
            execution_count=2,
            outputs=[new_output("display_data", {"text/html": named, "text/plain": "F"})],
        ),
        new_code_cell(
            "other()",
            execution_count=3,
            outputs=[new_output("display_data", {"image/png": base64.b64encode(png(9)).decode()})],
        ),
    ]
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
        "language_info": {"name": "python"},
    }
    notebook = new_notebook(cells=cells, metadata=metadata)
    nbformat.write(notebook, run / "notebooks" / "results.ipynb")
    return run


def build(run: Path, page: str, **environment: str) -> tuple[subprocess.CompletedProcess, Path]:
    """Build a book of two pages, of which one is `page` and the other the notebook of the run."""
    project = run.parents[1]
    ignored = shutil.ignore_patterns("_build", "run", "__pycache__", "*.md")
    shutil.copytree(ROOT / "book", project / "book", ignore=ignored, dirs_exist_ok=True)
    (project / "book" / "_toc.yml").write_text(
        "format: jb-book\nroot: intro\nchapters:\n- file: run/results\n"
    )
    (project / "book" / "intro.md").write_text(page)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LEAKFREE_R")}
    done = subprocess.run(
        [*JUPYTER_BOOK, "build", *OPTIONS, "book"],
        cwd=project, env=kept | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done, project / "book" / "_build" / "html"


def soup(html: Path, page: str) -> BeautifulSoup:
    return BeautifulSoup((html / f"{page}.html").read_text(), "html.parser")


@pytest.mark.slow
def test_figures_stand_on_pages_with_their_links(run):
    done, html = build(
        run, "# Hello\n\n```{run-figure} two\n```\n", LEAKFREE_REPOSITORY="https://github.com/o/n"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    page = soup(html, "run/results")
    one, two = (page.find(attrs={"data-figure": name}) for name in ("one", "two"))
    assert one.find_parent(id="cell-1") and two.find_parent(id="cell-2")
    assert one.img["alt"] == "Caption of one." and two.img["alt"] == "What <two> shows"
    assert "base64" not in str(page.article)
    # An image that is no figure of the run stays, with words for those who do not see it.
    other = page.find(id="cell-3").img
    assert other["alt"] == "Output of code cell 3" and not other.find_parent("figure")
    here = soup(html, "intro").find(attrs={"data-figure": "two"})
    assert here.img["src"] == "figures/two.png"
    assert [link["href"] for link in here.figcaption.find_all("a")] == [
        "run/results.html#cell-2", "_sources/run/results.ipynb", "figures/two.png", "figures/two-narrow.svg",
        "tables/t.csv",
    ]  # fmt: skip
    # A phone gets its own version, where there is one.
    assert (here.source["srcset"], here.source["width"]) == ("figures/two-narrow.svg", "192")
    assert here.source["media"] == "(max-width: 600px)" and one.source is None
    assert (html / "figures" / "two.png").read_bytes() == png(1)
    assert (html / "tables" / "t.csv").is_file()
    # One setting gave all buttons, and those of a notebook lead to where it is in the repository.
    buttons = {link["href"] for link in page.find_all("a", href=True) if "//" in link["href"]}
    assert buttons == {
        "https://github.com/o/n",
        "https://github.com/o/n/edit/main/notebooks/results.ipynb",
        "https://mybinder.org/v2/gh/o/n/main?urlpath=lab/tree/notebooks/results.ipynb",
        "https://github.com/o/n/issues/new?title=Issue%20on%20page%20%2Frun/results.html"
        "&body=Your%20issue%20content%20here.",
    }
    landing = {link["href"] for link in soup(html, "intro").find_all("a", href=True) if "//" in link["href"]}
    assert "https://github.com/o/n/edit/main/book/intro.md" in landing
    assert not any("mybinder" in address for address in landing)


@pytest.mark.slow
def test_missing_figure_missing_table_and_wrong_address_fail_the_build(run):
    (run / "tables" / "t.csv").unlink()
    done, html = build(run, "# Hello\n\n```{run-figure} three\n```\n")
    assert done.returncode != 0
    assert "the run chest_xray has no figure 'three'" in done.stderr
    assert "figure one: the run chest_xray has no tables/t.csv" in done.stderr
    # Without the setting, nothing leads outside.
    for page in ("intro", "run/results"):
        assert not [link for link in soup(html, page).find_all("a", href=True) if "//" in link["href"]]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://github.com/o/n", False),
        ("https://github.com/o/n.git", False),
        ("https://gitlab.example.org/o/n/", False),
        ("", False),
        ("github.com/o/n", True),
        ("https://github.com/o", True),
        ("https://example.org/o/n", True),
    ],
)
def test_only_addresses_of_repositories_turn_buttons_on(url, problem, monkeypatch):
    monkeypatch.delenv("LEAKFREE_REPOSITORY", raising=False)
    config = type("Config", (), {"html_theme_options": {"repository_url": url}})()
    if problem:
        with pytest.raises(repository_buttons.ConfigError, match="is not https"):
            repository_buttons.turn_on(None, config)
        return
    repository_buttons.turn_on(None, config)
    assert config.html_theme_options["use_repository_button"] is bool(url)
    assert bool(config.html_theme_options["launch_buttons"]) is bool(url)


def test_image_is_recognised_by_its_looks(run):
    figures = list(read_index(run).values())
    assert which_figure(png(1, (310, 152)), figures, run).name == "two"
    assert which_figure(png(5), figures, run) is None
    assert which_figure(png(1), [], run) is None


def test_index_that_is_not_one_is_one_line(run):
    for text in ("[]", "{", '{"one": {"files": []}}', '{"one": 3}'):
        (run / "figures" / "index.json").write_text(text)
        with pytest.raises(
            ValueError, match=r"figures/index\.json of the run chest_xray is not an index"
        ) as error:
            read_index(run)
        assert "\n" not in str(error.value)
    (run / "figures" / "index.json").unlink()
    assert read_index(run) == {}


def test_the_version_for_a_phone_is_one_of_the_files(run):
    index = {"one": entry("one", files=["one.png", "one-narrow.svg"])}
    (run / "figures" / "index.json").write_text(json.dumps(index))
    figure = read_index(run)["one"]
    assert (figure.file, figure.narrow) == ("one.png", "one-narrow.svg")
    assert figure_index.missing_files(figure, run) == ["figures/one-narrow.svg"]


def test_text_in_all_figures_is_of_one_size(run, tmp_path):
    assert size_on_screen(run / "figures" / "one.png") == (192, 96)
    drawing = tmp_path / "a.svg"
    drawing.write_text('<?xml version="1.0"?><svg height="72pt" version="1.1" width="144pt"></svg>')
    assert size_on_screen(drawing) == (192, 96)
    drawing.write_text("<svg></svg>")
    assert size_on_screen(drawing) is None


def test_missing_files_are_named(run):
    figure = read_index(run)["one"]
    assert figure_index.missing_files(figure, run) == []
    (run / "figures" / "one.png").unlink()
    assert figure_index.missing_files(figure, run) == ["figures/one.png"]
