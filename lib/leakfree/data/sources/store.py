"""Read Deep Lake datasets in a process with limits: what is inside is not believed.

Chunks of a dataset are packed, and say themselves how much comes out of them. A store of our own is read once
in such a process before it is opened here; a dataset in the hub's format is only ever read there.
"""

from __future__ import annotations

import base64
import importlib
from pathlib import Path
from typing import Any

import numpy as np

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
    view = _asked(path, "")
    for column in view.schema.columns:
        for start in range(0, len(view), _CHUNK):
            rows = slice(start, min(start + _CHUNK, len(view)))
            values: Any = view[column.name]
            # Images are passed on as they are packed; nothing decodes them here.
            _ = values.get_bytes(rows) if column.name in ("images", "image") else values[rows]
    return len(view)


#: The dataset that this process read last.
_last: dict[tuple[str, str], Any] = {}


def described(path: str, token: str) -> dict[str, Any]:
    """Open a dataset anew; return its number of ``rows`` and the names of its ``columns``."""
    _last.clear()
    view = _opened(path, token)
    return {"rows": len(view), "columns": [column.name for column in view.schema.columns]}


def numbers(path: str, token: str, start: int, stop: int) -> list[list[Any]]:
    """Return the label of each row from `start` to before `stop`, and the values of its ``person_num``."""
    view, rows = _opened(path, token), slice(start, stop)
    labels, persons = (view[name][rows] for name in ("labels", "person_num"))
    return [
        [int(np.asarray(label).reshape(-1)[0]), np.asarray(person).reshape(-1).astype(np.int64).tolist()]
        for label, person in zip(labels, persons, strict=True)
    ]


def images(path: str, token: str, start: int, stop: int) -> list[str]:
    """Return the encoded image of each row from `start` to before `stop`, in base64."""
    blobs = _opened(path, token)["images"].get_bytes(slice(start, stop))
    return [base64.b64encode(bytes(blob)).decode() for blob in blobs]


def _opened(path: str, token: str) -> Any:
    if (path, token) not in _last:
        _last.clear()
        _last[path, token] = _asked(path, token)
    return _last[path, token]


def _asked(path: str, token: str) -> Any:
    """Query a dataset: what the hub has is of version 3, which version 4 cannot open."""
    import deeplake

    arguments: dict[str, Any] = {"token": token} if token else {}
    return deeplake.query('select * from "{}"'.format(path.replace('"', "")), **arguments)
