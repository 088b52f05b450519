"""What a cohort cannot support is said; what it can is not."""

import numpy as np
import pandas as pd

from leakfree.data.patients import SUBJECT
from leakfree_study.own.limits import UNKNOWN, limits, no_siblings


def cohort(patients, each=2, part="train", named=True):
    rows = [
        (f"{p}-{k}", ("mild", "severe")[p % 2], part, str(p) if named else "")
        for p in range(patients)
        for k in range(each)
    ]
    return pd.DataFrame(rows, columns=["image_id", "label", "part", SUBJECT])


def told(table, known=True):
    return " ".join(limits(table, patients_known=known))


def test_a_large_cohort_with_a_test_part_has_no_limit():
    table = pd.concat([cohort(300), cohort(30, part="test")], ignore_index=True)
    assert limits(table, patients_known=True) == []


def test_unknown_patients_are_said_first():
    table = cohort(300, named=False)
    assert limits(table, patients_known=False)[0] == UNKNOWN
    assert limits(table, patients_known=True)[0] == UNKNOWN


def test_some_images_without_patient_are_counted():
    table = cohort(300)
    table.loc[:2, SUBJECT] = ""
    assert "3 of 600 images name no patient" in told(table)


def test_few_patients_are_counted_once_each():
    assert "There are 40 patients" in told(cohort(40))
    assert "of 40 there are too few" in told(cohort(40))
    assert "There are" not in told(cohort(100))
    assert "Prediction sets" in told(cohort(179)) and "Prediction sets" not in told(cohort(180))


def test_patients_of_the_test_part_do_not_count():
    table = pd.concat([cohort(40), cohort(500, part="test")], ignore_index=True)
    assert "There are 40 patients" in told(table)


def test_a_label_of_few_patients_is_named():
    assert "Few patients show mild (5), severe (5)" in told(cohort(10))


def test_a_leak_needs_two_patients_with_several_images_of_two_labels():
    labels = np.array(["a", "a", "a", "a", "b", "b", "b", "b"], dtype=object)
    assert no_siblings(labels, np.array(list("11223344"), dtype=object)) == ""
    assert "cannot be measured" in no_siblings(labels, np.array(list("11223345"), dtype=object))
    assert "cannot be measured" in no_siblings(labels, np.array(list("12345678"), dtype=object))
    assert "What a leak is worth" in told(cohort(300, each=1))
