"""Inflation as a share of what was left to gain, and what may be counted and averaged; from a run's tables.

A difference of ROC AUC is small where the score is near 1 already: 0.01 at 0.98 is half of the ranking
errors. So the difference is also told as a share of 1 minus the score without the leak. Intervals of the
share are those of the difference, divided by the same number: the score without the leak is taken as it is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from leakfree_study.figures.names import model_name
from leakfree_study.inflation.catalogue import LEAKS
from leakfree_study.inflation.preregistration import preregistration
from leakfree_study.inflation.results import own_family
from leakfree_study.inflation.shown import task_title, unchanged

_COLUMNS = ("protocol", "task", "model", "clean", "estimate", "share", "share_low", "share_high", "verdict")


def shares(inflation: pd.DataFrame) -> pd.DataFrame:
    """Tell every difference of ROC AUC at full dose as a share of what was left to gain.

    Parameters
    ----------
    inflation : pandas.DataFrame
        ``tables/inflation.csv`` of a run.

    Returns
    -------
    pandas.DataFrame
        ``protocol, task, model, clean, estimate, share, share_low, share_high, verdict``, and
        ``unchanged``, see `unchanged`. The share is NaN where nothing was left to gain.
    """
    rows = inflation[inflation["primary"].astype(bool) & (inflation["metric"] == "roc_auc")]
    rows = rows[rows["dose"] == 1.0]
    left = (1 - rows["clean"]).where(rows["clean"] < 1)
    found = rows.assign(unchanged=unchanged(rows))
    for name, column in (("share", "estimate"), ("share_low", "low"), ("share_high", "high")):
        found[name] = rows[column] / left
    return found[[*_COLUMNS, "unchanged"]].reset_index(drop=True)


def medians(found: pd.DataFrame) -> pd.DataFrame:
    """Take medians over models, of the same models in every task of a leak.

    Parameters
    ----------
    found : pandas.DataFrame
        As `shares`.

    Returns
    -------
    pandas.DataFrame
        ``protocol, task, models, estimate, share, counted, found``: the number of models that were measured,
        with a share, in all tasks of the leak, medians over them, the comparisons of all models that may be
        counted (not those where nothing changed), and those of them that inflate.
    """
    rows = []
    for protocol, of_leak in found.groupby("protocol", sort=False):
        fit = of_leak[~of_leak["unchanged"] & of_leak["share"].notna()]
        of_tasks = [set(fit.loc[fit["task"] == task, "model"]) for task in of_leak["task"].unique()]
        common = set.intersection(*of_tasks)
        for task, of_task in of_leak.groupby("task", sort=False):
            same = of_task[of_task["model"].isin(common)]
            counted = of_task[~of_task["unchanged"]]
            rows.append(
                {
                    "protocol": protocol,
                    "task": task,
                    "models": len(same),
                    "estimate": same["estimate"].median(),
                    "share": same["share"].median(),
                    "counted": len(counted),
                    "found": int(counted["verdict"].str.startswith("inflates").sum()),
                }
            )
    return pd.DataFrame(rows)


def section(argument: str, run: Path) -> str:
    """Return a table of a run as Markdown.

    Parameters
    ----------
    argument : str
        ``shares``: `medians`, leaks of the largest share first. ``patients``: other images of the same
        patient, judged in the large family and in one of its own, with the effect that each would find.
    run : pathlib.Path
        Run folder; one that measured no inflation gives one sentence.
    """
    path = Path(run) / "tables" / "inflation.csv"
    if argument not in ("shares", "patients") or not path.is_file():
        return "This run measured no inflation.\n"
    table = pd.read_csv(path)
    if "clean" not in table:
        return "The tables of this run are of an older version. `leakfree rebuild RUN` makes them again.\n"
    return {"shares": _shares, "patients": _patients}[argument](table, path.parent)


def _shares(inflation: pd.DataFrame, tables: Path) -> str:
    rows = medians(shares(inflation))
    titles = {leak.protocol: leak.title for leak in LEAKS}
    order = rows.groupby("protocol")["share"].max().sort_values(ascending=False, kind="stable").index.tolist()
    rows = rows.sort_values("protocol", key=lambda names: names.map(order.index), kind="stable")
    lines = [
        "| Leak | Task | Models | Difference | Share of what was left | Counted | Inflate |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows.itertuples():
        shown = (f"{row.estimate:+.3f}", f"{row.share:+.0%}") if row.models else ("none", "none")
        lines.append(
            f"| {titles.get(row.protocol, row.protocol)} | {task_title(row.task)} | {row.models} | "
            f"{shown[0]} | {shown[1]} | {row.counted} | {row.found} |"
        )
    return "\n".join(lines) + "\n"


def detectable(effects: pd.DataFrame, task: str, comparisons: int, level: float) -> float:
    """Return the effect that is found in four of five studies at the smallest level of Holm's steps.

    Parameters
    ----------
    effects : pandas.DataFrame
        ``06_minimal_detectable_effect`` of a run.
    task : str
    comparisons : int
        Of the family; 1 for no adjustment.
    level : float
        Of the family.

    Returns
    -------
    float
        In units of ROC AUC; NaN for a task without simulated studies.
    """
    of_task = effects[effects["task"] == task]
    if of_task.empty:
        return float("nan")
    row = of_task.iloc[0]
    df = min(row["tested_a_draw_first_class"], row["tested_a_draw_second_class"]) - 1
    reach = stats.t.ppf(1 - level / (2 * comparisons), df) + stats.t.ppf(0.8, df)
    return float(row["sd_of_estimate"] * reach)


def _patients(inflation: pd.DataFrame, tables: Path) -> str:
    before = preregistration()
    rows = own_family(inflation, before.margins)
    path = tables / "06_minimal_detectable_effect.csv"
    effects = pd.read_csv(path) if path.is_file() else pd.DataFrame({"task": []})
    lines = [
        "| Task | Model | Difference | Share of what was left | All comparisons | Alone |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows.sort_values(["task", "model"], kind="stable").itertuples():
        lines.append(
            f"| {task_title(row.task)} | {model_name(row.model)} | {row.estimate:+.3f} ({row.low:+.3f} to "
            f"{row.high:+.3f}) | {row.share:+.0%} | {row.verdict} | {row.verdict_own} |"
        )
    lines.append("")
    for task, of_task in rows.groupby("task"):
        sizes = {"before adjustment": 1, "alone": of_task["own"].iloc[0], "in all": of_task["family"].iloc[0]}
        found = {name: detectable(effects, task, size, before.level) for name, size in sizes.items()}
        if np.isfinite(found["alone"]):
            lines.append(
                f"{task_title(task).capitalize()}: four of five studies find a difference of "
                f"{found['before adjustment']:.3f} before adjustment, of {found['alone']:.3f} among the "
                f"{sizes['alone']} comparisons of this leak alone, and of {found['in all']:.3f} among all "
                f"{sizes['in all']} comparisons.\n"
            )
    return "\n".join(lines) + "\n"
