"""How near the tables of two runs must be: the rules of ``tolerances.yaml``, checked when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache, cached_property
from importlib.resources import files
from typing import Annotated

import pandas as pd
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

#: A float of YAML as the decimal number that stands in the file.
Number = Annotated[Decimal, BeforeValidator(lambda value: Decimal(str(value))), Field(ge=0)]
#: Column to a pattern of `fnmatch`, or several of which one must fit.
Where = dict[str, str | tuple[str, ...]]


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
        """Return column to ``exact``, ``within`` or ``not_compared``."""
        return {column: rule for rule in Rules.model_fields for column in getattr(self, rule)}


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
        twice = sorted(
            name for name in {*self.key, *self.named()} if [*self.key, *self.named()].count(name) > 1
        )
        if twice:
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
        """Return column to rule for a row: ``exact``, ``within`` or ``not_compared``."""
        return next(rules for where, rules in self._by_rows if fits(where, row))

    @cached_property
    def _by_rows(self) -> list[tuple[Where, dict[str, str]]]:
        """Every pattern of rows with its rules, the one that fits all rows last."""
        table = {column: "exact" for column in self.key} | self.by_column()
        return [*((part.where, table | part.by_column()) for part in self.rows), ({}, table)]

    def reason(self, row: Mapping[str, str], column: str) -> str:
        """Return the name of the reason why a cell is not compared."""
        part = next((part for part in self.rows if fits(part.where, row)), None)
        return ((part and part.not_compared.get(column)) or self.not_compared.get(column)) or ""


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


def fits(where: Where, row: Mapping[str, str]) -> bool:
    """Tell whether every column of a row fits its pattern."""
    return all(
        any(
            fnmatchcase(row[column], pattern)
            for pattern in ([patterns] if isinstance(patterns, str) else patterns)
        )
        for column, patterns in where.items()
    )


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
    parts = {name: (table, *table.rows) for name, table in rules.tables.items()}

    def count(used: object) -> int:
        return sum(any(used(part) for part in found) for found in parts.values())

    rows = [
        ("exact", rules.exact, len(parts)),
        (f"within {rules.tolerance}", rules.within, count(lambda part: bool(part.within))),
    ]
    for name, why in rules.reasons.items():
        of_columns = count(lambda part, name=name: name in part.not_compared.values())
        of_rows = sum(table.free_rows == name for table in rules.tables.values())
        rows.append(("rows may differ" if of_rows else "not compared", why, max(of_columns, of_rows)))
    return pd.DataFrame(rows, columns=["how", "what", "tables"])


def listing() -> pd.DataFrame:
    """Describe the rules of every table, as the book shows them: ``table, rows, named by, how, columns``."""
    rules, rows = tolerances(), []
    for name, table in rules.tables.items():
        overruled = {column for part in table.rows for column in part.named()}
        for part in (*table.rows, table):
            ways = {"exact": part.exact, f"within {rules.tolerance}": part.within}
            for reason in dict.fromkeys(part.not_compared.values()):
                named = tuple(column for column, given in part.not_compared.items() if given == reason)
                ways[f"not compared: {reason}"] = named
            for how, columns in ways.items():
                for which, named in _by_rows(part, columns, overruled).items():
                    rows.append((name, which, ", ".join(table.key), how, ", ".join(named)))
    return pd.DataFrame(rows, columns=["table", "rows", "named by", "how", "columns"])


def _by_rows(part: Rules, columns: tuple[str, ...], overruled: set[str]) -> dict[str, list[str]]:
    """Sort columns of one rule by the rows that they are compared so in."""
    if isinstance(part, RowRules):
        found = {_where(part.where): list(columns)}
    else:
        found = {
            "all": [column for column in columns if column not in overruled],
            "the others": [column for column in columns if column in overruled],
        }
    return {which: named for which, named in found.items() if named}


def _where(where: Where) -> str:
    return ", ".join(
        f"{column}: {patterns if isinstance(patterns, str) else ' or '.join(patterns)}"
        for column, patterns in where.items()
    )
