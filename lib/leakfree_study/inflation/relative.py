"""Inflation as a share of what was left to gain, and what may be counted and averaged; from a run's tables.

A difference of ROC AUC is small where the score is near 1 already: 0.01 at 0.98 is half of the ranking
errors. So the difference is also told as a share of 1 minus the score without the leak. Intervals of the
share are those of the difference, divided by the same number: the score without the leak is taken as it is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from leakfree_study.inflation.catalogue import LEAKS
from leakfree_study.inflation.shown import task_title

_COLUMNS = ("protocol", "task", "model", "clean", "estimate", "share", "share_low", "share_high", "verdict")


def shares(inflation: pd.DataFrame, arms: pd.DataFrame) -> pd.DataFrame:
    """Tell every difference of ROC AUC at full dose as a share of what was left to gain.

    Parameters
    ----------
    inflation, arms : pandas.DataFrame
        ``tables/inflation.csv`` and ``tables/inflation_arms.csv`` of a run.

    Returns
    -------
    pandas.DataFrame
        ``protocol, task, model, clean, estimate, share, share_low, share_high, verdict``, and
        ``unchanged``: no prediction changed its rank in any draw, as where a threshold or the same epoch was
        chosen. Such a zero is no finding. The share is NaN where nothing was left to gain, or where the table
        of arms lacks the model.
    """
    rows = inflation[inflation["primary"].astype(bool) & (inflation["metric"] == "roc_auc")]
    rows = rows[rows["dose"] == 1.0]
    scores = arms[arms["metric"] == "roc_auc"].set_index("predictions")["estimate"]
    # The leaky arm is scored on the images of its leak; the clean one of the table may be on fewer.
    clean = scores.reindex(rows["predictions"]).to_numpy() - rows["estimate"].to_numpy()
    left = np.where(clean < 1, 1 - clean, np.nan)
    nothing = (rows[["estimate", "low", "high"]] == 0).all(axis=1)
    found = rows.assign(clean=clean, unchanged=nothing)
    for name, column in (("share", "estimate"), ("share_low", "low"), ("share_high", "high")):
        found[name] = rows[column].to_numpy() / left
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
    """Return the table of `medians` of a run as Markdown, leaks of the largest share first.

    Parameters
    ----------
    argument : str
        ``shares``.
    run : pathlib.Path
        Run folder; one that measured no inflation gives one sentence.
    """
    tables = [Path(run) / "tables" / f"{name}.csv" for name in ("inflation", "inflation_arms")]
    if argument != "shares" or not all(table.is_file() for table in tables):
        return "This run measured no inflation.\n"
    rows = medians(shares(*map(pd.read_csv, tables)))
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
