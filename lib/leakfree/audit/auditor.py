"""The audit: read a target once, run every check, and say what was not checked."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from threadpoolctl import threadpool_limits

from leakfree.audit.checks.blank import blank as blank_check
from leakfree.audit.checks.copy_checks import copies_checks
from leakfree.audit.checks.findings import CHECKS, FAIL_ON, Check, Report, not_run
from leakfree.audit.checks.framing import framing as framing_check
from leakfree.audit.checks.metadata import metadata as metadata_check
from leakfree.audit.checks.parts import parts as parts_check
from leakfree.audit.checks.patient_checks import DECLARED, deciding_scope, linked_groups_check, patients_check
from leakfree.audit.checks.shift import shift as shift_check
from leakfree.audit.checks.shortcuts import shortcuts as shortcuts_check
from leakfree.audit.copies.duplicates import Copies, find_copies
from leakfree.audit.copies.scan import Scan, code_of_reading, scan
from leakfree.audit.target import Target, is_foreign, open_target
from leakfree.base.kept import keeping
from leakfree.base.parallel import available_cores
from leakfree.base.provenance import versions
from leakfree.data.patients import SCOPES, identifiers
from leakfree.data.raw import Problem
from leakfree.data.reading.understand import META
from leakfree.data.reading.wishes import Wishes

_NO_TIME = "time: a test part that is older than training looks like any other"
#: Images of a patient, half of the patients having more, from which they are taken for frames or slices.
_FRAMES = 5
_COPY_CHECKS = ("same_file", "exact_duplicates", "near_duplicates", "label_conflicts")


class AuditSettings(BaseModel):
    """All settings of an audit; an unknown one raises."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # First, since a scope may be one of its columns.
    wishes: Wishes = Wishes()  # what was declared of parts, labels and patients
    scope: str | None = None  # patient scope that decides; None: the column patient if given, or series
    skip: tuple[str, ...] = ()  # checks that are not run
    fail_on: tuple[str, ...] = FAIL_ON  # checks whose findings fail the audit
    thorough: bool = False  # also look for shifted, cropped, slightly turned and padded copies
    manifest: Path | None = None  # split manifest whose parts replace the target's
    patient_pattern: str | None = None  # its first group, searched in the path, is the patient
    jobs: int = Field(0, ge=0)  # threads; 0: all cores
    scheduler: str | None = None  # Dask scheduler whose workers see the same files
    seed: int = Field(0, ge=0)  # of cross-validation, permutations and resamples
    cache: bool = True  # keep what was computed of each file, and read no file again that has not changed

    @field_validator("skip", "fail_on")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in names if name not in CHECKS]:
            raise ValueError(f"no check {unknown[0]}; known: {', '.join(CHECKS)}")
        return names

    @field_validator("scope")
    @classmethod
    def _scope(cls, scope: str | None, info: ValidationInfo) -> str | None:
        known = (*SCOPES, DECLARED, *info.data["wishes"].group_columns)
        if scope is not None and scope not in known:
            raise ValueError(f"no scope {scope}; known: {', '.join(known)}")
        return scope


def audit_images(
    target: str | os.PathLike | Target, settings: AuditSettings | None = None, **options: Any
) -> Report:
    """Find the ways in which a split of images leaks.

    Parameters
    ----------
    target : str, path or Target
        As `leakfree.audit.target.open_target`: a folder, a table, or a cohort.
    settings : AuditSettings, optional
    **options
        Settings by name, such as ``thorough=True``, in place of `settings`.

    Returns
    -------
    Report
        Shows itself in a notebook; ``report.findings()`` is a table with a row for each image and finding.

    Raises
    ------
    leakfree.audit.target.TargetError
        If nothing can be audited; one line.
    pydantic.ValidationError
        If a setting is unknown or has a wrong value.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from leakfree import audit_images
    >>> images = Path(tempfile.mkdtemp())
    >>> for name in ("train/NORMAL/a.png", "test/NORMAL/b.png"):
    ...     (images / name).parent.mkdir(parents=True)
    ...     Image.linear_gradient("L").save(images / name)
    >>> report = audit_images(images, skip=("shortcuts", "shift"))
    >>> report.leaks
    True
    >>> report.findings().query("check == 'exact_duplicates'")["image_id"].tolist()
    ['test/NORMAL/b.png', 'train/NORMAL/a.png']
    """
    settings = settings or AuditSettings(**options)
    if not isinstance(target, Target):
        target = open_target(
            os.fspath(target),
            manifest=settings.manifest,
            patient_pattern=settings.patient_pattern,
            wishes=settings.wishes,
        )
    return audit_and_scan(target, settings)[0]


def audit_and_scan(
    target: Target,
    settings: AuditSettings,
    searched: tuple[Scan, Copies] | None = None,
) -> tuple[Report, Scan]:
    """Audit an open target; also return what was read, for pictures.

    With `searched`, the scan and the copies of this very target are taken as they are, so that several
    splits of a cohort need it read only once.
    """
    seconds: dict[str, float] = {}
    # Small matrices in many threads: more threads inside them only get in each other's way.
    with threadpool_limits(1, user_api="blas"):
        if searched is None:
            with _timed(seconds, "read"):
                read = read_images(target, settings)
        else:
            read = searched[0]
        reading = target.reading.as_json() if target.reading is not None else {}
        if target.alternatives:
            read, checks, outcomes = _worst(target, read, settings, seconds)
            reading["alternatives"] = outcomes
        else:
            checks = _checks(target, read, settings, seconds, None if searched is None else searched[1])
    table = read.table
    parts = table["part"].where(table["part"] != "", "no part").value_counts(sort=False)
    report = Report(
        target=target.name,
        images={str(part): int(count) for part, count in parts.items()},
        checks={name: checks[name] for name in CHECKS},
        problems=tuple({"file": p.file, "reason": p.reason} for p in read.problems),
        unchecked=_unchecked(target, read, settings),
        settings=settings.model_dump(mode="json", exclude={"jobs", "scheduler", "cache"}),
        provenance={
            "versions": versions(),
            "data_checksum": _checksum(read),
            "seconds": seconds,
            **target.facts,
        },
        reading=reading,
    )
    return report, read


def _worst(
    target: Target, read: Scan, settings: AuditSettings, seconds: dict[str, float]
) -> tuple[Scan, dict[str, Check], dict[str, str]]:
    """Check several splits of the same images; return the one that finds most, and what each found."""
    copies = None
    if not {*_COPY_CHECKS, "linked_groups"} <= set(settings.skip):
        copies = copies_of(read, target, settings)
    found: tuple[int, Scan, dict[str, Check]] | None = None
    outcomes = {}
    for name, part_of in target.alternatives.items():
        parts = read.table["image_id"].map(part_of)
        rows = np.flatnonzero(parts.notna().to_numpy())
        some = read.take(rows)
        some = replace(some, table=some.table.assign(part=parts.to_numpy()[rows]))
        checks = _checks(target, some, settings, seconds, None if copies is None else copies.take(rows))
        failing = [check.name for check in checks.values() if check.fails]
        outcomes[name] = f"leaks: {', '.join(failing)}" if failing else "no leak found"
        if found is None or len(failing) > found[0]:
            found = (len(failing), some, checks)
    assert found is not None  # there are two splits at least
    return found[1], found[2], outcomes


def unusable(report: Report) -> list[str]:
    """Files that should be images and could not be read: what such a file holds was not audited."""
    return [p["file"] for p in report.problems if not is_foreign(Problem(**p))]


def read_images(target: Target, settings: AuditSettings) -> Scan:
    """Read the images of a target, but for those that have not changed since an earlier audit."""
    jobs, scheduler = settings.jobs, settings.scheduler
    with keeping(settings.cache, code_of_reading()) as kept:
        return scan(target, thorough=settings.thorough, jobs=jobs, scheduler=scheduler, kept=kept)


def copies_of(read: Scan, target: Target, settings: AuditSettings) -> Copies:
    """Find the copies of a scan, with the hash search on the cluster if there is one."""
    jobs = settings.jobs or available_cores()
    with keeping(settings.cache, code_of_reading()) as kept, _bands(settings.scheduler) as run:
        return find_copies(
            read,
            target.reader,
            near="near_duplicates" not in settings.skip,
            thorough=settings.thorough and "near_duplicates" not in settings.skip,
            jobs=jobs,
            run=run,
            kept=kept,
        )


@contextmanager
def _bands(scheduler: str | None) -> Iterator[Callable | None]:
    if scheduler is None:
        yield None
        return
    from joblib import Parallel, delayed

    from leakfree.base.parallel import workers

    with workers(1, scheduler):

        def run(function: Callable, tasks: list[tuple]) -> Iterable[np.ndarray]:
            return Parallel()(delayed(function)(*task) for task in tasks)

        yield run


def _checks(
    target: Target,
    read: Scan,
    settings: AuditSettings,
    seconds: dict[str, float],
    copies: Copies | None = None,
) -> dict[str, Check]:
    table, skip, fail_on = read.table, set(settings.skip), set(settings.fail_on)
    lost = sum(not is_foreign(problem) for problem in read.problems)
    incomplete = f"{lost:,} listed images could not be read" if lost else ""
    declared = deciding_scope(table, settings.scope)
    unsearched = "near-duplicates were not searched" if "near_duplicates" in skip else ""
    checks: dict[str, Check] = {}
    if not {*_COPY_CHECKS, "linked_groups"} <= skip:
        with _timed(seconds, "copies"):
            copies = copies or copies_of(read, target, settings)
            split = not settings.wishes.no_parts
            for check in copies_checks(table, copies, fail_on, incomplete, split=split):
                checks[check.name] = check
        checks["label_conflicts"] = _incomplete(checks["label_conflicts"], unsearched)
    with _timed(seconds, "patients"):
        checks["patients"] = _doubted(patients_check(table, declared, fail_on, incomplete), target)
        gap = "; ".join(filter(None, [incomplete, unsearched]))
        checks["linked_groups"], groups = linked_groups_check(
            table, None if copies is None else copies.group, declared, fail_on, gap
        )
    if "shortcuts" not in skip:
        with _timed(seconds, "shortcuts"):
            checks["shortcuts"] = shortcuts_check(table, groups, seed=settings.seed)
    if "framing" not in skip:
        with _timed(seconds, "framing"):
            checks["framing"] = framing_check(table, read.thumbnails, groups, seed=settings.seed)
    if "metadata" not in skip:
        with _timed(seconds, "metadata"):
            checks["metadata"] = metadata_check(table, groups, seed=settings.seed)
    if "shift" not in skip:
        with _timed(seconds, "shift"):
            numbers = identifiers(table)
            checks["shift"] = shift_check(table, read.thumbnails, groups, numbers=numbers, seed=settings.seed)
    checks["parts"] = parts_check(table, declared=target.declared)
    checks["blank"] = blank_check(table)
    for name in ("shortcuts", "framing", "metadata", "shift", "parts", "blank"):
        if name in checks:
            checks[name] = _incomplete(checks[name], incomplete)
            checks[name] = _failing(checks[name], fail_on)
    if target.reading is not None and (target.reading.unclear or target.reading.partial):
        told = "parts or patients were not understood, or not of all images"
        checks = {name: _incomplete(check, told) for name, check in checks.items()}
    for name in skip:
        checks[name] = not_run(name, "Skipped on request.")
    return checks


def _doubted(check: Check, target: Target) -> Check:
    """Warn where ids of patients differ only in how they are written."""
    if not target.doubtful or check.status not in ("PASS", "INCONCLUSIVE"):
        return check
    some = "; ".join(" and ".join(group) for group in target.doubtful[:3])
    summary = f"{check.summary} But ids differ only in how they are written: {some}."
    advice = "Find out whether they are one patient; if so, write them alike."
    return replace(
        check, status="WARN", severity="warning", summary=summary, advice=advice, count=len(target.doubtful)
    )


def _incomplete(check: Check, incomplete: str) -> Check:
    """Make a pass inconclusive where something could not be looked at."""
    if not incomplete or check.status != "PASS":
        return check
    return Check(**{**vars(check), "status": "INCONCLUSIVE", "summary": f"{check.summary} But {incomplete}."})


def _failing(check: Check, fail_on: set[str]) -> Check:
    if check.status == "WARN" and check.name in fail_on:
        return Check(**{**vars(check), "status": "FAIL"})
    return check


def _unchecked(target: Target, read: Scan, settings: AuditSettings) -> tuple[str, ...]:
    """Say what an audit like this one does not look at."""
    lines = []
    if "near_duplicates" not in settings.skip and not settings.thorough:
        lines.append(
            "shifted, cropped, slightly turned and padded copies, and those with a bar or box painted over: "
            "run again with --thorough"
        )
        if _many_each(read.table):
            lines.append(
                "one clip or series under two patients, cut out in two ways: patients have many images each, "
                "and such frames are searched for one another with --thorough alone"
            )
    if "near_duplicates" not in settings.skip:
        lines.append(
            "copies with another gamma, window or local contrast, and patches that show half of a picture or "
            "little more: some are missed"
        )
    foreign = sum(is_foreign(problem) for problem in read.problems)
    if foreign:
        lines.append(f"{foreign:,} files that are not named like images: they were not opened")
    outside = int(target.facts.get("outside the split", 0))
    if outside:
        lines.append(f"{outside:,} images that the split does not name")
    sealed = int((read.table["label"] == "sealed").sum())
    if sealed:
        lines.append(f"labels of {sealed:,} images of the official test part, which are sealed")
    lines += [
        "whether an identifier stands for one child: names are taken at their word, scope by scope",
        "whether labels are right: only copies of one image are compared",
        "images of one patient that share neither name nor picture",
        *([] if any(column.startswith(META) for column in read.table) else [_NO_TIME]),
        "what a training run really consumed: that takes a ledger, and `leakfree verify`",
    ]
    return tuple(lines)


def _many_each(table: pd.DataFrame) -> bool:
    """Tell whether the images look like frames or slices: patients that are known have many of them each."""
    images = table.loc[table["patient"] != "", "patient"].value_counts()
    return len(images) > 1 and float(images.median()) >= _FRAMES


def _checksum(read: Scan) -> str:
    digest = hashlib.sha256()
    for row in read.table[["image_id", "part", "label", "sha256"]].itertuples(index=False):
        digest.update("\t".join(row).encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - started, 2)
