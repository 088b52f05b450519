"""The targets of the fuzzer fit the code that they call: each takes its own seeds."""

import contextlib
import importlib.util
import sys
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="module")
def fuzz(repository):
    # The fuzzer itself is not among the packages of the study.
    given = SimpleNamespace(instrument_imports=lambda include: contextlib.nullcontext())
    spec = importlib.util.spec_from_file_location("fuzz", repository / "benchmarks" / "fuzz" / "fuzz.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "atheris", given)
        spec.loader.exec_module(module)
        # A signal of the decoder's would end the tests.
        patched.setattr(module.decoder, "_allow", lambda *_limits: None)
        yield module


@pytest.mark.parametrize("name", ["decode", "tables", "study"])
def test_a_target_takes_its_seeds(fuzz, name):
    target = {"decode": fuzz.decode, "tables": fuzz.read_tables, "study": fuzz.study}[name]
    for data in fuzz.seeds(name):
        target(data)


def test_the_target_of_connections_takes_its_seeds(fuzz, monkeypatch):
    monkeypatch.setattr(fuzz.logging, "disable", lambda _level: None)
    target = fuzz.over_http()
    for data in fuzz.seeds("http"):
        target(data)
