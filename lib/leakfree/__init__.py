"""Prove what a network was trained on and tested on: audit, split, ledger, scores, prediction.

Each public name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leakfree.audit.auditor import audit_images
    from leakfree.base.errors import LeakfreeError
    from leakfree.ledger.ledger import Ledger
    from leakfree.ledger.loaders import watch
    from leakfree.predict.classifier import Classifier
    from leakfree.scores.metrics import evaluate
    from leakfree.scores.predictions import read_predictions
    from leakfree.split.manifest import Manifest, patient_level

__version__ = "0.2.0"

_HOMES = {
    "audit_images": "leakfree.audit.auditor",
    "patient_level": "leakfree.split.manifest",
    "Manifest": "leakfree.split.manifest",
    "Ledger": "leakfree.ledger.ledger",
    "watch": "leakfree.ledger.loaders",
    "read_predictions": "leakfree.scores.predictions",
    "evaluate": "leakfree.scores.metrics",
    "Classifier": "leakfree.predict.classifier",
    "LeakfreeError": "leakfree.base.errors",
}
__all__ = [  # noqa: RUF022
    "audit_images",
    "patient_level",
    "Manifest",
    "Ledger",
    "watch",
    "read_predictions",
    "evaluate",
    "Classifier",
    "LeakfreeError",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
