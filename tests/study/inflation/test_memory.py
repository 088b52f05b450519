"""Networks looked at after every epoch: what they consumed, what they scored, and the rule."""

import numpy as np
import pytest

from deferred import deferred

with deferred:
    import pandas as pd

    from leakfree.data.pixels import PixelCache, pixel_digest
    from leakfree_study.inflation import memory
    from leakfree_study.inflation.memory import (
        Condition,
        Images,
        NetworkSide,
        epoch_at,
        epoch_of_least_loss,
        rule,
    )

TINY = dict(name="tiny", model="simple-cnn-16", weights="none", image_size=16, augment=False, epochs=3)


@pytest.fixture(scope="module")
def images():
    """Twenty patients with three images and twenty with one, in two classes that a mean tells apart."""
    groups = np.array([*np.arange(20).repeat(3), *range(20, 40)])
    labels = groups % 2
    rng = np.random.default_rng(0)
    pixels = (rng.integers(0, 120, (len(groups), 16, 16)) + 60 * labels[:, None, None]).astype(np.uint8)
    ids = np.array([f"image-{i:03d}" for i in range(len(groups))], dtype=object)
    digests = {image_id: pixel_digest(image) for image_id, image in zip(ids, pixels, strict=True)}
    return Images(PixelCache(ids, pixels, digests), labels, groups)


def test_every_epoch_scores_the_tested_and_the_strangers(images):
    condition = Condition(**TINY, draws=2, shared=False)
    (clean,) = memory.train(images, rule(), condition, [NetworkSide(0, "clean")])
    (leaky,) = memory.train(images, rule(), condition, [NetworkSide(0, "leaky")])
    assert len(clean.facts["train_loss"]) == 3
    assert clean.facts["train_loss"][-1] < clean.facts["train_loss"][0]
    assert (clean.facts["shared_groups"], clean.facts["shared_images"]) == (0, 0)
    tested = clean.predictions.query("role == 'test'").groupby("epoch")["image"].agg(sorted)
    assert leaky.facts["shared_groups"] == len(tested[1])
    assert leaky.facts["n_train"] == clean.facts["n_train"]
    assert tested[1] == tested[3] == sorted(leaky.predictions.query("role == 'test' and epoch == 2")["image"])
    strangers = set(clean.predictions.query("role == 'val'")["image"])
    assert strangers and not strangers & set(tested[1])
    again = memory.train(images, rule(), condition, [NetworkSide(0, "clean")])[0]
    pd.testing.assert_frame_equal(again.predictions, clean.predictions)


def test_one_network_serves_a_draw_and_its_mirror(images):
    condition = Condition(**TINY, draws=4, shared=True)
    assert condition.networks() == [
        (NetworkSide(0, "clean"), NetworkSide(1, "leaky")),
        (NetworkSide(0, "leaky"), NetworkSide(1, "clean")),
        (NetworkSide(2, "clean"), NetworkSide(3, "leaky")),
        (NetworkSide(2, "leaky"), NetworkSide(3, "clean")),
    ]
    first, mirror = memory.train(images, rule(), condition, condition.networks()[0])
    assert first.facts["consumed"] == mirror.facts["consumed"]
    assert (first.facts["shared_groups"], mirror.facts["shared_groups"]) == (0, 10)
    assert (first.view, mirror.view) == (NetworkSide(0, "clean"), NetworkSide(1, "leaky"))


def test_views_with_other_training_images_are_refused(images):
    with pytest.raises(ValueError, match="same images"):
        memory.train(
            images,
            rule(),
            Condition(**TINY, draws=2, shared=True),
            [NetworkSide(0, "clean"), NetworkSide(0, "leaky")],
        )


def test_the_first_epoch_at_or_below_a_loss():
    losses = [0.7, 0.5, 0.55, 0.2, 0.01]
    assert [epoch_at(losses, loss) for loss in (0.5, 0.2, 0.02, 0.001)] == [2, 4, 5, None]


def test_validation_takes_the_epoch_with_the_lowest_log_loss():
    frame = pd.DataFrame(
        {"epoch": [1, 1, 2, 2, 3, 3], "image": [0, 1] * 3, "p": [0.4, 0.6, 0.1, 0.9, 0.1, 0.9]}
    )
    assert epoch_of_least_loss(frame, np.array([0, 1])) == 2
    assert epoch_of_least_loss(frame, np.array([1, 0])) == 1


def test_the_rule_has_one_base_and_changes_one_thing_at_a_time():
    conditions = {one.name: one.model_dump() for one in rule().conditions}
    base = conditions["base"]
    assert (base["draws"], base["shared"]) == (10, False)

    def changes(name, other):
        ways = ("model", "weights", "image_size", "augment")
        return [way for way in ways if conditions[name][way] != conditions[other][way]]

    assert changes("augmented", "base") == ["augment"]
    assert changes("larger", "base") == ["image_size"]
    assert changes("other-network", "base") == ["model"]
    assert changes("imagenet", "other-network") == ["weights"]
    assert changes("published", "imagenet") == ["augment"]
    assert sorted(rule().losses, reverse=True) == list(rule().losses)
