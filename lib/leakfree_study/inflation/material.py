"""What the cells work on: images without copies, their patients, features of images and of altered images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from leakfree.audit.copies.alterations import alter
from leakfree.base.files import kept_arrays
from leakfree.base.provenance import code_digest
from leakfree.data.cohort import Cohort
from leakfree.data.images import to_grey
from leakfree.data.pixels import pixel_digest
from leakfree.data.raw import LABELS
from leakfree.data.tasks import TASKS, Task
from leakfree.ledger.ledger import LedgerError

#: What a row of features was made from: the image, a copy that looks the same, or an augmented copy.
VARIANTS = ("film", "near", "augmented")
#: One of these makes a near-duplicate, in turn; all of `AUGMENTING`, one after the other, an augmented copy.
NEAR = ("reencoded", "resized", "brightened", "shifted")
AUGMENTING = ("turned_5", "cropped_4", "brightened")
FEATURES = ("pixels", "embeddings")
#: Modules and packages that make each kind of features: those of others are not read back.
MODULES = {
    "pixels": (
        "leakfree/audit/copies/alterations",
        "leakfree/data/images",
        "leakfree_study/inflation/material",
        "leakfree/data/pixels",
    )
}
MODULES["embeddings"] = (*MODULES["pixels"], "leakfree_study/models/embeddings", "leakfree/models/networks")
PACKAGES = {"pixels": ("numpy", "pillow"), "embeddings": ("numpy", "pillow", "torch", "timm")}


@dataclass(frozen=True)
class Features:
    """One kind of features of all images.

    Attributes
    ----------
    name : str
        One of `FEATURES`.
    values : dict of str to numpy.ndarray, shape (n, d)
        By variant; uint8 grey levels, or float32 embeddings.
    digests : dict of str to int
        Key of each row (see `Material.keys`) to the digest that it had when it was made.
    """

    name: str
    values: dict[str, np.ndarray]
    digests: dict[str, int]


@dataclass(frozen=True)
class Material:
    """Images that take part, one a cluster of copies.

    Attributes
    ----------
    ids, patients : numpy.ndarray of str objects, shape (n,)
    labels : numpy.ndarray of int64, shape (n,)
        Position in `label_names`.
    groups : dict of str to numpy.ndarray of int64, shape (n,)
        Linked groups by patient scope; the first scope is the one that decides.
    features : dict of str to Features
    sizes : numpy.ndarray of float64, shape (n, 4), optional
        Logarithms of width, height and aspect of the original file, and 1 if it is in colour; NaN where
        unknown.
    label_names : tuple of str
        Labels of the cohort.
    tasks : mapping of str to Task
        Tasks of the cohort.
    """

    ids: np.ndarray
    patients: np.ndarray
    labels: np.ndarray
    groups: dict[str, np.ndarray]
    features: dict[str, Features]
    sizes: np.ndarray | None = None
    label_names: tuple[str, ...] = LABELS
    tasks: Mapping[str, Task] = field(default_factory=lambda: TASKS)

    @property
    def scope(self) -> str:
        """Patient scope that decides."""
        return next(iter(self.groups))

    def __len__(self) -> int:
        return len(self.ids)

    def classes(self, task: Task) -> np.ndarray:
        """Return the class of each image in a task, int64 (n,); -1 where it does not take part."""
        codes = [task.mapping.get(label, -1) for label in self.label_names]
        return np.array(codes, dtype=np.int64)[self.labels]

    def keys(self, rows: np.ndarray, variant: np.ndarray | int = 0) -> list[str]:
        """Name rows of features: the image id, behind the variant if it is a copy."""
        codes = np.broadcast_to(variant, len(rows)).tolist()
        return [
            name if not code else f"{VARIANTS[code]}:{name}"
            for name, code in zip(self.ids[rows].tolist(), codes, strict=True)
        ]

    def take(self, features: str, rows: np.ndarray, variant: np.ndarray | int = 0) -> np.ndarray:
        """Read rows of features, shape (len(rows), d)."""
        by_variant = self.features[features].values  # noqa: PD011 - a dict of arrays
        codes = np.broadcast_to(variant, len(rows))
        out = by_variant[VARIANTS[0]][rows]
        for code in np.unique(codes):
            if code:
                out[codes == code] = by_variant[VARIANTS[code]][rows[codes == code]]
        return out


def without_copies(table: pd.DataFrame, copies: Sequence[str] | np.ndarray) -> pd.DataFrame:
    """Keep the first image of each cluster of copies.

    Parameters
    ----------
    table : pandas.DataFrame
        Cohort rows.
    copies : array-like of str, shape (n,)
        A key that copies share, as `leakfree.audit.linked.CohortCopies.keys`.
    """
    return table[~pd.Series(np.asarray(copies), index=table.index).duplicated()]


def pixel_features(
    cohort: Cohort, table: pd.DataFrame, size: int, cache: Path, *, seed: int = 0, jobs: int = 2
) -> Features:
    """Decode images and their altered copies to ``size * size`` grey levels."""
    values = _cached(
        cohort, table, "pixels", f"{size}-{seed}", cache, lambda: _decode(cohort, table, size, seed, jobs)
    )
    flat = {name: array.reshape(len(array), -1) for name, array in values.items()}
    return _features("pixels", flat, table)


def embedding_features(
    cohort: Cohort, table: pd.DataFrame, size: int, cache: Path, *, seed: int = 0, jobs: int = 2
) -> Features:
    """Embed images and altered copies by the frozen network of `leakfree_study.models.embeddings`."""
    from leakfree_study.models import embeddings

    def make() -> dict[str, np.ndarray]:
        decoded = _decode(cohort, table, size, seed, jobs)
        return {
            name: embeddings.embed(array, description=f"embed {name} at {size} px", jobs=jobs)
            for name, array in decoded.items()
        }

    settings = f"{size}-{seed}-{embeddings.weights_sha256()[:12]}"
    return _features("embeddings", _cached(cohort, table, "embeddings", settings, cache, make), table)


def _features(name: str, values: dict[str, np.ndarray], table: pd.DataFrame) -> Features:
    ids = table["image_id"].tolist()
    digests = {
        (image_id if variant == VARIANTS[0] else f"{variant}:{image_id}"): pixel_digest(row)
        for variant, array in values.items()
        for image_id, row in zip(ids, array, strict=True)
    }
    return Features(name, values, digests)


def _cached(
    cohort: Cohort,
    table: pd.DataFrame,
    kind: str,
    settings: str,
    cache: Path,
    make: Callable[[], dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    digest = hashlib.sha256("\n".join([cohort.checksum, *table["image_id"]]).encode()).hexdigest()
    path = Path(cache) / "features" / f"{cohort.name}-{kind}-{settings}-{digest[:12]}.npz"
    return kept_arrays(path, code_digest(MODULES[kind], PACKAGES[kind]), make, "cached features")


def _decode(cohort: Cohort, table: pd.DataFrame, size: int, seed: int, jobs: int) -> dict[str, np.ndarray]:
    """Decode images, near-duplicates and augmented copies: uint8 (n, size, size) by variant."""
    values = {name: np.empty((len(table), size, size), dtype=np.uint8) for name in VARIANTS}
    rows, ids = table.index.to_numpy(), table["image_id"].tolist()
    done = 0

    def one(place: int, blob: bytes) -> tuple[np.ndarray, ...]:
        # A stream of its own for each image: threads and chunks do not change what is drawn.
        rng = np.random.default_rng([seed, 2, place])
        near = alter(blob, NEAR[int(rng.integers(len(NEAR)))], rng)
        augmented = blob
        for kind in AUGMENTING:
            augmented = alter(augmented, kind, rng)
        return tuple(to_grey(data, size) for data in (blob, near, augmented))

    with (
        ThreadPoolExecutor(jobs) as pool,
        tqdm(
            total=len(rows), desc=f"images and copies at {size} px", unit="film", mininterval=0.5
        ) as progress,
    ):
        for stored_ids, blobs in cohort.iterate(rows):
            if stored_ids != ids[done : done + len(blobs)]:
                raise LedgerError(f"{cohort.name}: rows of the store are not the images that the table names")
            for decoded in pool.map(one, range(done, done + len(blobs)), blobs):
                for name, image in zip(VARIANTS, decoded, strict=True):
                    values[name][done] = image
                done += 1
            progress.update(len(blobs))
    return values
