"""Cells of a run's files as text: which rows are meant, and how a form writes their cells."""

from __future__ import annotations

import fnmatch
import json
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from leakfree.base.errors import LeakfreeError

#: What a form may ask of a column over all rows, behind a dot.
OVER_ROWS = ("max", "min", "sum", "mean", "absmax")


class QuoteError(LeakfreeError):
    """A quote that cannot be given; the message is one line that names it."""


class Missing(Exception):
    """What is asked for is not there: a file, a row, or a number in a cell."""


@dataclass(frozen=True)
class Like:
    """The cell matches a pattern such as ``* on pixels``, or does not."""

    pattern: str
    matches: bool = True


@dataclass(frozen=True)
class Differs:
    """The cell is not that of another column of its row."""

    column: str


def matching(rows: pd.DataFrame, column: str, wanted: object) -> pd.Series:
    """Return which rows have what is wanted in a column, a bool for each.

    Raises
    ------
    ValueError
        There is no such column.
    """
    for needed in (column, wanted.column if isinstance(wanted, Differs) else column):
        if needed not in rows:
            raise ValueError(f"no column {needed!r}")
    cells = rows[column]
    if isinstance(wanted, Like):
        return cells.map(lambda cell: fnmatch.fnmatchcase(cell, wanted.pattern) == wanted.matches).astype(
            bool
        )
    if isinstance(wanted, Differs):
        return cells != rows[wanted.column]
    options = wanted if isinstance(wanted, tuple) else (wanted,)
    if isinstance(options[0], float | int) and not isinstance(options[0], bool):
        return pd.to_numeric(cells, errors="coerce").isin(options)
    return cells.isin([str(option) for option in options])


def read_source(path: Path) -> pd.DataFrame | None:
    """Read a CSV, or a JSON or YAML file as one row, as text; rows have their line in the file as index.

    Returns
    -------
    pandas.DataFrame or None
        None where the file does not exist.

    Raises
    ------
    QuoteError
        It cannot be read.
    """
    if not path.is_file():
        return None
    try:
        if path.suffix in (".json", ".yaml"):
            text = path.read_text(encoding="utf-8")
            flat = dict(_flat(json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)))
            return pd.DataFrame([flat], index=[1])
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise QuoteError(f"{path.name} cannot be read: {' '.join(str(error).split())}") from None
    return table.set_axis(range(2, len(table) + 2))


def _flat(content: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, str(content)


class _Cells(string.Formatter):
    """Write the fields of a form from rows; a name is taken whole, dots and all."""

    def __init__(self, rows: pd.DataFrame, times: float) -> None:
        self.rows, self.times = rows, times

    def get_field(self, field_name: str, args: object, kwargs: object) -> tuple[object, str]:
        parts = [self._value(part) for part in field_name.split("/")]
        return (parts[0] if len(parts) == 1 else float(parts[0]) / float(parts[1])), field_name

    def _value(self, name: str) -> object:
        if name == "rows":
            return len(self.rows)
        if name in self.rows:
            return self.rows[name].iloc[0]
        column, _, how = name.rpartition(".")
        if how not in OVER_ROWS or column not in self.rows:
            raise ValueError(f"no column {name!r}")
        numbers = pd.to_numeric(self.rows[column])
        return numbers.abs().max() if how == "absmax" else getattr(numbers, how)()

    def format_field(self, value: object, spec: str) -> str:
        if not spec:
            return str(value)
        if value == "":
            raise Missing("the cell is empty")
        number = float(value) * self.times
        if spec.endswith("%"):
            return f"{100 * number:{spec.rstrip(' %')}f} %"
        if spec.endswith("d"):
            if abs(number - round(number)) > 1e-6:
                raise ValueError(f"{value} is no whole number")
            return f"{round(number):{spec}}"
        return f"{number:{spec}}"


def written(rows: pd.DataFrame, form: str, times: float = 1.0) -> str:
    """Write cells of rows by a form, as `Quote` describes it.

    Parameters
    ----------
    rows : pandas.DataFrame
        Of str.
    form : str
    times : float

    Returns
    -------
    str

    Raises
    ------
    Missing
        A number is asked for and its cell is empty.
    ValueError
        A column does not exist, or a cell is not the number that the form asks for.
    """
    return _Cells(rows, times).vformat(form, (), {})
