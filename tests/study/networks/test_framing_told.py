"""What framing tells, as a table: the edge of a crop, and parts inside a class once the seal was opened."""

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deferred import deferred

with deferred:
    from leakfree.data.cohort import ingest
    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
    from leakfree.scores.predictions import save_predictions
    from leakfree_study.networks.framing_told import framing_told
    from leakfree_study.run.run import open_run
    from leakfree_study.run.seal_log import SEALED_LOG


def phantom(crops, **settings):
    """Make a phantom that shows of some images the middle alone."""

    class Cropped(PhantomSource):
        def render(self, image):
            raw = super().render(image)
            if not crops(raw):
                return raw
            picture = Image.open(io.BytesIO(raw.data))
            w, h = picture.size
            box = (w // 6, h // 6, w - w // 6, h - h // 6)
            stream = io.BytesIO()
            picture.crop(box).resize((w, h), Image.Resampling.BILINEAR).save(stream, "JPEG", quality=90)
            return replace(raw, data=stream.getvalue())

    return Cropped(PhantomSettings(size=32, **settings))


def run_on(folder, source, monkeypatch):
    monkeypatch.setenv("LEAKFREE_CACHE", str(folder / "cache"))
    ingest(source, folder / "store")
    return open_run("05_reframed", data=str(folder / "store"), run_dir=str(folder / "run"), jobs=1)


def test_a_crop_of_the_ill_is_told_by_the_ring_and_by_the_pairs(tmp_path, monkeypatch):
    run = run_on(tmp_path, phantom(lambda raw: raw.label != "normal", n_images=240), monkeypatch)
    told = framing_told(run, n_resamples=20)
    ring = told[(told["question"] == "normal or pneumonia") & (told["looked_at"] == "ring")].iloc[0]
    assert ring["tells"] and ring["low"] > 0.6 and ring["low"] <= ring["estimate"] <= ring["high"]
    assert ring["shuffled_high"] < ring["low"]
    assert ring["n_images"] == len(run.cohort.development()) and ring["n_patients"] < ring["n_images"]
    pairs = told[told["question"].str.contains("bacterial|viral")]
    assert (pairs["looked_at"] == "ring").all() and (pairs["n_images"] < ring["n_images"]).all()
    with_normal = pairs[pairs["question"].str.contains("normal")]
    assert len(with_normal) == 2 and with_normal["tells"].all()
    # Nothing of the sealed part was opened.
    assert not told["question"].str.contains("among").any()


def test_parts_inside_a_class_are_compared_once_the_seal_was_opened(tmp_path, monkeypatch):
    source = phantom(lambda raw: raw.part == "test", n_images=240, test_share=0.4)
    run = run_on(tmp_path, source, monkeypatch)
    told = framing_told(run, n_resamples=20)
    assert not told[told["looked_at"] == "ring"]["tells"].iloc[0]
    sealed = run.cohort.table[run.cohort.table["part"] == "test"]
    ill = np.array(["PNEUMONIA" in name for name in sealed["image_id"]])
    frame = pd.DataFrame(
        {
            "image_id": sealed["image_id"],
            "patient": sealed["image_id"],
            "part": "test",
            "label": np.where(ill, "pneumonia", "normal"),
            "p_normal": 0.5,
            "p_pneumonia": 0.5,
            "seed": 1,
        }
    )
    name = "predictions/sealed/binary_resnet18_s1.csv"
    save_predictions(run.folder / name, frame)
    line = {"opening": 1, "results": [1], "predictions": {name: "0"}}
    (run.folder / SEALED_LOG).write_text(json.dumps(line) + "\n", encoding="utf-8")
    inside = framing_told(run, n_resamples=20)
    inside = inside[inside["question"].str.contains("among")].set_index("question")
    assert len(inside) == 2 and inside["tells"].all()
    row = inside.loc["train or test, among normal images"]
    assert row["n_images"] == (~ill).sum() + (run.cohort.development()["label"] == "normal").sum()
    assert row["estimate"] == pytest.approx(1, abs=0.2)
