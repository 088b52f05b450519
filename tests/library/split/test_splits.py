import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deferred import deferred

with deferred:
    from sklearn.model_selection import train_test_split

    from leakfree.split import manifest as splits
    from leakfree.split.manifest import (
        Manifest,
        ManifestError,
        equalise,
        image_level,
        official,
        patient_level,
    )

THREE_WAY, TWO_WAY = {"train": 0.7, "val": 0.15, "test": 0.15}, {"train": 0.8, "test": 0.2}
FRACTIONS = (
    THREE_WAY,
    TWO_WAY,
    {"train": 0.5, "test": 0.5},
    {"train": 0.6, "val": 0.2, "test": 0.2},
    {"a": 0.4, "b": 0.3, "c": 0.2, "d": 0.1},
)
quickly = settings(deadline=None, max_examples=40, derandomize=True)


def cohort(sizes, strata, seed=0):
    """Build ids, linked groups and classes of groups of the given sizes, in a shuffled order of rows."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    order = np.random.default_rng(seed).permutation(len(groups))
    groups = groups[order]
    ids = [f"train/X/image-{row:05d}.jpeg" for row in range(len(groups))]
    return ids, groups, np.asarray(strata, dtype=object)[groups]


def many(n_groups=900, seed=3):
    """Build a cohort with the shape of the real one: many small groups, few large ones, three classes."""
    rng = np.random.default_rng(seed)
    sizes = np.minimum(rng.geometric(0.45, n_groups), 30)
    return cohort(sizes, rng.choice(["normal", "bacterial", "viral"], n_groups, p=[0.3, 0.45, 0.25]), seed)


@st.composite
def cohorts(draw, least=3, most=40):
    n = draw(st.integers(least, most))
    sizes = draw(st.lists(st.one_of(st.integers(1, 4), st.integers(1, 30)), min_size=n, max_size=n))
    strata = draw(st.lists(st.sampled_from(["normal", "bacterial", "viral"]), min_size=n, max_size=n))
    ids, groups, classes = cohort(sizes, strata, draw(st.integers(0, 9)))
    # Conflicting labels inside a group: planted duplicates have them, and so does the real cohort.
    for row in draw(st.lists(st.integers(0, len(ids) - 1), max_size=4)):
        classes[row] = "normal"
    return ids, groups, classes


def test_the_defaults_are_70_15_15_and_80_20():
    assert (splits.THREE_WAY, splits.TWO_WAY) == (THREE_WAY, TWO_WAY)


def split(data, seed=42, fractions=THREE_WAY, **description):
    return patient_level(*data, seed=seed, scope="series", fractions=fractions, **description)


def assert_partition(manifest, ids):
    """Check that every image stands in exactly one part, and parts keep the cohort's order."""
    assert sorted(i for part in manifest.parts.values() for i in part) == sorted(ids)
    position = {image_id: row for row, image_id in enumerate(ids)}
    for part in manifest.parts.values():
        assert [position[i] for i in part] == sorted(position[i] for i in part)


def assert_groups_apart(manifest, ids, groups):
    part_of = {image_id: part for part, members in manifest.parts.items() for image_id in members}
    parts = {}
    for image_id, group in zip(ids, groups, strict=True):
        parts.setdefault(group, set()).add(part_of[image_id])
    torn = {group: found for group, found in parts.items() if len(found) > 1}
    assert not torn


# Patient-level


@quickly
@given(data=cohorts(), seed=st.integers(0, 2**32 - 1), fractions=st.sampled_from(FRACTIONS))
def test_a_linked_group_is_never_torn_and_every_image_is_used_once(data, seed, fractions):
    manifest = split(data, seed, fractions)
    assert list(manifest.parts) == list(fractions)
    assert_partition(manifest, data[0])
    assert_groups_apart(manifest, data[0], data[1])


@quickly
@given(data=cohorts(), seed=st.integers(0, 999), fractions=st.sampled_from(FRACTIONS))
def test_parts_hold_their_fraction_of_every_stratum_within_the_largest_group(data, seed, fractions):
    ids, groups, classes = data
    manifest = split(data, seed, fractions)
    frame = pd.DataFrame({"group": groups, "class": classes.astype(str)}, index=ids)
    frame["stratum"] = frame.groupby("group")["class"].transform(lambda values: values.mode().iloc[0])
    for _, stratum in frame.groupby("stratum"):
        largest = stratum.groupby("group").size().max()
        for part, fraction in fractions.items():
            found = stratum.index.isin(manifest.parts[part]).sum()
            # An outer part has one cut, which is off by half a group at most; an inner one has two.
            outer = part in (next(iter(fractions)), list(fractions)[-1])
            assert abs(found - fraction * len(stratum)) <= (largest / 2 if outer else largest) + 1e-6


@pytest.mark.parametrize("fractions", FRACTIONS)
def test_a_cohort_of_many_patients_is_balanced_in_size_and_classes(fractions):
    ids, groups, classes = data = many()
    shares = pd.Series(classes, index=ids).value_counts(normalize=True)
    manifest = split(data, fractions=fractions)
    for part, members in manifest.parts.items():
        assert len(members) / len(ids) == pytest.approx(fractions[part], abs=0.01)
        own = pd.Series(classes, index=ids).loc[list(members)].value_counts(normalize=True)
        assert (own - shares).abs().max() < 0.025
    # Patients of every size come into every part: the cut does not sort them.
    size_of = pd.Series(groups).value_counts()
    for part in manifest.parts:
        assert size_of[np.unique(groups[manifest.rows(part, ids)])].mean() == pytest.approx(
            size_of.mean(), rel=0.2
        )


@quickly
@given(data=cohorts(), seed=st.integers(0, 2**32 - 1))
def test_the_same_seed_gives_the_same_hash(data, seed):
    ids, groups, classes = data
    first = split(data, seed)
    again = split((pd.Series(ids), groups.copy(), pd.Series(classes)), seed)
    assert (first.parts, first.hash) == (again.parts, again.hash)


def test_other_seeds_give_other_splits():
    data = many(200)
    manifests = [split(data, seed) for seed in range(20)]
    assert len({m.parts["test"] for m in manifests}) == len({m.hash for m in manifests}) == 20


def test_a_manifest_says_how_it_was_made():
    manifest = split(many(60), 7, TWO_WAY, name="here", linked=("sha256",), data_checksum="abc")
    described = (manifest.name, manifest.kind, manifest.seed, manifest.scope, manifest.linked)
    assert described == ("here", "patient-level", 7, "series", ("sha256",))
    assert manifest.data_checksum == "abc"
    assert manifest.settings == {"fractions": TWO_WAY, "stratified": True}


# Image-level


@quickly
@given(n=st.integers(10, 6000), seed=st.integers(0, 2**32 - 1))
def test_two_image_level_parts_are_those_of_scikit_learn(n, seed):
    ids = [f"i{row}" for row in range(n)]
    manifest = image_level(ids, seed=seed)
    train, test = train_test_split(np.arange(n), test_size=0.2, random_state=seed)
    assert manifest.parts["train"] == tuple(ids[row] for row in sorted(train))
    assert manifest.parts["test"] == tuple(ids[row] for row in sorted(test))
    assert (manifest.kind, manifest.seed, manifest.scope) == ("image-level", seed, None)


@pytest.mark.parametrize("seed", [0, 42, 43])
def test_stratified_image_level_parts_are_those_of_scikit_learn(seed):
    ids, _, classes = many()
    manifest = image_level(ids, seed=seed, stratify=classes)
    train, test = train_test_split(np.arange(len(ids)), test_size=0.2, random_state=seed, stratify=classes)
    assert manifest.parts["train"] == tuple(ids[row] for row in sorted(train))
    assert manifest.parts["test"] == tuple(ids[row] for row in sorted(test))
    assert manifest.settings["stratified"] is True
    assert manifest.parts != image_level(ids, seed=seed).parts


def test_another_fraction_is_scikit_learns_too():
    manifest = image_level(range(1000), seed=1, fractions={"train": 0.7, "test": 0.3})
    _, test = train_test_split(np.arange(1000), test_size=0.3, random_state=1)
    assert manifest.parts["test"] == tuple(sorted(test))


@quickly
@given(data=cohorts(least=20), seed=st.integers(0, 999), fractions=st.sampled_from(FRACTIONS))
def test_image_level_parts_cover_every_image_once(data, seed, fractions):
    ids = data[0]
    manifest = image_level(ids, seed=seed, fractions=fractions)
    assert_partition(manifest, ids)
    for part, fraction in fractions.items():
        assert abs(len(manifest.parts[part]) - fraction * len(ids)) <= len(fractions)
    assert manifest.hash == image_level(pd.Series(ids), seed=seed, fractions=fractions).hash


def test_an_image_level_split_tears_patients():
    ids, groups, _ = many()
    with pytest.raises(AssertionError):
        assert_groups_apart(image_level(ids, seed=42), ids, groups)


# Official parts


def test_official_parts_are_those_of_the_table():
    table = pd.DataFrame(
        {"image_id": ["a", "b", "c", "d", "e"], "part": ["test", "train", "val", "train", "test"]}
    )
    manifest = official(table, name="as given", data_checksum="abc")
    assert manifest.parts == {"train": ("b", "d"), "val": ("c",), "test": ("a", "e")}
    assert list(manifest.parts) == ["train", "val", "test"]
    assert (manifest.kind, manifest.seed, manifest.scope) == ("official", None, None)
    assert (manifest.name, manifest.data_checksum) == ("as given", "abc")
    assert official(table.assign(part="unsplit")).parts == {"unsplit": tuple("abcde")}


# Equal sizes


@quickly
@given(data=cohorts(least=20), seed=st.integers(0, 999))
def test_equalised_parts_have_one_size_and_lose_nothing_else(data, seed):
    ids = data[0]
    naive, clean = image_level(ids, seed=seed), split(data, seed, TWO_WAY)
    size = min(len(naive.parts["train"]), len(clean.parts["train"]))
    for before, after in zip((naive, clean), equalise(naive, clean, seed=seed), strict=True):
        assert len(after.parts["train"]) == size
        kept = set(after.parts["train"])
        assert kept <= set(before.parts["train"])
        assert after.parts["train"] == tuple(i for i in before.parts["train"] if i in kept)
        assert after.parts["test"] == before.parts["test"]
        assert after.settings == {**before.settings, "n_train": size}
        assert replace(after, parts=before.parts, settings=before.settings) == before
        assert "n_train" not in before.settings
    assert equalise(naive, clean, seed=seed)[0].hash == equalise(naive, clean, seed=seed)[0].hash


def test_what_is_cut_follows_the_seed_and_the_named_part():
    ids = [f"i{row}" for row in range(100)]
    large = image_level(ids, seed=1)
    small = image_level(ids, seed=1, fractions={"train": 0.5, "test": 0.5})
    cut = [equalise(large, small, seed=seed)[0].parts["train"] for seed in range(10)]
    assert len(set(cut)) == 10
    assert all(len(part) == 50 for part in cut)
    tested = equalise(large, small, seed=1, part="test")[1]
    assert (len(tested.parts["test"]), len(tested.parts["train"])) == (20, 50)
    assert tested.settings["n_test"] == 20


# The manifest as a file


@pytest.fixture
def manifest():
    return Manifest(
        name="one",
        kind="patient-level",
        parts={"train": ("a/1.jpeg", "a/é.jpeg", "a/2.jpeg"), "val": ("b",), "test": ("c", "d")},
        seed=42,
        scope="series",
        linked=("sha256",),
        data_checksum="0f" * 32,
        settings={"fractions": THREE_WAY, "stratified": True},
    )


@pytest.mark.parametrize(
    "parts", [{"train": ("a", "b"), "test": ("c", "a")}, {"train": ("a", "b", "a"), "test": ("c",)}]
)
def test_an_id_that_stands_twice_is_refused(manifest, parts, tmp_path):
    with pytest.raises(ManifestError, match="one: an image id stands in two parts, or twice in one"):
        replace(manifest, parts=parts)
    path = manifest.save(tmp_path / "one.json")
    content = json.loads(path.read_text())
    content["parts"] = parts
    path.write_text(json.dumps(content))
    with pytest.raises(ManifestError):
        Manifest.load(path)


def test_a_saved_manifest_comes_back_the_same(manifest, tmp_path):
    path = manifest.save(tmp_path / "deep" / "one.json")
    loaded = Manifest.load(path)
    assert loaded == manifest
    assert loaded.hash == manifest.hash
    content = json.loads(path.read_text())
    assert content.pop("hash") == manifest.hash
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(canonical.encode()).hexdigest() == manifest.hash
    assert [p.name for p in path.parent.iterdir()] == ["one.json"]


@quickly
@given(data=cohorts(), seed=st.integers(0, 99))
def test_every_kind_of_split_survives_the_file(data, seed, tmp_path_factory):
    ids = data[0]
    path = tmp_path_factory.mktemp("manifest") / "m.json"
    for made in (split(data, seed), image_level(ids, seed=seed), *equalise(split(data), split(data), seed=1)):
        assert Manifest.load(made.save(path)) == made


def test_no_changed_byte_goes_unnoticed(manifest, tmp_path):
    path = manifest.save(tmp_path / "one.json")
    whole = path.read_bytes()
    for place, byte in enumerate(whole):
        for changed in {byte ^ (1 << place % 8), ord("9")} - {byte}:
            path.write_bytes(whole[:place] + bytes([changed]) + whole[place + 1 :])
            try:
                loaded = Manifest.load(path)
            except ManifestError as error:
                assert str(path) in str(error) or "stands in two parts" in str(error)
                assert "\n" not in str(error)
            else:
                # Only the spelling may change: space between fields, or \u00E9 for \u00e9.
                assert (loaded, loaded.hash) == (manifest, manifest.hash)
                assert whole[place : place + 1].isspace() or chr(byte).upper() == chr(changed)


def test_a_file_that_is_nested_too_deep_is_refused(tmp_path):
    (tmp_path / "one.json").write_text("[" * 100_000)
    with pytest.raises(ManifestError, match=r"one\.json: not a split manifest"):
        Manifest.load(tmp_path / "one.json")


@pytest.mark.parametrize("end", [0, 1, 40, -3])
def test_a_file_that_was_cut_off_is_refused(manifest, tmp_path, end):
    path = manifest.save(tmp_path / "one.json")
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(ManifestError, match=r"one\.json: not a split manifest"):
        Manifest.load(path)


def moved(content):
    content["parts"]["train"].append(content["parts"]["test"].pop())


def swapped(content):
    content["parts"]["train"].reverse()


def dropped(content):
    content["parts"]["train"].pop()


def renamed(content):
    content["parts"]["fit"] = content["parts"].pop("train")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "two"},
        {"kind": "image-level"},
        {"seed": 43},
        {"seed": None},
        {"seed": 42.0},
        {"scope": "person"},
        {"linked": []},
        {"data_checksum": ""},
        {"settings": {}},
        {"settings": {"fractions": TWO_WAY, "stratified": True}},
        {"hash": "0" * 64},
        {"hash": ""},
        moved,
        swapped,
        dropped,
        renamed,
    ],
)
def test_a_changed_field_is_refused(manifest, tmp_path, change):
    path = manifest.save(tmp_path / "one.json")
    content = json.loads(path.read_text())
    change(content) if callable(change) else content.update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(ManifestError, match=r"one\.json: content does not agree with its hash .*changed$"):
        Manifest.load(path)


@pytest.mark.parametrize("key", ["hash", "name", "kind", "parts", "seed", "scope", "linked", "settings"])
def test_a_missing_field_is_refused(manifest, tmp_path, key):
    path = manifest.save(tmp_path / "one.json")
    content = json.loads(path.read_text())
    del content[key]
    path.write_text(json.dumps(content))
    with pytest.raises(ManifestError, match=r"one\.json"):
        Manifest.load(path)


def test_an_unknown_field_is_refused(manifest, tmp_path):
    path = manifest.save(tmp_path / "one.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "note": "harmless"}))
    with pytest.raises(ManifestError, match="note"):
        Manifest.load(path)


@pytest.mark.parametrize("value", [None, 5])
def test_a_hash_that_is_no_text_is_refused(manifest, tmp_path, value):
    path = manifest.save(tmp_path / "one.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "hash": value}))
    with pytest.raises(ManifestError):
        Manifest.load(path)


@pytest.mark.parametrize("content", [b"[]", b"5", b"null", b'"hash"', b"{}", b"\xff\xfe", b'{"hash": "a"}'])
def test_what_is_no_manifest_is_refused(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"x\.json: not a split manifest"):
        Manifest.load(path)
    with pytest.raises(ManifestError, match="gone"):
        Manifest.load(tmp_path / "gone.json")
    with pytest.raises(ManifestError):
        Manifest.load(tmp_path)


def test_rows_are_positions_in_manifest_order(manifest):
    ids = ["d", "x", "c", "b"]
    assert manifest.rows("test", ids).tolist() == [2, 0]
    assert manifest.rows("test", ids).dtype == np.int64
    with pytest.raises(KeyError, match=re.escape("a/1.jpeg")):
        manifest.rows("train", ids)
