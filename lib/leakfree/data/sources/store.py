"""Read all of a Deep Lake dataset once in a process with limits, before anything of it is read here.

Chunks of a dataset are packed, and say themselves how much comes out of them. So a dataset that somebody
sends is not believed: what takes more time or memory than its files allow is refused.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from leakfree.data import bounded
from leakfree.data.images import ImageError
from leakfree.data.raw import SourceError

#: Imported before the limits hold, see `leakfree.data.decoder`.
PACKAGE = "deeplake"
#: Rows that are read together, as by the readers of datasets.
_CHUNK = 256


def refuse_bomb(path: Path) -> None:
    """Refuse a dataset on this disk that takes more time or memory than its size allows.

    Raises
    ------
    leakfree.data.raw.SourceError
        One line, also for a dataset that cannot be read at all.
    """
    importlib.import_module(PACKAGE)  # what is not installed is no fault of the dataset
    try:
        bounded.call(__name__, "read_all", str(path))
    except ImageError as error:
        reason = str(error).split(" Errors from all sources")[0][:300]
        raise SourceError(f"{path}: cannot be read: {reason}") from error


def read_all(path: str) -> int:
    """Read every value of a dataset, some rows at a time, and return how many rows there are."""
    import deeplake

    view = deeplake.query('select * from "{}"'.format(path.replace('"', "")))
    for column in view.schema.columns:
        for start in range(0, len(view), _CHUNK):
            rows = slice(start, min(start + _CHUNK, len(view)))
            values: Any = view[column.name]
            # Images are passed on as they are packed; nothing decodes them here.
            _ = values.get_bytes(rows) if column.name in ("images", "image") else values[rows]
    return len(view)
