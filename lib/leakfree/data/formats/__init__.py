"""Formats of images, one file each: `FORMATS` is the list that a new one is added to."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from leakfree.data import bounded
from leakfree.data.decoder import MOST_BYTES
from leakfree.data.files import IMAGE_SUFFIXES, list_files
from leakfree.data.formats.base import FormatError
from leakfree.data.images import ImageError
from leakfree.data.raw import Item, Problem

__all__ = ["FORMATS", "FormatError", "Item", "ItemReader", "list_items", "of_file"]

#: Modules of this package, in the order in which they are asked.
FORMATS = ("dicom", "nifti", "frames", "archive", "npz", "hdf5", "arrow")
#: Endings of plain image files; more than a cohort takes, since an audit only reads.
PLAIN = IMAGE_SUFFIXES | {".jfif", ".jpe", ".jp2", ".j2k", ".ppm", ".pnm", ".avif"}
#: Plain image files that may hold several pictures.
_FRAMES = {".tif", ".tiff", ".gif"}
#: Files that systems leave behind.
_SYSTEM = {".ds_store", "thumbs.db", "desktop.ini", ".localized", "icon\r"}
#: Most images of a file, and one more for so many of its bytes.
MOST_IMAGES, BYTES_OF_IMAGE = 10_000, 16


@lru_cache
def module(name: str) -> ModuleType:
    """Return the module of a format."""
    return importlib.import_module(f"leakfree.data.formats.{name}")


def _suffix(name: str) -> str:
    low = name.lower()
    return ".nii.gz" if low.endswith(".nii.gz") else Path(low).suffix


def of_file(path: Path) -> str:
    """Return the format that reads a file, empty if none does: by its ending, or by its first bytes."""
    suffix = _suffix(path.name)
    for name in FORMATS:
        if suffix in module(name).SUFFIXES:
            return "" if suffix == ".parquet" and not _holds_images(str(path)) else name
    # A pipe would wait for ever.
    if (not suffix or suffix[1:].isdigit()) and path.is_file():
        try:
            with open(path, "rb") as stream:
                head = stream.read(132)
        except OSError:
            return ""
        if head[128:] == b"DICM" and "dicom" in FORMATS:
            return "dicom"
    return ""


def _holds_images(path: str) -> bool:
    """Whether a Parquet file is more than a table; what cannot be read at all is none."""
    try:
        return not missing_package("arrow") and bounded.call(module("arrow").__name__, "holds_images", path)
    except ImageError:
        return False


def missing_package(name: str) -> str:
    """Return the package that a format lacks here, empty if it can read."""
    package = module(name).PACKAGE
    return package if package and importlib.util.find_spec(package) is None else ""


def list_items(root: Path) -> tuple[list[Item], list[Problem]]:
    """List the images below a folder, sorted by name, and all other files with the reason.

    Raises
    ------
    leakfree.data.raw.SourceError
        As `leakfree.data.files.list_files`.
    """
    items: list[Item] = []
    problems: list[Problem] = []
    for entry in list_files(root):
        if (reason := _left_out(entry.path, entry.file)) is not None:
            problems.append(Problem(entry.file, reason))
        elif entry.path.suffix.lower() in PLAIN and entry.path.suffix.lower() not in _FRAMES:
            items.append(Item(entry.file, str(entry.path)))
        else:
            found, wrong = file_items(entry.path, entry.file)
            items += found
            problems += wrong
    return items, problems


def file_items(path: Path, file: str) -> tuple[list[Item], list[Problem]]:
    """List the images of one file that is no plain image."""
    name = of_file(path)
    if not name:
        return [], [Problem(file, "foreign: not the name of an image")]
    if package := missing_package(name):
        told = f"{module(name).NAME}, which `pip install {package}` lets it read"
        return [], [Problem(file, f"foreign: not the name of an image: {told}")]
    try:
        if path.exists() and not path.is_file():
            return [], [Problem(file, "foreign: not a regular file")]  # a pipe would wait for ever
        with open(path, "rb"):
            pass
    except OSError as error:
        return [], [Problem(file, f"unreadable: {error.strerror or error}")]
    try:
        told = bounded.call(module(name).__name__, "items", str(path), file)
        found = [Item._make([*one[:-1], tuple(map(tuple, one[-1]))])._replace(path=str(path)) for one in told]
    except ImageError as error:
        return [], [Problem(file, f"corrupt: {error}")]
    if len(found) > (most := MOST_IMAGES + bounded.size_on_disk(str(path)) // BYTES_OF_IMAGE):
        told = f"{len(found):,} images, more than the {most:,} that a file of its size holds"
        return [], [Problem(file, f"corrupt: {told}: split it, or remove it")]
    if not found:
        return [], [Problem(file, "foreign: not the name of an image: no picture inside")]
    return found, []


def _left_out(path: Path, file: str) -> str | None:
    """Say why a file of the system is left out; None if it is not."""
    name = path.name
    if name.lower() in _SYSTEM or file.startswith("__MACOSX/") or "/__MACOSX/" in file:
        return "foreign: not the name of an image: left behind by the system"
    if name.startswith("._") and path.is_file():
        try:
            with open(path, "rb") as stream:
                if stream.read(4) in (b"\0\5\x16\7", b"\0\5\x16\0"):
                    return "foreign: not the name of an image: left behind by the system"
        except OSError:
            return None
    return None


@dataclass(frozen=True)
class ItemReader:
    """Reads the pictures of items; can be sent to another process.

    Attributes
    ----------
    ids : tuple of str
    files : tuple of str
        Files on disk.
    formats, keys : tuple of str
        As `Item`.
    """

    ids: tuple[str, ...]
    files: tuple[str, ...]
    formats: tuple[str, ...]
    keys: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Files that are one image each; empty for an image inside a file."""
        return tuple("" if key else path for path, key in zip(self.files, self.keys, strict=True))

    @property
    def places(self) -> Iterator[tuple[str, str, str]]:
        """File on disk, format and key of each image: what is kept of it between runs goes by these."""
        return zip(self.files, self.formats, self.keys, strict=True)

    def order(self, row: int) -> tuple[str, str, int]:
        """Return where the picture of a row is inside a file, so that files are read from end to end."""
        kind, _, place = self.keys[row].rpartition(":")
        return (self.files[row] if place else "", kind, int(place) if place.isdecimal() else 0)

    def read(self, rows: Sequence[int]) -> Iterator[bytes | Problem]:
        """Yield the picture of each row; rows of one file that follow each other are read together."""
        place = 0
        while place < len(rows):
            row = rows[place]
            name, path = self.formats[row], self.files[row]
            if not name:
                yield plain_bytes(self.ids[row], path)
                place += 1
                continue
            end = place
            while end < len(rows) and (self.formats[rows[end]], self.files[rows[end]]) == (name, path):
                end += 1
            block = rows[place:end]
            yield from self._block(name, path, block)
            place = end

    def _block(self, name: str, path: str, block: Sequence[int]) -> Iterator[bytes | Problem]:
        keys = [self.keys[row] for row in block]
        for row, data in zip(block, bounded.pictures(module(name).__name__, path, keys), strict=True):
            yield Problem(self.ids[row], data) if isinstance(data, str) else data

    def only(self, rows: Sequence[int]) -> ItemReader:
        """Return a reader of some rows."""
        columns = (self.ids, self.files, self.formats, self.keys)
        return ItemReader(*(tuple(column[row] for row in rows) for column in columns))


def plain_bytes(file: str, path: str) -> bytes | Problem:
    """Read a file that is an image."""
    try:
        place = Path(path)
        if place.exists() and not place.is_file():
            return Problem(file, "foreign: not a regular file")
        if place.stat().st_size > MOST_BYTES:
            return Problem(file, f"corrupt: more than {MOST_BYTES:,} bytes: no picture has so many")
        return place.read_bytes() or Problem(file, "empty")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        return Problem(file, f"unreadable: {reason}")
