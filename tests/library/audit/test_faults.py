import hashlib
import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deferred import deferred
from leakfree.audit.copies.alterations import DISGUISES
from leakfree.audit.faults import (
    FAULTS,
    PIXEL_KINDS,
    TRUTH_COLUMNS,
    alter,
    inject,
    list_images,
    write_phantom,
)
from leakfree.data.images import ImageError, inspect, to_grey
from leakfree.data.patients import patient_ids
from leakfree.data.raw import SourceError

with deferred:
    from leakfree.data.sources.phantom import PhantomSettings

COUNT = 2
COPIES = ("exact_copy", *PIXEL_KINDS, "relabelled_copy")


def rng(seed=0):
    return np.random.default_rng(seed)


def grey(data):
    return to_grey(data, None).astype(float)


def alike(a, b):
    """Correlation of two arrays of one shape."""
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


@pytest.fixture(scope="module")
def film():
    """An encoded image that is alike to itself in no orientation."""
    y, x = np.mgrid[:96, :120]
    pixels = 110 + 0.5 * x - 0.3 * y + 25 * np.sin(x / 7) * np.cos(y / 11 + x / 23)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, format="JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    settings = PhantomSettings(n_images=240, size=40, near_duplicates=0, size_shortcut=0, test_share=0.3)
    return write_phantom(settings, tmp_path_factory.mktemp("faults") / "phantom")


@pytest.fixture(scope="module")
def injected(phantom):
    target = phantom.parent / "injected"
    return target, inject(phantom, target, count=COUNT, seed=3)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree(folder):
    return {p.relative_to(folder).as_posix(): digest(p) for p in folder.rglob("*") if p.is_file()}


def patients(files, scope="series"):
    table = pd.DataFrame({"image_id": list(files), "label": "pneumonia", "person_num": None})
    return patient_ids(table, scope)


@pytest.mark.parametrize("kind", (*PIXEL_KINDS, *DISGUISES))
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_alteration_is_a_seeded_jpeg_of_the_same_mode(kind, mode, encode):
    data = encode(mode, (80, 60))
    altered = alter(data, kind, rng(5))
    assert altered == alter(data, kind, rng(5)) != data
    image = Image.open(io.BytesIO(altered))
    assert (image.format, image.mode) == ("JPEG", mode)


@pytest.mark.parametrize("seed", range(8))
def test_sizes(film, seed):
    size = {kind: inspect(alter(film, kind, rng(seed))) for kind in PIXEL_KINDS}
    size = {kind: (facts.width, facts.height) for kind, facts in size.items()}
    for kind in set(PIXEL_KINDS) - {"resized", "turned_90", "padded"}:
        assert size[kind] == (120, 96)
    assert size["turned_90"] in ((96, 120), (120, 96))
    scale = size["resized"][0] / 120
    assert 0.49 <= scale <= 0.81 or 1.24 <= scale <= 2.01
    assert size["resized"][1] / 96 == pytest.approx(scale, abs=0.02)
    assert 1.09 <= size["padded"][0] / 120 <= 1.21 and 1.09 <= size["padded"][1] / 96 <= 1.21


@pytest.mark.parametrize("seed", range(8))
def test_content(film, seed):
    before = grey(film)
    after = {kind: grey(alter(film, kind, rng(seed))) for kind in PIXEL_KINDS}
    assert alike(before, after["reencoded"]) > 0.99
    assert np.abs(before - after["reencoded"]).mean() < 5
    assert alike(np.fliplr(before), after["mirrored"]) > 0.99 > alike(before, after["mirrored"])
    turns = [np.rot90(before, k) for k in (1, 2, 3)]
    assert max(alike(t, after["turned_90"]) for t in turns if t.shape == after["turned_90"].shape) > 0.99
    assert after["inverted"] == pytest.approx(255 - before, abs=12)
    assert alike(before, after["brightened"]) > 0.98
    assert np.abs(before - after["brightened"]).mean() > 4
    clipped = (after["brightened"] <= 1) | (after["brightened"] >= 254)
    assert clipped.mean() < 0.08
    y, x = ((a - b) // 2 for a, b in zip(after["padded"].shape, before.shape, strict=True))
    assert alike(before, after["padded"][y : y + 96, x : x + 120]) > 0.99
    assert after["padded"][: y - 1].max() < 30 and after["padded"][:, : x - 1].max() < 30
    small = np.asarray(Image.fromarray(after["resized"].astype(np.uint8)).resize((120, 96)))
    assert alike(before, small.astype(float)) > 0.98


def test_turned_5_both_ways_by_4_to_6_degrees_with_black_corners(film):
    before = Image.fromarray(grey(film).astype(np.uint8))
    inner = np.s_[20:76, 25:95]
    angles = np.arange(-8, 8.1, 0.5)
    turned = [np.asarray(before.rotate(a, Image.Resampling.BILINEAR)).astype(float)[inner] for a in angles]
    found = []
    for seed in range(8):
        after = grey(alter(film, "turned_5", rng(seed)))
        assert min(after[:2, :2].mean(), after[-2:, -2:].mean()) < 30
        found.append(angles[np.argmax([alike(t, after[inner]) for t in turned])])
    assert all(3.5 <= abs(a) <= 6.5 for a in found)
    assert min(found) < 0 < max(found)


def test_shifted_by_1_to_5_percent(film):
    before, moved, dark = grey(film), [], []
    for seed in range(12):
        after = grey(alter(film, "shifted", rng(seed)))
        offsets = [(y, x) for y in range(-8, 9) for x in range(-8, 9)]
        scores = [alike(before[8:-8, 8:-8], after[8 + y : 88 + y, 8 + x : 112 + x]) for y, x in offsets]
        y, x = offsets[int(np.argmax(scores))]
        assert max(scores) > 0.98
        moved.append(np.hypot(y / 96, x / 120))
        edge = after[0] if y > 0 else after[-1] if y < 0 else after[:, 0] if x > 0 else after[:, -1]
        dark.append(edge.mean() < 40)
    assert min(moved) > 0.003 and max(moved) < 0.06 and max(moved) > 0.02
    assert {True, False} <= set(dark)


@pytest.mark.parametrize(("kind", "share"), [("cropped_4", 0.04), ("cropped_10", 0.10)])
def test_cropped_share(film, kind, share):
    before = Image.open(io.BytesIO(film))
    cut = (round(120 * share), round(96 * share))
    places = set()
    for seed in range(6):
        after = grey(alter(film, kind, rng(seed)))
        scores = {}
        for left in range(cut[0] + 1):
            for top in range(cut[1] + 1):
                box = (left, top, 120 - cut[0] + left, 96 - cut[1] + top)
                scores[left, top] = alike(np.asarray(before.resize((120, 96), box=box)).astype(float), after)
        places.add(max(scores, key=scores.get))
        assert max(scores.values()) > 0.99
    assert len(places) > 1


def test_brightened_goes_both_ways_and_spares_dark_and_bright_images(film):
    before = grey(film).mean()
    means = [grey(alter(film, "brightened", rng(seed))).mean() - before for seed in range(12)]
    assert min(means) < -8 and max(means) > 8
    for level in (12, 240):
        pixels = np.full((64, 64), level) + np.arange(64) % 10
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, format="PNG")
        for seed in range(6):
            assert grey(alter(buffer.getvalue(), "brightened", rng(seed))).std() > 0.5


def test_alter_refuses(film):
    with pytest.raises(ValueError, match=r"'exact_copy'.*known: reencoded"):
        alter(film, "exact_copy", rng())
    with pytest.raises(ImageError, match="not an image"):
        alter(b"text", "mirrored", rng())


def test_truth_is_complete(phantom, injected):
    target, truth = injected
    assert tuple(truth.columns) == TRUTH_COLUMNS
    assert truth["kind"].unique().tolist() == list(FAULTS)
    counts = truth["kind"].value_counts()
    assert (counts.drop("size_shortcut") == COUNT).all()
    before, after = tree(phantom), tree(target)
    copies = truth[truth["kind"].isin(COPIES)]
    moved = truth[truth["kind"] == "patient_moved"]
    assert set(after) - set(before) == set(copies["file"]) | set(moved["file"])
    assert set(before) - set(after) == set(moved["parameter"])
    resized = set(truth.loc[truth["kind"] == "size_shortcut", "file"])
    assert {f for f in set(before) & set(after) if before[f] != after[f]} == resized
    for row in truth.itertuples():
        assert (row.file.split("/")[0], row.of.split("/")[0]) == (row.part, row.of_part)
    assert truth.loc[truth["kind"].isin(PIXEL_KINDS), "parameter"].str.contains("quality=").all()
    written = pd.read_csv(target.with_name("injected.truth.csv"), keep_default_na=False)
    pd.testing.assert_frame_equal(written, truth, check_dtype=False)


def test_originals_are_distinct_and_in_no_group_of_identical_files(phantom, injected):
    _, truth = injected
    moved = truth.loc[truth["kind"] == "patient_moved", "parameter"]
    used = pd.concat([truth["of"], moved])
    assert used.is_unique
    table = list_images(phantom).set_index("file")
    assert table["sha256"].duplicated().any()
    assert not table["sha256"].duplicated(keep=False).loc[used].any()


def test_copies_cross_parts_as_new_patients_of_the_same_naming_family(phantom, injected):
    target, truth = injected
    copies = truth[truth["kind"].isin(COPIES)]
    assert (copies["part"] != copies["of_part"]).all()
    before = list(tree(phantom))
    for scope in ("series", "person", "merged"):
        known = patients(before, scope)
        assert not set(patients(copies["file"], scope)) & set(known)
        assert len(set(patients(copies["file"], scope))) == len(copies)

    def family(file):
        return re.sub(r"(?<!NORMAL)\d+", "N", file.split("/", 1)[1]).replace("-N-N-N.", "-N-N.")

    same = copies[copies["kind"] != "relabelled_copy"]
    assert same["file"].map(family).tolist() == same["of"].map(family).tolist()
    families = set(map(family, before))
    relabelled = copies[copies["kind"] == "relabelled_copy"]
    for file, of in relabelled[["file", "of"]].to_numpy():
        assert file.split("/")[1] != of.split("/")[1]
        assert family(file) in families
    for kind in ("exact_copy", "relabelled_copy"):
        for file, of in copies.loc[copies["kind"] == kind, ["file", "of"]].to_numpy():
            assert digest(target / file) == digest(phantom / of)
            assert not (target / file).is_symlink()


def test_moved_patient_stands_in_both_parts(phantom, injected):
    target, truth = injected
    after = pd.Series(patients(files := list(tree(target))), index=files)
    before = pd.Series(patients(files := list(tree(phantom))), index=files)
    for row in truth[truth["kind"] == "patient_moved"].itertuples():
        assert (row.part, row.of_part) == ("test", "train")
        assert after[row.file] == after[row.of]
        assert {f.split("/")[0] for f in before.index[before == after[row.of]]} == {"train"}
        assert digest(target / row.file) == digest(phantom / row.parameter)


def test_no_patient_is_moved_who_stands_in_both_parts_already(write_folder, encode, tmp_path):
    names = {
        f"train/PNEUMONIA/person{n}_virus_{n * 10 + i}.jpeg": n * 10 + i for n in (1, 2, 3) for i in (0, 1)
    }
    names |= {f"test/PNEUMONIA/person{n}_virus_{n * 10 + 2}.jpeg": n * 10 + 2 for n in (1, 3)}
    source = write_folder({name: encode(seed=seed) for name, seed in names.items()})
    for seed in range(4):
        truth = inject(source, tmp_path / str(seed), count=1, kinds=["patient_moved"], seed=seed)
        assert truth["file"].str.startswith("test/PNEUMONIA/person2_virus_2").all()
    with pytest.raises(SourceError, match="too few images for 2 of patient_moved"):
        inject(source, tmp_path / "two", count=2, kinds=["patient_moved"], seed=0)


def test_size_shortcut_resizes_one_class(phantom, injected):
    target, truth = injected
    rows = truth[truth["kind"] == "size_shortcut"]
    folder = rows["file"].str.split("/").str[1]
    assert folder.nunique() == 1
    of_class = [f for f in tree(phantom) if f.split("/")[1] == folder.iloc[0]]
    assert len(rows) > 0.5 * len(of_class)
    for file in rows["file"]:
        old, new = inspect((phantom / file).read_bytes()), inspect((target / file).read_bytes())
        assert new.width == pytest.approx(0.9 * old.width, abs=1)
        assert new.height == pytest.approx(0.9 * old.height, abs=1)
        assert new.mode == old.mode


def test_same_seed_same_folder_and_the_source_is_untouched(phantom, injected, tmp_path):
    target, truth = injected
    before = tree(phantom)
    again = inject(phantom, tmp_path / "again", count=COUNT, seed=3, copy="copy")
    pd.testing.assert_frame_equal(again, truth)
    assert tree(tmp_path / "again") == tree(target)
    assert not any(p.is_symlink() for p in (tmp_path / "again").rglob("*"))
    other = inject(phantom, tmp_path / "other", count=COUNT, seed=4)
    assert not other["of"].equals(truth["of"])
    assert tree(phantom) == before


def test_other_layouts_names_and_unreadable_files(write_folder, encode, tmp_path):
    files = {
        f"{part}/{cls}/BACTERIA-{1000 + i}-0001.png" if i % 2 else f"{part}/{cls}/chest {i}.png": encode(
            seed=1000 * p + 100 * c + i, format="PNG"
        )
        for p, part in enumerate(("a", "b", "c"))
        for c, cls in enumerate(("ill", "well"))
        for i in range(9)
    }
    files |= {f"a/ill/broken {i}.png": b"no image %d" % i for i in range(20)}
    source = write_folder(files)
    truth = inject(source, tmp_path / "out", count=3, kinds=COPIES, seed=0)
    assert not truth["of"].str.contains("broken").any()
    assert len(truth) == 3 * len(COPIES)
    assert set(truth["part"]) == {"a", "b", "c"}
    assert (truth["part"] != truth["of_part"]).all()
    assert len(tree(tmp_path / "out")) == len(files) + len(truth)


def test_errors_in_one_line(phantom, write_folder, encode, tmp_path):
    def refused(error, match, source=phantom, target=tmp_path / "out", **options):
        with pytest.raises(error, match=match) as caught:
            inject(source, target, **({"count": 1, "seed": 0} | options))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()

    refused(ValueError, "unknown kind of fault 'blurred'; known: exact_copy", kinds=["blurred"])
    refused(ValueError, "count is 1 or more", count=0)
    refused(ValueError, "copy is link or copy", copy="move")
    refused(SourceError, "no such folder", source=tmp_path / "missing")
    refused(SourceError, "no image in folders", source=write_folder({"a/x.png": encode()}, "flat"))
    refused(SourceError, "too few images for 300 of exact_copy", count=300, kinds=["exact_copy"])
    refused(SourceError, "too few images for 90 of patient_moved", count=90, kinds=["patient_moved"])
    single = write_folder({f"train/NORMAL/IM-000{i}-0001.png": encode(seed=i) for i in range(4)}, "single")
    refused(SourceError, "one part only", source=single)
    one_class = write_folder({f"{p}/N/{i}.png": encode(seed=i) for i, p in enumerate("abab")}, "one")
    refused(SourceError, "one class only", source=one_class, kinds=["relabelled_copy"])
    refused(SourceError, "lies in the source", target=phantom / "new")
    (tmp_path / "there").mkdir()
    refused(SourceError, "exists already", target=tmp_path / "there")


def test_disguises_are_planted_where_they_are_asked_for_only(phantom, tmp_path):
    kinds = [*DISGUISES, "exact_copy"]
    truth = inject(phantom, tmp_path / "out", count=1, kinds=kinds, seed=3)
    assert sorted(truth["kind"]) == sorted(kinds) and not set(DISGUISES) & set(FAULTS)
    for row in truth[truth["kind"].isin(DISGUISES)].itertuples():
        assert (tmp_path / "out" / row.file).read_bytes() != (phantom / row.of).read_bytes()
        assert row.part != row.of_part and row.parameter
