"""Compare one table of a fresh run with the published one, cell by cell, under the rules of that table."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path

import pandas as pd

from leakfree.base.errors import LeakfreeError
from leakfree_study.record.tolerances import TableRules, fits


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


def compare_tables(
    name: str,
    published: pd.DataFrame,
    fresh: pd.DataFrame,
    rules: TableRules,
    tolerance: Decimal,
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
    tolerance : decimal.Decimal
        Largest deviation of what is compared ``within``.
    partial : bool
        Rows that the fresh run lacks were not run.
    opened : bool
        The sealed test of the fresh run was opened, so that it must have the rows that rest on it.

    Returns
    -------
    Comparison
    """
    found = Comparison(name)
    found.problems = _columns(published, fresh, rules)
    keyed = []
    for table, which in ((published, "published"), (fresh, "fresh")):
        if len(table) and set(rules.key) <= set(table.columns):
            rows = [dict(zip(table.columns, row, strict=True)) for row in table.to_numpy(object).tolist()]
            keyed.append({tuple(row[column] for column in rules.key): row for row in rows})
            if len(keyed[-1]) < len(rows):
                found.problems.append(
                    f"{len(rows) - len(keyed[-1])} rows of the {which} run have the key of another"
                )
        else:
            keyed.append({})
    before, after = keyed
    for key in [*before, *(key for key in after if key not in before)]:
        if key in before and key in after:
            _compare_row(found, before[key], after[key], rules, tolerance)
        else:
            row = dict(zip(rules.key, key, strict=True))
            _one_sided(found, row, rules, lost=key in before, partial=partial, opened=opened)
    if found.problems or found.differences or found.lost or found.extra:
        found.status = "differs"
    return found


def _columns(published: pd.DataFrame, fresh: pd.DataFrame, rules: TableRules) -> list[str]:
    problems = []
    before, after = (list(table.columns) if len(table) else None for table in (published, fresh))
    for column in dict.fromkeys([*(before or []), *(after or [])]):
        if column not in rules.columns:
            problems.append(f"column {column} has no rule")
    if before is not None and after is not None:
        problems += [f"column {c} is missing in the fresh run" for c in before if c not in after]
        problems += [f"column {c} is in the fresh run only" for c in after if c not in before]
    return problems


def _one_sided(
    found: Comparison, row: dict[str, str], rules: TableRules, *, lost: bool, partial: bool, opened: bool
) -> None:
    if rules.free_rows:
        found.free.append(row)
    elif not lost:
        found.extra.append(row)
    elif partial:
        found.not_run.append(row)
    elif not opened and rules.sealed_rows is not None and fits(rules.sealed_rows, row):
        found.sealed.append(row)
    else:
        found.lost.append(row)


def _compare_row(
    found: Comparison, before: dict[str, str], after: dict[str, str], rules: TableRules, tolerance: Decimal
) -> None:
    found.rows += 1
    row = {column: before[column] for column in rules.key}
    allowed_by = rules.of_row(row)
    for column, old in before.items():
        if column in row or column not in after or column not in allowed_by:
            continue
        new, rule = after[column], allowed_by[column]
        deviation = _deviation(old, new)
        if rule == "not_compared":
            told = found.not_compared.setdefault(column, {})
            reason = rules.reason(row, column)
            told[reason] = told.get(reason, 0) + (deviation != 0)
            continue
        number = _number(old) is not None
        found.numbers += number
        found.exact += number and rule == "exact"
        found.within += number and rule == "within"
        allowed = tolerance if rule == "within" else Decimal(0)
        if rule == "within" and deviation is not None and number:
            if deviation > (found.largest or 0):
                found.largest_at = (row, column)
            found.largest = max(found.largest or Decimal(0), deviation)
        if deviation is None or deviation > allowed:
            told = str(tolerance) if rule == "within" else "exact"
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
