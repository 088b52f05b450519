"""Conformal sets cover what they promise when patients have several images, and say when they cannot."""

from pathlib import Path

import numpy as np
import pytest

from deferred import deferred
from leakfree.scores.conformal import ConformalError, calibrate, coverage
from leakfree.scores.predictions import Predictions

with deferred:
    from scipy.special import softmax

CLASSES = ("normal", "bacterial", "viral")


def made(probabilities, labels, patients):
    n, k = probabilities.shape
    ids = np.array([f"{i}.png" for i in range(n)], dtype=object)
    part = np.full(n, "calibration", dtype=object)
    patients = np.asarray(patients, dtype=object)
    return Predictions(Path("made"), ids, patients, part, np.asarray(labels), CLASSES[:k], probabilities, 0)


def cohort(n_patients, seed, crowd=1):
    """Patients with a difficulty of their own that all their images share; every tenth has `crowd` images."""
    rng = np.random.default_rng(seed)
    patients, labels, z = [], [], []
    for number in range(n_patients):
        label, hard = int(rng.integers(3)), rng.standard_normal()
        for _ in range(crowd if number % 10 == 0 else 1):
            logit = rng.standard_normal(3) * 0.3
            logit[label] += 1.5 + 1.5 * hard
            patients.append(f"{seed}-{number}")
            labels.append(label)
            z.append(logit)
    return made(softmax(np.array(z), axis=1), np.array(labels), patients)


def test_one_image_a_patient_is_the_split_conformal_quantile():
    part = cohort(99, seed=1)
    found = calibrate(part, alpha=0.1)
    scores = np.sort(1 - part.probabilities[np.arange(99), part.labels])
    # The ceil((n + 1)(1 - alpha))-th smallest score, n = 99: the 90th.
    assert 1 - found.threshold == pytest.approx(scores[89])
    held = found.sets(part.probabilities)[np.arange(99), part.labels]
    assert held.sum() == 90


def test_the_threshold_is_the_sets():
    found = calibrate(cohort(60, seed=2, crowd=7), alpha=0.2)
    p = np.random.default_rng(0).dirichlet(np.ones(3), size=500)
    assert np.array_equal(found.sets(p), 1 - p <= 1 - found.threshold)


def test_sets_cover_new_patients_although_some_have_a_crowd_of_images():
    held, by_image = [], []
    for seed in range(300):
        part, new = cohort(60, seed=seed, crowd=40), cohort(200, seed=10_000 + seed)
        rows = np.arange(len(new))
        held.append(calibrate(part).sets(new.probabilities)[rows, new.labels].mean())
        naive = made(part.probabilities, part.labels, np.arange(len(part)))
        by_image.append(calibrate(naive).sets(new.probabilities)[rows, new.labels].mean())
    assert 0.89 <= np.mean(held) <= 0.93
    # Images taken for independent leave coverage to the luck of six crowded patients.
    assert np.std(by_image) > 1.5 * np.std(held)


def test_too_few_patients_and_a_bad_alpha_are_refused():
    with pytest.raises(ConformalError, match="5 patients cannot promise 90%; it takes 9"):
        calibrate(cohort(5, seed=0), alpha=0.1)
    assert calibrate(cohort(9, seed=0), alpha=0.1).patients == 9
    with pytest.raises(ValueError, match="alpha must be between 0 and 1"):
        calibrate(cohort(50, seed=0), alpha=1.0)


def test_coverage_counts_patients_and_classes():
    p = np.array([[0.8, 0.2], [0.8, 0.2], [0.3, 0.7]])
    part = made(p, [0, 0, 1], ["a", "a", "b"])
    sets = np.array([[True, False], [False, False], [True, False]])
    table = coverage(part, sets, n_resamples=50).set_index("group")
    assert table.loc["all", "coverage"] == pytest.approx((0.5 + 0) / 2)
    assert table.loc["normal", "coverage"] == 0.5
    assert table.loc["bacterial", "coverage"] == 0
    assert table.loc["all", "empty"] == pytest.approx(0.25)
    assert table.loc["all", "mean_size"] == pytest.approx((0.5 + 1) / 2)
    assert table["n_patients"].tolist() == [2, 1, 1]
    only = made(p[:2], [0, 0], ["a", "b"])
    assert np.isnan(coverage(only, sets[:2], n_resamples=10).set_index("group").loc["bacterial", "coverage"])


def test_intervals_of_coverage_hold_the_truth():
    part = cohort(400, seed=3)
    found = calibrate(part)
    table = coverage(cohort(2000, seed=4), found.sets(cohort(2000, seed=4).probabilities), n_resamples=300)
    row = table.iloc[0]
    assert row["low"] < row["coverage"] < row["high"]
    assert 0.85 < row["coverage"] < 0.95
