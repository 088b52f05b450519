"""The pages of the interface hold every public name, as it is written in the code."""

import importlib
import inspect

import pytest

from deferred import deferred

with deferred:
    import rooms
    from api_page import module_entry, public_names, room_page


@pytest.fixture(scope="module")
def found():
    return rooms.rooms()


def test_every_public_name_of_every_module_has_an_entry(found):
    names = 0
    for room in found:
        text = room_page(room)
        for module in room.modules:
            assert f".. py:module:: {module}\n" in text
            entry = "\n".join(module_entry(module))
            for name in public_names(module):
                assert f":: {name}" in entry, f"{module}: {name}"
                names += 1
    assert names > 400


@pytest.mark.parametrize("module", ["leakfree.audit.gate", "leakfree.scores.conformal"])
def test_names_are_those_that_python_finds(module):
    module = importlib.import_module(module)
    defined = {
        name
        for name, value in vars(module).items()
        if (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }
    assert set(public_names(module.__name__)) == defined


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


def test_each_room_has_a_page_in_the_table_of_contents(found, repository):
    toc = (repository / "book" / "_toc.yml").read_text(encoding="utf-8")
    for room in found:
        page = (repository / "book" / "api" / f"{room.page}.md").read_text(encoding="utf-8")
        assert page == f"# {room.name}\n\n```{{generated}} api {room.page}\n```\n"
        assert f"- file: api/{room.page}\n" in toc
    assert len(list((repository / "book" / "api").iterdir())) == toc.count("file: api/") == len(found)
