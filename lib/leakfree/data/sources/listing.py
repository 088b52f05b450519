"""The images of a study: which file has which label, part and patient, by folders or by a CSV."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from leakfree.audit.target import PART_NAMES, FileReader, Target, is_part, make_table, readable_name
from leakfree.data.patients import SUBJECT
from leakfree.data.sources.base import Problem, SourceError
from leakfree.data.sources.folder import IMAGE_SUFFIXES, list_files
from leakfree.data.study_file import CsvColumn, OwnStudy, PathPattern, StudyFileError


@dataclass(frozen=True)
class Listed:
    """One image of a study.

    Attributes
    ----------
    file : str
        Path relative to the data, with forward slashes.
    path : pathlib.Path
    label, part, patient : str
        As folders or the CSV say; empty where they do not.
    """

    file: str
    path: Path
    label: str
    part: str
    patient: str


def images_below(root: Path) -> dict[str, Path]:
    """Return the files below a folder that are named like images: relative path to path, sorted.

    Raises
    ------
    leakfree.data.sources.base.SourceError
        If the folder cannot be read.
    """
    root = Path(root)
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder")
    entries = list_files(root)
    return {e.file: e.path for e in entries if e.path.suffix.lower() in IMAGE_SUFFIXES}


def folder_images(files: Mapping[str, Path], labels: Collection[str], parts: Collection[str]) -> list[Listed]:
    """Read labels and parts from the folders of files.

    Parameters
    ----------
    files : mapping of str to pathlib.Path
        As `images_below`.
    labels : collection of str
        Folders that are labels. The lowest one counts; where there is none, the folder next to the part, or
        the first one.
    parts : collection of str
        Folders that are parts, wherever they stand; where it is empty, those that an audit knows.
    """
    listed = []
    for file, path in files.items():
        folders = file.split("/")[:-1]
        known = parts or [folder for folder in folders if is_part(folder)]
        place = next((k for k, folder in enumerate(folders) if folder in known), None)
        part = "" if place is None else folders[place]
        rest = folders if place is None else [*folders[place + 1 :], *reversed(folders[:place])]
        named = [folder for folder in folders if folder in labels]
        listed.append(Listed(file, path, named[-1] if named else (rest[0] if rest else ""), part, ""))
    return listed


def read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV or TSV as text.

    Raises
    ------
    StudyFileError
        If it cannot be read.
    """
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with warnings.catch_warnings():
            # Values beyond the header would shift all columns; pandas only warns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, sep=separator)
    except (OSError, ValueError, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise StudyFileError(f"{path}: cannot be read as CSV: {reason}") from error


class _Finder:
    """Finds the file that a row of a CSV means: by its path, with or without its ending, or by its name."""

    def __init__(self, files: Mapping[str, Path], before: str) -> None:
        self.before = before  # folder of the CSV, relative to the data
        self.by: dict[str, set[str]] = defaultdict(set)
        for file in files:
            path = PurePosixPath(file)
            for name in {file, path.with_suffix("").as_posix(), path.name, path.stem}:
                self.by[name].add(file)

    def find(self, given: str) -> str | None:
        given = PurePosixPath(given.replace("\\", "/")).as_posix()
        for name in (given, f"{self.before}/{given}" if self.before else given):
            found = self.by.get(name, set())
            if name in found:
                return name
            if len(found) == 1:
                return next(iter(found))
        return None


def csv_images(
    files: Mapping[str, Path], root: Path, table: pd.DataFrame, csv: Path, columns: Mapping[str, str]
) -> tuple[list[Listed], list[Problem]]:
    """Read labels, parts and patients from a CSV.

    Parameters
    ----------
    files : mapping of str to pathlib.Path
        As `images_below`.
    root : pathlib.Path
        Folder of the images.
    table : pandas.DataFrame
        As `read_csv`.
    csv : pathlib.Path
    columns : mapping of str to str
        ``path``, ``label`` and, where there are such columns, ``part`` and ``patient``, to their names.

    Returns
    -------
    list of Listed
        In order of the CSV; images that it does not name take no part.
    list of Problem
        Rows without a file.

    Raises
    ------
    StudyFileError
        If a column is missing.
    """
    for what, column in columns.items():
        if column not in table:
            raise StudyFileError(
                f"{csv}: no column {column} for the {what}; found {', '.join(map(str, table.columns))}"
            )
    folder = csv.resolve().parent
    below = folder.relative_to(root.resolve()).as_posix() if folder.is_relative_to(root.resolve()) else ""
    finder = _Finder(files, "" if below == "." else below)
    listed, problems = [], []
    for row, given in enumerate(table.to_dict("records")):
        values = {what: str(given[column]).strip() for what, column in columns.items()}
        file = finder.find(values["path"]) if values["path"] else None
        if file is None:
            reason = (
                "no path" if not values["path"] else f"row {row + 2} of {csv.name} names no image of the data"
            )
            problems.append(Problem(values["path"] or f"{csv.name}, row {row + 2}", f"unreadable: {reason}"))
            continue
        part, patient = values.get("part", ""), values.get("patient", "")
        listed.append(Listed(file, files[file], values["label"], part, patient))
    return listed, problems


def list_study(study: OwnStudy, base: Path) -> tuple[list[Listed], list[Problem]]:
    """List the images of a study with their patients, and the rows of its CSV that name none.

    Parameters
    ----------
    study : OwnStudy
    base : pathlib.Path
        Folder of the study file.

    Raises
    ------
    StudyFileError, leakfree.data.sources.base.SourceError
        One line.
    """
    root = Path(base) / study.data
    files = images_below(root)
    problems: list[Problem] = []
    if study.csv is None:
        listed = folder_images(files, {*study.labels, *study.leave_out}, set(study.parts.values()))
    else:
        csv = Path(base) / study.csv.file
        columns = {"path": study.csv.path, "label": study.csv.label}
        if study.csv.part:
            columns["part"] = study.csv.part
        if isinstance(study.patients, CsvColumn):
            columns["patient"] = study.patients.column
        listed, problems = csv_images(files, root, read_csv(csv), csv, columns)
    if isinstance(study.patients, PathPattern):
        listed = with_pattern(listed, study.patients.pattern)
    return listed, problems


def with_pattern(listed: list[Listed], pattern: str) -> list[Listed]:
    """Give each image the patient that a pattern reads from its path; none where it does not match."""
    compiled = re.compile(pattern)
    found = [compiled.search(image.file) for image in listed]
    return [
        Listed(i.file, i.path, i.label, i.part, (m[1] or "") if m else "")
        for i, m in zip(listed, found, strict=True)
    ]


def as_target(
    name: str,
    listed: list[Listed],
    problems: list[Problem],
    *,
    leave_out: Collection[str] = (),
    sealed: str = "",
) -> Target:
    """Hand images to the audit, with the labels, parts and patients that the study reads.

    Parameters
    ----------
    name : str
    listed : list of Listed
    problems : list of Problem
    leave_out : collection of str
        Labels whose images take no part.
    sealed : str
        Part whose labels the audit must not see; none if empty.
    """
    table = make_table(
        [
            (
                readable_name(image.file),
                readable_name(image.part),
                "sealed" if sealed and image.part == sealed else readable_name(image.label),
                readable_name(image.patient),
                pd.NA,
                str(image.path),
            )
            for image in listed
            if image.label not in leave_out
        ]
    )
    reader = FileReader(tuple(table["image_id"]), tuple(table["file"]))
    return Target(name, table.assign(**{SUBJECT: table["patient"]}), reader, tuple(problems))


def official_parts(parts: Collection[str]) -> dict[str, str]:
    """Choose the official train, val and test part among names of parts; none without a train part."""
    chosen: dict[str, str] = {}
    for part in sorted(
        parts, key=lambda part: PART_NAMES.index(part.lower()) if part.lower() in PART_NAMES else 99
    ):
        low = part.lower()
        kind = (
            "train" if low.startswith("train")
            else "val" if low.startswith(("val", "dev"))
            else "test" if low in ("test", "testing", "holdout")
            else ""
        )  # fmt: skip
        if kind and kind not in chosen:
            chosen[kind] = part
    return chosen if "train" in chosen and len(chosen) > 1 else {}
