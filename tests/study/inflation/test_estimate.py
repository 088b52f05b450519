"""The estimator of inflation: against naive computations, and what makes it count patients, not images."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deferred import deferred

with deferred:
    from scipy import stats
    from sklearn.metrics import f1_score, roc_auc_score

    from leakfree_study.inflation import estimate
    from leakfree_study.inflation.estimate import (
        Scored,
        arm_values,
        check_paired,
        holm,
        inflation,
        patient_counts,
        summarise,
        swap_test,
        verdict,
    )

N_PATIENTS = 40


def softmax(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def arms(seed=0, *, k=2, draws=3, n=30, effect=0.0, noise=0.5):
    """Two arms over draws that test some of `N_PATIENTS` patients with two images each; few ties."""
    rng = np.random.default_rng(seed)
    classes = np.arange(N_PATIENTS) % k
    signal = rng.normal(size=(N_PATIENTS, k))
    clean, leaky = [], []
    for _ in range(draws):
        patients = np.repeat(np.sort(rng.permutation(N_PATIENTS)[: n // 2]), 2)
        patients[:k] = np.arange(k)  # each class occurs
        truth = classes[patients]
        right = np.eye(k)[truth]
        for arm, more in ((clean, 0.0), (leaky, effect)):
            scores = signal[patients] + (0.5 + more) * right + noise * rng.normal(size=(len(patients), k))
            arm.append(Scored(patients, truth, np.round(softmax(scores), 2)))
    return clean, leaky


def naive(scored, metric, images):
    """The metric of some images, an image as often as it is named."""
    truth, found = scored.truth[images], scored.probabilities[images]
    k = found.shape[1]
    if len(np.unique(truth)) < k:
        return np.nan
    if metric == "macro_f1":
        return f1_score(truth, found.argmax(axis=1), average="macro", labels=range(k))
    return np.mean([roc_auc_score(truth == c, found[:, c]) for c in ([1] if k == 2 else range(k))])


def copied(draws, factor, *, new_patients=False):
    """Repeat every image; the copies belong to the image's patient, or to a new one."""
    out = []
    for scored in draws:
        copy = np.repeat(np.arange(factor), len(scored.truth))
        patients = np.tile(scored.patients, factor) + (N_PATIENTS * copy if new_patients else 0)
        out.append(
            Scored(patients, np.tile(scored.truth, factor), np.tile(scored.probabilities, (factor, 1)))
        )
    return out


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    k=st.sampled_from([2, 3]),
    draws=st.integers(1, 4),
    metric=st.sampled_from(["roc_auc", "macro_f1"]),
)
def test_the_estimate_and_its_resamples_agree_with_a_naive_computation(seed, k, draws, metric):
    clean, leaky = arms(seed, k=k, draws=draws, effect=1.0)
    counts = patient_counts(N_PATIENTS, 4, seed)
    # Patient by patient, in all draws and both arms the same.
    expected = np.empty((draws, len(counts)))
    for d in range(draws):
        for b, count in enumerate(counts):
            images = np.repeat(np.arange(len(clean[d].truth)), count[clean[d].patients].astype(int))
            expected[d, b] = naive(leaky[d], metric, images) - naive(clean[d], metric, images)
    values = arm_values(leaky, metric, counts) - arm_values(clean, metric, counts)
    np.testing.assert_allclose(values, expected, atol=1e-12)

    found = inflation(clean, leaky, metric, counts)
    assert found.estimate == pytest.approx(expected[:, 0].mean(), abs=1e-12)
    assert found.by_draw == pytest.approx(tuple(expected[:, 0]), abs=1e-12)
    spread = expected[:, 1:].mean(axis=0)
    spread = spread[~np.isnan(spread)]
    if len(spread) > 1:
        assert found.sd == pytest.approx(np.std(spread, ddof=1), abs=1e-12)


def test_interval_and_p_value_are_those_of_t_with_the_rarest_class():
    clean, leaky = arms(3, effect=0.4)
    counts = patient_counts(N_PATIENTS, 400, 1)
    found = inflation(clean, leaky, "roc_auc", counts)
    by_class = [set(), set()]
    for scored in clean:
        for patient, c in zip(scored.patients, scored.truth, strict=True):
            by_class[c].add(int(patient))
    assert found.n_by_class == tuple(map(len, by_class))
    assert found.n_patients == len(by_class[0] | by_class[1])
    assert found.draws == 3
    t = stats.t(min(found.n_by_class) - 1)
    reach = t.ppf(0.975) * found.sd
    assert (found.low, found.high) == pytest.approx((found.estimate - reach, found.estimate + reach))
    assert found.p == pytest.approx(2 * t.sf(found.estimate / found.sd))
    assert 0 < found.sd < 0.2


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    centre=st.floats(-0.3, 0.3),
    null=st.sampled_from([0.0, 0.5, -0.1]),
    level=st.sampled_from([0.8, 0.95, 0.99]),
)
def test_the_interval_leaves_out_the_null_exactly_where_the_p_value_is_small(seed, centre, null, level):
    draws, _ = arms(seed)
    values = null + centre + 0.1 * np.random.default_rng(seed).normal(size=(3, 50))
    found = summarise(values, draws, null=null, level=level)
    if abs(found.p - (1 - level)) > 1e-9:
        assert (found.low <= null <= found.high) == (found.p > 1 - level)
    mirrored = summarise(2 * null - values, draws, null=null, level=level)
    assert mirrored.p == pytest.approx(found.p)
    assert mirrored.sd == pytest.approx(found.sd)


def test_counts_draw_as_many_patients_as_there_are_and_begin_with_the_sample():
    counts = patient_counts(12, 3000, 5)
    assert counts.shape == (3001, 12)
    assert (counts[0] == 1).all()
    assert (counts.sum(axis=1) == 12).all()
    assert np.array_equal(counts, counts.round())
    assert np.array_equal(counts, patient_counts(12, 3000, 5))
    assert not np.array_equal(counts, patient_counts(12, 3000, 6))
    # Multinomial: mean 1, variance 11/12, covariance -1/12.
    cov = np.cov(counts[1:].T)
    assert abs(np.diag(cov) - 11 / 12).max() < 0.12
    assert abs(cov[~np.eye(12, dtype=bool)] + 1 / 12).max() < 0.09


def test_copies_of_images_are_no_evidence_and_new_patients_are():
    clean, leaky = arms(7, draws=4, effect=0.5)
    once = inflation(clean, leaky, "roc_auc", patient_counts(N_PATIENTS, 1500, 2))
    same = inflation(copied(clean, 3), copied(leaky, 3), "roc_auc", patient_counts(N_PATIENTS, 1500, 3))
    assert same.estimate == pytest.approx(once.estimate)
    assert (same.n_patients, same.n_by_class) == (once.n_patients, once.n_by_class)
    assert same.sd == pytest.approx(once.sd, rel=0.08)
    assert same.high - same.low == pytest.approx(once.high - once.low, rel=0.08)
    fooled = inflation(
        copied(clean, 3, new_patients=True),
        copied(leaky, 3, new_patients=True),
        "roc_auc",
        patient_counts(3 * N_PATIENTS, 1500, 3),
    )
    assert fooled.estimate == pytest.approx(once.estimate)
    assert fooled.n_patients == 3 * once.n_patients
    assert fooled.sd == pytest.approx(once.sd / np.sqrt(3), rel=0.12)


def test_a_patient_of_several_draws_moves_together():
    clean, leaky = arms(8, draws=1, effect=0.5)
    counts = patient_counts(N_PATIENTS, 1500, 2)
    once = inflation(clean, leaky, "roc_auc", counts)
    # The same draw again and again says nothing new ...
    again = inflation(clean * 9, leaky * 9, "roc_auc", counts)
    assert again.draws == 9
    assert (again.low, again.high, again.p) == pytest.approx((once.low, once.high, once.p))
    # ... but would, if other patients were in it.
    others = [
        [replace(arm[0], patients=arm[0].patients + N_PATIENTS * d) for d in range(9)]
        for arm in (clean, leaky)
    ]
    more = inflation(*others, "roc_auc", patient_counts(9 * N_PATIENTS, 1500, 2))
    assert more.estimate == pytest.approx(once.estimate)
    assert more.sd == pytest.approx(once.sd / 3, rel=0.12)


def test_a_leak_that_changes_nothing_is_no_finding():
    clean, _ = arms(1, k=3)
    leaky = [replace(scored, probabilities=scored.probabilities.copy()) for scored in clean]
    for metric in ("roc_auc", "macro_f1"):
        found = inflation(clean, leaky, metric, patient_counts(N_PATIENTS, 50, 0))
        assert (found.estimate, found.low, found.high, found.p, found.sd) == (0, 0, 0, 1, 0)
    assert swap_test(clean, leaky, n_permutations=50) == 1
    # A monotone change of the scores is none to the ranks.
    squeezed = [replace(s, probabilities=s.probabilities**3) for s in clean]
    assert swap_test(clean, squeezed, n_permutations=50) == 1
    assert inflation(clean, squeezed, "roc_auc", patient_counts(N_PATIENTS, 50, 0)).p == 1


def test_a_strong_leak_is_found_and_has_its_sign():
    clean, leaky = arms(2, draws=5, effect=3.0)
    counts = patient_counts(N_PATIENTS, 300, 0)
    found = inflation(clean, leaky, "roc_auc", counts)
    assert found.estimate > 0.15
    assert 0 < found.low < found.estimate < found.high
    assert found.p < 1e-3
    back = inflation(leaky, clean, "roc_auc", counts)
    assert (back.estimate, back.low, back.high) == pytest.approx((-found.estimate, -found.high, -found.low))
    assert back.p == pytest.approx(found.p)


def test_weights_of_images_enter_as_copies_would():
    clean, leaky = arms(4)
    rng = np.random.default_rng(0)
    counts = patient_counts(N_PATIENTS, 20, 0)
    weights = [rng.integers(1, 4, len(s.truth)) for s in clean]
    weighted = [
        [replace(s, weights=w.astype(float)) for s, w in zip(arm, weights, strict=True)]
        for arm in (clean, leaky)
    ]
    repeated = [
        [
            Scored(np.repeat(s.patients, w), np.repeat(s.truth, w), np.repeat(s.probabilities, w, axis=0))
            for s, w in zip(arm, weights, strict=True)
        ]
        for arm in (clean, leaky)
    ]
    np.testing.assert_allclose(
        inflation(*weighted, "roc_auc", counts).by_draw, inflation(*repeated, "roc_auc", counts).by_draw
    )
    np.testing.assert_allclose(
        arm_values(weighted[1], "roc_auc", counts), arm_values(repeated[1], "roc_auc", counts)
    )


def test_resamples_that_leave_a_class_out_are_dropped_and_too_few_give_no_p_value():
    draws, _ = arms(0)
    values = np.array([[0.2, 0.1, 0.3, np.nan], [0.4, 0.3, 0.5, 9.0], [0.3, 0.2, 0.4, 9.0]])
    found = summarise(values, draws)
    assert found.estimate == pytest.approx(0.3)
    assert found.sd == pytest.approx(np.std([0.2, 0.4], ddof=1))
    with pytest.warns(RuntimeWarning):
        nothing = summarise(values[:, [0, 3]], draws)
    # Not knowing the spread is no proof of inflation.
    assert np.isnan(nothing.p)
    assert verdict(nothing.estimate, nothing.low, nothing.high, nothing.p, 0.02) == "undecided"


def test_patients_are_counted_once_over_draws():
    one = Scored(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), np.full((4, 3), 1 / 3))
    two = Scored(np.array([2, 5]), np.array([0, 1]), np.full((2, 3), 1 / 3))
    assert estimate.tested([one, two]) == (4, (2, 3, 0))


def test_arms_that_are_not_paired_are_refused():
    clean, leaky = arms(0)
    moved = [replace(leaky[0], patients=leaky[0].patients[::-1]), *leaky[1:]]
    relabelled = [replace(leaky[0], truth=1 - leaky[0].truth), *leaky[1:]]
    shorter = [Scored(s.patients[1:], s.truth[1:], s.probabilities[1:]) for s in leaky]
    for other in (moved, relabelled, shorter, leaky[::-1]):
        for call in (
            lambda a, b: check_paired(a, b),
            lambda a, b: inflation(a, b, "roc_auc", patient_counts(N_PATIENTS, 5, 0)),
            lambda a, b: swap_test(a, b, n_permutations=5),
        ):
            with pytest.raises(ValueError, match="same images"):
                call(clean, other)
    for other in (leaky[:2], []):
        with pytest.raises(ValueError, match="draws"):
            check_paired(clean, other)
    with pytest.raises(ValueError, match="0 and 0 draws"):
        check_paired([], [])


def test_holm_of_a_known_example():
    # By hand: 0.005*4, 0.01*3, 0.03*2, and 0.04*1 raised to the step before it.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.7]), [1, 1])
    np.testing.assert_allclose(holm([0.2]), [0.2])
    assert len(holm([])) == 0


@settings(max_examples=100, deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_of_bonferroni(p):
    # The largest p-value of any set of hypotheses that holds this one.
    m = range(len(p))
    sets = [s for n in range(1, len(p) + 1) for s in combinations(m, n)]
    expected = [max(min(1, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in m]
    np.testing.assert_allclose(holm(p), expected, atol=1e-15)


@pytest.mark.parametrize(
    ("estimate", "low", "high", "p", "words"),
    [
        (0.10, 0.05, 0.15, 0.001, "inflates"),
        (0.010, 0.005, 0.015, 0.001, "inflates, by less than the margin"),
        (-0.10, -0.15, -0.05, 0.001, "deflates"),
        (-0.010, -0.015, -0.005, 0.001, "deflates, by less than the margin"),
        (0.001, -0.010, 0.012, 0.8, "no difference, to within the margin"),
        (0.001, -0.010, 0.020, 0.8, "undecided"),
        (0.001, -0.020, 0.012, 0.8, "undecided"),
        (0.05, 0.01, 0.09, 0.06, "undecided"),
        (0.05, -0.05, 0.15, 0.3, "undecided"),
        (np.nan, np.nan, np.nan, np.nan, "undecided"),
    ],
)
def test_verdicts(estimate, low, high, p, words):
    assert verdict(estimate, low, high, p, 0.02) == words


def exchangeable(seed):
    """Arms that differ by chance alone: a patient's images have a common deviation, the same in all draws."""
    rng = np.random.default_rng(seed)
    n = 16
    patients = np.repeat(np.arange(n), 4)
    truth = patients % 2
    own = rng.normal(size=(2, n))
    return [
        [
            Scored(patients, truth, np.column_stack([-score, score]))
            for score in (own[arm][patients] + truth + 0.2 * rng.normal(size=len(patients)) for _ in range(2))
        ]
        for arm in range(2)
    ]


def test_the_swap_test_rejects_as_often_as_it_says():
    p = np.array([swap_test(*exchangeable(seed), n_permutations=99, seed=seed) for seed in range(200)])
    # Swapping images instead of patients rejects about half of the time here.
    assert stats.binomtest(int((p <= 0.1).sum()), len(p), 0.1).pvalue > 0.005
    assert stats.kstest(p, "uniform").pvalue > 0.005


def test_the_swap_test_finds_a_strong_difference_and_is_seeded():
    clean, leaky = arms(2, draws=3, effect=3.0)
    p = swap_test(clean, leaky, n_permutations=500)
    assert p == pytest.approx(1 / 501)
    assert swap_test(leaky, clean, n_permutations=500) == p
    weak = arms(5, draws=3, effect=0.3)
    values = [swap_test(*weak, n_permutations=300, seed=seed) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    assert 1 / 301 < values[0] < 1


def test_the_swap_test_of_three_classes_agrees_with_sklearn():
    clean, leaky = arms(3, k=3, draws=2, effect=0.1)
    n_patients = 1 + max(int(scored.patients.max()) for scored in clean)
    swapped = np.random.default_rng(3).random((60, n_patients)) < 0.5
    statistics = []
    for row in [np.zeros(n_patients, dtype=bool), *swapped]:
        total = 0
        for a, b in zip(clean, leaky, strict=True):
            mine = row[a.patients]
            for c in range(3):
                x, y = (stats.rankdata(arm.probabilities[:, c]) for arm in (a, b))
                truth = a.truth == c
                total += roc_auc_score(truth, np.where(mine, y, x))
                total -= roc_auc_score(truth, np.where(mine, x, y))
        statistics.append(abs(total))
    expected = (1 + sum(value >= statistics[0] - 1e-12 for value in statistics[1:])) / 61
    assert 2 / 61 < expected < 1
    assert swap_test(clean, leaky, n_permutations=60, seed=3) == pytest.approx(expected)


def test_the_swap_test_has_no_answer_where_a_class_is_missing():
    clean, leaky = arms(2, effect=3.0)
    alone = [[replace(s, truth=np.zeros_like(s.truth)) for s in arm] for arm in (clean, leaky)]
    assert np.isnan(swap_test(*alone, n_permutations=20))
