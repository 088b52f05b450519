"""What a nearest neighbour scores when a cohort is split by one rule of who is a patient, and by another.

Where patient numbers are weak, each further rule (video, examination, source) is a column of a table. The
same images are split into folds by each, and the same model scores them; what changes is only who may be on
both sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold, StratifiedKFold

from leakfree.gates.folds import LedgerCV
from leakfree_study.inflation import heads

#: Folds of each split; where there are no more groups than twice as many, each group is left out once.
FOLDS = 5
#: What the split that ignores every rule is called.
BY_IMAGE = "image"


def predicted_by_rule(
    pixels: np.ndarray, classes: np.ndarray, groups: np.ndarray | None, seeds: Sequence[int]
) -> tuple[np.ndarray, str]:
    """Predict every image once a seed, from folds that keep groups together.

    Parameters
    ----------
    pixels : numpy.ndarray of uint8, shape (n, d)
    classes : numpy.ndarray of int64, shape (n,)
    groups : numpy.ndarray, shape (n,), or None
        None splits images.
    seeds : sequence of int
        Of the folds.

    Returns
    -------
    predicted : numpy.ndarray of int64, shape (seeds, n)
    how : str
        ``folds`` or ``leave one out``, which no seed changes: it is done once.
    """
    few = groups is not None and len(np.unique(groups)) <= 2 * FOLDS
    seeds = seeds[:1] if few else seeds
    head, k = heads.Head("1-nn", 1, 0, 1), int(classes.max()) + 1
    out = np.empty((len(seeds), len(classes)), dtype=np.int64)
    for place, seed in enumerate(seeds):
        for fitting, held in _folds(classes, groups, seed, few):
            a, b = heads.scaled(pixels[fitting], pixels[held], features="pixels")
            out[place, held] = heads.probabilities(head, a, classes[fitting], b, k).argmax(axis=1)
    return out, "leave one out" if few else "folds"


def _folds(classes: np.ndarray, groups: np.ndarray | None, seed: int, few: bool) -> list:
    if groups is None:
        return list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(classes, classes))
    made = LeaveOneGroupOut() if few else StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    # It raises where a group is on both sides.
    return list(LedgerCV(made).split(classes[:, None], classes, groups))


def scores_by_rule(
    pixels: np.ndarray,
    classes: np.ndarray,
    rules: Mapping[str, np.ndarray],
    *,
    seeds: Sequence[int] = range(5),
    clusters: np.ndarray,
    n_resamples: int = 1000,
) -> pd.DataFrame:
    """Score a nearest neighbour under the split by image and under each rule.

    Parameters
    ----------
    pixels : numpy.ndarray of uint8, shape (n, d)
    classes : numpy.ndarray of int64, shape (n,)
    rules : mapping of str to numpy.ndarray, shape (n,)
        Name of a rule to the group of each image.
    seeds : sequence of int
    clusters : numpy.ndarray, shape (n,)
        What the interval resamples: the rule that joins most of what belongs together.
    n_resamples : int

    Returns
    -------
    pandas.DataFrame
        ``rule, groups, how, accuracy, low, high, macro_f1``: means over seeds; the interval is that of the
        accuracy, a bootstrap over clusters.
    """
    numbers = np.unique(clusters, return_inverse=True)[1]
    sizes = np.bincount(numbers)
    drawn = np.random.default_rng(0).integers(len(sizes), size=(n_resamples, len(sizes)))
    rows = []
    for rule, groups in {BY_IMAGE: None, **rules}.items():
        predicted, how = predicted_by_rule(pixels, classes, groups, seeds)
        right = (predicted == classes).mean(axis=0)
        hits = np.bincount(numbers, weights=right)
        spread = hits[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
        low, high = np.quantile(spread, [0.025, 0.975])
        rows.append(
            {
                "rule": rule,
                "groups": len(classes) if groups is None else len(np.unique(groups)),
                "how": how,
                "accuracy": right.mean(),
                "low": low,
                "high": high,
                "macro_f1": np.mean([f1_score(classes, one, average="macro") for one in predicted]),
            }
        )
    return pd.DataFrame(rows)
