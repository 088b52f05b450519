"""NIfTI: a volume is one image, its slices side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from leakfree.data.formats.base import eight_bits, encoded, mosaic
from leakfree.data.raw import Item, Problem

NAME, SUFFIXES, PACKAGE = "NIfTI", (".nii", ".nii.gz"), "nibabel"


def items(path: str, file: str) -> list[Item]:
    """List the one volume of a file."""
    return [Item(file, path, "nifti", "0")]


def read(path: str, keys: Sequence[str]) -> Iterator[bytes | Problem]:
    """Yield the volume, scaled by its own range, as a mosaic of up to 16 slices."""
    import nibabel

    image: Any = nibabel.load(path)
    values = np.asarray(image.dataobj, dtype=np.float32)
    while values.ndim > 3:
        values = values[..., 0]
    if values.ndim == 3:
        values = mosaic(np.moveaxis(eight_bits(values), -1, 0))
    for _ in keys:
        yield encoded(values)
