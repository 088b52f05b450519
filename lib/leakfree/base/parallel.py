"""Where parallel work runs: the cores of this machine, its processes, or a Dask cluster."""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leakfree.base.errors import LeakfreeError

if TYPE_CHECKING:  # an extra
    from distributed import Client

#: Packages whose versions decide the numbers, and which a worker must have in the same version.
PACKAGES = (
    "leakfree",
    "numpy",
    "scipy",
    "scikit-learn",
    "xgboost",
    "joblib",
    "pillow",
    "opencv-python-headless",
)


class SchedulerError(LeakfreeError):
    """The Dask cluster cannot be used; the message is one line that says where and why."""


def available_cores(cgroup: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Count the cores that this process may use: its affinity, and the quota of its container."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        cores = os.cpu_count() or 1
    try:
        quota, period = cgroup.read_text(encoding="ascii").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no container, or no quota ("max")
        return cores


@contextmanager
def workers(jobs: int, scheduler: str | None = None, *, timeout: float = 5.0) -> Iterator[int]:
    """Send joblib's work, such as the fits of a search, to workers for the length of a ``with`` block.

    The place never changes a result: every fit is seeded and runs on one thread.

    Parameters
    ----------
    jobs : int
        Local processes, at least 1. A cluster uses all its threads instead.
    scheduler : str, optional
        Address of a Dask scheduler, such as ``tcp://127.0.0.1:8786``. Without it, local processes.
    timeout : float
        Seconds to wait for the scheduler, and then for its first worker.

    Yields
    ------
    int
        Number of tasks that run at the same time.

    Raises
    ------
    ValueError
        If `jobs` is below 1.
    SchedulerError
        If the scheduler cannot be reached, has no worker, or a worker has other package versions.
    """
    from joblib import parallel_config  # a command that only counts cores is spared it

    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    if scheduler is None:
        with warnings.catch_warnings(), parallel_config(backend="loky", n_jobs=jobs):
            # loky replaces a process that has grown by 300 MB and says so; no work is lost by it,
            # and a process that dies raises TerminatedWorkerError.
            warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
            yield jobs
        return
    client = connect(scheduler, timeout)
    try:
        threads = sum(client.ncores().values())
        with parallel_config(backend="dask", client=client, n_jobs=threads):
            yield threads
    finally:
        client.close()


def connect(address: str, timeout: float = 5.0) -> Client:
    """Return a client of a cluster that is up, has a worker and computes with our versions.

    Raises
    ------
    SchedulerError
        As `workers`.
    """
    # Importing distributed takes about a second, which local runs need not spend.
    from distributed import Client

    quiet = logging.getLogger("distributed")
    level = quiet.level
    quiet.setLevel(logging.CRITICAL)  # its own account of a failure is a traceback, ours is one line
    try:
        client = Client(address, timeout=timeout, set_as_default=False)
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise SchedulerError(
            f"cannot reach a Dask scheduler at {address} within {timeout:g} s: {_one_line(error)}"
        ) from error
    finally:
        quiet.setLevel(level)
    try:
        client.wait_for_workers(1, timeout=timeout)
        problem = _version_problem(client.get_versions(packages=list(PACKAGES)))
    except TimeoutError:
        problem = f"no worker within {timeout:g} s"
    except OSError as error:
        problem = _one_line(error)
    except BaseException:
        client.close()
        raise
    if problem:
        client.close()
        raise SchedulerError(f"cannot use the Dask cluster at {address}: {problem}")
    return client


def _version_problem(versions: Any) -> str | None:
    """Name the first package that a worker lacks or has in another version, else None."""
    ours = versions["client"]["packages"]
    for worker, theirs in sorted(versions["workers"].items()):
        for package in PACKAGES:
            if theirs["packages"].get(package) != ours.get(package):
                return (
                    f"worker {worker} has {package} {theirs['packages'].get(package)}, "
                    f"this process has {ours.get(package)}"
                )
    return None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def die_with_parent(parent: int, every: float = 2.0) -> None:
    """End this process when its parent is gone, instead of computing on for nobody.

    A notebook that is killed leaves its worker processes behind; they would go on to write into a run
    folder that a resumed run already works on.

    Parameters
    ----------
    parent : int
        Process id that started the worker.
    every : float
        Seconds between looks.
    """
    if os.name == "nt":  # there a process keeps the number of a parent that is gone
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="die-with-parent").start()
