"""An image framed otherwise shows what it should: the middle alone, a black ground, a picture that moved."""

import numpy as np
import pytest
from PIL import Image

from leakfree.data.images import to_grey
from leakfree.predict.framed import FRAMINGS, PLAIN, Framing, framed


def picture(width=64, height=48):
    """Draw a grey slope with a bright spot in its middle."""
    row, column = np.mgrid[:height, :width]
    far = ((row - height / 2 + 0.5) / height) ** 2 + ((column - width / 2 + 0.5) / width) ** 2
    return Image.fromarray((100 + 155 * (far < 0.01)).astype(np.uint8))


def spot(square):
    return (square > 180).mean()


def test_as_it_is_an_image_is_what_the_network_takes(tmp_path):
    picture().save(tmp_path / "p.png")
    assert np.array_equal(framed(picture(), PLAIN, 32), to_grey((tmp_path / "p.png").read_bytes(), 32))


@pytest.mark.parametrize("zoom", [0.5, 0.8, 1.25, 2.0])
def test_a_zoom_makes_the_middle_larger_by_its_square(zoom):
    ratio = spot(framed(picture(), Framing(zoom), 64)) / spot(framed(picture(), PLAIN, 64))
    assert ratio == pytest.approx(zoom**2, rel=0.15)


def test_the_ground_of_a_smaller_image_is_black():
    square = framed(picture(), Framing(0.5), 64)
    inside = np.zeros((64, 64), dtype=bool)
    inside[16:48, 16:48] = True
    assert (square[~inside] == 0).all() and (square[inside] > 90).all()


@pytest.mark.parametrize(
    ("framing", "axis", "place"),
    [(Framing(right=0.25), 1, 0), (Framing(right=-0.25), 1, -1), (Framing(down=0.25), 0, 0)],
)
def test_what_a_move_bares_is_black_and_the_rest_is_the_picture(framing, axis, place):
    square, plain = framed(picture(64, 64), framing, 64), framed(picture(64, 64), PLAIN, 64)
    strips = np.split(np.moveaxis(square, axis, 0), [16] if place == 0 else [48])
    assert (strips[place] == 0).all()
    kept = np.moveaxis(plain, axis, 0)
    assert np.array_equal(strips[1 + place], kept[:48] if place == 0 else kept[16:])


def test_every_framing_is_asked_once_and_has_a_name_of_its_own():
    names = [framing.name for framing in FRAMINGS]
    assert len(set(names)) == len(FRAMINGS) and "zoom 1.3" in names and "right -0.1" in names
    assert FRAMINGS.count(PLAIN) == 1 and {0.9, 1.3} <= {framing.zoom for framing in FRAMINGS}
    with pytest.raises(ValueError, match="above zero"):
        framed(picture(), Framing(0), 8)
    assert (framed(picture(), Framing(right=1.0), 16) == 0).all()
