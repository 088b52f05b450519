"""The published counts of the reference study, recomputed on its data by its rule."""

import re

import numpy as np
import pandas as pd
import pytest

from deferred import deferred
from leakfree.data.open import open_cohort

with deferred:
    from sklearn.model_selection import train_test_split

    from leakfree_study.identity import reference

PUBLISHED = {
    "missing identifiers": 1341,
    "distinct patient numbers": 1635,
    "most images of one patient": 30,
    "patients with more than one image": 1005,
    "patients in both parts, plain 80/20 split": 447,
    "patients in both parts, stratified 80/20 split": 435,
    "classical split, training images": 2696,
    "classical split, validation images": 575,
    "classical split, test images": 604,
}
PERSON = re.compile(r"person(\d+)_(bacteria|virus)_")


@pytest.fixture(scope="module")
def real(real_cohort):
    return real_cohort.development()


def as_hub(table):
    """Turn rows into the hub's: no names, a number where the name had a person's."""
    names = table["image_id"].str.rsplit("/", n=1).str[-1]
    numbers = [int(m[1]) if (m := PERSON.match(name)) else None for name in names]
    rows = [f"row-{k:05d}" for k in range(len(table))]
    return table.assign(image_id=rows, person_num=pd.array(numbers, dtype="Int64"))


def recount(rule, labels):
    """Count with sets and loops what the library counts; `rule` is None for images without a number."""
    images = {}
    for row, patient in enumerate(rule):
        images.setdefault(patient, set()).add(row)
    known = {patient: rows for patient, rows in images.items() if patient is not None}
    overlaps = []
    for strata in (None, labels):
        train, test = train_test_split(np.arange(len(rule)), test_size=0.2, random_state=42, stratify=strata)
        overlaps.append(len({rule[row] for row in train} & {rule[row] for row in test}))
    first, rest = train_test_split(sorted(known), test_size=0.3, random_state=42)
    parts = (first, *train_test_split(rest, test_size=0.5, random_state=42))
    return [
        len(rule) - sum(map(len, known.values())),
        len(known),
        max(map(len, known.values())),
        sum(len(rows) > 1 for rows in known.values()),
        *overlaps,
        *(sum(len(known[patient]) for patient in part) for part in parts),
    ]


def observed(frame, scope):
    rows = frame[frame["scope"] == scope]
    return dict(zip(rows["name"], rows["observed"].tolist(), strict=True))


@pytest.mark.real
def test_every_published_count_is_reproduced(real):
    assert len(real) == 5216
    assert reference.is_reference_cohort(real)
    frame = reference.counts(real, True)
    person = frame[frame["scope"] == "person"]
    assert observed(frame, "person") == PUBLISHED
    assert dict(zip(person["name"], person["expected"], strict=True)) == PUBLISHED
    assert reference.EXPECTED == PUBLISHED
    assert person["seed"].tolist() == [pd.NA] * 4 + [42] * 5


@pytest.mark.real
def test_the_same_counts_stand_beside_them_under_series(real):
    frame = reference.counts(real, True)
    series = frame[frame["scope"] == "series"]
    assert series["name"].tolist() == list(PUBLISHED)
    assert series["expected"].isna().all()
    found = [PERSON.match(file.rsplit("/", 1)[-1]) for file in real["image_id"]]
    labels = real["label"].map({"normal": 0, "bacterial": 1, "viral": 2}).to_numpy()
    rule = [f"{m[2]}:{int(m[1])}" if m else None for m in found]
    assert series["observed"].tolist() == recount(rule, labels)
    assert observed(frame, "series")["distinct patient numbers"] == 2443
    # The recount itself is held against what was published.
    assert recount([float(m[1]) if m else None for m in found], labels) == list(PUBLISHED.values())


@pytest.mark.real
def test_the_hub_gives_the_same_counts_as_the_names(real):
    hub = as_hub(real)
    pd.testing.assert_frame_equal(reference.counts(hub, True), reference.counts(real, True))
    np.testing.assert_array_equal(reference.person_num(hub), reference.person_num(real))


@pytest.mark.real
def test_the_order_of_the_rows_matters(real):
    """The published overlaps belong to the hub's order: another order gives other numbers."""
    frame = reference.counts(real.iloc[::-1], True)
    found = observed(frame, "person")
    assert [name for name in PUBLISHED if found[name] != PUBLISHED[name]] == list(PUBLISHED)[4:6]


@pytest.mark.real
def test_the_reference_cohort_is_told_by_its_classes(real):
    assert not reference.is_reference_cohort(real.iloc[1:])
    assert not reference.is_reference_cohort(real.assign(label="normal"))


@pytest.mark.real
def test_a_sample_in_the_hubs_format_is_counted(real_data, tmp_path):
    table = open_cohort(str(real_data / "hub_v3_sample"), tmp_path).development()
    assert not reference.is_reference_cohort(table)
    frame = reference.counts(table, False)
    person = observed(frame, "person")
    assert frame["expected"].isna().all()
    assert person["missing identifiers"] == (table["label"] == "normal").sum() > 0
    assert person["distinct patient numbers"] == table["person_num"].nunique() > 1
    classical = [person[name] for name in list(PUBLISHED)[6:]]
    assert sum(classical) == table["person_num"].notna().sum()


def test_nothing_is_expected_of_the_phantom(phantom_cohort):
    table = phantom_cohort.development()
    assert not reference.is_reference_cohort(table)
    for rows in (table, as_hub(table)):
        frame = reference.counts(rows, False)
        assert list(frame.columns) == ["name", "scope", "seed", "expected", "observed"]
        assert frame["name"].tolist() == 2 * list(PUBLISHED)
        assert frame["expected"].isna().all()
        assert frame["observed"].notna().all()
    found = observed(reference.counts(table, False), "person")
    assert found == observed(reference.counts(as_hub(table), False), "person")
    known = sum(bool(PERSON.match(file.rsplit("/", 1)[-1])) for file in table["image_id"])
    assert found["missing identifiers"] == len(table) - known
    assert sum(found[name] for name in list(PUBLISHED)[6:]) == known


def small_table():
    """Make seven patients on 14 images with 6 normal ones, so that each count can be read off."""
    rows = [(f"train/NORMAL/IM-{k:04d}-0001.jpeg", "normal") for k in range(6)]
    for number, images in ((1, 4), (2, 1), (3, 2), (4, 1), (5, 1)):
        rows += [(f"train/PNEUMONIA/person{number}_bacteria_{k}.jpeg", "bacterial") for k in range(images)]
    for number, images in ((1, 2), (6, 3)):
        rows += [(f"train/PNEUMONIA/person{number}_virus_{k}.jpeg", "viral") for k in range(images)]
    frame = pd.DataFrame(rows, columns=["image_id", "label"])
    return frame.assign(person_num=pd.array([pd.NA] * len(frame), dtype="Int64"))


def test_counts_by_hand():
    frame = reference.counts(small_table(), False)
    for scope, patients, most, several in (("person", 6, 6, 3), ("series", 7, 4, 4)):
        found = observed(frame, scope)
        assert [found[name] for name in list(PUBLISHED)[:4]] == [6, patients, most, several]
        assert sum(found[name] for name in list(PUBLISHED)[6:]) == 14


def test_person_num_is_the_bare_number_of_person_files():
    table = small_table()
    numbers = reference.person_num(table)
    assert np.isnan(numbers[:6]).all()
    assert numbers[6:].tolist() == [1, 1, 1, 1, 2, 3, 3, 4, 5, 1, 1, 6, 6, 6]
    series = reference.series_patients(table)
    assert series[:6].tolist() == [None] * 6
    assert len(set(series[6:])) == 7


@pytest.mark.parametrize("kept", [6, 10])
def test_a_cohort_with_few_or_no_person_numbers_is_counted_too(kept):
    table = small_table().iloc[:kept]
    reference.counts(table, False)
