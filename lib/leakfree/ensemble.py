"""The mean of several models' probabilities on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from leakfree.predictions import Predictions, PredictionsError


def mean_predictions(members: Sequence[Predictions]) -> Predictions:
    """Average the probabilities of models that were trained with different seeds.

    Parameters
    ----------
    members : sequence of Predictions
        Of the same images, in any order, with the same labels and classes.

    Returns
    -------
    Predictions
        In the order of the first member, with its seed.

    Raises
    ------
    PredictionsError
        If there is no member, or members differ in images, labels or classes.
    """
    if not members:
        raise PredictionsError("an ensemble needs a member")
    first = members[0]
    order = np.argsort(first.image_ids.astype(str), kind="stable")
    total = np.zeros_like(first.probabilities)
    for member in members:
        mine = np.argsort(member.image_ids.astype(str), kind="stable")
        if member.classes != first.classes or not np.array_equal(
            member.image_ids[mine], first.image_ids[order]
        ):
            raise PredictionsError(f"{member.path}: has other images or classes than {first.path}")
        if not np.array_equal(member.labels[mine], first.labels[order]):
            raise PredictionsError(f"{member.path}: has other labels than {first.path}")
        total[order] += member.probabilities[mine]
    name = Path(f"ensemble of {len(members)}, first {first.path.name}")
    return replace(first, path=name, probabilities=total / len(members))
