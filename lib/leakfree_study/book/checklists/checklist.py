"""A checklist with the study's answers: items, answers as templates, and where in the project to look."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from leakfree_study.book.quotes import QUOTES
from leakfree_study.book.quoting import Lookup, Quote

#: Checklists by name.
CHECKLISTS = {name: Path(__file__).with_name(f"{name}.yaml") for name in ("reforms", "model_info_sheet")}
#: Kinds of pointers: a page of the book, a file of the project, a file of the run, a module of the library.
POINTERS = ("page", "file", "run", "module")
#: What is said where a run holds nothing that an answer could quote.
ABSENT = "Not part of this run."


@dataclass(frozen=True)
class ChecklistItem:
    """One item of a checklist.

    Attributes
    ----------
    number : str
        As the checklist counts, such as ``3b``.
    text : str
        What is asked, in short.
    sentences : tuple of str
        The answer; ``{name}`` stands for a value of the run.
    where : tuple of (str, str)
        Pointers: kind, one of `POINTERS`, and name.
    """

    number: str
    text: str
    sentences: tuple[str, ...]
    where: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Checklist:
    """A checklist with answers.

    Attributes
    ----------
    modules : dict of str to tuple of ChecklistItem
        Title of a module to its items.
    values : dict of str to Quote
        Numbers of its own, beside those that all prose quotes.
    digits_allowed : dict of str to str
        Texts with digits that answers may hold, with the reason: names and numbers that no run decides.
    """

    modules: dict[str, tuple[ChecklistItem, ...]]
    values: dict[str, Quote]
    digits_allowed: dict[str, str]

    @property
    def items(self) -> tuple[ChecklistItem, ...]:
        """All items in order."""
        return tuple(item for items in self.modules.values() for item in items)

    def lookup(self, run: Path) -> Lookup:
        """Return all that an answer may quote, by name, as a run gives it."""
        quotes = {**QUOTES, **self.values}
        # What a run lacks is left out of an answer, so it is no error that it says nothing in its place.
        return Lookup(
            run, {name: replace(quote, absent=quote.absent or ABSENT) for name, quote in quotes.items()}
        )


def read_checklist(path: Path) -> Checklist:
    """Read a checklist.

    Parameters
    ----------
    path : pathlib.Path
        One of `CHECKLISTS`.

    Returns
    -------
    Checklist

    Raises
    ------
    ValueError
        If a pointer is of no known kind, an answer names a value that is not defined, or a value has the
        name of a quote.
    """
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    values = {name: Quote(**source) for name, source in content.get("values", {}).items()}
    if doubled := set(values) & set(QUOTES):
        raise ValueError(f"value {min(doubled)}: a quote has that name")
    modules = {
        module["module"]: tuple(_item(entry, values) for entry in module["items"])
        for module in content["modules"]
    }
    allowed = {entry["text"]: entry["why"] for entry in content.get("digits_allowed", ())}
    return Checklist(modules, values, allowed)


def _item(entry: Mapping[str, Any], values: Mapping[str, Any]) -> ChecklistItem:
    number = str(entry["item"])
    sentences = entry["answer"]
    sentences = (sentences,) if isinstance(sentences, str) else tuple(sentences)
    if unknown := {name for sentence in sentences for name in names_in(sentence)} - {*values, *QUOTES}:
        raise ValueError(f"item {number}: no value is called {min(unknown)}")
    where = []
    for pointer in entry["where"]:
        kind, _, name = pointer.partition(":")
        if kind not in POINTERS or not name:
            raise ValueError(f"item {number}: {pointer} is none of {', '.join(POINTERS)}")
        where.append((kind, name))
    return ChecklistItem(number, entry["text"], sentences, tuple(where))


def names_in(sentence: str) -> list[str]:
    """Return the names of the values that a sentence quotes."""
    return [name for _, name, _, _ in string.Formatter().parse(sentence) if name]


def answer(item: ChecklistItem, found: Lookup) -> str:
    """Return the answer to an item with the values of a run.

    A sentence that quotes what the run does not hold is left out; where none is left, the answer says so.

    Parameters
    ----------
    item : ChecklistItem
    found : Lookup
        As `Checklist.lookup` returns it.

    Returns
    -------
    str
        One paragraph of Markdown.

    Raises
    ------
    QuoteError
        If a value is one of several rows, or its file cannot be read.
    """
    said = []
    for sentence in item.sentences:
        values = {name: found[name] for name in names_in(sentence)}
        if all(value.present for value in values.values()):
            texts = {name: value.text for name, value in values.items()}
            said.append(" ".join(sentence.format(**texts).split()))
    return " ".join(said) or ABSENT
