import ast
import importlib
import io
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from deferred import deferred
from leakfree.audit.checks.findings import CHECKS, SCHEMA
from leakfree.base.errors import LeakfreeError
from leakfree.base.files import file_hash
from leakfree.base.parallel import workers
from leakfree.cli import main
from leakfree.data.cohort import ingest
from leakfree.data.patients import patient_ids
from leakfree.scores.metrics import evaluate
from leakfree.scores.predictions import read_predictions

with deferred:
    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
    from leakfree.split.manifest import image_level, patient_level

FAST = ("--skip", "shortcuts,shift", "--quiet")


@pytest.fixture
def run(tmp_path, capsys):
    """Run an audit: exit code, JSON content (None if there is none) and what stands on stderr."""

    def audit(target, *options, fast=True):
        path = tmp_path / "report.json"
        path.unlink(missing_ok=True)
        capsys.readouterr()
        code = main(["audit", str(target), *(FAST if fast else ("--quiet",)), "--json", str(path), *options])
        return code, json.loads(path.read_text()) if path.exists() else None, capsys.readouterr().err

    return audit


def status(report):
    return {name: check["status"] for name, check in report["checks"].items()}


def films(encode, n=6, part="train", first=0):
    """Images of patients of their own."""
    return {
        f"{part}/{'NORMAL' if i % 2 else 'PNEUMONIA'}/person{i}_virus_1.jpeg": encode(seed=i, size=(80, 64))
        for i in range(first, first + n)
    }


@pytest.fixture
def clean(write_folder, encode):
    return write_folder({**films(encode), **films(encode, 4, "test", 20)})


def as_png(data):
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("L").save(buffer, "PNG")
    return buffer.getvalue()


FIRST = "train/PNEUMONIA/person0_virus_1.jpeg"
LEAKS = {
    "bytes": ("test/PNEUMONIA/person90_virus_1.jpeg", "exact_duplicates"),
    "png": ("test/PNEUMONIA/person90_virus_1.png", "exact_duplicates"),
    "hard link": ("test/PNEUMONIA/person90_virus_1.jpeg", "same_file"),
    "symlink": ("test/PNEUMONIA/person90_virus_1.jpeg", "same_file"),
    "turned": ("test/PNEUMONIA/person90_virus_1.png", "near_duplicates"),
    "patient": ("test/PNEUMONIA/person0_virus_2.jpeg", "patients"),
    "relabelled": ("test/NORMAL/person90_virus_1.jpeg", "exact_duplicates"),
}


def plant(root, kind, encode, part="test"):
    """Plant a leak; return the name of the new file and the check that should tell."""
    name, check = LEAKS[kind]
    name = name.replace("test/", f"{part}/")
    source, place = root / FIRST, root / name
    if kind == "hard link":
        os.link(source, place)
    elif kind == "symlink":
        place.symlink_to(source)
    elif kind == "png":
        place.write_bytes(as_png(source.read_bytes()))
    elif kind == "turned":
        buffer = io.BytesIO()
        Image.open(source).transpose(Image.Transpose.ROTATE_90).convert("L").save(buffer, "PNG")
        place.write_bytes(buffer.getvalue())
    else:
        place.write_bytes(encode(seed=77) if kind == "patient" else source.read_bytes())
    return name, check


def test_an_interrupt_is_one_line_and_code_130(monkeypatch, capsys):
    def interrupt(given):
        raise KeyboardInterrupt

    monkeypatch.setattr("leakfree_study.cli._verify", interrupt)
    assert main(["verify", "run"]) == 130
    assert capsys.readouterr() == ("", "leakfree: interrupted\n")


def test_a_clean_folder_is_clean(run, clean):
    code, report, err = run(clean)
    assert code == 0 and report["schema"] == SCHEMA and report["leaks"] is False
    assert list(report["checks"]) == list(CHECKS) and report["problems"] == []
    assert report["images"] == {"test": 4, "train": 6}
    passing = [name for name, value in status(report).items() if value == "PASS"]
    assert passing == [
        "same_file",
        "exact_duplicates",
        "near_duplicates",
        "blank",
        "label_conflicts",
        "patients",
        "linked_groups",
    ]
    for check in report["checks"].values():
        assert {"count", "files", "severity", "fails", "status", "summary"} <= set(check)
    assert "Traceback" not in err


@pytest.mark.parametrize("kind", LEAKS)
def test_a_planted_leak_is_found_with_all_its_files(run, clean, encode, kind):
    name, check = plant(clean, kind, encode)
    code, report, _ = run(clean)
    assert code == 1 and report["leaks"] is True
    assert report["checks"][check]["files"] == sorted([FIRST, name])
    assert report["checks"]["linked_groups"]["files"] == sorted([FIRST, name])
    conflict = kind == "relabelled"
    assert status(report)["label_conflicts"] == ("WARN" if conflict else "PASS")
    assert report["checks"]["label_conflicts"]["files"] == (sorted([FIRST, name]) if conflict else [])
    failing = {name for name, entry in report["checks"].items() if entry["fails"]}
    assert failing == {check, "linked_groups"}
    # With these two let off, the leak is told but does not fail.
    code, softer, _ = run(clean, "--fail-on", "shortcuts")
    assert code == 0 and softer["checks"][check]["severity"] == "leak" and status(softer)[check] == "WARN"


@pytest.mark.parametrize("kind", [kind for kind in LEAKS if kind != "patient"])
def test_the_same_copy_inside_one_part_is_a_warning(run, clean, encode, kind):
    name, check = plant(clean, kind, encode, "train")
    code, report, _ = run(clean)
    assert code == 0 and status(report)[check] == "WARN" and status(report)["linked_groups"] == "PASS"
    assert report["checks"][check]["files"] == sorted([FIRST, name])
    assert report["checks"][check]["severity"] == "warning"


def test_all_leaks_at_once_are_all_told(run, clean, encode):
    for number in range(12):
        (clean / f"test/PNEUMONIA/copy{number}.jpeg").write_bytes((clean / FIRST).read_bytes())
    code, report, _ = run(clean)
    assert code == 1 and len(report["checks"]["exact_duplicates"]["files"]) == 13


def test_fail_on_chooses_what_fails(run, clean, encode):
    plant(clean, "relabelled", encode)
    assert run(clean, "--fail-on", "label_conflicts")[0] == 1
    assert run(clean, "--fail-on", "patients", "--fail-on", "shift,parts")[0] == 1  # parts are small
    assert run(clean, "--fail-on", "patients,same_file")[0] == 0
    code, report, _ = run(clean, "--fail-on", "")
    assert code == 0 and report["settings"]["fail_on"] == [] and not report["leaks"]
    assert "FAIL" not in status(report).values()
    # Copies inside one part are no leak even for a check that fails.
    (clean / LEAKS["relabelled"][0]).rename(clean / "train/NORMAL/x.jpeg")
    assert run(clean, "--fail-on", "exact_duplicates")[0] == 0
    assert run(clean, "--fail-on", "label_conflicts")[0] == 1


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_that_is_skipped_is_not_run(run, clean, encode, name):
    for kind in LEAKS:
        if not (clean / LEAKS[kind][0]).exists():
            plant(clean, kind, encode)
    code, report, _ = run(clean, "--skip", name)
    assert code == 1 and status(report)[name] == "NOT RUN"
    assert report["checks"][name]["files"] == [] and not report["checks"][name]["fails"]
    assert name in report["settings"]["skip"]


def test_what_a_skipped_search_would_have_told_others_is_no_pass(run, clean):
    code, report, _ = run(clean, "--skip", "near_duplicates")
    assert code == 0 and status(report)["exact_duplicates"] == "PASS"
    for name in ("linked_groups", "label_conflicts"):
        assert status(report)[name] == "INCONCLUSIVE"
        assert "near-duplicates were not searched" in report["checks"][name]["summary"]
    code, report, _ = run(clean, "--skip", ",".join(CHECKS))
    assert code == 0 and set(status(report).values()) == {"NOT RUN"}


def test_the_scope_flips_the_verdict(run, clean, encode):
    name = "test/PNEUMONIA/person0_bacteria_1.jpeg"
    (clean / name).write_bytes(encode(seed=50))
    code, report, _ = run(clean)
    patients = report["checks"]["patients"]
    assert code == 0 and patients["status"] == "WARN" and patients["severity"] == "warning"
    assert [patients[scope]["count"] for scope in ("series", "person", "merged")] == [0, 1, 1]
    for scope in ("person", "merged"):
        code, report, _ = run(clean, "--scope", scope)
        assert code == 1 and report["checks"]["patients"]["files"] == sorted([FIRST, name])
    code, report, _ = run(clean, "--scope", "patient")
    assert code == 0 and status(report)["patients"] == "NOT RUN"


def test_a_csv_with_patients(run, clean, tmp_path):
    images = sorted(path.relative_to(tmp_path).as_posix() for path in clean.rglob("*.jpeg"))
    parts = [name.split("/")[1] for name in images]
    path = tmp_path / "films.csv"

    def write(rows, header="filename,Split,class,subject"):
        path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
        return path

    rows = [(i, part, "ab"[n % 2], f"s{n}") for n, (i, part) in enumerate(zip(images, parts, strict=True))]
    code, report, _ = run(write(rows))
    assert code == 0 and status(report)["patients"] == "PASS"
    assert report["checks"]["patients"]["declared_scope"] == "patient"
    shared = [(*row[:3], "s0") if n in (0, 9) else row for n, row in enumerate(rows)]
    code, report, _ = run(write(shared))
    assert code == 1 and report["checks"]["patients"]["patient"]["count"] == 1
    assert report["checks"]["patients"]["files"] == [images[0], images[9]]
    code, report, _ = run(write(shared), "--scope", "series")
    assert code == 0 and status(report)["patients"] == "WARN"
    # One file in two parts.
    other = "train" if parts[0] == "test" else "test"
    code, report, _ = run(write([*rows, (images[0], other, rows[0][2], rows[0][3])]))
    assert code == 1 and report["checks"]["same_file"]["files"] == [images[0]]
    assert report["checks"]["same_file"]["count"] == 1 and report["checks"]["patients"]["fails"]
    # Twice in one part is no leak.
    assert run(write([*rows, rows[0]]))[0] == 0
    code, report, err = run(write([*rows, ("no.jpeg", "train", "a", "s1")]))
    assert code == 2 and "no.jpeg" in err and status(report)["patients"] == "INCONCLUSIVE"
    reason = "missing: row 12 of films.csv names no image of this input"
    assert report["problems"] == [{"file": "no.jpeg", "reason": reason}]


@pytest.mark.parametrize("text", [b"", b"a,b\n1,2\n", b"path\n\xff\n", b"path\n"])
def test_a_csv_that_is_none_is_unusable(run, tmp_path, text):
    path = tmp_path / "films.csv"
    path.write_bytes(text)
    code, report, err = run(path)
    assert code == 2 and report is None
    assert err.startswith(f"leakfree audit: {path}") and err.count("\n") == 1


def test_a_pattern_gives_a_folder_its_patients(run, write_folder, encode):
    names = ("train/A/s1-a.png", "train/B/s2-a.png", "test/A/s1-b.png", "test/B/s3-a.png")
    root = write_folder({name: encode(seed=n) for n, name in enumerate(names)})
    code, report, _ = run(root)
    assert code == 0 and status(report)["patients"] == "NOT RUN"
    assert status(report)["linked_groups"] == "INCONCLUSIVE"
    code, report, _ = run(root, "--patient-pattern", r"(s\d+)-")
    assert code == 1 and report["checks"]["patients"]["files"] == [names[2], names[0]]


def test_a_manifest_over_a_cohort(run, phantom_cohort, tmp_path):
    ids = phantom_cohort.table["image_id"].to_numpy(dtype=object)
    patients = patient_ids(phantom_cohort.table, "series")
    leaky = image_level(ids, seed=3).save(tmp_path / "leaky.json")
    code, report, _ = run(phantom_cohort.path, "--manifest", str(leaky))
    assert code == 1 and report["checks"]["patients"]["fails"]
    in_test = np.isin(ids, image_level(ids, seed=3).parts["test"])
    shared = set(patients[in_test]) & set(patients[~in_test])
    assert shared and report["checks"]["patients"]["count"] == len(shared)
    assert report["checks"]["patients"]["files"] == sorted(ids[np.isin(patients, list(shared))])
    clean = patient_level(ids, patients, phantom_cohort.table["label"], seed=3, scope="series")
    code, report, _ = run(phantom_cohort.path, "--manifest", str(clean.save(tmp_path / "clean.json")))
    assert report["checks"]["patients"]["series"]["count"] == 0 and not report["checks"]["patients"]["fails"]
    # Names that are not there are no pass, and no success.
    named = image_level([*ids, "gone.jpeg"], seed=3).save(tmp_path / "gone.json")
    code, report, err = run(phantom_cohort.path, "--manifest", str(named), "--fail-on", "")
    assert code == 2 and "gone.jpeg" in err
    assert "PASS" not in {status(report)[name] for name in ("patients", "linked_groups", "exact_duplicates")}
    code, report, err = run(phantom_cohort.path, "--manifest", str(tmp_path / "none.json"))
    assert code == 2 and report is None and "none.json: not a split manifest" in err


def test_files_that_cannot_be_read_are_told_and_no_success(run, clean):
    (clean / "train/NORMAL/half.jpeg").write_bytes((clean / FIRST).read_bytes()[:300])
    (clean / "train/NORMAL/none.png").write_bytes(b"")
    code, report, err = run(clean)
    assert code == 2 and "2 files could not be read" in err and "half.jpeg" in err
    assert [problem["file"].rsplit("/")[-1] for problem in report["problems"]] == ["half.jpeg", "none.png"]
    assert "PASS" not in status(report).values()
    assert run(clean, "--allow-problems")[0] == 0
    # A leak is a leak.
    (clean / "test/NORMAL/copy.jpeg").write_bytes((clean / FIRST).read_bytes())
    assert run(clean)[0] == 1 and run(clean, "--allow-problems")[0] == 1


def test_files_of_other_names_are_told_and_do_not_matter(run, clean):
    (clean / "train/list.txt").write_bytes(b"x")
    code, report, _ = run(clean)
    assert code == 0 and status(report)["exact_duplicates"] == "PASS"
    assert report["problems"] == [{"file": "train/list.txt", "reason": "foreign: not the name of an image"}]
    assert any("not named like images" in line for line in report["unchecked"])


def test_no_readable_image_at_all_is_unusable(run, write_folder):
    code, report, err = run(write_folder({"train/A/a.png": b"x", "test/A/b.png": b"y"}), "--allow-problems")
    assert code == 2 and "none of 2 files could be read" in err
    assert len(report["problems"]) == 2 and "PASS" not in status(report).values()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--skip", "dupes"), "--skip: no check dupes; known: same_file"),
        (("--fail-on", "patients,leaks"), "--fail-on: no check leaks"),
        (("--scope", "family"), "--scope: no scope family; known: series"),
        (("--jobs", "-1"), "--jobs: "),
        (("--seed", "-1"), "--seed: "),
        (("--patient-pattern", "("), "--patient-pattern (: "),
        (("--scheduler", "tcp://127.0.0.1:9"), "cannot reach a Dask scheduler at tcp://127.0.0.1:9"),
    ],
)
def test_an_option_that_cannot_be_used_is_one_line(run, clean, monkeypatch, options, said):
    # A scheduler that is not there is waited for, here no longer than it takes to see that.
    monkeypatch.setattr("leakfree.base.parallel.workers", partial(workers, timeout=0.2))
    code, report, err = run(clean, *options)
    line = err.splitlines()[-1]
    assert code == 2 and report is None and line.startswith("leakfree audit: ") and said in line
    assert "Traceback" not in err


def test_a_name_with_a_line_feed_stays_one_line(run, write_folder, encode, tmp_path):
    root = write_folder({"train/A/a\nb.jpeg": b"broken", "train/A/c.jpeg": encode()})
    code, _, err = run(root)
    assert code == 2 and "a\\nb.jpeg" in err.splitlines()[-1]
    assert run(tmp_path / "no\nfolder")[2].count("\n") == 1


def test_a_report_that_cannot_be_written_is_one_line(clean, capsys, tmp_path):
    (tmp_path / "folder").mkdir()
    assert main(["audit", str(clean), *FAST, "--json", str(tmp_path / "folder")]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("leakfree: ") and "folder" in line


def test_all_reports_are_written(clean, tmp_path, capsys, encode):
    plant(clean, "bytes", encode)
    places = {kind: tmp_path / f"out/report.{kind}" for kind in ("json", "html", "junit")}
    options = [text for kind, path in places.items() for text in (f"--{kind}", str(path))]
    assert main(["audit", str(clean), "--skip", "shortcuts,shift", *options]) == 1
    shown = capsys.readouterr().out
    assert "exact_duplicates" in shown and "LEAK FOUND" in shown.splitlines()[-2] + shown.splitlines()[-1]
    assert json.loads(places["json"].read_text())["checks"]["exact_duplicates"]["fails"]
    page = places["html"].read_text()
    assert page.count("data:image/") >= 2 and "80 x 64 px" in page
    suite = ElementTree.parse(places["junit"]).getroot()
    assert int(suite.get("failures")) == 2 and int(suite.get("tests")) == len(CHECKS)
    assert main(["audit", str(clean), *FAST]) == 1
    assert capsys.readouterr().out == ""


def test_a_reader_that_goes_away_changes_nothing(clean):
    code = "import sys; from leakfree.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "audit", str(clean), "--skip", "shortcuts,shift"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    err = process.stderr.read().decode()
    assert process.wait() == 0
    assert "Broken" not in err and "Traceback" not in err


HEAVY = (
    "PIL", "cv2", "deeplake", "distributed", "faiss", "flask", "joblib", "matplotlib", "nbformat", "numpy",
    "pandas", "papermill", "pydantic", "scipy", "seaborn", "sklearn", "timm", "torch", "xgboost",
)  # fmt: skip


def loaded_by(code, *arguments):
    """What code of a fresh interpreter prints, and which of `HEAVY` it has imported at its end."""
    code += f"\nimport sys\nprint('loaded', *sorted(set(sys.modules) & {set(HEAVY)}), file=sys.stderr)"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, set(done.stderr.splitlines()[-1].split()[1:])


HELP = """
import sys
import leakfree
from leakfree.cli import main
for command in sys.argv[1:]:
    try:
        main([*command.split(), "--help"])
    except SystemExit as end:
        assert end.code == 0
"""


def test_help_loads_no_package():
    commands = ["audit", "demo", "predict", "serve", "unseal", "rebuild", "verify", "reproduce"]
    out, loaded = loaded_by(HELP, "", *commands)
    assert "--patient-pattern" in out and "POST /predict" in out
    assert loaded == set()
    # Defaults of these two are read from the settings.
    out, loaded = loaded_by(HELP, "new", "train")
    assert "{smoke,quick,full}" in out and "(default: 96)" in out
    assert loaded == {"pydantic"}


def test_an_audit_loads_what_it_uses(clean):
    code = "import sys\nfrom leakfree.cli import main\nmain(['audit', sys.argv[1], '--quiet'])"
    _, loaded = loaded_by(code, clean)
    assert loaded == {"PIL", "numpy", "pandas", "pydantic", "scipy"}


def test_an_audit_runs_on_one_core_and_without_what_only_linux_has(clean):
    code = (
        "import os, sys\n"
        "for name in ('sched_getaffinity', 'fork', 'getuid'):\n    delattr(os, name)\n"
        "os.cpu_count = lambda: None\n"
        "for name in ('fcntl', 'resource', 'pwd'):\n    sys.modules[name] = None\n"
        "from leakfree.cli import main\n"
        "print(main(['audit', sys.argv[1], '--thorough', '--quiet']))\n"
    )
    assert loaded_by(code, clean)[0] == "0\n"


def test_a_check_and_a_comparison_of_runs_load_what_they_use(tmp_path):
    code = "import sys\nfrom leakfree.cli import main\nmain([*sys.argv[1:]])\n"
    code += "import leakfree_study.record.verify"
    _, loaded = loaded_by(code, "reproduce", tmp_path, "--published", tmp_path)
    assert loaded == {"PIL", "numpy", "pandas", "pydantic"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two trainings by the command, of one seed, each in a folder of its own."""
    folder = tmp_path_factory.mktemp("train")
    numbers = {"image-size": 16, "epochs": 1, "seed": 5, "split-seed": 3}
    options = [word for name, number in numbers.items() for word in (f"--{name}", str(number))]
    options += ["--model", "simple-cnn-32", "--data", str(folder / "store")]
    ingest(PhantomSource(PhantomSettings(n_images=120, size=32)), folder / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAKFREE_CACHE", str(folder / "cache"))
        for name in ("one", "two"):
            assert main(["train", *options, "--out", str(folder / name)]) == 0
        yield folder, options


def test_the_list_of_training_images_can_be_made_afterwards(trained, tmp_path, monkeypatch):
    from leakfree.predict.description import add_hashes
    from leakfree_study.networks.training_sets import add_training_sets

    folder, _ = trained
    run = tmp_path / "run"
    shutil.copytree(folder / "one", run)
    path = run / "models" / "training_set.safetensors"
    before = path.read_bytes()
    path.unlink()
    description = run / "models" / "preprocessing.json"
    whole = description.read_bytes()
    add_hashes(description)
    provenance = json.loads((run / "provenance.json").read_text())
    (training,) = provenance["trainings"].values()
    digest = training["outputs"].pop("models/training_set.safetensors")
    training["outputs"]["models/preprocessing.json"] = file_hash(description)
    (run / "provenance.json").write_text(json.dumps(provenance))
    assert main(["verify", str(run)]) == 0, "a run that was made before there was such a list"
    monkeypatch.setenv("LEAKFREE_CACHE", str(folder / "cache"))
    assert add_training_sets(run, str(folder / "store")) == [path]
    assert path.read_bytes() == before and description.read_bytes() == whole
    provenance = json.loads((run / "provenance.json").read_text())
    (training,) = provenance["trainings"].values()
    assert training["outputs"]["models/training_set.safetensors"] == digest
    assert main(["verify", str(run)]) == 0
    ingest(PhantomSource(PhantomSettings(n_images=60, size=32)), tmp_path / "others")
    with pytest.raises(LeakfreeError, match="not the images that"):
        add_training_sets(run, str(tmp_path / "others"))


def test_a_training_leaves_everything_that_its_use_needs(trained):
    folder, _ = trained
    models = folder / "one" / "models"
    assert {path.name for path in models.iterdir()} == {
        "simple-cnn-32_leakfree.safetensors",
        "preprocessing.json",
        "calibration.json",
        "novelty.safetensors",
        "training_set.safetensors",
    }
    described = json.loads((models / "preprocessing.json").read_text())
    calibration = json.loads((models / "calibration.json").read_text())
    assert calibration["weights_sha256"] == described["weights_sha256"]
    assert main(["verify", str(folder / "one")]) == 0
    provenance = json.loads((folder / "one" / "provenance.json").read_text())
    assert provenance["data"]["images"] == 120
    (training,) = provenance["trainings"].values()
    assert training["budget"]["epochs"] == 1
    assert "models/preprocessing.json" in training["outputs"]
    ledgers = list((folder / "one" / "ledgers").glob("*.json"))
    assert ledgers[0].stem.endswith("_s5") and described["seed"] == 5
    manifest = json.loads((folder / "one" / "manifests" / "05-patient-level-binary.json").read_text())
    assert (manifest["seed"], manifest["hash"]) == (3, described["manifest_hash"])
    assert len(ledgers) == 1 and json.loads(ledgers[0].read_text())["agrees"] is True


def test_a_changed_file_of_a_training_is_found(trained, tmp_path):
    folder, _ = trained
    for name in ("models/preprocessing.json", "models/calibration.json"):
        run = Path(shutil.copytree(folder / "one", tmp_path / Path(name).stem))
        content = json.loads((run / name).read_text())
        (run / name).write_text(json.dumps({**content, "temperature": 3, "mean": 0.1}))
        assert main(["verify", str(run)]) == 1


def test_the_same_seed_trains_the_same_weights(trained):
    folder, _ = trained
    one, two = (
        (folder / n / "models/simple-cnn-32_leakfree.safetensors").read_bytes() for n in ("one", "two")
    )
    assert one == two


def test_a_finished_training_is_taken_over_and_told(trained, capsys):
    folder, options = trained
    record = next((folder / "two" / "cells").glob("*.json"))
    before = record.stat().st_mtime_ns
    assert main(["train", *options, "--out", str(folder / "two")]) == 0
    assert record.stat().st_mtime_ns == before
    said = capsys.readouterr().out
    assert json.loads(record.read_text())["facts"]["weights_sha256"] in said
    assert "no linked group shared" in said
    assert main(["train", *options, "--out", str(folder / "two"), "--resume"]) == 0
    assert record.stat().st_mtime_ns == before
    assert main(["train", *options, "--out", str(folder / "two"), "--fresh"]) == 0
    assert record.stat().st_mtime_ns > before
    with pytest.raises(SystemExit, match="2"):
        main(["train", *options, "--fresh", "--resume"])


def test_the_last_line_says_where_the_weights_are_and_what_they_scored(trained, capsys):
    folder, options = trained
    capsys.readouterr()
    assert main(["train", *options, "--out", str(folder / "one")]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    weights = folder / "one" / "models" / "simple-cnn-32_leakfree.safetensors"
    (predictions,) = (folder / "one" / "predictions").glob("*.csv")
    scores = evaluate(read_predictions(predictions).select("test"), seed=3).set_index("metric")
    accuracy = scores.loc["accuracy"]
    assert last.startswith(f"{weights}: accuracy {accuracy['estimate']:.3f} ({accuracy['low']:.3f} to ")
    assert last.endswith(
        f"on {accuracy['n_images']} test images of {accuracy['n_patients']} patients, from {predictions.name}"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "resnet99"], "unknown network 'resnet99'; known: simple-cnn-32, resnet18"),
        (["--task", "age"], "unknown task 'age'; known: binary"),
        (["--data", "nowhere/at/all"], "nowhere/at/all"),
        (["--model", "resnet18-imagenet", "--weights", "no.pth"], "no.pth: no such file of weights"),
    ],
)
def test_a_training_that_cannot_begin_is_one_line(trained, capsys, tmp_path, options, said):
    _, usual = trained
    assert main(["train", *usual, *options, "--out", str(tmp_path / "run")]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("leakfree train: ")]
    assert len(errors) == 1 and said in errors[0]


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [(["predict", "x.png"], "torch", "serve"), (["audit", "phantom"], "deeplake", "store")],
)
def test_a_package_that_is_missing_is_named_with_its_extra(command, missing, extra):
    code = f"import sys\nsys.modules[{missing!r}] = None\n"
    code += f"from leakfree.cli import main\nsys.exit(main({command}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"leakfree {command[0]}: needs {missing}" in line and f"pip install 'leakfree[{extra}]'" in line


@pytest.mark.parametrize(
    ("module", "name"),
    [("leakfree.audit.gate", "GateError"), ("leakfree.ledger.ledger", "LedgerError")],
)
def test_a_split_that_leaks_ends_a_training_in_one_line(monkeypatch, capsys, module, name):
    error = getattr(importlib.import_module(module), name)

    def leaking(*given, **options):
        raise error("patients: 3 in several parts")

    monkeypatch.setattr("leakfree_study.networks.deep.train_model", leaking)
    monkeypatch.setattr("leakfree_study.run.run.open_run", lambda *given, **options: None)
    assert main(["train"]) == 2
    assert capsys.readouterr().err == "leakfree train: patients: 3 in several parts\n"


def test_every_error_of_the_library_has_the_base_that_commands_catch(repository):
    raised = {"Missing", "_Wrong", "_Disagreement", "BusyError", "LeakfreeError"}  # caught where they arise
    found = {
        node.name: {ast.unparse(base) for base in node.bases}
        for file in (repository / "lib").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.name.endswith(("Error", "Missing", "_Wrong"))
    }
    known = {"LeakfreeError", "ImageError", "TooLargeError"}
    assert len(found) > 25
    assert {name: bases for name, bases in found.items() if name not in raised and not bases & known} == {}


def test_a_fault_of_our_own_is_one_line_and_no_finding(tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise KeyError("a\nb")

    monkeypatch.setattr("leakfree.audit.target.open_target", fail)
    assert main(["audit", str(tmp_path)]) == 3
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "internal error: KeyError" in err and "Traceback" not in err
    monkeypatch.setenv("LEAKFREE_TRACEBACK", "1")
    assert main(["audit", str(tmp_path)]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_too_little_memory_is_no_finding(tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("leakfree.audit.target.open_target", fail)
    assert main(["audit", str(tmp_path)]) == 2
    assert "not enough memory" in capsys.readouterr().err


def test_reports_that_cannot_be_written_are_refused_before_the_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("leakfree.audit.target.open_target", lambda *_, **__: pytest.fail("the work began"))
    for option in ("--json", "--html", "--junit"):
        assert main(["audit", str(tmp_path), option, str(tmp_path)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.skipif(os.name != "posix", reason="closes streams as a shell does")
def test_closed_streams_change_nothing():
    code = (
        "import sys; from leakfree.cli import _open_closed_streams as opened; opened(); sys.stdin.read()\n"
        "for stream in (sys.stdout, sys.stderr): print('said', file=stream, flush=True)"
    )
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        command = ["sh", "-c", f'exec "{sys.executable}" -c "$1" {closed}', "sh", code]
        assert subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize("option", ["--epochs", "--image-size", "--batch-size"])
def test_sizes_are_whole_numbers_from_one_on(option, capsys):
    for value in ("0", "-1", "x", "1.5"):
        with pytest.raises(SystemExit) as caught:
            main(["train", option, value])
        assert caught.value.code == 2 and "whole number from 1 on" in capsys.readouterr().err


def test_a_missing_module_of_our_own_is_no_finding(tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise ModuleNotFoundError("No module named 'leakfree.gone'", name="leakfree.gone")

    monkeypatch.setattr("leakfree.audit.target.open_target", fail)
    assert main(["audit", str(tmp_path)]) == 3
    assert "internal error: ModuleNotFoundError" in capsys.readouterr().err
