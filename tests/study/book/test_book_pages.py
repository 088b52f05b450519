"""The built published book as files: links hold, figures say what they come from, nothing is outside."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

from leakfree_study.book.build import expected_pages

ROOT = Path(__file__).resolve().parents[3]
RUN = ROOT / "artifacts" / "chest_xray"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pages(published_book) -> dict[str, BeautifulSoup]:
    """Return every page of the book, parsed, by its name."""
    html = published_book.html
    return {
        file.relative_to(html).as_posix().removesuffix(".html"): BeautifulSoup(
            file.read_text(), "html.parser"
        )
        for file in sorted(html.rglob("*.html"))
        if "_static" not in file.parts
    }


def broken_links(html: Path, pages: dict[str, BeautifulSoup]) -> list[str]:
    """Return what does not lead anywhere, one line each: links, sources and anchors inside the book."""
    names = {page: {tag["id"] for tag in soup.find_all(id=True)} for page, soup in pages.items()}

    @cache
    def is_file(path: Path) -> bool:
        return path.is_file()

    found = []
    for page, soup in pages.items():
        for tag in soup.find_all(lambda tag: tag.has_attr("href") or tag.has_attr("src")):
            link = tag.get("href", tag.get("src"))
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = (html / page).parent / unquote(address.path) if address.path else html / f"{page}.html"
            target = target.resolve()
            fragment = unquote(address.fragment)
            if not is_file(target):
                found.append(f"{page}: {link} is no file")
            elif fragment and target.suffix == ".html":
                there = target.relative_to(html).as_posix().removesuffix(".html")
                # "#" and "#top" are the page itself; module pages of the API have names of their own.
                if fragment not in names[there]:
                    found.append(f"{page}: {link} has no such place")
    return found


def test_a_clone_builds_every_page_without_running_anything(published_book, pages):
    assert set(expected_pages(ROOT / "book")) <= set(pages)
    assert "Executing" not in published_book.log


def test_links_sources_and_anchors_of_every_page_lead_somewhere(published_book, pages):
    assert broken_links(published_book.html.resolve(), pages) == []


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        "<a href='b.html#here'>1</a><a href='b.html#gone'>2</a><img src='no.png'><a href='#x'>3</a>"
    )
    (tmp_path / "b.html").write_text("<p id='here'>x</p><a href='https://example.org/no'>4</a>")
    soups = {name: BeautifulSoup((tmp_path / f"{name}.html").read_text(), "html.parser") for name in "ab"}
    assert broken_links(tmp_path, soups) == [
        "a: b.html#gone has no such place",
        "a: no.png is no file",
        "a: #x has no such place",
    ]


def test_no_page_loads_or_offers_anything_outside_the_book(pages):
    for page, soup in pages.items():
        loaded = (
            soup.find_all(src=True) + soup.find_all("link", href=True) + soup.find_all("form", action=True)
        )
        for tag in loaded:
            address = tag.get("src") or tag.get("href") or tag.get("action")
            assert not urlsplit(address).netloc, f"{page}: {address}"
        for link in soup.find_all("a", href=True):
            if urlsplit(link["href"]).netloc:
                assert link.find_parent("article"), f"{page}: {link['href']} is no link of the text"
    styles = {
        name
        for soup in pages.values()
        for tag in soup.find_all("link", rel="stylesheet")
        for name in [tag["href"]]
    }
    assert any("book.css" in name for name in styles)


def test_style_sheets_name_no_address(published_book):
    for file in (published_book.html / "_static").rglob("*.css"):
        text = file.read_text(errors="replace")
        assert not re.search(r"""(?:url\(|@import)\s*['"]?(?:https?:)?//""", text), file.name


def test_every_figure_of_the_run_is_shown_with_what_it_comes_from(pages):
    index = json.loads((RUN / "figures" / "index.json").read_text())
    for name, entry in index.items():
        page = f"run/{Path(entry['source']).stem}"
        figures = pages[page].find_all("figure", attrs={"data-figure": name})
        assert len(figures) == 1, f"{name} on {page}"
        image = figures[0].img
        assert image["src"] == f"../figures/{entry['files'][0]}"
        assert image["alt"] == (entry.get("alt") or entry["caption"])
        assert figures[0].figcaption.get_text().startswith(entry["caption"])
        links = [link["href"] for link in figures[0].figcaption.find_all("a")]
        cell = re.fullmatch(r"#(cell-\d+)", links[0])
        assert cell, links
        assert figures[0].find_parent(id=cell[1]), f"{name} is not in its cell"
        if "cell" in entry:
            assert cell[1] == f"cell-{entry['cell']}"
        assert links[1:] == [
            f"../_sources/{page}.ipynb",
            *(f"../figures/{file}" for file in entry["files"]),
            *(f"../{table}" for table in entry["tables"]),
        ]


def test_no_image_of_a_notebook_is_inside_a_page(pages):
    for page, soup in pages.items():
        for image in soup.select("article img"):
            assert not image["src"].startswith("data:"), page


def test_every_image_says_what_it_is(pages):
    for page, soup in pages.items():
        for image in soup.find_all("img"):
            assert image.has_attr("alt"), f"{page}: {image['src']}"


def test_notebook_beside_the_page_is_the_executed_one(published_book):
    for notebook in (RUN / "notebooks").glob("*.ipynb"):
        copy = published_book.html / "_sources" / "run" / notebook.name
        assert copy.read_bytes() == notebook.read_bytes()


def test_cells_are_anchors(pages):
    left_out = {"remove-cell", "remove_cell"}
    for notebook in (RUN / "notebooks").glob("*.ipynb"):
        cells = json.loads(notebook.read_text())["cells"]
        counts = {
            f"cell-{cell['execution_count']}"
            for cell in cells
            if cell["cell_type"] == "code"
            and not left_out & set(cell["metadata"].get("tags", ()))
            and "".join(cell["source"]).strip()
        }
        shown = {tag["id"] for tag in pages[f"run/{notebook.stem}"].find_all(id=re.compile(r"^cell-\d+$"))}
        assert counts == shown, notebook.name
