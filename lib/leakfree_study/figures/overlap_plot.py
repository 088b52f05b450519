"""Draw how many test images have another image of their patient in training, split by split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from leakfree_study.figures.plots import OKABE_ITO

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def overlap_strips(draws: pd.DataFrame, summary: pd.DataFrame, *, seed: int = 0) -> Figure:
    """Draw one dot a split, in a row for each patient scope, beside what chance must give.

    Parameters
    ----------
    draws : pandas.DataFrame
        As `leakfree.audit.checks.overlap.repeat_image_level`.
    summary : pandas.DataFrame
        As `leakfree_study.identity.overlaps.overlap_summary` of these draws.
    seed : int
        Of the jitter.
    """
    figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
    # seaborn takes its jitter from the global stream; equal runs give equal figures.
    np.random.seed(seed)  # noqa: NPY002
    sns.stripplot(
        draws,
        x="share_of_images",
        y="scope",
        hue="split",
        palette={"plain": OKABE_ITO["vermillion"], "stratified": OKABE_ITO["blue"]},
        dodge=True,
        jitter=0.25,
        size=3,
        alpha=0.7,
        ax=axis,
    )
    expected = summary.drop_duplicates("scope").set_index("scope")["expected_share_of_images"]
    for place, name in enumerate(draws["scope"].unique()):
        label = "expected of a random split" if place == 0 else None
        ends = [place - 0.42, place + 0.42]
        axis.plot([expected[name]] * 2, ends, color="black", linewidth=1.5, label=label)
    axis.set(xlabel="Share of test images whose patient also trains", ylabel="Patient scope", xlim=(0, None))
    axis.xaxis.set_major_formatter("{x:.0%}")
    axis.legend(title="80/20 split of images", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    plt.close(figure)
    return figure
