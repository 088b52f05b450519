"""Classical baselines on flattened grey pixels, and their hyperparameter search over grouped folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import ParameterGrid, RandomizedSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from xgboost import XGBClassifier

from leakfree_study.models.pixel_models import LogisticPixels, OrderedForest, to_unit

#: Models in the order of the tables.
MODELS = ("logistic_regression", "random_forest", "xgboost")

#: Settings of a model where the caller gives none.
#: The reference study chose C = 1 with liblinear, and depth 5 with rate 0.1; 100 trees are the
#: libraries' own default. XGBoost sees a tenth of the pixels in each tree and 64 grey levels, which
#: makes a fit several times as fast; the reference study gave it all pixels and 256 levels.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "logistic_regression": {"C": 1.0, "solver": "liblinear", "max_iter": 1000, "tol": 1e-4},
    "random_forest": {"n_estimators": 100},
    "xgboost": {
        "n_estimators": 100,
        "max_depth": 5,
        "learning_rate": 0.1,
        "max_bin": 64,
        "colsample_bytree": 0.1,
    },
}

#: Candidates of the randomized search. The random forest has fixed settings and is not searched.
SPACES: Mapping[str, Mapping[str, Sequence[object]]] = {
    "logistic_regression": {
        "C": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
        "solver": ("liblinear", "lbfgs"),
    },
    "xgboost": {"max_depth": (3, 4, 5, 6), "learning_rate": (0.05, 0.1, 0.2, 0.3)},
}

_CLASSIFIER = "classifier"


def estimator(model: str, task_classes: int, seed: int, n_jobs: int = 1, **params: Any) -> Pipeline:
    """Build an unfitted pipeline from flattened grey pixels to class probabilities.

    Everything that learns from data, the centring of the pixels too, is inside the pipeline, and so
    is fitted on what `fit` is given and on nothing else. The logistic regression has its pixels
    centred and not divided by their standard deviation: all have the same unit already, and the
    division would give the quiet borders of an image the weight of the lungs. Trees need neither.

    Parameters
    ----------
    model : str
        One of `MODELS`.
    task_classes : int
        Number of classes, at least 2; `fit` takes class numbers from 0 to ``task_classes - 1``.
    seed : int
        Seed of whatever the model draws.
    n_jobs : int
        Threads of one fit of a tree model. Results do not depend on it.
    **params
        Settings that replace those of `DEFAULTS`, by the names of the classifier.

    Returns
    -------
    Pipeline
        Takes uint8 pixels, shape (n, pixels); the last step is named ``classifier``.

    Raises
    ------
    ValueError
        If the model or a setting is unknown, or there are fewer than two classes.
    """
    if model not in MODELS:
        raise ValueError(f"unknown model {model!r}: expected one of {', '.join(MODELS)}")
    if task_classes < 2:
        raise ValueError(f"a task needs at least 2 classes, got {task_classes}")
    settings = {**DEFAULTS[model], **params}
    steps = [("unit", FunctionTransformer(to_unit))]
    if model == "logistic_regression":
        steps.append(("centre", StandardScaler(with_std=False, copy=False)))
        classifier = LogisticPixels()
        settings |= {"random_state": seed}
    elif model == "random_forest":
        classifier = OrderedForest()
        settings |= {"random_state": seed, "n_jobs": n_jobs}
    else:
        # Written out, so that a training part that lacks a class fails and does not change the task.
        task = (
            {"objective": "binary:logistic"}
            if task_classes == 2
            else {"objective": "multi:softprob", "num_class": task_classes}
        )
        classifier = XGBClassifier(**task)
        settings |= {"random_state": seed, "n_jobs": n_jobs, "tree_method": "hist", "device": "cpu"}
    unknown = sorted(set(params) - set(classifier.get_params()))
    if unknown:
        raise ValueError(f"unknown setting of {model}: {', '.join(unknown)}")
    return Pipeline([*steps, (_CLASSIFIER, classifier.set_params(**settings))])


def converged(fitted: Pipeline) -> bool:
    """Tell whether a fitted pipeline's optimiser converged; always True for the tree models."""
    return bool(getattr(fitted[-1], "converged_", True))


def _converged_score(fitted: Pipeline, X: np.ndarray, y: np.ndarray) -> float:
    return float(converged(fitted))


def grouped_folds(
    y: np.ndarray, groups: np.ndarray, *, folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw stratified folds that never split a linked group.

    Parameters
    ----------
    y : ndarray of int, shape (n,)
        Class numbers.
    groups : ndarray, shape (n,)
        Linked group of each image.
    folds : int
        Number of folds, at least 2.
    seed : int
        Seed of the shuffle.

    Returns
    -------
    list of (ndarray of int, ndarray of int)
        Row numbers to train on and to validate on, for each fold.

    Raises
    ------
    ValueError
        If there are too few linked groups to give each fold every class on both sides.
    """
    y, groups = np.asarray(y), np.asarray(groups)
    classes = np.unique(y)
    fewest = min(len(np.unique(groups[y == c])) for c in classes)
    if folds < 2 or fewest < folds:
        raise ValueError(
            f"cannot make {folds} grouped folds: need at least 2 folds, and the smallest class has "
            f"{fewest} linked groups"
        )
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    drawn = list(splitter.split(np.empty((len(y), 0)), y, groups))
    for number, sides in enumerate(drawn):
        if any(len(np.unique(y[side])) < len(classes) for side in sides):
            raise ValueError(
                f"fold {number} of {folds} lacks a class: too few linked groups for this many folds"
            )
    return drawn


@dataclass(frozen=True)
class Search:
    """How a search goes about.

    Attributes
    ----------
    n_iter : int
        Candidates to try; all of them if there are fewer.
    folds : int
        Number of folds.
    seed : int
        Seed of the candidates, the folds and the model.
    n_jobs : int or None
        Fits at a time. None takes what `leakfree.base.parallel.workers` has set. Results do not depend
        on it: one fit runs on one thread.
    """

    n_iter: int
    folds: int
    seed: int
    n_jobs: int | None = None


def search(
    model: str,
    X: np.ndarray,
    y: np.ndarray,
    groups: np.ndarray,
    how: Search,
    *,
    space: Mapping[str, Sequence[object]] | None = None,
    **params: Any,
) -> RandomizedSearchCV:
    """Choose hyperparameters by a randomized search on macro F1, and refit on all rows given.

    Parameters
    ----------
    model : str
        A model with candidates: ``logistic_regression`` or ``xgboost``, unless `space` is given.
    X : ndarray of uint8, shape (n, pixels)
        Flattened grey pixels of the training part.
    y : ndarray of int, shape (n,)
        Class numbers from 0 to k - 1, each present.
    groups : ndarray, shape (n,)
        Linked group of each image; no group stands on both sides of a fold.
    how : Search
    space : mapping of str to sequence, optional
        Candidates in place of those in `SPACES`.
    **params
        Fixed settings of the model, as in `estimator`.

    Returns
    -------
    RandomizedSearchCV
        Fitted; ``best_estimator_`` is refitted on all of `X`.

    Raises
    ------
    ValueError
        If the model has no candidates, the class numbers have gaps, or the folds cannot be made.
    """
    space = SPACES.get(model) if space is None else space
    if not space:
        raise ValueError(f"no candidates to search for {model!r}")
    y = np.asarray(y)
    classes = np.unique(y)
    if not np.array_equal(classes, np.arange(len(classes))):
        raise ValueError(f"class numbers must run from 0 without gaps, got {classes.tolist()}")
    candidates = {f"{_CLASSIFIER}__{name}": list(values) for name, values in space.items()}
    found = RandomizedSearchCV(
        estimator(model, len(classes), how.seed, 1, **params),
        candidates,
        n_iter=min(how.n_iter, len(ParameterGrid(candidates))),
        scoring={"macro_f1": make_scorer(f1_score, average="macro"), "converged": _converged_score},
        refit="macro_f1",
        cv=grouped_folds(y, groups, folds=how.folds, seed=how.seed),
        random_state=how.seed,
        n_jobs=how.n_jobs,
        error_score="raise",
    )
    return found.fit(X, y)


def search_table(fitted: RandomizedSearchCV) -> pd.DataFrame:
    """Tabulate a search, one row a candidate, best first.

    Times are left out on purpose: the table is the same in every run with the same seed.

    Parameters
    ----------
    fitted : RandomizedSearchCV
        What `search` returned.

    Returns
    -------
    DataFrame
        Columns ``model``, one for each searched setting, ``macro_f1_mean`` and ``macro_f1_sd`` (mean
        and population standard deviation over the folds), ``folds``, ``converged`` (share of the
        folds whose optimiser converged) and ``rank`` (1 is best; ties share a rank).
    """
    results = fitted.cv_results_
    classifier = fitted.best_estimator_[-1]
    names = {LogisticPixels: MODELS[0], OrderedForest: MODELS[1], XGBClassifier: MODELS[2]}
    columns: dict[str, Any] = {"model": names[type(classifier)]}
    prefix = f"param_{_CLASSIFIER}__"
    for key in sorted(results):
        if key.startswith(prefix):
            columns[key.removeprefix(prefix)] = [p[key.removeprefix("param_")] for p in results["params"]]
    columns |= {
        "macro_f1_mean": results["mean_test_macro_f1"],
        "macro_f1_sd": results["std_test_macro_f1"],
        "folds": fitted.n_splits_,
        "converged": results["mean_test_converged"],
        "rank": results["rank_test_macro_f1"],
    }
    return pd.DataFrame(columns).sort_values("rank", kind="stable", ignore_index=True)
