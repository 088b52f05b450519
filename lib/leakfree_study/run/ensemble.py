"""The mean of several models' probabilities on the same images, and its scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from leakfree.scores.predictions import Predictions, PredictionsError
from leakfree_study.run.cells import Result, score_rows


def mean_predictions(members: Sequence[Predictions]) -> Predictions:
    """Average the probabilities of models that were trained with different seeds.

    Parameters
    ----------
    members : sequence of Predictions
        Of the same images, in any order, with the same labels and classes.

    Returns
    -------
    Predictions
        In the order of the first member, with its seed.

    Raises
    ------
    PredictionsError
        If there is no member, or members differ in images, labels or classes.
    """
    if not members:
        raise PredictionsError("an ensemble needs a member")
    first = members[0]
    order = np.argsort(first.image_ids.astype(str), kind="stable")
    total = np.zeros_like(first.probabilities)
    for member in members:
        mine = np.argsort(member.image_ids.astype(str), kind="stable")
        if member.classes != first.classes or not np.array_equal(
            member.image_ids[mine], first.image_ids[order]
        ):
            raise PredictionsError(f"{member.path}: has other images or classes than {first.path}")
        if not np.array_equal(member.labels[mine], first.labels[order]):
            raise PredictionsError(f"{member.path}: has other labels than {first.path}")
        total[order] += member.probabilities[mine]
    name = Path(f"ensemble of {len(members)}, first {first.path.name}")
    return replace(first, path=name, probabilities=total / len(members))


def ensemble_table(
    results: Sequence[Result],
    *,
    prepare: Callable[[Result, Predictions], Predictions],
    part: str = "test",
    n_resamples: int = 2000,
    seed: int = 0,
    names: Sequence[str] = ("accuracy", "roc_auc", "macro_f1"),
) -> pd.DataFrame:
    """Score the mean of each model's seeds, as rows of `leakfree_study.run.cells.score_table`.

    Parameters
    ----------
    results : sequence of Result
        Cells; those of one task and model that differ in their seed make an ensemble.
    prepare : callable
        Takes a cell and its predictions and returns what is averaged, such as calibrated predictions.
    part : str
    n_resamples, seed : int
    names : sequence of str
        Metrics.

    Returns
    -------
    pandas.DataFrame
        The seed is ``ensemble``, and ``predictions`` lists the members' files; empty without an ensemble.
    """
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.cell.task.name, result.cell.label), []).append(result)
    frames = []
    for members in groups.values():
        if len(members) < 2:
            continue
        mean = mean_predictions([prepare(member, member.read(part)) for member in members])
        frames.append(
            score_rows(
                mean, members, part=part, seed="ensemble", n_resamples=n_resamples, resample_seed=seed,
                names=names,
            )
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
