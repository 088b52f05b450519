import io
import json
import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deferred import deferred
from leakfree.audit.checks.findings import CHECKS, FAIL_ON
from leakfree.audit.report import write_json
from leakfree.audit.report.pictures import Pictures
from leakfree.audit.target import TargetError, from_csv, open_target
from leakfree.cli import main
from leakfree.data.patients import patient_ids
from leakfree.data.reading.wishes import Wishes

with deferred:
    from leakfree.audit.auditor import AuditSettings, audit_and_scan, audit_images, unusable
    from leakfree.split.manifest import patient_level

SKIP = ("shortcuts", "shift")


def status(report):
    return {name: check.status for name, check in report.checks.items()}


def content(report, path):
    """The JSON report without its seconds, as text."""
    told = json.loads(write_json(report, path).read_text())
    assert told["provenance"].pop("seconds")
    return json.dumps(told, indent=1)


@pytest.fixture(scope="module")
def complete(tmp_path_factory, encode):
    """A CSV over 600 images that has all that every check needs, and nothing to find."""
    folder = tmp_path_factory.mktemp("complete")
    rows = []
    for i in range(600):
        name = f"person{i}_virus_1.jpeg"
        (folder / name).write_bytes(encode(seed=i, size=(24, 24)))
        part, label = "test" if i % 3 == 0 else "train", "sick" if i % 2 else "well"
        rows.append((name, part, label, f"s{i}", f"site {i // 6 % 2}"))
    pd.DataFrame(rows, columns=["path", "part", "label", "patient", "site"]).to_csv(
        folder / "films.csv", index=False
    )
    return folder


def test_every_check_can_pass(complete):
    report = audit_images(complete / "films.csv")
    assert status(report) == dict.fromkeys(CHECKS, "PASS")
    assert not report.leaks and report.problems == () and report.images == {"test": 200, "train": 400}
    assert set(report.provenance["seconds"]) == {
        "read",
        "copies",
        "patients",
        "shortcuts",
        "framing",
        "metadata",
        "shift",
    }
    # What it closes with.
    assert any("--thorough" in line for line in report.unchecked)
    assert any("one child" in line for line in report.unchecked)


@pytest.mark.parametrize(
    ("each", "thorough", "told"), [(5, False, True), (4, False, False), (5, True, False)]
)
def test_frames_are_told_to_be_searched_by_thorough_alone(tmp_path, encode, each, thorough, told):
    for i in range(4 * each):
        path = tmp_path / ("train", "test")[i // each % 2] / f"P{i // each}_{i}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode(seed=i, size=(24, 24), format="PNG"))
    report = audit_images(
        tmp_path,
        AuditSettings(
            wishes=Wishes(patient_pattern=r"(P\d+)_"), thorough=thorough, skip=(*SKIP, "framing", "metadata")
        ),
    )
    assert any("one clip or series under two patients" in line for line in report.unchecked) == told


PARTS = {"patients", "linked_groups", "shift", "parts", "same_file", "exact_duplicates", "near_duplicates"}
LABELS = {"label_conflicts", "shortcuts", "framing", "parts", "shift"}
PATIENTS = {"patients", "linked_groups", "shift"}


def drop(column):
    return lambda table, folder: table.drop(columns=column)


def blank(column, rows=slice(100, 140)):
    def change(table, folder):
        table.loc[table.index[rows], column] = ""
        return table

    return change


def broken(data):
    def change(table, folder):
        (folder / "person7_virus_1.jpeg").unlink()
        (folder / "person7_virus_1.jpeg").write_bytes(data)
        return table

    return change


def nameless(table, folder):
    for name in table["path"]:
        (folder / name).rename(folder / name.removeprefix("person"))
    return table.drop(columns="patient").assign(path=table["path"].str.removeprefix("person"))


def one_part(table, folder):
    return table.assign(part="train")


def gone(table, folder):
    return pd.concat(
        [table, pd.DataFrame([{"path": "gone.jpeg", "part": "test", "label": "a", "patient": "s"}])]
    )


INPUTS = {
    "no column part": (drop("part"), PARTS),
    "no column label": (drop("label"), LABELS),
    "no identifier": (nameless, PATIENTS),
    "paths alone": (drop(["part", "label", "patient"]), PARTS | LABELS | {"patients"}),
    "some without part": (blank("part"), PARTS - {"shift"}),
    "some without label": (blank("label"), LABELS),
    "some without patient": (blank("patient"), {"patients", "linked_groups"}),
    "one part": (one_part, {"patients", "linked_groups", "shift", "parts"}),
    "labels sealed": (lambda t, f: t.assign(label=t["label"].where(t["part"] != "test", "sealed")), LABELS),
    "a file missing": (gone, set(CHECKS)),
    "a file empty": (broken(b""), set(CHECKS)),
    "a file truncated": (broken(b"\xff\xd8\xff\xe0"), set(CHECKS)),
}


@pytest.mark.parametrize("name", INPUTS)
def test_no_check_passes_without_its_input(complete, tmp_path, name):
    change, needing = INPUTS[name]
    folder = tmp_path / "films"
    folder.mkdir()
    # What is broken or renamed is a name of the image here: the image itself is the same for all tests.
    for image in complete.glob("*.jpeg"):
        os.link(image, folder / image.name)
    table = change(pd.read_csv(complete / "films.csv", dtype=str), folder)
    table.to_csv(folder / "films.csv", index=False)
    # What is measured, but not asked for here, is spared: no other check needs it.
    spared = {"shortcuts", "framing", "metadata", "shift"} - needing
    report = audit_images(folder / "films.csv", AuditSettings(skip=tuple(spared)))
    found = status(report)
    passing = {check for check in needing if found[check] == "PASS"}
    assert not passing, {check: report.checks[check].summary for check in passing}
    # And it says why: in the summary of each such check.
    for check in needing:
        assert report.checks[check].summary
    assert not report.leaks


@pytest.fixture(scope="module")
def few(complete, tmp_path_factory):
    """A CSV over 60 of the images, and what every check says of it."""
    table = pd.read_csv(complete / "films.csv", dtype=str)[:60]
    table["path"] = [str(complete / path) for path in table["path"]]
    path = tmp_path_factory.mktemp("few") / "few.csv"
    table.to_csv(path, index=False)
    return path, status(audit_images(path))


@pytest.mark.parametrize("name", CHECKS)
def test_a_skipped_check_never_passes_and_stops_no_other(few, name):
    path, before = few
    after = status(audit_images(path, AuditSettings(skip=(name,))))
    assert after[name] == "NOT RUN"
    changed = {check for check in CHECKS if after[check] != before[check]} - {name}
    assert changed == ({"label_conflicts", "linked_groups"} if name == "near_duplicates" else set())


@pytest.fixture
def faulty(write_folder, encode):
    """A folder with something for every check, and with files that cannot be read."""
    files = {}
    for i in range(150):
        part = ("train", "val", "test")[i % 3]
        label, kind = ("NORMAL", None) if i % 2 else ("PNEUMONIA", ("virus", "bacteria")[i % 4 // 2])
        name = f"IM-{i // 5:04}-{i:04}.jpeg" if kind is None else f"person{i // 5}_{kind}_{i}.jpeg"
        size = (80 + 16 * (i % 2), 64)
        files[f"{part}/{label}/{name}"] = encode(
            seed=i if i % 10 else i // 20, size=size, quality=60 + i % 30
        )
    turned = io.BytesIO()
    image = Image.open(io.BytesIO(files["test/NORMAL/IM-0001-0005.jpeg"])).convert("L")
    image.transpose(Image.Transpose.ROTATE_90).save(turned, "PNG")
    files["val/PNEUMONIA/person900_virus_1.png"] = turned.getvalue()
    files |= {"train/NORMAL/broken.jpeg": b"x", "train/NORMAL/list.txt": b"x", "stray.jpeg": encode(seed=999)}
    return write_folder(files)


def test_results_do_not_depend_on_threads_and_repeat_for_a_seed(faulty, tmp_path):
    texts = [
        content(audit_images(faulty, AuditSettings(jobs=jobs, thorough=True)), tmp_path / f"{n}.json")
        for n, jobs in enumerate((1, 7))
    ]
    assert texts[0] == texts[1]
    told = json.loads(texts[0])
    assert told["leaks"] and told["checks"]["near_duplicates"]["count"]
    assert {"jobs", "scheduler"}.isdisjoint(told["settings"])
    other = json.loads(
        content(audit_images(faulty, AuditSettings(seed=1, thorough=True)), tmp_path / "s.json")
    )
    changed = {name for name in CHECKS if other["checks"][name] != told["checks"][name]}
    assert changed == {"shortcuts", "framing", "shift"}


@pytest.fixture(scope="module")
def cluster():
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as running:
        yield running


@pytest.mark.slow
def test_a_cluster_gives_the_same_report(cluster, faulty, phantom_cohort, tmp_path, monkeypatch):
    from leakfree.audit.copies import scan

    monkeypatch.setattr(scan, "SHARD", 16)
    for target in (faulty, phantom_cohort.path):
        alone = audit_images(target, AuditSettings(thorough=True, jobs=1))
        remote = audit_images(target, AuditSettings(thorough=True, scheduler=cluster.scheduler_address))
        assert content(alone, tmp_path / "a.json") == content(remote, tmp_path / "b.json")


@pytest.mark.slow
def test_workers_of_a_cluster_do_the_reading(cluster, faulty, monkeypatch):
    from leakfree.audit.copies import hashes, scan

    def refuse(*_):
        raise AssertionError("read in this process")

    expected = status(audit_images(faulty, AuditSettings(skip=SKIP)))
    # Functions are sent by name, so that the workers have the true ones.
    monkeypatch.setattr(scan, "decode", refuse)
    monkeypatch.setattr(hashes, "_keys", refuse)
    settings = AuditSettings(skip=SKIP, scheduler=cluster.scheduler_address)
    assert status(audit_images(faulty, settings)) == expected
    with pytest.raises(AssertionError, match="in this process"):
        audit_images(faulty, AuditSettings(skip=SKIP))


def test_sealed_labels_reach_no_check(phantom_cohort, tmp_path):
    """Neither as the source's parts stand, nor when a manifest moves images of the test part to training."""
    table = phantom_cohort.table
    sealed = int((table["label"] == "sealed").sum())
    ids = table["image_id"].to_numpy(dtype=object)
    mixed = patient_level(ids, patient_ids(table, "series"), table["label"], seed=0, scope="series")
    for settings in (AuditSettings(), AuditSettings(manifest=mixed.save(tmp_path / "m.json"))):
        target = open_target(str(phantom_cohort.path), manifest=settings.manifest)
        report, read = audit_and_scan(target, settings)
        assert sealed and int((read.table["label"] == "sealed").sum()) == sealed
        assert f"labels of {sealed} images of the official test part, which are sealed" in report.unchecked
        conflicts = report.checks["label_conflicts"]
        assert conflicts.details["images_without_label"] == sealed and conflicts.status != "PASS"
        assert report.checks["shortcuts"].status != "PASS"
        assert report.checks["shortcuts"].details["left_out"] == sealed
        assert "sealed" not in report.checks["shortcuts"].details["labels"]
        for part in report.checks["parts"].details["parts"]:
            assert "sealed" not in part["labels"]
            held = set(read.table["label"][read.table["part"] == part["name"]])
            assert part["checked"] is ("sealed" not in held)


def test_a_folder_of_classes_alone_has_no_parts(write_folder, encode):
    root = write_folder({f"{'AB'[i % 2]}/person{i}_virus_1.jpeg": encode(seed=i) for i in range(6)})
    report = audit_images(root, AuditSettings(skip=SKIP))
    assert report.images == {"no part": 6}
    assert {status(report)[name] for name in ("patients", "linked_groups", "parts")} == {"NOT RUN"}
    assert {status(report)[name] for name in ("same_file", "exact_duplicates", "near_duplicates")} == {
        "INCONCLUSIVE"
    }


def test_a_part_whose_files_are_all_broken_is_told(write_folder, encode):
    root = write_folder({"train/A/a.png": encode(), "train/B/b.png": encode(seed=1), "test/A/c.png": b"x"})
    (root / "val").mkdir()
    report = audit_images(root, AuditSettings(skip=SKIP))
    assert "test has no readable image" in report.checks["parts"].summary
    assert "val has no readable image" in report.checks["parts"].summary
    assert unusable(report) == ["test/A/c.png"] and "PASS" not in status(report).values()


def test_settings_are_checked_and_told(tmp_path, complete):
    for wrong in (
        {"skip": ("x",)},
        {"fail_on": ("x",)},
        {"scope": "x"},
        {"jobs": -1},
        {"seed": -1},
        {"nme": 1},
    ):
        with pytest.raises(ValueError):
            AuditSettings(**wrong)
    assert AuditSettings().fail_on == FAIL_ON
    report = audit_images(complete / "films.csv", AuditSettings(skip=tuple(CHECKS), seed=5))
    assert report.settings["seed"] == 5 and report.settings["skip"] == list(CHECKS)
    with pytest.raises(TargetError):
        audit_images(tmp_path / "nowhere" / "x")


def test_the_checksum_follows_names_parts_labels_and_bytes(complete, tmp_path):
    table = pd.read_csv(complete / "films.csv", dtype=str)[:4]
    table["path"] = [str(complete / path) for path in table["path"]]

    def checksum(frame):
        frame.to_csv(tmp_path / "films.csv", index=False)
        return audit_images(tmp_path / "films.csv", AuditSettings(skip=tuple(CHECKS))).provenance[
            "data_checksum"
        ]

    first = checksum(table)
    assert checksum(table) == first
    changed = [table.assign(part="x"), table.assign(label="x"), table[:3], table[::-1]]
    assert len({first, *map(checksum, changed)}) == 5


def test_pictures_are_those_of_the_images(write_folder, encode):
    rgb = encode("RGB", (40, 30), "PNG", seed=3)
    root = write_folder(
        {"a.png": b"broken", "train/A/b.png": rgb, "train/c.png": encode(size=(20, 10), format="PNG")}
    )
    target = open_target(str(root))
    _, read = audit_and_scan(target, AuditSettings(skip=tuple(CHECKS)))
    pictures = Pictures(target, read)
    shown = pictures.picture("train/A/b.png")
    assert shown.mode == "L" and shown.size == (40, 30)
    assert pictures.picture("train/c.png").size == (20, 10)
    assert np.asarray(shown).std() > 0
    assert pictures.describe("train/A/b.png") == "train, A, 40 x 30 px"
    assert pictures.describe("train/c.png") == "train, 20 x 10 px"
    # What has changed since it was read has no picture.
    (root / "train/A/b.png").write_bytes(rgb[:80])
    (root / "train/c.png").unlink()
    assert pictures.picture("train/A/b.png") is None and pictures.picture("train/c.png") is None


def test_an_image_listed_twice_has_a_picture(complete, tmp_path):
    path = tmp_path / "films.csv"
    image = complete / "person1_virus_1.jpeg"
    path.write_text(f"path,part\n{image},train\n{image},test\n")
    target = from_csv(path)
    report, read = audit_and_scan(target, AuditSettings(skip=SKIP))
    assert report.leaks and Pictures(target, read).picture(str(image)).size == (24, 24)


@pytest.fixture(scope="module")
def real_report(real_data, tmp_path_factory):
    path = tmp_path_factory.mktemp("real") / "report.json"
    code = main(["audit", str(real_data / "chest_xray"), "--skip", "shift", "--quiet", "--json", str(path)])
    return code, json.loads(path.read_text())


@pytest.mark.real
@pytest.mark.slow
def test_real_images_have_copies_inside_parts_only(real_report):
    code, report = real_report
    exact = report["checks"]["exact_duplicates"]
    assert code == 0 and report["problems"] == []
    assert (exact["status"], exact["count"], len(exact["files"])) == ("WARN", 30, 62)
    assert exact["across_parts"]["count"] == 0 and report["checks"]["same_file"]["count"] == 0


@pytest.mark.real
@pytest.mark.slow
def test_real_patients_cross_parts_under_wider_scopes(real_report):
    patients = real_report[1]["checks"]["patients"]
    assert [patients[scope]["count"] for scope in ("series", "person", "merged")] == [0, 170, 264]
    assert (patients["status"], patients["severity"], patients["fails"]) == ("WARN", "warning", False)
    assert real_report[1]["checks"]["linked_groups"]["count"] == 0
    assert real_report[1]["checks"]["shift"]["status"] == "NOT RUN"
