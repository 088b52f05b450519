import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deferred import deferred
from leakfree.audit.checks.findings import STATUSES
from leakfree.audit.checks.shortcuts import FAMILIES, shortcuts
from leakfree.data.patients import patient_ids

with deferred:
    from scipy.stats import norm
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

GREYS = [*FAMILIES["border"], *FAMILIES["intensity"]]


def simulate(n, seed, labels=("NORMAL", "PNEUMONIA"), mean_group=2):
    """A table in which nothing predicts the label; a group has one label and, mostly, one scanner."""
    rng = np.random.default_rng(seed)
    group = np.sort(rng.integers(0, max(1, n // mean_group), n))
    table = pd.DataFrame({"image_id": [f"i{i}" for i in range(n)], "part": "train"})
    table["label"] = rng.choice(np.array(labels, dtype=object), n)[group]
    table["width"] = rng.integers(400, 2000, n)
    table["height"] = rng.integers(400, 2000, n)
    table["mode"] = rng.choice(["L", "RGB"], n)
    table["bytes"] = rng.integers(20_000, 400_000, n)
    for name in GREYS:
        table[name] = rng.uniform(0, 255, n)
    return table, group


def family(check, name):
    return next(row for row in check.details["families"] if row["name"] == name)


def test_nothing_to_find_passes():
    check = shortcuts(*simulate(1500, 0))
    assert check.status == "PASS" and check.count == 0 and check.severity == "none"
    assert check.details["n_images"] == 1500 and sum(check.details["labels"].values()) == 1500
    assert [row["name"] for row in check.details["families"]] == list(FAMILIES)
    assert [row["name"] for row in check.details["features"]] == [n for f in FAMILIES.values() for n in f]
    json.dumps(check.as_json(), allow_nan=False)


def test_rate_of_false_alarms_and_of_the_control():
    """The control's 95 % point is passed in about one null table of twenty; the bar in fewer."""
    alarms, beyond, aucs, controls, runs = 0, 0, [], [], 40
    for seed in range(runs):
        check = shortcuts(*simulate(240, seed), seed=seed, permutations=60, resamples=60)
        alarms += check.status == "WARN"
        beyond += check.details["auc"] > check.details["permutation"]["high"]
        aucs.append(check.details["auc"])
        controls.append(check.details["permutation"]["mean"])
    assert alarms <= 2
    assert beyond <= 7  # P(more | 40 draws of 5 %) < 0.1 %
    assert abs(np.mean(aucs) - 0.5) < 0.02 and abs(np.mean(controls) - 0.5) < 0.01


@pytest.mark.parametrize("distance", [0.5, 1.5])
def test_a_planted_size_is_found_with_its_true_auc(distance):
    table, group = simulate(3000, 1)
    rng = np.random.default_rng(1)
    table["width"] = 1000 + 100 * (rng.normal(size=3000) + distance * (table["label"] == "PNEUMONIA"))
    table["height"] = 1000
    check = shortcuts(table, group)
    truth = norm.cdf(distance / np.sqrt(2))
    found = family(check, "size")
    assert check.status == "WARN" and check.count == 1 and check.severity == "warning"
    assert found["auc"] == pytest.approx(truth, abs=0.03)
    assert found["low"] < truth < found["high"] + 0.02 and found["high"] - found["low"] < 0.08
    assert "size and aspect ratio" in check.summary and "describe the file" in check.summary
    assert family(check, "mode")["auc"] == pytest.approx(0.5, abs=0.05)


def test_a_size_in_the_middle_is_found_though_no_order_tells_it():
    """One label has medium images, the other small and large ones: a folded AUC of the width is one half."""
    table, group = simulate(1500, 2)
    middle = np.random.default_rng(2).uniform(-1, 1, 1500) / 3
    table["width"] = 1000 + 300 * np.where(table["label"] == "NORMAL", middle, middle + np.sign(middle))
    assert roc_auc_score(table["label"] == "NORMAL", table["width"]) == pytest.approx(0.5, abs=0.05)
    assert family(shortcuts(table, group), "size")["auc"] > 0.95


def test_the_score_of_one_feature_agrees_with_an_independent_model():
    table, group = simulate(1200, 3)
    positive = (table["label"] == "PNEUMONIA").to_numpy()
    table["bytes"] = np.exp(np.random.default_rng(3).normal(size=1200) + positive)
    row = next(r for r in shortcuts(table, group).details["features"] if r["name"] == "bytes")
    scores = np.empty(1200)
    aucs = []
    for train, test in StratifiedGroupKFold(5, shuffle=True, random_state=0).split(table, positive, group):
        model = Ridge(alpha=10).fit(np.log(table[["bytes"]].to_numpy()[train]), positive[train])
        scores[test] = model.predict(np.log(table[["bytes"]].to_numpy()[test]))
        aucs.append(roc_auc_score(positive[test], scores[test]))
    assert row["auc"] == pytest.approx(np.mean(aucs), abs=0.02)


def test_patients_known_by_heart_do_not_inflate():
    """Each group has its own width, bytes and label: by image that can be learned, by group it cannot."""
    grouped, by_image, alarms = [], [], 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(120), 10)
        table, _ = simulate(1200, seed)
        table["label"] = rng.permutation(np.repeat(["a", "b"], 60))[group]
        for name in ("width", "height", "bytes", *GREYS):
            table[name] = rng.permutation(120)[group] * 7 + 300
        table["mode"] = "L"
        known = shortcuts(table, group, permutations=40, resamples=100)
        grouped.append(known.details["auc"])
        alarms += known.status == "WARN"
        assert known.details["high"] - known.details["low"] > 0.1
        by_image.append(shortcuts(table, None, permutations=5, resamples=5).details["auc"])
    assert np.mean(grouped) == pytest.approx(0.5, abs=0.06) and min(by_image) > 0.75
    assert alarms <= 1


def test_greys_alone_are_a_note_and_files_are_named_first():
    table, group = simulate(1000, 7)
    table["p50"] += 120 * (table["label"] == "PNEUMONIA")
    grey = shortcuts(table, group)
    assert grey.status == "WARN" and grey.count == 1
    assert "no proof of a shortcut" in grey.summary and "describe the file" not in grey.summary
    table["mode"] = np.where(table["label"] == "PNEUMONIA", "RGB", "L")
    both = shortcuts(table, group)
    assert both.count == 2 and "colour mode (AUC 1.00" in both.summary and "describe the file" in both.summary
    assert both.summary.index("colour mode") < both.summary.index("grey statistics")


def test_three_labels_one_against_the_rest():
    table, group = simulate(1800, 8, labels=("a", "b", "c"))
    table["bytes"] = table["bytes"] + 10**6 * (table["label"] == "c")
    check = shortcuts(table, group)
    # c is told from the rest for certain; a and b from c, but not from each other: 1/2 + 1/4 of the pairs.
    assert family(check, "bytes")["auc"] == pytest.approx((1 + 0.75 + 0.75) / 3, abs=0.03)
    assert check.count == 1


@pytest.mark.parametrize("column", ["width", "height", "mode", "bytes", *GREYS])
def test_an_absent_column_or_value_never_passes(column):
    table, group = simulate(1500, 0)
    check = shortcuts(table.drop(columns=column), group, permutations=20, resamples=20)
    assert check.status == "INCONCLUSIVE" and f"no {column}" in check.summary
    table[column] = table[column].astype(object)
    table.loc[3, column] = None
    check = shortcuts(table, group, permutations=20, resamples=20)
    assert check.status == "INCONCLUSIVE" and f"no {column}" in check.summary


def test_what_keeps_it_from_passing():
    table, group = simulate(1500, 0)
    assert shortcuts(table, None).status == "INCONCLUSIVE"
    assert "patients not known" in shortcuts(table, None).summary
    sealed = table.copy()
    sealed.loc[:40, "label"] = "sealed"
    sealed.loc[41:50, "label"] = ""
    check = shortcuts(sealed, group)
    assert check.status == "INCONCLUSIVE" and check.details["left_out"] == 51
    assert "sealed" not in check.details["labels"]
    rare = table.copy()
    rare.loc[group == group[0], "label"] = "odd"
    assert shortcuts(rare, group).status == "INCONCLUSIVE"
    few = shortcuts(*simulate(100, 1, mean_group=1))
    assert few.status == "INCONCLUSIVE" and "too few groups" in few.summary


def test_sealed_labels_are_not_used():
    table, group = simulate(800, 9)
    hidden = group % 3 == 0
    table.loc[hidden, "width"] = 50
    table["label"] = table["label"].mask(hidden, "sealed")
    first = shortcuts(table, group)
    again = shortcuts(table[~hidden].reset_index(drop=True), group[~hidden])
    assert first.details["auc"] == again.details["auc"] and family(first, "size")["auc"] < 0.6


def test_not_measured():
    table, group = simulate(300, 0)
    assert shortcuts(table.drop(columns="label"), group).status == "NOT RUN"
    assert shortcuts(table.assign(label=""), group).status == "NOT RUN"
    assert shortcuts(table.assign(label="sealed"), group).status == "NOT RUN"
    assert shortcuts(table[:0], group[:0]).status == "NOT RUN"
    one = shortcuts(table.assign(label="a"), group)
    assert one.status == "INCONCLUSIVE" and "every image has the label 'a'" in one.summary
    # 19 groups of the smaller class in 150 images of it.
    label = np.where(group < 19, "a", "b")
    assert "fewer than 20 groups" in shortcuts(table.assign(label=label), group).summary
    bare = shortcuts(table[["image_id", "label"]], group)
    assert bare.status == "INCONCLUSIVE" and "no feature" in bare.summary


def test_the_seed_decides_and_order_does_not_matter_to_the_finding():
    table, group = simulate(600, 10)
    assert shortcuts(table, group, seed=3) == shortcuts(table, group, seed=3)
    assert shortcuts(table, group, seed=3) != shortcuts(table, group, seed=4)


cell = st.one_of(st.none(), st.integers(-5, 5), st.floats(), st.text(max_size=3), st.just(1e308))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_table_raises(data):
    n = data.draw(st.integers(0, 60))
    seed = data.draw(st.integers(0, 9))
    rng = np.random.default_rng(seed)
    table, group = simulate(n, seed) if n else (pd.DataFrame({"image_id": [], "label": []}), np.arange(0))
    kinds = data.draw(
        st.sampled_from([["a"], ["a", "b"], ["", "sealed", "a", "b"], ["é|x", " ", "nan", "0"]])
    )
    table["label"] = rng.choice(np.array(kinds, dtype=object), n)
    for name in data.draw(
        st.lists(st.sampled_from(["width", "height", "mode", "bytes", *GREYS]), max_size=4)
    ):
        value = data.draw(st.lists(cell, min_size=1, max_size=4))
        table[name] = pd.Series([value[i % len(value)] for i in range(n)], dtype=object)
    if data.draw(st.booleans()):
        table = table.drop(columns=data.draw(st.sampled_from(list(table.columns))))
    table.index = table.index + 7
    check = shortcuts(
        table,
        data.draw(st.sampled_from([group, None])),
        permutations=data.draw(st.sampled_from([0, 3])),
        resamples=3,
    )
    assert check.status in STATUSES and check.status != "PASS"
    json.dumps(check.as_json(), allow_nan=False)


@pytest.mark.real
def test_real_sizes_predict_as_an_independent_model_says(real_data):
    """Real originals: size and colour mode alone tell PNEUMONIA from NORMAL."""
    path = real_data / "original_dims.csv"
    if not path.is_file():
        pytest.skip("no original_dims.csv")
    table = pd.read_csv(path).rename(columns={"file": "image_id"}).drop(columns="bytes")
    table["label"] = table["image_id"].str.split("/").str[1]
    group = pd.factorize(patient_ids(table.assign(person_num=pd.NA)))[0]
    check = shortcuts(table, group)
    x = np.column_stack(
        [table["width"], table["height"], table["width"] / table["height"], table["mode"] == "RGB"]
    )
    positive = table["label"] == "PNEUMONIA"
    p = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression()),
        x,
        positive,
        groups=group,
        cv=StratifiedGroupKFold(5, shuffle=True, random_state=0),
        method="predict_proba",
    )[:, 1]
    assert check.status == "WARN" and "size and aspect ratio" in check.summary
    assert check.details["acquisition"]["auc"] == pytest.approx(roc_auc_score(positive, p), abs=0.02)
    assert check.details["acquisition"]["permutation"]["high"] < 0.56
    # Every RGB file is PNEUMONIA, but few are.
    assert 0.5 < family(check, "mode")["auc"] < 0.55
