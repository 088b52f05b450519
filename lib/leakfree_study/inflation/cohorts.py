"""Inflation by cohort: what several finished runs measured, side by side, and how many images a patient has.

Every number comes from tables of the runs. Two leaks are shown, since every cohort with several images a
patient has them: other images of every tested patient in training, and the same reweighted to a plain split,
where some of the tested patients have none there. The scores of folds that ignore patients are taken too, and
not shown: those folds are made of what trains the clean arm, from which images of patients are taken away.
Where a patient has two, one is left, and nothing can leak.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from leakfree.data.patients import patient_ids
from leakfree.data.record import RecordedCohort
from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
from leakfree.data.tasks import TASKS
from leakfree.data.vocabulary import words_of
from leakfree_study.figures.names import model_name
from leakfree_study.inflation.plots import model_look, ordered_models

#: Leak to what its panel is called, in the order of the panels.
LEAKS = {
    "natural": "A plain split of images",
    "siblings": "Images of every tested patient in training",
}
#: Leaks of ``tables/inflation.csv`` that are taken.
_TAKEN = ("fold-scores", "siblings")
_COLUMNS = (
    "cohort", "task", "images", "patients", "images_a_patient", "other_images", "leak", "model", "clean",
    "estimate", "low", "high", "n_patients", "draws",
)  # fmt: skip
_NUMBERS = ["images_a_patient", "other_images", "clean", "estimate", "low", "high"]


def images_of_patients(patients: Sequence[object]) -> dict[str, float]:
    """Count what a cohort has of each patient.

    Parameters
    ----------
    patients : sequence
        The patient of each image.

    Returns
    -------
    dict of str to float
        ``images, patients, images_a_patient`` (mean over patients) and ``other_images``: how many other
        images of its patient an image has, mean over images.
    """
    sizes = pd.Series(list(patients), dtype=object).value_counts().to_numpy()
    images = int(sizes.sum())
    return {
        "images": images,
        "patients": len(sizes),
        "images_a_patient": images / len(sizes),
        "other_images": float((sizes * (sizes - 1)).sum() / images),
    }


def of_run(folder: Path, name: str) -> pd.DataFrame:
    """Take what a run measured of the two leaks, for every task and model.

    Parameters
    ----------
    folder : pathlib.Path
        Finished run with its record and ``tables/inflation.csv``.
    name : str
        What the cohort is called.

    Returns
    -------
    pandas.DataFrame
        Columns as `side_by_side`; a leak that the run could not measure has no row.
    """
    cohort = RecordedCohort(Path(folder))
    words, table = words_of(cohort), cohort.development()
    counted = {}
    for task_name, task in words.tasks.items():
        rows = task.select(table)
        counted[task_name] = images_of_patients(patient_ids(rows, words.scope))
    found = pd.read_csv(Path(folder) / "tables" / "inflation.csv")
    arms = pd.read_csv(Path(folder) / "tables" / "inflation_arms.csv")
    whole = (found["metric"] == "roc_auc") & (found["dose"] == 1.0) & found["protocol"].isin(_TAKEN)
    rows = [
        {
            **row._asdict(),
            **counted[row.task],
            "cohort": name,
            "leak": row.protocol,
            "clean": _score(arms, row.clean_predictions, row.population),
        }
        for row in found[whole & found["estimate"].notna()].itertuples(index=False)
    ]
    natural = pd.read_csv(Path(folder) / "tables" / "inflation_natural.csv")
    rows += [
        {
            **row._asdict(),
            **counted[row.task],
            "cohort": name,
            "leak": "natural",
            "clean": float("nan"),  # a mean over two kinds of images, whose scores are not one number
        }
        for row in natural[natural["estimate"].notna()].itertuples(index=False)
    ]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _score(arms: pd.DataFrame, predictions: str, population: str) -> float:
    """Return the clean score of a leak; NaN where the table of arms has none, as for trained networks."""
    same = (arms["predictions"] == predictions) & (arms["metric"] == "roc_auc")
    same &= arms["population"] == population
    return float(arms.loc[same, "estimate"].iloc[0]) if same.any() else float("nan")


def of_phantoms(folder: Path, images: int, disease: float = 1.0) -> pd.DataFrame:
    """Take the positive control of a run: phantoms whose strength of identity is known.

    Parameters
    ----------
    folder : pathlib.Path
        Finished run with ``tables/06_control.csv``.
    images : int
        Images of each phantom.
    disease : float
        Strength of disease to take.
    """
    found = pd.read_csv(Path(folder) / "tables" / "06_control.csv")
    task = TASKS["etiology"]
    planned = dict.fromkeys(
        ("exact_duplicates", "near_duplicates", "conflicting_labels", "missing_identifiers"), 0
    )
    plan = PhantomSource(PhantomSettings(n_images=images, **planned)).plan
    taking = [image for image in plan if image.part == "train" and image.drawn in task.mapping]
    counts = images_of_patients([image.patient for image in taking])
    rows = [
        {
            **row._asdict(),
            **counts,
            "cohort": f"phantom, identity {row.identity:g}",
            "task": task.name,
            "leak": "siblings",
            "clean": row.clean_auc,
        }
        for row in found[(found["disease"] == disease) & (found["dose"] == 1.0)].itertuples(index=False)
    ]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def side_by_side(runs: Mapping[str, Path], phantoms: tuple[Path, int] | None = None) -> pd.DataFrame:
    """Put runs beside each other.

    Parameters
    ----------
    runs : mapping of str to pathlib.Path
        What a cohort is called to its run folder.
    phantoms : (pathlib.Path, int), optional
        The run with the positive control, and the images of each of its phantoms.

    Returns
    -------
    pandas.DataFrame
        One row a cohort, task, leak and model: ``cohort, task, images, patients, images_a_patient,
        other_images, leak, model, clean, estimate, low, high, n_patients, draws``. ``clean`` is ROC AUC
        without the leak, ``estimate`` what the leak adds, with its interval over patients.
    """
    parts = [of_run(folder, name) for name, folder in runs.items()]
    if phantoms is not None:
        parts.append(of_phantoms(*phantoms))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(**{name: table[name].astype(float).round(4) for name in _NUMBERS})


def cohort_plot(table: pd.DataFrame, tasks: Mapping[str, str], *, most: float = 0.6) -> Figure:
    """Draw inflation by cohort, ordered by the images of a patient: one panel a leak, one mark a model.

    Parameters
    ----------
    table : pandas.DataFrame
        As `side_by_side`.
    tasks : mapping of str to str
        Cohort to the task that is drawn; a cohort that is not named is left out.
    most : float
        Where the axis ends; intervals that go on beyond it are cut.
    """
    rows = table[table["task"] == table["cohort"].map(tasks)]
    models = ordered_models(rows["model"])
    cohorts = rows.groupby("cohort")["other_images"].first()
    cohorts = cohorts[[name for name in tasks if name in cohorts.index]].sort_values(kind="stable")
    fig, axes = plt.subplots(1, len(LEAKS), figsize=(9.6, 4.8), sharey=True, layout="constrained")
    for axis, (leak, title) in zip(axes, LEAKS.items(), strict=True):
        axis.axhline(0, color="#555555", linewidth=1)
        for place, name in enumerate(cohorts.index):
            if place % 2:
                axis.axvspan(place - 0.5, place + 0.5, color="#f6f6f6", zorder=-1)
            here = rows[(rows["leak"] == leak) & (rows["cohort"] == name)]
            for row in here.itertuples():
                x = place + 0.8 * ((models.index(row.model) + 0.5) / len(models) - 0.5)
                look = model_look(row.model)
                axis.plot([x, x], [row.low, row.high], color=look["color"], linewidth=1.3)
                axis.plot(x, row.estimate, linestyle="", **look)
            if here.empty:
                axis.text(place, 0.02, "not\nmeasured", ha="center", fontsize=7, color="#777777")
        axis.set_xticks(range(len(cohorts)))
        axis.set_xticklabels(
            [f"{name} ({n:.1f})" for name, n in cohorts.items()], rotation=35, ha="right", fontsize=8
        )
        axis.set_xlim(-0.5, len(cohorts) - 0.5)
        axis.set_title(title)
        axis.grid(visible=False, axis="x")
    low, high = max(rows["low"].min(), -most / 2), min(rows["high"].max(), most)
    axes[0].set_ylim(low - 0.02, high + 0.02)
    axes[0].set_ylabel("Inflation of ROC AUC")
    handles = [
        Line2D([], [], linestyle="-", label=model_name(model), **model_look(model)) for model in models
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    plt.close(fig)
    return fig


def summary(table: pd.DataFrame, tasks: Mapping[str, str]) -> pd.DataFrame:
    """Turn `side_by_side` into a table for readers: one row a cohort and model, both leaks in it.

    Parameters
    ----------
    table : pandas.DataFrame
        As `side_by_side`.
    tasks : mapping of str to str
        As `cohort_plot`.
    """
    rows = table[table["task"] == table["cohort"].map(tasks)]
    made = []
    for (cohort, model), of_model in rows.groupby(["cohort", "model"], sort=False):
        first, by_leak = of_model.iloc[0], of_model.set_index("leak")
        made.append(
            {
                "cohort": cohort,
                "images": f"{int(first['images']):,}",
                "patients": f"{int(first['patients']):,}",
                "other images of its patient": f"{first['other_images']:.1f}",
                "model": model,
                "ROC AUC without the leak": _text(by_leak, "siblings", "{clean:.3f}"),
                "a plain split of images adds": _text(by_leak, "natural"),
                "images of every tested patient add": _text(by_leak, "siblings"),
            }
        )
    return pd.DataFrame(made)


def audits(runs: Mapping[str, Path]) -> pd.DataFrame:
    """Take what the audits of runs found: one row a cohort and check that fails or warns on a split.

    Parameters
    ----------
    runs : mapping of str to pathlib.Path
        What a cohort is called to its run folder.

    Returns
    -------
    pandas.DataFrame
        ``cohort, check, split of images, split of linked groups, told``: the last is what the check says of
        the split of images.
    """
    made = []
    for cohort, folder in runs.items():
        found = pd.read_csv(Path(folder) / "tables" / "02_audit.csv").set_index(["check", "split"])
        for check in dict.fromkeys(found.index.get_level_values("check")):
            naive, linked = (
                found.loc[(check, split)] for split in ("image-level split", "linked-group split")
            )
            if {naive["status"], linked["status"]} & {"FAIL", "WARN"}:
                made.append(
                    {
                        "cohort": cohort,
                        "check": check,
                        "split of images": naive["status"],
                        "split of linked groups": linked["status"],
                        "told": naive["summary"],
                    }
                )
    return pd.DataFrame(made)


def _text(by_leak: pd.DataFrame, leak: str, form: str = "{estimate:+.3f} ({low:+.3f} to {high:+.3f})") -> str:
    if leak not in by_leak.index:
        return "not measured"
    row = by_leak.loc[leak]
    numbers = row[["clean", "estimate", "low", "high"]].astype(float)
    wanted = numbers["clean" if "clean" in form else "estimate"]
    return "not measured" if np.isnan(wanted) else form.format(**numbers.to_dict())
