"""Markdown tables for generated pages: cells escaped, hashes short enough for a phone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from leakfree.base.escape import html, markdown


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table.

    Parameters
    ----------
    head : sequence of str
    rows : iterable of sequence
        Cells are turned into text; one column for each name in `head`.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        A row is longer or shorter than the head.
    """
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"a row of {len(row)} cells in a table of {len(head)} columns: {row[0]}")
        lines.append("| " + " | ".join(cell(value) for value in row) + " |")
    return "\n".join(lines) + "\n"


def cell(text: object) -> str:
    """Return a text as one line that cannot end its cell."""
    return " ".join(str(text).split()).replace("|", "\\|")


def code(text: object) -> str:
    """Return a text as code that Markdown leaves alone; the double backticks of docstrings become single."""
    inside = markdown(" ".join(str(text).split())).replace("\\|", "&#124;")
    return f"<code>{inside}</code>"


def short_hash(digest: object) -> str:
    """Return the beginning of a hash as code, with the whole of it where a pointer rests."""
    text = str(digest)
    return f'<code title="{html(text)}">{markdown(text[:12])}</code>'


def duration(seconds: object) -> str:
    """Return a duration in the unit that fits it; empty for what is no number."""
    if not isinstance(seconds, int | float):
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def size(octets: int) -> str:
    """Return a size in kB or MB."""
    return f"{octets / 1e6:,.1f} MB" if octets >= 1e6 else f"{octets / 1e3:,.0f} kB"
