"""What the page on the public study says: each network under its fault and measured right."""

import pandas as pd
import pytest

from deferred import deferred

with deferred:
    from leakfree_study.inflation import reanalysis


@pytest.fixture
def measured():
    rows = [
        ("ResNet18, ImageNet weights", 0.9894, "resnet18", "scratch", "no-test-set", 0.99),
        ("ResNet18, ImageNet weights", 0.9894, "resnet18", "scratch", "clean", 0.95),
        ("", None, "efficientnet-lite0", "imagenet", "clean", 0.97),
        ("", None, "efficientnet-lite0", "imagenet", "no-test-set", 1.0),
    ]
    table = pd.DataFrame(
        rows, columns=["reference_model", "claim", "model", "weights", "protocol", "macro_f1"]
    )
    table["macro_f1_low"], table["macro_f1_high"] = table["macro_f1"] - 0.01, table["macro_f1"]
    return table.assign(n_images=100, shared_images=[100, 0, 0, 100])


def test_each_network_is_told_under_the_fault_first(measured):
    assert reanalysis.fault_sentences(measured).splitlines() == [
        "- **ResNet18, from scratch.** Tested on its training images it has a macro F1 of 0.990 (0.980 to "
        "0.990); on patients that it was not trained on it has 0.950 (0.940 to 0.950).",
        "- **EfficientNet-Lite0, ImageNet weights.** Tested on its training images it has a macro F1 of "
        "1.000 (0.990 to 1.000); on patients that it was not trained on it has 0.970 (0.960 to 0.970).",
    ]


def test_no_cell_of_the_tables_is_empty(measured):
    shown = reanalysis.right_beside_wrong(measured)
    assert shown["here"].tolist() == ["ResNet18, from scratch", "EfficientNet-Lite0, ImageNet weights"]
    assert shown["reference study"].tolist()[1] == "not in it"
    assert shown["its claim"].tolist() == ["0.9894", "none"]
    assert "100 of them trained on" in shown["its fault: macro F1"][1]
    assert "0 of them trained on" in shown["measured right: macro F1"][1]
    claim = {
        "notebook": "a",
        "model": "b",
        "task": "etiology",
        "metric": "macro_f1",
        "claim": 0.5,
        "measured": "e",
    }
    claimed = reanalysis.claims_table(
        pd.DataFrame([claim]).assign(
            fault=None, right=0.5, right_low=0.4, right_high=0.6, right_n_images=9, right_n_patients=3
        )
    )
    assert claimed["task"].tolist() == ["bacterial against viral"] and claimed["metric"].tolist() == [
        "macro F1"
    ]
    assert claimed["the same fault here"].tolist() == ["not measured"]
    assert claimed["measured right"].tolist() == ["0.500 (0.400 to 0.600), 9 images, 3 patients"]
