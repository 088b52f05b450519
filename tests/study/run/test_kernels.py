"""Kernels started before their turn: what they import, who gets them, and that none is left."""

import threading
import time

import pytest

from deferred import deferred
from small_notebooks import gone, write

with deferred:
    import nbformat
    from jupyter_core.utils import run_sync
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    from leakfree_study.run.kernels import KernelError, Kernels, imports_of
    from leakfree_study.run.notebooks import NotebookError, execute


def running(kernel):
    return run_sync(kernel.manager.is_alive)()


def test_imports_are_found_wherever_they_stand_and_magics_are_passed_over():
    cells = [
        "import os, sys\nx = 1\nfrom pathlib import Path as P",
        "%pip list\nimport json",
        "def f():\n    import re",
    ]
    notebook = new_notebook(cells=[new_markdown_cell("import no"), *map(new_code_cell, cells)])
    assert imports_of(notebook) == "import os, sys\nfrom pathlib import Path as P"


def test_a_prepared_kernel_imports_in_the_working_directory_and_is_the_one_that_runs(tmp_path):
    (tmp_path / "slow_to_import.py").write_text(
        "from pathlib import Path\nPath('imported.txt').write_text('once')\n"
    )
    work = "import slow_to_import\nimport os\nprint(os.getpid(), Path if False else 1)"
    source = write(tmp_path / "a.ipynb", work)
    with Kernels(tmp_path) as kernels:
        kernels.prepare(source)
        deadline = time.monotonic() + 60
        while not (tmp_path / "imported.txt").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (tmp_path / "imported.txt").exists()  # before the notebook was run
        prepared = kernels._waiting[source].manager.provisioner.pid
        kernels.prepare(source)
        assert kernels._waiting[source].manager.provisioner.pid == prepared
        kernel = kernels._waiting[source]
        execute(source, tmp_path / "out" / "a.ipynb", {"given": 2}, kernels=kernels)
        assert not kernels._waiting
    (client,) = kernel.manager.clients  # that of who ran the notebook
    assert not client.channels_running
    cell = nbformat.read(tmp_path / "out" / "a.ipynb", as_version=4).cells[-1]
    assert cell.outputs[0].text.split()[0] == str(prepared)
    assert (
        cell.execution_count == 3
    )  # parameters, those that were given, and this cell: the imports do not count
    assert gone(prepared)


def test_an_import_that_fails_fails_in_its_cell(tmp_path):
    source = write(tmp_path / "a.ipynb", "import not_there_at_all")
    with Kernels(tmp_path) as kernels:
        kernels.prepare(source)
        with pytest.raises(
            Exception, match=r"cell 3 failed: ModuleNotFoundError: No module named 'not_there_at_all'"
        ):
            execute(source, tmp_path / "out" / "a.ipynb", {"given": 2}, kernels=kernels)


@pytest.mark.parametrize("shared", [False, True])
def test_kernels_that_run_are_ended_from_another_thread(tmp_path, shared):
    source = write(
        tmp_path / "a.ipynb",
        "from pathlib import Path\nimport time",
        "Path('begun').touch(); time.sleep(300)",
    )
    failed = []

    def run():
        try:
            execute(source, tmp_path / "out" / "a.ipynb", {"given": 2}, kernels=kernels)
        except NotebookError as error:
            failed.append(str(error))

    with Kernels(tmp_path, shared=shared, threads=1) as kernels:
        runner = threading.Thread(target=run)
        runner.start()
        deadline = time.monotonic() + 60
        while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        kernels.kill()
        runner.join(60)
        with pytest.raises(KernelError, match=r"a\.ipynb: the run has ended"):
            kernels.take(source).close(now=True)  # as a notebook that was about to begin would
    assert not runner.is_alive() and "could not be run" in failed[0]
    assert not list((tmp_path / "out").glob("*a*.ipynb"))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("given", [None, "3"])
def test_kernels_side_by_side_take_the_threads_that_they_are_given(tmp_path, monkeypatch, shared, given):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    source = write(tmp_path / "a.ipynb", "import os\nprint('threads', os.environ['OMP_NUM_THREADS'])")
    with Kernels(tmp_path, shared=shared, threads=2) as kernels:
        execute(source, tmp_path / "out" / "a.ipynb", {"given": 2}, kernels=kernels)
    assert f"threads {given or 2}" in (tmp_path / "out" / "a.ipynb").read_text()


def test_a_kernel_that_died_before_its_turn_is_replaced(tmp_path):
    source = write(tmp_path / "a.ipynb", "print('ran')")
    with Kernels(tmp_path) as kernels:
        kernels.prepare(source)
        dead = kernels._waiting[source]
        run_sync(dead.manager.shutdown_kernel)(now=True)
        execute(source, tmp_path / "out" / "a.ipynb", {"given": 2}, kernels=kernels)
    assert "ran" in (tmp_path / "out" / "a.ipynb").read_text()


def test_what_was_not_taken_ends_with_the_context(tmp_path):
    source = write(tmp_path / "a.ipynb", "import time\ntime.sleep(60)")
    with pytest.raises(KeyboardInterrupt), Kernels(tmp_path) as kernels:
        kernels.prepare(source)
        waiting = kernels._waiting[source]
        pid = waiting.manager.provisioner.pid
        assert running(waiting)
        raise KeyboardInterrupt
    assert gone(pid)
