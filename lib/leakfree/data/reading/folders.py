"""What folders and names say besides the part: the label, perhaps the patient, and which files are masks."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from leakfree.data.reading.parts import _NEUTRAL, is_part, tokens
from leakfree.data.reading.tables import without_ending

#: More values than these are names of patients or files, not classes.
MOST_LABELS = 20
#: Folders and ends of names that mark a mask, which is no image of its own.
_MASKS = {
    "mask", "masks", "segmentation", "segmentations", "seg", "segs", "groundtruth", "gt", "annotation",
    "annotations",
}  # fmt: skip
_MASK_END = re.compile(r"[ _-](?:mask|seg|segmentation|gt|ground_?truth)(?:[ _-]?\d+)?$", re.IGNORECASE)
_PERSON = re.compile(
    r"(?:^|[^a-z])(?:patient|patients|pat|subject|subj|participant|sub)[ _-]?0*(\d+)", re.IGNORECASE
)
_MIMIC = re.compile(r"p\d{6,}")
_ENTITY = re.compile(
    r"(?:patient|pat|subject|subj|sub|participant|person|case|pid|id|study|series|session|ses|exam|visit|scan|video|"
    r"vid|img|im|image|slide|lesion|p|s|v)[ _-]?\d+(?:[ _-].*)?|\d+(?:[._-]\d+)*|[0-9a-f-]{8,}",
    re.IGNORECASE,
)  # fmt: skip


def is_container(folder: str) -> bool:
    """Whether a folder's name tells nothing: ``images``, ``jpg``, ``40X``, ``data_2``."""
    words = tokens(folder)
    return all(word.isdigit() or word in _NEUTRAL for word in words)


def is_entity(folder: str) -> bool:
    """Whether a folder is named like one patient, study, series or video: ``patient00011``, ``1.2.840.1``."""
    return _ENTITY.fullmatch(folder) is not None


def masks(files: Sequence[str]) -> set[str]:
    """Return the files that are masks: in a folder of masks, or named after an image beside them."""
    known = {without_ending(file) for file in files}
    # x_seg.nii.gz belongs to x_flair.nii.gz too.
    known |= {stem.rpartition("_")[0] for stem in known if not _MASK_END.search(stem)}
    found = set()
    for file in files:
        *folders, name = file.split("/")
        stem = without_ending(name)
        bare = "/".join([*folders, _MASK_END.sub("", stem)])
        in_folder = any("".join(tokens(folder)) in _MASKS for folder in folders)
        if in_folder or (bare != "/".join([*folders, stem]) and bare in known):
            found.add(file)
    # Where nothing else is there they are what is looked at.
    return found if len(found) < len(files) else set()


@dataclass(frozen=True)
class FolderLabels:
    """Labels read from folders.

    Attributes
    ----------
    label : tuple of str
        One of each image, empty where no folder tells it.
    source : str
        Which folder, in words; empty if none.
    """

    label: tuple[str, ...]
    source: str


def folder_labels(paths: Sequence[Sequence[str]], places: Sequence[int]) -> FolderLabels:
    """Find the level of folders that tells the label.

    Folders that tell nothing (``images``), parts inside a part (``Test_Set/Test_Set``), and those of
    patients, studies and videos are left out. Beside a part the label is the nearest level with several
    names, first below the part, then above it; without parts it is the level with the fewest names.

    Parameters
    ----------
    paths : sequence of sequence of str
        Folders of each image, the outermost first.
    places : sequence of int
        Which of them is the part; -1 for none.
    """
    below = [
        list(folders[place + 1 :]) if place >= 0 else list(folders)
        for folders, place in zip(paths, places, strict=True)
    ]
    above = [
        list(reversed(folders[:place])) if place > 0 else []
        for folders, place in zip(paths, places, strict=True)
    ]
    split = any(place >= 0 for place in places)
    levels: list[tuple[str, int, list[list[str]], Counter]] = []
    for side, ways in (("below", below), ("above", above)):
        for level in range(max(map(len, ways), default=0)):
            names = Counter(way[level] for way in ways if len(way) > level)
            repeated = split and len(names) > 1 and all(is_part(name) for name in names)
            if repeated or all(is_container(name) for name in names):
                continue
            entities = sum(n for name, n in names.items() if is_entity(name))
            if entities > 0.5 * names.total() or len(names) > MOST_LABELS:
                continue
            # A folder for nearly each image is one patient, video or volume.
            if len(names) > max(3, 0.5 * names.total()):
                continue
            levels.append((side, level, ways, names))
    several = [entry for entry in levels if len(entry[3]) > 1]
    if split:
        chosen = next(iter(several or levels), None)
    else:
        chosen = min(several, key=lambda entry: len(entry[3]), default=next(iter(levels), None))
    if chosen is None:
        return FolderLabels(("",) * len(paths), "")
    side, level, ways, _ = chosen
    labels = tuple(way[level] if len(way) > level else "" for way in ways)
    where = f"folder {level + 1} {side} the part" if split else f"folder {level + 1}"
    return FolderLabels(labels, where)


def folder_patients(files: Sequence[str]) -> tuple[list[str], str]:
    """Guess patients from words such as ``patient00011`` in folders, or else in names.

    Only where nearly all images have one: what fits some of them is no rule.

    Returns
    -------
    list of str
        One of each file, empty if there is no such rule.
    str
        Where it was read, in words; empty if nowhere.
    """

    def share(found: Sequence[str]) -> float:
        return sum(map(bool, found)) / max(len(found), 1)

    in_folder, in_name = [], []
    for file in files:
        *folders, name = file.split("/")
        matched = ""
        for folder in folders:
            if match := _PERSON.search(folder):
                matched = match[0].strip(" _-") if match.end() == len(folder) else folder
                break
            if _MIMIC.fullmatch(folder):
                matched = folder
                break
        in_folder.append(matched)
        match = _PERSON.search(name)
        in_name.append(match[1] if match else "")
    for found, where in (
        (in_folder, "a guess: folders named like patients"),
        (in_name, "a guess: names with the word patient or subject"),
    ):
        if files and share(found) >= 0.9:
            return list(found), where
    return [""] * len(files), ""


def level_names(paths: Sequence[Sequence[str]], most: int = 6) -> list[str]:
    """Describe the outermost folders, for advice."""
    names: dict[str, int] = defaultdict(int)
    for folders in paths:
        if folders:
            names[folders[0]] += 1
    return [f"{name}/ ({n:,})" for name, n in sorted(names.items(), key=lambda item: -item[1])[:most]]


_CHEST_PNEUMONIA = re.compile(r"(?:person\d+_(?:bacteria|virus)_\d+|(?:BACTERIA|VIRUS)-\d+-)", re.IGNORECASE)
_CHEST_NORMAL = re.compile(r"(?:NORMAL2-IM|IM|NORMAL)-\d+-\d", re.IGNORECASE)


def is_chest_xray(files: Sequence[str], labels: Sequence[str]) -> bool:
    """Whether names are those of the chest_xray distribution, so that its rules of patients apply.

    ``person12_virus_3.jpeg`` says so. ``IM-0001-0001.jpg`` is what many programs write: it counts only in
    files that lie straight in a folder ``normal``, beside no class but pneumonia.
    """
    pneumonia = sum(_CHEST_PNEUMONIA.match(file.rsplit("/", 1)[-1]) is not None for file in files)
    classes = {label.casefold() for label in labels} - {"", "sealed"}
    ours = classes <= {"normal", "pneumonia", "bacterial", "viral", "bacteria", "virus"}
    if pneumonia:
        return ours or pneumonia > 0.5 * len(files)
    normal = [file for file in files if _CHEST_NORMAL.match(file.rsplit("/", 1)[-1])]
    straight = [
        file
        for file in normal
        if "/" not in file or file.split("/")[-2].casefold() in ("normal", "train", "test", "val")
    ]
    return (
        bool(normal)
        and ours
        and len(straight) == len(normal)
        and len({f.rsplit("/", 1)[-1] for f in normal}) == len(normal)
    )
