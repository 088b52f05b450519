"""Change a split that leaks as little as can be, so that no linked group is in two parts."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from leakfree.audit.checks.patient_checks import ordered_parts
from leakfree.base.errors import LeakfreeError

_EMPTY = (
    "after the repair part {} would be empty: all its images are linked to others; make a new split instead "
    "(without --repair)"
)


class RepairError(LeakfreeError):
    """The split cannot be repaired as asked; the message is one line."""


def repaired(groups: np.ndarray, parts: np.ndarray, keep: Collection[str] = ()) -> np.ndarray:
    """Return the part of each image after the repair; an empty one stands for an image that is dropped.

    Groups do not touch one another, so the fewest changes of all are the fewest changes of each group: its
    images go to the part that has most of them already. Where two parts have as many, the later one in the
    order training, validation, test wins, so that test images stay in test. Where this would leave
    a part empty, the fewest changes that do not are found by integer programming.

    Parameters
    ----------
    groups : numpy.ndarray of int, shape (n,)
        Linked group of each image.
    parts : numpy.ndarray of str, shape (n,)
        Part of each image; empty where it has none, and then it stays without one.
    keep : collection of str
        Parts that stay exactly as they are: what is linked to them and lies elsewhere is dropped.

    Raises
    ------
    RepairError
        If no part is of that name, two kept parts share a group, or a part would be left empty.
    """
    parts = np.asarray(parts, dtype=object)
    order = ordered_parts(parts)
    if unknown := sorted(set(keep) - set(order)):
        raise RepairError(f"--keep {unknown[0]}: no such part; the parts are {', '.join(order)}")
    placed = parts != ""
    counts = pd.crosstab(groups[placed], parts[placed])[order]
    there = counts.to_numpy()
    # In a tie the later part; a whole image always counts for more.
    goal = (there + np.arange(len(order)) / len(order) / 2 * (there > 0)).argmax(axis=1)
    if not set(goal) >= set(range(len(order))):
        goal = _none_empty(there, order)
    for part in keep:
        touched = there[:, order.index(part)] > 0
        if others := [
            other for other in keep if other != part and (there[touched, order.index(other)] > 0).any()
        ]:
            first, second = sorted((part, others[0]))
            raise RepairError(
                f"--keep: {first} and {second} share linked groups, so both cannot stay as they are; keep one"
            )
        goal[touched] = order.index(part)
    row_goal = pd.Series(goal, index=counts.index).reindex(groups).to_numpy()
    after = parts.copy()
    after[placed] = np.array(order, dtype=object)[row_goal[placed].astype(int)]
    kept = placed & np.isin(after, list(keep)) & (after != parts)
    after[kept] = ""
    if empty := [part for part in order if not (after == part).any()]:
        raise RepairError(_EMPTY.format(empty[0]))
    return after


def _none_empty(there: np.ndarray, order: list[str]) -> np.ndarray:
    """Return the part of each group, with the fewest changes among those that leave no part empty."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array, kron

    n, parts = there.shape
    if n < parts:
        raise RepairError(_EMPTY.format(order[-1]))
    rank = np.arange(parts) / parts / 2 / (n * parts)
    costs = (there.sum(axis=1, keepdims=True) - there - rank).reshape(-1)
    once = LinearConstraint(kron(csr_array(np.eye(n)), np.ones((1, parts))), 1, 1)
    filled = LinearConstraint(kron(np.ones((1, n)), csr_array(np.eye(parts))), 1, n)
    solved = milp(costs, integrality=np.ones(n * parts), bounds=Bounds(0, 1), constraints=[once, filled])
    return solved.x.reshape(n, parts).argmax(axis=1)
