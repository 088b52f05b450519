"""Pictures of the inflation study: forest plot, dose-response, and the control on the phantom."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from leakfree.data.tasks import TASKS
from leakfree_study.figures.names import model_name
from leakfree_study.figures.plots import OKABE_ITO, colour
from leakfree_study.inflation.catalogue import LEAKS
from leakfree_study.inflation.shown import task_title

#: Models in the order of legends.
_HEADS = ("1-nn", "logistic-regression", "random-forest", "xgboost", "simple-cnn-16", "resnet18")
#: Marker by what a model sees.
_MARKERS = {"pixels": "o", "embeddings": "D", "": "s"}
_TICKS = (-0.1, -0.01, 0.0, 0.01, 0.03, 0.1, 0.3)


def model_look(model: str) -> dict[str, object]:
    """Return how the marks of a model look: colour by what learns, filled or hollow by what it sees."""
    head, _, features = model.partition(" on ")
    own = colour(head)
    filled = own if features != "embeddings" else "white"
    return {
        "color": own,
        "marker": _MARKERS.get(features, "s"),
        "markerfacecolor": filled,
        "markersize": 5,
    }


def ordered_models(models: Sequence[str]) -> list[str]:
    """Return models, each once, in the order of legends."""
    order = list(_HEADS)
    return sorted(
        set(models), key=lambda m: (order.index(m.split(" on ")[0]), m.partition(" on ")[2] != "pixels")
    )


def ordered_tasks(rows: pd.DataFrame) -> list[str]:
    """Order tasks: those of chest X-rays as they are listed, a study's own as they come."""
    places = {task: place for place, task in enumerate(TASKS)}
    return sorted(rows["task"].unique(), key=lambda task: places.get(task, -1))


def forest(rows: pd.DataFrame, *, margin: float, title: str = "Inflation of ROC AUC by leak") -> Figure:
    """Draw every leak at its full dose, one panel a task, one mark a model.

    Parameters
    ----------
    rows : pandas.DataFrame
        As `leakfree_study.inflation.results.judge`; rows of the metric ROC AUC are drawn.
    margin : float
        Half width of the grey band: differences inside are called none.
    title : str
    """
    rows = rows[(rows["metric"] == "roc_auc") & (rows["dose"] == 1.0)]
    leaks = [leak for leak in LEAKS if leak.protocol in set(rows["protocol"])][::-1]
    tasks = ordered_tasks(rows)
    models = ordered_models(rows["model"])
    height = 1.6 + 0.52 * len(leaks)
    fig, axes = plt.subplots(
        1,
        len(tasks),
        figsize=(3.1 * len(tasks) + 2.4, height),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, task in zip(axes[0], tasks, strict=True):
        axis.axvspan(-margin, margin, color="#dddddd", zorder=0)
        axis.axvline(0, color="#555555", linewidth=1)
        for place, leak in enumerate(leaks):
            if place % 2:
                axis.axhspan(place - 0.5, place + 0.5, color="#f6f6f6", zorder=-1)
            of_leak = rows[(rows["task"] == task) & (rows["protocol"] == leak.protocol)].set_index("model")
            here = [model for model in models if model in of_leak.index]
            for number, model in enumerate(here):
                row = of_leak.loc[model]
                y = place + 0.36 - 0.72 * (number + 0.5) / max(len(here), 1)
                look = model_look(model)
                axis.plot([row["low"], row["high"]], [y, y], color=look["color"], linewidth=1.3)
                axis.plot(row["estimate"], y, linestyle="", **look)
        # Copies move scores by tenths and most leaks by thousandths: linear near zero, logarithmic beyond.
        axis.set_xscale("symlog", linthresh=0.03, linscale=1.2)
        low, high = min(-0.02, rows["low"].min()), max(0.05, rows["high"].max())
        axis.set_xlim(low * 1.15, high * 1.15)
        axis.set_xticks([tick for tick in _TICKS if low <= tick <= high * 1.1], minor=False)
        axis.set_xticks([], minor=True)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.tick_params(axis="x", labelsize=8)
        axis.set_title(task_title(task))
        axis.set_xlabel("Leaky minus clean")
        axis.grid(visible=False, axis="y")
    axes[0][0].set_yticks(range(len(leaks)))
    axes[0][0].set_yticklabels(
        [f"{leak.title}{f' ({leak.taxonomy})' if leak.taxonomy else ''}" for leak in leaks]
    )
    axes[0][0].set_ylim(-0.5, len(leaks) - 0.5)
    handles: list = [
        Line2D([], [], linestyle="-", label=model_name(model), **model_look(model)) for model in models
    ]
    handles.append(Patch(color="#dddddd", label=f"within {margin:g}: called none"))
    fig.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    fig.suptitle(title)
    plt.close(fig)
    return fig


def dose_response(
    rows: pd.DataFrame, *, margin: float, protocols: Sequence[str] = ("siblings", "exact")
) -> Figure:
    """Draw inflation of ROC AUC against the dose: one row a leak, one column a task.

    Parameters
    ----------
    rows : pandas.DataFrame
        As `leakfree_study.inflation.results.judge`.
    margin : float
        Half width of the grey band.
    protocols : sequence of str
        Leaks that have doses.
    """
    rows = rows[(rows["metric"] == "roc_auc") & rows["protocol"].isin(list(protocols))]
    several = rows.groupby(["model", "protocol"])["dose"].transform("nunique") > 1
    rows = rows[several]
    tasks = ordered_tasks(rows)
    titles = {leak.protocol: leak.title for leak in LEAKS}
    models = ordered_models(rows["model"])
    fig, axes = plt.subplots(
        len(protocols), len(tasks), figsize=(3.0 * len(tasks) + 0.8, 2.6 * len(protocols) + 0.9), sharex=True,
        sharey="row", squeeze=False, layout="constrained",
    )  # fmt: skip
    for place, (line, protocol) in enumerate(zip(axes, protocols, strict=True)):
        for axis, task in zip(line, tasks, strict=True):
            axis.axhspan(-margin, margin, color="#dddddd", zorder=0)
            axis.axhline(0, color="#555555", linewidth=1)
            for number, model in enumerate(models):
                of_model = rows[
                    (rows["task"] == task) & (rows["protocol"] == protocol) & (rows["model"] == model)
                ].sort_values("dose")
                if of_model.empty:
                    continue
                # Moved a little to the side, so that intervals do not hide each other.
                x = np.append(0, of_model["dose"] * 100 + 1.5 * (number - (len(models) - 1) / 2))
                look = model_look(model)
                axis.plot(x, np.append(0, of_model["estimate"]), linewidth=1.2, **look)
                axis.vlines(x[1:], of_model["low"], of_model["high"], color=look["color"], linewidth=1.2)
            if place == 0:
                axis.set_title(task_title(task))
            if place == len(protocols) - 1:
                axis.set_xlabel("Test patients with images in training (%)")
            axis.set_xticks([0, 25, 50, 75, 100])
        line[0].set_ylabel(f"{titles[protocol]}\nleaky minus clean ROC AUC")
    handles = [Line2D([], [], label=model_name(model), **model_look(model)) for model in models]
    fig.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    plt.close(fig)
    return fig


def phantom_control(rows: pd.DataFrame) -> Figure:
    """Draw what the estimator finds on phantoms, by the strengths of identity and disease and by dose.

    Parameters
    ----------
    rows : pandas.DataFrame
        As `leakfree_study.inflation.control.control`.
    """
    diseases, models = sorted(rows["disease"].unique()), ordered_models(rows["model"])
    doses = sorted(rows["dose"].unique())
    colours = dict(zip(doses, [OKABE_ITO["sky"], OKABE_ITO["blue"], OKABE_ITO["black"]], strict=False))
    fig, axes = plt.subplots(
        1,
        len(models),
        figsize=(4.2 * len(models) + 0.6, 3.6),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, model in zip(axes[0], models, strict=True):
        axis.axhline(0, color="#555555", linewidth=1)
        number = 0
        for disease, style in zip(diseases, ("--", "-", ":"), strict=False):
            for dose in doses:
                of_kind = rows[
                    (rows["model"] == model) & (rows["disease"] == disease) & (rows["dose"] == dose)
                ].sort_values("identity")
                x = of_kind["identity"] + 0.015 * (number - 1.5)
                number += 1
                axis.plot(
                    x,
                    of_kind["estimate"],
                    style,
                    marker="o",
                    markersize=4,
                    color=colours[dose],
                    linewidth=1.3,
                )
                axis.vlines(x, of_kind["low"], of_kind["high"], color=colours[dose], linewidth=1.2)
        axis.set_title(model_name(model))
        axis.set_xlabel("Strength of identity")
        axis.set_xticks(sorted(rows["identity"].unique()))
    axes[0][0].set_ylabel("Inflation of ROC AUC found")
    handles = [Line2D([], [], color=colours[dose], label=f"dose {dose:.0%}") for dose in doses]
    handles += [
        Line2D([], [], color="#555555", linestyle=style, label=f"disease {disease:g}")
        for disease, style in zip(diseases, ("--", "-", ":"), strict=False)
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)
    plt.close(fig)
    return fig
