"""How unlike the training images an image is, so that a photograph is not diagnosed in silence.

Images of one view are alike: a few principal components of small, standardised pictures carry most of what
differs between them. What the components leave over is the score ("distance from face space": Turk and
Pentland, "Eigenfaces for recognition", Journal of Cognitive Neuroscience 3, 1991, 71-86, section on locating
faces). It knows nothing of the classes, and looks at no network.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from leakfree.base.errors import LeakfreeError
from leakfree.base.files import replacing
from leakfree.predict.small import SIDE, small_pictures
from leakfree.predict.zoom import ZoomGuess

#: Principal components that are kept.
COMPONENTS = 16
#: Share of held-out images under the limit.
KEPT = 0.99


class NoveltyError(LeakfreeError):
    """A novelty score cannot be fitted or read; the message is one line."""


@dataclass(frozen=True)
class Novelty:
    """A fitted score.

    Attributes
    ----------
    mean : numpy.ndarray of float32, shape (SIDE * SIDE,)
    components : numpy.ndarray of float32, shape (COMPONENTS, SIDE * SIDE)
    limit : float
        Residual that a share `KEPT` of held-out images does not exceed.
    manifest_hash : str
        Of the split whose training part was learned from.
    zoom : ZoomGuess or None
        How the framing of an image is guessed; None in files of earlier versions.
    """

    mean: np.ndarray
    components: np.ndarray
    limit: float
    manifest_hash: str
    zoom: ZoomGuess | None = None

    @classmethod
    def fit(cls, train: np.ndarray, held_out: np.ndarray, manifest_hash: str) -> Novelty:
        """Learn what images have in common, and set the limit on images that were not learned from.

        Parameters
        ----------
        train, held_out : numpy.ndarray of uint8, shape (n, size, size)
            Images of the training part, and of parts disjoint from it by patient.
        manifest_hash : str

        Raises
        ------
        NoveltyError
            If there are fewer training images than components, or no image is held out.
        """
        if len(train) <= COMPONENTS or not len(held_out):
            raise NoveltyError(
                f"{len(train)} training images and {len(held_out)} held out cannot say what an image is"
            )
        small = small_pictures(train)
        mean = small.mean(axis=0)
        # Principal components from the 1,024 x 1,024 second moments: less memory than of all the images.
        centred = small - mean
        values, vectors = np.linalg.eigh(centred.T @ centred)
        components = vectors[:, np.argsort(values)[::-1][:COMPONENTS]].T
        fitted = cls(mean.astype(np.float32), components.astype(np.float32), 1.0, manifest_hash)
        limit = float(np.quantile(fitted.score(held_out), KEPT))
        zoom = ZoomGuess.fit(train, held_out)
        return cls(fitted.mean, fitted.components, limit, manifest_hash, zoom)

    def score(self, images: np.ndarray) -> np.ndarray:
        """Return residuals in units of the limit, float64 (n,), of uint8 (n, size, size); over 1 is novel."""
        centred = small_pictures(images) - self.mean
        components = self.components.astype(np.float64)
        # Both parts are orthogonal, but the difference of two large sums is not exact; the residual is.
        left = centred - (centred @ components.T) @ components
        return np.einsum("ij,ij->i", left, left) / self.limit

    def save(self, path: Path) -> Path:
        """Write the score as safetensors, atomically."""
        facts = {"limit": repr(self.limit), "manifest_hash": self.manifest_hash}
        arrays = {"mean": self.mean, "components": self.components}
        if self.zoom is not None:
            arrays |= {"zoom_mean": self.zoom.mean, "zoom_weights": self.zoom.weights}
            facts["zoom"] = json.dumps([self.zoom.offset, self.zoom.low, self.zoom.high])
        # One order of the facts: equal scores must be equal bytes.
        with replacing(path) as temporary:
            save_file(arrays, temporary, metadata={"leakfree": json.dumps(facts, sort_keys=True)})
        return Path(path)

    @classmethod
    def load(cls, path: Path, manifest_hash: str) -> Novelty:
        """Read a score back.

        Raises
        ------
        NoveltyError
            If the file cannot be read, is none, or was fitted under another split.
        """
        try:
            with safe_open(path, "numpy") as stored:
                facts = stored.metadata()
                facts = json.loads(facts["leakfree"]) if "leakfree" in facts else facts
                zoom = None
                if "zoom" in facts:
                    arrays = (stored.get_tensor(f"zoom_{name}") for name in ("mean", "weights"))
                    zoom = ZoomGuess(*arrays, *map(float, json.loads(facts["zoom"])))
                found = cls(
                    stored.get_tensor("mean"),
                    stored.get_tensor("components"),
                    float(facts["limit"]),
                    facts["manifest_hash"],
                    zoom,
                )
        except OSError as error:
            raise NoveltyError(f"{path}: {error.strerror or error}") from error
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise NoveltyError(f"{path}: not a novelty score: {type(error).__name__} {error}") from error
        if (found.mean.shape, found.components.shape) != ((SIDE**2,), (COMPONENTS, SIDE**2)):
            raise NoveltyError(f"{path}: not a novelty score: its arrays have other shapes")
        if not (np.isfinite(found.mean).all() and np.isfinite(found.components).all()):
            raise NoveltyError(f"{path}: not a novelty score: a number in it is not finite")
        if not 0 < found.limit < float("inf"):
            raise NoveltyError(f"{path}: not a novelty score: its limit is {found.limit}")
        if found.zoom is not None and (wrong := found.zoom.wrong()):
            raise NoveltyError(f"{path}: not a guess of the zoom: {wrong}")
        if found.manifest_hash != manifest_hash:
            raise NoveltyError(f"{path}: fitted under another split than the weights")
        return found
