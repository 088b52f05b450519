"""What a run was made with: settings, data, versions, git state, machine. Never fails a run."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

#: Folder that holds the packages `leakfree` and `leakfree_study`.
_LIB = Path(__file__).parents[2]
#: Packages whose versions can change a number.
PACKAGES = (
    "leakfree",
    "deeplake",
    "faiss-cpu",
    "opencv-python-headless",
    "numpy",
    "pandas",
    "pillow",
    "scikit-learn",
    "scipy",
    "torch",
    "torchvision",
    "xgboost",
    "papermill",
    "nbconvert",
    "jupyter-book",
    "matplotlib",
    "seaborn",
)
#: What NVIDIA's driver shows on Linux, and under Windows in its Linux.
_GPU_FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")


def versions() -> dict[str, str]:
    """Return the version of Python and of each of `PACKAGES`, ``unknown`` where it is not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(name: str) -> str:
    try:
        return _read_once(name, metadata.version) or "unknown"
    except Exception:  # not installed, half removed, or read through another package's finder
        return "unknown"


@cache
def _read_once(name: str, read: Callable[[str], str]) -> str:
    """Read the version of a package; what is imported does not change while a process runs.

    Each reading parses the package's whole description, and every audit and every cell asks for all.
    """
    return read(name)


def git_state(project: Path) -> dict[str, Any]:
    """Return commit and whether tracked files differ from it; ``unknown`` outside a repository."""
    commit = _git(project, "rev-parse", "HEAD")
    changed = _git(project, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!artifacts")
    return {
        "commit": commit or "unknown",
        "changed_files": "unknown" if changed is None else sorted(line[3:] for line in changed.splitlines()),
    }


def _git(project: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(project), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.rstrip("\n")


def machine() -> dict[str, Any]:
    """Return what the numbers and durations depend on, without naming the machine."""
    model = "unknown"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or "unknown"
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "cpu": model,
        "accelerator": accelerator(),
    }


def accelerator() -> str:
    """Return the name of the CUDA device that PyTorch can use, ``none`` where there is no such device.

    PyTorch is asked where it is imported already, or where a driver's device file exists: its import takes
    seconds, which a machine without a GPU is spared.
    """
    if "torch" not in sys.modules and not any(Path(file).exists() for file in _GPU_FILES):
        return "none"
    try:
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    except Exception:  # no PyTorch, or a driver that does not fit it: the run could not use the GPU either
        return "none"


def library_digest() -> str:
    """Return a SHA-256 over the source of both packages: results are stale when it changes."""
    digest = hashlib.sha256()
    for package in ("leakfree", "leakfree_study"):
        for path in sorted((_LIB / package).rglob("*.py")):
            digest.update(path.relative_to(_LIB).as_posix().encode() + b"\n" + path.read_bytes())
    return digest.hexdigest()


def package_digest(modules: Sequence[str]) -> str:
    """Return a SHA-256 over the source of some modules, such as ``leakfree/data/images``."""
    digest = hashlib.sha256()
    for name in modules:
        digest.update(name.encode() + b"\n" + (_LIB / f"{name}.py").read_bytes())
    return digest.hexdigest()


def code_digest(modules: Sequence[str], packages: Sequence[str]) -> str:
    """Return a SHA-256 over some modules and the versions of some packages: what a cache was made by."""
    installed = {name: _version(name) for name in packages}
    return hashlib.sha256(json.dumps([package_digest(modules), installed]).encode()).hexdigest()
