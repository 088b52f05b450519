"""What was measured cohort by cohort, as a reader sees it: two tables and one picture."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leakfree_study.inflation.learn import MODELS

#: How a cohort is called, in this order; phantoms come after, by the strength of their identity.
COHORTS = {
    "chest_xray": "chest X-rays",
    "bus_bra": "breast ultrasound, BUS-BRA",
    "bus_uclm": "breast ultrasound, BUS-UCLM",
    "pocus_lung": "lung ultrasound, frames",
}
TASKS = {"binary": "normal, pneumonia", "etiology": "bacterial, viral", "classes": ""}
FEATURES = {
    "pixels": "32 x 32 pixels",
    "embeddings": "ImageNet features",
    "embeddings, half": "ImageNet features, half of the patients",
    "embeddings tuned to patients, half": "the same, tuned to tell the other half",
}
_MARKS = dict(zip(MODELS, "os^D", strict=True))
_COLOURS = ("#1b6ca8", "#c2571a", "#4c8c4a", "#8a4fa3", "#777777")


def name_of(cohort: str, task: str = "") -> str:
    """Return what a cohort is called, with its task where it has several."""
    called = COHORTS.get(cohort, cohort.replace("phantom", "phantom, identity"))
    return f"{called}: {TASKS[task]}" if cohort == "chest_xray" and TASKS.get(task) else called


def likeness_table(likes: pd.DataFrame) -> pd.DataFrame:
    """Put retrieval and verification into the words of a page.

    Parameters
    ----------
    likes : pandas.DataFrame
        ``book/data/likeness.csv``.
    """
    rows = []
    for row in likes.to_dict("records"):
        said = {
            "Cohort": name_of(row["cohort"]),
            "Compared by": FEATURES[row["features"]],
            "Images": f"{row['images']:,.0f}",
            "Patients": f"{row['groups']:,.0f}",
            "Asking": f"{row['asking']:,.0f}",
        }
        for name, column in (("Nearest is the patient's", "rank_1"), ("One of 20 nearest", "rank_20")):
            chance = row[column.replace("rank", "chance")]
            said[name] = _interval(row, column, ".1%")
            said[f"{name}, by chance"] = f"{chance:.1%}"
        said["Verification, ROC AUC"] = _interval(row, "verification", ".3f")
        rows.append(said)
    return pd.DataFrame(rows)


def gain_table(measured: pd.DataFrame) -> pd.DataFrame:
    """Put what a plain split adds at the full size into the words of a page.

    Parameters
    ----------
    measured : pandas.DataFrame
        ``book/data/inflation_by_size.csv``.
    """
    rows = []
    for row in full_size(measured).to_dict("records"):
        rows.append(
            {
                "Cohort": name_of(row["cohort"], row["task"]),
                "Model": row["name"],
                "Train": f"{row['size']:,.0f}",
                "Patients": f"{row['patients']:,.0f}",
                "Draws": f"{row['draws']:,.0f}",
                "ROC AUC, split by patient": f"{row['clean']:.3f}",
                "Added by a plain split": _interval(row, "estimate", "+.3f", ""),
                "Share of what was left": _interval(row, "share", "+.0%"),
            }
        )
    return pd.DataFrame(rows)


def full_size(measured: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the largest size of each cohort, task and model, with the model's ``name``."""
    names = {key: name for name, key in MODELS.items()}
    named = [names[key] for key in zip(measured["model"], measured["features"], strict=True)]
    rows = measured.assign(name=named)
    return rows.loc[rows.groupby(["cohort", "task", "name"], sort=False)["size"].idxmax()]


def _interval(row: dict[str, float], name: str, form: str, prefix: str | None = None) -> str:
    lower, upper = (
        (row["low"], row["high"]) if prefix is not None else (row[f"{name}_low"], row[f"{name}_high"])
    )
    if pd.isna(row[name]):
        return "none"
    return f"{row[name]:{form}} ({lower:{form}} to {upper:{form}})"


def picture(measured: pd.DataFrame) -> Figure:
    """Draw what a plain split adds, cohort by cohort, and beside it why: how often the patient is found.

    Parameters
    ----------
    measured : pandas.DataFrame
        ``book/data/inflation_by_size.csv``.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), width_ratios=(1.15, 1), layout="constrained")
    _by_cohort(left, full_size(measured))
    _against_found(right, measured)
    handles = [
        plt.Line2D([], [], color="#333333", marker=mark, ls="", label=name) for name, mark in _MARKS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def _by_cohort(axes: Axes, rows: pd.DataFrame) -> None:
    places = list(dict.fromkeys(zip(rows["cohort"], rows["task"], strict=True)))
    for row in rows.to_dict("records"):
        lane = list(_MARKS).index(row["name"])
        y = places.index((row["cohort"], row["task"])) + (lane - 1.5) * 0.18
        colour = _colour(row["cohort"])
        axes.plot([row["low"], row["high"]], [y, y], color=colour, lw=1)
        axes.plot(row["estimate"], y, _MARKS[row["name"]], color=colour, ms=5)
    axes.axvline(0, color="#999999", lw=0.8)
    axes.set_yticks(range(len(places)), [name_of(*place) for place in places])
    axes.invert_yaxis()
    axes.set_xlabel("ROC AUC that a plain split adds")


def _against_found(axes: Axes, measured: pd.DataFrame) -> None:
    seen = measured[(measured["model"] == "1-nn") & (measured["features"] == "pixels")]
    found = seen.set_index(["cohort", "task", "size"])["found"]
    names = {key: name for name, key in MODELS.items()}
    for row in measured.to_dict("records"):
        x = found[row["cohort"], row["task"], row["size"]]
        mark = _MARKS[names[row["model"], row["features"]]]
        drawn = row["cohort"] in COHORTS
        face = _colour(row["cohort"]) if drawn else "none"
        axes.plot(x, row["share"], mark, mec=_colour(row["cohort"]), mfc=face, ms=5)
    axes.axhline(0, color="#999999", lw=0.8)
    axes.set_xlabel("Share of images whose nearest training image\nis of the same patient (32 x 32 pixels)")
    axes.set_ylabel("Share of what was left to gain that was gained")


def _colour(cohort: str) -> str:
    return _COLOURS[list(COHORTS).index(cohort) if cohort in COHORTS else -1]
