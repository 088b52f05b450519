"""Sphinx extension that tells what a word of the glossary means where a link to it is pointed at."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx

#: Page of the glossary; a book without it has no such links.
PAGE = "glossary"
_TARGET = f"{PAGE}.html#term-"


def meanings(doctree: nodes.document) -> dict[str, str]:
    """Return what the terms of a glossary mean, by the anchor of each."""
    return {
        anchor: item.children[-1].astext().replace("\n", " ")
        for item in doctree.findall(nodes.definition_list_item)
        for term in item.findall(nodes.term)
        for anchor in term["ids"]
    }


def add_titles(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Give links to the glossary the meaning as their title."""
    links = [link for link in doctree.findall(nodes.reference) if _TARGET in link.get("refuri", "")]
    if links and PAGE in app.env.found_docs:
        if not hasattr(app.env, "leakfree_meanings"):
            app.env.leakfree_meanings = meanings(app.env.get_doctree(PAGE))
        for link in links:
            link["reftitle"] = app.env.leakfree_meanings[link["refuri"].partition("#")[2]]
            link["classes"].append("term")


def forget(app: Sphinx, env: object, page: str) -> None:
    """Forget the meanings when the page is read again."""
    if page == PAGE and hasattr(env, "leakfree_meanings"):
        del env.leakfree_meanings


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the extension."""
    app.connect("doctree-resolved", add_titles)
    app.connect("env-purge-doc", forget)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
