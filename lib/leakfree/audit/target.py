"""What is audited: folders, tables, containers or a cohort; one row an image, and how to read it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from leakfree.base.errors import LeakfreeError
from leakfree.data.formats import Item, ItemReader, file_items, list_items, of_file, plain_bytes
from leakfree.data.formats.annotations import annotated
from leakfree.data.patients import SUBJECT
from leakfree.data.raw import Problem, SourceError, readable
from leakfree.data.reading.parts import is_part, part_name
from leakfree.data.reading.report import Reading, make_field
from leakfree.data.reading.rows import Table, open_table
from leakfree.data.reading.tables import table_suffix
from leakfree.data.reading.understand import Input, Understood, names_tell, searched, understand
from leakfree.data.reading.wishes import ReadingError, Wishes
from leakfree.data.sources.hub import is_deeplake
from leakfree.data.sources.listing import Listed

if TYPE_CHECKING:
    from leakfree.data.cohort import Cohort
    from leakfree.data.record import RecordedCohort

#: Columns of a target's table.
COLUMNS = ("image_id", "part", "label", "patient", "person_num", "file")


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

    @property
    def places(self) -> Iterator[tuple[str]]:
        """File of each image."""
        return zip(self.paths, strict=True)

    def read(self, rows: Sequence[int]) -> Iterator[bytes | Problem]:
        """Yield the bytes of each row's file."""
        return (plain_bytes(self.ids[row], self.paths[row]) for row in rows)

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
        if len(targets) > 1:
            found = _from_several([Path(one) for one in targets], wishes)
        else:
            found = _from_one(targets[0], wishes, cache)
    except (SourceError, ReadingError) as error:
        raise TargetError(str(error)) from error
    if manifest is not None:
        found = _with_manifest(found, Path(manifest))
    if found.table.empty:
        named, told = " ".join(targets), _no_image(found)
        raise TargetError(told if told.startswith(named) else f"{named}: {told}")
    return found


def _no_image(found: Target) -> str:
    """Say why there is no image, and what would read what is there."""
    if found.reading is not None and found.reading.unclear:
        told = found.reading.unclear[0]
        if not told.startswith("no part"):
            return told
    kinds = found.reading.left_out if found.reading is not None else {}
    some = ", ".join(f"{n:,} x {kind}" for kind, n in list(kinds.items())[:5])
    return f"no image; there are {some}" if some else "no image"


def _from_one(target: str, wishes: Wishes, cache: Path | None) -> Target:
    path = Path(target)
    try:
        exists, is_folder = path.exists(), path.is_dir()
    except OSError as error:
        raise TargetError(f"{target}: {error.strerror or error}") from error
    if is_folder and not is_deeplake(path):
        return from_folder(path, wishes)
    if exists and not is_folder:
        return from_file(path, wishes)
    found = _from_cohort(target, cache)
    if wishes.patient_pattern:
        return _with_pattern(found, wishes.patient_pattern)
    return found


def from_folder(root: Path, wishes: Wishes = Wishes()) -> Target:  # noqa: B008 (frozen)
    """List the images below a folder, and find out part, label and patient of each.

    A folder is a part only if its name says so, see `leakfree.data.reading.parts.part_name`.
    """
    items, problems = list_items(root)
    tables = [open_table(path, root, wishes.columns) for path in wishes.csv]
    if not tables:
        # What belongs to images in folders by the convention of Hugging Face.
        known = [p.file for p in problems if Path(p.file).name.lower() in ("metadata.csv", "metadata.jsonl")]
        tables = [table for name in known if (table := _beside(root, name)) is not None]
    items, annotations, large = annotated(root, items, problems)
    problems = [p for p in problems if p.file not in {one.file for one in large}] + large
    found = understand(Input(items, tables, problems, root, annotations=annotations), wishes)
    empty = [child.name for child in sorted(root.iterdir()) if child.is_dir() and is_part(child.name)]
    return _target(_name(root), found, problems, () if wishes.no_parts else empty)


def _beside(root: Path, name: str) -> Table | None:
    """Open a table ``metadata`` that lies beside images; None unless it names files."""
    try:
        table = open_table(Path(root) / name, root)
    except ReadingError:
        return None
    return table if any(column in table.frame for column in ("file_name", "filename", "image")) else None


def from_file(path: Path, wishes: Wishes = Wishes()) -> Target:  # noqa: B008 (frozen)
    """List the images of a table, or of a file that holds images."""
    if of_file(path):
        items, problems = file_items(path, path.name)
        items = [item._replace(file=item.file.removeprefix(f"{path.name}/")) for item in items]
        tables = [open_table(table, path.parent, wishes.columns) for table in wishes.csv]
        found = understand(Input(items, tables, problems), wishes)
        return _target(path.stem, found, problems)
    if not table_suffix(path):
        raise TargetError(f"{path}: neither a folder, nor a CSV, nor a cohort, nor a file with images inside")
    return from_csv(path, wishes)


def from_csv(path: Path, wishes: Wishes = Wishes()) -> Target:  # noqa: B008 (frozen)
    """List the images that the rows of a table name; they lie in its folder or below.

    A file may be listed twice: that is a finding, not an error.
    """
    path = Path(path)
    tables = [open_table(one, path.parent, wishes.columns) for one in (path, *wishes.csv)]
    found = understand(Input(_listed(tables, wishes), tables, by_table=True), wishes)
    return _target(path.stem, found, [])


def _listed(tables: Sequence[Table], wishes: Wishes) -> list[Item]:
    """List the files that tables may mean: those that values name as they stand, else all of the folder."""
    root = tables[0].path.parent
    direct: dict[str, Item] = {}
    for table in tables:
        names = [wishes.path_column] if wishes.path_column in table.frame else list(table.frame.columns)
        best: dict[str, Item] = {}
        for column in names:
            found = {}
            values = [value.strip() for value in table.frame[column]]
            # A first look at a few: most columns hold no names of files.
            if not any(_is_file(table.path.parent, value) for value in values[:50]):
                continue
            for value in values:
                if _is_file(table.path.parent, value):
                    for item in _file_as_items(table.path.parent / value, value):
                        found[item.file] = item
            best = max(best, found, key=len)
        direct |= best
        complete = best and all(
            any(value.strip() in best for value in row)
            for row in table.frame[names].itertuples(index=False, name=None)
        )
        if not complete:
            break
    else:
        return list(direct.values())
    items, _ = list_items(root)
    known = {item.path for item in items}
    return items + [item for item in direct.values() if item.path not in known]


def _is_file(folder: Path, value: str) -> bool:
    if not value or value in (".", "..", "/"):
        return False
    try:
        place = folder / value
        return place.exists() and not place.is_dir()
    except (OSError, ValueError):
        return False


def _file_as_items(path: Path, file: str) -> list[Item]:
    if of_file(path):
        items, _ = file_items(path, file)
        if items:
            return items
    return [Item(file, str(path))]


def _from_several(paths: Sequence[Path], wishes: Wishes) -> Target:
    """Take several targets together: folders and files with images are a part each, by their names."""
    items, problems, tables = [], [], []
    names = _different(paths)
    root = Path(*_common(paths)) if _common(paths) else Path()
    for path, name in zip(paths, names, strict=True):
        if path.is_dir():
            some, wrong = list_items(path)
            declared = name
        elif path.is_file() and table_suffix(path) and not of_file(path):
            tables.append(path)
            continue
        elif path.is_file():
            some, wrong = file_items(path, path.name)
            some = [item._replace(file=item.file.removeprefix(f"{path.name}/")) for item in some]
            declared = name
        else:
            raise TargetError(f"{path}: no such file or folder")
        items += [item._replace(file=f"{name}/{item.file}", part=declared) for item in some]
        problems += [Problem(f"{name}/{problem.file}", problem.reason) for problem in wrong]
    opened = [open_table(path, root, wishes.columns) for path in (*tables, *wishes.csv)]
    if not items:
        found = understand(Input(_listed(opened, wishes), opened, by_table=True), wishes)
        return _target("-".join(names), found, [])
    # The folders were given as parts, one each; what stands inside them is no part.
    found = understand(Input(items, opened, problems, declared=True), wishes)
    return _target("-".join(names), found, problems)


def _different(paths: Sequence[Path]) -> list[str]:
    """Name targets by the shortest end of their paths in which they all differ."""
    resolved = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, resolved)) + 1):
        names = ["_".join(parts[-length:]) for parts in resolved]
        if len(set(names)) == len(names):
            return [re.sub(r"[/\\]+", "_", name).strip("_") or "root" for name in names]
    raise TargetError(f"{paths[0]}: is given twice")


def _common(paths: Sequence[Path]) -> tuple[str, ...]:
    common = []
    for parts in zip(*(path.resolve().parts for path in paths), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return tuple(common)


def _target(
    name: str, found: Understood, problems: Sequence[Problem], declared: Sequence[str] = ()
) -> Target:
    items = found.items
    reader = ItemReader(
        tuple(found.table["image_id"]),
        tuple(item.path for item in items),
        tuple(item.format for item in items),
        tuple(item.key for item in items),
    )
    dropped = {problem.file for problem in found.problems}
    told = [Problem(readable(p.file), p.reason) for p in problems if p.file not in dropped]
    told += [Problem(readable(p.file), p.reason) for p in found.problems]
    parts = [part for part in dict.fromkeys(found.table["part"]) if part]
    known = {part_name(part) for part in parts}
    # A folder of a part without an image, unless the same part is written in another way.
    parts = [*(part for part in declared if part in parts or part_name(part) not in known), *parts]
    parts = list(dict.fromkeys(parts))
    return Target(
        name,
        found.table,
        reader,
        tuple(told),
        tuple(parts),
        reading=found.reading,
        alternatives=found.alternatives,
        doubtful=found.doubtful,
    )


def _name(root: Path) -> str:
    return re.sub(r"[^\w.-]+", "-", root.resolve().name).strip("-.") or "folder"


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


def make_table(rows: list[tuple], sort: bool = True) -> pd.DataFrame:
    """Make a target's table of rows in the order of `COLUMNS`, sorted by image id unless told otherwise."""
    # As objects: where pyarrow is there, its texts cannot hold names that are not UTF-8.
    table = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    table["person_num"] = table["person_num"].astype("Int64")
    return table.sort_values("image_id", ignore_index=True) if sort else table


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
                readable(image.file),
                readable(image.part),
                "sealed" if sealed and image.part == sealed else readable(image.label),
                readable(image.patient),
                pd.NA,
                str(image.path),
            )
            for image in listed
            if image.label not in leave_out
        ]
    )
    reader = FileReader(tuple(table["image_id"]), tuple(table["file"]))
    ids = table["image_id"].tolist()
    reading = Reading(
        make_field("study.yaml", ids, table["part"].tolist()),
        make_field("study.yaml", ids, table["label"].tolist()),
        make_field("study.yaml", ids, table["patient"].tolist(), listed=False),
    )
    table = table.assign(**{SUBJECT: table["patient"]})
    return Target(name, table, reader, tuple(problems), reading=reading)
