"""Tables of generated pages."""

import pytest
from markdown_it import MarkdownIt
from markdown_tables import cell, code, duration, short_hash, size, table


def test_a_table_is_read_back_whatever_its_cells_hold():
    text = table(("a", "b"), [("x | y", "two\nlines"), (code("<b>|</b>"), "")])
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert html.count("<tr>") == 3
    assert "x | y" in html and "two lines" in html
    assert "<code>&lt;b&gt;|&lt;/b&gt;</code>" in html


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="a row of 1 cells in a table of 2 columns"):
        table(("a", "b"), [("x",)])


def test_cells_cannot_end_their_line():
    assert cell("a\n|b") == "a \\|b"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8.2, "8 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2.0 h"), (None, ""), ("?", "")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_sizes_and_hashes():
    assert size(999_000) == "999 kB"
    assert size(1_500_000) == "1.5 MB"
    assert short_hash("0123456789abcdef") == '<code title="0123456789abcdef">0123456789ab</code>'
