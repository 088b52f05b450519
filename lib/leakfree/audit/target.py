"""What is audited: folders, tables, containers or a cohort; one row an image, and how to read it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from leakfree.base.errors import LeakfreeError
from leakfree.data.inputs import Opened, open_folder, open_input, open_several, open_table_of_images
from leakfree.data.patients import SUBJECT
from leakfree.data.raw import Problem, SourceError
from leakfree.data.reading.report import Reading, make_field
from leakfree.data.reading.understand import names_tell, searched
from leakfree.data.reading.wishes import ReadingError, Wishes
from leakfree.data.sources.hub import is_deeplake

if TYPE_CHECKING:
    from leakfree.data.cohort import Cohort
    from leakfree.data.record import RecordedCohort


class TargetError(LeakfreeError):
    """The target cannot be audited; the message is one line."""


class Reader(Protocol):
    """Hands out encoded files by row; can be sent to another process."""

    def read(self, rows: Sequence[int]) -> Iterator[bytes | Problem]:
        """Yield the file of each row, or why there is none."""

    def only(self, rows: Sequence[int]) -> Reader:
        """Return a reader of some rows, which are then numbered from 0."""


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
def _open_store(path: str) -> Cohort:
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
    facts : mapping of str to object
        Further facts for the report.
    reading : Reading or None
        How the input was understood.
    alternatives : mapping of str to mapping of str to str
        Several splits of the same images: name of each to image and part.
    doubtful : tuple of tuple of str
        Patients that may be one: their ids differ in spelling only.
    """

    name: str
    table: pd.DataFrame
    reader: Reader
    problems: tuple[Problem, ...] = ()
    declared: tuple[str, ...] = ()
    checksum: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    reading: Reading | None = None
    alternatives: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    doubtful: tuple[tuple[str, ...], ...] = ()


def open_target(
    target: str | Sequence[str],
    *,
    manifest: Path | None = None,
    patient_pattern: str | None = None,
    cache: Path | None = None,
    wishes: Wishes | None = None,
) -> Target:
    """Find out what kind of target is given, and list its images.

    Parameters
    ----------
    target : str or sequence of str
        Folder of images, table whose rows name them, file with images inside, Deep Lake store or dataset,
        or a name that ``run_all.py --data`` knows, such as ``phantom``. Several are one part each.
    manifest : pathlib.Path, optional
        Split manifest of leakfree: its parts replace those of the target.
    patient_pattern : str, optional
        Regular expression whose first group, searched in the file's path, is the patient.
    cache : pathlib.Path, optional
        Where cohorts are kept; needed only for names such as ``phantom``.
    wishes : leakfree.data.reading.wishes.Wishes, optional
        What else was declared.

    Raises
    ------
    TargetError
        One line that says what is wrong.
    """
    wishes = wishes or Wishes()
    if patient_pattern is not None:
        wishes = replace(wishes, patient_pattern=patient_pattern)
    if manifest is not None:
        wishes = replace(wishes, no_parts=True)
    targets = [target] if isinstance(target, str) else list(target)
    if not all(targets):
        raise TargetError("no target: the name is empty")
    try:
        opened = _opened(targets, wishes)
        found = _from_cohort(targets[0], cache, wishes) if opened is None else _target(opened)
    except (SourceError, ReadingError) as error:
        raise TargetError(str(error)) from error
    if manifest is not None:
        found = _with_manifest(found, Path(manifest))
    if found.table.empty:
        named, told = " ".join(targets), "no image" if opened is None else opened.nothing
        raise TargetError(told if told.startswith(named) else f"{named}: {told}")
    return found


def _opened(targets: Sequence[str], wishes: Wishes) -> Opened | None:
    """Open files and folders; None for a cohort."""
    if len(targets) > 1:
        return open_several([Path(one) for one in targets], wishes)
    path = Path(targets[0])
    try:
        there = path.exists() and not (path.is_dir() and is_deeplake(path))
    except OSError as error:
        raise TargetError(f"{path}: {error.strerror or error}") from error
    return open_input(path, wishes) if there else None


def from_folder(root: Path, wishes: Wishes = Wishes()) -> Target:  # noqa: B008 (frozen)
    """List the images below a folder, and find out part, label and patient of each."""
    return _target(open_folder(root, wishes))


def from_csv(path: Path, wishes: Wishes = Wishes()) -> Target:  # noqa: B008 (frozen)
    """List the images that the rows of a table name; they lie in its folder or below."""
    return _target(open_table_of_images(path, wishes))


def _target(opened: Opened) -> Target:
    found = opened.understood
    return Target(
        opened.name,
        found.table,
        opened.reader,
        opened.problems,
        opened.parts,
        reading=found.reading,
        alternatives=found.alternatives,
        doubtful=found.doubtful,
    )


def _from_cohort(target: str, cache: Path | None, wishes: Wishes) -> Target:
    from leakfree.base.paths import cache_folder, project_root
    from leakfree.data.cohort import CohortError
    from leakfree.data.open import open_cohort

    if Path(target).name == target and not Path(target).exists() and target not in ("phantom", "hub"):
        raise TargetError(f"{target}: no such file or folder")
    try:
        cohort = open_cohort(target, cache or cache_folder(project_root()), allow_problems=True)
    except CohortError as error:
        raise TargetError(str(error)) from error
    found = from_cohort(cohort)
    return _with_pattern(found, wishes.patient_pattern) if wishes.patient_pattern else found


def from_cohort(cohort: Cohort | RecordedCohort, rows: Sequence[int] | None = None) -> Target:
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
    listed = listed.reset_index(drop=True)
    return Target(
        cohort.name,
        listed,
        reader,
        tuple(cohort.problems),
        checksum=cohort.checksum,
        reading=_stored(listed),
    )


def _stored(table: pd.DataFrame) -> Reading:
    """Describe what the store of a cohort says."""
    ids, parts = table["image_id"].tolist(), table["part"].tolist()
    patients = table[SUBJECT].tolist() if SUBJECT in table else names_tell(table)
    store = "the store of the cohort"
    unclear = (
        () if any(parts) else ("the cohort has no parts: declare them with --manifest, or pass --no-parts",)
    )
    return Reading(
        make_field(store, ids, parts),
        make_field(store, ids, table["label"].tolist()),
        make_field(store, ids, patients, listed=False),
        unclear=unclear,
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
    reading = target.reading
    if reading is not None:
        field_ = make_field(f"the split {name}", table["image_id"].tolist(), table["part"].tolist())
        unclear = tuple(one for one in reading.unclear if "part" not in one.split(":")[0])
        reading = replace(reading, parts=field_, unclear=unclear)
    return replace(
        target,
        table=table,
        reader=target.reader.only(known.nonzero()[0].tolist()),
        problems=(*unusable, *problems),
        declared=tuple(dict.fromkeys(part_of.values())),
        facts={**target.facts, "split": name, "outside the split": int((~known).sum())},
        reading=reading,
        alternatives={},
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
    patients = searched(pattern, "--patient-pattern", target.table["image_id"].tolist())
    found = [patient for patient in patients if patient]
    reading = target.reading
    if reading is not None:
        told = make_field(
            f"--patient-pattern {pattern}", target.table["image_id"].tolist(), patients, listed=False
        )
        unclear = reading.unclear
        if len(found) < len(patients):
            matched = f"matches only {len(found):,} of {len(patients):,} names"
            unclear = (*unclear, f"--patient-pattern {pattern}: {matched}")
        reading = replace(reading, patients=told, unclear=unclear)
    return replace(target, table=target.table.assign(patient=patients), reading=reading)


def as_target(opened: Opened, *, leave_out: Collection[str] = (), sealed: str = "") -> Target:
    """Hand the images of a study to the audit, with the labels, parts and patients that the study reads.

    Parameters
    ----------
    opened : leakfree.data.inputs.Opened
        See `leakfree.data.sources.listing.list_study`.
    leave_out : collection of str
        Labels whose images take no part.
    sealed : str
        Part whose labels the audit must not see; none if empty.
    """
    target = _target(opened)
    taking = ~target.table["label"].isin(list(leave_out)).to_numpy()
    table = target.table[taking].reset_index(drop=True)
    if sealed:
        table["label"] = table["label"].where(table["part"] != sealed, "sealed")
    table[SUBJECT] = table["patient"]
    ids = table["image_id"].tolist()
    reading = target.reading
    if reading is not None:
        labels = make_field(reading.labels.source, ids, table["label"].tolist())
        reading = replace(reading, labels=labels)
    rows = taking.nonzero()[0].tolist()
    return replace(target, table=table, reader=target.reader.only(rows), reading=reading)
