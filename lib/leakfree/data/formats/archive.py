"""Zip and tar archives without unpacking, shards of WebDataset with their labels among them."""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import NamedTuple

from leakfree.data.decoder import MOST_BYTES
from leakfree.data.formats.base import FormatError
from leakfree.data.held import opened
from leakfree.data.raw import Item, Problem

NAME, SUFFIXES, PACKAGE = "an archive", (".zip", ".tar", ".tgz"), ""
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


class _Member(NamedTuple):
    """A file in an archive: its name, its bytes once unpacked, and how they are read."""

    name: str
    size: int
    unpack: Callable[[], bytes]


def items(path: str, file: str) -> list[Item]:
    """List the pictures of an archive; in shards, a text or JSON of the same name tells label and patient."""
    beside: dict[str, dict[str, bytes]] = defaultdict(dict)
    try:
        members = opened(_members, path)
        for name, size, unpack in members if tarfile.is_tarfile(path) else ():
            stem, _, ending = name.rpartition(".")
            if ending.lower() in ("cls", "json") and size < 100_000:
                beside[stem][ending.lower()] = unpack()
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise FormatError(f"not an archive: {' '.join(str(error).split())}") from error
    found = []
    for place, (name, _, _) in enumerate(members):
        base = PurePosixPath(name).name
        if PurePosixPath(name).suffix.lower() not in _PICTURES or base.startswith("._") or "__MACOSX" in name:
            continue
        told = beside.get(name.rpartition(".")[0], {})
        label = told.get("cls", b"").decode("utf-8", "replace").strip()
        who = ""
        try:
            content = json.loads(told["json"]) if "json" in told else {}
            content = content if isinstance(content, dict) else {}
            who = next((str(content[key]) for key in _WHO if content.get(key)), "")
            label = label or str(content.get("label", ""))
        except (ValueError, RecursionError):
            pass
        found.append(Item(f"{file}/{name}", path, "archive", str(place), label=label[:200], patient=who))
    return found


def _members(path: str) -> list[_Member]:
    if zipfile.is_zipfile(path):
        packed = zipfile.ZipFile(path)
        entries = [entry for entry in packed.infolist() if not entry.is_dir()]
        # No more than the entry says is unpacked.
        return [_Member(entry.filename, entry.file_size, partial(packed.read, entry)) for entry in entries]
    shard = tarfile.open(path)  # noqa: SIM115 (read on later)
    return [
        _Member(entry.name, entry.size, partial(_unpack, shard, entry)) for entry in shard if entry.isfile()
    ]


def _unpack(shard: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    stream = shard.extractfile(entry)
    return b"" if stream is None else stream.read()


def read(path: str, keys: Sequence[str]) -> Iterator[bytes | Problem]:
    """Yield the bytes of each member."""
    members = opened(_members, path)
    for key in keys:
        _, size, unpack = members[int(key)]
        if size > MOST_BYTES:
            yield Problem(key, f"corrupt: unpacks to more than {MOST_BYTES:,} bytes: no picture has so many")
            continue
        try:
            yield unpack() or Problem(key, "empty")
        except (zipfile.BadZipFile, tarfile.TarError, RuntimeError, NotImplementedError, OSError) as error:
            yield Problem(key, f"unreadable: {' '.join(str(error).split())}")
