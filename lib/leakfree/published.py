"""Published weights with what is needed to use them, read back and checked before anything is believed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from leakfree.files import file_hash
from leakfree.models import networks
from leakfree.training import Normalisation


class PublishedError(Exception):
    """Published weights cannot be used; the message is one line."""


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


def load_published(preprocessing: Path) -> Published:
    """Load weights by their description; no code in either file is run.

    Parameters
    ----------
    preprocessing : pathlib.Path
        ``models/preprocessing.json`` of a run.

    Raises
    ------
    PublishedError
        If the description or the weights are missing, damaged, or not of one another.
    """
    path = Path(preprocessing)
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        weights = path.with_name(Path(described["weights"]).name)
        if file_hash(weights) != described["weights_sha256"]:
            raise PublishedError(f"{weights}: SHA-256 is not the one in {path.name}; the file was changed")
        network, _ = networks.build(described["model"], len(described["classes"]), described["image_size"])
        state = load_file(weights)
        wanted = network.state_dict()
        if wrong := sorted(set(state) ^ set(wanted)) or [
            name for name, value in state.items() if value.shape != wanted[name].shape
        ]:
            raise PublishedError(f"{weights}: {wrong[0]} does not fit {described['model']}")
        network.load_state_dict({name: value.to(wanted[name].dtype) for name, value in state.items()})
        return Published(
            network.eval().to(memory_format=torch.channels_last),
            described["task"],
            described["model"],
            tuple(described["classes"]),
            int(described["image_size"]),
            Normalisation(float(described["mean"]), float(described["std"])),
            described["manifest_hash"],
        )
    except OSError as error:
        raise PublishedError(f"{error.filename or path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise PublishedError(f"{weights}: not weights: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise PublishedError(
            f"{path}: not a description of weights: {type(error).__name__} {error}"
        ) from error
