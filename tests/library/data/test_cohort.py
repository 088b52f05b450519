import hashlib
import io
import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from PIL import Image

from deferred import deferred
from leakfree.base import provenance
from leakfree.data.cohort import CHUNK
from leakfree.data.sources import Problem, RawImage, SourceError
from leakfree.data.sources.folder import FolderSource

with deferred:
    import deeplake

    from leakfree.data.cohort import SEALED_PART, Cohort, CohortError, describe_problems, ingest
    from leakfree.data.open import open_cohort

COLUMNS = ["image_id", "label", "part", "person_num", "width", "height", "mode", "bytes", "sha256"]


class ListSource:
    """A source of given items; an exception among them is raised in its place."""

    def __init__(self, items, name="films"):
        self.items, self.name = items, name

    def __len__(self):
        return len(self.items)

    def __iter__(self):
        for item in self.items:
            if isinstance(item, BaseException):
                raise item
            yield item

    def fingerprint(self):
        return hashlib.sha256(repr(self.items).encode()).hexdigest()


def tiny(value):
    """A PNG of 4 x 3 pixels."""
    buffer = io.BytesIO()
    Image.new("L", (4, 3), value % 256).save(buffer, format="PNG")
    return buffer.getvalue() + value.to_bytes(4, "big")  # no two files alike; readers stop at IEND


def raw(number, label="normal", part="train", **more):
    return RawImage(f"{part}/film-{number}.png", tiny(number), label, part, **more)


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def images(write_folder, encode):
    """A folder of five good images in two parts."""
    return write_folder(
        {
            "train/NORMAL/IM-0001-0001.jpeg": encode("L", seed=1),
            "train/PNEUMONIA/person1_bacteria_1.jpeg": encode("RGB", seed=2),
            "train/PNEUMONIA/person1_virus_2.png": encode("RGBA", (40, 20), "PNG", seed=3),
            "test/NORMAL/IM-0002-0001.jpeg": encode("L", seed=4),
            "test/PNEUMONIA/person2_virus_3.jpeg": encode("L", seed=5),
        }
    )


@pytest.fixture
def damaged(images):
    """The same folder with one file of each kind that cannot be used."""
    (images / "train/NORMAL/IM-0003-0001.jpeg").write_bytes(b"not a film")
    (images / "train/NORMAL/IM-0004-0001.jpeg").write_bytes(b"")
    (images / "train/NORMAL/notes.txt").write_bytes(b"x")
    whole = (images / "train/NORMAL/IM-0001-0001.jpeg").read_bytes()
    (images / "train/NORMAL/IM-0005-0001.jpeg").write_bytes(whole[: len(whole) // 2])
    return images


def test_the_encoded_bytes_come_back_unchanged(images, tmp_path):
    cohort = ingest(FolderSource(images), tmp_path / "store")
    assert cohort.table.columns.tolist() == COLUMNS
    assert len(cohort) == len(cohort.table) == 5
    seen = []
    for ids, blobs in cohort.iterate():
        for image_id, blob in zip(ids, blobs, strict=True):
            assert blob == (images / image_id).read_bytes()
            seen.append(image_id)
    assert seen == cohort.table["image_id"].tolist() == sorted(seen)
    row = cohort.table.set_index("image_id").loc["train/PNEUMONIA/person1_virus_2.png"]
    data = (images / row.name).read_bytes()
    assert (row["width"], row["height"], row["mode"], row["bytes"]) == (40, 20, "RGBA", len(data))
    assert row["sha256"] == hashlib.sha256(data).hexdigest()
    assert (row["label"], row["part"]) == ("viral", "train")
    assert pd.isna(row["person_num"])


def test_chosen_rows_come_in_the_order_asked_for_across_chunks(tmp_path):
    cohort = ingest(ListSource([raw(i) for i in range(CHUNK + 40)]), tmp_path / "store")
    rows = [CHUNK + 39, 3, CHUNK, CHUNK - 1, *range(CHUNK), 3]
    chunks = list(cohort.iterate(rows))
    assert [len(ids) for ids, _ in chunks] == [CHUNK, len(rows) - CHUNK]
    found = [pair for ids, blobs in chunks for pair in zip(ids, blobs, strict=True)]
    assert found == [(f"train/film-{i}.png", tiny(i)) for i in rows]


def test_person_numbers_keep_what_is_missing(tmp_path):
    items = [raw(0), raw(1, "viral", person_num=0), raw(2, "bacterial", person_num=1008087)]
    numbers = ingest(ListSource(items), tmp_path / "store").table["person_num"]
    assert numbers.dtype == "Int64"
    assert numbers.isna().tolist() == [True, False, False]
    assert numbers[1:].tolist() == [0, 1008087]


def test_problems_stop_the_run_in_one_line_that_names_them(damaged, tmp_path):
    with pytest.raises(CohortError) as caught:
        ingest(FolderSource(damaged), tmp_path / "stores" / "store")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for text in (
        "2 corrupt",
        "1 empty",
        "1 foreign",
        "train/NORMAL/IM-0003-0001.jpeg (corrupt: not an image)",
        "train/NORMAL/IM-0004-0001.jpeg (empty)",
        "train/NORMAL/IM-0005-0001.jpeg (corrupt: ",
        "train/NORMAL/notes.txt (foreign: ",
        "--allow-problems",
    ):
        assert text in message
    assert entries(tmp_path / "stores") == []


def test_allowed_problems_stay_listed_and_are_left_out(damaged, tmp_path):
    cohort = ingest(FolderSource(damaged), tmp_path / "store", allow_problems=True)
    assert len(cohort) == 5
    for again in (cohort, Cohort(tmp_path / "store")):
        assert [p.file for p in again.problems] == [
            "train/NORMAL/IM-0003-0001.jpeg",
            "train/NORMAL/IM-0004-0001.jpeg",
            "train/NORMAL/IM-0005-0001.jpeg",
            "train/NORMAL/notes.txt",
        ]
        assert [p.reason.split(":")[0] for p in again.problems] == ["corrupt", "empty", "corrupt", "foreign"]
    assert not set(p.file for p in cohort.problems) & set(cohort.table["image_id"])
    assert cohort.class_counts()["images"].sum() == 5


def test_a_long_list_of_problems_is_shortened_but_counted():
    line = describe_problems("films", [Problem(f"f{i}.png", "empty") for i in range(9)])
    assert line.startswith("films: 9 empty ")
    assert "f4.png (empty); and 4 more" in line
    assert "f5.png" not in line
    assert "more" not in describe_problems("films", [Problem(f"f{i}.png", "empty") for i in range(5)])


@pytest.mark.parametrize("error", [SourceError("the line broke"), KeyboardInterrupt(), MemoryError()])
def test_a_failing_source_leaves_no_store(tmp_path, error):
    items = [raw(i) for i in range(CHUNK + 5)] + [error]
    with pytest.raises(type(error)):
        ingest(ListSource(items), tmp_path / "stores" / "store")
    assert entries(tmp_path / "stores") == []


@pytest.mark.skipif(os.name != "posix", reason="no SIGKILL")
def test_a_killed_ingest_leaves_no_store_at_the_target(images, tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from leakfree.data import cohort\n"
        "from leakfree.data.sources.folder import FolderSource\n"
        "cohort.os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        "cohort.ingest(FolderSource(Path(sys.argv[1])), Path(sys.argv[2]) / 'store')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, images, tmp_path / "s"], capture_output=True, check=False
    )
    assert done.returncode == -9
    assert not (tmp_path / "s" / "store").exists()
    assert len(ingest(FolderSource(images), tmp_path / "s" / "store")) == 5


def test_no_image_at_all_is_refused(tmp_path):
    with pytest.raises(CohortError, match=r"films: no image$"):
        ingest(ListSource([]), tmp_path / "s" / "store")
    with pytest.raises(CohortError, match=r"1 empty of the files cannot be used: a\.png"):
        ingest(ListSource([Problem("a.png", "empty")]), tmp_path / "s" / "store", allow_problems=True)
    assert entries(tmp_path / "s") == []


@pytest.mark.parametrize("apart", [1, CHUNK + 3])
def test_an_id_that_comes_twice_is_refused(tmp_path, apart):
    items = [raw(i) for i in range(apart)]
    with pytest.raises(CohortError, match=r"^train/film-0\.png: the source gives this id twice$"):
        ingest(ListSource([*items, raw(0)]), tmp_path / "s" / "store", allow_problems=True)
    assert entries(tmp_path / "s") == []


def test_names_outside_utf8_are_kept_readable(tmp_path):
    items = [
        RawImage("train/caf\udce9.png", tiny(1), "normal", "train"),
        RawImage("train/röntgen 胸.png", tiny(2), "normal", "train"),
        Problem("train/no\udce9.txt", "foreign: not the name of an image"),
    ]
    cohort = ingest(ListSource(items), tmp_path / "store", allow_problems=True)
    assert cohort.table["image_id"].tolist() == ["train/caf\\xe9.png", "train/röntgen 胸.png"]
    assert [ids for ids, _ in cohort.iterate()] == [cohort.table["image_id"].tolist()]
    assert cohort.problems == items[2:]


SEALED_ITEMS = [
    raw(0, "normal"),
    raw(1, "viral", person_num=4),
    raw(2, "bacterial", "test", person_num=5),
    raw(3, "viral", "test"),
    raw(4, "normal", "test"),
    raw(5, "viral", "val"),
    raw(6, "normal", "unsplit"),
]


def test_labels_of_the_official_test_part_stay_sealed(tmp_path):
    cohort = ingest(ListSource(SEALED_ITEMS), tmp_path / "store")
    sealed = cohort.table["part"] == SEALED_PART
    assert SEALED_PART == "test"
    assert sealed.sum() == 3
    assert set(cohort.table.loc[sealed, "label"]) == {"sealed"}
    assert cohort.table.loc[~sealed, "label"].tolist() == ["normal", "viral", "viral", "normal"]
    assert list(cohort.class_counts().itertuples(index=False, name=None)) == [
        ("train", "normal", 1),
        ("train", "viral", 1),
        ("val", "viral", 1),
        ("test", "normal", 1),
        ("test", "bacterial", 1),
        ("test", "viral", 1),
        ("unsplit", "normal", 1),
    ]
    development = cohort.development()
    assert development["part"].tolist() == ["train", "train", "unsplit"]
    assert development.index.tolist() == [0, 1, 6], "store rows, which iterate() takes"
    public = {name: value for name, value in vars(cohort).items() if not name.startswith("_")}
    assert set(public) == {"path", "name", "checksum", "code", "problems", "table"}


def test_a_cohort_of_the_test_part_alone_cannot_be_developed_on(tmp_path):
    cohort = ingest(ListSource(SEALED_ITEMS[2:6]), tmp_path / "store")
    with pytest.raises(CohortError, match="no image outside the official val and test parts"):
        cohort.development()


def test_the_checksum_follows_labels_bytes_ids_parts_and_numbers(tmp_path):
    def checksum(items, name="films"):
        shutil.rmtree(tmp_path / "store", ignore_errors=True)
        return ingest(ListSource(items, name), tmp_path / "store").checksum

    base = checksum(SEALED_ITEMS)
    assert checksum(SEALED_ITEMS, "another name") == base
    first, *rest = SEALED_ITEMS
    sealed = vars(rest[1])
    variants = {
        "label": [RawImage(**vars(first) | {"label": "viral"}), *rest],
        "byte": [RawImage(**vars(first) | {"data": first.data[:-1] + b"!"}), *rest],
        "id": [RawImage(**vars(first) | {"file": "train/other.png"}), *rest],
        "part": [RawImage(**vars(first) | {"part": "val"}), *rest],
        "number": [RawImage(**vars(first) | {"person_num": 0}), *rest],
        "sealed label": [first, rest[0], RawImage(**sealed | {"label": "viral"}), *rest[2:]],
        "order": [*rest, first],
        "fewer": rest,
    }
    sums = {name: checksum(items) for name, items in variants.items()}
    assert base not in sums.values()
    assert len(set(sums.values())) == len(sums)


def test_the_same_source_gives_the_same_cohort_on_any_number_of_threads(
    phantom_source, phantom_cohort, tmp_path
):
    again = ingest(phantom_source, tmp_path / "store", jobs=1)
    assert again.checksum == phantom_cohort.checksum
    pd.testing.assert_frame_equal(again.table, phantom_cohort.table)


def test_a_cached_store_is_found_again(images, tmp_path, monkeypatch):
    first = open_cohort(str(images), tmp_path / "cache")
    assert entries(tmp_path / "cache" / "cohorts") == [first.path.name]
    assert first.path.name.startswith("films-")
    monkeypatch.setattr("leakfree.data.open.ingest", None)  # calling it would raise
    again = open_cohort(str(images), tmp_path / "cache")
    assert again.path == first.path
    assert again.checksum == first.checksum


@pytest.mark.parametrize("changed", ["leakfree/data/images", "leakfree/data/sources/folder"])
def test_a_store_that_other_code_made_is_replaced(images, tmp_path, monkeypatch, changed):
    first = open_cohort(str(images), tmp_path / "cache")
    made = []
    monkeypatch.setattr(
        "leakfree.data.open.ingest",
        lambda *given, **options: made.append(given) or ingest(*given, **options),
    )
    kept = provenance.package_digest
    monkeypatch.setattr(
        provenance, "package_digest", lambda names: "new" if changed in names else kept(names)
    )
    again = open_cohort(str(images), tmp_path / "cache")
    assert len(made) == 1 and again.path == first.path and again.checksum == first.checksum
    open_cohort(str(images), tmp_path / "cache")
    assert len(made) == 1
    assert Cohort(again.path).checksum == first.checksum, "a store that is named is read as it is"


def test_a_changed_source_is_read_again(images, tmp_path):
    first = open_cohort(str(images), tmp_path / "cache")
    (images / "train/NORMAL/IM-0001-0001.jpeg").unlink()
    second = open_cohort(str(images), tmp_path / "cache")
    assert second.path != first.path
    assert (len(first), len(second)) == (5, 4)


def test_a_cached_store_with_problems_still_needs_the_flag(damaged, tmp_path):
    with pytest.raises(CohortError, match="2 corrupt"):
        open_cohort(str(damaged), tmp_path / "cache")
    assert len(open_cohort(str(damaged), tmp_path / "cache", allow_problems=True)) == 5
    with pytest.raises(CohortError, match="2 corrupt"):
        open_cohort(str(damaged), tmp_path / "cache")
    assert len(open_cohort(str(damaged), tmp_path / "cache", allow_problems=True).problems) == 4


def test_our_own_store_opens_by_its_path(phantom_cohort, tmp_path):
    opened = open_cohort(str(phantom_cohort.path), tmp_path / "cache")
    assert opened.path == phantom_cohort.path
    assert opened.checksum == phantom_cohort.checksum
    assert opened.name == "phantom"
    assert not (tmp_path / "cache").exists()


def test_the_phantom_takes_settings_and_refuses_unknown_ones(tmp_path):
    cohort = open_cohort("phantom", tmp_path, n_images=60, size=24)
    assert (cohort.name, len(cohort)) == ("phantom", 60)
    with pytest.raises(SourceError) as caught:
        open_cohort("phantom", tmp_path, n_imagse=60)
    assert "n_imagse" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(CohortError, match="nowhere: not a cohort store of leakfree"):
        Cohort(tmp_path / "nowhere")
    other = deeplake.create(str(tmp_path / "other"))
    other.commit()
    with pytest.raises(CohortError, match="other: not a cohort store of leakfree"):
        Cohort(tmp_path / "other")
    future = deeplake.create(str(tmp_path / "future"))
    future.metadata["leakfree"] = '{"format": "leakfree-cohort-99"}'
    future.commit()
    with pytest.raises(
        CohortError, match="store format leakfree-cohort-99, this version reads leakfree-cohort-1"
    ):
        Cohort(tmp_path / "future")


def test_progress_is_shown(images, tmp_path, capsys):
    ingest(FolderSource(images), tmp_path / "store")
    assert "ingest films" in capsys.readouterr().err


@pytest.mark.real
def test_real_images_are_all_there(real_cohort):
    cohort = real_cohort
    assert cohort.name == "chest_xray"
    assert len(cohort) == 5840
    assert not cohort.problems
    assert list(cohort.class_counts().itertuples(index=False, name=None)) == [
        ("train", "normal", 1341),
        ("train", "bacterial", 2530),
        ("train", "viral", 1345),
        ("test", "normal", 234),
        ("test", "bacterial", 242),
        ("test", "viral", 148),
    ]
    assert set(cohort.table.loc[cohort.table["part"] == "test", "label"]) == {"sealed"}
    assert len(cohort.development()) == 5216
    assert set(cohort.table["width"]) == set(cohort.table["height"]) == {224}
    sizes = cohort.table["sha256"].value_counts()
    assert ((sizes > 1).sum(), sizes[sizes > 1].sum()) == (30, 62)


@pytest.mark.real
def test_real_bytes_are_those_of_the_files(real_cohort, real_data):
    rows = list(range(0, 5840, 97))
    for ids, blobs in real_cohort.iterate(rows):
        for image_id, blob in zip(ids, blobs, strict=True):
            assert blob == (real_data / "chest_xray" / image_id).read_bytes()


@pytest.mark.real
def test_the_ingest_of_the_real_images_stays_in_memory(real_ingest):
    assert real_ingest[1] < 1.5


def test_an_image_that_cannot_become_grey_is_reported_not_met_in_training(write_folder, tmp_path, encode):
    buffer = io.BytesIO()
    Image.new("LAB", (40, 40)).save(buffer, "TIFF")
    files = {f"train/NORMAL/IM-{i:04d}-0001.jpeg": encode(seed=i) for i in range(3)}
    root = write_folder({**files, "train/NORMAL/IM-0009-0001.jpeg": buffer.getvalue()})
    with pytest.raises(CohortError, match="1 corrupt"):
        ingest(FolderSource(root), tmp_path / "store")
