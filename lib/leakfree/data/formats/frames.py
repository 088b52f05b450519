"""Files of several pictures: multi-page TIFF and moving GIF, every frame."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from leakfree.data.formats.base import encoded
from leakfree.data.images import MAX_PIXELS
from leakfree.data.raw import Item, Problem

NAME, SUFFIXES, PACKAGE = "several pictures in a file", (".tif", ".tiff", ".gif"), ""


def items(path: str, file: str) -> list[Item]:
    """List the frames; a file of one picture, or one that cannot be opened, is a plain image."""
    if not os.path.isfile(path):
        return [Item(file, path)]  # a pipe would wait for ever
    try:
        with Image.open(path) as image:
            n = getattr(image, "n_frames", 1)
    except Exception:  # whoever decodes it says what is wrong
        n = 1
    if n < 2:
        return [Item(file, path)]
    return [Item(f"{file}#{k + 1}", path, "frames", str(k)) for k in range(n)]


def read(path: str, keys: Sequence[str]) -> Iterator[bytes | Problem]:
    """Yield each frame."""
    with Image.open(path) as image:
        for key in keys:
            image.seek(int(key))
            if image.width * image.height > MAX_PIXELS:
                yield Problem(
                    key, f"corrupt: {image.width} x {image.height} pixels, over the limit of {MAX_PIXELS:,}"
                )
                continue
            deep = image.mode.startswith(("I", "F"))
            values = np.asarray(image if deep or image.mode == "L" else image.convert("RGB"))
            yield encoded(values)
