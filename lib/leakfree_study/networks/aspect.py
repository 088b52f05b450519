"""What squashing to a square does to an image's shape, which alone tells classes apart, and other ways.

Squashing takes the shape away from the frame, but stretches what is inside. Padding keeps the proportions and
shows the shape as black bars; cropping keeps them and cuts. Which of the three hides the shape is measured on
frozen features: how well a linear model reads the shape, and the class, from images it was not fitted on.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from leakfree.data.patients import patient_ids
from leakfree.data.vocabulary import words_of
from leakfree.scores.metrics import weighted_roc_auc
from leakfree_study.inflation.estimate import patient_counts
from leakfree_study.inflation.experiment import original_sizes
from leakfree_study.models.embeddings import embed
from leakfree_study.models.probe import linear_probe
from leakfree_study.run.run import Run

HANDLINGS = ("squashed", "padded", "cropped")
FOLDS = 5
#: Columns of `aspect_study`.
COLUMNS = ["handling", "reads", "metric", "estimate", "low", "high", "n_images", "n_patients"]
#: Side at which images are read before they get their shape back: that of the copies that the study has.
_FROM = 224


def reshaped(pixels: np.ndarray, aspect: float, handling: str, size: int) -> np.ndarray:
    """Give a squashed image its shape back and fit it into a square in another way.

    Parameters
    ----------
    pixels : numpy.ndarray of uint8, shape (s, s)
        Squashed.
    aspect : float
        Width over height of the original.
    handling : {"squashed", "padded", "cropped"}
        Left squashed; in its shape, the long side filling the square and the rest black; in its shape, the
        short side filling the square and the middle cut out.
    size : int
        Side of the result in pixels.

    Returns
    -------
    numpy.ndarray of uint8, shape (size, size)

    Raises
    ------
    ValueError
        If the handling is unknown, or the aspect is no positive number.
    """
    if handling not in HANDLINGS:
        raise ValueError(f"unknown handling {handling!r}; known: {', '.join(HANDLINGS)}")
    if not (np.isfinite(aspect) and aspect > 0):
        raise ValueError(f"aspect must be a positive number, got {aspect}")
    image = Image.fromarray(pixels)
    if handling == "squashed":
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    side = pixels.shape[0]
    if handling == "cropped":
        # The middle of the longer side, in the pixels of the squashed image.
        wide, high = side * min(1.0, 1.0 / aspect), side * min(1.0, aspect)
        box = ((side - wide) / 2, (side - high) / 2, (side + wide) / 2, (side + high) / 2)
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
    wide, high = (max(1, round(size * min(1.0, ratio))) for ratio in (aspect, 1.0 / aspect))
    square = Image.new("L", (size, size))
    square.paste(
        image.resize((wide, high), Image.Resampling.BILINEAR), ((size - wide) // 2, (size - high) // 2)
    )
    return np.asarray(square)


def aspect_study(
    run: Run, size: int, *, task: str = "", max_images: int = 0, n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Measure what a linear model reads from frozen features of images fitted into a square in each way.

    Only images whose original size is known take part. Folds are over patients; each number is of images that
    the model was not fitted on, with an interval over patients.

    Parameters
    ----------
    run : Run
    size : int
        Side of the square in pixels.
    task : str
        Name of a task of two classes; empty for the first one that the cohort has.
    max_images, n_resamples, seed : int

    Returns
    -------
    pandas.DataFrame
        ``handling, reads, metric, estimate, low, high, n_images, n_patients``. `reads` is ``class`` (ROC AUC
        of the task) or ``shape`` (share of the variance of the logarithm of width over height
        that is explained beyond the mean of each class; 0 or less: nothing is read). The handling
        ``shape alone`` is a model that is given the shape and no image. Empty where sizes are not known, all
        images have one shape, a class has fewer patients than there are folds, or no task has two classes.
    """
    words = words_of(run.cohort)
    binary = [one for one in words.tasks.values() if len(one.classes) == 2]
    asked = next((one for one in binary if task in ("", one.name)), None)
    if asked is None:
        return pd.DataFrame(columns=COLUMNS)
    table = run.development(asked, max_images)
    sizes = original_sizes(table, run.data)
    if sizes is None:
        return pd.DataFrame(columns=COLUMNS)
    known = ~np.isnan(sizes).any(axis=1)
    table, log_aspect = table[known], sizes[known, 2]
    labels = asked.labels(table)
    patients = pd.factorize(patient_ids(table, words.scope))[0]
    of_class = [len(np.unique(patients[labels == k])) for k in range(len(asked.classes))]
    if min(of_class) < FOLDS or np.ptp(log_aspect) < 1e-9:
        return pd.DataFrame(columns=COLUMNS)
    images, rows = run.pixels(_FROM), run.pixels(_FROM).rows(table["image_id"])
    counts = patient_counts(patients.max() + 1, n_resamples, seed)[:, patients]
    measured = [("shape alone", "class", _read_class(log_aspect[:, None], labels, patients, seed))]
    for handling in HANDLINGS:
        square = np.stack(
            [
                reshaped(images.pixels[row], float(np.exp(value)), handling, size)
                for row, value in zip(rows, log_aspect, strict=True)
            ]
        )
        features = embed(square, description=f"images {handling}", jobs=run.jobs)
        measured += [
            (handling, "class", _read_class(features, labels, patients, seed)),
            (handling, "shape", _read_shape(features, log_aspect, patients)),
        ]
    every = np.concatenate([np.ones((1, len(labels))), counts])
    found = []
    for handling, reads, predicted in measured:
        if reads == "class":
            metric, values = "roc_auc", weighted_roc_auc(labels == 1, predicted, every)
        else:
            metric, values = "explained_variance", _explained(log_aspect, predicted, labels, every)
        interval = np.nanquantile(values[1:], [0.025, 0.975])
        found.append([handling, reads, metric, values[0], *interval, len(labels), int(patients.max() + 1)])
    return pd.DataFrame(found, columns=COLUMNS)


def aspect_sentence(shapes: pd.DataFrame, *, whole: bool) -> str:
    """Say what `aspect_study` found, as Markdown.

    Parameters
    ----------
    shapes : pandas.DataFrame
        As `aspect_study`; may be empty.
    whole : bool
        Whether the sizes of all images are known.
    """
    if not len(shapes):
        return (
            "The shape tells nothing here: no original size is known, all are one, or too few patients show "
            "each class."
        )
    read = shapes[shapes["reads"] == "shape"].set_index("handling")
    told = shapes[shapes["reads"] == "class"].set_index("handling")["estimate"]
    least, most, squashed = read["estimate"].idxmin(), read["estimate"].idxmax(), read.loc["squashed"]
    verdict = "carries the shape" if squashed["low"] > 0 else "leaves no shape that such a model reads"
    ending = "." if whole else ": not all, so this is a sample that chance did not draw."
    return (
        f"The squash {verdict}: {squashed['estimate']:.0%} of the variance within classes is read "
        f"({squashed['low']:.0%} to {squashed['high']:.0%}); padded {read.loc['padded', 'estimate']:.0%}, "
        f"cropped {read.loc['cropped', 'estimate']:.0%}. Least is read when images are {least}, most when "
        f"{most}. The shape alone tells the class with a ROC AUC of {told['shape alone']:.3f}; images that "
        f"are squashed, padded and cropped with {told['squashed']:.3f}, {told['padded']:.3f} and "
        f"{told['cropped']:.3f}. Sizes are known of {squashed['n_images']:,} images of "
        f"{squashed['n_patients']:,} patients{ending}"
    ).replace("%", " %")


def _read_class(features: np.ndarray, labels: np.ndarray, patients: np.ndarray, seed: int) -> np.ndarray:
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(features, labels, patients)
    return cross_val_predict(linear_probe(), features, labels, cv=list(folds), method="decision_function")


def _read_shape(features: np.ndarray, log_aspect: np.ndarray, patients: np.ndarray) -> np.ndarray:
    predicted = np.empty(len(log_aspect))
    for train, test in GroupKFold(FOLDS).split(features, groups=patients):
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(1, 6, 11)))
        model.fit(features[train], log_aspect[train])
        # A feature that is almost constant in training throws single images far outside all known shapes.
        seen = log_aspect[train]
        predicted[test] = np.clip(model.predict(features[test]), seen.min(), seen.max())
    return predicted


def _explained(
    truth: np.ndarray, predicted: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the explained share of the variance within classes under each row of weights, float64 (B,)."""
    left = weights @ np.square(truth - predicted)
    total = np.zeros(len(weights))
    for label in np.unique(labels):
        some, values = weights[:, labels == label], truth[labels == label]
        with np.errstate(invalid="ignore"):
            mean = some @ values / some.sum(axis=1)
        total += some @ np.square(values) - np.nan_to_num(mean) ** 2 * some.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 1e-9, 1 - left / total, np.nan)
