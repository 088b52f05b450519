"""How each network of the deep study is made: from which weights, how long, with which peak learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Recipe:
    """A network of the study.

    Attributes
    ----------
    model : str
        For `leakfree.models.networks.build`.
    variant : str
        Tells cells of one model apart.
    learning_rate : float
        Peak of the one-cycle schedule.
    share : float
        Epochs for each epoch of the run. An image costs EfficientNet-Lite0 about 1.6 times what it costs
        ResNet18 at 96 px: with 0.6 both are trained for about the same time.
    weights : str
        ``none``, ``imagenet``, or ``chosen``: what the run was asked for.
    pretraining : float
        Epochs without labels before, for each epoch of the run.
    stops : bool
        Whether it may stop early.
    reframe, exposure, keep
        See `leakfree.models.training.Budget`.
    """

    model: str
    variant: str = ""
    learning_rate: float = 1e-3
    share: float = 1.0
    weights: str = "none"
    pretraining: float = 0.0
    stops: bool = True
    reframe: bool = False
    exposure: float = 0.1
    keep: Literal["best", "last"] = "best"

    def initial(self, chosen: str) -> str:
        """Return the weights to start from, `chosen` being those that the run was asked for."""
        return chosen if self.weights == "chosen" else self.weights

    def epochs(self, epochs: int) -> int:
        """Return the epochs of this network in a run of so many."""
        return max(1, round(self.share * epochs))

    def unlabelled_epochs(self, epochs: int) -> int:
        """Return the epochs without labels in a run of so many."""
        return max(1, round(self.pretraining * epochs)) if self.pretraining else 0


_FIXED: dict[str, Any] = {"keep": "last", "stops": False}
#: By the name that notebooks and commands use, which is also the label of the cells.
RECIPES = {
    "simple-cnn-32": Recipe("simple-cnn-32", learning_rate=5e-4),
    "resnet18": Recipe("resnet18"),
    # Needs a download or a file, so it is in no profile.
    "resnet18-imagenet": Recipe("resnet18", "imagenet", weights="chosen"),
    "resnet18-self-supervised": Recipe("resnet18", "self-supervised", pretraining=0.625),
    # What the short training is compared with.
    "resnet18-long": Recipe("resnet18", "long", share=5.0, stops=False),
    "efficientnet-lite0-imagenet": Recipe("efficientnet-lite0", "imagenet", share=0.6, weights="imagenet"),
    "efficientnet-lite0-scratch": Recipe("efficientnet-lite0", "scratch", share=0.6),
    # The last epoch is kept and none stops early: validation chooses among these, so it chooses no epoch.
    "resnet18-usual": Recipe("resnet18", "usual", **_FIXED),
    "resnet18-reframed": Recipe("resnet18", "reframed", reframe=True, **_FIXED),
    "resnet18-reframed-exposure": Recipe(
        "resnet18", "reframed-exposure", reframe=True, exposure=0.3, **_FIXED
    ),
    "efficientnet-lite0-reframed": Recipe(
        "efficientnet-lite0", "reframed", weights="imagenet", reframe=True, exposure=0.3, **_FIXED
    ),
}
