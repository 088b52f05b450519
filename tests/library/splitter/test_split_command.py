"""A leak is found, the command of the advice is pasted, and what it wrote is clean."""

import json
import shlex

import pandas as pd
import pytest

from deferred import deferred
from leakfree.cli import main

with deferred:
    from leakfree.split.manifest import Manifest

SKIP = ("--skip", "shortcuts,shift", "--quiet")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def folder(here, write_folder, encode):
    """24 images of 12 patients, two each, all of a patient in one part."""
    files = {}
    for patient in range(12):
        part = "test" if patient % 4 == 0 else "train"
        for image in range(2):
            label = "NORMAL" if patient % 3 else "PNEUMONIA"
            files[f"{part}/{label}/person{patient}_virus_{image}.jpeg"] = encode(
                seed=2 * patient + image, size=(80, 64)
            )
    return write_folder(files)


def audit(target, *options):
    code = main(["audit", str(target), *SKIP, "--json", "audit.json", *options])
    with open("audit.json", encoding="utf-8") as stream:
        return code, json.load(stream)["checks"]


def pasted(advice, *more):
    command = shlex.split(advice.partition(" Run: ")[2])
    assert command[:2] == ["leakfree", "split"]
    return main([*command[1:], *SKIP, "--fast", *more])


def plant(folder, kind, encode):
    """Plant a leak; return the check that tells and the options that say how to read the folder."""
    one = folder / "train/NORMAL/person1_virus_0.jpeg"
    if kind == "copies":
        (folder / "test/NORMAL/person91_virus_0.jpeg").write_bytes(one.read_bytes())
        return "exact_duplicates", ()
    if kind == "patients":
        (folder / "test/NORMAL/person1_virus_7.jpeg").write_bytes(encode(seed=70, size=(80, 64)))
        return "patients", ()
    for part, frames in (("train", range(4)), ("test", range(4, 6))):
        for frame in frames:
            file = folder / part / "NORMAL" / f"clip7-frame{frame}.jpeg"
            file.write_bytes(encode(seed=80 + frame, size=(80, 64)))
    return "patients", ("--patient-pattern", r"(clip\d+|person\d+)")


@pytest.mark.parametrize("kind", ["copies", "patients", "frames"])
def test_the_pasted_command_mends_what_was_found(folder, encode, capsys, kind):
    check, options = plant(folder, kind, encode)
    code, checks = audit(folder, *options)
    assert code == 1 and checks[check]["status"] == "FAIL"
    assert pasted(checks[check]["advice"]) == 0
    said = capsys.readouterr().out
    changes = pd.read_csv("films-split/changes.csv")
    expected = {"copies": 1, "patients": 1, "frames": 2}[kind]
    assert len(changes) == expected and f"{expected} images moved, 0 dropped" in said
    why = {"copies": "a copy of", "patients": "same patient as", "frames": "same patient as"}[kind]
    assert changes["why"].str.contains(why).all() and (changes["to"] == "train").all()
    command = shlex.split(said.rpartition("Check it: ")[2])
    assert main([*command[1:], *SKIP]) == 0
    assert main(["audit", "films-split/split.csv", *SKIP]) == 0


def test_the_images_are_not_touched(folder, encode):
    plant(folder, "copies", encode)
    before = {file: file.read_bytes() for file in folder.rglob("*.jpeg")}
    assert main(["split", str(folder), "--repair", "--fast", "--links", "--lists", *SKIP]) == 0
    assert {file: file.read_bytes() for file in folder.rglob("*.jpeg")} == before


@pytest.mark.parametrize("how", ["--links", "--copies"])
def test_a_folder_of_links_or_copies_is_clean_and_whole(folder, encode, how):
    plant(folder, "patients", encode)
    assert main(["split", str(folder), "--parts", "train=2,test=1", "--fast", how, *SKIP]) == 0
    code, checks = audit("films-split/images")
    assert code == 0 and checks["patients"]["status"] == "PASS"
    made = sorted(folder.parent.glob("films-split/images/*/*/*.jpeg"))
    assert len(made) == 25 and {file.is_symlink() for file in made} == {how == "--links"}


def test_a_new_split_has_the_wanted_shares_and_lists(folder):
    assert (
        main(["split", str(folder), "--parts", "train=0.5,val=0.25,test=0.25", "--lists", "--fast", *SKIP])
        == 0
    )
    listed = pd.read_csv("films-split/split.csv")
    assert listed["part"].value_counts().to_dict() == {"train": 12, "val": 6, "test": 6}
    assert listed.groupby("patient")["part"].nunique().max() == 1
    shares = listed.groupby("part")["label"].apply(lambda labels: (labels == "NORMAL").mean())
    assert shares.max() - shares.min() < 0.4
    names = (folder.parent / "films-split/val.txt").read_text().splitlines()
    assert names == listed.loc[listed["part"] == "val", "image_id"].tolist()


def test_folds_are_manifests_whose_test_parts_are_all_images(folder):
    assert main(["split", str(folder), "--folds", "3", "--fast", *SKIP]) == 0
    folds = [Manifest.load(folder.parent / f"films-split/fold_{k}.json") for k in range(3)]
    tests = [name for fold in folds for name in fold.parts["test"]]
    assert len(tests) == len(set(tests)) == 24
    assert all(set(fold.parts["train"]) | set(fold.parts["test"]) == set(tests) for fold in folds)
    assert main(["audit", str(folder), "--manifest", "films-split/fold_1.json", *SKIP]) == 0


def test_columns_of_a_table_keep_together_and_are_balanced(folder):
    rows = []
    for file in sorted(folder.rglob("*.jpeg")):
        patient = int(file.name.split("_")[0].removeprefix("person"))
        hospital, device = f"hospital {patient % 4}", "old" if patient < 6 else "new"
        rows.append((str(file.relative_to(folder.parent)), hospital, device))
    pd.DataFrame(rows, columns=["path", "hospital", "device"]).to_csv("films.csv", index=False)
    options = ("--group-column", "hospital", "--stratify", "device", "--parts", "train=1,test=1", "--fast")
    assert main(["split", "films.csv", *options, *SKIP]) == 0
    named = pd.DataFrame(rows, columns=["image_id", "hospital", "device"])
    listed = pd.read_csv("films-split/split.csv").merge(named)
    assert listed.groupby("hospital")["part"].nunique().max() == 1 and len(listed) == 24
    assert (listed.groupby(["part", "device"]).size() == 6).all()
    assert main(["split", "films.csv", "--out", "b", "--stratify", "nothing", "--fast", *SKIP]) == 2


def test_a_kept_part_stays_and_what_is_linked_to_it_is_dropped(folder, encode):
    plant(folder, "copies", encode)
    assert main(["split", str(folder), "--repair", "--keep", "test", "--fast", *SKIP]) == 0
    changes = pd.read_csv("films-split/changes.csv")
    # The copy, and the other image of its patient: they are linked to the test part.
    assert sorted(changes["image_id"]) == [f"train/NORMAL/person1_virus_{k}.jpeg" for k in (0, 1)]
    assert (changes["to"] == "dropped").all()
    assert changes["why"].tolist()[1].startswith("joined through other images")


def test_a_file_listed_in_two_parts_is_in_one_afterwards(folder):
    files = [str(file.relative_to(folder.parent)) for file in sorted(folder.rglob("*.jpeg"))]
    rows = [(file, file.split("/")[1], file.split("/")[2]) for file in files]
    twice = next(row for row in rows if row[1] == "train")
    table = pd.DataFrame([*rows, (twice[0], "test", twice[2])], columns=["path", "part", "label"])
    table.to_csv("films.csv", index=False)
    assert main(["audit", "films.csv", *SKIP]) == 1
    assert main(["split", "films.csv", "--repair", "--fast", *SKIP]) == 0
    assert pd.read_csv("films-split/split.csv")["image_id"].is_unique


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--parts", "train=1"), "needs two parts"),
        (("--parts", "train=x,test=1"), "write each part once"),
        (("--folds", "1"), "needs 2 or more"),
        (("--folds", "50"), "too few for 50 parts"),
        (("--keep", "test"), "goes with --repair"),
        (("--repair", "--keep", "exam"), "no such part"),
        (("--patient-pattern", "(nowhere)"), "tells a patient"),
        (("--group-column", "video"), "no table has a column video"),
        (("--scope", "patient"), "no name or column tells a patient under it"),
        (("--out", "films"), "is there already"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_writes_nothing(folder, capsys, options, reason):
    before = sorted(folder.parent.iterdir())
    if options[0] == "--patient-pattern":
        for file in list(folder.rglob("*.jpeg")):
            file.rename(file.with_name(f"x{file.name}"))
    assert main(["split", str(folder), "--fast", *SKIP, *options]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("leakfree split: ") and reason in said
    assert sorted(folder.parent.iterdir()) == before


def test_a_file_that_cannot_be_read_is_named_and_in_no_part(folder, capsys):
    (folder / "train/NORMAL/broken_virus_1.jpeg").write_bytes(b"none")
    assert main(["split", str(folder), "--fast", *SKIP]) == 2
    assert "broken_virus_1.jpeg" in capsys.readouterr().err
    assert not pd.read_csv("films-split/split.csv")["image_id"].str.contains("broken").any()
    assert main(["split", str(folder), "--fast", "--out", "b", "--allow-problems", *SKIP]) == 0


def test_the_split_looks_thoroughly_and_the_audit_is_left_as_it_was():
    from leakfree.cli import _parser

    assert _parser().parse_args(["audit", "films"]).thorough is False
    assert _parser().parse_args(["split", "films", "--fast"]).fast is True


@pytest.mark.parametrize("option", [("--baseline", "b.yaml"), ("--diff", "old.json")])
def test_options_of_the_audit_alone_are_refused(folder, capsys, option):
    assert main(["split", str(folder), *SKIP, *option]) == 2
    assert "goes with leakfree audit" in capsys.readouterr().err
    assert not (folder.parent / "films-split").exists()
