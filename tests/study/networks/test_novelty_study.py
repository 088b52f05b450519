"""What the novelty score is measured on is what its names say, with intervals."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from deferred import deferred
from leakfree.predict.framed import Framing
from leakfree.predict.novelty import Novelty

with deferred:
    from leakfree.data.pixels import PixelCache
    from leakfree_study.networks import novelty_study
    from leakfree_study.networks.novelty_study import (
        changed_images,
        framing_warnings,
        novelty_table,
        strangers,
        warnings_by_kind,
    )


class Bright(Novelty):
    """Warns of what is bright in the middle: a truth that a test can count."""

    def __init__(self):
        pass

    def score(self, images):
        return images[:, images.shape[1] // 2, images.shape[2] // 2] / 128.0


def images(values, size=16):
    return np.stack([np.full((size, size), value, np.uint8) for value in values])


def test_changes_are_those_of_their_names():
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    changed = changed_images(image)
    assert np.array_equal(changed["mirrored"][0], image[0, :, ::-1])
    assert np.array_equal(changed["upside down"][0], image[0, ::-1, ::-1])
    assert np.array_equal(changed["negative"][0], 255 - image[0])
    assert np.array_equal(changed["turned by 90 degrees"][0], np.rot90(image[0]))
    assert changed["a quarter of the image"].max() <= image[0, :8, :8].max()
    assert all(c.shape == image.shape and c.dtype == np.uint8 for c in changed.values())


def test_strangers_differ_from_one_another_and_come_again_with_their_seed():
    first, again = strangers(24, seed=3), strangers(24, seed=3)
    for name, pictures in first.items():
        assert pictures.shape[1:] == (24, 24) and pictures.dtype == np.uint8
        assert np.array_equal(pictures, again[name])
        assert len(np.unique(pictures.reshape(len(pictures), -1), axis=0)) == len(pictures), name
    assert 128 < first["text"].mean() < 255


def test_shares_and_intervals_count_patients():
    values = [255] * 10 + [0] * 30
    patients = np.array(["a"] * 10 + [f"p{i}" for i in range(30)])
    table = novelty_table(Bright(), {"test": (images(values), patients)}, 16, n_resamples=500)
    row = table.set_index("group").loc["test"]
    assert (row["warned"], row["n_images"], row["n_patients"]) == (0.25, 40, 31)
    # One patient holds all ten: over images the interval would end near 0.4.
    assert row["low"] == 0 and row["high"] > 0.45
    assert table.set_index("group").loc["negative", "warned"] == 0.75
    grey = table.set_index("group").loc["plain grey"]
    assert grey["warned"] == pytest.approx(0.5, abs=0.02) and grey["low"] < 0.4 and grey["high"] > 0.6
    assert grey["n_patients"] == 0
    assert set(table["kind"]) == {"film", "changed image", "no image"}


@pytest.mark.parametrize("sealed", [0, 2])
def test_a_run_is_measured_on_what_set_nothing_in_the_score(sealed, monkeypatch):
    monkeypatch.setattr(novelty_study, "patient_ids", lambda table, scope: table["file"].to_numpy())
    ids = np.array(["a", "b", "c", "d"], dtype=object)
    development, others = images([255, 0, 255, 255]), images([0, 0])
    names = [f"person{i}_virus_{i}.jpeg" for i in range(sealed)]
    table = pd.DataFrame({"image_id": names, "file": names, "part": "test", "label": None})
    run = SimpleNamespace(
        pixels=lambda size: PixelCache(ids, development, {}),
        sealed_pixels=lambda size: PixelCache(np.array(names, dtype=object), others, {}),
        cohort=SimpleNamespace(table=table),
    )
    parts = {"test": ["b", "a"], "conformal": ["c"]}
    network = SimpleNamespace(
        cell=SimpleNamespace(image_size=16, scope="series"),
        read=lambda part: SimpleNamespace(
            image_ids=np.array(parts[part], dtype=object), patients=np.array(parts[part], dtype=object)
        ),
    )
    found = warnings_by_kind(run, network, Bright(), n_resamples=20).query("kind == 'film'")
    groups = found.set_index("group")
    assert list(groups.index) == ["internal test", "conformal part", *["official test"][:sealed]]
    assert groups["warned"].tolist() == [0.5, 1.0, *[0.0][:sealed]]
    assert groups["n_images"].tolist() == [2, 1, *[2][:sealed]]
    assert groups["n_patients"].tolist()[:2] == [2, 1]


def test_each_framing_is_warned_of_by_its_zoom_by_its_looks_or_by_either():
    ids = np.array([f"i{n}" for n in range(40)], dtype=object)
    patients = np.array([f"p{n // 2}" for n in range(40)], dtype=object)
    bright = images([255] * 10 + [0] * 30)
    by_framing = {Framing(): bright, Framing(1.3): bright[::-1]}
    framed = SimpleNamespace(
        framings=tuple(by_framing), of=lambda size, framing: PixelCache(ids, by_framing[framing], {})
    )
    guess = SimpleNamespace(
        guess=lambda pixels: 1 + (np.arange(40) < 15) * pixels[0, 0, 0] / 255, odd=lambda zoom: zoom > 1.1
    )
    network = SimpleNamespace(
        cell=SimpleNamespace(image_size=16),
        read=lambda part: SimpleNamespace(image_ids=ids, patients=patients),
    )
    novelty = Bright()
    object.__setattr__(novelty, "zoom", guess)
    table = framing_warnings(framed, network, novelty, n_resamples=200).set_index("framed")
    assert table.loc["zoom 1", ["framing", "novelty", "either"]].tolist() == [15 / 40, 10 / 40, 15 / 40]
    assert table.loc["zoom 1.3", ["framing", "novelty", "either"]].tolist() == [0, 10 / 40, 10 / 40]
    assert (table["n_images"] == 40).all() and (table["n_patients"] == 20).all()
    assert table.loc["zoom 1", "framing_low"] < 15 / 40 < table.loc["zoom 1", "framing_high"]
    object.__setattr__(novelty, "zoom", None)
    assert framing_warnings(framed, network, novelty).empty
