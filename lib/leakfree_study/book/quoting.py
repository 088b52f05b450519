"""Look up numbers of a run by name: what a quote is, and the text that a run gives for it.

A quote names a file of the run, the row that it wants and how its cells are written. Values stay text until
they are formatted, so what is quoted is what the file says.
"""

from __future__ import annotations

import difflib
import json
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from leakfree.base.errors import LeakfreeError

#: What prose says where a run has no such number.
NOT_MEASURED = "not measured in this run"
SEALED = "sealed in this run"
#: What was decided before the first run: a file of the library that belongs to every run.
PREREGISTRATION = "preregistration.yaml"
#: What a form may ask of a column over all rows, behind a dot.
OVER_ROWS = ("max", "min", "sum", "mean", "absmax")


class QuoteError(LeakfreeError):
    """A quote that cannot be given; the message is one line that names it."""


class Missing(Exception):
    """What is asked for is not there: a file, a row, or a number in a cell."""


@dataclass(frozen=True)
class Quote:
    """A number that prose quotes.

    Attributes
    ----------
    source : str
        A table of the run, such as ``06_claims``, or a JSON file, such as ``provenance.json``, whose keys are
        joined by dots into the columns of one row; or `PREREGISTRATION`, read in the same way.
    form : str
        How it is written: ``{estimate:.3f} ({low:.3f} to {high:.3f})``. ``,d`` asks for a whole number,
        ``.0 %`` for a share as per cent. ``{column.max}``, ``min``, ``sum`` and ``mean`` go over all rows
        that match, ``{rows}`` counts them, and ``a.sum/b.sum`` divides.
    where : mapping
        Column to the value that a row must have: text, a number, or several in a tuple.
    keep : callable, optional
        Function of the table that tells which rows are meant, for what `where` cannot say.
    model_of : str, optional
        Another quote, of whose row this one has the model and the seed.
    pick : (str, str), optional
        ``max`` or ``min`` and a column, where several rows match and the one with the extreme is meant.
    times : float
        Factor of every number.
    words : mapping, optional
        Text to say for a text; the key ``*`` stands for any other.
    absent : str, optional
        What is said where the run lacks it. Without it that is an error.
    """

    source: str
    form: str
    where: Mapping[str, Any] = field(default_factory=dict)
    keep: Callable[[pd.DataFrame], pd.Series] | None = None
    model_of: str | None = None
    pick: tuple[str, str] | None = None
    times: float = 1.0
    words: Mapping[str, str] | None = None
    absent: str | None = None

    @property
    def file(self) -> str:
        """File in the run folder, or `PREREGISTRATION`."""
        return self.source if "." in self.source else f"tables/{self.source}.csv"

    @property
    def fields(self) -> tuple[str, ...]:
        """What stands in the braces of the form."""
        return tuple(name for _, name, _, _ in string.Formatter().parse(self.form) if name)

    @property
    def over_rows(self) -> bool:
        """Whether it goes over all rows that match, where others mean one."""
        parts = [part for name in self.fields for part in name.split("/")]
        return any(part == "rows" or part.rpartition(".")[2] in OVER_ROWS for part in parts)


@dataclass(frozen=True)
class Found:
    """What a run gives for a quote.

    Attributes
    ----------
    text : str
        As prose says it.
    file : str
        File in the run folder that it comes from.
    where : str
        Its line there, or how many lines, and what picks them.
    cells : frozenset
        The cells that it shows; no two quotes show the same.
    present : bool
        False where the run lacks it.
    """

    text: str
    file: str
    where: str = ""
    cells: frozenset = frozenset()
    present: bool = True

    @property
    def title(self) -> str:
        """File and row, for a reader who wants to look it up."""
        return f"{self.file}, {self.where}" if self.present else f"no such row in {self.file}"


class Lookup(Mapping):
    """The quotes of one run by name.

    Parameters
    ----------
    run : Path
        Folder of the run.
    quotes : mapping of str to Quote
        Their definitions.
    """

    def __init__(self, run: Path, quotes: Mapping[str, Quote]) -> None:
        self.run, self.quotes = Path(run), quotes
        self._read, self._found = cache(self._read), {}

    def __iter__(self) -> Iterator[str]:
        return iter(self.quotes)

    def __len__(self) -> int:
        return len(self.quotes)

    def __getitem__(self, name: str) -> Found:
        """Return what the run gives for a quote.

        Raises
        ------
        QuoteError
            No quote has that name; or its row is missing and nothing is to be said for that; or it is one of
            several.
        """
        if name not in self.quotes:
            near = difflib.get_close_matches(name, self.quotes, n=1)
            raise QuoteError(f"no quote is named {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        if name not in self._found:
            self._found[name] = self._find(name, self.quotes[name])
        return self._found[name]

    def _read(self, file: str) -> pd.DataFrame | None:
        folder = Path(__file__).parents[1] / "inflation" if file == PREREGISTRATION else self.run
        return read_source(folder / file)

    def _find(self, name: str, quote: Quote) -> Found:
        try:
            rows = self._rows(quote)
            values = written(rows, quote.form, quote.times)
        except Missing as error:
            if quote.absent is None:
                raise QuoteError(f"quote {name}: {error}") from None
            return Found(quote.absent, quote.file, present=False)
        except KeyError as error:
            raise QuoteError(f"quote {name}: no column {error}") from None
        except ValueError as error:
            raise QuoteError(f"quote {name}: {error}") from None
        text = values if quote.words is None else quote.words.get(values, quote.words.get("*", values))
        lines = tuple(int(line) for line in rows.index)
        cells = frozenset((quote.file, lines, name, quote.times) for name in quote.fields)
        return Found(text, quote.file, _told(quote, lines), cells)

    def _rows(self, quote: Quote) -> pd.DataFrame:
        """Return the rows that a quote means: one, unless it goes over several."""
        rows, where = self._read(quote.file), dict(quote.where)
        if rows is None:
            raise Missing(f"{quote.file} is missing")
        if quote.model_of:
            where |= self._rows(self.quotes[quote.model_of]).iloc[0][["model", "seed"]].to_dict()
        rows = matching(rows, where)
        if quote.keep:
            rows = rows[quote.keep(rows)]
        # No row is a count too: 0, where the run has the table.
        if rows.empty and quote.fields != ("rows",):
            raise Missing(f"no row of {quote.file} matches")
        if not quote.file.endswith(".csv") and (missing := set(quote.fields) - set(rows)):
            raise Missing(f"{quote.file} has no {missing.pop()}")
        if quote.pick:
            which, column = quote.pick
            numbers = pd.to_numeric(_column(rows, column))
            rows = rows[numbers == getattr(numbers, which)()]
        if len(rows) > 1 and not quote.over_rows:
            raise ValueError(
                f"{len(rows)} rows of {quote.file} match, lines {', '.join(map(str, rows.index))}"
            )
        return rows


def _told(quote: Quote, lines: tuple[int, ...]) -> str:
    """Return line and selector of what was found, in words."""
    if not quote.file.endswith(".csv"):
        return ", ".join(quote.fields)
    place = f"line {lines[0]}" if len(lines) == 1 else f"{len(lines)} lines"
    picks = [str(wanted) for wanted in quote.where.values() if isinstance(wanted, str | int | float)]
    return f"{place} ({', '.join(picks)})" if picks else place


def matching(rows: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows that have in each column what is wanted, as `Quote.where` says it.

    Raises
    ------
    ValueError
        There is no such column.
    """
    for column, wanted in where.items():
        cells = _column(rows, column)
        options = wanted if isinstance(wanted, tuple | list) else (wanted,)
        if isinstance(options[0], float | int) and not isinstance(options[0], bool):
            cells = pd.to_numeric(cells, errors="coerce")
        else:
            options = [str(option) for option in options]
        rows = rows[cells.isin(options)]
    return rows


def _column(rows: pd.DataFrame, name: str) -> pd.Series:
    if name not in rows:
        raise ValueError(f"no column {name!r}")
    return rows[name]


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
