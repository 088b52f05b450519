"""Every module has a step, imports go one way, and CONTRIBUTING.md says so."""

import re

import pytest

from leakfree.layout import (
    Layout,
    Part,
    Step,
    against_flow,
    between_steps,
    contributing_table,
    first_line,
    imports,
    modules,
    read_layout,
)


@pytest.fixture(scope="module")
def layout():
    return read_layout()


@pytest.fixture(scope="module")
def edges():
    return imports()


@pytest.fixture
def package(tmp_path):
    """A function that writes a package of given modules and returns its folder."""

    def write(**sources):
        root = tmp_path / "leak"
        for name, source in sources.items():
            file = root / f"{name.replace('__in__', '/')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source)
        return root

    return write


def test_every_module_belongs_to_exactly_one_step(layout):
    owners = {
        module: [step.name for step in layout.steps if layout.members(step, [module])] for module in modules()
    }
    assert len(owners) > 100
    assert {module: steps for module, steps in owners.items() if len(steps) != 1} == {}, "see layout.yaml"


def test_every_listed_module_exists(layout):
    known = modules()
    empty = [
        listed
        for step in layout.steps
        for listed in step.modules
        if not layout.members(Step(step.name, (listed,)), known)
    ]
    assert empty == []


def test_imports_go_one_way_but_for_the_exceptions(layout, edges):
    found = against_flow(layout, edges)
    assert found - set(layout.exceptions) == set(), "a module imports from a later step"
    assert set(layout.exceptions) - found == set(), "an exception that is none any more"
    assert all(len(why.split()) > 5 for why in layout.exceptions.values())


def test_an_import_from_a_later_step_is_found(layout, edges):
    assert against_flow(layout, edges | {("files", "cli")}) - set(layout.exceptions) == {("files", "cli")}


def test_known_imports_are_seen(edges):
    assert ("cells", "audit/ledger") in edges, "from leakfree.ledger.ledger import"
    assert ("study", "provenance") in edges, "from leakfree import provenance"
    assert ("sealed", "verify") in edges
    assert ("cohort", "record") in edges, "inside a function"
    assert not any(importing == imported for importing, imported in edges)


def test_imports_are_read_from_the_source(package):
    root = package(
        __init__="",
        a="from leak import b\nimport leak.sub.c\nfrom other import b as d\n",
        b="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from leak.a import X\n",
        sub__in____init__="from leak.sub.c import f\n",
        sub__in__c="def f():\n    from leak import b\n    from leak.sub import f\n",
    )
    assert modules(root) == ["a", "b", "sub/", "sub/c"]
    assert imports(root) == {("a", "b"), ("a", "sub/c"), ("sub/", "sub/c"), ("sub/c", "b"), ("sub/c", "sub/")}


def test_imports_within_a_step_are_not_counted_between_steps():
    steps = (Step("first", ("a", "b")), Step("second", ("sub/",)))
    layout = Layout((Part("all", "all", steps),), {})
    counted = between_steps(layout, {("a", "b"), ("sub/c", "a"), ("sub/c", "b"), ("sub/d", "a"), ("x", "a")})
    assert counted == {(1, 0): 3}


def test_every_module_says_what_it_is_for():
    assert [module for module in modules() if not first_line(module).endswith((".", "?"))] == []


def test_contributing_shows_the_layout(layout, repository):
    text = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = re.search(r"\| step \| module \|\n(?:\|.*\n)+", text)[0]
    assert shown == contributing_table(layout), "paste what leakfree.layout.contributing_table returns"
