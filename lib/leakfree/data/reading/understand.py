"""The one understanding of an input: part, label and patient of each image, and what is unclear."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from leakfree.data.names import label_from_path
from leakfree.data.patients import SUBJECT, missing_identifier, patient_ids
from leakfree.data.raw import Item, Problem, readable
from leakfree.data.reading import folders as by_folder
from leakfree.data.reading.parts import folder_parts, one_spelling, part_name
from leakfree.data.reading.patient_ids import Ids, is_unknown, read_ids
from leakfree.data.reading.report import Reading, make_field
from leakfree.data.reading.rows import Row, Table, Tables, open_table, stem
from leakfree.data.reading.tables import (
    ALIASES,
    TableError,
    choose_path_column,
    plain,
    read_list,
    table_suffix,
)
from leakfree.data.reading.wishes import ReadingError, Wishes

#: Before an id from a header, as `leakfree.data.formats.dicom` reads it: reports show a number instead.
HIDDEN = "header:"
#: Before the name of a column that is no part, label, patient or group: what it tells is asked.
META = "meta: "
#: Before the name of a further scope, as a column of the table of images.
SCOPE = "scope: "
#: Tables larger than this, in bytes, are not opened to see whether they could be of use.
_PEEK = 50_000_000
_GROUPS = frozenset(ALIASES["group"])
_CHEST = "names of the chest_xray distribution"


@dataclass(frozen=True)
class Input:
    """What there is to understand.

    Attributes
    ----------
    items : sequence of Item
    tables : sequence of Table
        In the order in which they were given.
    other : sequence of Problem
        Files that are no images, for what is said of them.
    root : pathlib.Path or None
        Folder of the images; tables in it are named where they would help.
    by_table : bool
        Only images that a table names are looked at.
    declared : bool
        The parts of the items were declared, and count before all else.
    annotations : str
        What told the labels of the items, for people.
    """

    items: Sequence[Item]
    tables: Sequence[Table] = ()
    other: Sequence[Problem] = ()
    root: Path | None = None
    by_table: bool = False
    declared: bool = False
    annotations: str = ""


@dataclass(frozen=True)
class Understood:
    """Images with what is known of them.

    Attributes
    ----------
    items : tuple of Item
        In the order of the table.
    table : pandas.DataFrame
        ``image_id, part, label, patient, person_num, file``, one column for each further scope, and
        `leakfree.data.patients.SUBJECT` unless the names are those of chest_xray.
    reading : Reading
    problems : tuple of Problem
        Rows of tables and lists that name no image.
    alternatives : mapping of str to mapping of str to str
        Where one column holds several splits of the same images: name of each to image and part.
    doubtful : tuple of tuple of str
        Patients that may be one, see `leakfree.data.reading.patient_ids.read_ids`.
    """

    items: tuple[Item, ...]
    table: pd.DataFrame
    reading: Reading
    problems: tuple[Problem, ...] = ()
    alternatives: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    doubtful: tuple[tuple[str, ...], ...] = ()


@dataclass
class _Told:
    """What is said of a reading on the way, as in `Reading`."""

    notes: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Parts:
    """The part of each row.

    Attributes
    ----------
    names : list of str
    source : str
        What told them, in words.
    places : list of int
        Where among the folders of each row its part is.
    alternatives : dict of str to dict of str to str
        As `Understood.alternatives`.
    doubtful : tuple of str
        Folders that are named a little like parts.
    """

    names: list[str]
    source: str
    places: list[int]
    alternatives: dict[str, dict[str, str]]
    doubtful: tuple[str, ...]


@dataclass(frozen=True)
class _Rows:
    """The images that are looked at, an image once for each row of tables about it.

    Attributes
    ----------
    items : tuple of Item
    rows : list of Row
        What tables say of each.
    weak : list of str
        The part that the name of a table says, which counts last.
    """

    items: tuple[Item, ...]
    rows: list[Row]
    weak: list[str]

    @property
    def files(self) -> list[str]:
        return [item.file for item in self.items]

    @property
    def folders(self) -> list[list[str]]:
        return [file.split("/")[:-1] for file in self.files]

    def said(self, what: str) -> list[str]:
        """Return part, label or patient by the tables, else by the files."""
        return [
            getattr(row, what) or getattr(item, what) for row, item in zip(self.rows, self.items, strict=True)
        ]

    def further(self, kind: str, name: str) -> list[str]:
        """Return ``groups`` or ``facts`` of a name by the tables, else by the files."""
        return [
            getattr(row, kind).get(name) or dict(item.facts).get(name, "")
            for row, item in zip(self.rows, self.items, strict=True)
        ]


def understand(given: Input, wishes: Wishes = Wishes()) -> Understood:  # noqa: B008 (frozen)
    """Find out part, label and patient of images.

    Raises
    ------
    ReadingError
        What was declared cannot be used; one line.
    """
    told = _Told()
    items, masks = _without_masks(given, told)
    said = _tables(items, given.tables, wishes)
    told.unclear += said.unclear
    told.notes += said.notes
    rows = _rows(items, given, said, told)
    parts = _parts(rows, given, wishes, said, told)
    labels, label_source = _labels(rows, given, parts, said)
    patients, patient_source = _patients(rows, wishes, said, told)
    chest = by_folder.is_chest_xray(rows.files, [label for label in labels if label])
    # Labels of a table are its own words, and are not filled up with those of names.
    if chest and not given.by_table and not any(row.label for row in rows.rows):
        label_source = label_source if any(labels) else _CHEST
        told_too = zip(labels, rows.files, strict=True)
        labels = [label or label_from_path(file) or "" for label, file in told_too]
    # What was declared and fits nothing is not made up for by a guess.
    if not any(patients) and not chest and not (wishes.patient_pattern or wishes.patient_column):
        patients, patient_source = by_folder.folder_patients(rows.files)
    ids = read_ids(patients, parts.names)
    scopes = _scopes(rows, said, ids.patient, wishes, told)
    patient = _numbered(ids.patient)
    if not any(patient) and scopes and not chest:
        name = next(iter(scopes))
        patient, patient_source = list(scopes[name]), f"{name}, since there is no column of patients"
    _tell_ids(ids, told)
    if parts.doubtful:
        some = ", ".join(parts.doubtful[:4])
        told.notes.append(f"not taken for parts, though named a little like them: {some}")
    table = _table(rows, parts.names, labels, patient, scopes)
    by_name = chest and not any(patient)
    if by_name:
        patient_source = _CHEST
    if not chest:
        table[SUBJECT] = table["patient"]
    chosen = rows.items
    if not given.by_table:
        table = table.sort_values("image_id", kind="stable")
        chosen = tuple(chosen[k] for k in table.index)
        table = table.reset_index(drop=True)
    if not wishes.no_parts:
        _unclear_parts(table, given, said, told)
    files = table["image_id"].tolist()
    people = names_tell(table) if by_name else table["patient"].tolist()
    reading = Reading(
        parts=make_field(parts.source, files, table["part"].tolist()),
        labels=make_field(label_source, files, table["label"].tolist()),
        patients=make_field(patient_source, files, people, listed=False),
        scopes={name: len({v for v in values if v}) for name, values in scopes.items()},
        notes=tuple(told.notes),
        unclear=tuple(dict.fromkeys(told.unclear)),
        partial=tuple(dict.fromkeys(told.partial)),
        left_out=_kinds([*given.other, *masks]),
    )
    doubtful = tuple(_shown(ids.doubtful))
    return Understood(chosen, table, reading, (*masks, *said.problems), parts.alternatives, doubtful)


def names_tell(table: pd.DataFrame) -> list[str]:
    """Return the patients that names of the chest_xray distribution tell, empty where they tell none."""
    told = zip(missing_identifier(table).tolist(), patient_ids(table).tolist(), strict=True)
    return ["" if gone else patient for gone, patient in told]


def _without_masks(given: Input, told: _Told) -> tuple[list[Item], list[Problem]]:
    """Leave out masks, unless a table says which files are images."""
    dropped = set() if given.by_table else by_folder.masks([item.file for item in given.items])
    if dropped:
        told.notes.append(f"{len(dropped):,} masks are no images of their own, such as {min(dropped)}")
    masks = [Problem(file, "foreign: not the name of an image: a mask") for file in sorted(dropped)]
    return [item for item in given.items if item.file not in dropped], masks


def _tables(items: Sequence[Item], tables: Sequence[Table], wishes: Wishes) -> Tables:
    """Take up tables and lists; refuse a declared column that none has."""
    said = Tables([item.file for item in items], wishes)
    for what in ("path", "part", "label", "patient"):
        column = wishes.column(what)
        if not column or any(said.declared(table, what) for table in tables):
            continue
        if not tables:
            raise ReadingError(f"--{what}-column: there is no --csv")
        known = ", ".join(tables[0].frame.columns)
        raise ReadingError(f"{tables[0].path}: no column {column}; found {known}")
    for name in wishes.group_columns:
        if not any(name in table.frame for table in tables):
            raise ReadingError(f"--group-column: no table has a column {name}")
    for table in tables:
        said.add(table)
    for part, path in wishes.part_lists:
        said.add_list(part, path)
    return said


def _rows(items: Sequence[Item], given: Input, said: Tables, told: _Told) -> _Rows:
    """Choose the images that are looked at, in order."""
    order = list(range(len(items)))
    if given.by_table:
        order = list(dict.fromkeys(said.order))
        if outside := len(items) - len(order):
            told.notes.append(f"{outside:,} images beside the table have no row in it and take no part")
    elif given.tables and (bare := [items[k].file for k in order if k not in said.rows]):
        told.notes.append(f"{len(bare):,} images have no row in a table, such as {bare[0]}")
    places = [(k, row) for k in order for row in (said.rows.get(k) or [Row()])]
    weak = [said.weak_part.get(k, "") for k, _ in places]
    return _Rows(tuple(items[k] for k, _ in places), [row for _, row in places], weak)


def _parts(rows: _Rows, given: Input, wishes: Wishes, said: Tables, told: _Told) -> _Parts:
    """Choose the part of each row: declared, in a table, said by the file, by a folder, by a table's name."""
    folder = folder_parts(rows.folders)
    pattern = [""] * len(rows.items)
    if wishes.part_pattern:
        pattern = _searched(wishes.part_pattern, "--part-pattern", rows.files, told)
    names: list[str] = []
    used: Counter[str] = Counter()
    disagreeing = 0
    for k, item in enumerate(rows.items):
        options = (
            ("declared", item.part if given.declared else ""),
            ("pattern", pattern[k]),
            ("table", rows.rows[k].part),
            ("file", item.part),
            ("folder", folder.name[k]),
            ("name", rows.weak[k]),
        )
        kind, name = next(((kind, name) for kind, name in options if name), ("", ""))
        if kind in ("pattern", "table") and folder.name[k] and part_name(folder.name[k]) != part_name(name):
            disagreeing += 1
        names.append(name)
        used[kind] += bool(name)
    if wishes.no_parts:
        names = [""] * len(names)
        used.clear()
    names, spellings = one_spelling(names)
    for name, group in spellings.items():
        told.notes.append(f"one part, {name}, is written in {len(group)} ways: {', '.join(group[:5])}")
    if disagreeing:
        told.notes.append(
            f"the folder of {disagreeing:,} images names another part than what was given, which counts"
        )
    words = {
        "declared": "the targets, one part each",
        "pattern": f"--part-pattern {wishes.part_pattern}",
        "table": " and ".join(dict.fromkeys(said.sources["part"])) or "tables",
        "file": "what the files say",
        "folder": "folders named like parts",
        "name": "the names of the tables",
    }
    alternatives = {name: dict(parts) for name, parts in said.alternatives.items()}
    if not alternatives and used.keys() <= {"folder"}:
        folds: dict[str, dict[str, str]] = defaultdict(dict)
        for file, fold, name in zip(rows.files, folder.fold, names, strict=True):
            if fold:
                folds[fold][file] = name
        alternatives = dict(folds) if len(folds) > 1 else {}
    if alternatives:
        some = ", ".join(list(alternatives)[:6])
        told.notes.append(f"{len(alternatives)} splits of the same images are looked at one by one: {some}")
    return _Parts(
        names,
        " and ".join(words[kind] for kind in words if used[kind]),
        # Where the targets are the parts, the first folder of a name is that of its target.
        [0] * len(names) if given.declared else list(folder.place),
        alternatives,
        () if given.declared else folder.doubtful,
    )


def _labels(rows: _Rows, given: Input, parts: _Parts, said: Tables) -> tuple[list[str], str]:
    labels = rows.said("label")
    if any(row.label for row in rows.rows):
        return labels, " and ".join(dict.fromkeys(said.sources["label"]))
    if any(labels):
        return labels, given.annotations or "what the files say"
    found = by_folder.folder_labels(rows.folders, parts.places)
    return list(found.label), found.source


def _patients(rows: _Rows, wishes: Wishes, said: Tables, told: _Told) -> tuple[list[str], str]:
    if wishes.patient_pattern:
        found = _searched(wishes.patient_pattern, "--patient-pattern", rows.files, told)
        return found, f"--patient-pattern {wishes.patient_pattern}"
    patients = rows.said("patient")
    if any(row.patient for row in rows.rows):
        return patients, " and ".join(dict.fromkeys(said.sources["patient"]))
    return patients, "what the files say" if any(patients) else ""


def _searched(pattern: str, option: str, files: Sequence[str], told: _Told) -> list[str]:
    """Search a pattern in paths, and say where it does not match."""
    values = searched(pattern, option, files)
    without = [file for file, value in zip(files, values, strict=True) if not value]
    if files and len(without) == len(files):
        told.unclear.append(f"{option} {pattern}: matches none of {len(files):,} paths, such as {files[0]}")
    elif without:
        told.partial.append(
            f"{option} {pattern}: matches only {len(files) - len(without):,} of {len(files):,} paths, "
            f"not {without[0]}"
        )
    elif len(set(values)) == 1 and len(values) > 2:
        told.notes.append(
            f"{option} {pattern}: reads the same for all {len(files):,} images, {values[0]}: is it meant so?"
        )
    return values


def searched(pattern: str, option: str, names: Sequence[str]) -> list[str]:
    """Return the first group of a pattern in each name, empty where it does not match."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ReadingError(f"{option} {pattern}: {error}") from error
    if compiled.groups < 1:
        raise ReadingError(f"{option} {pattern}: needs a group, such as subject(\\d+)")
    return [(match[1] or "") if match else "" for match in map(compiled.search, names)]


def _scopes(
    rows: _Rows, said: Tables, patients: Sequence[str], wishes: Wishes, told: _Told
) -> dict[str, list[str]]:
    """Collect further columns that group images, unless several patients share their values."""
    found: dict[str, list[str]] = {}
    facts = [name for item in rows.items[:1] for name, _ in item.facts]
    for name in dict.fromkeys([*said.groups, *facts]):
        chosen = name in wishes.group_columns or name in said.persons
        if plain(name) not in _GROUPS and not chosen:
            continue
        values = ["" if is_unknown(value) else value for value in rows.further("groups", name)]
        if not any(values):
            continue
        owners: dict[str, set[str]] = defaultdict(set)
        for value, patient in zip(values, patients, strict=True):
            if value and patient:
                owners[value].add(patient)
        shared = sum(len(who) > 1 for who in owners.values())
        if shared and name in said.persons and not wishes.patient_column:
            told.unclear.append(
                f"two columns name patients, and {name} joins images that the other one keeps apart: give "
                "--patient-column"
            )
        if owners and shared > 0.05 * len(owners) and not chosen:
            told.notes.append(
                f"column {name} groups images within a patient only: several share {shared:,} of its values"
            )
            continue
        found[name] = values
    return found


def _facts(rows: _Rows, scopes: Mapping[str, Any]) -> dict[str, list[str]]:
    """Collect further columns, and fields of headers, that have a value for some image."""
    names: dict[str, None] = {}
    for row, item in zip(rows.rows, rows.items, strict=True):
        names |= dict.fromkeys(row.facts)
        names |= {name: None for name, _ in item.facts if plain(name) not in _GROUPS}
    found = {}
    for name in names:
        if name in scopes:
            continue
        values = [
            "" if is_unknown(value) and not value.lstrip("-").isdigit() else value
            for value in rows.further("facts", name)
        ]
        if any(values):
            found[name] = values
    return found


def _table(
    rows: _Rows,
    parts: Sequence[str],
    labels: Sequence[str],
    patients: Sequence[str],
    scopes: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    """Make the table of images."""
    columns = {"image_id": rows.files, "part": parts, "label": labels, "patient": patients}
    table = pd.DataFrame({name: [readable(one) for one in values] for name, values in columns.items()})
    table["person_num"] = pd.array([pd.NA] * len(table), dtype="Int64")
    # As objects: where pyarrow is there, its texts cannot hold names that are not UTF-8.
    table["file"] = pd.Series([item.path for item in rows.items], dtype=object)
    further = {SCOPE + name: values for name, values in scopes.items()}
    further |= {META + name: values for name, values in _facts(rows, scopes).items()}
    for name, values in further.items():
        table[name] = [readable(value) for value in values]
    return table


def _numbered(patients: Sequence[str]) -> list[str]:
    """Put a number in the place of ids from headers, which no report shows."""
    numbers: dict[str, str] = {}
    return [
        numbers.setdefault(one, f"header-{len(numbers) + 1:04d}") if one.startswith(HIDDEN) else one
        for one in patients
    ]


def _shown(groups: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [group for group in groups if not any(one.startswith(HIDDEN) for one in group)][:4]


def _tell_ids(ids: Ids, told: _Told) -> None:
    if ids.unknown:
        words = ", ".join(f"{word!r} ({n:,})" for word, n in list(ids.unknown.items())[:4])
        told.notes.append(f"patients that are not known, each image on its own: {words}")
    if ids.merged:
        some = "; ".join(" = ".join(group) for group in _shown(ids.merged))
        told.notes.append(
            f"{len(ids.merged):,} patients are written in several ways and taken for one each: {some}"
        )
    if ids.doubtful:
        some = "; ".join(" and ".join(group) for group in _shown(ids.doubtful))
        told.notes.append(
            f"{len(ids.doubtful):,} times ids differ only in how they are written, and are left apart: {some}"
        )


def _unclear_parts(table: pd.DataFrame, given: Input, said: Tables, told: _Told) -> None:
    """Say what to declare where parts were not read."""
    without = table.loc[table["part"] == "", "image_id"].tolist()
    if not without:
        return
    names = by_folder.level_names([file.split("/")[:-1] for file in without])
    folders = f" (folders {', '.join(names)})" if names else ""
    helpful = _helpful(given.other, given.root, said) if given.root is not None else []
    ways = (
        "; ".join(helpful) or "--part-list test=FILE, --part-pattern REGEX, or --csv TABLE with --part-column"
    )
    if len(without) == len(table):
        told.unclear.append(
            f"no part of a split was read{folders}: declare parts with {ways}; or pass --no-parts"
        )
    else:
        told.partial.append(
            f"{len(without):,} of {len(table):,} images have no part, such as {without[0]}{folders}: "
            f"declare it with {ways}; or pass --no-parts"
        )


def _helpful(other: Sequence[Problem], root: Path, said: Tables) -> list[str]:
    """Name the tables and lists in the folder that would tell parts."""
    found = []
    tables = [p.file for p in other if table_suffix(Path(p.file)) and p.file.count("/") <= 2][:8]
    for name in tables:
        path = Path(root) / name
        try:
            if path.stat().st_size > _PEEK:
                continue
            lines = read_list(path)
            by_name = part_name(stem(path))
            if by_name is not None and said.finder.share(lines[:200]) > 0.5:
                found.append(f"--part-list {by_name.kind}={path}")
                continue
            opened = open_table(path, root)
            column, share = choose_path_column(opened.frame, said.finder, opened.before)
        except (TableError, ReadingError, OSError):
            continue
        if column and share > 0.3:
            part = said.part_column(opened)[0]
            found.append(f"--csv {path}" + (f" (its column {part})" if part else ""))
    return sorted(found, key=lambda line: (not line.startswith("--part"), line))


def _kinds(problems: Sequence[Problem]) -> dict[str, int]:
    counts: Counter = Counter()
    for problem in problems:
        if not problem.reason.startswith("foreign: not the name"):
            continue
        _, _, told = problem.reason.partition("an image: ")
        name = problem.file.rsplit("/", 1)[-1]
        ending = f".{name.rsplit('.', 1)[1].lower()}" if "." in name[1:] else "without an ending"
        if told in ("a mask", "left behind by the system"):
            counts["masks" if told == "a mask" else "files of the system"] += 1
        else:
            counts[f"{ending} ({told})" if told else ending] += 1
    return dict(counts.most_common())
