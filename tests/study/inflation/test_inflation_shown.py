"""What the notebook on inflation shows: links to files, short verdicts, and sentences that count."""

import numpy as np
import pandas as pd

from deferred import deferred

with deferred:
    from leakfree.data.tasks import TASKS
    from leakfree_study.inflation import shown


def rows(*protocols, **changed):
    table = pd.DataFrame(
        {
            "protocol": protocols,
            "model": [f"model {place}" for place in range(len(protocols))],
            "task": "etiology",
            "estimate": 0.05,
            "low": 0.01,
            "high": 0.09,
            "p_holm": 0.0123,
            "metric": "roc_auc",
            "verdict": "inflation, by less than the margin",
            "n_by_class": "10 + 20",
            "predictions": "predictions/a.csv",
        }
    )
    return table.assign(**changed)


def test_an_estimate_links_to_its_predictions_and_several_are_numbered():
    row = rows("siblings").to_dict("records")[0]
    assert shown.linked(row) == '<a href="../predictions/a.csv">+0.050 (+0.010 to +0.090)</a>'
    several = shown.linked({**row, "predictions": "predictions/a.csv;predictions/<b>.csv"})
    assert several == (
        '+0.050 (+0.010 to +0.090) <a href="../predictions/a.csv">1</a> '
        '<a href="../predictions/&lt;b&gt;.csv">2</a>'
    )


def test_comparisons_come_in_the_order_of_the_catalogue_and_name_every_cell():
    from leakfree_study.inflation.catalogue import LEAKS, by_protocol

    first, second = LEAKS[0].protocol, LEAKS[1].protocol
    table = shown.comparisons(rows(second, first, first, metric=["roc_auc", "roc_auc", "macro_f1"]), TASKS)
    titles = [by_protocol(name).title for name in (first, first, second)]
    assert table["leak"].tolist() == titles
    assert table["model"].tolist() == ["model 1", "model 2", "model 0"]
    assert table["score"].tolist() == ["ROC AUC", "macro F1", "ROC AUC"]
    assert set(table["verdict"]) == {"inflation, under the margin"}
    assert set(table["task"]) == {"bacterial against viral"}
    assert (table != "").all(axis=None)


def test_a_task_is_told_by_its_classes():
    assert shown.task_words(TASKS["binary"]) == "normal against pneumonia"
    assert shown.task_words(TASKS["three-class"]) == "normal, bacterial, viral"


def test_processors_that_agree_and_one_verdict_that_does_not():
    table = pd.DataFrame(
        {
            "protocol": "siblings",
            "task": "etiology",
            "model": ["1-nn on pixels", "1-nn on embeddings", "resnet18"],
            "difference": [0.001, -0.002, 0.03],
            "verdict_here": ["undecided", None, "inflation"],
            "verdict_there": ["undecided", None, "undecided"],
            **{f"{name}_{side}": 0.1 for name in ("estimate", "low", "high") for side in ("here", "there")},
        }
    )
    assert shown.processors_sentence(table) == (
        "Largest difference between the two runs: 0.0010 (models on pixels), 0.0020 (models on embeddings), "
        "0.0300 (trained networks). 1 of 2 verdicts differ. That of the first run is the primary one."
    )
    assert shown.other_verdicts(table, "a processor").to_dict("records") == [
        {
            "leak": "The same patient on both sides",
            "task": "etiology",
            "model": "resnet18",
            "first, on a processor": "+0.100 (+0.100 to +0.100)",
            "verdict first, on a processor": "undecided",
            "second, here": "+0.100 (+0.100 to +0.100)",
            "verdict second, here": "inflation",
        }
    ]
    same = table.assign(verdict_there=table["verdict_here"])
    assert shown.processors_sentence(same).endswith(
        "0 of 2 verdicts differ. That of the first run is the primary one."
    )
    assert shown.other_verdicts(same, "a processor").empty


def test_the_control_with_random_labels_is_counted():
    table = rows("siblings", "siblings", "exact", clean_low=[0.4, 0.55, 0.4], clean_high=0.6)
    table = table.assign(estimate=[0.02, 0.08, 0.5], low=[-0.01, 0.02, 0.4])
    assert shown.memory_sentence(table) == (
        "Clean arms at chance: 2 of 3. Other images of the same patient raise 1 of 2 models above their "
        "clean arm; most of all model 1, "
        "by 0.080 (0.020 to 0.090)."
    )


def test_phantoms_without_identity_are_counted_apart():
    rows = [
        (identity, dose, identity * dose / 10, -0.01 if identity == 0 else 0.001)
        for identity in (0.0, 1.0, 2.0)
        for dose in (0.5, 1.0)
    ]
    table = pd.DataFrame(rows, columns=["identity", "dose", "estimate", "low"])
    table = table.assign(high=table["estimate"] + 0.02, model="1-nn", disease=1.0)
    assert shown.phantom_sentence(table) == (
        "With identity 0, 2 of 2 intervals hold zero. Mean inflation at full dose by identity: "
        "+0.000 at 0, +0.100 at 1, "
        "+0.200 at 2. At the strongest identity and full dose 1 of 1 intervals lie above zero. With "
        "identity 1 and more "
        "the estimate rises with the dose in 2 of 2 series."
    )
    falling = table.assign(estimate=np.where(table["dose"] == 1.0, 0.0, 0.1))
    assert "in 0 of 2 series" in shown.phantom_sentence(falling)


def test_takeaways_name_the_largest_of_each_leak_and_count_verdicts():
    table = rows(
        "siblings", "siblings", "exact", "scaling", "pca",
        p_holm=[0.01, 0.2, 0.3, 0.4, 0.5], estimate=[0.02, 0.04, 0.9, -0.001, 0.00004],
        model=["1-nn on pixels", "resnet18", "1-nn on pixels", "xgboost on pixels", "xgboost on pixels"],
        verdict=["inflation, by less than the margin", "undecided", "undecided", "undecided", "undecided"],
    )  # fmt: skip
    natural = pd.DataFrame({"estimate": [0.001, 0.003, 0.002], "task": ["etiology", "etiology", "binary"]})
    assert shown.takeaways(table, natural, 0.05, TASKS).splitlines() == [
        "- **Copies.** A model that has a copy of every test image in training gains at most +0.900 "
        "(+0.010 to +0.090): nearest neighbour on pixels, bacterial against viral.",
        "- **The same patient.** A model that has other images of every tested patient in training gains at "
        "most +0.040 (+0.010 to +0.090): ResNet18, bacterial against viral.",
        "- **The same patient, in a random split.** There most test images have no other image of their "
        "patient in training. The difference, by model, is +0.0010 to +0.0030 (bacterial against viral), "
        "+0.0020 to +0.0020 (normal against pneumonia).",
        "- **Trained networks, with other images of every tested patient.** ResNet18 +0.040 (+0.010 to "
        "+0.090), undecided.",
        "- **Preparation.** Scaling or PCA that also saw the test images, or tuning on folds that ignore "
        "patients, changes the ROC AUC, by model, by -0.0010 to 0.0000 (bacterial against viral).",
        "- **All comparisons.** 1 of 5 show inflation after adjustment. By verdict: undecided: 4, inflation, "
        "under the margin: 1.",
    ]


def test_takeaways_do_not_count_where_nothing_changed():
    table = rows("threshold", "stopped", p_holm=[1.0, 0.01])
    table.loc[0, ["estimate", "low", "high"]] = 0.0
    said = shown.takeaways(table, pd.DataFrame({"estimate": []}), 0.05, TASKS)
    assert said.startswith("- **All comparisons.** 1 of 1 show inflation after adjustment.")
    assert said.endswith("1 more are not counted, since no prediction changed.")


def test_takeaways_leave_out_what_was_not_measured():
    said = shown.takeaways(rows("threshold"), pd.DataFrame({"estimate": []}), 0.05, TASKS)
    assert said == (
        "- **All comparisons.** 1 of 1 show inflation after adjustment. By verdict: inflation, under the "
        "margin: 1."
    )
