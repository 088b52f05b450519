"""A published model as one object: an image in; class, calibrated probabilities, set and warnings out.

Command and service both predict with it. It imports neither scikit-learn nor pandas, Deep Lake or
torchvision: the service starts in seconds and a worker stays small.
"""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from leakfree import __version__
from leakfree.base import sums
from leakfree.base.files import file_hash
from leakfree.base.precision import Precision, autocast, resolve
from leakfree.data.bounded import to_square
from leakfree.data.images import ImageError
from leakfree.data.intake import Limits
from leakfree.predict.calibrated import Calibrated
from leakfree.predict.description import (
    DESCRIPTION,
    Description,
    PublishedError,
    beside,
    check_beside,
    described_in,
    read_description,
)
from leakfree.predict.novelty import Novelty, NoveltyError
from leakfree.predict.training_set import COPY, SAME, TrainingSet, TrainingSetError
from leakfree.predict.weights import load_network
from leakfree.scores.calibration import CalibrationError, scale

#: By what the files of a model are known to be its own. Without such hashes the weights alone are checked: by
#: the hash in a description that anybody may have changed.
BY_RUN, BY_DESCRIPTION, UNCHECKED = "hashes of the run", "hashes in the description", "no"
#: What every answer must be read with.
WARNING = "Not a medical device: no clinical use."


@dataclass(frozen=True)
class Answer:
    """What is said of one image.

    Attributes
    ----------
    diagnosis : str
        The most probable class, as a name.
    confidence : float
        Its calibrated probability.
    probabilities : dict of str to float
        Calibrated probability of each class.
    prediction_set : tuple of str or None
        Classes that cannot be ruled out at the promised coverage; None where no sets were calibrated.
    coverage : float or None
        Share of patients like those of the calibration part whose true class is in the set.
    novelty : float or None
        Distance from training images in units of the limit; over 1 is warned of.
    zoom : float or None
        How many times closer than the training images it seems framed; None where that is not guessed.
    in_training_set : str or None
        Whether the network was trained on this image, see `leakfree.predict.training_set.TrainingSet.find`;
        None where the model has no list of its training images.
    warnings : tuple of str
    """

    diagnosis: str
    confidence: float
    probabilities: dict[str, float]
    prediction_set: tuple[str, ...] | None
    coverage: float | None
    novelty: float | None
    zoom: float | None
    in_training_set: str | None
    warnings: tuple[str, ...]


class Classifier:
    """A network with its preprocessing, calibration and novelty score.

    Parameters
    ----------
    description : Description
    network : torch.nn.Module
        In evaluation mode.
    calibrated : Calibrated
    novelty : Novelty or None
    precision : {"auto", "bfloat16", "float32"}
        Number format, see `leakfree.base.precision`; by default what training takes on this processor.
    files_sha256 : str
        Of all files that the model was read from, weights included; empty where it was not read.
    files_checked : str
        By which hashes all of them were checked, see `BY_RUN`, `BY_DESCRIPTION` and `UNCHECKED`.
    training_set : TrainingSet, optional
        Without it, every answer says that nobody knows whether the image was trained on.

    Examples
    --------
    >>> from pathlib import Path
    >>> from leakfree import Classifier
    >>> from leakfree.predict.description import default_model
    >>> classifier = Classifier.load(default_model())
    >>> image = classifier.prepare(Path("examples/sample.png").read_bytes())
    >>> classifier.answer(image[None])[0].diagnosis
    'Pneumonia'
    """

    def __init__(
        self,
        description: Description,
        network: nn.Module,
        calibrated: Calibrated,
        novelty: Novelty | None,
        precision: Precision = "auto",
        files_sha256: str = "",
        training_set: TrainingSet | None = None,
        files_checked: str = UNCHECKED,
    ) -> None:
        self.files_sha256, self.files_checked = files_sha256, files_checked
        self.description, self.network = description, network.requires_grad_(False)
        self.calibrated, self.novelty, self.training_set = calibrated, novelty, training_set
        self._zoom_guess = None if novelty is None else novelty.zoom
        self.precision = resolve(precision)
        self.names = tuple(name.replace("-", " ").capitalize() for name in description.classes)
        if self.precision == "bfloat16":
            # Autocast would round the weights anew for every batch; the numbers are the same.
            for module in network.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    module.to(torch.bfloat16)
        # Explaining hooks into a network, and other threads would run into the hook.
        self._explained, self._explaining = copy.deepcopy(network), threading.Lock()

    @classmethod
    def load(cls, path: Path, precision: Precision = "auto") -> Classifier:
        """Load a published model, and check its files: against one another, and the hashes of them.

        These are in the description, or in the run that the model lies in; see `files_checked`.

        Parameters
        ----------
        path : pathlib.Path
            Folder of published models, or one's description or weights in it.
        precision : {"auto", "bfloat16", "float32"}

        Raises
        ------
        leakfree.predict.description.PublishedError
            If a file is missing, damaged, or belongs to other weights.
        """
        path = Path(path)
        path = described_in(path) if path.suffix == ".safetensors" else path
        path = path / DESCRIPTION if path.is_dir() else path
        described = read_description(path)
        calibration, novelty, training_set = others = beside(path)
        files = (path, described.path, *others)
        checked = UNCHECKED
        try:
            if described.files is not None:
                check_beside(path, described.files)
                checked = BY_DESCRIPTION
            if (recorded := path.absolute().parent.with_name(sums.NAME)).is_file():
                sums.check_listed(recorded, [f"{file.absolute().parent.name}/{file.name}" for file in files])
                checked = BY_RUN
            calibrated = Calibrated.load(calibration, described.weights_sha256)
            if calibrated.conformal and calibrated.conformal.classes != described.classes:
                raise PublishedError(f"{calibration}: its classes are not those of {path.name}")
            fitted = Novelty.load(novelty, described.manifest_hash) if novelty.is_file() else None
            trained_on = None
            if training_set.is_file():
                trained_on = TrainingSet.load(training_set, described.manifest_hash, described.image_size)
            network = load_network(described, path.name)
            digests = [file_hash(file) if file.is_file() else "none" for file in files]
        except OSError as error:
            raise PublishedError(f"{error.filename or path}: {error.strerror or error}") from error
        except (CalibrationError, NoveltyError, TrainingSetError, ValueError) as error:
            raise PublishedError(str(error)) from error
        together = hashlib.sha256("\n".join(digests).encode()).hexdigest()
        return cls(described, network, calibrated, fitted, precision, together, trained_on, checked)

    @property
    def about(self) -> dict[str, str]:
        """Which model answers: name, hashes, versions of preprocessing and package, precision."""
        return {
            "name": self.description.path.stem,
            "weights_sha256": self.description.weights_sha256,
            "files_sha256": self.files_sha256,
            "files_checked": self.files_checked,
            "preprocessing": self.description.preprocessing,
            "precision": self.precision,
            "version": __version__,
        }

    @property
    def size(self) -> int:
        """Side of the images that the network takes, in pixels."""
        return self.description.image_size

    def prepare(self, data: bytes, limits: Limits | None = None, *, wait: float | None = None) -> np.ndarray:
        """Turn an encoded image into what the network takes, uint8 (size, size).

        Limits, waiting and errors are those of `leakfree.data.bounded.to_square`.
        """
        try:
            return to_square(data, self.size, limits, wait=wait)
        except ImageError:
            raise
        except Exception as error:  # odd EXIF, palettes and modes raise as many types as decoders do
            raise ImageError(" ".join(str(error).split()) or type(error).__name__) from error

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Predict images, uint8 (n, size, size): probabilities float64 (n, k), not calibrated yet.

        Its neighbours in the batch change an image's numbers by at most
        `leakfree.base.precision.SAME_PROBABILITY`.
        """
        with torch.inference_mode(), autocast(self.precision):
            logits = self.network(self._normalised(images)).double()
        return torch.softmax(logits, dim=1).numpy()

    def answer(self, images: np.ndarray) -> list[Answer]:
        """Say all that there is to say of images, uint8 (n, size, size), one answer each."""
        scaled = scale(self.probabilities(images), self.calibrated.temperature)
        conformal = self.calibrated.conformal
        sets = [None] * len(scaled) if conformal is None else conformal.sets(scaled)
        texture = None if self.training_set is None else self.training_set.texture
        # What is drawn has the outlines of an X-ray, what is shrunk its grain: the worse of both counts.
        scores = [one.score(images) for one in (self.novelty, texture) if one is not None]
        novelty = np.max(scores, axis=0).tolist() if scores else [None] * len(scaled)
        guess = self._zoom_guess
        zooms = [None] * len(scaled) if guess is None else guess.guess(images).tolist()
        trained_on = [None] * len(scaled) if self.training_set is None else self.training_set.find(images)
        return [self._answer(*row) for row in zip(scaled, sets, novelty, zooms, trained_on, strict=True)]

    def _answer(
        self,
        scaled: np.ndarray,
        inside: np.ndarray | None,
        novelty: float | None,
        zoom: float | None,
        trained_on: str | None,
    ) -> Answer:
        best = int(scaled.argmax())
        conformal = self.calibrated.conformal
        warnings = []
        if trained_on in (SAME, COPY):
            image = "This image" if trained_on == SAME else "A copy of this image"
            warnings.append(f"{image} was in my training set: my answer proves nothing.")
        if trained_on is None:
            warnings.append(
                "Nobody knows whether the network was trained on this image: the model has no list of its "
                "training images."
            )
        if self.novelty is None:
            warnings.append("Nothing checked whether this is a chest X-ray: the model has no novelty score.")
        if conformal is None:
            warnings.append("The model has no prediction sets.")
        if novelty is not None and novelty > 1:
            warnings.append(
                "This does not look like the chest X-rays that the model learned from "
                f"(novelty {novelty:.1f}, limit 1): do not believe the class."
            )
        if zoom is not None and (guess := self._zoom_guess) and guess.odd(zoom):
            warnings.append(
                f"This seems framed unlike the X-rays that the model learned from (about {zoom:.2f} times as "
                f"close, usual {guess.low:.2f} to {guess.high:.2f}): the class is less sure than it says."
            )
        if inside is not None and not inside.any():
            warnings.append("No class fits this image as images of the calibration part fitted theirs.")
        return Answer(
            self.names[best],
            float(scaled[best]),
            dict(zip(self.names, scaled.tolist(), strict=True)),
            None if inside is None else tuple(n for n, held in zip(self.names, inside, strict=True) if held),
            None if conformal is None else 1 - conformal.alpha,
            novelty,
            zoom,
            trained_on,
            tuple(warnings),
        )

    def heat(self, images: np.ndarray, classes: Sequence[int] | None = None) -> np.ndarray:
        """Compute Grad-CAM as `leakfree_study.networks.explain.grad_cam` does, without what that imports.

        Parameters
        ----------
        images : numpy.ndarray of uint8, shape (n, size, size)
        classes : sequence of int, optional
            Class to explain, for each image; the most probable one by default.

        Returns
        -------
        numpy.ndarray of float32, shape (n, size, size)
            From 0 to 1 within each image; all 0 where nothing speaks for the class.
        """
        with self._explaining:
            return self._heat(images, classes)

    def _heat(self, images: np.ndarray, classes: Sequence[int] | None) -> np.ndarray:
        maps: list[torch.Tensor] = []

        def keep(_module: nn.Module, _input: object, output: torch.Tensor) -> torch.Tensor:
            # Only what follows the map needs gradients.
            maps.append(output.detach().requires_grad_())
            return maps[-1]

        handle = last_map(self._explained).register_forward_hook(keep)
        try:
            with torch.enable_grad(), autocast(self.precision):
                logits = self._explained(self._normalised(images)).float()
                chosen = logits.argmax(dim=1) if classes is None else torch.tensor(classes, dtype=torch.int64)
                of_class = logits.gather(1, chosen.unsqueeze(1)).sum()
            (gradient,) = torch.autograd.grad(of_class, maps[0])
        finally:
            handle.remove()
        weights = gradient.float().mean(dim=(2, 3), keepdim=True)
        heat = torch.relu((weights * maps[0].detach().float()).sum(dim=1, keepdim=True))
        heat = nn.functional.interpolate(heat, images.shape[1:], mode="bilinear")[:, 0]
        peak = heat.amax(dim=(1, 2), keepdim=True)
        return (heat / torch.where(peak > 0, peak, torch.ones_like(peak))).numpy()

    def _normalised(self, images: np.ndarray) -> torch.Tensor:
        """Normalise as `leakfree.models.training.Normalisation.apply` does, to the bit: channels last."""
        mean, std = self.description.mean, self.description.std
        x = torch.from_numpy(np.require(images, requirements=("C", "W"))).unsqueeze(1)
        x = x.to(memory_format=torch.channels_last, dtype=torch.float32)
        return x.mul_(1.0 / (255.0 * std)).sub_(mean / std)


def last_map(network: nn.Module) -> nn.Module:
    """Find the layer whose output is the last map before pooling: the last convolution that keeps a map.

    Raises
    ------
    ValueError
        If the network has no convolution.
    """
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    if not convolutions:
        raise ValueError(f"{type(network).__name__} has no convolution to explain")
    # ResNet adds its shortcut after the last convolution: the block as a whole is the map.
    return getattr(network, "layer4", None) or convolutions[-1]
