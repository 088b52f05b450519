"""Names of models as readers know them; files keep the short ones."""

from __future__ import annotations

import re

_MODELS = {
    "1-nn": "nearest neighbour",
    "logistic-regression": "logistic regression",
    "random-forest": "random forest",
    "xgboost": "XGBoost",
    "simple-cnn-16": "small network (16 and 32 channels)",
    "simple-cnn-32": "small network (32 and 64 channels)",
    "resnet18": "ResNet18",
    "efficientnet-lite0": "EfficientNet-Lite0",
}
#: What the ending of a network's name says of its training; the longest first.
_TRAININGS = {
    "reframed-exposure": "trained against framing and exposure",
    "reframed": "trained against framing",
    "self-supervised": "pretrained without labels",
    "imagenet": "pretrained on ImageNet",
    "scratch": "from scratch",
    "usual": "trained as usual",
    "long": "trained longer",
}
_NAME = re.compile(
    rf"(?P<model>{'|'.join(map(re.escape, _MODELS))})"
    rf"(?:-(?P<training>{'|'.join(_TRAININGS)}))?(?P<rest>(?:(?: on |, ).+)?)"
)


def model_name(name: str) -> str:
    """Write the name of a model, recipe, network or model on features in words; another text as it is.

    Examples
    --------
    >>> model_name("resnet18-imagenet"), model_name("1-nn on pixels"), model_name("my own network")
    ('ResNet18, pretrained on ImageNet', 'nearest neighbour on pixels', 'my own network')
    """
    found = _NAME.fullmatch(name.replace("_", "-"))
    if found is None:
        return name
    training = f", {_TRAININGS[found['training']]}" if found["training"] else ""
    return f"{_MODELS[found['model']]}{training}{found['rest']}"
