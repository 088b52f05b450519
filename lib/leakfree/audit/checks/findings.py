"""What an audit says: one check, and the report over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from leakfree.base.escape import html

if TYPE_CHECKING:
    import pandas as pd

#: Raise the number with every change that a reader of the JSON could notice.
SCHEMA = "leakfree-audit/1"

Status = Literal["PASS", "FAIL", "WARN", "INCONCLUSIVE", "NOT RUN"]
STATUSES: tuple[str, ...] = get_args(Status)
#: How bad a finding is: ``leak`` crosses parts, ``warning`` may mislead, ``none`` is nothing found.
Severity = Literal["none", "warning", "leak"]

#: Checks in the order of the report, each with what it asks.
CHECKS: dict[str, str] = {
    "same_file": "Is one file listed more than once?",
    "exact_duplicates": "Do several files hold the same bytes, or the same decoded pixels?",
    "near_duplicates": "Are images copies of one another after re-encoding, resizing or turning?",
    "blank": "Does an image show nothing?",
    "label_conflicts": "Do copies of one image carry different labels?",
    "patients": "Does a patient have images in several parts?",
    "linked_groups": "Do patients and copies, joined into groups, stand in several parts?",
    "shortcuts": "Do file size, shape or simple grey statistics alone predict the label?",
    "framing": "Does the outer ring of the images alone predict the label?",
    "metadata": "Does a further column tell the label or the part, or does time run backwards?",
    "shift": "Can the parts be told apart?",
    "parts": "Is a part too small, empty, or without a class?",
}
#: Checks that fail an audit unless ``--fail-on`` chooses otherwise: what crosses parts.
FAIL_ON = ("same_file", "exact_duplicates", "near_duplicates", "patients", "linked_groups")


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes
    ----------
    name : str
        One of `CHECKS`.
    status : {"PASS", "FAIL", "WARN", "INCONCLUSIVE", "NOT RUN"}
        ``PASS`` only when everything that the check needs was there and nothing was found.
        ``INCONCLUSIVE``: nothing was found in what could be read, but something was missing.
        ``NOT RUN``: skipped, or its input is not there at all.
    summary : str
        One line: what was found.
    advice : str
        One line: what to do, empty where nothing is to be done.
    count : int
        Findings, in the unit that the summary names (groups, patients, features).
    files : tuple of str
        All image ids that a finding touches, sorted, never a sample.
    severity : {"none", "warning", "leak"}
        Of the worst finding.
    examples : tuple of tuple of str
        Image ids of a few findings, worst first, a finding a tuple; for pictures.
    details : mapping
        Further JSON content of the check, such as all groups, scores with intervals, thresholds.
    """

    name: str
    status: Status
    summary: str
    advice: str = ""
    count: int = 0
    files: tuple[str, ...] = ()
    severity: Severity = "none"
    examples: tuple[tuple[str, ...], ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in CHECKS or self.status not in STATUSES:
            raise ValueError(f"no such check or status: {self.name} {self.status}")
        if self.status == "PASS" and (self.count or self.severity != "none"):
            raise ValueError(f"{self.name}: a check that found something cannot pass")

    @property
    def fails(self) -> bool:
        """Whether this check fails the audit."""
        return self.status == "FAIL"

    def as_json(self) -> dict[str, Any]:
        """Return the check as it stands in the JSON report."""
        return {
            "status": self.status,
            "fails": self.fails,
            "severity": self.severity,
            "count": self.count,
            "files": list(self.files),
            "summary": self.summary,
            "advice": self.advice,
            "examples": [list(example) for example in self.examples],
            **self.details,
        }


def not_run(name: str, reason: str, advice: str = "") -> Check:
    """Return a check that did not run, with the reason."""
    return Check(name, "NOT RUN", reason, advice)


@dataclass(frozen=True)
class Report:
    """All that an audit found, and what it did not look at.

    Attributes
    ----------
    target : str
        Name of what was audited.
    images : mapping of str to int
        Readable images by part.
    checks : mapping of str to Check
        All of `CHECKS`, in that order.
    problems : sequence of dict
        ``file, reason`` of every listed file that could not be used.
    unchecked : sequence of str
        One line for each thing that was not checked, with the reason.
    settings : mapping
        Resolved settings, thresholds included.
    provenance : mapping
        Versions, data checksum, seconds by step.
    reading : mapping
        How the input was understood, see `leakfree.data.reading.report.Reading`; empty where not known.
    """

    target: str
    images: Mapping[str, int]
    checks: Mapping[str, Check]
    problems: Sequence[Mapping[str, str]] = ()
    unchecked: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    reading: Mapping[str, Any] = field(default_factory=dict)

    @property
    def leaks(self) -> bool:
        """Whether any check fails."""
        return any(check.fails for check in self.checks.values())

    def findings(self) -> pd.DataFrame:
        """Return one row for each image and each check that found something in it.

        Returns
        -------
        pandas.DataFrame
            ``image_id, check, status, severity``, in the order of the checks and then of the ids.
        """
        import pandas as pd

        rows = [
            (image_id, check.name, check.status, check.severity)
            for check in self.checks.values()
            for image_id in check.files
        ]
        return pd.DataFrame(rows, columns=["image_id", "check", "status", "severity"])

    def _repr_html_(self) -> str:
        """Show the verdict of each check in a notebook."""
        head = "leak found" if self.leaks else "no leak found in what was checked"
        rows = "".join(
            f"<tr><td>{html(check.name)}</td><td>{html(check.status)}</td>"
            f"<td style='text-align:left'>{html(check.summary)}</td></tr>"
            for check in self.checks.values()
        )
        images = ", ".join(f"{html(part)} {count:,}" for part, count in self.images.items())
        return (
            f"<p><b>{html(self.target)}: {head}</b> ({images} images)</p>"
            f"<table><thead><tr><th>check</th><th>status</th><th>what was found</th></tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )

    def as_json(self) -> dict[str, Any]:
        """Return the whole report as JSON content, versioned by `SCHEMA`."""
        return {
            "schema": SCHEMA,
            "target": self.target,
            "reading": dict(self.reading),
            "images": dict(self.images),
            "leaks": self.leaks,
            "checks": {name: check.as_json() for name, check in self.checks.items()},
            "problems": [dict(problem) for problem in self.problems],
            "unchecked": list(self.unchecked),
            "settings": dict(self.settings),
            "provenance": dict(self.provenance),
        }
