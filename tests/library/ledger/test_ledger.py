"""The ledger stops a result whose images are not those of its manifest, whoever got them wrong."""

import hashlib
import json
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deferred import deferred
from leakfree.data.pixels import PixelCache, pixel_digest
from leakfree.split.protocols import CLEAN, IMAGE_LEVEL, Protocol

with deferred:
    from leakfree.ledger import ledger as module
    from leakfree.ledger.ledger import CHECK_EVERY, Ledger, LedgerError, consumed_hash
    from leakfree.split.manifest import Manifest, image_level, patient_level

N = 120
BATCH = 16


def images(n=N, size=8, seed=0):
    """Make decoded images of noise with the digests that were taken when they were decoded."""
    pixels = np.random.default_rng(seed).integers(0, 256, (n, size, size), dtype=np.uint8)
    ids = np.array([f"train/X/film-{row:04d}.jpeg" for row in range(n)], dtype=object)
    digests = {image_id: pixel_digest(image) for image_id, image in zip(ids, pixels, strict=True)}
    return PixelCache(ids, pixels, digests)


CACHE = images()
#: Three images a patient; classes alternate by patient.
GROUP = np.arange(N) // 3
GROUPS = dict(zip(CACHE.ids, GROUP.tolist(), strict=True))
CLASSES = np.array(["bacterial", "viral"], dtype=object)[GROUP % 2]


@pytest.fixture
def clean():
    return patient_level(CACHE.ids, GROUP, CLASSES, seed=42, scope="series", name="clean-split")


@pytest.fixture
def leaky():
    return image_level(
        CACHE.ids, seed=42, fractions={"train": 0.7, "val": 0.15, "test": 0.15}, name="naive-split"
    )


@pytest.fixture
def book():
    return Ledger(CACHE.digests)


def read(book, stage, rows, batch=BATCH, cache=CACHE):
    for start in range(0, len(rows), batch):
        book.record(stage, *cache.take(np.asarray(rows[start : start + batch])))


def consume(book, manifest, epochs=2, **replaced):
    """Read what an honest run reads; `replaced` gives a part other rows, or None for nothing."""
    rng = np.random.default_rng(1)
    rows = {part: manifest.rows(part, CACHE.ids) for part in manifest.parts} | replaced
    for part, chosen in rows.items():
        if chosen is None:
            continue
        for _ in range(1 if part == "test" else epochs):
            read(book, part, rng.permutation(chosen) if part == "train" else chosen)
    return book


# What agrees passes


def test_an_honest_run_passes(book, clean):
    assert consume(book, clean).check(clean, CLEAN, GROUPS) == {"images": 0, "linked groups": 0}
    assert book.consumed("train") == Counter(dict.fromkeys(clean.parts["train"], 2))
    assert book.consumed("val") == Counter(dict.fromkeys(clean.parts["val"], 2))
    assert book.consumed("test") == Counter(clean.parts["test"])
    assert book.consumed("nothing") == Counter()


def test_a_manifest_without_validation_passes(book):
    manifest = patient_level(
        CACHE.ids, GROUP, CLASSES, seed=1, scope="series", fractions={"train": 0.8, "test": 0.2}
    )
    assert not any(consume(book, manifest).check(manifest, CLEAN, GROUPS).values())


# The fault of the reference study


class DeepLakeLoader:
    """Stands for `ds.pytorch(..., indices=...)` of the reference study: takes `indices`, ignores them."""

    def __init__(self, cache, *, indices, batch_size, shuffle=False):
        self.cache, self.indices, self.batch_size = cache, indices, batch_size
        self.dataset = [cache.ids[row] for row in indices]
        self._rows = np.arange(len(cache))
        if shuffle:
            self._rows = np.random.default_rng(0).permutation(self._rows)

    def __iter__(self):
        for start in range(0, len(self._rows), self.batch_size):
            yield self.cache.take(self._rows[start : start + self.batch_size])


class HonestLoader(DeepLakeLoader):
    def __init__(self, cache, *, indices, batch_size, shuffle=False):
        super().__init__(cache, indices=indices, batch_size=batch_size)
        self._rows = np.asarray(indices)


def study(manifest, book, loader_class, faulty_stages=("train", "val", "test")):
    """Run the reference study's pipeline, with every assertion that it makes on its lists of indices."""
    indices = {part: manifest.rows(part, CACHE.ids) for part in manifest.parts}
    for first in indices:
        assert len(indices[first]) == len(manifest.parts[first])
        for second in indices:
            if first != second:
                assert set(indices[first]).isdisjoint(indices[second])
                assert set(GROUP[indices[first]]).isdisjoint(GROUP[indices[second]])
    assert sorted(np.concatenate(list(indices.values()))) == list(range(N))
    asked_for = {}
    for part, rows in indices.items():
        made = loader_class if part in faulty_stages else HonestLoader
        loader = made(CACHE, indices=rows, batch_size=BATCH, shuffle=part == "train")
        assert list(loader.indices) == list(rows)
        assert loader.dataset == list(manifest.parts[part])
        asked_for[part] = [CACHE.ids[row] for row in loader.indices]
        for ids, pixels in loader:
            book.record(part, ids, pixels)
    # A ledger of what was asked for would agree, and prove nothing.
    assert {part: tuple(ids) for part, ids in asked_for.items()} == manifest.parts


def test_the_reference_studys_loader_is_stopped(book, clean):
    study(clean, book, DeepLakeLoader)
    n_train = len(clean.parts["train"])
    reason = (
        f"clean-split: stage train consumed {N} images where the manifest has {n_train}: "
        f"{N - n_train} of another part, 0 missed, like train/X/film-"
    )
    with pytest.raises(LedgerError, match=reason):
        book.check(clean, CLEAN, GROUPS)


@pytest.mark.parametrize("stage", ["train", "val", "test"])
@pytest.mark.parametrize("protocol", [CLEAN, IMAGE_LEVEL, Protocol("any", frozenset({"images"}))])
def test_one_stage_that_ignores_its_indices_is_enough(book, clean, stage, protocol):
    """A declared leak excuses overlap between the parts of a manifest, never another manifest."""
    study(clean, book, DeepLakeLoader, (stage,))
    with pytest.raises(LedgerError, match=f"stage {stage} consumed {N} images"):
        book.check(clean, protocol, GROUPS)


def test_the_same_pipeline_with_an_honest_loader_passes(book, clean):
    study(clean, book, HonestLoader)
    book.check(clean, CLEAN, GROUPS)


# Other ways in which consumption and manifest differ


def test_missed_images_are_found(book, clean):
    rows = clean.rows("train", CACHE.ids)
    assert len(rows) % BATCH, "the last batch must be a short one"
    consume(book, clean, train=rows[: len(rows) // BATCH * BATCH])  # as with drop_last
    missed = len(rows) % BATCH
    with pytest.raises(LedgerError, match=f"train consumed .*: 0 of another part, {missed} missed"):
        book.check(clean, CLEAN, GROUPS)


@pytest.mark.parametrize("stage", ["train", "val", "test"])
def test_a_stage_that_never_ran_is_found(book, clean, stage):
    consume(book, clean, **{stage: None})
    with pytest.raises(LedgerError, match=f"stage {stage} consumed 0 images"):
        book.check(clean, CLEAN, GROUPS)


@pytest.mark.parametrize("stage", ["train", "val", "test"])
def test_one_image_of_another_part_is_found(book, clean, stage):
    other = next(part for part in clean.parts if part != stage)
    consume(book, clean)
    read(book, stage, clean.rows(other, CACHE.ids)[:1])
    with pytest.raises(LedgerError, match=rf"stage {stage} .*: 1 of another part, 0 missed, like train/X/"):
        book.check(clean, CLEAN, GROUPS)


def test_equal_numbers_of_other_images_are_found(book, clean):
    """The count of images alone proves nothing."""
    train, val = clean.rows("train", CACHE.ids), clean.rows("val", CACHE.ids)
    train[0], val[0] = val[0], train[0]
    consume(book, clean, train=train, val=val)
    with pytest.raises(LedgerError, match="1 of another part, 1 missed"):
        book.check(clean, CLEAN, GROUPS)


def test_the_test_part_is_scored_once(book, clean):
    consume(book, clean)
    read(book, "test", clean.rows("test", CACHE.ids)[-1:])
    with pytest.raises(LedgerError, match=r"test part was scored more than once \(train/X/film-"):
        book.check(clean, CLEAN, GROUPS)


@pytest.mark.parametrize("stage", ["unsplit", "Train", "test2", ""])
def test_an_unknown_stage_is_found(book, clean, stage):
    read(consume(book, clean), stage, clean.rows("train", CACHE.ids))
    with pytest.raises(LedgerError, match=f"stage {stage} is no part of the manifest"):
        book.check(clean, CLEAN, GROUPS)


def test_a_stage_whose_pixels_nobody_hashed_is_not_believed(book, clean):
    consume(book, clean, val=None)
    # The only way past the hash: ids entered without their pixels.
    book._stages["val"] = Counter(clean.parts["val"])
    with pytest.raises(LedgerError, match="no pixels of stage val were checked"):
        book.check(clean, CLEAN, GROUPS)


def test_a_manifest_with_an_empty_part_proves_nothing(book, clean):
    empty = replace(clean, parts={**clean.parts, "val": ()})
    consume(book, empty)
    with pytest.raises(LedgerError, match="no pixels of stage val were checked"):
        book.check(empty, CLEAN, GROUPS)


# Ids and pixels


@pytest.mark.parametrize(
    "reorder",
    [
        lambda ids: np.random.default_rng(3).permutation(ids),
        lambda ids: np.roll(ids, 1),
        lambda ids: ids[::-1],
    ],
    ids=["shuffled", "shifted by one", "reversed"],
)
def test_ids_that_come_with_the_pixels_of_others_are_stopped(book, clean, reorder):
    """The ids alone agree with the manifest; only the pixels tell."""
    rows = clean.rows("train", CACHE.ids)[:BATCH]
    ids, pixels = CACHE.take(rows)
    assert sorted(reorder(ids)) == sorted(ids)
    with pytest.raises(LedgerError, match=r"train: the pixels that came as 'train/X/.*' are not that image"):
        book.record("train", reorder(ids), pixels)
    assert book.consumed("train") == Counter()


def test_an_epoch_that_fed_the_first_batch_again_and_again_is_stopped(book, clean):
    rows = clean.rows("train", CACHE.ids)
    stale = CACHE.pixels[rows[:BATCH]]
    book.record("train", CACHE.ids[rows[:BATCH]], stale)
    with pytest.raises(LedgerError, match="are not that image's"):
        book.record("train", CACHE.ids[rows[BATCH : 2 * BATCH]], stale)


@pytest.mark.parametrize(
    "change", [lambda x: x[:, ::-1], lambda x: x[:, :, ::-1], lambda x: x ^ 1, lambda x: x / np.float32(255)]
)
def test_pixels_that_were_changed_before_they_were_entered_are_stopped(book, change):
    ids, pixels = CACHE.take(np.arange(BATCH))
    with pytest.raises(LedgerError, match="are not that image's"):
        book.record("train", ids, change(pixels))


def test_pixels_may_be_a_view_in_any_layout(book):
    ids, pixels = CACHE.take(np.arange(BATCH))
    book.record("train", ids, np.asfortranarray(pixels))
    book.record("train", list(ids[::-1]), pixels[::-1])
    assert book.consumed("train").total() == 2 * BATCH


def test_one_wrong_image_is_found_within_epochs(book):
    """One row in eight is hashed a batch; the place moves, so a single wrong image meets it soon."""
    pixels = CACHE.pixels.copy()
    pixels[37] ^= 255
    faulty = PixelCache(CACHE.ids, pixels, CACHE.digests)
    with pytest.raises(LedgerError, match="film-0037"):
        for epoch in range(CHECK_EVERY * 4):
            read(book, "train", np.random.default_rng(epoch).permutation(N), cache=faulty)


def test_an_id_that_the_cohort_does_not_know_is_stopped(book):
    ids, pixels = CACHE.take(np.arange(BATCH))
    ids = ids.copy()
    ids[0] = "row-00000"
    with pytest.raises(LedgerError, match="train: consumed 'row-00000', which is not in the cohort"):
        book.record("train", ids, pixels)


def test_an_unknown_id_at_a_place_that_was_not_hashed_is_found_at_the_end(book, clean):
    ids, pixels = CACHE.take(clean.rows("train", CACHE.ids)[:BATCH])
    ids = ids.copy()
    ids[1] = "row-00000"  # the first batch begins to hash at place 0
    book.record("train", ids, pixels)
    consume(book, clean)
    with pytest.raises(LedgerError, match="1 of another part, 0 missed, like row-00000"):
        book.check(clean, CLEAN, GROUPS)


@pytest.mark.parametrize(("n_ids", "n_pixels"), [(4, 3), (3, 4), (0, 1)])
def test_as_many_ids_as_images(book, n_ids, n_pixels):
    with pytest.raises(LedgerError, match=f"train: {n_ids} ids came with {n_pixels} images"):
        book.record("train", CACHE.ids[:n_ids], CACHE.pixels[:n_pixels])


# Leaks between the parts of a manifest


def test_an_undeclared_leak_fails(book, leaky):
    consume(book, leaky)
    found = book.leaks(GROUPS)
    assert found["images"] == 0
    assert found["linked groups"] > 10
    reason = f"undeclared leak, {found['linked groups']} linked groups on both sides under protocol clean"
    with pytest.raises(LedgerError, match=reason):
        book.check(leaky, CLEAN, GROUPS)


def test_a_declared_leak_that_is_not_found_fails(book, clean):
    reason = "protocol image-level declares shared linked groups; none was found"
    with pytest.raises(LedgerError, match=reason):
        consume(book, clean).check(clean, IMAGE_LEVEL, GROUPS)


def test_a_declared_leak_that_is_found_passes(book, leaky):
    found = consume(book, leaky).check(leaky, IMAGE_LEVEL, GROUPS)
    fitted = {GROUPS[i] for part in ("train", "val") for i in leaky.parts[part]}
    tested = {GROUPS[i] for i in leaky.parts["test"]}
    between = {GROUPS[i] for i in leaky.parts["train"]} & {GROUPS[i] for i in leaky.parts["val"]}
    assert found == {"images": 0, "linked groups": len(fitted & tested | between)}


def test_another_leak_than_the_declared_one_fails(book, leaky):
    declared = Protocol("other", frozenset({"images"}))
    with pytest.raises(LedgerError, match=r"undeclared leak, .* linked groups"):
        consume(book, leaky).check(leaky, declared, GROUPS)


@pytest.mark.parametrize(
    ("first", "second", "shared"), [("train", "test", 1), ("val", "test", 1), ("train", "val", 1)]
)
def test_one_shared_patient_between_any_two_parts_is_a_leak(book, clean, first, second, shared):
    groups = dict(GROUPS)
    groups[clean.parts[second][0]] = groups[clean.parts[first][0]]
    consume(book, clean)
    assert book.leaks(groups) == {"images": 0, "linked groups": shared}
    with pytest.raises(LedgerError, match="undeclared leak, 1 linked groups"):
        book.check(clean, CLEAN, groups)


@pytest.mark.parametrize("first", ["train", "val", "test", "conformal"])
def test_every_pair_of_parts_is_compared_however_many_there_are(book, first):
    fractions = {"train": 0.5, "val": 0.1, "calibration": 0.1, "conformal": 0.1, "test": 0.2}
    manifest = patient_level(
        CACHE.ids, GROUP, CLASSES, seed=4, scope="series", fractions=fractions, name="five-parts"
    )
    consume(book, manifest)
    assert book.check(manifest, CLEAN, GROUPS) == {"images": 0, "linked groups": 0}
    groups = dict(GROUPS)
    groups[manifest.parts["calibration"][0]] = groups[manifest.parts[first][0]]
    with pytest.raises(LedgerError, match="undeclared leak, 1 linked groups"):
        book.check(manifest, CLEAN, groups)


def test_shared_images_are_counted(book):
    for stage, rows in (("train", range(10)), ("val", range(8, 12)), ("test", [0, 11, 50])):
        read(book, stage, list(rows))
    # 8 and 9 in train and val, 0 in train and test, 11 in val and test.
    assert book.leaks(GROUPS)["images"] == 4
    assert book.leaks({image_id: 0 for image_id in GROUPS})["linked groups"] == 1


def test_an_image_that_stands_twice_in_a_batch_counts_twice(book, clean):
    read(book, "train", [0, 0, 1])
    assert book.consumed("train") == {CACHE.ids[0]: 2, CACHE.ids[1]: 1}
    rows = clean.rows("test", CACHE.ids)
    consume(book := Ledger(CACHE.digests), clean, test=np.append(rows, rows[-1]))
    with pytest.raises(LedgerError, match="scored more than once"):
        book.check(clean, CLEAN, GROUPS)


# In general


@settings(deadline=None, max_examples=120, derandomize=True)
@given(data=st.data())
def test_check_passes_exactly_when_what_was_consumed_agrees(data):
    part = st.sampled_from(["train", "val", "test"])
    of_row = data.draw(st.lists(part, min_size=12, max_size=12).filter(lambda p: len(set(p)) == 3))
    manifest = Manifest(
        name="m",
        kind="image-level",
        parts={p: tuple(CACHE.ids[k] for k in range(12) if of_row[k] == p) for p in ("train", "val", "test")},
        seed=0,
        scope=None,
    )
    extra = data.draw(st.lists(st.tuples(part, st.integers(0, 12)), max_size=2))
    lost = data.draw(st.sets(st.integers(0, 11), max_size=1))
    groups = {image_id: k for k, image_id in enumerate(CACHE.ids)}
    book = Ledger(CACHE.digests)
    reads = [(of_row[k], k) for k in range(12) if k not in lost] + extra
    for stage, row in reads:
        read(book, stage, [row])
    consumed = {p: {row for stage, row in reads if stage == p} for p in manifest.parts}
    tests = [row for stage, row in reads if stage == "test"]
    agrees = len(tests) == len(set(tests)) and all(
        consumed[p] == {k for k in range(12) if of_row[k] == p} for p in manifest.parts
    )
    if agrees:
        book.check(manifest, CLEAN, groups)
    else:
        with pytest.raises(LedgerError):
            book.check(manifest, CLEAN, groups)


# Digests that were taken elsewhere


def digests_in(rows):
    return [CACHE.digests[image_id] for image_id in CACHE.ids[rows]]


def test_digests_stand_for_the_pixels_they_were_taken_of(book, clean):
    for part in clean.parts:
        rows = clean.rows(part, CACHE.ids)
        book.record_digests(part, CACHE.ids[rows], digests_in(rows))
    assert not any(book.check(clean, CLEAN, GROUPS).values())


def test_every_digest_is_compared(book):
    rows = np.arange(BATCH)
    for place in range(BATCH):
        digests = digests_in(rows)
        digests[place] ^= 1
        with pytest.raises(LedgerError, match=f"train: the pixels that came as .*film-{place:04d}.* are not"):
            book.record_digests("train", CACHE.ids[rows], digests)
    assert book.state() == Ledger(CACHE.digests).state(), "nothing was entered"


@pytest.mark.parametrize(
    ("ids", "digests", "reason"),
    [
        (CACHE.ids[:2], digests_in([0]), "train: 2 ids came with 1 digests"),
        (CACHE.ids[:0], digests_in([0]), "train: 0 ids came with 1 digests"),
        (CACHE.ids[:1], [0.5], "train: 0.5, which came with .* is no 64-bit digest"),
        (CACHE.ids[:1], np.array(digests_in([0]), dtype=float), "is no 64-bit digest"),
        (CACHE.ids[:1], [True], "train: True, .* is no 64-bit digest"),
        (CACHE.ids[:1], ["12"], "train: '12', .* is no 64-bit digest"),
        (CACHE.ids[:1], [None], "is no 64-bit digest"),
        (CACHE.ids[:1], [digests_in([0])], "is no 64-bit digest"),
        (CACHE.ids[:1], [2**64], "is no 64-bit digest"),
        (CACHE.ids[:1], [-(2**63) - 1], "is no 64-bit digest"),
        (CACHE.ids[:1], None, "train: digests are no sequence but NoneType"),
        (CACHE.ids[:1], np.uint64(3), "train: digests are no sequence but int"),
        (CACHE.ids[:1], "1", "train: digests are no sequence but str"),
        (["row-1"], [1], "train: consumed 'row-1', which is not in the cohort"),
        ([["unhashable"]], [1], "which is not in the cohort"),
    ],
)
def test_malformed_digests_are_refused(book, ids, digests, reason):
    with pytest.raises(LedgerError, match=reason):
        book.record_digests("train", ids, digests)
    assert not book.consumed("train")


# Interruption, and several processes

BATCHES = st.lists(
    st.tuples(
        st.sampled_from(["train", "val", "test"]), st.lists(st.integers(0, N - 1), min_size=1, max_size=20)
    ),
    max_size=8,
)


def enter(book, batches):
    for stage, rows in batches:
        book.record(stage, *CACHE.take(np.asarray(rows)))
    return book


@settings(deadline=None, max_examples=60, derandomize=True)
@given(batches=BATCHES, cut=st.integers(0, 8))
def test_an_interrupted_ledger_goes_on_as_if_nothing_had_happened(batches, cut):
    whole = enter(Ledger(CACHE.digests), batches)
    state = json.loads(json.dumps(enter(Ledger(CACHE.digests), batches[:cut]).state()))
    again = enter(Ledger(CACHE.digests), batches[cut:])  # what it holds gives way to the state
    again.restore(state)
    assert enter(again, batches[cut:]).state() == whole.state()


@settings(deadline=None, max_examples=60, derandomize=True)
@given(first=BATCHES, second=BATCHES)
def test_merged_ledgers_hold_what_both_recorded_in_either_order(first, second):
    one, two = enter(Ledger(CACHE.digests), first), enter(Ledger(CACHE.digests), second)
    before = two.state()
    other = enter(Ledger(CACHE.digests), second)
    one.merge(two)
    other.merge(enter(Ledger(CACHE.digests), first))
    assert one.state() == other.state()
    assert two.state() == before
    for stage in ("train", "val", "test"):
        rows = [row for part, rows in first + second if part == stage for row in rows]
        assert one.consumed(stage) == Counter(CACHE.ids[rows])


@pytest.mark.parametrize("change", ["restore", "merge", "record_digests"])
def test_what_was_checked_must_be_checked_again_after_a_change(book, clean, tmp_path, change):
    found = consume(book, clean).check(clean, CLEAN, GROUPS)
    if change == "restore":
        book.restore(Ledger(CACHE.digests).state())
    elif change == "merge":
        book.merge(consume(Ledger(CACHE.digests), clean))
    else:
        book.record_digests("test", CACHE.ids[:1], digests_in([0]))
    with pytest.raises(LedgerError, match="not saved, since the ledger was not checked"):
        book.save(tmp_path / "cell.json", clean, CLEAN, found)
    with pytest.raises(LedgerError):
        book.check(clean, CLEAN, GROUPS)


def test_a_state_in_a_file(book, clean, tmp_path):
    path = consume(book, clean).save_state(tmp_path / "states" / "epoch.json")
    again = Ledger(CACHE.digests)
    again.load_state(path)
    assert again.state() == book.state()
    again.check(clean, CLEAN, GROUPS)
    assert [p.name for p in path.parent.iterdir()] == ["epoch.json"]


def broken_states():
    def changed(*keys, value):
        def change(state):
            place = state
            for key in keys[:-1]:
                place = place[key]
            place[keys[-1]] = value
            return state

        return change

    train = ("stages", "train")
    return {
        "another format": changed("format", value="leakfree-ledger-state-0"),
        "other images": changed("reference", value="0" * 64),
        "an id": changed(*train, "ids_by_times", value={"1": ["x"]}),
        "an id twice": changed(*train, "ids_by_times", value={"1": ["x", "x"]}),
        "zero times": changed(*train, "ids_by_times", value={"0": ["x"]}),
        "no number": changed(*train, "ids_by_times", value={"once": ["x"]}),
        "an id that is none": changed(*train, "ids_by_times", value={"1": [3]}),
        "its hash": changed(*train, "sha256", value="0" * 64),
        "more hashed than read": changed(*train, "rows_hashed", value=10**6),
        "less than nothing": changed(*train, "rows_hashed", value=-1),
        "half a row": changed(*train, "rows_hashed", value=0.5),
        "no number of batches": changed(*train, "batches", value=None),
        "a stage that is none": changed("stages", "val", value=[]),
        "stages that are none": changed("stages", value=["train"]),
        "a list": lambda state: [state],
        "nothing": lambda state: {},
    }


@pytest.mark.parametrize("what", list(broken_states()))
def test_a_state_that_was_changed_is_refused_and_nothing_is_lost(book, tmp_path, what):
    read(book, "train", [0, 1, 2, 2])
    state = broken_states()[what](json.loads(json.dumps(book.state())))
    (tmp_path / "state.json").write_text(json.dumps(state))
    before = book.state()
    with pytest.raises(LedgerError, match="ledger state") as raised:
        book.restore(state)
    assert "\n" not in str(raised.value)
    with pytest.raises(LedgerError, match=r"state\.json: .*ledger state"):
        book.load_state(tmp_path / "state.json")
    assert book.state() == before


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, None])
def test_a_state_file_that_cannot_be_read_says_so(book, tmp_path, content):
    path = tmp_path / "state.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"state\.json: not a ledger state"):
        book.load_state(path)


def test_ledgers_of_other_images_are_not_merged(book):
    with pytest.raises(LedgerError, match="their reference digests differ"):
        book.merge(Ledger(images(seed=1).digests))
    with pytest.raises(LedgerError, match="cannot be merged with itself"):
        book.merge(book)


# Which rows are hashed


@pytest.fixture
def places(monkeypatch):
    """Places in their batch of the rows that are hashed; images hold their place as their grey value."""
    hashed = []

    def spy(pixels):
        hashed.append(int(pixels[0, 0]))
        return 7

    monkeypatch.setattr(module, "pixel_digest", spy)
    return hashed


def batch_of(n):
    return ["same"] * n, np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None], (n, 2, 2))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 16, 31, 64])
def test_every_place_of_a_batch_is_hashed_over_batches(places, n):
    book = Ledger({"same": 7})
    for _ in range(min(CHECK_EVERY, n)):
        before = len(places)
        book.record("train", *batch_of(n))
        assert len(places) - before >= max(1, n // CHECK_EVERY)
    assert sorted(places) == list(range(n)), "each place once"


def test_short_last_batches_are_hashed_too(places):
    book = Ledger({"same": 7})
    for n in (64, 64, 3, 64, 64, 3, 64, 64, 3, 1, 1):
        before = len(places)
        book.record("train", *batch_of(n))
        assert len(places) > before
    book.record("train", *batch_of(0))


def test_every_place_is_hashed_also_when_stages_take_turns(places):
    """Seven batches of training and one of validation an epoch: validation must not keep one offset."""
    book, validation = Ledger({"same": 7}), set()
    for _ in range(2 * CHECK_EVERY):
        for _ in range(CHECK_EVERY - 1):
            book.record("train", *batch_of(CHECK_EVERY))
        before = len(places)
        book.record("val", *batch_of(CHECK_EVERY))
        validation.update(places[before:])
    assert validation == set(range(CHECK_EVERY))


# The file


def test_the_file_says_what_was_consumed(book, clean, tmp_path):
    found = consume(book, clean, epochs=3).check(clean, CLEAN, GROUPS)
    path = book.save(tmp_path / "ledgers" / "cell.json", clean, CLEAN, found)
    content = json.loads(path.read_text())
    stages = content.pop("stages")
    assert content == {
        "manifest": "clean-split",
        "manifest_hash": clean.hash,
        "protocol": "clean",
        "declared_leaks": [],
        "found_leaks": {"images": 0, "linked groups": 0},
        "agrees": True,
    }
    assert set(stages) == {"train", "val", "test"}
    for part, times in (("train", 3), ("val", 3), ("test", 1)):
        stage, ids = stages[part], clean.parts[part]
        assert stage["ids_by_times"] == {str(times): sorted(ids)}
        assert (stage["images"], stage["rows"]) == (len(ids), times * len(ids))
        assert len(ids) * times / CHECK_EVERY / 2 <= stage["rows_hashed"] < stage["rows"]
        # Anyone can recompute the hash from the ids of the file.
        lines = "".join(f"{i}\t{times}\n" for i in sorted(ids))
        assert stage["sha256"] == hashlib.sha256(lines.encode()).hexdigest()


def test_the_file_of_a_declared_leak_says_so(book, leaky, tmp_path):
    found = consume(book, leaky).check(leaky, IMAGE_LEVEL, GROUPS)
    content = json.loads(book.save(tmp_path / "cell.json", leaky, IMAGE_LEVEL, found).read_text())
    assert (content["protocol"], content["declared_leaks"]) == ("image-level", ["linked groups"])
    assert content["found_leaks"] == found
    assert found["linked groups"] > 0


def test_equal_runs_write_equal_files_whatever_the_order(clean, tmp_path):
    files = []
    for seed in (1, 2):
        book = Ledger(CACHE.digests)
        for part in clean.parts:
            rows = np.random.default_rng(seed).permutation(clean.rows(part, CACHE.ids))
            read(book, part, rows)
        found = book.check(clean, CLEAN, GROUPS)
        files.append(book.save(tmp_path / f"{seed}.json", clean, CLEAN, found).read_bytes())
    assert files[0] == files[1]


def test_a_ledger_that_was_not_checked_does_not_claim_to_agree(book, clean, tmp_path):
    study(clean, book, DeepLakeLoader)
    path = tmp_path / "cell.json"
    with suppress(LedgerError):
        book.save(path, clean, CLEAN, {"images": 0, "linked groups": 0})
    assert not path.exists() or json.loads(path.read_text())["agrees"] is not True


def test_consumed_hash_follows_ids_and_times_and_not_their_order():
    base = {"b": 2, "a": 1}
    assert consumed_hash(base) == hashlib.sha256(b"a\t1\nb\t2\n").hexdigest()
    assert consumed_hash(base) == consumed_hash(Counter("bab"))
    for other in ({"a": 1}, {"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 1, "c": 2}, {}):
        assert consumed_hash(other) != consumed_hash(base)
    assert consumed_hash({"name\udcff": 1}) == hashlib.sha256(b"name\xff\t1\n").hexdigest()
