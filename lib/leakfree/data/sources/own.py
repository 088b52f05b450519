"""Read the images of a study on the user's own images, as its ``study.yaml`` says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from leakfree.data.raw import Problem, RawImage, SourceError, readable
from leakfree.data.sources.listing import Listed, list_study
from leakfree.data.study_file import OwnStudy, StudyFileError, read_study


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
    modules: tuple[str, ...] = ("leakfree/data/study_file", "leakfree/data/sources/own")

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self.study: OwnStudy = read_study(self.path)
            listed, self._problems = list_study(self.study, self.path.parent)
        except StudyFileError as error:
            raise SourceError(str(error)) from error
        self._listed = sorted(
            (image for image in listed if image.label not in self.study.leave_out),
            key=lambda image: image.file,
        )
        self.name = self.study.name
        self._part = {called: part for part, called in self.study.parts.items()}
        if not self._listed:
            raise SourceError(f"{self.path}: no image of the labels {', '.join(self.study.labels)}")

    def __len__(self) -> int:
        return len(self._listed) + len(self._problems)

    def __iter__(self) -> Iterator[RawImage | Problem]:
        yield from self._problems
        before = ""
        for image in self._listed:
            yield self._read(image, before)
            before = image.file

    def _read(self, image: Listed, before: str) -> RawImage | Problem:
        if image.file == before:
            return Problem(image.file, "foreign: listed twice")
        if image.label not in self.study.labels:
            told = (
                f"its label {image.label} is none of the study's"
                if image.label
                else "nothing tells its label"
            )
            return Problem(image.file, f"foreign: {told}")
        part = self._part.get(image.part) if self._part else "unsplit"
        if part is None:
            told = f"its part {image.part} is none of the study's" if image.part else "nothing tells its part"
            return Problem(image.file, f"foreign: {told}")
        try:
            data = image.path.read_bytes() if image.path.is_file() else None
        except OSError as error:
            return Problem(image.file, f"unreadable: {error.strerror or error}")
        if not data:
            return Problem(image.file, "foreign: not a regular file" if data is None else "empty")
        # Text columns of the store are UTF-8.
        subject = readable(image.patient)
        return RawImage(image.file, data, image.label, part, subject=subject)

    def fingerprint(self) -> str:
        """Return a digest over the study, its CSV as it was read, and sizes and times of the files."""
        digest = hashlib.sha256(f"{self.study.model_dump_json()}\n".encode())
        for image in self._listed:
            try:
                stat = image.path.stat()
                state = f"{stat.st_size}\t{stat.st_mtime_ns}"
            except OSError:
                state = "-1\t0"
            line = "\t".join((image.file, image.label, image.part, image.patient, state))
            digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
        for problem in self._problems:
            digest.update(f"{problem.file}\t{problem.reason}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
