"""Shapes of images: given back truly, and read where they can be read."""

import numpy as np
import pandas as pd
import pytest

from deferred import deferred
from leakfree.data.tasks import TASKS

with deferred:
    from leakfree.data.cohort import ingest
    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
    from leakfree_study.networks import aspect
    from leakfree_study.networks.aspect import aspect_sentence, aspect_study, reshaped
    from leakfree_study.run.run import open_run


def ramp(side=64):
    """An image that gets brighter to the right, and has a white line below."""
    image = np.tile(np.linspace(0, 250, side), (side, 1)).astype(np.uint8)
    image[-4:] = 255
    return image


def test_a_padded_image_has_its_proportions():
    white = np.full((64, 64), 255, dtype=np.uint8)
    for ratio, wide, high in ((2.0, 40, 20), (0.5, 20, 40), (1.0, 40, 40)):
        lit = reshaped(white, ratio, "padded", 40) > 0
        rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
        assert (len(columns), len(rows)) == (wide, high)
        assert lit[np.ix_(rows, columns)].all()
        assert abs((rows[0] + rows[-1]) - 39) <= 1 and abs((columns[0] + columns[-1]) - 39) <= 1


def test_a_cropped_image_is_the_middle_of_the_longer_side():
    image = ramp().astype(int)
    wide = reshaped(ramp(), 2.0, "cropped", 32).astype(int)
    assert wide[0, 0] == pytest.approx(image[0, 16], abs=8)
    assert wide[0, -1] == pytest.approx(image[0, 47], abs=8)
    assert wide[-1, 5] == 255
    high = reshaped(ramp(), 0.5, "cropped", 32).astype(int)
    assert high[0, 0] == pytest.approx(0, abs=8) and high[0, -1] == pytest.approx(250, abs=8)
    assert high[-1, 5] < 100


def test_a_square_image_is_the_same_in_every_way():
    squashed = reshaped(ramp(), 1.0, "squashed", 32)
    for handling in aspect.HANDLINGS:
        assert np.array_equal(reshaped(ramp(), 1.0, handling, 32), squashed)


@pytest.mark.parametrize(("ratio", "handling"), [(0.0, "padded"), (np.nan, "padded"), (1.0, "bent")])
def test_what_cannot_be_shaped_is_refused(ratio, handling):
    with pytest.raises(ValueError, match=r"aspect must be a positive number|unknown handling 'bent'; known"):
        reshaped(ramp(), ratio, handling, 32)


def test_variance_within_classes_is_what_counts():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    truth = labels * 3.0 + rng.normal(size=400)
    ones = np.ones((1, 400))
    assert aspect._explained(truth, truth, labels, ones)[0] == pytest.approx(1)
    # Who knows the class alone reads nothing of the shape.
    means = np.array([truth[labels == c].mean() for c in (0, 1)])[labels]
    assert aspect._explained(truth, means, labels, ones)[0] == pytest.approx(0, abs=1e-9)
    half = means + 0.5 * (truth - means)
    assert aspect._explained(truth, half, labels, ones)[0] == pytest.approx(0.75)


def test_padding_shows_the_shape(monkeypatch, tmp_path):
    """Images of noise, of a shape that the class knows nothing of: bars tell it, the squash does not."""
    monkeypatch.setenv("LEAKFREE_CACHE", str(tmp_path / "cache"))
    ingest(PhantomSource(PhantomSettings(n_images=240, size=32)), tmp_path / "store")
    run = open_run("05_leakfree_deep", data=str(tmp_path / "store"), run_dir=str(tmp_path / "run"), jobs=1)
    rng = np.random.default_rng(1)

    def sizes(table, data):
        found = np.zeros((len(table), 4))
        found[:, 2] = rng.normal(scale=0.3, size=len(table))
        found[::5] = np.nan
        return found

    # The share of black pixels by column and row stands for the network's features.
    def bars(pixels, **settings):
        dark = pixels < 3
        return np.hstack([dark.mean(axis=1), dark.mean(axis=2)]).astype(np.float32)

    monkeypatch.setattr(aspect, "original_sizes", sizes)
    monkeypatch.setattr(aspect, "embed", bars)
    found = aspect_study(run, 32, max_images=150, n_resamples=50, seed=0)
    images = len(run.development(TASKS["binary"], 150))
    assert set(found["n_images"]) == {images - len(range(0, images, 5))}
    read = found[found["reads"] == "shape"].set_index("handling")["estimate"]
    assert read["padded"] > 0.8
    assert read["squashed"] < 0.2
    assert (found["low"] <= found["estimate"]).all() and (found["estimate"] <= found["high"]).all()
    told = found[found["reads"] == "class"].set_index("handling")
    assert told.loc["shape alone", "estimate"] == pytest.approx(0.5, abs=0.12)
    monkeypatch.setattr(aspect, "original_sizes", lambda table, data: None)
    nothing = aspect_study(run, 32, max_images=150)
    assert nothing.empty and nothing.columns.tolist() == found.columns.tolist()


def shapes_of(squashed_low):
    """A table of `aspect_study`: cropped images show the least of the shape, padded ones the most."""
    read = {"squashed": 0.3, "padded": 0.6, "cropped": -0.1}
    rows = [("shape alone", "class", 0.8, 0.7, 0.9)]
    rows += [(name, "class", 0.9 + place / 100, 0.8, 1.0) for place, name in enumerate(read)]
    rows += [(name, "shape", value, squashed_low, value + 0.1) for name, value in read.items()]
    table = pd.DataFrame(rows, columns=["handling", "reads", "estimate", "low", "high"])
    return table.assign(metric="x", n_images=1200, n_patients=900)


def test_the_sentence_follows_the_interval_of_the_squash():
    text = aspect_sentence(shapes_of(0.2), whole=True)
    assert text.startswith(
        "The squash carries the shape: 30 % of the variance within classes is read (20 % to 40 %);"
    )
    assert "Least is read when images are cropped, most when padded." in text
    assert (
        "ROC AUC of 0.800; images that are squashed, padded and cropped with 0.900, 0.910 and 0.920." in text
    )
    assert text.endswith("Sizes are known of 1,200 images of 900 patients.")
    text = aspect_sentence(shapes_of(-0.1), whole=False)
    assert text.startswith("The squash leaves no shape that such a model reads:")
    assert text.endswith("patients: not all, so this is a sample that chance did not draw.")
    assert aspect_sentence(pd.DataFrame(), whole=True).startswith("The shape tells nothing here")
