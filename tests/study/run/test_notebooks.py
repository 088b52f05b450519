"""Executing one notebook: refused parameters, one line for a failure, and a clean executed copy."""

import re

import pytest

from deferred import deferred

with deferred:
    import nbformat
    import papermill
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    from leakfree_study.run.kernels import Kernels
    from leakfree_study.run.notebooks import (
        NotebookError,
        execute,
        known_parameters,
        source_digest,
    )

WORK = """
import sys, warnings
from pathlib import Path
from tqdm.auto import tqdm
for _ in tqdm(range(3), desc="progress"):
    pass
print("to stderr", file=sys.stderr)
warnings.warn("a warning")
Path("ran.txt").write_text(f"{seed} {scope}")
print("seed is", seed)
"""


def write(path, *cells):
    parameters = new_code_cell(
        'seed = 42\nscope = "series"\nsizes = [32, 64]', metadata={"tags": ["parameters", "hide-input"]}
    )
    notebook = new_notebook(
        cells=[new_markdown_cell("# Title"), parameters, *map(new_code_cell, cells)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def source(tmp_path):
    (tmp_path / "notebooks").mkdir()
    return write(tmp_path / "notebooks" / "07_test.ipynb", WORK)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Return the folder in which a notebook was executed, and the executed copy."""
    folder = tmp_path_factory.mktemp("executed")
    source = write(folder / "07_test.ipynb", WORK)
    (folder / "work").mkdir()
    target = folder / "out" / "notebooks" / "07_test.ipynb"
    execute(source, target, {"seed": 7}, kernels=Kernels(folder / "work"))
    return folder, target


def test_known_parameters_are_those_of_the_cell(source):
    assert known_parameters(source) == {"seed": "42", "scope": '"series"', "sizes": "[32, 64]"}


def test_a_notebook_that_is_not_there_is_named(tmp_path):
    with pytest.raises(NotebookError, match=r"absent\.ipynb: no such notebook"):
        known_parameters(tmp_path / "absent.ipynb")


def test_unknown_parameters_are_refused_before_anything_runs(source, tmp_path, monkeypatch):
    monkeypatch.setattr(papermill, "execute_notebook", lambda *a, **k: pytest.fail("a kernel was started"))
    target = tmp_path / "out" / "07_test.ipynb"
    with pytest.raises(NotebookError) as caught:
        execute(source, target, {"seed": 1, "sede": 2, "epoch": 3}, kernels=Kernels(tmp_path))
    assert str(caught.value) == "07_test.ipynb: unknown parameter epoch, sede"
    assert not target.parent.exists()


def test_source_digest_ignores_outputs_and_metadata(executed, source):
    folder, _ = executed
    before = source_digest(source)
    assert before == source_digest(folder / "07_test.ipynb")
    notebook = nbformat.read(source, as_version=4)
    notebook.metadata["papermill"] = {"duration": 3}
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="x")]
    nbformat.write(notebook, source)
    assert source_digest(source) == before
    notebook.cells[2].source += "\n"
    nbformat.write(notebook, source)
    assert source_digest(source) != before


def test_parameters_and_working_directory_reach_the_kernel(executed):
    folder, target = executed
    assert (folder / "work" / "ran.txt").read_text() == "7 series"
    notebook = nbformat.read(target, as_version=4)
    printed = [o.text for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    assert printed == ["seed is 7\n"]


def test_executed_copy_is_clean(executed):
    folder, target = executed
    text = target.read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert "papermill" not in notebook.metadata
    assert "kernelspec" in notebook.metadata
    for cell in notebook.cells:
        assert "papermill" not in cell.metadata
        assert "execution" not in cell.metadata
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr"
    assert "a warning" not in text.replace("warnings.warn", "").replace('\\"a warning\\"', "")
    assert str(folder) not in text
    assert not re.search(r"\d{4}-\d\d-\d\dT\d\d:", text)  # no times
    injected = [c for c in notebook.cells if "injected-parameters" in c.metadata.get("tags", [])]
    assert len(injected) == 1
    assert "hide-input" in injected[0].metadata.tags


def test_html_stands_beside_the_copy_and_nothing_else(executed):
    _, target = executed
    assert sorted(p.name for p in target.parent.iterdir()) == ["07_test.html", "07_test.ipynb"]
    html = target.with_suffix(".html").read_text(encoding="utf-8")
    assert "<title>07_test</title>" in html
    assert "seed is 7" in html
    assert not re.search(r"[ \t]\n", html)


def test_executing_again_gives_the_same_copy(executed):
    folder, target = executed
    other = folder / "again" / "07_test.ipynb"
    execute(folder / "07_test.ipynb", other, {"seed": 7}, kernels=Kernels(folder / "work"))

    def cells(path):
        return [(c.cell_type, c.source, c.get("outputs")) for c in nbformat.read(path, as_version=4).cells]

    assert cells(target) == cells(other)


def test_what_is_printed_in_pieces_stands_as_one(tmp_path):
    source = write(
        tmp_path / "07_test.ipynb",
        "import sys, time\nprint('a', flush=True)\ntime.sleep(0.5)",
        "print('b', flush=True)\ntime.sleep(0.5)\nprint('c', file=sys.stderr, flush=True)\nprint('d')",
    )
    execute(source, tmp_path / "out" / "a.ipynb", {}, kernels=Kernels(tmp_path))
    outputs = nbformat.read(tmp_path / "out" / "a.ipynb", as_version=4).cells[-1].outputs
    assert [(one.name, one.text) for one in outputs] == [("stdout", "b\nd\n")]


def test_a_failing_cell_is_one_line_and_leaves_no_result(tmp_path):
    source = write(
        tmp_path / "08_fails.ipynb",
        "x = 1",
        'raise ValueError("first line\\n  second line")',
        'open("after", "w")',
    )
    target = tmp_path / "out" / "08_fails.ipynb"
    with pytest.raises(NotebookError) as caught:
        execute(source, target, {"seed": 1}, kernels=Kernels(tmp_path))
    message = str(caught.value)
    # The injected parameters are cell 2.
    assert message == (
        "08_fails.ipynb: cell 4 failed: ValueError: first line second line (see 08_fails.failed.ipynb)"
    )
    assert [p.name for p in target.parent.iterdir()] == ["08_fails.failed.ipynb"]
    assert "second line" in (target.parent / "08_fails.failed.ipynb").read_text()
    assert not (tmp_path / "after").exists()
    # Once it is repaired, the copy appears and the failed one goes.
    write(source, "x = 1")
    execute(source, target, {"seed": 1}, kernels=Kernels(tmp_path))
    assert sorted(p.name for p in target.parent.iterdir()) == ["08_fails.html", "08_fails.ipynb"]


def test_a_failure_leaves_the_copy_of_an_earlier_run_as_it_was(tmp_path):
    source = write(tmp_path / "08_fails.ipynb", "1 / 0")
    target = tmp_path / "out" / "08_fails.ipynb"
    target.parent.mkdir()
    target.write_text("earlier")
    with pytest.raises(NotebookError, match="cell 3 failed: ZeroDivisionError: division by zero"):
        execute(source, target, {"seed": 1}, kernels=Kernels(tmp_path))
    assert target.read_text() == "earlier"


def test_a_kernel_that_dies_leaves_no_copy(tmp_path):
    source = write(tmp_path / "09_dies.ipynb", "import os; os._exit(9)", "x = 1")
    target = tmp_path / "out" / "09_dies.ipynb"
    with pytest.raises(NotebookError) as caught:
        execute(source, target, {}, kernels=Kernels(tmp_path))
    assert "09_dies.ipynb" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not target.exists()


def test_an_interrupt_leaves_no_copy(source, tmp_path, monkeypatch):
    def interrupted(_, working, **kwargs):
        nbformat.write(nbformat.read(source, as_version=4), working)
        raise KeyboardInterrupt

    monkeypatch.setattr(papermill, "execute_notebook", interrupted)
    target = tmp_path / "out" / "07_test.ipynb"
    with pytest.raises(KeyboardInterrupt):
        execute(source, target, {}, kernels=Kernels(tmp_path))
    assert not target.exists()
