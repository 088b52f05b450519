import io

import numpy as np
import pytest
from PIL import Image

from leakfree.base import provenance
from leakfree.data.cohort import CHUNK, ingest
from leakfree.data.images import to_grey
from leakfree.data.pixels import load_pixels, pixel_digest
from leakfree.data.raw import RawImage
from leakfree.data.sources.folder import FolderSource


@pytest.fixture
def decoded(monkeypatch):
    """Numbers of the calls of `to_grey` by load_pixels."""
    calls = []

    def spy(data, size):
        calls.append(size)
        return to_grey(data, size)

    monkeypatch.setattr("leakfree.data.pixels.to_grey", spy)
    return calls


def stored(folder):
    return list((folder / "pixels").iterdir())


def same(one, other):
    assert one.ids.tolist() == other.ids.tolist()
    assert one.pixels.dtype == other.pixels.dtype == np.uint8
    assert (one.pixels == other.pixels).all()
    assert dict(one.digests) == dict(other.digests)


def test_the_pixels_are_those_of_the_rows_with_these_ids(phantom_cohort, tmp_path):
    cache = load_pixels(phantom_cohort, phantom_cohort.table, 32, tmp_path)
    assert len(cache) == len(phantom_cohort)
    assert cache.size == 32
    assert cache.pixels.shape == (len(cache), 32, 32)
    blobs = {i: b for ids, part in phantom_cohort.iterate() for i, b in zip(ids, part, strict=True)}
    assert list(blobs) == cache.ids.tolist()
    for image_id, pixels in zip(cache.ids, cache.pixels, strict=True):
        assert (pixels == to_grey(blobs[image_id], 32)).all()
        assert cache.digests[image_id] == pixel_digest(pixels)


def grey_image(value):
    buffer = io.BytesIO()
    Image.new("L", (16, 16), value).save(buffer, format="PNG")
    return buffer.getvalue()


class Numbered:
    """Images over more than one chunk whose grey value is in their name."""

    name = "numbered"

    def __len__(self):
        return CHUNK + 50

    def __iter__(self):
        for i in range(len(self)):
            yield RawImage(f"film-{i:03d}-grey-{i * 7 % 256}.png", grey_image(i * 7 % 256), "normal", "train")

    def fingerprint(self):
        return "0" * 64


@pytest.mark.parametrize("jobs", [1, 4])
def test_ids_stay_with_pixels_over_chunks_threads_and_orders(tmp_path, jobs):
    cohort = ingest(Numbered(), tmp_path / "store")
    table = cohort.table.sample(frac=1, random_state=3)[: CHUNK + 10]
    cache = load_pixels(cohort, table, 8, tmp_path, jobs=jobs)
    assert cache.ids.tolist() == table["image_id"].tolist()
    for image_id, pixels in zip(cache.ids, cache.pixels, strict=True):
        assert (pixels == int(image_id.split("-")[3].removesuffix(".png"))).all()


def test_taken_ids_and_pixels_are_of_the_same_rows(phantom_cohort, tmp_path):
    cache = load_pixels(phantom_cohort, phantom_cohort.table, 24, tmp_path)
    wanted = phantom_cohort.table["image_id"].to_numpy()[[40, 3, 3, 71]]
    rows = cache.rows(wanted)
    assert rows.dtype == np.int64
    assert rows.tolist() == [40, 3, 3, 71]
    ids, pixels = cache.take(rows)
    assert ids.tolist() == wanted.tolist()
    assert [pixel_digest(p) for p in pixels] == [cache.digests[i] for i in ids]
    with pytest.raises(KeyError):
        cache.rows(["no such image"])


def test_the_cache_gives_the_same_without_decoding(phantom_cohort, tmp_path, decoded):
    first = load_pixels(phantom_cohort, phantom_cohort.table, 24, tmp_path)
    assert len(decoded) == len(phantom_cohort)
    again = load_pixels(phantom_cohort, phantom_cohort.table, 24, tmp_path)
    assert len(decoded) == len(phantom_cohort)
    same(first, again)
    assert all(type(value) is int for value in [*first.digests.values(), *again.digests.values()])
    assert all(type(image_id) is str for image_id in [*first.ids, *again.ids])


def test_other_sizes_rows_and_cohorts_have_caches_of_their_own(phantom_cohort, tmp_path, images_cohort):
    table = phantom_cohort.table
    load_pixels(phantom_cohort, table, 24, tmp_path)
    assert load_pixels(phantom_cohort, table, 16, tmp_path).size == 16
    assert len(load_pixels(phantom_cohort, table[:5], 24, tmp_path)) == 5
    turned = load_pixels(phantom_cohort, table[::-1], 24, tmp_path)
    assert turned.ids.tolist() == table["image_id"].tolist()[::-1]
    load_pixels(images_cohort[0], images_cohort[0].table, 24, tmp_path)
    assert len(stored(tmp_path)) == 5


@pytest.fixture
def images_cohort(write_folder, encode, tmp_path):
    """Two cohorts of the same names whose images differ."""
    name = "NORMAL/IM-0001-0001.jpeg"
    return [
        ingest(FolderSource(write_folder({name: encode(seed=seed)}, "films")), tmp_path / f"store-{seed}")
        for seed in (1, 2)
    ]


def test_a_changed_image_is_not_served_from_the_old_cache(images_cohort, tmp_path):
    one, two = (load_pixels(cohort, cohort.table, 24, tmp_path) for cohort in images_cohort)
    assert one.ids.tolist() == two.ids.tolist()
    assert dict(one.digests) != dict(two.digests)


def damage_cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_bits(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF  # within the pixels
    path.write_bytes(bytes(data))


def damage_empty(path):
    path.write_bytes(b"")


def damage_text(path):
    path.write_bytes(b"not an archive")


def damage_other(path):
    with path.open("wb") as stream:
        np.savez(stream, ids=np.array(["a"]))


@pytest.mark.parametrize("damage", [damage_cut, damage_bits, damage_empty, damage_text, damage_other])
def test_a_damaged_cache_file_is_decoded_again(phantom_cohort, tmp_path, decoded, capsys, damage):
    first = load_pixels(phantom_cohort, phantom_cohort.table, 24, tmp_path)
    (path,) = stored(tmp_path)
    damage(path)
    decoded.clear()
    same(first, load_pixels(phantom_cohort, phantom_cohort.table, 24, tmp_path))
    assert len(decoded) == len(phantom_cohort)
    assert f"{path.name}: cached pixels cannot be read" in capsys.readouterr().err
    decoded.clear()
    same(first, load_pixels(phantom_cohort, phantom_cohort.table, 24, tmp_path))
    assert not decoded, "and the file is whole again"


def another_module(monkeypatch, module):
    kept = provenance.package_digest
    monkeypatch.setattr(
        provenance, "package_digest", lambda names: "changed" if module in names else kept(names)
    )


def another_package(monkeypatch, package):
    kept = provenance._version
    monkeypatch.setattr(provenance, "_version", lambda name: "0.0.1" if name == package else kept(name))


@pytest.mark.parametrize(
    ("change", "what"),
    [(another_module, "leakfree/data/images"), (another_package, "pillow"), (another_package, "numpy")],
)
def test_what_other_code_decoded_is_decoded_again(
    phantom_cohort, tmp_path, decoded, monkeypatch, change, what
):
    first = load_pixels(phantom_cohort, phantom_cohort.table, 24, tmp_path)
    decoded.clear()
    with monkeypatch.context() as patch:
        change(patch, what)
        same(first, load_pixels(phantom_cohort, phantom_cohort.table, 24, tmp_path))
        assert len(decoded) == len(phantom_cohort)
        decoded.clear()
        same(first, load_pixels(phantom_cohort, phantom_cohort.table, 24, tmp_path))
        assert not decoded
    assert len(stored(tmp_path)) == 1, "the old pixels are replaced"


def test_a_package_or_module_that_decodes_nothing_leaves_the_pixels(
    phantom_cohort, tmp_path, decoded, monkeypatch
):
    load_pixels(phantom_cohort, phantom_cohort.table, 24, tmp_path)
    decoded.clear()
    another_module(monkeypatch, "figures")
    another_package(monkeypatch, "matplotlib")
    load_pixels(phantom_cohort, phantom_cohort.table, 24, tmp_path)
    assert not decoded


def test_a_failure_leaves_no_cache_file(phantom_cohort, tmp_path, monkeypatch):
    def fail(*arguments, **columns):
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="no space left"):
        load_pixels(phantom_cohort, phantom_cohort.table[:3], 16, tmp_path)
    assert stored(tmp_path) == []


def test_digests_tell_images_apart():
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert pixel_digest(pixels) == pixel_digest(pixels.copy(order="F"))
    assert 0 <= pixel_digest(pixels) < 2**64
    other = pixels.copy()
    other[7, 7] ^= 1
    assert pixel_digest(other) != pixel_digest(pixels)
    assert pixel_digest(pixels.T) != pixel_digest(pixels)
