"""A run of a study on the user's own images: where it goes, its parameters, and what it leaves out."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from leakfree.base.escape import say
from leakfree.data.open import needs_study
from leakfree.data.patients import DECLARED, SUBJECT, patient_ids
from leakfree.data.raw import SourceError
from leakfree.data.study_file import RUN_FOLDER, STUDY_FILE, OwnStudy, StudyFileError, read_study
from leakfree_study.own.limits import UNKNOWN, no_siblings
from leakfree_study.own.notebook import SIBLINGS, adapted

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from leakfree.data.cohort import Cohort


def study_of(data: str) -> OwnStudy | None:
    """Read the study that ``--data`` names; None where it names another cohort.

    Raises
    ------
    leakfree.data.study_file.StudyFileError
        If the file is there and cannot be used.
    """
    path = Path(data)
    return read_study(path) if path.suffix.lower() in (".yaml", ".yml") and path.is_file() else None


def standing_study(data: str) -> str:
    """Return the study file of images that ``--data`` names, where `begin_study` or a user made one before.

    Returns
    -------
    str
        `data` itself where there is none, or none is needed.

    Raises
    ------
    leakfree.data.study_file.StudyFileError
        If a study of other images stands there, or its file cannot be used.
    leakfree.data.raw.SourceError
        If a folder cannot be read.
    """
    if not needs_study(data):
        return data
    from leakfree_study.compendium.new import Wanted, study_place

    path = study_place(Wanted(Path(data)))[1] / STUDY_FILE
    if not path.is_file():
        return data
    study = read_study(path)
    named = [study.data] if study.csv is None else [study.data, study.csv.file]
    if Path(data).resolve() not in [(path.parent / one).resolve() for one in named]:
        raise StudyFileError(
            f"{path}: a study of other images is here; start one of {data} elsewhere: "
            f"leakfree new {shlex.quote(data)} --out DIR"
        )
    say(f"{data}: its study is {path}, and is taken as it stands")
    return path.as_posix()


def begin_study(data: str, profile: str, *, allow_problems: bool, jobs: int) -> str:
    """Start a study of images as ``leakfree new`` does, show how they were read, and return its file.

    Raises
    ------
    leakfree.data.study_file.StudyFileError
        If classes or patients were not understood: one line with the command that says them.
    """
    from leakfree_study.compendium.new import Wanted, start, study_place, tell

    wanted = Wanted(Path(data), profile=profile, allow_problems=allow_problems, jobs=jobs)
    try:
        started = start(wanted, patients_needed=True)
    except (StudyFileError, SourceError) as error:
        study = study_place(wanted)[1] / STUDY_FILE
        raise StudyFileError(
            f"{error}; say what it lacks: leakfree new {shlex.quote(data)} [--csv TABLE] [--label-column C] "
            f"[--patient-column C | --patient-pattern REGEX] [--out DIR], where without a patient each "
            f"image is its own; then run_all.py --data {shlex.quote(study.as_posix())}"
        ) from error
    tell(started)
    return started.path.as_posix()


def own_run_folder(data: str) -> Path | None:
    """Return the run folder of a study: beside its file; None where ``--data`` is no such file."""
    path = Path(data)
    return path.parent / RUN_FOLDER if path.is_file() else None


def own_parameters(study: OwnStudy, known: Collection[str]) -> dict[str, Any]:
    """Return the parameters that a study sets in a notebook, which the profiles have for chest X-rays."""
    tasks = list(study.tasks)
    values = {"tasks": tasks, "task": tasks[0], "scope": DECLARED}
    return {name: value for name, value in values.items() if name in known}


def note_of(study: OwnStudy, table: pd.DataFrame) -> str:
    """Return what stands under the title of every notebook: whether patients are known."""
    return UNKNOWN if not study.patients_known or (table[SUBJECT] == "").all() else ""


def adaptation(cohort: Cohort) -> Callable[[NotebookNode], NotebookNode] | None:
    """Return what makes a notebook of the compendium one of a study; None for chest X-rays."""
    study = cohort.study
    if study is None:
        return None
    return partial(adapted, left_out=left_out(cohort), note=note_of(study, cohort.table))


def left_out(cohort: Cohort) -> dict[str, str]:
    """Return the tags of cells that a cohort cannot support, with the reason."""
    table = cohort.development()
    table = table[~table["sha256"].duplicated()]
    reason = no_siblings(table["label"].to_numpy(dtype=object), patient_ids(table, DECLARED))
    return {SIBLINGS: reason} if reason else {}
