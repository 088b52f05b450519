"""The grain of training images is learned, and a picture with another one stands out, whatever it shows."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from deferred import deferred

with deferred:
    from leakfree.predict.texture import KEPT, Texture


def made(n, seed, size=48):
    """Waves of many lengths, the shorter the weaker, as in nature; each image has an exposure of its own."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    weight = 1 / np.maximum(frequency, 1 / size) ** 1.5
    spectra = (
        weight * np.exp(2j * np.pi * rng.random((n, *frequency.shape))) * rng.lognormal(0, 0.2, (n, 1, 1))
    )
    images = np.fft.irfft2(spectra, (size, size))
    images /= images.std(axis=(1, 2), keepdims=True)
    return np.clip(128 + rng.uniform(25, 40, (n, 1, 1)) * images, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def texture():
    return Texture.fit(made(300, 0), made(400, 1))


def test_new_images_are_within_the_limit_about_as_often_as_it_says(texture):
    assert (texture.score(made(400, 1)) <= 1).mean() == pytest.approx(KEPT, abs=0.003)
    assert (texture.score(made(300, 2)) <= 1).mean() > 0.97


@pytest.mark.parametrize("kind", ["blurred", "noisy", "coarse", "flat"])
def test_another_grain_is_beyond_it(texture, kind):
    rng = np.random.default_rng(5)

    def changed(image):
        picture = Image.fromarray(image)
        if kind == "blurred":
            picture = picture.filter(ImageFilter.GaussianBlur(1))
        if kind == "coarse":
            picture = picture.resize((24, 24)).resize(picture.size)
        grey = np.asarray(picture, dtype=np.float64)
        if kind == "noisy":
            grey = grey + rng.normal(0, 12, grey.shape)
        return np.clip(0 * grey + 90 if kind == "flat" else grey, 0, 255).astype(np.uint8)

    assert (texture.score(np.stack([changed(image) for image in made(20, 3)])) > 1).all()


def test_exposure_and_mirroring_are_no_grain(texture):
    images = made(20, 4)
    darker = np.rint(0.7 * images.astype(np.float64) + 20).astype(np.uint8)
    # Rounding to grey levels adds the finest grain.
    assert np.abs(texture.score(darker) - texture.score(images)).max() < 0.5
    assert texture.score(images[:, :, ::-1]) == pytest.approx(texture.score(images), rel=1e-6)


def test_an_image_has_one_score_whoever_stands_beside_it(texture):
    images = made(6, 6)
    alone = np.concatenate([texture.score(image[None]) for image in images])
    assert texture.score(images) == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("size", [8, 16, 31, 96])
def test_images_of_any_size_have_a_score(size):
    found = Texture.fit(made(40, 0, size), made(40, 1, size))
    assert np.isfinite(found.score(made(5, 2, size))).all() and found.wrong(size) == ""


def test_too_few_images_say_nothing():
    assert Texture.fit(made(5, 0), made(40, 1)) is None
    assert Texture.fit(made(40, 0), made(0, 1)) is None
