"""The steps of the classical pipelines: grey levels to numbers, and two classifiers that repeat exactly."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits


def to_unit(X: np.ndarray) -> np.ndarray:
    """Convert grey levels to float32 in [0, 1].

    Parameters
    ----------
    X : ndarray of uint8, shape (n, pixels)
        Flattened grey images.

    Returns
    -------
    ndarray of float32, shape (n, pixels)
        A new array, so that later steps may work in place.

    Raises
    ------
    ValueError
        If `X` is not a two-dimensional array of uint8 (pixels that were scaled before would be
        scaled twice without any sign of it).
    """
    X = np.asarray(X)
    if X.dtype != np.uint8 or X.ndim != 2:
        raise ValueError(f"pixels must be uint8 of shape (n, pixels), got {X.dtype} of shape {X.shape}")
    return np.multiply(X, np.float32(1 / 255), dtype=np.float32)


class LogisticPixels(ClassifierMixin, BaseEstimator):
    """Logistic regression with an L2 penalty, by either of two solvers and for any number of classes.

    ``lbfgs`` fits one multinomial model. ``liblinear`` knows two classes only: with more, it fits one
    model a class against the rest (`sklearn.multiclass.OneVsRestClassifier`). With two classes the
    solvers differ in one thing, the intercept, which liblinear penalises too.

    BLAS runs on one thread, because the order of its sums, and so the last digits of the coefficients,
    depends on the number of threads.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty.
    solver : {"liblinear", "lbfgs"}
        See above.
    max_iter : int
        Largest number of iterations.
    tol : float
        Tolerance of the stopping rule.
    random_state : int or None
        Seed; the two solvers use none for this problem, and it is kept for uniform records.

    Attributes
    ----------
    classes_ : ndarray, shape (k,)
        Classes in the order of the columns of `predict_proba`.
    converged_ : bool
        False if any of the underlying fits stopped at `max_iter` or failed in its line search.
    """

    def __init__(
        self,
        C: float = 1.0,
        solver: str = "liblinear",
        max_iter: int = 1000,
        tol: float = 1e-4,
        random_state: int | None = None,
    ):
        self.C = C
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: np.ndarray) -> LogisticPixels:
        """Fit to `X` (float32, shape (n, pixels)) and class numbers `y` (shape (n,))."""
        if self.solver not in ("liblinear", "lbfgs"):
            raise ValueError(f"solver must be liblinear or lbfgs, got {self.solver!r}")
        model = LogisticRegression(
            C=self.C,
            solver=self.solver,
            max_iter=self.max_iter,
            tol=self.tol,
            random_state=self.random_state,
        )
        if self.solver == "liblinear" and len(np.unique(y)) > 2:
            model = OneVsRestClassifier(model)
        with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(X, y)
        # A search would print the same warning many times: it becomes a column of the table instead.
        self.converged_ = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
        for w in caught:
            if not issubclass(w.category, ConvergenceWarning):
                warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
        self.model_ = model
        self.classes_ = model.classes_
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return class probabilities, shape (n, k)."""
        check_is_fitted(self)
        with threadpool_limits(1):
            return self.model_.predict_proba(X)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the most probable class of each row, shape (n,)."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class OrderedForest(RandomForestClassifier):
    """A random forest whose probabilities do not depend on the number of threads.

    scikit-learn adds the trees' votes in the order in which threads finish, so the last digits may
    change from call to call. Here prediction runs on one thread; fitting still uses `n_jobs`.
    """

    n_jobs: int | None

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return class probabilities, shape (n, k)."""
        jobs = self.n_jobs
        self.n_jobs = 1
        try:
            return super().predict_proba(X)
        finally:
            self.n_jobs = jobs
