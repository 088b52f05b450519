"""The report in a terminal, or as plain text where the output goes to a file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from leakfree.audit.checks.findings import CHECKS, STATUSES, Check, Report
from leakfree.audit.report.words import (
    found,
    not_checked,
    number,
    percent,
    reasons,
    scope_status,
    scopes,
    verdict,
)
from leakfree.base.escape import terminal
from leakfree.data.reading.report import reading_lines

#: Columns where the output is no terminal, and the fewest in one.
WIDTH = 80
_NARROW = 60
_NAMED = 5
_REASONS = 10
_STYLES = {
    "FAIL": "bold red",
    "leak": "bold red",
    "WARN": "yellow",
    "warning": "yellow",
    "INCONCLUSIVE": "magenta",
    "NOT RUN": "cyan",
    "PASS": "green",
}
_VERDICTS = {"leak": "bold red", "failed": "bold red", "open": "bold magenta", "warning": "bold yellow"}


def print_reading(reading: Mapping[str, Any], stream: TextIO) -> None:
    """Print how an input was understood; `reading` is as in the JSON report."""
    if not reading:
        return
    printer = _Printer(stream)
    with printer.console.capture() as captured:
        printer.line("How the input was read:", "bold")
        for what, text in reading_lines(reading):
            grid = Table.grid(padding=(0, 1))
            grid.add_column(min_width=8)
            grid.add_column(overflow="fold")
            style = "bold magenta" if what == "UNCLEAR" else ""
            grid.add_row(printer.text(what, style), printer.text(text, style))
            printer.console.print(Padding(grid, (0, 0, 0, 2), expand=False))
        printer.line()
    text = captured.get()
    if not printer.console.is_terminal:
        text = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
    stream.write(text)


def print_report(report: Report, stream: TextIO, *, reading: bool = True) -> None:
    """Print a report: checks, advice, unusable files, what was not checked, and last the verdict.

    Parameters
    ----------
    report : Report
        What the audit found.
    stream : text stream
        A terminal gets colours and its own width, anything else plain text of 80 columns.
    reading : bool
        Whether to say first how the input was understood; False where that was printed before.
    """
    if reading:
        print_reading(report.reading, stream)
    printer = _Printer(stream)
    with printer.console.capture() as captured:
        _write(printer, report)
    text = captured.get()
    if not printer.console.is_terminal:
        text = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
    stream.write(text)


def _write(printer: _Printer, report: Report) -> None:
    _heading(printer, report)
    printer.console.print(_checks(printer, report))
    printer.line()
    advised = [c for c in report.checks.values() if c.status != "PASS" and c.advice]
    if advised:
        printer.line("What to do:", "bold")
        for check in advised:
            told, _, command = check.advice.partition(" Run: ")
            printer.item(f"{check.name}: {told}{' Run:' if command else ''}")
            if command:
                printer.command(command)
        printer.line()
    if report.problems:
        _problems(printer, report)
    lines = not_checked(report)
    printer.line("Not checked:", "bold")
    for line in lines:
        printer.item(line)
    if not lines:
        left_out = (
            "the unusable files above." if report.problems else "nothing; every check had all it needs."
        )
        printer.item(left_out)
    printer.line()
    outcome = verdict(report)
    printer.line(f"{outcome.headline}.", _VERDICTS.get(outcome.kind, "bold green"), outcome.text)


class _Printer:
    """A console that takes any name: escaped for the stream's encoding, never read as markup."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        make = partial(Console, file=stream, markup=False, emoji=False, highlight=False, force_jupyter=False)
        console = make()
        self.console = make(width=max(console.width, _NARROW) if console.is_terminal else WIDTH)

    def text(self, value: object, style: str = "") -> Text:
        return Text(terminal(value, self.stream), style=style, overflow="fold")

    def line(self, value: object = "", style: str = "", more: str = "") -> None:
        text = self.text(value, style)
        self.console.print(Text.assemble(text, " ", self.text(more)) if more else text, overflow="fold")

    def item(self, value: object) -> None:
        grid = Table.grid(padding=(0, 1))
        grid.add_column()
        grid.add_column(overflow="fold")
        grid.add_row("-", self.text(value))
        self.console.print(Padding(grid, (0, 0, 0, 2), expand=False))

    def command(self, value: str) -> None:
        """Print a command on a line of its own, however long, so that it can be pasted."""
        self.console.print(self.text(f"      {value}"), soft_wrap=True)


def _heading(printer: _Printer, report: Report) -> None:
    parts = ", ".join(f"{part} {number(n)}" for part, n in report.images.items()) or "none"
    printer.line(f"Leakage audit of {report.target}", "bold")
    printer.line(f"Images: {number(sum(report.images.values()))} ({parts})")
    printer.line()


def _checks(printer: _Printer, report: Report) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column("Check", min_width=max(map(len, CHECKS)), overflow="fold")
    table.add_column("Status", min_width=max(map(len, STATUSES)), overflow="fold")
    table.add_column("Count", justify="right", no_wrap=True)
    table.add_column("Summary", overflow="fold")
    for check in report.checks.values():
        _row(printer, table, check.name, check.status, found(check), check.summary)
        for name, entry in _scopes(check):
            share = percent(entry.get("share_of_test_images_with_sibling"))
            told = f"{share} of test images have others of their patient in another part"
            summary = "" if share == "–" else told
            _row(printer, table, f"  {name}", scope_status(entry), entry.get("count"), summary)
    return table


def _scopes(check: Check) -> list[tuple[str, Mapping[str, Any]]]:
    return list(scopes(check).items()) if check.name == "patients" else []


def _row(printer: _Printer, table: Table, name: str, status: str, count: object, summary: str) -> None:
    cells = [printer.text(name), printer.text(status, _STYLES.get(status, ""))]
    table.add_row(*cells, printer.text("-" if count is None else number(count)), printer.text(summary))


def _problems(printer: _Printer, report: Report) -> None:
    printer.line(f"Unusable files: {len(report.problems):,}", "bold")
    counts = reasons(report)
    for reason, count in counts[:_REASONS]:
        printer.item(f"{count:,} x {reason}")
    if more := counts[_REASONS:]:
        printer.item(f"{sum(n for _, n in more):,} for {len(more):,} other reasons")
    printer.line("  The first:" if len(report.problems) > _NAMED else "  Their names:")
    for problem in report.problems[:_NAMED]:
        printer.item(problem.get("file", "no name"))
    if len(report.problems) > _NAMED:
        printer.line(f"  and {len(report.problems) - _NAMED:,} more, all in the JSON")
    printer.line()
