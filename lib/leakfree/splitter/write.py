"""Write a split: a manifest, a table for any framework, lists of names, a folder of links or copies."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from leakfree.base.files import replacing, write_text
from leakfree.data.raw import Problem
from leakfree.split.manifest import Manifest
from leakfree.splitter.material import Gathered, SplitError

MANIFEST, TABLE, CHANGES, IMAGES = "split.json", "split.csv", "changes.csv", "images"


def refuse_what_is_there(out: Path) -> None:
    """Raise ``SplitError`` unless the folder is new or empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SplitError(f"{out}: is there already; choose another folder with --out, or remove it")


def split_table(material: Gathered, parts: np.ndarray, out: Path) -> pd.DataFrame:
    """Return the table of a split, one row an image that has a part.

    Returns
    -------
    pandas.DataFrame
        ``image_id``; ``path``, from the folder of the split, empty for images of a store; ``part``,
        ``label``, ``patient`` (empty where it is not known), ``group``.
    """
    table = material.table
    listed = pd.DataFrame(
        {
            "image_id": table["image_id"],
            "path": [os.path.relpath(file, out) if file else "" for file in table["file"]],
            "part": parts,
            "label": table["label"],
            "patient": np.where(material.named, material.patients, ""),
            "group": material.groups,
        }
    )
    return listed[listed["part"] != ""].drop_duplicates("image_id", ignore_index=True)


def write_split(manifest: Manifest, listed: pd.DataFrame, out: Path, *, lists: bool) -> list[Path]:
    """Write manifest, table and, where asked for, lists; return the files."""
    files = [manifest.save(out / MANIFEST), write_table(listed, out / TABLE)]
    if manifest.settings.get("folds"):
        files += [fold.save(out / f"{fold.name}.json") for fold in folds_of(manifest)]
    if lists:
        for part, ids in manifest.parts.items():
            if broken := [name for name in ids if "\n" in name]:
                raise SplitError(f"--lists: {broken[0]!r} has a line break in its name; use {TABLE}")
            files.append(write_text(out / f"{_safe(part)}.txt", "".join(f"{name}\n" for name in ids)))
    return files


def write_table(table: pd.DataFrame, path: Path) -> Path:
    """Write a table as CSV, atomically."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    return path


def folds_of(manifest: Manifest) -> list[Manifest]:
    """Return one manifest a fold: that part is ``test``, all others together are ``train``."""
    made = []
    for number, (part, ids) in enumerate(manifest.parts.items()):
        others = tuple(name for other, names in manifest.parts.items() if other != part for name in names)
        content = {**vars(manifest), "name": part, "parts": {"train": others, "test": ids}}
        made.append(Manifest(**{**content, "settings": {**manifest.settings, "fold": number}}))
    return made


def write_images(material: Gathered, listed: pd.DataFrame, out: Path, *, copy: bool) -> Path:
    """Make ``images/PART/CLASS/NAME`` of links or copies; the user's files are not touched.

    A name that is taken already in its class gets a folder of its own, so that the name, which may tell
    the patient, stays what it is.
    """
    root, taken = out / IMAGES, set()
    rows = pd.Series(material.read.rows, index=material.table["image_id"])
    rows = rows[~rows.index.duplicated()]
    for image in listed.itertuples():
        folder = root / _safe(image.part) / (_safe(image.label) if image.label else "")
        name, number = _safe(image.image_id.rsplit("/", 1)[-1]), 1
        while (folder, name.lower(), number) in taken:
            number += 1
        taken.add((folder, name.lower(), number))
        place = folder / name if number == 1 else folder / str(number) / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if copy:
            (data,) = material.target.reader.read([int(rows[image.image_id])])
            if isinstance(data, Problem):
                raise SplitError(f"{image.image_id}: cannot be read any more: {data.reason}")
            place.write_bytes(data)
            continue
        file = material.target.table["file"].iloc[int(rows[image.image_id])]
        if not file or not os.path.exists(file):
            raise SplitError(f"--links: {image.image_id} is no file of its own to link to; use --copies")
        place.symlink_to(os.path.relpath(os.path.realpath(file), os.path.realpath(place.parent)))
    return root


def _safe(name: str) -> str:
    """Return a name that is one folder or file, whatever a label may hold."""
    return re.sub(r"^\.+|[/\\\x00-\x1f:]", "_", name) or "_"
