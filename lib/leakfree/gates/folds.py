"""scikit-learn: folds and a pipeline step that refuse a group on both sides, and record what was consumed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from leakfree.base.files import write_json
from leakfree.data.groups import linked_groups
from leakfree.ledger.ledger import LedgerError


class LedgerCV:
    """A cross-validator that refuses folds with a group on both sides, whatever makes the folds.

    Give it where scikit-learn takes ``cv``, with the groups where it takes ``groups``.

    Parameters
    ----------
    cv : object
        A cross-validator with ``split`` and ``get_n_splits``, such as ``GroupKFold(5)``.
    ids : sequence of str, optional
        Name of each row, for ``record``; their numbers without it.

    Attributes
    ----------
    folds : list of dict
        ``train`` and ``test`` names of each fold that was handed out.

    Examples
    --------
    >>> from sklearn.model_selection import KFold
    >>> list(LedgerCV(KFold(2)).split([[0], [1]], groups=["p", "p"]))
    Traceback (most recent call last):
    leakfree.ledger.ledger.LedgerError: fold 0 of KFold: group 'p' is in training and test
    """

    def __init__(self, cv: Any, ids: Sequence[str] | None = None) -> None:
        self.cv, self.ids = cv, ids
        self.folds: list[dict[str, list[str]]] = []

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds."""
        return self.cv.get_n_splits(X, y, groups)

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield training and test rows of each fold.

        Raises
        ------
        LedgerError
            If groups are missing or unknown for a row, or a fold has one on both sides.
        """
        if groups is None:
            raise LedgerError("folds need groups: pass groups=, the patient of each row")
        values = np.asarray(groups, dtype=object)
        if len(values) != len(X):
            raise LedgerError(f"{len(values)} groups came with {len(X)} rows")
        if missing := sum(value is None or value != value or value == "" for value in values):
            # One shared "unknown" would join strangers, and none at all would hide a patient.
            raise LedgerError(f"{missing} rows have no group; give each unknown patient a name of its own")
        ids = np.arange(len(values)).astype(str) if self.ids is None else self.ids
        names = np.asarray(ids, dtype=object)
        if len(names) != len(values):
            raise LedgerError(f"{len(names)} ids came with {len(values)} rows")
        for number, (train, test) in enumerate(self.cv.split(X, y, groups)):
            if shared := set(values[train]) & set(values[test]):
                name, group = type(self.cv).__name__, min(shared, key=str)
                raise LedgerError(f"fold {number} of {name}: group {group!r} is in training and test")
            self.folds.append({"train": names[train].tolist(), "test": names[test].tolist()})
            yield train, test

    def record(self, path: Path) -> Path:
        """Write the folds that were handed out as JSON."""
        return write_json(path, {"cv": repr(self.cv), "folds": self.folds})


class KnownRows:
    """The rows of a table by their content, each with its linked group; made once, before any split.

    Parameters
    ----------
    X : array-like, shape (n, ...)
        All rows, as they enter the pipeline.
    groups : sequence of str, shape (n,)
        Rows of the same content are joined, whatever their groups say.

    Attributes
    ----------
    consumed : dict of str to collections.Counter
        For ``fit`` and ``transform``: how often each row number was consumed.
    """

    def __init__(self, X: Any, groups: Sequence[str]) -> None:
        digests = _digests(X)
        if len(digests) != len(groups):
            raise LedgerError(f"{len(groups)} groups came with {len(digests)} rows")
        joined = linked_groups(np.asarray(groups, dtype=object), np.array(digests, dtype=object))
        self.group_of = dict(zip(digests, joined.tolist(), strict=True))
        self.row_of = {digest: row for row, digest in enumerate(digests)}
        self.consumed: dict[str, Counter[int]] = {"fit": Counter(), "transform": Counter()}

    def __deepcopy__(self, memo: dict) -> KnownRows:
        # scikit-learn copies the settings of a step for each fold; the record is one.
        return self

    def enter(self, stage: str, X: Any) -> list[str]:
        """Record rows; return their digests."""
        digests = _digests(X)
        if unknown := sum(digest not in self.group_of for digest in digests):
            raise LedgerError(
                f"{stage}: {unknown} of {len(digests)} rows are not among the known ones; put the step first "
                "in the pipeline, before anything changes the rows"
            )
        self.consumed[stage].update(self.row_of[digest] for digest in digests)
        return digests


class LedgerStep(TransformerMixin, BaseEstimator):
    """First step of a pipeline: passes rows on, and refuses test rows whose group it was fitted to.

    Rows that it was fitted to may come again, as for a training score; other rows of their groups may not.
    It records in one process: with ``n_jobs`` the folds are still refused, but not recorded.

    Parameters
    ----------
    rows : KnownRows
    """

    def __init__(self, rows: KnownRows) -> None:
        self.rows = rows

    def fit(self, X: Any, y: Any = None) -> LedgerStep:
        """Record the rows of training."""
        self.fitted_ = set(self.rows.enter("fit", X))
        return self

    def transform(self, X: Any) -> Any:
        """Return the rows as they are.

        Raises
        ------
        LedgerError
            If a row is another one of a group that was fitted to, or is not known.
        """
        new = set(self.rows.enter("transform", X)) - self.fitted_
        groups = {self.rows.group_of[digest] for digest in self.fitted_}
        if leaking := [digest for digest in new if self.rows.group_of[digest] in groups]:
            row = min(self.rows.row_of[digest] for digest in leaking)
            raise LedgerError(f"{len(leaking)} rows, such as row {row}, are of groups that were trained on")
        return X


def _digests(X: Any) -> list[str]:
    values = np.asarray(X)
    if values.dtype == object:
        return [hashlib.sha256(repr(row.tolist()).encode()).hexdigest() for row in values]
    rows = np.ascontiguousarray(values.reshape(len(values), -1))
    return [hashlib.sha256(row.tobytes()).hexdigest() for row in rows]
