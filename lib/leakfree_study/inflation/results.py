"""From outcomes to tables: every leak of every model and task with its interval, and every arm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from leakfree_study.inflation.catalogue import LEAKS, Leak
from leakfree_study.inflation.estimate import (
    Estimate,
    Scored,
    arm_values,
    check_paired,
    holm,
    patient_counts,
    summarise,
    verdict,
)
from leakfree_study.inflation.store import Arm, Results

#: Share of the images that train in a natural split of images.
NATURAL_TRAIN = 0.8
_FIRST = [
    "protocol", "taxonomy", "model", "task", "dose", "metric", "primary", "estimate", "low", "high", "p",
    "p_holm", "verdict", "n_patients", "n_by_class", "draws", "population", "predictions",
    "clean_predictions",
]  # fmt: skip


def inflation_table(
    results: Results, primary: str, *, n_resamples: int = 2000, seed: int = 0, jobs: int = 1
) -> pd.DataFrame:
    """Estimate every leak of the catalogue that the results have, for every task and model.

    Returns
    -------
    pandas.DataFrame
        One row a leak, dose, model, task and metric, without ``p_holm`` and ``verdict``: see `judge`.
    """
    plain = [arm for arm in results.arms if arm.scope == results.material.scope and not arm.permuted]
    models = sorted({(arm.task, arm.features, arm.head, arm.scope, arm.permuted) for arm in plain})
    shown = "intervals of leaks"
    return pd.DataFrame(
        _in_parallel(_leaks_of_model, results, models, jobs, shown, primary, n_resamples, seed)
    )


def share_of_left(estimate: float, clean: float) -> float:
    """Return a difference as a share of 1 minus the score without the leak; NaN where nothing was left."""
    return estimate / (1 - clean) if clean < 1 else float("nan")


def own_family(table: pd.DataFrame, margins: dict[str, float]) -> pd.DataFrame:
    """Judge other images of the same patient at full dose as a family of their own, task by task.

    Parameters
    ----------
    table : pandas.DataFrame
        As `judge`.
    margins : dict of str to float

    Returns
    -------
    pandas.DataFrame
        Its rows of that leak in the primary metric, with ``p_own`` and ``verdict_own`` beside ``p_holm`` and
        ``verdict``, and ``family`` and ``own``: how many comparisons each family has.
    """
    primary = table[table["primary"].astype(bool)]
    rows = primary[(primary["protocol"] == "siblings") & (primary["dose"] == 1.0)].copy()
    sizes = primary.groupby(["task", "metric"]).size()
    rows["family"] = [int(sizes[key]) for key in zip(rows["task"], rows["metric"], strict=True)]
    for _, members in rows.groupby(["task", "metric"]):
        rows.loc[members.index, "p_own"] = holm(members["p"])
        rows.loc[members.index, "own"] = len(members)
    rows["verdict_own"] = [
        verdict(row.estimate, row.low, row.high, row.p_own, margins[row.metric]) for row in rows.itertuples()
    ]
    return rows.astype({"own": int})


def judge(rows: pd.DataFrame, margins: dict[str, float]) -> pd.DataFrame:
    """Add Holm's adjusted p-value within each task and metric of the family, and the verdict.

    A family is the primary metric over all leaks, doses and models of a task. Leaks that cannot change the
    primary metric have a family of their own in theirs. Rows that are not primary have no adjusted p-value.
    """
    rows = rows.copy()
    rows["p_holm"] = np.nan
    family = rows[rows["primary"]]
    for _, members in family.groupby(["task", "metric"]):
        rows.loc[members.index, "p_holm"] = holm(members["p"])
    rows["verdict"] = [
        verdict(row.estimate, row.low, row.high, row.p_holm, margins[row.metric]) if row.primary else ""
        for row in rows.itertuples()
    ]
    return rows[[*_FIRST, *(column for column in rows if column not in _FIRST)]]


def arm_table(
    results: Results, *, metric: str = "roc_auc", n_resamples: int = 2000, seed: int = 0, jobs: int = 1
) -> pd.DataFrame:
    """Give the score of every arm, on the population of its leak, with its interval."""
    models = sorted({(a.task, a.features, a.head, a.scope, a.permuted) for a in results.arms})
    rows = _in_parallel(_arms_of_model, results, models, jobs, "intervals of arms", metric, n_resamples, seed)
    return pd.DataFrame(rows)


def natural_table(results: Results, *, n_resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Reweight the leak of patients to a natural split of images, see `natural`."""
    rows = []
    for arm in sorted(results.arms):
        if arm.name != "siblings-100" or arm.permuted or arm.scope != results.material.scope:
            continue
        found, share = natural(results, arm, n_resamples=n_resamples, seed=seed)
        rows.append(
            {
                "model": arm.model,
                "task": arm.task,
                **found.short_row(),
                "share_with_sibling": share,
                "predictions": arm.path,
            }
        )
    return pd.DataFrame(rows)


def natural(
    results: Results, leaky: Arm, *, metric: str = "roc_auc", n_resamples: int = 2000, seed: int = 0
) -> tuple[Estimate, float]:
    """Estimate the inflation of a plain 80/20 split of images from the arms where the same patient trains.

    In such a split a test image of a patient with k images has no other image of its patient in training with
    probability 0.2 to the power k - 1. Tested patients with several images get the weight of all images of
    their kind, and count with their leaky prediction where their patient trains, with their clean one where
    not; tested patients with one image stand for all of their kind.

    Returns
    -------
    Estimate
    float
        Share of the test images whose patient also trains.
    """
    clean = Arm(leaky.task, leaky.features, leaky.head, "clean", leaky.scope)
    groups = results.material.groups[leaky.scope]
    sizes, classes = np.bincount(groups), results.material.classes(results.material.tasks[leaky.task])
    first, second, shares = [], [], []
    one_leaky, one_clean = results.scored(leaky, "everyone"), results.scored(clean, "everyone", like=leaky)
    check_paired(one_clean, one_leaky)
    for a, b in zip(one_clean, one_leaky, strict=True):
        k = sizes[b.patients]
        several = k > 1
        weights = k.astype(np.float64)
        for label in np.unique(b.truth):
            # As many images as the cohort has, of patients with several and of those with one.
            for kind in (True, False):
                members = (several == kind) & (b.truth == label)
                if members.any():
                    images = ((classes == label) & ((sizes[groups] > 1) == kind)).sum()
                    weights[members] *= images / weights[members].sum()
        has = np.where(several, 1 - (1 - NATURAL_TRAIN) ** (k - 1), 0.0)
        shares.append(float((weights * has).sum() / weights.sum()))
        both = np.concatenate([np.arange(len(k)), np.flatnonzero(several)])
        mixed = np.concatenate([b.probabilities, a.probabilities[several]])
        with_sibling = np.where(several, weights * has, weights)
        mixed_weights = np.concatenate([with_sibling, (weights * (1 - has))[several]])
        second.append(Scored(b.patients[both], b.truth[both], mixed, mixed_weights))
        first.append(Scored(a.patients, a.truth, a.probabilities, weights))
    counts = patient_counts(int(groups.max()) + 1, n_resamples, seed)
    values = arm_values(second, metric, counts) - arm_values(first, metric, counts)
    return summarise(values, one_leaky), float(np.mean(shares))


def _in_parallel(
    function: Callable, results: Results, models: Sequence[tuple], jobs: int, shown: str, *arguments
) -> list[dict]:
    done = Parallel(n_jobs=min(jobs, max(len(models), 1)), return_as="generator")(
        delayed(_single_thread)(function, _part(results, model), model, *arguments) for model in models
    )
    return [row for rows in tqdm(done, total=len(models), desc=shown, unit="model") for row in rows]


def _part(results: Results, model: tuple) -> Results:
    """Take the arms of one model, and no features, to send to another process."""
    arms = {
        arm: outcomes
        for arm, outcomes in results.arms.items()
        if (arm.task, arm.features, arm.head, arm.scope, arm.permuted) == model
    }
    return Results(replace(results.material, features={}), arms)


def _single_thread(function, *arguments) -> list[dict]:
    with threadpool_limits(1):
        return function(*arguments)


def _leaks_of_model(results: Results, model: tuple, primary: str, n_resamples: int, seed: int) -> list[dict]:
    counts = patient_counts(int(results.material.groups[model[3]].max()) + 1, n_resamples, seed)
    kept: dict[tuple, np.ndarray] = {}
    rows = []
    for leak, clean, leaky, dose in _pairs(results, model):
        first = results.scored(clean, leak.population, like=leaky)
        second = results.scored(leaky, leak.population, like=clean)
        check_paired(first, second)
        for metric in leak.metrics:
            values = []
            for arm, draws in ((clean, first), (leaky, second)):
                key = (arm, leak.population, metric)
                if key not in kept:
                    kept[key] = arm_values(draws, metric, counts)
                values.append(kept[key])
            found = summarise(values[1] - values[0], second)
            before = float(values[0][:, 0].mean())
            rows.append(
                {
                    "protocol": leak.protocol,
                    "taxonomy": leak.taxonomy,
                    "model": leaky.model,
                    "task": leaky.task,
                    "dose": dose,
                    "metric": metric,
                    "primary": metric == (primary if primary in leak.metrics else leak.metrics[0]),
                    **found.row(),
                    "population": leak.population,
                    "predictions": leaky.path,
                    "clean_predictions": clean.path,
                    "clean": before,
                    "share": share_of_left(found.estimate, before),
                }
            )
    return rows


def _pairs(results: Results, model: tuple) -> Iterable[tuple[Leak, Arm, Arm, float]]:
    for leak in LEAKS:
        for clean_name, leaky_name, dose in leak.arms:
            clean, leaky = (Arm(*model[:3], name, model[3]) for name in (clean_name, leaky_name))
            if clean in results.arms and leaky in results.arms:
                yield leak, clean, leaky, dose


def _arms_of_model(results: Results, model: tuple, metric: str, n_resamples: int, seed: int) -> list[dict]:
    populations = {name: leak.population for leak in LEAKS for pair in leak.arms for name in pair[:2]}
    counts = patient_counts(int(results.material.groups[model[3]].max()) + 1, n_resamples, seed)
    rows = []
    for arm in sorted(results.arms):
        # The clean arm serves several leaks: it is scored as the leak of patients scores it.
        population = "several" if arm.name == "clean" else populations[arm.name]
        draws = results.scored(arm, population)
        found = summarise(arm_values(draws, metric, counts), draws, null=0.5)
        rows.append(
            {
                "arm": arm.name,
                "model": arm.model,
                "task": arm.task,
                "scope": arm.scope,
                "labels": "permuted" if arm.permuted else "true",
                "metric": metric,
                **found.row(),
                "population": population,
                "predictions": arm.path,
            }
        )
    return rows


def control_table(
    results: Results, *, metric: str = "roc_auc", n_resamples: int = 2000, seed: int = 0, **fields: object
) -> pd.DataFrame:
    """Estimate the leaks of patients and of exact copies at full dose for arms with given fields.

    Parameters
    ----------
    **fields
        Of `leakfree_study.inflation.store.Arm`, such as ``permuted=True`` or ``scope="person"``.
    """
    rows = []
    for arm in sorted(results.arms):
        if arm.name not in ("siblings-100", "exact-100") or any(
            getattr(arm, k) != v for k, v in fields.items()
        ):
            continue
        clean = Arm(arm.task, arm.features, arm.head, "clean", arm.scope, arm.permuted)
        first, second = results.scored(clean, "several", like=arm), results.scored(arm, "several", like=clean)
        check_paired(first, second)
        counts = patient_counts(int(results.material.groups[arm.scope].max()) + 1, n_resamples, seed)
        of_clean, of_leaky = (arm_values(draws, metric, counts) for draws in (first, second))
        gap, chance = summarise(of_leaky - of_clean, second), summarise(of_clean, first, null=0.5)
        rows.append(
            {
                "protocol": arm.name.split("-")[0],
                "model": arm.model,
                "task": arm.task,
                "scope": arm.scope,
                "clean": chance.estimate,
                "clean_low": chance.low,
                "clean_high": chance.high,
                **gap.row(),
                "predictions": arm.path,
                "clean_predictions": clean.path,
            }
        )
    return pd.DataFrame(rows)


def compare_runs(here: pd.DataFrame, there: pd.DataFrame) -> pd.DataFrame:
    """Set the rows of two runs of the study side by side.

    Parameters
    ----------
    here, there : pandas.DataFrame
        Tables of inflation with their verdicts.

    Returns
    -------
    pandas.DataFrame
        ``protocol, model, task, dose, metric, primary``; ``estimate, low, high, p_holm, verdict`` of both,
        with the suffixes ``_here`` and ``_there``; ``difference`` of the estimates. Rows that one of them
        lacks are left out.
    """
    keys, values = (
        ["protocol", "model", "task", "dose", "metric"],
        ["estimate", "low", "high", "p_holm", "verdict"],
    )
    both = here[[*keys, "primary", *values]].merge(
        there[[*keys, *values]], on=keys, suffixes=("_here", "_there"), validate="one_to_one"
    )
    return both.assign(difference=both["estimate_here"] - both["estimate_there"])
