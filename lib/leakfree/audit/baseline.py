"""Findings one by one: accept those that are known, with a reason, and compare two audits."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from leakfree.audit.checks.findings import Check, Report
from leakfree.base.errors import LeakfreeError
from leakfree.base.files import write_text

_FORMAT = "leakfree-baseline/1"
_KEYS = {"check", "files", "reason", "date"}


class BaselineError(LeakfreeError):
    """A baseline cannot be read; the message is one line."""


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that an audit found: images that are linked across parts, or a check as a whole.

    Attributes
    ----------
    check : str
    files : tuple of str
        Sorted image ids; empty for a check that names no images of its own.
    """

    check: str
    files: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(self.files[:4]) + (
            f" and {len(self.files) - 4} more" if len(self.files) > 4 else ""
        )
        return f"{self.check}: {shown}" if shown else self.check


@dataclass(frozen=True)
class Accepted:
    """A finding that somebody accepted.

    Attributes
    ----------
    finding : Finding
    reason : str
        Why it may stay.
    date : str
        When that was decided, as 2026-01-31.
    """

    finding: Finding
    reason: str
    date: str


def findings_of(check: Check) -> list[Finding]:
    """Return the findings of a check that concern a leak, or the check as a whole where it names no groups.

    Two findings are the same only if they name the same images: a third copy beside an accepted pair is a
    new finding.
    """
    if check.severity != "leak" and not check.fails:
        return []
    details = check.details
    groups = details.get("groups")
    scope = details.get("declared_scope")
    if groups is None and scope is not None:
        groups = details[scope].get("groups")
    across = details.get("across_parts")
    if groups is not None and across is not None:
        # Groups across parts stand first; those inside one part are no leak.
        groups = groups[: int(across["count"])]
    if not groups:
        return [Finding(check.name, tuple(sorted(check.files)))]
    return sorted({Finding(check.name, tuple(sorted(group))) for group in groups})


def findings(report: Report) -> list[Finding]:
    """Return all findings of a report, check by check."""
    return [finding for check in report.checks.values() for finding in findings_of(check)]


def read_baseline(path: Path) -> list[Accepted]:
    """Read what was accepted.

    Raises
    ------
    BaselineError
        One line that names the file and the entry.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise BaselineError(f"{path}: cannot be read as a baseline: {reason}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise BaselineError(f"{path}: not a baseline: it does not say format: {_FORMAT}")
    entries = content.get("accepted")
    if not isinstance(entries, list):
        raise BaselineError(f"{path}: not a baseline: accepted is no list")
    accepted = []
    for number, entry in enumerate(entries, 1):
        where = f"{path}: entry {number}"
        if not isinstance(entry, dict) or set(entry) != _KEYS:
            raise BaselineError(f"{where}: needs {', '.join(sorted(_KEYS))}, and nothing else")
        check, files, reason, date = (entry[name] for name in ("check", "files", "reason", "date"))
        # A list of aliases of lists would be endless as a text.
        if not isinstance(check, str) or not isinstance(date, str | datetime.date):
            raise BaselineError(f"{where}: check and date are one word each")
        date = str(date)
        if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
            raise BaselineError(f"{where}: files is no list of names")
        if not isinstance(reason, str) or not reason.strip():
            raise BaselineError(f"{where}: has no reason; say why this finding may stay")
        try:
            datetime.date.fromisoformat(date)
        except ValueError as error:
            raise BaselineError(f"{where}: {date!r} is no date such as 2026-01-31") from error
        accepted.append(Accepted(Finding(check, tuple(sorted(files))), reason, date))
    return accepted


def write_baseline(accepted: Sequence[Accepted], path: Path) -> Path:
    """Write what was accepted as YAML that a person can read and edit."""
    entries = [
        {"check": one.finding.check, "files": list(one.finding.files), "reason": one.reason, "date": one.date}
        for one in sorted(accepted, key=lambda one: one.finding)
    ]
    content = {"format": _FORMAT, "accepted": entries}
    return write_text(path, yaml.safe_dump(content, sort_keys=False, width=110))


def accept(report: Report, known: Sequence[Accepted], reason: str, date: str) -> list[Accepted]:
    """Return the baseline of a report: what was accepted before keeps its reason, the rest gets this one."""
    before = {one.finding: one for one in known}
    return [before.get(finding, Accepted(finding, reason, date)) for finding in findings(report)]


def against(report: Report, accepted: Sequence[Accepted]) -> tuple[Report, list[str]]:
    """Let pass what is accepted; fail on the rest only.

    A check all of whose findings are accepted no longer fails. It still says what it found, as a warning.

    Returns
    -------
    report : Report
    lines : list of str
        What is new, and which accepted findings are gone.
    """
    known = {one.finding: one for one in accepted}
    checks, lines, seen = {}, [], set()
    for name, check in report.checks.items():
        found = findings_of(check)
        new = [finding for finding in found if finding not in known]
        seen.update(found)
        checks[name] = check
        if not found or not check.fails:
            continue
        lines += [f"new: {finding}" for finding in new]
        allowed = len(found) - len(new)
        if not new:
            checks[name] = replace(
                check,
                status="WARN",
                summary=f"{check.summary} All {len(found)} are accepted in the baseline.",
            )
        elif allowed:
            summary = (
                f"{check.summary} {allowed} of {len(found)} are accepted in the baseline, {len(new)} new."
            )
            checks[name] = replace(check, summary=summary)
    # What a check could not look at is not gone.
    looked = {
        name for name, check in report.checks.items() if check.status not in ("NOT RUN", "INCONCLUSIVE")
    }
    for one in accepted:
        if one.finding not in seen:
            word = "gone" if one.finding.check in looked else "not looked at"
            lines.append(f"{word}: {one.finding} (accepted {one.date}: {one.reason})")
    return replace(report, checks=checks), lines


def difference(old: Report, new: Report) -> list[str]:
    """Say what appeared and what went between two audits, and which checks changed their status."""
    before, now = set(findings(old)), set(findings(new))
    lines = [f"appeared: {finding}" for finding in findings(new) if finding not in before]
    lines += [f"went: {finding}" for finding in findings(old) if finding not in now]
    for name, check in new.checks.items():
        if name in old.checks and (was := old.checks[name].status) != check.status:
            lines.append(f"{name}: {was} before, {check.status} now")
    return lines
