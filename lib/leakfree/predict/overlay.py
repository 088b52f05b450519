"""Draw what a network looks at over the image as it was sent."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from leakfree.data.bounded import shrunk

#: Longer side of the picture in pixels, and how much of the image the hottest spot hides.
LONGER_SIDE, STRONGEST = 512, 0.6
#: Orange of Okabe and Ito on grey: told apart without colour vision, since it is also lighter.
_COLOUR = (230.0, 159.0, 0.0)


def draw_overlay(data: bytes, heat: np.ndarray, *, wait: float | None = None) -> bytes:
    """Lay a heat map over an image.

    Parameters
    ----------
    data : bytes
        Encoded image.
    heat : numpy.ndarray of float32, shape (size, size)
        From 0 to 1; the image squashed to a square is what it was made from.
    wait : float, optional
        As `leakfree.data.bounded.to_square`.

    Returns
    -------
    bytes
        PNG with the image's own aspect.
    """
    image = shrunk(data, LONGER_SIDE, wait=wait)
    grey = np.asarray(image, dtype=np.float32)[..., None]
    smooth = Image.fromarray(heat.astype(np.float32)).resize(image.size, Image.Resampling.BICUBIC)
    share = STRONGEST * np.clip(np.asarray(smooth), 0, 1)[..., None]
    blended = grey * (1 - share) + np.array(_COLOUR, dtype=np.float32) * share
    buffer = io.BytesIO()
    Image.fromarray(np.rint(blended).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
