"""A nearest neighbour under several rules of who is a patient."""

import os
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deferred import deferred

with deferred:
    from leakfree_study.inflation.rules import predicted_by_rule, scores_by_rule

ROOT = Path(__file__).resolve().parents[3]
REAL = Path(os.environ.get("LEAKFREE_REAL_DATA", ROOT.parent / "shared" / "data")) / "cohorts"


def videos(seed=0):
    """Images of 40 videos of 20 patients: patients and videos have looks of their own."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(20), 8)
    video = np.repeat(np.arange(40), 4)
    classes = (patient % 2).astype(np.int64)
    looks = rng.integers(60, 190, (20, 30))[patient] + rng.integers(-40, 40, (40, 30))[video]
    pixels = np.clip(looks + rng.integers(-3, 4, looks.shape), 0, 255).astype(np.uint8)
    return pixels, classes, video, patient


def test_a_stricter_rule_scores_no_higher_and_images_score_highest():
    pixels, classes, video, patient = videos()
    found = scores_by_rule(pixels, classes, {"video": video, "patient": patient}, clusters=patient)
    found = found.set_index("rule")
    assert found["groups"].tolist() == [160, 40, 20]
    assert found.loc["image", "accuracy"] == 1
    assert found.loc["image", "accuracy"] >= found.loc["video", "accuracy"] > found.loc["patient", "accuracy"]
    assert (found["low"] <= found["accuracy"]).all() and (found["accuracy"] <= found["high"]).all()
    assert found.loc["patient", "accuracy"] < 0.8


def test_few_groups_are_left_out_one_by_one_and_once():
    pixels, classes, _, patient = videos()
    predicted, how = predicted_by_rule(pixels, classes, patient // 2 % 5, range(3))
    assert how == "leave one out" and predicted.shape == (1, 160)
    predicted, how = predicted_by_rule(pixels, classes, patient, range(3))
    assert how == "folds" and predicted.shape == (3, 160)


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "pocus_lung").is_dir(), reason="needs the lung ultrasound frames")
def test_the_table_of_the_page_is_what_the_frames_give():
    measured = runpy.run_path(str(ROOT / "benchmarks" / "patient_rules.py"))["measured"]
    kept = pd.read_csv(ROOT / "book" / "data" / "patient_rules.csv")
    found = measured(
        ROOT / "examples" / "cohorts" / "pocus_lung" / "study.yaml",
        ["video", "source_id"],
        "cautious_group",
        ROOT / "artifacts" / "pocus_lung",
    )
    rows = kept.set_index("rule").loc[found["rule"]].reset_index()
    pd.testing.assert_frame_equal(found.round(4), rows, check_dtype=False, atol=2e-4)
