"""An ensemble is the mean over the same images, whatever their order."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from leakfree.ensemble import mean_predictions
from leakfree.predictions import Predictions, PredictionsError


def made(seed, order=None):
    rng = np.random.default_rng(seed)
    order = np.arange(6) if order is None else order
    ids = np.array([f"{i}.png" for i in range(6)], dtype=object)
    labels, p = np.array([0, 1, 0, 1, 0, 1]), rng.dirichlet(np.ones(2), size=6)
    ids, labels, p, part = ids[order], labels[order], p[order], np.full(6, "test", dtype=object)
    return Predictions(Path(f"{seed}.csv"), ids, ids, part, labels, ("a", "b"), p, seed)


def test_the_mean_in_the_order_of_the_first():
    first, second = made(1), made(2, order=np.array([3, 5, 0, 1, 4, 2]))
    found = mean_predictions([first, second])
    assert found.image_ids.tolist() == first.image_ids.tolist()
    assert found.probabilities == pytest.approx((made(1).probabilities + made(2).probabilities) / 2)
    assert found.seed == 1
    assert mean_predictions([first]).probabilities == pytest.approx(first.probabilities)


def test_what_cannot_be_averaged_is_refused():
    first = made(1)
    with pytest.raises(PredictionsError, match="needs a member"):
        mean_predictions([])
    other = replace(made(2), image_ids=np.array([f"x{i}" for i in range(6)], dtype=object))
    with pytest.raises(PredictionsError, match=r"2\.csv: has other images or classes than 1\.csv"):
        mean_predictions([first, other])
    with pytest.raises(PredictionsError, match="has other images or classes"):
        mean_predictions([first, replace(made(2), classes=("a", "c"))])
    with pytest.raises(PredictionsError, match="has other labels"):
        mean_predictions([first, replace(made(2), labels=1 - first.labels)])
