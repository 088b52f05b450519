"""Inputs as people have them: what is understood, what is declared, and that nothing else is cleared."""

import gzip
import json
import shutil
import zipfile

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deferred import deferred
from leakfree.cli import main
from leakfree.data.reading import tables
from leakfree.data.reading.folders import folder_labels, is_chest_xray, masks
from leakfree.data.reading.parts import folder_parts, one_spelling, part_name
from leakfree.data.reading.patient_ids import canonical, is_unknown, read_ids
from leakfree.data.reading.tables import Finder, TableError, label_set, read_list, read_table
from leakfree.data.reading.wishes import Wishes

with deferred:
    from leakfree.audit.target import TargetError, open_target

FAST = ("--skip", "shortcuts,shift,near_duplicates", "--quiet")


@pytest.fixture
def audit(tmp_path, capsys):
    """Run an audit: exit code, JSON content (None if there is none) and the last line of stderr."""

    def run(*arguments):
        path = tmp_path / "report.json"
        path.unlink(missing_ok=True)
        capsys.readouterr()
        code = main(["audit", *map(str, arguments), *FAST, "--json", str(path)])
        lines = capsys.readouterr().err.splitlines()
        assert not any("Traceback" in line for line in lines)
        told = [line for line in lines if line.startswith("leakfree")]
        return code, json.loads(path.read_text()) if path.exists() else None, (told or [""])[-1]

    return run


@pytest.fixture
def images(write_folder, encode):
    """A function that writes different images; the copies are those of the named file."""
    seeds = {}

    def write(names, copies=None, name="films"):
        files = {}
        for file in names:
            seeds[file] = seeds.get(file, len(seeds))
            files[file] = encode(seed=seeds[file], size=(80, 64), format="PNG")
        for copy, source in (copies or {}).items():
            files[copy] = files[source]
        return write_folder(files, name)

    return write


def status(report, check):
    return report["checks"][check]["status"]


# ---------------------------------------------------------------- parts

PARTS = [
    ("train", "train"), ("Training", "train"), ("TRAINING_SET", "train"), ("train2017", "train"),
    ("01_train", "train"),
    ("stage_2_train_images", "train"), ("TrainData", "train"), ("trainset", "train"),
    ("a. Training Set", "train"),
    ("train_val_list", "train"), ("train-00000-of-00001.parquet", "train"), ("val", "val"),
    ("val2017", "val"),
    ("valid_images", "val"), ("Validation", "val"), ("dev_set", "dev"), ("test_images", "test"),
    ("test1", "test"),
    ("Testing", "test"), ("b. Testing Set", "test"), ("holdout", "holdout"), ("hold-out", "holdout"),
    ("eval", "eval"),
    ("fold_3", "fold"), ("fold1", "fold"),
]  # fmt: skip
NONE = [
    "images_001", "p10", "part_1", "HAM10000_images_part_1", "full", "COVID", "Normal", "images",
    "train_test_split",
    "protest", "testis", "valve", "trainee", "devices", "siteA", "fold", "evaluator", "0",
]  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), PARTS)
def test_names_that_are_parts(name, kind):
    assert part_name(name).kind == kind and not part_name(name).rest


@pytest.mark.parametrize("name", NONE)
def test_names_that_are_none(name):
    assert part_name(name) is None


@pytest.mark.parametrize(
    ("paths", "parts"),
    [
        (["train/a", "test/a"], ["train", "test"]),
        (["data/training_set/a", "data/test_set/a"], ["training_set", "test_set"]),
        (["images/train/x", "images/val/x"], ["train", "val"]),
        (["COVID/images", "Normal/images"], ["", ""]),
        (["p10/p1", "p11/p2"], ["", ""]),
        (["full", "val"], ["", "val"]),
        # A container that is named like a part is none.
        (["test_data/train/a", "test_data/test/a"], ["train", "test"]),
        # A class is none, but beside another one with the same words it is.
        (["stress_test/a", "control/a"], ["", ""]),
        (["train_normal", "test_normal"], ["train_normal", "test_normal"]),
        (["Train/a", "train/b", "TRAIN_SET/c", "test/a"], ["train", "train", "train", "test"]),
        (["train_1", "train_2", "test"], ["train", "train", "test"]),
        (["test1", "test2", "train"], ["test1", "test2", "train"]),
    ],
)
def test_folders_that_are_parts(paths, parts):
    found = folder_parts([path.split("/") for path in paths])
    assert list(found.name) == parts


def test_folds_with_parts_inside_are_splits_of_their_own():
    found = folder_parts([["fold_1", "train"], ["fold_1", "test"], ["fold_2", "train"]])
    assert found.name == ("train", "test", "train") and found.fold == ("fold_1", "fold_1", "fold_2")


def test_one_part_in_several_spellings_is_one():
    assert one_spelling(["Train", "train ", "TRAIN", "test"])[0] == ["train", "train", "train", "test"]
    assert one_spelling(["Site A", "site a", ""])[0][0] == one_spelling(["Site A", "site a", ""])[0][1]


def test_labels_are_no_containers_and_no_patients():
    paths = [["train", label, f"patient{k}", "study1"] for k in range(4) for label in ("sick", "well")]
    assert set(folder_labels(paths, [0] * 8).label) == {"sick", "well"}
    paths = [["train", f"patient{k}", "study1"] for k in range(4)]
    assert set(folder_labels(paths, [0] * 4).label) == {""}
    paths = [[label, "images"] for label in ("COVID", "Normal")]
    assert folder_labels(paths, [-1, -1]).label == ("COVID", "Normal")


def test_masks_are_no_images_of_their_own():
    files = [
        "benign/benign (1).png",
        "benign/benign (1)_mask.png",
        "benign/benign (1)_mask_1.png",
        "a/masks/x.png",
    ]
    assert masks(files) == set(files[1:])
    assert masks(["masks/x.png"]) == set()
    assert masks(["a/x_mask.png", "a/y.png"]) == set()


# ---------------------------------------------------------------- patients


@pytest.mark.parametrize(
    "word",
    [
        "",
        "nan",
        "NaN",
        "None",
        "null",
        "N/A",
        "<NA>",
        "unknown",
        "Unknown ",
        "-",
        "--",
        "?",
        "-1",
        "-1.0",
        "-999",
    ],
)
def test_words_for_unknown(word):
    assert is_unknown(word)


@pytest.mark.parametrize("word", ["0", "7", "P-1", "Nana", "no7", "A", "anna", "1-1"])
def test_ids_that_are_some(word):
    assert not is_unknown(word)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("12", "12.0"),
        ("007", "7"),
        ("P07", "p07"),
        ("P07", " P 7 "),
        ("TCGA-01", "TCGA_01"),
        ("１２", "12"),
        ("a-0-1", "A_0_01"),
    ],
)
def test_one_patient_in_two_spellings(one, two):
    assert canonical(one) == canonical(two)
    assert len(set(read_ids([one, two, "other"], ["train", "test", "test"]).patient)) == 2


@pytest.mark.parametrize(
    ("one", "two"), [("1-11", "11-1"), ("1.5", "15"), ("A1", "B1"), ("12", "120"), ("a1b2", "a12b")]
)
def test_other_patients_stay_others(one, two):
    assert canonical(one) != canonical(two)


def test_what_one_part_writes_in_two_ways_is_left_apart_and_named():
    ids = read_ids(["aB", "Ab", "x"], ["train", "train", "test"])
    assert len(set(ids.patient)) == 3 and ids.doubtful == (("Ab", "aB"),)


def test_names_of_chest_xray_count_for_chest_xray_only():
    assert is_chest_xray(["train/NORMAL/IM-0115-0001.jpeg"], ["NORMAL"])
    assert is_chest_xray(["person1_virus_2.jpeg"], [])
    assert not is_chest_xray(
        ["train/normal/p1/IM-0001-0001.jpg", "train/normal/p2/IM-0001-0001.jpg"], ["normal"]
    )
    assert not is_chest_xray(
        ["train/NORMAL/NORMAL-53018-1.jpeg", "train/CNV/CNV-1-1.jpeg"], ["NORMAL", "CNV"]
    )


# ---------------------------------------------------------------- tables

ROWS = [("data/train/im 0.png", "train", "a", "P0"), ("data/test/im 1.png", "test", "b", "P1")]
HEAD = ("path", "part", "label", "patient")


def text(separator=",", rows=ROWS, head=HEAD):
    return "\n".join(separator.join(row) for row in [head, *rows]) + "\n"


def changed(change):
    return [(change(row[0]), *row[1:]) for row in ROWS]


DIALECTS = {
    "plain.csv": text().encode(), "UPPER.CSV": text().encode(), "bom.csv": ("\ufeff" + text()).encode(),
    "semicolon.csv": text(";").encode(), "tabs.csv": text("\t").encode(), "tabs.tsv": text("\t").encode(),
    "pipes.txt": text("|").encode(), "utf16.csv": text("\t").encode("utf-16"),
    "utf16be.csv": text().encode("utf-16-be"),
    "cp1252.csv": text(rows=[(*row[:2], "groß", row[3]) for row in ROWS]).encode("cp1252"),
    "crlf.csv": text().replace("\n", "\r\n").encode(), "remark.csv": ("# by hand\n" + text()).encode(),
    "packed.csv.gz": gzip.compress(text().encode()), "trailing.csv": text().replace("\n", ",\n").encode(),


    "index.csv": "\n".join(f"{k},{row}" for k, row in zip("k01", text().splitlines(), strict=True)).encode(),
    "lines.jsonl": "\n".join(json.dumps(dict(zip(HEAD, row, strict=True))) for row in ROWS).encode(),
    "backslash.csv": text(rows=changed(lambda name: name.replace("/", "\\"))).encode(),
    "elsewhere.csv": text(rows=changed(lambda name: f"/home/anna/{name}")).encode(),
    "windows.csv": text(rows=changed(lambda name: "C:\\anna\\" + name.replace("/", "\\"))).encode(),
    "dot.csv": text(rows=changed(lambda name: f"./{name}")).encode(),
    "ending.csv": text(rows=changed(lambda name: name.replace(".png", ".PNG"))).encode(),
    "bare.csv": text(rows=changed(lambda name: name.removesuffix(".png"))).encode(),
    "name.csv": text(rows=changed(lambda name: name.rsplit("/", 1)[1])).encode(),
    "is_train.csv": text(head=("img_path", "is_train", "category", "pid"),
                         rows=[(r[0], str(r[1] == "train"), *r[2:]) for r in ROWS]).encode(),
    "two_names.csv": text(head=("image_id", "image_path", "split", "target", "subject_id"),
                          rows=[(str(k), *row) for k, row in enumerate(ROWS)]).encode(),
    "fold_too.csv": text(head=("path", "fold", "split", "dx", "Case"),
                         rows=[(r[0], str(1 - k), *r[1:]) for k, r in enumerate(ROWS)]).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", DIALECTS)
def test_a_table_is_read_however_it_was_saved(images, name):
    root = images([row[0] for row in ROWS])
    (root / name).write_bytes(DIALECTS[name])
    found = open_target(str(root / name)).table
    assert found["part"].tolist() == ["train", "test"] and found["patient"].tolist() == ["P0", "P1"]
    assert len(set(found["label"])) == (1 if name == "cp1252.csv" else 2) and "" not in set(found["label"])


@pytest.mark.parametrize("kind", ["xlsx", "parquet"])
def test_excel_and_parquet(images, kind):
    pd = pytest.importorskip("pandas")
    pytest.importorskip({"xlsx": "openpyxl", "parquet": "pyarrow"}[kind])
    root = images([row[0] for row in ROWS])
    frame = pd.DataFrame(ROWS, columns=HEAD).assign(patient=[7, 8])
    write = frame.to_excel if kind == "xlsx" else frame.to_parquet
    write(root / f"list.{kind}", index=False)
    assert open_target(str(root / f"list.{kind}")).table["patient"].tolist() == ["7", "8"]


DAMAGED = gzip.compress(b"a,b\n" * 99)[:10] + b"\xff" * 40


@pytest.mark.parametrize("read", [read_table, read_list])
def test_a_packed_table_that_is_damaged_or_a_bomb_is_one_line(tmp_path, monkeypatch, read):
    (tmp_path / "list.csv.gz").write_bytes(DAMAGED)
    with pytest.raises(TableError, match=r"list\.csv\.gz: cannot be read: "):
        read(tmp_path / "list.csv.gz")
    monkeypatch.setattr(tables, "MOST_BYTES", 1000)
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(b"a,b\n" * 10_000))
    here = {read_table: lambda path: tables.cells(path, ()), read_list: tables.lines}[read]
    with pytest.raises(TableError, match=r"bomb\.csv\.gz: has more than 1,000 bytes"):
        here(str(tmp_path / "bomb.csv.gz"))  # in this process


def test_an_excel_file_that_is_a_bomb_is_one_line(tmp_path):
    pytest.importorskip("openpyxl")
    with zipfile.ZipFile(tmp_path / "bomb.xlsx", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("xl/worksheets/sheet1.xml", bytes(tables.MOST_BYTES // 4 + 1))
    with pytest.raises(TableError, match=r"bomb\.xlsx: has more than [\d,]+ bytes when it is unpacked"):
        read_table(tmp_path / "bomb.xlsx")


def test_a_table_without_a_header_needs_the_names_of_its_columns(images):
    root = images([row[0] for row in ROWS])
    (root / "list.csv").write_text("\n".join(",".join(row) for row in ROWS))
    with pytest.raises(TargetError, match=r"has no header.*--columns"):
        open_target(str(root / "list.csv"))
    found = open_target(str(root / "list.csv"), wishes=Wishes(columns=HEAD))
    assert found.table["part"].tolist() == ["train", "test"]
    (root / "spaces.txt").write_text("101 a.png well\n102 b.png sick\n")
    assert read_table(root / "spaces.txt", ("patient", "file", "class"))["class"].tolist() == ["well", "sick"]
    with pytest.raises(TableError, match="--columns names 2"):
        read_table(root / "list.csv", ("a", "b"))


def test_a_name_never_finds_another_image():
    finder = Finder(["train/a.png", "test/a.png", "test/b.png", "study7/x/1.png", "study7/x/2.png"])
    assert finder.find("a.png") == [] and finder.find("b") == ["test/b.png"]
    assert finder.find("train/b.png") == []  # its folder is here, and does not hold it
    assert finder.find("D:\\my\\test\\a.png") == ["test/a.png"]
    assert finder.find("study7") == ["study7/x/1.png", "study7/x/2.png"] and finder.find("nothing") == []


def test_labels_of_several_findings_are_a_set():
    assert label_set("b|a") == label_set("a;b") == label_set("['b', 'a']") == "a|b"
    assert label_set("carcinoma, ductal") == "carcinoma, ductal"


# ---------------------------------------------------------------- the audit says it, and clears nothing else


def split(n=4):
    return [
        f"{part}/{label}/{part}{k}.png"
        for part in ("train", "test")
        for label in ("a", "b")
        for k in range(n)
    ]


LAYOUTS = {
    "coco": [f"{part}2017/{k:012d}.png" for part, k in (("train", 1), ("train", 2), ("val", 3), ("val", 4))],
    "aptos": ["train_images/a.png", "train_images/b.png", "test_images/c.png", "test_images/d.png"],
    "sets": ["data/training_set/x/a.png", "data/training_set/y/b.png", "data/test_set/x/c.png"],
    "yolo": ["images/train/a.png", "images/train/b.png", "images/val/c.png"],
    "roboflow": ["train/images/a.png", "valid/images/b.png", "test/images/c.png"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_that_is_understood_passes_when_clean_and_fails_when_not(images, audit, layout):
    files = LAYOUTS[layout]
    code, report, _ = audit(images(files))
    assert code == 0 and len(report["images"]) >= 2 and status(report, "exact_duplicates") == "PASS"
    copy = files[-1].replace(".png", "_copy.png")
    assert audit(images(files, {copy: files[0]}, "leaky"))[0] == 1


UNSPLIT = {
    "classes": ["COVID/images/a.png", "COVID/images/b.png", "Normal/images/c.png"],
    "patients": ["p10/p10000032/s1/a.png", "p11/p11000033/s2/b.png", "p12/p12000034/s3/c.png"],
    "full": ["full/a.png", "full/b.png", "val/c.png"],
    "class, patient": ["benign/patient_1/a.png", "benign/patient_2/b.png", "malignant/patient_1/c.png"],
    "chunks": ["images_001/images/a.png", "images_002/images/b.png"],
    "part_1": ["HAM10000_images_part_1/a.png", "HAM10000_images_part_2/b.png"],
    "flat": ["a.png", "b.png", "c.png"],
}


@pytest.mark.parametrize("layout", UNSPLIT)
def test_what_has_no_part_is_not_cleared_until_that_is_said(images, audit, layout):
    root = images(UNSPLIT[layout])
    code, report, told = audit(root)
    assert code == 2 and "no part" in told and "--no-parts" in told
    assert "PASS" not in {check["status"] for check in report["checks"].values()}
    code, report, _ = audit(root, "--no-parts")
    assert code == 0 and status(report, "exact_duplicates") == "PASS"
    assert report["reading"]["parts"]["images"] == 0


def test_parts_are_declared_by_pattern_list_or_targets(images, audit):
    files = ["full/a.png", "full/b.png", "val/c.png"]
    root = images(files, {"val/a_copy.png": "full/a.png"})
    assert audit(root, "--part-pattern", "^(full|val)/")[0] == 1
    (root / "full.txt").write_text("a\nb.png\n")
    (root / "held.txt").write_text("val/c.png\nval/a_copy.png\n")
    code, report, _ = audit(
        root, "--part-list", f"train={root}/full.txt", "--part-list", f"test={root}/held.txt"
    )
    assert code == 1 and report["images"] == {"test": 2, "train": 2}
    code, report, _ = audit(root / "full", root / "val")
    assert code == 1 and report["images"] == {"full": 2, "val": 2}
    assert audit(root, "--part-list", "full.txt")[0] == 2


def test_an_image_in_two_lists_is_in_two_parts(images, audit):
    root = images(["a.png", "b.png", "c.png"])
    for part, names in (("train", "a.png\nb.png"), ("test", "b.png\nc.png")):
        (root / f"{part}.txt").write_text(names)
    code, report, _ = audit(
        root, "--part-list", f"train={root}/train.txt", "--part-list", f"test={root}/test.txt"
    )
    assert code == 1 and status(report, "same_file") == "FAIL"


@pytest.mark.parametrize(
    ("pattern", "told"),
    [("patient(\\d+)", "matches none of"), ("train(\\d)", "matches only"), ("SUBJ(\\d+)", "matches none of")],
)
def test_a_pattern_that_matches_nothing_or_some_is_not_cleared(images, audit, pattern, told):
    # The names would make a guess, which must not take the place of what was declared.
    files = [name.replace("/t", "/subj5_t") for name in split()]
    code, report, line = audit(images(files), "--patient-pattern", pattern)
    assert code == 2 and told in line and report is not None
    assert "PASS" not in {check["status"] for check in report["checks"].values()}


def test_a_pattern_may_begin_with_a_dash(images, audit):
    root = images(["train/x-p23-1.png", "test/x-p23-2.png", "train/x-p4-3.png", "test/x-p5-4.png"])
    code, report, _ = audit(root, "--patient-pattern", "-p(\\d+)-")
    assert code == 1 and report["checks"]["patients"]["count"] == 1


def test_a_folder_with_a_table_joins_labels_parts_and_patients(images, audit):
    names = [f"images/{k:08d}_000.png" for k in range(6)]
    root = images(names)
    rows = [f"{k:08d}_000.png,{'No Finding' if k % 2 else 'B|A'},{k // 2 if k else 2}," for k in range(6)]
    (root / "Data_Entry.csv").write_text("\n".join(["Image Index,Finding Labels,Patient ID,", *rows]))
    for part, some in (("train_val", names[:3]), ("test", names[3:])):
        (root / f"{part}_list.txt").write_text("\n".join(name.split("/")[1] for name in some))
    _, report, told = audit(root)
    assert (
        f"--part-list train={root}/train_val_list.txt" in told
        and f"--part-list test={root}/test_list.txt" in told
    )
    lists = ("--part-list", f"train={root}/train_val_list.txt", "--part-list", f"test={root}/test_list.txt")
    code, report, _ = audit(root, "--csv", root / "Data_Entry.csv", *lists)
    assert code == 1 and report["checks"]["patients"]["count"] == 2
    assert report["reading"]["labels"]["values"] == {"A|B": 3, "No Finding": 3}
    assert report["reading"]["patients"]["from"] == "column Patient ID of Data_Entry.csv"


def test_one_table_a_part(images, audit):
    root = images(["x/a.png", "x/b.png", "x/c.png"])
    (root / "train.csv").write_text("image_name,patient_id\na,P1\nb,P2\n")
    (root / "test.csv").write_text("image_name,patient_id\nc,p01\n")
    code, report, _ = audit(root, "--csv", root / "train.csv", "--csv", root / "test.csv")
    assert code == 1 and report["images"] == {"test": 1, "train": 2}
    assert any("P1 = p01" in note for note in report["reading"]["notes"])


def test_rows_without_a_file_and_files_without_a_row_are_told(images, audit):
    root = images(split())
    (root / "labels.csv").write_text("file,label\ntrain/a/train0.png,x\ngone.png,y\n")
    code, report, _ = audit(root, "--csv", root / "labels.csv")
    assert code == 2 and report["problems"][-1]["file"] in ("gone.png", "labels.csv")
    assert {p["file"]: p["reason"].split(":")[0] for p in report["problems"]}["gone.png"] == "missing"
    assert any("15 images have no row" in note for note in report["reading"]["notes"])


def test_a_table_that_fits_nothing_is_not_cleared(images, audit):
    root = images(split())
    (root / "other.csv").write_text("file,label\nnone1.png,x\nnone2.png,y\n")
    code, _report, told = audit(root, "--csv", root / "other.csv", "--allow-problems")
    assert code == 2 and "no column names an image" in told
    assert audit(root, "--csv", root / "other.csv", "--label-column", "grade")[0] == 2


def test_unknown_patients_are_nobody_s(images, audit):
    root = images(split())
    for word in ("nan", "None", "unknown", "-1"):
        rows = [f"{name},{word if k % 2 else f'P{k}'}" for k, name in enumerate(split())]
        (root / "labels.csv").write_text("\n".join(["file,patient", *rows]))
        code, report, _ = audit(root, "--csv", root / "labels.csv")
        assert code == 0 and status(report, "patients") == "INCONCLUSIVE"
        assert report["reading"]["patients"]["images"] == 8


def test_rows_that_annotate_an_image_again_are_one_image(images, audit):
    root = images(["train/a.png", "test/b.png"])
    (root / "boxes.csv").write_text("patientId,x,Target\na,1,mass\na,2,nodule\nb,1,mass\n")
    code, report, _ = audit(root, "--csv", root / "boxes.csv")
    assert code == 0 and report["reading"]["labels"]["values"] == {"mass|nodule": 1, "mass": 1}


def test_folds_of_the_same_images_are_looked_at_one_by_one(images, audit):
    names = [f"p{k}.png" for k in range(6)]
    root = images(names)

    def write(patients):
        rows = [
            f"{fold},{'test' if k % 2 == fold else 'train'},{name},{patients[k]}"
            for fold in (0, 1) for k, name in enumerate(names)
        ]  # fmt: skip
        (root / "Folds.csv").write_text("\n".join(["fold,grp,filename,case", *rows]))

    write([0, 1, 0, 1, 0, 1])
    code, report, _ = audit(root / "Folds.csv")
    assert code == 0 and report["reading"]["alternatives"] == {"0": "no leak found", "1": "no leak found"}
    write([0, 0, 2, 3, 4, 5])
    code, report, _ = audit(root / "Folds.csv")
    assert code == 1 and "patients" in report["reading"]["alternatives"]["1"]


def test_scopes_that_the_table_offers_stand_side_by_side(images, audit):
    root = images(split(2))
    rows = [f"{name},P{k},L{k // 2}" for k, name in enumerate(split(2))]
    (root / "labels.csv").write_text("\n".join(["file,patient_id,lesion_id", *rows]))
    _, report, _ = audit(root, "--csv", root / "labels.csv", "--group-column", "lesion_id")
    assert report["reading"]["scopes"] == {"lesion_id": 4} and "lesion_id" in report["checks"]["patients"]
    options = ("--group-column", "lesion_id", "--scope", "lesion_id")
    _code, report, _ = audit(root, "--csv", root / "labels.csv", *options)
    assert report["checks"]["patients"]["declared_scope"] == "lesion_id"


def test_names_of_osirix_make_no_patient(images, audit):
    files = [
        f"{part}/{label}/c{k}{part}{label}/IM-0001-0001.png"
        for part in ("train", "test")
        for label in ("normal", "ill")
        for k in (1, 2)
    ]
    code, report, _ = audit(images(files))
    assert code == 0 and status(report, "patients") == "NOT RUN"


def test_metadata_beside_images_is_used(images, audit):
    root = images(["train/0.png", "train/1.png", "test/2.png", "test/3.png"])
    (root / "train/metadata.csv").write_text("file_name,label,patient_id\n0.png,a,P7\n1.png,b,P8\n")
    (root / "test/metadata.csv").write_text("file_name,label,patient_id\n2.png,a,P7\n3.png,b,P9\n")
    code, report, _ = audit(root)
    assert (
        code == 1
        and report["checks"]["patients"]["count"] == 1
        and report["images"] == {"test": 2, "train": 2}
    )


def test_files_of_macos_are_no_images(images, audit):
    root = images(split())
    (root / "__MACOSX/train/a").mkdir(parents=True)
    for place in (root / "__MACOSX/train/a/._train0.png", root / "train/a/._train0.png"):
        place.write_bytes(b"\x00\x05\x16\x07" + bytes(80))
    code, report, _ = audit(root)
    assert code == 0 and report["images"] == {"test": 8, "train": 8}
    assert report["reading"]["left_out"] == {"files of the system": 2}


def test_linked_folders_beside_the_parts(images, audit):
    root = images(split())
    shutil.copytree(root / "train", root / "all", copy_function=__import__("os").link)
    code, report, told = audit(root)
    assert code == 2 and "8 of 24 images have no part" in told
    assert (
        status(report, "same_file") == "WARN"
        and "8 files are in a part and in none" in report["checks"]["same_file"]["summary"]
    )


def test_the_reading_is_printed_before_the_checks(images, capsys):
    root = images(split())
    assert main(["audit", str(root), "--skip", "shortcuts,shift,near_duplicates"]) == 0
    out = capsys.readouterr().out
    assert out.index("How the input was read") < out.index("same_file")
    assert "folders named like parts" in out and "folder 1 below the part" in out


# ---------------------------------------------------------------- any layout at all

words = st.sampled_from([
    "train", "Train", "test", "val", "full", "images", "COVID", "p10", "fold_1", "fold_2", "data",
    "normal", "patient1",
    "train2017", "stress_test", "x", "masks", "part_1", "",
])  # fmt: skip
ids = st.sampled_from(["1", "01", "1.0", "P1", "p1", "nan", "", "unknown", "-1", "2", "a b", "ä"])
heads = st.permutations(["path", "split", "label", "patient"])


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(words, words, words), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 9), words, ids), max_size=8),
    heads, st.sampled_from([",", ";", "\t"]), st.booleans(),
)  # fmt: skip
def test_no_part_is_ever_read_by_chance(tmp_path_factory, ways, rows, head, separator, with_table):
    root = tmp_path_factory.mktemp("any")
    names = []
    for k, way in enumerate(ways):
        name = "/".join([*(word for word in way if word), f"i{k}.png"])
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
        names.append(name)
    wishes = Wishes()
    if with_table:
        lines = [separator.join(head)]
        for k, part, patient in rows:
            row = {"path": names[k % len(names)], "split": part, "label": "a", "patient": patient}
            lines.append(separator.join(row[column] for column in head))
        (root / "list.csv").write_text("\n".join(lines))
        wishes = Wishes(csv=(root / "list.csv",))
    try:
        found = open_target(str(root), wishes=wishes)
    except TargetError as error:
        assert "\n" not in str(error)
        return
    table, reading = found.table, found.reading
    assert len(table) >= len(names) - reading.left_out.get("masks", 0) or found.alternatives
    without = int((table["part"] == "").sum())
    assert bool(without) == bool(reading.unclear or reading.partial or 0) or reading.unclear
    # What differs in spelling only is never two parts.
    parts = set(table["part"]) - {""}
    assert len({part.strip().casefold() for part in parts}) == len(parts)
    assert not any(is_unknown(patient) for patient in set(table["patient"]) - {""})


def test_a_column_of_folders_names_no_images(images):
    """The value ``train`` is a folder too, and finds more than the paths do where one of them is gone."""
    root = images(["films/train/a.png", "films/test/b.png"])
    (root / "list.csv").write_text(
        "filename,Split\nfilms/train/a.png,train\nfilms/test/b.png,test\ngone.png,train\n"
    )
    found = open_target(str(root / "list.csv"))
    assert found.table["part"].tolist() == ["train", "test"] and [p.file for p in found.problems] == [
        "gone.png"
    ]


def test_labels_of_a_table_are_not_filled_up_from_names(images):
    root = images(["person1_virus_1.png", "person2_virus_1.png"])
    (root / "t.csv").write_text(
        "file,label,part\nperson1_virus_1.png,sick,train\nperson2_virus_1.png,,test\n"
    )
    assert open_target(str(root / "t.csv")).table["label"].tolist() == ["sick", ""]


def test_copies_that_join_patients_are_named(images, audit):
    root = images(["x/a.png", "x/b.png", "y/c.png"], {"y/a_again.png": "x/a.png"})
    rows = ["x/a.png,CHVI,s", "x/b.png,OTHER,t", "y/c.png,THIRD,s", "y/a_again.png,CHCO,s"]
    (root / "labels.csv").write_text("\n".join(["file,patient,label", *rows]))
    _, report, _ = audit(root, "--csv", root / "labels.csv", "--no-parts")
    assert report["checks"]["linked_groups"]["joined_patients"] == [["CHCO", "CHVI"]]
    assert "CHCO and CHVI" in report["checks"]["linked_groups"]["summary"]


def people(root, head, rows):
    """Write a table of four images of training and two of test, and what it says of each."""
    names = [f"{k},{'test' if k > 3 else 'train'}" for k in range(6)]
    lines = [f"{name},{row}" for name, row in zip(names, rows, strict=True)]
    (root / "t.csv").write_text("\n".join([f"image,split,{head}", *lines]))
    return root / "t.csv"


def test_tables_that_contradict_each_other_on_patients_are_not_understood(audit, images):
    root = images([f"{k}.png" for k in range(6)])
    table = people(root, "patient_id", ["P01", "P2", "P3", "nan", "P5", "P6"])
    more = root / "more.csv"
    more.write_text("image,patient_id\n0,p1\n1,P2\n3,P4\n4,P5\n")  # another spelling, and what is lacking
    code, report, _ = audit(root, "--csv", table, "--csv", more)
    assert (code, report["reading"]["unclear"]) == (0, [])
    assert report["reading"]["patients"]["images"] == 6
    more.write_text("image,patient_id\n0,X\n5,X\n2,P3\n")
    said = "2 images have another patient in a table before it, such as 0.png"
    code, _, told = audit(root, "--csv", table, "--csv", more)
    assert code == 2 and f"more.csv: {said} (P01, here X)" in told
    code, report, _ = audit(root, "--csv", more, "--csv", table)
    assert code and said in report["reading"]["unclear"][0]


def test_tables_that_contradict_each_other_on_labels_are_told(audit, images):
    root = images([f"{k}.png" for k in range(6)])
    table = people(root, "label", ["ill"] * 3 + ["well"] * 3)
    (root / "more.csv").write_text("image,label\n0,well\n1,ill\n")
    code, report, _ = audit(root, "--csv", table, "--csv", root / "more.csv")
    note = "more.csv: 1 images have another label in a table before it, which counts, such as 0.png (ill, "
    assert code == 0 and any(told.startswith(note) for told in report["reading"]["notes"])


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([",S1", "P2,S2", ",S3", ",S4", ",S1", ",S6"], id="the first column is nearly empty"),
        pytest.param(["P1,S1", "P2,S2", "P3,S3", "P4,S4", "P1,", "P6,"], id="the second column is short"),
    ],
)
def test_a_patient_of_any_column_of_patients_is_found_across_parts(audit, images, rows):
    root = images([f"{k}.png" for k in range(6)])
    code, report, _ = audit(root, "--csv", people(root, "PatientID,subject_id", rows))
    assert (code, report["checks"]["patients"]["status"]) == (1, "FAIL")
    apart = ["P1,S1", "P2,S2", "P3,S3", "P4,S4", "P5,S1", "P6,S6"]
    code, _, told = audit(root, "--csv", people(root, "PatientID,subject_id", apart))
    assert (
        code == 2 and "subject_id joins images that the other one keeps apart: give --patient-column" in told
    )
    kept = [row.replace("S1", f"S{k + 20}").replace("P1", f"P{k + 20}") for k, row in enumerate(rows)]
    assert audit(root, "--csv", people(root, "PatientID,subject_id", kept))[0] == 0


@pytest.mark.parametrize("head", ["name,split,split", "name,split, split", "name;split;split\t"])
def test_a_column_that_stands_there_twice_is_asked_for(audit, images, head):
    root = images([f"{k}.png" for k in range(6)], {"4.png": "0.png"})
    rows = [f"{k},train,{'test' if k in (0, 5) else 'train'}" for k in range(5)]
    mark = head[4]
    (root / "t.csv").write_text(
        "\n".join([head, *(row.replace(",", mark) for row in [*rows, "5,test,test"])])
    )
    code, report, told = audit(root, "--csv", root / "t.csv")
    assert code == 2 and "has the column split twice, and they differ: give --part-column split for" in told
    assert audit(root, "--csv", root / "t.csv", "--part-column", "split")[0] == 0
    assert audit(root, "--csv", root / "t.csv", "--part-column", "split.1")[0] == 1
    code, report, _ = audit(root, "--csv", root / "t.csv", "--no-parts")
    assert report["checks"]["exact_duplicates"]["count"] == 1


def test_a_part_inside_a_part_is_no_label():
    paths = [
        ["Training_Set", "Training"],
        ["Test_Set", "Test"],
        ["Test_Set", "Test"],
        ["Training_Set", "Training"],
    ]
    assert set(folder_labels(paths, [0] * 4).label) == {""}
    assert set(folder_labels([[*path, "ab"[k % 2]] for k, path in enumerate(paths)], [0] * 4).label) == {
        "a",
        "b",
    }


def test_a_column_of_ones_is_no_class():
    table = pd.DataFrame({"a": ["1", "0"], "b": ["0", "1"], "visit": ["1", "1"]})
    assert tables.one_hot(table, ()) == ["a", "b"]
    assert tables.one_hot(table[["visit", "a"]], ()) == []
