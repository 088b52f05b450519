"""The checklists are whole, and no number in an answer is typed."""

import re

import pytest
import yaml
from rooms import module_file

from leakfree_study.book.cell_text import QuoteError
from leakfree_study.book.checklists.checklist import (
    ABSENT,
    CHECKLISTS,
    ChecklistItem,
    answer,
    names_in,
    read_checklist,
)

NAMES = tuple(CHECKLISTS)
SENTENCES = ("There are {n_images} images.", "Opened {openings} time.", "No number.")


def typed_digits(item, checklist):
    """Return the words of an answer that hold digits and are not allowed to: numbers that were typed."""
    found = []
    for sentence in item.sentences:
        text = re.sub(r"\{\w+\}", "", sentence)
        for allowed in sorted(checklist.digits_allowed, key=len, reverse=True):
            text = text.replace(allowed, "")
        found += [word for word in text.split() if any(letter.isdigit() for letter in word)]
    return found


@pytest.fixture(scope="module")
def checklists():
    return {name: read_checklist(path) for name, path in CHECKLISTS.items()}


@pytest.fixture(scope="module")
def published(repository):
    return repository / "artifacts" / "chest_xray"


def test_reforms_has_its_32_items_in_eight_modules(checklists):
    modules = checklists["reforms"].modules
    assert [len(items) for items in modules.values()] == [3, 5, 7, 3, 6, 3, 3, 2]
    for number, items in enumerate(modules.values(), start=1):
        assert [item.number for item in items] == [f"{number}{letter}" for letter in "abcdefg"[: len(items)]]


def test_the_model_info_sheet_has_its_21_questions(checklists):
    assert [item.number for item in checklists["model_info_sheet"].items] == [str(n) for n in range(1, 22)]


@pytest.mark.parametrize("name", NAMES)
def test_every_item_is_answered_in_full_from_the_published_run(checklists, published, name):
    checklist = checklists[name]
    found = checklist.lookup(published)
    for item in checklist.items:
        text = answer(item, found)
        assert len(text) > 20, item.number
        for value in (name for sentence in item.sentences for name in names_in(sentence)):
            assert found[value].present, f"item {item.number}: {value}"
        assert not re.search(r"[{}]", text), item.number


@pytest.mark.parametrize("name", NAMES)
def test_every_value_is_used(checklists, name):
    checklist = checklists[name]
    used = {value for item in checklist.items for sentence in item.sentences for value in names_in(sentence)}
    assert set(checklist.values) - used == set()


@pytest.mark.parametrize("name", NAMES)
def test_no_digit_is_typed_but_those_with_a_reason(checklists, name):
    checklist = checklists[name]
    assert {item.number: found for item in checklist.items if (found := typed_digits(item, checklist))} == {}
    prose = " ".join(sentence for item in checklist.items for sentence in item.sentences)
    assert [text for text in checklist.digits_allowed if text not in prose] == [], "allowed for nothing"
    assert all(checklist.digits_allowed.values())


def test_a_typed_number_is_found(checklists):
    item = ChecklistItem("1", "", ("ResNet18 saw {n_images} of 5,840 images.",), ())
    assert typed_digits(item, checklists["reforms"]) == ["5,840"]


@pytest.mark.parametrize("name", NAMES)
def test_every_pointer_leads_to_something(checklists, published, repository, name):
    toc = yaml.safe_load((repository / "book" / "_toc.yml").read_text(encoding="utf-8"))
    pages = {chapter["file"] for part in toc["parts"] for chapter in part["chapters"]} | {toc["root"]}
    exists = {
        "page": lambda target: target in pages,
        "file": lambda target: (repository / target).exists(),
        "run": lambda target: (published / target).is_file(),
        "module": lambda target: module_file(target).is_file(),
    }
    for item in checklists[name].items:
        assert item.where, item.number
        for kind, target in item.where:
            assert exists[kind](target), f"item {item.number}: {kind} {target}"


def test_a_run_without_an_official_test_says_nothing_of_it(checklists, tmp_path):
    (tmp_path / "provenance.json").write_text('{"data": {"images": 1234}}')
    found = checklists["reforms"].lookup(tmp_path)
    assert answer(ChecklistItem("1", "", SENTENCES, ()), found) == "There are 1,234 images. No number."
    assert answer(ChecklistItem("1", "", SENTENCES[1:2], ()), found) == ABSENT


def test_an_ambiguous_value_is_an_error(checklists, tmp_path):
    (tmp_path / "tables").mkdir()
    row = "train,normal,5\n"
    (tmp_path / "tables" / "01_classes.csv").write_text("part,label,images\n" + 2 * row)
    with pytest.raises(QuoteError, match="n_normal: 2 rows"):
        answer(ChecklistItem("1", "", ("{n_normal} images.",), ()), checklists["reforms"].lookup(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "{nothing}"}, "item 1a: no value is called nothing"),
        ({"where": ["table:x"]}, "item 1a: table:x is none of page, file, run, module"),
        ({"where": ["page:"]}, "item 1a: page: is none of"),
    ],
)
def test_a_broken_checklist_is_refused(tmp_path, change, message):
    entry = {"item": "1a", "text": "?", "answer": "Yes.", "where": ["page:intro"]} | change
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"modules": [{"module": "m", "items": [entry]}]}))
    with pytest.raises(ValueError, match=re.escape(message)):
        read_checklist(path)


def test_a_value_may_not_hide_a_quote(tmp_path):
    path = tmp_path / "c.yaml"
    values = {"n_images": {"source": "01_classes", "form": "{images}"}}
    path.write_text(yaml.safe_dump({"values": values, "modules": []}))
    with pytest.raises(ValueError, match="value n_images: a quote has that name"):
        read_checklist(path)
