"""A trained model's calibration: a temperature and prediction sets, each from a part of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from leakfree.calibration import CalibrationError, apply_temperature, calibration_error, fit_temperature
from leakfree.conformal import Conformal, ConformalError, calibrate, coverage
from leakfree.predictions import Predictions

#: Parts that are disjoint by patient from training, from the choice of an epoch and from each other.
TEMPERATURE_PART, CONFORMAL_PART = "calibration", "conformal"
#: Shares of the images: training, choice of the epoch, temperature, sets, test.
FIVE_PARTS = {"train": 0.65, "val": 0.10, TEMPERATURE_PART: 0.05, CONFORMAL_PART: 0.05, "test": 0.15}


@dataclass(frozen=True)
class Calibrated:
    """What is fitted after training.

    Attributes
    ----------
    temperature : float
        1 where none could be fitted.
    conformal : Conformal or None
        Calibrated on scaled probabilities; None where the part has too few patients.
    notes : tuple of str
        What could not be fitted, and why.
    """

    temperature: float
    conformal: Conformal | None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, parts: Mapping[str, Predictions], alpha: float = 0.1) -> Calibrated:
        """Fit both from the predictions of their parts."""
        notes = []
        try:
            temperature = fit_temperature(parts[TEMPERATURE_PART])
        except CalibrationError as error:
            temperature, notes = 1.0, [str(error)]
        try:
            conformal = calibrate(apply_temperature(parts[CONFORMAL_PART], temperature), alpha)
        except ConformalError as error:
            conformal, notes = None, [*notes, str(error)]
        return cls(temperature, conformal, tuple(notes))

    def scaled(self, predictions: Predictions) -> Predictions:
        """Return predictions with calibrated probabilities."""
        return apply_temperature(predictions, self.temperature)

    def errors(self, predictions: Predictions, *, n_resamples: int, seed: int) -> pd.DataFrame:
        """Return the expected calibration error before and after scaling, one row each."""
        return pd.DataFrame(
            [
                {"when": when, **calibration_error(shown, n_resamples=n_resamples, seed=seed)}
                for when, shown in (("before", predictions), ("after", self.scaled(predictions)))
            ]
        )

    def coverage(self, predictions: Predictions, *, n_resamples: int, seed: int) -> pd.DataFrame:
        """Return `leakfree.conformal.coverage` of the sets; empty where there are none."""
        if self.conformal is None:
            return pd.DataFrame()
        scaled = self.scaled(predictions)
        return coverage(scaled, self.conformal.sets(scaled.probabilities), n_resamples=n_resamples, seed=seed)
