"""Arms: the same number of training rows of each class as the clean one, and no leak but the named one."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deferred import deferred
from leakfree_study.inflation.draws import draw, permuted_classes

with deferred:
    from leakfree_study.inflation.arms import COPY_SHARE, Arms, Rows
    from leakfree_study.inflation.material import VARIANTS
    from leakfree_study.inflation.plans import DOSES

quickly = settings(deadline=None, max_examples=60, derandomize=True)
#: Classes of the labels 0, 1, 2 in tasks such as those of the study.
TASKS = ((0, 1, 1), (-1, 0, 1), (0, 1, 2))


@st.composite
def cases(build):
    """Patients of one class and of several, enough singles of every label; labels, groups, draw and arms."""
    label = st.sampled_from((0, 1, 2))
    one = st.builds(lambda label, n: [label] * n, label, st.integers(2, 4))
    several = st.one_of(one, one, st.lists(label, min_size=2, max_size=6))
    patients = [*build(st.lists(several, min_size=4, max_size=25)), [0, 0], [0, 0], [1, 1], [1, 1]]
    patients += [[label] for label in (0, 1, 2) for _ in range(build(st.integers(8, 20)))]
    labels = np.array([label for patient in patients for label in patient], dtype=np.int64)
    groups = np.repeat(np.arange(len(patients)), [len(patient) for patient in patients])
    order = np.random.default_rng(build(st.integers(0, 5))).permutation(len(labels))
    labels, groups = labels[order], groups[order]
    made = draw(labels, groups, build(st.integers(0, 2**32 - 1)))
    classes = np.array(build(st.sampled_from(TASKS)))[labels]
    if build(st.booleans()):
        classes = permuted_classes(made, classes, groups, made.seed)
    return classes, groups, made, Arms(made, classes)


def by_class(classes, rows):
    return Counter(classes[rows.row].tolist())


def images(rows):
    return set(zip(rows.row.tolist(), rows.variant.tolist(), strict=True))


def groups_of(groups, rows):
    return set(groups[rows].tolist())


def slots_tested(made, arms, dose):
    """Slots whose test image takes part and that leak at a dose."""
    rows = arms.rows("test")
    return {int(made.slot[row]): int(row) for row in rows if made.leaked(dose)[made.slot[row]]}


@quickly
@given(cases())
def test_nobody_who_is_tested_or_validates_trains_in_the_clean_arm(case):
    classes, groups, made, arms = case
    clean = arms.clean()
    assert len(clean) == len(set(clean.row.tolist())) and not clean.variant.any()
    assert (classes[clean.row] >= 0).all()
    watched = groups_of(groups, made.rows("test", "single", "val"))
    assert not groups_of(groups, clean.row) & watched
    # All that may train does.
    assert set(clean.row.tolist()) == set(made.rows("base", "donor").tolist()) & set(
        np.flatnonzero(classes >= 0).tolist()
    )
    for role in ("test", "single", "val"):
        np.testing.assert_array_equal(arms.rows(role), [row for row in made.rows(role) if classes[row] >= 0])


@quickly
@given(cases())
def test_every_arm_trains_as_many_rows_of_each_class_as_its_clean_one(case):
    classes, _, _, arms = case
    wanted = by_class(classes, arms.clean())
    for dose in DOSES:
        for leaky in (arms.siblings(dose), arms.copies(dose), arms.copies(dose, near=True)):
            assert by_class(classes, leaky) == wanted
    assert by_class(classes, arms.oversampled(before=True)) == by_class(
        classes, arms.oversampled(before=False)
    )
    assert by_class(classes, arms.augmented(before=True)) == by_class(classes, arms.augmented(before=False))


@quickly
@given(cases())
def test_siblings_are_the_reserves_of_the_patients_that_leak_in_the_place_of_their_donors(case):
    classes, groups, made, arms = case
    clean, own, donor = images(arms.clean()), made.rows("own"), made.rows("donor")
    own, donor = own[classes[own] >= 0], donor[classes[donor] >= 0]
    before = set()
    for dose in DOSES:
        slots = list(slots_tested(made, arms, dose))
        found = images(arms.siblings(dose))
        came, gone = found - clean, clean - found
        assert came == {(row, 0) for row in own[np.isin(made.slot[own], slots)].tolist()}
        assert gone == {(row, 0) for row in donor[np.isin(made.slot[donor], slots)].tolist()}
        assert before <= came, "doses are nested"
        before = came
        # The test images themselves stay out, and so do the siblings of those who do not leak.
        leaking = groups_of(groups, list(slots_tested(made, arms, dose).values()))
        trained = {row for row, _ in found}
        watched = made.rows("test", "single", "val")
        assert not trained & set(watched.tolist())
        assert groups_of(groups, list(trained)) & groups_of(groups, watched) <= leaking
    assert before


@quickly
@given(cases(), st.booleans())
def test_copies_are_the_test_images_of_the_patients_that_leak(case, near):
    classes, _, made, arms = case
    clean = images(arms.clean())
    variant = VARIANTS.index("near") if near else 0
    before, left = set(), set()
    for dose in DOSES:
        found = images(arms.copies(dose, near=near))
        came, gone = found - clean, clean - found
        slots = slots_tested(made, arms, dose)
        assert came == {(row, variant) for row in slots.values()}, "each of them, whatever its donor is"
        assert before <= came and left <= gone, "doses are nested"
        before, left = came, gone
    # An image of the donor is replaced where the donor gave one of that class.
    given_by = made.slot[[row for row, _ in gone]]
    for slot, test in slots.items():
        donors = np.flatnonzero((made.slot == slot) & np.isin(np.arange(len(classes)), made.rows("donor")))
        assert (given_by == slot).sum() == (classes[test] in classes[donors])


@quickly
@given(cases())
def test_without_a_test_set_every_tested_image_trains(case):
    classes, groups, made, arms = case
    tested, clean = arms.rows("test", "single"), arms.clean()
    try:
        found = arms.no_test_set()
    except ValueError:
        pool, wanted = by_class(classes, clean), Counter(classes[tested].tolist())
        assert any(wanted[c] > pool[c] // 2 for c in wanted), "there were images enough"
        return
    assert set(tested.tolist()) <= set(found.row.tolist())
    assert by_class(classes, found) == by_class(classes, clean)
    assert len(images(found)) == len(found)
    assert images(found) - images(clean) == {(row, 0) for row in tested.tolist()}
    assert not groups_of(groups, found.row) & groups_of(groups, made.rows("val"))
    assert images(found) == images(arms.no_test_set()), "the same seed, the same images"


@quickly
@given(cases())
def test_oversampling_makes_classes_equal_and_repeats_test_images_only_before_the_split(case):
    classes, groups, made, arms = case
    clean = arms.clean()
    watched = groups_of(groups, made.rows("test", "single", "val"))
    after, before = arms.oversampled(before=False), arms.oversampled(before=True)
    for found in (after, before):
        assert len(set(by_class(classes, found).values())) == 1
        np.testing.assert_array_equal(found.row[: len(clean)], clean.row)
        assert not found.variant.any()
    assert not groups_of(groups, after.row) & watched
    allowed = set(clean.row.tolist()) | set(arms.rows("test", "single").tolist())
    assert set(before.row.tolist()) <= allowed
    for label in by_class(classes, clean):
        times = Counter(after.row[classes[after.row] == label].tolist())
        assert max(times.values()) - min(times.values()) <= 1, "all once before any twice"


@quickly
@given(cases())
def test_augmented_copies_are_of_training_images_or_some_of_test_images(case):
    _, _, _, arms = case
    clean, code = arms.clean(), VARIANTS.index("augmented")
    after, before = arms.augmented(before=False), arms.augmented(before=True)
    assert images(after) == images(clean) | {(row, code) for row in clean.row.tolist()}
    for found in (after, before):
        np.testing.assert_array_equal(found.row[: len(clean)], clean.row)
        assert not found.variant[: len(clean)].any()
        assert (found.variant[len(clean) :] == code).all()
        assert len(images(found)) == len(found) == 2 * len(clean)
    strangers = set(before.row.tolist()) - set(clean.row.tolist())
    assert strangers <= set(arms.rows("test", "single").tolist())


def large():
    """Return a cohort of two classes, the second twice as large."""
    patients = [[0] * n for n in (1, 2, 3) for _ in range(60)] + [
        [1] * n for n in (1, 2, 3) for _ in range(120)
    ]
    labels = np.array([label for patient in patients for label in patient])
    return labels, np.repeat(np.arange(len(patients)), [len(patient) for patient in patients])


def test_four_in_five_copies_of_test_images_train_where_copies_are_made_first():
    labels, groups = large()
    shares, repeated = [], []
    for seed in range(10):
        arms = Arms(draw(labels, groups, seed), labels)
        tested = arms.rows("test", "single")
        shares.append(np.isin(tested, arms.augmented(before=True).row).mean())
        rare = tested[labels[tested] == 0]
        times = Counter(arms.oversampled(before=True).row.tolist())
        repeated.append(np.mean([times[row] for row in rare]))
        assert not any(times[row] for row in tested[labels[tested] == 1]), (
            "the commoner class is not repeated"
        )
    assert abs(np.mean(shares) - COPY_SHARE) < 0.03
    assert 0.6 < np.mean(repeated) <= 2


def test_arms_depend_on_the_seed_of_the_draw_alone():
    labels, groups = large()
    for seed in (0, 1):
        one, other = (Arms(draw(labels, groups, seed), labels) for _ in range(2))
        for make in (
            lambda a: a.siblings(0.5),
            lambda a: a.copies(0.5),
            lambda a: a.no_test_set(),
            lambda a: a.oversampled(before=True),
            lambda a: a.augmented(before=True),
        ):
            first, second = make(one), make(other)
            np.testing.assert_array_equal(first.row, second.row)
            np.testing.assert_array_equal(first.variant, second.variant)


def test_equal_classes_are_not_oversampled():
    labels = np.repeat([0, 1], 24)
    groups = np.arange(48) // 2
    arms = Arms(draw(labels, groups, 0), labels)
    assert len(arms.oversampled(before=True)) == len(arms.oversampled(before=False)) == len(arms.clean())


def test_too_few_training_images_to_make_room_for_the_test_images_are_refused():
    labels = np.zeros(10, dtype=np.int64)
    groups = np.array([0, 0, 1, 1, 2, 3, 4, 5, 6, 7])
    made = draw(labels, groups, 0, singles=0.5)
    with pytest.raises(ValueError, match="3 test images, but 0 training images"):
        Arms(made, labels).no_test_set()


def test_rows_are_swapped_in_place_and_appended():
    rows = Rows.images(np.array([4, 7, 9]))
    swapped = rows.swap(np.array([9, 4]), np.array([1, 2]), 1)
    np.testing.assert_array_equal(swapped.row, [2, 7, 1])
    np.testing.assert_array_equal(swapped.variant, [1, 0, 1])
    np.testing.assert_array_equal(rows.row, [4, 7, 9])
    longer = swapped.plus(np.array([7]), 2)
    np.testing.assert_array_equal(longer.row, [2, 7, 1, 7])
    np.testing.assert_array_equal(longer.variant, [1, 0, 1, 2])
    assert len(longer) == 4
    with pytest.raises(KeyError):
        rows.swap(np.array([5]), np.array([1]))
