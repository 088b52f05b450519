"""Draws: who is tested and whose images are in reserve, on random patients of one class and of several."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leakfree_study.inflation.draws import ROLES, SINGLES, draw

quickly = settings(deadline=None, max_examples=80, derandomize=True)
LABELS = (0, 1, 2)
seeds = st.integers(0, 2**32 - 1)


def images_of(patients, seed=0):
    """Give labels and groups of images of patients, each a list of labels, in a shuffled order of rows."""
    labels = np.array([label for patient in patients for label in patient], dtype=np.int64)
    # Numbers of groups have gaps and no order, as linked groups of a part of a cohort have.
    names = np.random.default_rng(seed).permutation(3 * len(patients))[: len(patients)] * 7
    groups = np.repeat(names, [len(patient) for patient in patients])
    order = np.random.default_rng(seed + 1).permutation(len(labels))
    return labels[order], groups[order]


@st.composite
def cohorts(build, least=0):
    """Patients of one to seven images; many of one class, some of several, as under the scope `person`."""
    label = st.sampled_from(LABELS)
    pure = st.builds(lambda label, n: [label] * n, label, st.integers(1, 4))
    mixed = st.lists(label, min_size=2, max_size=7)
    patients = build(st.lists(st.one_of(pure, pure, mixed), min_size=max(least, 1), max_size=40))
    return images_of(patients, build(st.integers(0, 5)))


def roles(made):
    return np.array(ROLES)[made.role]


def composition(labels, rows):
    return Counter(labels[rows].tolist())


def of_groups(labels, groups):
    return {int(g): composition(labels, groups == g) for g in np.unique(groups)}


def kinds(labels, groups):
    """Count patients with several images by the set of their labels."""
    found = of_groups(labels, groups).values()
    return Counter(frozenset(images) for images in found if images.total() > 1)


def made_or_none(labels, groups, seed):
    if max(kinds(labels, groups).values(), default=0) < 2:
        with pytest.raises(ValueError, match="no reserve to leak"):
            draw(labels, groups, seed)
        return None
    return draw(labels, groups, seed)


@quickly
@given(cohorts(), seeds)
def test_each_pair_is_one_test_image_and_two_reserves_that_match_in_class_and_number(cohort, seed):
    labels, groups = cohort
    made = made_or_none(labels, groups, seed)
    if made is None:
        return
    role, used = roles(made), []
    for pair in range(len(made.rank)):
        test, own, donor = (
            np.flatnonzero((made.slot == pair) & (role == name)) for name in ("test", "own", "donor")
        )
        assert len(test) == 1, "a tested patient gives one test image"
        assert len(own) >= 1
        assert composition(labels, own) == composition(labels, donor)
        tested, giver = groups[test[0]], set(groups[donor].tolist())
        assert set(groups[own].tolist()) == {tested}
        assert len(giver) == 1 and tested not in giver, "the donor is one other patient"
        giver = giver.pop()
        used += [tested, giver]
        # The donor keeps back the image that it would be tested by; all else that can be matched is.
        shown, whole = composition(labels, test), composition(labels, groups == tested)
        spare = composition(labels, groups == giver)
        assert composition(labels, own) == (whole & spare) - shown
        assert set(whole) == set(spare), "the donor has the classes of the tested patient"
        # No other role for any image of the two.
        assert set(role[groups == tested]) <= {"test", "own", "left"}
        assert set(role[groups == giver]) <= {"donor", "left"}
    assert len(used) == len(set(used)), "a patient is in one pair at most"
    assert set(made.slot[~np.isin(role, ("test", "own", "donor"))].tolist()) <= {-1}
    assert set(made.slot.tolist()) - {-1} == set(range(len(made.rank)))


@quickly
@given(cohorts(), seeds)
def test_all_patients_that_can_be_paired_are_and_the_others_only_train(cohort, seed):
    labels, groups = cohort
    made = made_or_none(labels, groups, seed)
    if made is None:
        return
    role = roles(made)
    assert len(made.rank) == sum(n // 2 for n in kinds(labels, groups).values())
    sizes = Counter(groups.tolist())
    alone = np.array([sizes[g] == 1 for g in groups.tolist()])
    assert alone[np.isin(role, ("single", "val"))].all(), "only patients of one image"
    for label in LABELS:
        of_label = role[alone & (labels == label)]
        assert (of_label == "single").sum() == (of_label == "val").sum() == round(SINGLES * len(of_label))
        assert set(of_label) <= {"single", "val", "base"}
    paired = set(groups[made.slot >= 0].tolist())
    over = [g for g in sizes if sizes[g] > 1 and g not in paired]
    assert all(set(role[groups == g]) == {"base"} for g in over)


@quickly
@given(cohorts(), seeds)
def test_patients_of_equal_composition_are_paired_before_others(cohort, seed):
    labels, groups = cohort
    made = made_or_none(labels, groups, seed)
    if made is None:
        return
    role, of = roles(made), of_groups(labels, groups)
    equal = 0
    for pair in range(len(made.rank)):
        test, donor = (int(groups[(made.slot == pair) & (role == name)][0]) for name in ("test", "donor"))
        equal += of[test] == of[donor]
    several = Counter(tuple(sorted(images.items())) for images in of.values() if images.total() > 1)
    assert equal == sum(n // 2 for n in several.values())


@quickly
@given(cohorts(least=10), seeds, st.lists(st.integers(0, 100), min_size=2, max_size=5))
def test_doses_are_nested_and_balanced_by_class(cohort, seed, doses):
    labels, groups = cohort
    made = made_or_none(labels, groups, seed)
    if made is None:
        return
    tested = np.empty(len(made.rank), dtype=np.int64)
    rows = made.rows("test")
    tested[made.slot[rows]] = labels[rows]
    before = np.zeros(len(made.rank), dtype=bool)
    assert not made.leaked(0.0).any() and made.leaked(1.0).all()
    for dose in sorted(hundredth / 100 for hundredth in doses):
        leaked = made.leaked(dose)
        assert (leaked | ~before).all(), "who leaks at a dose leaks at a higher one"
        before = leaked
        for label in LABELS:
            n = int((tested == label).sum())
            assert -1e-9 < leaked[tested == label].sum() - dose * n < 1


@quickly
@given(cohorts(), seeds)
def test_the_seed_alone_decides(cohort, seed):
    labels, groups = cohort
    made = made_or_none(labels, groups, seed)
    if made is None:
        return
    again = draw(labels.copy(), groups.copy(), seed)
    renamed = draw(labels, groups * 5 + 11, seed)
    for other in (again, renamed):
        np.testing.assert_array_equal(made.role, other.role)
        np.testing.assert_array_equal(made.slot, other.slot)
        np.testing.assert_array_equal(made.rank, other.rank)


@quickly
@given(cohorts(), st.integers(0, 2**31))
def test_who_is_tested_in_one_draw_of_a_couple_is_the_donor_in_the_other(cohort, half):
    labels, groups = cohort
    made = made_or_none(labels, groups, 2 * half)
    if made is None:
        return
    mirrored = draw(labels, groups, 2 * half + 1)
    assert mirrored.seed == made.seed + 1
    for role, other in (("own", "donor"), ("donor", "own"), *((r, r) for r in ("base", "single", "val"))):
        np.testing.assert_array_equal(made.rows(role), mirrored.rows(other))
    np.testing.assert_array_equal(made.rank, mirrored.rank)
    reserves = made.rows("own", "donor")
    np.testing.assert_array_equal(made.slot[reserves], mirrored.slot[reserves])
    for one, other in ((made, mirrored), (mirrored, made)):
        first, donor, second = one.rows("test"), one.rows("donor"), other.rows("test")
        giver = dict(zip(one.slot[donor].tolist(), groups[donor].tolist(), strict=True))
        tested = dict(zip(other.slot[second].tolist(), groups[second].tolist(), strict=True))
        assert giver == tested
        by_slot = dict(zip(other.slot[second].tolist(), labels[second].tolist(), strict=True))
        assert [by_slot[slot] for slot in one.slot[first].tolist()] == labels[first].tolist()
        assert (roles(other)[first] == "left").all(), "the test image of one trains in neither"


def many(n=40):
    return images_of([[label] * size for label in LABELS for size in (1, 2, 3) for _ in range(n)])


def test_other_seeds_make_other_draws():
    labels, groups = many()
    made = [draw(labels, groups, seed) for seed in range(6)]
    assert len({tuple(one.rows("test")) for one in made}) == 6
    for role in ("single", "val"):
        assert len({tuple(one.rows(role)) for one in made}) == 3, "couples share them"
    assert len({tuple(one.rank) for one in made}) == 3


def test_every_image_has_a_fair_chance_to_be_tested():
    labels, groups = images_of([[0] * 3] * 4)
    times = np.zeros(len(labels))
    partners = Counter()
    for couple in range(600):
        made = draw(labels, groups, 2 * couple)
        times[made.rows("test")] += 1
        for pair in range(2):
            partners[tuple(sorted(set(groups[made.slot == pair].tolist())))] += 1
    # Two of twelve images in each of 600 draws; five standard deviations of a binomial count are 46.
    assert np.abs(times - 100).max() < 46
    assert len(partners) == 6, "any two patients may be paired"
    assert min(partners.values()) > 140


def test_rows_have_the_roles_in_the_order_of_the_cohort():
    made = draw(*many(), 3)
    role = roles(made)
    for wanted in (("test",), ("base", "donor"), ("left", "own", "val", "single")):
        rows = made.rows(*wanted)
        np.testing.assert_array_equal(rows, np.flatnonzero(np.isin(role, wanted)))
    assert sum(len(made.rows(name)) for name in ROLES) == len(role)


def test_share_of_single_images_is_as_asked():
    labels, groups = many(40)
    made = draw(labels, groups, 0, singles=0.5)
    assert [composition(labels, made.rows(role)) for role in ("single", "val")] == [
        Counter([0, 1, 2] * 20)
    ] * 2
    made = draw(labels, groups, 0, singles=0.0)
    assert len(made.rows("single", "val")) == 0


@pytest.mark.parametrize("patients", [[[0], [0], [1]], [[0, 0], [1, 1], [0, 1]], [[0, 0], [1]]])
def test_patients_that_cannot_be_paired_are_refused(patients):
    with pytest.raises(ValueError, match="no two patients"):
        draw(*images_of(patients), 0)
