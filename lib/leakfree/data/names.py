"""What the paths of the chest_xray distribution, and Mendeley names, tell of an image."""

from __future__ import annotations

import re

_PARTS = {"train": "train", "val": "val", "test": "test"}
_CLASS_FOLDERS = {"normal": "normal", "pneumonia": "pneumonia"}
_ETIOLOGY = {"bacteria": "bacterial", "virus": "viral"}


def label_from_path(file: str) -> str | None:
    """Read the label out of a relative path.

    The class folder decides between normal and pneumonia; the name adds the etiology
    (``person1_bacteria_2.jpeg``, ``BACTERIA-1008087-0001.jpeg``). Without a class folder the name
    decides alone.

    Parameters
    ----------
    file : str
        Relative path with forward slashes.

    Returns
    -------
    str or None
        A label of `leakfree.data.raw.LABELS`, None if neither folder nor name tells it.
    """
    *folders, name = file.split("/")
    found = [_CLASS_FOLDERS[f.lower()] for f in folders if f.lower() in _CLASS_FOLDERS]
    from_folder = found[-1] if found else None
    match = re.match(r"^(?:person\d+_)?(bacteria|virus)[_-]", name, flags=re.IGNORECASE)
    etiology = _ETIOLOGY[match[1].lower()] if match else None
    if from_folder == "normal":
        return "normal"
    if from_folder == "pneumonia":
        return etiology or "pneumonia"
    if etiology:
        return etiology
    if re.match(r"^(?:NORMAL2?-|IM-\d)", name):
        return "normal"
    return None


def part_from_path(file: str) -> str:
    """Return the part that a folder of the path names, ``unsplit`` if none does."""
    found = [_PARTS[f.lower()] for f in file.split("/")[:-1] if f.lower() in _PARTS]
    return found[0] if found else "unsplit"
