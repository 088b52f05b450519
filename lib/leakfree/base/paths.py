"""Folders: of the compendium, and of what is kept between runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def project_root(start: Path | None = None) -> Path:
    """Find the folder of the compendium (with ``run_all.py``) at or above `start`, else `start` itself."""
    start = Path(start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "run_all.py").is_file() and (folder / "notebooks").is_dir():
            return folder
    return start


def cache_folder(project: Path) -> Path:
    """Folder of cohort stores and decoded pixels: ``LEAKFREE_CACHE``, or ``.cache`` of the project."""
    return Path(os.environ.get("LEAKFREE_CACHE") or project / ".cache")


def user_cache() -> Path:
    """Folder of what is kept between audits of a user: ``LEAKFREE_CACHE``, or where the system has caches."""
    if named := os.environ.get("LEAKFREE_CACHE"):
        return Path(named)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "leakfree"


def published_run() -> Path:
    """Return the folder of the published run: where the command runs, else in this package's checkout."""
    published = Path("artifacts", "chest_xray")
    return published if published.is_dir() else Path(__file__).resolve().parents[3] / published
