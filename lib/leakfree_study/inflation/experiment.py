"""The experiment on a run's cohort: its material, the list of all jobs, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from leakfree.data.patients import SCOPES, patient_ids
from leakfree.data.vocabulary import words_of
from leakfree_study.inflation import jobs as grid_jobs
from leakfree_study.inflation.grid import plan
from leakfree_study.inflation.jobs import Job
from leakfree_study.inflation.material import Material, embedding_features, pixel_features, without_copies
from leakfree_study.inflation.store import Results
from leakfree_study.run.run import Run

#: Models that get every leak, and models that get the same patient and exact copies at full dose on one task.
LIGHT, HEAVY = ("1-nn", "logistic-regression"), ("random-forest", "xgboost")
#: File with the original sizes of images that were resized, looked for in the folder of the images and beside
#: it.
SIZES = "original_dims.csv"


def study_material(
    run: Run, *, max_images: int = 0, features: Sequence[str], pixels: int, embeddings: int
) -> Material:
    """Gather images without copies, their linked groups under every scope, features, and original sizes.

    Parameters
    ----------
    run : Run
        One that is made from its record has no features.
    max_images : int
        Thin the cohort by whole linked groups; 0 takes all.
    features : sequence of str
        Of `leakfree_study.inflation.material.FEATURES`.
    pixels, embeddings : int
        Sides in pixels that each kind of features reads the images at.
    """
    whole = run.development(None, max_images)
    table = without_copies(whole, run.copies().keys(whole))
    kept = whole.index.isin(table.index)
    made = {}
    if run.recorded:
        features = ()  # what was fitted on them is on the record
    if "pixels" in features:
        made["pixels"] = pixel_features(run.cohort, table, pixels, run.cache, jobs=run.jobs)
    if "embeddings" in features:
        made["embeddings"] = embedding_features(run.cohort, table, embeddings, run.cache, jobs=run.jobs)
    words = words_of(run.cohort)
    return Material(
        ids=table["image_id"].to_numpy(dtype=object),
        patients=patient_ids(table, words.scope),
        labels=np.array([words.labels.index(label) for label in table["label"]], dtype=np.int64),
        # Linked before copies are taken out: two patients who shared one stay together.
        groups={scope: run.groups(whole, scope)[kept] for scope in words.scopes},
        features=made,
        sizes=original_sizes(table, run.data),
        label_names=words.labels,
        tasks=words.tasks,
    )


def original_sizes(table: pd.DataFrame, data: str) -> np.ndarray | None:
    """Return logarithms of width, height and aspect, and 1 for colour, float64 (n, 4), NaN where unknown.

    The cohort's own sizes count unless all images have one size, as in copies that were resized; then a file
    `SIZES` (``file, width, height, mode``) in the folder of the images or beside it is read.

    Returns
    -------
    numpy.ndarray or None
        None if nothing is known of any image.
    """
    known = table[["image_id", "width", "height", "mode"]]
    if known[["width", "height"]].drop_duplicates().shape[0] < 2:
        places = [Path(data) / SIZES, Path(data).parent / SIZES]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            return None
        listed = pd.read_csv(path).rename(columns={"file": "image_id"})
        known = known[["image_id"]].merge(listed, how="left", on="image_id", validate="one_to_one")
    width, height = (known[name].to_numpy(dtype=np.float64) for name in ("width", "height"))
    colour = np.where(known["mode"].isna(), np.nan, known["mode"] != "L")
    sizes = np.column_stack(
        [np.log(width), np.log(height), np.log(width / height), colour.astype(np.float64)]
    )
    return None if np.isnan(sizes).any(axis=1).all() else sizes


@dataclass(frozen=True)
class Draws:
    """How many draws each part of the experiment gets; all begin with the same one.

    Attributes
    ----------
    first : int
        Seed of the first draw.
    leaks, random_labels, scopes : int
        Draws of the leaks, of the control with random labels, and of each further scope of identity.
    """

    first: int
    leaks: int
    random_labels: int
    scopes: int


def all_jobs(
    tasks: Sequence[str],
    features: Sequence[str],
    draws: Draws,
    *,
    trees: int,
    heavy_task: str = "etiology",
    named_scopes: Sequence[str] = SCOPES,
) -> list[Job]:
    """List every job of the study, those of one draw together.

    Parameters
    ----------
    tasks, features : sequence of str
    draws : Draws
    trees : int
        Of the forest and of XGBoost.
    heavy_task : str
        Task of the costly models and of the control with random labels.
    named_scopes : sequence of str
        Patient scopes of the cohort, the one that decides first.
    """
    scope, *further = named_scopes

    def seeds(n: int) -> range:
        return range(draws.first, draws.first + n)

    light = {"features": features, "heads": LIGHT, "scope": scope}
    of_leaks = {"features": features, "seeds": seeds(draws.leaks), "scope": scope}
    families = [name for name in grid_jobs.FAMILIES if name != "epochs"]
    listed = plan(families=families, tasks=tasks, heads=LIGHT, **of_leaks)
    # The nearest neighbour has no epochs.
    listed += plan(families=["epochs"], tasks=tasks, heads=["logistic-regression"], **of_leaks)
    full = {"families": ["clean", "siblings", "exact"], "tasks": [heavy_task], "doses": (1.0,)}
    if heavy_task in tasks:
        listed += plan(heads=HEAVY, trees=trees, **full, **of_leaks)
        listed += plan(seeds=seeds(draws.random_labels), permuted=True, **full, **light)
    for other in further:
        listed += plan(
            families=["clean", "siblings"],
            tasks=[task for task in tasks if task != "three-class"],
            seeds=seeds(draws.scopes),
            doses=(1.0,),
            **{**light, "scope": other},
        )
    return sorted(listed, key=lambda job: (job.seed, job.permuted, job.scope, job.task))


def cost_table(seconds: Sequence[tuple[Job, float]]) -> pd.DataFrame:
    """Add up what jobs took, by model and family, in seconds of one core."""
    frame = pd.DataFrame(
        [{"model": f"{job.head} on {job.features}", "family": job.family, "seconds": s} for job, s in seconds]
    )
    grouped = frame.groupby(["model", "family"], sort=True)["seconds"]
    return grouped.agg(jobs="size", mean="mean", total="sum").reset_index()


def draw_counts(results: Results, seed: int) -> pd.DataFrame:
    """Count images by role and class in one draw, under the scope that decides."""
    from leakfree_study.inflation.draws import ROLES

    made = results.draw(results.material.scope, seed)
    labels = np.array(results.material.label_names)[results.material.labels]
    return pd.crosstab(pd.Series(np.array(ROLES)[made.role], name="role"), pd.Series(labels, name="class"))
