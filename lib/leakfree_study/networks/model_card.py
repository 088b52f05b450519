"""The model card of a run: what its published models are for and how they did, every number from a table."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from leakfree.data.study_file import OwnStudy
from leakfree_study.figures.pages import page
from leakfree_study.figures.tables import METRIC_NAMES, bracketed
from leakfree_study.own.limits import UNKNOWN

#: ROC AUC above which we say that a model tells classes apart; the numbers stand beside the words.
_TELLS = 0.75
_FILES = {
    "weights (half precision)": lambda d: f"`{d['weights']}`",
    "network": lambda d: d["model"],
    "task": lambda d: d["task"],
    "side": lambda d: f"{d['image_size']} px",
    "initial weights": lambda d: d["initial_weights"],
    "epoch kept": lambda d: d["epoch"],
    "SHA-256": lambda d: f"`{d['weights_sha256'][:16]}`",
}


def model_card(folder: Path, study: OwnStudy | None = None) -> str:
    """Write the card of the models that a run published, from its tables and descriptions.

    Parameters
    ----------
    folder : pathlib.Path
        Run folder in which notebook 05 has run.
    study : OwnStudy, optional
        The study on other images that the run belongs to.

    Returns
    -------
    str
        Markdown.

    Raises
    ------
    FileNotFoundError
        If a table or description is missing.
    """
    folder = Path(folder)
    described = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((folder / "models").glob("*preprocessing.json"), key=lambda p: len(p.name))
    ]
    main = described[0]
    published = {(d["task"], _label(d), str(d["seed"])) for d in described}
    manifest = next(
        content
        for path in sorted((folder / "manifests").glob("05-*.json"))
        if (content := json.loads(path.read_text(encoding="utf-8")))["hash"] == main["manifest_hash"]
    )
    official, novelty = _both(folder, "official"), _table(folder, "novelty")
    # Notebook 05_reframed has tables of its own; where it chose the published network, that one's score.
    choice = _table(folder, "framing_scores")
    reframed = choice is not None and not _of(choice, main).empty
    if reframed:
        novelty = _table(folder, "framing_novelty")
    return page(
        "leakfree_study.networks",
        "model_card.md.j2",
        main=main,
        files={"head": list(_FILES), "rows": [[cell(d) for cell in _FILES.values()] for d in described]},
        manifest=manifest,
        sizes=", ".join(f"{part} {len(ids):,}" for part, ids in manifest["parts"].items()),
        reframed=reframed,
        rates=_rates(folder, main),
        zooms=_zooms(folder, main),
        internal=_scores(_both(folder, "scores", needed=True), "internal", published),
        official=None if official is None else _scores(official, "official", published),
        novelty=None if novelty is None else _with(novelty, "warned", ["kind", "group"], "n_images"),
        **_calibration(folder, main),
        **_looks(folder, _label(main)),
        tells=_TELLS,
        study=study,
        unknown=UNKNOWN,
    )


def _table(folder: Path, name: str, *, needed: bool = False) -> pd.DataFrame | None:
    path = folder / "tables" / f"05_{name}.csv"
    return pd.read_csv(path) if needed or path.is_file() else None


def _both(folder: Path, name: str, *, needed: bool = False) -> pd.DataFrame | None:
    """Read a table of notebook 05, and below it the same of the networks trained against framing."""
    found = [_table(folder, name, needed=needed), _table(folder, f"framing_{name}")]
    there = [table for table in found if table is not None and len(table)]
    if not there:
        return found[0]
    table = pd.concat(there, ignore_index=True)
    # Both openings of the sealed test stand in the second table: a score stands once.
    keys = [name for name in ("task", "model", "seed", "metric", "opening") if name in table]
    return table if name != "official" else table.astype({"seed": str}).drop_duplicates(keys)


def _rates(folder: Path, main: dict[str, object]) -> list[list[str]]:
    """Return sensitivity and specificity of the published network, a row a test that they were scored on."""
    rows = []
    for test, name in (("internal", "framing_scores"), ("official", "framing_official")):
        table = _table(folder, name)
        if table is None:
            continue
        mine = _of(table, main).set_index("metric")
        if {"sensitivity", "specificity"} <= set(mine.index):
            shown = bracketed(mine)
            counts = mine.iloc[0]
            rows.append(
                [
                    test,
                    *(shown[metric] for metric in ("sensitivity", "specificity", "accuracy", "roc_auc")),
                    f"{counts['n_images']:,} ({counts['n_patients']:,})",
                ]
            )
    return rows


def _zooms(folder: Path, main: dict[str, object]) -> list[list[str]]:
    """Return sensitivity and specificity of the published network on images framed otherwise."""
    table = _table(folder, "framing_curves")
    if table is None:
        return []
    mine = _of(table, main)
    text = mine.assign(shown=bracketed(mine))
    wide = text.pivot_table(index="framing", columns="metric", values="shown", aggfunc="first", sort=False)
    if not {"sensitivity", "specificity"} <= set(wide):
        return []
    return [[name, row["sensitivity"], row["specificity"]] for name, row in wide.iterrows()]


def _of(table: pd.DataFrame, main: dict[str, object]) -> pd.DataFrame:
    """Return the rows of the published network."""
    mine = {"task": main["task"], "model": _label(main), "seed": str(main["seed"])}
    for column, value in mine.items():
        table = table[table[column].astype(str) == value]
    return table


def _label(described: dict[str, object]) -> str:
    return str(described["weights"]).removesuffix(".safetensors").removesuffix("_leakfree")


def _with(table: pd.DataFrame, column: str, before: list[str], count: str) -> list[list[str]]:
    """Return rows: some columns, a column with its interval, and a count."""
    if table.empty:
        return []
    return [
        [*(row[name] for name in before), text, f"{row[count]:,}"]
        for (_, row), text in zip(table.iterrows(), bracketed(table, column), strict=True)
    ]


def _scores(scores: pd.DataFrame, what: str, published: Collection[tuple[str, str, str]]) -> dict:
    metrics = [m for m in METRIC_NAMES if m in set(scores["metric"])]
    names = [METRIC_NAMES[m] for m in metrics]
    found = {"head": [f"{what} test", "network", "seed", *names, "images (patients)"], "rows": []}
    text = scores.assign(shown=bracketed(scores))
    for (task, model, seed), rows in text.groupby(["task", "model", "seed"], sort=False):
        mine = (task, model, str(seed)) in published
        several = (scores["task"] == task) & (scores["model"] == model)
        if str(seed) != "ensemble" and not mine and (scores[several]["seed"].astype(str) == "ensemble").any():
            continue  # other members stand in the table of the run
        shown, first = rows.set_index("metric")["shown"], rows.iloc[0]
        values = [shown.get(m, "") for m in metrics]
        counts = f"{first['n_images']:,} ({first['n_patients']:,})"
        found["rows"].append([task, model, f"{seed}{', **published**' if mine else ''}", *values, counts])
    return found


def _calibration(folder: Path, main: dict[str, object]) -> dict[str, list]:
    names = ("calibration_error", "coverage")
    errors, covered = (_both(folder, name, needed=True) for name in names)
    errors, covered = (_of(table, main) if len(table) else table for table in (errors, covered))
    parts = []
    for part, rows in errors.groupby("part", sort=False):
        text = dict(zip(rows["when"], bracketed(rows, "ece"), strict=True))
        parts.append([part, text["before"], text["after"]])
    return {"errors": parts, "covered": _with(covered, "coverage", ["part", "group"], "n_patients")}


def _looks(folder: Path, model: str) -> dict[str, object]:
    probe, used = (_both(folder, name, needed=True) for name in ("hidden_probe", "hidden"))
    probe = probe[probe["metric"] == "roc_auc"]
    used = used[(used["metric"] == "roc_auc") & (used["model"] == model)]
    retrained = dict(zip(probe["hidden"], bracketed(probe), strict=True))
    rows = [[h, text, retrained.get(h, "")] for h, text in zip(used["hidden"], bracketed(used), strict=True)]
    region = next(name for name in probe["hidden"] if name != "nothing")
    left, own = (float(table.loc[table["hidden"] == region, "estimate"].iloc[0]) for table in (probe, used))
    measured = not (np.isnan(left) or np.isnan(own))
    head = ["hidden", "ROC AUC of this network, shown such images"]
    return {
        "hidden": {"head": [*head, "ROC AUC of a model trained on such images"], "rows": rows},
        "region": region,
        "left": left if measured else None,
        "own": own if measured else None,
    }
