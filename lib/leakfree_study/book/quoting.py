"""Look up numbers of a run by name: what a quote is, and the text that a run gives for it.

A quote names a file of the run, the row that it wants and how its cells are written. Values stay text until
they are formatted, so what is quoted is what the file says.
"""

from __future__ import annotations

import difflib
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from leakfree_study.book.cell_text import OVER_ROWS, Missing, QuoteError, matching, read_source, written

#: What prose says where a run has no such number.
NOT_MEASURED = "not measured in this run"
SEALED = "sealed in this run"
#: What was decided before the first run: a file of the library that belongs to every run.
PREREGISTRATION = "preregistration.yaml"


@dataclass(frozen=True)
class SameAs:
    """The cell is that of the same column in the row of another quote."""

    quote: str


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
        Column to the value that a row must have: text, a number, several in a tuple, `Like`, `Differs` or
        `SameAs`.
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
    pick: tuple[str, str] | None = None
    times: float = 1.0
    words: Mapping[str, str] | None = None
    absent: str | None = None

    @property
    def file(self) -> str:
        """File in the run folder, or `PREREGISTRATION`."""
        return self.source if "." in self.source else f"tables/{self.source}.csv"

    @property
    def over_rows(self) -> bool:
        """Whether it goes over all rows that match, where others mean one."""
        parts = [part for name in self.fields for part in name.split("/")]
        return any(part == "rows" or part.rpartition(".")[2] in OVER_ROWS for part in parts)

    @property
    def fields(self) -> tuple[str, ...]:
        """What stands in the braces of the form."""
        return tuple(name for _, name, _, _ in string.Formatter().parse(self.form) if name)


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
        self._table = cache(self._read)
        self._found: dict[str, Found] = {}

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
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]

    def _read(self, file: str) -> pd.DataFrame | None:
        folder = Path(__file__).parents[1] / "inflation" if file == PREREGISTRATION else self.run
        return read_source(folder / file)

    def definition(self, name: str) -> Quote:
        """Return the definition of a quote.

        Raises
        ------
        QuoteError
            No quote has that name.
        """
        if name not in self.quotes:
            near = difflib.get_close_matches(name, self.quotes, n=1)
            raise QuoteError(f"no quote is named {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return self.quotes[name]

    def _find(self, name: str) -> Found:
        quote = self.definition(name)
        try:
            rows = self._rows(quote)
            values = written(rows, quote.form, quote.times)
        except Missing as error:
            if quote.absent is None:
                raise QuoteError(f"quote {name}: {error}") from None
            return Found(quote.absent, quote.file, present=False)
        except ValueError as error:
            raise QuoteError(f"quote {name}: {error}") from None
        text = values if quote.words is None else quote.words.get(values, quote.words.get("*", values))
        lines = tuple(int(line) for line in rows.index)
        cells = frozenset((quote.file, lines, name, quote.times) for name in quote.fields)
        return Found(text, quote.file, _told(quote, lines), cells)

    def _rows(self, quote: Quote) -> pd.DataFrame:
        """Return the rows that a quote means: one, unless it goes over several."""
        rows = self._table(quote.file)
        if rows is None:
            raise Missing(f"{quote.file} is missing")
        for column, wanted in quote.where.items():
            if isinstance(wanted, SameAs):
                wanted = written(self._rows(self.definition(wanted.quote)), f"{{{column}}}")
            rows = rows[matching(rows, column, wanted)]
        # No row is a count too: 0, where the run has the table.
        if rows.empty and quote.fields != ("rows",):
            raise Missing(f"no row of {quote.file} matches")
        if not quote.file.endswith(".csv") and (missing := set(quote.fields) - set(rows)):
            raise Missing(f"{quote.file} has no {missing.pop()}")
        if quote.pick:
            which, column = quote.pick
            if column not in rows:
                raise ValueError(f"no column {column!r}")
            numbers = pd.to_numeric(rows[column])
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
