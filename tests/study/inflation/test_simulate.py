"""Simulated studies: where there is nothing to find little is found, unless draws are pooled."""

import numpy as np
import pandas as pd
import pytest

from deferred import deferred

with deferred:
    from scipy import stats

    from leakfree_study.inflation.simulate import World, coverage, studies, study

SMALL = ((0, 20, 10), (0, 20, 10))


@pytest.fixture(scope="module")
def nothing():
    """Studies of exchangeable images."""
    return studies(World(SMALL, draws=4), 50, seed=1, n_resamples=80)


@pytest.fixture(scope="module")
def pseudo():
    """Studies that repeat the model, not the draw of patients."""
    return studies(World(SMALL, draws=30, dimensions=4, seeds=True), 50, seed=1, n_resamples=80)


def test_images_of_a_world():
    labels, groups = World(((1, 2), (0, 1, 1))).images()
    assert labels.tolist() == [0] * 5 + [1] * 5
    assert groups.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 4]


def test_siblings_give_nothing_where_patients_have_no_identity(nothing):
    error = nothing["estimate"].std(ddof=1) / np.sqrt(len(nothing))
    assert abs(nothing["estimate"].mean()) < 3 * error
    assert error < 0.02
    assert (nothing["p"] < 0.05).mean() <= 0.16
    # The bootstrap's standard deviation is about what the studies scatter by.
    assert 0.7 < nothing["sd"].mean() / nothing["estimate"].std(ddof=1) < 1.5


def test_siblings_inflate_where_patients_have_one():
    found = [
        studies(World(SMALL, identity=identity, draws=4), 25, seed=2, n_resamples=80)
        for identity in (0.5, 0.9)
    ]
    for one in found:
        assert stats.ttest_1samp(one["estimate"], 0, alternative="greater").pvalue < 1e-4
        assert (one["p"] < 0.05).mean() > 0.4
    assert found[1]["estimate"].mean() > found[0]["estimate"].mean() > 0.05
    half = studies(World(SMALL, identity=0.9, draws=4, dose=0.25), 25, seed=2, n_resamples=20)
    assert half["estimate"].mean() < 0.6 * found[1]["estimate"].mean()


def test_seeds_taken_for_evidence_reject_far_too_often_and_patients_do_not(pseudo):
    counted = coverage(pseudo, 0.0).set_index("what")
    assert counted.loc["false alarms, draws pooled as if independent", "low"] > 0.15
    assert counted.loc["false alarms", "share"] <= 0.14
    assert counted.loc["coverage", "share"] >= 0.86
    # Not because the interval is too wide to say anything.
    assert 0.7 < pseudo["sd"].mean() / pseudo["estimate"].std(ddof=1) < 1.5


def test_a_study_is_consistent_in_itself():
    found = study(World(SMALL, identity=0.3, draws=2), 5, n_resamples=60)
    assert found.low < found.estimate < found.high
    assert found.percentile_low < found.percentile_high
    assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
    assert found.estimate == pytest.approx((found.low + found.high) / 2)
    assert study(World(SMALL, identity=0.3, draws=2), 5, n_resamples=60) == found
    assert study(World(SMALL, identity=0.3, draws=2), 6, n_resamples=60) != found


def test_the_number_of_processes_changes_nothing():
    world = World(((0, 8), (0, 8)), draws=2)
    alone = studies(world, 60, seed=3, n_resamples=20)
    assert len(alone) == 60
    assert alone["estimate"].nunique() > 15
    pd.testing.assert_frame_equal(alone, studies(world, 60, seed=3, jobs=2, n_resamples=20), check_exact=True)
    assert not alone.equals(studies(world, 60, seed=4, n_resamples=20))


def constructed():
    """Ten studies: seven intervals hold 0 and eight 0.1; four percentile intervals hold 0 and six 0.1."""
    low = np.array([-1, -1, -1, -1, -1, -1, -1, 0.05, 0.2, 0.3])
    percentile_low = np.array([-1, -1, -1, -1, 0.02, 0.02, 0.2, 0.2, 0.2, 0.2])
    return pd.DataFrame(
        {
            "low": low,
            "high": low + 2,
            "percentile_low": percentile_low,
            "percentile_high": percentile_low + 2,
            "p": np.where(low > 0, 0.01, 0.5),
            "p_pooled": [0.001] * 6 + [0.05] * 4,
        }
    )


def test_coverage_counts():
    found = coverage(constructed(), 0.0).set_index("what")
    assert found["studies"].tolist() == [10] * 4
    assert found["share"].to_dict() == pytest.approx(
        {
            "coverage": 0.7,
            "coverage, percentile interval": 0.4,
            "false alarms": 0.3,
            "false alarms, draws pooled as if independent": 0.6,
        }
    )
    # Clopper and Pearson, by quantiles of the beta distribution.
    for hits, row in zip((7, 4, 3, 6), found.itertuples(), strict=True):
        assert row.low == pytest.approx(stats.beta.ppf(0.025, hits, 11 - hits))
        assert row.high == pytest.approx(stats.beta.ppf(0.975, hits + 1, 10 - hits))


def test_coverage_of_another_truth_has_no_false_alarms():
    found = coverage(constructed(), 0.1).set_index("what")
    assert found["share"].to_dict() == pytest.approx({"coverage": 0.8, "coverage, percentile interval": 0.6})
    assert coverage(constructed(), 2.25).set_index("what")["share"].to_dict() == pytest.approx(
        {"coverage": 0.1, "coverage, percentile interval": 0.0}
    )
