"""``leakfree new``: a study on photographs of the eye, from a folder to its book."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

import eyes
from leakfree.cli import main
from leakfree.data.cohort import CohortError
from leakfree.data.open import open_cohort
from leakfree.data.patients import DECLARED, SUBJECT, patient_ids
from leakfree.data.study_file import read_study
from leakfree_study.own.limits import UNKNOWN
from leakfree_study.run.config import CHEST_ONLY, NOTEBOOKS

PATTERN = r"eye_(\d+)_"


def begin(root, out):
    """Run ``leakfree new`` on images."""
    words = ["--image", "photo", "--title", "Eyes of one clinic"]
    options = ["--patient-pattern", PATTERN, "--allow-problems", *words]
    assert main(["new", str(root), "--out", str(out), *options]) == 0
    return out


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Folder of images with planted leaks, and what was planted; few patients, as each audit reads all."""
    root = tmp_path_factory.mktemp("cohort") / "eyes"
    return root, eyes.write_parts(root, patients=16)


@pytest.fixture(scope="module")
def started(cohort, tmp_path_factory):
    """Folder of the study that ``leakfree new`` made of the cohort."""
    return begin(cohort[0], tmp_path_factory.mktemp("started") / "study")


@pytest.fixture(scope="module")
def eyes_to_learn_from(tmp_path_factory):
    """Folder of as many images as networks need to learn from."""
    root = tmp_path_factory.mktemp("whole") / "eyes"
    eyes.write_parts(root)
    return root


@pytest.fixture
def new(capsys):
    """A function that runs ``leakfree new`` and returns exit code, output and complaint."""

    def run(*arguments):
        code = main(["new", *map(str, arguments)])
        told = capsys.readouterr()
        return code, told.out, [line for line in told.err.splitlines() if line.startswith("leakfree")]

    return run


def refused(found):
    """The one line of a refusal; anything else fails."""
    code, out, err = found
    assert (code, out) == (2, "")
    (line,) = err
    return line


def test_the_configuration_says_what_the_folders_hold(cohort, started):
    study = read_study(started / "study.yaml")
    assert study.labels == ("healthy", "mild", "severe")
    assert study.tasks == {"all-labels": {label: (label,) for label in study.labels}}
    assert study.parts == {"train": "training", "test": "testing"}
    assert study.patients.pattern == PATTERN
    assert (started / study.data).resolve() == cohort[0].resolve()
    assert not Path(study.data).is_absolute()


def test_the_audit_finds_what_was_planted(cohort, started):
    planted = cohort[1]
    report = json.loads((started / "audit.json").read_text(encoding="utf-8"))
    checks = report["checks"]
    assert checks["exact_duplicates"]["status"] == "FAIL"
    assert {planted["original"], planted["copy"]} <= set(checks["exact_duplicates"]["files"])
    assert checks["patients"]["status"] == "FAIL"
    assert checks["patients"]["declared_scope"] == DECLARED
    assert planted["moved"] in checks["patients"]["files"]
    assert checks["patients"]["count"] == 1
    assert planted["unreadable"] in {problem["file"] for problem in report["problems"]}
    assert "<html" in (started / "audit.html").read_text(encoding="utf-8")


def test_the_labels_of_the_official_test_are_not_shown_to_the_audit(started):
    report = json.loads((started / "audit.json").read_text(encoding="utf-8"))
    assert any("labels of" in line and "sealed" in line for line in report["unchecked"])


def test_no_pictures_leaves_the_page_of_the_audit_without_images(cohort, started, tmp_path, new):
    out = tmp_path / "study"
    options = ["--patient-pattern", PATTERN, "--allow-problems", "--no-pictures"]
    assert new(cohort[0], "--out", out, *options)[0] == 0
    assert read_study(out / "study.yaml").pictures is False
    assert "data:image" in (started / "audit.html").read_text(encoding="utf-8")
    assert "data:image" not in (out / "audit.html").read_text(encoding="utf-8")


def test_a_leak_is_a_finding_and_no_failure(cohort, tmp_path, new):
    code, out, err = new(cohort[0], "--out", tmp_path / "study", "--patient-pattern", PATTERN)
    assert (code, err) == (0, [])
    assert "LEAK FOUND" in out
    assert "run_all.py --data" in out and "study.yaml" in out
    assert cohort[1]["unreadable"] in out
    assert "run_all.py --data" in (tmp_path / "study" / "README.md").read_text(encoding="utf-8")


def test_the_same_command_again_goes_on_where_it_was_cut_off(cohort, tmp_path, new):
    arguments = (cohort[0], "--out", tmp_path / "study", "--patient-pattern", PATTERN)
    new(*arguments)
    before = (tmp_path / "study" / "study.yaml").read_bytes()
    (tmp_path / "study" / "audit.json").unlink()
    (tmp_path / "study" / "README.md").unlink()
    assert new(*arguments)[0] == 0
    assert (tmp_path / "study" / "study.yaml").read_bytes() == before
    assert (tmp_path / "study" / "audit.json").is_file() and (tmp_path / "study" / "README.md").is_file()


def test_another_study_is_not_overwritten(cohort, started, new):
    line = refused(new(cohort[0], "--out", started, "--patient-pattern", PATTERN))
    assert "study.yaml: another study is here" in line


def test_unknown_patients_are_said_wherever_they_matter(cohort, tmp_path, new):
    _, out, _ = new(cohort[0], "--out", tmp_path / "study")
    assert UNKNOWN in out
    assert UNKNOWN in (tmp_path / "study" / "README.md").read_text(encoding="utf-8")
    checks = json.loads((tmp_path / "study" / "audit.json").read_text(encoding="utf-8"))["checks"]
    assert checks["patients"]["status"] == "NOT RUN"


def test_a_csv_names_labels_and_patients(tmp_path, new):
    eyes.write_flat(tmp_path / "flat")
    columns = ("--path-column", "id_code", "--label-column", "grade", "--patient-column", "subject")
    csv = tmp_path / "flat" / "labels.csv"
    code, out, _ = new(tmp_path / "flat", "--csv", csv, *columns, "--out", tmp_path / "study")
    assert code == 0 and "24 named by" in out
    cohort = open_cohort(str(tmp_path / "study" / "study.yaml"), tmp_path / "cache")
    listed = pd.read_csv(csv).set_index("id_code")
    assert len(cohort) == len(listed) and set(cohort.table["part"]) == {"unsplit"}
    for row in cohort.table.itertuples():
        name = row.image_id.removesuffix(".png")
        assert (row.label, row.subject) == (listed.loc[name, "grade"], listed.loc[name, "subject"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--patient-pattern", r"scan(\d+)"), "matches none of"),
        (("--patient-pattern", "eye_"), "needs a group"),
        (("--patient-pattern", "eye_("), "eye_("),
        (("--label-column", "grade"), "there is no --csv"),
        (("--image", "X-Ray!"), "image"),
    ],
)
def test_options_that_cannot_be_used_give_one_line(cohort, tmp_path, new, arguments, told):
    assert told in refused(new(cohort[0], "--out", tmp_path / "study", *arguments))
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"notes.txt": b""}, "no image; there are 1 x .txt"),
        ({"all/a.png": b"", "all/b.png": b""}, "nothing tells the label of 2 images, such as all/a.png"),
        ({"a.png": b"", "b.png": b""}, "nothing tells the label of 2 images, such as a.png"),
        (
            {f"subject{n}/a.png": b"" for n in range(21)},
            "nothing tells the label of 21 images, such as subject0",
        ),
    ],
)
def test_folders_that_are_no_study_give_one_line(write_folder, tmp_path, new, files, told):
    assert told in refused(new(write_folder(files), "--out", tmp_path / "study"))


def test_the_study_does_not_go_into_the_images(cohort, new):
    assert "lies in the folder of the images" in refused(new(cohort[0], "--out", cohort[0] / "study"))


def test_a_csv_without_the_columns_gives_one_line(cohort, tmp_path, new):
    csv = tmp_path / "labels.csv"
    csv.write_text("id_code,grade\nx,1\n", encoding="utf-8")
    assert "no column names an image of this input" in refused(
        new(cohort[0], "--csv", csv, "--out", tmp_path / "study")
    )


def test_the_cohort_has_the_study_s_labels_parts_and_patients(started, tmp_path):
    cohort = open_cohort(str(started / "study.yaml"), tmp_path, allow_problems=True)
    table = cohort.table
    assert set(table.loc[table["part"] == "train", "label"]) == set(eyes.LABELS)
    assert set(table.loc[table["part"] == "test", "label"]) == {"sealed"}
    expected = [re.search(PATTERN, image_id)[1] for image_id in table["image_id"]]
    assert patient_ids(table, DECLARED).tolist() == expected
    with pytest.raises(ValueError, match="none of this cohort"):
        patient_ids(table, "series")
    assert [problem.reason.split(":")[0] for problem in cohort.problems] == ["corrupt"]
    with pytest.raises(CohortError, match="1 corrupt"):
        open_cohort(str(started / "study.yaml"), tmp_path)


def test_an_image_without_a_patient_is_its_own_and_never_joined_to_strangers(cohort, tmp_path):
    content = {
        "name": "eyes",
        "title": "Eyes",
        "data": str(cohort[0]),
        "labels": list(eyes.LABELS),
        "tasks": {"all": {label: [label] for label in eyes.LABELS}},
        "patients": {"pattern": r"eye_(000\d)_"},
        "allow_problems": True,
    }
    named = {}
    for name, rule in (("some", content["patients"]), ("none", "none")):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content | {"patients": rule}), encoding="utf-8")
        table = open_cohort(str(path), tmp_path / "cache", allow_problems=True).table
        patients = patient_ids(table, DECLARED)
        alone = table[SUBJECT] == ""
        assert patients[alone].tolist() == [f"image:{image_id}" for image_id in table.loc[alone, "image_id"]]
        named[name] = set(patients[~alone])
    assert named == {"some": {f"000{n}" for n in range(1, 10)}, "none": set()}


def test_other_tasks_or_patients_are_another_cohort_and_another_title_is_not(started, tmp_path):
    content = yaml.safe_load((started / "study.yaml").read_text(encoding="utf-8"))
    content["data"] = str((started / content["data"]).resolve())

    def checksum(name, **changes):
        path = tmp_path / name / "study.yaml"
        path.parent.mkdir()
        path.write_text(yaml.safe_dump(content | changes), encoding="utf-8")
        return open_cohort(str(path), tmp_path / "cache", allow_problems=True).checksum

    same = checksum("same")
    assert checksum("titled", title="Other words") == same
    disease = {"disease": {"healthy": ["healthy"], "ill": ["mild", "severe"]}}
    assert len({same, checksum("tasks", tasks=disease), checksum("patients", patients="none")}) == 3


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"colour": "red"}, "unknown entry colour"),
        ({"labels": None}, "labels"),
        ({"tasks": {"sick": {"healthy": ["healthy"], "ill": ["dead"]}}}, "dead is none of the labels"),
        ({"patients": {"pattern": "eye_("}}, "eye_("),
        ({"patients": {"column": "subject"}}, "there is no csv"),
        ({"profile": "huge"}, "profile"),
    ],
)
def test_a_study_file_that_is_wrong_gives_one_line_and_code_2(started, tmp_path, capsys, change, told):
    from leakfree_study.compendium.study import main as run_all

    content = yaml.safe_load((started / "study.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(content | change), encoding="utf-8")
    assert run_all(["--data", str(path)]) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == "" and line.startswith(f"run_all: {path}: ") and told in line


def command(*arguments):
    """Return the command that runs the study in a process of its own."""
    code = "import sys; from leakfree_study.compendium.study import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", code, *map(str, arguments)]


@pytest.fixture(scope="module")
def finished(eyes_to_learn_from, repository, tmp_path_factory):
    """Run folder of a study, and what its second run said; the first was killed after two notebooks."""
    started = begin(eyes_to_learn_from, tmp_path_factory.mktemp("finished") / "study")
    options = ["--data", started / "study.yaml", "--profile", "smoke"]
    cache = tmp_path_factory.mktemp("cache")
    place = {"cwd": repository, "env": {**os.environ, "LEAKFREE_CACHE": str(cache)}}
    with subprocess.Popen(command(*options), stderr=subprocess.PIPE, text=True, **place) as first:
        for line in first.stderr:
            if re.match(r"\[\d+/\d+\] 0[3-6]", line):
                first.kill()
    second = subprocess.run(command(*options, "--resume"), capture_output=True, text=True, **place)
    assert second.returncode == 0, second.stderr[-3000:]
    return started / "run", second.stderr


def text_of(page):
    """The text of a page of the book, with its hidden code, without its markup."""
    content = page.read_text(encoding="utf-8")
    content = re.sub(r"<script.*?</script>|<style.*?</style>", " ", content, flags=re.S)
    return html.unescape(re.sub(r"<[^>]*>", " ", content))


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(finished):
    _, said = finished
    assert "01_exploration: up to date, skipped" in said
    assert "02_leakage_analysis: up to date, skipped" in said
    assert said.count(": up to date") == 2


@pytest.mark.slow
def test_the_book_is_that_of_the_study(finished):
    run, _ = finished
    pages = {p.relative_to(run / "book").as_posix() for p in (run / "book").rglob("*.html")}
    notebooks = {f"run/{path.stem}.html" for path in (run / "notebooks").glob("*.ipynb")}
    assert (
        notebooks == {f"run/{name}.html" for name in NOTEBOOKS if name not in CHEST_ONLY}
        and {"index.html", "intro.html", "limits.html", "words.html"} | notebooks <= pages
    )
    assert not {"methods.html", "service.html", "limitations.html", "identity.html"} & pages
    intro = (run / "book" / "intro.html").read_text(encoding="utf-8")
    assert re.search(r"<title>[^<]*Eyes of one clinic", intro)
    assert "163 photos" in text_of(run / "book" / "intro.html")


@pytest.mark.slow
def test_no_page_of_the_book_is_about_chest_images(finished):
    run, _ = finished
    for page in sorted((run / "book").rglob("*.html")):
        text = text_of(page)
        found = re.findall(r"pneumonia|x-ray|NORMAL|(?i:\bviral\b|bacteria|reference study|\blungs?\b)", text)
        assert not found, f"{page.name}: {found[:5]}"


@pytest.mark.slow
def test_every_table_has_the_labels_and_tasks_of_the_study(finished):
    run, _ = finished
    columns, labels = ("label", "class", "predicted"), {*eyes.LABELS, "sealed"}
    seen = 0
    for path in sorted((run / "tables").glob("*.csv")):
        table = pd.read_csv(path)
        if "task" in table and len(table):
            assert set(table["task"]) == {"all-labels"}, path.name
        for column in set(columns) & set(table.columns):
            assert set(table[column].dropna()) <= labels, path.name
            seen += 1
    assert seen >= 3
    for path in (run / "predictions").glob("*.csv"):
        assert set(pd.read_csv(path, nrows=5).filter(like="p_")) == {f"p_{label}" for label in eyes.LABELS}


@pytest.mark.slow
def test_the_run_verifies_and_its_splits_share_no_patient(finished):
    from leakfree.split.manifest import Manifest
    from leakfree_study.record.verify import verify_run

    run, _ = finished
    found = verify_run(run)
    assert not found.problems and found.files > 50
    manifest = Manifest.load(run / "manifests" / "05-patient-level-all-labels.json")
    assert manifest.scope == DECLARED
    patients = [{re.search(PATTERN, image_id)[1] for image_id in ids} for ids in manifest.parts.values()]
    assert sum(map(len, patients)) == len(set().union(*patients))


@pytest.mark.slow
def test_a_study_without_patients_says_so_and_does_not_fail(eyes_to_learn_from, repository, tmp_path):
    assert main(["new", str(eyes_to_learn_from), "--out", str(tmp_path / "study"), "--allow-problems"]) == 0
    options = [
        "--data",
        tmp_path / "study" / "study.yaml",
        "--profile",
        "smoke",
        "--only",
        "02,06",
        "--no-book",
    ]
    place = {"cwd": repository, "env": {**os.environ, "LEAKFREE_CACHE": str(tmp_path / "cache")}}
    done = subprocess.run(command(*options), capture_output=True, text=True, **place)
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "study" / "run" / "notebooks"
    pages = [
        (folder / f"{name}.ipynb").read_text("utf-8") for name in ("02_leakage_analysis", "06_inflation")
    ]
    assert all(UNKNOWN in page for page in pages)
    overlap = pd.read_csv(folder.parent / "tables" / "02_overlap.csv")
    assert (overlap.loc[overlap["scope"] == DECLARED, "shared"] == 0).all()
    assert "What a leak is worth cannot be measured here" in pages[1]


@pytest.mark.slow
def test_the_run_is_made_again_from_its_record_to_the_byte(finished, repository, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    code = "import sys; from leakfree.cli import main; sys.exit(main(['rebuild', sys.argv[1]]))"
    again = [sys.executable, "-c", code, str(tmp_path / "run")]
    done = subprocess.run(again, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
