"""Read a dataset in the hub's format (``hub://activeloop/chest-xray-train``) through Deep Lake 4.

The hub's data is Deep Lake version 3, which version 4 cannot ``open``; a query reads it.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from leakfree.data.raw import Problem, RawImage, SourceError

#: ``labels`` of the hub: class index to label.
HUB_LABELS = {0: "normal", 1: "bacterial", 2: "viral"}
_COLUMNS = ("images", "labels", "person_num")
_CHUNK = 256
#: For a storage other than the hub to answer at all.
ANSWER_SECONDS = 20


def is_deeplake(path: Path) -> bool:
    """Tell whether a folder is a Deep Lake dataset, of version 3 or 4."""
    return (path / "dataset_meta.json").is_file() or (path / "_deeplake_log").is_dir()


class HubSource:
    """Rows of a dataset with the tensors ``images``, ``labels`` and ``person_num``.

    Parameters
    ----------
    address : str
        A ``hub://`` address (or any that Deep Lake reads), or a local path.
    token : str, optional
        Activeloop token for private data; without it, the variable ``ACTIVELOOP_TOKEN`` if it is set.

    Raises
    ------
    SourceError
        If the dataset cannot be reached or lacks a tensor.
    """

    modules: tuple[str, ...] = ("leakfree/data/sources/hub",)

    def __init__(self, address: str, token: str | None = None) -> None:
        import deeplake

        token = token or os.environ.get("ACTIVELOOP_TOKEN")
        self.address = address
        self.name = (
            re.sub(
                r"[^A-Za-z0-9_.-]+",
                "-",
                (Path(address).resolve().as_posix() if is_deeplake(Path(address)) else address)
                .rstrip("/")
                .rsplit("/", 1)[-1],
            )
            or "hub"
        )
        query = 'select * from "{}"'.format(address.replace('"', ""))
        if "://" in address and not address.startswith("hub://"):
            _refuse_silent(address, query)
        try:
            arguments: dict[str, Any] = {"token": token} if token else {}
            self._view = deeplake.query(query, **arguments)
        except Exception as error:  # deeplake raises bare RuntimeErrors whose text spans lines
            raise SourceError(f"{address}: cannot be read: {_reason(error)}") from error
        columns = {column.name for column in self._view.schema.columns}
        missing = [name for name in _COLUMNS if name not in columns]
        if missing:
            raise SourceError(
                f"{address}: has no tensor {', '.join(missing)}; found {', '.join(sorted(columns))}"
            )
        match = re.search(r"(?<![a-z])(train|val|test)(?![a-z])", self.name)
        self._part = match[1] if match else "train"

    def __len__(self) -> int:
        return len(self._view)

    def __iter__(self) -> Iterator[RawImage | Problem]:
        for start in range(0, len(self), _CHUNK):
            rows = slice(start, min(start + _CHUNK, len(self)))
            blobs = self._view["images"].get_bytes(rows)
            labels = np.asarray(self._view["labels"][rows]).reshape(-1)
            numbers: Any = self._view["person_num"][rows]
            for offset, (blob, label, number) in enumerate(zip(blobs, labels, numbers, strict=True)):
                file = f"row-{start + offset:05d}"
                number = np.asarray(number).reshape(-1)
                if int(label) not in HUB_LABELS:
                    yield Problem(file, f"foreign: label {int(label)} is none of {sorted(HUB_LABELS)}")
                elif not len(blob):
                    yield Problem(file, "empty")
                else:
                    person = int(number[0]) if number.size else None
                    yield RawImage(file, bytes(blob), HUB_LABELS[int(label)], self._part, person)

    def fingerprint(self) -> str:
        """Return a digest over address, number of rows, labels and person numbers."""
        digest = hashlib.sha256(f"{self.address}\n{len(self)}\n".encode())
        digest.update(np.asarray(self._view["labels"][:]).astype(np.int64).tobytes())
        numbers: Any = self._view["person_num"][:]
        for number in numbers:
            digest.update(np.asarray(number).astype(np.int64).tobytes() + b";")
        return digest.hexdigest()


def _refuse_silent(address: str, query: str) -> None:
    """Raise where a storage does not answer: Deep Lake would try for minutes, and nothing interrupts it."""
    command = [sys.executable, "-P", "-c", "import sys, deeplake; deeplake.query(sys.argv[1])", query]
    try:
        # Where it answers that it cannot, we ask again and say why.
        subprocess.run(command, capture_output=True, timeout=ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise SourceError(
            f"{address}: no answer in {ANSWER_SECONDS} s: see the address, the network and the credentials"
        ) from error


def _reason(error: Exception) -> str:
    """Make one short line of Deep Lake's report, which repeats itself for every kind of storage it tried."""
    text = " ".join(str(error).split())
    if host := re.search(r"Could not resolve host: (\S+)", text):
        return f"offline, could not resolve the host {host[1]}"
    return text.split(" Errors from all sources")[0][:200]
