"""Images that are predicted wrong: all of them, the surest first, drawn under their own label."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from deferred import deferred
from leakfree.scores.predictions import Predictions

with deferred:
    from leakfree.data.pixels import PixelCache
    from leakfree_study.networks import failures

IDS = np.array(list("abcde"), dtype=object)


def made(p, labels):
    p = np.asarray(p, dtype=float)
    patients, part = np.char.add("patient ", IDS.astype(str)).astype(object), np.full(5, "test", dtype=object)
    table = np.stack([1 - p, p], axis=1)
    return Predictions(Path("x.csv"), IDS, patients, part, np.array(labels), ("normal", "ill"), table, 1)


def test_wrong_images_come_surest_first():
    table = failures.wrong_images(made([0.9, 0.2, 0.6, 0.05, 0.8], labels=[0, 0, 0, 1, 1]))
    assert table["image_id"].tolist() == ["d", "a", "c"]
    assert table["patient"].tolist() == ["patient d", "patient a", "patient c"]
    assert table["label"].tolist() == ["ill", "normal", "normal"]
    assert table["predicted"].tolist() == ["normal", "ill", "ill"]
    assert table["probability"].tolist() == pytest.approx([0.95, 0.9, 0.6])


def test_a_model_without_an_error_has_an_empty_table():
    table = failures.wrong_images(made([0.1] * 5, labels=[0] * 5))
    assert table.empty and "probability" in table


def test_each_wrong_image_is_drawn_under_its_own_label(monkeypatch):
    drawn = {}

    def contact_sheet(images, titles, **settings):
        drawn.update(images=images, titles=titles, **settings)
        return "figure"

    monkeypatch.setattr(failures.plots, "contact_sheet", contact_sheet)
    pixels = np.stack([np.full((4, 4), value, dtype=np.uint8) for value in range(5)])
    run = SimpleNamespace(pixels=lambda size: PixelCache(IDS, pixels, {}), credit="By us.")
    wrong = failures.wrong_images(made([0.9, 0.2, 0.6, 0.05, 0.8], labels=[0, 0, 0, 1, 1]))
    assert failures.draw_wrong(run, wrong, 4, title="Worst") == "figure"
    assert [int(image[0, 0]) for image in drawn["images"]] == [3, 0, 2]
    assert drawn["titles"] == ["ill: 0.95", "normal: 0.90", "normal: 0.60"]
    assert drawn["credit"].startswith("By us. Above each") and drawn["title"] == "Worst"
