"""A process that imports what notebooks import, and is forked for the kernel of each.

Most of the start of a kernel is spent on imports, and the notebooks of a run import nearly the same. A fork
has all that was imported before it.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from leakfree.base.errors import LeakfreeError

#: How an IPython kernel shows figures; ipykernel says so itself, but after what is imported here.
_FIGURES = "module://matplotlib_inline.backend_inline"


class ForkError(LeakfreeError):
    """The process that is to be forked has ended."""


def can_fork() -> bool:
    """Whether kernels can be forked: on Linux, where a process that is no child can be waited for."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


class Forked:
    """A process that another one was forked for, with the methods of `subprocess.Popen` that a manager calls.

    Parameters
    ----------
    pid : int
        Its number.
    """

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        #: 0 when it has ended: with what, only its parent is told.
        self.returncode: int | None = None
        self._handle = -1
        try:
            self._handle = os.pidfd_open(pid)
        except ProcessLookupError:
            self.returncode = 0

    def poll(self) -> int | None:
        """Return None while it runs."""
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._handle, select.POLLIN)
            if poll.poll(0):
                self.returncode = 0
                os.close(self._handle)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended.

        Raises
        ------
        subprocess.TimeoutExpired
            If it has not after `timeout` seconds.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.02)
        return 0

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class Forks:
    """The process that kernels are forked from; it ends when this process does.

    Parameters
    ----------
    environment : dict of str to str, optional
        Variables beside those of this process. A number of threads has to be said here: packages read it when
        they are imported.
    """

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        ours, theirs = socket.socketpair()
        figures = os.environ.get("MPLBACKEND") or _FIGURES
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                env={**os.environ, **(environment or {}), "MPLBACKEND": figures},
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._socket, self._lines = ours, ours.makefile("rw", encoding="utf-8")

    def imports(self, statements: str) -> None:
        """Have import statements executed; returns at once."""
        self._send({"imports": statements})

    def fork(self, command: list[str], cwd: Path | str, environment: dict[str, str]) -> Forked:
        """Fork a kernel, when what was to be imported is.

        Parameters
        ----------
        command : list of str
            As a process of its own would be started: ``python -m ipykernel_launcher`` and arguments.
        cwd : path
            Its working directory.
        environment : dict
            Its environment.

        Raises
        ------
        ForkError
            If the process to fork has ended.
        """
        self._send({"command": command, "cwd": str(cwd), "environment": environment})
        try:
            return Forked(int(self._lines.readline()))
        except (OSError, ValueError) as error:
            raise ForkError("the process to fork has ended") from error

    def _send(self, content: dict) -> None:
        try:
            self._lines.write(json.dumps(content) + "\n")
            self._lines.flush()
        except OSError as error:
            raise ForkError("the process to fork has ended") from error

    def close(self) -> None:
        """End the process; kernels that were forked and still run see that and end."""
        with suppress(OSError):
            self._lines.close()
        self._socket.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main(handle: int) -> None:
    """Import and fork as the socket `handle` says, until it is closed; a fork returns and is the kernel."""
    if sys.path and sys.path[0] in ("", os.getcwd()):  # as ipykernel_launcher does
        del sys.path[0]
    born: set[int] = set()

    def bury(*_: object) -> None:
        """Wait for those that have ended: nobody else can. What an import started it waits for itself."""
        for pid in list(born):
            if os.waitpid(pid, os.WNOHANG)[0]:
                born.discard(pid)

    signal.signal(signal.SIGCHLD, bury)
    wanted = socket.socket(fileno=handle)
    with wanted, wanted.makefile("rw", encoding="utf-8") as lines:
        import ipykernel.kernelapp  # noqa: F401

        while line := lines.readline():
            content = json.loads(line)
            if "imports" in content:
                _import(content["imports"])
                continue
            gc.freeze()  # else the garbage collector of each fork would copy all of it
            if pid := os.fork():
                born.add(pid)
                lines.write(f"{pid}\n")
                lines.flush()
                continue
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            break
        else:
            return
    _become(**content)


def _import(statements: str) -> None:
    """Execute import statements; one that fails will fail again in its cell."""
    for statement in statements.splitlines():
        with suppress(Exception):
            exec(statement, {})


def _become(command: list[str], cwd: str, environment: dict[str, str]) -> None:
    """Be the kernel that a command would start."""
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "pandas" in sys.modules:
        # Imported before there was a kernel, it takes the process for a terminal and leaves columns out.
        sys.modules["pandas"].set_option("display.max_columns", 20)
    sys.argv = command[command.index("-m") + 1 :]
    # It ends when the process does that it was forked from.
    IPKernelApp.launch_instance(parent_handle=os.getppid())


if __name__ == "__main__":
    main(int(sys.argv[1]))
