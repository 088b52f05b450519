"""Checklists as pages: every item, its answer, and links that lead somewhere."""

import json
import re

import pytest

from deferred import deferred
from leakfree_study.book.checklists.checklist import ABSENT, CHECKLISTS, read_checklist

with deferred:
    from checklist_page import checklist_page, module_address


@pytest.fixture(scope="module")
def published(repository):
    return repository / "artifacts" / "chest_xray"


@pytest.fixture
def phantom(tmp_path):
    (tmp_path / "provenance.json").write_text(json.dumps({"data": {"name": "phantom", "images": 77}}))
    return tmp_path


@pytest.mark.parametrize("name", CHECKLISTS)
def test_every_item_is_on_the_page(published, name):
    text = checklist_page(name, published)
    checklist = read_checklist(CHECKLISTS[name])
    for item in checklist.items:
        assert f"**{item.number}** {item.text}\n: " in text
    assert [f"## {title}" for title in checklist.modules] == re.findall(r"^## .*", text, re.MULTILINE)
    assert "Another cohort" not in text and ABSENT not in text


def test_files_of_the_run_are_links_only_where_they_are_there(published, phantom):
    link = '<a href="tables/01_classes.csv">'
    assert link in checklist_page("reforms", published)
    bare = checklist_page("reforms", phantom)
    assert link not in bare and "<code>tables/01_classes.csv</code>" in bare


def test_another_cohort_is_told_and_its_numbers_shown(phantom):
    text = checklist_page("reforms", phantom)
    assert "a run on the cohort `phantom`" in text
    assert "This run read 77 images" in text
    assert "5,840" not in text and "Openings of it" not in text


def test_modules_lead_to_their_page():
    assert module_address("leakfree.ledger.ledger") == "api/ledger.html#module-leakfree.ledger.ledger"
    with pytest.raises(KeyError):
        module_address("nothing")
