"""Check a fresh run against the published one, table by table and cell by cell, and say what differs.

Tables are compared under the rules of ``tolerances.yaml``. Predictions count through the scores that are
computed from them; how many of their files are the same to the byte is told for information.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path

import pandas as pd

from leakfree.base.errors import LeakfreeError
from leakfree.base.files import file_hash
from leakfree_study.record.run_identity import Identity, RunError, identity
from leakfree_study.record.tolerances import TableRules, fits, tolerances

#: Parameters of notebooks that say where and how a run was made, and change no number.
_NO_SETTINGS = ("data", "jobs", "scheduler", "run_dir", "resume")


@dataclass(frozen=True)
class Difference:
    """A cell that deviates by more than its rule allows.

    Attributes
    ----------
    row : dict of str to str
        Columns of the key and what stands there.
    column, published, fresh : str
        The cell as text in both tables.
    allowed : str
        ``exact``, or the tolerance.
    """

    row: dict[str, str]
    column: str
    published: str
    fresh: str
    allowed: str


@dataclass
class Comparison:
    """What became of one table.

    Attributes
    ----------
    name : str
        Of the table, without suffix.
    status : str
        ``agrees``, ``differs``, ``missing``, ``not run``, ``sealed`` (nothing in it but what an opened test
        gives), ``no rule``, ``extra`` (in the fresh run only) or ``unreadable``.
    rows : int
        Rows in both tables.
    numbers, exact, within : int
        Numbers compared, and how many of them under each rule.
    largest : decimal.Decimal or None
        Largest deviation of a number that is compared within the tolerance; None where there is none.
    largest_at : tuple of (dict, str) or None
        Row and column of that deviation; None where nothing deviates.
    differences : list of Difference
    problems : list of str
        Why the table differs as a whole: columns without a rule, two rows of one name.
    lost, extra : list of dict
        Rows that only the published run has, and rows that only the fresh one has.
    not_run, sealed, free : list of dict
        Rows of one run that do not count: the fresh run is partial; its test was not opened; rows follow from
        what is compared elsewhere.
    not_compared : dict of str to dict
        Column to ``{reason: cells that differ}``.
    """

    name: str
    status: str = "agrees"
    rows: int = 0
    numbers: int = 0
    exact: int = 0
    within: int = 0
    largest: Decimal | None = None
    largest_at: tuple[dict[str, str], str] | None = None
    differences: list[Difference] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lost: list[dict[str, str]] = field(default_factory=list)
    extra: list[dict[str, str]] = field(default_factory=list)
    not_run: list[dict[str, str]] = field(default_factory=list)
    sealed: list[dict[str, str]] = field(default_factory=list)
    free: list[dict[str, str]] = field(default_factory=list)
    not_compared: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def fails(self) -> bool:
        """Whether the table keeps the runs from agreeing."""
        return self.status not in ("agrees", "not run", "sealed")


@dataclass
class Reproduction:
    """What a comparison of two runs found.

    Attributes
    ----------
    published, fresh : Identity
    versions : dict of str to tuple
        Packages whose versions differ: published and fresh.
    settings : list of str
        Parameters that differ, one line each.
    tables : list of Comparison
    predictions : dict of str to int
        Files of predictions: ``published, fresh, both, identical``.
    partial : bool
        Whether the fresh run may lack tables and rows.
    """

    published: Identity
    fresh: Identity
    versions: dict[str, tuple[str, str]]
    settings: list[str]
    tables: list[Comparison]
    predictions: dict[str, int]
    partial: bool

    @property
    def agrees(self) -> bool:
        """Whether no table fails."""
        return not any(table.fails for table in self.tables)


def compare_runs(fresh: Path, published: Path, *, partial: bool = False) -> Reproduction:
    """Compare the tables of two runs.

    Parameters
    ----------
    fresh, published : pathlib.Path
        Run folders.
    partial : bool
        The fresh run may lack tables and rows: they were not run.

    Returns
    -------
    Reproduction

    Raises
    ------
    RunError
        If a folder is no run, has no table, or the runs are of different data.
    """
    fresh, published = Path(fresh), Path(published)
    here, there = identity(fresh), identity(published)
    if here.checksum != there.checksum:
        raise RunError(
            f"not the same data: {fresh} is of {here.data} {here.checksum[:12]}, {published} of {there.data} "
            f"{there.checksum[:12]}; nothing to compare"
        )
    names = {
        folder: {path.stem for path in (folder / "tables").glob("*.csv")} for folder in (fresh, published)
    }
    for folder, found in names.items():
        if not found:
            raise RunError(f"{folder}: has no tables")
    tables = [
        _table(name, published, fresh, partial=partial, opened=here.opened)
        for name in sorted(names[fresh] | names[published])
    ]
    packages = sorted({*here.versions, *there.versions})
    versions = {p: (there.versions.get(p, "none"), here.versions.get(p, "none")) for p in packages}
    return Reproduction(
        published=there,
        fresh=here,
        versions={p: pair for p, pair in versions.items() if pair[0] != pair[1]},
        settings=_settings(there, here),
        tables=tables,
        predictions=_predictions(published, fresh),
        partial=partial,
    )


def _table(name: str, published: Path, fresh: Path, *, partial: bool, opened: bool) -> Comparison:
    before, after = (folder / "tables" / f"{name}.csv" for folder in (published, fresh))
    rules = tolerances().tables.get(name)
    if rules is None:
        return Comparison(name, "no rule")
    if not before.is_file():
        return Comparison(name, "extra")
    try:
        old = read_table(before)
        if after.is_file():
            return compare_tables(name, old, read_table(after), rules, partial=partial, opened=opened)
    except TableError as error:
        return Comparison(name, "unreadable", problems=[str(error)])
    if partial:
        return Comparison(name, "not run")
    # Without its file, a table is missing unless all of its rows rest on the sealed test.
    found = compare_tables(name, old, old.iloc[:0], rules, opened=opened)
    found.status = "missing" if found.lost or not found.sealed else "sealed"
    return found


def compare_tables(
    name: str,
    published: pd.DataFrame,
    fresh: pd.DataFrame,
    rules: TableRules,
    *,
    partial: bool = False,
    opened: bool = True,
) -> Comparison:
    """Compare a table of two runs.

    Parameters
    ----------
    name : str
        Of the table.
    published, fresh : pandas.DataFrame of str
        As `read_table`.
    rules : TableRules
    partial : bool
        Rows that the fresh run lacks were not run.
    opened : bool
        The sealed test of the fresh run was opened, so that it must have the rows that rest on it.

    Returns
    -------
    Comparison
    """
    found = Comparison(name, problems=_columns(published, fresh, rules))
    before = _by_key(found, published, rules, "published")
    after = _by_key(found, fresh, rules, "fresh")
    for key in before | after:
        row = dict(zip(rules.key, key, strict=True))
        if key in before and key in after:
            _compare_row(found, row, before[key], after[key], rules.of_row(row))
        elif rules.free_rows:
            found.free.append(row)
        elif key in after:
            found.extra.append(row)
        elif partial:
            found.not_run.append(row)
        elif not opened and rules.sealed_rows is not None and fits(rules.sealed_rows, row):
            found.sealed.append(row)
        else:
            found.lost.append(row)
    if found.problems or found.differences or found.lost or found.extra:
        found.status = "differs"
    return found


def _columns(published: pd.DataFrame, fresh: pd.DataFrame, rules: TableRules) -> list[str]:
    before, after = (list(table.columns) if len(table) else [] for table in (published, fresh))
    problems = [f"column {c} has no rule" for c in dict.fromkeys(before + after) if c not in rules.columns]
    if before and after:
        problems += [f"column {c} is missing in the fresh run" for c in before if c not in after]
        problems += [f"column {c} is in the fresh run only" for c in after if c not in before]
    return problems


def _by_key(found: Comparison, table: pd.DataFrame, rules: TableRules, which: str) -> dict[tuple, dict]:
    if table.empty or not set(rules.key) <= set(table.columns):
        return {}
    rows = {tuple(row[column] for column in rules.key): row for row in table.to_dict("records")}
    if len(rows) < len(table):
        found.problems.append(f"{len(table) - len(rows)} rows of the {which} run have the key of another")
    return rows


def _compare_row(
    found: Comparison,
    row: dict[str, str],
    before: dict[str, str],
    after: dict[str, str],
    rule_of: dict[str, str],
) -> None:
    found.rows += 1
    for column, old in before.items():
        if column in row or column not in after or column not in rule_of:
            continue
        new, rule = after[column], rule_of[column]
        deviation = _deviation(old, new)
        if rule not in ("exact", "within"):
            told = found.not_compared.setdefault(column, {})
            told[rule] = told.get(rule, 0) + (deviation != 0)
            continue
        number = _number(old) is not None
        found.numbers += number
        found.exact += number and rule == "exact"
        found.within += number and rule == "within"
        allowed = tolerances().tolerance if rule == "within" else Decimal(0)
        if rule == "within" and deviation is not None and number:
            if deviation > (found.largest or 0):
                found.largest_at = (row, column)
            found.largest = max(found.largest or Decimal(0), deviation)
        if deviation is None or deviation > allowed:
            told = str(allowed) if rule == "within" else "exact"
            found.differences.append(Difference(row, column, old, new, told))


def _deviation(old: str, new: str) -> Decimal | None:
    """Return how far two cells are apart; None for different texts, and for a number beside none."""
    if old == new:
        return Decimal(0)
    first, second = _number(old), _number(new)
    return None if first is None or second is None else abs(first - second)


def _number(text: str) -> Decimal | None:
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


class TableError(LeakfreeError):
    """A table cannot be read; the message is one line."""


def read_table(path: Path) -> pd.DataFrame:
    """Read a table as the text that stands in it.

    Raises
    ------
    TableError
        If the file is no CSV.
    """
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (ValueError, OSError) as error:
        raise TableError(f"{path.name} cannot be read: {' '.join(str(error).split())}") from error


def _settings(published: Identity, fresh: Identity) -> list[str]:
    lines = []
    for notebook in sorted(set(published.parameters) & set(fresh.parameters)):
        before, after = published.parameters[notebook], fresh.parameters[notebook]
        for name in sorted((set(before) | set(after)) - set(_NO_SETTINGS)):
            old, new = (json.dumps(p[name]) if name in p else "not recorded" for p in (before, after))
            if old != new:
                lines.append(f"{notebook}: {name}: published {old}, fresh {new}")
    return lines


def _predictions(published: Path, fresh: Path) -> dict[str, int]:
    found = [
        {path.relative_to(folder).as_posix() for path in (folder / "predictions").rglob("*.csv*")}
        for folder in (published, fresh)
    ]
    both = found[0] & found[1]
    same = sum(file_hash(published / name) == file_hash(fresh / name) for name in both)
    return {"published": len(found[0]), "fresh": len(found[1]), "both": len(both), "identical": same}
