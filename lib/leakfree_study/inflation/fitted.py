"""Fit the grid of a run and put on its record what every arm predicted and consumed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from leakfree_study.inflation import store
from leakfree_study.inflation.experiment import cost_table
from leakfree_study.inflation.grid import run as run_grid
from leakfree_study.inflation.jobs import Job
from leakfree_study.run.run import Run


def fit_grid(
    run: Run, found: store.Results, jobs: Sequence[Job], kept: Path, *, scheduler: str = ""
) -> pd.DataFrame:
    """Fit and score all jobs, write what they predicted and consumed, and return what they cost.

    Parameters
    ----------
    run : Run
    found : store.Results
        Takes the outcomes.
    jobs : sequence of Job
    kept : pathlib.Path
        Folder where finished jobs are found again.
    scheduler : str
        Address of a cluster; empty for this machine.

    Returns
    -------
    pandas.DataFrame
        As `leakfree_study.inflation.experiment.cost_table`.
    """
    seconds = []
    for job, outcomes, took in run_grid(found.material, jobs, kept, workers=run.jobs, scheduler=scheduler):
        found.add(job, outcomes)
        seconds.append((job, took))
    store.save_images(run.folder, found.material)
    store.save_draws(run.folder, found)
    store.save_arms(run.folder, found)
    return cost_table(seconds)
