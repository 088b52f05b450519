"""What framing alone tells of the label in a cohort: the audit's check, as a table of the study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leakfree.audit.checks.framing import framing
from leakfree.audit.checks.separability import over_bar
from leakfree.scores.predictions import read_predictions
from leakfree_study.run.run import Run
from leakfree_study.run.seal_log import read_log

#: Side in pixels of the small pictures that are looked at.
SIDE = 32
_COLUMNS = [
    "question", "looked_at", "estimate", "low", "high", "shuffled_high", "tells", "n_images", "n_patients"
]  # fmt: skip


def framing_told(run: Run, *, n_resamples: int = 500, seed: int = 0) -> pd.DataFrame:
    """Ask how well the edge of an image predicts its class, and inside a class its official part.

    Classes are those of the first task, for the development images, and after them pairs of labels. Parts
    inside a class are compared only where the sealed part was opened before.

    Parameters
    ----------
    run : Run
    n_resamples, seed : int
        Of the bootstrap over linked groups.

    Returns
    -------
    pandas.DataFrame
        ``question``, ``looked_at`` (a name of `leakfree.audit.checks.framing.VIEWS`), ROC AUC as ``estimate,
        low, high``; ``shuffled_high``, what shuffled labels stay under in 95 of 100 times; ``tells``, whether
        that is over the audit's bar; ``n_images, n_patients``. Empty where there are too few images.
    """
    table, pixels = run.cohort.development(), run.pixels(SIDE)
    small = pixels.pixels[pixels.rows(table["image_id"])]
    group = run.groups(table)
    label = table["label"].to_numpy(dtype=object)
    drawn_how = {"resamples": n_resamples, "seed": seed}
    task = next(iter(run.words.tasks.values()))
    mine = task.select(table)
    mine = mine.assign(label=[task.classes[k] for k in task.labels(mine)], part="")
    asked = pixels.pixels[pixels.rows(mine["image_id"])]
    of_task = framing(mine, asked, run.groups(mine), **drawn_how).details
    question = " or ".join(task.classes)
    rows = [_row(question, row["name"], row, run.groups(mine)) for row in of_task.get("views", [])]
    for row in framing(table.assign(part=""), small, group, **drawn_how).details.get("pairs", []):
        inside = np.isin(label, row["labels"])
        rows.append(_row(" or ".join(row["labels"]), "ring", row, group[inside]))
    if len(opened := _opened(run)):
        both = pd.concat([mine.assign(part="train"), opened], ignore_index=True)
        sealed = run.sealed_pixels(SIDE)
        small = np.concatenate([asked, sealed.pixels[sealed.rows(opened["image_id"])]])
        group = run.groups(both)
        for row in framing(both, small, group, **drawn_how).details.get("inside", []):
            inside = (both["label"] == row["label"]).to_numpy()
            first, second = row["parts"]
            question = f"{first} or {second}, among {row['label']} images"
            rows.append(_row(question, "ring", row, group[inside]))
    return pd.DataFrame(rows, columns=_COLUMNS)


def _opened(run: Run) -> pd.DataFrame:
    """Return the sealed images with the classes that an opening brought to light; none before."""
    lines = [line for line in read_log(run.folder) if line["results"]]
    first = next(iter(run.words.tasks))
    files = [
        name for line in lines for name in line["predictions"] if Path(name).name.startswith(f"{first}_")
    ]
    if not files:
        return pd.DataFrame()
    told = read_predictions(run.folder / files[0])
    classes = dict(zip(told.image_ids, np.array(told.classes, dtype=object)[told.labels], strict=True))
    sealed = run.cohort.table[run.cohort.table["image_id"].isin(classes)]
    return sealed.assign(label=sealed["image_id"].map(classes))


def _row(question: str, view: str, row: dict[str, Any], group: np.ndarray) -> dict[str, object]:
    return {
        "question": question,
        "looked_at": view,
        "estimate": row["auc"],
        "low": row["low"],
        "high": row["high"],
        "shuffled_high": row["permutation"]["high"],
        "tells": over_bar(row),
        "n_images": len(group),
        "n_patients": len(np.unique(group)),
    }
