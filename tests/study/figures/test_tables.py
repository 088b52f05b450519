"""Tables for readers say what the numbers say."""

import csv

import numpy as np
import pandas as pd
import pytest

from leakfree_study.figures.tables import (
    across,
    bracketed,
    chosen,
    chosen_sentence,
    explorable,
    p_value,
    readable,
    styled,
)


def test_an_estimate_and_its_interval_are_one_text():
    frame = pd.DataFrame({"estimate": [0.0506, -0.0004], "low": [0.0309, -0.002], "high": [0.07, 0.001]})
    assert bracketed(frame).tolist() == ["0.051 (0.031 to 0.070)", "0.000 (-0.002 to 0.001)"]
    assert bracketed(frame, digits=2, signed=True).tolist()[0] == "+0.05 (+0.03 to +0.07)"


def test_named_ends_come_before_the_common_ones_and_gaps_stay_empty():
    frame = pd.DataFrame(
        {
            "clean": [0.5, np.nan],
            "clean_low": [0.4, 0.0],
            "clean_high": [0.6, 0.0],
            "low": [9, 9],
            "high": [9, 9],
        },
        index=[7, 3],
    )
    found = bracketed(frame, "clean", digits=1)
    assert found.to_dict() == {7: "0.5 (0.4 to 0.6)", 3: ""}
    with pytest.raises(KeyError):
        bracketed(frame, "fault")


def test_a_score_table_becomes_one_row_a_model():
    described = {"task": "binary", "n_images": 1200, "n_patients": 30, "low": 0.1, "high": 0.9}
    scores = pd.DataFrame(
        [
            {
                **described,
                "model": model,
                "seed": 1,
                "metric": metric,
                "estimate": value,
                "predictions": model,
            }
            for model, metric, value in (
                ("random_forest", "accuracy", 0.5),
                ("random_forest", "roc_auc", 0.6),
                ("xgboost", "accuracy", 0.7),
                ("xgboost", "roc_auc", 0.8),
            )
        ]
    )
    found = readable(scores, ["task", "model", "seed"])
    assert found.columns.tolist() == ["task", "model", "accuracy", "ROC AUC", "images (patients)"]
    assert found["model"].tolist() == ["random forest", "xgboost"]
    assert found.loc[1, "ROC AUC"] == "0.800 (0.100–0.900)"
    assert found.loc[0, "images (patients)"] == "1,200 (30)"


def test_an_estimate_without_ends_has_no_brackets():
    frame = pd.DataFrame(
        {"estimate": [0.9281, 0.5, np.nan], "low": [np.nan, 0.4, 0.1], "high": [np.nan, 0.6, 0.2]}
    )
    assert bracketed(frame).tolist() == ["0.928", "0.500 (0.400 to 0.600)", ""]


def test_estimates_stand_side_by_side_in_their_order():
    frame = pd.DataFrame(
        [
            ("b", "roc_auc", 0.9, 0.8, 0.95),
            ("b", "accuracy", 0.7, 0.6, 0.75),
            ("a", "accuracy", -0.1, -0.2, 0.05),
        ],
        columns=["who", "metric", "estimate", "low", "high"],
    )
    wide = across(frame, ["who"], "metric", signed=True)
    assert wide.columns.tolist() == ["who", "ROC AUC", "accuracy"]
    assert wide.to_numpy().tolist() == [
        ["b", "+0.900 (+0.800 to +0.950)", "+0.700 (+0.600 to +0.750)"],
        ["a", "", "-0.100 (-0.200 to +0.050)"],
    ]


def validated(**scores):
    """Rows of validation: task_model to (macro F1 of each seed, accuracy)."""
    rows = []
    for name, (f1s, accuracy) in scores.items():
        task, model = name.split("_")
        rows += [(task, model, "macro_f1", value) for value in f1s] + [(task, model, "accuracy", accuracy)]
    return pd.DataFrame(rows, columns=["task", "model", "metric", "estimate"])


def test_the_mean_macro_f1_of_the_seeds_chooses():
    scores = {"t_a": ([0.9, 0.1], 0.99), "t_b": ([0.6, 0.6], 0.2), "u_a": ([0.7], 0.1), "u_b": ([0.2], 0.9)}
    found = chosen(validated(**scores))
    assert found["model"].to_dict() == {"t": "b", "u": "a"}
    assert chosen_sentence(found) == "Selected by validation macro F1: t b, u a."


def test_accuracy_chooses_where_macro_f1_is_undefined_for_all_and_that_is_said():
    found = chosen(validated(t_a=([np.nan], 0.4), t_b=([np.nan], 0.5), u_a=([np.nan], 0.9), u_b=([0.2], 0.1)))
    assert found["model"].to_dict() == {"t": "b", "u": "b"}
    assert chosen_sentence(found).endswith("macro F1 is undefined: t.")


def test_what_is_undefined_is_no_number():
    frame = pd.DataFrame(
        {
            "model": ["a", "b", "c"],
            "metric": "roc_auc",
            "estimate": [np.nan, 0.5, 0.6],
            "low": [np.nan, np.nan, 0.5],
            "high": [np.nan, np.nan, 0.7],
            "n_images": 9,
            "n_patients": 3,
            "predictions": ["x", "y", "z"],
        }
    )
    assert readable(frame, ["model"])["ROC AUC"].tolist() == ["undefined", "0.500", "0.600 (0.500–0.700)"]


def test_what_rounds_to_zero_has_no_sign_and_no_p_value_is_zero():
    frame = pd.DataFrame({"estimate": [-0.0003, 0.0002], "low": [-0.0004, -0.01], "high": [0.0004, 0.02]})
    assert bracketed(frame, signed=True).tolist() == [
        "0.000 (0.000 to 0.000)",
        "0.000 (-0.010 to +0.020)",
    ]
    assert [p_value(value) for value in (0.00001, 0.0012, 0.4, np.nan)] == ["< 0.001", "0.001", "0.400", ""]


def test_columns_have_words_for_names():
    shown = styled(pd.DataFrame({"share_rising": [1], "roc_auc": [2], "image_size": [3], "<b>_": [4]}))
    assert list(shown.columns) == ["share rising", "ROC AUC", "px", "&lt;b&gt; "]


@pytest.mark.parametrize(
    "folder", ["book/data", "artifacts/chest_xray/tables", "artifacts/chest_xray/measurements"]
)
def test_every_row_of_a_published_table_has_the_cells_of_its_head(repository, folder):
    tables = sorted((repository / folder).glob("*.csv"))
    assert tables
    for table in tables:
        with table.open(encoding="utf-8", newline="") as stream:
            head, *rows = csv.reader(stream)
        assert rows and {len(row) for row in rows} == {len(head)}, table.name


def test_models_are_named_and_links_stay_links():
    frame = pd.DataFrame(
        {"model": ["xgboost on pixels", 7], "recipe": "resnet18-usual", "file": '<a href="a">b</a>'}
    )
    made = explorable(frame, ["model"], links=["file"]).to_html()
    assert "XGBoost on pixels" in made and ">7<" in made and "ResNet18, trained as usual" in made
    assert '<a href="a">b</a>' in made and "resnet18" not in made
    assert "&lt;a href" in explorable(frame, ["model"]).to_html()
    assert frame["model"].tolist() == ["xgboost on pixels", 7]
