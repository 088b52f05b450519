import pytest

from leakfree.data.names import label_from_path, part_from_path
from leakfree.data.raw import LABELS, PARTS


@pytest.mark.parametrize(
    ("file", "label"),
    [
        # the chest_xray distribution
        ("train/NORMAL/IM-0115-0001.jpeg", "normal"),
        ("train/NORMAL/NORMAL2-IM-0381-0001.jpeg", "normal"),
        ("test/PNEUMONIA/person1_virus_6.jpeg", "viral"),
        ("train/PNEUMONIA/person1000_bacteria_2931.jpeg", "bacterial"),
        ("val/PNEUMONIA/person447_virus_921_1.jpeg", "viral"),
        # Mendeley names, in folders and flat
        ("train/PNEUMONIA/BACTERIA-1008087-0001.jpeg", "bacterial"),
        ("train/NORMAL/NORMAL-1049278-0001.jpeg", "normal"),
        ("BACTERIA-1008087-0001.jpeg", "bacterial"),
        ("VIRUS-1009-0002.jpeg", "viral"),
        ("NORMAL-1049278-0001.jpeg", "normal"),
        ("person12_bacteria_47.jpeg", "bacterial"),
        ("IM-0429-0001-0002.jpeg", "normal"),
        ("NORMAL2-IM-0381-0001.jpeg", "normal"),
        # the folder is enough, whatever the name
        ("train/NORMAL/scan-00001.png", "normal"),
        ("train/PNEUMONIA/scan-00001.png", "pneumonia"),
        ("train/pneumonia/scan.png", "pneumonia"),
        ("NORMAL/a/b.png", "normal"),
        # the class folder decides between normal and pneumonia
        ("train/NORMAL/person1_bacteria_2.jpeg", "normal"),
        ("train/PNEUMONIA/IM-0115-0001.jpeg", "pneumonia"),
        ("NORMAL/corrected/PNEUMONIA/scan.png", "pneumonia"),
        # nothing tells
        ("scan.png", None),
        ("train/scan.png", None),
        ("train/IMAGE.png", None),
        ("train/bacteriology.png", None),
        ("train/ABNORMAL/scan.png", None),
    ],
)
def test_label_from_path(file, label):
    assert label_from_path(file) == label
    assert label is None or label in LABELS


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("train/NORMAL/a.jpeg", "train"),
        ("val/NORMAL/a.jpeg", "val"),
        ("test/PNEUMONIA/a.jpeg", "test"),
        ("Test/PNEUMONIA/a.jpeg", "test"),
        ("chest_xray/train/NORMAL/a.jpeg", "train"),
        ("NORMAL/a.jpeg", "unsplit"),
        ("a.jpeg", "unsplit"),
        ("NORMAL/test", "unsplit"),  # a file name is no part
        ("training/NORMAL/a.jpeg", "unsplit"),
        ("latest/NORMAL/a.jpeg", "unsplit"),
    ],
)
def test_part_from_path(file, part):
    assert part_from_path(file) == part
    assert part in PARTS
