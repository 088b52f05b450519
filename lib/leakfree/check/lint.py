"""Lint one file: read it, follow its data, ask every rule, and say what was not seen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from leakfree.check.flow import Flow
from leakfree.check.rules import FAMILIES
from leakfree.check.source import CodeFile, read_source
from leakfree.check.values import LintFinding, TooLarge

_LEVELS = ("error", "warning", "note")


@dataclass(frozen=True)
class Placed:
    """A finding with its place in the file.

    Attributes
    ----------
    path, rule, message, level : str
    cell : int
        Number of the cell from 1; 0 in a script.
    line : int
        In the file, or in the cell.
    accepted : str or None
        Reason that a comment gives to let it pass; None if there is no such comment.
    """

    path: str
    cell: int
    line: int
    rule: str
    message: str
    level: str
    accepted: str | None = None

    @property
    def where(self) -> str:
        """Path, cell and line."""
        return f"{self.path}:{f'cell {self.cell}:' if self.cell else ''}{self.line}"


@dataclass(frozen=True)
class Linted:
    """What was found in one file.

    Attributes
    ----------
    path : str
    findings : tuple of Placed
    unseen : tuple of str
        What the linter could not read or follow.
    splits : int
        Splits that it saw; without one it cannot tell training from test.
    """

    path: str
    findings: tuple[Placed, ...]
    unseen: tuple[str, ...]
    splits: int


def lint(path: Path) -> Linted:
    """Lint a script or a notebook.

    Raises
    ------
    leakfree.check.source.SourceUnreadable
        If it is neither.
    """
    return lint_source(read_source(Path(path)))


def lint_source(source: CodeFile) -> Linted:
    """Lint a program that was read already."""
    unseen = list(source.unseen)
    try:
        flow = Flow(source.tree)
    except (TooLarge, RecursionError):
        return Linted(source.path, (), (*unseen, "too large to be followed: nothing was checked"), 0)
    found: dict[tuple[str, int], LintFinding] = {}
    for family in FAMILIES:
        for finding in family(flow):
            known = found.get((finding.rule, finding.line))
            if known is None or _LEVELS.index(finding.level) < _LEVELS.index(known.level):
                found[finding.rule, finding.line] = finding
    parts = {part for event in flow.events for part in event.value.parts}
    splits = len({event.line for event in flow.events if event.what == "split"})
    if not splits and not parts & {"test", "val"}:
        unseen.append("no split and no test part was seen: there was nothing to check it against")
    placed = [_placed(source, finding) for finding in sorted(found.values(), key=lambda f: (f.line, f.rule))]
    return Linted(source.path, tuple(placed), tuple(unseen), splits)


def _placed(source: CodeFile, finding: LintFinding) -> Placed:
    def told(match: re.Match) -> str:
        cell, line = source.place(int(match[1]))
        return f"cell {cell}, line {line}" if cell else f"line {line}"

    rules, reason = source.accepted.get(finding.line, (set(), ""))
    accepted = (reason or "no reason given") if finding.rule in rules else None
    cell, line = source.place(finding.line)
    message = re.sub(r"\{(\d+)\}", told, finding.message)
    return Placed(source.path, cell, line, finding.rule, message, finding.level, accepted)
