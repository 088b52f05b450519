"""Temperature and sets come from parts of their own, and say what they could not do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from leakfree.predict.calibrated import FIVE_PARTS, Calibrated
from leakfree.scores.calibration import CalibrationError
from probabilities import sampled


def parts(n=2000, temperature=2.0):
    return {
        name: sampled(n, 3, temperature, seed=number)[0]
        for number, name in enumerate(("calibration", "conformal", "test"))
    }


def test_both_are_fitted_on_their_own_part():
    given = parts()
    found = Calibrated.of(given)
    assert found.temperature == pytest.approx(2.0, rel=0.15)
    assert found.notes == ()
    errors = found.errors(given["test"], n_resamples=100, seed=0).set_index("when")["ece"]
    assert errors["after"] < 0.5 * errors["before"]
    covered = found.coverage(given["test"], n_resamples=100, seed=0).set_index("group")["coverage"]
    assert covered["all"] == pytest.approx(0.9, abs=0.03)
    moved = {**given, "test": parts(temperature=5.0)["test"]}
    assert Calibrated.of(moved).temperature == found.temperature


def test_too_little_to_fit_is_said_and_changes_nothing():
    given = parts()
    sure = given["calibration"]
    right = np.eye(3)[sure.labels] * 0.98 + 0.01
    few = sampled(5, 3, 1.0, seed=9)[0]
    given |= {"calibration": replace(sure, probabilities=right / right.sum(1, keepdims=True))}
    found = Calibrated.of({**given, "conformal": few})
    assert (found.temperature, found.conformal) == (1.0, None)
    assert len(found.notes) == 2
    given["conformal"] = replace(few, path=Path("folder", "of", "a-run", "few.csv"))
    assert Calibrated.of(given).notes[1].startswith("few.csv: ")
    none = found.coverage(given["test"], n_resamples=10, seed=0)
    assert none.empty and "group" in none
    assert found.scaled(given["test"]).probabilities == pytest.approx(given["test"].probabilities, abs=1e-6)


def test_what_is_saved_is_read_back_for_its_weights_alone(tmp_path):
    given = parts()
    few = sampled(5, 3, 1.0, seed=9)[0]
    for number, found in enumerate((Calibrated.of(given), Calibrated.of({**given, "conformal": few}))):
        path = found.save(tmp_path / f"{number}.json", "a" * 64)
        assert Calibrated.load(path, "a" * 64) == found
        with pytest.raises(CalibrationError, match=f"{number}.json: belongs to other weights"):
            Calibrated.load(path, "b" * 64)


@pytest.mark.parametrize("content", [None, "", "[]", '{"temperature": 1}', '{"conformal": 3}'])
def test_a_file_that_is_no_calibration_is_named(tmp_path, content):
    path = tmp_path / "calibration.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(CalibrationError, match=r"calibration\.json: "):
        Calibrated.load(path, "a" * 64)


def test_the_parts_are_everything():
    assert sum(FIVE_PARTS.values()) == pytest.approx(1)
