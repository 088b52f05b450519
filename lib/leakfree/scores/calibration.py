"""Calibration of saved probabilities: temperature scaling, reliability, and the expected calibration error.

Everything works on predictions as they were saved. The logarithm of a softmax is its logits up to a constant
that softmax ignores, so the temperature of a network is fitted and applied without running it again.

The service applies temperatures, so pandas and SciPy are imported where something is fitted or tabled.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from leakfree.base.errors import LeakfreeError

if TYPE_CHECKING:
    import pandas as pd

    from leakfree.scores.predictions import Predictions

#: Temperatures outside are the sign of a part that is too small or too easy to say anything.
BOUNDS = (0.05, 20.0)
#: A probability of 0 has no logarithm; files hold six decimals.
_LEAST = 5e-7
BINS = 15


class CalibrationError(LeakfreeError):
    """A temperature cannot be fitted; the message is one line."""


def logits(probabilities: np.ndarray) -> np.ndarray:
    """Return logits, float64 (n, k), whose softmax gives the probabilities back."""
    return np.log(np.clip(np.asarray(probabilities, dtype=np.float64), _LEAST, None))


def patient_weights(patients: np.ndarray) -> np.ndarray:
    """Return weights, float64 (n,), that give every patient 1 in all, shared over its images."""
    _, patient, count = np.unique(np.asarray(patients, dtype=str), return_inverse=True, return_counts=True)
    return 1.0 / count[patient]


def fit_temperature(predictions: Predictions) -> float:
    """Find the temperature with the least negative log-likelihood, every patient counting once.

    Temperature scaling is that of Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural
    networks", ICML 2017, section 4.2: probabilities become ``softmax(logits / T)``.

    Parameters
    ----------
    predictions : Predictions
        Of a part that served neither training nor the choice of an epoch.

    Returns
    -------
    float
        T; over 1 where the network was too sure.

    Raises
    ------
    CalibrationError
        If a class has no image, or the best temperature lies at the end of `BOUNDS` or leaves no loss.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    present = np.bincount(predictions.labels, minlength=len(predictions.classes))
    if (present == 0).any():
        absent = predictions.classes[int(np.argmin(present))]
        raise CalibrationError(f"{predictions.path}: no image of class {absent} to calibrate on")
    z, weights = logits(predictions.probabilities), patient_weights(predictions.patients)
    rows = np.arange(len(z))

    def loss(log_t: float) -> float:
        each = log_softmax(z / np.exp(log_t), axis=1)[rows, predictions.labels]
        return -float(weights @ each) / weights.sum()

    low, high = np.log(BOUNDS)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    if min(found.x - low, high - found.x) < 1e-3 or found.fun < 1e-4:
        raise CalibrationError(
            f"{predictions.path}: no temperature within {BOUNDS[0]:g} to {BOUNDS[1]:g} is the best: "
            "these predictions are all right or all wrong, or too few"
        )
    return float(np.exp(found.x))


def scale(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return ``softmax(logits / temperature)``, float64 (n, k)."""
    z = logits(probabilities) / temperature
    shifted = np.exp(z - z.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def apply_temperature(predictions: Predictions, temperature: float) -> Predictions:
    """Return the predictions with probabilities scaled by a temperature."""
    return replace(predictions, probabilities=scale(predictions.probabilities, temperature))


def reliability(predictions: Predictions, bins: int = BINS) -> pd.DataFrame:
    """Compare how sure the predictions were with how often they were right, in bins of equal width.

    Returns
    -------
    pandas.DataFrame
        ``low, high, images, confidence, accuracy, accuracy_low, accuracy_high``; one row a bin, what follows
        ``images`` NaN where it is empty. The interval is Wilson's, 95 %, with a patient as one trial: images
        of one patient do not make it narrower.
    """
    import pandas as pd

    confidence = predictions.probabilities.max(axis=1)
    right = predictions.predicted == predictions.labels
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    patients = np.array([len(set(predictions.patients[place == number])) for number in range(bins)])
    with np.errstate(invalid="ignore", divide="ignore"):
        sure = np.bincount(place, confidence, minlength=bins) / count
        hit = np.bincount(place, right, minlength=bins) / count
        # Wilson's interval has a width too where all were right, which a bootstrap has not.
        z = 1.959964
        middle = (hit + z**2 / (2 * patients)) / (1 + z**2 / patients)
        half = z * np.sqrt(hit * (1 - hit) / patients + (z / (2 * patients)) ** 2) / (1 + z**2 / patients)
    edges = np.linspace(0, 1, bins + 1)
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "images": count,
            "confidence": sure,
            "accuracy": hit,
            "accuracy_low": middle - half,
            "accuracy_high": middle + half,
        }
    )


def calibration_error(
    predictions: Predictions, *, bins: int = BINS, n_resamples: int = 2000, seed: int = 0
) -> dict[str, float]:
    """Return the expected calibration error with a basic bootstrap interval over patients.

    The error is the mean over bins of the distance between confidence and accuracy, weighted by images (Guo
    et al. 2017, equation 3). It is biased upwards in small samples, resamples more than the sample itself, so
    the interval is reflected at the estimate; it is cut at 0 and holds the estimate.

    Parameters
    ----------
    predictions : Predictions
        Of one part.
    bins, n_resamples, seed : int

    Returns
    -------
    dict
        ``ece, low, high, n_images, n_patients``.
    """
    confidence = predictions.probabilities.max(axis=1)
    gap = (predictions.predicted == predictions.labels) - confidence
    names, patient = np.unique(predictions.patients.astype(str), return_inverse=True)
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    # Sums of gaps and of images by patient and bin: a resample of patients is one product with its counts.
    gaps, images = (np.zeros((len(names), bins)) for _ in range(2))
    np.add.at(gaps, (patient, place), gap)
    np.add.at(images, (patient, place), 1)

    def error(counts: np.ndarray) -> np.ndarray:
        return np.abs(counts @ gaps).sum(axis=1) / (counts @ images).sum(axis=1)

    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_resamples)
    estimate = float(error(np.ones((1, len(names))))[0])
    low, high = np.quantile(error(counts.astype(np.float64)), [0.025, 0.975])
    return {
        "ece": estimate,
        "low": max(0.0, 2 * estimate - float(high)),
        "high": max(estimate, 2 * estimate - float(low)),
        "n_images": len(predictions),
        "n_patients": len(names),
    }
