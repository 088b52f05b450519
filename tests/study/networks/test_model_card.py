"""The card: every number from a table, also where a table says that nothing was measured."""

import json

import pandas as pd
import pytest

from leakfree_study.networks.model_card import model_card


def described(name, sha, **more):
    return {
        "model": "resnet18", "task": "binary", "classes": ["normal", "pneumonia"], "image_size": 96,
        "scale": "grey / 255", "mean": 0.48, "std": 0.22, "weights": f"{name}.safetensors",
        "weights_sha256": sha * 64, "initial_weights": "scratch", "manifest_hash": "m", "seed": 42,
        "epoch": 7, **more,
    }  # fmt: skip


def scored(estimate, **more):
    return {
        "task": "binary", "model": "resnet18", "seed": "42", "metric": "roc_auc", "estimate": estimate,
        "low": estimate - 0.01, "high": estimate + 0.005, "n_images": 700, "n_patients": 400, **more,
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "tables").mkdir()
    (tmp_path / "manifests").mkdir()
    files = {
        "models/preprocessing.json": described("resnet18_leakfree", "a"),
        "models/net_preprocessing.json": described("net_leakfree", "b", model="net", epoch=3),
        "manifests/05-patient-level-binary.json": {
            "hash": "m",
            "scope": "series",
            "seed": 41,
            "parts": {"train": ["x"] * 1234, "test": ["y"]},
        },
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    hidden = [
        {"hidden": h, "metric": "roc_auc", "estimate": v, "low": v, "high": v, "model": m}
        for m, values in (("resnet18", (0.99, 0.61)), ("net", (0.98, 0.55)))
        for h, v in zip(("nothing", "lungs"), values, strict=True)
    ]
    tables = {
        "scores": [scored(0.987), scored(0.988, seed="43"), scored(0.991, seed="ensemble"),
                   scored(0.9, model="small")],
        "calibration_error": [
            {"task": "binary", "model": "resnet18", "seed": 42, "part": "internal", "when": when, "ece": e,
             "low": e, "high": e}
            for when, e in (("before", 0.031), ("after", 0.012))
        ],
        "coverage": [
            {"task": "binary", "model": "resnet18", "seed": 42, "part": "internal", "group": "all",
             "coverage": 0.912, "low": 0.9, "high": 0.93, "n_patients": 321}
        ],
        "hidden": hidden,
        "hidden_probe": [{**row, "estimate": 0.93} for row in hidden[:2]],
    }  # fmt: skip
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(tmp_path / "tables" / f"05_{name}.csv", index=False)
    return tmp_path


def test_numbers_are_those_of_the_tables(folder):
    card = model_card(folder)
    assert card.startswith("# Model card: resnet18_leakfree\n")
    for told in (
        "train 1,234",
        "Split seed 41",
        "0.991 (0.981 to 0.996)",
        "0.900 (0.890 to 0.905)",
        "700 (400)",
        "0.031",
        "0.012",
        "0.912 (0.900 to 0.930)",
        "| 321 |",
        "`aaaaaaaaaaaaaaaa`",
        "| 3 | `bbbb",
    ):
        assert told in card, told
    # The published seed has its own row; other members of an ensemble stand in the run's table alone.
    assert "| binary | resnet18 | 42, **published** | 0.987 (0.977 to 0.992) |" in card
    assert "0.988" not in card
    # Another model's hidden regions are not this one's.
    assert "0.550" not in card


def test_the_finding_is_said_from_the_numbers(folder):
    card = " ".join(model_card(folder).split())
    assert "this network hardly tells the classes apart (ROC AUC 0.610)" in card
    assert "tells the classes apart to a model that is trained on it (0.930)" in card
    assert "no proof that the lungs were read" in card
    path = folder / "tables" / "05_hidden_probe.csv"
    path.write_text(path.read_text().replace("0.93", "0.52"))
    card = " ".join(model_card(folder).split())
    assert "tells little of the classes to a model that is trained on it (0.520)" in card
    assert "no proof that the lungs were read" not in card


def test_a_sealed_test_has_no_score_and_an_opened_one_has(folder):
    assert "is sealed in this run: no score of it exists" in model_card(folder)
    opened = pd.DataFrame([scored(0.95, seed="ensemble")])
    opened.to_csv(folder / "tables" / "05_official.csv", index=False)
    card = model_card(folder)
    assert "| official test |" in card and "0.950 (0.940 to 0.955)" in card
    assert "no score of it exists" not in card


def test_the_published_card_is_that_of_the_published_tables(repository):
    folder = repository / "artifacts" / "chest_xray"
    published = folder / "models" / "MODEL_CARD.md"
    if not published.is_file():
        pytest.skip("no published card")
    assert published.read_text(encoding="utf-8") == model_card(folder)
    assert (repository / "MODEL_CARD.md").read_text(encoding="utf-8") == model_card(folder)


def test_the_card_says_when_the_service_warns(folder):
    assert "warns" not in model_card(folder)
    row = {"kind": "film", "group": "internal test", "warned": 0.018, "low": 0.01, "high": 0.03,
           "n_images": 784, "n_patients": 549, "seed": 42}  # fmt: skip
    pd.DataFrame([row]).to_csv(folder / "tables" / "05_novelty.csv", index=False)
    assert "| film | internal test | 0.018 (0.010 to 0.030) | 784 |" in model_card(folder)
