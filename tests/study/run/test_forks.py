"""Kernels are forked from a process that has imported what they import, and end with it."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from deferred import deferred
from small_notebooks import gone, write

with deferred:
    import nbformat

    from leakfree_study.run import forks as module
    from leakfree_study.run.forks import Forked, ForkError, Forks
    from leakfree_study.run.kernels import Kernels
    from leakfree_study.run.notebooks import NotebookError, execute

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system cannot wait for a fork")


def said(path):
    return "".join(out.get("text", "") for cell in nbformat.read(path, 4).cells for out in cell.outputs)


def ended(*pids):
    """Whether processes end within a minute; their parent may need a moment to notice."""
    deadline = time.monotonic() + 60
    while not (gone_all := all(map(gone, pids))) and time.monotonic() < deadline:
        time.sleep(0.1)
    return gone_all


def test_two_notebooks_run_in_forks_of_one_process_that_imports_once(tmp_path, monkeypatch):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "counted_import.py").write_text(
        "import os\nwith open(os.environ['COUNTED'], 'a') as file:\n    file.write(f'{os.getpid()}\\n')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    monkeypatch.setenv("COUNTED", str(tmp_path / "counted.txt"))
    work = tmp_path / "work"
    work.mkdir()
    look = (
        "import counted_import, random\nimport os, sys, signal, numpy.random\n"
        "print(os.getppid(), os.getcwd(), '' in sys.path, numpy.random.rand(), __name__,"
        " signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL, os.getsid(0) == os.getpid())"
    )
    draw = "import matplotlib.pyplot as plt\nplt.plot([1, 2]);"
    sources = [write(tmp_path / f"{name}.ipynb", look, draw) for name in "ab"]
    pids = []
    with Kernels(work, shared=True) as kernels:
        for source in sources:
            for coming in sources:
                kernels.prepare(coming)
            execute(source, tmp_path / "out" / source.name, {"given": 2}, kernels=kernels)
        pids.append(kernels._forks._process.pid)
    told = [said(tmp_path / "out" / source.name).split() for source in sources]
    assert (tmp_path / "counted.txt").read_text().split() == [str(pids[0])]
    for parent, place, first, _, name, *set_back in told:
        assert (int(parent), place, first, name) == (pids[0], str(work), "True", "__main__")
        assert set_back == ["True", "True"]
    assert told[0][3] != told[1][3], "both draw the same numbers"
    for source in sources:
        cell = nbformat.read(tmp_path / "out" / source.name, 4).cells[-1]
        assert [output.output_type for output in cell.outputs] == ["display_data"]  # the figure is shown
    assert gone(pids[0])


def test_an_import_that_fails_fails_in_its_cell_and_the_next_is_imported(tmp_path):
    bad = write(tmp_path / "a.ipynb", "import not_there_at_all")
    good = write(tmp_path / "b.ipynb", "import json\nprint(json.dumps(1))")
    with Kernels(tmp_path, shared=True) as kernels:
        with pytest.raises(NotebookError, match="cell 2 failed: ModuleNotFoundError"):
            execute(bad, tmp_path / "out" / "a.ipynb", {}, kernels=kernels)
        execute(good, tmp_path / "out" / "b.ipynb", {}, kernels=kernels)
    assert said(tmp_path / "out" / "b.ipynb") == "1\n"


def test_a_table_is_written_as_in_a_kernel_that_is_started(tmp_path):
    cells = (
        "import pandas as pd",
        "pd.DataFrame([[0] * 9], columns=[f'a column, number {n}' for n in range(9)])",
    )
    source = write(tmp_path / "a.ipynb", *cells)
    texts = []
    for shared in (False, True):
        with Kernels(tmp_path, shared=shared) as kernels:
            execute(source, tmp_path / str(shared) / "a.ipynb", {}, kernels=kernels)
        (shown,) = nbformat.read(tmp_path / str(shared) / "a.ipynb", as_version=4).cells[-1].outputs
        texts.append(shown["data"])
    assert texts[0] == texts[1] and "number 8" in texts[0]["text/plain"]


def test_where_the_process_to_fork_has_died_a_kernel_is_started(tmp_path):
    source = write(tmp_path / "a.ipynb", "import os\nprint(os.getppid())")
    with Kernels(tmp_path, shared=True) as kernels:
        execute(source, tmp_path / "out" / "a.ipynb", {}, kernels=kernels)
        dead = kernels._forks._process
        dead.kill()
        dead.wait()
        execute(source, tmp_path / "again" / "a.ipynb", {}, kernels=kernels)
        assert kernels._forks is None
    assert said(tmp_path / "out" / "a.ipynb") == f"{dead.pid}\n"
    assert said(tmp_path / "again" / "a.ipynb") == f"{os.getpid()}\n"


def test_where_nothing_can_be_forked_kernels_are_started(tmp_path, monkeypatch):
    monkeypatch.setattr("leakfree_study.run.kernels.can_fork", lambda: False)
    source = write(tmp_path / "a.ipynb", "import os\nprint(os.getppid())")
    with Kernels(tmp_path, shared=True) as kernels:
        execute(source, tmp_path / "out" / "a.ipynb", {}, kernels=kernels)
    assert said(tmp_path / "out" / "a.ipynb") == f"{os.getpid()}\n"


def test_a_kernel_ends_when_whoever_ran_it_is_killed(tmp_path):
    source = write(tmp_path / "a.ipynb", "x = 1")
    code = (
        "import sys, time; from pathlib import Path; from leakfree_study.run.kernels import Kernels\n"
        "kernels = Kernels(Path.cwd(), shared=True); kernel = kernels.take(Path(sys.argv[1]))\n"
        "kernel._client.get_shell_msg(timeout=120)\n"  # it answers, so it runs
        "print('pids', kernel.manager.provisioner.pid, kernels._forks._process.pid, flush=True)\n"
        "time.sleep(600)"
    )
    command, out = [sys.executable, "-c", code, str(source)], tmp_path / "said.txt"
    # Not a pipe: a kernel ends when it writes to one that nobody reads.
    with out.open("w") as file, subprocess.Popen(command, stdout=file, cwd=tmp_path) as run:
        while not (told := re.search(r"^pids (\d+) (\d+)\n", out.read_text(), re.MULTILINE)):
            assert run.poll() is None
            time.sleep(0.1)
        run.kill()
    assert ended(*map(int, told.groups()))


def test_a_kernel_that_is_closed_has_ended(tmp_path):
    source = write(tmp_path / "a.ipynb", "x = 1")
    with Kernels(tmp_path, shared=True) as kernels:
        kernel = kernels.take(source)
        pid = kernel.manager.provisioner.pid
        assert kernel.alive() and not gone(pid)
        kernel.close(now=True)
        assert not kernel.alive()
        assert ended(pid)


def test_a_forked_process_is_seen_to_run_and_to_end():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as child:
        seen = Forked(child.pid)
        assert seen.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            seen.wait(0.05)
        seen.terminate()
        assert seen.wait(60) == 0 and seen.poll() == 0
        assert child.wait() == -signal.SIGTERM
    seen.kill()  # says nothing, and hits no other process
    assert Forked(child.pid).poll() == 0


def test_a_process_that_ended_forks_nothing(tmp_path):
    forks = Forks()
    forks._process.kill()
    forks._process.wait()
    with pytest.raises(ForkError, match="has ended"):
        forks.fork(["python", "-m", "ipykernel_launcher"], tmp_path, {})
    forks.close()


def test_only_linux_forks(monkeypatch):
    assert module.can_fork() is (sys.platform == "linux")
    for system in ("darwin", "win32"):
        monkeypatch.setattr(module.sys, "platform", system)
        assert not module.can_fork()
