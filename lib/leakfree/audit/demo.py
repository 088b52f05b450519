"""``leakfree demo``: a small synthetic cohort with planted faults of every kind, and what the audit finds."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from leakfree.audit.auditor import AuditSettings, audit_and_scan
from leakfree.audit.checks.findings import Report
from leakfree.audit.faults import FAULTS, inject, write_phantom
from leakfree.audit.report import write_html, write_json
from leakfree.audit.report.pictures import Pictures
from leakfree.audit.target import open_target
from leakfree.base.escape import say
from leakfree.base.files import replacing
from leakfree.data.sources.phantom import PhantomSettings

#: Images of the cohort before faults are planted, and their size in pixels.
IMAGES, SIZE = 400, 160
#: Faults planted of each kind.
COUNT = 2


def run_demo(out: Path, seed: int = 2018) -> int:
    """Make the cohort, audit it, and show what was planted beside what was found.

    Parameters
    ----------
    out : pathlib.Path
        Gets ``images/``, ``planted.csv`` with a column ``found``, ``report.html`` and ``report.json``.
    seed : int
        Seed of the cohort and of the faults.

    Returns
    -------
    int
        0 if every planted fault was found, 1 if not, 2 if `out` is in the way.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        say(f"leakfree demo: {out}: is not an empty folder; choose another with --out", file=sys.stderr)
        return 2
    # Its own shortcut and copies are left out, so that everything found was planted here.
    settings = PhantomSettings(
        n_images=IMAGES, size=SIZE, seed=seed, size_shortcut=0, missing_identifiers=0,
        exact_duplicates=0, near_duplicates=0, conflicting_labels=0, test_share=0.3,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as work:
        source = write_phantom(settings, Path(work) / "phantom")
        planted = inject(source, out / "images", count=COUNT, seed=seed, copy="copy", shortcut_share=1.0)
    target = open_target(str(out / "images"))
    report, read = audit_and_scan(target, AuditSettings(thorough=True))
    (out / "images.truth.csv").unlink(missing_ok=True)  # planted.csv says the same, and more
    planted["found"] = was_found(planted, report)
    with replacing(out / "planted.csv") as temporary:
        planted.to_csv(temporary, index=False, lineterminator="\n")
    pictures = Pictures(target, read)
    write_html(report, out / "report.html", pictures.picture, pictures.describe)
    write_json(report, out / "report.json")
    _show(planted, report, out)
    return 0 if planted["found"].all() else 1


def was_found(planted: pd.DataFrame, report: Report) -> list[bool]:
    """Tell of each planted fault whether the report names it: the copy with its original, or the patient."""
    together: dict[str, set[str]] = {}
    for name in ("same_file", "exact_duplicates", "near_duplicates"):
        for group in report.checks[name].details.get("groups", []):
            for file in group:
                together.setdefault(file, set()).update(group)
    moved = set(report.checks["patients"].files)
    shortcut = report.checks["shortcuts"].status in ("WARN", "FAIL")
    found = []
    for fault in planted.itertuples():
        if fault.kind == "patient_moved":
            found.append(fault.file in moved)
        elif fault.kind == "size_shortcut":
            found.append(shortcut)
        else:
            found.append(fault.of in together.get(fault.file, ()))
    return found


def _show(planted: pd.DataFrame, report: Report, out: Path) -> None:
    table = Table(title="What was planted, and what the audit found", box=None, pad_edge=False)
    for column in ("planted", "what it is", "files", "found"):
        table.add_column(column, justify="right" if column in ("files", "found") else "left")
    for kind, rows in planted.groupby("kind", sort=False):
        table.add_row(kind, FAULTS[kind], str(len(rows)), str(int(rows["found"].sum())))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 100)
    console.print(table)
    kinds = ", ".join(f"{name} {check.status}" for name, check in report.checks.items())
    console.print(f"\nThe checks: {kinds}", highlight=False)
    say(f"Open {out / 'report.html'} beside {out / 'planted.csv'}.")
