"""Show how a network did on someone's images: as text, as tables, and as one page with the zoom curve."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined

from leakfree.base.escape import one_line, spreadsheet
from leakfree.base.files import write_json, write_text
from leakfree.predict.classifier import WARNING, Classifier
from leakfree.predict.score_images import Scoring

#: Words for metrics where their names are not read by people.
_WORDS = {
    "roc_auc": "ROC AUC",
    "macro_f1": "macro F1",
    "balanced_accuracy": "balanced accuracy",
    "average_precision": "average precision",
}
#: Left and right end, top and bottom of the curves, in units of the picture.
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 600, 14, 250


def words(metric: str) -> str:
    """Name a metric for people."""
    return _WORDS.get(metric, metric)


def interval(row: pd.Series) -> str:
    """Write an estimate with its interval, such as ``0.951 (0.930 to 0.968)``."""
    if pd.isna(row["estimate"]):
        return "undefined"
    told = f"{row['estimate']:.3f}"
    return told if pd.isna(row["low"]) else f"{told} ({row['low']:.3f} to {row['high']:.3f})"


def text_of(scored: Scoring, classifier: Classifier, name: str) -> list[str]:
    """Return what is printed, line by line."""
    first = scored.scores.iloc[0]
    lines = [
        f"{classifier.about['name']} on {one_line(name)}: {first['n_images']:,} images of "
        f"{first['n_patients']:,} patients, intervals of 95 % over patients",
        "",
        *_aligned([[words(row["metric"]), interval(row)] for _, row in scored.scores.iterrows()]),
        "",
        "the same images, framed otherwise",
        *_aligned(_wide(scored.framings, "framing")),
    ]
    for column, rows in scored.groups.groupby("column", sort=False):
        lines += ["", f"by {one_line(column)}", *_aligned(_wide(rows, "value", counts=True))]
    if len(scored.coverage):
        held = scored.coverage.iloc[0]
        lines += [
            "",
            f"prediction sets hold the true class for {held['coverage']:.1%} of patients "
            f"({held['low']:.1%} to {held['high']:.1%}); {scored.calibration.iloc[-1]['ece']:.3f} is the "
            "calibration error",
        ]
    return [*lines, "", *scored.notes, WARNING]


def _wide(rows: pd.DataFrame, key: str, counts: bool = False) -> list[list[str]]:
    """Return one row a framing or group, and one column a metric, with a head."""
    metrics = [name for name in dict.fromkeys(rows["metric"]) if name != "too few images"]
    table = [[key, *map(words, metrics), *(["images", "patients"] if counts else [])]]
    for value, some in rows.groupby(key, sort=False):
        of = {row["metric"]: interval(row) for _, row in some.iterrows()}
        cells = [one_line(value), *(of.get(name, "too few images") for name in metrics)]
        first = some.iloc[0]
        table.append([*cells, *([f"{first['n_images']:,}", f"{first['n_patients']:,}"] if counts else [])])
    return table


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def write_report(scored: Scoring, classifier: Classifier, name: str, folder: Path) -> None:
    """Write ``index.html``, a table for each part of the result, and ``predictions.csv``, into a folder.

    Parameters
    ----------
    scored : Scoring
    classifier : Classifier
        That scored them.
    name : str
        Of the images.
    folder : pathlib.Path
        Made where it is not there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables = ("scores", "framings", "groups", "calibration", "coverage", "predictions")
    for table in tables:
        rows = getattr(scored, table)
        if len(rows):
            text = rows.map(lambda value: spreadsheet(value) if isinstance(value, str) else value)
            write_text(folder / f"{table}.csv", text.to_csv(index=False, lineterminator="\n"))
    lost = [{"file": problem.file, "reason": problem.reason} for problem in scored.problems]
    write_json(
        folder / "about.json",
        {"images": name, "model": classifier.about, "notes": scored.notes, "lost": lost},
    )
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = files("leakfree.predict").joinpath("score_page.html.j2").read_text(encoding="utf-8")
    page = environment.from_string(template).render(
        name=one_line(name),
        model=classifier.about,
        scores=[[words(row["metric"]), interval(row)] for _, row in scored.scores.iterrows()],
        counts=scored.scores.iloc[0],
        curves=_curves(scored.framings),
        framings=_wide(scored.framings, "framing"),
        groups={
            str(column): _wide(rows, "value", counts=True) for column, rows in scored.groups.groupby("column")
        },
        calibration=scored.calibration.to_dict("records"),
        coverage=scored.coverage.to_dict("records"),
        notes=scored.notes,
        lost=lost[:20],
        warning=WARNING,
        frame={"left": _LEFT, "right": _RIGHT, "top": _TOP, "bottom": _BOTTOM},
    )
    write_text(folder / "index.html", page)


def _curves(framings: pd.DataFrame) -> dict:
    """Return where the points of the zoom curves stand in the picture."""
    # Two rates, the first ones: more lines are not read.
    shown = framings["metric"].isin(framings["metric"].unique()[:2])
    zooms = framings[shown & (framings["right"] == 0) & (framings["down"] == 0)]
    values = sorted(set(zooms["zoom"]))
    low = float(np.nanmin([0.9, *zooms["low"].dropna(), *zooms["estimate"].dropna()]))
    floor = max(0.0, np.floor(low * 10) / 10)

    def x(zoom: float) -> float:
        return round(_LEFT + (zoom - values[0]) / (values[-1] - values[0]) * (_RIGHT - _LEFT), 1)

    def y(value: float) -> float:
        return round(_BOTTOM - (value - floor) / (1 - floor) * (_BOTTOM - _TOP), 1)

    lines = []
    for number, (metric, rows) in enumerate(zooms.groupby("metric", sort=False)):
        rows = rows.dropna(subset=["estimate"]).sort_values("zoom")
        lines.append(
            {
                "name": words(str(metric)),
                "points": [(x(row["zoom"]), y(row["estimate"])) for _, row in rows.iterrows()],
                "bars": [
                    # Beside one another, lest one hides the other.
                    (x(row["zoom"]) + 5 * number, y(row["low"]), y(row["high"]))
                    for _, row in rows.dropna(subset=["low"]).iterrows()
                ],
            }
        )
    steps = np.round(np.linspace(floor, 1, 6), 2)
    return {
        "lines": [line for line in lines if line["points"]],
        "x": [(x(zoom), f"{zoom:g}") for zoom in values],
        "y": [(y(step), f"{step:g}") for step in steps],
    }
