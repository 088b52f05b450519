"""The words of a cohort: its labels, its tasks, and the scopes that its patients are read under."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leakfree.data.patients import DECLARED, SCOPES
from leakfree.data.raw import LABELS
from leakfree.data.tasks import TASKS, Task

if TYPE_CHECKING:
    from leakfree.data.study_file import OwnStudy


@dataclass(frozen=True)
class Vocabulary:
    """What tables, splits and models of a cohort may name.

    Attributes
    ----------
    labels : tuple of str
        In the order of tables and figures.
    tasks : mapping of str to Task
    scopes : tuple of str
        Patient scopes; the first one decides.
    """

    labels: tuple[str, ...]
    tasks: Mapping[str, Task]
    scopes: tuple[str, ...]

    @property
    def scope(self) -> str:
        """The scope that decides."""
        return self.scopes[0]


#: Of chest X-rays, whatever their source.
CHEST = Vocabulary(LABELS, TASKS, SCOPES)


def vocabulary(study: OwnStudy | None) -> Vocabulary:
    """Return the words of a study on other images; those of chest X-rays where there is none."""
    return CHEST if study is None else Vocabulary(study.labels, study.made_tasks(), (DECLARED,))


def words_of(cohort: object) -> Vocabulary:
    """Return the words of a cohort, or of the record of one: of its ``study``, where it has one."""
    return vocabulary(getattr(cohort, "study", None))
