"""Read a folder in the layout of the chest_xray distribution, or flat with Mendeley names."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from leakfree.data.sources.base import Problem, RawImage, SourceError

IMAGE_SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".pgm"})
#: What the audit reads and a study does not, and what is said of it.
DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
DICOM = "DICOM, to be exported as PNG or JPEG"
_PARTS = {"train": "train", "val": "val", "test": "test"}
_CLASS_FOLDERS = {"normal": "normal", "pneumonia": "pneumonia"}
_ETIOLOGY = {"bacteria": "bacterial", "virus": "viral"}


@dataclass(frozen=True)
class Entry:
    """A file: path relative to the root, path, size in bytes (-1 if unknown) and modification time."""

    file: str
    path: Path
    size: int
    mtime_ns: int


def label_from_path(file: str) -> str | None:
    """Read the label out of a relative path.

    The class folder decides between normal and pneumonia; the name adds the etiology
    (``person1_bacteria_2.jpeg``, ``BACTERIA-1008087-0001.jpeg``). Without a class folder the name
    decides alone.

    Parameters
    ----------
    file : str
        Relative path with forward slashes.

    Returns
    -------
    str or None
        A label of `leakfree.data.sources.base.LABELS`, None if neither folder nor name tells it.
    """
    *folders, name = file.split("/")
    found = [_CLASS_FOLDERS[f.lower()] for f in folders if f.lower() in _CLASS_FOLDERS]
    from_folder = found[-1] if found else None
    match = re.match(r"^(?:person\d+_)?(bacteria|virus)[_-]", name, flags=re.IGNORECASE)
    etiology = _ETIOLOGY[match[1].lower()] if match else None
    if from_folder == "normal":
        return "normal"
    if from_folder == "pneumonia":
        return etiology or "pneumonia"
    if etiology:
        return etiology
    if re.match(r"^(?:NORMAL2?-|IM-\d)", name):
        return "normal"
    return None


def part_from_path(file: str) -> str:
    """Return the part that a folder of the path names, ``unsplit`` if none does."""
    found = [_PARTS[f.lower()] for f in file.split("/")[:-1] if f.lower() in _PARTS]
    return found[0] if found else "unsplit"


def list_files(root: Path) -> list[Entry]:
    """List all files below a folder, sorted by relative path; links are followed.

    Raises
    ------
    SourceError
        If a folder cannot be read, or a link leads back to a folder above it.
    """
    root = Path(root)
    entries = []
    passed = {os.fspath(root): (os.path.realpath(root),)}
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


class FolderSource:
    """A folder of image files.

    Parameters
    ----------
    root : pathlib.Path
        ``{train,val,test}/{NORMAL,PNEUMONIA}/*``, or any tree whose names tell the label.

    Raises
    ------
    SourceError
        If the folder holds no file, or its links run in a loop.
    """

    modules = ("leakfree/data/sources/folder",)

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.name = re.sub(r"[^A-Za-z0-9_.-]+", "-", self.root.resolve().name).lstrip(".-") or "folder"
        self._entries = list_files(self.root)
        if not self._entries:
            raise SourceError(f"{root}: the folder holds no file")

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[RawImage | Problem]:
        for entry in self._entries:
            yield self._read(entry)

    def _read(self, entry: Entry) -> RawImage | Problem:
        if entry.path.suffix.lower() not in IMAGE_SUFFIXES:
            told = f": {DICOM}" if entry.path.suffix.lower() in DICOM_SUFFIXES else ""
            return Problem(entry.file, f"foreign: not the name of an image{told}")
        label = label_from_path(entry.file)
        if label is None:
            return Problem(entry.file, "foreign: neither folder nor name tells the class")
        if entry.path.exists() and not entry.path.is_file():
            return Problem(entry.file, "foreign: not a regular file")
        try:
            data = entry.path.read_bytes()
        except OSError as error:
            return Problem(entry.file, f"unreadable: {error.strerror or error}")
        if not data:
            return Problem(entry.file, "empty")
        return RawImage(entry.file, data, label, part_from_path(entry.file))

    def fingerprint(self) -> str:
        """Return a digest over names, sizes and modification times."""
        digest = hashlib.sha256()
        for entry in self._entries:
            digest.update(
                f"{entry.file}\t{entry.size}\t{entry.mtime_ns}\n".encode("utf-8", "surrogateescape")
            )
        return digest.hexdigest()


def _refuse(error: OSError) -> None:
    raise SourceError(f"{error.filename}: {error.strerror}")
