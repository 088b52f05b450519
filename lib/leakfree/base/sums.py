"""``SHA256SUMS`` of a run: every file with its hash, in the format of ``sha256sum --check``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from leakfree.base.files import file_hash, write_text

NAME = "SHA256SUMS"
_LINE = re.compile("[0-9a-f]{64}")
#: What a run can do without, and what is made from it: no part of the record.
_LEFT_OUT = (".cache", "book")


def recorded_files(folder: Path) -> list[str]:
    """Return the files of a run that belong to its record, relative to it, sorted.

    Caches, the built book, exported pages of notebooks, failed notebooks and hidden files do not.
    """
    folder = Path(folder)
    return sorted(path.relative_to(folder).as_posix() for path in _files(folder, folder) if path.name != NAME)


def _files(folder: Path, root: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or (folder == root and path.name in _LEFT_OUT):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _files(path, root)
        elif not (folder.name == "notebooks" and path.name.endswith((".html", ".failed.ipynb"))):
            yield path


def write_sums(folder: Path) -> Path:
    """Write the hashes of all files of a run, atomically."""
    folder = Path(folder)
    lines = [f"{file_hash(folder / name)}  {name}\n" for name in recorded_files(folder)]
    return write_text(folder / NAME, "".join(lines))


def renew_sums(folder: Path) -> None:
    """Write the hashes again where a run has them: for what adds to a finished run on purpose."""
    if (Path(folder) / NAME).is_file():
        write_sums(folder)


def check_listed(path: Path, names: Iterable[str]) -> None:
    """Compare some files with a list of hashes.

    Parameters
    ----------
    path : pathlib.Path
        The list.
    names : iterable of str
        Files, relative to the list's folder. One that neither is there nor is listed is passed over.

    Raises
    ------
    OSError
        If a file cannot be read.
    ValueError
        If a file is not as the list says; one line.
    """
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in text.splitlines())}
    check_files(path.parent, names, listed, path)


def check_files(folder: Path, names: Iterable[str], listed: Mapping[str, str], where: Path) -> None:
    """Compare some files of a folder with hashes by name, as `check_listed`; `where` says whose they are."""
    for name in names:
        file = folder / name
        if name not in listed and not file.exists():
            continue
        if name not in listed:
            raise ValueError(f"{file}: {where} does not list it: a file of another model, or added later")
        if not file.exists():
            raise ValueError(f"{file}: missing, but {where} lists it")
        if file_hash(file) != listed[name]:
            raise ValueError(f"{file}: SHA-256 is not the one in {where}; the file was changed")


def check_sums(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each file that is not as `write_sums` found it, with the reason.

    Yields
    ------
    tuple of str
        File relative to the run, and why it disagrees.

    Raises
    ------
    OSError
        If there is no list of hashes.
    """
    folder = Path(folder)
    text = (folder / NAME).read_bytes().decode("utf-8", "surrogateescape")
    listed: dict[str, str] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        digest, separator, name = line.partition("  ")
        if not _LINE.fullmatch(digest) or not separator or not name or name in listed:
            yield NAME, f"line {number} is no hash and name of a file"
            continue
        listed[name] = digest
    if not text.endswith("\n"):
        yield NAME, "does not end with a line feed: it is cut off, or was changed"
    if list(listed) != sorted(listed):
        yield NAME, "its names are not in order"
    present = set(recorded_files(folder))
    for name, expected in listed.items():
        if name not in present:
            yield name, f"is missing, or is no file of a run, but {NAME} lists it"
            continue
        try:
            digest = file_hash(folder / name)
        except OSError as error:
            yield name, f"cannot be read: {error.strerror or error}"
            continue
        if digest != expected:
            yield name, f"SHA-256 is {digest[:12]}, {NAME} has {expected[:12]}"
    for name in sorted(present - set(listed)):
        yield name, f"{NAME} does not list it"
