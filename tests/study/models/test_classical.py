"""Classical models: fitted inside, grouped folds, honest convergence, the same numbers in every run."""

import warnings

import numpy as np
import pytest

from deferred import deferred

with deferred:
    from sklearn.metrics import f1_score
    from sklearn.model_selection import StratifiedGroupKFold

    from leakfree_study.models import classical
    from leakfree_study.models.classical import (
        MODELS,
        Search,
        converged,
        estimator,
        grouped_folds,
        search,
        search_table,
    )
    from leakfree_study.models.pixel_models import OrderedForest, to_unit


def tiny(classes=3, patients=60, size=6, seed=0):
    """Images whose class brightens one corner; two to four images a patient."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(patients), rng.integers(2, 5, patients))
    y = groups % classes
    X = rng.integers(60, 120, (len(y), size, size))
    for c in range(classes):
        X[y == c, c, :] += 25
    return X.astype(np.uint8).reshape(len(y), -1), y, groups


FAST = {"logistic_regression": {}, "random_forest": {"n_estimators": 20}, "xgboost": {"n_estimators": 8}}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("model", FAST)
def test_models_learn_and_give_probabilities(model, classes):
    assert set(FAST) == set(MODELS)
    X, y, groups = tiny(classes)
    held_out = groups >= 45
    fitted = estimator(model, classes, 1, 1, **FAST[model]).fit(X[~held_out], y[~held_out])
    p = fitted.predict_proba(X[held_out])
    assert p.shape == (held_out.sum(), classes)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert fitted.classes_.tolist() == list(range(classes))
    assert f1_score(y[held_out], fitted.predict(X[held_out]), average="macro") > 0.75
    assert (fitted.predict(X[held_out]) == p.argmax(axis=1)).all()


@pytest.mark.parametrize("model", FAST)
def test_threads_do_not_change_a_digit(model):
    X, y, _ = tiny()
    one, two = (estimator(model, 3, 7, jobs, **FAST[model]).fit(X, y).predict_proba(X) for jobs in (1, 2))
    assert np.array_equal(one, two)


def test_forest_predicts_on_one_thread_and_restores_its_setting(monkeypatch):
    X, y, _ = tiny()
    forest = OrderedForest(5, n_jobs=2, random_state=0).fit(X, y)
    seen = []
    inner = classical.OrderedForest.__mro__[1].predict_proba
    monkeypatch.setattr(
        OrderedForest.__mro__[1], "predict_proba", lambda self, X: seen.append(self.n_jobs) or inner(self, X)
    )
    forest.predict(X)
    assert seen == [1]
    assert forest.n_jobs == 2


@pytest.mark.parametrize("model", ["random_forest", "xgboost"])
def test_seed_reaches_the_model(model):
    X, y, _ = tiny()
    a, b = (estimator(model, 3, seed, 1, **FAST[model]).fit(X, y).predict_proba(X) for seed in (1, 2))
    assert not np.array_equal(a, b)


def test_pixels_become_unit_floats_and_nothing_else_is_accepted():
    X = np.array([[0, 255, 51]], np.uint8)
    out = to_unit(X)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, [[0, 1, 0.2]], rtol=1e-6)
    with pytest.raises(ValueError, match="uint8"):
        to_unit(out)
    with pytest.raises(ValueError, match="shape"):
        to_unit(X.reshape(1, 3, 1))


def test_centring_is_fitted_on_the_training_rows_and_leaves_the_input_alone():
    X, y, _ = tiny(2)
    before = X.copy()
    fitted = estimator("logistic_regression", 2, 0).fit(X[:50], y[:50])
    fitted.predict(X)
    np.testing.assert_allclose(fitted["centre"].mean_, X[:50].mean(axis=0) / 255, rtol=1e-5)
    assert np.array_equal(X, before)


def test_convergence_is_reported_and_not_printed():
    X, y, _ = tiny(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stopped = estimator("logistic_regression", 3, 0, solver="lbfgs", max_iter=2).fit(X, y)
        one_class_short = estimator("logistic_regression", 3, 0, solver="liblinear", max_iter=1).fit(X, y)
        done = estimator("logistic_regression", 3, 0, solver="lbfgs").fit(X, y)
    assert not converged(stopped)
    assert not converged(one_class_short)
    assert converged(done)
    assert converged(estimator("random_forest", 3, 0, n_estimators=2).fit(X, y))


def test_solvers_agree_on_two_classes():
    X, y, _ = tiny(2)
    a, b = (
        estimator("logistic_regression", 2, 0, solver=s, C=0.1, tol=1e-7).fit(X, y).predict_proba(X)
        for s in ("liblinear", "lbfgs")
    )
    np.testing.assert_allclose(a, b, atol=0.01)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: estimator("svm", 2, 0), "unknown model 'svm'"),
        (lambda: estimator("xgboost", 1, 0), "at least 2 classes"),
        (lambda: estimator("random_forest", 2, 0, trees=3), "unknown setting of random_forest: trees"),
        (lambda: estimator("xgboost", 2, 0, max_dept=3), "unknown setting of xgboost: max_dept"),
        (lambda: search("random_forest", *tiny(2), Search(1, 2, seed=0)), "no candidates"),
    ],
)
def test_errors_say_what(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_search_refuses_class_numbers_with_a_gap():
    X, y, groups = tiny(2)
    with pytest.raises(ValueError, match="without gaps"):
        search("logistic_regression", X, y * 2, groups, Search(1, 2, seed=0))


def test_folds_never_split_a_group_and_cover_every_row_once():
    _, y, groups = tiny()
    folds = grouped_folds(y, groups, folds=3, seed=5)
    for train, held_out in folds:
        assert not set(groups[train]) & set(groups[held_out])
        assert set(y[train]) == set(y[held_out]) == {0, 1, 2}
    assert sorted(np.concatenate([f[1] for f in folds])) == list(range(len(y)))
    again, other = (grouped_folds(y, groups, folds=3, seed=s) for s in (5, 6))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(folds, again, strict=True))
    assert not all(np.array_equal(a[1], b[1]) for a, b in zip(folds, other, strict=True))


def test_folds_refuse_too_few_groups():
    _, y, groups = tiny(3, patients=6)
    with pytest.raises(ValueError, match="2 linked groups"):
        grouped_folds(y, groups, folds=3, seed=0)


def test_folds_refuse_a_fold_without_a_class(monkeypatch):
    _, y, groups = tiny(2)
    rows = np.arange(len(y))
    monkeypatch.setattr(StratifiedGroupKFold, "split", lambda *a: iter([(rows[y == 0], rows[y == 1])]))
    with pytest.raises(ValueError, match="fold 0 of 2 lacks a class"):
        grouped_folds(y, groups, folds=2, seed=0)


@pytest.mark.parametrize("model", ["logistic_regression", "xgboost"])
def test_search_uses_the_groups_and_its_table_is_tidy(model):
    X, y, groups = tiny()
    found = search(model, X, y, groups, Search(4, 2, seed=3, n_jobs=1), **FAST[model])
    assert all(not set(groups[a]) & set(groups[b]) for a, b in found.cv)
    table = search_table(found)
    settings = sorted(classical.SPACES[model])
    assert list(table) == ["model", *settings, "macro_f1_mean", "macro_f1_sd", "folds", "converged", "rank"]
    assert (table["model"] == model).all()
    assert len(table) == 4
    assert not table.duplicated(settings).any()
    assert table["rank"].is_monotonic_increasing
    assert table.loc[0, "macro_f1_mean"] == table["macro_f1_mean"].max() == found.best_score_
    best = found.best_estimator_.named_steps["classifier"].get_params()
    assert {name: best[name] for name in settings} == table.loc[0, settings].to_dict()
    # The score is what fitting the best candidate by hand on the same folds gives.
    by_hand = []
    for train, held_out in grouped_folds(y, groups, folds=2, seed=3):
        chosen = {name: table.loc[0, name] for name in settings}
        fitted = estimator(model, 3, 3, **FAST[model], **chosen).fit(X[train], y[train])
        by_hand.append(f1_score(y[held_out], fitted.predict(X[held_out]), average="macro"))
    assert table.loc[0, "macro_f1_mean"] == pytest.approx(np.mean(by_hand), abs=1e-12)
    assert table.loc[0, "macro_f1_sd"] == pytest.approx(np.std(by_hand), abs=1e-12)


def test_search_refits_on_all_rows():
    X, y, groups = tiny(2)
    found = search("logistic_regression", X, y, groups, Search(1, 2, seed=0, n_jobs=1))
    assert found.n_jobs == 1
    np.testing.assert_allclose(found.best_estimator_["centre"].mean_, X.mean(axis=0) / 255, rtol=1e-5)


def test_search_tries_no_candidate_twice_and_honours_a_given_space():
    X, y, groups = tiny(2)
    space = {"C": (0.1, 1.0)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = search("logistic_regression", X, y, groups, Search(9, 2, seed=0, n_jobs=1), space=space)
    assert sorted(search_table(found)["C"]) == [0.1, 1.0]


def test_search_shows_what_did_not_converge():
    X, y, groups = tiny(2)
    space = {"C": (1.0,), "max_iter": (1, 500)}
    found = search("logistic_regression", X, y, groups, Search(2, 2, seed=0, n_jobs=1), space=space)
    table = search_table(found).set_index("max_iter")
    assert table.loc[1, "converged"] == 0
    assert table.loc[500, "converged"] == 1
