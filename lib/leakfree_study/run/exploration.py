"""Tables and a picture of what a cohort holds: sizes, identical files, images of every class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from leakfree.data.images import to_grey
from leakfree_study.run.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def sizes(table: pd.DataFrame) -> pd.DataFrame:
    """Count images by class and colour mode, with the median of their width, height and width over height."""
    grouped = table.assign(aspect=table["width"] / table["height"]).groupby(["label", "mode"])
    return grouped.agg(
        images=("image_id", "size"),
        median_width=("width", "median"),
        median_height=("height", "median"),
        median_aspect=("aspect", "median"),
    ).reset_index()


def identical_files(table: pd.DataFrame) -> pd.DataFrame:
    """List the images whose files have the same bytes as another.

    Returns
    -------
    pandas.DataFrame
        ``group`` (a number for each content), ``image_id, label``.
    """
    copies = table.groupby("sha256")["image_id"].agg(list)
    labels = table.set_index("image_id")["label"]
    rows = [
        (group, image_id, labels[image_id])
        for group, ids in enumerate(copies[copies.map(len) > 1])
        for image_id in ids
    ]
    return pd.DataFrame(rows, columns=["group", "image_id", "label"])


def draw_samples(run: Run, sample: pd.DataFrame) -> Figure:
    """Draw images of a run, each under its label.

    Parameters
    ----------
    run : Run
        With its images.
    sample : pandas.DataFrame
        Rows of its development images.
    """
    from leakfree_study.figures import plots

    blobs = (blob for _, some in run.cohort.iterate(sample.index.to_numpy()) for blob in some)
    images = [to_grey(blob, 96) for blob in blobs]
    return plots.contact_sheet(images, titles=sample["label"].tolist(), columns=6, credit=run.credit)
