"""Calibration: the temperature that made the predictions is found, and scaling mends the error."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deferred import deferred
from leakfree.scores.calibration import (
    CalibrationError,
    apply_temperature,
    calibration_error,
    fit_temperature,
    logits,
    patient_weights,
    reliability,
    scale,
)
from probabilities import made, sampled

with deferred:
    from scipy.special import softmax


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
@pytest.mark.parametrize("k", [2, 3])
def test_the_temperature_that_was_used_is_found(temperature, k):
    sure, true = sampled(20_000, k, temperature, seed=k)
    assert fit_temperature(sure) == pytest.approx(temperature, rel=0.06)
    mended = apply_temperature(sure, fit_temperature(sure))
    assert np.abs(mended.probabilities - true.probabilities).max() < 0.03


def test_scaling_mends_the_error_and_keeps_the_choice():
    sure, _ = sampled(5000, 3, 3.0, seed=5)
    mended = apply_temperature(sure, fit_temperature(sure))
    before, after = calibration_error(sure, n_resamples=200), calibration_error(mended, n_resamples=200)
    assert before["low"] > 0.1
    assert after["ece"] < 0.03 < before["ece"]
    assert np.array_equal(sure.predicted, mended.predicted)


def test_a_patient_with_many_images_has_one_voice():
    sure, _ = sampled(400, 2, 2.0, seed=7)
    again = np.concatenate([np.arange(400), np.zeros(300, dtype=int)])
    crowd = made(sure.probabilities[again], sure.labels[again], [f"p{i}" for i in again])
    assert fit_temperature(crowd) == pytest.approx(fit_temperature(sure), rel=1e-4)
    assert patient_weights(crowd.patients).sum() == pytest.approx(400)


def test_what_cannot_be_calibrated_says_so():
    p = np.array([[0.9, 0.1], [0.8, 0.2]])
    with pytest.raises(CalibrationError, match="no image of class pneumonia"):
        fit_temperature(made(p, [0, 0]))
    with pytest.raises(CalibrationError, match="all right or all wrong"):
        fit_temperature(made(np.array([[0.9, 0.1], [0.2, 0.8]]), [0, 1]))


def test_reliability_and_error_by_hand():
    p = np.array([[0.95, 0.05], [0.95, 0.05], [0.35, 0.65], [0.35, 0.65]])
    predictions = made(p, [0, 1, 1, 1])
    table = reliability(predictions, bins=10).set_index("low")
    assert table["images"].tolist() == [0] * 6 + [2, 0, 0, 2]
    assert table.iloc[9][["confidence", "accuracy"]].tolist() == pytest.approx([0.95, 0.5])
    # Wilson, 1 of 2 patients and 2 of 2: both have a width.
    assert table.iloc[9][["accuracy_low", "accuracy_high"]].tolist() == pytest.approx(
        [0.0945, 0.9055], abs=1e-4
    )
    assert table.iloc[6][["accuracy_low", "accuracy_high"]].tolist() == pytest.approx([0.3424, 1], abs=1e-4)
    assert table["accuracy_low"].isna().sum() == 8
    found = calibration_error(predictions, bins=10, n_resamples=100)
    assert found["ece"] == pytest.approx((2 * 0.45 + 2 * 0.35) / 4)
    assert found["low"] <= found["ece"] <= found["high"]
    assert (found["n_images"], found["n_patients"]) == (4, 4)


def test_more_images_of_the_same_patients_do_not_narrow_the_interval():
    p = np.array([[0.95, 0.05]] * 4)
    once, twice = made(p, [0, 0, 1, 1]), made(np.repeat(p, 2, axis=0), np.repeat([0, 0, 1, 1], 2))
    same = replace(twice, patients=np.repeat(once.patients, 2))
    width = [(t["accuracy_high"] - t["accuracy_low"]).max() for t in map(reliability, (once, same, twice))]
    assert width[0] == pytest.approx(width[1]) and width[2] < width[0]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.floats(0.001, 1), min_size=3, max_size=3), min_size=1, max_size=20),
    st.floats(0.1, 10),
)
def test_any_probabilities_stay_probabilities(rows, temperature):
    p = np.array(rows)
    p /= p.sum(axis=1, keepdims=True)
    assert softmax(logits(p), axis=1) == pytest.approx(p)
    scaled = apply_temperature(made(p, np.zeros(len(p), dtype=int)), temperature).probabilities
    assert scaled.sum(axis=1) == pytest.approx(np.ones(len(p)))
    assert ((scaled >= 0) & (scaled <= 1)).all()


def test_certain_zeros_survive():
    p = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert np.isfinite(apply_temperature(made(p, [0, 1]), 2.0).probabilities).all()


def test_scaling_is_scipys_softmax_to_the_bit():
    probabilities = np.random.default_rng(3).dirichlet([0.3, 0.5, 1.0], 500)
    for temperature in (0.2, 1.0, 1.1683954372773284, 7.0):
        expected = softmax(logits(probabilities) / temperature, axis=1)
        assert np.array_equal(scale(probabilities, temperature), expected)
