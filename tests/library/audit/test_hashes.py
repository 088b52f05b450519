from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from joblib import Parallel, delayed

from deferred import deferred
from leakfree.audit.copies import hashes as module
from leakfree.audit.copies.hashes import (
    BITS,
    RADIUS,
    SYMMETRIES,
    distance,
    guaranteed_radius,
    image_hashes,
    near_pairs,
    transform,
)

with deferred:
    from scipy.fft import dctn

EMPTY = np.empty((0, 4), dtype=np.uint64)
TURNED = {
    "mirrored": np.fliplr,
    "flipped": np.flipud,
    "turned by 180": lambda image: np.rot90(image, 2),
    "transposed": np.transpose,
    "turned by 90": np.rot90,
    "turned by 270": lambda image: np.rot90(image, 3),
    "anti-transposed": lambda image: np.rot90(image, 2).T,
}


def random_hashes(rng, n):
    return rng.integers(0, 2**64, (n, 4), dtype=np.uint64)


def flip(rng, hashes, counts):
    """Flip so many random bits of each hash."""
    bits = np.unpackbits(hashes.view(np.uint8), axis=1)
    for row, count in enumerate(counts):
        bits[row, rng.choice(BITS, count, replace=False)] ^= 1
    return np.packbits(bits, axis=1).view(np.uint64)


def planted(rng, n, clusters, most):
    """Random hashes, some of which lie in chains: each up to `most` bits from the one before."""
    hashes = random_hashes(rng, n)
    rows = rng.permutation(n)[: n // 2]
    for members in np.array_split(rows, clusters):
        for before, after in pairwise(members):
            hashes[after] = flip(rng, hashes[before : before + 1], [rng.integers(0, most + 1)])[0]
    return hashes


def brute_force(hashes, radius):
    return {
        (i, j): int(distance(hashes[i], hashes[j]))
        for i, j in combinations(range(len(hashes)), 2)
        if distance(hashes[i], hashes[j]) <= radius
    }


def components(n, pairs):
    label = np.arange(n)
    for _ in range(n):
        before = label.copy()
        for first, second in pairs:
            label[first] = label[second] = min(label[first], label[second])
        if (label == before).all():
            break
    return label


def coefficients(films):
    """The 16 x 16 lowest ones of the DCT, not scaled: along x and y, the sum of pixels times cosines."""
    return dctn(films.astype(np.float64), axes=(1, 2))[:, :16, :16] / 4


@pytest.mark.parametrize("symmetry", [None, *SYMMETRIES])
@pytest.mark.parametrize("inverted", [False, True])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_hash_of_a_turned_image_follows_from_the_hash(symmetry, inverted, seed):
    films = np.random.default_rng(seed).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    # A coefficient that is zero up to rounding has no sign to follow from.
    assume(np.abs(coefficients(films)).reshape(3, -1)[:, 1:].min() > 0.2)
    turned = np.stack([TURNED.get(symmetry, np.asarray)(image) for image in films])
    turned = 255 - turned if inverted else turned
    hashes = image_hashes(films)
    np.testing.assert_array_equal(image_hashes(turned), transform(hashes, symmetry, inverted=inverted))
    if symmetry or inverted:
        assert (distance(hashes, image_hashes(turned)) > RADIUS).all()


def test_a_hash_of_an_image_does_not_depend_on_the_images_beside_it():
    films = np.random.default_rng(0).integers(0, 256, (1030, 64, 64), dtype=np.uint8)
    hashes = image_hashes(films)
    assert hashes.shape == (1030, 4) and hashes.dtype == np.uint64
    np.testing.assert_array_equal(hashes[[0, 1023, 1024, 1029]], image_hashes(films[[0, 1023, 1024, 1029]]))
    assert len(np.unique(hashes, axis=0)) == 1030
    assert image_hashes(films[:0]).shape == (0, 4)


def test_the_bits_are_the_signs_of_the_coefficients():
    films = np.random.default_rng(4).integers(0, 256, (50, 64, 64), dtype=np.uint8)
    bits = np.unpackbits(image_hashes(films).view(np.uint8), axis=1).reshape(-1, 16, 16)
    expected = coefficients(films)
    assert not bits[:, 0, 0].any()
    expected[:, 0, 0] = -1
    clear = np.abs(expected) > 0.2
    np.testing.assert_array_equal(bits[clear] == 1, expected[clear] > 0)


def test_flat_images_hash_to_zero_and_brightness_does_not_count():
    flat = np.arange(256, dtype=np.uint8)[:, None, None].repeat(64, axis=1).repeat(64, axis=2)
    assert not image_hashes(flat).any()
    image = np.random.default_rng(1).integers(0, 200, (1, 64, 64), dtype=np.uint8)
    np.testing.assert_array_equal(image_hashes(image), image_hashes(image + 40))


def test_distance_counts_bits():
    zero, ones = np.zeros(4, np.uint64), np.full(4, 2**64 - 1, dtype=np.uint64)
    one = np.array([1, 0, 2**63, 0], np.uint64)
    assert distance(zero, ones) == 256 and distance(zero, one) == 2 and distance(ones, one) == 254


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 160),
    clusters=st.integers(1, 12),
    radius=st.integers(0, RADIUS),
)
@settings(max_examples=60, deadline=None)
def test_pairs_are_those_of_brute_force_up_to_the_guaranteed_radius(seed, n, clusters, radius):
    rng = np.random.default_rng(seed)
    hashes = planted(rng, n, clusters, 10)
    found = near_pairs(hashes, radius)
    truth = brute_force(hashes, radius)
    assert (found[:, 0] < found[:, 1]).all() and len(np.unique(found[:, :2], axis=0)) == len(found)
    assert found[:, :2].tolist() == sorted(found[:, :2].tolist())
    assert all(truth[first, second] == bits for first, second, bits in found.tolist())
    # Of identical ones, each later one is listed with the first alone, which stands for all of them.
    first_of = {}
    owner = [first_of.setdefault(row.tobytes(), i) for i, row in enumerate(hashes)]
    expected = {
        (i, j, bits)
        for (i, j), bits in truth.items()
        if bits <= guaranteed_radius(len(first_of)) and owner[i] == i and (bits == 0 or owner[j] == j)
    }
    assert expected <= set(map(tuple, found.tolist()))
    assert all(owner[i] == i and (bits == 0 or owner[j] == j) for i, j, bits in found.tolist())
    if radius <= guaranteed_radius(len(first_of)):
        np.testing.assert_array_equal(components(n, found[:, :2]), components(n, truth))


@given(seed=st.integers(0, 2**32 - 1), copies=st.integers(2, 40))
@settings(max_examples=20, deadline=None)
def test_identical_hashes_are_joined_by_their_first(seed, copies):
    rng = np.random.default_rng(seed)
    hashes = random_hashes(rng, 60)
    rows = np.sort(rng.permutation(60)[:copies])
    hashes[rows] = hashes[rows[0]]
    expected = [[rows[0], row, 0] for row in rows[1:]]
    assert near_pairs(hashes).tolist() == expected


@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize("inverted", [False, True])
def test_turned_copies_are_found_with_queries(symmetry, inverted):
    rng = np.random.default_rng(3)
    hashes = random_hashes(rng, 300) & transform(np.zeros((1, 4), np.uint64), inverted=True)
    exact = transform(hashes[:40], symmetry, inverted=inverted)
    # The first bit stands for the constant and takes no part in any symmetry.
    hashes[40:80] = flip(rng, exact, np.arange(40) % 8)
    found = near_pairs(hashes, 16, transform(hashes, symmetry, inverted=inverted))
    bits = {(first, second): bits for first, second, bits in found.tolist()}
    assert bits == {(i, i + 40): i % 8 for i in range(40)}
    assert len(near_pairs(hashes, 16)) == 0


def test_an_image_is_no_copy_of_itself_turned():
    films = np.random.default_rng(0).integers(0, 128, (3, 64, 64), dtype=np.uint8)
    hashes = image_hashes(films + films.transpose(0, 2, 1))
    turned = transform(hashes, "transposed")
    assert distance(hashes, turned).tolist() == [0, 0, 0]
    assert len(near_pairs(hashes, 16, turned)) == 0


@pytest.mark.parametrize("n", [0, 1])
def test_no_pairs_of_less_than_two(n):
    hashes = random_hashes(np.random.default_rng(0), n)
    for found in (near_pairs(hashes), near_pairs(hashes, 16, hashes)):
        assert found.shape == (0, 3) and found.dtype == np.int64


def test_all_identical():
    hashes = np.zeros((1000, 4), np.uint64)
    assert near_pairs(hashes).tolist() == [[0, row, 0] for row in range(1, 1000)]
    assert len(near_pairs(hashes, 16, hashes)) == 0


@pytest.mark.parametrize(("n", "radius"), [(2, 24), (1000, 24), (10_000, 18), (1_000_000, 12)])
def test_guaranteed_radius(n, radius):
    assert guaranteed_radius(n) == radius


def test_the_guarantee_holds_where_it_is_smaller_than_the_radius():
    rng = np.random.default_rng(5)
    n, pairs = 30_000, 1500
    hashes = random_hashes(rng, n)
    counts = 1 + np.arange(pairs) % RADIUS
    hashes[pairs : 2 * pairs] = flip(rng, hashes[:pairs], counts)
    found = {(first, second): bits for first, second, bits in near_pairs(hashes).tolist()}
    assert all(bits == counts[first] and second == first + pairs for (first, second), bits in found.items())
    kept = np.array([(row, row + pairs) in found for row in range(pairs)])
    assert guaranteed_radius(n) < RADIUS
    assert kept[counts <= guaranteed_radius(n)].all()
    assert kept[counts > guaranteed_radius(n)].mean() > 0.8


@pytest.mark.parametrize("left_out", [0, 7, 24])
def test_bits_spread_over_all_bands_but_one_hide_no_pair(left_out):
    """The worst case of the guarantee: as many bits differ as it covers, each in a band of its own."""
    hashes = random_hashes(np.random.default_rng(left_out), 200)
    bands = np.array_split(np.random.default_rng(2012).permutation(BITS), guaranteed_radius(200) + 1)
    bits = np.unpackbits(hashes[:1].view(np.uint8), axis=1)
    bits[0, [band[0] for i, band in enumerate(bands) if i != left_out]] ^= 1
    hashes[150] = np.packbits(bits, axis=1).view(np.uint64)
    assert near_pairs(hashes).tolist() == [[0, 150, 24]]


@pytest.mark.parametrize("width", [1, 10, 32, 40])
def test_keys_of_few_hashes_are_those_of_many(monkeypatch, width):
    rng = np.random.default_rng(width)
    hashes, bits = rng.integers(0, 2**63, (50, 4), dtype=np.uint64), rng.permutation(256)[:width]
    at_once = module._keys(hashes, bits)
    assert len(np.unique(at_once)) > (30 if width > 1 else 1)
    monkeypatch.setattr(module, "_AT_ONCE", 0)
    one_by_one = module._keys(hashes, bits)
    assert one_by_one.dtype == at_once.dtype and (one_by_one == at_once).all()


def test_thousands_in_one_band_take_bounded_work(monkeypatch):
    """Thousands agree on half of all bits, as on all bands but the few that the other half reaches."""
    rng = np.random.default_rng(7)
    n = 4500
    bits = rng.integers(0, 2, (n, BITS), dtype=np.uint8)
    shuffle = np.random.default_rng(2012).permutation(BITS)
    bits[:, shuffle[:128]] = 0
    hashes = np.packbits(bits, axis=1).view(np.uint64)
    same, near = np.arange(0, n, 3), np.arange(1, n, 300)
    hashes[same] = hashes[0]
    hashes[near + 1] = flip(rng, hashes[near], [3] * len(near))
    compared = []
    monkeypatch.setattr(module, "BUCKET", 128)
    monkeypatch.setattr(
        module, "distance", lambda first, second: compared.append(len(first)) or distance(first, second)
    )
    found = near_pairs(hashes)
    distinct = n - len(same) + 1
    assert guaranteed_radius(distinct) + 1 == 23 and max(compared) <= module._CHUNK + module.BUCKET
    # Half of the bands are one bucket of all, and each image is compared with no more than BUCKET in it.
    assert 0.9 * 11 * distinct * module.BUCKET < sum(compared) < 13 * distinct * module.BUCKET
    expected = {(0, row) for row in same[1:]} | {(row, row + 1) for row in near}
    assert {(first, second) for first, second, _ in found.tolist()} == expected


def test_a_full_bucket_may_drop_pairs_but_keeps_its_chain(monkeypatch):
    """What the cap loses: of 60 hashes near one another, a bucket of 4 compares each with the next 4."""
    monkeypatch.setattr(module, "BUCKET", 4)
    rng = np.random.default_rng(8)
    hashes = flip(rng, random_hashes(rng, 1).repeat(60, axis=0), [2] * 60)
    assert len(np.unique(hashes, axis=0)) == 60
    found = near_pairs(hashes)
    assert 60 <= len(found) < 60 * 59 // 2
    assert (components(60, found[:, :2]) == 0).all()


def test_the_place_of_the_work_changes_nothing():
    rng = np.random.default_rng(11)
    hashes = planted(rng, 400, 30, 20)
    expected = near_pairs(hashes)
    calls = []

    def elsewhere(function, tasks):
        calls.append(len(tasks))
        return Parallel(n_jobs=2)(delayed(function)(*task) for task in tasks)

    def threads(function, tasks):
        with ThreadPoolExecutor(3) as pool:
            return list(pool.map(lambda task: function(*task), tasks))

    assert len(expected) > 50
    np.testing.assert_array_equal(near_pairs(hashes, run=elsewhere), expected)
    np.testing.assert_array_equal(near_pairs(hashes, run=threads), expected)
    assert calls == [guaranteed_radius(400) + 1]
