"""No file of any format takes more time or memory than its size on disk allows, whatever it says it holds."""

import gzip
import io
import os
import struct
import sys
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from deferred import deferred
from leakfree.data import bounded
from leakfree.data.formats import file_items, list_items, plain_bytes
from leakfree.data.images import ImageError
from leakfree.data.raw import Item, Problem

with deferred:
    from leakfree.audit.auditor import AuditSettings, audit_images
    from leakfree.audit.target import open_target
    from leakfree.data.reading.tables import TableError, read_list, read_table

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits on memory are those of Linux")

ZEROS = bytes(1 << 20)
MEGABYTES = 200


@pytest.fixture(autouse=True)
def tight(monkeypatch):
    """Limits that a bomb of a second meets as one of an hour does: of processor time, not of a busy clock."""
    monkeypatch.setattr(bounded, "FILE_SECONDS", 0.3)
    monkeypatch.setattr(bounded, "FILE_SECONDS_A_MEGABYTE", 0.1)
    monkeypatch.setattr(bounded, "FILE_MEMORY", 128 << 20)
    monkeypatch.setattr(bounded, "_left", {})
    monkeypatch.setattr(bounded, "_PATIENCE", 10_000)


def npz(path):
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("train_images.npy", "w", force_zip64=True) as stream,
    ):
        about = {"descr": "|u1", "fortran_order": False, "shape": (MEGABYTES, 1024, 1024)}
        np.lib.format.write_array_header_1_0(stream, about)
        for _ in range(MEGABYTES):
            stream.write(ZEROS)


def hdf5_rows(path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as content:
        content.create_dataset("x", (200_000, 64, 64), np.uint8, chunks=(1, 64, 64))


def hdf5_chunk(path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as content:
        shape = (1, 14_000, 15_000)
        data = content.create_dataset("x", shape, np.uint8, chunks=shape, compression="gzip")
        squeeze = zlib.compressobj(1)
        packed = b"".join(squeeze.compress(bytes(1_000_000)) for _ in range(210)) + squeeze.flush()
        data.id.write_direct_chunk((0, 0, 0), packed)


def nifti(path, sides=(32767, 32767, 32767), megabytes=0):
    pytest.importorskip("nibabel")
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, *sides, 1, 1, 1, 1)
    struct.pack_into("<hh", head, 70, 4, 16)
    struct.pack_into("<8f", head, 76, *[1] * 8)
    struct.pack_into("<ff", head, 108, 352.0, 1.0)
    head[344:348] = b"n+1\0"
    packed = path.suffix == ".gz"
    # Packed, the same piece again and again: packing each of them would take longer than the test.
    pieces, piece = (megabytes // 100, gzip.compress(100 * ZEROS, 1)) if packed else (megabytes, ZEROS)
    with path.open("wb") as stream:
        stream.write(gzip.compress(bytes(head)) if packed else bytes(head))
        for _ in range(pieces):
            stream.write(piece)


def dicom(path, frames=2**31 - 1, packed=0):
    pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.filewriter import write_file_meta_info

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99" if packed else "1.2.840.10008.1.2.1"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    head = io.BytesIO()
    write_file_meta_info(head, meta)
    if packed:
        squeeze = zlib.compressobj(1, wbits=-15)
        body = squeeze.compress(struct.pack("<HH2sHI", 9, 0x1010, b"OB", 0, packed << 20))
        body += b"".join(squeeze.compress(ZEROS) for _ in range(packed)) + squeeze.flush()
    else:
        data = Dataset()
        data.PatientID, data.Rows, data.Columns, data.NumberOfFrames = "p", 512, 512, frames
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
        data.PixelData = bytes(1000)
        whole = io.BytesIO()
        data.save_as(whole, implicit_vr=False, little_endian=True)
        body = whole.getvalue()
    path.write_bytes(bytes(128) + b"DICM" + head.getvalue() + body)


def gif(path, frames, side):
    buffer = io.BytesIO()
    Image.new("L", (side, side)).save(buffer, "GIF")
    one = buffer.getvalue()
    begins = one.index(b",")
    path.write_bytes(one[:begins] + one[begins:-1] * frames + b";")


def parquet(path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table({"image": pa.array([ZEROS] * MEGABYTES, pa.binary())})
    pq.write_table(table, path, use_dictionary=True, compression="zstd")


def tgz(path):
    """Write an archive of one entry that unpacks to 4 GB: more than any machine reads in the time."""
    entry = tarfile.TarInfo("a.bin")
    entry.size = 4 << 30
    zeros = gzip.compress(bytes(128 << 20), 9)
    path.write_bytes(gzip.compress(entry.tobuf(tarfile.PAX_FORMAT)) + 32 * zeros)


FILES = {
    "a.npz": npz, "rows.h5": hdf5_rows, "chunk.h5": hdf5_chunk, "a.nii": nifti,
    "b.nii.gz": lambda path: nifti(path, (2048, 2048, 100), 100 * 8),
    "frames.dcm": dicom, "deflated.dcm": lambda path: dicom(path, packed=MEGABYTES),
    "frames.gif": lambda path: gif(path, 30_000, 8), "large.gif": lambda path: gif(path, 60, 5000),
    "a.parquet": parquet, "a.tgz": tgz,
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_one_reason_and_the_rest_is_audited(tmp_path, name):
    for part, k in (("train", 0), ("train", 1), ("test", 2)):
        (tmp_path / part).mkdir(exist_ok=True)
        noise = np.random.default_rng(k).integers(0, 256, (32, 32), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / part / f"{k}.png")
    FILES[name](tmp_path / "train" / name)
    target = open_target(str(tmp_path))
    report = audit_images(target, AuditSettings(skip=("shortcuts", "shift", "framing", "metadata")))
    assert {"train/0.png", "train/1.png", "test/2.png"} <= set(target.table["image_id"])
    assert report.problems and not [p for p in report.problems if not p["file"].startswith(f"train/{name}")]
    for problem in report.problems:
        assert problem["reason"].startswith("corrupt: ") and "\n" not in problem["reason"]
    assert "PASS" not in {check.status for check in report.checks.values()}


def test_all_pictures_of_a_file_have_one_time_together(tmp_path):
    gif(tmp_path / "a.gif", 400, 1500)
    gif(tmp_path / "b.gif", 2, 30)
    items, problems = list_items(tmp_path)
    assert len(items) == 402 and not problems
    keys = [item.key for item in items if item.path.endswith("a.gif")]
    name = "leakfree.data.formats.frames"
    told = [one for key in keys for one in bounded.pictures(name, str(tmp_path / "a.gif"), [key])]
    slow = [one for one in told if one == f"corrupt: {bounded._SLOW.format(bounded._FILE)}"]
    read = [one for one in told if isinstance(one, bytes)]
    assert read and slow and len(read) + len(slow) == 400
    assert told[-1] in slow  # nor is it tried again for each of them
    assert all(isinstance(one, bytes) for one in bounded.pictures(name, str(tmp_path / "b.gif"), ["0", "1"]))
    # Listed again, it is read again.
    file_items(tmp_path / "a.gif", "a.gif")
    assert isinstance(next(bounded.pictures(name, str(tmp_path / "a.gif"), ["0"])), bytes)


def test_one_bad_picture_leaves_those_after_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for k in range(4):
            archive.writestr(f"{k}.png", bytes([k]) * 100)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.index(bytes([2]) * 100)] ^= 1  # its checksum is wrong now
    (tmp_path / "a.zip").write_bytes(data)
    told = list(bounded.pictures("leakfree.data.formats.archive", str(tmp_path / "a.zip"), list("0123")))
    assert told[:2] + told[3:] == [bytes([k]) * 100 for k in (0, 1, 3)] and "Bad CRC" in told[2]


def test_a_table_that_unpacks_to_too_much_is_one_reason(tmp_path, monkeypatch):
    monkeypatch.setattr("leakfree.data.reading.tables._MEMORY", 8)
    with gzip.open(tmp_path / "a.csv.gz", "wb", 1) as stream:
        stream.write(b"path,label\n")
        for _ in range(60):
            stream.write(b"a.png,b\n" * 125_000)
    (tmp_path / "a.json").write_bytes(b"[" + b"{}," * 2_500_000 + b"{}]")
    (tmp_path / "b.jsonl").write_bytes(b"[" * 200_000)
    for name, read in (
        ("a.csv.gz", read_table), ("a.csv.gz", read_list), ("a.json", read_table), ("b.jsonl", read_list),
    ):  # fmt: skip
        with pytest.raises(TableError) as told:
            read(tmp_path / name)
        assert str(told.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(told.value)


def test_annotations_that_take_too_much_are_no_pass(tmp_path):
    (tmp_path / "train").mkdir()
    Image.new("L", (32, 32)).save(tmp_path / "train" / "a.png")
    (tmp_path / "coco.json").write_bytes(b'{"images": [' + b"[]," * 4_000_000 + b"[]]}")
    (problem,) = open_target(str(tmp_path)).problems
    assert problem.file == "coco.json" and "of its size needs" in problem.reason


def test_holes_are_not_on_disk(tmp_path):
    path = tmp_path / "a.png"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
    assert bounded.size_on_disk(str(path)) < 1 << 30 or os.stat(path).st_blocks == 0
    assert "no picture has so many" in plain_bytes("a.png", str(path)).reason


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    assert file_items(tmp_path / "a.npz", "a.npz") == ([], [Problem("a.npz", "foreign: not a regular file")])
    with pytest.raises(ImageError, match="No such file"):
        bounded.call("leakfree.data.formats.npz", "items", str(tmp_path / "b.npz"), "b.npz")


def test_what_sleeps_is_ended_by_the_clock(tmp_path, monkeypatch):
    """It takes no processor time: here a pipe that nobody writes to."""
    os.mkfifo(tmp_path / "a.npz")
    monkeypatch.setattr(bounded, "_PATIENCE", 3)
    with pytest.raises(ImageError, match="takes longer to decode than a file of its size needs"):
        bounded.call("leakfree.data.formats.npz", "items", str(tmp_path / "a.npz"), "a.npz")


def test_loading_a_reader_is_not_held_against_the_file(tmp_path, monkeypatch):
    """A package may take longer to load, in each new process, than a small file has."""
    package = tmp_path / "slow_to_load.py"
    package.write_text(
        "import time\n"
        "end = time.process_time() + 0.6\n"
        "while time.process_time() < end: pass\n"
        "def read(path, keys):\n"
        "    yield from (key.encode() for key in keys)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(bounded, "_kept", None)
    for key in "012":
        assert list(bounded.pictures("slow_to_load", str(package), [key])) == [key.encode()]


def test_items_come_back_as_they_were(tmp_path):
    """Also names that are not UTF-8, and fields of headers."""
    path = tmp_path / "a\udcff.npz"
    np.savez(path, train_images=np.zeros((2, 4, 4), np.uint8), train_labels=np.arange(2))
    items, _ = file_items(path, path.name)
    assert items[1] == Item(f"{path.name}/train/1", str(path), "npz", "train_images:1", "train", "1")
