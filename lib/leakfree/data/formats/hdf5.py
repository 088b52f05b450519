"""HDF5, as PatchCamelyon has it (``..._train_x.h5`` with ``_y`` and ``_meta.csv``), and MATLAB 7.3."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from leakfree.data.formats.base import FormatError, encoded
from leakfree.data.raw import Item, Problem

if TYPE_CHECKING:  # imported where a file is read
    import h5py

NAME, SUFFIXES, PACKAGE = "HDF5", (".h5", ".hdf5", ".mat"), "h5py"
_STACKS = ("x", "images", "image", "data", "img")
_LABELS = ("y", "labels", "label", "target")


def items(path: str, file: str) -> list[Item]:
    """List the images of a stack ``x``, or the one of a MATLAB file."""
    import h5py

    found: list[Item] = []
    try:
        with h5py.File(path, "r") as content:
            groups = [content, *(value for value in content.values() if isinstance(value, h5py.Group))]
            for group in groups:
                for name in _STACKS:
                    data = group.get(name)
                    if not isinstance(data, h5py.Dataset):
                        continue
                    if data.external or data.is_virtual or not os.path.samefile(data.file.filename, path):
                        raise FormatError(
                            "its images lie in other files, which may be any: copy them into it"
                        )
                    key = data.name
                    if data.ndim == 2:
                        label = _text(group.get("label"))
                        patient = _text(group.get("PID"))
                        found.append(Item(file, path, "hdf5", f"{key}:", label=label, patient=patient))
                    elif data.ndim in (3, 4):
                        labels, patients = _labels(path, content, len(data)), _patients(path, len(data))
                        for k in range(len(data)):
                            found.append(
                                Item(f"{file}/{k}", path, "hdf5", f"{key}:{k}", "", labels[k], patients[k])
                            )
    except OSError as error:
        raise FormatError(f"not HDF5: {' '.join(str(error).split())}") from error
    return found


def _text(data: object) -> str:
    """Read a number, or a text of MATLAB, which is a column of codes."""
    if data is None:
        return ""
    values = np.asarray(data).ravel()
    if values.dtype == np.uint16:
        return "".join(map(chr, values))
    return f"{float(values[0]):g}" if values.size == 1 else ""


def _labels(path: str, content: object, n: int) -> list[str]:
    import h5py

    other = Path(path).with_name(Path(path).name.replace("_x.", "_y."))
    if other != Path(path) and other.is_file():
        with h5py.File(other, "r") as beside:
            return _column(beside, n)
    return _column(content, n)


def _column(content: h5py.File, n: int) -> list[str]:
    for name in _LABELS:
        if name in content and content[name].shape[:1] == (n,):
            return [str(value) for value in np.asarray(content[name]).reshape(n, -1)[:, 0]]
    return [""] * n


def _patients(path: str, n: int) -> list[str]:
    """Read the slides of patches from the table beside them."""
    table = Path(path).with_name(Path(path).stem.replace("_x", "_meta") + ".csv")
    if "_x" not in Path(path).stem or not table.is_file():
        return [""] * n
    from leakfree.data.reading.tables import TableError, named, read_table

    try:
        frame = read_table(table)
    except TableError:
        return [""] * n
    column = next(iter([*named(frame, "patient"), *named(frame, "group")]), "")
    return frame[column].tolist() if column and len(frame) == n else [""] * n


def read(path: str, keys: Sequence[str]) -> Iterator[bytes | Problem]:
    """Yield each image of the stack."""
    import h5py

    with h5py.File(path, "r") as content:
        for key in keys:
            name, _, place = key.rpartition(":")
            yield encoded(np.asarray(content[name][int(place)] if place else content[name]))
