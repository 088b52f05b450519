"""The sources of an own study's book: contents, title, and pages whose numbers are those of the tables."""

import json

import pandas as pd
import pytest
import yaml

from leakfree.data.study_file import OwnStudy, one_task
from leakfree_study.book.own_book import plural, stage
from leakfree_study.own.limits import UNKNOWN
from leakfree_study.run.config import CHEST_ONLY, NOTEBOOKS

STUDY = OwnStudy(
    name="eyes",
    title="Eyes | of *one* clinic",
    data="eyes",
    labels=("mild", "severe"),
    tasks=one_task(("mild", "severe")),
    patients={"pattern": r"(\d+)"},
    image="photo",
)


def score(metric, value, **more):
    row = {"task": "all-labels", "metric": metric, "estimate": value, "low": value - 0.1, "high": value + 0.1}
    return row | {"seed": 42, "model": "small-net", "selected": True} | more


def write(run, name, rows):
    path = run / "tables" / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)


@pytest.fixture
def run(tmp_path):
    """A run folder with the tables that the pages read."""
    folder = tmp_path / "run"
    write(folder, "01_classes", [{"part": "train", "label": "mild", "images": 1234}])
    audit = {
        "split": "official parts",
        "check": "patients",
        "status": "FAIL",
        "count": 7,
        "summary": "7 stand in both.",
    }
    write(folder, "02_audit", [audit, audit | {"split": "image-level split", "status": "PASS", "count": 0}])
    overlap = {"seeds": 5, "shared": 12.25, "shared_min": 9, "shared_max": 15, "split": "plain"}
    write(
        folder,
        "02_overlap",
        [overlap | {"scope": "patient"}, overlap | {"scope": "linked groups", "shared": 99}],
    )
    leaky = [score("roc_auc", 0.9, protocol="image-level"), score("roc_auc", 0.7, protocol="clean")]
    write(folder, "03_scores", leaky)
    write(folder, "04_scores", [score("macro_f1", 0.61), score("macro_f1", 0.4, selected=False)])
    write(folder, "05_scores", [score("roc_auc", float("nan"))])
    cohort = pd.DataFrame(
        {
            "image_id": list("abc"),
            "label": "mild",
            "part": ["train", "train", "test"],
            "subject": ["1", "1", ""],
        }
    )
    cohort.to_csv(folder / "cohort.csv", index=False)
    settings = {"settings": {"profile": "quick"}}
    (folder / "provenance.json").write_text(json.dumps(settings), encoding="utf-8")
    problems = [{"file": "bad.png", "reason": "corrupt: not an image"}]
    (folder / "cohort.json").write_text(json.dumps({"problems": problems}), encoding="utf-8")
    return folder


@pytest.fixture
def staged(run, tmp_path, repository):
    """A function that stages the book of a study, and returns its sources."""

    def make(study=STUDY):
        source = tmp_path / "source"
        (source / "api").mkdir(parents=True)
        for name in ("_config.yml", "_toc.yml"):
            (source / name).write_bytes((repository / "book" / name).read_bytes())
        for page in ("intro.md", "methods.md", "api/data.md"):
            (source / page).write_text("# Chest X-rays", encoding="utf-8")
        stage(source, run, study)
        return source

    return make


def test_pages_of_the_compendium_are_gone_and_the_notebooks_stay(staged):
    source = staged()
    assert {path.relative_to(source).as_posix() for path in source.rglob("*.md")} == {
        "intro.md",
        "limits.md",
        "words.md",
    }
    contents = yaml.safe_load((source / "_toc.yml").read_text(encoding="utf-8"))
    files = [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    assert (
        contents["root"] == "intro" and files[0] == "run/01_exploration" and files[-2:] == ["limits", "words"]
    )
    assert files[:-2] == [f"run/{name}" for name in NOTEBOOKS if name not in CHEST_ONLY]


def test_the_title_is_the_study_s_and_the_rest_of_the_settings_stays(staged, repository):
    source = staged()
    before = yaml.safe_load((repository / "book" / "_config.yml").read_text(encoding="utf-8"))
    after = yaml.safe_load((source / "_config.yml").read_text(encoding="utf-8"))
    assert after["title"] == STUDY.title and after["author"] == ""
    assert after["sphinx"]["config"] == before["sphinx"]["config"]
    assert (source / "intro.md").read_text(encoding="utf-8").startswith(r"# Eyes \| of \*one\* clinic")


def test_every_number_of_the_landing_page_is_one_of_a_table(staged):
    text = (staged() / "intro.md").read_text(encoding="utf-8")
    for told in (
        "3 photos, of which 2 may be trained",
        "They name 1 patients",
        "1 name none",
        "Profile `quick`.",
        "| train | mild | 1,234 |",
        "| patients | FAIL (7) | PASS |",
        "12.2 (mean of 5 draws, 9 to 15)",
        "split of photos: ROC AUC | 0.900 (0.800 to 1.000)",
        "split of linked groups: ROC AUC | 0.700",
        "small-net: macro F1 | 0.610",
        "small-net: ROC AUC | undefined",
        "What a leak is worth | cannot be measured on this cohort",
    ):
        assert told in text, told
    assert "99" not in text and "0.400" not in text


def test_what_leaks_are_worth_stands_there_where_it_was_measured(staged, run):
    row = {"primary": True, "metric": "roc_auc", "dose": 1.0, "model": "1-nn on pixels", "task": "all-labels"}
    rows = [
        row | {"protocol": "siblings", "estimate": value, "low": value - 0.01, "high": value + 0.01}
        for value in (0.031, 0.012)
    ]
    write(run, "inflation", [*rows, rows[0] | {"dose": 0.5, "estimate": 0.9}])
    text = (staged() / "intro.md").read_text(encoding="utf-8")
    assert "+0.031 (+0.021 to +0.041)" in text and "+0.9" not in text


def test_unknown_patients_are_said(staged, run):
    cohort = pd.read_csv(run / "cohort.csv", dtype=str).assign(subject="")
    cohort.to_csv(run / "cohort.csv", index=False)
    source = staged(STUDY.model_copy(update={"patients": "none"}))
    intro, limits = ((source / name).read_text(encoding="utf-8") for name in ("intro.md", "limits.md"))
    assert UNKNOWN in intro and UNKNOWN in limits
    assert "both sides of a plain" not in intro and "bootstrap over photos, since patients" in intro


def test_the_smallest_profile_is_said_to_prove_nothing(staged, run):
    (run / "provenance.json").write_text(json.dumps({"settings": {"profile": "smoke"}}), encoding="utf-8")
    assert "Profile `smoke`: it shows that every step runs, and no number" in (
        (staged() / "intro.md").read_text(encoding="utf-8")
    )


def test_files_that_were_left_out_are_named(staged):
    assert "Files left out: 1, such as `bad.png` (corrupt: not an image)." in (
        (staged() / "limits.md").read_text(encoding="utf-8")
    )


@pytest.mark.parametrize(
    ("word", "many"), [("photo", "photos"), ("biopsy", "biopsies"), ("x", "xes"), ("eye", "eyes")]
)
def test_plurals(word, many):
    assert plural(word) == many
