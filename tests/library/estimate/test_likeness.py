"""Retrieval and verification: by hand, where nobody is alike, and where everybody is."""

import numpy as np
import pytest

from deferred import deferred

with deferred:
    from leakfree.estimate import likeness as module
    from leakfree.estimate.likeness import MOST_QUERIES, likeness


def drawn(identity, patients=60, images=3, dimensions=30, seed=0):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(patients), images)
    own = rng.standard_normal((patients, dimensions))[groups]
    every = rng.standard_normal((len(groups), dimensions))
    return groups, np.sqrt(identity) * own + np.sqrt(1 - identity) * every


def test_by_hand():
    # On a line: patient 0 at 0 and 3, patient 1 at 1, patient 2 at 3.5 and 10.
    groups, places = np.array([0, 0, 1, 2, 2]), np.array([[0.0], [3.0], [1.0], [3.5], [10.0]])
    found = likeness(groups, places, resamples=20)
    assert (found.images, found.groups, found.asking, found.asking_groups) == (5, 3, 4, 2)
    # Nearest are 2 (of 0), 3 (of 1), 1 (of 3), 3 (of 4): only the last is of the patient.
    assert found.rank_1.estimate == 0.25
    assert found.rank_20.estimate == 1
    assert found.chance_1 == 0.25
    # The nearest training image is of the patient if nothing nearer trains: for 0, behind 2; for 1, behind 3
    # and 2; for 3, behind 1, 2 and 0; for 4, first. A nearer image tests with 0.2.
    reached = [0.8 * 0.2, 0.8 * 0.2**2, 0, 0.8 * 0.2**3, 0.8]
    assert found.found.estimate == pytest.approx(np.mean(reached))


def test_expected_share_found_is_that_of_many_splits():
    groups, vectors = drawn(0.6, patients=40)
    rng, seen = np.random.default_rng(1), []
    distance = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
    for _ in range(400):
        test = rng.permutation(len(groups))[: round(0.3 * len(groups))]
        train = np.setdiff1d(np.arange(len(groups)), test)
        nearest = train[distance[np.ix_(test, train)].argmin(axis=1)]
        seen.append((groups[nearest] == groups[test]).mean())
    expected = likeness(groups, vectors, test_share=0.3, resamples=10).found.estimate
    error = np.std(seen) / np.sqrt(len(seen))
    assert abs(np.mean(seen) - expected) < 4 * error + 0.01
    assert 0.2 < expected < 0.95


def test_where_patients_have_no_identity_nobody_is_found_beyond_chance():
    found = likeness(*drawn(0.0, patients=100))
    assert found.rank_1.low <= found.chance_1 <= found.rank_1.high
    assert found.rank_20.low <= found.chance_20 <= found.rank_20.high
    assert found.verification.low < 0.5 < found.verification.high


def test_more_identity_is_found_more_often():
    weak, strong = (likeness(*drawn(identity)) for identity in (0.3, 0.7))
    for name in ("rank_1", "rank_20", "verification", "found"):
        assert getattr(weak, name).estimate < getattr(strong, name).estimate, name
    assert strong.rank_1.estimate > 0.9
    assert strong.rank_1.low <= strong.rank_1.estimate <= strong.rank_1.high


def test_a_label_alone_verifies_nobody():
    groups, vectors = drawn(0.0, patients=100)
    labels = groups % 2
    vectors = vectors + 20 * labels[:, None]
    without, given = likeness(groups, vectors), likeness(groups, vectors, labels)
    assert without.verification.low > 0.6
    assert given.verification.low < 0.5 < given.verification.high


def test_grey_levels_are_compared_as_they_are():
    groups, vectors = drawn(0.6)
    levels = np.clip(vectors * 20 + 128, 0, 255).astype(np.uint8).reshape(len(groups), 5, 6)
    found = likeness(groups, levels)
    assert found == likeness(groups, levels.reshape(len(groups), -1).astype(np.float64))
    assert found.rank_1.estimate > 0.3


def test_of_many_images_a_sample_asks(monkeypatch):
    import leakfree.estimate.likeness as module

    assert MOST_QUERIES >= 1000
    groups, vectors = drawn(0.6)
    whole = likeness(groups, vectors)
    monkeypatch.setattr(module, "MOST_QUERIES", 90)
    some = likeness(groups, vectors)
    assert some.asking == 90 < whole.asking
    assert abs(some.rank_1.estimate - whole.rank_1.estimate) < 0.15


def test_where_nobody_has_two_images_nothing_is_measured():
    found = likeness(np.arange(30), np.random.default_rng(0).standard_normal((30, 4)))
    assert (found.asking, found.found.estimate) == (0, 0)
    assert not found.rank_1.known and not found.verification.known


@pytest.mark.parametrize(
    ("groups", "vectors"), [([0], [[1.0]]), ([0, 1], [[1.0]]), ([0, 1], [[1.0], [float("nan")]])]
)
def test_what_cannot_be_compared_is_refused(groups, vectors):
    with pytest.raises(ValueError, match=r"images|finite"):
        likeness(np.array(groups), np.array(vectors))


@pytest.mark.parametrize("labels", [None, np.arange(12) % 2])
def test_a_pair_that_is_drawn_often_counts_as_often(labels):
    values = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    codes = np.arange(12) // 3
    one, two = np.random.default_rng(1).integers(12, size=(2, module._PAIRS))
    apart = codes[one] != codes[two]
    if labels is not None:
        apart &= labels[one] == labels[two]
    expected = np.sort(((values[one] - values[two]) ** 2).sum(axis=1)[apart])
    found = module._impostors(values, codes, labels, np.random.default_rng(1))
    assert len(expected) > 10_000 and np.array_equal(found, expected)
