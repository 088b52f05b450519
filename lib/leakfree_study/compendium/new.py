"""``leakfree new``: start a study on a folder of images. Writes its configuration, and audits it."""

from __future__ import annotations

import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from leakfree.audit.auditor import AuditSettings, audit_and_scan, unusable
from leakfree.audit.checks.findings import Report
from leakfree.audit.report import print_report, verdict, write_html, write_json
from leakfree.audit.target import as_target
from leakfree.base.escape import one_line, say
from leakfree.base.files import write_text
from leakfree.data.files import DICOM, DICOM_SUFFIXES, list_files
from leakfree.data.patients import DECLARED, SUBJECT
from leakfree.data.reading.parts import part_name
from leakfree.data.reading.tables import Finder, choose_path_column, named
from leakfree.data.sources.listing import (
    Listed,
    csv_images,
    folder_images,
    images_below,
    list_study,
    official_parts,
    read_csv,
    with_pattern,
    without_row,
)
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
        The images.
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


def start(wanted: Wanted) -> Started:
    """Write the study file, audit the images, and write what to do next.

    A study file that stands already is kept when it says the same; what else stands there is written anew.

    Parameters
    ----------
    wanted : Wanted

    Returns
    -------
    Started

    Raises
    ------
    StudyFileError, leakfree.data.raw.SourceError
        One line: images, CSV or options cannot be used, or another study is in the way.
    """
    folder = Path(wanted.folder)
    name = wanted.name or re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name).lstrip(".-_") or "images"
    out = Path(wanted.out or f"{name}-study")
    if out.resolve().is_relative_to(folder.resolve()):
        raise StudyFileError(f"{out}: lies in the folder of the images; choose another with --out")
    study = propose(wanted, name, out)
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


def propose(wanted: Wanted, name: str, out: Path) -> OwnStudy:
    """Look at the images, and propose what the study file says of them."""
    folder, files = Path(wanted.folder), images_below(wanted.folder)
    if not files:
        dicom = any(entry.path.suffix.lower() in DICOM_SUFFIXES for entry in list_files(folder))
        raise StudyFileError(f"{folder}: no image" + (f"; its files are {DICOM}" if dicom else ""))
    listing, patients = None, "none"
    if wanted.csv is None:
        if named := [o for o in ("path", "label", "part", "patient") if getattr(wanted, f"{o}_column")]:
            raise StudyFileError(f"--{named[0]}-column: there is no --csv")
        listed = _from_folders(files, folder)
    else:
        table = read_csv(wanted.csv)
        columns = _columns(wanted, table, files)
        listed, lost = csv_images(files, folder, table, wanted.csv, columns)
        if not listed:
            raise StudyFileError(
                f"{wanted.csv}: names no image of {folder}, such as {lost[0].file if lost else ''}"
            )
        listing = Listing(
            file=_relative(wanted.csv, out),
            path=columns["path"],
            label=columns["label"],
            part=columns.get("part", ""),
        )
        if "patient" in columns:
            patients = CsvColumn(column=columns["patient"])
    if wanted.patient_pattern:
        patients = _pattern(wanted.patient_pattern, listed)
    parts = official_parts({image.part for image in listed} - {""})
    labels = tuple(sorted({image.label for image in listed} - {""}))
    _check_labels(labels, listed, wanted)
    return OwnStudy(
        name=name,
        title=wanted.title or f"{name}: a study of leakage between patients",
        data=_relative(folder, out),
        csv=listing,
        labels=labels,
        tasks=one_task(labels),
        patients=patients,
        parts=parts,
        profile=wanted.profile,
        image=wanted.image,
        credit=wanted.credit,
        allow_problems=wanted.allow_problems,
    )


def audited(path: Path, *, jobs: int = 0) -> Started:
    """Audit the images of a study file by its own rule of patients; write the reports and ``README.md``."""
    study = read_study(path)
    listed, problems = list_study(study, path.parent)
    sealed = study.parts.get("test", "")
    target = as_target(study.name, listed, problems, leave_out=study.leave_out, sealed=sealed)
    report, read = audit_and_scan(target, AuditSettings(scope=DECLARED, thorough=True, jobs=jobs))
    write_json(report, path.with_name(f"{AUDIT}.json"))
    from leakfree.audit.report.pictures import Pictures

    pictures = Pictures(target, read)
    write_html(report, path.with_name(f"{AUDIT}.html"), pictures.picture, pictures.describe)
    started = Started(path, study, report, tuple(unusable(report)))
    write_text(path.with_name(README), _readme(started, _table(listed, study)))
    return started


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
    listed, _ = list_study(study, folder)
    table = _table(listed, study)
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
    if study.csv is not None:
        bare = without_row(images_below(folder / study.data), listed)
        if bare:
            say(
                f"Images without a row in {Path(study.csv.file).name}, which take no part: {len(bare):,}, "
                f"such as {bare[0]}"
            )
    say()
    say(f"Written: {started.path}, {folder / README}, {folder / AUDIT}.json, {folder / AUDIT}.html")
    say(f"Next, in the folder of the compendium: {next_command(started)}")


def _from_folders(files: dict[str, Path], folder: Path) -> list[Listed]:
    """Read labels and parts from folders, as an audit does."""
    listed = folder_images(files, (), ())
    if not any(image.part for image in listed) and (lone := [i.file for i in listed if not i.label]):
        raise StudyFileError(
            f"{folder}: no folder tells the label of {lone[0]}; put images into folders of their labels, or "
            "give --csv"
        )
    return listed


def _columns(wanted: Wanted, table: pd.DataFrame, files: dict[str, Path]) -> dict[str, str]:
    """Choose the columns of the CSV: those that are named, else those that an audit would take."""
    folder, root = Path(wanted.csv).resolve().parent, Path(wanted.folder).resolve()
    before = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else ""
    columns = {}
    for what in ("path", "part", "label", "patient"):
        found = getattr(wanted, f"{what}_column")
        if not found and what == "path":
            found, _ = choose_path_column(table, Finder(files), "" if before == "." else before)
        elif not found and not (what == "patient" and wanted.patient_pattern):
            free = [c for c in named(table, what) if c not in columns.values()]
            if what == "part":
                free = [c for c in free if any(part_name(value) for value in table[c].unique())]
            found = free[0] if free else ""
        if found and not (what == "patient" and wanted.patient_pattern):
            columns[what] = found
    for what in ("path", "label"):
        if what not in columns:
            raise StudyFileError(
                f"{wanted.csv}: which column has the {what}? Found {', '.join(map(str, table.columns))}; "
                f"give --{what}-column"
            )
    return columns


def _pattern(pattern: str, listed: list[Listed]) -> PathPattern:
    """Check that a pattern is one, and that it names patients."""
    try:
        rule = PathPattern(pattern=pattern)
    except ValueError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise StudyFileError(f"--patient-pattern {message}") from error
    if not any(image.patient for image in with_pattern(listed, pattern)):
        raise StudyFileError(
            f"--patient-pattern {pattern}: matches none of {len(listed)} paths, such as {listed[0].file}"
        )
    return rule


def _check_labels(labels: tuple[str, ...], listed: list[Listed], wanted: Wanted) -> None:
    place = wanted.csv or wanted.folder
    if len(labels) < 2:
        told = f"only the label {labels[0]}" if labels else "no label"
        raise StudyFileError(f"{place}: {told} was found; a study needs two")
    if len(labels) > MOST_LABELS:
        raise StudyFileError(
            f"{place}: {len(labels)} labels were found, such as {', '.join(labels[:3])}: these look like "
            "patients or "
            "files; put images into folders of their labels, or give --csv with --label-column"
        )
    if without := [image.file for image in listed if not image.label]:
        raise StudyFileError(
            f"{place}: nothing tells the label of {len(without)} images, such as {without[0]}"
        )


def _table(listed: list[Listed], study: OwnStudy) -> pd.DataFrame:
    part_of = {called: part for part, called in study.parts.items()}
    rows = [
        (i.file, i.label, part_of.get(i.part, "unsplit"), i.patient)
        for i in listed
        if i.label in study.labels
    ]
    return pd.DataFrame(rows, columns=["image_id", "label", "part", SUBJECT])


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
