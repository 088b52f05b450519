"""The files below a folder, in one order, and which of them are images by name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from leakfree.data.raw import SourceError

IMAGE_SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".pgm"})
#: What the audit reads and a study does not, and what is said of it.
DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
DICOM = "DICOM, to be exported as PNG or JPEG"


@dataclass(frozen=True)
class Entry:
    """A file: path relative to the root, path, size in bytes (-1 if unknown) and modification time."""

    file: str
    path: Path
    size: int
    mtime_ns: int


def list_files(root: Path) -> list[Entry]:
    """List all files below a folder, sorted by relative path; links are followed.

    Raises
    ------
    SourceError
        If a folder cannot be read, or a link leads back to a folder above it.
    """
    root = Path(root)
    entries = []
    passed: dict[str, tuple[str, ...]] = {os.fspath(root): (os.path.realpath(root),)}
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=_refuse):
        chain = passed.pop(folder)  # real paths of the folders on the way here
        for sub in subfolders:
            target = os.path.realpath(os.path.join(folder, sub))
            passed[os.path.join(folder, sub)] = (*chain, target)
            above = os.path.join(target, "")  # with one separator at its end, also for the root
            if any(real == target or real.startswith(above) for real in chain):
                raise SourceError(f"{os.path.join(folder, sub)}: a link that leads back to a folder above it")
        subfolders.sort()
        for name in names:
            path = Path(folder, name)
            try:
                stat = path.stat()
                size, mtime_ns = stat.st_size, stat.st_mtime_ns
            except OSError:
                size, mtime_ns = -1, 0  # a dangling link: reported when it is read
            entries.append(Entry(path.relative_to(root).as_posix(), path, size, mtime_ns))
    # The hub's order is the sorted order of these paths (NORMAL before PNEUMONIA); the reference
    # study's random splits are only reproduced in it.
    return sorted(entries, key=lambda entry: entry.file)


def _refuse(error: OSError) -> None:
    raise SourceError(f"{error.filename}: {error.strerror}")
