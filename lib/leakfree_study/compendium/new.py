"""``leakfree new``: start a study on a folder of images. Writes its configuration, and audits it."""

from __future__ import annotations

import os
import re
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from leakfree.audit.auditor import AuditSettings, audit_and_scan, unusable
from leakfree.audit.checks.findings import Report
from leakfree.audit.report import print_report, verdict, write_html, write_json
from leakfree.audit.target import as_target
from leakfree.base.escape import one_line, say
from leakfree.base.files import write_text
from leakfree.data.formats import of_file
from leakfree.data.inputs import Opened
from leakfree.data.patients import DECLARED, SUBJECT
from leakfree.data.reading.tables import table_suffix
from leakfree.data.reading.wishes import Wishes
from leakfree.data.sources.listing import list_study, official_parts, open_images
from leakfree.data.study_file import (
    MOST_LABELS,
    RUN_FOLDER,
    STUDY_FILE,
    CsvColumn,
    Listing,
    OwnStudy,
    PathPattern,
    StudyFileError,
    one_task,
    read_study,
    write_study,
)
from leakfree_study.figures.pages import page
from leakfree_study.own.limits import limits

#: What is written beside the study file.
AUDIT, README = "audit", "README.md"


@dataclass(frozen=True)
class Wanted:
    """What ``leakfree new`` was asked for; empty strings choose by looking at the images.

    Attributes
    ----------
    folder : pathlib.Path
        The images: a folder, a table, or a file that holds images.
    out : pathlib.Path or None
        Folder of the study; None for ``<folder>-study`` here.
    patient_pattern : str
        Regular expression whose first group, searched in the path, is the patient.
    csv : pathlib.Path or None
        Table that names labels, parts or patients.
    path_column, label_column, part_column, patient_column : str
        Its columns.
    title, name, image, credit : str
        Of the study.
    profile : str
        Size of its runs.
    pictures : bool
        Whether its run and the page of its audit may show images.
    allow_problems : bool
        Go on without files that cannot be read.
    jobs : int
        Threads; 0 for all cores.
    """

    folder: Path
    out: Path | None = None
    patient_pattern: str = ""
    csv: Path | None = None
    path_column: str = ""
    label_column: str = ""
    part_column: str = ""
    patient_column: str = ""
    title: str = ""
    name: str = ""
    image: str = "image"
    credit: str = ""
    profile: str = "quick"
    pictures: bool = True
    allow_problems: bool = False
    jobs: int = 0


@dataclass(frozen=True)
class Started:
    """A study that was started.

    Attributes
    ----------
    path : pathlib.Path
        The study file.
    study : OwnStudy
    report : Report
        Of the audit.
    unreadable : tuple of str
        Files that are named like images and are none.
    """

    path: Path
    study: OwnStudy
    report: Report
    unreadable: tuple[str, ...]


def study_place(wanted: Wanted) -> tuple[str, Path]:
    """Return the name of a study and its folder."""
    folder = Path(wanted.folder)
    called = folder.stem if folder.is_file() else folder.resolve().name
    name = wanted.name or re.sub(r"[^A-Za-z0-9_.-]+", "-", called).lstrip(".-_") or "images"
    return name, Path(wanted.out or f"{name}-study")


def start(wanted: Wanted, *, patients_needed: bool = False) -> Started:
    """Write the study file, audit the images, and write what to do next.

    A study file that stands already is kept when it says the same; what else stands there is written anew.

    Parameters
    ----------
    wanted : Wanted
    patients_needed : bool
        Refuse images whose patients nothing tells, instead of taking each for a patient of its own.

    Returns
    -------
    Started

    Raises
    ------
    StudyFileError, leakfree.data.raw.SourceError
        One line: images, CSV or options cannot be used, or another study is in the way.
    """
    folder, (name, out) = Path(wanted.folder), study_place(wanted)
    if wanted.csv is None and folder.is_file() and table_suffix(folder) and not of_file(folder):
        # A table is one of the images in its folder.
        wanted = replace(wanted, folder=folder.parent, csv=folder)
    if out.resolve().is_relative_to(Path(wanted.folder).resolve()):
        raise StudyFileError(f"{out}: lies in the folder of the images; choose another with --out")
    study = propose(wanted, name, out, patients_needed=patients_needed)
    path = out / STUDY_FILE
    if path.exists():
        if read_study(path) != study:
            raise StudyFileError(
                f"{path}: another study is here; edit it, or choose another folder with --out"
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StudyFileError(f"{out}: is not an empty folder; choose another with --out")
    else:
        # Read back from its text before it is written: what stands in the file is what is meant.
        write_study(path, study)
    return audited(path, jobs=wanted.jobs)


def propose(wanted: Wanted, name: str, out: Path, *, patients_needed: bool = False) -> OwnStudy:
    """Look at the images as an audit does, and propose what the study file says of them."""
    patients: PathPattern | CsvColumn | str = "none"
    if wanted.patient_pattern:
        patients = _pattern(wanted.patient_pattern)
    opened = open_images(wanted.folder, _wishes(wanted))
    table = opened.understood.table
    if patients_needed and (without := table.loc[table["patient"] == "", "image_id"].tolist()):
        raise StudyFileError(
            f"{wanted.csv or wanted.folder}: nothing tells the patient of {len(without):,} of {len(table):,} "
            f"images, such as {without[0]}"
        )
    if wanted.patient_column:
        patients = CsvColumn(column=wanted.patient_column)
    elif patients == "none" and table["patient"].any():
        patients = "read"
    listing = None
    if wanted.csv is not None:
        listing = Listing(
            file=_relative(wanted.csv, out),
            path=wanted.path_column,
            label=wanted.label_column,
            part=wanted.part_column,
        )
    parts = official_parts(set(table["part"]) - {""})
    labels = tuple(sorted(set(table["label"]) - {""}))
    _check_labels(labels, table, wanted)
    return OwnStudy(
        name=name,
        title=wanted.title or f"{name}: a study of leakage between patients",
        data=_relative(wanted.folder, out),
        csv=listing,
        labels=labels,
        tasks=one_task(labels),
        patients=patients,
        parts=parts,
        profile=wanted.profile,
        image=wanted.image,
        credit=wanted.credit,
        pictures=wanted.pictures,
        allow_problems=wanted.allow_problems,
    )


def audited(path: Path, *, jobs: int = 0) -> Started:
    """Audit the images of a study file by its own rule of patients; write the reports and ``README.md``."""
    study = read_study(path)
    opened = list_study(study, path.parent)
    target = as_target(opened, leave_out=study.leave_out, sealed=study.parts.get("test", ""))
    report, read = audit_and_scan(target, AuditSettings(scope=DECLARED, thorough=True, jobs=jobs))
    write_json(report, path.with_name(f"{AUDIT}.json"))
    from leakfree.audit.report.pictures import Pictures

    pictures = Pictures(target, read)
    picture = pictures.picture if study.pictures else _no_picture
    write_html(report, path.with_name(f"{AUDIT}.html"), picture, pictures.describe)
    started = Started(path, study, report, tuple(unusable(report)))
    write_text(path.with_name(README), _readme(started, _table(opened, study)))
    return started


def _no_picture(image_id: str) -> None:
    """Show nothing of an image."""


def next_command(started: Started) -> str:
    """Return the command that runs the study, in the folder of the compendium."""
    project = compendium()
    path = started.path if project is None else _relative(started.path, project)
    return f"python run_all.py --data {shlex.quote(str(path))} --profile {started.study.profile}"


def compendium() -> Path | None:
    """Return the folder of the compendium, whose notebooks a run needs; None where it is not here."""
    from leakfree.base.paths import project_root

    for start in (Path(__file__).parent, Path.cwd()):
        if (project_root(start) / "run_all.py").is_file():
            return project_root(start)
    return None


def tell(started: Started) -> None:
    """Print what the audit found, what the images cannot support, and what to do next."""
    study, folder = started.study, started.path.parent
    print_report(started.report, sys.stdout)
    table = _table(list_study(study, folder), study)
    counts = ", ".join(f"{label} {(table['label'] == label).sum():,}" for label in study.labels)
    say()
    say(f"{study.name}: {len(table):,} images: {counts}")
    named = table.loc[table[SUBJECT] != "", SUBJECT]
    if len(named):
        say(f"Patients: {named.nunique():,} named by {len(named):,} images")
    for sentence in limits(table, patients_known=study.patients_known):
        say(f"- {sentence}")
    if started.unreadable and not study.allow_problems:
        say(
            f"Files that cannot be read: {len(started.unreadable)}, such as {started.unreadable[0]}: "
            f"repair or remove them, or set allow_problems: true in {started.path}"
        )
    say()
    say(f"Written: {started.path}, {folder / README}, {folder / AUDIT}.json, {folder / AUDIT}.html")
    say(f"Next, in the folder of the compendium: {next_command(started)}")


def _wishes(wanted: Wanted) -> Wishes:
    return Wishes(
        csv=() if wanted.csv is None else (wanted.csv,),
        path_column=wanted.path_column,
        part_column=wanted.part_column,
        label_column=wanted.label_column,
        patient_column=wanted.patient_column,
        patient_pattern=wanted.patient_pattern,
    )


def _pattern(pattern: str) -> PathPattern:
    """Check that a pattern is one."""
    try:
        return PathPattern(pattern=pattern)
    except ValueError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise StudyFileError(f"--patient-pattern {message}") from error


def _check_labels(labels: tuple[str, ...], table: pd.DataFrame, wanted: Wanted) -> None:
    place = wanted.csv or wanted.folder
    if without := table.loc[table["label"] == "", "image_id"].tolist():
        raise StudyFileError(
            f"{place}: nothing tells the label of {len(without)} images, such as {without[0]}; put images "
            "into folders of their labels, or give --csv"
        )
    if len(labels) < 2:
        raise StudyFileError(f"{place}: only the label {labels[0]} was found; a study needs two")
    if len(labels) > MOST_LABELS:
        raise StudyFileError(
            f"{place}: {len(labels)} labels were found, such as {', '.join(labels[:3])}: these look like "
            "patients or "
            "files; put images into folders of their labels, or give --csv with --label-column"
        )


def _table(opened: Opened, study: OwnStudy) -> pd.DataFrame:
    part_of = {called: part for part, called in study.parts.items()}
    table = opened.understood.table[["image_id", "label", "part", SUBJECT]]
    table = table[table["label"].isin(study.labels)].reset_index(drop=True)
    return table.assign(part=[part_of.get(part, "unsplit") for part in table["part"]])


def _readme(started: Started, table: pd.DataFrame) -> str:
    return page(
        "leakfree_study.compendium",
        "new_readme.md.j2",
        study=started.study,
        images=f"{len(table):,}",
        leaks=verdict(started.report),
        limits=limits(table, patients_known=started.study.patients_known),
        command=one_line(next_command(started)),
        audit=AUDIT,
        study_file=STUDY_FILE,
        run_folder=RUN_FOLDER,
    )


def _relative(path: Path, start: Path) -> str:
    try:
        return Path(os.path.relpath(Path(path).resolve(), start.resolve())).as_posix()
    except ValueError:  # another drive
        return Path(path).resolve().as_posix()
