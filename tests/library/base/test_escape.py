"""What comes from outside is shown as it is, and does nothing, in whatever it is written into."""

import argparse
import ast
import csv
import io
import logging
import re
from functools import cache

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deferred import deferred
from hostile import EVERY, IMAGE, PRINTABLE, TEMPLATE, attacks, controls, read_page
from leakfree.base.escape import (
    Arguments,
    LineFormatter,
    code,
    html,
    markdown,
    one_line,
    say,
    spreadsheet,
    terminal,
)
from leakfree_study.figures.tables import styled

with deferred:
    from markdown_it.renderer import RendererHTML
    from myst_parser.config.main import MdParserConfig
    from myst_parser.parsers.mdit import create_md_parser
    from nbconvert.filters.markdown_mistune import markdown2html_mistune


@cache
def book_reader():
    """Return what reads Markdown in the book."""
    return create_md_parser(MdParserConfig(enable_extensions={"colon_fence", "deflist"}), RendererHTML)


#: What reads our Markdown: the book, and the page of each notebook.
READERS = {
    "book": lambda text: book_reader().render(text),
    "notebook": lambda text: markdown2html_mistune(text),
}
#: Where a value stands on a page.
PLACES = (
    "{}",
    "# {}",
    "- {}",
    "before {} after",
    "**{}**",
    "| a | b |\n|---|---|\n| {} | c |",
    "above\n\n{}\n\nbelow",
    "above\n{}",
    "<code>{}</code>",
)
texts = st.text(st.characters(codec="utf-8") | st.sampled_from("`*_{}[]()<>|&#~^$\\:%+-=!./\"'0 a\n"))


def with_examples(test):
    for name in EVERY:
        test = example(name)(test)
    return test


def shape(elements):
    """Elements without what a reader makes of the text of a heading."""
    return [(tag, sorted(set(about) - {"id", "href"})) for tag, about in elements]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=20, deadline=None)
@with_examples
@given(texts)
def test_a_value_in_markdown_is_text(reader, place, name):
    said = " ".join(one_line(name).split())
    elements, text = read_page(READERS[reader](place.format(markdown(name))))
    wanted, around = read_page(READERS[reader](place.format("abc" if said else "")))
    if said or "**" not in place:
        assert shape(elements) == shape(wanted)
        assert text == " ".join(around.replace("abc", said).split())


@pytest.mark.parametrize("reader", READERS)
@with_examples
@given(texts)
def test_a_value_as_code_is_code(reader, name):
    elements, text = read_page(READERS[reader](f"before {code(name)} after"))
    assert [tag for tag, _ in elements] == ["p", "code"]
    assert text == " ".join(f"before {one_line(name)} after".split())


@with_examples
@given(texts)
def test_a_value_in_html_is_text(name):
    elements, text = read_page(f'<p title="{html(name)}">{html(name)}</p>')
    assert elements == [("p", {"title": one_line(name)})]
    assert text == " ".join(one_line(name).split())


@with_examples
@given(texts)
def test_a_line_is_one_and_steers_no_terminal(name):
    assert not controls(one_line(name), allowed="")
    assert one_line(one_line(name)) == one_line(name)
    if name.isprintable():
        assert one_line(name) == name


def test_what_a_terminal_cannot_encode_is_an_escape():
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert terminal("Röntgen\x1b", narrow) == r"R\xf6ntgen\x1b"
    say("Röntgen 😀", file=narrow)
    narrow.flush()
    assert narrow.buffer.getvalue() == b"R\\xf6ntgen \\U0001f600\n"


def test_a_line_is_printed(capsys):
    say("a\x1b[31m\nb")
    say("c\u202e", file=None)
    assert capsys.readouterr().out == "a\\x1b[31m\\nb\nc\\u202e\n"


def record(name, text):
    return logging.LogRecord(name, logging.INFO, "", 0, text, None, None)


def test_a_message_of_the_log_is_one_line_and_what_a_notebook_printed_keeps_its_own():
    formatter = LineFormatter("%(message)s")
    assert formatter.format(record("leakfree", "a\nb\x1b[2J")) == r"a\nb\x1b[2J"
    assert formatter.format(record("papermill", "\r 50%\na\x1b[2J\u202e\n")) == " 50%\na\\x1b[2J\\u202e"


def test_arguments_are_refused_in_one_line(capsys):
    parser = Arguments(prog="tool")
    command = parser.add_subparsers(required=True).add_parser("sub")
    command.add_argument("file", type=argparse.FileType())
    for given_ in (["sub", "a", "--\x1b[2J\nx"], ["sub", "\x1b[2J\nx"], ["\x1b[2J"]):
        with pytest.raises(SystemExit):
            parser.parse_args(given_)
        assert not controls(capsys.readouterr().err)


@pytest.mark.parametrize("name", EVERY)
def test_a_text_for_a_spreadsheet_is_no_formula(name):
    made = spreadsheet(name)
    assert not made.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert made.removeprefix("'") == name.removeprefix("'")


def test_a_table_of_a_notebook_shows_names_as_text():
    frame = pd.DataFrame({IMAGE: EVERY, "n": range(len(EVERY)), "mixed": [None, 1.5, *EVERY[2:]]})
    page = styled(frame).format({"n": "{:.1f}"}).to_html()
    _, text = read_page(page)
    assert not attacks(page) and "<script" not in page
    for name in EVERY:
        assert " ".join(one_line(name).split()) in text
    assert "1.500000" in text and "34.0" in text
    assert frame.loc[1, IMAGE] == IMAGE, "the frame itself stays"


def test_only_columns_of_links_hold_markup():
    frame = pd.DataFrame({"a": ['<a href="b">c</a>'], "b": ['<a href="d">e</a>']})
    elements, text = read_page(styled(frame, links=["b"]).to_html())
    assert [about["href"] for tag, about in elements if tag == "a"] == ["d"]
    assert '<a href="b">c</a>' in text


def test_tables_of_a_run_hold_names_as_they_are(tmp_path):
    """They are read back, so nothing is put in front of a formula there."""
    from leakfree_study.run.run import _read_table, _write_table

    names = [name for name in EVERY if "\ud800" not in name]
    path = _write_table(tmp_path / "t.csv", pd.DataFrame({TEMPLATE: names}))
    assert _read_table(path)[TEMPLATE].tolist() == names
    with path.open(encoding="utf-8", newline="") as file:
        assert [row[0] for row in csv.reader(file)] == [TEMPLATE, *names]


def calls(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


PRINTERS = ("print", "tqdm.write", "sys.stderr.write", "logging.basicConfig", "argparse.ArgumentParser")


def test_lines_for_the_terminal_go_through_one_function(repository):
    found = {
        f"{path.name}: {call}"
        for path in (repository / "lib").rglob("*.py")
        for call in calls(path.read_text(encoding="utf-8"))
        if call in PRINTERS
    }
    assert found == {"escape.py: tqdm.write", "escape.py: logging.basicConfig"}


def test_tables_of_notebooks_are_shown_in_one_way(repository):
    for path in (repository / "notebooks").glob("*.ipynb"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\.style\b", text), f"{path.name}: use leakfree_study.figures.tables.styled"


def test_the_list_of_names_reaches_what_it_is_for():
    """A name that is text everywhere tests nothing."""
    for name in PRINTABLE[:2]:
        assert book_reader().render(f"| a |\n|---|\n| {name} |") != book_reader().render(
            f"| a |\n|---|\n| {markdown(name)} |"
        )
    assert attacks(book_reader().render(IMAGE)) and attacks(markdown2html_mistune(EVERY[7]))
