"""Read every image of a target once: digests, hashes, facts and, where asked for, keypoints."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from leakfree.audit.copies.hashes import BITS, THUMBNAIL, image_hashes
from leakfree.audit.target import Reader, Target
from leakfree.base.parallel import available_cores
from leakfree.data.bounded import decode
from leakfree.data.images import ImageError
from leakfree.data.raw import Problem

#: Images that one task reads.
SHARD = 128
#: Side of the thumbnails that are kept for the comparison of parts, in pixels.
SMALL = 32
#: Outer frame of an image whose grey values are described as its border, as a share of each side.
BORDER = 0.05
#: Grey value under which a pixel of the border counts as black.
BLACK = 10
#: Columns that a scan adds to the target's.
FACTS = (
    "sha256", "pixels", "width", "height", "mode", "bytes",
    "mean", "std", "p05", "p50", "p95", "border_mean", "border_std", "border_black", "inode",
)  # fmt: skip


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


def scan(target: Target, *, thorough: bool = False, jobs: int = 0, scheduler: str | None = None) -> Scan:
    """Read a target.

    Parameters
    ----------
    target : Target
    thorough : bool
        Find keypoints too.
    jobs : int
        Threads; 0 for all cores.
    scheduler : str, optional
        Address of a Dask scheduler whose workers see the same files. The result is the same.
    """
    shards = [
        range(start, min(start + SHARD, len(target.table))) for start in range(0, len(target.table), SHARD)
    ]
    parts: list[dict[str, Any]] = []
    with tqdm(total=len(target.table), desc="read images", unit="image", mininterval=0.5) as progress:
        for shard, part in zip(shards, _run(target.reader, shards, thorough, jobs, scheduler), strict=True):
            parts.append(part)
            progress.update(len(shard))
    rows = np.array(
        [shard[row] for shard, part in zip(shards, parts, strict=True) for row in part["rows"]], np.int64
    )
    table = target.table.iloc[rows].reset_index(drop=True)
    for name in FACTS:
        table[name] = [value for part in parts for value in part[name]]
    keypoints = tuple(points for part in parts for points in part["keypoints"]) if thorough else None
    problems = [*target.problems, *(problem for part in parts for problem in part["problems"])]
    return Scan(
        table,
        rows,
        np.concatenate([np.empty((0, BITS // 64), np.uint64), *(part["hashes"] for part in parts)]),
        np.concatenate([np.empty((0, SMALL, SMALL), np.uint8), *(part["thumbnails"] for part in parts)]),
        keypoints,
        tuple(sorted(problems, key=lambda problem: (problem.file, problem.reason))),
    )


def _run(
    reader: Reader, shards: Sequence[range], thorough: bool, jobs: int, scheduler: str | None
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
    out: dict[str, list] = {name: [] for name in ("rows", "problems", "keypoints", *FACTS)}
    larger, histograms, borders = [], [], []
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
        out["sha256"].append(hashlib.sha256(data).hexdigest())
        digest = hashlib.blake2b(grey.tobytes(), digest_size=16, salt=b"%dx%d" % grey.size)
        out["pixels"].append(digest.hexdigest())
        for name, value in (("width", facts.width), ("height", facts.height), ("mode", facts.mode)):
            out[name].append(value)
        out["bytes"].append(len(data))
        out["inode"].append(_inode(reader, row))
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

            out["keypoints"].append(detect(to_square(np.asarray(grey))))
    thumbnails = np.array(larger, dtype=np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL)
    fold = THUMBNAIL // SMALL
    pooled = thumbnails.reshape(-1, SMALL, fold, SMALL, fold).mean(axis=(2, 4))
    out |= _statistics(np.array(histograms).reshape(-1, 256), np.array(borders).reshape(-1, 256))
    return {**out, "hashes": image_hashes(thumbnails), "thumbnails": np.rint(pooled).astype(np.uint8)}


def thumbnail(grey: Image.Image) -> Image.Image:
    """Squash a grey image to the thumbnail that is hashed."""
    return grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR, reducing_gap=3.0)


def _name(reader: Reader, row: int) -> str:
    ids = getattr(reader, "ids", None)
    return ids[row] if ids is not None else f"row {row}"


def _inode(reader: Reader, row: int) -> str:
    paths = getattr(reader, "paths", None)
    if paths is None:
        return ""
    try:
        stat = os.stat(paths[row])
    except (OSError, ValueError):
        return ""
    # Some file systems have no inodes: the resolved path does as well.
    return f"{stat.st_dev}:{stat.st_ino}" if stat.st_ino else os.path.realpath(paths[row])


def _statistics(whole: np.ndarray, border: np.ndarray) -> dict[str, list[float]]:
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
    return {name: values.astype(float).round(6).tolist() for name, values in columns.items()}
