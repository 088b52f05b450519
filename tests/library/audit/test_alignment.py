import cv2
import numpy as np
import pytest

from deferred import deferred
from leakfree.audit.copies import alignment as module
from leakfree.audit.copies.alignment import AGREEMENT, DETAIL, SIDE, agreement, to_square, turned
from leakfree.audit.copies.alterations import DISGUISES, alter
from leakfree.audit.copies.hashes import SYMMETRIES, distance, image_hashes, transform
from leakfree.audit.copies.keypoints import detect, match
from leakfree.data.images import to_grey

with deferred:
    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource

MOVED = ("turned_5", "padded", "shifted", "cropped_4", "cropped_10", "resized")


@pytest.fixture(scope="module")
def films():
    """Encoded phantom images of 320 px, and the patient of each."""
    settings = PhantomSettings(
        n_images=60, size=320, exact_duplicates=0, near_duplicates=0, conflicting_labels=0, size_shortcut=0
    )
    source = PhantomSource(settings)
    return [source.render(one).data for one in source.plan], [one.patient_number for one in source.plan]


def square(data):
    return to_square(to_grey(data, None), DETAIL)


def matched(one, other):
    return match(detect(to_square(one)), detect(to_square(other)))


@pytest.mark.parametrize("kind", MOVED)
def test_moved_copies_agree(films, kind):
    rng = np.random.default_rng(3)
    for data in films[0][:6]:
        one, other = square(data), square(alter(data, kind, rng))
        _, affine = matched(one, other)
        assert agreement(one, other, affine) >= AGREEMENT
        _, back = matched(other, one)
        assert agreement(other, one, back) >= AGREEMENT


@pytest.mark.parametrize("kind", ["reencoded", "brightened", "resized"])
def test_copies_in_place_agree_as_they_lie(films, kind):
    rng = np.random.default_rng(4)
    for data in films[0][:10]:
        assert agreement(square(data), square(alter(data, kind, rng))) >= AGREEMENT


def test_other_images_do_not_agree(films):
    data, patients = films
    squares = [square(one) for one in data]
    keypoints = [detect(to_square(one)) for one in squares]
    siblings = compared = 0
    for i in range(len(data)):
        for j in range(i):
            sibling = patients[i] == patients[j]
            siblings += sibling
            if not sibling and (i + j) % 10:
                continue  # all siblings, a tenth of the strangers
            values = [agreement(squares[i], squares[j])]
            found = match(keypoints[i], keypoints[j])
            if found is not None:
                compared += 1
                values.append(agreement(squares[i], squares[j], found[1]))
            assert max(values) < AGREEMENT
    assert siblings >= 10 and compared >= 10  # phantoms match far more often than real images


def test_flat_images_never_agree(films):
    image = square(films[0][0])
    for level in (0, 128, 255):
        flat = np.full((DETAIL, DETAIL), level, np.uint8)
        assert agreement(flat, flat) == 0 and agreement(flat, image) == 0 and agreement(image, flat) == 0
    # Hardly anything to see: an image that rounds to two grey levels is not a picture.
    faint = (100 + (np.random.default_rng(0).random((DETAIL, DETAIL)) < 0.02)).astype(np.uint8)
    assert agreement(faint, faint) == 0


def test_agreement_is_a_correlation(films):
    image = square(films[0][1])
    assert agreement(image, image) == pytest.approx(1.0, abs=1e-5)
    assert agreement(image, 255 - image) == pytest.approx(-1.0, abs=1e-5)
    half = (image // 2 + 40).astype(np.uint8)
    assert agreement(image, half) > 0.99
    # Broad shading is left out.
    shade = np.clip(image * 0.6 + np.linspace(0, 90, DETAIL)[None, :], 0, 255).astype(np.uint8)
    assert agreement(image, shade) > 0.97


def test_too_little_overlap_is_no_agreement(films):
    image = square(films[0][2])
    for share, agrees in ((0.25, True), (0.75, False)):
        move = round(SIDE * share)
        far = move * DETAIL // SIDE
        moved = np.zeros_like(image)
        moved[:, : DETAIL - far] = image[:, far:]
        value = agreement(image, moved, np.array([[1.0, 0, move], [0, 1.0, 0]]))
        assert (value >= AGREEMENT) if agrees else value == 0


OFF = np.array([[1.006, 0.008, 0.5], [-0.006, 0.996, 0.6]])


def as_given(image, affine):
    return module._correlation(image, image, module._scaled(affine, DETAIL), module._COMPARED)


def test_a_map_is_carried_over_to_larger_squares():
    """Three points of small squares, at the same places in large ones."""
    scaled = module._scaled(OFF, 3 * SIDE)
    points = np.array([[0.0, 0.0], [127.0, 3.0], [50.5, 80.0]])
    on_small = points @ OFF[:, :2].T + OFF[:, 2]
    on_large = (3 * points + 1) @ scaled[:, :2].T + scaled[:, 2]  # centre of the 3 x 3 pixels of each
    np.testing.assert_allclose(on_large, 3 * on_small + 1)


def test_a_map_that_is_a_little_off_is_refined(films, monkeypatch):
    monkeypatch.setattr(module, "_HIDDEN", 2)  # no second look
    one = square(films[0][3])
    refined = agreement(one, one, OFF)
    before = as_given(one, OFF)
    assert before < AGREEMENT <= refined

    def fails(*arguments):
        raise cv2.error("did not converge")

    monkeypatch.setattr(module.cv2, "findTransformECC", fails)
    assert agreement(one, one, OFF) == before


def test_a_refinement_for_the_worse_is_dropped(films, monkeypatch):
    monkeypatch.setattr(module, "_HIDDEN", 2)
    one = square(films[0][3])
    elsewhere = np.array([[1, 0, 20], [0, 1, 20]], np.float32)
    monkeypatch.setattr(module.cv2, "findTransformECC", lambda *arguments: (0.5, elsewhere))
    assert agreement(one, one, OFF) == as_given(one, OFF)


@pytest.mark.parametrize("symmetry", [None, *SYMMETRIES])
@pytest.mark.parametrize("inverted", [False, True])
def test_squares_are_turned_as_hashes_are(films, symmetry, inverted):
    image = cv2.resize(square(films[0][4]), (64, 64), interpolation=cv2.INTER_AREA)
    hashes = image_hashes(np.stack([image, turned(image, symmetry, inverted=inverted)]))
    assert distance(transform(hashes[:1], symmetry, inverted=inverted)[0], hashes[1]) <= 2
    if symmetry or inverted:
        assert distance(hashes[0], hashes[1]) > 20


@pytest.mark.parametrize("shape", [(128, 128), (300, 90), (40, 500), (1, 1), (777, 555)])
def test_every_shape_becomes_the_square(shape):
    grey = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    result = to_square(grey)
    assert result.shape == (SIDE, SIDE) and result.dtype == np.uint8
    assert to_square(grey, DETAIL).shape == (DETAIL, DETAIL)
    assert abs(float(result.mean()) - float(grey.mean())) < 3


@pytest.mark.parametrize("kind", [kind for kind in DISGUISES if kind not in ("patch", "letterboxed")])
def test_what_hides_a_part_or_bends_the_greys_is_a_copy_and_another_image_is_none(films, kind, monkeypatch):
    """Without the second look, a box painted over makes two pictures of one."""
    images = films[0][:6]
    second, without = [], []
    for seed, image in enumerate(images):
        one, other = square(image), square(alter(image, kind, np.random.default_rng(seed)))
        second.append(agreement(one, other))
        assert agreement(square(images[seed - 1]), other) < AGREEMENT - 0.2
        with monkeypatch.context() as patched:
            patched.setattr(module, "_HIDDEN", 2)
            without.append(agreement(one, other))
    assert sum(value >= AGREEMENT for value in second) >= 5, second
    assert all(a >= b for a, b in zip(second, without, strict=True))
    if kind == "painted_over":
        assert sum(value >= AGREEMENT for value in without) <= 3, without


def test_what_many_images_share_makes_no_two_of_them_copies(films):
    rng = np.random.default_rng(0)
    frame = np.kron(rng.integers(0, 2, (14, 14)), np.ones((16, 16))) * 200  # sharp, the same in all
    framed = [np.clip(frame + 0.15 * square(image), 0, 255).astype(np.uint8) for image in films[0][:8]]
    common = np.mean(framed, axis=0, dtype=np.float32)
    one, other = framed[:2]
    assert agreement(one, other) >= AGREEMENT > agreement(one, other, None, lambda: common)
    lighter = np.clip(one * 0.9 + 20, 0, 255).astype(np.uint8)
    assert agreement(one, lighter, None, lambda: common) >= AGREEMENT
    assert agreement(one, lighter, None, lambda: None) == agreement(one, lighter)
