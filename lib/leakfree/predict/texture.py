"""Has an image the fine structure of the training images? What is drawn, smoothed or blown up has another.

The power of an image in a few bands of frequency says how fine its grain is, whatever it shows. A drawing of
a chest may have all the outlines of an X-ray, which `leakfree.predict.novelty` looks at, and not its grain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

#: Edges of the bands in cycles a pixel; what is coarser is left to the novelty score.
EDGES = (0.02, 0.04, 0.08, 0.12, 0.17, 0.24, 0.33, 0.5)
#: Share of held-out images under the limit: with those over the novelty score's they are one in a hundred.
KEPT = 0.995
#: Training images for each band, at least.
_LEAST = 4
#: Standard deviation in grey levels under which an image is flat, and its noise is not blown up.
_FLAT = 8.0


@dataclass(frozen=True)
class Texture:
    """A normal distribution of the logarithms of power in the bands.

    Attributes
    ----------
    mean : numpy.ndarray of float64, shape (k,)
    precision : numpy.ndarray of float64, shape (k, k)
        Inverse of the covariance.
    limit : float
        Squared distance that a share `KEPT` of held-out images does not exceed.
    """

    mean: np.ndarray
    precision: np.ndarray
    limit: float

    @classmethod
    def fit(cls, train: np.ndarray, held_out: np.ndarray) -> Texture | None:
        """Learn from images, uint8 (n, size, size); None where too few say what is usual."""
        powers = _powers(train)
        n, k = powers.shape
        if n < _LEAST * k or not len(held_out):
            return None
        fitted = cls(powers.mean(axis=0), np.linalg.pinv(np.cov(powers.T).reshape(k, k)), 1.0)
        limit = float(np.quantile(fitted.score(held_out), KEPT))
        return cls(fitted.mean, fitted.precision, limit) if limit > 0 else None

    def score(self, images: np.ndarray) -> np.ndarray:
        """Return squared distances in units of the limit, float64 (n,), of uint8 (n, size, size)."""
        apart = _powers(images) - self.mean
        return np.einsum("ij,jk,ik->i", apart, self.precision, apart) / self.limit

    def wrong(self, size: int) -> str:
        """Say what cannot be right for images of a size; empty where nothing is."""
        k = len(_bands(size)[2])
        if (self.mean.shape, self.precision.shape) != ((k,), (k, k)):
            return "its bands are not those of the images"
        if not (np.isfinite(self.mean).all() and np.isfinite(self.precision).all()):
            return "a number in it is not finite"
        return "" if 0 < self.limit < float("inf") else f"its limit is {self.limit}"


@lru_cache(maxsize=4)
def _bands(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a window, float64 (size, size), the band of each coefficient, and how many each band has.

    Small images have no low bands. What is in no band is in one more, the last.
    """
    # Without a window the edges of an image would count as its finest structure.
    window = np.outer(np.hanning(size), np.hanning(size))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)).ravel()
    inside = (frequency >= EDGES[0]) & (frequency < EDGES[-1])
    band = np.where(inside, np.searchsorted(EDGES, frequency, side="right") - 1, len(EDGES))
    _, band, counts = np.unique(band, return_inverse=True, return_counts=True)
    return window, band, counts[:-1]


def _powers(images: np.ndarray) -> np.ndarray:
    """Return the logarithm of the mean power in each band, float64 (n, k), exposure taken out."""
    window, band, counts = _bands(images.shape[1])
    powers = np.empty((len(images), len(counts)))
    for row, image in enumerate(images):
        grey = image.astype(np.float64)
        spectrum = np.fft.rfft2((grey - grey.mean()) / max(grey.std(), _FLAT) * window).ravel()
        power = np.bincount(band, spectrum.real**2 + spectrum.imag**2)
        powers[row] = np.log(power[:-1] / counts + 1e-3)
    return powers
