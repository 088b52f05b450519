"""The book of a study on the user's own images: its title, landing page and contents, from its run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import yaml

from leakfree.base.files import write_text
from leakfree.data.patients import DECLARED, SUBJECT
from leakfree.data.study_file import OwnStudy
from leakfree_study.figures.pages import page
from leakfree_study.figures.tables import bracketed
from leakfree_study.own.limits import UNKNOWN, limits
from leakfree_study.run.config import CHEST_ONLY, NOTEBOOKS

#: The cohort as a run records it, see `leakfree.data.record`.
COHORT = "cohort.csv"


def stage(source: Path, run: Path, study: OwnStudy) -> None:
    """Make the staged sources of the book those of a study: contents, title, and pages of its own.

    Parameters
    ----------
    source : pathlib.Path
        A copy of the compendium's ``book/``, which is changed.
    run : pathlib.Path
        Run folder with tables and the record of the cohort.
    study : OwnStudy
    """
    for old in source.rglob("*.md"):
        old.unlink()
    contents = {
        "format": "jb-book",
        "root": "intro",
        "parts": [
            {
                "caption": "The study, step by step",
                "chapters": [{"file": f"run/{name}"} for name in NOTEBOOKS if name not in CHEST_ONLY],
            },
            {"caption": "How to read it", "chapters": [{"file": "limits"}, {"file": "words"}]},
        ],
    }
    write_text(source / "_toc.yml", yaml.safe_dump(contents, sort_keys=False))
    config = yaml.safe_load((source / "_config.yml").read_text(encoding="utf-8"))
    config |= {"title": study.title, "author": "", "copyright": ""}
    write_text(source / "_config.yml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    cohort = pd.read_csv(run / COHORT, dtype=str, keep_default_na=False)
    values = {"study": study, "many": plural(study.image), **_intro(run, study, cohort)}
    values["limits"] = limits(cohort, patients_known=study.patients_known)
    values["left_out"] = json.loads((run / "cohort.json").read_text(encoding="utf-8")).get("problems")
    for name in ("intro", "limits", "words"):
        write_text(source / f"{name}.md", page("leakfree_study.book", f"own_{name}.md.j2", **values))


def _intro(run: Path, study: OwnStudy, cohort: pd.DataFrame) -> dict[str, object]:
    provenance = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    return {
        "images": f"{len(cohort):,}",
        "development": f"{cohort['part'].isin(['train', 'unsplit']).sum():,}",
        "patients": _patients(cohort, study),
        "profile": provenance["settings"]["profile"],
        "classes": [[r.part, r.label, f"{r.images:,}"] for r in _read(run, "01_classes").itertuples()],
        "audit": _audit(run),
        "answers": list(_answers(run, study, plural(study.image))),
    }


def _patients(cohort: pd.DataFrame, study: OwnStudy) -> str:
    named = cohort.loc[cohort[SUBJECT] != "", SUBJECT]
    if not study.patients_known or named.empty:
        return UNKNOWN
    rest = len(cohort) - len(named)
    alone = f" {rest:,} name none and count as a patient each." if rest else ""
    return (
        f"They name {named.nunique():,} patients (scope `{DECLARED}`, by the rule of the study file).{alone}"
    )


def _audit(run: Path) -> dict[str, list]:
    found = _read(run, "02_audit")
    splits = list(dict.fromkeys(found["split"]))
    rows = [
        [check, *(f"{r.status} ({r.count})" if r.count else r.status for r in rows.itertuples())]
        for check, rows in found.groupby("check", sort=False)
    ]
    first = found[(found["split"] == splits[0]) & found["status"].isin(["FAIL", "WARN"])]
    told = [f"{splits[0]}, {row.check}: {row.summary}" for row in first.itertuples()]
    return {"head": ["check", *splits], "rows": rows, "official": told}


def _answers(run: Path, study: OwnStudy, many: str) -> Iterator[list[str]]:
    overlap = _read(run, "02_overlap")
    page = "[](run/02_leakage_analysis.ipynb)"
    for row in overlap[(overlap["scope"] == DECLARED) & study.patients_known].itertuples():
        yield [
            f"Patients on both sides of a {row.split} random 80/20 split of {many}",
            f"{row.shared:.1f} (mean of {row.seeds} draws, {row.shared_min} to {row.shared_max})",
            page,
        ]
    leaky, page = _read(run, "03_scores"), "[](run/03_leaky_cnn.ipynb)"
    first = leaky[(leaky["metric"] == "roc_auc") & (leaky["seed"] == leaky["seed"].iloc[0])]
    for row, text in zip(first.itertuples(), bracketed(first), strict=True):
        split = f"split of {many}" if row.protocol == "image-level" else "split of linked groups"
        yield [f"Small network, {row.task}, {split}: ROC AUC", text or "undefined", page]
    for name, table, notebook in (
        ("Best model on pixels", "04_scores", "04_leakfree_classical"),
        ("Selected network", "05_scores", "05_leakfree_deep"),
    ):
        scores = _read(run, table)
        chosen = scores[scores["selected"] & scores["metric"].isin(["roc_auc", "macro_f1"])]
        for row, text in zip(chosen.itertuples(), bracketed(chosen), strict=True):
            metric = {"roc_auc": "ROC AUC", "macro_f1": "macro F1"}[row.metric]
            model = str(row.model).replace("_", " ")
            yield [f"{name}, {row.task}, {model}: {metric}", text or "undefined", f"[](run/{notebook}.ipynb)"]
    yield from _inflation(run, many)


def _inflation(run: Path, many: str) -> Iterator[list[str]]:
    page = "[](run/06_inflation.ipynb)"
    path = run / "tables" / "inflation.csv"
    if not path.is_file():
        yield ["What a leak is worth", "cannot be measured on this cohort", page]
        return
    rows = pd.read_csv(path)
    rows = rows[rows["primary"] & (rows["metric"] == "roc_auc") & (rows["dose"] == 1.0)]
    for protocol, what in (
        ("siblings", "Same patient on both sides, all tested patients leaked"),
        ("exact", f"Copies of the test {many} in training"),
    ):
        of_leak = rows[rows["protocol"] == protocol].dropna(subset=["estimate"])
        if len(of_leak):
            most = of_leak.loc[[of_leak["estimate"].idxmax()]]
            row = most.iloc[0]
            what = f"{what}: largest inflation of ROC AUC ({row['model']}, {row['task']})"
            yield [what, bracketed(most, signed=True).iloc[0], page]


def _read(run: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(run / "tables" / f"{name}.csv")


def plural(word: str) -> str:
    """Return the plural of what a study calls one image."""
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    return f"{word[:-1]}ies" if re.search(r"[^aeiou]y$", word) else f"{word}s"
