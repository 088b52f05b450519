"""A space that is fitted to some patients tells others apart better than the features did."""

import numpy as np

from deferred import deferred

with deferred:
    from leakfree.estimate.likeness import likeness
    from leakfree_study.inflation.identity_space import tuned


def test_patients_that_it_was_not_fitted_to_are_found_more_often():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(200), 3)
    # Identity is in few directions; others are louder and are not the patient's.
    own = rng.standard_normal((200, 6))[groups] + 0.2 * rng.standard_normal((600, 6))
    values = np.concatenate([own, 4 * rng.standard_normal((600, 14))], axis=1).astype(np.float32)
    rows, space = tuned(values, groups)
    assert 250 < len(rows) < 350
    assert not np.isin(groups[np.setdiff1d(np.arange(600), rows)], groups[rows]).any(), (
        "no patient is on both sides"
    )
    before, after = likeness(groups[rows], values[rows]), likeness(groups[rows], space)
    assert after.rank_1.low > before.rank_1.high
    assert after.rank_1.estimate > 0.6


def test_where_there_is_no_identity_none_is_found():
    areas = []
    for seed in range(4):
        values = np.random.default_rng(seed).standard_normal((300, 10)).astype(np.float32)
        groups = np.repeat(np.arange(150), 2)
        rows, space = tuned(values, groups)
        found = likeness(groups[rows], space, resamples=50)
        assert found.rank_1.estimate < 0.06
        areas.append(found.verification.estimate)
    assert abs(np.mean(areas) - 0.5) < 0.05
