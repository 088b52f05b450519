"""A finished run is re-checked from its files: what was changed is found, and named."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deferred import deferred
from leakfree.base.files import file_hash, write_json, write_text
from leakfree.base.sums import NAME as SUMS
from leakfree.base.sums import write_sums
from leakfree.data.pixels import pixel_digest
from leakfree.scores.predictions import save_predictions
from leakfree.split.protocols import CLEAN, IMAGE_LEVEL

with deferred:
    from leakfree.ledger.ledger import Ledger, consumed_hash
    from leakfree.predict.description import add_hashes
    from leakfree.split.manifest import image_level, patient_level
    from leakfree_study.record.verify import NotARunError, verify_command, verify_run

N = 48
IDS = np.array([f"train/X/film-{row:04d}.jpeg" for row in range(N)], dtype=object)
PATIENTS = np.array([f"p{row // 3}" for row in range(N)], dtype=object)
GROUPS = {image_id: row // 3 for row, image_id in enumerate(IDS)}
LABELS = np.array(["normal", "pneumonia"], dtype=object)[np.arange(N) // 3 % 2]
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 4, 4), dtype=np.uint8)
NAMES = {"clean": "05_binary_resnet18_128px_clean_s42", "leaky": "03_binary_cnn_224px_image-level_s42"}
LEDGER = f"ledgers/{NAMES['clean']}.json"
PREDICTIONS = f"predictions/{NAMES['clean']}.csv"
CELL = f"cells/{NAMES['clean']}.json"
MANIFEST = "manifests/05-patient-level-binary.json"


def write_cell(folder, name, manifest, protocol, more=(), trained=None):
    book = Ledger({i: pixel_digest(p) for i, p in zip(IDS, PIXELS, strict=True)})
    frames = []
    for part in manifest.parts:
        rows = manifest.rows(part, IDS)
        for _ in range(3 if part == "train" else 1):
            book.record(part, IDS[rows], PIXELS[rows])
        if part != "train":
            frames.append(
                pd.DataFrame(
                    {
                        "image_id": IDS[rows],
                        "patient": PATIENTS[rows],
                        "part": part,
                        "label": LABELS[rows],
                        "p_normal": 0.25,
                        "p_pneumonia": 0.75,
                        "seed": 42,
                    }
                )
            )
    found = book.check(manifest, protocol, GROUPS)
    outputs = [
        manifest.save(folder / "manifests" / f"{manifest.name}.json"),
        save_predictions(folder / "predictions" / f"{name}.csv", pd.concat(frames)).path,
        book.save(folder / "ledgers" / f"{name}.json", manifest, protocol, found),
        *more,
    ]
    facts = {
        "n_train": len(book.consumed("train")),
        "shared_groups": found["linked groups"],
        "shared_images": found["images"],
    }
    facts |= {"weights_sha256": trained} if trained else {}
    record = {"key": "k", "facts": facts, "history": "{}"}
    record["outputs"] = {p.relative_to(folder).as_posix(): file_hash(p) for p in outputs}
    write_json(folder / "cells" / f"{name}.json", record)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder as the study leaves it; copied for every test."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    clean = patient_level(
        IDS, np.arange(N) // 3, LABELS, seed=42, scope="series", name="05-patient-level-binary"
    )
    fractions = {"train": 0.7, "val": 0.15, "test": 0.15}
    leaky = image_level(IDS, seed=42, fractions=fractions, name="03-image-level-binary")
    weights = folder / "models" / "resnet18_leakfree.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(bytes(range(256)))
    preprocessing = write_json(
        weights.with_name("preprocessing.json"),
        {"weights": weights.name, "weights_sha256": file_hash(weights), "manifest_hash": clean.hash},
    )
    write_cell(folder, NAMES["clean"], clean, CLEAN, [weights, preprocessing], trained=file_hash(weights))
    write_cell(folder, NAMES["leaky"], leaky, IMAGE_LEVEL)
    write_text(folder / "tables" / "05_scores.csv", "metric,estimate\nroc_auc,0.5\n")
    write_text(folder / "notebooks" / "05_leakfree_deep.ipynb", '{"cells": []}\n')
    write_text(folder / "notebooks" / "05_leakfree_deep.html", "<p>\n")
    write_text(folder / "figures" / "05_roc.png", "png\n")
    write_text(folder / "figures" / "index.json", "{}\n")
    seal(folder, cells=False)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def seal(folder, cells=True):
    """Write all hashes of files anew, as somebody would who covers a change up."""
    if cells:
        for path in (folder / "cells").glob("*.json"):
            record = json.loads(path.read_text())
            record["outputs"] = {name: file_hash(folder / name) for name in record["outputs"]}
            write_json(path, record)
    listed = [
        p
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.parent.name not in ("outputs", "run") and p.suffix != ".html"
    ]
    outputs = {
        p.relative_to(folder).as_posix(): file_hash(p)
        for p in listed
        if p.name not in ("index.json", "provenance.json", SUMS)
    }
    record = {"seconds": 1.5, "parameters": {"seed": 42}, "outputs": outputs}
    write_json(folder / "outputs" / "05_leakfree_deep.run.json", {"key": "k", **record})
    write_json(folder / "provenance.json", {"notebooks": {"05_leakfree_deep": record}})
    write_sums(folder)


def change(folder, name, edit, sealed=True):
    content = json.loads((folder / name).read_text())
    edit(content)
    write_json(folder / name, content)
    if sealed:
        seal(folder)


def problems(folder):
    found = verify_run(folder).problems
    assert all("\n" not in line for line in found)
    assert len(set(found)) == len(found)
    return found


def only(folder, name, reason):
    """Assert that one file is named, with a reason."""
    found = problems(folder)
    assert any(line.startswith(f"{name}: ") and reason in line for line in found), found
    return found


# What agrees


def test_a_finished_run_agrees(run, capsys):
    found = verify_run(run)
    assert found.problems == []
    # 2 cells of 4 files with their manifests, 2 of the model, table, figure and index, notebook, provenance,
    # record, and the list of hashes.
    assert found.files == 8 + 2 + 4 + 2 + 1
    assert any("linked groups in training" in line for line in found.not_checked)
    assert verify_command(str(run)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"{run}: 17 files checked, all agree"
    assert all(line.startswith("not checked: ") for line in lines[:-1])


@pytest.mark.slow
def test_the_published_run_agrees(repository):
    found = verify_run(repository / "artifacts" / "chest_xray")
    assert found.problems == []
    assert found.files > 100


def test_it_needs_no_torch(run):
    code = f"import sys\nimport leakfree_study.record.verify as v\nv.verify_run({str(run)!r})\n"
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_other_tables_among_the_manifests_are_no_manifests(run):
    """Nor is the inflation study's code imported for a run without its files."""
    write_text(run / "manifests" / "06_sizes.csv", "film,width\n0,1\n")
    write_text(run / "ledgers" / "06_sizes.csv", "film\n0\n")
    seal(run)
    assert problems(run) == []
    module = "leakfree_study.inflation.check"
    code = f"import sys\nimport leakfree_study.record.verify as v\nv.verify_run({str(run)!r})\n"
    code += f"sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


@pytest.mark.parametrize(
    "name", ["manifests/06_draws_series.csv.gz", "ledgers/06_binary.csv.gz", "predictions/06/binary/x.csv.gz"]
)
def test_files_of_the_inflation_study_need_its_table_of_images(run, name):
    write_text(run / name, "x\n")
    seal(run)
    assert problems(run) == ["manifests/06_films.csv: cannot be read (No such file or directory)"]


def test_the_command_says_what_disagrees(run, capsys):
    (run / PREDICTIONS).unlink()
    assert verify_command(str(run)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"disagrees: {PREDICTIONS}: cannot be read") for line in lines)
    assert lines[-1].endswith(" disagree")


@pytest.mark.parametrize("make", [None, lambda p: p.mkdir(), lambda p: p.write_text("x")])
def test_another_folder_is_no_run(tmp_path, capsys, make):
    path = tmp_path / "elsewhere"
    if make:
        make(path)
    with pytest.raises(NotARunError, match="elsewhere: not a run folder"):
        verify_run(path)
    assert verify_command(str(path)) == 2
    assert "elsewhere: not a run folder" in capsys.readouterr().out


# Bytes


def protected(folder):
    """Files whose every byte is under a hash: all but exported pages."""
    names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]
    return [n for n in names if not n.endswith(".html") and n != SUMS]


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_one_flipped_bit_anywhere_is_found_and_the_file_named(finished, data):
    name = data.draw(st.sampled_from([*protected(finished), SUMS]))
    original = (finished / name).read_bytes()
    place = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        (finished / name).write_bytes(changed)
        # A bit of the list of hashes is one of its file's hash or name.
        expected = f"{SUMS} " if name == SUMS else f"{name}: "
        assert any(line.startswith(f"{name}: ") or expected in line for line in problems(finished))
    finally:
        (finished / name).write_bytes(original)


def test_every_removed_file_is_missed(run):
    for name in protected(run):
        original = (run / name).read_bytes()
        (run / name).unlink()
        only(run, name, "")
        (run / name).write_bytes(original)
    (run / SUMS).unlink()
    only(run, SUMS, "is missing")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[]", b"{}", b"[" * 100_000, b"null", b'{"notebooks": 3}', None]
)
def test_no_content_of_any_file_ends_in_a_traceback(run, content):
    for name in protected(run):
        if content is None and name.startswith("outputs/"):
            continue  # as if the record were not there, which proves nothing either way
        original = (run / name).read_bytes()
        (run / name).unlink()
        if content is None:
            (run / name).mkdir()
        else:
            (run / name).write_bytes(content)
        found = problems(run)
        assert any(line.startswith(f"{name}: ") for line in found), (name, found)
        (run / name).rmdir() if content is None else (run / name).unlink()
        (run / name).write_bytes(original)
    assert problems(run) == []


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_no_value_of_any_record_ends_in_a_traceback(finished, data):
    """Any value of any JSON file replaced by one of another kind: a line, never an exception."""
    names = [n for n in protected(finished) if n.endswith(".json") and n != "figures/index.json"]
    name = data.draw(st.sampled_from(names))
    original = (finished / name).read_bytes()
    content = place = json.loads(original)
    while True:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(list(keys)))
        if not (isinstance(place[key], dict | list) and place[key]) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(
        st.sampled_from([None, 3, -1, 0.5, True, "x", "", [], {}, [[]], {"": None}, "../../x"])
    )
    try:
        (finished / name).write_text(json.dumps(content))
        problems(finished)
    finally:
        (finished / name).write_bytes(original)


@pytest.mark.parametrize(
    "name", ["tables/new.csv", "models/new.safetensors", "manifests/sub/new.txt", "cells/x", "ledgers/x.txt"]
)
def test_a_file_that_nothing_lists_is_reported(run, name):
    write_text(run / name, "x\n")
    assert problems(run) == [f"{name}: no provenance and no cell lists it"]


def test_weights_are_not_listed_by_their_own_description(run):
    shutil.copytree(run / "models", run / "models" / "mine")
    reason = "no provenance and no cell lists it"
    assert problems(run) == [
        f"models/mine/preprocessing.json: {reason}",
        f"models/mine/resnet18_leakfree.safetensors: {reason}",
    ]


def test_a_ledger_and_predictions_from_elsewhere_are_reported(run):
    for folder, suffix in (("ledgers", "json"), ("predictions", "csv")):
        shutil.copy(run / folder / f"{NAMES['clean']}.{suffix}", run / folder / f"mine.{suffix}")
    assert problems(run) == [
        "ledgers/mine.json: no provenance and no cell lists it",
        "predictions/mine.csv: no provenance and no cell lists it",
    ]


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "tables/../../x", "..\\x"])
def test_nothing_outside_the_run_is_read(run, name):
    change(run, CELL, lambda cell: cell["outputs"].update({name: "0" * 64}), sealed=False)
    only(run, CELL, f"lists {name}, which is outside the run folder")


# Changes that are covered up: every hash of a file is written anew


def rehash(content):
    for stage in content["stages"].values():
        counts = {i: int(times) for times, ids in stage["ids_by_times"].items() for i in ids}
        stage["sha256"] = consumed_hash(counts)
        stage["images"], stage["rows"] = len(counts), sum(counts.values())


def first_ids(content, stage):
    return next(iter(content["stages"][stage]["ids_by_times"].values()))


def swap(first, second):
    def edit(content):
        one, two = first_ids(content, first), first_ids(content, second)
        one[0], two[0] = two[0], one[0]
        rehash(content)

    return edit


def lose(stage):
    def edit(content):
        first_ids(content, stage).pop()
        rehash(content)

    return edit


def twice(content):
    ids = content["stages"]["test"]["ids_by_times"]["1"]
    content["stages"]["test"]["ids_by_times"]["2"] = [ids.pop()]
    rehash(content)


def put(*keys):
    *path, key, value = keys

    def edit(content):
        for step in path:
            content = content[step]
        content[key] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (swap("train", "test"), "stage test consumed 1 images of another part than the manifest's and"),
        (swap("train", "val"), "stage train consumed 1 images of another part"),
        (lose("train"), "stage train consumed 0 images of another part than the manifest's and missed 1"),
        (lose("test"), "missed 1, like train/X/film-"),
        (twice, "the test part was scored more than once (train/X/film-"),
        (lambda c: first_ids(c, "train").append(first_ids(c, "test")[0]), "ids do not agree with their hash"),
        (lambda c: first_ids(c, "train").append(first_ids(c, "train")[0]), "stands there twice"),
        (put("stages", "train", "sha256", "0" * 64), "stage train: ids do not agree with their hash"),
        (put("stages", "train", "rows", 7), "stage train: says 36 images in 7 rows, its ids are 36 in 108"),
        (put("stages", "train", "images", 7), "says 7 images"),
        (put("stages", "val", "rows_hashed", 0), "stage val: 0 of"),
        (put("stages", "val", "rows_hashed", 99), "stage val: 99 of"),
        (put("stages", "val", {}), "malformed: KeyError"),
        (lambda c: c["stages"].pop("val"), "stage val consumed 0 images"),
        (lambda c: c["stages"].update(extra=c["stages"]["val"]), "stage extra consumed"),
        (put("agrees", False), "does not claim to agree"),
        (put("agrees", "True"), "does not claim to agree"),
        (lambda c: c.pop("agrees"), "malformed: KeyError: 'agrees'"),
        (put("manifest", "another"), "manifests/another.json is missing or cannot be used"),
        (put("manifest", "03-image-level-binary"), "rests on another version of the manifest"),
        (put("manifest_hash", "0" * 64), "rests on another version of the manifest 05-patient-level-binary"),
        (put("found_leaks", "linked groups", 3), "declares no leak and found linked groups"),
        (put("found_leaks", "images", 1), "says 1 images on both sides, its stages share 0"),
        (put("found_leaks", {}), "counts the leaks"),
        (put("declared_leaks", ["linked groups"]), "declares linked groups and found no leak"),
        (put("protocol", "image-level"), "protocol image-level has linked groups"),
    ],
)
def test_a_ledger_that_was_changed_is_found_although_all_hashes_were_made_anew(run, edit, reason):
    change(run, LEDGER, edit)
    assert not any("SHA-256" in line for line in problems(run))
    only(run, LEDGER, reason)


def test_images_on_both_sides_are_counted_again(run):
    def share(content):
        first_ids(content, "train").append(first_ids(content, "test")[0])
        rehash(content)

    change(run, LEDGER, share)
    only(run, LEDGER, "says 0 images on both sides, its stages share 1")


def test_a_protocol_of_another_version_is_not_passed_over(run):
    change(run, LEDGER, put("protocol", "something"))
    found = verify_run(run)
    assert found.problems == []
    assert any(line.startswith("protocol something: not of this version") for line in found.not_checked)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda lines: lines.pop(), "part test has 0 images that its ledger did not consume and lacks 1"),
        (lambda lines: lines.append(lines[-1]), "occurs more than once"),
        (
            lambda lines: lines.append(lines[-1].replace("film-", "flim-")),
            "has 1 images that its ledger did not consume and lacks 0, like train/X/flim-",
        ),
        (lambda lines: lines.append(lines[-1].replace(",test,", ",val,").replace("film", "x")), "part val"),
        (lambda lines: lines.append(lines[-1].replace(",test,", ",train,").replace("film", "x")), "part tra"),
        (lambda lines: lines.__setitem__(0, "image_id,patient"), "missing column"),
        (lambda lines: lines.__setitem__(-1, lines[-1].replace("0.75", "0.85")), "do not sum to 1"),
        (lambda lines: lines.clear(), "not a CSV table"),
    ],
)
def test_predictions_that_were_changed_are_found(run, edit, reason):
    lines = (run / PREDICTIONS).read_text().splitlines()
    edit(lines)
    write_text(run / PREDICTIONS, "".join(f"{line}\n" for line in lines))
    seal(run)
    only(run, PREDICTIONS, reason)


def test_a_patient_on_two_sides_of_the_predictions_is_found(run):
    table = pd.read_csv(run / PREDICTIONS, dtype=str)
    table.loc[table["part"] == "test", "patient"] = table.loc[table["part"] == "val", "patient"].iloc[0]
    table.to_csv(run / PREDICTIONS, index=False)
    seal(run)
    only(run, PREDICTIONS, "is in two parts, and its ledger found no shared linked group")


def test_results_without_a_ledger_are_found(run):
    (run / LEDGER).unlink()
    found = only(run, LEDGER, "cannot be read")
    assert f"{PREDICTIONS}: has no usable ledger {LEDGER}" in found
    assert f"{CELL}: has no usable ledger {LEDGER}" in found


def test_a_ledger_without_predictions_is_not_passed_over(run):
    (run / PREDICTIONS).unlink()
    change(run, CELL, lambda cell: cell["outputs"].pop(PREDICTIONS))
    found = verify_run(run)
    assert found.problems == []
    assert f"{LEDGER}: has no predictions" in found.not_checked


def test_a_manifest_that_was_changed_is_found(run):
    def move(content):
        content["parts"]["train"].append(content["parts"]["test"].pop())

    change(run, MANIFEST, move)
    found = only(run, MANIFEST, "content does not agree with its hash")
    assert any(line.startswith(f"{LEDGER}: its manifest {MANIFEST} is missing") for line in found)


def test_a_manifest_under_another_name_is_found(run):
    shutil.copy(run / MANIFEST, run / "manifests" / "other.json")
    seal(run)
    only(run, "manifests/other.json", "is the manifest 05-patient-level-binary")


@pytest.mark.parametrize("fact", ["n_train", "shared_groups", "shared_images"])
def test_a_cell_says_what_its_ledger_says(run, fact):
    change(run, CELL, put("facts", fact, 7))
    only(run, CELL, f"says {fact} 7, its ledger ")


def test_weights_that_are_not_those_described_are_found(run):
    (run / "models" / "resnet18_leakfree.safetensors").write_bytes(b"other")
    seal(run)
    only(run, "models/resnet18_leakfree.safetensors", "models/preprocessing.json has")


def test_files_beside_the_weights_are_those_of_the_description(run, models):
    for path in models.iterdir():
        shutil.copy(path, run / "models")
    described = run / "models" / "preprocessing.json"
    manifest = json.loads((run / MANIFEST).read_text())["hash"]
    change(run, "models/preprocessing.json", put("manifest_hash", manifest), sealed=False)
    add_hashes(described)
    seal(run)
    assert not [line for line in problems(run) if "does not list it" in line or "SHA-256" in line]
    calibration = run / "models" / "calibration.json"
    calibration.write_text(calibration.read_text().replace("1.3", "1.4"))
    seal(run)
    only(run, "models/preprocessing.json", "calibration.json: SHA-256 is not the one in")
    change(run, "models/preprocessing.json", put("mean", 0.46))
    only(run, "models/preprocessing.json", "description_sha256 is not its own; the file was changed")


def test_weights_that_no_cell_trained_are_found(run):
    change(run, f"cells/{NAMES['clean']}.json", lambda record: record["facts"].pop("weights_sha256"))
    only(run, "models/preprocessing.json", "describes weights that no cell of the run trained")


def test_weights_of_another_split_are_found(run):
    change(run, "models/preprocessing.json", put("manifest_hash", "0" * 64))
    only(run, "models/preprocessing.json", "rests on a manifest that is not in the run")


@pytest.mark.parametrize("key", ["seconds", "parameters", "outputs"])
def test_a_notebook_that_ran_again_without_its_provenance_is_found(run, key):
    change(run, "outputs/05_leakfree_deep.run.json", put(key, {}), sealed=False)
    only(run, "outputs/05_leakfree_deep.run.json", f"its {key} are not those of provenance.json")


def test_a_notebook_that_the_provenance_does_not_know_is_found(run):
    shutil.copy(run / "outputs" / "05_leakfree_deep.run.json", run / "outputs" / "06_new.run.json")
    only(run, "outputs/06_new.run.json", "provenance.json has no notebook 06_new")


def test_a_run_without_ledgers_says_that_nothing_is_known(run):
    for part in ("ledgers", "cells", "predictions"):
        shutil.rmtree(run / part)
    seal(run)
    found = verify_run(run)
    assert found.problems == []
    assert "what was consumed: the run has no ledger that can be used" in found.not_checked


def opened(folder, results=True):
    """Write a log of one opening of the sealed test, with its predictions."""
    name = "predictions/sealed/binary_resnet18_s1.csv"
    frame = pd.DataFrame(
        {
            "image_id": [f"test/{i}.png" for i in range(8)],
            "patient": [f"q{i}" for i in range(8)],
            "part": "test",
            "label": ["normal", "pneumonia"] * 4,
            "p_normal": [0.9, 0.2, 0.8, 0.1, 0.7, 0.6, 0.9, 0.4],
            "p_pneumonia": [0.1, 0.8, 0.2, 0.9, 0.3, 0.4, 0.1, 0.6],
            "seed": 1,
        }
    )
    save_predictions(folder / name, frame)
    row = {"metric": "accuracy", "estimate": 0.875, "predictions": name}
    line = {
        "opening": 1,
        "results": [row] if results else None,
        "predictions": {name: file_hash(folder / name)},
    }
    write_text(folder / "sealed_test.jsonl", json.dumps(line) + "\n")
    return name


def test_predictions_of_the_sealed_test_are_checked_by_their_log(run):
    name = opened(run)
    seal(run)
    assert problems(run) == []
    text = (run / "sealed_test.jsonl").read_text()
    write_text(run / "sealed_test.jsonl", text.replace("0.875", "0.975"))
    seal(run)
    only(run, "sealed_test.jsonl", f"opening 1: accuracy of {name} is 0.875000, not 0.975000")


def test_a_changed_prediction_or_log_of_the_sealed_test_is_found(run):
    name = opened(run)
    seal(run)
    file = run / name
    write_text(file, file.read_text().replace("0.900000,0.100000", "0.800000,0.200000", 1))
    seal(run)
    found = problems(run)
    assert any(line.startswith(f"{name}: SHA-256 is") for line in found)
    write_text(run / "sealed_test.jsonl", "{\n")
    seal(run)
    assert any(line.startswith("sealed_test.jsonl: a line is not JSON") for line in problems(run))


def test_sealed_predictions_without_a_log_are_nobodys(run):
    name = opened(run)
    (run / "sealed_test.jsonl").unlink()
    seal(run)
    only(run, name, "has no usable ledger")
