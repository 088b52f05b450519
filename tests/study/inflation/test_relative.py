"""Inflation as a share of what was left to gain: by hand, and from the published run."""

import numpy as np
import pandas as pd
import pytest

from deferred import deferred

with deferred:
    from leakfree_study.inflation.relative import detectable, medians, section, shares


def table():
    """A leak at 0.98 and at 0.6, a leak that changes nothing, and a model that one task lacks."""
    rows = []
    for leak, task, model, clean, estimate in (
        ("exact", "binary", "1-nn", 0.98, 0.01),
        ("exact", "etiology", "1-nn", 0.60, 0.30),
        ("exact", "etiology", "forest", 0.60, 0.40),
        ("threshold", "binary", "1-nn", 0.98, 0.0),
        ("exact", "binary", "perfect", 1.0, 0.0),
        ("exact", "etiology", "perfect", 0.90, 0.02),
    ):
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
                "clean": clean,
            }
        )
    return pd.DataFrame(rows)


def test_shares_by_hand():
    found = shares(table()).set_index(["protocol", "task", "model"])
    near_one = found.loc[("exact", "binary", "1-nn")]
    assert near_one["share"] == pytest.approx(0.5)
    assert (near_one["share_low"], near_one["share_high"]) == pytest.approx((0.25, 0.75))
    assert found.loc[("exact", "etiology", "1-nn"), "share"] == pytest.approx(0.75)
    assert np.isnan(found.loc[("exact", "binary", "perfect"), "share"])
    assert found["unchanged"].sum() == 1
    assert found.loc[("threshold", "binary", "1-nn"), "unchanged"]


def test_medians_are_over_the_same_models_and_zeros_unchanged_are_not_counted():
    rows = medians(shares(table())).set_index(["protocol", "task"])
    of_copies = rows.loc[("exact", "etiology")]
    # The forest was not measured in both tasks, and the perfect model has no share in one of them.
    assert of_copies["models"] == 1
    assert of_copies["estimate"] == pytest.approx(0.30)
    assert rows.loc[("exact", "binary"), "share"] == pytest.approx(0.5)
    assert (of_copies["counted"], of_copies["found"]) == (3, 3)
    assert tuple(rows.loc[("threshold", "binary"), ["models", "counted", "found"]]) == (0, 0, 0)


def test_only_the_full_dose_of_the_primary_roc_auc_is_told():
    rows = table()
    more = rows.iloc[[0]]
    others = [more.assign(dose=0.5), more.assign(metric="macro_f1"), more.assign(primary=False)]
    pd.testing.assert_frame_equal(shares(pd.concat([rows, *others])), shares(rows))


def test_the_published_run_is_told_leak_by_leak(repository):
    run = repository / "artifacts" / "chest_xray"
    text = section("shares", run)
    found = shares(pd.read_csv(run / "tables" / "inflation.csv"))
    assert found["share"].max() <= 1 + 1e-9
    clean = found.drop_duplicates(["task", "model"])["clean"]
    assert ((clean > 0.55) & (clean < 1)).all()
    assert len(text.splitlines()) == 2 + len(found.groupby(["protocol", "task"]))
    copies = found[(found["protocol"] == "exact") & (found["task"] == "binary")]
    assert copies["share"].max() > copies["estimate"].max() * 5


def test_a_run_without_inflation_says_so(tmp_path):
    assert section("shares", tmp_path) == "This run measured no inflation.\n"


def test_a_run_of_an_older_version_says_how_its_tables_are_made_again(tmp_path):
    (tmp_path / "tables").mkdir()
    table().drop(columns="clean").to_csv(tmp_path / "tables" / "inflation.csv", index=False)
    assert "leakfree rebuild" in section("shares", tmp_path)


def test_the_detectable_effect_grows_with_the_comparisons():
    effects = pd.DataFrame(
        {
            "task": ["binary"],
            "tested_a_draw_first_class": [1001],
            "tested_a_draw_second_class": [2000],
            "sd_of_estimate": [0.01],
        }
    )
    # Nearly normal: 1.96 + 0.84 standard errors at a level of 5 %.
    assert detectable(effects, "binary", 1, 0.05) == pytest.approx(0.028, abs=1e-4)
    assert detectable(effects, "binary", 50, 0.05) == pytest.approx(0.01 * (3.29 + 0.842), abs=2e-4)
    assert np.isnan(detectable(effects, "etiology", 1, 0.05))


def test_the_same_patient_is_told_in_both_families(repository):
    text = section("patients", repository / "artifacts" / "chest_xray")
    table = pd.read_csv(repository / "artifacts" / "chest_xray" / "tables" / "inflation.csv")
    rows = table[(table["protocol"] == "siblings") & (table["dose"] == 1.0) & table["primary"]]
    assert text.count("\n| ") == 1 + len(rows) - 1
    assert text.count("four of five studies") == 2
