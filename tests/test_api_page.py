"""The pages of the interface hold every public name, as it is written in the code."""

import importlib
import inspect

import pytest

from deferred import deferred
from leakfree import layout

with deferred:
    from api_page import dotted, module_entry, part_page, public_names


@pytest.fixture(scope="module")
def parts():
    return layout.read_layout()


@pytest.fixture(scope="module")
def text(parts):
    return "\n".join(part_page(parts, part) for part in parts.parts)


def test_every_public_name_of_every_module_has_an_entry(text):
    known = layout.modules()
    for module in known:
        assert f".. py:module:: {dotted(module)}\n" in text
        entry = "\n".join(module_entry(module))
        for name in public_names(module):
            assert f":: {name}" in entry, f"{module}: {name}"
    assert sum(len(public_names(module)) for module in known) > 400


@pytest.mark.parametrize("module", ["leakfree.audit.gate", "leakfree.scores.conformal"])
def test_names_are_those_that_python_finds(module):
    module = importlib.import_module(module)
    path = module.__name__.removeprefix("leakfree.").replace(".", "/")
    defined = {
        name
        for name, value in vars(module).items()
        if (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }
    assert set(public_names(path)) == defined


def test_signatures_and_sections_are_written_out(tmp_path, monkeypatch):
    source = '''"""What it does."""

class Thing(Base):
    """A thing.

    Parameters
    ----------
    size : int
        How large.
    """

    def __init__(self, size: int = 3, *, name: str | None = None) -> None:
        self.size = size

    @property
    def double(self) -> int:
        """Twice."""

    @classmethod
    def make(cls, x) -> "Thing":
        """Make one."""

    def _hidden(self):
        """No."""

def act(a, /, b=1, *rest, c, **more) -> list[int]:
    """Act.

    Raises
    ------
    ValueError
        If it is wrong, in a sentence that
        goes on.
    """

def _own():
    """No."""
'''
    (tmp_path / "thing.py").write_text(source)
    monkeypatch.setattr("api_page.module_file", lambda module: tmp_path / f"{module}.py")
    entry = module_entry("thing")
    text = "\n".join(entry)
    assert ".. py:class:: Thing(size: int=3, *, name: str | None=None)" in text
    assert "   .. py:property:: double" in text
    assert "   .. py:classmethod:: make(x) -> 'Thing'" in text
    assert ".. py:function:: act(a, /, b=1, *rest, c, **more) -> list[int]" in text
    assert ":param size: How large." in text
    assert "   :raises ValueError: If it is wrong, in a sentence that\n       goes on." in text
    assert "_hidden" not in text and "_own" not in text
    assert all("\n" not in line for line in entry), "a line that holds several is indented once"


def test_each_part_has_a_page_in_the_table_of_contents(parts, repository):
    toc = (repository / "book" / "_toc.yml").read_text(encoding="utf-8")
    for part in parts.parts:
        page = (repository / "book" / "api" / f"{part.page}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {part.name}\n") and f"{{generated}} api {part.page}\n" in page
        assert f"- file: api/{part.page}\n" in toc
