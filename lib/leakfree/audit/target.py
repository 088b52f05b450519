"""What is audited: a folder of part/class/image, a CSV or a cohort; one row an image, and how to read it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import pandas as pd

from leakfree.base.errors import LeakfreeError
from leakfree.data.patients import SUBJECT
from leakfree.data.sources.base import Problem, SourceError
from leakfree.data.sources.folder import IMAGE_SUFFIXES, label_from_path, list_files
from leakfree.data.sources.hub import is_deeplake

#: Columns of a target's table.
COLUMNS = ("image_id", "part", "label", "patient", "person_num", "file")
#: Folder names that are parts, in the order in which parts are shown.
PART_NAMES = (
    "train", "training", "val", "valid", "validation", "dev", "test", "testing", "holdout", "external",
)  # fmt: skip
#: Names that columns of a CSV may have.
ALIASES = {
    "path": ("path", "file", "filename", "file_name", "image", "image_id", "image_path"),
    "part": ("part", "split", "partition", "subset", "fold"),
    "label": ("label", "class", "target", "diagnosis", "finding"),
    "patient": ("patient", "patient_id", "patientid", "subject", "subject_id"),
}


class TargetError(LeakfreeError):
    """The target cannot be audited; the message is one line."""


class Reader(Protocol):
    """Hands out encoded files by row; can be sent to another process."""

    def read(self, rows: Sequence[int]) -> Iterator[bytes | Problem]:
        """Yield the file of each row, or why there is none."""

    def only(self, rows: Sequence[int]) -> Reader:
        """Return a reader of some rows, which are then numbered from 0."""


@dataclass(frozen=True)
class FileReader:
    """Reads files from disk."""

    ids: tuple[str, ...]
    paths: tuple[str, ...]

    def read(self, rows: Sequence[int]) -> Iterator[bytes | Problem]:
        """Yield the bytes of each row's file."""
        for row in rows:
            try:
                path = Path(self.paths[row])
                if path.exists() and not path.is_file():
                    yield Problem(self.ids[row], "foreign: not a regular file")
                    continue
                data = path.read_bytes()
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or " ".join(str(error).split())
                yield Problem(self.ids[row], f"unreadable: {reason}")
                continue
            yield data or Problem(self.ids[row], "empty")

    def only(self, rows: Sequence[int]) -> FileReader:
        """Return a reader of some rows."""
        return FileReader(tuple(self.ids[row] for row in rows), tuple(self.paths[row] for row in rows))


@dataclass(frozen=True)
class StoreReader:
    """Reads images from a cohort's store."""

    path: str
    rows: tuple[int, ...]

    def read(self, rows: Sequence[int]) -> Iterator[bytes | Problem]:
        """Yield the bytes of each row's image."""
        for _, blobs in _open_store(self.path).iterate([self.rows[row] for row in rows]):
            yield from blobs

    def only(self, rows: Sequence[int]) -> StoreReader:
        """Return a reader of some rows."""
        return StoreReader(self.path, tuple(self.rows[row] for row in rows))


@lru_cache(maxsize=4)
def _open_store(path: str) -> object:
    from leakfree.data.cohort import Cohort

    return Cohort(Path(path))


@dataclass(frozen=True)
class Target:
    """What an audit looks at.

    Attributes
    ----------
    name : str
        Shown in the report.
    table : pandas.DataFrame
        One row a listed image: ``image_id, part, label, patient, person_num, file``. Empty strings stand
        for what is not known; ``sealed`` for a label that must not be read.
    reader : Reader
        Reads the file of a row.
    problems : tuple of Problem
        Listed files that cannot be images.
    declared : tuple of str
        Parts that should hold images.
    checksum : str
        Of the cohort, empty for files.
    """

    name: str
    table: pd.DataFrame
    reader: Reader
    problems: tuple[Problem, ...] = ()
    declared: tuple[str, ...] = ()
    checksum: str = ""
    facts: dict[str, object] = field(default_factory=dict)


def open_target(
    target: str,
    *,
    manifest: Path | None = None,
    patient_pattern: str | None = None,
    cache: Path | None = None,
) -> Target:
    """Find out what kind of target is given, and list its images.

    Parameters
    ----------
    target : str
        Folder of part/class/image, CSV with a column ``path``, Deep Lake store or dataset, or a name that
        ``run_all.py --data`` knows, such as ``phantom``.
    manifest : pathlib.Path, optional
        Split manifest of leakfree: its parts replace those of the target.
    patient_pattern : str, optional
        Regular expression whose first group, searched in the file's path, is the patient.
    cache : pathlib.Path, optional
        Where cohorts are kept; needed only for names such as ``phantom``.

    Raises
    ------
    TargetError
        One line that says what is wrong.
    """
    if not target:
        raise TargetError("no target: the name is empty")
    path = Path(target)
    try:
        exists, is_folder = path.exists(), path.is_dir()
    except OSError as error:
        raise TargetError(f"{target}: {error.strerror or error}") from error
    try:
        if exists and not is_folder:
            found = from_csv(path)
        elif is_folder and not is_deeplake(path):
            found = from_folder(path)
        else:
            found = _from_cohort(target, cache)
    except SourceError as error:
        raise TargetError(str(error)) from error
    if manifest is not None:
        found = _with_manifest(found, Path(manifest))
    if patient_pattern is not None:
        found = _with_pattern(found, patient_pattern)
    if found.table.empty:
        raise TargetError(f"{target}: no image")
    return found


def from_folder(root: Path) -> Target:
    """List the images of ``part/class/image``; parts or classes may be missing, folders may lie deeper.

    A folder named like a part (`PART_NAMES`) is the part wherever it stands, and the class is the folder
    below it, or else the one above it. Otherwise, of two or more folders, the first is the part and the
    second the class; a single one is the class.
    """
    rows, problems, declared = [], [], []
    for entry in list_files(root):
        if entry.path.suffix.lower() not in IMAGE_SUFFIXES:
            problems.append(Problem(readable_name(entry.file), "foreign: not the name of an image"))
            continue
        part, label = _part_and_label(entry.file)
        rows.append((readable_name(entry.file), part, label, "", pd.NA, str(entry.path)))
    declared = [child.name for child in sorted(root.iterdir()) if child.is_dir() and is_part(child.name)]
    table = make_table(rows)
    reader = FileReader(tuple(table["image_id"]), tuple(table["file"]))
    name = re.sub(r"[^\w.-]+", "-", root.resolve().name).strip("-.") or "folder"
    return Target(name, table, reader, tuple(problems), tuple(dict.fromkeys(declared)))


def _part_and_label(file: str) -> tuple[str, str]:
    folders = file.split("/")[:-1]
    place = next((place for place, folder in enumerate(folders) if is_part(folder)), None)
    if place is not None:
        nearest = [*folders[place + 1 :][:1], *folders[:place][-1:]]
        label = readable_name(nearest[0]) if nearest else (label_from_path(file) or "")
        return readable_name(folders[place]), label
    if len(folders) >= 2:
        return readable_name(folders[0]), readable_name(folders[1])
    return "", readable_name(folders[0]) if folders else (label_from_path(file) or "")


def is_part(folder: str) -> bool:
    """Tell whether a folder is named like a part of a split."""
    return (
        folder.lower() in PART_NAMES or re.fullmatch(r"(fold|split|part)[_-]?\d+", folder.lower()) is not None
    )


def from_csv(path: Path) -> Target:
    """List the images of a CSV with columns ``path`` and, where known, ``part``, ``label``, ``patient``.

    Paths are relative to the CSV. A file may be listed twice: that is a finding, not an error.
    """
    if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        raise TargetError(f"{path}: neither a folder, nor a CSV, nor a cohort")
    try:
        with warnings.catch_warnings():
            # Without index_col, values beyond the header would shift all columns; with it pandas only warns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            given = pd.read_csv(
                path,
                dtype=str,
                keep_default_na=False,
                index_col=False,
                sep="\t" if path.suffix.lower() == ".tsv" else ",",
            )
    except (OSError, ValueError, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise TargetError(f"{path}: cannot be read as CSV: {reason}") from error
    lower = {str(column).strip().lower(): column for column in given.columns}
    columns = {}
    for name, aliases in ALIASES.items():
        found = next((lower[alias] for alias in aliases if alias in lower), None)
        if found is not None:
            columns[name] = given[found].str.strip()
    if "path" not in columns:
        raise TargetError(f"{path}: no column path; found {', '.join(map(str, given.columns))}")
    rows, problems = [], []
    for row in range(len(given)):
        file = columns["path"].iloc[row]
        part, label, patient = (
            columns[name].iloc[row] if name in columns else "" for name in ("part", "label", "patient")
        )
        if not file:
            problems.append(Problem(f"{path.name}, row {row + 2}", "unreadable: no path"))
            continue
        rows.append((file, part, label, patient, pd.NA, str(path.parent / file)))
    table = make_table(rows, sort=False)
    reader = FileReader(tuple(table["image_id"]), tuple(table["file"]))
    return Target(path.stem, table, reader, tuple(problems))


def _from_cohort(target: str, cache: Path | None) -> Target:
    from leakfree.base.paths import cache_folder, project_root
    from leakfree.data.cohort import CohortError
    from leakfree.data.open import open_cohort

    if Path(target).name == target and not Path(target).exists() and target not in ("phantom", "hub"):
        raise TargetError(f"{target}: no such file or folder")
    try:
        cohort = open_cohort(target, cache or cache_folder(project_root()), allow_problems=True)
    except CohortError as error:
        raise TargetError(str(error)) from error
    return from_cohort(cohort)


def from_cohort(cohort: object, rows: Sequence[int] | None = None) -> Target:
    """List the images of a `leakfree.data.cohort.Cohort`, or of some of its rows."""
    table = cohort.table if rows is None else cohort.table.loc[list(rows)]
    listed = pd.DataFrame(
        {
            "image_id": table["image_id"],
            "part": table["part"].where(table["part"] != "unsplit", ""),
            "label": table["label"],
            "patient": "",
            "person_num": table["person_num"],
            "file": "",
        }
    )
    if SUBJECT in table:
        listed = listed.assign(**{"patient": table[SUBJECT], SUBJECT: table[SUBJECT]})
    reader = StoreReader(str(cohort.path), tuple(int(row) for row in table.index))
    return Target(
        cohort.name,
        listed.reset_index(drop=True),
        reader,
        tuple(cohort.problems),
        checksum=cohort.checksum,
    )


def is_foreign(problem: Problem) -> bool:
    """Whether a file is no image by its name: it was not opened, and is no gap of the audit."""
    return problem.reason.startswith("foreign: not the name")


def with_parts(target: Target, part_of: dict[str, str], name: str) -> Target:
    """Replace the parts of a target; images that `part_of` does not know take no part."""
    parts = target.table["image_id"].map(part_of)
    lost = set(part_of) - set(target.table["image_id"])
    known = parts.notna().to_numpy()
    # What the target has but cannot use keeps its reason, unless that is only its name.
    unusable = [p for p in target.problems if p.file not in lost or not is_foreign(p)]
    lost -= {problem.file for problem in unusable}
    missing = f"missing: {name} lists it, {target.name} does not have it as an image"
    problems = [Problem(file, missing) for file in sorted(lost)]
    table = target.table.assign(part=parts)[known].reset_index(drop=True)
    return Target(
        target.name,
        table,
        target.reader.only(known.nonzero()[0].tolist()),
        (*unusable, *problems),
        tuple(dict.fromkeys(part_of.values())),
        target.checksum,
        {**target.facts, "split": name, "outside the split": int((~known).sum())},
    )


def _with_manifest(target: Target, path: Path) -> Target:
    from leakfree.split.manifest import Manifest, ManifestError

    try:
        manifest = Manifest.load(path)
    except ManifestError as error:
        raise TargetError(str(error)) from error
    part_of = {image_id: part for part, ids in manifest.parts.items() for image_id in ids}
    if not all(isinstance(image_id, str) for image_id in part_of):
        raise TargetError(f"{path}: not a split manifest: an image id is not text")
    return with_parts(target, part_of, manifest.name)


def _with_pattern(target: Target, pattern: str) -> Target:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise TargetError(f"--patient-pattern {pattern}: {error}") from error
    if compiled.groups < 1:
        raise TargetError(f"--patient-pattern {pattern}: needs a group, such as subject(\\d+)")
    matches = [compiled.search(image_id) for image_id in target.table["image_id"]]
    patients = [(match[1] or "") if match else "" for match in matches]
    return Target(**{**vars(target), "table": target.table.assign(patient=patients)})


def make_table(rows: list[tuple], sort: bool = True) -> pd.DataFrame:
    """Make a target's table of rows in the order of `COLUMNS`, sorted by image id unless told otherwise."""
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["person_num"] = table["person_num"].astype("Int64")
    return table.sort_values("image_id", ignore_index=True) if sort else table


def readable_name(text: str) -> str:
    """Keep a name in another encoding readable: JSON and HTML are UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
