"""The ledger around PyTorch's loaders, Deep Lake's adapter and array-based estimators."""

import json
import multiprocessing
import re
import signal
import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deferred import deferred
from leakfree.base.files import write_json
from leakfree.data.images import to_grey
from leakfree.split.protocols import CLEAN

with deferred:
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler
    from torch.utils.data import DataLoader, DistributedSampler, Subset

    from leakfree.data.pixels import pixel_digest
    from leakfree.ledger.ledger import Ledger, LedgerError
    from leakfree.ledger.loaders import Recorded, Stamp, Stamped, StampedRow, StampedStream, digests_of, watch
    from leakfree.split.manifest import Manifest, patient_level
    from recorded_images import (
        BATCH,
        DIGESTS,
        GROUPS,
        IDS,
        LABELS,
        PIXELS,
        SIZE,
        Both,
        ImageDicts,
        Images,
        ImageStream,
        N,
        scaled,
    )

#: What some rows have for pixels while nothing is imported yet.
FILM = np.zeros((8, 8), dtype=np.uint8)


@pytest.fixture
def manifest():
    strata = np.array(["a", "b"])[LABELS]
    groups = np.array(list(GROUPS.values()))
    return patient_level(IDS, groups, strata, seed=42, scope="series", name="clean-split")


@pytest.fixture
def book():
    return Ledger(DIGESTS)


def consume(book, manifest, parts=("train", "val", "test"), **options):
    for part in parts:
        loader = DataLoader(Subset(Stamped(Images()), manifest.rows(part, IDS)), BATCH, **options)
        for _ in watch(loader, book, part):
            pass
    return book


# The fault of the reference study, with PyTorch's own loader


def reference_loader(dataset, *, indices, batch_size, shuffle, num_workers=0):
    """Stands for `ds.pytorch(..., indices=train_idx)`: takes `indices` and makes a loader of everything."""
    loader = DataLoader(dataset, batch_size, shuffle=shuffle, num_workers=num_workers)
    loader.indices = indices
    return loader


def honest_loader(dataset, *, indices, batch_size, shuffle, num_workers=0):
    loader = DataLoader(Subset(dataset, indices), batch_size, shuffle=shuffle, num_workers=num_workers)
    loader.indices = indices
    return loader


def study(make_loader, manifest, book, num_workers=0):
    """Train, validate and test with every assertion of the reference study on its lists of indices."""
    indices = {part: manifest.rows(part, IDS).tolist() for part in manifest.parts}
    assert not set(indices["train"]) & set(indices["test"])
    assert not set(indices["train"]) & set(indices["val"])
    assert not {GROUPS[IDS[i]] for i in indices["train"]} & {GROUPS[IDS[i]] for i in indices["test"]}
    assert sorted(row for rows in indices.values() for row in rows) == list(range(N))
    for part, rows in indices.items():
        loader = make_loader(
            Stamped(Images(), scaled),
            indices=rows,
            batch_size=BATCH,
            shuffle=part == "train",
            num_workers=num_workers,
        )
        assert loader.indices == rows
        assert [IDS[i] for i in loader.indices] == list(manifest.parts[part])
        for ids, x, y in watch(loader, book, part):
            assert len(ids) == len(x) == len(y)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_reference_studys_loader_is_stopped(book, manifest, num_workers):
    study(reference_loader, manifest, book, num_workers)
    n = len(manifest.parts["train"])
    reason = f"clean-split: stage train consumed {N} images where the manifest has {n}: {N - n} of another"
    with pytest.raises(LedgerError, match=reason):
        book.check(manifest, CLEAN, GROUPS)


def test_the_same_study_with_an_honest_loader_passes(book, manifest):
    study(honest_loader, manifest, book)
    assert not any(book.check(manifest, CLEAN, GROUPS).values())


# Ids and pixels


@pytest.mark.parametrize("num_workers", [0, 2])
def test_another_rows_pixels_under_the_right_id_are_stopped(book, num_workers):
    faulty = PIXELS.copy()
    faulty[17] = PIXELS[18]
    loader = DataLoader(Stamped(Images(pixels=faulty)), BATCH, num_workers=num_workers)
    with pytest.raises(LedgerError, match=r"train: the pixels that came as '.*film-0017.*' are not that"):
        for _ in watch(loader, book, "train"):
            pass
    assert book.consumed("train") == Counter(IDS[:16]), "nothing of the batch that disagrees"


def test_augmentation_that_writes_into_the_data_set_is_stopped(book):
    """In-place augmentation of a cached array feeds the next epoch with pixels of nobody."""

    def darken(pixels):
        pixels //= 2
        return pixels

    loader = DataLoader(Stamped(Images(pixels=PIXELS.copy()), darken), BATCH)
    for _ in watch(loader, book, "train"):
        pass
    with pytest.raises(LedgerError, match=r"film-0000.jpeg' are not that image's"):
        next(iter(watch(loader, book, "train")))


def test_an_unknown_id_is_stopped():
    book = Ledger({image_id: DIGESTS[image_id] for image_id in IDS[:-1]})
    with pytest.raises(LedgerError, match=r"val: consumed '.*film-0059.jpeg', which is not in the cohort"):
        for _ in watch(DataLoader(Stamped(Images()), BATCH), book, "val"):
            pass


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((7, FILM), "a row has 7 where its stored id"),
        (("a", FILM / 255), "a: the digest is taken of uint8 pixels, not of float64"),
        (lambda: ("a", torch.zeros(2, 2)), "a: the digest is taken of uint8 pixels, not of float32"),
        (("a", None), "a: the digest is taken of uint8 pixels, not of NoneType"),
        (("a",), "a row is tuple, not a dict"),
        ("ab", "a row is str, not a dict"),
        (FILM, "a row is ndarray"),
        ({"image_id": "a", "image": 1}, "a row has no image_id or no pixels: image_id, image"),
    ],
)
def test_a_row_that_cannot_be_stamped_says_why(row, reason):
    with pytest.raises(LedgerError, match=re.escape(reason)):
        Stamped([row() if callable(row) else row])[0]


@pytest.mark.parametrize("collate", [None, lambda rows: torch.zeros(3), lambda rows: {"image_id": IDS[:2]}])
def test_a_loader_without_stamps_is_refused(book, collate):
    loader = DataLoader(Images(), BATCH, collate_fn=collate)
    with pytest.raises(LedgerError, match="train: a batch carries no stamp; wrap its dataset in Stamped"):
        next(iter(watch(loader, book, "train")))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6))
def test_every_digest_of_64_bits_survives_a_tensor(values):
    ids = [f"i{k}" for k in range(len(values))]
    signed = [value - 2**64 if value >= 2**63 else value for value in values]
    forms = [values, signed, np.array(values, dtype=np.uint64), torch.tensor(signed, dtype=torch.int64)]
    for digests in forms:
        book = Ledger(dict(zip(ids, values, strict=True)))
        book.record_digests("train", ids, digests)
        assert book.consumed("train") == Counter(ids)
    wrong = Ledger({**dict(zip(ids, values, strict=True)), ids[-1]: values[-1] ^ (1 << 63)})
    with pytest.raises(LedgerError, match="are not that image's"):
        wrong.record_digests("train", ids, signed)


def test_digests_above_63_bits_occur_and_pass_the_loader(book):
    assert any(digest >= 2**63 for digest in DIGESTS.values())
    batch = next(iter(DataLoader(Stamped(Images()), N)))
    assert isinstance(batch[0], Stamp)
    assert batch[0].digest.dtype == torch.int64
    assert [d % 2**64 for d in batch[0].digest.tolist()] == list(DIGESTS.values())


# Any loader


def test_workers_and_shuffling(book, manifest):
    consume(book, manifest, ("val", "test"))
    rows = manifest.rows("train", IDS)
    loader = DataLoader(
        Subset(Stamped(Images(), scaled), rows), BATCH, shuffle=True, num_workers=2, persistent_workers=True
    )
    watched = watch(loader, book, "train")
    assert len(watched) == len(loader) == -(-len(rows) // BATCH)
    orders = []
    for _ in range(2):
        orders.append([])
        for ids, x, y in watched:
            assert x.dtype == torch.float32
            assert x.shape[1:] == (1, SIZE, SIZE)
            assert [LABELS[IDS.index(i)] for i in ids] == y.tolist()
            assert torch.equal(x[0], scaled(PIXELS[IDS.index(ids[0])]))
            orders[-1] += ids
    assert orders[0] != orders[1]
    assert book.consumed("train") == Counter(dict.fromkeys(manifest.parts["train"], 2))
    book.check(manifest, CLEAN, GROUPS)


def test_a_worker_that_is_spawned_reads_the_same(book):
    """Windows and macOS start a fresh process, which is sent the data set: here one for both kinds."""
    dataset = Both(StampedStream(ImageStream(), scaled), Stamped(Images(), scaled))
    rows = [row for row in watch(DataLoader(dataset, BATCH, num_workers=0), book, "here")]
    options = {"num_workers": 1, "multiprocessing_context": "spawn"}
    for mine, theirs in zip(rows, watch(DataLoader(dataset, BATCH, **options), book, "train"), strict=True):
        assert mine[0] == theirs[0] and torch.equal(mine[1], theirs[1])
    assert book.consumed("train") == book.consumed("here") == Counter(dict.fromkeys(IDS, 2))


def test_rows_may_be_dicts_with_tensors(book):
    for batch in watch(DataLoader(Stamped(ImageDicts(), scaled), BATCH, num_workers=1), book, "train"):
        assert list(batch) == ["label", "image_id", "pixels"]
        assert all(isinstance(image_id, str) for image_id in batch["image_id"])
        assert batch["pixels"].dtype == torch.float32
    assert book.consumed("train") == Counter(IDS)


@pytest.mark.parametrize("collate", [list, lambda rows: list(zip(*rows, strict=True))])
def test_a_collation_of_ones_own_must_only_keep_the_stamps_in_place(book, collate):
    loader = DataLoader(Stamped(Images()), BATCH, collate_fn=collate)
    if collate is list:
        with pytest.raises(LedgerError, match="carries no stamp"):
            list(watch(loader, book, "train"))
        return
    for ids, _, _ in watch(loader, book, "train"):
        assert set(ids) <= set(IDS)
    assert book.consumed("train") == Counter(IDS)


def test_a_loader_that_does_not_batch(book):
    for image_id, pixels, _ in watch(DataLoader(Stamped(Images()), batch_size=None), book, "train"):
        assert isinstance(image_id, str)
        assert pixels.shape == (SIZE, SIZE)
    assert book.consumed("train") == Counter(IDS)


def test_breaking_out_leaves_only_what_was_yielded(book):
    """Workers have fetched further batches by then; nobody was given them."""
    seen = []
    loader = DataLoader(Stamped(Images()), BATCH, shuffle=True, num_workers=2, prefetch_factor=2)
    for step, (ids, _, _) in enumerate(watch(loader, book, "train")):
        seen += ids
        if step == 2:
            break
    assert book.consumed("train") == Counter(seen)
    assert len(seen) == 3 * BATCH


def test_a_data_set_that_reads_many_rows_at_once_is_asked_for_many(book):
    class Batched(Images):
        calls = 0

        def __getitems__(self, indices):
            Batched.calls += 1
            return [self[index] for index in indices]

    for _ in watch(DataLoader(Stamped(Batched()), BATCH), book, "train"):
        pass
    assert Batched.calls == -(-N // BATCH)
    assert book.consumed("train") == Counter(IDS)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_streams(book, num_workers):
    loader = DataLoader(StampedStream(ImageStream(), scaled), BATCH, num_workers=num_workers)
    for _, x, _ in watch(loader, book, "train"):
        assert x.dtype == torch.float32
    assert book.consumed("train") == Counter(IDS)


def test_a_stream_that_forgot_to_shard_scores_the_test_part_twice(book, manifest):
    consume(book, manifest, ("train", "val"))
    loader = DataLoader(StampedStream(ImageStream(sharded=False)), BATCH, num_workers=2)
    for _ in watch(loader, book, "test"):
        pass
    assert set(book.consumed("test").values()) == {2}
    with pytest.raises(LedgerError, match="stage test consumed"):
        book.check(manifest, CLEAN, GROUPS)


# Several processes


def ranks(manifest, part, tmp_path, **options):
    """Let two ranks read a part, each with a ledger of its own that goes to a file; return the files."""
    files = []
    for rank in range(2):
        data = Subset(Stamped(Images()), manifest.rows(part, IDS))
        sampler = DistributedSampler(data, num_replicas=2, rank=rank, **options)
        book = Ledger(DIGESTS)
        for epoch in range(1 if part == "test" else 2):
            sampler.set_epoch(epoch)
            for _ in watch(DataLoader(data, BATCH, sampler=sampler, num_workers=1), book, part):
                pass
        files.append(book.save_state(tmp_path / f"{part}-{rank}.json"))
    return files


def merged(files):
    whole = Ledger(DIGESTS)
    for file in files:
        one = Ledger(DIGESTS)
        one.load_state(file)
        whole.merge(one)
    return whole


def test_two_ranks_together_agree_with_the_manifest(manifest, tmp_path):
    assert len(manifest.parts["train"]) % 2 == 0, "nothing is padded"
    files = ranks(manifest, "train", tmp_path, shuffle=True)
    book = merged(files)
    consume(book, manifest, ("val", "test"))
    assert book.consumed("train") == Counter(dict.fromkeys(manifest.parts["train"], 2))
    book.check(manifest, CLEAN, GROUPS)
    alone = consume(merged(files[:1]), manifest, ("val", "test"))
    with pytest.raises(LedgerError, match=r"stage train .* missed"):
        alone.check(manifest, CLEAN, GROUPS)


def odd(manifest, part):
    """Make a part odd, so that the sampler pads it with a row that it gives twice."""
    cut = len(manifest.parts[part]) - (1 - len(manifest.parts[part]) % 2)
    parts = {**manifest.parts, part: manifest.parts[part][:cut]}
    return type(manifest)(**{**vars(manifest), "parts": parts})


def test_a_row_that_the_sampler_repeats_in_training_is_fine(manifest, tmp_path):
    manifest = odd(manifest, "train")
    book = merged(ranks(manifest, "train", tmp_path, shuffle=True))
    n = len(manifest.parts["train"])
    assert book.consumed("train").total() == 2 * (n + 1)
    consume(book, manifest, ("val", "test")).check(manifest, CLEAN, GROUPS)


def test_a_row_that_the_sampler_repeats_in_the_test_part_is_refused(manifest, tmp_path):
    manifest = odd(manifest, "test")
    book = merged(ranks(manifest, "test", tmp_path, shuffle=False))
    consume(book, manifest, ("train", "val"))
    with pytest.raises(LedgerError, match="the test part was scored more than once"):
        book.check(manifest, CLEAN, GROUPS)


def test_a_row_that_the_sampler_drops_from_the_test_part_is_refused(manifest, tmp_path):
    manifest = odd(manifest, "test")
    book = merged(ranks(manifest, "test", tmp_path, shuffle=False, drop_last=True))
    consume(book, manifest, ("train", "val"))
    with pytest.raises(LedgerError, match=r"stage test .* 1 missed"):
        book.check(manifest, CLEAN, GROUPS)


# Interruption


def train_two_epochs(folder, reached=None):
    """Train with a checkpoint after every step; with `reached`, hang in a step until someone kills us."""
    checkpoint, manifest = folder / "checkpoint.json", Manifest.load(folder / "manifest.json")
    book, first, done = Ledger(DIGESTS), 0, 0
    if checkpoint.exists():
        saved = json.loads(checkpoint.read_text())
        first, done = saved["epoch"], saved["done"]
        book.restore(saved["ledger"])
    rows = manifest.rows("train", IDS)
    for epoch in range(first, 2):
        order = np.random.default_rng(epoch).permutation(rows)[done:]
        loader = DataLoader(Subset(Stamped(Images(), scaled), order), BATCH, num_workers=1)
        for ids, _, _ in watch(loader, book, "train"):
            if reached is not None and epoch == 1 and done == 2 * BATCH:
                reached.set()
                time.sleep(60)
            done += len(ids)
            write_json(checkpoint, {"epoch": epoch, "done": done, "ledger": book.state()})
        done = 0
    book.save_state(folder / "done.json")


def test_a_killed_epoch_goes_on_from_its_checkpoint(manifest, tmp_path, monkeypatch):
    """The batch in hand when the process dies was entered and led to nothing: it must not count."""
    manifest.save(tmp_path / "manifest.json")
    processes = multiprocessing.get_context("fork")
    reached = processes.Event()
    # The process of its loader looks this often whether it is an orphan; until then it keeps `join` waiting.
    monkeypatch.setattr("torch.utils.data._utils.worker.MP_STATUS_CHECK_INTERVAL", 0.1)
    first = processes.Process(target=train_two_epochs, args=(tmp_path, reached))
    first.start()
    assert reached.wait(60)
    first.kill()
    first.join(60)
    assert first.exitcode == -signal.SIGKILL
    assert not (tmp_path / "done.json").exists()
    saved = json.loads((tmp_path / "checkpoint.json").read_text())
    assert (saved["epoch"], saved["done"]) == (1, 2 * BATCH)
    second = processes.Process(target=train_two_epochs, args=(tmp_path,))
    second.start()
    second.join(60)
    assert second.exitcode == 0
    book = Ledger(DIGESTS)
    book.load_state(tmp_path / "done.json")
    assert book.consumed("train") == Counter(dict.fromkeys(manifest.parts["train"], 2))
    consume(book, manifest, ("val", "test")).check(manifest, CLEAN, GROUPS)


# Deep Lake


@pytest.fixture(scope="module")
def lake(phantom_cohort):
    import deeplake

    return deeplake.open_read_only(str(phantom_cohort.path))


@pytest.fixture(scope="module")
def lake_digests(phantom_cohort):
    digests = {}
    for ids, blobs in phantom_cohort.iterate():
        digests |= {i: pixel_digest(to_grey(blob, 24)) for i, blob in zip(ids, blobs, strict=True)}
    return digests


def lake_manifest(cohort):
    table = cohort.table
    groups = np.arange(len(table)) // 4
    return patient_level(
        table["image_id"].to_numpy(), groups, np.zeros(len(table)), seed=1, scope="series", name="lake"
    ), dict(zip(table["image_id"], groups.tolist(), strict=True))


@pytest.mark.filterwarnings("ignore:Global variable")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_deep_lakes_adapter(lake, lake_digests, phantom_cohort, num_workers):
    manifest, groups = lake_manifest(phantom_cohort)
    ids = phantom_cohort.table["image_id"].tolist()
    data = lake.pytorch(transform=StampedRow(24, scaled, columns=["width", "mode"]))
    book = Ledger(lake_digests)
    for part in manifest.parts:
        rows = Subset(data, manifest.rows(part, ids))
        loader = DataLoader(rows, BATCH, shuffle=True, num_workers=num_workers)
        for some, x, width, mode in watch(loader, book, part):
            assert x.shape == (len(some), 1, 24, 24)
            assert (
                width.tolist() == phantom_cohort.table.set_index("image_id").loc[list(some), "width"].tolist()
            )
            assert set(mode) <= {"L", "RGB"}
    assert not any(book.check(manifest, CLEAN, groups).values())


def test_deep_lake_read_whole_in_place_of_a_part_is_stopped(lake, lake_digests, phantom_cohort):
    """The reference's fault with the real adapter: `ds.pytorch` has no `indices`, so all rows come."""
    manifest, groups = lake_manifest(phantom_cohort)
    loader = DataLoader(lake.pytorch(transform=StampedRow(24)), BATCH, shuffle=True)
    book = Ledger(lake_digests)
    for part in manifest.parts:
        for _ in watch(loader, book, part):
            pass
    with pytest.raises(LedgerError, match=f"stage train consumed {len(phantom_cohort)} images"):
        book.check(manifest, CLEAN, groups)


def test_deep_lake_at_another_size_or_with_bytes_of_another_row_is_stopped(lake, lake_digests):
    book = Ledger(lake_digests)
    with pytest.raises(LedgerError, match="are not that image's"):
        next(iter(watch(DataLoader(lake.pytorch(transform=StampedRow(32)), BATCH), book, "train")))

    class Swapped:
        def __len__(self):
            return len(lake)

        def __getitem__(self, index):
            return StampedRow(24)({"image_id": lake[index]["image_id"], "image": lake[index - 1]["image"]})

    with pytest.raises(LedgerError, match="are not that image's"):
        next(iter(watch(DataLoader(Swapped(), BATCH), book, "train")))
    assert not book.consumed("train")


# Array-based estimators


def pipeline():
    to_unit = FunctionTransformer(lambda x: x.astype(np.float32) / 255)
    return make_pipeline(to_unit, StandardScaler(), LogisticRegression())


@pytest.mark.parametrize("flat", [True, False])
def test_an_estimator_that_scales_inside(book, manifest, flat):
    pixels = PIXELS.reshape(N, -1) if flat else PIXELS
    rows = {part: manifest.rows(part, IDS) for part in manifest.parts}
    ids = {part: list(manifest.parts[part]) for part in manifest.parts}
    model = Recorded(pipeline(), book)
    assert model.fit(pixels[rows["train"]], LABELS[rows["train"]], ids=ids["train"]) is model
    validated = model.predict(pixels[rows["val"]], ids=ids["val"], stage="val")
    scored = model.predict_proba(pixels[rows["test"]], ids=ids["test"])
    plain = pipeline().fit(PIXELS.reshape(N, -1)[rows["train"]], LABELS[rows["train"]])
    assert np.array_equal(scored, plain.predict_proba(PIXELS.reshape(N, -1)[rows["test"]]))
    assert len(validated) == len(ids["val"])
    assert not any(book.check(manifest, CLEAN, GROUPS).values())
    model.predict(pixels[rows["test"]], ids=ids["test"])
    with pytest.raises(LedgerError, match="the test part was scored more than once"):
        book.check(manifest, CLEAN, GROUPS)


def test_an_estimator_given_everything_is_stopped(book, manifest):
    train, test = (list(manifest.parts[part]) for part in ("train", "test"))
    x = {part: PIXELS[manifest.rows(part, IDS)] for part in manifest.parts}
    model = Recorded(pipeline(), book)
    with pytest.raises(LedgerError, match=f"train: {len(train)} ids came with {N} images"):
        model.fit(PIXELS, LABELS, ids=train)
    with pytest.raises(LedgerError, match="are not that image's"):
        model.predict_proba(x["test"], ids=test[::-1])
    assert not book.consumed("test")
    model.fit(PIXELS, LABELS, ids=IDS)
    model.predict(x["val"], ids=list(manifest.parts["val"]), stage="val")
    model.predict(x["test"], ids=test)
    with pytest.raises(LedgerError, match=f"stage train consumed {N} images"):
        book.check(manifest, CLEAN, GROUPS)


def test_one_wrong_image_in_an_array_is_found_at_once(book):
    """An array is read once, so every row is hashed."""
    for row in range(0, N, 7):
        faulty = PIXELS.copy()
        faulty[row, 0, 0] ^= 1
        with pytest.raises(LedgerError, match=f"film-{row:04d}"):
            Recorded(pipeline(), book).fit(faulty, LABELS, ids=IDS)


def test_what_the_estimator_gets_is_what_was_recorded_and_settings_are_passed_on(book):
    class Spy:
        def fit(self, X, y, groups):
            self.given = X, y, groups

    spy = Spy()
    frame = pd.DataFrame({"id": IDS}, index=np.arange(N)[::-1])
    Recorded(spy, book).fit(PIXELS, LABELS, ids=frame["id"], groups="g")
    assert np.array_equal(spy.given[0], PIXELS.reshape(N, -1))
    assert spy.given[0].dtype == np.uint8
    assert spy.given[2] == "g"
    assert book.consumed("train") == Counter(IDS)


@pytest.mark.parametrize(
    ("both", "reason"),
    [
        (lambda: (IDS, PIXELS / 255), "needs uint8 pixels .* got float64"),
        (lambda: (IDS, PIXELS.reshape(-1)), "needs uint8 pixels"),
        (lambda: (IDS[1:], PIXELS), "59 ids came with 60 images"),
        (lambda: ([*IDS[1:], IDS[1]], PIXELS), "1 of 60 ids repeat another"),
    ],
)
def test_reference_digests_need_one_id_an_image(both, reason):
    ids, pixels = both()
    with pytest.raises(LedgerError, match=f"reference: {reason}"):
        digests_of(ids, pixels)


def test_reference_digests_do_not_depend_on_the_shape():
    assert digests_of(IDS, PIXELS.reshape(N, -1)) == DIGESTS
    assert {i: pixel_digest(image) for i, image in zip(IDS, PIXELS, strict=True)} == DIGESTS


# The page that shows it


@pytest.fixture
def page(repository, manifest, phantom_cohort, lake, tmp_path):
    """Code blocks of the page, and the names that its reader has."""
    text = (repository / "book" / "own_training_loop.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    network = torch.nn.Linear(SIZE * SIZE, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    scores = {}

    def step(network, x, y):
        loss = torch.nn.functional.cross_entropy(network(x.flatten(1)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def score(network, image_ids, x):
        scores.update(zip(image_ids, network(x.flatten(1)).tolist(), strict=True))

    names = {
        "ids": IDS, "pixels": PIXELS, "labels": LABELS, "dataset": Images(), "manifest": manifest,
        "groups": GROUPS, "prepare": scaled, "epochs": 2, "network": network, "step": step, "score": score,
        "folder": tmp_path, "checkpoint": tmp_path / "checkpoint.pt", "cohort": phantom_cohort,
        "store": lake, "rank": 0, "ranks": 1, "scores": scores,
    }  # fmt: skip
    return blocks, names


@pytest.mark.filterwarnings("error")
def test_the_page_does_what_it_says(page, manifest, phantom_cohort):
    (pytorch, arrays, deeplake, rank, merge, save, go_on), names = page
    statements = [line for line in pytorch.split("\n") if line and not line.startswith(("from", "import"))]
    assert len(statements) <= 11
    exec(pytorch, names)
    saved = json.loads((names["folder"] / "ledgers" / "mine.json").read_text())
    assert saved["manifest_hash"] == manifest.hash
    assert saved["stages"]["train"]["rows"] == 2 * len(manifest.parts["train"])
    assert set(names["scores"]) == {*manifest.parts["val"], *manifest.parts["test"]}
    exec(save, names)
    before = names["ledger"].state()
    names["ledger"] = Ledger(DIGESTS)
    exec(go_on, names)
    assert names["ledger"].state() == before
    exec(arrays, names)
    assert names["ledger"].consumed("train") == Counter(manifest.parts["train"])
    assert names["probabilities"].shape == (len(manifest.parts["test"]), 2)
    exec(deeplake, names)
    assert names["ledger"].consumed("train") == Counter(phantom_cohort.table["image_id"])
    exec(rank, names)
    exec(merge, names)
    assert names["whole"].state() == names["ledger"].state()


def test_the_page_stops_the_references_fault(page):
    """The page's own loop, over a loader that ignores the subset it is given."""
    blocks, names = page
    code = blocks[0].replace("DataLoader(rows[part], 32)", "DataLoader(rows[part].dataset, 32)")
    code = code.replace('DataLoader(rows["train"],', 'DataLoader(rows["train"].dataset,')
    assert code.count(".dataset,") == 2
    with pytest.raises(LedgerError, match=f"stage train consumed {N} images"):
        exec(code, names)
    assert not (names["folder"] / "ledgers").exists()
