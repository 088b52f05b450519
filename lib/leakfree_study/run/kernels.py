"""Kernels that are started before their turn, and have imported by then what their notebook imports."""

from __future__ import annotations

import ast
from pathlib import Path
from types import TracebackType
from typing import Any

import nbformat
from jupyter_client import AsyncKernelManager, BlockingKernelClient
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_core.utils import run_sync

#: Kernels say at their start that TCP is not encrypted; these listen on this machine alone.
_QUIET = ["--IPKernelApp.log_level=ERROR"]


class _Manager(AsyncKernelManager):
    """A manager that knows its clients: who runs a notebook in a kernel of others leaves its own one open."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.clients: list[AsyncKernelClient] = []

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
    """

    def __init__(self, source: Path, cwd: Path) -> None:
        notebook = nbformat.read(source, as_version=4)
        name = notebook.metadata.get("kernelspec", {}).get("name", "python3")
        self.manager = _Manager(kernel_name=name)
        run_sync(self.manager.start_kernel)(cwd=str(cwd), extra_arguments=_QUIET)
        self._client = BlockingKernelClient()
        self._client.load_connection_info(self.manager.get_connection_info())
        self._client.start_channels(iopub=False, stdin=False, hb=False, control=False)
        # Nobody waits for the answer: an import that fails will fail again in its cell.
        self._client.execute(imports_of(notebook), silent=True)

    def alive(self) -> bool:
        """Whether its process runs."""
        return run_sync(self.manager.is_alive)()

    def close(self, *, now: bool = False) -> None:
        """End the kernel; with `now`, whatever it is doing."""
        for client in (self._client, *self.manager.clients):
            client.stop_channels()
        run_sync(self.manager.shutdown_kernel)(now=now)


class Kernels:
    """Kernels of notebooks that run one after another; a context that ends those that were not taken.

    Importing takes a kernel several seconds, which is most of the time of a small notebook. So the kernel of
    the next one is prepared while this one runs.

    Parameters
    ----------
    cwd : pathlib.Path
        Working directory of the kernels.
    """

    def __init__(self, cwd: Path) -> None:
        self._cwd = cwd
        self._waiting: dict[Path, Kernel] = {}

    def prepare(self, source: Path) -> None:
        """Start a kernel for the notebook `source`, unless one is waiting for it."""
        if source not in self._waiting:
            self._waiting[source] = Kernel(source, self._cwd)

    def take(self, source: Path) -> Kernel:
        """Return the kernel that was prepared for a notebook, or a new one; who takes it closes it."""
        kernel = self._waiting.pop(source, None)
        if kernel is not None and kernel.alive():
            return kernel
        if kernel is not None:
            kernel.close(now=True)
        return Kernel(source, self._cwd)

    def __enter__(self) -> Kernels:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for kernel in self._waiting.values():
            kernel.close(now=True)
        self._waiting.clear()


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
