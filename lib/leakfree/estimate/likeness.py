"""How well the patient of an image can be read from it: retrieval and verification, from vectors of images.

Nothing is fitted: the vectors are compared as they are, by their Euclidean distance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import hypergeom
from threadpoolctl import threadpool_limits

#: The second of the two ranks of retrieval; the first is 1.
RANK = 20
#: Nearest images that are looked at for `Likeness.found`: of those further away none is reached.
_DEPTH = 64
#: Images that ask at once, and pairs of images of different groups that verification compares with.
_BLOCK, _PAIRS = 512, 200_000
#: Images that ask, at most: of more a random sample does.
MOST_QUERIES = 4000
_LEVEL = 0.95


@dataclass(frozen=True)
class Measured:
    """A share or an area with its interval over groups.

    Attributes
    ----------
    estimate, low, high : float
        NaN where nothing can be measured.
    """

    estimate: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether there was anything to measure."""
        return bool(np.isfinite(self.estimate))


@dataclass(frozen=True)
class Likeness:
    """How alike the images of one group are, beside those of others.

    Attributes
    ----------
    images, groups : int
        In all.
    asking, asking_groups : int
        Images that were asked for another image of their group, and their groups: those with several.
    rank_1, rank_20 : Measured
        Share of these whose nearest image, or one of the twenty nearest, is of their group.
    chance_1, chance_20 : float
        The same if images were ranked at random.
    verification : Measured
        ROC AUC: pairs of one group against pairs of two groups with one label. Each asking image counts once.
    found : Measured
        Share of all images whose nearest training image is of their group, expected over plain random
        splits.
    """

    images: int
    groups: int
    asking: int
    asking_groups: int
    rank_1: Measured
    rank_20: Measured
    chance_1: float
    chance_20: float
    verification: Measured
    found: Measured


def likeness(
    groups: np.ndarray,
    vectors: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    test_share: float = 0.2,
    resamples: int = 1000,
    seed: int = 0,
) -> Likeness:
    """Measure how well images of one group find each other.

    Parameters
    ----------
    groups : numpy.ndarray, shape (n,)
        Linked group, or patient, of each image.
    vectors : numpy.ndarray, shape (n, ...)
        What is compared: grey levels, or an embedding.
    labels : numpy.ndarray, shape (n,), optional
        Verification compares with pairs of one label only, so that a label alone verifies nobody.
    test_share : float
        Of the plain splits of `Likeness.found`.
    resamples : int
        Bootstrap resamples over groups.
    seed : int
        Of the sample of images that ask, of pairs, and of the bootstrap.

    Raises
    ------
    ValueError
        If there are fewer than two images, lengths differ, or a vector is not finite.

    Examples
    --------
    >>> groups = np.array([0, 0, 1, 1])
    >>> found = likeness(groups, np.array([[0.0], [0.1], [5.0], [5.1]]), resamples=10)
    >>> found.rank_1.estimate, round(found.chance_1, 3)
    (1.0, 0.333)
    """
    n = len(groups)
    if n < 2 or len(vectors) != n or not 0 < test_share < 1:
        raise ValueError(f"{n} images, {len(vectors)} vectors, test share {test_share}")
    values = np.asarray(vectors).reshape(n, -1).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("vectors are not finite")
    values -= values.mean(axis=0, dtype=np.float64).astype(np.float32)
    codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(codes)
    rng = np.random.default_rng(seed)
    queries = np.arange(n)
    if n > MOST_QUERIES:
        queries = np.sort(rng.choice(n, MOST_QUERIES, replace=False))
    impostors = _impostors(values, codes, labels, rng)
    nearest = np.full(len(queries), n)
    reached, wins = np.zeros(len(queries)), np.full(len(queries), np.nan)
    depth = min(_DEPTH, n - 1)
    weight = (1 - test_share) * test_share ** np.arange(depth)
    start = 0
    for rows, distance in _distances(values, queries):
        same = codes[rows][:, None] == codes[None, :]
        here = np.arange(len(rows))
        same[here, rows] = False
        distance[here, rows] = np.inf
        closest = np.where(same, distance, np.inf).min(axis=1)
        # What is as near comes before it: an image is not found by a tie.
        nearer = (distance <= closest[:, None]) & ~same
        nearer[here, rows] = False
        block = slice(start, start + len(rows))
        nearest[block] = nearer.sum(axis=1)
        top = np.argpartition(distance, depth - 1, axis=1)[:, :depth]
        order = np.argsort(np.take_along_axis(distance, top, axis=1), axis=1, kind="stable")
        top = np.take_along_axis(top, order, axis=1)
        reached[block] = np.take_along_axis(same, top, axis=1) @ weight
        if impostors.size:
            wins[block] = [_further(impostors, row[mine]) for row, mine in zip(distance, same, strict=True)]
        start += len(rows)
    several = sizes[codes[queries]] > 1
    asking = codes[queries[several]]
    s = sizes[asking]
    nan = float("nan")
    every = codes[queries]
    return Likeness(
        images=n,
        groups=len(sizes),
        asking=int(several.sum()),
        asking_groups=len(np.unique(asking)),
        rank_1=_over_groups(nearest[several] < 1, asking, resamples, seed),
        rank_20=_over_groups(nearest[several] < RANK, asking, resamples, seed),
        chance_1=float(((s - 1) / (n - 1)).mean()) if len(s) else nan,
        chance_20=float(hypergeom.sf(0, n - 1, s - 1, min(RANK, n - 1)).mean()) if len(s) else nan,
        verification=_over_groups(wins[several], asking, resamples, seed),
        found=_over_groups(reached, every, resamples, seed),
    )


def _distances(values: np.ndarray, queries: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows that ask and their squared distances to all images, block by block."""
    square = np.einsum("ij,ij->i", values, values)
    with threadpool_limits(1, user_api="blas"):
        for start in range(0, len(queries), _BLOCK):
            rows = queries[start : start + _BLOCK]
            distance = square[rows][:, None] + square[None, :] - 2 * (values[rows] @ values.T)
            yield rows, np.maximum(distance, 0)


def _impostors(
    values: np.ndarray, codes: np.ndarray, labels: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    """Return sorted squared distances of random pairs of two groups that have one label."""
    one, two = rng.integers(len(codes), size=(2, _PAIRS))
    apart = codes[one] != codes[two]
    if labels is not None:
        named = np.unique(np.asarray(labels).astype(str), return_inverse=True)[1].reshape(-1)
        apart &= named[one] == named[two]
    # Of few images the same pair is drawn often: it is measured once.
    drawn = np.minimum(one, two)[apart] * len(codes) + np.maximum(one, two)[apart]
    pairs, place = np.unique(drawn, return_inverse=True)
    one, two = np.divmod(pairs, len(codes))
    found = [
        ((values[one[at : at + 20_000]] - values[two[at : at + 20_000]]) ** 2).sum(axis=1)
        for at in range(0, len(one), 20_000)
    ]
    return np.sort(np.concatenate(found)[place]) if found else np.empty(0, dtype=np.float32)


def _further(impostors: np.ndarray, distance: np.ndarray) -> float:
    """Return the share of pairs of two groups that are further apart than these; a tie is one half."""
    if not len(distance):
        return float("nan")
    places = (np.searchsorted(impostors, distance, side) for side in ("left", "right"))
    return float(1 - sum(place.mean() for place in places) / 2 / len(impostors))


def _over_groups(values: np.ndarray, groups: np.ndarray, resamples: int, seed: int) -> Measured:
    """Return the mean of values with a percentile bootstrap that draws whole groups."""
    nan = float("nan")
    if not len(values) or np.isnan(values).all():
        return Measured(nan, nan, nan)
    codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
    totals = np.bincount(codes, weights=values.astype(np.float64))
    counts = np.bincount(codes).astype(np.float64)
    estimate = float(totals.sum() / counts.sum())
    if len(counts) < 2:
        return Measured(estimate, nan, nan)
    drawn = np.random.default_rng([seed, 1]).integers(len(counts), size=(resamples, len(counts)))
    means = totals[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Measured(estimate, float(low), float(high))
