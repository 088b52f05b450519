"""The one understanding of an input: part, label and patient of each image, and what is unclear."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from leakfree.base.errors import LeakfreeError
from leakfree.data.names import label_from_path
from leakfree.data.patients import SUBJECT
from leakfree.data.raw import Item, Problem
from leakfree.data.reading import folders as by_folder
from leakfree.data.reading.parts import folder_parts, one_spelling, part_name, rank
from leakfree.data.reading.patient_ids import is_unknown, read_ids
from leakfree.data.reading.tables import (
    Finder,
    TableError,
    boolean_parts,
    choose_path_column,
    label_set,
    named,
    names_image,
    one_hot,
    one_hot_labels,
    plain,
    read_list,
    read_table,
    table_suffix,
)

#: Before an id from a header, as `leakfree.data.formats.dicom` reads it: reports show a number instead.
HIDDEN = "header:"
#: Before the name of a column that is no part, label, patient or group: what it tells is asked.
META = "meta: "
#: Before the name of a further scope, as a column of the table of images.
SCOPE = "scope: "
_EXAMPLES, _SHOWN = 3, 8
#: Further columns of a table that are kept, at most.
_FACTS = 60
#: Names of columns that are a part only if their values are named like parts.
_LOOSE = {"set", "grp", "usage", "phase", "subset", "split", "part", "partition"}
_FOLDS = {"fold", "folds", "kfold"}
#: Tables larger than this, in bytes, are not opened to see whether they could be of use.
_PEEK = 50_000_000


class ReadingError(LeakfreeError):
    """What was declared cannot be used; the message is one line."""


@dataclass(frozen=True)
class Wishes:
    """What the user declared about an input; empty chooses by looking at it.

    Attributes
    ----------
    csv : tuple of pathlib.Path
        Tables whose rows name images.
    columns : tuple of str
        Names of the columns of tables without a header.
    path_column, part_column, label_column, patient_column : str
    group_columns : tuple of str
        Columns that group images too, such as a study: further scopes.
    part_lists : tuple of (str, pathlib.Path)
        A part and the file that lists its images.
    part_pattern, patient_pattern : str
        Regular expressions whose first group, searched in the path, is the part or the patient.
    no_parts : bool
        The images are not split, and need not be.
    """

    csv: tuple[Path, ...] = ()
    columns: tuple[str, ...] = ()
    path_column: str = ""
    part_column: str = ""
    label_column: str = ""
    patient_column: str = ""
    group_columns: tuple[str, ...] = ()
    part_lists: tuple[tuple[str, Path], ...] = ()
    part_pattern: str = ""
    patient_pattern: str = ""
    no_parts: bool = False

    def column(self, what: str) -> str:
        """Return the declared column for ``path``, ``part``, ``label`` or ``patient``."""
        return getattr(self, f"{what}_column")


@dataclass(frozen=True)
class Field:
    """How parts, labels or patients were read.

    Attributes
    ----------
    source : str
        Which folder, column, pattern or names, in words; empty if nothing told it.
    images : int
        Images that have a value.
    of : int
        All images.
    values : mapping of str to int
        Values with their images; for patients only their number is kept, in `different`.
    different : int
        Number of different values.
    examples : tuple of (str, str)
        Three images with their values.
    without : tuple of str
        Three images without one.
    """

    source: str
    images: int
    of: int
    values: Mapping[str, int]
    different: int
    examples: tuple[tuple[str, str], ...]
    without: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Return JSON content."""
        return {
            "from": self.source,
            "images": self.images,
            "of": self.of,
            "different": self.different,
            "values": dict(self.values),
            "examples": [{"file": file, "value": value} for file, value in self.examples],
            "without": list(self.without),
        }

    def line(self) -> str:
        """Return one line for the terminal."""
        if not self.images:
            return "not read"
        some = ""
        if self.values:
            shown = [f"{value} {n:,}" for value, n in list(self.values.items())[:_SHOWN]]
            more = f", and {self.different - len(shown)} more" if self.different > len(shown) else ""
            some = f": {', '.join(shown)}{more}"
        elif self.different:
            some = f": {self.different:,} different"
        count = (
            f"all {self.of:,} images" if self.images == self.of else f"{self.images:,} of {self.of:,} images"
        )
        return f"from {self.source}, for {count}{some}"


def make_field(source: str, files: Sequence[str], values: Sequence[str], *, listed: bool = True) -> Field:
    """Describe the values of images; `listed` is False where values are many, such as patients."""
    counts = Counter(value for value in values if value)
    examples: dict[str, str] = {}
    without: list[str] = []
    for file, value in zip(files, values, strict=True):
        if value and value not in examples and len(examples) < _EXAMPLES:
            examples[value] = file
        elif not value and len(without) < _EXAMPLES:
            without.append(file)
    shown = [(file, value) for value, file in examples.items()]
    for file, value in zip(files, values, strict=True):
        if len(shown) >= _EXAMPLES:
            break
        if value and (file, value) not in shown:
            shown.append((file, value))
    return Field(
        source if counts else "",
        counts.total(),
        len(files),
        dict(counts.most_common(30)) if listed else {},
        len(counts),
        tuple(shown),
        tuple(without),
    )


@dataclass(frozen=True)
class Reading:
    """How an input was understood.

    Attributes
    ----------
    parts, labels, patients : Field
    scopes : mapping of str to int
        Further columns that group images, with their number of groups.
    notes : tuple of str
        What was decided on the way: spellings joined, words taken for unknown, what was left out.
    unclear : tuple of str
        What was not understood, each with what to declare; nothing may be cleared then.
    partial : tuple of str
        What was understood for some of the images only; the user may accept it.
    left_out : mapping of str to int
        Files that are no images of this input, by kind.
    """

    parts: Field
    labels: Field
    patients: Field
    scopes: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unclear: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Return JSON content."""
        return {
            "parts": self.parts.as_json(),
            "labels": self.labels.as_json(),
            "patients": self.patients.as_json(),
            "scopes": dict(self.scopes),
            "notes": list(self.notes),
            "unclear": list(self.unclear),
            "partial": list(self.partial),
            "left_out": dict(self.left_out),
        }


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
class _Row:
    """A row of tables about an image."""

    part: str = ""
    label: str = ""
    patient: str = ""
    groups: dict[str, str] = field(default_factory=dict)
    fold: str = ""
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table, and the folder that it lies in relative to the images."""

    path: Path
    before: str
    frame: pd.DataFrame


def open_table(path: Path, root: Path, columns: Sequence[str] = ()) -> Table:
    """Read a table whose rows name images below `root`; raises `ReadingError`."""
    try:
        frame = read_table(path, columns)
        if not columns and any(names_image(name) for name in frame.columns):
            if len(frame.columns) > 1:
                raise ReadingError(
                    f"{path}: has no header, its first line is {', '.join(frame.columns[:4])}: "
                    "give --columns A,B,..."
                )
            frame = read_table(path, ("path",))
    except TableError as error:
        raise ReadingError(str(error)) from error
    folder, root = Path(path).resolve().parent, Path(root).resolve()
    before = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else ""
    return Table(Path(path), "" if before == "." else before, frame)


class _Tables:
    """All that tables and lists say, by image."""

    def __init__(self, files: Sequence[str], wishes: Wishes) -> None:
        self.files, self.wishes = files, wishes
        self.place = {file: k for k, file in enumerate(files)}
        self.rows: dict[int, list[_Row]] = defaultdict(list)
        self.weak_part: dict[int, str] = {}
        self.problems: list[Problem] = []
        self.unclear: list[str] = []
        self.notes: list[str] = []
        self.sources: dict[str, list[str]] = defaultdict(list)
        self.alternatives: dict[str, dict[str, str]] = defaultdict(dict)
        self.groups: list[str] = []
        self.order: list[int] = []

    @cached_property
    def finder(self) -> Finder:
        """Made only where there is something to find."""
        return Finder(self.files)

    def add(self, table: Table) -> None:
        """Take up a table."""
        frame, path = table.frame, table.path
        if frame.empty:
            self.unclear.append(f"{path}: has no row")
            return
        column = self._declared(table, "path")
        if column:
            share = self.finder.share(frame[column].tolist(), table.before)
        else:
            column, share = choose_path_column(frame, self.finder, table.before)
        if not share:
            # A sparse hit is one all the same.
            named_ = [column] if column else named(frame, "path")
            column = next((c for c in named_ if any(self.finder.find(v, table.before) for v in frame[c])), "")
            share = float(bool(column))
        if not column or not share:
            given = column or next(iter(named(frame, "path")), "")
            such = f", such as {given} {frame[given].iloc[0]!r}" if given else ""
            self.unclear.append(
                f"{path}: no column names an image of this input{such}; "
                f"found {', '.join(frame.columns[:12])}: "
                "give --path-column, and the folder that the names are in"
            )
            if given:
                self._lost(table, given, range(len(frame)))
            return
        part, fold = self._part_column(table)
        label, patient = self._declared(table, "label"), self._declared(table, "patient")
        label = label or next((c for c in named(frame, "label") if c not in (column, part)), "")
        patient = patient or next(
            (c for c in named(frame, "patient") if not frame[c].map(is_unknown).all()), ""
        )
        hot = [] if label else one_hot(frame, {column, part, fold, patient})
        groups = [c for c in named(frame, "group") if c != column]
        for name in self.wishes.group_columns:
            if name in frame and name not in groups:
                groups.append(name)
        self._said(path, part, label, patient, hot, groups)
        labels = (
            one_hot_labels(frame, hot) if hot else [label_set(v) for v in frame[label]] if label else None
        )
        parts = None
        if part:
            values = frame[part].str.strip().tolist()
            parts = boolean_parts(part, values) or [
                "" if is_unknown(value) and not value.lstrip("-").isdigit() else value for value in values
            ]
        by_name = part_name(_stem(path)) if parts is None else None
        used = {column, part, fold, label, patient, *hot, *groups}
        others = [c for c in frame.columns if c not in used]
        several = self._annotations(frame, column, others)
        seen: dict[int, dict[tuple, _Row]] = defaultdict(dict)
        lost = []
        facts = [c for c in others if not plain(c).startswith("unnamed")][:_FACTS]
        texts = {c: frame[c].str.strip().tolist() for c in {column, patient, fold, *groups, *facts} if c}
        for k, value in enumerate(texts[column]):
            found = self.finder.find(value, table.before) if value else []
            if not found:
                lost.append(k)
                continue
            row = _Row(
                parts[k] if parts else "",
                labels[k] if labels else "",
                texts[patient][k] if patient else "",
                {c: texts[c][k] for c in groups},
                texts[fold][k] if fold else "",
                {c: texts[c][k] for c in facts},
            )
            for file in found:
                place = self.place[file]
                self.order.append(place)
                if by_name is not None:
                    name = _stem(path) if not by_name.rest else by_name.kind
                    if self.weak_part.setdefault(place, name) != name:
                        # Named by two tables, each a part: it is in both.
                        row = _Row(name, row.label, row.patient, row.groups)
                # Each image has a row of its own, since tables may complete it.
                self._keep(seen, place, replace(row, groups=dict(row.groups)), several)
        for place, kept in seen.items():
            self._merge(place, list(kept.values()))
        self._lost(table, column, lost)

    def _keep(self, seen: dict, place: int, row: _Row, several: bool) -> None:
        """Add a row of an image; rows that only annotate it once more add their labels."""
        key = (
            (row.part, row.patient, row.fold)
            if several
            else (row.part, row.patient, row.fold, len(seen[place]))
        )
        known = seen[place].get(key)
        if known is None:
            seen[place][key] = row
        elif row.label and row.label != known.label:
            known.label = label_set(f"{known.label}|{row.label}" if known.label else row.label)

    def _merge(self, place: int, rows: list[_Row]) -> None:
        folds = {row.fold for row in rows} - {""}
        if (len(rows) > 1 and len(folds) == len(rows) and len({row.part for row in rows}) > 1) or (
            folds and len({row.part for row in rows}) == 1 and len(folds) == len(rows) > 1
        ):
            for row in rows:
                self.alternatives[row.fold][self.files[place]] = row.part
            rows = rows[:1]
        before = self.rows[place]
        if not before:
            self.rows[place] = rows
            return
        # A further table about the same images fills in what the first one lacks.
        if len(rows) == 1 and (
            not rows[0].part or all(not old.part or old.part == rows[0].part for old in before)
        ):
            for old in before:
                old.part = old.part or rows[0].part
                old.label = old.label or rows[0].label
                old.patient = old.patient or rows[0].patient
                old.groups = {**rows[0].groups, **old.groups}
                old.facts = {**rows[0].facts, **old.facts}
        else:
            before.extend(rows)

    def _annotations(self, frame: pd.DataFrame, column: str, others: Sequence[str]) -> bool:
        """Whether images have several rows that differ in what is no part, label or patient."""
        repeated = frame[frame[column].duplicated(keep=False)]
        if repeated.empty or not others:
            return False
        per_image = repeated.groupby(column)[list(others)].nunique()
        return bool((per_image > 1).to_numpy().any())

    def _declared(self, table: Table, what: str) -> str:
        column = self.wishes.column(what)
        if not column:
            return ""
        if column in table.frame:
            return column
        close = [c for c in table.frame.columns if plain(c) == plain(column)]
        return close[0] if len(close) == 1 else ""

    def _part_column(self, table: Table) -> tuple[str, str]:
        """Choose the column with the part, and that of the fold which several splits are numbered by."""
        frame = table.frame
        if declared := self._declared(table, "part"):
            return declared, ""
        folds = [c for c in named(frame, "part") if plain(c) in _FOLDS]
        chosen = ""
        for column in named(frame, "part"):
            values = [v for v in frame[column].str.strip().unique() if v and not is_unknown(v)]
            if column in folds or not values or len(values) > 30:
                continue
            if boolean_parts(column, values) is not None or all(part_name(v) is not None for v in values):
                chosen = column
                break
            if plain(column) in _LOOSE - {"set", "grp", "usage", "phase", "subset"}:
                chosen = column
                break
        if chosen:
            return chosen, folds[0] if folds else ""
        numbered = [c for c in folds if 1 < frame[c].nunique() <= 30]
        return (numbered[0], "") if numbered else ("", "")

    def _said(
        self, path: Path, part: str, label: str, patient: str, hot: Sequence[str], groups: Sequence[str]
    ) -> None:
        name = path.name
        if part:
            self.sources["part"].append(f"column {part} of {name}")
        if label or hot:
            told = f"column {label}" if label else f"{len(hot)} class columns, {hot[0]} to {hot[-1]},"
            self.sources["label"].append(f"{told} of {name}")
        if patient:
            self.sources["patient"].append(f"column {patient} of {name}")
        self.groups += [group for group in groups if group not in self.groups]

    def _lost(self, table: Table, column: str, rows: Sequence[int]) -> None:
        texts = table.frame[column].str.strip().tolist()
        for k in rows:
            value = texts[k]
            where = f"{table.path.name}, row {k + 2}"
            if value:
                reason = f"missing: row {k + 2} of {table.path.name} names no image of this input"
                self.problems.append(Problem(value, reason))
            else:
                self.problems.append(Problem(where, "unreadable: no path"))

    def add_list(self, part: str, path: Path) -> None:
        """Take up a list of names of one part."""
        try:
            names = read_list(path)
        except TableError as error:
            raise ReadingError(str(error)) from error
        hits = 0
        for k, line in enumerate(names):
            found = self.finder.find(line)
            if not found:
                # Lists may have more behind the name, such as a label.
                words = re.split(r"[,;\t ]+", line)
                found = next((f for word in words if len(words) > 1 and (f := self.finder.find(word))), [])
            if not found:
                if k or "." in line:  # the first line may be a header
                    self.problems.append(
                        Problem(line, f"missing: line {k + 1} of {path.name} names no image of this input")
                    )
                continue
            hits += 1
            for file in found:
                place = self.place[file]
                self.order.append(place)
                rows = self.rows[place]
                if rows and not rows[0].part:
                    rows[0].part = part
                elif part not in [row.part for row in rows]:
                    old = rows[0] if rows else _Row()
                    rows.append(_Row(part, old.label, old.patient, dict(old.groups)))
        self.sources["part"].append(f"list {path.name}")
        if not hits:
            self.unclear.append(
                f"--part-list {part}={path}: none of its {len(names)} lines names an image of this input"
            )


class _Partial(str):
    """Something that was understood for some of the images."""


def _stem(path: Path) -> str:
    name = path.name
    while "." in name[1:]:
        name = name.rsplit(".", 1)[0]
    return name


def _searched(
    pattern: str, option: str, files: Sequence[str], unclear: list[str], notes: list[str]
) -> list[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ReadingError(f"{option} {pattern}: {error}") from error
    if compiled.groups < 1:
        raise ReadingError(f"{option} {pattern}: needs a group, such as subject(\\d+)")
    matches = [compiled.search(file) for file in files]
    values = [(match[1] or "") if match else "" for match in matches]
    without = [file for file, value in zip(files, values, strict=True) if not value]
    if files and len(without) == len(files):
        unclear.append(f"{option} {pattern}: matches none of {len(files):,} paths, such as {files[0]}")
    elif without:
        unclear.append(
            _Partial(
                f"{option} {pattern}: matches only {len(files) - len(without):,} of {len(files):,} paths, "
                f"not {without[0]}"
            )
        )
    elif len(set(values)) == 1 and len(values) > 2:
        notes.append(
            f"{option} {pattern}: reads the same for all {len(files):,} images, {values[0]}: is it meant so?"
        )
    return values


def understand(
    items: Sequence[Item],
    wishes: Wishes = Wishes(),
    tables: Sequence[Table] = (),
    *,
    by_table: bool = False,
    other: Sequence[Problem] = (),
    root: Path | None = None,
    declared: bool = False,
    annotations: str = "",
) -> Understood:
    """Find out part, label and patient of images.

    Parameters
    ----------
    items : sequence of Item
    wishes : Wishes
        What was declared.
    tables : sequence of Table
        In the order in which they were given.
    by_table : bool
        Only images that a table names are looked at.
    other : sequence of Problem
        Files that are no images, for what is said of them.
    root : pathlib.Path, optional
        Folder of the images; tables in it are named where they would help.
    declared : bool
        The parts of the items were declared, and stand before all else.
    annotations : str
        What told the labels of the items, for people.

    Raises
    ------
    ReadingError
        What was declared cannot be used; one line.
    """
    notes: list[str] = []
    all_files = [item.file for item in items]
    dropped = set() if by_table else by_folder.masks(all_files)
    problems = [Problem(file, "foreign: not the name of an image: a mask") for file in sorted(dropped)]
    if dropped:
        notes.append(f"{len(dropped):,} masks are no images of their own, such as {min(dropped)}")
        items = [item for item in items if item.file not in dropped]
    files = [item.file for item in items]
    said = _Tables(files, wishes)
    for what in ("path", "part", "label", "patient"):
        column = wishes.column(what)
        if column and not any(said._declared(table, what) for table in tables):
            known = ", ".join(tables[0].frame.columns) if tables else ""
            where = (
                f"{tables[0].path}: no column {column}; found {known}"
                if tables
                else f"--{what}-column: there is no --csv"
            )
            raise ReadingError(where)
    for name in wishes.group_columns:
        if not any(name in table.frame for table in tables):
            raise ReadingError(f"--group-column: no table has a column {name}")
    for table in tables:
        said.add(table)
    for part, path in wishes.part_lists:
        said.add_list(part, path)
    unclear = list(said.unclear)
    if by_table:
        order = list(dict.fromkeys(said.order))
        outside = len(files) - len(order)
        if outside:
            notes.append(f"{outside:,} images beside the table have no row in it and take no part")
    else:
        order = list(range(len(files)))
        if tables and (bare := [files[k] for k in order if k not in said.rows]):
            notes.append(f"{len(bare):,} images have no row in a table, such as {bare[0]}")
    places = [(k, row) for k in order for row in (said.rows.get(k) or [_Row()])]
    chosen = tuple(items[k] for k, _ in places)
    shown = [item.file for item in chosen]
    parts, source, in_folder, doubtful_folders, alternatives = _parts(
        chosen,
        [row for _, row in places],
        [said.weak_part.get(k, "") for k, _ in places],
        wishes,
        said,
        unclear,
        notes,
        declared,
    )
    labels, label_source = _labels(chosen, [row for _, row in places], in_folder, said)
    patients, patient_source = _patients(chosen, [row for _, row in places], wishes, said, unclear, notes)
    if annotations and label_source == "what the files say":
        label_source = annotations
    chest = by_folder.is_chest_xray(shown, [label for label in labels if label])
    # Labels of a table are its own words, and are not filled up with those of names.
    named_too = chest and not by_table and not any(row.label for _, row in places)
    if named_too and not any(labels):
        labels = [label_from_path(file) or "" for file in shown]
        label_source = "names of the chest_xray distribution"
    elif named_too:
        labels = [label or label_from_path(file) or "" for label, file in zip(labels, shown, strict=True)]
    # What was declared and fits nothing is not made up for by a guess.
    if not any(patients) and not chest and not wishes.patient_pattern:
        patients, patient_source = by_folder.folder_patients(shown)
    ids = read_ids(patients, parts)
    scopes = _scopes(chosen, [row for _, row in places], said, ids.patient, notes, wishes)
    patient = _numbered(ids.patient)
    if not any(patient) and scopes and not chest:
        name = next(iter(scopes))
        patient, patient_source = list(scopes[name]), f"{name}, since there is no column of patients"
    _tell_ids(ids, notes)
    if doubtful_folders:
        notes.append(
            f"not taken for parts, though named a little like them: {', '.join(doubtful_folders[:4])}"
        )
    table = pd.DataFrame(
        {
            "image_id": [_readable(file) for file in shown],
            "part": [_readable(part) for part in parts],
            "label": [_readable(label) for label in labels],
            "patient": [_readable(one) for one in patient],
            "person_num": pd.array([pd.NA] * len(shown), dtype="Int64"),
            # As objects: where pyarrow is there, its texts cannot hold names that are not UTF-8.
            "file": pd.Series([item.path for item in chosen], dtype=object),
        }
    )
    for name, values in scopes.items():
        table[SCOPE + name] = [_readable(value) for value in values]
    for name, values in _facts(chosen, [row for _, row in places], scopes).items():
        table[META + name] = [_readable(value) for value in values]
    if not chest:
        table[SUBJECT] = table["patient"]
    elif not any(patient):
        patient_source = "names of the chest_xray distribution"
    if not by_table:
        table = table.sort_values("image_id", kind="stable")
        chosen = tuple(chosen[k] for k in table.index)
        table = table.reset_index(drop=True)
    ids_of = table["image_id"].tolist()
    if chest and not any(patient):
        from leakfree.data.patients import missing_identifier, patient_ids

        told = patient_ids(table)
        found = [
            "" if gone else one
            for gone, one in zip(missing_identifier(table).tolist(), told.tolist(), strict=True)
        ]
    else:
        found = table["patient"].tolist()
    if not wishes.no_parts:
        unclear += _unclear_parts(table, in_folder, other, root, said)
    reading = Reading(
        parts=make_field(source, ids_of, table["part"].tolist()),
        labels=make_field(label_source, ids_of, table["label"].tolist()),
        patients=make_field(patient_source, ids_of, found, listed=False),
        scopes={name: len({v for v in values if v}) for name, values in scopes.items()},
        notes=tuple([*said.notes, *notes]),
        unclear=tuple(one for one in dict.fromkeys(unclear) if not isinstance(one, _Partial)),
        partial=tuple(str(one) for one in dict.fromkeys(unclear) if isinstance(one, _Partial)),
        left_out=_kinds([*other, *problems]),
    )
    return Understood(
        chosen, table, reading, tuple([*problems, *said.problems]), alternatives, tuple(_shown(ids.doubtful))
    )


def _parts(
    chosen: Sequence[Item], rows: Sequence[_Row], weak: Sequence[str], wishes: Wishes, said: _Tables,
    unclear: list[str], notes: list[str], declared: bool,
) -> tuple[list[str], str, list[int], tuple[str, ...], dict[str, dict[str, str]]]:  # fmt: skip
    """Choose the part of each row: declared, in a table, said by the file, by a folder, by a table's name."""
    files = [item.file for item in chosen]
    paths = [file.split("/")[:-1] for file in files]
    folder = folder_parts(paths)
    matched = (
        _searched(wishes.part_pattern, "--part-pattern", files, unclear, notes)
        if wishes.part_pattern
        else None
    )
    names, used, disagreeing = [], Counter(), 0
    for k, item in enumerate(chosen):
        options = (
            ("declared", item.part if declared else ""),
            ("pattern", matched[k] if matched else ""),
            ("table", rows[k].part),
            ("file", item.part),
            ("folder", folder.name[k]),
            ("name", weak[k]),
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
        notes.append(f"one part, {name}, is written in {len(group)} ways: {', '.join(group[:5])}")
    if disagreeing:
        notes.append(
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
    source = " and ".join(words[kind] for kind in words if used[kind])
    alternatives = {name: dict(parts) for name, parts in said.alternatives.items()}
    if any(folder.fold) and not alternatives and used.keys() <= {"folder"}:
        for file, fold, name in zip(files, folder.fold, names, strict=True):
            if fold:
                alternatives.setdefault(fold, {})[file] = name
        alternatives = alternatives if len(alternatives) > 1 else {}
    if alternatives:
        notes.append(
            f"{len(alternatives)} splits of the same images are looked at one by one: "
            f"{', '.join(list(alternatives)[:6])}"
        )
    # Where the targets are the parts, the first folder of a name is that of its target.
    places = [0] * len(files) if declared else list(folder.place)
    return names, source, places, () if declared else folder.doubtful, alternatives


def _labels(
    chosen: Sequence[Item], rows: Sequence[_Row], places: Sequence[int], said: _Tables
) -> tuple[list[str], str]:
    labels = [row.label or item.label for row, item in zip(rows, chosen, strict=True)]
    if any(row.label for row in rows):
        return labels, " and ".join(dict.fromkeys(said.sources["label"]))
    if any(labels):
        return labels, "what the files say"
    found = by_folder.folder_labels([item.file.split("/")[:-1] for item in chosen], places)
    return list(found.label), found.source


def _patients(
    chosen: Sequence[Item],
    rows: Sequence[_Row],
    wishes: Wishes,
    said: _Tables,
    unclear: list[str],
    notes: list[str],
) -> tuple[list[str], str]:
    if wishes.patient_pattern:
        files = [item.file for item in chosen]
        found = _searched(wishes.patient_pattern, "--patient-pattern", files, unclear, notes)
        return found, f"--patient-pattern {wishes.patient_pattern}"
    patients = [row.patient or item.patient for row, item in zip(rows, chosen, strict=True)]
    if any(row.patient for row in rows):
        return patients, " and ".join(dict.fromkeys(said.sources["patient"]))
    return patients, "what the files say" if any(patients) else ""


def _scopes(
    chosen: Sequence[Item],
    rows: Sequence[_Row],
    said: _Tables,
    patients: Sequence[str],
    notes: list[str],
    wishes: Wishes,
) -> dict[str, list[str]]:
    """Collect further columns that group images, unless several patients share their values."""
    found: dict[str, list[str]] = {}
    facts = [name for item in chosen[:1] for name, _ in item.facts]
    for name in dict.fromkeys([*said.groups, *facts]):
        if plain(name) not in _groups() and name not in wishes.group_columns:
            continue
        values = [
            row.groups.get(name) or dict(item.facts).get(name, "")
            for row, item in zip(rows, chosen, strict=True)
        ]
        values = ["" if is_unknown(value) else value for value in values]
        if not any(values):
            continue
        owners: dict[str, set[str]] = defaultdict(set)
        for value, patient in zip(values, patients, strict=True):
            if value and patient:
                owners[value].add(patient)
        shared = sum(len(who) > 1 for who in owners.values())
        if owners and shared > 0.05 * len(owners) and name not in wishes.group_columns:
            notes.append(
                f"column {name} groups images within a patient only: several share {shared:,} of its values"
            )
            continue
        found[name] = values
    return found


def _facts(
    chosen: Sequence[Item], rows: Sequence[_Row], scopes: Mapping[str, object]
) -> dict[str, list[str]]:
    """Collect further columns, and fields of headers, that have a value for some image."""
    names: dict[str, None] = {}
    for row, item in zip(rows, chosen, strict=True):
        names |= dict.fromkeys(row.facts)
        names |= {name: None for name, _ in item.facts if plain(name) not in _groups()}
    found = {}
    for name in names:
        if name in scopes:
            continue
        values = [
            row.facts.get(name) or dict(item.facts).get(name, "")
            for row, item in zip(rows, chosen, strict=True)
        ]
        values = ["" if is_unknown(value) and not value.lstrip("-").isdigit() else value for value in values]
        if any(values):
            found[name] = values
    return found


def _groups() -> set[str]:
    from leakfree.data.reading.tables import ALIASES

    return set(ALIASES["group"])


def _numbered(patients: Sequence[str]) -> list[str]:
    """Put a number in the place of ids from headers, which no report shows."""
    numbers: dict[str, str] = {}
    return [
        numbers.setdefault(one, f"header-{len(numbers) + 1:04d}") if one.startswith(HIDDEN) else one
        for one in patients
    ]


def _shown(groups: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    return [group for group in groups if not any(one.startswith(HIDDEN) for one in group)][:4]


def _tell_ids(ids: object, notes: list[str]) -> None:
    if ids.unknown:
        words = ", ".join(f"{word!r} ({n:,})" for word, n in list(ids.unknown.items())[:4])
        notes.append(f"patients that are not known, each image on its own: {words}")
    if ids.merged:
        some = "; ".join(" = ".join(group) for group in _shown(ids.merged))
        notes.append(
            f"{len(ids.merged):,} patients are written in several ways and taken for one each: {some}"
        )
    if ids.doubtful:
        some = "; ".join(" and ".join(group) for group in _shown(ids.doubtful))
        notes.append(
            f"{len(ids.doubtful):,} times ids differ only in how they are written, and are left apart: {some}"
        )


def _unclear_parts(
    table: pd.DataFrame, places: Sequence[int], other: Sequence[Problem], root: Path | None, said: _Tables
) -> list[str]:
    """Say what to declare where parts were not read."""
    without = table.loc[table["part"] == "", "image_id"].tolist()
    if not without:
        return []
    paths = [file.split("/")[:-1] for file in without]
    names = by_folder.level_names(paths)
    folders = f" (folders {', '.join(names)})" if names else ""
    helpful = _helpful(other, root, said) if root is not None else []
    ways = (
        "; ".join(helpful)
        if helpful
        else "--part-list test=FILE, --part-pattern REGEX, or --csv TABLE with --part-column"
    )
    if len(without) == len(table):
        return [f"no part of a split was read{folders}: declare parts with {ways}; or pass --no-parts"]
    return [
        _Partial(
            f"{len(without):,} of {len(table):,} images have no part, such as {without[0]}{folders}: "
            f"declare it with {ways}; or pass --no-parts"
        )
    ]


def _helpful(other: Sequence[Problem], root: Path, said: _Tables) -> list[str]:
    """Name the tables and lists in the folder that would tell parts."""
    found = []
    tables = [p.file for p in other if table_suffix(Path(p.file)) and p.file.count("/") <= 2][:8]
    for name in tables:
        path = Path(root) / name
        try:
            if path.stat().st_size > _PEEK:
                continue
            lines = read_list(path)
            if part_name(_stem(path)) is not None and said.finder.share(lines[:200]) > 0.5:
                found.append(f"--part-list {part_name(_stem(path)).kind}={path}")
                continue
            opened = open_table(path, root)
            column, share = choose_path_column(opened.frame, said.finder, opened.before)
        except (TableError, ReadingError, OSError):
            continue
        if column and share > 0.3:
            part = said._part_column(opened)[0]
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


def _readable(text: str) -> str:
    """Keep a name in another encoding readable: JSON and HTML are UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def reading_lines(reading: Mapping[str, object]) -> list[tuple[str, str]]:
    """Write a reading, as in the JSON report, as pairs of what and how, for people."""
    lines = []
    for what in ("parts", "labels", "patients"):
        entry = reading.get(what)
        if not isinstance(entry, Mapping):
            continue
        known = Field(
            str(entry["from"]), int(entry["images"]), int(entry["of"]), dict(entry["values"]),
            int(entry["different"]),
            (), (),
        )  # fmt: skip
        text = known.line()
        if entry["examples"]:
            text += "; " + ", ".join(f"{one['file']} is {one['value']}" for one in entry["examples"])
        if 0 < known.images < known.of and entry["without"]:
            text += f"; not {', '.join(entry['without'])}"
        lines.append((what, text))
    scopes = reading.get("scopes") or {}
    if scopes:
        lines.append(("scopes", ", ".join(f"{name} ({n:,} groups)" for name, n in scopes.items())))
    left_out = reading.get("left_out") or {}
    if left_out:
        lines.append(("not read", ", ".join(f"{n:,} x {kind}" for kind, n in left_out.items())))
    lines += [("note", str(note)) for note in reading.get("notes", ())]
    lines += [("UNCLEAR", str(one)) for one in (*reading.get("unclear", ()), *reading.get("partial", ()))]
    return lines


def ordered(parts: Sequence[str]) -> list[str]:
    """Sort parts: training, validation, test, others by name."""
    return sorted(set(parts) - {""}, key=lambda part: (rank(part), part))
