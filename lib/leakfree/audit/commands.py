"""The command to run after a finding: how the images are read stays as the user said it."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace

from leakfree.audit.checks.findings import Report

#: Options of an audit that do not say how the images are read.
_NOT_READING = (
    "manifest", "json", "html", "junit", "sarif", "baseline", "accept", "diff", "skip", "fail_on", "thorough",
    "allow_problems", "jobs", "scheduler", "seed", "no_cache", "quiet", "help",
)  # fmt: skip


def reading_options(given: argparse.Namespace) -> list[str]:
    """Return the target and the options that say how it is read, as they were given.

    Options that a command adds to those of the audit are left out.
    """
    named: list[str] = []
    options: list[str] = []
    known = getattr(given.parser, "audit_options", None)
    for action in given.parser._actions:
        value = getattr(given, action.dest, None)
        if action.dest in _NOT_READING or value in (action.default, None):
            continue
        if known is not None and action.dest not in known:
            continue
        values = [str(entry) for entry in value] if isinstance(value, list | tuple) else [str(value)]
        if not action.option_strings:
            named += values
        elif action.nargs == 0:
            options.append(action.option_strings[0])
        else:
            options += [text for entry in values for text in (action.option_strings[0], entry)]
    return [*named, *options]


def advised(report: Report, reading: list[str], manifest: str | None = None) -> Report:
    """Put the command that mends a finding behind the advice of each check that has one.

    Parameters
    ----------
    report : Report
    reading : list of str
        See ``reading_options``.
    manifest : str, optional
        The split manifest that was audited.
    """
    target, *options = reading
    split = [target, *options, *(("--manifest", manifest) if manifest else ())]
    repair = shlex.join(["leakfree", "split", *split, "--repair"])
    anew = shlex.join(["leakfree", "split", target, *options])
    look = shlex.join(["leakfree", "audit", *split, "--html", "report.html"])
    # Without patients a new split is refused, so that it is not what to paste.
    known = "patients" in report.checks and report.checks["patients"].status != "NOT RUN"
    checks = {}
    for name, check in report.checks.items():
        if check.severity == "leak":
            command = repair
        elif check.status not in ("WARN", "FAIL"):
            command = ""
        else:
            command = anew if name in ("shift", "parts") and known else look
        checks[name] = (
            replace(check, advice=f"{check.advice} Run: {command}") if check.advice and command else check
        )
    return replace(report, checks=checks)
