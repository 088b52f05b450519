"""Pages from templates: what came from outside is text, what is missing is an error."""

import pytest

from deferred import deferred

with deferred:
    from jinja2 import UndefinedError

    from leakfree_study.figures.pages import page, table


def test_cells_are_text_but_for_columns_of_our_own_markup():
    text = table(["a|b", "link"], [["<b>|*x*", "[](y.md)"], [1234, ""]], marked_up=["link"])
    assert text.splitlines() == [
        r"| a\|b | link |",
        "|---|---|",
        r"| \<b\>\|\*x\* | [](y.md) |",
        "| 1234 |  |",
    ]


def test_a_row_of_another_length_is_no_row():
    with pytest.raises(ValueError, match="zip"):
        table(["a", "b"], [["only one"]])


def test_a_page_says_what_it_is_given_and_nothing_else():
    assert page("leakfree_study.book", "own_words.md.j2").startswith("# Words\n\npatient\n: Who")
    with pytest.raises(UndefinedError, match="study"):
        page("leakfree_study.book", "own_limits.md.j2", many="scans", limits=[], left_out=[])
