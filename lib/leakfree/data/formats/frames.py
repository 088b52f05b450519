"""Files of several pictures: multi-page TIFF and moving GIF, every frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from leakfree.data.formats.base import FormatError, encoded
from leakfree.data.held import opened
from leakfree.data.images import MAX_PIXELS
from leakfree.data.raw import Item, Problem

NAME, SUFFIXES, PACKAGE = "several pictures in a file", (".tif", ".tiff", ".gif"), ""

#: Frames of a file that are read as images: more than any volume or video has.
MOST_FRAMES = 10_000
_TILE_WIDTH, _TILE_LENGTH = 322, 323


def items(path: str, file: str) -> list[Item]:
    """List the frames; a file of one picture, or one that cannot be opened, is a plain image."""
    try:
        with Image.open(path, formats=("TIFF", "GIF")) as image:
            n = _count(image)
    except (FormatError, MemoryError):
        raise
    except Exception:  # whoever decodes it says what is wrong
        n = 1
    if n < 2:
        return [Item(file, path)]
    return [Item(f"{file}#{k + 1}", path, "frames", str(k)) for k in range(n)]


def _count(image: Image.Image) -> int:
    """Count the frames, which takes long for the millions that a hostile TIFF may have."""
    if image.format == "TIFF":
        n = next((n for n in range(1, MOST_FRAMES + 1) if not _is_there(image, n)), MOST_FRAMES + 1)
    else:
        n = getattr(image, "n_frames", 1)
    if n > MOST_FRAMES:
        raise FormatError(f"more than {MOST_FRAMES:,} frames or pages: split it, or remove it")
    return n


def _is_there(image: Image.Image, n: int) -> bool:
    try:
        image.seek(n)
    except EOFError:
        return False
    return True


def read(path: str, keys: Sequence[str]) -> Iterator[bytes | Problem]:
    """Yield each frame."""
    image = opened(_opened, path)
    for key in keys:
        image.seek(int(key))
        tags = getattr(image, "tag_v2", {})
        # A tile may be larger than its picture, and takes the memory of its own size.
        tile = (tags.get(_TILE_WIDTH, 0), tags.get(_TILE_LENGTH, 0))
        width, height = max(image.size, tile, key=lambda sides: sides[0] * sides[1])
        if width * height > MAX_PIXELS:
            yield Problem(key, f"corrupt: {width} x {height} pixels, over the limit of {MAX_PIXELS:,}")
            continue
        image.load()  # only now has a frame of a GIF its mode
        deep = image.mode.startswith(("I", "F"))
        values = np.asarray(image if deep or image.mode == "L" else image.convert("RGB"))
        yield encoded(values)


def _opened(path: str) -> Image.Image:
    return Image.open(path, formats=("TIFF", "GIF"))
