"""Find images that are shifted, cropped, turned or padded copies: an index that tolerates the move.

Local descriptors (SIFT, Lowe 2004, in the Hellinger form of Arandjelovic and Zisserman 2012) are pooled to
one vector an image (VLAD, Jegou 2010, whitened), and an index (`leakfree.audit.copies.vectors`) gives each
image's nearest neighbours. Chest X-rays look alike, so a neighbour is a candidate and no more: its
descriptors must agree on one affine map, and then its pixels (`leakfree.audit.copies.alignment`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from leakfree.audit.copies.vectors import near_vectors

#: Side of the square that keypoints are taken from, in pixels.
SIDE = 128
#: Strongest keypoints kept for each image.
KEYPOINTS = 80
#: Neighbours looked up for each image.
NEIGHBOURS = 10
#: Up to so many images, all are compared with all: seconds, and no copy is lost for being too unlike.
EXACT = 30_000
#: Keypoints that must agree on one affine map before pixels are compared. Measured on 150 real images: copies
#: turned by 5 degrees, padded, shifted or cropped agree on 21 or more.
INLIERS = 12
#: Pixels by which a keypoint may miss the map.
TOLERANCE = 3.0
#: Lowe's ratio: the best match must be this much nearer than the second.
RATIO = 0.8
_WORDS, _REDUCED, _DIMENSIONS = 64, 32, 128
_SCALE = 512.0  # Hellinger SIFT values, in [0, 1] and mostly under 0.5, as bytes
_local = threading.local()


@dataclass(frozen=True)
class Keypoints:
    """Keypoints of one image.

    Attributes
    ----------
    points : numpy.ndarray of float32, shape (k, 2)
        x and y on the square of `SIDE` pixels.
    descriptors : numpy.ndarray of uint8, shape (k, 128)
    """

    points: np.ndarray
    descriptors: np.ndarray

    def unit(self) -> np.ndarray:
        """Descriptors as float32 of unit length."""
        values = self.descriptors.astype(np.float32)
        return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1.0)


def detect(square: np.ndarray) -> Keypoints:
    """Find the keypoints of an image, uint8 (128, 128)."""
    if not hasattr(_local, "sift"):
        cv2.setNumThreads(1)  # images are spread over threads already
        _local.sift = cv2.SIFT_create(  # type: ignore[attr-defined]  # not in the stubs
            nfeatures=KEYPOINTS, contrastThreshold=0.02
        )
    found, descriptors = _local.sift.detectAndCompute(square, None)
    if descriptors is None:
        return Keypoints(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8))
    points = np.array([point.pt for point in found[:KEYPOINTS]], dtype=np.float32)
    share = descriptors[:KEYPOINTS] / np.maximum(descriptors[:KEYPOINTS].sum(axis=1, keepdims=True), 1e-9)
    return Keypoints(points, np.minimum(np.rint(np.sqrt(share) * _SCALE), 255).astype(np.uint8))


def match(first: Keypoints, second: Keypoints) -> tuple[int, np.ndarray] | None:
    """Find the affine map that most matched keypoints agree on.

    Returns
    -------
    (int, numpy.ndarray of float64, shape (2, 3)) or None
        Number of keypoints that agree, and the map from `second` to `first` on the square; None if there is
        no plausible one: scale between 0.6 and 1.7 on each axis, no mirror image.
    """
    similarity = first.unit() @ second.unit().T
    if min(similarity.shape) < INLIERS:
        return None
    to_second, to_first = similarity.argmax(axis=1), similarity.argmax(axis=0)
    best = np.partition(similarity, -2, axis=1)[:, -2:]
    mutual = to_first[to_second] == np.arange(len(to_second))
    kept = mutual & (1.0 - best[:, 1] < RATIO**2 * (1.0 - best[:, 0]))
    if kept.sum() < INLIERS:
        return None
    # Its RANSAC has random numbers of its own, the same for every call and in every thread.
    affine, inliers = cv2.estimateAffine2D(
        second.points[to_second[kept]], first.points[kept], ransacReprojThreshold=TOLERANCE
    )
    if affine is None or not np.isfinite(affine).all():
        return None
    scales = np.linalg.svd(affine[:, :2], compute_uv=False)
    if np.linalg.det(affine[:, :2]) <= 0 or scales[0] > 1.7 or scales[1] < 0.6:
        return None
    count = int(inliers.sum())
    return (count, affine) if count >= INLIERS else None


def embed(images: Sequence[Keypoints], seed: int = 0) -> np.ndarray:
    """Pool each image's descriptors to one unit vector; the vocabulary is learnt from these images.

    Returns
    -------
    numpy.ndarray of float32, shape (n, 128) or narrower for few images
        Zero for an image without keypoints.
    """
    import faiss

    rng = np.random.default_rng(seed)
    with_points = np.flatnonzero([len(image.points) > 0 for image in images])
    if len(with_points) == 0:
        return np.zeros((len(images), 1), dtype=np.float32)
    few = rng.permutation(with_points)[:1000]
    sample = np.concatenate([images[i].unit() for i in few])
    sample = sample[rng.permutation(len(sample))[:30000]]
    centre = sample.mean(axis=0)
    axes = np.linalg.svd(sample - centre, full_matrices=False)[2][:_REDUCED].T
    reduced = np.ascontiguousarray((sample - centre) @ axes, dtype=np.float32)
    words = faiss.Kmeans(
        reduced.shape[1],
        min(_WORDS, len(reduced)),
        niter=10,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=1000,
    )
    words.train(reduced)
    centroids = words.centroids
    assert centroids is not None  # trained just now
    pooled = np.zeros((len(images), centroids.size), dtype=np.float32)
    for i in with_points.tolist():
        pooled[i] = _pool((images[i].unit() - centre) @ axes, centroids)
    vectors = _whiten(pooled, with_points[rng.permutation(len(with_points))[:3000]])
    vectors[[len(image.points) == 0 for image in images]] = 0.0
    return vectors


def _pool(descriptors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    word = (descriptors @ centroids.T - 0.5 * (centroids**2).sum(axis=1)).argmax(axis=1)
    pooled = np.zeros_like(centroids)
    np.add.at(pooled, word, descriptors - centroids[word])
    pooled /= np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-9)
    return (pooled / max(np.linalg.norm(pooled), 1e-9)).reshape(-1)


def _whiten(pooled: np.ndarray, rows: np.ndarray) -> np.ndarray:
    centre = pooled[rows].mean(axis=0)
    # The right singular vectors of the sample, through the smaller of the two Gram matrices.
    centred = (pooled[rows] - centre).astype(np.float64)
    if len(rows) < centred.shape[1]:
        values, vectors = np.linalg.eigh(centred @ centred.T)
        axes = centred.T @ (vectors / np.sqrt(np.maximum(values, 1e-12)))
    else:
        values, axes = np.linalg.eigh(centred.T @ centred)
    kept = np.argsort(values)[::-1][:_DIMENSIONS]
    kept = kept[values[kept] > 1e-6 * max(values.max(), 1e-12)]
    if len(kept) == 0:
        return np.zeros((len(pooled), 1), dtype=np.float32)
    scale = 1.0 / np.sqrt(values[kept] + 1e-4 * values.max())
    white = (pooled - centre) @ (axes[:, kept] * scale).astype(np.float32)
    return (white / np.maximum(np.linalg.norm(white, axis=1, keepdims=True), 1e-9)).astype(np.float32)


def neighbours(vectors: np.ndarray, k: int = NEIGHBOURS, jobs: int = 2) -> np.ndarray:
    """List each vector's nearest neighbours as pairs.

    Parameters
    ----------
    vectors : numpy.ndarray of float32, shape (n, d)
        Of unit length.
    k : int
        Neighbours of each, at most: beyond `EXACT` vectors, only those that are as near as most copies.
    jobs : int
        Threads.

    Returns
    -------
    numpy.ndarray of int64, shape (m, 2)
        ``first < second``, sorted, each pair once.
    """
    import faiss

    n = len(vectors)
    if n < 2:
        return np.empty((0, 2), dtype=np.int64)
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if n > EXACT:
        return near_vectors(vectors, k, jobs)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    found = index.search(vectors, min(k + 1, n))[1].astype(np.int64)
    first = np.repeat(np.arange(n), found.shape[1])
    second = found.reshape(-1)
    kept = (second >= 0) & (second != first)
    pairs = np.column_stack([np.minimum(first, second)[kept], np.maximum(first, second)[kept]])
    return np.unique(pairs, axis=0)
