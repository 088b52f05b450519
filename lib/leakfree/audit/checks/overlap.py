"""Overlap of patients (or any groups) between two parts: observed, and expected of a random split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Overlap:
    """Groups on both sides of a split.

    Attributes
    ----------
    shared : int
        Groups with images in both parts.
    test_groups : int
        Groups with images in the test part.
    test_images_with_sibling : int
        Test images whose group also has a training image.
    test_images : int
        Images of the test part.
    """

    shared: int
    test_groups: int
    test_images_with_sibling: int
    test_images: int

    @property
    def share_of_images(self) -> float:
        """Fraction of test images whose patient also trains."""
        return self.test_images_with_sibling / self.test_images if self.test_images else float("nan")


def overlap(train: np.ndarray, test: np.ndarray) -> Overlap:
    """Count the groups that stand in both parts.

    Parameters
    ----------
    train, test : numpy.ndarray, shapes (n_train,) and (n_test,)
        Group of each image.
    """
    shared = np.intersect1d(train, test)
    return Overlap(
        shared=len(shared),
        test_groups=len(np.unique(test)),
        test_images_with_sibling=int(np.isin(test, shared).sum()),
        test_images=len(test),
    )


def expected_overlap(groups: np.ndarray, n_test: int) -> tuple[float, float]:
    """Expect the overlap of a simple random image-level split.

    A group of s of the n images stands in both parts unless all of it falls into one, which is
    hypergeometric: P(all s in test) = C(n - s, n_test - s) / C(n, n_test), and likewise for training.

    Parameters
    ----------
    groups : numpy.ndarray, shape (n,)
        Group of each image.
    n_test : int
        Images in the test part.

    Returns
    -------
    shared : float
        Expected number of groups in both parts.
    share_of_images : float
        Expected fraction of test images whose patient also trains.
    """
    from scipy.stats import hypergeom  # half a second that an audit of a given split need not spend

    n = len(groups)
    sizes = pd.Series(groups).value_counts(sort=False).to_numpy()
    all_test = hypergeom.pmf(sizes, n, sizes, n_test)
    all_train = hypergeom.pmf(0, n, sizes, n_test)
    # A test image has nobody of its group in training when its whole group is in the test part.
    lonely = (sizes * all_test).sum()
    return float((1 - all_test - all_train).sum()), float(1 - lonely / n_test)


def repeat_image_level(
    ids: np.ndarray,
    groups: dict[str, np.ndarray],
    *,
    seeds: range,
    stratify: np.ndarray | None = None,
) -> pd.DataFrame:
    """Draw image-level 80/20 splits and count what each scope finds in both parts.

    Parameters
    ----------
    ids : numpy.ndarray of str, shape (n,)
        Image ids in cohort order.
    groups : dict of str to numpy.ndarray, shape (n,)
        Scope to the group of each image.
    seeds : range
        One split a seed.
    stratify : numpy.ndarray, optional
        Class of each image.

    Returns
    -------
    pandas.DataFrame
        ``split, scope, seed, shared, expected_shared, share_of_images, expected_share_of_images``; the
        expectation is that of a plain random split, also beside stratified draws.
    """
    from leakfree.split.manifest import image_level

    codes = {scope: pd.factorize(values)[0] for scope, values in groups.items()}
    expected: dict[tuple[str, int], tuple[float, float]] = {}
    rows = []
    for seed in seeds:
        manifest = image_level(ids, seed=seed, stratify=stratify)
        in_test = np.isin(ids, manifest.parts["test"])
        for scope, values in codes.items():
            found = overlap(values[~in_test], values[in_test])
            key = (scope, found.test_images)
            if key not in expected:
                expected[key] = expected_overlap(values, found.test_images)
            rows.append(
                {
                    "split": "plain" if stratify is None else "stratified",
                    "scope": scope,
                    "seed": seed,
                    "shared": found.shared,
                    "expected_shared": expected[key][0],
                    "share_of_images": found.share_of_images,
                    "expected_share_of_images": expected[key][1],
                }
            )
    return pd.DataFrame(rows)
