"""Labels, parts and patients of own images, as an audit reads them and as the study calls them."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from leakfree.audit.target import as_target, open_target
from leakfree.data.patients import SUBJECT
from leakfree.data.sources import open_source
from leakfree.data.sources.listing import list_study, official_parts
from leakfree.data.study_file import OwnStudy, StudyFileError, one_task, write_study

LABELS = ("mild", "severe")


def study(**changes):
    content = {"name": "eyes", "title": "Eyes", "data": ".", "labels": LABELS, "tasks": one_task(LABELS)}
    return OwnStudy(**{**content, "patients": "none", **changes})


@pytest.fixture
def listed(write_folder):
    """A function that lists the images of a study: name, label, part and patient of each, and problems."""

    def make(files, csv="", place="labels.csv", **changes):
        root = write_folder({file: b"" for file in files})
        if csv:
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (root / place).write_text(csv, encoding="utf-8")
            changes = {"csv": {"file": place, **changes.pop("columns", {})}, **changes}
        opened = list_study(study(**changes), root)
        table = opened.understood.table
        columns = ["image_id", "label", "part", "patient"]
        return list(table[columns].itertuples(index=False, name=None)), opened.problems

    return make


def test_folders_are_read_as_an_audit_reads_them(listed):
    files = [
        f"{part}/{label}/patient{k}/{k}.png"
        for part in ("training", "testing")
        for label in LABELS
        for k in "12"
    ]
    found, problems = listed(files, parts={"train": "training", "test": "testing"}, patients="read")
    assert not problems and len(found) == 8
    assert ("testing/mild/patient1/1.png", "mild", "testing", "patient1") in found
    # Without parts of its own, and without patients, the study knows none.
    assert {(part, patient) for _, _, part, patient in listed(files)[0]} == {("", "")}


def test_labels_and_parts_of_the_study_count_wherever_they_are(listed):
    found, _ = listed(["clinic/p3/mild/a.png", "mild/p3/severe/a.png"])
    assert [label for _, label, _, _ in found] == ["mild", "severe"]


def test_named_parts_count_wherever_they_are(listed):
    files = ["first/mild/a.png", "second/mild/b.png"]
    found, _ = listed(files, parts={"train": "first", "test": "second"})
    assert [part for _, _, part, _ in found] == ["first", "second"]


@pytest.mark.parametrize("name", ["img/a.png", "img/a", "a.png", "a", "img\\a.png"])
def test_a_file_is_found_by_path_name_or_stem(listed, name):
    found, problems = listed(["img/a.png", "img/b.png"], f"path,label\n{name},mild\n")
    # An image without a row takes no part.
    assert [row[:2] for row in found] == [("img/a.png", "mild")] and not problems


def test_a_path_may_be_relative_to_the_csv(listed):
    found, _ = listed(["img/a.png", "other/a.png"], "path,label\na.png,mild\n", "img/labels.csv")
    assert found[0][0] == "img/a.png"


def test_rows_without_a_file_are_problems(listed):
    found, problems = listed(["img/a.png"], "path,label\nimg/a.png,mild\n,mild\ngone.png,mild\n")
    assert len(found) == 1
    assert [problem.file for problem in problems] == ["labels.csv, row 3", "gone.png"]


def test_columns_are_those_that_the_study_names(listed):
    table = "path,label,split,where,who\na,mild,train,test, P1 \n"
    columns = {"part": "where"}
    parts = {"train": "train", "test": "test"}
    found, _ = listed(["a.png"], table, columns=columns, patients={"column": "who"}, parts=parts)
    assert found == [("a.png", "mild", "test", "P1")]
    with pytest.raises(StudyFileError, match=r"labels\.csv: no column nobody; found path, label"):
        listed(["a.png"], table, patients={"column": "nobody"})


@pytest.mark.parametrize("text", ["\n", "path,label\na,b,c,d\n"])
def test_a_csv_that_is_none_gives_one_line(listed, text):
    with pytest.raises(StudyFileError, match=r"l\.csv: (is empty|cannot be read as a table)"):
        listed(["a.png"], text, "l.csv")


def test_what_is_not_understood_is_refused(listed, tmp_path):
    with pytest.raises(StudyFileError, match=r"--patient-pattern scan\(\\d\): matches none of 1 paths"):
        listed(["mild/a.png"], patients={"pattern": r"scan(\d)"})
    with pytest.raises(StudyFileError, match="no column names an image of this input"):
        listed(["mild/a.png"], "path,label\ngone,mild\n")
    with pytest.raises(StudyFileError, match="nowhere: no such file or folder"):
        list_study(study(data="nowhere"), tmp_path)


def test_the_audit_sees_patients_and_no_sealed_label(write_folder):
    files = ("test/mild/p2_b.png", "train/mild/p1_a.png", "train/spoilt/p3_c.png")
    root = write_folder({file: b"" for file in files})
    rules = {"patients": {"pattern": r"p(\d)_"}, "parts": {"train": "train", "test": "test"}}
    target = as_target(
        list_study(study(leave_out=["spoilt"], **rules), root), leave_out=["spoilt"], sealed="test"
    )
    table = target.table
    assert table["image_id"].tolist() == list(files[:2])
    assert table["label"].tolist() == ["sealed", "mild"]
    assert table[SUBJECT].tolist() == table["patient"].tolist() == ["2", "1"]
    assert [target.reader.ids, len(target.reader.files)] == [files[:2], 2]
    assert [label for _, label in target.reading.labels.examples] == ["sealed", "mild"]


def picture(seed):
    return np.random.default_rng(seed).integers(0, 256, (24, 20), dtype=np.uint8)


def write_npz(root):
    images = np.stack([picture(seed) for seed in range(12)])
    np.savez(root / "set.npz", train_images=images, train_labels=np.arange(12) % 2, test_images=images[:2],
             test_labels=np.arange(2))  # fmt: skip
    return "set.npz", ("0", "1")


def write_zip(root):
    with zipfile.ZipFile(root / "eyes.zip", "w") as archive:
        for k in range(12):
            stream = io.BytesIO()
            Image.fromarray(picture(k)).save(stream, "PNG")
            archive.writestr(f"{'test' if k > 9 else 'train'}/{LABELS[k % 2]}/{k}.png", stream.getvalue())
    return "eyes.zip", LABELS


def write_volumes(root):
    nibabel = pytest.importorskip("nibabel")
    for k in range(12):
        folder = root / ("test" if k > 9 else "train") / LABELS[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        volume = np.stack([picture(20 * k + s) for s in range(3)], -1).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / f"{k}.nii.gz")
    return ".", LABELS


@pytest.mark.parametrize("write", [write_npz, write_zip, write_volumes])
def test_a_study_opens_what_an_audit_opens(tmp_path, write):
    """The same images with the same bytes, labels and parts, in one order."""
    data, labels = write(tmp_path)
    about = study(data=data, labels=labels, tasks=one_task(labels), parts={"train": "train", "test": "test"})
    write_study(tmp_path / "study.yaml", about)
    (tmp_path / "study.yaml").rename(tmp_path.parent / f"{tmp_path.name}.yaml")
    about = about.model_copy(update={"data": f"{tmp_path.name}/{data}"})
    source = open_source(str(write_study(tmp_path.parent / f"{tmp_path.name}.yaml", about)))
    target = open_target(str(tmp_path / data))
    told = target.table.set_index("image_id")
    bytes_of = dict(zip(told.index, target.reader.read(range(len(told))), strict=True))
    images = list(source)
    assert len(images) == len(source) == len(told) >= 12
    for image in images:
        row = told.loc[image.file]
        assert (image.label, image.part, image.data) == (row["label"], row["part"], bytes_of[image.file])
    if data == "set.npz":  # by number, not by the letters of a number
        assert [image.file for image in images][-3:] == [f"train/{k}" for k in (9, 10, 11)]
    before = source.fingerprint()
    assert open_source(str(source.path)).fingerprint() == before


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
