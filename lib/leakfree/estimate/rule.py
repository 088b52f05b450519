"""What a score would likely gain by a plain split: a rule of one number a model, learned from few cohorts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from scipy import stats

#: The rule as it was committed before the fit, and what was fitted by it.
RULE = Path(__file__).with_name("rule.yaml")
LEARNED = Path(__file__).with_name("learned.yaml")


@dataclass(frozen=True)
class Slope:
    """Share of what was left to gain, for each share of images that are found.

    Attributes
    ----------
    mean, spread : float
        Over cohorts: mean and standard deviation.
    cohorts : int
    """

    mean: float
    spread: float
    cohorts: int

    def gained(self, found: float) -> tuple[float, float, float]:
        """Return the share that a new cohort gains, and its interval of 95 %, between 0 and 1.

        Examples
        --------
        >>> Slope(0.5, 0.0, 4).gained(0.4)
        (0.2, 0.2, 0.2)
        """
        reach = float(stats.t.ppf(0.975, self.cohorts - 1)) * self.spread * (1 + 1 / self.cohorts) ** 0.5
        middle, low, high = (
            min(1.0, max(0.0, slope * found)) for slope in (self.mean, self.mean - reach, self.mean + reach)
        )
        return middle, low, high


@lru_cache(maxsize=1)
def rule() -> dict[str, Any]:
    """Read the rule."""
    return yaml.safe_load(RULE.read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def learned() -> dict[str, Any]:
    """Read what was learned by the rule."""
    return yaml.safe_load(LEARNED.read_text(encoding="utf-8"))


def slopes() -> dict[str, Slope]:
    """Return the slope of each model."""
    found = learned()
    return {
        name: Slope(model["slope"], model["spread"], len(found["cohorts"]))
        for name, model in found["models"].items()
    }


def with_patients_apart(score: float, gained: float) -> float:
    """Return the score with patients apart that a score of a plain split stands for, at least one half.

    Parameters
    ----------
    score : float
        ROC AUC of a plain split.
    gained : float
        Share of what was left to gain, as `Slope.gained`.

    Examples
    --------
    >>> round(with_patients_apart(0.9, 0.5), 3)
    0.8
    """
    return max(0.5, (score - gained) / (1 - gained)) if gained < 1 else 0.5
