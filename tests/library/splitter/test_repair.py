"""A repair changes as few images as can be: counted against every other way on small cases."""

from itertools import product

import numpy as np
import pytest

from deferred import deferred

with deferred:
    from leakfree.splitter.repair import RepairError, repaired

PARTS = ("train", "val", "test")


def clean(groups, parts):
    return all(len(set(parts[groups == group]) - {""}) <= 1 for group in np.unique(groups))


def least(groups, parts, keep=()):
    """Fewest images that must change, by trying every part, and dropping, for every image."""
    ways = np.array(list(product(range(4), repeat=len(parts))))  # 3: dropped
    before = np.array([PARTS.index(part) for part in parts])
    for group in np.unique(groups):
        there = np.where(ways[:, groups == group] == 3, -1, ways[:, groups == group])
        most = there.max(axis=1)
        ways = ways[((there == -1) | (there == most[:, None])).all(axis=1)]
    for place in range(len(PARTS)):
        ways = ways[(ways == place).any(axis=1)]
    for part in keep:
        place = PARTS.index(part)
        ways = ways[((ways == place) == (before == place)).all(axis=1)]
    return int((ways != before).sum(axis=1).min())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("keep", [(), ("test",)])
def test_no_way_changes_fewer_images(seed, keep):
    rng = np.random.default_rng(seed)
    # One lone image in each part, so that no part is emptied.
    groups = np.array([0, 1, 2, *rng.integers(3, 6, 4)])
    parts = np.array([*PARTS, *rng.choice(PARTS, 4)], dtype=object)
    after = repaired(groups, parts, keep)
    assert clean(groups, after)
    assert int((after != parts).sum()) == least(groups, parts, keep)


@pytest.mark.parametrize("seed", range(12))
def test_no_part_is_emptied_and_still_no_way_changes_fewer(seed):
    rng = np.random.default_rng(seed)
    groups = rng.permutation([0, 0, 0, 1, 1, 2, 2, 3])
    parts = np.array([*PARTS, *rng.choice(PARTS, 5)], dtype=object)
    after = repaired(groups, parts)
    assert clean(groups, after) and set(after) >= set(PARTS)
    assert int((after != parts).sum()) == least(groups, parts)


def test_where_as_many_are_in_both_parts_test_images_stay():
    groups, parts = np.array([0, 0, 1, 2]), np.array(["train", "test", "train", "test"], dtype=object)
    assert repaired(groups, parts).tolist() == ["test", "test", "train", "test"]


def test_a_kept_part_neither_gains_nor_loses():
    groups = np.array([0, 0, 0, 1, 1, 2, 3])
    parts = np.array(["train", "train", "test", "train", "val", "test", "train"], dtype=object)
    after = repaired(groups, parts, ["test"])
    assert after.tolist() == ["", "", "test", "val", "val", "test", "train"]


def test_what_has_no_part_gets_none_and_what_does_not_leak_is_left():
    groups, parts = np.array([0, 0, 1, 2]), np.array(["train", "", "train", "test"], dtype=object)
    assert repaired(groups, parts).tolist() == parts.tolist()


@pytest.mark.parametrize(
    ("groups", "parts", "keep", "reason"),
    [
        ([0, 0, 1], ["train", "test", "train"], ["exam"], "no such part; the parts are train, test"),
        ([0, 0, 1, 2], ["val", "test", "val", "test"], ["val", "test"], "test and val share linked groups"),
        ([0, 0, 0], ["train", "train", "test"], [], "part test would be empty"),
        ([0, 0, 1, 1], ["train", "test", "train", "test"], ["test"], "part train would be empty"),
    ],
)
def test_what_cannot_be_done_is_one_line(groups, parts, keep, reason):
    with pytest.raises(RepairError, match=reason):
        repaired(np.array(groups), np.array(parts, dtype=object), keep)
