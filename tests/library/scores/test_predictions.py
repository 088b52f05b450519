import os

import numpy as np
import pandas as pd
import pytest

from leakfree.scores.predictions import (
    PredictionsError,
    check_predictions,
    read_predictions,
    save_predictions,
)


def make_frame(n=6, seed=0):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet([1, 1, 1], size=n)
    classes = ["normal", "bacterial", "viral"]
    return pd.DataFrame(
        {
            "image_id": [f"train/NORMAL/IM-{i:04d}-0001.jpeg" for i in range(n)],
            "patient": [f"IM-{i // 2:04d}" for i in range(n)],
            "part": "test",
            "label": [classes[i % 3] for i in range(n)],
            **{f"p_{name}": probabilities[:, i] for i, name in enumerate(classes)},
            "seed": 7,
        }
    )


def test_file_holds_what_was_given(tmp_path):
    frame = make_frame()
    path = tmp_path / "predictions" / "cnn.csv"
    saved = save_predictions(path, frame)
    read = read_predictions(path)
    assert path.read_text().splitlines()[0] == (
        "image_id,patient,part,label,p_normal,p_bacterial,p_viral,seed"
    )
    assert read.classes == ("normal", "bacterial", "viral")
    assert read.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert read.labels.dtype == np.int64
    assert read.image_ids.tolist() == frame["image_id"].tolist()
    assert read.patients.tolist() == frame["patient"].tolist()
    assert set(read.part) == {"test"}
    assert read.seed == 7
    np.testing.assert_allclose(read.probabilities, frame.filter(like="p_").to_numpy(), atol=5e-7)
    np.testing.assert_array_equal(saved.probabilities, read.probabilities)


def test_rewriting_what_was_read_gives_the_same_bytes(tmp_path):
    path = tmp_path / "a.csv"
    frame = make_frame()
    frame.loc[0, ["p_normal", "p_bacterial", "p_viral"]] = [-0.0, 1.0, 4e-7]
    save_predictions(path, frame)
    first = path.read_bytes()
    assert b"\r" not in first
    assert b"-0.0" not in first
    save_predictions(path, pd.read_csv(path, dtype={"patient": str}))
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    "patients",
    [["0012", "NA", "1e3", "a,b", 'say "x"', "é"], ["0012", "0013", "13", "0014", "0015", "1.50"]],
)
def test_names_are_text_and_keep_their_zeros(tmp_path, patients):
    frame = make_frame()
    frame["patient"] = patients
    read = (save_predictions(tmp_path / "a.csv", frame), read_predictions(tmp_path / "a.csv"))[1]
    assert read.patients.tolist() == frame["patient"].tolist()


def set_cell(column, value):
    def change(frame):
        frame[column] = frame[column].astype(object)
        frame.loc[2, column] = value
        return frame

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: f.drop(columns="patient"), "missing column patient"),
        (lambda f: f.drop(columns=["p_normal", "p_viral"]), "two or more classes"),
        (lambda f: f.assign(score=1), "unknown column score"),
        (lambda f: f.iloc[:0], "no rows"),
        (set_cell("image_id", "train/NORMAL/IM-0000-0001.jpeg"), "occurs more than once"),
        (set_cell("patient", None), "row 3 has no patient"),
        (set_cell("patient", float("nan")), "row 3 has no patient"),
        (set_cell("patient", "None"), "row 3 has no patient"),
        (set_cell("part", ""), "row 3 has no part"),
        (set_cell("label", "pneumonia"), "label 'pneumonia' is not one of the classes"),
        (set_cell("p_normal", float("nan")), r"IM-0002-0001.jpeg' has a probability that is not in \[0, 1\]"),
        (set_cell("p_normal", float("inf")), r"not in \[0, 1\]"),
        (set_cell("p_normal", -0.1), r"not in \[0, 1\]"),
        (set_cell("p_normal", "high"), "not a number"),
        (set_cell("p_normal", 0.9999), "do not sum to 1"),
        (set_cell("seed", 8), "one file holds one seed, found 7, 8"),
        (set_cell("seed", 1.5), "seed is not an integer"),
    ],
)
def test_bad_predictions_are_refused_by_name_and_reason(tmp_path, change, reason):
    path = tmp_path / "bad.csv"
    bad = change(make_frame())
    with pytest.raises(PredictionsError, match=reason) as caught:
        save_predictions(path, bad)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    bad.to_csv(path, index=False)
    with pytest.raises(PredictionsError, match=r"bad\.csv: "):
        read_predictions(path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'a,b\n"1,2\n', b"image_id\nx\n"])
def test_a_file_that_is_no_table_is_one_line(tmp_path, content):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(PredictionsError, match=r"x\.csv: ") as caught:
        read_predictions(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PredictionsError, match=r"gone\.csv: No such file"):
        read_predictions(tmp_path / "gone.csv")


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    save_predictions(path, make_frame(seed=1))
    before = path.read_bytes()

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        save_predictions(path, make_frame(seed=2))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.csv"]


def test_select_keeps_one_part():
    frame = make_frame()
    frame["part"] = ["val", "test"] * 3
    chosen = check_predictions(frame).select("val")
    assert chosen.image_ids.tolist() == frame["image_id"].iloc[::2].tolist()
    assert chosen.labels.tolist() == [0, 2, 1]
    assert chosen.probabilities.shape == (3, 3)
    assert len(check_predictions(frame).select("val", "test")) == len(frame)
    for parts in (("train",), ("val", "train")):
        with pytest.raises(PredictionsError, match="no image of part 'train'"):
            check_predictions(frame).select(*parts)
