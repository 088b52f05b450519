import numpy as np
import pandas as pd
import pytest

from deferred import deferred
from leakfree.audit.checks.findings import FAIL_ON

with deferred:
    from leakfree.audit.checks.patient_checks import (
        available_scopes,
        linked_groups_check,
        ordered_parts,
        patients_by_scope,
        patients_check,
    )


def table(*rows, patient=()):
    """Rows of (name, part); the name tells the patient, or `patient` does."""
    frame = pd.DataFrame([(name, part, "", "", pd.NA) for name, part in rows])
    frame.columns = ["image_id", "part", "label", "patient", "person_num"]
    frame["person_num"] = frame["person_num"].astype("Int64")
    return frame.assign(patient=list(patient)) if patient else frame


def film(number, kind="virus", image=1):
    return f"person{number}_{kind}_{image}.jpeg"


CLEAN = table(
    (film(1), "train"), (film(1, image=2), "train"), (film(2), "test"), ("IM-0003-0001.jpeg", "test")
)
#: One number on both etiologies in two parts: two series, one person; and IM and NORMAL2 under one number.
SCOPED = table(
    (film(1), "train"), (film(1, "bacteria"), "test"),
    ("IM-0007-0001.jpeg", "train"), ("NORMAL2-IM-0007-0001.jpeg", "test"), (film(9), "test"),
)  # fmt: skip


def test_no_patient_in_two_parts_passes():
    check = patients_check(CLEAN, "series", FAIL_ON, "")
    assert (check.status, check.count, check.severity, check.files) == ("PASS", 0, "none", ())
    assert [check.details[scope]["count"] for scope in ("series", "person", "merged")] == [0, 0, 0]


def test_a_patient_in_two_parts_is_told_with_all_files():
    films = table(*((film(1, image=i), "train" if i < 3 else "test") for i in range(40)), (film(2), "test"))
    check = patients_check(films, "series", FAIL_ON, "")
    assert (check.status, check.severity, check.count) == ("FAIL", "leak", 1)
    assert check.files == tuple(sorted(film(1, image=i) for i in range(40)))
    entry = check.details["series"]
    assert entry["fails"] and entry["severity"] == "leak"
    assert (entry["test_images"], entry["test_images_with_sibling"]) == (38, 37)
    assert entry["share_of_test_images_with_sibling"] == pytest.approx(37 / 38, abs=1e-6)
    assert entry["training_part"] == "train" and entry["between"] == {"train and test": 1}
    assert {films.set_index("image_id")["part"][i] for i in check.examples[0]} == {"train", "test"}
    assert "97.4%" in check.summary
    softened = patients_check(films, "series", (), "")
    assert (
        softened.status == "WARN" and softened.severity == "leak" and not softened.details["series"]["fails"]
    )


@pytest.mark.parametrize(
    ("scope", "status", "count"), [("series", "WARN", 0), ("person", "FAIL", 1), ("merged", "FAIL", 2)]
)
def test_the_declared_scope_decides_and_the_others_warn(scope, status, count):
    check = patients_check(SCOPED, scope, FAIL_ON, "")
    assert (check.status, check.count) == (status, count)
    assert [check.details[name]["count"] for name in ("series", "person", "merged")] == [0, 1, 2]
    assert [check.details[name]["fails"] for name in ("series", "person", "merged")] == [
        name == scope and count > 0 for name in ("series", "person", "merged")
    ]
    assert check.details["declared_scope"] == scope
    assert len(check.details["merged"]["files"]) == 4


def test_a_column_of_patients_is_a_scope_of_its_own():
    films = table((film(1), "train"), (film(2), "test"), (film(3), "test"), patient=("x", "x", ""))
    assert available_scopes(films) == ["patient", "series", "person", "merged"]
    check = patients_check(films, "patient", FAIL_ON, "")
    assert check.status == "FAIL" and check.files == (film(1), film(2))
    assert check.details["series"]["count"] == 0 and check.details["images_without_identifier"] == 1
    assert patients_check(films, "series", FAIL_ON, "").status == "WARN"
    assert (
        available_scopes(table(("a.png", "train"))) == [] == available_scopes(table(("a.png", "train"))[:0])
    )


def test_images_without_identifier_are_strangers_and_no_pass():
    films = table(
        ("a.png", "train"),
        ("b.png", "test"),
        ("a.png", "test"),
        (film(1), "train"),
        patient=("", "", "", "x"),
    )
    assert len(set(patients_by_scope(films, ["patient"])["patient"])) == 4
    strangers = films.assign(image_id=["a.png", "b.png", "c.png", film(1)])
    check = patients_check(strangers, "patient", FAIL_ON, "")
    assert check.status == "INCONCLUSIVE" and "3 images have no identifier" in check.summary


@pytest.mark.parametrize(
    ("films", "scope", "status", "said"),
    [
        (table(("a.png", "train"), ("b.png", "test")), "series", "NOT RUN", "No file name or column"),
        (CLEAN, None, "NOT RUN", "No file name or column"),
        (CLEAN, "patient", "NOT RUN", "No file name or column"),
        (CLEAN.assign(part=""), "series", "NOT RUN", "no two parts"),
        (CLEAN.assign(part="train"), "series", "NOT RUN", "no two parts"),
        (CLEAN.assign(part=["train", "", "test", "test"]), "series", "INCONCLUSIVE", "1 images have no part"),
    ],
)
def test_without_its_input_the_check_does_not_pass(films, scope, status, said):
    check = patients_check(films, scope, FAIL_ON, "")
    assert check.status == status and said in check.summary
    lost = patients_check(CLEAN, "series", FAIL_ON, "4 listed images could not be read")
    assert lost.status == "INCONCLUSIVE" and "4 listed images" in lost.summary


def test_parts_stand_in_the_order_of_their_use():
    parts = np.array(["test", "", "external", "val", "Train", "dev_2"], dtype=object)
    assert ordered_parts(parts) == ["Train", "dev_2", "val", "external", "test"]


def test_patients_and_copies_are_chained():
    """a-b are one patient, b-c are copies, c-d are one patient: a and d must stand together."""
    films = table(
        (film(1), "train"), (film(1, image=2), "train"),
        (film(2), "train"), (film(2, image=2), "test"), (film(5), "test"),
    )  # fmt: skip
    copies = np.array([0, 1, 1, 2, 3])
    check, groups = linked_groups_check(films, copies, "series", FAIL_ON, "")
    assert groups.tolist() == [0, 0, 0, 0, 1]
    assert (check.status, check.count, check.severity) == ("FAIL", 1, "leak")
    assert check.files == tuple(sorted(films["image_id"][:4]))
    assert check.details["linked_by"] == ["patients", "copies"]
    assert check.details["test_images_with_sibling"] == 1 and check.details["largest"] == 4
    assert linked_groups_check(films, copies, "series", (), "")[0].status == "WARN"
    clean = linked_groups_check(CLEAN, np.arange(4), "series", FAIL_ON, "")[0]
    assert (clean.status, clean.files, clean.count) == ("PASS", (), 0)


def test_linked_groups_need_patients_copies_and_parts():
    copies = np.arange(4)
    for films, keys, scope, incomplete, status, said in (
        (CLEAN, None, "series", "", "INCONCLUSIVE", "copies were not searched"),
        (CLEAN, copies, None, "", "INCONCLUSIVE", "no patients are known"),
        (CLEAN, None, None, "", "NOT RUN", "Neither patients nor copies"),
        (CLEAN, copies, "series", "2 lost", "INCONCLUSIVE", "2 lost"),
        (CLEAN.assign(part="train"), copies, "series", "", "NOT RUN", "no two parts"),
        (CLEAN.assign(part=["", "a", "b", "b"]), copies, "series", "", "INCONCLUSIVE", "no part"),
        (
            CLEAN.assign(image_id=["a", *CLEAN["image_id"][1:]]),
            copies,
            "series",
            "",
            "INCONCLUSIVE",
            "no identifier",
        ),
    ):
        check, groups = linked_groups_check(films, keys, scope, FAIL_ON, incomplete)
        assert check.status == status and said in check.summary
        assert (groups is None) == (keys is None and scope is None)
