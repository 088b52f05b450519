"""Pretraining without labels: its loss, its views, and that it learns from the training part alone."""

import functools
import hashlib
from copy import deepcopy

import numpy as np
import pytest
from PIL import Image

from deferred import deferred
from leakfree.data.pixels import PixelCache, pixel_digest

with deferred:
    import torch

    from leakfree.ledger.ledger import Ledger
    from leakfree.models.networks import build
    from leakfree.models.training import TrainingError, TrainingImages
    from leakfree_study.models import pretraining
    from leakfree_study.models.pretraining import REDUNDANCY, barlow_loss, pretrain, view

SIZE = 32  # ResNet18 in bfloat16 fails on 16
TRAIN = np.arange(3, 75)  # a batch of 64 and one of 8


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# Loss


def features(b=16, d=4, seed=0):
    """Return features, float64 (b, d), with mean 0, deviation 1, and no correlation with each other."""
    drawn = torch.randn((b, d), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    orthogonal, _ = torch.linalg.qr(drawn - drawn.mean(0))
    return orthogonal * (b - 1) ** 0.5


def test_loss_is_zero_for_equal_views_of_separate_features():
    z = features()
    assert float(barlow_loss(z, z)) == pytest.approx(0, abs=1e-6)
    # The scale and the place of a feature are no matter.
    moved = z * torch.tensor([0.5, 2.0, 30.0, 400.0]) + 7
    assert float(barlow_loss(z, moved)) == pytest.approx(0, abs=1e-6)


def test_loss_counts_views_that_disagree():
    z = features()
    opposite = z * torch.tensor([1.0, 1.0, 1.0, -1.0])
    assert float(barlow_loss(z, opposite)) == pytest.approx(4, abs=1e-3)
    both = features(d=8)
    assert float(barlow_loss(both[:, :4], both[:, 4:])) == pytest.approx(4, abs=1e-3)


def test_loss_counts_features_of_one_content():
    z = features()
    repeated = torch.cat([z[:, :3], z[:, :1]], dim=1)
    assert float(barlow_loss(repeated, repeated)) == pytest.approx(2 * REDUNDANCY, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_loss_is_the_one_of_the_paper(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(12, 5)), rng.normal(size=(12, 5))
    expected = 0.0
    for i in range(5):
        for j in range(5):
            r = np.corrcoef(first[:, i], second[:, j])[0, 1]
            expected += (r - 1) ** 2 if i == j else 5e-3 * r**2
    found = barlow_loss(torch.from_numpy(first), torch.from_numpy(second))
    assert float(found) == pytest.approx(expected, rel=1e-3)
    assert float(found) > 0.1


# Views


def drawn(x, seed=0):
    return view(x, torch.Generator().manual_seed(seed))


def places(n=400, side=32, seed=0):
    """Return where each pixel of n views lies on its image, down and across, (n, side, side) from -1 to 1.

    Views of one seed differ in their images alone, so contrast and exposure can be taken out again.
    """
    ramp = (torch.arange(side) + 0.5) / side * 2 - 1
    down, across = (r.expand(n, 1, side, side).contiguous() for r in (ramp[:, None], ramp[None, :]))
    exposure, one = drawn(torch.zeros(n, 1, side, side), seed), drawn(torch.ones(n, 1, side, side), seed)
    return tuple(((drawn(x, seed) - exposure) / (one - exposure))[:, 0] for x in (down, across))


def test_a_view_keeps_the_shape_and_leaves_its_image():
    x = torch.rand(5, 1, 24, 24)
    before = x.clone()
    y = drawn(x)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    assert torch.equal(x, before)
    assert not torch.allclose(y, x, atol=0.01)


def test_a_view_depends_on_its_generator_alone():
    x = torch.rand(4, 1, 24, 24)
    torch.manual_seed(1)
    first, state = drawn(x), torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(first, drawn(x))
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, drawn(x, seed=1))


def test_every_image_has_its_own_view():
    x = torch.rand(1, 1, 24, 24).expand(6, -1, -1, -1).contiguous()
    y = drawn(x)
    assert all(not torch.allclose(y[0], other, atol=1e-3) for other in y[1:])


def test_a_view_never_mirrors():
    """The heart has a side: what is brighter on the left stays so, as what is brighter above."""
    for dim, mean_dims in ((2, (1, 3)), (3, (1, 2))):
        x = torch.zeros(400, 1, SIZE, SIZE)
        x += torch.linspace(1, -1, SIZE).view((1, 1, -1, 1) if dim == 2 else (1, 1, 1, -1))
        profile = drawn(x, seed=3).mean(dim=mean_dims)
        half = SIZE // 2
        assert (profile[:, :half].mean(1) > profile[:, half:].mean(1) + 0.1).all()


def test_a_view_is_a_crop_within_the_image():
    down, across = places()
    half = 16
    # The mean of four pixels around the centre, and the slope over the inner half, which no border clamps.
    inner = slice(half // 2, half // 2 + half)
    for moved, rows in ((down, True), (across, False)):
        centre = moved[:, half - 1 : half + 1, half - 1 : half + 1].mean(dim=(1, 2))
        assert centre.abs().max() <= 0.4 + 1e-4
        assert centre.max() > 0.2
        assert centre.min() < -0.2
        # All that is seen is on the image: its border goes on where a turned corner would look beside it.
        assert moved.abs().max() <= 1 - 1 / 32 + 1e-4
        along = moved[:, inner, inner].diff(dim=1 if rows else 2).mean(dim=(1, 2)) * 16
        beside = moved[:, inner, inner].diff(dim=2 if rows else 1).mean(dim=(1, 2)) * 16
        side, angle = (along**2 + beside**2).sqrt(), torch.rad2deg(torch.atan2(beside, along)).abs()
        # A crop of side s around c needs |c| <= 1 - s.
        assert (centre.abs() <= 1 - side + 1e-3).all()
        assert 0.6 - 1e-3 <= float(side.min()) < 0.65
        assert 0.95 < float(side.max()) <= 1 + 1e-3
        assert 9 < float(angle.max()) <= 10 + 1e-2


def test_contrast_and_exposure_change_as_said():
    exposure = drawn(torch.zeros(400, 1, 8, 8))[:, 0]
    contrast = drawn(torch.ones(400, 1, 8, 8))[:, 0] - exposure
    for values, low, high in ((exposure, -0.4, 0.4), (contrast, 0.6, 1.4)):
        assert torch.allclose(values.amin(dim=(1, 2)), values.amax(dim=(1, 2)), atol=1e-5)
        assert low - 1e-5 <= float(values.min()) < low + 0.05
        assert high - 0.05 < float(values.max()) <= high + 1e-5


# Training


def images(n=80, seed=0):
    """Draw smooth images, of which a crop shows which one it is."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 3, 3), dtype=np.uint8)
    pixels = np.stack(
        [np.asarray(Image.fromarray(c).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for c in coarse]
    )
    ids = np.array([f"image-{i:03d}" for i in range(n)], dtype=object)
    return PixelCache(ids, pixels, {i: pixel_digest(p) for i, p in zip(ids, pixels, strict=True)})


@functools.cache
def untrained():
    torch.manual_seed(5)
    return build("resnet18", 2, SIZE)[0]


def network():
    """A copy: drawing the weights takes longer than that."""
    return deepcopy(untrained())


def weights_hash(net):
    digest = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        if not name.startswith("fc."):
            digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def pretrained(epochs=1, seed=7, net=None, cache=None, ledger=None, train=TRAIN):
    """Return a network that was pretrained, and its losses."""
    net, cache = net or network(), cache or images()
    ledger = Ledger(cache.digests) if ledger is None else ledger
    labels = np.zeros(len(cache), dtype=np.int64)
    return net, pretrain(net, TrainingImages(cache, labels, train), epochs, seed=seed, ledger=ledger)


@pytest.fixture(scope="module")
def usual():
    """A network that was pretrained for an epoch, its losses, and what its ledger noted."""
    cache = images()
    ledger = Ledger(cache.digests)
    torch.manual_seed(1)
    return *pretrained(net=network(), cache=cache, ledger=ledger), ledger


def test_equal_seeds_give_equal_weights_and_others_others(usual):
    found = [weights_hash(usual[0])]
    for seed, state in ((7, 2), (8, 1)):
        net = network()
        torch.manual_seed(state)  # what was drawn before is no matter
        torch.rand(state)
        found.append(weights_hash(pretrained(seed=seed, net=net)[0]))
    assert found[0] == found[1]
    assert found[0] != found[2]
    assert weights_hash(network()) not in found


def test_the_head_is_left_alone():
    net = network()
    head, before = net.fc, {key: value.clone() for key, value in net.fc.state_dict().items()}
    pretrained(net=net)
    assert net.fc is head
    assert all(torch.equal(value, before[key]) for key, value in net.fc.state_dict().items())
    assert net(torch.zeros(2, 1, SIZE, SIZE)).shape == (2, 2)
    assert net.state_dict().keys() == network().state_dict().keys()


@pytest.mark.parametrize("epochs", [1, 2])
def test_the_ledger_has_the_training_part_and_nothing_else(usual, epochs):
    cache = images()
    if epochs == 1:
        _, losses, ledger = usual
    else:
        ledger = Ledger(cache.digests)
        _, losses = pretrained(epochs, cache=cache, ledger=ledger)
    assert ledger.state()["stages"].keys() == {"train"}
    assert ledger.consumed("train") == dict.fromkeys(cache.ids[TRAIN], epochs)
    assert len(losses) == epochs
    assert all(0 < loss < np.inf for loss in losses)


def test_other_images_do_not_change_the_weights(usual):
    cache = images()
    rest = np.setdiff1d(np.arange(len(cache)), TRAIN)
    pixels = cache.pixels.copy()
    pixels[rest] = 0
    digests = {i: pixel_digest(p) for i, p in zip(cache.ids, pixels, strict=True)}
    other = PixelCache(cache.ids, pixels, digests)
    assert weights_hash(usual[0]) == weights_hash(pretrained(cache=other)[0])


@pytest.mark.slow
def test_it_learns_to_know_an_image_again():
    _, losses = pretrained(8, train=np.arange(64))  # batches of one size have losses to compare
    assert losses[-1] < 0.6 * losses[0]


def test_a_network_without_such_a_head_is_refused():
    net = build("simple-cnn-16", 2, SIZE)[0]
    ledger = Ledger(images().digests)
    with pytest.raises(ValueError, match="SimpleCNN has no last layer fc: pretraining is for ResNet"):
        pretrained(net=net, ledger=ledger)
    assert not ledger.consumed("train")


def test_a_loss_that_is_no_number_stops_with_a_reason(monkeypatch):
    monkeypatch.setattr(pretraining, "barlow_loss", lambda a, b: (a.sum() + b.sum()) * float("nan"))
    with pytest.raises(TrainingError, match="pretrain: the loss of epoch 1 is not a number"):
        pretrained()
