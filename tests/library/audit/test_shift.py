import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leakfree.audit.checks import shift as module
from leakfree.audit.checks.findings import STATUSES
from leakfree.audit.checks.separability import LEAST_GROUPS
from leakfree.audit.checks.shift import components, runs_p, shift
from leakfree.audit.checks.shortcuts import FAMILIES

GREYS = [*FAMILIES["border"], *FAMILIES["intensity"]]


def simulate(n, seed, parts=("train", "test"), shares=(0.6, 0.4)):
    """Groups dealt to the parts at random: table, thumbnails, groups, numbers."""
    rng = np.random.default_rng(seed)
    group = np.unique(rng.integers(0, n // 2, n), return_inverse=True)[1]
    g = group.max() + 1
    table = pd.DataFrame({"image_id": [f"i{i}" for i in range(n)]})
    table["part"] = rng.choice(np.array(parts, dtype=object), g, p=shares)[group]
    table["label"] = rng.choice(np.array(["NORMAL", "PNEUMONIA"], dtype=object), g)[group]
    table["width"] = rng.integers(400, 2000, n)
    table["height"] = rng.integers(400, 2000, n)
    table["mode"] = rng.choice(["L", "RGB"], n)
    table["bytes"] = rng.integers(20_000, 400_000, n)
    for name in GREYS:
        table[name] = rng.uniform(0, 255, n)
    smooth = rng.integers(0, 200, (n, 8, 8)).repeat(4, axis=1).repeat(4, axis=2)
    thumbnails = (smooth + rng.integers(0, 50, (n, 32, 32))).astype(np.uint8)
    number = rng.permutation(g)[group]
    numbers = pd.DataFrame({"prefix": "IM", "number": pd.array(number, dtype="Int64")})
    return table, thumbnails, group, numbers


def run(table, thumbnails, group, numbers, **options):
    return shift(table, thumbnails, group, numbers=numbers, **{"permutations": 50, **options})


def test_parts_dealt_at_random_pass():
    check = run(*simulate(1200, 0))
    pair = check.details["pairs"][0]
    assert check.status == "PASS" and check.count == 0
    assert set(pair["parts"]) == {"train", "test"}
    assert pair["auc"] == pytest.approx(0.5, abs=0.05) and pair["labels"]["p"] > 0.01
    assert pair["identifiers"]["prefixes"][0]["p"] > 0.01
    json.dumps(check.as_json(), allow_nan=False)


def test_rate_of_false_alarms():
    runs = 16
    checks = [run(*simulate(300, seed), seed=seed, resamples=50) for seed in range(runs)]
    assert sum(check.status == "WARN" for check in checks) <= 2
    pairs = [check.details["pairs"][0] for check in checks]
    assert (
        sum(pair["auc"] > pair["permutation"]["high"] for pair in pairs) <= 4
    )  # of which each is so by chance in one of twenty: P(more) < 0.1 %
    for p in (
        [pair["labels"]["p"] for pair in pairs],
        [pair["identifiers"]["prefixes"][0]["p"] for pair in pairs],
    ):
        # Uniform under no difference: about half lie below one half. P(fewer or more) < 0.1 %
        assert 2 <= sum(value < 0.5 for value in p) <= 14


def test_a_planted_size_is_found():
    table, thumbnails, group, numbers = simulate(1200, 1)
    table["width"] = 1000 + 100 * np.random.default_rng(1).normal(size=1200)
    table.loc[table["part"] == "test", "width"] += 100
    check = run(table, thumbnails, group, numbers)
    pair = check.details["pairs"][0]
    # One standard deviation apart: the AUC of the best classifier is 0.76.
    assert check.status == "WARN" and check.count == 1 and "a classifier tells them apart" in check.summary
    assert 0.68 < pair["auc"] < 0.79 and pair["low"] > pair["permutation"]["high"]


def test_a_change_of_the_pictures_is_found_that_the_table_does_not_show():
    table, thumbnails, group, numbers = simulate(800, 2)
    test = (table["part"] == "test").to_numpy()
    thumbnails[test, :8, :] = np.minimum(thumbnails[test, :8, :], 90)
    assert run(table, thumbnails, group, numbers).details["pairs"][0]["auc"] > 0.8
    assert "apart" not in run(table, None, group, numbers).summary


def test_components_are_fitted_without_the_fold():
    rng = np.random.default_rng(0)
    thumbnails = rng.integers(0, 255, (100, 32, 32)).astype(np.uint8)
    folds = np.arange(100) % 5
    before = components(thumbnails, folds)
    changed = thumbnails.copy()
    changed[folds == 2] = 255 - changed[folds == 2] // 3
    after = components(changed, folds)
    kept = folds != 2
    assert before[2][kept] == pytest.approx(after[2][kept], abs=1e-3)
    assert np.abs(before[1][kept] - after[1][kept]).max() > 0.1
    assert before[2][kept][:, : module.COMPONENTS].std() == pytest.approx(1, abs=0.05)


def test_patients_in_both_parts_do_not_inflate():
    """By image, a patient's own width tells nothing of the part; its siblings must not vote."""
    rng = np.random.default_rng(3)
    table, _, _, _ = simulate(1000, 3)
    group = np.repeat(np.arange(100), 10)
    table["part"] = rng.permutation(np.repeat(["train", "test"], 50))[group]
    for name in ("width", "height", "bytes", *GREYS):
        table[name] = rng.permutation(100)[group] + 300
    table["mode"] = "L"
    known = shift(table, None, group, permutations=50)
    assert known.details["pairs"][0]["auc"] < 0.66 and "apart" not in known.summary
    assert shift(table, None, None, permutations=50).details["pairs"][0]["auc"] > 0.75


def test_label_proportions_are_compared_by_group():
    table, thumbnails, group, numbers = simulate(1200, 4)
    test = table["part"] == "test"
    rng = np.random.default_rng(4)
    table.loc[test, "label"] = np.where(rng.random(group.max() + 1) < 0.25, "NORMAL", "PNEUMONIA")[group][
        test
    ]
    check = run(table, thumbnails, group, numbers)
    labels = check.details["pairs"][0]["labels"]
    assert check.status == "WARN" and "label NORMAL is" in check.summary
    assert labels["p"] == pytest.approx(1 / 1001, abs=1e-5) and abs(labels["difference"]) > 0.15
    # The same share of images, but from six patients: no evidence.
    big = np.repeat(np.arange(60), 20)
    table["part"] = np.where(big < 40, "train", "test")
    table["label"] = np.where((big % 20) < np.where(big < 40, 10, 7), "NORMAL", "PNEUMONIA")
    assert run(table, None, big, None).details["pairs"][0]["labels"]["p"] > 0.1
    assert run(table, None, None, None).details["pairs"][0]["labels"]["p"] < 0.01


def test_sealed_labels_are_not_checked():
    table, thumbnails, group, numbers = simulate(1200, 0)
    table.loc[table["part"] == "test", "label"] = "sealed"
    check = run(table, thumbnails, group, numbers)
    labels = check.details["pairs"][0]["labels"]
    assert check.status == "INCONCLUSIVE" and "labels are sealed" in check.summary
    assert labels["p"] is None and labels["proportions"] == {}


def test_blocks_of_numbers_are_found():
    table, thumbnails, group, numbers = simulate(1200, 5)
    of_group = table.groupby(group)["part"].first()
    rank = of_group.sort_values(kind="stable").index
    block = np.empty(len(rank), dtype=np.int64)
    block[rank] = np.arange(len(rank))
    numbers["number"] = pd.array(block[group], dtype="Int64")
    check = run(table, thumbnails, group, numbers)
    row = check.details["pairs"][0]["identifiers"]["prefixes"][0]
    assert check.status == "WARN" and check.count == 1 and "identifiers stand in blocks" in check.summary
    assert row["runs"] == 2 and row["expected"] > 100 and row["p"] < 1e-6
    assert sum(row["patients"]) == len(of_group) and row["in_both"] == 0


@pytest.mark.parametrize(("share", "found"), [(0.6, False), (0.4, True)])
def test_the_more_prefixes_are_tested_the_smaller_a_probability_must_be(share, found):
    """Two are: each may use half of the error."""
    rows = [
        {"prefix": prefix, "p": share * module.ALPHA, "runs": 2, "expected": 100.0} for prefix in ("IM", "A")
    ]
    nothing = {"reason": "", "p": 1.0, "difference": 0.0}
    pair = {"reason": "", "auc": None, "labels": nothing, "parts": ["train", "test"]}
    said, _ = module._judge(pair | {"identifiers": {"reason": "", "prefixes": rows}}, module.ALPHA)
    assert bool(said) is found


@pytest.mark.parametrize(("n", "m"), [(5, 5), (3, 6), (1, 4)])
def test_the_probability_of_runs_is_that_of_all_orders(n, m):
    counts = []
    for chosen in combinations(range(n + m), n):
        kind = np.isin(np.arange(n + m), chosen)
        counts.append(1 + int((kind[1:] != kind[:-1]).sum()))
    for runs in range(2, n + m + 1):
        assert runs_p(runs, n, m) == pytest.approx(np.mean(np.array(counts) <= runs))


def test_the_normal_approximation_joins_the_exact_probability(monkeypatch):
    exact = [runs_p(r, 100, 140) for r in (95, 110, 118, 130)]
    monkeypatch.setattr(module, "_EXACT", 0)
    assert [runs_p(r, 100, 140) for r in (95, 110, 118, 130)] == pytest.approx(exact, abs=0.004)


@pytest.mark.parametrize("missing", ["thumbnails", "groups", "numbers", "label", "bytes", "p95", "mode"])
def test_what_is_missing_never_passes(missing):
    table, thumbnails, group, numbers = simulate(1200, 0)
    check = shift(
        table.drop(columns=missing, errors="ignore"),
        None if missing == "thumbnails" else thumbnails,
        None if missing == "groups" else group,
        numbers=None if missing == "numbers" else numbers,
        permutations=50,
    )
    assert check.status == "INCONCLUSIVE" and "Not checked" in check.summary


def test_small_parts_and_no_parts():
    table, thumbnails, group, numbers = simulate(1200, 0)
    assert shift(table.assign(part="train"), thumbnails, group).status == "NOT RUN"
    assert shift(table.drop(columns="part"), thumbnails, group).status == "NOT RUN"
    assert shift(table[:0], thumbnails[:0], group[:0]).status == "NOT RUN"
    table["part"] = np.where(group < 19, "test", "train")
    numbers["number"] = pd.array(np.random.default_rng(0).permutation(group.max() + 1)[group], dtype="Int64")
    check = run(table, thumbnails, group, numbers)
    assert "fewer than 20 groups" in check.summary and check.details["pairs"][0]["auc"] is None


def test_all_pairs_are_compared():
    simulated = simulate(1500, 6, parts=("train", "val", "test"), shares=(0.4, 0.3, 0.3))
    check = run(*simulated, resamples=50)
    order = list(dict.fromkeys(simulated[0]["part"]))
    assert [tuple(pair["parts"]) for pair in check.details["pairs"]] == list(combinations(order, 2))


def test_one_seed_one_answer():
    simulated = simulate(300, 7)
    assert run(*simulated, seed=1) == run(*simulated, seed=1) != run(*simulated, seed=2)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_table_raises(data):
    n = data.draw(st.integers(0, 2 * LEAST_GROUPS - 1))  # one of two parts has too few patients to say
    seed = data.draw(st.integers(0, 9))
    rng = np.random.default_rng(seed)
    table, thumbnails, group, numbers = simulate(max(n, 4), seed)
    table, thumbnails, group, numbers = table[:n], thumbnails[:n], group[:n], numbers[:n].copy()
    for name, kinds in {
        "label": ["a", "b", "", "sealed", None],
        "part": ["train", "test", "é", "", None],
    }.items():
        most = data.draw(st.integers(1, len(kinds)))
        table = table.assign(**{name: rng.choice(np.array(kinds[:most], dtype=object), n)})
    for name in data.draw(
        st.lists(st.sampled_from(["width", "height", "mode", "bytes", *GREYS]), max_size=3)
    ):
        value = data.draw(st.sampled_from([None, np.nan, np.inf, 0, -1, "x", 1e308]))
        table = table.assign(**{name: pd.Series([value] * n, dtype=object, index=table.index)})
    if data.draw(st.booleans()):
        thumbnails = np.zeros_like(thumbnails)
    numbers.loc[rng.random(n) < 0.5, "number"] = pd.NA
    table.index = table.index + 5
    check = shift(
        table,
        data.draw(st.sampled_from([thumbnails, None])),
        data.draw(st.sampled_from([group, None])),
        numbers=data.draw(st.sampled_from([numbers, None])),
        permutations=3,
        resamples=3,
    )
    assert check.status in STATUSES and check.status != "PASS"
    json.dumps(check.as_json(), allow_nan=False)
