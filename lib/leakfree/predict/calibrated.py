"""A trained model's calibration: a temperature and prediction sets, each from a part of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from leakfree.base.files import write_json
from leakfree.scores.calibration import (
    CalibrationError,
    apply_temperature,
    calibration_error,
    fit_temperature,
)
from leakfree.scores.conformal import COVERAGE, Conformal, ConformalError, calibrate, coverage

if TYPE_CHECKING:  # the service reads calibrations without pandas
    import pandas as pd

    from leakfree.scores.predictions import Predictions

#: A temperature beyond these is no calibration of a network that was trained.
TEMPERATURES = 0.01, 100.0
#: Parts that are disjoint by patient from training, from the choice of an epoch and from each other.
TEMPERATURE_PART, CONFORMAL_PART = "calibration", "conformal"
#: Parts whose images set the limit of the novelty score: neither learned from nor tested on.
LIMIT_PARTS = ("val", TEMPERATURE_PART)
#: Shares of the images: training, choice of the epoch, temperature, sets, test.
FIVE_PARTS = {"train": 0.65, "val": 0.10, TEMPERATURE_PART: 0.05, CONFORMAL_PART: 0.05, "test": 0.15}


class ReadsPredictions(Protocol):
    """A fitted model with predictions of each part, such as the result of a cell."""

    def read(self, part: str) -> Predictions:
        """Return the predictions of a part."""


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
        """Fit both from the predictions of their parts; notes name files without their folder."""

        def note(error: Exception, part: str) -> str:
            path = parts[part].path
            return str(error).replace(str(path), Path(path).name)

        notes = []
        try:
            temperature = fit_temperature(parts[TEMPERATURE_PART])
        except CalibrationError as error:
            temperature, notes = 1.0, [note(error, TEMPERATURE_PART)]
        try:
            conformal = calibrate(apply_temperature(parts[CONFORMAL_PART], temperature), alpha)
        except ConformalError as error:
            conformal, notes = None, [*notes, note(error, CONFORMAL_PART)]
        return cls(temperature, conformal, tuple(notes))

    @classmethod
    def of_cell(cls, result: ReadsPredictions) -> Calibrated:
        """Fit both from the file of predictions of a cell."""
        return cls.of({part: result.read(part) for part in (TEMPERATURE_PART, CONFORMAL_PART)})

    def save(self, path: Path, weights_sha256: str) -> Path:
        """Write all that prediction needs as JSON, with the hash of the weights that it belongs to."""
        content = {"weights_sha256": weights_sha256, "temperature": self.temperature, "notes": self.notes}
        content["conformal"] = None if self.conformal is None else asdict(self.conformal)
        return write_json(Path(path), content)

    @classmethod
    def load(cls, path: Path, weights_sha256: str) -> Calibrated:
        """Read a calibration back.

        Raises
        ------
        CalibrationError
            If the file cannot be read, is none, or belongs to other weights.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            sets = content["conformal"]
            if content["weights_sha256"] != weights_sha256:
                raise CalibrationError(f"{path}: belongs to other weights")
            temperature = content["temperature"]
            least, most = TEMPERATURES
            if isinstance(temperature, bool) or not least <= temperature <= most:
                raise ValueError(f"temperature is {temperature!r}, not between {least:g} and {most:g}")
            listed = {} if sets is None else {k: tuple(sets[k]) for k in ("classes", "scores", "tail")}
            conformal = None if sets is None else Conformal(**{**sets, **listed})
            if conformal is not None:
                conformal.check()
            return cls(float(temperature), conformal, tuple(content["notes"]))
        except OSError as error:
            raise CalibrationError(f"{path}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            said = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error
            raise CalibrationError(f"{path}: not a calibration: {said}") from error

    def scaled(self, predictions: Predictions) -> Predictions:
        """Return predictions with calibrated probabilities."""
        return apply_temperature(predictions, self.temperature)

    def errors(self, predictions: Predictions, *, n_resamples: int, seed: int) -> pd.DataFrame:
        """Return the expected calibration error before and after scaling, one row each."""
        import pandas as pd

        return pd.DataFrame(
            [
                {"when": when, **calibration_error(shown, n_resamples=n_resamples, seed=seed)}
                for when, shown in (("before", predictions), ("after", self.scaled(predictions)))
            ]
        )

    def coverage(self, predictions: Predictions, *, n_resamples: int, seed: int) -> pd.DataFrame:
        """Return `leakfree.scores.conformal.coverage` of the sets; no row where there are none."""
        import pandas as pd

        if self.conformal is None:
            return pd.DataFrame(columns=list(COVERAGE))
        scaled = self.scaled(predictions)
        return coverage(scaled, self.conformal.sets(scaled.probabilities), n_resamples=n_resamples, seed=seed)
