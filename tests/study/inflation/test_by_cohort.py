"""Inflation by cohort: folds, ROC AUC inside folds, arms of one size, and patients of known identity."""

import numpy as np
import pytest

from deferred import deferred

with deferred:
    from sklearn.metrics import roc_auc_score

    from leakfree_study.inflation.by_cohort import (
        FOLDS,
        Folded,
        Pictures,
        by_others,
        by_size,
        folded,
        gain,
        group_folds,
        image_folds,
        most_others,
        narrowed,
        others_plan,
        sizes_of,
        some_groups,
    )
    from leakfree_study.inflation.simulate import World

    NAMES = ("pixels", "embeddings")


def cohort(identity, disease=1.0, patients=60, seed=0):
    """Patients of 1 to 6 images, with features of known identity, as embeddings."""
    labels, groups = World(((0, patients // 6, 0, patients // 6, 0, patients // 6),) * 2).images()
    rng = np.random.default_rng(seed)
    own = rng.standard_normal((groups.max() + 1, 12))[groups]
    every = rng.standard_normal((len(groups), 12))
    x = np.sqrt(identity) * own + np.sqrt(1 - identity) * every
    x[:, 0] += disease * (labels - 0.5)
    return Pictures("made up", "classes", labels, groups, {"embeddings": x.astype(np.float32)})


@pytest.fixture(scope="module")
def gains():
    found = {}
    for identity in (0.0, 0.8):
        pictures = cohort(identity)
        whole = sizes_of(pictures)[-1]
        for model in ("1-nn", "logistic-regression"):
            found[identity, model] = gain(*by_size(pictures, "embeddings", model, whole, 6), resamples=60)
    return found


def test_a_plain_split_gains_where_patients_can_be_told_and_only_there(gains):
    for model in ("1-nn", "logistic-regression"):
        nothing, something = gains[0.0, model], gains[0.8, model]
        assert nothing.low < 0 < nothing.high, model
        assert something.low > 0, model
        assert something.share == pytest.approx(something.estimate / (1 - something.clean))
        assert something.leaky == pytest.approx(something.clean + something.estimate)
    assert gains[0.8, "1-nn"].found > 0.7 > 0.1 > gains[0.0, "1-nn"].found
    assert gains[0.8, "1-nn"].patients == 60


def test_more_images_of_the_same_patient_gain_more():
    pictures = cohort(0.5)
    assert most_others(pictures.groups) == (1, 2)
    arms = by_others(pictures, "embeddings", "1-nn", (1, 2), 6)
    one, two = (gain(arms[0], arms[k], resamples=60) for k in (1, 2))
    assert 0 < one.estimate < two.estimate
    assert one.clean == two.clean


def test_arms_with_other_images_have_one_size_and_the_same_test_images():
    pictures = cohort(0.5)
    sizes, folds, before = {}, [], {}
    for k, fold, train in others_plan(pictures, 3, (1, 2)):
        folds.append(fold)
        sizes[k] = [len(rows) for rows in train]
        for number, rows in enumerate(train):
            test = np.flatnonzero(fold == number)
            assert len(np.intersect1d(rows, test)) == 0
            assert len(np.unique(rows)) == len(rows)
            own = np.isin(pictures.groups[rows], pictures.groups[test])
            assert own.sum() == k * len(np.unique(pictures.groups[test]))
            assert before.get(number, set()) <= set(rows[own].tolist()), "more images are added to fewer"
            before[number] = set(rows[own].tolist())
    assert sizes[0] == sizes[1] == sizes[2]
    assert all(np.array_equal(fold, folds[0]) for fold in folds)


def test_folds_of_groups_divide_no_group_and_folds_of_images_do():
    pictures = cohort(0.5)
    for fold, divided in (
        (group_folds(pictures.labels, pictures.groups, 0), False),
        (image_folds(pictures.labels, 0), True),
    ):
        assert set(fold) == set(range(FOLDS))
        many = [len(set(fold[pictures.groups == group])) for group in range(pictures.groups.max() + 1)]
        assert (max(many) > 1) == divided
        shares = [pictures.labels[fold == number].mean() for number in range(FOLDS)]
        assert max(shares) - min(shares) < 0.15


def test_a_smaller_cohort_has_whole_groups():
    groups = cohort(0.5).groups
    rows = some_groups(groups, 80, 1)
    assert abs(len(rows) - 80) <= 6
    taken = np.unique(groups[rows])
    assert np.array_equal(rows, np.flatnonzero(np.isin(groups, taken)))


def test_roc_auc_compares_images_of_one_fold():
    rng = np.random.default_rng(0)
    truth, fold = np.tile([0, 1], 40), np.repeat([0, 1], 40)
    scores = rng.random(80) + truth + 10 * fold
    one = Folded(np.arange(80), truth, fold, np.stack([-scores, scores], axis=1), np.zeros(80))
    counts = np.ones((2, 80))
    counts[1, :7] = 3
    within = [roc_auc_score(truth[fold == k], scores[fold == k]) for k in (0, 1)]
    assert one.auc(counts)[0] == pytest.approx(np.mean(within))
    weighted = [
        roc_auc_score(truth[fold == k], scores[fold == k], sample_weight=counts[1][fold == k]) for k in (0, 1)
    ]
    pairs = [
        counts[1][(fold == k) & (truth == 1)].sum() * counts[1][(fold == k) & (truth == 0)].sum()
        for k in (0, 1)
    ]
    assert one.auc(counts)[1] == pytest.approx(np.average(weighted, weights=pairs))


def test_three_classes_are_the_mean_of_each_against_the_rest():
    rng = np.random.default_rng(0)
    truth = np.tile([0, 1, 2], 30)
    scores = rng.random((90, 3)) + np.eye(3)[truth] / 2
    one = Folded(np.arange(90), truth, np.zeros(90, dtype=int), scores, np.zeros(90))
    expected = np.mean([roc_auc_score(truth == c, scores[:, c]) for c in range(3)])
    assert one.auc(np.ones((1, 90)))[0] == pytest.approx(expected)


def test_an_image_that_trains_and_is_tested_is_refused():
    pictures = cohort(0.5)
    fold = image_folds(pictures.labels, 0)
    with pytest.raises(ValueError, match="trains and is tested"):
        folded(pictures, "embeddings", "1-nn", fold, [np.arange(len(pictures))] * FOLDS)


def test_arms_that_scored_other_images_are_refused():
    clean, leaky = by_size(cohort(0.5), "embeddings", "1-nn", sizes_of(cohort(0.5))[-1], 1)
    with pytest.raises(ValueError, match="same images"):
        gain(
            clean,
            [
                Folded(one.groups[1:], one.truth[1:], one.fold[1:], one.probabilities[1:], one.found[1:])
                for one in leaky
            ],
        )


def test_what_the_logistic_regression_is_given_depends_on_the_image_alone():
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (5, 1024), dtype=np.uint8)
    small = narrowed(levels)
    assert small.shape == (5, 256)
    assert small[2, 17] == pytest.approx(levels[2].reshape(32, 32)[2:4, 2:4].mean() / 255)
    vectors = rng.standard_normal((5, 600)).astype(np.float32)
    np.testing.assert_allclose(narrowed(vectors)[3:], narrowed(vectors[3:]), atol=1e-6)
