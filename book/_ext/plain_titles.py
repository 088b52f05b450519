"""Sphinx extension that keeps titles text where a theme or the search writes them into a page as they are.

The title of a study is what somebody wrote. The theme puts the title of the book beside its logo, and the
search puts titles of sections into its results, both without escaping.
"""

from __future__ import annotations

import json
from html import escape, unescape
from pathlib import Path

from markupsafe import Markup
from sphinx.application import Sphinx

from leakfree.base.escape import html

#: What templates call the title of the book.
_TITLES = ("docstitle", "shorttitle", "project")
_HEAD, _TAIL = "Search.setIndex(", ")"


def escape_title(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Escape the title of the book once, for templates that do not; those that do leave it alone."""
    context.update({name: Markup(html(context[name])) for name in _TITLES if name in context})


def escape_search(app: Sphinx, exception: Exception | None) -> None:
    """Escape the titles of sections in the index of the search, as those of pages are."""
    file = Path(app.outdir, "searchindex.js")
    if exception is not None or app.builder.name != "html" or not file.is_file():
        return
    index = json.loads(file.read_text(encoding="utf-8").removeprefix(_HEAD).removesuffix(_TAIL))
    # An earlier build may have escaped them: Sphinx goes on from its file.
    index["alltitles"] = {
        escape(unescape(title), quote=False): places for title, places in index["alltitles"].items()
    }
    file.write_text(_HEAD + json.dumps(index, sort_keys=True) + _TAIL, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the extension."""
    # After the theme's own changes of the context.
    app.connect("html-page-context", escape_title, priority=900)
    app.connect("build-finished", escape_search, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
