"""Decode a cohort once, keep it as uint8, and hand pixels out together with their stored ids."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from leakfree.base.files import kept_arrays
from leakfree.base.provenance import code_digest
from leakfree.data.cohort import Cohort
from leakfree.data.images import to_grey

#: Modules and packages that decode: pixels of others are not read back. Rows and stored files are in the name
#: of the cache, as the checksum of the cohort.
MODULES = ("leakfree/data/images", "leakfree/data/pixels")
PACKAGES = ("numpy", "pillow")


def pixel_digest(pixels: np.ndarray) -> int:
    """Return a 64-bit digest of one grey image, uint8 of shape (height, width)."""
    return int.from_bytes(
        hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=8).digest(), "little"
    )


class PixelCache:
    """Decoded images of a cohort at one size.

    Attributes
    ----------
    ids : numpy.ndarray of object (str), shape (n,)
        Image ids as stored with the rows that the pixels were decoded from.
    pixels : numpy.ndarray of uint8, shape (n, size, size)
    digests : mapping of str to int
        Image id to `pixel_digest`, taken when the row was decoded: what a ledger checks against.
    """

    def __init__(self, ids: np.ndarray, pixels: np.ndarray, digests: Mapping[str, int]) -> None:
        self.ids, self.pixels, self.digests = ids, pixels, digests
        self._row = {image_id: row for row, image_id in enumerate(ids)}

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def size(self) -> int:
        """Side of the square images, in pixels."""
        return self.pixels.shape[1]

    def rows(self, ids: Sequence[str] | np.ndarray) -> np.ndarray:
        """Positions, int64, of image ids."""
        return np.array([self._row[image_id] for image_id in ids], dtype=np.int64)

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return stored ids, shape (b,), and pixels, uint8 (b, size, size), of the same rows."""
        return self.ids[rows], self.pixels[rows]


def load_pixels(cohort: Cohort, table: pd.DataFrame, size: int, cache: Path, *, jobs: int = 2) -> PixelCache:
    """Decode the rows of a cohort table, or read them back from the cache.

    Parameters
    ----------
    cohort : Cohort
        Where the encoded images are.
    table : pandas.DataFrame
        Rows of ``cohort.table``.
    size : int
        Side in pixels; images are squashed to a square, see `leakfree.data.images.to_grey`.
    cache : pathlib.Path
        Folder of cached pixels.
    jobs : int
        Threads that decode.
    """
    chosen = hashlib.sha256("\n".join([cohort.checksum, *table["image_id"]]).encode()).hexdigest()
    path = Path(cache) / "pixels" / f"{cohort.name}-{chosen[:12]}-{size}.npz"
    kept = kept_arrays(
        path, code_digest(MODULES, PACKAGES), lambda: _decode(cohort, table, size, jobs), "cached pixels"
    )
    ids = kept["ids"].astype(object)
    return PixelCache(ids, kept["pixels"], dict(zip(ids.tolist(), kept["digests"].tolist(), strict=True)))


def _decode(cohort: Cohort, table: pd.DataFrame, size: int, jobs: int) -> dict[str, np.ndarray]:
    pixels = np.empty((len(table), size, size), dtype=np.uint8)
    ids = np.empty(len(table), dtype=object)
    digests = np.empty(len(table), dtype=np.uint64)
    done = 0
    with (
        ThreadPoolExecutor(jobs) as pool,
        tqdm(total=len(table), desc=f"decode at {size} px", unit="image", mininterval=0.5) as progress,
    ):
        for stored_ids, blobs in cohort.iterate(table.index.to_numpy()):
            images = pool.map(lambda blob: to_grey(blob, size), blobs)
            for image_id, image in zip(stored_ids, images, strict=True):
                ids[done], pixels[done], digests[done] = image_id, image, pixel_digest(image)
                done += 1
            progress.update(len(blobs))
    return {"ids": ids.astype(str), "pixels": pixels, "digests": digests}
