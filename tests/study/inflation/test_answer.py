"""The answer figure: the same models in every row, one linear scale, words that are the numbers."""

import pandas as pd
import pytest

from deferred import deferred

with deferred:
    from leakfree_study.inflation import answer as answers

MODELS = {"1-nn on pixels": 1.0, "logistic-regression on pixels": 0.1}
WORTH = {"exact": 0.4, "siblings": 0.05, "scaling": 0.001}


def rows(models=tuple(MODELS), **more):
    made = [
        {
            "protocol": leak, "task": task, "model": model, "dose": 1.0, "metric": "roc_auc", "primary": True,
            "estimate": worth * MODELS.get(model, 0.5) * easy,
            "low": worth * MODELS.get(model, 0.5) * easy - 0.01, "high": 0.01 + worth * easy,
        }
        for leak, worth in WORTH.items()
        for task, easy in (("binary", 0.1), ("etiology", 1.0), ("three-class", 0.5))
        for model in models
    ]  # fmt: skip
    return pd.DataFrame(made)


def natural():
    return rows().query("protocol == 'siblings'").drop(columns="protocol").assign(estimate=0.02)


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def marks(axis):
    return [line for line in axis.lines if line.get_linestyle() == "None"]


def test_a_row_has_the_models_that_all_rows_have_and_no_other():
    alone = rows(models=("resnet18",)).query("protocol == 'siblings'")
    half = rows().assign(dose=0.5, estimate=9.0)
    other = rows().assign(metric="macro_f1", primary=False, estimate=9.0)
    shown = answers.answer_rows(pd.concat([rows(), alone, half, other]), natural())
    assert set(shown["model"]) == set(MODELS)
    assert set(shown["task"]) == {"binary", "etiology"}
    assert set(shown["protocol"]) == {"exact", "siblings", "scaling", "natural-siblings"}
    assert (shown.groupby(["protocol", "task"])["model"].nunique() == len(MODELS)).all()
    assert shown["estimate"].max() == 0.4


def test_all_models_are_drawn_where_none_has_every_leak():
    parts = [
        rows(models=(m,)).query(f"protocol == '{p}'")
        for m, p in (("resnet18", "exact"), ("xgboost", "siblings"))
    ]
    shown = answers.answer_rows(pd.concat(parts), natural().iloc[:0])
    assert set(shown["model"]) == {"resnet18", "xgboost"}


def test_panels_have_one_linear_scale_and_the_worst_task_and_leak_come_first():
    figure = answers.answer(rows(), natural(), margin=0.01)
    first, second = figure.axes
    assert [axis.get_title(loc="left") for axis in figure.axes] == list(answers.TASK_NAMES.values())
    assert first.get_xscale() == second.get_xscale() == "linear"
    figure.draw_without_rendering()
    inches = [
        axis.get_window_extent().width / (axis.get_xlim()[1] - axis.get_xlim()[0]) for axis in figure.axes
    ]
    assert inches[0] == pytest.approx(inches[1], rel=0.02)
    labels = [label.get_text().replace("\n", " ") for label in first.get_yticklabels()]
    assert labels == [answers.ROWS[leak] for leak in ("exact", "siblings", "natural-siblings", "scaling")]
    assert sorted(round(mark.get_xdata()[0], 3) for mark in marks(first))[-2:] == [0.05, 0.4]
    assert len(marks(first)) == len(marks(second)) == 4 * len(MODELS)
    assert figure.legends == []
    assert {"nearest neighbour on pixels", "logistic regression on pixels", "up to +0.40"} <= set(
        texts(figure)
    )


def test_the_title_and_the_text_say_what_is_drawn():
    shown = answers.answer_rows(rows(), natural())
    assert answers.message(shown) == (
        "A copied test image adds up to +0.40 to the ROC AUC, other images of the patient up to +0.05, "
        "scaling on all images about nothing"
    )
    figure = answers.answer(rows(), natural(), margin=0.01)
    assert figure.get_suptitle().replace("\n", " ") == answers.message(shown)
    words = answers.answer_words(shown)
    hard, easy = words.split("Normal against pneumonia. ")
    assert "A copy of the test image is in training: up to +0.40" in hard
    assert "A copy of the test image is in training: up to +0.04" in easy


def test_on_a_phone_a_row_says_above_its_marks_what_it_is():
    figure = answers.answer(rows(), natural(), margin=0.01, narrow=True)
    (axis,) = figure.axes
    assert figure.get_size_inches()[0] * 96 <= 390 - 24
    assert {answers.ROWS["exact"], answers.ROWS["siblings"], "up to +0.40", "about nothing"} <= set(
        texts(figure)
    )
    assert not [label.get_text() for label in axis.get_yticklabels() if label.get_text()]
    # The other task has its largest difference in words.
    assert "Normal against pneumonia: up to +0.04" in figure.get_supxlabel()


def framing():
    networks = {"resnet18": 0.074, "resnet18-reframed": 0.007}
    made = [
        {"task": "binary", "model": m, "estimate": v, "low": v - 0.01, "high": v + 0.01}
        for m, v in networks.items()
    ]
    return pd.concat([pd.DataFrame(made), pd.DataFrame(made).assign(task="three-class")], ignore_index=True)


def test_framing_is_a_row_of_networks_that_have_their_names_and_numbers_beside_them():
    shown = answers.answer_rows(rows(), natural(), framing())
    of_row = shown[shown["protocol"] == answers.FRAMING]
    assert set(of_row["model"]) == {"resnet18", "resnet18-reframed"} and set(of_row["task"]) == {"binary"}
    # The models of the other rows are as they were.
    assert set(shown.loc[shown["protocol"] == "exact", "model"]) == set(MODELS)
    figure = answers.answer(rows(), natural(), framing(), margin=0.01)
    first, second = figure.axes
    assert {"ResNet18: +0.07", "ResNet18, trained against framing: +0.01"} <= {
        t.get_text() for t in second.texts
    }
    assert len(marks(second)) == len(marks(first)) + 2
    assert "not measured" in {t.get_text() for t in first.texts}
    labels = [label.get_text().replace("\n", " ") for label in first.get_yticklabels()]
    assert labels[-1] == answers.ROWS[answers.FRAMING]
    assert f"{answers.ROWS[answers.FRAMING]}: up to +0.07" in answers.answer_words(shown)
    phone = answers.answer(rows(), natural(), framing(), margin=0.01, narrow=True)
    assert "Normal against pneumonia: up to +0.07" in phone.get_supxlabel()
    assert answers.ROWS[answers.FRAMING] not in texts(phone)  # its task is not shown
