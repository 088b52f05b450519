"""The file of a study: what it may say, and one line for what it may not."""

import pytest
import yaml

from leakfree.data.study_file import OwnStudy, StudyFileError, one_task, parse_study, read_study, write_study

CONTENT = {
    "name": "eyes",
    "title": "Eyes: a study",
    "data": "../eyes",
    "labels": ["healthy", "mild", "severe"],
    "tasks": {
        "all-labels": {"healthy": ["healthy"], "mild": ["mild"], "severe": ["severe"]},
        "disease": {"healthy": ["healthy"], "ill": ["mild", "severe"]},
    },
    "patients": {"pattern": r"eye_(\d+)_"},
    "parts": {"train": "training", "test": "testing"},
}


def parsed(**changes):
    return parse_study(
        yaml.safe_dump({k: v for k, v in (CONTENT | changes).items() if v != "gone"}), "s.yaml"
    )


def test_what_is_written_is_read_back(tmp_path):
    study = parsed(
        csv={"file": "l.csv", "path": "id", "label": "grade"}, patients={"column": "who"}, credit="Me: 'CC'"
    )
    assert read_study(write_study(tmp_path / "study.yaml", study)) == study
    plain = parsed()
    assert read_study(write_study(tmp_path / "study.yaml", plain)) == plain


def test_every_entry_has_its_note(tmp_path):
    lines = write_study(tmp_path / "s.yaml", parsed()).read_text(encoding="utf-8").splitlines()
    for name in set(OwnStudy.model_fields) - {"csv"}:
        (place,) = [k for k, line in enumerate(lines) if line.startswith(f"{name}:")]
        assert lines[place - 1].startswith("# "), name


def test_tasks_map_labels_to_the_places_of_their_classes():
    tasks = parsed().made_tasks()
    assert list(tasks) == ["all-labels", "disease"]
    assert tasks["disease"].classes == ("healthy", "ill")
    assert tasks["disease"].mapping == {"healthy": 0, "mild": 1, "severe": 1}
    assert one_task(("a", "b")) == {"all-labels": {"a": ("a",), "b": ("b",)}}


def test_patients_may_be_unknown():
    assert not parsed(patients="none").patients_known
    assert parsed().patients_known


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"colour": 1}, "unknown entry colour"),
        ({"title": "gone"}, "entry title is missing"),
        ({"title": ""}, "title"),
        ({"name": "a/b"}, "name"),
        ({"name": "phantom"}, "phantom"),
        ({"labels": ["healthy"]}, "labels"),
        ({"labels": ["healthy", "mild", "severe", "mild"]}, "label mild stands twice"),
        ({"labels": ["healthy", "mild", "severe", "sealed"]}, "'sealed' cannot be a label"),
        ({"leave_out": ["mild"]}, "label mild stands twice"),
        ({"labels": [str(n) for n in range(21)]}, "labels"),
        ({"tasks": {}}, "tasks"),
        ({"tasks": {"a_b": {"x": ["healthy"], "y": ["mild"]}}}, "task 'a_b'"),
        ({"tasks": {"one": {"x": ["healthy"]}}}, "task one: needs two classes"),
        ({"tasks": {"t": {"x": ["healthy"], "y": []}}}, "class y has no label"),
        ({"tasks": {"t": {"x": ["healthy"], "y": ["gone"]}}}, "gone is none of the labels"),
        ({"tasks": {"t": {"x": ["healthy"], "y": ["healthy"]}}}, "a label stands in two classes"),
        ({"patients": {"pattern": "eye("}}, "eye("),
        ({"patients": {"pattern": "eye"}}, "needs a group"),
        ({"patients": {"column": "who"}}, "there is no csv"),
        ({"patients": "nobody"}, "patients"),
        ({"parts": {"test": "testing"}}, "there must be a train part"),
        ({"parts": {"train": "a", "test": "a"}}, "one name stands for two parts"),
        ({"parts": {"train": "a", "holdout": "b"}}, "parts"),
        ({"image": "X-ray"}, "image"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(change, told):
    with pytest.raises(StudyFileError) as error:
        parsed(**change)
    assert str(error.value).startswith("s.yaml: ") and told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("text", "told"), [("a: [", "not YAML"), ("", "no entries"), ("- a", "no entries")])
def test_a_file_that_is_no_study_is_refused(text, told):
    with pytest.raises(StudyFileError, match=told):
        parse_study(text)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(StudyFileError, match=r"missing.yaml: No such file"):
        read_study(tmp_path / "missing.yaml")
    (tmp_path / "latin.yaml").write_bytes("name: \xe9".encode("latin-1"))
    with pytest.raises(StudyFileError, match="UTF-8"):
        read_study(tmp_path / "latin.yaml")


def test_entries_within_entries_without_end_are_one_line():
    with pytest.raises(StudyFileError, match="deeper than any study"):
        parse_study("a: " + "[" * 100_000, "s.yaml")


def test_a_small_file_is_not_large_once_it_is_read():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 20)}]" for n in range(1, 9)]
    with pytest.raises(StudyFileError, match="more than 100 aliases"):
        parse_study("\n".join(lines), "s.yaml")
