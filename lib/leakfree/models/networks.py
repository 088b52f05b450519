"""The networks: the reference study's SimpleCNN, and ResNet18 with one input channel."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import torch
from torch import nn


class WeightsError(Exception):
    """Weights cannot be had or do not fit; the message is one line."""


class SimpleCNN(nn.Module):
    """Two convolutions and a linear head, after the reference study.

    Its text gives the widths (16 and 32 channels in the leaky notebook, 32 and 64 in the leak-free one).
    The head, 128 units on the flattened map, is our reading of "SimpleCNN".

    Parameters
    ----------
    classes : int
        Number of outputs.
    image_size : int
        Side of the input in pixels; a multiple of 4.
    widths : tuple of int
        Channels of the two convolutions.
    """

    def __init__(self, classes: int, image_size: int, widths: tuple[int, int] = (16, 32)) -> None:
        super().__init__()
        if image_size % 4:
            raise ValueError(f"SimpleCNN needs an image size that is a multiple of 4, not {image_size}")
        self.features = nn.Sequential(
            nn.Conv2d(1, widths[0], 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(widths[0], widths[1], 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        side = image_size // 4
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(widths[1] * side * side, 128),
            nn.ReLU(inplace=True),
            nn.Linear(128, classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images, float (b, 1, size, size), to logits, float (b, classes)."""
        return self.head(self.features(x))


def resnet18(classes: int, weights: str = "none") -> tuple[nn.Module, str]:
    """Make ResNet18 (He et al. 2016) for grey images.

    Parameters
    ----------
    classes : int
        Number of outputs.
    weights : str
        ``none`` (from scratch); ``imagenet`` (downloaded by torchvision, or its cached copy);
        ``auto`` (ImageNet if it can be had, else from scratch); or the path of a local state dict.
        The first layer of pretrained weights is summed over its three channels, which on grey images
        gives the responses that it had on three equal ones.

    Returns
    -------
    network : torch.nn.Module
    origin : str
        ``scratch`` or ``imagenet``: what the weights really are.

    Raises
    ------
    WeightsError
        If weights were asked for and cannot be had or do not fit.
    """
    from torchvision.models import resnet18 as torchvision_resnet18

    state = None if weights == "none" else _pretrained_state(weights)
    network = torchvision_resnet18(weights=None)
    network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    network.fc = nn.Linear(network.fc.in_features, classes)
    if state is None:
        return network, "scratch"
    if not isinstance(state, dict):
        raise WeightsError(f"{weights}: not the weights of a torchvision ResNet18: {type(state).__name__}")
    try:
        first = state["conv1.weight"]
        state["conv1.weight"] = first.sum(dim=1, keepdim=True) if first.shape[1] == 3 else first
        state = {key: value for key, value in state.items() if not key.startswith("fc.")}
        left = network.load_state_dict(state, strict=False)
    except (KeyError, IndexError, TypeError, RuntimeError, AttributeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{weights}: not the weights of a torchvision ResNet18: {reason}") from error
    missing = [key for key in left.missing_keys if not key.startswith("fc.")]
    if missing or left.unexpected_keys:
        raise WeightsError(
            f"{weights}: not the weights of a torchvision ResNet18: {(missing or left.unexpected_keys)[0]}"
        )
    return network, "imagenet"


def _pretrained_state(weights: str) -> dict[str, torch.Tensor] | None:
    from torchvision.models import ResNet18_Weights

    if weights in ("imagenet", "auto"):
        try:
            # torch says where it downloads to, which has no place in a published notebook.
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                return ResNet18_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
        except Exception as error:  # urllib, sockets and hash checks raise many types
            if weights == "auto":
                return None
            raise WeightsError(
                f"ImageNet weights of ResNet18 cannot be had ({error}); give a local file or weights=none"
            ) from error
    path = Path(str(weights))
    if not path.is_file():
        raise WeightsError(f"{weights}: no such file of weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(
            f"{weights}: cannot be read as weights: {(str(error) or type(error).__name__).splitlines()[0]}"
        ) from error


def build(model: str, classes: int, image_size: int, weights: str = "none") -> tuple[nn.Module, str]:
    """Make a network by name.

    Parameters
    ----------
    model : str
        ``simple-cnn-16`` or ``simple-cnn-32`` (channels of the first layer), or ``resnet18``.
    classes, image_size : int
        Outputs, and side of the input in pixels.
    weights : str
        For ResNet18, see `resnet18`.

    Returns
    -------
    network : torch.nn.Module
    origin : str
        ``scratch`` or ``imagenet``.
    """
    if model == "resnet18":
        return resnet18(classes, weights)
    if model == "simple-cnn-16":
        return SimpleCNN(classes, image_size, (16, 32)), "scratch"
    if model == "simple-cnn-32":
        return SimpleCNN(classes, image_size, (32, 64)), "scratch"
    raise ValueError(f"unknown network {model!r}; known: simple-cnn-16, simple-cnn-32, resnet18")
