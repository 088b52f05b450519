"""Cells of networks become inflation: by hand, from cells that a test writes."""

import json

import numpy as np
import pandas as pd
import pytest

from deferred import deferred

with deferred:
    from sklearn.metrics import roc_auc_score

    from leakfree.base.files import file_hash
    from leakfree_study.inflation import memory_results
    from leakfree_study.inflation.draws import draw
    from leakfree_study.inflation.memory import rule
    from leakfree_study.inflation.memory_results import AS_PAPERS, LAST, STRANGERS, CellError, read_cells

LOSSES = [0.6, 0.3, 0.15, 0.01]


def write(folder, draws=6, gain=1.5):
    """Six draws: each epoch a leaky network knows its tested patients a little better."""
    groups = np.array([*np.arange(60).repeat(3), *range(60, 140)])
    labels = groups % 2
    frame = pd.DataFrame(
        {
            "image_id": [f"i{n}" for n in range(len(groups))],
            "label": np.array(["a", "b"])[labels],
            "group": groups,
        }
    )
    frame.to_csv(folder / "images.csv.gz", index=False)
    condition = next(one for one in rule().conditions if one.name == "base")
    (folder / "base").mkdir()
    for seed in range(draws):
        rows = draw(labels, groups, seed)
        for arm in ("clean", "leaky"):
            noise = np.random.default_rng([seed, 5]).standard_normal(len(labels))
            parts = []
            for epoch in range(1, len(LOSSES) + 1):
                for role in ("val", "test"):
                    mine = rows.rows(role)
                    known = gain * epoch / 4 if (arm, role) == ("leaky", "test") else 0
                    scores = (labels[mine] - 0.5) * (1 + known) + noise[mine]
                    p = (1 / (1 + np.exp(-scores))).round(4)
                    parts.append(pd.DataFrame({"epoch": epoch, "image": mine, "role": role, "p": p}))
            path = folder / "base" / f"draw{seed}-{arm}.csv.gz"
            pd.concat(parts).to_csv(path, index=False)
            record = {
                "condition": condition.model_dump(), "draw": seed, "arm": arm, "train_loss": LOSSES,
                "seconds": 10.0 + seed, "consumed": f"{seed}-{arm}", "predictions_sha256": file_hash(path),
                "precision": "float32",
            }  # fmt: skip
            path.with_suffix("").with_suffix(".json").write_text(json.dumps(record))
    return labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cells")
    write(path)
    return path


@pytest.fixture(scope="module")
def table(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_results, "RESAMPLES", 100)
        return memory_results.table(read_cells(folder, rule()), rule()).set_index("epoch")


def test_a_row_is_the_mean_difference_over_draws(folder, table):
    (cells,) = read_cells(folder, rule())
    expected = []
    for seed in range(6):
        scores = []
        for arm in ("clean", "leaky"):
            found = pd.read_csv(folder / "base" / f"draw{seed}-{arm}.csv.gz")
            found = found[(found["epoch"] == 3) & (found["role"] == "test")]
            scores.append(roc_auc_score(cells.labels[found["image"]], found["p"]))
        expected.append(scores[1] - scores[0])
    row = table.loc["loss 0.2"]
    assert row["estimate"] == pytest.approx(np.mean(expected))
    assert row["share"] == pytest.approx(row["estimate"] / (1 - row["clean"]))
    assert (row["draws"], row["networks"], row["train_loss"]) == (6, 12, pytest.approx(0.15))
    assert (row["n_images"], row["n_patients"], row["seconds"]) == (180, 60, 150)
    assert table.loc["loss 0.02", "estimate"] == table.loc[LAST, "estimate"] > row["estimate"]
    family = table.loc[["loss 0.5", "loss 0.2", "loss 0.02"]]
    assert (family["p_adjusted"] >= family["p"]).all()
    assert table.loc[[LAST, STRANGERS, AS_PAPERS], "p_adjusted"].isna().all()
    assert table.loc["loss 0.02", "verdict"] == "inflates"


def test_choosing_on_tested_patients_finds_the_epoch_that_knows_them(table):
    assert table.loc[AS_PAPERS, "estimate"] > table.loc[STRANGERS, "estimate"]


def test_a_draw_whose_network_does_not_come_to_a_loss_takes_no_part(folder, monkeypatch):
    monkeypatch.setattr(memory_results, "RESAMPLES", 20)
    (cells,) = read_cells(folder, rule())
    view = next(iter(cells.records))
    cells.records[view]["train_loss"] = [0.6, 0.3, 0.25, 0.24]
    made = memory_results.table([cells], rule()).set_index("epoch")
    assert made.loc["loss 0.2", ["draws", "of_draws", "networks", "n_images"]].tolist() == [5, 6, 10, 150]
    assert made.loc[LAST, "draws"] == 6
    for record in cells.records.values():
        record["train_loss"] = [0.6, 0.3, 0.25, 0.24]
    assert "loss 0.2" not in memory_results.table([cells], rule())["epoch"].tolist()


def test_the_curve_has_every_draw_and_epoch(folder):
    curve = memory_results.curve(read_cells(folder, rule()))
    assert len(curve) == 6 * len(LOSSES)
    assert curve.groupby("epoch")["gain"].mean().loc[4] > 0.05


def test_an_unfinished_draw_takes_no_part(tmp_path):
    write(tmp_path)
    (tmp_path / "base" / "draw5-leaky.json").unlink()
    (cells,) = read_cells(tmp_path, rule())
    assert cells.seeds == [0, 1, 2, 3, 4]


def test_a_changed_file_is_refused(tmp_path):
    write(tmp_path, draws=2)
    path = tmp_path / "base" / "draw0-clean.csv.gz"
    frame = pd.read_csv(path)
    frame.loc[0, "p"] = 0.5
    frame.to_csv(path, index=False)
    with pytest.raises(CellError, match="not the file that its record names"):
        read_cells(tmp_path, rule())


def test_other_images_than_the_draw_tests_are_refused(tmp_path):
    write(tmp_path, draws=2)
    path = tmp_path / "base" / "draw0-clean.csv.gz"
    frame = pd.read_csv(path)
    frame.iloc[:-1].to_csv(path, index=False)
    record = path.with_suffix("").with_suffix(".json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "predictions_sha256": file_hash(path)}))
    with pytest.raises(CellError, match="other images"):
        read_cells(tmp_path, rule())


def test_another_condition_is_refused(tmp_path):
    write(tmp_path, draws=2)
    path = tmp_path / "base" / "draw0-clean.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "condition": {**record["condition"], "augment": True}}))
    with pytest.raises(CellError, match="another condition"):
        read_cells(tmp_path, rule())
