from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leakfree.data.names import label_from_path, part_from_path
from leakfree.data.patients import (
    DECLARED,
    SCOPES,
    SUBJECT,
    identifier_summary,
    identifiers,
    missing_identifier,
    patient_ids,
    scope_summary,
)
from leakfree.data.raw import LABELS


def cohort_rows(files, numbers=None, labels=None):
    """Rows as a cohort has them; `numbers` are the hub's person_num."""
    return pd.DataFrame(
        {
            "image_id": files,
            "label": labels or [label_from_path(file) for file in files],
            "part": [part_from_path(file) for file in files],
            "person_num": pd.array(numbers or [None] * len(files), dtype="Int64"),
        }
    )


@pytest.mark.parametrize(
    ("name", "series", "person", "merged"),
    [
        ("person1000_bacteria_2931.jpeg", "bacteria:1000", "person:1000", "person:1000"),
        ("person447_virus_921_1.jpeg", "virus:447", "person:447", "person:447"),
        ("IM-0115-0001.jpeg", "IM:115", "IM:115", "normal:115"),
        ("IM-0429-0001-0002.jpeg", "IM:429", "IM:429", "normal:429"),
        ("NORMAL2-IM-0381-0001.jpeg", "NORMAL2-IM:381", "NORMAL2-IM:381", "normal:381"),
        ("BACTERIA-1008087-0001.jpeg", "bacteria:1008087", "person:1008087", "person:1008087"),
        ("VIRUS-1008087-0001.jpeg", "virus:1008087", "person:1008087", "person:1008087"),
        ("NORMAL-1049278-0001.jpeg", "NORMAL:1049278", "NORMAL:1049278", "normal:1049278"),
        ("Person1_Bacteria_1.JPEG", "bacteria:1", "person:1", "person:1"),
        ("im-0115-0001.jpeg", "IM:115", "IM:115", "normal:115"),
    ],
)
def test_each_scope_by_name(name, series, person, merged):
    for folder in ("", "train/PNEUMONIA/", "test/NORMAL/"):  # the folder says nothing about the patient
        table = cohort_rows([folder + name], labels=["normal"])
        found = [patient_ids(table, scope)[0] for scope in ("series", "person", "merged")]
        assert found == [series, person, merged]
    assert patient_ids(table)[0] == series, "the default"


@pytest.mark.parametrize(
    "name",
    [
        "scan-00001.jpeg",
        "person_bacteria_1.jpeg",
        "person12.jpeg",
        "person1_fungus_1.jpeg",
        "xperson1_virus_1.jpeg",
        "IMG-12-1.jpeg",
        "IM-A-0001.jpeg",
        "NORMAL3-IM-0001-0001.jpeg",
        "1000.jpeg",
    ],
)
def test_a_name_without_identifier_is_its_own_patient(name):
    files = [f"train/NORMAL/{name}", f"test/NORMAL/{name}", f"train/NORMAL/a-{name}"]
    table = cohort_rows(files)
    assert missing_identifier(table).tolist() == [True] * 3
    for scope in SCOPES:
        assert patient_ids(table, scope).tolist() == [f"image:{file}" for file in files]


def test_the_person_number_of_the_hub():
    rows = ["row-00000", "row-00001", "row-00002", "row-00003", "row-00004"]
    labels = ["bacterial", "viral", "normal", "pneumonia", "normal"]
    table = cohort_rows(rows, numbers=[7, 7, None, 7, None], labels=labels)
    own = ["image:row-00002", "image:row-00004"]
    assert patient_ids(table, "series").tolist() == ["bacteria:7", "virus:7", own[0], "person:7", own[1]]
    for scope in ("person", "merged"):
        assert patient_ids(table, scope).tolist() == ["person:7", "person:7", own[0], "person:7", own[1]]
    assert missing_identifier(table).tolist() == [False, False, True, False, True]


def test_a_hub_row_and_a_file_of_one_patient_agree():
    table = cohort_rows(
        ["row-00000", "train/PNEUMONIA/person7_virus_9.jpeg"], numbers=[7, None], labels=["viral", "viral"]
    )
    for scope in SCOPES:
        assert len(set(patient_ids(table, scope))) == 1


def test_the_name_goes_before_the_person_number():
    table = cohort_rows(["person3_virus_1.jpeg"], numbers=[7])
    assert patient_ids(table, "series").tolist() == ["virus:3"]


def test_identifiers_keep_the_index():
    table = cohort_rows(["scan.jpeg", "IM-0115-0001.jpeg"], labels=["normal"] * 2)
    table.index = [10, 4]
    found = identifiers(table)
    assert found.index.tolist() == [10, 4]
    assert found["prefix"].tolist() == ["", "IM"]
    assert found["number"].isna().tolist() == [True, False]
    assert found.loc[4, "number"] == 115


def test_the_scope_of_another_cohort_is_refused():
    """Names that tell patients, and patients that a study names, never stand for each other."""
    table = cohort_rows(["IM-0115-0001.jpeg"])
    with pytest.raises(ValueError, match="'patient' is none of this cohort; it has series, person, merged"):
        patient_ids(table, DECLARED)
    with pytest.raises(ValueError, match="'series' is none of this cohort; it has patient"):
        patient_ids(table.assign(**{SUBJECT: "a"}), "series")


def test_an_unknown_scope_is_refused():
    with pytest.raises(ValueError, match="unknown patient scope 'Series'; known: series, person, merged"):
        patient_ids(cohort_rows(["IM-0115-0001.jpeg"]), "Series")


FILES = st.one_of(
    st.builds(
        "person{}_{}_{}.jpeg".format, st.integers(1, 9), st.sampled_from(["bacteria", "virus"]), st.just(1)
    ),
    st.builds("{}-{:04d}-0001.jpeg".format, st.sampled_from(["IM", "NORMAL2-IM"]), st.integers(1, 9)),
    st.builds("scan-{}.jpeg".format, st.integers(1, 9)),
)


@settings(deadline=None, max_examples=80, derandomize=True)
@given(st.lists(FILES, min_size=1, max_size=30, unique=True))
def test_a_wider_scope_only_joins(files):
    table = cohort_rows(files, labels=["normal"] * len(files))
    by_scope = [patient_ids(table, scope) for scope in ("series", "person", "merged")]
    for narrow, wide in pairwise(by_scope):
        assert pd.DataFrame({"n": narrow, "w": wide}).groupby("n")["w"].nunique().max() == 1
    missing = missing_identifier(table)
    for patients in by_scope:
        assert len(set(patients[missing])) == missing.sum()
        assert not set(patients[missing]) & set(patients[~missing])


def test_summaries():
    table = cohort_rows(
        [
            "train/PNEUMONIA/person1_bacteria_1.jpeg",
            "train/PNEUMONIA/person1_bacteria_2.jpeg",
            "train/PNEUMONIA/person1_virus_3.jpeg",
            "train/NORMAL/IM-0001-0001.jpeg",
            "train/NORMAL/scan-1.jpeg",
            "train/NORMAL/scan-2.jpeg",
        ]
    )
    scopes = scope_summary(table).set_index("scope")
    assert scopes["patients"].to_dict() == {"series": 5, "person": 4, "merged": 4}
    assert scopes["with_several_images"].tolist() == [1, 1, 1]
    assert scopes["most_images"].to_dict() == {"series": 2, "person": 3, "merged": 3}
    assert scopes["share_of_images_with_sibling"].tolist() == pytest.approx([2 / 6, 3 / 6, 3 / 6])
    summary = identifier_summary(table).set_index(["label", "prefix"])
    assert summary["images"].to_dict() == {
        ("bacterial", "bacteria"): 2,
        ("normal", "IM"): 1,
        ("normal", "none"): 2,
        ("viral", "virus"): 1,
    }
    assert summary["distinct_numbers"].to_dict()[("bacterial", "bacteria")] == 1
    assert summary["distinct_numbers"].to_dict()[("normal", "none")] == 0


def test_the_phantom_names_tell_its_patients(phantom_source, phantom_cohort):
    truth = phantom_source.truth()
    table = phantom_cohort.table
    assert table["image_id"].tolist() == truth["file"].tolist()
    missing = missing_identifier(table)
    assert missing.tolist() == truth["missing_identifier"].tolist()
    assert missing.any()
    named = (~missing) & (truth["planted"] == "none").to_numpy()
    pairs = set(zip(patient_ids(table)[named], truth["patient"][named], strict=True))
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)


@pytest.fixture(scope="module")
def real_table(real_data):
    root = real_data / "chest_xray"
    return cohort_rows(sorted(file.relative_to(root).as_posix() for file in root.rglob("*.jpeg")))


@pytest.mark.real
def test_real_counts_of_patients(real_table):
    train = real_table[real_table["part"] == "train"]
    person = train[train["label"] != "normal"]
    assert [(train["label"] == label).sum() for label in LABELS] == [1341, 2530, 1345, 0]
    assert len(set(patient_ids(person, "series"))) == 2443
    assert len(set(patient_ids(person, "person"))) == 1635
    found = identifiers(person)
    assert (found.groupby("number")["prefix"].nunique() == 2).sum() == 808
    assert not missing_identifier(real_table).any()
    sizes = pd.Series(patient_ids(person, "person")).value_counts()
    assert (sizes.max(), (sizes > 1).sum()) == (30, 1005)


@pytest.mark.real
@pytest.mark.parametrize(("scope", "shared"), [("series", 0), ("person", 170), ("merged", 264)])
def test_real_patients_in_official_train_and_test(real_table, scope, shared):
    patients, part = patient_ids(real_table, scope), real_table["part"].to_numpy()
    assert np.unique(part).tolist() == ["test", "train"]
    assert len(set(patients[part == "train"]) & set(patients[part == "test"])) == shared
