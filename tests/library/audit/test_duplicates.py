import io
import os
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from deferred import deferred
from leakfree.audit.checks.findings import FAIL_ON
from leakfree.audit.copies.alignment import AGREEMENT
from leakfree.audit.copies.alterations import ALTERATIONS, alter
from leakfree.audit.copies.scan import scan
from leakfree.audit.target import open_target

with deferred:
    from leakfree.audit.checks.copy_checks import copies_checks
    from leakfree.audit.copies import duplicates as module
    from leakfree.audit.copies.duplicates import CANDIDATE_COLUMNS, find_copies
    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource

IN_PLACE = ("reencoded", "resized", "mirrored", "turned_90", "brightened", "inverted")
MOVED = ("turned_5", "padded", "shifted", "cropped_4", "cropped_10")
EACH = 2


def as_png(data):
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def originals():
    settings = PhantomSettings(
        n_images=60, size=288, exact_duplicates=0, near_duplicates=0, conflicting_labels=0, size_shortcut=0
    )
    source = PhantomSource(settings)
    return [source.render(planned).data for planned in source.plan]


@pytest.fixture(scope="module")
def planted(originals, tmp_path_factory):
    """A folder with copies of every kind, its thorough scan, and the names of each planted group."""
    root = tmp_path_factory.mktemp("planted")
    rng = np.random.default_rng(5)
    files = {f"train/NORMAL/film{i:02d}.jpeg": data for i, data in enumerate(originals)}
    groups = {}
    for i, kind in enumerate(kind for kind in ALTERATIONS for _ in range(EACH)):
        name = f"test/NORMAL/{kind}-{i:02d}.jpeg"
        files[name] = alter(originals[i], kind, rng)
        groups.setdefault(kind, []).append({f"train/NORMAL/film{i:02d}.jpeg", name})
    files["test/NORMAL/bytes.jpeg"] = originals[40]
    files["test/NORMAL/pixels.png"] = as_png(originals[41])
    groups["exact"] = [
        {"train/NORMAL/film40.jpeg", "test/NORMAL/bytes.jpeg"},
        {"train/NORMAL/film41.jpeg", "test/NORMAL/pixels.png"},
    ]
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    os.link(root / "train/NORMAL/film42.jpeg", root / "test/NORMAL/link.jpeg")
    groups["same_file"] = [{"train/NORMAL/film42.jpeg", "test/NORMAL/link.jpeg"}]
    target = open_target(str(root))
    return target, scan(target, thorough=True, jobs=2), groups


@pytest.fixture(scope="module")
def thorough(planted):
    target, read, _ = planted
    return find_copies(read, target.reader, thorough=True)


def names(read, groups):
    ids = read.table["image_id"]
    return sorted(sorted(ids[row] for row in group) for group in groups)


def listed(*groups):
    return sorted(sorted(group) for part in groups for group in part)


def write(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    target = open_target(str(folder))
    return target, scan(target, thorough=True, jobs=1)


def test_all_planted_copies_are_found_and_no_others(planted, thorough):
    _, read, groups = planted
    near = [groups[kind] for kind in ALTERATIONS]
    assert names(read, thorough.near) == listed(*near) and thorough.thorough
    assert names(read, thorough.exact) == listed(groups["exact"])
    assert names(read, thorough.same_file) == listed(groups["same_file"])
    together = {tuple(sorted(pair)) for part in groups.values() for pair in part}
    ids = read.table["image_id"].tolist()
    found = {
        tuple(sorted((ids[i], ids[j])))
        for i, j in combinations(range(len(ids)), 2)
        if thorough.group[i] == thorough.group[j]
    }
    assert found == together


def test_the_default_search_finds_copies_in_place(planted, thorough):
    target, read, groups = planted
    copies = find_copies(read, target.reader)
    found = names(read, copies.near)
    assert all(group in found for group in listed(*(groups[kind] for kind in IN_PLACE)))
    assert all(group in listed(*(groups[kind] for kind in ALTERATIONS)) for group in found)
    assert len(found) < len(thorough.near) and not copies.thorough
    assert set(copies.candidates["found_by"]) == {"hash"}
    assert "neighbours by keypoints" not in copies.stages
    assert names(read, copies.exact) == listed(groups["exact"])


def test_without_near_only_exact_copies(planted):
    target, read, groups = planted
    copies = find_copies(read, target.reader, near=False, thorough=True)
    assert copies.near == [] and len(copies.candidates) == 0
    assert list(copies.candidates) == list(CANDIDATE_COLUMNS)
    assert names(read, copies.exact) == listed(groups["exact"])
    assert len(np.unique(copies.group)) == len(read.table) - 3


def test_candidates_tell_how_they_were_found(planted, thorough):
    _, read, groups = planted
    table = thorough.candidates
    assert list(table) == list(CANDIDATE_COLUMNS)
    assert (table["verified"] == (table["agreement"] >= AGREEMENT)).all()
    assert (table["first"] < table["second"]).all() and not table.duplicated(["first", "second"]).any()
    ids = read.table["image_id"]
    known = {tuple(sorted(pair)): kind for kind, part in groups.items() for pair in part}
    kinds = [
        known.get(tuple(sorted((ids[a], ids[b]))), "none")
        for a, b in zip(table["first"], table["second"], strict=True)
    ]
    assert (table["verified"] == (np.array(kinds) != "none")).all()
    by_kind = table.assign(kind=kinds).groupby("kind")
    assert (by_kind.get_group("mirrored")["symmetry"] == "mirrored").all()
    assert by_kind.get_group("turned_90")["symmetry"].str.startswith("turned by").all()
    assert by_kind.get_group("inverted")["inverted"].all()
    assert not by_kind.get_group("reencoded")["inverted"].any()
    hashed = table["found_by"] == "hash"
    assert (table.loc[hashed, "distance"] >= 0).all() and (table.loc[hashed, "keypoints"] == -1).all()
    assert (table.loc[~hashed, "distance"] == -1).all() and (table.loc[~hashed, "keypoints"] >= 12).all()
    assert {"hash", "keypoints"} == set(table["found_by"]) and (~table["verified"]).any()
    assert thorough.stages["compared on pixels"] == len(table)


@pytest.fixture(scope="module")
def chain(originals, tmp_path_factory):
    """Twenty images and a chain of copies: target, its thorough scan, and what was found there."""
    rng = np.random.default_rng(2)
    moved = alter(originals[1], "turned_5", rng)
    files = {
        "a.jpeg": originals[1],
        "b.jpeg": alter(originals[1], "mirrored", rng),
        "c.jpeg": moved,
        "d.jpeg": moved,
        **{f"other{i}.jpeg": originals[i] for i in range(30, 50)},
    }
    target, read = write(tmp_path_factory.mktemp("chain"), files)
    return target, read, find_copies(read, target.reader, thorough=True)


@pytest.mark.parametrize("few", [0, 1000])
def test_the_number_of_threads_changes_nothing(chain, monkeypatch, few):
    """Nor does it where a few hashes are searched in threads, too."""
    target, read, first = chain
    monkeypatch.setattr(module, "_FEW", few)
    again = find_copies(read, target.reader, thorough=True, jobs=5)
    assert len(first.candidates) > 20
    assert again.near == first.near and again.candidates.equals(first.candidates)
    assert (again.group == first.group).all() and again.stages == first.stages


def test_a_chain_of_copies_is_one_cluster(chain):
    """A and B by hash, B and C by keypoints; D is a byte copy of C and is not compared at all."""
    _, read, copies = chain
    assert names(read, copies.near) == [["a.jpeg", "b.jpeg", "c.jpeg", "d.jpeg"]]
    assert names(read, copies.exact) == [["c.jpeg", "d.jpeg"]]
    found_by = copies.candidates[copies.candidates["verified"]]["found_by"].tolist()
    assert found_by == ["hash", "keypoints"]
    assert 3 not in {*copies.candidates["first"], *copies.candidates["second"]}


@pytest.mark.parametrize("angle", [90, 180, 270])
@pytest.mark.parametrize("name", ["before.png", "later.png"])
def test_copies_turned_either_way_are_verified(originals, tmp_path, angle, name):
    buffer = io.BytesIO()
    Image.open(io.BytesIO(originals[3])).rotate(angle, expand=True).save(buffer, format="PNG")
    target, read = write(tmp_path, {"film.jpeg": originals[3], name: buffer.getvalue()})
    copies = find_copies(read, target.reader)
    assert copies.near == [[0, 1]] and copies.candidates["agreement"].item() > 0.97


def test_pictures_without_content_have_one_hash_and_are_no_copies(originals, tmp_path):
    flat = {f"flat{level}.png": Image.new("L", (200, 200), level) for level in (10, 100, 240)}
    files = {}
    for name, image in flat.items():
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        files[name] = buffer.getvalue()
    target, read = write(tmp_path, {**files, "film.jpeg": originals[0]})
    assert not read.hashes[[row for row, name in enumerate(read.table["image_id"]) if "flat" in name]].any()
    copies = find_copies(read, target.reader)
    assert copies.near == [] and copies.exact == [] and not len(copies.candidates)


@pytest.mark.parametrize("loss", ["gone", "empty", "garbage", "truncated"])
def test_a_file_that_is_lost_after_the_scan_proves_nothing(originals, tmp_path, loss):
    rng = np.random.default_rng(1)
    files = {"a.jpeg": originals[0], "b.jpeg": alter(originals[0], "reencoded", rng)}
    files |= {"c.jpeg": originals[1], "d.jpeg": alter(originals[1], "reencoded", rng)}
    target, read = write(tmp_path, files)
    if loss == "gone":
        (tmp_path / "b.jpeg").unlink()
    else:
        left = {"empty": b"", "garbage": b"no image", "truncated": files["b.jpeg"][:900]}
        (tmp_path / "b.jpeg").write_bytes(left[loss])
    copies = find_copies(read, target.reader)
    assert names(read, copies.near) == [["c.jpeg", "d.jpeg"]]
    lost = copies.candidates[copies.candidates["first"] == 0]
    assert lost["agreement"].tolist() == [0.0] and lost["verified"].tolist() == [False]
    # Nor does it prove that there is none: no check of copies may pass.
    assert copies.unread == 1
    (tmp_path / "c.jpeg").unlink()
    copies = find_copies(read, target.reader)
    assert copies.unread == 2 and copies.near == []
    for check in copies_checks(read.table.assign(part="train", label="x"), copies, FAIL_ON, ""):
        assert check.status == "INCONCLUSIVE" and "2 candidates could not be read again" in check.summary


def test_a_file_linked_three_times_beside_a_copy(originals, tmp_path):
    (tmp_path / "a.jpeg").write_bytes(originals[0])
    os.link(tmp_path / "a.jpeg", tmp_path / "b.jpeg")
    (tmp_path / "c.jpeg").symlink_to("a.jpeg")
    (tmp_path / "d.jpeg").write_bytes(originals[0])
    (tmp_path / "e.jpeg").write_bytes(originals[1])
    target = open_target(str(tmp_path))
    read = scan(target, jobs=1)
    copies = find_copies(read, target.reader)
    assert copies.same_file == [[0, 1, 2]] and copies.exact == [[0, 1, 2, 3]] and copies.near == []
    assert copies.group.tolist() == [0, 0, 0, 0, 1]


def test_a_thorough_search_needs_keypoints(originals, tmp_path):
    (tmp_path / "a.jpeg").write_bytes(originals[0])
    target = open_target(str(tmp_path))
    read = scan(target, jobs=1)
    with pytest.raises(ValueError, match="needs a thorough scan"):
        find_copies(read, target.reader, thorough=True)
    single = find_copies(read, target.reader)
    assert single.group.tolist() == [0] and single.near == single.exact == single.same_file == []


def test_nothing_readable(tmp_path):
    target, read = write(tmp_path, {"a.jpeg": b"no image"})
    copies = find_copies(read, target.reader, thorough=True)
    assert len(copies.group) == 0 and copies.near == copies.exact == copies.same_file == []
