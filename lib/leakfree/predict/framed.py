"""An image as it would be framed elsewhere: zoomed in, on a wider black ground, or moved."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image


class Framing(NamedTuple):
    """How an image is cut out.

    Attributes
    ----------
    zoom : float
        Over 1, the middle alone is seen; under 1, the image stands on a black ground.
    right, down : float
        By how much the image is moved, in shares of its sides; what is bared is black.
    """

    zoom: float = 1.0
    right: float = 0.0
    down: float = 0.0

    @property
    def name(self) -> str:
        """How it is called in tables, such as ``zoom 1.2`` or ``right 0.1``."""
        moved = [f"{name} {value:g}" for name, value in (("right", self.right), ("down", self.down)) if value]
        return ", ".join(([f"zoom {self.zoom:g}"] if self.zoom != 1 or not moved else []) + moved)


#: As it is.
PLAIN = Framing()
#: What a network should stand: `leakfree score` asks all of them.
FRAMINGS = (
    *(Framing(zoom) for zoom in (0.8, 0.9, 1.0, 1.1, 1.2, 1.3)),
    *(Framing(right=step) for step in (-0.1, 0.1)),
    *(Framing(down=step) for step in (-0.1, 0.1)),
)


def framed(image: Image.Image, framing: Framing, size: int) -> np.ndarray:
    """Cut an image out otherwise and squash it to a square.

    Parameters
    ----------
    image : PIL.Image.Image
        Of mode L.
    framing : Framing
    size : int
        Side in pixels.

    Returns
    -------
    numpy.ndarray of uint8, shape (size, size)

    Raises
    ------
    ValueError
        If the zoom is not above zero.

    Examples
    --------
    >>> framed(Image.new("L", (40, 30), 200), Framing(0.5), 8)[0, 0]
    0
    """
    if not framing.zoom > 0:
        raise ValueError(f"a zoom must be above zero, not {framing.zoom:g}")
    width, height = image.width / framing.zoom, image.height / framing.zoom
    left = (image.width - width) / 2 - framing.right * image.width
    top = (image.height - height) / 2 - framing.down * image.height
    box = (left, top, left + width, top + height)
    inside = (
        max(0, round(left)), max(0, round(top)),
        min(image.width, round(left + width)), min(image.height, round(top + height)),
    )  # fmt: skip
    if inside == (0, 0, image.width, image.height) == tuple(map(round, box)):
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0))
    # Where the picture lands in the square; the rest is black.
    scale = size / width, size / height
    at = [round((inside[i] - box[i % 2]) * scale[i % 2]) for i in range(4)]
    square = Image.new("L", (size, size), 0)
    if at[2] > at[0] and at[3] > at[1]:
        piece = image.resize(
            (at[2] - at[0], at[3] - at[1]), Image.Resampling.BILINEAR, box=inside, reducing_gap=3.0
        )
        square.paste(piece, (at[0], at[1]))
    return np.asarray(square, dtype=np.uint8)
