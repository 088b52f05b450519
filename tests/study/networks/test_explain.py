"""What a network looks at: maps find what it was built to see, and hiding hides it."""

from pathlib import Path

import numpy as np
import pytest

from deferred import deferred
from leakfree.scores.predictions import Predictions

with deferred:
    import torch
    from torch import nn

    from leakfree.data.pixels import PixelCache, pixel_digest
    from leakfree.ledger.ledger import Ledger, LedgerError
    from leakfree.models.networks import build
    from leakfree.models.training import Normalisation, predict
    from leakfree_study.networks import explain

    PLAIN = Normalisation(0.0, 1.0)


def corner():
    """Return a network: class 1 where the upper left is bright, class 0 where the middle is."""

    class Corner(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
            nn.init.constant_(self.conv.weight, 1 / 9)
            self.where = torch.zeros(2, 1, 32, 32)
            self.where[1, 0, :8, :8] = 1
            self.where[0, 0, 12:20, 12:20] = 1

        def forward(self, x):
            return (self.conv(x)[:, None] * self.where).mean(dim=(2, 3, 4))

    return Corner()


def images(n=2, size=32):
    pixels = np.zeros((n, size, size), dtype=np.uint8)
    pixels[:, :8, :8] = 255
    pixels[:, 12:20, 12:20] = 255
    return pixels


def cache_of(pixels):
    ids = np.array([f"{i}.png" for i in range(len(pixels))], dtype=object)
    return PixelCache(ids, pixels, {i: pixel_digest(image) for i, image in zip(ids, pixels, strict=True)})


def test_regions_are_where_their_names_say():
    lungs = explain.region("lungs", 100)
    assert lungs[50, 25] and lungs[50, 75] and lungs[50, 50]
    assert not lungs[2, 50] and not lungs[50, 2] and not lungs[97, 50]
    assert 0.45 < lungs.mean() < 0.7
    assert np.array_equal(explain.region("outside-lungs", 100), ~lungs)
    corners = explain.region("corners", 100)
    assert corners[0, 0] and corners[99, 99] and corners[0, 99] and not corners[50, 0]
    assert corners.sum() == 4 * 18 * 18
    borders = explain.region("borders", 100)
    assert borders[50, 0] and borders[99, 50] and not borders[50, 50]
    with pytest.raises(ValueError, match="unknown region 'heart'; known: lungs"):
        explain.region("heart", 100)


def test_hiding_changes_nothing_else_and_no_original():
    pixels = images()
    hidden = explain.hide(pixels, "corners", fill=7)
    mask = explain.region("corners", 32)
    assert (hidden[:, mask] == 7).all()
    assert np.array_equal(hidden[:, ~mask], pixels[:, ~mask])
    assert np.array_equal(pixels, images())


def test_a_ledger_tells_hidden_images_from_whole_ones():
    whole = cache_of(images())
    hidden = explain.hidden_cache(whole, "lungs")
    rows = np.arange(2)
    predict(corner(), hidden, rows, PLAIN, ledger=Ledger(hidden.digests), stage="test", precision="float32")
    with pytest.raises(LedgerError):
        predict(
            corner(), whole, rows, PLAIN, ledger=Ledger(hidden.digests), stage="test", precision="float32"
        )


def test_hiding_what_a_network_reads_changes_its_answer_and_hiding_the_rest_does_not():
    network, pixels = corner(), images()
    rows = np.arange(2)

    def answer(cache):
        return predict(
            network, cache, rows, PLAIN, ledger=Ledger(cache.digests), stage="test", precision="float32"
        )[1]

    whole = answer(cache_of(pixels))
    no_corners = answer(explain.hidden_cache(cache_of(pixels), "corners"))
    assert (no_corners[:, 1] < whole[:, 1]).all()
    assert (answer(explain.hidden_cache(cache_of(pixels), "lungs"))[:, 0] < whole[:, 0]).all()


def test_the_table_says_what_hiding_costs():
    """Class 1 has a bright corner and class 0 a bright middle; half the images of each, two a patient."""
    pixels = np.full((16, 32, 32), 100, dtype=np.uint8)
    labels = np.arange(16) % 2
    pixels[labels == 1, :5, :5] = 255
    pixels[labels == 0, 12:20, 12:20] = 255
    cache = cache_of(pixels)
    patients = np.array([f"p{i // 4}-{i % 2}" for i in range(16)], dtype=object)
    part = np.array(["val", "conformal"] * 8, dtype=object)
    images = Predictions(Path("x"), cache.ids, patients, part, labels, ("a", "b"), np.full((16, 2), 0.5), 0)
    table = explain.hidden_table(corner(), Normalisation(0.4, 1.0), cache, images, n_resamples=50)
    auc = table[table["metric"] == "roc_auc"].set_index("hidden")["estimate"]
    assert auc.index.tolist() == ["nothing", *explain.REGIONS]
    assert auc["nothing"] == 1
    # Either sign is enough to tell the classes apart; without both nothing is left.
    assert auc["corners"] == auc["lungs"] == 1
    pixels[:, 12:20, 12:20] = 100
    left = cache_of(pixels)
    only_corners = explain.hidden_table(corner(), Normalisation(0.4, 1.0), left, images, n_resamples=5)
    auc = only_corners[only_corners["metric"] == "roc_auc"].set_index("hidden")["estimate"]
    assert auc["corners"] == 0.5
    assert auc["lungs"] == 1
    assert (only_corners["n_patients"] == 8).all()


def test_the_map_is_the_activation_weighted_by_its_mean_gradient():
    network, pixels = corner(), images()
    heat = explain.grad_cam(network, pixels, PLAIN, np.array([0, 1]))
    assert heat.shape == (2, 32, 32)
    assert heat.dtype == np.float32
    # One channel: its map, scaled; the mean gradient is positive for both classes.
    x = torch.from_numpy(pixels[:, None].astype(np.float32) / 255)
    expected = network.conv(x)[:, 0].detach().numpy()
    assert heat == pytest.approx(expected / expected.max(), abs=1e-6)
    # A gradient that speaks against the class leaves nothing.
    network.where = -network.where
    against = explain.grad_cam(network, pixels, PLAIN, np.array([0, 1]))
    assert (against == 0).all()
    assert np.isnan(explain.heat_inside(against)).all()


@pytest.mark.parametrize("model", ["resnet18", "simple-cnn-16", "efficientnet-lite0"])
def test_every_network_can_be_explained_and_is_left_as_it_was(model):
    torch.manual_seed(0)
    network, _ = build(model, 3, 64)
    network.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    heat = explain.grad_cam(network, pixels, Normalisation(0.5, 0.25), np.array([0, 1, 2]))
    assert heat.shape == (3, 64, 64)
    assert heat.min() >= 0 and heat.max() <= 1
    assert np.isfinite(heat).all()
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    again = explain.grad_cam(network, pixels[1:2], Normalisation(0.5, 0.25), np.array([1]))
    assert again[0] == pytest.approx(heat[1], abs=1e-4)
    assert not explain.last_map(network)._forward_hooks


def test_heat_is_shared_between_inside_and_outside():
    heat = np.random.default_rng(1).random((4, 40, 40)).astype(np.float32)
    inside, outside = (explain.heat_inside(heat, name) for name in ("lungs", "outside-lungs"))
    assert inside + outside == pytest.approx(np.ones(4))


def test_a_network_without_a_map_is_refused():
    with pytest.raises(ValueError, match="Linear has no convolution"):
        explain.last_map(nn.Linear(2, 2))


def test_a_probe_learns_from_what_is_not_hidden(monkeypatch):
    """The middle, inside the lungs, tells the class: it is read unless hidden, in training too."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 40, size=(120, 32, 32), dtype=np.uint8)
    labels = np.arange(120) % 2
    pixels[labels == 1, 12:20, 12:20] += 120
    cache = cache_of(pixels)
    held = np.arange(80, 120)
    p = np.full((40, 2), 0.5)
    named = {
        "image_ids": cache.ids[held],
        "patients": cache.ids[held],
        "part": np.array(["val", "calibration"] * 20, dtype=object),
        "labels": labels[held],
        "classes": ("normal", "pneumonia"),
        "probabilities": p,
        "seed": 0,
    }
    shown = Predictions(Path("made"), **named)
    monkeypatch.setattr(explain, "embed", lambda images, **settings: images.reshape(len(images), -1) / 255)
    train = dict(zip(cache.ids[:80], labels[:80], strict=True))
    found = explain.hidden_probe(cache, train, shown, n_resamples=100)
    auc = found[found["metric"] == "roc_auc"].set_index("hidden")["estimate"]
    assert auc["nothing"] > 0.99 and auc["outside-lungs"] > 0.99
    assert auc["lungs"] < 0.75
    assert set(found["n_images"]) == {40}
    # Labels of training alone are learned: turned round, the score turns round.
    turned = {image_id: 1 - label for image_id, label in train.items()}
    turned = explain.hidden_probe(cache, turned, shown, n_resamples=10)
    assert turned[turned["metric"] == "roc_auc"].set_index("hidden")["estimate"]["nothing"] < 0.01
