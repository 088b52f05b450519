"""Zip and tar archives without unpacking, shards of WebDataset with their labels among them."""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from leakfree.data.formats.base import FormatError
from leakfree.data.images import MAX_PIXELS
from leakfree.data.raw import Item, Problem

NAME, SUFFIXES, PACKAGE = "an archive", (".zip", ".tar", ".tgz"), ""
#: Of a member, unpacked: a picture of all pixels that are taken, in 32 bits.
MOST_BYTES = 4 * MAX_PIXELS
_PICTURES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".bmp",
    ".tif",
    ".tiff",
    ".gif",
    ".webp",
    ".pgm",
    ".ppm",
    ".jp2",
)
_WHO = ("patient", "patient_id", "subject", "subject_id", "PatientID")


def items(path: str, file: str) -> list[Item]:
    """List the pictures of an archive; a text or JSON of the same name tells label and patient."""
    try:
        names, small = _listed(path)
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise FormatError(f"not an archive: {' '.join(str(error).split())}") from error
    beside: dict[str, dict[str, bytes]] = defaultdict(dict)
    for name, data in small.items():
        stem, _, ending = name.rpartition(".")
        beside[stem][ending.lower()] = data
    found = []
    for name in names:
        base = PurePosixPath(name).name
        if PurePosixPath(name).suffix.lower() not in _PICTURES or base.startswith("._") or "__MACOSX" in name:
            continue
        told = beside.get(name.rpartition(".")[0], {})
        label = told.get("cls", told.get("txt", b"")).decode("utf-8", "replace").strip()
        who = ""
        try:
            content = json.loads(told["json"]) if "json" in told else {}
            content = content if isinstance(content, dict) else {}
            who = next((str(content[key]) for key in _WHO if content.get(key)), "")
            label = label or str(content.get("label", ""))
        except (ValueError, RecursionError):
            pass
        found.append(Item(f"{file}/{name}", path, "archive", name, label=label[:200], patient=who))
    return found


def _listed(path: str) -> tuple[list[str], dict[str, bytes]]:
    """Names of all files, and the content of the small ones that describe others."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return [entry.filename for entry in archive.infolist() if not entry.is_dir()], {}
    small, names = {}, []
    with tarfile.open(path) as archive:
        for entry in archive:
            if entry.isfile():
                names.append(entry.name)
                if entry.name.endswith((".cls", ".json")) and entry.size < 100_000:
                    small[entry.name] = _member(archive, entry)
    return names, small


def read(path: str, keys: Sequence[str]) -> Iterator[bytes | Problem]:
    """Yield the bytes of each member."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for key in keys:
                try:
                    # No more than the entry says is unpacked.
                    large = archive.getinfo(key).file_size > MOST_BYTES
                    yield _too_large(key) if large else archive.read(key) or Problem(key, "empty")
                except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError) as error:
                    yield Problem(key, f"unreadable: {' '.join(str(error).split())}")
        return
    with tarfile.open(path) as archive:
        for key in keys:
            large = archive.getmember(key).size > MOST_BYTES
            yield _too_large(key) if large else _member(archive, key) or Problem(key, "empty")


def _too_large(key: str) -> Problem:
    return Problem(key, f"corrupt: unpacks to more than {MOST_BYTES:,} bytes: no picture has so many")


def _member(archive: tarfile.TarFile, entry: tarfile.TarInfo | str) -> bytes:
    stream = archive.extractfile(entry)
    return b"" if stream is None else stream.read()  # a folder has none
