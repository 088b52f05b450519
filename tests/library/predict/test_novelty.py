"""The novelty score: what images have in common is learned, and what is no image stands out."""

import numpy as np
import pytest

from deferred import deferred

with deferred:
    from leakfree.predict.novelty import COMPONENTS, KEPT, SIDE, Novelty, NoveltyError


def made(n, seed, size=48):
    """One outline that all share, a few patterns in changing shares, noise and exposure of their own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    patterns = np.stack([np.sin(3 * x + k) * np.cos((2 + k) * y) for k in range(4)])
    outline = 40 * np.sign(np.sin(9 * x) * np.cos(7 * y))
    images = 128 + outline + 25 * np.einsum("nk,kij->nij", rng.normal(0, 0.5, (n, 4)), patterns)
    images = images * rng.uniform(0.8, 1.1, (n, 1, 1)) + rng.normal(0, 4, (n, size, size))
    return np.clip(images, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def novelty():
    return Novelty.fit(made(300, 0), made(200, 1), "m")


def test_new_images_are_within_the_limit_about_as_often_as_it_says(novelty):
    assert (novelty.score(made(200, 1)) <= 1).mean() == pytest.approx(KEPT, abs=0.006)
    assert (novelty.score(made(400, 2)) <= 1).mean() > 0.95


@pytest.mark.parametrize("kind", ["noise", "other pattern", "plain", "negative"])
def test_what_is_no_such_image_is_beyond_it(novelty, kind):
    rng = np.random.default_rng(5)
    images = made(20, 3)
    strange = {
        "noise": rng.integers(0, 256, images.shape, dtype=np.uint8),
        "other pattern": np.rot90(images, 1, (1, 2)),
        "plain": np.full_like(images, 90),
        "negative": 255 - images,
    }[kind]
    assert (novelty.score(strange) > 1).all()


def test_exposure_is_no_novelty(novelty):
    images = made(20, 4).astype(np.float64)
    darker = np.rint(0.6 * images + 30).astype(np.uint8)
    assert novelty.score(darker) == pytest.approx(novelty.score(images.astype(np.uint8)), rel=0.2)


def test_an_image_has_one_score_whoever_stands_beside_it(novelty):
    images = made(30, 6)
    alone = np.concatenate([novelty.score(image[None]) for image in images])
    assert novelty.score(images) == pytest.approx(alone, rel=1e-12)


def test_the_components_are_those_of_a_principal_component_analysis(novelty):
    from sklearn.decomposition import PCA

    from leakfree.predict.small import small_pictures

    pca = PCA(COMPONENTS, svd_solver="full").fit(small_pictures(made(300, 0)))
    left = small_pictures(made(50, 7))
    left = left - pca.inverse_transform(pca.transform(left))
    assert novelty.score(made(50, 7)) == pytest.approx((left**2).sum(axis=1) / novelty.limit, rel=1e-4)


def test_it_is_read_back_as_it_was(novelty, tmp_path):
    path = novelty.save(tmp_path / "novelty.safetensors")
    found = Novelty.load(path, "m")
    images = made(20, 8)
    assert np.array_equal(found.score(images), novelty.score(images))
    with pytest.raises(NoveltyError, match="another split"):
        Novelty.load(path, "other")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(NoveltyError, match="not a novelty score"):
        Novelty.load(path, "m")
    with pytest.raises(NoveltyError, match="No such file"):
        Novelty.load(tmp_path / "none", "m")


def test_too_few_images_are_refused():
    with pytest.raises(NoveltyError, match="cannot say what an image is"):
        Novelty.fit(made(COMPONENTS, 0), made(5, 1), "m")
    with pytest.raises(NoveltyError, match="cannot say what an image is"):
        Novelty.fit(made(50, 0), made(0, 1), "m")


def test_any_size_is_shrunk_to_the_same_picture(novelty):
    big, small = made(3, 9, 2 * SIDE), made(3, 9, 3 * SIDE)
    assert novelty.score(big).shape == novelty.score(small).shape == (3,)
