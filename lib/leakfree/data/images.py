"""Decode an encoded image to grey pixels: the one preprocessing of training, audit and service."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from leakfree.base.errors import LeakfreeError

#: A chest X-ray of 20 megapixels is already unusual; beyond this a file is refused before decoding.
MAX_PIXELS = 100_000_000
# Our own check below gives the clear line; Pillow's bound stays as a second door.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS


# TIFF's tag of whether values are whole, have a sign, or are floating-point.
_SAMPLES = 339


class ImageError(LeakfreeError, ValueError):
    """The bytes are not a usable image; the message says why."""


@dataclass(frozen=True)
class ImageFacts:
    """Width and height in pixels, and Pillow's colour mode, of an image as stored."""

    width: int
    height: int
    mode: str


def open_image(data: bytes) -> Image.Image:
    """Open and fully decode an image.

    Parameters
    ----------
    data : bytes
        Encoded file.

    Returns
    -------
    PIL.Image.Image
        Decoded, in its own colour mode, not yet turned by its EXIF orientation.

    Raises
    ------
    ImageError
        If the bytes are no image, truncated, or larger than `MAX_PIXELS`.
    """
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            raise ImageError(f"{image.width} x {image.height} pixels, over the limit of {MAX_PIXELS:,}")
        image.load()
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise many types: OSError, SyntaxError, struct.error, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError("not an image" if "cannot identify" in reason else reason) from error
    return image


def inspect(data: bytes) -> ImageFacts:
    """Decode an image completely and return its facts; raises `ImageError`."""
    image = open_image(data)
    return ImageFacts(image.width, image.height, image.mode)


def decode(data: bytes) -> tuple[ImageFacts, Image.Image]:
    """Decode an image once: its facts, and the grey image of mode L that `to_grey` makes arrays of.

    Raises
    ------
    ImageError
        As `open_image`.
    """
    image = open_image(data)
    facts = ImageFacts(image.width, image.height, image.mode)
    try:
        return facts, _grey(image)
    except Exception as error:  # odd EXIF, palettes and modes raise as many types as decoders do
        raise ImageError(" ".join(str(error).split()) or type(error).__name__) from error


def to_grey(data: bytes, size: int | None) -> np.ndarray:
    """Decode to grey and resize to a square.

    Colour is reduced by ITU-R 601 luma, transparency is laid on black, 16-bit data is scaled by the bits
    that it uses, and the aspect ratio is not kept: the images are squashed to the square, as in the
    distribution that the study uses.

    Parameters
    ----------
    data : bytes
        Encoded file.
    size : int or None
        Side of the square in pixels; None keeps the stored size.

    Returns
    -------
    numpy.ndarray of uint8, shape (size, size) or (height, width)

    Raises
    ------
    ImageError
        As `open_image`.
    """
    image = open_image(data)
    if size is not None and image.format == "JPEG" and min(image.size) >= 4 * size:
        # Full-size originals: let the decoder halve while decoding, still at least twice the target.
        image = Image.open(io.BytesIO(data))
        drafted = image.draft("L", (2 * size, 2 * size))
        if drafted:
            # The box is the image without the fringe that fills the last block up.
            image = image.resize((size, size), Image.Resampling.BILINEAR, box=drafted[1], reducing_gap=3.0)
    grey = _grey(image)
    if size is not None and grey.size != (size, size):
        grey = grey.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(grey, dtype=np.uint8)


def _grey(image: Image.Image) -> Image.Image:
    """Turn by EXIF orientation and reduce to 8 bits of grey."""
    # Pillow reads 32 bits without a sign as ones with it: what is over the half would be black.
    unsigned = image.mode == "I" and getattr(image, "tag_v2", {_SAMPLES: 0}).get(_SAMPLES, 1) in (1, (1,))
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F", "I;16", "I;16B", "I;16L", "I;16N"):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() >= 1 << 16:
            values = _sixteen_bits(values.view(np.uint32) if unsigned else values)
        image = Image.fromarray(_eight_bits(values.astype(np.uint16)))
    elif image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    return image if image.mode == "L" else image.convert("L")


def _sixteen_bits(values: np.ndarray) -> np.ndarray:
    """Reduce 32 bits, or floating-point numbers, to 16: the same picture as one saved in 16.

    White is the least of 1 and the largest values of 8 to 32 bits that all but a few pixels are within.
    Where they are below zero, or beyond all those, there is no such value, and their own range is taken.
    """
    values = values.astype(np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.zeros(values.shape, np.uint16)
    low, high = map(float, np.percentile(finite, (0.5, 99.5)))
    whites = (1.0, *(2.0**bits - 1 for bits in (8, 10, 12, 14, 16, 24, 32)))
    if low >= 0 and high <= whites[-1]:
        low, high = 0.0, next(white for white in whites if high <= white)
    if high <= low:
        return np.zeros(values.shape, np.uint16)
    # In place: a large image may take memory a few times. What is no number is black.
    np.clip(values, low, high, out=values)
    values -= low
    values *= 65535 / (high - low)
    np.nan_to_num(values, copy=False)
    return np.rint(values, out=values).astype(np.uint16)


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Reduce 16 bits to 8, so that a picture saved in both is the same one.

    White is the largest value of 8, 10, 12, 14 or 16 bits where the picture fills at least half of them, and
    else its own brightest; a few pixels beyond (one in 200, such as dead ones of a detector) decide nothing.
    """
    counts = np.bincount(values.ravel(), minlength=1 << 16)
    levels = np.arange(1 << 16)
    low, high = 0, 65535
    if counts[levels % 257 > 0].any():  # else 8 bits, written twice: 0x7F7F
        below = counts.cumsum()
        low, high = map(int, np.searchsorted(below, (0.005 * below[-1], 0.995 * below[-1])))
        white = next(2**bits - 1 for bits in (8, 10, 12, 14, 16) if high < 2**bits)
        if high >= white / 2 and high - low >= white / 4:
            low, high = 0, white
    scaled = np.clip((levels - low) * (255.0 / max(high - low, 1)), 0, 255)
    return np.rint(scaled).astype(np.uint8)[values] if high > low else np.zeros(values.shape, np.uint8)
