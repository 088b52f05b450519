"""Who is on both sides of a split that knows no patients: exactly in the mean, and by chance around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from leakfree.audit.checks.overlap import expected_overlap

#: Random splits that the ranges are taken from.
SPLITS = 1000


@dataclass(frozen=True)
class PlainSplit:
    """What a simple random split of the images does.

    Attributes
    ----------
    images, test_images : int
    groups : float
        Expected number of groups, or patients, in both parts.
    share : float
        Expected share of the test images that have another image of their group in training.
    low, high : float
        Range of this share that holds 95 % of the splits.
    """

    images: int
    test_images: int
    groups: float
    share: float
    low: float
    high: float


def plain_split(groups: np.ndarray, test_share: float, *, splits: int = SPLITS, seed: int = 0) -> PlainSplit:
    """Expect who is on both sides of a plain split.

    Parameters
    ----------
    groups : numpy.ndarray, shape (n,)
        Linked group, or patient, of each image.
    test_share : float
        Share of the images that test.
    splits : int
        Random splits for the range; the mean is exact.
    seed : int
        Of these splits.

    Raises
    ------
    ValueError
        If one of the parts would be empty.

    Examples
    --------
    >>> round(plain_split(np.array([0, 0, 1, 1]), 0.5).share, 3)
    0.667
    """
    n = len(groups)
    n_test = round(n * test_share)
    if not 0 < n_test < n:
        raise ValueError(f"a test share of {test_share:g} of {n} images leaves a part empty")
    shared, share = expected_overlap(groups, n_test)
    sizes = pd.Series(groups).value_counts(sort=False).to_numpy()
    # Groups of one image are never on both sides: they are drawn as one.
    several = np.sort(sizes[sizes > 1])
    rest = int(sizes[sizes == 1].sum())
    rng = np.random.default_rng(seed)
    drawn = rng.multivariate_hypergeometric([*several, rest], n_test, size=splits, method="marginals")
    inside = drawn[:, :-1]
    both = (inside > 0) & (inside < several)
    low, high = np.quantile((inside * both).sum(axis=1) / n_test, [0.025, 0.975])
    return PlainSplit(n, n_test, shared, share, float(low), float(high))
