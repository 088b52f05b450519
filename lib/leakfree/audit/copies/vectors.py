"""Find pairs of unit vectors with a large cosine, in time nearly proportional to their number.

Cross-polytope hashing (Andoni, Indyk, Laarhoven, Razenshteyn, Schmidt, NeurIPS 2015): after a random
rotation the largest coordinate and its sign name a cell, and near vectors share a cell more often than
others do. Each of `TABLES` tables has rotations of its own; vectors that share a cell are compared, first by
the signs of 128 random projections and then by their cosine. A graph index was measured beside it: the
vectors of images are whitened, so they lie in all directions alike, where graphs lose their way as n grows
(`benchmarks/hash_search.py` has both).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from leakfree.audit.copies.hashes import expand

#: Smallest cosine of a pair. Of real copies turned by 5 degrees, shifted or cropped by up to 10 %, 97 % and
#: more have it, of padded ones 78 % (`benchmarks/agreement.py`).
COSINE = 0.45
#: Tables: at a million vectors, 97 % of pairs with a cosine of 0.6 to 0.9 share a cell in one of them.
TABLES = 100
#: Vectors a cell, about, and the most that one vector is compared with in a cell.
CELL, MOST = 32, 128
#: Signs of 128 that may differ: a pair with a cosine of 0.6 differs in 38, give or take 5.
SIGNS = 52


def near_vectors(vectors: np.ndarray, k: int, jobs: int = 2) -> np.ndarray:
    """Find pairs with a cosine of at least `COSINE`, nearly all of those above 0.7.

    Parameters
    ----------
    vectors : numpy.ndarray of float32, shape (n, d)
        Of unit length, or zero.
    k : int
        Pairs of each vector that are kept, the nearest ones; a pair stays if either side keeps it.
    jobs : int
        Threads; they do not change the result.

    Returns
    -------
    numpy.ndarray of int64, shape (m, 2)
        ``first < second``, sorted, each pair once.
    """
    n = len(vectors)
    projection = np.random.default_rng(0).standard_normal((vectors.shape[1], 128), dtype=np.float32)
    signs = np.empty((2, n), dtype=np.uint64)
    for start in range(0, n, 1 << 16):
        above = vectors[start : start + (1 << 16)] @ projection > 0
        signs[:, start : start + (1 << 16)] = np.packbits(above, axis=1).view(np.uint64).T
    width = max(1, round(np.log2(max(n, 2) / CELL)))
    # One thread for each table: those of BLAS would get in their way.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(max(jobs, 1)) as pool:
        parts = pool.map(lambda table: _table(vectors, signs, width, table), range(TABLES))
        pairs, cosines = (np.concatenate(part) for part in zip(*parts, strict=True))
    pairs, index = np.unique(pairs[:, 0] * n + pairs[:, 1], return_index=True)
    pairs, cosines = np.column_stack([pairs // n, pairs % n]), cosines[index]
    return pairs[_nearest(pairs, cosines, k)]


def _nearest(pairs: np.ndarray, cosines: np.ndarray, k: int) -> np.ndarray:
    """Tell which pairs are among the k nearest of one of their two."""
    side, pair = pairs.T.reshape(-1), np.tile(np.arange(len(pairs)), 2)
    order = np.lexsort((pair, -cosines[pair], side))
    ordered = side[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    kept = np.zeros(len(pairs), dtype=bool)
    kept[pair[order[rank < k]]] = True
    return kept


def _table(vectors: np.ndarray, signs: np.ndarray, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Compare the vectors that share a cell: pairs int64 (m, 2) and their cosines."""
    cells = _cells(vectors, width, np.random.default_rng((2015, seed)))
    order = np.argsort(cells, kind="stable")
    ordered = cells[order]
    ends = np.r_[np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, len(ordered)]
    behind = np.repeat(ends, np.diff(ends, prepend=0)) - np.arange(1, len(ordered) + 1)
    pairs, cosines = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)]
    for position, other in expand(np.arange(1, len(order) + 1), np.minimum(behind, MOST), order):
        i = order[position]
        differing = sum(np.bitwise_count(word[i] ^ word[other]) for word in signs)
        close = np.flatnonzero(differing <= SIGNS)
        for start in range(0, len(close), 1 << 16):
            a, b = i[close[start : start + (1 << 16)]], other[close[start : start + (1 << 16)]]
            cosine = np.einsum("ij,ij->i", vectors[a], vectors[b])
            kept = cosine >= COSINE
            pairs.append(np.column_stack([np.minimum(a, b)[kept], np.maximum(a, b)[kept]]))
            cosines.append(cosine[kept])
    return np.concatenate(pairs), np.concatenate(cosines)


def _cells(vectors: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
    """Name each vector's cell, uint32 (n,): one of 2 to the `width`, or a few less in few dimensions."""
    dimensions = vectors.shape[1]
    most = int(np.log2(dimensions)) + 1
    rotations = []
    while width > 0:
        bits = min(width, most)
        rotation = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))[0]
        rotations.append(rotation[:, : 1 << (bits - 1)].astype(np.float32))
        width -= bits
    cells = np.zeros(len(vectors), dtype=np.uint32)
    for start in range(0, len(vectors), 1 << 14):
        block = vectors[start : start + (1 << 14)]
        rows, cell = np.arange(len(block)), np.zeros(len(block), dtype=np.uint32)
        for rotation in rotations:
            turned = block @ rotation
            highest, lowest = turned.argmax(axis=1), turned.argmin(axis=1)
            negative = -turned[rows, lowest] > turned[rows, highest]
            named = np.where(negative, 2 * lowest + 1, 2 * highest)
            cell = cell * np.uint32(2 * rotation.shape[1]) + named.astype(np.uint32)
        cells[start : start + (1 << 14)] = cell
    return cells
