"""Arrays of NumPy, as MedMNIST has them: ``train_images`` with ``train_labels`` beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from leakfree.data.formats.base import FormatError, encoded
from leakfree.data.held import opened
from leakfree.data.raw import Item, Problem

NAME, SUFFIXES, PACKAGE = "arrays of NumPy", (".npz",), ""
_ENDS = ("_images", "images", "_x", "x")


def _array(path: str, name: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as arrays:
        return arrays[name]


def items(path: str, file: str) -> list[Item]:
    """List the images of all arrays of images; the word before ``_images`` is the part."""
    found = []
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                end = next((end for end in _ENDS if name.lower().endswith(end)), None)
                images = arrays[name] if end is not None else np.empty(0)
                if end is None or images.ndim not in (3, 4):
                    continue
                part = name[: -len(end)]
                names = [f"{part}{other}" for other in ("_labels", "labels", "_y", "y")]
                labels = next((arrays[one] for one in names if one in arrays.files), None)
                for k in range(len(images)):
                    label = "" if labels is None else "|".join(map(str, np.atleast_1d(labels[k])))
                    found.append(
                        Item(f"{file}/{part or 'images'}/{k}", path, "npz", f"{name}:{k}", part, label)
                    )
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise FormatError(f"not arrays of NumPy: {' '.join(str(error).split())}") from error
    return found


def read(path: str, keys: Sequence[str]) -> Iterator[bytes | Problem]:
    """Yield each image of the arrays."""
    for key in keys:
        name, _, place = key.rpartition(":")
        yield encoded(opened(_array, path, name)[int(place)])
