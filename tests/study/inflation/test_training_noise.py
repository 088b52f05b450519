"""The interval with the noise of training: by hand, and in simulated studies."""

from dataclasses import replace

import numpy as np
import pytest

from deferred import deferred

with deferred:
    from leakfree_study.inflation.estimate import Scored
    from leakfree_study.inflation.training_noise import (
        NoisyWorld,
        coverage,
        measured_world,
        simulate,
        with_training_noise,
    )


def scored(n=40, seed=0):
    truth = np.arange(n) % 2
    p = np.random.default_rng(seed).random(n)
    return Scored(np.arange(n), truth, np.stack([1 - p, p], axis=1))


def values(by_draw, spread=0.01, resamples=400):
    noise = spread * np.random.default_rng(1).standard_normal(resamples)
    return np.array([[value, *(value + noise)] for value in by_draw])


def test_both_variances_are_added():
    found = with_training_noise(values([0.02, 0.04, 0.03, 0.05, 0.01, 0.03]), [scored()] * 6, range(6))
    couples = np.array([0.03, 0.04, 0.02])
    assert found.estimate == pytest.approx(0.03)
    assert (found.units, found.sd_training) == (3, pytest.approx(couples.std(ddof=1) / np.sqrt(3)))
    assert found.sd == pytest.approx(np.hypot(found.patients.sd, found.sd_training))
    low, high = found.interval
    assert low < found.patients.low < found.patients.high < high
    assert min(2, 19) < found.df < 21
    assert 0 < found.p < 1


def test_without_three_whole_couples_draws_are_the_unit():
    for seeds in (range(4), [0, 1, 2, 3, 4]):
        by_draw = np.linspace(0, 0.04, len(seeds))
        found = with_training_noise(values(by_draw), [scored()] * len(seeds), seeds)
        assert found.units == len(seeds)
        assert found.sd_training == pytest.approx(by_draw.std(ddof=1) / np.sqrt(len(seeds)))


def test_one_draw_is_refused():
    with pytest.raises(ValueError, match="one draw"):
        with_training_noise(values([0.1]), [scored()], [0])


def test_no_difference_at_all_has_no_width():
    found = with_training_noise(np.zeros((6, 50)), [scored()] * 6, range(6))
    assert (found.interval, found.p) == ((0.0, 0.0), 1.0)


def test_patients_alone_cover_too_little_where_training_is_lucky():
    world = NoisyWorld((80, 40), 10, 0.7, gain=0.05, luck=0.4)
    found = coverage(world, 30).set_index("interval")
    assert found.loc["patients", "share"] < 0.75
    assert found.loc["both", "share"] >= 0.85
    assert found.loc["both", "width"] > found.loc["patients", "width"]


def test_the_mean_of_many_studies_is_the_truth():
    world = NoisyWorld((80, 40), 6, 0.7, gain=0.06, luck=0.2)
    found = [simulate(world, seed, 3).estimate for seed in range(60)]
    assert np.mean(found) == pytest.approx(0.06, abs=3 * np.std(found) / np.sqrt(60))


def test_a_shared_network_cancels_its_luck():
    world = NoisyWorld((80, 40), 6, 0.7, luck=0.5)
    apart, together = (
        np.std([simulate(one, seed, 3).estimate for seed in range(40)])
        for one in (world, replace(world, shared=True))
    )
    assert together < apart / 1.5


def test_components_are_found_again():
    truth = NoisyWorld((150, 100), 10, 0.7, patient=0.4, image=0.2, luck=0.3)
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [300, 200])
    of_patient = np.sqrt(0.4) * rng.standard_normal(500)
    arms = {"clean": [], "leaky": []}
    for _ in range(5):
        shuffled = [rng.permutation(np.flatnonzero(labels == c)) for c in (0, 1)]
        first = np.concatenate([rows[: len(rows) // 2] for rows in shuffled])
        for tested in (np.sort(first), np.setdiff1d(np.arange(500), first)):
            common = of_patient[tested] + np.sqrt(0.2) * rng.standard_normal(len(tested))
            for arm in arms:
                distance = truth.distances[0] + 0.3 * rng.standard_normal()
                scores = common + np.sqrt(0.4) * rng.standard_normal(len(tested)) + distance * labels[tested]
                p = 1 / (1 + np.exp(-scores))
                arms[arm].append(Scored(tested, labels[tested], np.stack([1 - p, p], axis=1)))
    found = measured_world(arms["clean"], arms["leaky"], range(10), n=20)
    assert found.pairs == (150, 100)
    assert found.patient == pytest.approx(0.4, abs=0.1)
    assert found.image == pytest.approx(0.2, abs=0.1)
    assert 0.15 <= found.luck <= 0.5
    assert found.auc == pytest.approx(0.7, abs=0.06)
