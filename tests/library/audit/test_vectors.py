import numpy as np
import pytest

from leakfree.audit.copies import vectors as module
from leakfree.audit.copies.keypoints import EXACT, neighbours
from leakfree.audit.copies.vectors import COSINE, near_vectors


def unit(rng, n, d=128):
    vectors = rng.standard_normal((n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def plant(rng, vectors, cosines):
    """Turn the second of each two rows, in a random order, to a cosine with the first."""
    rows = np.sort(rng.permutation(len(vectors))[: 2 * len(cosines)].reshape(-1, 2), axis=1)
    one, other = vectors[rows[:, 0]], vectors[rows[:, 1]]
    other = other - (one * other).sum(axis=1, keepdims=True) * one
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    cosines = cosines[:, None].astype(np.float32)
    vectors[rows[:, 1]] = cosines * one + np.sqrt(1 - cosines**2) * other
    return rows


def test_pairs_are_those_of_brute_force():
    rng = np.random.default_rng(0)
    vectors = unit(rng, 4000)
    rows = plant(rng, vectors, rng.uniform(0.3, 0.95, 1000))
    cosines = vectors @ vectors.T
    found = near_vectors(vectors, 10)
    assert (found[:, 0] < found[:, 1]).all() and len(np.unique(found, axis=0)) == len(found)
    assert found.tolist() == sorted(found.tolist())
    assert (cosines[found[:, 0], found[:, 1]] >= COSINE - 1e-5).all()
    pairs = set(map(tuple, found.tolist()))
    for least, share in ((0.6, 0.99), (0.7, 0.999)):
        near = np.argwhere(np.triu(cosines, 1) > least)
        assert len(near) > 300
        assert np.mean([tuple(pair) in pairs for pair in near.tolist()]) >= share
    assert np.isin(found, rows).mean() > 0.95  # hardly any other pair is as near


def test_threads_change_nothing(monkeypatch):
    monkeypatch.setattr(module, "TABLES", 6)
    rng = np.random.default_rng(1)
    vectors = unit(rng, 3000)
    plant(rng, vectors, np.full(300, 0.5))  # so far apart that chance decides
    expected = near_vectors(vectors, 10, jobs=1)
    assert 20 < len(expected) < 250
    np.testing.assert_array_equal(near_vectors(vectors, 10, jobs=4), expected)


def test_each_vector_keeps_its_nearest():
    rng = np.random.default_rng(2)
    vectors = unit(rng, 2500)
    for i, noise in enumerate((0.2, 0.3, 0.4, 0.5, 0.6, 0.7), start=1):
        vectors[i] = vectors[0] + noise * unit(rng, 1)[0]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors[:7] @ vectors[:7].T - 2 * np.eye(7)
    expected = {(min(i, j), max(i, j)) for i in range(7) for j in np.argsort(-cosines[i])[:2].tolist()}
    found = near_vectors(vectors, 2)
    assert set(map(tuple, found[(found < 7).all(axis=1)].tolist())) == expected
    assert len(expected) < len(near_vectors(vectors, 10))


def test_a_crowd_takes_bounded_work(monkeypatch):
    monkeypatch.setattr(module, "TABLES", 10)
    monkeypatch.setattr(module, "MOST", 3)
    rng = np.random.default_rng(3)
    vectors = unit(rng, 5000)
    vectors[:2000] = vectors[0]
    vectors[2000:2500] = 0.0  # images without keypoints
    found = near_vectors(vectors, 50)
    assert (found < 2000).all() and len(found) <= 3 * 2000
    assert len(np.unique(found)) == 2000


def test_opposite_vectors_share_no_cell():
    vectors = unit(np.random.default_rng(6), 500)
    cells = [module._cells(part, 12, np.random.default_rng(1)) for part in (vectors, -vectors)]
    assert (cells[0] != cells[1]).all() and max(cells[0].max(), cells[1].max()) < 2**12
    assert len(np.unique(cells[0])) > 400


@pytest.mark.parametrize("d", [1, 3, 20, 100])
def test_narrow_vectors(d, monkeypatch):
    monkeypatch.setattr(module, "TABLES", 20)
    vectors = unit(np.random.default_rng(4), 1100, d)
    vectors[1] = vectors[0]
    assert [0, 1] in near_vectors(vectors, 1500).tolist()


def test_many_vectors_go_through_the_index(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "leakfree.audit.copies.keypoints.near_vectors", lambda *arguments: calls.append(arguments)
    )
    vectors = unit(np.random.default_rng(5), EXACT + 1, 8)
    neighbours(vectors[:-1], 1)
    assert calls == []
    neighbours(vectors, 7, 3)
    assert len(calls) == 1 and calls[0][1:] == (7, 3) and len(calls[0][0]) == EXACT + 1
