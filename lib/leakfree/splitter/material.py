"""Read what is to be split: the images, their linked groups, and the columns that were named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from leakfree.audit.auditor import AuditSettings, copies_of, read_images
from leakfree.audit.checks.patient_checks import (
    available_scopes,
    deciding_scope,
    patients_by_scope,
    without_identifier,
)
from leakfree.audit.copies.duplicates import Copies
from leakfree.audit.copies.scan import Scan
from leakfree.audit.target import Target, is_foreign
from leakfree.base.errors import LeakfreeError
from leakfree.data.groups import linked_groups
from leakfree.data.reading.tables import named as named_columns
from leakfree.data.reading.understand import META, SCOPE


class SplitError(LeakfreeError):
    """The images cannot be split as asked; the message is one line."""


@dataclass(frozen=True)
class Gathered:
    """What a split is made of. Rows are those of ``read.table``.

    Attributes
    ----------
    target : Target
    read : Scan
    copies : Copies
    patients : numpy.ndarray of str, shape (n,)
        Patient of each image; ``image:...`` where none is known.
    named : numpy.ndarray of bool, shape (n,)
        Whether the patient is known.
    scope : str or None
        Rule that names patients; None where nothing tells any.
    columns : dict of str to numpy.ndarray of str, shape (n,)
        Columns whose values keep images together, by name. An empty value keeps nothing together.
    groups : numpy.ndarray of int64, shape (n,)
        Linked group of each image: by patient, by verified copies and by these columns.
    lost : tuple of str
        Files that should be images and could not be read.
    """

    target: Target
    read: Scan
    copies: Copies
    patients: np.ndarray
    named: np.ndarray
    scope: str | None
    columns: dict[str, np.ndarray]
    groups: np.ndarray
    lost: tuple[str, ...]

    @property
    def table(self) -> pd.DataFrame:
        """One row a readable image."""
        return self.read.table

    @property
    def linked(self) -> tuple[str, ...]:
        """What joins images into groups besides the patient."""
        return ("copies", *self.columns)


def gather(target: Target, settings: AuditSettings, given: str, columns: Sequence[str] = ()) -> Gathered:
    """Read the images of an open target and join them into linked groups.

    Parameters
    ----------
    target : Target
    settings : AuditSettings
        As of the audit; its ``thorough`` decides which copies are found.
    given : str
        The target as the user named it: a table's further columns are read from there.
    columns : sequence of str
        Columns whose values keep images together.

    Raises
    ------
    SplitError
        If no image can be read, the scope that is asked for is not there, or a column is missing.
    """
    with threadpool_limits(1, user_api="blas"):
        read = read_images(target, settings)
        table = read.table
        if not len(table):
            raise SplitError(f"{given}: none of {len(target.table)} files could be read as an image")
        copies = copies_of(read, target, settings)
    scope = deciding_scope(table, settings.scope)
    alone = np.array([f"image:{row}" for row in range(len(table))], dtype=object)
    if scope is not None and scope not in available_scopes(table):
        raise SplitError(f"--scope {scope}: no name or column tells a patient under it")
    if scope is None:
        patients, named = alone, np.zeros(len(table), dtype=bool)
    else:
        patients, named = patients_by_scope(table, [scope])[scope], ~without_identifier(table, scope)
    together = {name: column_of(table, given, name) for name in columns}
    keys = [np.where(values == "", alone, values) for values in together.values()]
    groups = linked_groups(patients, copies.group.astype(str), *keys)
    lost = tuple(problem.file for problem in read.problems if not is_foreign(problem))
    return Gathered(target, read, copies, patients, named, scope, together, groups, lost)


def column_of(table: pd.DataFrame, given: str, name: str) -> np.ndarray:
    """Return a further column of what the target lists: str, shape (n,), empty where nothing is said.

    Raises
    ------
    SplitError
        If there is no such column, or it says two things about one file.
    """
    for column in (name, f"{SCOPE}{name}", f"{META}{name}"):
        if column in table:
            return table[column].fillna("").astype(str).to_numpy(dtype=object)
    if not given.lower().endswith((".csv", ".tsv", ".txt")) or not os.path.isfile(given):
        known = ", ".join(column for column in table if column in ("label", "patient"))
        raise SplitError(f"column {name}: {given} is no table with further columns; known here: {known}")
    try:
        listed = pd.read_csv(
            given, dtype=str, keep_default_na=False, sep="\t" if given.lower().endswith(".tsv") else ","
        )
    except (OSError, ValueError) as error:
        raise SplitError(f"{given}: cannot be read: {' '.join(str(error).split())}") from error
    path = next(iter(named_columns(listed, "path")), None)
    if name not in listed or path is None:
        raise SplitError(f"{given}: no column {name}; found {', '.join(map(str, listed.columns))}")
    values = listed[name].str.strip().groupby(listed[path].str.strip()).agg(lambda some: sorted(set(some)))
    if len(doubtful := values.index[values.str.len() > 1]):
        raise SplitError(f"{given}: column {name} says two things about {doubtful[0]}; mend the table")
    return table["image_id"].map(values.str[0]).fillna("").to_numpy(dtype=object)
