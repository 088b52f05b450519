"""Classical models of the study: searched over grouped folds, or fitted once, on one split a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from leakfree.split import manifest as splits
from leakfree.split.manifest import Manifest
from leakfree_study.models import classical
from leakfree_study.run.cells import Cell, Result, classical_cell
from leakfree_study.run.run import Run

#: How a model is fitted: from pixels, classes and linked groups to the model, its search table and facts.
Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[object, pd.DataFrame, dict[str, object]]]


def three_parts(run: Run, task: str, scope: str, max_images: int = 0) -> Manifest:
    """Split the images of a task 70/15/15 over linked groups.

    Parameters
    ----------
    run : Run
        Its seed is the split's.
    task, scope : str
    max_images : int
        Take so many images at most; 0 takes all.
    """
    table = run.development(run.words.tasks[task], max_images)
    return splits.patient_level(
        table["image_id"],
        run.groups(table, scope),
        table["label"].to_numpy(dtype=object),
        seed=run.seed,
        scope=scope,
        linked=("copies",),
        name=f"{run.number}-patient-level-{task}",
        data_checksum=run.cohort.checksum,
    )


def fit_searched(run: Run, cell: Cell, n_jobs: int | None, *, n_iter: int, folds: int, **fixed) -> Result:
    """Fit a model by a randomized search over grouped folds, refitted on the whole training part.

    Parameters
    ----------
    run : Run
    cell : Cell
        Its seed is the search's.
    n_jobs : int or None
        As in `leakfree_study.models.classical.Search`.
    n_iter, folds : int
        Candidates, and folds that keep linked groups together.
    **fixed
        Settings that are not searched.
    """

    def fit(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> tuple:
        how = classical.Search(n_iter, folds, cell.seed, n_jobs)
        found = classical.search(cell.model, x, y, groups, how, **fixed)
        best = {name.removeprefix("classifier__"): value for name, value in found.best_params_.items()}
        fitted = found.best_estimator_
        facts = {"settings": best, "converged": classical.converged(fitted)}
        return fitted, classical.search_table(found), facts

    return classical_cell(run, cell, fit, {"search": n_iter, "folds": folds, **fixed})


def fit_once(run: Run, cell: Cell, settings: Mapping[str, object]) -> Result:
    """Fit a model with given settings, on all cores of the run."""

    def fit(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> tuple:
        classes = len(set(y.tolist()))
        fitted = classical.estimator(cell.model, classes, cell.seed, run.jobs, **settings).fit(x, y)
        facts = {"settings": settings, "converged": classical.converged(fitted)}
        return fitted, pd.DataFrame(), facts

    return classical_cell(run, cell, fit, {"fixed": settings})


def searches_of(results: list[Result]) -> pd.DataFrame:
    """Put the search tables of results into one, with the task of each in front."""
    tables = [result.history.assign(task=result.cell.task.name) for result in results if len(result.history)]
    table = pd.concat(tables, ignore_index=True)
    return table[["task", *(column for column in table if column != "task")]]
