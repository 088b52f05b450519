"""Kernels that are started before their turn, and have imported by then what their notebook imports."""

from __future__ import annotations

import ast
import os
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import nbformat
from jupyter_client import AsyncKernelManager, BlockingKernelClient
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_core.utils import run_sync

from leakfree.base.errors import LeakfreeError
from leakfree_study.run.forks import ForkError, Forks, can_fork

#: Kernels say at their start that TCP is not encrypted; these listen on this machine alone.
_QUIET = ["--IPKernelApp.log_level=ERROR"]


class KernelError(LeakfreeError):
    """No kernel is given any more: the run has ended."""


class _Manager(AsyncKernelManager):
    """A manager that knows its clients: who runs a notebook in a kernel of others leaves its own one open."""

    def __init__(self, *, forks: Forks | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.clients: list[AsyncKernelClient] = []
        self._forks = forks

    async def _async_launch_kernel(self, kernel_cmd: list[str], **settings: Any) -> None:
        """Fork the kernel where there is a process to fork; else start a process."""
        if self._forks is None or "ipykernel_launcher" not in kernel_cmd:
            await super()._async_launch_kernel(kernel_cmd, **settings)
            return
        made = self.provisioner
        made.process = self._forks.fork(kernel_cmd, settings["cwd"], settings["env"])
        # It leads a group of its own, or will in a moment.
        made.pid = made.pgid = made.process.pid
        made.cwd = settings["cwd"]
        self._reconcile_connection_info(made.connection_info)

    _launch_kernel = _async_launch_kernel

    def client(self, **settings: Any) -> AsyncKernelClient:
        made = super().client(**settings)
        self.clients.append(made)
        return made


class Kernel:
    """A kernel that has begun to import what a notebook imports.

    Parameters
    ----------
    source : pathlib.Path
        Notebook that will run in it.
    cwd : pathlib.Path
        Its working directory.
    forks : Forks, optional
        What it is forked from.
    environment : dict of str to str, optional
        Variables beside those of this process.
    """

    def __init__(
        self,
        source: Path,
        cwd: Path,
        forks: Forks | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        notebook = nbformat.read(source, as_version=4)
        name = notebook.metadata.get("kernelspec", {}).get("name", "python3")
        self.manager = _Manager(kernel_name=name, forks=forks)
        run_sync(self.manager.start_kernel)(
            cwd=str(cwd), extra_arguments=_QUIET, env={**os.environ, **(environment or {})}
        )
        self._client = BlockingKernelClient()
        self._client.load_connection_info(self.manager.get_connection_info())
        self._client.start_channels(iopub=False, stdin=False, hb=False, control=False)
        # Nobody waits for the answer: an import that fails will fail again in its cell.
        self._client.execute(imports_of(notebook), silent=True)

    def alive(self) -> bool:
        """Whether its process runs."""
        return run_sync(self.manager.is_alive)()

    def kill(self) -> None:
        """End its process, from whatever thread; who runs a notebook in it sees that the kernel died."""
        with suppress(Exception):
            self.manager.provisioner.process.kill()

    def close(self, *, now: bool = False) -> None:
        """End the kernel; with `now`, whatever it is doing."""
        for client in (self._client, *self.manager.clients):
            client.stop_channels()
        run_sync(self.manager.shutdown_kernel)(now=now)


class Kernels:
    """Kernels of the notebooks of a run; a context that ends those that were not taken.

    Importing takes a kernel several seconds, which is most of the time of a small notebook. So what the next
    one imports is imported while this one runs: by a kernel that waits for its turn or, where kernels share
    their imports, by the process that all of them are forked from.

    Parameters
    ----------
    cwd : pathlib.Path
        Working directory of the kernels.
    shared : bool
        Fork the kernels from one process where the system can. Its memory is kept until the last one ends.
    threads : int
        Threads that the packages of a kernel take; 0 leaves that to them. Kernels side by side that take all
        cores each wait for one another.
    """

    def __init__(self, cwd: Path, *, shared: bool = False, threads: int = 0) -> None:
        self._cwd = cwd
        # A number that the user gave stands.
        wanted = threads and "OMP_NUM_THREADS" not in os.environ
        self._environment = {"OMP_NUM_THREADS": str(threads)} if wanted else {}
        #: Notebooks may be run in several threads.
        self._one = threading.Lock()
        self._running: list[Kernel] = []
        self._over = False
        self._waiting: dict[Path, Kernel] = {}
        self._shared = shared and can_fork()
        self._forks: Forks | None = None
        self._next: list[Path] = []

    def prepare(self, *sources: Path) -> None:
        """Have imported what notebooks import, unless that was begun before.

        Where nothing is forked, that is a process each: only the first gets one, and only while none waits.
        """
        with self._one:
            if self._shared:
                self._next += sources
            elif sources and not self._waiting:
                self._waiting[sources[0]] = self._started(sources[0])

    def take(self, source: Path) -> Kernel:
        """Return the kernel that was prepared for a notebook, or a new one; who takes it closes it.

        Raises
        ------
        KernelError
            After `kill`.
        """
        with self._one:
            if self._over:
                raise KernelError(f"{source.name}: the run has ended")
            kernel = self._take(source)
            self._running.append(kernel)
            return kernel

    def _take(self, source: Path) -> Kernel:
        if self._shared:
            try:
                return self._fork(source)
            except ForkError:
                self._end_forks()
                self._shared = False
        kernel = self._waiting.pop(source, None)
        if kernel is not None and kernel.alive():
            return kernel
        if kernel is not None:
            kernel.close(now=True)
        return self._started(source)

    def _started(self, source: Path) -> Kernel:
        return Kernel(source, self._cwd, environment=self._environment)

    def _fork(self, source: Path) -> Kernel:
        """Fork a kernel that has its imports, then have those of the next ones begun."""
        if self._forks is None:
            self._forks = Forks(self._environment)
        self._forks.imports(imports_of(nbformat.read(source, as_version=4)))
        kernel = Kernel(source, self._cwd, self._forks, self._environment)
        for coming in self._next:
            self._forks.imports(imports_of(nbformat.read(coming, as_version=4)))
        self._next.clear()
        return kernel

    def _end_forks(self) -> None:
        if self._forks is not None:
            self._forks.close()
            self._forks = None

    def kill(self) -> None:
        """End the kernels that were taken, whatever they are doing, and give no other."""
        with self._one:
            self._over = True
            for kernel in self._running:
                kernel.kill()

    def __enter__(self) -> Kernels:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for kernel in self._waiting.values():
            kernel.close(now=True)
        self._waiting.clear()
        self._end_forks()


def imports_of(notebook: nbformat.NotebookNode) -> str:
    r"""Return the import statements of a notebook's cells, one a line.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        Cells that are no plain Python, such as those with a magic, are passed over.

    Examples
    --------
    >>> from nbformat.v4 import new_code_cell, new_notebook
    >>> imports_of(new_notebook(cells=[new_code_cell("import math\nx = math.pi"), new_code_cell("%time 1")]))
    'import math'
    """
    found = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        try:
            statements = ast.parse(cell.source).body
        except SyntaxError:
            continue
        found += [ast.unparse(one) for one in statements if isinstance(one, ast.Import | ast.ImportFrom)]
    return "\n".join(found)
