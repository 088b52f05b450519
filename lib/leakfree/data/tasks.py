"""The three classification tasks; no table mixes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Task:
    """A classification task.

    Attributes
    ----------
    name : str
        ``binary``, ``etiology`` or ``three-class``.
    classes : tuple of str
        Class names in the order of the columns of probabilities; with two, the second is the positive one.
    mapping : dict of str to int
        Cohort label to class index; images with another label do not take part.
    """

    name: str
    classes: tuple[str, ...]
    mapping: dict[str, int]

    def select(self, table: pd.DataFrame) -> pd.DataFrame:
        """Keep the rows of a cohort table that take part in the task."""
        return table[table["label"].isin(list(self.mapping))]

    def labels(self, table: pd.DataFrame) -> np.ndarray:
        """Return class indices, int64 of shape (n,), of rows that take part.

        Raises
        ------
        ValueError
            If a row does not take part in the task, as do the sealed rows of the official test.
        """
        unknown = sorted(set(table["label"]) - set(self.mapping))
        if unknown:
            raise ValueError(f"task {self.name} has no class for the label {', '.join(unknown)}")
        return table["label"].map(self.mapping).to_numpy(dtype=np.int64)

    def lacking(self, table: pd.DataFrame) -> list[str]:
        """Return the classes that no row that takes part has."""
        there = set(self.labels(table).tolist())
        return [name for code, name in enumerate(self.classes) if code not in there]


TASKS = {
    task.name: task
    for task in (
        Task("binary", ("normal", "pneumonia"), {"normal": 0, "bacterial": 1, "viral": 1, "pneumonia": 1}),
        Task("etiology", ("bacterial", "viral"), {"bacterial": 0, "viral": 1}),
        Task("three-class", ("normal", "bacterial", "viral"), {"normal": 0, "bacterial": 1, "viral": 2}),
    )
}
