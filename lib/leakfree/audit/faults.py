"""Faults with known truth: copies, moved patients and a size shortcut put into a split, to test audits with.

Nothing of the source is changed: the target folder links to its images and holds the injected files.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from leakfree.audit.copies.alterations import (
    ALTERATIONS,
    DISGUISES,
    alter,
    alter_and_tell,
    decode,
    encode,
    scaled,
)
from leakfree.base.files import file_hash, replacing, write_text
from leakfree.data.files import IMAGE_SUFFIXES
from leakfree.data.images import ImageError, inspect
from leakfree.data.names import label_from_path
from leakfree.data.patients import identifiers, patient_ids
from leakfree.data.raw import SourceError
from leakfree.data.sources.phantom import PhantomSettings, PhantomSource

__all__ = ["FAULTS", "PIXEL_KINDS", "alter", "inject", "list_images", "write_phantom"]

#: The kinds that `alter` knows: new pixels, or the same ones encoded again.
PIXEL_KINDS = tuple(ALTERATIONS)
#: Every kind of fault, and what it is.
FAULTS: dict[str, str] = {
    "exact_copy": "byte-identical copy in another part",
    **ALTERATIONS,
    "relabelled_copy": "byte-identical copy in another part and the folder of another class",
    "patient_moved": "an image moved to another part, away from others of its patient",
    "size_shortcut": "images of one class at 90 % of their size, so that size tells the class",
}
#: Kinds that are planted where they are asked for only, each by a stream of random numbers of its own.
_ASKED = {**FAULTS, **DISGUISES}
#: Columns of the truth.
TRUTH_COLUMNS = ("file", "of", "kind", "part", "of_part", "parameter")
_SHORTCUT_SCALE = 0.9


def write_phantom(settings: PhantomSettings, target: Path) -> Path:
    """Write a phantom cohort as a folder of part/class/image; returns the folder."""
    source = PhantomSource(settings)
    for image in source:
        _write(Path(target) / image.file, image.data)
    return Path(target)


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def list_images(source: Path) -> pd.DataFrame:
    """List the images of a folder of part/class/image.

    Parameters
    ----------
    source : pathlib.Path
        The folder. Files elsewhere in it, or without the suffix of an image, are left out.

    Returns
    -------
    pandas.DataFrame
        One row an image in order of ``file`` : ``part``, ``class_folder``, ``name``, ``sha256``,
        ``patient`` (series scope) and ``number`` (as the name tells it, else missing).

    Raises
    ------
    leakfree.data.raw.SourceError
        If the folder is missing or holds no such image.
    """
    source = Path(source)
    if not source.is_dir():
        raise SourceError(f"{source}: no such folder")
    paths = [p for p in source.glob("*/*/*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    if not paths:
        raise SourceError(f"{source}: no image in folders of part/class")
    table = pd.DataFrame(
        [
            (*(relative := p.relative_to(source)).parts, relative.as_posix(), file_hash(p))
            for p in sorted(paths, key=lambda p: p.relative_to(source).as_posix())
        ],
        columns=["part", "class_folder", "name", "file", "sha256"],
    )
    named = pd.DataFrame(
        {"image_id": table["file"], "label": table["file"].map(label_from_path), "person_num": None}
    )
    table["patient"] = patient_ids(named, "series")
    table["number"] = identifiers(named)["number"]
    return table


class _Names:
    """New names after the pattern of given ones, each of a patient number that no file has."""

    def __init__(self, table: pd.DataFrame):
        self._taken = {name.lower() for name in table["name"]}
        self._number = int(table["number"].max()) if table["number"].notna().any() else 0
        self._running = max((int(n) for name in table["name"] for n in re.findall(r"\d+", name)), default=0)

    def new(self, like: str, suffix: str) -> str:
        while True:
            self._number += 1
            self._running += 1
            if m := re.match(r"person\d+_(bacteria|virus)_", like, re.IGNORECASE):
                stem = f"person{self._number}_{m[1]}_{self._running}"
            elif m := re.match(r"(NORMAL2-IM|IM)-\d+-", like, re.IGNORECASE):
                stem = f"{m[1]}-{self._number:04d}-0001"
            elif m := re.match(r"(BACTERIA|VIRUS|NORMAL)-\d+-", like, re.IGNORECASE):
                stem = f"{m[1]}-{self._number}-0001"
            else:  # tells no patient, nor does the new one: only its last number is another
                before, after = re.findall(r"\A(.*?)\d*(\D*)\Z", Path(like).stem, re.DOTALL)[0]
                stem = f"{before}{self._running:05d}{after}"
            name = f"{stem}{suffix}"
            if name.lower() not in self._taken:
                self._taken.add(name.lower())
                return name


def inject(
    source: Path,
    target: Path,
    *,
    count: int,
    kinds: Sequence[str] = tuple(FAULTS),
    seed: int,
    copy: Literal["link", "copy"] = "link",
    shortcut_share: float = 0.8,
) -> pd.DataFrame:
    """Build a folder that holds a source's images and faults of which the truth is known.

    A copy stands in another part than its original, under a new name of the same family whose patient is new
    too, so that only the content gives it away. No two faults share an original, and no original is
    one of several identical files.

    Parameters
    ----------
    source : pathlib.Path
        Folder of part/class/image with at least two parts.
    target : pathlib.Path
        Folder to make; it must not exist, nor lie in the source. The truth is also written beside it, as
        ``<target>.truth.csv``.
    count : int
        Faults of each kind; of ``size_shortcut`` there is one, whatever the count.
    kinds : sequence of str, optional
        Some of `FAULTS`, or of `leakfree.audit.copies.alterations.DISGUISES`; all of the former without it.
    seed : int
        Of every choice.
    copy : {"link", "copy"}
        How the untouched images come into the target: by a symbolic link, or a hard link or a copy where
        the platform allows no such link, or as copies in any case.
    shortcut_share : float
        Share of the images of one class, drawn by the seed, that ``size_shortcut`` resizes in place.

    Returns
    -------
    pandas.DataFrame
        One row an injected file: ``file``, ``of`` (its original; of a moved image, one of its patient that
        stayed; of a resized image, itself), ``kind``, ``part``, ``of_part``, ``parameter`` (what was drawn).

    Raises
    ------
    leakfree.data.raw.SourceError
        If the folder does not fit, or has too few images.
    ValueError
        If a kind is unknown.
    """
    source, target = Path(source), Path(target)
    if unknown := [kind for kind in kinds if kind not in _ASKED]:
        raise ValueError(f"unknown kind of fault {unknown[0]!r}; known: {', '.join(_ASKED)}")
    if copy not in ("link", "copy"):
        raise ValueError(f"copy is link or copy, not {copy!r}")
    if count < 1:
        raise ValueError(f"count is 1 or more, not {count}")
    table = list_images(source)
    if target.exists():
        raise SourceError(f"{target}: exists already")
    if target.resolve().is_relative_to(source.resolve()):
        raise SourceError(f"{target}: lies in the source {source}")
    injection = _Injection(source, target, table, count, seed, link=copy == "link")
    try:
        removed, truth = injection.plan([kind for kind in _ASKED if kind in kinds], shortcut_share)
        for file in table["file"]:
            if file not in removed:
                _put(source / file, target / file, injection.link)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)  # half a folder would pass for a whole one
        raise
    frame = pd.DataFrame(truth, columns=list(TRUTH_COLUMNS))
    write_text(target.with_name(f"{target.name}.truth.csv"), frame.to_csv(index=False))
    return frame


def _put(source: Path, path: Path, link: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if link:
        # A symbolic link first: a hard link would touch the inode of a source that may be read-only.
        for make in (os.symlink, os.link):
            try:
                make(source.resolve(), path)
                return
            except OSError:
                continue
    shutil.copyfile(source, path)


class _Injection:
    """The choices of one call of `inject`; altered files are written as they are chosen."""

    def __init__(self, source: Path, target: Path, table: pd.DataFrame, count: int, seed: int, link: bool):
        self.source, self.target, self.table = source, target, table
        self.count, self.seed, self.link = count, seed, link
        self.parts = sorted(table["part"].unique())
        self.classes = sorted(table["class_folder"].unique())
        if len(self.parts) < 2:
            raise SourceError(f"{source}: one part only ({self.parts[0]}); faults cross two")
        self.names = _Names(table)
        self.rng = np.random.default_rng([seed, 0])
        single = table.loc[~table["sha256"].duplicated(keep=False)]
        self.free = {single["file"].iloc[i]: None for i in self.rng.permutation(len(single))}
        self.rows = table.set_index("file")

    def plan(self, kinds: Sequence[str], shortcut_share: float) -> tuple[set[str], list[tuple[str, ...]]]:
        """Return the files that are not linked, and the truth."""
        removed: set[str] = set()
        truth: list[tuple[str, ...]] = []
        # What asks most of its images chooses first, what takes all that is left last.
        if "patient_moved" in kinds:
            moved = self._move_patients()
            removed |= {row[-1] for row in moved}
            truth += moved
        for kind in kinds:
            if kind not in ("patient_moved", "size_shortcut"):
                truth += [self._copy(kind, number) for number in range(self.count)]
        if "size_shortcut" in kinds:
            resized = self._resize_class(shortcut_share)
            removed |= {row[0] for row in resized}
            truth += resized
        order = {kind: i for i, kind in enumerate(kinds)}
        return removed, sorted(truth, key=lambda row: order[row[2]])

    def _originals(self, folder: str | None = None) -> Iterator[tuple[str, bytes]]:
        """Take readable images, of one class or any, that no fault has used yet, and use them up."""
        for file in [f for f in self.free if folder in (None, f.split("/")[1])]:
            data = (self.source / file).read_bytes()
            del self.free[file]
            try:
                inspect(data)
            except ImageError:
                continue
            yield file, data

    def _too_few(self, kind: str) -> SourceError:
        single = int((~self.table["sha256"].duplicated(keep=False)).sum())
        return SourceError(
            f"{self.source}: too few images for {self.count} of {kind}; {single} are readable, in place "
            "and no copies"
        )

    def _other(self, values: Sequence[str], value: str) -> str:
        return str(self.rng.choice([v for v in values if v != value]))

    def _copy(self, kind: str, number: int) -> tuple[str, ...]:
        file, data = next(self._originals(), ("", b""))
        if not file:
            raise self._too_few(kind)
        row = self.rows.loc[file]
        part, folder, like = self._other(self.parts, row["part"]), row["class_folder"], row["name"]
        suffix, parameter = Path(file).suffix, ""
        if kind == "relabelled_copy":
            if len(self.classes) < 2:
                raise SourceError(f"{self.source}: one class only; a relabelled copy needs two")
            folder = self._other(self.classes, folder)
            like = str(self.rng.choice(self.table.loc[self.table["class_folder"] == folder, "name"]))
            parameter = f"class={row['class_folder']}>{folder}"
        elif kind in PIXEL_KINDS or kind in DISGUISES:
            # A stream of its own for each copy: the strengths do not hang on the other kinds.
            rng = np.random.default_rng([self.seed, 1 + list(_ASKED).index(kind), number])
            data, parameter = alter_and_tell(data, kind, rng)
            suffix = suffix if suffix.lower() in (".jpeg", ".jpg") else ".jpeg"
        copy = f"{part}/{folder}/{self.names.new(like, suffix)}"
        _write(self.target / copy, data)
        return copy, file, kind, part, row["part"], parameter

    def _move_patients(self) -> list[tuple[str, ...]]:
        sizes = self.table["part"].value_counts()
        home = "train" if "train" in sizes else str(sizes.index[0])
        away = "test" if "test" in sizes and home != "test" else self._other(self.parts, home)
        single_part = self.table.groupby("patient")["part"].transform("nunique") == 1
        fit = self.table["number"].notna() & single_part & (self.table["part"] == home)
        fit &= self.table["file"].isin(self.free)
        there = set(self.table.loc[self.table["part"] == away, "file"])
        patients = [files for _, files in self.table[fit].groupby("patient")["file"] if len(files) > 1]
        moved: list[tuple[str, ...]] = []
        for i in self.rng.permutation(len(patients)):
            old, stays = self.rng.permutation(sorted(patients[i]))[:2].tolist()
            new = f"{away}/{old.split('/', 1)[1]}"
            if new in there or len(moved) == self.count:
                continue
            _put(self.source / old, self.target / new, self.link)
            del self.free[old], self.free[stays]
            moved.append((new, stays, "patient_moved", away, home, old))
        if len(moved) < self.count:
            raise self._too_few("patient_moved")
        return moved

    def _resize_class(self, share: float) -> list[tuple[str, ...]]:
        folder = str(self.rng.choice(self.classes))
        wanted = round(share * int((self.table["class_folder"] == folder).sum()))
        truth: list[tuple[str, ...]] = []
        for file, data in itertools.islice(self._originals(folder), wanted):
            row = self.rows.loc[file]
            _write(self.target / file, encode(scaled(decode(data), _SHORTCUT_SCALE), 90))
            parameter = f"class={folder} scale={_SHORTCUT_SCALE}"
            truth.append((file, file, "size_shortcut", row["part"], row["part"], parameter))
        if not truth:
            raise self._too_few("size_shortcut")
        return truth
