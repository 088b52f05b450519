"""Folds and a pipeline step refuse a group on both sides, in scikit-learn's own functions."""

import json

import numpy as np
import pytest

from deferred import deferred

with deferred:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from leakfree.gates.folds import KnownRows, LedgerCV, LedgerStep
    from leakfree.ledger.ledger import LedgerError


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 4)), rng.integers(0, 2, 60), np.array([f"p{n // 3}" for n in range(60)])


def test_group_folds_pass_and_are_recorded(data, tmp_path):
    X, y, groups = data
    cv = LedgerCV(GroupKFold(5), ids=[f"film{n}" for n in range(60)])
    assert np.isfinite(cross_val_score(LogisticRegression(), X, y, groups=groups, cv=cv)).all()
    record = json.loads(cv.record(tmp_path / "folds.json").read_text())
    assert len(record["folds"]) == 5
    assert sorted(name for fold in record["folds"] for name in fold["test"]) == sorted(cv.ids)


def test_folds_across_groups_are_refused(data):
    X, y, groups = data
    with pytest.raises(LedgerError, match="fold 0 of KFold: group 'p"):
        cross_val_score(
            LogisticRegression(), X, y, groups=groups, cv=LedgerCV(KFold(5, shuffle=True, random_state=0))
        )
    with pytest.raises(LedgerError, match="folds need groups"):
        cross_val_score(LogisticRegression(), X, y, cv=LedgerCV(GroupKFold(5)))


@pytest.mark.parametrize("unknown", [None, "", float("nan")])
def test_a_row_without_a_group_is_refused(data, unknown):
    X, y, groups = data
    groups = groups.astype(object)
    groups[7] = unknown
    with pytest.raises(LedgerError, match="1 rows have no group"):
        list(LedgerCV(KFold(5)).split(X, y, groups))


def test_a_search_over_settings_takes_it(data):
    X, y, groups = data
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, cv=LedgerCV(GroupKFold(3)))
    assert search.fit(X, y, groups=groups).best_params_["C"] in (0.1, 1)


def test_a_pipeline_refuses_other_rows_of_groups_that_it_was_fitted_to(data):
    X, y, groups = data
    rows = KnownRows(X, groups)
    pipe = make_pipeline(LedgerStep(rows), StandardScaler(), LogisticRegression())
    pipe.fit(X[:30], y[:30])
    assert len(pipe.predict(X[30:])) == 30  # patients that are new
    assert len(pipe.predict(X[:30])) == 30  # a training score
    assert set(rows.consumed["fit"]) == set(range(30)) and rows.consumed["transform"][31] == 1
    pipe.fit(X[:31], y[:31])
    with pytest.raises(LedgerError, match="2 rows, such as row 31, are of groups"):
        pipe.predict(X[31:])
    with pytest.raises(LedgerError, match="not among the known ones"):
        pipe.predict(X + 1)


def test_in_folds_by_row_the_pipeline_raises(data):
    X, y, groups = data
    pipe = make_pipeline(LedgerStep(KnownRows(X, groups)), LogisticRegression())
    folds = KFold(5, shuffle=True, random_state=0)
    with pytest.raises(LedgerError, match="of groups that were trained on"):
        cross_val_score(pipe, X, y, cv=folds, error_score="raise")
    assert np.isfinite(
        cross_val_score(pipe, X, y, groups=groups, cv=GroupKFold(5), error_score="raise")
    ).all()


def test_rows_of_the_same_content_are_one_group_whatever_they_are_called(data):
    X, y, groups = data
    X[40] = X[3]
    pipe = make_pipeline(LedgerStep(KnownRows(X, groups)), LogisticRegression()).fit(X[:30], y[:30])
    with pytest.raises(LedgerError, match="of groups that were trained on"):
        pipe.predict(X[39:])  # rows 39 and 41 are of the patient of row 40
