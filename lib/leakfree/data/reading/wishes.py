"""What a user declared about an input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from leakfree.base.errors import LeakfreeError


class ReadingError(LeakfreeError):
    """What was declared cannot be used; the message is one line."""


@dataclass(frozen=True)
class Wishes:
    """What the user declared about an input; empty chooses by looking at it.

    Attributes
    ----------
    csv : tuple of pathlib.Path
        Tables whose rows name images.
    columns : tuple of str
        Names of the columns of tables without a header.
    path_column, part_column, label_column, patient_column : str
    group_columns : tuple of str
        Columns that group images too, such as a study: further scopes.
    part_lists : tuple of (str, pathlib.Path)
        A part and the file that lists its images.
    part_pattern, patient_pattern : str
        Regular expressions whose first group, searched in the path, is the part or the patient.
    no_parts : bool
        The images are not split, and need not be.
    """

    csv: tuple[Path, ...] = ()
    columns: tuple[str, ...] = ()
    path_column: str = ""
    part_column: str = ""
    label_column: str = ""
    patient_column: str = ""
    group_columns: tuple[str, ...] = ()
    part_lists: tuple[tuple[str, Path], ...] = ()
    part_pattern: str = ""
    patient_pattern: str = ""
    no_parts: bool = False

    def column(self, what: str) -> str:
        """Return the declared column for ``path``, ``part``, ``label`` or ``patient``."""
        return getattr(self, f"{what}_column")
