"""Prediction sets that hold the true class with a chosen probability, where patients have several images.

Images of one patient are not exchangeable with those of others, so the usual quantile over images promises
too much. Here every patient of the calibration part has one vote: that of one of its images drawn at random,
averaged over all ways to draw (repeated subsampling: Dunn, Wasserman and Ramdas, "Distribution-free
prediction sets for two-layer hierarchical models", Journal of the American Statistical Association 118, 2023,
2491-2502). The p-value of a class is::

    p(y) = (1 + sum over patients of the share of their images with score >= s(y)) / (patients + 1)

and a class is in the set where p(y) > alpha. The score is one minus the probability of the class (Sadinle,
Lei and Wasserman, "Least ambiguous set-valued classifiers", same journal 114, 2019, 223-234).

What is promised holds for one image of a new patient that is drawn like those of the calibration part. One
draw gives ``1 - alpha``; the average of draws is sure to give ``1 - 2 alpha`` and close to ``1 - alpha`` in
practice, which is why coverage is measured. Under a shift nothing is promised.

The service reads sets with this module, so pandas is imported only where something is tabled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leakfree.base.errors import LeakfreeError
from leakfree.scores.calibration import patient_weights

if TYPE_CHECKING:
    import pandas as pd

    from leakfree.scores.predictions import Predictions


#: Columns of `coverage`.
COVERAGE = ("group", "coverage", "low", "high", "mean_size", "single", "empty", "n_images", "n_patients")


class ConformalError(LeakfreeError):
    """The calibration part cannot give such sets; the message is one line."""


@dataclass(frozen=True)
class Conformal:
    """Calibrated sets.

    Attributes
    ----------
    classes : tuple of str
    scores : tuple of float
        Distinct scores of the calibration part, rising.
    tail : tuple of float
        For each, the weight of patients with a score at least as large.
    patients : int
    alpha : float
        Share of patients whose true class may be missed.
    """

    classes: tuple[str, ...]
    scores: tuple[float, ...]
    tail: tuple[float, ...]
    patients: int
    alpha: float

    def check(self) -> None:
        """Raise ValueError where a field has a value that `calibrate` never gives."""
        scores, tail = (np.array(values, dtype=np.float64) for values in (self.scores, self.tail))
        if not (0 < len(scores) == len(tail) and np.isfinite([scores, tail]).all()):
            raise ValueError("scores and tail: as many numbers of one as of the other, at least one")
        if (np.diff(scores) <= 0).any() or scores[0] < 0 or scores[-1] > 1:
            raise ValueError("scores do not rise between 0 and 1")
        if (np.diff(tail) > 0).any() or tail[-1] < 0 or tail[0] > self.patients * (1 + 1e-9):
            raise ValueError("tail does not fall from the number of patients to 0")
        if not 0 < self.alpha <= 0.5:
            raise ValueError(f"alpha is {self.alpha!r}, not between 0 and 0.5")

    @property
    def threshold(self) -> float:
        """Least probability that puts a class into the set."""
        p = (1 + np.array([*self.tail, 0.0])) / (self.patients + 1)
        inside = np.flatnonzero(p > self.alpha)
        # Beyond the largest score p is 1 / (patients + 1), which is under alpha unless they are too few.
        return 1.0 - (self.scores[inside[-1]] if inside[-1] < len(self.scores) else 1.0)

    def p_values(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the p-value of every class, float64 (n, k), from probabilities (n, k)."""
        place = np.searchsorted(self.scores, 1.0 - np.asarray(probabilities, dtype=np.float64), side="left")
        return (1 + np.array([*self.tail, 0.0])[place]) / (self.patients + 1)

    def sets(self, probabilities: np.ndarray) -> np.ndarray:
        """Tell which classes are in the set of each image: bool (n, k)."""
        return self.p_values(probabilities) > self.alpha


def calibrate(predictions: Predictions, alpha: float = 0.1) -> Conformal:
    """Calibrate sets on a part that served nothing else.

    Raises
    ------
    ValueError
        If alpha is not between 0 and 1.
    ConformalError
        If the part has so few patients that every set would hold every class.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
    patients = len(np.unique(predictions.patients.astype(str)))
    if 1 / (patients + 1) > alpha:
        needed = int(np.ceil(1 / alpha - 1e-9)) - 1
        raise ConformalError(
            f"{predictions.path}: {patients} patients cannot promise {1 - alpha:.0%}; it takes {needed}"
        )
    of_true = 1.0 - predictions.probabilities[np.arange(len(predictions)), predictions.labels]
    scores, place = np.unique(of_true, return_inverse=True)
    weight = np.bincount(place, patient_weights(predictions.patients), minlength=len(scores))
    tail = weight[::-1].cumsum()[::-1]
    return Conformal(predictions.classes, tuple(scores.tolist()), tuple(tail.tolist()), patients, alpha)


def coverage(
    predictions: Predictions, sets: np.ndarray, *, n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Measure how often sets hold the true class, in all and by class, every patient counting once.

    Parameters
    ----------
    predictions : Predictions
        Of a part that calibrated nothing, n images.
    sets : numpy.ndarray of bool, shape (n, k)
    n_resamples, seed : int

    Returns
    -------
    pandas.DataFrame
        ``group`` (``all`` or a class), ``coverage, low, high`` (percentile interval over patients),
        ``mean_size``, shares ``single`` and ``empty`` of sets, ``n_images, n_patients``; NaN where a class
        has no image.
    """
    import pandas as pd

    held = sets[np.arange(len(predictions)), predictions.labels]
    size = sets.sum(axis=1)
    members: Sequence[tuple[str, np.ndarray]] = [
        ("all", np.ones(len(predictions), dtype=bool)),
        *((name, predictions.labels == c) for c, name in enumerate(predictions.classes)),
    ]
    rows = []
    for number, (group, inside) in enumerate(members):
        row = {"group": group, "n_images": int(inside.sum()), "n_patients": 0}
        if inside.any():
            weights = patient_weights(predictions.patients[inside])
            names, patient = np.unique(predictions.patients[inside].astype(str), return_inverse=True)
            of_patient = np.bincount(patient, weights * held[inside])
            rng = np.random.default_rng([seed, number])
            drawn = of_patient[rng.integers(len(names), size=(n_resamples, len(names)))].mean(axis=1)
            low, high = np.quantile(drawn, [0.025, 0.975])
            row |= {
                "coverage": of_patient.mean(),
                "low": low,
                "high": high,
                "mean_size": np.average(size[inside], weights=weights),
                "single": np.average(size[inside] == 1, weights=weights),
                "empty": np.average(size[inside] == 0, weights=weights),
                "n_patients": len(names),
            }
        rows.append(row)
    return pd.DataFrame(rows).reindex(columns=list(COVERAGE))
