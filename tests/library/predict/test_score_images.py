"""`leakfree score` scores a network by the right classes and patients, and no sealed image."""

import csv
import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deferred import deferred
from leakfree.cli import main

with deferred:
    from leakfree.audit.target import from_folder
    from leakfree.data.reading.wishes import Wishes
    from leakfree.predict import score_images as module
    from leakfree.predict.calibrated import Calibrated
    from leakfree.predict.score_images import (
        ScoreError,
        ScoreSettings,
        grey_hash,
        score_images,
        sealed_files,
    )
    from leakfree.predict.score_report import text_of, write_report
    from leakfree.predict.training_set import COPY, NOT_FOUND, SAME

WISHES = {"no_parts": True, "patient_pattern": r"(p\d+)_"}


class Seen:
    """A list of training images with as many of the first ones on it as are asked for."""

    def __init__(self, same=0, copies=0):
        self.left = [SAME] * same + [COPY] * copies

    def find(self, images):
        found, self.left = self.left[: len(images)], self.left[len(images) :]
        return found + [NOT_FOUND] * (len(images) - len(found))


class Mean:
    """A network that calls bright images pneumonia."""

    size = 16
    training_set = Seen()

    def __init__(self, classes=("normal", "pneumonia")):
        described = {"classes": classes, "task": "binary"}
        self.description = type("Described", (), described)()
        self.about = {"name": "mean", "weights_sha256": "ab" * 32, "precision": "float32", "version": "1"}
        self.calibrated = Calibrated(1.0, None)

    def prepare(self, data):
        from leakfree.data.images import to_grey

        return to_grey(data, self.size)

    def probabilities(self, images):
        ill = np.clip((images.reshape(len(images), -1).mean(axis=1) - 60) / 120, 0.01, 0.99)
        return np.stack([1 - ill, ill], axis=1)


@pytest.fixture
def folder(tmp_path):
    """Write 40 images of 20 patients: normal ones are dark, the others bright; four have the other name."""
    rows = []
    for i in range(40):
        ill, wrong = i % 2, i >= 36
        label = ["NORMAL", "Pneumonia"][ill ^ wrong]
        path = tmp_path / "images" / label / f"p{i // 2 % 20}_{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (40, 30), 160 if ill else 80).save(path)
        rows.append((f"{label}/{path.name}", "north" if i < 30 else "south", 20 + i))
    table = pd.DataFrame(rows, columns=["path", "site", "age"])
    table.to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path / "images"


def scored(folder, classifier=None, wishes=None, sealed=frozenset(), **settings):
    target = from_folder(folder, Wishes(**WISHES | (wishes or {})))
    settings = {"classes": {}, "resamples": 100, "jobs": 1, **settings}
    return score_images(classifier or Mean(), target, ScoreSettings(**settings), sealed)


def of(table, metric, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    return table[table["metric"] == metric].iloc[0]


def test_rates_are_those_counted_by_hand(folder):
    found = scored(folder)
    for metric in ("sensitivity", "specificity", "balanced_accuracy"):
        row = of(found.scores, metric)
        assert row["estimate"] == pytest.approx(18 / 20) and row["low"] < 0.9 < row["high"]
        assert (row["n_images"], row["n_patients"]) == (40, 20)
    assert of(found.scores, "roc_auc")["estimate"] == pytest.approx(0.81 + 0.5 * 0.18)
    assert found.notes == ("20 patients are few: an interval of a rate at 0 or 1 is too narrow",)
    assert not found.problems
    assert list(found.predictions["label"]).count("normal") == 20


def test_framings_are_those_of_the_same_images(folder):
    found = scored(folder).framings
    # On a black ground bright images are dark: this network then calls everybody healthy.
    assert of(found, "sensitivity", framing="zoom 0.8")["estimate"] < 0.2
    for framing in ("zoom 1", "zoom 1.3"):
        assert of(found, "sensitivity", framing=framing)["estimate"] == pytest.approx(0.9)
    assert len(found) == 3 * 10 and (found["n_images"] == 40).all()


def test_groups_of_a_column_are_scored_and_small_ones_counted(folder):
    wishes = {"csv": (folder.parent / "labels.csv",)}
    found = scored(folder, wishes=wishes, by=("site", "age")).groups
    assert of(found, "sensitivity", value="north")["estimate"] == 1
    south = of(found, "sensitivity", value="south")
    assert south["estimate"] == pytest.approx(3 / 5) and (south["n_images"], south["n_patients"]) == (10, 5)
    ages = found[found["column"] == "age"]
    assert ages["value"].nunique() == 4 and ages.groupby("value")["n_images"].first().tolist() == [10] * 4
    with pytest.raises(ScoreError, match="--by scanner: no such column; images has site, age"):
        scored(folder, wishes=wishes, by=("scanner",))


def test_labels_are_compared_by_name_and_others_have_to_be_said(folder):
    (folder / "Pneumonia").rename(folder / "virus")
    with pytest.raises(ScoreError, match="label 'virus' is no class of this network"):
        scored(folder)
    assert of(scored(folder, classes={"pneumonia": ("Virus",)}).scores, "sensitivity")["estimate"] == 0.9
    alone = scored(folder, leave_out=("virus",))
    assert of(alone.scores, "specificity")["estimate"] == pytest.approx(0.9)
    assert np.isnan(of(alone.scores, "sensitivity")["estimate"])
    with pytest.raises(ScoreError, match="--class ill: is no class of this network; it has normal"):
        scored(folder, classes={"ill": ("virus",)})


def test_labels_of_the_cohort_stand_for_their_class(folder):
    (folder / "Pneumonia").rename(folder / "bacterial")
    assert of(scored(folder).scores, "sensitivity")["estimate"] == pytest.approx(0.9)


def test_patients_that_are_not_known_are_said(folder):
    found = scored(folder, wishes={"patient_pattern": ""})
    assert "40 of 40 images have no known patient" in found.notes[0]
    assert of(found.scores, "sensitivity")["n_patients"] == 40


def test_files_that_cannot_be_read_are_listed_and_the_others_scored(folder):
    (folder / "NORMAL" / "p99_1.png").write_bytes(b"\x89PNG no more")
    found = scored(folder)
    assert [problem.file for problem in found.problems] == ["NORMAL/p99_1.png"] and found.problems[0].reason
    assert of(found.scores, "sensitivity")["n_images"] == 40 and "1 files could not be read" in found.notes[0]


def test_an_image_of_the_sealed_part_is_refused_by_its_bytes(folder, tmp_path):
    image = sorted((folder / "NORMAL").iterdir())[0]
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    (tmp_path / "run" / "models").mkdir(parents=True)
    rows = pd.DataFrame({"label": ["sealed", "normal"], "sha256": [digest, "00"]})
    rows.to_csv(tmp_path / "run" / "cohort.csv", index=False)
    sealed = sealed_files(tmp_path / "run" / "models")
    assert sealed == {digest} == sealed_files(tmp_path / "run" / "models" / "preprocessing.json")
    with pytest.raises(ScoreError, match=r"NORMAL/p\d+_\d+.png: is an image of the sealed test part"):
        scored(folder, sealed=sealed)
    assert sealed_files(tmp_path / "elsewhere") is None
    assert "which images are sealed is not known" in scored(folder, sealed=None).notes[0]


def test_images_that_the_network_was_trained_on_are_counted(folder):
    network = Mean()
    network.training_set = Seen(same=30, copies=5)
    assert (
        "the network was trained on 35 of these 40 images (30 themselves, 5 as a copy): their scores prove "
        "nothing" in scored(folder, network).notes
    )
    network.training_set = None
    assert any("trained on is not known" in note for note in scored(folder, network).notes)


def test_an_image_of_the_sealed_part_is_refused_by_its_pixels(folder, tmp_path):
    path = sorted(folder.rglob("NORMAL/*.png"))[3]
    grey = Image.open(path).convert("L")
    (tmp_path / "run" / "models").mkdir(parents=True)
    rows = pd.DataFrame({"label": ["sealed"], "sha256": ["00"]})
    rows.to_csv(tmp_path / "run" / "cohort.csv", index=False)
    record = tmp_path / "run" / module.SEALED_PIXELS
    record.parent.mkdir()
    pd.DataFrame({"image_id": ["x"], "grey": [grey_hash(grey)]}).to_csv(record, index=False)
    sealed = sealed_files(tmp_path / "run" / "models")
    assert sealed == {"00", grey_hash(grey)} and grey_hash(grey) != grey_hash(grey.rotate(90))
    copy = shutil.copytree(folder, tmp_path / "copy")
    other = copy / path.relative_to(folder)
    grey.save(other, "PNG", compress_level=1)  # other bytes, the same picture
    with pytest.raises(ScoreError, match="is an image of the sealed test part"):
        scored(copy, sealed=sealed)


def test_sealed_labels_do_not_take_part_and_that_is_said(folder):
    target = from_folder(folder, Wishes(**WISHES))
    some = target.table["label"].where(np.arange(40) % 4 > 0, "sealed")
    settings = ScoreSettings(classes={}, resamples=20, jobs=1)
    found = score_images(Mean(), replace(target, table=target.table.assign(label=some)), settings)
    assert of(found.scores, "sensitivity")["n_images"] == 30
    assert found.notes[0] == "10 images whose labels are sealed do not take part"
    with pytest.raises(ScoreError, match="labels are sealed; `leakfree unseal`"):
        score_images(Mean(), replace(target, table=target.table.assign(label="sealed")), settings)


def test_the_same_seed_gives_the_same_numbers_in_any_batch(folder, monkeypatch):
    first = scored(folder, seed=3)
    monkeypatch.setattr(module, "_BATCH", 7)
    again = scored(folder, seed=3, jobs=2)
    pd.testing.assert_frame_equal(first.framings, again.framings)
    pd.testing.assert_frame_equal(first.predictions, again.predictions)
    assert not first.scores.equals(scored(folder, seed=4).scores)


def test_the_report_has_every_number_that_was_printed(folder, tmp_path):
    found = scored(folder, wishes={"csv": (folder.parent / "labels.csv",)}, by=("site",))
    lines = "\n".join(text_of(found, Mean(), "<b>mine</b>"))
    write_report(found, Mean(), "<b>mine</b>", tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    for text in ("0.900 (", "zoom 1.3", "balanced accuracy", "south"):
        assert text in lines and text in page
    assert "<b>mine" not in page and "&lt;b&gt;mine" in page
    assert "http" not in page.replace("http-equiv", "")
    with (tmp_path / "report" / "framings.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 30
    assert json.loads((tmp_path / "report" / "about.json").read_text())["model"]["name"] == "mean"
    assert not (tmp_path / "report" / "coverage.csv").exists()


def test_the_command_scores_a_published_model(models, folder, tmp_path, capsys):
    call = ["score", str(models), "--data", str(folder), "--no-parts", "--resamples", "50", "--quiet"]
    assert main([*call, "--out", str(tmp_path / "report")]) == 0
    out = capsys.readouterr().out
    assert "drawn on images: 40 images" in out and "prediction sets hold the true class" in out
    assert (tmp_path / "report" / "coverage.csv").is_file()
    assert main([*call, "--class", "pneumonia"]) == 2
    assert "--class pneumonia: is no CLASS=LABEL,LABEL" in capsys.readouterr().err
    (folder / "NORMAL" / "broken.png").write_bytes(b"no image")
    assert main(call) == 2
    assert "NORMAL/broken.png" in capsys.readouterr().err
    assert main([*call, "--allow-problems"]) == 0
