from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deferred import deferred
from leakfree.audit.checks.overlap import Overlap, expected_overlap, overlap, repeat_image_level

with deferred:
    from sklearn.model_selection import train_test_split


def by_counting(train, test):
    """Count shared groups and test images with a sibling, without numpy."""
    shared = set(train) & set(test)
    return len(shared), sum(group in shared for group in test)


@pytest.mark.parametrize("names", ["ABCD", [0, 1, 2, 3]])
def test_overlap_by_hand(names):
    a, b, c, d = names
    found = overlap(np.array([a, a, b, d]), np.array([a, b, b, c, c]))
    assert found == Overlap(shared=2, test_groups=3, test_images_with_sibling=3, test_images=5)
    assert found.share_of_images == 0.6


def test_parts_without_a_common_group():
    found = overlap(np.array([1, 1, 2]), np.array([3, 4, 4]))
    assert found == Overlap(0, 2, 0, 3)
    assert found.share_of_images == 0
    assert np.isnan(overlap(np.array([1]), np.array([], dtype=int)).share_of_images)


@settings(deadline=None, max_examples=80, derandomize=True)
@given(
    train=st.lists(st.integers(0, 12), max_size=30),
    test=st.lists(st.integers(0, 12), min_size=1, max_size=30),
)
def test_overlap_counts(train, test):
    found = overlap(np.array(train, dtype=int), np.array(test))
    assert (found.shared, found.test_images_with_sibling) == by_counting(train, test)
    assert (found.test_groups, found.test_images) == (len(set(test)), len(test))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(groups=st.lists(st.integers(0, 5), min_size=2, max_size=9), data=st.data())
def test_expected_overlap_is_the_mean_over_all_splits(groups, data):
    n_test = data.draw(st.integers(1, len(groups)))
    shared, siblings, splits = 0, 0, 0
    for rows in combinations(range(len(groups)), n_test):
        test = [groups[row] for row in rows]
        train = [groups[row] for row in range(len(groups)) if row not in rows]
        found = by_counting(train, test)
        shared, siblings, splits = shared + found[0], siblings + found[1], splits + 1
    expected = expected_overlap(np.array(groups), n_test)
    assert expected == pytest.approx((shared / splits, siblings / splits / n_test), abs=1e-9)


def test_expected_overlap_is_the_mean_of_many_draws():
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(120), np.minimum(rng.geometric(0.4, 120), 30))
    n_test, draws = len(groups) // 5, []
    for _ in range(1500):
        order = rng.permutation(len(groups))
        found = overlap(groups[order[n_test:]], groups[order[:n_test]])
        draws.append((found.shared, found.share_of_images))
    mean, error = np.mean(draws, axis=0), np.std(draws, axis=0) / np.sqrt(len(draws))
    assert np.abs(mean - expected_overlap(groups, n_test)) / error == pytest.approx(0, abs=4)


def test_expected_overlap_at_the_edges():
    alone = np.arange(50)
    assert expected_overlap(alone, 10) == pytest.approx((0, 0), abs=1e-12)
    together = np.zeros(50, dtype=int)
    assert expected_overlap(together, 10) == pytest.approx((1, 1), abs=1e-12)
    assert expected_overlap(np.repeat(np.arange(10), 5), 50) == pytest.approx((0, 0), abs=1e-12)
    # The size of the real cohort must neither overflow nor lose its digits: two of 5,000 images.
    pair = np.append(np.arange(4999), 0)
    assert expected_overlap(pair, 1000)[0] == pytest.approx(2 * 1000 * 4000 / (5000 * 4999), rel=1e-9)


@pytest.mark.parametrize("stratified", [False, True])
def test_repeated_draws_are_those_of_scikit_learn(stratified):
    rng = np.random.default_rng(2)
    n = 203
    ids = np.array([f"i{row}" for row in range(n)], dtype=object)
    names = np.array([f"p{k}" for k in rng.integers(0, 80, n)], dtype=object)
    groups = {"fine": names, "coarse": np.array([name[:2] for name in names], dtype=object)}
    classes = rng.choice(["normal", "viral"], n)
    frame = repeat_image_level(ids, groups, seeds=range(40, 45), stratify=classes if stratified else None)
    assert list(frame.columns) == [
        "split",
        "scope",
        "seed",
        "shared",
        "expected_shared",
        "share_of_images",
        "expected_share_of_images",
    ]
    assert set(frame["split"]) == {"stratified" if stratified else "plain"}
    assert len(frame) == 10
    for row in frame.itertuples():
        train, test = train_test_split(
            np.arange(n), test_size=0.2, random_state=row.seed, stratify=classes if stratified else None
        )
        values = groups[row.scope]
        shared, siblings = by_counting(values[train], values[test])
        assert (row.shared, row.share_of_images) == (shared, siblings / len(test))
        assert (row.expected_shared, row.expected_share_of_images) == pytest.approx(
            expected_overlap(values, len(test)), abs=1e-12
        )
    assert frame["shared"].nunique() > 2
