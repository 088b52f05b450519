"""``leakfree check``: lint scripts, notebooks and folders of them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from leakfree.audit.report.sarif import CodeScanningResult, sarif, save_sarif
from leakfree.base.escape import say
from leakfree.base.files import write_json
from leakfree.check.lint import Linted, lint
from leakfree.check.rules import RULES
from leakfree.check.source import SourceUnreadable

#: What no reading of code can tell; said at the end.
BLIND = (
    "the data themselves: copies and patients across parts, which `leakfree audit IMAGES` looks for",
    "imported modules of your own, and classes whose methods are called from elsewhere",
    "rows that a function of a library mixes or drops without saying so in its name",
)
SUFFIXES = (".py", ".ipynb")


def files_of(paths: Iterable[str]) -> list[Path]:
    """Return the files that are named, and the scripts and notebooks in folders that are named."""
    found: list[Path] = []
    for name in paths:
        path = Path(name)
        if path.is_dir():
            inside = (file for suffix in SUFFIXES for file in path.rglob(f"*{suffix}"))
            hidden = (".ipynb_checkpoints", ".venv", "node_modules", "site-packages")
            found += sorted(file for file in inside if not set(hidden) & set(file.parts))
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def run(paths: list[str], *, json: Path | None, sarif_file: Path | None, quiet: bool) -> int:
    """Lint files and say what was found.

    Returns
    -------
    int
        0 no finding but notes, 1 findings, 2 a file could not be read (or none was named).
    """
    files = files_of(paths)
    linted: list[Linted] = []
    unreadable: list[str] = []
    for file in files:
        try:
            linted.append(lint(file))
        except SourceUnreadable as error:
            unreadable.append(str(error))
    found = [finding for file in linted for finding in file.findings]
    standing = [finding for finding in found if finding.accepted is None]
    if json:
        write_json(json, _as_json(linted, unreadable))
    if sarif_file:
        # A viewer counts lines in the file, which for a notebook is JSON: the first, and the cell in words.
        results = [
            CodeScanningResult(
                one.rule,
                one.level,
                f"{f'cell {one.cell}, line {one.line}: ' if one.cell else ''}{one.message}",
                ((one.path, 1 if one.cell else one.line),),
                one.accepted or "",
            )
            for one in found
        ]
        save_sarif(sarif(RULES, results), sarif_file)
    if not quiet:
        _tell(linted, standing, len(found) - len(standing))
    for line in unreadable:
        say(f"leakfree check: {line}", file=sys.stderr)
    if not files:
        say(f"leakfree check: {', '.join(paths)}: no script or notebook there", file=sys.stderr)
        return 2
    if any(finding.level != "note" for finding in standing):
        return 1
    return 2 if unreadable else 0


def _tell(linted: list[Linted], standing: list, accepted: int) -> None:
    for finding in standing:
        say(f"{finding.where}: {finding.level}: {finding.rule}: {finding.message}")
    counts = Counter(finding.rule for finding in standing)
    if counts:
        say("What to do:")
        for rule in sorted(counts):
            say(f"  {rule} ({counts[rule]}): {RULES[rule][0]} {RULES[rule][1]}")
    unseen = [(file.path, line) for file in linted for line in file.unseen]
    if unseen:
        say("Not seen:")
        for path, line in unseen[:20]:
            say(f"  {path}: {line}")
        if len(unseen) > 20:
            say(f"  and {len(unseen) - 20:,} more lines like these, all in the JSON (--json)")
    if accepted:
        say(f"Let pass by a comment: {accepted}.")
    say("No reading of code can tell:")
    for line in BLIND:
        say(f"  {line}")
    levels = Counter(finding.level for finding in standing)
    told = ", ".join(f"{levels[level]} {level}s" for level in ("error", "warning", "note") if levels[level])
    say(f"{len(linted):,} files: {told or 'no leak found in what was read'}.")


def _as_json(linted: list[Linted], unreadable: list[str]) -> dict[str, Any]:
    return {
        "schema": "leakfree-check/1",
        "files": [
            {
                "path": file.path,
                "splits": file.splits,
                "unseen": list(file.unseen),
                "findings": [vars(finding) for finding in file.findings],
            }
            for file in linted
        ],
        "unreadable": unreadable,
    }
