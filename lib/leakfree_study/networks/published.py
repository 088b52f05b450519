"""Published weights with what is needed to use them, read back and checked before anything is believed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from leakfree.base.files import file_hash, replacing, write_json
from leakfree.data.pixels import PixelCache
from leakfree.ledger.ledger import Ledger
from leakfree.models.training import Normalisation, predict
from leakfree.predict.description import Description, PublishedError, read_description
from leakfree.predict.weights import load_network
from leakfree_study.run.cells import Result
from leakfree_study.run.run import Run


@dataclass(frozen=True)
class Published:
    """A model as it was published.

    Attributes
    ----------
    network : torch.nn.Module
        In evaluation mode, float32.
    task, model : str
    classes : tuple of str
    image_size : int
        Side in pixels.
    normalisation : Normalisation
    manifest_hash : str
        Of the split that it was trained under.
    """

    network: nn.Module
    task: str
    model: str
    classes: tuple[str, ...]
    image_size: int
    normalisation: Normalisation
    manifest_hash: str

    def predict(self, cache: PixelCache, ids: Sequence[str], stage: str) -> np.ndarray:
        """Predict images of a cache by id.

        Parameters
        ----------
        cache : PixelCache
            At this model's image size.
        ids : sequence of str, shape (n,)
        stage : str
            What the images are read for; a ledger checks sampled pixels against the cache's digests.

        Returns
        -------
        numpy.ndarray of float64, shape (n, classes)
            Probabilities, not calibrated, in the order of `ids`.

        Raises
        ------
        leakfree.ledger.ledger.LedgerError
            If pixels that came with an id are not that image's.
        """
        ledger = Ledger(cache.digests)
        _, probabilities = predict(
            self.network, cache, cache.rows(ids), self.normalisation, ledger=ledger, stage=stage
        )
        return probabilities


def load_published(preprocessing: Path) -> Published:
    """Load weights by their description; no code in either file is run.

    Parameters
    ----------
    preprocessing : pathlib.Path
        ``models/preprocessing.json`` of a run.

    Raises
    ------
    leakfree.predict.description.PublishedError
        If the description or the weights are missing, damaged, or not of one another.
    """
    described = read_description(preprocessing)
    try:
        return _load(described, Path(preprocessing).name)
    except OSError as error:
        raise PublishedError(f"{error.filename or described.path}: {error.strerror or error}") from error


def load_trained(result: Result) -> Published:
    """Load the weights that a cell of this run kept, checked against its record.

    Raises
    ------
    leakfree.predict.description.PublishedError
        If the cell kept none, they are gone, or they are others.
    """
    if result.weights is None:
        raise PublishedError(f"{result.predictions.name}: this cell is no network and kept no weights")
    try:
        return _load(
            Description.of(result.weights, describe(result, result.weights.name)), "the record of its cell"
        )
    except OSError as error:
        raise PublishedError(
            f"{result.weights}: {error.strerror or error}; kept weights are not part of a published run: "
            "train again, taking nothing over"
        ) from error


def describe(result: Result, weights: str) -> dict[str, object]:
    """Return all that is needed to use a network's weights, which are in a file of that name."""
    cell, facts = result.cell, result.facts
    return {
        "model": cell.model,
        "task": cell.task.name,
        "classes": list(cell.task.classes),
        "image_size": cell.image_size,
        "grey": "ITU-R 601 luma",
        "resize": "bilinear with antialiasing to a square, aspect ratio not kept",
        "mean": facts["mean"],
        "std": facts["std"],
        "scale": "grey / 255, minus mean, divided by std; both fitted on the training part",
        "weights": weights,
        "weights_sha256": facts["weights_sha256"],
        "dtype": "float16",
        "initial_weights": facts["weights"],
        "manifest_hash": cell.manifest.hash,
        "seed": cell.seed,
        "epoch": facts["epoch"],
    }


def publish(run: Run, result: Result, name: str, preprocessing: str = "preprocessing.json") -> Published:
    """Put a cell's weights on the record: ``models/<name>.safetensors``, and a description beside it.

    Parameters
    ----------
    run : Run
    result : Result
        A network.
    name : str
        File name without suffix.
    preprocessing : str
        Name of the description.

    Returns
    -------
    Published
        Read back from the files.

    Raises
    ------
    leakfree.predict.description.PublishedError
        If the cell's weights are neither kept nor published already.
    """
    weights = run.folder / "models" / f"{name}.safetensors"
    if not (weights.is_file() and file_hash(weights) == result.facts.get("weights_sha256")):
        load_trained(result)
        with replacing(weights) as temporary:
            shutil.copyfile(result.weights, temporary)
    description = write_json(weights.with_name(preprocessing), describe(result, weights.name))
    run.wrote(weights, description)
    return load_published(description)


def _load(described: Description, where: str) -> Published:
    return Published(
        load_network(described, where),
        described.task,
        described.model,
        described.classes,
        described.image_size,
        Normalisation(described.mean, described.std),
        described.manifest_hash,
    )
