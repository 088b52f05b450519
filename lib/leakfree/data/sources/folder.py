"""Read a folder in the layout of the chest_xray distribution, or flat with Mendeley names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from leakfree.data.files import DICOM, DICOM_SUFFIXES, IMAGE_SUFFIXES, Entry, list_files
from leakfree.data.names import label_from_path, part_from_path
from leakfree.data.raw import Problem, RawImage, SourceError

#: Share of the images from which a folder is laid out as chest_xray; the rest are told as foreign.
_MOST = 0.9


def tells_classes(root: Path) -> bool:
    """Tell whether names and folders say the class of nearly all images, as those of chest_xray do.

    Raises
    ------
    SourceError
        If a folder cannot be read.
    """
    entries = list_files(root)
    images = [entry.file for entry in entries if entry.path.suffix.lower() in IMAGE_SUFFIXES]
    told = sum(label_from_path(file) is not None for file in images)
    return told >= _MOST * len(images) if images else not entries


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

    modules: tuple[str, ...] = ("leakfree/data/sources/folder", "leakfree/data/files", "leakfree/data/names")

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
