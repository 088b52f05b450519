"""The linear probe: what a logistic regression on frozen features reads from images."""

from __future__ import annotations

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

#: Inverse strength of the penalty: features are many more than images tell apart, so it is strong.
PENALTY = 0.01


def linear_probe() -> Pipeline:
    """Make a logistic regression on standardised features, not fitted yet."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=2000))
