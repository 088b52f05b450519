"""A space in which images of one patient are near: fitted on some patients, for others.

It is the cheapest of networks trained to tell patients: one linear layer on frozen features. Directions are
divided by their spread inside patients (linear discriminant analysis, with shrinkage).
"""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA

#: Principal components that the space is made in, and how much of an even spread is mixed in.
COMPONENTS, SHRINKAGE = 128, 0.1


def tuned(
    values: np.ndarray, groups: np.ndarray, *, seed: int = 0, components: int = COMPONENTS
) -> tuple[np.ndarray, np.ndarray]:
    """Fit the space on half of the patients, and move the images of the other half into it.

    Parameters
    ----------
    values : numpy.ndarray of float32, shape (n, d)
    groups : numpy.ndarray of int64, shape (n,)
        Patient of each image.
    seed : int
        Of the halves.
    components : int

    Returns
    -------
    rows : numpy.ndarray of int64, shape (m,)
        Images of the half that nothing was fitted on.
    moved : numpy.ndarray of float32, shape (m, k)
        These in the space.
    """
    codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
    drawn = np.random.default_rng(seed).permutation(codes.max() + 1)
    fitted = np.isin(codes, drawn[: len(drawn) // 2])
    kept = min(components, int(fitted.sum()) - 1, values.shape[1])
    # All directions to one spread first: the shrinkage would drown the quiet ones, which may be the
    # patient's.
    pca = PCA(kept, whiten=True, random_state=seed).fit(values[fitted])
    x, inside = pca.transform(values[fitted]), codes[fitted]
    sizes = np.bincount(inside)
    means = np.stack([np.bincount(inside, weights=column) for column in x.T], axis=1)
    off = x - (means / np.maximum(sizes, 1)[:, None])[inside]
    off = off[sizes[inside] > 1]
    within = off.T @ off / max(1, len(off) - int((sizes > 1).sum()))
    within = (1 - SHRINKAGE) * within + SHRINKAGE * np.trace(within) / len(within) * np.eye(len(within))
    spread, directions = np.linalg.eigh(within)
    rows = np.flatnonzero(~fitted)
    moved = pca.transform(values[rows]) @ (directions / np.sqrt(spread))
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    return rows, (moved / np.where(length > 0, length, 1)).astype(np.float32)
