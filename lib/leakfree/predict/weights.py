"""Published weights: a network, filled from its file once that is the one described.

The service reads models with this module, so it imports neither torchvision nor what training needs.
"""

from __future__ import annotations

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from leakfree.base.files import file_hash
from leakfree.predict.description import Description, PublishedError


def load_network(description: Description, where: str) -> nn.Module:
    """Build a network and fill it with its weights; no code in the file is run.

    Parameters
    ----------
    description : Description
    where : str
        Where the hash of the weights stands, for messages.

    Returns
    -------
    torch.nn.Module
        In evaluation mode, float32, channels last.

    Raises
    ------
    OSError
        If the weights cannot be read.
    PublishedError
        If they are not those of the description.
    """
    weights = description.path
    if file_hash(weights) != description.weights_sha256:
        raise PublishedError(f"{weights}: SHA-256 is not the one in {where}; the file was changed")
    network = _build(description)
    try:
        state = load_file(weights)
    except SafetensorError as error:
        raise PublishedError(f"{weights}: not weights: {error}") from error
    wanted = network.state_dict()
    if wrong := sorted(set(state) ^ set(wanted)) or [
        name for name, value in state.items() if value.shape != wanted[name].shape
    ]:
        raise PublishedError(f"{weights}: {wrong[0]} does not fit {description.model}")
    network.load_state_dict({name: value.to(wanted[name].dtype) for name, value in state.items()})
    return network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _build(description: Description) -> nn.Module:
    if description.model == "resnet18":
        from leakfree.models.resnet import ResNet18

        # Initial draws and all: a network without them (on the meta device) imports two seconds of SymPy.
        return ResNet18(len(description.classes))
    if description.model == "efficientnet-lite0":
        from leakfree.models.efficientnet import EfficientNetLite0

        return EfficientNetLite0(len(description.classes))
    from leakfree.models import networks

    try:
        return networks.build(description.model, len(description.classes), description.image_size)[0]
    except ValueError as error:
        raise PublishedError(f"{description.path}: {error}") from error
