"""Models on features, with fixed settings: nearest neighbour, logistic regression, forest and XGBoost."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import f_classif
from sklearn.linear_model import LogisticRegression, SGDClassifier
from xgboost import XGBClassifier

HEADS = ("1-nn", "logistic-regression", "random-forest", "xgboost")
#: Inverse strength of the penalty of the logistic regression, by features; fixed before the first run.
C = {"pixels": 0.01, "embeddings": 0.001}
#: Candidates of the tuning: how many neighbours, or C.
CANDIDATES = {"1-nn": (1, 3, 5, 9, 15, 25), "logistic-regression": (1e-4, 1e-3, 1e-2, 1e-1)}
#: Principal components, selected features, and epochs of the logistic regression by gradient steps.
COMPONENTS, SELECTED, EPOCHS = 50, 100, 30
#: Of the forest and of XGBoost. A tree of XGBoost sees a tenth of the features, in 64 levels.
TREES = 100
_XGBOOST = {
    "max_depth": 5,
    "learning_rate": 0.1,
    "max_bin": 64,
    "colsample_bytree": 0.1,
    "tree_method": "hist",
}
_NOTHING = 1e-12


def scaled(
    train: np.ndarray, *others: np.ndarray, features: str, by: np.ndarray | None = None
) -> list[np.ndarray]:
    """Centre features, and divide embeddings by their standard deviation, as measured on some rows.

    Grey levels go from 0 to 1 and are centred only: all have the same unit.

    Parameters
    ----------
    train, *others : numpy.ndarray, shape (n, d)
        What to scale.
    features : str
        ``pixels`` or ``embeddings``.
    by : numpy.ndarray, optional
        Rows to measure on and to divide by their standard deviation whatever the features; `train` without
        it.
    """
    unit = np.float32(1 / 255) if train.dtype == np.uint8 else np.float32(1)
    measured = (train if by is None else by).astype(np.float32) * unit
    # Double precision: else the rounding of long sums gives a constant feature a spread.
    mean = measured.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread = np.ones_like(mean)
    if by is not None or features != "pixels":
        spread = measured.std(axis=0, dtype=np.float64).astype(np.float32)
        spread[spread < _NOTHING] = 1
    return [(values.astype(np.float32) * unit - mean) / spread for values in (train, *others)]


def components(train: np.ndarray, *others: np.ndarray, by: np.ndarray) -> list[np.ndarray]:
    """Project on the first principal components, as fitted on the rows `by`."""
    n = min(COMPONENTS, *by.shape)
    pca = PCA(n, svd_solver="covariance_eigh").fit(by)
    return [pca.transform(values) for values in (train, *others)]


def selected(train: np.ndarray, *others: np.ndarray, by: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Keep the features that an F test on the rows `by` and their labels finds strongest."""
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant features have no F
        strength = np.nan_to_num(f_classif(by, labels)[0], nan=-1.0)
    kept = np.sort(np.argsort(-strength, kind="stable")[:SELECTED])
    return [values[:, kept] for values in (train, *others)]


@dataclass(frozen=True)
class Head:
    """A model on features, and how it is set.

    Attributes
    ----------
    name : str
        One of `HEADS`.
    setting : float
        Neighbours or C, see `CANDIDATES`; the trees take none.
    seed : int
        Of the trees; the others draw nothing.
    trees : int
        Of the forest and of XGBoost.
    """

    name: str
    setting: float
    seed: int
    trees: int = TREES


def probabilities(
    head: Head, train: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int
) -> np.ndarray:
    """Fit a model and predict, on one thread.

    Parameters
    ----------
    head : Head
    train, test : numpy.ndarray of float32, shape (n, d), (m, d)
    labels : numpy.ndarray of int64, shape (n,)
        From 0 to ``classes - 1``.
    classes : int

    Returns
    -------
    numpy.ndarray of float64, shape (m, classes)
    """
    if head.name == "1-nn":
        return neighbours(train, labels, test, classes, int(head.setting))
    if head.name == "logistic-regression":
        model = LogisticRegression(C=head.setting, max_iter=500, tol=1e-3)
    elif head.name == "random-forest":
        model = RandomForestClassifier(head.trees, random_state=head.seed, n_jobs=1)
    elif head.name == "xgboost":
        task = (
            {"objective": "binary:logistic"}
            if classes == 2
            else {"objective": "multi:softprob", "num_class": classes}
        )
        model = XGBClassifier(**task, **_XGBOOST, n_estimators=head.trees, random_state=head.seed, n_jobs=1)
    else:
        raise ValueError(f"unknown model {head.name!r}: expected one of {', '.join(HEADS)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(train, labels).predict_proba(test).astype(np.float64)


def neighbours(train: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int, k: int) -> np.ndarray:
    """Score by the inverse of the mean distance to the k nearest images of each class.

    With k = 1 the most probable class is the nearest neighbour's, and an image that is in training has
    probability 1 for its class; unlike a vote, the score also ranks.

    Returns
    -------
    numpy.ndarray of float64, shape (m, classes)
    """
    # Double precision: an image is at no distance from itself, which single precision does not show.
    train, test = train.astype(np.float64), test.astype(np.float64)
    square = np.einsum("ij,ij->i", test, test)[:, None] + np.einsum("ij,ij->i", train, train)[None, :]
    distance = np.sqrt(np.maximum(square - 2 * (test @ train.T), 0))
    distance[distance < 1e-6 * np.sqrt(square)] = 0
    nearest = np.empty((len(test), classes))
    for c in range(classes):
        own = distance[:, labels == c]
        n = min(k, own.shape[1])
        nearest[:, c] = np.partition(own, n - 1, axis=1)[:, :n].mean(axis=1)
    inverse = 1 / np.maximum(nearest, 1e-9)
    return inverse / inverse.sum(axis=1, keepdims=True)


def by_epoch(
    train: np.ndarray, labels: np.ndarray, tests: list[np.ndarray], *, classes: int, seed: int
) -> Iterator[list[np.ndarray]]:
    """Fit a logistic regression by stochastic gradient steps, and predict after every epoch.

    Yields
    ------
    list of numpy.ndarray of float64, shape (m, classes)
        One for each of `tests`.
    """
    model = SGDClassifier(loss="log_loss", alpha=1e-5, learning_rate="constant", eta0=1e-4, random_state=seed)
    rng = np.random.default_rng(seed)
    for _ in range(EPOCHS):
        order = rng.permutation(len(train))
        model.partial_fit(train[order], labels[order], classes=np.arange(classes))
        yield [model.predict_proba(test) for test in tests]
