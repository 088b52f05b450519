"""Rooms are the folders of the library; imports between them are read from the code and go one way."""

import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

import pytest

from deferred import deferred

with deferred:
    from rooms import between, first_line, imports, module_file, rooms


def test_every_module_is_in_one_room(repository):
    files = {path.resolve() for path in (repository / "lib").glob("leakfree*/**/*.py")}
    found = [module_file(module).resolve() for room in rooms() for module in room.modules]
    assert len(found) == len(set(found)) > 140
    assert {path for path in files if path.name != "__init__.py"} <= set(found)


def test_every_room_and_module_says_what_it_is_for():
    names = [name for room in rooms() for name in (room.name, *room.modules)]
    assert [name for name in names if not first_line(name).endswith((".", "?"))] == []


def test_arrows_lead_to_rooms_below_only():
    found = rooms()
    counted = between(found, imports())
    assert [(found[a].name, found[b].name) for a, b in counted if b > a] == []
    place = {room.name: k for k, room in enumerate(found)}
    assert counted[place["leakfree_study.run"], place["leakfree.data"]] > 3
    edges = {("leakfree.data.images", "leakfree.cli"), ("leakfree.data.images", "leakfree.data.cohort")}
    assert between(found, edges) == {(place["leakfree.data"], place["leakfree.cli"]): 1}


def test_no_modules_import_one_another_in_a_circle():
    uses = {}
    for module, used in imports():
        uses.setdefault(module, set()).add(used)
    assert len(tuple(TopologicalSorter(uses).static_order())) > 140
    with pytest.raises(CycleError, match=r"leakfree\.base\.files"):
        tuple(TopologicalSorter({**uses, "leakfree.base.files": {"leakfree.data.cohort"}}).static_order())


def test_imports_inside_functions_count_and_those_for_type_checkers_do_not():
    edges = imports()
    assert ("leakfree.cli", "leakfree.audit.auditor") in edges, "inside a function"
    assert ("leakfree.data.vocabulary", "leakfree.data.cohort") not in edges, "for type checkers"


@pytest.mark.parametrize(
    ("module", "line", "told"),
    [
        ("leakfree/base/hashing.py", "from leakfree.data import images", "leakfree.base -> leakfree.data"),
        ("leakfree/data/more.py", "import leakfree_study.run.config", "leakfree -> leakfree_study"),
        ("leakfree/extras/__init__.py", "", "leakfree.extras"),
        ("leakfree/data/reading/more.py", "from leakfree.data.formats import base", ".reading -> .formats"),
        ("leakfree/audit/copies/more.py", "from leakfree.audit.checks import findings", ".copies -> .checks"),
    ],
)
def test_the_contract_refuses_what_goes_up_and_what_has_no_place(repository, tmp_path, module, line, told):
    """As `lint-imports` in CI, on a copy with one file more."""
    import shutil

    shutil.copytree(
        repository / "lib", tmp_path / "lib", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__")
    )
    shutil.copy(repository / "pyproject.toml", tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'lib')!r})\n"
        "from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    )

    def lint():
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        return done.returncode, done.stdout

    if module.startswith("leakfree/base"):
        assert lint()[0] == 0
    file = tmp_path / "lib" / module
    file.parent.mkdir(exist_ok=True)
    file.write_text(f'"""Something."""\n\n{line}\n')
    code_of_exit, text = lint()
    assert code_of_exit == 1, text
    first, _, second = told.partition(" -> ")
    assert first in text and second in text
