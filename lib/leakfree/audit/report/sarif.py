"""SARIF 2.1.0, which code hosts show beside the files: one result a finding."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from leakfree import __version__
from leakfree.audit.baseline import findings_of
from leakfree.audit.checks.findings import CHECKS, Report
from leakfree.audit.report.words import WHY
from leakfree.base.escape import one_line
from leakfree.base.files import write_text

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
#: Files that one result names; what shows SARIF takes no more.
MOST_LOCATIONS = 100


@dataclass(frozen=True)
class CodeScanningResult:
    """One result.

    Attributes
    ----------
    rule : str
    level : {"error", "warning", "note"}
    message : str
    places : tuple of (str, int)
        Files, from the root of the checkout, each with its line; 0 where it has none, such as an image.
    accepted : str
        Why it may stay; empty if nobody accepted it.
    """

    rule: str
    level: str
    message: str
    places: tuple[tuple[str, int], ...]
    accepted: str = ""


def sarif(rules: Mapping[str, tuple[str, str]], results: Sequence[CodeScanningResult]) -> dict[str, Any]:
    """Return a log of one run.

    Parameters
    ----------
    rules : mapping of str to (str, str)
        Rule to a short line and a longer one.
    results : sequence of CodeScanningResult
    """
    driver = {
        "name": "leakfree",
        "version": __version__,
        "rules": [
            {"id": name, "shortDescription": {"text": short}, "fullDescription": {"text": full}}
            for name, (short, full) in rules.items()
        ],
    }
    order = list(rules)
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(result, order.index(result.rule)) for result in results],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def write_sarif(report: Report, path: Path, root: str = "") -> Path:
    """Write the findings of an audit as SARIF, atomically.

    Parameters
    ----------
    report : Report
    path : pathlib.Path
    root : str
        Folder that the names of the images start from, such as the target's.
    """
    results = []
    for check in report.checks.values():
        level = "error" if check.fails else "warning"
        if check.severity == "leak" or check.fails:
            for finding in findings_of(check):
                shown = ", ".join(map(one_line, finding.files[:6])) or one_line(check.summary)
                text = f"{CHECKS[check.name]} {shown}"
                results.append(CodeScanningResult(check.name, level, text, _places(finding.files, root)))
        elif check.status in ("WARN", "INCONCLUSIVE"):
            level = "warning" if check.status == "WARN" else "note"
            text = f"{check.status}: {one_line(check.summary)}"
            results.append(CodeScanningResult(check.name, level, text, _places(check.files, root)))
    rules = {name: (asked, WHY.get(name, asked)) for name, asked in CHECKS.items()}
    return save_sarif(sarif(rules, results), path)


def save_sarif(log: dict[str, Any], path: Path) -> Path:
    """Write a log, atomically."""
    return write_text(path, json.dumps(log, indent=1) + "\n")


def _places(files: Sequence[str], root: str) -> tuple[tuple[str, int], ...]:
    return tuple((f"{root}/{file}" if root else file, 0) for file in files)


def _result(result: CodeScanningResult, rule: int) -> dict[str, Any]:
    locations = []
    for file, line in result.places[:MOST_LOCATIONS]:
        place: dict[str, Any] = {
            "artifactLocation": {"uri": quote(file.replace("\\", "/").removeprefix("./"))}
        }
        # Without a line the place is the whole file.
        if line:
            place["region"] = {"startLine": line}
        locations.append({"physicalLocation": place})
    # The same finding has the same print next time, so that a host does not show it as new.
    told = "\t".join([result.rule, *sorted(file for file, _ in result.places)])
    content: dict[str, Any] = {
        "ruleId": result.rule,
        "ruleIndex": rule,
        "level": result.level,
        "message": {"text": result.message},
        "locations": locations,
        "partialFingerprints": {
            "leakfree/1": hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()
        },
    }
    if result.accepted:
        content["suppressions"] = [{"kind": "external", "justification": result.accepted}]
    return content
