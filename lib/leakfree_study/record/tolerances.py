"""How near the tables of two runs must be: the rules of ``tolerances.yaml``, checked when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Annotated

import pandas as pd
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

#: A float of YAML as the decimal number that stands in the file; a single pattern as a tuple of one.
Number = Annotated[Decimal, BeforeValidator(lambda value: Decimal(str(value))), Field(ge=0)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)]
#: Column to patterns of `fnmatch`, of which one must fit.
Where = dict[str, Patterns]


class Rules(BaseModel):
    """Which columns are compared how; each is named once.

    Attributes
    ----------
    exact, within : tuple of str
        Columns that must be the same, and columns that may deviate by the tolerance.
    not_compared : dict of str to str
        Column to the name of a reason.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    exact: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    not_compared: dict[str, str] = {}

    def named(self) -> list[str]:
        """List the columns, twice where one is named twice."""
        return [*self.exact, *self.within, *self.not_compared]

    def by_column(self) -> dict[str, str]:
        """Return column to ``exact``, ``within`` or the reason why it is not compared."""
        return dict.fromkeys(self.exact, "exact") | dict.fromkeys(self.within, "within") | self.not_compared


class RowRules(Rules):
    """Rules for some rows of a table, before those of the table.

    Attributes
    ----------
    where : dict
        Columns of the key, and what must stand there.
    """

    where: Where


class TableRules(Rules):
    """Rules of one table.

    Attributes
    ----------
    key : tuple of str
        Columns that name a row.
    rows : tuple of RowRules
        The first whose ``where`` fits a row decides.
    free_rows : str or None
        Name of the reason why rows may be there in one run and not in the other.
    sealed_rows : dict or None
        As `RowRules.where`: rows that a run has only after its sealed test was opened.
    """

    key: tuple[str, ...] = Field(min_length=1)
    rows: tuple[RowRules, ...] = ()
    free_rows: str | None = None
    sealed_rows: Where | None = None

    @model_validator(mode="after")
    def _each_column_once(self) -> TableRules:
        if twice := sorted(name for name in set(self.columns) if self.columns.count(name) > 1):
            raise ValueError(f"column {twice[0]} has two rules")
        for part in self.rows:
            unknown = sorted(set(part.named()) - set(self.named()))
            if unknown or len(set(part.named())) < len(part.named()):
                raise ValueError(f"rows {part.where}: {unknown or part.named()} is unknown, or named twice")
        for where in [part.where for part in self.rows] + [self.sealed_rows or {}]:
            if foreign := sorted(set(where) - set(self.key)):
                raise ValueError(f"where: {foreign[0]} is not in the key")
        return self

    @property
    def columns(self) -> list[str]:
        """All columns of the table, those of the key first."""
        return [*self.key, *self.named()]

    def of_row(self, row: Mapping[str, str]) -> dict[str, str]:
        """Return column to rule for a row, as `Rules.by_column`; columns of the key are exact."""
        own = next((part.by_column() for part in self.rows if fits(part.where, row)), {})
        return dict.fromkeys(self.key, "exact") | self.by_column() | own


class Tolerances(BaseModel):
    """The file ``tolerances.yaml``; an unknown entry raises.

    Attributes
    ----------
    tolerance : decimal.Decimal
        Largest deviation of what is compared ``within``.
    exact, within : str
        What is compared so, in words.
    reasons : dict of str to str
        Why something is not compared.
    tables : dict of str to TableRules
        Name of a table, without suffix, to its rules.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tolerance: Number
    exact: str
    within: str
    reasons: dict[str, str]
    tables: dict[str, TableRules]

    @model_validator(mode="after")
    def _reasons_are_known(self) -> Tolerances:
        for name, table in self.tables.items():
            given = {r for part in (table, *table.rows) for r in part.not_compared.values()}
            if unknown := sorted((given | {table.free_rows} - {None}) - set(self.reasons)):
                raise ValueError(f"table {name}: no reason is called {unknown[0]}")
        return self


def fits(where: Mapping[str, tuple[str, ...]], row: Mapping[str, str]) -> bool:
    """Tell whether every column of a row fits one of its patterns."""
    return all(any(fnmatchcase(row[name], p) for p in patterns) for name, patterns in where.items())


@cache
def tolerances() -> Tolerances:
    """Read the file.

    Raises
    ------
    pydantic.ValidationError
        If it does not hold rules.
    """
    text = files("leakfree_study.record").joinpath("tolerances.yaml").read_text(encoding="utf-8")
    return Tolerances.model_validate(yaml.safe_load(text))


def summary() -> pd.DataFrame:
    """Describe the kinds of rules, as the book shows them: ``how, what, tables``."""
    rules = tolerances()
    used = [
        {rule for part in (table, *table.rows) for rule in part.by_column().values()}
        for table in rules.tables.values()
    ]
    free_rows = [table.free_rows for table in rules.tables.values()]
    rows = [
        ("exact", rules.exact, len(used)),
        (f"within {rules.tolerance}", rules.within, sum("within" in table for table in used)),
    ]
    for name, why in rules.reasons.items():
        if name in free_rows:
            rows.append(("rows may differ", why, free_rows.count(name)))
        else:
            rows.append(("not compared", why, sum(name in table for table in used)))
    return pd.DataFrame(rows, columns=["how", "what", "tables"])


def listing() -> pd.DataFrame:
    """Describe the rules of every table, as the book shows them: ``table, rows, named by, how, columns``."""
    rows = []
    for name, table in tolerances().tables.items():
        overruled = {column for part in table.rows for column in part.named()}
        for part in (*table.rows, table):
            found: dict[tuple[str, str], list[str]] = {}
            for column, rule in sorted(part.by_column().items(), key=lambda item: item[0] in overruled):
                if isinstance(part, RowRules):
                    which = ", ".join(f"{key}: {' or '.join(texts)}" for key, texts in part.where.items())
                else:
                    which = "the others" if column in overruled else "all"
                found.setdefault((rule, which), []).append(column)
            order = list(dict.fromkeys(part.by_column().values()))
            for (rule, which), columns in sorted(found.items(), key=lambda item: order.index(item[0][0])):
                rows.append((name, which, ", ".join(table.key), _how(rule), ", ".join(columns)))
    return pd.DataFrame(rows, columns=["table", "rows", "named by", "how", "columns"])


def _how(rule: str) -> str:
    return {"exact": "exact", "within": f"within {tolerances().tolerance}"}.get(rule, f"not compared: {rule}")
