"""Which names are parts of a split: train, Training_Set, val2017, stage_2_test_images, fold_3."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

#: Words that name a part, by the kind of part; in the order in which parts are shown.
KINDS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn", "trainval", "trainvalid"),
    "val": ("val", "valid", "validate", "validation", "vali"),
    "dev": ("dev", "devel", "development"),
    "test": ("test", "testing", "tst"),
    "holdout": ("holdout", "heldout"),
    "eval": ("eval", "evaluate", "evaluation"),
    "external": ("external",),
    "fold": ("fold", "folds", "kfold"),
}
_KIND = {word: kind for kind, words in KINDS.items() for word in words}
#: Words that may stand beside the word of a part and change nothing.
_NEUTRAL_WORDS = """
    set sets data dataset datasets image images img imgs im pic pics picture pictures photo photos jpg jpeg
    png tif tiff bmp dcm dicom dicoms file files folder folders dir sample samples case cases patch patches
    slice slices frame frames scan scans xray xrays x ray rays cxr image images stage phase step split splits
    part subset partition partitions original originals orig raw resized resize processed preprocessed
    cropped small large full final new old all official public private release version the of and list lists
    csv metadata meta label labels px size tar zip npz h5 hdf5 parquet arrow shard shards
"""
_NEUTRAL = frozenset(_NEUTRAL_WORDS.split())
_GLUED = re.compile(
    rf"(?P<word>{'|'.join(sorted(_KIND, key=len, reverse=True))})"
    r"(?:sets?|data|datasets?|images?|imgs?|files?|folders?|splits?|samples?|cases?|lists?|labels?)"
)
_TOKEN = re.compile(r"[^\W\d_]+|\d+")
_CAMEL = re.compile(r"(?<=[a-zäöüß])(?=[A-ZÄÖÜ])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True)
class PartName:
    """What a name says of a part.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    number : str
        Behind the word, such as 2017 or the number of a fold; empty if there is none.
    rest : tuple of str
        Further words. A name with any is taken for a part only beside another one like it
        (``train_normal`` beside ``test_normal``): ``stress_test`` alone is a class.
    """

    kind: str
    number: str = ""
    rest: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """What two spellings of one part have in common."""
        return self.kind, self.number


def tokens(name: str) -> list[str]:
    """Split a name into words and numbers, in small letters: ``stage_2_TrainImages`` has four."""
    return _TOKEN.findall(_CAMEL.sub(" ", unicodedata.normalize("NFKC", name)).casefold())


@lru_cache(maxsize=1 << 16)
def part_name(name: str) -> PartName | None:
    """Read a name as a part.

    Parameters
    ----------
    name : str
        Of a folder, of a file without its ending, or a value of a column.

    Returns
    -------
    PartName or None
        None if no word of it names a part, or several do that exclude one another (``train_test_split``).

    Examples
    --------
    >>> part_name("val2017")
    PartName(kind='val', number='2017', rest=())
    >>> part_name("images") is None
    True
    """
    words = tokens(name)
    if words[:2] in (["hold", "out"], ["held", "out"]):
        words[:2] = ["holdout"]
    kinds: list[str] = []
    number, rest = "", []
    for place, word in enumerate(words):
        glued = _GLUED.fullmatch(word)
        kind = _KIND.get(word) or (_KIND[glued["word"]] if glued else "")
        if kind:
            kinds.append(kind)
        elif word.isdigit():
            # A number in front is an order (01_train) or a stage; behind, it is part of the name.
            if kinds and not number and (place == len(words) - 1 or kinds[-1] == "fold"):
                number = word.lstrip("0") or "0"
        elif word not in _NEUTRAL and len(word) > 1:
            rest.append(word)
    if not kinds:
        return None
    found = set(kinds)
    if found == {"train", "val"}:
        return PartName("train", number, tuple(rest))
    if "fold" in found and len(found) > 1:
        found.discard("fold")
        number = ""
    if len(found) > 1:
        return None
    kind = found.pop()
    if kind == "fold" and (not number or rest):
        return None
    return PartName(kind, number, tuple(rest))


def is_part(name: str) -> bool:
    """Tell whether a name says by itself that it is a part of a split."""
    found = part_name(name)
    return found is not None and not found.rest


def rank(name: str) -> int:
    """Place of a part in the order training, validation, all others."""
    return {"train": 0, "val": 1, "dev": 1}.get(kind_of(name), 2)


def kind_of(name: str) -> str:
    """Kind of a part, one of `KINDS`, or empty."""
    found = part_name(name)
    return found.kind if found else ""


@dataclass(frozen=True)
class FolderParts:
    """Parts of images, read from the folders that they lie in.

    Attributes
    ----------
    place : tuple of int
        For each image, which of its folders is the part; -1 for none.
    name : tuple of str
        The part of each image, empty for none.
    fold : tuple of str
        The fold that a part belongs to where folds have parts inside (``fold_1/train``), empty otherwise.
    spellings : dict of str to tuple of str
        Parts that are spelled in several ways.
    doubtful : tuple of str
        Folders with the word of a part among others, and without a second one like it: taken for no part.
    """

    place: tuple[int, ...]
    name: tuple[str, ...]
    fold: tuple[str, ...]
    spellings: Mapping[str, tuple[str, ...]]
    doubtful: tuple[str, ...]


def folder_parts(paths: Sequence[Sequence[str]]) -> FolderParts:
    """Find which folders are parts.

    The outermost folder that is named like a part is one, unless two different parts stand inside it: then
    it is a container (``test_data/train``, ``test_data/test``). A name with further words counts only
    where another kind of part has the same words beside it.

    Parameters
    ----------
    paths : sequence of sequence of str
        Folders of each image, the outermost first.
    """
    known = {folder: part_name(folder) for folders in paths for folder in folders}
    beside: dict[tuple[tuple[str, ...], str], set[str]] = defaultdict(set)
    by_parent: dict[tuple[str, ...], set[str]] = defaultdict(set)
    seen: set[tuple[str, ...]] = set()
    for folders in paths:
        for depth in range(len(folders)):
            way = tuple(folders[: depth + 1])
            if way in seen:
                continue
            seen.add(way)
            if (found := known[folders[depth]]) is not None:
                beside[way[:-1], " ".join(found.rest)].add(found.kind)
                by_parent[way[:-1]].add(found.kind)

    def counts(way: tuple[str, ...]) -> bool:
        found = known[way[-1]]
        if found is None:
            return False
        same = beside[way[:-1], " ".join(found.rest)]
        return not found.rest or len(same) > 1

    good = {way for way in seen if counts(way)}
    inside: dict[tuple[str, ...], set[tuple[str, str]]] = defaultdict(set)
    for way in good:
        for depth in range(1, len(way)):
            if (found := known[way[-1]]) is not None:
                inside[way[:depth]].add(found.key)
    places, names, folds = [], [], []
    doubtful = sorted({way[-1] for way in seen if known[way[-1]] is not None and way not in good})
    for folders in paths:
        ways = [tuple(folders[: depth + 1]) for depth in range(len(folders))]
        candidates = [depth for depth, way in enumerate(ways) if way in good]
        fold = ""
        chosen = -1
        for depth in candidates:
            within = {kind for kind, _ in inside[ways[depth]]} - {"fold"}
            found = known[folders[depth]]
            if found is not None and found.kind == "fold" and within:
                fold = folders[depth]
            elif len(inside[ways[depth]]) < 2:
                chosen = depth
                break
        places.append(chosen)
        names.append(folders[chosen] if chosen >= 0 else "")
        folds.append(fold)
    shown, spellings = one_spelling(names)
    return FolderParts(tuple(places), tuple(shown), tuple(folds), spellings, tuple(doubtful))


def one_spelling(names: Iterable[str]) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """Give parts that are spelled in several ways (``Train``, ``TRAIN ``, ``train_set``) one name.

    Parameters
    ----------
    names : iterable of str
        A part each, empty for none.

    Returns
    -------
    list of str
        The names in the same order. A part with a single spelling keeps it.
    dict of str to tuple of str
        The spellings of each part that has several.
    """
    names = [name.strip() for name in names]
    groups: dict[Any, dict[str, int]] = defaultdict(dict)
    keys: dict[str, Any] = {}
    for name in names:
        if not name:
            continue
        if name not in keys:
            found = part_name(name)
            keys[name] = (
                found.key
                if found is not None
                else " ".join(unicodedata.normalize("NFKC", name).split()).casefold()
            )
        group = groups[keys[name]]
        group[name] = group.get(name, 0) + 1
    # Pieces of one training part (train_1, train_2) are no parts of their own beside a single test part.
    pieces = [key for key in groups if isinstance(key, tuple) and key[0] == "train"]
    others = [key for key in groups if isinstance(key, tuple) and key[0] not in ("train", "fold")]
    joined = len(pieces) > 1 and bool(others) and all(not key[1] for key in others)
    if joined:
        for key in pieces[1:]:
            for name, n in groups.pop(key).items():
                groups[pieces[0]][name] = n
                keys[name] = pieces[0]
    title: dict[Any, str] = {}
    spellings: dict[str, tuple[str, ...]] = {}
    for key, group in groups.items():
        if len(group) == 1:
            title[key] = next(iter(group))
            continue
        plain = next((name for name in group if isinstance(key, tuple) and name == key[0]), None)
        whole = joined and key == pieces[0]
        spelled = "".join(key) if isinstance(key, tuple) else max(group, key=group.__getitem__)
        title[key] = plain or (key[0] if whole else spelled)
        spellings[title[key]] = tuple(sorted(group))
    return [title[keys[name]] if name else "" for name in names], spellings
