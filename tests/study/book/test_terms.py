"""Words of the glossary are linked where a page uses them first, and code, links and headings stay."""

import re
from pathlib import Path

import pytest

from leakfree_study.book.terms import FORMS, linked, main

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted(path.name for path in (ROOT / "book").glob("*.md") if path.stem != "glossary")


def test_every_term_is_in_the_glossary_once():
    text = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\{glossary\}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    terms = [line for block in blocks for line in block.splitlines() if line and not line.startswith(" ")]
    assert len(terms) == len(set(terms)) > 20
    assert set(FORMS) <= set(terms)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_links_the_terms_that_it_uses(name):
    text = (ROOT / "book" / name).read_text(encoding="utf-8")
    assert linked(text) == text, f"run: python -m leakfree_study.book.terms book/{name}"


def test_the_first_use_is_linked_once_and_what_is_no_prose_stays(tmp_path):
    text = (
        "# The ledger\n\n```python\nledger = 1\n```\n\n"
        "Of `ledger`, {quote}`ledger` and [a ledger](ledger.md):\n"
        ":caption: ledger\n<span title='ledger'>a ledger-like</span>\n\nThe ledgers, a ledger, a dose.\n"
    )
    made = linked(text)
    assert made == text.replace(
        "The ledgers, a ledger, a dose.", "The {term}`ledgers <ledger>`, a ledger, a {term}`dose`."
    )
    assert linked(made) == made
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    assert main([str(page)]) == 0 and page.read_text(encoding="utf-8") == made
