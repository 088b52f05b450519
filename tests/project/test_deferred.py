"""Imports of test files wait for their first test; what cannot wait says so."""

import sys
from types import ModuleType

import pytest

import deferred
from conftest import LOADED


@pytest.fixture
def collecting(monkeypatch):
    monkeypatch.setattr(deferred.deferred, "collecting", True)


def imported(text):
    """Return a module of this text, as Python imports it."""
    module = ModuleType("written")
    exec(text, vars(module))
    return module


def test_collection_imports_no_slow_package(request):
    assert request.config.stash[LOADED] == []


def test_names_wait_and_are_then_the_real_things(collecting):
    module = imported(
        """
from deferred import deferred
with deferred:
    import tomllib
    import xml.dom as dom
    import xml.sax
    from decimal import Decimal as D, getcontext
    from xml import etree
    TEN = D("10")
def ten(value=TEN):
    return value
"""
    )
    waiting = {name for name, value in vars(module).items() if isinstance(value, deferred.Pending)}
    assert waiting == {"tomllib", "dom", "xml", "D", "getcontext", "etree", "TEN"}
    deferred.load(module)
    import decimal
    import tomllib
    import xml.dom
    import xml.etree

    assert (module.tomllib, module.dom, module.xml, module.etree) == (tomllib, xml.dom, xml, xml.etree)
    assert (module.D, module.getcontext) == (decimal.Decimal, decimal.getcontext)
    assert decimal.Decimal(10) == module.TEN == module.ten()


def test_what_another_test_file_lends_is_loaded_there(collecting, monkeypatch):
    lender = imported(
        "from deferred import deferred\n__name__ = 'lender'\n"
        "with deferred:\n    from decimal import Decimal\ndef ten():\n    return Decimal(10)\n"
    )
    monkeypatch.setitem(sys.modules, "lender", lender)
    borrower = ModuleType("borrower")
    borrower.ten = lender.ten
    deferred.load(borrower)
    assert borrower.ten() == 10


@pytest.mark.parametrize("use", ["D.mro", "D('1')", "tomllib.loads('')"])
def test_what_is_used_while_collecting_says_what_to_do(collecting, use):
    text = "with deferred:\n    import tomllib\n    from decimal import Decimal as D\n"
    with pytest.raises(AttributeError, match=r"(decimal\.Decimal|tomllib.*) is used while tests are coll"):
        imported(f"from deferred import deferred\n{text}{use}")


def test_a_failure_in_the_block_leaves_imports_as_they_were(collecting):
    with pytest.raises(ZeroDivisionError):
        imported("from deferred import deferred\nwith deferred:\n    1 / 0\n")
    assert imported("import json").json is sys.modules["json"]


def test_outside_of_collection_nothing_waits():
    module = imported("from deferred import deferred\nwith deferred:\n    from decimal import Decimal\n")
    assert module.Decimal("2") > 1
