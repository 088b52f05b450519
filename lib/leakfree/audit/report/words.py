"""What every rendering of a report says in the same words: the verdict, scopes, what was not checked."""

from __future__ import annotations

import math
import numbers
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeGuard

from leakfree.audit.checks.findings import FAIL_ON, Check, Report

#: Why each check matters, for readers who meet the subject here.
WHY: dict[str, str] = {
    "same_file": "A file that is listed twice counts twice, and in two parts it is a test image that the "
    "model was trained on.",
    "exact_duplicates": "A copy in the test part is answered from memory: the score then measures recall of "
    "one image, not what the model learned.",
    "near_duplicates": "An image that was saved again, resized or turned keeps its content, so that a model "
    "recognises it although no byte is the same.",
    "blank": "An image without content tells a model nothing; a score counts a guess, and all such images "
    "look like copies of one another.",
    "label_conflicts": "Where copies of one image carry different labels at least one label is wrong, and no "
    "model can be right on all of them.",
    "patients": "Images of one person resemble each other in anatomy, posture and device; with a patient in "
    "training and test the score says little about patients who are new.",
    "linked_groups": "Patients and copies chain images together; a split is clean only when every such chain "
    "stands in one part.",
    "shortcuts": "Where file size or mean grey alone predicts the label, a model can score well without "
    "looking at what the image shows.",
    "framing": "Where the edge of the picture tells the label, a model can learn how images were cropped in "
    "place of the disease, and fails on images from elsewhere that are cut out otherwise.",
    "metadata": "Where site, device or date tells the label, a model can learn the source in place of the "
    "disease; a test part that is older than training says nothing about patients to come.",
    "shift": "Parts that can be told apart come from different conditions: a score on one then says less "
    "about the other.",
    "parts": "A score over few images, or without one of the classes, is too uncertain to compare anything "
    "with.",
}


Kind = Literal["leak", "failed", "open", "warning", "clean"]


class Verdict(NamedTuple):
    """The outcome of an audit in words.

    Attributes
    ----------
    kind : {"leak", "failed", "open", "warning", "clean"}
        For a colour: a leak was found; a check failed that is none; something could not be answered;
        warnings only; nothing found and nothing left out.
    headline : str
        The verdict, without a stop at its end.
    text : str
        Further sentences, possibly none.
    """

    kind: Kind
    headline: str
    text: str


def verdict(report: Report) -> Verdict:
    """Say what the audit found, without promising more than was looked at.

    A check of severity ``leak`` that ``--fail-on`` lets pass is still called a leak.
    """
    checks = report.checks.values()
    leaking = [c for c in checks if c.severity == "leak" or (c.fails and c.severity != "warning")]
    failing = [c for c in checks if c.fails]
    unanswered = [c for c in checks if c.status in ("INCONCLUSIVE", "NOT RUN")]
    warned = [c for c in checks if c.status == "WARN" and c not in leaking]
    sentences = []
    kind: Kind
    if leaking:
        kind, headline = "leak", f"LEAK FOUND: {_counted(leaking)}"
        if not failing:
            sentences.append("None of these fails the audit as it was set.")
        elif others := [c for c in failing if c not in leaking]:
            sentences.append(f"Failed too: {_counted(others)}.")
    elif failing:
        kind, headline = "failed", f"AUDIT FAILED, though no leak was found: {_counted(failing)}"
    elif not sum(report.images.values()) or len(unanswered) == len(report.checks):
        kind, headline = "open", "NOTHING WAS CHECKED"
    elif any(c.name in FAIL_ON for c in unanswered):
        kind, headline = "open", "No leak found in what was checked, but not everything could be checked"
    else:
        kind, headline = "clean", "No leak found in what was checked"
        if warned or unanswered or report.problems:
            kind = "warning"
    if warned:
        sentences.append(f"Warnings: {_counted(warned)}.")
    if unanswered:
        sentences.append(f"Not answered: {', '.join(c.name for c in unanswered)}.")
    if report.problems:
        sentences.append(f"Unusable files: {len(report.problems):,}.")
    return Verdict(kind, headline, " ".join(sentences))


def not_checked(report: Report) -> list[str]:
    """Return the lines of `Report.unchecked`, and one for each check without an answer that lacks one."""
    lines = list(report.unchecked)
    for check in report.checks.values():
        if check.status in ("INCONCLUSIVE", "NOT RUN"):
            known = re.compile(rf"{check.name}\b")
            if not any(known.match(line) or check.summary in line for line in report.unchecked):
                lines.append(f"{check.name} ({check.status}): {check.summary}")
    return lines


def scopes(check: Check) -> dict[str, Mapping[str, Any]]:
    """Return the details of a check that are one rule of what a patient is each, by scope."""
    nested = check.details.get("scopes")
    entries = {**check.details, **(nested if isinstance(nested, Mapping) else {})}
    return {
        str(name): entry
        for name, entry in entries.items()
        if isinstance(entry, Mapping) and ("count" in entry or "share_of_test_images_with_sibling" in entry)
    }


def found(check: Check) -> int | None:
    """Return the number of findings, None of a check that did not look."""
    return None if check.status == "NOT RUN" else check.count


def scope_status(entry: Mapping[str, Any]) -> str:
    """Return the status of a scope, or its severity where it has none."""
    return str(entry.get("status") or entry.get("severity") or "not stated")


def reasons(report: Report) -> list[tuple[str, int]]:
    """Count unusable files by reason, the most frequent first."""
    counts = Counter(problem.get("reason", "no reason given") for problem in report.problems)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def number(value: object) -> str:
    """Write a number for readers, an en dash where there is none, and anything else as text."""
    if value is None or (isinstance(value, numbers.Real) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, numbers.Integral):
        return f"{int(value):,}"
    return f"{float(value):.4g}" if isinstance(value, numbers.Real) else str(value)


def percent(value: object) -> str:
    """Write a share, an en dash where there is none."""
    return f"{float(value):.1%}".replace("%", " %") if real(value) else "–"


def real(value: object) -> TypeGuard[float]:
    """Tell whether a value is a finite number."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def plain(value: object, *, ordered: bool = False) -> Any:
    """Return what strict JSON can hold: no NaN, no numpy scalar, no set, names as text.

    Parameters
    ----------
    value : object
        Anything that an audit may put into a report.
    ordered : bool
        Sort the names of mappings; else they keep their order.
    """
    if isinstance(value, Mapping):
        items = [(str(key), plain(entry, ordered=ordered)) for key, entry in value.items()]
        return dict(sorted(items) if ordered else items)
    if isinstance(value, (set, frozenset)):
        return sorted((plain(entry) for entry in value), key=str)
    if isinstance(value, (list, tuple)):
        return [plain(entry, ordered=ordered) for entry in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without the import
        return plain(value.tolist(), ordered=ordered)
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Real):
        if not math.isfinite(value):
            return None
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    return str(value)


def _counted(checks: list[Check]) -> str:
    return ", ".join(f"{check.name} ({check.count:,})" if check.count else check.name for check in checks)
