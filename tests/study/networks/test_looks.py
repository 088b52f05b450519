"""What networks look at: heat and hidden regions are measured on the images that were asked for."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from deferred import deferred
from leakfree.scores.predictions import Predictions

with deferred:
    from leakfree.data.pixels import PixelCache
    from leakfree_study.networks import looks
    from leakfree_study.networks.looks import Looks, looks_sentence

N = 12


@pytest.fixture
def asked(monkeypatch):
    """Ten normal chest X-rays and two ill ones; each has its place as its grey value."""
    ids = np.array([f"{i}.png" for i in range(N)], dtype=object)
    labels = np.array([0] * 10 + [1] * 2)
    p = np.linspace(0, 1, N)
    part = np.full(N, "val", dtype=object)
    held_out = Predictions(
        Path("x.csv"), ids, ids, part, labels, ("normal", "ill"), np.stack([1 - p, p], 1), 1
    )
    # The cache has them in another order.
    pixels = np.stack([np.full((8, 8), value, dtype=np.uint8) for value in range(N)])
    order = np.arange(N)[::-1]
    run = SimpleNamespace(
        pixels=lambda size: PixelCache(ids[order], pixels[order], {}),
        cohort=SimpleNamespace(study=None),
        credit="By us.",
        jobs=1,
    )
    return Looks(run, held_out, 8, n_resamples=5, seed=3)


def test_images_are_drawn_of_each_class_without_repeating_any(asked):
    drawn = asked.some_of_each(3, np.random.default_rng(0))
    assert len(drawn) == 5 == len(set(drawn))
    assert (asked.held_out.labels[drawn] == 0).sum() == 3
    assert set(drawn[3:]) == {10, 11}


def test_heat_explains_what_the_network_said_of_the_images_that_were_picked(asked, monkeypatch):
    seen = {}

    def grad_cam(network, pixels, normalisation, classes):
        seen.update(network=network, pixels=pixels, classes=classes)
        return np.ones(pixels.shape, dtype=np.float32)

    monkeypatch.setattr(looks.explain, "grad_cam", grad_cam)
    model = SimpleNamespace(network="network", normalisation="normalisation")
    pixels, _ = asked.heat(model, np.array([11, 0, 4]))
    assert pixels[:, 0, 0].tolist() == [11, 0, 4] == seen["pixels"][:, 0, 0].tolist()
    assert seen["classes"].tolist() == asked.held_out.predicted[[11, 0, 4]].tolist()
    row = asked.heat_in_region(model, np.array([11, 0, 4])).iloc[0]
    covered = looks.explain.region("lungs", 8).mean()
    # Heat that is the same everywhere lies in a region as much as the region covers.
    assert row["films"] == 3
    assert row["heat_inside_lungs"] == pytest.approx(covered) == row["film_inside_lungs"]


def test_every_network_is_asked_with_the_same_regions_hidden(asked, monkeypatch):
    def hidden_table(network, normalisation, cache, images, *, regions, n_resamples, seed):
        assert images is asked.held_out and (n_resamples, seed) == (5, 3)
        return pd.DataFrame({"hidden": regions, "network": network})

    monkeypatch.setattr(looks.explain, "hidden_table", hidden_table)
    models = {name: SimpleNamespace(network=name, normalisation=None) for name in ("a", "b")}
    table = asked.hide_regions(models)
    assert table["model"].tolist() == table["network"].tolist() == ["a"] * 4 + ["b"] * 4
    assert table["hidden"].tolist() == list(looks.explain.REGIONS) * 2


def test_the_probe_learns_from_the_training_part_alone(asked, monkeypatch):
    seen = {}

    def hidden_probe(cache, train, images, *, hidden, **settings):
        seen.update(train=train, hidden=hidden)
        return pd.DataFrame()

    monkeypatch.setattr(looks.explain, "hidden_probe", hidden_probe)
    table = pd.DataFrame({"image_id": ["t1", "t2", "v1"], "label": [1, 0, 0]})
    asked.run.development = lambda task: table
    task = SimpleNamespace(labels=lambda rows: rows["label"].to_numpy())
    asked.train_on_hidden(task, SimpleNamespace(parts={"train": ("t2", "t1"), "val": ("v1",)}))
    assert list(seen["train"].items()) == [("t2", 0), ("t1", 1)]
    assert seen["hidden"] == ("lungs", "outside-lungs")


def test_titles_say_the_label_and_what_the_network_says(asked, monkeypatch):
    drawn = {}
    monkeypatch.setattr(Looks, "heat", lambda self, model, which: ("pixels", "heat"))
    monkeypatch.setattr(
        looks.model_plots,
        "heat_panels",
        lambda pixels, heat, titles, **settings: drawn.update(titles=titles, **settings),
    )
    asked.draw_heat(None, np.array([9, 0]), title="Grad-CAM")
    assert drawn == {
        "titles": ["normal\nsays ill", "normal\nsays normal"], "credit": "By us.", "title": "Grad-CAM",
    }  # fmt: skip


def test_the_sentence_quotes_the_score_without_the_region():
    looked = pd.DataFrame({"films": [3], "heat_inside_lungs": [0.7], "film_inside_lungs": [0.5]})
    rows = [("lungs", "roc_auc", 0.91), ("lungs", "accuracy", 0.1), ("corners", "roc_auc", 0.2)]
    table = pd.DataFrame(rows, columns=["hidden", "metric", "estimate"]).assign(low=0.8, high=0.95)
    hidden = pd.concat([table.assign(model="other", estimate=0.3), table.assign(model="resnet18")])
    probe = table.assign(estimate=table["estimate"] + 0.01)
    text = looks_sentence(looked, hidden, probe, "resnet18", "lungs")
    assert text == (
        "Of the heat, 70 % lies inside the hull of the lungs, which covers 50 % of an image. With "
        "the lungs hidden, "
        "ResNet18 has a ROC AUC of 0.910 (0.800 to 0.950); a logistic regression that learned from "
        "images without "
        "lungs has 0.920 (0.800 to 0.950): so much stands outside them."
    )
