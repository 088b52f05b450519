"""What a process keeps open of the file that it read last: a file is read block by block."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

_held: dict[tuple[Any, ...], Any] = {}


def opened(make: Callable[..., Any], path: str, *arguments: str) -> Any:
    """Return ``make(path, *arguments)``, kept until another file, or something else of it, is asked for."""
    stat = os.stat(path)
    key = (path, stat.st_size, stat.st_mtime_ns, make, *arguments)
    if key not in _held:
        _held.clear()
        _held[key] = make(path, *arguments)
    return _held[key]


def let_go(path: str) -> None:
    """Keep nothing of any other file."""
    if any(key[0] != path for key in _held):
        _held.clear()
