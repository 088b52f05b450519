"""Networks trained through on the arms of a draw, as cells of their own with ledger and predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from leakfree.models.training import Budget
from leakfree.split.manifest import Manifest
from leakfree.split.protocols import CLEAN, SIBLINGS
from leakfree_study.inflation.arms import Arms
from leakfree_study.inflation.draws import draw
from leakfree_study.inflation.estimate import Scored, arm_values, inflation, patient_counts, swap_test
from leakfree_study.inflation.material import Material
from leakfree_study.inflation.results import share_of_left
from leakfree_study.run.cells import Cell, NetworkJob, Result


def draw_manifest(material: Material, task: str, seed: int, arm: str, checksum: str) -> Manifest:
    """Write one arm of a draw as a manifest: train, val, and the test images of all tested patients.

    Where every patient has several images there is no val: the last epoch is kept.

    Parameters
    ----------
    material : Material
    task : str
    seed : int
        Of the draw.
    arm : str
        ``clean`` or ``siblings``.
    checksum : str
        Of the cohort.
    """
    made = draw(material.labels, material.groups[material.scope], seed)
    arms = Arms(made, material.classes(material.tasks[task]))
    train = arms.clean() if arm == "clean" else arms.siblings(1.0)
    rows = {"train": np.sort(train.row), "val": arms.rows("val"), "test": arms.rows("test", "single")}
    parts = {
        part: tuple(material.ids[members].tolist())
        for part, members in rows.items()
        if part != "val" or len(members)
    }
    return Manifest(
        name=f"06-{task}-{arm}-draw{seed}",
        kind="draw",
        parts=parts,
        seed=seed,
        scope=material.scope,
        linked=("copies",),
        data_checksum=checksum,
        settings={"arm": arm, "dose": 1.0 if arm == "siblings" else 0.0},
    )


def network_jobs(
    material: Material,
    *,
    task: str,
    models: Sequence[str],
    seeds: Sequence[int],
    image_size: int,
    budget: Budget,
    checksum: str,
) -> list[NetworkJob]:
    """List the networks of every model, draw and arm; the costliest model should be named first."""
    manifests = {
        (seed, arm): draw_manifest(material, task, seed, arm, checksum)
        for seed in seeds
        for arm in ("clean", "siblings")
    }
    return [
        NetworkJob(
            Cell(
                material.tasks[task],
                model,
                SIBLINGS if arm == "siblings" else CLEAN,
                manifest,
                seed,
                image_size,
                material.scope,
            ),
            budget,
        )
        for model in models
        for (seed, arm), manifest in manifests.items()
    ]


def deep_table(
    material: Material, results: Sequence[Result], *, n_resamples: int, seed: int = 0
) -> pd.DataFrame:
    """Estimate the leak of patients from trained networks.

    Returns
    -------
    pandas.DataFrame
        Rows as `leakfree_study.inflation.results.inflation_table`, where ``p`` is that of the swap test, and
        ``p_bootstrap`` the other one.
    """
    of_image = material.groups[material.scope]
    groups = dict(zip(material.ids.tolist(), of_image.tolist(), strict=True))
    sizes = np.bincount(of_image)
    counts = patient_counts(len(sizes), n_resamples, seed)
    rows = []
    for model in dict.fromkeys(result.cell.model for result in results):
        arms: dict[str, list[Scored]] = {"clean": [], "siblings": []}
        files: dict[str, list[str]] = {"clean": [], "siblings": []}
        for result in sorted((r for r in results if r.cell.model == model), key=lambda r: r.cell.seed):
            arm, found = result.cell.protocol.name, result.read()
            patients = np.array([groups[image_id] for image_id in found.image_ids])
            several = sizes[patients] > 1
            order = np.argsort(found.image_ids.astype(str), kind="stable")
            members = order[several[order]]
            arms[arm].append(Scored(patients[members], found.labels[members], found.probabilities[members]))
            files[arm].append(f"predictions/{result.predictions.name}")
        for metric in ("roc_auc", "macro_f1"):
            found = inflation(arms["clean"], arms["siblings"], metric, counts)
            before = float(arm_values(arms["clean"], metric, counts[:1]).mean())
            swapped = swap_test(arms["clean"], arms["siblings"], seed=seed) if metric == "roc_auc" else np.nan
            rows.append(
                {
                    "protocol": "siblings",
                    "taxonomy": "L3.2",
                    "model": model,
                    "task": results[0].cell.task.name,
                    "dose": 1.0,
                    "metric": metric,
                    "primary": metric == "roc_auc",
                    **found.row(),
                    "p": swapped,
                    "population": "several",
                    "predictions": ";".join(files["siblings"]),
                    "clean_predictions": ";".join(files["clean"]),
                    "p_bootstrap": found.p,
                    "clean": before,
                    "share": share_of_left(found.estimate, before),
                }
            )
    return pd.DataFrame(rows)


def network_cost(networks: Sequence[Result]) -> pd.DataFrame:
    """Add up what trainings took, in seconds.

    Returns
    -------
    pandas.DataFrame
        ``model, protocol, precision, size`` (how many), ``mean, sum``.
    """
    columns = ["model", "protocol", "precision", "seconds"]
    rows = [
        (r.cell.model, r.cell.protocol.name, r.facts["precision"], r.facts["training_seconds"])
        for r in networks
    ]
    grouped = pd.DataFrame(rows, columns=columns).groupby(columns[:3])["seconds"]
    return grouped.agg(["size", "mean", "sum"]).reset_index()
