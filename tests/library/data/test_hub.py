import hashlib
import os
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest

from deferred import deferred
from leakfree.data import bounded
from leakfree.data.cohort import CohortError, ingest
from leakfree.data.images import ImageError
from leakfree.data.open import open_cohort
from leakfree.data.sources import HUB_ADDRESS, Problem, SourceError, open_source, store
from leakfree.data.sources.hub import HubSource, is_deeplake

with deferred:
    import deeplake


def make_hub(path, images, labels, numbers, columns=("images", "labels", "person_num")):
    """Write a dataset with the hub's tensors; a number of None is an empty cell, as in the hub."""
    store = deeplake.create(str(path))
    kinds = {
        "images": deeplake.types.Bytes(),
        "labels": deeplake.types.Array("uint32", dimensions=1),
        "person_num": deeplake.types.Array("uint32", dimensions=1),
    }
    for name in columns:
        store.add_column(name, kinds[name])
    cells = {
        "images": images,
        "labels": [np.array([label], dtype=np.uint32) for label in labels],
        "person_num": [np.array([] if n is None else [n], dtype=np.uint32) for n in numbers],
    }
    store.append({name: cells[name] for name in columns})
    store.commit()
    return path


def test_a_storage_that_does_not_answer_is_one_line(monkeypatch):
    def waits(_module, _function, path, *_rows, clock):
        assert (path, clock) == ("s3://nope", 20)
        raise bounded.SilentError("takes longer")

    monkeypatch.setattr(bounded, "call", waits)
    with pytest.raises(SourceError, match=r"^s3://nope: no answer in 20 s: see the address"):
        open_source("s3://nope")


@pytest.fixture(scope="module")
def sample(real_data):
    """The real rows: version 3 data with the hub's tensors, items in order."""
    source = open_source(str(real_data / "hub_v3_sample"))
    assert isinstance(source, HubSource)
    return source, list(source)


@pytest.mark.real
def test_version_3_data_is_read_although_it_cannot_be_opened(real_data, sample):
    with pytest.raises(Exception):  # noqa: B017 - the reason why a query reads it
        deeplake.open_read_only(str(real_data / "hub_v3_sample"))
    source, items = sample
    assert len(source) == len(items) == 361
    assert source.name == "hub_v3_sample"
    assert {item.label for item in items} == {"normal", "bacterial"}
    assert {item.part for item in items} == {"train"}
    assert len({item.file for item in items}) == 361


@pytest.mark.real
def test_person_num_is_missing_for_every_normal_row_and_only_there(sample):
    _, items = sample
    for item in items:
        assert (item.person_num is None) == (item.label == "normal"), item.file
        assert item.person_num is None or item.person_num >= 1


@pytest.mark.real
def test_labels_and_numbers_are_those_of_the_files_with_the_same_bytes(real_data, sample):
    _, items = sample
    assert all(item.data.startswith(b"\xff\xd8") and item.data.endswith(b"\xff\xd9") for item in items)
    names = {}
    for file in (real_data / "chest_xray" / "train").rglob("*.jpeg"):
        names.setdefault(hashlib.sha256(file.read_bytes()).hexdigest(), []).append(file.name)
    known = {"bacteria": "bacterial", "virus": "viral"}
    found = 0
    for item in items:
        same = names.get(hashlib.sha256(item.data).hexdigest(), [])
        found += bool(same)
        for name in same[:1] if len(same) == 1 else []:
            if item.label == "normal":
                assert not name.startswith("person")
            else:
                person, etiology = name.split("_")[:2]
                assert known[etiology] == item.label
                assert int(person.removeprefix("person")) == item.person_num
    assert found == 361, "every row is a JPEG of the folder, byte for byte"


@pytest.mark.real
def test_a_converted_version_4_copy_reads_the_same(real_data, sample, tmp_path):
    copy = tmp_path / "hub_v3_sample"
    deeplake.convert(str(real_data / "hub_v3_sample"), str(copy))
    assert is_deeplake(copy)
    converted = open_source(str(copy))
    assert list(converted) == sample[1]
    assert converted.name == sample[0].name


@pytest.mark.real
def test_the_sample_becomes_a_cohort(sample, tmp_path):
    source, items = sample
    cohort = ingest(source, tmp_path / "store")
    assert not cohort.problems
    assert cohort.table["label"].tolist() == [item.label for item in items]
    assert cohort.table["person_num"].isna().tolist() == [item.person_num is None for item in items]
    assert cohort.table["sha256"][5] == hashlib.sha256(items[5].data).hexdigest()


def test_rows_of_the_hub_format(tmp_path, encode):
    images = [encode("L", seed=i) for i in range(3)]
    path = make_hub(tmp_path / "chest-xray-train", images, [0, 1, 2], [None, 7, 0])
    assert is_deeplake(path)
    items = list(open_source(str(path)))
    assert [i.data for i in items] == images
    assert [i.label for i in items] == ["normal", "bacterial", "viral"]
    assert [i.person_num for i in items] == [None, 7, 0], "zero is a number, not a missing one"
    assert [i.file for i in items] == ["row-00000", "row-00001", "row-00002"]


def test_rows_run_on_across_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("leakfree.data.sources.hub._CHUNK", 3)
    images = [bytes([i + 1]) * 4 for i in range(8)]
    path = make_hub(tmp_path / "rows", images, [1] * 8, range(8))
    items = list(HubSource(str(path)))
    assert [(i.file, i.data, i.person_num) for i in items] == [
        (f"row-{i:05d}", image, i) for i, image in enumerate(images)
    ]


def test_an_unknown_label_and_an_empty_image_are_problems(tmp_path, encode):
    path = make_hub(tmp_path / "rows", [encode(), encode(), b""], [0, 3, 1], [None, 1, 2])
    first, second, third = HubSource(str(path))
    assert first.label == "normal"
    assert second == Problem("row-00001", "foreign: label 3 is none of [0, 1, 2]")
    assert third == Problem("row-00002", "empty")
    with pytest.raises(CohortError, match=r"row-00001 \(foreign"):
        open_cohort(str(path), tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("chest-xray-train", "train"),
        ("chest-xray-test", "test"),
        ("chest-xray-val", "val"),
        ("chest-xray-pneumonia", "train"),
        pytest.param(
            "latest-xray",
            "train",
        ),
    ],
)
def test_the_part_is_read_from_the_address(tmp_path, encode, name, part):
    source = HubSource(str(make_hub(tmp_path / name, [encode()], [0], [None])))
    assert source.name == name
    assert next(iter(source)).part == part


def test_the_name_of_a_local_dataset_can_be_a_folder_name(tmp_path, encode, monkeypatch):
    monkeypatch.chdir(make_hub(tmp_path / "chest-xray-train", [encode()], [0], [None]))
    assert open_source(".").name == "chest-xray-train"


def test_a_missing_tensor_is_named(tmp_path, encode):
    path = make_hub(tmp_path / "rows", [encode()], [0], [None], columns=("images", "labels"))
    with pytest.raises(SourceError, match=r"rows: has no tensor person_num; found images, labels$"):
        open_source(str(path))


def test_the_fingerprint_follows_labels_and_numbers(tmp_path, encode):
    variants = [([0, 1], [None, 7]), ([0, 2], [None, 7]), ([0, 1], [None, 8]), ([0, 1], [7, None])]
    seen = set()
    for labels, numbers in variants:
        shutil.rmtree(tmp_path / "rows", ignore_errors=True)
        path = make_hub(tmp_path / "rows", [encode(), encode(seed=1)], labels, numbers)
        seen.add(HubSource(str(path)).fingerprint())
        assert HubSource(str(path)).fingerprint() in seen
    assert len(seen) == len(variants)


@pytest.fixture
def asked(monkeypatch):
    """Queries that deeplake was asked; it answers as it does offline, over several lines."""
    calls = []

    def query(text, **arguments):
        calls.append((text, arguments))
        raise RuntimeError(f"source is not found.\nErrors:\n  Source 1:\tMethod failed: GET {'x' * 500}")

    def call(_module, function, *arguments, clock=None):
        try:
            return getattr(store, function)(*arguments)
        except RuntimeError as error:
            raise ImageError(str(error)) from error

    monkeypatch.setattr(deeplake, "query", query)
    monkeypatch.setattr(bounded, "call", call)  # which asks in a process
    return calls


@pytest.mark.parametrize(
    ("data", "address"),
    [
        ("hub", HUB_ADDRESS),
        ("hub://activeloop/chest-xray-pneumonia", "hub://activeloop/chest-xray-pneumonia"),
        ("al://org/films", "al://org/films"),
        ("s3://bucket/films", "s3://bucket/films"),
    ],
)
def test_an_address_that_cannot_be_reached_is_one_clear_line(asked, tmp_path, data, address):
    with pytest.raises(SourceError) as caught:
        open_cohort(data, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{address}: cannot be read: source is not")
    assert len(message.splitlines()) == 1
    assert len(message) < 300
    assert asked == [(f'select * from "{address}"', {})]
    assert not any(tmp_path.iterdir())


def test_a_token_is_handed_on_and_never_shown(asked):
    with pytest.raises(SourceError) as caught:
        open_source("hub", token="s3cret")
    assert asked[0][1] == {"token": "s3cret"}
    assert "s3cret" not in str(caught.value)


def test_a_token_is_taken_from_the_environment(asked, monkeypatch):
    monkeypatch.setenv("ACTIVELOOP_TOKEN", "s3cret")
    with pytest.raises(SourceError) as caught:
        open_source("hub")
    assert asked[0][1] == {"token": "s3cret"}
    assert "s3cret" not in str(caught.value)


def test_an_address_cannot_end_the_query(asked):
    with pytest.raises(SourceError):
        open_source('hub://a/b" limit 1 --')
    assert asked[0][0].count('"') == 2


def test_an_unreachable_hub_stops_a_program_with_one_line():
    # Nobody owns this address, so the answer is the same with and without a network.
    code = (
        "import sys; from leakfree.data.sources import SourceError, open_source\n"
        "try: open_source('hub://leakfree-nobody/no-such-dataset')\n"
        "except SourceError as error: sys.exit(f'error: {error}')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: hub://leakfree-nobody/no-such-dataset: cannot be read: ")


def test_what_is_a_dataset(tmp_path, write_folder):
    assert not is_deeplake(tmp_path)
    assert not is_deeplake(tmp_path / "nowhere")
    assert is_deeplake(write_folder({"dataset_meta.json": b"{}"}))


# Of an address, which has no size, each part has a limit


def at_an_address(path):
    """Of a folder: the only kind of address that needs no network."""
    return f"file://{path}"


def test_an_address_is_read_as_a_folder_is(tmp_path, encode):
    images = [encode("L", seed=i) for i in range(40)]
    path = make_hub(tmp_path / "chest-xray-train", images, [0, 1] * 20, [None, 7] * 20)
    assert list(open_source(at_an_address(path))) == list(open_source(str(path)))
    assert len(open_cohort(at_an_address(path), tmp_path / "cache")) == 40


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="the limit on memory is one of Linux")
def test_a_bomb_at_an_address_ends_in_a_process_of_its_own(tmp_path, encode, monkeypatch):
    """Half of the machine is too much for a test: a hundredth of it stands for it."""
    monkeypatch.setattr(bounded, "_ALL_MEMORY", 256 << 20)
    images = [encode("L", seed=i) for i in range(3)]
    images[1] = bytes(200 << 20)  # packed to nothing
    path = make_hub(tmp_path / "rows", images, [0] * 3, [None] * 3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    items = list(HubSource(at_an_address(path)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 128 << 10
    assert [item.data for item in items[:1] + items[2:]] == images[:1] + images[2:]
    assert items[1].file == "row-00001"
    assert items[1].reason == "corrupt: takes more memory to decode than a few rows of a dataset may"


def test_rows_that_all_take_too_much_are_given_up(monkeypatch):
    asked = []

    def call(_module, function, _path, _token, *rows, clock=None):
        if function == "described":
            return {"rows": 10**6, "columns": ["images", "labels", "person_num"]}
        if function == "numbers":
            return [[0, []]] * (rows[1] - rows[0])
        asked.append(rows)
        raise bounded.TooLargeError("takes too much")

    monkeypatch.setattr(bounded, "call", call)
    with pytest.raises(SourceError, match=r"^hub://a/b: rows from 0: cannot be read: takes too much$"):
        list(HubSource("hub://a/b"))
    assert len(asked) < 40


def test_an_address_that_falls_silent_is_not_asked_for_every_row(monkeypatch):
    asked = []

    def call(_module, function, _path, _token, *rows, clock=None):
        if function == "described":
            return {"rows": 1000, "columns": ["images", "labels", "person_num"]}
        if function == "numbers":
            return [[0, []]] * (rows[1] - rows[0])
        asked.append(rows)
        raise bounded.SilentError("no answer")

    monkeypatch.setattr(bounded, "call", call)
    with pytest.raises(SourceError, match=r"^hub://a/b: rows from 0: cannot be read: no answer$"):
        list(HubSource("hub://a/b"))
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("rows", "told", "reason"),
    [(10**9, [], "1,000,000,000 rows are over 10,000,000"), (40, [[0, []]] * 3, "not as many as it says")],
)
def test_rows_that_a_dataset_does_not_have_are_one_line(monkeypatch, rows, told, reason):
    answers = {
        "described": {"rows": rows, "columns": ["images", "labels", "person_num"]},
        "numbers": told,
        "images": [""] * 3,
    }
    monkeypatch.setattr(bounded, "call", lambda _module, function, *_rest, **_more: answers[function])
    with pytest.raises(SourceError, match=reason):
        list(HubSource("hub://a/b"))
