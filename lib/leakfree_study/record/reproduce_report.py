"""What a comparison of two runs found, in lines for a reader and in JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from leakfree.base.escape import one_line
from leakfree_study.record.reproduce import Comparison, Reproduction
from leakfree_study.record.tolerances import tolerances

#: Cells and rows of one table that are printed; all of them stand in the JSON.
_SHOWN_CELLS, _SHOWN_ROWS = 20, 5
#: What is said of a table of which no cell was compared, by its status.
_WHOLE = {
    "missing": "missing   {name}: the fresh run does not have it{by}",
    "not run": "not run   {name}{by}",
    "sealed": "sealed    {name}: the fresh run did not open its sealed test (leakfree unseal)",
    "no rule": "no rule   {name}: not in tolerances.yaml, so nothing says how to compare it",
    "extra": "extra     {name}: in the fresh run only{by}",
}
#: A status of one table, as it is said of several.
_SEVERAL = {"agrees": "agree", "differs": "differ", "no rule": "without a rule"}


def report(found: Reproduction) -> list[str]:
    """Describe a comparison, one line each: what the runs are, the tables, the total."""
    lines = [f"published  {found.published.line()}", f"fresh      {found.fresh.line()}"]
    for run, which in ((found.published, "published"), (found.fresh, "fresh")):
        if run.accelerator in ("none", "not recorded"):
            lines.append(f"{which} run: GPU {run.accelerator}")
        else:
            lines.append(
                f"{which} run: made on a machine with a GPU: {run.accelerator}; models on pixels must still "
                f"give the same digits, networks and embeddings come within {tolerances().tolerance}"
            )
    if found.published.precision != found.fresh.precision:
        lines.append(
            f"precision of networks: published {found.published.precision}, fresh {found.fresh.precision}; "
            f"they come within {tolerances().tolerance}, models on pixels must still give the same digits"
        )
    lines += [
        f"version of {name}: published {old}, fresh {new}" for name, (old, new) in found.versions.items()
    ]
    lines += [f"setting of {line}" for line in found.settings]
    lines.append("")
    for table in found.tables:
        lines += _table_lines(table, found)
    return [*map(one_line, lines), "", *map(one_line, _total(found))]


def _table_lines(table: Comparison, found: Reproduction) -> list[str]:
    writer = found.published.outputs.get(table.name) or found.fresh.outputs.get(table.name)
    by = f"; written by notebook {writer}" if writer else ""
    if table.status in _WHOLE:
        return [_WHOLE[table.status].format(name=table.name, by=by)]
    if table.status == "unreadable":
        return [f"differs   {table.name}: {problem}" for problem in table.problems]
    lines = [f"{table.status:<9} {table.name}: {_numbers(table)}{_not_compared(table)}"]
    cells = [
        f"{_row(d.row)}: {d.column}: published {d.published or 'nothing'}, fresh {d.fresh or 'nothing'} "
        + ("(exact)" if d.allowed == "exact" else f"(within {d.allowed})")
        for d in table.differences
    ]
    lost = [f"{_row(row)}: in the published run only" for row in table.lost]
    extra = [f"{_row(row)}: in the fresh run only" for row in table.extra]
    lines += [f"          {table.name}, {problem}" for problem in table.problems]
    for wrong, most in ((cells, _SHOWN_CELLS), (lost, _SHOWN_ROWS), (extra, _SHOWN_ROWS)):
        lines += [f"          {table.name}, {line}" for line in wrong[:most]]
        if len(wrong) > most:
            lines.append(f"          {table.name}, and {len(wrong) - most:,} more like it; --json writes all")
    return lines


def _numbers(table: Comparison) -> str:
    text = f"{_count(table.rows, 'row')}, {_count(table.numbers, 'number')}"
    if table.within:
        where = f" ({table.largest_at[1]}: {_row(table.largest_at[0])})" if table.largest_at else ""
        text += f"; {table.exact:,} exact, {table.within:,} within {tolerances().tolerance}, "
        text += f"largest deviation {table.largest or Decimal(0):f}{where}"
    elif table.numbers:
        text += ", exact"
    for rows, what in ((table.not_run, "not run"), (table.sealed, "sealed in the fresh run")):
        text += f"; {_count(len(rows), 'row')} {what}" if rows else ""
    return text + (f"; {_count(len(table.free), 'row')} in one run only, allowed" if table.free else "")


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def _not_compared(table: Comparison) -> str:
    told = [
        f"{column} ({changed:,} of them differ)" if (changed := sum(by_reason.values())) else column
        for column, by_reason in table.not_compared.items()
    ]
    return f"; not compared: {', '.join(told)}" if told else ""


def _row(row: dict[str, str]) -> str:
    return ", ".join(f"{column} {value or 'empty'}" for column, value in row.items())


def _total(found: Reproduction) -> list[str]:
    counts = Counter(table.status for table in found.tables)
    largest = max((t for t in found.tables if t.largest), key=lambda table: table.largest, default=None)
    files = found.predictions
    told = ", ".join(
        f"{n} {status if n == 1 else _SEVERAL.get(status, status)}" for status, n in counts.items()
    )
    return [
        f"prediction files, for information: {files['published']:,} published, {files['fresh']:,} fresh; "
        f"of the {files['both']:,} in both, {files['identical']:,} are identical to the byte",
        f"{_count(len(found.tables), 'table')}: {told}; "
        f"{sum(table.numbers for table in found.tables):,} numbers compared, largest deviation where "
        f"{tolerances().tolerance} is allowed: "
        + (f"{largest.largest:f} ({largest.name})" if largest else "none"),
        "the runs agree" + (", as far as the fresh one went" if found.partial else "")
        if found.agrees
        else "the runs differ",
    ]


def as_json(found: Reproduction) -> dict[str, Any]:
    """Return everything that was found, as what JSON can hold."""
    rules = tolerances()
    content = asdict(found) | {
        "agrees": found.agrees,
        "tolerance": str(rules.tolerance),
        "reasons": rules.reasons,
    }
    for table, compared in zip(content["tables"], found.tables, strict=True):
        table["fails"] = compared.fails
        table["largest"] = None if compared.largest is None else float(compared.largest)
        table["largest_at"] = compared.largest_at and {
            "row": compared.largest_at[0],
            "column": compared.largest_at[1],
        }
    return content
