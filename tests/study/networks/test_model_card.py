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


def test_a_network_trained_against_framing_leads_with_its_rates_and_its_zooms(folder):
    main = described("resnet18-reframed_leakfree", "c", model="resnet18")
    (folder / "models" / "preprocessing.json").write_text(json.dumps(main), encoding="utf-8")
    old = described("resnet18_leakfree", "a")
    (folder / "models" / "resnet18_preprocessing.json").write_text(json.dumps(old), encoding="utf-8")
    mine = {"model": "resnet18-reframed"}
    rates = [("sensitivity", 0.93), ("specificity", 0.95), ("accuracy", 0.94), ("roc_auc", 0.98)]
    tables = {
        "framing_scores": [
            scored(value, metric=metric, **mine, seed=seed)
            for seed in ("42", "43") for metric, value in rates
        ],
        "framing_official": [
            scored(value - 0.1, metric=metric, opening=2, **mine, seed="42") for metric, value in rates
        ] + [scored(0.666, opening=1)],
        "official": [scored(0.666, opening=1)],
        "framing_curves": [
            scored(value, metric=metric, framing=f"zoom {zoom}", **mine, seed="42")
            for zoom, value in (("0.8", 0.71), ("1.3", 0.72)) for metric in ("sensitivity", "specificity")
        ],
        "framing_calibration_error": [
            {"task": "binary", **mine, "seed": 42, "part": "internal", "when": when, "ece": e, "low": e,
             "high": e}
            for when, e in (("before", 0.044), ("after", 0.055))
        ],
        "framing_coverage": [
            {"task": "binary", **mine, "seed": 42, "part": "internal", "group": "all", "coverage": 0.899,
             "low": 0.88, "high": 0.91, "n_patients": 400}
        ],
        "framing_hidden": [
            {"hidden": h, "metric": "roc_auc", "estimate": v, "low": v, "high": v, **mine}
            for h, v in (("nothing", 0.98), ("lungs", 0.83))
        ],
        "framing_novelty": [
            {"kind": "film", "group": "internal test", "warned": 0.021, "low": 0.01, "high": 0.03,
             "n_images": 784, "n_patients": 549, "seed": 42}
        ],
    }  # fmt: skip
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(folder / "tables" / f"05_{name}.csv", index=False)
    card = model_card(folder)
    first, second = card.index("## How often it is right"), card.index("## Files")
    lead = card[first:second]
    assert "| internal | 0.930 (0.920 to 0.935) | 0.950 (0.940 to 0.955) | 0.940" in lead
    assert "| official | 0.830 (0.820 to 0.835) | 0.850" in lead and "700 (400)" in lead
    assert "| zoom 0.8 | 0.710" in lead and "| zoom 1.3 | 0.720" in lead
    assert "| internal | 0.044 | 0.055 |" in " ".join(card.split()) or "0.055" in card
    assert "0.899 (0.880 to 0.910)" in card and "ROC AUC 0.830" in " ".join(card.split())
    assert "0.021 (0.010 to 0.030)" in card
    assert card.count("0.666") == 1  # a score that stands in two tables stands once here
    # The network that was published before keeps its rows, and has no part in the lead.
    assert "0.991 (0.981 to 0.996)" in card and "resnet18_leakfree" not in lead


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
