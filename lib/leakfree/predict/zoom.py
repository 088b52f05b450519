"""Guess how an image is framed beside the training images, so that one that is framed otherwise is noticed.

A ridge regression learns, from training images that are cut out anew in known ways, by how much each was
zoomed. It needs no labels and looks at no network. The novelty score does not see a zoom, which leaves an
X-ray an X-ray.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from leakfree.predict.framed import Framing, framed
from leakfree.predict.small import SIDE, small_pictures

#: Zooms that the training images are shown at.
ZOOMS = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.3)
#: Share of held-out images, as they are, that lie inside the limits.
KEPT = 0.99
#: At most so many training images are cut out; more change little.
_MOST = 2000
_PENALTY = 3000.0


@dataclass(frozen=True)
class ZoomGuess:
    """A fitted guess.

    Attributes
    ----------
    mean, weights : numpy.ndarray of float32, shape (SIDE * SIDE,)
        Of small pictures, see `leakfree.predict.small`.
    offset : float
        Logarithm of the zoom of a mean picture; the median of held-out images is 0.
    low, high : float
        Zooms between which a share `KEPT` of held-out images lies.
    """

    mean: np.ndarray
    weights: np.ndarray
    offset: float
    low: float
    high: float

    @classmethod
    def fit(cls, train: np.ndarray, held_out: np.ndarray, seed: int = 0) -> ZoomGuess:
        """Learn from images of the training part, and set the limits on images that were not learned from.

        Parameters
        ----------
        train, held_out : numpy.ndarray of uint8, shape (n, size, size)
        seed : int
            Of the training images that are taken where there are very many.
        """
        if len(train) > _MOST:
            train = train[np.random.default_rng(seed).choice(len(train), _MOST, replace=False)]
        shown = np.concatenate([small_pictures(_zoomed(train, zoom)) for zoom in ZOOMS])
        target = np.repeat(np.log(ZOOMS), len(train))
        mean = shown.mean(axis=0)
        shown -= mean
        moment = shown.T @ (target - target.mean())
        weights = np.linalg.solve(shown.T @ shown + _PENALTY * np.eye(shown.shape[1]), moment)
        guessed = (small_pictures(held_out) - mean) @ weights
        offset = -float(np.median(guessed))
        low, high = np.exp(np.quantile(guessed + offset, [(1 - KEPT) / 2, (1 + KEPT) / 2]))
        return cls(mean.astype(np.float32), weights.astype(np.float32), offset, float(low), float(high))

    def guess(self, images: np.ndarray) -> np.ndarray:
        """Return how many times closer each image seems framed, float64 (n,), of uint8 (n, size, size)."""
        return np.exp((small_pictures(images) - self.mean) @ self.weights.astype(np.float64) + self.offset)

    def odd(self, zoom: np.ndarray | float) -> np.ndarray:
        """Tell which zooms lie outside the limits."""
        return (np.asarray(zoom) < self.low) | (np.asarray(zoom) > self.high)

    def wrong(self) -> str:
        """Say what no fitted guess can be; empty if nothing."""
        if not self.mean.shape == self.weights.shape == (SIDE**2,):
            return "its arrays have other shapes"
        numbers = np.concatenate([self.mean, self.weights, [self.offset, self.low, self.high]])
        if not np.isfinite(numbers).all():
            return "a number in it is not finite"
        return "" if 0 < self.low < self.high else f"its limits are {self.low:g} and {self.high:g}"


def _zoomed(images: np.ndarray, zoom: float) -> np.ndarray:
    return np.stack([framed(Image.fromarray(image), Framing(zoom), image.shape[1]) for image in images])
