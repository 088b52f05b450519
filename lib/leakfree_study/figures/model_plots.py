"""Pictures of one model: its reliability, what it looks at, and what hiding parts of images does to it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from leakfree_study.figures.names import model_name
from leakfree_study.figures.plots import OKABE_ITO
from leakfree_study.figures.tables import METRIC_NAMES

_BEFORE_AFTER = {"before": OKABE_ITO["orange"], "after": OKABE_ITO["blue"]}
#: Sides of shown images are at most this many pixels.
_THUMBNAIL = 96


def reliability_diagram(tables: Mapping[str, pd.DataFrame], title: str = "Reliability") -> Figure:
    """Draw accuracy with its interval by confidence, one line a name, with the numbers of images below.

    Parameters
    ----------
    tables : mapping of str to pandas.DataFrame
        As `leakfree.scores.calibration.reliability`; ``before`` and ``after`` have colours of their own.
    """
    fig, (above, below) = plt.subplots(
        2, 1, figsize=(4.6, 4.8), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    above.plot([0, 1], [0, 1], color="#888888", linewidth=1, linestyle="--", label="as sure as right")
    for number, (name, table) in enumerate(tables.items()):
        colour = _BEFORE_AFTER.get(name, list(OKABE_ITO.values())[1 + number])
        known = table[table["images"] > 0]
        above.plot(known["confidence"], known["accuracy"], "os^D"[number % 4] + "-", color=colour, label=name)
        above.vlines(known["confidence"], known["accuracy_low"], known["accuracy_high"], color=colour, lw=1.2)
        width = table["high"].iloc[0] - table["low"].iloc[0]
        below.bar(
            table["low"] + width * (0.28 + 0.42 * number), table["images"], width=width * 0.4, color=colour
        )
    lowest = min(float(table.loc[table["images"] > 0, "low"].min()) for table in tables.values())
    above.set(ylabel="Share that was right", ylim=(0, 1.03), xlim=(lowest, 1.01))
    above.legend(frameon=False)
    below.set(xlabel="Probability of the predicted class", ylabel="Images", yscale="symlog")
    below.yaxis.set_major_formatter("{x:,.0f}")
    fig.suptitle(title)
    plt.close(fig)
    return fig


def hidden_scores(table: pd.DataFrame, title: str = "What is left when a region is hidden") -> Figure:
    """Draw ROC AUC with each region hidden.

    Parameters
    ----------
    table : pandas.DataFrame
        ``hidden, estimate, low, high``, in the order to be drawn.
    """
    fig, axis = plt.subplots(figsize=(5.2, 0.9 + 0.42 * len(table)), layout="constrained")
    y = np.arange(len(table))
    axis.axvline(0.5, color="#888888", linewidth=1, linestyle="--")
    axis.hlines(y, table["low"], table["high"], color=OKABE_ITO["blue"], linewidth=2)
    axis.plot(table["estimate"], y, "o", color=OKABE_ITO["blue"])
    axis.set_yticks(y, table["hidden"])
    axis.set(xlabel="ROC AUC (95 % interval); dashed: chance", ylim=(len(table) - 0.5, -0.5))
    fig.suptitle(title)
    plt.close(fig)
    return fig


def two_tests(table: pd.DataFrame, title: str = "Inside the folder, and on the official test") -> Figure:
    """Draw scores on two tests, a line from one to the other, one panel a metric, all on one axis.

    Parameters
    ----------
    table : pandas.DataFrame
        ``metric, model, test, estimate, low, high``, one row each; the first test of the table is the one
        that lines start from.
    title : str
    """
    metrics, models = table["metric"].unique(), list(table["model"].unique())
    colours = dict(zip(table["test"].unique(), (OKABE_ITO["blue"], OKABE_ITO["vermillion"]), strict=True))
    # Below each other and not wider than a phone, so that nothing of it scrolls away.
    fig, axes = plt.subplots(
        len(metrics), 1, figsize=(4.4, 0.7 + (0.55 + 0.36 * len(models)) * len(metrics)), sharex=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for axis, metric in zip(axes[:, 0], metrics, strict=True):
        of_metric = table[table["metric"] == metric]
        for model, pair in of_metric.groupby("model", sort=False):
            axis.plot(pair["estimate"], [models.index(model)] * len(pair), color="#999999", linewidth=1)
        for (test, colour), mark in zip(colours.items(), "oD", strict=True):
            rows = of_metric[of_metric["test"] == test]
            y = [models.index(model) for model in rows["model"]]
            axis.hlines(y, rows["low"], rows["high"], color=colour, linewidth=2)
            axis.plot(rows["estimate"], y, mark, color=colour)
            if len(rows) and metric == metrics[0]:
                axis.annotate(test, (rows["estimate"].iloc[0], y[0]), (0, 8), textcoords="offset points",
                              ha="center", fontsize=8, color=colour)  # fmt: skip
        axis.set(ylim=(len(models) - 0.5, -0.9), yticks=range(len(models)))
        axis.set_yticklabels([textwrap.fill(model_name(model), 24) for model in models])
        axis.set_title(METRIC_NAMES.get(metric, metric), fontsize=9.5, loc="left")
        axis.grid(visible=False, axis="y")
    fig.supxlabel("Score, 95 % interval", fontsize=9)
    fig.suptitle(title)
    plt.close(fig)
    return fig


def zoom_curves(table: pd.DataFrame, title: str = "How the answers change with the framing") -> Figure:
    """Draw rates against the zoom, a panel for each rate and a line for each network, with its name on it.

    Parameters
    ----------
    table : pandas.DataFrame
        ``model, zoom, metric, estimate, low, high``; the models in the order to be drawn, the last one in
        front.
    """
    metrics, names = list(table["metric"].unique()), list(table["model"].unique())
    fig, axes = plt.subplots(
        1, len(metrics), figsize=(4.4 * len(metrics), 3.8), sharey=True, layout="constrained", squeeze=False
    )
    palette = dict(
        zip(names, ("#888888", OKABE_ITO["orange"], OKABE_ITO["blue"])[-len(names) :], strict=True)
    )
    for axis, metric in zip(axes[0], metrics, strict=True):
        for number, name in enumerate(names):
            rows = table[(table["model"] == name) & (table["metric"] == metric)].sort_values("zoom")
            axis.fill_between(rows["zoom"], rows["low"], rows["high"], color=palette[name], alpha=0.15, lw=0)
            axis.plot(
                rows["zoom"],
                rows["estimate"],
                "sD^"[number % 3] + "-",
                color=palette[name],
                label=model_name(name),
            )
        axis.axvline(1, color="#888888", linewidth=1, linestyle="--")
        axis.set(
            title=metric.replace("_", " ").capitalize(), xlabel="Zoom (under 1: on black)", ylim=(0, 1.03)
        )
    axes[0, 0].set_ylabel("Share (95 % interval)")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=1, frameon=False)
    fig.suptitle(title)
    plt.close(fig)
    return fig


def heat_panels(
    images: Sequence[np.ndarray], heat: np.ndarray, titles: Sequence[str], *, credit: str, title: str
) -> Figure:
    """Draw images above the same images under their heat.

    Parameters
    ----------
    images : sequence of numpy.ndarray of uint8, shape (h, w)
    heat : numpy.ndarray of float32, shape (n, h, w), from 0 to 1
    titles : sequence of str
    credit : str
        Source and licence of the images.
    title : str
    """
    n = len(images)
    fig, axes = plt.subplots(2, n, figsize=(1.35 * n, 3.3), layout="constrained", squeeze=False)
    step = max(1, -(-images[0].shape[0] // _THUMBNAIL))
    for column, (image, warm, text) in enumerate(zip(images, heat, titles, strict=True)):
        for row in (0, 1):
            axes[row, column].imshow(image[::step, ::step], cmap="gray", vmin=0, vmax=255)
            axes[row, column].set_axis_off()
        axes[1, column].imshow(warm[::step, ::step], cmap="viridis", vmin=0, vmax=1, alpha=0.5)
        axes[0, column].set_title(text, fontsize=7, pad=2)
    fig.supxlabel(credit, fontsize=7, color="#555555")
    fig.suptitle(title)
    plt.close(fig)
    return fig
