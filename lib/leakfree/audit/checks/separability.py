"""How well binned features tell two kinds of images apart: AUC, interval over groups, permutation control.

The score is a ridge regression of the label on quantile-binned features, out of fold, groups whole. Pairs of
images are compared within a fold only, for the scores of two folds come from two models. Bins are set without
labels. Given folds that are stratified by label, training and held-out labels are independent if nothing
predicts, so the expected AUC is one half then, without the pessimism of pooled scores.
The bootstrap over groups takes the scores as they stand, without the variation of the fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

#: A family is over the bar if the lower bound of its AUC lies above this, and above its permutation's 95 %.
BAR = 0.55
#: Nothing was found only if the upper bound of every family lies below this; else there are too few groups.
REACH = 0.65
#: Groups that a label must have, and lack, to be scored.
LEAST_GROUPS = 20
FOLDS = 5
#: Quantile bins of a feature.
BINS = 12
_PENALTY = 10.0


def binned(values: np.ndarray) -> np.ndarray:
    """Return the quantile bin of each value: a value as common as a bin, and NaN, have bins of their own."""
    good = np.isfinite(values)
    share = np.linspace(0, 1, max(2, min(BINS, good.sum() // 10)) + 1)[1:-1]
    cuts = np.quantile(values[good], share, method="lower")
    edges, times = np.unique(cuts, return_counts=True)
    edges = np.sort(np.concatenate([edges, np.nextafter(edges[times > 1], np.inf)]))
    if len(edges) == 1 and (np.unique(values[good]).size == 2):
        edges = np.array([values[good].max()])
    return np.where(good, np.searchsorted(edges, values, side="right"), len(edges) + 1)


def one_hot(codes: Sequence[np.ndarray]) -> np.ndarray:
    """Return indicator columns of the bins of some features, float32 (n, d)."""
    return np.hstack([code[:, None] == np.unique(code) for code in codes]).astype(np.float32)


def grouped_folds(
    group: np.ndarray, strata: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Deal whole groups to folds alike in strata and sizes: return the fold of each row, of each group."""
    size = np.bincount(group)
    # The stratum of a group is that of most of its rows.
    pairs, times = np.unique(np.column_stack([group, strata]), axis=0, return_counts=True)
    by_times = np.argsort(times, kind="stable")
    stratum = np.empty(len(size), dtype=np.int64)
    stratum[pairs[by_times, 0]] = pairs[by_times, 1]
    order = np.lexsort((rng.random(len(size)), -size, stratum))
    fold = np.empty(len(size), dtype=np.int64)
    fold[order] = np.arange(len(size)) % FOLDS
    return fold[group], fold


def permuted_rows(
    group: np.ndarray, of_group: np.ndarray, permutations: int, rng: np.random.Generator
) -> np.ndarray:
    """Return for each permutation the row whose label each row takes, int64 (permutations, n).

    Whole groups of one fold swap labels; between groups of two sizes the labels are stretched or thinned.
    """
    size = np.bincount(group)
    rows = np.argsort(group, kind="stable")
    start = np.cumsum(size) - size
    place = np.empty(len(group), dtype=np.int64)
    place[rows] = np.arange(len(group)) - np.repeat(start, size)
    home = np.argsort(of_group, kind="stable")
    donors = np.empty((permutations, len(group)), dtype=np.int64)
    giver = np.empty(len(size), dtype=np.int64)
    for p in range(permutations):
        giver[home] = np.lexsort((rng.random(len(size)), of_group))
        gives = giver[group]
        donors[p] = rows[start[gives] + place * size[gives] // size[group]]
    return donors


def group_weights(group: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each row is drawn if groups are drawn with replacement, float32 (n, resamples)."""
    g = int(group.max()) + 1
    draws = rng.integers(g, size=(resamples, g)) + g * np.arange(resamples)[:, None]
    counts = np.bincount(draws.ravel(), minlength=resamples * g).reshape(resamples, g)
    return np.ascontiguousarray(counts.T.astype(np.float32))[group]


def fold_scores(train: np.ndarray, targets: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Fit ridge regressions of several targets at once and score the held-out rows.

    Parameters
    ----------
    train, test : numpy.ndarray of float32, shapes (n, d) and (m, d)
    targets : numpy.ndarray of float32, shape (n, t)

    Returns
    -------
    numpy.ndarray of float32, shape (m, t)
        Scores that rank; their level means nothing.
    """
    moment = train.T @ targets - np.outer(train.sum(axis=0), targets.mean(axis=0))
    gram = (train.T @ train).astype(np.float64)
    gram[np.diag_indices_from(gram)] += _PENALTY
    return test @ np.linalg.solve(gram, moment).astype(np.float32)


def separability(
    design: np.ndarray | Sequence[np.ndarray],
    targets: np.ndarray,
    folds: np.ndarray,
    weights: np.ndarray,
    donors: np.ndarray,
) -> dict[str, Any]:
    """Score targets out of fold, with an interval over groups and a control by permutation.

    Parameters
    ----------
    design : numpy.ndarray of float32, shape (n, d), or one such array for each fold
        Features; a fold's own array may hold what was fitted without its rows.
    targets : numpy.ndarray of bool, shape (k, n)
    folds : numpy.ndarray of int64, shape (n,)
    weights : numpy.ndarray of float32, shape (n, resamples)
    donors : numpy.ndarray of int64, shape (permutations, n)

    Returns
    -------
    dict
        ``auc, low, high``, means over the targets, and ``permutation`` with the ``mean`` and the ``high``
        (95 % point) of the control. A number that is not defined is None.
    """
    k = len(targets)
    truth = np.concatenate([targets, *np.swapaxes(targets[:, donors], 0, 1)]).T
    wins, pairs = np.zeros(truth.shape[1]), np.zeros(truth.shape[1])
    resampled = np.zeros((2, k, weights.shape[1]))
    y = truth.astype(np.float32)
    for fold in np.unique(folds):
        x = design if isinstance(design, np.ndarray) else design[fold]
        test = folds == fold
        scores = fold_scores(x[~test], y[~test], x[test])
        more, of = _wins(scores.T, truth[test].T)
        wins, pairs = wins + more, pairs + of
        for c in range(k):
            resampled[:, c] += _weighted_wins(scores[:, c], targets[c, test], weights[test])
    with np.errstate(invalid="ignore", divide="ignore"):
        auc = (wins / pairs).reshape(-1, k).mean(axis=1)
        draws = (resampled[0] / resampled[1]).mean(axis=0)
    draws, control = draws[~np.isnan(draws)], auc[1:][~np.isnan(auc[1:])]
    low, high = np.quantile(draws, [0.025, 0.975]) if draws.size else (np.nan, np.nan)
    mean, top = (control.mean(), np.quantile(control, 0.95)) if control.size else (np.nan, np.nan)
    result = {"auc": auc[0], "low": low, "high": high}
    result = {name: _number(value) for name, value in result.items()}
    return result | {"permutation": {"mean": _number(mean), "high": _number(top)}}


def _wins(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs won by the positive (a tie is one half) and pairs, of each row of (t, m) arrays."""
    # Sorting whole numbers that carry the truth in their last bit is many times faster than an argsort.
    # Positives behind their ties win them all, before them none; the mean of both is one half a tie.
    level = np.rint(scores * 1e6).astype(np.int32) * np.int32(2)
    positives = truth.sum(axis=1).astype(np.float64)
    place = np.arange(truth.shape[1], dtype=np.float64)
    sums = np.zeros(len(truth))
    for flip in (0, 1):
        key = np.sort(level + (truth ^ bool(flip)), axis=1)
        sums += ((key & 1) ^ flip) @ place
    # A positive's place, less the positives before it, is the number of negatives before it.
    return sums / 2 - positives * (positives - 1) / 2, positives * (truth.shape[1] - positives)


def _weighted_wins(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return pairs won and pairs under each column of weights, (2, resamples)."""
    level = np.rint(scores * 1e6).astype(np.int32)
    order = np.argsort(level, kind="stable")
    level, won = level[order], positive[order]
    lost = np.where(won[:, None], 0, weights[order])
    below = np.concatenate([np.zeros_like(lost[:1]), np.cumsum(lost, axis=0)])
    first = np.searchsorted(level, level[won], side="left")
    last = np.searchsorted(level, level[won], side="right")
    drawn = weights[order[won]]
    wins = np.einsum("rb,rb->b", drawn, below[first] + below[last]) / 2
    return np.stack([wins, drawn.sum(axis=0) * below[-1]]).astype(np.float64)


def over_bar(result: Mapping[str, Any]) -> bool:
    """Whether a result of `separability` lies clearly above chance: over `BAR` and its own control."""
    top = result["permutation"]["high"]
    return result["low"] is not None and top is not None and result["low"] > max(BAR, top)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def span(result: Mapping[str, Any]) -> str:
    """Return the interval of a result of `separability` for a sentence."""
    return "no interval" if result["low"] is None else f"{result['low']:.2f} to {result['high']:.2f}"
