"""The study's answer in one picture: what each leak is worth, for the same models in every row."""

from __future__ import annotations

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from leakfree_study.figures.names import model_name
from leakfree_study.figures.tables import fixed
from leakfree_study.inflation.plots import model_look, ordered_models

#: What is drawn, and what a row says: a leak a kind, the worst of its kind where there are several.
ROWS = {
    "no-test-set": "The model is scored on its training images",
    "exact": "A copy of the test image is in training",
    "oversampled": "Rare classes are repeated before the split",
    "augmented": "Images are augmented before the split",
    "siblings": "Patients are on both sides: every test patient",
    "natural-siblings": "Patients are on both sides: a random split",
    "framing": "Test images are framed as those in training",
    "size-and-mode": "The model also sees the size of the image",
    "scaling": "Scaling is fitted on all images",
}
#: The row of networks, of which each has a name beside its mark: no other model was asked this.
FRAMING = "framing"
#: How a task is called in the picture; the three classes lie between the two others and are left out.
TASK_NAMES = {"etiology": "Bacterial against viral pneumonia", "binary": "Normal against pneumonia"}
_LANE, _GAP, _LABEL = 0.115, 0.16, 0.18  # inches: for a model, between two leaks, for what a row says


def answer_rows(
    rows: pd.DataFrame, natural: pd.DataFrame, framing: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return what `answer` draws.

    Parameters
    ----------
    rows : pandas.DataFrame
        As `leakfree_study.inflation.results.judge`.
    natural : pandas.DataFrame
        As `leakfree_study.inflation.results.natural_table`.
    framing : pandas.DataFrame, optional
        As `leakfree_study.networks.reframed.worth_of_framing`.

    Returns
    -------
    pandas.DataFrame
        ``protocol, task, model, estimate, low, high``: ROC AUC at full dose, the leaks of `ROWS` that were
        measured, for the models that every one of them has; of framing, the networks that were asked.
    """
    full = rows[rows["primary"] & (rows["metric"] == "roc_auc") & (rows["dose"] == 1.0)]
    shown = pd.concat([full, natural.assign(protocol="natural-siblings")], ignore_index=True)
    shown = shown[shown["protocol"].isin(list(ROWS))]
    if set(TASK_NAMES) <= set(shown["task"]):
        shown = shown[shown["task"].isin(list(TASK_NAMES))]
    of_rows = shown.groupby(["protocol", "task"])["model"].agg(set)
    common = set.intersection(*of_rows) if len(of_rows) else set()
    # Where no model has all leaks, all are better than none.
    shown = shown[shown["model"].isin(common)] if common else shown
    if framing is not None:
        asked = framing[framing["task"].isin(shown["task"])].assign(protocol=FRAMING)
        shown = pd.concat([shown, asked], ignore_index=True)
    return shown[["protocol", "task", "model", "estimate", "low", "high"]].reset_index(drop=True)


def largest(shown: pd.DataFrame) -> pd.Series:
    """Return the largest estimate of each leak in rows of `answer_rows`, worst leak first."""
    return shown.groupby("protocol")["estimate"].max().sort_values(ascending=False, kind="stable")


def worth_most_first(rows: pd.DataFrame) -> list[str]:
    """Order the tasks of a table of estimates: where a leak is worth most comes first."""
    worst = rows.groupby("task")["estimate"].max()
    return worst.sort_values(ascending=False, kind="stable").index.tolist()


def answer_words(shown: pd.DataFrame) -> str:
    """Say the rows of `answer`, for those who do not see it: the largest of each leak, task by task."""
    said = []
    for task in worth_most_first(shown):
        worst = largest(shown[shown["task"] == task])
        leaks = "; ".join(f"{ROWS[leak]}: {_at_most(value)}" for leak, value in worst.items())
        said.append(f"{TASK_NAMES.get(task, task)}. {leaks}")
    return ". ".join(said)


def message(shown: pd.DataFrame) -> str:
    """Return the title: what a copy, another image of the patient and scaling add at most."""
    worst = largest(shown)
    parts = {
        "exact": "a copied test image adds {} to the ROC AUC",
        "siblings": "other images of the patient {}",
        "scaling": "scaling on all images {}",
    }
    said = [text.format(_at_most(worst[leak])) for leak, text in parts.items() if leak in worst]
    text = ", ".join(said)
    return text[:1].upper() + text[1:]


def answer(
    rows: pd.DataFrame,
    natural: pd.DataFrame,
    framing: pd.DataFrame | None = None,
    *,
    margin: float,
    narrow: bool = False,
) -> Figure:
    """Draw what each leak is worth: one row a leak, one lane a model, one panel a task, all on one scale.

    Parameters
    ----------
    rows, natural, framing : pandas.DataFrame
        As for `answer_rows`.
    margin : float
        Half width of the grey band: differences inside are called none.
    narrow : bool
        For a phone: the task with the largest differences alone, and what a row says above its marks.
    """
    shown = answer_rows(rows, natural, framing)
    all_tasks, framed = worth_most_first(shown), shown["protocol"] == FRAMING
    models = ordered_models(shown.loc[~framed, "model"])
    networks = shown[framed].sort_values("estimate")["model"].tolist()
    tasks = all_tasks[:1] if narrow else all_tasks
    order = largest(shown[shown["task"] == tasks[0]]).index.tolist()
    order += [leak for leak in largest(shown[shown["task"].isin(tasks)]).index if leak not in order]
    step = _LANE * max(len(models), len(networks)) + _GAP + (_LABEL if narrow else 0)
    low = min(-0.02, shown["low"].min()) - 0.01
    # One scale: a panel is as wide as what it shows, but wide enough for its title.
    whole = max(0.05, shown["high"].max()) * 1.05
    ends = [max(shown.loc[shown["task"] == task, "high"].max(), 0.5 * whole) for task in tasks[1:]]
    ends = [whole, *ends]
    fig, axes = plt.subplots(
        1, len(tasks), figsize=(3.75 if narrow else 8.4, step * len(order) + 1.2), sharey=True, squeeze=False,
        width_ratios=[end - low for end in ends], layout="constrained",
    )  # fmt: skip
    for axis, task, end in zip(axes[0], tasks, ends, strict=True):
        axis.set(xlim=(low, end), ylim=(step * len(order), 0))
        axis.axvspan(-margin, margin, color="#dddddd", zorder=0)
        axis.axvline(0, color="#555555", linewidth=1)
        for place, leak in enumerate(order):
            of_leak = shown[(shown["task"] == task) & (shown["protocol"] == leak)]
            lanes = networks if leak == FRAMING else models
            _row(axis, of_leak, ROWS[leak], lanes, (place * step, (place + 1) * step), narrow=narrow)
        axis.set_title(TASK_NAMES.get(task, task), fontsize=9.5, loc="left")
        axis.xaxis.set_major_formatter(lambda value, _: fixed(value, 2, signed=True))
        axis.xaxis.set_major_locator(MultipleLocator(_tick(whole)))
        axis.grid(visible=False, axis="y")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_yticks([] if narrow else [(place + 0.5) * step for place in range(len(order))])
    if not narrow:
        axes[0, 0].set_yticklabels([textwrap.fill(ROWS[leak], 26) for leak in order], fontsize=8.5)
    first = shown[(shown["task"] == tasks[0]) & (shown["protocol"] == order[0])]
    _name_models(axes[0, 0], first, models, step)
    others = [f"{TASK_NAMES.get(task, task)}: {_at_most(shown.loc[shown['task'] == task, 'estimate'].max())}"
              for task in all_tasks if task not in tasks]  # fmt: skip
    below = "ROC AUC with the leak minus ROC AUC without it"
    fig.supxlabel("\n".join([below, *others]), fontsize=8.5)
    fig.suptitle(textwrap.fill(message(shown), 44 if narrow else 80), fontsize=10.5, fontweight="bold")
    plt.close(fig)
    return fig


def _at_most(value: float) -> str:
    text = fixed(value, 2, signed=True)
    return "about nothing" if text == "0.00" else f"up to {text}"


def _tick(whole: float) -> float:
    return next((size for size in (0.01, 0.02, 0.05, 0.1) if whole / size <= 5), 0.2)


def _row(
    axis: Axes,
    of_leak: pd.DataFrame,
    text: str,
    models: list[str],
    ends: tuple[float, float],
    *,
    narrow: bool,
) -> None:
    """Draw one leak between two heights: a mark for each model, and the largest of them in words."""
    top, bottom = ends
    for record in of_leak.to_dict("records"):
        y, look = _lane(record["model"], models, bottom), model_look(record["model"])
        axis.plot([record["low"], record["high"]], [y, y], color=look["color"], linewidth=1.4)
        axis.plot(record["estimate"], y, linestyle="", **look)
    axis.axhline(bottom, color="#e4e4e4", linewidth=0.8, zorder=0)
    if narrow:
        words = {"transform": axis.get_yaxis_transform(), "fontsize": 8, "va": "center"}
        axis.text(0.01, top + 0.15, text, fontweight="bold", **words)
        axis.text(1, top + 0.15, _at_most(of_leak["estimate"].max()), ha="right", **words)
    elif of_leak.empty:
        axis.annotate("not measured", (0, (top + bottom) / 2), (9, 0), textcoords="offset points",
                      va="center", fontsize=8, color="#666666")  # fmt: skip
    elif (of_leak["protocol"] == FRAMING).any():
        for record in of_leak.to_dict("records"):
            text = f"{model_name(record['model'])}: {fixed(record['estimate'], 2, signed=True)}"
            axis.annotate(text, (record["high"], _lane(record["model"], models, bottom)), (5, 0),
                          textcoords="offset points", va="center", fontsize=7, color="#333333")  # fmt: skip
    else:
        at = (of_leak["high"].max(), (top + bottom) / 2)
        text = _at_most(of_leak["estimate"].max())
        axis.annotate(text, at, (7, 0), textcoords="offset points", va="center", fontsize=8.5)


def _lane(model: str, models: list[str], bottom: float) -> float:
    return bottom - _GAP / 2 - _LANE * (len(models) - models.index(model) - 0.5)


def _name_models(axis: Axes, of_leak: pd.DataFrame, models: list[str], bottom: float) -> None:
    """Write the name of each model beside its mark in the first row, on the side that has room."""
    middle = np.mean(axis.get_xlim())
    for record in of_leak.to_dict("records"):
        text = model_name(record["model"])
        right = record["high"] < middle
        axis.annotate(text, (record["high" if right else "low"], _lane(record["model"], models, bottom)),
                      (6 if right else -6, 0), textcoords="offset points", va="center", fontsize=7.5,
                      ha="left" if right else "right", color="#333333")  # fmt: skip
