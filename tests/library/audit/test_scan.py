import hashlib
import io
import os
import struct

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from leakfree.audit.auditor import AuditSettings, audit_images
from leakfree.audit.copies import scan as module
from leakfree.audit.copies.scan import FACTS, scan, scan_shard
from leakfree.audit.target import Target, open_target
from leakfree.data import formats
from leakfree.data.formats import ItemReader
from leakfree.data.raw import Problem


def png(array, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", **options)
    return buffer.getvalue()


def film(seed=0, shape=(40, 60)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_facts_are_those_of_the_pixels(write_folder):
    grey = film()
    data = png(grey)
    root = write_folder({"a.png": data})
    (row,) = scan(open_target(str(root))).table.to_dict("records")
    border = np.ones(grey.shape, bool)
    border[2:-2, 3:-3] = False  # 5 % of each side
    assert row["sha256"] == hashlib.sha256(data).hexdigest() and row["bytes"] == len(data)
    assert (row["width"], row["height"], row["mode"]) == (60, 40, "L")
    edge = grey[border]
    for name, values in (
        ("mean", grey.mean()), ("std", grey.std()),
        ("border_mean", edge.mean()), ("border_std", edge.std()), ("border_black", (edge < 10).mean()),
    ):  # fmt: skip
        assert row[name] == pytest.approx(values, abs=1e-5), name
    for name, share in (("p05", 5), ("p50", 50), ("p95", 95)):
        assert row[name] == np.percentile(grey, share, method="inverted_cdf"), name
    stat = (root / "a.png").stat()
    assert row["inode"] == f"{stat.st_dev}:{stat.st_ino}"


def test_pixels_tell_images_apart_and_join_what_is_stored_otherwise(write_folder):
    grey = film()
    turned = np.ascontiguousarray(grey.T)
    root = write_folder(
        {
            "a.png": png(grey),
            "b.png": png(grey, compress_level=0),
            "c.png": png(np.stack([grey] * 3, axis=-1)),
            "d.png": png(grey.reshape(60, 40)),
            "e.png": png(turned),
            "f.png": png(np.where(grey == grey[0, 0], grey ^ 1, grey)),
        }
    )
    table = scan(open_target(str(root))).table.set_index("image_id")
    assert table["sha256"].nunique() == 6
    assert table.loc["a.png", "pixels"] == table.loc["b.png", "pixels"] == table.loc["c.png", "pixels"]
    # Of another shape but with the same run of bytes, transposed, and changed in one grey value.
    assert table["pixels"].nunique() == 4


def test_links_share_an_inode(write_folder):
    root = write_folder({"a.png": png(film())})
    os.link(root / "a.png", root / "b.png")
    (root / "c.png").symlink_to(root / "a.png")
    (root / "d.png").write_bytes((root / "a.png").read_bytes())
    inodes = scan(open_target(str(root))).table["inode"].tolist()
    assert len(set(inodes[:3])) == 1 and inodes[3] != inodes[0]


def test_nothing_is_skipped_in_silence(write_folder):
    files = {f"{i:03}.png": png(film(i, (9, 9))) for i in range(300)}
    files["120.png"], files["007.png"] = b"", files["007.png"][:60]
    files["250.png"], files["notes.txt"] = b"no image", b"x"
    read = scan(open_target(str(write_folder(files))))
    assert [(problem.file, problem.reason.split(":")[0]) for problem in read.problems] == [
        ("007.png", "corrupt"), ("120.png", "empty"), ("250.png", "corrupt"), ("notes.txt", "foreign"),
    ]  # fmt: skip
    assert len(read.table) == len(read.rows) == len(read.hashes) == len(read.thumbnails) == 297
    assert set(read.table["image_id"]) == set(files) - {problem.file for problem in read.problems}
    assert read.rows.tolist() == [row for row in range(300) if row not in (7, 120, 250)]
    # Each hash and thumbnail stands beside its own name, in every shard.
    for place in (0, 130, 296):
        alone = scan(
            open_target(str(write_folder({"x.png": files[read.table["image_id"][place]]}, f"x{place}")))
        )
        assert (alone.hashes[0] == read.hashes[place]).all()
        assert (alone.thumbnails[0] == read.thumbnails[place]).all()
        assert alone.table["sha256"][0] == read.table["sha256"][place]


def test_a_file_listed_twice_that_is_missing_is_two_problems():
    table = pd.DataFrame([("a", "train", "", "", pd.NA, "a"), ("a", "test", "", "", pd.NA, "a")])
    table.columns = ["image_id", "part", "label", "patient", "person_num", "file"]
    reader = ItemReader(("a", "a"), ("/nowhere/a", "/nowhere/a"), ("", ""), ("", ""))
    read = scan(Target("t", table, reader, (Problem("a", "foreign: not the name of an image"),)))
    assert [problem.reason.split(":")[0] for problem in read.problems] == [
        "foreign",
        "unreadable",
        "unreadable",
    ]
    assert read.table.empty and set(FACTS) <= set(read.table) and read.hashes.shape == (0, 4)


def test_threads_do_not_change_what_is_read(write_folder, monkeypatch):
    root = write_folder({f"{i}.png": png(film(i, (20, 30))) for i in range(23)} | {"9b.png": b"broken"})
    monkeypatch.setattr(module, "SHARD", 4)
    one, many = (scan(open_target(str(root)), jobs=jobs, thorough=True) for jobs in (1, 5))
    monkeypatch.setattr(module, "SHARD", 100)
    whole = scan(open_target(str(root)), thorough=True)
    for other in (many, whole):
        pd.testing.assert_frame_equal(one.table, other.table)
        assert (one.hashes == other.hashes).all() and (one.thumbnails == other.thumbnails).all()
        assert one.problems == other.problems and (one.rows == other.rows).all()
        assert len(one.keypoints) == len(other.keypoints) == 23
        for a, b in zip(one.keypoints, other.keypoints, strict=True):
            assert all(np.array_equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))
    assert scan(open_target(str(root))).keypoints is None


@pytest.mark.parametrize("size", [(1, 1), (1, 40_000), (40_000, 1), (2, 2), (3, 700)])
def test_odd_shapes_are_read_whole(write_folder, size):
    root = write_folder({"a.png": png(film(0, size[::-1]))})
    read = scan(open_target(str(root)), thorough=True)
    assert not read.problems and (read.table["width"][0], read.table["height"][0]) == size
    assert read.table["border_mean"].notna().all() and read.thumbnails.shape == (1, 32, 32)


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "F", "YCbCr"])
def test_modes_are_read(write_folder, mode):
    buffer = io.BytesIO()
    image = Image.fromarray(film())
    image = Image.fromarray(film().astype(np.uint16) * 200) if mode == "I;16" else image.convert(mode)
    image.save(buffer, "TIFF")
    read = scan(open_target(str(write_folder({"a.tiff": buffer.getvalue()}))))
    assert not read.problems and read.table["mode"][0] == mode and read.table["std"][0] > 0


def test_a_float_image_with_values_that_are_none(write_folder):
    values = film().astype(np.float32)
    values[:, :9], values[:, 9:12], values[:, 12:15] = np.nan, np.inf, -np.inf
    values[0, 20], values[0, 21] = 0, 255
    files = {}
    for name, array in (("some.tiff", values), ("none.tiff", np.full((8, 8), np.nan, np.float32))):
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "TIFF")
        files[name] = buffer.getvalue()
    read = scan(open_target(str(write_folder(files))))
    table = read.table.set_index("image_id")
    expected = np.nan_to_num(values, nan=0, posinf=255, neginf=0)
    assert table.loc["some.tiff", "mean"] == pytest.approx(expected.mean(), abs=1e-3)
    assert table.loc["none.tiff", ["mean", "std"]].tolist() == [0, 0] and not read.problems


def test_an_image_that_opens_and_is_not_grey_in_the_end_is_a_problem(write_folder, monkeypatch, encode):
    buffer = io.BytesIO()
    Image.new("LAB", (9, 9)).save(buffer, "TIFF")
    (problem,) = scan(open_target(str(write_folder({"a.tiff": buffer.getvalue()})))).problems
    assert problem.file == "a.tiff" and problem.reason.startswith("corrupt: conversion from LAB")

    def broken_exif(_):
        raise struct.error("unpack requires a buffer of 4 bytes")

    monkeypatch.setattr(ImageOps, "exif_transpose", broken_exif)
    read = scan(open_target(str(write_folder({"b.jpeg": encode()}, "exif"))))
    assert read.problems == (Problem("b.jpeg", "corrupt: unpack requires a buffer of 4 bytes"),)


def test_a_bomb_is_refused_before_it_is_decoded(write_folder):
    bomb = io.BytesIO()
    Image.new("L", (10_001, 10_000)).save(bomb, "PNG")
    read = scan(open_target(str(write_folder({"bomb.png": bomb.getvalue()}))))
    assert len(bomb.getvalue()) < 200_000
    assert read.problems == (
        Problem("bomb.png", "corrupt: 10001 x 10000 pixels, over the limit of 100,000,000"),
    )


def test_a_shard_names_what_it_cannot_read_by_its_own_rows():
    out = scan_shard(ItemReader(("a", "b"), ("/nowhere/a", "/nowhere/b"), ("", ""), ("", "")), [1], False)
    assert [problem.file for problem in out["problems"]] == ["b"] and out["rows"] == []


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own, for files that were written just now; tells which files are read."""
    monkeypatch.delenv("LEAKFREE_NO_CACHE", raising=False)
    monkeypatch.setenv("LEAKFREE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("leakfree.base.kept.SETTLED", -60.0)
    read = []

    def plain_bytes(file, path, original=formats.plain_bytes):
        read.append(file)
        return original(file, path)

    monkeypatch.setattr(formats, "plain_bytes", plain_bytes)
    return read


def told(report):
    content = report.as_json() if hasattr(report, "as_json") else vars(report)
    return {**content, "provenance": {**content["provenance"], "seconds": None}}


@pytest.mark.parametrize("thorough", [False, True])
def test_a_second_audit_reads_nothing_and_says_the_same(phantom_source, write_folder, cache, thorough):
    films = {film.file: film.data for film in phantom_source}
    first = dict(list(films.items())[:80])
    one, *_ = (name for name in first if name.startswith("train"))
    first["test/NORMAL/again.png"] = reencoded(first[one])
    root = write_folder(first)
    settings = AuditSettings(thorough=thorough, skip=("shift", "shortcuts"))
    before = audit_images(root, settings)
    assert set(cache) == set(first) and before.checks["near_duplicates"].count
    cache.clear()
    assert told(audit_images(root, settings)) == told(before)
    assert cache == []
    assert told(audit_images(root, settings.model_copy(update={"cache": False}))) == told(before)
    assert set(cache) == set(first)


def reencoded(data):
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("L").save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def test_what_changed_is_read_and_what_came_and_went_is_noticed(write_folder, cache):
    files = {
        f"{part}/NORMAL/{i}.png": png(film(i + 50 * (part == "test")))
        for part in ("train", "test")
        for i in range(5)
    }
    root = write_folder(files)
    only = AuditSettings(skip=("shift", "shortcuts"))
    assert not audit_images(root, only).leaks
    cache.clear()
    # The same size and time, the picture of another part.
    place, stat = root / "test/NORMAL/1.png", (root / "test/NORMAL/1.png").stat()
    place.write_bytes((root / "train/NORMAL/2.png").read_bytes())
    os.utime(place, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (root / "test/NORMAL/4.png").unlink()
    (root / "test/NORMAL/9.png").write_bytes(png(film(77)))
    report = audit_images(root, only)
    assert report.leaks and report.checks["exact_duplicates"].count
    assert sorted(cache) == ["test/NORMAL/1.png", "test/NORMAL/9.png"]
    assert report.images == {"test": 5, "train": 5}


def test_what_was_kept_by_other_code_is_not_used(write_folder, cache, monkeypatch):
    root = write_folder({"train/a.png": png(film(1)), "test/b.png": png(film(2))})
    only = AuditSettings(skip=("shift", "shortcuts"))
    audit_images(root, only)
    cache.clear()
    monkeypatch.setattr("leakfree.audit.auditor.code_of_reading", lambda: "of tomorrow")
    audit_images(root, only)
    assert len(cache) == 2


def test_all_code_that_decodes_or_compares_is_in_the_key(monkeypatch):
    names = []
    monkeypatch.setattr(module, "code_digest", lambda modules, packages: names.extend(modules) or "x")
    module.code_of_reading.__wrapped__()
    for name in (
        "data/images",
        "data/formats/dicom",
        "data/decoder",
        "audit/copies/hashes",
        "audit/copies/keypoints",
    ):
        assert f"leakfree/{name}" in names
