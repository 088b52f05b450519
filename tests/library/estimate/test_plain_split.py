"""Who is on both sides of a plain split: by hand, and beside real splits."""

import numpy as np
import pytest

from deferred import deferred

with deferred:
    from leakfree.estimate.plain_split import plain_split


def test_by_hand():
    # Of six pairs of test images among four, two are one patient's own.
    found = plain_split(np.array([0, 0, 1, 1]), 0.5)
    assert (found.images, found.test_images) == (4, 2)
    assert found.share == pytest.approx(4 / 6)
    assert found.groups == pytest.approx(2 * 4 / 6)
    assert (found.low, found.high) == (0, 1)


def test_mean_and_range_are_those_of_many_splits():
    groups = np.repeat(np.arange(70), np.tile([1, 1, 2, 3, 8], 14))
    rng, seen = np.random.default_rng(0), []
    for _ in range(2000):
        test = np.zeros(len(groups), dtype=bool)
        test[rng.permutation(len(groups))[: round(0.25 * len(groups))]] = True
        seen.append(np.isin(groups[test], groups[~test]).mean())
    found = plain_split(groups, 0.25)
    assert found.share == pytest.approx(np.mean(seen), abs=0.005)
    assert (found.low, found.high) == pytest.approx(np.quantile(seen, [0.025, 0.975]), abs=0.02)


def test_patients_of_one_image_are_never_on_both_sides():
    found = plain_split(np.arange(50), 0.2)
    assert (found.groups, found.share, found.low, found.high) == pytest.approx((0, 0, 0, 0))


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_an_empty_part_is_refused(share):
    with pytest.raises(ValueError, match="empty"):
        plain_split(np.arange(10), share)
