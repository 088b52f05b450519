"""The images of a study: which file has which label, part and patient, by folders or by a CSV."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from leakfree.data.files import IMAGE_SUFFIXES, list_files
from leakfree.data.raw import Problem, SourceError
from leakfree.data.reading.folders import folder_labels, masks
from leakfree.data.reading.parts import folder_parts, kind_of, one_spelling
from leakfree.data.reading.patient_ids import read_ids
from leakfree.data.reading.tables import Finder, TableError, boolean_parts, label_set, read_table
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

    Masks, and what systems leave behind, are left out as in an audit.

    Raises
    ------
    leakfree.data.raw.SourceError
        If the folder cannot be read.
    """
    root = Path(root)
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder")
    entries = [e for e in list_files(root) if e.path.suffix.lower() in IMAGE_SUFFIXES]
    left_out = {e.file for e in entries if e.path.name.startswith("._") or "__MACOSX" in e.file.split("/")}
    left_out |= masks([e.file for e in entries if e.file not in left_out])
    return {e.file: e.path for e in entries if e.file not in left_out}


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
    paths = [file.split("/")[:-1] for file in files]
    if parts:
        places = [next((k for k, name in enumerate(way) if name in parts), -1) for way in paths]
        names = [way[place] if place >= 0 else "" for way, place in zip(paths, places, strict=True)]
    else:
        found = folder_parts(paths)
        places, names = list(found.place), list(found.name)
    guessed = folder_labels(paths, places).label
    listed = []
    for (file, path), way, part, guess in zip(files.items(), paths, names, guessed, strict=True):
        named = [folder for folder in way if folder in labels]
        listed.append(Listed(file, path, named[-1] if named else guess, part, ""))
    return listed


def read_csv(path: Path) -> pd.DataFrame:
    """Read a table as text, as an audit does.

    Raises
    ------
    StudyFileError
        If it cannot be read.
    """
    try:
        return read_table(path)
    except TableError as error:
        raise StudyFileError(str(error)) from error


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
    finder = Finder(files)
    listed, problems = [], []
    texts = {what: table[column].str.strip().tolist() for what, column in columns.items()}
    if "part" in texts:
        spelled = boolean_parts(columns["part"], texts["part"]) or texts["part"]
        texts["part"] = one_spelling(spelled)[0]
    for row, given in enumerate(texts["path"]):
        found = finder.find(given, "" if below == "." else below) if given else []
        if not found:
            reason = "no path" if not given else f"row {row + 2} of {csv.name} names no image of the data"
            problems.append(Problem(given or f"{csv.name}, row {row + 2}", f"unreadable: {reason}"))
        for file in found:
            label = label_set(texts["label"][row])
            part, patient = (texts[what][row] if what in texts else "" for what in ("part", "patient"))
            listed.append(Listed(file, files[file], label, part, patient))
    return listed, problems


def without_row(files: Collection[str], listed: Collection[Listed]) -> list[str]:
    """Return the images that no row of the table names: they take no part."""
    named = {image.file for image in listed}
    return [file for file in files if file not in named]


def one_patient_each(listed: list[Listed]) -> list[Listed]:
    """Read ids of patients as people mean them: unknown words are unknown, two spellings one patient."""
    ids = read_ids([image.patient for image in listed], [image.part for image in listed])
    return [replace(image, patient=patient) for image, patient in zip(listed, ids.patient, strict=True)]


def list_study(study: OwnStudy, base: Path) -> tuple[list[Listed], list[Problem]]:
    """List the images of a study with their patients, and the rows of its CSV that name none.

    Parameters
    ----------
    study : OwnStudy
    base : pathlib.Path
        Folder of the study file.

    Raises
    ------
    StudyFileError, leakfree.data.raw.SourceError
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
    return one_patient_each(listed), problems


def with_pattern(listed: list[Listed], pattern: str) -> list[Listed]:
    """Give each image the patient that a pattern reads from its path; none where it does not match."""
    compiled = re.compile(pattern)
    found = [compiled.search(image.file) for image in listed]
    return [
        Listed(i.file, i.path, i.label, i.part, (m[1] or "") if m else "")
        for i, m in zip(listed, found, strict=True)
    ]


def official_parts(parts: Collection[str]) -> dict[str, str]:
    """Choose the official train, val and test part among names of parts; none without a train part."""
    meant = {"train": "train", "val": "val", "dev": "val", "test": "test", "holdout": "test", "eval": "test"}
    chosen: dict[str, str] = {}
    # Of two that mean the same, the one with the plainer word: val before dev, test before holdout.
    for part in sorted(
        parts, key=lambda part: (list(meant).index(kind_of(part)) if kind_of(part) in meant else 9, part)
    ):
        kind = meant.get(kind_of(part), "")
        if kind and kind not in chosen:
            chosen[kind] = part
    return chosen if "train" in chosen and len(chosen) > 1 else {}
