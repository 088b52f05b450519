from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deferred import deferred
from leakfree.scores import metrics as module
from leakfree.scores.metrics import (
    RATES,
    bootstrap,
    confusion,
    difference,
    evaluate,
    point_estimates,
    roc_points,
    weighted_metric,
    weighted_sensitivity,
)
from leakfree.scores.predictions import check_predictions

with deferred:
    from sklearn.metrics import (
        accuracy_score,
        average_precision_score,
        f1_score,
        recall_score,
        roc_auc_score,
        roc_curve,
    )

CLASSES = ("normal", "bacterial", "viral")


def make(labels, probabilities, patients=None, part="test"):
    labels = np.asarray(labels)
    k = probabilities.shape[1]
    frame = pd.DataFrame({"image_id": [f"i{i}" for i in range(len(labels))]})
    frame["patient"] = frame["image_id"] if patients is None else [f"p{p}" for p in patients]
    frame["part"] = part
    frame["label"] = [CLASSES[c] for c in labels]
    for c in range(k):
        frame[f"p_{CLASSES[c]}"] = probabilities[:, c]
    frame["seed"] = 0
    return check_predictions(frame)


def random_predictions(n, k, seed, decimals=6, n_patients=None):
    """Each class occurs; few decimals make ties."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(k), rng.integers(k, size=n - k)])
    signal = rng.normal(size=(n, k))
    signal[np.arange(n), labels] += 1
    steps = 10**decimals
    parts = np.floor(steps * np.exp(signal) / np.exp(signal).sum(axis=1, keepdims=True))
    parts[:, 0] += steps - parts.sum(axis=1)
    patients = None if n_patients is None else rng.integers(n_patients, size=n)
    return make(labels, parts / steps, patients)


def sensitivity(positive, scores, weights=None):
    """Try every threshold: the highest sensitivity where a tenth of the negatives at most lies above."""
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype=float)
    all_positive, all_negative = weights[positive].sum(), weights[~positive].sum()
    if not (all_positive and all_negative):
        return np.nan
    best = 0.0
    for threshold in [*scores, np.inf]:
        called = scores >= threshold
        # In tenths: whole weights stay exact.
        if 10 * weights[called & ~positive].sum() <= all_negative:
            best = max(best, weights[called & positive].sum() / all_positive)
    return best


def oracle_metric(predictions, metric, weights):
    labels, p = predictions.labels, predictions.probabilities
    k = p.shape[1]
    if metric == "accuracy":
        return accuracy_score(labels, predictions.predicted, sample_weight=weights)
    if metric == "macro_f1":
        return f1_score(
            labels, predictions.predicted, average="macro", sample_weight=weights, labels=range(k)
        )
    classes = [1] if k == 2 else range(k)
    if metric == "sensitivity_at_90_specificity":
        return np.mean([sensitivity(labels == c, p[:, c], weights) for c in classes])
    score = roc_auc_score if metric == "roc_auc" else average_precision_score
    return np.mean([score(labels == c, p[:, c], sample_weight=weights) for c in classes])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(6, 40),
    k=st.sampled_from([2, 3]),
    decimals=st.sampled_from([1, 2, 6]),
    counts=st.booleans(),
    metric=st.sampled_from(module.METRICS),
)
def test_weighted_metrics_agree_with_others(seed, n, k, decimals, counts, metric):
    predictions = random_predictions(n, k, seed, decimals)
    rng = np.random.default_rng(seed + 1)
    weights = rng.poisson(1.0, size=(3, n)).astype(float) if counts else rng.random((3, n))
    weights[:, :k] += 1  # each class keeps an image: sklearn is defined
    ours = weighted_metric(predictions, metric, weights)
    theirs = [oracle_metric(predictions, metric, row) for row in weights]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def test_ties_count_one_half():
    p = np.array([[0.5, 0.5], [0.5, 0.5], [0.2, 0.8], [0.9, 0.1]])
    predictions = make([0, 1, 1, 0], p)
    # Of four pairs three are won and one is tied.
    assert point_estimates(predictions, ["roc_auc"]) == {"roc_auc": 3.5 / 4}
    # The tie in the middle is one step: 1/2 * 1 + 1/2 * 2/3.
    assert point_estimates(predictions, ["average_precision"])["average_precision"] == pytest.approx(5 / 6)


@settings(max_examples=200, deadline=None)
@given(
    images=st.lists(st.tuples(st.booleans(), st.integers(0, 8), st.integers(0, 4)), min_size=1, max_size=40)
)
def test_sensitivity_agrees_with_every_threshold_tried(images):
    """With ties, images of no weight and absent classes; a whole weight is as many rows of one image."""
    positive, scores, weights = (np.array(column) for column in zip(*images, strict=True))
    scores = scores / 8
    (found,) = weighted_sensitivity(positive, scores, weights[None])
    assert found == pytest.approx(sensitivity(positive, scores, weights), abs=1e-12, nan_ok=True)
    if weights.sum():
        rows = np.repeat(np.arange(len(scores)), weights)
        (repeated,) = weighted_sensitivity(positive[rows], scores[rows], np.ones((1, len(rows))))
        assert found == pytest.approx(repeated, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ("positives", "expected"),
    [
        ([2.0, 3.0, 4.0], 1),  # apart from all negatives
        ([0.05, 0.85, 0.95, 0.95], 3 / 4),  # the highest negative is a tenth of them
        ([0.05, 0.75, 0.95, 0.95], 2 / 4),  # the two highest are more
        ([0.9, 0.95, 0.95], 1),  # tied with the highest
        ([0.8, 0.95, 0.95], 2 / 3),  # tied with the second: taken together with it
        ([-1.0, -1.0], 0),  # below all
    ],
)
def test_sensitivity_leaves_a_tenth_of_the_negatives(positives, expected):
    negatives = np.arange(10) / 10  # 0.0 to 0.9
    positive = np.arange(10 + len(positives)) >= 10
    scores = np.append(negatives, positives)
    (found,) = weighted_sensitivity(positive, scores, np.ones((1, len(scores))))
    assert found == pytest.approx(expected)


def test_sensitivity_of_scores_that_say_nothing():
    positive = np.arange(20_000) % 2 == 0
    scores = np.random.default_rng(0).random(20_000)
    ones = np.ones((1, 20_000))
    # On the diagonal of the ROC curve it is 1 - specificity.
    assert weighted_sensitivity(positive, scores, ones)[0] == pytest.approx(0.1, abs=0.015)
    assert weighted_sensitivity(positive, scores, ones, specificity=0.7)[0] == pytest.approx(0.3, abs=0.02)
    # One score for all: no threshold but the one above it.
    assert weighted_sensitivity(positive, np.full(20_000, 0.5), ones)[0] == 0


def test_sensitivity_of_three_classes_is_their_mean():
    predictions = random_predictions(60, 3, seed=8)
    each = [sensitivity(predictions.labels == c, predictions.probabilities[:, c]) for c in range(3)]
    assert len(set(each)) == 3
    found = point_estimates(predictions, ["sensitivity_at_90_specificity"])
    assert found == {"sensitivity_at_90_specificity": pytest.approx(np.mean(each))}


def test_sensitivity_of_an_absent_class_is_no_number():
    scores = np.linspace(0, 1, 6)
    for positive in (np.ones(6, dtype=bool), np.zeros(6, dtype=bool)):
        assert np.isnan(weighted_sensitivity(positive, scores, np.ones((2, 6)))).all()
    # Also where it is there without weight.
    positive = np.arange(6) < 3
    weights = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    assert np.isnan(weighted_sensitivity(positive, scores, weights)).tolist() == [True, True, False]


@pytest.mark.parametrize("k", [2, 3])
def test_resamples_are_draws_of_whole_patients(k):
    predictions = random_predictions(60, k, seed=3, n_patients=15)
    n_patients = len(np.unique(predictions.patients))
    (_, weights), *rest = module._resamples(predictions.patients, 200, seed=0)
    assert not rest
    assert weights.shape == (200, 60)
    one_each = [np.flatnonzero(predictions.patients == name)[0] for name in np.unique(predictions.patients)]
    assert (weights[:, one_each].sum(axis=1) == n_patients).all()
    for name in np.unique(predictions.patients):
        own = weights[:, predictions.patients == name]
        assert (own == own[:, :1]).all()
    # A patient's count is binomial(n, 1 / n): mean 1, variance (n - 1) / n.
    assert weights[:, one_each].var() == pytest.approx(1 - 1 / n_patients, abs=0.1)
    values = bootstrap(predictions, module.METRICS, n_resamples=200)
    for metric in module.METRICS:
        assert values[metric][17] == pytest.approx(oracle_metric(predictions, metric, weights[17]), abs=1e-12)


def test_intervals_are_percentiles_and_bracket_the_estimate():
    predictions = random_predictions(120, 2, seed=5, n_patients=50)
    table = evaluate(predictions, n_resamples=500, level=0.9)
    assert list(table) == [
        *("metric", "estimate", "low", "high", "n_images", "n_patients"),
        *("n_resamples", "n_undefined", "level", "note"),
    ]
    assert table["metric"].tolist() == ["accuracy", "roc_auc", "macro_f1"]
    assert (table["low"] < table["estimate"]).all()
    assert (table["estimate"] < table["high"]).all()
    assert set(table["n_patients"]) == {len(set(predictions.patients))}
    values = bootstrap(predictions, ["roc_auc"], n_resamples=500)["roc_auc"]
    assert table["low"][1] == np.quantile(values, 0.05)
    assert table["high"][1] == pytest.approx(np.quantile(values, 0.95), abs=1e-15)
    wider = evaluate(predictions, n_resamples=500, level=0.99)
    assert (wider["low"] < table["low"]).all()


def test_same_seed_same_table_whatever_the_blocks_and_the_order_of_rows(monkeypatch):
    predictions = random_predictions(80, 3, seed=1, n_patients=30)
    table = evaluate(predictions, n_resamples=300, seed=4)
    shuffle = np.random.default_rng(0).permutation(80)
    shuffled = make(
        predictions.labels[shuffle],
        predictions.probabilities[shuffle],
        [name[1:] for name in predictions.patients[shuffle]],
    )
    other = evaluate(shuffled, n_resamples=300, seed=4)
    pd.testing.assert_frame_equal(other, table, rtol=0, atol=1e-12)
    monkeypatch.setattr(module, "_BLOCK_CELLS", 80 * 7)
    pd.testing.assert_frame_equal(evaluate(predictions, n_resamples=300, seed=4), table)
    assert not evaluate(predictions, n_resamples=300, seed=5)["low"].equals(table["low"])


def test_undefined_resamples_are_counted_and_dropped():
    # One patient has all viral images: absent from about (1 - 1/10)^10 = 35 % of the resamples.
    rng = np.random.default_rng(0)
    labels = np.array([2, 2] + [0, 1] * 9)
    p = rng.dirichlet([1, 1, 1], size=20)
    table = evaluate(make(labels, p, np.arange(20) // 2), n_resamples=1000).set_index("metric")
    assert table["n_undefined"]["accuracy"] == 0
    assert 270 < table["n_undefined"]["roc_auc"] < 430
    assert table["n_undefined"]["macro_f1"] == table["n_undefined"]["roc_auc"]
    assert table[["estimate", "low", "high"]].notna().all(axis=None)
    assert (table["note"] == "").all()


def test_a_missing_class_gives_nan_and_a_note():
    p = np.random.default_rng(0).dirichlet([1, 1, 1], size=12)
    table = evaluate(make([0, 1] * 6, p), metrics=module.METRICS, n_resamples=50).set_index("metric")
    assert table.loc["accuracy", ["estimate", "low", "high"]].notna().all()
    for metric in set(module.METRICS) - {"accuracy"}:
        assert table.loc[metric, ["estimate", "low", "high"]].isna().all()
        assert table["n_undefined"][metric] == 50
        assert table["note"][metric] == "undefined: no image of class viral"


def test_one_patient_has_no_interval():
    table = evaluate(random_predictions(10, 2, seed=0, n_patients=1), n_resamples=20)
    assert table["estimate"].notna().all()
    assert table[["low", "high"]].isna().all(axis=None)
    assert set(table["note"]) == {"no interval: one patient"}


def test_rates_agree_with_recalls_and_need_two_classes():
    predictions = random_predictions(40, 2, 0)
    recalls = recall_score(predictions.labels, predictions.predicted, average=None)
    points = point_estimates(predictions, RATES)
    assert points["specificity"] == pytest.approx(recalls[0])
    assert points["sensitivity"] == pytest.approx(recalls[1])
    assert points["balanced_accuracy"] == pytest.approx(recalls.mean())
    three = random_predictions(60, 3, 1)
    expected = recall_score(three.labels, three.predicted, average="macro")
    assert point_estimates(three, ("balanced_accuracy",))["balanced_accuracy"] == pytest.approx(expected)
    with pytest.raises(ValueError, match="need two classes"):
        point_estimates(three, ("sensitivity",))


def test_wrong_requests_are_refused():
    predictions = random_predictions(20, 2, seed=0)
    with pytest.raises(ValueError, match="unknown metric 'auc'"):
        evaluate(predictions, metrics=["auc"])
    with pytest.raises(ValueError, match="level"):
        evaluate(predictions, level=95)
    with pytest.raises(ValueError, match="n_resamples"):
        evaluate(predictions, n_resamples=0)
    mixed = make([0, 1] * 4, np.full((8, 2), 0.5), part=["val", "test"] * 4)
    with pytest.raises(ValueError, match="one part, found test, val"):
        evaluate(mixed)


def test_intervals_over_patients_cover_and_intervals_over_images_do_not():
    """True accuracy 0.7; the images of a patient are all alike in how hard they are."""
    n_sets, n_patients, n_each = 200, 60, 8
    rng = np.random.default_rng(11)
    inside = {"patients": 0, "images": 0}
    for _ in range(n_sets):
        chance = np.repeat(rng.beta(1.4, 0.6, size=n_patients), n_each)
        right = rng.random(len(chance)) < chance
        labels = np.arange(len(chance)) % 2
        p = np.where((labels == 1) == right, 0.9, 0.1)
        p = np.column_stack([1 - p, p])
        for unit, patients in (("patients", np.arange(len(chance)) // n_each), ("images", None)):
            row = evaluate(make(labels, p, patients), ["accuracy"], n_resamples=200).iloc[0]
            inside[unit] += row["low"] <= 0.7 <= row["high"]
    # Four standard errors of a proportion of 200; the percentile interval of 60 patients is a little narrow.
    tolerance = 4 * np.sqrt(0.95 * 0.05 / n_sets)
    assert inside["patients"] / n_sets == pytest.approx(0.95, abs=tolerance)
    assert inside["images"] / n_sets < 0.80


def test_confusion_has_true_classes_as_rows():
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8], [0.5, 0.5]])
    table = confusion(make([0, 0, 0, 1, 1], p))
    assert table.index.name == "true"
    assert table.columns.name == "predicted"
    # Equal probabilities go to the first class.
    assert table.loc["normal"].tolist() == [1, 2]
    assert table.loc["bacterial"].tolist() == [1, 1]


@pytest.mark.parametrize("k", [2, 3])
def test_roc_points_agree_with_sklearn(k):
    predictions = random_predictions(50, k, seed=2, decimals=1)
    points = roc_points(predictions)
    assert points["class"].unique().tolist() == (["bacterial"] if k == 2 else list(CLASSES))
    for name, curve in points.groupby("class"):
        c = CLASSES.index(name)
        fpr, tpr, thresholds = roc_curve(
            predictions.labels == c, predictions.probabilities[:, c], drop_intermediate=False
        )
        np.testing.assert_allclose(curve["fpr"], fpr)
        np.testing.assert_allclose(curve["tpr"], tpr)
        np.testing.assert_allclose(curve["threshold"], thresholds)


def test_roc_points_of_a_missing_class_are_left_out():
    p = np.full((4, 3), 1 / 3)
    assert set(roc_points(make([0, 1, 0, 1], p))["class"]) == {"normal", "bacterial"}
    assert list(roc_points(make([0, 0], np.full((2, 2), 0.5)))) == ["class", "threshold", "fpr", "tpr"]


def two_models(seed=0, n=60):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, size=n)
    positive = [np.clip(labels * 0.3 + rng.uniform(0, 0.7, n), 0, 1) for _ in range(2)]
    return [make(labels, np.column_stack([1 - p, p]), patients=np.arange(n) // 2) for p in positive]


def test_a_difference_is_paired():
    first, second = two_models()
    found = difference([first], [second], ("roc_auc", "accuracy"), n_resamples=200, seed=3)
    each = [bootstrap(m, ("roc_auc",), 200, 3)["roc_auc"] for m in (first, second)]
    row = found.set_index("metric").loc["roc_auc"]
    points = [point_estimates(m, ("roc_auc",))["roc_auc"] for m in (first, second)]
    assert row["estimate"] == pytest.approx(points[0] - points[1])
    assert [row["low"], row["high"]] == pytest.approx(np.quantile(each[0] - each[1], [0.025, 0.975]))
    assert (row["n_images"], row["n_patients"]) == (60, 30)
    same = difference([first], [first], n_resamples=50)
    assert (same[["estimate", "low", "high"]] == 0).all(axis=None)


def test_a_difference_of_several_is_that_of_their_mean_scores():
    first, second = two_models()
    third, _ = two_models(seed=0, n=60)
    both = difference([first, second], [third], ("accuracy",), n_resamples=50)["estimate"].iloc[0]
    alone = [
        difference([m], [third], ("accuracy",), n_resamples=50)["estimate"].iloc[0] for m in (first, second)
    ]
    assert both == pytest.approx(np.mean(alone))


def test_a_difference_of_other_images_labels_or_patients_is_refused():
    first, second = two_models()
    others = [
        replace(second, image_ids=second.image_ids[::-1].copy()),
        replace(second, labels=1 - second.labels),
        replace(second, patients=second.image_ids),
    ]
    for other in others:
        with pytest.raises(ValueError, match="the same images, labels and patients"):
            difference([first], [other])
    with pytest.raises(ValueError, match="a model on either side"):
        difference([first], [])
