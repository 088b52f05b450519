"""A run of a study on the user's own images: where it goes, its parameters, and what it leaves out."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from leakfree.data.patients import DECLARED, SUBJECT, patient_ids
from leakfree.data.study_file import RUN_FOLDER, OwnStudy, read_study
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
