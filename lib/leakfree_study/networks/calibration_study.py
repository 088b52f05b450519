"""How sure the networks of the deep study are, before and after calibration, and how often they are right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from leakfree.predict.calibrated import Calibrated
from leakfree.scores.calibration import apply_temperature
from leakfree.scores.predictions import Predictions
from leakfree_study.networks.official import official_predictions
from leakfree_study.networks.trainings import Network
from leakfree_study.run.cells import Result
from leakfree_study.run.ensemble import mean_predictions


def calibration_table(
    trained: Mapping[Network, Result], calibrated: Mapping[Network, Calibrated]
) -> pd.DataFrame:
    """List what the calibration of each network found.

    Returns
    -------
    pandas.DataFrame
        ``task, model, seed, temperature, least_probability_in_set`` (NaN without sets) and ``notes``, which
        say what could not be fitted.
    """
    rows = []
    for one in trained:
        mine = calibrated[one]
        rows.append(
            {
                "task": one.task,
                "model": one.model,
                "seed": one.seed,
                "temperature": mine.temperature,
                "least_probability_in_set": np.nan if mine.conformal is None else mine.conformal.threshold,
                "notes": " ".join(mine.notes),
            }
        )
    return pd.DataFrame(rows)


def ensemble_of(
    trained: Mapping[Network, Result],
    calibrated: Mapping[Network, Calibrated],
    task: str,
    model: str,
    part: str,
) -> Predictions:
    """Average the calibrated probabilities of a model's seeds on a part."""
    members = [
        calibrated[one].scaled(result.read(part))
        for one, result in trained.items()
        if (one.task, one.model) == (task, model)
    ]
    return mean_predictions(members)


def tests_of(
    folder: Path, one: Network, result: Result, temperature: float, opened: pd.DataFrame
) -> dict[str, Predictions]:
    """Read what a network itself predicted, before calibration: internal test, and official if it was opened.

    Parameters
    ----------
    folder : pathlib.Path
        Of the run.
    one, result : Network, Result
    temperature : float
        By which its predictions of the official test were scaled.
    opened : pandas.DataFrame
        As `leakfree_study.networks.official.official_scores`; may be empty.

    Returns
    -------
    dict of str to Predictions
        By ``internal`` and, where the opening scored this network, ``official``.
    """
    tests = {"internal": result.read("test")}
    named = [one.task, one.model, str(one.seed)]
    if len(opened) and (opened[["task", "model", "seed"]] == named).all(axis=1).any():
        # Saved with calibrated probabilities: the network's own are had by taking the temperature back.
        saved = official_predictions(folder, *named)
        tests["official"] = apply_temperature(saved, 1 / temperature)
    return tests


def sure_and_right(
    tests: Mapping[Network, Mapping[str, Predictions]],
    calibrated: Mapping[Network, Calibrated],
    *,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure calibration errors, and how often prediction sets hold the true class.

    Parameters
    ----------
    tests : mapping of Network to mapping of str to Predictions
        As `tests_of`.
    calibrated : mapping of Network to Calibrated
    n_resamples, seed : int

    Returns
    -------
    errors, covered : pandas.DataFrame
        As `Calibrated.errors` and `Calibrated.coverage`, with ``task, model, seed, part``.
    """
    errors, covered = [], []
    for one, parts in tests.items():
        mine = calibrated[one]
        for part, predictions in parts.items():
            described = {"task": one.task, "model": one.model, "seed": one.seed, "part": part}
            for frames, measure in ((errors, mine.errors), (covered, mine.coverage)):
                frames.append(measure(predictions, n_resamples=n_resamples, seed=seed).assign(**described))
    return pd.concat(errors, ignore_index=True), pd.concat(covered, ignore_index=True)
