"""Words of the glossary are linked in notebooks where a page uses them first; the run's files stay."""

import json
from types import SimpleNamespace

import pytest

from deferred import deferred

with deferred:
    import notebook_terms


def cell(kind, text, *tags):
    return {"cell_type": kind, "metadata": {"tags": list(tags)}, "source": text.splitlines(keepends=True)}


@pytest.fixture
def cells():
    return [
        cell("markdown", "# A ledger\n\nNothing."),
        cell("code", "ledger = 1"),
        cell("markdown", "A ledger, and\n`dose`."),
        cell("markdown", "## What this says\n\nThe ledgers.", "told-first"),
        cell("markdown", "A dose and a ledger.", "chest-xray"),
    ]


def test_the_first_use_is_linked_in_the_order_of_the_page(cells):
    notebook_terms.link_cells(cells)
    assert ["".join(one["source"]) for one in cells] == [
        "# A ledger\n\nNothing.",
        "ledger = 1",
        "A ledger, and\n`dose`.",
        "## What this says\n\nThe {term}`ledgers <ledger>`.",
        "A {term}`dose` and a ledger.",
    ]


@pytest.mark.parametrize(
    ("page", "pages", "changes"),
    [
        ("run/06_checks", {"glossary"}, True),
        ("run/06_checks", set(), False),
        ("methods", {"glossary"}, False),
    ],
)
def test_only_notebooks_of_a_book_with_a_glossary_are_changed(cells, page, pages, changes):
    app = SimpleNamespace(env=SimpleNamespace(found_docs=pages))
    source = [before := json.dumps({"cells": cells, "nbformat": 4})]
    notebook_terms.link_terms(app, page, source)
    assert (source[0] != before) == changes
    assert {**json.loads(source[0]), "cells": []} == {"nbformat": 4, "cells": []}
