"""A dataset that somebody sends is read in a process with limits first, and refused if it is over them."""

import io
import os
import resource

import numpy as np
import pytest
from PIL import Image

from conftest import encode_image
from deferred import deferred
from leakfree.data.bounded import size_on_disk
from leakfree.data.open import open_cohort
from leakfree.data.sources import SourceError
from leakfree.data.sources.store import read_all, refuse_bomb

with deferred:
    import deeplake


def dataset(path, images, labels=None):
    """Write a dataset in the hub's format; labels that are pictures are stored as they are packed."""
    store = deeplake.create(str(path))
    store.add_column("images", deeplake.types.Bytes())
    number = deeplake.types.Array("uint32", dimensions=1)
    kind = number if labels is None else deeplake.types.Image(dtype="uint8", sample_compression="png")
    store.add_column("labels", kind)
    store.add_column("person_num", number)
    ones = [np.ones(1, np.uint32)] * len(images)
    store.append({"images": images, "labels": ones if labels is None else labels, "person_num": ones})
    store.commit()
    return path


def test_a_good_dataset_is_read_whole(tmp_path):
    path = dataset(tmp_path / "rows", [encode_image(seed=seed) for seed in range(3)])
    refuse_bomb(path)
    assert read_all(str(path)) == 3
    assert len(open_cohort(str(path), tmp_path / "cache")) == 3


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="the limit on memory is one of Linux")
def test_a_small_dataset_with_gigabytes_inside_is_one_line_and_is_not_read_here(tmp_path):
    buffer = io.BytesIO()
    Image.new("L", (12_000, 12_000)).save(buffer, "PNG")
    path = dataset(tmp_path / "rows", [encode_image()] * 12, [buffer.getvalue()] * 12)
    assert size_on_disk(str(path)) < 4 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SourceError, match="rows: cannot be read: takes more memory to decode than a file of"):
        open_cohort(str(path), tmp_path / "cache")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10


def test_what_is_no_dataset_is_one_line(tmp_path, write_folder):
    path = write_folder({"_deeplake_log/_meta/next_base": b"x"})
    with pytest.raises(SourceError, match=r"cannot be read: ") as caught:
        open_cohort(str(path), tmp_path / "cache")
    assert len(str(caught.value).splitlines()) == 1


def test_the_size_of_a_folder_is_that_of_its_files(write_folder):
    folder = write_folder({"a/b.bin": bytes(5000), "c.bin": bytes(3000)})
    assert 8000 <= size_on_disk(str(folder)) <= 8000 + 2 * 4096
    os.truncate(folder / "c.bin", 1 << 30)
    assert size_on_disk(str(folder)) < 1 << 20
