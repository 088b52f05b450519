"""Labels, parts and patients of own images, from folders and from a CSV."""

from pathlib import Path

import pandas as pd
import pytest

from leakfree.audit.target import as_target
from leakfree.data.patients import SUBJECT
from leakfree.data.raw import SourceError
from leakfree.data.sources.listing import (
    Listed,
    csv_images,
    folder_images,
    images_below,
    official_parts,
    read_csv,
    with_pattern,
)
from leakfree.data.study_file import StudyFileError


def listed(*files, labels=(), parts=()):
    found = folder_images({file: Path(file) for file in files}, labels, parts)
    return [(image.label, image.part) for image in found]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("train/mild/a.png", ("mild", "train")),
        ("mild/train/a.png", ("mild", "train")),
        ("clinic/testing/mild/p3/a.png", ("mild", "testing")),
        ("mild/a.png", ("mild", "")),
        ("mild/p3/a.png", ("mild", "")),
        ("a.png", ("", "")),
    ],
)
def test_the_folder_next_to_a_part_is_the_label(file, expected):
    assert listed(file) == [expected]


def test_known_labels_count_wherever_they_stand():
    assert listed("clinic/p3/mild/a.png", labels={"mild"}) == [("mild", "")]
    assert listed("mild/p3/severe/a.png", labels={"mild", "severe"}) == [("severe", "")]


def test_named_parts_count_and_no_others():
    assert listed("first/mild/a.png", parts={"first"}) == [("mild", "first")]
    assert listed("train/mild/a.png", parts={"first"}, labels={"mild"}) == [("mild", "")]


def test_only_files_named_like_images_are_listed(write_folder):
    root = write_folder({"b/a.PNG": b"", "b/notes.txt": b"", "a/c.jpg": b""})
    assert list(images_below(root)) == ["a/c.jpg", "b/a.PNG"]
    with pytest.raises(SourceError, match="no such folder"):
        images_below(root / "nowhere")


@pytest.fixture
def csv(write_folder):
    """A function that lists images by the rows of a CSV."""

    def make(text, files=("img/a.png", "img/b.png"), place="labels.csv", **columns):
        root = write_folder({file: b"" for file in files})
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        named = {"path": "path", "label": "label"} | columns
        return csv_images(images_below(root), root, read_csv(path), path, named)

    return make


@pytest.mark.parametrize("name", ["img/a.png", "img/a", "a.png", "a", "img\\a.png"])
def test_a_file_is_found_by_path_name_or_stem(csv, name):
    found, problems = csv(f"path,label\n{name},mild\n")
    assert [(image.file, image.label) for image in found] == [("img/a.png", "mild")] and not problems


def test_a_path_may_be_relative_to_the_csv(csv):
    found, _ = csv("path,label\na.png,mild\n", files=("img/a.png", "other/a.png"), place="img/labels.csv")
    assert found[0].file == "img/a.png"


def test_a_name_that_two_files_have_is_none(csv):
    found, problems = csv("path,label\na.png,mild\n", files=("x/a.png", "y/a.png"))
    assert not found and problems[0].file == "a.png" and "row 2" in problems[0].reason


def test_rows_without_a_file_are_problems(csv):
    found, problems = csv("path,label\nimg/a.png,mild\n,mild\ngone.png,mild\n")
    assert len(found) == 1
    assert [problem.file for problem in problems] == ["labels.csv, row 3", "gone.png"]


def test_part_and_patient_come_from_their_columns(csv):
    found, _ = csv("path,label,fold,who\na,mild,test, P1 \n", part="fold", patient="who")
    assert (found[0].part, found[0].patient) == ("test", "P1")


def test_a_missing_column_is_named(csv):
    with pytest.raises(StudyFileError, match="no column who for the patient; found path, label"):
        csv("path,label\na,mild\n", patient="who")


@pytest.mark.parametrize("text", ["", "path,label\na,b,c,d\n"])
def test_a_csv_that_is_none_gives_one_line(tmp_path, text):
    (tmp_path / "l.csv").write_text(text, encoding="utf-8")
    with pytest.raises(StudyFileError, match=r"l\.csv: (is empty|cannot be read as a table)"):
        read_csv(tmp_path / "l.csv")


def test_a_pattern_names_patients_and_leaves_others_unnamed():
    images = [Listed(file, Path(file), "", "", "") for file in ("eye_01_left.png", "other.png")]
    assert [image.patient for image in with_pattern(images, r"eye_(\d+)")] == ["01", ""]


def test_the_audit_sees_patients_and_no_sealed_label():
    images = [
        Listed("test/b.png", Path("b"), "mild", "test", "2"),
        Listed("train/a.png", Path("a"), "mild", "train", "1"),
        Listed("train/c.png", Path("c"), "spoilt", "train", "3"),
    ]
    table = as_target("eyes", images, [], leave_out=["spoilt"], sealed="test").table
    assert table["image_id"].tolist() == ["test/b.png", "train/a.png"]
    assert table["label"].tolist() == ["sealed", "mild"]
    assert table[SUBJECT].tolist() == table["patient"].tolist() == ["2", "1"]
    assert isinstance(table, pd.DataFrame)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"training", "testing"}, {"train": "training", "test": "testing"}),
        ({"train", "valid", "test"}, {"train": "train", "val": "valid", "test": "test"}),
        ({"Train", "DEV"}, {"train": "Train", "val": "DEV"}),
        ({"train"}, {}),
        ({"test", "val"}, {}),
        ({"fold_1", "fold_2"}, {}),
    ],
)
def test_official_parts_need_a_training_part_and_another(parts, expected):
    assert official_parts(parts) == expected
