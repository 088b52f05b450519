"""The model card of a run: what its published models are for and how they did, every number from a table."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from leakfree.base.escape import markdown
from leakfree.data.study_file import OwnStudy
from leakfree_study.figures.tables import METRIC_NAMES, bracketed
from leakfree_study.own.limits import UNKNOWN


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
    tables = {name: pd.read_csv(folder / "tables" / f"05_{name}.csv") for name in _TABLES}
    official = folder / "tables" / "05_official.csv"
    described = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((folder / "models").glob("*preprocessing.json"), key=lambda p: len(p.name))
    ]
    main = described[0]
    chosen = {"task": main["task"], "model": _label(main)}
    published = {(d["task"], _label(d), str(d["seed"])) for d in described}
    lines = [
        f"# Model card: {main['weights'].removesuffix('.safetensors')}",
        "",
        "Generated from the run's tables by notebook 05; do not edit. A network of a study on data",
        "leakage, not a medical device: it was never tried in a clinic, and must not be used to decide",
        "about a patient.",
        "",
        "## Files",
        "",
        "| weights (half precision) | network | task | side | initial weights | epoch kept | SHA-256 |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| `{d['weights']}` | {d['model']} | {d['task']} | {d['image_size']} px | "
            f"{d['initial_weights']} | {d['epoch']} | `{d['weights_sha256'][:16]}` |"
            for d in described
        ),
        "",
        f"Input: one grey image, squashed to a square (the aspect ratio is not kept), {main['scale']};",
        f"mean {main['mean']}, standard deviation {main['std']}. Output: probabilities of",
        f"{', '.join(map(markdown, main['classes']))}, scaled by the temperature in `calibration.json`. "
        "Weights load",
        "without unpickling, checked by hash and shape.",
        "",
        "## Training",
        "",
        *_training(folder, main),
        "",
        "## Scores on patients that no part of the training saw",
        "",
        "95 % intervals by bootstrap over patients. Internal: the test part of development images, scored",
        "once. Official: the test folder of the distribution, opened once by a plan committed before. What",
        "is published is one seed; an ensemble's scores are not its own.",
        "",
        *_scores(tables["scores"], "internal", published),
        "",
        *(
            _scores(pd.read_csv(official), "official", published)
            if official.is_file()
            else ["The official test is sealed in this run: no score of it exists."]
        ),
        "",
        "## Calibration",
        "",
        *_calibration(tables, chosen, int(main["seed"])),
        "",
        "## What it looks at",
        "",
        *_looks(tables, chosen["model"]),
        "",
        *_novelty(folder),
        "## What cannot be concluded",
        "",
        *(
            [
                "- Nothing about other hospitals, adults, other devices, or diseases that are not in these "
                "folders."
            ]
            if study is None
            else [
                "- Nothing about images from elsewhere, or about what none of these labels names.",
                *([] if study.patients_known else [f"- {UNKNOWN}"]),
            ]
        ),
        "- The labels are those of the files; no chart stands behind them here.",
        "- A set of one class is no diagnosis: nine in ten is promised for patients like those it was set",
        "  on, and nothing under a shift.",
        *(
            ["- A warm map over the lungs does not show that the lungs were read; see the control above."]
            if study is None
            else ["- A warm map does not show what was read; see the control above."]
        ),
        "",
    ]
    return "\n".join(lines)


_TABLES = ("scores", "calibration_error", "coverage", "hidden", "hidden_probe")


def _label(described: dict[str, object]) -> str:
    weights = str(described["weights"])
    return weights.removesuffix(".safetensors").removesuffix("_leakfree")


def _training(folder: Path, main: dict[str, object]) -> list[str]:
    manifest = next(
        content
        for path in sorted((folder / "manifests").glob("05-*.json"))
        if (content := json.loads(path.read_text(encoding="utf-8")))["hash"] == main["manifest_hash"]
    )
    sizes = ", ".join(f"{part} {len(ids):,}" for part, ids in manifest["parts"].items())
    return [
        f"Images by part: {sizes}. No patient (scope `{manifest['scope']}`) and no copy stands in two parts;",
        f"the ledger in `ledgers/` proves what was consumed. Split seed {manifest['seed']}, network seed",
        f"{main['seed']}.",
        "Validation chose the epoch; temperature and prediction sets have parts of their own.",
    ]


def _scores(scores: pd.DataFrame, what: str, published: Collection[tuple[str, str, str]]) -> list[str]:
    metrics = [m for m in METRIC_NAMES if m in set(scores["metric"])]
    names = " | ".join(METRIC_NAMES[m] for m in metrics)
    lines = [
        f"| {what} test | network | seed | {names} | images (patients) |",
        "|---" * (len(metrics) + 4) + "|",
    ]
    text = scores.assign(shown=bracketed(scores))
    for (task, model, seed), rows in text.groupby(["task", "model", "seed"], sort=False):
        mine = (task, model, str(seed)) in published
        several = (scores["task"] == task) & (scores["model"] == model)
        if str(seed) != "ensemble" and not mine and (scores[several]["seed"].astype(str) == "ensemble").any():
            continue  # other members stand in the table of the run
        shown, first = rows.set_index("metric")["shown"], rows.iloc[0]
        values = " | ".join(shown.get(m, "") for m in metrics)
        lines.append(
            f"| {task} | {model} | {seed}{', **published**' if mine else ''} | {values} | "
            f"{first['n_images']:,} ({first['n_patients']:,}) |"
        )
    return lines


def _calibration(tables: dict[str, pd.DataFrame], chosen: dict[str, str], seed: int) -> list[str]:
    errors, covered = (
        table[
            (table["task"] == chosen["task"])
            & (table["model"] == chosen["model"])
            & (table["seed"].astype(str) == str(seed))
        ]
        if len(table)
        else table
        for table in (tables["calibration_error"], tables["coverage"])
    )
    lines = ["| test | expected calibration error before | after |", "|---|---|---|"]
    for part, rows in errors.groupby("part", sort=False):
        text = dict(zip(rows["when"], bracketed(rows, "ece"), strict=True))
        lines.append(f"| {part} | {text['before']} | {text['after']} |")
    lines += ["", "| test | group | coverage of sets made for 90 % | patients |", "|---|---|---|---|"]
    for row, text in zip(
        covered.itertuples(), bracketed(covered, "coverage") if len(covered) else [], strict=True
    ):
        lines.append(f"| {row.part} | {markdown(row.group)} | {text} | {row.n_patients} |")
    return lines


def _looks(tables: dict[str, pd.DataFrame], model: str) -> list[str]:
    lines = [
        "| hidden | ROC AUC of this network, shown such images | ROC AUC of a model trained on such images |"
    ]
    lines.append("|---|---|---|")
    probe = tables["hidden_probe"]
    probe = probe[probe["metric"] == "roc_auc"]
    retrained = dict(zip(probe["hidden"], bracketed(probe), strict=True))
    used = tables["hidden"]
    used = used[(used["metric"] == "roc_auc") & (used["model"] == model)]
    for name, text in zip(used["hidden"], bracketed(used), strict=True):
        lines.append(f"| {name} | {text} | {retrained.get(name, '')} |")
    region = next(name for name in probe["hidden"] if name != "nothing")
    left = float(probe.loc[probe["hidden"] == region, "estimate"].iloc[0])
    own = float(used.loc[used["hidden"] == region, "estimate"].iloc[0])
    if np.isnan(left) or np.isnan(own):
        return [*lines, "", "What is left when a region is hidden could not be measured here."]
    verdict = "tells the classes apart" if left > _TELLS else "tells little of the classes"
    verb = "still tells" if own > _TELLS else "hardly tells"
    lines += [
        "",
        f"With the {region} hidden this network {verb} the classes apart (ROC AUC {own:.3f}), "
        "and what is left",
        f"of the images {verdict} to a model that is trained on it ({left:.3f}).",
        *(
            [f"So a high score on these images is no proof that the {region} {_was(region)} read."]
            if max(left, own) > _TELLS
            else []
        ),
    ]
    return lines


def _was(region: str) -> str:
    return "were" if region.endswith("s") else "was"


def _novelty(folder: Path) -> list[str]:
    path = folder / "tables" / "05_novelty.csv"
    if not path.is_file():
        return []
    table = pd.read_csv(path)
    rows = zip(table["kind"], table["group"], bracketed(table, "warned"), table["n_images"], strict=True)
    return [
        "## When it warns that a picture is no such image",
        "",
        "The network has an answer for every picture. The novelty score is no part of it and knows no",
        "classes; over its limit the service says not to believe the class.",
        "",
        "| kind | group | share warned of | images |",
        "|---|---|---|---|",
        *(
            f"| {markdown(kind)} | {markdown(group)} | {text} | {images:,} |"
            for kind, group, text, images in rows
        ),
        "",
    ]


#: ROC AUC above which we say that a model tells classes apart; the numbers stand beside the words.
_TELLS = 0.75
