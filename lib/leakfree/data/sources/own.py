"""Read the images of a study on the user's own images, as its ``study.yaml`` says."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from leakfree.data.formats import FORMATS
from leakfree.data.raw import Problem, RawImage, SourceError
from leakfree.data.sources.listing import list_study
from leakfree.data.study_file import OwnStudy, StudyFileError, read_study

_FORMATS = tuple(f"leakfree/data/formats/{name}" for name in ("base", *FORMATS))


class OwnSource:
    """The images that a study names.

    Parameters
    ----------
    path : pathlib.Path
        A ``study.yaml``.

    Attributes
    ----------
    study : OwnStudy
        What the cohort keeps of the file.

    Raises
    ------
    SourceError
        If the file or its images cannot be used; one line.
    """

    # What its files and its CSV say is in the fingerprint.
    modules: tuple[str, ...] = ("leakfree/data/study_file", "leakfree/data/sources/own", *_FORMATS)

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self.study: OwnStudy = read_study(self.path)
            opened = list_study(self.study, self.path.parent)
        except StudyFileError as error:
            raise SourceError(str(error)) from error
        self._problems = opened.problems
        self._reader = opened.reader
        table = opened.understood.table
        self._rows = sorted(
            np.flatnonzero(~table["label"].isin(self.study.leave_out)).tolist(),
            key=lambda row: self._order(row, table["image_id"][row]),
        )
        self._table = table
        self.name = self.study.name
        self._part = {called: part for part, called in self.study.parts.items()}
        if not self._rows:
            raise SourceError(f"{self.path}: no image of the labels {', '.join(self.study.labels)}")

    def _order(self, row: int, image_id: str) -> tuple[str, str, int]:
        """Return the place of an image: by its name, inside a file by its number."""
        path, kind, place = self._reader.order(row)
        return (os.path.relpath(path, self.path.parent / self.study.data) if path else image_id, kind, place)

    def __len__(self) -> int:
        return len(self._rows) + len(self._problems)

    def __iter__(self) -> Iterator[RawImage | Problem]:
        yield from self._problems
        images = self._table[["image_id", "label", "part", "patient"]].itertuples(index=False, name=None)
        listed = list(images)
        before = ""
        for row, data in zip(self._rows, self._reader.read(self._rows), strict=True):
            file, label, part, patient = listed[row]
            yield (
                self._image(file, label, part, patient, data)
                if file != before
                else Problem(file, "foreign: listed twice")
            )
            before = file

    def _image(
        self, file: str, label: str, called: str, patient: str, data: bytes | Problem
    ) -> RawImage | Problem:
        if label not in self.study.labels:
            told = f"its label {label} is none of the study's" if label else "nothing tells its label"
            return Problem(file, f"foreign: {told}")
        part = self._part.get(called) if self._part else "unsplit"
        if part is None:
            told = f"its part {called} is none of the study's" if called else "nothing tells its part"
            return Problem(file, f"foreign: {told}")
        return data if isinstance(data, Problem) else RawImage(file, data, label, part, subject=patient)

    def fingerprint(self) -> str:
        """Return a digest over the study, its CSV as it was read, and sizes and times of the files."""
        digest = hashlib.sha256(f"{self.study.model_dump_json()}\n".encode())
        columns = self._table[["image_id", "label", "part", "patient"]].itertuples(index=False, name=None)
        for told, path, key in zip(columns, self._reader.files, self._reader.keys, strict=True):
            try:
                stat = Path(path).stat()
                state = f"{stat.st_size}\t{stat.st_mtime_ns}"
            except OSError:
                state = "-1\t0"
            line = "\t".join((*told, key, state))
            digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
        for problem in self._problems:
            digest.update(f"{problem.file}\t{problem.reason}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
