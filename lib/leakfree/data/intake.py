"""What is refused before it is decoded: by its content, whatever is no single image of a sane size."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

from PIL import Image

from leakfree.data.images import MAX_PIXELS, ImageError

#: Formats that images come in. Others that Pillow knows run programs, or hold no image.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF")


class TooLargeError(ImageError):
    """The file or the picture is over a limit."""


# A picture of too many pixels is refused below; Pillow's warning says no more.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Limits:
    """What is accepted.

    Attributes
    ----------
    bytes : int
        Of an encoded image. An uncompressed image of 16 bits and 10 megapixels has 20 million.
    pixels : int
        Full digital chest X-rays have up to 15 million; one of 16 bits takes 28 bytes each while decoded.
    least_side : int
        Least width and height in pixels: less cannot show a chest.
    """

    bytes: int = 24_000_000
    pixels: int = 4096 * 4096
    least_side: int = 32


def check(data: bytes, limits: Limits) -> Image.Image:
    """Refuse bytes that are not one image within the limits; pixels are not decoded.

    Reading a header can take long, too: `leakfree.data.bounded` calls this where that has a bound.

    Returns
    -------
    PIL.Image.Image
        Opened, its pixels not read yet.

    Raises
    ------
    TooLargeError
        If the file or the picture is over a limit.
    leakfree.data.images.ImageError
        If the bytes are no image of `FORMATS`, an animation or a file of several pages, or too small.
    """
    check_bytes(data, limits)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > limits.pixels:
            raise TooLargeError(f"{width} x {height} pixels, over the limit of {limits.pixels:,}")
        # Not how many there are: counting the pages of a TIFF of 20 MB takes minutes.
        several = getattr(image, "is_animated", False)
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise TooLargeError(f"more than {limits.pixels:,} pixels") from error
    except Exception as error:  # Pillow's readers raise many types
        raise ImageError(f"not an image ({', '.join(FORMATS)})") from error
    if several:
        raise ImageError("several frames or pages: send one image")
    if min(width, height) < limits.least_side:
        raise ImageError(f"{width} x {height} pixels: too small for an image, least side {limits.least_side}")
    return image


def check_bytes(data: bytes, limits: Limits) -> None:
    """Refuse what needs no reader to be refused, as `check`."""
    if not data:
        raise ImageError("empty")
    if len(data) > limits.bytes:
        raise TooLargeError(f"{len(data):,} bytes, over the limit of {limits.bytes:,}")
    if data[128:132] == b"DICM":
        raise ImageError("a DICOM file: export the image as PNG or JPEG")


def read_header(data: bytes) -> Image.Image:
    """Open an image of a cohort or an audit: of `FORMATS` or PGM, of any size that `images` takes.

    Raises
    ------
    leakfree.data.images.ImageError
        If the bytes are none.
    """
    if data[128:132] == b"DICM":
        raise ImageError("a DICOM file: export the image as PNG or JPEG")
    try:
        image = Image.open(io.BytesIO(data), formats=(*FORMATS, "PPM"))
    except MemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError("not an image" if "cannot identify" in reason else reason) from error
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"{image.width} x {image.height} pixels, over the limit of {MAX_PIXELS:,}")
    return image
