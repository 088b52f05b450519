"""What a network looks at: Grad-CAM, and scores after parts of every image are hidden.

A heat map can please the eye and say nothing. The control is what the score does when the lungs are hidden:
a model that still tells the classes apart reads something else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from captum.attr import LayerAttribution, LayerGradCam
from PIL import Image, ImageDraw
from torch import nn

from leakfree.data.pixels import PixelCache, pixel_digest
from leakfree.ledger.ledger import Ledger
from leakfree.models.training import Normalisation, predict
from leakfree.predict.classifier import last_map
from leakfree.scores.metrics import evaluate
from leakfree.scores.predictions import Predictions
from leakfree_study.models.embeddings import embed
from leakfree_study.models.probe import linear_probe

if TYPE_CHECKING:
    from leakfree.data.cohort import Cohort

#: What is hidden of chest X-rays, and of other images, see `region`.
REGIONS = ("lungs", "outside-lungs", "corners", "borders")
OTHER_REGIONS = ("centre", "outside-centre", "corners", "borders")
#: Hull of the lung fields on images squashed to a square, (x, y) as shares of the side: drawn by eye around
#: the dark fields of the mean of training images, with room to spare, since children are not the mean.
_HULL = (
    (0.30, 0.10), (0.42, 0.08), (0.58, 0.08), (0.72, 0.10), (0.88, 0.35), (0.95, 0.65), (0.95, 0.88),
    (0.80, 0.90), (0.20, 0.86), (0.05, 0.84), (0.05, 0.65), (0.12, 0.35),
)  # fmt: skip
#: Side of a hidden corner, width of a hidden border, and side of the centre, as shares of the side.
CORNER, BORDER, CENTRE = 0.18, 0.08, 0.6

#: Words for the region that should count, as sentences need them: inside it, with, without and outside it.
IN_WORDS = {
    "lungs": ("the hull of the lungs", "the lungs", "lungs", "them"),
    "centre": ("the square in the middle", "the middle", "a middle", "it"),
}


def regions_of(cohort: Cohort) -> tuple[str, ...]:
    """Return what is hidden of the images of a cohort; the first is the region that should count."""
    return REGIONS if cohort.study is None else OTHER_REGIONS


@lru_cache(maxsize=16)
def region(name: str, size: int) -> np.ndarray:
    """Return the mask of a region, bool (size, size), True inside.

    Parameters
    ----------
    name : str
        ``lungs`` (a generous hull of both lung fields, heart included), ``outside-lungs`` (all else),
        ``corners`` (where markers and labels stand), ``borders``, ``centre`` (the square in the middle, for
        images of which nothing else is known) or ``outside-centre``.
    size : int
        Side in pixels.

    Raises
    ------
    ValueError
        If the region is unknown.
    """
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    if name in ("lungs", "outside-lungs"):
        hull = Image.new("1", (size, size))
        ImageDraw.Draw(hull).polygon([(px * size, py * size) for px, py in _HULL], fill=1)
        mask = np.array(hull) if name == "lungs" else ~np.array(hull)
    elif name == "corners":
        mask = (np.minimum(x, 1 - x) < CORNER) & (np.minimum(y, 1 - y) < CORNER)
    elif name == "borders":
        mask = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y)) < BORDER
    elif name in ("centre", "outside-centre"):
        mask = np.maximum(np.abs(x - 0.5), np.abs(y - 0.5)) < CENTRE / 2
        mask = mask if name == "centre" else ~mask
    else:
        known = dict.fromkeys((*REGIONS, *OTHER_REGIONS))
        raise ValueError(f"unknown region {name!r}; known: {', '.join(known)}")
    mask.setflags(write=False)
    return mask


def hide(pixels: np.ndarray, name: str, fill: int = 0) -> np.ndarray:
    """Return a copy of images, uint8 (..., size, size), with a region set to one grey value."""
    hidden = pixels.copy()
    hidden[..., region(name, pixels.shape[-1])] = fill
    return hidden


def hidden_cache(cache: PixelCache, name: str, fill: int = 0) -> PixelCache:
    """Return a cache of the same images with a region hidden; a ledger checks against the hidden pixels."""
    pixels = hide(cache.pixels, name, fill)
    digests = {image_id: pixel_digest(image) for image_id, image in zip(cache.ids, pixels, strict=True)}
    return PixelCache(cache.ids, pixels, digests)


def hidden_table(
    network: nn.Module,
    normalisation: Normalisation,
    cache: PixelCache,
    images: Predictions,
    *,
    regions: Sequence[str] = REGIONS,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Score a network on images as they are and with each region hidden, by the mean grey value of training.

    Parameters
    ----------
    network : torch.nn.Module
    normalisation : Normalisation
        That of training.
    cache : PixelCache
        Holds the images.
    images : Predictions
        Whom to score: ids, labels and patients count, of parts that are held out.
    regions : sequence of str
        What to hide, see `region`.
    n_resamples, seed : int

    Returns
    -------
    pandas.DataFrame
        ``hidden, metric, estimate, low, high, n_images, n_patients`` for accuracy and ROC AUC.
    """
    fill = round(255 * normalisation.mean)
    rows = cache.rows(images.image_ids)
    some = PixelCache(images.image_ids, cache.pixels[rows], cache.digests)
    frames = []
    for name in ("nothing", *regions):
        shown = some if name == "nothing" else hidden_cache(some, name, fill)
        _, probabilities = predict(
            network,
            shown,
            np.arange(len(shown)),
            normalisation,
            ledger=Ledger(shown.digests),
            stage="held out",
        )
        frames.append(_scored(images, probabilities, name, n_resamples, seed))
    return pd.concat(frames, ignore_index=True)


def _scored(
    images: Predictions, probabilities: np.ndarray, hidden: str, n_resamples: int, seed: int
) -> pd.DataFrame:
    held_out = np.full(len(images), "held out", dtype=object)
    found = replace(images, part=held_out, probabilities=probabilities)
    table = evaluate(found, ("accuracy", "roc_auc"), n_resamples=n_resamples, seed=seed)
    return table[["metric", "estimate", "low", "high", "n_images", "n_patients"]].assign(hidden=hidden)


def hidden_probe(
    cache: PixelCache,
    train: Mapping[str, int],
    images: Predictions,
    *,
    hidden: Sequence[str] = ("lungs", "outside-lungs"),
    n_resamples: int = 2000,
    seed: int = 0,
    jobs: int = 1,
) -> pd.DataFrame:
    """Measure what images tell of the classes when a region is hidden in training too.

    `hidden_table` asks what one network uses; a network that was trained with the lungs may fall without
    them although the rest of the image would have told as much. Here a logistic regression on frozen features
    learns from images with the region hidden, and is scored on held-out images with the same region hidden.

    Parameters
    ----------
    cache : PixelCache
        Holds all images.
    train : mapping of str to int
        Images of the training part, and their classes.
    images : Predictions
        Whom to score, as `hidden_table`.
    hidden : sequence of str
        Regions, see `region`.
    n_resamples, seed, jobs : int

    Returns
    -------
    pandas.DataFrame
        As `hidden_table`.
    """
    fitted, rows = cache.rows(list(train)), cache.rows(images.image_ids)
    fill = round(255 * Normalisation.fit(cache.pixels[fitted]).mean)
    frames = []
    for name in ("nothing", *hidden):
        taken = cache.pixels[np.concatenate([fitted, rows])]
        shown = taken if name == "nothing" else hide(taken, name, fill)
        features = embed(shown, description=f"images, hidden: {name}", jobs=jobs)
        model = linear_probe().fit(features[: len(train)], list(train.values()))
        frames.append(_scored(images, model.predict_proba(features[len(train) :]), name, n_resamples, seed))
    return pd.concat(frames, ignore_index=True)


def grad_cam(
    network: nn.Module, pixels: np.ndarray, normalisation: Normalisation, classes: np.ndarray
) -> np.ndarray:
    """Compute Grad-CAM (Selvaraju et al., "Grad-CAM", ICCV 2017, equations 1 and 2).

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode afterwards; its weights and gradients stay as they were.
    pixels : numpy.ndarray of uint8, shape (b, size, size)
    normalisation : Normalisation
        That of training.
    classes : numpy.ndarray of int64, shape (b,)
        Class to explain, for each image.

    Returns
    -------
    numpy.ndarray of float32, shape (b, size, size)
        From 0 to 1 within each image; all 0 where nothing speaks for the class.
    """
    network.eval()
    x = normalisation.apply(torch.from_numpy(np.ascontiguousarray(pixels)).unsqueeze(1))
    target = torch.from_numpy(np.asarray(classes, dtype=np.int64))
    heat = LayerGradCam(network, last_map(network)).attribute(x, target=target, relu_attributions=True)
    heat = LayerAttribution.interpolate(heat, pixels.shape[1:], "bilinear")[:, 0].detach()
    peak = heat.amax(dim=(1, 2), keepdim=True)
    return (heat / torch.where(peak > 0, peak, torch.ones_like(peak))).float().numpy()


def heat_inside(heat: np.ndarray, name: str = "lungs") -> np.ndarray:
    """Return the share of each map's heat inside a region, float64 (b,); NaN for a map without heat."""
    total = heat.sum(axis=(1, 2), dtype=np.float64)
    inside = heat[:, region(name, heat.shape[-1])].sum(axis=1, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return inside / np.where(total > 0, total, np.nan)
