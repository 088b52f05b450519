"""The guess of the zoom: images that are framed otherwise are noticed, those framed as usual are not."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from deferred import deferred
from leakfree.predict.framed import Framing, framed

with deferred:
    from leakfree.predict.novelty import Novelty, NoveltyError
    from leakfree.predict.zoom import KEPT, ZoomGuess


def ribs(n, seed, size=64):
    """Stripes with a bright middle: of one scale but for a few per cent, moved and noisy."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    made = []
    for _ in range(n):
        scale, place = np.exp(rng.normal(0, 0.02)), rng.normal(0, 0.01, 2)
        high, wide = (y - place[0]) * scale, (x - place[1]) * scale
        body = np.exp(-8 * wide**2 - 5 * high**2) * (1 + 0.4 * np.cos(40 * high))
        made.append(60 + 120 * body + rng.normal(0, 4, (size, size)))
    return np.clip(made, 0, 255).astype(np.uint8)


def at(images, framing):
    return np.stack([framed(Image.fromarray(image), framing, images.shape[1]) for image in images])


@pytest.fixture(scope="module")
def guess():
    return ZoomGuess.fit(ribs(200, 0), ribs(200, 1))


def test_images_as_they_are_lie_within_the_limits(guess):
    new = guess.guess(ribs(300, 2))
    assert np.median(new) == pytest.approx(1, abs=0.02)
    assert guess.odd(new).mean() <= 5 * (1 - KEPT)  # 200 images set the limits
    assert guess.low < 1 < guess.high


@pytest.mark.parametrize("zoom", [0.8, 0.9, 1.2, 1.3])
def test_a_zoom_is_guessed_and_warned_of(guess, zoom):
    found = guess.guess(at(ribs(60, 3), Framing(zoom)))
    assert np.median(found) == pytest.approx(zoom, rel=0.05)
    assert guess.odd(found).mean() > 0.9


def test_it_is_kept_with_the_novelty_score_and_its_numbers_are_checked(tmp_path):
    novelty = Novelty.fit(ribs(100, 0), ribs(60, 1), "m")
    images = ribs(5, 4)
    path = novelty.save(tmp_path / "novelty.safetensors")
    read = Novelty.load(path, "m").zoom
    assert np.array_equal(read.guess(images), novelty.zoom.guess(images))
    assert path.read_bytes() == novelty.save(tmp_path / "again.safetensors").read_bytes()
    for wrong in ({"low": float("nan")}, {"low": 2.0}, {"weights": np.zeros(3, np.float32)}):
        broken = replace(novelty, zoom=replace(novelty.zoom, **wrong))
        with pytest.raises(NoveltyError, match="not a guess of the zoom"):
            Novelty.load(broken.save(path), "m")
    # A file of an earlier version has none.
    assert Novelty.load(replace(novelty, zoom=None).save(path), "m").zoom is None
