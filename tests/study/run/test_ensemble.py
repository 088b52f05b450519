"""An ensemble is the mean over the same images, whatever their order."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deferred import deferred
from leakfree.data.tasks import TASKS
from leakfree.scores.predictions import Predictions, PredictionsError, save_predictions
from leakfree.split.protocols import CLEAN

with deferred:
    from sklearn.metrics import roc_auc_score

    from leakfree_study.run.cells import Cell, Result
    from leakfree_study.run.ensemble import ensemble_table, mean_predictions


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


def cell(tmp_path, model, seed, variant=""):
    """Write predictions of a cell with one part beside the test, and return it as finished."""
    rng = np.random.default_rng(seed)
    labels = np.arange(40) % 2
    p = np.clip(0.5 + 0.3 * (labels - 0.5) + 0.2 * rng.standard_normal(40), 0.01, 0.99)
    frame = pd.DataFrame(
        {
            "image_id": [f"{i}.png" for i in range(40)],
            "patient": [f"p{i // 2}" for i in range(40)],
            "part": ["val"] * 10 + ["test"] * 30,
            "label": np.array(["normal", "pneumonia"])[labels],
            "p_normal": 1 - p,
            "p_pneumonia": p,
            "seed": seed,
        }
    )
    path = tmp_path / "predictions" / f"{model}{variant}_{seed}.csv"
    save_predictions(path, frame)
    facts = {"weights": "scratch", "n_train": 5, "shared_groups": 0}
    made = Cell(TASKS["binary"], model, CLEAN, None, seed, 64, variant=variant)
    return Result(made, path, pd.DataFrame(), facts)


def test_seeds_of_a_model_are_one_row_a_metric(tmp_path):
    results = [cell(tmp_path, "resnet18", seed) for seed in (1, 2, 3)] + [
        cell(tmp_path, "efficientnet-lite0", 1, "imagenet"),
        cell(tmp_path, "efficientnet-lite0", 1, "scratch"),
    ]
    table = ensemble_table(results, prepare=lambda result, p: p, n_resamples=50)
    assert table["metric"].tolist() == ["accuracy", "roc_auc", "macro_f1"]
    assert set(table["model"]) == {"resnet18"}  # a variant is a model of its own, and has one seed
    assert set(table["seed"]) == {"ensemble"}
    assert table["predictions"].iloc[0].split(";") == [f"predictions/resnet18_{s}.csv" for s in (1, 2, 3)]
    mean = mean_predictions([result.read() for result in results[:3]])
    expected = roc_auc_score(mean.labels, mean.probabilities[:, 1])
    assert table.set_index("metric").loc["roc_auc", "estimate"] == pytest.approx(expected)
    flipped = ensemble_table(
        results[:3], prepare=lambda r, p: replace(p, probabilities=p.probabilities[:, ::-1]), n_resamples=50
    )
    assert flipped.set_index("metric").loc["roc_auc", "estimate"] == pytest.approx(1 - expected)
    assert ensemble_table(results[:1], prepare=lambda result, p: p).empty
