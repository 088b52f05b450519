"""Perceptual hashes of images, and the search for pairs that differ in few bits.

The hash is the sign pattern of the 16 x 16 lowest DCT coefficients of a 64 x 64 thumbnail (Zauner, 2010,
section 3.2.1, with the sign in the place of the median). The sign makes it exact under symmetries: a
mirror image flips the signs of odd columns, a quarter turn transposes, inverted grey flips all signs, so the
hash of a turned image follows from the hash of the image, but for a coefficient that is zero up to rounding.

The search is multi-index hashing (Norouzi, Punjani, Fleet, CVPR 2012): two hashes that differ in r bits
agree on at least one of r + 1 disjoint bands, so equal bands are looked up by sorting. faiss has the same
idea as `IndexBinaryMultiHash`; `benchmarks/hash_search.py` runs both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import starmap

import numpy as np
from PIL import Image

#: Bits of a hash, as four 64-bit words. The constant coefficient's bit is always zero.
BITS = 256
#: Side of the thumbnail that is hashed, in pixels.
THUMBNAIL = 64
_BLOCK = 16
#: Bits in which a copy may differ. Measured on real images, the largest distance of 150 copies a kind: 11
#: re-encoded at quality 30, 7 halved in size, 4 inverted, 20 brightened by 25 %, 21 with contrast raised by
#: 30 %; of 17 million pairs of different images none is nearer than 38.
RADIUS = 24
#: Bits in which a turned, mirrored or inverted copy may differ: tighter, since fifteen times as many pairs
#: of images are looked at.
TURNED_RADIUS = 16
#: Hashes that one hash is compared with in one band, at most: a bound on the work where thousands of images
#: share a band, such as blank ones.
BUCKET = 512
_CHUNK = 1 << 21
#: Hashes below which all bits of a band are gathered at once: of many, one bit after the other is quicker.
_AT_ONCE = 1000
_ROUNDING = 0.05  # of a coefficient in float32; those of images are in the hundreds

#: Symmetries of the square: name to (transposed, mirrored left to right, flipped top to bottom), in the
#: order in which they are applied.
SYMMETRIES = {
    "mirrored": (False, True, False),
    "flipped": (False, False, True),
    "turned by 180": (False, True, True),
    "transposed": (True, False, False),
    "turned by 90": (True, False, True),
    "turned by 270": (True, True, False),
    "anti-transposed": (True, True, True),
}


def thumbnail(grey: Image.Image) -> Image.Image:
    """Squash a grey image to the thumbnail that is hashed."""
    return grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR, reducing_gap=3.0)


def image_hashes(thumbnails: np.ndarray) -> np.ndarray:
    """Hash images.

    Parameters
    ----------
    thumbnails : numpy.ndarray of uint8, shape (n, 64, 64)

    Returns
    -------
    numpy.ndarray of uint64, shape (n, 4)
    """
    place, order = np.arange(THUMBNAIL) + 0.5, np.arange(_BLOCK)
    basis = np.cos(np.pi / THUMBNAIL * np.outer(order, place)).astype(np.float32)
    hashes = np.empty((len(thumbnails), BITS // 64), dtype=np.uint64)
    for start in range(0, len(thumbnails), 1024):
        block = thumbnails[start : start + 1024].astype(np.float32)
        # The mean of 64 x 64 bytes is exact in float32: a flat image is zero, and inverted grey the negative.
        block -= block.mean(axis=(1, 2), keepdims=True, dtype=np.float64).astype(np.float32)
        signs = basis @ block @ basis.T > _ROUNDING
        signs[:, 0, 0] = False
        hashes[start : start + 1024] = _pack(signs)
    return hashes


def transform(hashes: np.ndarray, symmetry: str | None = None, *, inverted: bool = False) -> np.ndarray:
    """Return the hashes of the same images after a symmetry of `SYMMETRIES`, or with inverted grey."""
    transposed, mirrored, flipped = SYMMETRIES[symmetry] if symmetry else (False, False, False)
    signs = np.unpackbits(np.ascontiguousarray(hashes).view(np.uint8), axis=1).astype(bool)
    signs = signs.reshape(-1, _BLOCK, _BLOCK)
    if transposed:
        signs = signs.transpose(0, 2, 1)
    odd = np.arange(_BLOCK) % 2 == 1
    flip = np.zeros((_BLOCK, _BLOCK), dtype=bool)
    flip ^= mirrored & odd[None, :]
    flip ^= flipped & odd[:, None]
    flip ^= inverted
    flip[0, 0] = False
    return _pack(signs ^ flip)


def _pack(signs: np.ndarray) -> np.ndarray:
    return np.packbits(signs.reshape(len(signs), BITS), axis=1).view(np.uint64)


def distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Count differing bits of hashes (..., 4) with hashes (..., 4)."""
    return np.bitwise_count(first ^ second).sum(axis=-1, dtype=np.int64)


def guaranteed_radius(n: int) -> int:
    """Return the distance up to which `near_pairs` misses no pair of n different hashes.

    Bands have about log2(n) bits, so that a band is shared by few hashes by chance; fewer and wider bands
    guarantee less. Pairs further apart, up to the radius asked for, are found with falling probability.
    """
    width = max(10, int(np.ceil(np.log2(max(n, 2)))) - 1)
    return min(BITS // width - 1, RADIUS)


def near_pairs(
    hashes: np.ndarray,
    radius: int = RADIUS,
    queries: np.ndarray | None = None,
    run: Callable[[Callable, list[tuple]], Iterable[np.ndarray]] = starmap,
) -> np.ndarray:
    """Find pairs of hashes that differ in few bits.

    Parameters
    ----------
    hashes : numpy.ndarray of uint64, shape (n, 4)
    radius : int
        Most bits in which a pair may differ.
    queries : numpy.ndarray of uint64, shape (n, 4), optional
        Hashes of the same images after a symmetry: pairs are then sought between `queries` and `hashes`.
    run : callable
        Calls a function with each tuple of arguments, here or elsewhere: one task a band.

    Returns
    -------
    numpy.ndarray of int64, shape (m, 3)
        ``first < second`` and their distance, sorted. Of k identical hashes only the pairs with the first
        of them are listed, and only that first one is compared with the rest: enough to join clusters.
    """
    if len(hashes) < 2:
        return np.empty((0, 3), dtype=np.int64)
    owner, same = _first_of_identical(hashes)
    rows = np.flatnonzero(owner == np.arange(len(hashes)))
    found = []
    if queries is None:
        found.append(np.column_stack([same, np.zeros(len(same), dtype=np.int64)]))
    # A symmetry is a bijection: rows that are identical stay so.
    asked, asking = hashes[rows], None if queries is None else queries[rows]
    bands = min(guaranteed_radius(len(asked)), radius) + 1
    # Neighbouring coefficients are correlated: a shuffle spreads them over the bands.
    shuffle = np.random.default_rng(2012).permutation(BITS)
    tasks = [(asked, asking, bits, radius) for bits in np.array_split(shuffle, bands)]
    for pairs in run(band_pairs, tasks):
        found.append(np.column_stack([rows[pairs[:, 0]], rows[pairs[:, 1]], pairs[:, 2]]))
    pairs = np.concatenate(found)
    pairs = pairs[np.lexsort((pairs[:, 2], pairs[:, 1], pairs[:, 0]))]
    new = np.ones(len(pairs), dtype=bool)
    new[1:] = (pairs[1:, :2] != pairs[:-1, :2]).any(axis=1)
    return pairs[new]


def _first_of_identical(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row of the first identical hash for each row, and pairs (first, later) of identical ones."""
    order = np.lexsort(tuple(hashes[:, k] for k in range(hashes.shape[1])))
    ordered = hashes[order]
    starts = np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)]
    first = np.minimum.reduceat(order, np.flatnonzero(starts))
    owner = np.empty(len(hashes), dtype=np.int64)
    owner[order] = first[np.cumsum(starts) - 1]
    later = np.flatnonzero(owner != np.arange(len(hashes)))
    return owner, np.column_stack([owner[later], later])


def band_pairs(asked: np.ndarray, asking: np.ndarray | None, bits: np.ndarray, radius: int) -> np.ndarray:
    """Find the pairs that agree on one band of bits and differ in few bits altogether: int64 (m, 3)."""
    keys = _keys(asked, bits)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    if asking is None:
        # Each with those behind it in the order, so that no pair comes twice.
        ends = np.r_[np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, len(ordered)]
        end = np.repeat(ends, np.diff(ends, prepend=0))
        low, left = np.arange(1, len(ordered) + 1), order
        queries = asked
    else:
        wanted = _keys(asking, bits)
        low = np.searchsorted(ordered, wanted, side="left")
        end = np.searchsorted(ordered, wanted, side="right")
        left, queries = np.arange(len(asking)), asking
    found = []
    for position, other in expand(low, np.minimum(end - low, BUCKET), order):
        i = left[position]
        differing = distance(queries[i], asked[other])
        kept = np.flatnonzero((differing <= radius) & (i != other))
        i, j = i[kept], other[kept]
        found.append(np.column_stack([np.minimum(i, j), np.maximum(i, j), differing[kept]]))
    return np.concatenate(found) if found else np.empty((0, 3), dtype=np.int64)


def _keys(hashes: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Gather bits of each hash into one integer, uint32 of shape (n,)."""
    octets = np.ascontiguousarray(hashes).view(np.uint8)
    if len(hashes) < _AT_ONCE:
        values = (octets[:, bits // 8] >> (7 - bits % 8).astype(np.uint8)) & np.uint8(1)
        place = np.arange(len(bits), dtype=np.uint32)[::-1]
        return np.bitwise_or.reduce(values.astype(np.uint32) << place, axis=1)
    key = np.zeros(len(hashes), dtype=np.uint32)
    for bit in bits.tolist():
        key <<= np.uint32(1)
        key |= (octets[:, bit // 8] >> np.uint8(7 - bit % 8)) & np.uint8(1)
    return key


def expand(low: np.ndarray, count: np.ndarray, order: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Turn ranges of a sorted order into pairs of (position, row), a bounded number at a time."""
    total = np.r_[0, np.cumsum(count)]
    start = 0
    while start < len(count):
        end = max(int(np.searchsorted(total, total[start] + _CHUNK, side="right")) - 1, start + 1)
        n = count[start:end]
        if n.any():
            i = np.repeat(np.arange(start, end), n)
            within = np.arange(len(i)) - np.repeat(total[start:end] - total[start], n)
            yield i, order[np.repeat(low[start:end], n) + within]
        start = end
