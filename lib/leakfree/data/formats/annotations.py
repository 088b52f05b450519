"""Labels from annotations beside the images: COCO's JSON, and YOLO's text files."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import yaml

from leakfree.data import bounded
from leakfree.data.images import ImageError
from leakfree.data.intake import TooLargeError
from leakfree.data.raw import Item, Problem
from leakfree.data.reading.tables import Finder

#: Larger files than these, in bytes, are left alone; a label has a line of text for each object in an image.
_MOST, _MOST_YAML, _MOST_LABEL = 500_000_000, 200_000, 10_000_000


def annotated(
    root: Path, items: Sequence[Item], others: Sequence[Problem]
) -> tuple[list[Item], str, list[Problem]]:
    """Give images the set of classes that annotations name in them.

    Parameters
    ----------
    root : pathlib.Path
    items : sequence of Item
    others : sequence of Problem
        Files below `root` that are no images.

    Returns
    -------
    list of Item
        The same, with labels.
    str
        What told them, for people; empty if nothing did.
    list of Problem
        Files that may be annotations and take too much to read.
    """
    large: list[Problem] = []
    labels = _coco(root, items, others, large)
    told = "annotations of COCO"
    if not labels:
        labels, told = _yolo(root, items, others), "annotations of YOLO"
    if not labels:
        return list(items), "", large
    labelled = [item._replace(label=item.label or labels.get(item.file, "")) for item in items]
    return labelled, told, large


def coco_pairs(path: str) -> list[tuple[str, str]]:
    """Return file and class of each annotation; raises what reading odd JSON raises."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    images = {entry["id"]: entry["file_name"] for entry in content["images"]}
    names = {entry["id"]: _one(entry["name"]) for entry in content["categories"]}
    pairs = ((str(images[a["image_id"]]), names[a["category_id"]]) for a in content["annotations"])
    return list(dict.fromkeys(pairs))


def _coco(
    root: Path, items: Sequence[Item], others: Sequence[Problem], large: list[Problem]
) -> dict[str, str]:
    found: dict[str, set[str]] = defaultdict(set)
    finder = None
    for problem in others:
        path = Path(root) / problem.file
        if path.suffix.lower() != ".json":
            continue
        try:
            if path.stat().st_size > _MOST:
                continue
            pairs = bounded.call(__name__, "coco_pairs", str(path))
        except TooLargeError as error:
            large.append(Problem(problem.file, f"corrupt: {error}"))
            continue
        except (OSError, ImageError):
            continue
        finder = finder or Finder([item.file for item in items])
        for name, label in pairs:
            for file in finder.find(name):
                found[file].add(label)
    return {file: "|".join(sorted(names)) for file, names in found.items()}


def _yolo(root: Path, items: Sequence[Item], others: Sequence[Problem]) -> dict[str, str]:
    texts = {problem.file for problem in others if problem.file.endswith(".txt")}
    found = {}
    names = _yolo_names(root, others)
    for item in items:
        way = item.file.split("/")
        if "images" not in way:
            continue
        way[way.index("images")] = "labels"
        beside = "/".join(way).rsplit(".", 1)[0] + ".txt"
        if beside not in texts:
            continue
        try:
            if (Path(root) / beside).stat().st_size > _MOST_LABEL:
                continue
            lines = (Path(root) / beside).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        codes = {line.split()[0] for line in lines if line.split()}
        if all(code.isdecimal() for code in codes):
            known = {names.get(int(code), code) for code in codes}
            found[item.file] = "|".join(sorted(known)) or "nothing annotated"
    return found


def _yolo_names(root: Path, others: Sequence[Problem]) -> dict[int, str]:
    for problem in others:
        if problem.file.rsplit("/", 1)[-1].lower() in ("data.yaml", "data.yml", "dataset.yaml"):
            try:
                path = Path(root) / problem.file
                if path.stat().st_size > _MOST_YAML:
                    continue
                names = yaml.safe_load(path.read_text(encoding="utf-8"))["names"]
                pairs = names.items() if isinstance(names, dict) else enumerate(names)
                return {int(code): _one(name) for code, name in pairs}
            except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError):
                continue
    return {}


def _one(name: object) -> str:
    """Return a name as text; a list of aliases of lists would be endless as one."""
    if not isinstance(name, str | int | float):
        raise ValueError("no name")
    return str(name)
