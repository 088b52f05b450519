"""Fit the rule of `leakfree estimate` to what was measured, and leave each cohort out once.

The rule is `leakfree/estimate/rule.yaml`, which was committed before it was fitted.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from leakfree.base.files import file_hash, write_text
from leakfree.estimate import rule
from leakfree.estimate.rule import Slope

#: Models of the rule: a head and its features.
MODELS = {
    "1-nn on pixels": ("1-nn", "pixels"),
    "logistic regression on pixels": ("logistic-regression", "pixels"),
    "1-nn on ImageNet features": ("1-nn", "embeddings"),
    "logistic regression on ImageNet features": ("logistic-regression", "embeddings"),
}
_KEY = ["cohort", "task", "size"]


def cells_of(table: pd.DataFrame) -> pd.DataFrame:
    """Put the share gained by each model beside the share found at 32 px.

    Parameters
    ----------
    table : pandas.DataFrame
        ``book/data/inflation_by_size.csv``.

    Returns
    -------
    pandas.DataFrame
        ``cohort, task, size, images, name, found, share, clean, leaky``; one row a model of `MODELS`.
    """
    seen = table[(table["model"] == "1-nn") & (table["features"] == "pixels")]
    found = seen.set_index(_KEY)["found"]
    rows = []
    for name, (model, features) in MODELS.items():
        of_model = table[(table["model"] == model) & (table["features"] == features)]
        cells = of_model[[*_KEY, "images", "clean", "leaky", "share"]].assign(name=name)
        rows.append(cells.join(found, on=_KEY))
    return pd.concat(rows, ignore_index=True)


def slopes_of(cells: pd.DataFrame, cohorts: list[str]) -> dict[str, Slope]:
    """Fit a slope of each model: through the origin by cohort, then mean and spread over cohorts."""
    fitted = {}
    for name in MODELS:
        of_model = cells[cells["name"] == name]
        by_cohort = []
        for cohort in cohorts:
            x, y = (
                of_model.loc[of_model["cohort"] == cohort, column].to_numpy() for column in ("found", "share")
            )
            by_cohort.append(float(x @ y / (x @ x)))
        fitted[name] = Slope(float(np.mean(by_cohort)), float(np.std(by_cohort, ddof=1)), len(cohorts))
    return fitted


def left_out(cells: pd.DataFrame, cohorts: list[str], others: list[str]) -> pd.DataFrame:
    """Foretell each cohort at its full size by the other ones; `others` by all of `cohorts`.

    Returns
    -------
    pandas.DataFrame
        ``cohort, task, model, size, found, clean, gained`` (ROC AUC), ``share`` (observed), ``foretold, low,
        high`` (shares), ``foretold_gained`` (ROC AUC), ``inside`` (whether the interval holds the share).
    """
    full = cells.loc[cells.groupby(["cohort", "task", "name"])["size"].idxmax()]
    rows = []
    for cohort in [*cohorts, *others]:
        slopes = slopes_of(cells, [one for one in cohorts if one != cohort])
        for cell in full[full["cohort"] == cohort].itertuples():
            share, low, high = slopes[cell.name].gained(cell.found)
            rows.append(
                {
                    "cohort": cohort,
                    "task": cell.task,
                    "model": cell.name,
                    "learned_from": len(cohorts) - (cohort in cohorts),
                    "size": cell.size,
                    "found": cell.found,
                    "clean": cell.clean,
                    "gained": cell.leaky - cell.clean,
                    "share": cell.share,
                    "foretold": share,
                    "low": low,
                    "high": high,
                    "foretold_gained": share * (1 - cell.clean),
                    "inside": bool(low <= cell.share <= high),
                }
            )
    return pd.DataFrame(rows)


def write(measured: Path, checked: Path, target: Path = rule.LEARNED) -> None:
    """Fit the rule to a table of measurements; write what was learned, and the check.

    Parameters
    ----------
    measured : pathlib.Path
        ``inflation_by_size.csv``.
    checked : pathlib.Path
        Where the table of `left_out` goes.
    target : pathlib.Path
        Where the numbers go.
    """
    table = pd.read_csv(measured)
    cells, cohorts = cells_of(table), rule.rule()["cohorts"]
    others = [name for name in dict.fromkeys(table["cohort"]) if name not in cohorts]
    learned = learned_from(cells, cohorts, file_hash(measured))
    lines = [
        "# What `leakfree estimate` learned by rule.yaml, from book/data/inflation_by_size.csv.",
        "# Made by: python benchmarks/inflation_by_cohort.py",
        yaml.safe_dump(learned, sort_keys=False, width=110),
    ]
    write_text(target, "\n".join(lines))
    left_out(cells, cohorts, others).to_csv(checked, index=False, float_format="%.5f", lineterminator="\n")


def learned_from(cells: pd.DataFrame, cohorts: list[str], measured: str) -> dict[str, object]:
    """Return what is written down of a fit: slopes, errors of left-out cohorts, the range learned from."""
    used = cells[cells["cohort"].isin(cohorts)]
    errors = left_out(cells, cohorts, [])
    off = (errors["share"] - errors["foretold"]).abs()
    points = (errors["gained"] - errors["foretold_gained"]).abs()
    models = {}
    for name, slope in slopes_of(cells, cohorts).items():
        of_model = (errors["model"] == name).to_numpy()
        models[name] = {
            "slope": round(slope.mean, 4),
            "spread": round(slope.spread, 4),
            "left_out_share": round(float(off[of_model].mean()), 4),
            "left_out_auc": round(float(points[of_model].mean()), 4),
            "left_out_worst_auc": round(float(points[of_model].max()), 4),
            "inside": int(errors.loc[of_model, "inside"].sum()),
            "tried": int(of_model.sum()),
        }
    return {
        "measured_sha256": measured,
        "cohorts": json.loads(used.groupby("cohort", sort=False)["images"].max().loc[cohorts].to_json()),
        "largest_found": round(float(used["found"].max()), 4),
        "models": models,
    }
