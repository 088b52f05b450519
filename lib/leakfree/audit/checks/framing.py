"""Predict the label from how an image is cut out: its outer ring, without the middle.

What stands at the edge of a picture (how far the crop reaches, arms and shoulders, markers, black bars) says
little about disease and much about who took it, in which ward and with which machine. Where the edge predicts
the label, a network can learn the framing instead, and fails on images that are cropped otherwise (DeGrave,
Janizek and Lee, "AI for radiographic COVID-19 detection selects shortcuts over signal", Nature Machine
Intelligence 3, 2021, 610-619).

Each view of a thumbnail of 32 x 32 grey values is scored by `leakfree.audit.checks.separability` on the
principal components of its pixels, fitted on training folds only. The middle alone is scored beside the ring.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from leakfree.audit.checks.findings import Check
from leakfree.audit.checks.separability import (
    BAR,
    LEAST_GROUPS,
    REACH,
    group_weights,
    grouped_folds,
    over_bar,
    permuted_rows,
    separability,
    span,
)
from leakfree.audit.checks.shift import components
from leakfree.audit.checks.shortcuts import question

#: Pixels of a side, and of the ring that is looked at: an eighth of each side.
_SIDE, _RING = 32, 4
#: Pairs of labels, and labels inside which parts are compared: the most frequent of them.
_MOST_PAIRS = 6


def _views() -> dict[str, np.ndarray]:
    """Return which pixels each view has, bool (32, 32)."""
    row, column = np.mgrid[:_SIDE, :_SIDE]
    edge = np.minimum(np.minimum(row, column), np.minimum(_SIDE - 1 - row, _SIDE - 1 - column))
    far_row, far_column = (np.minimum(at, _SIDE - 1 - at) for at in (row, column))
    return {
        "ring": edge < _RING,
        "top": row < _RING,
        "bottom": row >= _SIDE - _RING,
        "sides": far_column < _RING,
        "corners": (far_row < 2 * _RING) & (far_column < 2 * _RING),
        "middle": edge >= 2 * _RING,
    }


#: What is looked at, by name. The ring decides; the others say where in it, and what the middle alone tells.
VIEWS = _views()


# Threads of BLAS wait for each other on a busy machine (ten times as long), and change rounding.
@threadpool_limits.wrap(limits=1)
def framing(
    table: pd.DataFrame,
    thumbnails: np.ndarray,
    groups: np.ndarray | None,
    *,
    seed: int = 0,
    permutations: int = 60,
    resamples: int = 200,
) -> Check:
    """Score how well the outer ring of the images alone predicts the label.

    Parameters
    ----------
    table : pandas.DataFrame
        A row an image: ``label``, and ``part`` where there are parts. A label of ``sealed`` or an empty one
        leaves the row out.
    thumbnails : numpy.ndarray of uint8, shape (n, 32, 32)
        Small grey pictures.
    groups : numpy.ndarray of int64, shape (n,), or None
        Linked group of each row; None where they are not known: the check cannot pass then.
    seed : int
        Of folds, permutations and resamples.
    permutations : int
        Label permutations of the control. Groups of one fold swap their labels as wholes.
    resamples : int
        Bootstrap resamples over groups, for percentile intervals of 95 %.

    Returns
    -------
    Check
        ``WARN`` if the ring is over `leakfree.audit.checks.separability.BAR` and over its control. Details:
        ``views`` (AUC, interval and control of each of `VIEWS`), ``pairs`` (of the ring, by pair of labels)
        and ``inside`` (whether the ring tells two parts apart among images of one label).
    """
    asked = question("framing", table, groups)
    if isinstance(asked, Check):
        return asked
    used, y, group, scored, names = asked.used, asked.y, asked.group, asked.scored, asked.names
    gaps, details = [*asked.gaps, *asked.unknown], asked.details
    if not len(scored):
        return asked.not_measured("framing", gaps)
    pixels = thumbnails[used]
    rng = np.random.default_rng(seed)

    def measure(view: str, truth: np.ndarray, rows: np.ndarray, strata: np.ndarray) -> dict[str, Any]:
        inside = np.unique(group[rows], return_inverse=True)[1]
        folds, of_group = grouped_folds(inside, strata, rng)
        return separability(
            components(pixels[rows][:, VIEWS[view]], folds),
            truth,
            folds,
            group_weights(inside, resamples, rng),
            permuted_rows(inside, of_group, permutations, rng),
        )

    everyone = np.arange(len(y))
    targets = y[None, :] == scored[:, None]
    views = {view: measure(view, targets, everyone, y) for view in VIEWS}
    ring = views["ring"]
    details["views"] = [{"name": view, **result} for view, result in views.items()]
    details["pairs"] = _pairs(y, group, names, measure)
    part = table["part"].fillna("").astype(str).to_numpy(dtype=object)[used] if "part" in table else None
    details["inside"] = [] if part is None else _inside(part, y, group, names, measure)
    missing = f" Missing: {'; '.join(gaps)}." if gaps else ""
    middle = f"the middle alone {views['middle']['auc']:.2f}"
    if over_bar(ring):
        return Check(
            "framing",
            "WARN",
            f"Framing tells the label: the outer ring of the image alone reaches an AUC of {ring['auc']:.2f} "
            f"({span(ring)}), {middle}.{_told(details)}{missing}",
            "Cut out all images in the same way, around the organ, or train with wide random crops and "
            "padding; then score the model on images that are zoomed and padded."
            " It may have learned the edge.",
            1,
            severity="warning",
            details=details,
        )
    if ring["high"] is None or ring["high"] >= REACH:
        gaps.append(f"too few groups ({details['n_groups']:,}) to rule out an AUC of {ring['high'] or 1:.2f}")
        missing = f" Missing: {'; '.join(gaps)}."
    return Check(
        "framing",
        "INCONCLUSIVE" if gaps else "PASS",
        f"The outer ring of the image does not predict the label beyond an AUC of {BAR} "
        f"({ring['auc']:.2f}, {span(ring)}); {middle}.{_told(details)}{missing}",
        details=details,
    )


#: Asks how well a view tells bool (k, n) apart among some rows, in folds that are alike in strata.
_Measure = Callable[[str, np.ndarray, np.ndarray, np.ndarray], dict[str, Any]]


def _pairs(y: np.ndarray, group: np.ndarray, names: list[str], measure: _Measure) -> list[dict[str, Any]]:
    """Score the ring for each pair of frequent labels; nothing where there is one pair only."""
    if len(names) < 3:
        return []
    frequent = np.argsort(-np.bincount(y), kind="stable")
    found = []
    for a, b in list(combinations(sorted(frequent.tolist()[:4]), 2))[:_MOST_PAIRS]:
        rows = np.flatnonzero((y == a) | (y == b))
        second = y[rows] == b
        if _enough(group[rows], second):
            result = measure("ring", second[None, :], rows, second.astype(np.int64))
            found.append({"labels": [names[a], names[b]], **result})
    return found


def _inside(
    part: np.ndarray, y: np.ndarray, group: np.ndarray, names: list[str], measure: _Measure
) -> list[dict[str, Any]]:
    """Ask inside each frequent label whether the ring tells the two largest parts apart."""
    largest = pd.Series(part[part != ""]).value_counts().index[:2].tolist()
    found: list[dict[str, Any]] = []
    if len(largest) < 2:
        return found
    for label in np.argsort(-np.bincount(y), kind="stable").tolist()[:_MOST_PAIRS]:
        rows = np.flatnonzero((y == label) & np.isin(part, largest))
        second = part[rows] == largest[1]
        if len(rows) and _enough(group[rows], second):
            result = measure("ring", second[None, :], rows, second.astype(np.int64))
            found.append({"label": names[label], "parts": largest, **result})
    return found


def _enough(group: np.ndarray, second: np.ndarray) -> bool:
    return min(len(np.unique(group[second])), len(np.unique(group[~second]))) >= LEAST_GROUPS


def _told(details: dict[str, Any]) -> str:
    """Say inside which labels the ring tells two parts apart."""
    over = [row for row in details["inside"] if over_bar(row)]
    if not over:
        return ""
    first, second = over[0]["parts"]
    told = ", ".join(f"{row['label']} (AUC {row['auc']:.2f}, {span(row)})" for row in over)
    return f" Inside one label, the ring tells {first} from {second}: {told}."
