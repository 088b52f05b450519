"""Tables of the inflation study: what they say can be computed again by hand from the outcomes."""

import numpy as np
import pandas as pd
import pytest

from deferred import deferred

with deferred:
    from sklearn.metrics import roc_auc_score

    from leakfree_study.inflation import results as tables
    from leakfree_study.inflation.jobs import Job, Outcome
    from leakfree_study.inflation.material import Material
    from leakfree_study.inflation.store import Arm, Results

    CLEAN = Arm("etiology", "pixels", "1-nn", "clean")
    LEAKY = Arm("etiology", "pixels", "1-nn", "siblings-100")
    EXACT = Arm("etiology", "pixels", "1-nn", "exact-100")

MARGINS = {"roc_auc": 0.01, "macro_f1": 0.02}


def material(several=60, single=80):
    """Patients of three images and of one, bacterial and viral in turn."""
    groups = np.array([*np.arange(several).repeat(3), *range(several, several + single)])
    names = np.array([f"p{g}" for g in groups], dtype=object)
    ids = np.array([f"film-{i}" for i in range(len(groups))], dtype=object)
    return Material(ids, names, 1 + groups % 2, {"series": groups, "person": groups}, {})


def outcome(found, rows, strength, seed, arm):
    """Predict with a signal of some strength, and noise that arms share."""
    truth = found.material.labels[rows] - 1
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(len(found.material))[rows]
    p = 1 / (1 + np.exp(-(strength * (truth - 0.5) + noise)))
    return Outcome(rows, np.column_stack([1 - p, p]).astype(np.float32), truth.astype(np.int8))


def add(found, arm, strength, seeds, roles=("test", "single")):
    for seed in seeds:
        rows = found.draw(arm.scope, seed).rows(*roles)
        job = Job(arm.task, "clean", arm.features, arm.head, seed, scope=arm.scope, permuted=arm.permuted)
        found.add(job, {arm.name: outcome(found, rows, strength, seed, arm)})


@pytest.fixture(scope="module")
def found():
    made = Results(material())
    add(made, CLEAN, 1.0, range(6))
    add(made, LEAKY, 2.0, range(6))
    add(made, EXACT, 8.0, range(6), roles=("test",))
    return made


def test_a_row_is_the_mean_difference_of_auc_over_draws(found):
    rows = tables.inflation_table(found, "roc_auc", n_resamples=200)
    row = rows[(rows["protocol"] == "siblings") & (rows["metric"] == "roc_auc")].iloc[0]
    expected, clean = [], []
    for seed in range(6):
        scores = []
        for arm in (CLEAN, LEAKY):
            kept = found.arms[arm][seed]
            tested = np.isin(kept.rows, found.draw("series", seed).rows("test"))
            scores.append(roc_auc_score(kept.truth[tested], kept.probabilities[tested, 1]))
        expected.append(scores[1] - scores[0])
        clean.append(scores[0])
    assert row["estimate"] == pytest.approx(np.mean(expected))
    assert row["sd_over_draws"] == pytest.approx(np.std(expected, ddof=1))
    assert row["low"] < row["estimate"] < row["high"]
    assert (row["draws"], row["n_patients"], row["n_by_class"]) == (6, 60, "30/30")
    assert (row["predictions"], row["clean_predictions"]) == (LEAKY.path, CLEAN.path)
    of_clean = np.mean(clean)
    assert row["clean"] == pytest.approx(of_clean)
    assert row["share"] == pytest.approx(row["estimate"] / (1 - of_clean))


def test_holm_is_over_the_primary_metric_of_a_task_and_nothing_else(found):
    rows = tables.inflation_table(found, "roc_auc", n_resamples=200)
    other = rows.assign(task="binary", p=1.0)
    judged = tables.judge(pd.concat([rows, other], ignore_index=True), MARGINS)
    family = judged[judged["primary"] & (judged["task"] == "etiology")]
    assert len(family) == 2
    p = np.sort(family["p"].to_numpy())
    assert np.sort(family["p_holm"]) == pytest.approx([min(2 * p[0], 1), max(2 * p[0], p[1])])
    assert judged.loc[~judged["primary"], "p_holm"].isna().all()
    assert set(judged.loc[~judged["primary"], "verdict"]) == {""}
    assert judged.loc[judged["protocol"] == "exact", "verdict"].iloc[0] == "inflates"


def test_the_same_patient_is_a_family_of_its_own():
    row = {"task": "etiology", "metric": "roc_auc", "primary": True, "dose": 1.0, "estimate": 0.03}
    ends = {"low": 0.001, "high": 0.059, "p_holm": 1.0, "verdict": "undecided"}
    p = {"siblings": [0.012, 0.03], "exact": [0.02] * 40}
    table = pd.DataFrame([{**row, **ends, "protocol": name, "p": one} for name in p for one in p[name]])
    others = [table.assign(dose=0.5), table.assign(primary=False), table.assign(task="binary", p=0.9)]
    own = tables.own_family(pd.concat([table, *others], ignore_index=True), MARGINS)
    mine = own[own["task"] == "etiology"]
    assert mine["p_own"].tolist() == pytest.approx([0.024, 0.03])
    assert mine["verdict_own"].tolist() == ["inflates", "inflates"]
    assert (mine["own"].tolist(), mine["family"].tolist()) == ([2, 2], [84, 84])
    assert own.loc[own["task"] == "binary", "verdict_own"].tolist() == ["undecided", "undecided"]


def test_nothing_left_to_gain_has_no_share():
    assert np.isnan(tables.share_of_left(0.0, 1.0))
    assert tables.share_of_left(0.01, 0.98) == pytest.approx(0.5)


def test_the_place_does_not_change_the_table(found):
    one, two = (tables.inflation_table(found, "roc_auc", n_resamples=50, jobs=jobs) for jobs in (1, 2))
    pd.testing.assert_frame_equal(one, two)


def test_arms_are_scored_where_their_leak_is(found):
    arms = tables.arm_table(found, n_resamples=50).set_index("arm")
    assert dict(arms["population"]) == {"clean": "several", "siblings-100": "several", "exact-100": "several"}
    assert (
        arms.loc["clean", "estimate"]
        < arms.loc["siblings-100", "estimate"]
        < arms.loc["exact-100", "estimate"]
    )


def test_a_natural_split_dilutes_the_leak_by_those_without_siblings(found):
    row = tables.natural_table(found, n_resamples=200).iloc[0]
    full = tables.inflation_table(found, "roc_auc", n_resamples=50).set_index(["protocol", "metric"])
    # Three images: a sibling in training with probability 1 - 0.2 ** 2; 180 of 260 are of such patients.
    assert row["share_with_sibling"] == pytest.approx(180 / 260 * (1 - 0.2**2))
    assert row["n_patients"] > full.loc[("siblings", "roc_auc"), "n_patients"]


def test_a_natural_split_without_singles_and_with_all_siblings_is_the_full_dose():
    made = Results(material(several=60, single=0))
    add(made, CLEAN, 1.0, range(4), roles=("test",))
    add(made, LEAKY, 3.0, range(4), roles=("test",))
    patch = pytest.MonkeyPatch()
    patch.setattr(tables, "NATURAL_TRAIN", 1.0)
    natural = tables.natural_table(made, n_resamples=50).iloc[0]
    patch.undo()
    full = tables.inflation_table(made, "roc_auc", n_resamples=50)
    full = full[(full["protocol"] == "siblings") & (full["metric"] == "roc_auc")].iloc[0]
    assert natural["share_with_sibling"] == 1
    assert natural["estimate"] == pytest.approx(full["estimate"])


def test_a_control_reports_chance_and_gap(found):
    rows = tables.control_table(found, n_resamples=200, permuted=False).set_index("protocol")
    assert list(rows.index) == ["exact", "siblings"]
    assert rows.loc["exact", "clean"] == pytest.approx(rows.loc["siblings", "clean"])
    assert rows.loc["exact", "estimate"] > rows.loc["siblings", "estimate"] > 0
    assert rows.loc["exact", "low"] > 0
    assert tables.control_table(found, permuted=True).empty


def test_two_runs_stand_side_by_side():
    here = pd.DataFrame(
        {
            "protocol": ["siblings", "exact"],
            "model": ["resnet18", "1-nn on pixels"],
            "task": ["etiology", "etiology"],
            "dose": [1.0, 0.25],
            "metric": ["roc_auc", "roc_auc"],
            "primary": [True, True],
            "estimate": [0.030, 0.2],
            "low": [0.01, 0.1],
            "high": [0.05, 0.3],
            "p_holm": [0.04, 0.001],
            "verdict": ["inflates", "inflates"],
        }
    )
    there = here.assign(estimate=[0.025, 0.2], verdict=["undecided", "inflates"]).iloc[::-1]
    both = tables.compare_runs(here, there).set_index("model")
    assert both["difference"].to_dict() == pytest.approx({"resnet18": 0.005, "1-nn on pixels": 0.0})
    assert both.loc["resnet18", ["verdict_here", "verdict_there"]].tolist() == ["inflates", "undecided"]
    assert len(tables.compare_runs(here, there.iloc[:1])) == 1
