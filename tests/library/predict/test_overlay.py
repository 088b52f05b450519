"""The overlay keeps the image's own shape and is warm where the map is."""

import io

import numpy as np
import pytest
from PIL import Image

from leakfree.predict.overlay import LONGER_SIDE, draw_overlay


def encoded(width, height, mode="L", exif=None):
    buffer = io.BytesIO()
    options = {} if exif is None else {"exif": exif}
    Image.new(mode, (width, height), 100).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def drawn(data, heat):
    with Image.open(io.BytesIO(draw_overlay(data, heat))) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def test_colour_is_where_the_heat_is():
    heat = np.zeros((8, 8), np.float32)
    heat[:, :4] = 1
    picture = drawn(encoded(200, 100), heat)
    left, right = picture[:, :60].mean(axis=(0, 1)), picture[:, 140:].mean(axis=(0, 1))
    assert right == pytest.approx([100, 100, 100], abs=3)
    assert left == pytest.approx([0.4 * 100 + 0.6 * c for c in (230, 159, 0)], abs=6)


def test_no_heat_leaves_the_image():
    assert np.abs(drawn(encoded(64, 64), np.zeros((8, 8), np.float32)) - 100).max() <= 2


@pytest.mark.parametrize(("width", "height"), [(2000, 1000), (300, 700), (40, 50)])
def test_the_shape_is_that_of_the_image_and_no_larger_than_needed(width, height):
    picture = drawn(encoded(width, height), np.ones((4, 4), np.float32))
    scale = min(1, LONGER_SIDE / max(width, height))
    assert picture.shape[:2] == (round(height * scale), round(width * scale))


def test_an_image_that_lies_on_its_side_is_turned():
    exif = Image.Exif()
    exif[274] = 6  # orientation: turn by 90 degrees
    assert drawn(encoded(80, 40, exif=exif), np.zeros((4, 4), np.float32)).shape[:2] == (80, 40)
