"""How each network of the deep study is made: from which weights, with which peak learning rate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """A network of the study.

    Attributes
    ----------
    model : str
        For `leakfree.models.networks.build`.
    learning_rate : float
        Peak of the one-cycle schedule.
    weights : str
        ``none``, ``imagenet``, or ``chosen``: what the run was asked for.
    variant : str
        Tells cells of one model apart.
    """

    model: str
    learning_rate: float
    weights: str = "none"
    variant: str = ""

    def initial(self, chosen: str) -> str:
        """Return the weights to start from, `chosen` being those that the run was asked for."""
        return chosen if self.weights == "chosen" else self.weights


#: By the name that notebooks use.
RECIPES = {
    "simple-cnn-32": Recipe("simple-cnn-32", 5e-4),
    "resnet18": Recipe("resnet18", 1e-3, "chosen"),
    "efficientnet-lite0-imagenet": Recipe("efficientnet-lite0", 1e-3, "imagenet", "imagenet"),
    "efficientnet-lite0-scratch": Recipe("efficientnet-lite0", 1e-3, "none", "scratch"),
}
