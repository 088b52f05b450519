"""The record of a run: every row of its cohort, copies and measurements, and no image."""

import json

import pandas as pd
import pytest

from deferred import deferred
from leakfree.data.record import ABOUT, TABLE
from leakfree.data.study_file import OwnStudy, kept_study

with deferred:
    from leakfree.data.cohort import CohortError
    from leakfree.data.open import open_cohort
    from leakfree.data.record import RecordedCohort, is_record, save_cohort
    from leakfree_study.run.run import open_run


@pytest.fixture
def folder(phantom_cohort, tmp_path):
    save_cohort(tmp_path, phantom_cohort)
    return tmp_path


@pytest.fixture
def phantom_store_run(phantom_cohort, tmp_path_factory, monkeypatch):
    """Make a run on the images themselves, in a folder."""
    monkeypatch.setenv("LEAKFREE_CACHE", str(tmp_path_factory.getbasetemp() / "record-cache"))
    return lambda folder: open_run(
        "05_leakfree_deep", data=str(phantom_cohort.path), run_dir=str(folder), jobs=1
    )


def run_of(folder, data=None):
    return open_run("05_leakfree_deep", data=str(data or folder), run_dir=str(folder), jobs=1)


def test_the_recorded_cohort_is_the_cohort(phantom_cohort, folder):
    assert is_record(folder)
    kept = open_cohort(str(folder), folder / "cache")
    assert isinstance(kept, RecordedCohort)
    pd.testing.assert_frame_equal(kept.table, phantom_cohort.table, check_dtype=False)
    assert kept.table["person_num"].dtype == phantom_cohort.table["person_num"].dtype
    assert (kept.name, kept.checksum, len(kept)) == (
        phantom_cohort.name,
        phantom_cohort.checksum,
        len(phantom_cohort),
    )
    pd.testing.assert_frame_equal(kept.class_counts(), phantom_cohort.class_counts())
    pd.testing.assert_frame_equal(kept.development(), phantom_cohort.development(), check_dtype=False)


def test_a_study_keeps_the_order_of_its_tasks_and_classes(phantom_cohort, tmp_path, monkeypatch):
    tasks = {
        "z": {"normal": ("normal",), "ill": ("viral", "bacterial")},
        "a": {"b": ("viral",), "a": ("normal",)},
    }
    labels = ("normal", "viral", "bacterial")
    study = OwnStudy(name="x", title="X", data="x", labels=labels, tasks=tasks, patients="none")
    monkeypatch.setattr(phantom_cohort, "study", study)
    save_cohort(tmp_path, phantom_cohort)
    for kept in (RecordedCohort(tmp_path).study, kept_study(tmp_path)):
        assert list(kept.tasks) == ["z", "a"]
        assert {name: task.classes for name, task in kept.made_tasks().items()} == {
            "z": ("normal", "ill"),
            "a": ("b", "a"),
        }


def test_labels_of_the_sealed_part_are_not_in_the_record(folder):
    table = pd.read_csv(folder / TABLE)
    assert set(table.loc[table["part"] == "test", "label"]) == {"sealed"}
    with pytest.raises(CohortError, match="does not hold the labels"):
        RecordedCohort(folder).unseal(folder / "log")


def test_images_are_refused_in_one_line(folder):
    run = run_of(folder)
    for need in (
        lambda: list(run.cohort.iterate()),
        lambda: run.pixels(16),
        lambda: run.sealed_pixels(16),
        run.searched,
    ):
        with pytest.raises(CohortError, match=r"holds no(ne| images)"):
            need()


def test_a_record_makes_its_own_run_alone(folder, tmp_path_factory):
    with pytest.raises(CohortError, match="only that run"):
        run_of(tmp_path_factory.mktemp("other"), folder)


@pytest.mark.parametrize("file", [ABOUT, TABLE])
def test_a_damaged_record_names_its_file(folder, file):
    (folder / file).write_text("{")
    with pytest.raises(CohortError, match=file):
        RecordedCohort(folder)


def test_what_was_measured_is_read_and_not_measured_again(phantom_store_run, tmp_path):
    live = phantom_store_run(tmp_path)
    made = pd.DataFrame({"kind": ["NA", "b"], "value": [1 / 3, None], "n": [1, 2]})
    first = live.measure("05_x", lambda: made)
    assert first["value"].tolist()[0] == 0.333333  # the run itself works on what the file says
    assert first["kind"].tolist() == ["NA", "b"]
    save_cohort(tmp_path, live.cohort)
    recorded = run_of(tmp_path)
    pd.testing.assert_frame_equal(recorded.measure("05_x", lambda: pytest.fail("measured again")), first)
    assert "measurements/05_x.csv" in json.loads((tmp_path / "outputs/05_leakfree_deep.json").read_text())
    with pytest.raises(CohortError, match="lacks this measurement"):
        recorded.measure("05_y", lambda: made)


def test_nothing_measured_is_an_empty_table(phantom_store_run, tmp_path):
    assert phantom_store_run(tmp_path).measure("05_x", pd.DataFrame).empty


def test_copies_are_those_that_the_run_found(phantom_store_run, tmp_path):
    live = phantom_store_run(tmp_path)
    found = live.copies()
    assert found.groups
    save_cohort(tmp_path, live.cohort)
    recorded = run_of(tmp_path)
    assert recorded.copies().groups == found.groups
    table = live.development()
    assert recorded.groups(recorded.development()).tolist() == live.groups(table).tolist()
    (tmp_path / "copies.json").write_text("{}")
    with pytest.raises(CohortError, match=r"copies\.json"):
        run_of(tmp_path).copies()
