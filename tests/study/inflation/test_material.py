"""Images, their copies and their features: what a row was made from stays with it."""

import numpy as np
import pandas as pd
import pytest

from deferred import deferred
from leakfree.base import provenance
from leakfree.data.images import to_grey
from leakfree.data.pixels import pixel_digest
from leakfree.data.raw import LABELS
from leakfree.data.tasks import TASKS

with deferred:
    from leakfree.ledger.ledger import LedgerError
    from leakfree_study.inflation import material as module
    from leakfree_study.inflation.material import (
        VARIANTS,
        Features,
        Material,
        embedding_features,
        pixel_features,
        without_copies,
    )
    from leakfree_study.models import embeddings

SIZE = 16


@pytest.fixture(scope="module")
def table(phantom_cohort):
    """Rows of the phantom with gaps, so that places and rows of the store differ."""
    return phantom_cohort.table.iloc[5:65:2]


@pytest.fixture(scope="module")
def pixels(phantom_cohort, table, tmp_path_factory):
    return pixel_features(phantom_cohort, table, SIZE, tmp_path_factory.mktemp("cache"))


def values_of(features, variant="film"):
    return getattr(features, "values")[variant]  # noqa: B009 - a dict, no frame of pandas


def same(one, other):
    assert one.digests == other.digests
    for variant in VARIANTS:
        np.testing.assert_array_equal(values_of(one, variant), values_of(other, variant))


def small():
    """Build material of four images whose values tell row and variant."""
    ids = np.array(["a/1.png", "a/2.png", "b/3.png", "b/4.png"], dtype=object)
    values = {
        variant: (10 * np.arange(4)[:, None] + code + np.zeros(3)).astype(np.uint8)
        for code, variant in enumerate(VARIANTS)
    }
    return Material(ids, ids, np.array([0, 1, 2, 3]), {}, {"pixels": Features("pixels", values, {})})


def test_images_are_the_decoded_files_of_the_table(phantom_cohort, table, pixels):
    blobs = {i: b for ids, part in phantom_cohort.iterate() for i, b in zip(ids, part, strict=True)}
    found = values_of(pixels)
    assert found.shape == (len(table), SIZE * SIZE) and found.dtype == np.uint8
    for row, image_id in zip(found, table["image_id"], strict=True):
        np.testing.assert_array_equal(row, to_grey(blobs[image_id], SIZE).ravel())


def test_copies_differ_from_their_images_and_are_nearer_to_them_than_other_images(pixels):
    image = values_of(pixels).astype(float)
    for variant in ("near", "augmented"):
        copy = values_of(pixels, variant).astype(float)
        assert (copy != image).any(axis=1).mean() > 0.9
        # Brightness and contrast aside, a copy looks like its image.
        likeness = np.corrcoef(copy, image)[: len(image), len(image) :]
        assert (likeness.argmax(axis=1) == np.arange(len(image))).mean() > 0.8, variant
    assert (values_of(pixels, "near") != values_of(pixels, "augmented")).any(axis=1).all()


def test_near_duplicates_are_of_all_kinds(phantom_cohort, table, tmp_path, monkeypatch):
    asked = []
    alter = module.alter
    monkeypatch.setattr(module, "alter", lambda data, kind, rng: asked.append(kind) or alter(data, kind, rng))
    pixel_features(phantom_cohort, table, SIZE, tmp_path, jobs=1)
    per_image = [asked[i : i + 4] for i in range(0, len(asked), 4)]
    assert len(per_image) == len(table)
    assert {kinds[0] for kinds in per_image} == set(module.NEAR)
    assert all(tuple(kinds[1:]) == module.AUGMENTING for kinds in per_image)


def test_digests_name_every_row_of_every_variant(table, pixels):
    assert len(pixels.digests) == 3 * len(table)
    for place, image_id in enumerate(table["image_id"]):
        assert pixels.digests[image_id] == pixel_digest(values_of(pixels)[place])
        for variant in ("near", "augmented"):
            assert pixels.digests[f"{variant}:{image_id}"] == pixel_digest(values_of(pixels, variant)[place])


def test_threads_and_chunks_change_nothing_and_the_seed_only_copies(
    phantom_cohort, table, pixels, tmp_path, monkeypatch
):
    monkeypatch.setattr("leakfree.data.cohort.CHUNK", 7)
    same(pixels, pixel_features(phantom_cohort, table, SIZE, tmp_path / "threads", jobs=3))
    other = pixel_features(phantom_cohort, table, SIZE, tmp_path / "seed", seed=1)
    np.testing.assert_array_equal(values_of(other), values_of(pixels))
    for variant in ("near", "augmented"):
        assert (values_of(other, variant) != values_of(pixels, variant)).any(axis=1).mean() > 0.9


def test_features_are_read_back_and_not_made_again(phantom_cohort, table, tmp_path, monkeypatch):
    made = pixel_features(phantom_cohort, table, SIZE, tmp_path)
    (kept,) = (tmp_path / "features").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_decode", lambda *_: pytest.fail("made again"))
        same(made, pixel_features(phantom_cohort, table, SIZE, tmp_path))
    # Other images, another size or seed are other files.
    pixel_features(phantom_cohort, table.iloc[:9], SIZE, tmp_path)
    pixel_features(phantom_cohort, table, SIZE // 2, tmp_path)
    pixel_features(phantom_cohort, table, SIZE, tmp_path, seed=1)
    assert len(list((tmp_path / "features").iterdir())) == 4
    assert kept.is_file()


@pytest.mark.parametrize(
    "changed",
    [
        "leakfree/data/images",
        "leakfree/audit/copies/alterations",
        "leakfree_study/inflation/material",
    ],
)
def test_features_that_other_code_made_are_replaced(phantom_cohort, table, tmp_path, monkeypatch, changed):
    pixel_features(phantom_cohort, table, SIZE, tmp_path)
    (path,) = (tmp_path / "features").iterdir()
    before = path.stat().st_mtime_ns
    pixel_features(phantom_cohort, table, SIZE, tmp_path)
    assert path.stat().st_mtime_ns == before
    kept = provenance.package_digest
    monkeypatch.setattr(
        provenance, "package_digest", lambda names: "new" if changed in names else kept(names)
    )
    pixel_features(phantom_cohort, table, SIZE, tmp_path)
    assert path.stat().st_mtime_ns > before
    assert list((tmp_path / "features").iterdir()) == [path]


def test_a_damaged_file_is_made_again(phantom_cohort, table, tmp_path, capsys):
    made = pixel_features(phantom_cohort, table, SIZE, tmp_path)
    (kept,) = (tmp_path / "features").iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    same(made, pixel_features(phantom_cohort, table, SIZE, tmp_path))
    assert "cannot be read" in capsys.readouterr().err
    same(made, pixel_features(phantom_cohort, table, SIZE, tmp_path))
    assert "cannot be read" not in capsys.readouterr().err


def test_a_table_that_lost_its_places_in_the_store_is_refused(phantom_cohort, table, tmp_path):
    with pytest.raises(LedgerError, match="not the images that the table names"):
        pixel_features(phantom_cohort, table.reset_index(drop=True), SIZE, tmp_path)
    assert not (tmp_path / "features").exists()


def test_embeddings_are_made_of_the_decoded_images_and_copies(
    phantom_cohort, table, pixels, tmp_path, monkeypatch
):
    calls = []

    def embed(array, *, description, jobs):
        calls.append((array.shape, array.dtype, jobs))
        return array.reshape(len(array), -1)[:, ::7].astype(np.float32) / 3

    monkeypatch.setattr(embeddings, "embed", embed)
    found = embedding_features(phantom_cohort, table, SIZE, tmp_path, jobs=1)
    assert found.name == "embeddings"
    assert calls == [((len(table), SIZE, SIZE), np.uint8, 1)] * 3
    for variant in VARIANTS:
        expected = values_of(pixels, variant)[:, ::7].astype(np.float32) / 3
        np.testing.assert_array_equal(values_of(found, variant), expected)
    assert found.digests["near:" + table["image_id"].iloc[4]] == pixel_digest(values_of(found, "near")[4])
    same(found, embedding_features(phantom_cohort, table, SIZE, tmp_path, jobs=1))
    assert len(calls) == 3, "read back"
    kept = provenance.package_digest
    monkeypatch.setattr(
        provenance,
        "package_digest",
        lambda names: "new" if "leakfree_study/models/embeddings" in names else kept(names),
    )
    embedding_features(phantom_cohort, table, SIZE, tmp_path, jobs=1)
    assert len(calls) == 6, "features of another network's code are no kept ones"
    monkeypatch.setattr(embeddings, "weights_sha256", lambda: "0" * 64)
    embedding_features(phantom_cohort, table, SIZE, tmp_path, jobs=1)
    assert len(calls) == 9, "nor are those of other weights"


def test_the_first_image_of_each_cluster_of_copies_stays():
    table = pd.DataFrame({"image_id": list("abcdef")}, index=[3, 1, 4, 15, 9, 2])
    kept = without_copies(table, np.array(["x", "y", "x", "z", "y", "w"], dtype=object))
    assert kept["image_id"].tolist() == ["a", "b", "d", "f"]
    assert kept.index.tolist() == [3, 1, 15, 2], "places in the store stay"


def test_images_that_take_no_part_in_a_task_have_class_minus_one():
    images = small()
    assert [LABELS[code] for code in images.labels] == ["normal", "bacterial", "viral", "pneumonia"]
    assert images.classes(TASKS["binary"]).tolist() == [0, 1, 1, 1]
    assert images.classes(TASKS["etiology"]).tolist() == [-1, 0, 1, -1]
    assert images.classes(TASKS["three-class"]).tolist() == [0, 1, 2, -1]
    assert len(images) == 4


def test_rows_are_named_and_read_by_image_and_variant():
    images = small()
    rows, variant = np.array([2, 0, 2, 3]), np.array([0, 1, 2, 0], dtype=np.uint8)
    assert images.keys(rows, variant) == ["b/3.png", "near:a/1.png", "augmented:b/3.png", "b/4.png"]
    assert images.take("pixels", rows, variant)[:, 0].tolist() == [20, 1, 22, 30]
    assert images.keys(rows) == ["b/3.png", "a/1.png", "b/3.png", "b/4.png"]
    assert images.take("pixels", rows, 1)[:, 0].tolist() == [21, 1, 21, 31]
    taken = images.take("pixels", rows)
    taken[:] = 0
    assert images.take("pixels", rows)[:, 0].tolist() == [20, 0, 20, 30], "a reader cannot change the images"
