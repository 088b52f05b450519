"""Metrics of saved predictions, with intervals from a bootstrap over patients.

Images of one patient resemble each other, so a test set holds less evidence than its number of images. The
bootstrap here draws whole patients with replacement (the cluster bootstrap: Field and Welsh, "Bootstrapping
clustered data", Journal of the Royal Statistical Society B 69, 2007, 369-390) and takes the percentile
interval (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13). A resample is a vector
of counts over patients; the count of a patient is the weight of each of its images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from leakfree.scores.predictions import Predictions

#: Metrics that `evaluate` knows, by name.
METRICS = ("accuracy", "roc_auc", "macro_f1", "average_precision", "sensitivity_at_90_specificity")
#: Rates at the threshold in use, where the most probable class is the answer. The first two need two classes,
#: of which the second is the positive one; the last is the mean over classes of the share that is found.
RATES = ("sensitivity", "specificity", "balanced_accuracy")
# Weights of one block of resamples: with its temporaries (about five such arrays) under 100 MB.
_BLOCK_CELLS = 2_000_000


def evaluate(
    predictions: Predictions,
    metrics: Sequence[str] = ("accuracy", "roc_auc", "macro_f1"),
    n_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return each metric with its percentile interval over patients.

    Parameters
    ----------
    predictions : Predictions
        Images of one part, n in number.
    metrics : sequence of str
        Names from `METRICS` or `RATES`. ``accuracy``: share of images whose most probable class is the true
        one. ``macro_f1``: mean over classes of F1. ``roc_auc``, ``average_precision`` and
        ``sensitivity_at_90_specificity``: of the second class where there are two, else the unweighted mean
        over classes, each against the rest.
    n_resamples : int
        Number of bootstrap resamples.
    seed : int
        Seed of the resamples. Predictions for the same patients and seed get the same resamples.
    level : float
        Coverage aimed at, in (0, 1).

    Returns
    -------
    pandas.DataFrame
        One row a metric: ``metric, estimate, low, high, n_images, n_patients, n_resamples, n_undefined,
        level, note``. A metric other than accuracy is undefined where a class has no image: such resamples
        are dropped and counted in ``n_undefined``; where it holds for all images, the numbers are NaN and
        ``note`` says which class is missing. With one patient there is no interval.

    Raises
    ------
    ValueError
        An unknown metric, a level outside (0, 1), no resample, or images of more than one part.

    Examples
    --------
    >>> import pandas as pd
    >>> from leakfree import evaluate
    >>> from leakfree.scores.predictions import check_predictions
    >>> rows = [(f"{k}.png", f"p{k // 2}", k % 4 < 2, 0.9 - 0.04 * k) for k in range(20)]
    >>> frame = pd.DataFrame(rows, columns=["image_id", "patient", "ill", "p_normal"])
    >>> frame = frame.assign(part="test", seed=0, p_ill=1 - frame["p_normal"])
    >>> frame["label"] = frame.pop("ill").map({True: "ill", False: "normal"})
    >>> scores = evaluate(check_predictions(frame), ["accuracy"], n_resamples=200)
    >>> scores[["metric", "estimate", "n_images", "n_patients"]].values.tolist()
    [['accuracy', 0.45, 20, 10]]
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    points = point_estimates(predictions, metrics)
    values = bootstrap(predictions, metrics, n_resamples=n_resamples, seed=seed)
    n_patients = len(np.unique(predictions.patients))
    present = np.bincount(predictions.labels, minlength=len(predictions.classes)) > 0
    absent = [name for name, seen in zip(predictions.classes, present, strict=True) if not seen]
    rows = []
    for metric in metrics:
        defined = values[metric][~np.isnan(values[metric])]
        low = high = np.nan
        note = ""
        if np.isnan(points[metric]):
            note = f"undefined: no image of class {', '.join(absent)}"
        elif n_patients < 2:
            note = "no interval: one patient"
        elif not defined.size:
            note = "no interval: undefined in every resample"
        else:
            low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
        rows.append(
            {
                "metric": metric,
                "estimate": points[metric],
                "low": low,
                "high": high,
                "n_images": len(predictions),
                "n_patients": n_patients,
                "n_resamples": n_resamples,
                "n_undefined": n_resamples - defined.size,
                "level": level,
                "note": note,
            }
        )
    return pd.DataFrame(rows)


def point_estimates(predictions: Predictions, metrics: Sequence[str] = METRICS) -> dict[str, float]:
    """Return each metric over all images; NaN where it is undefined.

    Raises
    ------
    ValueError
        An unknown metric, or images of more than one part.
    """
    _check(predictions, metrics)
    ones = np.ones((1, len(predictions)))
    return {metric: float(weighted_metric(predictions, metric, ones)[0]) for metric in metrics}


def bootstrap(
    predictions: Predictions, metrics: Sequence[str] = METRICS, n_resamples: int = 2000, seed: int = 0
) -> dict[str, np.ndarray]:
    """Return each metric in each resample of the patients.

    The resamples depend on the set of patients, `n_resamples` and `seed` only, not on the order of images:
    values of two models on the same images are paired, and so is their difference.

    Returns
    -------
    dict of str to numpy.ndarray of float64, shape (n_resamples,)
        NaN where a resample leaves the metric undefined.

    Raises
    ------
    ValueError
        An unknown metric, no resample, or images of more than one part.
    """
    _check(predictions, metrics)
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be 1 or more, got {n_resamples}")
    values = {metric: np.empty(n_resamples) for metric in metrics}
    for rows, weights in _resamples(predictions.patients, n_resamples, seed):
        for metric in metrics:
            values[metric][rows] = weighted_metric(predictions, metric, weights)
    return values


def difference(
    first: Sequence[Predictions],
    second: Sequence[Predictions],
    metrics: Sequence[str] = ("accuracy", "roc_auc", "macro_f1"),
    n_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the mean score of some models minus that of others on the same images, with paired intervals.

    Parameters
    ----------
    first, second : sequence of Predictions
        Models of one kind, such as one network with several seeds; the mean is over scores, in each resample.
    metrics : sequence of str
        Names from `METRICS`.
    n_resamples, seed : int
    level : float
        Coverage aimed at, for another drawing of patients: another drawing of seeds is not in it.

    Returns
    -------
    pandas.DataFrame
        ``metric, estimate, low, high, n_images, n_patients``.

    Raises
    ------
    ValueError
        If there is no model on a side, or two differ in their images, labels or patients.
    """
    members = [*first, *second]
    if not first or not second:
        raise ValueError("a difference needs a model on either side")
    truth = [
        {
            i: told
            for i, *told in zip(m.image_ids.tolist(), m.labels.tolist(), m.patients.tolist(), strict=True)
        }
        for m in members
    ]
    if any(t != truth[0] for t in truth[1:]):
        raise ValueError("a difference needs the same images, labels and patients on both sides")

    def mean(side: Sequence[Predictions]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        points = [point_estimates(m, metrics) for m in side]
        drawn = [bootstrap(m, metrics, n_resamples, seed) for m in side]
        return (
            {name: float(np.mean([p[name] for p in points])) for name in metrics},
            {name: np.mean([d[name] for d in drawn], axis=0) for name in metrics},
        )

    (points, drawn), (other_points, other_drawn) = mean(first), mean(second)
    rows = []
    for name in metrics:
        values = drawn[name] - other_drawn[name]
        values = values[~np.isnan(values)]
        ends = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]) if values.size else (np.nan, np.nan)
        rows.append(
            {
                "metric": name,
                "estimate": points[name] - other_points[name],
                "low": ends[0],
                "high": ends[1],
                "n_images": len(members[0]),
                "n_patients": len(np.unique(members[0].patients)),
            }
        )
    return pd.DataFrame(rows)


def weighted_metric(predictions: Predictions, metric: str, weights: np.ndarray) -> np.ndarray:
    """Return one metric under each row of image weights.

    Parameters
    ----------
    predictions : Predictions
        n images.
    metric : str
        Name from `METRICS`.
    weights : numpy.ndarray of float, shape (B, n)
        Weight of each image, not negative.

    Returns
    -------
    numpy.ndarray of float64, shape (B,)
        NaN where the weights leave the metric undefined.
    """
    classes = range(len(predictions.classes))
    if metric in ("accuracy", "macro_f1", *RATES):
        counts = _confusion_counts(predictions, weights)
        hits = np.einsum("bkk->bk", counts)
        with np.errstate(invalid="ignore", divide="ignore"):
            if metric in RATES:
                found = hits / counts.sum(axis=2)
                return (
                    found.mean(axis=1)
                    if metric == "balanced_accuracy"
                    else found[:, int(metric == "sensitivity")]
                )
            if metric == "accuracy":
                return hits.sum(axis=1) / counts.sum(axis=(1, 2))
            true, guessed = counts.sum(axis=2), counts.sum(axis=1)
            f1 = 2 * hits / (true + guessed)
        return np.where((true > 0).all(axis=1), f1.mean(axis=1), np.nan)
    score = {
        "roc_auc": weighted_roc_auc,
        "average_precision": weighted_average_precision,
        "sensitivity_at_90_specificity": weighted_sensitivity,
    }[metric]
    positives = [1] if len(predictions.classes) == 2 else classes
    each = [score(predictions.labels == c, predictions.probabilities[:, c], weights) for c in positives]
    return np.mean(each, axis=0)


def weighted_roc_auc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve under each row of weights, equal scores counting one half.

    Parameters
    ----------
    positive : numpy.ndarray of bool, shape (n,)
    scores : numpy.ndarray of float64, shape (n,)
    weights : numpy.ndarray of float, shape (B, n)

    Returns
    -------
    numpy.ndarray of float64, shape (B,)
        NaN where the positive or the negative images have no weight.
    """
    wins, pairs = weighted_wins(positive, scores, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        return wins / pairs


def weighted_wins(
    positive: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs that the positive win, a tie as one half, and all pairs, under each row of weights.

    Parameters
    ----------
    positive, scores, weights
        As for `weighted_roc_auc`.

    Returns
    -------
    wins, pairs : numpy.ndarray of float64, shape (B,)
    """
    # Images by rows: a gather then copies whole rows, and sums run along contiguous resamples.
    weights = np.asarray(weights, dtype=np.float64).T
    negative = np.flatnonzero(~positive)
    negative = negative[np.argsort(scores[negative], kind="stable")]
    below = np.zeros((len(negative) + 1, weights.shape[1]))
    np.cumsum(weights[negative], axis=0, out=below[1:])
    # Negatives strictly below a positive count in both sums, those tied with it in one of them.
    first = np.searchsorted(scores[negative], scores[positive], side="left")
    last = np.searchsorted(scores[negative], scores[positive], side="right")
    of_positive = weights[positive]
    wins = np.einsum("ib,ib->b", of_positive, below[first])
    wins += np.einsum("ib,ib->b", of_positive, below[last])
    return wins / 2, of_positive.sum(axis=0) * below[-1]


def weighted_average_precision(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the average precision under each row of weights (steps, no interpolation; ties are one step).

    Parameters and shapes as for `weighted_roc_auc`; NaN where positive or negative images have no weight.
    """
    weights = np.asarray(weights, dtype=np.float64).T
    order = np.argsort(-scores, kind="stable")
    descending = -scores[order]
    # For each positive, the number of images that score as high as it or higher.
    reach = np.searchsorted(descending, -scores[positive], side="right")
    taken = np.cumsum(weights[order], axis=0)
    hits = np.cumsum(weights[order] * positive[order, None], axis=0)
    of_positive, taken_all = weights[positive], weights.sum(axis=0)
    all_positive = of_positive.sum(axis=0)
    # Where nothing was taken the positive itself has no weight, so the divisor does not matter.
    precision = hits[reach - 1] / np.where(taken[reach - 1] > 0, taken[reach - 1], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.einsum("ib,ib->b", of_positive, precision) / all_positive
    return np.where((all_positive > 0) & (taken_all > all_positive), value, np.nan)


def weighted_sensitivity(
    positive: np.ndarray, scores: np.ndarray, weights: np.ndarray, specificity: float = 0.9
) -> np.ndarray:
    """Return the highest sensitivity at a specificity of at least 90 %, under each row of weights.

    The threshold is one of the scores, or above all of them, and is chosen on the same images: this
    describes the ROC curve at one place, without interpolation, and not a fixed way of working.

    Parameters and shapes as for `weighted_roc_auc`; NaN where positive or negative images have no weight.
    """
    weights = np.asarray(weights, dtype=np.float64).T
    order = np.argsort(-scores, kind="stable")
    # A threshold takes all images of equal score, so only the last of them is a place on the curve.
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits = np.cumsum(weights[order] * positive[order, None], axis=0)
    taken = np.cumsum(weights[order], axis=0)
    all_positive, all_negative = hits[-1], taken[-1] - hits[-1]
    # A hair of room: the share of a tenth of the images must not fail by rounding.
    allowed = (taken - hits)[last] <= (1 - specificity) * all_negative + 1e-9
    best = np.where(allowed, hits[last], 0.0).max(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((all_positive > 0) & (all_negative > 0), best / all_positive, np.nan)


def confusion(predictions: Predictions) -> pd.DataFrame:
    """Return the counts of images, true classes as rows and predicted classes as columns (int64, (k, k))."""
    counts = _confusion_counts(predictions, np.ones((1, len(predictions))))[0].astype(np.int64)
    names = list(predictions.classes)
    return pd.DataFrame(counts, pd.Index(names, name="true"), pd.Index(names, name="predicted"))


def roc_points(predictions: Predictions) -> pd.DataFrame:
    """Return the points of the ROC curve, one for each distinct score.

    Returns
    -------
    pandas.DataFrame
        ``class, threshold, fpr, tpr`` from (0, 0) to (1, 1); the positive class alone where there are two
        classes, else each class against the rest. Classes without positive or negative images have no rows.
    """
    k = len(predictions.classes)
    parts = []
    for c in [1] if k == 2 else range(k):
        positive = predictions.labels == c
        if positive.all() or not positive.any():
            continue
        scores = predictions.probabilities[:, c]
        order = np.argsort(-scores, kind="stable")
        last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
        hits = np.cumsum(positive[order])[last]
        parts.append(
            pd.DataFrame(
                {
                    "class": predictions.classes[c],
                    "threshold": np.append(np.inf, scores[order][last]),
                    "fpr": np.append(0, last + 1 - hits) / (~positive).sum(),
                    "tpr": np.append(0, hits) / positive.sum(),
                }
            )
        )
    columns = ["class", "threshold", "fpr", "tpr"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _check(predictions: Predictions, metrics: Sequence[str]) -> None:
    known = (*METRICS, *RATES)
    if unknown := [metric for metric in metrics if metric not in known]:
        raise ValueError(f"unknown metric {unknown[0]!r}; known are {', '.join(known)}")
    if len(predictions.classes) != 2 and {"sensitivity", "specificity"} & set(metrics):
        raise ValueError(f"{predictions.path}: sensitivity and specificity need two classes")
    # Training and test images in one number would be a leak of our own.
    if len(parts := sorted(set(predictions.part))) > 1:
        raise ValueError(f"{predictions.path}: metrics need one part, found {', '.join(parts)}; use select()")


def _confusion_counts(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Return weighted counts, float64 (B, k, k): resample, true class, predicted class."""
    k = len(predictions.classes)
    cell = np.eye(k * k)[predictions.labels * k + predictions.predicted]
    return (weights @ cell).reshape(-1, k, k)


def _resamples(patients: np.ndarray, n_resamples: int, seed: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield blocks of resamples as (rows, image weights (b, n)); the blocks do not change the draws."""
    names, patient = np.unique(patients.astype(str), return_inverse=True)
    n = len(names)
    rng = np.random.default_rng(seed)
    size = max(1, _BLOCK_CELLS // len(patients))
    for start in range(0, n_resamples, size):
        b = min(size, n_resamples - start)
        # Counts of n equal draws: multinomial over patients.
        draws = rng.integers(n, size=(b, n)) + n * np.arange(b)[:, None]
        counts = np.bincount(draws.ravel(), minlength=b * n).reshape(b, n).astype(np.float64)
        yield slice(start, start + b), np.ascontiguousarray(counts.T)[patient].T
