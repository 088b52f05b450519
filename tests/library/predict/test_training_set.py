"""What was trained on is recognised, and copies of it; what was not, is not."""

import io
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from deferred import deferred

with deferred:
    from safetensors.numpy import save_file

    from leakfree.audit.copies.hashes import RADIUS, SYMMETRIES, distance, transform
    from leakfree.data.images import to_grey
    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
    from leakfree.predict.classifier import Classifier
    from leakfree.predict.training_set import (
        COPY,
        NOT_FOUND,
        SAME,
        TrainingSet,
        TrainingSetError,
        _hashes,
    )

SIZE = 48


@pytest.fixture(scope="module")
def files():
    """Encoded phantom images of different patients, none a planted copy."""
    source = PhantomSource(PhantomSettings(n_images=140, size=64))
    kept = {image.patient_number: image for image in source.plan if image.planted == "none"}
    return [source.render(image).data for image in kept.values()]


@pytest.fixture(scope="module")
def pixels(files):
    return np.stack([to_grey(data, SIZE) for data in files])


@pytest.fixture(scope="module")
def trained(pixels):
    return TrainingSet.fit(pixels[:40], pixels[40:60], "m")


ALTERED = {
    "re-encoded": lambda image: (image, 40),
    "halved": lambda image: (image.resize((image.width // 2, image.height // 2)), 90),
    "stretched": lambda image: (image.resize((300, 200)), 90),
    "brightened": lambda image: (ImageEnhance.Brightness(image).enhance(1.2), 90),
    "mirrored": lambda image: (ImageOps.mirror(image), 90),
    "on its side": lambda image: (image.transpose(Image.Transpose.ROTATE_90), 90),
    "negative": lambda image: (ImageOps.invert(image), 90),
}


def test_training_images_are_found_by_their_pixels_and_no_others(trained, pixels):
    assert trained.find(pixels[:40]) == [SAME] * 40
    assert trained.find(pixels[60:]) == [NOT_FOUND] * len(pixels[60:])
    assert len(pixels[60:]) >= 10


@pytest.mark.parametrize("kind", ALTERED)
def test_a_copy_is_found(trained, files, kind):
    for data in files[:8]:
        buffer = io.BytesIO()
        image, quality = ALTERED[kind](Image.open(io.BytesIO(data)).convert("L"))
        image.save(buffer, "JPEG", quality=quality)
        assert trained.find(to_grey(buffer.getvalue(), SIZE)[None]) == [COPY]


def test_distances_are_those_of_the_audit(trained, pixels):
    asked = _hashes(pixels[60:63])
    ways = [(way, inverted) for way in (None, *SYMMETRIES) for inverted in (False, True)]
    for one in asked:
        turned = [distance(transform(one[None], *way[:1], inverted=way[1]), trained.hashes) for way in ways]
        assert trained._nearest(one) == (turned[0].min(), min(found.min() for found in turned[1:]))


def test_a_digest_without_its_hash_is_nothing(trained, pixels):
    """Of two images in four thousand million one has the other's digest: that alone accuses nobody."""
    far = replace(trained, hashes=~trained.hashes, radius=-1, turned_radius=-1)
    assert far.find(pixels[:5]) == [NOT_FOUND] * 5


def test_a_held_out_image_bounds_the_radius(pixels):
    """Where different images are alike, as in a frame that all share, near means nothing."""
    alike = pixels[:40].copy()
    alike[:, SIZE // 12 :] = alike[0, SIZE // 12 :]
    fitted = TrainingSet.fit(alike[:20], alike[20:30], "m")
    assert fitted.radius < RADIUS
    assert fitted.find(alike[20:30]) == [NOT_FOUND] * 10
    nothing = TrainingSet.fit(alike[:20], alike[:1], "m")
    assert nothing.radius == -1 and nothing.find(alike[:1]) == [SAME]
    changed = alike[:1].copy()
    changed[0, 0, 0] ^= 1
    assert nothing.find(changed) == [NOT_FOUND]


def test_without_an_image_on_either_side_there_is_no_list(pixels):
    for train, held_out in ((pixels[:0], pixels[:3]), (pixels[:3], pixels[:0])):
        with pytest.raises(TrainingSetError, match="cannot say what a copy is"):
            TrainingSet.fit(train, held_out, "m")


def test_it_is_read_back_as_it_was(trained, pixels, tmp_path):
    path = trained.save(tmp_path / "training_set.safetensors")
    found = TrainingSet.load(path, "m", SIZE)
    assert found.find(pixels) == trained.find(pixels)
    assert (found.radius, found.turned_radius) == (trained.radius, trained.turned_radius)
    assert found.texture.score(pixels) == pytest.approx(trained.texture.score(pixels), rel=1e-12)
    assert path.stat().st_size < 40 * 36 + 1500, "36 bytes an image"
    assert path.read_bytes() == found.save(tmp_path / "again.safetensors").read_bytes()
    for split, size in (("other", SIZE), ("m", SIZE + 1)):
        with pytest.raises(TrainingSetError, match="another split or size"):
            TrainingSet.load(path, split, size)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(TrainingSetError, match="not a list of training images"):
        TrainingSet.load(path, "m", SIZE)
    with pytest.raises(TrainingSetError, match="No such file"):
        TrainingSet.load(tmp_path / "none", "m", SIZE)


@pytest.mark.parametrize(
    "change",
    [
        {"hashes": np.zeros((3, 3), np.uint64)},
        {"hashes": np.zeros((0, 4), np.uint64), "digests": np.zeros(0, np.uint32)},
        {"digests": np.zeros(40, np.int64)},
        {"radius": 256},
        {"turned_radius": 24},
        {"radius": "many"},
        {"radius": None},
        {"texture_limit": 0.0},
        {"texture_limit": float("nan")},
        {"texture_mean": np.zeros(3)},
        {"texture_mean": None},
        {"texture_precision": np.full((7, 7), np.inf)},
    ],
)
def test_a_list_out_of_its_range_is_refused(trained, tmp_path, change):
    arrays = {"hashes": trained.hashes, "digests": trained.digests}
    arrays |= {"texture_mean": trained.texture.mean, "texture_precision": trained.texture.precision}
    facts = {"radius": 24, "turned_radius": 16, "manifest_hash": "m", "size": SIZE, "texture_limit": 1.0}
    path = tmp_path / "t.safetensors"

    def write():
        kept = {name: array for name, array in arrays.items() if array is not None}
        said = {name: value for name, value in facts.items() if value is not None}
        save_file(kept, path, metadata={"leakfree": json.dumps(said)})

    write()
    assert TrainingSet.load(path, "m", SIZE).radius == 24
    for name, value in change.items():
        (arrays if name in arrays else facts)[name] = value
    write()
    with pytest.raises(TrainingSetError, match="not a list of training images") as caught:
        TrainingSet.load(path, "m", SIZE)
    assert "\n" not in str(caught.value)


def test_a_classifier_says_it_first(models, films, learned):
    classifier = Classifier.load(models)
    both = np.stack([classifier.prepare(data) for data in (learned, films[0])])
    in_training, unseen = classifier.answer(both)
    assert in_training.in_training_set == SAME
    assert in_training.warnings[0] == "This image was in my training set: my answer proves nothing."
    assert unseen.in_training_set == NOT_FOUND and not any("training" in w for w in unseen.warnings)


def test_a_model_without_the_list_answers_and_says_that_nobody_knows(models, films, tmp_path):
    for path in models.iterdir():
        if path.name != "training_set.safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    classifier = Classifier.load(tmp_path)
    (answer,) = classifier.answer(classifier.prepare(films[0])[None])
    assert answer.in_training_set is None and any("Nobody knows" in w for w in answer.warnings)
    assert classifier.about["files_sha256"] != Classifier.load(models).about["files_sha256"]


def test_looking_images_up_needs_neither_pandas_nor_scipy():
    code = "import sys, leakfree.predict.training_set; print(*{'pandas', 'scipy', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""
