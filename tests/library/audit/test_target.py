import os
from types import SimpleNamespace

import pandas as pd
import pytest

from deferred import deferred
from leakfree.audit import target as module
from leakfree.audit.target import StoreReader, TargetError, from_cohort, open_target, with_parts
from leakfree.data.formats import ItemReader
from leakfree.data.patients import patient_ids
from leakfree.data.raw import Problem

with deferred:
    from leakfree.split.manifest import Manifest, image_level, patient_level


def rows(target, *columns):
    return list(target.table[list(columns)].itertuples(index=False, name=None))


def write_csv(folder, text, name="films.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def put(folder, *names):
    """Write files: which images they are does not matter here."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"an image")


def save_manifest(path, **parts):
    ids = {part: tuple(images) for part, images in parts.items()}
    return Manifest("cut", "official", ids, None, None).save(path)


@pytest.mark.parametrize(
    ("file", "part", "label"),
    [
        ("train/NORMAL/a.jpeg", "train", "NORMAL"),
        ("NORMAL/train/a.jpeg", "train", "NORMAL"),
        ("chest_xray/train/NORMAL/a.jpeg", "train", "NORMAL"),
        ("study/NORMAL/Test/a.jpeg", "Test", "NORMAL"),
        ("train/NORMAL/deep/er/a.jpeg", "train", "NORMAL"),
        ("train/test/a.jpeg", "train", "test"),
        ("fold_3/sick/a.jpeg", "fold_3", "sick"),
        ("holdout/a.jpeg", "holdout", ""),
        ("train/person1_virus_2.jpeg", "train", "viral"),
        ("siteA/sick/a.jpeg", "", "siteA"),  # the first of two folders is no part for being that
        ("sick/a.jpeg", "", "sick"),
        ("a.jpeg", "", ""),
        ("BACTERIA-1-0001.jpeg", "", "bacterial"),
    ],
)
def test_part_and_class_of_a_path(write_folder, encode, file, part, label):
    assert rows(open_target(str(write_folder({file: encode()}))), "image_id", "part", "label") == [
        (file, part, label)
    ]


def test_a_folder_lists_what_is_named_like_an_image_and_tells_the_rest(write_folder, encode):
    root = write_folder(
        {"train/A/b.JPG": encode(), "train/A/a.png": b"", "train/A/Thumbs.db": b"x", "README": b""}
    )
    (root / "val").mkdir()
    (root / "notes").mkdir()
    found = open_target(str(root))
    assert rows(found, "image_id") == [("train/A/a.png",), ("train/A/b.JPG",)]
    assert found.declared == ("train", "val")
    told = "foreign: not the name of an image"
    reasons = {p.file: p.reason for p in found.problems}
    assert reasons == {"README": told, "train/A/Thumbs.db": f"{told}: left behind by the system"}
    assert all(module.is_foreign(problem) for problem in found.problems)
    assert found.name == "films"


def test_links_are_followed_and_loops_refused(write_folder, encode, tmp_path):
    root = write_folder({"train/A/a.png": encode()})
    outside = write_folder({"A/b.png": encode(seed=1)}, "outside")
    (root / "test").symlink_to(outside, target_is_directory=True)
    (root / "train/A/c.png").symlink_to(outside / "A/b.png")
    assert rows(open_target(str(root)), "image_id", "part") == [
        ("test/A/b.png", "test"), ("train/A/a.png", "train"), ("train/A/c.png", "train"),
    ]  # fmt: skip
    (outside / "A/back").symlink_to(root, target_is_directory=True)
    with pytest.raises(TargetError, match="leads back"):
        open_target(str(root))


def test_what_cannot_be_audited_is_one_line(tmp_path, write_folder):
    (tmp_path / "empty").mkdir()
    write_folder({"notes.txt": b"x"}, "text")
    (tmp_path / "films.xlsx").write_bytes(b"PK")
    (tmp_path / "films.doc").write_bytes(b"PK")
    for name, said in (
        ("empty", "no image"),
        ("text", "no image; there are 1 x .txt"),
        ("films.xlsx", "cannot be read as a table|needs the package openpyxl"),
        ("films.doc", "neither a folder, nor a CSV"),
        ("nowhere/at/all", "no such file or folder"),
    ):
        with pytest.raises(TargetError, match=said) as caught:
            open_target(str(tmp_path / name))
        assert name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(TargetError, match="no such file or folder"):
        open_target("phantoom")
    # An unset variable of a script must not become an audit of the folder that it runs in.
    with pytest.raises(TargetError, match="the name is empty"):
        open_target("")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_folder_that_may_not_be_read_is_refused(write_folder, encode):
    root = write_folder({"train/A/a.png": encode()})
    (root / "train").chmod(0)
    try:
        with pytest.raises(TargetError, match="train"):
            open_target(str(root))
    finally:
        (root / "train").chmod(0o755)


@pytest.mark.parametrize(
    "header",
    ["path,part,label,patient", "File,Split,Class,Subject_ID", "image_id, Usage ,diagnosis,patientid"],
)
def test_a_csv_with_other_names_of_columns(tmp_path, header):
    put(tmp_path, "sub/b.png", "a.png")
    path = write_csv(tmp_path, header + "\nsub/b.png,train,sick,p1\na.png, test ,well,\n")
    found = open_target(str(path))
    assert rows(found, "image_id", "part", "label", "patient") == [
        ("sub/b.png", "train", "sick", "p1"), ("a.png", "test", "well", ""),
    ]  # fmt: skip
    assert found.table["file"].tolist() == [str(tmp_path / "sub/b.png"), str(tmp_path / "a.png")]
    assert found.name == "films" and not found.problems


def test_a_csv_of_paths_alone_knows_nothing_else(tmp_path):
    put(tmp_path, "a.png", "a,b.png")
    found = open_target(str(write_csv(tmp_path, "path\na.png\n")))
    assert rows(found, "image_id", "part", "label", "patient") == [("a.png", "", "", "")]
    tabs = open_target(str(write_csv(tmp_path, "path\tpart\na,b.png\ttrain\n", "films.tsv")))
    assert rows(tabs, "image_id", "part") == [("a,b.png", "train")]


def test_values_stay_text_and_no_row_is_lost(tmp_path):
    put(tmp_path, "NA", "b.png")
    text = "path,part,patient\nNA,01,007\n,train,1\nb.png\nNA,02,null\nc.png,02,8\n"
    found = open_target(str(write_csv(tmp_path, text)))
    assert rows(found, "image_id", "part", "patient") == [
        ("NA", "01", "007"), ("NA", "02", ""), ("b.png", "", ""),
    ]  # fmt: skip
    assert found.problems == (
        Problem("films.csv, row 3", "unreadable: no path"),
        Problem("c.png", "missing: row 6 of films.csv names no image of this input"),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("part,label\ntrain,a\n", "no column names an image of this input; found part, label"),
        ("path,part\n", "has no row"),
        (b"path\n\xe4.png\n", "such as path 'ä.png'"),
        (b"\0\1\2\3" * 99, "is no text"),
        ("a.png,train\nb.png,test\n", "has no header"),
        # pandas would take the first column for an index, and the parts for paths.
        ("path,part\na.png,train,x\nb.png,test,y\n", "cannot be read as a table|needs the package openpyxl"),
        ("path,part\na.png,train\nb.png,test,y\n", "cannot be read as a table|needs the package openpyxl"),
        ('path,part\n"a.png,train\n', "cannot be read as a table|needs the package openpyxl"),
    ],
)
def test_a_csv_that_cannot_be_used_is_one_line(tmp_path, text, said):
    path = write_csv(tmp_path, text)
    with pytest.raises(TargetError, match=said) as caught:
        open_target(str(path))
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_pattern_names_patients(write_folder, encode):
    root = write_folder({f"train/A/{name}.png": encode() for name in ("sub-7_a", "sub-7_b", "other")})
    found = open_target(str(root), patient_pattern=r"sub-(\d+)")
    assert rows(found, "image_id", "patient") == [
        ("train/A/other.png", ""), ("train/A/sub-7_a.png", "7"), ("train/A/sub-7_b.png", "7"),
    ]  # fmt: skip
    for pattern, said in (("sub-\\d+", "needs a group"), ("sub-(", "patient-pattern sub-\\(: ")):
        with pytest.raises(TargetError, match=said):
            open_target(str(root), patient_pattern=pattern)
    unmatched = open_target(str(root), patient_pattern=r"(x)?sub")
    assert set(unmatched.table["patient"]) == {""}


def test_a_manifest_replaces_parts_and_what_it_names_must_be_there(write_folder, encode, tmp_path):
    files = [f"train/A/{name}.png" for name in "abc"]
    root = write_folder(
        {**dict.fromkeys(files, encode()), "train/A/list.txt": b"x", "train/A/plan.txt": b"x"}
    )
    path = save_manifest(
        tmp_path / "m.json", one=files[:1], two=[files[1], "train/A/gone.png", "train/A/list.txt"]
    )
    found = open_target(str(root), manifest=path)
    assert rows(found, "image_id", "part") == [(files[0], "one"), (files[1], "two")]
    assert [data == encode() for data in found.reader.read([0, 1])] == [True, True]
    assert found.declared == ("one", "two") and found.facts["outside the split"] == 1
    reasons = {problem.file: problem.reason.split(":")[0] for problem in found.problems}
    assert len(found.problems) == 3
    assert reasons == {
        "train/A/gone.png": "missing",
        "train/A/list.txt": "missing",
        "train/A/plan.txt": "foreign",
    }
    with pytest.raises(TargetError, match="no image"):
        open_target(str(root), manifest=save_manifest(tmp_path / "n.json", one=["x.png"]))


def test_a_file_that_is_broken_keeps_its_reason_under_a_manifest():
    columns = ["image_id", "part", "label", "patient", "person_num", "file"]
    table = pd.DataFrame([("a", "", "", "", pd.NA, "a")], columns=columns)
    reader = ItemReader(("a",), ("a",), ("",), ("",))
    given = module.Target("t", table, reader, (Problem("b", "corrupt: truncated"),))
    found = with_parts(given, {"a": "train", "b": "test"}, "split")
    assert found.problems == (Problem("b", "corrupt: truncated"),)


@pytest.mark.parametrize("content", ["{}", "[]", "not json", '{"parts": {"train": [1]}}'])
def test_what_is_no_manifest_is_one_line(write_folder, encode, tmp_path, content):
    root = write_folder({"train/A/a.png": encode()})
    path = tmp_path / "m.json"
    path.write_text(content)
    with pytest.raises(TargetError, match="not a split manifest"):
        open_target(str(root), manifest=path)
    with pytest.raises(TargetError, match="not a split manifest"):
        open_target(str(root), manifest=save_manifest(path, train=[1, "train/A/a.png"]))


def test_a_cohort_keeps_official_labels_sealed(phantom_cohort):
    found = open_target(str(phantom_cohort.path))
    test = (found.table["part"] == "test").to_numpy()
    assert test.any() and set(found.table["label"][test]) == {"sealed"}
    assert "sealed" not in set(found.table["label"][~test])
    assert found.checksum == phantom_cohort.checksum and found.name == phantom_cohort.name
    scope = patient_ids(found.table, "series")
    assert (scope == patient_ids(phantom_cohort.table, "series")).all()


def test_a_manifest_over_a_cohort_moves_parts_and_opens_no_label(phantom_cohort, tmp_path):
    ids = phantom_cohort.table["image_id"].to_numpy(dtype=object)
    path = image_level(ids, seed=1).save(tmp_path / "m.json")
    found = open_target(str(phantom_cohort.path), manifest=path)
    assert set(found.table["part"]) == {"train", "test"} and len(found.table) == len(ids)
    assert (found.table["label"].to_numpy() == phantom_cohort.table["label"].to_numpy()).all()
    some = patient_level(
        ids[::2], patient_ids(phantom_cohort.table, "series")[::2], phantom_cohort.table["label"][::2],
        seed=0, scope="series",
    )  # fmt: skip
    half = open_target(str(phantom_cohort.path), manifest=some.save(tmp_path / "n.json"))
    assert len(half.table) == len(ids[::2]) and half.facts["outside the split"] == len(ids) - len(ids[::2])
    # The rows that are left are read, not the first ones.
    assert list(half.reader.read(range(3))) == phantom_cohort_blobs(
        phantom_cohort, half.table["image_id"][:3]
    )


def phantom_cohort_blobs(cohort, ids):
    position = {image_id: row for row, image_id in enumerate(cohort.table["image_id"])}
    return [blob for _, blobs in cohort.iterate([position[i] for i in ids]) for blob in blobs]


def test_some_rows_of_a_cohort(phantom_cohort):
    found = from_cohort(phantom_cohort, [5, 2])
    assert found.table["image_id"].tolist() == phantom_cohort.table["image_id"].loc[[5, 2]].tolist()
    assert list(found.reader.read([1, 0])) == list(StoreReader(str(phantom_cohort.path), (2, 5)).read([0, 1]))


def test_a_cohort_without_parts_has_none(phantom_cohort):
    table = phantom_cohort.table.assign(part="unsplit")
    found = from_cohort(SimpleNamespace(**{**vars(phantom_cohort), "table": table}))
    assert set(found.table["part"]) == {""} and len(found.table) == len(table)


def test_a_reader_gives_bytes_or_the_reason(tmp_path, encode):
    (tmp_path / "a.png").write_bytes(encode())
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    names = (
        "a.png",
        "empty.png",
        "folder.png",
        "pipe.png",
        "dangling.png",
        "self.png",
        "no\0.png",
        "x" * 300,
    )
    none = ("",) * len(names)
    reader = ItemReader(names, tuple(str(tmp_path / name) for name in names), none, none)
    first, *others = reader.read(range(len(names)))
    assert first == encode()
    assert [problem.file for problem in others] == list(names[1:])
    assert [problem.reason.split(":")[0] for problem in others] == ["empty", "foreign", "foreign"] + 4 * [
        "unreadable"
    ]
    assert all(module.is_foreign(problem) is False for problem in others)
    assert reader.only([1, 0]).ids == ("empty.png", "a.png")
    assert list(reader.only([1, 0]).read([1])) == [encode()]
