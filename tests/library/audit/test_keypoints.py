from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from deferred import deferred
from leakfree.audit.copies.alignment import to_square
from leakfree.audit.copies.alterations import alter
from leakfree.audit.copies.keypoints import (
    INLIERS,
    KEYPOINTS,
    SIDE,
    Keypoints,
    detect,
    embed,
    match,
    neighbours,
)
from leakfree.data.images import to_grey

with deferred:
    import faiss

    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource

MOVED = ("turned_5", "padded", "shifted", "cropped_4", "cropped_10", "resized")


@pytest.fixture(scope="module")
def films():
    """Encoded phantom images of 160 px, and the keypoints of each."""
    settings = PhantomSettings(
        n_images=60, size=160, exact_duplicates=0, near_duplicates=0, conflicting_labels=0, size_shortcut=0
    )
    source = PhantomSource(settings)
    data = [source.render(planned).data for planned in source.plan]
    return data, [keypoints_of(one) for one in data]


def keypoints_of(data):
    return detect(to_square(to_grey(data, None)))


def scattered(rng, n, outliers=0, noise=0.0):
    """Keypoints, and the same ones moved by a known map, some of them somewhere else."""
    points = rng.uniform(0, SIDE, (n, 2)).astype(np.float32)
    descriptors = rng.integers(0, 256, (n, 128), dtype=np.uint8)
    affine = np.array([[1.04, 0.09, -6.0], [-0.08, 0.97, 5.0]])
    moved = points @ affine[:, :2].T + affine[:, 2] + rng.normal(0, noise, (n, 2)) if noise else None
    moved = points @ affine[:, :2].T + affine[:, 2] if moved is None else moved
    moved[:outliers] = rng.uniform(0, SIDE, (outliers, 2))
    return Keypoints(moved.astype(np.float32), descriptors), Keypoints(points, descriptors), affine


@pytest.mark.parametrize("kind", MOVED)
def test_copies_agree_on_a_map(films, kind):
    rng = np.random.default_rng(1)
    for data, keypoints in list(zip(*films, strict=True))[:12]:
        count, affine = match(keypoints, keypoints_of(alter(data, kind, rng)))
        assert count >= 2 * INLIERS
        assert np.linalg.det(affine[:, :2]) == pytest.approx(1.0, abs=0.5)


def test_the_map_leads_from_the_second_image_to_the_first(films):
    data, keypoints = films
    square = to_square(to_grey(data[0], None))
    moved = np.zeros_like(square)
    moved[9:, :-4] = square[:-9, 4:]  # 4 to the left and 9 down
    count, affine = match(keypoints[0], detect(moved))
    assert count > 2 * INLIERS
    np.testing.assert_allclose(affine @ [60.0, 60.0, 1.0], [64.0, 51.0], atol=0.5)


def test_a_known_map_is_recovered_in_spite_of_outliers():
    first, second, affine = scattered(np.random.default_rng(0), 60, outliers=20)
    count, found = match(first, second)
    assert 40 <= count <= 44
    np.testing.assert_allclose(found, affine, atol=0.02)


def test_a_map_that_too_few_agree_on_is_none():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        first, second, _ = scattered(rng, 24, outliers=24 - (INLIERS - 4))  # all match, few agree
        assert match(first, second) is None
        first, second, _ = scattered(rng, 24, outliers=24 - INLIERS)
        assert match(first, second)[0] >= INLIERS


def test_implausible_maps_are_refused():
    first, second, _ = scattered(np.random.default_rng(0), 60)
    assert match(first, second) is not None
    for change in ([[-1, 0], [0, 1]], [[0.5, 0], [0, 1]], [[1, 0], [0, 1.9]]):
        points = (second.points - 64) @ np.array(change, dtype=np.float32).T + 64
        assert match(Keypoints(points.astype(np.float32), second.descriptors), second) is None


@pytest.mark.parametrize("n", [0, 1, INLIERS - 1])
def test_too_few_keypoints_match_nothing(n):
    first, second, _ = scattered(np.random.default_rng(0), max(n, 2))
    few = Keypoints(first.points[:n], first.descriptors[:n])
    many = scattered(np.random.default_rng(1), 60)[0]
    assert match(few, many) is None and match(many, few) is None and match(few, second) is None


def test_keypoints_with_a_double_are_not_matched():
    first, second, _ = scattered(np.random.default_rng(0), 60)
    elsewhere = np.random.default_rng(1).uniform(0, SIDE, second.points.shape).astype(np.float32)
    noise = np.random.default_rng(2).integers(-20, 20, (2, *second.descriptors.shape))
    near = np.clip(second.descriptors + noise, 0, 255).astype(np.uint8)
    assert match(first, Keypoints(second.points, near[0])) is not None
    doubled = Keypoints(np.concatenate([second.points, elsewhere]), np.concatenate(near))
    assert match(first, doubled) is None


def test_scattered_points_agree_on_no_map():
    first, second, _ = scattered(np.random.default_rng(0), 60, outliers=56)
    assert match(first, second) is None


def test_the_match_depends_on_nothing_but_the_images():
    """OpenCV's RANSAC takes its random numbers from a generator of its own, the same for every call."""
    pairs = [scattered(np.random.default_rng(seed), 60, outliers=36, noise=1.3)[:2] for seed in range(60)]

    def matched(pair):
        result = match(*pair)
        return None if result is None else (result[0], result[1].tobytes())

    expected = [matched(pair) for pair in pairs]
    assert sum(result is not None for result in expected) > 50
    cv2.setRNGSeed(77)
    assert [matched(pair) for pair in reversed(pairs)][::-1] == expected
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(matched, pairs * 3)) == expected * 3


def test_detection_is_the_same_in_every_thread(films):
    data, keypoints = films
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(keypoints_of, data))
    for one, other in zip(keypoints, again, strict=True):
        np.testing.assert_array_equal(one.points, other.points)
        np.testing.assert_array_equal(one.descriptors, other.descriptors)
        assert 20 < len(one.points) <= KEYPOINTS and one.descriptors.dtype == np.uint8


def test_a_flat_image_has_no_keypoints():
    flat = detect(np.full((SIDE, SIDE), 90, np.uint8))
    assert (
        flat.points.shape == (0, 2) and flat.descriptors.shape == (0, 128) and flat.unit().shape == (0, 128)
    )


def test_copies_are_the_nearest_neighbours(films):
    data, keypoints = films
    rng = np.random.default_rng(2)
    copies = [keypoints_of(alter(one, MOVED[i % len(MOVED)], rng)) for i, one in enumerate(data[:30])]
    flat = Keypoints(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8))
    vectors = embed([*keypoints, *copies, flat])
    assert np.linalg.norm(vectors[:-1], axis=1) == pytest.approx(1.0, abs=1e-4) and not vectors[-1].any()
    pairs = set(map(tuple, neighbours(vectors[:-1], 1).tolist()))
    assert {(i, 60 + i) for i in range(30)} <= pairs


def test_vectors_and_neighbours_depend_on_the_seed_alone(films):
    _, keypoints = films
    before = faiss.omp_get_max_threads()
    found = []
    try:
        for threads in (1, 4, 2, 1):
            faiss.omp_set_num_threads(threads)
            vectors = embed(keypoints, seed=3)
            found.append((vectors, neighbours(vectors)))
    finally:
        faiss.omp_set_num_threads(before)
    for vectors, pairs in found[1:]:
        np.testing.assert_array_equal(vectors, found[0][0])
        np.testing.assert_array_equal(pairs, found[0][1])
    assert not np.array_equal(embed(keypoints, seed=4), found[0][0])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_images_and_none(films, count):
    vectors = embed(films[1][:count])
    assert len(vectors) == count and np.isfinite(vectors).all()
    assert len(neighbours(vectors)) == count // 2
    flat = Keypoints(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8))
    assert not embed([flat] * count).any()


def test_neighbours_are_those_of_brute_force():
    vectors = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    nearest = np.argsort(-cosines, axis=1)[:, :4]
    expected = {(min(i, j), max(i, j)) for i in range(300) for j in nearest[i].tolist()}
    found = neighbours(vectors, 4)
    assert [tuple(pair) for pair in found.tolist()] == sorted(expected)


def test_planted_neighbours_are_found_among_thousands():
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((9000, 128)).astype(np.float32)
    vectors[:500] = vectors[500:1000] + 0.9 * rng.standard_normal((500, 128)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    before = faiss.omp_get_max_threads()
    results = []
    try:
        for threads in (1, 3):
            faiss.omp_set_num_threads(threads)
            results.append(neighbours(vectors))
    finally:
        faiss.omp_set_num_threads(before)
    np.testing.assert_array_equal(*results)
    pairs = results[0]
    assert (pairs[:, 0] < pairs[:, 1]).all() and len(np.unique(pairs, axis=0)) == len(pairs)
    planted = set(map(tuple, pairs[pairs[:, 0] < 500].tolist())) & {(i, 500 + i) for i in range(500)}
    assert len(planted) > 0.98 * 500
