"""`leakfree predict` finds what it is given, answers in order, and counts what it cannot use."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deferred import deferred
from leakfree.cli import main
from leakfree.predict.overlay import draw_overlay

with deferred:
    from leakfree.data.images import ImageError
    from leakfree.predict.classifier import WARNING, Classifier
    from leakfree.predict.predict_files import (
        ImageFile,
        InputError,
        find_images,
        predict_images,
        refuse_input,
    )


@pytest.fixture(scope="module")
def folder(films, tmp_path_factory):
    """Eleven images in two folders, two files that are none, and one that is not named as an image."""
    root = tmp_path_factory.mktemp("films")
    for number, film in enumerate(films[:11]):
        path = root / ("a" if number % 2 else "b") / f"film{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(film)
    (root / "a" / "broken.jpeg").write_bytes(films[0][:200])
    (root / "b" / "empty.png").write_bytes(b"")
    (root / "b" / "notes.txt").write_text("a list", encoding="utf-8")
    return root


def names(films):
    return [Path(film.name).name for film in films]


def test_files_folders_and_globs_are_found_in_order(folder):
    films, left_out = find_images([str(folder)], bytes)
    assert len(films) == 13 and left_out == 1
    assert names(films)[:3] == ["broken.jpeg", "film01.png", "film03.png"]
    films, left_out = find_images([str(folder / "b" / "film02.png"), str(folder / "a")], bytes)
    assert names(films)[:2] == ["film02.png", "broken.jpeg"] and left_out == 0
    assert names(find_images([str(folder / "*" / "film0[1-2].png")], bytes)[0]) == [
        "film01.png",
        "film02.png",
    ]
    assert len(find_images([str(folder / "**" / "film*.png")], bytes)[0]) == 11
    # A file that is named is read whatever its name.
    assert names(find_images([str(folder / "b" / "notes.txt")], bytes)[0]) == ["notes.txt"]


def test_a_name_with_pattern_signs_that_exists_is_a_file(tmp_path, films):
    path = tmp_path / "film[1].png"
    path.write_bytes(films[0])
    assert find_images([str(path)], bytes)[0] == [ImageFile(str(path))]


def test_standard_input_is_an_image_or_a_list(films):
    assert find_images(["-"], lambda: films[0])[0] == [ImageFile("-", films[0])]
    assert find_images(["-"], lambda: "a b.png\n\nü.png\n".encode())[0] == [
        ImageFile("a b.png"),
        ImageFile("ü.png"),
    ]
    assert find_images(["-"], lambda: films[0][:300])[0] == [ImageFile("-", films[0][:300])]


@pytest.mark.parametrize(
    ("given", "reason"),
    [(["nowhere.png"], "nowhere.png: no such"), (["no*.png"], "no such"), (["-"], "standard input is empty")],
)
def test_what_is_not_there_is_said(given, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=reason):
        find_images(given, lambda: b" \n")


def test_an_empty_folder_is_said(tmp_path):
    with pytest.raises(InputError, match="no image found"):
        find_images([str(tmp_path)], bytes)


@pytest.mark.parametrize("jobs", [1, 3])
def test_answers_come_in_order_whatever_the_threads(models, films, jobs):
    classifier = Classifier.load(models)
    many = [ImageFile(f"{i}", data) for i, data in enumerate(films * 3)]
    rows = list(predict_images(classifier, many, jobs=jobs, progress=False))
    assert [row.file for row in rows] == [film.name for film in many]
    expected = classifier.answer(np.stack([classifier.prepare(film) for film in films])) * 3
    found = [row.answer.confidence for row in rows]
    assert found == pytest.approx([answer.confidence for answer in expected], abs=1e-5)


def run(capsys, *arguments):
    code = main(["predict", *map(str, arguments), "--quiet"])
    return code, *capsys.readouterr()


def test_json_holds_every_file_and_the_reasons(folder, models, capsys):
    code, out, err = run(capsys, folder, "--model", models, "--format", "json")
    said = json.loads(out)
    assert code == 2
    assert said["warning"] == WARNING and said["model"]["name"] == "drawn"
    assert len(said["predictions"]) == 13
    errors = {Path(p["file"]).name: p["error"] for p in said["predictions"] if "error" in p}
    assert errors["empty.png"] == "empty" and "broken.jpeg" in errors and len(errors) == 2
    one = next(p for p in said["predictions"] if p["file"].endswith("film01.png"))
    assert one["confidence"] == max(one["probabilities"].values())
    assert set(one) == {
        "file", "diagnosis", "confidence", "probabilities", "prediction_set", "coverage", "novelty",
        "zoom", "in_training_set", "warnings",
    }  # fmt: skip
    assert "2 of 13 files cannot be used" in err and "1 files in the folders" in err


def test_csv_has_a_row_for_every_file_with_the_model(folder, models, capsys, tmp_path):
    out = tmp_path / "new" / "p.csv"
    code, shown, _ = run(capsys, folder, "--model", models, "--format", "csv", "--out", out)
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"))))
    assert code == 2 and shown == "" and len(rows) == 13
    for row in rows:
        if row["error"]:
            assert row["diagnosis"] == ""
        else:
            assert float(row["p_normal"]) + float(row["p_pneumonia"]) == pytest.approx(1, abs=2e-6)
        assert (
            row["model"] == "drawn" and len(row["weights_sha256"]) == 64 and len(row["preprocessing"]) == 12
        )


def test_the_table_is_for_the_eye(folder, models, capsys, tmp_path):
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(path)
    code, out, err = run(capsys, folder / "a" / "film01.png", path, "--model", models)
    lines = out.splitlines()
    assert code == 0 and err == ""
    assert lines[0].split()[:2] == ["file", "diagnosis"]
    assert "not like a chest X-ray" in lines[2] and "not like" not in lines[1]
    assert lines[-1] == WARNING and "90%" in lines[-2]


def test_overlays_are_written_under_names_of_their_own(folder, models, capsys, tmp_path, films):
    (tmp_path / "film01.png").write_bytes(films[1])
    code, *_ = run(
        capsys,
        folder / "a" / "film01.png",
        tmp_path / "film01.png",
        "--model",
        models,
        "--overlay",
        tmp_path / "o",
    )
    assert code == 0
    pictures = sorted(path.name for path in (tmp_path / "o").iterdir())
    assert pictures == ["film01-2_overlay.png", "film01_overlay.png"]
    with (
        Image.open(tmp_path / "o" / "film01_overlay.png") as picture,
        Image.open(tmp_path / "film01.png") as film,
    ):
        assert picture.size == film.size and picture.mode == "RGB"


def test_every_image_of_many_gets_its_own_picture(models, films, tmp_path):
    classifier = Classifier.load(models)
    many = [ImageFile(f"{i:02d}.png", data) for i, data in enumerate(films)]  # more than one batch
    list(predict_images(classifier, many, jobs=2, overlays=tmp_path, progress=False))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{i:02d}_overlay.png" for i in range(len(many))
    ]
    for i in (0, 17):
        heat = classifier.heat(classifier.prepare(films[i])[None])[0]
        assert (tmp_path / f"{i:02d}_overlay.png").read_bytes() == draw_overlay(films[i], heat)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nowhere.png"], "leakfree predict: nowhere.png: no such file, folder or pattern"),
        (["FILM", "--model", "nowhere"], "leakfree predict: nowhere: No such file or directory"),
        (["FILM", "--jobs", "-1"], "leakfree predict: --jobs: must be 0 or more, not -1"),
    ],
)
def test_what_cannot_begin_is_one_line(folder, models, capsys, options, said):
    film = str(folder / "a" / "film01.png")
    options = [film if option == "FILM" else option for option in options]
    options += [] if "--model" in options else ["--model", str(models)]
    code, out, err = run(capsys, *options)
    assert (code, out, err.strip()) == (2, "", said)


@pytest.mark.real
def test_originals_of_any_mode_are_predicted(real_data, capsys):
    code, out, err = run(capsys, real_data / "originals", "--format", "json")
    predictions = json.loads(out)["predictions"]
    assert code == 0 and err == "" and len(predictions) == 31
    assert np.mean([p["novelty"] <= 1 for p in predictions]) > 0.9


@pytest.mark.skipif(os.name != "posix", reason="links and permissions as POSIX has them")
def test_nothing_in_a_folder_is_lost_in_silence(tmp_path, films, monkeypatch):
    (tmp_path / "ok.png").write_bytes(films[0])
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "locked").mkdir()
    walk = os.walk

    def denied(folder, onerror):
        onerror(PermissionError(13, "Permission denied", str(tmp_path / "locked")))
        return walk(folder)

    monkeypatch.setattr(os, "walk", denied)
    found, left_out = find_images([str(tmp_path)], bytes)
    assert names(found) == ["locked", "lost.png", "ok.png"] and left_out == 0
    for film in found[:2]:
        with pytest.raises(ImageError):
            film.read()


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a file that never ends")
def test_a_file_that_never_ends_is_a_reason():
    assert len(ImageFile("/dev/zero").read()) < 30_000_000


def test_a_list_may_have_zeros_between_its_names():
    assert find_images(["-"], lambda: b"a b.png\0c.png\0")[0] == [ImageFile("a b.png"), ImageFile("c.png")]
    with pytest.raises(ImageError, match="null"):
        ImageFile("a\0b.png").read()


def test_a_folder_of_dicom_says_so(tmp_path):
    (tmp_path / "film.dcm").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(InputError, match="DICOM files have to be exported"):
        find_images([str(tmp_path)], bytes)


def test_the_answer_does_not_replace_an_image(tmp_path, films):
    image = tmp_path / "film.png"
    image.write_bytes(films[0])
    with pytest.raises(InputError, match="is one of the images"):
        refuse_input(tmp_path / "." / "film.png", [ImageFile("other.png"), ImageFile(str(image))])
    refuse_input(tmp_path / "new.csv", [ImageFile(str(image))])


def test_output_that_cannot_be_written_is_refused_before_the_work(
    tmp_path, films, models, capsys, monkeypatch
):
    image = tmp_path / "film.png"
    image.write_bytes(films[0])
    monkeypatch.setattr(Classifier, "load", lambda path: pytest.fail("the work began"))
    for out in (tmp_path, image / "out.csv", image, Path("/no-such-folder-in-the-root/out.csv")):
        assert main(["predict", str(image), "--model", str(models), "--out", str(out)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert image.read_bytes() == films[0]


@pytest.mark.skipif(os.name != "posix", reason="names of any bytes")
@pytest.mark.parametrize("format", ["table", "csv", "json"])
def test_a_name_that_is_no_unicode_is_written_to_a_file(tmp_path, films, models, format):
    (tmp_path / os.fsdecode(b"bad\xff.png")).write_bytes(films[0])
    out = tmp_path / "out.txt"
    assert (
        main(["predict", str(tmp_path), "--model", str(models), "--format", format, "--out", str(out)]) == 0
    )
    assert "bad" in out.read_text(encoding="utf-8")
