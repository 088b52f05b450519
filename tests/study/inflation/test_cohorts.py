"""Runs side by side: what comes from which table, and that the page shows what the published runs give."""

import json
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deferred import deferred
from leakfree.data.study_file import OwnStudy

with deferred:
    from leakfree_study.inflation.cohorts import (
        LEAKS,
        audits,
        cohort_plot,
        images_of_patients,
        of_run,
        side_by_side,
        summary,
    )

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "book" / "data"


@pytest.fixture
def run(tmp_path):
    """Write what is read of a run: nine images of three patients, and two leaks of one model."""
    study = OwnStudy(
        name="eyes",
        title="Eyes",
        data="eyes",
        labels=("a", "b"),
        tasks={"ill": {"a": ("a",), "b": ("b",)}},
        patients={"pattern": "(x)"},
    )
    about = {"name": "eyes", "checksum": "0", "problems": [], "class_counts": []}
    (tmp_path / "cohort.json").write_text(json.dumps({**about, "study": study.model_dump(mode="json")}))
    patients = ["p"] * 6 + ["q"] * 2 + ["r"]
    pd.DataFrame(
        {
            "image_id": [f"{n}.png" for n in range(9)],
            "label": ["a", "b"] * 4 + ["a"],
            "part": "unsplit",
            "width": 8,
            "height": 8,
            "mode": "L",
            "sha256": [str(n) for n in range(9)],
            "person_num": "",
            "subject": patients,
        }
    ).to_csv(tmp_path / "cohort.csv", index=False)
    common = {"model": "1-nn on pixels", "task": "ill", "metric": "roc_auc", "n_patients": 3, "draws": 2}
    rows = [
        ("fold-scores", 1.0, 0.2, "f.csv", "training"),
        ("siblings", 1.0, 0.3, "s.csv", "several"),
        ("siblings", 0.5, 0.1, "s.csv", "several"),
        ("exact", 1.0, 0.4, "s.csv", "several"),
    ]
    (tmp_path / "tables").mkdir()
    pd.DataFrame(
        [
            {**common, "protocol": p, "dose": d, "estimate": e, "low": e - 0.1, "high": e + 0.1}
            | {"clean_predictions": f, "predictions": "l.csv", "population": of}
            for p, d, e, f, of in rows
        ]
    ).to_csv(tmp_path / "tables" / "inflation.csv", index=False)
    natural = {"model": "1-nn on pixels", "task": "ill", "estimate": 0.15, "low": 0.05, "high": 0.25}
    natural |= {"n_patients": 3, "draws": 2, "predictions": "l.csv"}
    pd.DataFrame([natural]).to_csv(tmp_path / "tables" / "inflation_natural.csv", index=False)
    pd.DataFrame(
        [
            {"predictions": "f.csv", "metric": "roc_auc", "population": "training", "estimate": 0.6},
            {"predictions": "s.csv", "metric": "roc_auc", "population": "single", "estimate": 0.1},
            {"predictions": "s.csv", "metric": "roc_auc", "population": "several", "estimate": 0.5},
        ]
    ).to_csv(tmp_path / "tables" / "inflation_arms.csv", index=False)
    return tmp_path


def test_images_of_patients_weigh_each_image():
    found = images_of_patients(["p"] * 6 + ["q"] * 2 + ["r"])
    assert (found["images"], found["patients"], found["images_a_patient"]) == (9, 3, 3)
    assert found["other_images"] == pytest.approx((6 * 5 + 2 * 1) / 9)


def test_a_run_gives_its_leaks_at_full_dose_with_the_clean_score_of_the_same_images(run):
    found = of_run(run, "eyes").set_index("leak")
    assert set(found.index) == {*LEAKS, "fold-scores"} and len(found) == 3
    assert found["estimate"].to_dict() == {"fold-scores": 0.2, "siblings": 0.3, "natural": 0.15}
    assert found["clean"].dropna().to_dict() == {"fold-scores": 0.6, "siblings": 0.5}
    assert found["other_images"].unique() == pytest.approx([32 / 9])


def test_readers_see_both_leaks_in_a_row_and_what_was_not_measured(run):
    table = side_by_side({"eyes": run})
    (row,) = summary(table, {"eyes": "ill"}).to_dict("records")
    assert row["ROC AUC without the leak"] == "0.500"
    assert row["a plain split of images adds"] == "+0.150 (+0.050 to +0.250)"
    assert row["images of every tested patient add"] == "+0.300 (+0.200 to +0.400)"
    (row,) = summary(table[table["leak"] == "natural"], {"eyes": "ill"}).to_dict("records")
    assert row["images of every tested patient add"] == row["ROC AUC without the leak"] == "not measured"


def test_the_figure_orders_cohorts_by_their_images_of_a_patient_and_marks_every_row(run):
    table = side_by_side({"many": run})
    few = table.assign(cohort="few", other_images=0.5)
    figure = cohort_plot(pd.concat([table, few]), {"many": "ill", "few": "ill"})
    first, second = figure.axes
    assert [label.get_text() for label in first.get_xticklabels()] == ["few (0.5)", "many (3.6)"]
    for axis, estimate in ((first, 0.15), (second, 0.3)):
        marks = [line.get_ydata()[0] for line in axis.lines if line.get_linestyle() == "None"]
        assert np.allclose(marks, estimate) and len(marks) == 2
    assert cohort_plot(table, {"many": "ill"}).axes[0].get_xticklabels()[0].get_text() == "many (3.6)"


def test_audits_tell_what_fails_or_warns_on_either_split(tmp_path):
    rows = [
        ("image-level split", "patients", "FAIL", "two in both"),
        ("linked-group split", "patients", "PASS", "none"),
        ("image-level split", "blank", "PASS", "all show something"),
        ("linked-group split", "blank", "PASS", "all show something"),
        ("image-level split", "shift", "PASS", "alike"),
        ("linked-group split", "shift", "WARN", "differ"),
    ]
    (tmp_path / "tables").mkdir()
    table = pd.DataFrame(rows, columns=["split", "check", "status", "summary"])
    table.to_csv(tmp_path / "tables" / "02_audit.csv", index=False)
    found = audits({"eyes": tmp_path})
    assert found["check"].tolist() == ["patients", "shift"]
    assert found["split of images"].tolist() == ["FAIL", "PASS"]
    assert found["split of linked groups"].tolist() == ["PASS", "WARN"]
    assert found["told"].tolist() == ["two in both", "alike"]


def test_the_page_shows_what_the_published_runs_give():
    made = runpy.run_path(str(ROOT / "benchmarks" / "cohorts.py"))
    every, shown, _ = made["tables"]()
    assert (DATA / "cohorts.csv").read_text(encoding="utf-8") == made["text"](every)
    assert (DATA / "cohorts_shown.csv").read_text(encoding="utf-8") == made["text"](shown)
    assert shown["cohort"].nunique() > 4
    found = made["audits"](made["own_runs"]())
    assert (DATA / "cohorts_audit.csv").read_text(encoding="utf-8") == made["text"](found)


def test_the_literature_cites_what_the_book_lists_and_gives_no_number_that_was_not_read():
    table = pd.read_csv(DATA / "literature.csv", dtype=str)
    listed = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    keys = table["study"].str.extract(r"\{cite\}`(\w+)`")[0]
    assert keys.notna().all() and all(f"{{{key}," in listed for key in keys)
    assert set(table["read"]) <= {"abstract", "beginning of the abstract"}
    unread = table[table["read"] != "abstract"]
    assert len(unread) and not unread["reported"].str.contains(r"\d").any()
