"""Do two images show the same picture? Decided on the pixels, after one is laid over the other."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from leakfree.audit.copies.hashes import SYMMETRIES
from leakfree.audit.copies.keypoints import SIDE

#: Side of the squares that are compared, in pixels.
DETAIL = 224
#: Correlation from which two aligned images are called copies. `benchmarks/agreement.py` measures, on real
#: images, how far copies of every kind lie above it and the nearest images that are no copies below it.
AGREEMENT = 0.90
#: Part of the square that must overlap.
OVERLAP = 0.5
#: Worth refining: an alignment that begins below this, on small squares, is left as it is.
_PROMISING = 0.6
#: Worth a second look, at what was not painted over and without the local contrast.
_HIDDEN = 0.3
#: Grey levels between the darkest and the brightest of 7 x 7 pixels, up to which they are painted.
_PAINTED = 6
#: Standard deviations in pixels of the two blurs whose difference is compared, and of those that align.
#: Detail decides: two exposures seconds apart agree in everything that is coarser.
_COMPARED, _ALIGNED = (1.0, 2.5), (1.0, 5.0)


def to_square(grey: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Squash a grey image, uint8 (h, w), to a square."""
    shrinks = grey.shape[0] >= side and grey.shape[1] >= side
    return cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def turned(square: np.ndarray, symmetry: str | None, *, inverted: bool = False) -> np.ndarray:
    """Apply a symmetry of `leakfree.audit.copies.hashes.SYMMETRIES`, and invert the grey values."""
    transposed, mirrored, flipped = SYMMETRIES[symmetry] if symmetry else (False, False, False)
    square = square.T if transposed else square
    square = square[:, ::-1] if mirrored else square
    square = square[::-1] if flipped else square
    return np.ascontiguousarray(255 - square if inverted else square)


def agreement(
    first: np.ndarray,
    second: np.ndarray,
    affine: np.ndarray | None = None,
    common: Callable[[], np.ndarray | None] | None = None,
) -> float:
    """Correlate two images where they overlap, after alignment.

    Compared are differences of two Gaussian blurs: broad shading, which all chest X-rays share, and the
    finest detail, which JPEG loses, are left out. The first estimate of the map is refined on smaller
    squares by maximising the enhanced correlation coefficient (Evangelidis and Psarakis, 2008). Where that is
    not enough, places that are painted in one image alone are left out, and the local contrast is.

    Parameters
    ----------
    first, second : numpy.ndarray of uint8, shape (side, side)
        The threshold `AGREEMENT` holds for a side of `DETAIL`.
    affine : numpy.ndarray, shape (2, 3), optional
        Map from `second` to `first` on squares of `leakfree.audit.copies.keypoints.SIDE`; without it they are
        compared as they lie, refined by a small move.
    common : callable, optional
        Gives what many images have in common with `first`, float32 (side, side), or None. It is asked where
        the two agree, and what only agrees by it does not count.

    Returns
    -------
    float
        Correlation in [-1, 1]; 0 where too little overlaps or nothing varies.
    """
    start = np.eye(2, 3) if affine is None else np.asarray(affine, dtype=np.float64)
    small = to_square(first), to_square(second)
    side = first.shape[0]
    maps = [_scaled(start, side)]
    best = (_correlation(first, second, maps[0], _COMPARED), maps[0], False)
    begins = _correlation(*small, start, _ALIGNED)
    if best[0] < 0.99 and begins >= _PROMISING:
        inverse = cv2.invertAffineTransform(start).astype(np.float32)
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-5)
        ours, theirs = (_band(square, _ALIGNED) for square in small)
        try:
            _, refined = cv2.findTransformECC(ours, theirs, inverse, cv2.MOTION_AFFINE, criteria, None, 3)  # type: ignore[call-overload]  # no mask
            refined = _scaled(cv2.invertAffineTransform(refined.astype(np.float64)), side)
            maps.append(refined)
            best = max(best, (_correlation(first, second, refined, _COMPARED), refined, False), key=_value)
        except cv2.error:  # did not converge: the first estimate stands
            pass
    if _HIDDEN <= best[0] < AGREEMENT:
        for laid in maps:
            value = _correlation(first, second, laid, _COMPARED, hidden=True)
            best = max(best, (value, laid, True), key=_value)
    value, laid, hidden = best
    if value >= AGREEMENT and common is not None and (picture := common()) is not None:
        left = _correlation(first, second, laid, _COMPARED, hidden=hidden, common=picture)
        value = value if left >= AGREEMENT else left
    return value


def _value(found: tuple[float, np.ndarray, bool]) -> float:
    return found[0]


def _scaled(affine: np.ndarray, side: int) -> np.ndarray:
    """Carry a map from squares of `SIDE` over to squares of another side, pixel centres to pixel centres."""
    scale = side / SIDE
    centre = np.full(2, (scale - 1) / 2)
    moved = affine.copy()
    moved[:, 2] = affine[:, 2] * scale + centre - affine[:, :2] @ centre
    return moved


def _band(square: np.ndarray, sigmas: tuple[float, float]) -> np.ndarray:
    """Difference of two blurs."""
    pixels = square.astype(np.float32)
    fine, coarse = (cv2.GaussianBlur(pixels, (0, 0), sigma) for sigma in sigmas)
    return fine - coarse


def _bands(
    squares: tuple[np.ndarray, ...], weight: np.ndarray, sigmas: tuple[float, float]
) -> list[np.ndarray]:
    """Difference of two blurs of each square, of what has weight alone: `weight` in [0, 1] for each pixel."""
    shares = [np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-3) for sigma in sigmas]
    found = []
    for square in squares:
        pixels = square.astype(np.float32) * weight
        fine, coarse = (
            cv2.GaussianBlur(pixels, (0, 0), sigma) / share
            for sigma, share in zip(sigmas, shares, strict=True)
        )
        found.append(fine - coarse)
    return found


def _painted(square: np.ndarray) -> np.ndarray:
    """Tell which pixels, uint8 (side, side), stand on a plain patch."""
    window = np.ones((7, 7), dtype=np.uint8)
    plain = (cv2.subtract(cv2.dilate(square, window), cv2.erode(square, window)) <= _PAINTED).astype(np.uint8)
    return cv2.dilate(cv2.morphologyEx(plain, cv2.MORPH_OPEN, window), window) > 0


def _even(band: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Divide a band by its own strength nearby: a gamma, a window and CLAHE change little else."""
    share = np.maximum(cv2.GaussianBlur(weight, (0, 0), 8), 1e-3)
    return band / (np.sqrt(cv2.GaussianBlur(band * band * weight, (0, 0), 8) / share) + 1)


def _correlation(
    first: np.ndarray,
    second: np.ndarray,
    affine: np.ndarray,
    sigmas: tuple[float, float],
    *,
    hidden: bool = False,
    common: np.ndarray | None = None,
) -> float:
    side = first.shape[0]
    laid = cv2.warpAffine(second, affine, (side, side), flags=cv2.INTER_LINEAR)
    covered = cv2.warpAffine(np.full((side, side), 255, np.uint8), affine, (side, side))
    if hidden:
        covered[_painted(first) != _painted(laid)] = 0
    margin = np.ones((2 * (side // 32) + 1,) * 2, dtype=np.uint8)
    inside = cv2.erode(covered, margin, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 250
    if inside.mean() < OVERLAP:
        return 0.0
    # Blurs see what both images show, and nothing beyond it.
    weight = inside.astype(np.float32)
    shown = (first, laid) if common is None else (first, laid, common)
    bands = _bands(shown, weight, sigmas)
    spread = float(
        np.sqrt(np.prod([np.square(band[inside] - band[inside].mean()).sum() for band in bands[:2]]))
    )
    # The variance of rounding to grey levels is 1/12: what varies no more agrees with anything.
    if spread < 0.1 * inside.sum():
        return 0.0
    if hidden:
        bands = [_even(band, weight) for band in bands]
    x, y, *shared = (band[inside] - band[inside].mean() for band in bands)
    for z in shared:
        norm = float((z * z).sum()) or 1.0
        x, y = x - (x @ z) / norm * z, y - (y @ z) / norm * z
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum() / scale) if scale > 0 else 0.0
