"""Print all pages of a built book, in the order of the table of contents, into one PDF.

    python book/print_pdf.py [HTML_DIR] [OUT.pdf]

The articles are joined in one page, so that links between them lead on inside the PDF, and Chromium prints it
by the book's own style for paper. Nothing is fetched. HTML_DIR is `book/_build/html` unless it is given,
OUT.pdf is `leakfree.pdf` beside it.
"""

from __future__ import annotations

import argparse
import os
import posixpath
import re
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

from leakfree.base.files import replacing
from leakfree_study.book.build import BookError, expected_pages

BOOK = Path(__file__).resolve().parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
STYLE = """@page { size: A4; margin: 18mm 16mm 20mm; }
article.bd-article + article.bd-article { break-before: page; }"""


def anchor(page: str, fragment: str = "") -> str:
    """Return the name that a page, or a place on it, has in the joined document."""
    return re.sub(r"[^\w-]", "-", page) + (f"--{fragment}" if fragment else "")


def article(html: Path, page: str, pages: list[str]) -> Tag:
    """Return the article of a page, with links and names that hold in the joined document.

    Raises
    ------
    BookError
        The page was not built, or has no article.
    """
    file = html / f"{page}.html"
    if not file.is_file():
        raise BookError(f"book: page {page} was not built")
    found = BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser").find("article")
    if found is None:
        raise BookError(f"book: page {page} has no article")
    for hidden in found.select("script, source, .headerlink, .explore"):
        hidden.decompose()
    for named in found.find_all(id=True):
        named["id"] = anchor(page, named["id"])
    found["id"] = anchor(page)
    for image in found.find_all("img"):
        if not urlsplit(image.get("src", "")).scheme:
            image["src"] = posixpath.normpath(posixpath.join(posixpath.dirname(page), image["src"]))
    for link in found.find_all("a", href=True):
        address = urlsplit(link["href"])
        if address.scheme or address.netloc:
            continue
        there = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(address.path)))
        target = page if not address.path else there.removesuffix(".html")
        if target in pages:
            link["href"] = "#" + anchor(target, unquote(address.fragment))
        else:
            # A file beside the book: on paper its name is all that is left of it.
            link.name = "span"
            del link["href"]
    return found


def joined(html: Path, pages: list[str]) -> str:
    """Return one document with the articles of all pages.

    Parameters
    ----------
    html : Path
        Folder of the built book.
    pages : list of str
        Names of the pages, in order.

    Raises
    ------
    BookError
        A page was not built.
    """
    articles = [article(html, page, pages) for page in pages]
    first = BeautifulSoup((html / f"{pages[0]}.html").read_text(encoding="utf-8"), "html.parser")
    styles = "\n".join(str(link) for link in first.find_all("link", rel="stylesheet"))
    return (
        f'<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8">{first.title}{styles}'
        f'<style>{STYLE}</style></head><body><div class="bd-main"><div class="bd-content">'
        f'<div class="bd-article-container">{"".join(map(str, articles))}</div></div></div></body></html>'
    )


def print_pdf(html: Path, out: Path, pages: list[str]) -> None:
    """Print the pages of a built book.

    Parameters
    ----------
    html : Path
        Folder of the built book.
    out : Path
        The PDF, written only if all went well.
    pages : list of str
        Names of the pages, in order.

    Raises
    ------
    BookError
        A page was not built, or there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    text = joined(html, pages)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise BookError("book: printing needs Chromium or Chrome, and none was found")
    # Beside the pages, so that images and styles are found; with a name that no page has.
    handle, name = tempfile.mkstemp(prefix=".print-", suffix=".html", dir=html)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            page = chromium.new_page()
            page.goto(Path(name).as_uri())
            with replacing(out) as temporary:
                page.pdf(path=temporary, prefer_css_page_size=True, tagged=True, outline=True)
            chromium.close()
    finally:
        Path(name).unlink()


def main(arguments: list[str] | None = None) -> int:
    """Print the book; return the exit code, 2 with one line where that is not possible."""
    parser = argparse.ArgumentParser(prog="print_pdf.py", description=__doc__.splitlines()[0])
    parser.add_argument("html", nargs="?", type=Path, default=BOOK / "_build" / "html", metavar="HTML_DIR")
    parser.add_argument("out", nargs="?", type=Path, metavar="OUT.pdf")
    given = parser.parse_args(arguments)
    out = given.out or given.html.parent / "leakfree.pdf"
    try:
        pages = expected_pages(BOOK)
        print_pdf(given.html, out, pages)
    except BookError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(pages)} pages of the book: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
