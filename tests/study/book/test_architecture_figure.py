"""The drawings of the page on architecture."""

from collections import Counter
from xml.etree import ElementTree

import pytest

from deferred import deferred

with deferred:
    from architecture_figure import draw_files, draw_flow
    from rooms import Room

BLUE = "#4a6fa5"


@pytest.fixture
def three():
    return [Room(name, "", ()) for name in ("leakfree.first", "leakfree.second", "leakfree_study.third")]


def arcs(path, colour):
    """Count the strokes of a colour: one for the curve of an arc and one for its head."""
    text = path.read_text(encoding="utf-8")
    ElementTree.fromstring(text)
    return text.count(f"stroke: {colour}") // 2


def test_each_pair_of_rooms_is_an_arc(three, tmp_path):
    draw_flow(three, Counter({(2, 0): 3, (1, 0): 1}), tmp_path / "a.svg")
    assert arcs(tmp_path / "a.svg", BLUE) == 2
    draw_flow(three, Counter({(2, 0): 3}), tmp_path / "b.svg")
    assert arcs(tmp_path / "b.svg", BLUE) == 1


def test_equal_imports_draw_equal_files(three, tmp_path):
    for name in ("a.svg", "b.svg"):
        draw_flow(three, Counter({(2, 0): 3}), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("folders", [1, 12])
def test_files_are_drawn_for_any_number_of_folders(tmp_path, folders):
    counts = {"01": Counter({f"f{k}": 10**k for k in range(min(folders, 4))}), "02": Counter(f0=1)}
    counts["02"].update({f"f{k}": 1 for k in range(folders)})
    width, height = draw_files(counts, tmp_path / "a.svg")
    root = ElementTree.fromstring((tmp_path / "a.svg").read_text(encoding="utf-8"))
    assert root.tag.endswith("svg") and width > 100 and height > 100
