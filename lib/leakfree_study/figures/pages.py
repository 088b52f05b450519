"""Markdown pages from templates: what came from outside is shown as text, and a missing value is an error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from leakfree.base.escape import code, markdown


def page(package: str, name: str, **values: object) -> str:
    """Fill a template that stands beside a module.

    Parameters
    ----------
    package : str
        Package that holds the template.
    name : str
        File of the template. It has the filters `markdown` and `code`, and the function `table`.
    **values
        What the template names.
    """
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"markdown": markdown, "code": code}
    environment.globals["table"] = table
    text = files(package).joinpath(name).read_text(encoding="utf-8")
    return environment.from_string(text).render(**values)


def table(head: Sequence[str], rows: Iterable[Sequence[object]], marked_up: Sequence[str] = ()) -> str:
    """Write a table; cells are text, but for the columns that hold markup of our own."""
    lines = [f"| {' | '.join(map(markdown, head))} |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [
            str(cell) if name in marked_up else markdown(cell) for name, cell in zip(head, row, strict=True)
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
