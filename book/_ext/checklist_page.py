"""A checklist as Markdown: every item with its answer, and links to where the answer can be checked."""

from __future__ import annotations

from html import escape
from pathlib import Path

import api_page
from provenance_page import provenance_of
from rooms import rooms

from leakfree_study.book.checklists.checklist import CHECKLISTS, ChecklistItem, answer, read_checklist

#: Cohort that the answers are about.
PUBLISHED = "chest_xray"
#: Folders of a run that stand beside the pages.
BESIDE = ("tables", "figures", "predictions")


def checklist_page(name: str, run: Path) -> str:
    """Return the modules of a checklist as sections, with the values of a run.

    Parameters
    ----------
    name : str
        One of `leakfree_study.book.checklists.checklist.CHECKLISTS`.
    run : Path
        Folder of the run.

    Returns
    -------
    str
        MyST Markdown.
    """
    checklist = read_checklist(CHECKLISTS[name])
    found = checklist.lookup(run)
    lines = [*_other_cohort(run)]
    for title, items in checklist.modules.items():
        lines += [f"## {title}", ""]
        for item in items:
            lines += [
                f"**{item.number}** {item.text}",
                f": {answer(item, found)}",
                "",
                f"  {_where(item, run)}",
                "",
            ]
    return "\n".join(lines)


def _other_cohort(run: Path) -> list[str]:
    cohort = provenance_of(run)["data"]["name"]
    if cohort == PUBLISHED:
        return []
    return [
        ":::{admonition} Another cohort",
        ":class: warning",
        f"The answers are about the study on chest X-rays. This book shows a run on the cohort `{cohort}`:",
        "the numbers are those of that run, what is said of children and of their hospital is not about it,",
        "and sentences that would quote what the run does not hold are left out.",
        ":::",
        "",
    ]


def _where(item: ChecklistItem, run: Path) -> str:
    shown = [_link(kind, name, run) for kind, name in item.where]
    return f'<span class="checklist-where">See {" · ".join(shown)}</span>'


def _link(kind: str, name: str, run: Path) -> str:
    if kind == "page":
        return f"[]({name}.ipynb)" if name.startswith("run/") else f"[]({name}.md)"
    text = f"<code>{escape(name)}</code>"
    if kind == "module":
        return f'<a href="{module_address(name)}">{text}</a>'
    if kind == "run" and name.partition("/")[0] in BESIDE and (run / name).is_file():
        return f'<a href="{escape(name)}">{text}</a>'
    return text


def module_address(module: str) -> str:
    """Return the address of a module in the pages of the interface, relative to the book's root.

    Raises
    ------
    KeyError
        No page describes the module.
    """
    for room in rooms():
        if module in room.modules:
            return f"api/{room.page}.html#{api_page.anchor(module)}"
    raise KeyError(module)
