"""Where a model fails: the images that it was surest about and wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from leakfree.scores.predictions import Predictions
from leakfree_study.figures import plots
from leakfree_study.run.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def wrong_images(predictions: Predictions) -> pd.DataFrame:
    """List the images that are predicted wrong, the surest first.

    Returns
    -------
    pandas.DataFrame
        ``image_id, patient, label, predicted`` and ``probability``, that of the predicted class.
    """
    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    surest = predictions.probabilities[wrong].max(axis=1)
    order = wrong[np.argsort(-surest, kind="stable")]
    return pd.DataFrame(
        {
            "image_id": predictions.image_ids[order],
            "patient": predictions.patients[order],
            "label": [predictions.classes[k] for k in predictions.labels[order]],
            "predicted": [predictions.classes[k] for k in predictions.predicted[order]],
            "probability": predictions.probabilities[order].max(axis=1),
        }
    )


def draw_wrong(run: Run, wrong: pd.DataFrame, image_size: int, title: str) -> Figure:
    """Draw images of `wrong_images`, each under its label and the probability of the other class.

    Parameters
    ----------
    run : Run
        With its images.
    wrong : pandas.DataFrame
        Rows of `wrong_images`.
    image_size : int
        At which the model saw them.
    title : str
    """
    cache = run.pixels(image_size)
    titles: Sequence[str] = [f"{row.label}: {row.probability:.2f}" for row in wrong.itertuples()]
    credit = f"{run.credit} Above each: its label, and the probability of the other class."
    return plots.contact_sheet(
        cache.pixels[cache.rows(wrong["image_id"])], titles, credit=credit, title=title
    )
