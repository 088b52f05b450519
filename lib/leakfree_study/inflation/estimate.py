"""The estimator of inflation: paired differences over draws, with a bootstrap over patients.

For each draw the metric of the clean arm is subtracted from that of the leaky arm, on the same images; the
estimate is the mean over draws. Draws share patients, and a patient's images resemble each other, so neither
draws nor images are independent evidence: a resample draws whole patients, with everything of theirs in all
draws and both arms (the cluster bootstrap of Field and Welsh, Journal of the Royal Statistical Society B
69, 2007, 369-390). The interval is symmetric, the estimate plus and minus Student's t times the bootstrap's
standard deviation, with one degree of freedom less than the tested patients of the rarest class; the
p-value is the same t's. `leakfree_study.inflation.simulate` measures what this covers.

The interval holds the luck of who is tested. It is conditional on the cohort that trains, of which every
draw takes another part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from leakfree.scores.metrics import weighted_metric
from leakfree.scores.predictions import Predictions

LEVEL, ALPHA = 0.95, 0.05


@dataclass(frozen=True)
class Scored:
    """Images that one arm scored in one draw.

    Attributes
    ----------
    patients : numpy.ndarray of int64, shape (m,)
        Number of each image's patient, the same in all draws.
    truth : numpy.ndarray of int64, shape (m,)
    probabilities : numpy.ndarray of float64, shape (m, k)
    weights : numpy.ndarray of float64, shape (m,), optional
        Weight of each image; one without it.
    """

    patients: np.ndarray
    truth: np.ndarray
    probabilities: np.ndarray
    weights: np.ndarray | None = None

    def values(self, metric: str, counts: np.ndarray) -> np.ndarray:
        """Return the metric under counts of patients, float64 (B, patients) -> (B,)."""
        k = self.probabilities.shape[1]
        nobody = np.empty(0, dtype=object)
        predictions = Predictions(
            Path("arm"), nobody, nobody, nobody, self.truth.astype(np.int64), tuple(map(str, range(k))),
            self.probabilities.astype(np.float64), 0,
        )  # fmt: skip
        weights = counts[:, self.patients]
        return weighted_metric(
            predictions, metric, weights if self.weights is None else weights * self.weights
        )


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes
    ----------
    estimate, low, high, p, sd : float
        `p` is two-sided, against `null`; `sd` is the bootstrap's.
    n_patients : int
    n_by_class : tuple of int
        Patients tested in any draw, by class.
    draws : int
    by_draw : tuple of float
        The estimate in each draw.
    """

    estimate: float
    low: float
    high: float
    p: float
    sd: float
    n_patients: int
    n_by_class: tuple[int, ...]
    draws: int
    by_draw: tuple[float, ...]

    def row(self) -> dict[str, object]:
        """Return the columns that a table has of it, in their order."""
        return {
            "estimate": self.estimate,
            "low": self.low,
            "high": self.high,
            "p": self.p,
            "n_patients": self.n_patients,
            "n_by_class": "/".join(map(str, self.n_by_class)),
            "draws": self.draws,
            "sd_over_draws": float(np.std(self.by_draw, ddof=1)) if self.draws > 1 else np.nan,
        }

    def short_row(self) -> dict[str, object]:
        """Return `row` without patients by class and the spread over draws."""
        return {k: v for k, v in self.row().items() if k not in ("n_by_class", "sd_over_draws")}


def patient_counts(n_patients: int, n_resamples: int, seed: int) -> np.ndarray:
    """Draw bootstrap counts, float64 (n_resamples + 1, n_patients); the first row is the sample itself."""
    rng = np.random.default_rng(seed)
    counts = np.ones((n_resamples + 1, n_patients))
    drawn = rng.integers(n_patients, size=(n_resamples, n_patients))
    drawn += n_patients * np.arange(n_resamples)[:, None]
    counts[1:] = np.bincount(drawn.ravel(), minlength=n_resamples * n_patients).reshape(
        n_resamples, n_patients
    )
    return counts


def arm_values(draws: Sequence[Scored], metric: str, counts: np.ndarray) -> np.ndarray:
    """Return the metric of an arm, float64 (draws, B): in each draw, under each row of patient counts."""
    return np.stack([scored.values(metric, counts) for scored in draws])


def summarise(
    values: np.ndarray, draws: Sequence[Scored], *, null: float = 0.0, level: float = LEVEL
) -> Estimate:
    """Turn values by draw and resample into an estimate.

    Parameters
    ----------
    values : numpy.ndarray of float64, shape (draws, 1 + n_resamples)
        The first column is the sample; NaN where a resample leaves the metric undefined in a draw.
    draws : sequence of Scored
        What was scored, for the numbers of patients.
    null : float
        What `p` is against.
    level : float
    """
    patients, n_by_class = tested(draws)
    estimate = float(values[:, 0].mean())
    spread = values[:, 1:].mean(axis=0)
    sd = float(np.std(spread[~np.isnan(spread)], ddof=1))
    df = max(min(n for n in n_by_class if n) - 1, 1)
    reach = float(stats.t.ppf((1 + level) / 2, df)) * sd
    off = abs(estimate - null)
    # A leak that changes no prediction at all has neither a difference nor a spread.
    p = float(off == 0) if sd == 0 else float(2 * stats.t.sf(off / sd, df))
    by_draw = tuple(values[:, 0].tolist())
    return Estimate(
        estimate, estimate - reach, estimate + reach, p, sd, patients, n_by_class, len(draws), by_draw
    )


def tested(draws: Sequence[Scored]) -> tuple[int, tuple[int, ...]]:
    """Count the patients scored in any draw: all, and by the class of their images."""
    patients = np.concatenate([scored.patients for scored in draws])
    truth = np.concatenate([scored.truth for scored in draws])
    k = draws[0].probabilities.shape[1]
    return len(np.unique(patients)), tuple(len(np.unique(patients[truth == c])) for c in range(k))


def inflation(clean: Sequence[Scored], leaky: Sequence[Scored], metric: str, counts: np.ndarray) -> Estimate:
    """Estimate leaky minus clean.

    Raises
    ------
    ValueError
        If the arms did not score the same images in the same draws.
    """
    check_paired(clean, leaky)
    return summarise(arm_values(leaky, metric, counts) - arm_values(clean, metric, counts), leaky)


def check_paired(clean: Sequence[Scored], leaky: Sequence[Scored]) -> None:
    """Refuse arms that did not score the same images."""
    if len(clean) != len(leaky) or not clean:
        raise ValueError(f"the arms have {len(clean)} and {len(leaky)} draws")
    for first, second in zip(clean, leaky, strict=True):
        if not (
            np.array_equal(first.patients, second.patients) and np.array_equal(first.truth, second.truth)
        ):
            raise ValueError("the arms did not score the same images")


def holm(p: Sequence[float]) -> np.ndarray:
    """Adjust p-values by Holm's step-down method (Scandinavian Journal of Statistics 6, 1979, 65-70)."""
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1)
    return adjusted


def verdict(estimate: float, low: float, high: float, p_adjusted: float, margin: float) -> str:
    """Say in words whether there is inflation, and whether it stays within the margin."""
    inside = -margin < low and high < margin
    if p_adjusted < ALPHA:
        words = "inflates" if estimate > 0 else "deflates"
        return f"{words}, by less than the margin" if inside else words
    return "no difference, to within the margin" if inside else "undecided"


def swap_test(
    clean: Sequence[Scored], leaky: Sequence[Scored], *, n_permutations: int = 2000, seed: int = 0
) -> float:
    """Test ROC AUC of two arms by exchanging the predictions of whole patients between them.

    For few draws of costly models. The p-value is conditional on the fitted models: it says whether these
    models score these patients differently, not what another training would give. Scores are replaced by
    their ranks within arm and draw first, since two fits have scales of their own.

    Returns
    -------
    float
        Two-sided; at least ``1 / (n_permutations + 1)``. NaN where ROC AUC is undefined in a draw.
    """
    check_paired(clean, leaky)
    k = clean[0].probabilities.shape[1]
    rng = np.random.default_rng(seed)
    n_patients = 1 + max(int(scored.patients.max()) for scored in clean)
    swapped = np.concatenate(
        [np.zeros((1, n_patients), dtype=bool), rng.random((n_permutations, n_patients)) < 0.5]
    )
    total = np.zeros(len(swapped))
    for first, second in zip(clean, leaky, strict=True):
        for c in [1] if k == 2 else range(k):
            a, b = (stats.rankdata(arm.probabilities[:, c]) for arm in (first, second))
            mine = swapped[:, first.patients]
            positive = first.truth == c
            total += _rank_auc(np.where(mine, a, b), positive) - _rank_auc(np.where(mine, b, a), positive)
    if np.isnan(total[0]):
        return float("nan")
    extreme = np.abs(total[1:]) >= abs(total[0]) - 1e-12
    return float((1 + extreme.sum()) / (len(extreme) + 1))


def _rank_auc(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return ROC AUC of each row of scores, (B, m) -> (B,), from ranks (Mann and Whitney)."""
    ranks = stats.rankdata(scores, axis=1)
    n, m = positive.sum(), (~positive).sum()
    with np.errstate(invalid="ignore"):
        return (ranks[:, positive].sum(axis=1) - n * (n + 1) / 2) / (n * m)
