"""A page begins with what its notebook found, and has every section of it once."""

from deferred import deferred

with deferred:
    from docutils import nodes
    from run_pages import FIRST, move_first, told_first


def section(heading, *children):
    return nodes.section("", nodes.title("", heading), *children)


def cell(text):
    return nodes.container("", nodes.literal_block("", text), classes=["cell"])


def texts(node):
    return [child.astext().splitlines()[0] for child in node.children]


def test_what_was_found_moves_to_the_first_code():
    found = section("Found", nodes.paragraph("", "much"), cell("said"))
    page = section(
        "Title", nodes.paragraph("", "words"), cell("parameters"), section("How"), found, section("End")
    )
    doctree = nodes.Element("", page)
    move_first(doctree, "Found")
    assert texts(page) == ["Title", "words", "Found", "parameters", "How", "End"]
    assert page.children[2] is found and found.parent is page
    move_first(doctree, "Not there")
    move_first(doctree, "")
    assert texts(page) == ["Title", "words", "Found", "parameters", "How", "End"]


def test_the_heading_is_that_of_the_first_tagged_cell():
    def made(source, *tags):
        return {"source": source, "metadata": {"tags": list(tags)}}

    cells = [made("# Title"), made(["## Found\n", "\n", "words"], "other", FIRST), made("said", FIRST)]
    assert told_first(cells) == "Found"
    assert told_first(cells[:1]) == ""
