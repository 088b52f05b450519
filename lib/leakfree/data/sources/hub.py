"""Read a dataset in the hub's format (``hub://activeloop/chest-xray-train``) through Deep Lake 4.

Whatever it holds is read in a process with limits (`leakfree.data.sources.store`), from a disk or an address.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from leakfree.data import bounded
from leakfree.data.images import ImageError
from leakfree.data.intake import TooLargeError
from leakfree.data.raw import Problem, RawImage, SourceError
from leakfree.data.sources import store

#: ``labels`` of the hub: class index to label.
HUB_LABELS = {0: "normal", 1: "bacterial", 2: "viral"}
_COLUMNS = ("images", "labels", "person_num")
#: Rows whose images, and whose numbers, are asked for together.
_CHUNK, _NUMBERS = 32, 10_000
#: Rows that a dataset may say it has, and of these such as take more time or memory than a few rows may.
MOST_ROWS, MOST_REFUSED = 10_000_000, 10
#: For a storage other than the hub to answer at all: Deep Lake would try for minutes.
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

    modules: tuple[str, ...] = ("leakfree/data/sources/hub", "leakfree/data/sources/store")

    def __init__(self, address: str, token: str | None = None) -> None:
        import_module(store.PACKAGE)  # what is not installed is no fault of the dataset
        self._token = token or os.environ.get("ACTIVELOOP_TOKEN") or ""
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
        waiting = bounded.is_address(address) and not address.startswith("hub://")
        try:
            found = self._ask("described", clock=ANSWER_SECONDS if waiting else None)
        except bounded.SilentError as error:
            told = f"no answer in {ANSWER_SECONDS} s" if waiting else "no answer"
            raise SourceError(
                f"{address}: {told}: see the address, the network and the credentials"
            ) from error
        except ImageError as error:
            raise SourceError(f"{address}: cannot be read: {_reason(error)}") from error
        missing = [name for name in _COLUMNS if name not in found["columns"]]
        if missing:
            raise SourceError(
                f"{address}: has no tensor {', '.join(missing)}; found {', '.join(sorted(found['columns']))}"
            )
        self._rows, self._refused = found["rows"], 0
        if self._rows > MOST_ROWS:
            raise SourceError(f"{address}: cannot be read: {self._rows:,} rows are over {MOST_ROWS:,}")
        match = re.search(r"(?<![a-z])(train|val|test)(?![a-z])", self.name)
        self._part = match[1] if match else "train"

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[RawImage | Problem]:
        for start in range(0, len(self), _CHUNK):
            stop = min(start + _CHUNK, len(self))
            for offset, (blob, label, number) in enumerate(self._read(start, stop)):
                file = f"row-{start + offset:05d}"
                if isinstance(blob, str):
                    yield Problem(file, f"corrupt: {blob}")
                elif label not in HUB_LABELS:
                    yield Problem(file, f"foreign: label {label} is none of {sorted(HUB_LABELS)}")
                elif not blob:
                    yield Problem(file, "empty")
                else:
                    yield RawImage(file, blob, HUB_LABELS[label], self._part, number[0] if number else None)

    def _read(self, start: int, stop: int) -> list[tuple[bytes | str, int, list[int]]]:
        """Read some rows; of an image that takes too much, the reason stands in its place."""
        try:
            numbers, blobs = self._ask("numbers", start, stop), self._images(start, stop)
        except ImageError as error:
            raise SourceError(
                f"{self.address}: rows from {start}: cannot be read: {_reason(error)}"
            ) from error
        if not len(blobs) == len(numbers) == stop - start:
            raise SourceError(f"{self.address}: rows from {start}: not as many as it says")
        return [(blob, *row) for blob, row in zip(blobs, numbers, strict=True)]

    def _images(self, start: int, stop: int) -> list[bytes | str]:
        try:
            return [base64.b64decode(blob) for blob in self._ask("images", start, stop)]
        except bounded.SilentError:
            raise  # nor would it answer for fewer
        except TooLargeError as error:
            if stop - start == 1:
                self._refused += 1
                if self._refused > MOST_REFUSED:
                    raise
                return [str(error)]
        # Halves: the one row that is too large, and not the others.
        middle = (start + stop) // 2
        return self._images(start, middle) + self._images(middle, stop)

    def _ask(self, function: str, *rows: int, clock: float | None = None) -> Any:
        return bounded.call(store.__name__, function, self.address, self._token, *rows, clock=clock)

    def fingerprint(self) -> str:
        """Return a digest over address, number of rows, labels and person numbers."""
        digest = hashlib.sha256(f"{self.address}\n{len(self)}\n".encode())
        rows = []
        try:
            for start in range(0, len(self), _NUMBERS):
                rows += self._ask("numbers", start, min(start + _NUMBERS, len(self)))
        except ImageError as error:
            raise SourceError(f"{self.address}: cannot be read: {_reason(error)}") from error
        digest.update(np.array([label for label, _ in rows], np.int64).tobytes())
        for _, number in rows:
            digest.update(np.array(number, np.int64).tobytes() + b";")
        return digest.hexdigest()


def _reason(error: Exception) -> str:
    """Make one short line of Deep Lake's report, which repeats itself for every kind of storage it tried."""
    text = " ".join(str(error).split())
    if host := re.search(r"Could not resolve host: (\S+)", text):
        return f"offline, could not resolve the host {host[1]}"
    return text.split(" Errors from all sources")[0][:200]
