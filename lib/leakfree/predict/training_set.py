"""Was this image trained on? An answer about an image that the network learned from proves nothing.

What is kept of each training image is a digest of the pixels that the network saw and the perceptual hash of
the audit (`leakfree.audit.copies.hashes`), 36 bytes together. The audit compares pixels before it calls two
images copies; here there are none to compare, so held-out images, of which none is a copy, set how near is
near enough. Beside it stands how fine the structure of these images is (`leakfree.predict.texture`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from leakfree.audit.copies.hashes import (
    BITS,
    RADIUS,
    SYMMETRIES,
    TURNED_RADIUS,
    image_hashes,
    thumbnail,
    transform,
)
from leakfree.base.errors import LeakfreeError
from leakfree.base.files import replacing
from leakfree.predict.texture import Texture

#: What `TrainingSet.find` says of an image: its pixels, a copy of it, or neither.
SAME, COPY, NOT_FOUND = "this image", "a copy", "not found"
#: What turning, mirroring and inverting an image does to its hash: after a transposition or without one,
#: these bits change. The first way leaves it as it is.
_WAYS = [(symmetry, inverted) for inverted in (False, True) for symmetry in (None, *SYMMETRIES)]
_TRANSPOSED = np.array([symmetry is not None and SYMMETRIES[symmetry][0] for symmetry, _ in _WAYS])
_FLIPS = np.concatenate(
    [transform(np.zeros((1, BITS // 64), np.uint64), symmetry, inverted=way) for symmetry, way in _WAYS]
)


class TrainingSetError(LeakfreeError):
    """The list of training images cannot be made or read; the message is one line."""


@dataclass(frozen=True)
class TrainingSet:
    """Which images a network was trained on, without the images.

    Attributes
    ----------
    hashes : numpy.ndarray of uint64, shape (n, 4)
    digests : numpy.ndarray of uint32, shape (n,)
        Of the pixels; believed only where the hash is the same too.
    radius, turned_radius : int
        Bits in which a copy may differ, and one that is turned, mirrored or inverted; -1: nothing is a copy.
    size : int
        Side of the images in pixels.
    manifest_hash : str
        Of the split whose training part it is.
    texture : Texture or None
        How fine the structure of the images is; None where they were too few.
    """

    hashes: np.ndarray
    digests: np.ndarray
    radius: int
    turned_radius: int
    size: int
    manifest_hash: str
    texture: Texture | None = None

    @classmethod
    def fit(cls, train: np.ndarray, held_out: np.ndarray, manifest_hash: str) -> TrainingSet:
        """Describe training images, and set the radius within which no held-out image lies.

        Parameters
        ----------
        train, held_out : numpy.ndarray of uint8, shape (n, size, size)
            As the network takes them; no image of one is a copy of an image of the other.
        manifest_hash : str

        Raises
        ------
        TrainingSetError
            If either has no image.
        """
        if not len(train) or not len(held_out):
            raise TrainingSetError(
                f"{len(train)} training images and {len(held_out)} held out cannot say what a copy is"
            )
        fitted = cls(_hashes(train), _digests(train), RADIUS, TURNED_RADIUS, train.shape[1], manifest_hash)
        plain, turned = np.array([fitted._nearest(one) for one in _hashes(held_out)]).min(axis=0).tolist()
        return replace(
            fitted,
            radius=min(RADIUS, plain - 1),
            turned_radius=min(TURNED_RADIUS, turned - 1),
            texture=Texture.fit(train, held_out),
        )

    def find(self, images: np.ndarray) -> list[str]:
        """Say of each image, uint8 (n, size, size), whether it was trained on: `SAME`, `COPY`, `NOT_FOUND`.

        A cropped or moved copy and another image of the same patient are not found.
        """
        return [self._found(*pair) for pair in zip(_hashes(images), _digests(images).tolist(), strict=True)]

    def _found(self, image_hash: np.ndarray, digest: int) -> str:
        rows = np.flatnonzero(self.digests == digest)
        if (self.hashes[rows] == image_hash).all(axis=1).any():
            return SAME
        plain, turned = self._nearest(image_hash)
        return COPY if plain <= self.radius or turned <= self.turned_radius else NOT_FOUND

    def _nearest(self, image_hash: np.ndarray) -> tuple[int, int]:
        """Return the least distance in bits from a training image, as it is and in the other ways."""
        transposed = transform(image_hash[None], "transposed")[0]
        ways = np.where(_TRANSPOSED[:, None], transposed, image_hash) ^ _FLIPS
        # Word by word: a sum over an axis of four takes ten times as long. One bit of the 256 is always zero,
        # so that a byte holds any distance.
        total = np.zeros((len(ways), len(self.hashes)), dtype=np.uint8)
        for asked, known in zip(ways.T, np.ascontiguousarray(self.hashes.T), strict=True):
            total += np.bitwise_count(asked[:, None] ^ known)
        least = total.min(axis=1)
        return int(least[0]), int(least[1:].min())

    def save(self, path: Path) -> Path:
        """Write the list as safetensors, atomically."""
        facts: dict[str, object] = {
            name: getattr(self, name) for name in ("radius", "turned_radius", "size", "manifest_hash")
        }
        arrays = {"hashes": self.hashes, "digests": self.digests}
        if self.texture is not None:
            arrays |= {"texture_mean": self.texture.mean, "texture_precision": self.texture.precision}
            facts["texture_limit"] = self.texture.limit
        # One order of the facts: equal lists must be equal bytes.
        with replacing(path) as temporary:
            save_file(arrays, temporary, metadata={"leakfree": json.dumps(facts, sort_keys=True)})
        return Path(path)

    @classmethod
    def load(cls, path: Path, manifest_hash: str, size: int) -> TrainingSet:
        """Read a list back.

        Raises
        ------
        TrainingSetError
            If the file cannot be read, is none, or belongs to another split or size.
        """
        try:
            with safe_open(path, "numpy") as stored:
                facts = json.loads(stored.metadata()["leakfree"])
                texture = None
                if "texture_limit" in facts:
                    mean, precision = (stored.get_tensor(f"texture_{name}") for name in ("mean", "precision"))
                    texture = Texture(mean, precision, float(facts["texture_limit"]))
                found = cls(
                    stored.get_tensor("hashes"),
                    stored.get_tensor("digests"),
                    int(facts["radius"]),
                    int(facts["turned_radius"]),
                    int(facts["size"]),
                    str(facts["manifest_hash"]),
                    texture,
                )
        except OSError as error:
            raise TrainingSetError(f"{path}: {error.strerror or error}") from error
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise TrainingSetError(
                f"{path}: not a list of training images: {type(error).__name__} {error}"
            ) from error
        n = len(found.digests)
        kinds: tuple[object, ...] = (
            found.hashes.dtype,
            found.hashes.shape,
            found.digests.dtype,
            found.digests.shape,
        )
        if kinds != (np.uint64, (n, BITS // 64), np.uint32, (n,)) or not n:
            raise TrainingSetError(f"{path}: not a list of training images: its arrays have other shapes")
        if not (-1 <= found.radius <= RADIUS and -1 <= found.turned_radius <= TURNED_RADIUS):
            raise TrainingSetError(f"{path}: not a list of training images: no copy differs in so many bits")
        if (found.manifest_hash, found.size) != (manifest_hash, size):
            raise TrainingSetError(f"{path}: made for another split or size than the weights")
        if texture is not None and (wrong := texture.wrong(size)):
            raise TrainingSetError(f"{path}: not a list of training images: {wrong}")
        return found


def _hashes(images: np.ndarray) -> np.ndarray:
    small = [np.asarray(thumbnail(Image.fromarray(image))) for image in images]
    return image_hashes(np.stack(small))


def _digests(images: np.ndarray) -> np.ndarray:
    def digests() -> Iterator[int]:
        for image in images:
            digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=4).digest()
            yield int.from_bytes(digest, "little")

    return np.fromiter(digests(), dtype=np.uint32, count=len(images))
