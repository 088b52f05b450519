import numpy as np
import pandas as pd
import pytest

from leakfree.data.raw import LABELS
from leakfree.data.tasks import TASKS


def table(*labels):
    return pd.DataFrame({"image_id": [f"i{k}" for k in range(len(labels))], "label": labels})


@pytest.mark.parametrize(
    ("task", "classes", "kept", "labels"),
    [
        ("binary", ("normal", "pneumonia"), ["normal", "bacterial", "viral", "pneumonia"], [0, 1, 1, 1]),
        ("etiology", ("bacterial", "viral"), ["bacterial", "viral"], [0, 1]),
        ("three-class", ("normal", "bacterial", "viral"), ["normal", "bacterial", "viral"], [0, 1, 2]),
    ],
)
def test_a_task_keeps_its_classes_and_numbers_them(task, classes, kept, labels):
    assert TASKS[task].name == task
    assert TASKS[task].classes == classes
    chosen = TASKS[task].select(table("normal", "bacterial", "sealed", "viral", "pneumonia"))
    assert chosen["label"].tolist() == kept
    found = TASKS[task].labels(chosen)
    assert found.tolist() == labels
    assert found.dtype == np.int64


def test_pneumonia_of_unknown_etiology_takes_part_in_the_binary_task_only():
    assert [name for name, task in TASKS.items() if "pneumonia" in task.mapping] == ["binary"]
    for name in ("etiology", "three-class"):
        with pytest.raises(ValueError, match=f"task {name} has no class for the label pneumonia"):
            TASKS[name].labels(table("bacterial", "pneumonia"))


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_a_sealed_row_has_no_class(task):
    rows = table(*task.mapping, "sealed")
    with pytest.raises(ValueError, match=f"task {task.name} has no class for the label sealed"):
        task.labels(rows)
    assert "sealed" not in set(task.select(rows)["label"])


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_classes_agree_with_the_labels_of_a_cohort(task):
    assert set(task.mapping) <= set(LABELS)
    assert sorted(set(task.mapping.values())) == list(range(len(task.classes)))
    for label, k in task.mapping.items():
        if label in task.classes:
            assert task.classes[k] == label


def test_classes_that_no_row_has_are_named():
    assert TASKS["three-class"].lacking(table("viral", "viral")) == ["normal", "bacterial"]
    assert TASKS["binary"].lacking(table("viral", "normal")) == []
    assert TASKS["binary"].lacking(table()) == ["normal", "pneumonia"]


def test_no_rows_have_no_labels():
    assert TASKS["etiology"].labels(TASKS["etiology"].select(table("normal"))).tolist() == []
