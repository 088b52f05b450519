"""Read every image of a target once: digests, hashes, facts and, where asked for, keypoints."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from leakfree.audit.copies.hashes import BITS, THUMBNAIL, image_hashes, thumbnail
from leakfree.audit.target import Reader, Target
from leakfree.base.kept import Kept, file_identity
from leakfree.base.parallel import available_cores
from leakfree.base.provenance import code_digest
from leakfree.data.bounded import decode
from leakfree.data.images import ImageError
from leakfree.data.raw import Problem

if TYPE_CHECKING:
    from leakfree.audit.copies.keypoints import Keypoints

#: Images that one task reads.
SHARD = 128
#: Side of the thumbnails that are kept for the comparison of parts, in pixels.
SMALL = 32
#: Outer frame of an image whose grey values are described as its border, as a share of each side.
BORDER = 0.05
#: Grey value under which a pixel of the border counts as black.
BLACK = 10
_GREYS = ("mean", "std", "p05", "p50", "p95", "border_mean", "border_std", "border_black")
#: Columns that a scan adds to the target's.
FACTS = ("sha256", "pixels", "width", "height", "mode", "bytes", *_GREYS, "inode")
#: What is known of an image once it is read: this is kept between runs, and its keypoints after it.
_RECORD = np.dtype(
    [
        ("sha256", "S64"),
        ("pixels", "S32"),
        ("width", np.int64),
        ("height", np.int64),
        ("mode", "S16"),
        ("bytes", np.int64),
        *((name, np.float64) for name in _GREYS),
        ("hashes", np.uint64, (BITS // 64,)),
        ("thumbnails", np.uint8, (SMALL, SMALL)),
    ]
)
#: Packages that decode or compare, see `code_of_reading`.
_PACKAGES = (
    "numpy", "pillow", "opencv-python-headless", "pydicom", "nibabel", "h5py",
    "pyarrow",
)  # fmt: skip
_POINT = np.dtype([("points", np.float32, (2,)), ("descriptors", np.uint8, (128,))])


@dataclass(frozen=True)
class Scan:
    """What was read of a target.

    Attributes
    ----------
    table : pandas.DataFrame
        The readable rows of the target's table, with `FACTS`: SHA-256 of the file; digest of size and grey
        pixels; width and height in pixels, Pillow's mode and bytes of the file; mean, standard deviation
        and percentiles of the grey values, and the same of the border; device and inode of the file.
    rows : numpy.ndarray of int64, shape (n,)
        Their positions in the target's table.
    hashes : numpy.ndarray of uint64, shape (n, 4)
    thumbnails : numpy.ndarray of uint8, shape (n, 32, 32)
    keypoints : tuple of leakfree.audit.copies.keypoints.Keypoints, or None
        Only of a thorough scan.
    problems : tuple of Problem
        Files that the target lists and that cannot be images, once a listing, in the order of their names.
    """

    table: pd.DataFrame
    rows: np.ndarray
    hashes: np.ndarray
    thumbnails: np.ndarray
    keypoints: tuple | None
    problems: tuple[Problem, ...]

    def take(self, rows: np.ndarray) -> Scan:
        """Return some rows of the scan, int64 (m,), in their order."""
        return Scan(
            self.table.iloc[rows].reset_index(drop=True),
            self.rows[rows],
            self.hashes[rows],
            self.thumbnails[rows],
            None if self.keypoints is None else tuple(self.keypoints[row] for row in rows.tolist()),
            self.problems,
        )


def scan(
    target: Target,
    *,
    thorough: bool = False,
    jobs: int = 0,
    scheduler: str | None = None,
    kept: Kept | None = None,
) -> Scan:
    """Read a target.

    Parameters
    ----------
    target : Target
    thorough : bool
        Find keypoints too.
    jobs : int
        Threads; 0 for all cores.
    scheduler : str, optional
        Address of a Dask scheduler whose workers see the same files. The result is the same; nothing is kept.
    kept : Kept, optional
        What is known of files that have not changed since an earlier run: they are not read.
    """
    total = len(target.table)
    keys = _keys(target.reader, total, thorough, kept) if kept is not None and scheduler is None else {}
    records, inodes = np.zeros(total, _RECORD), [""] * total
    there, found = np.zeros(total, dtype=bool), {}
    paths = getattr(target.reader, "paths", ())
    for row, value in _known(keys, kept):
        records[row], there[row] = np.frombuffer(value, _RECORD, 1)[0], True
        found[row] = value[_RECORD.itemsize :]
        inodes[row] = _inode(paths[row])
    missing = np.flatnonzero(~there).tolist()
    if (order := getattr(target.reader, "order", None)) is not None:
        missing.sort(key=order)
    shards = [missing[start : start + SHARD] for start in range(0, len(missing), SHARD)]
    problems = list(target.problems)
    with tqdm(
        total=total, initial=total - len(missing), desc="read images", unit="image", mininterval=0.5
    ) as progress:
        for shard, part in zip(shards, _run(target.reader, shards, thorough, jobs, scheduler), strict=True):
            done = [shard[row] for row in part["rows"]]
            records[done], there[done] = part["records"], True
            found |= zip(done, part["keypoints"], strict=False)
            for row, inode in zip(done, part["inode"], strict=True):
                inodes[row] = inode
            problems += part["problems"]
            if kept is not None:
                kept.put((keys[r], records[r].tobytes() + found.get(r, b"")) for r in done if r in keys)
            progress.update(len(shard))
    rows = np.flatnonzero(there)
    records = records[rows]
    table = target.table.iloc[rows].reset_index(drop=True)
    for name in FACTS[:-1]:
        column = records[name]
        table[name] = (column.astype(str) if column.dtype.kind == "S" else column).tolist()
    table["inode"] = [inodes[row] for row in rows.tolist()]
    return Scan(
        table,
        rows,
        np.ascontiguousarray(records["hashes"]),
        np.ascontiguousarray(records["thumbnails"]),
        tuple(_keypoints(found[row]) for row in rows.tolist()) if thorough else None,
        tuple(sorted(problems, key=lambda problem: (problem.file, problem.reason))),
    )


@lru_cache(maxsize=1)
def code_of_reading() -> str:
    """Return a digest of all code that decodes, describes and compares images."""
    root = Path(__file__).parents[2]
    modules = sorted((*root.glob("data/**/*.py"), *root.glob("audit/copies/*.py")))
    names = [f"leakfree/{path.relative_to(root).with_suffix('').as_posix()}" for path in modules]
    return code_digest(names, _PACKAGES)


def _keys(reader: Reader, total: int, thorough: bool, kept: Kept) -> dict[int, bytes]:
    """Return the key of each row whose file can be told from others, and from itself once it changes."""
    places = getattr(reader, "places", None)
    if places is None:
        return {}
    now = time.time()
    keys = {}
    for row, (path, *place) in enumerate(places):
        if (identity := file_identity(path, now)) is not None:
            keys[row] = kept.key("image", thorough, identity, place)
    return keys


def _known(keys: dict[int, bytes], kept: Kept | None) -> Iterator[tuple[int, bytes]]:
    rows = list(keys)
    for start in range(0, len(rows), 4096):
        block = rows[start : start + 4096]
        values = kept.get([keys[row] for row in block]) if kept is not None else {}
        yield from ((row, values[keys[row]]) for row in block if keys[row] in values)


def _keypoints(packed: bytes) -> Keypoints:
    from leakfree.audit.copies.keypoints import Keypoints

    points = np.frombuffer(packed, _POINT)
    return Keypoints(points["points"], points["descriptors"])


def _run(
    reader: Reader, shards: Sequence[Sequence[int]], thorough: bool, jobs: int, scheduler: str | None
) -> Iterator[dict[str, Any]]:
    # A worker of a cluster is sent the names of its own files only.
    tasks = ((reader.only(shard), range(len(shard)), thorough) for shard in shards)
    if scheduler is None:
        with ThreadPoolExecutor(jobs or available_cores()) as pool:
            yield from pool.map(lambda task: scan_shard(*task), tasks)
        return
    from joblib import Parallel, delayed

    from leakfree.base.parallel import workers

    with workers(1, scheduler):
        yield from Parallel()(delayed(scan_shard)(*task) for task in tasks)


def scan_shard(reader: Reader, rows: Sequence[int], thorough: bool) -> dict[str, Any]:
    """Read some rows; runs in a thread, or on a worker of a cluster."""
    out: dict[str, Any] = {name: [] for name in ("rows", "problems", "keypoints", "inode")}
    told, larger, histograms, borders = [], [], [], []
    paths = getattr(reader, "paths", ())
    for row, data in zip(rows, reader.read(rows), strict=True):
        if isinstance(data, Problem):
            out["problems"].append(data)
            continue
        try:
            facts, grey = decode(data)
        except ImageError as error:
            out["problems"].append(Problem(_name(reader, row), f"corrupt: {error}"))
            continue
        out["rows"].append(row)
        digest = hashlib.blake2b(grey.tobytes(), digest_size=16, salt=b"%dx%d" % grey.size)
        sha256 = hashlib.sha256(data).hexdigest()
        told.append((sha256, digest.hexdigest(), facts.width, facts.height, facts.mode, len(data)))
        out["inode"].append(_inode(paths[row]) if paths else "")
        larger.append(np.asarray(thumbnail(grey)))
        whole = np.array(grey.histogram())
        across, down = max(1, round(grey.width * BORDER)), max(1, round(grey.height * BORDER))
        histograms.append(whole)
        if grey.width > 2 * across and grey.height > 2 * down:
            inner = grey.crop((across, down, grey.width - across, grey.height - down)).histogram()
            borders.append(whole - np.array(inner))
        else:
            borders.append(whole)
        if thorough:
            # OpenCV is only needed, and only loaded, for a thorough audit.
            from leakfree.audit.copies.alignment import to_square
            from leakfree.audit.copies.keypoints import detect

            keypoints = detect(to_square(np.asarray(grey)))
            packed = np.empty(len(keypoints.points), _POINT)
            packed["points"], packed["descriptors"] = keypoints.points, keypoints.descriptors
            out["keypoints"].append(packed.tobytes())
    thumbnails = np.array(larger, dtype=np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL)
    fold = THUMBNAIL // SMALL
    pooled = thumbnails.reshape(-1, SMALL, fold, SMALL, fold).mean(axis=(2, 4))
    records = np.zeros(len(told), _RECORD)
    for name, column in zip(FACTS, zip(*told, strict=True), strict=False):
        records[name] = column
    greys = _statistics(np.array(histograms).reshape(-1, 256), np.array(borders).reshape(-1, 256))
    for name, values in greys.items():
        records[name] = values
    records["hashes"], records["thumbnails"] = image_hashes(thumbnails), np.rint(pooled).astype(np.uint8)
    return {**out, "records": records}


def _name(reader: Reader, row: int) -> str:
    ids = getattr(reader, "ids", None)
    return ids[row] if ids is not None else f"row {row}"


def _inode(path: str) -> str:
    try:
        stat = os.stat(path)
    except (OSError, ValueError):  # also for the images inside a file, which have no path of their own
        return ""
    # Some file systems have no inodes: the resolved path does as well.
    return f"{stat.st_dev}:{stat.st_ino}" if stat.st_ino else os.path.realpath(path)


def _statistics(whole: np.ndarray, border: np.ndarray) -> dict[str, np.ndarray]:
    """Describe grey values by their histograms, int64 (n, 256)."""
    levels = np.arange(256)

    def moments(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        total = np.maximum(counts.sum(axis=1), 1)
        mean = counts @ levels / total
        return mean, np.sqrt(np.maximum(counts @ levels**2 / total - mean**2, 0.0))

    mean, std = moments(whole)
    border_mean, border_std = moments(border)
    running = whole.cumsum(axis=1)
    total = running[:, -1:] if len(running) else np.ones((0, 1))
    quantile = {name: (running < share * total).sum(axis=1) for name, share in
                (("p05", 0.05), ("p50", 0.50), ("p95", 0.95))}  # fmt: skip
    black = border[:, :BLACK].sum(axis=1) / np.maximum(border.sum(axis=1), 1)
    columns = {"mean": mean, "std": std, **quantile, "border_mean": border_mean, "border_std": border_std,
               "border_black": black}  # fmt: skip
    return {name: values.astype(float).round(6) for name, values in columns.items()}
