"""What tables and lists say of images, by image."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from leakfree.data.raw import Problem
from leakfree.data.reading.parts import part_name
from leakfree.data.reading.patient_ids import canonical, is_unknown
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
)
from leakfree.data.reading.wishes import ReadingError, Wishes

#: Further columns of a table that are kept, at most.
_FACTS = 60
#: Names of columns that are a part whatever their values are.
_SPLITS = {"split", "part", "partition"}
_FOLDS = {"fold", "folds", "kfold"}
#: Names of columns that hold patients and nothing else: where a table has several, each is looked at.
_PERSONS = {
    "patientid",
    "patientids",
    "subjectid",
    "subjid",
    "personid",
    "participantid",
    "patid",
    "ptid",
    "mrn",
}


@dataclass
class Row:
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


@dataclass(frozen=True)
class _Columns:
    """Which columns of a table are what; empty where none is."""

    part: str
    fold: str
    label: str
    patient: str
    hot: Sequence[str]
    groups: Sequence[str]
    others: Sequence[str]


class Tables:
    """All that tables and lists say, by image."""

    def __init__(self, files: Sequence[str], wishes: Wishes) -> None:
        self.files, self.wishes = files, wishes
        self.place = {file: k for k, file in enumerate(files)}
        self.rows: dict[int, list[Row]] = defaultdict(list)
        self.weak_part: dict[int, str] = {}
        self.problems: list[Problem] = []
        self.unclear: list[str] = []
        self.notes: list[str] = []
        self.sources: dict[str, list[str]] = defaultdict(list)
        self.alternatives: dict[str, dict[str, str]] = defaultdict(dict)
        self.groups: list[str] = []
        self.persons: list[str] = []
        self.order: list[int] = []

    @cached_property
    def finder(self) -> Finder:
        """Made only where there is something to find."""
        return Finder(self.files)

    def add(self, table: Table) -> None:
        """Take up a table."""
        frame = table.frame
        if frame.empty:
            self.unclear.append(f"{table.path}: has no row")
            return
        path = self._path_column(table)
        if not path:
            return
        columns = self._columns(table, path)
        self._said(table.path.name, columns)
        self._tell_twins(
            table, {"path": path} | {what: getattr(columns, what) for what in ("part", "label", "patient")}
        )
        by_name = None if columns.part else part_name(stem(table.path))
        several = self._annotations(frame, path, columns.others)
        seen: dict[int, dict[tuple, Row]] = defaultdict(dict)
        lost = []
        for k, (value, row) in enumerate(zip(frame[path].str.strip(), _rows(frame, columns), strict=True)):
            found = self.finder.find(value, table.before) if value else []
            if not found:
                lost.append(k)
            for file in found:
                place = self.place[file]
                self.order.append(place)
                if by_name is not None:
                    name = stem(table.path) if not by_name.rest else by_name.kind
                    if self.weak_part.setdefault(place, name) != name:
                        # Named by two tables, each a part: it is in both.
                        row = Row(name, row.label, row.patient, row.groups)
                # Each image has a row of its own, since tables may complete it.
                self._keep(seen[place], replace(row, groups=dict(row.groups)), several)
        other: dict[str, list[str]] = {"patient": [], "label": []}
        for place, kept in seen.items():
            for what, files in other.items():
                if told := self._contradicted(place, list(kept.values()), what):
                    files.append(told)
            self._merge(place, list(kept.values()))
        self._tell_contradictions(table, other)
        self._lost(table, path, lost)

    def _contradicted(self, place: int, rows: Sequence[Row], what: str) -> str:
        """Say how a table and those before it contradict each other on a patient or label; empty if not."""
        values = {getattr(row, what) for row in self.rows[place]}, {getattr(row, what) for row in rows}
        old, new = ({canonical(v): v for v in sorted(some) if v and not is_unknown(v)} for some in values)
        if not old or not new or old.keys() & new.keys():
            return ""
        return f"{self.files[place]} ({next(iter(old.values()))}, here {next(iter(new.values()))})"

    def _tell_contradictions(self, table: Table, other: dict[str, list[str]]) -> None:
        for what, files in other.items():
            if not files:
                continue
            said = f"{table.path.name}: {len(files):,} images have another {what} in a table before it"
            if what == "patient":
                self.unclear.append(
                    f"{said}, such as {files[0]}: give --patient-column, or leave one table out"
                )
            else:
                self.notes.append(f"{said}, which counts, such as {files[0]}")

    def _tell_twins(self, table: Table, columns: dict[str, str]) -> None:
        """Say which columns stand in a table twice and differ: no guess tells the right one."""
        for what, column in columns.items():
            twin = f"{column}.1"
            if not column or self.wishes.column(what) or twin not in table.frame:
                continue
            if (table.frame[column].str.strip() != table.frame[twin].str.strip()).any():
                self.unclear.append(
                    f"{table.path}: has the column {column} twice, and they differ: give --{what}-column "
                    f"{column} for the first, or --{what}-column {twin}"
                )

    def _path_column(self, table: Table) -> str:
        """Choose the column that names images; empty, and said, if none does."""
        frame = table.frame
        column = self.declared(table, "path")
        if column:
            share = self.finder.share(frame[column].tolist(), table.before)
        else:
            column, share = choose_path_column(frame, self.finder, table.before)
        if not share:
            # A sparse hit is one all the same.
            named_ = [column] if column else named(frame, "path")
            column = next((c for c in named_ if any(self.finder.find(v, table.before) for v in frame[c])), "")
        if not column:
            given = next(iter(named(frame, "path")), "")
            such = f", such as {given} {frame[given].iloc[0]!r}" if given else ""
            self.unclear.append(
                f"{table.path}: no column names an image of this input{such}; "
                f"found {', '.join(frame.columns[:12])}: "
                "give --path-column, and the folder that the names are in"
            )
            if given:
                self._lost(table, given, range(len(frame)))
        return column

    def _columns(self, table: Table, path: str) -> _Columns:
        """Find out which column is what."""
        frame = table.frame
        part, fold = self.part_column(table)
        label, patient = self.declared(table, "label"), self.declared(table, "patient")
        label = label or next((c for c in named(frame, "label") if c not in (path, part)), "")
        persons = _person_columns(frame)
        # What was declared is in another table: a guess here would say something else.
        patient = patient or ("" if self.wishes.patient_column else next(iter(persons), ""))
        hot = [] if label else one_hot(frame, {path, part, fold, patient})
        wished = [name for name in self.wishes.group_columns if name in frame]
        further = [c for c in persons if c not in (path, patient) and plain(c) in _PERSONS]
        self.persons += [c for c in further if c not in self.persons]
        groups = [c for c in named(frame, "group") if c != path]
        groups = list(dict.fromkeys([*groups, *further, *wished]))
        used = {path, part, fold, label, patient, *hot, *groups}
        return _Columns(part, fold, label, patient, hot, groups, [c for c in frame.columns if c not in used])

    def _keep(self, seen: dict[tuple, Row], row: Row, several: bool) -> None:
        """Add a row of an image; rows that only annotate it once more add their labels."""
        key = (row.part, row.patient, row.fold, 0 if several else len(seen))
        known = seen.get(key)
        if known is None:
            seen[key] = row
        elif row.label and row.label != known.label:
            known.label = label_set(f"{known.label}|{row.label}" if known.label else row.label)

    def _merge(self, place: int, rows: list[Row]) -> None:
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
                old.patient = rows[0].patient if is_unknown(old.patient) else old.patient
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

    def declared(self, table: Table, what: str) -> str:
        """Return the column that was declared for ``path``, ``part``, ``label`` or ``patient``."""
        column = self.wishes.column(what)
        if not column:
            return ""
        if column in table.frame:
            return column
        close = [c for c in table.frame.columns if plain(c) == plain(column)]
        return close[0] if len(close) == 1 else ""

    def part_column(self, table: Table) -> tuple[str, str]:
        """Choose the column with the part, and that of the fold which several splits are numbered by."""
        frame = table.frame
        if declared := self.declared(table, "part"):
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
            if plain(column) in _SPLITS:
                chosen = column
                break
        if chosen:
            return chosen, folds[0] if folds else ""
        numbered = [c for c in folds if 1 < frame[c].nunique() <= 30]
        return (numbered[0], "") if numbered else ("", "")

    def _said(self, name: str, columns: _Columns) -> None:
        if columns.part:
            self.sources["part"].append(f"column {columns.part} of {name}")
        if columns.label or columns.hot:
            hot = columns.hot
            told = (
                f"column {columns.label}"
                if columns.label
                else f"{len(hot)} class columns, {hot[0]} to {hot[-1]},"
            )
            self.sources["label"].append(f"{told} of {name}")
        if columns.patient:
            self.sources["patient"].append(f"column {columns.patient} of {name}")
        self.groups += [group for group in columns.groups if group not in self.groups]

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
                    old = rows[0] if rows else Row()
                    rows.append(Row(part, old.label, old.patient, dict(old.groups)))
        self.sources["part"].append(f"list {path.name}")
        if not hits:
            self.unclear.append(
                f"--part-list {part}={path}: none of its {len(names)} lines names an image of this input"
            )


def _person_columns(frame: pd.DataFrame) -> list[str]:
    """List the columns that are named like patients and tell some, the one to take first."""
    known = {column: int((~frame[column].map(is_unknown)).sum()) for column in named(frame, "patient")}
    told = [column for column in known if known[column]]
    # One that is nearly empty says less than a full one whose name leaves no doubt.
    best = max((c for c in told if c == told[0] or plain(c) in _PERSONS), key=known.__getitem__, default="")
    return [best, *(column for column in told if column != best)] if best else []


def stem(path: Path) -> str:
    """Return the name of a file without any of its endings."""
    name = path.name
    while "." in name[1:]:
        name = name.rsplit(".", 1)[0]
    return name


def _rows(frame: pd.DataFrame, columns: _Columns) -> list[Row]:
    """Read what each row of a table says of its image."""

    def texts(column: str) -> list[str]:
        return frame[column].str.strip().tolist() if column else [""] * len(frame)

    labels = texts("")
    if columns.hot:
        labels = one_hot_labels(frame, columns.hot)
    elif columns.label:
        labels = [label_set(value) for value in frame[columns.label]]
    parts = texts(columns.part)
    if columns.part:
        parts = boolean_parts(columns.part, parts) or [
            "" if is_unknown(value) and not value.lstrip("-").isdigit() else value for value in parts
        ]
    facts = [c for c in columns.others if not plain(c).startswith("unnamed")][:_FACTS]
    groups, further = ({c: texts(c) for c in some} for some in (columns.groups, facts))
    said = zip(parts, labels, texts(columns.patient), texts(columns.fold), strict=True)
    return [
        Row(
            part,
            label,
            patient,
            {c: values[k] for c, values in groups.items()},
            fold,
            {c: values[k] for c, values in further.items()},
        )
        for k, (part, label, patient, fold) in enumerate(said)
    ]
