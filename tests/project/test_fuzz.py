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


def test_a_run_is_noted_and_added_to_the_table(fuzz, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fuzz, "RUNS", tmp_path / "fuzz" / "runs.csv")
    monkeypatch.setattr(fuzz, "TABLE", tmp_path / "fuzzing.csv")
    head = "what,executions,processor minutes,inputs kept,findings that stand\n"
    fuzz.TABLE.write_text(f"{head}earlier sessions,2000000,22.7,,0\nall,2000000,22.7,0,0\n")

    def call(_command, env, stdout, stderr):
        assert env[fuzz.INSIDE] == "1"
        corpus = fuzz.RUNS.parent / "study" / "corpus"
        corpus.mkdir(exist_ok=True)
        (corpus / str(len(list(corpus.iterdir())))).touch()
        stdout.write(
            b"#8 pulse\n#20 NEW\n" if len(list(corpus.iterdir())) == 1 else b"number_of_executed_units: 7\n"
        )
        return 0

    monkeypatch.setattr(fuzz.subprocess, "call", call)
    used = fuzz.SimpleNamespace(ru_utime=50.0, ru_stime=10.0)
    monkeypatch.setattr(fuzz.resource, "getrusage", lambda _who: used)
    for _ in range(2):
        assert fuzz.recorded("study", ["study", "1"]) == 0
    assert "60 processor seconds, 2 inputs kept" in capsys.readouterr().out
    fuzz.add_runs()
    assert fuzz.TABLE.read_text() == (
        f"{head}earlier sessions,2000000,22.7,,0\nstudy.yaml,27,2.0,2,0\nall,2000027,24.7,2,0\n"
    )
    assert not fuzz.RUNS.exists()
