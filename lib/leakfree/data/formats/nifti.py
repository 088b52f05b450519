"""NIfTI: a volume is one image, its slices side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from leakfree.data.formats.base import encoded, volume
from leakfree.data.raw import Item, Problem

NAME, SUFFIXES, PACKAGE = "NIfTI", (".nii", ".nii.gz"), "nibabel"


def items(path: str, file: str) -> list[Item]:
    """List the one volume of a file."""
    return [Item(file, path, "nifti", "0")]


def read(path: str, keys: Sequence[str]) -> Iterator[bytes | Problem]:
    """Yield the volume, scaled by its own range, as a mosaic of up to 16 slices."""
    import nibabel

    image: Any = nibabel.load(path, keep_file_open=True)
    proxy, shape = image.dataobj, image.shape
    first = (0,) * (len(shape) - 3)  # of a volume that moves, the first one

    def values(*place: int) -> np.ndarray:
        # As numpy.asarray reads all of it: scaled in the type that is asked for.
        whole = (slice(None), slice(None))
        return np.asarray(proxy._get_scaled(dtype=np.float32, slicer=(*whole, *place, *first)), np.float32)

    picture = volume(values, shape[2]) if len(shape) > 2 else values()
    for _ in keys:
        yield encoded(picture)
