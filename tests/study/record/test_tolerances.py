"""Every table and column of the published run has a rule, the right one for what it holds."""

from decimal import Decimal

import pandas as pd
import pytest
from pydantic import ValidationError

from leakfree_study.record.reproduce import read_table
from leakfree_study.record.tolerances import TableRules, Tolerances, listing, summary, tolerances

CLASSICAL = ("logistic_regression", "random_forest", "xgboost")
#: Columns that hold a score or its interval.
SCORES = ("estimate", "low", "high", "ece", "coverage", "accuracy", "macro_f1", "roc_auc")


@pytest.fixture(scope="module")
def published(repository):
    folder = repository / "artifacts" / "chest_xray" / "tables"
    found = {path.stem: read_table(path) for path in sorted(folder.glob("*.csv"))}
    assert len(found) > 50
    return found


def test_every_table_and_column_of_the_published_run_has_a_rule_and_no_rule_is_left_over(published):
    assert set(tolerances().tables) == set(published)
    for name, table in published.items():
        assert sorted(tolerances().tables[name].columns) == sorted(table.columns), name


def test_a_row_of_every_published_table_is_named_by_its_key(published):
    for name, table in published.items():
        assert not table.duplicated(list(tolerances().tables[name].key)).any(), name


def test_the_tolerance_is_the_one_that_was_announced():
    assert tolerances().tolerance == Decimal("0.02")


def test_scores_on_pixels_are_exact_and_scores_of_networks_and_embeddings_are_not(published):
    seen = {"exact": 0, "within": 0}
    for name, table in published.items():
        if "model" not in table.columns or name == "06_claims":
            continue
        rules = tolerances().tables[name]
        for row in table.drop_duplicates("model").to_dict("records"):
            on_pixels = row["model"] in CLASSICAL or row["model"].endswith(" on pixels")
            for column in set(SCORES) & set(table.columns):
                expected = "exact" if on_pixels else "within"
                assert rules.of_row(row)[column] == expected, (name, row["model"], column)
                seen[expected] += 1
    assert min(seen.values()) > 20


def test_counts_identifiers_and_file_names_are_exact_everywhere(published):
    names = ("n_images", "n_patients", "n_by_class", "n_train", "shared_groups", "predictions", "draws")
    for name, table in published.items():
        for column in set(names) & set(table.columns):
            rules = tolerances().tables[name]
            assert {rules.of_row(row)[column] for row in table.to_dict("records")} == {"exact"}, (
                name,
                column,
            )


def test_only_durations_hashes_and_what_rests_on_networks_is_not_compared():
    reasons = {
        name: {reason for part in (table, *table.rows) for reason in part.not_compared.values()}
        for name, table in tolerances().tables.items()
    }
    without = [name for name, found in reasons.items() if found - {"time", "processor"}]
    assert all(name.startswith(("03_history", "05_", "06_processors", "inflation")) for name in without)
    assert not any(found for name, found in reasons.items() if name.startswith(("01_", "02_", "04_")))
    used = set().union(*reasons.values()) | {t.free_rows for t in tolerances().tables.values()} - {None}
    assert used == set(tolerances().reasons)


def rules(**changes):
    content = {
        "key": ["model"],
        "exact": ["n"],
        "within": ["estimate"],
        "not_compared": {"seconds": "time"},
        "rows": [{"where": {"model": "* on pixels"}, "exact": ["estimate"]}],
    }
    return TableRules.model_validate(content | changes)


def test_rows_that_fit_have_rules_of_their_own():
    table = rules()
    assert table.of_row({"model": "1-nn on pixels"})["estimate"] == "exact"
    assert table.of_row({"model": "1-nn on embeddings"})["estimate"] == "within"
    assert table.of_row({"model": "1-nn on pixels"})["seconds"] == "time"
    assert table.of_row({"model": "1-nn on pixels"})["n"] == table.of_row({"model": "x"})["model"] == "exact"
    assert "new" not in table.of_row({"model": "x"})


def test_the_first_rows_that_fit_decide_and_several_patterns_may_stand_for_one_column():
    several = [
        {"where": {"model": ["a*", "b"]}, "exact": ["estimate"]},
        {"where": {"model": "ab"}, "not_compared": {"estimate": "time"}},
    ]
    table = rules(rows=several)
    assert [table.of_row({"model": m})["estimate"] for m in ("ab", "b", "bb")] == ["exact", "exact", "within"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exact": ["n", "estimate"]}, "estimate has two rules"),
        ({"exact": ["n", "model"]}, "model has two rules"),
        ({"rows": [{"where": {"model": "a"}, "exact": ["other"]}]}, "other"),
        ({"rows": [{"where": {"n": "1"}, "exact": ["estimate"]}]}, "n is not in the key"),
        ({"sealed_rows": {"part": "official"}}, "part is not in the key"),
        ({"key": []}, "key"),
        ({"tolerance": 1}, "tolerance"),
    ],
)
def test_rules_that_contradict_themselves_raise(changes, message):
    with pytest.raises(ValidationError, match=message):
        rules(**changes)


@pytest.mark.parametrize(
    "changes", [{"tolerance": -0.1}, {"tables": {"t": {"key": ["k"], "free_rows": "fun"}}}, {"more": 1}]
)
def test_a_file_that_is_not_one_of_rules_raises(changes):
    good = {"tolerance": 0.02, "exact": "e", "within": "w", "reasons": {"time": "t"}, "tables": {}}
    assert Tolerances.model_validate(good).tolerance == Decimal("0.02")
    with pytest.raises(ValidationError):
        Tolerances.model_validate(good | changes)


@pytest.mark.parametrize(("name", "make"), [("tolerances", summary), ("tolerances_tables", listing)])
def test_the_book_shows_the_rules_as_they_are(repository, name, make):
    shown = pd.read_csv(repository / "book" / "data" / f"{name}.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(shown, make().astype(str), check_dtype=False)


def test_every_column_of_every_table_is_listed_for_the_book():
    listed = listing()
    for name, table in tolerances().tables.items():
        rows = listed[listed["table"] == name]
        columns = {column for cell in rows["columns"] for column in cell.split(", ")}
        assert columns == set(table.named())
