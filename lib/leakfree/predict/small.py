"""Small, standardised pictures: what the novelty score and the guess of the zoom look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

#: Side in pixels.
SIDE = 32
#: Standard deviation in grey levels under which a picture is flat, and its noise is not blown up.
_FLAT = 8.0


def small_pictures(images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Shrink images, float64 (n, 1024), each with mean 0 and standard deviation 1: exposure is no novelty."""
    shrunk = [
        np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX)).reshape(-1)
        for image in images
    ]
    flat = np.array(shrunk, dtype=np.float64).reshape(len(shrunk), SIDE**2)
    spread = np.maximum(flat.std(axis=1, keepdims=True), _FLAT)
    return (flat - flat.mean(axis=1, keepdims=True)) / spread
