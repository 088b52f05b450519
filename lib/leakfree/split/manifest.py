"""Ways to split a cohort, each saved as a manifest: image id to part, with a content hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leakfree.base.errors import LeakfreeError
from leakfree.base.files import write_text

#: Parts of a training set, validation set and test set, as fractions of the images.
THREE_WAY = {"train": 0.70, "val": 0.15, "test": 0.15}
TWO_WAY = {"train": 0.80, "test": 0.20}


class ManifestError(LeakfreeError):
    """A manifest cannot be read, or its content does not agree with its hash."""


@dataclass(frozen=True)
class Manifest:
    """Which image belongs to which part.

    Attributes
    ----------
    name : str
        For instance ``patient-level-binary``.
    kind : str
        ``image-level``, ``patient-level``, ``linked-groups``, ``repaired``, ``official``, ``draw`` or
        ``no-test-set``; only the last may have an image in two parts.
    parts : dict of str to tuple of str
        Part to image ids, in cohort order.
    seed : int or None
        Seed of the draw; None where nothing is drawn.
    scope : str or None
        Patient scope of the groups; None for an image-level split.
    linked : tuple of str
        What joins images into linked groups besides the patient, such as ``copies``.
    data_checksum : str
        Checksum of the cohort that was split.
    settings : dict
        Fractions, fold and other parameters.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from leakfree import Manifest
    >>> parts = {"train": ("a.png", "b.png"), "test": ("c.png",)}
    >>> manifest = Manifest("mine", "official", parts, seed=None, scope="patient")
    >>> path = manifest.save(Path(tempfile.mkdtemp()) / "split.json")
    >>> Manifest.load(path).hash == manifest.hash
    True
    """

    name: str
    kind: str
    parts: dict[str, tuple[str, ...]]
    seed: int | None
    scope: str | None
    linked: tuple[str, ...] = ()
    data_checksum: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counted = [image_id for ids in self.parts.values() for image_id in ids]
        once = [ids for ids in self.parts.values() if len(ids) != len(set(ids))]
        # The one kind that is there to show what happens without a test set.
        if once or (self.kind != "no-test-set" and len(counted) != len(set(counted))):
            raise ManifestError(f"{self.name}: an image id stands in two parts, or twice in one")

    def _content(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "seed": self.seed,
            "scope": self.scope,
            "linked": list(self.linked),
            "data_checksum": self.data_checksum,
            "settings": self.settings,
            "parts": {part: list(ids) for part, ids in self.parts.items()},
        }

    @property
    def hash(self) -> str:
        """SHA-256 over everything in the manifest."""
        canonical = json.dumps(self._content(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def save(self, path: Path) -> Path:
        """Write the manifest and its hash as JSON."""
        return write_text(Path(path), json.dumps({"hash": self.hash, **self._content()}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read a manifest and check it against its hash.

        Raises
        ------
        ManifestError
            If the file cannot be read or was changed.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            expected = content.pop("hash")
            content["parts"] = {part: tuple(ids) for part, ids in content["parts"].items()}
            content["linked"] = tuple(content["linked"])
            manifest = cls(**content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ManifestError(f"{path}: not a split manifest: {error}") from error
        if manifest.hash != expected:
            raise ManifestError(
                f"{path}: content does not agree with its hash {str(expected)[:12]}; it was changed"
            )
        return manifest

    def rows(self, part: str, ids: Sequence[str]) -> np.ndarray:
        """Positions, int64 in manifest order, of a part's images in a list of ids."""
        position = {image_id: row for row, image_id in enumerate(ids)}
        return np.array([position[image_id] for image_id in self.parts[part]], dtype=np.int64)


def _ordered(
    ids: Sequence[str] | np.ndarray, part_of: np.ndarray, parts: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    names = np.asarray(ids, dtype=object)
    return {part: tuple(names[part_of == part].tolist()) for part in parts}


def image_level(
    ids: Sequence[str] | np.ndarray,
    *,
    seed: int,
    fractions: Mapping[str, float] = TWO_WAY,
    stratify: np.ndarray | None = None,
    **description: Any,
) -> Manifest:
    """Split images as if they were independent: the leak of the reference study (L3.2).

    Parts are cut off one after the other, the first one being the largest, by scikit-learn's
    `train_test_split`, so that two parts agree with the reference's split for the same seed.

    Parameters
    ----------
    ids : sequence of str
        Image ids in cohort order.
    seed : int
        Random state.
    fractions : mapping of str to float
        Part to fraction of the images; they sum to one.
    stratify : numpy.ndarray, optional
        Class of each image, shape (n,).
    **description
        Further fields of the `Manifest`.
    """
    from sklearn.model_selection import train_test_split

    part_of = np.empty(len(ids), dtype=object)
    rest, remaining = np.arange(len(ids)), 1.0
    *firsts, last = fractions
    for part in firsts:
        # Rounded, since 1 - 0.7 is a little more than 0.3, which would take one image more.
        share = round(1.0 - fractions[part] / remaining, 12)
        taken, rest = train_test_split(
            rest, test_size=share, random_state=seed, stratify=None if stratify is None else stratify[rest]
        )
        part_of[taken] = part
        remaining -= fractions[part]
    part_of[rest] = last
    settings = {"fractions": dict(fractions), "stratified": stratify is not None}
    return _manifest(
        "image-level", _ordered(ids, part_of, list(fractions)), seed, None, settings, description
    )


def patient_level(
    ids: Sequence[str],
    groups: np.ndarray,
    strata: np.ndarray,
    *,
    seed: int,
    scope: str,
    fractions: Mapping[str, float] = THREE_WAY,
    **description: Any,
) -> Manifest:
    """Split linked groups, stratified by class: no group stands in two parts.

    In each stratum the groups are shuffled and cut where the running count of images comes nearest to
    the fractions, so that parts hold the wanted share of images although patients differ in size.

    Parameters
    ----------
    ids : sequence of str
        Image ids in cohort order.
    groups : numpy.ndarray, shape (n,)
        Linked group of each image.
    strata : numpy.ndarray of str or int, shape (n,)
        Class of each image; a group's stratum is its most frequent one.
    seed : int
        Seed of the shuffling.
    scope : str
        Patient scope that the groups were made with.
    fractions : mapping of str to float
        Part to fraction of the images.
    **description
        Further fields of the `Manifest`.

    Examples
    --------
    >>> import numpy as np
    >>> from leakfree import patient_level
    >>> ids = [f"{patient}-{image}.png" for patient in range(30) for image in range(2)]
    >>> patients = np.repeat(np.arange(30), 2)
    >>> labels = np.repeat(["normal", "ill"], 30)
    >>> manifest = patient_level(ids, patients, labels, seed=42, scope="patient")
    >>> {part: len(images) for part, images in manifest.parts.items()}
    {'train': 40, 'val': 12, 'test': 8}
    >>> of = dict(zip(ids, patients))
    >>> {of[i] for i in manifest.parts["train"]} & {of[i] for i in manifest.parts["test"]}
    set()
    """
    frame = pd.DataFrame({"group": groups, "stratum": np.asarray(strata).astype(str)})
    sizes = frame.groupby("group", sort=True).size()
    stratum_of = frame.groupby("group", sort=True)["stratum"].agg(lambda values: values.mode().iloc[0])
    bounds = np.cumsum(list(fractions.values()))
    rng = np.random.default_rng(seed)
    part_of_group: dict[int, str] = {}
    for _, members in stratum_of.groupby(stratum_of, sort=True):
        shuffled = rng.permutation(members.index.to_numpy())
        counts = sizes.loc[shuffled].to_numpy()
        # The middle of a group decides, which is the cut nearest to the wanted number of images.
        middle = (np.cumsum(counts) - counts / 2) / counts.sum()
        for group, place in zip(shuffled, np.searchsorted(bounds[:-1], middle, side="right"), strict=True):
            part_of_group[group] = list(fractions)[place]
    part_of = frame["group"].map(part_of_group).to_numpy(dtype=object)
    settings = {"fractions": dict(fractions), "stratified": True}
    return _manifest(
        "patient-level", _ordered(ids, part_of, list(fractions)), seed, scope, settings, description
    )


def no_test_set(ids: Sequence[str], **description: Any) -> Manifest:
    """Put every image into training and into test: what the reference study's loader did."""
    every = tuple(np.asarray(ids, dtype=object).tolist())
    return _manifest("no-test-set", {"train": every, "test": every}, None, None, {}, description)


def official(table: pd.DataFrame, **description: Any) -> Manifest:
    """Take the parts that the source declares."""
    ids, parts = table["image_id"].to_numpy(dtype=object), table["part"].to_numpy(dtype=object)
    present = [part for part in ("train", "val", "test", "unsplit") if (parts == part).any()]
    return _manifest("official", _ordered(ids, parts, present), None, None, {}, description)


def equalise(
    first: Manifest, second: Manifest, *, seed: int, part: str = "train"
) -> tuple[Manifest, Manifest]:
    """Drop images at random until a part has the same size in both manifests.

    A comparison of two splits must not also compare two training-set sizes. What is dropped is not used.
    """
    size = min(len(first.parts[part]), len(second.parts[part]))
    return _shrink(first, part, size, seed), _shrink(second, part, size, seed)


def _shrink(manifest: Manifest, part: str, size: int, seed: int) -> Manifest:
    ids = manifest.parts[part]
    kept = np.sort(np.random.default_rng(seed).choice(len(ids), size=size, replace=False))
    content = {**vars(manifest), "parts": {**manifest.parts, part: tuple(ids[i] for i in kept)}}
    content["settings"] = {**manifest.settings, f"n_{part}": size}
    return Manifest(**content)


def _manifest(
    kind: str,
    parts: dict[str, tuple[str, ...]],
    seed: int | None,
    scope: str | None,
    settings: dict[str, Any],
    description: dict[str, Any],
) -> Manifest:
    description.setdefault("name", kind)
    return Manifest(kind=kind, parts=parts, seed=seed, scope=scope, settings=settings, **description)
