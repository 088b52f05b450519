import os
import sys
from pathlib import Path

import pytest

from leakfree.data.files import list_files
from leakfree.data.names import label_from_path
from leakfree.data.raw import LABELS, Problem, RawImage, SourceError
from leakfree.data.sources import open_source
from leakfree.data.sources.folder import FolderSource

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX names and links")


def test_images_come_as_they_are(write_folder, encode):
    files = {
        "train/NORMAL/IM-0115-0001.jpeg": encode("L", seed=1),
        "train/PNEUMONIA/person7_virus_8.png": encode("RGBA", format="PNG", seed=2),
        "test/PNEUMONIA/person7_bacteria_8.jpeg": encode("RGB", seed=3),
    }
    source = open_source(str(write_folder(files, "my films")))
    assert isinstance(source, FolderSource)
    assert source.name == "my-films"
    assert len(source) == 3
    found = {image.file: image for image in source}
    assert {file: image.data for file, image in found.items()} == files
    assert found["train/NORMAL/IM-0115-0001.jpeg"] == RawImage(
        "train/NORMAL/IM-0115-0001.jpeg", files["train/NORMAL/IM-0115-0001.jpeg"], "normal", "train", None
    )
    assert [(i.label, i.part) for i in source] == [
        ("bacterial", "test"),
        ("normal", "train"),
        ("viral", "train"),
    ]


def test_the_order_is_that_of_the_relative_paths(write_folder):
    files = [
        "train/PNEUMONIA/person1_virus_1.jpeg",
        "train/NORMAL/NORMAL2-IM-0001-0001.jpeg",
        "train/NORMAL/IM-0002-0001.jpeg",
        "train/NORMAL/IM-0001-0001.jpeg",
        "train/NORMAL-old/NORMAL/IM-0001-0001.jpeg",  # a walk would put it after the files of NORMAL
        "test/PNEUMONIA/person10_virus_1.jpeg",
        "test/PNEUMONIA/person2_virus_1.jpeg",
    ]
    source = FolderSource(write_folder({file: b"x" for file in files}))
    assert [image.file for image in source] == sorted(files)


def test_what_cannot_be_an_image_is_listed_by_name(write_folder):
    root = write_folder(
        {
            "train/NORMAL/IM-0001-0001.jpeg": b"data",
            "train/NORMAL/IM-0002-0001.jpeg": b"",
            "train/NORMAL/.DS_Store": b"x",
            "train/NORMAL/notes.txt": b"x",
            "train/scan.png": b"x",
            "README": b"x",
            "train/NORMAL/x.DCM": b"x",
        }
    )
    items = {item.file: item for item in FolderSource(root)}
    assert len(items) == len(FolderSource(root)) == 7
    assert isinstance(items.pop("train/NORMAL/IM-0001-0001.jpeg"), RawImage)
    assert {file: item.reason for file, item in items.items()} == {
        "train/NORMAL/IM-0002-0001.jpeg": "empty",
        "train/NORMAL/.DS_Store": "foreign: not the name of an image",
        "train/NORMAL/notes.txt": "foreign: not the name of an image",
        "train/scan.png": "foreign: neither folder nor name tells the class",
        "README": "foreign: not the name of an image",
        "train/NORMAL/x.DCM": "foreign: not the name of an image: DICOM, to be exported as PNG or JPEG",
    }


def test_an_unreadable_file_is_listed(write_folder, monkeypatch):
    root = write_folder({"NORMAL/IM-0001-0001.jpeg": b"a", "NORMAL/IM-0002-0001.jpeg": b"b"})
    read = Path.read_bytes

    def refuse(path):
        if path.name == "IM-0002-0001.jpeg":  # permissions would not stop root
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    first, second = FolderSource(root)
    assert first.data == b"a"
    assert second == Problem("NORMAL/IM-0002-0001.jpeg", "unreadable: Permission denied")


@posix
def test_a_dangling_link_is_listed_and_a_good_one_followed(write_folder, tmp_path):
    root = write_folder({"NORMAL/IM-0001-0001.jpeg": b"a"})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "IM-0009-0001.jpeg").write_bytes(b"far")
    (root / "NORMAL" / "IM-0002-0001.jpeg").symlink_to(tmp_path / "nowhere.jpeg")
    (root / "NORMAL" / "IM-0003-0001.jpeg").symlink_to(tmp_path / "elsewhere" / "IM-0009-0001.jpeg")
    (root / "NORMAL" / "IM-0004-0001.jpeg").symlink_to("IM-0004-0001.jpeg")
    (root / "NORMAL" / "more").symlink_to(tmp_path / "elsewhere")
    items = {item.file: item for item in FolderSource(root)}
    assert items["NORMAL/IM-0002-0001.jpeg"].reason == "unreadable: No such file or directory"
    assert items["NORMAL/IM-0003-0001.jpeg"].data == b"far"
    assert items["NORMAL/IM-0004-0001.jpeg"].reason.startswith("unreadable: ")
    assert items["NORMAL/more/IM-0009-0001.jpeg"].data == b"far"
    assert len(items) == 5


@posix
@pytest.mark.parametrize(
    ("at", "to"), [("NORMAL/up", "."), ("NORMAL/top", ".."), ("train/a/b/far", "../../..")]
)
def test_a_link_loop_is_refused(write_folder, at, to):
    root = write_folder({"NORMAL/IM-0001-0001.jpeg": b"a", "train/a/b/NORMAL/IM-0001-0001.jpeg": b"a"})
    (root / at).symlink_to(to)
    with pytest.raises(SourceError, match=f"{at}: a link that leads back to a folder above it$"):
        FolderSource(root)


@posix
def test_a_link_to_a_folder_whose_name_begins_alike_is_no_loop(write_folder):
    root = write_folder({"films/NORMAL/IM-0001-0001.jpeg": b"a", "films-2/NORMAL/IM-0002-0001.jpeg": b"b"})
    (root / "films-2" / "more").symlink_to(root / "films")
    assert [image.data for image in FolderSource(root)] == [b"b", b"a", b"a"]


@posix
def test_a_loop_of_two_links_is_refused(write_folder):
    root = write_folder({"a/NORMAL/IM-0001-0001.jpeg": b"a", "b/NORMAL/IM-0002-0001.jpeg": b"a"})
    (root / "a" / "to_b").symlink_to(root / "b")
    (root / "b" / "to_a").symlink_to(root / "a")
    with pytest.raises(SourceError, match="leads back"):
        FolderSource(root)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_listed_and_not_waited_for(write_folder, monkeypatch):
    root = write_folder({"NORMAL/IM-0001-0001.jpeg": b"a"})
    os.mkfifo(root / "NORMAL" / "IM-0002-0001.jpeg")
    read = Path.read_bytes

    def would_wait(path):
        assert not path.is_fifo(), "this never returns"
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", would_wait)
    assert [type(item) for item in FolderSource(root)] == [RawImage, Problem]


def test_an_empty_folder_a_file_and_a_missing_path_are_refused(tmp_path):
    (tmp_path / "empty" / "train" / "NORMAL").mkdir(parents=True)
    with pytest.raises(SourceError, match="holds no file"):
        FolderSource(tmp_path / "empty")
    (tmp_path / "film.jpeg").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"film\.jpeg: is a file"):
        open_source(str(tmp_path / "film.jpeg"))
    with pytest.raises(SourceError, match="nowhere: no such file or folder"):
        open_source(str(tmp_path / "nowhere"))


@posix
def test_an_unreadable_folder_is_refused_by_name(write_folder, monkeypatch):
    root = write_folder({"NORMAL/IM-0001-0001.jpeg": b"a", "PNEUMONIA/person1_virus_1.jpeg": b"a"})
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("PNEUMONIA"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match=r"PNEUMONIA: Permission denied$"):
        FolderSource(root)


def test_the_fingerprint_follows_names_sizes_and_times(write_folder):
    files = {"NORMAL/IM-0001-0001.jpeg": b"a", "PNEUMONIA/person1_virus_1.jpeg": b"b"}
    root = write_folder(files)
    times = {file: (root / file).stat().st_mtime_ns for file in files}
    seen = [FolderSource(root).fingerprint()]
    assert FolderSource(root).fingerprint() == seen[0], "and nothing else"

    def changed():
        seen.append(FolderSource(root).fingerprint())
        return len(set(seen)) == len(seen)

    file = root / "NORMAL/IM-0001-0001.jpeg"
    os.utime(file, ns=(0, times["NORMAL/IM-0001-0001.jpeg"] + 1_000_000_000))
    assert changed(), "another time"
    file.write_bytes(b"aa")
    os.utime(file, ns=(0, times["NORMAL/IM-0001-0001.jpeg"] + 1_000_000_000))
    assert changed(), "another size"
    file.rename(root / "NORMAL/IM-0003-0001.jpeg")
    assert changed(), "another name"
    (root / "PNEUMONIA/person1_virus_1.jpeg").unlink()
    assert changed(), "a file less"


def test_the_fingerprint_reads_no_image(write_folder, monkeypatch):
    source = FolderSource(write_folder({"NORMAL/IM-0001-0001.jpeg": b"a"}))
    monkeypatch.setattr(Path, "read_bytes", None)
    assert len(source.fingerprint()) == 64


def test_names_outside_ascii(write_folder):
    root = write_folder({"train/NORMAL/röntgen 胸 ✚.jpeg": b"a"}, "Lungen-Aufnahmen (2018) ü")
    source = FolderSource(root)
    assert [image.file for image in source] == ["train/NORMAL/röntgen 胸 ✚.jpeg"]
    assert source.name == "Lungen-Aufnahmen-2018-"
    assert source.fingerprint()
    assert FolderSource(write_folder({"NORMAL/a.png": b"a"}, "胸部")).name


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the file system refuses such names")
def test_names_that_are_not_utf8(write_folder):
    root = write_folder({"NORMAL/IM-0001-0001.jpeg": b"a"})
    with open(os.fsencode(root / "NORMAL") + b"/caf\xe9.jpeg", "wb") as stream:
        stream.write(b"b")
    source = FolderSource(root)
    assert [image.data for image in source] == [b"a", b"b"]
    assert [image.file for image in source][1] == "NORMAL/caf\udce9.jpeg"
    assert len(source.fingerprint()) == 64


def test_the_name_of_a_folder_can_be_a_folder_name(write_folder, monkeypatch):
    root = write_folder({"NORMAL/a.png": b"a"}, ".hidden")
    assert FolderSource(root).name == "hidden"
    monkeypatch.chdir(root)
    assert FolderSource(Path(".")).name == "hidden"


@pytest.mark.real
def test_the_real_folder_is_in_the_order_of_the_hub(real_data):
    source = FolderSource(real_data / "chest_xray" / "train")
    labels = [label_from_path(entry.file) for entry in source._entries]
    assert [labels.count(label) for label in LABELS] == [1341, 2530, 1345, 0]
    assert labels[:1341] == ["normal"] * 1341
    first = next(iter(source))
    assert (first.file, first.part) == ("NORMAL/IM-0115-0001.jpeg", "unsplit")


def test_a_link_to_the_root_is_refused_before_it_is_walked(tmp_path):
    root = tmp_path / "films"
    (root / "train").mkdir(parents=True)
    (root / "train" / "all").symlink_to("/")
    with pytest.raises(SourceError, match="a link that leads back to a folder above it"):
        list_files(root)
