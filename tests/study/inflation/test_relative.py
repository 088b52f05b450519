"""Inflation as a share of what was left to gain: by hand, and from the published run."""

import numpy as np
import pandas as pd
import pytest

from deferred import deferred

with deferred:
    from leakfree_study.inflation.relative import medians, section, shares


def tables():
    """A leak at 0.98 and at 0.6, a leak that changes nothing, and a model that one task lacks."""
    rows, arms = [], []
    for leak, task, model, clean, estimate in (
        ("exact", "binary", "1-nn", 0.98, 0.01),
        ("exact", "etiology", "1-nn", 0.60, 0.30),
        ("exact", "etiology", "forest", 0.60, 0.40),
        ("threshold", "binary", "1-nn", 0.98, 0.0),
        ("exact", "binary", "perfect", 1.0, 0.0),
        ("exact", "etiology", "perfect", 0.90, 0.02),
    ):
        path = f"{task}/{model}.csv"
        reach = 0.005 if estimate or model == "perfect" else 0.0
        of = {
            "protocol": leak,
            "task": task,
            "model": model,
            "dose": 1.0,
            "metric": "roc_auc",
            "primary": True,
        }
        rows.append(
            {
                **of,
                "estimate": estimate,
                "low": estimate - reach,
                "high": estimate + reach,
                "verdict": "inflates" if estimate > 0.005 else "no difference, to within the margin",
                "predictions": f"{leak}/{path}",
                "clean_predictions": path,
            }
        )
        arms.append({"predictions": f"{leak}/{path}", "metric": "roc_auc", "estimate": clean + estimate})
        # The clean arm is scored on other images there.
        arms.append({"predictions": path, "metric": "roc_auc", "estimate": 0.7})
    return pd.DataFrame(rows), pd.DataFrame(arms).drop_duplicates("predictions")


def test_shares_by_hand():
    found = shares(*tables()).set_index(["protocol", "task", "model"])
    near_one = found.loc[("exact", "binary", "1-nn")]
    assert near_one["share"] == pytest.approx(0.5)
    assert (near_one["share_low"], near_one["share_high"]) == pytest.approx((0.25, 0.75))
    assert found.loc[("exact", "etiology", "1-nn"), "share"] == pytest.approx(0.75)
    assert np.isnan(found.loc[("exact", "binary", "perfect"), "share"])
    assert found["unchanged"].sum() == 1
    assert found.loc[("threshold", "binary", "1-nn"), "unchanged"]


def test_medians_are_over_the_same_models_and_zeros_unchanged_are_not_counted():
    rows = medians(shares(*tables())).set_index(["protocol", "task"])
    of_copies = rows.loc[("exact", "etiology")]
    # The forest was not measured in both tasks, and the perfect model has no share in one of them.
    assert of_copies["models"] == 1
    assert of_copies["estimate"] == pytest.approx(0.30)
    assert rows.loc[("exact", "binary"), "share"] == pytest.approx(0.5)
    assert (of_copies["counted"], of_copies["found"]) == (3, 3)
    assert tuple(rows.loc[("threshold", "binary"), ["models", "counted", "found"]]) == (0, 0, 0)


def test_only_the_full_dose_of_the_primary_roc_auc_is_told():
    rows, arms = tables()
    more = rows.iloc[[0]]
    others = [more.assign(dose=0.5), more.assign(metric="macro_f1"), more.assign(primary=False)]
    pd.testing.assert_frame_equal(shares(pd.concat([rows, *others]), arms), shares(rows, arms))


def test_the_published_run_is_told_leak_by_leak(repository):
    run = repository / "artifacts" / "chest_xray"
    text = section("shares", run)
    found = shares(*(pd.read_csv(run / "tables" / f"{name}.csv") for name in ("inflation", "inflation_arms")))
    assert found["share"].max() <= 1 + 1e-9
    assert found.loc[found["clean"].isna(), "model"].isin(["resnet18", "simple-cnn-16"]).all()
    clean = found.drop_duplicates(["task", "model"])["clean"].dropna()
    assert ((clean > 0.59) & (clean < 1)).all()
    assert len(text.splitlines()) == 2 + len(found.groupby(["protocol", "task"]))
    copies = found[(found["protocol"] == "exact") & (found["task"] == "binary")]
    assert copies["share"].max() > copies["estimate"].max() * 5


def test_a_run_without_inflation_says_so(tmp_path):
    assert section("shares", tmp_path) == "This run measured no inflation.\n"
