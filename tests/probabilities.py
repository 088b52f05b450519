"""Predictions that are drawn, with the probabilities that they should have had."""

from pathlib import Path

import numpy as np

from deferred import deferred
from leakfree.scores.predictions import Predictions

with deferred:
    from scipy.special import softmax


def made(probabilities, labels, patients=None, classes=("normal", "pneumonia", "other")):
    n, k = probabilities.shape
    ids = np.array([f"{i}.png" for i in range(n)], dtype=object)
    patients = ids if patients is None else np.asarray(patients, dtype=object)
    part = np.full(n, "val", dtype=object)
    return Predictions(Path("made"), ids, patients, part, np.asarray(labels), classes[:k], probabilities, 0)


def sampled(n, k, temperature, seed):
    """Labels drawn from softmax(z), predictions that say softmax(z * temperature)."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.standard_normal((n, k))
    truth = softmax(z, axis=1)
    labels = (rng.random((n, 1)) > truth.cumsum(axis=1)).sum(axis=1).clip(max=k - 1)
    return made(softmax(z * temperature, axis=1), labels), made(truth, labels)
