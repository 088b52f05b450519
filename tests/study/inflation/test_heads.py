"""Models on features: fitted on training rows alone; and a nearest neighbour that knows what it has seen."""

import warnings

import numpy as np
import pytest

from deferred import deferred

with deferred:
    from sklearn.decomposition import PCA
    from sklearn.feature_selection import SelectKBest, f_classif
    from sklearn.metrics import log_loss, roc_auc_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler

    from leakfree_study.inflation.heads import (
        CANDIDATES,
        COMPONENTS,
        EPOCHS,
        HEADS,
        SELECTED,
        C,
        Head,
        by_epoch,
        components,
        neighbours,
        probabilities,
        scaled,
        selected,
    )
    from leakfree_study.inflation.material import FEATURES

MODELS = ("1-nn", "logistic-regression", "random-forest", "xgboost")


def blobs(n, classes, dimensions=6, apart=3.0, seed=0):
    """Return features and labels of Gaussian classes, each along its own direction."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    x = rng.standard_normal((n, dimensions))
    x[np.arange(n), labels] += apart
    return x.astype(np.float32), labels


def setting(head):
    return {"1-nn": 1, "logistic-regression": 0.1}.get(head, 0)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("head", MODELS)
def test_every_model_learns_repeats_itself_and_gives_probabilities(head, classes):
    train, labels = blobs(240, classes)
    test, truth = blobs(90, classes, seed=1)

    def fit(seed, y=labels):
        return probabilities(Head(head, setting(head), seed, trees=12), train, y, test, classes)

    found = fit(0)
    assert found.shape == (90, classes) and found.dtype == np.float64
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert (found >= 0).all()
    assert (found.argmax(axis=1) == truth).mean() > 0.8
    np.testing.assert_array_equal(found, fit(0))
    changed = np.abs(found - fit(1)).max()
    assert changed > 0 if head in ("random-forest", "xgboost") else changed == 0
    # What is learned is the labels: exchanged, the columns are.
    assert (fit(0, (labels + 1) % classes).argmax(axis=1) == (truth + 1) % classes).mean() > 0.8


def test_settings_and_numbers_of_trees_are_used():
    train, labels = blobs(120, 2, apart=1.0)
    test, _ = blobs(60, 2, apart=1.0, seed=1)

    def fit(head, setting, trees=5):
        return probabilities(Head(head, setting, 0, trees), train, labels, test, 2)

    weak, strong = fit("logistic-regression", 1e-4), fit("logistic-regression", 1e-1)
    assert np.abs(weak - 0.5).max() < np.abs(strong - 0.5).max()
    assert np.abs(fit("1-nn", 1) - fit("1-nn", 25)).max() > 0.05
    np.testing.assert_allclose(fit("random-forest", 0) * 5, np.rint(fit("random-forest", 0) * 5), atol=1e-6)
    assert np.abs(fit("xgboost", 0) - fit("xgboost", 0, trees=10)).max() > 0.01


def test_an_unknown_model_is_refused_with_the_known_ones():
    x, y = blobs(10, 2)
    with pytest.raises(ValueError, match=r"unknown model 'svm': expected one of 1-nn, .*xgboost"):
        probabilities(Head("svm", 1, 0), x, y, x, 2)


def test_fixed_settings_are_there_for_all_features_and_tuned_models():
    assert set(C) == set(FEATURES) == {"pixels", "embeddings"}
    assert set(HEADS) == set(MODELS)
    assert set(CANDIDATES) == {"1-nn", "logistic-regression"}
    assert CANDIDATES["1-nn"][0] == 1


@pytest.mark.parametrize("classes", [2, 3])
def test_the_most_probable_class_is_that_of_the_nearest_image(classes):
    train, labels = blobs(150, classes, apart=1.0)
    test, _ = blobs(200, classes, apart=1.0, seed=1)
    found = neighbours(train, labels, test, classes, 1)
    expected = KNeighborsClassifier(1).fit(train, labels).predict(test)
    np.testing.assert_array_equal(found.argmax(axis=1), expected)
    assert len(np.unique(found[:, 0])) == len(test), "the score ranks, unlike a vote"


@pytest.mark.parametrize("k", [1, 3, 500])
def test_scores_are_inverse_mean_distances_to_the_nearest_images_of_each_class(k):
    train, labels = blobs(40, 3)
    test, _ = blobs(15, 3, seed=1)
    inverse = np.empty((15, 3))
    for c in range(3):
        distance = np.linalg.norm(test[:, None].astype(float) - train[labels == c][None], axis=2)
        inverse[:, c] = 1 / np.sort(distance, axis=1)[:, :k].mean(axis=1)
    expected = inverse / inverse.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(neighbours(train, labels, test, 3, k), expected, rtol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_a_image_that_trains_has_probability_one_for_its_class(offset):
    # Long vectors that lie close together: single precision cannot tell them apart.
    rng = np.random.default_rng(0)
    train = (offset + rng.random((300, 1000)) * 0.5).astype(np.float32)
    labels = np.arange(300) % 3
    found = neighbours(train, labels, train[50:120], 3, 1)
    np.testing.assert_allclose(found[np.arange(70), labels[50:120]], 1, atol=1e-6)
    stranger = neighbours(train, labels, (train[:5] + 0.1).astype(np.float32), 3, 1)
    assert stranger.max() < 0.9


def test_pixels_are_centred_grey_levels_and_embeddings_standardised():
    rng = np.random.default_rng(0)
    train, test = (rng.integers(0, 200, (n, 7)).astype(np.uint8) for n in (50, 20))
    train[:, 3] = 17
    x, z = scaled(train, test, features="pixels")
    np.testing.assert_allclose(x, (train - train.mean(axis=0)) / 255, atol=1e-5)
    np.testing.assert_allclose(z, (test - train.mean(axis=0)) / 255, atol=1e-5)
    a, b = (rng.normal(4, 9, (n, 7)).astype(np.float32) for n in (50, 20))
    x, z = scaled(a, b, features="embeddings")
    expected = StandardScaler().fit(a)
    np.testing.assert_allclose(x, expected.transform(a), atol=1e-4)
    np.testing.assert_allclose(z, expected.transform(b), atol=1e-4)
    assert x.dtype == z.dtype == np.float32


@pytest.mark.parametrize("features", ["pixels", "embeddings"])
def test_scaling_measured_on_test_images_too_differs_from_that_on_training_images(features):
    rng = np.random.default_rng(0)
    train, test = (rng.integers(low, high, (30, 5)).astype(np.uint8) for low, high in ((0, 100), (150, 255)))
    if features == "embeddings":
        train, test = train.astype(np.float32), test.astype(np.float32)
    both = np.concatenate([train, test])
    clean = scaled(train, test, features=features, by=train)
    leaky = scaled(train, test, features=features, by=both)
    for values, by in ((clean, train), (leaky, both)):
        expected = StandardScaler().fit(by)
        for found, raw in zip(values, (train, test), strict=True):
            np.testing.assert_allclose(found, expected.transform(raw.astype(np.float64)), atol=1e-3)
    assert np.abs(clean[0] - leaky[0]).max() > 0.5


@pytest.mark.parametrize("value", [0.1, 0.0, 300.3])
def test_a_feature_that_never_changes_in_training_is_not_blown_up(value):
    # Sums of single precision make the spread of a constant a little more than nothing.
    train = np.full((4500, 2), value, dtype=np.float32)
    train[:, 1] = np.random.default_rng(0).random(4500)
    test = np.array([[value + 0.5, 0.5]], dtype=np.float32)
    x, z = scaled(train, test, features="embeddings")
    assert np.abs(x[:, 0]).max() < 1e-3
    assert abs(z[0, 0] - 0.5) < 1e-3


def test_components_are_those_of_the_rows_that_they_are_fitted_on():
    rng = np.random.default_rng(0)
    train = (rng.standard_normal((120, 80)) * np.linspace(1, 5, 80)).astype(np.float32)
    test = (rng.standard_normal((40, 80)) * np.linspace(5, 1, 80)).astype(np.float32)
    both = np.concatenate([train, test])
    clean, leaky = components(train, test, by=train), components(train, test, by=both)
    assert clean[0].shape == (120, COMPONENTS) and clean[1].shape == (40, COMPONENTS)
    for found, by in ((clean, train), (leaky, both)):
        expected = PCA(COMPONENTS, svd_solver="full").fit(by)
        for values, raw in zip(found, (train, test), strict=True):
            # Distances do not depend on the signs of components.
            np.testing.assert_allclose(
                np.linalg.norm(values - values[:1], axis=1),
                np.linalg.norm(expected.transform(raw) - expected.transform(raw[:1]), axis=1),
                rtol=1e-3, atol=1e-3,
            )  # fmt: skip
    assert np.abs(np.abs(clean[1]) - np.abs(leaky[1])).max() > 0.5
    few = components(train[:9], test, by=train[:9])
    assert few[1].shape == (40, 9), "no more than there are rows"


def test_selected_features_are_the_strongest_of_the_rows_that_they_are_chosen_on():
    rng = np.random.default_rng(0)
    train, test = (rng.standard_normal((n, 400)).astype(np.float32) for n in (60, 60))
    labels, truth = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    both, known = np.concatenate([train, test]), np.concatenate([labels, truth])
    clean = selected(train, test, by=train, labels=labels)
    leaky = selected(train, test, by=both, labels=known)
    for found, by, y in ((clean, train, labels), (leaky, both, known)):
        expected = SelectKBest(f_classif, k=SELECTED).fit(by, y)
        np.testing.assert_array_equal(found[0], expected.transform(train))
        np.testing.assert_array_equal(found[1], expected.transform(test))
    assert not np.array_equal(clean[1], leaky[1])
    # On noise, features chosen with the test labels too know something of them.
    leaning = [np.abs(np.corrcoef(found[1].T, truth)[-1, :-1]).mean() for found in (clean, leaky)]
    assert leaning[1] > leaning[0] + 0.03


def test_constant_features_are_selected_last_and_in_silence():
    rng = np.random.default_rng(0)
    x = np.zeros((30, SELECTED + 20), dtype=np.float32)
    x[:, 15:] = rng.standard_normal((30, SELECTED + 5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (kept,) = selected(x, by=x, labels=np.arange(30) % 2)
    assert kept.shape == (30, SELECTED)
    assert (kept.std(axis=0) > 0).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_the_model_by_epochs_learns_step_by_step(classes):
    train, labels = blobs(300, classes, dimensions=10)
    test, truth = blobs(90, classes, dimensions=10, seed=1)
    other, _ = blobs(20, classes, dimensions=10, seed=2)
    history = list(by_epoch(train, labels, [test, other], classes=classes, seed=0))
    assert len(history) == EPOCHS
    assert all([found.shape for found in step] == [(90, classes), (20, classes)] for step in history)
    losses = [log_loss(truth, step[0]) for step in history]
    assert losses[-1] < losses[4] < losses[0]
    if classes == 2:
        assert roc_auc_score(truth, history[-1][0][:, 1]) > 0.9
    again = list(by_epoch(train, labels, [test, other], classes=classes, seed=0))
    other_seed = list(by_epoch(train, labels, [test, other], classes=classes, seed=1))
    for first, second in zip(history, again, strict=True):
        np.testing.assert_array_equal(first[0], second[0])
    assert np.abs(history[0][0] - other_seed[0][0]).max() > 0
