"""Every format: images, parts, labels and patients are read, copies across parts found, damage told."""

import io
import json
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deferred import deferred
from leakfree.data.formats import FORMATS, list_items, module
from leakfree.data.formats.annotations import annotated
from leakfree.data.formats.base import FormatError, eight_bits, encoded, mosaic
from leakfree.data.inputs import open_input
from leakfree.data.raw import Item, Problem

with deferred:
    from leakfree.audit.auditor import AuditSettings, audit_images
    from leakfree.audit.target import open_target

    ONLY = AuditSettings(skip=("shortcuts", "shift", "near_duplicates"))


def picture(seed, size=(40, 48)):
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


def png(seed):
    stream = io.BytesIO()
    Image.fromarray(picture(seed)).save(stream, "PNG")
    return stream.getvalue()


TRAIN, TEST = (0, 1, 2, 3), (4, 5, 0)  # the last one of the test part is the first of training


def write_zip(root):
    with zipfile.ZipFile(root / "chest.zip", "w") as archive:
        for part, seeds in (("train", TRAIN), ("test", TEST)):
            for k, seed in enumerate(seeds):
                archive.writestr(f"chest/{part}/{'ab'[k % 2]}/{k}.png", png(seed))
        archive.writestr("__MACOSX/chest/train/a/._0.png", b"x")
    return root / "chest.zip"


def write_tar(root):
    for part, seeds in (("train", TRAIN), ("val", TEST)):
        with tarfile.open(root / f"{part}-000000.tar", "w") as archive:
            for k, seed in enumerate(seeds):
                described = json.dumps({"patient": f"{part}{k}"}).encode()
                for ending, data in (
                    ("png", png(seed)),
                    ("cls", b"ab"[k % 2 : k % 2 + 1]),
                    ("json", described),
                ):
                    entry = tarfile.TarInfo(f"{k:06d}.{ending}")
                    entry.size = len(data)
                    archive.addfile(entry, io.BytesIO(data))
    return root


def write_npz(root):
    arrays = {}
    for part, seeds in (("train", TRAIN), ("test", TEST)):
        arrays[f"{part}_images"] = np.stack([picture(seed) for seed in seeds])
        arrays[f"{part}_labels"] = np.arange(len(seeds)).reshape(-1, 1) % 2
    np.savez(root / "set.npz", **arrays)
    return root / "set.npz"


def write_hdf5(root):
    h5py = pytest.importorskip("h5py")
    for part, seeds in (("train", TRAIN), ("test", TEST)):
        with h5py.File(root / f"split_{part}_x.h5", "w") as file:
            file["x"] = np.stack([np.stack([picture(seed)] * 3, -1) for seed in seeds])
        with h5py.File(root / f"split_{part}_y.h5", "w") as file:
            file["y"] = np.arange(len(seeds)).reshape(-1, 1, 1, 1) % 2
        rows = "".join(f"{k},{part}{k}\n" for k in range(len(seeds)))
        (root / f"split_{part}_meta.csv").write_text(f"x,wsi\n{rows}")
    return root


def write_arrow(root, ending):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    for part, seeds in (("train", TRAIN), ("test", TEST)):
        table = pa.table(
            {
                "image": [{"bytes": png(seed), "path": None} for seed in seeds],
                "label": [k % 2 for k in range(len(seeds))],
                "patient_id": [f"{part}{k}" for k in range(len(seeds))],
            }
        )
        features = {"info": {"features": {"label": {"names": ["a", "b"]}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
        if ending == "parquet":
            pq.write_table(table, root / f"{part}-00000-of-00001.parquet")
            continue
        (root / part).mkdir()
        with (
            pa.OSFile(str(root / part / "data-00000-of-00001.arrow"), "wb") as sink,
            pa.ipc.new_stream(sink, table.schema) as stream,
        ):
            stream.write_table(table)
    return root


def write_dicom(path, seed, patient, monochrome="MONOCHROME2", bits=12, frames=1):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientID, data.Modality, data.StudyInstanceUID = patient, "CR", generate_uid()
    pixels = np.stack([picture(seed + k).astype(np.uint16) << (bits - 8) for k in range(frames)])
    pixels = (2**bits - 1) - pixels if monochrome == "MONOCHROME1" else pixels
    if frames > 1:
        data.NumberOfFrames = frames
    data.Rows, data.Columns = pixels.shape[1:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, monochrome
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, bits, bits - 1, 0
    data.PixelData = pixels.tobytes()
    pydicom.dcmwrite(path, data, enforce_file_format=True)


def write_dicoms(root):
    for part, seeds in (("train", TRAIN), ("test", TEST)):
        for k, seed in enumerate(seeds):
            # The copy is turned to the other way of writing grey.
            kind = "MONOCHROME1" if part == "test" else "MONOCHROME2"
            ending = "" if k == 1 else ".dcm"
            write_dicom(root / f"stage_2_{part}_images/{k}{ending}", seed, f"Anna^{part}{k}", kind)
    return root


def write_nifti(root):
    nibabel = pytest.importorskip("nibabel")
    for part, seeds in (("train", TRAIN), ("test", TEST)):
        for k, seed in enumerate(seeds):
            folder = root / part / f"BraTS20_Training_{part}{k}"
            folder.mkdir(parents=True)
            volume = np.stack([picture(10 * seed + s).astype(np.int16) for s in range(20)], -1)
            for kind in ("flair", "seg"):
                nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / f"{folder.name}_{kind}.nii.gz")
    return root


SETS = {
    "zip": write_zip, "tar": write_tar, "npz": write_npz, "hdf5": write_hdf5, "dicom": write_dicoms,
    "nifti": write_nifti, "parquet": lambda root: write_arrow(root, "parquet"),
    "arrow": lambda root: write_arrow(root, "arrow"),
}  # fmt: skip
KNOWN = {  # what each tells: labels, patients
    "zip": (2, 0), "tar": (2, 7), "npz": (2, 0), "hdf5": (2, 7), "dicom": (0, 7), "nifti": (0, 0),
    "parquet": (2, 7), "arrow": (2, 7),
}  # fmt: skip


@pytest.mark.parametrize("kind", SETS)
def test_a_copy_across_parts_is_found_in_every_format(tmp_path, kind):
    target = open_target(str(SETS[kind](tmp_path)))
    assert (
        len(target.table) == 7 and target.table["part"].nunique() == 2 and (target.table["part"] != "").all()
    )
    assert (target.reading.labels.different, target.reading.patients.different) == KNOWN[kind]
    report = audit_images(target, ONLY)
    assert report.leaks and report.checks["exact_duplicates"].count == 1
    assert len(report.checks["exact_duplicates"].files) == 2
    # The reader of a cluster's worker gives the same pictures.
    reader = pickle.loads(pickle.dumps(target.reader)).only([6, 0])
    assert list(reader.read([0, 1])) == [next(iter(target.reader.read([row]))) for row in (6, 0)]


def test_ids_of_headers_stay_out_of_the_report(tmp_path):
    root = write_dicoms(tmp_path)
    write_dicom(root / "stage_2_test_images/again.dcm", 77, "anna^TRAIN0")
    report = audit_images(open_target(str(root)), ONLY)
    assert report.checks["patients"].count == 1  # written in another case
    assert "anna" not in json.dumps(report.as_json()).lower()


def test_a_multi_frame_dicom_is_one_image_with_slices(tmp_path):
    write_dicom(tmp_path / "train/a.dcm", 3, "p", frames=4)
    data = next(iter(open_target(str(tmp_path)).reader.read([0])))
    assert Image.open(io.BytesIO(data)).size == (96, 80)


def test_every_frame_of_tiff_and_gif_is_read(tmp_path):
    for part, seeds in (("train", (0, 1)), ("test", (5, 1))):
        (tmp_path / part).mkdir()
        for ending in ("tif", "gif"):
            pages = [Image.fromarray(picture(seed)) for seed in seeds]
            pages[0].save(tmp_path / part / f"a.{ending}", save_all=True, append_images=pages[1:])
    target = open_target(str(tmp_path))
    assert len(target.table) == 8 and "train/a.tif#2" in set(target.table["image_id"])
    found = audit_images(target, ONLY).checks["exact_duplicates"]
    across = {file for file in found.details["across_parts"]["files"] if ".tif" in file}
    assert across == {"train/a.tif#2", "test/a.tif#2"}


def test_pages_are_counted_to_a_limit(tmp_path, monkeypatch):
    pages = [Image.fromarray(picture(seed)) for seed in range(4)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    monkeypatch.setattr(module("frames"), "MOST_FRAMES", 4)
    assert len(module("frames").items(str(tmp_path / "a.tif"), "a.tif")) == 4
    monkeypatch.setattr(module("frames"), "MOST_FRAMES", 3)
    with pytest.raises(FormatError, match="more than 3 frames or pages"):
        module("frames").items(str(tmp_path / "a.tif"), "a.tif")


def test_a_tile_of_a_page_is_as_large_as_it_says(tmp_path):
    tags = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1, 322: 32768, 323: 32768, 324: 8, 325: 0}
    size, data = 2 + 12 * len(tags) + 4, b"II*\0\x08\0\0\0"
    for following in (8 + size, 0):
        data += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", t, 4, 1, tags[t]) for t in tags)
        data += struct.pack("<I", following)
    (tmp_path / "a.tif").write_bytes(data)
    items, _ = list_items(tmp_path)
    assert [item.key for item in items] == ["0", "1"]
    for problem in module("frames").read(str(tmp_path / "a.tif"), ["0", "1"]):
        assert problem.reason == "corrupt: 32768 x 32768 pixels, over the limit of 100,000,000"


def test_a_first_page_that_all_stacks_share_makes_no_copies(tmp_path):
    for k in range(6):
        part = "train" if k < 4 else "test"
        (tmp_path / part).mkdir(exist_ok=True)
        pages = [Image.fromarray(picture(seed)) for seed in (99, 10 * k, 10 * k + 1, 10 * k + 2)]
        pages[0].save(tmp_path / part / f"{k}.tif", save_all=True, append_images=pages[1:])
    assert not audit_images(open_target(str(tmp_path)), ONLY).leaks
    pages = [Image.fromarray(picture(seed)) for seed in (98, 0, 1, 2)]  # the first stack, another first page
    pages[0].save(tmp_path / "test/copy.tif", save_all=True, append_images=pages[1:])
    assert audit_images(open_target(str(tmp_path)), ONLY).checks["exact_duplicates"].count == 3


def test_labels_of_coco_and_yolo(tmp_path):
    for part in ("train", "val"):
        for k in (1, 2):
            path = tmp_path / f"coco/{part}2017/{part}{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(k))
            path = tmp_path / f"yolo/images/{part}/{part}{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(k))
            text = tmp_path / f"yolo/labels/{part}/{part}{k}.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text("1 .5 .5 .1 .1\n0 .5 .5 .1 .1\n" if k == 1 else "")
    (tmp_path / "yolo/data.yaml").write_text("names: [opacity, nodule]\n")
    content = {
        "images": [{"id": 7, "file_name": "train1.png"}], "categories": [{"id": 3, "name": "nodule"}],
        "annotations": [{"image_id": 7, "category_id": 3}],
    }  # fmt: skip
    (tmp_path / "coco/annotations.json").write_text(json.dumps(content))
    yolo = open_target(str(tmp_path / "yolo"))
    assert set(yolo.table["label"]) == {"nodule|opacity", "nothing annotated"}
    assert yolo.reading.labels.source == "annotations of YOLO"
    coco = open_target(str(tmp_path / "coco")).table.set_index("image_id")["label"]
    assert coco["train2017/train1.png"] == "nodule" and coco["val2017/val1.png"] == ""


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.npz", "a.h5", "a.arrow", "a.dcm", "a.nii.gz"])
def test_a_damaged_file_is_a_problem_and_no_pass(tmp_path, name):
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    for part, seed in (("train", 0), ("test", 1)):
        (tmp_path / part / "x.png").write_bytes(png(seed))
    (tmp_path / "train" / name).write_bytes(b"no such thing at all" * 20)
    report = audit_images(open_target(str(tmp_path)), ONLY)
    (problem,) = report.problems
    assert problem["file"] == f"train/{name}" and "\n" not in problem["reason"]
    if problem["reason"].startswith("corrupt"):
        assert "PASS" not in {check.status for check in report.checks.values()}


def test_what_a_reader_trips_over_is_a_problem_of_its_file(tmp_path):
    """Each of these ended the command with an error of leakfree."""
    h5py = pytest.importorskip("h5py")
    images = np.zeros((3, 8, 8), np.uint8)
    np.savez(tmp_path / "short.npz", train_images=images, train_labels=np.zeros(2))
    (tmp_path / "torn.npz").write_bytes(b"PK\3\4 and no more")
    with (tmp_path / "one.npz").open("wb") as stream:
        np.save(stream, images)
    with h5py.File(tmp_path / "group.h5", "w") as content:
        content["x"] = images
        content.create_group("labels")
    items, problems = list_items(tmp_path)
    assert items == []
    told = {problem.file: problem.reason for problem in problems}
    assert set(told) == {"short.npz", "torn.npz", "one.npz", "group.h5"}
    assert not [reason for reason in told.values() if not reason.startswith("corrupt: ") or "\n" in reason]


def test_odd_annotations_tell_nothing(tmp_path):
    """Nor do they end the command, or keep it busy."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(png(0))
    deep = "[" * 100_000
    laughs = "a0: &a0 [x]\n" + "".join(
        f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 10)
    )
    images = [Item("images/a.png", str(tmp_path / "images" / "a.png"))]
    for name, text in (
        ("data.yaml", "names: {a: b}"), ("data.yaml", "names:"), ("data.yaml", f"names: {deep}"),
        ("data.yaml", laughs + "names: [*a9]"), ("labels.json", deep),
        ("labels.json", json.dumps({"images": [], "categories": [{"id": 0, "name": []}], "annotations": []})),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
        assert annotated(tmp_path, images, [Problem(name, "")]) == (images, "", [])
    (tmp_path / "labels" / "a.txt").write_text("² 0 0 1 1")
    assert annotated(tmp_path, images, [Problem("labels/a.txt", "")]) == (images, "", [])


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_that_unpacks_to_too_much_is_not_unpacked(tmp_path, monkeypatch, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("large.png", bytes(2_000_000))
            archive.writestr("small.png", png(0))
    else:
        with tarfile.open(path, "w") as archive:
            for name, data in (("large.png", bytes(2_000_000)), ("small.png", png(0))):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    monkeypatch.setattr(module("archive"), "MOST_BYTES", 1_000_000)
    large, small = module("archive").read(str(path), ["0", "1"])
    assert "unpacks to more than 1,000,000 bytes" in large.reason and small == png(0)


def test_a_format_whose_package_is_not_there_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.dcm").write_bytes(b"x")
    (tmp_path / "b.png").write_bytes(png(0))
    monkeypatch.setattr("leakfree.data.formats.missing_package", lambda name: "pydicom")
    assert list(open_target(str(tmp_path)).reading.left_out) == [
        ".dcm (DICOM, which `pip install pydicom` lets it read)"
    ]


def test_every_format_says_what_it_is():
    for name in FORMATS:
        found = module(name)
        assert found.NAME and found.SUFFIXES and isinstance(found.PACKAGE, str)
        assert Path(found.__file__).stem == name


def test_arrays_become_pictures_without_loss():
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert (np.asarray(Image.open(io.BytesIO(encoded(values)))) == values).all()
    assert eight_bits(np.array([0.0, 0.5, np.nan, np.inf])).tolist() == [0, 255, 0, 255]
    assert mosaic(np.ones((5, 2, 2), np.uint8)).shape == (4, 6)
    with pytest.raises(FormatError, match="no picture"):
        encoded(np.zeros((2, 2, 2, 2)))


@pytest.mark.parametrize("kind", ["external", "virtual", "link"])
def test_hdf5_whose_images_lie_in_other_files_is_refused(tmp_path, kind):
    """They may be any file of the machine, and what is kept of an audit goes by the file that was listed."""
    h5py = pytest.importorskip("h5py")
    stack = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    (tmp_path / "raw.bin").write_bytes(stack.tobytes())
    with h5py.File(tmp_path / "other.hdf5x", "w") as other:
        other["x"] = stack
    with h5py.File(tmp_path / "set_x.h5", "w") as content:
        if kind == "external":
            place = [(str(tmp_path / "raw.bin"), 0, stack.nbytes)]
            content.create_dataset("x", stack.shape, np.uint8, external=place)
        elif kind == "virtual":
            layout = h5py.VirtualLayout(stack.shape, np.uint8)
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.hdf5x"), "x", stack.shape)
            content.create_virtual_dataset("x", layout)
        else:
            content["x"] = h5py.ExternalLink(str(tmp_path / "other.hdf5x"), "x")
    items, problems = list_items(tmp_path)
    assert not items
    (reason,) = (problem.reason for problem in problems if problem.file == "set_x.h5")
    assert reason == "corrupt: its images lie in other files, which may be any: copy them into it"


def test_a_relative_path_is_read_from_where_this_process_is_now(tmp_path, monkeypatch):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_npz(tmp_path / name)
        # The process that decodes was started in the first folder.
        monkeypatch.chdir(tmp_path / name)
        opened = open_input(Path("set.npz"))
        assert len(opened.understood.table) == len(TRAIN) + len(TEST), name
        assert all(isinstance(data, bytes) for data in opened.reader.read(range(3))), name
        assert set(opened.reader.files) == {"set.npz"}
        Path("set.npz").rename("away.npz")
