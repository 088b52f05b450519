"""Calibration of many networks: named rows, seeds averaged after scaling, official predictions taken back."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from deferred import deferred
from leakfree.predict.calibrated import Calibrated
from leakfree.scores.calibration import apply_temperature
from leakfree.scores.predictions import Predictions

with deferred:
    from leakfree_study.networks import calibration_study as study
    from leakfree_study.networks.trainings import Network

    ONE, TWO = Network("binary", "resnet18", 1, 32), Network("binary", "resnet18", 2, 32)


def made(seed, n=60):
    rng = np.random.default_rng(seed)
    ids = np.array([f"{i}.png" for i in range(n)], dtype=object)
    labels = np.arange(n) % 2
    p = np.clip(0.5 + 0.4 * (labels - 0.5) + 0.2 * rng.standard_normal(n), 0.01, 0.99)
    part = np.full(n, "test", dtype=object)
    return Predictions(Path(f"{seed}.csv"), ids, ids, part, labels, ("a", "b"), np.stack([1 - p, p], 1), seed)


def result(seed):
    return SimpleNamespace(read=lambda part: made(seed))


def test_the_table_says_what_was_fitted_and_what_could_not_be():
    conformal = SimpleNamespace(threshold=0.25)
    table = study.calibration_table(
        {ONE: result(1), TWO: result(2)},
        {ONE: Calibrated(1.5, conformal, ()), TWO: Calibrated(1.0, None, ("too few", "no class"))},
    )
    assert table[["task", "model", "seed", "temperature"]].to_numpy().tolist() == [
        ["binary", "resnet18", 1, 1.5],
        ["binary", "resnet18", 2, 1.0],
    ]
    assert table["least_probability_in_set"].tolist() == pytest.approx([0.25, np.nan], nan_ok=True)
    assert table["notes"].tolist() == ["", "too few no class"]


def test_an_ensemble_averages_the_scaled_seeds_of_its_model_alone():
    other = Network("binary", "simple-cnn-32", 1, 32)
    trained = {ONE: result(1), other: result(5), TWO: result(2)}
    calibrated = {ONE: Calibrated(2.0, None), TWO: Calibrated(3.0, None), other: Calibrated(9.0, None)}
    found = study.ensemble_of(trained, calibrated, "binary", "resnet18", "test")
    scaled = [apply_temperature(made(s), t).probabilities for s, t in ((1, 2.0), (2, 3.0))]
    assert found.probabilities == pytest.approx(np.mean(scaled, axis=0))


def test_official_predictions_are_those_of_the_network_itself(monkeypatch):
    own, asked = made(3), []

    def saved(*named):
        asked.append(named)
        return apply_temperature(own, 2.5)

    monkeypatch.setattr(study, "official_predictions", saved)
    opened = pd.DataFrame({"task": ["binary"], "model": ["resnet18"], "seed": ["1"]})
    found = study.tests_of(Path("run"), ONE, result(1), 2.5, opened)
    assert asked == [(Path("run"), "binary", "resnet18", "1")]
    assert found["internal"].probabilities == pytest.approx(made(1).probabilities)
    assert found["official"].probabilities == pytest.approx(own.probabilities)
    # A network that the plan did not name has the internal test alone, as has all while the seal is closed.
    assert list(study.tests_of(Path("run"), TWO, result(2), 1.0, opened)) == ["internal"]
    assert list(study.tests_of(Path("run"), ONE, result(1), 1.0, pd.DataFrame())) == ["internal"]


def test_errors_and_coverage_are_named_by_network_and_part():
    tests = {ONE: {"internal": made(1), "official": made(3)}, TWO: {"internal": made(2)}}
    calibrated = {ONE: Calibrated(2.0, None), TWO: Calibrated(1.0, None)}
    errors, covered = study.sure_and_right(tests, calibrated, n_resamples=20, seed=1)
    named = errors[["seed", "part", "when"]].to_numpy().tolist()
    assert named == [
        [seed, part, when]
        for seed, part in ((1, "internal"), (1, "official"), (2, "internal"))
        for when in ("before", "after")
    ]
    alone = calibrated[ONE].errors(replace(made(3)), n_resamples=20, seed=1)
    assert errors["ece"].tolist()[2:4] == pytest.approx(alone["ece"].tolist())
    assert covered.empty
