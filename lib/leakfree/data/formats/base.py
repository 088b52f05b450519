"""What a format is, and how arrays become encoded pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from leakfree.base.errors import LeakfreeError
from leakfree.data.raw import Item, Problem


class FormatError(LeakfreeError):
    """A file cannot be read as its format; the message is one line."""


class Format(Protocol):
    """A module of this package.

    Its functions run in a process with limits, see `leakfree.data.bounded`, and are called for one block of a
    file after another: what takes long to open is kept by `leakfree.data.held.opened`.
    """

    #: Shown in reports.
    NAME: str
    #: Endings of its files.
    SUFFIXES: tuple[str, ...]
    #: Package that it needs beyond those of the library; empty for none.
    PACKAGE: str

    def items(self, path: str, file: str) -> list[Item]:
        """List the images of a file; raises `FormatError`."""

    def read(self, path: str, keys: Sequence[str]) -> Iterator[bytes | Problem]:
        """Yield the encoded picture of each key, or why there is none."""


def encoded(values: np.ndarray) -> bytes:
    """Encode an array as a picture, without loss and without effort (PGM, PPM).

    Parameters
    ----------
    values : numpy.ndarray
        Grey (height, width) or colour (height, width, 3 or 4); uint8, or anything else, which is scaled by
        its own range to 8 bits.
    """
    values = np.asarray(values)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim == 3 and values.shape[2] == 4:
        values = values[..., :3]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] != 3):
        raise FormatError(f"an array of shape {values.shape} is no picture")
    values = eight_bits(values)
    kind = b"P5" if values.ndim == 2 else b"P6"
    return (
        kind + b"\n%d %d\n255\n" % (values.shape[1], values.shape[0]) + np.ascontiguousarray(values).tobytes()
    )


def eight_bits(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Scale an array to 8 bits, by its own range unless one is given."""
    if values.dtype == np.uint8 and low is None:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    values = values.astype(np.float64)
    finite = np.isfinite(values)
    if low is None or high is None:
        low, high = (float(values[finite].min()), float(values[finite].max())) if finite.any() else (0.0, 0.0)
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def evenly(n: int, most: int = 16) -> list[int]:
    """Choose at most `most` of `n` slices, evenly."""
    if n <= most:
        return list(range(n))
    return np.unique(np.linspace(0, n - 1, most).round().astype(int)).tolist()


def volume(slices: Callable[[int], np.ndarray], n: int, *, turned: bool = False) -> np.ndarray:
    """Scale a volume to 8 bits by the range of all its slices, and lay some of them side by side.

    Parameters
    ----------
    slices : callable
        Returns a slice by its number; one at a time is in memory beside those that are shown.
    n : int
        Number of slices.
    turned : bool
        Black is white.
    """
    chosen, low, high = {}, np.inf, -np.inf
    shown = set(evenly(n))
    for k in range(n):
        values = np.asarray(slices(k))
        if k in shown:
            chosen[k] = values
        if (finite := values[np.isfinite(values)]).size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    low, high = (low, high) if low <= high else (0.0, 0.0)
    scaled = np.stack([eight_bits(values, low, high) for values in chosen.values()])
    return mosaic(255 - scaled if turned else scaled)


def mosaic(slices: np.ndarray) -> np.ndarray:
    """Lay slices, (n, height, width), side by side: a volume is one image. Some of many, see `evenly`."""
    slices = slices[evenly(len(slices))]
    side = int(np.ceil(np.sqrt(len(slices))))
    rows = int(np.ceil(len(slices) / side))
    out = np.zeros((rows * slices.shape[1], side * slices.shape[2]), slices.dtype)
    for place, one in enumerate(slices):
        row, column = divmod(place, side)
        out[
            row * one.shape[0] : (row + 1) * one.shape[0], column * one.shape[1] : (column + 1) * one.shape[1]
        ] = one
    return out
