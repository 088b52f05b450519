"""What the published networks of a run look at: regions hidden from them, and where their heat lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from leakfree.data.tasks import Task
from leakfree.scores.predictions import Predictions
from leakfree.split.manifest import Manifest
from leakfree_study.figures import model_plots
from leakfree_study.figures.names import model_name
from leakfree_study.figures.tables import bracketed
from leakfree_study.networks import explain
from leakfree_study.networks.published import Published
from leakfree_study.run.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Looks:
    """Held-out images of a run, and how its networks are asked what they look at.

    Attributes
    ----------
    run : Run
        What is measured here needs its images; see `leakfree_study.run.run.Run.measure`.
    held_out : Predictions
        Of the network that draws heat, on parts other than training and test.
    image_size : int
        Side in pixels.
    n_resamples, seed : int
    """

    run: Run
    held_out: Predictions
    image_size: int
    n_resamples: int = 2000
    seed: int = 0

    @property
    def regions(self) -> tuple[str, ...]:
        """What is hidden; the first is the region that should count."""
        return explain.regions_of(self.run.cohort)

    def hide_regions(self, published: Mapping[str, Published]) -> pd.DataFrame:
        """Score networks, each trained on whole images, on images with a region hidden.

        Returns
        -------
        pandas.DataFrame
            As `leakfree_study.networks.explain.hidden_table`, with ``model``.
        """
        frames = [
            explain.hidden_table(
                model.network,
                model.normalisation,
                self.run.pixels(self.image_size),
                self.held_out,
                regions=self.regions,
                n_resamples=self.n_resamples,
                seed=self.seed,
            ).assign(model=name)
            for name, model in published.items()
        ]
        return pd.concat(frames, ignore_index=True)

    def train_on_hidden(self, task: Task, manifest: Manifest) -> pd.DataFrame:
        """Score a logistic regression that is trained, too, on images with a region hidden.

        Parameters
        ----------
        task : Task
        manifest : Manifest
            Its training part is trained on.

        Returns
        -------
        pandas.DataFrame
            As `leakfree_study.networks.explain.hidden_probe`.
        """
        train_ids = list(manifest.parts["train"])
        table = self.run.development(task).set_index("image_id")
        return explain.hidden_probe(
            self.run.pixels(self.image_size),
            dict(zip(train_ids, task.labels(table.loc[train_ids]).tolist(), strict=True)),
            self.held_out,
            hidden=self.regions[:2],
            n_resamples=self.n_resamples,
            seed=self.seed,
            jobs=self.run.jobs,
        )

    def some_of_each(self, each: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the places of so many images of each class."""
        labels = self.held_out.labels
        of_class = [np.flatnonzero(labels == k) for k in range(len(self.held_out.classes))]
        return np.concatenate([rng.choice(rows, min(each, len(rows)), replace=False) for rows in of_class])

    def heat(self, model: Published, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return images by their places, and what in them speaks for the predicted class."""
        cache = self.run.pixels(self.image_size)
        pixels = cache.pixels[cache.rows(self.held_out.image_ids[which])]
        predicted = self.held_out.predicted[which]
        return pixels, explain.grad_cam(model.network, pixels, model.normalisation, predicted)

    def draw_heat(self, model: Published, which: np.ndarray, title: str) -> Figure:
        """Draw images and, below each, its heat."""
        classes, labels, said = self.held_out.classes, self.held_out.labels, self.held_out.predicted
        titles = [f"{classes[labels[i]]}\nsays {classes[said[i]]}" for i in which]
        return model_plots.heat_panels(*self.heat(model, which), titles, credit=self.run.credit, title=title)

    def heat_in_region(self, model: Published, which: np.ndarray) -> pd.DataFrame:
        """Measure which share of the heat lies inside the region that should count.

        Returns
        -------
        pandas.DataFrame
            One row: ``films`` (how many images), ``heat_inside_<region>`` and ``film_inside_<region>``, the
            share of an image that the region covers.
        """
        region = self.regions[0]
        inside = np.nanmean(explain.heat_inside(self.heat(model, which)[1], region))
        covered = explain.region(region, self.image_size).mean()
        row = {"films": len(which), f"heat_inside_{region}": inside, f"film_inside_{region}": covered}
        return pd.DataFrame([row])


def looks_sentence(
    looked: pd.DataFrame, hidden: pd.DataFrame, probe: pd.DataFrame, model: str, region: str
) -> str:
    """Say where the heat lies, and what is left of the score without that region, as Markdown.

    Parameters
    ----------
    looked, hidden, probe : pandas.DataFrame
        As `Looks.heat_in_region`, `Looks.hide_regions` and `Looks.train_on_hidden`.
    model : str
        Whose heat it is.
    region : str
        A key of `leakfree_study.networks.explain.IN_WORDS`.
    """
    inside, named, without, beyond = explain.IN_WORDS[region]
    found = looked.iloc[0]

    def score(table: pd.DataFrame) -> str:
        return bracketed(table[(table["hidden"] == region) & (table["metric"] == "roc_auc")]).iloc[0]

    return (
        f"Of the heat, {found[f'heat_inside_{region}']:.0%} lies inside {inside}, which covers "
        f"{found[f'film_inside_{region}']:.0%} of an image. With {named} hidden, {model_name(model)} has "
        f"a ROC AUC of {score(hidden[hidden['model'] == model])}; a logistic regression "
        f"that learned from images without {without} has {score(probe)}: so much stands outside {beyond}."
    ).replace("%", " %")
