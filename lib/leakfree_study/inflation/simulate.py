"""Simulated studies at the level of features, where the truth is known: coverage, false alarms, and power.

A patient has a vector z of its own and each of its images one more; an image's features are::

    x = disease * (label - 1/2) * direction + sqrt(identity) * z_patient + sqrt(1 - identity) * z_image

With identity 0 the images of a patient are exchangeable with those of others of their label, and the leak of
other images of the same patient gives nothing: every finding is a false alarm. The draws, the arms and the
estimator are those of the study; the model is the nearest neighbour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import stats
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from leakfree_study.inflation.arms import Arms
from leakfree_study.inflation.draws import draw
from leakfree_study.inflation.estimate import Scored, arm_values, patient_counts, summarise
from leakfree_study.inflation.heads import neighbours


@dataclass(frozen=True)
class World:
    """Where simulated studies come from.

    Attributes
    ----------
    patients : tuple of tuple of int
        For each class, numbers of patients with 1, 2, 3, ... images.
    identity, disease : float
        Strengths, see the module.
    dimensions : int
        Of the features.
    draws : int
        Of each study.
    dose : float
    seeds : bool
        Repetitions are not new draws of patients but new seeds of the model on one mirrored draw; a seed
        picks the half of the features that the model sees. Their scores are strongly correlated.
    """

    patients: tuple[tuple[int, ...], ...] = ((60, 40, 30), (60, 40, 30))
    identity: float = 0.0
    disease: float = 1.0
    dimensions: int = 12
    draws: int = 6
    dose: float = 1.0
    seeds: bool = False

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """Return class and patient of each image, int64 (n,)."""
        labels, groups, patient = [], [], 0
        for label, numbers in enumerate(self.patients):
            for size, n in enumerate(numbers, start=1):
                for _ in range(n):
                    labels += [label] * size
                    groups += [patient] * size
                    patient += 1
        return np.array(labels, dtype=np.int64), np.array(groups, dtype=np.int64)


@dataclass(frozen=True)
class Study:
    """What one simulated study found.

    Attributes
    ----------
    estimate, low, high, p : float
        As `leakfree_study.inflation.estimate.inflation` with ROC AUC.
    sd : float
    p_pooled : float
        The p-value of the wrong way: images of different draws taken for independent.
    percentile_low, percentile_high : float
        Percentile interval of the same resamples.
    """

    estimate: float
    low: float
    high: float
    p: float
    sd: float
    p_pooled: float
    percentile_low: float
    percentile_high: float


def study(world: World, seed: int, *, n_resamples: int = 300) -> Study:
    """Simulate one study and analyse it as the real one is analysed."""
    rng = np.random.default_rng([seed, 11])
    labels, groups = world.images()
    z = rng.standard_normal((groups.max() + 1, world.dimensions))
    x = np.sqrt(world.identity) * z[groups]
    x += np.sqrt(1 - world.identity) * rng.standard_normal((len(labels), world.dimensions))
    x[:, 0] += world.disease * (labels - (len(world.patients) - 1) / 2)
    k = len(world.patients)
    clean, leaky = [], []
    first = 2 * int(rng.integers(2**30))
    drawn: dict[int, Arms] = {}
    for d in range(world.draws):
        number = first + (d % 2 if world.seeds else d)
        if number not in drawn:  # a draw and its mirror are all that seeds of the model share
            drawn[number] = Arms(draw(labels, groups, number), labels)
        arms = drawn[number]
        test = arms.rows("test")
        seen = np.arange(world.dimensions)
        if world.seeds:
            seen = np.append(0, 1 + rng.permutation(world.dimensions - 1)[: world.dimensions // 2])
        for arm, rows in ((clean, arms.clean()), (leaky, arms.siblings(world.dose))):
            found = neighbours(x[rows.row][:, seen], labels[rows.row], x[test][:, seen], k, 1)
            arm.append(Scored(groups[test], labels[test], found))
    counts = patient_counts(int(groups.max()) + 1, n_resamples, seed)
    differences = arm_values(leaky, "roc_auc", counts) - arm_values(clean, "roc_auc", counts)
    found = summarise(differences, leaky)
    spread = differences[:, 1:].mean(axis=0)
    # As if each image of each draw were a patient of its own: the variances of the draws add up.
    pooled = np.sqrt((differences[:, 1:].var(axis=1, ddof=1)).sum()) / world.draws
    p_pooled = float(2 * stats.norm.sf(abs(found.estimate) / pooled)) if pooled > 0 else 1.0
    low, high = np.nanquantile(spread, [0.025, 0.975])
    return Study(found.estimate, found.low, found.high, found.p, found.sd, p_pooled, float(low), float(high))


def studies(world: World, n: int, *, seed: int = 0, jobs: int = 1, n_resamples: int = 300) -> pd.DataFrame:
    """Simulate n independent studies; one row each, with the fields of `Study`."""
    seeds = np.random.SeedSequence(seed).generate_state(n).tolist()
    parts = np.array_split(np.array(seeds, dtype=np.int64), max(1, n // 25))
    run = Parallel(n_jobs=jobs, return_as="generator")
    done = run(delayed(_some)(world, part.tolist(), n_resamples) for part in parts)
    shown = tqdm(
        done, total=len(parts), desc=f"simulated studies, identity {world.identity:g}", mininterval=2
    )
    return pd.DataFrame([vars(one) for part in shown for one in part])


def _some(world: World, seeds: Sequence[int], n_resamples: int) -> list[Study]:
    with threadpool_limits(1):
        return [study(world, seed, n_resamples=n_resamples) for seed in seeds]


def coverage(found: pd.DataFrame, truth: float) -> pd.DataFrame:
    """Count how often the interval holds the truth, with Clopper and Pearson's 95 % interval.

    Parameters
    ----------
    found : pandas.DataFrame
        As `studies`.
    truth : float
        0 where identity is 0, else from an independent large simulation.

    Returns
    -------
    pandas.DataFrame
        ``what, studies, share, low, high``: coverage of the study's interval and of the percentile interval;
        rejections at 5 % of the truth's null where it is 0, by the study's p-value and by the pooled one.
    """
    held = {
        "coverage": (found["low"] <= truth) & (truth <= found["high"]),
        "coverage, percentile interval": (found["percentile_low"] <= truth)
        & (truth <= found["percentile_high"]),
    }
    if truth == 0:
        held["false alarms"] = found["p"] < 0.05
        held["false alarms, draws pooled as if independent"] = found["p_pooled"] < 0.05
    rows = []
    for what, hits in held.items():
        exact = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95)
        rows.append(
            {"what": what, "studies": len(hits), "share": hits.mean(), "low": exact.low, "high": exact.high}
        )
    return pd.DataFrame(rows)


def coverage_of_worlds(worlds: Mapping[str, World], n: int, *, seed: int = 0, jobs: int = 1) -> pd.DataFrame:
    """Count how often intervals of simulated studies hold the truth, world by world.

    Parameters
    ----------
    worlds : mapping of str to World
    n : int
        Studies of each. Where identity is above 0 the truth is the mean of twice as many others.
    seed, jobs : int

    Returns
    -------
    pandas.DataFrame
        ``world, truth, what, studies, share, low, high``.
    """
    frames = []
    for number, (name, world) in enumerate(worlds.items()):
        simulated, truth = studies(world, n, seed=seed + number, jobs=jobs), 0.0
        if world.identity:
            others = studies(world, 2 * n, seed=seed + 100, jobs=jobs, n_resamples=2)
            truth = others["estimate"].mean()
        frames.append(coverage(simulated, truth).assign(world=name, truth=truth))
    columns = ["world", "truth", "what", "studies", "share", "low", "high"]
    return pd.concat(frames, ignore_index=True)[columns]
