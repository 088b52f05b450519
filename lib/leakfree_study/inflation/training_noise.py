"""An interval that holds who is tested and the noise of training, and what it covers in simulated studies.

The bootstrap over patients (`leakfree_study.inflation.estimate`) is conditional on the networks that were
trained: another training gives another network. That noise shows in how the draws differ. Both variances are
added. Part of what makes draws differ, which images of a patient are tested, is in both; so the sum is rather
too large, as that of the pigeonhole bootstrap of crossed effects (Owen, Annals of Applied Statistics 1, 2007,
386-411).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from leakfree_study.inflation.estimate import LEVEL, Estimate, Scored, arm_values, patient_counts, summarise

#: Couples of mirrored draws that are enough to take the couple as the unit.
COUPLES = 3


@dataclass(frozen=True)
class Noisy:
    """An inflation with three intervals.

    Attributes
    ----------
    patients : leakfree_study.inflation.estimate.Estimate
        With the interval of the bootstrap over patients alone.
    sd_training : float
        Standard error of the mean over couples, or over draws where there are few couples.
    units : int
        How many of them.
    """

    patients: Estimate
    sd_training: float
    units: int

    @property
    def estimate(self) -> float:
        """The mean over draws."""
        return self.patients.estimate

    @property
    def sd(self) -> float:
        """Standard error with both sources."""
        return float(np.hypot(self.patients.sd, self.sd_training))

    @property
    def df(self) -> float:
        """Degrees of freedom of `sd`, after Satterthwaite."""
        first, second = self.patients.sd**2, self.sd_training**2
        if first + second == 0:
            return float(self.units - 1)
        of_patients = max(min(n for n in self.patients.n_by_class if n) - 1, 1)
        return (first + second) ** 2 / (first**2 / of_patients + second**2 / (self.units - 1))

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end, with both sources."""
        reach = float(stats.t.ppf((1 + LEVEL) / 2, self.df)) * self.sd
        return self.estimate - reach, self.estimate + reach

    @property
    def interval_of_training(self) -> tuple[float, float]:
        """Lower and upper end of the noise of training alone, over the same patients."""
        reach = float(stats.t.ppf((1 + LEVEL) / 2, self.units - 1)) * self.sd_training
        return self.estimate - reach, self.estimate + reach

    @property
    def p(self) -> float:
        """Two-sided p-value against no inflation, with both sources."""
        if self.sd == 0:
            return float(self.estimate == 0)
        return float(2 * stats.t.sf(abs(self.estimate) / self.sd, self.df))


def with_training_noise(values: np.ndarray, draws: Sequence[Scored], seeds: Sequence[int]) -> Noisy:
    """Turn differences by draw and resample into an inflation with both sources of noise.

    Parameters
    ----------
    values : numpy.ndarray of float64, shape (draws, 1 + n_resamples)
        As `leakfree_study.inflation.estimate.summarise`.
    draws : sequence of Scored
    seeds : sequence of int
        Of the draws; 2m and 2m + 1 are mirrored.

    Raises
    ------
    ValueError
        If there is one draw alone, whose noise of training cannot be seen.
    """
    if len(seeds) < 2:
        raise ValueError("one draw does not show the noise of training")
    couples = pd.Series(values[:, 0]).groupby(np.asarray(seeds) // 2)
    whole = bool((couples.size() == 2).all()) and couples.ngroups >= COUPLES
    units = couples.mean().to_numpy() if whole else values[:, 0]
    sd = float(np.std(units, ddof=1) / np.sqrt(len(units)))
    return Noisy(summarise(values, draws), sd, len(units))


@dataclass(frozen=True)
class NoisyWorld:
    """Where simulated studies come from: scores of two classes with one component for each source of noise.

    Attributes
    ----------
    pairs : tuple of int
        Pairs of a tested patient and a donor, by class; the second class is the one that scores are of.
    draws : int
        In mirrored couples.
    auc : float
        Of clean networks with no luck of training.
    gain : float
        What the leak adds to that: the truth.
    patient : float
        Share of the variance of a score within its class that is the patient's in every draw and arm.
    image : float
        Share that both arms of a draw have in common beside.
    luck : float
        Standard deviation over trainings of the distance between the classes, in units of a score within its
        class.
    shared : bool
        One network is the leaky arm of a draw and the clean arm of its mirror.
    """

    pairs: tuple[int, int]
    draws: int
    auc: float
    gain: float = 0.0
    patient: float = 0.3
    image: float = 0.3
    luck: float = 0.1
    shared: bool = False

    @property
    def distances(self) -> tuple[float, float]:
        """Distance between the classes, clean and leaky, that gives the ROC AUC asked for over trainings."""
        spread = np.sqrt(2 + self.luck**2)
        first, second = (float(spread * stats.norm.ppf(auc)) for auc in (self.auc, self.auc + self.gain))
        return first, second


def simulate(world: NoisyWorld, seed: int, n_resamples: int = 200) -> Noisy:
    """Simulate one study and analyse it as the real one is analysed."""
    rng = np.random.default_rng([seed, 23])
    truth = np.repeat([0, 1], [2 * n for n in world.pairs])
    of_patient = np.sqrt(world.patient) * rng.standard_normal(len(truth))
    distances = dict(zip(("clean", "leaky"), world.distances, strict=True))
    counts = patient_counts(len(truth), n_resamples, seed)
    differences, draws = [], []
    for _ in range(world.draws // 2):
        halves = [rng.permutation(np.flatnonzero(truth == c)) for c in (0, 1)]
        first = np.concatenate([rows[: len(rows) // 2] for rows in halves])
        luck = world.luck * rng.standard_normal(4)
        if world.shared:  # the leaky network of the first draw is the clean one of the second
            luck[3], luck[2] = luck[0], luck[1]
        for tested, of_clean, of_leaky in (
            (np.sort(first), luck[0], luck[1]),
            (np.setdiff1d(np.arange(len(truth)), first), luck[2], luck[3]),
        ):
            common = of_patient[tested] + np.sqrt(world.image) * rng.standard_normal(len(tested))
            rest = np.sqrt(1 - world.patient - world.image)
            arms = {}
            for arm, lucky in (("clean", of_clean), ("leaky", of_leaky)):
                scores = common + rest * rng.standard_normal(len(tested))
                p = stats.norm.cdf(scores + (distances[arm] + lucky) * truth[tested])
                arms[arm] = [Scored(tested, truth[tested], np.stack([1 - p, p], axis=1))]
            differences.append(
                (arm_values(arms["leaky"], "roc_auc", counts) - arm_values(arms["clean"], "roc_auc", counts))[
                    0
                ]
            )
            draws += arms["leaky"]
    return with_training_noise(np.stack(differences), draws, range(world.draws))


#: Where the luck of training is looked for.
LUCKS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)


def measured_world(
    clean: Sequence[Scored], leaky: Sequence[Scored], seeds: Sequence[int], *, n: int = 60, seed: int = 0
) -> NoisyWorld:
    """Find the world whose components are of the size that a study shows.

    Shares of variance come from correlations of scores, as normal ranks within a class: of a patient in two
    couples of draws, and of an image in the two arms of a draw. The luck of training is the value of `LUCKS`
    that makes draws differ as much as they do.

    Parameters
    ----------
    clean, leaky : sequence of Scored
        Draw by draw, with two classes.
    seeds : sequence of int
        Of the draws.
    n : int
        Simulated studies for each value of `LUCKS`.
    seed : int
    """
    counts = np.ones((1, 1 + max(int(one.patients.max()) for one in clean)))
    values = arm_values(leaky, "roc_auc", counts) - arm_values(clean, "roc_auc", counts)
    sd = with_training_noise(np.repeat(values, 3, axis=1), leaky, seeds).sd_training
    auc = float(arm_values(clean, "roc_auc", counts).mean())
    columns = {
        (number, arm): pd.Series(_ranks(one), index=one.patients)
        for arm, draws in (("clean", clean), ("leaky", leaky))
        for number, one in zip(seeds, draws, strict=True)
    }
    frame = pd.DataFrame(columns)
    correlations = frame.corr(min_periods=20)
    between = [
        correlations.loc[first, second]
        for first in columns
        for second in columns
        if first[0] // 2 < second[0] // 2
    ]
    within = [correlations.loc[(number, "clean"), (number, "leaky")] for number in seeds]
    patient = float(np.clip(np.nanmean(between), 0, 0.95)) if between else 0.3
    image = float(np.clip(np.mean(within) - patient, 0, 0.95 - patient))
    of_class = np.bincount(clean[0].truth, minlength=2)
    draws = max(2, len(seeds) // 2 * 2)  # simulated draws come in couples
    base = NoisyWorld((int(of_class[0]), int(of_class[1])), draws, auc, 0.0, patient, image)
    worlds = [replace(base, luck=luck) for luck in LUCKS]
    sds = [
        np.sqrt(np.mean([simulate(world, seed + k, 3).sd_training ** 2 for k in range(n)]))
        for world in worlds
    ]
    return worlds[int(np.argmin(np.abs(np.array(sds) - sd)))]


def _ranks(one: Scored) -> np.ndarray:
    """Return scores of the second class as normal ranks within the true class."""
    out = np.empty(len(one.truth))
    for label in np.unique(one.truth):
        rows = np.flatnonzero(one.truth == label)
        out[rows] = stats.norm.ppf((stats.rankdata(one.probabilities[rows, 1]) - 0.5) / len(rows))
    return out


def coverage(world: NoisyWorld, n: int, *, seed: int = 0) -> pd.DataFrame:
    """Count how often three intervals of n simulated studies hold the truth.

    Returns
    -------
    pandas.DataFrame
        ``interval`` (``patients``, ``training``, ``both``), ``studies, share, low, high`` (Clopper and
        Pearson's 95 % interval), and the mean ``width`` of the interval.
    """
    found = [simulate(world, seed + number) for number in range(n)]
    ends = {
        "patients": [(one.patients.low, one.patients.high) for one in found],
        "training": [one.interval_of_training for one in found],
        "both": [one.interval for one in found],
    }
    rows = []
    for name, intervals in ends.items():
        low, high = np.array(intervals).T
        hits = int(((low <= world.gain) & (world.gain <= high)).sum())
        exact = stats.binomtest(hits, n).proportion_ci(LEVEL)
        rows.append(
            {
                "interval": name, "studies": n, "share": hits / n, "low": exact.low, "high": exact.high,
                "width": float((high - low).mean()),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)
