"""Reports for other programs: JSON with everything in it, and the JUnit XML that CI systems show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from leakfree.audit.baseline import findings
from leakfree.audit.checks.findings import CHECKS, SCHEMA, Check, Report
from leakfree.audit.report.words import not_checked, number, plain, real, verdict
from leakfree.base.escape import one_line
from leakfree.base.files import write_text

#: Files of one check that the XML names; CI systems keep such texts in a database.
MAX_FILES = 1000
_FIELDS = ("status", "severity", "count", "files", "summary", "advice", "examples")


def write_json(report: Report, path: Path) -> Path:
    """Write the whole report as JSON, atomically.

    Checks keep the order of the report and parts that of the audit; settings and provenance are sorted.
    Numbers that are not finite become null, so that every reader of JSON takes the file.
    """
    content = plain(report.as_json())
    for key in ("settings", "provenance"):
        content[key] = plain(content[key], ordered=True)
    # ASCII, since a file name need not be valid Unicode.
    return write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def load_json(path: Path) -> Report:
    """Read a report that `write_json` wrote.

    Raises
    ------
    ValueError
        If the file cannot be read, or is no report of this schema; one line that names the file.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        found = "no schema" if schema is None else f"schema {str(schema)[:60]!r}"
        raise ValueError(f"{path}: not a report of an audit: {found}, expected {SCHEMA!r}")
    try:
        report = Report(
            target=str(content["target"]),
            images={part: int(n) for part, n in content["images"].items()},
            checks={name: _check(name, entry) for name, entry in content["checks"].items()},
            problems=tuple(dict(problem) for problem in content["problems"]),
            unchecked=tuple(content["unchecked"]),
            settings=dict(content["settings"]),
            provenance=dict(content["provenance"]),
            # Reports of before the reading was written have none.
            reading=dict(content.get("reading", {})),
        )
        findings(report)  # so that what is compared later can be read
        return report
    except KeyError as error:
        raise ValueError(f"{path}: not a whole report of an audit: {one_line(error)} is missing") from error
    except (AttributeError, IndexError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a valid report of an audit: {one_line(error)}") from error


def write_junit(report: Report, path: Path) -> Path:
    """Write the report as JUnit XML, atomically: one suite, one test case a check.

    ``FAIL`` is a failure that names the files. ``WARN`` passes, with its text as output. ``NOT RUN`` is
    skipped, and so is ``INCONCLUSIVE``: like the audit itself, the suite fails only for what was found,
    and a skipped case still shows that there is no answer.
    """
    status = [check.status for check in report.checks.values()]
    skipped = status.count("NOT RUN") + status.count("INCONCLUSIVE")
    counts = {"tests": len(status), "failures": status.count("FAIL"), "errors": 0, "skipped": skipped}
    suite = ElementTree.Element(
        "testsuite", {"name": "leakfree-audit", **{key: str(n) for key, n in counts.items()}}
    )
    properties = ElementTree.SubElement(suite, "properties")
    images = {f"images in {part}": number(n) for part, n in report.images.items()}
    for name, value in {"schema": SCHEMA, "target": report.target, **images}.items():
        ElementTree.SubElement(properties, "property", name=one_line(name), value=one_line(value))
    seconds = report.provenance.get("seconds")
    for check in report.checks.values():
        attributes = {"classname": "leakfree-audit", "name": check.name}
        taken = seconds.get(check.name) if isinstance(seconds, Mapping) else None
        if real(taken):
            attributes["time"] = f"{float(taken):.3f}"
        _outcome(ElementTree.SubElement(suite, "testcase", attributes), check)
    outcome = verdict(report)
    lines = [f"{outcome.headline}. {outcome.text}".strip(), "Not checked:", *not_checked(report)]
    if len(lines) == 2:
        lines.pop()
    lines += [f"Unusable: {problem.get('file')}: {problem.get('reason')}" for problem in report.problems]
    ElementTree.SubElement(suite, "system-out").text = _lines(lines)
    ElementTree.indent(suite)
    text = ElementTree.tostring(suite, encoding="unicode")
    return write_text(path, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n')


def _outcome(case: ElementTree.Element, check: Check) -> None:
    lines = [check.summary, check.advice, *check.files[:MAX_FILES]]
    if more := len(check.files) - MAX_FILES:
        lines += [f"and {more:,} more files, all in the JSON report"] if more > 0 else []
    message = one_line(check.summary)
    if check.status == "FAIL":
        failure = ElementTree.SubElement(case, "failure", message=message, type=check.severity)
        failure.text = _lines(lines)
    elif check.status in ("NOT RUN", "INCONCLUSIVE"):
        skipped = ElementTree.SubElement(case, "skipped", message=f"{check.status}: {message}")
        skipped.text = _lines([check.advice])
    elif check.status == "WARN":
        ElementTree.SubElement(case, "system-out").text = _lines(["WARN", *lines])


def _lines(lines: list[str]) -> str:
    return "\n".join(one_line(line) for line in lines if line)


def _check(name: str, entry: Mapping[str, Any]) -> Check:
    if name not in CHECKS:
        raise ValueError(f"no such check: {name}")
    if not all(isinstance(file, str) for file in entry["files"]):
        raise ValueError(f"{name}: files is no list of names")
    return Check(
        name=name,
        status=entry["status"],
        severity=entry["severity"],
        count=int(entry["count"]),
        files=tuple(entry["files"]),
        summary=str(entry["summary"]),
        advice=str(entry["advice"]),
        examples=tuple(tuple(example) for example in entry["examples"]),
        details={key: value for key, value in entry.items() if key not in (*_FIELDS, "fails")},
    )
